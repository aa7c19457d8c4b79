#include "textflag.h"

// Thirty-two lanes are two states of sixteen, words 0 to 15 of the one in Z0 to
// Z15 and of the other in Z16 to Z31: a step of BLAKE3 depends on the one before,
// and one state alone would wait for its own results half of the time. No register
// is left for anything else. A word of the message is therefore added by a macro
// from memory, ADDm(A, E), to a word A of the one and E of the other.

// The four columns of both states, and their diagonals.
#define COLUMNS(OP) \
	OP(Z0, Z4, Z8, Z12); \
	OP(Z16, Z20, Z24, Z28); \
	OP(Z1, Z5, Z9, Z13); \
	OP(Z17, Z21, Z25, Z29); \
	OP(Z2, Z6, Z10, Z14); \
	OP(Z18, Z22, Z26, Z30); \
	OP(Z3, Z7, Z11, Z15); \
	OP(Z19, Z23, Z27, Z31)

#define DIAGONAL1(OP) \
	OP(Z0, Z5, Z10, Z15); \
	OP(Z16, Z21, Z26, Z31)

#define DIAGONALS13(OP) \
	DIAGONAL1(OP); \
	OP(Z2, Z7, Z8, Z13); \
	OP(Z18, Z23, Z24, Z29)

#define DIAGONALS(OP) \
	DIAGONALS13(OP); \
	OP(Z1, Z6, Z11, Z12); \
	OP(Z17, Z22, Z27, Z28); \
	OP(Z3, Z4, Z9, Z14); \
	OP(Z19, Z20, Z25, Z30)

// A quarter round is A += B + message, D = (D ^ A) >>> 16, C += D,
// B = (B ^ C) >>> 12, and again with the next word, 8 and 7.
#define A_ADD_B(A, B, C, D) VPADDD B, A, A
#define D_XOR_A(A, B, C, D) VPXORD A, D, D
#define C_ADD_D(A, B, C, D) VPADDD D, C, C
#define B_XOR_C(A, B, C, D) VPXORD C, B, B
#define D_ROT_16(A, B, C, D) VPRORD $16, D, D
#define B_ROT_12(A, B, C, D) VPRORD $12, B, B
#define D_ROT_8(A, B, C, D) VPRORD $8, D, D
#define B_ROT_7(A, B, C, D) VPRORD $7, B, B

// What follows each of a quarter round's two additions from the message.
#define MIX1(EACH) \
	EACH(A_ADD_B); \
	EACH(D_XOR_A); \
	EACH(D_ROT_16); \
	EACH(C_ADD_D); \
	EACH(B_XOR_C); \
	EACH(B_ROT_12)
#define MIX2(EACH) \
	EACH(A_ADD_B); \
	EACH(D_XOR_A); \
	EACH(D_ROT_8); \
	EACH(C_ADD_D); \
	EACH(B_XOR_C); \
	EACH(B_ROT_7)

#define MESSAGE(M0, M1, M2, M3) \
	M0(Z0, Z16); \
	M1(Z1, Z17); \
	M2(Z2, Z18); \
	M3(Z3, Z19)

#define HALF(EACH, M0, M1, M2, M3, M4, M5, M6, M7) \
	MESSAGE(M0, M2, M4, M6); \
	MIX1(EACH); \
	MESSAGE(M1, M3, M5, M7); \
	MIX2(EACH)

#define ROUND(M0, M1, M2, M3, M4, M5, M6, M7, M8, M9, M10, M11, M12, M13, M14, M15) \
	HALF(COLUMNS, M0, M1, M2, M3, M4, M5, M6, M7); \
	HALF(DIAGONALS, M8, M9, M10, M11, M12, M13, M14, M15)

// Rounds two to six of seven, each with the words of the one before permuted.
#define INNER \
	ROUND(ADD2, ADD6, ADD3, ADD10, ADD7, ADD0, ADD4, ADD13, ADD1, ADD11, ADD12, ADD5, ADD9, ADD14, ADD15, ADD8); \
	ROUND(ADD3, ADD4, ADD10, ADD12, ADD13, ADD2, ADD7, ADD14, ADD6, ADD5, ADD9, ADD0, ADD11, ADD15, ADD8, ADD1); \
	ROUND(ADD10, ADD7, ADD12, ADD9, ADD14, ADD3, ADD13, ADD15, ADD4, ADD0, ADD11, ADD2, ADD5, ADD8, ADD1, ADD6); \
	ROUND(ADD12, ADD13, ADD9, ADD11, ADD15, ADD10, ADD14, ADD8, ADD7, ADD2, ADD5, ADD3, ADD0, ADD1, ADD6, ADD4); \
	ROUND(ADD9, ADD14, ADD11, ADD5, ADD8, ADD12, ADD15, ADD1, ADD13, ADD3, ADD0, ADD10, ADD2, ADD6, ADD4, ADD7)

// Word M of a message at SI.
#define ADD(M, A, E) \
	VPADDD (128*M)(SI), A, A; \
	VPADDD (128*M+64)(SI), E, E
#define ADD0(A, E) ADD(0, A, E)
#define ADD1(A, E) ADD(1, A, E)
#define ADD2(A, E) ADD(2, A, E)
#define ADD3(A, E) ADD(3, A, E)
#define ADD4(A, E) ADD(4, A, E)
#define ADD5(A, E) ADD(5, A, E)
#define ADD6(A, E) ADD(6, A, E)
#define ADD7(A, E) ADD(7, A, E)
#define ADD8(A, E) ADD(8, A, E)
#define ADD9(A, E) ADD(9, A, E)
#define ADD10(A, E) ADD(10, A, E)
#define ADD11(A, E) ADD(11, A, E)
#define ADD12(A, E) ADD(12, A, E)
#define ADD13(A, E) ADD(13, A, E)
#define ADD14(A, E) ADD(14, A, E)
#define ADD15(A, E) ADD(15, A, E)

// Words I of the states at R8; those of the next states are fetched.
#define LOAD(I, A, E) \
	VMOVDQU32 (128*I)(R8), A; \
	VMOVDQU32 (128*I+64)(R8), E; \
	PREFETCHT0 (1024+128*I)(R8); \
	PREFETCHT0 (1024+128*I+64)(R8)

#define BROADCAST(X, A, E) \
	VPBROADCASTD X, A; \
	VMOVDQA32 A, E

#define STORE(I, A, C, E, G) \
	VPXORD C, A, A; \
	VPXORD G, E, E; \
	VMOVDQU32 A, (128*I)(DI); \
	VMOVDQU32 E, (128*I+64)(DI)

// func compress32(out, cv *state, msg *block, counter, length, flags uint32)
TEXT ·compress32(SB), NOSPLIT, $0-36
	MOVQ out+0(FP), DI
	MOVQ cv+8(FP), R8
	MOVQ msg+16(FP), SI
	LOAD(0, Z0, Z16)
	LOAD(1, Z1, Z17)
	LOAD(2, Z2, Z18)
	LOAD(3, Z3, Z19)
	LOAD(4, Z4, Z20)
	LOAD(5, Z5, Z21)
	LOAD(6, Z6, Z22)
	LOAD(7, Z7, Z23)
	BROADCAST(·iv+0(SB), Z8, Z24)
	BROADCAST(·iv+4(SB), Z9, Z25)
	BROADCAST(·iv+8(SB), Z10, Z26)
	BROADCAST(·iv+12(SB), Z11, Z27)
	BROADCAST(counter+24(FP), Z12, Z28)
	VPXORD Z13, Z13, Z13
	VPXORD Z29, Z29, Z29
	BROADCAST(length+28(FP), Z14, Z30)
	BROADCAST(flags+32(FP), Z15, Z31)
	ROUND(ADD0, ADD1, ADD2, ADD3, ADD4, ADD5, ADD6, ADD7, ADD8, ADD9, ADD10, ADD11, ADD12, ADD13, ADD14, ADD15)
	INNER
	ROUND(ADD11, ADD15, ADD5, ADD0, ADD1, ADD9, ADD8, ADD6, ADD14, ADD10, ADD2, ADD12, ADD3, ADD4, ADD7, ADD13)
	STORE(0, Z0, Z8, Z16, Z24)
	STORE(1, Z1, Z9, Z17, Z25)
	STORE(2, Z2, Z10, Z18, Z26)
	STORE(3, Z3, Z11, Z19, Z27)
	STORE(4, Z4, Z12, Z20, Z28)
	STORE(5, Z5, Z13, Z21, Z29)
	STORE(6, Z6, Z14, Z22, Z30)
	STORE(7, Z7, Z15, Z23, Z31)
	VZEROUPPER
	RET

// The message of a search, at SI: the seed, which is the same in all lanes, the
// nonces, of which the upper half is the same, and zeros.
#undef ADD0
#undef ADD1
#undef ADD2
#undef ADD3
#undef ADD4
#undef ADD5
#undef ADD6
#undef ADD7
#undef ADD8
#undef ADD9
#undef ADD10
#undef ADD11
#undef ADD12
#undef ADD13
#undef ADD14
#undef ADD15
#define SAME(M, A, E) \
	VPADDD.BCST (192+4*M)(SI), A, A; \
	VPADDD.BCST (192+4*M)(SI), E, E
#define ADD0(A, E) SAME(0, A, E)
#define ADD1(A, E) SAME(1, A, E)
#define ADD2(A, E) SAME(2, A, E)
#define ADD3(A, E) SAME(3, A, E)
#define ADD4(A, E) SAME(4, A, E)
#define ADD5(A, E) SAME(5, A, E)
#define ADD6(A, E) SAME(6, A, E)
#define ADD7(A, E) SAME(7, A, E)
#define ADD8(A, E) \
	VPADDD 0(SI), A, A; \
	VPADDD 64(SI), E, E
#define ADD9(A, E) SAME(9, A, E)
#define ADD10(A, E)
#define ADD11(A, E)
#define ADD12(A, E)
#define ADD13(A, E)
#define ADD14(A, E)
#define ADD15(A, E)

#define START(I, A, E) BROADCAST((128+4*I)(SI), A, E)

// func search32(s *search, mask uint32, n int) int
TEXT ·search32(SB), NOSPLIT, $0-32
	MOVQ s+0(FP), SI
	MOVQ n+16(FP), CX
	XORQ AX, AX
searchLoop:
	START(0, Z0, Z16)
	START(1, Z1, Z17)
	START(2, Z2, Z18)
	START(3, Z3, Z19)
	START(4, Z4, Z20)
	START(5, Z5, Z21)
	START(6, Z6, Z22)
	START(7, Z7, Z23)
	START(8, Z8, Z24)
	START(9, Z9, Z25)
	START(10, Z10, Z26)
	START(11, Z11, Z27)
	START(12, Z12, Z28)
	START(13, Z13, Z29)
	START(14, Z14, Z30)
	START(15, Z15, Z31)
	HALF(DIAGONAL1, ADD8, ADD9, ADD10, ADD11, ADD12, ADD13, ADD14, ADD15)
	INNER
	// The first word of the output depends on two diagonals only.
	HALF(COLUMNS, ADD11, ADD15, ADD5, ADD0, ADD1, ADD9, ADD8, ADD6)
	HALF(DIAGONALS13, ADD14, ADD10, ADD2, ADD12, ADD3, ADD4, ADD7, ADD13)
	VPXORD Z8, Z0, Z0
	VPXORD Z24, Z16, Z16
	MOVL mask+8(FP), R8
	VPBROADCASTD R8, Z1
	VPTESTNMD Z1, Z0, K1
	VPTESTNMD Z1, Z16, K2
	KMOVW K1, R8
	KMOVW K2, R9
	SHLL $16, R9
	ORL R9, R8
	JNZ found
	MOVL $32, R9
	VPBROADCASTD R9, Z2
	VPADDD 0(SI), Z2, Z3
	VPADDD 64(SI), Z2, Z4
	VMOVDQU32 Z3, 0(SI)
	VMOVDQU32 Z4, 64(SI)
	ADDQ $32, AX
	CMPQ AX, CX
	JLT searchLoop
	MOVQ CX, ret+24(FP)
	VZEROUPPER
	RET
found:
	BSFL R8, R8
	ADDQ R8, AX
	MOVQ AX, ret+24(FP)
	VZEROUPPER
	RET

// The even words of two registers, and the odd ones.
DATA ·evenOdd<>+0(SB)/8, $0x200000000
DATA ·evenOdd<>+8(SB)/8, $0x600000004
DATA ·evenOdd<>+16(SB)/8, $0xa00000008
DATA ·evenOdd<>+24(SB)/8, $0xe0000000c
DATA ·evenOdd<>+32(SB)/8, $0x1200000010
DATA ·evenOdd<>+40(SB)/8, $0x1600000014
DATA ·evenOdd<>+48(SB)/8, $0x1a00000018
DATA ·evenOdd<>+56(SB)/8, $0x1e0000001c
DATA ·evenOdd<>+64(SB)/8, $0x300000001
DATA ·evenOdd<>+72(SB)/8, $0x700000005
DATA ·evenOdd<>+80(SB)/8, $0xb00000009
DATA ·evenOdd<>+88(SB)/8, $0xf0000000d
DATA ·evenOdd<>+96(SB)/8, $0x1300000011
DATA ·evenOdd<>+104(SB)/8, $0x1700000015
DATA ·evenOdd<>+112(SB)/8, $0x1b00000019
DATA ·evenOdd<>+120(SB)/8, $0x1f0000001d
GLOBL ·evenOdd<>(SB), RODATA|NOPTR, $128

// Words I of left and right children.
#define PAIR(I) \
	VMOVDQU32 (128*I)(R8), Z2; \
	VMOVDQU32 (128*I+64)(R8), Z3; \
	VMOVDQU32 (128*I)(R9), Z4; \
	VMOVDQU32 (128*I+64)(R9), Z5; \
	VMOVDQA32 Z2, Z6; \
	VMOVDQA32 Z4, Z7; \
	VPERMT2D Z3, Z0, Z2; \
	VPERMT2D Z5, Z0, Z4; \
	VPERMT2D Z3, Z1, Z6; \
	VPERMT2D Z5, Z1, Z7; \
	VMOVDQU32 Z2, (128*I)(DI); \
	VMOVDQU32 Z4, (128*I+64)(DI); \
	VMOVDQU32 Z6, (1024+128*I)(DI); \
	VMOVDQU32 Z7, (1024+128*I+64)(DI)

// func pair32(msg *block, a, b *state)
TEXT ·pair32(SB), NOSPLIT, $0-24
	MOVQ msg+0(FP), DI
	MOVQ a+8(FP), R8
	MOVQ b+16(FP), R9
	VMOVDQU32 ·evenOdd<>+0(SB), Z0
	VMOVDQU32 ·evenOdd<>+64(SB), Z1
	PAIR(0)
	PAIR(1)
	PAIR(2)
	PAIR(3)
	PAIR(4)
	PAIR(5)
	PAIR(6)
	PAIR(7)
	VZEROUPPER
	RET

// func gather32(msg *block, columns *[]uint32, n, at int)
// What is gathered next is fetched.
TEXT ·gather32(SB), NOSPLIT, $0-32
	MOVQ msg+0(FP), DI
	MOVQ columns+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ at+24(FP), DX
gatherLoop:
	MOVQ (SI), AX
	VMOVDQU32 (AX)(DX*4), Z0
	VMOVDQU32 64(AX)(DX*4), Z1
	VMOVDQU32 Z0, (DI)
	VMOVDQU32 Z1, 64(DI)
	PREFETCHT0 128(AX)(DX*4)
	PREFETCHT0 192(AX)(DX*4)
	ADDQ $24, SI
	ADDQ $128, DI
	DECQ CX
	JNZ gatherLoop
	VZEROUPPER
	RET
