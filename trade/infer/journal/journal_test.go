package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func open(t testing.TB, path string) *Journal {
	t.Helper()
	j, err := Open(path, "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func set(k, v string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte("b")).Put([]byte(k), []byte(v)) }
}

func count(t *testing.T, j *Journal) (n int) {
	t.Helper()
	err := j.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("b")).ForEach(func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestParallel: writers in parallel all get their own answer, and what was
// answered with success is there after the file is opened again.
func TestParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "j.db")
	j := open(t, path)
	bad := errors.New("this one is refused")
	var writers sync.WaitGroup
	for i := range 200 {
		writers.Go(func() {
			err := j.Update(func(tx *bolt.Tx) error {
				if err := set(fmt.Sprint(i), "x")(tx); err != nil || i%10 != 3 {
					return err
				}
				return bad
			})
			if want := i%10 == 3; errors.Is(err, bad) != want {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	writers.Wait()
	if n := count(t, j); n != 180 {
		t.Errorf("%d entries, want 180", n)
	}
	if _, err := Open(path, "b"); err == nil {
		t.Error("a journal was opened twice")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Update(set("late", "x")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if n := count(t, open(t, path)); n != 180 {
		t.Errorf("%d entries after opening again, want 180", n)
	}
}

// TestCloseWaits: a write that was accepted is written, or is told that it was
// not.
func TestCloseWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := open(t, path)
	var writers sync.WaitGroup
	var mu sync.Mutex
	ok := 0
	for i := range 50 {
		writers.Go(func() {
			if j.Update(set(fmt.Sprint(i), "x")) == nil {
				mu.Lock()
				ok++
				mu.Unlock()
			}
		})
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	writers.Wait()
	if n := count(t, open(t, path)); n != ok {
		t.Errorf("%d were written and %d said so", n, ok)
	}
}

func BenchmarkUpdate(b *testing.B) {
	j := open(b, filepath.Join(b.TempDir(), "j.db"))
	for b.Loop() {
		if err := j.Update(set("k", "v")); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSoon: a write in no hurry is on disk when it returns, alone, beside
// others of its kind, and beside one that is in a hurry.
func TestSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := open(t, path)
	if err := j.UpdateSoon(set("alone", "1")); err != nil {
		t.Fatal(err)
	}
	if n := count(t, j); n != 1 {
		t.Fatalf("%d keys after a write in no hurry", n)
	}
	var wg sync.WaitGroup
	for i := range 300 { // more than one group
		wg.Go(func() {
			write := j.UpdateSoon
			if i%100 == 99 {
				write = j.Update
			}
			if err := write(set(fmt.Sprint(i), "x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, open(t, path)); n != 301 {
		t.Errorf("%d keys of 301 after opening the file again", n)
	}
	if err := j.UpdateSoon(set("late", "1")); !errors.Is(err, ErrClosed) {
		t.Errorf("a write to a closed journal: %v", err)
	}
}
