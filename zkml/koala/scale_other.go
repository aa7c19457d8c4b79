//go:build !amd64

package koala

func fastScaleInts(dst []Elem, x []int32, c Elem) int { return 0 }
func fastAddTimes(dst, a []Elem, f Elem) int          { return 0 }
