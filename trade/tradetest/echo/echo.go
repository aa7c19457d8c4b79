// Package echo is the smallest whole trade: the example to copy from, and what the
// suite of package tradetest is tried on. A job is bytes; its result is the same with
// a to z in capitals, which every machine does alike; a byte is the unit. Wrong work is
// proven by doing it again.
//
// A trade is three types, [Rules] for the ledger, [Worker] for a seller.Seller and
// [Buyer] for a desk.Desk, and the [Kit] that a program lists, with what else the trade
// brings along.
package echo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// Spec is the digest of what is sold: there is one good.
var Spec = square.Hash(sha256.Sum256([]byte("torg echo, version 1: bytes a to z in capitals")))

// Rules is what the ledger knows of echo.
type Rules struct{}

// Name is "echo".
func (Rules) Name() string { return "echo" }

// Units is one, the byte of a job.
func (Rules) Units() []string { return []string{"bytes"} }

// CheckOffer takes offers of Spec.
func (r Rules) CheckOffer(o square.Offer) error {
	if o.Spec != Spec {
		return fmt.Errorf("offer: spec is %s: echo sells %s", o.Spec.Short(), Spec.Short())
	}
	return trade.CheckRates(r, o.Rates)
}

// CheckOrder takes orders for results of Spec.
func (r Rules) CheckOrder(o square.Order) error {
	switch {
	case o.Spec != Spec:
		return fmt.Errorf("order: spec is %s: echo sells %s", o.Spec.Short(), Spec.Short())
	case o.Mode != square.ModeResult:
		return fmt.Errorf("order: mode is %q: echo sells results, order %q", o.Mode, square.ModeResult)
	}
	return trade.CheckRates(r, o.MaxRates)
}

// Fits is by spec.
func (Rules) Fits(f square.Offer, o square.Order) error { return trade.SameSpec(f, o) }

// gasPerByte is what a byte of request and result costs the ledger, in gas.
const gasPerByte = 10

// JudgeGas is by size: ErrNotJudgeable of what is too much for a block.
func (Rules) JudgeGas(c trade.Case) (uint64, error) {
	gas := gasPerByte * uint64(len(c.Request)+len(c.Result))
	if gas > trade.MaxJudgeGas {
		return 0, fmt.Errorf("%w: %d gas, at most %d", trade.ErrNotJudgeable, gas, trade.MaxJudgeGas)
	}
	return gas, nil
}

// Judge does the work again.
func (Rules) Judge(c trade.Case) (square.Verdict, error) {
	if !bytes.Equal(c.Result, upper(c.Request)) || check(c.Receipt, c.Request, c.Result) != nil {
		return square.VerdictFraud, nil
	}
	return square.VerdictOK, nil
}

// upper is the work. bytes.ToUpper would change with the tables of Unicode.
func upper(job []byte) []byte {
	out := bytes.Clone(job)
	for i, c := range out {
		if 'a' <= c && c <= 'z' {
			out[i] = c - 'a' + 'A'
		}
	}
	return out
}

// check sees what needs no work.
func check(r square.Receipt, job, result []byte) error {
	switch n := uint64(len(job)); {
	case uint64(len(result)) != n:
		return fmt.Errorf("the result has %d bytes, the job %d", len(result), n)
	case !slices.Equal(r.Units, []uint64{n}):
		return fmt.Errorf("units are %v, the job has %d bytes", r.Units, n)
	}
	return nil
}

// Worker sells echo.
type Worker struct {
	Rules
	Rate   uint64 // of a million bytes, in base units
	Places int    // jobs at once
}

var _ seller.Worker = Worker{}

// Goods is one.
func (w Worker) Goods(context.Context) ([]seller.Good, error) {
	return []seller.Good{{
		Spec: Spec, Subject: "capitals", Denom: square.Denom, Capacity: w.Places,
		Rates: []square.Rate{{Unit: "bytes", PerMillion: w.Rate}},
	}}, nil
}

// Serve has no paths: results have the neutral ones.
func (Worker) Serve(*seller.Seller) http.Handler { return http.NotFoundHandler() }

// Takes is the size of a job whose result can be handed over.
func (Worker) Takes(_ square.Order, job []byte) ([]uint64, error) {
	if len(job) > seller.MaxResult {
		return nil, fmt.Errorf("it has %d bytes: at most %d", len(job), seller.MaxResult)
	}
	return []uint64{uint64(len(job))}, nil
}

// Work writes in capitals.
func (Worker) Work(_ context.Context, _ market.Lease, job []byte) (seller.Delivery, error) {
	return seller.Delivery{Result: upper(job), Units: []uint64{uint64(len(job))}}, nil
}

// Buyer is echo as a desk buys it.
type Buyer struct{ Rules }

var (
	_ desk.Trade   = Buyer{}
	_ desk.Auditor = Buyer{}
)

// Rates are the offer's.
func (Buyer) Rates(o square.Offer, p square.Policy) []square.Rate { return trade.RatesFor(o.Rates, p) }

// Place is nothing: a result has no lanes.
func (Buyer) Place([]square.Rate) uint64 { return 0 }

// Verify compares sizes.
func (Buyer) Verify(_ square.Offer, job []byte, s wire.Signed) error {
	return check(s.Receipt, job, s.Result)
}

// Audits is always: everybody can do this work.
func (Buyer) Audits(square.Hash) bool { return true }

// Audit does the work again, as the ledger would.
func (b Buyer) Audit(_ context.Context, r desk.Record) (square.Verdict, uint64, error) {
	v, err := b.Judge(trade.Case{Evidence: r.Evidence})
	return v, 0, err
}
