package meter

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// What two readers could read differently is refused; anything else is read as
// encoding/json reads it.
func TestMembers(t *testing.T) {
	for _, body := range []string{
		`{"max_tokens":30000,"Max_Tokens":1}`, `{"MAX_TOKENS":1}`, `{"max_tokens":1,"max_tokens":1}`, "{\"max_token\u017f\":1}",
		`{"max_tokens":1,"max_tok\u0065ns":2}`, `{"a":1,"A":2}`, `{"x":[{"y":1,"z":{},"y":2}]}`, `{"x":{"\u0079":1,"y":2}}`,
		`[]`, `"a"`, `1`, `null`, ``, `{}{}`, `{"a":1}x`, `{"a":`, strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300),
		`{"x":{` + many(20) + `,"k7":1}}`,
	} {
		if m, err := Members([]byte(body), "max_tokens"); err == nil {
			t.Errorf("%.80s is read as %v", body, m)
		}
	}
	for _, body := range []string{
		`{}`, ` { "max_tokens" : 1 , "b":[1,{"c":"}\",{"}] } `, `{"messages":[{"role":"a"},{"role":"a"}],"tools":[{"p":{"Name":1,"name":2}}]}`,
		`{"x":{` + many(20) + `}}`, `{"a":"\\","b":"\"","":[]}`, `{"a":[[],{},[{}]]}`,
	} {
		m, err := Members([]byte(body), "max_tokens")
		var want map[string]json.RawMessage
		if json.Unmarshal([]byte(body), &want) != nil || err != nil || !reflect.DeepEqual(m, want) {
			t.Errorf("%s is read as %s, %v; want %s", body, m, err, want)
		}
	}
}

func many(n int) string {
	var s []string
	for i := range n {
		s = append(s, `"k`+string(rune('0'+i%10))+strings.Repeat("x", i/10)+`":`+`1`)
	}
	return strings.Join(s, ",")
}

func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{"a":1,"A":2}`, `{"x":[{"y":1,"y":2}]}`, ` {"a":"\\"} `, `[{}]`, `"{"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Members(body, "max_tokens")
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil || len(want) != len(m) {
			t.Fatalf("%q: %v, as %v", body, m, err)
		}
		for k, v := range want {
			if string(m[k]) != string(v) {
				t.Fatalf("%q: %q is %q, want %q", body, k, m[k], v)
			}
		}
	})
}

// BenchmarkMembers is what reading a large body strictly takes.
func BenchmarkMembers(b *testing.B) {
	body := []byte(`{"messages":[` + strings.Repeat(`{"role":"user","content":"`+strings.Repeat("some words ", 40)+`"},`, 2000) + `{"role":"user","content":""}],"max_tokens":1}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := Members(body, priced...); err != nil {
			b.Fatal(err)
		}
	}
}
