package koala

import "sync"

// Space is memory for slices that are needed one after the other, so that what
// one step of a proof has used the next uses again. A Space that is full, or nil,
// allocates; Reset makes it as large as was wanted. New and Take are safe for
// concurrent use.
type Space[E Elem | int32] struct {
	mu     sync.Mutex
	memory []E
	used   int // from the first on
	wanted int
	dirty  int // have been used before
}

// New returns n zeros, which are their caller's until Reset.
func (s *Space[E]) New(n int) []E {
	b, dirty := s.take(n)
	clear(b[:dirty])
	return b
}

// Take is New without the zeros: the slice holds anything.
func (s *Space[E]) Take(n int) []E {
	b, _ := s.take(n)
	return b
}

// take returns n elements of which the first dirty may not be zero.
func (s *Space[E]) take(n int) (b []E, dirty int) {
	if s == nil {
		return make([]E, n), 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted += padded(n)
	at, end := s.used, s.used+n
	if end > len(s.memory) {
		return make([]E, n), 0
	}
	s.used += padded(n)
	dirty = min(n, max(0, s.dirty-at))
	s.dirty = max(s.dirty, end)
	return s.memory[at:end:end], dirty
}

// Reset takes everything back.
func (s *Space[E]) Reset() {
	if s == nil {
		return
	}
	if s.wanted > len(s.memory) {
		s.memory, s.dirty = make([]E, s.wanted), 0
	}
	s.used, s.wanted = 0, 0
}

// padded is how many elements n take up: what comes next begins where registers
// do and, if there may be many as long, Apart.
func padded(n int) int {
	if n >= 1024 {
		n += Apart
	}
	return (n + 15) &^ 15
}

// Room is a Space for vectors. It may be nil.
type Room struct{ space Space[Elem] }

// NewRoom makes room for a vector of n elements.
func NewRoom(n int) *Room {
	return &Room{Space[Elem]{memory: make([]Elem, padded(3*stride(n)+n))}}
}

// stride is how far apart the coordinates of a vector of n elements are.
func stride(n int) int {
	if n >= 1024 {
		return n + 4*Apart
	}
	return n
}

// Elems is the room as space for base elements.
func (r *Room) Elems() *Space[Elem] {
	if r == nil {
		return nil
	}
	return &r.space
}

// New returns a vector of n zeros, which is its caller's until Reset.
func (r *Room) New(n int) Vec { return vecOf(r.Elems().New(3*stride(n)+n), n) }

// Take is New without the zeros: the vector holds anything.
func (r *Room) Take(n int) Vec { return vecOf(r.Elems().Take(3*stride(n)+n), n) }

// Reset takes all vectors back.
func (r *Room) Reset() { r.Elems().Reset() }
