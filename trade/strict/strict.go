// Package strict reads JSON that more than one program will read, so that all of
// them read the same. What is priced, checked, signed, forwarded and recorded of
// a request is then one thing, whoever wrote the server behind.
//
// [Read] takes RFC 8259 and no more. It refuses what readers are known to differ
// on: a name that stands in an object twice (some take the first, some the last),
// names of the outermost object that differ by case alone (Go's own reader takes
// one for the other), bytes that are no UTF-8, half a surrogate pair, nesting
// deeper than [MaxDepth]. It reads once and copies nothing: values are parts of
// what was read, and what it has checked is walked without another check.
package strict

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/torg-network/torg/square"
)

const (
	// MaxDepth bounds how deep objects and lists nest.
	MaxDepth = 128
	// MaxMembers bounds the members of the outermost object.
	MaxMembers = 256
)

// Error says what cannot be read, and at which byte.
type Error struct {
	At  int
	Why string
}

func (e *Error) Error() string { return fmt.Sprintf("%s, at byte %d", e.Why, e.At) }

// Object is what the outermost object has, in its order.
type Object []Member

// Member is a name, without escapes, and its value.
type Member struct {
	Name  string
	Value Value
}

// Get is the value of a member, nil where there is none.
func (o Object) Get(name string) Value {
	for i := range o {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

// Without is the object without some members.
func (o Object) Without(names ...string) (out Object) {
	for _, m := range o {
		if !slices.Contains(names, m.Name) {
			out = append(out, m)
		}
	}
	return out
}

// With writes the object with some members set: in their place where they are
// there, else at the end; a nil value takes the member away. Everything else is
// written as it was read. The names in set differ.
func (o Object) With(set ...Member) []byte {
	n := 2
	for _, list := range [...][]Member{o, set} {
		for _, m := range list {
			n += len(m.Name) + len(m.Value) + 4
		}
	}
	b := append(make([]byte, 0, n), '{')
	add := func(name string, v Value) {
		if v == nil {
			return
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(AppendQuoted(b, name), ':'), v...)
	}
	for _, m := range o {
		v := m.Value
		for i := range set {
			if set[i].Name == m.Name {
				v = set[i].Value
			}
		}
		add(m.Name, v)
	}
	for _, m := range set {
		if o.Get(m.Name) == nil {
			add(m.Name, m.Value)
		}
	}
	return append(b, '}')
}

// Read reads a JSON object. The values are parts of b.
func Read(b []byte) (Object, error) { return read(b, false) }

// ReadAnswer is Read for what a server has written: halves of surrogate pairs,
// which some stream apart, read as U+FFFD.
func ReadAnswer(b []byte) (Object, error) { return read(b, true) }

func read(b []byte, halves bool) (Object, error) {
	s := spare.Get().(*scanner)
	defer func() {
		if cap(s.names) > 1<<10 || cap(s.top) > 1<<6 {
			return // of a monster
		}
		clear(s.names[:cap(s.names)])
		clear(s.top[:cap(s.top)])
		*s = scanner{names: s.names[:0], top: s.top[:0]}
		spare.Put(s)
	}()
	s.b, s.halves = b, halves
	s.space()
	if s.i == len(b) || b[s.i] != '{' {
		return nil, s.fail(s.i, "want a JSON object")
	}
	if err := s.value(0); err != nil {
		return nil, err
	}
	if s.space(); s.i < len(b) {
		return nil, s.fail(s.i, "not JSON: want nothing after the object")
	}
	out := slices.Clone(s.top) // as large as it is, and no larger
	for i, m := range out {
		for _, other := range out[:i] {
			if strings.EqualFold(m.Name, other.Name) {
				return nil, s.fail(0, "%q and %q differ by case alone, and some take one for the other; send one", square.Clip(other.Name, 80), square.Clip(m.Name, 80))
			}
		}
	}
	return out, nil
}

// scanner goes through JSON once. names are those of the objects it is inside
// of, the innermost's last.
type scanner struct {
	b      []byte
	i      int
	halves bool // of surrogate pairs may stand alone
	names  []span
	top    Object
}

// spare are scanners that are not in use.
var spare = sync.Pool{New: func() any { return &scanner{names: make([]span, 0, 64), top: make(Object, 0, 16)} }}

// span is a name's bytes between its quotes, or what they stand for.
type span struct {
	from, to int
	plain    string // where the bytes have escapes
}

func (s *scanner) fail(at int, format string, args ...any) error {
	return &Error{at, fmt.Sprintf(format, args...)}
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// at reports whether the next byte is c, and takes it.
func (s *scanner) at(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) value(depth int) error {
	s.space()
	if s.i == len(s.b) {
		return s.fail(s.i, "not JSON: it ends too early")
	}
	switch c := s.b[s.i]; c {
	case '{', '[':
		if depth == MaxDepth {
			return s.fail(s.i, "it nests deeper than %d", MaxDepth)
		}
		s.i++
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.list(depth + 1)
	case '"':
		_, err := s.text()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) list(depth int) error {
	if s.at(']') {
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		if s.at(']') {
			return nil
		}
		if !s.at(',') {
			return s.fail(s.i, "not JSON: want , or ] in a list")
		}
	}
}

// few is up to how many names are compared one by one.
const few = 24

func (s *scanner) object(depth int) error {
	first := len(s.names)
	defer func() { s.names = s.names[:first] }()
	if s.at('}') {
		return nil
	}
	var many map[string]struct{}
	for {
		s.space()
		at := s.i
		if s.i == len(s.b) || s.b[s.i] != '"' {
			return s.fail(s.i, "not JSON: want a member's name")
		}
		escaped, err := s.text()
		if err != nil {
			return err
		}
		name := span{from: at + 1, to: s.i - 1}
		if escaped {
			name.plain = string(appendPlain(nil, s.b[name.from:name.to]))
		}
		twice := false
		if many == nil {
			twice = s.has(s.names[first:], name)
			if s.names = append(s.names, name); len(s.names)-first > few {
				many = make(map[string]struct{}, 4*few)
				for _, n := range s.names[first:] {
					many[string(s.name(n))] = struct{}{}
				}
			}
		} else {
			n := len(many)
			many[string(s.name(name))] = struct{}{}
			twice = len(many) == n
		}
		if twice {
			return s.fail(at, "%q stands there twice; send it once", square.Clip(string(s.name(name)), 80))
		}
		if !s.at(':') {
			return s.fail(s.i, "not JSON: want : after a member's name")
		}
		s.space()
		from := s.i
		if err := s.value(depth); err != nil {
			return err
		}
		if depth == 1 {
			if len(s.top) == MaxMembers {
				return s.fail(at, "it has more than %d members", MaxMembers)
			}
			s.top = append(s.top, Member{intern(s.name(name)), Value(s.b[from:s.i:s.i])})
		}
		if s.at('}') {
			return nil
		}
		if !s.at(',') {
			return s.fail(s.i, "not JSON: want , or } in an object")
		}
	}
}

// usual are names that nearly all requests and answers have, so that they need not
// be copied.
var usual = func() map[string]string {
	m := map[string]string{}
	for _, n := range strings.Fields("id object created model choices usage system_fingerprint messages prompt input stream stream_options " +
		"max_tokens max_completion_tokens temperature top_p n stop seed tools tool_choice response_format provider data error") {
		m[n] = n
	}
	return m
}()

func intern(name []byte) string {
	if s, ok := usual[string(name)]; ok {
		return s
	}
	return string(name)
}

func (s *scanner) name(n span) []byte {
	if n.plain != "" {
		return []byte(n.plain)
	}
	return s.b[n.from:n.to]
}

// has reports whether a name is among others.
func (s *scanner) has(names []span, name span) bool {
	for _, n := range names {
		if n.plain == "" && name.plain == "" {
			if n.to-n.from == name.to-name.from && bytes.Equal(s.b[n.from:n.to], s.b[name.from:name.to]) {
				return true
			}
		} else if bytes.Equal(s.name(n), s.name(name)) {
			return true
		}
	}
	return false
}

// text takes a string, and reports whether it has escapes.
func (s *scanner) text() (escaped bool, err error) {
	from := s.i
	s.i++
	ascii := true
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			if !ascii && !utf8.Valid(s.b[from+1:s.i]) {
				return false, s.fail(from, "a string is not UTF-8")
			}
			s.i++
			return escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return false, err
			}
		case c < ' ':
			return false, s.fail(s.i, "not JSON: a string has the control character %#02x, which must be escaped", c)
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.i++
		}
	}
	return false, s.fail(s.i, "not JSON: it ends in a string")
}

// escape takes a backslash and what follows it.
func (s *scanner) escape() error {
	at := s.i
	if s.i+1 < len(s.b) {
		switch s.b[s.i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.i += 2
			return nil
		case 'u':
			r := hex4(s.b[s.i+2:])
			if s.i += 6; r < 0 {
				break
			}
			if r < 0xd800 || r > 0xdfff {
				return nil
			}
			if _, size := escaped(s.b[at:]); size == 12 || s.halves {
				s.i = at + size
				return nil
			}
			return s.fail(at, "a string has half a surrogate pair (\\u%04x), which is no character; send whole ones", r)
		}
	}
	return s.fail(at, "not JSON: a string has an unknown escape")
}

// hex4 is the number that four hexadecimal digits write; negative if none.
func hex4(b []byte) (r rune) {
	if len(b) < 4 {
		return -1
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func (s *scanner) word(w string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return s.fail(s.i, "not JSON: want a value")
	}
	s.i += len(w)
	return nil
}

func (s *scanner) number() error {
	at := s.i
	digits := func() bool {
		from := s.i
		for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
			s.i++
		}
		return s.i > from
	}
	one := func(set string) bool {
		if s.i < len(s.b) && strings.IndexByte(set, s.b[s.i]) >= 0 {
			s.i++
			return true
		}
		return false
	}
	one("-")
	if !one("0") && !digits() {
		return s.fail(at, "not JSON: want a value")
	}
	if one(".") && !digits() {
		return s.fail(at, "not JSON: a number has no digits after its point")
	}
	if one("eE") {
		if one("+-"); !digits() {
			return s.fail(at, "not JSON: a number has no digits in its exponent")
		}
	}
	return nil
}
