// SPDX-License-Identifier: Apache-2.0
/* PVH: prints from 32-bit protected mode, as it was entered, and powers off. */
#include "payload.h"

	PVH_NOTE start
	.globl	start64
	.set	start64, 0

	.code32
start:
	cld
	cmpl	$0x336ec578, (%ebx)	/* magic of hvm_start_info */
	jne	2f
	mov	$message, %esi
1:	mov	$SERIAL_LSR, %edx
	in	(%dx), %al
	test	$LSR_THRE, %al
	jz	1b
	mov	$SERIAL, %edx
	lodsb
	test	%al, %al
	jz	2f
	out	%al, (%dx)
	jmp	1b
2:	POWEROFF

	.section .rodata
message:
	.asciz	"protected mode ok\n"
