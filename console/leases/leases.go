// Package leases is the console's list of leases, and the story of each: what
// was agreed, where its money is now, how it would end, and all that happened to
// it, which history remembers long after the ledger has forgotten the lease.
package leases

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/torg-network/torg/console/list"
	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

// Page lists and shows leases.
type Page struct {
	ledger  source.Ledger
	history source.History
	desk    source.Desk
	now     func() time.Time

	mu   sync.Mutex
	all  []*row
	read time.Time
}

// fresh is how long a reading of all leases is shown.
const fresh = 3 * time.Second

// New makes the page.
func New(l source.Ledger, h source.History, d source.Desk, now func() time.Time) *Page {
	return &Page{ledger: l, history: h, desk: d, now: now}
}

// Link is the page's place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/leases", Title: "Leases"} }

// Routes mounts the list, the stories and the end of a lease.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /leases", p.list)
	r.Handle("GET /leases/{id}", p.show)
	r.Handle("POST /leases/{id}/close", p.close)
}

// row is what the list knows of a lease.
type row struct {
	source.Lease
	id, buyer, provider string
}

// latest reads all leases, unless that was done just now.
func (p *Page) latest(ctx context.Context) ([]*row, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); p.all != nil && now.Sub(p.read) < fresh {
		return p.all, nil
	}
	all := []*row{}
	for after := ""; len(all) < list.MaxRows; {
		ls, next, err := p.ledger.Leases(ctx, source.LeaseFilter{}, source.Page{Limit: 1000, After: after})
		if err != nil {
			return nil, fmt.Errorf("read the leases: %w", err)
		}
		for _, l := range ls {
			r := &row{Lease: l, id: l.ID.String(), buyer: l.Order.Buyer.String()}
			if !l.Provider.IsZero() {
				r.provider = l.Provider.String()
			}
			all = append(all, r)
		}
		if next == "" {
			break
		}
		after = next
	}
	p.all, p.read = all, p.now()
	return all, nil
}

var spec = list.Spec{
	Path: "/leases", Title: "Leases", Sort: "opened", Desc: true,
	Columns: []list.Column{
		{Title: "Lease"}, {Name: "state", Title: "State"}, {Name: "trade", Title: "Trade"}, {Name: "buyer", Title: "Buyer"}, {Name: "provider", Title: "Provider"},
		{Name: "escrow", Title: "Escrow", Number: true}, {Name: "paid", Title: "Paid", Number: true}, {Name: "bond", Title: "Bond", Number: true},
		{Name: "opened", Title: "Opened"}, {Name: "ends", Title: "Ends"},
	},
	Filters: []list.Filter{
		{Name: "state", Title: "State", Options: []list.Option{
			{Value: "", Title: "Any"}, {Value: "standing", Title: "Standing"}, {Value: "ended", Title: "Ended"},
			{Value: string(market.Open), Title: "Open"}, {Value: string(market.Matched), Title: "Matched"}, {Value: string(market.Active), Title: "Active"},
			{Value: string(market.Replicating), Title: "Replicating"}, {Value: string(market.Committed), Title: "Committed"}, {Value: string(market.Showing), Title: "Showing"},
			{Value: string(market.Draining), Title: "Draining"}, {Value: string(market.Claimed), Title: "Claimed"}, {Value: string(market.Owed), Title: "Owed"}, {Value: string(market.Disputed), Title: "Disputed"},
			{Value: string(market.Settled), Title: "Settled"}, {Value: string(market.Failed), Title: "Failed"}, {Value: string(market.Slashed), Title: "Slashed"},
		}},
		{Name: "trade", Title: "Trade"}, {Name: "party", Title: "Buyer or provider"},
	},
}

var compare = map[string]func(a, b *row) int{
	"state":    list.By(func(r *row) market.State { return r.State }),
	"trade":    list.By(func(r *row) string { return r.Order.Trade }),
	"buyer":    list.By(func(r *row) string { return r.buyer }),
	"provider": list.By(func(r *row) string { return r.provider }),
	"escrow":   list.By(func(r *row) uint64 { return r.Escrow }),
	"paid":     list.By(func(r *row) uint64 { return r.Paid }),
	"bond":     list.By(func(r *row) uint64 { return r.Bond }),
	"opened":   list.By(func(r *row) int64 { return r.Opened }),
	"ends":     list.By(func(r *row) int64 { return max(r.Ends, r.Ended) }),
}

// may reports whether a viewer may see a lease by who is in it: the owner sees
// what the ledger has, a wallet its own.
func may(v session.Viewer, l market.Lease) bool {
	return v.IsOwner() || v.Role == session.Wallet && (v.Address == l.Order.Buyer || v.Address == l.Provider)
}

func (p *Page) list(w http.ResponseWriter, r *http.Request) error {
	q, err := spec.Parse(r.URL.Query())
	if err != nil {
		return err
	}
	rows, err := p.latest(r.Context())
	if err != nil {
		return err
	}
	v := ui.Of(r.Context()).Viewer()
	state, trade, party := q.Filters["state"], q.Filters["trade"], q.Filters["party"]
	view := list.Choose(rows, q, func(r *row) bool {
		switch {
		case !may(v, r.Lease.Lease), !list.Contains(r.Order.Trade, trade), !list.Contains(r.buyer, party) && !list.Contains(r.provider, party):
			return false
		case state == "standing":
			return !r.State.Terminal()
		case state == "ended":
			return r.State.Terminal()
		}
		return state == "" || string(r.State) == state
	}, compare)
	return ui.Render(w, r, ui.View{Title: "Leases"}, table(v, q, view))
}

// story is what a lease's page tells.
type story struct {
	id       square.Hash
	lease    *source.Lease // nil: the ledger has forgotten it
	events   []source.Event
	receipts []desk.Record
	mayClose bool
}

// Bounds of a page.
const (
	maxEvents   = 500
	maxReceipts = 20
)

// find is a lease that the viewer may see. A key sees those that its receipts
// are of.
func (p *Page) find(r *http.Request) (story, error) {
	id, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		return story{}, ui.NotFound("lease")
	}
	s := story{id: id}
	l, err := p.ledger.Lease(r.Context(), id)
	switch {
	case err == nil:
		s.lease = &l
	case !errors.Is(err, source.ErrNotFound):
		return s, fmt.Errorf("read the lease: %w", err)
	}
	if s.events, err = p.history.Lease(id, maxEvents); err != nil {
		return s, fmt.Errorf("read the lease's history: %w", err)
	}
	if s.lease == nil && len(s.events) == 0 {
		return s, ui.NotFound("lease")
	}
	v := ui.Of(r.Context()).Viewer()
	if s.receipts, err = p.asked(r.Context(), v, id); err != nil {
		return s, fmt.Errorf("read the lease's receipts: %w", err)
	}
	allowed := v.IsOwner() || len(s.receipts) > 0
	if s.lease != nil {
		allowed = allowed || may(v, s.lease.Lease)
	} else {
		e := s.events[0]
		allowed = allowed || v.Role == session.Wallet && (v.Address == e.Buyer || v.Address == e.Provider)
	}
	if !allowed {
		return story{}, ui.NotFound("lease")
	}
	s.mayClose = v.IsOwner() && s.lease != nil && s.lease.Order.Buyer == v.Address && !s.lease.State.Terminal()
	return s, nil
}

// asked is the last receipts of a lease that the viewer may see, newest first.
func (p *Page) asked(ctx context.Context, v session.Viewer, lease square.Hash) (out []desk.Record, err error) {
	f := desk.Filter{Lease: lease}
	switch {
	case v.IsOwner():
	case v.Role == session.Key && v.Key != "":
		f.Account = v.Key
	default:
		return nil, nil
	}
	out, _, err = p.desk.Receipts(ctx, f, time.Time{}, maxReceipts)
	return out, err
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	s, err := p.find(r)
	if err != nil {
		return err
	}
	return ui.Render(w, r, ui.View{Title: "Lease " + s.id.Short()}, detail(ui.Of(r.Context()).Viewer(), s))
}

func (p *Page) close(w http.ResponseWriter, r *http.Request) error {
	s, err := p.find(r)
	if err != nil {
		return err
	}
	if !s.mayClose {
		return ui.Forbidden("Only its buyer can close a lease, and only while it stands.")
	}
	if err := p.desk.CloseLease(r.Context(), s.id); err != nil {
		return &ui.Failure{Status: http.StatusConflict, Title: "It was not closed", Words: err.Error()}
	}
	p.mu.Lock()
	p.all = nil // read again: it has changed
	p.mu.Unlock()
	ui.Of(r.Context()).Session.Notify("The lease is closed: what was not spent is back in your balance.")
	http.Redirect(w, r, "/leases/"+s.id.String(), http.StatusSeeOther)
	return nil
}
