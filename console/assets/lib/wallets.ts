// The wallets that a browser may have, as far as the console uses them.

export interface Ethereum {
	request(q: { method: string; params?: unknown[] }): Promise<unknown>
}

export interface Keplr {
	experimentalSuggestChain(info: unknown): Promise<void>
	enable(chain: string): Promise<void>
	getKey(chain: string): Promise<{ bech32Address: string; pubKey: Uint8Array }>
	signArbitrary(chain: string, signer: string, data: string): Promise<{ signature: string }>
	signDirect(
		chain: string,
		signer: string,
		doc: { bodyBytes: Uint8Array; authInfoBytes: Uint8Array; chainId: string; accountNumber: bigint },
		options?: { preferNoSetFee?: boolean; preferNoSetMemo?: boolean },
	): Promise<{ signed: { bodyBytes: Uint8Array; authInfoBytes: Uint8Array }; signature: { signature: string } }>
}

declare global {
	interface Window {
		ethereum?: Ethereum
		keplr?: Keplr
	}
}

// ethereumAccount asks MetaMask for the account in use.
export async function ethereumAccount(eth: Ethereum): Promise<string> {
	const accounts = (await eth.request({ method: 'eth_requestAccounts' })) as string[]
	if (!accounts?.[0]) throw new Error('The wallet gave no account.')
	return accounts[0]
}

// hex is a text's UTF-8 as personal_sign takes it.
export function hex(text: string): string {
	return '0x' + Array.from(new TextEncoder().encode(text), (b) => b.toString(16).padStart(2, '0')).join('')
}

// enableKeplr makes the ledger known to Keplr and asks for its account there.
export async function enableKeplr(k: Keplr, chain: string): Promise<string> {
	const at = location.origin
	const coin = { coinDenom: 'TORG', coinMinimalDenom: 'utorg', coinDecimals: 6 }
	const prefix = 'torg'
	await k.experimentalSuggestChain({
		chainId: chain,
		chainName: 'torg ' + chain,
		rpc: at + '/rpc',
		rest: at + '/rest',
		bip44: { coinType: 60 },
		bech32Config: {
			bech32PrefixAccAddr: prefix, bech32PrefixAccPub: prefix + 'pub',
			bech32PrefixValAddr: prefix + 'valoper', bech32PrefixValPub: prefix + 'valoperpub',
			bech32PrefixConsAddr: prefix + 'valcons', bech32PrefixConsPub: prefix + 'valconspub',
		},
		currencies: [coin],
		feeCurrencies: [{ ...coin, gasPriceStep: { low: 0.0125, average: 0.02, high: 0.05 } }],
		stakeCurrency: coin,
		features: ['eth-address-gen', 'eth-key-sign'],
	})
	await k.enable(chain)
	return (await k.getKey(chain)).bech32Address
}
