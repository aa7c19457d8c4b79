// Package providers is the console's list of who sells on the square, and the
// page of each: offers, stake, leases, what happened, and what this machine has
// seen of it. The page of an account that sells nothing says what is known of
// it.
package providers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/torg-network/torg/console/list"
	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
)

// Page lists and shows providers.
type Page struct {
	feed    *live.Feed
	ledger  source.Ledger
	history source.History
	desk    source.Desk

	mu   sync.Mutex
	read time.Time // of the supply that rows are of
	rows []*row
}

// New makes the page.
func New(f *live.Feed, l source.Ledger, h source.History, d source.Desk) *Page {
	return &Page{feed: f, ledger: l, history: h, desk: d}
}

// Link is the page's place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/providers", Title: "Providers"} }

// Routes mounts the list and the providers.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /providers", p.list)
	r.Handle("GET /providers/{address}", p.show)
}

// row is what the list knows of a provider, by all its offers.
type row struct {
	id       string
	address  square.Address
	names    []string // of its goods
	trades   []string
	denom    string // of the price, which is the lowest in it
	price    uint64 // of a million units
	unit     string // of the price
	capacity uint64
	inUse    uint64
	stake    uint64
	locked   uint64
	first    time.Duration // until an answer began, the best that this machine has seen; 0: it has not asked
	failures float64
	seen     bool
}

// answer is the price that providers are compared by: of what a trade's work
// gives, which is its last unit.
func answer(o square.Offer) square.Rate {
	rates := trade.RatesFor(o.Rates, "")
	if len(rates) == 0 {
		return square.Rate{}
	}
	return rates[len(rates)-1]
}

// gather makes a row of each provider.
func gather(s live.Supply) []*row {
	rows := []*row{}
	by := map[square.Address]*row{}
	for _, o := range s.Offers {
		r, rate := by[o.Provider], answer(o.Offer)
		if r == nil {
			r = &row{id: o.Provider.String(), address: o.Provider, denom: o.Denom, price: rate.PerMillion, unit: rate.Unit}
			by[o.Provider] = r
			rows = append(rows, r)
		}
		r.names = append(r.names, o.Subject)
		if !slices.Contains(r.trades, o.Trade) {
			r.trades = append(r.trades, o.Trade)
		}
		r.capacity = list.Sum(r.capacity, o.Capacity)
		r.inUse = list.Sum(r.inUse, o.InUse)
		if o.Denom == r.denom && rate.PerMillion < r.price {
			r.price, r.unit = rate.PerMillion, rate.Unit
		}
	}
	for _, k := range s.Stakes {
		if r := by[k.Provider]; r != nil {
			r.stake += k.Total
			r.locked += k.Locked
		}
	}
	return rows
}

// gathered are the rows of a supply, made once for each that is read.
func (p *Page) gathered(s live.Supply) []*row {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == nil || !p.read.Equal(s.Read) {
		p.rows, p.read = gather(s), s.Read
	}
	return p.rows
}

// watch adds what this machine has seen: to copies, since rows are shared.
func watch(rows []*row, seen []desk.Seat) []*row {
	of := map[square.Address][]desk.Seat{}
	for _, s := range seen {
		of[s.Offer.Provider] = append(of[s.Offer.Provider], s)
	}
	rows = slices.Clone(rows)
	for i := range rows {
		seats := of[rows[i].address]
		if len(seats) == 0 {
			continue
		}
		r := *rows[i]
		r.seen = true
		for _, s := range seats {
			r.failures = max(r.failures, s.Failures)
			if s.Latency > 0 && (r.first == 0 || s.Latency < r.first) {
				r.first = s.Latency
			}
		}
		rows[i] = &r
	}
	return rows
}

var spec = list.Spec{
	Path: "/providers", Title: "Providers", Sort: "stake", Desc: true,
	Columns: []list.Column{
		{Name: "provider", Title: "Provider"}, {Name: "sells", Title: "Sells"}, {Name: "price", Title: "A million from", Number: true},
		{Name: "free", Title: "Free places", Number: true}, {Name: "stake", Title: "Stake", Number: true}, {Name: "locked", Title: "In bonds", Number: true},
		{Name: "first", Title: "Answers begin here after", Number: true}, {Name: "failures", Title: "Failures here", Number: true},
	},
	Filters: []list.Filter{
		{Name: "provider", Title: "Provider"}, {Name: "sells", Title: "Sells"}, {Name: "trade", Title: "Trade"},
		{Name: "places", Title: "Places", Options: []list.Option{{Value: "", Title: "Any"}, {Value: "free", Title: "Some are free"}}},
	},
}

func (r *row) free() uint64 { return r.capacity - min(r.inUse, r.capacity) }

var compare = map[string]func(a, b *row) int{
	"provider": list.By(func(r *row) string { return r.id }),
	"sells":    list.By(func(r *row) int { return len(r.names) }),
	"price":    list.By(func(r *row) uint64 { return r.price }),
	"free":     list.By((*row).free),
	"stake":    list.By(func(r *row) uint64 { return r.stake }),
	"locked":   list.By(func(r *row) uint64 { return r.locked }),
	"first":    list.By(func(r *row) time.Duration { return r.first }),
	"failures": list.By(func(r *row) float64 { return r.failures }),
}

func (p *Page) list(w http.ResponseWriter, r *http.Request) error {
	q, err := spec.Parse(r.URL.Query())
	if err != nil {
		return err
	}
	s, err := p.feed.Supply(r.Context())
	if err != nil {
		return err
	}
	// What this machine has seen is a help, and no reason to show nothing.
	seen, _ := p.desk.Seats(r.Context())
	who, what, trade, places := q.Filters["provider"], q.Filters["sells"], q.Filters["trade"], q.Filters["places"]
	has := func(texts []string, filter string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return list.Contains(s, filter) })
	}
	view := list.Choose(watch(p.gathered(s), seen), q, func(r *row) bool {
		return list.Contains(r.id, who) && has(r.names, what) && has(r.trades, trade) && (places == "" || r.free() > 0)
	}, compare)
	return ui.Render(w, r, ui.View{Title: "Providers"}, table(q, view))
}

// account is what an account's page tells.
type account struct {
	address square.Address
	mine    bool // the viewer's
	offers  []market.Offer
	stakes  []source.Stake
	seen    []desk.Seat
	leases  []source.Lease // that the viewer may see, newest first
	more    bool           // there are more leases
	past    []source.Event // that the viewer may see, newest first
	balance *square.Amount // that the viewer may see
	asked   int            // of the viewer's last requests, those it answered
	of      int            // so many last requests
	audits  []audits
}

// audits is how often an audit of its answers ended so.
type audits struct {
	audit desk.Audit
	n     int
}

// Bounds of a page.
const (
	maxOffers   = 100
	maxLeases   = 50
	maxEvents   = 300 // that are looked at
	someEvents  = 60  // that are shown
	maxReceipts = 200 // that are looked at
)

func (a account) sells() bool { return len(a.offers) > 0 || len(a.stakes) > 0 }

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	address, err := square.ParseAddress(r.PathValue("address"))
	if err != nil || address.IsZero() {
		return ui.NotFound("account")
	}
	a := account{address: address}
	v := ui.Of(r.Context()).Viewer()
	a.mine = v.Address == address && (v.IsOwner() || v.Role == session.Wallet)
	ctx := r.Context()
	if a.offers, _, err = p.ledger.Offers(ctx, source.OfferFilter{Provider: address, All: true}, source.Page{Limit: maxOffers}); err != nil {
		return fmt.Errorf("read the offers: %w", err)
	}
	if a.stakes, _, err = p.ledger.Stakes(ctx, address, "", source.Page{}); err != nil {
		return fmt.Errorf("read the stakes: %w", err)
	}
	if err = p.leased(ctx, v, &a); err != nil {
		return err
	}
	evs, err := p.history.Account(address, maxEvents)
	if err != nil {
		return fmt.Errorf("read the account's history: %w", err)
	}
	for _, e := range evs {
		if public(v, e) && e.News() && len(a.past) < someEvents {
			a.past = append(a.past, e)
		}
	}
	if v.IsOwner() || a.mine {
		b, err := p.ledger.Balance(ctx, address, square.Denom)
		if err != nil {
			return fmt.Errorf("read the balance: %w", err)
		}
		if b.Units > 0 || a.mine {
			a.balance = &b
		}
	}
	if !a.sells() && len(a.leases) == 0 && len(a.past) == 0 && a.balance == nil {
		return ui.NotFound("account")
	}
	if a.sells() {
		if err := p.saw(ctx, v, &a); err != nil {
			return err
		}
	}
	title := "Account "
	if a.sells() {
		title = "Provider "
	}
	return ui.Render(w, r, ui.View{Title: title + ui.Short(address.String())}, detail(a, v))
}

// public reports whether a viewer may see what happened: all may see what a
// provider did by itself, its stakes and offers; a lease is its parties'.
func public(v session.Viewer, e source.Event) bool {
	return v.IsOwner() || e.Lease.IsZero() || v.Role == session.Wallet && live.ScopeOf(v).Sees(e)
}

// leased reads the account's leases, on either side, that the viewer may see.
func (p *Page) leased(ctx context.Context, v session.Viewer, a *account) error {
	var filters []source.LeaseFilter
	switch {
	case v.IsOwner() || a.mine:
		filters = []source.LeaseFilter{{Provider: a.address}, {Buyer: a.address}}
	case v.Role == session.Wallet:
		filters = []source.LeaseFilter{{Provider: a.address, Buyer: v.Address}, {Provider: v.Address, Buyer: a.address}}
	}
	for _, f := range filters {
		ls, next, err := p.ledger.Leases(ctx, f, source.Page{Limit: 1000})
		if err != nil {
			return fmt.Errorf("read the leases: %w", err)
		}
		a.leases = append(a.leases, ls...)
		a.more = a.more || next != ""
	}
	slices.SortFunc(a.leases, func(x, y source.Lease) int { return int(y.Opened - x.Opened) })
	if len(a.leases) > maxLeases {
		a.leases, a.more = a.leases[:maxLeases], true
	}
	return nil
}

// saw is what this machine has seen of a provider: how fast and reliable it is,
// and how audits of its answers ended, by the viewer's own receipts.
func (p *Page) saw(ctx context.Context, v session.Viewer, a *account) error {
	seen, _ := p.desk.Seats(ctx) // a help, and no reason to show nothing
	for _, s := range seen {
		if s.Offer.Provider == a.address {
			a.seen = append(a.seen, s)
		}
	}
	var recs []desk.Record
	var err error
	switch {
	case v.IsOwner():
		recs, _, err = p.desk.Receipts(ctx, desk.Filter{}, time.Time{}, maxReceipts)
	case v.Role == session.Key:
		recs, _, err = p.desk.Receipts(ctx, desk.Filter{Account: v.Key}, time.Time{}, maxReceipts)
	}
	if err != nil {
		return fmt.Errorf("read the receipts: %w", err)
	}
	a.of = len(recs)
	count := map[desk.Audit]int{}
	for _, r := range recs {
		if r.Provider == a.address {
			a.asked++
			count[r.Audit]++
		}
	}
	for _, k := range []desk.Audit{
		desk.AuditProven, desk.AuditEqual, desk.AuditUpheld, desk.AuditNone,
		desk.AuditUnproven, desk.AuditDifferent, desk.AuditChallenged, desk.AuditSlashed,
	} {
		if count[k] > 0 {
			a.audits = append(a.audits, audits{k, count[k]})
		}
	}
	return nil
}
