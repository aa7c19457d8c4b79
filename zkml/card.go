package zkml

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/zkml/whir"
)

// Card is all that a verifier knows of a program: its operations and the
// shapes of its constants, bounds of all values, and the commitment to the
// constants. Its ID stands for it.
//
// Commit makes a card from a program. Whoever believes a card believes that it
// was made so: the bounds in it are not proven again. Making it again and
// comparing the ID is how to check.
type Card struct {
	root   [32]byte
	height int
	rows   int
	consts []constShape
	ops    []exact.Op
	facts  []exact.Facts
	outs   []exact.Value
}

// constShape is what the verifier knows of a constant.
type constShape struct {
	rows, cols  int
	first, last int32   // elements
	data        []int32 // all elements, of constants that the verifier reads: see open
}

// open reports whether an operation's constant is not committed but in the
// card, because the verifier computes with it: where columns go to, and the
// quantiles of public noise.
func open(k exact.Kind) bool { return k == exact.Arrange || k == exact.Noise }

// cardMagic begins the encoding of a card and names its version.
const cardMagic = "torgzkc1"

// MaxCard bounds the encoding of a card in bytes.
const MaxCard = 1 << 22

func newCard(p *exact.Program) (Card, error) {
	facts, err := p.Check()
	if err != nil {
		return Card{}, fmt.Errorf("zkml: %w", err)
	}
	c := Card{rows: p.Rows, ops: p.Ops, facts: facts, outs: p.Outputs}
	for _, k := range p.Consts {
		c.consts = append(c.consts, constShape{rows: k.Rows, cols: k.Cols, first: k.Data[0], last: k.Data[len(k.Data)-1]})
	}
	for _, k := range c.opened() {
		c.consts[k].data = p.Consts[k].Data
	}
	if n := len(c.Encode()); n > MaxCard {
		return Card{}, fmt.Errorf("zkml: card of %d bytes, at most %d: its arrangements of columns and quantiles are too long", n, MaxCard)
	}
	return c, nil
}

// opened returns the constants that are in the card, in order.
func (c Card) opened() []int {
	var all []int
	for _, op := range c.ops {
		if open(op.Kind) {
			all = append(all, op.Consts[0])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// noisy reports whether runs depend on their environment.
func (c Card) noisy() bool {
	return slices.ContainsFunc(c.ops, func(op exact.Op) bool { return op.Kind == exact.Noise })
}

// ID is the identity of the program: 32 bytes that a ledger can keep.
func (c Card) ID() [32]byte {
	return blake3.Sum256(c.Encode())
}

// Rows is the greatest number of rows of an input.
func (c Card) Rows() int { return c.rows }

// Columns are how many numbers a row of the input has, and of each output.
func (c Card) Columns() (input int, outputs []int) {
	for i, op := range c.ops {
		if op.Kind == exact.Input {
			input = c.facts[i].Cols
		}
	}
	for _, v := range c.outs {
		outputs = append(outputs, c.facts[v].Cols)
	}
	return input, outputs
}

// Encode returns the card's bytes, little-endian: the magic "torgzkc1", root
// (32 bytes), height u8, rows u32; the number of constants u32, of each rows
// u32, columns u32, first and last element u32; the number of operations u32,
// of each kind u8, the numbers of inputs, constants and parameters u8 each,
// inputs u32, constants u32, parameters u64, columns u32, lowest and highest
// element u64; the number of outputs u32, of each the value u32; and of each
// constant of an arrange or noise, in the order of constants, bytes an element
// u8 (1, 2, 4: the fewest that suffice) and the elements, row by row.
func (c Card) Encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(cardMagic), c.root[:]...)
	b = append(b, byte(c.height))
	u32 := func(x int) { b = le.AppendUint32(b, uint32(x)) }
	u64 := func(x int64) { b = le.AppendUint64(b, uint64(x)) }
	u32(c.rows)
	u32(len(c.consts))
	for _, k := range c.consts {
		u32(k.rows)
		u32(k.cols)
		u32(int(k.first))
		u32(int(k.last))
	}
	u32(len(c.ops))
	for i, op := range c.ops {
		b = append(b, byte(op.Kind), byte(len(op.In)), byte(len(op.Consts)), byte(len(op.Params)))
		for _, v := range op.In {
			u32(int(v))
		}
		for _, k := range op.Consts {
			u32(k)
		}
		for _, x := range op.Params {
			u64(x)
		}
		u32(c.facts[i].Cols)
		u64(c.facts[i].Range.Lo)
		u64(c.facts[i].Range.Hi)
	}
	u32(len(c.outs))
	for _, v := range c.outs {
		u32(int(v))
	}
	for _, k := range c.opened() {
		w := widthOf(c.consts[k].data)
		b = append(b, byte(w))
		for _, x := range c.consts[k].data {
			for i := range w {
				b = append(b, byte(x>>(8*i)))
			}
		}
	}
	return b
}

// widthOf is how many bytes hold each element.
func widthOf(data []int32) int {
	w := 1
	for _, x := range data {
		switch {
		case x != int32(int16(x)):
			return 4
		case x != int32(int8(x)):
			w = 2
		}
	}
	return w
}

var errCard = errors.New("zkml: not a card")

// DecodeCard reads what Encode wrote. Memory is bounded by the length of b.
func DecodeCard(b []byte) (Card, error) {
	le := binary.LittleEndian
	if len(b) > MaxCard || len(b) < len(cardMagic) || string(b[:len(cardMagic)]) != cardMagic {
		return Card{}, errCard
	}
	b = b[len(cardMagic):]
	short := false
	take := func(n int) []byte {
		if n > len(b) {
			short = true
			b = nil
			return make([]byte, n)
		}
		x := b[:n]
		b = b[n:]
		return x
	}
	u8 := func() int { return int(take(1)[0]) }
	great := false // no number of a card's is 2^31 or more: an int may have 32 bits
	u32 := func() int {
		x := le.Uint32(take(4))
		if x > math.MaxInt32 {
			great = true
			return 0
		}
		return int(x)
	}
	i32 := func() int32 { return int32(le.Uint32(take(4))) }
	i64 := func() int64 { return int64(le.Uint64(take(8))) }
	var c Card
	copy(c.root[:], take(32))
	c.height = u8()
	c.rows = u32()
	for range min(u32(), len(b)/16+1) {
		c.consts = append(c.consts, constShape{rows: u32(), cols: u32(), first: i32(), last: i32()})
	}
	for range min(u32(), len(b)/24+1) {
		op := exact.Op{Kind: exact.Kind(u8())}
		ins, ks, ps := u8(), u8(), u8()
		for range ins {
			op.In = append(op.In, exact.Value(u32()))
		}
		for range ks {
			op.Consts = append(op.Consts, u32())
		}
		for range ps {
			op.Params = append(op.Params, i64())
		}
		c.ops = append(c.ops, op)
		c.facts = append(c.facts, exact.Facts{Cols: u32(), Range: exact.Range{Lo: i64(), Hi: i64()}})
		if short {
			return Card{}, errCard
		}
	}
	for range min(u32(), len(b)/4+1) {
		c.outs = append(c.outs, exact.Value(u32()))
	}
	for _, op := range c.ops {
		if open(op.Kind) && (len(op.Consts) != 1 || op.Consts[0] >= len(c.consts)) {
			return Card{}, errCard
		}
	}
	for _, k := range c.opened() {
		w := u8()
		if w != 1 && w != 2 && w != 4 {
			return Card{}, errCard
		}
		// Both factors are below 2^31.
		n := uint64(c.consts[k].rows) * uint64(c.consts[k].cols)
		if n > uint64(len(b)/w) {
			return Card{}, errCard
		}
		data := make([]int32, n)
		for i, x := 0, take(int(n)*w); i < len(data); i++ {
			for j := range w {
				data[i] |= int32(x[i*w+j]) << (8 * j)
			}
			data[i] = data[i] << (32 - 8*w) >> (32 - 8*w)
		}
		if widthOf(data) != w {
			return Card{}, errCard
		}
		c.consts[k].data = data
	}
	if short || great || len(b) > 0 {
		return Card{}, errCard
	}
	if err := c.check(); err != nil {
		return Card{}, err
	}
	return c, nil
}

// signatures says how many inputs, constants and parameters each operation
// has.
var signatures = map[exact.Kind][3]int{
	exact.Input:      {0, 0, 3},
	exact.Position:   {0, 0, 1},
	exact.Gather:     {1, 1, 0},
	exact.Add:        {2, 0, 0},
	exact.Offset:     {1, 1, 0},
	exact.MatMul:     {1, 1, 0},
	exact.Requantise: {1, 0, 2},
	exact.Table:      {1, 1, 1},
	exact.LayerNorm:  {1, 1, 2},
	exact.Attention:  {3, 1, 2},
	exact.ArgMax:     {1, 0, 0},

	exact.Arrange:       {1, 1, 0},
	exact.BlockMatMul:   {1, 1, 1},
	exact.BlockMax:      {1, 0, 1},
	exact.Multiply:      {2, 0, 0},
	exact.RMSNorm:       {1, 1, 2},
	exact.FullAttention: {3, 1, 2},
	exact.MeanRows:      {1, 0, 0},
	exact.Noise:         {0, 1, 1},
}

// check verifies what the planner relies on, so that a card from anywhere
// leads to an error at worst.
func (c Card) check() error {
	bad := func(what string) error { return fmt.Errorf("zkml: card: %s", what) }
	if c.height < whir.MinHeight || c.height > whir.MaxHeight {
		return bad("height")
	}
	if c.rows < 1 || c.rows > exact.MaxRows || len(c.ops) == 0 || len(c.ops) > exact.MaxOps || len(c.consts) > exact.MaxConsts || len(c.outs) == 0 || len(c.outs) > 16 {
		return bad("counts")
	}
	small := func(x int32) bool { return x > -exact.Limit && x < exact.Limit }
	for _, k := range c.consts {
		if k.rows < 1 || k.cols < 1 || k.rows > 1<<24 || k.cols > 1<<24 || int64(k.rows)*int64(k.cols) > 1<<26 || !small(k.first) || !small(k.last) {
			return bad("constant")
		}
		if k.data != nil && (len(k.data) != k.rows*k.cols || k.data[0] != k.first || k.data[len(k.data)-1] != k.last) {
			return bad("constant")
		}
	}
	inputs := 0
	for i, op := range c.ops {
		sig, ok := signatures[op.Kind]
		if !ok || len(op.In) != sig[0] || len(op.Consts) != sig[1] || len(op.Params) != sig[2] {
			return bad("operation")
		}
		for _, v := range op.In {
			if v < 0 || int(v) >= i {
				return bad("operand")
			}
		}
		for _, k := range op.Consts {
			if k < 0 || k >= len(c.consts) {
				return bad("operand")
			}
		}
		f := c.facts[i]
		if f.Cols < 1 || f.Cols > exact.MaxCols || f.Range.Lo > f.Range.Hi || f.Range.Lo <= -exact.Limit || f.Range.Hi >= exact.Limit {
			return bad("bounds")
		}
		cols := func(k int) int { return c.facts[op.In[k]].Cols }
		fits := true
		k := constShape{}
		if len(op.Consts) > 0 {
			k = c.consts[op.Consts[0]]
		}
		switch op.Kind {
		case exact.Input:
			inputs++
			fits = op.Params[0] == int64(f.Cols) && op.Params[1] == f.Range.Lo && op.Params[2] == f.Range.Hi
		case exact.Position:
			fits = f.Cols == 1 && op.Params[0] == int64(c.rows) && f.Range == exact.Range{Lo: 0, Hi: int64(c.rows) - 1}
		case exact.ArgMax:
			fits = f.Cols == 1 && f.Range == exact.Range{Lo: 0, Hi: int64(cols(0)) - 1}
		case exact.Gather:
			// The verifier reads at the index.
			at := c.facts[op.In[0]].Range
			fits = cols(0) == 1 && k.cols == f.Cols && at.Lo >= 0 && at.Hi < int64(k.rows)
		case exact.Add:
			fits = cols(0) == f.Cols && cols(1) == f.Cols
		case exact.Offset:
			fits = cols(0) == f.Cols && k.cols == f.Cols && k.rows == 1
		case exact.MatMul:
			fits = k.rows == cols(0) && k.cols == f.Cols
		case exact.Requantise:
			fits = cols(0) == f.Cols && op.Params[0] >= 0 && op.Params[0] <= 30 && op.Params[1] >= 2 && op.Params[1] <= 30
		case exact.Table:
			fits = cols(0) == f.Cols && k.rows == 1 && op.Params[0] > -exact.Limit && op.Params[0] < exact.Limit
		case exact.LayerNorm, exact.RMSNorm:
			fits = cols(0) == f.Cols && k.rows == 1 && k.cols == normKeyHi-normKeyLo && op.Params[0] >= normKeyLo && op.Params[0] < 1<<40 && op.Params[1] >= 1 && op.Params[1] <= 30
		case exact.Attention, exact.FullAttention:
			fits = cols(0) == f.Cols && cols(1) == f.Cols && cols(2) == f.Cols && k.rows == 1 && k.cols >= 2 && k.first >= 1 && k.first <= 1<<15 &&
				op.Params[0] >= 1 && int64(f.Cols)%op.Params[0] == 0 && op.Params[1] >= 0 && op.Params[1] <= 30
		case exact.Arrange:
			fits = k.cols == f.Cols && k.rows == 1 && !slices.ContainsFunc(k.data, func(from int32) bool { return from < -1 || int(from) >= cols(0) })
		case exact.BlockMatMul:
			blocks := op.Params[0]
			fits = blocks >= 1 && blocks <= int64(cols(0)) && int64(k.rows)*blocks == int64(cols(0)) && int64(k.cols)*blocks == int64(f.Cols)
		case exact.BlockMax:
			fits = op.Params[0] == int64(f.Cols) && cols(0)%f.Cols == 0
		case exact.Multiply:
			fits = cols(0) == f.Cols && cols(1) == f.Cols
		case exact.MeanRows:
			fits = cols(0) == f.Cols
		case exact.Noise:
			fits = op.Params[0] == int64(f.Cols) && k.rows == 1 && k.cols == 1<<16 && f.Range.Lo <= 0 && f.Range.Hi >= 0 && !slices.ContainsFunc(k.data, func(q int32) bool {
				n := int64(q) * exact.MaxTemperature / 1000
				return n < f.Range.Lo || n > f.Range.Hi
			})
		}
		if !fits {
			return bad(op.Kind.String())
		}
	}
	if inputs != 1 {
		return bad("inputs")
	}
	for _, v := range c.outs {
		if v < 0 || int(v) >= len(c.ops) {
			return bad("output")
		}
	}
	return nil
}
