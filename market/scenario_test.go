package market

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/torg-network/torg/square"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScenarios plays testdata/*.txt. A file is paragraphs: commands, a line
// "----", and what they print. A command is a verb, names and key=value pairs;
// order takes every field of an order, with defaults fit for the story. Each
// command prints its events with the money they moved, or its refusal. Times
// are seconds since the file began, on the clock of deadlines; full lets the wall go
// on alone. -update rewrites what is expected.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 13 {
		t.Fatalf("%d files in testdata: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			st := newStory()
			var out strings.Builder
			for _, par := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				in, want, _ := strings.Cut(par, "\n----")
				got := ""
				for _, line := range strings.Split(in, "\n") {
					if line, _, _ := strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
						got += st.play(strings.Fields(line))
					}
				}
				if got = strings.TrimRight(got, "\n"); got != strings.TrimSpace(want) && !*update {
					t.Errorf("%s\n---- got\n%s\n---- want\n%s", in, got, strings.TrimSpace(want))
				}
				fmt.Fprintf(&out, "%s\n----\n%s\n\n", in, got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for denom := range st.denoms {
				if st.store.Total(denom) != st.store.Balance(Minted, denom) {
					t.Errorf("I1: %d %s exist, %d were minted", st.store.Total(denom), denom, st.store.Balance(Minted, denom))
				}
			}
		})
	}
}

const storyStart = 1_000_000

var storyDomain = square.LedgerDomain("story-1")

// story is one file being played.
type story struct {
	m      Machine
	store  *Memory
	now    int64
	names  map[string]square.Hash // leases
	orders map[string]square.Order
	denoms map[string]bool
	serial byte
}

// storyParams are the defaults with notices and disputes fit for a story.
func storyParams() Params {
	p := Default()
	p.Notice, p.DisputeCost, p.JudgeFee, p.Seats, p.SeatBond = 20, 10, 2, 3, 50
	return p
}

func newStory() *story {
	return &story{m: Machine{Params: storyParams()}, store: NewMemory(), now: storyStart, names: map[string]square.Hash{}, orders: map[string]square.Order{}, denoms: map[string]bool{}}
}

// wall is the wall's time.
func (s *story) wall() int64 { return s.now + s.m.Lag }

// person is an address that spells its name.
func person(name string) (a square.Address) {
	if name != "ledger" { // which is the zero address
		copy(a[:], name)
	}
	return a
}

func (s *story) who(a square.Address) string {
	if a.IsZero() {
		return "ledger"
	}
	return strings.TrimRight(string(a[:]), "\x00")
}

func (s *story) lease(id square.Hash) string {
	for name, h := range s.names {
		if h == id {
			return name
		}
	}
	return id.Short()
}

func (s *story) pot(p Pot) string {
	switch p.Kind {
	case PotAccount:
		return s.who(p.Owner)
	case PotStake:
		return s.who(p.Owner) + "'s stake"
	case PotEscrow, PotChallenge:
		return string(p.Kind) + " of " + s.lease(p.Lease)
	}
	return string(p.Kind)
}

// args are a command's key=value pairs.
type args map[string]string

func (a args) num(key string, or uint64) uint64 {
	v, ok := a[key]
	if !ok {
		return or
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		panic(key + ": " + err.Error())
	}
	return n
}

func (a args) str(key, or string) string {
	if v, ok := a[key]; ok {
		return v
	}
	return or
}

func (s *story) play(words []string) string {
	a := args{}
	var names []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			a[k] = v
		} else {
			names = append(names, w)
		}
	}
	name := func(i int) string {
		if i < len(names) {
			return names[i]
		}
		return ""
	}
	verb, by, id := words[0], person(name(1)), s.names[name(0)]
	amount := square.Amount{Units: a.num("units", 0), Denom: a.str("denom", square.Denom)}
	s.denoms[amount.Denom] = true
	var events []Event
	err := s.store.Atomically(func() (err error) {
		switch verb {
		case "params":
			p := &s.m.Params
			for key, n := range map[string]*uint64{
				"emission": &p.EmissionBps, "holdback": &p.HoldbackTimes, "notice": &p.Notice, "dispute_cost": &p.DisputeCost,
				"judge_fee": &p.JudgeFee, "seats": &p.Seats, "seat_bond": &p.SeatBond, "redraws": &p.Redraws, "hearings": &p.Hearings,
			} {
				*n = a.num(key, *n)
			}
			return p.Check()
		case "wait":
			n, err := strconv.ParseInt(name(0), 10, 64)
			s.now += n
			return err
		case "full": // blocks have no room
			n, err := strconv.ParseInt(name(0), 10, 64)
			s.m.Lag += n
			return err
		case "fits": // the trade says that any offer fits any order
			s.m.Fits = func(square.Offer, square.Order) error { return nil }
		case "fund":
			return s.store.Fund(person(name(0)), amount)
		case "bond":
			events, err = s.m.Bond(s.store, s.now, person(name(0)), "infer", amount)
		case "unbond":
			events, err = s.m.Unbond(s.store, s.now, person(name(0)), "infer", amount)
		case "unbonded":
			events, err = s.m.FinishUnbond(s.store, s.now, StakeKey{person(name(0)), "infer", amount.Denom})
		case "offer":
			s.serial++
			o := square.Offer{
				Provider: person(name(0)), Trade: "infer", Spec: a.spec(), Denom: amount.Denom,
				Rates: s.rates(a.num("rate", 10)), Capacity: a.num("capacity", 4),
				Expiry: s.wall() + int64(a.num("ttl", 10_000_000)), Nonce: a.num("nonce", uint64(s.serial)),
			}
			events, err = s.m.PostOffer(s.store, s.now, o.ID(storyDomain), o)
		case "withdraw":
			events, err = s.m.WithdrawOffer(s.store, s.now, by, OfferKey{person(name(0)), "infer", a.spec()})
		case "drop":
			events, err = s.m.DropOffer(s.store, s.now, OfferKey{person(name(0)), "infer", a.spec()})
		case "enlist":
			events, err = s.m.Enlist(s.store, s.now, StakeKey{person(name(0)), "infer", amount.Denom}, name(1) != "off")
		case "order":
			events, err = s.order(name(0), name(1), a, amount.Denom, slices.Contains(names, "ready"))
		case "match":
			q := s.quote(id, by, a, slices.Contains(names, "ready"))
			events, err = s.m.Match(s.store, s.now, q, q.Digest(storyDomain))
		case "start":
			events, err = s.m.Start(s.store, s.now, by, id)
		case "cancel":
			events, err = s.m.Cancel(s.store, s.now, by, id)
		case "abandon":
			events, err = s.m.Abandon(s.store, s.now, by, id)
		case "accept":
			events, err = s.m.Accept(s.store, s.now, by, id)
		case "redeem":
			events, err = s.m.Redeem(s.store, s.now, by, id, a.claims(), slices.Contains(names, "final"))
		case "close":
			var consent *uint64
			if _, ok := a["consent"]; ok {
				n := a.num("consent", 0)
				consent = &n
			}
			events, err = s.m.Close(s.store, s.now, by, id, consent)
		case "reclaim":
			events, err = s.m.Reclaim(s.store, s.now, by, id, a.num("notice", 30))
		case "topup":
			events, err = s.m.TopUp(s.store, s.now, by, id, a.num("units", 0))
		case "extend":
			events, err = s.m.Extend(s.store, s.now, by, id, storyStart+int64(a.num("ends", 0)))
		case "claim":
			events, err = s.m.Claim(s.store, s.now, by, id, s.receipt(id, a))
		case "withheld":
			events, err = s.m.Withhold(s.store, s.now, by, id, a.num("bond", 16))
		case "answer":
			events, err = s.m.Answer(s.store, s.now, by, id, a.hash("with", 1), a.num("cost", 0))
		case "challenge":
			c := Charge{
				Way: Way(a.str("way", string(ByJudges))), Evidence: a.hash("evidence", 1), Value: a.num("value", 100),
				Owes: person(a.str("owes", "ledger")), Cost: a.num("cost", 0),
			}
			if _, ok := a["part"]; ok {
				c.Way, c.Part = ByProof, a.num("part", 0)
			}
			events, err = s.m.Challenge(s.store, s.now, by, id, c, a.num("bond", 16))
		case "seat":
			var judges []square.Address
			for _, n := range names[1:] {
				judges = append(judges, person(n))
			}
			events, err = s.m.Seat(s.store, s.now, id, judges)
		case "invite":
			events, err = s.m.Invite(s.store, s.now, id, by)
		case "pledge": // commit to a receipt
			events, err = s.m.Commit(s.store, s.now, by, id, s.commitment(s.receipt(id, a)))
		case "reveal":
			r := s.receipt(id, a)
			events, err = s.m.Show(s.store, s.now, by, id, r, s.commitment(r))
		case "commit":
			draw := a.num("draw", s.draw(id))
			ballot := square.Ballot(id, by, draw, square.Verdict(name(2)), a.hash("secret", 1))
			if name(2) == "nothing" {
				ballot = square.Hash{}
			}
			events, err = s.m.Commit(s.store, s.now, by, id, ballot)
		case "vote":
			events, err = s.m.Vote(s.store, s.now, by, id, square.Verdict(name(2)), a.hash("secret", 1))
		case "prove":
			events, err = s.m.Prove(s.store, s.now, by, id)
		case "judge":
			events, err = s.m.Judge(s.store, s.now, id, square.Verdict(name(1)))
		case "poke":
			events, err = s.m.Poke(s.store, s.now, by, id)
		case "prune":
			events, err = s.m.Prune(s.store, s.now, id)
		case "project":
			p, err := s.m.Project(s.store, s.now, id, a.claims()...)
			if err != nil {
				return err
			}
			events = []Event{{Kind: "projected", Lease: id, To: p.State, Reason: p.Reason, Deadline: p.At, Moves: p.Moves}}
		case "show":
			for _, n := range names {
				fmt.Fprintln(&showing{&events}, s.show(n, amount.Denom))
			}
		default:
			panic("no verb " + verb)
		}
		return err
	})
	if err != nil {
		return fmt.Sprintf("refused: %v\n", s.tidy(err))
	}
	out := ""
	for _, e := range events {
		if e.Kind == EvEnded && !e.Ref.IsZero() {
			s.names[s.lease(e.Lease)+"'"] = e.Ref
		}
		if e.Kind == EvOpened && !e.Ref.IsZero() {
			l, _ := s.store.Lease(e.Lease)
			s.names[fmt.Sprintf("%s/%d", s.lease(e.Ref), l.Nth)] = e.Lease
		}
		out += s.event(e)
	}
	return out
}

// showing lets show print by way of events.
type showing struct{ events *[]Event }

func (w *showing) Write(p []byte) (int, error) {
	*w.events = append(*w.events, Event{Kind: Kind(p)})
	return len(p), nil
}

func (s *story) rates(n uint64) []square.Rate { return []square.Rate{{Unit: "token", PerMillion: n}} }

// spec is what is offered or ordered.
func (a args) spec() square.Hash { return a.hash("spec", 1) }

// hash is a digest that starts with a number.
func (a args) hash(key string, or uint64) square.Hash { return square.Hash{byte(a.num(key, or))} }

// draw is which draw of judges sits in a lease.
func (s *story) draw(id square.Hash) uint64 {
	if l, err := s.store.Lease(id); err == nil && l.Dispute != nil {
		return l.Dispute.Draw
	}
	return 0
}

// receipt is one that the provider of a result lease signs: priced as its units are,
// unless the story says otherwise.
func (s *story) receipt(id square.Hash, a args) square.Receipt {
	l, _ := s.store.Lease(id)
	r := square.Receipt{
		Lease: s.named(a.str("of", ""), id), Lane: uint16(a.num("lane", 0)), Seq: a.num("seq", 1),
		Request: a.hash("request", 1), Result: a.hash("result", 1), Price: a.num("price", 0),
	}
	r.Cumulative = a.num("cumulative", r.Price)
	for _, rate := range l.Rates {
		n := a.num("tokens", r.Price*1_000_000/max(1, rate.PerMillion))
		r.Units = append(r.Units, n)
	}
	return r
}

// commitment is to a receipt that nobody signs here.
func (s *story) commitment(r square.Receipt) square.Hash {
	return square.Commitment(r.Digest(storyDomain), square.Signature{})
}

func (s *story) named(name string, or square.Hash) square.Hash {
	if id, ok := s.names[name]; ok {
		return id
	}
	return or
}

func (a args) claims() (cs []Claim) {
	for lane := range 300 {
		if _, ok := a[strconv.Itoa(lane)]; ok {
			cs = append(cs, Claim{uint16(lane), a.num(strconv.Itoa(lane), 0)})
		}
	}
	return cs
}

func (s *story) order(name, buyer string, a args, denom string, ready bool) ([]Event, error) {
	o := square.Order{
		Buyer: person(buyer), Authorizer: person(a.str("authorizer", buyer)), Trade: "infer", Mode: square.Mode(a.str("mode", "stream")),
		Spec: a.spec(), Denom: denom, Escrow: a.num("escrow", 10_000), MaxRates: s.rates(a.num("max", 10)),
		JobValue: a.num("job", 100), Policy: square.Policy(a.str("policy", "audit")), Lanes: a.num("lanes", 2), Units: a.num("units", 1),
		Start: a.num("start", 20), Idle: a.num("idle", 60), Duration: a.num("duration", 600), Challenge: a.num("challenge", 60),
		Drain: a.num("drain", 30), Silence: a.num("silence", 0), Failover: a.num("failover", 0), Expiry: s.wall() + int64(a.num("ttl", 100)), Salt: square.Hash{9: 1},
	}
	copy(o.Salt[:], name)
	o.Request = a.hash("request", 0)
	if _, ok := a["job"]; !ok && o.Mode == square.ModeResult {
		o.JobValue = 400
	}
	if o.Mode == square.ModeResult {
		o.Lanes, o.Request = 0, a.hash("request", 1)
	}
	if o.Policy == square.PolicyProve {
		o.Card = square.Hash{3}
	}
	id := o.ID(storyDomain)
	if like, ok := a["like"]; ok { // the same order once more
		o, id = s.orders[like], s.names[like]
	} else {
		s.names[name], s.orders[name] = id, o
	}
	if p, ok := a["provider"]; ok {
		q := s.quote(id, person(p), a, ready)
		return s.m.OpenMatched(s.store, s.now, id, o, q, q.Digest(storyDomain))
	}
	return s.m.Open(s.store, s.now, id, o)
}

func (s *story) quote(id square.Hash, p square.Address, a args, ready bool) square.Quote {
	spec := a.hash("of", a.num("spec", 1))
	o, _ := s.store.Offer(OfferKey{p, "infer", spec})
	if a["offer"] == "old" {
		o.ID[0]++
	}
	return square.Quote{
		Provider: p, Order: id, Offer: o.ID, Spec: spec, Rates: s.rates(a.num("rate", 10)), Bond: a.num("bond", 2000),
		Ready: ready, Expiry: s.wall() + int64(a.num("quote_ttl", 30)),
	}
}

func (s *story) event(e Event) string {
	if strings.HasSuffix(string(e.Kind), "\n") {
		return string(e.Kind)
	}
	out := string(e.Kind)
	if !e.Lease.IsZero() {
		out += " " + s.lease(e.Lease)
	}
	if e.To != "" {
		out += fmt.Sprintf(": %s", e.To)
	}
	if e.Reason != "" {
		out += fmt.Sprintf(" (%s)", e.Reason)
	}
	if e.Deadline != 0 {
		out += fmt.Sprintf(" until %d", e.Deadline-storyStart)
	}
	out += "\n"
	for _, m := range e.Moves {
		out += fmt.Sprintf("  %s -> %s %d\n", s.pot(m.From), s.pot(m.To), m.Amount.Units)
	}
	return out
}

func (s *story) show(name, denom string) string {
	if id, ok := s.names[name]; ok {
		l, err := s.store.Lease(id)
		if err != nil {
			return fmt.Sprintf("%s: %v", name, err)
		}
		out := fmt.Sprintf("%s: %s %s escrow=%d bond=%d paid=%d lanes=%v until %d, order: escrow=%d job=%d duration=%d failover=%d",
			name, l.State, l.Reason, l.Escrow, l.Bond, l.Paid, l.Lanes, l.Deadline-storyStart, l.Order.Escrow, l.Order.JobValue, l.Order.Duration, l.Order.Failover)
		if l.Added > 0 {
			out += fmt.Sprintf(", added %d", l.Added)
		}
		if d := l.Dispute; d != nil {
			out += fmt.Sprintf(", %s: bond=%d cost=%d", d.Way, d.Bond, d.Cost)
			for _, seat := range d.Seats {
				out += fmt.Sprintf(" %s=%s", s.who(seat.Judge), seat.Verdict)
			}
		}
		if len(l.Replicas) > 0 {
			out += ", replicas:"
			for _, id := range l.Replicas {
				out += " " + s.lease(id)
			}
		}
		return out
	}
	switch name {
	case "treasury", "burned", "minted":
		return fmt.Sprintf("%s: %d", name, s.store.Balance(Pot{Kind: PotKind(name)}, denom))
	}
	st, _ := s.store.Stake(StakeKey{person(name), "infer", denom})
	out := fmt.Sprintf("%s: %d", name, s.store.Balance(Account(person(name)), denom))
	if st != (Stake{}) {
		out += fmt.Sprintf(", stake %d, locked %d, unbonding %d", st.Total, st.Locked, st.Unbonding)
		if st.Jobs > 0 {
			out += fmt.Sprintf(", jobs %d", st.Jobs)
		}
		if st.Judge {
			out += ", judge"
		}
	}
	if o, err := s.store.Offer(OfferKey{person(name), "infer", square.Hash{1}}); err == nil {
		out += fmt.Sprintf(", %d of %d in use", o.InUse, o.Capacity)
	}
	return out
}

// tidy writes an error with the story's names.
func (s *story) tidy(err error) string {
	msg := err.Error()
	for name, id := range s.names {
		msg = strings.ReplaceAll(msg, id.Short(), name)
	}
	for _, who := range []string{"ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ivy", "jon", "ledger"} {
		msg = strings.ReplaceAll(msg, person(who).String(), who)
	}
	for _, o := range s.store.Offers() {
		msg = strings.ReplaceAll(msg, o.ID.Short(), "offer#"+strconv.FormatUint(o.Nonce, 10))
		id := o.ID
		id[0]++
		msg = strings.ReplaceAll(msg, id.Short(), "offer#old")
	}
	words := strings.Fields(msg)
	for i, w := range words { // times
		trim := strings.TrimRight(w, ";,")
		if n, err := strconv.ParseInt(trim, 10, 64); err == nil && n >= storyStart && n < 100*storyStart {
			words[i] = strconv.FormatInt(n-storyStart, 10) + w[len(trim):]
		}
	}
	var kinds []string
	for kind, e := range map[string]error{"not found": ErrNotFound, "state": ErrState, "late": ErrLate, "early": ErrEarly, "party": ErrParty, "used": ErrUsed, "funds": ErrFunds} {
		if errors.Is(err, e) {
			kinds = append(kinds, kind)
		}
	}
	return strings.Join(words, " ") + fmt.Sprintf(" %v", kinds)
}
