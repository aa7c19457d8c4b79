package provider

import (
	"encoding/json"
	"testing"

	"github.com/torg-network/torg/trade/infer"
	"github.com/torg-network/torg/trade/infer/meter"
	"github.com/torg-network/torg/trade/strict"
)

// FuzzSent: what goes to a server is read alike by one that takes exact names, by
// one that takes any case (as Go's reader does) and by our own, and all of them
// find the limit and the answers that were priced.
func FuzzSent(f *testing.F) {
	for _, s := range []string{
		`{"messages":[],"max_tokens":30000,"max_completion_tokens":1,"n":2.0}`, `{"prompt":["a","b"],"n_predict":9,"best_of":3,"stream":true}`,
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}]}],"options":{"seed":1},"N":1}`,
		`{"input":["a"],"max_tokens":"x","stream_options":{}}`, `{"messages":[],"model":"x\ud83d\ude00","m\u0061x_tokens":5,"tools":[{"a":{"Max_Tokens":1}}]}`,
		`{"messages":[],"max_tokens":1e3,"maxtokens":7,"num_return_sequences":4}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, stream bool) {
		job, err := meter.Read(infer.Request{Kind: infer.Opaque, Prompt: body})
		if err != nil {
			return
		}
		e := &upstreamEngine{m: Model{Name: "m"}}
		ceiling := job.Ceiling(0)
		_, set := e.sent(job.Body, stream, ceiling[1]/job.Body.Choices, nil)
		out := job.Body.Object.With(set...)
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(out, &exact); err != nil || string(exact["model"]) != `"m"` {
			t.Fatalf("%q is sent as %q: %v", body, out, err)
		}
		if job.Body.Path == meter.Embeddings { // nothing else of it has a price
			if exact["stream"] != nil {
				t.Fatalf("%q is sent as %q", body, out)
			}
			return
		}
		var anyCase struct {
			Model  string
			Stream *bool
			Limit  *float64 `json:"max_tokens"`
			Newer  *float64 `json:"max_completion_tokens"`
			N      *float64
			BestOf *float64 `json:"best_of"`
		}
		if err := json.Unmarshal(out, &anyCase); err != nil || anyCase.Model != "m" {
			t.Fatalf("%q is sent as %q: %v", body, out, err)
		}
		if _, err := strict.Read(out); err != nil {
			t.Fatalf("%q is sent as %q: %v", body, out, err)
		}
		for _, n := range meter.Foreign() {
			if exact[n] != nil {
				t.Fatalf("%q is sent as %q", body, out)
			}
		}
		said := func(exact json.RawMessage, loose *float64) float64 {
			var v float64
			if exact == nil || string(exact) == "null" {
				if loose != nil {
					t.Fatalf("%q is sent as %q", body, out)
				}
				return 0
			}
			if json.Unmarshal(exact, &v) != nil || loose == nil || *loose != v {
				t.Fatalf("%q is sent as %q", body, out)
			}
			return v
		}
		limit, newer := said(exact["max_tokens"], anyCase.Limit), said(exact["max_completion_tokens"], anyCase.Newer)
		answers := max(said(exact["n"], anyCase.N), said(exact["best_of"], anyCase.BestOf), 1)
		if job.Body.Path == meter.Completions {
			var list []json.RawMessage
			if json.Unmarshal(exact["prompt"], &list) == nil && len(list) > 0 && list[0][0] != '-' && (list[0][0] < '0' || list[0][0] > '9') {
				answers *= float64(len(list))
			}
		}
		if limit*answers > float64(ceiling[1]) || job.Body.Path == meter.Chat && newer != limit || *anyCase.Stream != stream {
			t.Fatalf("%q, of at most %v, is sent as %q", body, ceiling, out)
		}
	})
}
