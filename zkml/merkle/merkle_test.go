package merkle

import (
	"encoding/binary"
	mathbits "math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"lukechampine.com/blake3"
)

// treeOf returns the hashes of random leaves of one word, and their tree.
func treeOf(n int, seed uint64) ([]Digest, *Tree) {
	r := rand.New(rand.NewPCG(seed, 1))
	column, out := make([]uint32, n), make([]Digest, n)
	for i := range out {
		column[i] = r.Uint32()
		out[i] = Leaf(binary.LittleEndian.AppendUint32(nil, column[i]))
	}
	h := NewHasher(n, 1)
	Add(h, [][]uint32{column})
	return out, h.Tree()
}

// TestRootRecursive compares with the definition, and shows that a node is
// no leaf.
func TestRootRecursive(t *testing.T) {
	for n := 1; n <= 256; n *= 2 {
		level, tree := treeOf(n, 1)
		for len(level) > 1 {
			var up []Digest
			for i := 0; i < len(level); i += 2 {
				up = append(up, node(&level[i], &level[i+1]))
			}
			level = up
		}
		if tree.Root() != level[0] {
			t.Errorf("root of %d differs", n)
		}
	}
	leaves, _ := treeOf(2, 1)
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
		leaves, tree := treeOf(n, r.Uint64())
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
	leaves, tree := treeOf(16, 1)
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
func across(n int, columns [][]uint32) *Hasher {
	h := NewHasher(n, len(columns))
	for at := 0; at < len(columns); at += BlockWords {
		Add(h, columns[at:min(at+BlockWords, len(columns))])
	}
	return h
}

// TestLeaves compares hashing across columns with hashing each leaf, at sizes
// around blocks, chunks and lanes.
func TestLeaves(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, words := range []int{1, 2, 15, 16, 17, 32, 48, 100, 255, 256, 257, 400, 512, 513, 768, 1000, 1025, 1800} {
		for _, n := range []int{1, 15, 16, 17, 31, 32, 33, 64, 200} {
			columns := make([][]uint32, words)
			for j := range columns {
				columns[j] = make([]uint32, n)
				for i := range columns[j] {
					columns[j][i] = r.Uint32()
				}
			}
			h := across(n, columns)
			for i := range n {
				var b []byte
				for _, c := range columns {
					b = binary.LittleEndian.AppendUint32(b, c[i])
				}
				if h.states[i/lanes].digest(i%lanes) != Leaf(b) {
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
		children, out := make([]Digest, 2*n), make([]Digest, n)
		for i := range children {
			children[i] = Leaf([]byte{byte(n), byte(i)})
		}
		nodes(out, children)
		for i, d := range out {
			if d != node(&children[2*i], &children[2*i+1]) {
				t.Fatalf("node %d of %d", i, n)
			}
		}
	}
}

// TestSearch compares with trying one nonce after the other, from the beginning
// and where the upper half of nonces changes.
func TestSearch(t *testing.T) {
	for i := range 40 {
		seed := Leaf([]byte{byte(i)})
		bits := i % 14
		zeros := func(nonce uint64) int {
			h := Leaf(binary.LittleEndian.AppendUint64(seed[:len(seed):len(seed)], nonce))
			return mathbits.LeadingZeros32(binary.BigEndian.Uint32(h[:]))
		}
		want := uint64(0)
		for zeros(want) < bits {
			want++
		}
		if got := Search(seed, bits); got != want {
			t.Fatalf("%d bits: %d, want %d", bits, got, want)
		}
		if !fast32 {
			continue
		}
		for _, from := range []uint64{1<<32 - 64, 1 << 32, 5<<32 + 96} {
			s := newSearch(seed).at(from)
			const n = 64
			want := 0
			for want < n && zeros(from+uint64(want)) < 5 {
				want++
			}
			if got := search32(&s, 0xf8, n); got != want {
				t.Fatalf("from %d: %d, want %d", from, got, want)
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
