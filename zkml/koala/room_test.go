package koala

import "testing"

// TestRoom: vectors are zero and apart, also after others were there, and come
// from elsewhere when the room is full, which it is not the next time.
func TestRoom(t *testing.T) {
	r := NewRoom(100)
	for range 3 {
		var all []Vec
		for i, n := range []int{10, 1, 40, 16, 50, 3} {
			v := r.New(n)
			if v.Len() != n {
				t.Fatalf("%d elements, want %d", v.Len(), n)
			}
			for k := range n {
				if v.At(k) != (Ext{}) {
					t.Fatalf("vector %d is not zero at %d", i, k)
				}
			}
			v.Fill(Lift(FromInt(int64(i + 1))))
			all = append(all, v)
		}
		for i, v := range all {
			for k := range v.Len() {
				if v.At(k) != Lift(FromInt(int64(i+1))) {
					t.Fatalf("vector %d shares memory", i)
				}
			}
		}
		r.Reset()
	}
	for range 2 {
		if n := testing.AllocsPerRun(1, func() { r.Take(40); r.Elems().Take(2000); r.Reset() }); n != 0 {
			t.Errorf("%v allocations in a room that is large enough", n)
		}
	}
	if b := r.Elems().Take(9); len(b) != 9 {
		t.Errorf("%d elements, want 9", len(b))
	}
	r.Reset()
	r.New(7).Fill(Lift(One))
	r.Reset()
	if v := r.Take(7); v.Len() != 7 || v.At(0) != Lift(One) {
		t.Error("taking clears")
	}
	r.Take(20).Fill(Lift(One))
	r.Reset()
	if v := r.New(7); v.At(0) != (Ext{}) || v.At(6) != (Ext{}) {
		t.Error("not zero after taking")
	}
	for i, x := range r.Elems().New(30) {
		if x != 0 {
			t.Errorf("element %d is not zero after taking", i)
		}
	}
	if v := (*Room)(nil).New(5); v.Len() != 5 {
		t.Error("no room, no vector")
	}
}
