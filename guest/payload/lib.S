// SPDX-License-Identifier: Apache-2.0
/*
 * The payloads' library: entry by either boot protocol, serial output, the facts handed
 * over at boot, ACPI tables, the local APIC. See payload.h.
 *
 * Protocols: Linux's Documentation/arch/x86/boot.rst ("64-bit Boot Protocol") and
 * zero-page.rst; Xen's public/arch-x86/hvm/start_info.h.
 *
 * Functions take and return values in registers named at each, and change only those and
 * the ones named as changed. All addresses fit into 32 bits.
 */
#include "payload.h"

/* Entries */

	.code32
	.section .text.start32, "ax", @progbits
	.weak	start32
start32:
	cld
	mov	%ebx, %esi
	mov	$1, %edi		/* boot_pvh */
	lgdt	gdt_pointer
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
	or	$1 << 31 | 1, %eax	/* PG, PE */
	mov	%eax, %cr0
	ljmp	$CS64, $start_common

	.code64
	.section .text.start64, "ax", @progbits
	.weak	start64
start64:
	cld
	xor	%edi, %edi
	/* Kept for payloads that check the state at entry. */
	mov	%cs, entry_cs
	mov	%ds, entry_ds
	mov	%cr0, %rax
	mov	%rax, entry_cr0
	mov	%cr4, %rax
	mov	%rax, entry_cr4
	mov	$0xc0000080, %ecx
	rdmsr
	mov	%eax, entry_efer
	mov	$pml4, %eax
	mov	%rax, %cr3
	lgdt	gdt_pointer
	mov	$stack_top, %esp
	push	$CS64
	push	$start_common
	lretq

	.section .text.start_common, "ax", @progbits
start_common:
	LOAD_DATA_SEGMENTS DS
	mov	$stack_top, %esp
	mov	%edi, boot_pvh
	mov	%rsi, boot_info
	test	%edi, %edi
	jnz	1f
	call	read_zero_page
	jmp	2f
1:	call	read_start_info
2:	call	serial_init
	call	main
	.globl	poweroff
poweroff:
	POWEROFF

/* What was handed over */

read_zero_page:
	mov	0x228(%rsi), %eax	/* cmd_line_ptr */
	mov	0x0c8(%rsi), %edx	/* ext_cmd_line_ptr */
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, boot_cmdline
	mov	0x070(%rsi), %rax	/* acpi_rsdp_addr */
	mov	%rax, boot_rsdp
	mov	0x218(%rsi), %eax	/* ramdisk_image */
	mov	0x0c0(%rsi), %edx	/* ext_ramdisk_image */
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, boot_initrd
	mov	0x21c(%rsi), %eax	/* ramdisk_size */
	mov	%rax, boot_initrd_size
	lea	0x2d0(%rsi), %rax	/* e820_table */
	mov	%rax, boot_map
	movzbl	0x1e8(%rsi), %eax	/* e820_entries */
	mov	%eax, boot_map_count
	movl	$20, boot_map_stride
	ret

read_start_info:
	mov	0x18(%rsi), %rax	/* cmdline_paddr */
	mov	%rax, boot_cmdline
	mov	0x20(%rsi), %rax	/* rsdp_paddr */
	mov	%rax, boot_rsdp
	cmpl	$0, 0x0c(%rsi)		/* nr_modules */
	je	1f
	mov	0x10(%rsi), %rdx	/* modlist_paddr */
	mov	0x00(%rdx), %rax
	mov	%rax, boot_initrd
	mov	0x08(%rdx), %rax
	mov	%rax, boot_initrd_size
1:	cmpl	$1, 0x04(%rsi)		/* version: memory map since 1 */
	jb	2f
	mov	0x28(%rsi), %rax	/* memmap_paddr */
	mov	%rax, boot_map
	mov	0x30(%rsi), %eax	/* memmap_entries */
	mov	%eax, boot_map_count
	movl	$24, boot_map_stride
2:	ret

/*
 * Find option @rsi ("name=", NUL-terminated) in the command line: rax = the decimal number
 * behind it, or rax as it was when there is none. Changes rcx, rdx, r8, r9.
 */
FUNC option
	mov	boot_cmdline, %rdx
	test	%rdx, %rdx
	jz	9f
1:	mov	%rsi, %r8
	mov	%rdx, %rcx
2:	cmpb	$0, (%r8)		/* all of the name? */
	je	4f
	movzbl	(%rcx), %r9d
	cmp	(%r8), %r9b
	jne	3f
	inc	%rcx
	inc	%r8
	jmp	2b
3:	cmpb	$0, (%rdx)
	je	9f
	inc	%rdx
	jmp	1b
4:	xor	%eax, %eax
5:	movzbl	(%rcx), %r9d
	sub	$'0', %r9d
	cmp	$9, %r9d
	ja	9f
	imul	$10, %rax, %rax
	add	%r9, %rax
	inc	%rcx
	jmp	5b
9:	ret

/* Serial port */

/* 8n1 with FIFOs, no interrupts. Changes rax, rdx. */
FUNC serial_init
	mov	$SERIAL + 3, %edx	/* LCR: DLAB off, 8n1 */
	mov	$0x03, %al
	out	%al, (%dx)
	mov	$SERIAL + 1, %edx	/* IER: none */
	xor	%eax, %eax
	out	%al, (%dx)
	mov	$SERIAL + 2, %edx	/* FCR: enable and clear both */
	mov	$0x07, %al
	out	%al, (%dx)
	mov	$SERIAL + 4, %edx	/* MCR: DTR, RTS, OUT2 (lets the interrupt out) */
	mov	$0x0b, %al
	out	%al, (%dx)
	ret

/* Print the byte al. Changes rdx. */
FUNC putc
	push	%rax
	mov	$SERIAL_LSR, %edx
1:	in	(%dx), %al
	test	$LSR_THRE, %al
	jz	1b
	pop	%rax
	mov	$SERIAL, %edx
	out	%al, (%dx)
	ret

/* Print the string at rsi. Changes rax, rdx, rsi. */
FUNC puts
	mov	(%rsi), %al
	test	%al, %al
	jz	1f
	call	putc
	inc	%rsi
	jmp	puts
1:	ret

/* Print rax in hexadecimal, without leading zeroes. Changes rax, rdx. */
FUNC puthex
	push	%rcx
	push	%rbx
	mov	%rax, %rbx
	mov	$60, %ecx
1:	mov	%rbx, %rax		/* skip zeroes, but not the last */
	shr	%cl, %rax
	jnz	2f
	test	%ecx, %ecx
	jz	2f
	sub	$4, %ecx
	jmp	1b
2:	mov	%rbx, %rax
	shr	%cl, %rax
	and	$15, %eax
	mov	hex_digits(%rax), %al
	call	putc
	sub	$4, %ecx
	jns	2b
	pop	%rbx
	pop	%rcx
	ret

/* Print rax in decimal. Changes rax, rdx. */
FUNC putdec
	push	%rcx
	mov	$10, %ecx
	call	1f
	pop	%rcx
	ret
1:	xor	%edx, %edx
	div	%rcx
	push	%rdx
	test	%rax, %rax
	jz	2f
	call	1b
2:	pop	%rax
	add	$'0', %al
	jmp	putc

/* Memory */

/*
 * Make the page at physical address rax reachable under the same address, whatever that
 * is. Above 4 GiB one GiB is reachable at a time. Changes rcx, rdx, r8.
 */
FUNC map_page
	mov	%rax, %rcx
	shr	$32, %rcx
	jz	9f			/* always mapped */
	mov	%rax, %rcx
	shr	$39, %rcx
	and	$511, %ecx
	mov	$pdpt, %r8d
	jz	1f
	mov	$high_pdpt, %r8d
	lea	3(%r8), %rdx
	mov	%rdx, pml4(, %rcx, 8)
1:	mov	%rax, %rcx
	shr	$30, %rcx
	and	$511, %ecx
	mov	$high_pd + 3, %edx
	mov	%rdx, (%r8, %rcx, 8)
	mov	%rax, %rcx
	shr	$21, %rcx
	and	$511, %ecx
	mov	%rax, %rdx
	and	$~0x1fffff, %rdx
	or	$0x83, %rdx		/* 2 MiB page */
	mov	%rdx, high_pd(, %rcx, 8)
	mov	$pml4, %edx
	mov	%rdx, %cr3
9:	ret

/* ACPI (ACPI 6.5, 5.2) */

/* al = sum of rcx bytes at rsi, ZF says whether it is 0. Changes rcx, rsi. */
FUNC checksum
	xor	%eax, %eax
1:	add	(%rsi), %al
	inc	%rsi
	dec	%rcx
	jnz	1b
	test	%al, %al
	ret

/* rax = table with signature edi, 0 when there is none. Changes rcx, rdx. */
FUNC find_table
	mov	boot_rsdp, %rdx
	test	%rdx, %rdx
	jz	8f
	mov	24(%rdx), %rdx		/* XSDT */
	mov	4(%rdx), %ecx
	add	%rdx, %rcx		/* its end */
	add	$36, %rdx
1:	cmp	%rcx, %rdx
	jae	8f
	mov	(%rdx), %rax
	cmp	%edi, (%rax)
	je	9f
	add	$8, %rdx
	jmp	1b
8:	xor	%eax, %eax
9:	ret

/* Local APIC (Intel SDM volume 3, chapter 10) */

/*
 * Switch the local APIC on, as x2APIC when there is one and edi is not 0. eax = this
 * CPU's APIC ID. Changes rbx, rcx, rdx.
 */
FUNC lapic_init
	test	%edi, %edi
	jz	1f
	mov	$1, %eax
	cpuid
	test	$1 << 21, %ecx
	jz	1f
	mov	$0x1b, %ecx		/* IA32_APIC_BASE: EN, EXTD */
	rdmsr
	or	$3 << 10, %eax
	wrmsr
1:	mov	$0x1b, %ecx
	rdmsr
	shr	$10, %eax
	and	$1, %eax
	mov	%al, lapic_x2
	mov	$0xf0, %ecx		/* spurious interrupt vector: enable */
	mov	$0x1ff, %eax
	call	lapic_write
	cmpb	$0, lapic_x2
	jne	2f
	mov	$LAPIC + 0x20, %eax	/* ID */
	mov	(%rax), %eax
	shr	$24, %eax
	ret
2:	mov	$0x802, %ecx
	rdmsr
	ret

/* Write eax to the register at offset ecx; for 0x300 (ICR) edx is the target. Changes those. */
FUNC lapic_write
	cmpb	$0, lapic_x2
	jne	2f
	cmp	$0x300, %ecx
	jne	1f
	push	%rax
	mov	$LAPIC + 0x310, %eax
	shl	$24, %edx
	mov	%edx, (%rax)
	pop	%rax
1:	add	$LAPIC, %ecx
	mov	%eax, (%rcx)
	ret
2:	cmp	$0x300, %ecx
	je	3f
	xor	%edx, %edx
3:	shr	$4, %ecx
	add	$0x800, %ecx
	wrmsr
	ret

/* Data */

	.section .rodata.lib, "a", @progbits
hex_digits:
	.ascii	"0123456789abcdef"

	.section .data.lib, "aw", @progbits
	.balign	8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* CS64 */
	.quad	0x00cf93000000ffff	/* DS */
	.quad	0x00cf9b000000ffff	/* CS32 */
gdt_end:
	.globl	gdt_pointer
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

/*
 * Page tables made by the assembler: filling them would cost the guest its first 4 ms. Level 3
 * may use all of it, too (user.S).
 */
	.section .data.page_tables, "aw", @progbits
	.balign	4096
	.globl	pml4
pml4:	.quad	pdpt + 7
	.fill	511, 8, 0
pdpt:	.quad	pd + 7, pd + 4096 + 7, pd + 8192 + 7, pd + 12288 + 7
	.fill	508, 8, 0
pd:
	.set	address, 0
	.rept	2048
	.quad	address + 0x87		/* present, writable, user, 2 MiB */
	.set	address, address + 0x200000
	.endr

	.section .bss.page_tables, "aw", @nobits
	.balign	4096
high_pdpt:
	.skip	4096
high_pd:
	.skip	4096

	.section .bss.lib, "aw", @nobits
	.balign	16
stack:	.skip	16384
stack_top:
	.irp	name, boot_info, boot_cmdline, boot_rsdp, boot_map, boot_initrd, boot_initrd_size, \
		entry_cr0, entry_cr4
	.globl	\name
\name:	.skip	8
	.endr
	.irp	name, boot_pvh, boot_map_count, boot_map_stride, entry_efer, entry_cs, entry_ds, \
		lapic_x2
	.globl	\name
\name:	.skip	4
	.endr
