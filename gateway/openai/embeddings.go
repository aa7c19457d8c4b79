package openai

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"

	"github.com/torg-network/torg/exact"
	"github.com/torg-network/torg/square"
	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/buyer"
)

// MaxInputs bounds the texts of one embeddings request.
const MaxInputs = 256

type embeddingsRequest struct {
	Model      string          `json:"model"`
	Input      json.RawMessage `json:"input"`
	Format     string          `json:"encoding_format"`
	Dimensions *int            `json:"dimensions"`
	Provider   *routing        `json:"provider"`
}

// embeddings are unit vectors, so that their dot product is their cosine, as
// OpenAI's are. Each text of an exact model is a request of its own with a
// receipt of its own.
func (h *Handler) embeddings(w http.ResponseWriter, r *http.Request) error {
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	var q embeddingsRequest
	o, err := read(body, &q)
	if err != nil {
		return err
	}
	g, err := h.open(r, "embeddings", "", o.Without("stream", "stream_options"))
	if err != nil {
		return err
	}
	if !o.Get("input").Given() {
		return invalid("input", "input: is missing")
	}
	if !g.model.Exact {
		if err := g.opaque(o); err != nil {
			return err
		}
		return h.generate(w, r, g, &rawView{g: g})
	}
	if err := fields(body, &q); err != nil {
		return err
	}
	switch {
	case q.Format != "" && q.Format != "float" && q.Format != "base64":
		return invalid("encoding_format", "encoding_format: %q: want \"float\" or \"base64\"", square.Clip(q.Format, 80))
	}
	if q.Dimensions != nil {
		return unsupported("dimensions", "dimensions: this model's vectors have the length they have; leave it out")
	}
	inputs, err := texts("input", q.Input)
	if err != nil {
		return err
	}
	if len(inputs) == 0 || len(inputs) > MaxInputs {
		return invalid("input", "input: %d texts: want 1 to %d", len(inputs), MaxInputs)
	}
	asks := make([]buyer.Ask, len(inputs))
	for i, t := range inputs {
		switch {
		case t == "":
			return invalid("input", "input[%d]: is empty", i)
		case len(t) > infer.MaxPrompt:
			return invalid("input", "input[%d]: %d bytes: at most %d", i, len(t), infer.MaxPrompt)
		}
		asks[i] = g.ask
		asks[i].Request = infer.Request{Kind: infer.Embed, Prompt: []byte(t)}
	}
	return h.embed(w, r, g, asks, q.Format == "base64")
}

func (h *Handler) embed(w http.ResponseWriter, r *http.Request, g *generation, asks []buyer.Ask, packed bool) error {
	q, err := h.begin(r, g, asks...)
	if err != nil {
		return err
	}
	defer q.done()
	type item struct {
		Object    string `json:"object"`
		Index     int    `json:"index"`
		Embedding any    `json:"embedding"`
		Receipt   string `json:"receipt"`
	}
	data := make([]item, len(asks))
	var last buyer.Answer
	for i, a := range asks {
		answer, err := q.do(a, func(infer.Delta) error { return nil })
		if err != nil {
			return err
		}
		vec := exact.Unit(answer.Result.Vector)
		data[i] = item{"embedding", i, vec, answer.Receipt.String()}
		if packed {
			data[i].Embedding = pack(vec)
		}
		last = answer
	}
	last.Cost = q.event.Cost
	u, err := usage{prompt: q.event.Prompt, cost: last.Cost}.tokens()
	if err != nil {
		return err
	}
	setPaid(w.Header(), last)
	return writeJSON(w, struct {
		Object string          `json:"object"`
		Data   []item          `json:"data"`
		Model  string          `json:"model"`
		Usage  json.RawMessage `json:"usage"`
		paid
	}{"list", data, g.asked, u, g.paid(&outcome{Answer: last})})
}

// pack is OpenAI's base64 form: little-endian float32.
func pack(v []float32) string {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(b)
}
