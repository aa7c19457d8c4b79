package exact

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The encoding of a program, little-endian, fixed width:
//
//	rows u32
//	number of constants u32, each: bytes an element u8 (1, 2 or 4, the fewest
//	  that hold all its elements), rows u32, columns u32, elements (two's
//	  complement)
//	number of operations u32, each: kind u8, inputs u32 each, constants u32
//	  each, parameters i64 each (as many as the kind has)
//	number of outputs u32, each u32

func (p *Program) append(b []byte) []byte {
	le := binary.LittleEndian
	u32 := func(x int) { b = le.AppendUint32(b, uint32(x)) }
	u32(p.Rows)
	u32(len(p.Consts))
	for _, c := range p.Consts {
		w := c.width()
		b = append(b, byte(w))
		u32(c.Rows)
		u32(c.Cols)
		for _, x := range c.Data {
			switch w {
			case 1:
				b = append(b, byte(x))
			case 2:
				b = le.AppendUint16(b, uint16(x))
			default:
				b = le.AppendUint32(b, uint32(x))
			}
		}
	}
	u32(len(p.Ops))
	for _, op := range p.Ops {
		b = append(b, byte(op.Kind))
		for _, v := range op.In {
			u32(int(v))
		}
		for _, c := range op.Consts {
			u32(c)
		}
		for _, x := range op.Params {
			b = le.AppendUint64(b, uint64(x))
		}
	}
	u32(len(p.Outputs))
	for _, v := range p.Outputs {
		u32(int(v))
	}
	return b
}

// width is the fewest bytes that hold every element.
func (c Const) width() int {
	r := rangeOf(c.Data)
	switch {
	case r.Lo >= math.MinInt8 && r.Hi <= math.MaxInt8:
		return 1
	case r.Lo >= math.MinInt16 && r.Hi <= math.MaxInt16:
		return 2
	}
	return 4
}

// reader takes fields off the front of a slice; after the first failure every
// field is zero.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.b) {
		r.failed = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() int {
	if b := r.take(4); b != nil {
		return int(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

var errCut = errors.New("exact: encoding ends early")

// program reads one program; every allocation is backed by bytes present.
func (r *reader) program() (*Program, error) {
	p := &Program{Rows: r.u32()}
	n := r.u32()
	if n > MaxConsts {
		return nil, fmt.Errorf("exact: %d constants", n)
	}
	for range n {
		w := int(r.u8())
		c := Const{Rows: r.u32(), Cols: r.u32()}
		if r.failed {
			return nil, errCut
		}
		if w != 1 && w != 2 && w != 4 {
			return nil, fmt.Errorf("exact: %d bytes an element", w)
		}
		if c.Rows < 1 || c.Cols < 1 || c.Rows > len(r.b) || c.Cols > len(r.b) || c.Rows > len(r.b)/w/c.Cols {
			return nil, errCut
		}
		c.Data = make([]int32, c.Rows*c.Cols)
		src := r.take(len(c.Data) * w)
		for i := range c.Data {
			switch w {
			case 1:
				c.Data[i] = int32(int8(src[i]))
			case 2:
				c.Data[i] = int32(int16(binary.LittleEndian.Uint16(src[2*i:])))
			default:
				c.Data[i] = int32(binary.LittleEndian.Uint32(src[4*i:]))
			}
		}
		if c.width() != w {
			return nil, errors.New("exact: constant is stored wider than it needs")
		}
		p.Consts = append(p.Consts, c)
	}
	n = r.u32()
	if n > MaxOps {
		return nil, fmt.Errorf("exact: %d operations", n)
	}
	for range n {
		op := Op{Kind: Kind(r.u8())}
		if r.failed {
			return nil, errCut
		}
		if op.Kind == 0 || op.Kind >= kinds {
			return nil, fmt.Errorf("exact: unknown kind of operation %d", op.Kind)
		}
		sig := signatures[op.Kind]
		for range sig.ins {
			op.In = append(op.In, Value(r.u32()))
		}
		for range sig.consts {
			op.Consts = append(op.Consts, r.u32())
		}
		for range sig.params {
			op.Params = append(op.Params, int64(r.u64()))
		}
		p.Ops = append(p.Ops, op)
	}
	n = r.u32()
	if n > 16 {
		return nil, fmt.Errorf("exact: %d outputs", n)
	}
	for range n {
		p.Outputs = append(p.Outputs, Value(r.u32()))
	}
	if r.failed {
		return nil, errCut
	}
	return p, nil
}
