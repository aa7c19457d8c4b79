package desk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/wire"
)

// shelf is a desk with receipts of several accounts, leases, providers, names and
// findings, and what they are.
func shelf(t *testing.T, n int) (*filed, []Record) {
	t.Helper()
	moment := time.UnixMicro(1_800_000_000_000_000)
	d := file(t, func(c *Config) { c.Now = func() time.Time { return moment } }) // all come in one moment
	var rs []Record
	for i := range n {
		r := Record{
			ID: square.Hash{byte(i), byte(i >> 8), 1}, Provider: square.Address{byte(i % 3), 1}, Trade: "words", Subject: fmt.Sprint("good ", i%4),
			Account: []string{"", "key_a", "key_b", "key_bb", "key_c"}[i%5], Denom: square.Denom, Units: []Metered{{Unit: "letters", Count: uint64(i)}},
			Evidence: square.Evidence{Receipt: square.Receipt{Lease: square.Hash{byte(i % 2), 1}, Price: uint64(i)}, Request: fmt.Append(nil, "q", i), Result: fmt.Append(nil, "r", i)},
		}
		if i%7 == 0 {
			r.Audit, r.Note = AuditEqual, "as it was filed"
		}
		es, err := d.filing(&r)
		if err == nil {
			err = d.cfg.Store.PutSoon(es...)
		}
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	slices.Reverse(rs) // the newest first
	return d, rs
}

// TestFilters: every filter gives, page by page, what looking through all receipts
// gives, each once, in the same order, though all came in the same moment.
func TestFilters(t *testing.T) {
	d, rs := shelf(t, 210)
	if err := d.note(rs[5].ID, AuditSlashed, "found"); err != nil {
		t.Fatal(err)
	}
	rs[5].Audit, rs[5].Note = AuditSlashed, "found"
	if err := d.note(rs[6].ID, AuditEqual, ""); err != nil { // was equal, or was nothing
		t.Fatal(err)
	}
	rs[6].Audit = AuditEqual
	var fs []Filter
	for _, account := range []string{"", "key_a", "key_b", "key_x"} {
		for _, lease := range []square.Hash{{}, {1, 1}, {7}} {
			for _, provider := range []square.Address{{}, {2, 1}} {
				for _, subject := range []string{"", "good 3", "good"} {
					for _, f := range []Filter{{}, {Audit: AuditEqual}, {Audit: AuditSlashed}, {Signed: true}} {
						f.Account, f.Lease, f.Provider, f.Subject = account, lease, provider, subject
						fs = append(fs, f)
					}
				}
			}
		}
	}
	some := 0
	for _, f := range fs {
		var want, got []square.Hash
		for _, r := range rs {
			if (f.Account == "" || r.Account == f.Account) && (f.Lease.IsZero() || r.Evidence.Receipt.Lease == f.Lease) &&
				(f.Provider.IsZero() || r.Provider == f.Provider) && (f.Subject == "" || r.Subject == f.Subject) &&
				(f.Audit == "" || r.Audit == f.Audit) && (!f.Signed || r.Audit == "") {
				want = append(want, r.ID)
			}
		}
		before := time.Time{}
		for pages := 0; ; pages++ {
			page, next, err := d.Receipts(t.Context(), f, before, 4)
			if err != nil || len(page) > 4 || pages > 100 {
				t.Fatalf("%+v: page %d of %d receipts, %v", f, pages, len(page), err)
			}
			for _, r := range page {
				got = append(got, r.ID)
				if r.Evidence.Request != nil || r.Evidence.Result != nil {
					t.Fatal("a list has the bytes of its receipts")
				}
			}
			if before = next; next.IsZero() {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %d receipts, want %d", f, len(got), len(want))
		}
		some += len(want)
	}
	if some < 1000 {
		t.Errorf("the filters chose %d receipts", some)
	}
	for _, want := range rs[:20] {
		r, err := d.Receipt(t.Context(), want.ID)
		if err != nil || string(r.Evidence.Request) != string(want.Evidence.Request) || string(r.Evidence.Result) != string(want.Evidence.Result) ||
			r.Audit != want.Audit || !r.Time.Equal(want.Time) || r.Metered("letters") != want.Metered("letters") {
			t.Errorf("receipt %s reads %+v, %v", want.ID.Short(), r, err)
		}
	}
}

// TestFindReceipt: the beginning of an id is enough where no other begins so.
func TestFindReceipt(t *testing.T) {
	d, rs := shelf(t, 300)
	for _, r := range rs {
		for _, digits := range []string{r.ID.String(), r.ID.String()[:4], "0x" + strings.ToUpper(r.ID.String()[:9])} {
			if id, err := d.FindReceipt(t.Context(), digits); err != nil || id != r.ID {
				t.Errorf("%s found %s, %v", digits, id.Short(), err)
			}
		}
	}
	for digits, want := range map[string]string{"0a": "more than one", "0": "more than one", "xy": "hexadecimal", "": "hexadecimal", strings.Repeat("0", 65): "1 to 64"} {
		if _, err := d.FindReceipt(t.Context(), digits); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.9q: %v", digits, err)
		}
	}
	if _, err := d.FindReceipt(t.Context(), "ffff"); !errors.Is(err, ErrNoReceipt) {
		t.Errorf("one that is not there: %v", err)
	}
}

// TestPruneLeavesNothing: what is pruned is gone from every bucket and from the
// disk, but for what is still to be audited.
func TestPruneLeavesNothing(t *testing.T) {
	d, rs := shelf(t, 1200)
	due := rs[len(rs)-1]
	d.queue(due)
	d.cfg.Now = func() time.Time { return time.UnixMicro(1_800_000_000_000_000).Add(d.cfg.Retain + time.Hour) }
	if err := d.prune(); err != nil {
		t.Fatal(err)
	}
	counts := func() map[string]int {
		m := map[string]int{}
		if err := d.cfg.Store.View(func(tx *bolt.Tx) error {
			for _, b := range []string{bucketHeads, bucketEvidence, bucketIDs, bucketIndex} {
				m[b] = tx.Bucket([]byte(b)).Stats().KeyN
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := counts(); m[bucketHeads] != 1 || m[bucketEvidence] != 1 || m[bucketIDs] != 1 || m[bucketIndex] != len(due.keys(0)) {
		t.Errorf("left are %v", m)
	}
	if r, err := d.Receipt(t.Context(), due.ID); err != nil || r.ID != due.ID {
		t.Errorf("what is to be audited: %v", err)
	}
	if err := d.cfg.Store.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketAudits)).Delete(due.ID[:]) }); err != nil {
		t.Fatal(err)
	}
	if err := d.prune(); err != nil {
		t.Fatal(err)
	}
	if m := counts(); m[bucketHeads]+m[bucketEvidence]+m[bucketIDs]+m[bucketIndex] != 0 {
		t.Errorf("left are %v", m)
	}
}

// TestDeskKilled: a desk is killed at any moment, 20 times. What it was told is
// stored is there after that, and each time what an account has spent, what its
// lanes were charged and what its receipts say is one sum.
func TestDeskKilled(t *testing.T) {
	if path := os.Getenv("DESK_TEST_FILE"); path != "" {
		fileForEver(path)
	}
	path := filepath.Join(t.TempDir(), "desk.db")
	var told uint64
	for round := range 20 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDeskKilled$")
		cmd.Env = append(os.Environ(), "DESK_TEST_FILE="+path)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 5+rand.IntN(150) && lines.Scan(); n++ {
			fmt.Sscan(lines.Text(), &told)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		for _, s := range strings.Fields(string(rest)) {
			var n uint64
			if _, err := fmt.Sscan(s, &n); err == nil && n > told {
				told = n
			}
		}
		_ = cmd.Wait() // killed
		store, err := journal.Open(path, Buckets...)
		if err != nil {
			t.Fatal(err)
		}
		d, err := filedAt(store, func(*Config) {})
		if err != nil {
			t.Fatal(err)
		}
		sums, last, count := map[string]uint64{}, uint64(0), uint64(0)
		for before := (time.Time{}); ; {
			rs, next, err := d.Receipts(t.Context(), Filter{}, before, 500)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				sums[r.Account] += r.Evidence.Receipt.Price
				last = max(last, r.Evidence.Receipt.Cumulative)
				count++
				if full, err := d.Receipt(t.Context(), r.ID); err != nil || len(full.Evidence.Request) != int(r.Evidence.Receipt.Price) {
					t.Fatalf("round %d: receipt %d: %v", round, r.Evidence.Receipt.Seq, err)
				}
			}
			if before = next; next.IsZero() {
				break
			}
		}
		var lane laneRecord
		if err := store.View(func(tx *bolt.Tx) error { return readLane(tx, &lane) }); err != nil {
			t.Fatal(err)
		}
		total := uint64(0)
		for account, sum := range sums {
			total += sum
			if d.spent[account] != sum {
				t.Fatalf("round %d: %s has spent %d, its receipts say %d", round, account, d.spent[account], sum)
			}
		}
		if total != lane.Charged || last != lane.Charged || count != lane.Seq || count < told || d.filed != count {
			t.Fatalf("round %d: %d receipts over %d, the last says %d; the lane is at %d, charged %d; told of %d; counted %d", round, count, total, last, lane.Seq, lane.Charged, told, d.filed)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if told < 100 {
		t.Errorf("only %d receipts were filed", told)
	}
}

func readLane(tx *bolt.Tx, lane *laneRecord) error {
	b := tx.Bucket([]byte(bucketLanes)).Get(laneKey(square.Hash{1}, 0))
	if b == nil {
		return nil
	}
	return json.Unmarshal(b, lane)
}

// fileForEver charges a lane, and says the number of each receipt that is stored.
func fileForEver(path string) {
	err := func() error {
		store, err := journal.Open(path, Buckets...)
		if err != nil {
			return err
		}
		f, err := filedAt(store, func(*Config) {})
		if err != nil {
			return err
		}
		if err := store.View(func(tx *bolt.Tx) error { return readLane(tx, &f.h.ln.rec) }); err != nil {
			return err
		}
		f.h.ln.rec.Pending = nil
		f.n = f.h.ln.rec.Seq
		for {
			if _, err := f.charged(fmt.Sprint("key_", f.n%7), 1+f.n*7%5000); err != nil {
				return err
			}
			fmt.Println(f.n)
			if f.n%40 == 0 { // somebody looks, so that all is folded
				if _, _, err := f.Receipts(context.Background(), Filter{}, time.Time{}, 1); err != nil {
					return err
				}
			}
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// BenchmarkCharge is what a receipt costs the disk's side of a request: its lane
// before and after, and itself, with what is folded now and then.
func BenchmarkCharge(b *testing.B) {
	store, err := journal.Open(filepath.Join(b.TempDir(), "desk.db"), Buckets...)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	f, err := filedAt(store, func(*Config) {})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.commit(f.h, f.seatOf(f.h.l), make([]byte, 300), wire.Signed{Receipt: square.Receipt{
			Lease: f.h.l.id, Seq: f.n, Subject: square.Hash{3}, Units: []uint64{1}, Price: 1, Cumulative: f.h.ln.rec.Charged + 1,
		}, Result: make([]byte, 900)}, time.Millisecond); err != nil {
			b.Fatal(err)
		}
		f.n++
	}
}

// BenchmarkPage is what a page of receipts costs, of 20,000.
func BenchmarkPage(b *testing.B) {
	store, err := journal.Open(filepath.Join(b.TempDir(), "desk.db"), Buckets...)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	f, err := filedAt(store, func(*Config) {})
	if err != nil {
		b.Fatal(err)
	}
	for n := range 20_000 {
		r := Record{ID: square.Hash{byte(n), byte(n >> 8)}, Account: fmt.Sprint("key_", n%10), Subject: fmt.Sprint("good ", n%7), Provider: square.Address{byte(n % 11)}}
		r.Units, r.Evidence.Request = []Metered{{Unit: "letters", Count: 1}}, make([]byte, 1200)
		es, err := f.filing(&r)
		if err == nil {
			err = store.PutSoon(es...)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, w := range map[string]Filter{"all": {}, "account": {Account: "key_3"}, "two": {Subject: "good 3", Provider: square.Address{4}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if rs, _, err := f.Receipts(b.Context(), w, time.Time{}, 50); err != nil || len(rs) != 50 {
					b.Fatal(len(rs), err)
				}
			}
		})
	}
}

// TestSplit: evidence of any length is read or refused.
func TestSplit(t *testing.T) {
	for _, c := range []struct {
		in, request, result string
		ok                  bool
	}{
		{"", "", "", false}, {"abc", "", "", false}, {"\x00\x00\x00\x01", "", "", false}, {"\xff\xff\xff\xffab", "", "", false},
		{"\x00\x00\x00\x00", "", "", true}, {"\x00\x00\x00\x01ab", "a", "b", true},
	} {
		request, result, err := split([]byte(c.in))
		if (err == nil) != c.ok || string(request) != c.request || string(result) != c.result {
			t.Errorf("%q: %q, %q, %v", c.in, request, result, err)
		}
	}
}
