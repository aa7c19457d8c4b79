package ledger

import (
	"bytes"
	"context"
	"errors"

	"cosmossdk.io/collections"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authzkeeper "github.com/cosmos/cosmos-sdk/x/authz/keeper"
	distrkeeper "github.com/cosmos/cosmos-sdk/x/distribution/keeper"
	feegrantkeeper "github.com/cosmos/cosmos-sdk/x/feegrant/keeper"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/market"
	"github.com/torg-network/torg/square"
)

// kinship is what the ledger knows about who belongs together, by what a judge has
// itself signed: it pays a party's fees, lets a party send its ballots, or has what its
// stake earns paid to a party.
func kinship(fees feegrantkeeper.Keeper, grants authzkeeper.Keeper, distr distrkeeper.Keeper) market.Kin {
	ballots := []string{sdk.MsgTypeURL(&marketv1.MsgCommit{}), sdk.MsgTypeURL(&marketv1.MsgVote{})}
	return func(ctx context.Context, judge, party square.Address) (bool, error) {
		if judge == party || party.IsZero() {
			return false, nil // the market knows
		}
		switch _, err := fees.GetAllowance(ctx, judge[:], party[:]); {
		case err == nil:
			return true, nil
		case !errors.Is(err, collections.ErrNotFound):
			return false, err
		}
		for _, m := range ballots {
			if may, _ := grants.GetAuthorization(ctx, party[:], judge[:], m); may != nil {
				return true, nil
			}
		}
		to, err := distr.GetDelegatorWithdrawAddr(ctx, judge[:])
		return err == nil && bytes.Equal(to, party[:]), err
	}
}
