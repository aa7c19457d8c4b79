package merkle

import "testing"

// TestPortable repeats the tests of everything that has kernels without them.
func TestPortable(t *testing.T) {
	defer func(was bool) { fast32 = was }(fast32)
	fast32 = false
	TestRootRecursive(t)
	TestOpen(t)
	TestLeaves(t)
	TestLanes(t)
	TestSearch(t)
}
