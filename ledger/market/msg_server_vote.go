package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Vote shows what a judge has committed to.
func (s msgServer) Vote(ctx context.Context, m *marketv1.MsgVote) (*marketv1.MsgVoteResponse, error) {
	var r squarev1.Reader
	by, id, secret := r.Address("judge", m.Judge), r.Hash("lease", m.Lease), r.Hash("secret", m.Secret)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgVoteResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Vote(st, now, by, id, square.Verdict(m.Verdict), secret)
	})
}
