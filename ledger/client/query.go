package client

import (
	"context"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/torg-network/torg/square"
)

// Balance is what an account holds of a denom.
func (c *Client) Balance(ctx context.Context, who square.Address, denom string) (square.Amount, error) {
	r, err := banktypes.NewQueryClient(conn{c.rpc}).Balance(ctx, &banktypes.QueryBalanceRequest{Address: who.String(), Denom: denom})
	if err != nil {
		return square.Amount{}, fmt.Errorf("balance of %s: %w", who, err)
	}
	return amount(*r.Balance)
}

// Balances is all that an account holds.
func (c *Client) Balances(ctx context.Context, who square.Address) ([]square.Amount, error) {
	r, err := banktypes.NewQueryClient(conn{c.rpc}).AllBalances(ctx, &banktypes.QueryAllBalancesRequest{Address: who.String()})
	if err != nil {
		return nil, fmt.Errorf("balances of %s: %w", who, err)
	}
	out := make([]square.Amount, len(r.Balances))
	for i, coin := range r.Balances {
		if out[i], err = amount(coin); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func amount(c sdk.Coin) (square.Amount, error) {
	if !c.Amount.IsUint64() || c.Amount.Uint64() > square.MaxUnits {
		return square.Amount{}, fmt.Errorf("%s%s is larger than any amount on the square", c.Amount, c.Denom)
	}
	return square.Amount{Units: c.Amount.Uint64(), Denom: c.Denom}, nil
}
