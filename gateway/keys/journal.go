package keys

import (
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"
)

// journalDelay is how long what was settled may stay off the disk.
const journalDelay = 20 * time.Millisecond

// batch is what the next disk write holds.
type batch struct {
	accounts map[*account]struct{} // as they are when the write begins
	lazy     *time.Timer           // wakes the writer
	done     chan struct{}         // closed when it is on disk, or has failed
	err      error
}

func newBatch() *batch {
	return &batch{accounts: map[*account]struct{}{}, done: make(chan struct{})}
}

// touch puts an account into the next write. The caller holds s.mu and waits
// for the batch after letting go of it.
func (s *Store) touch(a *account) *batch {
	s.next.accounts[a] = struct{}{}
	s.wake()
	return s.next
}

// later has the next write happen within journalDelay. The caller holds s.mu.
func (s *Store) later() {
	if s.next.lazy == nil {
		s.next.lazy = time.AfterFunc(journalDelay, s.wake)
	}
}

func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *Store) wait(b *batch) error {
	select {
	case <-b.done:
		return b.err
	case <-s.stopped:
	}
	select { // the writer ended: with this batch, or before it
	case <-b.done:
		return b.err
	default:
		return ErrClosed
	}
}

// write is the one goroutine that writes. It ends after Close, when all that
// came before is on disk.
func (s *Store) write() {
	defer close(s.stopped)
	for {
		select {
		case <-s.kick:
			s.flush()
		case <-s.stop:
			s.flush()
			return
		}
	}
}

func (s *Store) flush() {
	s.mu.Lock()
	b := s.next
	s.next = newBatch()
	if b.lazy != nil {
		b.lazy.Stop()
	}
	records := make(map[*account]Key, len(b.accounts))
	for a := range b.accounts {
		records[a] = s.copy(a)
	}
	s.mu.Unlock()
	if len(records) > 0 {
		b.err = s.db.Update(func(tx *bbolt.Tx) error { return put(tx, records) })
	}
	if b.err != nil {
		s.mu.Lock()
		if s.broken == nil {
			s.broken = b.err
		}
		s.mu.Unlock()
	}
	close(b.done)
}

func put(tx *bbolt.Tx, records map[*account]Key) error {
	keys := tx.Bucket(bucketKeys)
	for a, k := range records {
		k.Reserved = 0 // of this process alone
		v, err := json.Marshal(k)
		if err != nil {
			return err
		}
		if err := keys.Put(a.hash[:], v); err != nil {
			return err
		}
	}
	return nil
}
