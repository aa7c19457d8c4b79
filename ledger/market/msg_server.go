package market

import (
	"context"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/space"
)

// msgServer answers the module's messages, one file each. The ante handler has
// checked that the message's signer signed the transaction.
type msgServer struct{ *Keeper }

var _ marketv1.MsgServer = msgServer{}

// charge takes the gas of n signature checks, before they are made.
func charge(ctx context.Context, n int) {
	sdk.UnwrapSDKContext(ctx).GasMeter().ConsumeGas(uint64(n)*keys.VerifyGas, "signatures")
}

// spent is what the message under way has cost its sender in fees so far, in utorg
// at the price of now, and more gas that is still to come.
func (k *Keeper) spent(ctx context.Context, more uint64) (uint64, error) {
	prices, err := k.Prices(ctx)
	if err != nil {
		return 0, err
	}
	return space.Cost(prices[space.Defend], sdk.UnwrapSDKContext(ctx).GasMeter().GasConsumed()+more), nil
}
