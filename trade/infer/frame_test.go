package infer

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/torg-network/torg/trade/wire"
)

var sampleFrames = []Frame{
	{Start: &Start{Cancel: "secret"}},
	{Delta: &Delta{}},
	{Delta: &Delta{Text: "a \"quoted\" <word>\n\u2028é\x01", Tokens: 3}},
	{Delta: &Delta{Raw: []byte(`{"choices":[]}`)}},
	{Delta: &Delta{Text: "x", Tokens: 1, Logprobs: []Logprob{{Token: "x", Logprob: -0.5, Top: []Logprob{{Token: "y", Logprob: -2}}}}, Raw: []byte{0, 255, 10}}},
	{Receipt: &wire.Signed{Result: []byte("result")}},
	{Error: &wire.Refusal{Code: wire.CodeBusy, Message: "busy"}},
}

// A frame is the JSON that encoding/json makes and reads, also where it is written
// by hand.
func TestFrames(t *testing.T) {
	for _, f := range sampleFrames {
		line, err := AppendFrame([]byte("before"), f)
		if err != nil {
			t.Fatal(err)
		}
		line = bytes.TrimPrefix(line, []byte("before"))
		if n := bytes.IndexByte(line, '\n'); n != len(line)-1 {
			t.Errorf("%q is no line", line)
		}
		theirs, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var byJSON Frame
		if err := json.Unmarshal(line, &byJSON); err != nil || !reflect.DeepEqual(byJSON, f) {
			t.Errorf("%s reads as %+v, %v", line, byJSON, err)
		}
		for _, l := range [][]byte{line, theirs} {
			got, err := ReadFrame(bytes.Clone(l))
			if err != nil || !reflect.DeepEqual(got, f) {
				t.Errorf("%s: %+v, %v; want %+v", l, got, err, f)
			}
		}
	}
	for line, names := range map[string]string{
		``: "JSON", `{`: "JSON", `{"delta":`: "JSON", `{"delta":{"text":"a","text":"b"}}`: "twice", `{"delta":{},"receipt":{}}`: "one member",
		`{"delta":7}`: "object", `{"delta":null}`: "object", `{"delta":{"text":7}}`: "text", `{"delta":{"tokens":-1}}`: "tokens", `{"delta":{"tokens":1.5}}`: "tokens",
		`{"delta":{"raw":"!"}}`: "raw", `{"delta":{"raw":[1]}}`: "raw", `{"delta":{"logprobs":{}}}`: "logprobs", `{"delta":{"text":"a"}}{}`: "JSON",
	} {
		if f, err := ReadFrame([]byte(line)); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %+v, %v; want %q named", line, f, err, names)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, fr := range sampleFrames {
		line, err := AppendFrame(nil, fr)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"delta":{"raw":"e\/\/9","text":"\ud83d\ude00","other":1}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		fr, err := ReadFrame(line)
		if err != nil {
			return
		}
		var byJSON Frame
		if err := json.Unmarshal(line, &byJSON); err != nil {
			t.Fatalf("%q is a frame and no JSON: %v", line, err)
		}
		again, err := AppendFrame(nil, fr)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFrame(again); err != nil || fr.Delta != nil && (got.Delta == nil || got.Delta.Text != fr.Delta.Text || !bytes.Equal(got.Delta.Raw, fr.Delta.Raw)) {
			t.Fatalf("%q became %q: %v", line, again, err)
		}
	})
}
