package koala

import "testing"

// TestPortable repeats the tests of everything that has kernels without them:
// with both checked against the definitions, they give the same words.
func TestPortable(t *testing.T) {
	if !hasAVX512 {
		t.Skip("the portable code has been tested already")
	}
	hasAVX512 = false
	defer func() { hasAVX512 = true }()
	TestVectors(t)
	TestLongDot(t)
	TestEncode(t)
}
