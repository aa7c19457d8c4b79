package runfile_test

import (
	"testing"

	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/zkml"
)

// TestMeansAreProvable: sums of many numbers, which leave little room, become
// programs that can be proven, whatever the domain.
func TestMeansAreProvable(t *testing.T) {
	for _, op := range []string{"ReduceMean", "ReduceSum"} {
		for _, n := range []int{3, 100, 257, 1000, 1023, 3072, 4096} {
			for _, hi := range []float64{0.1, 0.5, 1, 3, 10, 255, 1e6} {
				for _, lo := range []float64{0, -hi} {
					m := &onnx.Model{IR: 8, Opsets: map[string]int64{"": 12}, Name: "means"}
					m.Inputs = []onnx.Port{{Name: "x", Type: onnx.Float, Shaped: true, Dims: []onnx.Dim{{Size: 1}, {Size: n}}}}
					m.Outputs = []onnx.Port{{Name: "y", Type: onnx.Float}}
					m.Nodes = []onnx.Node{{Op: op, In: []string{"x"}, Out: []string{"y"}, Attrs: []onnx.Attr{{Name: "axes", Type: onnx.AttrInts, Ints: []int64{-1}}}}}
					im, err := onnx.Import(t.Context(), onnx.Encode(m), onnx.Options{Name: "means", Lo: lo, Hi: hi})
					if err == nil {
						_, _, err = zkml.Commit(im.Program)
					}
					if err != nil {
						t.Errorf("%s of %d numbers from %g to %g: %v", op, n, lo, hi, err)
					}
				}
			}
		}
	}
}
