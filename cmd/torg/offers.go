package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/square"
)

func offersCommand() *cobra.Command {
	var of string
	c := &cobra.Command{
		Use: "offers", Short: "What can be bought on the square now, of all trades, and for how much", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			cl, _, err := dial(c, cfg)
			if err != nil {
				return err
			}
			defer cl.Close()
			offers, err := liveOffers(c, cl, client.OfferFilter{Trade: of})
			if err != nil {
				return err
			}
			return show(c.OutOrStdout(), offers, func(w io.Writer) {
				t := table{{"trade", "subject", "spec", "provider", "places", "rates a million"}}
				for _, o := range offers {
					t = append(t, []any{named(o.Trade), named(o.Subject), o.Spec.Short(), shortAddress(o.Provider), o.Capacity, ratesText(o.Rates, o.Denom)})
				}
				t.write(w)
			})
		}),
	}
	c.Flags().StringVar(&of, "trade", "", "only this trade's")
	return c
}

// maxShown bounds how many offers are read.
const maxShown = 10_000

// liveOffers reads the offers that stand.
func liveOffers(c *cobra.Command, cl *client.Client, f client.OfferFilter) ([]square.Offer, error) {
	out := []square.Offer{}
	for page := (client.Page{Limit: 1000}); ; {
		some, next, err := cl.Offers(c.Context(), f, page)
		if err != nil {
			return nil, err
		}
		for _, o := range some {
			out = append(out, o.Offer)
		}
		if next == "" || len(out) >= maxShown {
			return out, nil
		}
		page.After = next
	}
}

// ratesText is what an offer asks: each unit, and those of a policy with its name.
func ratesText(rates []square.Rate, denom string) string {
	words := make([]string, len(rates))
	for i, r := range rates {
		words[i] = fmt.Sprintf("%s %s", money(r.PerMillion, denom), named(r.Unit))
		if r.Policy != "" {
			words[i] += " (" + string(r.Policy) + ")"
		}
	}
	return strings.Join(words, ", ")
}
