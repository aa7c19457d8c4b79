package attacks

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	long       = flag.Bool("long", false, "also the floods and waits that take minutes")
	reportFile = flag.String("report", "", "write the table of attacks to this file, in Markdown")
)

// torg is the binary that is attacked.
var torg string

func TestMain(m *testing.M) { os.Exit(suite(m)) }

// suite builds torg once, runs the attacks and prints what became of them.
func suite(m *testing.M) int {
	flag.Parse()
	// They wait for deadlines more than they work.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "torg-attacks-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "attacks: make a folder for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	torg = filepath.Join(dir, "torg")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", torg, "github.com/torg-network/torg/cmd/torg")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "attacks: build torg: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := results.print(); err != nil {
		fmt.Fprintln(os.Stderr, "attacks: write the report:", err)
		return 1
	}
	return code
}

// outcome is what came of one attack. Sums are in utorg.
type outcome struct {
	actor, name string
	paid        bool  // the attacker has money of its own, so that profit means something
	profit      int64 // of the attacker: money, stake and the price of the work it got, less what it began with
	loss        int64 // of the honest: work charged and not paid, stake, money
	interval    uint64
	note        string
	held        bool
}

type report struct {
	mu   sync.Mutex
	rows []outcome
}

var results report

func (r *report) add(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, o)
}

// print writes the table to standard output and, where asked for, to a file.
func (r *report) print() error {
	if len(r.rows) == 0 {
		return nil
	}
	order := []string{buyer, provider, judge, validator, stranger, webPage}
	slices.SortStableFunc(r.rows, func(a, b outcome) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.actor), slices.Index(order, b.actor)), cmp.Compare(a.name, b.name))
	})
	var b strings.Builder
	b.WriteString("| actor | attack | attacker's profit | honest loss | one interval | seen | verdict |\n|---|---|--:|--:|--:|---|---|\n")
	for _, o := range r.rows {
		profit, verdict := "none", "holds"
		if o.paid {
			profit = fmt.Sprint(o.profit)
		}
		if !o.held {
			verdict = "**broken**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %s | %s |\n", o.actor, o.name, profit, o.loss, o.interval, o.note, verdict)
	}
	out := []io.Writer{os.Stdout}
	if *reportFile != "" {
		f, err := os.Create(*reportFile)
		if err != nil {
			return err
		}
		defer f.Close()
		out = append(out, f)
	}
	_, err := io.WriteString(io.MultiWriter(out...), b.String())
	return err
}

// waits skips an attack that takes minutes, as it waits for the ledger's deadlines,
// where the test is to be short.
func waits(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for deadlines of minutes")
	}
}

// Who attacks.
const (
	buyer     = "buyer"
	provider  = "provider"
	judge     = "judge"
	validator = "validator"
	stranger  = "stranger"
	webPage   = "web page"
)
