package openai_test

import (
	"strings"
	"testing"
)

// A body that the gateway and a server could read in two ways reaches no seller.
func TestBodyReadTwice(t *testing.T) {
	d := open(t, nil)
	for _, body := range []string{
		`{"model":"upstream","messages":[{"role":"user","content":"x"}],"max_tokens":30000,"Max_Tokens":1}`,
		`{"model":"upstream","messages":[{"role":"user","content":"x"}],"max_tokens":30000,"max_tokens":1}`,
		`{"model":"upstream","Messages":[{"role":"user","content":"x"}]}`,
		`{"model":"upstream","model":"other","messages":[{"role":"user","content":"x"}]}`,
		`{"model":"upstream","messages":[{"role":"user","content":"x","content":"y"}]}`,
		`{"model":"upstream","messages":[{"role":"user","content":"x"}],"Provider":{"only":[]}}`,
	} {
		res, b := d.do(t, "POST", "/v1/chat/completions", body)
		if res.StatusCode != 400 || !strings.Contains(string(b), "invalid_json") {
			t.Errorf("%s: %d %s", body, res.StatusCode, b)
		}
	}
	if n := len(d.seller.Asks()); n != 0 {
		t.Errorf("%d were asked of a seller", n)
	}
	d.post(t, "/v1/chat/completions", `{"model":"upstream","messages":[{"role":"user","content":"x"}],"max_tokens":3,"tools":[{"a":{"Name":1,"name":2}}]}`)
}
