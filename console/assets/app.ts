// What every page does beyond HTML: copy buttons and times that stay true.
// Nothing here is needed to read a page.

const said = document.getElementById('said')

document.addEventListener('click', async (e) => {
	const b = (e.target as Element).closest<HTMLButtonElement>('[data-copy]')
	if (!b) return
	await navigator.clipboard.writeText(b.dataset.copy ?? '')
	b.classList.add('done')
	if (said) said.textContent = 'Copied'
	setTimeout(() => b.classList.remove('done'), 1500)
})

// ago says what ui.Ago says.
function ago(t: number, now: number): string {
	let s = Math.floor((now - t) / 1000)
	const future = s < 0
	s = Math.abs(s)
	if (s < 10 && !future) return 'just now'
	const words = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`
	return future ? `in ${words}` : `${words} ago`
}

function refresh(root: ParentNode): void {
	for (const b of root.querySelectorAll<HTMLButtonElement>('[data-copy][hidden]')) b.hidden = !navigator.clipboard
	for (const t of root.querySelectorAll<HTMLTimeElement>('time[datetime]')) {
		const words = ago(Date.parse(t.dateTime), Date.now())
		if (t.textContent !== words) t.textContent = words
	}
}

refresh(document)
setInterval(() => refresh(document), 5000)
document.body.addEventListener('htmx:afterSwap', (e) => refresh(e.target as HTMLElement))
