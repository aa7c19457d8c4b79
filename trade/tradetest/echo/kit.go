package echo

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/a-h/templ"
	"github.com/spf13/cobra"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/plug"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

// Kit is echo as a program plugs it in: the command torg echo, the door POST /echo, the
// page /echo, and in the background a watch that knows the lowest price.
var Kit = plug.Kit{
	Rules: Rules{}, Commands: commands,
	Open: func(_ context.Context, sq *plug.Square) (plug.Stall, error) {
		s := &stall{Square: sq}
		return plug.Stall{
			Sells: Worker{Rate: 1_000_000, Places: 4}, Buys: Buyer{}, Run: s.watch,
			Doors: func() (map[string]http.Handler, error) {
				return map[string]http.Handler{"POST /echo": http.HandlerFunc(s.serve)}, nil
			},
			Pages: func(console.Room) []ui.Page { return []ui.Page{s} },
		}, nil
	},
}

// stall is echo on one square. lowest is the lowest rate on offer; 0: nobody sells.
type stall struct {
	*plug.Square
	lowest atomic.Uint64
}

// watch looks at the offers each second.
func (s *stall) watch(ctx context.Context) error {
	for ; ctx.Err() == nil; sleep(ctx, time.Second) {
		lowest := uint64(0)
		_, err := s.Desk.Seats(ctx, "echo", func(o *square.Offer) bool {
			if n := o.Rates[0].PerMillion; lowest == 0 || n < lowest {
				lowest = n
			}
			return true
		})
		if err == nil {
			s.lowest.Store(lowest)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// serve is the door: a job in base64, its result in base64. A key without a budget may
// spend the wallet's money.
func (s *stall) serve(w http.ResponseWriter, r *http.Request) {
	var work []byte
	k, err := s.Keys.Check(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil || k.Budget != nil {
		http.Error(w, "want an API key in use, without a budget", http.StatusUnauthorized)
	} else if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&work); err != nil {
		http.Error(w, "want a job in base64, of at most 1 MiB: "+err.Error(), http.StatusBadRequest)
	} else if rec, err := s.order(r.Context(), work); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	} else {
		_ = json.NewEncoder(w).Encode(rec.Evidence.Result) // the client is gone
	}
}

func (s *stall) order(ctx context.Context, work []byte) (desk.Record, error) {
	o := square.Order{Trade: "echo", Spec: Spec, MaxRates: []square.Rate{{Unit: "bytes", PerMillion: s.lowest.Load()}}, Policy: square.PolicyAudit}
	j, err := s.Desk.Order(ctx, o, work)
	if err == nil {
		j, err = s.Desk.Wait(ctx, j.ID)
	}
	if err != nil {
		return desk.Record{}, err
	}
	return s.Desk.Receipt(ctx, j.Receipt)
}

func commands(find plug.Find) []*cobra.Command {
	return []*cobra.Command{{
		Use: "echo WORDS", Short: "Have words written in capitals by whoever sells that", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var result []byte
			at, err := find(c)
			if err == nil {
				err = at.Post(c.Context(), "/echo", []byte(strings.Join(args, " ")), &result)
			}
			if err == nil {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", result)
			}
			return err
		},
	}}
}

// Link and Routes make the stall a page of the console.
func (s *stall) Link() ui.Link { return ui.Link{Path: "/echo", Title: "Capitals"} }

func (s *stall) Routes(r ui.Router) { r.Handle("GET /echo", s.show) }

var body = template.Must(template.New("echo").Parse(`<h1>Capitals</h1><p>From {{.}}; 0 is: nobody sells them now.</p>`))

func (s *stall) show(w http.ResponseWriter, r *http.Request) error {
	price := ui.PerMillion(square.Rate{Unit: "bytes", PerMillion: s.lowest.Load()}, square.Denom)
	return ui.Render(w, r, ui.View{Title: "Capitals"}, templ.FromGoHTML(body, price))
}
