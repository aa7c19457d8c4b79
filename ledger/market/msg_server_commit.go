package market

import (
	"context"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// Commit fixes a judge's vote without showing it, or the result of a replica.
func (s msgServer) Commit(ctx context.Context, m *marketv1.MsgCommit) (*marketv1.MsgCommitResponse, error) {
	var r squarev1.Reader
	by, id, ballot := r.Address("judge", m.Judge), r.Hash("lease", m.Lease), r.Hash("ballot", m.Ballot)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	return &marketv1.MsgCommitResponse{}, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		return machine.Commit(st, now, by, id, ballot)
	})
}
