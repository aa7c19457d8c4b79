package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/square"
)

// TestReview: an order's result that is to be reviewed waits, is watched, and is paid
// when somebody accepts it; what is right cannot be challenged, what has ended not be
// decided on, and an order file says what is wrong about it.
func TestReview(t *testing.T) {
	t.Parallel()
	s := openAs(t, asMarket, t.TempDir())
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	job := write("job", "is it right?")
	await(t, "the offer of capitals", func() error {
		if o := s.torg("offers"); o.code != exitOK || !strings.Contains(o.out, "capitals") || !strings.Contains(o.out, "infer") {
			return errors.New(o.String())
		}
		return nil
	})
	if o := s.torg("provide", "status"); o.code != exitOK || !strings.Contains(o.out, "echo: \"capitals\"") || !strings.Contains(o.out, "infer: ") {
		t.Errorf("what is sold here: %v", o)
	}

	for name, c := range map[string]struct {
		text, word string
	}{
		"an unknown field": {"trade: echo\njob: " + job + "\nmots: \"1\"\n", "mots"},
		"a field twice":    {"trade: echo\ntrade: infer\njob: " + job + "\n", "trade"},
		"too much":         {"trade: echo\njob: " + job + "\n#" + strings.Repeat(" ", maxOrderFile) + "\n", "65536 bytes"},
		"another type":     {"trade: [echo]\njob: " + job + "\n", "trade"},
	} {
		got := s.torg("order", "place", "-f", write("bad.yaml", c.text))
		if got.code != exitUsage || !strings.Contains(got.err, c.word) {
			t.Errorf("%s: %v", name, got)
		}
	}

	var placed orderView
	file := write("order.json", `{"trade": "echo", "most": "0.1", "policy": "none", "review": true, "job": "`+job+`"}`)
	s.torg("order", "place", "-f", file, "-o", "json").read(t, &placed)
	id := placed.ID.String()
	c := command("order", "watch", id, "--home", s.home)
	watched := begin(t, c)
	await(t, "word of the result", func() error {
		if !strings.Contains(watched.out.String(), "to be reviewed") {
			return errors.New(watched.out.String())
		}
		return nil
	})
	if code := watched.interrupt(t); code != exitOK {
		t.Errorf("watching ended with %d: %s", code, watched.err)
	}
	c = command("order", "watch", id, "--home", s.home)
	watched = begin(t, c)

	for name, c := range map[string]struct {
		args []string
		code int
		word string
	}{
		"without a reason":  {[]string{"challenge", id}, exitUsage, "why"},
		"what is right":     {[]string{"challenge", id, "--why", "it looks odd"}, exitUsage, "the ledger would find it right"},
		"what nobody knows": {[]string{"accept", strings.Repeat("f", 64)}, exitNotFound, "ffff"},
		"what nobody named": {[]string{"challenge", "ffffff", "--why", "so"}, exitNotFound, "ffffff"},
	} {
		got := s.torg(append([]string{"order"}, c.args...)...)
		if got.code != c.code || !strings.Contains(got.err, c.word) {
			t.Errorf("%s: code %d, want %d: %v", name, got.code, c.code, got)
		}
	}
	if got := s.torg("order", "show", id); !strings.Contains(got.out, "to be reviewed") {
		t.Errorf("before somebody has said so: %v", got)
	}
	s.torg("order", "accept", id).want(t, exitOK)
	await(t, "the end of the watching", func() error {
		select {
		case <-watched.ended:
			return nil
		default:
			return errors.New(watched.out.String())
		}
	})
	if out := watched.out.String(); !strings.Contains(out, "settled") {
		t.Errorf("who watched was told %q", out)
	}
	for _, how := range [][]string{{"accept", id}, {"challenge", id, "--why", "too late"}} {
		if got := s.torg(append([]string{"order"}, how...)...); got.code != exitUsage || !strings.Contains(got.err, "has ended") {
			t.Errorf("%s of what is over: %v", how[0], got)
		}
	}
	leases, _, err := s.ledger().Leases(t.Context(), client.LeaseFilter{Buyer: s.keys().owner.Address()}, client.Page{})
	if err != nil {
		t.Fatal(err)
	}
	paid := uint64(0)
	for _, l := range leases {
		if l.ID == placed.ID {
			paid = l.Paid
		}
	}
	if want, _ := square.Price([]square.Rate{{Unit: "bytes", PerMillion: 1_000_000}}, []uint64{12}); paid != want {
		t.Errorf("paid %d for 12 bytes, not %d", paid, want)
	}
	s.conserved()
	s.stop()
}
