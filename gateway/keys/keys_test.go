package keys

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/torg-network/torg/square"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t testing.TB, path string) (*Store, *clock) {
	t.Helper()
	c := &clock{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	s, err := Open(path, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, c
}

func create(t testing.TB, s *Store, g Grant) (string, string) {
	t.Helper()
	secret, k, err := s.Create(g)
	if err != nil {
		t.Fatal(err)
	}
	return secret, k.ID
}

func units(n uint64) *uint64 { return &n }

func TestLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s, c := open(t, path)
	secret, id := create(t, s, Grant{Name: "ci", Budget: units(100), Requests: 5, Expires: c.Now().Add(time.Hour)})
	if k, err := s.Check(secret); err != nil || k.ID != id || k.Name != "ci" || *k.Budget != 100 {
		t.Fatalf("%+v %v", k, err)
	}
	for _, bad := range []string{"", "torg-", secret + "a", secret[:len(secret)-1], "sk-" + secret} {
		if _, err := s.Check(bad); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	h, err := s.Begin(secret, Need{Units: 60})
	if err != nil {
		t.Fatal(err)
	}
	h.Settle(41, 10)
	h.Settle(41, 10) // a second call changes nothing
	if k, err := s.Get(id); err != nil || k.Spent != 41 || k.Reserved != 0 {
		t.Fatalf("settled: %+v %v", k, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(secret, Need{}); !errors.Is(err, ErrClosed) {
		t.Errorf("begin after close: %v", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(secret[len(Prefix):])) {
		t.Error("the file holds the secret")
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v", st.Mode())
	}

	s, c = open(t, path)
	k, err := s.Get(id)
	if err != nil || k.Spent != 0 || k.Reserved != 0 || *k.Budget != 100 || k.Requests != 5 {
		t.Fatalf("after reopening: %+v %v", k, err)
	}
	s.Follow(func(string) uint64 { return 41 }) // what its receipts say
	if _, err := s.SetBudget(id, units(50)); err != nil {
		t.Fatal(err)
	}
	var over *BudgetError
	if _, err := s.Begin(secret, Need{Units: 10}); !errors.As(err, &over) || over.Left != 9 {
		t.Errorf("over budget: %v", err)
	}
	if h, err := s.Begin(secret, Need{Units: 9}); err != nil || h.Limit() != 9 {
		t.Errorf("to the unit: %v", err)
	}
	if _, err := s.Begin(secret, Need{Units: 0}); !errors.As(err, &over) {
		t.Errorf("an empty budget admits: %v", err)
	}
	if _, err := s.SetBudget(id, nil); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Begin(secret, Need{Units: 1 << 40}); err != nil || h.Limit() != 0 {
		t.Errorf("without a budget: %v", err)
	}
	if _, err := s.Begin(secret, Need{Units: square.MaxUnits + 1}); err == nil {
		t.Error("more than any supply was reserved")
	}
	c.add(time.Hour)
	if _, err := s.Check(secret); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	secret, id = create(t, s, Grant{})
	if _, err := s.Revoke(id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(secret, Need{}); !errors.Is(err, ErrDisabled) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := s.Revoke("key_none"); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoke nobody: %v", err)
	}
	if ks, next := s.List("", "", 10); len(ks) != 2 || next != "" {
		t.Errorf("%d keys, and then %q", len(ks), next)
	}
	for _, g := range []Grant{{Name: string(make([]byte, MaxName+1))}, {Budget: units(square.MaxUnits + 1)}, {Expires: c.Now()}} {
		if _, _, err := s.Create(g); !errors.Is(err, ErrGrant) {
			t.Errorf("%+v: %v", g, err)
		}
	}
}

// TestParallel: a thousand requests race for one budget. Reserved and spent
// never exceed it, and what is spent is what was settled, to the unit.
func TestParallel(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "keys.db"))
	const budget = 5000
	secret, id := create(t, s, Grant{Budget: units(budget)})
	var settled, refused atomic.Uint64
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			need := uint64(i%37 + 1)
			h, err := s.Begin(secret, Need{Units: need})
			var over *BudgetError
			if errors.As(err, &over) {
				refused.Add(1)
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if k, _ := s.Get(id); k.Spent+k.Reserved > budget {
				t.Errorf("%d spent and %d reserved of %d", k.Spent, k.Reserved, budget)
			}
			cost := need - uint64(i)%need
			settled.Add(cost)
			h.Settle(cost, 0)
		})
	}
	wg.Wait()
	k, _ := s.Get(id)
	if k.Spent != settled.Load() || k.Reserved != 0 || refused.Load() == 0 {
		t.Errorf("spent %d, settled %d, reserved %d, refused %d", k.Spent, settled.Load(), k.Reserved, refused.Load())
	}
	// To the exact unit: what is left can be had, one more cannot.
	if _, err := s.SetBudget(id, units(k.Spent+10)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(secret, Need{Units: 11}); err == nil {
		t.Error("one unit too many")
	}
	h, err := s.Begin(secret, Need{Units: 10})
	if err != nil {
		t.Fatal(err)
	}
	h.Settle(10, 0)
	if again, _ := s.Get(id); again.Spent != k.Spent+10 {
		t.Errorf("spent %d, want %d", again.Spent, k.Spent+10)
	}
}

// TestCrash copies the file while requests run, which is what a crash leaves
// behind: keys are there, and what they have spent comes from whoever paid.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, filepath.Join(dir, "keys.db"))
	secret, id := create(t, s, Grant{Budget: units(1000)})
	begin := func(n uint64) *Hold {
		h, err := s.Begin(secret, Need{Units: n})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	done, late := begin(300), begin(500)
	done.Settle(123, 0)
	copied := filepath.Join(dir, "crashed.db")
	if err := s.db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(copied, 0o600) }); err != nil {
		t.Fatal(err)
	}
	late.Settle(400, 0)

	after, _ := open(t, copied)
	paid := uint64(523) // what the receipts say, as the payer has them
	after.Follow(func(key string) uint64 {
		if key != id {
			t.Errorf("asked what %s has spent", key)
		}
		return paid
	})
	k, err := after.Get(id)
	if err != nil || k.Spent != 523 || k.Reserved != 0 {
		t.Fatalf("%+v %v", k, err)
	}
	if _, err := after.Begin(secret, Need{Units: 478}); err == nil {
		t.Error("one unit too many after the crash")
	}
	h, err := after.Begin(secret, Need{Units: 477})
	if err != nil {
		t.Fatalf("what is left is not there: %v", err)
	}
	paid += 100 // its receipt
	h.Settle(100, 0)
	if ks, _ := after.List("", "", 1); ks[0].Spent != 623 || ks[0].Reserved != 0 {
		t.Errorf("counted twice, or not at all: %+v", ks[0])
	}
	paid = 423 // what may have cost 200 cost nothing
	if _, err := after.Begin(secret, Need{Units: 577}); err != nil {
		t.Errorf("what was not charged is not given back: %v", err)
	}
}

// TestBroken: what the disk does not take is not so.
func TestBroken(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "keys.db"))
	secret, id := create(t, s, Grant{})
	s.db.Close()
	if _, err := s.Revoke(id); err == nil {
		t.Error("revoked on a closed disk")
	}
	if _, err := s.SetBudget(id, units(1)); err == nil {
		t.Error("a budget was set on a closed disk")
	}
	if _, _, err := s.Create(Grant{}); err == nil {
		t.Error("a key was made on a closed disk")
	}
	if k, err := s.Check(secret); err != nil || k.Disabled || k.Budget != nil {
		t.Errorf("a change that failed is there: %+v, %v", k, err)
	}
	if ks, _ := s.List("", "", 10); len(ks) != 1 {
		t.Errorf("%d keys", len(ks))
	}
}

// TestList: keys are listed a page at a time, in the order in which they were made,
// each once, also when some are made meanwhile and after the store was opened again.
func TestList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s, c := open(t, path)
	want := []string{}
	more := func(n int) {
		for range n {
			if len(want)%3 == 0 { // some are made in the same second
				c.add(time.Second)
			}
			_, id := create(t, s, Grant{Name: "Key " + strconv.Itoa(len(want))})
			want = append(want, id)
		}
	}
	all := func(text string, meanwhile func()) (ids []string) {
		for after := ""; ; {
			ks, next := s.List(text, after, 7)
			for _, k := range ks {
				ids = append(ids, k.ID)
			}
			if after = next; next == "" {
				return ids
			}
			meanwhile()
		}
	}
	more(20)
	got := all("", func() {
		if len(want) < 25 {
			c.add(time.Second)
			more(1)
		}
	})
	slices.Sort(got)
	if all := slices.Sorted(slices.Values(want)); !slices.Equal(got, all) {
		t.Errorf("listed %d, want %d", len(got), len(all))
	}
	if got := all("kEY 1", func() {}); len(got) != 11 {
		t.Errorf("%d keys have a 1 in front, want 11", len(got))
	}
	if got := all(want[3], func() {}); len(got) != 1 || got[0] != want[3] {
		t.Errorf("by its id: %v", got)
	}
	before := all("", func() {})
	s.Close()
	s, _ = open(t, path)
	if got := all("", func() {}); !slices.Equal(got, before) {
		t.Error("opened again, the order is another")
	}
}

func TestRates(t *testing.T) {
	s, c := open(t, filepath.Join(t.TempDir(), "keys.db"))
	secret, _ := create(t, s, Grant{Requests: 60, Tokens: 1000})
	begin := func(tokens uint64) (*Hold, time.Duration) {
		t.Helper()
		leave, err := s.Enter(secret, 1)
		var h *Hold
		if err == nil {
			leave()
			h, err = s.Begin(secret, Need{Tokens: tokens})
		}
		var rate *RateError
		if errors.As(err, &rate) {
			return nil, rate.After
		}
		if err != nil {
			t.Fatal(err)
		}
		return h, 0
	}
	for i := range 60 {
		if h, _ := begin(1); h == nil {
			t.Fatalf("request %d was refused", i)
		} else {
			h.Settle(0, 0) // it used no token after all
		}
	}
	if _, after := begin(1); after != time.Second {
		t.Errorf("the 61st may come in %v, want 1s", after)
	}
	c.add(time.Second)
	if h, _ := begin(1); h == nil {
		t.Error("a second later it is refused")
	} else {
		h.Settle(0, 0)
	}
	c.add(time.Hour)
	// Larger than the limit: admitted once, alone.
	h, _ := begin(5000)
	if h == nil {
		t.Fatal("a request larger than a minute's tokens is never admitted")
	}
	if _, after := begin(100); after != 6*time.Second {
		t.Errorf("100 tokens of 1000 a minute in %v, want 6s", after)
	}
	h.Settle(0, 2000) // more than was taken: the debt is waited off
	if _, after := begin(0); after != time.Minute {
		t.Errorf("after a debt of 1000: %v, want 1m", after)
	}
	c.add(61 * time.Second)
	if h, _ := begin(10); h == nil {
		t.Error("the debt is never forgotten")
	}
}

func BenchmarkBeginSettle(b *testing.B) {
	s, _ := open(b, filepath.Join(b.TempDir(), "keys.db"))
	secret, _ := create(b, s, Grant{})
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h, err := s.Begin(secret, Need{Units: 1})
			if err != nil {
				b.Fatal(err)
			}
			h.Settle(1, 1)
		}
	})
}
