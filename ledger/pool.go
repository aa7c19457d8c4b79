package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	"github.com/cosmos/cosmos-sdk/types/mempool"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"

	"github.com/torg-network/torg/ledger/space"
)

// What may wait. CometBFT's mempool keeps the bytes and gossips them, in the
// order in which they came, and forgets one only when a block has it or a check
// refuses it; so it must hold more than waits here, or it would be full before
// anything could be evicted.
var (
	waitTxs   = [space.Lanes]int{2000, 1500, 1000}                         // transactions of a lane
	waitGas   = [space.Lanes]uint64{168_000_000, 900_000_000, 300_000_000} // and their gas, which bounds their bytes
	senderTxs = [space.Lanes]int{500, 200, 100}                            // of one sender
)

// What waits of Defend is less than two blocks hold. So a redeem, which a block leaves
// out only where others take all but its own gas, is in one after five at most,
// whoever floods it from however many accounts: for Aged blocks younger ones with
// nearer deadlines go first, for two those that were there before it.

const (
	// WaitTTL is how long a transaction waits at most. One without a timeout of
	// its own would else wait for ever.
	WaitTTL = UnorderedTTL
	// Aged is after how many blocks a transaction goes before all younger ones of
	// its lane. What waits is bounded, so the wait is: a sender's first waits for the
	// first of others at most.
	Aged = 2
	// bumpTenths is how much more a transaction must bid that takes the place of
	// another, in tenths: the place has cost every node work that nobody pays.
	bumpTenths = 11
)

// waiting is a transaction in the pool.
type waiting struct {
	id       [sha256.Size]byte
	tx       sdk.Tx
	raw      []byte
	sender   string
	slot     string // what a newer one of the same replaces; empty: nothing
	lane     space.Lane
	gas, bid uint64
	deadline int64 // of what is at stake
	order    uint64
	height   int64     // after which it came
	until    time.Time // and how long it waits
}

// Pool is the application's mempool: what waits for a block, in which order it
// goes into one, and what is refused.
//
// Within a lane whoever has waited for Aged blocks goes first, each sender's in
// turn and by arrival; then whose money is at stake, by its deadline; then who bids
// more. A lane that is full drops the newest of who has most gas waiting there, of
// those who have much in several transactions; where nobody has, the cheapest, if the
// newcomer bids a tenth more. So one large transaction, a proof, is not dropped for
// many small ones, and who has much waiting drives out nobody, whatever it bids.
type Pool struct {
	encode sdk.TxEncoder
	stake  func(ctx sdk.Context, tx sdk.Tx, signer sdk.AccAddress) (slot string, deadline int64, ok bool)

	mu     sync.Mutex
	n      uint64
	height int64 // of the last block
	in     map[[sha256.Size]byte]*waiting
	slots  map[string]*waiting
	count  [space.Lanes]int
	gas    [space.Lanes]uint64
	by     [space.Lanes]map[string]*queue
}

// queue is what one sender has waiting in a lane.
type queue struct {
	txs int
	gas uint64
}

// much is the gas of who has several transactions waiting, and in them more than a
// thirty-second part of what may wait in a lane: a provider with a dozen leases has
// not.
func (q *queue) much(l space.Lane) uint64 {
	if q.txs < 2 || q.txs <= waitTxs[l]/32 && q.gas <= waitGas[l]/32 {
		return 0
	}
	return q.gas
}

var _ mempool.ExtMempool = (*Pool)(nil)

func newPool(encode sdk.TxEncoder, stake func(sdk.Context, sdk.Tx, sdk.AccAddress) (string, int64, bool)) *Pool {
	p := &Pool{encode: encode, stake: stake, in: map[[sha256.Size]byte]*waiting{}, slots: map[string]*waiting{}}
	for l := range p.by {
		p.by[l] = map[string]*queue{}
	}
	return p
}

// noStake is the deadline of a transaction of whose sender nothing is at stake.
const noStake = math.MaxInt64

// sender is who answers for a transaction: its first signer.
func sender(tx sdk.Tx) (sdk.AccAddress, error) {
	s, ok := tx.(authsigning.SigVerifiableTx)
	if !ok {
		return nil, sdkerrors.ErrTxDecode.Wrap("it has no signers")
	}
	who, err := s.GetSigners()
	if err != nil {
		return nil, err
	}
	if len(who) == 0 {
		return nil, sdkerrors.ErrNoSignatures
	}
	return who[0], nil
}

// Admit refuses what would not be let in, before anything is spent on its
// signature. Nothing that a stranger forges counts against anybody here.
func (p *Pool) Admit(tx sdk.Tx, raw []byte) error {
	lane, f, err := space.Fits(tx, len(raw))
	if err != nil {
		return err
	}
	who, err := sender(tx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.displaced(&waiting{sender: string(who), lane: lane, gas: f.GetGas(), bid: space.Bid(f)})
	return err
}

// Insert adds a transaction that was checked.
func (p *Pool) Insert(goCtx context.Context, tx sdk.Tx, _ mempool.InsertOption) error {
	ctx := sdk.UnwrapSDKContext(goCtx)
	raw := ctx.TxBytes()
	lane, f, err := space.Fits(tx, len(raw))
	if err != nil {
		return err
	}
	who, err := sender(tx)
	if err != nil {
		return err
	}
	e := &waiting{
		id: sha256.Sum256(raw), tx: tx, raw: raw, sender: string(who), lane: lane, gas: f.GetGas(), bid: space.Bid(f),
		deadline: noStake, height: ctx.BlockHeight(), until: ctx.BlockTime().Add(WaitTTL),
	}
	if lane == space.Defend {
		if slot, at, ok := p.stake(ctx, tx, who); ok {
			e.slot, e.deadline = slot, at
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, twice := p.in[e.id]; twice {
		return nil
	}
	out, err := p.displaced(e)
	if err != nil {
		return err
	}
	for _, x := range out {
		p.drop(x)
	}
	p.n++
	e.order = p.n
	p.in[e.id] = e
	if e.slot != "" {
		p.slots[e.slot] = e
	}
	p.count[lane]++
	p.gas[lane] += e.gas
	q := p.by[lane][e.sender]
	if q == nil {
		q = &queue{}
		p.by[lane][e.sender] = q
	}
	q.txs++
	q.gas += e.gas
	return nil
}

// displaced finds what has to go for a newcomer, or says why it may not come.
func (p *Pool) displaced(e *waiting) ([]*waiting, error) {
	if old := p.slots[e.slot]; e.slot != "" && old != nil {
		if e.bid*10 < old.bid*bumpTenths {
			return nil, sdkerrors.ErrInsufficientFee.Wrap("one for the same waits already: bid a tenth more than it, or wait")
		}
		return []*waiting{old}, nil
	}
	q := p.by[e.lane][e.sender]
	if q == nil {
		q = &queue{}
	}
	if q.txs >= senderTxs[e.lane] {
		return nil, sdkerrors.ErrMempoolIsFull.Wrapf("%d %s transactions of this account wait already", q.txs, e.lane)
	}
	var out []*waiting
	for n, gas := p.count[e.lane]+1, p.gas[e.lane]+e.gas; n > waitTxs[e.lane] || gas > waitGas[e.lane]; {
		x := p.victim(e, (&queue{q.txs + 1, q.gas + e.gas}).much(e.lane), out)
		if x == nil {
			return nil, sdkerrors.ErrInsufficientFee.Wrapf("%d %s transactions wait already: bid more, or wait", p.count[e.lane], e.lane)
		}
		out = append(out, x)
		n, gas = n-1, gas-x.gas
	}
	return out, nil
}

// victim is what goes next from a full lane for a newcomer whose sender would
// then have so much waiting there; nil if the newcomer has to go.
func (p *Pool) victim(e *waiting, has uint64, gone []*waiting) *waiting {
	most, who := has, ""
	for w, q := range p.by[e.lane] {
		if gas := q.much(e.lane); gas > most || gas == most && who != "" && w < who {
			most, who = gas, w
		}
	}
	var x *waiting
	for _, o := range p.in {
		switch {
		case o.lane != e.lane || slices.Contains(gone, o):
		case who != "":
			if o.sender == who && (x == nil || o.order > x.order) {
				x = o
			}
		case has == 0 && e.bid*10 >= o.bid*bumpTenths && !p.aged(o):
			if x == nil || o.bid < x.bid || o.bid == x.bid && o.order > x.order {
				x = o
			}
		}
	}
	return x
}

func (p *Pool) drop(e *waiting) {
	delete(p.in, e.id)
	if e.slot != "" && p.slots[e.slot] == e {
		delete(p.slots, e.slot)
	}
	p.count[e.lane]--
	p.gas[e.lane] -= e.gas
	q := p.by[e.lane][e.sender]
	q.txs--
	q.gas -= e.gas
	if q.txs == 0 {
		delete(p.by[e.lane], e.sender)
	}
}

// find is a transaction that still waits; nil if it does not.
func (p *Pool) find(raw []byte) sdk.Tx {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.in[sha256.Sum256(raw)]; e != nil {
		return e.tx
	}
	return nil
}

// blocked takes notice of a block: what has waited too long goes.
func (p *Pool) blocked(height int64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.height = height
	for _, e := range p.in {
		if at.After(e.until) {
			p.drop(e)
		}
	}
}

func (p *Pool) aged(e *waiting) bool { return p.height-e.height >= Aged }

// sorted is what waits, in the order in which it goes into a block.
func (p *Pool) sorted() []*waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*waiting, 0, len(p.in))
	for _, e := range p.in {
		list = append(list, e)
	}
	// Among those that have waited long enough every sender's first comes before
	// anybody's second, and so on: who has much waiting delays itself.
	slices.SortFunc(list, func(a, b *waiting) int { return cmp.Compare(a.order, b.order) })
	type turn struct {
		lane   space.Lane
		sender string
	}
	nth, before := map[*waiting]int{}, map[turn]int{}
	for _, e := range list {
		if t := (turn{e.lane, e.sender}); p.aged(e) {
			nth[e] = before[t]
			before[t]++
		}
	}
	slices.SortFunc(list, func(a, b *waiting) int {
		old, also := p.aged(a), p.aged(b)
		switch {
		case a.lane != b.lane:
			return cmp.Compare(a.lane, b.lane)
		case old && also:
			return cmp.Or(cmp.Compare(nth[a], nth[b]), cmp.Compare(a.order, b.order))
		case old:
			return -1
		case also:
			return 1
		}
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(b.bid, a.bid), cmp.Compare(a.order, b.order))
	})
	return list
}

// Select goes through what waits.
func (p *Pool) Select(context.Context, [][]byte) mempool.Iterator {
	if list := p.sorted(); len(list) > 0 {
		return iterator(list)
	}
	return nil
}

type iterator []*waiting

func (i iterator) Next() mempool.Iterator {
	if len(i) < 2 {
		return nil
	}
	return i[1:]
}
func (i iterator) Tx() mempool.PooledTx { return mempool.NewPooledTx(i[0].tx, i[0].gas) }

// SelectBy calls f for what waits until it answers false.
func (p *Pool) SelectBy(_ context.Context, _ [][]byte, f func(mempool.PooledTx) bool) {
	for _, e := range p.sorted() {
		if !f(mempool.NewPooledTx(e.tx, e.gas)) {
			return
		}
	}
}

// CountTx is how many transactions wait.
func (p *Pool) CountTx() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.in)
}

// Remove forgets a transaction.
func (p *Pool) Remove(tx sdk.Tx) error {
	raw, err := p.encode(tx)
	if err != nil {
		return fmt.Errorf("forget a transaction: %w", err)
	}
	return p.remove(raw)
}

// RemoveWithReason forgets a transaction that a block has, or that a check
// refuses now.
func (p *Pool) RemoveWithReason(ctx context.Context, _ sdk.Tx, _ mempool.RemoveReason) error {
	return p.remove(sdk.UnwrapSDKContext(ctx).TxBytes())
}

func (p *Pool) remove(raw []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.in[sha256.Sum256(raw)]
	if e == nil {
		return mempool.ErrTxNotFound
	}
	p.drop(e)
	return nil
}
