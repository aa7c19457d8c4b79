package quantise

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/torg-network/torg/exact"
)

// Arrange emits the columns of x, of which there are cols, in the given order,
// -1 standing for a column of zeros; nothing if that is what x is already.
func Arrange(p *exact.Program, x exact.Value, cols int, order []int32) exact.Value {
	same := len(order) == cols
	for j := 0; same && j < cols; j++ {
		same = order[j] == int32(j)
	}
	if same {
		return x
	}
	return p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, len(order), order)})
}

// Concat emits the columns of several values side by side.
func Concat(p *exact.Program, parts []exact.Value, cols []int) exact.Value {
	all := 0
	for _, n := range cols {
		all += n
	}
	var out exact.Value
	at := 0
	for i, x := range parts {
		order := slices.Repeat([]int32{-1}, all)
		for j := range cols[i] {
			order[at+j] = int32(j)
		}
		at += cols[i]
		part := Arrange(p, x, cols[i], order)
		if i == 0 {
			out = part
			continue
		}
		out = p.Op(exact.Add, []exact.Value{out, part}, nil)
	}
	return out
}

// Constant emits the same row everywhere. x is any value.
func Constant(p *exact.Program, x exact.Value, row []int32) exact.Value {
	zero := p.Op(exact.Arrange, []exact.Value{x}, []int{p.Const(1, len(row), slices.Repeat([]int32{-1}, len(row)))})
	return p.Op(exact.Offset, []exact.Value{zero}, []int{p.Const(1, len(row), row)})
}

// Linear is a product with a matrix, and what becomes of it.
type Linear struct {
	Blocks  int         // of x, each multiplied by Weights; 1 for the whole row
	Weights exact.Const // [columns of a block][out]
	Bias    []int32     // of Weights' columns, at the scale of the products; or none
	Shift   int64       // fractional bits to drop, to nearest
	Bits    int64       // saturate to, with sign
}

// Apply emits round((x Weights + Bias) / 2^Shift), saturated, where no element
// of x is greater than most in magnitude. If a sum might reach 2^30, the rows
// of Weights are split into parts; their sums are rounded on their own, to no
// more fractional bits than needed, and then added: that costs at most half a
// unit of those bits for each part.
func (l Linear) Apply(p *exact.Program, x exact.Value, most int64) (exact.Value, error) {
	c := l.Weights
	if l.Bias != nil && len(l.Bias) != c.Cols {
		return 0, fmt.Errorf("quantise: %d biases for %d columns", len(l.Bias), c.Cols)
	}
	var bias int64
	for _, b := range l.Bias {
		bias = max(bias, int64(b), -int64(b))
	}
	// Parts are as long as they can be, the bias being in the first.
	type part struct {
		from, to int
		most     int64 // magnitude of a sum
	}
	var parts []part
	norms := make([]int64, c.Cols)
	next := part{most: bias}
	start := bias // what a part's bound begins with
	for i := range c.Rows {
		row := c.Data[i*c.Cols : (i+1)*c.Cols]
		add := func() (norm int64) {
			for j, w := range row {
				norms[j] += int64(max(w, -w))
				norm = max(norm, norms[j])
			}
			return norm
		}
		bound, ok := within(start, add(), most)
		if !ok && next.to > next.from {
			parts = append(parts, next)
			clear(norms)
			next, start = part{from: i, to: i}, 0
			bound, ok = within(0, add(), most)
		}
		if !ok {
			return 0, fmt.Errorf("quantise: one product of row %d, with an operand of up to %d and a bias of up to %d, may reach 2^30: use fewer bits for weights or operand", i, most, start)
		}
		next.to, next.most = i+1, bound
	}
	parts = append(parts, next)
	if len(parts) == 1 {
		return l.round(p, l.sum(p, x, 0, c.Rows, true), l.Shift), nil
	}
	shift := int64(1)
	for ; shift <= 30; shift++ {
		var sum int64
		fits := true
		for _, s := range parts {
			b := (s.most+1<<(shift-1))>>shift + 1
			fits = fits && b < 1<<29 // not to saturate
			sum += b
		}
		if fits && sum < room {
			break
		}
	}
	if shift > l.Shift {
		return 0, fmt.Errorf("quantise: sums of %d parts must drop %d fractional bits, not %d: use fewer bits for weights or operand", len(parts), shift, l.Shift)
	}
	var total exact.Value
	for i, s := range parts {
		y := p.Op(exact.Requantise, []exact.Value{l.sum(p, x, s.from, s.to, i == 0)}, nil, shift, 30)
		if i == 0 {
			total = y
			continue
		}
		total = p.Op(exact.Add, []exact.Value{total, y}, nil)
	}
	return l.round(p, total, l.Shift-shift), nil
}

// room bounds sums: a hundredth less than programs may reach, so that a proof has
// room for what is rounded.
const room = exact.Limit / 100 * 99

// within returns start + norm most and whether that is within the room.
func within(start, norm, most int64) (int64, bool) {
	hi, lo := bits.Mul64(uint64(norm), uint64(most))
	if hi > 0 || lo >= room || start+int64(lo) >= room {
		return 0, false
	}
	return start + int64(lo), true
}

// sum emits the products of some rows of the weights.
func (l Linear) sum(p *exact.Program, x exact.Value, from, to int, biased bool) exact.Value {
	c := l.Weights
	order := make([]int32, 0, l.Blocks*(to-from))
	for b := range l.Blocks {
		for r := from; r < to; r++ {
			order = append(order, int32(b*c.Rows+r))
		}
	}
	x = Arrange(p, x, l.Blocks*c.Rows, order)
	k := p.Const(to-from, c.Cols, c.Data[from*c.Cols:to*c.Cols])
	var y exact.Value
	if l.Blocks == 1 {
		y = p.Op(exact.MatMul, []exact.Value{x}, []int{k})
	} else {
		y = p.Op(exact.BlockMatMul, []exact.Value{x}, []int{k}, int64(l.Blocks))
	}
	if biased && l.Bias != nil {
		row := slices.Repeat(l.Bias, l.Blocks)
		y = p.Op(exact.Offset, []exact.Value{y}, []int{p.Const(1, len(row), row)})
	}
	return y
}

func (l Linear) round(p *exact.Program, y exact.Value, shift int64) exact.Value {
	return p.Op(exact.Requantise, []exact.Value{y}, nil, shift, l.Bits)
}

// Softmax emits the softmax over the columns of x with frac fractional bits,
// at most 14; x has inFrac fractional bits, and no element greater than most
// in magnitude. As the square of e^(x/2) divided by the length of that row,
// which RMSNorm does at full precision however uneven the row is.
func Softmax(p *exact.Program, x exact.Value, cols, inFrac, frac int, most int64) (exact.Value, error) {
	if inFrac < 0 || inFrac > 30 || frac < 1 || frac > 14 || most < 0 || 2*most >= exact.Limit {
		return 0, fmt.Errorf("quantise: softmax from %d to %d fractional bits of elements up to %d: want 0 to 30, 1 to 14 and less than 2^29", inFrac, frac, most)
	}
	// Keys in 1/1024, or as they are; the table ends at e^-16.
	drop := max(0, inFrac-10)
	width := 2
	for width < 30 && int64(1)<<(width-1) <= min(16<<(inFrac-drop), (2*most)>>drop) {
		width++
	}
	negative := slices.Repeat([]int32{-1}, cols)
	top := p.Op(exact.BlockMax, []exact.Value{x}, nil, 1)
	below := p.Op(exact.Add, []exact.Value{x, p.Op(exact.MatMul, []exact.Value{top}, []int{p.Const(1, cols, negative)})}, nil)
	key := p.Op(exact.Requantise, []exact.Value{below}, nil, int64(drop), int64(width))
	// The upper half is for keys above zero, which the bounds allow but which
	// do not occur.
	half, err := Tabulate(func(x float64) float64 { return Exp(min(0, x) / 2) }, -1<<(width-1), 1<<width, inFrac-drop, 14, 16)
	if err != nil {
		return 0, err
	}
	root := p.Op(exact.Table, []exact.Value{key}, []int{p.Const(1, len(half), half)}, -1<<(width-1))
	lengths, lengthFrac := InverseLengths()
	unit := p.Op(exact.RMSNorm, []exact.Value{root}, []int{p.Const(1, len(lengths), lengths)}, normKeyLo, int64(lengthFrac-14))
	return p.Op(exact.Requantise, []exact.Value{p.Op(exact.Multiply, []exact.Value{unit, unit}, nil)}, nil, int64(28-frac), int64(frac+2)), nil
}
