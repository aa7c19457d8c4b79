package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/square"
)

// What the rows gateway/… ask for.
const (
	benchPaid    = 4000                   // requests timed, after a quarter as many
	benchAtOnce  = 16                     // of them at once
	benchEvents  = 16                     // of a streamed answer
	benchStreams = 2000                   // slow streams at once
	benchSlow    = 500 * time.Millisecond // between the events of a slow one
)

// benchServer is an OpenAI-compatible server that costs next to nothing: its
// answers are written before it starts. The model "slow" streams slowly.
func benchServer() http.Handler {
	const head = `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":`
	event := []byte("data: " + head + `{"content":" word"},"finish_reason":null}]}` + "\n\n")
	end := []byte("data: " + head + `{},"finish_reason":"stop"}]}` + "\n\n" +
		`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":16,"total_tokens":25}}` +
		"\n\ndata: [DONE]\n\n")
	whole := []byte(`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat(" word", benchEvents) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":16,"total_tokens":25}}`)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"quick","object":"model"},{"id":"slow","object":"model"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Model  string `json:"model"`
			Stream bool   `json:"stream"`
		}
		// To its end: a proxy whose request is answered before it has sent it all may
		// give the connection up.
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = json.Unmarshal(b, &q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !q.Stream {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(whole)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		for range benchEvents {
			if q.Model == "slow" {
				select {
				case <-time.After(benchSlow):
				case <-r.Context().Done():
					return
				}
			}
			_, _ = w.Write(event)
			_ = rc.Flush()
		}
		_, _ = w.Write(end)
	})
	return mux
}

// reverseProxyCommand is the peer of the rows gateway/…: what any program between
// a client and a server must cost. It is a process of its own, since what is
// compared is the processor time of processes.
func reverseProxyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reverse-proxy URL", Short: "Pass HTTP on to a server, as a peer for the bench", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(c *cobra.Command, args []string) error {
			to, err := url.Parse(args[0])
			if err != nil {
				return usageError("URL %q: %w", args[0], err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			fmt.Fprintln(c.OutOrStdout(), "http://"+l.Addr().String())
			proxy := &httputil.ReverseProxy{
				Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
				Transport:     &http.Transport{MaxIdleConnsPerHost: 2 * benchStreams},
				FlushInterval: -1,
			}
			server := &http.Server{Handler: proxy}
			ended := make(chan error, 1)
			go func() { ended <- server.Serve(l) }()
			select {
			case err = <-ended:
			case <-c.Context().Done():
				err = server.Close()
			}
			return err
		},
	}
}

// peerProcess is a program that a bench talks to.
type peerProcess struct {
	cmd    *exec.Cmd
	exited chan error
	said   *bytes.Buffer // on its standard error
}

func startPeer(ctx context.Context, stdout io.Writer, args ...string) (*peerProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p := &peerProcess{cmd: exec.CommandContext(ctx, self, args...), exited: make(chan error, 1), said: &bytes.Buffer{}}
	p.cmd.Stdout, p.cmd.Stderr = stdout, p.said
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = 20 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start torg %s: %w", args[0], err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	return p, nil
}

func (p *peerProcess) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended already
	<-p.exited
}

// startUp starts a torg up and waits until it says where it is.
func startUp(ctx context.Context, home string, args ...string) (*peerProcess, running, error) {
	args = append([]string{"up", "--home", home, "--log-level", "warn", "--gateway-addr", "127.0.0.1:0", "--provider-addr", "127.0.0.1:0",
		"--rpc-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--rest-addr", "127.0.0.1:0"}, args...)
	p, err := startPeer(ctx, nil, args...)
	if err != nil {
		return nil, running{}, err
	}
	cfg := config{map[string]string{"home": home}, map[string]string{}}
	for {
		run, err := findRunning(cfg)
		if err == nil {
			return p, run, nil
		}
		select {
		case werr := <-p.exited:
			p.exited <- werr
			err = fmt.Errorf("torg up ended: %w: %s", errors.Join(werr, err), strings.TrimSpace(p.said.String()))
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(5 * time.Millisecond):
			continue
		}
		p.stop()
		return nil, running{}, err
	}
}

// benchGateway measures what a paid request costs the processor in a whole square
// on one machine, beside a reverse proxy before the same server. What is counted
// is one process: gateway and provider, which talk HTTP as ever, and the ledger
// that makes blocks meanwhile. Client and server are this process, and not counted.
func benchGateway(ctx context.Context, _ config, dir string, report func(measure)) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: benchServer()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { _ = server.Close(); <-served }()
	upstream := "http://" + l.Addr().String()

	pr, pw := io.Pipe()
	defer pr.Close()
	proxy, err := startPeer(ctx, pw, "bench", "reverse-proxy", upstream)
	if err != nil {
		return err
	}
	defer proxy.stop()
	var at string
	if _, err := fmt.Fscanln(pr, &at); err != nil {
		return fmt.Errorf("the reverse proxy did not start: %w: %s", err, proxy.said.String())
	}
	up, run, err := startUp(ctx, filepath.Join(dir, "gateway"), "--upstream", upstream+"/v1", "--lanes", fmt.Sprint(square.MaxLanes), "--streams", fmt.Sprint(benchStreams))
	if err != nil {
		return err
	}
	defer up.stop()
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 2 * benchStreams
	through := []struct {
		name string
		api  openAIClient
		pid  int
	}{
		{"", openAIClient{base: run.BaseURL, key: run.APIKey}, up.cmd.Process.Pid},
		{"reverse-proxy", openAIClient{base: at + "/v1", key: "none"}, proxy.cmd.Process.Pid},
	}
	for _, way := range []struct {
		name, model string
		stream      bool
		n, atOnce   int
	}{
		{"gateway/cpu", "quick", false, benchPaid, benchAtOnce},
		{"gateway/cpu/sse", "quick", true, benchPaid, benchAtOnce},
		{"gateway/streams", "slow", true, benchStreams, benchStreams},
	} {
		var costs []float64
		for _, to := range through {
			var broken atomic.Int64
			ask := func(int) error {
				err := benchChat(ctx, to.api, way.model, way.stream)
				if errors.Is(err, io.ErrUnexpectedEOF) && to.name != "" && broken.Add(1) < int64(way.n/100) {
					// At a load of 20 httputil's proxy broke off six streams of about
					// 5,000, nobody knows why: the peer costs a little less by that.
					err = nil
				}
				return err
			}
			// Leases are opened and connections made. A provider that has not answered
			// yet gets one request at a time, and a lease takes a moment to open, so
			// it begins with one, and then with few.
			for _, at := range []int{1, way.atOnce / 8, way.atOnce / 4, way.atOnce / 2, way.atOnce} {
				n := at
				if way.atOnce != benchStreams {
					n = way.n / 16
				}
				if _, _, _, err := burst(n, at, ask); err != nil {
					return fmt.Errorf("%s/%s: %w", way.name, to.name, err)
				}
			}
			before := processCPU(to.pid)
			rate, _, wall, err := burst(way.n, way.atOnce, ask)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", way.name, to.name, err)
			}
			cpu := processCPU(to.pid) - before
			costs = append(costs, cpu)
			name := strings.TrimSuffix(way.name+"/"+to.name, "/")
			if way.atOnce == benchStreams {
				report(measure{name, float64(way.n), "at once", cpu, wall})
				continue
			}
			report(measure{name, cpu / float64(way.n) * 1000, "cpu-s/1000", cpu, wall})
			report(measure{name + "/rate", rate, "1/s", cpu, wall})
		}
		if way.atOnce == benchStreams {
			report(measure{"streams/cpu-ratio", costs[0] / costs[1], "x", 0, 0})
		}
	}
	return nil
}

// benchChat asks for one answer and reads it to its end.
func benchChat(ctx context.Context, api openAIClient, model string, stream bool) error {
	resp, err := api.call(ctx, "POST", "/chat/completions", map[string]any{
		"model": model, "stream": stream, "max_tokens": benchEvents, "messages": []map[string]string{{"role": "user", "content": "Say sixteen words."}},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	want := "finish_reason"
	if stream {
		want = "[DONE]"
	}
	if !bytes.Contains(b, []byte(want)) {
		return fmt.Errorf("the answer is not whole: %.200q", b)
	}
	return nil
}
