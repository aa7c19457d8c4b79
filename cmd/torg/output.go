package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// outputFormat is the -o flag.
type outputFormat string

var format outputFormat = "table"

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "format" }
func (f *outputFormat) Set(s string) error {
	switch s {
	case "table", "json", "yaml":
		*f = outputFormat(s)
		return nil
	}
	return fmt.Errorf("%q is not table, json or yaml", s)
}

// table is a list for people. The first row names the columns.
type table [][]any

// show prints data as JSON or YAML, or calls people for a table. What data
// marshals to is stable: fields are added, never renamed.
func show(w io.Writer, data any, people func(io.Writer)) error {
	if format == "table" {
		people(w)
		return nil
	}
	b, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		return fmt.Errorf("print as %s: %w", format, err)
	}
	b = escapeJSON(b)
	if format == "yaml" {
		y, err := yaml.JSONToYAML(b)
		if err != nil {
			return fmt.Errorf("print as yaml: %w", err)
		}
		if string(y) == visibleLines(string(y)) {
			_, err = w.Write(y)
			return err
		}
		// Not every form of a YAML string has escapes. JSON is YAML, and has.
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

// showTable prints data, or the table for people.
func showTable(w io.Writer, data any, t table) error {
	return show(w, data, func(w io.Writer) { t.write(w) })
}

func (t table) write(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, row := range t {
		cells := make([]string, len(row))
		for j, c := range row {
			if p, ours := c.(painted); ours {
				cells[j] = string(p)
			} else if cells[j] = visible(fmt.Sprint(c)); i == 0 {
				cells[j] = strings.ToUpper(cells[j])
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	tw.Flush()
}

// A colour is an ANSI SGR code.
type colour string

const (
	bold  colour = "1"
	dim   colour = "2"
	red   colour = "31"
	green colour = "32"
	cyan  colour = "36"
)

// painted is text of ours with its colour.
type painted string

// paint colours s when f is a terminal and NO_COLOR is unset (no-color.org).
func paint(f *os.File, c colour, s string) painted {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return painted(visible(s))
	}
	return painted("\x1b[" + string(c) + "m" + visible(s) + "\x1b[0m")
}

// words is an error for people. It may repeat what others said, and a second line
// of it is set off so that it looks like nothing but an error's.
func words(err error) string {
	return strings.ReplaceAll(visibleLines(err.Error()), "\n", "\n       ")
}

// progress is for people who wait: one line on stderr, never on stdout.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", paint(os.Stderr, dim, "·"), visible(fmt.Sprintf(format, args...)))
}

// logger is the process's log, on stderr.
func logger(cfg config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Get("log-level"))); err != nil {
		return nil, cfg.Bad("log-level", errors.New("want debug, info, warn or error"))
	}
	opt := &slog.HandlerOptions{Level: level}
	switch cfg.Get("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opt)), nil
	}
	return nil, cfg.Bad("log-format", errors.New("want text or json"))
}
