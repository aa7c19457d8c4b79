package train

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
)

// Vocab is the number of tokens: one for each byte value.
const Vocab = 256

// Shape is the size of a model.
type Shape struct {
	Layers  int // transformer blocks
	Width   int // residual width; a multiple of Heads
	Heads   int // attention heads
	Context int // positions
}

func (s Shape) check() error {
	ok := func(x, hi int) bool { return x > 0 && x <= hi }
	if !ok(s.Layers, 64) || !ok(s.Width, 4096) || !ok(s.Heads, 64) || !ok(s.Context, 8192) || s.Width%s.Heads != 0 {
		return fmt.Errorf("train: impossible shape %+v", s)
	}
	return nil
}

// Params are the weights of a model. All matrices are row-major and multiply
// from the right: y = x W.
type Params struct {
	Shape Shape
	// Flat holds every parameter, in the order of the fields below, layer by
	// layer; the fields are views into it.
	Flat []float32

	Embed    []float32 // [Vocab][Width], also the output head (transposed)
	Position []float32 // [Context][Width]
	Layers   []Layer
	Final    []float32 // [Width], gain of the last LayerNorm
}

// Layer is one transformer block: x += Attn(LN(x)); x += MLP(LN(x)).
type Layer struct {
	AttnGain []float32 // [Width]
	QKV      []float32 // [Width][3*Width]: queries, keys, values; head h owns columns h*Width/Heads...
	AttnOut  []float32 // [Width][Width]
	MLPGain  []float32 // [Width]
	Up       []float32 // [Width][4*Width]
	Down     []float32 // [4*Width][Width]
}

// NewParams returns zero parameters of the given shape.
func NewParams(s Shape) (*Params, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	d := s.Width
	p := &Params{Shape: s, Flat: make([]float32, s.size())}
	rest := p.Flat
	take := func(n int) []float32 {
		v := rest[:n:n]
		rest = rest[n:]
		return v
	}
	p.Embed = take(Vocab * d)
	p.Position = take(s.Context * d)
	p.Layers = make([]Layer, s.Layers)
	for i := range p.Layers {
		l := &p.Layers[i]
		l.AttnGain, l.QKV, l.AttnOut = take(d), take(d*3*d), take(d*d)
		l.MLPGain, l.Up, l.Down = take(d), take(d*4*d), take(4*d*d)
	}
	p.Final = take(d)
	return p, nil
}

// tensor is one named piece of Flat.
type tensor struct {
	name   string
	data   []float32
	matrix bool // not a gain
}

// tensors lists all parameters in the order of Flat.
func (p *Params) tensors() []tensor {
	ts := []tensor{{"embed", p.Embed, true}, {"position", p.Position, true}}
	for i, l := range p.Layers {
		at := fmt.Sprintf("layer %d ", i)
		ts = append(ts,
			tensor{at + "attention gain", l.AttnGain, false}, tensor{at + "qkv", l.QKV, true}, tensor{at + "attention out", l.AttnOut, true},
			tensor{at + "mlp gain", l.MLPGain, false}, tensor{at + "up", l.Up, true}, tensor{at + "down", l.Down, true})
	}
	return append(ts, tensor{"final gain", p.Final, false})
}

// size is the number of parameters of a shape.
func (s Shape) size() int {
	d := s.Width
	return Vocab*d + s.Context*d + s.Layers*(12*d*d+2*d) + d
}

// Digest is the SHA-256 of the parameters as little-endian IEEE 754 words in
// the order of Flat.
func (p *Params) Digest() [32]byte {
	h := sha256.New()
	var w [4]byte
	for _, x := range p.Flat {
		binary.LittleEndian.PutUint32(w[:], math.Float32bits(x))
		h.Write(w[:])
	}
	return [32]byte(h.Sum(nil))
}

// initialise draws the starting point: normal-like numbers of deviation 0.02
// for matrices (those that write to the residual scaled down by the number of
// such additions), sinusoids for positions, 1 for gains.
func (p *Params) initialise(seed uint64) {
	r := rng(seed)
	fill := func(v []float32, dev float32) {
		for i := range v {
			v[i] = r.normal() * dev
		}
	}
	one := func(v []float32) {
		for i := range v {
			v[i] = 1
		}
	}
	residual := 0.02 / sqrt32(float32(2*p.Shape.Layers))
	fill(p.Embed, 0.02)
	sinusoids(p.Position, p.Shape.Width, 0.03)
	for _, l := range p.Layers {
		one(l.AttnGain)
		fill(l.QKV, 0.02)
		fill(l.AttnOut, residual)
		one(l.MLPGain)
		fill(l.Up, 0.02)
		fill(l.Down, residual)
	}
	one(p.Final)
}

// sinusoids starts the position table as that of Vaswani et al. (2017), so that
// "the byte before" is within reach of one linear map from the first step.
func sinusoids(table []float32, d int, amplitude float64) {
	for i := range table {
		t, j := i/d, i%d
		// Wavelengths grow geometrically from 2 pi to 1000 * 2 pi.
		angle := float64(t) * float64(exp32(float32(-6.9077553*float64(j/2*2)/float64(d)))) / math.Pi
		if j%2 == 0 {
			angle += 1.5 // sine as a cosine a quarter turn on
		}
		angle -= float64(int(angle/2) * 2) // into [0,2)
		if angle > 1 {
			angle = 2 - angle
		}
		table[i] = float32(amplitude * cosPi(angle))
	}
}

// pass holds the activations of one forward and backward pass over a batch of
// equally long sequences.
type pass struct {
	p       *Params
	w       *workers
	batch   int
	length  int // positions in each sequence, <= Context
	rows    int // batch*length
	tokens  []byte
	x       [][]float32 // residual before layer i; x[Layers] is the last
	layers  []layerPass
	final   normPass
	logits  []float32 // [rows][Vocab]; after loss: their gradient
	rowLoss []float32
	// Gradients of activations, shared by all layers.
	dx, dn, dqkv, dh, dAtt []float32
}

type layerPass struct {
	n1, n2      normPass
	qkv         []float32 // [rows][3*Width]
	prob        []float32 // [batch][Heads][length][length]
	att         []float32 // [rows][Width], heads side by side
	mid         []float32 // residual after attention
	h, tanh, ac []float32 // [rows][4*Width]: before GELU, its tanh, after it
}

type normPass struct {
	mean, inv []float32 // [rows]
	y         []float32 // [rows][Width], gain applied
}

func newPass(p *Params, w *workers, batch, length int) *pass {
	d, rows := p.Shape.Width, batch*length
	mk := func(n int) []float32 { return make([]float32, n) }
	norm := func() normPass { return normPass{mk(rows), mk(rows), mk(rows * d)} }
	a := &pass{
		p: p, w: w, batch: batch, length: length, rows: rows,
		final: norm(), logits: mk(rows * Vocab), rowLoss: mk(rows),
		dx: mk(rows * d), dn: mk(rows * d), dqkv: mk(rows * 3 * d), dh: mk(rows * 4 * d), dAtt: mk(rows * d),
	}
	for range p.Shape.Layers {
		a.x = append(a.x, mk(rows*d))
		a.layers = append(a.layers, layerPass{
			n1: norm(), n2: norm(),
			qkv:  mk(rows * 3 * d),
			prob: mk(batch * p.Shape.Heads * length * length),
			att:  mk(rows * d), mid: mk(rows * d),
			h: mk(rows * 4 * d), tanh: mk(rows * 4 * d), ac: mk(rows * 4 * d),
		})
	}
	a.x = append(a.x, mk(rows*d))
	return a
}

// rowMajor is the view of a matrix with cols columns.
func rowMajor(v []float32, cols int) view { return view{v, cols, 1} }

// matmul sets dst = a W for W [in][out].
func (a *pass) matmul(dst, src, w []float32, in, out int) {
	clear(dst)
	a.w.mul(dst, out, rowMajor(src, in), rowMajor(w, out), a.rows, out, in)
}

// chunk is how many rows one piece of row-wise work takes.
const chunk = 32

func (a *pass) eachRow(f func(row int)) {
	a.w.each((a.rows+chunk-1)/chunk, func(c int) {
		for r := c * chunk; r < min(a.rows, (c+1)*chunk); r++ {
			f(r)
		}
	})
}

// forward fills the activations up to the logits. tokens are [batch][length].
func (a *pass) forward(tokens []byte) {
	p, d := a.p, a.p.Shape.Width
	a.tokens = tokens
	a.eachRow(func(r int) {
		e := p.Embed[int(tokens[r])*d:][:d]
		q := p.Position[r%a.length*d:][:d]
		x := a.x[0][r*d:][:d]
		for j := range x {
			x[j] = e[j] + q[j]
		}
	})
	for i := range a.layers {
		l, lp := &p.Layers[i], &a.layers[i]
		a.norm(&lp.n1, a.x[i], l.AttnGain)
		a.matmul(lp.qkv, lp.n1.y, l.QKV, d, 3*d)
		a.attention(lp)
		copy(lp.mid, a.x[i])
		a.w.mul(lp.mid, d, rowMajor(lp.att, d), rowMajor(l.AttnOut, d), a.rows, d, d)
		a.norm(&lp.n2, lp.mid, l.MLPGain)
		a.matmul(lp.h, lp.n2.y, l.Up, d, 4*d)
		a.eachRow(func(r int) { gelu(lp.ac[r*4*d:][:4*d], lp.tanh[r*4*d:], lp.h[r*4*d:]) })
		copy(a.x[i+1], lp.mid)
		a.w.mul(a.x[i+1], d, rowMajor(lp.ac, 4*d), rowMajor(l.Down, d), a.rows, d, 4*d)
	}
	a.norm(&a.final, a.x[len(a.layers)], p.Final)
	clear(a.logits)
	a.w.mul(a.logits, Vocab, rowMajor(a.final.y, d), rowMajor(p.Embed, d).t(), a.rows, Vocab, d)
}

// normEps keeps the inverse deviation of a constant row finite.
const normEps = 1e-5

func (a *pass) norm(n *normPass, x, gain []float32) {
	d := len(gain)
	a.eachRow(func(r int) {
		v, y := x[r*d:][:d], n.y[r*d:][:d]
		var sum float32
		for _, e := range v {
			sum += e
		}
		mean := sum / float32(d)
		var sq float32
		for _, e := range v {
			c := e - mean
			sq += float32(c * c)
		}
		inv := 1 / sqrt32(sq/float32(d)+normEps)
		n.mean[r], n.inv[r] = mean, inv
		for j, e := range v {
			y[j] = float32(float32(e-mean)*inv) * gain[j]
		}
	})
}

// normBack adds the gradient of the norm's input to dx and of its gain to
// dgain, given dy.
func (a *pass) normBack(n *normPass, x, gain, dy, dx, dgain []float32) {
	d := len(gain)
	// The gain first: a sum over rows, in row order.
	for r := range a.rows {
		mean, inv := n.mean[r], n.inv[r]
		v, g := x[r*d:][:d], dy[r*d:][:d]
		for j := range v {
			dgain[j] += float32(g[j] * float32((v[j]-mean)*inv))
		}
	}
	a.eachRow(func(r int) {
		mean, inv := n.mean[r], n.inv[r]
		v, g, out := x[r*d:][:d], dy[r*d:][:d], dx[r*d:][:d]
		var s1, s2 float32
		for j := range v {
			t := float32(g[j] * gain[j])
			s1 += t
			s2 += float32(t * float32((v[j]-mean)*inv))
		}
		s1 /= float32(d)
		s2 /= float32(d)
		for j := range v {
			t := float32(g[j]*gain[j]) - s1
			t -= float32(float32((v[j]-mean)*inv) * s2)
			out[j] += float32(t * inv)
		}
	})
}

// attention: att = softmax(Q K^T / sqrt(head width), causal) V for each head.
func (a *pass) attention(lp *layerPass) {
	d, heads, n := a.p.Shape.Width, a.p.Shape.Heads, a.length
	hd := d / heads
	scale := 1 / sqrt32(float32(hd))
	clear(lp.att)
	a.w.each(a.batch*heads, func(i int) {
		b, h := i/heads, i%heads
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		q, k, v := headViews(lp.qkv, b*n, h, d, hd)
		prob := lp.prob[i*n*n:][:n*n]
		clear(prob)
		s.mul(prob, n, q, k.t(), n, n, hd)
		for r := range n {
			softmax(prob[r*n:][:n], r+1, scale)
		}
		s.mul(lp.att[b*n*d+h*hd:], d, rowMajor(prob, n), v, n, hd, n)
	})
}

// headViews are the query, key and value matrices [length][hd] of head h in a
// [rows][3d] block starting at row r0.
func headViews(qkv []float32, r0, h, d, hd int) (q, k, v view) {
	at := func(part int) view { return view{qkv[r0*3*d+part*d+h*hd:], 3 * d, 1} }
	return at(0), at(1), at(2)
}

// softmax replaces row[:n] by its softmax after scaling and clears the rest.
func softmax(row []float32, n int, scale float32) {
	top := row[0]
	for _, x := range row[1:n] {
		top = max(top, x)
	}
	var sum float32
	for j, x := range row[:n] {
		e := exp32(float32((x - top) * scale))
		row[j] = e
		sum += e
	}
	inv := 1 / sum
	for j := range row[:n] {
		row[j] *= inv
	}
	clear(row[n:])
}

// gelu is x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), keeping the tanh.
func gelu(dst, th, src []float32) {
	for j := range dst {
		x := src[j]
		u := geluA * (x + float32(geluB*float32(x*float32(x*x))))
		t := tanh32(u)
		th[j] = t
		dst[j] = float32(0.5*x) * (1 + t)
	}
}

const (
	geluA = 0.7978845608028654 // sqrt(2/pi)
	geluB = 0.044715
)

// loss turns the logits into their gradient (of the mean over all rows of the
// cross-entropy) and returns that mean in nats. targets are [batch][length].
func (a *pass) loss(targets []byte) float64 {
	scale := 1 / float32(a.rows)
	a.eachRow(func(r int) {
		row := a.logits[r*Vocab:][:Vocab]
		want := row[targets[r]]
		top := row[0]
		for _, x := range row {
			top = max(top, x)
		}
		var sum float32
		for j, x := range row {
			e := exp32(x - top)
			row[j] = e
			sum += e
		}
		// Only reported, never fed back: the library's log may differ by a
		// bit between machines.
		a.rowLoss[r] = float32(math.Log(float64(sum))) - (want - top)
		inv := scale / sum
		for j := range row {
			row[j] *= inv
		}
		row[targets[r]] -= scale
	})
	var sum float64
	for _, x := range a.rowLoss {
		sum += float64(x)
	}
	return sum / float64(a.rows)
}

// backward adds the gradient of every parameter to g, after forward and loss.
func (a *pass) backward(g *Params) {
	p, d := a.p, a.p.Shape.Width
	// Head: logits = y E^T.
	a.matmulBack(a.dn, g.Embed, a.final.y, p.Embed, a.logits)
	clear(a.dx)
	a.normBack(&a.final, a.x[len(a.layers)], p.Final, a.dn, a.dx, g.Final)
	for i := len(a.layers) - 1; i >= 0; i-- {
		l, gl, lp := &p.Layers[i], &g.Layers[i], &a.layers[i]
		a.linearBack(a.dh, gl.Down, lp.ac, l.Down, a.dx, 4*d, d)
		a.eachRow(func(r int) { geluBack(a.dh[r*4*d:][:4*d], lp.tanh[r*4*d:], lp.h[r*4*d:]) })
		a.linearBack(a.dn, gl.Up, lp.n2.y, l.Up, a.dh, d, 4*d)
		a.normBack(&lp.n2, lp.mid, l.MLPGain, a.dn, a.dx, gl.MLPGain)
		a.linearBack(a.dAtt, gl.AttnOut, lp.att, l.AttnOut, a.dx, d, d)
		a.attentionBack(lp)
		a.linearBack(a.dn, gl.QKV, lp.n1.y, l.QKV, a.dqkv, d, 3*d)
		a.normBack(&lp.n1, a.x[i], l.AttnGain, a.dn, a.dx, gl.AttnGain)
	}
	// Rows of the tables, in row order.
	for r, t := range a.tokens {
		dx := a.dx[r*d:][:d]
		e := g.Embed[int(t)*d:][:d]
		q := g.Position[r%a.length*d:][:d]
		for j, x := range dx {
			e[j] += x
			q[j] += x
		}
	}
}

// linearBack sets dx = dy W^T and adds x^T dy to dw, for W [in][out].
func (a *pass) linearBack(dx, dw, x, w, dy []float32, in, out int) {
	clear(dx)
	a.w.mul(dx, in, rowMajor(dy, out), rowMajor(w, out).t(), a.rows, in, out)
	a.w.mul(dw, out, rowMajor(x, in).t(), rowMajor(dy, out), in, out, a.rows)
}

// matmulBack is linearBack for the head, whose matrix is the transpose of the
// embedding: dy = dlogits E, dE += dlogits^T y.
func (a *pass) matmulBack(dy, dEmbed, y, embed, dlogits []float32) {
	d := a.p.Shape.Width
	clear(dy)
	a.w.mul(dy, d, rowMajor(dlogits, Vocab), rowMajor(embed, d), a.rows, d, Vocab)
	a.w.mul(dEmbed, d, rowMajor(dlogits, Vocab).t(), rowMajor(y, d), Vocab, d, a.rows)
}

func (a *pass) attentionBack(lp *layerPass) {
	d, heads, n := a.p.Shape.Width, a.p.Shape.Heads, a.length
	hd := d / heads
	scale := 1 / sqrt32(float32(hd))
	clear(a.dqkv)
	a.w.each(a.batch*heads, func(i int) {
		b, h := i/heads, i%heads
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		q, k, v := headViews(lp.qkv, b*n, h, d, hd)
		dq, dk, dv := headViews(a.dqkv, b*n, h, d, hd)
		do := view{a.dAtt[b*n*d+h*hd:], d, 1}
		prob := lp.prob[i*n*n:][:n*n]
		s.mul(dv.data, 3*d, rowMajor(prob, n).t(), do, n, hd, n)
		ds := make([]float32, n*n)
		s.mul(ds, n, do, v.t(), n, n, hd)
		for r := range n {
			row, pr := ds[r*n:][:n], prob[r*n:][:n]
			var dot float32
			for j := range r + 1 {
				dot += float32(row[j] * pr[j])
			}
			for j := range r + 1 {
				row[j] = float32(pr[j]*(row[j]-dot)) * scale
			}
			clear(row[r+1:])
		}
		s.mul(dq.data, 3*d, rowMajor(ds, n), k, n, hd, n)
		s.mul(dk.data, 3*d, rowMajor(ds, n).t(), q, n, hd, n)
	})
}

func geluBack(dy, th, src []float32) {
	for j := range dy {
		x, t := src[j], th[j]
		du := geluA * (1 + float32(3*geluB*float32(x*x)))
		slope := float32(0.5*(1+t)) + float32(float32(0.5*x)*float32(float32(1-float32(t*t))*du))
		dy[j] *= slope
	}
}
