package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/torg-network/torg/trade/desk"
	"github.com/torg-network/torg/trade/seller"
	"github.com/torg-network/torg/trade/tradetest/echo"
)

// asMarket is a torg with one more trade: the line that adds it.
const asMarket = "market"

var example = kit{
	rules: echo.Rules{},
	sells: func(context.Context, *openSquare) (seller.Trade, error) {
		return echo.Worker{Rate: 1_000_000, Places: 4}, nil
	},
	buys: func(*openSquare) desk.Trade { return echo.Buyer{} },
}

// TestOrder: a trade that is one folder and one line is offered, ordered from the
// command line, worked, checked, paid, and still known after a restart.
func TestOrder(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := openAs(t, asMarket, home)
	job := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(job, []byte("it is a truth"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the offer of capitals", func() error {
		o := s.torg("offers", "--trade", "echo")
		if o.code != exitOK || !strings.Contains(o.out, "capitals") {
			return os.ErrNotExist
		}
		return nil
	})
	got := s.torg("order", "place", "echo", "--job", job, "--most", "0.1", "--wait")
	if got.code != exitOK || got.out != "IT IS A TRUTH" {
		t.Fatalf("%d: %q %s", got.code, got.out, got.err)
	}
	file := filepath.Join(t.TempDir(), "order.yaml")
	if err := os.WriteFile(file, []byte("trade: echo\nmost: \"0.1\"\npolicy: none\njob: "+job+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.torg("order", "place", "-f", file, "--wait"); got.code != exitOK || got.out != "IT IS A TRUTH" {
		t.Fatalf("by file: %d: %q %s", got.code, got.out, got.err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		word string
	}{
		"no job":        {[]string{"order", "place", "echo"}, exitUsage, "job"},
		"no such trade": {[]string{"order", "place", "juggling", "--job", job}, exitNotFound, "juggling"},
		"a stream":      {[]string{"order", "place", "infer", "--job", job}, exitUsage, "stream"},
		"a bad price":   {[]string{"order", "place", "echo", "--job", job, "--most", "much"}, exitUsage, "most"},
		"a bad time":    {[]string{"order", "place", "echo", "--job", job, "--duration", "soon"}, exitUsage, "duration"},
		"no such order": {[]string{"order", "show", "ffffff"}, exitNotFound, "ffffff"},
	} {
		if got := s.torg(c.args...); got.code != c.code || !strings.Contains(got.err, c.word) {
			t.Errorf("%s: code %d, want %d: %s", name, got.code, c.code, got.err)
		}
	}
	s.stop()

	s = openAs(t, asMarket, home)
	list := s.torg("order", "list")
	if list.code != exitOK || strings.Count(list.out, "echo") != 2 {
		t.Fatalf("after a restart: %d: %s %s", list.code, list.out, list.err)
	}
	id := strings.Fields(strings.Split(list.out, "\n")[1])[0]
	to := filepath.Join(t.TempDir(), "result")
	await(t, "the order to be paid", func() error {
		if got := s.torg("order", "show", id, "--result", to); got.code != exitOK || !strings.Contains(got.out, "settled") {
			return os.ErrNotExist
		}
		return nil
	})
	if b, err := os.ReadFile(to); err != nil || string(b) != "IT IS A TRUTH" {
		t.Errorf("the result in the file is %q: %v", b, err)
	}
	s.conserved()
	s.stop()
}
