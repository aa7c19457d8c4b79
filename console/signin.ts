// Logging in with a wallet: it signs a message that the console made.
import { post, words } from './assets/lib/post'
import { enableKeplr, ethereumAccount, hex } from './assets/lib/wallets'

const box = document.querySelector<HTMLElement>('[data-signin]')
const hint = document.getElementById('wallet-hint')

type Asked = { nonce: string; message: string; account: string }

const ways: Record<string, () => Promise<[Asked, string]>> = {
	ethereum: async () => {
		const eth = window.ethereum!
		const address = await ethereumAccount(eth)
		const asked = await post<Asked>('/login/wallet/message', { address })
		return [asked, (await eth.request({ method: 'personal_sign', params: [hex(asked.message), address] })) as string]
	},
	keplr: async () => {
		const chain = box!.dataset.chain!
		const address = await enableKeplr(window.keplr!, chain)
		const asked = await post<Asked>('/login/wallet/message', { address })
		return [asked, (await window.keplr!.signArbitrary(chain, address, asked.message)).signature]
	},
}

for (const b of box?.querySelectorAll<HTMLButtonElement>('[data-wallet]') ?? []) {
	const name = b.dataset.wallet as 'ethereum' | 'keplr'
	if (!window[name]) continue
	b.disabled = false
	if (hint) hint.textContent = 'Your wallet will show you what it signs.'
	b.addEventListener('click', async () => {
		b.disabled = true
		try {
			const [asked, signature] = await ways[name]()
			const done = await post<{ next: string }>('/login/wallet', { nonce: asked.nonce, signature, next: box!.dataset.next ?? '/' })
			location.assign(done.next)
		} catch (e) {
			if (hint) hint.textContent = words(e)
			b.disabled = false
		}
	})
}
