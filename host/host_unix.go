//go:build unix

package host

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	addressInUse = unix.EADDRINUSE
	foldersSync  = true
)

// Lock makes this process the only one that holds the file's lock, until the file
// is closed or the process ends, however it ends. It does not wait: ErrLocked.
func Lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// Alive reports whether there is a process with the id.
func Alive(pid int) bool {
	// EPERM: it is someone else's.
	return pid > 0 && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// FreeDisk is how many bytes this user may still write where the path is.
func FreeDisk(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// Used is what this process has used.
func Used() Usage {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return Usage{}
	}
	return Usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Peak: uint64(r.Maxrss) * peakUnit}
}

// Private reports whether nobody but the owner may look into a file or folder.
func Private(st fs.FileInfo) bool { return st.Mode().Perm()&0o077 == 0 }
