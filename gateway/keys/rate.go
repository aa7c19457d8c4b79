package keys

import (
	"math"
	"time"
)

// bucket is a token bucket that holds one minute's allowance when full. What
// it counts is not money, so it may be a float.
type bucket struct {
	level float64
	limit uint64
	at    time.Time
}

// wait refills the bucket and says how long until n can be taken; 0 is now. A
// limit of 0 never waits.
func (b *bucket) wait(now time.Time, limit, n uint64) time.Duration {
	if limit == 0 {
		b.limit = 0
		return 0
	}
	if b.limit != limit {
		b.level, b.limit, b.at = float64(limit), limit, now
	}
	perSecond := float64(limit) / 60
	if d := now.Sub(b.at); d > 0 {
		b.level = min(float64(limit), b.level+d.Seconds()*perSecond)
		b.at = now
	}
	if short := float64(n) - b.level; short > 1e-9 {
		ms := math.Ceil(short/perSecond*1000 - 1e-6)
		return time.Duration(max(ms, 1)) * time.Millisecond
	}
	return 0
}

func (b *bucket) take(n uint64) {
	if b.limit > 0 {
		b.level -= float64(n)
	}
}

// adjust gives back (or, negative, takes) after the fact.
func (b *bucket) adjust(n int64) {
	if b.limit > 0 {
		b.level = min(float64(b.limit), b.level+float64(n))
	}
}
