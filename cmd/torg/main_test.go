package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/tradetest/echo"
)

// The tests drive torg as its users do: as processes, which can be interrupted
// and killed. The test binary is the command when asDeed is set, so nothing
// else is linked.
const (
	asDeed     = "TORG_TEST_AS"
	asCommand  = "command"
	asProvider = "provider"
)

func TestMain(m *testing.M) {
	deed := os.Getenv(asDeed)
	os.Unsetenv(asDeed)
	switch deed {
	case "":
		// They wait more than they work.
		flag.Parse()
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	case asCommand:
		main()
	case asProvider:
		provideForTest()
	case asMarket:
		kits = append(kits, echo.Kit) // the line that adds a trade
		main()
	}
}

// patience bounds every wait for something that must come. It is long because
// the machine may be busy; nothing waits it out unless it fails.
const patience = 3 * time.Minute

// command is a torg process in the making: not started, no terminal, and none
// of this process's own settings.
func command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TORG_") && !strings.HasPrefix(e, "OPENAI_") {
			c.Env = append(c.Env, e)
		}
	}
	c.Env = append(c.Env, asDeed+"="+asCommand)
	c.WaitDelay = 10 * time.Second
	return c
}

// outcome is how a torg command ended.
type outcome struct {
	args     []string
	out, err string
	code     int
}

func (o outcome) String() string {
	return fmt.Sprintf("torg %s: exit code %d\n--- stdout\n%s--- stderr\n%s", strings.Join(o.args, " "), o.code, o.out, o.err)
}

// run runs a command to its end. Whatever it prints, it prints no escape
// sequences: it has no terminal.
func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return finish(t, command(args...))
}

func finish(t *testing.T, c *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(patience, func() { c.Process.Signal(syscall.SIGQUIT) }) // its stacks tell where
	err := c.Wait()
	o := outcome{args: c.Args[1:], out: stdout.String(), err: stderr.String(), code: c.ProcessState.ExitCode()}
	if !hung.Stop() {
		t.Fatalf("no end after %s: %v", patience, o)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", err, o)
	}
	if strings.Contains(o.out+o.err, "\x1b") {
		t.Errorf("escape sequences without a terminal: %q", o.out+o.err)
	}
	return o
}

// want fails the test unless the command ended with the code, and said the
// words on stderr.
func (o outcome) want(t *testing.T, code int, words ...string) outcome {
	t.Helper()
	if o.code != code {
		t.Fatalf("exit code %d, want %d, of %v", o.code, code, o)
	}
	for _, w := range words {
		if !strings.Contains(o.err, w) {
			t.Fatalf("%q is missing in the words of %v", w, o)
		}
	}
	return o
}

// read decodes the command's JSON.
func (o outcome) read(t *testing.T, v any) {
	t.Helper()
	o.want(t, exitOK)
	if err := json.Unmarshal([]byte(o.out), v); err != nil {
		t.Fatalf("not the JSON it should be: %v, of %v", err, o)
	}
}

// lines gathers what a process prints while it runs.
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

// anyPorts are the settings of a square that disturbs no other.
func anyPorts(home string) []string {
	args := []string{"--home", home}
	for _, n := range []string{"gateway-addr", "provider-addr", "rpc-addr", "grpc-addr", "rest-addr"} {
		args = append(args, "--"+n, "127.0.0.1:0")
	}
	return args
}

// process is a torg that runs until it is told to end.
type process struct {
	cmd      *exec.Cmd
	out, err *lines
	ended    chan struct{}
}

// begin starts a process that the test ends, at the latest with itself.
func begin(t *testing.T, c *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: c, out: &lines{}, err: &lines{}, ended: make(chan struct{})}
	c.Stdout, c.Stderr = p.out, p.err
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = c.Wait() // its state tells
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("torg %s said:\n%s", strings.Join(c.Args[1:], " "), tail(p.err.String(), 60))
		}
	})
	return p
}

func tail(s string, n int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// interrupt is Ctrl-C; it returns the exit code.
func (p *process) interrupt(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("it ended before it was interrupted: %v\n%s", err, tail(p.err.String(), 30))
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.ended
		t.Fatalf("Ctrl-C did not end it in %s:\n%s", patience, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// upSquare is a running torg up.
type upSquare struct {
	*process
	greeting
	t    *testing.T
	home string
}

// open opens a square on the home and waits for its greeting.
func open(t *testing.T, home string, flags ...string) *upSquare {
	t.Helper()
	return openAs(t, asCommand, home, flags...)
}

// openAs is open in a process that does another deed.
func openAs(t *testing.T, deed, home string, flags ...string) *upSquare {
	t.Helper()
	s := &upSquare{t: t, home: home}
	c := command(append(append([]string{"up", "-o", "json", "--log-level", "warn"}, anyPorts(home)...), flags...)...)
	c.Env = append(c.Env, asDeed+"="+deed)
	s.process = begin(t, c)
	await(t, "the greeting", func() error {
		select {
		case <-s.ended:
			t.Fatalf("torg up ended with code %d:\n%s", s.cmd.ProcessState.ExitCode(), s.err)
		default:
		}
		return json.Unmarshal([]byte(s.out.String()), &s.greeting)
	})
	return s
}

// stop closes the square in order.
func (s *upSquare) stop() {
	s.t.Helper()
	if code := s.interrupt(s.t); code != exitOK {
		s.t.Fatalf("after Ctrl-C torg up ended with code %d:\n%s", code, s.err)
	}
}

// torg runs another command on the square's home.
func (s *upSquare) torg(args ...string) outcome {
	s.t.Helper()
	return run(s.t, append(args, "--home", s.home)...)
}

// ledger is a client of the square's ledger.
func (s *upSquare) ledger() *client.Client {
	s.t.Helper()
	cl, err := client.Dial(s.t.Context(), s.RPC, client.Options{Trades: trades()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(cl.Close)
	return cl
}

// keys are those of the square's home.
func (s *upSquare) keys() keyring {
	s.t.Helper()
	k, err := openKeyring(config{value: map[string]string{"home": s.home}}, false)
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

// await asks until the answer is no error.
func await(t *testing.T, what string, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	t.Fatalf("%s did not come in %s: %v", what, patience, err)
}

// answer is what the OpenAI API says.
type answer struct {
	status int
	header http.Header
	raw    string

	Model   string `json:"model"`
	Choices []struct {
		Message struct {
			Content string `json:"content"`
		} `json:"message"`
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Details    struct {
			Amount uint64 `json:"amount,string"`
		} `json:"cost_details"`
	} `json:"usage"`
	Provider string      `json:"provider"`
	Lease    square.Hash `json:"lease"`
	Receipt  square.Hash `json:"receipt"`
	Error    *struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    string `json:"code"`
	} `json:"error"`
}

func (a answer) String() string { return fmt.Sprintf("HTTP %d: %s", a.status, a.raw) }

// body is a chat request.
type body map[string]any

// hello asks the bundled model for a few tokens.
func hello(tokens int) body {
	return body{"model": nano.Name, "max_tokens": tokens, "messages": []chatMessage{{"user", "It is a truth"}}}
}

func (b body) with(name string, v any) body {
	c := body{name: v}
	for k, v := range b {
		if k != name {
			c[k] = v
		}
	}
	return c
}

// askAt sends a chat request and reads the whole answer.
func askAt(ctx context.Context, base, key string, b body) (answer, error) {
	resp, err := post(ctx, base, key, b)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(raw, &a)
}

func post(ctx context.Context, base, key string, b body) (*http.Response, error) {
	return openAIClient{base: base, key: key}.callRaw(ctx, b)
}

// callRaw is call for those who look at refusals themselves.
func (a openAIClient) callRaw(ctx context.Context, b body) (*http.Response, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", a.base+"/chat/completions", bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	req.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(req)
}

// ask asks with the owner's key; any answer is fine.
func (s *upSquare) ask(b body) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	a, err := askAt(ctx, s.BaseURL, s.APIKey, b)
	if err != nil {
		s.t.Fatalf("ask %s: %v (%v)", s.BaseURL, err, a)
	}
	return a
}

// paid asks for a few tokens, which must be answered, and paid for.
func (s *upSquare) paid(b body) answer {
	s.t.Helper()
	a := s.ask(b)
	if a.status != http.StatusOK || a.Usage == nil || a.Usage.Completion == 0 || a.Usage.Details.Amount == 0 || a.Receipt.IsZero() {
		s.t.Fatalf("no paid answer, but %v", a)
	}
	return a
}

// lease is the story of a lease, by the command line.
func (s *upSquare) lease(id square.Hash) (l leaseView) {
	s.t.Helper()
	s.torg("lease", "show", id.String(), "-o", "json").read(s.t, &l)
	return l
}

// receipts are the stories of the newest receipts.
func (s *upSquare) receipts() (rs []story) {
	s.t.Helper()
	var list []json.RawMessage
	s.torg("receipt", "list", "-n", "1000", "-o", "json").read(s.t, &list)
	for _, raw := range list {
		var r story
		if err := json.Unmarshal(raw, &r.Receipt); err != nil {
			s.t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// conserved checks the ledger's own audit of all money, and that what the
// square's two accounts and the others own, wherever it lies, is what the two
// began with, less what was burned.
func (s *upSquare) conserved(others ...square.Address) {
	s.t.Helper()
	ctx, cl := s.t.Context(), s.ledger()
	// The pots are read one after the other, so between two blocks.
	await(s.t, "a look at all pots between two blocks", func() error {
		before, err := cl.Head(ctx)
		if err != nil {
			return err
		}
		sup, err := cl.Supply(ctx, square.Denom)
		if err != nil {
			return err
		}
		own := uint64(0)
		k := s.keys()
		for _, who := range append([]square.Address{k.owner.Address(), k.provider.Address()}, others...) {
			b, err := cl.Balance(ctx, who, square.Denom)
			if err != nil {
				return err
			}
			own += b.Units
		}
		own += sup.Escrow + sup.Stake
		after, err := cl.Head(ctx)
		if err != nil {
			return err
		}
		if after.Height != before.Height {
			return fmt.Errorf("block %d came while the pots were read", after.Height)
		}
		if !sup.Balanced || sup.Accounts+sup.Escrow+sup.Stake+sup.Challenges+sup.Channels+sup.Treasury+sup.Validators+sup.Other != sup.Total {
			s.t.Fatalf("the ledger's pots do not sum to the supply: %+v", sup)
		}
		if want := uint64((walletFunds + providerFunds) * square.UnitsPerTorg); own+sup.Burned+sup.Treasury+sup.Other != want {
			s.t.Fatalf("wallet, provider, escrow, stake, burned, treasury and the validators' tips are %d, and %d were given out: %+v", own+sup.Burned+sup.Treasury+sup.Other, want, sup)
		}
		return nil
	})
}

// settled waits for a lease to have ended as it should.
func (s *upSquare) settled(id square.Hash) leaseView {
	s.t.Helper()
	l := s.lease(id)
	if l.State != market.Settled || l.Escrow != 0 || l.Bond != 0 {
		s.t.Fatalf("lease %s is not settled but %s, escrow %d, bond %d", id.Short(), l.State, l.Escrow, l.Bond)
	}
	return l
}

// damage replaces a file, or what is in its way, by something else.
func damage(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
