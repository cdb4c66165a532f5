// SPDX-License-Identifier: Apache-2.0
/*
 * Hostile: reads every port and writes zeroes and ones to it, in each width, also across
 * the end of the port space, but for the ports that end the VM. Prints "badport ok" at the
 * end, if there is one; before that the serial port may send what was written to it.
 *
 * With "step=N" only every Nth port from 0x1000 to 0xff00, where no device is expected.
 */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	mov	$1, %eax
	mov	$step_option, %esi
	call	option
	mov	%eax, %ebp
	xor	%ebx, %ebx		/* port */
1:	call	forbidden
	jc	2f
	mov	%ebx, %edx
	in	(%dx), %al
	in	(%dx), %ax
	in	(%dx), %eax
	xor	%eax, %eax
	out	%al, (%dx)
	out	%ax, (%dx)
	out	%eax, (%dx)
	dec	%eax
	out	%al, (%dx)
	out	%ax, (%dx)
	out	%eax, (%dx)
2:	inc	%ebx
	cmp	$0x10000, %ebx
	je	3f
	cmp	$0x1000, %ebx
	jb	1b
	cmp	$0xff00, %ebx
	jae	1b
	lea	-1(%rbx, %rbp), %ebx
	cmp	$0x10000, %ebx
	jb	1b
3:	call	serial_init
	PRINT	"\nbadport ok\n"
	ret

/* CF = a 4-byte access to port ebx touches one that is left out. Changes rsi, eax, ecx. */
forbidden:
	mov	$left_out, %esi
1:	movzwl	(%rsi), %eax		/* first and last of a range */
	movzwl	2(%rsi), %ecx
	add	$4, %rsi
	test	%ecx, %ecx
	jz	3f
	sub	$3, %eax
	cmp	%eax, %ebx
	jl	1b
	cmp	%ecx, %ebx
	jg	1b
	stc
	ret
3:	clc
	ret

	.section .rodata
step_option:
	.asciz	"step="
	.balign	4
left_out:
	.word	0x60, 0x64		/* keyboard controller: the reset command */
	.word	0x92, 0x92		/* system control port A: fast reset */
	.word	DEBUG_EXIT, DEBUG_EXIT
	.word	PVPANIC, PVPANIC
	.word	SLEEP_CONTROL, SLEEP_CONTROL + 7
	.word	0xcf9, 0xcf9		/* reset control of chipsets */
	.word	0, 0
