package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Match gives an open lease to the provider of a quote. Anyone may carry the
// quote to the ledger.
func (s msgServer) Match(ctx context.Context, m *marketv1.MsgMatch) (*marketv1.MsgMatchResponse, error) {
	q, digest, err := quote(ctx, m.Quote, m.QuoteSignature)
	if err != nil {
		return nil, marketv1.Code(err)
	}
	return &marketv1.MsgMatchResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Match(st, now, q, digest)
	})
}

// quote reads a quote and checks its provider's signature.
func quote(ctx context.Context, m squarev1.Quote, sig []byte) (square.Quote, square.Hash, error) {
	q, err := m.Square()
	if err != nil {
		return q, square.Hash{}, err
	}
	var r squarev1.Reader
	signature := r.Signature("quote", sig)
	if r.Err != nil {
		return q, square.Hash{}, r.Err
	}
	charge(ctx, 1)
	d := ledgerDomain(ctx)
	if err := q.Verify(d, signature); err != nil {
		return q, square.Hash{}, err
	}
	return q, q.Digest(d), nil
}
