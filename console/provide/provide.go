// Package provide is the owner's page about what this machine sells: its offers
// and hardware, what it earned and why the last hour paid what it paid, its
// stake, everything that ran here, and the switches: pause, and most requests at
// once.
package provide

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/torg-network/torg/console/list"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/seller"
)

// Page shows this machine's provider.
type Page struct {
	provider source.Provider
	ledger   source.Ledger
	history  source.History
	desk     source.Desk
}

// New makes the page.
func New(p source.Provider, l source.Ledger, h source.History, d source.Desk) *Page {
	return &Page{p, l, h, d}
}

// Link is the page's place in the navigation.
func (p *Page) Link() ui.Link {
	return ui.Link{Path: "/provide", Title: "Provide", OwnerOnly: true}
}

// Routes mounts the page, its switches and the log.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /provide", owners(p.show))
	r.Handle("POST /provide/pause", owners(p.pause))
	r.Handle("POST /provide/resume", owners(p.resume))
	r.Handle("POST /provide/limit", owners(p.limit))
	r.Handle("GET /provide/log", owners(p.log))
}

// owners shows a page to the owner, and to nobody else that it exists.
func owners(h ui.Handler) ui.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !ui.Of(r.Context()).Viewer().IsOwner() {
			return ui.NotFound("page")
		}
		return h(w, r)
	}
}

// facts are what the page shows.
type facts struct {
	seller.Report
	stakes []source.Stake
	params market.Params
	unread string // why stakes or params are not known
	ran    []request
	past   []source.Event // newest first
}

// request is one that ran here. Known says that it was asked by this machine's
// buyer too, which has its receipt and can tell its story.
type request struct {
	seller.Ran
	known bool
}

func (p *Page) known(ctx context.Context, ran []seller.Ran) []request {
	out := make([]request, len(ran))
	for i, r := range ran {
		out[i].Ran = r
		if !r.Receipt.IsZero() {
			_, err := p.desk.Receipt(ctx, r.Receipt)
			out[i].known = err == nil
		}
	}
	return out
}

// Most of what one page shows.
const (
	someRan    = 10
	someEvents = 12
	allRan     = 5000
)

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	f := facts{Report: p.provider.Report(), ran: p.known(r.Context(), p.provider.Ran(someRan))}
	if err := p.staked(r.Context(), &f); err != nil {
		f.unread = err.Error() // a machine whose ledger is gone must still be seen
	}
	evs, err := p.history.Account(f.Address, 10*someEvents)
	if err != nil {
		return fmt.Errorf("read the provider's history: %w", err)
	}
	for _, e := range evs {
		if e.News() && len(f.past) < someEvents {
			f.past = append(f.past, e)
		}
	}
	return ui.Render(w, r, ui.View{Title: "Provide", Islands: []string{"chart"}}, body(f))
}

func (p *Page) staked(ctx context.Context, f *facts) (err error) {
	if f.stakes, _, err = p.ledger.Stakes(ctx, f.Address, "", source.Page{}); err != nil {
		return fmt.Errorf("read the stake: %w", err)
	}
	if f.params, err = p.ledger.Params(ctx); err != nil {
		return fmt.Errorf("read the ledger's parameters: %w", err)
	}
	return nil
}

func (p *Page) set(w http.ResponseWriter, r *http.Request, change func(*seller.Control), said string) error {
	c := p.provider.Report().Control
	change(&c)
	if err := p.provider.SetControl(c); errors.Is(err, seller.ErrControl) {
		return ui.BadInput("lanes", fmt.Sprintf("it is a number from 1 to %d, or empty for no limit", square.MaxLanes))
	} else if err != nil {
		return err
	}
	ui.Of(r.Context()).Session.Notify(said)
	http.Redirect(w, r, "/provide", http.StatusSeeOther)
	return nil
}

func (p *Page) pause(w http.ResponseWriter, r *http.Request) error {
	return p.set(w, r, func(c *seller.Control) { c.Paused = true },
		"Paused. New work and leases are refused; what runs is finished, what is owed is redeemed, and the offers are withdrawn.")
}

func (p *Page) resume(w http.ResponseWriter, r *http.Request) error {
	return p.set(w, r, func(c *seller.Control) { c.Paused = false }, "Back on the square: the offers are posted again.")
}

func (p *Page) limit(w http.ResponseWriter, r *http.Request) error {
	n, said := 0, "No limit: as many requests at once as the offers have places."
	if text := strings.TrimSpace(r.PostForm.Get("lanes")); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			return ui.BadInput("lanes", fmt.Sprintf("it is a number from 1 to %d, or empty for no limit", square.MaxLanes))
		}
		said = fmt.Sprintf("At most %d at once from now on.", n)
	}
	return p.set(w, r, func(c *seller.Control) { c.Lanes = n }, said)
}

var spec = list.Spec{
	Path: "/provide/log", Title: "What ran here", Sort: "time", Desc: true,
	Columns: []list.Column{
		{Name: "number", Title: "No.", Number: true}, {Name: "time", Title: "When"}, {Name: "what", Title: "What"},
		{Name: "metered", Title: "Metered", Number: true},
		{Name: "took", Title: "Took", Number: true}, {Name: "price", Title: "Price", Number: true},
		{Title: "Lease"}, {Title: "How it ended"},
	},
	Filters: []list.Filter{
		{Name: "what", Title: "What"}, {Name: "lease", Title: "Lease"},
		{Name: "end", Title: "Ended", Options: []list.Option{{Value: "", Title: "Any"}, {Value: "charged", Title: "Charged"}, {Value: "failed", Title: "Failed"}}},
	},
}

var compare = map[string]func(a, b seller.Ran) int{
	"number":  list.By(func(r seller.Ran) uint64 { return r.Number }),
	"time":    list.By(func(r seller.Ran) uint64 { return r.Number }), // in the order in which they ended
	"what":    list.By(func(r seller.Ran) string { return r.Subject }),
	"metered": list.By(func(r seller.Ran) uint64 { return ui.Most(r.Units) }),
	"took":    list.By(func(r seller.Ran) time.Duration { return r.Took }),
	"price":   list.By(func(r seller.Ran) uint64 { return r.Price }),
}

func (p *Page) log(w http.ResponseWriter, r *http.Request) error {
	q, err := spec.Parse(r.URL.Query())
	if err != nil {
		return err
	}
	what, lease, end := q.Filters["what"], q.Filters["lease"], q.Filters["end"]
	view := list.Choose(p.provider.Ran(allRan), q, func(r seller.Ran) bool {
		return list.Contains(r.Subject, what) && list.Contains(r.Lease.String(), lease) && (end == "" || (end == "failed") == r.Receipt.IsZero())
	}, compare)
	return ui.Render(w, r, ui.View{Title: "What ran here"}, logTable(q, view.Pager, p.known(r.Context(), view.Rows)))
}

// reason is why the last hour paid what it paid, for people: in short, and at
// length.
func reason(r seller.Report) (tone ui.Tone, title, words string) {
	tone, title, words = because(r)
	if r.Control.Paused && r.Why != seller.WhyPaused {
		words += " It is paused now."
	}
	return tone, title, words
}

func because(r seller.Report) (tone ui.Tone, title, words string) {
	h := r.Hour
	requests := func(n uint64) string {
		if n == 1 {
			return "One request"
		}
		return ui.Number(n) + " requests"
	}
	denom := denomOf(r)
	switch r.Why {
	case seller.WhySlashed:
		return ui.Bad, "An answer was found false", "A lease ended with the bond slashed. What was held of it is gone, and its buyer was made whole from it."
	case seller.WhyEarned:
		s := fmt.Sprintf("%s answered for %s, and %s came to your account.", requests(h.Served), ui.Coins(h.Charged, denom), ui.Coins(h.Redeemed, denom))
		if h.Served == 0 {
			s = fmt.Sprintf("Nobody asked, and %s for earlier answers came to your account.", ui.Coins(h.Redeemed, denom))
		}
		if r.Owed > 0 {
			s += " " + waiting(r)
		}
		return ui.Good, "Work was done and paid", s
	case seller.WhyUnredeemed:
		return ui.Busy, "Earned, and not redeemed yet", fmt.Sprintf("%s answered for %s. %s", requests(h.Served), ui.Coins(h.Charged, denom), waiting(r))
	case seller.WhyPaused:
		return ui.Warn, "It is paused", "You paused this machine, so it takes no leases and no work. Resume when it may work again."
	case seller.WhyFailed:
		return ui.Bad, "Whoever asked got no answer", fmt.Sprintf("%s failed, and what fails is not charged. The last: %s.", requests(h.Failed), r.Failed.Words)
	case seller.WhyRefused:
		return ui.Warn, "Whoever asked was turned away", fmt.Sprintf("%s refused. The last: %s.", requests(h.Refused), r.Refused.Words)
	case seller.WhyNothing:
		return ui.Warn, "There is nothing to sell", "No trade has anything to sell here: see the log of torg up for why, and torg up --help for what a machine may sell."
	case seller.WhyNotAsked:
		return ui.Plain, "Nobody asked", fmt.Sprintf("%s with this machine, and nobody had work for it. What is leased is paid by what is metered, not by the hour.", standing(len(r.Serving)))
	case seller.WhyNotOffered:
		return ui.Warn, "The ledger has no offer of yours", "It could not be posted, or has lapsed: is the ledger making blocks, and is there money for fees? It is tried again every few seconds; torg doctor looks at the rest."
	case seller.WhyNoLease:
		return ui.Plain, "No lease stands", "Your offer is on the square and nobody has leased this machine. A lower price or other goods may find buyers: see what others ask."
	}
	return ui.Plain, string(r.Why), ""
}

func waiting(r seller.Report) string {
	return fmt.Sprintf("%s waits in vouchers. A lease is redeemed when that is worth the fee of %s, and before it ends.", ui.Coins(r.Owed, denomOf(r)), ui.Coins(r.Fee, denomOf(r)))
}

func standing(n int) string {
	if n == 1 {
		return "One lease stands"
	}
	return fmt.Sprintf("%d leases stand", n)
}

func denomOf(r seller.Report) string {
	if len(r.Selling) > 0 {
		return r.Selling[0].Denom
	}
	return square.Denom
}

// state is how the machine stands, for people.
func state(r seller.Report) (ui.Tone, string) {
	on := 0
	for _, s := range r.Selling {
		if !s.ID.IsZero() {
			on++
		}
	}
	switch {
	case r.Control.Paused && r.Working > 0:
		return ui.Warn, "pausing"
	case r.Control.Paused:
		return ui.Warn, "paused"
	case on > 0:
		return ui.Good, "on the square"
	}
	return ui.Busy, "not on offer yet"
}

// earnings are the day's, a value for each step.
func earnings(r seller.Report) ui.ChartData {
	c := ui.ChartData{
		ID: "earned", Title: "Earned in the last day", Unit: "TORG per 5 minutes", Tone: ui.Good,
		Begin: r.Begin, Step: seller.StepTime, Values: make([]float64, len(r.Steps)),
	}
	top := uint64(0)
	for _, s := range r.Steps {
		top = max(top, s.Charged)
	}
	scale := 1.0 / square.UnitsPerTorg
	if top < square.UnitsPerTorg/10 { // an axis of many zeros says little
		c.Unit, scale = "µTORG per 5 minutes", 1
	}
	for i, s := range r.Steps {
		c.Values[i] = float64(s.Charged) * scale
	}
	return c
}

// hardware is what the offers say of the machine. What begins with the trade's name
// they say of the good.
func hardware(r seller.Report) (out []square.Attribute) {
	seen := map[string]bool{}
	for _, s := range r.Selling {
		for _, a := range s.Attributes {
			if !strings.HasPrefix(a.Key, s.Trade+".") && !seen[a.Key] {
				seen[a.Key] = true
				out = append(out, a)
			}
		}
	}
	return out
}

// attribute says a fact for people.
func attribute(a square.Attribute) (name, value string) {
	switch a.Key {
	case "cpu.cores":
		return "Processor cores", a.Value
	case "cpu.arch":
		return "System", a.Value
	case "memory.bytes":
		if n, err := strconv.ParseUint(a.Value, 10, 64); err == nil {
			return "Memory", fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
		}
	}
	return a.Key, a.Value
}

func percent(bps uint64) string { return strconv.FormatFloat(float64(bps)/100, 'f', -1, 64) + " %" }
