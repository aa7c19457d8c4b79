//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/devnet"
	ledgernode "github.com/torg-network/torg/ledger/node"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
	"github.com/torg-network/torg/trade/infer/infertest"
	"github.com/torg-network/torg/trade/infer/provider"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/wire"
)

// is fails the test unless the answer is a refusal of this status and code,
// with these words.
func (a answer) is(t *testing.T, status int, code string, words ...string) {
	t.Helper()
	if a.status != status || a.Error == nil || a.Error.Code != code || a.Error.Type == "" {
		t.Fatalf("want HTTP %d %s, got %v", status, code, a)
	}
	for _, w := range words {
		if !strings.Contains(a.Error.Message, w) {
			t.Errorf("the refusal does not say %q: %v", w, a)
		}
	}
}

// free is an address nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestLedgerStalls has the ledger in two processes, of which it needs both. One
// is stopped: no block comes, the other still answers questions. Then that one
// is stopped as well: it takes connections and answers nothing, the worst way
// to fail. Requests in an open lease are served all the same, one that needs a
// new lease is refused soon, in words, and when the ledger goes on nothing is
// lost. Meanwhile the clock on the wall jumps by a year, both ways.
func TestLedgerStalls(t *testing.T) {
	t.Parallel()
	rpc := free(t)
	spec := devnet.Spec{
		Trades: trades(), Hosts: []string{free(t), free(t)},
		Settings: ledgernode.Settings{BlockTime: 50 * time.Millisecond, Stalled: time.Hour},
	}
	homes, err := devnet.InitHomes(t.TempDir(), 2, spec)
	if err != nil {
		t.Fatal(err)
	}
	set, err := homes[0].Settings()
	if err != nil {
		t.Fatal(err)
	}
	set.RPC = rpc
	if err := homes[0].Save(set); err != nil {
		t.Fatal(err)
	}
	var validators []*process
	for _, h := range homes {
		validators = append(validators, begin(t, command("ledger", "start", "--home", string(h))))
	}
	var cl *client.Client
	await(t, "the validator", func() (err error) {
		cl, err = client.Dial(t.Context(), "http://"+rpc, client.Options{Trades: trades()})
		return err
	})
	defer cl.Close()

	await(t, "the first blocks", func() error { return cl.WaitHeight(t.Context(), 2) })

	owner, selling := devnet.Key(1), devnet.Key(2)
	if _, err := cl.Account(selling).Bond(t.Context(), infer.Name, square.Utorg(sellerStake)); err != nil {
		t.Fatal(err)
	}
	// Two models, so that one can be without a lease.
	toy := infertest.Toy{Name: "toy"}
	n, err := node.Open(t.Context(), node.Config{
		Key: selling, ChainID: cl.ChainID(), Ledger: providerView{chainView{cl, cl.Account(selling)}}, Dir: t.TempDir(), Listen: "127.0.0.1:0",
		Trades: []seller.Trade{provider.New(provider.Config{Services: []provider.Service{
			{Engine: provider.Exact(nano.Model()), Price: provider.Price{Rates: cheap, Denom: square.Denom, Capacity: 16}},
			{Engine: toy, Price: provider.Price{Rates: cheap, Denom: square.Denom, Capacity: 16}},
		}})},
	})
	if err != nil {
		t.Fatal(err)
	}
	disk, err := journal.Open(filepath.Join(t.TempDir(), "b.db"), desk.Buckets...)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	var jump atomic.Int64
	view := buyerView{chainView{cl, cl.Account(owner)}}
	inference := buyer.NewTrade(replayers(), view.Card)
	buying, err := desk.New(desk.Config{
		Key: owner, ChainID: cl.ChainID(), Ledger: view, Store: disk, Trades: []desk.Trade{inference},
		Now: func() time.Time { return time.Now().Add(time.Duration(jump.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	asks, err := buyer.New(buyer.Config{Desk: buying, Trade: inference})
	if err != nil {
		t.Fatal(err)
	}
	api, err := openai.New(openai.Config{Seller: asks, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	door, err := gateway.New(gateway.Config{Doors: map[string]http.Handler{"/v1/": api}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- n.Run(ctx) }()
	go func() { ended <- buying.Run(ctx) }()
	web := httptest.NewServer(door)
	t.Cleanup(func() {
		web.Close()
		stop()
		<-ended
		<-ended
	})

	s := &upSquare{t: t, greeting: greeting{running: running{BaseURL: web.URL + "/v1"}}}
	paid := func(b body) answer {
		t.Helper()
		var a answer
		await(t, "an answer", func() error { // the offers come with the first blocks
			if a = s.ask(b); a.status == http.StatusNotFound {
				return errors.New(a.raw)
			}
			return nil
		})
		if a.status != http.StatusOK {
			t.Fatalf("no answer: %v", a)
		}
		return a
	}
	lease := paid(hello(2)).Lease

	signal := func(v *process, sig os.Signal) {
		t.Helper()
		if err := v.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	withoutLedger := func(how, why string) {
		t.Helper()
		for i := range 20 {
			jump.Store(int64([]time.Duration{0, 365 * 24 * time.Hour, -365 * 24 * time.Hour}[i%3]))
			began := time.Now()
			if a := paid(hello(2)); a.Lease != lease {
				t.Fatalf("answered on lease %s", a.Lease.Short())
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("while %s a request in an open lease took %s", how, took)
			}
		}
		await(t, "a refusal because "+why, func() error {
			began := time.Now()
			refused := s.ask(hello(2).with("model", "toy"))
			refused.is(t, http.StatusServiceUnavailable, "ledger_stalled")
			took := time.Since(began)
			if took > 10*time.Second || refused.header.Get("Retry-After") == "" {
				t.Fatalf("while %s the refusal took %s, Retry-After is %q", how, took, refused.header.Get("Retry-After"))
			}
			if !strings.Contains(refused.Error.Message, why) {
				return errors.New(refused.raw) // what was found a moment ago
			}
			t.Logf("while %s a request that needs a new lease is refused in %.1f s: %s", how, took.Seconds(), refused.Error.Message)
			return nil
		})
	}
	signal(validators[1], unix.SIGSTOP)
	time.Sleep(16 * time.Second) // what a slow block may take
	withoutLedger("no block comes", "the last block came")
	signal(validators[0], unix.SIGSTOP)
	withoutLedger("nothing answers", "cannot be reached")

	signal(validators[0], unix.SIGCONT)
	signal(validators[1], unix.SIGCONT)
	await(t, "an answer that needs a new lease", func() error {
		if a := s.ask(hello(2).with("model", "toy")); a.status != http.StatusOK {
			return errors.New(a.raw)
		}
		return nil
	})
	paid(hello(2))
	if err := buying.CloseAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of every lease", func() error {
		ls, _, err := cl.Leases(t.Context(), client.LeaseFilter{Buyer: owner.Address()}, client.Page{})
		if err != nil || len(ls) == 0 {
			return fmt.Errorf("%d leases, %w", len(ls), err)
		}
		for _, l := range ls {
			if !l.State.Terminal() {
				return fmt.Errorf("lease %s is %s", l.ID.Short(), l.State)
			}
			recs, _, err := buying.Receipts(t.Context(), desk.Filter{Lease: l.ID}, time.Time{}, 1000)
			sum := uint64(0)
			for _, r := range recs {
				sum += r.Evidence.Receipt.Price
			}
			if err != nil || sum != l.Paid {
				t.Fatalf("lease %s paid %d, its %d receipts say %d; %v", l.ID.Short(), l.Paid, len(recs), sum, err)
			}
		}
		sup, err := cl.Supply(t.Context(), square.Denom)
		if err == nil && !sup.Balanced {
			t.Fatalf("the pots do not sum: %+v", sup)
		}
		return err
	})
}

// TestProviderKilled: the provider dies in the middle of an answer. The client
// is told so in the stream, what was streamed without a receipt is not paid,
// and the provider serves the same lease when it is back.
func TestProviderKilled(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	key, _ := s.fund()
	at := soldAt{Key: fmt.Sprintf("%x", key.Bytes()), Dir: t.TempDir(), Listen: free(t), RPC: s.RPC}
	arg, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	live := func() *process {
		c := command(string(arg))
		c.Env = append(c.Env, asDeed+"="+asProvider)
		return begin(t, c)
	}
	p := live()
	slow := hello(3).with("model", "slow")
	served := func() (a answer) {
		t.Helper()
		await(t, "an answer of the provider's", func() error {
			if a = s.ask(slow); a.status != http.StatusOK {
				return errors.New(a.raw)
			}
			return nil
		})
		return a
	}
	first := served()

	resp, err := post(t.Context(), s.BaseURL, s.APIKey, slow.with("stream", true).with("max_tokens", 3000))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	pieces, last := 0, ""
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		if last = data; pieces == 10 {
			p.kill()
		}
		pieces++
	}
	var end answer
	if err := json.Unmarshal([]byte(last), &end); err != nil || end.Error == nil || end.Error.Type == "" || end.Error.Code == "" || pieces < 10 {
		t.Fatalf("after %d pieces the provider was killed; the stream ended with %q", pieces, last)
	}

	live()
	again := served()
	if again.Lease != first.Lease {
		t.Errorf("back again, the provider serves lease %s; %s was open", again.Lease.Short(), first.Lease.Short())
	}
	s.torg("lease", "close", first.Lease.String()).want(t, exitOK)
	sum, n := uint64(0), 0
	for _, r := range s.receipts() {
		if r.Receipt.Receipt.Lease == first.Lease {
			sum, n = sum+r.Receipt.Receipt.Price, n+1
			if r.Receipt.Receipt.Units[1] > 3 {
				t.Errorf("an answer that never came whole has a receipt for %v units", r.Receipt.Receipt.Units)
			}
		}
	}
	if l := s.settled(first.Lease); l.Paid != sum || n < 2 {
		t.Errorf("the lease paid %d, its %d receipts say %d", l.Paid, n, sum)
	}
	s.stop()
}

// TestFullDisk: with no space for the voucher or the receipt a request is
// refused, in words, and costs nothing; with space again it works, without a
// restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := unix.Mount("torg-test", home, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(home, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// The ledger is on another disk: what it does about a full one is another
	// test's.
	if err := os.Symlink(t.TempDir(), filepath.Join(home, "ledger")); err != nil {
		t.Fatal(err)
	}
	s := open(t, home)
	first := s.paid(hello(2))

	filler := filepath.Join(home, "filler")
	fill(t, filler)
	// What was allocated before may still take some records.
	long := []chatMessage{{"user", strings.Repeat("It is a truth ", 2000)}}
	served := 1
	var refused answer
	await(t, "a refusal", func() error {
		if refused = s.ask(hello(100).with("messages", long).with("truncation", "auto")); refused.status == http.StatusOK {
			served++
			return errors.New("answered")
		}
		return nil
	})
	if refused.status < 500 || refused.Error == nil || refused.Error.Code == "" || refused.Error.Code == "internal" {
		t.Errorf("the refusal on a full disk is no typed one: %v", refused)
	}
	t.Logf("after %d answers: %v", served, refused)
	before := s.lease(first.Lease).Escrow

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	await(t, "an answer when there is space", func() error {
		if a := s.ask(hello(2)); a.status != http.StatusOK {
			return errors.New(a.raw)
		}
		served++
		return nil
	})
	if got := s.lease(first.Lease).Escrow; got > before {
		t.Errorf("the escrow grew from %d to %d", before, got)
	}
	s.torg("lease", "close", first.Lease.String()).want(t, exitOK)
	rs := s.receipts()
	sum := uint64(0)
	for _, r := range rs {
		sum += r.Receipt.Receipt.Price
	}
	if l := s.settled(first.Lease); l.Paid != sum || len(rs) != served {
		t.Errorf("%d requests were answered; %d receipts say %d, the lease paid %d", served, len(rs), sum, l.Paid)
	}
	s.conserved()
	s.stop()
}

// fill takes all space on the disk of a file.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// TestFullDiskUnderLedger: where the ledger's own disk is full it cannot go on.
// The process ends by itself, in words; with space again the next one goes on
// from there and no money is lost.
func TestFullDiskUnderLedger(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := unix.Mount("torg-test", home, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(home, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, home)
	first := s.paid(hello(2))
	filler := filepath.Join(home, "filler")
	fill(t, filler)
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatalf("a square on a full disk neither works nor ends: %v", s.ask(hello(2)))
	}
	if code := s.cmd.ProcessState.ExitCode(); code == exitOK || !strings.Contains(s.err.String(), "no space left") {
		t.Errorf("it ended with code %d and does not say why:\n%s", code, tail(s.err.String(), 20))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s = open(t, home)
	if again := s.paid(hello(2)); again.Lease != first.Lease {
		t.Errorf("answered on lease %s, %s was open", again.Lease.Short(), first.Lease.Short())
	}
	s.conserved()
	s.stop()
}

// TestRefusals: who may not, or cannot pay, is told so in OpenAI's words, and
// how to go on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	// A lease is used up by some ten requests of 20 tokens.
	s := open(t, t.TempDir(), "--price-completion", "1000", "--escrow", "0.25")
	key := func(flags ...string) (made struct {
		Secret string `json:"secret"`
		Key    struct {
			ID string `json:"id"`
		} `json:"key"`
	}) {
		t.Helper()
		s.torg(append([]string{"key", "create", "-o", "json"}, flags...)...).read(t, &made)
		return made
	}
	ask := func(secret string, b body) answer {
		t.Helper()
		a, err := askAt(t.Context(), s.BaseURL, secret, b)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}

	ask("torg-nobody", hello(2)).is(t, http.StatusUnauthorized, "invalid_api_key")
	ask(s.APIKey, hello(2).with("model", "gpt-none")).is(t, http.StatusNotFound, "model_not_found", "gpt-none")
	ask(s.APIKey, hello(2).with("pad", strings.Repeat("x", 5<<20))).is(t, http.StatusRequestEntityTooLarge, "request_too_large")

	poor := key("--budget", "0.003")
	if a := ask(poor.Secret, hello(2)); a.status != http.StatusOK {
		t.Fatalf("within its budget: %v", a)
	}
	ask(poor.Secret, hello(2)).is(t, http.StatusPaymentRequired, "key_budget_exceeded", "torg key budget "+poor.Key.ID)
	s.torg("chat", "-m", nano.Name, "--max-tokens", "2", "--api-key", poor.Secret, "hello").want(t, exitPayment, "torg key budget")
	s.torg("key", "budget", poor.Key.ID, "1").want(t, exitOK)
	if a := ask(poor.Secret, hello(2)); a.status != http.StatusOK {
		t.Errorf("with the budget raised: %v", a)
	}
	s.torg("key", "revoke", poor.Key.ID).want(t, exitOK)
	ask(poor.Secret, hello(2)).is(t, http.StatusUnauthorized, "invalid_api_key")

	slow := key("--rpm", "1")
	if a := ask(slow.Secret, hello(2)); a.status != http.StatusOK {
		t.Fatalf("within its rate: %v", a)
	}
	over := ask(slow.Secret, hello(2))
	over.is(t, http.StatusTooManyRequests, "rate_limit_exceeded")
	if after, err := strconv.Atoi(over.header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
		t.Errorf("Retry-After is %q", over.header.Get("Retry-After"))
	}

	// The wallet gives all away but the lease; then the lease is used up.
	wallet, _ := s.balances()
	const cost = 1500 // at most, of the transfer itself
	s.torg("wallet", "send", s.Provider, square.Utorg(wallet-cost).String()).want(t, exitOK)
	s.torg("wallet", "send", s.Provider, "1").want(t, exitPayment)
	var broke answer
	await(t, "the end of the lease's money", func() error {
		// 429: the provider is owed half of it and redeems first.
		if broke = s.ask(hello(20)); broke.status == http.StatusOK || broke.status == http.StatusTooManyRequests {
			return errors.New(broke.raw)
		}
		return nil
	})
	broke.is(t, http.StatusPaymentRequired, "insufficient_funds", "torg wallet", "top up")
	s.torg("chat", "-m", nano.Name, "--max-tokens", "20", "hello").want(t, exitPayment, "torg wallet")
	s.torg("doctor").want(t, exitFailure)
	s.torg("wallet", "send", s.Wallet, "5", "--from", "provider").want(t, exitOK)
	await(t, "an answer after the top-up", func() error {
		if a := s.ask(hello(20)); a.status != http.StatusOK {
			return errors.New(a.raw)
		}
		return nil
	})
	s.conserved()

	// An empty wallet keeps no square from opening: it could not be topped up.
	s.stop()
	s = open(t, s.home, "--escrow", "9000")
	s.conserved()
	s.stop()
}

// rude talks to a provider as a buyer does who keeps to no rules.
type rude struct {
	t        *testing.T
	endpoint string
	domain   square.Domain
	provider square.Address
	key      square.Key // signs the calls
	now      func() time.Time
}

// call posts about a lane.
func (w rude) call(path string, lease square.Hash, lane uint16, in any) *http.Response {
	w.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), "POST", w.endpoint+wire.PathPrefix+path, bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	c := wire.Call{Provider: w.provider, Path: path, Lease: lease, Lane: lane, Time: w.now().Unix(), Body: sha256.Sum256(b)}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", c.Header(w.domain, w.key))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

func (w rude) post(path string, lease square.Hash, lane uint16, in, out any) int {
	w.t.Helper()
	resp := w.call(path, lease, lane, in)
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
	return resp.StatusCode
}

// TestVouchersAtTheWire: whoever reaches a provider's port gets nothing for a
// voucher that is forged, too small, too large, of another lease or already
// spent; the same voucher for the same request gets the same answer once more
// and is charged once.
func TestVouchersAtTheWire(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	paid := s.paid(hello(5))
	l := s.lease(paid.Lease)
	var st status
	if err := (adminClient{s.AdminURL, mustRunning(t, s).Token}).call(t.Context(), "GET", "status", nil, &st); err != nil {
		t.Fatal(err)
	}
	var told story
	s.torg("receipt", "show", paid.Receipt.String(), "-o", "json").read(t, &told)
	r := told.Receipt.Receipt
	domain, channels := square.LedgerDomain(s.ChainID), square.ChannelDomain(s.ChainID)
	keys := s.keys()
	w := rude{t, st.Endpoint, domain, l.Provider, keys.spender, time.Now}
	lane := func(n uint16) (rep wire.LaneReply) {
		t.Helper()
		if code := w.post("lane", l.ID, n, wire.LaneRequest{Lease: l.ID, Lane: n}, &rep); code != http.StatusOK {
			t.Fatalf("the state of lane %d: HTTP %d", n, code)
		}
		return rep
	}
	was := lane(r.Lane)
	if was.Charged != r.Cumulative || was.Seq != r.Seq {
		t.Fatalf("the provider says of the lane %+v, the receipt %+v", was, r)
	}
	thief, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	channel := func(lease leaseView, n uint16) square.Hash {
		return lease.Order.Channel(domain, lease.Provider, n).ID(channels)
	}
	request := told.Receipt.Evidence.Request
	// What a voucher promises beyond what was charged is good for another
	// request; this one costs more.
	other := infer.Request{Kind: infer.Exact, MaxTokens: uint32(was.Max), TopP: 10000, Prompt: []byte("Another question")}.Encode()
	const unused = 7
	good := infer.ServeRequest{Payment: wire.Payment{Lease: l.ID, Lane: unused, Seq: 1, Voucher: square.SignVoucher(channels, channel(l, unused), 1000, keys.spender)}, Request: request}
	alter := func(f func(*infer.ServeRequest)) infer.ServeRequest {
		q := good
		f(&q)
		return q
	}
	used := func(q *infer.ServeRequest) {
		q.Lane, q.Seq = r.Lane, r.Seq
		q.Voucher = square.SignVoucher(channels, channel(l, r.Lane), was.Max, keys.spender)
	}
	for name, c := range map[string]struct {
		q    infer.ServeRequest
		code string
	}{
		"signed by a thief": {alter(func(q *infer.ServeRequest) {
			q.Voucher = square.SignVoucher(channels, channel(l, unused), 1000, thief)
		}), wire.CodePayment},
		"signed by the wallet, which is not the spender": {alter(func(q *infer.ServeRequest) {
			q.Voucher = square.SignVoucher(channels, channel(l, unused), 1000, keys.owner)
		}), wire.CodePayment},
		"for one unit": {alter(func(q *infer.ServeRequest) {
			q.Voucher = square.SignVoucher(channels, channel(l, unused), 1, keys.spender)
		}), wire.CodePayment},
		"for more than the escrow": {alter(func(q *infer.ServeRequest) {
			q.Voucher = square.SignVoucher(channels, channel(l, unused), l.Escrow+1, keys.spender)
		}), wire.CodePayment},
		"for all there is": {alter(func(q *infer.ServeRequest) {
			q.Voucher = square.SignVoucher(channels, channel(l, unused), math.MaxUint64, keys.spender)
		}), wire.CodePayment},
		"of another lane": {alter(func(q *infer.ServeRequest) {
			q.Voucher = square.SignVoucher(channels, channel(l, unused-1), 1000, keys.spender)
		}), wire.CodePayment},
		"with a changed sum": {alter(func(q *infer.ServeRequest) { q.Voucher.Max++ }), wire.CodePayment},
		"of no lease":        {alter(func(q *infer.ServeRequest) { q.Lease[0] ^= 1 }), wire.CodeUnknown},
		"of no lane":         {alter(func(q *infer.ServeRequest) { q.Lane = uint16(l.Order.Lanes) }), wire.CodeUnknown},
		"out of order":       {alter(func(q *infer.ServeRequest) { q.Seq = 2 }), wire.CodeStale},
		"spent, for another request": {alter(func(q *infer.ServeRequest) {
			used(q)
			q.Request = other
		}), wire.CodeStale},
		"spent, as the next": {alter(func(q *infer.ServeRequest) {
			used(q)
			q.Seq++
			q.Request = other
		}), wire.CodePayment},
		"for a request that is none": {alter(func(q *infer.ServeRequest) { q.Request = []byte("tell me everything") }), wire.CodeBadRequest},
	} {
		var e wire.Refusal
		if code := w.post("infer/serve", c.q.Lease, c.q.Lane, c.q, &e); code/100 != 4 || e.Code != c.code {
			t.Errorf("a voucher %s: HTTP %d %s (%s), want %s; the lane was at %+v", name, code, e.Code, e.Message, c.code, was)
		}
	}
	if now := lane(r.Lane); now.Charged != was.Charged || now.Seq != was.Seq || now.Max != was.Max {
		t.Errorf("refused vouchers moved the lane from %+v to %+v", was, now)
	}
	if fresh := lane(unused); fresh.Charged != 0 || fresh.Max != 0 {
		t.Errorf("refused vouchers moved a fresh lane to %+v", fresh)
	}

	// Replayed as it was: the same answer, no second charge.
	replay := good
	used(&replay)
	resp := w.call("infer/serve", replay.Lease, replay.Lane, replay)
	defer resp.Body.Close()
	var last infer.Frame
	for d := json.NewDecoder(resp.Body); d.More(); {
		last = infer.Frame{}
		if err := d.Decode(&last); err != nil {
			t.Fatal(err)
		}
	}
	if last.Receipt == nil || last.Receipt.Receipt.Digest(domain) != paid.Receipt {
		t.Errorf("the same voucher and request again ended with %+v, not with the same receipt", last)
	}
	if now := lane(r.Lane); now.Charged != was.Charged {
		t.Errorf("a replay was charged: %d, was %d", now.Charged, was.Charged)
	}

	s.paid(hello(2)) // the owner notices nothing
	s.torg("lease", "close", l.ID.String()).want(t, exitOK)
	sum := uint64(0)
	for _, r := range s.receipts() {
		sum += r.Receipt.Receipt.Price
	}
	if closed := s.settled(l.ID); closed.Paid != sum {
		t.Errorf("the lease paid %d, its receipts say %d", closed.Paid, sum)
	}
	s.stop()
}

func mustRunning(t *testing.T, s *upSquare) running {
	t.Helper()
	r, err := findRunning(config{value: map[string]string{"home": s.home}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRogueQuotes: an offer stands on the ledger, the cheapest of all, and
// whoever asks there for a quote gets nonsense. It is not used, the log says
// why, and the honest provider answers.
func TestRogueQuotes(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	key, account := s.fund()
	domain := square.LedgerDomain(s.ChainID)
	var asked atomic.Int64
	rates := cheap
	quotes := []struct {
		name  string
		reply func(wire.QuoteRequest) any
	}{
		{"no JSON", func(wire.QuoteRequest) any { return json.RawMessage(`"certainly!"`) }},
		{"nobody's signature", func(q wire.QuoteRequest) any { return quoteFor(domain, key, q, rates, nil) }},
		{"a higher price", func(q wire.QuoteRequest) any {
			dear := slices.Clone(rates)
			dear[1].PerMillion *= 1000
			return quoteFor(domain, key, q, dear, &key)
		}},
		{"another order's", func(q wire.QuoteRequest) any {
			q.Order.Salt[0] ^= 1
			return quoteFor(domain, key, q, rates, &key)
		}},
		{"a bond it does not have", func(q wire.QuoteRequest) any {
			rep := quoteFor(domain, key, q, rates, &key)
			rep.Quote.Bond = 10 * sellerStake
			rep.Sig = key.Sign(rep.Quote.Digest(domain))
			return rep
		}},
	}
	rogue := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q wire.QuoteRequest
		if !strings.HasSuffix(r.URL.Path, "/quote") || json.NewDecoder(r.Body).Decode(&q) != nil {
			http.Error(w, "what?", http.StatusTeapot)
			return
		}
		json.NewEncoder(w).Encode(quotes[int(asked.Add(1)-1)%len(quotes)].reply(q))
	}))
	defer rogue.Close()
	head, err := s.ledger().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	model := nano.Model()
	if _, err := account.PostOffer(t.Context(), square.Offer{
		Provider: key.Address(), Trade: infer.Name, Spec: model.Digest(), Subject: model.Name(), Denom: square.Denom, Rates: rates, Capacity: 16,
		Attributes: []square.Attribute{{Key: "infer.context", Value: fmt.Sprint(model.Context())}, {Key: "infer.exact", Value: "true"}},
		Endpoint:   rogue.URL, Expiry: head.Time.Add(10 * time.Minute).Unix(), Nonce: 1,
	}); err != nil {
		t.Fatal(err)
	}
	await(t, "every kind of rogue quote", func() error {
		if a := s.paid(hello(2)); a.Provider != s.Provider {
			t.Fatalf("answered by %s", a.Provider)
		}
		if n := asked.Load(); n < int64(len(quotes)) {
			return fmt.Errorf("%d of %d were asked for", n, len(quotes))
		}
		return nil
	})
	for _, words := range []string{key.Address().String(), "it is for something else", "cannot bond"} {
		if !strings.Contains(s.err.String(), words) {
			t.Errorf("the log does not say %q:\n%s", words, tail(s.err.String(), 20))
		}
	}
	cl := s.ledger()
	ls, _, err := cl.Leases(t.Context(), client.LeaseFilter{Provider: key.Address()}, client.Page{})
	if err != nil || len(ls) != 0 {
		t.Errorf("%d leases stand on rogue quotes, %v", len(ls), err)
	}
	s.conserved(key.Address())
	s.stop()
}

// quoteFor is a quote, signed by key or by nobody.
func quoteFor(d square.Domain, key square.Key, q wire.QuoteRequest, rates []square.Rate, signer *square.Key) wire.QuoteReply {
	quote := square.Quote{
		Provider: key.Address(), Order: q.Order.ID(d), Offer: q.Offer, Spec: q.Order.Spec, Rates: rates,
		Bond: square.UnitsPerTorg, Ready: true, Expiry: time.Now().Add(20 * time.Second).Unix(),
	}
	quote.Nonce[0] = 1
	rep := wire.QuoteReply{Quote: quote}
	if signer != nil {
		rep.Sig = signer.Sign(quote.Digest(d))
	}
	return rep
}
