package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/console/source"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

func receiptCommand() *cobra.Command {
	c := &cobra.Command{Use: "receipt", Short: "What was asked, who answered, what it cost"}
	var limit int
	var which receiptFlags
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List receipts, newest first", Args: cobra.NoArgs,
		RunE: asking(func(c *cobra.Command, api adminClient, _ []string) error {
			rs, next, err := receipts(c, api, which, limit)
			if err != nil {
				return err
			}
			t := table{{"receipt", "time", "what", "provider", "metered", "cost", "verified"}}
			for _, r := range rs {
				t = append(t, []any{r.ID.Short(), clock(r.Receipt.Time), named(r.Subject), shortAddress(r.Provider),
					meteredText(r.Units), money(r.Receipt.Price, r.Denom), orDash(firstWord(r.Audited))})
			}
			if next != "" {
				progress("there are more: --before %s", next)
			}
			return showTable(c.OutOrStdout(), rs, t)
		}),
	}
	f := list.Flags()
	f.IntVarP(&limit, "limit", "n", 20, "how many")
	f.StringVar(&which.before, "before", "", "only older ones than this time, such as 2026-01-31T12:00:00Z")
	f.StringVar(&which.key, "key", "", "only those of an API key, by its id")
	f.StringVar(&which.lease, "lease", "", "only those of a lease, by its id in full")
	f.StringVar(&which.provider, "provider", "", "only those of a provider's address")
	f.StringVar(&which.what, "what", "", "only those of a model, or whatever else was asked for, by its name in full")
	show := &cobra.Command{
		Use: "show RECEIPT", Short: "Tell the whole story of one request", Args: cobra.ExactArgs(1),
		ValidArgsFunction: completeReceipts,
		RunE: configured(func(c *cobra.Command, cfg config, args []string) error {
			return receiptStory(c, cfg, args[0])
		}),
	}
	c.AddCommand(list, show)
	return c
}

// receiptFlags choose receipts.
type receiptFlags struct{ before, key, lease, provider, what string }

// receipts asks for so many receipts, a page after the other. next is before when
// the others are; empty at the end.
func receipts(c *cobra.Command, api adminClient, which receiptFlags, n int) (rs []admin.Receipt, next string, err error) {
	if n < 1 {
		return nil, "", usageError("limit: want 1 or more")
	}
	q := url.Values{}
	for name, value := range map[string]string{
		"before": which.before, "key": which.key, "lease": which.lease, "provider": which.provider, "what": which.what,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return rows[admin.Receipt](c, api, "receipts", "before", q, n)
}

// rows asks for so many rows of a list of the running square's, a page after the
// other; goesOn is what the list calls the place where it goes on.
func rows[T any](c *cobra.Command, api adminClient, list, goesOn string, q url.Values, n int) (all []T, next string, err error) {
	for {
		q.Set("limit", strconv.Itoa(min(n-len(all), 1000)))
		var page struct {
			Data []T    `json:"data"`
			Next string `json:"next"`
		}
		if err := api.call(c.Context(), "GET", list+"?"+q.Encode(), nil, &page); err != nil {
			return nil, "", err
		}
		all = append(all, page.Data...)
		if next = page.Next; next == "" || len(all) >= n {
			return all, next, nil
		}
		q.Set(goesOn, next)
	}
}

func completeReceipts(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := readConfig(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	api, err := openAdmin(cfg)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	rs, _, _ := receipts(c, api, receiptFlags{}, 50)
	var ids []string
	for _, r := range rs {
		ids = append(ids, r.ID.Short()+"\t"+visible(r.Subject)+" "+clock(r.Receipt.Time))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// findReceipt fetches the one receipt that an id or its beginning names, with
// its evidence.
func findReceipt(c *cobra.Command, api adminClient, prefix string) (admin.Receipt, error) {
	var r admin.Receipt
	err := api.call(c.Context(), "GET", "receipts/"+url.PathEscape(prefix), nil, &r)
	return r, err
}

// story is everything there is to tell of a request.
type story struct {
	Receipt admin.Receipt `json:"receipt"`
	Words   *source.Words `json:"words,omitempty"`
	Lease   *leaseView    `json:"lease,omitempty"`
	Ledger  string        `json:"ledger_note,omitempty"`
	Audit   string        `json:"audit"`
	Voucher string        `json:"voucher_covers"`
	Rates   []square.Rate `json:"rates,omitempty"`
}

func receiptStory(c *cobra.Command, cfg config, id string) error {
	api, err := openAdmin(cfg)
	if err != nil {
		return err
	}
	r, err := findReceipt(c, api, id)
	if err != nil {
		return err
	}
	s := story{Receipt: r, Audit: auditWords(r.Audited)}
	s.Voucher = fmt.Sprintf("%s on lane %d of the lease", money(r.Receipt.Cumulative, r.Denom), r.Receipt.Lane)
	if r.Evidence != nil {
		w, err := read(r.Trade, *r.Evidence)
		if err != nil {
			return fmt.Errorf("open the receipt's evidence: %w", err)
		}
		s.Words = &w
	}
	if l, err := ledgerLease(c, cfg, r.Receipt.Lease); err != nil {
		s.Ledger = err.Error()
	} else {
		s.Lease, s.Rates = &l, l.Rates
	}
	return show(c.OutOrStdout(), s, func(w io.Writer) { s.print(w) })
}

func (s story) print(w io.Writer) {
	r := s.Receipt
	row := rowPrinter(w)
	row("receipt", "%s", r.ID)
	row("time", "%s", clock(r.Receipt.Time))
	row("what", "%s  %s, by trade %s", named(r.Subject), r.Receipt.Subject, named(r.Trade))
	row("provider", "%s", r.Provider)
	if w := s.Words; w != nil {
		row("request", "%s, digest %s", named(w.Kind), r.Receipt.Request.Short())
		row("", "%s", quoted(w.Request))
		if w.How != "" {
			row("", "%s", visible(w.How))
		}
		row("result", "digest %s", r.Receipt.Result.Short())
		row("", "%s", quoted(w.Result))
		if w.Finish != "" {
			row("", "finished by %s", visible(w.Finish))
		}
	}
	row("metered", "%s", meteredText(r.Units))
	row("price", "%s", money(r.Receipt.Price, r.Denom))
	for i, rate := range s.Rates {
		row("", "%s %s at %s per million", unit(r.Receipt, i), named(rate.Unit), money(rate.PerMillion, r.Denom))
	}
	row("voucher", "covers %s (%s), receipt %d of that lane", s.Voucher, "cumulative", r.Receipt.Seq)
	if l := s.Lease; l != nil {
		row("lease", "%s  %s%s", l.ID, l.State, reasonWords(l.Reason))
		row("", "escrow %s, paid out so far %s, provider's bond %s", money(l.Escrow, r.Denom), money(l.Paid, r.Denom), money(l.Bond, r.Denom))
		for _, tx := range l.Txs {
			row("transaction", "%s  %s at height %d", tx.Hash, tx.Kind, tx.Height)
		}
	} else {
		row("lease", "%s  (%s)", r.Receipt.Lease, s.Ledger)
	}
	row("verified", "%s", s.Audit)
}

func auditWords(a string) string {
	switch a {
	case "":
		return "not drawn; torg audit re-executes it"
	case "equal", "ok":
		return "audit: re-executed here: equal"
	}
	if note, ok := strings.CutPrefix(a, "proven: "); ok {
		return "prove: " + note + "; this is what was proven"
	}
	return a
}

func reasonWords(r string) string {
	if r == "" {
		return ""
	}
	return " (" + strings.ReplaceAll(r, "_", " ") + ")"
}

func auditCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "audit RECEIPT", Short: "Re-execute an answer and say whether it is what the model says",
		Long: "Re-execute an answer, here, from the evidence of its receipt, and say equal or different.\n" +
			"Exit code 5 if it is different. With --file the evidence comes from a file (torg receipt show\n" +
			"-o json writes one), so anyone can check a receipt without running a square.",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeReceipts,
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (file != "") {
				return usageError("name a receipt, or a file with --file")
			}
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			var r admin.Receipt
			if file != "" {
				if r, err = readEvidence(file); err != nil {
					return err
				}
			} else {
				api, err := openAdmin(cfg)
				if err != nil {
					return err
				}
				if r, err = findReceipt(c, api, args[0]); err != nil {
					return err
				}
			}
			return audit(c, cfg, r)
		},
	}
	c.Flags().StringVar(&file, "file", "", "evidence in JSON instead of a receipt of the running square")
	return c
}

func readEvidence(file string) (admin.Receipt, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return admin.Receipt{}, fmt.Errorf("read the evidence: %w", err)
	}
	var s story
	if err := json.Unmarshal(b, &s); err != nil || s.Receipt.Evidence == nil {
		return admin.Receipt{}, usageError("%s is not what torg receipt show -o json writes", file)
	}
	return s.Receipt, nil
}

// auditResult is what an audit prints.
type auditResult struct {
	Receipt square.Hash    `json:"receipt"`
	Trade   string         `json:"trade"`
	Subject square.Hash    `json:"subject"`
	Verdict square.Verdict `json:"verdict"`
	Words   string         `json:"words"`
	Seconds float64        `json:"seconds"`
}

func audit(c *cobra.Command, cfg config, r admin.Receipt) error {
	if r.Evidence == nil {
		return &codedError{exitNotFound, errors.New("the receipt's request and answer are no longer kept, so there is nothing to re-execute")}
	}
	e := *r.Evidence
	if !e.Opens() {
		return &codedError{exitVerify, errors.New("request and answer are not the bytes that the provider signed for")}
	}
	rules := kit(r.Trade).Rules
	if rules == nil {
		return &codedError{exitVerify, fmt.Errorf("cannot tell: trade %q is not known here", r.Trade)}
	}
	start := time.Now()
	verdict, err := rules.Judge(trade.Case{Evidence: e, Lease: market.Lease{ID: e.Receipt.Lease, Order: square.Order{Spec: e.Receipt.Subject}}})
	res := auditResult{Receipt: r.ID, Trade: r.Trade, Subject: e.Receipt.Subject, Verdict: verdict, Seconds: time.Since(start).Seconds()}
	if err != nil {
		return &codedError{exitVerify, fmt.Errorf("cannot tell: %w", err)}
	}
	if chain, cerr := chainID(cfg); cerr == nil {
		if err := e.Receipt.Verify(square.LedgerDomain(chain), r.Provider, e.Sig); err != nil {
			return &codedError{exitVerify, err}
		}
	}
	res.Words = "equal: the work, done again here, gives exactly this"
	if verdict != square.VerdictOK {
		res.Words = "different: the work, done again here, does not give this"
	}
	if err := show(c.OutOrStdout(), res, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n%s re-executed in %.2f s, %s\n", res.Words, meteredText(r.Units), res.Seconds, res.Subject.Short())
	}); err != nil {
		return err
	}
	if verdict != square.VerdictOK {
		return &codedError{exitVerify, errors.New("the answer is not what its receipt claims")}
	}
	return nil
}

// Words for people.

// meteredText is what was metered: "12 prompt + 80 completion tokens".
func meteredText(units []trade.Metered) string {
	return visible(strings.ReplaceAll(ui.Metered(units), "\u00a0", " "))
}

func clock(ms int64) string { return time.UnixMilli(ms).Format("2006-01-02 15:04:05") }

func unit(r square.Receipt, i int) string {
	if i >= len(r.Units) {
		return "-"
	}
	return strconv.FormatUint(r.Units[i], 10)
}

func money(units uint64, denom string) string {
	if denom == "" {
		denom = square.Denom
	}
	return square.Amount{Units: units, Denom: denom}.String()
}

func shortAddress(a square.Address) string {
	s := a.String()
	return s[:10] + "…" + s[len(s)-4:]
}

// firstWord is what an audit found, without the note on it.
func firstWord(audited string) string {
	word, _, _ := strings.Cut(audited, ":")
	return word
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
