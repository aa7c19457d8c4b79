package buyer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/wire"
)

// Policy replicate: a request goes to two providers at once, of whom one at least
// has something at stake, and what they signed for is compared. The staked one, the
// lead, is whom the client hears. The other may be a newcomer with nothing: it is
// paid only after its answer was compared (desk.Lane.Bonded), so that its first lie
// earns nothing, and an honest one risks one answer.
//
// Where they differ somebody lies. If the model is here it is run, which says who,
// and who is found out is asked no more. Else the newcomer is not paid, and the
// staked one's receipt stays what the ledger can be asked about.

// pairTries bounds how many providers are tried for one place.
const pairTries = 4

// seated is a provider that has a lane for the request.
type seated struct {
	desk.Seat
	lane *desk.Lane
}

// errUnpaired says that nobody is there to compare with.
var errUnpaired = fmt.Errorf("policy %s asks two providers, of whom one has something at stake: %w", square.PolicyReplicate, desk.ErrNoProvider)

// pair has a request answered twice.
func (b *Buyer) pair(ctx context.Context, seats []desk.Seat, a Ask, job meter.Job, emit func(infer.Delta) error) (Answer, error) {
	var failed []error
	for range pairTries {
		two, err := b.two(ctx, seats, a, job)
		if err != nil {
			return Answer{}, together(append(failed, err))
		}
		out := &outlet{emit: emit}
		ans, err := b.both(ctx, two, a, job, out)
		if err == nil || out.begun || ctx.Err() != nil {
			return ans, err
		}
		failed = append(failed, err)
		seats = slices.DeleteFunc(slices.Clone(seats), func(s desk.Seat) bool { return s.Offer.Provider == two[0].Offer.Provider })
	}
	return Answer{}, together(failed)
}

// two takes a lane of each of two providers, the lead first.
func (b *Buyer) two(ctx context.Context, seats []desk.Seat, a Ask, job meter.Job) (two [2]seated, err error) {
	var have []seated
	var failed []error
	for _, s := range seats {
		if len(failed) >= pairTries {
			break
		}
		if len(have) == 1 && have[0].Offer.Provider == s.Offer.Provider {
			continue
		}
		lane, err := b.hold(ctx, s, a, job)
		switch {
		case err != nil:
			failed = append(failed, err)
			continue
		case len(have) == 1 && !have[0].lane.Bonded() && !lane.Bonded():
			lane.Release()
			failed = append(failed, errUnpaired)
			continue
		}
		have = append(have, seated{s, lane})
		if len(have) == 1 {
			if a.MaxCost > 0 { // what is left of the budget for the other
				a.MaxCost -= min(a.MaxCost, lane.Most())
				if a.MaxCost == 0 {
					failed = append(failed, fmt.Errorf("%w: it is asked twice, and nothing is left for the second", desk.ErrBudget))
					break
				}
			}
			continue
		}
		if !have[0].lane.Bonded() {
			slices.Reverse(have)
		}
		return [2]seated(have), nil
	}
	for _, s := range have {
		s.lane.Release()
	}
	if len(failed) == 0 {
		return two, errUnpaired
	}
	return two, together(failed)
}

// both asks the two, whose lanes it releases.
func (b *Buyer) both(ctx context.Context, two [2]seated, a Ask, job meter.Job, out *outlet) (Answer, error) {
	type outcome struct {
		ans Answer
		rec desk.Record
		err error
	}
	var lead, other outcome
	led, done := make(chan struct{}), make(chan struct{})
	octx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(done)
		defer two[1].lane.Release()
		agree := func(signed wire.Signed, res infer.Result) error {
			<-led
			if lead.err != nil {
				return desk.ErrUncompared
			}
			if same(lead.ans.Result, res) {
				return nil
			}
			return b.blame(ctx, two[1], a.Request, signed)
		}
		if two[1].lane.Bonded() {
			agree = nil // it was paid before it answered
		}
		other.ans, other.rec, other.err = b.work(octx, two[1].Seat, two[1].lane, a, job, &outlet{}, agree)
	}()
	lead.ans, lead.rec, lead.err = b.work(ctx, two[0].Seat, two[0].lane, a, job, out, nil)
	close(led)
	if lead.err != nil || out.err != nil {
		cancel() // nobody wants it any more
	}
	two[0].lane.Release()
	<-done
	if other.err == nil {
		lead.ans.Cost.Units += other.ans.Cost.Units
	}
	switch {
	case lead.err != nil:
		if other.err == nil {
			b.cfg.Desk.Doubt(other.rec)
		}
		return lead.ans, lead.err
	case other.err == nil && same(lead.ans.Result, other.ans.Result):
		lead.ans.Verified = square.PolicyReplicate
	case other.err == nil:
		b.cfg.Desk.Doubt(other.rec)
		fallthrough
	default:
		b.cfg.Desk.Doubt(lead.rec)
	}
	return lead.ans, nil
}

// same reports whether two answers are one. Of two that were cancelled the second
// may have come less far, not farther: nobody else saw its tail.
func same(lead, other infer.Result) bool {
	if slices.Equal(lead.Encode(), other.Encode()) {
		return true
	}
	n := len(other.Tokens)
	return lead.Kind == infer.Exact && other.Kind == infer.Exact && other.Finish == infer.FinishCancelled &&
		n <= len(lead.Tokens) && slices.Equal(lead.Tokens[:n], other.Tokens)
}

// blame is what is thought of an answer that is not the lead's: nothing, if the
// model is here and gives it; else that it is wrong, or that nobody can tell.
func (b *Buyer) blame(ctx context.Context, s seated, req infer.Request, signed wire.Signed) error {
	if !b.cfg.Trade.Audits(signed.Receipt.Subject) {
		return desk.ErrUncompared
	}
	v, _, err := b.cfg.Trade.Audit(context.WithoutCancel(ctx), desk.Record{Evidence: square.Evidence{
		Receipt: signed.Receipt, Sig: signed.Sig, Request: req.Encode(), Result: signed.Result,
	}})
	switch {
	case err != nil:
		return errors.Join(desk.ErrUncompared, err)
	case v == square.VerdictOK:
		return nil
	}
	return fmt.Errorf("its answer is not the model's, and %s has given another", s.Offer.Provider)
}
