package square

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// TypeReceipt is what a provider signs for each piece of work.
const TypeReceipt = "Receipt(bytes32 lease,uint256 lane,uint256 seq,bytes32 subject,bytes32 request,bytes32 result,uint256[] units,uint256 price,uint256 cumulative,uint256 time)"

var hashReceipt = Keccak([]byte(TypeReceipt))

// Receipt is a provider's signed statement of one piece of work: for this
// request it gave this result, it metered these units, it charges this price.
// With the two digests opened it is evidence.
type Receipt struct {
	Lease      Hash     `json:"lease"`
	Lane       uint16   `json:"lane"`
	Seq        uint64   `json:"seq"`               // counts the lane's receipts from 1
	Subject    Hash     `json:"subject"`           // what did the work (infer: the model digest)
	Request    Hash     `json:"request"`           // digest of the canonical request, as the trade defines it
	Result     Hash     `json:"result"`            // digest of the canonical result
	Units      []uint64 `json:"units"`             // metered, in the order of the lease's rates
	Price      uint64   `json:"price,string"`      // base units charged for this work
	Cumulative uint64   `json:"cumulative,string"` // charged on this lane so far, this work included
	Time       int64    `json:"time"`              // unix milliseconds, the provider's clock; informative
}

// Digest is what the provider signs, and the receipt's id.
func (r Receipt) Digest(d Domain) Hash {
	units := make([]word, len(r.Units))
	for i, u := range r.Units {
		units[i] = wordUint(u)
	}
	return d.digest(structHash(hashReceipt, r.Lease, wordUint(uint64(r.Lane)), wordUint(r.Seq), r.Subject, r.Request, r.Result,
		wordList(units), wordUint(r.Price), wordUint(r.Cumulative), wordUint(uint64(r.Time))))
}

// Verify checks the provider's signature.
func (r Receipt) Verify(d Domain, provider Address, s Signature) error {
	if len(r.Units) > MaxRates {
		return fmt.Errorf("receipt: at most %d kinds of unit", MaxRates)
	}
	if err := verify(provider, r.Digest(d), s); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	return nil
}

// Charged checks the receipt's arithmetic against a lease's rates: a provider that
// signs a price that its own units do not give has committed provable fraud.
func (r Receipt) Charged(rates []Rate) error {
	want, err := Price(rates, r.Units)
	if err != nil {
		return fmt.Errorf("receipt units: %w", err)
	}
	if r.Price != want {
		return fmt.Errorf("receipt price: %d charged, the units cost %d", r.Price, want)
	}
	if r.Cumulative < r.Price {
		return fmt.Errorf("receipt cumulative: %d is below its own price %d", r.Cumulative, r.Price)
	}
	return nil
}

// Evidence opens a receipt: the bytes whose digests the provider signed.
type Evidence struct {
	Receipt Receipt   `json:"receipt"`
	Sig     Signature `json:"signature"`
	Request []byte    `json:"request"` // canonical request bytes, as the trade defines them
	Result  []byte    `json:"result"`  // canonical result bytes
}

// Hash commits to the evidence: SHA-256 of the receipt digest, then each part
// behind its length as a big-endian 64-bit number.
func (e Evidence) Hash(d Domain) (out Hash) {
	h := sha256.New()
	dg := e.Receipt.Digest(d)
	h.Write(dg[:])
	for _, p := range [][]byte{e.Sig[:], e.Request, e.Result} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// Verdict is what a judge found.
type Verdict string

const (
	VerdictOK    Verdict = "ok"    // the work is what the receipt says
	VerdictFraud Verdict = "fraud" // it is not
	// VerdictUnavailable says that the bytes behind the receipt's digests were not
	// to be had from the party that owed them, which loses.
	VerdictUnavailable Verdict = "unavailable"
)

// Valid reports whether v is one of the three.
func (v Verdict) Valid() bool {
	return v == VerdictOK || v == VerdictFraud || v == VerdictUnavailable
}

// Opens reports whether request and result are the bytes that the receipt names
// by their SHA-256.
func (e Evidence) Opens() bool {
	return sha256.Sum256(e.Request) == e.Receipt.Request && sha256.Sum256(e.Result) == e.Receipt.Result
}

// Ballot is the digest that a judge commits to before it votes: SHA-256 of
// "torg ballot/1", the lease, the judge, the draw as a big-endian 64-bit number,
// the verdict behind its length in one byte, and 32 secret bytes. So nobody can
// vote as another does before it has shown its own vote.
func Ballot(lease Hash, judge Address, draw uint64, v Verdict, secret Hash) (out Hash) {
	h := sha256.New()
	h.Write([]byte("torg ballot/1"))
	h.Write(lease[:])
	h.Write(judge[:])
	h.Write(binary.BigEndian.AppendUint64(nil, draw))
	h.Write([]byte{byte(len(v))})
	h.Write([]byte(v))
	h.Write(secret[:])
	h.Sum(out[:0])
	return out
}

// Commitment is what a replica's provider fixes before it shows its receipt: SHA-256 of
// "torg replica/1", the receipt's digest and the provider's signature, which nobody can
// guess who does not hold the key.
func Commitment(receipt Hash, s Signature) (out Hash) {
	h := sha256.New()
	h.Write([]byte("torg replica/1"))
	h.Write(receipt[:])
	h.Write(s[:])
	h.Sum(out[:0])
	return out
}

// Label is the randomness that a beacon gives for one purpose: SHA-256 of "torg
// beacon", the beacon and a label. Two purposes share no bits.
func Label(beacon Hash, label []byte) (out Hash) {
	h := sha256.New()
	h.Write([]byte("torg beacon"))
	h.Write(beacon[:])
	h.Write(label)
	h.Sum(out[:0])
	return out
}
