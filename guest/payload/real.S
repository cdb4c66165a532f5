// SPDX-License-Identifier: Apache-2.0
/*
 * Drops to real mode and prints from there with one string instruction, then powers off.
 *
 * The way down (Intel SDM volume 3, 9.9.2): a 16-bit code segment whose base is where the
 * code will be in real mode, data segments of 64 KiB, PE off, a far jump. The code is
 * copied below 1 MiB first.
 */
#include "payload.h"

	PVH_NOTE start
	.globl	start64
	.set	start64, 0

#define CS16 0x08
#define DS16 0x10

	.code32
start:
	cld
	mov	$low_code, %esi
	mov	$LOW_CODE, %edi
	mov	$low_code_end - low_code, %ecx
	rep movsb
	lgdt	gdt_pointer16
	ljmp	$CS16, $protected16 - low_code

	.code16
low_code:
protected16:
	mov	$DS16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	lidt	idt_pointer16 - low_code
	mov	%cr0, %eax
	and	$~1, %eax
	mov	%eax, %cr0
	ljmp	$LOW_CODE >> 4, $real_mode - low_code
real_mode:
	mov	%cs, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	$SERIAL + 2, %dx	/* FIFO on, so that it takes the string at once */
	mov	$1, %al
	out	%al, (%dx)
	mov	$SERIAL, %dx
	mov	$message - low_code, %si
	mov	$message_end - message, %cx
	rep outsb
	POWEROFF
message:
	.ascii	"real mode ok\n"
message_end:
	.balign	4
idt_pointer16:
	.word	0x3ff			/* the interrupt vectors of real mode */
	.long	0
low_code_end:

	.data
	.balign	8
gdt16:
	.quad	0
	.quad	0x00009b0000000000 | LOW_CODE << 16 | 0xffff
	.quad	0x0000930000000000 | LOW_CODE << 16 | 0xffff
gdt16_end:
gdt_pointer16:
	.word	gdt16_end - gdt16 - 1
	.long	gdt16
