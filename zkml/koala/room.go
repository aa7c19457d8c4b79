package koala

import "sync"

// Room is memory for vectors that are needed one after the other, so that what
// one step of a proof has used the next uses again. A Room that is full, or nil,
// allocates. New is safe for concurrent use.
type Room struct {
	mu     sync.Mutex
	memory Vec
	used   int
	dirty  int // elements that have been used before
}

// NewRoom makes room for n elements.
func NewRoom(n int) *Room { return &Room{memory: NewVec(n)} }

// Len is how many elements there is room for.
func (r *Room) Len() int { return r.memory.Len() }

// New returns a vector of n zeros, which is its caller's until Reset.
func (r *Room) New(n int) Vec {
	v, dirty := r.take(n)
	v.Slice(0, dirty).Clear()
	return v
}

// Take is New without the zeros: the vector holds anything.
func (r *Room) Take(n int) Vec {
	v, _ := r.take(n)
	return v
}

// take returns a vector of which the first dirty elements may not be zero.
func (r *Room) take(n int) (v Vec, dirty int) {
	if r == nil {
		return NewVec(n), 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.used
	if at+n > r.memory.Len() {
		return NewVec(n), 0
	}
	dirty = min(n, max(0, r.dirty-at))
	// Vectors begin where registers do.
	r.used = min((at+n+15)&^15, r.memory.Len())
	r.dirty = max(r.dirty, at+n)
	return r.memory.Slice(at, at+n), dirty
}

// Reset takes all vectors back.
func (r *Room) Reset() {
	if r != nil {
		r.used = 0
	}
}
