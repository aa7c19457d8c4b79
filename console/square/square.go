// Package square is the console's first page: what happens on the square now.
package square

import (
	"net/http"

	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
)

// Page is the page at /.
type Page struct {
	feed   *live.Feed
	ledger source.Ledger
}

// New makes the page.
func New(f *live.Feed, l source.Ledger) *Page { return &Page{f, l} }

// Link is its place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/", Title: "Square"} }

// Routes are its doors.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /{$}", p.show)
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	state, err := p.feed.State(r.Context())
	if err != nil {
		return err
	}
	scope := live.ScopeOf(ui.Of(r.Context()).Viewer())
	return ui.Render(w, r, ui.View{Title: "Square"}, body(now(state, p.feed.Rate(scope)), p.feed.Events(scope, 0, 20)))
}

// figures are the numbers of the page's first row.
type figures struct {
	Providers, Offers, Leases int
	Height                    int64
	Rate                      live.Rate
}

func now(s live.State, r live.Rate) figures {
	providers := map[string]bool{}
	for _, o := range s.Offers {
		providers[o.Provider.String()] = true
	}
	return figures{len(providers), len(s.Offers), len(s.Leases), s.Head.Height, r}
}
