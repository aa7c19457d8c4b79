package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

func orderCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "order", Short: "Order the result of a job, of any trade, and see it through",
		Long: "An order for a result locks its escrow; the running square hands the job to the cheapest provider that fits,\n" +
			"checks what comes back, and pays it or challenges it by itself, also after a restart. With --review what it\n" +
			"finds right waits for torg order accept or torg order challenge, until it can be challenged no more.",
	}
	c.AddCommand(orderPlaceCommand(), orderListCommand(), orderShowCommand(), orderWatchCommand(), orderAcceptCommand(), orderChallengeCommand())
	return c
}

// orderFile is what torg order place -f reads.
type orderFile struct {
	Trade     string        `json:"trade"`
	Spec      string        `json:"spec"`      // empty: the only one that is on offer
	Policy    square.Policy `json:"policy"`    // empty: audit
	Most      string        `json:"most"`      // TORG that the result may cost; empty: the square's own
	Rates     []square.Rate `json:"rates"`     // the most that is paid for a million of each unit; empty: what the cheapest asks
	Duration  string        `json:"duration"`  // until when the result must be claimed
	Challenge string        `json:"challenge"` // how long it can be challenged then
	Job       string        `json:"job"`       // the file with the job's bytes; "-": standard input
	Review    bool          `json:"review"`    // the result waits for torg order accept or challenge
}

// maxOrderFile bounds an order file, in bytes.
const maxOrderFile = 64 << 10

func orderPlaceCommand() *cobra.Command {
	var file string
	var f orderFile
	var policy string
	var wait bool
	c := &cobra.Command{
		Use: "place [TRADE]", Short: "Place an order: torg order place TRADE --job FILE, or -f order.yaml", Args: cobra.MaximumNArgs(1),
		RunE: configured(func(c *cobra.Command, cfg config, args []string) error {
			if file != "" {
				b, err := readBounded(file, maxOrderFile)
				if err == nil && len(b) > maxOrderFile {
					err = fmt.Errorf("it has more than %d bytes", maxOrderFile)
				}
				if err != nil {
					return usageError("order file: %w", err)
				}
				flags := f
				if err := yaml.UnmarshalStrict(b, &f); err != nil {
					return usageError("order file %s: %w", file, err)
				}
				f.Review = f.Review || flags.Review
				for _, x := range []struct{ flag, to *string }{{&flags.Spec, &f.Spec}, {&flags.Most, &f.Most}, {&flags.Duration, &f.Duration}, {&flags.Challenge, &f.Challenge}, {&flags.Job, &f.Job}} {
					if *x.flag != "" { // a flag is said later than a file
						*x.to = *x.flag
					}
				}
			}
			if len(args) == 1 {
				f.Trade = args[0]
			}
			if policy != "" {
				f.Policy = square.Policy(policy)
			}
			return placeOrder(c, cfg, f, wait)
		}),
	}
	c.Flags().StringVarP(&file, "file", "f", "", "a YAML file with trade, spec, policy, most, rates, duration, challenge, review and job")
	c.Flags().StringVar(&f.Job, "job", "", "the file with the job's bytes; - is standard input")
	c.Flags().StringVar(&f.Spec, "spec", "", "what is to be done it with (default: the only one on offer)")
	c.Flags().StringVar(&policy, "policy", "", "how the result is verified: audit, replicate or none (default: the square's own)")
	c.Flags().StringVar(&f.Most, "most", "", "TORG that the result may cost (default: the square's own bound)")
	c.Flags().StringVar(&f.Duration, "duration", "", "until when the result must be claimed, e.g. 10m")
	c.Flags().StringVar(&f.Challenge, "challenge", "", "how long a claimed result can be challenged, e.g. 2m")
	c.Flags().BoolVar(&f.Review, "review", false, "do not pay the result before torg order accept says so")
	c.Flags().BoolVar(&wait, "wait", false, "until the result is here; it goes to standard output")
	return c
}

// order makes the order that a file asks for, at the rates of the cheapest offer where
// it names none.
func (f orderFile) order(c *cobra.Command, cl *client.Client) (o square.Order, err error) {
	if f.Trade == "" {
		return o, usageError("trade: say which; torg offers lists what is on offer")
	}
	o = square.Order{Trade: f.Trade, Policy: f.Policy, MaxRates: f.Rates}
	if f.Most != "" {
		a, err := square.ParseAmount(f.Most)
		if err != nil {
			return o, usageError("most: %w", err)
		}
		o.JobValue = a.Units
	}
	for _, t := range []struct {
		name, text string
		to         *uint64
	}{{"duration", f.Duration, &o.Duration}, {"challenge", f.Challenge, &o.Challenge}} {
		if t.text == "" {
			continue
		}
		d, err := time.ParseDuration(t.text)
		if err != nil || d < time.Second {
			return o, usageError("%s %q: want a time of at least 1s, such as 10m", t.name, t.text)
		}
		*t.to = uint64(d / time.Second)
	}
	filter := client.OfferFilter{Trade: f.Trade}
	if f.Spec != "" {
		if o.Spec, err = square.ParseHash(f.Spec); err != nil {
			return o, usageError("spec: %w", err)
		}
		filter.Spec = o.Spec
	}
	if !o.Spec.IsZero() && len(o.MaxRates) > 0 {
		return o, nil
	}
	offers, err := liveOffers(c, cl, filter)
	if err != nil {
		return o, err
	}
	var best uint64
	for _, of := range offers {
		if o.Spec.IsZero() {
			o.Spec = of.Spec
		}
		if of.Spec != o.Spec {
			return o, usageError("spec: trade %s has several on offer; torg offers lists them", f.Trade)
		}
		var sum uint64
		rates := trade.RatesFor(of.Rates, f.Policy)
		for _, r := range rates {
			sum += min(r.PerMillion, square.MaxUnits/square.MaxRates)
		}
		if len(f.Rates) == 0 && len(rates) > 0 && (len(o.MaxRates) == 0 || sum < best) {
			o.MaxRates, best = rates, sum
		}
	}
	if len(o.MaxRates) == 0 {
		return o, &codedError{exitNotFound, fmt.Errorf("nothing of trade %q is on offer for that; torg offers lists what is", f.Trade)}
	}
	return o, nil
}

func placeOrder(c *cobra.Command, cfg config, f orderFile, wait bool) error {
	if f.Job == "" {
		return usageError("job: name the file with the job's bytes, or - for standard input")
	}
	job, err := readBounded(f.Job, wire.MaxJob)
	if err != nil {
		return usageError("job: %w", err)
	}
	cl, run, err := dial(c, cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	o, err := f.order(c, cl)
	if err != nil {
		return err
	}
	api := adminClient{run.AdminURL, run.Token}
	var v orderView
	if err := api.call(c.Context(), "POST", "orders", map[string]any{"order": o, "job": job, "review": f.Review}, &v); err != nil {
		return err
	}
	if !wait {
		return show(c.OutOrStdout(), v, v.print)
	}
	progress("order %s", v.ID)
	for v.Receipt.IsZero() && !v.Over {
		select {
		case <-c.Context().Done():
			return c.Context().Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := api.call(c.Context(), "GET", "orders/"+v.ID.String(), nil, &v); err != nil {
			return err
		}
	}
	if v.Wrong != "" || v.Receipt.IsZero() {
		return fmt.Errorf("order %s gave no result: %s", v.ID.Short(), visible(v.trouble()))
	}
	if format != "table" {
		return show(c.OutOrStdout(), v, nil)
	}
	_, err = c.OutOrStdout().Write(v.Result)
	return err
}

// trouble is what went wrong, or how the order ended.
func (v orderView) trouble() string {
	for _, s := range []string{v.Wrong, v.Note, string(v.Reason), string(v.State)} {
		if s != "" {
			return s
		}
	}
	return "it has ended"
}

// standing is how an order is, in a word.
func (v orderView) standing() string {
	switch {
	case v.Wrong != "":
		return "wrong, challenged"
	case v.Over:
		return string(v.State)
	case !v.Receipt.IsZero() && v.Review:
		return "result is here, to be reviewed"
	case !v.Receipt.IsZero():
		return "result is here"
	}
	return "under way"
}

func (v orderView) print(w io.Writer) {
	row := rowPrinter(w)
	row("order", "%s", v.ID)
	row("trade", "%s, verified by %s", named(v.Order.Trade), v.Order.Policy)
	row("stands", "%s%s", v.standing(), reasonWords(string(v.Reason)))
	row("may cost", "%s of %s locked", money(v.Order.JobValue, v.Order.Denom), money(v.Order.Escrow, v.Order.Denom))
	for _, p := range v.Parts {
		row("with", "%s, lease %s", p.Provider, p.Lease.Short())
	}
	if v.Note != "" {
		row("note", "%s", visible(v.Note))
	}
	if !v.Receipt.IsZero() {
		row("receipt", "%s", v.Receipt)
	}
}

func orderListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List this machine's orders", Args: cobra.NoArgs,
		RunE: asking(func(c *cobra.Command, api adminClient, _ []string) error {
			orders, err := listOrders(c, api)
			if err != nil {
				return err
			}
			return show(c.OutOrStdout(), orders, func(w io.Writer) {
				t := table{{"order", "placed", "trade", "stands", "may cost"}}
				for _, v := range orders {
					t = append(t, []any{v.ID.Short(), v.Placed.Format(time.DateTime), named(v.Order.Trade), v.standing(), money(v.Order.JobValue, v.Order.Denom)})
				}
				t.write(w)
			})
		}),
	}
}

func listOrders(c *cobra.Command, api adminClient) ([]orderView, error) {
	var out struct {
		Data []orderView `json:"data"`
	}
	err := api.call(c.Context(), "GET", "orders", nil, &out)
	return out.Data, err
}

func orderShowCommand() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use: "show ORDER", Short: "Show how an order stands; --result FILE writes its result", Args: cobra.ExactArgs(1),
		RunE: asking(func(c *cobra.Command, api adminClient, args []string) error {
			id, err := findOrder(c, api, args[0])
			if err != nil {
				return err
			}
			var v orderView
			if err := api.call(c.Context(), "GET", "orders/"+id.String(), nil, &v); err != nil {
				return err
			}
			if to != "" {
				if v.Receipt.IsZero() {
					return errors.New("there is no result yet")
				}
				if err := os.WriteFile(to, v.Result, 0o600); err != nil {
					return fmt.Errorf("write the result: %w", err)
				}
			}
			return show(c.OutOrStdout(), v, v.print)
		}),
	}
	c.Flags().StringVar(&to, "result", "", "write the result to this file")
	return c
}

// findOrder is the order that a prefix names.
func findOrder(c *cobra.Command, api adminClient, prefix string) (square.Hash, error) {
	orders, err := listOrders(c, api)
	if err != nil {
		return square.Hash{}, err
	}
	ids := make([]square.Hash, len(orders))
	for i, v := range orders {
		ids[i] = v.ID
	}
	return matchID("order", prefix, ids)
}

// watchPause is how often an order that is watched is looked at.
const watchPause = 200 * time.Millisecond

func orderWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch ORDER", Short: "Tell what becomes of an order, a line for each change, until it is over", Args: cobra.ExactArgs(1),
		Long: "Ctrl-C ends the watching and not the order, which the running square sees through.",
		RunE: asking(func(c *cobra.Command, api adminClient, args []string) error {
			id, err := findOrder(c, api, args[0])
			if err != nil {
				return err
			}
			for last := ""; ; {
				var v orderView
				if err := api.call(c.Context(), "GET", "orders/"+id.String(), nil, &v); err != nil {
					return err
				}
				v.Result = nil // torg order show --result has it
				if line := v.line(); line != last {
					last = line
					err := show(c.OutOrStdout(), v, func(w io.Writer) { fmt.Fprintf(w, "%s  %s\n", time.Now().Format(time.TimeOnly), line) })
					if err != nil {
						return err
					}
				}
				if v.Over {
					return nil
				}
				select {
				case <-c.Context().Done():
					return c.Context().Err()
				case <-time.After(watchPause):
				}
			}
		}),
	}
}

// line is how an order stands, in one.
func (v orderView) line() string {
	s := v.standing()
	if v.State != "" && !v.Over {
		s += ", the lease is " + string(v.State)
	}
	s += reasonWords(string(v.Reason))
	for _, words := range []string{v.Wrong, v.Note} {
		if words != "" {
			s += ": " + visible(words)
		}
	}
	return s
}

func orderAcceptCommand() *cobra.Command {
	return &cobra.Command{
		Use: "accept ORDER", Short: "Take an order's result: it is paid at once", Args: cobra.ExactArgs(1),
		RunE: decides("accept", func() any { return nil }),
	}
}

func orderChallengeCommand() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use: "challenge ORDER", Short: "Bring an order's result before the ledger as wrong", Args: cobra.ExactArgs(1),
		Long: "The evidence is what the provider signed, with the job and the result. Work that can be done again here is done\n" +
			"again first: what that finds right is not challenged, since the ledger would keep the bond.",
		RunE: decides("challenge", func() any { return map[string]string{"why": why} }),
	}
	c.Flags().StringVar(&why, "why", "", "what is wrong, in words; kept with the receipt (required)")
	return c
}

// decides is a command that decides about an order's result.
func decides(how string, body func() any) func(*cobra.Command, []string) error {
	return asking(func(c *cobra.Command, api adminClient, args []string) error {
		id, err := findOrder(c, api, args[0])
		if err != nil {
			return err
		}
		var v orderView
		if err := api.call(c.Context(), "POST", "orders/"+id.String()+"/"+how, body(), &v); err != nil {
			return err
		}
		return show(c.OutOrStdout(), v, v.print)
	})
}
