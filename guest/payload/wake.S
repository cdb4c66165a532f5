// SPDX-License-Identifier: Apache-2.0
/*
 * Says "ready" and spins until its generation id changes, as it does when it is restored from a
 * snapshot. Then it says "x" and, with the debug exit port, ends with 42; with the word stay=1 it
 * halts for good.
 */
#include "payload.h"

	PVH_NOTE start32

#define GENERATION 0xd0000

FUNC main
	mov	$0, %eax
	mov	$stay_option, %esi
	call	option
	mov	%rax, %rbp
	PRINT	"ready\n"
	mov	$GENERATION, %ebx
	mov	(%rbx), %r12
1:	mov	(%rbx), %rax
	cmp	%r12, %rax
	je	1b
	mov	$SERIAL, %edx
	mov	$'x', %al
	out	%al, (%dx)
	test	%ebp, %ebp
	jnz	2f
	mov	$42, %al
	out	%al, $0xf4
2:	cli
3:	hlt
	jmp	3b

	.section .rodata
stay_option:
	.asciz	"stay="
