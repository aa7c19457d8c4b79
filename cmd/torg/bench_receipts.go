package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/torg-network/torg/gateway/keys"
	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/desk"
)

const (
	manyReceipts = 1_000_000
	manyKeys     = 10_000
	pageVisits   = 200
)

// benchReceipts puts a million receipts of ten thousand API keys into the home of a
// square, and measures opening them, and, in the square's own process, its pages
// and its memory.
func benchReceipts(ctx context.Context, _ config, dir string, report func(measure)) error {
	home := filepath.Join(dir, "receipts")
	up, _, err := startUp(ctx, home) // makes the home
	if err != nil {
		return err
	}
	up.stop()
	began := time.Now()
	ids, err := makeKeys(filepath.Join(home, "keys.db"))
	if err != nil {
		return err
	}
	spans, err := fileReceipts(ctx, filepath.Join(home, "receipts.db"), ids)
	if err != nil {
		return err
	}
	progress("%d receipts of %d keys filed in %.0f s", manyReceipts, manyKeys, time.Since(began).Seconds())

	sw := startWatch()
	if err := openReceipts(ctx, filepath.Join(home, "receipts.db")); err != nil {
		return err
	}
	cpu, wall := sw.stop()
	report(measure{"start/1m-receipts", wall, "s", cpu, wall})

	up, run, err := startUp(ctx, home)
	if err != nil {
		return err
	}
	defer up.stop()
	browser, err := ownersBrowser(ctx, run)
	if err != nil {
		return err
	}
	anywhere := func() string { return strconv.FormatInt(spans.to-rand.Int64N((spans.to-spans.from)/10*9), 10) }
	for _, page := range []struct {
		name    string
		address func(n int) string
	}{
		{"page/receipts/p50", func(n int) string {
			q := url.Values{}
			if n%4 > 0 { // else the newest
				q.Set("from", anywhere())
			}
			switch n % 5 {
			case 1:
				q.Set("what", benchSubject(n))
			case 2:
				q.Set("provider", benchProvider(n).String())
			case 3:
				q.Set("what", benchSubject(n))
				q.Set("provider", benchProvider(n).String())
			case 4:
				q = url.Values{"key": {ids[rand.IntN(len(ids))]}}
			}
			return "/receipts?" + q.Encode()
		}},
		{"page/keys/p50", func(n int) string {
			q := url.Values{}
			switch n % 3 {
			case 1:
				q.Set("after", ids[rand.IntN(len(ids)/2)])
			case 2:
				q.Set("keys", "program 77")
			}
			return "/wallet?" + q.Encode()
		}},
	} {
		var took []float64
		before := processCPU(up.cmd.Process.Pid)
		sw := startWatch()
		for n := range pageVisits {
			start := time.Now()
			body, err := browser(page.address(n))
			if err != nil {
				return fmt.Errorf("%s: %w", page.address(n), err)
			}
			took = append(took, time.Since(start).Seconds()*1000)
			if rows := bytes.Count(body, []byte(`scope="row"`)); rows < 50 {
				return fmt.Errorf("%s has %d rows, want 50", page.address(n), rows)
			}
		}
		_, wall := sw.stop()
		slices.Sort(took)
		report(measure{page.name, percentile(took, 0.5), "ms", processCPU(up.cmd.Process.Pid) - before, wall})
	}
	rss, err := residentMiB(up.cmd.Process.Pid)
	if err != nil {
		return err
	}
	report(measure{"memory/1m-receipts", rss, "MiB", 0, 0})
	return nil
}

// makeKeys adds API keys to a square's, and returns their ids.
func makeKeys(path string) (ids []string, err error) {
	ks, err := keys.Open(path, nil)
	if err != nil {
		return nil, err
	}
	defer ks.Close()
	for n := range manyKeys {
		budget := uint64(square.UnitsPerTorg)
		_, k, err := ks.Create(keys.Grant{Name: fmt.Sprintf("program %d", n), Budget: &budget})
		if err != nil {
			return nil, err
		}
		ids = append(ids, k.ID)
	}
	return ids, nil
}

func benchSubject(n int) string { return "model-" + strconv.Itoa(n%7) }

func benchProvider(n int) square.Address { return square.Address{1, byte(n % 11)} }

// span is the times of receipts, in microseconds.
type span struct{ from, to int64 }

// fileReceipts files receipts in a square's journal as its desk does, one every 2 s
// until now: of a question of 300 bytes and an answer of 900.
func fileReceipts(ctx context.Context, path string, accounts []string) (s span, err error) {
	j, err := journal.Open(path, desk.Buckets...)
	if err != nil {
		return s, err
	}
	defer func() {
		if cerr := j.Close(); err == nil {
			err = cerr
		}
	}()
	spent := map[string]uint64{}
	s.to = time.Now().UnixMicro()
	s.from = s.to - manyReceipts*2_000_000
	for n := range manyReceipts {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		var id square.Hash
		binary.BigEndian.PutUint64(id[:], rand.Uint64()) // as a digest, it is anything
		binary.BigEndian.PutUint64(id[8:], uint64(n))
		account := accounts[rand.IntN(len(accounts))]
		words := make([]byte, 1200)
		copy(words, fmt.Sprintf("question %d", n))
		spent[account] += 1000
		r := desk.Record{
			ID: id, Time: time.UnixMicro(s.from + int64(n)*2_000_000), Provider: benchProvider(rand.IntN(1000)), Trade: "infer", Slot: square.Hash{2},
			Subject: benchSubject(rand.IntN(1000)), Account: account, Denom: square.Denom, Latency: time.Millisecond,
			Units: []desk.Metered{{Unit: "prompt_tokens", Count: 70}, {Unit: "completion_tokens", Count: 200}},
			Evidence: square.Evidence{
				Receipt: square.Receipt{Lease: square.Hash{3, byte(n >> 12), byte(n >> 20)}, Seq: uint64(n), Subject: square.Hash{2}, Request: id, Result: id,
					Units: []uint64{70, 200}, Price: 1000, Cumulative: uint64(n) * 1000, Time: s.from / 1000},
				Request: words[:300], Result: words[300:],
			},
		}
		if n%50 == 0 {
			r.Audit = desk.AuditEqual
		}
		es, err := r.Entries(uint64(n) + 1)
		if err != nil {
			return s, err
		}
		es = append(es, desk.SpentEntry(account, spent[account]))
		if err := j.PutSoon(es...); err != nil {
			return s, err
		}
	}
	return s, nil
}

// noLedger is a ledger that is not asked.
type noLedger struct{ desk.Ledger }

// openReceipts opens a square's receipts up to the first page of them.
func openReceipts(ctx context.Context, path string) error {
	j, err := journal.Open(path, desk.Buckets...)
	if err != nil {
		return err
	}
	defer j.Close()
	k, err := square.NewKey()
	if err != nil {
		return err
	}
	d, err := desk.New(desk.Config{Key: k, ChainID: "bench", Ledger: noLedger{}, Store: j})
	if err != nil {
		return err
	}
	defer d.Close()
	rs, _, err := d.Receipts(ctx, desk.Filter{}, time.Time{}, 50)
	if err == nil && len(rs) != 50 {
		err = fmt.Errorf("a page has %d receipts", len(rs))
	}
	return err
}

// ownersBrowser is a browser with the session of a square's owner.
func ownersBrowser(ctx context.Context, run running) (get func(path string) ([]byte, error), err error) {
	var l consoleLink
	if err := (adminClient{run.AdminURL, run.Token}).call(ctx, "POST", "console", nil, &l); err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Jar: jar, Timeout: time.Minute}
	fetch := func(address string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", address, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		return b, err
	}
	if _, err := fetch(l.URL); err != nil {
		return nil, err
	}
	return func(path string) ([]byte, error) { return fetch(run.AdminURL + path) }, nil
}
