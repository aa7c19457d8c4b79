package desk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/torg-network/torg/journal"
	"github.com/torg-network/torg/square"
)

// How receipts are kept. A receipt's number is when it came, in microseconds; one
// that comes in the same moment, or after the clock was set back, has the next
// number. So the order of the numbers is that of time, and a page of receipts goes
// on where the one before ended, whatever comes in between.
//
// What a receipt says is in the journal's segments: its head (the Record as JSON,
// without the bytes of request and result) and, apart, those bytes, so that a list
// reads heads alone. In the tree are its number, its id, and a key in the index for
// each thing that receipts are looked up by.

// finding is what is known of an answer's truth, behind the place of its receipt's
// head and its ordinal. Nothing is written of one that was not looked at.
type finding struct {
	Audit Audit  `json:"audit"`
	Note  string `json:"note,omitempty"`
	Part  uint64 `json:"part,omitempty"`
}

// What the index knows receipts by.
const (
	byAccount  = 'a'
	byAudit    = 'v' // those that were looked at
	byLease    = 'l'
	byProvider = 'p'
	bySubject  = 's' // the offer's name of it
)

// numberKey is a receipt's number as a key.
func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// indexed is what the keys of all receipts with a value begin with: the kind, and
// of the value a digest that is short, since a million keys have it. Should two
// values ever have the same, records are held against the filter all the same.
func indexed(kind byte, value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return append([]byte{kind}, sum[:8]...)
}

// keys are those of a receipt in the index.
func (r Record) keys(number uint64) (keys [][]byte) {
	add := func(kind byte, value string) {
		if value != "" {
			keys = append(keys, append(indexed(kind, value), numberKey(number)...))
		}
	}
	add(byAccount, r.Account)
	add(byAudit, string(r.Audit))
	add(byLease, string(r.Evidence.Receipt.Lease[:]))
	add(byProvider, string(r.Provider[:]))
	add(bySubject, r.Subject)
	return keys
}

// headSize is how long what comes before a finding is: a place and an ordinal.
const headSize = journal.PlaceSize + 8

// filing dates a receipt and is what stores it.
func (d *Desk) filing(r *Record) ([]journal.Entry, error) {
	d.mu.Lock()
	d.newest = max(d.newest+1, uint64(max(d.cfg.Now().UnixMicro(), 0)))
	d.filed++
	ordinal := d.filed
	r.Time = time.UnixMicro(int64(d.newest))
	d.mu.Unlock()
	return r.Entries(ordinal)
}

// Entries are what a journal keeps of a receipt, by its time, which no other one
// has; ordinal counts the receipts of the journal.
func (r Record) Entries(ordinal uint64) ([]journal.Entry, error) {
	number := uint64(r.Time.UnixMicro())
	head := r
	head.Evidence.Request, head.Evidence.Result = nil, nil
	body, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	state := numberKey(ordinal)
	if r.Audit != AuditNone {
		found, err := json.Marshal(finding{r.Audit, r.Note, r.Part})
		if err != nil {
			return nil, err
		}
		state = append(state, found...)
	}
	e := r.Evidence
	opened := make([]byte, 0, 4+len(e.Request)+len(e.Result))
	opened = binary.BigEndian.AppendUint32(opened, uint32(len(e.Request)))
	opened = append(append(opened, e.Request...), e.Result...)
	key := numberKey(number)
	entries := []journal.Entry{
		{Bucket: bucketHeads, Key: key, Value: state, Body: body},
		{Bucket: bucketEvidence, Key: key, Body: opened},
		{Bucket: bucketIDs, Key: r.ID[:], Value: key},
	}
	for _, k := range r.keys(number) {
		entries = append(entries, journal.Entry{Bucket: bucketIndex, Key: k})
	}
	return entries, nil
}

// SpentEntry is what a journal keeps of the sum that all of an account's receipts
// charged.
func SpentEntry(account string, sum uint64) journal.Entry {
	return journal.Entry{Bucket: bucketSpent, Key: []byte(account), Value: numberKey(sum)}
}

// loadReceipts finds where the numbers go on.
func (d *Desk) loadReceipts(tx *bolt.Tx) error {
	k, v := tx.Bucket([]byte(bucketHeads)).Cursor().Last()
	if k == nil {
		return nil
	}
	if len(k) != 8 || len(v) < headSize {
		return fmt.Errorf("desk: receipt %x on disk is damaged", k)
	}
	d.newest, d.filed = binary.BigEndian.Uint64(k), ordinal(v)
	return nil
}

func ordinal(v []byte) uint64 { return binary.BigEndian.Uint64(v[journal.PlaceSize:]) }

// kept is a receipt's number and what the tree has of it.
type kept struct {
	number uint64
	head   []byte
}

// at is the receipt of a number; its head is nil if there is none.
func at(tx *bolt.Tx, number uint64) kept {
	return kept{number, bytes.Clone(tx.Bucket([]byte(bucketHeads)).Get(numberKey(number)))}
}

// known is the receipt of an id.
func known(tx *bolt.Tx, id square.Hash) (kept, error) {
	if n := tx.Bucket([]byte(bucketIDs)).Get(id[:]); len(n) == 8 {
		if k := at(tx, binary.BigEndian.Uint64(n)); k.head != nil {
			return k, nil
		}
	}
	return kept{}, fmt.Errorf("receipt %s: %w", id.Short(), ErrNoReceipt)
}

// record reads a receipt's head.
func (d *Desk) record(k kept) (r Record, err error) {
	damaged := func(err error) error { return fmt.Errorf("desk: receipt %d on disk is damaged: %w", k.number, err) }
	body, err := d.cfg.Store.Body(k.head)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, damaged(err)
	}
	var f finding
	if state := k.head[headSize:]; len(state) > 0 {
		if err := json.Unmarshal(state, &f); err != nil {
			return r, damaged(err)
		}
	}
	r.Audit, r.Note, r.Part = f.Audit, f.Note, f.Part
	return r, nil
}

// Receipt returns one receipt, with its evidence.
func (d *Desk) Receipt(_ context.Context, id square.Hash) (r Record, err error) {
	var k kept
	var place []byte
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		if k, err = known(tx, id); err == nil {
			place = bytes.Clone(tx.Bucket([]byte(bucketEvidence)).Get(numberKey(k.number)))
		}
		return err
	})
	if err != nil {
		return r, err
	}
	var opened []byte
	if r, err = d.record(k); err == nil {
		opened, err = d.cfg.Store.Body(place)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // dropped while it was read
		return r, fmt.Errorf("receipt %s: %w", id.Short(), ErrNoReceipt)
	case err != nil:
		return r, err
	}
	if r.Evidence.Request, r.Evidence.Result, err = split(opened); err != nil {
		return r, fmt.Errorf("desk: the evidence of receipt %s is damaged on disk: %w", id.Short(), err)
	}
	return r, nil
}

// split is the request and the result of what bucketEvidence has.
func split(opened []byte) (request, result []byte, err error) {
	if len(opened) < 4 {
		return nil, nil, fmt.Errorf("it has %d bytes", len(opened))
	}
	n, rest := uint64(binary.BigEndian.Uint32(opened)), opened[4:]
	if n > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("its request has %d bytes of %d", n, len(rest))
	}
	return rest[:n], rest[n:], nil
}

// FindReceipt is the id that begins with these hexadecimal digits. An error tells
// of none, ErrNoReceipt, and of more than one.
func (d *Desk) FindReceipt(_ context.Context, digits string) (id square.Hash, err error) {
	const all = 2 * len(square.Hash{})
	digits = strings.ToLower(strings.TrimPrefix(digits, "0x"))
	if digits == "" || len(digits) > all {
		return id, fmt.Errorf("receipt %q: want 1 to %d hexadecimal digits", square.Clip(digits, 80), all)
	}
	from, err := square.ParseHash(digits + strings.Repeat("0", all-len(digits)))
	if err != nil {
		return id, fmt.Errorf("receipt %q: want hexadecimal digits", digits)
	}
	to, err := square.ParseHash(digits + strings.Repeat("f", all-len(digits)))
	if err != nil {
		return id, err
	}
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketIDs)).Cursor()
		k, _ := c.Seek(from[:])
		if k == nil || bytes.Compare(k, to[:]) > 0 {
			return fmt.Errorf("receipt %s: %w", digits, ErrNoReceipt)
		}
		id = square.Hash(k)
		if k, _ = c.Next(); k != nil && bytes.Compare(k, to[:]) <= 0 {
			return fmt.Errorf("receipt %s: more than one begins so; give more digits", digits)
		}
		return nil
	})
	return id, err
}

// Filter chooses receipts by what all its fields say; a zero field says nothing.
type Filter struct {
	Account  string
	Lease    square.Hash
	Provider square.Address
	Subject  string // the offer's, in full
	Audit    Audit
	Signed   bool // only those that nobody has looked at
}

// has reports whether a receipt is one that the index may have found.
func (f Filter) has(r Record) bool {
	return (f.Account == "" || f.Account == r.Account) && (f.Lease.IsZero() || f.Lease == r.Evidence.Receipt.Lease) &&
		(f.Provider.IsZero() || f.Provider == r.Provider) && (f.Subject == "" || f.Subject == r.Subject)
}

// walks are where the index has what a filter chooses.
func (f Filter) walks(tx *bolt.Tx) (ws []walk) {
	add := func(kind byte, value string) {
		ws = append(ws, walk{tx.Bucket([]byte(bucketIndex)).Cursor(), indexed(kind, value)})
	}
	if f.Account != "" {
		add(byAccount, f.Account)
	}
	if !f.Lease.IsZero() {
		add(byLease, string(f.Lease[:]))
	}
	if !f.Provider.IsZero() {
		add(byProvider, string(f.Provider[:]))
	}
	if f.Subject != "" {
		add(bySubject, f.Subject)
	}
	if f.Audit != AuditNone {
		add(byAudit, string(f.Audit))
	}
	if len(ws) == 0 {
		ws = append(ws, walk{c: tx.Bucket([]byte(bucketHeads)).Cursor()})
	}
	return ws
}

// walk goes through the numbers behind a prefix, backwards.
type walk struct {
	c      *bolt.Cursor
	prefix []byte
}

// below is the greatest number below one.
func (w walk) below(number uint64) (uint64, bool) {
	k, _ := w.c.Seek(append(w.prefix[:len(w.prefix):len(w.prefix)], numberKey(number)...))
	if k == nil {
		k, _ = w.c.Last()
	} else {
		k, _ = w.c.Prev()
	}
	if len(k) != len(w.prefix)+8 || !bytes.HasPrefix(k, w.prefix) {
		return 0, false
	}
	return binary.BigEndian.Uint64(k[len(w.prefix):]), true
}

// maxSteps bounds what one question looks at, whatever it asks for.
const maxSteps = 20_000

// Receipts returns at most n receipts that a filter chooses, the newest before a
// time first, without the bytes of request and result; a zero time is now. next is
// the time before which to look on; zero when there are no more. There may be more
// where none was found: then a lot was looked at.
func (d *Desk) Receipts(ctx context.Context, f Filter, before time.Time, n int) (rs []Record, next time.Time, err error) {
	number := uint64(math.MaxUint64)
	if !before.IsZero() {
		number = uint64(max(before.UnixMicro(), 0))
	}
	var found []kept
	more := true
	err = d.cfg.Store.View(func(tx *bolt.Tx) error {
		ws := f.walks(tx)
		for range maxSteps {
			if len(found) == n || ctx.Err() != nil {
				break
			}
			// The greatest that the first has, and then whatever all others have of
			// that or less, until all have the same.
			least, ok := ws[0].below(number)
			same := true
			for _, w := range ws[1:] {
				other, has := w.below(least + 1)
				ok = ok && has
				same = same && other == least
				least = min(least, other)
			}
			switch {
			case !ok:
				more = false
				return nil
			case !same:
				number = least + 1
				continue
			}
			number = least
			if k := at(tx, number); k.head != nil && !(f.Signed && len(k.head) > headSize) {
				found = append(found, k)
			}
		}
		_, more = ws[0].below(number)
		return ctx.Err()
	})
	if err != nil {
		return nil, next, err
	}
	// Outside of the transaction, so that nobody who writes waits.
	for _, k := range found {
		r, err := d.record(k)
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		} else if err != nil {
			return nil, next, err
		}
		if f.has(r) {
			rs = append(rs, r)
		}
	}
	if more {
		next = time.UnixMicro(int64(number))
	}
	return rs, next, nil
}

// find writes down what is known of an answer's truth.
func (d *Desk) find(id square.Hash, f finding) error {
	state, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return d.cfg.Store.Update(func(tx *bolt.Tx) error {
		k, err := known(tx, id)
		if err != nil {
			return err
		}
		var before finding
		if len(k.head) > headSize {
			if err := json.Unmarshal(k.head[headSize:], &before); err != nil {
				return fmt.Errorf("desk: receipt %d on disk is damaged: %w", k.number, err)
			}
		}
		index := tx.Bucket([]byte(bucketIndex))
		if before.Audit != AuditNone {
			if err := index.Delete(append(indexed(byAudit, string(before.Audit)), numberKey(k.number)...)); err != nil {
				return err
			}
		}
		if f.Audit != AuditNone {
			if err := index.Put(append(indexed(byAudit, string(f.Audit)), numberKey(k.number)...), nil); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketHeads)).Put(numberKey(k.number), append(k.head[:headSize:headSize], state...))
	})
}

// note is find without a part to prove.
func (d *Desk) note(id square.Hash, a Audit, words string) error {
	return d.find(id, finding{Audit: a, Note: words})
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
		oldest := uint64(max(d.cfg.Now().Add(-d.cfg.Retain).UnixMicro(), 0))
		d.mu.Lock()
		newest := d.filed
		d.mu.Unlock()
		err := d.cfg.Store.Update(func(tx *bolt.Tx) error {
			dropped = 0
			var gone []kept
			var rs []Record
			c := tx.Bucket([]byte(bucketHeads)).Cursor()
			for k, v := c.First(); k != nil && len(gone) < pruneBatch; k, v = c.Next() {
				is := kept{binary.BigEndian.Uint64(k), bytes.Clone(v)}
				if is.number >= oldest && newest-ordinal(v) < uint64(d.cfg.MaxReceipts) {
					break
				}
				r, err := d.record(is)
				if err != nil {
					return err
				}
				if tx.Bucket([]byte(bucketAudits)).Get(r.ID[:]) == nil {
					gone, rs = append(gone, is), append(rs, r)
				}
			}
			index, ids := tx.Bucket([]byte(bucketIndex)), tx.Bucket([]byte(bucketIDs))
			for i, k := range gone {
				err := ids.Delete(rs[i].ID[:])
				for _, key := range rs[i].keys(k.number) {
					err = errors.Join(err, index.Delete(key))
				}
				for _, bucket := range []string{bucketHeads, bucketEvidence} {
					err = errors.Join(err, d.cfg.Store.Drop(tx, bucket, numberKey(k.number)))
				}
				if err != nil {
					return err
				}
			}
			dropped = len(gone)
			return nil
		})
		if err != nil || dropped < pruneBatch {
			return err
		}
	}
}
