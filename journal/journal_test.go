package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func start(t testing.TB, path string) *Journal {
	t.Helper()
	j, err := Open(path, "b", "c", "bodies")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func entry(k, v string) Entry { return Entry{Bucket: "b", Key: []byte(k), Value: []byte(v)} }

func set(k, v string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte("b")).Put([]byte(k), []byte(v)) }
}

// content is all that a journal holds in bucket b.
func content(t testing.TB, j *Journal) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := j.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("b")).ForEach(func(k, v []byte) error { m[string(k)] = string(v); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// crashed opens a copy of a journal's files as they are now, as if its process
// had just died.
func crashed(t testing.TB, path string) *Journal {
	t.Helper()
	db := filepath.Join(t.TempDir(), "j.db")
	copied(t, path, db)
	return start(t, db)
}

// copied copies a journal's files, the segments last, since they only grow.
func copied(t testing.TB, path, to string) {
	t.Helper()
	for _, suffix := range []string{"", ".log"} {
		write(t, to+suffix, read(t, path+suffix))
	}
	if err := os.CopyFS(to+".segments", os.DirFS(path+".segments")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestParallel: writers in parallel all get their own answer, and what was
// answered with success is there after the file is opened again.
func TestParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "j.db")
	j := start(t, path)
	bad := errors.New("this one is refused")
	var writers sync.WaitGroup
	for i := range 400 {
		writers.Go(func() {
			var err error
			switch i % 4 {
			case 0:
				err = j.Put(entry(fmt.Sprint(i), "x"))
			case 1:
				err = j.PutSoon(entry(fmt.Sprint(i), "x"))
			default:
				err = j.Update(func(tx *bolt.Tx) error {
					if err := set(fmt.Sprint(i), "x")(tx); err != nil || i%4 != 3 {
						return err
					}
					return bad
				})
			}
			if errors.Is(err, bad) != (i%4 == 3) {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	writers.Wait()
	if n := len(content(t, j)); n != 300 {
		t.Errorf("%d entries, want 300", n)
	}
	if _, err := Open(path, "b", "c"); err == nil {
		t.Error("a journal was opened twice")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{j.Update(set("late", "x")), j.Put(entry("late", "x")), j.PutSoon(entry("late", "x"))} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if _, err := os.Stat(path + ".log"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a closed journal has a log: %v", err)
	}
	if n := len(content(t, start(t, path))); n != 300 {
		t.Errorf("%d entries after opening again, want 300", n)
	}
}

// TestCloseWaits: a write that was accepted is written, or is told that it was
// not.
func TestCloseWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	var writers sync.WaitGroup
	var mu sync.Mutex
	ok := 0
	for i := range 90 {
		writers.Go(func() {
			write := [](func() error){
				func() error { return j.Put(entry(fmt.Sprint(i), "x")) },
				func() error { return j.PutSoon(entry(fmt.Sprint(i), "x")) },
				func() error { return j.Update(set(fmt.Sprint(i), "x")) },
			}[i%3]
			if write() == nil {
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
	if n := len(content(t, start(t, path))); n != ok {
		t.Errorf("%d were written and %d said so", n, ok)
	}
}

// TestCrash: whatever returned is there after the process died, over many
// rounds of the log, with records larger than the log, beside transactions.
func TestCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	want := map[string]string{}
	r := rand.New(rand.NewPCG(1, 2))
	folds := 0
	for i := range 2000 {
		k, v := fmt.Sprint(r.IntN(100)), fmt.Sprint(i, strings.Repeat("v", r.IntN(4000)))
		var err error
		before := j.end
		switch r.IntN(100) {
		case 0:
			v = strings.Repeat(v, logSize/len(v)+1)
			err = j.Put(entry(k, v))
		case 1:
			err = j.Update(set(k, v))
		case 2, 3, 4, 5:
			err = j.PutSoon(entry(k, v))
		default:
			err = j.Put(entry(k, v), entry("other "+k, v))
			want["other "+k] = v
		}
		if err != nil {
			t.Fatal(err)
		}
		want[k] = v
		if j.end < before {
			folds++
		}
		if i%150 == 0 {
			c := crashed(t, path)
			if !maps.Equal(content(t, c), want) {
				t.Fatalf("after a crash at write %d something else is there", i)
			}
			if err := c.Put(entry("still", "works")); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	if folds < 3 {
		t.Errorf("%d rounds of the log; the test is too short", folds)
	}
	if !maps.Equal(content(t, j), want) {
		t.Error("without a crash something else is there")
	}
}

// TestTorn: of a log that was cut off or changed anywhere, the whole records
// before that place are read, and nothing else; also where an earlier round's
// records follow.
func TestTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	put := func(k, v string) {
		if err := j.Put(entry(k, v), Entry{Bucket: "c", Key: []byte(k), Value: nil}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 { // the earlier round
		put("old", fmt.Sprint(i, "0123456789"))
	}
	content(t, j)
	ends := []int{j.end}
	for i := range 4 {
		put("new", fmt.Sprint(i, strings.Repeat("x", 9*i)))
		ends = append(ends, j.end)
	}
	log, err := os.ReadFile(path + ".log")
	if err != nil {
		t.Fatal(err)
	}
	whole := func(at int) (n int) { // records that end before a place
		for n < 4 && ends[n+1] <= at {
			n++
		}
		return n
	}
	check := func(what string, log []byte, want int) {
		t.Helper()
		records, err := body(log, j.id)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		entries, last, err := replay(records, 20)
		if err != nil || len(entries) != 2*want || last != 20+uint64(want) {
			t.Fatalf("%s: %d entries up to record %d, want %d up to %d; %v", what, len(entries), last, 2*want, 20+want, err)
		}
	}
	for at := ends[0]; at < ends[4]; at++ {
		check(fmt.Sprintf("cut at %d", at), log[:at], whole(at))
		check(fmt.Sprintf("rubbish from %d", at), append(bytes.Clone(log[:at]), bytes.Repeat([]byte{0xff}, 4000)...), whole(at))
		changed := bytes.Clone(log)
		changed[at] ^= 1 << (at % 8)
		check(fmt.Sprintf("a bit changed at %d", at), changed, whole(at))
	}
	check("whole", log, 4)
	// And as a whole: Open of a torn log, which then is written again.
	if err := os.WriteFile(path+".log", log[:ends[3]-1], 0o600); err != nil {
		t.Fatal(err)
	}
	c := crashed(t, path)
	if got := content(t, c); got["new"] != "1"+strings.Repeat("x", 9) || len(got) != 2 {
		t.Errorf("a torn log gave %v", got)
	}
}

// TestRefused: files that do not belong together are not guessed at.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		spoil      func(t *testing.T, db string)
	}{
		{"log missing", "is missing", func(t *testing.T, db string) {
			if err := os.Remove(db + ".log"); err != nil {
				t.Fatal(err)
			}
		}},
		{"no log", "no journal's log", func(t *testing.T, db string) { write(t, db+".log", []byte("hello")) }},
		{"other's log", "another file", func(t *testing.T, db string) {
			b := read(t, db+".log")
			b[len(magic)]++
			write(t, db+".log", b)
		}},
		{"older file", "an older one", func(t *testing.T, db string) {
			records := encode(nil, []Entry{entry("k", "v")}, 99)
			b := read(t, db+".log")
			copy(b[headerSize:], records)
			write(t, db+".log", b)
		}},
		{"unknown bucket", "no bucket", func(t *testing.T, db string) {
			b := read(t, db+".log")
			copy(b[headerSize:], encode(nil, []Entry{{Bucket: "d", Key: []byte("k")}}, 1))
			write(t, db+".log", b)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j.db")
			j := start(t, path)
			dir := t.TempDir()
			for _, suffix := range []string{"", ".log"} {
				write(t, filepath.Join(dir, "j.db"+suffix), read(t, path+suffix))
			}
			j.Close()
			db := filepath.Join(dir, "j.db")
			c.spoil(t, db)
			j, err := Open(db, "b", "c")
			if err == nil {
				j.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), db) {
				t.Errorf("the error does not say %q: %v", c.want, err)
			}
			if _, again := Open(db, "b", "c"); again == nil || again.Error() != err.Error() {
				t.Errorf("opening it again says %v", again)
			}
		})
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutLog: a file of a version that had no log opens, and so does what a
// start that did not get far left behind.
func TestWithoutLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	write(t, path+".log", []byte("half a lo"))
	j := start(t, path)
	if got := content(t, j); got["k"] != "v" {
		t.Errorf("it holds %v", got)
	}
	if err := j.Put(entry("k", "w")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, crashed(t, path)); got["k"] != "w" {
		t.Errorf("after a crash it holds %v", got)
	}
}

// TestFailingLog: when the log fails, nothing accepted is lost, and a Put that
// says yes is on disk all the same.
func TestFailingLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := start(t, path)
	if err := j.PutSoon(entry("a", "1")); err != nil {
		t.Fatal(err)
	}
	swap := func(file string) (back func()) {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		j.syncing.Lock()
		j.mu.Lock()
		log := j.log
		j.log = f
		j.mu.Unlock()
		j.syncing.Unlock()
		return func() {
			j.mu.Lock()
			j.log = log
			j.mu.Unlock()
			f.Close()
		}
	}
	back := swap("/dev/full") // no write succeeds
	if err := j.Put(entry("refused", "1")); err == nil {
		t.Error("a record was put on a full disk")
	}
	if err := j.PutSoon(entry("a", "2")); err != nil {
		t.Error(err)
	}
	back()
	if err := j.Put(entry("b", "1")); err != nil {
		t.Error(err)
	}
	if got, want := content(t, crashed(t, path)), map[string]string{"a": "2", "b": "1"}; !maps.Equal(got, want) {
		t.Errorf("after writes that failed: %v, want %v", got, want)
	}
	back = swap("/dev/null") // every write succeeds, no sync
	if err := j.Put(entry("c", "1")); err != nil {
		t.Error(err)
	}
	back()
	if got := content(t, crashed(t, path)); got["c"] != "1" {
		t.Errorf("after a sync that failed: %v", got)
	}
}

// TestKilled: a process that puts is killed at any moment; what it was told is
// on disk is there, and of every record all or nothing.
func TestKilled(t *testing.T) {
	if path := os.Getenv("JOURNAL_TEST_PUT"); path != "" {
		putForEver(path)
	}
	small(t, 100_000)
	path := filepath.Join(t.TempDir(), "j.db")
	told := 0
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "JOURNAL_TEST_PUT="+path)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 20+rand.IntN(200) && lines.Scan(); n++ {
			fmt.Sscan(lines.Text(), &told)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		for _, s := range strings.Fields(lines.Text() + "\n" + string(rest)) {
			var n int
			if _, err := fmt.Sscan(s, &n); err == nil && n > told {
				told = n
			}
		}
		_ = cmd.Wait() // killed
		j := start(t, path)
		got := content(t, j)
		if got["a"] != got["b"] {
			t.Fatalf("round %d: half a record: %.20q and %.20q", round, got["a"], got["b"])
		}
		var has int
		fmt.Sscan(got["a"], &has)
		if has < told {
			t.Fatalf("round %d: it was told of %d and %d is there", round, told, has)
		}
		for n, body := range bodies(t, j) { // those of the last few, in as many segments
			want := fmt.Sprint(n, " ", strings.Repeat("x", n%10_000))
			if body != want || n > has || n < has-kept {
				t.Fatalf("round %d: body %d of %d is %.20q", round, n, has, body)
			}
		}
		// Where it was killed before it dropped one, there is one more.
		if got := len(bodies(t, j)); got != min(has, kept) && got != min(has, kept+1) {
			t.Fatalf("round %d: %d bodies, want %d", round, got, min(has, kept))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if told < 200 {
		t.Errorf("only %d records were put", told)
	}
}

// putForEver says the number of each record that is on disk.
func putForEver(path string) {
	segmentSize = 100_000
	j, err := Open(path, "b", "c", "bodies")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	n := 0
	_ = j.View(func(tx *bolt.Tx) error {
		fmt.Sscan(string(tx.Bucket([]byte("b")).Get([]byte("a"))), &n)
		return nil
	})
	drop := func() error {
		return j.Update(func(tx *bolt.Tx) error { return j.Drop(tx, "bodies", bodyKey(n-kept)) })
	}
	if err := drop(); err != nil { // what the last round was killed before
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		n++
		v := fmt.Sprint(n, " ", strings.Repeat("x", n%10_000))
		err := j.Put(entry("a", v), entry("b", v), Entry{Bucket: "bodies", Key: bodyKey(n), Value: []byte("v"), Body: []byte(v)})
		if err == nil {
			fmt.Println(n)
			err = drop()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// TestSoon: a write in no hurry is synced by itself when nobody else comes.
func TestSoon(t *testing.T) {
	j := start(t, filepath.Join(t.TempDir(), "j.db"))
	if err := j.PutSoon(entry("a", "1")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); j.synced.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not synced")
		}
	}
}

// TestChecked: an entry that the file could not take is refused at once.
func TestChecked(t *testing.T) {
	j := start(t, filepath.Join(t.TempDir(), "j.db"))
	for _, e := range []Entry{{Bucket: "d", Key: []byte("k")}, {Bucket: "b"}, {Bucket: "b", Key: make([]byte, bolt.MaxKeySize+1)}} {
		if err := errors.Join(j.Put(e), j.PutSoon(e)); err == nil {
			t.Errorf("bucket %q took a key of %d bytes", e.Bucket, len(e.Key))
		}
	}
	if got := content(t, j); len(got) != 0 {
		t.Error(got)
	}
}

// FuzzReplay: whatever is in a log, reading it ends, and what is read are
// records as they are written.
func FuzzReplay(f *testing.F) {
	one := encode(nil, []Entry{entry("key", "value"), {Bucket: "c", Key: []byte{0}}}, 7)
	two := encode(nil, nil, 8)
	f.Add(append(bytes.Clone(one), two...), uint64(6))
	f.Add(append(bytes.Clone(one), two...), uint64(7))
	f.Add(append(bytes.Clone(one), one...), uint64(6))
	f.Add(one[:len(one)-1], uint64(6))
	f.Add(encode(nil, []Entry{{Bucket: "c", Key: []byte{0}, Body: []byte("body")}, {Bucket: "c", Key: []byte{1}, Body: []byte{}}}, 7), uint64(6))
	f.Add(one, uint64(3))
	f.Add(bytes.Repeat([]byte{0xff}, 40), uint64(0))
	f.Add(make([]byte, 40), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, after uint64) {
		entries, last, err := replay(b, after)
		if err != nil {
			return
		}
		if last < after {
			t.Fatalf("the last record after %d is %d", after, last)
		}
		var again []Entry
		for rest := b; ; {
			es, number, size := decode(rest)
			if size == 0 || number > last {
				break
			}
			if !bytes.Equal(encode(nil, es, number), rest[:size]) {
				t.Fatalf("record %d is written differently", number)
			}
			if number > after && len(again) < len(entries) {
				again = append(again, es...)
			}
			rest = rest[size:]
		}
		if len(again) != len(entries) {
			t.Fatalf("%d entries, %d in the records", len(entries), len(again))
		}
	})
}

// FuzzDecode: the same behind a checksum that holds, which fuzzing would not
// find.
func FuzzDecode(f *testing.F) {
	f.Add(encode(nil, []Entry{entry("key", "value"), {Bucket: "c", Key: []byte{0}}}, 7)[frameSize:])
	f.Add(encode(nil, nil, 8)[frameSize:])
	f.Add(encode(nil, []Entry{entry("k", "v")}, 0)[frameSize:])
	f.Add(append(make([]byte, 9), 1, 1, 'b', 0, 1, 'k', 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, inner []byte) {
		b := make([]byte, frameSize, frameSize+len(inner))
		binary.BigEndian.PutUint32(b, uint32(len(inner)))
		binary.BigEndian.PutUint32(b[4:], crc32.Checksum(inner, castagnoli))
		b = append(b, inner...)
		entries, number, size := decode(b)
		if size != 0 && (size != len(b) || !bytes.Equal(encode(nil, entries, number), b)) {
			t.Fatalf("record %d of %d bytes is written differently", number, size)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	j := start(b, filepath.Join(b.TempDir(), "j.db"))
	v := make([]byte, 1500)
	for b.Loop() {
		if err := j.Put(Entry{Bucket: "b", Key: []byte("k"), Value: v}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	j := start(b, filepath.Join(b.TempDir(), "j.db"))
	for b.Loop() {
		if err := j.Update(set("k", "v")); err != nil {
			b.Fatal(err)
		}
	}
}
