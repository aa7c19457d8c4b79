#include "textflag.h"

// AVX-512 kernels of Encode and EncodeAt: see vec_amd64.s for how products are
// reduced and what Z30, Z31 and K1 hold. Each step of a product depends on the
// one before, so that several products are formed step by step together:
// MUL(EACH) is EACH of its steps, and EACH(STEP) is STEP for each product.

#define SETUP \
	MOVL $0x7f000001, AX; VPBROADCASTD AX, Z31; \
	MOVL $0x81000001, AX; VPBROADCASTD AX, Z30; \
	MOVL $0x5555, AX; KMOVW AX, K1

// B = B W for B below 2^32 and W below p, with the odd lanes of W in V.
// Overwrites R, S, T.
#define MUL1(B, W, V, R, S, T) VPSRLQ $32, B, R
#define MUL2(B, W, V, R, S, T) VPMULUDQ W, B, B
#define MUL3(B, W, V, R, S, T) VPMULUDQ V, R, R
#define MUL4(B, W, V, R, S, T) VPMULUDQ Z30, B, S
#define MUL5(B, W, V, R, S, T) VPMULUDQ Z30, R, T
#define MUL6(B, W, V, R, S, T) VPMULUDQ Z31, S, S
#define MUL7(B, W, V, R, S, T) VPMULUDQ Z31, T, T
#define MUL8(B, W, V, R, S, T) VMOVSHDUP B, K1, R
#define MUL9(B, W, V, R, S, T) VMOVSHDUP S, K1, T
#define MUL10(B, W, V, R, S, T) VPSUBD T, R, R
#define MUL11(B, W, V, R, S, T) VPADDD Z31, R, T
#define MUL12(B, W, V, R, S, T) VPMINUD R, T, B
#define MUL(EACH) \
	EACH(MUL1); \
	EACH(MUL2); \
	EACH(MUL3); \
	EACH(MUL4); \
	EACH(MUL5); \
	EACH(MUL6); \
	EACH(MUL7); \
	EACH(MUL8); \
	EACH(MUL9); \
	EACH(MUL10); \
	EACH(MUL11); \
	EACH(MUL12)

// A, B = A + B, A - B. Overwrites S, T.
#define SUM1(A, B, S, T) VPSUBD B, A, S
#define SUM2(A, B, S, T) VPADDD B, A, A
#define SUM3(A, B, S, T) VPADDD Z31, S, B
#define SUM4(A, B, S, T) VPSUBD Z31, A, T
#define SUM5(A, B, S, T) VPMINUD S, B, B
#define SUM6(A, B, S, T) VPMINUD T, A, A
#define SUM(EACH) \
	EACH(SUM1); \
	EACH(SUM2); \
	EACH(SUM3); \
	EACH(SUM4); \
	EACH(SUM5); \
	EACH(SUM6)

#define BUTTERFLY_MUL(STEP) STEP(Z0, Z1, Z2, Z3, Z4, Z5)
#define BUTTERFLY_SUM(STEP) STEP(Z6, Z0, Z3, Z4)

// func butterfly512(a, b, w *Elem, n int)
TEXT ·butterfly512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ a+0(FP), DI
	MOVQ b+8(FP), SI
	MOVQ w+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	ADDQ CX, DI
	ADDQ CX, SI
	ADDQ CX, DX
	NEGQ CX
butterflyLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VMOVDQU32 (DX)(CX*1), Z1
	VPSRLQ $32, Z1, Z2
	MUL(BUTTERFLY_MUL)
	VMOVDQU32 (DI)(CX*1), Z6
	SUM(BUTTERFLY_SUM)
	VMOVDQU32 Z6, (DI)(CX*1)
	VMOVDQU32 Z0, (SI)(CX*1)
	ADDQ $64, CX
	JNZ butterflyLoop
	VZEROUPPER
	RET

// Two vectors of each quarter are in Z0 to Z3 and Z14 to Z17. The first pass
// multiplies b and d by one twiddle, the second c and d each by its own.
#define PASS1_MUL(STEP) \
	STEP(Z1, Z4, Z5, Z8, Z9, Z10); \
	STEP(Z15, Z18, Z19, Z22, Z23, Z24); \
	STEP(Z3, Z4, Z5, Z11, Z12, Z13); \
	STEP(Z17, Z18, Z19, Z25, Z26, Z27)
#define PASS1_SUM(STEP) \
	STEP(Z0, Z1, Z9, Z10); \
	STEP(Z14, Z15, Z23, Z24)
#define PASS2_MUL(STEP) \
	STEP(Z2, Z4, Z5, Z8, Z9, Z10); \
	STEP(Z16, Z18, Z19, Z22, Z23, Z24); \
	STEP(Z3, Z6, Z7, Z11, Z12, Z13); \
	STEP(Z17, Z20, Z21, Z25, Z26, Z27)
#define PASS2_SUM(STEP) \
	STEP(Z0, Z2, Z8, Z9); \
	STEP(Z14, Z16, Z22, Z23); \
	STEP(Z1, Z3, Z11, Z12); \
	STEP(Z15, Z17, Z25, Z26)

// func twoPasses512(v, w1, w2 *Elem, quarter, n int)
TEXT ·twoPasses512(SB), NOSPLIT, $0-40
	SETUP
	MOVQ v+0(FP), DI
	MOVQ w1+8(FP), R8
	MOVQ w2+16(FP), R9
	MOVQ quarter+24(FP), BX
	SHLQ $2, BX
	MOVQ n+32(FP), SI
	LEAQ (DI)(SI*4), SI
	LEAQ (R9)(BX*1), R10
twoPassesBlock:
	// The quarters a, b, c and d of a block are at DI, R11, R12 and R13.
	LEAQ (DI)(BX*1), R11
	LEAQ (DI)(BX*2), R12
	LEAQ (R11)(BX*2), R13
	XORQ CX, CX
twoPassesLoop:
	VMOVDQU32 (R8)(CX*1), Z4
	VMOVDQU32 64(R8)(CX*1), Z18
	VMOVDQU32 (R11)(CX*1), Z1
	VMOVDQU32 64(R11)(CX*1), Z15
	VMOVDQU32 (R13)(CX*1), Z3
	VMOVDQU32 64(R13)(CX*1), Z17
	VPSRLQ $32, Z4, Z5
	VPSRLQ $32, Z18, Z19
	MUL(PASS1_MUL)
	VMOVDQU32 (DI)(CX*1), Z0
	VMOVDQU32 64(DI)(CX*1), Z14
	VMOVDQU32 (R12)(CX*1), Z2
	VMOVDQU32 64(R12)(CX*1), Z16
	VMOVDQU32 (R9)(CX*1), Z4
	VMOVDQU32 64(R9)(CX*1), Z18
	VMOVDQU32 (R10)(CX*1), Z6
	VMOVDQU32 64(R10)(CX*1), Z20
	// c + d and c - d + p stay below 2 p, as they are multiplied next.
	VPADDD Z31, Z2, Z8
	VPADDD Z31, Z16, Z22
	VPADDD Z3, Z2, Z2
	VPADDD Z17, Z16, Z16
	VPSUBD Z3, Z8, Z3
	VPSUBD Z17, Z22, Z17
	SUM(PASS1_SUM)
	VPSRLQ $32, Z4, Z5
	VPSRLQ $32, Z18, Z19
	VPSRLQ $32, Z6, Z7
	VPSRLQ $32, Z20, Z21
	MUL(PASS2_MUL)
	SUM(PASS2_SUM)
	VMOVDQU32 Z0, (DI)(CX*1)
	VMOVDQU32 Z14, 64(DI)(CX*1)
	VMOVDQU32 Z1, (R11)(CX*1)
	VMOVDQU32 Z15, 64(R11)(CX*1)
	VMOVDQU32 Z2, (R12)(CX*1)
	VMOVDQU32 Z16, 64(R12)(CX*1)
	VMOVDQU32 Z3, (R13)(CX*1)
	VMOVDQU32 Z17, 64(R13)(CX*1)
	SUBQ $-128, CX
	CMPQ CX, BX
	JLT twoPassesLoop
	LEAQ (DI)(BX*4), DI
	CMPQ DI, SI
	JLT twoPassesBlock
	VZEROUPPER
	RET

// EVEN and ODD = the coefficient at AT times powers in even and odd lanes.
#define TERM(AT, E, O, EVEN, ODD) \
	VPBROADCASTD AT, ODD; \
	VPMULUDQ ODD, E, EVEN; \
	VPMULUDQ ODD, O, ODD
#define ADD_TERM(AT, E, O, S, T, EVEN, ODD) \
	TERM(AT, E, O, S, T); \
	VPADDQ S, EVEN, EVEN; \
	VPADDQ T, ODD, ODD

// OUT = EVEN and ODD divided by 2^32 mod p, for values below 4 p^2. Overwrites
// EVEN, ODD, S and T.
#define REDUCE4(EVEN, ODD, OUT, S, T) \
	VPMULUDQ Z30, EVEN, S; \
	VPMULUDQ Z30, ODD, T; \
	VPMULUDQ Z31, S, S; \
	VPMULUDQ Z31, T, T; \
	VMOVSHDUP EVEN, K1, ODD; \
	VMOVSHDUP S, K1, T; \
	VPSUBD Z31, ODD, S; \
	VPMINUD S, ODD, ODD; \
	VPSUBD T, ODD, ODD; \
	VPADDD Z31, ODD, OUT; \
	VPMINUD ODD, OUT, OUT

#define FIRST_SUM(STEP) STEP(Z0, Z5, Z1, Z2)

// func eight512(dst, src, next *Elem, w *[7][2][16]Elem, n int)
TEXT ·eight512(SB), NOSPLIT, $0-40
	SETUP
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ next+16(FP), R9
	MOVQ w+24(FP), R8
	MOVQ n+32(FP), BX
	LEAQ (DI)(BX*4), BX
	VMOVDQU32 0(R8), Z16
	VMOVDQU32 64(R8), Z17
	VMOVDQU32 128(R8), Z18
	VMOVDQU32 192(R8), Z19
	VMOVDQU32 256(R8), Z20
	VMOVDQU32 320(R8), Z21
	VMOVDQU32 384(R8), Z22
	VMOVDQU32 448(R8), Z23
	VMOVDQU32 512(R8), Z24
	VMOVDQU32 576(R8), Z25
	VMOVDQU32 640(R8), Z26
	VMOVDQU32 704(R8), Z27
	VMOVDQU32 768(R8), Z28
	VMOVDQU32 832(R8), Z29
eightLoop:
	PREFETCHT0 (R9)
	TERM(4(SI), Z16, Z17, Z0, Z1)
	TERM(16(SI), Z22, Z23, Z5, Z6)
	ADD_TERM(8(SI), Z18, Z19, Z2, Z3, Z0, Z1)
	ADD_TERM(20(SI), Z24, Z25, Z7, Z8, Z5, Z6)
	ADD_TERM(12(SI), Z20, Z21, Z9, Z10, Z0, Z1)
	ADD_TERM(24(SI), Z26, Z27, Z11, Z12, Z5, Z6)
	ADD_TERM(28(SI), Z28, Z29, Z13, Z14, Z5, Z6)
	REDUCE4(Z0, Z1, Z0, Z2, Z3)
	REDUCE4(Z5, Z6, Z5, Z7, Z8)
	VPADDD.BCST (SI), Z0, Z0
	VPSUBD Z31, Z0, Z1
	VPMINUD Z0, Z1, Z0
	SUM(FIRST_SUM)
	VMOVDQU32 Z0, (DI)
	VMOVDQU32 Z5, 64(DI)
	ADDQ $32, SI
	ADDQ $32, R9
	ADDQ $128, DI
	CMPQ DI, BX
	JLT eightLoop
	VZEROUPPER
	RET

// func two512(dst, src *Elem, w *[2][16]Elem, n int)
TEXT ·two512(SB), NOSPLIT, $0-32
	SETUP
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ w+16(FP), R8
	MOVQ n+24(FP), BX
	LEAQ (DI)(BX*4), BX
	VMOVDQU32 0(R8), Z16
	VMOVDQU32 64(R8), Z17
twoLoop:
	VPBROADCASTD (SI), Z0
	TERM(4(SI), Z16, Z17, Z5, Z6)
	REDUCE4(Z5, Z6, Z5, Z7, Z8)
	SUM(FIRST_SUM)
	VMOVDQU32 Z0, (DI)
	VMOVDQU32 Z5, 64(DI)
	ADDQ $8, SI
	ADDQ $128, DI
	CMPQ DI, BX
	JLT twoLoop
	VZEROUPPER
	RET

// E and O += the points of two blocks that the indices in Z20 name, times their
// weights, in even and odd lanes. What is added is below 2 p^2 < 2^32 p, which is
// taken off again as long as it can be.
#define WEIGH(AT, E, O) \
	VMOVDQU32 (2*AT)(SI), Z0; \
	VMOVDQU32 (2*AT+128)(SI), Z1; \
	VMOVDQA32 Z20, Z2; \
	VMOVDQA32 Z20, Z3; \
	VPERMI2D (2*AT+64)(SI), Z0, Z2; \
	VPERMI2D (2*AT+192)(SI), Z1, Z3; \
	VMOVDQU32 AT(DX), Z4; \
	VMOVDQU32 (AT+64)(DX), Z5; \
	VPMULUDQ Z2, Z4, Z6; \
	VPMULUDQ Z3, Z5, Z7; \
	VPSRLQ $32, Z2, Z2; \
	VPSRLQ $32, Z3, Z3; \
	VPSRLQ $32, Z4, Z4; \
	VPSRLQ $32, Z5, Z5; \
	VPMULUDQ Z2, Z4, Z8; \
	VPMULUDQ Z3, Z5, Z9; \
	VPADDQ Z6, Z7, Z6; \
	VPADDQ Z8, Z9, Z8; \
	VPADDQ Z6, E, E; \
	VPADDQ Z8, O, O; \
	VPSUBQ Z31, E, Z6; \
	VPSUBQ Z31, O, Z8; \
	VPMINUQ Z6, E, E; \
	VPMINUQ Z8, O, O

// func weigh512(sums *[4][8]uint64, points, weights *Elem, index *[16]uint32, blocks int)
TEXT ·weigh512(SB), NOSPLIT, $0-40
	MOVQ sums+0(FP), DI
	MOVQ points+8(FP), SI
	MOVQ weights+16(FP), DX
	MOVQ index+24(FP), AX
	MOVQ blocks+32(FP), CX
	VMOVDQU32 (AX), Z20
	MOVQ $0x7f00000100000000, AX
	VPBROADCASTQ AX, Z31
	VMOVDQU64 0(DI), Z16
	VMOVDQU64 64(DI), Z17
	VMOVDQU64 128(DI), Z18
	VMOVDQU64 192(DI), Z19
weighLoop:
	WEIGH(0, Z16, Z17)
	WEIGH(128, Z18, Z19)
	ADDQ $512, SI
	ADDQ $256, DX
	SUBQ $4, CX
	JNZ weighLoop
	VMOVDQU64 Z16, 0(DI)
	VMOVDQU64 Z17, 64(DI)
	VMOVDQU64 Z18, 128(DI)
	VMOVDQU64 Z19, 192(DI)
	VZEROUPPER
	RET
