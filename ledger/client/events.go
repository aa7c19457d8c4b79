package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	abci "github.com/cometbft/cometbft/abci/types"
	cmttypes "github.com/cometbft/cometbft/types"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// EventsAt is what happened in one block, in order: what its transactions did,
// to the market and then to accounts and channels, then what the ledger did by
// itself at the block's end. Unlike a subscription it misses nothing, as long as
// the node still has the block.
func (c *Client) EventsAt(ctx context.Context, height int64) ([]Event, error) {
	results, err := c.rpc.BlockResults(ctx, &height)
	if err != nil {
		return nil, fmt.Errorf("events of block %d: %w", height, err)
	}
	var out []Event
	if len(results.TxsResults) > 0 {
		block, err := c.rpc.Block(ctx, &height)
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", height, err)
		}
		for i, r := range results.TxsResults {
			if r.Code == 0 && i < len(block.Block.Txs) {
				tx := square.Hash(cmttypes.Tx(block.Block.Txs[i]).Hash())
				out = append(out, events(height, tx, r.Events)...)
				out = append(out, payments(height, tx, block.Block.Time.Unix(), r.Events)...)
			}
		}
	}
	return append(out, events(height, square.Hash{}, results.FinalizeBlockEvents)...), nil
}

// payments reads the bank's and the channels' events of a transaction. A
// channel's event follows the transfer that it is about.
func payments(height int64, tx square.Hash, at int64, in []abci.Event) (out []Event) {
	value := func(e abci.Event, key string) string {
		for _, a := range e.Attributes {
			if a.Key == key {
				return a.Value
			}
		}
		return ""
	}
	account := func(e abci.Event, key string) square.Address {
		a, _ := square.ParseAddress(value(e, key)) // zero: a stranger to us
		return a
	}
	// Other messages move money as well; of theirs the market tells.
	sends := map[string]bool{}
	for _, e := range in {
		if a := value(e, "action"); e.Type == "message" && (a == "/cosmos.bank.v1beta1.MsgSend" || a == "/cosmos.bank.v1beta1.MsgMultiSend") {
			sends[value(e, "msg_index")] = true
		}
	}
	var last abci.Event
	for _, e := range in {
		ev := Event{Height: height, Tx: tx}
		ev.Time = at
		switch e.Type {
		case "transfer":
			last = e
			if !sends[value(e, "msg_index")] {
				continue
			}
			ev.Kind, ev.By = market.EvSent, account(e, "sender")
			for _, c := range amounts(value(e, "amount")) {
				ev.Moves = append(ev.Moves, market.Transfer{From: market.Account(ev.By), To: market.Account(account(e, "recipient")), Amount: c})
			}
		case "torg.channel":
			ev.Kind, ev.Buyer, ev.Provider = market.Kind("channel_"+value(e, "kind")), account(e, "payer"), account(e, "receiver")
			from, to := market.Pot{Kind: market.PotChannel}, market.Pot{Kind: market.PotChannel}
			switch ev.Kind {
			case market.EvChannelDeposited:
				ev.By = account(last, "sender")
				from = market.Account(ev.By)
			case market.EvChannelClaimed:
				ev.By, to = ev.Provider, market.Account(ev.Provider)
			case market.EvChannelWithdrawn:
				ev.By, to = ev.Buyer, market.Account(ev.Buyer)
			case market.EvChannelRefunded:
				ev.By, to = ev.Provider, market.Account(ev.Buyer)
			default:
				ev.By = ev.Buyer
			}
			if ev.Kind != market.EvChannelWithdrawing {
				for _, c := range amounts(value(last, "amount")) {
					ev.Moves = append(ev.Moves, market.Transfer{From: from, To: to, Amount: c})
				}
			}
		default:
			continue
		}
		out = append(out, ev)
	}
	return out
}

// amounts reads the SDK's way to write amounts: "5utorg,7uusd".
func amounts(s string) (out []square.Amount) {
	for part := range strings.SplitSeq(s, ",") {
		at := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if at <= 0 {
			continue
		}
		if n, err := strconv.ParseUint(part[:at], 10, 64); err == nil {
			out = append(out, square.Amount{Units: n, Denom: part[at:]})
		}
	}
	return out
}
