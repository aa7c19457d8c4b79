package session

import "slices"

// maxOnce is how many forms of one session may wait to be sent; older ones must
// be opened again.
const maxOnce = 256

// Once is a token for a form that moves money: Spend takes it one time, so that
// a form that is sent twice (a double click, a reload) pays once.
func (s *Session) Once() string {
	t := Token()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.once) >= maxOnce {
		s.once = slices.Delete(s.once, 0, 1)
	}
	s.once = append(s.once, hash(t))
	return t
}

// Spend reports whether a form's token is one of the session's that was not
// spent yet, and spends it.
func (s *Session) Spend(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.once, hash(token))
	if i < 0 {
		return false
	}
	s.once = slices.Delete(s.once, i, i+1)
	return true
}
