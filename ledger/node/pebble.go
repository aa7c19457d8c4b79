package node

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/bloom"
	dbm "github.com/cosmos/cosmos-db"
)

// stateDB is Pebble for the ledger's state. The state's tree has a node for every
// key and reads some at random places for each key that is written, so what a
// read costs is what a ledger of many leases costs: blocks are cached, and a
// filter tells which files need not be asked. Neither can be set in cosmos-db's
// own Pebble.
type stateDB struct{ db *pebble.DB }

const (
	stateCache    = 24 << 20 // bytes of blocks, as they are when unpacked
	stateMemtable = 4 << 20  // bytes that wait for a file; as many more while one is written
	stateFilter   = 10       // bits a key: one answer in a hundred is wrong, and costs a read
)

// errors of bad use, as cosmos-db has them.
var (
	errNoKey   = errors.New("key cannot be empty")
	errNoValue = errors.New("value cannot be nil")
	errUsed    = errors.New("batch has been written or closed")
)

func openState(dir string) (dbm.DB, error) {
	cache := pebble.NewCache(stateCache)
	defer cache.Unref() // the database holds it
	o := &pebble.Options{Cache: cache, MemTableSize: stateMemtable, Logger: quiet{}, MaxConcurrentCompactions: func() int { return 2 }}
	o.Levels = make([]pebble.LevelOptions, 7)
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(stateFilter)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, err
	}
	return stateDB{db}, nil
}

// quiet leaves out what Pebble tells of its files. After what it calls fatal it
// must not go on.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("ledger state: "+format, args...))
}

func (d stateDB) Get(key []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, errNoKey
	}
	v, done, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(v)), v...) // an empty value is not a missing one
	return out, done.Close()
}

func (d stateDB) Has(key []byte) (bool, error) {
	v, err := d.Get(key)
	return v != nil, err
}

func (d stateDB) set(key, value []byte, o *pebble.WriteOptions) error {
	switch {
	case len(key) == 0:
		return errNoKey
	case value == nil:
		return errNoValue
	}
	return d.db.Set(key, value, o)
}

func (d stateDB) Set(key, value []byte) error     { return d.set(key, value, pebble.NoSync) }
func (d stateDB) SetSync(key, value []byte) error { return d.set(key, value, pebble.Sync) }

func (d stateDB) drop(key []byte, o *pebble.WriteOptions) error {
	if len(key) == 0 {
		return errNoKey
	}
	return d.db.Delete(key, o)
}

func (d stateDB) Delete(key []byte) error     { return d.drop(key, pebble.NoSync) }
func (d stateDB) DeleteSync(key []byte) error { return d.drop(key, pebble.Sync) }

func (d stateDB) iterate(start, end []byte, back bool) (dbm.Iterator, error) {
	if start != nil && len(start) == 0 || end != nil && len(end) == 0 {
		return nil, errNoKey
	}
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return nil, err
	}
	out := &stateIterator{it: it, start: start, end: end, step: it.Next}
	if back {
		out.step = it.Prev
		it.Last()
	} else {
		it.First()
	}
	return out, nil
}

func (d stateDB) Iterator(start, end []byte) (dbm.Iterator, error) {
	return d.iterate(start, end, false)
}

func (d stateDB) ReverseIterator(start, end []byte) (dbm.Iterator, error) {
	return d.iterate(start, end, true)
}

func (d stateDB) Close() error { return d.db.Close() }
func (d stateDB) Print() error { return nil }
func (d stateDB) Stats() map[string]string {
	return map[string]string{"metrics": d.db.Metrics().String()}
}
func (d stateDB) NewBatch() dbm.Batch              { return &stateBatch{b: d.db.NewBatch()} }
func (d stateDB) NewBatchWithSize(n int) dbm.Batch { return &stateBatch{b: d.db.NewBatchWithSize(n)} }

type stateIterator struct {
	it         *pebble.Iterator
	start, end []byte
	step       func() bool
}

func (i *stateIterator) Domain() (start, end []byte) { return i.start, i.end }
func (i *stateIterator) Valid() bool                 { return i.it.Valid() }
func (i *stateIterator) Error() error                { return i.it.Error() }
func (i *stateIterator) Close() error                { return i.it.Close() }

func (i *stateIterator) Next() {
	i.must()
	i.step()
}

func (i *stateIterator) Key() []byte {
	i.must()
	return bytes.Clone(i.it.Key())
}

func (i *stateIterator) Value() []byte {
	i.must()
	return append([]byte{}, i.it.Value()...)
}

func (i *stateIterator) must() {
	if !i.it.Valid() {
		panic("iterator is invalid")
	}
}

type stateBatch struct{ b *pebble.Batch }

func (s *stateBatch) Set(key, value []byte) error {
	switch {
	case len(key) == 0:
		return errNoKey
	case value == nil:
		return errNoValue
	case s.b == nil:
		return errUsed
	}
	return s.b.Set(key, value, nil)
}

func (s *stateBatch) Delete(key []byte) error {
	switch {
	case len(key) == 0:
		return errNoKey
	case s.b == nil:
		return errUsed
	}
	return s.b.Delete(key, nil)
}

func (s *stateBatch) write(o *pebble.WriteOptions) error {
	if s.b == nil {
		return errUsed
	}
	return errors.Join(s.b.Commit(o), s.Close())
}

func (s *stateBatch) Write() error     { return s.write(pebble.NoSync) }
func (s *stateBatch) WriteSync() error { return s.write(pebble.Sync) }

func (s *stateBatch) Close() error {
	if s.b == nil {
		return nil
	}
	b := s.b
	s.b = nil
	return b.Close()
}

func (s *stateBatch) GetByteSize() (int, error) {
	if s.b == nil {
		return 0, errUsed
	}
	return s.b.Len(), nil
}
