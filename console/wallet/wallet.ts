// Transfers that a wallet in this browser signs.
import { post, words } from '../assets/lib/post'
import { enableKeplr, ethereumAccount } from '../assets/lib/wallets'

const form = document.getElementById('send-form') as HTMLFormElement | null
const says = document.getElementById('wallet-says')

const bytes = (s: string): Uint8Array => Uint8Array.from(atob(s), (c) => c.charCodeAt(0))
const base64 = (b: Uint8Array): string => btoa(String.fromCharCode(...b))

interface Typed { ticket: string; typed: { message: Record<string, string> } }
interface Drafted { ticket: string; body: string; auth: string; number: string; chain: string; from: string }

const ways: Record<string, (to: string, amount: string) => Promise<{ ticket: string; signature: string }>> = {
	ethereum: async (to, amount) => {
		const from = await ethereumAccount(window.ethereum!)
		const t = await post<Typed>('/wallet/sign', { wallet: 'ethereum', from, to, amount })
		const signature = (await window.ethereum!.request({ method: 'eth_signTypedData_v4', params: [from, JSON.stringify(t.typed)] })) as string
		return { ticket: t.ticket, signature }
	},
	keplr: async (to, amount) => {
		const k = window.keplr!, chain = form!.dataset.chain!
		await enableKeplr(k, chain)
		const { pubKey } = await k.getKey(chain)
		const d = await post<Drafted>('/wallet/sign', { wallet: 'keplr', pubkey: base64(pubKey), to, amount })
		const r = await k.signDirect(chain, d.from, { bodyBytes: bytes(d.body), authInfoBytes: bytes(d.auth), chainId: d.chain, accountNumber: BigInt(d.number) },
			{ preferNoSetFee: true, preferNoSetMemo: true })
		if (base64(r.signed.bodyBytes) !== d.body || base64(r.signed.authInfoBytes) !== d.auth)
			throw new Error('The wallet changed the transfer (its fee or memo). Sign it as it is.')
		return { ticket: d.ticket, signature: r.signature.signature }
	},
}

if (form) {
	const to = form.elements.namedItem('to') as HTMLInputElement
	const topUp = document.getElementById('top-up') as HTMLButtonElement | null
	if (topUp) {
		topUp.hidden = false
		topUp.addEventListener('click', () => {
			to.value = form.dataset.owner!
			;(form.elements.namedItem('amount') as HTMLInputElement).focus()
		})
	}
	for (const b of form.querySelectorAll<HTMLButtonElement>('[data-wallet]')) {
		const name = b.dataset.wallet as 'ethereum' | 'keplr'
		if (!window[name]) continue
		b.disabled = false
		b.addEventListener('click', async () => {
			if (!form.reportValidity()) return
			b.disabled = true
			if (says) says.textContent = 'Your wallet shows what it signs.'
			try {
				const signed = await ways[name](to.value, (form.elements.namedItem('amount') as HTMLInputElement).value)
				if (says) says.textContent = 'The ledger takes it in…'
				await post('/wallet/signed', signed)
				location.assign('/wallet') // which says what came of it
			} catch (e) {
				if (says) says.textContent = words(e)
				b.disabled = false
			}
		})
	}
}
