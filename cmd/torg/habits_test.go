//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/exact/onnx"
	networks "github.com/torg-network/torg/exact/onnx/shape"
	"github.com/torg-network/torg/square"
)

// TestHabits: every command that tells something tells it to people, in JSON
// and in YAML; exit codes say what went wrong; and the square answers whoever
// watches it.
func TestHabits(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "home")) // it makes that one private
	a := s.paid(hello(4))
	receipt, lease := a.Receipt.String(), a.Lease.String()
	var made struct {
		Key struct {
			ID string `json:"id"`
		} `json:"key"`
	}
	s.torg("key", "create", "-o", "json").read(t, &made)
	evidence := filepath.Join(t.TempDir(), "evidence.json")
	damage(t, evidence, s.torg("receipt", "show", receipt, "-o", "json").out)

	proof := filepath.Join(t.TempDir(), "answer.torgproof")
	network := filepath.Join(t.TempDir(), "net.onnx")
	damage(t, network, string(onnx.Encode(networks.MLP{4, 8, 3}.Model(1))))
	tellers := map[string][]string{
		"torg chat":           {"-m", nano.Name, "--max-tokens", "4", "It is"},
		"torg wallet":         nil,
		"torg wallet file":    nil,
		"torg wallet history": nil,
		"torg wallet send":    {s.Provider, "0.5"},
		"torg key create":     {"another", "--budget", "2", "--rpm", "9"},
		"torg key list":       nil,
		"torg key budget":     {made.Key.ID, "3"},
		"torg key revoke":     {made.Key.ID},
		"torg offers":         nil,
		"torg order list":     nil,
		"torg lease list":     {"--all"},
		"torg lease show":     {lease},
		"torg receipt list":   nil,
		"torg receipt show":   {receipt},
		"torg audit":          {receipt},
		"torg prove":          {"--text", "It is", "--max-tokens", "4", "--out", proof},
		"torg verify":         {proof}, // of torg prove, which comes first
		"torg model list":     nil,
		"torg model card":     nil,
		"torg model add":      {network, "--domain=-1,1"},
		"torg console":        nil,
		"torg provide status": nil,
		"torg provide limit":  {"50"},
		"torg provide resume": nil,
		"torg provide pause":  nil, // TestPause is about it: here others ask
		"torg judge on":       nil,
		"torg judge off":      {"infer"},
		"torg judge status":   nil,
		"torg doctor":         nil,
		"torg config explain": nil,
		"torg version":        nil,
		"torg lease close":    nil, // TestTenThousandRequests reads its JSON's like, and one lease closes once
		"torg up":             nil, // every test reads its JSON
		// Others' tests, and too long or with a form of their own.
		"torg order place": nil, "torg order show": nil, // TestOrder has a trade of results,
		"torg order watch": nil, "torg order accept": nil, "torg order challenge": nil, // and TestReview
		"torg bench reverse-proxy": nil, // the bench's own
		"torg train":               nil, "torg bench": nil, "torg ledger init": nil, "torg ledger start": nil, "torg ledger join": nil, "torg ledger export": nil,
	}
	elsewhere := []string{"torg order place", "torg order show", "torg order watch", "torg order accept", "torg order challenge", "torg bench reverse-proxy", "torg provide pause", "torg lease close", "torg up", "torg train", "torg bench", "torg ledger init", "torg ledger start", "torg ledger join", "torg ledger export"}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		args, known := tellers[c.CommandPath()]
		switch {
		case c.HasSubCommands():
			for _, sub := range c.Commands() {
				walk(sub)
			}
			if !known {
				return // it only prints its help
			}
		case !known:
			t.Errorf("%s is new: say in this test what it tells", c.CommandPath())
			return
		}
		if slices.Contains(elsewhere, c.CommandPath()) {
			return
		}
		args = append(strings.Fields(c.CommandPath())[1:], args...)
		people := s.torg(args...).want(t, exitOK)
		var fromJSON, fromYAML any
		s.torg(append(args, "-o", "json")...).read(t, &fromJSON)
		y := s.torg(append(args, "-o", "yaml")...).want(t, exitOK)
		if err := yaml.Unmarshal([]byte(y.out), &fromYAML); err != nil {
			t.Errorf("not the YAML it should be: %v, of %v", err, y)
		}
		if len(people.out) == 0 || people.out == y.out {
			t.Errorf("people get nothing of their own from %v", people)
		}
		if f, g := shape(fromJSON), shape(fromYAML); f == "" || f != g {
			t.Errorf("%s tells %s in JSON and %s in YAML", c.CommandPath(), f, g)
		}
	}
	for _, c := range commands() {
		root := &cobra.Command{Use: "torg"}
		root.AddCommand(c)
		walk(c)
	}

	none := strings.Repeat("0", 64)
	var told story
	b, err := os.ReadFile(evidence)
	if err != nil || json.Unmarshal(b, &told) != nil {
		t.Fatalf("%s is no story: %v", b, err)
	}
	e := told.Receipt.Evidence
	e.Result[len(e.Result)-1] ^= 1 // the last token
	forged, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	lie := filepath.Join(t.TempDir(), "lie.json")
	damage(t, lie, string(forged))
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitOK, []string{"--help"}},
		{exitOK, []string{"lease"}},
		{exitOK, []string{"audit", "--file", evidence}},
		{exitUsage, []string{"dance"}},
		{exitUsage, []string{"wallet", "dance"}},
		{exitUsage, []string{"wallet", "--dance"}},
		{exitUsage, []string{"wallet", "-o", "xml"}},
		{exitUsage, []string{"receipt", "show"}},
		{exitUsage, []string{"audit"}},
		{exitUsage, []string{"wallet", "send", "nobody", "1"}},
		{exitUsage, []string{"wallet", "send", s.Provider, "much"}},
		{exitUsage, []string{"wallet", "send", s.Provider, "-1"}},
		{exitUsage, []string{"key", "create", "--budget", "much"}},
		{exitUsage, []string{"provide", "limit", "-1"}},
		{exitUsage, []string{"provide", "limit", "many"}},
		{exitUsage, []string{"provide", "limit", "100000000"}},
		{exitUsage, []string{"judge", "on", "horses"}},
		{exitUsage, []string{"judge", "on", "infer", "infer"}},
		{exitPayment, []string{"wallet", "send", s.Provider, "1000000"}},
		{exitNotFound, []string{"receipt", "show", none}},
		{exitNotFound, []string{"receipt", "show", "ffffffffffff"}},
		{exitNotFound, []string{"audit", none}},
		{exitNotFound, []string{"audit", "--file", filepath.Join(t.TempDir(), "none.json")}},
		{exitNotFound, []string{"lease", "show", none}},
		{exitNotFound, []string{"lease", "close", none}},
		{exitNotFound, []string{"key", "revoke", "key_000000000000"}},
		{exitNotFound, []string{"chat", "-m", "gpt-none", "hello"}},
		{exitNotFound, []string{"prove", "-m", "gpt-none", "--text", "hello"}},
		{exitNotFound, []string{"model", "card", "gpt-none"}},
		{exitNotFound, []string{"model", "add", filepath.Join(t.TempDir(), "none.onnx")}},
		{exitVerify, []string{"audit", "--file", lie}},
	} {
		if o := s.torg(c.args...); o.code != c.code || c.code != exitOK && (!strings.HasPrefix(o.err, "error: ") || strings.Count(o.err, "\n") > 3) {
			t.Errorf("want exit code %d, and a short word why, of %v", c.code, o)
		}
	}

	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		resp, err := http.Get(s.AdminURL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || len(b) == 0 {
			t.Errorf("%s: HTTP %d %s", path, resp.StatusCode, b)
		}
	}
	if n := s.metric("torg_gateway_requests_total"); n < 2 {
		t.Errorf("the metrics count %v requests", n)
	}

	// A doctor that finds nothing wrong, until something is.
	well := s.torg("doctor", "-o", "json").want(t, exitOK)
	if err := os.Chmod(s.home, 0o755); err != nil {
		t.Fatal(err)
	}
	sick := func(check string) {
		t.Helper()
		o := s.torg("doctor", "-o", "json")
		var found []finding
		if err := json.Unmarshal([]byte(o.out), &found); err != nil || o.code != exitFailure {
			t.Fatalf("want exit code 1 and findings, of %v", o)
		}
		for _, f := range found {
			if !f.OK && (f.Check != check || f.Fix == "") || f.OK && f.Check == check {
				t.Errorf("only %s is sick, and it can be helped; doctor says %+v", check, f)
			}
		}
	}
	sick("home")
	if err := os.Chmod(s.home, 0o700); err != nil {
		t.Fatal(err)
	}
	if again := s.torg("doctor", "-o", "json").want(t, exitOK); shape(again.out) != shape(well.out) {
		t.Errorf("healed, doctor says %v, and said %v", again, well)
	}
	if err := s.cmd.Process.Signal(unix.SIGSTOP); err != nil { // hangs
		t.Fatal(err)
	}
	sick("gateway")
	s.kill()
	sick("square")
}

// shape is the names and kinds in a JSON value, without what changes from one
// moment to the next.
func shape(v any) string {
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for k, x := range v {
			names = append(names, k+":"+shape(x))
		}
		slices.Sort(names)
		return "{" + strings.Join(names, " ") + "}"
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		return "[" + shape(v[0]) + "]" // the rest is like it, and may have grown
	}
	return fmt.Sprintf("%T", v)
}

// TestCompletion: the scripts are made, and bash takes its own.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		o := run(t, "completion", shell).want(t, exitOK)
		if !strings.Contains(o.out, "torg") || len(o.out) < 1000 {
			t.Errorf("the script for %s: %v", shell, o)
		}
		if bin, err := exec.LookPath(shell); err == nil && shell == "bash" {
			c := exec.Command(bin, "-n")
			c.Stdin = strings.NewReader(o.out)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("bash cannot read its script: %v %s", err, out)
			}
		}
	}
	home := t.TempDir()
	if o := run(t, "__complete", "-o", ""); !strings.Contains(o.out, "json\n") {
		t.Errorf("-o is completed with %v", o)
	}
	// What needs a square is not completed without one, and nothing breaks.
	run(t, "__complete", "receipt", "show", "--home", home, "").want(t, exitOK)
	s := open(t, home)
	a := s.paid(hello(2))
	if o := run(t, "__complete", "--home", home, "receipt", "show", ""); !strings.Contains(o.out, a.Receipt.Short()) {
		t.Errorf("receipts are completed with %v", o)
	}
	if o := run(t, "__complete", "--home", home, "lease", "close", ""); !strings.Contains(o.out, a.Lease.Short()) {
		t.Errorf("leases are completed with %v", o)
	}
	if o := run(t, "__complete", "judge", "on", ""); !strings.Contains(o.out, "infer\n") {
		t.Errorf("trades are completed with %v", o)
	}
	if o := run(t, "__complete", "--home", home, "chat", "-m", ""); !strings.Contains(o.out, nano.Name) {
		t.Errorf("models are completed with %v", o)
	}
	s.stop()
}

// TestConfigExplain: a flag goes before the environment, that before the file,
// that before the default; and no secret is printed.
// What is written in config.yaml is what is used, or it is refused.
func TestConfigFile(t *testing.T) {
	for text, want := range map[string]string{
		"escrow: 1000000": "1000000", "escrow: 0.10": "0.10", "escrow: 0123": "0123", "escrow: 1e6": "1e6", "escrow: 0x10": "0x10", "escrow: yes": "yes",
		"escrow: \"7\"": "7", "escrow: 12345678901234567890": "12345678901234567890", "escrow: 2026-12-01": "2026-12-01", "escrow: \"\"": "", "escrow: 1_000": "1_000",
	} {
		if got, err := readSettings([]byte(text)); err != nil || got["escrow"] != want {
			t.Errorf("%s is used as %q, %v", text, got["escrow"], err)
		}
	}
	for text, says := range map[string]string{
		"escrow:": "no value", "escrow: ~": "no value", "hosts: [a, b]": "commas", "escrow: {a: 1}": "one value", "escrow: 1\nescrow: 2": "twice", "- escrow": "lines such as", "7": "lines such as",
	} {
		if got, err := readSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s is used as %q, %v", text, got, err)
		}
	}
	for _, nothing := range []string{"", "# all is default\n", "---\n"} {
		if got, err := readSettings([]byte(nothing)); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", nothing, got, err)
		}
	}
}

func TestConfigExplain(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	damage(t, filepath.Join(home, "config.yaml"), "escrow: 7\nlanes: 3\nblock-time: 1s\nupstream-key: hush\n")
	type row struct{ Name, Value, Source string }
	explain := func(env []string, args ...string) map[string]row {
		t.Helper()
		c := command(append([]string{"config", "explain", "-o", "json"}, args...)...)
		c.Env = append(c.Env, env...)
		var rows []row
		o := finish(t, c)
		o.read(t, &rows)
		if strings.Contains(o.out, "hush") {
			t.Errorf("a secret is printed: %v", o)
		}
		found := map[string]row{}
		for _, r := range rows {
			found[r.Name] = r
		}
		if len(found) != len(settings()) {
			t.Errorf("%d settings are explained of %d", len(found), len(settings()))
		}
		return found
	}
	file := "file " + filepath.Join(home, "config.yaml")
	env := []string{"TORG_LANES=5", "TORG_HOME=" + home, "TORG_BLOCK_TIME=2s"}
	got := explain(env)
	for _, want := range []row{
		{"home", home, "env TORG_HOME"}, {"escrow", "7", file}, {"lanes", "5", "env TORG_LANES"},
		{"block-time", "2s", "env TORG_BLOCK_TIME"}, {"verify", "audit", "default"}, {"upstream-key", "(set)", file},
	} {
		if got[want.Name] != want {
			t.Errorf("%+v, want %+v", got[want.Name], want)
		}
	}
	other := t.TempDir()
	if got := explain(env, "--home", other); got["home"] != (row{"home", other, "flag --home"}) || got["escrow"].Source != "default" {
		t.Errorf("with a flag: %+v, %+v", got["home"], got["escrow"])
	}
	// What is explained is what happens: the settings reach the lease.
	c := command(append([]string{"up", "-o", "json"}, anyPorts(home)...)...)
	c.Env = append(c.Env, "TORG_LANES=5")
	p := begin(t, c)
	s := &upSquare{process: p, t: t, home: home}
	await(t, "the greeting", func() error { return json.Unmarshal([]byte(p.out.String()), &s.greeting) })
	if l := s.standing(); l.Order.Escrow != 7*square.UnitsPerTorg || l.Order.Lanes != 5 {
		t.Errorf("the lease has escrow %d and %d lanes", l.Order.Escrow, l.Order.Lanes)
	}
	s.stop()
}

// TestColours: a terminal gets them, unless it says NO_COLOR.
func TestColours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  string
		want bool
	}{{"TERM=xterm", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Skipf("no terminals here: %v", err)
		}
		defer ptm.Close()
		n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		pts, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Skipf("no terminals here: %v", err)
		}
		cmd := command("doctor", "--home", t.TempDir())
		cmd.Env = slices.DeleteFunc(cmd.Env, func(e string) bool { return strings.HasPrefix(e, "NO_COLOR=") })
		cmd.Env = append(cmd.Env, "TERM=xterm", c.env)
		cmd.Stdout, cmd.Stderr = pts, pts
		err = cmd.Run()
		pts.Close()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Fatalf("doctor without a square: %v", err)
		}
		said, _ := io.ReadAll(ptm) // ends with an error, like every terminal
		if got := bytes.Contains(said, []byte("\x1b[")); got != c.want || !bytes.Contains(said, []byte("torg up")) {
			t.Errorf("%s: colours %v, want %v: %q", c.env, got, c.want, said)
		}
	}
}

// TestTraces: with a collector named, a request's spans arrive there.
func TestTraces(t *testing.T) {
	t.Parallel()
	var spans atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" && bytes.Contains(b, []byte("POST /v1/chat/completions")) && bytes.Contains(b, []byte("torg")) {
			spans.Add(1)
		}
	}))
	defer collector.Close()
	s := open(t, t.TempDir(), "--otlp-endpoint", collector.URL)
	s.paid(hello(2))
	s.stop() // sends what it has
	if spans.Load() == 0 {
		t.Error("no span of the request reached the collector")
	}
}

// TestUpstream: the models of an OpenAI-compatible server on this machine are
// sold under their own names, streamed event by event, for the usage that the
// server reports.
func TestUpstream(t *testing.T) {
	t.Parallel()
	var key atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key.Store(r.Header.Get("Authorization"))
		if r.URL.Path == "/v1/models" {
			io.WriteString(w, `{"object":"list","data":[{"id":"llama3.2:1b","object":"model"}]}`)
			return
		}
		var asked struct {
			Model    string
			Stream   bool
			Messages []chatMessage
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.URL.Path != "/v1/chat/completions" || asked.Model != "llama3.2:1b" || asked.Messages[0].Content != "Name a river" {
			http.Error(w, "not what I was asked", http.StatusBadRequest)
			return
		}
		if !asked.Stream {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"id":"x","object":"chat.completion","model":"llama3.2:1b","choices":[{"index":0,"message":{"role":"assistant","content":"The Nidelva."},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range []string{
			`{"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"The "}}]}`,
			`{"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Nidelva."},"finish_reason":"stop"}]}`,
			`{"id":"x","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}`, `[DONE]`,
		} {
			io.WriteString(w, "data: "+e+"\n\n")
		}
	}))
	defer server.Close()

	s := open(t, t.TempDir(), "--upstream", server.URL+"/v1", "--upstream-key", "sk-local")
	river := body{"model": "llama3.2:1b", "max_tokens": 20, "messages": []chatMessage{{"user", "Name a river"}}}
	var whole answer
	await(t, "the upstream server's answer", func() error {
		if whole = s.ask(river); whole.status != http.StatusOK {
			return errors.New(whole.raw)
		}
		return nil
	})
	// 11 prompt tokens at a tenth of a unit and 5 completion tokens at one.
	const price = 7
	if whole.Model != "llama3.2:1b" || whole.Choices[0].Message.Content != "The Nidelva." || whole.Usage.Prompt != 11 || whole.Usage.Completion != 5 || whole.Usage.Details.Amount != price {
		t.Errorf("the answer: %v", whole)
	}
	if key.Load() != "Bearer sk-local" {
		t.Errorf("the upstream server was shown the key %q", key.Load())
	}
	out := s.torg("chat", "-m", "llama3.2:1b", "--max-tokens", "20", "Name a river").want(t, exitOK)
	if strings.TrimSpace(out.out) != "The Nidelva." || !strings.Contains(out.err, "5 tokens") {
		t.Errorf("streamed: %v", out)
	}
	var told story
	s.torg("receipt", "show", whole.Receipt.String(), "-o", "json").read(t, &told)
	if told.Receipt.Subject != "llama3.2:1b" || told.Receipt.Receipt.Price != price || !strings.Contains(told.Words.Result, "The Nidelva.") {
		t.Errorf("its receipt: %+v, %+v", told.Receipt, told.Words)
	}
	// Nobody can re-execute it, and nobody pretends to.
	s.torg("audit", whole.Receipt.String()).want(t, exitVerify, "cannot tell")
	s.conserved()
	s.stop()
}
