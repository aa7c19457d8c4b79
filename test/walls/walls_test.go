// Package walls holds the arrows of docs/architecture.md: which room of the house
// may import which. It reads the import clauses of every file that is no test.
package walls

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/torg-network/torg"

// rooms says, from the ground up, which other rooms each may import. A room is a
// folder with all below it that is no room itself; a room may always import what
// is its own. What a room may import stands above it, so there is no circle.
var rooms = []struct {
	name string
	may  []string
}{
	{"square", nil},
	{"door", nil},
	{"host", nil},
	{"journal", []string{"host"}},
	{"train", nil},
	{"exact", []string{"train"}},
	{"zkml", []string{"exact"}},
	{"market", []string{"square"}},
	{"chain", []string{"market", "square"}},
	// What every trade has.
	{"trade", []string{"market", "square"}},
	{"trade/wire", []string{"square"}},
	{"trade/strict", []string{"square"}},
	{"trade/judge", []string{"host", "market", "square", "trade"}},
	{"trade/seller", []string{"chain", "journal", "market", "square", "trade", "trade/wire"}},
	{"trade/desk", []string{"chain", "journal", "market", "square", "trade", "trade/wire"}},
	{"trade/fake", []string{"chain", "market", "square", "trade"}},
	{"trade/tradetest", []string{"chain", "journal", "market", "square", "trade", "trade/desk", "trade/fake", "trade/seller", "trade/wire"}},
	// The trades.
	{"trade/infer", []string{"exact", "market", "square", "trade", "trade/desk", "trade/fake", "trade/seller", "trade/strict", "trade/tradetest", "trade/wire", "zkml"}},
	// The doors and the ledger. The ledger and the node know no trade by name.
	{"ledger", []string{"door", "host", "market", "square", "trade"}},
	{"node", []string{"journal", "square", "trade/seller"}},
	{"gateway/keys", []string{"square"}},
	{"gateway/admin", []string{"gateway/keys", "square", "trade"}},
	{"gateway/openai", []string{"exact", "gateway/keys", "square", "trade", "trade/desk", "trade/infer", "trade/strict", "trade/wire"}},
	{"gateway/sellertest", []string{"square", "trade/desk", "trade/infer", "trade/wire"}},
	{"gateway", []string{"door", "gateway/admin", "gateway/keys", "trade"}},
	{"console", []string{"gateway/keys", "market", "square", "trade", "trade/desk", "trade/seller"}},
	// What a trade plugs into them.
	{"console/infer", []string{"console", "gateway/keys", "market", "square", "trade/desk", "trade/infer"}},
	{"plug", []string{"console", "gateway/keys", "square", "trade", "trade/desk", "trade/seller"}},
	{"trade/tradetest/echo", []string{"console", "market", "plug", "square", "trade", "trade/desk", "trade/seller", "trade/wire"}},
}

// above may import everything, and nothing may import it.
var above = []string{".", "cmd", "proto", "release", "test"}

// roomOf is the room of a folder; "" for what is above all rooms.
func roomOf(t *testing.T, folder string) string {
	t.Helper()
	best := ""
	for _, r := range rooms {
		if (folder == r.name || strings.HasPrefix(folder, r.name+"/")) && len(r.name) > len(best) {
			best = r.name
		}
	}
	if top, _, _ := strings.Cut(folder, "/"); best == "" && !slices.Contains(above, top) {
		t.Errorf("%s: a folder in no room: say in this test and in docs/architecture.md what it may import", folder)
	}
	return best
}

// imports are the folders of this module that each folder's programs import,
// with one file that does.
func imports(t *testing.T) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		from := path.Dir(rel)
		if out[from] == nil {
			out[from] = map[string]string{}
		}
		for _, im := range f.Imports {
			p, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				return err
			}
			if to, ok := strings.CutPrefix(p, module+"/"); ok {
				out[from][to] = rel
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestArrows: every import goes to a room that the table allows, and every arrow
// that the table allows is used.
func TestArrows(t *testing.T) {
	may := map[string]map[string]bool{} // room → room → used
	for i, r := range rooms {
		may[r.name] = map[string]bool{}
		for _, to := range r.may {
			if !slices.ContainsFunc(rooms[:i], func(q struct {
				name string
				may  []string
			}) bool {
				return q.name == to
			}) {
				t.Errorf("the table lets %s import %s, which does not stand above it", r.name, to)
			}
			may[r.name][to] = false
		}
	}
	lived := map[string]bool{}
	all := imports(t)
	for _, from := range slices.Sorted(maps.Keys(all)) {
		a := roomOf(t, from)
		lived[a] = true
		if a == "" {
			continue
		}
		for _, to := range slices.Sorted(maps.Keys(all[from])) {
			b := roomOf(t, to)
			if b == a {
				continue
			}
			if _, ok := may[a][b]; !ok {
				t.Errorf("%s: %s may not import %s", all[from][to], a, to)
				continue
			}
			may[a][b] = true
		}
	}
	for _, r := range rooms {
		if !lived[r.name] {
			t.Errorf("the table has a room %s, and there is no such folder", r.name)
			continue
		}
		for _, to := range r.may {
			if !may[r.name][to] {
				t.Errorf("the table lets %s import %s, which it does not: take the arrow out", r.name, to)
			}
		}
	}
}

// TestSDK: the Cosmos SDK and its consensus engine stay in the ledger's rooms and
// above them, and a trade's developer never links them.
func TestSDK(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		top, _, _ := strings.Cut(rel, "/")
		switch {
		case d.IsDir() && (top == "ledger" || slices.Contains(above, top) || strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, im := range f.Imports {
			p := strings.Trim(im.Path.Value, `"`)
			if strings.Contains(p, "cosmos/") || strings.Contains(p, "cometbft/") || strings.HasPrefix(p, "cosmossdk.io/") || strings.HasPrefix(p, module+"/ledger") {
				t.Errorf("%s imports %s: only the ledger, the command line and tests under test/ may", rel, p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
