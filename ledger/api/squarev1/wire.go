// Package squarev1 is the vocabulary as protobuf. The functions beside the
// generated types turn them into package square's and back; reading fails on
// anything that is not exactly one noun. Addresses and hashes are bytes in state and
// in transactions, where text would take twice as many, and text in JSON.
package squarev1

import (
	"encoding/json"
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

// Address is a field that holds an address, 20 bytes or none.
type Address []byte

// FromAddress writes an address; the zero address is empty.
func FromAddress(a square.Address) Address {
	if a.IsZero() {
		return nil
	}
	return a[:]
}

// Read reads an address that must be there.
func (a Address) Read(r *Reader, field string) (out square.Address) {
	if copy(out[:], a) != len(out) || len(a) != len(out) {
		r.fail(field, fmt.Errorf("an address of %d bytes, want %d", len(a), len(out)))
	}
	return out
}

// Maybe reads an address; empty is the zero address.
func (a Address) Maybe(r *Reader, field string) square.Address {
	if len(a) == 0 {
		return square.Address{}
	}
	return a.Read(r, field)
}

// MarshalJSON writes torg1…, or "".
func (a Address) MarshalJSON() ([]byte, error) {
	var r Reader
	out := Text(a.Maybe(&r, "address"))
	if r.Err != nil {
		return nil, r.Err
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (a *Address) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	var r Reader
	*a = FromAddress(r.MaybeAddress("address", text))
	return r.Err
}

// Hash is a field that holds a hash, 32 bytes or none.
type Hash []byte

// FromHash writes a hash; the zero hash is empty.
func FromHash(h square.Hash) Hash {
	if h.IsZero() {
		return nil
	}
	return h[:]
}

// Read reads a hash that must be there.
func (h Hash) Read(r *Reader, field string) (out square.Hash) {
	if copy(out[:], h) != len(out) || len(h) != len(out) {
		r.fail(field, fmt.Errorf("a hash of %d bytes, want %d", len(h), len(out)))
	}
	return out
}

// Maybe reads a hash; empty is the zero hash.
func (h Hash) Maybe(r *Reader, field string) square.Hash {
	if len(h) == 0 {
		return square.Hash{}
	}
	return h.Read(r, field)
}

// MarshalJSON writes hex, or "".
func (h Hash) MarshalJSON() ([]byte, error) {
	var r Reader
	out := Hex(h.Maybe(&r, "hash"))
	if r.Err != nil {
		return nil, r.Err
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (h *Hash) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	var r Reader
	*h = FromHash(r.MaybeHash("hash", text))
	return r.Err
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
		Provider: FromAddress(o.Provider), Trade: o.Trade, Spec: FromHash(o.Spec), Subject: o.Subject, Denom: o.Denom,
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
		Provider: m.Provider.Read(&r, "offer: provider"), Trade: m.Trade, Spec: m.Spec.Maybe(&r, "offer: spec"),
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
		Buyer: FromAddress(o.Buyer), Authorizer: FromAddress(o.Authorizer), Trade: o.Trade, Mode: string(o.Mode), Spec: FromHash(o.Spec),
		Denom: o.Denom, Escrow: o.Escrow, MaxRates: FromRates(o.MaxRates), JobValue: o.JobValue, Policy: string(o.Policy),
		Lanes: o.Lanes, Units: o.Units, Start: o.Start, Idle: o.Idle, Duration: o.Duration, Challenge: o.Challenge,
		Drain: o.Drain, Silence: o.Silence, Failover: o.Failover, Expiry: o.Expiry, Salt: FromHash(o.Salt),
		Request: FromHash(o.Request), Card: FromHash(o.Card),
	}
}

func (m Order) Square() (square.Order, error) {
	var r Reader
	return square.Order{
		Buyer: m.Buyer.Read(&r, "order: buyer"), Authorizer: m.Authorizer.Read(&r, "order: authorizer"),
		Trade: m.Trade, Mode: square.Mode(m.Mode), Spec: m.Spec.Maybe(&r, "order: spec"), Denom: m.Denom, Escrow: m.Escrow,
		MaxRates: Rates(m.MaxRates), JobValue: m.JobValue, Policy: square.Policy(m.Policy), Lanes: m.Lanes, Units: m.Units,
		Start: m.Start, Idle: m.Idle, Duration: m.Duration, Challenge: m.Challenge, Drain: m.Drain, Failover: m.Failover,
		Silence: m.Silence, Expiry: m.Expiry, Salt: m.Salt.Maybe(&r, "order: salt"),
		Request: m.Request.Maybe(&r, "order: request"), Card: m.Card.Maybe(&r, "order: card"),
	}, r.Err
}

func FromQuote(q square.Quote) Quote {
	return Quote{
		Provider: FromAddress(q.Provider), Order: FromHash(q.Order), Offer: FromHash(q.Offer), Spec: FromHash(q.Spec), Rates: FromRates(q.Rates),
		Bond: q.Bond, Ready: q.Ready, Expiry: q.Expiry, Nonce: FromHash(q.Nonce),
	}
}

func (m Quote) Square() (square.Quote, error) {
	var r Reader
	return square.Quote{
		Provider: m.Provider.Read(&r, "quote: provider"), Order: m.Order.Read(&r, "quote: order"),
		Offer: m.Offer.Read(&r, "quote: offer"), Spec: m.Spec.Maybe(&r, "quote: spec"), Rates: Rates(m.Rates), Bond: m.Bond, Ready: m.Ready,
		Expiry: m.Expiry, Nonce: m.Nonce.Maybe(&r, "quote: nonce"),
	}, r.Err
}

func FromChannelConfig(c square.ChannelConfig) ChannelConfig {
	return ChannelConfig{
		Payer: FromAddress(c.Payer), PayerAuthorizer: FromAddress(c.PayerAuthorizer), Receiver: FromAddress(c.Receiver),
		ReceiverAuthorizer: FromAddress(c.ReceiverAuthorizer), Token: FromAddress(c.Token), WithdrawDelay: c.WithdrawDelay, Salt: FromHash(c.Salt),
	}
}

func (m ChannelConfig) Square() (square.ChannelConfig, error) {
	var r Reader
	return square.ChannelConfig{
		Payer: m.Payer.Read(&r, "config: payer"), PayerAuthorizer: m.PayerAuthorizer.Maybe(&r, "config: payer_authorizer"),
		Receiver:           m.Receiver.Read(&r, "config: receiver"),
		ReceiverAuthorizer: m.ReceiverAuthorizer.Maybe(&r, "config: receiver_authorizer"),
		Token:              m.Token.Read(&r, "config: token"), WithdrawDelay: m.WithdrawDelay, Salt: m.Salt.Maybe(&r, "config: salt"),
	}, r.Err
}

func FromReceipt(x square.Receipt) Receipt {
	return Receipt{
		Lease: FromHash(x.Lease), Lane: uint32(x.Lane), Seq: x.Seq, Subject: FromHash(x.Subject), Request: FromHash(x.Request),
		Result: FromHash(x.Result), Units: x.Units, Price: x.Price, Cumulative: x.Cumulative, Time: x.Time,
	}
}

func (x Receipt) Square() (square.Receipt, error) {
	var r Reader
	return square.Receipt{
		Lease: x.Lease.Read(&r, "receipt: lease"), Lane: r.Lane(x.Lane), Seq: x.Seq,
		Subject: x.Subject.Maybe(&r, "receipt: subject"), Request: x.Request.Maybe(&r, "receipt: request"),
		Result: x.Result.Maybe(&r, "receipt: result"), Units: x.Units, Price: x.Price, Cumulative: x.Cumulative, Time: x.Time,
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
