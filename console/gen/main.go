// Command gen makes what the console embeds but nobody writes by hand: Go from
// every templ file, and browser files from TypeScript and CSS. It is a module of
// its own so that its tools are not the console's dependencies; the console
// builds with Go alone, from what is committed.
//
//	go generate ./console
//
//	console/<folder>/<name>.templ   →  <name>_templ.go beside it
//	console/<folder>/<name>.ts      →  assets/dist/<name>.js, one bundle each
//	console/assets/style.css        →  assets/dist/style.css
//
// Folders named lib and vendor hold what bundles import. The same sources give
// the same bytes: the versions of both tools are this module's go.mod.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/a-h/templ/generator"
	"github.com/a-h/templ/parser/v2"
	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	if err := generate(".."); err != nil { // go -C console/gen run .
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	var templates, entries []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"gen", "lib", "vendor", "dist", "testdata", "node_modules"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		switch {
		case strings.HasSuffix(path, ".templ"):
			templates = append(templates, path)
		case strings.HasSuffix(path, ".ts") && !strings.HasSuffix(path, ".d.ts"):
			entries = append(entries, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, t := range templates { // all that can be made, and every error
		err = errors.Join(err, template(root, t))
	}
	return errors.Join(err, bundle(root, append(entries, filepath.Join(root, "assets", "style.css"))))
}

// template writes the Go file of one templ file, if it changed.
func template(root, path string) error {
	t, err := parser.Parse(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := generator.Generate(t, &b, generator.WithFileName(filepath.ToSlash(name))); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	code, err := format.Source(b.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return write(strings.TrimSuffix(path, ".templ")+"_templ.go", code)
}

// bundle replaces assets/dist.
func bundle(root string, entries []string) error {
	dist := filepath.Join(root, "assets", "dist")
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		r := api.Build(api.BuildOptions{
			EntryPoints: []string{e}, Bundle: true, Write: false, Outdir: dist,
			MinifyWhitespace: true, MinifySyntax: true, MinifyIdentifiers: true,
			Format: api.FormatESModule, Target: api.ES2022, Charset: api.CharsetUTF8,
			LegalComments: api.LegalCommentsInline, LogLevel: api.LogLevelWarning,
			// light-dark() and nesting are served as they are written.
			Supported: map[string]bool{"nesting": true},
		})
		if len(r.Errors) > 0 {
			return fmt.Errorf("%s: %s", e, r.Errors[0].Text)
		}
		for _, f := range r.OutputFiles {
			name := filepath.Base(f.Path)
			if seen[name] {
				return fmt.Errorf("%s: another folder has an island of this name", e)
			}
			seen[name] = true
			if err := write(filepath.Join(dist, name), f.Contents); err != nil {
				return err
			}
		}
	}
	old, err := os.ReadDir(dist)
	for _, f := range old {
		if !seen[f.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dist, f.Name())))
		}
	}
	return err
}

// write leaves a file that is right already alone, and with it the build cache.
func write(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return os.WriteFile(path, content, 0o644)
}
