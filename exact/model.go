package exact

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
)

const magic = "torgexa1"

// Card is what a model file says about its program.
type Card struct {
	Name string // 1 to 64 bytes of a-z 0-9 . -
	// Text says that the program is a byte-level language model: input one
	// byte a row, output 0 the logits of the next byte, output 1, if there
	// is one, the hidden state that Embed averages.
	Text bool
	// LogitBits is the number of fractional bits of a logit: l means
	// l/2^LogitBits nats. At most 16; 0 if not Text.
	LogitBits int
}

// Model is a program ready to run, safe for concurrent use.
type Model struct {
	card   Card
	digest [32]byte
	plan   *plan
	decode batcher
}

// Encode returns the model file of a program: the magic "torgexa1", the name
// (length u8, bytes), flags u8 (1 if Text), logit bits u8, and the program.
// The encoding is canonical: one program and card have one file.
func Encode(card Card, p *Program) ([]byte, error) {
	if _, err := newModel(card, p, [32]byte{}); err != nil {
		return nil, err
	}
	b := append([]byte(magic), byte(len(card.Name)))
	b = append(b, card.Name...)
	flags := byte(0)
	if card.Text {
		flags = 1
	}
	b = append(b, flags, byte(card.LogitBits))
	b = p.append(b)
	if len(b) > MaxEncoded {
		return nil, fmt.Errorf("exact: model file of %d bytes", len(b))
	}
	return b, nil
}

// Load reads a model file and proves its bounds. Memory and time are bounded
// by the length of the file.
func Load(file []byte) (*Model, error) {
	if len(file) > MaxEncoded {
		return nil, fmt.Errorf("exact: model file of %d bytes", len(file))
	}
	r := &reader{b: file}
	if string(r.take(len(magic))) != magic {
		return nil, errors.New("exact: not a model file")
	}
	card := Card{Name: string(r.take(int(r.u8())))}
	flags := r.u8()
	card.Text = flags == 1
	card.LogitBits = int(r.u8())
	if r.failed {
		return nil, errCut
	}
	if flags > 1 {
		return nil, fmt.Errorf("exact: unknown flags %#x", flags)
	}
	p, err := r.program()
	if err != nil {
		return nil, err
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("exact: %d bytes after the end", len(r.b))
	}
	return newModel(card, p, sha256.Sum256(file))
}

func newModel(card Card, p *Program, digest [32]byte) (*Model, error) {
	if len(card.Name) < 1 || len(card.Name) > 64 {
		return nil, errors.New("exact: name must have 1 to 64 characters")
	}
	for _, c := range card.Name {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-') {
			return nil, fmt.Errorf("exact: name %q: want a-z, 0-9, dot and dash", card.Name)
		}
	}
	if card.LogitBits < 0 || card.LogitBits > 16 || !card.Text && card.LogitBits != 0 {
		return nil, fmt.Errorf("exact: %d logit bits", card.LogitBits)
	}
	pl, err := compile(p)
	if err != nil {
		return nil, err
	}
	if card.Text {
		if !p.Causal() {
			return nil, errors.New("exact: a text model is continued row by row, so it must not have fullattention or meanrows: make it a model without text")
		}
		for i, op := range p.Ops {
			if op.Kind == Input && (pl.facts[i] != Facts{1, Range{0, 255}}) {
				return nil, errors.New("exact: a text model takes one byte a row")
			}
		}
		if pl.facts[p.Outputs[0]].Cols != 256 {
			return nil, errors.New("exact: a text model gives 256 logits")
		}
		if p.Rows < 2 || p.Rows%2 != 0 {
			return nil, errors.New("exact: a text model has an even context")
		}
	}
	m := &Model{card: card, digest: digest, plan: pl}
	m.decode.init()
	return m, nil
}

// Digest is the SHA-256 of the model file: the model's identity.
func (m *Model) Digest() [32]byte { return m.digest }

// Card is what the file says about the model.
func (m *Model) Card() Card { return m.card }

// Name is the model's name.
func (m *Model) Name() string { return m.card.Name }

// Context is how many positions the program can see at once.
func (m *Model) Context() int { return m.plan.prog.Rows }

// Program is the model's program. It must not be changed.
func (m *Model) Program() *Program { return m.plan.prog }

// Run computes the outputs of a whole sequence with the engine, each
// [rows][columns]; it equals Program.Interpret.
func (m *Model) Run(input [][]int32) ([][][]int32, error) {
	return m.RunEnv(Env{}, input)
}

// RunEnv is Run in an environment.
func (m *Model) RunEnv(env Env, input [][]int32) ([][][]int32, error) {
	if err := env.Check(); err != nil {
		return nil, err
	}
	pl := m.plan
	if len(input) == 0 || len(input) > pl.prog.Rows {
		return nil, fmt.Errorf("exact: %d rows of input, want 1 to %d", len(input), pl.prog.Rows)
	}
	for i, op := range pl.prog.Ops {
		if op.Kind != Input {
			continue
		}
		for t, r := range input {
			if len(r) != pl.facts[i].Cols {
				return nil, fmt.Errorf("exact: input row %d has %d columns", t, len(r))
			}
			for _, e := range r {
				if int64(e) < op.Params[1] || int64(e) > op.Params[2] {
					return nil, fmt.Errorf("exact: input %d outside [%d, %d]", e, op.Params[1], op.Params[2])
				}
			}
		}
	}
	ws := pl.spare.Get().(*workspace)
	defer pl.spare.Put(ws)
	seq := pl.newSequence()
	seq.env = env
	outs := make([][][]int32, len(pl.prog.Outputs))
	for at := 0; at < len(input); at += pl.chunk {
		ws.rows = ws.rows[:0]
		for t := at; t < min(len(input), at+pl.chunk); t++ {
			ws.rows = append(ws.rows, row{seq, t, input[t]})
		}
		pl.run(ws, ws.rows)
		for o := range outs {
			for r := range ws.rows {
				outs[o] = append(outs[o], append([]int32(nil), pl.output(ws, o, r)...))
			}
		}
	}
	clear(ws.rows)
	return outs, nil
}

// feed runs tokens as the next rows of seq and calls see, if not nil, after
// each chunk with the number (in the sequence) of its first row and how many
// rows it had.
func (m *Model) feed(ws *workspace, seq *sequence, tokens []byte, see func(first, n int)) {
	for len(tokens) > 0 {
		n := min(len(tokens), m.plan.chunk)
		ws.rows = ws.rows[:0]
		first := seq.n
		for i, t := range tokens[:n] {
			ws.tokens[i] = int32(t)
			ws.rows = append(ws.rows, row{seq, first + i, ws.tokens[i : i+1]})
		}
		m.plan.run(ws, ws.rows)
		if see != nil {
			see(first, n)
		}
		tokens = tokens[n:]
	}
	clear(ws.rows)
}

// ErrNoText is returned by text functions of a model that is not Text.
var ErrNoText = errors.New("exact: not a text model")

// MaxText bounds prompts and texts to embed, in bytes.
const MaxText = 1 << 20

// Embed returns the mean of the hidden states (output 1) over the text, taken
// in windows of one context, each element the floor of the mean plus one
// half. Unit turns it into the customary vector of length one.
func (m *Model) Embed(text []byte) ([]int32, error) {
	if !m.card.Text || len(m.plan.prog.Outputs) < 2 {
		return nil, ErrNoText
	}
	if len(text) == 0 || len(text) > MaxText {
		return nil, fmt.Errorf("exact: text of %d bytes, want 1 to %d", len(text), MaxText)
	}
	ws := m.plan.spare.Get().(*workspace)
	defer m.plan.spare.Put(ws)
	sums := make([]int64, m.plan.facts[m.plan.prog.Outputs[1]].Cols)
	for rest := text; len(rest) > 0; {
		n := min(len(rest), m.Context())
		m.feed(ws, m.plan.newSequence(), rest[:n], func(_, rows int) {
			for r := range rows {
				for j, e := range m.plan.output(ws, 1, r) {
					sums[j] += int64(e)
				}
			}
		})
		rest = rest[n:]
	}
	out := make([]int32, len(sums))
	for j, s := range sums {
		out[j] = int32(mean(s, len(text)))
	}
	return out, nil
}

// Unit scales v to Euclidean length one (zero stays zero).
func Unit(v []int32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	out := make([]float32, len(v))
	if sum == 0 {
		return out
	}
	f := 1 / math.Sqrt(sum)
	for i, x := range v {
		out[i] = float32(float64(x) * f)
	}
	return out
}
