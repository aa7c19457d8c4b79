package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	txtypes "github.com/cosmos/cosmos-sdk/types/tx"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/square"
)

// open runs a ledger and a client of it for one test.
func open(t testing.TB, s devnet.Spec) (*node.Node, *client.Client) {
	t.Helper()
	return openWith(t, s, client.Options{})
}

func openWith(t testing.TB, s devnet.Spec, o client.Options) (*node.Node, *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := devnet.Memory(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	c, err := client.New(ctx, n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	books.Store(c, &book{n: n, fees: map[square.Address]uint64{}})
	t.Cleanup(func() { books.Delete(c) })
	return n, c
}

// balance is what an account has, and has paid in fees: what it would have if
// blocks were free. What blocks cost is tested by itself.
func balance(t testing.TB, c *client.Client, who square.Address) uint64 {
	t.Helper()
	b, _ := books.Load(c)
	for {
		before := b.(*book).paid(t, who)
		has, err := c.Balance(t.Context(), who, square.Denom)
		if err != nil {
			t.Fatal(err)
		}
		if b.(*book).paid(t, who) == before {
			return has.Units + before
		}
	}
}

// fees are what everybody has paid.
func fees(t testing.TB, c *client.Client) (sum uint64) {
	t.Helper()
	b, _ := books.Load(c)
	b.(*book).paid(t, square.Address{})
	for _, f := range b.(*book).fees {
		sum += f
	}
	return sum
}

// books are what accounts have paid in fees, by client.
var books sync.Map

type book struct {
	n    *node.Node
	mu   sync.Mutex
	read int64
	fees map[square.Address]uint64
}

// paid is what an account has paid in fees until the last block.
func (b *book) paid(t testing.TB, who square.Address) uint64 {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.read < b.n.App.LastBlockHeight() {
		h := b.read + 1
		r, err := b.n.RPC().BlockResults(t.Context(), &h)
		if err != nil {
			time.Sleep(time.Millisecond) // its results are a moment behind
			continue
		}
		b.read = h
		for _, tx := range r.TxsResults {
			for _, e := range tx.Events {
				var fee uint64
				var payer square.Address
				for _, a := range e.Attributes {
					switch {
					case e.Type == "tx" && a.Key == "fee":
						if _, err := fmt.Sscanf(a.Value, "%d"+square.Denom, &fee); err != nil {
							t.Fatal(err)
						}
					case e.Type == "tx" && a.Key == "fee_payer":
						if payer, err = square.ParseAddress(a.Value); err != nil {
							t.Fatal(err)
						}
					}
				}
				b.fees[payer] += fee
			}
		}
	}
	return b.fees[who]
}

func TestSend(t *testing.T) {
	n, c := open(t, devnet.Spec{Settings: node.Settings{BlockTime: 20 * time.Millisecond, RPC: "127.0.0.1:26957"}})
	ctx := t.Context()
	from := c.Account(devnet.Key(0))
	stranger, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	before := balance(t, c, from.Address())

	r, err := from.Send(ctx, stranger.Address(), square.Utorg(5))
	if err != nil {
		t.Fatal(err)
	}
	if r.Height == 0 || r.Hash.IsZero() {
		t.Fatalf("result %+v", r)
	}
	if got := balance(t, c, stranger.Address()); got != 5 {
		t.Fatalf("received %d", got)
	}
	if got := balance(t, c, from.Address()); got != before-5 {
		t.Fatalf("paid %d", before-got)
	}
	if again, err := c.Tx(ctx, r.Hash); err != nil || again.Height != r.Height {
		t.Fatalf("looked up: %+v, %v", again, err)
	}
	if _, err := c.Tx(ctx, square.Hash{1}); !errors.Is(err, client.ErrNotFound) {
		t.Fatalf("a transaction nobody sent: %v", err)
	}

	// Many at once from one key: none waits for or is refused for another.
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for range 100 {
		wg.Go(func() {
			_, err := from.Send(ctx, stranger.Address(), square.Utorg(1))
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := balance(t, c, stranger.Address()); got != 105 {
		t.Fatalf("received %d of 105", got)
	}

	// Refusals name their cause and move nothing.
	var refused *client.Refused
	if _, err := from.Send(ctx, stranger.Address(), square.Utorg(1<<60)); !errors.As(err, &refused) || !errors.Is(err, client.ErrInsufficient) {
		t.Fatalf("too much: %v", err)
	}
	poor, _ := square.NewKey()
	if _, err := c.Account(poor).Send(ctx, from.Address(), square.Utorg(1)); !errors.Is(err, client.ErrNotFound) {
		t.Fatalf("an account that never was: %v", err)
	}

	// A context that ends first leaves the outcome unknown, and it can be
	// looked up.
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = from.Send(short, stranger.Address(), square.Utorg(1))
	var unknown *client.Unknown
	if !errors.As(err, &unknown) {
		t.Fatalf("short context: %v", err)
	}
	if err := n.WaitHeight(ctx, n.Height()+3); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tx(ctx, unknown.Hash); err != nil && !errors.Is(err, client.ErrNotFound) {
		t.Fatalf("looking up an unknown outcome: %v", err)
	}

	// The same by URL.
	far, err := client.Dial(ctx, "127.0.0.1:26957", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := far.Account(devnet.Key(1)).Send(ctx, stranger.Address(), square.Utorg(7)); err != nil {
		t.Fatal(err)
	}
	h, err := c.Beacon(ctx, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := far.Beacon(ctx, 2, nil); err != nil || g != h || h.IsZero() {
		t.Fatalf("beacon %v and %v: %v", h, g, err)
	}
	if _, err := c.Beacon(ctx, 1<<40, nil); err == nil {
		t.Fatalf("a block to come: %v", err)
	}
	if _, err := client.Dial(ctx, "127.0.0.1:1", client.Options{}); !errors.Is(err, client.ErrUnreachable) {
		t.Fatalf("nobody there: %v", err)
	}
}

// A wallet elsewhere signs a drafted transfer; another's signature, or one over
// another draft, moves nothing.
func TestDraft(t *testing.T) {
	_, c := open(t, devnet.Spec{})
	from, to := devnet.Key(1), devnet.Key(2)
	before := balance(t, c, to.Address())
	d, err := c.DraftSend(t.Context(), from.PubKey(), to.Address(), square.Utorg(7))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := (&txtypes.SignDoc{BodyBytes: d.Body, AuthInfoBytes: d.Auth, ChainId: c.ChainID(), AccountNumber: d.Number}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SubmitDraft(t.Context(), d, keys.Sign(to, doc)); err == nil {
		t.Error("another's signature was taken")
	}
	if _, err := c.SubmitDraft(t.Context(), d, keys.Sign(from, doc)); err != nil {
		t.Fatal(err)
	}
	if got := balance(t, c, to.Address()); got != before+7 {
		t.Errorf("%d arrived, want 7", got-before)
	}
	if _, err := c.SubmitDraft(t.Context(), d, keys.Sign(from, doc)); err == nil {
		t.Error("the same draft went twice")
	}
	if _, err := c.DraftSend(t.Context(), []byte{2, 3}, to.Address(), square.Utorg(7)); err == nil {
		t.Error("two bytes were taken for a public key")
	}
}
