// SPDX-License-Identifier: Apache-2.0
/*
 * Hostile: pokes where no memory is. Each place is read, and written with zeroes and ones,
 * in widths of 1, 2, 4 and 8 bytes, aligned and not, and across its end: the 32-bit window of
 * PCI memory, the configuration space of every PCI function (which moves the BARs of whatever
 * is there), the I/O APIC, the top of 4 GiB, and an address far above all RAM. Prints
 * "badmmio ok" at the end, if there is one.
 */
#include "payload.h"

	PVH_NOTE start32

/* Addresses have 46 bits at most here: hosts with four-level paging take no more than 48. */
#define ADDRESS_BITS_MAX 46

FUNC main
	mov	$places, %ebp
1:	mov	(%rbp), %ebx		/* first */
	mov	4(%rbp), %r12d		/* last */
	mov	8(%rbp), %r13d		/* step */
	test	%r13d, %r13d
	jz	3f
2:	call	poke
	add	%r13, %rbx
	cmp	%r12, %rbx
	jbe	2b
	add	$12, %rbp
	jmp	1b

	/* Half of the physical address space: nobody has that much RAM. */
3:	mov	$0x80000008, %eax
	cpuid
	movzbl	%al, %ecx
	cmp	$ADDRESS_BITS_MAX, %ecx
	jbe	4f
	mov	$ADDRESS_BITS_MAX, %ecx
4:	dec	%ecx
	mov	$1, %ebx
	shl	%cl, %rbx
	mov	%rbx, %rax
	call	map_page
	call	poke
	add	$0xffd, %rbx		/* across a page */
	call	poke

	call	serial_init
	PRINT	"badmmio ok\n"
	ret

/* Everything at address rbx. Changes rax. */
poke:
	mov	(%rbx), %al
	mov	(%rbx), %ax
	mov	(%rbx), %eax
	mov	(%rbx), %rax
	xor	%eax, %eax
	mov	%al, (%rbx)
	mov	%ax, (%rbx)
	mov	%eax, (%rbx)
	mov	%rax, (%rbx)
	dec	%rax
	mov	%al, (%rbx)
	mov	%ax, (%rbx)
	mov	%eax, (%rbx)
	mov	%rax, (%rbx)
	ret

/* First, last, step. */
	.section .rodata
	.balign	4
places:
	.long	MMIO32, MMIO32 + 0x40, 1
	.long	MMIO32 + 0x1000, ECAM - 1, 0x00fff003
	.long	ECAM - 7, ECAM + 0x100, 1	/* the host bridge, byte by byte */
	.long	ECAM + 0x100, ECAM + ECAM_SIZE - 1, 0x44
	.long	ECAM + ECAM_SIZE - 8, ECAM + ECAM_SIZE + 8, 1
	.long	IOAPIC - 7, IOAPIC + 0x48, 1
	.long	IOAPIC + 0xff9, IOAPIC + 0x1008, 1
	.long	0xfed00000, 0xfed10000, 0xfff	/* HPET and TPM of other machines */
	.long	0xffff0000, 0xfffffff0, 0x0ff0	/* where firmware would be */
	.long	0xfffffff8, 0xfffffff8, 8
	.long	0, 0, 0
