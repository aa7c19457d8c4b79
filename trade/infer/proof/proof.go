// Package proof proves that an exact model gave an answer, so that whoever
// checks need not run it nor have it: a buyer before it pays on, the ledger when
// a receipt is challenged, anyone with a file of torg prove.
//
// # What is proven
//
// A model says each token from a window of those before it (docs/exact.md,
// "Window"). Tokens that share a window are proven together, by one run of the
// model over the window: its logits at each of these tokens are claimed and
// proven (package zkml), and the checker applies the sampling rule to them with
// the request's seed, temperature and top_p. That the answer ends as it says
// (stop sequences, max_tokens) needs no model. The last token of a window need
// not be its input.
//
// Windows are numbered from 0. A part proves up to Batch consecutive windows, in
// one proof; the parts of an answer are its windows 0 to Batch-1, Batch to
// 2 Batch-1, and so on. Before the ledger a part is a single window, so that an
// answer of any length can be disputed by a proof of bounded size.
//
// # Bytes of a part
//
//	rows        u32, of logits: one for each token that the windows say
//	logits      256 i32 for each row
//	proof       the rest: a proof of zkml
//
// Numbers here and below are little-endian. The claim that is proven follows: a
// run for each window, its input one byte a row; the rows of output 0 from the
// first of its tokens on are the logits; nothing is claimed of other outputs.
//
// # Bytes of a card file, version 1
//
//	"torgcrd1"
//	name           u8 length, then bytes
//	logit bits     u8          fractional bits of a logit
//	outputs        u8          of the program
//	card           the rest: zkml.Card.Encode
//
// # Bytes of a proof file, version 2
//
//	"torgprf2"                 names the version
//	model          32 bytes    id of the model: the BLAKE3 hash of its card file
//	request        u32 length, then request bytes of trade/infer (kind 'x')
//	result         u32 length, then result bytes of trade/infer (kind 'x')
//	parts          u32 number, of each u32 length, then its bytes
//
// Proofs hide nothing (docs/zkml.md).
package proof

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"lukechampine.com/blake3"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/replay"
	"github.com/torg-network/torg/zkml"
)

const (
	vocab = 256 // logits of a text model
	// Batch is how many windows a part proves. More would save bytes, and cost
	// the prover memory.
	Batch = 2
	// MaxWindows bounds the windows of an answer that is proven as a whole.
	MaxWindows = 32
	// MaxPart bounds the bytes of a part: logits of two full windows, and a
	// proof of three quarters of a MiB.
	MaxPart = 1 << 20
)

// refused is a trade.ErrProof.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", trade.ErrProof, fmt.Errorf(format, args...))
}

// Model is what checking needs of a model: what a card file holds.
type Model struct {
	Name      string
	LogitBits int
	Outputs   int
	Card      zkml.Card
}

// ID is the hash of the card file: of all that checking relies on. The zk
// card's own id is of the program alone, and the same logits mean other tokens
// with other logit bits.
func (m Model) ID() square.Hash { return blake3.Sum256(m.Encode()) }

// maxName bounds a model's name in a card file.
const maxName = 255

// MaxCard bounds a card file in bytes.
const MaxCard = zkml.MaxCard + maxName + 16

const cardMagic = "torgcrd1"

// Encode writes a card file.
func (m Model) Encode() []byte {
	b := append([]byte(cardMagic), byte(len(m.Name)))
	b = append(b, m.Name...)
	b = append(b, byte(m.LogitBits), byte(m.Outputs))
	return append(b, m.Card.Encode()...)
}

// DecodeModel reads a card file. Memory is bounded by its length.
func DecodeModel(b []byte) (Model, error) {
	bad := func(format string, args ...any) (Model, error) {
		return Model{}, fmt.Errorf("card file: "+format, args...)
	}
	head := len(cardMagic) + 1
	if len(b) < head || string(b[:len(cardMagic)]) != cardMagic || len(b) > MaxCard {
		return bad("not a torg card of version 1")
	}
	name := int(b[head-1])
	if len(b) < head+name+2 {
		return bad("it ends too early")
	}
	m := Model{Name: string(b[head : head+name])}
	b = b[head+name:]
	m.LogitBits, m.Outputs = int(b[0]), int(b[1])
	if name == 0 || strings.Trim(m.Name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return bad("its name is not one of a-z, 0-9, dot and dash")
	}
	if m.LogitBits > 16 || m.Outputs == 0 {
		return bad("%d logit bits, %d outputs", m.LogitBits, m.Outputs)
	}
	var err error
	if m.Card, err = zkml.DecodeCard(b[2:]); err != nil {
		return bad("%w", err)
	}
	if rows := m.Card.Rows(); rows < 2 || rows%2 != 0 {
		return bad("a window of %d", rows)
	}
	return m, nil
}

// Prover proves answers of one model.
type Prover struct {
	Model
	pk *zkml.ProverKey
}

// Commit makes a model's card and what proving needs. The model is read, not
// run.
func Commit(m *exact.Model) (*Prover, error) {
	card, pk, err := zkml.Commit(m.Program())
	if err != nil {
		return nil, fmt.Errorf("commit to model %s: %w", m.Name(), err)
	}
	if !m.Card().Text || m.Context() < 2 || m.Context()%2 != 0 {
		return nil, fmt.Errorf("model %s is no text model", m.Name())
	}
	return &Prover{Model{m.Name(), m.Card().LogitBits, len(m.Program().Outputs), card}, pk}, nil
}

// window is a run of the model: which tokens it reads, counted with the
// prompt's, and which of the completion it says.
type window struct {
	from, to    int // reads tokens from to to-1
	first, last int // says completion tokens first to last-1
}

// windows lists a completion's windows, at most so many.
func windows(prompt, tokens, context, most int) (ws []window) {
	for i := 0; i < tokens && len(ws) < most; {
		from := exact.WindowStart(prompt+i, context)
		// A window of context tokens says the one after it as well.
		last := min(tokens, from+context+1-prompt)
		ws = append(ws, window{from: from, to: prompt + last - 1, first: i, last: last})
		i = last
	}
	return ws
}

// Windows is how many windows say an answer of so many tokens to a prompt of so
// many bytes, with a context of so many.
func Windows(prompt, tokens, context int) int {
	return len(windows(max(prompt, 1), tokens, context, infer.MaxTokens))
}

// answer is an exact completion, taken apart.
type answer struct {
	req    exact.Request
	tokens []int
	all    []byte // prompt and completion
	prompt int    // bytes of it
	wins   []window
}

// take checks what needs no model: that it is a completion, that its tokens are
// bytes, and that it ends as the request wants. The tokens of a cancelled answer
// are a beginning.
func (m Model) take(req infer.Request, res infer.Result) (answer, error) {
	if req.Kind != infer.Exact || res.Kind != infer.Exact {
		return answer{}, refused("not about an exact completion")
	}
	a := answer{req: replay.Request(req), all: req.Prompt}
	if len(a.all) == 0 {
		a.all = exact.Start
	}
	a.prompt = len(a.all)
	a.all = a.all[:a.prompt:a.prompt]
	for _, t := range res.Tokens {
		a.tokens = append(a.tokens, int(t))
		a.all = append(a.all, byte(t))
	}
	n, how := exact.Ending(a.req, a.tokens)
	if n != len(a.tokens) {
		return answer{}, refused("it goes on after token %d, where the request ends it", n)
	}
	if res.Finish != infer.FinishCancelled && replay.Finish(how) != res.Finish {
		return answer{}, refused("it claims to have ended by %q, and did not", res.Finish)
	}
	a.wins = windows(a.prompt, len(a.tokens), m.Card.Rows(), infer.MaxTokens)
	return a, nil
}

// Parts checks what needs no proof, and says how many windows the answer has.
func (m Model) Parts(req infer.Request, res infer.Result) (int, error) {
	a, err := m.take(req, res)
	return len(a.wins), err
}

// claims are what a part must be about.
func (m Model) claims(a answer, wins []window, logits [][]int32) []zkml.Claim {
	cs := make([]zkml.Claim, len(wins))
	for i, w := range wins {
		c := zkml.Claim{From: make([]int, m.Outputs), Output: make([][][]int32, m.Outputs)}
		for _, t := range a.all[w.from:w.to] {
			c.Input = append(c.Input, []int32{int32(t)})
		}
		for k := range c.From {
			c.From[k] = len(c.Input)
		}
		c.From[0] = a.prompt + w.first - 1 - w.from
		n := w.last - w.first
		c.Output[0], logits = logits[:n:n], logits[n:]
		cs[i] = c
	}
	return cs
}

// some are the windows from first on, at most n.
func (a answer) some(first, n int) ([]window, error) {
	if first < 0 || first >= len(a.wins) || n < 1 {
		return nil, fmt.Errorf("window %d: the answer has %d", first, len(a.wins))
	}
	return a.wins[first:min(first+n, len(a.wins))], nil
}

func rows(wins []window) (n int) {
	for _, w := range wins {
		n += w.last - w.first
	}
	return n
}

// Prove proves the answer's windows from first on, at most n of them, in one
// part. An answer that is not the model's gets a proof that is refused.
func (p *Prover) Prove(req infer.Request, res infer.Result, first, n int) ([]byte, error) {
	a, err := p.take(req, res)
	if err != nil {
		return nil, err
	}
	wins, err := a.some(first, n)
	if err != nil {
		return nil, err
	}
	var runs []zkml.Run
	for _, c := range p.claims(a, wins, make([][]int32, rows(wins))) {
		runs = append(runs, zkml.Run{Input: c.Input, From: c.From})
	}
	said, proof, err := p.pk.ProveBatch(runs)
	if err != nil {
		return nil, fmt.Errorf("prove windows %d to %d: %w", first, first+len(wins)-1, err)
	}
	var logits [][]int32
	for _, c := range said {
		logits = append(logits, c.Output[0]...)
	}
	return encodePart(logits, proof), nil
}

// ProveAll proves a whole answer, part by part, passing each to emit.
func (p *Prover) ProveAll(ctx context.Context, req infer.Request, res infer.Result, emit func([]byte) error) error {
	n, err := p.Parts(req, res)
	if err != nil {
		return err
	}
	for at := 0; at < n; at += Batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		part, err := p.Prove(req, res, at, Batch)
		if err != nil {
			return err
		}
		if err := emit(part); err != nil {
			return err
		}
	}
	return nil
}

func encodePart(logits [][]int32, proof zkml.Proof) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(logits)))
	for _, row := range logits {
		for _, l := range row {
			b = binary.LittleEndian.AppendUint32(b, uint32(l))
		}
	}
	return append(b, proof...)
}

// decodePart reads a part about so many rows.
func decodePart(b []byte, rows int) (logits [][]int32, proof zkml.Proof, err error) {
	if len(b) > MaxPart {
		return nil, nil, refused("a part of %d bytes: at most %d", len(b), MaxPart)
	}
	head := 4 + 4*vocab*rows
	if len(b) < head {
		return nil, nil, refused("%d bytes are no part about %d tokens", len(b), rows)
	}
	if n := binary.LittleEndian.Uint32(b); n != uint32(rows) {
		return nil, nil, refused("%d rows of logits for %d tokens", n, rows)
	}
	logits = make([][]int32, rows)
	for i := range logits {
		logits[i] = make([]int32, vocab)
		for j := range logits[i] {
			logits[i][j] = int32(binary.LittleEndian.Uint32(b[4+4*(i*vocab+j):]))
		}
	}
	return logits, zkml.Proof(b[head:]), nil
}

// open takes a part apart that is about the answer's windows from first on, at
// most n of them.
func (m Model) open(req infer.Request, res infer.Result, first, n int, part []byte) (a answer, wins []window, logits [][]int32, proof zkml.Proof, err error) {
	if a, err = m.take(req, res); err != nil {
		return
	}
	if wins, err = a.some(first, n); err != nil {
		return
	}
	logits, proof, err = decodePart(part, rows(wins))
	return
}

// Check says whether a part proves the answer's windows from first on, at most
// n of them. It is a pure function; the model is not run.
func (m Model) Check(req infer.Request, res infer.Result, first, n int, part []byte) error {
	a, wins, logits, proof, err := m.open(req, res, first, n, part)
	if err != nil {
		return err
	}
	if err := zkml.VerifyBatch(m.Card, m.claims(a, wins, logits), proof); err != nil {
		return fmt.Errorf("%w: %w", trade.ErrProof, err)
	}
	at := wins[0].first
	for i, row := range logits {
		id, err := exact.Choose(a.req, m.LogitBits, row, at+i)
		if err != nil {
			return fmt.Errorf("%w: %w", trade.ErrProof, err)
		}
		if id != a.tokens[at+i] {
			return refused("token %d of the completion is not the one that the sampling rule takes from the proven logits", at+i)
		}
	}
	return nil
}

// Price says what Check would take at most, for the proof alone, having done
// almost nothing; rows is how many tokens the sampling rule is applied to.
func (m Model) Price(req infer.Request, res infer.Result, first, n int, part []byte) (cost zkml.Cost, said int, err error) {
	_, wins, _, proof, err := m.open(req, res, first, n, part)
	if err != nil {
		return cost, 0, err
	}
	longest := 0
	for _, w := range wins {
		longest = max(longest, w.to-w.from)
	}
	if cost, err = zkml.Price(m.Card, len(wins), longest, proof); err != nil {
		return cost, 0, fmt.Errorf("%w: %w", trade.ErrProof, err)
	}
	if len(proof) > cost.Bytes {
		return cost, 0, refused("a proof of %d bytes: at most %d are needed", len(proof), cost.Bytes)
	}
	return cost, rows(wins), nil
}
