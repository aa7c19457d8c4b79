package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torg-network/torg/host"
)

// measure is one line of torg bench.
type measure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	CPU   float64 `json:"cpu_s"`  // user and system, of the whole measurement
	Wall  float64 `json:"wall_s"` // of the whole measurement
}

// benchArea measures one part of torg. It calls report for each figure as it
// has it.
type benchArea struct {
	name, help string
	run        func(ctx context.Context, cfg config, report func(measure)) error
}

var benchAreas = []benchArea{
	{"square", "gateway, vouchers, ledger, the exact engine, start and memory", benchSquare},
	{"zkml", "proofs of inference: time, size, memory, soundness", benchZKML},
}

// benchLong adds what takes more than a quarter of an hour.
var benchLong bool

// benchOnly is the one step of the square that is run; empty: all.
var benchOnly string

func benchCommand() *cobra.Command {
	var names []string
	for _, a := range benchAreas {
		names = append(names, a.name)
	}
	c := &cobra.Command{
		Use: "bench [area]", Short: "Measure this machine, with figures anyone can run again",
		Long: "Measure this machine. Areas: " + strings.Join(names, ", ") + " (default: all).\n" +
			"Everything runs on loopback in throw-away homes. Quote CPU seconds: machines are noisy.",
		Args: cobra.MaximumNArgs(1), ValidArgs: names,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && !slices.Contains(names, args[0]) {
				return usageError("no area is called %q; there is %s", args[0], strings.Join(names, ", "))
			}
			cfg, err := readConfig(c)
			if err != nil {
				return err
			}
			var rows []measure
			for _, a := range benchAreas {
				if len(args) == 1 && args[0] != a.name {
					continue
				}
				progress("%s: %s", a.name, a.help)
				err := a.run(c.Context(), cfg, func(m measure) {
					rows = append(rows, m)
					progress("%-26s %12.4g %-16s cpu %.2f s, wall %.2f s", m.Name, m.Value, m.Unit, m.CPU, m.Wall)
				})
				if err != nil {
					return fmt.Errorf("bench %s: %w", a.name, err)
				}
			}
			t := table{{"name", "value", "unit", "cpu s", "wall s"}}
			for _, m := range rows {
				t = append(t, []any{m.Name, fmt.Sprintf("%.4g", m.Value), m.Unit, fmt.Sprintf("%.2f", m.CPU), fmt.Sprintf("%.2f", m.Wall)})
			}
			return show(c.OutOrStdout(), rows, func(w io.Writer) { t.write(w) })
		},
	}
	c.AddCommand(reverseProxyCommand())
	c.Flags().BoolVar(&benchLong, "long", false, "also what takes long: the ledger after 100,000 and 1,000,000 leases")
	c.Flags().StringVar(&benchOnly, "only", "", "one step of the square: engine, voucher, block, ledger, idle, validators, packages, up, many, receipts, flood")
	return c
}

// stopwatch measures CPU and wall time of this process.
type stopwatch struct {
	cpu  float64
	wall time.Time
}

func startWatch() stopwatch { return stopwatch{cpuSeconds(), time.Now()} }

func (s stopwatch) stop() (cpu, wall float64) {
	return cpuSeconds() - s.cpu, time.Since(s.wall).Seconds()
}

func cpuSeconds() float64 { return host.Used().CPU.Seconds() }

// percentile is the p-th (0 to 1) of sorted values.
func percentile(sorted []float64, p float64) float64 {
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}
