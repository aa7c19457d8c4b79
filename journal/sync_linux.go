package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync puts a file's content on disk, but no time stamps.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
