package openai

import (
	"net/http"
	"sync"
	"time"
)

// stream writes server-sent events. It sends its header with the first event,
// so that a failure before it is a proper HTTP error, and a comment whenever
// the line has been silent for a while, so that proxies keep it open.
type stream struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	silence time.Duration
	patient time.Duration // how long one write may take

	mu     sync.Mutex
	timer  *time.Timer
	buf    []byte
	began  bool
	closed bool
	err    error // the first failed write: the client is gone
}

func newStream(w http.ResponseWriter, silence, patient time.Duration) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w), silence: silence, patient: patient}
	s.mu.Lock()
	s.timer = time.AfterFunc(silence, s.keepAlive)
	s.mu.Unlock()
	return s
}

// event writes one event, with an "event:" line when it has a name.
func (s *stream) event(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return http.ErrHandlerTimeout
	}
	s.buf = s.buf[:0]
	if name != "" {
		s.buf = append(append(append(s.buf, "event: "...), name...), '\n')
	}
	s.buf = append(append(append(s.buf, "data: "...), data...), "\n\n"...)
	return s.send()
}

func (s *stream) keepAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.buf = append(s.buf[:0], ": keep-alive\n\n"...)
	s.send() // a failure is kept for the next event
}

// send writes s.buf. The caller holds s.mu.
func (s *stream) send() error {
	if s.err != nil {
		return s.err
	}
	if !s.began {
		s.began = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		h.Set("Trailer", "Torg-Provider, Torg-Lease, Torg-Receipt, Torg-Cost, Torg-Verified")
		s.w.WriteHeader(http.StatusOK)
	}
	s.rc.SetWriteDeadline(time.Now().Add(s.patient)) // not every ResponseWriter has deadlines
	if _, s.err = s.w.Write(s.buf); s.err == nil {
		s.err = s.rc.Flush()
	}
	s.timer.Reset(s.silence)
	return s.err
}

// close ends the keep-alive. Nothing is written after it.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	s.rc.SetWriteDeadline(time.Time{})
}

// started reports whether the header is out.
func (s *stream) started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began
}
