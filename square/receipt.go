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
)

// Beacon is randomness nobody could know when the work it judges was
// committed: SHA-256 of a block hash from after the commitment and a label.
func Beacon(block Hash, label []byte) (out Hash) {
	h := sha256.New()
	h.Write([]byte("torg beacon"))
	h.Write(block[:])
	h.Write(label)
	h.Sum(out[:0])
	return out
}
