package square

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/torg-network/torg/console/live"
	"github.com/torg-network/torg/console/ui"
	"github.com/torg-network/torg/square"
)

// flow is what one account pays another over the leases that stand.
type flow struct {
	From, To square.Address // zero: all others together
	Leases   int
	Held     uint64 // in escrow
	Paid     uint64 // redeemed so far
}

// picture is who pays whom, laid out.
type picture struct {
	Flows         []flow
	Buyers, Sells []node
	Lines         []line
	Height        int
	Version       string
	Summary       string
}

type node struct {
	Who   square.Address
	Label string
	Y     int
}

type line struct {
	D     string // the path
	Width string
	Title string
	X, Y  int // of its label
	Label string
}

// maxNodes is how many accounts the picture has on each side; the rest is one.
const maxNodes = 7

// flowsOf sums the leases that a scope may see up by who pays whom, the largest
// first.
func flowsOf(s live.State, scope live.Scope) []flow {
	sums := map[[2]square.Address]*flow{}
	var out []*flow
	for _, l := range s.Leases {
		if l.Order.Denom != square.Denom || !scope.All && (scope.Account.IsZero() || l.Order.Buyer != scope.Account && l.Provider != scope.Account) {
			continue
		}
		k := [2]square.Address{l.Order.Buyer, l.Provider}
		f := sums[k]
		if f == nil {
			f = &flow{From: k[0], To: k[1]}
			sums[k] = f
			out = append(out, f)
		}
		f.Leases++
		f.Held += l.Escrow
		f.Paid += l.Paid
	}
	slices.SortFunc(out, func(a, b *flow) int {
		return cmp.Or(cmp.Compare(b.Paid+b.Held, a.Paid+a.Held), slices.Compare(a.From[:], b.From[:]), slices.Compare(a.To[:], b.To[:]))
	})
	flows := make([]flow, len(out))
	for i, f := range out {
		flows[i] = *f
	}
	return flows
}

// draw lays the flows out: buyers at the left, providers at the right.
func draw(flows []flow, me square.Address) picture {
	p := picture{Flows: flows}
	left, right := map[square.Address]int{}, map[square.Address]int{}
	side := func(at map[square.Address]int, nodes *[]node, who square.Address) int {
		if i, ok := at[who]; ok {
			return i
		}
		if len(*nodes) >= maxNodes {
			if i, ok := at[square.Address{}]; ok {
				return i
			}
			who = square.Address{}
		}
		*nodes = append(*nodes, node{Who: who, Label: name(who, me)})
		at[who] = len(*nodes) - 1
		return len(*nodes) - 1
	}
	joined := map[[2]int]*flow{}
	var order [][2]int
	for _, f := range flows {
		k := [2]int{side(left, &p.Buyers, f.From), side(right, &p.Sells, f.To)}
		if j := joined[k]; j != nil {
			j.Leases, j.Held, j.Paid = j.Leases+f.Leases, j.Held+f.Held, j.Paid+f.Paid
			continue
		}
		joined[k] = &flow{p.Buyers[k[0]].Who, p.Sells[k[1]].Who, f.Leases, f.Held, f.Paid}
		order = append(order, k)
	}
	const gap, top = 84, 56
	p.Height = top + gap*max(len(p.Buyers), len(p.Sells), 1) - 30
	place := func(nodes []node) {
		free := p.Height + 30 - top - gap*len(nodes)
		for i := range nodes {
			nodes[i].Y = top + free/2 + gap*i
		}
	}
	place(p.Buyers)
	place(p.Sells)
	version := fnv.New64a()
	for _, k := range order {
		f, y0, y1 := joined[k], p.Buyers[k[0]].Y, p.Sells[k[1]].Y
		fmt.Fprint(version, *f)
		p.Lines = append(p.Lines, line{
			D:     fmt.Sprintf("M112 %dC212 %d 268 %d 368 %d", y0, y0, y1, y1),
			Width: fmt.Sprintf("%.1f", 2+min(8, 8*float64(f.Paid+1)/float64(f.Paid+f.Held+1)+float64(min(f.Leases, 4))/2)),
			Title: fmt.Sprintf("%s pays %s: %s redeemed, %s held in escrow, %s", name(f.From, me), name(f.To, me),
				ui.Coins(f.Paid, square.Denom), ui.Coins(f.Held, square.Denom), leases(f.Leases)),
			X: 240, Y: (y0+y1)/2 - 9, Label: ui.Coins(f.Paid, square.Denom) + " paid",
		})
	}
	p.Version = hex.EncodeToString(version.Sum(nil))
	switch len(flows) {
	case 0:
		p.Summary = "Nobody pays anybody at the moment."
	case 1:
		p.Summary = p.Lines[0].Title + "."
	default:
		p.Summary = fmt.Sprintf("%d accounts pay %d providers. The largest: %s.", len(p.Buyers), len(p.Sells), p.Lines[0].Title)
	}
	return p
}

func leases(n int) string {
	if n == 1 {
		return "1 lease"
	}
	return fmt.Sprintf("%d leases", n)
}

func name(a, me square.Address) string {
	switch {
	case a.IsZero():
		return "others"
	case a == me:
		return "you"
	}
	return ui.Short(a.String())
}

// providers counts those on offer.
func providers(s live.State) int {
	seen := map[square.Address]bool{}
	for _, o := range s.Offers {
		seen[o.Provider] = true
	}
	return len(seen)
}
