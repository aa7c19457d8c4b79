package node

import (
	"bufio"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/torg-network/torg/square"
)

// Facts are what a machine is.
type Facts struct {
	Cores  int
	Memory uint64 // bytes; 0 when unknown
	OS     string
	Arch   string
}

// Hardware reads the facts of this machine, once.
var Hardware = sync.OnceValue(func() Facts {
	f := Facts{Cores: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if in, err := os.Open("/proc/meminfo"); err == nil {
		f.Memory = memory(io.LimitReader(in, 64<<10))
		in.Close()
	}
	return f
})

// memory reads the total out of /proc/meminfo.
func memory(r io.Reader) uint64 {
	for s := bufio.NewScanner(r); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kb, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 53)
		if err != nil {
			return 0
		}
		return kb << 10
	}
	return 0
}

// Attributes are the facts as an offer states them.
func (f Facts) Attributes() []square.Attribute {
	out := []square.Attribute{
		{Key: "cpu.cores", Value: strconv.Itoa(f.Cores)},
		{Key: "cpu.arch", Value: f.OS + "/" + f.Arch},
	}
	if f.Memory > 0 {
		out = append(out, square.Attribute{Key: "memory.bytes", Value: strconv.FormatUint(f.Memory, 10)})
	}
	return out
}
