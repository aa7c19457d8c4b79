package shape

import (
	"fmt"
	"math"

	"github.com/torg-network/torg/exact/onnx"
)

// Case is a small network around one operator.
type Case struct {
	Name  string
	Model *onnx.Model
}

// Cases are networks of one or a few nodes for each operator that is read, in
// the variants that exporters write. All have one input of floats and one
// result.
func Cases() []Case {
	var all []Case
	// with makes a network with an input of a shape.
	with := func(name string, opset int64, dims []int, build func(b *builder) string) {
		b := start(name, uint64(len(all)), port("x", onnx.Float, dims...), onnx.Port{Name: "y", Type: onnx.Float})
		b.m.Opsets[""] = opset
		last := build(b)
		b.m.Nodes = append(b.m.Nodes, onnx.Node{Op: "Identity", In: []string{last}, Out: []string{"y"}})
		all = append(all, Case{name, b.m})
	}
	row := []int{1, 12}
	image := []int{1, 4, 9, 8}
	one := func(op string, attrs ...onnx.Attr) func(b *builder) string {
		return func(b *builder) string { return b.node(op, []string{"x"}, attrs...) }
	}
	for _, op := range []string{"Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Exp", "Neg", "Abs", "Floor", "Ceil", "Sign", "HardSwish", "Identity", "Reciprocal", "Sin", "Cos", "Elu", "Selu", "LeakyRelu", "HardSigmoid", "Celu"} {
		with(op, 17, row, one(op))
	}
	for _, op := range []string{"Sqrt", "Log"} {
		with(op, 17, row, func(b *builder) string { return b.call(op, b.call("Abs", "x")) })
	}
	with("LeakyRelu 0.2", 17, row, one("LeakyRelu", float("alpha", 0.2)))
	with("HardSigmoid 0.3", 17, row, one("HardSigmoid", float("alpha", 0.3), float("beta", 0.4)))
	with("Elu 0.5", 17, row, one("Elu", float("alpha", 0.5)))
	with("Gelu", 20, row, one("Gelu"))
	with("Gelu by tanh", 20, row, one("Gelu", text("approximate", "tanh")))
	with("Mish", 18, row, one("Mish"))
	for _, op := range []string{"Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"} {
		with(op+" a row", 17, []int{1, 3, 4}, func(b *builder) string { return b.call(op, "x", b.normal(0.3, 1, 4)) })
		with(op+" a number", 17, row, func(b *builder) string { return b.call(op, "x", b.scalar(0.7)) })
	}
	for k := 1; k <= 4; k++ {
		with(fmt.Sprintf("Sum of %d", k), 17, row, func(b *builder) string {
			in := []string{b.call("MatMul", "x", b.matrix(12, 12)), "x", b.normal(1, 0, 12), b.scalar(0.3)}
			return b.call("Sum", in[:k]...)
		})
	}
	with("Max of three", 17, row, func(b *builder) string { return b.call("Max", "x", b.scalar(-0.3), b.scalar(0.2)) })
	with("Dropout with a mask", 12, row, func(b *builder) string {
		y := b.call("Dropout", "x")
		b.m.Nodes[len(b.m.Nodes)-1].Out = []string{y, "mask"}
		return b.call("Neg", y)
	})
	with("MaxPool with Indices", 12, image, func(b *builder) string {
		y := b.node("MaxPool", []string{"x"}, ints("kernel_shape", 2, 2), ints("strides", 2, 2))
		b.m.Nodes[len(b.m.Nodes)-1].Out = []string{y, "places"}
		return b.call("Neg", y)
	})
	with("Sub from", 17, row, func(b *builder) string { return b.call("Sub", b.normal(1, 0, 12), "x") })
	with("Div of", 17, row, func(b *builder) string { return b.call("Div", b.scalar(1), b.call("Exp", "x")) })
	with("Sub of two of one", 17, row, func(b *builder) string {
		return b.call("Sub", b.call("Add", "x", b.scalar(0.5)), b.call("Add", b.call("Mul", "x", b.scalar(2)), b.scalar(0.3)))
	})
	with("Mul of a product and a number", 17, row, func(b *builder) string {
		return b.call("Mul", b.call("Add", b.call("MatMul", "x", b.normal(0.3, 0, 12, 5)), b.scalar(0.7)), b.normal(0.3, 1, 5))
	})
	with("Add columns", 17, []int{1, 3, 4}, func(b *builder) string { return b.call("Add", "x", b.normal(1, 0, 3, 1)) })
	for _, p := range []float64{2, 3, 0.5, -1, 1} {
		with("Pow", 17, row, func(b *builder) string {
			return b.call("Pow", b.call("Add", b.call("Abs", "x"), b.scalar(0.1)), b.scalar(p))
		})
	}
	with("Clip", 17, row, func(b *builder) string { return b.call("Clip", "x", b.scalar(-0.2), b.scalar(0.5)) })
	with("Clip below", 17, row, func(b *builder) string { return b.call("Clip", "x", b.scalar(-0.2)) })
	with("Clip by attributes", 6, row, one("Clip", float("min", -0.3), float("max", 0.1)))
	with("Where", 17, row, func(b *builder) string {
		return b.call("Where", b.call("Greater", b.normal(1, 0, 12), b.scalar(0)), "x", b.scalar(-3))
	})
	with("Cast", 17, row, one("Cast", number("to", int64(onnx.Float))))
	with("SiLU", 17, row, func(b *builder) string { return b.call("Mul", "x", b.call("Sigmoid", "x")) })

	with("MatMul", 17, []int{1, 3, 8}, func(b *builder) string { return b.call("MatMul", "x", b.matrix(8, 5)) })
	with("MatMul a vector", 17, []int{1, 3, 8}, func(b *builder) string { return b.call("MatMul", "x", b.normal(1, 0, 8)) })
	with("MatMul from the left", 17, []int{1, 3, 8}, func(b *builder) string { return b.call("MatMul", b.matrix(5, 3), "x") })
	with("MatMul of batches", 17, []int{1, 2, 3, 8}, func(b *builder) string { return b.call("MatMul", "x", b.normal(0.4, 0, 1, 1, 8, 5)) })
	with("Gemm", 17, row, func(b *builder) string { return b.call("Gemm", "x", b.matrix(12, 5), b.normal(1, 0, 5)) })
	with("Gemm scaled", 17, row, func(b *builder) string {
		return b.node("Gemm", []string{"x", b.matrix(5, 12), b.normal(1, 0, 1, 5)}, number("transB", 1), float("alpha", 0.5), float("beta", 2))
	})
	with("Gemm without addend", 17, row, func(b *builder) string { return b.call("Gemm", "x", b.matrix(12, 5)) })

	conv := func(name string, out, group, k1, k2 int, bias bool, attrs ...onnx.Attr) {
		with("Conv "+name, 17, image, func(b *builder) string {
			in := []string{"x", b.normal(0.3, 0, out, 4/group, k1, k2)}
			if bias {
				in = append(in, b.normal(1, 0, out))
			}
			return b.node("Conv", in, append(attrs, number("group", int64(group)))...)
		})
	}
	conv("3x3", 5, 1, 3, 3, true, ints("kernel_shape", 3, 3))
	conv("padded", 5, 1, 3, 2, false, ints("pads", 1, 0, 2, 1))
	conv("strided", 5, 1, 3, 3, true, ints("strides", 2, 3), ints("pads", 1, 1, 1, 1))
	conv("dilated", 3, 1, 3, 2, true, ints("dilations", 2, 3))
	conv("of two groups", 6, 2, 3, 3, true)
	conv("of each channel", 8, 4, 2, 2, false, ints("pads", 1, 1, 0, 0))
	conv("same above", 4, 1, 3, 4, true, text("auto_pad", "SAME_UPPER"), ints("strides", 2, 2))
	conv("same below", 4, 1, 4, 3, true, text("auto_pad", "SAME_LOWER"))
	conv("valid", 4, 1, 4, 3, true, text("auto_pad", "VALID"))
	with("Conv wider than a value", 17, []int{1, 32, 32, 32}, func(b *builder) string {
		return b.node("Conv", []string{"x", b.normal(0.06, 0, 4, 32, 3, 3), b.normal(1, 0, 4)}, ints("pads", 1, 1, 1, 1))
	})
	with("Conv of lines", 17, []int{1, 3, 20}, func(b *builder) string {
		return b.node("Conv", []string{"x", b.normal(0.4, 0, 4, 3, 5), b.normal(1, 0, 4)}, ints("strides", 2), ints("pads", 2, 1))
	})
	for _, p := range []struct {
		name  string
		attrs []onnx.Attr
	}{
		{"2x2", []onnx.Attr{ints("kernel_shape", 2, 2), ints("strides", 2, 2)}},
		{"overlapping", []onnx.Attr{ints("kernel_shape", 3, 2), ints("pads", 1, 1, 1, 0)}},
		{"same", []onnx.Attr{ints("kernel_shape", 3, 3), ints("strides", 2, 2), text("auto_pad", "SAME_UPPER")}},
	} {
		with("MaxPool "+p.name, 17, image, one("MaxPool", p.attrs...))
		with("AveragePool "+p.name, 17, image, one("AveragePool", p.attrs...))
	}
	with("MaxPool dilated", 17, image, one("MaxPool", ints("kernel_shape", 2, 2), ints("dilations", 2, 3)))
	with("AveragePool of the padding", 17, image, one("AveragePool", ints("kernel_shape", 3, 3), ints("pads", 1, 1, 1, 1), number("count_include_pad", 1)))
	with("GlobalAveragePool", 17, image, one("GlobalAveragePool"))
	with("GlobalMaxPool", 17, image, one("GlobalMaxPool"))
	with("BatchNormalization", 17, image, func(b *builder) string {
		return b.node("BatchNormalization", []string{"x", b.normal(0.2, 1, 4), b.normal(1, 0, 4), b.normal(1, 0, 4), b.variances(4)}, float("epsilon", 0.01))
	})
	with("Conv and BatchNormalization", 17, image, func(b *builder) string {
		y := b.call("Conv", "x", b.normal(0.3, 0, 5, 4, 3, 3))
		return b.call("BatchNormalization", y, b.normal(0.2, 1, 5), b.normal(1, 0, 5), b.normal(1, 0, 5), b.variances(5))
	})

	with("LayerNormalization", 17, row, func(b *builder) string { return b.norm("x", 12, true, false) })
	with("LayerNormalization without bias", 17, row, func(b *builder) string { return b.norm("x", 12, false, false) })
	with("LayerNorm written out", 13, row, func(b *builder) string { return b.norm("x", 12, true, true) })
	with("RMS norm written out", 13, row, func(b *builder) string {
		v := b.node("ReduceMean", []string{b.call("Mul", "x", "x")}, ints("axes", -1))
		return b.call("Mul", b.call("Mul", "x", b.call("Reciprocal", b.call("Sqrt", b.call("Add", v, b.scalar(1e-6))))), b.normal(0.1, 1, 12))
	})
	with("L2 norm written out", 13, row, func(b *builder) string {
		return b.call("Div", "x", b.call("Clip", b.node("ReduceL2", []string{"x"}, ints("axes", -1)), b.scalar(1e-9)))
	})
	with("LpNormalization", 17, row, one("LpNormalization", number("axis", -1), number("p", 2)))
	with("Softmax", 17, row, one("Softmax"))
	with("Softmax of two dimensions", 11, []int{1, 3, 4}, one("Softmax", number("axis", 1)))
	with("ReduceMean", 17, []int{1, 3, 4}, one("ReduceMean", ints("axes", 2)))
	with("ReduceMean of images", 17, image, one("ReduceMean", ints("axes", 2, 3), number("keepdims", 0)))
	with("ReduceMean by operand", 18, image, func(b *builder) string { return b.node("ReduceMean", []string{"x", b.ints(-1)}, number("keepdims", 0)) })
	with("ReduceSum", 17, image, func(b *builder) string { return b.call("ReduceSum", "x", b.ints(1)) })
	with("ReduceSum by attribute", 11, image, one("ReduceSum", ints("axes", 1, 3)))
	with("ReduceMax", 17, image, one("ReduceMax", ints("axes", 1), number("keepdims", 0)))
	with("ReduceMin", 17, image, one("ReduceMin", ints("axes", 3)))
	with("ArgMax", 17, row, func(b *builder) string {
		return b.node("Cast", []string{b.node("ArgMax", []string{"x"}, number("axis", 1))}, number("to", int64(onnx.Float)))
	})
	with("ArgMax without its dimension", 17, []int{1, 3, 4}, func(b *builder) string {
		flat := b.call("Reshape", "x", b.ints(1, -1))
		return b.node("Cast", []string{b.node("ArgMax", []string{flat}, number("axis", -1), number("keepdims", 0))}, number("to", int64(onnx.Float)))
	})

	with("Transpose", 17, image, one("Transpose", ints("perm", 0, 2, 3, 1)))
	with("Transpose twice", 17, image, func(b *builder) string {
		return b.node("Transpose", []string{b.node("Transpose", []string{"x"}, ints("perm", 0, 3, 1, 2))}, ints("perm", 0, 3, 2, 1))
	})
	with("Reshape", 17, image, func(b *builder) string { return b.call("Reshape", "x", b.ints(0, -1, 4)) })
	with("Flatten", 17, image, one("Flatten"))
	with("Squeeze and Unsqueeze", 17, image, func(b *builder) string {
		return b.call("Squeeze", b.call("Unsqueeze", "x", b.ints(2, -1)), b.ints(2))
	})
	with("Unsqueeze by attribute", 11, row, one("Unsqueeze", ints("axes", 1, 3)))
	with("Slice", 17, image, func(b *builder) string {
		return b.call("Slice", "x", b.ints(1, -7), b.ints(math.MaxInt64, -1), b.ints(1, 2), b.ints(2, 3))
	})
	with("Slice backwards", 17, row, func(b *builder) string {
		return b.call("Slice", "x", b.ints(-2), b.ints(math.MinInt64), b.ints(1), b.ints(-3))
	})
	with("Slice by attributes", 9, image, one("Slice", ints("starts", 0, 2), ints("ends", 3, 100), ints("axes", 1, 3)))
	with("Split", 17, row, func(b *builder) string {
		b.m.Nodes = append(b.m.Nodes, onnx.Node{Op: "Split", In: []string{"x", b.ints(2, 7, 3)}, Out: []string{"s1", "s2", "s3"}, Attrs: []onnx.Attr{number("axis", 1)}})
		return b.node("Concat", []string{"s3", "s1", "s2"}, number("axis", -1))
	})
	with("Split evenly", 18, row, func(b *builder) string {
		b.m.Nodes = append(b.m.Nodes, onnx.Node{Op: "Split", In: []string{"x"}, Out: []string{"s1", "s2", "s3"}, Attrs: []onnx.Attr{number("axis", 1), number("num_outputs", 3)}})
		return b.call("Sub", b.call("Mul", "s2", b.scalar(3)), "s3")
	})
	with("Concat of functions", 17, row, func(b *builder) string {
		return b.node("Concat", []string{b.call("Tanh", "x"), "x", b.call("Relu", "x")}, number("axis", 1))
	})
	with("Concat with a constant", 17, row, func(b *builder) string {
		return b.node("Concat", []string{"x", b.normal(1, 0, 1, 3)}, number("axis", 1))
	})
	with("Gather", 17, image, func(b *builder) string { return b.node("Gather", []string{"x", b.ints(3, -4, 0)}, number("axis", 1)) })
	with("Expand", 17, []int{1, 3, 1}, func(b *builder) string { return b.call("Expand", "x", b.ints(1, 4)) })
	with("Tile", 17, []int{1, 3, 2}, func(b *builder) string { return b.call("Tile", "x", b.ints(1, 2, 3)) })
	with("Pad", 17, image, func(b *builder) string { return b.call("Pad", "x", b.ints(0, 0, 1, 2, 0, 0, 3, 0)) })
	with("Pad of a function", 17, image, func(b *builder) string { return b.call("Pad", b.call("Exp", "x"), b.ints(0, 1, 0, 0, 0, 0, 0, 1)) })
	with("function of a Pad", 17, image, func(b *builder) string { return b.call("Sigmoid", b.call("Pad", "x", b.ints(0, 0, 1, 0, 0, 0, 0, 1))) })
	with("sum with a Pad", 17, image, func(b *builder) string {
		return b.call("Add", b.call("Pad", "x", b.ints(0, 0, 1, 0, 0, 0, 0, 1)), b.scalar(2))
	})
	with("MaxPool of a Pad", 17, image, func(b *builder) string {
		p := b.call("Pad", b.call("Sub", "x", b.scalar(3)), b.ints(0, 0, 1, 1, 0, 0, 1, 1))
		return b.node("MaxPool", []string{p}, ints("kernel_shape", 2, 2))
	})
	with("Conv of a Pad", 17, image, func(b *builder) string {
		return b.call("Conv", b.call("Add", b.call("Pad", "x", b.ints(0, 0, 2, 1, 0, 0, 0, 0)), b.scalar(1)), b.normal(0.3, 0, 3, 4, 3, 3))
	})
	with("BatchNormalization of a Pad", 17, image, func(b *builder) string {
		y := b.call("Conv", "x", b.normal(0.3, 0, 4, 4, 3, 3))
		return b.call("BatchNormalization", b.call("Pad", y, b.ints(0, 0, 1, 0, 0, 0, 0, 1)), b.normal(0.2, 1, 4), b.normal(1, 0, 4), b.normal(1, 0, 4), b.variances(4))
	})
	with("Dropout", 17, row, one("Dropout"))
	with("residual", 17, row, func(b *builder) string {
		return b.call("Add", b.call("MatMul", b.call("Relu", b.call("MatMul", "x", b.matrix(12, 8))), b.matrix(8, 12)), "x")
	})
	with("gate", 17, row, func(b *builder) string {
		g := b.call("MatMul", "x", b.matrix(12, 8))
		return b.call("MatMul", b.call("Mul", b.call("Mul", g, b.call("Sigmoid", g)), b.call("MatMul", "x", b.matrix(12, 8))), b.matrix(8, 12))
	})
	with("shapes of the input", 17, []int{1, 3, 8}, func(b *builder) string {
		size := b.node("Gather", []string{b.call("Shape", "x"), b.ints(1)}, number("axis", 0))
		return b.call("Reshape", "x", b.node("Concat", []string{b.ints(1), b.ints(-1), size}, number("axis", 0)))
	})

	// Classifiers of two classes have forms of their own.
	ml := func(name, op, result string, attrs ...onnx.Attr) {
		b := start(name, 0, port("x", onnx.Float, 1, 3), onnx.Port{Name: "y", Type: onnx.Float})
		outs := []string{"y"}
		if result != "" {
			outs = []string{result, "y"}
		}
		b.m.Nodes = append(b.m.Nodes, onnx.Node{Op: op, Domain: "ai.onnx.ml", In: []string{"x"}, Out: outs, Attrs: attrs})
		all = append(all, Case{name, b.m})
	}
	list := func(name string, v ...float32) onnx.Attr {
		return onnx.Attr{Name: name, Type: onnx.AttrFloats, Floats: v}
	}
	ml("LinearRegressor", "LinearRegressor", "", list("coefficients", 1, -2, 0.5, 0.3, 0.2, 0.1), list("intercepts", 0.5, -1), number("targets", 2))
	ml("LinearClassifier logistic", "LinearClassifier", "label", list("coefficients", 1, -2, 0.5, -1, 2, -0.5), list("intercepts", 0.5, -0.5), ints("classlabels_ints", 0, 1), text("post_transform", "LOGISTIC"))
	ml("LinearClassifier raw", "LinearClassifier", "label", list("coefficients", 1, -2, 0.5, -1, 2, -0.5, 1, 1, 1), list("intercepts", 0.5, -0.5, 0), ints("classlabels_ints", 4, 5, 9), text("post_transform", "NONE"))
	ml("Scaler", "Scaler", "", list("offset", 0.5, -1, 2), list("scale", 2, 3, 0.5))
	for _, mode := range []string{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"} {
		tree := []onnx.Attr{ints("nodes_treeids", 0, 0, 0, 0, 0, 1, 1, 1), ints("nodes_nodeids", 0, 1, 2, 3, 4, 0, 1, 2), ints("nodes_featureids", 0, 1, 0, 0, 0, 2, 0, 0),
			list("nodes_values", 0.1, -0.3, 0, 0, 0, 0.2, 0, 0), ints("nodes_truenodeids", 1, 3, 0, 0, 0, 1, 0, 0), ints("nodes_falsenodeids", 2, 4, 0, 0, 0, 2, 0, 0),
			{Name: "nodes_modes", Type: onnx.AttrStrings, Strings: [][]byte{[]byte(mode), []byte(mode), []byte("LEAF"), []byte("LEAF"), []byte("LEAF"), []byte(mode), []byte("LEAF"), []byte("LEAF")}}}
		with := func(more ...onnx.Attr) []onnx.Attr { return append(append([]onnx.Attr{}, tree...), more...) }
		leaves := []onnx.Attr{ints("treeids", 0, 0, 0, 1, 1), ints("nodeids", 2, 3, 4, 1, 2)}
		named := func(prefix string) []onnx.Attr {
			var out []onnx.Attr
			for _, a := range leaves {
				a.Name = prefix + a.Name
				out = append(out, a)
			}
			return out
		}
		ml("trees "+mode, "TreeEnsembleRegressor", "", with(append(named("target_"), ints("target_ids", 0, 0, 0, 0, 0), list("target_weights", 1, -2, 3, 0.5, 0.25), number("n_targets", 1), list("base_values", 0.75))...)...)
		if mode != "BRANCH_LEQ" {
			continue
		}
		ml("trees averaged", "TreeEnsembleRegressor", "", with(append(named("target_"), ints("target_ids", 0, 0, 0, 0, 0), list("target_weights", 1, -2, 3, 0.5, 0.25), number("n_targets", 1), text("aggregate_function", "AVERAGE"))...)...)
		ml("trees of two classes", "TreeEnsembleClassifier", "label", with(append(named("class_"), ints("class_ids", 0, 0, 0, 0, 0), list("class_weights", 0.1, 0.4, 0.2, 0.3, 0.25), ints("classlabels_int64s", 0, 1), text("post_transform", "NONE"))...)...)
		ml("boosted trees of two classes", "TreeEnsembleClassifier", "label", with(append(named("class_"), ints("class_ids", 0, 0, 0, 0, 0), list("class_weights", 1, -2, 3, 0.5, 0.25), ints("classlabels_int64s", 0, 1), text("post_transform", "LOGISTIC"))...)...)
	}
	return all
}
