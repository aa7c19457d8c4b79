//go:build !amd64

package koala

// Without kernels for the machine everything is left to the portable code.

func fastMulVec(dst, a, b *Vec) int                             { return 0 }
func fastScaleVec(dst, a *Vec, x *Ext) int                      { return 0 }
func fastAddProduct(dst, a *Vec, x *Ext) int                    { return 0 }
func fastFold(dst, lo, hi *Vec, x *Ext) int                     { return 0 }
func fastDot(a, b *Vec) (Ext, int)                              { return Ext{}, 0 }
func fastDotElems(a *Vec, b []Elem) (Ext, int)                  { return Ext{}, 0 }
func fastAddScaled(dst *Vec, a []Elem, x *Ext) int              { return 0 }
func fastButterfly(a, b, w []Elem) int                          { return 0 }
func fastMulElems(dst, a, b []Elem) int                         { return 0 }
func fastAddElems(dst, a, b []Elem) int                         { return 0 }
func fastSubElems(dst, a, b []Elem) int                         { return 0 }
func fastFirst(dst, src []Elem, rate int) int                   { return 0 }
func fastTwoPasses(v []Elem, k int) bool                        { return false }
func fastEncodeAt(dst, src [][]Elem, k int, indices []int) bool { return false }
