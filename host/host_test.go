package host_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/torg-network/torg/host"
)

// TestLock: one holds a lock, and it is free when that one's file is closed.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	if err := host.Lock(first); err != nil {
		t.Fatal(err)
	}
	if err := host.Lock(second); !errors.Is(err, host.ErrLocked) {
		t.Errorf("a second holder: %v", err)
	}
	first.Close()
	if err := host.Lock(second); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
}

// TestAlive: this process is there, one that was waited for is not.
func TestAlive(t *testing.T) {
	gone := exec.Command(os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if !host.Alive(os.Getpid()) || host.Alive(gone.Process.Pid) || host.Alive(0) || host.Alive(-1) {
		t.Error("the living and the gone are not told apart")
	}
}

// TestPortTaken: it is told from other errors, also when only the words are left.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = net.Listen("tcp", l.Addr().String())
	if !host.PortTaken(err) || !host.PortTaken(errors.New(err.Error())) || !host.PortTaken(fmt.Errorf("RPC: %w", err)) {
		t.Errorf("not known: %v", err)
	}
	_, err = net.Listen("tcp", "127.0.0.1:99999")
	if host.PortTaken(err) || host.PortTaken(nil) {
		t.Errorf("taken for it: %v", err)
	}
}

// TestDisk: there is space, what is written can be synced, and where nothing is
// there is an error.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	if free, err := host.FreeDisk(dir); err != nil || free == 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
	if _, err := host.FreeDisk(filepath.Join(dir, "none")); err == nil {
		t.Error("free space of nothing")
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	if err == nil {
		defer f.Close()
		_, err = f.WriteString("x")
	}
	if err = errors.Join(err, host.SyncData(f), host.SyncFolder(dir)); err != nil {
		t.Error(err)
	}
}

// TestUsed: work takes processor time, and a process has memory where that is told.
func TestUsed(t *testing.T) {
	before := host.Used()
	for x := 1; ; x = x*31 + 1 {
		if host.Used().CPU > before.CPU && x != 0 {
			break
		}
	}
	if p := before.Peak; p != 0 && (p < 1<<20 || p > 1<<40) {
		t.Errorf("%d bytes of memory", p)
	}
}
