// Package history remembers what happened on the square: it follows the ledger
// block by block, from where it stopped, and files each market event under its
// lease and its parties. The ledger itself forgets ended leases; this does not,
// until a bound is reached.
//
// # Disk
//
// A bbolt file with three buckets. "events": height ‖ index (big-endian 64-bit
// each) → the event in JSON. "index": 'l' ‖ lease ‖ height ‖ index, and
// 'a' ‖ address ‖ height ‖ index, → nothing. "state": "height" → the last block
// read.
package history

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/square"
)

// Keep is how many events are remembered; the oldest are forgotten beyond it.
const Keep = 1_000_000

var (
	bucketEvents = []byte("events")
	bucketIndex  = []byte("index")
	bucketState  = []byte("state")
	keyHeight    = []byte("height")
)

// Ledger is what a history follows; *client.Client is one.
type Ledger interface {
	ChainID() string
	Head(ctx context.Context) (client.Head, error)
	WaitHeight(ctx context.Context, h int64) error
	EventsAt(ctx context.Context, height int64) ([]client.Event, error)
}

// History is an open file and the ledger it follows. Reading is safe at any
// time; Run follows.
type History struct {
	db     *bolt.DB
	ledger Ledger
	next   int64 // the block to read next; Run's
}

// Open opens or creates the file.
func Open(path string, l Ledger) (*History, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("history %s: %w", path, err)
	}
	h := &History{db: db, ledger: l, next: 1}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketEvents, bucketIndex, bucketState} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if b := tx.Bucket(bucketState).Get(keyHeight); len(b) == 8 {
			h.next = int64(binary.BigEndian.Uint64(b)) + 1
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("history %s: %w", path, err)
	}
	return h, nil
}

// Close gives the file back. Run must have returned.
func (h *History) Close() error { return h.db.Close() }

// Run follows the ledger until ctx ends. A block that cannot be read is tried
// again; blocks that the node has forgotten are passed over.
func (h *History) Run(ctx context.Context) error {
	saved := h.next - 1
	defer func() {
		if h.next-1 > saved {
			_ = h.file(nil) // only saves reading empty blocks again
		}
	}()
	for ctx.Err() == nil {
		if err := h.ledger.WaitHeight(ctx, h.next); err != nil {
			pause(ctx, time.Second)
			continue
		}
		evs, err := h.ledger.EventsAt(ctx, h.next)
		if err != nil {
			if head, herr := h.ledger.Head(ctx); herr == nil && head.Height > h.next+10 {
				h.next++ // pruned: the newest blocks are always there
			} else {
				pause(ctx, 20*time.Millisecond) // its results come a moment after it
			}
			continue
		}
		h.next++
		if len(evs) == 0 && h.next-1-saved < 1000 {
			continue
		}
		if err := h.file(evs); err != nil {
			if len(evs) > 0 {
				h.next--
			}
			pause(ctx, time.Second) // a full disk: the ledger will still have the block
			continue
		}
		saved = h.next - 1
	}
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// place is height ‖ index.
func place(height int64, i int) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(height)), uint64(i))
}

// filed lists the index keys of an event, without its place.
func filed(e client.Event) (keys [][]byte) {
	if !e.Lease.IsZero() {
		keys = append(keys, append([]byte{'l'}, e.Lease[:]...))
	}
	seen := map[square.Address]bool{{}: true}
	add := func(a square.Address) {
		if !seen[a] {
			seen[a] = true
			keys = append(keys, append([]byte{'a'}, a[:]...))
		}
	}
	add(e.By)
	add(e.Buyer)
	add(e.Provider)
	for _, m := range e.Moves {
		add(m.From.Owner)
		add(m.To.Owner)
	}
	return keys
}

// file stores a block's events and the height reached, and forgets the oldest
// events beyond Keep.
func (h *History) file(evs []client.Event) error {
	return h.db.Update(func(tx *bolt.Tx) error {
		events, index := tx.Bucket(bucketEvents), tx.Bucket(bucketIndex)
		for i, e := range evs {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			at := place(e.Height, i)
			if err := events.Put(at, b); err != nil {
				return err
			}
			for _, k := range filed(e) {
				if err := index.Put(append(k, at...), nil); err != nil {
					return err
				}
			}
		}
		if len(evs) > 0 {
			// Counting reads every page, so it is done at one block in 1024.
			if n, err := events.NextSequence(); err != nil {
				return err
			} else if n%1024 == 0 {
				if err := forget(events, index, Keep); err != nil {
					return err
				}
			}
		}
		return tx.Bucket(bucketState).Put(keyHeight, binary.BigEndian.AppendUint64(nil, uint64(h.next-1)))
	})
}

// forget drops the oldest events beyond keep.
func forget(events, index *bolt.Bucket, keep int) error {
	over := events.Stats().KeyN - keep
	c := events.Cursor()
	for k, v := c.First(); k != nil && over > 0; k, v = c.Next() {
		var e client.Event
		if json.Unmarshal(v, &e) == nil {
			for _, ik := range filed(e) {
				if err := index.Delete(append(ik, k...)); err != nil {
					return err
				}
			}
		}
		if err := c.Delete(); err != nil {
			return err
		}
		over--
	}
	return nil
}

// ErrNone says that nothing is remembered of a lease or account.
var ErrNone = errors.New("nothing is remembered of it")

// Lease is what happened to a lease, in order, at most limit events.
func (h *History) Lease(id square.Hash, limit int) ([]client.Event, error) {
	return h.read(append([]byte{'l'}, id[:]...), limit, false)
}

// Account is what happened to an account, newest first, at most limit events.
func (h *History) Account(a square.Address, limit int) ([]client.Event, error) {
	return h.read(append([]byte{'a'}, a[:]...), limit, true)
}

func (h *History) read(prefix []byte, limit int, newest bool) (out []client.Event, err error) {
	err = h.db.View(func(tx *bolt.Tx) error {
		events, c := tx.Bucket(bucketEvents), tx.Bucket(bucketIndex).Cursor()
		var k []byte
		step := c.Next
		if newest {
			step = c.Prev
			end := append(append([]byte(nil), prefix...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
			if k, _ = c.Seek(end); k == nil {
				k, _ = c.Last()
			} else {
				k, _ = c.Prev()
			}
		} else {
			k, _ = c.Seek(prefix)
		}
		for ; len(out) < limit && len(k) == len(prefix)+16 && string(k[:len(prefix)]) == string(prefix); k, _ = step() {
			var e client.Event
			if err := json.Unmarshal(events.Get(k[len(prefix):]), &e); err != nil {
				return fmt.Errorf("history: event %x: %w", k[len(prefix):], err)
			}
			out = append(out, e)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = ErrNone
	}
	return out, err
}
