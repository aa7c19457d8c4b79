#include "textflag.h"

// func dots8AVX2(y *[8]int32, x, w *int16, n, stride int)
//
// Y0-Y7 hold eight partial sums of one product each. VPMADDWD multiplies 16
// pairs and adds neighbours.
TEXT ·dots8AVX2(SB), NOSPLIT, $0-40
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), AX
	MOVQ n+24(FP), CX
	MOVQ stride+32(FP), DX
	SHLQ $1, DX              // bytes
	LEAQ (DX)(DX*2), R8      // 3 strides
	LEAQ (AX)(DX*4), BX      // rows 4-7
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7

loop:
	VMOVDQU (SI), Y8
	VPMADDWD (AX), Y8, Y9
	VPMADDWD (AX)(DX*1), Y8, Y10
	VPMADDWD (AX)(DX*2), Y8, Y11
	VPMADDWD (AX)(R8*1), Y8, Y12
	VPADDD Y9, Y0, Y0
	VPADDD Y10, Y1, Y1
	VPADDD Y11, Y2, Y2
	VPADDD Y12, Y3, Y3
	VPMADDWD (BX), Y8, Y9
	VPMADDWD (BX)(DX*1), Y8, Y10
	VPMADDWD (BX)(DX*2), Y8, Y11
	VPMADDWD (BX)(R8*1), Y8, Y12
	VPADDD Y9, Y4, Y4
	VPADDD Y10, Y5, Y5
	VPADDD Y11, Y6, Y6
	VPADDD Y12, Y7, Y7
	ADDQ $32, SI
	ADDQ $32, AX
	ADDQ $32, BX
	SUBQ $16, CX
	JNZ loop

	// Add up the lanes of each and put the eight sums side by side.
	VPHADDD Y1, Y0, Y0
	VPHADDD Y3, Y2, Y2
	VPHADDD Y5, Y4, Y4
	VPHADDD Y7, Y6, Y6
	VPHADDD Y2, Y0, Y0
	VPHADDD Y6, Y4, Y4
	VPERM2I128 $0x20, Y4, Y0, Y1
	VPERM2I128 $0x31, Y4, Y0, Y2
	VPADDD Y2, Y1, Y1
	VMOVDQU Y1, (DI)
	VZEROUPPER
	RET

// func weigh16AVX2(acc *[16]int32, e, v *int16, pairs, stride int)
TEXT ·weigh16AVX2(SB), NOSPLIT, $0-40
	MOVQ acc+0(FP), DI
	MOVQ e+8(FP), SI
	MOVQ v+16(FP), AX
	MOVQ pairs+24(FP), CX
	MOVQ stride+32(FP), DX
	SHLQ $1, DX // bytes
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1

pair:
	VPBROADCASTD (SI), Y2
	VPMADDWD (AX), Y2, Y3
	VPMADDWD 32(AX), Y2, Y4
	VPADDD Y3, Y0, Y0
	VPADDD Y4, Y1, Y1
	ADDQ $4, SI
	ADDQ DX, AX
	DECQ CX
	JNZ pair

	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	VZEROUPPER
	RET
