package strict

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func many(n int) string {
	var s []string
	for i := range n {
		s = append(s, `"k`+strconv.Itoa(i)+`":1`)
	}
	return strings.Join(s, ",")
}

// What two readers could read differently is refused; anything else is read as
// encoding/json reads it.
func TestRead(t *testing.T) {
	for _, body := range []string{
		`{"max_tokens":30000,"Max_Tokens":1}`, `{"max_tokens":1,"max_tokens":1}`, "{\"max_tokens\":1,\"max_token\u017f\":1}",
		`{"max_tokens":1,"max_tok\u0065ns":2}`, `{"a":1,"A":2}`, `{"x":[{"y":1,"z":{},"y":2}]}`, `{"x":{"\u0079":1,"y":2}}`,
		`[]`, `"a"`, `1`, `null`, ``, ` `, `{}{}`, `{"a":1}x`, `{"a":`, `{"a"`, `{"a":1,}`, `{"a":[1,]}`, `{a:1}`, `{"a":01}`, `{"a":1.}`, `{"a":1e}`, `{"a":-}`,
		`{"a":tru}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":"\u12"`, "{\"a\":\"\n\"}", "{\"a\":\"\xff\"}", "{\"\xc0\xaf\":1}", `{"a":"\`, `{"a":NaN}`, `{"a":+1}`,
		`{"a":"\ud83d"}`, `{"a":"\ude00"}`, `{"a":"\ud83d\u0041"}`, `{"a":"\ud83dx"}`, `{"\ud83d":1}`,
		strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), `{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
		`{"x":{` + many(80) + `,"k7":1}}`, `{` + many(300) + `}`, `{"":1,"":2}`,
	} {
		if o, err := Read([]byte(body)); err == nil {
			t.Errorf("%.80q is read as %s", body, o)
		}
	}
	for _, body := range []string{
		`{}`, ` { "max_tokens" : 1 , "b":[1,{"c":"}\",{"}] } `, `{"messages":[{"role":"a"},{"role":"a"}],"tools":[{"p":{"Name":1,"name":2}}]}`,
		`{"x":{` + many(80) + `}}`, `{"a":"\\","b":"\"","":[]}`, `{"a":[[],{},[{}]],"b":-0.5e+10,"c":[true,false,null]}`, `{"a":"\ud83d\ude00 é 日本 \u00e9\/"}`,
		`{"\u0061b":1}`, `{` + many(256) + `}`,
	} {
		o, err := Read([]byte(body))
		var want map[string]json.RawMessage
		if uerr := json.Unmarshal([]byte(body), &want); uerr != nil || err != nil || len(o) != len(want) {
			t.Errorf("%.80s is read as %s, %v; want %s, %v", body, o, err, want, uerr)
		}
		for n, v := range want {
			if !bytes.Equal(o.Get(n), v) {
				t.Errorf("%.80s: %q is %s, want %s", body, n, o.Get(n), v)
			}
		}
	}
}

// Halves of a pair, which a server may stream apart, are no reason to lose an
// answer.
func TestReadAnswer(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":"x\ud83d"}`: "x\ufffd", `{"a":"\ude00y"}`: "\ufffdy", `{"a":"\ud83d\u0041"}`: "\ufffdA", `{"a":"\ud83d\ud83d\ude00"}`: "\ufffd\U0001f600",
	} {
		o, err := ReadAnswer([]byte(body))
		if got, _ := o.Get("a").Text(); err != nil || got != want {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
	if _, err := ReadAnswer([]byte(`{"a":1,"a":2}`)); err == nil {
		t.Error("a name that stands there twice is read")
	}
}

func TestWith(t *testing.T) {
	o, err := Read([]byte(` { "b" : [1, 2] ,"provider":{"only":[]},"a\"":"x", "stream":null}`))
	if err != nil {
		t.Fatal(err)
	}
	got := o.With(Member{"model", Quoted("m\n\"")}, Member{"provider", nil}, Member{"stream", Bool(true)}, Member{"none", nil}, Member{"n", Number(7)})
	if want := `{"b":[1, 2],"a\"":"x","stream":true,"model":"m\u000a\"","n":7}`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	if again := o.With(); !json.Valid(again) {
		t.Errorf("%s", again)
	}
}

func TestCount(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "11": 11, "11.0": 11, "1e2": 100, "4294967295": 1<<32 - 1, "-0": 0} {
		if n, ok := Value(text).Count(); !ok || n != want {
			t.Errorf("%s: %d %v", text, n, ok)
		}
	}
	for _, text := range []string{"-1", "11.5", "4294967296", "1e400", `"11"`, "null", "true", "[]", "{}", ""} {
		if n, ok := Value(text).Count(); ok {
			t.Errorf("%s: %d", text, n)
		}
	}
}

// tree is a value as encoding/json gives it, built by walking.
func tree(v Value) any {
	switch v.Kind() {
	case '{':
		m := map[string]any{}
		for n, x := range v.Members() {
			m[string(n)] = tree(x)
		}
		return m
	case '[':
		l := []any{}
		for x := range v.Elements() {
			l = append(l, tree(x))
		}
		return l
	case '"':
		s, _ := v.Text()
		return s
	case 't', 'f':
		return v[0] == 't'
	case 'n':
		return nil
	}
	return json.Number(v)
}

// FuzzRead: what is read is what encoding/json reads, written again it reads the
// same, and nothing that has no UTF-8 or no JSON is read.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"A":2}`, `{"x":[{"y":1,"y":2}]}`, ` {"a":"\\"} `, `[{}]`, `"{"`, `{"a":"\ud83d\ude00\n","b":[1.5e3,-0,true,null,{"c":{}}]}`,
		`{"max_tokens":30000,"Max_Tokens":1}`, `{"\u0061":"\u00e9\"","b" : [ ] }`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := Read(body)
		if loose, lerr := ReadAnswer(body); err == nil && lerr != nil {
			t.Fatalf("%q: %v", body, lerr)
		} else if err != nil && lerr == nil {
			o, err = loose, nil
		}
		if err != nil {
			return
		}
		if !utf8.Valid(body) {
			t.Fatalf("%q is read and is not UTF-8", body)
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		want := map[string]any{}
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		got := map[string]any{}
		for _, m := range o {
			got[m.Name] = tree(m.Value)
			if s, ok := m.Value.Text(); ok && m.Value.Plain() != len(s)+2 {
				t.Fatalf("%s has %d plain bytes, %q", m.Value, m.Value.Plain(), s)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %v, want %v", body, got, want)
		}
		again, err := ReadAnswer(o.With())
		if err != nil || !slices.EqualFunc(o, again, func(a, b Member) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }) {
			t.Fatalf("%q is written %q: %v", body, o.With(), err)
		}
	})
}

// BenchmarkRead is what reading a large body strictly takes, BenchmarkReadEvent a
// streamed event.
func BenchmarkRead(b *testing.B) {
	body := []byte(`{"messages":[` + strings.Repeat(`{"role":"user","content":"`+strings.Repeat("some words ", 40)+`"},`, 2000) + `{"role":"user","content":""}],"max_tokens":1}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadEvent(b *testing.B) {
	body := []byte(`{"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"some-model","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":"Hello"},"logprobs":null,"finish_reason":null}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(body); err != nil {
			b.Fatal(err)
		}
	}
}
