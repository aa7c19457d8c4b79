package ledger

import (
	"bytes"
	"fmt"

	sdkmath "cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/square"
)

var feeCollector = authtypes.NewModuleAddress(authtypes.FeeCollectorName)

// charge takes a transaction's fee, and tells which part of it is the price.
// Whatever the money is moved by costs the sender no gas, and is told of by the
// one event that feeTaken writes.
func (a *App) charge(ctx sdk.Context, tx sdk.Tx) (price uint64, err error) {
	lane, f, err := space.Fits(tx, len(ctx.TxBytes()))
	if err != nil {
		return 0, err
	}
	ctx = ctx.WithGasMeter(infinite()).WithEventManager(sdk.NewEventManager())
	prices, err := a.Market.Prices(ctx)
	if err != nil {
		return 0, err
	}
	fee := f.GetFee()
	price = space.Cost(prices[lane], f.GetGas())
	if len(fee) != 1 || fee[0].Denom != square.Denom || fee[0].Amount.LT(sdkmath.NewIntFromUint64(price)) {
		return 0, sdkerrors.ErrInsufficientFee.Wrapf("%q offered; %d gas cost %d%s now", fee, f.GetGas(), price, square.Denom)
	}
	payer := sdk.AccAddress(f.FeePayer())
	if granter := f.FeeGranter(); granter != nil && !bytes.Equal(granter, payer) {
		if err := a.feegrant.UseGrantedFees(ctx, granter, payer, fee, tx.GetMsgs()); err != nil {
			return 0, fmt.Errorf("%s pays no fees for %s: %w", sdk.AccAddress(granter), payer, err)
		}
		payer = granter
	}
	// Its account is there from the genesis on, and need not be looked up.
	if err := a.Bank.SendCoins(ctx, payer, feeCollector, fee); err != nil {
		return 0, sdkerrors.ErrInsufficientFunds.Wrapf("fee: %s", err)
	}
	return price, nil
}

// feeDecorator holds every transaction to its limits and takes its fee, in all
// modes alike: a price that only the mempool asks is none for who makes blocks.
//
// In a block that is decided the fees have been taken already, all together and
// before the first message ran (see App.collect): else an account could be
// emptied by a block's first transaction, and the rest would fill the block for
// nothing.
type feeDecorator struct{ app *App }

func (d feeDecorator) AnteHandle(ctx sdk.Context, tx sdk.Tx, simulate bool, next sdk.AnteHandler) (sdk.Context, error) {
	if simulate || ctx.BlockHeight() == 0 {
		return next(ctx, tx, simulate)
	}
	if ctx.ExecMode() == sdk.ExecModeFinalize {
		if err := d.app.collected[ctx.TxIndex()]; err != nil {
			return ctx, err
		}
	} else if _, err := d.app.charge(ctx, tx); err != nil {
		return ctx, err
	}
	if f, ok := tx.(sdk.FeeTx); ok {
		feeTaken(ctx, f)
	}
	return next(ctx, tx, simulate)
}

// feeTaken tells of a fee as every Cosmos ledger does.
func feeTaken(ctx sdk.Context, f sdk.FeeTx) {
	payer := sdk.AccAddress(f.FeePayer())
	if g := f.FeeGranter(); g != nil {
		payer = g
	}
	ctx.EventManager().EmitEvent(sdk.NewEvent(sdk.EventTypeTx,
		sdk.NewAttribute(sdk.AttributeKeyFee, f.GetFee().String()),
		sdk.NewAttribute(sdk.AttributeKeyFeePayer, payer.String())))
}

// collect takes the fees of a decided block's transactions, burns what the
// prices come to and moves the prices. It tells what room they took. A proposal
// is accepted only if each of its fees can be taken after those before it, so
// none fails here.
func (a *App) collect(ctx sdk.Context, txs [][]byte) (space.Room, error) {
	var used space.Room
	var burn uint64
	a.collected = make([]error, len(txs))
	for i, raw := range txs {
		tx, err := a.decode(raw)
		if err != nil {
			a.collected[i] = err
			continue
		}
		lane, f, err := space.Fits(tx, len(raw))
		if err == nil {
			used[lane] += f.GetGas()
			var price uint64
			try, keep := ctx.WithTxBytes(raw).CacheContext()
			if price, err = a.charge(try, tx); err == nil {
				keep()
				burn += price
			}
		}
		a.collected[i] = err
	}
	if err := a.Market.Burn(ctx, authtypes.FeeCollectorName, burn); err != nil {
		return used, fmt.Errorf("burn fees: %w", err)
	}
	prices, err := a.Market.Prices(ctx)
	if err != nil {
		return used, err
	}
	for l := range prices {
		prices[l] = space.Moved(space.Lane(l), prices[l], used[l])
	}
	return used, a.Market.SetPrices(ctx, prices)
}
