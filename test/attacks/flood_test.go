package attacks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	"github.com/cosmos/gogoproto/proto"

	"cosmossdk.io/math"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/torg-network/torg/exact/nano"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/client"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

// flooder makes transactions of its own, which want what gas and pay what fee it
// likes, and throws them at the ledger's RPC.
type flooder struct {
	th     *thief
	rpc    *rpchttp.HTTP
	number uint64

	mu             sync.Mutex
	until          time.Time
	taken, refused int
	why            string // the last refusal
}

func (th *thief) flooder() *flooder {
	t := th.p.t
	t.Helper()
	h, err := rpchttp.New(th.p.RPC, "/websocket")
	if err != nil {
		t.Fatal(err)
	}
	q := authtypes.QueryAccountInfoRequest{Address: th.addr.String()}
	b, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.ABCIQuery(t.Context(), "/cosmos.auth.v1beta1.Query/AccountInfo", b)
	if err != nil {
		t.Fatal(err)
	}
	var info authtypes.QueryAccountInfoResponse
	if err := info.Unmarshal(r.Response.Value); err != nil {
		t.Fatal(err)
	}
	return &flooder{th: th, rpc: h, number: info.Info.AccountNumber}
}

// tx is a signed transaction that wants so much gas, pays so much for it and
// waits up to a minute for a block.
func (f *flooder) tx(gas, fee uint64, msgs ...proto.Message) ([]byte, error) {
	f.mu.Lock()
	until := time.Now().Add(time.Minute).UTC()
	if !until.After(f.until) {
		until = f.until.Add(time.Nanosecond)
	}
	f.until = until
	f.mu.Unlock()
	return forge(f.th.p.ChainID, f.th.key, f.number, until, gas, fee, msgs...)
}

// forge signs a transaction as no client of torg's would make it.
func forge(chain string, key square.Key, number uint64, until time.Time, gas, fee uint64, msgs ...proto.Message) ([]byte, error) {
	body := txtypes.TxBody{Unordered: true, TimeoutTimestamp: &until}
	for _, m := range msgs {
		one, err := codectypes.NewAnyWithValue(m)
		if err != nil {
			return nil, err
		}
		body.Messages = append(body.Messages, one)
	}
	pub, err := codectypes.NewAnyWithValue(keys.PubKeyOf(key))
	if err != nil {
		return nil, err
	}
	auth := txtypes.AuthInfo{
		SignerInfos: []*txtypes.SignerInfo{{PublicKey: pub, ModeInfo: &txtypes.ModeInfo{
			Sum: &txtypes.ModeInfo_Single_{Single: &txtypes.ModeInfo_Single{Mode: signing.SignMode_SIGN_MODE_DIRECT}},
		}}},
		Fee: &txtypes.Fee{GasLimit: gas},
	}
	if fee > 0 {
		auth.Fee.Amount = sdk.Coins{{Denom: square.Denom, Amount: math.NewIntFromUint64(fee)}}
	}
	doc := txtypes.SignDoc{ChainId: chain, AccountNumber: number}
	if doc.BodyBytes, err = body.Marshal(); err != nil {
		return nil, err
	}
	if doc.AuthInfoBytes, err = auth.Marshal(); err != nil {
		return nil, err
	}
	sign, err := doc.Marshal()
	if err != nil {
		return nil, err
	}
	return (&txtypes.TxRaw{BodyBytes: doc.BodyBytes, AuthInfoBytes: doc.AuthInfoBytes, Signatures: [][]byte{keys.Sign(key, sign)}}).Marshal()
}

// self is the cheapest message there is: one base unit to oneself.
func (f *flooder) self() proto.Message { return selfSend(f.th.addr) }

func selfSend(a square.Address) proto.Message {
	return &banktypes.MsgSend{FromAddress: a.String(), ToAddress: a.String(), Amount: sdk.Coins{{Denom: square.Denom, Amount: math.NewInt(1)}}}
}

// proof is a message that goes where the honest defend their money, and fails.
func (f *flooder) proof() proto.Message {
	return &marketv1.MsgProve{Sender: f.th.addr.String(), Lease: square.Hash{1}.String(), Evidence: square.Hash{2}.String(), Proof: []byte{3}}
}

// bid is what so much gas costs now in a message's lane, and half more.
func (f *flooder) bid(gas uint64, m proto.Message) (uint64, error) {
	ctx, cancel := context.WithTimeout(f.th.p.t.Context(), 10*time.Second)
	defer cancel()
	b, err := f.th.p.ledger.Block(ctx)
	if err != nil {
		return 0, err
	}
	lane, _ := space.Place(m)
	return space.Cost(b.Prices[lane]*3/2, gas), nil
}

// throw posts a transaction without waiting for a block, and tells whether it is
// queued.
func (f *flooder) throw(raw []byte) bool {
	ctx, cancel := context.WithTimeout(f.th.p.t.Context(), 10*time.Second)
	defer cancel()
	r, err := f.rpc.BroadcastTxSync(ctx, raw)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil:
		f.refused, f.why = f.refused+1, err.Error()
	case r.Code != 0:
		f.refused, f.why = f.refused+1, r.Log
	default:
		f.taken++
		f.th.acts.Add(1)
		return true
	}
	return false
}

// most is how much gas the ledger lets a transaction of such a message want.
func (f *flooder) most(make func() proto.Message) uint64 {
	t := f.th.p.t
	t.Helper()
	for _, gas := range []uint64{99_000_000, 60_000_000, 20_000_000, 5_000_000, 3_000_000, 1_000_000, 400_000, 200_000} {
		fee, err := f.bid(gas, make())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := f.tx(gas, fee, make())
		if err != nil {
			t.Fatal(err)
		}
		if f.throw(raw) {
			t.Logf("such a transaction may want %d gas, for %d utorg", gas, fee)
			return gas
		}
	}
	t.Fatalf("no transaction is taken: %s", f.why)
	return 0
}

// keep floods until ctx ends or the money does: at first with so many that whoever
// comes later has as many blocks to wait, then with as many as blocks take.
func (f *flooder) keep(ctx context.Context, gas uint64, make func() proto.Message, first int) {
	const tick, more = 4 * time.Second, 20
	every := time.NewTicker(tick)
	defer every.Stop()
	for n := first; ; n = more {
		f.burst(ctx, gas, make, n)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// burst throws so many transactions, as fast as it can.
func (f *flooder) burst(ctx context.Context, gas uint64, make func() proto.Message, n int) {
	var throws sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range 8 {
		throws.Go(func() {
			fee, err := f.bid(gas, make())
			for err == nil && ctx.Err() == nil && left.Add(-1) >= 0 {
				var raw []byte
				if raw, err = f.tx(gas, fee, make()); err == nil && !f.throw(raw) {
					fee, err = f.bid(gas, make()) // the price has risen, or the money is gone
				}
			}
		})
	}
	throws.Wait()
}

func (f *flooder) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d taken, %d refused", f.taken, f.refused)
}

// The most blocks that an honest transaction may wait in a flood: one that defends
// money that is at stake, and a transfer.
const (
	defendDelay   = 20
	transferDelay = 60
)

// TestFloodStopsTheLedger: a stranger with six coins fills blocks with transfers
// to itself that want as much gas as they may and use little of it (money.md C1).
// Meanwhile somebody redeems a voucher, and somebody sends a coin.
func TestFloodStopsTheLedger(t *testing.T) {
	t.Parallel()
	p := open(t)
	th := p.thief(6 * torgs)
	f := th.flooder()
	g := p.guest(10 * torgs)
	of := p.offer(nano.Name)
	s := g.must(g.order(of), of)
	s.fill(2, 750)
	before, err := p.delay(g.acct)
	if err != nil {
		t.Fatal(err)
	}
	gas := f.most(f.self)
	f.burst(t.Context(), gas, f.self, 100)
	var wait sync.WaitGroup
	var redeemed, sent int64
	var rerr, serr error
	wait.Go(func() { redeemed, rerr = s.redeem() })
	wait.Go(func() { sent, serr = p.delay(p.owner) })
	wait.Wait()
	if rerr != nil || redeemed > defendDelay {
		t.Errorf("a redemption took %d blocks in the flood, at most %d: %v", redeemed, defendDelay, rerr)
	}
	if serr != nil || sent > transferDelay {
		t.Errorf("an honest transfer took %d blocks in the flood, %d before; at most %d: %v", sent, before, transferDelay, serr)
	}
	p.awaitFor(2*patience, "the end of the flood", func() error {
		d, err := p.delay(p.owner)
		if err == nil && d > 5 {
			err = fmt.Errorf("a transfer takes %d blocks", d)
		}
		return err
	})
	p.after(outcome{actor: stranger, name: "flood of self-sends that want all gas", note: fmt.Sprintf("redemption %d blocks, transfer %d, %d before; flood: %v", redeemed, sent, before, f)})
}

// redeem pays the lease's provider what it has charged so far, as anyone may who
// has the vouchers, and tells how many blocks that took.
func (s *stolen) redeem() (int64, error) {
	ctx, cancel := context.WithTimeout(s.th.p.t.Context(), 90*time.Second)
	defer cancel()
	var claims []client.Claim
	for _, ln := range s.lanes {
		ln.mu.Lock()
		claims = append(claims, client.Claim{Lane: ln.n, Amount: ln.charged, Voucher: ln.voucher})
		ln.mu.Unlock()
	}
	before, err := s.th.p.ledger.Head(ctx)
	if err != nil {
		return 0, err
	}
	r, err := s.th.acct.Redeem(ctx, s.id, claims, false)
	return r.Height - before.Height, err
}

// TestFloodOverClose: a buyer asks, closes one-sidedly and floods the ledger
// until its notice is over, so that no redemption finds a block (money.md C1).
func TestFloodOverClose(t *testing.T) {
	waits(t)
	t.Parallel()
	p := open(t)
	th := p.thief(20 * torgs)
	f := th.flooder()
	gas := f.most(f.proof)
	of := p.offer(nano.Name)
	var s *stolen
	var err error
	drain := uint64(60)
	for ; drain <= 600; drain += 60 {
		o := th.order(of)
		o.Drain = drain
		if s, err = th.lease(o, of); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.fill(5, 750)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(drain)*time.Second+patience)
	defer cancel()
	var floods sync.WaitGroup
	floods.Go(func() { f.keep(ctx, gas, f.proof, 330) })
	var l market.Lease
	p.awaitFor(time.Duration(drain)*time.Second+3*patience, "the end of the lease", func() error {
		if l, err = s.market(); err != nil || !l.State.Terminal() && time.Now().Unix() < l.Deadline+1 {
			return errors.Join(err, errors.New("not over"))
		}
		return nil
	})
	cancel()
	floods.Wait()
	l = s.over(3 * patience)
	p.after(outcome{actor: buyer, name: "flood over its own close", note: fmt.Sprintf("%d s of notice; charged %d, paid %d; flood: %v", drain, s.charged(), l.Paid, f)})
}

// junk is bytes that are no transaction.
func junk(n int) []byte {
	b := make([]byte, n)
	h := sha256.Sum256([]byte(time.Now().String()))
	copy(b, h[:])
	return b
}

// TestJunkBytes: a stranger without an account throws bytes that are no
// transactions at the RPC, some of them large.
func TestJunkBytes(t *testing.T) {
	t.Parallel()
	p := open(t)
	h, err := rpchttp.New(p.RPC, "/websocket")
	if err != nil {
		t.Fatal(err)
	}
	bystander := p.guest(torgs).acct
	taken := 0
	for i := range 200 {
		size := 100
		if i%20 == 0 {
			size = 900_000
		}
		if r, err := h.BroadcastTxSync(t.Context(), junk(size)); err == nil && r.Code == 0 {
			taken++
		}
	}
	if taken > 0 {
		t.Errorf("the ledger took %d transactions of junk", taken)
	}
	d, err := p.delay(bystander)
	if err != nil || d > 3 {
		t.Errorf("an honest transfer took %d blocks: %v", d, err)
	}
	p.after(outcome{actor: stranger, name: "junk bytes at the RPC", note: fmt.Sprintf("%d of 200 taken; honest transfer %d blocks", taken, d)})
}
