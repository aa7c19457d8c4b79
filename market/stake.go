package market

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Bond moves the provider's own money into its stake in a trade.
func (m Machine) Bond(s Store, now int64, provider square.Address, trade string, a square.Amount) ([]Event, error) {
	key := StakeKey{provider, trade, a.Denom}
	switch {
	case a.Units == 0:
		return nil, fmt.Errorf("bond: the amount is 0")
	case trade == "" || len(trade) > 32:
		return nil, fmt.Errorf("bond: trade must be 1 to 32 bytes")
	}
	st, err := s.Stake(key)
	if err != nil {
		return nil, fmt.Errorf("bond: stake: %w", err)
	}
	if a.Units > square.MaxUnits-st.Total {
		return nil, fmt.Errorf("bond: the stake would be larger than any supply")
	}
	st.Total += a.Units
	return stakeEvent(s, now, EvBonded, key, st, Transfer{Account(provider), StakePot(provider, trade), a})
}

// Unbond starts the unbonding of stake that no open lease has locked. Money
// already on its way out waits again: there is one clock for a stake.
func (m Machine) Unbond(s Store, now int64, provider square.Address, trade string, a square.Amount) ([]Event, error) {
	key := StakeKey{provider, trade, a.Denom}
	st, err := s.Stake(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("unbond: stake: %w", err)
	case a.Units == 0:
		return nil, fmt.Errorf("unbond: the amount is 0")
	case a.Units > st.Free():
		return nil, fmt.Errorf("unbond: %w: %d asked, %d free (%d are locked by open leases, %d unbonding already)", ErrFunds, a.Units, st.Free(), st.Locked, st.Unbonding)
	}
	st.Unbonding += a.Units
	st.Until = now + int64(m.Unbonding)
	return stakeEvent(s, now, EvUnbonding, key, st)
}

// FinishUnbond pays out stake whose unbonding is over. Anyone may ask.
func (m Machine) FinishUnbond(s Store, now int64, key StakeKey) ([]Event, error) {
	st, err := s.Stake(key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("finish unbonding: stake: %w", err)
	case st.Unbonding == 0:
		return nil, fmt.Errorf("finish unbonding: %w: nothing is unbonding", ErrState)
	case now < st.Until:
		return nil, fmt.Errorf("finish unbonding: %w: free at %d and it is %d", ErrEarly, st.Until, now)
	}
	out := Transfer{StakePot(key.Provider, key.Trade), Account(key.Provider), square.Amount{Units: st.Unbonding, Denom: key.Denom}}
	st.Total -= st.Unbonding
	st.Unbonding, st.Until = 0, 0
	return stakeEvent(s, now, EvUnbonded, key, st, out)
}

func stakeEvent(s Store, now int64, kind Kind, key StakeKey, st Stake, moves ...Transfer) ([]Event, error) {
	for _, t := range moves {
		if err := s.Move(t.From, t.To, t.Amount); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
	}
	if err := s.SetStake(key, st); err != nil {
		return nil, err
	}
	return []Event{{Kind: kind, Time: now, By: key.Provider, Trade: key.Trade, Provider: key.Provider, Deadline: st.Until, Moves: moves}}, nil
}
