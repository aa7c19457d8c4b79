// Package attacks robs a square: each test opens a real torg up, with the
// defaults that people get, attacks it from outside with a small program of the
// attacker's own, and then asks the same of every attack:
//
//   - the honest, who are the square's own provider and its own buyer, have
//     lost at most one voucher interval, which is the most that one request may
//     cost, or what is not worth its redemption;
//   - the attacker has a loss: its balances, its stake and the price of all
//     work it was handed come to less than what it began with;
//   - the ledger's own audit of all money balances;
//   - an honest request is still answered, and Ctrl-C ends everything.
//
// go test ./test/attacks -v prints a table of all attacks; with -long also of
// those that take minutes, and -report writes it to a file.
package attacks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/proof"
	"github.com/torg-network/torg/trade/infer/replay"
)

// patience bounds every wait for something that must come.
const patience = 60 * time.Second

// place is a square that is attacked: a torg up in a home of its own.
type place struct {
	t    *testing.T
	home string
	args []string

	process *exec.Cmd
	said    *lines
	ended   chan struct{}

	BaseURL  string         `json:"base_url"`
	APIKey   string         `json:"api_key"`
	AdminURL string         `json:"admin_url"`
	RPC      string         `json:"rpc"`
	GRPC     string         `json:"grpc"`
	REST     string         `json:"rest"`
	ChainID  string         `json:"chain_id"`
	Wallet   square.Address `json:"wallet"`
	Provider square.Address `json:"provider"`

	ledger *client.Client
	owner  *client.Account // the square's own buyer, who also gives thieves their money
	seller string          // where the square's provider listens

	staked  uint64 // by the provider, before the attack
	thieves []*thief
	work    *workload
}

// lines keeps what a process says.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open opens a square and lets its own buyer ask it now and then until the
// attack is over.
func open(t *testing.T, flags ...string) *place {
	t.Helper()
	p := &place{t: t, home: t.TempDir(), args: flags}
	p.start()
	p.staked = p.stake(p.Provider)
	p.work = p.honest()
	return p
}

// start runs torg up on the home and waits until it has greeted.
func (p *place) start() {
	p.t.Helper()
	args := []string{"up", "-o", "json", "--log-level", "warn", "--home", p.home}
	for _, n := range []string{"gateway", "provider", "rpc", "grpc", "rest"} {
		args = append(args, "--"+n+"-addr", "127.0.0.1:0")
	}
	c := exec.Command(torg, append(args, p.args...)...)
	c.Env = plainEnv()
	var said lines
	p.process, p.said, p.ended = c, &said, make(chan struct{})
	var out lines
	c.Stdout, c.Stderr = &out, &said
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := p.ended
	go func() {
		defer close(ended)
		_ = c.Wait() // its state tells
	}()
	p.t.Cleanup(func() {
		_ = c.Process.Kill()
		<-ended
		if p.t.Failed() {
			p.t.Logf("torg up said:\n%s", tail(said.String(), 25))
		}
	})
	// Sixteen squares start at once here, and after a kill at any moment.
	p.awaitFor(3*patience, "the square's greeting", func() error {
		select {
		case <-ended:
			p.t.Fatalf("torg up ended with code %d:\n%s", c.ProcessState.ExitCode(), said.String())
		default:
		}
		return json.Unmarshal([]byte(out.String()), p)
	})
	cl, err := client.Dial(p.t.Context(), p.RPC, client.Options{Trades: rules()})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cl.Close)
	p.ledger, p.owner = cl, cl.Account(p.ownerKey())
	p.await("the provider's offer", func() error {
		offers, _, err := cl.Offers(p.t.Context(), client.OfferFilter{Provider: p.Provider}, client.Page{})
		if err == nil && len(offers) == 0 {
			err = errors.New("it offers nothing")
		}
		if err == nil {
			p.seller = offers[0].Offer.Endpoint
		}
		return err
	})
}

// plainEnv is this process's environment without settings of torg's.
func plainEnv() (env []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TORG_") && !strings.HasPrefix(e, "OPENAI_") {
			env = append(env, e)
		}
	}
	return env
}

func tail(s string, n int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// command runs another torg command on the home and returns what it printed.
func (p *place) command(args ...string) (string, error) {
	c := exec.CommandContext(p.t.Context(), torg, append(args, "--home", p.home)...)
	c.Env = plainEnv()
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("torg %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return out.String(), nil
}

// rules are what the ledger of torg up judges by.
var rules = sync.OnceValue(func() []trade.Rules {
	return []trade.Rules{infer.Rules{Models: []infer.Replayer{replay.Model{Model: nano.Model()}}, Verifier: proof.Verifier{}}}
})

// ownerKey is the key of the square's own wallet.
func (p *place) ownerKey() square.Key {
	var w struct {
		Mnemonic string `json:"mnemonic"`
	}
	b, err := os.ReadFile(filepath.Join(p.home, "wallet.json"))
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	k, kerr := keys.FromMnemonic(w.Mnemonic, 0)
	if err := errors.Join(err, kerr); err != nil {
		p.t.Fatal(err)
	}
	return k
}

// kill ends the square as a power cut would.
func (p *place) kill() {
	_ = p.process.Process.Kill()
	<-p.ended
	p.ledger.Close()
}

// again kills the square and opens it once more, elsewhere.
func (p *place) again() {
	p.t.Helper()
	p.work.stop()
	p.kill()
	p.start()
	for _, th := range p.thieves {
		th.acct = p.ledger.Account(th.key)
	}
	p.work.again()
}

// await asks until the answer is no error.
func (p *place) await(what string, ask func() error) {
	p.t.Helper()
	p.awaitFor(patience, what, ask)
}

func (p *place) awaitFor(d time.Duration, what string, ask func() error) {
	p.t.Helper()
	var err error
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	p.t.Fatalf("%s did not come in %s: %v", what, d, err)
}

// stake is all that an account has staked in inference.
func (p *place) stake(who square.Address) (sum uint64) {
	p.t.Helper()
	p.await("a look at the stakes", func() error {
		stakes, _, err := p.ledger.Stakes(p.t.Context(), who, infer.Name, client.Page{})
		sum = 0
		for _, s := range stakes {
			sum += s.Total
		}
		return err
	})
	return sum
}

// worth is what an account holds and has staked.
func (p *place) worth(who square.Address) (sum uint64) {
	p.t.Helper()
	p.await("a look at a balance", func() error {
		b, err := p.ledger.Balance(p.t.Context(), who, square.Denom)
		sum = b.Units
		return err
	})
	return sum + p.stake(who)
}

// workload is the square's own buyer going about its business.
type workload struct {
	p                *place
	stop             func()
	answered, failed atomic.Int64
	last             atomic.Value // error
}

// honest asks the square every now and then until it is stopped.
func (p *place) honest() *workload {
	w := &workload{p: p}
	w.again()
	return w
}

// again goes on after a stop.
func (w *workload) again() {
	ctx, cancel := context.WithCancel(w.p.t.Context())
	done := make(chan struct{})
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.p.t.Cleanup(w.stop)
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if err := w.p.ask(ctx, 4); err == nil {
				w.answered.Add(1)
			} else if ctx.Err() == nil {
				w.failed.Add(1)
				w.last.Store(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

// ask asks the gateway for a few tokens of the bundled model, which must be
// answered and paid for.
func (p *place) ask(ctx context.Context, tokens int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := p.chat(ctx, p.APIKey, fmt.Sprintf(
		`{"model":%q,"max_tokens":%d,"messages":[{"role":"user","content":"It is a truth"}]}`, nano.Name, tokens))
	return err
}

// reply is what matters of an OpenAI answer.
type reply struct {
	Choices []struct {
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
	} `json:"choices"`
	Usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Details    struct {
			Amount uint64 `json:"amount,string"`
		} `json:"cost_details"`
	} `json:"usage"`
	Provider string      `json:"provider"`
	Lease    square.Hash `json:"lease"`
	Receipt  square.Hash `json:"receipt"`
}

// chat posts a chat request with a key.
func (p *place) chat(ctx context.Context, key, body string) (a reply, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.BaseURL+"/chat/completions", strings.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return a, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("HTTP %d: %s", resp.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, err
	}
	if a.Receipt.IsZero() || a.Usage.Completion == 0 {
		return a, fmt.Errorf("no paid answer, but %s", raw)
	}
	return a, nil
}

// delay is how many blocks an honest account's smallest transfer takes, from the
// newest block before it is signed to the one that holds it.
func (p *place) delay(a *client.Account) (int64, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 90*time.Second)
	defer cancel()
	before, err := p.ledger.Head(ctx)
	if err != nil {
		return 0, err
	}
	r, err := a.Send(ctx, p.Wallet, square.Utorg(1))
	return r.Height - before.Height, err
}

// after is what is asked once an attack is over, and what the report says of it.
// o names the attack and says what the attacker has done; loss and interval are
// added to what its leases with the square's provider show.
func (p *place) after(o outcome) {
	t := p.t
	t.Helper()
	o.held = !t.Failed()
	broken := func(format string, a ...any) {
		t.Helper()
		o.held = false
		t.Errorf(format, a...)
	}
	p.await("an answer to the square's own buyer", func() error {
		if p.work.answered.Load() == 0 {
			return fmt.Errorf("none, and %d of its requests have failed: %v", p.work.failed.Load(), p.work.last.Load())
		}
		return nil
	})
	p.work.stop()
	for _, th := range p.thieves {
		o.paid = true
		owed, interval := th.end()
		o.loss += owed
		o.interval = max(o.interval, interval)
	}
	for _, th := range p.thieves {
		o.profit += int64(p.worth(th.addr)) + int64(th.open()) + int64(th.got.Load()) - int64(th.began)
	}
	if s := p.stake(p.Provider); s < p.staked {
		o.loss += int64(p.staked - s)
		o.note = strings.TrimPrefix(fmt.Sprintf("%s; the provider's stake fell by %d", o.note, p.staked-s), "; ")
	}
	// Who was let do nothing has had nothing to lose either.
	if acted := slices.ContainsFunc(p.thieves, func(th *thief) bool { return th.acts.Load() > 0 }); o.profit > 0 || o.profit == 0 && acted {
		broken("the attacker's profit is %d utorg, and should be a loss", o.profit)
	}
	// What is less than its redemption costs is not worth having: nobody redeems it.
	dust, err := p.owner.RedeemFee(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if o.loss > int64(max(o.interval, dust)) {
		broken("the honest lost %d utorg; one voucher interval is %d, a redemption costs %d", o.loss, o.interval, dust)
	}
	if err := p.balanced(); err != nil {
		broken("%v", err)
	}
	p.awaitFor(patience, "an honest answer after the attack", func() error { return p.ask(t.Context(), 4) })
	if err := p.stop(); err != nil {
		broken("%v", err)
	}
	results.add(o)
	t.Logf("%s: %s: profit %d, honest loss %d, one interval %d; %s", o.actor, o.name, o.profit, o.loss, o.interval, o.note)
}

// balanced asks for the ledger's audit of all money, between two blocks.
func (p *place) balanced() error {
	var bad error
	p.await("a look at all pots between two blocks", func() error {
		ctx := p.t.Context()
		before, err := p.ledger.Head(ctx)
		if err != nil {
			return err
		}
		s, err := p.ledger.Supply(ctx, square.Denom)
		if err != nil {
			return err
		}
		after, err := p.ledger.Head(ctx)
		if err != nil {
			return err
		}
		if after.Height != before.Height {
			return errors.New("a block came meanwhile")
		}
		if !s.Balanced || s.Accounts+s.Escrow+s.Stake+s.Challenges+s.Channels+s.Treasury+s.Validators+s.Other != s.Total {
			bad = fmt.Errorf("the ledger's pots do not sum to the supply: %+v", s)
		}
		return nil
	})
	return bad
}

// stop is Ctrl-C: everything must have ended, and no port be open.
func (p *place) stop() error {
	p.ledger.Close()
	if err := p.process.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("the square ended before it was stopped: %w", err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		return fmt.Errorf("Ctrl-C did not end the square in %s", patience)
	}
	if code := p.process.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("after Ctrl-C the square ended with code %d", code)
	}
	for _, url := range []string{p.AdminURL, p.RPC, p.REST, p.seller} {
		if c, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), time.Second); err == nil {
			c.Close()
			return fmt.Errorf("%s is still open after the end", url)
		}
	}
	return nil
}
