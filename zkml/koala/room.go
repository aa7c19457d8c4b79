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

// New returns a vector of n zeros, which is its caller's until Reset.
func (r *Room) New(n int) Vec {
	if r == nil {
		return NewVec(n)
	}
	r.mu.Lock()
	at, dirty := r.used, r.dirty
	if at+n > r.memory.Len() {
		r.mu.Unlock()
		return NewVec(n)
	}
	// Vectors begin where registers do.
	r.used = min((at+n+15)&^15, r.memory.Len())
	r.dirty = max(dirty, at+n)
	r.mu.Unlock()
	v := r.memory.Slice(at, at+n)
	if at < dirty {
		v.Slice(0, min(n, dirty-at)).Clear()
	}
	return v
}

// Reset takes all vectors back.
func (r *Room) Reset() {
	if r != nil {
		r.used = 0
	}
}
