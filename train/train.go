// Package train trains small byte-level transformers, and does it
// reproducibly: the same configuration and corpus end in the same parameters,
// bit for bit, on every machine, with any number of workers and with any of
// the instruction sets it knows.
//
// The model is the GPT of Radford et al. (2019) in the size known as nanoGPT:
// learned positions, pre-LayerNorm with gain and without bias, GELU (tanh
// form), no bias in linear layers, the head tied to the embedding. Trained
// with AdamW, warm-up and a cosine schedule.
//
// What makes it reproducible: every sum has one order (see gemm.go), workers
// never share an output (workers.go), elementary functions are our own
// (fmath.go), products are rounded explicitly so that no compiler fuses them
// with an addition, and random numbers are counted, not drawn (rng.go).
//
// Checkpoint format, little-endian: the magic "torgtrn1", the eleven numbers of
// the configuration as 64-bit words in the order of Config (rates as IEEE 754
// doubles), the SHA-256 of the corpus, the steps done, then parameters and
// the two AdamW moments as 32-bit IEEE 754 words, then the SHA-256 of all
// that came before.
package train

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Config determines a run together with the corpus.
type Config struct {
	Shape  Shape
	Seed   uint64
	Steps  int     // optimiser steps in all
	Batch  int     // sequences a step, each Shape.Context long
	Rate   float64 // peak learning rate
	Floor  float64 // learning rate at the end, as a fraction of Rate
	WarmUp int     // steps of linear warm-up
	Decay  float64 // decoupled weight decay of matrices
}

// Nano is the shape of the bundled model: 1,033,600 parameters.
var Nano = Shape{Layers: 5, Width: 128, Heads: 4, Context: 128}

// Bundled is the configuration of the model shipped in exact/nano, trained on
// corpus.Train().
var Bundled = Config{
	Shape: Nano, Seed: 1, Steps: 6000, Batch: 8,
	Rate: 3e-3, Floor: 0.02, WarmUp: 100, Decay: 0.1,
}

// clipNorm bounds the gradient's Euclidean norm.
const clipNorm = 1.0

func (c Config) check() error {
	if err := c.Shape.check(); err != nil {
		return err
	}
	if c.Steps < 1 || c.Steps > 1<<24 || c.Batch < 1 || c.Batch > 1<<12 || c.WarmUp < 0 || c.WarmUp > c.Steps ||
		!(c.Rate > 0 && c.Rate < 1) || !(c.Floor >= 0 && c.Floor <= 1) || !(c.Decay >= 0 && c.Decay < 1) {
		return fmt.Errorf("train: impossible configuration %+v", c)
	}
	return nil
}

// rate is the learning rate of step n (from 1).
func (c Config) rate(n int) float32 {
	if n <= c.WarmUp {
		return float32(c.Rate * float64(n) / float64(c.WarmUp))
	}
	t := float64(n-c.WarmUp) / float64(max(1, c.Steps-c.WarmUp))
	return float32(c.Rate * (c.Floor + float64((1-c.Floor)*float64(0.5*(1+cosPi(t))))))
}

// Checkpoint is the state of a run between two steps.
type Checkpoint struct {
	Config Config
	Corpus [32]byte // SHA-256 of the training text
	Step   int      // steps done
	Params *Params

	opt adamW
}

// Done reports whether the run is over.
func (c *Checkpoint) Done() bool { return c.Step >= c.Config.Steps }

// Start returns the state before the first step.
func Start(c Config, corpus []byte) (*Checkpoint, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if len(corpus) < c.Shape.Context+1 {
		return nil, errors.New("train: corpus is shorter than one context")
	}
	p, err := NewParams(c.Shape)
	if err != nil {
		return nil, err
	}
	p.initialise(c.Seed)
	n := len(p.Flat)
	return &Checkpoint{
		Config: c, Corpus: sha256.Sum256(corpus), Params: p,
		opt: adamW{make([]float32, n), make([]float32, n)},
	}, nil
}

// Run trains from the beginning to the end. progress, if not nil, is told each
// step's number (from 1) and its training loss in nats per byte. If ctx ends first, the
// state reached so far is returned with the context's error.
func Run(ctx context.Context, c Config, corpus []byte, progress func(step int, loss float64)) (*Checkpoint, error) {
	ck, err := Start(c, corpus)
	if err != nil {
		return nil, err
	}
	return ck, ck.Resume(ctx, corpus, progress)
}

// Resume trains on from ck to the end of its configuration, in place; it ends
// in the same parameters as a run without a break.
func (ck *Checkpoint) Resume(ctx context.Context, corpus []byte, progress func(step int, loss float64)) error {
	if sha256.Sum256(corpus) != ck.Corpus {
		return errors.New("train: checkpoint was made with another corpus")
	}
	c := ck.Config
	g, err := NewParams(c.Shape)
	if err != nil {
		return err
	}
	w := newWorkers()
	a := newPass(ck.Params, w, c.Batch, c.Shape.Context)
	in, out := make([]byte, a.rows), make([]byte, a.rows)
	for !ck.Done() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("train: stopped after step %d: %w", ck.Step, err)
		}
		n := ck.Step + 1
		sample(c, n, corpus, in, out)
		a.forward(in)
		loss := a.loss(out)
		clear(g.Flat)
		a.backward(g)
		clip(w, g, clipNorm)
		ck.opt.update(w, ck.Params, g, n, c.rate(n), float32(c.Decay))
		ck.Step = n
		if progress != nil {
			progress(n, loss)
		}
	}
	return nil
}

// sample cuts the batch of step n out of the corpus: each sequence starts at
// a position drawn from the seed, the step and its row.
func sample(c Config, n int, corpus, in, out []byte) {
	r := rng(c.Seed ^ uint64(n)*0xd1342543de82ef95)
	t := c.Shape.Context
	for b := range c.Batch {
		at := int(r.next() % uint64(len(corpus)-t))
		copy(in[b*t:(b+1)*t], corpus[at:])
		copy(out[b*t:(b+1)*t], corpus[at+1:])
	}
}
