package leases_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

func hash(n int) (h square.Hash) {
	h[0], h[30], h[31] = 0xbb, byte(n>>8), byte(n)
	return h
}

func key(t testing.TB) square.Key {
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// lease is lease n, opened n seconds before now.
func lease(n int, by, with square.Address, state market.State) source.Lease {
	l := source.Lease{Then: market.Settled, Why: market.ReasonIdle, At: time.Now().Unix() + 3600, ToBuyer: 70, ToProvider: 30}
	l.ID, l.State, l.Provider, l.Opened, l.Ends = hash(n), state, with, time.Now().Unix()-int64(n), time.Now().Unix()+1000
	l.Order = square.Order{Buyer: by, Trade: "infer", Denom: square.Denom, Policy: "audit"}
	l.Escrow, l.Paid, l.Bond, l.Lanes = uint64(1000*n), uint64(n), 500, []uint64{uint64(n), 0}
	return l
}

func TestList(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	me, other := s.Owner.Address(), key(t)
	for n := 1; n <= 60; n++ {
		state := market.Active
		if n%3 == 0 {
			state = market.Settled
		}
		sq.AllLeases = append(sq.AllLeases, lease(n, me, other.Address(), state))
	}
	b := s.AsOwner()
	sq.Asked()
	b.Get("/leases").Is(http.StatusOK).Has("1–50 of 60", "active", "settled", "you")
	b.Get("/leases?state=standing").Is(http.StatusOK).Has("1–40 of 40").Lacks(hash(3).String())
	b.Get("/leases?state=settled&sort=escrow&dir=desc").Is(http.StatusOK).Has("1–20 of 20")
	b.Get("/leases?party=torg1nobody").Is(http.StatusOK).Has("Nothing like that")
	if n := sq.Asked(); n > 3 {
		t.Errorf("the ledger was asked %d times", n)
	}
	b.Get("/leases?state=odd").Is(http.StatusBadRequest).Has("state")
	b.Get("/leases?page=0").Is(http.StatusBadRequest)

	// A wallet sees its own, a key none.
	w := s.AsWallet(other)
	sq.AllLeases = append(sq.AllLeases, lease(70, me, key(t).Address(), market.Active))
	w.Get("/leases").Is(http.StatusOK).Lacks(hash(70).String())
	w.Get("/leases/" + hash(70).String()).Is(http.StatusNotFound)
	w.Get("/leases/" + hash(1).String()).Is(http.StatusOK)
	k, _ := s.AsKey("reader")
	k.Get("/leases").Is(http.StatusOK).Has("Leases are the wallet").Lacks(hash(1).String())
	k.Get("/leases/" + hash(1).String()).Is(http.StatusNotFound)
}

func TestStory(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	me, them := s.Owner.Address(), key(t).Address()
	sq.AllLeases = []source.Lease{lease(7, me, them, market.Active), lease(8, them, me, market.Active)}
	event := func(n int, kind market.Kind) source.Event {
		e := source.Event{Height: 77, Tx: hash(900)}
		e.Kind, e.Lease, e.Time, e.Buyer, e.Provider, e.Reason = kind, hash(n), time.Now().Unix(), me, them, market.ReasonFraud
		return e
	}
	sq.Past = []source.Event{event(7, market.EvOpened), event(7, market.EvRedeemed), event(7, market.EvChallenged), event(9, market.EvOpened), event(9, market.EvEnded)}
	reader, k := s.AsKey("reader")
	sq.Records = []desk.Record{
		{ID: hash(100), Account: k.ID, Subject: "mine", Denom: square.Denom, Evidence: square.Evidence{Receipt: square.Receipt{Lease: hash(7)}}},
		{ID: hash(101), Account: "other", Subject: "theirs", Denom: square.Denom, Evidence: square.Evidence{Receipt: square.Receipt{Lease: hash(7)}}},
	}
	b := s.AsOwner()
	path := "/leases/" + hash(7).String()
	told := b.Get(path).Is(http.StatusOK).Has("In silence", "nothing was redeemed for too long", "You set", "block 77", "mine", "theirs", "Close this lease")
	tones := map[string]int{}
	told.Each("li", func(n *html.Node) { tones[consoletest.Attr(n, "class")]++ })
	if tones["good"] != 1 || tones["warn"] != 1 {
		t.Errorf("a payment and a challenge look like %v", tones)
	}
	reader.Get(path).Is(http.StatusOK).Has("mine").Lacks("theirs", hash(101).String(), "Close this lease")
	reader.Submit("/leases", path+"/close", url.Values{}).Is(http.StatusForbidden)
	// Not the owner's to close.
	b.Get("/leases/" + hash(8).String()).Is(http.StatusOK).Lacks("Close this lease")
	b.Submit(path, "/leases/"+hash(8).String()+"/close", url.Values{}).Is(http.StatusForbidden)
	// One that only history remembers.
	b.Get("/leases/"+hash(9).String()).Is(http.StatusOK).Has("forgotten by the ledger", "the work was false and the bond was slashed")

	b.Submit(path, path+"/close", url.Values{}).Is(http.StatusSeeOther)
	b.Get(path).Is(http.StatusOK).Has("The lease is closed", "settled", "both sides signed the final sum").Lacks("Close this lease")
	for _, id := range []string{"x", hash(10).String()} {
		b.Get("/leases/" + id).Is(http.StatusNotFound)
	}
	sq.Break(fmt.Errorf("no ledger"))
	b.Get(path).Is(http.StatusInternalServerError).Has("no ledger")
}

// A lease of many requests shows the last, and a key whose receipts are not among
// the lease's first sees it too.
func TestLastReceipts(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	sq.AllLeases = []source.Lease{lease(7, s.Owner.Address(), key(t).Address(), market.Active)}
	reader, k := s.AsKey("reader")
	for n := range 50 {
		r := desk.Record{ID: hash(n), Account: "other", Subject: fmt.Sprintf("model %d.", n), Time: time.Now().Add(-time.Duration(n) * time.Second), Denom: square.Denom}
		r.Evidence.Receipt.Lease = hash(7)
		if n == 0 {
			r.Account = k.ID
		}
		sq.Records = append(sq.Records, r)
	}
	path := "/leases/" + hash(7).String()
	s.AsOwner().Get(path).Is(http.StatusOK).Has("model 0.", "model 19.").Lacks("model 20.")
	reader.Get(path).Is(http.StatusOK).Has("model 0.").Lacks("model 1.")
}

// Ten thousand leases: reading them all from the ledger is not measured, since
// that happens once in three seconds; making every view is.
func BenchmarkTenThousand(b *testing.B) {
	sq := consoletest.New()
	s := consoletest.Open(b, sq, nil)
	them := key(b).Address()
	for n := range 10_000 {
		sq.AllLeases = append(sq.AllLeases, lease(n, s.Owner.Address(), them, market.Active))
	}
	owner := s.AsOwner()
	for b.Loop() {
		owner.Get("/leases?sort=paid&dir=asc&page=9&state=standing")
	}
}
