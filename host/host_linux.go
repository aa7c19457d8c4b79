package host

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const peakUnit = 1 << 10 // bytes of Maxrss

// SyncData puts a file's content on disk, but no time stamps.
func SyncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
