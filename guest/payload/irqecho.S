// SPDX-License-Identifier: Apache-2.0
/*
 * As echo, but driven by interrupts: serial port -> I/O APIC (Intel 82093AA) -> local APIC
 * -> IDT, asleep in HLT in between.
 *
 * There is no IRET here (see payload.h): the CPU is only ever interrupted in HLT with
 * nothing to go back to, so the handler drops its frame and goes to sleep again.
 */
#include "payload.h"

	PVH_NOTE start32

#define VECTOR	     0x30
#define REDIRECTION  (0x10 + 2 * SERIAL_GSI)

FUNC main
	mov	$65536, %eax
	mov	$count_option, %esi
	call	option
	mov	%rax, %r12
	mov	%rsp, %rbp

	/* IDT: one 64-bit interrupt gate. */
	mov	$interrupt, %eax
	mov	$idt + VECTOR * 16, %edi
	mov	%ax, (%rdi)
	movl	$0x8e000000 | CS64, 2(%rdi)
	shr	$16, %eax
	mov	%ax, 6(%rdi)
	lidt	idt_pointer

	xor	%edi, %edi		/* in whatever mode it is */
	call	lapic_init
	mov	%eax, %ecx
	shl	$24, %ecx
	mov	$REDIRECTION + 1, %eax	/* to this CPU */
	call	ioapic_write
	mov	$VECTOR, %ecx		/* fixed, physical, edge, active high, not masked */
	mov	$REDIRECTION, %eax
	call	ioapic_write

	mov	$SERIAL + 1, %edx	/* IER: data received */
	mov	$1, %al
	out	%al, (%dx)
	PRINT	"ready\n"
sleep:
	mov	%rbp, %rsp
	sti
	hlt
	jmp	sleep

interrupt:
	mov	$SERIAL_LSR, %edx
	in	(%dx), %al
	test	$LSR_DATA, %al
	jz	1f
	mov	$SERIAL, %edx
	in	(%dx), %al
	call	putc
	dec	%r12
	jz	poweroff
	jmp	interrupt
1:	mov	$0xb0, %ecx		/* end of interrupt */
	xor	%eax, %eax
	call	lapic_write
	jmp	sleep

/* Write ecx to register eax of the I/O APIC. Changes rdx. */
ioapic_write:
	mov	$IOAPIC, %edx
	mov	%eax, (%rdx)
	mov	%ecx, 0x10(%rdx)
	ret

	.section .rodata
count_option:
	.asciz	"count="

	.data
idt_pointer:
	.word	256 * 16 - 1
	.quad	idt

	.bss
	.balign	4096
idt:	.skip	256 * 16
