package client

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Who is turned away for coming too often asks again, with the same body.
func TestPatient(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 {
			http.Error(w, "too many requests from this address", http.StatusTooManyRequests)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	defer s.Close()
	c := http.Client{Transport: patient{http.DefaultTransport}}
	res, err := c.Post(s.URL, "application/json", strings.NewReader("a question"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != "a question" || asked != 3 {
		t.Errorf("asked %d times: %q, %v", asked, got, err)
	}
}
