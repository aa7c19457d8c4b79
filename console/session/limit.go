package session

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// Limiter bounds how often one machine, and all together, may try to log in.
type Limiter struct {
	now func() time.Time

	mu    sync.Mutex
	began time.Time // of this minute
	all   int
	by    map[string]int
}

// Tries a minute.
const (
	triesEach = 20
	triesAll  = 300
)

// NewLimiter allows triesEach tries a minute to a machine and triesAll to all;
// a nil now is time.Now.
func NewLimiter(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now}
}

// Allow counts a try. wait is not 0 when it must not be made.
func (l *Limiter) Allow(r *http.Request) (wait time.Duration) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Sub(l.began) >= time.Minute {
		l.began, l.all, l.by = now, 0, map[string]int{}
	}
	if l.all >= triesAll || l.by[host] >= triesEach {
		return l.began.Add(time.Minute).Sub(now)
	}
	l.all++
	l.by[host]++ // at most triesAll of them
	return 0
}
