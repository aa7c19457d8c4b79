package buyer_test

import (
	"errors"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/trade/desk"
)

// faulty is a disk that can be full, or lose what is not synced.
type faulty struct {
	desk.Store
	full, forgets atomic.Bool
}

var errFull = errors.New("no space left on device")

func (f *faulty) Update(fn func(*bolt.Tx) error) error {
	if f.full.Load() {
		return errFull
	}
	return f.Store.Update(fn)
}

func (f *faulty) Put(entries ...journal.Entry) error {
	if f.full.Load() {
		return errFull
	}
	return f.Store.Put(entries...)
}

func (f *faulty) PutSoon(entries ...journal.Entry) error {
	if f.forgets.Load() {
		return nil
	}
	return f.Store.PutSoon(entries...)
}
