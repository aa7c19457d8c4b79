package onnx

// operators are those that can be evaluated, by name.
var operators map[string]func(*call) ([]*Tensor, error)

func init() {
	operators = map[string]func(*call) ([]*Tensor, error){
		"MatMul": matMul, "Gemm": gemm, "Conv": conv,
		"MaxPool": pool, "AveragePool": pool, "GlobalAveragePool": pool, "GlobalMaxPool": pool,
		"BatchNormalization": batchNorm, "LayerNormalization": layerNorm, "RMSNormalization": layerNorm,
		"LpNormalization": lpNorm, "Softmax": softmax,
		"ReduceMean": reduce, "ReduceSum": reduce, "ReduceMax": reduce, "ReduceMin": reduce, "ReduceL2": reduce,
		"ArgMax": argMax, "Where": where, "Cast": cast, "Shape": shapeOf, "Constant": constant,
		"ConstantOfShape": constantOfShape, "Range": rangeOf, "Trilu": trilu, "NonZero": nonZero, "Clip": clip,
		"TreeEnsembleRegressor": treeEnsemble, "TreeEnsembleClassifier": treeEnsemble,
		"LinearRegressor": linearModel, "LinearClassifier": linearModel, "Scaler": scaler,
	}
	for op := range movements {
		operators[op] = evalMove
	}
	for op := range binaries {
		operators[op] = evalBinary
	}
	for op := range comparisons {
		operators[op] = evalComparison
	}
	for _, op := range unaries {
		operators[op] = evalUnary
	}
}

func one(t *Tensor, err error) ([]*Tensor, error) {
	if err != nil {
		return nil, err
	}
	return []*Tensor{t}, nil
}
