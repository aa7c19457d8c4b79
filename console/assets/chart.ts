// Draws the charts of a page that does not follow anything live.
import { draw } from './lib/chart'

for (const f of document.querySelectorAll<HTMLElement>('figure[data-chart]')) draw(f)
