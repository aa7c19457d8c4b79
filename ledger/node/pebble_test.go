package node

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"

	dbm "github.com/cosmos/cosmos-db"
)

// TestStateDB holds the state's database against one in memory, through batches,
// deletions, iterators both ways and being opened again.
func TestStateDB(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	open := func() dbm.DB {
		d, err := openState(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	ours, theirs := open(), dbm.DB(dbm.NewMemDB())
	defer func() { ours.Close() }()
	rng := rand.New(rand.NewPCG(1, 2))
	key := func() []byte { return []byte{byte(rng.IntN(3)), byte(rng.IntN(16))} }
	both := func(f func(dbm.DB) error) {
		t.Helper()
		if a, b := f(ours), f(theirs); (a == nil) != (b == nil) {
			t.Fatalf("ours %v, in memory %v", a, b)
		}
	}
	all := func(d dbm.DB, start, end []byte, back bool) (out []byte) {
		t.Helper()
		it, err := d.Iterator(start, end)
		if back {
			it.Close()
			it, err = d.ReverseIterator(start, end)
		}
		if err != nil {
			t.Fatal(err)
		}
		for ; it.Valid(); it.Next() {
			out = append(append(append(out, it.Key()...), '='), it.Value()...)
		}
		if err := it.Error(); err != nil {
			t.Fatal(err)
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for i := range 2000 {
		k, v := key(), bytes.Repeat([]byte{byte(i)}, rng.IntN(3))
		switch rng.IntN(6) {
		case 0:
			both(func(d dbm.DB) error { return d.Set(k, v) })
		case 1:
			both(func(d dbm.DB) error { return d.DeleteSync(k) })
		case 2:
			more := key()
			both(func(d dbm.DB) error {
				b := d.NewBatchWithSize(10)
				if err := b.Set(k, v); err != nil {
					return err
				}
				if err := b.Delete(more); err != nil {
					return err
				}
				return b.WriteSync()
			})
		case 3:
			a, err := ours.Get(k)
			b, _ := theirs.Get(k)
			has, _ := ours.Has(k)
			if err != nil || !bytes.Equal(a, b) || (a == nil) != (b == nil) || has != (b != nil) {
				t.Fatalf("%x: %x, %t, %v; want %x", k, a, has, err, b)
			}
		case 4:
			start, end := key(), key()
			if bytes.Compare(start, end) > 0 {
				start, end = end, start
			}
			if rng.IntN(4) == 0 {
				start, end = nil, nil
			}
			for _, back := range []bool{false, true} {
				if a, b := all(ours, start, end, back), all(theirs, start, end, back); !bytes.Equal(a, b) {
					t.Fatalf("from %x to %x, back %t: %x; want %x", start, end, back, a, b)
				}
			}
		case 5:
			if rng.IntN(100) == 0 {
				ours.Close()
				ours = open()
			}
		}
	}
	both(func(d dbm.DB) error { return d.Set(nil, []byte{1}) })
	both(func(d dbm.DB) error { return d.Set([]byte{1}, nil) })
	both(func(d dbm.DB) error { _, err := d.Get(nil); return err })
	both(func(d dbm.DB) error { return d.Delete(nil) })
	both(func(d dbm.DB) error { _, err := d.Iterator([]byte{}, nil); return err })
	both(func(d dbm.DB) error {
		b := d.NewBatch()
		if err := b.Write(); err != nil {
			t.Error(err)
		}
		return b.Set([]byte{1}, []byte{2})
	})
}
