// Package channel is standalone payment channels: x402's batch-settlement on
// this ledger, for payments that are no lease. A channel's id is the digest of
// its terms, so it needs no opening; what was claimed from it is kept for ever,
// so that no voucher pays twice.
package channel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cosmossdk.io/collections"
	"cosmossdk.io/collections/indexes"
	"cosmossdk.io/core/store"
	"cosmossdk.io/math"

	"github.com/cosmos/cosmos-sdk/codec"
	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

const (
	// Name is the module's name, its store's and that of the account that
	// holds the deposits.
	Name = "channel"
	// EventType is the type of every event.
	EventType = "torg.channel"
	// MinDelay and MaxDelay bound a channel's withdraw delay, as x402 does.
	MinDelay = 15 * 60
	MaxDelay = 30 * 24 * 3600
	// MaxAuthorization is how long ahead a signed deposit may expire.
	MaxAuthorization = 24 * 3600
	// Cap bounds how many spent nonces the end of a block forgets.
	Cap = 200
)

// Bank is what channels need of the bank.
type Bank interface {
	SendCoinsFromAccountToModule(ctx context.Context, from sdk.AccAddress, to string, amt sdk.Coins) error
	SendCoinsFromModuleToAccount(ctx context.Context, from string, to sdk.AccAddress, amt sdk.Coins) error
}

// Clock tells the time that deadlines run on, and by how much it is behind the
// block's.
type Clock interface {
	Clock(ctx context.Context) (now, lag int64, err error)
}

// Keeper is the channels' state.
type Keeper struct {
	bank     Bank
	clock    Clock
	channels *collections.IndexedMap[[]byte, channelv1.Channel, parties]
	used     collections.Map[[]byte, int64]
	forget   collections.KeySet[collections.Pair[int64, []byte]]
}

type parties struct {
	Payer    *indexes.Multi[[]byte, []byte, channelv1.Channel]
	Receiver *indexes.Multi[[]byte, []byte, channelv1.Channel]
}

func (p parties) IndexesList() []collections.Index[[]byte, channelv1.Channel] {
	return []collections.Index[[]byte, channelv1.Channel]{p.Payer, p.Receiver}
}

// NewKeeper opens the channels' store.
func NewKeeper(cdc codec.BinaryCodec, service store.KVStoreService, bank Bank, clock Clock) (*Keeper, error) {
	sb := collections.NewSchemaBuilder(service)
	id := collections.BytesKey
	k := &Keeper{
		bank: bank, clock: clock,
		channels: collections.NewIndexedMap(sb, collections.NewPrefix(0), "channels", id, codec.CollValue[channelv1.Channel](cdc), parties{
			Payer:    indexes.NewMulti(sb, collections.NewPrefix(1), "by_payer", id, id, func(_ []byte, c channelv1.Channel) ([]byte, error) { return c.Config.Payer, nil }),
			Receiver: indexes.NewMulti(sb, collections.NewPrefix(2), "by_receiver", id, id, func(_ []byte, c channelv1.Channel) ([]byte, error) { return c.Config.Receiver, nil }),
		}),
		used:   collections.NewMap(sb, collections.NewPrefix(3), "used", id, collections.Int64Value),
		forget: collections.NewKeySet(sb, collections.NewPrefix(4), "used_until", collections.PairKeyCodec(collections.Int64Key, id)),
	}
	_, err := sb.Build()
	return k, err
}

// open reads a channel that exists.
func (k *Keeper) open(ctx context.Context, id square.Hash) (channelv1.Channel, square.ChannelConfig, error) {
	c, err := k.channels.Get(ctx, id[:])
	if errors.Is(err, collections.ErrNotFound) {
		return c, square.ChannelConfig{}, fmt.Errorf("channel %s: %w", id.Short(), market.ErrNotFound)
	}
	if err != nil {
		return c, square.ChannelConfig{}, err
	}
	config, err := c.Config.Square()
	return c, config, err
}

// left is what a channel holds.
func left(c channelv1.Channel) uint64 { return c.Deposit - c.Claimed }

func (k *Keeper) take(ctx context.Context, from square.Address, a square.Amount) error {
	err := k.bank.SendCoinsFromAccountToModule(ctx, from[:], Name, coins(a))
	if errors.Is(err, sdkerrors.ErrInsufficientFunds) {
		return fmt.Errorf("%w: %s", market.ErrFunds, err.Error())
	}
	return err
}

func (k *Keeper) pay(ctx context.Context, to square.Address, a square.Amount) error {
	if a.Units == 0 {
		return nil
	}
	return k.bank.SendCoinsFromModuleToAccount(ctx, Name, to[:], coins(a))
}

func coins(a square.Amount) sdk.Coins {
	return sdk.Coins{{Denom: a.Denom, Amount: math.NewIntFromUint64(a.Units)}}
}

// happened reports what a message did to a channel.
func happened(ctx context.Context, kind string, id square.Hash, c channelv1.Channel, moved uint64) error {
	whole, err := json.Marshal(c)
	if err != nil {
		return err
	}
	config, err := c.Config.Square()
	if err != nil {
		return err
	}
	sdk.UnwrapSDKContext(ctx).EventManager().EmitEvent(sdk.NewEvent(EventType,
		sdk.NewAttribute("kind", kind), sdk.NewAttribute("channel", id.String()),
		sdk.NewAttribute("payer", config.Payer.String()), sdk.NewAttribute("receiver", config.Receiver.String()),
		sdk.NewAttribute("moved", fmt.Sprint(moved)), sdk.NewAttribute("state", string(whole))))
	return nil
}

func charge(ctx context.Context) {
	sdk.UnwrapSDKContext(ctx).GasMeter().ConsumeGas(keys.VerifyGas, "signature")
}

// wall is the time of the block, which what people sign is held against.
func wall(ctx context.Context) int64 { return sdk.UnwrapSDKContext(ctx).BlockTime().Unix() }

// EndBlock forgets nonces whose authorizations have expired.
func (k *Keeper) EndBlock(ctx context.Context) error {
	it, err := k.forget.Iterate(ctx, collections.NewPrefixUntilPairRange[int64, []byte](wall(ctx)))
	if err != nil {
		return err
	}
	var old []collections.Pair[int64, []byte]
	for ; it.Valid() && len(old) < Cap; it.Next() {
		p, err := it.Key()
		if err != nil {
			it.Close()
			return err
		}
		old = append(old, p)
	}
	it.Close()
	for _, p := range old {
		if err := errors.Join(k.forget.Remove(ctx, p), k.used.Remove(ctx, p.K2())); err != nil {
			return err
		}
	}
	return nil
}
