// Package secp256k1 makes and checks ECDSA signatures over the curve secp256k1 (SEC 2,
// version 2), in pure Go, fast where a key is met again and again.
//
// A signature is r ‖ s, 32 big-endian bytes each, with r in [1, order) and s in
// [1, order/2]; others are refused everywhere. Every answer is the one that dcrd's
// package gives, which the tests hold it against; only what it costs depends on what
// was asked before.
//
// # How
//
// A check is a sum u G + v P. Both numbers are split into halves of 129 bits with the
// curve's endomorphism. The multiples of G are read from a table made once; those of P
// from a table of 27 kB that a key gets after some checks ([TableBytes] bounds them all),
// so that no doubling is left: 78 additions. Before that, P's part is one chain of 129
// doublings. The field has four limbs of 64 bits.
//
// # Secrets
//
// Signing and making a public key read the same memory and take the same steps for every
// key and nonce, as far as Go's compiler keeps arithmetic free of branches, but for two
// inversions, whose argument is multiplied with a secret number first. Everything else
// takes a time that depends on its arguments, which are public.
package secp256k1
