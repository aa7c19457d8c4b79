package desk

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/torg-network/torg/chain"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// still is a ledger that only tells the time.
type still struct{ Ledger }

func (still) Head(context.Context) (chain.Head, error) {
	return chain.Head{Height: 1, Time: time.Unix(1_800_000_000, 0)}, nil
}

// words is a trade of which only receipts are looked at.
type words struct{ trade.Rules }

func (words) Name() string                                    { return "words" }
func (words) Rates(square.Offer, square.Policy) []square.Rate { return nil }
func (words) Place([]square.Rate) uint64                      { return 0 }
func (words) Verify(square.Offer, []byte, wire.Signed) error  { return nil }
func (words) Audits(square.Hash) bool                         { return true }
func (words) Audit(context.Context, Record) (square.Verdict, uint64, error) {
	return square.VerdictOK, 0, nil
}

// filed is a desk with one lane that is charged without anybody being asked.
type filed struct {
	*Desk
	h held
	n uint64
}

func file(t *testing.T, set func(*Config)) *filed {
	t.Helper()
	store, err := journal.Open(filepath.Join(t.TempDir(), "desk.db"), Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	f, err := filedAt(store, set)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func filedAt(store Store, set func(*Config)) (*filed, error) {
	k, err := square.NewKey()
	if err != nil {
		return nil, err
	}
	cfg := Config{Key: k, ChainID: "torg-test-1", Ledger: still{}, Store: store, Trades: []Trade{words{}}, Policy: square.PolicyNone}
	set(&cfg)
	d, err := New(cfg)
	if err != nil {
		return nil, err
	}
	l := d.newLease(square.Hash{1}, leaseRecord{
		Phase: standing, Provider: square.Address{2}, Offer: square.Offer{Subject: "a word"},
		Order: square.Order{Trade: "words", Spec: square.Hash{3}, Denom: square.Denom, Lanes: 1, Policy: square.PolicyNone},
		Rates: []square.Rate{{Unit: "letters", PerMillion: 1_000_000}},
	})
	d.leases[l.id] = l
	return &filed{Desk: d, h: held{l, l.lanes[0]}}, nil
}

// charge has the lane charged for so many letters.
func (f *filed) charge(t *testing.T, account string, letters uint64) Record {
	t.Helper()
	rec, err := f.charged(account, letters)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func (f *filed) charged(account string, letters uint64) (Record, error) {
	request := make([]byte, letters)
	if err := f.pend(f.h, &pending{Max: f.h.ln.rec.Charged + letters + 1, Request: request, Account: account}); err != nil {
		return Record{}, err
	}
	f.n++
	return f.commit(f.h, f.seatOf(f.h.l), request, wire.Signed{Receipt: square.Receipt{
		Lease: f.h.l.id, Seq: f.n, Subject: square.Hash{3}, Units: []uint64{letters}, Price: letters, Cumulative: f.h.ln.rec.Charged + letters,
	}}, time.Millisecond)
}

// TestPrune: receipts are kept as many and as long as they should be, and no
// index keeps one that is gone.
func TestPrune(t *testing.T) {
	now := time.Now()
	d := file(t, func(c *Config) {
		c.MaxReceipts, c.Retain = 5, time.Hour
		c.Now = func() time.Time { now = now.Add(time.Second); return now }
	})
	var ids []square.Hash
	for range 12 {
		ids = append(ids, d.charge(t, "", 3).ID)
	}
	count := func() (byTime, byLease int) {
		t.Helper()
		recs, _, err := d.Receipts(t.Context(), Filter{}, time.Time{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		recs2, _, err := d.Receipts(t.Context(), Filter{Lease: d.h.l.id}, time.Time{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(recs), len(recs2)
	}
	if a, b := count(); a != 12 || b != 12 {
		t.Fatalf("%d and %d receipts, want 12", a, b)
	}
	if err := d.prune(); err != nil {
		t.Fatal(err)
	}
	if a, b := count(); a != 5 || b != 5 {
		t.Errorf("%d and %d receipts, want 5", a, b)
	}
	if _, err := d.Receipt(t.Context(), ids[0]); !errors.Is(err, ErrNoReceipt) {
		t.Errorf("the oldest: %v", err)
	}
	recs, _, _ := d.Receipts(t.Context(), Filter{}, time.Time{}, 1)
	if len(recs) != 1 || recs[0].ID != ids[11] {
		t.Error("the newest is not the newest")
	}
	older, _, _ := d.Receipts(t.Context(), Filter{}, recs[0].Time, 1)
	if len(older) != 1 || older[0].ID != ids[10] {
		t.Error("the one before the newest is another")
	}
	now = now.Add(2 * time.Hour)
	if err := d.prune(); err != nil {
		t.Fatal(err)
	}
	if a, b := count(); a != 0 || b != 0 {
		t.Errorf("%d and %d receipts after two hours, want none", a, b)
	}
}

// TestReceiptsOfAnAccount finds each account's receipts, newest first, and none
// of another's; what is pruned is gone from there too.
func TestReceiptsOfAnAccount(t *testing.T) {
	now := time.Now()
	d := file(t, func(c *Config) { c.Now, c.Retain = func() time.Time { return now }, time.Hour })
	var charged uint64
	for n := range 7 {
		now = now.Add(time.Second)
		r := d.charge(t, []string{"key_a", "key_b", ""}[n%3], uint64(n+1))
		charged += r.Evidence.Receipt.Price
		if r.Trade != "words" || r.Subject != "a word" || r.Metered("letters") != uint64(n+1) || r.Metered("tokens") != 0 {
			t.Errorf("a receipt reads %+v", r)
		}
	}
	if s := d.Standing()[d.h.l.id]; s.Charged != charged || s.Promised < charged {
		t.Errorf("the lease stands at %+v, want %d charged", s, charged)
	}
	for account, want := range map[string]int{"key_a": 3, "key_b": 2, "key": 0, "key_c": 0} {
		recs, _, err := d.Receipts(t.Context(), Filter{Account: account}, time.Time{}, 10)
		if err != nil || len(recs) != want {
			t.Fatalf("%s has %d receipts, want %d (%v)", account, len(recs), want, err)
		}
		for i, r := range recs {
			if r.Account != account || i > 0 && !r.Time.Before(recs[i-1].Time) {
				t.Errorf("%s: receipt %d is of %q at %v", account, i, r.Account, r.Time)
			}
		}
		if want > 1 {
			older, _, err := d.Receipts(t.Context(), Filter{Account: account}, recs[0].Time, 10)
			if err != nil || len(older) != want-1 || older[0].ID != recs[1].ID {
				t.Errorf("before its newest, %s has %d receipts (%v)", account, len(older), err)
			}
		}
	}
	now = now.Add(2 * time.Hour)
	if err := d.prune(); err != nil {
		t.Fatal(err)
	}
	if recs, _, err := d.Receipts(t.Context(), Filter{Account: "key_a"}, time.Time{}, 10); err != nil || len(recs) != 0 {
		t.Errorf("%d receipts outlived their time (%v)", len(recs), err)
	}
}

// TestAuditGivenUp: who stops waiting for its turn to have work done again gets
// none.
func TestAuditGivenUp(t *testing.T) {
	d := file(t, func(*Config) {})
	rec := d.charge(t, "", 3)
	for range cap(d.judging) {
		d.judging <- struct{}{} // as many as may are at it
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.Audit(ctx, rec.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with no turn to be had: %v", err)
	}
	<-d.judging
	if _, err := d.Audit(ctx, rec.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an audit nobody waits for: %v", err)
	}
	if found, err := d.Audit(t.Context(), rec.ID); err != nil || found != AuditEqual {
		t.Errorf("an audit: %s, %v", found, err)
	}
}
