package host

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

const (
	addressInUse = windows.WSAEADDRINUSE
	foldersSync  = false // a folder cannot be flushed; NTFS keeps a journal of names
)

// Lock makes this process the only one that holds the file's lock, until the file
// is closed or the process ends, however it ends. It does not wait: ErrLocked.
func Lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

// Alive reports whether there is a process with the id.
func Alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED) // it is someone else's
	}
	defer windows.CloseHandle(h)
	// One that has ended is there for as long as somebody has it open.
	s, err := windows.WaitForSingleObject(h, 0)
	return err == nil && s == uint32(windows.WAIT_TIMEOUT)
}

// FreeDisk is how many bytes this user may still write where the path is.
func FreeDisk(path string) (free uint64, err error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	return free, windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
}

// Used is what this process has used; the memory is not told.
func Used() Usage {
	var made, ended, kernel, user windows.Filetime
	if windows.GetProcessTimes(windows.CurrentProcess(), &made, &ended, &kernel, &user) != nil {
		return Usage{}
	}
	steps := func(t windows.Filetime) time.Duration { // of 100 ns
		return time.Duration(int64(t.HighDateTime)<<32 | int64(t.LowDateTime))
	}
	return Usage{CPU: 100 * (steps(kernel) + steps(user))}
}

// Private reports whether nobody but the owner may look into a file or folder.
// Permission bits say nothing here: access follows from the folder, which in a
// user's profile is theirs.
func Private(fs.FileInfo) bool { return true }

// SyncData puts a file's content on disk.
func SyncData(f *os.File) error { return f.Sync() }
