package market

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	gomath "math"

	"cosmossdk.io/collections"
	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/torg-network/torg/ledger/api/bondv1"
	"github.com/torg-network/torg/ledger/api/marketv1"
	"github.com/torg-network/torg/ledger/api/squarev1"
	pure "github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
)

type queryServer struct{ *Keeper }

var _ marketv1.QueryServer = queryServer{}

// Queries are the module's queries, without a server.
func Queries(k *Keeper) marketv1.QueryServer { return queryServer{k} }

// Page turns a request's limit and cursor into their use.
func Page(limit uint64, after string) (int, []byte, error) {
	if limit == 0 {
		limit = 100
	}
	if limit > 1000 {
		return 0, nil, status.Error(codes.InvalidArgument, "limit is at most 1000")
	}
	cursor, err := hex.DecodeString(after)
	if err != nil {
		return 0, nil, status.Error(codes.InvalidArgument, "after: want the last answer's next")
	}
	return int(limit), cursor, nil
}

// wanted reads an address that a list may be asked for; nil: it is not.
func wanted(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	a, err := square.ParseAddress(s)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return a[:], nil
}

// scan bounds how many entries one query looks at for each it may answer with.
const scan = 20

func notFound(err error) error {
	if errors.Is(err, collections.ErrNotFound) || errors.Is(err, pure.ErrNotFound) {
		return status.Error(codes.NotFound, "not found")
	}
	return err
}

func (q queryServer) Params(ctx context.Context, _ *marketv1.QueryParamsRequest) (*marketv1.QueryParamsResponse, error) {
	p, err := q.params.Get(ctx)
	if err != nil {
		return nil, err
	}
	now, lag, err := q.Clock(ctx)
	if err != nil {
		return nil, err
	}
	prices, err := q.Prices(ctx)
	return &marketv1.QueryParamsResponse{Params: p, Clock: now, Lag: lag, Prices: prices}, err
}

func (q queryServer) Lease(ctx context.Context, r *marketv1.QueryLeaseRequest) (*marketv1.QueryLeaseResponse, error) {
	id, err := square.ParseHash(r.Id)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	m, err := q.leases.Get(ctx, id[:])
	if err != nil {
		return nil, notFound(err)
	}
	return q.projected(ctx, m)
}

// projected adds how a lease would end by itself.
func (q queryServer) projected(ctx context.Context, m marketv1.Lease) (*marketv1.QueryLeaseResponse, error) {
	l, err := m.Market()
	if err != nil {
		return nil, err
	}
	machine, err := q.machine(ctx)
	if err != nil {
		return nil, err
	}
	now, _, err := q.Clock(ctx)
	if err != nil {
		return nil, err
	}
	p, err := machine.Project(state{q.Keeper, ctx}, now, l.ID)
	if err != nil {
		return nil, err
	}
	return &marketv1.QueryLeaseResponse{Lease: m, Projection: marketv1.Projection{
		State: string(p.State), Reason: string(p.Reason), At: p.At,
		ToBuyer: p.To(pure.Account(l.Order.Buyer)), ToProvider: p.To(pure.Account(l.Provider)),
	}}, nil
}

// Leases lists leases of a party in the order in which they were opened, others by id.
func (q queryServer) Leases(ctx context.Context, r *marketv1.QueryLeasesRequest) (*marketv1.QueryLeasesResponse, error) {
	limit, after, err := Page(r.Limit, r.After)
	if err != nil {
		return nil, err
	}
	buyer, err := wanted(r.Buyer)
	if err != nil {
		return nil, err
	}
	provider, err := wanted(r.Provider)
	if err != nil {
		return nil, err
	}
	out := &marketv1.QueryLeasesResponse{}
	looked := 0
	visit := func(place, id []byte) (stop bool, err error) {
		if len(out.Leases) == limit || looked == limit*scan {
			out.Next = hex.EncodeToString(after)
			return true, nil
		}
		looked++
		after = place
		m, err := q.leases.Get(ctx, id)
		if err != nil {
			return true, err
		}
		if buyer != nil && !bytes.Equal(m.Order.Buyer, buyer) || provider != nil && !bytes.Equal(m.Provider, provider) ||
			r.Trade != "" && m.Order.Trade != r.Trade || r.State != "" && m.State != r.State {
			return false, nil
		}
		l, err := q.projected(ctx, m)
		if err != nil {
			return true, err
		}
		out.Leases = append(out.Leases, *l)
		return false, nil
	}
	whole := func(id []byte) (bool, error) { return visit(bytes.Clone(id), id) }
	switch idx := q.leases.Indexes; {
	case buyer != nil:
		err = walkParty(ctx, idx.Buyer.keys, buyer, after, visit)
	case provider != nil:
		err = walkParty(ctx, idx.Provider.keys, provider, after, visit)
	case r.State == string(pure.Disputed):
		err = idx.Disputed.keys.Walk(ctx, rest(after), whole)
	default:
		err = q.leases.Walk(ctx, rest(after), func(id []byte, _ marketv1.Lease) (bool, error) { return whole(id) })
	}
	return out, err
}

// walkParty visits the leases of one party after a cursor, which is when the last one
// was opened (64 bits, big-endian) and its id.
func walkParty(ctx context.Context, keys collections.KeySet[party], who, after []byte, visit func(place, id []byte) (bool, error)) error {
	r := new(collections.Range[party]).StartInclusive(collections.TriplePrefix[[]byte, int64, []byte](who))
	if len(after) > 0 {
		if len(after) < 8 {
			return status.Error(codes.InvalidArgument, "after: want the last answer's next")
		}
		r = r.StartExclusive(collections.Join3(who, int64(binary.BigEndian.Uint64(after)), after[8:]))
	}
	// Nothing is opened at the end of time.
	r = r.EndExclusive(collections.TripleSuperPrefix[[]byte, int64, []byte](who, gomath.MaxInt64))
	return keys.Walk(ctx, r, func(p party) (bool, error) {
		return visit(append(binary.BigEndian.AppendUint64(nil, uint64(p.K2())), p.K3()...), p.K3())
	})
}

// rest is what comes after a cursor.
func rest(after []byte) *collections.Range[[]byte] {
	r := new(collections.Range[[]byte])
	if len(after) > 0 {
		r = r.StartExclusive(after)
	}
	return r
}

func (q queryServer) Offers(ctx context.Context, r *marketv1.QueryOffersRequest) (*marketv1.QueryOffersResponse, error) {
	limit, after, err := Page(r.Limit, r.After)
	if err != nil {
		return nil, err
	}
	provider, err := wanted(r.Provider)
	if err != nil {
		return nil, err
	}
	var rd squarev1.Reader
	spec := squarev1.FromHash(rd.MaybeHash("spec", r.Spec))
	if rd.Err != nil {
		return nil, status.Error(codes.InvalidArgument, rd.Err.Error())
	}
	out := &marketv1.QueryOffersResponse{}
	looked := 0
	at := wall(ctx)
	visit := func(key []byte) (bool, error) {
		if len(out.Offers) == limit || looked == limit*scan {
			out.Next = hex.EncodeToString(after)
			return true, nil
		}
		looked++
		after = bytes.Clone(key)
		o, err := q.offers.Get(ctx, key)
		if err != nil {
			return true, err
		}
		if provider != nil && !bytes.Equal(o.Offer.Provider, provider) || spec != nil && !bytes.Equal(o.Offer.Spec, spec) ||
			r.Trade != "" && o.Offer.Trade != r.Trade || !r.All && (o.Withdrawn || o.Offer.Expiry <= at) {
			return false, nil
		}
		out.Offers = append(out.Offers, o)
		return false, nil
	}
	switch {
	case provider != nil:
		err = q.offers.Walk(ctx, of(provider, after), func(key []byte, _ marketv1.Offer) (bool, error) { return visit(key) })
	case r.Trade != "":
		p := collections.NewPrefixedPairRange[string, []byte](r.Trade)
		if len(after) > 0 {
			p = p.StartExclusive(after)
		}
		err = q.offers.Indexes.Trade.keys.Walk(ctx, p, func(p collections.Pair[string, []byte]) (bool, error) { return visit(p.K2()) })
	default:
		err = q.offers.Walk(ctx, rest(after), func(key []byte, _ marketv1.Offer) (bool, error) { return visit(key) })
	}
	return out, err
}

// of is the range of keys that begin with an address, after a cursor.
func of(who, after []byte) *collections.Range[[]byte] {
	r := new(collections.Range[[]byte]).Prefix(who)
	if len(after) > 0 {
		r = new(collections.Range[[]byte]).StartExclusive(after).EndExclusive(storeEnd(who))
	}
	return r
}

// storeEnd is the first key after all that begin with an address.
func storeEnd(who []byte) []byte {
	end := bytes.Clone(who)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end
		}
	}
	return bytes.Repeat([]byte{0xff}, len(who)+1)
}

// Stakes answers package bond's query.
func (k *Keeper) Stakes(ctx context.Context, r *bondv1.QueryStakesRequest) (*bondv1.QueryStakesResponse, error) {
	limit, after, err := Page(r.Limit, r.After)
	if err != nil {
		return nil, err
	}
	provider, err := wanted(r.Provider)
	if err != nil {
		return nil, err
	}
	ranged := rest(after)
	if provider != nil {
		ranged = of(provider, after)
	}
	out := &bondv1.QueryStakesResponse{}
	looked := 0
	return out, k.stakes.Walk(ctx, ranged, func(key []byte, s bondv1.Stake) (bool, error) {
		if len(out.Stakes) == limit || looked == limit*scan {
			out.Next = hex.EncodeToString(after)
			return true, nil
		}
		looked++
		after = bytes.Clone(key)
		if r.Trade == "" || s.Trade == r.Trade {
			out.Stakes = append(out.Stakes, s)
		}
		return false, nil
	})
}

func (q queryServer) Evidence(ctx context.Context, r *marketv1.QueryEvidenceRequest) (*marketv1.QueryEvidenceResponse, error) {
	var rd squarev1.Reader
	lease, hash := rd.Hash("lease", r.Lease), rd.Hash("hash", r.Hash)
	if rd.Err != nil {
		return nil, status.Error(codes.InvalidArgument, rd.Err.Error())
	}
	e, err := q.evidence.Get(ctx, collections.Join(lease[:], hash[:]))
	if err != nil {
		return nil, notFound(err)
	}
	return &marketv1.QueryEvidenceResponse{Evidence: e}, nil
}

// Answer is what was answered to the word that a result was withheld.
func (q queryServer) Answer(ctx context.Context, r *marketv1.QueryAnswerRequest) (*marketv1.QueryAnswerResponse, error) {
	id, err := square.ParseHash(r.Lease)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	question, err := q.asked.Get(ctx, id[:])
	if err != nil {
		return nil, notFound(err)
	}
	return &marketv1.QueryAnswerResponse{Question: question}, nil
}

// Beacon answers with the randomness of a block.
func (q queryServer) Beacon(ctx context.Context, r *marketv1.QueryBeaconRequest) (*marketv1.QueryBeaconResponse, error) {
	h, err := q.Keeper.Beacon(ctx, r.Height)
	if err != nil {
		return nil, notFound(err)
	}
	return &marketv1.QueryBeaconResponse{Beacon: h.String()}, nil
}

// Card answers with a card by its hash.
func (q queryServer) Card(ctx context.Context, r *marketv1.QueryCardRequest) (*marketv1.QueryCardResponse, error) {
	h, err := square.ParseHash(r.Hash)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	c, err := q.cards.Get(ctx, h[:])
	if err != nil {
		return nil, notFound(err)
	}
	return &marketv1.QueryCardResponse{Card: c}, nil
}

// Supply walks every balance, lease and stake. It costs what the ledger is
// large, so it is for auditors and tests, and never part of a block.
func (q queryServer) Supply(ctx context.Context, r *marketv1.QuerySupplyRequest) (*marketv1.QuerySupplyResponse, error) {
	if err := sdk.ValidateDenom(r.Denom); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	out := &marketv1.QuerySupplyResponse{Denom: r.Denom}
	held := math.ZeroInt() // by the market's account
	sum := math.ZeroInt()
	q.bank.IterateAllBalances(ctx, func(who sdk.AccAddress, c sdk.Coin) bool {
		if c.Denom != r.Denom {
			return false
		}
		sum = sum.Add(c.Amount)
		n := c.Amount.Uint64()
		switch q.pots(who) {
		case "":
			out.Accounts += n
		case Name:
			held = c.Amount
		case Treasury:
			out.Treasury += n
		case "channel":
			out.Channels += n
		case stakingtypes.BondedPoolName, stakingtypes.NotBondedPoolName:
			out.Validators += n
		default:
			out.Other += n
		}
		return false
	})
	err := errors.Join(
		q.leases.Walk(ctx, nil, func(_ []byte, l marketv1.Lease) (bool, error) {
			if l.Order.Denom == r.Denom {
				out.Escrow += l.Escrow
				if l.Dispute != nil {
					out.Challenges += l.Dispute.Bond
				}
			}
			return false, nil
		}),
		q.stakes.Walk(ctx, nil, func(_ []byte, s bondv1.Stake) (bool, error) {
			if s.Denom == r.Denom {
				out.Stake += s.Total
			}
			return false, nil
		}))
	if err != nil {
		return nil, err
	}
	t, err := q.totals.Get(ctx, r.Denom)
	if err != nil && !errors.Is(err, collections.ErrNotFound) {
		return nil, err
	}
	out.Burned, out.Minted = t.Burned, t.Minted
	supply := q.bank.GetSupply(ctx, r.Denom).Amount
	out.Supply = supply.Uint64()
	out.Balanced = sum.Equal(supply) && held.Equal(math.NewIntFromUint64(out.Escrow+out.Stake+out.Challenges))
	return out, nil
}

// Address is the account of one of the market's pots.
func Address(name string) sdk.AccAddress { return authtypes.NewModuleAddress(name) }
