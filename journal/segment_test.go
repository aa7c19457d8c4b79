package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// kept is how many bodies TestKilled's process keeps.
const kept = 50

func bodyKey(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(max(n, 0))) }

// small makes segments small until the test ends.
func small(t testing.TB, size int) {
	before := segmentSize
	segmentSize = size
	t.Cleanup(func() { segmentSize = before })
}

// bodies are all bodies of a journal, by number.
func bodies(t testing.TB, j *Journal) map[int]string {
	t.Helper()
	m := map[int]string{}
	err := j.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("bodies")).ForEach(func(k, v []byte) error {
			b, err := j.Body(v)
			if string(v[PlaceSize:]) != "v" {
				t.Errorf("body %x has the value %q", k, v[PlaceSize:])
			}
			m[int(binary.BigEndian.Uint32(k))] = string(b)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func heavy(n int, b string) Entry {
	return Entry{Bucket: "bodies", Key: bodyKey(n), Value: []byte("v"), Body: []byte(b)}
}

func files(t *testing.T, path string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(path + ".segments")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}

// TestBodies: bodies are there after a fold, a crash and an end, in segments; they
// are written again and dropped, and a segment goes with its last one.
func TestBodies(t *testing.T) {
	small(t, 1000)
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	want := map[int]string{}
	put := func(n int, b string) {
		t.Helper()
		want[n] = b
		if err := j.PutSoon(heavy(n, b)); err != nil {
			t.Fatal(err)
		}
	}
	same := func(what string, j *Journal) {
		t.Helper()
		if got := bodies(t, j); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: %d bodies, want %d", what, len(got), len(want))
		}
	}
	for n := range 40 {
		put(n, strings.Repeat(fmt.Sprint(n, " "), 33))
		if n%7 == 0 {
			same("while they are put", j)
		}
	}
	put(1000, "")
	put(1001, strings.Repeat("long", logSize))
	same("folded", j)
	put(1002, "not folded yet")
	same("after a crash", crashed(t, path))
	put(3, "again")
	same("written again", j)
	if len(files(t, path)) < 4 {
		t.Fatalf("all in %v", files(t, path))
	}
	drop := func(n int) error {
		delete(want, n)
		return j.Update(func(tx *bolt.Tx) error { return j.Drop(tx, "bodies", bodyKey(n)) })
	}
	for n := range 40 {
		if err := drop(n); err != nil {
			t.Fatal(err)
		}
		same("while they are dropped", j)
	}
	refused := errors.New("refused")
	err := j.Update(func(tx *bolt.Tx) error { return errors.Join(j.Drop(tx, "bodies", bodyKey(1001)), refused) })
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	same("after a drop that was taken back", j)
	if got := files(t, path); len(got) > 3 {
		t.Errorf("of 3 bodies there are the segments %v", got)
	}
	for _, n := range []int{1000, 1001, 1002} {
		if err := drop(n); err != nil {
			t.Fatal(err)
		}
	}
	put(7, strings.Repeat("x", 2000)) // the last segment is full, and nothing in it is of use
	put(8, "last")
	same("after all were dropped", j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	same("opened again", start(t, path))
	if got := files(t, path); len(got) > 2 {
		t.Errorf("of 2 bodies there are the segments %v", got)
	}
}

// TestTornSegment: what a crash leaves behind the last body is cut off, and what it
// kept from being named is still in the log; a segment that lost something, or is
// lost, is not guessed at.
func TestTornSegment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	if err := j.Put(heavy(1, "one")); err != nil {
		t.Fatal(err)
	}
	bodies(t, j)
	if err := j.Put(heavy(2, "two")); err != nil { // is in the log alone
		t.Fatal(err)
	}
	for _, tail := range []string{"", "t", "two", strings.Repeat("rubbish", 1000)} {
		db := filepath.Join(t.TempDir(), "j.db")
		copied(t, path, db)
		seg := filepath.Join(db+".segments", "00000001")
		write(t, seg, append(read(t, seg), tail...))
		write(t, filepath.Join(db+".segments", "00000002"), []byte(tail)) // begun, and never named
		j := start(t, db)
		if got := bodies(t, j); len(got) != 2 || got[1] != "one" || got[2] != "two" {
			t.Errorf("with %.10q behind it: %v", tail, got)
		}
		if got := read(t, seg); string(got) != "onetwo" || len(files(t, db)) != 1 {
			t.Errorf("with %.10q behind it, it holds %.20q, of %v", tail, got, files(t, db))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, seg, bytes.ToUpper(read(t, seg)))
		j = start(t, db)
		err := j.View(func(tx *bolt.Tx) error {
			_, err := j.Body(tx.Bucket([]byte("bodies")).Get(bodyKey(1)))
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "is damaged at 0") {
			t.Errorf("a body that was changed reads: %v", err)
		}
		j.Close()
		write(t, seg, read(t, seg)[:5])
		if j, err := Open(db, "b", "c", "bodies"); err == nil || !strings.Contains(err.Error(), "has 5 bytes, and had 6") {
			j.Close()
			t.Errorf("a segment that was cut: %v", err)
		}
		if err := os.Remove(seg); err != nil {
			t.Fatal(err)
		}
		if j, err := Open(db, "b", "c", "bodies"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "put all its files back") {
			j.Close()
			t.Errorf("without its segment: %v", err)
		}
	}
}

// TestFullSegments: when bodies cannot be written, nothing that was accepted is lost.
func TestFullSegments(t *testing.T) {
	small(t, 1000)
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	if err := j.Put(heavy(1, strings.Repeat("x", 2000))); err != nil {
		t.Fatal(err)
	}
	bodies(t, j)
	next := filepath.Join(path+".segments", "00000002")
	if err := os.Mkdir(next, 0o700); err != nil { // stands where the next segment is to be
		t.Fatal(err)
	}
	if err := j.Put(heavy(2, "two")); err != nil {
		t.Fatal(err)
	}
	if err := j.View(func(*bolt.Tx) error { return nil }); err == nil {
		t.Error("folded without a segment")
	}
	if err := j.Put(heavy(3, "three")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(next); err != nil {
		t.Fatal(err)
	}
	if got := bodies(t, j); len(got) != 3 || got[2] != "two" || got[3] != "three" {
		t.Errorf("then there is %.100v", got)
	}
	if got := bodies(t, crashed(t, path)); len(got) != 3 {
		t.Errorf("after a crash there is %.100v", got)
	}
}
