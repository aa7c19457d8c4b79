package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds on files. Memory for a file is at most a constant times its length.
const (
	MaxFile    = 1 << 28 // bytes
	maxNodes   = 1 << 14
	maxTensors = 1 << 14 // initializers
	maxPorts   = 1 << 12 // inputs or outputs of a node or graph
	maxAttrs   = 64      // attributes of a node
	maxName    = 1 << 10 // bytes of a name
	maxRank    = 8       // dimensions of a tensor
	maxDim     = 1 << 28
)

// Type is an element type, by its number in TensorProto.DataType.
type Type int32

// The element types that can be read. All floats are held as float32 and all
// others as int64.
const (
	Float    Type = 1
	Uint8    Type = 2
	Int8     Type = 3
	Uint16   Type = 4
	Int16    Type = 5
	Int32    Type = 6
	Int64    Type = 7
	String   Type = 8
	Bool     Type = 9
	Float16  Type = 10
	Double   Type = 11
	Uint32   Type = 12
	Uint64   Type = 13
	BFloat16 Type = 16
)

// IsFloat reports whether the elements are floating point.
func (t Type) IsFloat() bool { return t == Float || t == Float16 || t == Double || t == BFloat16 }

func (t Type) known() bool { return t.IsFloat() || t.isInt() }

func (t Type) isInt() bool {
	return t >= Uint8 && t <= Int64 || t == Bool || t == Uint32 || t == Uint64
}

// Tensor is a constant or a value: elements in row-major order, in F if the
// type is a float, else in I.
type Tensor struct {
	Name string
	Type Type
	Dims []int
	F    []float32
	I    []int64
}

// Len is the number of elements.
func (t *Tensor) Len() int { return count(t.Dims) }

func count(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// Attr is an attribute of a node; one of the fields is meant.
type Attr struct {
	Name    string
	Type    AttrType
	F       float32
	I       int64
	S       []byte
	T       *Tensor
	Floats  []float32
	Ints    []int64
	Strings [][]byte
}

// AttrType says which field of an attribute is meant, by the numbers of
// AttributeProto.AttributeType.
type AttrType int32

// The types of attributes that can be read.
const (
	AttrFloat   AttrType = 1
	AttrInt     AttrType = 2
	AttrString  AttrType = 3
	AttrTensor  AttrType = 4
	AttrGraph   AttrType = 5 // known, to be refused by name
	AttrFloats  AttrType = 6
	AttrInts    AttrType = 7
	AttrStrings AttrType = 8
)

// Node is an operator applied to named values.
type Node struct {
	Name, Op, Domain string
	In, Out          []string // an empty name is an operand left out
	Attrs            []Attr
}

// Dim is a dimension of an input: a size, or a name if it is free.
type Dim struct {
	Size int // -1 if free
	Name string
}

// Port is an input or output of the graph.
type Port struct {
	Name string
	Type Type // 0 if it is no tensor
	Dims []Dim
	// Shaped says that Dims are given.
	Shaped bool
}

// Model is what is read of a ModelProto.
type Model struct {
	IR       int64
	Producer string
	Opsets   map[string]int64 // by domain; "" is ai.onnx
	Name     string           // of the graph
	Nodes    []Node
	Consts   []Tensor
	Inputs   []Port
	Outputs  []Port
}

// wire types of protobuf.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

var errCut = errors.New("a field ends after the file does")

// fields calls f with each field of a message: its number, and either a
// number (varint, or the bits of a fixed width) or bytes.
func fields(b []byte, f func(num int, wire int, n uint64, p []byte) error) error {
	for len(b) > 0 {
		tag, k := binary.Uvarint(b)
		if k <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
			return errors.New("bad field tag")
		}
		b = b[k:]
		wire, n, p := int(tag&7), uint64(0), []byte(nil)
		switch wire {
		case wireVarint:
			n, k = binary.Uvarint(b)
			if k <= 0 {
				return errors.New("bad number")
			}
			b = b[k:]
		case wire64:
			if len(b) < 8 {
				return errCut
			}
			n, b = binary.LittleEndian.Uint64(b), b[8:]
		case wire32:
			if len(b) < 4 {
				return errCut
			}
			n, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case wireBytes:
			n, k = binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				return errCut
			}
			p, b = b[k:k+int(n):k+int(n)], b[k+int(n):]
		default:
			return fmt.Errorf("field of wire type %d", wire)
		}
		if err := f(int(tag>>3), wire, n, p); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads a ModelProto. Training information, functions, sparse tensors
// and external data are refused; descriptions are skipped.
func Decode(file []byte) (*Model, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("onnx: a file of %d bytes, at most %d", len(file), MaxFile)
	}
	m := &Model{Opsets: map[string]int64{}}
	seen := false
	err := fields(file, func(num, wire int, n uint64, p []byte) error {
		switch num {
		case 1:
			m.IR = int64(n)
		case 2:
			return name(&m.Producer, wire, p)
		case 7:
			if seen || wire != wireBytes {
				return errors.New("want one graph")
			}
			seen = true
			return m.graph(p)
		case 8:
			return m.opset(wire, p)
		case 20:
			return errors.New("it holds training information: export the network for inference")
		case 25:
			return errors.New("it defines functions of its own: export it with functions inlined")
		}
		return nil
	})
	if err == nil && !seen {
		err = errors.New("it holds no graph: not an ONNX model")
	}
	if err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	return m, nil
}

func name(s *string, wire int, p []byte) error {
	if wire != wireBytes || len(p) > maxName {
		return fmt.Errorf("a name of %d bytes, at most %d", len(p), maxName)
	}
	if *s = string(p); !Plain(*s) {
		return fmt.Errorf("the name %q: holds what is not printed as it stands, and could make a result look like another: rename it", *s)
	}
	return nil
}

// Plain reports whether a name of a file's, wherever it is printed, is one line
// that shows all of itself: no control or format characters, no other spaces
// than the plain one, and nothing that is no text.
func Plain(name string) bool {
	return utf8.ValidString(name) && len(name) <= maxName && strings.IndexFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) < 0
}

func (m *Model) opset(wire int, p []byte) error {
	if wire != wireBytes || len(m.Opsets) >= maxAttrs {
		return errors.New("bad or too many operator sets")
	}
	domain, version := "", int64(0)
	err := fields(p, func(num, wire int, n uint64, p []byte) error {
		switch num {
		case 1:
			return name(&domain, wire, p)
		case 2:
			version = int64(n)
		}
		return nil
	})
	if domain == "ai.onnx" {
		domain = ""
	}
	m.Opsets[domain] = version
	return err
}

func (m *Model) graph(b []byte) error {
	return fields(b, func(num, wire int, n uint64, p []byte) error {
		switch num {
		case 1, 5, 11, 12, 15:
			if wire != wireBytes {
				return fmt.Errorf("graph: field %d is no message", num)
			}
		}
		switch num {
		case 1:
			if len(m.Nodes) >= maxNodes {
				return fmt.Errorf("more than %d nodes", maxNodes)
			}
			node, err := readNode(p)
			if err != nil {
				return fmt.Errorf("node %d (%s %q): %w", len(m.Nodes), node.Op, node.Name, err)
			}
			m.Nodes = append(m.Nodes, node)
		case 2:
			return name(&m.Name, wire, p)
		case 5:
			if len(m.Consts) >= maxTensors {
				return fmt.Errorf("more than %d initializers", maxTensors)
			}
			t, err := readTensor(p)
			if err != nil {
				return fmt.Errorf("initializer %q: %w", t.Name, err)
			}
			m.Consts = append(m.Consts, t)
		case 11, 12:
			v, err := readPort(p)
			if err != nil {
				return fmt.Errorf("input or output %q: %w", v.Name, err)
			}
			to := &m.Inputs
			if num == 12 {
				to = &m.Outputs
			}
			if len(*to) >= maxPorts {
				return fmt.Errorf("more than %d inputs or outputs", maxPorts)
			}
			*to = append(*to, v)
		case 15:
			return errors.New("it has sparse initializers: export them dense")
		}
		return nil
	})
}

func readNode(b []byte) (Node, error) {
	var node Node
	err := fields(b, func(num, wire int, n uint64, p []byte) error {
		switch num {
		case 1, 2:
			to := &node.In
			if num == 2 {
				to = &node.Out
			}
			if len(*to) >= maxPorts {
				return fmt.Errorf("more than %d operands", maxPorts)
			}
			var s string
			err := name(&s, wire, p)
			*to = append(*to, s)
			return err
		case 3:
			return name(&node.Name, wire, p)
		case 4:
			return name(&node.Op, wire, p)
		case 5:
			if wire != wireBytes || len(node.Attrs) >= maxAttrs {
				return fmt.Errorf("bad or more than %d attributes", maxAttrs)
			}
			a, err := readAttr(p)
			if err != nil {
				return fmt.Errorf("attribute %q: %w", a.Name, err)
			}
			node.Attrs = append(node.Attrs, a)
		case 7:
			err := name(&node.Domain, wire, p)
			if node.Domain == "ai.onnx" {
				node.Domain = ""
			}
			return err
		}
		return nil
	})
	return node, err
}

func readAttr(b []byte) (Attr, error) {
	var a Attr
	given := AttrType(0) // of files that predate the type field
	err := fields(b, func(num, wire int, n uint64, p []byte) error {
		var err error
		switch num {
		case 1:
			return name(&a.Name, wire, p)
		case 2:
			a.F, given = math.Float32frombits(uint32(n)), AttrFloat
		case 3:
			a.I, given = int64(n), AttrInt
		case 4:
			if wire != wireBytes {
				return errors.New("string is no bytes")
			}
			a.S, given = slices.Clone(p), AttrString
		case 5:
			if wire != wireBytes || a.T != nil {
				return errors.New("want one tensor")
			}
			var t Tensor
			t, err = readTensor(p)
			a.T, given = &t, AttrTensor
		case 6, 11:
			given = AttrGraph
		case 7:
			a.Floats, err = repeated(a.Floats, wire, wire32, n, p, func(n uint64) float32 { return math.Float32frombits(uint32(n)) })
			given = AttrFloats
		case 8:
			a.Ints, err = repeated(a.Ints, wire, wireVarint, n, p, func(n uint64) int64 { return int64(n) })
			given = AttrInts
		case 9:
			if wire != wireBytes {
				return errors.New("string is no bytes")
			}
			a.Strings, given = append(a.Strings, slices.Clone(p)), AttrStrings
		case 20:
			a.Type = AttrType(n)
		}
		return err
	})
	if a.Type == 0 {
		a.Type = given
	}
	return a, err
}

// repeated reads an element, or several packed, of a repeated number.
func repeated[T any](v []T, wire, elem int, n uint64, p []byte, conv func(uint64) T) ([]T, error) {
	if wire == elem {
		return append(v, conv(n)), nil
	}
	if wire != wireBytes {
		return v, errors.New("numbers of the wrong wire type")
	}
	for len(p) > 0 {
		switch elem {
		case wireVarint:
			x, k := binary.Uvarint(p)
			if k <= 0 {
				return v, errors.New("bad number")
			}
			v, p = append(v, conv(x)), p[k:]
		case wire32:
			if len(p) < 4 {
				return v, errCut
			}
			v, p = append(v, conv(uint64(binary.LittleEndian.Uint32(p)))), p[4:]
		default:
			if len(p) < 8 {
				return v, errCut
			}
			v, p = append(v, conv(binary.LittleEndian.Uint64(p))), p[8:]
		}
	}
	return v, nil
}

func readTensor(b []byte) (Tensor, error) {
	var t Tensor
	var dims, ints []int64
	var floats []float32
	var raw []byte
	hasRaw := false
	err := fields(b, func(num, wire int, n uint64, p []byte) error {
		var err error
		switch num {
		case 1:
			if dims, err = repeated(dims, wire, wireVarint, n, p, func(n uint64) int64 { return int64(n) }); err == nil && len(dims) > maxRank {
				err = fmt.Errorf("more than %d dimensions", maxRank)
			}
		case 2:
			t.Type = Type(n)
		case 3:
			err = errors.New("it comes in segments")
		case 4:
			floats, err = repeated(floats, wire, wire32, n, p, func(n uint64) float32 { return math.Float32frombits(uint32(n)) })
		case 5, 7, 11:
			ints, err = repeated(ints, wire, wireVarint, n, p, func(n uint64) int64 { return int64(n) })
		case 8:
			err = name(&t.Name, wire, p)
		case 9:
			if wire != wireBytes {
				return errors.New("raw data is no bytes")
			}
			raw, hasRaw = p, true
		case 10:
			floats, err = repeated(floats, wire, wire64, n, p, func(n uint64) float32 { return float32(math.Float64frombits(n)) })
		case 13:
			err = errors.New("its data is in another file: export with all weights inside (save_as_external_data off)")
		case 14:
			if n != 0 {
				err = errors.New("its data is in another file: export with all weights inside (save_as_external_data off)")
			}
		}
		return err
	})
	if err != nil {
		return t, err
	}
	if !t.Type.known() {
		return t, fmt.Errorf("elements of type %d, want floats, integers or booleans", t.Type)
	}
	if t.Dims, err = sizes(dims); err != nil {
		return t, err
	}
	want := t.Len()
	if hasRaw {
		if floats, ints, err = unpack(t.Type, raw); err != nil {
			return t, err
		}
	} else if t.Type == Float16 || t.Type == BFloat16 {
		for _, x := range ints {
			floats = append(floats, half(t.Type, uint16(x)))
		}
		ints = nil
	}
	t.F, t.I = floats, ints
	if t.Type.IsFloat() && (len(floats) != want || len(ints) != 0) || t.Type.isInt() && (len(ints) != want || len(floats) != 0) {
		return t, fmt.Errorf("%d elements for dimensions %v", len(floats)+len(ints), t.Dims)
	}
	switch t.Type { // the value is what counts from here on
	case Float16, Double, BFloat16:
		t.Type = Float
	}
	return t, nil
}

// sizes checks dimensions and that their product is bounded.
func sizes(dims []int64) ([]int, error) {
	out := make([]int, len(dims))
	n := int64(1)
	for i, d := range dims {
		if d < 0 || d > maxDim {
			return nil, fmt.Errorf("dimension %d, want 0 to %d", d, maxDim)
		}
		if n *= d; n > maxDim {
			return nil, fmt.Errorf("dimensions %v: more than %d elements", dims, maxDim)
		}
		out[i] = int(d)
	}
	return out, nil
}

// unpack reads raw data, little-endian.
func unpack(t Type, raw []byte) ([]float32, []int64, error) {
	width := map[Type]int{Float: 4, Uint8: 1, Int8: 1, Uint16: 2, Int16: 2, Int32: 4, Int64: 8, Bool: 1, Float16: 2, Double: 8, Uint32: 4, Uint64: 8, BFloat16: 2}[t]
	if len(raw)%width != 0 {
		return nil, nil, fmt.Errorf("%d bytes of elements with %d bytes each", len(raw), width)
	}
	n := len(raw) / width
	le := binary.LittleEndian
	if t.IsFloat() {
		out := make([]float32, n)
		for i := range out {
			switch t {
			case Float:
				out[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
			case Double:
				out[i] = float32(math.Float64frombits(le.Uint64(raw[8*i:])))
			default:
				out[i] = half(t, le.Uint16(raw[2*i:]))
			}
		}
		return out, nil, nil
	}
	out := make([]int64, n)
	for i := range out {
		switch t {
		case Uint8, Bool:
			out[i] = int64(raw[i])
		case Int8:
			out[i] = int64(int8(raw[i]))
		case Uint16:
			out[i] = int64(le.Uint16(raw[2*i:]))
		case Int16:
			out[i] = int64(int16(le.Uint16(raw[2*i:])))
		case Int32:
			out[i] = int64(int32(le.Uint32(raw[4*i:])))
		case Uint32:
			out[i] = int64(le.Uint32(raw[4*i:]))
		default:
			out[i] = int64(le.Uint64(raw[8*i:]))
		}
	}
	return nil, out, nil
}

// half widens a 16-bit float.
func half(t Type, x uint16) float32 {
	if t == BFloat16 {
		return math.Float32frombits(uint32(x) << 16)
	}
	sign, exp, frac := 1.0, int(x>>10&31), float64(x&1023)
	if x>>15 == 1 {
		sign = -1
	}
	switch exp {
	case 0:
		return float32(sign * math.Ldexp(frac, -24))
	case 31:
		if frac != 0 {
			return float32(math.NaN())
		}
		return float32(math.Inf(int(sign)))
	}
	return float32(sign * math.Ldexp(1024+frac, exp-25))
}

func readPort(b []byte) (Port, error) {
	var v Port
	return v, fields(b, func(num, wire int, n uint64, p []byte) error {
		switch num {
		case 1:
			return name(&v.Name, wire, p)
		case 2: // TypeProto
			return fields(p, func(num, wire int, n uint64, p []byte) error {
				if num != 1 { // a sequence, a map, ...
					return nil
				}
				return fields(p, func(num, wire int, n uint64, p []byte) error {
					switch num {
					case 1:
						v.Type = Type(n)
					case 2:
						v.Shaped = true
						return fields(p, func(num, wire int, n uint64, p []byte) error {
							if num != 1 {
								return nil
							}
							if len(v.Dims) >= maxRank {
								return fmt.Errorf("more than %d dimensions", maxRank)
							}
							d := Dim{Size: -1}
							err := fields(p, func(num, wire int, n uint64, p []byte) error {
								switch num {
								case 1:
									// Some exporters write 0 or -1 for a free dimension.
									if d.Size = -1; int64(n) > 0 && int64(n) <= maxDim {
										d.Size = int(n)
									}
								case 2:
									return name(&d.Name, wire, p)
								}
								return nil
							})
							v.Dims = append(v.Dims, d)
							return err
						})
					}
					return nil
				})
			})
		}
		return nil
	})
}

// Encode writes a ModelProto. Decode reads it back.
func Encode(m *Model) []byte {
	var g []byte
	for _, n := range m.Nodes {
		g = message(g, 1, n.append(nil))
	}
	g = message(g, 2, []byte(m.Name))
	for _, t := range m.Consts {
		g = message(g, 5, t.append(nil))
	}
	for _, p := range m.Inputs {
		g = message(g, 11, p.append(nil))
	}
	for _, p := range m.Outputs {
		g = message(g, 12, p.append(nil))
	}
	b := varint(nil, 1, uint64(m.IR))
	b = message(b, 2, []byte(m.Producer))
	b = message(b, 7, g)
	domains := make([]string, 0, len(m.Opsets))
	for d := range m.Opsets {
		domains = append(domains, d)
	}
	slices.Sort(domains)
	for _, d := range domains {
		b = message(b, 8, varint(message(nil, 1, []byte(d)), 2, uint64(m.Opsets[d])))
	}
	return b
}

func varint(b []byte, num int, x uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(num)<<3|wireVarint), x)
}

func message(b []byte, num int, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|wireBytes)
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func fixed32(b []byte, num int, f float32) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|wire32)
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
}

func (n Node) append(b []byte) []byte {
	for _, s := range n.In {
		b = message(b, 1, []byte(s))
	}
	for _, s := range n.Out {
		b = message(b, 2, []byte(s))
	}
	b = message(b, 3, []byte(n.Name))
	b = message(b, 4, []byte(n.Op))
	for _, a := range n.Attrs {
		b = message(b, 5, a.append(nil))
	}
	return message(b, 7, []byte(n.Domain))
}

func (a Attr) append(b []byte) []byte {
	b = message(b, 1, []byte(a.Name))
	switch a.Type {
	case AttrFloat:
		b = fixed32(b, 2, a.F)
	case AttrInt:
		b = varint(b, 3, uint64(a.I))
	case AttrString:
		b = message(b, 4, a.S)
	case AttrTensor:
		b = message(b, 5, a.T.append(nil))
	case AttrFloats:
		var p []byte
		for _, f := range a.Floats {
			p = binary.LittleEndian.AppendUint32(p, math.Float32bits(f))
		}
		b = message(b, 7, p)
	case AttrInts:
		var p []byte
		for _, x := range a.Ints {
			p = binary.AppendUvarint(p, uint64(x))
		}
		b = message(b, 8, p)
	case AttrStrings:
		for _, s := range a.Strings {
			b = message(b, 9, s)
		}
	}
	return varint(b, 20, uint64(a.Type))
}

// append writes floats, 64-bit integers and booleans, the types that there
// are after reading and in graphs made here; other integers as int64.
func (t Tensor) append(b []byte) []byte {
	for _, d := range t.Dims {
		b = varint(b, 1, uint64(d))
	}
	le := binary.LittleEndian
	var raw []byte
	kind := t.Type
	switch {
	case t.Type == Float:
		for _, f := range t.F {
			raw = le.AppendUint32(raw, math.Float32bits(f))
		}
	case t.Type == Bool:
		for _, x := range t.I {
			raw = append(raw, byte(x))
		}
	case t.Type == Int32:
		for _, x := range t.I {
			raw = le.AppendUint32(raw, uint32(x))
		}
	default:
		kind = Int64
		for _, x := range t.I {
			raw = le.AppendUint64(raw, uint64(x))
		}
	}
	b = varint(b, 2, uint64(kind))
	b = message(b, 8, []byte(t.Name))
	return message(b, 9, raw)
}

func (v Port) append(b []byte) []byte {
	var shape []byte
	for _, d := range v.Dims {
		var dim []byte
		if d.Size >= 0 {
			dim = varint(dim, 1, uint64(d.Size))
		} else {
			dim = message(dim, 2, []byte(d.Name))
		}
		shape = message(shape, 1, dim)
	}
	tensor := varint(nil, 1, uint64(v.Type))
	if v.Shaped {
		tensor = message(tensor, 2, shape)
	}
	b = message(b, 1, []byte(v.Name))
	return message(b, 2, message(nil, 1, tensor))
}
