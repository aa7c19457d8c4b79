package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// transactions counts those in the blocks from one height to another, both
// included, as an outsider would: from the ledger's RPC.
func (s *upSquare) transactions(from, to int64) (n int) {
	s.t.Helper()
	for ; from <= to; from += 20 { // one answer's most
		var reply struct {
			Result struct {
				Metas []struct {
					Txs int `json:"num_txs,string"`
				} `json:"block_metas"`
			} `json:"result"`
		}
		last := min(from+19, to)
		resp, err := http.Get(fmt.Sprintf("%s/blockchain?minHeight=%d&maxHeight=%d", s.RPC, from, last))
		if err != nil {
			s.t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(&reply)
		resp.Body.Close()
		if err != nil || len(reply.Result.Metas) != int(last-from+1) {
			s.t.Fatalf("blocks %d to %d: %d of them, %v", from, last, len(reply.Result.Metas), err)
		}
		for _, m := range reply.Result.Metas {
			n += m.Txs - 1 // the first is the beacon's
		}
	}
	return n
}

// standing is the square's one standing lease, once there is one.
func (s *upSquare) standing() leaseView {
	s.t.Helper()
	var ls []leaseView
	await(s.t, "a standing lease", func() error {
		s.torg("lease", "list", "--state", string(market.Active), "-o", "json").read(s.t, &ls)
		if len(ls) != 1 {
			return fmt.Errorf("%d leases stand, want one", len(ls))
		}
		return nil
	})
	return s.lease(ls[0].ID)
}

// metric is the sum of a Prometheus metric over its labels.
func (s *upSquare) metric(name string) (sum float64) {
	s.t.Helper()
	resp, err := http.Get(s.AdminURL + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	found := false
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
			if err != nil {
				s.t.Fatalf("metric %q: %v", sc.Text(), err)
			}
			sum, found = sum+v, true
		}
	}
	if !found {
		s.t.Fatalf("/metrics has no %s", name)
	}
	return sum
}

// balances are what the wallet and the provider hold, outside escrow and stake.
func (s *upSquare) balances() (wallet, provider uint64) {
	s.t.Helper()
	var views []accountView
	s.torg("wallet", "-o", "json").read(s.t, &views)
	return views[0].Available.Units, views[1].Available.Units
}

// fees are what the wallet and the provider have paid for places in blocks.
func (s *upSquare) fees() (wallet, provider uint64) {
	s.t.Helper()
	rpc, err := rpchttp.New(s.RPC, "/websocket")
	if err != nil {
		s.t.Fatal(err)
	}
	head, err := s.ledger().Head(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for h := int64(1); h <= head.Height; h++ {
		r, err := rpc.BlockResults(s.t.Context(), &h)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, tx := range r.TxsResults {
			for _, e := range tx.Events {
				var fee uint64
				payer := ""
				for _, a := range e.Attributes {
					switch {
					case e.Type == "tx" && a.Key == "fee":
						if _, err := fmt.Sscanf(a.Value, "%d"+square.Denom, &fee); err != nil {
							s.t.Fatal(err)
						}
					case e.Type == "tx" && a.Key == "fee_payer":
						payer = a.Value
					}
				}
				switch payer {
				case s.Wallet:
					wallet += fee
				case s.Provider:
					provider += fee
				}
			}
		}
	}
	return wallet, provider
}

// TestTenThousandRequests pays ten thousand parallel requests through one lease:
// one transaction opens it, none is made while they run, one closes it, and to
// the last unit it pays what the receipts say and returns the rest.
// TORG_REQUESTS asks for another number.
func TestTenThousandRequests(t *testing.T) {
	t.Parallel()
	requests := 10_000
	if testing.Short() {
		requests = 1000
	}
	if n, err := strconv.Atoi(os.Getenv("TORG_REQUESTS")); err == nil {
		requests = n
	}
	s := open(t, t.TempDir(), "--lanes", "16")
	wallet, provider := s.balances()
	walletFees, providerFees := s.fees()
	l := s.standing()
	if l.Escrow == 0 || wallet != walletFunds*square.UnitsPerTorg-l.Escrow-walletFees {
		t.Fatalf("the wallet holds %d after %d were locked", wallet, l.Escrow)
	}
	opened := map[square.Hash]bool{}
	last := int64(0)
	for _, tx := range l.Txs {
		opened[tx.Hash] = true
		last = max(last, tx.Height)
	}
	if len(opened) != 1 || s.transactions(last, last) != 1 {
		t.Errorf("it took %d transactions to open the lease, in a block of %d: %+v", len(opened), s.transactions(last, last), l.Txs)
	}

	// In lanes, as its users are; one of them is always being settled.
	var sum, left atomic.Uint64
	left.Store(uint64(requests))
	var workers sync.WaitGroup
	began := time.Now()
	for range 16 {
		workers.Go(func() {
			for left.Add(^uint64(0)) < 1<<63 && !t.Failed() {
				a, err := askAt(context.Background(), s.BaseURL, s.APIKey, hello(2))
				if err != nil || a.status != http.StatusOK || a.Usage == nil || a.Lease != l.ID {
					t.Errorf("a request was not answered on lease %s: %v %v", l.ID.Short(), err, a)
					return
				}
				sum.Add(a.Usage.Details.Amount)
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	if t.Failed() {
		return
	}
	head, err := s.ledger().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.transactions(last+1, head.Height); n != 0 {
		t.Errorf("%d transactions were made while %d requests ran over %d blocks", n, requests, head.Height-last)
	}
	if l := s.lease(l.ID); l.Paid != 0 || l.State != market.Active {
		t.Errorf("before it is closed the lease is %s and paid %d", l.State, l.Paid)
	}

	s.torg("lease", "close", l.ID.String()).want(t, exitOK)
	closed := s.settled(l.ID)
	if closed.Reason != string(market.ReasonAgreed) || closed.Paid != sum.Load() {
		t.Errorf("closed (%s) the lease paid %d; the answers cost %d", closed.Reason, closed.Paid, sum.Load())
	}
	ended := map[square.Hash]bool{}
	for _, tx := range closed.Txs {
		if tx.Height > head.Height {
			ended[tx.Hash] = true
		}
	}
	if len(ended) != 1 {
		t.Errorf("it took %d transactions to close the lease: %+v", len(ended), closed.Txs)
	}
	// The desk opens the next standing lease by itself; its escrow is no loss.
	next := s.standing()
	nextWallet, nextProvider := s.balances()
	nextWalletFees, nextProviderFees := s.fees()
	nextWallet, nextProvider = nextWallet+nextWalletFees-walletFees, nextProvider+nextProviderFees-providerFees
	if want := wallet + l.Escrow - closed.Paid - next.Escrow; nextWallet != want {
		t.Errorf("the wallet holds %d, want %d: the refund is not exact", nextWallet, want)
	}
	params, err := s.ledger().Params(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := provider + closed.Paid - square.Share(closed.Paid, params.FeeBps) + closed.Emitted; nextProvider != want {
		t.Errorf("the provider holds %d, want %d: it was paid %d", nextProvider, want, closed.Paid)
	}
	s.conserved()
	if cost := s.metric("torg_gateway_cost_units_total"); cost != float64(sum.Load()) {
		t.Errorf("the metrics count %v spent, the answers %d", cost, sum.Load())
	}
	t.Logf("%d requests in %.1f s, %.0f a second, for %s", requests, took.Seconds(), float64(requests)/took.Seconds(), square.Utorg(closed.Paid))
	s.stop()
}
