package zkml

import (
	"slices"

	"github.com/torg-network/torg/zkml/koala"
)

// A source is a multilinear polynomial that statements are about.
type source struct {
	kind sourceKind
	id   int
}

type sourceKind uint8

const (
	one     sourceKind = iota // the constant 1
	model                     // committed constants: plan.model
	witness                   // committed values: plan.witness
	summed                    // sums of products of others: plan.products
	public                    // what the verifier evaluates itself: plan.publics
)

// A pick says what a variable of a source is: the index of a variable of the
// form, or a constant.
type pick = int16

const (
	pickZero pick = -1 - iota
	pickOne
	pickHalf // half the sum over both values
)

// term is coef times a source.
type term struct {
	coef int64
	src  source
	pick []pick
}

// form is a linear combination of sources in n variables. The product of two
// sources never occurs in one, so its value at a point is the combination of
// theirs.
type form struct {
	n     int
	terms []term
}

// vars returns picks from, from+1 ... from+n-1, which must not be changed.
func vars(from, n int) []pick {
	if from+n <= len(firstVars) {
		return firstVars[from : from+n : from+n]
	}
	p := make([]pick, n)
	for i := range p {
		p[i] = pick(from + i)
	}
	return p
}

var firstVars = func() (p [64]pick) {
	for i := range p {
		p[i] = pick(i)
	}
	return p
}()

// of is the form of a source with the given picks.
func of(n int, s source, picks ...[]pick) form {
	return form{n, []term{{1, s, join(picks)}}}
}

func join(picks [][]pick) []pick {
	if len(picks) == 1 {
		return picks[0]
	}
	return slices.Concat(picks...)
}

func constant(n int, x int64) form { return form{n, []term{{x, source{kind: one}, nil}}} }

// plus joins terms of one source at one place, so that a form is no longer
// than there are sources: a value added to itself again and again would double
// it each time.
func (f form) plus(g form) form {
	out := form{f.n, make([]term, len(f.terms), len(f.terms)+len(g.terms))}
	copy(out.terms, f.terms)
next:
	for _, t := range g.terms {
		for i, o := range out.terms {
			if o.src == t.src && slices.Equal(o.pick, t.pick) {
				out.terms[i].coef = (o.coef + t.coef) % koala.P
				continue next
			}
		}
		t.coef %= koala.P
		out.terms = append(out.terms, t)
	}
	return out
}

func (f form) times(x int64) form {
	out := form{f.n, make([]term, 0, len(f.terms))}
	for _, t := range f.terms {
		t.coef = t.coef % koala.P * (x % koala.P) % koala.P
		out.terms = append(out.terms, t)
	}
	return out
}

func (f form) minus(g form) form { return f.plus(g.times(-1)) }

// at substitutes picks of a form of n variables for those of f.
func (f form) at(n int, picks ...[]pick) form {
	to := join(picks)
	if len(to) != f.n {
		panic("zkml: wrong number of variables")
	}
	out := form{n, make([]term, 0, len(f.terms))}
	total := 0
	for _, t := range f.terms {
		total += len(t.pick)
	}
	room := make([]pick, total)
	for _, t := range f.terms {
		p := room[:len(t.pick):len(t.pick)]
		room = room[len(t.pick):]
		for i, x := range t.pick {
			if x >= 0 {
				x = to[x]
			}
			p[i] = x
		}
		out.terms = append(out.terms, term{t.coef, t.src, p})
	}
	return out
}

// point applies picks to the values of a form's variables.
func point(picks []pick, z []koala.Ext) []koala.Ext {
	p := make([]koala.Ext, len(picks))
	fillPoint(p, picks, z)
	return p
}

func fillPoint(p []koala.Ext, picks []pick, z []koala.Ext) {
	for i, x := range picks {
		p[i] = pickAt(x, z)
	}
}

func pickAt(x pick, z []koala.Ext) koala.Ext {
	switch x {
	case pickZero:
		return koala.Ext{}
	case pickOne:
		return koala.ExtOne
	case pickHalf:
		return koala.Lift(koala.Half)
	}
	return z[x]
}
