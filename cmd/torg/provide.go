package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/seller"
)

func provideCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "provide", Short: "What this machine sells: pause it, limit it, see why it was paid what it was",
		Long: "The running square's own provider. What is set here stays so after a restart; the console's page\n" +
			"Provide shows and sets the same.",
	}
	c.AddCommand(
		provideCall("status", "What the last hour paid and why, what is on sale, who leases", cobra.NoArgs, nil),
		provideCall("pause", "Take no more leases and requests, and withdraw the offers; what runs ends", cobra.NoArgs,
			func(c *seller.Control, _ []string) error { c.Paused = true; return nil }),
		provideCall("resume", "Sell again after a pause", cobra.NoArgs,
			func(c *seller.Control, _ []string) error { c.Paused = false; return nil }),
		provideCall("limit LANES", "Work on so many requests at once at most; 0 is no limit", cobra.ExactArgs(1),
			func(c *seller.Control, args []string) (err error) {
				if c.Lanes, err = strconv.Atoi(args[0]); err != nil || c.Lanes < 0 {
					return usageError("lanes %q: want a number from 1 to %d, or 0 for no limit", args[0], square.MaxLanes)
				}
				return nil
			}),
	)
	return c
}

// provideCall shows the provider, after a change of its control if there is one.
func provideCall(use, short string, args cobra.PositionalArgs, change func(*seller.Control, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: asking(func(c *cobra.Command, api adminClient, args []string) error {
			var r seller.Report
			if err := api.call(c.Context(), "GET", "provider", nil, &r); err != nil {
				return err
			}
			if change != nil {
				if err := change(&r.Control, args); err != nil {
					return err
				}
				if err := api.call(c.Context(), "POST", "provider", r.Control, &r); err != nil {
					return err
				}
			}
			r.Steps = nil // a day in five minutes each: the console draws them
			return show(c.OutOrStdout(), r, func(w io.Writer) { printProvider(w, r) })
		}),
	}
}

// whyPaid are the reasons in words.
var whyPaid = map[seller.Why]string{
	seller.WhySlashed:    "an answer was found false, and the bond of its lease was slashed",
	seller.WhyEarned:     "work was done and paid",
	seller.WhyUnredeemed: "work was done; its vouchers are not redeemed yet",
	seller.WhyPaused:     "it is paused: torg provide resume",
	seller.WhyFailed:     "whoever asked got no answer",
	seller.WhyRefused:    "whoever asked was turned away",
	seller.WhyNothing:    "there is nothing to sell",
	seller.WhyNotOffered: "the ledger has no offer of this machine's: see torg doctor",
	seller.WhyNoLease:    "on offer, and nobody has leased it",
	seller.WhyNotAsked:   "leased, and nobody asked",
}

func printProvider(w io.Writer, r seller.Report) {
	row := rowPrinter(w)
	limit := "no limit but the offers' places"
	if r.Control.Lanes > 0 {
		limit = fmt.Sprintf("at most %d at once", r.Control.Lanes)
	}
	state := "sells"
	if r.Control.Paused {
		state = "paused"
	}
	row("provider", "%s", r.Address)
	row("state", "%s; %d working, %s", state, r.Working, limit)
	row("last hour", "%s earned, %s redeemed; %d answered, %d failed, %d refused", square.Utorg(r.Hour.Charged), square.Utorg(r.Hour.Redeemed), r.Hour.Served, r.Hour.Failed, r.Hour.Refused)
	row("why", "%s", whyPaid[r.Why])
	for _, m := range []struct {
		why  seller.Why
		last seller.Mishap
	}{{seller.WhyRefused, r.Refused}, {seller.WhyFailed, r.Failed}} {
		if r.Why == m.why && m.last.Time > 0 {
			row("", "the last, at %s: %s", time.UnixMilli(m.last.Time).Format(time.TimeOnly), m.last.Words)
		}
	}
	row("owed", "%s in vouchers; a lease is redeemed when that is worth the fee of %s, and before it ends", square.Utorg(r.Owed), square.Utorg(r.Fee))
	for _, s := range r.Selling {
		offered := "not on the ledger"
		if !s.ID.IsZero() {
			offered = "offered until " + time.Unix(s.Expiry, 0).Format(time.TimeOnly)
		}
		row("sells", "%s: %s, %d places, %d working, %s, %s a million", named(s.Trade), quoted(s.Subject), s.Capacity, s.Working, offered, ratesText(s.Rates, s.Denom))
	}
	for _, l := range r.Serving {
		what := fmt.Sprintf("%d lanes", l.Lanes)
		if l.Lanes == 0 {
			what = "for a result"
		}
		row("lease", "%s  %s: %s, %s, %s, %s charged of which %s redeemed", l.Lease.Short(), named(l.Trade), quoted(l.Subject), l.State, what, square.Utorg(l.Charged), square.Utorg(l.Redeemed))
	}
}
