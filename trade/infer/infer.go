// Package infer is the trade of model inference: its rules, and the canonical
// bytes of a request and a result, whose SHA-256 digests a provider signs in
// every receipt.
//
// # Units
//
// "prompt_tokens" and "completion_tokens", priced per million like everywhere.
//
// # Engines
//
// A request is one of two kinds. An exact request names everything that the
// answer depends on, seed included, so the answer is a pure function of its
// bytes and anyone can re-execute it: the gateway's audits, `torg audit`, and
// the ledger itself when a receipt is challenged. An opaque request is the body
// that was sent to an OpenAI-compatible server; its receipt proves who said
// what for how much, not that a given model said it.
//
// # Request bytes
//
//	"torg/infer/1" kind(1)
//	kind 'x' (exact completion):
//	  max_tokens(4) temperature(4, thousandths) top_p(4, ten-thousandths) seed(32)
//	  n_stop(1) { len(2) bytes }…  len(4) prompt
//	kind 'e' (exact embedding):  len(4) text
//	kind 'o' (opaque):           len(4) body
//
// # Result bytes
//
//	"torg/infer/1" kind(1)
//	kind 'x': finish(1) n(4) { token(2) }…
//	kind 'e': n(4) { value(4, two's complement) }…
//	kind 'o': finish(1) prompt_tokens(4) completion_tokens(4) len(4) text
//
// Numbers are big-endian. There is one encoding for every value; trailing bytes
// and out-of-range fields are refused.
package infer

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/torg-network/torg/square"
)

// Name is the trade's name.
const Name = "infer"

// The units the trade meters, in order.
const (
	UnitPrompt     = "prompt_tokens"
	UnitCompletion = "completion_tokens"
)

// Bounds of one request. A decoder refuses more before it allocates.
const (
	MaxPrompt    = 1 << 20 // bytes of prompt or opaque body
	MaxTokens    = 1 << 15
	MaxStops     = 16
	MaxStop      = 256 // bytes of one stop sequence
	MaxResult    = 1 << 22
	MaxEmbedding = 1 << 14
)

// PlaceTokens is what each unit of a lease is backed by, unless a provider says
// otherwise: its share of the escrow pays for so many completion tokens.
const PlaceTokens = 4096

// Kind says how a request is executed.
type Kind byte

const (
	Exact  Kind = 'x' // an exact completion
	Embed  Kind = 'e' // an exact embedding
	Opaque Kind = 'o' // whatever an upstream server answers
)

// Request is one piece of work.
type Request struct {
	Kind        Kind
	MaxTokens   uint32
	Temperature uint32 // thousandths; 0 is greedy
	TopP        uint32 // ten-thousandths; 10000 is everything
	Seed        square.Hash
	Stop        [][]byte
	Prompt      []byte // text, or an opaque body
}

// Finish says why an answer ended.
type Finish byte

const (
	FinishStop      Finish = 's' // a stop sequence, or the model's end
	FinishLength    Finish = 'l' // max_tokens reached
	FinishCancelled Finish = 'c' // the buyer went away
	FinishError     Finish = 'e' // the engine failed after output had been given
)

// Result is what came of a request.
type Result struct {
	Kind       Kind
	Finish     Finish
	Tokens     []uint16 // exact
	Vector     []int32  // embedding
	Prompt     uint32   // opaque: units as the upstream server reported or the provider counted them
	Completion uint32
	Text       []byte // opaque
}

const magic = "torg/infer/1"

// Encode writes the canonical bytes.
func (r Request) Encode() []byte {
	b := make([]byte, 0, len(magic)+64+len(r.Prompt))
	b = append(b, magic...)
	b = append(b, byte(r.Kind))
	if r.Kind == Exact {
		b = binary.BigEndian.AppendUint32(b, r.MaxTokens)
		b = binary.BigEndian.AppendUint32(b, r.Temperature)
		b = binary.BigEndian.AppendUint32(b, r.TopP)
		b = append(b, r.Seed[:]...)
		b = append(b, byte(len(r.Stop)))
		for _, s := range r.Stop {
			b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
			b = append(b, s...)
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Prompt)))
	return append(b, r.Prompt...)
}

// Check names the field that cannot be served.
func (r Request) Check() error {
	switch {
	case r.Kind != Exact && r.Kind != Embed && r.Kind != Opaque:
		return fmt.Errorf("infer request: unknown kind %q", r.Kind)
	case len(r.Prompt) > MaxPrompt:
		return fmt.Errorf("infer request: prompt of %d bytes is over the limit of %d", len(r.Prompt), MaxPrompt)
	case r.Kind != Exact:
		return nil
	case r.MaxTokens == 0 || r.MaxTokens > MaxTokens:
		return fmt.Errorf("infer request: max_tokens %d: want 1 to %d", r.MaxTokens, MaxTokens)
	case r.Temperature > 10_000:
		return fmt.Errorf("infer request: temperature %d/1000: want 0 to 10", r.Temperature)
	case r.TopP == 0 || r.TopP > 10_000:
		return fmt.Errorf("infer request: top_p %d/10000: want above 0, at most 1", r.TopP)
	case len(r.Stop) > MaxStops:
		return fmt.Errorf("infer request: %d stop sequences: at most %d", len(r.Stop), MaxStops)
	}
	for _, s := range r.Stop {
		if len(s) == 0 || len(s) > MaxStop {
			return fmt.Errorf("infer request: a stop sequence has 1 to %d bytes", MaxStop)
		}
	}
	return nil
}

// Digest is what the receipt's request field holds.
func (r Request) Digest() square.Hash { return sha256.Sum256(r.Encode()) }

// Encode writes the canonical bytes.
func (r Result) Encode() []byte {
	b := append([]byte(magic), byte(r.Kind))
	switch r.Kind {
	case Exact:
		b = append(b, byte(r.Finish))
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.Tokens)))
		for _, t := range r.Tokens {
			b = binary.BigEndian.AppendUint16(b, t)
		}
	case Embed:
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.Vector)))
		for _, v := range r.Vector {
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		}
	case Opaque:
		b = append(b, byte(r.Finish))
		b = binary.BigEndian.AppendUint32(b, r.Prompt)
		b = binary.BigEndian.AppendUint32(b, r.Completion)
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.Text)))
		b = append(b, r.Text...)
	}
	return b
}

// Digest is what the receipt's result field holds.
func (r Result) Digest() square.Hash { return sha256.Sum256(r.Encode()) }

// ErrEncoding is wrapped by every failure to decode.
var ErrEncoding = errors.New("not canonical infer bytes")

// reader takes big-endian fields off the front of b; the first field that does
// not fit sets bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// count reads a length and refuses one that cannot fit in what is left.
func (r *reader) count(size, most int) int {
	n := int(r.u32())
	if n > most || n*size > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

func (r *reader) open() Kind {
	if string(r.take(len(magic))) != magic {
		r.bad = true
	}
	return Kind(r.u8())
}

// DecodeRequest reads canonical request bytes.
func DecodeRequest(b []byte) (Request, error) {
	rd := &reader{b: b}
	q := Request{Kind: rd.open()}
	if q.Kind == Exact {
		q.MaxTokens, q.Temperature, q.TopP = rd.u32(), rd.u32(), rd.u32()
		copy(q.Seed[:], rd.take(32))
		n := int(rd.u8())
		if n > MaxStops {
			rd.bad = true
		}
		for i := 0; i < n && !rd.bad; i++ {
			q.Stop = append(q.Stop, rd.take(int(rd.u16())))
		}
	}
	q.Prompt = rd.take(rd.count(1, MaxPrompt))
	if rd.bad || len(rd.b) != 0 {
		return Request{}, fmt.Errorf("request: %w", ErrEncoding)
	}
	if err := q.Check(); err != nil {
		return Request{}, err
	}
	return q, nil
}

// DecodeResult reads canonical result bytes.
func DecodeResult(b []byte) (Result, error) {
	rd := &reader{b: b}
	r := Result{Kind: rd.open()}
	switch r.Kind {
	case Exact:
		r.Finish = Finish(rd.u8())
		for n := rd.count(2, MaxTokens); n > 0; n-- {
			r.Tokens = append(r.Tokens, rd.u16())
		}
	case Embed:
		for n := rd.count(4, MaxEmbedding); n > 0; n-- {
			r.Vector = append(r.Vector, int32(rd.u32()))
		}
	case Opaque:
		r.Finish = Finish(rd.u8())
		r.Prompt, r.Completion = rd.u32(), rd.u32()
		r.Text = rd.take(rd.count(1, MaxResult))
	default:
		rd.bad = true
	}
	switch {
	case r.Kind == Embed, r.Finish == FinishStop, r.Finish == FinishLength, r.Finish == FinishCancelled,
		r.Finish == FinishError && r.Kind == Opaque:
	default:
		rd.bad = true
	}
	if rd.bad || len(rd.b) != 0 {
		return Result{}, fmt.Errorf("result: %w", ErrEncoding)
	}
	return r, nil
}

// Subject is what an offer's spec and a receipt's subject hold for a model
// without a digest of its own (an upstream server's): the SHA-256 of
// "torg model name " and the name.
func Subject(name string) square.Hash { return sha256.Sum256([]byte("torg model name " + name)) }
