package zkml

import (
	"bytes"
	"slices"
	"testing"

	"github.com/torg-network/torg/zkml/koala"
)

// TestPack: what is packed is found again, and nothing else has that encoding.
func TestPack(t *testing.T) {
	for _, x := range [][]int64{
		{0}, {5, 5, 5}, {-1, 0, 1}, {1 << 20, -3, 7, 0, 9}, {koala.P / 2, -(koala.P / 2)}, {-(koala.P / 2)},
		{0, 1, 1, 0, 1, 0, 0, 1}, {0, 1, 1, 0, 1, 0, 0, 1, 1}, {3, 2, 1, 0, 3, 2, 1},
	} {
		head, body := pack(x)
		got, err := unpack(head, body, len(x))
		if err != nil || !slices.Equal(got, x) {
			t.Fatalf("%v became %v: %v", x, got, err)
		}
		for i := range 8 * len(head) {
			bad := bytes.Clone(head)
			bad[i/8] ^= 1 << (i % 8)
			if got, err := unpack(bad, body, len(x)); err == nil && slices.Equal(got, x) {
				t.Errorf("%v has two heads", x)
			}
		}
		for i := range 8 * len(body) {
			bad := bytes.Clone(body)
			bad[i/8] ^= 1 << (i % 8)
			if got, err := unpack(head, bad, len(x)); err == nil && slices.Equal(got, x) {
				t.Errorf("%v has two bodies", x)
			}
		}
	}
	for name, bad := range map[string]struct{ head, body []byte }{
		"the least does not occur":   {[]byte{0, 0, 0, 0, 2}, []byte{0b0111}},
		"fewer bits would do":        {[]byte{0, 0, 0, 0, 2}, []byte{0b0100}},
		"something is left":          {[]byte{0, 0, 0, 0, 1}, []byte{0b0110}},
		"more bits than an element":  {[]byte{0, 0, 0, 0, 32}, make([]byte, 8)},
		"above half the field":       {[]byte{0, 0, 0, 0x40, 1}, []byte{0b0010}},
		"below half the field":       {[]byte{0, 0, 0, 0x80, 1}, []byte{0b0010}},
		"no bits, and yet some sent": {[]byte{0, 0, 0, 0, 0}, []byte{0}},
		"short":                      {[]byte{0, 0, 0, 0, 9}, []byte{0}},
	} {
		if _, err := unpack(bad.head, bad.body, 2); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	head, body := pack([]int64{-5, 100, 7})
	f.Add(head, body)
	f.Add([]byte{0, 0, 0, 0, 0}, []byte{})
	f.Fuzz(func(t *testing.T, head, body []byte) {
		x, err := unpack(head, body, 3)
		if err != nil {
			return
		}
		if h, b := pack(x); !bytes.Equal(h, head) || !bytes.Equal(b, body) {
			t.Errorf("%v has two encodings", x)
		}
	})
}
