// Package zkml proves that an exact integer program (package exact) has the
// claimed output on an input, so that whoever checks need not run it: a proof
// of a million-parameter model over a hundred tokens is checked in
// milliseconds.
//
// A program is committed once (Commit): a hash of its constants, with its
// operations and bounds, is its Card, and 32 bytes (Card.ID) name it. There is
// no trusted setup and no key. A run is proven as a whole (ProverKey.Prove),
// prompt and completion in one pass; Verify checks proof and claim against the
// card, purely and with bounded time and memory, which Price tells before.
//
// Proofs are about integrity and hide nothing: the verifier sees input and
// output, and proofs carry some numbers of the inside (row sums, greatest
// scores) and samples of the weights.
//
// # Protocol
//
// docs/zkml.md describes and justifies it for a cryptographer. In short, over
// the KoalaBear field and its extension of degree four (koala), made
// non-interactive by hashing (transcript):
//
//  1. The values that cannot be computed linearly from others, and how often
//     each table entry is used, are committed by WHIR (whir).
//  2. All roundings, saturations, table look-ups and comparisons are one
//     lookup argument (logup). It ends in the claim that a linear combination
//     of values at random points is right.
//  3. To this equation are added, times random numbers, all other identities,
//     each taken at a random point.
//  4. Products in the equation (matrix products and convolutions, attention
//     scores and means, norms, gates, gathered rows, arranged columns) are
//     replaced by claims about their factors by sum-checks (sumcheck), all
//     products of one depth at once.
//  5. What is left is one weighted sum of committed elements, the model's and
//     the run's, which WHIR opens.
//
// A claim is of a run in an environment (exact.Env), which is zero but for
// programs with noise, whose drawn tokens it decides.
//
// operation.go says what is proven of each operation.
package zkml
