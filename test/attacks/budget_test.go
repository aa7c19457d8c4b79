package attacks

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/gateway/admin"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/ledger/client"
)

// TestBudgetForgets: who holds an API key with a budget asks while the square is
// cut off again and again, so that what it spent at each cut is not counted
// (money.md H3).
func TestBudgetForgets(t *testing.T) {
	t.Parallel()
	p := open(t)
	out, err := p.command("key", "create", "thief", "--budget", "5", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var key admin.Created
	if err := json.Unmarshal([]byte(out), &key); err != nil {
		t.Fatal(err)
	}
	kills := 4
	if *long {
		kills = 50
	}
	const body = `{"model":"torg-nano","max_tokens":%d,"messages":[{"role":"user","content":"It is a truth"}]}`
	var seen atomic.Uint64 // what the answers that arrived cost
	var last atomic.Value  // error
	for range kills {
		ctx, cancel := context.WithCancel(t.Context())
		var askers sync.WaitGroup
		for range 16 {
			askers.Go(func() {
				for ctx.Err() == nil {
					a, err := p.chat(ctx, key.Secret, fmt.Sprintf(body, 20))
					if err != nil {
						last.Store(err)
						return
					}
					seen.Add(a.Usage.Details.Amount)
				}
			})
		}
		time.Sleep(2 * time.Second)
		p.again()
		cancel()
		askers.Wait()
	}
	if seen.Load() == 0 {
		t.Fatalf("the key was never answered: %v", last.Load())
	}
	// Every lane is asked once more, so that what was open at a cut is known; then
	// every lease is closed, for one that stands may be redeemed in part.
	p.await("an answer", func() error { return p.ask(t.Context(), 4) })
	p.work.stop()
	leases, _, err := p.ledger.Leases(t.Context(), client.LeaseFilter{Buyer: p.Wallet}, client.Page{})
	if err != nil || len(leases) == 0 {
		t.Fatalf("%d leases, %v", len(leases), err)
	}
	spent, owed := uint64(0), uint64(0)
	p.await("every lease to be closed", func() error {
		owed = 0
		for _, l := range leases {
			now, err := p.ledger.Lease(t.Context(), l.ID)
			if err != nil {
				return err
			}
			if !now.State.Terminal() {
				_, err := p.command("lease", "close", l.ID.String())
				return fmt.Errorf("lease %s is %s, %v", l.ID.Short(), now.State, err)
			}
			owed += now.Paid
		}
		return nil
	})
	out, err = p.command("key", "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var list []keys.Key
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		spent += k.Spent
	}
	if spent != owed {
		t.Errorf("the square has paid %d and its keys have spent %d", owed, spent)
	}
	p.after(outcome{actor: buyer, name: "an API key's budget and kill -9", loss: max(0, int64(owed)-int64(spent)), note: fmt.Sprintf("%d kills; paid %d, counted %d", kills, owed, spent)})
}
