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
	buf    []byte    // not sent yet
	sent   time.Time // when something last was
	until  time.Time // the write deadline that stands
	began  bool
	closed bool
	err    error // the first failed write: the client is gone
}

// spare is memory for events that is not in use.
var spare = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// maxHeld bounds the events that wait for the next, in bytes.
const maxHeld = 16 << 10

func newStream(w http.ResponseWriter, silence, patient time.Duration) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w), silence: silence, patient: patient, sent: time.Now(), buf: (*spare.Get().(*[]byte))[:0]}
	s.mu.Lock()
	s.timer = time.AfterFunc(silence, s.keepAlive)
	s.mu.Unlock()
	return s
}

// event adds one event, with an "event:" line when it has a name. It leaves with
// the next flush.
func (s *stream) event(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return http.ErrHandlerTimeout
	}
	if name != "" {
		s.buf = append(append(append(s.buf, "event: "...), name...), '\n')
	}
	s.buf = append(append(append(s.buf, "data: "...), data...), "\n\n"...)
	if len(s.buf) > maxHeld {
		return s.send()
	}
	return s.err
}

// flush sends what was added.
func (s *stream) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) == 0 || s.closed {
		return s.err
	}
	return s.send()
}

// keepAlive runs when the line was silent, unless something was sent meanwhile: a
// timer that each event sets anew would cost more than the event.
func (s *stream) keepAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if left := s.silence - time.Since(s.sent); left > 0 {
		s.timer.Reset(left)
		return
	}
	s.buf = append(s.buf, ": keep-alive\n\n"...)
	s.send() // a failure is kept for the next event
	s.timer.Reset(s.silence)
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
	s.sent = time.Now()
	if s.until.Before(s.sent.Add(s.patient)) { // with a little to spare, so that not every event needs another
		s.until = s.sent.Add(s.patient + s.patient/8)
		s.rc.SetWriteDeadline(s.until) // not every ResponseWriter has deadlines
	}
	if _, s.err = s.w.Write(s.buf); s.err == nil {
		s.err = s.rc.Flush()
	}
	s.buf = s.buf[:0]
	return s.err
}

// close ends the keep-alive. Nothing is written after it.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.timer.Stop()
	if buf := s.buf; cap(buf) <= 2*maxHeld {
		spare.Put(&buf)
	}
	s.buf = nil
	s.rc.SetWriteDeadline(time.Time{})
}

// started reports whether an answer has begun, sent or not.
func (s *stream) started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began || len(s.buf) > 0
}
