package train

import "sync"

// Matrix products.
//
// Every product in this package is C[i,j] = c0 + a[i,0]*b[0,j] + a[i,1]*b[1,j] + ...
// evaluated strictly left to right, each product rounded to float32 before it
// is added. Vector lanes run over j only, so the width of the vector, the tile
// shape and the number of workers change which elements are computed together
// but never the order inside one element: AVX-512, AVX2 and plain Go give the
// same bits. Fused multiply-add is avoided because plain Go has no fast one.

// Tile shape shared by all kernels; panels are packed for it.
const (
	tileRows = 8
	tileCols = 32
)

// kernel computes one tile: for i < 8, j < 32
//
//	c[i*ldc+j] += sum over k of a[k*8+i] * b[k*32+j]
//
// in increasing k.
type kernel func(k int, a, b, c []float32, ldc int)

// kernels lists the implementations this machine can run, best first. The last
// one is always plain Go.
var kernels = append(machineKernels(), namedKernel{"generic", tileGeneric})

type namedKernel struct {
	name string
	run  kernel
}

// tile is the kernel in use; tests swap it to compare implementations.
var tile = kernels[0].run

func tileGeneric(k int, a, b, c []float32, ldc int) {
	for i := range tileRows {
		row := c[i*ldc : i*ldc+tileCols : i*ldc+tileCols]
		for j := 0; j < tileCols; j += 8 {
			s := row[j : j+8 : j+8]
			s0, s1, s2, s3, s4, s5, s6, s7 := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
			for p := range k {
				x := a[p*tileRows+i]
				v := b[p*tileCols+j : p*tileCols+j+8 : p*tileCols+j+8]
				s0 += float32(x * v[0])
				s1 += float32(x * v[1])
				s2 += float32(x * v[2])
				s3 += float32(x * v[3])
				s4 += float32(x * v[4])
				s5 += float32(x * v[5])
				s6 += float32(x * v[6])
				s7 += float32(x * v[7])
			}
			s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7] = s0, s1, s2, s3, s4, s5, s6, s7
		}
	}
}

// view is a matrix inside a slice: element (i,j) is data[i*rs+j*cs]. A
// transpose swaps the strides.
type view struct {
	data   []float32
	rs, cs int
}

func (v view) t() view { return view{v.data, v.cs, v.rs} }

// scratch holds the packed panels of one worker.
type scratch struct {
	a, b []float32
	edge [tileRows * tileCols]float32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// packA lays rows [i0,i0+8) of a out as [k][8], zero-padded.
func packA(dst []float32, a view, i0, m, k int) {
	n := min(tileRows, m-i0)
	if n < tileRows {
		clear(dst[:k*tileRows])
	}
	if a.cs == 1 {
		for i := range n {
			src := a.data[(i0+i)*a.rs:]
			for p, x := range src[:k] {
				dst[p*tileRows+i] = x
			}
		}
		return
	}
	for p := range k {
		d := dst[p*tileRows : p*tileRows+n]
		o := p*a.cs + i0*a.rs
		if a.rs == 1 {
			copy(d, a.data[o:o+n])
			continue
		}
		for i := range d {
			d[i] = a.data[o+i*a.rs]
		}
	}
}

// packB lays columns [j0,j0+32) of b out as [k][32], zero-padded.
func packB(dst []float32, b view, j0, n, k int) {
	w := min(tileCols, n-j0)
	if w < tileCols {
		clear(dst[:k*tileCols])
	}
	if b.cs == 1 {
		for p := range k {
			copy(dst[p*tileCols:p*tileCols+w], b.data[p*b.rs+j0:p*b.rs+j0+w])
		}
		return
	}
	for j := range w {
		o := (j0 + j) * b.cs
		if b.rs == 1 {
			for p, x := range b.data[o : o+k] {
				dst[p*tileCols+j] = x
			}
			continue
		}
		for p := range k {
			dst[p*tileCols+j] = b.data[o+p*b.rs]
		}
	}
}

// rowTile computes rows [i0,i0+8) of C += A*B with B already packed in pb.
func (s *scratch) rowTile(c []float32, ldc int, a view, pb []float32, i0, m, n, k int) {
	s.a = grow(s.a, k*tileRows)
	packA(s.a, a, i0, m, k)
	rows := min(tileRows, m-i0)
	for j0 := 0; j0 < n; j0 += tileCols {
		b := pb[j0*k : j0*k+tileCols*k]
		cols := min(tileCols, n-j0)
		if rows == tileRows && cols == tileCols {
			tile(k, s.a, b, c[i0*ldc+j0:], ldc)
			continue
		}
		for i := range rows {
			copy(s.edge[i*tileCols:i*tileCols+cols], c[(i0+i)*ldc+j0:])
		}
		tile(k, s.a, b, s.edge[:], tileCols)
		for i := range rows {
			copy(c[(i0+i)*ldc+j0:(i0+i)*ldc+j0+cols], s.edge[i*tileCols:])
		}
	}
}

func panels(n int) int { return (n + tileCols - 1) / tileCols }

// mul adds A*B to C (m x n, row stride ldc) on the calling goroutine.
func (s *scratch) mul(c []float32, ldc int, a, b view, m, n, k int) {
	s.b = grow(s.b, panels(n)*tileCols*k)
	for j := range panels(n) {
		packB(s.b[j*tileCols*k:], b, j*tileCols, n, k)
	}
	for i0 := 0; i0 < m; i0 += tileRows {
		s.rowTile(c, ldc, a, s.b, i0, m, n, k)
	}
}

// mul adds A*B to C (m x n, row stride ldc), spread over the workers by rows
// of C.
func (w *workers) mul(c []float32, ldc int, a, b view, m, n, k int) {
	shared := scratches.Get().(*scratch)
	defer scratches.Put(shared)
	shared.b = grow(shared.b, panels(n)*tileCols*k)
	w.each(panels(n), func(j int) {
		packB(shared.b[j*tileCols*k:], b, j*tileCols, n, k)
	})
	w.each((m+tileRows-1)/tileRows, func(i int) {
		s := scratches.Get().(*scratch)
		s.rowTile(c, ldc, a, shared.b, i*tileRows, m, n, k)
		scratches.Put(s)
	})
}
