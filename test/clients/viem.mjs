// Signs a voucher and a deposit as a wallet does, from the JSON in TORG_IN, and
// prints the signatures for clients_test.go to verify.
import { privateKeyToAccount } from 'viem/accounts';
import { hashTypedData } from 'viem';

const q = JSON.parse(process.env.TORG_IN);
const account = privateKeyToAccount(q.key);
const domain = { name: 'x402 Batch Settlement', version: '1', chainId: q.chainId, verifyingContract: q.contract };
const channel = {
  domain, primaryType: 'ChannelConfig', message: q.channel,
  types: { ChannelConfig: [
    { name: 'payer', type: 'address' }, { name: 'payerAuthorizer', type: 'address' }, { name: 'receiver', type: 'address' },
    { name: 'receiverAuthorizer', type: 'address' }, { name: 'token', type: 'address' }, { name: 'withdrawDelay', type: 'uint40' },
    { name: 'salt', type: 'bytes32' }] },
};
const channelId = hashTypedData(channel);
const voucher = {
  domain, primaryType: 'Voucher', message: { channelId, maxClaimableAmount: BigInt(q.max) },
  types: { Voucher: [{ name: 'channelId', type: 'bytes32' }, { name: 'maxClaimableAmount', type: 'uint128' }] },
};
const deposit = {
  domain: { name: 'torg', version: '1', salt: q.ledgerSalt }, primaryType: 'Deposit',
  message: { ...q.deposit, amount: BigInt(q.deposit.amount), expiry: BigInt(q.deposit.expiry) },
  types: { Deposit: [
    { name: 'owner', type: 'address' }, { name: 'channel', type: 'bytes32' }, { name: 'receiver', type: 'address' },
    { name: 'denom', type: 'string' }, { name: 'amount', type: 'uint256' }, { name: 'nonce', type: 'bytes32' },
    { name: 'expiry', type: 'uint256' }] },
};
console.log(JSON.stringify({
  address: account.address, channelID: channelId,
  voucher: await account.signTypedData(voucher),
  deposit: await account.signTypedData(deposit), digest: hashTypedData(deposit),
}));
