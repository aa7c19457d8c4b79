package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

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
	a.proposed = proposalMark(req.Height, req.Time, txs)
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// proposalMark names a proposal at a height: the state before it is that of the
// block before, and with the time and the transactions everything is said.
func proposalMark(height int64, at time.Time, txs [][]byte) (mark [sha256.Size]byte) {
	h := sha256.New()
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(height))
	binary.BigEndian.PutUint64(n[8:], uint64(at.UnixNano()))
	h.Write(n[:])
	for _, tx := range txs {
		binary.BigEndian.PutUint64(n[:], uint64(len(tx)))
		h.Write(n[:8])
		h.Write(tx)
	}
	h.Sum(mark[:0])
	return mark
}

// decode reads a transaction, or finds it in the pool, where it was read before.
// It is for consensus alone, which runs messages only when a block is decided and
// the pool has let go of it: nobody else may see what a message handler might do
// to its message.
func (a *App) decode(raw []byte) (sdk.Tx, error) {
	if tx := a.pool.find(raw); tx != nil {
		return tx, nil
	}
	return a.TxDecode(raw)
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
	// CometBFT asks a proposer for its own proposal too, and prepare has just run
	// these very transactions one after the other on this very state.
	own := proposalMark(req.Height, req.Time, req.Txs) == a.proposed
	for i, raw := range req.Txs[1:] {
		tx, err := a.decode(raw)
		if err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
		if !own {
			if _, _, _, err := a.RunTx(sdk.ExecModeProcessProposal, raw, tx, -1, nil, nil); err != nil {
				return fmt.Errorf("transaction %d: %w", i, err)
			}
		}
		f, ok := tx.(sdk.FeeTx)
		if !ok {
			return fmt.Errorf("transaction %d: it has no fee", i)
		}
		gas := f.GetGas()
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
