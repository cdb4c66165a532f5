// SPDX-License-Identifier: Apache-2.0
/*
 * Sends every byte of serial input back, by polling, and powers off after 64 KiB of them,
 * or as many as "count=N" says. Prints "ready" first.
 */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	mov	$65536, %eax
	mov	$count_option, %esi
	call	option
	mov	%rax, %rbx
	PRINT	"ready\n"
1:	mov	$SERIAL_LSR, %edx
2:	in	(%dx), %al
	test	$LSR_DATA, %al
	jz	2b
	mov	$SERIAL, %edx
	in	(%dx), %al
	call	putc
	dec	%rbx
	jnz	1b
	ret

	.section .rodata
count_option:
	.asciz	"count="
