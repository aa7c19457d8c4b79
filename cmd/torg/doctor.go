package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/host"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/node"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/judge"
)

// finding is one thing that doctor looked at. Fix says what to do when it is
// not well.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"`
}

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong, and say what to do", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
			defer cancel()
			found := examine(ctx, cfg)
			t := table{{"", "check", "found", "what to do"}}
			sick := 0
			for _, f := range found {
				mark := paint(os.Stdout, green, "ok")
				if !f.OK {
					mark = paint(os.Stdout, red, "!!")
					sick++
				}
				t = append(t, []any{mark, f.Check, f.Found, f.Fix})
			}
			if err := showTable(c.OutOrStdout(), found, t); err != nil {
				return err
			}
			if sick > 0 {
				return fmt.Errorf("%d of %d checks need attention", sick, len(found))
			}
			return nil
		}),
	}
}

func examine(ctx context.Context, cfg config) (found []finding) {
	well := func(check, format string, a ...any) {
		found = append(found, finding{Check: check, OK: true, Found: fmt.Sprintf(format, a...)})
	}
	sick := func(check, fix string, err error) {
		found = append(found, finding{Check: check, Found: err.Error(), Fix: fix})
	}
	facts := node.Hardware()
	well("machine", "%d cores, %d MiB, %s/%s", facts.Cores, facts.Memory>>20, facts.OS, facts.Arch)

	m := nano.Model()
	digest := m.Digest()
	well("bundled model", "%s %x, runs", m.Name(), digest[:6])

	if err := homeIsPrivate(cfg); err != nil {
		sick("home", "chmod 700 "+cfg.path(), err)
	} else {
		well("home", "%s", cfg.path())
	}
	if free, err := freeDisk(cfg); err != nil {
		sick("disk", "check the mount", err)
	} else if free < 1<<30 {
		sick("disk", "free some space: a full disk ends the square, if not at the next request; it opens again where it was", fmt.Errorf("%d MiB free", free>>20))
	} else {
		well("disk", "%.1f GiB free", float64(free)/(1<<30))
	}

	run, err := findRunning(cfg)
	if err != nil {
		sick("square", "torg up", err)
		return found
	}
	well("square", "process %d, up since %s", run.PID, run.Started.Format("2006-01-02 15:04:05"))
	if err := answers(ctx, run.AdminURL+"/healthz"); err != nil {
		sick("gateway", "see the log of torg up; stop it and start it again", fmt.Errorf("%s: %w", run.AdminURL, err))
		return found
	}
	well("gateway", "%s", run.BaseURL)
	if err := answers(ctx, run.AdminURL+"/readyz"); err != nil {
		sick("ready", "GET "+run.AdminURL+"/readyz says what is not", err)
	} else {
		well("ready", "all checks pass")
	}

	var st status
	if err := (adminClient{run.AdminURL, run.Token}).call(ctx, "GET", "status", nil, &st); err != nil {
		sick("status", "see the log of torg up", err)
		return found
	}
	if st.BlockAge > 15 {
		sick("ledger", "restart torg up; open leases go on being served and nothing is lost", fmt.Errorf("block %d is %.0f s old", st.Height, st.BlockAge))
	} else {
		well("ledger", "block %d, %.1f s old", st.Height, st.BlockAge)
	}
	if st.Balance.Units < square.UnitsPerTorg {
		sick("wallet", "top up: send TORG to "+run.Wallet, fmt.Errorf("%s", st.Balance))
	} else {
		well("wallet", "%s", st.Balance)
	}
	free := uint64(0)
	for _, g := range st.Goods {
		free += g.Free
	}
	switch {
	case len(st.Goods) == 0:
		sick("goods", "the provider's offers are missing: see the log of torg up", errors.New("none on offer"))
	case free == 0:
		sick("goods", "wait, or raise --lanes", fmt.Errorf("%d on offer, every place is busy or no lease stands", len(st.Goods)))
	default:
		well("goods", "%d on offer, %d free places", len(st.Goods), free)
	}
	p := st.Provider
	words := fmt.Sprintf("%d requests served for %s, %s redeemed, %d refused, %d failed", p.Served, square.Utorg(p.Charged), square.Utorg(p.Redeemed), p.Refused, p.Failed)
	if p.Served == 0 {
		words += "; nobody has asked since it started"
	}
	well("provider", "%s", words)
	judges := "the ledger has other validators, which judge with this one what it can re-execute"
	if st.Judge.Alone {
		judges = aloneWords
	}
	well("judges", "%s", judges)
	for _, seat := range st.Judge.Seats {
		if seat.Stage == judge.Unable {
			sick("judge", "have here what it is judged by, or torg judge off; a seat that is silent loses its bond",
				fmt.Errorf("of lease %s nothing can be told: %s", seat.Lease.Short(), seat.Why))
		}
	}
	if cl, err := client.Dial(ctx, run.RPC, client.Options{}); err != nil {
		sick("money", "the ledger's RPC does not answer", err)
	} else {
		sup, err := cl.Supply(ctx, square.Denom)
		cl.Close()
		if err == nil && !sup.Balanced {
			err = errors.New("the pots do not sum to the supply")
		}
		if err != nil {
			sick("money", "this is a bug: please report it with the home directory", err)
		} else {
			well("money", "every unit of %s accounted for", square.Utorg(sup.Total))
		}
	}
	return found
}

func homeIsPrivate(cfg config) error {
	st, err := os.Stat(cfg.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil // torg up makes it
	} else if err != nil {
		return err
	}
	if !host.Private(st) {
		return fmt.Errorf("%s can be read by others: it holds keys", cfg.path())
	}
	return nil
}

func freeDisk(cfg config) (uint64, error) {
	// The home, or what it will be made in.
	dir, err := filepath.Abs(cfg.path())
	if err != nil {
		return 0, fmt.Errorf("free space: %w", err)
	}
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	free, err := host.FreeDisk(dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return free, nil
}

// answers says whether something answers at a URL; for doctor.
func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("it answers " + strconv.Itoa(resp.StatusCode))
	}
	return nil
}
