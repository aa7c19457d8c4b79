// Package square is the vocabulary of torg: every noun that crosses a boundary
// between machines, processes or packages, and its wire form. It does no I/O,
// keeps no state and imports nothing of torg.
//
// # Identity
//
// An [Address] is the last 20 bytes of the Keccak-256 of an uncompressed
// secp256k1 public key, exactly as in Ethereum. It is written in bech32 with
// the prefix "torg" ("torg1…"); the 0x form of the same bytes is accepted
// wherever an address is read.
//
// # Money
//
// An [Amount] is a whole number of base units and a denom. There is no float
// anywhere. A [Rate] prices one unit of work in base units per million units,
// and [Price] rounds up once per receipt.
//
// # What is signed
//
// Everything signed is an EIP-712 digest: keccak(0x19 0x01 ‖ domain ‖ struct).
// Signatures are 65 bytes r ‖ s ‖ v with v 27 or 28 (0 and 1 are read too) and
// s in the lower half of the order; anything else is refused, so that one
// message has one signature per key and nonce.
//
// There are two domains.
//
//   - x402's batch-settlement domain ([ChannelDomain]) for [ChannelConfig] and
//     [Voucher]: name "x402 Batch Settlement", version "1", the network's chain
//     id, the verifying contract published by x402. A voucher made by any x402
//     client is therefore a voucher here.
//   - torg's own domain ([Domain]): name "torg", version "1" and
//     salt = keccak(ledger chain id), without chainId, because MetaMask refuses
//     typed data whose chainId is not its active network. [Offer], [Order],
//     [Quote], [Receipt], [Deposit], close consents and extensions are signed under it.
//
// The struct types, as encodeType writes them, are the constants named Type…
// beside each noun. Lists inside a signed struct are hashed as EIP-712 arrays:
// keccak of the concatenated member hashes.
//
// The test vectors are in testdata/vectors.json; square_test.go recomputes them
// and test/clients checks the same vectors with viem.
package square
