// Package journal keeps the money state of one process on disk: a bbolt file
// whose writers share commits. A write that is waiting while another is synced
// to disk joins the next commit, so eight lanes in parallel cost about as many
// syncs as one.
package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Journal is an open file.
type Journal struct {
	db     *bolt.DB
	writes chan write
	done   chan struct{} // the writer has ended

	mu     sync.RWMutex
	closed bool
}

type write struct {
	fn   func(*bolt.Tx) error
	soon bool
	err  chan error
}

const (
	maxGroup = 256                  // writes that share one commit
	patience = 2 * time.Millisecond // that a write in no hurry waits for company
)

// ErrClosed says that the journal was closed.
var ErrClosed = errors.New("journal is closed")

// Open opens or creates the file and its buckets. One process at a time holds
// it.
func Open(path string, buckets ...string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 2 * time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w (is another torg using it?)", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
	}
	j := &Journal{db: db, writes: make(chan write), done: make(chan struct{})}
	go j.write()
	return j, nil
}

// Update runs fn in a transaction and returns when it is on disk. fn may run
// more than once, and must have no effect but on the transaction.
func (j *Journal) Update(fn func(*bolt.Tx) error) error { return j.queue(fn, false) }

// UpdateSoon is Update for what nobody waits for: it joins the next commit, or
// starts one when none comes for a moment.
func (j *Journal) UpdateSoon(fn func(*bolt.Tx) error) error { return j.queue(fn, true) }

func (j *Journal) queue(fn func(*bolt.Tx) error, soon bool) error {
	w := write{fn, soon, make(chan error, 1)}
	j.mu.RLock()
	if j.closed {
		j.mu.RUnlock()
		return ErrClosed
	}
	j.writes <- w
	j.mu.RUnlock()
	return <-w.err
}

// View reads.
func (j *Journal) View(fn func(*bolt.Tx) error) error { return j.db.View(fn) }

// Close ends the writer and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	close(j.writes)
	j.mu.Unlock()
	<-j.done
	return j.db.Close()
}

// write is the one writer.
func (j *Journal) write() {
	defer close(j.done)
	for w := range j.writes {
		j.commit(j.gather(w))
	}
}

// gather adds to a write what is waiting with it. As long as none of them is in
// a hurry it waits for more, but not beyond patience.
func (j *Journal) gather(first write) []write {
	group := []write{first}
	var late <-chan time.Time
	if first.soon {
		t := time.NewTimer(patience)
		defer t.Stop()
		late = t.C
	}
	for len(group) < maxGroup {
		var w write
		ok := true
		if late != nil {
			select {
			case w, ok = <-j.writes:
			case <-late:
				return group
			}
		} else {
			select {
			case w, ok = <-j.writes:
			default:
				return group
			}
		}
		if !ok {
			return group
		}
		group = append(group, w)
		if !w.soon {
			late = nil
		}
	}
	return group
}

func (j *Journal) commit(group []write) {
	for len(group) > 0 {
		failed := -1
		err := j.db.Update(func(tx *bolt.Tx) error {
			for i, w := range group {
				if err := w.fn(tx); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed >= 0 {
			group[failed].err <- err
			group = append(group[:failed], group[failed+1:]...)
			continue
		}
		for _, w := range group {
			w.err <- err
		}
		return
	}
}
