package quantise

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/torg-network/torg/exact"
)

// Image is the shape of a row that holds an image: one element for each
// channel, line and column.
type Image struct {
	Channels, Height, Width int
	Last                    bool // channels vary fastest; else slowest, as in NCHW
}

// Columns is how many columns the row has.
func (im Image) Columns() int { return im.Channels * im.Height * im.Width }

// column is where an element is.
func (im Image) column(c, y, x int) int32 {
	if im.Last {
		return int32((y*im.Width+x)*im.Channels + c)
	}
	return int32((c*im.Height+y)*im.Width + x)
}

// Window is what slides over an image. Lines come before columns.
type Window struct {
	Kernel   [2]int
	Stride   [2]int
	Dilation [2]int
	Pad      [4]int // before lines, before columns, after lines, after columns
}

// over returns how many places the window has on an image.
func (w Window) over(im Image) (h, v int, err error) {
	if im.Channels < 1 || im.Height < 1 || im.Width < 1 || im.Channels > exact.MaxCols || im.Height > exact.MaxCols || im.Width > exact.MaxCols ||
		int64(im.Channels)*int64(im.Height)*int64(im.Width) > exact.MaxCols {
		return 0, 0, fmt.Errorf("quantise: image of %d by %d by %d", im.Channels, im.Height, im.Width)
	}
	var n [2]int
	for i, size := range [2]int{im.Height, im.Width} {
		for _, x := range []int{w.Kernel[i], w.Stride[i], w.Dilation[i], w.Pad[i] + 1, w.Pad[i+2] + 1} {
			if x < 1 || x > exact.MaxCols {
				return 0, 0, fmt.Errorf("quantise: window of kernel %v, stride %v, dilation %v, padding %v", w.Kernel, w.Stride, w.Dilation, w.Pad)
			}
		}
		room := int64(size+w.Pad[i]+w.Pad[i+2]) - int64(w.Dilation[i])*int64(w.Kernel[i]-1) - 1
		if room < 0 {
			return 0, 0, fmt.Errorf("quantise: window of kernel %v and dilation %v is larger than the image of %d by %d", w.Kernel, w.Dilation, im.Height, im.Width)
		}
		n[i] = int(room)/w.Stride[i] + 1
	}
	// All factors are at most 2^20, so two of them cannot overflow, nor can
	// this quotient.
	area := int64(w.Kernel[0]) * int64(w.Kernel[1])
	if int64(n[0])*int64(n[1]) > exact.MaxCols/area {
		return 0, 0, fmt.Errorf("quantise: a window of %v in %d by %d places needs more than %d columns: use a larger stride or a smaller image", w.Kernel, n[0], n[1], exact.MaxCols)
	}
	return n[0], n[1], nil
}

// patch appends the columns under the window at place (py, px) of a channel,
// line by line, -1 where it is over the padding.
func (w Window) patch(to []int32, im Image, c, py, px int) []int32 {
	for ky := range w.Kernel[0] {
		y := py*w.Stride[0] - w.Pad[0] + ky*w.Dilation[0]
		for kx := range w.Kernel[1] {
			x := px*w.Stride[1] - w.Pad[1] + kx*w.Dilation[1]
			if y < 0 || y >= im.Height || x < 0 || x >= im.Width {
				to = append(to, -1)
				continue
			}
			to = append(to, im.column(c, y, x))
		}
	}
	return to
}

// Convolve emits a convolution (as customary, a correlation): l.Weights has
// one row for each output channel, in the order [channel of the group][line]
// [column], as ONNX has it; l.Blocks is ignored. Groups divide the channels of
// input and output. The result has its channels last.
func (w Window) Convolve(p *exact.Program, x exact.Value, im Image, groups int, l Linear, most int64) (exact.Value, Image, error) {
	fail := func(err error) (exact.Value, Image, error) { return 0, Image{}, err }
	h, v, err := w.over(im)
	if err != nil {
		return fail(err)
	}
	outs := l.Weights.Rows
	area := w.Kernel[0] * w.Kernel[1]
	if groups < 1 || im.Channels%groups != 0 || outs%groups != 0 || l.Weights.Cols != im.Channels/groups*area {
		return fail(fmt.Errorf("quantise: %d output channels of %d weights for %d channels in %d groups and a window of %v", outs, l.Weights.Cols, im.Channels, groups, w.Kernel))
	}
	if columns := int64(h*v) * int64(max(l.Weights.Cols, outs)); columns > exact.MaxCols {
		return fail(fmt.Errorf("quantise: %d places of %d weights a channel and %d channels need %d columns, at most %d: use a larger stride, fewer channels or a smaller image", h*v, l.Weights.Cols, outs, columns, exact.MaxCols))
	}
	if columns := int64(groups) * int64(h*v) * int64(l.Weights.Cols+2*outs); groups > 1 && columns > exact.MaxWidth {
		return fail(fmt.Errorf("quantise: %d groups need %d columns, at most %d: use fewer groups, or a smaller image", groups, columns, exact.MaxWidth))
	}
	if l.Bias != nil && len(l.Bias) != outs {
		return fail(fmt.Errorf("quantise: %d biases for %d channels", len(l.Bias), outs))
	}
	out := Image{outs, h, v, true}
	in, each := im.Channels/groups, outs/groups
	var parts []exact.Value
	for g := range groups {
		order := make([]int32, 0, h*v*in*area)
		for py := range h {
			for px := range v {
				for c := range in {
					order = w.patch(order, im, g*in+c, py, px)
				}
			}
		}
		own := Linear{Blocks: h * v, Weights: exact.Const{Rows: in * area, Cols: each, Data: make([]int32, in*area*each)}, Shift: l.Shift, Bits: l.Bits}
		for j := range each {
			for k := range in * area {
				own.Weights.Data[k*each+j] = l.Weights.Data[(g*each+j)*in*area+k]
			}
		}
		if l.Bias != nil {
			own.Bias = l.Bias[g*each : (g+1)*each]
		}
		y, err := own.Apply(p, Arrange(p, x, im.Columns(), order), most)
		if err != nil {
			return fail(err)
		}
		parts = append(parts, y)
	}
	if groups == 1 {
		return parts[0], out, nil
	}
	// Groups side by side in every place.
	var all exact.Value
	for g, y := range parts {
		order := slices.Repeat([]int32{-1}, out.Columns())
		for place := range h * v {
			for j := range each {
				order[place*outs+g*each+j] = int32(place*each + j)
			}
		}
		y = Arrange(p, y, h*v*each, order)
		if g == 0 {
			all = y
			continue
		}
		all = p.Op(exact.Add, []exact.Value{all, y}, nil)
	}
	return all, out, nil
}

// windows arranges x so that every element of the resulting image, in its
// order, has its window as a block of columns.
func (w Window) windows(im Image, pad func(block []int32) error) (order []int32, out Image, err error) {
	h, v, err := w.over(im)
	if err != nil {
		return nil, Image{}, err
	}
	out = Image{im.Channels, h, v, im.Last}
	area := w.Kernel[0] * w.Kernel[1]
	if n := int64(h*v*area) * int64(im.Channels); n > exact.MaxCols {
		return nil, Image{}, fmt.Errorf("quantise: pooling needs %d columns, at most %d: use a larger stride, fewer channels or a smaller image", n, exact.MaxCols)
	}
	order = make([]int32, out.Columns()*area)
	for c := range im.Channels {
		for py := range h {
			for px := range v {
				at := int(out.column(c, py, px)) * area
				block := w.patch(order[at:at:at+area], im, c, py, px)
				if err := pad(block); err != nil {
					return nil, Image{}, err
				}
			}
		}
	}
	return order, out, nil
}

var errNoPixel = errors.New("quantise: a window lies in the padding alone: use less padding")

// MaxPool emits the greatest element under the window, in each place and
// channel. Padding has no say.
func (w Window) MaxPool(p *exact.Program, x exact.Value, im Image) (exact.Value, Image, error) {
	order, out, err := w.windows(im, func(block []int32) error {
		// Any element of the image under the window may stand in.
		i := slices.IndexFunc(block, func(k int32) bool { return k >= 0 })
		if i < 0 {
			return errNoPixel
		}
		for j, k := range block {
			if k < 0 {
				block[j] = block[i]
			}
		}
		return nil
	})
	if err != nil {
		return 0, Image{}, err
	}
	return p.Op(exact.BlockMax, []exact.Value{Arrange(p, x, im.Columns(), order)}, nil, int64(out.Columns())), out, nil
}

// AveragePool emits the mean under the window, in each place and channel, at
// the scale of x, no element of which is greater than most in magnitude.
// Padding counts as zeros, or not at all.
func (w Window) AveragePool(p *exact.Program, x exact.Value, im Image, padded bool, most int64) (exact.Value, Image, error) {
	area := w.Kernel[0] * w.Kernel[1]
	var live []int // of each block, in the order of places of each channel
	order, out, err := w.windows(im, func(block []int32) error {
		n := 0
		for _, k := range block {
			if k >= 0 {
				n++
			}
		}
		if n == 0 && !padded {
			return errNoPixel
		}
		if padded {
			n = area
		}
		live = append(live, n)
		return nil
	})
	if err != nil {
		return 0, Image{}, err
	}
	if most < 1 || most >= exact.Limit/2/int64(area) {
		return 0, Image{}, fmt.Errorf("quantise: sums of %d elements of up to %d may reach 2^29: requantise to fewer bits first", area, most)
	}
	x = Arrange(p, x, im.Columns(), order)
	sum := p.Op(exact.BlockMatMul, []exact.Value{x}, []int{p.Const(area, 1, slices.Repeat([]int32{1}, area))}, int64(out.Columns()))
	// Divide by a power of two first, so that the factor 2^shift/n of what is
	// left can have as many bits as its product with the sum allows.
	least := int64(slices.Min(live))
	drop := bits.Len64(uint64(least - 1))
	scaled := int64(area)*most>>drop + 1
	mean := p.Op(exact.Requantise, []exact.Value{sum}, nil, int64(drop), widthOf(scaled))
	if !slices.ContainsFunc(live, func(n int) bool { return n != 1<<drop }) {
		return mean, out, nil
	}
	shift := 0
	for shift < 16 && scaled*(int64(1)<<(shift+1+drop)/least+1) < exact.Limit {
		shift++
	}
	factors := make([]int32, out.Columns())
	i := 0
	for c := range out.Channels {
		for y := range out.Height {
			for x := range out.Width {
				n := int64(live[i])
				i++
				factors[out.column(c, y, x)] = int32((int64(2)<<(shift+drop) + n) / (2 * n))
			}
		}
	}
	product := p.Op(exact.Multiply, []exact.Value{mean, Constant(p, mean, factors)}, nil)
	return p.Op(exact.Requantise, []exact.Value{product}, nil, int64(shift), widthOf(most)), out, nil
}

// widthOf is how many bits, with sign, hold every x of the magnitude.
func widthOf(most int64) int64 { return int64(bits.Len64(uint64(most)) + 1) }
