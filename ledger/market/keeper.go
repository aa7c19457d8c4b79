// Package market is the lease machine on consensus: a module that decodes a
// message, checks the signatures in it, runs package market over the module's
// store, and reports what happened as events. Bonds are stakes of the same
// machine, so package bond is a second face of this keeper.
//
// The store keeps protobuf under hashes. Money is in one module account for
// everything that leases and stakes hold, and in one for the treasury; how much
// of it belongs to which lease or stake is in their own records. The end of a
// block pokes or prunes at most [Cap] leases whose deadline has come.
package market

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"cosmossdk.io/collections"
	"cosmossdk.io/collections/indexes"
	"cosmossdk.io/core/store"

	"github.com/cosmos/cosmos-sdk/codec"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

const (
	// Name is the module's name, its store's and that of the account that
	// holds what leases and stakes hold.
	Name = "market"
	// Treasury is the account of the treasury.
	Treasury = "treasury"
	// Cap bounds how many entries of each queue the end of a block takes.
	Cap = 200
	// EventType is the type of every event; its attribute EventWhole is the
	// market.Event as JSON.
	EventType  = "torg.market"
	EventWhole = "event"
)

// Bank is what the market needs of the bank.
type Bank interface {
	SendCoinsFromAccountToModule(ctx context.Context, from sdk.AccAddress, to string, amt sdk.Coins) error
	SendCoinsFromModuleToAccount(ctx context.Context, from string, to sdk.AccAddress, amt sdk.Coins) error
	SendCoinsFromModuleToModule(ctx context.Context, from, to string, amt sdk.Coins) error
	BurnCoins(ctx context.Context, module string, amt sdk.Coins) error
	MintCoins(ctx context.Context, module string, amt sdk.Coins) error
	GetSupply(ctx context.Context, denom string) sdk.Coin
	GetBalance(ctx context.Context, who sdk.AccAddress, denom string) sdk.Coin
	IterateAllBalances(ctx context.Context, f func(sdk.AccAddress, sdk.Coin) bool)
}

// Keeper is the market's state.
type Keeper struct {
	bank      Bank
	authority string
	trades    map[string]trade.Rules
	pots      func(sdk.AccAddress) string // which module an account is, if any
	kin       Kin

	schema   collections.Schema
	params   collections.Item[marketv1.Params]
	leases   *collections.IndexedMap[[]byte, marketv1.Lease, leaseIndexes]
	offers   *collections.IndexedMap[[]byte, marketv1.Offer, offerIndexes]
	stakes   *collections.IndexedMap[[]byte, bondv1.Stake, stakeIndexes]
	used     collections.Map[[]byte, int64]
	forget   collections.KeySet[collections.Pair[int64, []byte]] // used, by until
	totals   collections.Map[string, marketv1.Total]
	evidence collections.Map[collections.Pair[[]byte, []byte], squarev1.Evidence] // lease, hash
	asked    collections.Map[[]byte, marketv1.Question]                           // by lease
	pruned   collections.Item[marketv1.Pruned]
	cards    collections.Map[[]byte, marketv1.Card]               // by SHA-256
	lapse    collections.KeySet[collections.Pair[int64, []byte]]  // cards, by until
	draws    collections.KeySet[collections.Pair[int64, []byte]]  // height, lease that waits for judges
	judges   collections.KeySet[collections.Pair[string, []byte]] // who has enlisted, by trade and denom

	ticked collections.Item[int64]         // when the last block was, in nanoseconds
	lag    collections.Item[int64]         // of the clock, in nanoseconds
	prices collections.Map[uint32, uint64] // of gas, by lane of a block
	mixes  collections.Map[int64, []byte]  // the beacon, by height
}

type leaseIndexes struct {
	Deadline *indexes.Multi[int64, []byte, marketv1.Lease]
	Buyer    *indexes.Multi[string, []byte, marketv1.Lease]
	Provider *indexes.Multi[string, []byte, marketv1.Lease]
	State    *indexes.Multi[string, []byte, marketv1.Lease]
}

func (i leaseIndexes) IndexesList() []collections.Index[[]byte, marketv1.Lease] {
	return []collections.Index[[]byte, marketv1.Lease]{together[marketv1.Lease]{
		{i.Deadline, func(a, b *marketv1.Lease) bool { return a.Deadline == b.Deadline }},
		{i.Buyer, func(a, b *marketv1.Lease) bool { return a.Order.Buyer == b.Order.Buyer }},
		{i.Provider, func(a, b *marketv1.Lease) bool { return a.Provider == b.Provider }},
		{i.State, func(a, b *marketv1.Lease) bool { return a.State == b.State }},
	}}
}

type offerIndexes struct {
	Trade  *indexes.Multi[string, []byte, marketv1.Offer]
	Expiry *indexes.Multi[int64, []byte, marketv1.Offer] // never, while some of it is leased
}

// lapses is when an offer may be dropped.
func lapses(o marketv1.Offer) int64 {
	if o.InUse > 0 {
		return math.MaxInt64
	}
	return o.Offer.Expiry
}

func (i offerIndexes) IndexesList() []collections.Index[[]byte, marketv1.Offer] {
	return []collections.Index[[]byte, marketv1.Offer]{together[marketv1.Offer]{
		{i.Trade, func(a, b *marketv1.Offer) bool { return a.Offer.Trade == b.Offer.Trade }},
		{i.Expiry, func(a, b *marketv1.Offer) bool { return lapses(*a) == lapses(*b) }},
	}}
}

type stakeIndexes struct {
	Until *indexes.Multi[int64, []byte, bondv1.Stake] // 0: nothing is unbonding
}

func (i stakeIndexes) IndexesList() []collections.Index[[]byte, bondv1.Stake] {
	return []collections.Index[[]byte, bondv1.Stake]{together[bondv1.Stake]{
		{i.Until, func(a, b *bondv1.Stake) bool { return a.Until == b.Until }},
	}}
}

// NewKeeper opens the market's store. pots names the module that owns an
// account, for the audit of the supply.
func NewKeeper(cdc codec.BinaryCodec, service store.KVStoreService, bank Bank, authority string, trades []trade.Rules, pots func(sdk.AccAddress) string) (*Keeper, error) {
	sb := collections.NewSchemaBuilder(service)
	id := collections.BytesKey
	prefix := func(n int) collections.Prefix { return collections.NewPrefix(n) }
	k := &Keeper{
		bank: bank, authority: authority, trades: map[string]trade.Rules{}, pots: pots,
		params: collections.NewItem(sb, prefix(0), "params", codec.CollValue[marketv1.Params](cdc)),
		leases: collections.NewIndexedMap(sb, prefix(1), "leases", id, codec.CollValue[marketv1.Lease](cdc), leaseIndexes{
			Deadline: indexes.NewMulti(sb, prefix(2), "leases_by_deadline", collections.Int64Key, id, func(_ []byte, l marketv1.Lease) (int64, error) { return l.Deadline, nil }),
			Buyer:    indexes.NewMulti(sb, prefix(3), "leases_by_buyer", collections.StringKey, id, func(_ []byte, l marketv1.Lease) (string, error) { return l.Order.Buyer, nil }),
			Provider: indexes.NewMulti(sb, prefix(4), "leases_by_provider", collections.StringKey, id, func(_ []byte, l marketv1.Lease) (string, error) { return l.Provider, nil }),
			State:    indexes.NewMulti(sb, prefix(5), "leases_by_state", collections.StringKey, id, func(_ []byte, l marketv1.Lease) (string, error) { return l.State, nil }),
		}),
		offers: collections.NewIndexedMap(sb, prefix(6), "offers", id, codec.CollValue[marketv1.Offer](cdc), offerIndexes{
			Trade:  indexes.NewMulti(sb, prefix(7), "offers_by_trade", collections.StringKey, id, func(_ []byte, o marketv1.Offer) (string, error) { return o.Offer.Trade, nil }),
			Expiry: indexes.NewMulti(sb, prefix(20), "offers_by_expiry", collections.Int64Key, id, func(_ []byte, o marketv1.Offer) (int64, error) { return lapses(o), nil }),
		}),
		stakes: collections.NewIndexedMap(sb, prefix(8), "stakes", id, codec.CollValue[bondv1.Stake](cdc), stakeIndexes{
			Until: indexes.NewMulti(sb, prefix(9), "stakes_by_until", collections.Int64Key, id, func(_ []byte, s bondv1.Stake) (int64, error) { return s.Until, nil }),
		}),
		used:     collections.NewMap(sb, prefix(10), "used", id, collections.Int64Value),
		forget:   collections.NewKeySet(sb, prefix(11), "used_until", collections.PairKeyCodec(collections.Int64Key, id)),
		totals:   collections.NewMap(sb, prefix(12), "totals", collections.StringKey, codec.CollValue[marketv1.Total](cdc)),
		evidence: collections.NewMap(sb, prefix(13), "evidence", collections.PairKeyCodec(id, id), codec.CollValue[squarev1.Evidence](cdc)),
		asked:    collections.NewMap(sb, prefix(14), "questions", id, codec.CollValue[marketv1.Question](cdc)),
		pruned:   collections.NewItem(sb, prefix(15), "pruned", codec.CollValue[marketv1.Pruned](cdc)),
		cards:    collections.NewMap(sb, prefix(16), "cards", id, codec.CollValue[marketv1.Card](cdc)),
		lapse:    collections.NewKeySet(sb, prefix(17), "cards_until", collections.PairKeyCodec(collections.Int64Key, id)),
		draws:    collections.NewKeySet(sb, prefix(18), "draws", collections.PairKeyCodec(collections.Int64Key, id)),
		judges:   collections.NewKeySet(sb, prefix(19), "judges", collections.PairKeyCodec(collections.StringKey, id)),

		ticked: collections.NewItem(sb, prefix(32), "ticked", collections.Int64Value),
		lag:    collections.NewItem(sb, prefix(33), "lag", collections.Int64Value),
		prices: collections.NewMap(sb, prefix(34), "prices", collections.Uint32Key, collections.Uint64Value),
		mixes:  collections.NewMap(sb, prefix(35), "mixes", collections.Int64Key, collections.BytesValue),
	}
	for _, r := range trades {
		if _, twice := k.trades[r.Name()]; twice {
			return nil, fmt.Errorf("trade %s is given twice", r.Name())
		}
		k.trades[r.Name()] = r
	}
	var err error
	k.schema, err = sb.Build()
	return k, err
}

// rules are those of a trade the ledger knows.
func (k *Keeper) rules(name string) (trade.Rules, error) {
	r, ok := k.trades[name]
	if !ok {
		return nil, fmt.Errorf("trade %q: %w on this ledger", name, pure.ErrNotFound)
	}
	return r, nil
}

// Run carries out one operation of the lease machine at the clock's time and
// reports its events. An error has a code, and the transaction it fails undoes
// the rest.
func (k *Keeper) Run(ctx context.Context, op func(m pure.Machine, s pure.Store, now int64) ([]pure.Event, error)) error {
	m, err := k.machine(ctx)
	if err != nil {
		return err
	}
	now, _, err := k.Clock(ctx)
	if err != nil {
		return err
	}
	events, err := op(m, state{k, ctx}, now)
	if err != nil {
		return marketv1.Code(err)
	}
	if err := k.queue(ctx, events); err != nil {
		return err
	}
	return k.report(ctx, events)
}

// machine is the lease machine at this moment.
func (k *Keeper) machine(ctx context.Context) (pure.Machine, error) {
	p, err := k.params.Get(ctx)
	if err != nil {
		return pure.Machine{}, err
	}
	_, lag, err := k.Clock(ctx)
	if err != nil {
		return pure.Machine{}, err
	}
	numbers := p.Market()
	if numbers.BallotCost, err = k.ballotCost(ctx, numbers.SeatBond); err != nil {
		return pure.Machine{}, err
	}
	return pure.Machine{Params: numbers, Lag: lag, Fits: k.fits}, nil
}

func (k *Keeper) fits(f square.Offer, o square.Order) error {
	r, err := k.rules(o.Trade)
	if err != nil {
		return err
	}
	return r.Fits(f, o)
}

func (k *Keeper) report(ctx context.Context, events []pure.Event) error {
	em := sdk.UnwrapSDKContext(ctx).EventManager()
	for _, e := range events {
		whole, err := json.Marshal(e)
		if err != nil {
			return err
		}
		em.EmitEvent(sdk.NewEvent(EventType,
			sdk.NewAttribute("kind", string(e.Kind)),
			sdk.NewAttribute("lease", squarev1.Hex(e.Lease)),
			sdk.NewAttribute("trade", e.Trade),
			sdk.NewAttribute("buyer", squarev1.Text(e.Buyer)),
			sdk.NewAttribute("provider", squarev1.Text(e.Provider)),
			sdk.NewAttribute(EventWhole, string(whole))))
	}
	return nil
}

func ledgerDomain(ctx context.Context) square.Domain {
	return square.LedgerDomain(sdk.UnwrapSDKContext(ctx).ChainID())
}

func channelDomain(ctx context.Context) square.Domain {
	return square.ChannelDomain(sdk.UnwrapSDKContext(ctx).ChainID())
}
