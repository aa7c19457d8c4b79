// Package runfile is how proven runs of models, and the cards that checking them
// takes, are kept in files and sent.
//
// Run files, version 1, prove runs of models that are no text models (for those
// see package trade/infer/proof). Numbers are little-endian; nothing may follow
// the end, and there is one encoding of every content.
//
//	"torgrun1"                 names the version
//	model          32 bytes    id of the model: the BLAKE3 hash of its card file
//	input          matrix
//	outputs        u8 number, of each: first row u32, then a matrix
//	proof          the rest:   a proof of zkml
//
//	matrix         rows u32, columns u32, then i32 each, row by row
//
// A run claims what the model's meaning names, no more and no less: as many rows
// of input as the network takes, and of each output the rows from the one that
// holds the answer on (Model.From).
//
// Card files, version 3, hold what checking such a run needs, and what its
// numbers mean; there is one encoding of every content here too:
//
//	"torgcrd3"
//	name           u8 length, then bytes
//	meaning        u32 length, then JSON: input and outputs, as torg model card shows them
//	card           the rest: zkml.Card.Encode
package runfile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/exact/onnx"
	"github.com/torg-network/torg/zkml"
)

const (
	fileMagic  = "torgrun1"
	cardMagic  = "torgcrd3"
	maxOutputs = 16
)

// Bounds of files, in bytes.
const (
	MaxFile    = 1 << 26
	MaxMeaning = 1 << 16
	MaxCard    = zkml.MaxCard + MaxMeaning + 300
)

// File is what a run file holds.
type File struct {
	Model [32]byte
	Claim zkml.Claim
	Proof zkml.Proof
}

// Encode returns the file's bytes.
func (f File) Encode() []byte {
	u32 := binary.LittleEndian.AppendUint32
	matrix := func(b []byte, m [][]int32) []byte {
		cols := 0
		if len(m) > 0 {
			cols = len(m[0])
		}
		b = u32(u32(b, uint32(len(m))), uint32(cols))
		for _, row := range m {
			for _, e := range row {
				b = u32(b, uint32(e))
			}
		}
		return b
	}
	b := matrix(append([]byte(fileMagic), f.Model[:]...), f.Claim.Input)
	b = append(b, byte(len(f.Claim.Output)))
	for k, o := range f.Claim.Output {
		b = matrix(u32(b, uint32(f.Claim.From[k])), o)
	}
	return append(b, f.Proof...)
}

// Decode reads what Encode wrote. Memory is bounded by the length of b.
func Decode(b []byte) (File, error) {
	var f File
	if len(b) > MaxFile {
		return f, fmt.Errorf("more than %d MiB", MaxFile>>20)
	}
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
	matrix := func() ([][]int32, error) {
		rows, cols := u32(), u32()
		if rows > exact.MaxRows || cols > exact.MaxCols || (rows == 0) != (cols == 0) {
			return nil, fmt.Errorf("a matrix of %d by %d", rows, cols)
		}
		data := take(4 * rows * cols)
		if cut {
			return nil, nil
		}
		m := make([][]int32, rows)
		for i := range m {
			m[i] = make([]int32, cols)
			for j := range m[i] {
				m[i][j] = int32(binary.LittleEndian.Uint32(data[4*(uint64(i)*cols+uint64(j)):]))
			}
		}
		return m, nil
	}
	if string(take(uint64(len(fileMagic)))) != fileMagic {
		return f, errors.New("not a torg run of version 1")
	}
	copy(f.Model[:], take(32))
	var err error
	if f.Claim.Input, err = matrix(); err != nil {
		return f, err
	}
	n := take(1)
	for !cut && len(f.Claim.From) < int(n[0]) {
		if n[0] > maxOutputs {
			return f, fmt.Errorf("%d outputs, at most %d", n[0], maxOutputs)
		}
		from := u32()
		if from > exact.MaxRows {
			return f, fmt.Errorf("an output from row %d on", from)
		}
		m, err := matrix()
		if err != nil {
			return f, err
		}
		f.Claim.From, f.Claim.Output = append(f.Claim.From, int(from)), append(f.Claim.Output, m)
	}
	if cut {
		return f, errors.New("it ends too early")
	}
	f.Proof = b
	return f, nil
}

// Meaning says what a model's numbers stand for.
type Meaning struct {
	Input   onnx.Input    `json:"input"`
	Outputs []onnx.Output `json:"outputs"`
}

// Model is what checking a run needs of a model.
type Model struct {
	Name string
	Meaning
	Card zkml.Card
}

// ID is the hash of the card file: of all that checking relies on, the scales
// that give numbers their meaning included.
func (m Model) ID() [32]byte { return blake3.Sum256(m.Encode()) }

// Encode returns the card file's bytes.
func (m Model) Encode() []byte {
	said := Meaning{m.Input, slices.Clone(m.Outputs)}
	for i := range said.Outputs {
		said.Outputs[i].Loss = onnx.Loss{} // no part of what a run says
	}
	about, err := json.Marshal(said)
	if err != nil {
		panic(err) // of numbers that are none, which the importer has not
	}
	b := append([]byte(cardMagic), byte(len(m.Name)))
	b = append(b, m.Name...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(about))), about...)
	return append(b, m.Card.Encode()...)
}

// DecodeModel reads a card file. Memory is bounded by the length of b.
func DecodeModel(b []byte) (Model, error) {
	var m Model
	whole := b
	take := func(n int) []byte {
		if n > len(b) {
			return nil
		}
		p := b[:n:n]
		b = b[n:]
		return p
	}
	if len(b) > MaxCard || string(take(len(cardMagic))) != cardMagic {
		return m, errors.New("not a torg card of version 3")
	}
	cut := errors.New("it ends too early")
	n := take(1)
	if n == nil {
		return m, cut
	}
	name := take(int(n[0]))
	size := take(4)
	if name == nil || size == nil {
		return m, cut
	}
	if m.Name = string(name); !ValidName(m.Name) {
		return m, errors.New("its name is not one of a-z, 0-9, dot and dash")
	}
	about := take(int(min(binary.LittleEndian.Uint32(size), MaxMeaning+1)))
	if about == nil || len(about) > MaxMeaning {
		return m, cut
	}
	if err := json.Unmarshal(about, &m.Meaning); err != nil {
		return m, fmt.Errorf("its meaning: %w", err)
	}
	var err error
	if m.Card, err = zkml.DecodeCard(b); err != nil {
		return m, err
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("its meaning: %w", err)
	}
	if !bytes.Equal(m.Encode(), whole) {
		return m, errors.New("its meaning is not written as torg writes it")
	}
	return m, nil
}

// maxFrac bounds fractional bits, of either sign: beyond, numbers of 32 bits stand
// for nothing that one could mean.
const maxFrac = 64

// check says whether the meaning fits the program that it is the meaning of.
func (m Model) check() error {
	columns, outputs := m.Card.Columns()
	in := m.Input
	switch {
	case !onnx.Plain(in.Name):
		return fmt.Errorf("the name of the input, %q, holds what is not printed as it stands", in.Name)
	case in.Columns != columns:
		return fmt.Errorf("input of %d columns, the program's has %d", in.Columns, columns)
	case in.Rows < 0 || in.Rows > m.Card.Rows():
		return fmt.Errorf("runs of %d rows, of a program that takes at most %d", in.Rows, m.Card.Rows())
	case in.Frac < -maxFrac || in.Frac > maxFrac:
		return fmt.Errorf("input with %d fractional bits", in.Frac)
	case len(m.Outputs) != len(outputs):
		return fmt.Errorf("%d outputs, the program has %d", len(m.Outputs), len(outputs))
	}
	for k, o := range m.Outputs {
		switch {
		case !onnx.Plain(o.Name):
			return fmt.Errorf("the name of output %d, %q, holds what is not printed as it stands", k, o.Name)
		case o.Columns != outputs[k]:
			return fmt.Errorf("output %d of %d columns, the program's has %d", k, o.Columns, outputs[k])
		case o.Row < onnx.LastRow || o.Row >= max(1, m.Card.Rows()):
			return fmt.Errorf("output %d in row %d, of a program that has %d", k, o.Row, m.Card.Rows())
		case o.Frac < -maxFrac || o.Frac > maxFrac:
			return fmt.Errorf("output %d with %d fractional bits", k, o.Frac)
		}
	}
	return nil
}

// From is the first row that a run of so many rows claims of each output: it and
// those that follow are in the file. An error says how many rows the model takes.
func (m Model) From(rows int) ([]int, error) {
	switch n := m.Input.Rows; {
	case n > 0 && rows != n:
		return nil, fmt.Errorf("a run of %d rows, and %s takes exactly %d", rows, m.Name, n)
	case rows < 1 || rows > m.Card.Rows():
		return nil, fmt.Errorf("a run of %d rows, and %s takes 1 to %d", rows, m.Name, m.Card.Rows())
	}
	from := make([]int, len(m.Outputs))
	for k, o := range m.Outputs {
		if from[k] = o.RowOf(rows); from[k] >= rows {
			return nil, fmt.Errorf("a run of %d rows, and output %s of %s is in row %d", rows, o.Name, m.Name, o.Row)
		}
	}
	return from, nil
}

// ValidName reports whether a model may have the name.
func ValidName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" && strings.Trim(s, ".") != ""
}

// Check says whether the file proves what it claims about the model, and claims
// what the model's meaning names.
func (f File) Check(m Model) error {
	if id := m.ID(); f.Model != id {
		return fmt.Errorf("it is about model %s, not %s (%s)", hex.EncodeToString(f.Model[:6]), hex.EncodeToString(id[:6]), m.Name)
	}
	from, err := m.From(len(f.Claim.Input))
	if err != nil {
		return err
	}
	if len(m.Outputs) == 0 || len(f.Claim.From) != len(from) {
		return fmt.Errorf("it claims %d outputs, and %s has %d", len(f.Claim.From), m.Name, len(from))
	}
	for k, o := range m.Outputs {
		if f.Claim.From[k] != from[k] {
			return fmt.Errorf("it claims output %s from row %d on, and the answer of %s is from row %d on", o.Name, f.Claim.From[k], m.Name, from[k])
		}
	}
	return zkml.Verify(m.Card, f.Claim, f.Proof)
}

// Is reports whether a file says that it is a run file.
func Is(b []byte) bool { return strings.HasPrefix(string(b[:min(len(b), len(fileMagic))]), fileMagic) }
