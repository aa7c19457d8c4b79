#include "textflag.h"

// Sums of products are kept in two parts: S, the sum mod 2^64, and H, the sum of
// the high halves. The sum of the low halves is then S - 2^32 H.

// S0, H0 and S1, H1 += the sums of four products in each 64-bit lane: of the
// elements at A and 64 after it with those of two rows, in Z0, Z1 and Z4, Z5
// (even lanes) and Z2, Z3 and Z6, Z7 (odd lanes). Four products of elements stay
// below 2^64. Overwrites Z8 to Z15.
#define ROWSTEP(A, S0, H0, S1, H1) \
	VMOVDQU32 (A)(CX*1), Z8; \
	VMOVDQU32 64(A)(CX*1), Z9; \
	VPSRLQ $32, Z8, Z10; \
	VPSRLQ $32, Z9, Z11; \
	VPMULUDQ Z0, Z8, Z12; \
	VPMULUDQ Z1, Z9, Z13; \
	VPMULUDQ Z4, Z8, Z14; \
	VPMULUDQ Z5, Z9, Z15; \
	VPADDQ Z12, Z13, Z12; \
	VPADDQ Z14, Z15, Z14; \
	VPMULUDQ Z2, Z10, Z13; \
	VPMULUDQ Z6, Z10, Z15; \
	VPADDQ Z12, Z13, Z12; \
	VPADDQ Z14, Z15, Z14; \
	VPMULUDQ Z3, Z11, Z13; \
	VPMULUDQ Z7, Z11, Z15; \
	VPADDQ Z12, Z13, Z12; \
	VPADDQ Z14, Z15, Z14; \
	VPADDQ Z12, S0, S0; \
	VPADDQ Z14, S1, S1; \
	VPSRLQ $32, Z12, Z12; \
	VPSRLQ $32, Z14, Z14; \
	VPADDQ Z12, H0, H0; \
	VPADDQ Z14, H1, H1

// OUT = in each 128-bit lane the sums of two lanes of S - 2^32 H and of H.
// Overwrites S and T.
#define HALVES(S, H, OUT, T) \
	VPSLLQ $32, H, T; \
	VPSUBQ T, S, S; \
	VPUNPCKLQDQ H, S, OUT; \
	VPUNPCKHQDQ H, S, T; \
	VPADDQ T, OUT, OUT

// Writes the reduced sums of a row at DI, R8, R9 and R10. Z12 holds p and Z13
// the inverse of p mod 2^32 in every 64-bit lane.
//
// With at most 2^13 columns the sums of the low and of the high halves, lo and
// hi, stay below 2^43. Let m = lo/p mod 2^32, so that lo = m p mod 2^32. Then
// (lo + 2^32 hi) / 2^32 = lo>>32 + hi - (m p)>>32 mod p, which with another p is
// above 0 and below 2^44. Each subtraction of (x>>31) p leaves the low 31 bits and
// 2^24 - 1 times the others: first less than 2^31 + 2^37, then less than 2^31 +
// 2^30, which is below 2 p.
#define ROWSUM(S0, H0, S1, H1, S2, H2, S3, H3) \
	HALVES(S0, H0, Z0, Z4); \
	HALVES(S1, H1, Z1, Z5); \
	HALVES(S2, H2, Z2, Z6); \
	HALVES(S3, H3, Z3, Z7); \
	VSHUFI64X2 $0x44, Z1, Z0, Z4; \
	VSHUFI64X2 $0xEE, Z1, Z0, Z5; \
	VSHUFI64X2 $0x44, Z3, Z2, Z6; \
	VSHUFI64X2 $0xEE, Z3, Z2, Z7; \
	VPADDQ Z4, Z5, Z4; \
	VPADDQ Z6, Z7, Z6; \
	VSHUFI64X2 $0x88, Z6, Z4, Z8; \
	VSHUFI64X2 $0xDD, Z6, Z4, Z9; \
	VPADDQ Z8, Z9, Z8; \
	VPMULUDQ Z13, Z8, Z9; \
	VPMULUDQ Z12, Z9, Z9; \
	VPSRLQ $32, Z9, Z9; \
	VPSRLQ $32, Z8, Z10; \
	VPSRLDQ $8, Z8, Z8; \
	VPADDQ Z10, Z8, Z8; \
	VPADDQ Z12, Z8, Z8; \
	VPSUBQ Z9, Z8, Z8; \
	VPSRLQ $31, Z8, Z9; \
	VPMULUDQ Z12, Z9, Z9; \
	VPSUBQ Z9, Z8, Z8; \
	VPSRLQ $31, Z8, Z9; \
	VPMULUDQ Z12, Z9, Z9; \
	VPSUBQ Z9, Z8, Z8; \
	VPSUBD Z12, Z8, Z9; \
	VPMINUD Z9, Z8, Z8; \
	VMOVD X8, (DI); \
	VEXTRACTI32X4 $1, Z8, X9; \
	VMOVD X9, (R8); \
	VEXTRACTI32X4 $2, Z8, X9; \
	VMOVD X9, (R9); \
	VEXTRACTI32X4 $3, Z8, X9; \
	VMOVD X9, (R10); \
	ADDQ $4, DI; \
	ADDQ $4, R8; \
	ADDQ $4, R9; \
	ADDQ $4, R10

// func dotRows512(dst, a *Vec, b *Elem, cols, rows int)
// cols is a multiple of 32 up to 2^13, rows is even; neither is 0.
TEXT ·dotRows512(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), AX
	MOVQ 0(AX), DI
	MOVQ 24(AX), R8
	MOVQ 48(AX), R9
	MOVQ 72(AX), R10
	MOVQ a+8(FP), AX
	MOVQ 0(AX), SI
	MOVQ 24(AX), R11
	MOVQ 48(AX), R12
	MOVQ 72(AX), R13
	MOVQ b+16(FP), DX
	MOVQ cols+24(FP), R15
	SHLQ $2, R15
	// Index from the end, so that one register counts.
	ADDQ R15, SI
	ADDQ R15, R11
	ADDQ R15, R12
	ADDQ R15, R13
dotRowsRow:
	LEAQ (DX)(R15*1), BX
	LEAQ (BX)(R15*1), DX
	MOVQ R15, CX
	NEGQ CX
	VPXORD Z16, Z16, Z16
	VPXORD Z17, Z17, Z17
	VPXORD Z18, Z18, Z18
	VPXORD Z19, Z19, Z19
	VPXORD Z20, Z20, Z20
	VPXORD Z21, Z21, Z21
	VPXORD Z22, Z22, Z22
	VPXORD Z23, Z23, Z23
	VPXORD Z24, Z24, Z24
	VPXORD Z25, Z25, Z25
	VPXORD Z26, Z26, Z26
	VPXORD Z27, Z27, Z27
	VPXORD Z28, Z28, Z28
	VPXORD Z29, Z29, Z29
	VPXORD Z30, Z30, Z30
	VPXORD Z31, Z31, Z31
dotRowsColumn:
	// Two rows at once are more than the machine foresees.
	PREFETCHT0 4096(BX)(CX*1)
	PREFETCHT0 4160(BX)(CX*1)
	PREFETCHT0 4096(DX)(CX*1)
	PREFETCHT0 4160(DX)(CX*1)
	VMOVDQU32 (BX)(CX*1), Z0
	VMOVDQU32 64(BX)(CX*1), Z1
	VMOVDQU32 (DX)(CX*1), Z4
	VMOVDQU32 64(DX)(CX*1), Z5
	VPSRLQ $32, Z0, Z2
	VPSRLQ $32, Z1, Z3
	VPSRLQ $32, Z4, Z6
	VPSRLQ $32, Z5, Z7
	ROWSTEP(SI, Z16, Z17, Z24, Z25)
	ROWSTEP(R11, Z18, Z19, Z26, Z27)
	ROWSTEP(R12, Z20, Z21, Z28, Z29)
	ROWSTEP(R13, Z22, Z23, Z30, Z31)
	ADDQ $128, CX
	JNZ dotRowsColumn
	MOVL $0x7f000001, AX
	VPBROADCASTQ AX, Z12
	MOVL $0x81000001, AX
	VPBROADCASTQ AX, Z13
	ROWSUM(Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)
	ROWSUM(Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31)
	SUBQ $2, rows+32(FP)
	JNZ dotRowsRow
	VZEROUPPER
	RET
