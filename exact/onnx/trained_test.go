package onnx_test

import (
	"context"
	"math"
	"testing"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/exact/onnx/shape"
	"github.com/torg-network/torg/exact/quantise"
	"github.com/torg-network/torg/train"
	"github.com/torg-network/torg/train/corpus"
)

// TestTrained: a trained language model that takes the way over an ONNX file
// loses as little as one that is quantised directly.
func TestTrained(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a model")
	}
	ck, err := train.Run(context.Background(), train.Config{
		Shape: train.Shape{Layers: 2, Width: 32, Heads: 2, Context: 32},
		Seed:  3, Steps: 400, Batch: 4, Rate: 4e-3, WarmUp: 20, Decay: 0.1,
	}, corpus.Train(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var sample []float64
	for _, b := range corpus.Train()[:8192] {
		sample = append(sample, float64(b))
	}
	im, err := onnx.Import(t.Context(), onnx.Encode(trained(ck.Params)), onnx.Options{Name: "trained", Samples: [][]float64{sample}})
	if err != nil {
		t.Fatal(err)
	}
	if !im.Card.Text {
		t.Fatalf("no text model: %+v", im.Card)
	}
	file, err := exact.Encode(im.Card, im.Program)
	if err != nil {
		t.Fatal(err)
	}
	m, err := exact.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := quantise.Compare(m, ck.Params, corpus.HeldOut(), 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v; %+v", r, im.Outputs[0].Loss)
	if r.Float > 3 || math.Abs(r.Exact-r.Float) > 0.005 || r.Agreement < 0.98 {
		t.Errorf("%+v", r)
	}
}

// trained writes the parameters as an ONNX model of package shape's form.
func trained(p *train.Params) *onnx.Model {
	s := p.Shape
	m := shape.GPT{Vocab: train.Vocab, Layers: s.Layers, Heads: s.Heads, Width: s.Width, Context: s.Context}.Model(0, false)
	// Constants in the order in which the shape makes matrices and gains.
	d := s.Width
	var floats [][]float32
	floats = append(floats, p.Embed, p.Position)
	for _, l := range p.Layers {
		floats = append(floats, l.AttnGain, l.QKV, l.AttnOut, l.MLPGain, l.Up, l.Down)
	}
	head := make([]float32, d*train.Vocab)
	for v := range train.Vocab {
		for i := range d {
			head[i*train.Vocab+v] = p.Embed[v*d+i]
		}
	}
	floats = append(floats, p.Final, head)
	for i := range m.Consts {
		c := &m.Consts[i]
		if len(c.F) > 1 && !(len(c.Dims) == 4) { // not the mask
			if len(c.F) != len(floats[0]) {
				panic("the shape makes its constants in another order")
			}
			c.F, floats = floats[0], floats[1:]
		}
	}
	return m
}
