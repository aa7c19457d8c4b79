package ledger

import (
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	cmttypes "github.com/cometbft/cometbft/types"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/torg-network/torg/ledger/space"
)

// setProposals gives the application its mempool, and both sides of a proposal:
// how this node makes one, and which of others' it accepts.
func (a *App) setProposals() {
	a.pool = newPool(a.TxEncode, a.Market.AtStake)
	a.SetMempool(a.pool)
	a.SetCheckTxHandler(a.checkTx)
	a.SetPrepareProposal(a.prepare)
	a.SetProcessProposal(func(ctx sdk.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
		if err := a.process(ctx, req); err != nil {
			a.Logger().Info("a proposal is refused", "height", req.Height, "proposer", fmt.Sprintf("%X", req.ProposerAddress), "err", err)
			return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
		}
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
	})
}

// checkTx lets a transaction into the mempool, or leaves it there after a block.
// What the pool would not take is refused before its signature is looked at, and
// before its fee and nonce are spent in the state that checks are made on. What
// the pool dropped since is refused so that CometBFT drops it as well.
func (a *App) checkTx(run sdk.RunTx, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	var tx sdk.Tx
	var err error
	if req.Type == abci.CheckTxType_Recheck {
		if tx = a.pool.find(req.Tx); tx == nil {
			err = sdkerrors.ErrMempoolIsFull.Wrap("it made room for another")
		}
	} else if tx, err = a.TxDecode(req.Tx); err != nil {
		err = sdkerrors.ErrTxDecode.Wrap(err.Error())
	} else {
		err = a.pool.Admit(tx, req.Tx)
	}
	if err != nil {
		return sdkerrors.ResponseCheckTxWithEvents(err, 0, 0, nil, false), nil
	}
	gas, res, events, err := run(req.Tx, tx)
	if err != nil {
		return sdkerrors.ResponseCheckTxWithEvents(err, gas.GasWanted, gas.GasUsed, events, false), nil
	}
	return &abci.ResponseCheckTx{GasWanted: int64(gas.GasWanted), GasUsed: int64(gas.GasUsed), Log: res.Log, Data: res.Data, Events: res.Events}, nil
}

// prepare fills a block from the pool. Room is looked at before a signature is:
// what does not fit must cost nothing. One that fails now may not do so after
// this block, an account's second before its first, so it stays in the pool
// until a recheck refuses it.
func (a *App) prepare(ctx sdk.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	head, err := a.prove(ctx, req.Height)
	if err != nil {
		return nil, err
	}
	txs, left := [][]byte{head}, req.MaxTxBytes-beaconSize
	var used space.Room
	for _, e := range a.pool.sorted() {
		size := cmttypes.ComputeProtoSizeForTxs([]cmttypes.Tx{e.raw})
		if size > left {
			continue
		}
		with := used
		if !with.Take(e.lane, e.gas) {
			continue
		}
		if _, _, _, err := a.RunTx(sdk.ExecModePrepareProposal, e.raw, e.tx, -1, nil, nil); err != nil {
			continue
		}
		txs, used, left = append(txs, e.raw), with, left-size
	}
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// process says why a proposal is not to be accepted: because of its beacon, of
// anything in it that is no valid transaction after those before it, of the
// order of its lanes, or of the room that they take.
func (a *App) process(ctx sdk.Context, req *abci.RequestProcessProposal) error {
	if err := a.checkBeacon(ctx, req); err != nil {
		return err
	}
	var used space.Room
	last := space.Defend
	for i, raw := range req.Txs[1:] {
		tx, gas, err := a.ProcessProposalVerifyTx(raw)
		if err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
		lane, _ := space.Place(tx.GetMsgs()...)
		if lane < last {
			return fmt.Errorf("transaction %d: lane %s is over", i, lane)
		}
		last = lane
		if !used.Take(lane, gas) {
			return fmt.Errorf("transaction %d of %d gas: no room beside %s", i, gas, used)
		}
	}
	return nil
}

// beforeBlock is what comes before the first transaction of a decided block: the
// fees of all of them, the beacon, the clock, and then what modules do there.
func (a *App) beforeBlock(next sdk.PreBlocker) sdk.PreBlocker {
	return func(ctx sdk.Context, req *abci.RequestFinalizeBlock) (*sdk.ResponsePreBlock, error) {
		res, err := next(ctx, req)
		if err != nil {
			return res, err
		}
		used, err := a.collect(ctx, req.Txs)
		if err != nil {
			return nil, err
		}
		if err := a.Market.Tick(ctx, used.Left()); err != nil {
			return nil, fmt.Errorf("clock: %w", err)
		}
		if err := a.mix(ctx, req.Height, req.Txs); err != nil {
			return nil, err
		}
		a.pool.blocked(req.Height, req.Time)
		return res, nil
	}
}
