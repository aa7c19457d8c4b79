package market

import (
	"context"
	"fmt"
	"slices"

	"cosmossdk.io/collections"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// Verdict is one judge's vote on the evidence that a dispute is about. When
// more than half of the judges agree, that is the verdict.
func (s msgServer) Verdict(ctx context.Context, m *marketv1.MsgVerdict) (*marketv1.MsgVerdictResponse, error) {
	var r squarev1.Reader
	by, id, hash := r.Address("judge", m.Judge), r.Hash("lease", m.Lease), r.Hash("evidence", m.Evidence)
	if r.Err != nil {
		return nil, marketv1.Code(r.Err)
	}
	p, err := s.params.Get(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Judges, by.String()) {
		return nil, marketv1.Code(fmt.Errorf("verdict: %w: %s is no judge", pure.ErrParty, by))
	}
	v := square.Verdict(m.Verdict)
	if v != square.VerdictOK && v != square.VerdictFraud {
		return nil, marketv1.Code(fmt.Errorf("verdict %q: want ok or fraud", m.Verdict))
	}
	resp := &marketv1.MsgVerdictResponse{}
	return resp, s.Run(ctx, func(machine pure.Machine, st pure.Store, now int64) ([]pure.Event, error) {
		l, err := st.Lease(id)
		if err != nil {
			return nil, fmt.Errorf("lease %s: %w", id.Short(), err)
		}
		switch {
		case l.State != pure.Disputed:
			return nil, fmt.Errorf("verdict: %w: lease %s is %s", pure.ErrState, id.Short(), l.State)
		case now >= l.Deadline:
			return nil, fmt.Errorf("verdict: %w: this draw of judges had until %d", pure.ErrLate, l.Deadline)
		case l.Dispute.Evidence != hash:
			return nil, fmt.Errorf("verdict: the dispute is about evidence %s", l.Dispute.Evidence.Short())
		}
		vote := marketv1.Vote{Lease: id.String(), Judge: by.String(), Draw: l.Dispute.Draw, Verdict: m.Verdict}
		if err := s.votes.Set(ctx, collections.Join(id[:], by[:]), vote); err != nil {
			return nil, err
		}
		n := 0
		err = s.votes.Walk(ctx, collections.NewPrefixedPairRange[[]byte, []byte](id[:]), func(_ collections.Pair[[]byte, []byte], o marketv1.Vote) (bool, error) {
			if o.Draw == vote.Draw && o.Verdict == vote.Verdict && slices.Contains(p.Judges, o.Judge) {
				n++
			}
			return false, nil
		})
		if err != nil || n <= len(p.Judges)/2 {
			return nil, err
		}
		resp.Decided = true
		if err := s.votes.Clear(ctx, collections.NewPrefixedPairRange[[]byte, []byte](id[:])); err != nil {
			return nil, err
		}
		return machine.Judge(st, now, id, v)
	})
}
