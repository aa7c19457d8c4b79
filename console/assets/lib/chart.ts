// Charts: a figure that the server drew as a line is drawn again by uPlot, to be
// looked into with a pointer. The figure's attributes hold the numbers.
import uPlot from '../vendor/uPlot.esm.js'

export interface Chart {
	// put sets the value of the step that begins at a time, in unix seconds.
	put(time: number, value: number): void
}

const number = (v: number | null): string =>
	v == null ? '–' : v === 0 ? '0' : Math.abs(v) < 0.01 ? v.toPrecision(2) : v.toLocaleString('en', { maximumFractionDigits: Math.abs(v) < 1 ? 2 : Math.abs(v) < 100 ? 1 : 0 })

const clock = (t: number): string => new Date(t * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false })

// colour is what the style sheet gives a class inside the figure: a canvas needs
// it worked out for the theme that is on.
function colour(figure: HTMLElement, name: string): string {
	const probe = document.createElement('i')
	probe.className = 'ink-' + name
	figure.append(probe)
	const c = getComputedStyle(probe).color
	probe.remove()
	return c
}

export function draw(figure: HTMLElement): Chart {
	const box = figure.querySelector<HTMLElement>('.plot')!
	const step = Number(figure.dataset.step)
	const values: number[] = JSON.parse(figure.dataset.chart!)
	const times = values.map((_, i) => Number(figure.dataset.begin) + i * step)
	const unit = figure.dataset.unit ?? ''
	const keep = Number(figure.dataset.keep)
	let plot: uPlot | undefined

	const make = () => {
		plot?.destroy()
		const line = colour(figure, 'tone'), muted = colour(figure, 'axis'), grid = colour(figure, 'lines')
		const font = '12px ' + getComputedStyle(figure).fontFamily
		const axis = { stroke: muted, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, font }
		box.replaceChildren()
		plot = new uPlot(
			{
				width: Math.max(200, box.clientWidth), height: 150, padding: [8, 8, 0, 0],
				cursor: { y: false, points: { size: 6 } }, legend: { live: true },
				scales: { y: { range: (_u: unknown, _lo: number, hi: number) => [0, hi > 0 ? hi * 1.1 : 1] } },
				axes: [{ ...axis, space: 70, size: 28, values: (_u: unknown, s: number[]) => s.map(clock) }, { ...axis, size: 52, values: (_u: unknown, s: number[]) => s.map(number) }],
				series: [
					{ label: 'at', value: (_u: unknown, t: number | null) => (t == null ? '–' : new Date(t * 1000).toLocaleTimeString([], { hour12: false })) },
					{ label: unit, stroke: line, width: 1.5, fill: line.replace('rgb(', 'rgba(').replace(')', ', 0.13)'), points: { show: false }, value: (_u: unknown, v: number | null) => number(v) },
				],
			},
			[times, values],
			box,
		)
	}
	make()
	let width = box.clientWidth
	new ResizeObserver(() => {
		if (box.clientWidth === width) return
		width = box.clientWidth
		plot?.setSize({ width: Math.max(200, width), height: 150 })
	}).observe(box)
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', make)

	return {
		put(time, value) {
			const last = times[times.length - 1]
			if (time < last) return
			if (time > last) {
				for (let t = last + step; t < time && times.length < 4 * keep; t += step) {
					times.push(t)
					values.push(0)
				}
				times.push(time)
				values.push(value)
			} else values[values.length - 1] = value
			while (times.length > keep) {
				times.shift()
				values.shift()
			}
			plot?.setData([times, values])
		},
	}
}
