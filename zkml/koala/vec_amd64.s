#include "textflag.h"

// AVX-512 kernels. Products of two elements are formed in the 64-bit lanes of
// two registers, one for even and one for odd elements, and reduced together
// (Montgomery 1985). Z31 holds p and Z30 the inverse of p mod 2^32 in every
// 32-bit lane; K1 selects even lanes.

#define SETUP \
	MOVL $0x7f000001, AX; VPBROADCASTD AX, Z31; \
	MOVL $0x81000001, AX; VPBROADCASTD AX, Z30; \
	MOVL $0x5555, AX; KMOVW AX, K1

// What is read from R soon. Of many vectors at once the machine does not see by
// itself what comes.
#define AHEAD(R) PREFETCHT0 1024(R)(CX*1)

// OUT = E (even) and O (odd) divided by 2^32 mod p, for values below 2^33 p, and
// so below 4 p^2.
// Overwrites E, O, S, T.
#define REDUCE4(E, O, OUT, S, T) \
	VPMULUDQ Z30, E, S; \
	VPMULUDQ Z30, O, T; \
	VPMULUDQ Z31, S, S; \
	VPMULUDQ Z31, T, T; \
	VMOVSHDUP E, K1, O; \
	VMOVSHDUP S, K1, T; \
	VPSUBD Z31, O, OUT; \
	VPMINUD OUT, O, O; \
	VPSUBD T, O, O; \
	VPADDD Z31, O, OUT; \
	VPMINUD O, OUT, OUT

// The same for values below 2^32 p.
#define REDUCE1(E, O, OUT, S, T) \
	VPMULUDQ Z30, E, S; \
	VPMULUDQ Z30, O, T; \
	VPMULUDQ Z31, S, S; \
	VPMULUDQ Z31, T, T; \
	VMOVSHDUP E, K1, O; \
	VMOVSHDUP S, K1, T; \
	VPSUBD T, O, O; \
	VPADDD Z31, O, OUT; \
	VPMINUD O, OUT, OUT

// OUT = A + B; T is overwritten.
#define ADD(A, B, OUT, T) \
	VPADDD A, B, OUT; \
	VPSUBD Z31, OUT, T; \
	VPMINUD T, OUT, OUT

// OUT = A - B; T is overwritten.
#define SUB(A, B, OUT, T) \
	VPSUBD B, A, OUT; \
	VPADDD Z31, OUT, T; \
	VPMINUD T, OUT, OUT

// ACC = A0 B0 + A1 B1 + A2 B2 + A3 B3 in the even lanes; T is overwritten.
#define PROD4(A0, B0, A1, B1, A2, B2, A3, B3, ACC, T) \
	VPMULUDQ B0, A0, ACC; \
	VPMULUDQ B1, A1, T; \
	VPADDQ T, ACC, ACC; \
	VPMULUDQ B2, A2, T; \
	VPADDQ T, ACC, ACC; \
	VPMULUDQ B3, A3, T; \
	VPADDQ T, ACC, ACC

#define TRIPLE(A, OUT, T) \
	ADD(A, A, OUT, T); \
	ADD(A, OUT, OUT, T)

// Z26 to Z29 = the product of Z0 to Z3 and Z4 to Z7, with 3 Z5 to 3 Z7 in Z8
// to Z10, and the odd lanes of all in Z11 to Z21. Overwrites Z22 to Z25.
#define MULEXT \
	PROD4(Z0, Z4, Z1, Z10, Z2, Z9, Z3, Z8, Z22, Z24); \
	PROD4(Z11, Z15, Z12, Z21, Z13, Z20, Z14, Z19, Z23, Z25); \
	REDUCE4(Z22, Z23, Z26, Z24, Z25); \
	PROD4(Z0, Z5, Z1, Z4, Z2, Z10, Z3, Z9, Z22, Z24); \
	PROD4(Z11, Z16, Z12, Z15, Z13, Z21, Z14, Z20, Z23, Z25); \
	REDUCE4(Z22, Z23, Z27, Z24, Z25); \
	PROD4(Z0, Z6, Z1, Z5, Z2, Z4, Z3, Z10, Z22, Z24); \
	PROD4(Z11, Z17, Z12, Z16, Z13, Z15, Z14, Z21, Z23, Z25); \
	REDUCE4(Z22, Z23, Z28, Z24, Z25); \
	PROD4(Z0, Z7, Z1, Z6, Z2, Z5, Z3, Z4, Z22, Z24); \
	PROD4(Z11, Z18, Z12, Z17, Z13, Z16, Z14, Z15, Z23, Z25); \
	REDUCE4(Z22, Z23, Z29, Z24, Z25)

#define ODDA \
	VPSRLQ $32, Z0, Z11; \
	VPSRLQ $32, Z1, Z12; \
	VPSRLQ $32, Z2, Z13; \
	VPSRLQ $32, Z3, Z14

#define ODDB \
	VPSRLQ $32, Z4, Z15; \
	VPSRLQ $32, Z5, Z16; \
	VPSRLQ $32, Z6, Z17; \
	VPSRLQ $32, Z7, Z18; \
	VPSRLQ $32, Z8, Z19; \
	VPSRLQ $32, Z9, Z20; \
	VPSRLQ $32, Z10, Z21

#define TRIPLES \
	TRIPLE(Z5, Z8, Z22); \
	TRIPLE(Z6, Z9, Z22); \
	TRIPLE(Z7, Z10, Z22)

// Pointers of the four coordinates of the vector at R.
#define POINTERS(R, P0, P1, P2, P3) \
	MOVQ 0(R), P0; \
	MOVQ 24(R), P1; \
	MOVQ 48(R), P2; \
	MOVQ 72(R), P3

// What combine2 and combine4 begin with: k in Z8 to Z11, the lanes to keep in
// K2, factors at BX, and pointers to the ends of all vectors.
#define COMBINE \
	SETUP; \
	MOVQ keep+40(FP), AX; \
	KMOVW AX, K2; \
	MOVQ dst+0(FP), AX; \
	POINTERS(AX, DI, R8, R9, R10); \
	MOVQ k+8(FP), AX; \
	VPBROADCASTD 0(AX), Z8; \
	VPBROADCASTD 4(AX), Z9; \
	VPBROADCASTD 8(AX), Z10; \
	VPBROADCASTD 12(AX), Z11; \
	MOVQ x+16(FP), BX; \
	MOVQ a+24(FP), AX; \
	MOVQ 0(AX), R11; \
	MOVQ 8(AX), R12; \
	MOVQ 16(AX), R13; \
	MOVQ 24(AX), R15; \
	MOVQ n+32(FP), CX; \
	SHLQ $2, CX; \
	ADDQ CX, DI; \
	ADDQ CX, R8; \
	ADDQ CX, R9; \
	ADDQ CX, R10; \
	ADDQ CX, R11; \
	ADDQ CX, R12; \
	ADDQ CX, R13; \
	ADDQ CX, R15; \
	NEGQ CX

// func mulVec512(dst, a, b *Vec, n int)
TEXT ·mulVec512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ a+8(FP), AX
	POINTERS(AX, SI, R11, R12, R13)
	MOVQ b+16(FP), AX
	POINTERS(AX, BX, DX, R15, AX)
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	// Index from the end, so that one register counts.
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, SI
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	ADDQ CX, BX
	ADDQ CX, DX
	ADDQ CX, R15
	ADDQ CX, AX
	NEGQ CX
mulLoop:
	AHEAD(SI)
	AHEAD(R11)
	AHEAD(R12)
	AHEAD(R13)
	AHEAD(BX)
	AHEAD(DX)
	AHEAD(R15)
	AHEAD(AX)
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (R11)(CX*1), Z1
	VMOVDQU32 (R12)(CX*1), Z2
	VMOVDQU32 (R13)(CX*1), Z3
	VMOVDQU32 (BX)(CX*1), Z4
	VMOVDQU32 (DX)(CX*1), Z5
	VMOVDQU32 (R15)(CX*1), Z6
	VMOVDQU32 (AX)(CX*1), Z7
	TRIPLES
	ODDA
	ODDB
	MULEXT
	VMOVDQU32 Z26, (DI)(CX*1)
	VMOVDQU32 Z27, (R8)(CX*1)
	VMOVDQU32 Z28, (R9)(CX*1)
	VMOVDQU32 Z29, (R10)(CX*1)
	ADDQ $64, CX
	JNZ mulLoop
	VZEROUPPER
	RET

// The element at R in all lanes of Z4 to Z7, and its triples. Its odd lanes
// are its even ones.
#define BROADCAST(R) \
	VPBROADCASTD 0(R), Z4; \
	VPBROADCASTD 4(R), Z5; \
	VPBROADCASTD 8(R), Z6; \
	VPBROADCASTD 12(R), Z7; \
	TRIPLES; \
	ODDB

// func scaleVec512(dst, a *Vec, x *Ext, n int)
TEXT ·scaleVec512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ a+8(FP), AX
	POINTERS(AX, SI, R11, R12, R13)
	MOVQ x+16(FP), AX
	BROADCAST(AX)
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, SI
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	NEGQ CX
scaleLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (R11)(CX*1), Z1
	VMOVDQU32 (R12)(CX*1), Z2
	VMOVDQU32 (R13)(CX*1), Z3
	ODDA
	MULEXT
	VMOVDQU32 Z26, (DI)(CX*1)
	VMOVDQU32 Z27, (R8)(CX*1)
	VMOVDQU32 Z28, (R9)(CX*1)
	VMOVDQU32 Z29, (R10)(CX*1)
	ADDQ $64, CX
	JNZ scaleLoop
	VZEROUPPER
	RET

// func addProduct512(dst, a *Vec, x *Ext, n int)
TEXT ·addProduct512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ a+8(FP), AX
	POINTERS(AX, SI, R11, R12, R13)
	MOVQ x+16(FP), AX
	BROADCAST(AX)
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, SI
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	NEGQ CX
addProductLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (R11)(CX*1), Z1
	VMOVDQU32 (R12)(CX*1), Z2
	VMOVDQU32 (R13)(CX*1), Z3
	ODDA
	MULEXT
	VMOVDQU32 (DI)(CX*1), Z0
	ADD(Z26, Z0, Z0, Z22)
	VMOVDQU32 Z0, (DI)(CX*1)
	VMOVDQU32 (R8)(CX*1), Z1
	ADD(Z27, Z1, Z1, Z22)
	VMOVDQU32 Z1, (R8)(CX*1)
	VMOVDQU32 (R9)(CX*1), Z2
	ADD(Z28, Z2, Z2, Z22)
	VMOVDQU32 Z2, (R9)(CX*1)
	VMOVDQU32 (R10)(CX*1), Z3
	ADD(Z29, Z3, Z3, Z22)
	VMOVDQU32 Z3, (R10)(CX*1)
	ADDQ $64, CX
	JNZ addProductLoop
	VZEROUPPER
	RET

// func fold512(dst, lo, hi *Vec, x *Ext, n int)
TEXT ·fold512(SB), NOSPLIT, $0-40
	SETUP
	MOVQ x+24(FP), AX
	BROADCAST(AX)
	MOVQ dst+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ lo+8(FP), AX
	POINTERS(AX, SI, R11, R12, R13)
	MOVQ hi+16(FP), AX
	POINTERS(AX, BX, DX, R15, AX)
	MOVQ n+32(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, SI
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	ADDQ CX, BX
	ADDQ CX, DX
	ADDQ CX, R15
	ADDQ CX, AX
	NEGQ CX
foldLoop:
	AHEAD(SI)
	AHEAD(R11)
	AHEAD(R12)
	AHEAD(R13)
	AHEAD(BX)
	AHEAD(DX)
	AHEAD(R15)
	AHEAD(AX)
	VMOVDQU32 (BX)(CX*1), Z0
	VMOVDQU32 (DX)(CX*1), Z1
	VMOVDQU32 (R15)(CX*1), Z2
	VMOVDQU32 (AX)(CX*1), Z3
	VMOVDQU32 (SI)(CX*1), Z26
	VMOVDQU32 (R11)(CX*1), Z27
	VMOVDQU32 (R12)(CX*1), Z28
	VMOVDQU32 (R13)(CX*1), Z29
	SUB(Z0, Z26, Z0, Z22)
	SUB(Z1, Z27, Z1, Z22)
	SUB(Z2, Z28, Z2, Z22)
	SUB(Z3, Z29, Z3, Z22)
	ODDA
	MULEXT
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (R11)(CX*1), Z1
	VMOVDQU32 (R12)(CX*1), Z2
	VMOVDQU32 (R13)(CX*1), Z3
	ADD(Z26, Z0, Z0, Z22)
	ADD(Z27, Z1, Z1, Z22)
	ADD(Z28, Z2, Z2, Z22)
	ADD(Z29, Z3, Z3, Z22)
	VMOVDQU32 Z0, (DI)(CX*1)
	VMOVDQU32 Z1, (R8)(CX*1)
	VMOVDQU32 Z2, (R9)(CX*1)
	VMOVDQU32 Z3, (R10)(CX*1)
	ADDQ $64, CX
	JNZ foldLoop
	VZEROUPPER
	RET

// func dot512(sum *[4][16]Elem, a, b *Vec, n int)
TEXT ·dot512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ sum+0(FP), DI
	MOVQ a+8(FP), AX
	POINTERS(AX, SI, R11, R12, R13)
	MOVQ b+16(FP), AX
	POINTERS(AX, BX, DX, R15, AX)
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, SI
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	ADDQ CX, BX
	ADDQ CX, DX
	ADDQ CX, R15
	ADDQ CX, AX
	NEGQ CX
	VPXORD Z0, Z0, Z0
	VMOVDQU32 Z0, 0(DI)
	VMOVDQU32 Z0, 64(DI)
	VMOVDQU32 Z0, 128(DI)
	VMOVDQU32 Z0, 192(DI)
dotLoop:
	AHEAD(SI)
	AHEAD(R11)
	AHEAD(R12)
	AHEAD(R13)
	AHEAD(BX)
	AHEAD(DX)
	AHEAD(R15)
	AHEAD(AX)
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (R11)(CX*1), Z1
	VMOVDQU32 (R12)(CX*1), Z2
	VMOVDQU32 (R13)(CX*1), Z3
	VMOVDQU32 (BX)(CX*1), Z4
	VMOVDQU32 (DX)(CX*1), Z5
	VMOVDQU32 (R15)(CX*1), Z6
	VMOVDQU32 (AX)(CX*1), Z7
	TRIPLES
	ODDA
	ODDB
	MULEXT
	VMOVDQU32 0(DI), Z0
	VMOVDQU32 64(DI), Z1
	VMOVDQU32 128(DI), Z2
	VMOVDQU32 192(DI), Z3
	ADD(Z26, Z0, Z0, Z22)
	ADD(Z27, Z1, Z1, Z22)
	ADD(Z28, Z2, Z2, Z22)
	ADD(Z29, Z3, Z3, Z22)
	VMOVDQU32 Z0, 0(DI)
	VMOVDQU32 Z1, 64(DI)
	VMOVDQU32 Z2, 128(DI)
	VMOVDQU32 Z3, 192(DI)
	ADDQ $64, CX
	JNZ dotLoop
	VZEROUPPER
	RET

// SUM and HIGH += the sum of four products a b and its high half: of the
// elements at A and 64 after it with those in Z0, Z1 (even lanes) and Z2, Z3
// (odd lanes). Overwrites Z4 to Z7.
#define DOTSTEP(A, SUM, HIGH) \
	VMOVDQU32 (A)(CX*1), Z4; \
	VMOVDQU32 64(A)(CX*1), Z5; \
	VPSRLQ $32, Z4, Z6; \
	VPSRLQ $32, Z5, Z7; \
	VPMULUDQ Z0, Z4, Z4; \
	VPMULUDQ Z1, Z5, Z5; \
	VPMULUDQ Z2, Z6, Z6; \
	VPMULUDQ Z3, Z7, Z7; \
	VPADDQ Z4, Z5, Z4; \
	VPADDQ Z6, Z7, Z6; \
	VPADDQ Z4, Z6, Z4; \
	VPSRLQ $32, Z4, Z5; \
	VPADDQ Z4, SUM, SUM; \
	VPADDQ Z5, HIGH, HIGH

// OUT = in each half of a lane of 128 bits the sum of two halves of A or of B.
#define PAIRSUMS(A, B, OUT, T) \
	VPUNPCKHQDQ B, A, T; \
	VPUNPCKLQDQ B, A, OUT; \
	VPADDQ T, OUT, OUT

// OUT = the sums of two lanes of 128 bits, two of A and two of B.
#define LANESUMS(A, B, OUT, T) \
	VSHUFI64X2 $0xdd, B, A, T; \
	VSHUFI64X2 $0x88, B, A, OUT; \
	VPADDQ T, OUT, OUT

// Z16 = the sums of all words of Z16, of Z17 and so on to Z23. Overwrites Z24.
#define SUMWORDS \
	PAIRSUMS(Z16, Z17, Z16, Z24); \
	PAIRSUMS(Z18, Z19, Z18, Z24); \
	PAIRSUMS(Z20, Z21, Z20, Z24); \
	PAIRSUMS(Z22, Z23, Z22, Z24); \
	LANESUMS(Z16, Z18, Z16, Z24); \
	LANESUMS(Z20, Z22, Z20, Z24); \
	LANESUMS(Z16, Z20, Z16, Z24)

// func dotElems512(sum *sums, a *Vec, b *Elem, n int)
// n is a multiple of 32.
TEXT ·dotElems512(SB), NOSPLIT, $0-32
	MOVQ sum+0(FP), DI
	MOVQ a+8(FP), AX
	POINTERS(AX, SI, R11, R12, R13)
	MOVQ b+16(FP), BX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, SI
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	ADDQ CX, BX
	NEGQ CX
	VPXORD Z16, Z16, Z16
	VPXORD Z17, Z17, Z17
	VPXORD Z18, Z18, Z18
	VPXORD Z19, Z19, Z19
	VPXORD Z20, Z20, Z20
	VPXORD Z21, Z21, Z21
	VPXORD Z22, Z22, Z22
	VPXORD Z23, Z23, Z23
dotElemsLoop:
	VMOVDQU32 (BX)(CX*1), Z0
	VMOVDQU32 64(BX)(CX*1), Z1
	VPSRLQ $32, Z0, Z2
	VPSRLQ $32, Z1, Z3
	DOTSTEP(SI, Z16, Z17)
	DOTSTEP(R11, Z18, Z19)
	DOTSTEP(R12, Z20, Z21)
	DOTSTEP(R13, Z22, Z23)
	ADDQ $128, CX
	JNZ dotElemsLoop
	SUMWORDS
	VMOVDQU64 Z16, (DI)
	VZEROUPPER
	RET

// The coordinate at D += X times the elements in Z0 (even) and Z1 (odd).
#define SCALESTEP(D, X) \
	VPMULUDQ X, Z0, Z2; \
	VPMULUDQ X, Z1, Z3; \
	REDUCE1(Z2, Z3, Z8, Z9, Z10); \
	VMOVDQU32 (D)(CX*1), Z11; \
	ADD(Z8, Z11, Z11, Z12); \
	VMOVDQU32 Z11, (D)(CX*1)

// func addScaled512(dst *Vec, a *Elem, x *Ext, n int)
TEXT ·addScaled512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ a+8(FP), SI
	MOVQ x+16(FP), AX
	VPBROADCASTD 0(AX), Z4
	VPBROADCASTD 4(AX), Z5
	VPBROADCASTD 8(AX), Z6
	VPBROADCASTD 12(AX), Z7
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, SI
	NEGQ CX
addScaledLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VPSRLQ $32, Z0, Z1
	SCALESTEP(DI, Z4)
	SCALESTEP(R8, Z5)
	SCALESTEP(R9, Z6)
	SCALESTEP(R10, Z7)
	ADDQ $64, CX
	JNZ addScaledLoop
	VZEROUPPER
	RET

// func subFrom512(dst *Vec, k *Ext, a *Elem, n int)
TEXT ·subFrom512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ k+8(FP), AX
	VPBROADCASTD 0(AX), Z4
	VPBROADCASTD 4(AX), Z5
	VPBROADCASTD 8(AX), Z6
	VPBROADCASTD 12(AX), Z7
	MOVQ a+16(FP), SI
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, SI
	NEGQ CX
subFromLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	SUB(Z4, Z0, Z1, Z2)
	VMOVDQU32 Z1, (DI)(CX*1)
	VMOVDQU32 Z5, (R8)(CX*1)
	VMOVDQU32 Z6, (R9)(CX*1)
	VMOVDQU32 Z7, (R10)(CX*1)
	ADDQ $64, CX
	JNZ subFromLoop
	VZEROUPPER
	RET

// OUT = A times the factor at BX + OFF.
#define FACTOR(OFF, A, OUT) VPMULUDQ.BCST OFF(BX), A, OUT

// The coordinate at D = K, or what is there where K2 says so, plus two products
// with factors from BX + OFF on: below 2 p^2 < 2^32 p.
#define COMBINE2STEP(D, K, OFF) \
	FACTOR(OFF, Z0, Z16); \
	FACTOR(OFF, Z4, Z17); \
	FACTOR(OFF+8, Z1, Z18); \
	FACTOR(OFF+8, Z5, Z19); \
	VPADDQ Z18, Z16, Z16; \
	VPADDQ Z19, Z17, Z17; \
	REDUCE1(Z16, Z17, Z18, Z19, Z20); \
	VPBLENDMD (D)(CX*1), K, K2, Z19; \
	ADD(Z18, Z19, Z18, Z20); \
	VMOVDQU32 Z18, (D)(CX*1)

// The same with four products.
#define COMBINE4STEP(D, K, OFF) \
	FACTOR(OFF, Z0, Z16); \
	FACTOR(OFF, Z4, Z17); \
	FACTOR(OFF+8, Z1, Z18); \
	FACTOR(OFF+8, Z5, Z19); \
	FACTOR(OFF+16, Z2, Z20); \
	FACTOR(OFF+16, Z6, Z21); \
	FACTOR(OFF+24, Z3, Z22); \
	FACTOR(OFF+24, Z7, Z23); \
	VPADDQ Z18, Z16, Z16; \
	VPADDQ Z19, Z17, Z17; \
	VPADDQ Z22, Z20, Z20; \
	VPADDQ Z23, Z21, Z21; \
	VPADDQ Z20, Z16, Z16; \
	VPADDQ Z21, Z17, Z17; \
	REDUCE4(Z16, Z17, Z18, Z19, Z20); \
	VPBLENDMD (D)(CX*1), K, K2, Z19; \
	ADD(Z18, Z19, Z18, Z20); \
	VMOVDQU32 Z18, (D)(CX*1)

// func combine2(dst *Vec, k *Ext, x *factors, a *[4]*Elem, n, keep int)
TEXT ·combine2(SB), NOSPLIT, $0-48
	COMBINE
combine2Loop:
	AHEAD(R11)
	AHEAD(R12)
	VMOVDQU32 (R11)(CX*1), Z0
	VMOVDQU32 (R12)(CX*1), Z1
	VPSRLQ $32, Z0, Z4
	VPSRLQ $32, Z1, Z5
	COMBINE2STEP(DI, Z8, 0)
	COMBINE2STEP(R8, Z9, 32)
	COMBINE2STEP(R9, Z10, 64)
	COMBINE2STEP(R10, Z11, 96)
	ADDQ $64, CX
	JNZ combine2Loop
	VZEROUPPER
	RET

// func combine4(dst *Vec, k *Ext, x *factors, a *[4]*Elem, n, keep int)
TEXT ·combine4(SB), NOSPLIT, $0-48
	COMBINE
combine4Loop:
	AHEAD(R11)
	AHEAD(R12)
	AHEAD(R13)
	AHEAD(R15)
	VMOVDQU32 (R11)(CX*1), Z0
	VMOVDQU32 (R12)(CX*1), Z1
	VMOVDQU32 (R13)(CX*1), Z2
	VMOVDQU32 (R15)(CX*1), Z3
	VPSRLQ $32, Z0, Z4
	VPSRLQ $32, Z1, Z5
	VPSRLQ $32, Z2, Z6
	VPSRLQ $32, Z3, Z7
	COMBINE4STEP(DI, Z8, 0)
	COMBINE4STEP(R8, Z9, 32)
	COMBINE4STEP(R9, Z10, 64)
	COMBINE4STEP(R10, Z11, 96)
	ADDQ $64, CX
	JNZ combine4Loop
	VZEROUPPER
	RET

// Sixteen elements of the vector at R + OFF, from byte CX on. Overwrites AX.
#define LOADVEC(R, OFF, A, B, C, D) \
	MOVQ OFF+0(R), AX; \
	VMOVDQU32 (AX)(CX*1), A; \
	MOVQ OFF+24(R), AX; \
	VMOVDQU32 (AX)(CX*1), B; \
	MOVQ OFF+48(R), AX; \
	VMOVDQU32 (AX)(CX*1), C; \
	MOVQ OFF+72(R), AX; \
	VMOVDQU32 (AX)(CX*1), D

// Z0 to Z3 less the vector at R + OFF.
#define SUBVEC(R, OFF) \
	LOADVEC(R, OFF, Z22, Z23, Z24, Z25); \
	SUB(Z0, Z22, Z0, Z22); \
	SUB(Z1, Z23, Z1, Z23); \
	SUB(Z2, Z24, Z2, Z24); \
	SUB(Z3, Z25, Z3, Z25)

// The same for Z4 to Z7.
#define SUBVECB(R, OFF) \
	LOADVEC(R, OFF, Z22, Z23, Z24, Z25); \
	SUB(Z4, Z22, Z4, Z22); \
	SUB(Z5, Z23, Z5, Z23); \
	SUB(Z6, Z24, Z6, Z24); \
	SUB(Z7, Z25, Z7, Z25)

#define MUL \
	TRIPLES; \
	ODDA; \
	ODDB; \
	MULEXT

// E and O, below 4 p^2, become congruent numbers below 2^32 p, which is in every
// lane of Z29: two such are below 2^33 p, which is in a word and which REDUCE4
// takes. Overwrites S, T.
#define TRIM(E, O, S, T) \
	VPSUBQ Z29, E, S; \
	VPSUBQ Z29, O, T; \
	VPMINUQ S, E, E; \
	VPMINUQ T, O, O

#define KEEP(K) \
	TRIM(Z22, Z23, Z24, Z25); \
	VMOVDQA64 Z22, K(DI); \
	VMOVDQA64 Z23, 64+K(DI)

// The product that MUL makes is kept at DI, neither reduced nor put together.
#define KEEPMUL \
	TRIPLES; \
	ODDA; \
	ODDB; \
	PROD4(Z0, Z4, Z1, Z10, Z2, Z9, Z3, Z8, Z22, Z24); \
	PROD4(Z11, Z15, Z12, Z21, Z13, Z20, Z14, Z19, Z23, Z25); \
	KEEP(0); \
	PROD4(Z0, Z5, Z1, Z4, Z2, Z10, Z3, Z9, Z22, Z24); \
	PROD4(Z11, Z16, Z12, Z15, Z13, Z21, Z14, Z20, Z23, Z25); \
	KEEP(128); \
	PROD4(Z0, Z6, Z1, Z5, Z2, Z4, Z3, Z10, Z22, Z24); \
	PROD4(Z11, Z17, Z12, Z16, Z13, Z15, Z14, Z21, Z23, Z25); \
	KEEP(256); \
	PROD4(Z0, Z7, Z1, Z6, Z2, Z5, Z3, Z4, Z22, Z24); \
	PROD4(Z11, Z18, Z12, Z17, Z13, Z16, Z14, Z15, Z23, Z25); \
	KEEP(384)

#define ADDKEPT(K, OUT) \
	TRIM(Z22, Z23, Z24, Z25); \
	VPADDQ K(DI), Z22, Z22; \
	VPADDQ 64+K(DI), Z23, Z23; \
	REDUCE4(Z22, Z23, OUT, Z24, Z25)

// Z26 to Z28 and Z3 = the product of Z0 to Z3 and Z4 to Z7 + the one that is
// kept.
#define MULADDKEPT \
	TRIPLES; \
	ODDA; \
	ODDB; \
	PROD4(Z0, Z4, Z1, Z10, Z2, Z9, Z3, Z8, Z22, Z24); \
	PROD4(Z11, Z15, Z12, Z21, Z13, Z20, Z14, Z19, Z23, Z25); \
	ADDKEPT(0, Z26); \
	PROD4(Z0, Z5, Z1, Z4, Z2, Z10, Z3, Z9, Z22, Z24); \
	PROD4(Z11, Z16, Z12, Z15, Z13, Z21, Z14, Z20, Z23, Z25); \
	ADDKEPT(128, Z27); \
	PROD4(Z0, Z6, Z1, Z5, Z2, Z4, Z3, Z10, Z22, Z24); \
	PROD4(Z11, Z17, Z12, Z16, Z13, Z15, Z14, Z21, Z23, Z25); \
	ADDKEPT(256, Z28); \
	PROD4(Z0, Z7, Z1, Z6, Z2, Z5, Z3, Z4, Z22, Z24); \
	PROD4(Z11, Z18, Z12, Z17, Z13, Z16, Z14, Z15, Z23, Z25); \
	ADDKEPT(384, Z3)

// E and O join the sums at D, and their high halves those at D + 64.
// Overwrites E, O, Z26.
#define JOIN(E, O, D) \
	VPADDQ D(DI), E, Z26; \
	VPADDQ O, Z26, Z26; \
	VMOVDQA64 Z26, D(DI); \
	VPSRLQ $32, E, E; \
	VPSRLQ $32, O, O; \
	VPADDQ E, O, E; \
	VPADDQ D+64(DI), E, E; \
	VMOVDQA64 E, D+64(DI)

// The sums of products at DI + D take the product of Z0 to Z3 and Z4 to Z7, with
// the latter's triples and odd lanes as for MULEXT.
#define DOTSUMS(D) \
	ODDA; \
	PROD4(Z0, Z4, Z1, Z10, Z2, Z9, Z3, Z8, Z22, Z24); \
	PROD4(Z11, Z15, Z12, Z21, Z13, Z20, Z14, Z19, Z23, Z25); \
	JOIN(Z22, Z23, D); \
	PROD4(Z0, Z5, Z1, Z4, Z2, Z10, Z3, Z9, Z22, Z24); \
	PROD4(Z11, Z16, Z12, Z15, Z13, Z21, Z14, Z20, Z23, Z25); \
	JOIN(Z22, Z23, D+128); \
	PROD4(Z0, Z6, Z1, Z5, Z2, Z4, Z3, Z10, Z22, Z24); \
	PROD4(Z11, Z17, Z12, Z16, Z13, Z15, Z14, Z21, Z23, Z25); \
	JOIN(Z22, Z23, D+256); \
	PROD4(Z0, Z7, Z1, Z6, Z2, Z5, Z3, Z4, Z22, Z24); \
	PROD4(Z11, Z18, Z12, Z17, Z13, Z16, Z14, Z15, Z23, Z25); \
	JOIN(Z22, Z23, D+384)

// func quadraticSums512(sum *[2]sums, e *Vec, lo, hi *[4]Vec, n int, one bool)
// one: the last of lo and of hi is 1.
//
// At DI is what KEEPMUL keeps, at 512 the sums for the value at 0, at 1024 those
// for the leading coefficient, and at 1536 what is summed for the former. They
// are aligned on the stack: across the ends of cache lines a load has to wait
// for the store before it.
TEXT ·quadraticSums512(SB), 0, $1856-41
	SETUP
	LEAQ 63(SP), DI
	ANDQ $-64, DI
	VPXORD Z0, Z0, Z0
	MOVQ $512, CX
quadraticClear:
	VMOVDQA32 Z0, (DI)(CX*1)
	ADDQ $64, CX
	CMPQ CX, $1536
	JNE quadraticClear
	MOVQ e+8(FP), BX
	MOVQ lo+16(FP), SI
	MOVQ hi+24(FP), DX
	MOVQ n+32(FP), R8
	SHLQ $2, R8
	MOVBQZX one+40(FP), R9
	XORQ CX, CX
quadraticLoop:
	LOADVEC(SI, 0, Z0, Z1, Z2, Z3)
	LOADVEC(SI, 96, Z4, Z5, Z6, Z7)
	TESTQ R9, R9
	JNE quadraticOne
	VPSLLQ $32, Z31, Z29
	KEEPMUL
	LOADVEC(SI, 192, Z0, Z1, Z2, Z3)
	LOADVEC(SI, 288, Z4, Z5, Z6, Z7)
	MULADDKEPT
	VMOVDQA32 Z26, 1536(DI)
	VMOVDQA32 Z27, 1600(DI)
	VMOVDQA32 Z28, 1664(DI)
	VMOVDQA32 Z3, 1728(DI)
	LOADVEC(DX, 0, Z0, Z1, Z2, Z3)
	SUBVEC(SI, 0)
	LOADVEC(DX, 96, Z4, Z5, Z6, Z7)
	SUBVECB(SI, 96)
	KEEPMUL
	LOADVEC(DX, 192, Z0, Z1, Z2, Z3)
	SUBVEC(SI, 192)
	LOADVEC(DX, 288, Z4, Z5, Z6, Z7)
	SUBVECB(SI, 288)
	MULADDKEPT
	VMOVDQA32 Z26, Z0
	VMOVDQA32 Z27, Z1
	VMOVDQA32 Z28, Z2
quadraticSum:
	LOADVEC(BX, 0, Z4, Z5, Z6, Z7)
	TRIPLES
	ODDB
	DOTSUMS(1024)
	VMOVDQA32 1536(DI), Z0
	VMOVDQA32 1600(DI), Z1
	VMOVDQA32 1664(DI), Z2
	VMOVDQA32 1728(DI), Z3
	DOTSUMS(512)
	ADDQ $64, CX
	CMPQ CX, R8
	JNE quadraticLoop
	MOVQ sum+0(FP), SI
	VMOVDQA64 512(DI), Z16
	VMOVDQA64 576(DI), Z17
	VMOVDQA64 640(DI), Z18
	VMOVDQA64 704(DI), Z19
	VMOVDQA64 768(DI), Z20
	VMOVDQA64 832(DI), Z21
	VMOVDQA64 896(DI), Z22
	VMOVDQA64 960(DI), Z23
	SUMWORDS
	VMOVDQU64 Z16, (SI)
	VMOVDQA64 1024(DI), Z16
	VMOVDQA64 1088(DI), Z17
	VMOVDQA64 1152(DI), Z18
	VMOVDQA64 1216(DI), Z19
	VMOVDQA64 1280(DI), Z20
	VMOVDQA64 1344(DI), Z21
	VMOVDQA64 1408(DI), Z22
	VMOVDQA64 1472(DI), Z23
	SUMWORDS
	VMOVDQU64 Z16, 64(SI)
	VZEROUPPER
	RET
quadraticOne:
	MUL
	LOADVEC(SI, 192, Z0, Z1, Z2, Z3)
	ADD(Z26, Z0, Z0, Z22)
	ADD(Z27, Z1, Z1, Z23)
	ADD(Z28, Z2, Z2, Z24)
	ADD(Z29, Z3, Z3, Z25)
	VMOVDQA32 Z0, 1536(DI)
	VMOVDQA32 Z1, 1600(DI)
	VMOVDQA32 Z2, 1664(DI)
	VMOVDQA32 Z3, 1728(DI)
	// What is not multiplied has no part in the leading coefficient.
	LOADVEC(DX, 0, Z0, Z1, Z2, Z3)
	SUBVEC(SI, 0)
	LOADVEC(DX, 96, Z4, Z5, Z6, Z7)
	SUBVECB(SI, 96)
	MUL
	VMOVDQA32 Z26, Z0
	VMOVDQA32 Z27, Z1
	VMOVDQA32 Z28, Z2
	VMOVDQA32 Z29, Z3
	JMP quadraticSum

// LOADVEC of a whole vector, and what is read of it soon.
#define LOADAHEAD(R, A, B, C, D) \
	MOVQ 0(R), AX; \
	AHEAD(AX); \
	VMOVDQU32 (AX)(CX*1), A; \
	MOVQ 24(R), AX; \
	AHEAD(AX); \
	VMOVDQU32 (AX)(CX*1), B; \
	MOVQ 48(R), AX; \
	AHEAD(AX); \
	VMOVDQU32 (AX)(CX*1), C; \
	MOVQ 72(R), AX; \
	AHEAD(AX); \
	VMOVDQU32 (AX)(CX*1), D

#define STOREVEC(R, A, B, C, D) \
	MOVQ 0(R), AX; \
	VMOVDQU32 A, (AX)(CX*1); \
	MOVQ 24(R), AX; \
	VMOVDQU32 B, (AX)(CX*1); \
	MOVQ 48(R), AX; \
	VMOVDQU32 C, (AX)(CX*1); \
	MOVQ 72(R), AX; \
	VMOVDQU32 D, (AX)(CX*1)

// func addFractions512(p, q, p0, q0, p1, q1 *Vec, n int)
TEXT ·addFractions512(SB), 0, $576-56
	SETUP
	LEAQ 63(SP), DI
	ANDQ $-64, DI
	MOVQ p+0(FP), SI
	MOVQ q+8(FP), DX
	MOVQ p0+16(FP), R8
	MOVQ q0+24(FP), R9
	MOVQ p1+32(FP), R10
	MOVQ q1+40(FP), R11
	MOVQ n+48(FP), BX
	SHLQ $2, BX
	XORQ CX, CX
addFractionsLoop:
	LOADAHEAD(R9, Z0, Z1, Z2, Z3)
	LOADAHEAD(R10, Z4, Z5, Z6, Z7)
	VPSLLQ $32, Z31, Z29
	KEEPMUL
	LOADAHEAD(R8, Z0, Z1, Z2, Z3)
	LOADAHEAD(R11, Z4, Z5, Z6, Z7)
	MULADDKEPT
	STOREVEC(SI, Z26, Z27, Z28, Z3)
	LOADVEC(R9, 0, Z0, Z1, Z2, Z3)
	ODDA
	MULEXT
	STOREVEC(DX, Z26, Z27, Z28, Z29)
	ADDQ $64, CX
	CMPQ CX, BX
	JNE addFractionsLoop
	VZEROUPPER
	RET

// OUT = A + the product of Z22 (even) and Z23 (odd) and B (even) and ODDB (odd).
// Overwrites Z24, Z25, Z28, Z29.
#define ADDTIMES(A, B, ODDB, OUT) \
	VPMULUDQ B, Z22, Z24; \
	VPMULUDQ ODDB, Z23, Z25; \
	REDUCE1(Z24, Z25, OUT, Z28, Z29); \
	ADD(A, OUT, OUT, Z28)

// func addInverse512(p, q *Vec, num *Elem, den *Vec, b *Ext, y *Elem, n int)
// num: nil for ones. Of b - y, all coordinates but the first are constant.
TEXT ·addInverse512(SB), NOSPLIT, $0-56
	SETUP
	MOVQ b+32(FP), R8
	BROADCAST(R8)
	MOVQ p+0(FP), SI
	MOVQ q+8(FP), DX
	MOVQ num+16(FP), R10
	MOVQ den+24(FP), R9
	MOVQ y+40(FP), R11
	MOVQ n+48(FP), BX
	SHLQ $2, BX
	XORQ CX, CX
addInverseLoop:
	VPBROADCASTD 0(R8), Z4
	VMOVDQU32 (R11)(CX*1), Z22
	SUB(Z4, Z22, Z4, Z23)
	VPSRLQ $32, Z4, Z15
	LOADVEC(R9, 0, Z0, Z1, Z2, Z3)
	TESTQ R10, R10
	JNE addInverseNum
	ADD(Z0, Z4, Z22, Z26)
	ADD(Z1, Z5, Z23, Z27)
	ADD(Z2, Z6, Z24, Z28)
	ADD(Z3, Z7, Z25, Z29)
	STOREVEC(SI, Z22, Z23, Z24, Z25)
addInverseProduct:
	ODDA
	MULEXT
	STOREVEC(DX, Z26, Z27, Z28, Z29)
	ADDQ $64, CX
	CMPQ CX, BX
	JNE addInverseLoop
	VZEROUPPER
	RET
addInverseNum:
	VMOVDQU32 (R10)(CX*1), Z22
	VPSRLQ $32, Z22, Z23
	ADDTIMES(Z0, Z4, Z15, Z26)
	ADDTIMES(Z1, Z5, Z16, Z27)
	MOVQ 0(SI), AX
	VMOVDQU32 Z26, (AX)(CX*1)
	MOVQ 24(SI), AX
	VMOVDQU32 Z27, (AX)(CX*1)
	ADDTIMES(Z2, Z6, Z17, Z26)
	ADDTIMES(Z3, Z7, Z18, Z27)
	MOVQ 48(SI), AX
	VMOVDQU32 Z26, (AX)(CX*1)
	MOVQ 72(SI), AX
	VMOVDQU32 Z27, (AX)(CX*1)
	JMP addInverseProduct

// The coordinate at D = A (first factor's) times Z2, Z3 + B (second's) times Z0,
// Z1 + K. Two products are below 2 p^2 < 2^32 p.
#define PAIRSTEP(D, A, B, K) \
	VPMULUDQ A, Z2, Z20; \
	VPMULUDQ A, Z3, Z21; \
	VPMULUDQ B, Z0, Z22; \
	VPMULUDQ B, Z1, Z23; \
	VPADDQ Z22, Z20, Z20; \
	VPADDQ Z23, Z21, Z21; \
	REDUCE1(Z20, Z21, Z22, Z23, Z24); \
	ADD(Z22, K, Z22, Z23); \
	VMOVDQU32 Z22, (D)(CX*1)

// func pairs512(p, q *Vec, sum, product, a, b *Ext, x, y *Elem, n int)
// The coordinates of a - x and b - y but the first are constant. sum is a + b,
// and product the products of coordinates other than the first.
TEXT ·pairs512(SB), NOSPLIT, $0-72
	SETUP
	MOVQ sum+16(FP), AX
	VPBROADCASTD 0(AX), Z4
	VPBROADCASTD 4(AX), Z5
	VPBROADCASTD 8(AX), Z6
	VPBROADCASTD 12(AX), Z7
	MOVQ product+24(FP), AX
	VPBROADCASTD 0(AX), Z8
	VPBROADCASTD 4(AX), Z9
	VPBROADCASTD 8(AX), Z10
	VPBROADCASTD 12(AX), Z11
	MOVQ a+32(FP), AX
	VPBROADCASTD 0(AX), Z12
	VPBROADCASTD 4(AX), Z13
	VPBROADCASTD 8(AX), Z14
	VPBROADCASTD 12(AX), Z15
	MOVQ b+40(FP), AX
	VPBROADCASTD 0(AX), Z16
	VPBROADCASTD 4(AX), Z17
	VPBROADCASTD 8(AX), Z18
	VPBROADCASTD 12(AX), Z19
	MOVQ p+0(FP), AX
	POINTERS(AX, DI, R8, R9, R10)
	MOVQ q+8(FP), AX
	POINTERS(AX, R11, R12, R13, R15)
	MOVQ x+48(FP), SI
	MOVQ y+56(FP), DX
	MOVQ n+64(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, R8
	ADDQ CX, R9
	ADDQ CX, R10
	ADDQ CX, R11
	ADDQ CX, R12
	ADDQ CX, R13
	ADDQ CX, R15
	ADDQ CX, SI
	ADDQ CX, DX
	NEGQ CX
pairsLoop:
	VMOVDQU32 (SI)(CX*1), Z20
	VMOVDQU32 (DX)(CX*1), Z21
	SUB(Z12, Z20, Z0, Z22)
	SUB(Z16, Z21, Z2, Z22)
	ADD(Z20, Z21, Z20, Z22)
	SUB(Z4, Z20, Z20, Z22)
	VMOVDQU32 Z20, (DI)(CX*1)
	VMOVDQU32 Z5, (R8)(CX*1)
	VMOVDQU32 Z6, (R9)(CX*1)
	VMOVDQU32 Z7, (R10)(CX*1)
	VPSRLQ $32, Z0, Z1
	VPSRLQ $32, Z2, Z3
	VPMULUDQ Z0, Z2, Z20
	VPMULUDQ Z1, Z3, Z21
	REDUCE1(Z20, Z21, Z22, Z23, Z24)
	ADD(Z22, Z8, Z22, Z23)
	VMOVDQU32 Z22, (R11)(CX*1)
	PAIRSTEP(R12, Z13, Z17, Z9)
	PAIRSTEP(R13, Z14, Z18, Z10)
	PAIRSTEP(R15, Z15, Z19, Z11)
	ADDQ $64, CX
	JNZ pairsLoop
	VZEROUPPER
	RET

// func mulElems512(dst, a, b *Elem, n int)
TEXT ·mulElems512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, SI
	ADDQ CX, DX
	NEGQ CX
mulElemsLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (DX)(CX*1), Z1
	VPSRLQ $32, Z0, Z2
	VPSRLQ $32, Z1, Z3
	VPMULUDQ Z1, Z0, Z4
	VPMULUDQ Z3, Z2, Z5
	REDUCE1(Z4, Z5, Z6, Z7, Z8)
	VMOVDQU32 Z6, (DI)(CX*1)
	ADDQ $64, CX
	JNZ mulElemsLoop
	VZEROUPPER
	RET

// func addElems512(dst, a, b *Elem, n int)
TEXT ·addElems512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, SI
	ADDQ CX, DX
	NEGQ CX
addLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (DX)(CX*1), Z1
	ADD(Z0, Z1, Z2, Z3)
	VMOVDQU32 Z2, (DI)(CX*1)
	ADDQ $64, CX
	JNZ addLoop
	VZEROUPPER
	RET

// func subElems512(dst, a, b *Elem, n int)
TEXT ·subElems512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, SI
	ADDQ CX, DX
	NEGQ CX
subLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (DX)(CX*1), Z1
	SUB(Z0, Z1, Z2, Z3)
	VMOVDQU32 Z2, (DI)(CX*1)
	ADDQ $64, CX
	JNZ subLoop
	VZEROUPPER
	RET
