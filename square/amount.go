package square

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Denom is the staking and fee denom of the ledger: one millionth of a TORG.
const Denom = "utorg"

// UnitsPerTorg is how many base units make one TORG.
const UnitsPerTorg = 1_000_000

// MaxUnits is the largest amount the square handles in any denom. It leaves
// room for the sum of any two amounts to be computed without overflow.
const MaxUnits = math.MaxInt64

// Amount is money: a whole number of base units of a denom.
type Amount struct {
	Units uint64 `json:"units,string"`
	Denom string `json:"denom"`
}

// Utorg is n base units of the ledger's own denom.
func Utorg(n uint64) Amount { return Amount{Units: n, Denom: Denom} }

// String writes "12.5 TORG" for the ledger's denom and "12 denom" otherwise.
func (a Amount) String() string {
	if a.Denom != Denom {
		return strconv.FormatUint(a.Units, 10) + " " + a.Denom
	}
	whole, frac := a.Units/UnitsPerTorg, a.Units%UnitsPerTorg
	if frac == 0 {
		return strconv.FormatUint(whole, 10) + " TORG"
	}
	return fmt.Sprintf("%d.%s TORG", whole, strings.TrimRight(fmt.Sprintf("%06d", frac), "0"))
}

// ErrAmount is wrapped by every failure to read an amount.
var ErrAmount = errors.New("not an amount")

// ParseAmount reads "12.5", "12.5 TORG" or "12500000utorg". A bare number is
// TORG.
func ParseAmount(s string) (Amount, error) {
	t := strings.TrimSpace(s)
	if n, ok := strings.CutSuffix(t, Denom); ok {
		u, err := strconv.ParseUint(strings.TrimSpace(n), 10, 63)
		if err != nil {
			return Amount{}, fmt.Errorf("%w: %q: want a whole number of %s", ErrAmount, Clip(s, 80), Denom)
		}
		return Utorg(u), nil
	}
	if len(t) > 4 && strings.EqualFold(t[len(t)-4:], "torg") {
		t = strings.TrimSpace(t[:len(t)-4])
	}
	whole, frac, _ := strings.Cut(t, ".")
	w, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || len(frac) > 6 {
		return Amount{}, fmt.Errorf("%w: %q: write TORG with at most six decimals, or %s", ErrAmount, Clip(s, 80), Denom)
	}
	var f uint64
	if frac != "" {
		if f, err = strconv.ParseUint(frac+strings.Repeat("0", 6-len(frac)), 10, 63); err != nil {
			return Amount{}, fmt.Errorf("%w: %q: the decimals are not digits", ErrAmount, Clip(s, 80))
		}
	}
	if w > (MaxUnits-f)/UnitsPerTorg {
		return Amount{}, fmt.Errorf("%w: %q is larger than any supply", ErrAmount, Clip(s, 80))
	}
	return Utorg(w*UnitsPerTorg + f), nil
}

// Rate is the price of one kind of unit: base units of money per million units
// of work. A million makes cheap units (a token) and dear ones (a GPU second)
// both whole numbers. An offer may ask other rates under some policies: Policy says
// which, and is empty in what is asked under all the others. The rates of an order, a
// quote and a lease are under the order's policy, and name none.
type Rate struct {
	Unit       string `json:"unit"`
	Policy     Policy `json:"policy,omitempty"`
	PerMillion uint64 `json:"per_million,string"`
}

// Price is what units of work cost at rates, which it matches by position: the
// exact sum, rounded up once to a whole base unit. It fails when the sum would
// exceed MaxUnits, or when the two lists differ in length.
func Price(rates []Rate, units []uint64) (uint64, error) {
	if len(rates) != len(units) {
		return 0, fmt.Errorf("price: %d rates for %d units", len(rates), len(units))
	}
	var hi, lo uint64
	for i, r := range rates {
		h, l := bits.Mul64(r.PerMillion, units[i])
		var c uint64
		lo, c = bits.Add64(lo, l, 0)
		if hi, c = bits.Add64(hi, h, c); c != 0 {
			return 0, errors.New("price: out of range")
		}
	}
	lo, c := bits.Add64(lo, 999_999, 0)
	hi += c
	if hi >= 1_000_000 {
		return 0, errors.New("price: out of range")
	}
	q, _ := bits.Div64(hi, lo, 1_000_000)
	if q > MaxUnits {
		return 0, errors.New("price: out of range")
	}
	return q, nil
}

// Share is floor(units * bps / 10000). Callers give the remainder to a named
// side, so that every split sums by construction.
func Share(units uint64, bps uint64) uint64 {
	if bps >= 10_000 {
		return units
	}
	hi, lo := bits.Mul64(units, bps)
	q, _ := bits.Div64(hi, lo, 10_000)
	return q
}
