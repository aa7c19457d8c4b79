// Package onnx turns ONNX networks into exact programs.
//
// # Files
//
// Decode reads a ModelProto (onnx.proto3, IR versions up to 10) with a
// protobuf reader of its own, whose time and memory are bounded by the file's
// length; Encode writes what it reads. Weights in other files, functions,
// training information and sparse tensors are refused.
//
// # From network to program
//
// Net evaluates a network in 32-bit floating point, slowly and obviously, as
// the ONNX specification says: it is the reference that loss is measured
// against, and test/clients compares it with onnxruntime. One evaluation of
// the network tells all shapes, and which values do not depend on the input;
// these are constants of the program, and the nodes that compute shapes,
// positions and masks disappear.
//
// What a row is follows from the input: a position, if tokens are looked up or
// if there is attention, else a sample. Tensors become wires, that is, columns
// of a value; transposing, reshaping and slicing only renames columns. Matrix
// products are kept open, so that biases, scales, batch normalisation and
// slices of their columns go into their weights; gains of norms go into the
// weights that follow. Functions of one number are composed, however many
// nodes they are written in (GELU, SiLU), and become one table. Attention,
// LayerNorm, RMSNorm and the L2 norm are recognised from the nodes that
// exporters write. Convolutions are products with arranged columns.
//
// Scales are powers of two, chosen by how large values get on samples; what is
// larger saturates, so every input has an answer. Values that are added to
// each other share one scale. exact.Program.Check proves the rest.
//
// Every group of operators has a file with their evaluation (conv.go) and one
// with their translation (lower_conv.go); wire.go says what is translated, and
// emit.go makes values of it.
//
// # Sources
//
// The ONNX operator specifications, operator sets 7 to 23 and ai.onnx.ml 1 to
// 4. Convolution as matrix product: Chellapilla, Puri, Simard 2006. Folding of
// batch normalisation and calibrated ranges: Jacob et al. 2018.
package onnx
