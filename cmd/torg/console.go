package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/history"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

// consoleLedger is the ledger as the console asks it.
type consoleLedger struct{ *client.Client }

// seen says what the console tells apart.
func seen(err error) error {
	if errors.Is(err, market.ErrNotFound) || errors.Is(err, desk.ErrNoReceipt) {
		return fmt.Errorf("%w: %w", source.ErrNotFound, err)
	}
	return err
}

func (l consoleLedger) Head(ctx context.Context) (source.Head, error) {
	h, err := l.Client.Head(ctx)
	return source.Head(h), err
}

func (l consoleLedger) Lease(ctx context.Context, id square.Hash) (source.Lease, error) {
	p, err := l.Projected(ctx, id)
	return source.Lease(p), seen(err)
}

func (l consoleLedger) Leases(ctx context.Context, f source.LeaseFilter, p source.Page) ([]source.Lease, string, error) {
	ls, next, err := l.Client.Leases(ctx, client.LeaseFilter(f), client.Page(p))
	out := make([]source.Lease, len(ls))
	for i := range ls {
		out[i] = source.Lease(ls[i])
	}
	return out, next, err
}

func (l consoleLedger) Offers(ctx context.Context, f source.OfferFilter, p source.Page) ([]market.Offer, string, error) {
	return l.Client.Offers(ctx, client.OfferFilter(f), client.Page(p))
}

func (l consoleLedger) Stakes(ctx context.Context, provider square.Address, trade string, p source.Page) ([]source.Stake, string, error) {
	ss, next, err := l.Client.Stakes(ctx, provider, trade, client.Page(p))
	out := make([]source.Stake, len(ss))
	for i := range ss {
		out[i] = source.Stake(ss[i])
	}
	return out, next, err
}

func (l consoleLedger) Channels(ctx context.Context, payer, receiver square.Address, p source.Page) ([]source.Channel, string, error) {
	cs, next, err := l.Client.Channels(ctx, payer, receiver, client.Page(p))
	out := make([]source.Channel, len(cs))
	for i := range cs {
		out[i] = source.Channel(cs[i])
	}
	return out, next, err
}

func (l consoleLedger) Watch(ctx context.Context) <-chan source.Event {
	sub := l.Client.Watch(ctx, 1024, nil)
	out := make(chan source.Event)
	go func() { // ends with the subscription, which ends with ctx
		defer close(out)
		for e := range sub.C {
			select {
			case out <- source.Event(e):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// consoleHistory is the past as the console reads it.
type consoleHistory struct{ *history.History }

func remembered(evs []client.Event, err error) ([]source.Event, error) {
	if errors.Is(err, history.ErrNone) {
		return nil, nil
	}
	out := make([]source.Event, len(evs))
	for i := range evs {
		out[i] = source.Event(evs[i])
	}
	return out, err
}

func (h consoleHistory) Lease(id square.Hash, limit int) ([]source.Event, error) {
	return remembered(h.History.Lease(id, limit))
}

func (h consoleHistory) Account(a square.Address, limit int) ([]source.Event, error) {
	return remembered(h.History.Account(a, limit))
}

// consoleDesk is the desk as the console asks it.
type consoleDesk struct {
	*desk.Desk
	s *openSquare
}

func (d consoleDesk) Seats(ctx context.Context) ([]desk.Seat, error) { return d.s.seats(ctx) }

func (d consoleDesk) Receipt(ctx context.Context, id square.Hash) (desk.Record, error) {
	r, err := d.Desk.Receipt(ctx, id)
	return r, seen(err)
}

func (d consoleDesk) Audit(ctx context.Context, id square.Hash) (desk.Audit, error) {
	a, err := d.Desk.Audit(ctx, id)
	return a, seen(err)
}

func (d consoleDesk) CloseLease(ctx context.Context, id square.Hash) error {
	return seen(d.Desk.CloseLease(ctx, id))
}

func (consoleDesk) Words(r desk.Record) (source.Words, error) { return read(r.Trade, r.Evidence) }

// consoleBank moves money for the console.
type consoleBank struct{ s *openSquare }

func (b consoleBank) account() *client.Account { return b.s.client.Account(b.s.keyring.owner) }

func (b consoleBank) Carrier() square.Address { return b.s.keyring.owner.Address() }

func executed(r client.Result, err error) (source.Tx, error) {
	return source.Tx{Hash: r.Hash, Height: r.Height}, err
}

func (b consoleBank) Send(ctx context.Context, to square.Address, amount square.Amount) (source.Tx, error) {
	return executed(b.account().Send(ctx, to, amount))
}

// Carry funds the channel and claims all of it for its receiver. If the second
// fails the money waits in the channel, where only that receiver can have it.
func (b consoleBank) Carry(ctx context.Context, c square.ChannelConfig, d square.Deposit, sig square.Signature) (source.Tx, error) {
	a := b.account()
	auth := client.Authorization{Nonce: d.Nonce, Expiry: d.Expiry, Sig: sig}
	if _, err := a.Deposit(ctx, c, d.Amount, &auth); err != nil {
		return source.Tx{}, err
	}
	v := square.SignVoucher(b.s.client.ChannelDomain(), d.Channel, d.Amount.Units, b.s.keyring.owner)
	tx, err := executed(a.ClaimChannels(ctx, []client.ChannelClaim{{Amount: d.Amount.Units, Voucher: v}}))
	if err != nil {
		err = fmt.Errorf("the money waits in channel %s for its receiver: %w", d.Channel.Short(), err)
	}
	return tx, err
}

func (b consoleBank) DraftSend(ctx context.Context, pub []byte, to square.Address, amount square.Amount) (source.Draft, error) {
	d, err := b.s.client.DraftSend(ctx, pub, to, amount)
	return source.Draft(d), err
}

func (b consoleBank) SubmitDraft(ctx context.Context, d source.Draft, sig []byte) (source.Tx, error) {
	return executed(b.s.client.SubmitDraft(ctx, client.Draft(d), sig))
}

// consoleLink is a link that opens the owner's console, once.
type consoleLink struct {
	URL string `json:"url"`
}

func consoleCommand() *cobra.Command {
	var open bool
	c := &cobra.Command{
		Use: "console", Short: "A link that opens the console in a browser, once", Args: cobra.NoArgs,
		Long: "Print a link that opens the running square's console for its owner. It is good once, for a quarter of an hour.",
		RunE: asking(func(c *cobra.Command, api adminClient, _ []string) error {
			var l consoleLink
			if err := api.call(c.Context(), "POST", "console", nil, &l); err != nil {
				return err
			}
			if open {
				if err := browse(c.Context(), l.URL); err != nil {
					return err
				}
			}
			return show(c.OutOrStdout(), l, func(w io.Writer) { fmt.Fprintln(w, l.URL) })
		}),
	}
	c.Flags().BoolVar(&open, "open", false, "open it in the browser")
	return c
}

// desktop reports whether a browser that a person sees could be opened: the
// command runs in a terminal of a graphical session.
func desktop() bool {
	switch runtime.GOOS {
	case "darwin", "windows":
		return term.IsTerminal(int(os.Stdout.Fd()))
	}
	return term.IsTerminal(int(os.Stdout.Fd())) && (os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "")
}

// browse opens a page in the person's browser.
func browse(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	if err := exec.CommandContext(ctx, name, args...).Run(); err != nil {
		return fmt.Errorf("open a browser with %s: %w", name, err)
	}
	return nil
}
