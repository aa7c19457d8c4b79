// Package host is what torg asks of the operating system under it, and what
// differs from one to the next: locks, signals, disk space, how files and folders
// get to the disk, what a process has used. Every function has one meaning on
// Linux, macOS and Windows; the files with a system's name in theirs say how.
package host

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("another process holds the lock")

// Stops are the signals that ask a process to end in good order: Ctrl-C, and what
// supervisors send (on Windows, a console that closes).
var Stops = []os.Signal{os.Interrupt, syscall.SIGTERM}

// Usage is what this process has used since it began. What the system does not
// tell is 0.
type Usage struct {
	CPU  time.Duration // user and system, of all threads
	Peak uint64        // most bytes of memory held at once
}

// PortTaken reports whether an error of listening means that something else
// listens there. Libraries pass the cause on in words only.
func PortTaken(err error) bool {
	return err != nil && (errors.Is(err, addressInUse) || strings.Contains(err.Error(), addressInUse.Error()))
}

// SyncFolder puts what was created, renamed and removed in a folder on disk.
func SyncFolder(path string) error {
	if !foldersSync {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
