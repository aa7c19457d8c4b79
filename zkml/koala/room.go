package koala

import "sync"

// Room is memory for vectors that are needed one after the other, so that what
// one step of a proof has used the next uses again. A Room that is full, or nil,
// allocates; Reset makes it as large as was wanted. Taking is safe for concurrent
// use.
type Room struct {
	mu     sync.Mutex
	memory []Elem
	used   int // elements from the first on
	wanted int
	dirty  int // elements that have been used before
}

// NewRoom makes room for a vector of n elements.
func NewRoom(n int) *Room { return &Room{memory: make([]Elem, padded(3*stride(n)+n))} }

// stride is how far apart the coordinates of a vector of n elements are.
func stride(n int) int {
	if n >= 1024 {
		return n + 4*Apart
	}
	return n
}

// padded is how many elements n take up: what comes next begins where registers
// do and, if there may be many as long, Apart.
func padded(n int) int {
	if n >= 1024 {
		n += Apart
	}
	return (n + 15) &^ 15
}

// New returns a vector of n zeros, which is its caller's until Reset.
func (r *Room) New(n int) Vec {
	b, dirty := r.take(3*stride(n) + n)
	clear(b[:dirty])
	return vecOf(b, n)
}

// Take is New without the zeros: the vector holds anything.
func (r *Room) Take(n int) Vec {
	b, _ := r.take(3*stride(n) + n)
	return vecOf(b, n)
}

// NewElems is New for base elements.
func (r *Room) NewElems(n int) []Elem {
	b, dirty := r.take(n)
	clear(b[:dirty])
	return b
}

// TakeElems is Take for base elements.
func (r *Room) TakeElems(n int) []Elem {
	b, _ := r.take(n)
	return b
}

// take returns n elements of which the first dirty may not be zero.
func (r *Room) take(n int) (b []Elem, dirty int) {
	if r == nil {
		return make([]Elem, n), 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted += padded(n)
	at, end := r.used, r.used+n
	if end > len(r.memory) {
		return make([]Elem, n), 0
	}
	r.used += padded(n)
	dirty = min(n, max(0, r.dirty-at))
	r.dirty = max(r.dirty, end)
	return r.memory[at:end:end], dirty
}

// Reset takes all vectors back.
func (r *Room) Reset() {
	if r == nil {
		return
	}
	if r.wanted > len(r.memory) {
		r.memory, r.dirty = make([]Elem, r.wanted), 0
	}
	r.used, r.wanted = 0, 0
}
