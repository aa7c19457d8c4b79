// Package devnet makes ledgers: in memory for a test, in one home for a machine
// that is its own square, in several homes for several validators.
package devnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"

	"github.com/torg-network/torg/ledger"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Spec says which ledger to make. The zero value is a test's: chain
// "torg-test", no pause between blocks, and a million TORG for each of the
// first ten [Key]s.
type Spec struct {
	ChainID  string
	Balances []ledger.Balance
	Trades   []trade.Rules
	Settings node.Settings
	Market   *market.Params // market.Default, if nil
	Cards    []ledger.Card  // of work that can be proven, by Trades
	// Operators own the validators, one each. Missing ones get a key of their
	// own, whose mnemonic is kept in the home.
	Operators []square.Address
	// Hosts are where validators reach each other, host:port, one each;
	// needed for more than one.
	Hosts []string
}

// stake of each validator in a new ledger.
const stake = 1_000_000 * square.UnitsPerTorg

// Mnemonic is the one every Ethereum tool's test accounts come from. Its keys
// are known to everyone: for tests only.
const Mnemonic = "test test test test test test test test test test test junk"

// Key is account i of Mnemonic.
func Key(i uint32) square.Key {
	k, err := keys.FromMnemonic(Mnemonic, i)
	if err != nil {
		panic(err) // the words are a constant
	}
	return k
}

func (s Spec) filled() Spec {
	if s.ChainID == "" {
		s.ChainID = "torg-test"
	}
	if s.Balances == nil {
		for i := range uint32(10) {
			s.Balances = append(s.Balances, ledger.Balance{Owner: Key(i).Address(), Amount: square.Utorg(1_000_000 * square.UnitsPerTorg)})
		}
	}
	return s
}

// Memory runs a ledger of one validator that forgets everything when it is
// stopped. It returns after the first block.
func Memory(ctx context.Context, s Spec) (*node.Node, error) {
	s = s.filled()
	validator := ed25519.GenPrivKey()
	operator := Key(0).Address()
	if len(s.Operators) > 0 {
		operator = s.Operators[0]
	}
	doc, err := ledger.Genesis{
		ChainID: s.ChainID, Time: time.Now(), Balances: s.Balances, Market: s.Market, Cards: s.Cards,
		Validators: []ledger.Validator{{Name: "validator-0", Operator: operator, Key: validator.PubKey(), Stake: stake}},
	}.Doc()
	if err != nil {
		return nil, err
	}
	n, err := node.Memory(ctx, doc, validator, s.Settings, node.Options{Trades: s.Trades})
	if err != nil {
		return nil, err
	}
	if err := n.WaitHeight(ctx, 1); err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

// InitHomes makes a ledger of n validators: one home each, dir/0, dir/1, … (dir
// itself when n is 1), all with one genesis.
func InitHomes(dir string, n int, s Spec) ([]node.Home, error) {
	if n < 1 || n > 100 {
		return nil, errors.New("validators: 1 to 100")
	}
	if n > 1 && len(s.Hosts) != n {
		return nil, fmt.Errorf("%d validators need %d hosts (host:port) to reach each other at", n, n)
	}
	s = s.filled()
	g := ledger.Genesis{ChainID: s.ChainID, Time: time.Now(), Balances: s.Balances, Market: s.Market, Cards: s.Cards}
	homes := make([]node.Home, n)
	words := make([]string, n)
	consensus := make([]ed25519.PrivKey, n)
	ids := make([]*p2p.NodeKey, n)
	peers := make([]string, n)
	for i := range n {
		homes[i] = node.Home(dir)
		if n > 1 {
			homes[i] = node.Home(filepath.Join(dir, strconv.Itoa(i)))
		}
		consensus[i] = ed25519.GenPrivKey()
		ids[i] = &p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
		var operator square.Address
		if i < len(s.Operators) {
			operator = s.Operators[i]
		} else {
			w, err := keys.NewMnemonic()
			if err != nil {
				return nil, err
			}
			k, err := keys.FromMnemonic(w, 0)
			if err != nil {
				return nil, err
			}
			words[i], operator = w, k.Address()
		}
		g.Validators = append(g.Validators, ledger.Validator{
			Name: "validator-" + strconv.Itoa(i), Operator: operator, Key: consensus[i].PubKey(), Stake: stake,
		})
		if n > 1 {
			if _, _, err := net.SplitHostPort(s.Hosts[i]); err != nil {
				return nil, fmt.Errorf("host %q: %w", s.Hosts[i], err)
			}
			peers[i] = string(ids[i].ID()) + "@" + s.Hosts[i]
		}
	}
	doc, err := g.Doc()
	if err != nil {
		return nil, err
	}
	for i, h := range homes {
		set := s.Settings
		if n > 1 {
			_, port, _ := net.SplitHostPort(s.Hosts[i])
			set.P2P = net.JoinHostPort("0.0.0.0", port)
			set.Peers = append(append([]string{}, peers[:i]...), peers[i+1:]...)
		}
		if err := h.Create(doc, consensus[i], ids[i], set); err != nil {
			return nil, err
		}
		if words[i] != "" {
			if err := os.WriteFile(filepath.Join(string(h), "operator.mnemonic"), []byte(words[i]+"\n"), 0o600); err != nil {
				return nil, err
			}
		}
	}
	return homes, nil
}

// Run runs the node of a home until ctx ends or the ledger stalls.
func Run(ctx context.Context, h node.Home, o node.Options) error {
	n, err := node.Open(ctx, h, o)
	if err != nil {
		return err
	}
	defer n.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-n.Done():
		return n.Err()
	}
}
