package openai

import (
	"encoding/json"
	"errors"

	"github.com/torg-network/torg/trade/strict"
)

// rawView passes an upstream server's chat and completion answers on as they
// were, under our id and with our fields.
type rawView struct {
	g    *generation
	last strict.Object // the latest event that says why it finished: it will carry our fields
}

func (v *rawView) begin(*stream) error { return nil }

func (v *rawView) piece(s *stream, p piece) error {
	if p.event == nil { // a server that was asked to stream and did not
		return v.plain(s, p.text)
	}
	if p.event.Choices == 0 {
		return nil // the usage chunk: ours follows at the end
	}
	if p.event.Finish == "" {
		return s.event("", p.event.Object.With(v.ours(nil)...))
	}
	if v.last != nil {
		if err := s.event("", v.last.With(v.ours(nil)...)); err != nil {
			return err
		}
	}
	v.last = p.event.Object
	return nil
}

// ours is what of an event or an answer is the gateway's to say.
func (v *rawView) ours(o *outcome) []strict.Member {
	set := []strict.Member{{Name: "id", Value: strict.Quoted(v.g.id)}, {Name: "model", Value: strict.Quoted(v.g.asked)}, {Name: "usage"}}
	if v.g.usage {
		set[2].Value = strict.Value("null")
	}
	if v.g.route == "embeddings" { // they have no id
		set[0].Value = nil
	}
	if o != nil {
		p := v.g.paid(o)
		set = append(set, strict.Member{Name: "provider", Value: strict.Quoted(p.Provider)},
			strict.Member{Name: "lease", Value: strict.Quoted(p.Lease)}, strict.Member{Name: "receipt", Value: strict.Quoted(p.Receipt)})
	}
	return set
}

// chunk makes an event of our own: of bare text, or of an end.
func (v *rawView) chunk(text string, why *string) (strict.Object, error) {
	choice := map[string]any{"index": 0, "finish_reason": why}
	object := chatChunk
	switch {
	case v.g.route == "completions":
		object, choice["text"] = "text_completion", text
	case why != nil:
		choice["delta"] = struct{}{}
	default:
		choice["delta"] = map[string]string{"role": "assistant", "content": text}
	}
	b, err := json.Marshal([]any{choice})
	if err != nil {
		return nil, err
	}
	return strict.Object{{Name: "object", Value: strict.Quoted(object)}, {Name: "created", Value: strict.Number(uint64(v.g.created))}, {Name: "choices", Value: b}}, nil
}

// plain sends a chunk of bare text.
func (v *rawView) plain(s *stream, text string) error {
	c, err := v.chunk(text, nil)
	if err != nil {
		return err
	}
	return s.event("", c.With(v.ours(nil)...))
}

func (v *rawView) end(s *stream, o *outcome) error {
	if v.last == nil {
		why := finish(o.Result.Finish)
		var err error
		if v.last, err = v.chunk("", &why); err != nil {
			return err
		}
	}
	if err := s.event("", v.last.With(v.ours(o)...)); err != nil {
		return err
	}
	if v.g.usage {
		u, err := o.usage.tokens()
		if err != nil {
			return err
		}
		set := append(v.ours(o), strict.Member{Name: "choices", Value: strict.Value("[]")})
		set[2].Value = strict.Value(u)
		if err := s.event("", v.last.With(set...)); err != nil {
			return err
		}
	}
	return s.event("", []byte("[DONE]"))
}

func (v *rawView) fail(s *stream, e *Error) error { return failed(s, e) }

func (v *rawView) whole(o *outcome) ([]byte, error) {
	if o.body == nil {
		return nil, errors.New("it has no body")
	}
	u, err := o.usage.tokens()
	if err != nil {
		return nil, err
	}
	set := v.ours(o)
	set[2].Value = strict.Value(u)
	return o.body.Object.With(set...), nil
}
