package keys

import (
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/torg-network/torg/square"
)

// The mnemonic every Ethereum tool ships, and the accounts every tool derives
// from it (first: 0xf39F…2266).
const junk = "test test test test test test test test test test test junk"

func TestFromMnemonic(t *testing.T) {
	for i, want := range []string{
		"0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
		"0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
		"0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
	} {
		k, err := FromMnemonic(junk, uint32(i))
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Address().Hex(); got != want {
			t.Errorf("account %d: %s, want %s", i, got, want)
		}
	}
	k, _ := FromMnemonic("  "+junk+"\n", 0)
	if got := k.Address().String(); got != "torg17w0adeg64ky0daxwd2ugyuneellmjgnxceezyf" {
		t.Errorf("bech32: %s", got)
	}
	for _, bad := range []string{"", "test", junk + " junk", "test test test test test test test test test test test test"} {
		if _, err := FromMnemonic(bad, 0); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestNewMnemonic(t *testing.T) {
	a, err := NewMnemonic()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewMnemonic()
	if err != nil {
		t.Fatal(err)
	}
	ka, err := FromMnemonic(a, 0)
	if err != nil {
		t.Fatalf("our own words were refused: %v", err)
	}
	kb, err := FromMnemonic(b, 0)
	if err != nil || ka.Address() == kb.Address() {
		t.Fatalf("two mnemonics, one account (%v)", err)
	}
}

func TestSignature(t *testing.T) {
	k, err := FromMnemonic(junk, 0)
	if err != nil {
		t.Fatal(err)
	}
	pub := PubKeyOf(k)
	a := k.Address()
	if string(pub.Address()) != string(a[:]) {
		t.Fatalf("address %x, want %x", pub.Address(), a)
	}
	msg := []byte("sign bytes")
	sig := Sign(k, msg)
	if len(sig) != 64 || !pub.VerifySignature(msg, sig) {
		t.Fatal("own signature refused")
	}
	if !pub.VerifySignature(msg, append(append([]byte{}, sig...), 27)) {
		t.Error("signature with a recovery id refused")
	}
	if pub.VerifySignature([]byte("other"), sig) {
		t.Error("signature of other bytes accepted")
	}
	for i := range sig {
		bad := append([]byte{}, sig...)
		bad[i] ^= 1
		if pub.VerifySignature(msg, bad) {
			t.Fatalf("signature with byte %d changed accepted", i)
		}
	}
	other, err := square.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if PubKeyOf(other).VerifySignature(msg, sig) {
		t.Error("accepted under another key")
	}
	if (&PubKey{Key: []byte("short")}).VerifySignature(msg, sig) || (&PubKey{}).Address() != nil {
		t.Error("a malformed key verified")
	}
	if !pub.Equals(PubKeyOf(k)) || pub.Equals(PubKeyOf(other)) || pub.Equals(nil) {
		t.Error("Equals")
	}
}

// The high-s twin of a signature is refused, so that a transaction has one hash.
func TestHighS(t *testing.T) {
	k, _ := FromMnemonic(junk, 0)
	sig := Sign(k, []byte("m"))
	twin := highS(sig)
	if PubKeyOf(k).VerifySignature([]byte("m"), twin) {
		t.Fatal("the high-s twin was accepted")
	}
}

func highS(sig []byte) []byte {
	var s secp256k1.ModNScalar
	s.SetByteSlice(sig[32:])
	b := s.Negate().Bytes()
	return append(append([]byte{}, sig[:32]...), b[:]...)
}
