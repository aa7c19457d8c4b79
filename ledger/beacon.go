package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"

	sdk "github.com/cosmos/cosmos-sdk/types"
)

// The beacon is randomness that nobody chooses. The first entry of each block is
// not a transaction but a proof of its proposer's verifiable random function
// (ECVRF-EDWARDS25519-SHA512-ELL2, RFC 9381) over the ledger's name, the height
// and the beacon so far:
//
//	beaconMark | proof, 80 bytes
//	alpha   = "torg/beacon/v1/" | chain id | 0 | height, 8 bytes big-endian | mix of height-1
//	mix(h)  = sha256(mix of h-1 | output of the proof)
//
// The output is unique: one key gives one for each alpha, and the round is not in
// it, so a proposer has nothing to try. The mark cannot begin a transaction, and
// no block is accepted without a true proof of its own proposer at its head.
//
// How far it can be bent: a proposer that dislikes its output can only give up
// its turn, and the next proposer's is as random to it unless that is its own as
// well. With a share p of the proposals, a draw of chance w is won with
// w / (1 - p(1-w)): for 1 % and a quarter of the proposals 1.33 %, for a third
// 1.49 %. A draw of chance q is escaped but in q(1-p) / (1-pq), 3.8 % for 5 % at a
// quarter: so no single block's beacon should decide alone whether somebody is
// looked at. A single validator, as of torg up, knows all of its future.
//
// The key is the validator's consensus key. That is sound while the node holds it
// itself; a signer elsewhere signs votes and does not prove, and with one a second
// key would have to be registered, some hundred blocks before it counts, or keys
// could be chosen for their outputs. For the same reason a changed consensus key
// bends the draw of the first blocks after it, for whoever proposes the three
// blocks around the change.
var beaconMark = []byte("\xfftorg/beacon/v1\x00")

// proofSize is the length of a proof.
const proofSize = 80

// beaconSize is what the beacon takes of a block's bytes, as CometBFT counts.
var beaconSize = int64(len(beaconMark) + proofSize + 4)

// IsBeacon tells whether an entry of a block is the beacon's and no transaction.
func IsBeacon(entry []byte) bool { return bytes.HasPrefix(entry, beaconMark) }

// alpha is what the proposer of a block proves over.
func (a *App) alpha(ctx sdk.Context, height int64) ([]byte, error) {
	before, err := a.Market.Before(ctx, height)
	if err != nil {
		return nil, err
	}
	b := append([]byte("torg/beacon/v1/"), ctx.ChainID()...)
	b = binary.BigEndian.AppendUint64(append(b, 0), uint64(height))
	return append(b, before...), nil
}

// prove is the entry that this node puts first into a block of its own.
func (a *App) prove(ctx sdk.Context, height int64) ([]byte, error) {
	if len(a.validator) != ed25519.PrivateKeySize {
		return nil, errors.New("the beacon needs the validator's key, and this node has none")
	}
	alpha, err := a.alpha(ctx, height)
	if err != nil {
		return nil, err
	}
	return append(bytes.Clone(beaconMark), ecvrf.Prove(a.validator, alpha)...), nil
}

// checkBeacon looks at the first entry of a proposal.
func (a *App) checkBeacon(ctx sdk.Context, req *abci.RequestProcessProposal) error {
	if len(req.Txs) == 0 || !IsBeacon(req.Txs[0]) || len(req.Txs[0]) != len(beaconMark)+proofSize {
		return errors.New("the proposal does not begin with a proof for the beacon")
	}
	key, err := a.Staking.GetPubKeyByConsAddr(ctx, req.ProposerAddress)
	if err != nil {
		return fmt.Errorf("proposer %X: %w", req.ProposerAddress, err)
	}
	alpha, err := a.alpha(ctx, req.Height)
	if err != nil {
		return err
	}
	pub := key.GetEd25519()
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("proposer %X has no ed25519 key", req.ProposerAddress)
	}
	if ok, _ := ecvrf.Verify(pub, req.Txs[0][len(beaconMark):], alpha); !ok {
		return errors.New("the proof for the beacon does not hold")
	}
	return nil
}

// mix takes the proof of a decided block into the state. A block that never was
// a proposal, in a test, brings nothing.
func (a *App) mix(ctx sdk.Context, height int64, txs [][]byte) error {
	var beta []byte
	if len(txs) > 0 && IsBeacon(txs[0]) {
		var err error
		if beta, err = ecvrf.ProofToHash(txs[0][len(beaconMark):]); err != nil {
			return fmt.Errorf("beacon: %w", err)
		}
	}
	return a.Market.Mix(ctx, height, beta)
}
