package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/torg-network/torg/plug"
)

// ownSettings are the square's own. A value comes from the flag, else TORG_<NAME>,
// else the file config.yaml in the home directory, else the default.
var ownSettings = []plug.Setting{
	{Name: "home", Default: "~/.torg", Help: "where keys, ledger and receipts live"},
	{Name: "gateway-addr", Default: "127.0.0.1:8800", Help: "where the trades' APIs and the console listen; a busy port is picked around", Of: "up"},
	{Name: "provider-addr", Default: "127.0.0.1:8810", Help: "where the provider listens", Of: "up"},
	{Name: "rpc-addr", Default: "127.0.0.1:8820", Help: "the ledger's CometBFT RPC", Of: "up"},
	{Name: "grpc-addr", Default: "127.0.0.1:8821", Help: "the ledger's gRPC", Of: "up"},
	{Name: "rest-addr", Default: "127.0.0.1:8822", Help: "the ledger's REST API", Of: "up"},
	{Name: "hosts", Help: "more names that lead to gateway, RPC and REST, by commas: a proxy's, a tunnel's, this machine's; others are refused", Of: "up"},
	{Name: "ledger-origins", Help: "web origins whose pages may read RPC and REST, by commas, e.g. https://app.example; * is any", Of: "up"},
	{Name: "block-time", Default: "200ms", Help: "pause between blocks", Of: "up"},
	{Name: "escrow", Default: "10", Help: "TORG locked in each standing lease", Of: "up"},
	{Name: "lanes", Default: "8", Help: "parallel requests per standing lease", Of: "up"},
	{Name: "streams", Default: "0", Help: "parallel requests at once: more standing leases are opened where all lanes are busy; 0 is those of one lease", Of: "up"},
	{Name: "lease-duration", Default: "24h", Help: "how long a standing lease lasts", Of: "up"},
	{Name: "lease-idle", Default: "1h", Help: "silence after which a lease ends by itself", Of: "up"},
	{Name: "least-notice", Default: "60s", Help: "the shortest notice, silence and start of a lease that the provider here accepts", Of: "up"},
	{Name: "verify", Default: "audit", Help: "how answers are verified: audit re-executes a sample of them by the audit law, replicate asks two providers and compares, prove has each proven before more is paid, none trusts", Of: "up"},
	{Name: "log-level", Default: "info", Help: "debug, info, warn or error", Of: "up"},
	{Name: "log-format", Default: "text", Help: "text or json", Of: "up"},
	{Name: "otlp-endpoint", Help: "send traces to this OpenTelemetry collector, e.g. http://127.0.0.1:4318", Of: "up"},
}

// settings are the square's and those of its trades.
func settings() []plug.Setting {
	all := slices.Clone(ownSettings)
	for _, k := range kits {
		all = append(all, k.Settings...)
	}
	return all
}

// addSettingFlags adds the flags of a command; of is empty for all commands.
func addSettingFlags(flags *pflag.FlagSet, of string) {
	for _, s := range settings() {
		if s.Of == of {
			flags.String(s.Name, s.Default, s.Help)
		}
	}
}

func envName(name string) string {
	return "TORG_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// config is every setting's value and where it came from.
type config struct {
	value, source map[string]string
}

// configured runs a command with all settings resolved.
func configured(run func(*cobra.Command, config, []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cfg, err := readConfig(c)
		if err != nil {
			return err
		}
		return run(c, cfg, args)
	}
}

// readConfig resolves all settings for a command.
func readConfig(c *cobra.Command) (config, error) {
	cfg := config{map[string]string{}, map[string]string{}}
	set := func(name, value, source string) { cfg.value[name], cfg.source[name] = value, source }
	for _, s := range settings() {
		set(s.Name, s.Default, "default")
		if v, ok := os.LookupEnv(envName(s.Name)); ok {
			set(s.Name, v, "env "+envName(s.Name))
		}
		if f := c.Flags().Lookup(s.Name); f != nil && f.Changed {
			set(s.Name, f.Value.String(), "flag --"+s.Name)
		}
	}
	if h, ok := strings.CutPrefix(cfg.value["home"], "~/"); ok {
		user, err := os.UserHomeDir()
		if err != nil {
			return cfg, usageError("home: %w; say where with --home", err)
		}
		cfg.value["home"] = filepath.Join(user, h)
	}
	file := filepath.Join(cfg.value["home"], "config.yaml")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	} else if err != nil {
		return cfg, fmt.Errorf("read config: %w", err)
	}
	inFile, err := readSettings(b)
	if err != nil {
		return cfg, usageError("config file %s: %w", file, err)
	}
	for k, v := range inFile {
		src, known := cfg.source[k]
		if !known || k == "home" {
			return cfg, usageError("config file %s: no setting is called %q; see torg config explain", file, k)
		}
		if src == "default" {
			set(k, v, "file "+file)
		}
	}
	return cfg, nil
}

// readSettings reads a YAML file of settings, each value as it is written: YAML
// itself would make 1e+06 of 1000000 and 83 of 0123.
func readSettings(b []byte) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	values := map[string]string{}
	if doc.Kind == 0 || doc.Content[0].Tag == "!!null" {
		return values, nil // nothing is written there
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, errors.New("want lines such as \"lanes: 4\"")
	}
	for i := 0; i < len(top.Content); i += 2 {
		name, v := top.Content[i].Value, top.Content[i+1]
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("line %d: %s is there twice", v.Line, name)
		}
		switch {
		case v.Kind == yaml.ScalarNode && v.Tag == "!!null":
			return nil, fmt.Errorf("line %d: %s has no value; write \"\" for none, or leave the line out", v.Line, name)
		case v.Kind == yaml.ScalarNode:
			values[name] = v.Value
		case v.Kind == yaml.SequenceNode:
			return nil, fmt.Errorf("line %d: %s is a list: write one value, its parts by commas", v.Line, name)
		default:
			return nil, fmt.Errorf("line %d: %s: want one value", v.Line, name)
		}
	}
	return values, nil
}

func (c config) Get(name string) string { return c.value[name] }

// path is a file or folder below the home directory.
func (c config) path(elem ...string) string {
	return filepath.Join(append([]string{c.value["home"]}, elem...)...)
}

func (c config) Bad(name string, err error) error {
	return usageError("%s %q (from %s): %w", name, c.value[name], c.source[name], err)
}

// list is a setting's words, which are parted by commas.
func (c config) list(name string) (words []string) {
	for _, w := range strings.Split(c.value[name], ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

func (c config) duration(name string) (time.Duration, error) {
	d, err := time.ParseDuration(c.value[name])
	if err == nil && d < 0 {
		err = errors.New("must not be negative")
	}
	if err != nil {
		return 0, c.Bad(name, err)
	}
	return d, nil
}

func (c config) Number(name string, low, high int) (int, error) {
	n, err := strconv.Atoi(c.value[name])
	if err == nil && (n < low || n > high) {
		err = fmt.Errorf("must be %d to %d", low, high)
	}
	if err != nil {
		return 0, c.Bad(name, err)
	}
	return n, nil
}

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "See what torg is configured to do"}
	c.AddCommand(&cobra.Command{
		Use: "explain", Short: "Print every setting, its value and where the value came from", Args: cobra.NoArgs,
		RunE: configured(func(c *cobra.Command, cfg config, _ []string) error {
			type row struct {
				Name   string `json:"name"`
				Value  string `json:"value"`
				Source string `json:"source"`
				Help   string `json:"help"`
			}
			var rows []row
			t := table{{"setting", "value", "from", "meaning"}}
			for _, s := range settings() {
				v := cfg.Get(s.Name)
				if strings.HasSuffix(s.Name, "-key") && v != "" {
					v = "(set)" // a secret is never printed
				}
				rows = append(rows, row{s.Name, v, cfg.source[s.Name], s.Help})
				t = append(t, []any{s.Name, v, cfg.source[s.Name], s.Help})
			}
			return showTable(c.OutOrStdout(), rows, t)
		}),
	})
	return c
}
