package infer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/torg-network/torg/trade/strict"
)

// deltaFrame is how a frame with a piece of an answer begins. An answer has many of
// these and one of each other, so they are written and read by hand.
const deltaFrame = `{"delta":`

// AppendFrame appends a frame's line, with the newline.
func AppendFrame(to []byte, f Frame) ([]byte, error) {
	if f.Delta == nil || f.Start != nil || f.Receipt != nil || f.Error != nil {
		b, err := json.Marshal(f)
		return append(append(to, b...), '\n'), err
	}
	to = append(to, deltaFrame...)
	at := len(to)
	name := func(n string) {
		to = append(append(append(to, ",\""...), n...), "\":"...)
	}
	d := f.Delta
	if d.Text != "" {
		name("text")
		to = strict.AppendQuoted(to, d.Text)
	}
	if d.Tokens != 0 {
		name("tokens")
		to = strconv.AppendInt(to, int64(d.Tokens), 10)
	}
	if len(d.Logprobs) > 0 {
		b, err := json.Marshal(d.Logprobs)
		if err != nil {
			return nil, err
		}
		name("logprobs")
		to = append(to, b...)
	}
	if len(d.Raw) > 0 {
		name("raw")
		to = append(base64.StdEncoding.AppendEncode(append(to, '"'), d.Raw), '"')
	}
	if len(to) == at {
		to = append(to, ' ')
	}
	to[at] = '{' // where the first comma stands
	return append(to, "}}\n"...), nil
}

// ReadFrame reads a frame's line. The line may be written over afterwards.
func ReadFrame(line []byte) (f Frame, err error) {
	if !bytes.HasPrefix(line, []byte(deltaFrame)) {
		if err := json.Unmarshal(line, &f); err != nil {
			return Frame{}, fmt.Errorf("a frame is no JSON: %w", err)
		}
		return f, nil
	}
	o, err := strict.Read(line)
	if err != nil {
		return Frame{}, fmt.Errorf("a frame is no JSON: %w", err)
	}
	if len(o) != 1 || o[0].Value.Kind() != '{' {
		return Frame{}, errors.New("a frame has one member, and a delta is an object")
	}
	f.Delta = &Delta{}
	for name, v := range o[0].Value.Members() {
		if err := f.Delta.take(name, v); err != nil {
			return Frame{}, fmt.Errorf("a frame's %.40q: %w", name, err)
		}
	}
	return f, nil
}

var errKind = errors.New("it is of another kind")

func (d *Delta) take(name []byte, v strict.Value) (err error) {
	if !v.Given() {
		return nil
	}
	ok := true
	switch string(name) {
	case "text":
		d.Text, ok = v.Text()
	case "tokens":
		n, counts := v.Count()
		d.Tokens, ok = int(n), counts && n <= math.MaxInt32
	case "logprobs":
		return json.Unmarshal(v, &d.Logprobs)
	case "raw":
		if ok = v.Kind() == '"'; ok {
			in := []byte(v[1 : len(v)-1])
			if bytes.IndexByte(in, '\\') >= 0 {
				in = v.AppendText(nil)
			}
			d.Raw, err = base64.StdEncoding.AppendDecode(nil, in)
		}
	}
	if !ok {
		return errKind
	}
	return err
}
