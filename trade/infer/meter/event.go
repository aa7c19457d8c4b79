package meter

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/strict"
)

// ReadEvent reads one streamed event, or one whole answer: the two differ in
// where a choice keeps its message. Buyer and provider both read events with it:
// the text of a streamed opaque result is the events' Text joined. raw must not
// be changed after.
func ReadEvent(raw []byte) (*infer.Event, error) {
	o, err := strict.ReadAnswer(raw)
	if err != nil {
		return nil, fmt.Errorf("not an event: %w", err)
	}
	e := &infer.Event{Object: o, Usage: usage(o.Get("usage"))}
	choices := o.Get("choices")
	if e.Err = failure(o, choices); e.Err != "" {
		return e, nil
	}
	var text, said []byte // said is nil while it is all of text
	add := func(v []byte, isSaid bool) {
		if len(v) == 0 {
			return
		}
		if !isSaid && said == nil {
			said = append(make([]byte, 0, 64), text...)
		}
		if text = append(text, v...); isSaid && said != nil {
			said = append(said, v...)
		}
	}
	var buf [256]byte
	for c := range choices.Elements() {
		e.Choices++
		for name, v := range c.Members() {
			switch string(name) {
			case "delta", "message":
				message(v, add)
			case "text":
				add(v.AppendText(buf[:0]), true)
			case "finish_reason":
				if f, _ := v.Text(); f != "" {
					e.Finish = f
				}
			}
		}
	}
	e.Text = string(text)
	if e.Said = e.Text; said != nil {
		e.Said = string(said)
	}
	return e, nil
}

// message adds everything a message says, in this order: reasoning, content,
// refusal, calls, and what it says aloud. Servers that give reasoning under two
// names give it twice; once counts.
func message(m strict.Value, add func([]byte, bool)) {
	var reasoning, content, refusal strict.Value
	var rest [4]strict.Value
	for name, v := range m.Members() {
		switch string(name) {
		case "reasoning", "reasoning_content", "thinking":
			if reasoning == nil || reasoning.Kind() != '"' {
				reasoning = v
			} else if v.Kind() == '"' && !bytes.Equal(v, reasoning) {
				rest[0] = v
			}
		case "content":
			content = v
		case "refusal":
			refusal = v
		case "function_call":
			rest[1] = v
		case "tool_calls":
			rest[2] = v
		case "audio":
			rest[3] = v
		}
	}
	var buf [256]byte
	add(reasoning.AppendText(buf[:0]), false)
	add(rest[0].AppendText(buf[:0]), false)
	add(content.AppendText(buf[:0]), true)
	for part := range content.Elements() {
		add(part.Get("text").AppendText(buf[:0]), true)
		add(part.Get("refusal").AppendText(buf[:0]), false)
	}
	add(refusal.AppendText(buf[:0]), false)
	for _, v := range rest[1:] {
		if v.Given() && !slices.Contains([]string{"[]", "{}"}, string(v)) {
			add(v, false)
		}
	}
}

// usage reads what a server says it used.
func usage(v strict.Value) *infer.Usage {
	if v.Kind() != '{' {
		return nil // null, a list, a word: no usage
	}
	count := func(name string) int64 {
		if n, ok := v.Get(name).Count(); ok {
			return int64(n)
		}
		return -1
	}
	return &infer.Usage{Prompt: count("prompt_tokens"), Completion: count("completion_tokens")}
}

// failure is a server's own error, in today's shape or in older ones:
// {"error":"…"}, {"error":{"message":"…"}}, {"object":"error","message":"…"}.
func failure(o strict.Object, choices strict.Value) string {
	said := func(v strict.Value) string {
		if text, ok := v.Text(); ok && text != "" {
			return text
		}
		if v.Given() {
			return string(v)
		}
		return "unnamed error"
	}
	v := o.Get("error")
	switch {
	case v.Given():
		if m, _ := v.Get("message").Text(); m != "" {
			return m
		}
		return said(v)
	case o.Get("object").Is("error"):
		return said(o.Get("message"))
	case choices == nil && o.Get("data") == nil && (o.Get("message").Given() || o.Get("detail").Given()):
		if m := o.Get("message"); m.Given() {
			return said(m)
		}
		return said(o.Get("detail"))
	}
	return ""
}

// EventOf is the event of a piece of an answer; nil where the piece is text. Who
// has read it has put it there.
func EventOf(d infer.Delta) (*infer.Event, error) {
	if d.Event != nil || d.Raw == nil {
		return d.Event, nil
	}
	return ReadEvent(d.Raw)
}
