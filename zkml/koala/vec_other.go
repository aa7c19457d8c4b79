//go:build !amd64

package koala

// Without kernels for the machine everything is left to the portable code.

func fastMulVec(dst, a, b *Vec) int                                        { return 0 }
func fastScaleVec(dst, a *Vec, x *Ext) int                                 { return 0 }
func fastAddProduct(dst, a *Vec, x *Ext) int                               { return 0 }
func fastFold(dst, lo, hi *Vec, x *Ext) int                                { return 0 }
func fastDot(a, b *Vec) (Ext, int)                                         { return Ext{}, 0 }
func fastDotElems(a *Vec, b []Elem) (Ext, int)                             { return Ext{}, 0 }
func fastAddScaled(dst *Vec, a []Elem, x *Ext) int                         { return 0 }
func fastSubFrom(dst *Vec, k *Ext, a []Elem) int                           { return 0 }
func fastCombine(dst *Vec, k *Ext, terms []Scaled) int                     { return 0 }
func fastQuadraticSums(e *Vec, lo, hi *[4]Vec) (zero, top Ext, done int)   { return Ext{}, Ext{}, 0 }
func fastAddFractions(p, q, p0, q0, p1, q1 *Vec) int                       { return 0 }
func fastAddInverse(p, q *Vec, num []Elem, den *Vec, b *Ext, y []Elem) int { return 0 }
func fastPairs(p, q *Vec, sum, product, a, b *Ext, x, y []Elem) int        { return 0 }
func fastMulElems(dst, a, b []Elem) int                                    { return 0 }
func fastAddElems(dst, a, b []Elem) int                                    { return 0 }
func fastSubElems(dst, a, b []Elem) int                                    { return 0 }
