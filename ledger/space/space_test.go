package space

import "testing"

func TestRoom(t *testing.T) {
	var r Room
	if r.Take(Defend, laneGas[Defend]+1) || r != (Room{}) {
		t.Error("more than the lane is taken")
	}
	if !r.Take(Defend, laneGas[Defend]) || r.Take(Defend, 1) || r.Left() {
		t.Error("a lane that is full has room")
	}
	if !r.Take(Market, 10_000_000) || r.Take(Market, 1) {
		t.Error("beside a full lane of defence there are 10 M for business")
	}
	if !r.Take(Other, 5_000_000) || r.Take(Other, 1) {
		t.Error("beside both there are 5 M for the rest")
	}
	// Whatever is taken later leaves what comes before it whole.
	r = Room{}
	if !r.Take(Other, laneGas[Other]) || r.Take(Other, 1) {
		t.Error("an empty block has no room for transfers")
	}
	// The clock goes on while the largest transaction fits.
	if r = (Room{Defend: laneGas[Defend] - MaxTxGas}); !r.Left() {
		t.Error("there is room for the largest, and the clock stands")
	}
	if !r.Take(Defend, MaxTxGas) {
		t.Error("a block with room for the largest does not take it")
	}
	if (Room{Defend: laneGas[Defend] - MaxTxGas + 1}).Left() {
		t.Error("there is no room for the largest, and the clock goes on")
	}
	// Bytes never bind before gas does: 64 KiB are left for what is no transaction.
	if BlockGas/GasPerByte > BlockBytes-64<<10 {
		t.Errorf("%d bytes of transactions in a block of %d", BlockGas/GasPerByte, BlockBytes)
	}
}

func TestPrice(t *testing.T) {
	for l := range Lanes {
		least := LeastPrices[l]
		if p := Moved(l, least, 0); p != least {
			t.Errorf("%s: %d below the least", l, p)
		}
		if p := Moved(l, MostPrice, BlockGas); p != MostPrice {
			t.Errorf("%s: %d above the most", l, p)
		}
		// Twice the price outlasts five full blocks.
		p := least
		for range 5 {
			p = Moved(l, p, laneGas[l])
		}
		if p <= least || p >= 2*least {
			t.Errorf("%s: %d after five full blocks, from %d", l, p, least)
		}
		// Every other block filled makes it rise.
		p = 10 * least
		for range 20 {
			p = Moved(l, Moved(l, p, laneGas[l]), 0)
		}
		if p <= 10*least {
			t.Errorf("%s: who fills every other block pays less and less: %d of %d", l, p, 10*least)
		}
	}
	// Whoever stops the clock makes it dearer to.
	if stop := laneGas[Defend] - MaxTxGas + 1; Moved(Defend, LeastPrices[Defend], stop) <= LeastPrices[Defend] {
		t.Error("the clock can be stopped at the least price for ever")
	}
	for _, c := range [][3]uint64{{1_000, 215_000, 215}, {1_000, 215_001, 216}, {MostPrice, MaxTxGas, MaxTxGas}, {0, 5, 0}, {MostPrice * 4, 1 << 62, 1 << 62}} {
		if got := Cost(c[0], c[1]); got != c[2] && c[1] < 1<<60 {
			t.Errorf("%d gas at %d cost %d, want %d", c[1], c[0], got, c[2])
		}
	}
}
