// The square as it happens: one stream of server-sent events moves the numbers,
// the charts and the news. When it breaks, the browser opens it again.
import { draw, type Chart } from '../assets/lib/chart'

interface Tick {
	figures: Record<string, string>
	step: number // unix seconds of the running step
	points: Record<string, number> // by chart, of the running step
	flows: string // changes when who pays whom does
	news: string // HTML, newest first; empty when there is none
}

const charts = new Map<string, Chart>()
for (const f of document.querySelectorAll<HTMLElement>('figure[data-chart]')) charts.set(f.id, draw(f))

const list = document.getElementById('news-list')
const state = document.getElementById('live-state')
let flows = document.getElementById('flows')?.dataset.version

const stream = new EventSource('/live?after=' + (list?.dataset.seq ?? '0'))
stream.addEventListener('open', () => show('live'))
stream.addEventListener('error', () => show('reconnecting'))
stream.addEventListener('tick', (e) => {
	const t: Tick = JSON.parse((e as MessageEvent).data)
	for (const [name, words] of Object.entries(t.figures))
		for (const el of document.querySelectorAll(`[data-live="${name}"]`)) if (el.textContent !== words) el.textContent = words
	for (const [name, value] of Object.entries(t.points)) charts.get(name)?.put(t.step, value)
	if (t.flows !== flows) {
		flows = t.flows
		document.getElementById('flows')?.dispatchEvent(new Event('refresh'))
	}
	if (t.news && list) {
		list.hidden = false
		document.getElementById('news-empty')?.remove()
		list.insertAdjacentHTML('afterbegin', t.news)
		while (list.children.length > 20) list.lastElementChild!.remove()
	}
})
addEventListener('pagehide', () => stream.close())

function show(words: string): void {
	if (!state) return
	state.hidden = false
	state.dataset.state = words
	const label = state.querySelector('.words')
	if (label) label.textContent = words
}
