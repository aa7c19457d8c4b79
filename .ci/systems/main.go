// Command systems type-checks the whole tree, tests included, for the systems
// that it is given as arguments (darwin windows), on whatever system it runs.
//
// It reads all packages, dependencies too, from source, and leaves out the bodies
// of others' functions. go vet with another GOOS would first compile the
// dependencies for it, which costs ten times as much and finds the same: what is
// wrong on one system only is a name that is not there, or of another type. The
// rest of go vet's findings are the same on every system; package host, which has
// files for each, is small enough to be vetted for all.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	failed := false
	for _, system := range os.Args[1:] {
		n, wrong, err := check(system)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", system, err)
			os.Exit(1)
		}
		for _, w := range wrong {
			fmt.Printf("%s: %s\n", system, w)
		}
		fmt.Printf("%s: %d packages of torg, %d errors\n", system, n, len(wrong))
		failed = failed || len(wrong) > 0 || n == 0
	}
	if failed {
		os.Exit(1)
	}
}

// check returns how many packages of this module there are for a system, and what
// is wrong with them.
func check(system string) (n int, wrong []string, err error) {
	root, err := filepath.Abs(".")
	if err != nil {
		return 0, nil, err
	}
	all, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax | packages.NeedModule,
		Env:   append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=0"),
		Tests: true,
		ParseFile: func(fset *token.FileSet, name string, src []byte) (*ast.File, error) {
			f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
			if f != nil && !strings.HasPrefix(name, root+string(filepath.Separator)) {
				for _, d := range f.Decls {
					if fn, ok := d.(*ast.FuncDecl); ok {
						fn.Body = nil
					}
				}
			}
			return f, err
		},
	}, "./...")
	if err != nil {
		return 0, nil, fmt.Errorf("load: %w", err)
	}
	seen := map[string]bool{}
	packages.Visit(all, nil, func(p *packages.Package) {
		// Mains of tests are written by go list.
		if p.Module == nil || !p.Module.Main || strings.HasSuffix(p.PkgPath, ".test") {
			return
		}
		n++
		for _, e := range p.Errors {
			if s := e.Error(); !seen[s] {
				seen[s] = true
				wrong = append(wrong, s)
			}
		}
	})
	return n, wrong, nil
}
