package market

import (
	"math/bits"

	"github.com/torg-network/torg/square"
)

// AuditScale is the denominator of an audit probability.
const AuditScale = 1_000_000

// AuditFloor is the least audit probability: 2 %.
const AuditFloor = AuditScale / 50

// AuditProbability is the audit law, out of AuditScale and rounded up: with
// which probability a job worth jobValue is audited when its provider has
// bonded bond and an audit detects a wrong result with probability
// detectionBps/10000:
//
//	p = clamp(1.25 v / (d (S + v)), 2 %, 1)
//
// Where it is not clamped at 1, who cheats expects to lose a quarter of the
// job's value: v - p d (S + v) = -0.25 v. With nothing bonded every job is
// audited, that is replicated.
func AuditProbability(jobValue, bond, detectionBps uint64) uint64 {
	if bond == 0 || detectionBps == 0 {
		return AuditScale
	}
	if jobValue == 0 {
		return AuditFloor
	}
	jobValue, bond = min(jobValue, square.MaxUnits), min(bond, square.MaxUnits)
	detectionBps = min(detectionBps, 10_000)
	// v < S+v, so the first quotient fits; rounding a quotient up twice is
	// rounding it up once by the product.
	hi, lo := bits.Mul64(jobValue, AuditScale*5/4*10_000)
	q, r := bits.Div64(hi, lo, bond+jobValue)
	if r != 0 {
		q++
	}
	p := (q + detectionBps - 1) / detectionBps
	return min(max(p, AuditFloor), AuditScale)
}

// Drawn reports whether an event of probability p out of AuditScale happens
// under a beacon: the first eight bytes of the beacon, as a fraction of 2^64,
// are below it.
func Drawn(beacon square.Hash, p uint64) bool {
	if p >= AuditScale {
		return true
	}
	var x uint64
	for _, b := range beacon[:8] {
		x = x<<8 | uint64(b)
	}
	hi, _ := bits.Mul64(x, AuditScale)
	return hi < p
}

// Agreement is what replicas of one job have shown so far.
type Agreement struct {
	Result square.Hash // the agreed result, if Done
	Done   bool        // Result may be accepted
	Want   int         // how many replicas there should be; results in hand, if Done or if no more would help
}

// Agree decides on the results that replicas committed to, in the order they
// were drawn: two that are equal decide; otherwise five run and four must
// agree. Two of three never decide: among replicas drawn at random that would
// accept more wrong results than two of two. If five do not decide, Done is
// false and Want is 5: the job is drawn anew.
func Agree(results []square.Hash) Agreement {
	if len(results) < square.Replicas {
		return Agreement{Want: square.Replicas}
	}
	if results[0] == results[1] {
		return Agreement{Result: results[0], Done: true, Want: len(results)}
	}
	if len(results) >= square.ReplicasMore {
		results = results[:square.ReplicasMore]
		for _, r := range results[:2] { // four of five leave at most one out
			n := 0
			for _, x := range results {
				if x == r {
					n++
				}
			}
			if n >= square.ReplicasMost {
				return Agreement{Result: r, Done: true, Want: len(results)}
			}
		}
	}
	return Agreement{Want: square.ReplicasMore}
}
