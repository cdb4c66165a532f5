// SPDX-License-Identifier: Apache-2.0
/*
 * Starts every other CPU the MADT lists by INIT and SIPI (Intel SDM volume 3, 8.4), each of
 * which counts itself in real mode and halts. Prints "smp FOUND of LISTED", the first CPU
 * among them. The local APIC is used in x2APIC mode when there is one, with "xapic=1" on the
 * command line through MMIO.
 *
 * The waits between INIT and SIPI that real hardware needs are left out: a local APIC made
 * of software needs none.
 */
#include "payload.h"

	PVH_NOTE start32

#define INIT 0x4500
#define SIPI (0x4600 | LOW_CODE >> 12)

/* Longest wait for the others: 2^34 ticks, some seconds. */
#define WAIT_SHIFT 34

FUNC main
	mov	$ap_code, %esi
	mov	$LOW_CODE, %edi
	mov	$ap_code_end - ap_code, %ecx
	rep movsb

	xor	%eax, %eax
	mov	$xapic_option, %esi
	call	option
	mov	%eax, %edi
	xor	$1, %edi
	call	lapic_init
	mov	%eax, %r12d		/* our own APIC ID */

	mov	$0x43495041, %edi	/* "APIC" */
	call	find_table
	test	%rax, %rax
	jnz	1f
	PRINT	"no madt\n"
	ret
1:	mov	4(%rax), %r14d
	add	%rax, %r14		/* its end */
	lea	44(%rax), %r13
	xor	%ebp, %ebp		/* CPUs listed */
2:	cmp	%r14, %r13
	jae	5f
	cmpb	$0, (%r13)		/* processor local APIC */
	je	3f
	cmpb	$9, (%r13)		/* processor local x2APIC */
	jne	4f
	testb	$1, 8(%r13)		/* enabled */
	jz	4f
	mov	4(%r13), %ebx
	call	start_cpu
	jmp	4f
3:	testb	$1, 4(%r13)
	jz	4f
	movzbl	3(%r13), %ebx
	call	start_cpu
4:	movzbl	1(%r13), %eax		/* length */
	test	%eax, %eax
	jz	5f
	add	%rax, %r13
	jmp	2b

5:	call	time
	mov	%rax, %rbx
6:	pause
	mov	LOW_CODE + ap_count - ap_code, %r12d
	inc	%r12d			/* and this one */
	cmp	%ebp, %r12d
	jae	7f
	call	time
	sub	%rbx, %rax
	shr	$WAIT_SHIFT, %rax
	jz	6b
7:	PRINT	"smp "
	mov	%r12d, %eax
	call	putdec
	PRINT	" of "
	mov	%ebp, %eax
	call	putdec
	PRINT	"\n"
	ret

/* Count the CPU with APIC ID ebx, and start it unless it is this one. */
start_cpu:
	inc	%ebp
	cmp	%r12d, %ebx
	je	1f
	mov	$INIT, %eax
	mov	%ebx, %edx
	mov	$0x300, %ecx
	call	lapic_write
	mov	$SIPI, %eax
	mov	%ebx, %edx
	mov	$0x300, %ecx
	jmp	lapic_write
1:	ret

/* rax = time stamp counter. */
time:
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	ret

	.section .rodata
xapic_option:
	.asciz	"xapic="

/* Runs at LOW_CODE, in real mode with CS = LOW_CODE >> 4. */
	.section .text.ap, "ax", @progbits
	.code16
ap_code:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lock incl ap_count - ap_code
1:	hlt
	jmp	1b
	.balign	4
ap_count:
	.long	0
ap_code_end:
