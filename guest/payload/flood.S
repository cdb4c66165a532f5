// SPDX-License-Identifier: Apache-2.0
/*
 * Prints 4 MiB as fast as it can, 16 bytes whenever the transmitter is empty: 65536 lines
 * of 63 characters. With "lines=N" as many of them.
 */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	mov	$65536, %eax
	mov	$lines_option, %esi
	call	option
	mov	%rax, %rbx
1:	mov	$line, %esi
	mov	$4, %ebp
2:	mov	$SERIAL_LSR, %edx
3:	in	(%dx), %al
	test	$LSR_THRE, %al
	jz	3b
	mov	$SERIAL, %edx
	mov	$16, %ecx
	rep outsb
	dec	%ebp
	jnz	2b
	dec	%rbx
	jnz	1b
	ret

	.section .rodata
lines_option:
	.asciz	"lines="
line:	.ascii	"0123456789abcdefghijklmnopqrstuvwxyz"
	.ascii	"ABCDEFGHIJKLMNOPQRSTUVWXYZ.\n"
