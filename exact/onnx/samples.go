package onnx

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds on samples.
const (
	maxSample  = 1 << 24 // bytes of a line
	maxSamples = 1 << 14
	maxNumbers = 1 << 26 // of all samples
)

// ReadSamples reads samples, one a line: a JSON array of numbers, however
// nested, or a text, as a JSON string or as it stands, whose bytes are tokens.
func ReadSamples(r io.Reader) ([][]float64, error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 1<<16), maxSample)
	var out [][]float64
	total := 0
	for line := 1; s.Scan(); line++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		v, err := ParseSample(s.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if total += len(v); len(out) >= maxSamples || total > maxNumbers {
			return nil, fmt.Errorf("line %d: more than %d samples or %d numbers: fewer will do", line, maxSamples, maxNumbers)
		}
		out = append(out, v)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", len(out), err)
	}
	if len(out) == 0 {
		return nil, errors.New("no samples: want one a line")
	}
	return out, nil
}

// ParseSample reads one sample.
func ParseSample(b []byte) ([]float64, error) {
	b = bytes.TrimSpace(b)
	text := b
	switch {
	case len(b) > 0 && b[0] == '[':
		return numbers(b)
	case len(b) > 0 && b[0] == '"':
		if !utf8.Valid(b) {
			return nil, errors.New("a JSON string that is no UTF-8: give the bytes as they are, without quotes, or as numbers")
		}
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("a JSON string: %w", err)
		}
		text = []byte(s)
	}
	out := make([]float64, len(text))
	for i, c := range text {
		out[i] = float64(c)
	}
	return out, nil
}

// numbers are those of a JSON array, in their order.
func numbers(b []byte) ([]float64, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	var out []float64
	depth := 0
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && depth == 0 && out != nil {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("a JSON array of numbers: %w", err)
		}
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '[':
				if out != nil && depth == 0 {
					return nil, errors.New("more than one array")
				}
				depth++
				if out == nil {
					out = []float64{}
				}
			case ']':
				depth--
			default:
				return nil, errors.New("an object, want an array of numbers")
			}
			if depth > maxRank {
				return nil, fmt.Errorf("arrays nested more than %d deep", maxRank)
			}
		case float64:
			if depth == 0 {
				return nil, errors.New("a number after the array")
			}
			out = append(out, t)
		default:
			return nil, fmt.Errorf("%v, want numbers", t)
		}
	}
}
