// Package clients_test runs unmodified outside clients against torg. The
// clients are npm packages, installed from the lockfile beside this file:
//
//	npm --prefix test/clients ci
//	go test ./test/clients
//
// With TORG_BASE_URL and TORG_API_KEY set, the OpenAI client talks to that
// address (a running `torg up`); otherwise to a gateway started here. Without
// node, or before npm ci, the tests are skipped and say so; with CI=true they
// fail instead.
package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/torg-network/torg/gateway"
	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/gateway/openai"
	"github.com/torg-network/torg/gateway/sellertest"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer/buyer"
)

// skipped counts what could not be tested on this machine.
var skipped []string

func TestMain(m *testing.M) {
	code := m.Run()
	if len(skipped) > 0 {
		fmt.Printf("test/clients: %d of the outside clients were not tested: %s\n", len(skipped), strings.Join(skipped, "; "))
	}
	os.Exit(code)
}

// lack skips a test that needs what is not here, unless this is CI.
func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI=true allows no skipping", what)
	}
	skipped = append(skipped, t.Name()+": "+what)
	t.Skip(what)
}

// node runs a script of this folder and returns what it printed to stdout.
func node(t *testing.T, env map[string]string, args ...string) []byte {
	t.Helper()
	bin, err := exec.LookPath("node")
	if err != nil {
		lack(t, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join("node_modules", "openai")); err != nil {
		lack(t, "the npm packages are not installed (npm --prefix test/clients ci)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s\n%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return out
}

// counts reads the summary of node's TAP report.
func counts(t *testing.T, out []byte) (pass, skip int) {
	t.Helper()
	for what, n := range map[string]*int{"pass": &pass, "skipped": &skip} {
		m := regexp.MustCompile(`(?m)^# ` + what + ` (\d+)$`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("node's report has no %q:\n%s", what, out)
		}
		fmt.Sscan(string(m[1]), n)
	}
	return pass, skip
}

// serve opens a gateway over a seller and returns the environment of a client:
// its address and three keys.
func serve(t *testing.T, seller buyer.Seller, stats func() any) map[string]string {
	t.Helper()
	ks, err := keys.Open(filepath.Join(t.TempDir(), "keys.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := func(g keys.Grant) string {
		s, _, err := ks.Create(g)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	little := uint64(2)
	api, err := openai.New(openai.Config{Seller: seller, Keys: ks, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{
		Doors: map[string]http.Handler{"/v1/": api}, Keys: ks,
		Log: slog.New(slog.DiscardHandler),
		Routes: map[string]http.Handler{"GET /stats": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(stats())
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := ks.Close(); err != nil {
			t.Error(err)
		}
	})
	base := "http://" + ln.Addr().String()
	return map[string]string{
		"TORG_BASE_URL": base + "/v1", "TORG_API_KEY": secret(keys.Grant{}), "TORG_STATS": base + "/stats",
		"TORG_POOR_KEY": secret(keys.Grant{Budget: &little}), "TORG_RATED_KEY": secret(keys.Grant{Requests: 1}),
	}
}

// start opens a gateway over the test market.
func start(t *testing.T) map[string]string {
	t.Helper()
	seller := sellertest.New()
	env := serve(t, seller, func() any { return map[string]int64{"running": seller.Running.Load()} })
	env["TORG_MODEL"], env["TORG_UPSTREAM"], env["TORG_SLOW"] = sellertest.Tiny, sellertest.Upstream, sellertest.Slow
	return env
}

// TestOpenAI runs the npm client against TORG_BASE_URL, or the test market.
func TestOpenAI(t *testing.T) {
	var env map[string]string
	if os.Getenv("TORG_BASE_URL") == "" {
		env = start(t)
	}
	scenarios(t, env)
}

func scenarios(t *testing.T, env map[string]string) {
	t.Helper()
	pass, skip := counts(t, node(t, env, "--test", "--test-reporter=tap", "openai.test.mjs"))
	if pass < 15 {
		t.Errorf("only %d scenarios ran", pass)
	}
	if env != nil && skip > 0 {
		t.Errorf("%d scenarios were skipped", skip)
	}
	t.Logf("%d scenarios passed, %d skipped", pass, skip)
}

// TestViem: what viem signs as typed data is what square verifies, and the
// channel id it computes is square's.
func TestViem(t *testing.T) {
	const chain = "torg-clients-1"
	var salt, nonce square.Hash
	salt[3], nonce[31] = 9, 1
	owner, err := square.KeyFromBytes(append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	receiver := square.Address{0xab, 19: 0xcd}
	channel := square.ChannelConfig{Payer: owner.Address(), PayerAuthorizer: owner.Address(), Receiver: receiver,
		ReceiverAuthorizer: receiver, Token: square.TokenAddress(square.Denom), WithdrawDelay: 900, Salt: salt}
	d := square.ChannelDomain(chain)
	deposit := square.Deposit{Owner: owner.Address(), Channel: channel.ID(d), Receiver: receiver,
		Amount: square.Utorg(12_345_678), Nonce: nonce, Expiry: 1_900_000_000}
	const max = uint64(1<<53 + 1) // not a JavaScript number: it must travel as a string
	in, err := json.Marshal(map[string]any{
		"key": fmt.Sprintf("0x%x", owner.Bytes()), "chainId": square.NetworkID(chain), "contract": square.ChannelContract.Hex(),
		"ledgerSalt": "0x" + square.Keccak([]byte(chain)).String(),
		"channel": map[string]any{"payer": channel.Payer.Hex(), "payerAuthorizer": channel.PayerAuthorizer.Hex(), "receiver": receiver.Hex(),
			"receiverAuthorizer": receiver.Hex(), "token": channel.Token.Hex(), "withdrawDelay": channel.WithdrawDelay, "salt": "0x" + salt.String()},
		"max": fmt.Sprint(max),
		"deposit": map[string]any{"owner": owner.Address().Hex(), "channel": "0x" + deposit.Channel.String(), "receiver": receiver.Hex(),
			"denom": square.Denom, "amount": fmt.Sprint(deposit.Amount.Units), "nonce": "0x" + nonce.String(), "expiry": fmt.Sprint(deposit.Expiry)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Address   string
		ChannelID square.Hash
		Voucher   square.Signature
		Deposit   square.Signature
		Digest    square.Hash
	}
	if err := json.Unmarshal(node(t, map[string]string{"TORG_IN": string(in)}, "viem.mjs"), &got); err != nil {
		t.Fatal(err)
	}
	if !strings.EqualFold(got.Address, owner.Address().Hex()) {
		t.Errorf("viem's account is %s, ours %s", got.Address, owner.Address().Hex())
	}
	if got.ChannelID != channel.ID(d) {
		t.Errorf("viem's channel id is %s, ours %s", got.ChannelID, channel.ID(d))
	}
	v := square.Voucher{Channel: channel.ID(d), Max: max, Sig: got.Voucher}
	if err := v.Verify(d, owner.Address()); err != nil {
		t.Errorf("viem's voucher: %v", err)
	}
	v.Max--
	if err := v.Verify(d, owner.Address()); err == nil {
		t.Error("viem's voucher verifies for another sum")
	}
	if ours := square.SignVoucher(d, channel.ID(d), max, owner); ours.Sig != got.Voucher {
		t.Error("viem and square sign the same voucher differently")
	}
	ledger := square.LedgerDomain(chain)
	if got.Digest != deposit.Digest(ledger) {
		t.Errorf("viem's deposit digest is %s, ours %s", got.Digest, deposit.Digest(ledger))
	}
	if err := deposit.Verify(ledger, got.Deposit); err != nil {
		t.Errorf("viem's deposit: %v", err)
	}
	if err := deposit.Verify(square.LedgerDomain("other"), got.Deposit); err == nil {
		t.Error("viem's deposit verifies on another ledger")
	}
}

// TestOpenAIGo runs the module in openaigo, which takes minutes to compile, so
// only on request or in CI.
func TestOpenAIGo(t *testing.T) {
	if os.Getenv("TORG_OPENAI_GO") == "" && os.Getenv("CI") != "true" {
		lack(t, "openai-go takes minutes to compile (set TORG_OPENAI_GO=1)")
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "./...")
	cmd.Dir = "openaigo"
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if os.Getenv("TORG_BASE_URL") == "" {
		for k, v := range start(t) {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
