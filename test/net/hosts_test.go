//go:build linux

package net_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hosts is a network of its own: a namespace for each host, and a hub whose two
// switches the hosts' cables can be plugged into. Nothing of it is visible from,
// or changes, the network of the machine.
type hosts struct{ prefix string }

// Every namespace starts with this, then the process that made it.
const namespacePrefix = "torg-net-"

// The switches. Hosts on different ones do not reach each other.
const (
	left  = "left"
	right = "right"
)

func (h hosts) hub() string        { return h.prefix + "hub" }
func (h hosts) name(i int) string  { return h.prefix + strconv.Itoa(i) }
func (h hosts) cable(i int) string { return "cable" + strconv.Itoa(i) }
func address(i int) string         { return fmt.Sprintf("10.99.0.%d", i+1) }
func ip(args ...string) error      { return command("ip", args...) }
func (h hosts) ipHub(args ...string) error {
	return ip(append([]string{"-n", h.hub()}, args...)...)
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// newHosts makes n hosts on the left switch, or skips the test where that
// cannot be done.
func newHosts(t *testing.T, n int) hosts {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped 1 test: network namespaces need root")
	}
	// CI installs iproute2; without it there a skip would hide the test for good.
	skip := t.Skipf
	if os.Getenv("CI") == "true" {
		skip = t.Fatalf
	}
	if _, err := exec.LookPath("ip"); err != nil {
		skip("skipped 1 test: network namespaces need ip, of iproute2: %v", err)
	}
	removeStale(t)
	h := hosts{fmt.Sprintf("%s%d-", namespacePrefix, os.Getpid())}
	if err := ip("netns", "add", h.hub()); err != nil {
		skip("skipped 1 test: no network namespaces here: %v", err)
	}
	t.Cleanup(func() {
		for i := range n {
			_ = ip("netns", "del", h.name(i))
		}
		_ = ip("netns", "del", h.hub())
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{left, right} {
		must(h.ipHub("link", "add", "name", s, "type", "bridge"))
		must(h.ipHub("link", "set", s, "up"))
	}
	for i := range n {
		must(ip("netns", "add", h.name(i)))
		must(h.ipHub("link", "add", "name", h.cable(i), "type", "veth", "peer", "name", "eth0", "netns", h.name(i)))
		must(h.ipHub("link", "set", h.cable(i), "up"))
		must(ip("-n", h.name(i), "addr", "add", address(i)+"/24", "dev", "eth0"))
		must(ip("-n", h.name(i), "link", "set", "eth0", "up"))
		must(ip("-n", h.name(i), "link", "set", "lo", "up"))
		must(h.plug(left, i))
	}
	return h
}

// plug moves hosts' cables to a switch.
func (h hosts) plug(to string, hosts ...int) error {
	for _, i := range hosts {
		if err := h.ipHub("link", "set", h.cable(i), "master", to); err != nil {
			return err
		}
	}
	return nil
}

// cut pulls the plug of a host's cable; mend puts it back.
func (h hosts) cut(i int) error  { return h.ipHub("link", "set", h.cable(i), "down") }
func (h hosts) mend(i int) error { return h.ipHub("link", "set", h.cable(i), "up") }

// removeStale removes the namespaces of test processes that were killed, and the
// homes they or failed runs left.
func removeStale(t *testing.T) {
	t.Helper()
	namespaces, _ := filepath.Glob("/run/netns/" + namespacePrefix + "*")
	homes, _ := filepath.Glob(filepath.Join(os.TempDir(), namespacePrefix+"*"))
	for _, f := range append(namespaces, homes...) {
		name := filepath.Base(f)
		owner, _, _ := strings.Cut(strings.TrimPrefix(name, namespacePrefix), "-")
		if pid, err := strconv.Atoi(owner); err != nil || unix.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		t.Logf("removing %s of a run that is gone", f)
		if filepath.Dir(f) == "/run/netns" {
			_ = ip("netns", "del", name)
		} else {
			os.RemoveAll(f)
		}
	}
}

// command runs a program on host i.
func (h hosts) command(i int, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.name(i), name}, args...)...)
}

// dialer opens connections as a program on host i would.
func (h hosts) dialer(i int) func(context.Context, string, string) (net.Conn, error) {
	type opened struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		got := make(chan opened, 1)
		go func() {
			// A socket belongs to the namespace that its thread is in. The thread
			// is never unlocked, so it ends with this goroutine and nothing else
			// runs in the namespace by accident.
			runtime.LockOSThread()
			ns, err := os.Open("/run/netns/" + h.name(i))
			if err != nil {
				got <- opened{nil, err}
				return
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				got <- opened{nil, fmt.Errorf("enter namespace %s: %w", h.name(i), err)}
				return
			}
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
			got <- opened{conn, err}
		}()
		o := <-got
		return o.conn, o.err
	}
}
