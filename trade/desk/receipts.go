package desk

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/wire"
)

// Audit is what is known of an answer's truth.
type Audit string

const (
	AuditNone       Audit = ""           // not looked at
	AuditEqual      Audit = "equal"      // re-executed: the same
	AuditDifferent  Audit = "different"  // re-executed: not the same, and no challenge was possible
	AuditChallenged Audit = "challenged" // not the same; the ledger was told
	AuditSlashed    Audit = "slashed"    // and the provider's bond is gone
	AuditUpheld     Audit = "upheld"     // the judge found against us
	AuditProven     Audit = "proven"     // a proof of it was checked
	AuditUnproven   Audit = "unproven"   // its proof is due, or did not hold, or never came
)

// Record is a receipt with all that an audit needs.
type Record struct {
	ID       square.Hash     `json:"id"`
	Time     time.Time       `json:"time"` // this machine's
	Provider square.Address  `json:"provider"`
	Trade    string          `json:"trade"`
	Slot     square.Hash     `json:"slot"`              // the offer's spec
	Subject  string          `json:"subject"`           // the offer's
	Account  string          `json:"account,omitempty"` // whom the work was for, as Want had it
	Denom    string          `json:"denom"`
	Units    []Metered       `json:"units"`   // as the receipt meters them, by name
	Latency  time.Duration   `json:"latency"` // until the first piece of the answer came
	Audit    Audit           `json:"audit"`
	Note     string          `json:"note,omitempty"` // of the audit
	Part     uint64          `json:"part,omitempty"` // unproven: where a proof is asked for on the ledger
	Evidence square.Evidence `json:"evidence"`
}

// Metered is how much of a unit a receipt meters.
type Metered = trade.Metered

// Metered is how much of a unit was metered; 0 of one that was not.
func (r Record) Metered(unit string) uint64 {
	for _, m := range r.Units {
		if m.Unit == unit {
			return m.Count
		}
	}
	return 0
}

// ErrNoReceipt says that a receipt was never had, or is no longer kept.
var ErrNoReceipt = errors.New("no such receipt; the desk keeps them for a bounded time")

// commit moves a lane on by a verified receipt and stores the receipt. In
// memory the lane moves on even when the disk fails: the provider has been
// promised the money.
func (d *Desk) commit(h held, s *seat, request []byte, signed wire.Signed, latency time.Duration) (Record, error) {
	d.spending.Lock() // totals reach the disk in the order in which they are made
	defer d.spending.Unlock()
	d.mu.Lock()
	lrec := h.ln.rec
	account, spent := "", uint64(0)
	if lrec.Pending != nil {
		account = lrec.Pending.Account
	}
	lrec.Charged, lrec.Seq, lrec.Pending = signed.Receipt.Cumulative, signed.Receipt.Seq, nil
	h.ln.rec = lrec
	if account != "" { // at once with the end of what is pending: Spent sees one of them, never neither
		d.spent[account] += signed.Receipt.Price
		spent = d.spent[account]
	}
	subject, bond, job, policy := h.l.rec.Offer.Subject, h.l.rec.Bond, h.l.rec.Order.JobValue, h.l.rec.Order.Policy
	d.mu.Unlock()
	rec := Record{
		ID: signed.Receipt.Digest(d.domain), Provider: s.key.provider,
		Trade: s.key.trade, Slot: s.key.spec, Subject: subject, Account: account, Denom: h.l.rec.Order.Denom,
		Units: trade.Meter(h.l.rec.Rates, signed.Receipt.Units), Latency: latency,
		Evidence: square.Evidence{Receipt: signed.Receipt, Sig: signed.Sig, Request: request, Result: signed.Result},
	}
	if policy == square.PolicyProve {
		rec.Audit, rec.Note = AuditUnproven, "the proof is due"
	}
	entries, err := d.filing(&rec)
	if err != nil {
		return rec, err
	}
	lane, err := json.Marshal(lrec)
	if err != nil {
		return rec, err
	}
	entries = append(entries, journal.Entry{Bucket: bucketLanes, Key: laneKey(h.l.id, h.ln.n), Value: lane})
	if account != "" {
		entries = append(entries, SpentEntry(account, spent))
	}
	if policy == square.PolicyProve {
		// Until the proof is checked the answer is to be audited: whoever
		// starts again after a crash finds it among those that are.
		entries = append(entries, journal.Entry{Bucket: bucketAudits, Key: rec.ID[:]})
		d.mu.Lock()
		d.proving[rec.ID] = true
		d.pending[h.l.id]++
		d.mu.Unlock()
	}
	err = d.cfg.Store.PutSoon(entries...)
	if err != nil {
		if policy == square.PolicyProve {
			d.proved(rec.ID)
			d.audited(h.l.id)
		}
		return rec, err
	}
	if policy == square.PolicyAudit || policy == square.PolicyReplicate && bond > 0 { // two that agree may be one
		// Only now is it drawn: the provider has signed.
		d.draw(rec, bond, job)
	}
	return rec, nil
}

// Again reports whether the work of a receipt can be done again here.
func (d *Desk) Again(r Record) bool { return d.auditorOf(r) != nil }

// ReceiptID is what a receipt is known by.
func (d *Desk) ReceiptID(r square.Receipt) square.Hash { return r.Digest(d.domain) }
