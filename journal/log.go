package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"github.com/torg-network/torg/host"
)

const (
	logSize    = 1 << 20 // about 300 requests of the bundled model
	magic      = "torg journal 1\n\x00"
	idSize     = 16
	headerSize = len(magic) + idSize
	frameSize  = 8    // len and crc
	withBody   = 0x80 // of a bucket's length
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// create makes an empty log and returns when it is on disk. Its blocks are
// written, not just reserved: a sync of a block that was never written has to
// change the file's map as well.
func create(path string, id [idSize]byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	b := make([]byte, logSize)
	copy(b[copy(b, magic):], id[:])
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = host.SyncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// body checks a log's header and returns what follows it.
func body(log []byte, id [idSize]byte) ([]byte, error) {
	if len(log) < headerSize || string(log[:len(magic)]) != magic {
		return nil, errors.New("it is no journal's log")
	}
	if [idSize]byte(log[len(magic):headerSize]) != id {
		return nil, errors.New("it belongs to another file, or to an older state of this one; put both back as they were")
	}
	return log[headerSize:], nil
}

// encode writes a record, into memory that may be used again.
func encode(into []byte, entries []Entry, number uint64) []byte {
	size := frameSize + 10
	for _, e := range entries {
		size += 11 + len(e.Bucket) + len(e.Key) + len(e.Value) + len(e.Body)
	}
	b := slices.Grow(into, size)[:frameSize]
	b = binary.BigEndian.AppendUint64(b, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(entries)))
	for _, e := range entries {
		name := byte(len(e.Bucket))
		if e.Body != nil {
			name |= withBody
		}
		b = append(append(b, name), e.Bucket...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(e.Key))), e.Key...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(e.Value))), e.Value...)
		if e.Body != nil {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(e.Body))), e.Body...)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-frameSize))
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[frameSize:], castagnoli))
	return b
}

// decode reads one record and returns how long it is; 0 when it is none.
func decode(b []byte) (entries []Entry, number uint64, size int) {
	if len(b) < frameSize+10 {
		return nil, 0, 0
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n < 10 || n > uint64(len(b)-frameSize) {
		return nil, 0, 0
	}
	size = frameSize + int(n)
	sum := binary.BigEndian.Uint32(b[4:])
	b = b[frameSize:size]
	number = binary.BigEndian.Uint64(b)
	if crc32.Checksum(b, castagnoli) != sum || number == 0 {
		return nil, 0, 0
	}
	count := int(binary.BigEndian.Uint16(b[8:]))
	b = b[10:]
	whole, body := true, false
	take := func(width int) []byte { // what a length of so many bytes counts
		n := uint64(0)
		if whole = whole && len(b) >= width; whole {
			for _, c := range b[:width] {
				n = n<<8 | uint64(c)
			}
			b = b[width:]
		}
		if width == 1 {
			body, n = n&withBody != 0, n&^withBody
		}
		if whole = whole && uint64(len(b)) >= n; !whole {
			return nil
		}
		out := b[:n:n]
		b = b[n:]
		return out
	}
	for range count {
		e := Entry{Bucket: string(take(1)), Key: take(2), Value: take(4)}
		if body {
			e.Body = take(4)
		}
		if !whole {
			return nil, 0, 0
		}
		entries = append(entries, e)
	}
	if len(b) != 0 {
		return nil, 0, 0
	}
	return entries, number, size
}

// replay returns the entries of the records after a number, and the number of
// the last.
func replay(records []byte, after uint64) (entries []Entry, last uint64, err error) {
	last = after
	for before := uint64(0); ; {
		es, number, size := decode(records)
		switch {
		case size == 0 || before != 0 && number != before+1:
			return entries, last, nil
		case number > last+1:
			return nil, 0, fmt.Errorf("it begins with record %d, and the file ends with %d: the file is an older one; put both back as they were", number, after)
		case number == last+1:
			entries, last = append(entries, es...), number
		}
		before, records = number, records[size:]
	}
}
