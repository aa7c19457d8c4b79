package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// setting is one thing a person may configure. A value comes from the flag,
// else TORG_<NAME>, else the file config.yaml in the home directory, else the
// default.
type setting struct {
	name, def, help string
	of              string // the command that has it as a flag; empty: all
}

var settings = []setting{
	{"home", "~/.torg", "where keys, ledger and receipts live", ""},
	{"gateway-addr", "127.0.0.1:8800", "where the OpenAI-compatible API listens; a busy port is picked around", "up"},
	{"provider-addr", "127.0.0.1:8810", "where the provider listens", "up"},
	{"rpc-addr", "127.0.0.1:8820", "the ledger's CometBFT RPC", "up"},
	{"grpc-addr", "127.0.0.1:8821", "the ledger's gRPC", "up"},
	{"rest-addr", "127.0.0.1:8822", "the ledger's REST API", "up"},
	{"hosts", "", "more names that lead to gateway, RPC and REST, by commas: a proxy's, a tunnel's, this machine's; others are refused", "up"},
	{"ledger-origins", "", "web origins whose pages may read RPC and REST, by commas, e.g. https://app.example; * is any", "up"},
	{"block-time", "200ms", "pause between blocks", "up"},
	{"upstream", "", "also sell the models of this OpenAI-compatible server, e.g. http://127.0.0.1:11434/v1", "up"},
	{"upstream-key", "", "API key for the upstream server", "up"},
	{"price-prompt", "0.1", "TORG per million prompt tokens this machine asks for", "up"},
	{"price-completion", "1", "TORG per million completion tokens this machine asks for", "up"},
	{"escrow", "10", "TORG locked in each standing lease", "up"},
	{"lanes", "8", "parallel requests per standing lease", "up"},
	{"streams", "0", "parallel requests at once: more standing leases are opened where all lanes are busy; 0 is those of one lease", "up"},
	{"lease-duration", "24h", "how long a standing lease lasts", "up"},
	{"lease-idle", "1h", "silence after which a lease ends by itself", "up"},
	{"least-notice", "60s", "the shortest notice, silence and start of a lease that the provider here accepts", "up"},
	{"verify", "audit", "how answers are verified: audit re-executes a sample of them by the audit law, replicate asks two providers and compares, prove has each proven before more is paid, none trusts", "up"},
	{"log-level", "info", "debug, info, warn or error", "up"},
	{"log-format", "text", "text or json", "up"},
	{"otlp-endpoint", "", "send traces to this OpenTelemetry collector, e.g. http://127.0.0.1:4318", "up"},
	{"api-key", "", "API key for chat (default: the one torg up made)", "chat"},
	{"api-base", "", "OpenAI base URL for chat (default: the running torg up)", "chat"},
}

// addSettingFlags adds the flags of a command; of is empty for all commands.
func addSettingFlags(flags *pflag.FlagSet, of string) {
	for _, s := range settings {
		if s.of == of {
			flags.String(s.name, s.def, s.help)
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
	for _, s := range settings {
		set(s.name, s.def, "default")
		if v, ok := os.LookupEnv(envName(s.name)); ok {
			set(s.name, v, "env "+envName(s.name))
		}
		if f := c.Flags().Lookup(s.name); f != nil && f.Changed {
			set(s.name, f.Value.String(), "flag --"+s.name)
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

func (c config) get(name string) string { return c.value[name] }

// path is a file or folder below the home directory.
func (c config) path(elem ...string) string {
	return filepath.Join(append([]string{c.value["home"]}, elem...)...)
}

func (c config) bad(name string, err error) error {
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
		return 0, c.bad(name, err)
	}
	return d, nil
}

func (c config) number(name string, low, high int) (int, error) {
	n, err := strconv.Atoi(c.value[name])
	if err == nil && (n < low || n > high) {
		err = fmt.Errorf("must be %d to %d", low, high)
	}
	if err != nil {
		return 0, c.bad(name, err)
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
			for _, s := range settings {
				v := cfg.get(s.name)
				if strings.HasSuffix(s.name, "-key") && v != "" {
					v = "(set)" // a secret is never printed
				}
				rows = append(rows, row{s.name, v, cfg.source[s.name], s.help})
				t = append(t, []any{s.name, v, cfg.source[s.name], s.help})
			}
			return showTable(c.OutOrStdout(), rows, t)
		}),
	})
	return c
}
