package desk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
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
type Metered struct {
	Unit  string `json:"unit"`
	Count uint64 `json:"count,string"`
}

// Metered is how much of a unit was metered; 0 of one that was not.
func (r Record) Metered(unit string) uint64 {
	for _, m := range r.Units {
		if m.Unit == unit {
			return m.Count
		}
	}
	return 0
}

func metered(rates []square.Rate, units []uint64) []Metered {
	out := make([]Metered, len(units)) // verified: as many as there are rates
	for i, n := range units {
		out[i] = Metered{rates[i].Unit, n}
	}
	return out
}

// ErrNoReceipt says that a receipt was never had, or is no longer kept.
var ErrNoReceipt = errors.New("no such receipt; the desk keeps them for a bounded time")

func record(tx *bolt.Tx, id square.Hash) (Record, error) {
	var r Record
	b := tx.Bucket([]byte(bucketReceipts)).Get(id[:])
	if b == nil {
		return r, fmt.Errorf("receipt %s: %w", id.Short(), ErrNoReceipt)
	}
	return r, json.Unmarshal(b, &r)
}

func timeKey(t time.Time, id square.Hash) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(t.UnixMilli(), 0))), id[:]...)
}

func ownerKey(account string, t time.Time, id square.Hash) []byte {
	sum := sha256.Sum256([]byte(account))
	return append(sum[:], timeKey(t, id)...)
}

func leaseKey(r square.Receipt, id square.Hash) []byte {
	return append(binary.BigEndian.AppendUint64(laneKey(r.Lease, r.Lane), r.Seq), id[:]...)
}

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
		ID: signed.Receipt.Digest(d.domain), Time: d.cfg.Now(), Provider: s.key.provider,
		Trade: s.key.trade, Slot: s.key.spec, Subject: subject, Account: account, Denom: h.l.rec.Order.Denom,
		Units: metered(h.l.rec.Rates, signed.Receipt.Units), Latency: latency,
		Evidence: square.Evidence{Receipt: signed.Receipt, Sig: signed.Sig, Request: request, Result: signed.Result},
	}
	if policy == square.PolicyProve {
		rec.Audit, rec.Note = AuditUnproven, "the proof is due"
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return rec, err
	}
	lane, err := json.Marshal(lrec)
	if err != nil {
		return rec, err
	}
	entries := []journal.Entry{
		{Bucket: bucketLanes, Key: laneKey(h.l.id, h.ln.n), Value: lane},
		{Bucket: bucketReceipts, Key: rec.ID[:], Value: b},
		{Bucket: bucketByTime, Key: timeKey(rec.Time, rec.ID)},
		{Bucket: bucketByLease, Key: leaseKey(rec.Evidence.Receipt, rec.ID)},
	}
	if account != "" {
		entries = append(entries, journal.Entry{Bucket: bucketByOwner, Key: ownerKey(account, rec.Time, rec.ID)})
		entries = append(entries, journal.Entry{Bucket: bucketSpent, Key: []byte(account), Value: binary.BigEndian.AppendUint64(nil, spent)})
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
	d.mu.Lock()
	d.stored++
	d.mu.Unlock()
	if policy == square.PolicyAudit {
		// Only now is it drawn: the provider has signed.
		d.draw(rec, bond, job)
	}
	return rec, nil
}

// ReceiptID is what a receipt is known by.
func (d *Desk) ReceiptID(r square.Receipt) square.Hash { return r.Digest(d.domain) }

// Receipt returns one receipt.
func (d *Desk) Receipt(_ context.Context, id square.Hash) (rec Record, err error) {
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		rec, err = record(tx, id)
		return err
	})
	return rec, err
}

// Receipts returns at most n receipts, the newest before a time first; a zero
// time is now.
func (d *Desk) Receipts(_ context.Context, before time.Time, n int) ([]Record, error) {
	return d.newest(bucketByTime, nil, before, n)
}

// ReceiptsOf returns at most n receipts of an account's, the newest before a time
// first; a zero time is now.
func (d *Desk) ReceiptsOf(_ context.Context, account string, before time.Time, n int) ([]Record, error) {
	sum := sha256.Sum256([]byte(account))
	return d.newest(bucketByOwner, sum[:], before, n)
}

// newest reads an index by time backwards, of the keys with a prefix.
func (d *Desk) newest(index string, prefix []byte, before time.Time, n int) (out []Record, err error) {
	from := append(slices.Clone(prefix), 0xff) // later than any time
	if !before.IsZero() {
		from = append(slices.Clone(prefix), timeKey(before, square.Hash{})...)
	}
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(index)).Cursor()
		k, _ := c.Seek(from)
		if k == nil {
			k, _ = c.Last()
		} else {
			k, _ = c.Prev()
		}
		for ; k != nil && bytes.HasPrefix(k, prefix) && len(out) < n; k, _ = c.Prev() {
			rec, err := record(tx, square.Hash(k[len(k)-32:]))
			if err != nil {
				return err
			}
			out = append(out, rec)
		}
		return nil
	})
	return out, err
}

// LeaseReceipts returns at most n receipts of a lease, by lane and number.
func (d *Desk) LeaseReceipts(_ context.Context, lease square.Hash, n int) (out []Record, err error) {
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketByLease)).Cursor()
		for k, _ := c.Seek(lease[:]); bytes.HasPrefix(k, lease[:]) && len(out) < n; k, _ = c.Next() {
			rec, err := record(tx, square.Hash(k[len(k)-32:]))
			if err != nil {
				return err
			}
			out = append(out, rec)
		}
		return nil
	})
	return out, err
}

// note changes what is known of an answer's truth.
func (d *Desk) note(id square.Hash, a Audit, words string) error {
	return d.cfg.Store.Update(func(tx *bolt.Tx) error {
		rec, err := record(tx, id)
		if err != nil {
			return err
		}
		rec.Audit, rec.Note = a, words
		return put(tx, bucketReceipts, id[:], rec)
	})
}

// pruneBatch bounds how many receipts one transaction drops.
const pruneBatch = 500

// prune drops receipts that are too old or too many, but none whose audit is
// due.
func (d *Desk) prune() error {
	if err := d.pruneJobs(); err != nil {
		return err
	}
	for {
		dropped := 0
		d.mu.Lock()
		over := d.stored - d.cfg.MaxReceipts
		d.mu.Unlock()
		oldest := timeKey(d.cfg.Now().Add(-d.cfg.Retain), square.Hash{})
		err := d.cfg.Store.Update(func(tx *bolt.Tx) error {
			dropped = 0
			times, leases, recs := tx.Bucket([]byte(bucketByTime)), tx.Bucket([]byte(bucketByLease)), tx.Bucket([]byte(bucketReceipts))
			owners := tx.Bucket([]byte(bucketByOwner))
			var keys [][]byte
			c := times.Cursor()
			for k, _ := c.First(); k != nil && len(keys) < pruneBatch; k, _ = c.Next() {
				if len(keys) >= over && bytes.Compare(k, oldest) >= 0 {
					break
				}
				keys = append(keys, bytes.Clone(k))
			}
			for _, k := range keys {
				id := square.Hash(k[8:])
				if tx.Bucket([]byte(bucketAudits)).Get(id[:]) != nil {
					continue
				}
				rec, err := record(tx, id)
				if err == nil {
					err = errors.Join(leases.Delete(leaseKey(rec.Evidence.Receipt, id)), owners.Delete(ownerKey(rec.Account, rec.Time, id)))
				}
				if err = errors.Join(err, times.Delete(k), recs.Delete(id[:])); err != nil {
					return err
				}
				dropped++
			}
			return nil
		})
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.stored -= dropped
		d.mu.Unlock()
		if dropped < pruneBatch {
			return nil
		}
	}
}
