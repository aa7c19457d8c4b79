package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/infer/replay"
)

// TestUpProves: a square told to verify by proof answers with one, says so
// wherever an answer is told of, and answers a false challenge on its ledger by
// itself.
func TestUpProves(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "--verify", "prove")
	a := s.paid(hello(40))
	if v := a.header.Get("Torg-Verified"); v != "prove" || !strings.Contains(a.raw, `"verified":"prove"`) {
		t.Fatalf("the answer says %q: %v", v, a)
	}
	long := s.paid(hello(200)) // from four windows
	if long.header.Get("Torg-Verified") != "prove" {
		t.Errorf("a long answer says %v", long)
	}
	var r story
	s.torg("receipt", "show", a.Receipt.String(), "-o", "json").read(t, &r)
	if !strings.HasPrefix(r.Receipt.Audited, "proven: proof of ") {
		t.Errorf("the receipt says %q", r.Receipt.Audited)
	}
	if o := s.torg("receipt", "show", a.Receipt.String()).want(t, exitOK); !strings.Contains(o.out, "verified     prove: proof of ") {
		t.Errorf("its story does not: %v", o)
	}
	if o := s.torg("receipt", "list").want(t, exitOK); !strings.Contains(o.out, "proven") {
		t.Errorf("the list does not: %v", o)
	}
	if l := s.lease(r.Receipt.Receipt.Lease); l.Order.Policy != square.PolicyProve {
		t.Errorf("the lease is under %q", l.Order.Policy)
	}
	if o := s.torg("chat", "It is a truth", "--max-tokens", "20").want(t, exitOK); !strings.Contains(o.err, "proven") {
		t.Errorf("chat does not say that its answer was proven: %v", o)
	}
	// What cannot be proven is told apart, and can be had without.
	if a := s.ask(hello(3000)); a.status != http.StatusBadRequest || !strings.Contains(a.raw, "windows") {
		t.Errorf("too long an answer: %v", a)
	}
	plain := s.paid(hello(5).with("provider", body{"verification": "audit"}))
	if plain.header.Get("Torg-Verified") != "" {
		t.Errorf("an answer without a proof says %v", plain)
	}
	if a := s.ask(hello(5).with("provider", body{"verification": "oath"})); a.status != http.StatusBadRequest || !strings.Contains(a.raw, "provider.verification") {
		t.Errorf("verification by oath: %v", a)
	}

	// A false challenge: the provider that runs here proves its answer to the
	// ledger, and has the challenger's bond.
	key, account := s.fund()
	cl := s.ledger()
	if _, err := account.Challenge(t.Context(), r.Receipt.Receipt.Lease, *r.Receipt.Evidence, 0); err != nil {
		t.Fatal(err)
	}
	await(t, "an answer to the challenge", func() error {
		l, err := cl.Lease(t.Context(), r.Receipt.Receipt.Lease)
		if err == nil && (l.State != market.Active || l.Heard != 1) {
			err = fmt.Errorf("the lease is %s, heard %d", l.State, l.Heard)
		}
		return err
	})
	s.conserved(key.Address())
	if a := s.paid(hello(5)); a.header.Get("Torg-Verified") != "prove" {
		t.Errorf("after the challenge: %v", a)
	}
	s.stop()
}

// TestAskForProof: one request asks for a proof on a square that audits, streamed
// and by the command line.
func TestAskForProof(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	var said struct {
		Answer   string `json:"answer"`
		Verified string `json:"verified"`
	}
	s.torg("chat", "It is a truth", "--max-tokens", "20", "--verify", "prove", "-o", "json").read(t, &said)
	if said.Verified != "prove" || said.Answer == "" {
		t.Errorf("chat: %+v", said)
	}
	a, b := s.paid(hello(20).with("seed", 7).with("provider", body{"verification": "prove"})), s.paid(hello(20).with("seed", 7))
	if a.header.Get("Torg-Verified") != "prove" || b.header.Get("Torg-Verified") != "" {
		t.Errorf("verified by %q and %q", a.header.Get("Torg-Verified"), b.header.Get("Torg-Verified"))
	}
	if dear, cheap := a.Usage.Details.Amount, b.Usage.Details.Amount; dear < (provenTimes-1)*cheap || dear > provenTimes*cheap { // each unit rounds up
		t.Errorf("a proven answer costs %d, another %d", a.Usage.Details.Amount, b.Usage.Details.Amount)
	}
	s.stop()
}

// provingLiar says something else now and then, and proves what it said as well
// as it can be proven.
type provingLiar struct {
	provider.Prover
	lies atomic.Bool
}

func (l *provingLiar) Run(ctx context.Context, job provider.Job, emit func(infer.Delta) error) (provider.Output, error) {
	if !l.lies.Load() || job.Request.Kind != infer.Exact {
		return l.Prover.Run(ctx, job, emit)
	}
	out, err := l.Prover.Run(ctx, job, func(infer.Delta) error { return nil })
	if err != nil || len(out.Result.Tokens) == 0 {
		return out, err
	}
	last := len(out.Result.Tokens) - 1
	out.Result.Tokens[last] ^= 1
	return out, emit(infer.Delta{Text: replay.Model{Model: nano.Model()}.Text(job.Request, out.Result), Tokens: last + 1})
}

// TestUnprovenLosesBond: a provider whose proof does not hold is paid no more,
// cannot prove its lie to the ledger either, and loses its bond when the time for
// it is over, all without anybody's doing.
func TestUnprovenLosesBond(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	k, err := openKeyring(config{value: map[string]string{"home": home}}, true)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := newLedger(k, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	params := market.Default()
	params.Answer, params.Notice = 10, 5
	spec.Market = &params
	if _, err := devnet.InitHomes(filepath.Join(home, "ledger"), 1, spec); err != nil {
		t.Fatal(err)
	}
	s := open(t, home)
	liar := &provingLiar{Prover: provider.Exact(nano.Model()).(provider.Prover)}
	v := s.sell(liar)
	proven := hello(12).with("provider", body{"verification": "prove", "only": []string{v.key.Address().String()}})
	await(t, "the first answer of the other provider", func() error {
		if a := s.ask(proven); a.status != http.StatusOK || a.header.Get("Torg-Verified") != "prove" {
			return fmt.Errorf("%v", a)
		}
		return nil
	})
	before := s.wealth(v)
	liar.lies.Store(true)
	a := s.ask(proven)
	if a.status != http.StatusBadGateway || !strings.Contains(a.raw, `"unproven"`) {
		t.Fatalf("an answer that was not proven: %v", a)
	}
	if a := s.ask(proven); a.status == http.StatusOK {
		t.Errorf("the liar was asked again: %v", a)
	}
	cl := s.ledger()
	var caught market.Lease
	await(t, "the slashing", func() error {
		ls, _, err := cl.Leases(t.Context(), client.LeaseFilter{Provider: v.key.Address(), State: market.Slashed}, client.Page{})
		if err == nil && len(ls) == 0 {
			err = fmt.Errorf("none of its leases is slashed")
		} else if err == nil {
			caught = ls[0].Lease
		}
		return err
	})
	if caught.Reason != market.ReasonUnproven || caught.Bond != 0 || caught.Escrow != 0 || caught.Order.Policy != square.PolicyProve {
		t.Errorf("the lease ended %s (%s), bond %d, escrow %d", caught.State, caught.Reason, caught.Bond, caught.Escrow)
	}
	v.stop()
	if after := s.wealth(v); after >= before {
		t.Errorf("lying paid: it owned %d, and owns %d", before, after)
	}
	await(t, "the receipt's word", func() error {
		if o := s.torg("receipt", "list"); !strings.Contains(o.out, "slashed") {
			return fmt.Errorf("%v", o)
		}
		return nil
	})
	s.conserved(v.key.Address())
	s.stop()
}
