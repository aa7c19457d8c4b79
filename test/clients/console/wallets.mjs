// Stand-ins for the wallets that a browser may have. The page sees what MetaMask
// and Keplr inject; what they sign is signed here, by viem and by CosmJS, with
// keys made for this run. What they were shown is kept in `shown`.
import { fromHex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { DirectEthSecp256k1HdWallet, makeSignBytes } from '@cosmjs/proto-signing';
import { serializeSignDoc } from '@cosmjs/amino';
import { keccak256, Secp256k1, stringToPath, Slip10, Slip10Curve, Bip39, EnglishMnemonic } from '@cosmjs/crypto';

// metamask is window.ethereum with one account.
export function metamask() {
  const account = privateKeyToAccount(generatePrivateKey());
  const shown = [];
  const answer = {
    eth_requestAccounts: () => [account.address],
    personal_sign: ([hex]) => {
      shown.push(fromHex(hex, 'string'));
      return account.signMessage({ message: { raw: hex } });
    },
    eth_signTypedData_v4: ([who, json]) => {
      if (who.toLowerCase() !== account.address.toLowerCase()) throw new Error('not my account');
      const typed = JSON.parse(json);
      shown.push(typed);
      return account.signTypedData(typed);
    },
  };
  return {
    address: account.address, shown,
    async inject(context) {
      await context.exposeBinding('ethereumRequest', (_, { method, params }) => {
        if (!answer[method]) throw new Error('unexpected ' + method);
        return answer[method](params);
      });
      await context.addInitScript(() => {
        window.ethereum = { request: (q) => window.ethereumRequest(q) };
      });
    },
  };
}

// keplr is window.keplr with one account of an Ethereum-like chain.
export async function keplr() {
  const path = stringToPath("m/44'/60'/0'/0/0");
  const wallet = await DirectEthSecp256k1HdWallet.generate(24, { prefix: 'torg', hdPaths: [path] });
  const [{ address, pubkey }] = await wallet.getAccounts();
  const shown = [];
  const b64 = (b) => Buffer.from(b).toString('base64');
  const answer = {
    suggest: (info) => { shown.push(info); },
    enable: () => {},
    key: () => ({ bech32Address: address, pubKey: b64(pubkey) }),
    // signArbitrary is ADR-36: CosmJS signs no amino document for this kind of
    // key, so that the key is derived here.
    arbitrary: async (_, signer, data) => {
      shown.push(data);
      const doc = serializeSignDoc({
        account_number: '0', chain_id: '', sequence: '0', memo: '', fee: { amount: [], gas: '0' },
        msgs: [{ type: 'sign/MsgSignData', value: { data: b64(Buffer.from(data)), signer } }],
      });
      const seed = await Bip39.mnemonicToSeed(new EnglishMnemonic(wallet.mnemonic));
      const { privkey } = Slip10.derivePath(Slip10Curve.Secp256k1, seed, path);
      const signature = await Secp256k1.createSignature(keccak256(doc), privkey);
      return { signature: b64(new Uint8Array([...signature.r(32), ...signature.s(32)])) };
    },
    direct: async (_, signer, doc) => {
      const signDoc = { bodyBytes: Buffer.from(doc.body, 'base64'), authInfoBytes: Buffer.from(doc.auth, 'base64'), chainId: doc.chainId, accountNumber: BigInt(doc.number) };
      shown.push({ ...signDoc, bytes: makeSignBytes(signDoc) });
      return { signature: { signature: (await wallet.signDirect(signer, signDoc)).signature.signature } };
    },
  };
  return {
    address, shown,
    async inject(context) {
      await context.exposeBinding('keplrRequest', (_, { method, params }) => answer[method](...params));
      await context.addInitScript(() => {
        const call = (method, ...params) => window.keplrRequest({ method, params });
        const bytes = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
        const base64 = (b) => btoa(String.fromCharCode(...b));
        window.keplr = {
          experimentalSuggestChain: (info) => call('suggest', info),
          enable: (chain) => call('enable', chain),
          async getKey(chain) {
            const k = await call('key', chain);
            return { ...k, pubKey: bytes(k.pubKey) };
          },
          signArbitrary: (chain, signer, data) => call('arbitrary', chain, signer, data),
          async signDirect(chain, signer, doc) {
            const sent = { body: base64(doc.bodyBytes), auth: base64(doc.authInfoBytes), chainId: doc.chainId, number: String(doc.accountNumber) };
            return { signed: doc, ...(await call('direct', chain, signer, sent)) };
          },
        };
      });
    },
  };
}
