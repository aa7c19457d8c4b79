// Package soundness adds up what can go wrong in a proof: every step of a
// protocol says with what probability a false statement survives it, and this
// package keeps the account.
package soundness

import (
	"fmt"
	"math"
	"strings"
)

// FieldBits is log2 of the number of challenges: the extension of package
// koala has p^4 elements, p = 2^31 - 2^24 + 1.
var FieldBits = 4 * math.Log2(1<<31-1<<24+1)

// MinBits is the least number of bits that proofs are made or accepted with.
const MinBits = 100

// Step is one round of a protocol, or several alike.
type Step struct {
	Name   string
	Source string  // where the bound is proven
	Count  int     // how many rounds there are
	Bits   float64 // -log2 of the error of one of them, work included
	Work   int     // bits of proof of work included in Bits
}

// Budget is a protocol's account.
type Budget []Step

// Round is a step whose false statement survives if a random element of the
// extension hits one of n bad ones.
func Round(name, source string, count int, n float64) Step {
	return Step{Name: name, Source: source, Count: count, Bits: FieldBits - math.Log2(n)}
}

// Bits is the round-by-round soundness: -log2 of the largest error of a round.
// It is what counts for the non-interactive proof: an adversary who computes
// q hashes succeeds with probability at most about q 2^-Bits (Canetti, Chen,
// Holmgren, Lombardi, Rothblum, Rothblum, Wichs 2019).
func (b Budget) Bits() float64 {
	bits := math.Inf(1)
	for _, s := range b {
		bits = min(bits, s.Bits)
	}
	return bits
}

// Union is -log2 of the sum of all errors: the soundness of the interactive
// protocol (with work counted as if it were coins).
func (b Budget) Union() float64 {
	var sum float64
	for _, s := range b {
		sum += float64(s.Count) * math.Exp2(-s.Bits)
	}
	return -math.Log2(sum)
}

// Check refuses a budget of fewer than MinBits.
func (b Budget) Check() error {
	if len(b) == 0 {
		return fmt.Errorf("soundness: no budget")
	}
	for _, s := range b {
		if !(s.Bits >= MinBits) { // also refuses what is not a number
			return fmt.Errorf("soundness: %s has %.1f bits, want %d", s.Name, s.Bits, MinBits)
		}
	}
	return nil
}

// String is the budget as a table in Markdown.
func (b Budget) String() string {
	var w strings.Builder
	w.WriteString("| step | rounds | error of one | proven in |\n|---|---|---|---|\n")
	for _, s := range b {
		work := ""
		if s.Work > 0 {
			work = fmt.Sprintf(" (%d by work)", s.Work)
		}
		fmt.Fprintf(&w, "| %s | %d | 2^-%.1f%s | %s |\n", s.Name, s.Count, s.Bits, work, s.Source)
	}
	fmt.Fprintf(&w, "| **round by round** | | **2^-%.1f** | the largest of the above |\n", b.Bits())
	fmt.Fprintf(&w, "| all rounds added | | 2^-%.1f | union bound |\n", b.Union())
	return w.String()
}
