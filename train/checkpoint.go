package train

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const magic = "torgtrn1"

// maxParams bounds what Read allocates: 64 Mi parameters.
const maxParams = 64 << 20

func (c Config) words() [11]uint64 {
	return [11]uint64{
		uint64(c.Shape.Layers), uint64(c.Shape.Width), uint64(c.Shape.Heads), uint64(c.Shape.Context),
		c.Seed, uint64(c.Steps), uint64(c.Batch),
		math.Float64bits(c.Rate), math.Float64bits(c.Floor), uint64(c.WarmUp), math.Float64bits(c.Decay),
	}
}

func configOf(w [11]uint64) Config {
	// A word that does not fit an int becomes negative or huge and fails check.
	return Config{
		Shape: Shape{int(w[0]), int(w[1]), int(w[2]), int(w[3])},
		Seed:  w[4], Steps: int(w[5]), Batch: int(w[6]),
		Rate: math.Float64frombits(w[7]), Floor: math.Float64frombits(w[8]),
		WarmUp: int(w[9]), Decay: math.Float64frombits(w[10]),
	}
}

// Write stores the checkpoint.
func (ck *Checkpoint) Write(w io.Writer) error {
	h := sha256.New()
	b := bufio.NewWriter(io.MultiWriter(w, h))
	b.WriteString(magic)
	var word [8]byte
	put := func(x uint64) {
		binary.LittleEndian.PutUint64(word[:], x)
		b.Write(word[:])
	}
	for _, x := range ck.Config.words() {
		put(x)
	}
	b.Write(ck.Corpus[:])
	put(uint64(ck.Step))
	for _, v := range [][]float32{ck.Params.Flat, ck.opt.m, ck.opt.v} {
		for _, x := range v {
			binary.LittleEndian.PutUint32(word[:4], math.Float32bits(x))
			b.Write(word[:4])
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("train: write checkpoint: %w", err)
	}
	if _, err := w.Write(h.Sum(nil)); err != nil {
		return fmt.Errorf("train: write checkpoint: %w", err)
	}
	return nil
}

// ReadCheckpoint reads what Write stored. It allocates no more than the
// stated shape needs and refuses a shape of more than 64 Mi parameters.
func ReadCheckpoint(r io.Reader) (*Checkpoint, error) {
	h := sha256.New()
	in := io.TeeReader(bufio.NewReader(r), h)
	head := make([]byte, len(magic)+11*8+32+8)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, fmt.Errorf("train: read checkpoint: %w", err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, errors.New("train: not a checkpoint")
	}
	var words [11]uint64
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(head[len(magic)+8*i:])
	}
	rest := head[len(magic)+8*len(words):]
	ck := &Checkpoint{Config: configOf(words), Corpus: [32]byte(rest)}
	step := binary.LittleEndian.Uint64(rest[32:])
	if err := ck.Config.check(); err != nil {
		return nil, err
	}
	s := ck.Config.Shape
	if s.size() > maxParams {
		return nil, errors.New("train: checkpoint is too large")
	}
	if step > uint64(ck.Config.Steps) {
		return nil, errors.New("train: checkpoint is beyond its last step")
	}
	ck.Step = int(step)
	n := s.size()
	// Grow with the bytes that really arrive: a header alone must not cost
	// memory.
	flat := func() ([]float32, error) {
		var v []float32
		buf := make([]byte, 1<<16)
		for len(v) < n {
			b := buf[:min(len(buf), 4*(n-len(v)))]
			if _, err := io.ReadFull(in, b); err != nil {
				return nil, fmt.Errorf("train: read checkpoint: %w", err)
			}
			for ; len(b) > 0; b = b[4:] {
				v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
			}
		}
		return v, nil
	}
	var parts [3][]float32
	for i := range parts {
		v, err := flat()
		if err != nil {
			return nil, err
		}
		parts[i] = v
	}
	var err error
	if ck.Params, err = NewParams(s); err != nil {
		return nil, err
	}
	copy(ck.Params.Flat, parts[0])
	ck.opt = adamW{parts[1], parts[2]}
	want := h.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return nil, fmt.Errorf("train: read checkpoint: %w", err)
	}
	if string(got) != string(want) {
		return nil, errors.New("train: checkpoint is damaged")
	}
	return ck, nil
}
