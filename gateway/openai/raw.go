package openai

import (
	"encoding/json"
	"errors"

	"github.com/torg-network/torg/trade/infer/meter"
)

// rawView passes an upstream server's chat and completion answers on as they
// were, under our id and with our fields.
type rawView struct {
	g     *generation
	last  json.RawMessage // the latest event that says why it finished: it will carry our fields
	usage json.RawMessage // the upstream server's
}

func (v *rawView) begin(*stream) error { return nil }

func (v *rawView) piece(s *stream, p piece) error {
	if p.raw == nil { // a server that was asked to stream and did not
		return v.plain(s, p.text)
	}
	e, err := meter.ReadEvent(p.raw)
	if err != nil {
		return err
	}
	var members struct {
		Choices []json.RawMessage `json:"choices"`
		Usage   json.RawMessage   `json:"usage"`
	}
	if err := json.Unmarshal(p.raw, &members); err != nil {
		return err
	}
	if given(members.Usage) {
		v.usage = members.Usage
	}
	if len(members.Choices) == 0 {
		return nil // the usage chunk: ours follows at the end
	}
	b, err := patch(p.raw, v.ours(nil))
	if err != nil {
		return err
	}
	if e.Finish == "" {
		return s.event("", b)
	}
	if v.last != nil {
		if err := s.event("", v.last); err != nil {
			return err
		}
	}
	v.last = b
	return nil
}

// ours is what of an event or an answer is the gateway's to say.
func (v *rawView) ours(o *outcome) map[string]any {
	set := map[string]any{"id": v.g.id, "model": v.g.asked, "usage": nil}
	if v.g.usage {
		set["usage"] = json.RawMessage("null")
	}
	if o != nil {
		p := v.g.paid(o)
		set["provider"], set["lease"], set["receipt"] = p.Provider, p.Lease, p.Receipt
	}
	return set
}

// plain makes a chunk of bare text.
func (v *rawView) plain(s *stream, text string) error {
	set := v.ours(nil)
	set["created"] = v.g.created
	choice := map[string]any{"index": 0, "finish_reason": nil}
	set["object"] = chatChunk
	if v.g.route == "completions" {
		set["object"], choice["text"] = "text_completion", text
	} else {
		choice["delta"] = map[string]string{"role": "assistant", "content": text}
	}
	set["choices"] = []any{choice}
	b, err := patch(json.RawMessage("{}"), set)
	if err != nil {
		return err
	}
	return s.event("", b)
}

func (v *rawView) end(s *stream, o *outcome) error {
	if v.last == nil {
		why := finish(o.Result.Finish)
		choice := map[string]any{"index": 0, "finish_reason": why, "delta": struct{}{}}
		object := chatChunk
		if v.g.route == "completions" {
			object = "text_completion"
			choice = map[string]any{"index": 0, "finish_reason": why, "text": ""}
		}
		b, err := patch(json.RawMessage("{}"), map[string]any{"object": object, "created": v.g.created, "choices": []any{choice}})
		if err != nil {
			return err
		}
		v.last = b
	}
	b, err := patch(v.last, v.ours(o))
	if err != nil {
		return err
	}
	if err := s.event("", b); err != nil {
		return err
	}
	if v.g.usage {
		o.usage.upstream = v.usage
		u, err := o.usage.tokens()
		if err != nil {
			return err
		}
		set := v.ours(o)
		set["usage"], set["choices"] = u, []any{}
		if b, err = patch(v.last, set); err != nil {
			return err
		}
		if err := s.event("", b); err != nil {
			return err
		}
	}
	return s.event("", []byte("[DONE]"))
}

func (v *rawView) fail(s *stream, e *Error) error { return failed(s, e) }

func (v *rawView) whole(o *outcome) ([]byte, error) {
	var members struct {
		Usage json.RawMessage `json:"usage"`
	}
	if err := json.Unmarshal(o.Signed.Body, &members); err != nil {
		return nil, errors.New("its body is not a JSON object")
	}
	if given(members.Usage) {
		o.usage.upstream = members.Usage
	}
	u, err := o.usage.tokens()
	if err != nil {
		return nil, err
	}
	set := v.ours(o)
	set["usage"] = u
	return patch(o.Signed.Body, set)
}
