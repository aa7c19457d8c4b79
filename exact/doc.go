// Package exact runs models whose meaning is exact: integer programs that give
// the same bits on every machine, so that a result can be checked by doing it
// again, disputed one operation at a time, or proven.
//
// # Programs
//
// A program is a short list of operations on matrices of integers. It maps a
// sequence of rows (positions) to as many output rows; only attention and
// means over rows look at other rows, and if only at earlier ones (Causal), a
// sequence can be continued row by row. Numbers are fixed point with
// power-of-two scales that the program never needs to know. Every element of
// every tensor, and every partial sum of products in any order, is below 2^30
// in magnitude; Check proves it from the constants for all inputs, and what
// cannot be proven is refused. docs/exact.md is the specification, Interpret
// the same in code, written to be read; the engine behind Model is fast and
// equal to it bit for bit.
//
// # Text
//
// A text model predicts the next byte. Generate is a pure function of model
// and Request: integer sampling, randomness counted from the request's seed,
// and a window that depends on the number of tokens alone. Verify checks a
// claimed answer by re-execution in batches.
//
// # Files
//
// A model file holds a Card and a Program (see Encode); its SHA-256 is the
// model's identity. Encodings are canonical: what decodes encodes to the same
// bytes.
//
// # Sources
//
// The operations are chosen so that a proof by sum-checks and lookups over a
// 31-bit field fits them: softmax with division after the product (compare
// zkLLM, Sun et al. 2024), inverse roots by a 16-bit mantissa, rounding by
// range-checked remainders. Integer-only transformers: I-BERT, Kim et al.
// 2021. Nucleus sampling: Holtzman et al. 2020.
package exact
