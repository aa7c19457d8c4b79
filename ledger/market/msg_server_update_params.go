package market

import (
	"context"
	"fmt"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
)

// UpdateParams replaces the parameters. Only governance may.
func (s msgServer) UpdateParams(ctx context.Context, m *marketv1.MsgUpdateParams) (*marketv1.MsgUpdateParamsResponse, error) {
	if m.Authority != s.authority {
		return nil, marketv1.Code(fmt.Errorf("params: %w: only %s may change them", pure.ErrParty, s.authority))
	}
	if err := CheckParams(m.Params); err != nil {
		return nil, marketv1.Code(err)
	}
	return &marketv1.MsgUpdateParamsResponse{}, s.params.Set(ctx, m.Params)
}

// CheckParams refuses parameters under which the market would not hold.
func CheckParams(p marketv1.Params) error {
	if len(p.Judges) > 100 {
		return fmt.Errorf("params: %d judges: at most 100", len(p.Judges))
	}
	var r squarev1.Reader
	seen := map[string]bool{}
	for _, j := range p.Judges {
		if r.Address("params: judge", j).String() != j || seen[j] {
			return fmt.Errorf("params: judge %q: want each once, as torg1…", j)
		}
		seen[j] = true
	}
	if r.Err != nil {
		return r.Err
	}
	return p.Market().Check()
}
