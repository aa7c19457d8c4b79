// Package models is the console's list of the models on offer, and the page of
// each: what it is, who sells it for how much, and where it can be proven, the
// card that proofs are checked against.
//
// Names and facts of offers are their providers' own words. What cannot be made
// up is marked: a name whose hash is the digest, a card made from the weights.
package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/torg-network/torg/console/docs"
	"github.com/torg-network/torg/console/list"
	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
)

// Page lists and shows models.
type Page struct {
	feed   *live.Feed
	ledger source.Ledger
	desk   source.Desk
	known  Register
	docs   *docs.Page
}

// Known is what is known of a model from its own bytes: what no offer can make up.
type Known struct {
	Name      string
	From      string      // who says so, for people
	Card      square.Hash // the id of its zkml card
	CardBytes int
	About     string // Markdown; empty where there is none
	File      string // of the repository, where About is from
}

// Register tells what is known of models: source.ErrNotFound of one of which there
// are only offers.
type Register func(ctx context.Context, digest square.Hash) (Known, error)

// New makes the page.
func New(f *live.Feed, l source.Ledger, d source.Desk, known Register, read *docs.Page) *Page {
	return &Page{f, l, d, known, read}
}

// Link is the page's place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/models", Title: "Models"} }

// Routes mounts the list and the models.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /models", p.list)
	r.Handle("GET /models/{digest}", p.show)
}

// row is what the list knows of a model, by all that offer it.
type row struct {
	spec       square.Hash
	id         string
	name       string
	exact      bool
	context    uint64
	providers  int
	places     uint64 // that are free
	denom      string // of the prices, which are the lowest in it
	prompt     uint64
	completion uint64
	proven     uint64 // for a million tokens of proven answers; 0: none are
	provable   bool
}

// rate is an offer's price of a unit.
func rate(rates []square.Rate, unit string) (uint64, bool) {
	for _, r := range rates {
		if r.Unit == unit {
			return r.PerMillion, true
		}
	}
	return 0, false
}

func contextOf(o square.Offer) uint64 {
	n, _ := strconv.ParseUint(o.Attribute("infer.context"), 10, 32) // 0: it is not said
	return n
}

func exact(o square.Offer) bool { return o.Attribute("infer.exact") == "true" }

// free are the places of an offer that no lease takes.
func free(o market.Offer) uint64 { return o.Capacity - min(o.InUse, o.Capacity) }

// gather makes a row of each model: of the trade's offers, in one pass.
func gather(offers []market.Offer) []*row {
	rows := []*row{}
	byspec := map[square.Hash]*row{}
	names := map[square.Hash]map[string]int{}
	for _, o := range offers {
		if o.Trade != infer.Name {
			continue
		}
		r := byspec[o.Spec]
		if r == nil {
			r = &row{spec: o.Spec, id: o.Spec.String(), exact: exact(o.Offer), denom: o.Denom}
			byspec[o.Spec], names[o.Spec] = r, map[string]int{}
			rows = append(rows, r)
			r.prompt, _ = rate(o.Rates, infer.UnitPrompt)
			r.completion, _ = rate(o.Rates, infer.UnitCompletion)
		}
		names[o.Spec][o.Subject]++
		r.exact = r.exact && exact(o.Offer) // as the least of them says
		r.context = max(r.context, contextOf(o.Offer))
		r.providers++
		r.places = list.Sum(r.places, free(o))
		if o.Denom != r.denom {
			continue
		}
		if n, ok := rate(o.Rates, infer.UnitPrompt); ok {
			r.prompt = min(r.prompt, n)
		}
		if n, ok := rate(o.Rates, infer.UnitCompletion); ok {
			r.completion = min(r.completion, n)
		}
		if n, ok := rate(infer.Terms(o.Offer, square.PolicyProve), infer.UnitCompletion); ok {
			if !r.provable || n < r.proven {
				r.proven = n
			}
			r.provable = true
		}
	}
	for _, r := range rows {
		r.name, _ = called(r.spec, names[r.spec])
	}
	return rows
}

// called is what a model is called: the name whose hash its digest is, which is
// sure, or what most call it.
func called(spec square.Hash, names map[string]int) (name string, sure bool) {
	most := 0
	for n, times := range names {
		if infer.Subject(n) == spec {
			return n, true
		}
		if times > most || times == most && n < name {
			name, most = n, times
		}
	}
	if name == "" {
		name = spec.Short()
	}
	return name, false
}

var spec = list.Spec{
	Path: "/models", Title: "Models", Sort: "name",
	Columns: []list.Column{
		{Name: "name", Title: "Model"}, {Name: "kind", Title: "Answers"}, {Name: "context", Title: "Context", Number: true},
		{Name: "prompt", Title: "Prompt / M from", Number: true}, {Name: "answer", Title: "Answer / M from", Number: true},
		{Name: "proven", Title: "Proven / M from", Number: true},
		{Name: "providers", Title: "Providers", Number: true}, {Name: "places", Title: "Free places", Number: true}, {Title: "Digest"},
	},
	Filters: []list.Filter{
		{Name: "name", Title: "Model"},
		{Name: "kind", Title: "Answers", Options: []list.Option{
			{Value: "", Title: "Any"}, {Value: "exact", Title: "Exact: can be run again"}, {Value: "provable", Title: "Can come with a proof"}, {Value: "upstream", Title: "Upstream: to be trusted"},
		}},
	},
}

var compare = map[string]func(a, b *row) int{
	"name":    list.By(func(r *row) string { return r.name }),
	"kind":    list.By(func(r *row) int { return kind(r) }),
	"context": list.By(func(r *row) uint64 { return r.context }),
	"prompt":  list.By(func(r *row) uint64 { return r.prompt }),
	"answer":  list.By(func(r *row) uint64 { return r.completion }),
	"proven": func(a, b *row) int {
		return cmp.Or(-cmp.Compare(b2i(a.provable), b2i(b.provable)), cmp.Compare(a.proven, b.proven))
	},
	"providers": list.By(func(r *row) int { return r.providers }),
	"places":    list.By(func(r *row) uint64 { return r.places }),
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func kind(r *row) int { return b2i(r.exact) + b2i(r.provable) }

func (p *Page) list(w http.ResponseWriter, r *http.Request) error {
	q, err := spec.Parse(r.URL.Query())
	if err != nil {
		return err
	}
	s, err := p.feed.Supply(r.Context())
	if err != nil {
		return err
	}
	name, want := q.Filters["name"], q.Filters["kind"]
	view := list.Choose(gather(s.Offers), q, func(r *row) bool {
		switch {
		case !list.Contains(r.name, name) && !list.Contains(r.id, name),
			want == "exact" && !r.exact, want == "provable" && !r.provable, want == "upstream" && r.exact:
			return false
		}
		return true
	}, compare)
	return ui.Render(w, r, ui.View{Title: "Models"}, table(q, view))
}

// offer is one provider's, with what this machine has seen of it.
type offer struct {
	market.Offer
	live bool
	seen desk.Seat
}

// model is what a model's page tells.
type model struct {
	spec    square.Hash
	name    string
	sure    bool     // the name is bound to the digest
	others  []string // names it is offered under as well
	exact   bool
	context uint64
	offers  []offer // those that stand first, the cheapest first
	more    int     // offers that are not shown
	known   *Known
	about   string // HTML
}

// Bounds of a page.
const (
	maxOffers = 200
	maxNames  = 5
)

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	digest, err := square.ParseHash(r.PathValue("digest"))
	if err != nil {
		return ui.NotFound("model")
	}
	m := model{spec: digest}
	known, err := p.known(r.Context(), digest)
	switch {
	case err == nil:
		m.known = &known
	case !errors.Is(err, source.ErrNotFound):
		return fmt.Errorf("read what is known of the model: %w", err)
	}
	// Also those that lapsed or were withdrawn: receipts lead here long after.
	offers, _, err := p.ledger.Offers(r.Context(), source.OfferFilter{Trade: infer.Name, Spec: digest, All: true}, source.Page{Limit: 1000})
	if err != nil {
		return fmt.Errorf("read the model's offers: %w", err)
	}
	if m.known == nil && len(offers) == 0 {
		return ui.NotFound("model")
	}
	// What this machine has seen is a help, and no reason to show nothing.
	seen, _ := p.desk.Seats(r.Context())
	now := ui.Of(r.Context()).Now
	names := map[string]int{}
	m.exact = len(offers) > 0
	for _, o := range offers {
		names[o.Subject]++
		m.exact = m.exact && exact(o.Offer)
		m.context = max(m.context, contextOf(o.Offer))
		of := offer{Offer: o, live: ui.Stands(o, now)}
		for _, s := range seen {
			if s.Offer.Trade == infer.Name && s.Offer.Provider == o.Provider && s.Offer.Spec == digest {
				of.seen = s
			}
		}
		m.offers = append(m.offers, of)
	}
	slices.SortStableFunc(m.offers, func(a, b offer) int {
		x, _ := rate(a.Rates, infer.UnitCompletion)
		y, _ := rate(b.Rates, infer.UnitCompletion)
		return cmp.Or(-cmp.Compare(b2i(a.live), b2i(b.live)), cmp.Compare(a.Denom, b.Denom), cmp.Compare(x, y))
	})
	if len(m.offers) > maxOffers {
		m.more = len(m.offers) - maxOffers
		m.offers = m.offers[:maxOffers]
	}
	m.name, m.sure = called(digest, names)
	if m.known != nil {
		m.name, m.sure, m.exact = m.known.Name, true, true
		if m.known.About != "" {
			if m.about, err = p.docs.Render(m.known.File, m.known.About); err != nil {
				return err
			}
		}
	}
	for n := range names {
		if n != m.name {
			m.others = append(m.others, n)
		}
	}
	slices.Sort(m.others)
	m.others = m.others[:min(len(m.others), maxNames)]
	return ui.Render(w, r, ui.View{Title: m.name}, detail(m))
}
