package zkml

import (
	"bytes"
	"slices"
	"testing"

	"github.com/torg-network/torg/zkml/transcript"
)

// watched is what happens in a transcript.
type watched struct {
	items  []string // labels, in order
	draws  [][32]byte
	before []int // items before each draw, its label included
}

// note returns what notes items and draws, but has item number skip left out.
func (w *watched) note(skip int) (func(string, []byte) bool, func(string, [32]byte)) {
	return func(label string, _ []byte) bool {
			w.items = append(w.items, label)
			return len(w.items)-1 != skip
		}, func(_ string, b [32]byte) {
			w.draws, w.before = append(w.draws, b), append(w.before, len(w.items))
		}
}

func watchVerifier(c Card, claims []Claim, proof Proof, skip int) (watched, error) {
	var w watched
	err := verify(&c, claims, proof, func(t *transcript.Verifier) { t.Watch(w.note(skip)) })
	return w, err
}

// TestEveryItem takes each item out of the transcript, one at a time. No
// challenge before it may notice and every one after it must, to the last,
// which TestGolden pins; and a verifier that forgets it refuses the proof.
// Forgetting it on both sides, which proofs made and checked by the same code
// do not notice, changes the proof that TestGolden pins. Only of the last
// challenge nothing that is sent depends, and an honest proof holds for any.
func TestEveryItem(t *testing.T) {
	card, pk := mustCommit(t, mixture(7))
	runs := mixtureRuns(5, 3)
	claims, proof, err := pk.ProveBatch(runs)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := watchVerifier(card, claims, proof, -1)
	if err != nil {
		t.Fatal(err)
	}
	// All that is said, and all that is asked.
	for _, label := range []string{"card", "header", "parameters", "claims", "environment", "input", "from", "output", "row", "witness",
		"work", "alpha", "gamma", "denominator", "level", "round", "logup", "children", "child", "tau", "beta", "sum", "sumcheck", "factors", "factor",
		"fold work", "fold", "root", "sample", "queries", "combine", "polynomial"} {
		if !slices.Contains(honest.items, label) {
			t.Errorf("no item %q", label)
		}
	}
	if last := honest.before[len(honest.before)-1]; last != len(honest.items) {
		t.Errorf("%v are absorbed after the last challenge, in vain", honest.items[last:])
	}
	final := honest.before[len(honest.before)-2] // items from here on are for the last challenge
	if got := honest.items[final:]; !slices.Equal(got, []string{"round", "fold"}) {
		t.Errorf("the last challenge is for %v", got)
	}
	for k, label := range honest.items {
		w, err := watchVerifier(card, claims, proof, k)
		if err == nil && k < final {
			t.Errorf("item %d (%s) can be forgotten", k, label)
		}
		for i, b := range w.draws {
			if i >= len(honest.draws) {
				break
			}
			if after := honest.before[i] > k; after == (b == honest.draws[i]) {
				t.Errorf("item %d (%s), challenge %d: depends on it: %v", k, label, i, !after)
			}
		}
	}
	// Both sides: of each label the first and the last.
	for k, label := range honest.items {
		if k >= final || slices.Index(honest.items, label) != k && slices.Contains(honest.items[k+1:final], label) {
			continue
		}
		var w watched
		claims, other, err := pk.prove(runs, hook{watch: func(t *transcript.Prover) { t.Watch(w.note(k)) }})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.items, honest.items) {
			t.Fatalf("prover and verifier say different things: %d and %d items", len(w.items), len(honest.items))
		}
		if _, err := watchVerifier(card, claims, other, k); err != nil {
			t.Errorf("item %d (%s), forgotten by both: %v", k, label, err)
		}
		if bytes.Equal(other, proof) {
			t.Errorf("item %d (%s), forgotten by both: the same proof", k, label)
		}
	}
}

// TestFrozenHeart: the first challenge depends on all that is claimed, and for
// each part of it because of the item that says it, as it no longer does if
// that is left out (which is the attack called frozen heart).
func TestFrozenHeart(t *testing.T) {
	card, pk := mustCommit(t, mixture(7))
	claims, proof, err := pk.ProveBatch(mixtureRuns(5, 3))
	if err != nil {
		t.Fatal(err)
	}
	first := func(c Card, claims []Claim, proof Proof, forget int) ([32]byte, []string) {
		w, _ := watchVerifier(c, claims, proof, forget)
		if len(w.draws) == 0 {
			t.Fatal("refused before the first challenge")
		}
		return w.draws[0], w.items
	}
	want, items := first(card, claims, proof, -1)
	for _, c := range []struct {
		label  string
		nth    int // of items of the label
		change func(card *Card, claims []Claim, proof Proof)
	}{
		{"card", 0, func(card *Card, _ []Claim, _ Proof) { card.root[31] ^= 1 }},
		{"card", 0, func(card *Card, _ []Claim, _ Proof) { card.facts = slices.Clone(card.facts); card.facts[1].Range.Hi++ }},
		{"header", 0, func(_ *Card, _ []Claim, p Proof) { // another mode that there is
			if m := &p[len(magic)]; *m > 1 {
				*m--
			} else {
				*m ^= 1
			}
		}},
		{"environment", 0, func(_ *Card, c []Claim, _ Proof) { c[0].Env.Seed[0] ^= 1 }},
		{"environment", 1, func(_ *Card, c []Claim, _ Proof) { c[1].Env.Temperature++ }},
		{"input", 0, func(_ *Card, c []Claim, _ Proof) { c[0].Input[4][11] ^= 1 }},
		{"input", 1, func(_ *Card, c []Claim, _ Proof) { c[1].Input[0][0] ^= 1 }},
		{"output", 1, func(_ *Card, c []Claim, _ Proof) { c[0].Output[1][0][0] ^= 1 }},
		{"output", 5, func(_ *Card, c []Claim, _ Proof) { c[1].Output[2][2][5] ^= 1 }},
		{"witness", 0, func(_ *Card, _ []Claim, p Proof) {
			// The root follows what is sent of rows.
			modes, body, err := readHeader(&card, p)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := newPlan(&card, 2, 5, modes)
			if err != nil {
				t.Fatal(err)
			}
			at := len(p) - len(body)
			for _, s := range plan.slots {
				if s.sent {
					at += packHead + packedSize(1<<s.bits, int(p[at+packHead-1]))
				}
			}
			p[at] ^= 1
		}},
	} {
		other, otherClaims, otherProof := card, make([]Claim, len(claims)), bytes.Clone(proof)
		for i, claim := range claims {
			otherClaims[i] = cloneClaim(claim)
		}
		c.change(&other, otherClaims, otherProof)
		at := -1
		for range c.nth + 1 {
			at += 1 + slices.Index(items[at+1:], c.label)
		}
		if got, _ := first(other, otherClaims, otherProof, -1); got == want {
			t.Errorf("%s: the first challenge does not depend on it", c.label)
		}
		frozen, _ := first(card, claims, proof, at)
		if got, _ := first(other, otherClaims, otherProof, at); got != frozen {
			t.Errorf("%s: is bound by more than its item", c.label)
		}
	}
}
