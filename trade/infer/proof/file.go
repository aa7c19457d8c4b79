package proof

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
)

const fileMagic = "torgprf2"

// MaxFile bounds a proof file in bytes.
const MaxFile = MaxWindows/Batch*MaxPart + infer.MaxPrompt + 1<<18

// File is what a proof file holds.
type File struct {
	Model   square.Hash
	Request infer.Request
	Result  infer.Result
	Parts   [][]byte
}

// Encode writes the file's bytes.
func (f File) Encode() []byte {
	chunk := func(b, p []byte) []byte { return append(binary.LittleEndian.AppendUint32(b, uint32(len(p))), p...) }
	b := append([]byte(fileMagic), f.Model[:]...)
	b = chunk(b, f.Request.Encode())
	b = chunk(b, f.Result.Encode())
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Parts)))
	for _, p := range f.Parts {
		b = chunk(b, p)
	}
	return b
}

// DecodeFile reads what Encode wrote. Memory is bounded by the length of b.
func DecodeFile(b []byte) (File, error) {
	var f File
	cut := false
	take := func(n uint64) []byte {
		if n > uint64(len(b)) {
			cut, n = true, 0
		}
		p := b[:n:n]
		b = b[n:]
		return p
	}
	u32 := func() uint64 {
		if p := take(4); len(p) == 4 {
			return uint64(binary.LittleEndian.Uint32(p))
		}
		return 0
	}
	if len(b) > MaxFile {
		return f, fmt.Errorf("more than %d MiB", MaxFile>>20)
	}
	if string(take(uint64(len(fileMagic)))) != fileMagic {
		return f, errors.New("not a torg proof of version 2")
	}
	copy(f.Model[:], take(32))
	request, result := take(u32()), take(u32())
	n := u32()
	if n > MaxWindows {
		return f, fmt.Errorf("%d parts: at most %d", n, MaxWindows)
	}
	for range n {
		f.Parts = append(f.Parts, take(u32()))
	}
	if cut {
		return f, errors.New("it ends too early")
	}
	if len(b) > 0 {
		return f, fmt.Errorf("%d bytes after the end", len(b))
	}
	var err error
	if f.Request, err = infer.DecodeRequest(request); err != nil {
		return f, err
	}
	if f.Result, err = infer.DecodeResult(result); err != nil {
		return f, err
	}
	if f.Request.Kind != infer.Exact || f.Result.Kind != infer.Exact {
		return f, errors.New("not about an exact completion")
	}
	return f, nil
}

// Check says whether the file proves what it claims about the model, all of it.
func (f File) Check(m Model) error {
	if f.Model != m.ID() {
		return refused("it is about model %s, not %s (%s)", f.Model.Short(), m.ID().Short(), m.Name)
	}
	if f.Result.Finish == infer.FinishCancelled {
		return refused("the answer was cut off, so there is nothing to check at its end")
	}
	n, err := m.Parts(f.Request, f.Result)
	if err != nil {
		return err
	}
	if n == 0 {
		return refused("it claims no completion")
	}
	if want := (n + Batch - 1) / Batch; len(f.Parts) != want {
		return refused("%d parts, the answer has %d", len(f.Parts), want)
	}
	for i, p := range f.Parts {
		if err := m.Check(f.Request, f.Result, i*Batch, Batch, p); err != nil {
			return err
		}
	}
	return nil
}
