package meter

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/torg-network/torg/square"
)

// maxDepth bounds how deep a body nests.
const maxDepth = 256

// Members reads a JSON object's own members, for readers that may differ: a
// server takes the first of two members of one name or the last, and some take
// "Max_Tokens" for "max_tokens". So that all read the same, it refuses an object
// that has a member twice, at any depth, and at the top one that differs from
// another, or from one of names, by case alone.
func Members(body []byte, names ...string) (map[string]json.RawMessage, error) {
	if !json.Valid(body) {
		var v any
		err := json.Unmarshal(body, &v)
		return nil, fmt.Errorf("request body: it is not JSON: %w", err)
	}
	members, folded := map[string]json.RawMessage{}, map[string]string{}
	for _, n := range names {
		folded[fold(n)] = n
	}
	err := walk(body, func(name string, value []byte) error {
		as, known := folded[fold(name)]
		if known && as != name {
			return fmt.Errorf("request body: %q is read as %q by some; write it so, or leave it out", square.Clip(name, 40), as)
		}
		folded[fold(name)] = name
		members[name] = value
		return nil
	})
	return members, err
}

// fold makes names alike that differ by case alone, as Go's own reader does.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case 'ſ':
			return 's'
		case '\u212a': // the sign of the kelvin
			return 'k'
		}
		return r
	}, strings.ToLower(s))
}

// level is an object or a list that a walk is inside of.
type level struct {
	names []string            // so far
	many  map[string]struct{} // the same, once there are many
	list  bool
}

// add notes a name, and reports whether it is new.
func (l *level) add(name string) bool {
	const few = 16
	if l.many != nil {
		n := len(l.many)
		l.many[name] = struct{}{}
		return len(l.many) > n
	}
	if slices.Contains(l.names, name) {
		return false
	}
	if l.names = append(l.names, name); len(l.names) > few {
		l.many = map[string]struct{}{}
		for _, n := range l.names {
			l.many[n] = struct{}{}
		}
	}
	return true
}

// walk goes through valid JSON, calls member for each of the top object's, and
// refuses what has a name twice.
func walk(b []byte, member func(name string, value []byte) error) error {
	var (
		stack []level
		key   = false // a name may follow
		name  string  // of the top object's member, and where its value begins
		begin int
	)
	ended := func(at int) error {
		if len(stack) != 1 || begin == 0 {
			return nil
		}
		v := b[begin:at]
		begin = 0
		return member(name, []byte(strings.TrimSpace(string(v))))
	}
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '{', '[':
			if len(stack) == 0 && c == '[' {
				return errNoObject
			}
			if len(stack) == maxDepth {
				return fmt.Errorf("request body: it nests deeper than %d", maxDepth)
			}
			stack = append(stack, level{list: c == '['})
			key = c == '{'
		case '}', ']':
			if err := ended(i); err != nil {
				return err
			}
			stack, key = stack[:len(stack)-1], false
		case ',':
			if err := ended(i); err != nil {
				return err
			}
			key = !stack[len(stack)-1].list
		case '"':
			end := i + 1
			for b[end] != '"' {
				if b[end] == '\\' {
					end++
				}
				end++
			}
			if key {
				var s string
				if err := json.Unmarshal(b[i:end+1], &s); err != nil {
					return fmt.Errorf("request body: %w", err)
				}
				if !stack[len(stack)-1].add(s) {
					return fmt.Errorf("request body: %q stands there twice; send it once", square.Clip(s, 40))
				}
				if key = false; len(stack) == 1 {
					name = s
				}
			}
			i = end
		case ':':
			if len(stack) == 1 {
				begin = i + 1
			}
		case ' ', '\t', '\r', '\n':
		default:
			if len(stack) == 0 {
				return errNoObject
			}
		}
		if len(stack) == 0 && b[i] == '"' {
			return errNoObject
		}
	}
	return nil
}

var errNoObject = errors.New("request body: want a JSON object")
