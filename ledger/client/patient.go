package client

import (
	"net/http"
	"time"
)

// A node answers one address so many questions a second. patience bounds how long
// one that was turned away waits and asks again.
const (
	patience = 10 * time.Second
	pause    = 100 * time.Millisecond
)

// Patient is a transport to a node that asks again what was turned away for coming
// too often.
func Patient(over http.RoundTripper) http.RoundTripper { return patient{over} }

// patient asks again what was turned away for coming too often. Nothing of such a
// request was carried out.
type patient struct{ http.RoundTripper }

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for end := time.Now().Add(patience); ; {
		res, err := p.RoundTripper.RoundTrip(r)
		if err != nil || res.StatusCode != http.StatusTooManyRequests || r.GetBody == nil || time.Now().After(end) {
			return res, err
		}
		res.Body.Close()
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(pause):
		}
		again := r.Clone(r.Context())
		if again.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
		r = again
	}
}
