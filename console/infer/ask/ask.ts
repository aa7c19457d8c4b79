// The chat as it streams. The form works without this; here its answer comes
// piece by piece, can be stopped, and its receipt is put under it.
import { csrf, words } from '../../assets/lib/post'

declare const htmx: { process(e: Element): void; trigger(e: Element, name: string): void }

interface Turn { role: 'user' | 'assistant'; content: string; receipt?: string }

const form = document.getElementById('ask-form') as HTMLFormElement | null
const log = document.getElementById('log')!

if (form) {
	const prompt = form.elements.namedItem('prompt') as HTMLTextAreaElement
	const hidden = form.elements.namedItem('conversation') as HTMLInputElement
	const once = form.elements.namedItem('once') as HTMLInputElement
	const send = document.getElementById('send') as HTMLButtonElement
	const stop = document.getElementById('stop') as HTMLButtonElement
	let turns: Turn[] = JSON.parse(hidden.value || '[]')
	let running = ''

	prompt.addEventListener('keydown', (e) => {
		if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return
		e.preventDefault()
		form.requestSubmit()
	})

	stop.addEventListener('click', () => {
		stop.disabled = true
		void fetch('/ask/stop', { method: 'POST', headers: csrf(), body: new URLSearchParams({ id: running }) })
	})

	form.addEventListener('submit', async (e) => {
		e.preventDefault()
		if (running || !prompt.value.trim()) return
		const said = prompt.value
		const fields = new URLSearchParams()
		for (const [k, v] of new FormData(form)) fields.set(k, String(v))
		running = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('')
		fields.set('id', running)
		document.getElementById('log-empty')?.remove()
		bubble('mine', 'You').textContent = said
		const out = bubble('theirs', 'The model')
		const box = out.parentElement!
		box.classList.add('waiting')
		prompt.value = ''
		send.hidden = true
		stop.hidden = stop.disabled = false
		stop.focus()
		let receipt = '', failed = ''
		try {
			const r = await fetch('/ask/stream', { method: 'POST', headers: { Accept: 'application/json', ...csrf() }, body: fields })
			once.value = r.headers.get('Torg-Once') ?? once.value
			if (!r.ok || !r.body) {
				const b = await r.json()
				receipt = r.headers.get('Torg-Receipt') ?? '' // it was stopped before its first word
				throw new Error(b.error?.code === 'cancelled' ? 'Stopped.' : b.error?.message ?? b.message ?? r.statusText)
			}
			for await (const [event, data] of events(r.body)) {
				if (event === 'receipt') receipt = JSON.parse(data).id
				else if (data !== '[DONE]') {
					const d = JSON.parse(data)
					if (d.error) failed = d.error.code === 'cancelled' ? 'Stopped.' : d.error.message
					const piece = d.choices?.[0]?.delta?.content
					if (piece) {
						box.classList.remove('waiting')
						out.append(piece)
						log.scrollTop = log.scrollHeight
					}
				}
			}
			if (failed) throw new Error(failed)
			turns = [...turns, { role: 'user', content: said }, { role: 'assistant', content: out.textContent ?? '', receipt }]
		} catch (err) {
			note(words(err), box)
			if (!out.textContent) {
				out.parentElement!.remove()
				prompt.value ||= said
			} else turns = [...turns, { role: 'user', content: said }, { role: 'assistant', content: out.textContent, receipt }]
		} finally {
			box.classList.remove('waiting')
			hidden.value = JSON.stringify(turns)
			running = ''
			stop.hidden = true
			send.hidden = false
			prompt.focus()
			htmx.trigger(prompt, 'input')
		}
		if (receipt) await show(receipt)
	})

	function bubble(side: string, who: string): HTMLElement {
		const a = document.createElement('article')
		a.className = 'bubble ' + side
		const h = document.createElement('h3')
		h.className = 'unseen'
		h.textContent = who
		const p = document.createElement('p')
		p.className = 'text'
		a.append(h, p)
		log.append(a)
		log.scrollTop = log.scrollHeight
		return p
	}

	function note(text: string, after: Element): void {
		const d = document.createElement('div')
		d.className = text === 'Stopped.' ? 'hint' : 'alert'
		d.setAttribute('role', text === 'Stopped.' ? 'status' : 'alert')
		d.textContent = text
		after.after(d)
		log.scrollTop = log.scrollHeight
	}
}

// show puts a receipt's card under its answer.
async function show(id: string): Promise<void> {
	const r = await fetch('/ask/receipt/' + id, { headers: { 'HX-Request': 'true' } })
	if (!r.ok) return
	log.insertAdjacentHTML('beforeend', await r.text())
	const card = log.lastElementChild!
	htmx.process(card)
	card.dispatchEvent(new Event('htmx:afterSwap', { bubbles: true }))
	log.scrollTop = log.scrollHeight
}

// events reads server-sent events to the end, a failure among them too: the
// receipt may come after it.
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<[string, string]> {
	const reader = body.getReader()
	const text = new TextDecoder()
	let rest = ''
	for (;;) {
		const { done, value } = await reader.read()
		rest += text.decode(value, { stream: !done })
		let end: number
		while ((end = rest.indexOf('\n\n')) >= 0) {
			let event = 'message'
			const data: string[] = []
			for (const line of rest.slice(0, end).split('\n')) {
				if (line.startsWith('event:')) event = line.slice(6).trim()
				if (line.startsWith('data:')) data.push(line.slice(5).trimStart())
			}
			rest = rest.slice(end + 2)
			if (data.length) yield [event, data.join('\n')]
		}
		if (done) return
	}
}
