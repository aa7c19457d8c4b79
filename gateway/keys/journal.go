package keys

import (
	"encoding/binary"
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"
)

// journalDelay is how long a reservation may stay off the disk. A request that
// is over sooner never writes one.
const journalDelay = 20 * time.Millisecond

// batch is what the next disk write holds.
type batch struct {
	accounts map[*account]struct{} // as they are when the write begins
	holds    map[uint64]Released   // new reservations
	ended    []uint64              // reservations that settled
	lazy     *time.Timer           // wakes the writer for reservations alone
	done     chan struct{}         // closed when it is on disk, or has failed
	err      error
}

func newBatch() *batch {
	return &batch{accounts: map[*account]struct{}{}, holds: map[uint64]Released{}, done: make(chan struct{})}
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
		records[a] = a.copy()
	}
	s.mu.Unlock()
	if len(records)+len(b.holds)+len(b.ended) > 0 {
		b.err = s.db.Update(func(tx *bbolt.Tx) error { return b.put(tx, records) })
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

func (b *batch) put(tx *bbolt.Tx, records map[*account]Key) error {
	keys, holds := tx.Bucket(bucketKeys), tx.Bucket(bucketHolds)
	for a, k := range records {
		k.Reserved = 0 // the journal's to know
		v, err := json.Marshal(k)
		if err != nil {
			return err
		}
		if err := keys.Put(a.hash[:], v); err != nil {
			return err
		}
	}
	for _, seq := range b.ended {
		if err := holds.Delete(holdKey(seq)); err != nil {
			return err
		}
	}
	for seq, r := range b.holds {
		v, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := holds.Put(holdKey(seq), v); err != nil {
			return err
		}
	}
	return nil
}

func holdKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }
