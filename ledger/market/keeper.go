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
	"bytes"
	"context"
	"encoding/base64"
	"fmt"

	"cosmossdk.io/collections"
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
	// EventType is the type of every event; its attribute EventWhole is a
	// marketv1.Event in base64.
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
	forget   collections.KeySet[timed] // used, by until
	totals   collections.Map[string, marketv1.Total]
	evidence collections.Map[collections.Pair[[]byte, []byte], squarev1.Evidence] // lease, hash
	asked    collections.Map[[]byte, marketv1.Question]                           // by lease
	pruned   collections.Item[marketv1.Pruned]
	cards    collections.Map[[]byte, marketv1.Card]               // by SHA-256
	lapse    collections.KeySet[timed]                            // cards, by until
	draws    collections.KeySet[timed]                            // height, lease that waits for judges
	judges   collections.KeySet[collections.Pair[string, []byte]] // who has enlisted, by trade and denom

	ticked collections.Item[int64]         // when the last block was, in nanoseconds
	lag    collections.Item[int64]         // of the clock, in nanoseconds
	prices collections.Map[uint32, uint64] // of gas, by lane of a block
	mixes  collections.Map[int64, []byte]  // the beacon, by height
}

// timed is a list in the order of a time: when what it lists is due.
type timed = collections.Pair[int64, []byte]

// party is a lease's place among those of its buyer or its provider: after those opened
// before it, so that new ones come to lie beside each other in the tree.
type party = collections.Triple[[]byte, int64, []byte] // address, opened, lease

type leaseIndexes struct {
	Deadline index[timed, marketv1.Lease]
	Buyer    index[party, marketv1.Lease]
	Provider index[party, marketv1.Lease]
	Disputed index[[]byte, marketv1.Lease] // what judges look for
}

func (i leaseIndexes) IndexesList() []collections.Index[[]byte, marketv1.Lease] {
	return []collections.Index[[]byte, marketv1.Lease]{together[marketv1.Lease]{i.Deadline, i.Buyer, i.Provider, i.Disputed}}
}

type offerIndexes struct {
	Trade  index[collections.Pair[string, []byte], marketv1.Offer]
	Expiry index[timed, marketv1.Offer] // those of which nothing is leased
}

func (i offerIndexes) IndexesList() []collections.Index[[]byte, marketv1.Offer] {
	return []collections.Index[[]byte, marketv1.Offer]{together[marketv1.Offer]{i.Trade, i.Expiry}}
}

type stakeIndexes struct {
	Until index[timed, bondv1.Stake] // those of which something is unbonding
}

func (i stakeIndexes) IndexesList() []collections.Index[[]byte, bondv1.Stake] {
	return []collections.Index[[]byte, bondv1.Stake]{together[bondv1.Stake]{i.Until}}
}

// NewKeeper opens the market's store. pots names the module that owns an
// account, for the audit of the supply.
func NewKeeper(cdc codec.BinaryCodec, service store.KVStoreService, bank Bank, authority string, trades []trade.Rules, pots func(sdk.AccAddress) string) (*Keeper, error) {
	sb := collections.NewSchemaBuilder(service)
	id := collections.BytesKey
	byTime, byParty := collections.PairKeyCodec(collections.Int64Key, id), collections.TripleKeyCodec(id, collections.Int64Key, id)
	prefix := func(n int) collections.Prefix { return collections.NewPrefix(n) }
	k := &Keeper{
		bank: bank, authority: authority, trades: map[string]trade.Rules{}, pots: pots,
		params: collections.NewItem(sb, prefix(0), "params", codec.CollValue[marketv1.Params](cdc)),
		leases: collections.NewIndexedMap(sb, prefix(1), "leases", id, codec.CollValue[marketv1.Lease](cdc), leaseIndexes{
			Deadline: index[timed, marketv1.Lease]{
				keys: collections.NewKeySet(sb, prefix(2), "leases_by_deadline", byTime),
				key:  func(pk []byte, l *marketv1.Lease) timed { return collections.Join(l.Deadline, pk) },
				same: func(a, b *marketv1.Lease) bool { return a.Deadline == b.Deadline },
			},
			Buyer: index[party, marketv1.Lease]{
				keys: collections.NewKeySet(sb, prefix(3), "leases_by_buyer", byParty),
				key: func(pk []byte, l *marketv1.Lease) party {
					return collections.Join3([]byte(l.Order.Buyer), l.Opened, pk)
				},
				same: func(a, b *marketv1.Lease) bool {
					return a.Opened == b.Opened && bytes.Equal(a.Order.Buyer, b.Order.Buyer)
				},
			},
			Provider: index[party, marketv1.Lease]{
				keys: collections.NewKeySet(sb, prefix(4), "leases_by_provider", byParty),
				key:  func(pk []byte, l *marketv1.Lease) party { return collections.Join3([]byte(l.Provider), l.Opened, pk) },
				same: func(a, b *marketv1.Lease) bool { return a.Opened == b.Opened && bytes.Equal(a.Provider, b.Provider) },
				has:  func(l *marketv1.Lease) bool { return len(l.Provider) > 0 },
			},
			Disputed: index[[]byte, marketv1.Lease]{
				keys: collections.NewKeySet(sb, prefix(5), "leases_disputed", id),
				key:  func(pk []byte, _ *marketv1.Lease) []byte { return pk },
				same: func(_, _ *marketv1.Lease) bool { return true },
				has:  func(l *marketv1.Lease) bool { return l.State == string(pure.Disputed) },
			},
		}),
		offers: collections.NewIndexedMap(sb, prefix(6), "offers", id, codec.CollValue[marketv1.Offer](cdc), offerIndexes{
			Trade: index[collections.Pair[string, []byte], marketv1.Offer]{
				keys: collections.NewKeySet(sb, prefix(7), "offers_by_trade", collections.PairKeyCodec(collections.StringKey, id)),
				key: func(pk []byte, o *marketv1.Offer) collections.Pair[string, []byte] {
					return collections.Join(o.Offer.Trade, pk)
				},
				same: func(a, b *marketv1.Offer) bool { return a.Offer.Trade == b.Offer.Trade },
			},
			Expiry: index[timed, marketv1.Offer]{
				keys: collections.NewKeySet(sb, prefix(20), "offers_by_expiry", byTime),
				key:  func(pk []byte, o *marketv1.Offer) timed { return collections.Join(o.Offer.Expiry, pk) },
				same: func(a, b *marketv1.Offer) bool { return a.Offer.Expiry == b.Offer.Expiry },
				has:  func(o *marketv1.Offer) bool { return o.InUse == 0 },
			},
		}),
		stakes: collections.NewIndexedMap(sb, prefix(8), "stakes", id, codec.CollValue[bondv1.Stake](cdc), stakeIndexes{
			Until: index[timed, bondv1.Stake]{
				keys: collections.NewKeySet(sb, prefix(9), "stakes_by_until", byTime),
				key:  func(pk []byte, s *bondv1.Stake) timed { return collections.Join(s.Until, pk) },
				same: func(a, b *bondv1.Stake) bool { return a.Until == b.Until },
				has:  func(s *bondv1.Stake) bool { return s.Until > 0 },
			},
		}),
		used:     collections.NewMap(sb, prefix(10), "used", id, collections.Int64Value),
		forget:   collections.NewKeySet(sb, prefix(11), "used_until", byTime),
		totals:   collections.NewMap(sb, prefix(12), "totals", collections.StringKey, codec.CollValue[marketv1.Total](cdc)),
		evidence: collections.NewMap(sb, prefix(13), "evidence", collections.PairKeyCodec(id, id), codec.CollValue[squarev1.Evidence](cdc)),
		asked:    collections.NewMap(sb, prefix(14), "questions", id, codec.CollValue[marketv1.Question](cdc)),
		pruned:   collections.NewItem(sb, prefix(15), "pruned", codec.CollValue[marketv1.Pruned](cdc)),
		cards:    collections.NewMap(sb, prefix(16), "cards", id, codec.CollValue[marketv1.Card](cdc)),
		lapse:    collections.NewKeySet(sb, prefix(17), "cards_until", byTime),
		draws:    collections.NewKeySet(sb, prefix(18), "draws", byTime),
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

// report tells of events: whole, as packed as what an attribute may hold allows, with
// what a person looks for in words beside it.
func (k *Keeper) report(ctx context.Context, events []pure.Event) error {
	em := sdk.UnwrapSDKContext(ctx).EventManager()
	for _, e := range events {
		m := marketv1.FromEvent(e)
		whole, err := m.Marshal()
		if err != nil {
			return err
		}
		em.EmitEvent(sdk.NewEvent(EventType,
			sdk.NewAttribute("kind", string(e.Kind)),
			sdk.NewAttribute("lease", squarev1.Hex(e.Lease)),
			sdk.NewAttribute(EventWhole, base64.StdEncoding.EncodeToString(whole))))
	}
	return nil
}

func ledgerDomain(ctx context.Context) square.Domain {
	return square.LedgerDomain(sdk.UnwrapSDKContext(ctx).ChainID())
}

func channelDomain(ctx context.Context) square.Domain {
	return square.ChannelDomain(sdk.UnwrapSDKContext(ctx).ChainID())
}
