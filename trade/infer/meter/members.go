package meter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds how deep a body nests.
const maxDepth = 256

// Members reads a JSON object's own members, for readers that may differ: a
// server takes the first of two members of one name or the last, and some take
// "Max_Tokens" for "max_tokens". So that all read the same, it refuses an object
// that has a member twice, at any depth, and at the top one that differs from
// another, or from one of names, by case alone.
func Members(body []byte, names ...string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("request body: want a JSON object")
	}
	members, folded := map[string]json.RawMessage{}, map[string]string{}
	for _, n := range names {
		folded[fold(n)] = n
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("request body: %w", err)
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("request body: want a JSON object")
		}
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("request body: %q stands there twice; send it once", clip(name))
		}
		if as, known := folded[fold(name)]; known && as != name {
			return nil, fmt.Errorf("request body: %q is read as %q by some; write it so", clip(name), as)
		}
		folded[fold(name)] = name
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("request body: %w", err)
		}
		if err := once(v); err != nil {
			return nil, err
		}
		members[name] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("request body: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("request body: something follows the JSON object")
	}
	return members, nil
}

// fold makes names alike that differ by case alone, as Go's own reader does.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case 'ſ':
			return 's'
		case 'K': // the sign of the kelvin
			return 'k'
		}
		return r
	}, strings.ToLower(s))
}

// once refuses an object in v that has a member twice.
func once(v []byte) error {
	if len(v) == 0 || v[0] != '{' && v[0] != '[' {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(v))
	d.UseNumber()
	type level struct {
		names map[string]bool // nil: a list
		value bool            // the next token is a value
	}
	var stack []level
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("request body: %w", err)
		}
		top := len(stack) - 1
		switch t := t.(type) {
		case json.Delim:
			if t == '}' || t == ']' {
				stack = stack[:top]
				top--
				break
			}
			if len(stack) >= maxDepth {
				return fmt.Errorf("request body: it nests deeper than %d", maxDepth)
			}
			next := level{}
			if t == '{' {
				next.names = map[string]bool{}
			}
			stack = append(stack, next)
			continue
		case string:
			if top >= 0 && stack[top].names != nil && !stack[top].value {
				if stack[top].names[t] {
					return fmt.Errorf("request body: %q stands there twice; send it once", clip(t))
				}
				stack[top].names[t], stack[top].value = true, true
				continue
			}
		}
		if top >= 0 {
			stack[top].value = false
		}
	}
}

func clip(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
