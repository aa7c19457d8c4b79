// Package squarev1 is the vocabulary as protobuf. The functions beside the
// generated types turn them into package square's and back; reading fails on
// anything that is not exactly one noun.
package squarev1

import (
	"fmt"

	"github.com/torg-network/torg/square"
)

// Reader reads the text forms of a message's fields and keeps the first error,
// so that a message is read in one expression.
type Reader struct{ Err error }

func (r *Reader) fail(field string, err error) {
	if r.Err == nil {
		r.Err = fmt.Errorf("%s: %w", field, err)
	}
}

// Address reads an address that must be there.
func (r *Reader) Address(field, s string) square.Address {
	a, err := square.ParseAddress(s)
	if err != nil {
		r.fail(field, err)
	}
	return a
}

// MaybeAddress reads an address; empty is the zero address.
func (r *Reader) MaybeAddress(field, s string) square.Address {
	if s == "" {
		return square.Address{}
	}
	return r.Address(field, s)
}

// Hash reads a hash that must be there.
func (r *Reader) Hash(field, s string) square.Hash {
	h, err := square.ParseHash(s)
	if err != nil {
		r.fail(field, err)
	}
	return h
}

// MaybeHash reads a hash; empty is the zero hash.
func (r *Reader) MaybeHash(field, s string) square.Hash {
	if s == "" {
		return square.Hash{}
	}
	return r.Hash(field, s)
}

// Signature reads the 65 bytes of a signature.
func (r *Reader) Signature(field string, b []byte) (s square.Signature) {
	if copy(s[:], b) != len(s) || len(b) != len(s) {
		r.fail(field, fmt.Errorf("%w: %d bytes, want %d", square.ErrSignature, len(b), len(s)))
	}
	return s
}

// Lane reads a lane's number.
func (r *Reader) Lane(n uint32) uint16 {
	if n >= square.MaxLanes {
		r.fail("lane", fmt.Errorf("%d: a lease has at most %d", n, square.MaxLanes))
	}
	return uint16(n)
}

// Text writes an address; the zero address is empty.
func Text(a square.Address) string {
	if a.IsZero() {
		return ""
	}
	return a.String()
}

// Hex writes a hash; the zero hash is empty.
func Hex(h square.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func FromAmount(a square.Amount) Amount { return Amount{Units: a.Units, Denom: a.Denom} }

func (m Amount) Square() (square.Amount, error) {
	if m.Units > square.MaxUnits {
		return square.Amount{}, fmt.Errorf("amount: %w: larger than any supply", square.ErrAmount)
	}
	return square.Amount{Units: m.Units, Denom: m.Denom}, nil
}

func FromRates(in []square.Rate) []Rate {
	out := make([]Rate, len(in))
	for i, r := range in {
		out[i] = Rate{Unit: r.Unit, Policy: string(r.Policy), PerMillion: r.PerMillion}
	}
	return out
}

func Rates(in []Rate) []square.Rate {
	if len(in) == 0 {
		return nil
	}
	out := make([]square.Rate, len(in))
	for i, r := range in {
		out[i] = square.Rate{Unit: r.Unit, Policy: square.Policy(r.Policy), PerMillion: r.PerMillion}
	}
	return out
}

func FromOffer(o square.Offer) Offer {
	m := Offer{
		Provider: Text(o.Provider), Trade: o.Trade, Spec: Hex(o.Spec), Subject: o.Subject, Denom: o.Denom,
		Rates: FromRates(o.Rates), Capacity: o.Capacity, Endpoint: o.Endpoint, Expiry: o.Expiry, Nonce: o.Nonce,
	}
	for _, a := range o.Attributes {
		m.Attributes = append(m.Attributes, Attribute{Key: a.Key, Value: a.Value})
	}
	return m
}

func (m Offer) Square() (square.Offer, error) {
	var r Reader
	o := square.Offer{
		Provider: r.Address("offer: provider", m.Provider), Trade: m.Trade, Spec: r.MaybeHash("offer: spec", m.Spec),
		Subject: m.Subject, Denom: m.Denom, Rates: Rates(m.Rates), Capacity: m.Capacity,
		Endpoint: m.Endpoint, Expiry: m.Expiry, Nonce: m.Nonce,
	}
	for _, a := range m.Attributes {
		o.Attributes = append(o.Attributes, square.Attribute{Key: a.Key, Value: a.Value})
	}
	return o, r.Err
}

func FromOrder(o square.Order) Order {
	return Order{
		Buyer: Text(o.Buyer), Authorizer: Text(o.Authorizer), Trade: o.Trade, Mode: string(o.Mode), Spec: Hex(o.Spec),
		Denom: o.Denom, Escrow: o.Escrow, MaxRates: FromRates(o.MaxRates), JobValue: o.JobValue, Policy: string(o.Policy),
		Lanes: o.Lanes, Units: o.Units, Start: o.Start, Idle: o.Idle, Duration: o.Duration, Challenge: o.Challenge,
		Drain: o.Drain, Silence: o.Silence, Failover: o.Failover, Expiry: o.Expiry, Salt: Hex(o.Salt),
		Request: Hex(o.Request), Card: Hex(o.Card),
	}
}

func (m Order) Square() (square.Order, error) {
	var r Reader
	return square.Order{
		Buyer: r.Address("order: buyer", m.Buyer), Authorizer: r.Address("order: authorizer", m.Authorizer),
		Trade: m.Trade, Mode: square.Mode(m.Mode), Spec: r.MaybeHash("order: spec", m.Spec), Denom: m.Denom, Escrow: m.Escrow,
		MaxRates: Rates(m.MaxRates), JobValue: m.JobValue, Policy: square.Policy(m.Policy), Lanes: m.Lanes, Units: m.Units,
		Start: m.Start, Idle: m.Idle, Duration: m.Duration, Challenge: m.Challenge, Drain: m.Drain, Failover: m.Failover,
		Silence: m.Silence, Expiry: m.Expiry, Salt: r.MaybeHash("order: salt", m.Salt),
		Request: r.MaybeHash("order: request", m.Request), Card: r.MaybeHash("order: card", m.Card),
	}, r.Err
}

func FromQuote(q square.Quote) Quote {
	return Quote{
		Provider: Text(q.Provider), Order: Hex(q.Order), Offer: Hex(q.Offer), Spec: Hex(q.Spec), Rates: FromRates(q.Rates),
		Bond: q.Bond, Ready: q.Ready, Expiry: q.Expiry, Nonce: Hex(q.Nonce),
	}
}

func (m Quote) Square() (square.Quote, error) {
	var r Reader
	return square.Quote{
		Provider: r.Address("quote: provider", m.Provider), Order: r.Hash("quote: order", m.Order),
		Offer: r.Hash("quote: offer", m.Offer), Spec: r.MaybeHash("quote: spec", m.Spec), Rates: Rates(m.Rates), Bond: m.Bond, Ready: m.Ready,
		Expiry: m.Expiry, Nonce: r.MaybeHash("quote: nonce", m.Nonce),
	}, r.Err
}

func FromChannelConfig(c square.ChannelConfig) ChannelConfig {
	return ChannelConfig{
		Payer: Text(c.Payer), PayerAuthorizer: Text(c.PayerAuthorizer), Receiver: Text(c.Receiver),
		ReceiverAuthorizer: Text(c.ReceiverAuthorizer), Token: Text(c.Token), WithdrawDelay: c.WithdrawDelay, Salt: Hex(c.Salt),
	}
}

func (m ChannelConfig) Square() (square.ChannelConfig, error) {
	var r Reader
	return square.ChannelConfig{
		Payer: r.Address("config: payer", m.Payer), PayerAuthorizer: r.MaybeAddress("config: payer_authorizer", m.PayerAuthorizer),
		Receiver:           r.Address("config: receiver", m.Receiver),
		ReceiverAuthorizer: r.MaybeAddress("config: receiver_authorizer", m.ReceiverAuthorizer),
		Token:              r.Address("config: token", m.Token), WithdrawDelay: m.WithdrawDelay, Salt: r.MaybeHash("config: salt", m.Salt),
	}, r.Err
}

func FromReceipt(x square.Receipt) Receipt {
	return Receipt{
		Lease: Hex(x.Lease), Lane: uint32(x.Lane), Seq: x.Seq, Subject: Hex(x.Subject), Request: Hex(x.Request),
		Result: Hex(x.Result), Units: x.Units, Price: x.Price, Cumulative: x.Cumulative, Time: x.Time,
	}
}

func (x Receipt) Square() (square.Receipt, error) {
	var r Reader
	return square.Receipt{
		Lease: r.Hash("receipt: lease", x.Lease), Lane: r.Lane(x.Lane), Seq: x.Seq,
		Subject: r.MaybeHash("receipt: subject", x.Subject), Request: r.MaybeHash("receipt: request", x.Request),
		Result: r.MaybeHash("receipt: result", x.Result), Units: x.Units, Price: x.Price, Cumulative: x.Cumulative, Time: x.Time,
	}, r.Err
}

func FromEvidence(e square.Evidence) Evidence {
	return Evidence{Receipt: FromReceipt(e.Receipt), Signature: e.Sig[:], Request: e.Request, Result: e.Result}
}

func (m Evidence) Square() (square.Evidence, error) {
	x, err := m.Receipt.Square()
	if err != nil {
		return square.Evidence{}, err
	}
	var r Reader
	return square.Evidence{Receipt: x, Sig: r.Signature("evidence: signature", m.Signature), Request: m.Request, Result: m.Result}, r.Err
}
