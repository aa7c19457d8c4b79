package merkle

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"lukechampine.com/blake3"
)

func leavesOf(n int, seed uint64) []Digest {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]Digest, n)
	for i := range out {
		out[i] = Leaf([]byte{byte(r.Uint32()), byte(i), byte(i >> 8)})
	}
	return out
}

// TestRootRecursive compares with the definition, and shows that a node is
// no leaf.
func TestRootRecursive(t *testing.T) {
	leaves := leavesOf(8, 1)
	level := leaves
	for len(level) > 1 {
		var up []Digest
		for i := 0; i < len(level); i += 2 {
			up = append(up, node(&level[i], &level[i+1]))
		}
		level = up
	}
	if New(slices.Clone(leaves)).Root() != level[0] {
		t.Error("root differs")
	}
	both := append(leaves[0][:], leaves[1][:]...)
	if node(&leaves[0], &leaves[1]) == Leaf(both) || Leaf(both) != blake3.Sum256(both) {
		t.Error("a node can pass for a leaf")
	}
}

func TestOpen(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for range 300 {
		depth := r.IntN(8)
		n := 1 << depth
		leaves := leavesOf(n, r.Uint64())
		tree := New(slices.Clone(leaves))
		set := map[int]bool{r.IntN(n): true}
		for range r.IntN(10) {
			set[r.IntN(n)] = true
		}
		var idx []int
		for i := range n {
			if set[i] {
				idx = append(idx, i)
			}
		}
		var open []Digest
		for _, i := range idx {
			open = append(open, leaves[i])
		}
		path := tree.Open(idx)
		if len(path) != 32*Siblings(depth, idx) {
			t.Fatalf("%d bytes, %d siblings", len(path), Siblings(depth, idx))
		}
		check := func(name string, want bool, idx []int, open []Digest, path []byte) {
			t.Helper()
			if err := Verify(tree.Root(), depth, idx, open, path); (err == nil) != want {
				t.Fatalf("%s: %v", name, err)
			}
		}
		check("honest", true, idx, open, path)
		bad := slices.Clone(open)
		bad[r.IntN(len(bad))][r.IntN(32)] ^= 1
		check("wrong leaf", false, idx, bad, path)
		if len(path) > 0 {
			p := slices.Clone(path)
			p[r.IntN(len(p))] ^= 1
			check("wrong sibling", false, idx, open, p)
			check("short", false, idx, open, path[:len(path)-32])
			check("cut", false, idx, open, path[:len(path)-1])
		}
		check("long", false, idx, open, append(slices.Clone(path), make([]byte, 32)...))
		check("none", false, nil, nil, path)
		if len(idx) > 1 {
			i := slices.Clone(idx)
			i[0], i[1] = i[1], i[0]
			check("unsorted", false, i, open, path)
			i[0] = i[1]
			check("repeated", false, i, open, path)
			o := slices.Clone(open)
			o[0], o[1] = o[1], o[0]
			check("swapped", o[0] == o[1], idx, o, path)
		}
		i := slices.Clone(idx)
		i[len(i)-1] = n
		check("out of range", false, i, open, path)
	}
}

func FuzzVerify(f *testing.F) {
	leaves := leavesOf(16, 1)
	tree := New(slices.Clone(leaves))
	f.Add(tree.Open([]int{3, 7}), 3, 7)
	f.Add([]byte{}, 0, 1)
	f.Fuzz(func(t *testing.T, path []byte, a, b int) {
		err := Verify(tree.Root(), 4, []int{a, b}, []Digest{leaves[3], leaves[7]}, path)
		if (err == nil) != (a == 3 && b == 7 && slices.Equal(path, tree.Open([]int{3, 7}))) {
			t.Errorf("indices %d, %d: %v", a, b, err)
		}
	})
}

// across hashes leaves by a Hasher.
func across(n int, columns [][]uint32) []Digest {
	h := NewHasher(n, len(columns))
	for at := 0; at < len(columns); at += BlockWords {
		Add(h, columns[at:min(at+BlockWords, len(columns))])
	}
	return h.Digests()
}

// TestLeaves compares hashing across columns with hashing each leaf, at sizes
// around blocks, chunks and lanes.
func TestLeaves(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, words := range []int{1, 2, 15, 16, 17, 32, 48, 100, 255, 256, 257, 400} {
		for _, n := range []int{1, 15, 16, 17, 64, 200} {
			columns := make([][]uint32, words)
			for j := range columns {
				columns[j] = make([]uint32, n)
				for i := range columns[j] {
					columns[j][i] = r.Uint32()
				}
			}
			for i, d := range across(n, columns) {
				var b []byte
				for _, c := range columns {
					b = binary.LittleEndian.AppendUint32(b, c[i])
				}
				if d != Leaf(b) {
					t.Fatalf("leaf %d of %d, %d words", i, n, words)
				}
			}
		}
	}
}

// TestLanes compares hashing of many at once with hashing each.
func TestLanes(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for _, size := range []int{4, 40, 60, 64, 68, 160, 256, 1020, 1024, 1028, 1600} {
		for n := range 40 {
			b := make([]byte, n*size)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			for i, d := range LeavesOf(b, size) {
				if d != Leaf(b[i*size:(i+1)*size]) {
					t.Fatalf("leaf %d of %d, %d bytes", i, n, size)
				}
			}
		}
	}
	for n := range 40 {
		children, out := leavesOf(2*n, uint64(n)), make([]Digest, n)
		nodes(out, children)
		for i, d := range out {
			if d != node(&children[2*i], &children[2*i+1]) {
				t.Fatalf("node %d of %d", i, n)
			}
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	const bits = 16
	for i := range b.N {
		Search([32]byte{byte(i), byte(i >> 8)}, bits)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(1<<bits), "ns/hash")
}

func BenchmarkLeaves(b *testing.B) {
	columns := make([][]uint32, 96)
	for j := range columns {
		columns[j] = make([]uint32, 1<<12)
	}
	for b.Loop() {
		across(1<<12, columns)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(6<<12), "ns/block")
}
