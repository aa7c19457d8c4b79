// Package square is the console's first page: what happens on the square now.
// Numbers, charts and news move by one stream of server-sent events:
//
//	GET /live?after=SEQ    text/event-stream
//	event: tick, about once a second
//	data: {"figures":{name:words},"step":unix,"points":{chart:number},"flows":version,"news":html}
//
// Without JavaScript the page shows the same when it is loaded.
package square

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/square"
)

// Page is the page at /.
type Page struct {
	feed *live.Feed
	work string
}

// New makes the page. work is what all work is metered in: "tokens".
func New(f *live.Feed, work string) *Page { return &Page{f, work} }

// Link is its place in the navigation.
func (p *Page) Link() ui.Link { return ui.Link{Path: "/", Title: "Square"} }

// Routes are its doors.
func (p *Page) Routes(r ui.Router) {
	r.Handle("GET /{$}", p.show)
	r.Handle("GET /square/flows", p.flows)
	r.Handle("GET /live", p.stream)
}

// news is how many events the page lists.
const news = 20

func (p *Page) show(w http.ResponseWriter, r *http.Request) error {
	state, err := p.feed.State(r.Context())
	if err != nil {
		return err
	}
	v := ui.Of(r.Context()).Viewer()
	scope := live.ScopeOf(v)
	begin, points := p.feed.Traffic(scope)
	evs := p.feed.Events(scope, 0, news)
	return ui.Render(w, r, ui.View{Title: "Square", Islands: []string{"square"}},
		body(figuresOf(state, p.feed.Height(), p.feed.Rate(scope)), p.charts(begin, points), draw(flowsOf(state, scope), v.Address), evs, scope, p.work))
}

func (p *Page) flows(w http.ResponseWriter, r *http.Request) error {
	state, err := p.feed.State(r.Context())
	if err != nil {
		return err
	}
	v := ui.Of(r.Context()).Viewer()
	return ui.Fragment(w, r, flowsFigure(draw(flowsOf(state, live.ScopeOf(v)), v.Address)))
}

// figures are the numbers of the page's first row.
type figures struct {
	Providers, Offers, Leases int
	Held                      uint64
	Height                    int64
	Rate                      live.Rate
}

func figuresOf(s live.State, height int64, r live.Rate) figures {
	f := figures{Providers: providers(s), Offers: len(s.Offers), Leases: len(s.Leases), Height: height, Rate: r}
	for _, l := range s.Leases {
		if l.Order.Denom == square.Denom {
			f.Held += l.Escrow
		}
	}
	return f
}

// words are the figures by the names that the page has for them.
func (f figures) words() map[string]string {
	return map[string]string{
		"providers": ui.Number(f.Providers), "offers": count(f.Offers, "offer"), "leases": ui.Number(f.Leases),
		"held": ui.Coins(f.Held, square.Denom) + " held", "requests": ui.Decimal(f.Rate.Requests), "work": ui.Decimal(f.Rate.Work),
		"money": ui.Decimal(f.Rate.Units), "height": ui.Number(f.Height), "blocks": ui.Decimal(f.Rate.Blocks) + " a second",
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return ui.Number(n) + " " + what + "s"
}

// values are a step's numbers, each a second, by chart.
func values(p live.Point) map[string]float64 {
	s := live.Step.Seconds()
	return map[string]float64{
		"requests": float64(p.Requests) / s, "work": float64(p.Work) / s, "money": float64(p.Units) / s, "blocks": float64(p.Blocks) / s,
	}
}

func (p *Page) charts(begin time.Time, points []live.Point) []ui.ChartData {
	// A square that opened a while ago need not show the time before it, but for
	// some minutes.
	for len(points) > int(10*time.Minute/live.Step) && points[0] == (live.Point{}) {
		begin, points = begin.Add(live.Step), points[1:]
	}
	out := []ui.ChartData{
		{ID: "requests", Title: "Requests a second", Unit: "requests/s", Tone: ui.Busy},
		{ID: "work", Title: ui.Title(p.work) + " a second", Unit: p.work + "/s", Tone: ui.Good},
		{ID: "money", Title: "Money promised a second", Unit: "µTORG/s", Tone: ui.Warn},
		{ID: "blocks", Title: "Blocks a second", Unit: "blocks/s", Tone: ui.Plain},
	}
	for i := range out {
		c := &out[i]
		c.Begin, c.Step, c.Rows = begin, live.Step, int(time.Minute/live.Step)
		c.Values, c.Keep = make([]float64, len(points)), live.Points
	}
	for j, at := range points {
		v := values(at)
		for i := range out {
			out[i].Values[j] = v[out[i].ID]
		}
	}
	return out
}

// tick is one message of the stream.
type tick struct {
	Figures map[string]string  `json:"figures"`
	Step    int64              `json:"step"`
	Points  map[string]float64 `json:"points"`
	Flows   string             `json:"flows"`
	News    string             `json:"news"`
}

// A reader that takes nothing for writeTime is let go; a stream without change
// still says that it is there every heartbeat.
const (
	writeTime = 10 * time.Second
	heartbeat = 15 * time.Second
)

func (p *Page) stream(w http.ResponseWriter, r *http.Request) error {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		after = 0
	}
	// A browser that reconnects says what it had last.
	if id, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		after = id
	}
	ticks, cancel, err := p.feed.Subscribe()
	if err != nil {
		w.Header().Set("Retry-After", "30")
		return &ui.Failure{Status: http.StatusServiceUnavailable, Title: "Full", Words: err.Error()}
	}
	defer cancel()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	send := func(b []byte) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(writeTime)) // not every ResponseWriter has one
		if _, err := w.Write(b); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return nil
	}
	scope := live.ScopeOf(ui.Of(r.Context()).Viewer())
	var last []byte
	said := time.Now()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case _, open := <-ticks:
			if !open {
				return nil
			}
		}
		data, newest, err := p.tick(r.Context(), scope, after)
		if err != nil {
			continue // the ledger is slow: the next tick may tell
		}
		if bytes.Equal(data, last) {
			if time.Since(said) < heartbeat {
				continue
			}
			if said = time.Now(); !send([]byte(": here\n\n")) {
				return nil
			}
			continue
		}
		last, after, said = data, newest, time.Now()
		if !send(fmt.Appendf(nil, "id: %d\nevent: tick\ndata: %s\n\n", after, data)) {
			return nil
		}
	}
}

// tick is what a scope is told now; newest is the last event in it.
func (p *Page) tick(ctx context.Context, scope live.Scope, after uint64) (data []byte, newest uint64, err error) {
	state, err := p.feed.State(ctx)
	if err != nil {
		return nil, after, err
	}
	begin, points := p.feed.Traffic(scope)
	t := tick{
		Figures: figuresOf(state, p.feed.Height(), p.feed.Rate(scope)).words(),
		Step:    begin.Add(time.Duration(len(points)-1) * live.Step).Unix(), Points: values(points[len(points)-1]),
		Flows: draw(flowsOf(state, scope), scope.Account).Version,
	}
	newest = after
	if evs := p.feed.Events(scope, after, news); len(evs) > 0 {
		var b bytes.Buffer
		// The stream outlives the moment its request was made in.
		now := *ui.Of(ctx)
		now.Now = time.Now()
		if err := items(evs, scope).Render(ui.With(ctx, &now), &b); err != nil {
			return nil, after, err
		}
		t.News, newest = b.String(), evs[0].Seq
	}
	data, err = json.Marshal(t)
	return data, newest, err
}

// seq is the newest event of a list.
func seq(evs []live.Logged) string {
	if len(evs) == 0 {
		return "0"
	}
	return strconv.FormatUint(evs[0].Seq, 10)
}
