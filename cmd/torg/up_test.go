package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUp lives a square's life: opened by a person, asked, closed, opened
// again, killed in the middle of an answer, opened again, wiped.
func TestUp(t *testing.T) {
	t.Parallel()
	home := t.TempDir()

	// The ports it would like are taken.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().String()
	began := time.Now()
	p := begin(t, command(append(append([]string{"up"}, anyPorts(home)...), "--gateway-addr", busy, "--provider-addr", busy, "--rpc-addr", busy, "--grpc-addr", busy, "--rest-addr", busy)...))
	await(t, "the greeting", func() error {
		if !strings.Contains(p.out.String(), "Ctrl-C closes the square") {
			return os.ErrNotExist
		}
		return nil
	})
	said := p.out.String()
	cfg := config{value: map[string]string{"home": home}}
	found, err := findRunning(cfg)
	if err != nil {
		t.Fatalf("torg up greeted and no other command can find it: %v", err)
	}
	// Ten of the wallet's ten thousand are in the lease that stands already, and a
	// little has gone for its place in a block.
	for _, w := range []string{found.BaseURL, found.APIKey, found.RPC, found.Wallet, found.Provider, "9989.99", "curl ", "torg chat", "torg doctor", "--home " + home} {
		if !strings.Contains(said, w) {
			t.Errorf("the greeting does not say %q:\n%s", w, said)
		}
	}
	if strings.Contains(said, found.Token) {
		t.Error("the greeting shows the admin token")
	}
	if st, err := os.Stat(cfg.path(runningFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("running.json, which holds secrets: %v %v", st.Mode(), err)
	}
	for name, url := range map[string]string{"gateway": strings.TrimSuffix(found.BaseURL, "/v1"), "RPC": found.RPC} {
		_, was, _ := net.SplitHostPort(busy)
		_, is, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
		low, _ := strconv.Atoi(was)
		got, _ := strconv.Atoi(is)
		if err != nil || got <= low || got >= low+100 {
			t.Errorf("port %s was taken; the %s is at %s, want one of the next hundred", was, name, url)
		}
	}
	s := &upSquare{process: p, greeting: greeting{running: found}, t: t, home: home}
	first := s.paid(hello(16))
	t.Logf("greeting and first paid answer %.1f s after the start", time.Since(began).Seconds())

	// The line to copy works as it stands.
	if curl, err := exec.LookPath("curl"); err == nil {
		at := strings.Index(said, "curl ")
		line := said[at : at+strings.Index(said[at:], "}'")+2]
		out, err := exec.Command("sh", "-c", curl+" -s"+strings.TrimPrefix(line, "curl")).Output()
		var a answer
		if err != nil || json.Unmarshal(out, &a) != nil || a.Receipt.IsZero() {
			t.Errorf("the curl line of the greeting gets no paid answer: %v %s\n%s", err, out, line)
		}
	}

	second := run(t, append([]string{"up"}, anyPorts(home)...)...)
	second.want(t, exitUsage, strconv.Itoa(found.PID), found.BaseURL, "--home")
	if w := run(t, append([]string{"up", "--wipe"}, anyPorts(home)...)...); w.code != exitUsage {
		t.Errorf("a home in use was wiped: %v", w)
	}
	s.paid(hello(2))

	s.stop()
	if _, err := os.Stat(cfg.path(runningFile)); err == nil {
		t.Error("running.json outlives its square")
	}
	run(t, "wallet", "--home", home).want(t, exitUsage, "torg up")

	// Again, elsewhere: all ports have changed.
	s = open(t, home)
	again := s.paid(hello(4))
	if s.ChainID != found.ChainID || s.Wallet != found.Wallet || s.Provider != found.Provider || s.APIKey != found.APIKey {
		t.Fatalf("after a restart the square is another one: %+v, was %+v", s.running, found)
	}
	if again.Lease != first.Lease {
		t.Errorf("after a restart the answer is paid by lease %s, though %s stands", again.Lease.Short(), first.Lease.Short())
	}
	if l := s.lease(first.Lease); l.State.Terminal() || len(l.Txs) == 0 {
		t.Errorf("after a restart the standing lease is %s, with %d deeds in its history", l.State, len(l.Txs))
	}
	s.torg("receipt", "show", first.Receipt.String()).want(t, exitOK)
	s.conserved()
	before, err := s.ledger().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	// A power cut in the middle of an answer.
	resp, err := post(t.Context(), s.BaseURL, s.APIKey, hello(30_000).with("stream", true))
	if err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(resp.Body)
	for pieces := 0; pieces < 20; pieces++ {
		if !sc.Scan() {
			t.Fatalf("the stream ended before it was cut: %v", sc.Err())
		}
	}
	s.kill()
	resp.Body.Close()

	s = open(t, home)
	s.paid(hello(4))
	s.conserved()
	after, err := s.ledger().Head(t.Context())
	if err != nil || after.Height <= before.Height || s.ChainID != found.ChainID {
		t.Fatalf("after kill -9 the ledger is at block %d of %s, was at %d of %s; %v", after.Height, s.ChainID, before.Height, found.ChainID, err)
	}
	// What the lease pays in the end is what its receipts say, with or without
	// the answer that was cut: nothing is charged that has no receipt.
	s.torg("lease", "close", first.Lease.String()).want(t, exitOK)
	sum := uint64(0)
	for _, r := range s.receipts() {
		if r.Receipt.Receipt.Lease == first.Lease {
			sum += r.Receipt.Receipt.Price
		}
	}
	if l := s.settled(first.Lease); l.Paid != sum {
		t.Errorf("the lease paid %d, its receipts say %d", l.Paid, sum)
	}
	s.conserved()
	s.stop()

	s = open(t, home, "--wipe")
	if s.ChainID == found.ChainID || s.Wallet == found.Wallet || s.APIKey == found.APIKey || len(s.receipts()) != 0 {
		t.Errorf("--wipe kept something: %+v", s.running)
	}
	s.paid(hello(2))
	s.stop()
}

// TestUpInterrupted: Ctrl-C while it opens, at any moment, ends it in order, and
// the home can be opened afterwards.
func TestUpInterrupted(t *testing.T) {
	t.Parallel()
	home := ""
	for _, file := range []string{"wallet.json", "ledger/data", "provider/provider.db", "keys.db"} {
		home = t.TempDir()
		p := begin(t, command(append([]string{"up"}, anyPorts(home)...)...))
		await(t, file, func() error {
			_, err := os.Stat(filepath.Join(home, file))
			return err
		})
		if code := p.interrupt(t); code != exitOK {
			t.Errorf("interrupted when there was %s: exit code %d:\n%s", file, code, tail(p.err.String(), 20))
		}
	}
	s := open(t, home)
	s.paid(hello(2))
	s.conserved()
	s.stop()
}

// TestDamagedHome: what cannot be read is named, and never deleted or replaced.
func TestDamagedHome(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	s := open(t, whole)
	s.stop()
	const junk = "\x00\x01 this is no such file {{{"
	for _, c := range []struct{ file, content string }{
		{"config.yaml", ":\n  - {"},
		{"config.yaml", "no-such-setting: 1\n"},
		{"config.yaml", "escrow: lots\n"},
		{"config.yaml/", ""}, // a folder: cannot be read, not even by root
		{"wallet.json", junk},
		{"wallet.json", ""},
		{"wallet.json", `{"mnemonic":"one two three"}`},
		{"wallet.json/", ""},
		{"ledger/ledger.json", junk},
		{"ledger/genesis.json", junk},
		{"ledger/validator_key.json", junk},
		{"receipts.db", junk},
		{"keys.db", junk},
		{"history.db", junk},
		{"provider/provider.db", junk},
		{"admin-token", "short"},
	} {
		t.Run(c.file+strconv.Quote(c.content), func(t *testing.T) {
			home := t.TempDir()
			if err := os.CopyFS(home, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			name, isFolder := strings.CutSuffix(c.file, "/")
			at := filepath.Join(home, name)
			if isFolder {
				os.Remove(at)
				if err := os.Mkdir(at, 0o700); err != nil {
					t.Fatal(err)
				}
			} else {
				damage(t, at, c.content)
			}
			o := run(t, append([]string{"up"}, anyPorts(home)...)...)
			if o.code != exitFailure && o.code != exitUsage || !strings.Contains(o.err, name) {
				t.Errorf("want exit code 1 or 2 and the name of the file, got %v", o)
			}
			if strings.Contains(o.err, "goroutine ") {
				t.Errorf("it panicked: %v", o)
			}
			if got, err := os.ReadFile(at); !isFolder && (err != nil || string(got) != c.content) {
				t.Errorf("the damaged file was touched: %q, %v", got, err)
			}
			for _, other := range []string{"wallet.json", "receipts.db", "ledger/genesis.json"} {
				if _, err := os.Stat(filepath.Join(home, other)); err != nil {
					t.Errorf("something was deleted: %v", err)
				}
			}
		})
	}
}

// TestAgain: a port that is taken between being found and being used is asked
// for anew; other errors are not.
func TestAgain(t *testing.T) {
	for _, c := range []struct {
		err  error
		fail int // times
		want int // calls
	}{{syscall.EADDRINUSE, 0, 1}, {syscall.EADDRINUSE, 2, 3}, {errors.New("listen: address already in use"), 1, 2}, {syscall.EADDRINUSE, 9, 5}, {syscall.EACCES, 1, 1}} {
		calls := 0
		err := again(func() error {
			if calls++; calls <= c.fail {
				return c.err
			}
			return nil
		})
		if calls != c.want || (err == nil) != (c.fail < calls) {
			t.Errorf("failing %d times with %q it was called %d times, want %d, and ended with %v", c.fail, c.err, calls, c.want, err)
		}
	}
}
