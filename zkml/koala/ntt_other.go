//go:build !amd64

package koala

func fastFirst(dst, src []Elem, rate int) int                   { return 0 }
func fastTwoPasses(v []Elem, k int) bool                        { return false }
func fastButterfly(a, b, w []Elem) int                          { return 0 }
func fastEncodeAt(dst, src [][]Elem, k int, indices []int) bool { return false }
