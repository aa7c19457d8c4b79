package seller

import (
	"context"
	"fmt"
	"time"

	"github.com/torg-network/torg/market"
)

// answerChallenge proves what the ledger asks about one of our leases, beside
// the other chores. Until it is on the ledger it is tried again.
func (s *Seller) answerChallenge(l *lease, m market.Lease) {
	if m.State != market.Disputed || m.Dispute == nil || m.Dispute.Way != market.ByProof || l.answering.Load() || time.Now().Before(l.answerAt) {
		return
	}
	l.answerAt = time.Now().Add(5 * s.Tick)
	done, err := s.Begin()
	if err != nil {
		return
	}
	l.answering.Store(true)
	go func() {
		defer done()
		defer l.answering.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		log := s.Log.With("lease", l.id.Short(), "evidence", m.Dispute.Evidence.Short(), "part", m.Dispute.Part)
		if err := s.proveToLedger(ctx, m); err != nil {
			log.Error("a challenge is not answered yet; without an answer the bond is lost", "until", m.Deadline, "err", err)
			return
		}
		log.Info("answered a challenge with a proof")
	}()
}

func (s *Seller) proveToLedger(ctx context.Context, m market.Lease) error {
	p, ok := s.trades[m.Order.Trade].(Prover)
	if !ok {
		return fmt.Errorf("trade %s proves nothing here", m.Order.Trade)
	}
	e, err := s.Ledger.Evidence(ctx, m.ID, m.Dispute.Evidence)
	if err != nil {
		return err
	}
	proof, err := p.Prove(ctx, e, m.Dispute.Part)
	if err != nil {
		return err
	}
	return s.Ledger.Prove(ctx, m.ID, m.Dispute.Evidence, proof)
}
