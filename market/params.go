package market

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Params are the numbers of the machine that governance may change. Shares are
// in basis points (1/10000), times in seconds. A change applies from the next
// operation on, to leases already open as well.
type Params struct {
	FeeBps      uint64 `json:"fee_bps"`      // of every payment
	TreasuryBps uint64 `json:"treasury_bps"` // of the fee; the rest, at least half, is burned
	EmissionBps uint64 `json:"emission_bps"` // of the burned fee, minted to the provider; at most 9000 (I12)

	CancelBps   uint64 `json:"cancel_bps"`   // of the escrow, from a buyer that cancels to the provider
	AbandonBps  uint64 `json:"abandon_bps"`  // of the bond, from a provider that does not start or walks away
	LateBps     uint64 `json:"late_bps"`     // of the bond, from a provider that claims no result by the job's deadline
	ReporterBps uint64 `json:"reporter_bps"` // of what is left of a slashed bond once the buyer is whole

	HoldbackBps   uint64 `json:"holdback_bps"`   // of the pay that grows into stake while the bond is small
	HoldbackTimes uint64 `json:"holdback_times"` // the bond is no longer small at this many job values

	ChallengeBps uint64 `json:"challenge_bps"`       // of the disputed value: the least bond of a challenger
	DisputeCost  uint64 `json:"dispute_cost,string"` // base units: the most fees that the winner of a dispute gets back
	Seats        uint64 `json:"seats"`               // judges of one draw, where there are as many
	JudgeFee     uint64 `json:"judge_fee,string"`    // base units, to each judge that voted for the verdict
	SeatBond     uint64 `json:"seat_bond,string"`    // base units, what a silent judge loses
	// BallotCost is by how much a judge's commitment and vote cost more now than
	// JudgeFee reckons with, in base units, at most SeatBond. It is not governance's:
	// who runs the machine sets it by what its transactions cost at the moment.
	BallotCost uint64 `json:"-"`
	Verdict    uint64 `json:"verdict"`  // T_verdict: how long one draw of judges has
	Answer     uint64 `json:"answer"`   // T_answer: how long a provider has to prove what is challenged
	Redraws    uint64 `json:"redraws"`  // draws after the first, before a dispute is given up
	Hearings   uint64 `json:"hearings"` // upheld disputes after which only the buyer may challenge a stream

	PokeBounty uint64 `json:"poke_bounty,string"` // base units, the most a poke earns
	BountyBps  uint64 `json:"bounty_bps"`         // and the most as a share of what it is taken from

	// Notice is the least of every deadline whose passing costs somebody money:
	// T_start, T_idle, T_challenge, the notice before a one-sided end, a job's time.
	Notice uint64 `json:"notice"`

	Unbonding   uint64 `json:"unbonding"`     // from Unbond until stake may leave
	MaxOrderTTL uint64 `json:"max_order_ttl"` // how far ahead an order may expire
	Retention   uint64 `json:"retention"`     // how long an ended lease is kept; at least MaxOrderTTL
}

// Default is what a new square starts with.
func Default() Params {
	const hour, day = 3600, 24 * 3600
	return Params{
		FeeBps: 200, TreasuryBps: 5000, EmissionBps: 0,
		CancelBps: 200, AbandonBps: 500, LateBps: 1000, ReporterBps: 3000,
		HoldbackBps: 5000, HoldbackTimes: 9,
		ChallengeBps: 1000, Verdict: 120, Answer: 300, Redraws: 2, Hearings: 16,
		DisputeCost: 50_000, Seats: 32, JudgeFee: 10_000, SeatBond: 100_000,
		Notice:     60,
		PokeBounty: 1000, BountyBps: 100,
		Unbonding: 7 * day, MaxOrderTTL: day, Retention: 7 * day,
	}
}

// Check refuses parameters under which an invariant would not hold.
func (p Params) Check() error {
	for _, f := range []struct {
		name       string
		value, max uint64
	}{
		{"fee_bps", p.FeeBps, 5000},
		{"treasury_bps", p.TreasuryBps, 5000},
		{"emission_bps", p.EmissionBps, 9000},
		{"cancel_bps", p.CancelBps, 1000},
		{"abandon_bps", p.AbandonBps, 10_000},
		{"late_bps", p.LateBps, 10_000},
		{"reporter_bps", p.ReporterBps, 5000},
		{"holdback_bps", p.HoldbackBps, 10_000},
		{"holdback_times", p.HoldbackTimes, 1000},
		{"challenge_bps", p.ChallengeBps, 10_000},
		{"redraws", p.Redraws, 8},
		{"hearings", p.Hearings, 1000},
		{"poke_bounty", p.PokeBounty, square.MaxUnits},
		{"bounty_bps", p.BountyBps, 1000},
		{"dispute_cost", p.DisputeCost, square.MaxUnits >> 1},
		{"seats", p.Seats, MaxSeats},
		{"judge_fee", p.JudgeFee, square.MaxUnits >> 10},
		{"seat_bond", p.SeatBond, square.MaxUnits >> 10},
		{"notice", p.Notice, 24 * 3600},
		{"verdict", p.Verdict, maxPeriod},
		{"answer", p.Answer, maxPeriod},
		{"unbonding", p.Unbonding, maxPeriod},
		{"max_order_ttl", p.MaxOrderTTL, maxPeriod},
		{"retention", p.Retention, maxPeriod},
	} {
		if f.value > f.max {
			return fmt.Errorf("params: %s is %d: at most %d", f.name, f.value, f.max)
		}
	}
	switch {
	case p.Notice == 0:
		return fmt.Errorf("params: notice is 0: at least a second")
	case p.Verdict < 2*p.Notice:
		return fmt.Errorf("params: verdict is %d: at least %d, a notice to commit and one to vote", p.Verdict, 2*p.Notice)
	case p.Answer < p.Notice:
		return fmt.Errorf("params: answer is %d: at least the notice, which is %d", p.Answer, p.Notice)
	case p.Seats == 0:
		return fmt.Errorf("params: seats is 0: a draw needs a judge")
	case p.MaxOrderTTL == 0:
		return fmt.Errorf("params: max_order_ttl is 0: no order could be opened")
	case p.Retention < p.MaxOrderTTL:
		// Otherwise an order could be opened a second time once its lease is
		// forgotten.
		return fmt.Errorf("params: retention is %d: at least max_order_ttl, which is %d", p.Retention, p.MaxOrderTTL)
	}
	return nil
}

// MaxSeats bounds the judges of one draw.
const MaxSeats = 64

// Dispute is what one whole dispute may cost: the winner's fees and the judges'.
// A lease's bond covers it, and so does a challenger's.
func (p Params) Dispute() uint64 { return p.DisputeCost + p.Seats*p.JudgeFee }

// maxPeriod, ten years, keeps every deadline far from overflow.
const maxPeriod = 3660 * 24 * 3600
