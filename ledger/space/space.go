// Package space says who has which part of a block, and what it costs. All of it
// is consensus: a proposal that breaks a rule of it is refused, whoever made it.
//
// A block's space is gas. Bytes are counted in it too, at [GasPerByte], so that
// whoever has gas left in a block has bytes left. Transactions go in lanes by
// their messages; each lane has a share of the block and a price of its own,
// which every transaction pays for all the gas that it wants. The price rises
// when a block has more of the lane than the target and falls when it has less,
// much as EIP-1559 has it. What the price comes to is burned; what is offered
// beyond it is the validators'.
package space

import (
	"fmt"
	"math/bits"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/square"
)

const (
	// GasPerByte is how much gas a transaction wants at least for each of its
	// bytes: a block that is full of bytes is full of gas before.
	GasPerByte = 50
	// MaxTxGas is the most that any transaction may want: a judgement of half a
	// block, or the check of a proof of about a megabyte.
	MaxTxGas = 60_000_000
	// MaxTxBytes is what that leaves for its bytes.
	MaxTxBytes = MaxTxGas / GasPerByte

	// BlockGas and BlockBytes are a block's. All the gas there is makes two million
	// bytes of transactions; the rest is left for header, commit and evidence.
	BlockGas   = 100_000_000
	BlockBytes = 2 << 20
)

// Lane is the part of a block that a transaction goes in. It follows from the
// messages alone, so all validators agree on it; of several messages the last
// lane counts.
type Lane int

// The lanes, in the order that they have in a block.
const (
	Defend Lane = iota // keeps money that a deadline would take
	Market             // begins or ends business
	Other
	Lanes
)

func (l Lane) String() string { return [Lanes]string{"defend", "market", "other"}[l] }

// Shares of a block. Defend comes first and may take nearly all; what it must
// leave goes to Market first, and what that must leave is for Other.
var (
	laneGas = [Lanes]uint64{85_000_000, 60_000_000, 50_000_000} // of a lane
	upToGas = [Lanes]uint64{85_000_000, 95_000_000, BlockGas}   // of a lane and those before it
	txGas   = [Lanes]uint64{MaxTxGas, 20_000_000, 5_000_000}    // of a transaction
)

// need is the lane of a message and the most gas that it can use for good.
func need(m sdk.Msg) (Lane, uint64) {
	switch m := m.(type) {
	case *marketv1.MsgRedeem:
		return Defend, 500_000 + 60_000*uint64(len(m.Claims))
	case *channelv1.MsgClaim:
		return Defend, 400_000 + 120_000*uint64(len(m.Claims))
	case *marketv1.MsgStart, *marketv1.MsgClaim, *marketv1.MsgWithhold, *marketv1.MsgCommit:
		return Defend, 1_000_000
	case *marketv1.MsgVote:
		return Defend, 8_000_000 // the last one frees and pays all judges
	case *marketv1.MsgAnswer, *marketv1.MsgUnseal, *marketv1.MsgChallenge, *marketv1.MsgProve:
		return Defend, MaxTxGas
	case *marketv1.MsgOpenLease, *marketv1.MsgPlaceOrder, *marketv1.MsgMatch, *marketv1.MsgClose, *marketv1.MsgReclaim,
		*marketv1.MsgAbandon, *marketv1.MsgCancel, *marketv1.MsgTopUp, *marketv1.MsgExtend, *marketv1.MsgAccept, *marketv1.MsgPoke,
		*channelv1.MsgDeposit, *channelv1.MsgWithdraw, *channelv1.MsgFinish, *channelv1.MsgRefund:
		return Market, 3_000_000
	case *marketv1.MsgPublishCard:
		return Market, 10_000_000 // 64 KiB, carried and stored
	}
	return Other, txGas[Other]
}

// Place is the lane of messages in one transaction, and the most gas that it may
// want there.
func Place(msgs ...sdk.Msg) (Lane, uint64) {
	lane, most := Defend, uint64(0)
	for _, m := range msgs {
		l, gas := need(m)
		lane, most = max(lane, l), most+gas
	}
	return lane, min(most, txGas[lane])
}

// Fits checks what a transaction of so many bytes wants, and tells its lane.
func Fits(tx sdk.Tx, bytes int) (Lane, sdk.FeeTx, error) {
	f, ok := tx.(sdk.FeeTx)
	if !ok {
		return 0, nil, sdkerrors.ErrTxDecode.Wrap("it has no fee")
	}
	lane, most := Place(tx.GetMsgs()...)
	switch gas := f.GetGas(); {
	case gas > most:
		return lane, f, sdkerrors.ErrInvalidGasLimit.Wrapf("%d wanted; such messages may want %d", gas, most)
	case gas < GasPerByte*uint64(bytes):
		return lane, f, sdkerrors.ErrInvalidGasLimit.Wrapf("%d wanted; %d bytes take %d of a block", gas, bytes, GasPerByte*bytes)
	}
	return lane, f, nil
}

// Room is what transactions have taken of a block so far.
type Room [Lanes]uint64

// Take adds a transaction, if there is room for it.
func (r *Room) Take(l Lane, gas uint64) bool {
	if r[l]+gas > laneGas[l] {
		return false
	}
	sum := gas
	for i := range r {
		if sum += r[i]; Lane(i) >= l && sum > upToGas[i] {
			return false
		}
	}
	r[l] += gas
	return true
}

// Left tells whether a block that took so much had room for any transaction of
// Defend that waited: a pure function of the block's bytes, so every node says
// the same. One is left out for want of room only if those before it took more
// than the lane's share less its own gas, and MaxTxGas is the most that can be.
func (r Room) Left() bool { return r[Defend]+MaxTxGas <= laneGas[Defend] }

func (r Room) String() string {
	return fmt.Sprintf("defend %d, market %d, other %d", r[Defend], r[Market], r[Other])
}

// Prices of gas are utorg for so much of it.
const (
	PerGas = 1_000_000
	// MostPrice is one for each: enough to make a flood dear, and little enough
	// that nobody is shut out for long when it ends.
	MostPrice = PerGas
)

var (
	// LeastPrices is what gas costs while a lane is little used. To answer for
	// one's money is cheaper than to make business.
	LeastPrices = [Lanes]uint64{1_000, 10_000, 10_000}
	// The target of Defend is below what stops the clock, so whoever stops it
	// pays more with each block.
	targetGas = [Lanes]uint64{20_000_000, 30_000_000, 20_000_000}
)

// Moved is the price of a lane after a block that had so much of it. It rises by
// an eighth at most, so that twice the price of today is enough for five blocks,
// and falls half as fast, so that every other block filled makes it rise.
func Moved(l Lane, price, used uint64) uint64 {
	target := targetGas[l]
	if used > target {
		return min(MostPrice, price+max(1, price*min(used-target, target)/target/8))
	}
	return max(LeastPrices[l], price-price*(target-used)/target/16)
}

// Cost is what gas costs at a price, rounded up.
func Cost(price, gas uint64) uint64 {
	hi, lo := bits.Mul64(price, gas)
	lo, carry := bits.Add64(lo, PerGas-1, 0)
	if hi += carry; hi >= PerGas {
		return square.MaxUnits
	}
	q, _ := bits.Div64(hi, lo, PerGas)
	return min(q, square.MaxUnits)
}

// ballotGas is about what a judge's commitment and a vote that may be the one that
// decides want, at twice the price, as who defends money offers it.
const ballotGas = 2 * 2_200_000

// BallotCost is by how much a judge's two transactions cost more at a price of Defend
// than at the least.
func BallotCost(price uint64) uint64 {
	return Cost(price-min(price, LeastPrices[Defend]), ballotGas)
}

// Bid is the price that a transaction offers.
func Bid(f sdk.FeeTx) uint64 {
	units := f.GetFee().AmountOf(square.Denom)
	if !units.IsUint64() || units.Uint64() > square.MaxUnits {
		return 0 // nobody has it
	}
	hi, lo := bits.Mul64(units.Uint64(), PerGas)
	gas := max(1, f.GetGas())
	if hi >= gas {
		return square.MaxUnits
	}
	q, _ := bits.Div64(hi, lo, gas)
	return min(q, square.MaxUnits)
}
