package square

import (
	"errors"
	"fmt"
)

// Bounds of what one signed noun may carry. The ledger refuses more.
const (
	MaxRates      = 8
	MaxAttributes = 32
	MaxText       = 256 // bytes of any one string
)

// Policy says how work is verified.
type Policy string

const (
	PolicyNone      Policy = "none"
	PolicyAudit     Policy = "audit"     // re-executed with the probability of the audit law
	PolicyReplicate Policy = "replicate" // every job runs twice; the two must agree
	PolicyProve     Policy = "prove"     // a zero-knowledge proof with each result
	PolicyAttest    Policy = "attest"    // hardware attestation
)

// Valid reports whether p is one of the five.
func (p Policy) Valid() bool {
	switch p {
	case PolicyNone, PolicyAudit, PolicyReplicate, PolicyProve, PolicyAttest:
		return true
	}
	return false
}

// Mode says what a lease pays for: work as it streams, or one result.
type Mode string

const (
	ModeStream Mode = "stream"
	ModeResult Mode = "result"
)

// Attribute is one property of an offer, "gpu.model" = "rtx4090".
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

const (
	typeRate      = "Rate(string unit,string policy,uint256 perMillion)"
	typeAttribute = "Attribute(string key,string value)"
	// TypeOffer, TypeOrder and TypeQuote are what providers and buyers sign.
	TypeOffer = "Offer(address provider,string trade,bytes32 spec,string subject,string denom,Rate[] rates,uint256 capacity,Attribute[] attributes,string endpoint,uint256 expiry,uint256 nonce)" + typeAttribute + typeRate
	TypeOrder = "Order(address buyer,address authorizer,string trade,string mode,bytes32 spec,bytes32 request,bytes32 card,string denom,uint256 escrow,Rate[] maxRates,uint256 jobValue,string policy,uint256 lanes,uint256 units,uint256 start,uint256 idle,uint256 duration,uint256 challenge,uint256 drain,uint256 silence,uint256 failover,uint256 expiry,bytes32 salt)" + typeRate
	TypeQuote = "Quote(address provider,bytes32 order,bytes32 offer,bytes32 spec,Rate[] rates,uint256 bond,bool ready,uint256 expiry,bytes32 nonce)" + typeRate
	// TypeCloseConsent is a provider's agreement that a lease ends with this
	// much paid in all.
	TypeCloseConsent = "CloseConsent(bytes32 lease,uint256 paid)"
	// TypeExtension is a provider's agreement that a stream may run until a later
	// time.
	TypeExtension = "Extension(bytes32 lease,uint256 ends)"
)

var (
	hashRate         = Keccak([]byte(typeRate))
	hashAttribute    = Keccak([]byte(typeAttribute))
	hashOffer        = Keccak([]byte(TypeOffer))
	hashOrder        = Keccak([]byte(TypeOrder))
	hashQuote        = Keccak([]byte(TypeQuote))
	hashCloseConsent = Keccak([]byte(TypeCloseConsent))
	hashExtension    = Keccak([]byte(TypeExtension))
)

func wordRates(rates []Rate) word {
	ws := make([]word, len(rates))
	for i, r := range rates {
		ws[i] = word(structHash(hashRate, wordString(r.Unit), wordString(string(r.Policy)), wordUint(r.PerMillion)))
	}
	return wordList(ws)
}

// Offer is a provider's ask: what it sells, at what rates, how much at once.
type Offer struct {
	Provider   Address     `json:"provider"`
	Trade      string      `json:"trade"`
	Spec       Hash        `json:"spec"`    // what exactly is offered, as the trade defines it (infer: the model digest, or a hash of its name)
	Subject    string      `json:"subject"` // its name for people (infer: the model's name)
	Denom      string      `json:"denom"`
	Rates      []Rate      `json:"rates"`
	Capacity   uint64      `json:"capacity"` // units that may be leased at once (infer: parallel lanes)
	Attributes []Attribute `json:"attributes,omitempty"`
	Endpoint   string      `json:"endpoint"`
	Expiry     int64       `json:"expiry"` // unix seconds
	Nonce      uint64      `json:"nonce"`  // the newest offer for a (provider, trade, spec) wins
}

// ID is the offer's digest and its name on the ledger.
func (o Offer) ID(d Domain) Hash {
	attrs := make([]word, len(o.Attributes))
	for i, a := range o.Attributes {
		attrs[i] = word(structHash(hashAttribute, wordString(a.Key), wordString(a.Value)))
	}
	return d.digest(structHash(hashOffer, wordAddress(o.Provider), wordString(o.Trade), o.Spec, wordString(o.Subject),
		wordString(o.Denom), wordRates(o.Rates), wordUint(o.Capacity), wordList(attrs),
		wordString(o.Endpoint), wordUint(uint64(o.Expiry)), wordUint(o.Nonce)))
}

// Attribute is the first thing the offer says under a key; empty if nothing. Its provider
// said it and nobody checked it.
func (o Offer) Attribute(key string) string {
	for _, a := range o.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// Check refuses an offer that no ledger would store.
func (o Offer) Check() error {
	switch {
	case o.Provider.IsZero():
		return errors.New("offer: provider is missing")
	case o.Trade == "" || len(o.Trade) > 32:
		return errors.New("offer: trade must be 1 to 32 bytes")
	case o.Denom == "" || len(o.Denom) > 64:
		return errors.New("offer: denom must be 1 to 64 bytes")
	case len(o.Subject) > MaxText || len(o.Endpoint) > MaxText:
		return fmt.Errorf("offer: subject and endpoint are at most %d bytes", MaxText)
	case o.Capacity == 0:
		return errors.New("offer: capacity is 0, so nothing could be leased")
	case len(o.Attributes) > MaxAttributes:
		return fmt.Errorf("offer: at most %d attributes", MaxAttributes)
	case o.Expiry <= 0:
		return errors.New("offer: expiry is missing")
	}
	for _, a := range o.Attributes {
		if a.Key == "" || len(a.Key) > MaxText || len(a.Value) > MaxText {
			return fmt.Errorf("offer: attribute %q: key and value are 1 to %d bytes", Clip(a.Key, 80), MaxText)
		}
	}
	return checkRates("offer: rates", o.Rates, true)
}

// checkRates refuses rates that are not well formed; only an offer has policies.
func checkRates(field string, rates []Rate, policies bool) error {
	if len(rates) == 0 || len(rates) > MaxRates {
		return fmt.Errorf("%s: want 1 to %d", field, MaxRates)
	}
	for _, r := range rates {
		if r.Unit == "" || len(r.Unit) > 32 {
			return fmt.Errorf("%s: unit must be 1 to 32 bytes", field)
		}
		if r.Policy != "" && !(policies && r.Policy.Valid()) {
			return fmt.Errorf("%s: %s: policy %q: only an offer has rates by policy, and want none, audit, replicate, prove or attest", field, r.Unit, Clip(string(r.Policy), 80))
		}
		if r.PerMillion > MaxUnits {
			return fmt.Errorf("%s: %s: out of range", field, r.Unit)
		}
	}
	return nil
}

// Order is what a buyer wants. Its digest is the id of the lease it becomes.
// All durations are whole seconds.
type Order struct {
	Buyer      Address `json:"buyer"`
	Authorizer Address `json:"authorizer"` // signs vouchers; may be a spending key of the buyer's
	Trade      string  `json:"trade"`
	Mode       Mode    `json:"mode"`
	Spec       Hash    `json:"spec"`
	Request    Hash    `json:"request"` // result: SHA-256 of the job's canonical bytes, as the trade defines them; stream: zero
	Card       Hash    `json:"card"`    // SHA-256 of the card that proofs of the work are checked against; zero: none
	Denom      string  `json:"denom"`
	Escrow     uint64  `json:"escrow,string"`
	MaxRates   []Rate  `json:"max_rates"`
	JobValue   uint64  `json:"job_value,string"` // the most one job inside the lease may cost; what audits and bonds are sized by
	Policy     Policy  `json:"policy"`
	Lanes      uint64  `json:"lanes"`     // stream: parallel payment lanes, 1..MaxLanes
	Units      uint64  `json:"units"`     // of the offer's capacity that the lease takes
	Start      uint64  `json:"start"`     // T_start: the provider must acknowledge within it
	Idle       uint64  `json:"idle"`      // T_idle: silence that ends a stream
	Duration   uint64  `json:"duration"`  // the lease ends by itself after it; result: the job's deadline
	Challenge  uint64  `json:"challenge"` // T_challenge after a claim
	Drain      uint64  `json:"drain"`     // notice before a one-sided end takes effect
	Silence    uint64  `json:"silence"`   // basis points of the bond that a stream costs its provider if it falls idle
	Failover   uint64  `json:"failover"`  // child orders that may follow when the provider fails, 0..8
	Expiry     int64   `json:"expiry"`    // unix seconds: an order not matched by then is cancelled
	Salt       Hash    `json:"salt"`
}

// ID is the order's digest; the lease that fills the order has the same id.
func (o Order) ID(d Domain) Hash {
	return d.digest(structHash(hashOrder, wordAddress(o.Buyer), wordAddress(o.Authorizer), wordString(o.Trade),
		wordString(string(o.Mode)), o.Spec, o.Request, o.Card, wordString(o.Denom), wordUint(o.Escrow), wordRates(o.MaxRates),
		wordUint(o.JobValue), wordString(string(o.Policy)), wordUint(o.Lanes), wordUint(o.Units), wordUint(o.Start), wordUint(o.Idle),
		wordUint(o.Duration), wordUint(o.Challenge), wordUint(o.Drain), wordUint(o.Silence), wordUint(o.Failover),
		wordUint(uint64(o.Expiry)), o.Salt))
}

// Check refuses an order that could not be leased, naming the field.
func (o Order) Check() error {
	const day = 24 * 3600
	switch {
	case o.Buyer.IsZero():
		return errors.New("order: buyer is missing")
	case o.Authorizer.IsZero():
		return errors.New("order: authorizer is missing; use the buyer itself if it signs its own vouchers")
	case o.Trade == "" || len(o.Trade) > 32:
		return errors.New("order: trade must be 1 to 32 bytes")
	case o.Mode != ModeStream && o.Mode != ModeResult:
		return fmt.Errorf("order: mode %q: want stream or result", Clip(string(o.Mode), 80))
	case o.Denom == "" || len(o.Denom) > 64:
		return errors.New("order: denom must be 1 to 64 bytes")
	case o.Escrow == 0 || o.Escrow > MaxUnits:
		return errors.New("order: escrow must be positive")
	case o.JobValue == 0 || o.JobValue > o.Escrow:
		return errors.New("order: job_value must be between 1 and the escrow")
	case !o.Policy.Valid():
		return fmt.Errorf("order: policy %q: want none, audit, replicate, prove or attest", Clip(string(o.Policy), 80))
	case o.Mode == ModeStream && (o.Lanes == 0 || o.Lanes > MaxLanes):
		return fmt.Errorf("order: lanes must be 1 to %d", MaxLanes)
	case o.Mode == ModeResult && o.Lanes != 0:
		return errors.New("order: a result lease has no lanes")
	case o.Mode == ModeStream && !o.Request.IsZero():
		return errors.New("order: request: a stream takes its requests one by one; leave it out")
	case o.Mode == ModeResult && o.Request.IsZero():
		return errors.New("order: request is missing: a result is for one job, which the order names by digest")
	case o.Policy == PolicyAttest:
		return errors.New("order: policy attest does not exist yet; use audit, replicate or prove")
	case o.Policy == PolicyProve && o.Card.IsZero():
		return errors.New("order: card is missing: policy prove needs the card that proofs are checked against")
	case o.Mode == ModeResult && o.Policy == PolicyReplicate && o.JobValue > o.Escrow/ReplicasMore:
		return fmt.Errorf("order: escrow must be at least %d times job_value: up to %d replicas are paid", ReplicasMore, ReplicasMore)
	case o.Mode == ModeResult && o.Silence != 0, o.Silence > 10_000:
		return errors.New("order: silence is 0 to 10000 basis points of a stream's bond; a late result has its own price")
	case o.Units == 0:
		return errors.New("order: units must be positive")
	case o.Start == 0 || o.Start > day:
		return errors.New("order: start must be 1 second to 1 day")
	case o.Mode == ModeStream && (o.Idle == 0 || o.Idle > 30*day):
		return errors.New("order: idle must be 1 second to 30 days")
	case o.Duration == 0 || o.Duration > MaxDuration:
		return errors.New("order: duration must be 1 second to 366 days")
	case o.Challenge == 0 || o.Challenge > 30*day:
		return errors.New("order: challenge must be 1 second to 30 days")
	case o.Drain == 0 || o.Drain > 30*day:
		return errors.New("order: drain must be 1 second to 30 days")
	case o.Failover > 8:
		return errors.New("order: failover is at most 8")
	case o.Expiry <= 0:
		return errors.New("order: expiry is missing")
	}
	return checkRates("order: max_rates", o.MaxRates, false)
}

// MaxDuration is the longest that a lease may run from now on, in seconds.
const MaxDuration = 366 * 24 * 3600

// Replicas run a replicated job at first; ReplicasMore, those included, if they
// differ, of which ReplicasMost must agree.
const (
	Replicas     = 2
	ReplicasMore = 5
	ReplicasMost = 4
)

// QuoteTTL is the longest a quote may live, in seconds.
const QuoteTTL = 30

// Quote is an offer bound to one order, usable once.
type Quote struct {
	Provider Address `json:"provider"`
	Order    Hash    `json:"order"`
	Offer    Hash    `json:"offer"`
	Spec     Hash    `json:"spec"` // of the offer: the slot it is in. The trade says whether it fits the order's
	Rates    []Rate  `json:"rates"`
	Bond     uint64  `json:"bond,string"` // locked out of the provider's stake while the lease is open
	Ready    bool    `json:"ready"`       // the provider's acknowledgement is included: the lease starts at once
	Expiry   int64   `json:"expiry"`      // unix seconds, at most QuoteTTL ahead
	Nonce    Hash    `json:"nonce"`
}

// Digest is what the provider signs.
func (q Quote) Digest(d Domain) Hash {
	return d.digest(structHash(hashQuote, wordAddress(q.Provider), q.Order, q.Offer, q.Spec, wordRates(q.Rates),
		wordUint(q.Bond), wordBool(q.Ready), wordUint(uint64(q.Expiry)), q.Nonce))
}

// Verify checks the provider's signature.
func (q Quote) Verify(d Domain, s Signature) error {
	if err := checkRates("quote: rates", q.Rates, false); err != nil {
		return err
	}
	if err := verify(q.Provider, q.Digest(d), s); err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	return nil
}

// Within reports whether every rate is at most the buyer's limit for the same
// unit, in the same order.
func Within(rates, limits []Rate) error {
	if len(rates) != len(limits) {
		return fmt.Errorf("rates: the quote prices %d units, the order %d", len(rates), len(limits))
	}
	for i, r := range rates {
		if r.Unit != limits[i].Unit {
			return fmt.Errorf("rates: the quote prices %q where the order limits %q", r.Unit, limits[i].Unit)
		}
		if r.PerMillion > limits[i].PerMillion {
			return fmt.Errorf("rates: %s at %d per million is above the order's limit %d", r.Unit, r.PerMillion, limits[i].PerMillion)
		}
	}
	return nil
}

// Channel is the payment channel of one lane of the lease that fills o.
func (o Order) Channel(d Domain, receiver Address, lane uint16) ChannelConfig {
	return ChannelConfig{
		Payer: o.Buyer, PayerAuthorizer: o.Authorizer,
		Receiver: receiver, ReceiverAuthorizer: receiver,
		Token: TokenAddress(o.Denom), WithdrawDelay: o.Drain,
		Salt: LaneSalt(o.ID(d), lane),
	}
}

// CloseDigest is what a provider signs to agree that the lease ends with paid
// in all.
func CloseDigest(d Domain, lease Hash, paid uint64) Hash {
	return d.digest(structHash(hashCloseConsent, lease, wordUint(paid)))
}

// VerifyClose checks a provider's agreement to a final sum.
func VerifyClose(d Domain, provider Address, lease Hash, paid uint64, s Signature) error {
	if err := verify(provider, CloseDigest(d, lease, paid), s); err != nil {
		return fmt.Errorf("close consent for lease %s: %w", lease.Short(), err)
	}
	return nil
}

// ExtensionDigest is what a provider signs to agree that a stream may run until
// ends, by the clock of the ledger's deadlines.
func ExtensionDigest(d Domain, lease Hash, ends int64) Hash {
	return d.digest(structHash(hashExtension, lease, wordUint(uint64(ends))))
}

// VerifyExtension checks a provider's agreement to a later end.
func VerifyExtension(d Domain, provider Address, lease Hash, ends int64, s Signature) error {
	if ends < 0 {
		return errors.New("extension: ends is negative")
	}
	if err := verify(provider, ExtensionDigest(d, lease, ends), s); err != nil {
		return fmt.Errorf("extension of lease %s: %w", lease.Short(), err)
	}
	return nil
}
