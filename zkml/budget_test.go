package zkml

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/torg-network/torg/exact/nano"
)

// TestBudget: the bundled model has the bits it should, and the documentation
// the table that the calculator prints.
func TestBudget(t *testing.T) {
	card, pk := mustCommit(t, nano.Model().Program())
	b, err := card.Budget(1, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	doc, err := os.ReadFile("../docs/zkml.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), b.String()) {
		t.Errorf("docs/zkml.md lacks\n%s", b)
	}
	// Fewer queries are refused.
	p, err := newPlan(&card, 1, 64, nil)
	if err != nil {
		t.Fatal(err)
	}
	weak := pk.params
	weak.Words = slices.Clone(weak.Words)
	weak.Words[0].Queries--
	if weak.Budget(p.logColumns).Check() == nil {
		t.Error("one query less is still enough")
	}
	// More fractions than the field is large enough for are refused.
	p.fractions = 40
	if card.budget(p).Check() == nil {
		t.Error("2^40 fractions have 100 bits")
	}
}
