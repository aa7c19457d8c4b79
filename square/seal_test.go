package square_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/torg-network/torg/square"
)

func TestSeal(t *testing.T) {
	public, private := square.NewSealKey()
	lease := square.Hash{7}
	for _, plain := range [][]byte{nil, []byte("the result"), make([]byte, 1<<16)} {
		sealed, err := square.Seal(public, lease, plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := square.Unseal(private, lease, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes came back as %d: %v", len(plain), len(got), err)
		}
		if bytes.Contains(sealed, []byte("the result")) {
			t.Fatal("sealed bytes show the result")
		}
		if _, err := square.Unseal(private, square.Hash{8}, sealed); !errors.Is(err, square.ErrSeal) {
			t.Errorf("bytes of one lease open in another: %v", err)
		}
		_, other := square.NewSealKey()
		if _, err := square.Unseal(other, lease, sealed); !errors.Is(err, square.ErrSeal) {
			t.Errorf("bytes open under another key: %v", err)
		}
		sealed[len(sealed)-1] ^= 1
		if _, err := square.Unseal(private, lease, sealed); !errors.Is(err, square.ErrSeal) {
			t.Errorf("changed bytes open: %v", err)
		}
	}
	if _, err := square.Unseal(private, lease, []byte("short")); !errors.Is(err, square.ErrSeal) {
		t.Errorf("five bytes: %v", err)
	}
	// Under points of small order every private key gives the same secret.
	for _, weak := range [][]byte{make([]byte, 32), append([]byte{1}, make([]byte, 31)...), []byte("short")} {
		if _, err := square.Seal(weak, lease, nil); err == nil {
			t.Errorf("bytes were sealed to %x", weak)
		}
	}
	if got, err := square.SealKeyPublic(private); err != nil || !bytes.Equal(got, public) {
		t.Errorf("the public half is %x (%v), want %x", got, err, public)
	}
}
