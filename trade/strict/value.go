package strict

import (
	"bytes"
	"iter"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Value is a JSON value as it stands in what [Read] has checked, without space
// around it; nil where there is none. Its methods must not be used on other
// bytes.
type Value []byte

// Given reports whether there is a value, and not null.
func (v Value) Given() bool { return len(v) > 0 && v[0] != 'n' }

// Kind is the byte that tells what a value is: one of { [ " t f n, or 0 for a
// number. Of no value it is n.
func (v Value) Kind() byte {
	switch {
	case len(v) == 0:
		return 'n'
	case v[0] == '-', v[0] >= '0' && v[0] <= '9':
		return 0
	}
	return v[0]
}

// Text is what a string reads; ok is false for any other value.
func (v Value) Text() (text string, ok bool) {
	if v.Kind() != '"' {
		return "", false
	}
	in := v[1 : len(v)-1]
	if bytes.IndexByte(in, '\\') < 0 {
		return string(in), true
	}
	return string(appendPlain(make([]byte, 0, len(in)), in)), true
}

// AppendText appends what a string reads; nothing for any other value.
func (v Value) AppendText(to []byte) []byte {
	if v.Kind() != '"' {
		return to
	}
	return appendPlain(to, v[1:len(v)-1])
}

// Is reports whether a value is a string that reads so.
func (v Value) Is(text string) bool {
	if v.Kind() != '"' {
		return false
	}
	if in := v[1 : len(v)-1]; bytes.IndexByte(in, '\\') < 0 {
		return string(in) == text
	}
	got, _ := v.Text()
	return got == text
}

// Count is a whole number from 0 to 2^32-1, also where it is written 11.0, as
// some servers and clients do; ok is false for any other value.
func (v Value) Count() (n uint64, ok bool) {
	if v.Kind() != 0 {
		return 0, false
	}
	if n, err := strconv.ParseUint(string(v), 10, 32); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 0 || f > math.MaxUint32 || f != math.Trunc(f) {
		return 0, false
	}
	return uint64(f), true
}

// Elements are a list's, in order; of any other value there are none.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != '[' {
			return
		}
		for i := v.next(1); v[i] != ']'; i = v.next(i) {
			to := v.end(i)
			if !yield(v[i:to:to]) {
				return
			}
			i = to
		}
	}
}

// Members are an object's, in order; of any other value there are none. A name
// must not be changed or kept.
func (v Value) Members() iter.Seq2[[]byte, Value] {
	return func(yield func([]byte, Value) bool) {
		if v.Kind() != '{' {
			return
		}
		for i := v.next(1); v[i] != '}'; i = v.next(i) {
			to := v.end(i)
			name := []byte(v[i+1 : to-1])
			if bytes.IndexByte(name, '\\') >= 0 {
				name = appendPlain(nil, name)
			}
			from := v.next(to)
			to = v.end(from)
			if !yield(name, v[from:to:to]) {
				return
			}
			i = to
		}
	}
}

// Object is what an object has; empty for any other value.
func (v Value) Object() (o Object) {
	for n, m := range v.Members() {
		o = append(o, Member{string(n), m})
	}
	return o
}

// Get is the value of an object's member, nil where there is none.
func (v Value) Get(name string) Value {
	for n, m := range v.Members() {
		if string(n) == name {
			return m
		}
	}
	return nil
}

// Len is how many elements a list has.
func (v Value) Len() (n int) {
	for range v.Elements() {
		n++
	}
	return n
}

// Plain is how many bytes a value has when each escape is counted as what it
// stands for.
func (v Value) Plain() int {
	n := len(v)
	for i := 0; ; {
		at := bytes.IndexByte(v[i:], '\\')
		if at < 0 {
			return n
		}
		i += at
		if v[i+1] != 'u' {
			n, i = n-1, i+2
			continue
		}
		r, size := escaped(v[i:])
		n, i = n-size+utf8.RuneLen(r), i+size
	}
}

// next is where the next thing begins that is not space, a comma or a colon.
func (v Value) next(i int) int {
	for {
		switch v[i] {
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
		default:
			return i
		}
	}
}

// end is where the value ends that begins at i.
func (v Value) end(i int) int {
	depth := 0
	for {
		switch v[i] {
		case '"':
			i = v.quote(i + 1)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
			continue
		default:
			for i < len(v) && !ends[v[i]] {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// ends are the bytes that end a number or a word.
var ends = [256]bool{' ': true, '\t': true, '\r': true, '\n': true, ',': true, '}': true, ']': true}

// quote is what follows the end of a string whose inside holds i.
func (v Value) quote(i int) int {
	for {
		at := bytes.IndexByte(v[i:], '"')
		end := i + at
		slashes := 0
		for end-1-slashes >= i && v[end-1-slashes] == '\\' {
			slashes++
		}
		if i = end + 1; slashes%2 == 0 {
			return i
		}
	}
}

// escaped reads an escape's character, and how many bytes it took.
func escaped(b []byte) (r rune, size int) {
	switch c := b[1]; c {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r = hex4(b[2:])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(b[8:])); pair != utf8.RuneError {
				return pair, 12
			}
		}
		return utf8.RuneError, 6
	default:
		return rune(c), 2
	}
}

// appendPlain appends what the inside of a string reads.
func appendPlain(to, in []byte) []byte {
	for {
		at := bytes.IndexByte(in, '\\')
		if at < 0 {
			return append(to, in...)
		}
		r, size := escaped(in[at:])
		to = utf8.AppendRune(append(to, in[:at]...), r)
		in = in[at+size:]
	}
}

// AppendQuoted appends a JSON string that reads so. What is no UTF-8 in it
// becomes U+FFFD.
func AppendQuoted(to []byte, text string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			to = append(to, '\\', byte(r))
		case r < ' ':
			to = append(to, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			to = utf8.AppendRune(to, r)
		}
	}
	return append(to, '"')
}

// Quoted is the JSON string that reads so.
func Quoted(text string) Value { return AppendQuoted(nil, text) }

// Number is a whole number.
func Number(n uint64) Value { return strconv.AppendUint(nil, n, 10) }

// Bool is true or false.
func Bool(b bool) Value { return strconv.AppendBool(nil, b) }
