package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/judge"
)

// openJudge sits for the provider's stake wherever it is drawn. Only stakes that
// have enlisted are; seats from before stay when one no longer is.
func (s *openSquare) openJudge(context.Context) (err error) {
	s.judge, err = judge.Open(judge.Config{
		Key: s.keyring.provider.Address(), ChainID: s.ledger.ChainID(), Trades: trades(), Dir: s.cfg.path("judge"),
		Ledger: judgeView{chainView{s.client, s.client.Account(s.keyring.provider)}, s.history}, Log: s.log.With("part", "judge"),
	})
	return err
}

// judgeStatus is who judges on this square, and what the provider's stake does of it.
type judgeStatus struct {
	// Alone says that this machine is the ledger's only validator. The ledger
	// re-executes by itself what fits into a block, so that its owner then decides.
	Alone   bool           `json:"alone"`
	Address square.Address `json:"address"`
	Stakes  []judgeStake   `json:"stakes"`
	Seat    square.Amount  `json:"seat_bond"` // what a silent judge loses, a seat
	Fee     square.Amount  `json:"judge_fee"` // what a seat that voted for the verdict earns
	judge.Report
}

// judgeStake is the provider's stake in a trade, as a judge's.
type judgeStake struct {
	Trade string        `json:"trade"`
	On    bool          `json:"on"` // it is drawn
	Total square.Amount `json:"total"`
	Free  square.Amount `json:"free"` // not locked: what seats can be bonded with
}

// aloneWords are for people.
const aloneWords = "the ledger itself re-executes what is challenged, and this machine is its only validator: the only judge here is its owner"

// alone says whether this machine is the ledger's only validator.
func (s *openSquare) alone(ctx context.Context) (bool, error) {
	v, err := s.ledger.RPC().Validators(ctx, nil, nil, nil)
	if err != nil {
		return false, fmt.Errorf("count the validators: %w", err)
	}
	return v.Total == 1, nil
}

func (s *openSquare) judging(ctx context.Context) (st judgeStatus, err error) {
	st = judgeStatus{Address: s.keyring.provider.Address(), Stakes: []judgeStake{}, Report: s.judge.Report()}
	if st.Alone, err = s.alone(ctx); err != nil {
		return st, err
	}
	p, err := s.client.Params(ctx)
	if err != nil {
		return st, err
	}
	st.Seat, st.Fee = square.Utorg(p.SeatBond), square.Utorg(p.JudgeFee)
	stakes, _, err := s.client.Stakes(ctx, st.Address, "", client.Page{})
	for _, k := range stakes {
		st.Stakes = append(st.Stakes, judgeStake{k.Trade, k.Judge, square.Amount{Units: k.Total, Denom: k.Denom}, square.Amount{Units: k.Free(), Denom: k.Denom}})
	}
	return st, err
}

func judgeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "judge", Short: "Sit as a judge: risk stake, do disputed work again, vote, be paid for it",
		Long: "Disputes that the ledger cannot decide by itself are decided by judges, drawn from a trade's stakers by their\n" +
			"stake. While the square is up, the provider's stake does what its seats ask by itself.\n" +
			"A seat whose judge is silent loses its bond: judge only while this machine is up, and with the models\n" +
			"that the trade's disputes are about.",
	}
	c.AddCommand(
		judgeEnlist("on", "Let the provider's stake in a trade (infer, if none is named) be drawn", true),
		judgeEnlist("off", "No longer let it be drawn; seats that it has are kept", false),
		&cobra.Command{
			Use: "status", Short: "What is at risk, seats now, what was voted, earned and lost", Args: cobra.NoArgs,
			RunE: asking(func(c *cobra.Command, api adminClient, _ []string) error { return showJudge(c, api) }),
		},
	)
	return c
}

func showJudge(c *cobra.Command, api adminClient) error {
	var st status
	if err := api.call(c.Context(), "GET", "status", nil, &st); err != nil {
		return err
	}
	return show(c.OutOrStdout(), st.Judge, st.Judge.print)
}

func judgeEnlist(use, short string, on bool) *cobra.Command {
	return &cobra.Command{
		Use: use + " [TRADE]", Short: short, Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
			for _, r := range trades() {
				names = append(names, r.Name())
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: configured(func(c *cobra.Command, cfg config, args []string) error {
			name, known := infer.Name, false
			if len(args) > 0 {
				name = args[0]
			}
			for _, r := range trades() {
				known = known || r.Name() == name
			}
			if !known && on {
				return usageError("trade %q: this machine has no rules to judge it by", name)
			}
			api, err := openAdmin(cfg)
			if err != nil {
				return err
			}
			k, err := openKeyring(cfg, false)
			if err != nil {
				return err
			}
			cl, _, err := dial(c, cfg)
			if err != nil {
				return err
			}
			defer cl.Close()
			_, err = cl.Account(k.provider).Enlist(c.Context(), name, square.Denom, on)
			switch {
			case errors.Is(err, market.ErrState): // it is so already
			case errors.Is(err, client.ErrInsufficient):
				return &codedError{exitPayment, err}
			case err != nil:
				return err
			}
			return showJudge(c, api)
		}),
	}
}

func (st judgeStatus) print(w io.Writer) {
	row := rowPrinter(w)
	row("judge", "%s", st.Address)
	if st.Alone {
		row("alone", "%s", aloneWords)
	}
	for _, k := range st.Stakes {
		if k.On {
			row("on", "%s: %s staked, of which %s may be risked, %s a seat", k.Trade, k.Total, k.Free, st.Seat)
		} else {
			row("off", "%s: %s staked; torg judge on %s lets it be drawn, for %s a seat that finds what the others find", k.Trade, k.Total, k.Trade, st.Fee)
		}
	}
	row("past", "%d disputes judged: %s earned, %s lost", st.Sat, square.Utorg(st.Earned), square.Utorg(st.Lost))
	seat := func(name string, s judge.Seat) {
		words := string(s.Stage)
		if s.Verdict != "" {
			words += ", finds " + string(s.Verdict)
		}
		if s.Ended {
			words += fmt.Sprintf("; it ended %s: %s earned, %s lost", s.Outcome, square.Utorg(s.Earned), square.Utorg(s.Lost))
		} else {
			words += fmt.Sprintf("; %s at risk", square.Utorg(s.Bond))
			if s.Until > 0 {
				words += " until " + time.Unix(s.Until, 0).Format(time.TimeOnly)
			}
		}
		if s.Why != "" {
			words += " (" + s.Why + ")"
		}
		row(name, "%s  %s, draw %d, %d places: %s", s.Lease.Short(), s.Trade, s.Draw, s.Places, words)
	}
	for _, s := range st.Seats {
		seat("sits", s)
	}
	for _, s := range st.Past {
		seat("sat", s)
	}
}
