package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxLag is how far the clock of deadlines may have fallen behind in the last
// minute. While blocks are full it stands, and nobody loses by it; but work that
// waits for a block waits long.
const maxLag = 10

// ledgerMoves says whether a block came lately, and whether blocks have room.
func (s *openSquare) ledgerMoves(ctx context.Context) error {
	if err := s.ledger.Err(); err != nil {
		return err
	}
	h, err := s.client.Head(ctx)
	if err != nil {
		return err
	}
	if age := time.Since(h.Time); age > 15*time.Second {
		return fmt.Errorf("the last block, %d, is %s old", h.Height, age.Round(time.Second))
	}
	b, err := s.client.Block(ctx)
	if err != nil {
		return err
	}
	if more := s.lag.grown(time.Now(), b.Lag); more > maxLag {
		return fmt.Errorf("blocks are full: the clock of deadlines stood still for %d s of the last minute", more)
	}
	return nil
}

// lagMeter remembers how far behind the clock of deadlines was in the last minute.
type lagMeter struct {
	mu   sync.Mutex
	seen []lagAt
}

type lagAt struct {
	at  time.Time
	lag int64
}

// grown is by how many seconds the lag has grown in the minute before.
func (m *lagMeter) grown(now time.Time, lag int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.seen); n == 0 || now.Sub(m.seen[n-1].at) >= time.Second {
		m.seen = append(m.seen, lagAt{now, lag})
	}
	for len(m.seen) > 1 && now.Sub(m.seen[0].at) > time.Minute {
		m.seen = m.seen[1:]
	}
	return lag - m.seen[0].lag
}

func (s *openSquare) goodsOffered(ctx context.Context) error {
	seats, err := s.seats(ctx)
	if err == nil && len(seats) == 0 {
		err = errors.New("no provider offers anything")
	}
	return err
}
