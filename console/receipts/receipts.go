// Package receipts is the console's list of what was asked and paid, and the
// story of each request: who answered, with what, for what price, by which
// voucher, in which transaction it was paid, and how it was verified.
package receipts

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/torg-network/torg/console/list"
	"github.com/torg-network/torg/console/session"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

// Page lists and shows receipts.
type Page struct {
	desk    source.Desk
	history source.History
}

// New makes the page.
func New(d source.Desk, h source.History) *Page { return &Page{desk: d, history: h} }

// Link is the page's place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/receipts", Title: "Receipts"} }

// Routes mounts the list, the stories and the audit.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /receipts", p.list)
	r.Handle("GET /receipts/{id}", p.show)
	r.Handle("POST /receipts/{id}/audit", p.audit)
}

// row is a receipt in the list.
type row struct {
	desk.Record
	again bool // it can be checked by doing it again
}

// verified are the ways an answer can have been verified, to filter by.
var verified = func() []list.Option {
	out := []list.Option{{Value: "", Title: "Any"}, {Value: none, Title: "signed only"}}
	for _, a := range []desk.Audit{desk.AuditEqual, desk.AuditProven, desk.AuditUnproven, desk.AuditDifferent, desk.AuditChallenged, desk.AuditSlashed, desk.AuditUpheld} {
		_, words, _ := ui.Verified(a, true)
		out = append(out, list.Option{Value: string(a), Title: words})
	}
	return out
}()

var spec = list.Spec{
	Path: "/receipts", Title: "Receipts", Chain: true,
	Columns: []list.Column{
		{Title: "Receipt"}, {Title: "When"}, {Title: "What"}, {Title: "Provider"}, {Title: "Metered"},
		{Title: "Price", Number: true}, {Title: "Began after", Number: true}, {Title: "Verified"},
	},
	Filters: []list.Filter{
		{Name: "what", Title: "What, in full"}, {Name: "provider", Title: "Provider"}, {Name: "key", Title: "API key"},
		{Name: "verified", Title: "Verified", Options: verified},
	},
}

// none is the filter's word for receipts that nobody has looked at.
const none = "none"

// chosen reads what an address asks for, and from where. ok is whether the viewer
// may have any.
func chosen(v session.Viewer, q list.Query) (f desk.Filter, before time.Time, ok bool, err error) {
	f = desk.Filter{Subject: q.Filters["what"], Account: q.Filters["key"]}
	if p := q.Filters["provider"]; p != "" {
		if f.Provider, err = square.ParseAddress(p); err != nil {
			return f, before, false, ui.BadInput("provider", "write the whole address, torg1… or 0x…")
		}
	}
	switch a := q.Filters["verified"]; a {
	case none:
		f.Signed = true
	default:
		f.Audit = desk.Audit(a)
	}
	if q.From != "" {
		n, err := strconv.ParseInt(q.From, 10, 64)
		if err != nil || n < 0 {
			return f, before, false, ui.BadInput("from", "take it from the page’s own links")
		}
		before = time.UnixMicro(n)
	}
	ok = v.IsOwner() || v.Asked(v.Key) && (f.Account == "" || f.Account == v.Key)
	if !v.IsOwner() {
		f.Account = v.Key
	}
	return f, before, ok, nil
}

func (p *Page) list(w http.ResponseWriter, r *http.Request) error {
	q, err := spec.Parse(r.URL.Query())
	if err != nil {
		return err
	}
	viewer := ui.Of(r.Context()).Viewer()
	f, before, ok, err := chosen(viewer, q)
	if err != nil {
		return err
	}
	var rows []row
	from := ""
	if ok {
		rs, next, err := p.desk.Receipts(r.Context(), f, before, list.PageSize)
		if err != nil {
			return fmt.Errorf("read the receipts: %w", err)
		}
		for _, rec := range rs {
			rows = append(rows, row{rec, p.desk.Again(rec)})
		}
		if !next.IsZero() {
			from = strconv.FormatInt(next.UnixMicro(), 10)
		}
	}
	return ui.Render(w, r, ui.View{Title: "Receipts"}, table(viewer, q, rows, from))
}

// find is a receipt that the viewer may see.
func (p *Page) find(r *http.Request) (desk.Record, error) {
	id, err := square.ParseHash(r.PathValue("id"))
	if err != nil {
		return desk.Record{}, ui.NotFound("receipt")
	}
	rec, err := p.desk.Receipt(r.Context(), id)
	if err != nil {
		return rec, err
	}
	if !ui.Of(r.Context()).Viewer().Asked(rec.Account) {
		return desk.Record{}, ui.NotFound("receipt")
	}
	return rec, nil
}

// story is what a receipt's page tells.
type story struct {
	rec     desk.Record
	again   bool // it can be checked by doing it again
	words   source.Words
	unread  string // why there are none
	events  []source.Event
	payment *source.Event // the first redemption after the receipt
	ended   *source.Event
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	rec, err := p.find(r)
	if err != nil {
		return err
	}
	s := story{rec: rec, again: p.desk.Again(rec)}
	if s.words, err = p.desk.Words(rec); err != nil {
		s.unread = err.Error()
	}
	if s.events, err = p.history.Lease(rec.Evidence.Receipt.Lease, 1000); err != nil {
		return fmt.Errorf("read the lease's history: %w", err)
	}
	for i, e := range s.events {
		switch {
		case e.Kind == market.EvRedeemed && s.payment == nil && e.Time >= rec.Time.Unix():
			s.payment = &s.events[i]
		case e.Kind == market.EvEnded:
			s.ended = &s.events[i]
		}
	}
	return ui.Render(w, r, ui.View{Title: "Receipt " + rec.ID.Short()}, detail(ui.Of(r.Context()).Viewer(), s))
}

func (p *Page) audit(w http.ResponseWriter, r *http.Request) error {
	rec, err := p.find(r)
	if err != nil {
		return err
	}
	verdict, err := p.desk.Audit(r.Context(), rec.ID)
	if err != nil {
		return &ui.Failure{Status: http.StatusConflict, Title: "It could not be told", Words: err.Error()}
	}
	_, _, sentence := ui.Verified(verdict, p.desk.Again(rec))
	ui.Of(r.Context()).Session.Notify("Audited. " + sentence)
	http.Redirect(w, r, "/receipts/"+rec.ID.String(), http.StatusSeeOther)
	return nil
}
