package proof

import "testing"

// TestIdentity: a model's id is of all that checking relies on, so that a file
// that names it cannot be checked with the logits read in another way.
func TestIdentity(t *testing.T) {
	t.Parallel()
	m := bundled().Model
	f := proven(t, asked)
	if err := f.Check(m); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Model){
		"logit bits": func(m *Model) { m.LogitBits++ },
		"name":       func(m *Model) { m.Name += "-2" },
		"outputs":    func(m *Model) { m.Outputs++ },
	} {
		other := m
		change(&other)
		if other.ID() == m.ID() {
			t.Errorf("other %s: the same id", name)
		}
		if f.Check(other) == nil {
			t.Errorf("other %s: accepted", name)
		}
	}
}
