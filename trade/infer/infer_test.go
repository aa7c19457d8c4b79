package infer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"

	"github.com/torg-network/torg/market"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
)

var sampleRequests = []Request{
	{Kind: Exact, MaxTokens: 7, Temperature: 700, TopP: 9000, Seed: square.Hash{1, 2}, Stop: [][]byte{[]byte("\n"), []byte("END")}, Prompt: []byte("It is a truth")},
	{Kind: Exact, MaxTokens: 1, TopP: 10_000},
	{Kind: Embed, Prompt: []byte("text")},
	{Kind: Opaque, Prompt: []byte(`{"model":"m"}`)},
}

var sampleResults = []Result{
	{Kind: Exact, Finish: FinishStop, Tokens: []uint16{1, 2, 65535}},
	{Kind: Exact, Finish: FinishCancelled},
	{Kind: Embed, Vector: []int32{-1, 0, 1 << 30}},
	{Kind: Opaque, Finish: FinishError, Prompt: 3, Completion: 4, Text: []byte("half an ans")},
}

func TestRequestsRoundTrip(t *testing.T) {
	seen := map[square.Hash]bool{}
	for _, q := range sampleRequests {
		got, err := DecodeRequest(q.Encode())
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if !bytes.Equal(got.Encode(), q.Encode()) || got.Kind != q.Kind || got.Seed != q.Seed || len(got.Stop) != len(q.Stop) {
			t.Errorf("%+v came back as %+v", q, got)
		}
		if seen[q.Digest()] {
			t.Error("two requests share a digest")
		}
		seen[q.Digest()] = true
		for n := range q.Encode() {
			if _, err := DecodeRequest(q.Encode()[:n]); err == nil {
				t.Errorf("%c: the first %d bytes were read as a whole request", q.Kind, n)
			}
		}
		if _, err := DecodeRequest(append(q.Encode(), 0)); !errors.Is(err, ErrEncoding) {
			t.Error("a trailing byte was accepted")
		}
	}
}

func TestResultsRoundTrip(t *testing.T) {
	for _, r := range sampleResults {
		got, err := DecodeResult(r.Encode())
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if !bytes.Equal(got.Encode(), r.Encode()) || !reflect.DeepEqual(got.Vector, r.Vector) || !reflect.DeepEqual(got.Tokens, r.Tokens) {
			t.Errorf("%+v came back as %+v", r, got)
		}
		for n := range r.Encode() {
			if _, err := DecodeResult(r.Encode()[:n]); err == nil {
				t.Errorf("%c: the first %d bytes were read as a whole result", r.Kind, n)
			}
		}
	}
	bad := Result{Kind: Exact, Finish: FinishError}.Encode()
	if _, err := DecodeResult(bad); err == nil {
		t.Error("an exact result claimed an engine error")
	}
}

func TestRequestsAreChecked(t *testing.T) {
	ok := sampleRequests[0]
	for name, change := range map[string]func(*Request){
		"no tokens": func(q *Request) { q.MaxTokens = 0 }, "too many tokens": func(q *Request) { q.MaxTokens = MaxTokens + 1 },
		"hot": func(q *Request) { q.Temperature = 10_001 }, "no top_p": func(q *Request) { q.TopP = 0 },
		"empty stop": func(q *Request) { q.Stop = [][]byte{nil} }, "kind": func(q *Request) { q.Kind = 'z' },
		"stops": func(q *Request) { q.Stop = make([][]byte, MaxStops+1) }, "prompt": func(q *Request) { q.Prompt = make([]byte, MaxPrompt+1) },
	} {
		q := ok
		change(&q)
		if q.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := DecodeRequest(q.Encode()); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

// parrot is a model whose only answer is its prompt.
type parrot struct{ replays int }

func (*parrot) Subject() square.Hash { return square.Hash{42} }
func (*parrot) Cost(p, c int) uint64 { return uint64(p+c) * 1000 }
func (m *parrot) Replay(q Request, r Result) (bool, uint64, error) {
	m.replays++
	var want []uint16
	for _, c := range q.Prompt {
		want = append(want, uint16(c))
	}
	return reflect.DeepEqual(want, r.Tokens), uint64(len(q.Prompt)), nil
}

func evidence(q Request, r Result, units ...uint64) trade.Case {
	return trade.Case{
		Evidence: square.Evidence{
			Receipt: square.Receipt{Subject: square.Hash{42}, Request: q.Digest(), Result: r.Digest(), Units: units},
			Request: q.Encode(), Result: r.Encode(),
		},
		Lease: market.Lease{Order: square.Order{Spec: square.Hash{42}}},
	}
}

func TestJudge(t *testing.T) {
	rules := Rules{Models: []Replayer{&parrot{}}}
	q := Request{Kind: Exact, MaxTokens: 9, TopP: 10_000, Prompt: []byte("ab")}
	good := Result{Kind: Exact, Finish: FinishStop, Tokens: []uint16{'a', 'b'}}
	lie := Result{Kind: Exact, Finish: FinishStop, Tokens: []uint16{'a', 'c'}}
	junk := evidence(q, good, 2, 2)
	junk.Result = []byte("nonsense")
	junk.Receipt.Result = sha256.Sum256(junk.Result)
	for name, c := range map[string]struct {
		e    trade.Case
		want square.Verdict
	}{
		"true":                 {evidence(q, good, 2, 2), square.VerdictOK},
		"a lie":                {evidence(q, lie, 2, 2), square.VerdictFraud},
		"too many tokens":      {evidence(q, good, 2, 3), square.VerdictFraud},
		"too much prompt":      {evidence(q, good, 3, 2), square.VerdictFraud},
		"no units":             {evidence(q, good), square.VerdictFraud},
		"no result at all":     {junk, square.VerdictFraud},
		"a result of its kind": {evidence(q, sampleResults[3], 2, 2), square.VerdictFraud},
	} {
		got, err := rules.Judge(c.e)
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, c.want)
		}
	}
	other := evidence(q, good, 2, 2)
	other.Lease.Order.Spec = square.Hash{43}
	if v, err := rules.Judge(other); err != nil || v != square.VerdictFraud {
		t.Errorf("another model's answer was judged %s, %v", v, err)
	}
	opaque := evidence(sampleRequests[3], sampleResults[3], 3, 4)
	if _, err := rules.Judge(opaque); !errors.Is(err, trade.ErrNotJudgeable) {
		t.Errorf("an upstream answer was judged: %v", err)
	}
	unknown := evidence(q, good, 2, 2)
	unknown.Receipt.Subject = square.Hash{1}
	unknown.Lease.Order.Spec = square.Hash{1}
	if _, err := rules.JudgeGas(unknown); !errors.Is(err, trade.ErrNotJudgeable) {
		t.Errorf("gas for an unknown model: %v", err)
	}
}

func TestGasIsBoundedBeforeWork(t *testing.T) {
	m := &parrot{}
	rules := Rules{Models: []Replayer{m}}
	small, err := rules.JudgeGas(evidence(sampleRequests[0], sampleResults[0]))
	if err != nil || small == 0 {
		t.Fatalf("gas %d, %v", small, err)
	}
	big := sampleRequests[0]
	big.Prompt = make([]byte, 10_000)
	more, err := rules.JudgeGas(evidence(big, sampleResults[0]))
	if err != nil || more <= small {
		t.Errorf("gas does not grow with the work: %d, %d, %v", small, more, err)
	}
	huge := evidence(sampleRequests[0], sampleResults[0])
	huge.Result = make([]byte, 1<<20)
	if _, err := rules.JudgeGas(huge); err == nil {
		t.Error("an oversize result got a price")
	}
	if m.replays != 0 {
		t.Error("pricing the work did it")
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, q := range sampleRequests {
		f.Add(q.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := DecodeRequest(b); err == nil && !bytes.Equal(q.Encode(), b) {
			t.Fatalf("%x decodes, and encodes as %x", b, q.Encode())
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	for _, r := range sampleResults {
		f.Add(r.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeResult(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Fatalf("%x decodes, and encodes as %x", b, r.Encode())
		}
	})
}

// What cannot be compared is not sold under the policy that compares: a provider
// without a bond would be paid for its first lie.
func TestOrderPolicies(t *testing.T) {
	rates := []square.Rate{{Unit: UnitPrompt}, {Unit: UnitCompletion}}
	opaque := square.Offer{Spec: square.Hash{1}, Subject: "opaque", Rates: rates}
	exact := opaque
	exact.Attributes = []square.Attribute{{Key: "infer.exact", Value: "true"}}
	for p, want := range map[square.Policy]bool{
		square.PolicyNone: true, square.PolicyAudit: true, square.PolicyReplicate: false,
	} {
		o := square.Order{Mode: square.ModeStream, Spec: square.Hash{1}, Policy: p, MaxRates: rates}
		if err := (Rules{}).CheckOrder(o); err != nil {
			t.Errorf("policy %s: %v", p, err)
		}
		if err := (Rules{}).Fits(opaque, o); (err == nil) != want {
			t.Errorf("policy %s, a model that is not exact: %v", p, err)
		}
		if err := (Rules{}).Fits(exact, o); err != nil {
			t.Errorf("policy %s, an exact model: %v", p, err)
		}
	}
}
