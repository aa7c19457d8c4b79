package square

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

// testKey is the first account of the mnemonic every Ethereum tool tests with
// ("test … junk"): MetaMask, viem and CosmJS all give 0xf39F…2266 for it.
func testKey(t testing.TB) Key {
	b, _ := hex.DecodeString("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	k, err := KeyFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAddressForms(t *testing.T) {
	a := testKey(t).Address()
	if got, want := a.Hex(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"; got != want {
		t.Fatalf("hex %s, want %s", got, want)
	}
	if got, want := a.String(), "torg17w0adeg64ky0daxwd2ugyuneellmjgnxceezyf"; got != want {
		t.Fatalf("bech32 %s, want %s", got, want)
	}
	for _, s := range []string{a.String(), a.Hex(), strings.ToUpper(a.String()), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"} {
		got, err := ParseAddress(s)
		if err != nil || got != a {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "torg1", "0x12", "torg17w0adeg64ky0daxwd2ugyuneellmjgnxceezyg", "cosmos1xxx", a.String() + "q", "Torg17w0adeg64ky0daxwd2ugyuneellmjgnxceezyf"} {
		if _, err := ParseAddress(s); !errors.Is(err, ErrAddress) {
			t.Errorf("%q was read: %v", s, err)
		}
	}
}

func TestSignaturesAreCanonical(t *testing.T) {
	k := testKey(t)
	d := Keccak([]byte("a message"))
	s := k.Sign(d)
	if got, err := Recover(d, s); err != nil || got != k.Address() {
		t.Fatalf("recover: %v, %v", got, err)
	}
	if got, _ := Recover(Keccak([]byte("another")), s); got == k.Address() {
		t.Fatal("a signature verified another message")
	}
	// The other s value of the same signature is a second encoding: refused.
	n, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	high := s
	new(big.Int).Sub(n, new(big.Int).SetBytes(s[32:64])).FillBytes(high[32:64])
	high[64] = 27 + (28 - high[64])
	if _, err := Recover(d, high); !errors.Is(err, ErrSignature) {
		t.Fatalf("high s was accepted: %v", err)
	}
	for _, v := range []byte{2, 26, 29, 255} {
		bad := s
		bad[64] = v
		if _, err := Recover(d, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("v = %d was accepted", v)
		}
	}
	low := s
	low[64] -= 27
	if got, err := Recover(d, low); err != nil || got != k.Address() {
		t.Errorf("v 0/1: %v, %v", got, err)
	}
}

func TestPriceIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		rates := []Rate{{Unit: "a", PerMillion: r.Uint64N(1 << uint(r.IntN(50)+1))}, {Unit: "b", PerMillion: r.Uint64N(1 << uint(r.IntN(50)+1))}}
		units := []uint64{r.Uint64N(1 << uint(r.IntN(40)+1)), r.Uint64N(1 << uint(r.IntN(40)+1))}
		sum := new(big.Int)
		for i := range rates {
			sum.Add(sum, new(big.Int).Mul(new(big.Int).SetUint64(rates[i].PerMillion), new(big.Int).SetUint64(units[i])))
		}
		want := sum.Add(sum, big.NewInt(999_999)).Quo(sum, big.NewInt(1_000_000))
		got, err := Price(rates, units)
		if want.Cmp(big.NewInt(math.MaxInt64)) > 0 {
			if err == nil {
				t.Fatalf("%v x %v: out of range, but %d", rates, units, got)
			}
		} else if err != nil || want.Uint64() != got {
			t.Fatalf("%v x %v: %d, %v; want %s", rates, units, got, err, want)
		}
	}
	if _, err := Price([]Rate{{Unit: "a", PerMillion: 1}}, nil); err == nil {
		t.Error("lists of different length were priced")
	}
	if _, err := Price([]Rate{{Unit: "a", PerMillion: math.MaxUint64}, {Unit: "b", PerMillion: math.MaxUint64}}, []uint64{math.MaxUint64, math.MaxUint64}); err == nil {
		t.Error("an overflow was priced")
	}
}

func TestAmounts(t *testing.T) {
	for s, want := range map[string]uint64{"1": 1e6, "0.000001": 1, "12.5 TORG": 12_500_000, "7utorg": 7, " 3 torg": 3e6} {
		a, err := ParseAmount(s)
		if err != nil || a.Units != want || a.Denom != Denom {
			t.Errorf("%q: %v, %v", s, a, err)
		}
		if b, err := ParseAmount(a.String()); err != nil || b != a {
			t.Errorf("%q: %s does not read back: %v", s, a, err)
		}
	}
	for _, s := range []string{"", "-1", "1.0000001", "1e6", "9223372036854775807", "x", "1.-5", ".5.5"} {
		if a, err := ParseAmount(s); !errors.Is(err, ErrAmount) {
			t.Errorf("%q was read as %v", s, a)
		}
	}
}

// vectors are what other languages check their own EIP-712 against.
func vectors(t testing.TB) map[string]any {
	k := testKey(t)
	const chain = "torg-vector-1"
	ld, cd := LedgerDomain(chain), ChannelDomain(chain)
	you := Address{19: 0x42}
	cfg := ChannelConfig{Payer: k.Address(), PayerAuthorizer: k.Address(), Receiver: you, ReceiverAuthorizer: you,
		Token: TokenAddress(Denom), WithdrawDelay: 900, Salt: Hash{31: 7}}
	v := SignVoucher(cd, cfg.ID(cd), 1_234_567, k)
	dep := Deposit{Owner: k.Address(), Channel: cfg.ID(cd), Receiver: you, Amount: Utorg(5_000_000), Nonce: Hash{0: 1}, Expiry: 1_800_000_000}
	rates := []Rate{{Unit: "prompt_tokens", PerMillion: 100_000}, {Unit: "completion_tokens", PerMillion: 1_000_000}}
	off := Offer{Provider: you, Trade: "infer", Spec: Hash{0: 9}, Subject: "torg-nano", Denom: Denom, Rates: append(rates[:2:2], Rate{"prompt_tokens", PolicyProve, 1_000_000}, Rate{"completion_tokens", PolicyProve, 10_000_000}), Capacity: 8,
		Attributes: []Attribute{{"context", "128"}}, Endpoint: "http://127.0.0.1:1", Expiry: 1_800_000_000, Nonce: 3}
	ord := Order{Buyer: k.Address(), Authorizer: k.Address(), Trade: "infer", Mode: ModeStream, Spec: Hash{0: 9}, Denom: Denom,
		Escrow: 1_000_000, MaxRates: rates, JobValue: 10_000, Policy: PolicyAudit, Lanes: 8, Units: 8, Start: 20, Idle: 60,
		Duration: 3600, Challenge: 60, Drain: 900, Silence: 500, Expiry: 1_800_000_000, Salt: Hash{5: 5}}
	job := Order{Buyer: k.Address(), Authorizer: k.Address(), Trade: "infer", Mode: ModeResult, Spec: Hash{0: 9}, Request: Hash{1: 1}, Card: Hash{3: 3},
		Denom: Denom, Escrow: 1_000_000, MaxRates: rates, JobValue: 10_000, Policy: PolicyProve, Units: 1, Start: 60,
		Duration: 3600, Challenge: 60, Drain: 900, Failover: 1, Expiry: 1_800_000_000, Salt: Hash{5: 6}}
	quo := Quote{Provider: you, Order: ord.ID(ld), Offer: off.ID(ld), Spec: off.Spec, Rates: rates, Bond: 90_000, Ready: true, Expiry: 1_800_000_000, Nonce: Hash{1: 1}}
	rec := Receipt{Lease: ord.ID(ld), Lane: 3, Seq: 1, Subject: Hash{0: 9}, Request: Hash{1: 1}, Result: Hash{2: 2}, Units: []uint64{10, 20}, Price: 21, Cumulative: 21, Time: 1_700_000_000_000}
	return map[string]any{
		"chain_id": chain, "network_id": NetworkID(chain), "private_key": "0x" + hex.EncodeToString(k.Bytes()),
		"ledger_domain": Hash(ld), "channel_domain": Hash(cd),
		"channel_config": cfg, "channel_id": cfg.ID(cd), "voucher": v,
		"deposit": dep, "deposit_digest": dep.Digest(ld), "deposit_signature": k.Sign(dep.Digest(ld)),
		"offer": off, "offer_id": off.ID(ld), "order": ord, "order_id": ord.ID(ld),
		"quote": quo, "quote_digest": quo.Digest(ld), "receipt": rec, "receipt_id": rec.Digest(ld),
		"close_consent_digest": CloseDigest(ld, ord.ID(ld), 777),
		"extension_digest":     ExtensionDigest(ld, ord.ID(ld), 1_800_003_600),
		"job":                  job, "job_id": job.ID(ld),
		"ballot": Ballot(ord.ID(ld), you, 2, VerdictUnavailable, Hash{4: 4}),
		"label":  Label(Hash{6: 6}, []byte("audit")),
	}
}

func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(vectors(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile("testdata/vectors.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("what is signed has changed: this breaks every wallet and every stored signature.\ngot:\n%s", got)
	}
}

// Every field must be bound by the digest: changing it changes the id.
func TestEveryFieldIsSigned(t *testing.T) {
	d := LedgerDomain("t")
	rates := []Rate{{Unit: "a", PerMillion: 1}}
	for _, noun := range []any{
		&Offer{Rates: rates, Attributes: []Attribute{{"a", "b"}}}, &Order{MaxRates: rates}, &Quote{Rates: rates}, &Receipt{Units: []uint64{1}},
	} {
		digest := func(d Domain) Hash {
			switch n := noun.(type) {
			case *Offer:
				return n.ID(d)
			case *Order:
				return n.ID(d)
			case *Quote:
				return n.Digest(d)
			default:
				return noun.(*Receipt).Digest(d)
			}
		}
		base := digest(d)
		if base == digest(LedgerDomain("u")) {
			t.Errorf("%T for one ledger is one for another", noun)
		}
		v := reflect.ValueOf(noun).Elem()
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			old := reflect.ValueOf(f.Interface())
			switch f.Kind() {
			case reflect.String:
				f.SetString("x")
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Int64:
				f.SetInt(7)
			case reflect.Uint16, reflect.Uint64:
				f.SetUint(7)
			case reflect.Array:
				f.Index(1).SetUint(7)
			case reflect.Slice:
				f.Set(reflect.AppendSlice(f, f))
			default:
				t.Fatalf("%T.%s is a %s", noun, name, f.Kind())
			}
			if digest(d) == base {
				t.Errorf("%T.%s is not signed", noun, name)
			}
			f.Set(old)
		}
		if digest(d) != base {
			t.Errorf("%T was not put back", noun)
		}
	}
}

// TestBallot requires that a ballot binds all that it commits to: nobody can vote
// with another's ballot, an earlier draw's, or another verdict than its own.
func TestBallot(t *testing.T) {
	base := Ballot(Hash{1}, Address{2}, 3, VerdictOK, Hash{4})
	for name, other := range map[string]Hash{
		"lease": Ballot(Hash{9}, Address{2}, 3, VerdictOK, Hash{4}), "judge": Ballot(Hash{1}, Address{9}, 3, VerdictOK, Hash{4}),
		"draw": Ballot(Hash{1}, Address{2}, 9, VerdictOK, Hash{4}), "verdict": Ballot(Hash{1}, Address{2}, 3, VerdictFraud, Hash{4}),
		"secret": Ballot(Hash{1}, Address{2}, 3, VerdictOK, Hash{9}),
	} {
		if other == base {
			t.Errorf("%s is not in the ballot", name)
		}
	}
	if Label(Hash{1}, []byte("a")) == Label(Hash{1}, []byte("b")) || Label(Hash{1}, nil) == Label(Hash{2}, nil) {
		t.Error("two purposes share a beacon's bits")
	}
}

func TestExtension(t *testing.T) {
	k, d := testKey(t), LedgerDomain("t")
	s := k.Sign(ExtensionDigest(d, Hash{1}, 99))
	if err := VerifyExtension(d, k.Address(), Hash{1}, 99, s); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another time": VerifyExtension(d, k.Address(), Hash{1}, 100, s), "another lease": VerifyExtension(d, k.Address(), Hash{2}, 99, s),
		"another ledger": VerifyExtension(LedgerDomain("u"), k.Address(), Hash{1}, 99, s), "another provider": VerifyExtension(d, Address{1}, Hash{1}, 99, s),
		"a negative time": VerifyExtension(d, k.Address(), Hash{1}, -99, k.Sign(ExtensionDigest(d, Hash{1}, -99))),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestLanesHaveTheirOwnChannels(t *testing.T) {
	d := ChannelDomain("t")
	o := Order{Buyer: Address{1}, Authorizer: Address{1}, Denom: Denom}
	seen := map[Hash]uint16{}
	for lane := range uint16(MaxLanes) {
		id := o.Channel(d, Address{2}, lane).ID(d)
		if other, ok := seen[id]; ok {
			t.Fatalf("lanes %d and %d share a channel", lane, other)
		}
		seen[id] = lane
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("torg17w0adeg64ky0daxwd2ugyuneellmjgnxceezyf")
	f.Add("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")
	f.Add("torg1")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if b, err := ParseAddress(a.String()); err != nil || b != a {
			t.Fatalf("%q reads as %s, which does not read back: %v", s, a, err)
		}
	})
}

func FuzzRecover(f *testing.F) {
	k, _ := NewKey()
	d := Keccak([]byte("x"))
	s := k.Sign(d)
	f.Add(d[:], s[:])
	f.Fuzz(func(t *testing.T, digest, sig []byte) {
		var d Hash
		var s Signature
		copy(d[:], digest)
		copy(s[:], sig)
		_, _ = Recover(d, s)
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"1", "0.5 TORG", "7utorg", "9223372036854.775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAmount(s); err == nil {
			if b, err := ParseAmount(a.String()); err != nil || a != b {
				t.Fatalf("%q reads as %s, which reads as %s: %v", s, a, b, err)
			}
		}
	})
}

func BenchmarkVoucherVerify(b *testing.B) {
	k, d := testKey(b), ChannelDomain("bench")
	v := SignVoucher(d, Hash{1}, 1000, k)
	for b.Loop() {
		if err := v.Verify(d, k.Address()); err != nil {
			b.Fatal(err)
		}
	}
}
