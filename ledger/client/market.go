package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/channelv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	"github.com/torg-network/torg/ledger/keys"
	"github.com/torg-network/torg/ledger/space"
	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

// Gas that messages need beyond what any transaction does.
const (
	gasSend  = 50_000
	gasLease = 130_000 // one operation on a lease, an offer or a stake
	gasGroup = 600_000 // one on a replica that changes all of its order
	gasOpen  = 180_000
	gasLane  = 100     // each lane that the lease has
	gasClaim = 24_000  // one voucher
	gasJudge = 35_000  // freeing and paying one judge
	gasCard  = 300_000 // reading a model's card: at most 64 KiB, three gas a byte
)

// Bond moves money into the account's stake in a trade.
func (a *Account) Bond(ctx context.Context, trade string, amount square.Amount) (Result, error) {
	return a.submit(ctx, call{&bondv1.MsgBond{Provider: a.addr.String(), Trade: trade, Amount: squarev1.FromAmount(amount)}, gasLease})
}

// Unbond starts the way out of stake that no lease has locked. The ledger pays
// it out by itself when its time has come.
func (a *Account) Unbond(ctx context.Context, trade string, amount square.Amount) (Result, error) {
	return a.submit(ctx, call{&bondv1.MsgUnbond{Provider: a.addr.String(), Trade: trade, Amount: squarev1.FromAmount(amount)}, gasLease})
}

// PostOffer publishes an offer, which is the account's own.
func (a *Account) PostOffer(ctx context.Context, o square.Offer) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgPostOffer{Provider: a.addr.String(), Offer: squarev1.FromOffer(o)}, gasLease})
}

// WithdrawOffer ends the account's live offer of a trade and spec.
func (a *Account) WithdrawOffer(ctx context.Context, trade string, spec square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgWithdrawOffer{Provider: a.addr.String(), Trade: trade, Spec: squarev1.Hex(spec)}, gasLease})
}

// OpenLease places the account's order and gives it to the provider of the
// quote. The lease's id is the order's.
func (a *Account) OpenLease(ctx context.Context, o square.Order, q square.Quote, sig square.Signature) (Result, error) {
	return a.submit(ctx, a.openLease(o, q, sig))
}

func (a *Account) openLease(o square.Order, q square.Quote, sig square.Signature) call {
	return call{&marketv1.MsgOpenLease{
		Buyer: a.addr.String(), Order: squarev1.FromOrder(o), Quote: squarev1.FromQuote(q), QuoteSignature: sig[:],
	}, gasOpen + o.Lanes*gasLane}
}

// PlaceOrder places the account's order for any provider to take.
func (a *Account) PlaceOrder(ctx context.Context, o square.Order) (Result, error) {
	gas := uint64(gasOpen)
	if o.Mode == square.ModeResult && o.Policy == square.PolicyReplicate {
		gas += square.Replicas * gasLease / 2
	}
	return a.submit(ctx, call{&marketv1.MsgPlaceOrder{Buyer: a.addr.String(), Order: squarev1.FromOrder(o)}, gas})
}

// Match carries a provider's quote on an open order to the ledger.
func (a *Account) Match(ctx context.Context, q square.Quote, sig square.Signature) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgMatch{Sender: a.addr.String(), Quote: squarev1.FromQuote(q), QuoteSignature: sig[:]}, 2 * gasLease})
}

// Start is the account's word that it serves a matched lease.
func (a *Account) Start(ctx context.Context, lease square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgStart{Provider: a.addr.String(), Lease: lease.String()}, gasLease})
}

// Claim is what one lane of a lease has earned, and the voucher that promises
// at least as much.
type Claim struct {
	Lane    uint16
	Amount  uint64 // in all
	Voucher square.Voucher
}

// Redeem pays a lease's provider for what its claims add. final is the
// provider's word that no more is to come.
func (a *Account) Redeem(ctx context.Context, lease square.Hash, claims []Claim, final bool) (Result, error) {
	m := &marketv1.MsgRedeem{Sender: a.addr.String(), Lease: lease.String(), Final: final}
	lanes := 0
	for _, c := range claims {
		lanes = max(lanes, int(c.Lane)+1)
		m.Claims = append(m.Claims, marketv1.LaneClaim{Lane: uint32(c.Lane), Amount: c.Amount, Max: c.Voucher.Max, Signature: c.Voucher.Sig[:]})
	}
	return a.submit(ctx, call{m, gasLease + uint64(lanes)*gasLane + uint64(len(claims))*gasClaim})
}

// RedeemFee is about what Redeem costs now for so many claims of as many lanes.
func (a *Account) RedeemFee(ctx context.Context, claims int) (uint64, error) {
	m := &marketv1.MsgRedeem{Sender: a.addr.String(), Lease: square.Hash{}.String()}
	for n := range claims {
		m.Claims = append(m.Claims, marketv1.LaneClaim{Lane: uint32(n), Amount: square.MaxUnits, Max: square.MaxUnits, Signature: make([]byte, len(square.Signature{}))})
	}
	redeem := call{m, gasLease + uint64(claims)*(gasLane+gasClaim)}
	bid, err := a.c.bid(ctx, 0, redeem)
	if err != nil {
		return 0, err
	}
	return space.Cost(bid, gasBase+redeem.gas+uint64(m.Size())*gasPerByte), nil
}

// Consent is a provider's signature of the sum that a lease ends with.
type Consent struct {
	Paid uint64
	Sig  square.Signature
}

// Close ends the account's lease: at once with the provider's consent, after
// the order's Drain without.
func (a *Account) Close(ctx context.Context, lease square.Hash, consent *Consent) (Result, error) {
	m := &marketv1.MsgClose{Buyer: a.addr.String(), Lease: lease.String()}
	if consent != nil {
		m.Consent = &marketv1.CloseConsent{Paid: consent.Paid, Signature: consent.Sig[:]}
	}
	return a.submit(ctx, call{m, gasLease + gasLease/2})
}

// Reclaim ends a lease that the account serves, with notice in seconds.
func (a *Account) Reclaim(ctx context.Context, lease square.Hash, notice uint64) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgReclaim{Provider: a.addr.String(), Lease: lease.String(), Notice: notice}, gasLease})
}

// Abandon ends a lease that the account serves at once, for part of its bond.
func (a *Account) Abandon(ctx context.Context, lease square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgAbandon{Provider: a.addr.String(), Lease: lease.String()}, 2 * gasLease})
}

// Cancel ends the account's lease before it runs.
func (a *Account) Cancel(ctx context.Context, lease square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgCancel{Buyer: a.addr.String(), Lease: lease.String()}, gasLease})
}

// TopUp adds to the escrow of the account's lease.
func (a *Account) TopUp(ctx context.Context, lease square.Hash, units uint64) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgTopUp{Buyer: a.addr.String(), Lease: lease.String(), Units: units}, gasLease})
}

// Extend lets the account's lease end later, as its provider has signed.
func (a *Account) Extend(ctx context.Context, lease square.Hash, ends int64, sig square.Signature) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgExtend{Buyer: a.addr.String(), Lease: lease.String(), Ends: ends, Signature: sig[:]}, gasLease})
}

// ClaimResult hands in the receipt that a lease's provider has signed.
func (a *Account) ClaimResult(ctx context.Context, r square.Receipt, sig square.Signature) (Result, error) {
	return a.submit(ctx, call{claim(a, r, sig), gasLease})
}

// CommitResult fixes the result of a replica, which the account runs, without showing it.
func (a *Account) CommitResult(ctx context.Context, r square.Receipt, sig square.Signature) (Result, error) {
	ballot := square.Commitment(r.Digest(a.c.ledger), sig)
	return a.submit(ctx, call{&marketv1.MsgCommit{Judge: a.addr.String(), Lease: r.Lease.String(), Ballot: ballot.String()}, 2 * gasLease})
}

// ShowResult shows what a replica's provider has committed to, once all have.
func (a *Account) ShowResult(ctx context.Context, r square.Receipt, sig square.Signature) (Result, error) {
	return a.submit(ctx, call{claim(a, r, sig), gasGroup})
}

func claim(a *Account, r square.Receipt, sig square.Signature) *marketv1.MsgClaim {
	return &marketv1.MsgClaim{Sender: a.addr.String(), Lease: r.Lease.String(), Receipt: squarev1.FromReceipt(r), Signature: sig[:]}
}

// Withhold is the account's word, as buyer, that a claimed result was not handed
// over, with the least bond there may be. The provider is to seal it to the key.
func (a *Account) Withhold(ctx context.Context, lease square.Hash, key []byte) (Result, error) {
	bond, err := a.bond(ctx, lease)
	if err != nil {
		return Result{}, err
	}
	return a.submit(ctx, call{&marketv1.MsgWithhold{Buyer: a.addr.String(), Lease: lease.String(), Bond: bond, Key: key}, gasLease})
}

// bond is the least bond with which the account may dispute a claimed result.
func (a *Account) bond(ctx context.Context, lease square.Hash) (uint64, error) {
	l, err := a.c.Lease(ctx, lease)
	if err != nil {
		return 0, err
	}
	if l.Receipt == nil {
		return 0, fmt.Errorf("lease %s: %w: no result is claimed; it is %s", lease.Short(), market.ErrState, l.State)
	}
	p, err := a.c.Params(ctx)
	return p.LeastBond(l.Order, l.Receipt.Price), err
}

// Answer hands over a result that was said to be withheld: the bytes for the ledger,
// or, where they are too many for it, where they may be fetched.
func (a *Account) Answer(ctx context.Context, lease square.Hash, answer []byte, locator string) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgAnswer{Provider: a.addr.String(), Lease: lease.String(), Answer: answer, Locator: locator},
		2*gasLease + uint64(len(answer))*60})
}

// Unseal shows the private half of the key that an answer was sealed to, for the
// ledger to see that it is not the result.
func (a *Account) Unseal(ctx context.Context, lease square.Hash, key []byte) (Result, error) {
	bond, err := a.bond(ctx, lease)
	if err != nil {
		return Result{}, err
	}
	q, err := a.c.Question(ctx, lease)
	if err != nil {
		return Result{}, err
	}
	return a.submit(ctx, call{&marketv1.MsgUnseal{Buyer: a.addr.String(), Lease: lease.String(), Bond: bond, Key: key},
		2*gasLease + uint64(len(q.Answer))*40})
}

// Accept is the account's word, as buyer, that a result is right.
func (a *Account) Accept(ctx context.Context, lease square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgAccept{Buyer: a.addr.String(), Lease: lease.String()}, gasLease})
}

// Challenge brings evidence against a lease's provider, with the least bond
// there may be. If Options.Trades has the trade's rules, the transaction
// carries the gas for the ledger to judge at once. part is what the provider is
// to prove, where the ledger asks for a proof.
func (a *Account) Challenge(ctx context.Context, lease square.Hash, e square.Evidence, part uint64) (Result, error) {
	return a.challenge(ctx, lease, e, marketv1.MsgChallenge{Part: part})
}

// ChallengeDetached brings evidence whose bytes are too many for a transaction.
// Judges fetch them from the locator by the receipt's digests, or from where the
// provider has said that the result is.
func (a *Account) ChallengeDetached(ctx context.Context, lease square.Hash, e square.Evidence, locator string) (Result, error) {
	e.Request, e.Result = nil, nil
	return a.challenge(ctx, lease, e, marketv1.MsgChallenge{Detached: true, Locator: locator})
}

func (a *Account) challenge(ctx context.Context, lease square.Hash, e square.Evidence, m marketv1.MsgChallenge) (Result, error) {
	l, err := a.c.Lease(ctx, lease)
	if err != nil {
		return Result{}, err
	}
	p, err := a.c.Params(ctx)
	if err != nil {
		return Result{}, err
	}
	gas := uint64(2*gasLease + keys.VerifyGas)
	for _, r := range a.c.opt.Trades {
		if r.Name() != l.Order.Trade || m.Detached {
			continue
		}
		judge, err := r.JudgeGas(trade.Case{Evidence: e, Lease: l})
		if err != nil && !errors.Is(err, trade.ErrNotJudgeable) {
			return Result{}, err
		}
		if judge > trade.MaxJudgeGas && !l.Order.Card.IsZero() {
			judge = 0 // it is for the provider to prove
		}
		gas += judge
	}
	// Evidence is stored: thirty gas a byte, beside what its transport costs; and
	// read, with the model's card, where a proof is asked for.
	gas += uint64(len(e.Request)+len(e.Result))*90 + gasCard
	m.Challenger, m.Lease, m.Evidence, m.Bond = a.addr.String(), lease.String(), squarev1.FromEvidence(e), p.LeastBond(l.Order, e.Receipt.Price)
	return a.submit(ctx, call{&m, gas})
}

// Prove answers the challenge of a lease with a proof of the part that it is
// about. Options.Trades must have the trade's rules, which tell the gas.
func (a *Account) Prove(ctx context.Context, lease, evidence square.Hash, proof []byte) (Result, error) {
	l, err := a.c.Lease(ctx, lease)
	if err != nil {
		return Result{}, err
	}
	if l.Dispute == nil {
		return Result{}, fmt.Errorf("lease %s: %w: it is %s", lease.Short(), market.ErrState, l.State)
	}
	e, err := a.c.Evidence(ctx, lease, evidence)
	if err != nil {
		return Result{}, err
	}
	card, err := a.c.Card(ctx, l.Order.Card)
	if err != nil {
		return Result{}, err
	}
	gas := uint64(2*gasLease) + gasCard + uint64(len(e.Request)+len(e.Result))*25
	for _, r := range a.c.opt.Trades {
		p, ok := r.(trade.Provable)
		if !ok || r.Name() != l.Order.Trade {
			continue
		}
		check, err := p.ProofGas(trade.Case{Evidence: e, Lease: l, Card: card}, l.Dispute.Part, proof)
		if err != nil {
			return Result{}, err
		}
		gas += check
	}
	return a.submit(ctx, call{&marketv1.MsgProve{Sender: a.addr.String(), Lease: lease.String(), Evidence: evidence.String(), Proof: proof}, gas})
}

// Enlist says whether the account's stake in a trade sits as a judge when drawn.
func (a *Account) Enlist(ctx context.Context, trade, denom string, on bool) (Result, error) {
	return a.submit(ctx, call{&bondv1.MsgEnlist{Judge: a.addr.String(), Trade: trade, Denom: denom, On: on}, 2 * gasLease})
}

// Commit fixes the account's vote as a judge without showing it.
func (a *Account) Commit(ctx context.Context, lease, ballot square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgCommit{Judge: a.addr.String(), Lease: lease.String(), Ballot: ballot.String()}, 2 * gasLease})
}

// Vote shows what the account has committed to.
func (a *Account) Vote(ctx context.Context, lease square.Hash, v square.Verdict, secret square.Hash) (Result, error) {
	l, err := a.c.Lease(ctx, lease)
	if err != nil {
		return Result{}, err
	}
	judges := map[square.Address]bool{}
	if l.Dispute != nil {
		for _, s := range l.Dispute.Seats {
			judges[s.Judge] = true
		}
	}
	return a.submit(ctx, call{&marketv1.MsgVote{Judge: a.addr.String(), Lease: lease.String(), Verdict: string(v), Secret: secret.String()},
		2*gasLease + uint64(len(judges))*gasJudge})
}

// PublishCard stores a card on the ledger for a year, for orders to name.
func (a *Account) PublishCard(ctx context.Context, trade string, card []byte) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgPublishCard{Sender: a.addr.String(), Trade: trade, Card: card}, gasLease + uint64(len(card))*60})
}

// Poke carries out what a lease's deadline demands, for a bounty.
func (a *Account) Poke(ctx context.Context, lease square.Hash) (Result, error) {
	return a.submit(ctx, call{&marketv1.MsgPoke{Sender: a.addr.String(), Lease: lease.String()}, 2 * gasLease})
}

// Authorization is a payer's signature of a deposit, which any account may
// carry to the ledger.
type Authorization struct {
	Nonce  square.Hash
	Expiry int64
	Sig    square.Signature
}

// Deposit funds a channel: from the account itself, or, with auth, from the
// payer that signed it.
func (a *Account) Deposit(ctx context.Context, c square.ChannelConfig, amount square.Amount, auth *Authorization) (Result, error) {
	m := &channelv1.MsgDeposit{Sender: a.addr.String(), Config: squarev1.FromChannelConfig(c), Amount: squarev1.FromAmount(amount)}
	if auth != nil {
		m.Authorization = &channelv1.Authorization{Nonce: auth.Nonce.String(), Expiry: auth.Expiry, Signature: auth.Sig[:]}
	}
	return a.submit(ctx, call{m, gasLease})
}

// ChannelClaim is what a channel owes, and the voucher that promises at least
// as much.
type ChannelClaim struct {
	Amount  uint64 // in all
	Voucher square.Voucher
}

// ClaimChannels pays the receivers of channels. The account is their receiver
// or receiver authorizer.
func (a *Account) ClaimChannels(ctx context.Context, claims []ChannelClaim) (Result, error) {
	m := &channelv1.MsgClaim{Sender: a.addr.String()}
	for _, c := range claims {
		m.Claims = append(m.Claims, channelv1.ClaimItem{Channel: c.Voucher.Channel.String(), Amount: c.Amount, Max: c.Voucher.Max, Signature: c.Voucher.Sig[:]})
	}
	return a.submit(ctx, call{m, gasLease + uint64(len(claims))*2*gasClaim})
}

// Withdraw starts the account's way out of a channel: units, or all if 0.
func (a *Account) Withdraw(ctx context.Context, channel square.Hash, units uint64) (Result, error) {
	return a.submit(ctx, call{&channelv1.MsgWithdraw{Payer: a.addr.String(), Channel: channel.String(), Units: units}, gasLease})
}

// FinishWithdraw pays out a withdrawal whose delay is over.
func (a *Account) FinishWithdraw(ctx context.Context, channel square.Hash) (Result, error) {
	return a.submit(ctx, call{&channelv1.MsgFinish{Sender: a.addr.String(), Channel: channel.String()}, gasLease})
}

// RefundChannel gives a channel's payer money back at once; the account is its
// receiver.
func (a *Account) RefundChannel(ctx context.Context, channel square.Hash, units uint64) (Result, error) {
	return a.submit(ctx, call{&channelv1.MsgRefund{Receiver: a.addr.String(), Channel: channel.String(), Units: units}, gasLease})
}

// Params are the market's parameters, with what ballots cost at the price of now.
func (c *Client) Params(ctx context.Context) (market.Params, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Params(ctx, &marketv1.QueryParamsRequest{})
	if err != nil {
		return market.Params{}, fmt.Errorf("params: %w", err)
	}
	p := r.Params.Market()
	if len(r.Prices) > int(space.Defend) {
		p.BallotCost = min(p.SeatBond, space.BallotCost(r.Prices[space.Defend]))
	}
	return p, nil
}

// Block is what the next block is made under.
type Block struct {
	// Clock is what deadlines run on, in seconds: it stands still while blocks have
	// no room. Lag is by how much it is behind the ledger's time, which expiries
	// that people sign are held against.
	Clock, Lag int64
	Prices     []uint64 // of gas, by space.Lane, in utorg for space.PerGas
}

// Block is what the next block is made under.
func (c *Client) Block(ctx context.Context) (Block, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Params(ctx, &marketv1.QueryParamsRequest{})
	if err != nil {
		return Block{}, fmt.Errorf("prices of gas: %w", err)
	}
	if len(r.Prices) != int(space.Lanes) {
		return Block{}, fmt.Errorf("prices of gas: the ledger has %d lanes, this program knows %d", len(r.Prices), space.Lanes)
	}
	return Block{r.Clock, r.Lag, r.Prices}, nil
}

// Lease is a lease as it stands; ErrNotFound if there never was one or it has
// been forgotten.
func (c *Client) Lease(ctx context.Context, id square.Hash) (market.Lease, error) {
	l, err := c.Projected(ctx, id)
	return l.Lease, err
}

// Projected is a lease and how it would end if everyone fell silent now.
type Projected struct {
	market.Lease
	Then       market.State  `json:"then"`
	Why        market.Reason `json:"why"`
	At         int64         `json:"at"`
	ToBuyer    uint64        `json:"to_buyer,string"`
	ToProvider uint64        `json:"to_provider,string"`
}

// Projected is a lease with its projection.
func (c *Client) Projected(ctx context.Context, id square.Hash) (Projected, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Lease(ctx, &marketv1.QueryLeaseRequest{Id: id.String()})
	if err != nil {
		return Projected{}, fmt.Errorf("lease %s: %w", id.Short(), err)
	}
	return projected(*r)
}

func projected(r marketv1.QueryLeaseResponse) (Projected, error) {
	l, err := r.Lease.Market()
	p := r.Projection
	return Projected{l, market.State(p.State), market.Reason(p.Reason), p.At, p.ToBuyer, p.ToProvider}, err
}

// LeaseFilter chooses leases; a zero field chooses all.
type LeaseFilter struct {
	Buyer, Provider square.Address
	Trade           string
	State           market.State
}

// Page is where a list goes on. The zero Page is its beginning.
type Page struct {
	Limit uint64 // at most 1000; 0: 100
	After string // the Next of the answer before; empty: from the beginning
}

// Leases lists leases. next is empty when there are no more.
func (c *Client) Leases(ctx context.Context, f LeaseFilter, p Page) (leases []Projected, next string, err error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Leases(ctx, &marketv1.QueryLeasesRequest{
		Buyer: squarev1.Text(f.Buyer), Provider: squarev1.Text(f.Provider), Trade: f.Trade, State: string(f.State), Limit: p.Limit, After: p.After,
	})
	if err != nil {
		return nil, "", fmt.Errorf("leases: %w", err)
	}
	leases = make([]Projected, len(r.Leases))
	for i, m := range r.Leases {
		if leases[i], err = projected(m); err != nil {
			return nil, "", err
		}
	}
	return leases, r.Next, nil
}

// OfferFilter chooses offers; a zero field chooses all.
type OfferFilter struct {
	Provider square.Address
	Trade    string
	Spec     square.Hash
	All      bool // expired and withdrawn ones too
}

// Offers lists offers. next is empty when there are no more.
func (c *Client) Offers(ctx context.Context, f OfferFilter, p Page) (offers []market.Offer, next string, err error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Offers(ctx, &marketv1.QueryOffersRequest{
		Provider: squarev1.Text(f.Provider), Trade: f.Trade, Spec: squarev1.Hex(f.Spec), All: f.All, Limit: p.Limit, After: p.After,
	})
	if err != nil {
		return nil, "", fmt.Errorf("offers: %w", err)
	}
	offers = make([]market.Offer, len(r.Offers))
	for i, m := range r.Offers {
		if offers[i], err = m.Market(); err != nil {
			return nil, "", err
		}
	}
	return offers, r.Next, nil
}

// Stake is a provider's stake in a trade.
type Stake struct {
	market.StakeKey
	market.Stake
}

// Stakes lists stakes, of one provider and trade or of all. next is empty when
// there are no more.
func (c *Client) Stakes(ctx context.Context, provider square.Address, trade string, p Page) (stakes []Stake, next string, err error) {
	r, err := bondv1.NewQueryClient(conn{c.rpc}).Stakes(ctx, &bondv1.QueryStakesRequest{
		Provider: squarev1.Text(provider), Trade: trade, Limit: p.Limit, After: p.After,
	})
	if err != nil {
		return nil, "", fmt.Errorf("stakes: %w", err)
	}
	stakes = make([]Stake, len(r.Stakes))
	for i, m := range r.Stakes {
		if stakes[i].StakeKey, stakes[i].Stake, err = marketv1.Stake(m); err != nil {
			return nil, "", err
		}
	}
	return stakes, r.Next, nil
}

// Evidence is what was brought against a lease's provider.
func (c *Client) Evidence(ctx context.Context, lease, hash square.Hash) (square.Evidence, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Evidence(ctx, &marketv1.QueryEvidenceRequest{Lease: lease.String(), Hash: hash.String()})
	if err != nil {
		return square.Evidence{}, fmt.Errorf("evidence %s: %w", hash.Short(), err)
	}
	return r.Evidence.Square()
}

// Card is a card by its SHA-256; ErrNotFound where it is not published.
func (c *Client) Card(ctx context.Context, hash square.Hash) ([]byte, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Card(ctx, &marketv1.QueryCardRequest{Hash: hash.String()})
	if err != nil {
		return nil, fmt.Errorf("card %s: %w", hash.Short(), err)
	}
	if sha256.Sum256(r.Card.Card) != hash {
		return nil, fmt.Errorf("card %s: the ledger's node answered with another", hash.Short())
	}
	return r.Card.Card, nil
}

// Question is what a buyer asked for when it said that a result was withheld, and
// what was answered.
type Question struct {
	Key     []byte `json:"key"`
	Answer  []byte `json:"answer,omitempty"`
	Locator string `json:"locator,omitempty"`
	Shown   string `json:"shown,omitempty"` // where a challenger's evidence may be fetched
}

// Question is that of a lease; ErrNotFound where nothing was asked.
func (c *Client) Question(ctx context.Context, lease square.Hash) (Question, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Answer(ctx, &marketv1.QueryAnswerRequest{Lease: lease.String()})
	if err != nil {
		return Question{}, fmt.Errorf("question of lease %s: %w", lease.Short(), err)
	}
	q := r.Question
	return Question{Key: q.Key, Answer: q.Answer, Locator: q.Locator, Shown: q.Shown}, nil
}

// Supply is every pot of money of one denom.
type Supply struct {
	Denom      string `json:"denom"`
	Accounts   uint64 `json:"accounts,string"`
	Escrow     uint64 `json:"escrow,string"`
	Stake      uint64 `json:"stake,string"` // bonds of leases included
	Challenges uint64 `json:"challenges,string"`
	Channels   uint64 `json:"channels,string"`
	Treasury   uint64 `json:"treasury,string"`
	Validators uint64 `json:"validators,string"`
	Other      uint64 `json:"other,string"`
	Total      uint64 `json:"supply,string"`
	Burned     uint64 `json:"burned,string"`
	Minted     uint64 `json:"minted,string"`
	Balanced   bool   `json:"balanced"` // every pot holds what it should, and all sum to the supply
}

// Supply audits all money of a denom. It reads the whole state.
func (c *Client) Supply(ctx context.Context, denom string) (Supply, error) {
	r, err := marketv1.NewQueryClient(conn{c.rpc}).Supply(ctx, &marketv1.QuerySupplyRequest{Denom: denom})
	if err != nil {
		return Supply{}, fmt.Errorf("supply of %s: %w", denom, err)
	}
	return Supply{
		Denom: r.Denom, Accounts: r.Accounts, Escrow: r.Escrow, Stake: r.Stake, Challenges: r.Challenges, Channels: r.Channels,
		Treasury: r.Treasury, Validators: r.Validators, Other: r.Other, Total: r.Supply, Burned: r.Burned, Minted: r.Minted, Balanced: r.Balanced,
	}, nil
}

// Channel is a standalone payment channel.
type Channel struct {
	ID         square.Hash          `json:"id"`
	Config     square.ChannelConfig `json:"config"`
	Denom      string               `json:"denom"`
	Deposit    uint64               `json:"deposit,string"` // in all, less what was withdrawn
	Claimed    uint64               `json:"claimed,string"`
	Withdraw   uint64               `json:"withdraw,string"` // on its way out; 0 with a time: all
	WithdrawAt int64                `json:"withdraw_at"`     // 0: nothing is
}

func channel(r channelv1.QueryChannelResponse) (Channel, error) {
	var rd squarev1.Reader
	config, err := r.Channel.Config.Square()
	if err != nil {
		return Channel{}, err
	}
	m := r.Channel
	return Channel{rd.Hash("channel", r.Id), config, m.Denom, m.Deposit, m.Claimed, m.Withdraw, m.WithdrawAt}, rd.Err
}

// Channel is one channel; ErrNotFound if nothing was ever deposited in it.
func (c *Client) Channel(ctx context.Context, id square.Hash) (Channel, error) {
	r, err := channelv1.NewQueryClient(conn{c.rpc}).Channel(ctx, &channelv1.QueryChannelRequest{Id: id.String()})
	if err != nil {
		return Channel{}, fmt.Errorf("channel %s: %w", id.Short(), err)
	}
	return channel(*r)
}

// Channels lists channels of a payer, a receiver, both or anyone. next is empty
// when there are no more.
func (c *Client) Channels(ctx context.Context, payer, receiver square.Address, p Page) (channels []Channel, next string, err error) {
	r, err := channelv1.NewQueryClient(conn{c.rpc}).Channels(ctx, &channelv1.QueryChannelsRequest{
		Payer: squarev1.Text(payer), Receiver: squarev1.Text(receiver), Limit: p.Limit, After: p.After,
	})
	if err != nil {
		return nil, "", fmt.Errorf("channels: %w", err)
	}
	channels = make([]Channel, len(r.Channels))
	for i, m := range r.Channels {
		if channels[i], err = channel(m); err != nil {
			return nil, "", err
		}
	}
	return channels, r.Next, nil
}
