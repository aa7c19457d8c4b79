// Package corpus holds the text the bundled model is trained on: three novels
// by Jane Austen in the public domain, one paragraph a line, ASCII. README.md
// states where they come from and how they were normalised.
package corpus

import _ "embed"

var (
	//go:embed emma.txt
	emma []byte
	//go:embed pride-and-prejudice.txt
	pride []byte
	//go:embed northanger-abbey.txt
	northanger []byte
)

func novels() [][]byte { return [][]byte{emma, pride, northanger} }

// cut is where a novel's held-out tail starts: its last twentieth.
func cut(novel []byte) int { return len(novel) - len(novel)/20 }

// Train returns the first 95 % of each novel, one after the other.
func Train() []byte {
	var out []byte
	for _, n := range novels() {
		out = append(out, n[:cut(n)]...)
	}
	return out
}

// HeldOut returns the last 5 % of each novel, one text each. Training never
// sees them.
func HeldOut() [][]byte {
	var out [][]byte
	for _, n := range novels() {
		out = append(out, append([]byte(nil), n[cut(n):]...))
	}
	return out
}
