package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asMarket is a torg with one more trade, the example.
const asMarket = "market"

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
	plugged(t, s)
	s.stop()
	if said := s.err.String(); strings.Contains(said, "lease could not be opened") {
		t.Errorf("it tried to lease what is sold in results alone:\n%s", said)
	}

	s = openAs(t, asMarket, home)
	list := s.torg("order", "list")
	if list.code != exitOK || strings.Count(list.out, "echo") != 3 {
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
	if b, err := os.ReadFile(to); err != nil || string(b) != "WANT OF A WIFE" { // the newest order is the command's
		t.Errorf("the result in the file is %q: %v", b, err)
	}
	s.conserved()
	s.stop()
}

// plugged: the example's command, door, page and background work are part of the square.
func plugged(t *testing.T, s *upSquare) {
	t.Helper()
	await(t, "a price that the watch in the background has seen", func() error {
		_, body := s.asOwner(t).get("/echo")
		if !strings.Contains(body, "1\u00a0TORG / M\u00a0bytes") {
			return errors.New(body)
		}
		return nil
	})
	v := s.asOwner(t)
	if _, front := v.get("/"); !strings.Contains(front, `href="/echo"`) || !strings.Contains(front, ">Capitals</a>") {
		t.Errorf("the navigation has no link to the trade's page: %s", front)
	}
	c := command("echo", "want", "of", "a", "wife", "--home", s.home)
	c.Env = append(c.Env, asDeed+"="+asMarket)
	if got := finish(t, c); got.out != "WANT OF A WIFE\n" {
		t.Errorf("torg echo: %v", got)
	}
	door := func(key, kind, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequest("POST", s.AdminURL+"/echo", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", kind)
		return v.read(http.DefaultClient.Do(r))
	}
	for name, c := range map[string]struct {
		key, kind, body string
		code            int
	}{
		"a stranger": {"torg-none", "application/json", `"YQ=="`, http.StatusUnauthorized},
		"no JSON":    {s.APIKey, "text/plain", `"YQ=="`, http.StatusUnsupportedMediaType},
		"no base64":  {s.APIKey, "application/json", `{}`, http.StatusBadRequest},
	} {
		if code, body := door(c.key, c.kind, c.body); code != c.code {
			t.Errorf("%s at the door: HTTP %d, want %d: %s", name, code, c.code, body)
		}
	}
}

// asOwner is the owner's browser at the console.
func (s *upSquare) asOwner(t *testing.T) *visitor {
	t.Helper()
	var l consoleLink
	s.torg("console", "-o", "json").read(t, &l)
	v := visit(t, s.AdminURL)
	v.get(l.URL)
	return v
}
