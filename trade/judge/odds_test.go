package judge

import (
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// atLeast is the chance of k heads or more in n throws of a coin that shows heads in
// p of 100, exactly.
func atLeast(k, n, p int64) *big.Rat {
	sum := new(big.Rat)
	for i := k; i <= n; i++ {
		ways := new(big.Int).Binomial(n, i)
		ways.Mul(ways, new(big.Int).Exp(big.NewInt(p), big.NewInt(i), nil))
		ways.Mul(ways, new(big.Int).Exp(big.NewInt(100-p), big.NewInt(n-i), nil))
		sum.Add(sum, new(big.Rat).SetFrac(ways, new(big.Int).Exp(big.NewInt(100), big.NewInt(n), nil)))
	}
	return sum
}

func figure(r *big.Rat) string {
	f, _ := r.Float64()
	return fmt.Sprintf("%.2g", f)
}

// TestOdds computes the table in docs/decisions/2026-12-01-judges.md.
func TestOdds(t *testing.T) {
	doc, err := os.ReadFile("../../docs/decisions/2026-12-01-judges.md")
	if err != nil {
		t.Fatal(err)
	}
	p := market.Default()
	n, quorum := int64(p.Seats), int64(p.Quorum(int(p.Seats)))
	one := big.NewRat(1, 1)
	for _, share := range []int64{10, 20, 25, 33} {
		win, block := atLeast(quorum, n, share), atLeast(n-quorum+1, n, share)
		// Of up to so many draws one is won; all are blocked.
		never, all := one, one
		for range p.Redraws + 1 {
			never = new(big.Rat).Mul(never, new(big.Rat).Sub(one, win))
			all = new(big.Rat).Mul(all, block)
		}
		// With as large a share of the proposals: w / (1 - s (1-w)).
		s := big.NewRat(share, 100)
		bent := new(big.Rat).Quo(win, new(big.Rat).Sub(one, new(big.Rat).Mul(s, new(big.Rat).Sub(one, win))))
		row := fmt.Sprintf("| %d %% | %s | %s | %s | %s | %s |", share, figure(win), figure(bent), figure(new(big.Rat).Sub(one, never)), figure(block), figure(all))
		if !strings.Contains(string(doc), row) {
			t.Errorf("the table should say %s", row)
		}
	}
}

// TestDrawIsBinomial holds the draw against those odds: a quarter of the stake cut up
// into forty addresses against three quarters in four gets a quarter of the seats.
func TestDrawIsBinomial(t *testing.T) {
	var all []market.Candidate
	mine := map[square.Address]bool{}
	for i := range 44 {
		c := market.Candidate{Judge: square.Address{byte(i + 1)}, Weight: 1_000, Most: 1_000}
		if i >= 40 {
			c.Weight = 30_000
		} else {
			mine[c.Judge] = true
		}
		all = append(all, c)
	}
	const draws = 4000
	seats, blocked := 0, 0
	for i := range draws {
		n := 0
		for _, j := range market.Draw(square.Label(square.Hash{1}, fmt.Append(nil, i)), all, 32) {
			if mine[j] {
				n++
			}
		}
		seats += n
		if n >= 11 {
			blocked++
		}
	}
	// Both within five standard deviations of 8 and of 0.154.
	if mean := float64(seats) / draws; mean < 7.8 || mean > 8.2 {
		t.Errorf("a quarter of the stake has %.2f of 32 seats", mean)
	}
	if f := float64(blocked) / draws; f < 0.125 || f > 0.183 {
		t.Errorf("a quarter of the stake has eleven seats in %.3f of all draws", f)
	}
}
