package keys

import "fmt"

// PlacesError says that the key has as many requests running as it may now.
type PlacesError struct{ Inside int }

func (e *PlacesError) Error() string {
	return fmt.Sprintf("this key has %d requests running here, and the places that are left are for other keys; try again when one has ended", e.Inside)
}

// Enter admits a request by its key alone, before anything else of it is read:
// it counts against the key's rate, whatever comes of it, and against the
// places that the key may hold at once. Those are as many as are free, after
// this request: one key can take half of all places, two take a third each, and
// some are always left for the next. The caller must leave.
func (s *Store) Enter(secret string, free int) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	a, err := s.find(secret)
	if err != nil {
		return nil, err
	}
	if wait := a.requests.wait(s.now(), a.Requests, 1); wait > 0 {
		return nil, &RateError{What: "requests", Limit: a.Requests, After: wait}
	}
	if a.inside > free {
		return nil, &PlacesError{Inside: a.inside}
	}
	a.requests.take(1)
	a.inside++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		a.inside--
	}, nil
}
