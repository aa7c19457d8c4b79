package market

import (
	"math/big"
	"testing"

	"github.com/torg-network/torg/square"
)

// law is the audit law in rational numbers, out of AuditScale, rounded up.
func law(v, s, dBps uint64) uint64 {
	u := func(n uint64) *big.Int { return new(big.Int).SetUint64(n) }
	if s == 0 || dBps == 0 {
		return AuditScale
	}
	num := new(big.Int).Mul(u(v), u(1_250_000*10_000))
	den := new(big.Int).Mul(u(min(dBps, 10_000)), new(big.Int).Add(u(s), u(v)))
	q, r := new(big.Int).QuoRem(num, den, new(big.Int))
	if r.Sign() > 0 {
		q.Add(q, big.NewInt(1))
	}
	if q.Cmp(big.NewInt(AuditScale)) > 0 {
		return AuditScale
	}
	return max(q.Uint64(), AuditFloor)
}

func TestAuditProbability(t *testing.T) {
	const v = 1_000_000
	for _, c := range []struct{ v, s, d, want uint64 }{
		{v, 0, 10_000, 1_000_000},     // no bond: always
		{v, 0, 6667, 1_000_000},       //
		{v, v, 10_000, 625_000},       // 1.25 / 2
		{v, 4 * v, 10_000, 250_000},   // 1.25 / 5
		{v, 9 * v, 10_000, 125_000},   //
		{v, 9 * v, 6667, 187_491},     // the note's 0.19
		{v, 24 * v, 6667, 74_997},     // its 0.075
		{v, 49 * v, 6667, 37_499},     // its 0.0375
		{v, 93 * v, 6667, 20_000},     // the floor
		{v, 1000 * v, 10_000, 20_000}, //
		{v, v / 4, 10_000, 1_000_000}, // exactly 1
		{v, v, 0, 1_000_000},          // an audit that sees nothing
		{v, v, 20_000, 625_000},       // none sees more than everything
		{0, v, 10_000, 20_000},
		{square.MaxUnits, square.MaxUnits, 10_000, 625_000},
		{square.MaxUnits, 1, 10_000, 1_000_000},
	} {
		if got := AuditProbability(c.v, c.s, c.d); got != c.want {
			t.Errorf("v=%d S=%d d=%d: %d, want %d", c.v, c.s, c.d, got, c.want)
		}
	}
}

// TestCheatingDoesNotPay requires that who cheats on a job worth v, and gains v
// if not detected and loses the bond if detected, expects to lose at least a
// quarter of v, for every bond of at least v for which the law is below 1.
func TestCheatingDoesNotPay(t *testing.T) {
	n := 0
	for _, v := range []uint64{1, 7, 100, 12_345, 1_000_000, 1_000_000_007, 1 << 50} {
		for _, d := range []uint64{10_000, 9_000, 6_667, 6_250} {
			for times := uint64(1); times <= 5_000; times += 1 + times/7 {
				for _, odd := range []uint64{0, 1, v / 3} {
					s := times*v + odd
					p := AuditProbability(v, s, d)
					// E = v - p d (S + v), times AuditScale * 10000.
					gain := new(big.Int).Mul(big.NewInt(int64(v)), big.NewInt(AuditScale*10_000))
					loss := new(big.Int).Mul(new(big.Int).SetUint64(p*d), new(big.Int).SetUint64(s+v))
					e := gain.Sub(gain, loss)
					limit := new(big.Int).Mul(big.NewInt(int64(v)), big.NewInt(-AuditScale*10_000/4))
					if e.Cmp(limit) > 0 {
						t.Fatalf("v=%d S=%d d=%d: p=%d leaves %v, more than -0.25 v = %v", v, s, d, p, e, limit)
					}
					n++
				}
			}
		}
	}
	if n < 1000 {
		t.Fatalf("only %d cases", n)
	}
}

func FuzzAuditProbability(f *testing.F) {
	f.Add(uint64(1), uint64(1), uint64(10_000))
	f.Add(uint64(square.MaxUnits), uint64(3), uint64(1))
	f.Fuzz(func(t *testing.T, v, s, d uint64) {
		v, s = v%(square.MaxUnits+1), s%(square.MaxUnits+1)
		want := law(v, s, d)
		if got := AuditProbability(v, s, d); got != want {
			t.Errorf("v=%d S=%d d=%d: %d, want %d", v, s, d, got, want)
		}
	})
}

func TestDrawn(t *testing.T) {
	var hits int
	for i := range 10_000 {
		if Drawn(square.Label(square.Hash{byte(i), byte(i >> 8)}, []byte("audit")), 125_000) {
			hits++
		}
	}
	if hits < 1100 || hits > 1400 {
		t.Errorf("%d of 10000 drawn at 12.5 %%", hits)
	}
	ones := square.Hash{255, 255, 255, 255, 255, 255, 255, 255}
	if !Drawn(ones, AuditScale) || Drawn(ones, AuditScale-1) || Drawn(square.Hash{}, 0) || !Drawn(square.Hash{}, 1) {
		t.Error("the ends of the range are off")
	}
}

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		results string
		done    bool
		result  byte
		want    int
	}{
		{"", false, 0, 2},
		{"a", false, 0, 2},
		{"aa", true, 'a', 2},
		{"aab", true, 'a', 3},
		{"ab", false, 0, 5},
		{"aba", false, 0, 5}, // never two of three
		{"abaa", false, 0, 5},
		{"abaaa", true, 'a', 5},
		{"baaaa", true, 'a', 5},
		{"abbbb", true, 'b', 5},
		{"abaab", false, 0, 5}, // three of five are not enough
		{"abcde", false, 0, 5},
		{"abcccc", false, 0, 5}, // a sixth does not count
	} {
		var rs []square.Hash
		for _, r := range []byte(c.results) {
			rs = append(rs, square.Hash{r})
		}
		got := Agree(rs)
		want := Agreement{Done: c.done, Want: c.want}
		if c.done {
			want.Result = square.Hash{c.result}
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", c.results, got, want)
		}
	}
}
