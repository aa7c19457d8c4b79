// CosmJS, unmodified, against the ledger's RPC: the wallet's address, a bank
// send, and a MsgOpenLease whose types come from proto/ at run time. What to do
// is in TORG_IN; what came of it is printed for cosmjs/cosmjs_test.go to check.
import { readFileSync, existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { DirectEthSecp256k1HdWallet, Registry } from '@cosmjs/proto-signing';
import { SigningStargateClient, defaultRegistryTypes } from '@cosmjs/stargate';
import { stringToPath } from '@cosmjs/crypto';
import { fromBech32, fromHex } from '@cosmjs/encoding';

const q = JSON.parse(process.env.TORG_IN);
const protos = process.env.TORG_PROTO ?? path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../proto');
const root = new protobuf.Root();
root.resolvePath = (_, target) => {
  const file = path.isAbsolute(target) ? target : path.join(protos, target);
  return existsSync(file) ? file : null; // options of gogoproto and the like: nothing that is encoded
};
await root.load('torg/market/v1/market.proto', { keepCase: true });

const wallet = await DirectEthSecp256k1HdWallet.fromMnemonic(q.mnemonic, { prefix: 'torg', hdPaths: [stringToPath("m/44'/60'/0'/0/1")] });
const [{ address }] = await wallet.getAccounts();
const registry = new Registry(defaultRegistryTypes);
const types = {};
for (const name of ['MsgOpenLease']) {
  const type = root.lookupType(`torg.market.v1.${name}`);
  types[name] = type;
  registry.register(`/torg.market.v1.${name}`, type);
}
const client = await SigningStargateClient.connectWithSigner(q.rpc, wallet, { registry });
const fee = { amount: q.fee, gas: '500000' };
const before = await client.getBalance(address, 'utorg');
const sent = await client.sendTokens(address, q.to, [{ denom: 'utorg', amount: '12345' }], fee, 'from CosmJS');
// On the wire addresses and hashes are bytes; people write torg1… and hex.
const wire = (type, message) => Object.fromEntries(Object.entries(message).map(([name, v]) =>
  [name, type.fields[name]?.type !== 'bytes' ? v : v.startsWith('torg1') ? fromBech32(v, 90).data : fromHex(v.replace(/^0x/, ''))]));
const type = (name) => root.lookupType(`torg.square.v1.${name}`);
const value = types.MsgOpenLease.fromObject({
  buyer: address, order: wire(type('Order'), q.order), quote: wire(type('Quote'), q.quote), quote_signature: Buffer.from(q.signature.slice(2), 'hex') });
const opened = await client.signAndBroadcast(address, [{ typeUrl: '/torg.market.v1.MsgOpenLease', value }], fee);
// A second time the quote is used up: the refusal must reach the client as a failure.
const again = await client.signAndBroadcast(address, [{ typeUrl: '/torg.market.v1.MsgOpenLease', value }], fee)
  .then((r) => ({ code: r.code, log: r.rawLog }), (e) => ({ code: e.code ?? -1, log: String(e.message) }));
const account = await client.getAccount(address);
const after = await client.getBalance(address, 'utorg');
client.disconnect();
console.log(JSON.stringify({
  address, sent: { code: sent.code, log: sent.rawLog ?? '' },
  opened: { code: opened.code, log: opened.rawLog ?? '' }, again,
  sequence: account.sequence, pubkey: account.pubkey?.type ?? '', before: before.amount, after: after.amount,
}, (_, v) => (typeof v === 'bigint' ? v.toString() : v)));
