package exact

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// Sampling: from integer logits to a token, with integers only. docs/exact.md
// states it for other implementations.

// decayCount is how many entries the table of exponentials has; they fall by
// a factor of e^(1/1024) each, so the table spans 16 nats.
const decayCount = 16 << 10

// decays[k] is 2^32 e^(-k/1024), rounded to nearest.
var decays = Exponentials(decayCount, 32)

// Exponentials returns round(2^scale e^(-k/1024)) for k < n <= 16384 and
// scale <= 32, by integer arithmetic alone, so that every machine has the
// same table.
func Exponentials(n int, scale uint) []uint64 {
	// Fixed point with 63 fractional bits.
	const one = 1 << 63
	mul := func(a, b uint64) uint64 {
		hi, lo := bits.Mul64(a, b)
		return hi<<1 | lo>>63
	}
	// Taylor series of e^-x with its signs, up to terms below 2^-63.
	series := func(num, den uint64) uint64 {
		sum, term := uint64(one), uint64(one)
		for i := uint64(1); term > 0; i++ {
			hi, lo := bits.Mul64(term, num)
			term, _ = bits.Div64(hi, lo, den*i)
			if i%2 == 1 {
				sum -= term
			} else {
				sum += term
			}
		}
		return sum
	}
	fine := make([]uint64, 1024)
	for j := range fine {
		fine[j] = series(uint64(j), 1024)
	}
	e1 := series(1, 1)
	out := make([]uint64, n)
	whole := uint64(one)
	for k := range out {
		if k > 0 && k%1024 == 0 {
			whole = mul(whole, e1)
		}
		e := mul(whole, fine[k%1024])
		shift := 63 - scale
		out[k] = (e + 1<<(shift-1)) >> shift
	}
	return out
}

// sampler chooses tokens. It is scratch space of one call.
type sampler struct {
	weight []uint64
	order  []int32
}

func newSampler(vocab int) *sampler {
	return &sampler{make([]uint64, vocab), make([]int32, vocab)}
}

// choose picks the token at completion position index. It is a pure function
// of its arguments.
func (s *sampler) choose(logits []int32, logitBits uint, req *Request, index int) int {
	best := argMax(logits)
	if req.Temperature == 0 {
		return best
	}
	top := int64(logits[best])
	var total uint64
	for i, l := range logits {
		// (top - l) / 2^logitBits nats, over the temperature, in 1/1024 nat.
		k := (top - int64(l)) * 1000 * 1024 / (int64(req.Temperature) << logitBits)
		s.weight[i] = 0
		if k < decayCount {
			s.weight[i] = decays[k]
		}
		total += s.weight[i]
	}
	if req.TopP < 10000 {
		total = s.nucleus(logits, total, uint64(req.TopP))
	}
	draw, _ := bits.Mul64(random(req.Seed, index), total)
	for i, w := range s.weight {
		if draw < w {
			return i
		}
		draw -= w
	}
	return best // not reached: draw < total
}

// nucleus keeps the fewest tokens, greatest logit first and lower index first
// among equals, whose weights reach topP/10000 of the total, at least one. It
// clears the weights of the others and returns the sum of the kept.
func (s *sampler) nucleus(logits []int32, total, topP uint64) uint64 {
	// Tokens below the n-th part of what may be left out weigh, all together,
	// less than that, so the heavier ones reach topP without them: only those
	// need sorting. (A heavier token never has the smaller logit.)
	s.order = s.order[:0]
	for i, w := range s.weight {
		if w*10000*uint64(len(logits)) < total*(10000-topP) {
			s.weight[i] = 0
			continue
		}
		s.order = append(s.order, int32(i))
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		if c := cmp.Compare(logits[b], logits[a]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	var kept uint64
	for i, t := range s.order {
		if i > 0 && kept*10000 >= total*topP {
			s.weight[t] = 0
			continue
		}
		kept += s.weight[t]
	}
	return kept
}

const drawDomain = "torg exact draw 1"

// random is the draw for a position: the first eight bytes, big-endian, of
// SHA-256("torg exact draw 1" || seed || position as 8 bytes big-endian).
func random(seed [32]byte, index int) uint64 {
	var b [len(drawDomain) + 32 + 8]byte
	copy(b[:], drawDomain)
	copy(b[len(drawDomain):], seed[:])
	binary.BigEndian.PutUint64(b[len(drawDomain)+32:], uint64(index))
	h := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(h[:])
}

// Logprob is a token and the natural logarithm of its probability at
// temperature 1. It is for information: computed in floating point, its last
// bits may differ between machines, and no digest covers it.
type Logprob struct {
	ID      int
	Logprob float64
}

// logprobs returns the log-probability of chosen and the n likeliest tokens.
func logprobs(logits []int32, logitBits uint, chosen, n int) (float64, []Logprob) {
	top := logits[argMax(logits)]
	unit := float64(int64(1) << logitBits)
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l-top) / unit)
	}
	norm := math.Log(sum)
	at := func(i int) float64 { return float64(logits[i]-top)/unit - norm }
	var best []Logprob
	if n > 0 {
		order := make([]int, len(logits))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
		for _, i := range order[:min(n, len(order))] {
			best = append(best, Logprob{i, at(i)})
		}
	}
	return at(chosen), best
}
