package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/host"
)

// PlaceSize is how many bytes of the value of an entry with a body say where the
// body is: segment(4) offset(4) length(4) crc(4), the crc a CRC-32C of the body.
const PlaceSize = 16

const (
	maxBody    = 1 << 30 // so that offsets have 4 bytes
	keySegment = "segment"
	keyLive    = "live" // and the number of a segment, 4 bytes
)

// segmentSize is how long a segment is before the next is begun.
var segmentSize = 64 << 20

// segments are the files that bodies are in. Journal.mu guards all but dir.
type segments struct {
	dir    string
	number uint32 // of the one that is written to; 0: there is none yet
	end    uint32 // of what it holds; what is behind it counts for nothing
	file   *os.File
	buf    []byte // of a fold, to be written at end; between folds, room for it
}

func (s *segments) path(number uint32) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d", number))
}

func liveKey(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(keyLive), number)
}

// open reads what the file says of its segments, cuts what a crash left behind
// the last body, and removes segments that are of no use any more.
func (s *segments) open(self *bolt.Bucket) error {
	live := map[string]bool{}
	if self != nil {
		if v := self.Get([]byte(keySegment)); len(v) == 8 {
			s.number, s.end = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])
		} else if v != nil {
			return errors.New("its number of the last segment is damaged")
		}
		c := self.Cursor()
		for k, _ := c.Seek([]byte(keyLive)); len(k) == len(keyLive)+4 && string(k[:len(keyLive)]) == keyLive; k, _ = c.Next() {
			live[s.path(binary.BigEndian.Uint32(k[len(keyLive):]))] = true
		}
	}
	if s.number > 0 {
		live[s.path(s.number)] = true
	}
	for path := range live {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("its segment: %w; put all its files back as they were", err)
		}
	}
	old, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range old {
		if path := filepath.Join(s.dir, f.Name()); !live[path] {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	if s.number == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path(s.number), os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	switch {
	case err == nil && st.Size() < int64(s.end):
		err = fmt.Errorf("its segment %s has %d bytes, and had %d: it is damaged, or an older one; put all its files back as they were", f.Name(), st.Size(), s.end)
	case err == nil:
		err = f.Truncate(int64(s.end))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// appender adds the bodies of one fold. What it does to the files counts once the
// fold's transaction is on disk, and only then is taken over.
type appender struct {
	segments
	begun bool             // the segment is new: s.file is another's
	live  map[uint32]int64 // how many bodies more, or fewer, are of use, by segment
	gone  []uint32         // segments that the file names no more
}

func (s *segments) append() *appender {
	a := &appender{segments: *s, live: map[uint32]int64{}}
	a.buf = a.buf[:0]
	return a
}

// add takes a body and says where it will be.
func (a *appender) add(body []byte) (place []byte, err error) {
	if a.number == 0 || int(a.end)+len(a.buf) >= segmentSize {
		if err := a.next(); err != nil {
			return nil, err
		}
	}
	place = binary.BigEndian.AppendUint32(make([]byte, 0, PlaceSize), a.number)
	place = binary.BigEndian.AppendUint32(place, a.end+uint32(len(a.buf)))
	place = binary.BigEndian.AppendUint32(place, uint32(len(body)))
	place = binary.BigEndian.AppendUint32(place, crc32.Checksum(body, castagnoli))
	a.buf = append(a.buf, body...)
	a.live[a.number]++
	return place, nil
}

// drop gives up the body that a value names.
func (a *appender) drop(value []byte) {
	if len(value) >= PlaceSize {
		a.live[binary.BigEndian.Uint32(value)]--
	}
}

// next ends a segment and begins another.
func (a *appender) next() error {
	err := a.write()
	if err == nil && a.number == 0 {
		err = os.MkdirAll(a.dir, 0o700)
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a.path(a.number+1), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = host.SyncFolder(a.dir)
	}
	if err != nil {
		return err
	}
	a.abandon()
	a.file, a.begun, a.end = f, true, 0
	a.number++
	a.live[a.number] += 0 // so that it is looked at when it ends without any
	return nil
}

// abandon closes what only this fold opened.
func (a *appender) abandon() {
	if a.begun {
		_ = a.file.Close() // all in it is synced, or of no use
	}
}

func (a *appender) write() error {
	if len(a.buf) == 0 {
		return nil
	}
	if _, err := a.file.WriteAt(a.buf, int64(a.end)); err != nil {
		return err
	}
	a.end += uint32(len(a.buf))
	a.buf = a.buf[:0]
	return host.SyncData(a.file)
}

// finish notes in the transaction what the segments hold.
func (a *appender) finish(self *bolt.Bucket) error {
	if len(a.live) == 0 {
		return nil
	}
	before := a.number
	if v := self.Get([]byte(keySegment)); len(v) == 8 {
		before = binary.BigEndian.Uint32(v)
	}
	a.live[before] += 0 // it may have ended with nothing in it that is of use
	at := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, a.number), a.end)
	if err := self.Put([]byte(keySegment), at); err != nil {
		return err
	}
	for number, more := range a.live {
		if v := self.Get(liveKey(number)); len(v) == 8 {
			more += int64(binary.BigEndian.Uint64(v))
		}
		switch {
		case more > 0:
			if err := self.Put(liveKey(number), binary.BigEndian.AppendUint64(nil, uint64(more))); err != nil {
				return err
			}
		case number != a.number && number != 0:
			if err := self.Delete(liveKey(number)); err != nil {
				return err
			}
			a.gone = append(a.gone, number)
		default:
			if err := self.Delete(liveKey(number)); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes over what a fold did, which is on disk now, and removes segments
// that are of no use.
func (s *segments) take(a *appender) {
	if a.begun && s.file != nil {
		_ = s.file.Close() // synced
	}
	s.number, s.end, s.file, s.buf = a.number, a.end, a.file, a.buf
	if cap(s.buf) > 2*logSize {
		s.buf = nil // that was something large
	}
	for _, number := range a.gone {
		_ = os.Remove(s.path(number)) // else the next Open does
	}
}

// Body reads the body of an entry of which a bucket has value. While it is read
// the entry may be dropped: then the error is fs.ErrNotExist, wrapped.
func (j *Journal) Body(value []byte) ([]byte, error) {
	if len(value) < PlaceSize {
		return nil, fmt.Errorf("journal %s: a place of %d bytes is damaged", j.db.Path(), len(value))
	}
	number, offset := binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])
	size, sum := binary.BigEndian.Uint32(value[8:]), binary.BigEndian.Uint32(value[12:])
	if size > maxBody {
		return nil, fmt.Errorf("journal %s: a body of %d bytes: its place is damaged", j.db.Path(), size)
	}
	f, err := os.Open(j.segments.path(number))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	body := make([]byte, size)
	if _, err := f.ReadAt(body, int64(offset)); err != nil && size > 0 {
		return nil, fmt.Errorf("journal: read %d bytes at %d of %s: %w", size, offset, f.Name(), err)
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("journal: %s is damaged at %d", f.Name(), offset)
	}
	return body, nil
}

// Drop deletes an entry that has a body, in a transaction of Update. A segment of
// which all bodies are dropped is removed.
func (j *Journal) Drop(tx *bolt.Tx, bucket string, key []byte) error {
	b := tx.Bucket([]byte(bucket))
	j.adding.drop(b.Get(key))
	return b.Delete(key)
}
