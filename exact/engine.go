package exact

import (
	"slices"
	"sync"
)

// The engine runs a program for many rows at once: rows of one sequence
// (prefill), the next row of several sequences (batched decode) or any mix.
// Each row knows its sequence, whose keys and values are kept in a cache, so
// the three give the same numbers because they are the same code. Weights are
// packed as 16-bit rows of dot products; sums stay in 32 bits, which Check
// has proven exact in any order.

// Of a causal program the engine pushes up to chunkRows rows through at once:
// enough to reuse weights while they are in the cache, few enough to keep
// workspaces small. Where rows are wide, fewer are: the widest value of a
// chunk has about chunkCells elements.
const (
	chunkRows  = 32
	chunkCells = 1 << 17
)

// plan is a program compiled for the engine. It is immutable.
type plan struct {
	prog  *Program
	facts []Facts
	slot  []int // of each value: which workspace buffer holds it
	width []int // of each buffer: columns
	steps []packed
	cache int // elements of keys and values of one sequence
	chunk int // rows run at once; a whole sequence if the program is not causal
	spare sync.Pool
}

// packed is what the engine prepared for one operation.
type packed struct {
	w16  []int16 // MatMul, BlockMatMul: [out][in] when weights and input fit 16 bits
	w32  []int32 // MatMul, BlockMatMul: [out][in] otherwise
	keys int     // Attention, FullAttention: where the keys start in the cache; values follow, rows in pairs (see weigh)
}

// sequence is the state of one sequence: its environment, and keys and values
// of the rows so far.
type sequence struct {
	env   Env
	n     int // rows done
	cache []int16
}

// row is one row of work.
type row struct {
	seq *sequence
	at  int // its number in the sequence
	in  []int32
}

// workspace holds the values of one chunk.
type workspace struct {
	buf    [][]int32
	x16    []int16
	scores []int32
	e      []int16
	acc    []int32
	sums   []int64
	eight  [8]int32
	rows   []row
	steps  []*step
	tokens []int32
}

func compile(p *Program) (*plan, error) {
	facts, err := p.Check()
	if err != nil {
		return nil, err
	}
	pl := &plan{prog: p, facts: facts, slot: make([]int, len(p.Ops)), steps: make([]packed, len(p.Ops))}

	// A buffer is free again after the last use of the value it holds.
	last := make([]int, len(p.Ops))
	for i, op := range p.Ops {
		last[i] = i
		for _, v := range op.In {
			last[v] = i
		}
	}
	for _, v := range p.Outputs {
		last[v] = len(p.Ops)
	}
	var free []int
	for i, op := range p.Ops {
		cols := facts[i].Cols
		s := -1
		for k, f := range free {
			if pl.width[f] == cols {
				s = f
				free = append(free[:k], free[k+1:]...)
				break
			}
		}
		if s < 0 {
			s = len(pl.width)
			pl.width = append(pl.width, cols)
		}
		pl.slot[i] = s
		// Freed only now: no operation writes where it still reads.
		seen := map[Value]bool{}
		for _, v := range op.In {
			if last[v] == i && !seen[v] {
				seen[v] = true
				free = append(free, pl.slot[v])
			}
		}
		if last[i] == i {
			free = append(free, s)
		}
	}

	// By constant: operations may share one.
	w16, w32 := make([][]int16, len(p.Consts)), make([][]int32, len(p.Consts))
	for i, op := range p.Ops {
		switch op.Kind {
		case MatMul, BlockMatMul:
			at := op.Consts[0]
			c := p.Consts[at]
			if fits16(facts[op.In[0]].Range) && c.width() <= 2 {
				if w16[at] == nil {
					w16[at] = make([]int16, c.Cols*padded(c.Rows))
					narrow(w16[at], transposed(c), c.Rows)
				}
				pl.steps[i].w16 = w16[at]
				continue
			}
			if w32[at] == nil {
				w32[at] = transposed(c)
			}
			pl.steps[i].w32 = w32[at]
		case Attention, FullAttention:
			pl.steps[i].keys = pl.cache
			pl.cache += (p.Rows + p.Rows + p.Rows%2) * facts[i].Cols
		}
	}
	pl.chunk = p.Rows
	if p.Causal() {
		held := 0
		for _, w := range pl.width {
			held += w
		}
		pl.chunk = max(1, min(chunkRows, chunkCells/slices.Max(pl.width), MaxHeld/held))
	}
	pl.spare.New = func() any { return pl.newWorkspace() }
	return pl, nil
}

func transposed(c Const) []int32 {
	w := make([]int32, len(c.Data))
	for k := range c.Rows {
		for j := range c.Cols {
			w[j*c.Rows+k] = c.Data[k*c.Cols+j]
		}
	}
	return w
}

// padded is how many elements a row of k is stored as for 16-bit products: a
// multiple of 16, which the fast ones need, unless that takes more than twice
// the room. Of weights the rest is zero, and what the rest of the other operand
// is does not matter.
func padded(k int) int {
	if k <= 8 {
		return k
	}
	return (k + 15) &^ 15
}

// narrow stores rows of k elements as padded 16-bit ones.
func narrow(to []int16, from []int32, k int) {
	p := padded(k)
	for len(from) > 0 {
		for j, e := range from[:k] {
			to[j] = int16(e)
		}
		from, to = from[k:], to[p:]
	}
}

func (pl *plan) newWorkspace() *workspace {
	ws := &workspace{scores: make([]int32, pl.prog.Rows), e: make([]int16, pl.prog.Rows+1), rows: make([]row, 0, pl.chunk), tokens: make([]int32, pl.chunk)}
	for _, w := range pl.width {
		ws.buf = append(ws.buf, make([]int32, pl.chunk*w))
	}
	// Scratch is as wide as what uses it.
	for i, op := range pl.prog.Ops {
		switch cols := pl.facts[i].Cols; op.Kind {
		case MatMul, BlockMatMul:
			if pl.steps[i].w16 != nil {
				k := pl.prog.Consts[op.Consts[0]].Rows
				ws.x16 = slices.Grow(ws.x16, pl.chunk*pl.facts[op.In[0]].Cols/k*padded(k))
			}
		case Attention, FullAttention:
			ws.x16, ws.acc = slices.Grow(ws.x16, cols), slices.Grow(ws.acc, cols)
		case MeanRows:
			ws.sums = slices.Grow(ws.sums, cols)
		}
	}
	return ws
}

// run computes up to chunk rows of work. Rows of one sequence must follow each
// other and continue it; of a program that is not causal they are a whole
// sequence. The outputs stay in ws until its next run.
func (pl *plan) run(ws *workspace, rows []row) {
	n := len(rows)
	for i, op := range pl.prog.Ops {
		cols := pl.facts[i].Cols
		y := ws.buf[pl.slot[i]][:n*cols]
		var x []int32
		xcols := 0
		if len(op.In) > 0 {
			xcols = pl.facts[op.In[0]].Cols
			x = ws.buf[pl.slot[op.In[0]]][:n*xcols]
		}
		var c Const
		if len(op.Consts) > 0 {
			c = pl.prog.Consts[op.Consts[0]]
		}
		switch op.Kind {
		case Input:
			for r := range rows {
				copy(y[r*cols:(r+1)*cols], rows[r].in)
			}
		case Position:
			for r := range rows {
				y[r] = int32(rows[r].at)
			}
		case Gather:
			for r := range rows {
				copy(y[r*cols:(r+1)*cols], c.Data[int(x[r])*cols:])
			}
		case Add:
			b := ws.buf[pl.slot[op.In[1]]][:n*cols]
			for j, e := range x {
				y[j] = e + b[j]
			}
		case Offset:
			for r := range rows {
				from, to := x[r*cols:][:len(c.Data)], y[r*cols:][:len(c.Data)]
				for j, e := range c.Data {
					to[j] = from[j] + e
				}
			}
		case MatMul, BlockMatMul:
			// Blocks are rows of a product.
			blocks := len(x) / c.Rows
			if w := pl.steps[i].w16; w != nil {
				x16 := ws.x16[:blocks*padded(c.Rows)]
				narrow(x16, x, c.Rows)
				matmul16(y, x16, w, blocks, padded(c.Rows), c.Cols, &ws.eight)
			} else {
				matmul32(y, x, pl.steps[i].w32, blocks, c.Rows, c.Cols)
			}
		case Requantise:
			requantiseAll(y, x, op.Params[0], op.Params[1])
		case Table:
			lo := op.Params[0]
			for j, e := range x {
				y[j] = c.Data[int64(e)-lo]
			}
		case LayerNorm:
			for r := range rows {
				layerNorm(y[r*cols:(r+1)*cols], x[r*cols:(r+1)*cols], c.Data, op.Params[0], op.Params[1])
			}
		case Attention, FullAttention:
			k := ws.buf[pl.slot[op.In[1]]][:n*cols]
			v := ws.buf[pl.slot[op.In[2]]][:n*cols]
			pl.attention(ws, i, y, x, k, v, rows)
		case ArgMax:
			for r := range rows {
				y[r] = int32(argMax(x[r*xcols : (r+1)*xcols]))
			}
		case Arrange:
			for r := range rows {
				from, to := x[r*xcols:(r+1)*xcols], y[r*cols:][:len(c.Data)]
				for j, k := range c.Data {
					e := int32(0)
					if k >= 0 {
						e = from[k]
					}
					to[j] = e
				}
			}
		case BlockMax:
			size := xcols / cols
			for j := range y {
				y[j] = slices.Max(x[j*size : (j+1)*size])
			}
		case Multiply:
			b := ws.buf[pl.slot[op.In[1]]][:n*cols]
			for j, e := range x {
				y[j] = e * b[j]
			}
		case RMSNorm:
			for r := range rows {
				rmsNorm(y[r*cols:(r+1)*cols], x[r*cols:(r+1)*cols], c.Data, op.Params[0], op.Params[1])
			}
		case MeanRows:
			sums := ws.sums[:cols]
			clear(sums)
			for r := range rows {
				for j, e := range x[r*cols : (r+1)*cols] {
					sums[j] += int64(e)
				}
			}
			for j, s := range sums {
				y[j] = int32(mean(s, n))
			}
			for r := 1; r < n; r++ {
				copy(y[r*cols:(r+1)*cols], y[:cols])
			}
		case Noise:
			for r, w := range rows {
				w.seq.env.Noise(w.at, c.Data, y[r*cols:(r+1)*cols])
			}
		}
	}
	for _, r := range rows {
		r.seq.n = max(r.seq.n, r.at+1)
	}
}

// output is row r of output o after run.
func (pl *plan) output(ws *workspace, o, r int) []int32 {
	v := pl.prog.Outputs[o]
	cols := pl.facts[v].Cols
	return ws.buf[pl.slot[v]][r*cols : (r+1)*cols]
}

func (pl *plan) newSequence() *sequence { return &sequence{cache: make([]int16, pl.cache)} }

// matmul16 sets y[r][j] to the dot product of x[r] and w[j], for n rows, k
// elements a product and m products a row. A few rows of w stay in the
// nearest cache while all rows of x pass.
func matmul16(y []int32, x, w []int16, n, k, m int, eight *[8]int32) {
	const block = 32
	whole := m &^ 7
	for j := 0; j < whole; j += block {
		to := min(whole, j+block)
		for r := range n {
			dots(y[r*m+j:r*m+to], x[r*k:(r+1)*k], w[j*k:to*k], k)
		}
	}
	// Of the products that do not fill up eight, those of eight rows go
	// together.
	for r := 0; whole < m && r < n; r += 8 {
		out := eight[:min(8, n-r)]
		for j := whole; j < m; j++ {
			dots(out, w[j*k:(j+1)*k], x[r*k:], k)
			for i, e := range out {
				y[(r+i)*m+j] = e
			}
		}
	}
}

// matmul32 is matmul16 for elements that do not fit 16 bits.
func matmul32(y, x, w []int32, n, k, m int) {
	for j := range m {
		wj := w[j*k : (j+1)*k]
		for r := range n {
			var s int64
			for i, e := range x[r*k : (r+1)*k] {
				s += int64(e) * int64(wj[i])
			}
			y[r*m+j] = int32(s)
		}
	}
}

func requantiseAll(y, x []int32, shift, bits int64) {
	top := int32(1)<<(bits-1) - 1
	// x < 2^30 and the half <= 2^29: the sum fits.
	half := int32(1) << shift >> 1
	for j, e := range x {
		y[j] = max(-top-1, min(top, (e+half)>>(uint(shift)&31)))
	}
}

func layerNorm(y, x, table []int32, eps, shift int64) {
	var sum, squares int64
	for _, e := range x {
		sum += int64(e)
	}
	m := int32(mean(sum, len(x)))
	for j, e := range x {
		d := e - m
		y[j] = d
		squares += int64(d) * int64(d)
	}
	scale(y, y, normFactor(squares+eps, table), shift)
}

func rmsNorm(y, x, table []int32, eps, shift int64) {
	var squares int64
	for _, e := range x {
		squares += int64(e) * int64(e)
	}
	scale(y, x, normFactor(squares+eps, table), shift)
}

// scale sets y to x times factor, rounded by shift >= 1.
func scale(y, x []int32, factor, shift int64) {
	f, half := int32(factor), int32(1)<<(shift-1)
	for j, d := range x {
		y[j] = (d*f + half) >> (uint(shift) & 31)
	}
}

func argMax(v []int32) int {
	best := 0
	for j, e := range v {
		if e > v[best] {
			best = j
		}
	}
	return best
}

// attention appends the rows' keys and values to their sequences, then
// computes each row against its own sequence: up to itself, or all of it.
func (pl *plan) attention(ws *workspace, i int, y, q, k, v []int32, rows []row) {
	op := pl.prog.Ops[i]
	cols, heads, shift := pl.facts[i].Cols, int(op.Params[0]), op.Params[1]
	table := pl.prog.Consts[op.Consts[0]].Data
	width := cols / heads
	kAt := pl.steps[i].keys
	vAt := kAt + pl.prog.Rows*cols
	for r, w := range rows {
		kd, vd := w.seq.cache[kAt+w.at*cols:][:cols], w.seq.cache[vAt+w.at/2*2*cols:][:2*cols]
		for c := range cols {
			kd[c], vd[2*c+w.at%2] = int16(k[r*cols+c]), int16(v[r*cols+c])
		}
	}
	half := int32(1) << shift >> 1
	last := int32(len(table) - 1)
	for r, w := range rows {
		x16 := ws.x16[:cols]
		for c, e := range q[r*cols : (r+1)*cols] {
			x16[c] = int16(e)
		}
		n := w.at + 1
		if op.Kind == FullAttention {
			n = len(rows)
		}
		scores := ws.scores[:n]
		for h := range heads {
			qh := x16[h*width : (h+1)*width]
			at := kAt + h*width
			dots(scores, qh, w.seq.cache[at:at+(n-1)*cols+width], cols)
			top := int32(-Limit)
			for _, s := range scores {
				top = max(top, s)
			}
			// An odd last row is paired with weight zero.
			e := ws.e[:n+n%2]
			e[len(e)-1] = 0
			var z int32
			for j, s := range scores {
				x := table[min((top-s+half)>>(uint(shift)&31), last)]
				e[j] = int16(x)
				z += x
			}
			acc := ws.acc[:width]
			weigh(acc, e, w.seq.cache[vAt+2*h*width:], 2*cols)
			out := y[r*cols+h*width:][:width]
			for c, a := range acc {
				out[c] = int32(floorDiv(int64(a), int64(z)))
			}
		}
	}
}
