// Package journal keeps the money state of one process on disk: a bbolt file
// for all that is to be found again, and before it a write-ahead log, so that
// what a request waits for is one write and one sync.
//
// # Writing
//
// Put writes its entries as one record at the end of the log and returns when
// the log is synced; writers that wait at the same time share a sync. PutSoon
// does not wait: when it returns, its entries outlive the process, since the
// system has them, and within a moment they are synced and outlive the machine.
// Records reach the disk in the order of the calls, so a Put that has returned
// vouches for every Put and PutSoon that returned before it.
//
// Now and then all that is in the log and not yet in the bbolt file is moved
// there in one transaction (it is folded): when the log is full, before
// somebody reads (View) or reads and writes (Update), and at Close. Memory
// holds what is not folded, which is never more than the log.
//
// # Format
//
// Beside FILE is FILE.log, of 1 MiB, written in full when it is made so that
// no later sync has to change more than its blocks:
//
//	"torg journal 1\n\x00"(16) id(16) record…
//	record: len(4) crc(4) number(8) n(2) entry…
//	entry:  len(1) bucket  len(2) key  len(4) value  [len(4) body]
//
// The highest bit of a bucket's length says that a body follows.
//
// Numbers are big-endian. len counts the bytes after crc, and crc is their
// CRC-32C. Records are numbered from 1 without a gap for as long as FILE lives.
// After a fold the next record is written over the first one, and the number in
// FILE says which the file holds already; so nothing is ever cut off or
// cleared, and what is left of an earlier round is known by its number. Reading
// ends at the first record that is not whole or not the next: it was never
// synced, or nobody was told so.
//
// Bodies lie one behind the other in FILE.segments/00000001 and so on, each of
// about 64 MiB, and nothing else is in them: the value in FILE says which segment,
// where, how long, and a CRC-32C ([PlaceSize]), and goes on with the entry's own.
// A fold writes and syncs its bodies before the transaction that names them. What
// is behind the last body named, a crash left there; Open cuts it off, and the log
// has it still.
//
// In FILE the bucket "journal" holds "log", the log's id; "folded", the
// number of the last record folded; "segment", the number of the last segment and
// where its last body ends, 4 bytes each; and for each segment, "live" and its
// number, how many bodies in it are of use, 8 bytes. Close folds, takes the id out and removes
// the log: a closed journal is the bbolt file and its segments, and so is one of a
// version without a log. A log whose id is not in FILE is of no use any more. Where FILE
// names a log that is not there, one of the two was lost, and Open refuses.
//
// # Failure
//
// After a failed write nobody knows what is on the disk. The log is not used
// again before a fold, with bbolt's own syncs, has put everything that was
// accepted into the file; until that succeeds Put, Update and View fail. A Put
// that failed may still be found there later, as after any write whose end is
// not known. PutSoon is for what can no longer be refused, and takes it even
// then: it is in memory until the disk takes it.
package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/host"
)

// Journal is an open file and its log.
type Journal struct {
	db      *bolt.DB
	log     *os.File
	id      [idSize]byte
	buckets []string
	lazy    sync.WaitGroup // the sync that PutSoon has under way

	mu       sync.Mutex
	segments segments
	adding   *appender // of the fold under way
	end      int       // of the log: where the next record goes
	number   uint64    // of the last record
	pending  []Entry   // not folded, oldest first
	record   []byte    // the newest, kept for its memory
	broken   error     // the log failed, and nothing was folded since
	armed    bool      // lazy has something to do
	closed   bool

	syncing sync.Mutex    // one sync at a time
	synced  atomic.Uint64 // the last record on disk, or an earlier one
}

// Entry is one value to keep.
type Entry struct {
	Bucket     string
	Key, Value []byte
	// Body, if not nil, is kept in a segment: see PlaceSize. All entries of a
	// bucket have one, or none has.
	Body []byte
}

// fill is how much of a page of the tree is used when it is split: most keys come
// in order, and then nothing more ever comes into the first half.
const fill = 0.9

// patience is how long PutSoon waits for another's sync.
const patience = 2 * time.Millisecond

// ErrClosed says that the journal was closed.
var ErrClosed = errors.New("journal is closed")

const (
	bucketSelf = "journal"
	keyLog     = "log"    // the log's id
	keyFolded  = "folded" // number of the last record folded, 8 bytes
)

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
	j := &Journal{db: db, buckets: buckets, end: headerSize, segments: segments{dir: path + ".segments"}}
	if err = j.recover(); err == nil {
		err = j.begin()
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
		if j.log != nil {
			err = errors.Join(err, j.log.Close())
		}
		if j.segments.file != nil {
			err = errors.Join(err, j.segments.file.Close())
		}
		return nil, err
	}
	return j, nil
}

func (j *Journal) logPath() string { return j.db.Path() + ".log" }

// recover reads what the file says of its log and what the log holds beyond it.
func (j *Journal) recover() error {
	named := false
	err := j.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketSelf))
		if err := j.segments.open(b); err != nil || b == nil {
			return err
		}
		if v := b.Get([]byte(keyFolded)); len(v) == 8 {
			j.number = binary.BigEndian.Uint64(v)
		} else if v != nil {
			return errors.New("its number of the last record is damaged")
		}
		named = copy(j.id[:], b.Get([]byte(keyLog))) == idSize
		return nil
	})
	if err != nil || !named {
		return err
	}
	f, err := os.Open(j.logPath())
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("its log %s is missing, which may hold what happened last; put both back as they were", j.logPath())
	} else if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, logSize))
	if err != nil {
		return err
	}
	records, err := body(b, j.id)
	if err != nil {
		return fmt.Errorf("its log %s: %w", j.logPath(), err)
	}
	entries, last, err := replay(records, j.number)
	if err != nil {
		return fmt.Errorf("its log %s: %w", j.logPath(), err)
	}
	for _, e := range entries {
		if err := j.check(e); err != nil {
			return fmt.Errorf("its log %s: %w", j.logPath(), err)
		}
	}
	j.pending, j.number = entries, last
	return nil
}

// begin folds what was recovered and starts a new log.
func (j *Journal) begin() (err error) {
	rand.Read(j.id[:])
	err = j.fold(func(tx *bolt.Tx) error { // the old log is of no use after this
		for _, b := range j.buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketSelf)).Delete([]byte(keyLog))
	})
	if err != nil {
		return err
	}
	if j.log, err = create(j.logPath(), j.id); err != nil {
		return err
	}
	return j.fold(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketSelf)).Put([]byte(keyLog), j.id[:]) })
}

// check refuses an entry that no fold could store.
func (j *Journal) check(e Entry) error {
	switch {
	case !slices.Contains(j.buckets, e.Bucket) || len(e.Bucket) > 127:
		return fmt.Errorf("journal: no bucket %q", e.Bucket)
	case len(e.Key) == 0 || len(e.Key) > bolt.MaxKeySize:
		return fmt.Errorf("journal: a key of %d bytes: want 1 to %d", len(e.Key), bolt.MaxKeySize)
	case len(e.Value) > bolt.MaxValueSize:
		return fmt.Errorf("journal: a value of %d bytes: at most %d", len(e.Value), bolt.MaxValueSize)
	case len(e.Body) > maxBody:
		return fmt.Errorf("journal: a body of %d bytes: at most %d", len(e.Body), maxBody)
	}
	return nil
}

// Put stores entries, all or none of them, and returns when they are on disk.
// It keeps the slices.
func (j *Journal) Put(entries ...Entry) error {
	number, err := j.write(entries, false)
	if err != nil {
		return err
	}
	return j.sync(number)
}

// PutSoon stores entries that can no longer be refused. They outlive the
// process when it returns, and the machine a moment later, unless the disk
// fails. It keeps the slices.
func (j *Journal) PutSoon(entries ...Entry) error {
	_, err := j.write(entries, true)
	return err
}

// write adds a record to the log and to what is pending.
func (j *Journal) write(entries []Entry, soon bool) (uint64, error) {
	if len(entries) > math.MaxUint16 {
		return 0, fmt.Errorf("journal: %d entries at once: at most %d", len(entries), math.MaxUint16)
	}
	for _, e := range entries {
		if err := j.check(e); err != nil {
			return 0, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return 0, ErrClosed
	}
	record := encode(j.record[:0], entries, j.number+1)
	if cap(record) <= logSize {
		j.record = record
	}
	var err error
	if j.broken != nil || len(record) > logSize-j.end {
		err = j.fold(nil)
	}
	switch {
	case err != nil:
	case len(record) > logSize-j.end: // larger than the whole log
		j.pending = append(j.pending, entries...)
		if err = j.fold(nil); err != nil {
			j.pending = j.pending[:len(j.pending)-len(entries)]
		} else {
			return j.number, nil
		}
	default:
		_, err = j.log.WriteAt(record, int64(j.end))
	}
	if err != nil {
		j.broken = err
		if soon {
			j.pending = append(j.pending, entries...)
			return j.number, nil
		}
		return 0, fmt.Errorf("journal: %w", err)
	}
	j.end += len(record)
	j.number++
	j.pending = append(j.pending, entries...)
	if soon && !j.armed {
		j.armed = true
		number := j.number
		j.lazy.Go(func() { j.later(number) })
	}
	return j.number, nil
}

// later has records that nobody waits for synced, from a first one on, until there
// are none. It does so only where no Put has meanwhile: on a busy journal that
// costs no sync of its own.
func (j *Journal) later(number uint64) {
	for {
		time.Sleep(patience)
		_ = j.sync(number) // broken, and whoever comes next is told
		j.mu.Lock()
		if j.armed = j.broken == nil && j.synced.Load() < j.number; !j.armed {
			j.mu.Unlock()
			return
		}
		number = j.number
		j.mu.Unlock()
	}
}

// sync returns when a record is on disk. Whoever comes while another syncs
// finds that done, or syncs for all that have come since.
func (j *Journal) sync(number uint64) error {
	if j.synced.Load() >= number {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced.Load() >= number {
		return nil
	}
	j.mu.Lock()
	last := j.number
	j.mu.Unlock()
	err := host.SyncData(j.log)
	if err == nil {
		j.synced.Store(last)
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broken = err
	return j.fold(nil)
}

// fold moves what is pending into the file, together with what then does, and
// starts the log again from its beginning. The caller holds mu, or is alone.
func (j *Journal) fold(then func(*bolt.Tx) error) error {
	j.adding = j.segments.append()
	err := j.db.Update(func(tx *bolt.Tx) error {
		self, err := tx.CreateBucketIfNotExists([]byte(bucketSelf))
		if err != nil {
			return err
		}
		for name, values := range newest(j.pending) {
			b, err := tx.CreateBucketIfNotExists([]byte(name))
			if err != nil {
				return err
			}
			b.FillPercent = fill
			for _, e := range values {
				value := e.Value
				if e.Body != nil {
					place, err := j.adding.add(e.Body)
					if err != nil {
						return err
					}
					j.adding.drop(b.Get(e.Key))
					value = append(place, e.Value...)
				}
				if err := b.Put(e.Key, value); err != nil {
					return err
				}
			}
		}
		if err := self.Put([]byte(keyFolded), binary.BigEndian.AppendUint64(nil, j.number)); err != nil {
			return err
		}
		if err := j.adding.write(); err != nil { // then may read them
			return err
		}
		if then != nil {
			if err := then(tx); err != nil {
				return err
			}
		}
		return j.adding.finish(self)
	})
	if err != nil {
		j.adding.abandon()
		return err
	}
	j.segments.take(j.adding)
	clear(j.pending)
	j.pending, j.broken, j.end = j.pending[:0], nil, headerSize
	j.synced.Store(j.number)
	return nil
}

// newest are the entries that a file holds after all of them, by bucket and by
// key: what was written over is not stored first, and bbolt walks its tree in one
// direction.
func newest(entries []Entry) map[string][]Entry {
	out := map[string][]Entry{}
	for _, e := range entries {
		out[e.Bucket] = append(out[e.Bucket], e)
	}
	for name, es := range out {
		slices.SortStableFunc(es, func(a, b Entry) int { return bytes.Compare(a.Key, b.Key) })
		kept := es[:0]
		for i, e := range es {
			if i+1 == len(es) || !bytes.Equal(e.Key, es[i+1].Key) {
				kept = append(kept, e)
			}
		}
		out[name] = kept
	}
	return out
}

// Update runs fn in a transaction and returns when it is on disk.
func (j *Journal) Update(fn func(*bolt.Tx) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	return j.fold(fn)
}

// View reads.
func (j *Journal) View(fn func(*bolt.Tx) error) error {
	j.mu.Lock()
	if len(j.pending) > 0 && !j.closed {
		if err := j.fold(nil); err != nil {
			j.mu.Unlock()
			return fmt.Errorf("journal: %w", err)
		}
	}
	j.mu.Unlock()
	return j.db.View(fn)
}

// Close folds the log and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	err := j.fold(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketSelf)).Delete([]byte(keyLog)) })
	j.mu.Unlock()
	j.lazy.Wait()
	j.syncing.Lock() // nobody syncs the log any more
	defer j.syncing.Unlock()
	path := j.logPath()
	err = errors.Join(err, j.log.Close(), j.db.Close())
	if j.segments.file != nil {
		err = errors.Join(err, j.segments.file.Close())
	}
	if err == nil {
		err = os.Remove(path)
	}
	return err
}
