#include "textflag.h"

// Products of words u and a constant c < p are reduced as Montgomery 1985 does
// it, but for the word u c / p mod 2^32 being u q, q = c / p mod 2^32, which need
// not wait for u c. Z31 or Y15 holds p in every lane, Z30 or Y14 c and Z29 or Y13
// q; K1 selects even lanes.

#define SETUP512 \
	MOVL $0x7f000001, AX; VPBROADCASTD AX, Z31; \
	MOVL c+16(FP), AX; VPBROADCASTD AX, Z30; \
	MOVL q+20(FP), AX; VPBROADCASTD AX, Z29; \
	MOVL $0x5555, AX; KMOVW AX, K1

// Z0 = Z0 c. Overwrites Z1 to Z5.
#define TIMES512 \
	VPSRLQ $32, Z0, Z1; \
	VPMULUDQ Z30, Z0, Z2; \
	VPMULUDQ Z30, Z1, Z3; \
	VPMULUDQ Z29, Z0, Z4; \
	VPMULUDQ Z29, Z1, Z5; \
	VPMULUDQ Z31, Z4, Z4; \
	VPMULUDQ Z31, Z5, Z5; \
	VMOVSHDUP Z2, K1, Z3; \
	VMOVSHDUP Z4, K1, Z5; \
	VPSUBD Z5, Z3, Z0; \
	VPADDD Z31, Z0, Z1; \
	VPMINUD Z1, Z0, Z0

#define SETUP256 \
	MOVL $0x7f000001, AX; MOVQ AX, X15; VPBROADCASTD X15, Y15; \
	MOVL c+16(FP), AX; MOVQ AX, X14; VPBROADCASTD X14, Y14; \
	MOVL q+20(FP), AX; MOVQ AX, X13; VPBROADCASTD X13, Y13

#define TIMES256 \
	VPSRLQ $32, Y0, Y1; \
	VPMULUDQ Y14, Y0, Y2; \
	VPMULUDQ Y14, Y1, Y3; \
	VPMULUDQ Y13, Y0, Y4; \
	VPMULUDQ Y13, Y1, Y5; \
	VPMULUDQ Y15, Y4, Y4; \
	VPMULUDQ Y15, Y5, Y5; \
	VPSRLQ $32, Y2, Y2; \
	VPSRLQ $32, Y4, Y4; \
	VPBLENDD $0xaa, Y3, Y2, Y3; \
	VPBLENDD $0xaa, Y5, Y4, Y5; \
	VPSUBD Y5, Y3, Y0; \
	VPADDD Y15, Y0, Y1; \
	VPMINUD Y1, Y0, Y0

// Both operands are indexed from the end, so that one register counts.
#define OPERANDS \
	MOVQ dst+0(FP), DI; \
	MOVQ n+24(FP), CX; \
	SHLQ $2, CX; \
	ADDQ CX, DI; \
	ADDQ CX, SI; \
	NEGQ CX

// func scaleInts512(dst *Elem, x *int32, c Elem, q uint32, n int)
//
// The residue of an integer x is the least of x and x + p as unsigned words.
TEXT ·scaleInts512(SB), NOSPLIT, $0-32
	SETUP512
	MOVQ x+8(FP), SI
	OPERANDS
scaleLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	VPADDD Z31, Z0, Z1
	VPMINUD Z1, Z0, Z0
	TIMES512
	VMOVDQU32 Z0, (DI)(CX*1)
	ADDQ $64, CX
	JNZ scaleLoop
	VZEROUPPER
	RET

// func scaleInts256(dst *Elem, x *int32, c Elem, q uint32, n int)
TEXT ·scaleInts256(SB), NOSPLIT, $0-32
	SETUP256
	MOVQ x+8(FP), SI
	OPERANDS
scaleLoop:
	VMOVDQU (SI)(CX*1), Y0
	VPADDD Y15, Y0, Y1
	VPMINUD Y1, Y0, Y0
	TIMES256
	VMOVDQU Y0, (DI)(CX*1)
	ADDQ $32, CX
	JNZ scaleLoop
	VZEROUPPER
	RET

// func addTimes512(dst, a *Elem, c Elem, q uint32, n int)
TEXT ·addTimes512(SB), NOSPLIT, $0-32
	SETUP512
	MOVQ a+8(FP), SI
	OPERANDS
addTimesLoop:
	VMOVDQU32 (SI)(CX*1), Z0
	TIMES512
	VPADDD (DI)(CX*1), Z0, Z0
	VPSUBD Z31, Z0, Z1
	VPMINUD Z1, Z0, Z0
	VMOVDQU32 Z0, (DI)(CX*1)
	ADDQ $64, CX
	JNZ addTimesLoop
	VZEROUPPER
	RET

// func addTimes256(dst, a *Elem, c Elem, q uint32, n int)
TEXT ·addTimes256(SB), NOSPLIT, $0-32
	SETUP256
	MOVQ a+8(FP), SI
	OPERANDS
addTimesLoop:
	VMOVDQU (SI)(CX*1), Y0
	TIMES256
	VPADDD (DI)(CX*1), Y0, Y0
	VPSUBD Y15, Y0, Y1
	VPMINUD Y1, Y0, Y0
	VMOVDQU Y0, (DI)(CX*1)
	ADDQ $32, CX
	JNZ addTimesLoop
	VZEROUPPER
	RET
