// post sends a form to the console and reads its JSON.
export async function post<T>(path: string, fields: Record<string, string>): Promise<T> {
	const headers: Record<string, string> = { Accept: 'application/json', ...csrf() }
	const r = await fetch(path, { method: 'POST', headers, body: new URLSearchParams(fields) })
	const body = await r.json()
	if (!r.ok) throw new Error(body.message ?? body.error ?? r.statusText)
	return body as T
}

// csrf is the header that shows that a request is from this page.
export function csrf(): Record<string, string> {
	return JSON.parse(document.body.getAttribute('hx-headers') ?? '{}')
}

// words is what an error says to a person; wallets throw objects of their own.
export function words(e: unknown): string {
	const m = (e as { message?: unknown })?.message
	return typeof m === 'string' && m ? m : String(e)
}
