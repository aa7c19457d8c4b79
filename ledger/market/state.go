package market

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"cosmossdk.io/collections"
	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/torg-network/torg/ledger/api/marketv1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// state is the keeper as the machine's store, within one transaction.
type state struct {
	*Keeper
	ctx context.Context
}

var _ pure.Store = state{}

// Store is the keeper as the machine's store in ctx.
func (k *Keeper) Store(ctx context.Context) pure.Store { return state{k, ctx} }

// missing says that nothing is stored in the machine's words.
func missing(err error) error {
	if errors.Is(err, collections.ErrNotFound) {
		return pure.ErrNotFound
	}
	return err
}

func (s state) Lease(id square.Hash) (pure.Lease, error) {
	m, err := s.leases.Get(s.ctx, id[:])
	if err != nil {
		return pure.Lease{}, missing(err)
	}
	return m.Market()
}

func (s state) SetLease(l pure.Lease) error {
	return s.leases.Set(s.ctx, l.ID[:], marketv1.FromLease(l))
}

// DropLease forgets a lease and all that hangs on it, but for its mark in the
// chain of what was pruned.
func (s state) DropLease(id square.Hash) error {
	l, err := s.leases.Get(s.ctx, id[:])
	if err != nil {
		return missing(err)
	}
	raw, err := l.Marshal()
	if err != nil {
		return err
	}
	p, err := s.pruned.Get(s.ctx)
	if err != nil && !errors.Is(err, collections.ErrNotFound) {
		return err
	}
	last := sha256.Sum256(raw)
	root := sha256.Sum256(append(append([]byte{}, p.Root...), last[:]...))
	p.Leases, p.Root = p.Leases+1, root[:]
	of := collections.NewPrefixedPairRange[[]byte, []byte](id[:])
	return errors.Join(
		s.pruned.Set(s.ctx, p),
		s.evidence.Clear(s.ctx, of),
		s.asked.Remove(s.ctx, id[:]),
		s.leases.Remove(s.ctx, id[:]))
}

func offerKey(k pure.OfferKey) []byte {
	return append(append(append([]byte{}, k.Provider[:]...), k.Spec[:]...), k.Trade...)
}

// readOfferKey reads what offerKey writes.
func readOfferKey(b []byte) (k pure.OfferKey, err error) {
	if len(b) < len(k.Provider)+len(k.Spec) {
		return k, fmt.Errorf("key of an offer: %d bytes", len(b))
	}
	n := copy(k.Provider[:], b)
	n += copy(k.Spec[:], b[n:])
	k.Trade = string(b[n:])
	return k, nil
}

func (s state) Offer(k pure.OfferKey) (pure.Offer, error) {
	m, err := s.offers.Get(s.ctx, offerKey(k))
	if err != nil {
		return pure.Offer{}, missing(err)
	}
	return m.Market()
}

func (s state) SetOffer(o pure.Offer) error {
	return s.offers.Set(s.ctx, offerKey(o.Key()), marketv1.FromOffer(o))
}

func (s state) DropOffer(k pure.OfferKey) error { return s.offers.Remove(s.ctx, offerKey(k)) }

func stakeKey(k pure.StakeKey) []byte {
	b := append([]byte{}, k.Provider[:]...)
	b = append(append(b, byte(len(k.Trade))), k.Trade...)
	return append(b, k.Denom...)
}

// readStakeKey reads what stakeKey writes.
func readStakeKey(b []byte) (k pure.StakeKey, err error) {
	n := len(k.Provider) + 1
	if len(b) < n || len(b) < n+int(b[n-1]) {
		return k, fmt.Errorf("key of a stake: %d bytes", len(b))
	}
	copy(k.Provider[:], b)
	denom := n + int(b[n-1])
	k.Trade, k.Denom = string(b[n:denom]), string(b[denom:])
	return k, nil
}

func (s state) Stake(k pure.StakeKey) (pure.Stake, error) {
	if len(k.Trade) > 32 {
		return pure.Stake{}, nil // no trade has such a name
	}
	m, err := s.stakes.Get(s.ctx, stakeKey(k))
	if errors.Is(err, collections.ErrNotFound) {
		return pure.Stake{}, nil
	}
	if err != nil {
		return pure.Stake{}, err
	}
	_, st, err := marketv1.Stake(m)
	return st, err
}

// panel is where the judges of a trade's leases in a denom are listed.
func panel(trade, denom string) string { return trade + "/" + denom }

func (s state) SetStake(k pure.StakeKey, st pure.Stake) error {
	bench := collections.Join(panel(k.Trade, k.Denom), k.Provider[:])
	had, err := s.judges.Has(s.ctx, bench)
	switch {
	case err != nil:
		return err
	case st.Judge && !had:
		err = s.judges.Set(s.ctx, bench)
	case !st.Judge && had:
		err = s.judges.Remove(s.ctx, bench)
	}
	if err != nil {
		return err
	}
	if st == (pure.Stake{}) {
		return s.stakes.Remove(s.ctx, stakeKey(k))
	}
	return s.stakes.Set(s.ctx, stakeKey(k), marketv1.FromStake(k, st))
}

func (s state) Used(h square.Hash) (bool, error) { return s.used.Has(s.ctx, h[:]) }

func (s state) Use(h square.Hash, until int64) error {
	return errors.Join(s.used.Set(s.ctx, h[:], until), s.forget.Set(s.ctx, collections.Join(until, h[:])))
}

// Move moves money between pots. Those of leases and stakes are one account, so
// that between two of them nothing moves.
func (s state) Move(from, to pure.Pot, a square.Amount) error {
	if a.Units == 0 || a.Units > square.MaxUnits {
		return fmt.Errorf("move: %d is out of range", a.Units)
	}
	coin := sdk.Coin{Denom: a.Denom, Amount: math.NewIntFromUint64(a.Units)}
	if err := coin.Validate(); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	coins := sdk.Coins{coin}
	if from.Kind == pure.PotMinted {
		if err := s.bank.MintCoins(s.ctx, Name, coins); err != nil {
			return err
		}
		if err := s.count(a.Denom, 0, a.Units); err != nil {
			return err
		}
		return s.bank.SendCoinsFromModuleToAccount(s.ctx, Name, to.Owner[:], coins)
	}
	switch to.Kind {
	case pure.PotBurned:
		if err := s.bank.BurnCoins(s.ctx, Name, coins); err != nil {
			return err
		}
		return s.count(a.Denom, a.Units, 0)
	case pure.PotTreasury:
		return s.bank.SendCoinsFromModuleToModule(s.ctx, Name, Treasury, coins)
	case pure.PotAccount:
		return s.bank.SendCoinsFromModuleToAccount(s.ctx, Name, to.Owner[:], coins)
	}
	if from.Kind != pure.PotAccount {
		return nil
	}
	err := s.bank.SendCoinsFromAccountToModule(s.ctx, from.Owner[:], Name, coins)
	if errors.Is(err, sdkerrors.ErrInsufficientFunds) {
		return fmt.Errorf("%w: %s", pure.ErrFunds, err.Error())
	}
	return err
}

// count keeps what was ever burned and minted.
func (s state) count(denom string, burned, minted uint64) error {
	t, err := s.totals.Get(s.ctx, denom)
	if err != nil && !errors.Is(err, collections.ErrNotFound) {
		return err
	}
	t.Denom = denom
	t.Burned += burned
	t.Minted += minted
	return s.totals.Set(s.ctx, denom, t)
}
