// Package receipts is the console's list of what was asked and paid, and the
// story of each request: who answered, with which model, for what price, by
// which voucher, in which transaction it was paid, and how it was verified.
package receipts

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/torg-network/torg/console/list"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
)

// Page lists and shows receipts.
type Page struct {
	desk    source.Desk
	history source.History

	mu   sync.Mutex
	rows []*row // newest first: the last list.MaxRows that were read
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

// row is what the list knows of a receipt.
type row struct {
	id         square.Hash
	time       time.Time
	model      string
	provider   string
	account    string // the API key it was for
	prompt     uint64
	completion uint64
	price      uint64
	denom      string
	ttft       time.Duration
	audit      desk.Audit
	exact      bool
}

func rowOf(r desk.Record) *row {
	out := &row{
		id: r.ID, time: r.Time, model: r.Subject, provider: r.Provider.String(), account: r.Account,
		price: r.Evidence.Receipt.Price, denom: r.Denom, ttft: r.Latency, audit: r.Audit, exact: exact(r),
	}
	out.prompt, out.completion = tokens(r)
	return out
}

// exact reports whether an answer can be run again.
func exact(r desk.Record) bool {
	q, err := infer.DecodeRequest(r.Evidence.Request)
	return err == nil && q.Kind == infer.Exact
}

// tokens are the metered units of a question and its answer.
func tokens(r desk.Record) (prompt, completion uint64) {
	u := r.Evidence.Receipt.Units
	if len(u) > 0 {
		prompt = u[0]
	}
	if len(u) > 1 {
		completion = u[1]
	}
	return prompt, completion
}

// latest brings the rows up to date: what is new is read, and of what is known
// the newest are read again, since audits come after the receipt.
func (p *Page) latest(ctx context.Context) ([]*row, error) {
	const again = 100
	p.mu.Lock()
	defer p.mu.Unlock()
	known := make(map[square.Hash]bool, again)
	for _, r := range p.rows[:min(len(p.rows), again)] {
		known[r.id] = true
	}
	var fresh []*row
	var before time.Time
	for len(fresh) < list.MaxRows {
		rs, err := p.desk.Receipts(ctx, before, again)
		if err != nil {
			return nil, err
		}
		met := false
		for _, r := range rs {
			met = met || known[r.ID]
			fresh = append(fresh, rowOf(r))
		}
		if met || len(rs) < again {
			break
		}
		before = rs[len(rs)-1].Time
	}
	// What was read again takes the place of what was known of it.
	read := make(map[square.Hash]bool, len(fresh))
	for _, r := range fresh {
		read[r.id] = true
	}
	rows := make([]*row, 0, len(fresh)+len(p.rows))
	rows = append(rows, fresh...)
	for _, r := range p.rows {
		if !read[r.id] {
			rows = append(rows, r)
		}
	}
	p.rows = rows[:min(len(rows), list.MaxRows)]
	return p.rows, nil
}

// verified are the ways an answer can have been verified, to filter by.
var verified = func() []list.Option {
	out := []list.Option{{Value: "", Title: "Any"}, {Value: "none", Title: "signed only"}}
	for _, a := range []desk.Audit{desk.AuditEqual, desk.AuditProven, desk.AuditUnproven, desk.AuditDifferent, desk.AuditChallenged, desk.AuditSlashed, desk.AuditUpheld} {
		_, words, _ := ui.Verified(a, true)
		out = append(out, list.Option{Value: string(a), Title: words})
	}
	return out
}()

var spec = list.Spec{
	Path: "/receipts", Title: "Receipts", Sort: "time", Desc: true,
	Columns: []list.Column{
		{Title: "Receipt"}, {Name: "time", Title: "When"}, {Name: "model", Title: "Model"}, {Name: "provider", Title: "Provider"},
		{Name: "prompt", Title: "Prompt", Number: true}, {Name: "answer", Title: "Answer", Number: true},
		{Name: "price", Title: "Price", Number: true}, {Name: "ttft", Title: "First token", Number: true}, {Name: "verified", Title: "Verified"},
	},
	Filters: []list.Filter{
		{Name: "model", Title: "Model"}, {Name: "provider", Title: "Provider"},
		{Name: "verified", Title: "Verified", Options: verified},
	},
}

var compare = map[string]func(a, b *row) int{
	"time":     func(a, b *row) int { return a.time.Compare(b.time) },
	"model":    list.By(func(r *row) string { return r.model }),
	"provider": list.By(func(r *row) string { return r.provider }),
	"prompt":   list.By(func(r *row) uint64 { return r.prompt }),
	"answer":   list.By(func(r *row) uint64 { return r.completion }),
	"price":    list.By(func(r *row) uint64 { return r.price }),
	"ttft":     list.By(func(r *row) time.Duration { return r.ttft }),
	"verified": list.By(func(r *row) desk.Audit { return r.audit }),
}

func (p *Page) list(w http.ResponseWriter, r *http.Request) error {
	q, err := spec.Parse(r.URL.Query())
	if err != nil {
		return err
	}
	rows, err := p.latest(r.Context())
	if err != nil {
		return fmt.Errorf("read the receipts: %w", err)
	}
	viewer := ui.Of(r.Context()).Viewer()
	model, provider, audit := q.Filters["model"], q.Filters["provider"], q.Filters["verified"]
	if audit == "none" {
		audit = string(desk.AuditNone)
	}
	some := q.Filters["verified"] != ""
	view := list.Choose(rows, q, func(r *row) bool {
		return viewer.Asked(r.account) && list.Contains(r.model, model) && list.Contains(r.provider, provider) &&
			(!some || string(r.audit) == audit)
	}, compare)
	return ui.Render(w, r, ui.View{Title: "Receipts"}, table(viewer, q, view))
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
	s := story{rec: rec}
	if s.words, err = p.desk.Words(rec.Evidence); err != nil {
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
	_, _, sentence := ui.Verified(verdict, exact(rec))
	ui.Of(r.Context()).Session.Notify("Audited. " + sentence)
	http.Redirect(w, r, "/receipts/"+rec.ID.String(), http.StatusSeeOther)
	return nil
}
