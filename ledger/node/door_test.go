//go:build linux

package node_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torg-network/torg/ledger/devnet"
	"github.com/torg-network/torg/ledger/node"
)

// What a web page of another site can make a browser send to the ledger's
// listeners is refused, and what programs send is answered.
func TestDoors(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s := node.Settings{BlockTime: 50 * time.Millisecond, RPC: "127.0.0.1:26951", REST: "127.0.0.1:26953",
		Hosts: []string{"ledger.example"}, Origins: []string{"https://app.example"}}
	n, err := devnet.Memory(ctx, devnet.Spec{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	if err := n.WaitHeight(ctx, 2); err != nil {
		t.Fatal(err)
	}
	const call = `{"jsonrpc":"2.0","id":1,"method":"health","params":{}}`
	for _, c := range []struct {
		what, method, url, host string
		header                  http.Header
		body                    string
		status                  int
		reads                   string // the origin that may read the answer
	}{
		{"a program", "GET", "http://" + s.RPC + "/status", "", nil, "", 200, ""},
		{"a program", "POST", "http://" + s.RPC, "", http.Header{"Content-Type": {"application/json"}}, call, 200, ""},
		{"a program", "GET", "http://" + s.REST + "/cosmos/base/tendermint/v1beta1/blocks/latest", "", nil, "", 200, ""},
		{"by its other name", "GET", "http://" + s.RPC + "/status", "ledger.example", nil, "", 200, ""},
		{"rebound", "GET", "http://" + s.RPC + "/status", "evil.example:26951", nil, "", 421, ""},
		{"rebound", "GET", "http://" + s.REST + "/cosmos/base/tendermint/v1beta1/blocks/latest", "evil.example:26953", nil, "", 421, ""},
		{"foreign page", "GET", "http://" + s.RPC + "/status", "", http.Header{"Origin": {"https://evil.example"}}, "", 403, ""},
		{"foreign page", "GET", "http://" + s.REST + "/torg/market/v1/params", "", http.Header{"Origin": {"https://evil.example"}}, "", 403, ""},
		{"simple POST of a page", "POST", "http://" + s.RPC, "", http.Header{"Content-Type": {"text/plain"}}, call, 415, ""},
		{"POST of a blob", "POST", "http://" + s.RPC, "", nil, call, 415, ""},
		{"simple POST of a page", "POST", "http://" + s.REST + "/cosmos/tx/v1beta1/txs", "", http.Header{"Content-Type": {"text/plain"}}, "{}", 415, ""},
		{"image", "GET", "http://" + s.RPC + "/tx_search?query=\"tx.height>0\"", "", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}}, "", 403, ""},
		{"foreign WebSocket", "GET", "http://" + s.RPC + "/websocket", "", http.Header{"Origin": {"https://evil.example"}, "Connection": {"Upgrade"},
			"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}, "", 403, ""},
		{"a program's WebSocket", "GET", "http://" + s.RPC + "/websocket", "", http.Header{"Connection": {"Upgrade"},
			"Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}, "", 101, ""},
		{"named page", "GET", "http://" + s.RPC + "/status", "", http.Header{"Origin": {"https://app.example"}}, "", 200, "https://app.example"},
		{"named page", "GET", "http://" + s.REST + "/torg/market/v1/params", "", http.Header{"Origin": {"https://app.example"}}, "", 200, "https://app.example"},
		{"profiler", "GET", "http://" + s.RPC + "/debug/pprof/", "", nil, "", 404, ""},
		{"profiler", "GET", "http://" + s.REST + "/debug/pprof/", "", nil, "", 501, ""},
	} {
		r, err := http.NewRequestWithContext(ctx, c.method, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		for k, v := range c.header {
			r.Header[k] = v
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		if c.status != 101 {
			b, _ = io.ReadAll(res.Body)
		}
		res.Body.Close()
		if res.StatusCode != c.status || res.Header.Get("Access-Control-Allow-Origin") != c.reads {
			t.Errorf("%s: %s %s: %d, want %d; %q reads the answer: %.200s", c.what, c.method, c.url, res.StatusCode, c.status, res.Header.Get("Access-Control-Allow-Origin"), b)
		}
	}
}

func TestDoorsThatNobodyCouldUse(t *testing.T) {
	for _, s := range []node.Settings{{Hosts: []string{"https://ledger.example"}}, {Origins: []string{"app.example"}}} {
		if n, err := devnet.Memory(t.Context(), devnet.Spec{Settings: s}); err == nil {
			n.Stop()
			t.Errorf("%+v: nobody is told that it lets nobody in", s)
		}
	}
}

// A ledger that was paused for longer than it may be silent goes on: consensus
// had no time to make a block in.
func TestPause(t *testing.T) {
	homes, err := devnet.InitHomes(t.TempDir(), 1, devnet.Spec{Settings: node.Settings{BlockTime: 500 * time.Millisecond, Stalled: 1500 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), homeVariable+"="+string(homes[0]))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		c.Process.Kill()
		c.Wait()
	}()
	in := bufio.NewReader(out)
	block := func() {
		t.Helper()
		var h int64
		if _, err := fmt.Fscanln(in, &h); err != nil {
			rest, _ := io.ReadAll(in)
			t.Fatalf("no block: %v: %s", err, rest)
		}
	}
	for range 3 {
		block()
		if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // the pause
		if err := c.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			block()
		}
	}
}

// A caller whose body never comes is sent away, also where nobody reads it.
func TestSlowBody(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	t.Parallel()
	s := node.Settings{BlockTime: 500 * time.Millisecond, REST: "127.0.0.1:26954"}
	n, err := devnet.Memory(t.Context(), devnet.Spec{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	c, err := net.Dial("tcp", s.REST)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /torg/market/v1/params HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n1")
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection is still held: %v", err)
	}
}
