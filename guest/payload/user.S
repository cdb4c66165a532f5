// SPDX-License-Identifier: Apache-2.0
/*
 * Privilege level 3, a second CPU, interrupts. See clib.h.
 *
 * Level 3 is entered by SYSEXIT (Intel SDM volume 2): emulators of level 0 know it, but
 * neither IRETQ nor a far return to an outer level. The I/O ports are opened by a TSS whose
 * permission bitmap is all zero (volume 1, 19.5.2): IOPL in RFLAGS does not survive on hosts that
 * run level 3 natively without hardware virtualisation.
 *
 * Interrupts. There is no IRET here (see payload.h). irq_wait() saves what a C function must
 * keep, sleeps in HLT, and the handler goes back to irq_wait()'s caller with the stack
 * as it was saved, dropping its own frame. RFLAGS.IF is off at all other times.
 */
#include "payload.h"

#define TSS	     0x38
#define SYSENTER_CS  0x174		/* MSR: SYSEXIT selects what is 32 and 40 behind */
#define INIT	     0x4500
#define SIPI	     (0x4600 | LOW_CODE >> 12)
#define IRQ_VECTOR   0x40
#define IRQ_VECTORS  16

/* Go to rdx with the stack rcx, at level 3. */
	.section .text.to_user, "ax", @progbits
to_user:
	push	%rcx
	push	%rdx
	mov	$SYSENTER_CS, %ecx
	mov	$USER_CS - 3 - 32, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rdx
	pop	%rcx
	mov	$USER_DS, %eax
	mov	%eax, %ds
	mov	%eax, %es
	rex.w sysexit

FUNC enter_user
	mov	$tss, %eax
	movw	$104, 102(%rax)		/* offset of the permission bitmap */
	movb	$0xff, tss_end - 1	/* which ends with ones */
	mov	%ax, tss_descriptor + 2
	shr	$16, %eax
	mov	%al, tss_descriptor + 4
	mov	%ah, tss_descriptor + 7
	lgdt	user_gdt_pointer
	mov	$TSS, %eax
	ltr	%ax
	pop	%rdx			/* where we were called from */
	mov	%rsp, %rcx
	jmp	to_user

/* A second CPU: real mode at LOW_CODE, then as start32. */

FUNC start_other
	mov	%rdi, other_function
	mov	$other_code, %esi
	mov	$LOW_CODE, %edi
	mov	$other_code_end - other_code, %ecx
	rep movsb
	push	%rbx
	mov	$1, %edi
	call	lapic_init
	pop	%rbx
	mov	$INIT, %eax
	mov	$1, %edx
	mov	$0x300, %ecx
	call	lapic_write
	mov	$SIPI, %eax
	mov	$1, %edx
	mov	$0x300, %ecx
	jmp	lapic_write

	.code16
other_code:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	other_gdt_pointer - other_code
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$CS32, $other32
	.balign	4
other_gdt_pointer:
	.word	user_gdt_end - user_gdt - 1
	.long	user_gdt
other_code_end:

	.code32
other32:
	mov	$DS, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%cr4, %eax
	or	$1 << 5, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER */
	rdmsr
	or	$1 << 8, %eax		/* LME */
	wrmsr
	mov	%cr0, %eax
	or	$1 << 31, %eax		/* PG */
	mov	%eax, %cr0
	ljmp	$CS64, $other64
	.code64
other64:
	mov	$other_stack_top, %esp
	mov	other_function, %rdx
	lea	-8(%rsp), %rcx		/* as behind a call */
	jmp	to_user

/* Interrupts */

FUNC irq_init
	push	%rbx
	mov	$idt + IRQ_VECTOR * 16, %edi
	mov	$irq_stubs, %eax
	mov	$IRQ_VECTORS, %ecx
1:	mov	%ax, (%rdi)
	movl	$0x8e000000 | CS64, 2(%rdi)
	mov	%eax, %edx
	shr	$16, %edx
	mov	%dx, 6(%rdi)
	add	$8, %eax
	add	$16, %edi
	dec	%ecx
	jnz	1b
	lidt	idt_pointer
	xor	%edi, %edi		/* in whatever mode it is */
	call	lapic_init
	pop	%rbx
	ret

	.section .text.irq_stubs, "ax", @progbits
	.balign	8
irq_stubs:
	.set	vector, IRQ_VECTOR
	.rept	IRQ_VECTORS
	.balign	8
	mov	$vector, %eax
	jmp	irq_common
	.set	vector, vector + 1
	.endr

irq_common:
	mov	irq_stack, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

FUNC irq_wait
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, irq_stack
1:	sti
	hlt
	jmp	1b

FUNC irq_done
	mov	$0xb0, %ecx		/* end of interrupt */
	xor	%eax, %eax
	jmp	lapic_write

/* I/O APIC (Intel 82093AA): edi = pin, esi = vector; fixed, physical, edge, not masked. */
FUNC irq_route
	push	%rbx
	push	%rdi
	push	%rsi
	xor	%edi, %edi
	call	lapic_init		/* eax = APIC ID */
	pop	%rsi
	pop	%rdi
	pop	%rbx
	shl	$24, %eax
	mov	$IOAPIC, %ecx
	lea	0x11(%rdi, %rdi), %edx
	mov	%edx, (%rcx)
	mov	%eax, 0x10(%rcx)
	dec	%edx
	mov	%edx, (%rcx)
	mov	%esi, 0x10(%rcx)
	ret

	.section .data.user, "aw", @progbits
	.balign	8
user_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* CS64 */
	.quad	0x00cf93000000ffff	/* DS */
	.quad	0x00cf9b000000ffff	/* CS32 */
	.quad	0
	.quad	0x00affb000000ffff	/* USER_CS */
	.quad	0x00cff3000000ffff	/* USER_DS */
tss_descriptor:				/* enter_user puts the address in */
	.word	tss_end - tss - 1, 0
	.byte	0, 0x89, 0, 0		/* available 64-bit TSS */
	.quad	0
user_gdt_end:
user_gdt_pointer:
	.word	user_gdt_end - user_gdt - 1
	.quad	user_gdt
idt_pointer:
	.word	256 * 16 - 1
	.quad	idt

	.section .bss.user, "aw", @nobits
	.balign	4096
idt:	.skip	256 * 16
tss:	.skip	104 + 65536 / 8 + 1
tss_end:
	.balign	16
	.skip	8192
other_stack_top:
other_function:
	.skip	8
irq_stack:
	.skip	8
