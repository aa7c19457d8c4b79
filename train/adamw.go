package train

import "math"

// adamW is the optimiser's state (Loshchilov and Hutter, 2019).
type adamW struct {
	m, v []float32 // running mean of the gradient and of its square
}

const (
	beta1   = 0.9
	beta2   = 0.99
	adamEps = 1e-8
)

// power is b^n by repeated multiplication in a fixed order.
func power(b float64, n int) float64 {
	r := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			r = float64(r * b)
		}
		b = float64(b * b)
	}
	return r
}

// clip scales g so that its Euclidean norm is at most limit. Each tensor is
// summed on its own, then the sums in order.
func clip(w *workers, g *Params, limit float64) {
	ts := g.tensors()
	sums := make([]float64, len(ts))
	w.each(len(ts), func(i int) {
		var s float64
		for _, x := range ts[i].data {
			s += float64(float64(x) * float64(x))
		}
		sums[i] = s
	})
	var sum float64
	for _, s := range sums {
		sum += s
	}
	norm := math.Sqrt(sum)
	if norm <= limit {
		return
	}
	f := float32(limit / norm)
	for i := range g.Flat {
		g.Flat[i] *= f
	}
}

// update makes step n (from 1) with the given learning rate. Matrices decay,
// gains do not.
func (o *adamW) update(w *workers, p, g *Params, n int, rate, decay float32) {
	c1 := float32(1 / (1 - power(beta1, n)))
	c2 := float32(1 / (1 - power(beta2, n)))
	at := 0
	type job struct {
		from, to int
		keep     float32
	}
	var jobs []job
	for _, t := range p.tensors() {
		keep := float32(1)
		if t.matrix {
			keep = 1 - float32(rate*decay)
		}
		for end := at + len(t.data); at < end; {
			next := min(at+1<<15, end)
			jobs = append(jobs, job{at, next, keep})
			at = next
		}
	}
	w.each(len(jobs), func(i int) {
		j := jobs[i]
		ps, gs, ms, vs := p.Flat[j.from:j.to], g.Flat[j.from:j.to], o.m[j.from:j.to], o.v[j.from:j.to]
		for k, x := range gs {
			m := float32(beta1*ms[k]) + float32((1-beta1)*x)
			v := float32(beta2*vs[k]) + float32((1-beta2)*float32(x*x))
			ms[k], vs[k] = m, v
			ps[k] = float32(ps[k]*j.keep) - float32(rate*float32(float32(m*c1)/(sqrt32(float32(v*c2))+adamEps)))
		}
	})
}
