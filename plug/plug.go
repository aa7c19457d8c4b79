// Package plug is how a trade plugs into a square. A [Kit] is all that a program
// knows of a trade; cmd/torg has the list of them. When a square opens, each kit
// opens too, on a [Square], and gives its [Stall] there: what it sells and buys,
// its doors under the gateway's port, its pages in the console, its background
// work. Every part but the rules may be left out.
//
// Package trade/tradetest/echo is a trade that uses all of it.
package plug

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/console"
	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
)

// Kit is a trade as a program has it. Only Rules is required.
type Kit struct {
	// Rules are what the ledger judges by.
	Rules trade.Rules
	// Cards are on a new ledger from the start.
	Cards func() ([][]byte, error)
	// Card is the card that proofs of work of a spec are checked against, by this
	// machine's own knowledge; market.ErrNotFound, wrapped, without one.
	Card func(ctx context.Context, spec square.Hash) ([]byte, error)
	// Commands stand beside torg's own, which already offer, order and tell receipts
	// of any trade. find leads to the square that a command's flags mean.
	Commands func(find Find) []*cobra.Command
	// Settings are what a person may configure, beside the square's own.
	Settings []Setting
	// Words opens evidence of the trade's for people.
	Words func(square.Evidence) (source.Words, error)
	// Page is the path of a good's own page in the console.
	Page func(spec square.Hash) string
	// Open is called once for each square that opens, when its ledger runs and
	// nothing else does yet. nil: the trade is judged here, and neither bought nor sold.
	Open func(context.Context, *Square) (Stall, error)
}

// Stall is what a trade does on one square. Each part may be nil. Doors, Pages, Greet
// and Run are called after Square.Desk and Square.Keys are there.
type Stall struct {
	// Sells is what this machine sells, and Buys how its desk buys.
	Sells seller.Trade
	Buys  desk.Trade
	// Doors are handlers under the gateway's port, for programs, by http.ServeMux
	// pattern. They check API keys by Square.Keys and tell what they served by
	// Square.Observe. Only JSON reaches them.
	Doors func() (map[string]http.Handler, error)
	// Pages are in the console and give their links for its navigation themselves.
	Pages func(console.Room) []ui.Page
	// Run is background work. The square starts it when everything else runs, cancels
	// its context before it closes the desk, and waits until it has returned. If it
	// returns before that the square ends, with its error.
	Run func(context.Context) error
	// Greet is what torg up says of the trade when the square is open.
	Greet func(at Place) string
}

// Square is what a stall finds on its square.
type Square struct {
	Log      *slog.Logger
	Settings Settings
	Ledger   Ledger
	// Escrow, in base units, and Lanes are those of each standing lease of the desk
	// here, and Streams are how many requests it may have under way; 0: those of one
	// lease. What is sold here should have room for them.
	Escrow  uint64
	Lanes   int
	Streams int
	// Desk buys, for all trades; Keys are whose requests doors take. Both are nil
	// while kits open.
	Desk *desk.Desk
	Keys *keys.Store
	// API is the gateway: what is asked there is authorized, counted and logged as any
	// client's request.
	API http.Handler
	// Observe tells metrics, log and console what a door served; the context is the
	// request's.
	Observe func(context.Context, trade.Served)
}

// Setting is one thing that a person may configure: by a flag, by TORG_<NAME>, or in
// the file config.yaml.
type Setting struct {
	Name, Default, Help string
	Of                  string // the command that has it as a flag; empty: all
}

// Settings are what a person configured.
type Settings interface {
	Get(name string) string
	Number(name string, low, high int) (int, error)
	// Bad is an error that says where the value came from.
	Bad(name string, err error) error
}

// Ledger is what a trade asks of the ledger itself; what is sold and bought goes over
// seller and desk.
type Ledger interface {
	// Card reads a card by its hash; market.ErrNotFound, wrapped, without one.
	Card(ctx context.Context, hash square.Hash) ([]byte, error)
	// PublishCard puts one there, paid by this machine's provider.
	PublishCard(ctx context.Context, trade string, card []byte) error
}

// Find leads a command to the running square.
type Find func(*cobra.Command) (Place, error)

// Place is where a square listens, as a command reaches it.
type Place struct {
	URL string // of the gateway, "http://127.0.0.1:8800"
	Key string // the owner's API key
}

// maxAnswer bounds what Post reads.
const maxAnswer = 64 << 20

// Post asks a door: in as JSON, and its answer into out.
func (p Place) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	r.Header.Set("Authorization", "Bearer "+p.Key)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("ask the running square: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the square's answer: %w", err)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %w", res.Status, errors.New(square.Clip(string(bytes.TrimSpace(b)), 400)))
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the square's answer: %w", err)
	}
	return nil
}
