package providers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/console/consoletest"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
)

func hash(n int) (h square.Hash) {
	h[0], h[30], h[31] = 0xee, byte(n>>8), byte(n)
	return h
}

func who(n int) square.Address { return square.Address{0xdd, byte(n >> 8), byte(n)} }

func key(t testing.TB) square.Key {
	k, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const hostile = `<img src=x onerror=alert(1)>"'`

func offer(n int, name string, price uint64) market.Offer {
	return market.Offer{ID: hash(n), InUse: uint64(n % 5), Offer: square.Offer{
		Provider: who(n), Trade: infer.Name, Spec: hash(n % 100), Subject: name, Denom: square.Denom, Capacity: 4,
		Rates:      []square.Rate{{Unit: infer.UnitPrompt, PerMillion: price}, {Unit: infer.UnitCompletion, PerMillion: 10 * price}},
		Attributes: []square.Attribute{{Key: hostile, Value: hostile}},
		Endpoint:   hostile, Expiry: time.Now().Add(time.Hour).Unix(), Nonce: 1,
	}}
}

func stake(n int, total uint64) source.Stake {
	s := source.Stake{}
	s.Provider, s.Trade, s.Total, s.Locked = who(n), infer.Name, total, total/2
	return s
}

func lease(n int, by, with square.Address) source.Lease {
	l := source.Lease{}
	l.ID, l.State, l.Provider, l.Opened = hash(n), market.Active, with, time.Now().Unix()-int64(n)
	l.Order = square.Order{Buyer: by, Trade: infer.Name, Denom: square.Denom}
	return l
}

func event(n int, kind market.Kind, lease square.Hash, by, with square.Address) source.Event {
	e := source.Event{Height: int64(n)}
	e.Kind, e.Lease, e.Buyer, e.Provider, e.Time, e.Trade = kind, lease, by, with, time.Now().Unix(), infer.Name
	return e
}

func TestList(t *testing.T) {
	sq := consoletest.New()
	for n := 1; n <= 60; n++ {
		sq.AllOffers = append(sq.AllOffers, offer(n, fmt.Sprintf("model-%d", n), uint64(n)*1_000_000))
		sq.AllStakes = append(sq.AllStakes, stake(n, uint64(n)*1_000_000))
	}
	sq.AllOffers = append(sq.AllOffers, offer(1, hostile, 1), offer(1, "third", 1))
	vast := offer(2, "vast", 1)
	vast.Capacity = 1<<64 - 1
	sq.AllOffers = append(sq.AllOffers, vast)
	sq.AllStakes = append(sq.AllStakes, stake(99, 5)) // who has a stake and offers nothing
	sq.SeatsNow = []desk.Seat{{Offer: square.Offer{Provider: who(60)}, Latency: 33 * time.Millisecond, Failures: 0.5}}
	s := consoletest.Open(t, sq, nil)
	b := s.AsOwner()
	sq.Asked()
	b.Get("/providers").Is(http.StatusOK).Has("1–50 of 60", "60 TORG", "30 TORG", "33 ms", "50.0 %").Lacks(hostile, who(99).String())
	b.Get("/providers?sort=stake&dir=asc").Has("model-1 and 2 more")
	b.Get("/providers?page=2").Has("51–60 of 60")
	b.Get("/providers?sells=third").Has("1–1 of 1")
	b.Get("/providers?provider="+who(7).String()).Has("1–1 of 1", "model-7")
	b.Get("/providers?trade=store").Has("Nothing like that")
	b.Get("/providers?places=free&sort=free&dir=desc").Is(http.StatusOK).Has("of 18")
	if n := sq.Asked(); n > 2 {
		t.Errorf("the ledger was asked %d times for seven lists", n)
	}
	for _, q := range []string{"sort=x", "dir=up", "page=99999", "places=odd", "sells=" + strings.Repeat("n", 101)} {
		b.Get("/providers?" + q).Is(http.StatusBadRequest).Has("That does not fit")
	}
	s.Stranger().Get("/providers").Is(http.StatusSeeOther)
}

func TestProvider(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	me, mine := s.Owner.Address(), key(t)
	sq.AllOffers = []market.Offer{offer(1, hostile, 2_000_000)}
	sq.AllStakes = []source.Stake{stake(1, 8_000_000)}
	sq.AllLeases = []source.Lease{lease(10, me, who(1)), lease(11, mine.Address(), who(1)), lease(12, who(5), who(1))}
	sq.Past = []source.Event{
		event(1, market.EvBonded, square.Hash{}, square.Address{}, who(1)),
		event(2, market.EvOffered, square.Hash{}, square.Address{}, who(1)),
		event(3, market.EvStarted, hash(11), mine.Address(), who(1)),
		event(4, market.EvStarted, hash(12), who(5), who(1)),
	}
	sq.SeatsNow = []desk.Seat{{Offer: sq.AllOffers[0].Offer, Latency: 21 * time.Millisecond, Speed: 150}}
	reader, k := s.AsKey("reader")
	for n, account := range []string{k.ID, "other", "other"} {
		rec := desk.Record{ID: hash(200 + n), Provider: who(1), Account: account, Audit: desk.AuditEqual, Time: time.Now()}
		sq.Records = append(sq.Records, rec)
	}
	path := "/providers/" + who(1).String()
	b := s.AsOwner()
	sq.Asked()
	b.Get(path).Is(http.StatusOK).Has("Provider", hostile, "8 TORG", "4 TORG", "stands", "21 ms", "3 re-executed: equal", "staked", "began to work", "block 4").
		Lacks(hostile, "offered work").Has("2 TORG / M", "20 TORG / M")
	if n := sq.Asked(); n > 5 {
		t.Errorf("the ledger was asked %d times", n)
	}
	// A key sees what all may see, and how its own requests went.
	reader.Get(path).Is(http.StatusOK).Has("8 TORG", "1 re-executed: equal", "staked").
		Lacks("began to work", hash(10).String(), hash(11).String(), hash(12).String(), who(5).String(), mine.Address().String())
	// A wallet sees its own lease and event beside.
	w := s.AsWallet(mine)
	w.Get(path).Is(http.StatusOK).Has("staked", "block 3").Lacks("block 4", hash(10).String(), hash(12).String(), who(5).String(), me.String())
	for _, id := range []string{"x", square.Address{}.String(), who(77).String(), "torg1" + strings.Repeat("q", 38), "%3Cb%3E"} {
		b.Get("/providers/" + id).Is(http.StatusNotFound)
	}
	sq.Break(fmt.Errorf("no ledger"))
	b.Get(path).Is(http.StatusInternalServerError).Has("no ledger")
}

// An account that sells nothing.
func TestBuyer(t *testing.T) {
	sq := consoletest.New()
	s := consoletest.Open(t, sq, nil)
	mine, theirs := key(t), key(t)
	sq.AllLeases = []source.Lease{lease(10, theirs.Address(), who(1)), lease(11, theirs.Address(), mine.Address())}
	sq.Balances[theirs.Address()] = 3_000_000
	sq.Past = []source.Event{event(1, market.EvOpened, hash(10), theirs.Address(), who(1))}
	path := "/providers/" + theirs.Address().String()
	s.AsOwner().Get(path).Is(http.StatusOK).Has("Account", "sells nothing", "3 TORG", "buyer", "set money aside")
	s.AsWallet(theirs).Get(path).Is(http.StatusOK).Has("yours", "3 TORG", hash(10).Short()[:8])
	// The other side of a lease sees that lease, and no more.
	s.AsWallet(mine).Get(path).Is(http.StatusOK).Has(hash(11).Short()[:8]).Lacks("3 TORG", hash(10).String(), "set money aside")
	s.AsWallet(key(t)).Get(path).Is(http.StatusNotFound).Lacks("3 TORG")
	reader, _ := s.AsKey("reader")
	reader.Get(path).Is(http.StatusNotFound)
}

// Ten thousand offers of as many providers.
func BenchmarkTenThousand(b *testing.B) {
	sq := consoletest.New()
	for n := range 10_000 {
		sq.AllOffers = append(sq.AllOffers, offer(n, fmt.Sprintf("model-%d", n%100), uint64(n)))
		sq.AllStakes = append(sq.AllStakes, stake(n, uint64(n)))
	}
	s := consoletest.Open(b, sq, nil)
	owner := s.AsOwner()
	for _, path := range []string{"/providers?sort=price&dir=asc&page=9&model=model-1", "/providers/" + who(7).String()} {
		b.Run(path[:11], func(b *testing.B) {
			owner.Get(path).Is(http.StatusOK)
			for b.Loop() {
				owner.Get(path)
			}
		})
	}
}
