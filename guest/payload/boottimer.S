// SPDX-License-Identifier: Apache-2.0
/*
 * Writes to the boot timer what means nothing, and then that it has booted, "times=N" times;
 * prints the byte that it reads there. With wake=1 it spins then until its generation id changes, as
 * it does when it is restored from a snapshot, and says once more that it has booted.
 */
#include "payload.h"

	PVH_NOTE start32

#define GENERATION 0xd0000

FUNC main
	mov	$BOOT_TIMER, %ebx
	movb	$122, (%rbx)		/* another value, another width, another place */
	movw	$123, (%rbx)
	movl	$123, (%rbx)
	movq	$123, (%rbx)
	movb	$123, 1(%rbx)
	movzbl	(%rbx), %ebp
	xor	%eax, %eax
	mov	$times_option, %esi
	call	option
	mov	%eax, %ecx
	jmp	2f
1:	movb	$123, (%rbx)
	dec	%ecx
2:	test	%ecx, %ecx
	jnz	1b
	call	serial_init
	PRINT	"boot timer "
	mov	%ebp, %eax
	call	puthex
	PRINT	"\n"
	xor	%eax, %eax
	mov	$wake_option, %esi
	call	option
	test	%eax, %eax
	jz	4f
	mov	$GENERATION, %edx
	mov	(%rdx), %rcx
3:	cmp	(%rdx), %rcx
	je	3b
	movb	$123, (%rbx)
4:	ret

	.section .rodata
times_option:
	.asciz	"times="
wake_option:
	.asciz	"wake="
