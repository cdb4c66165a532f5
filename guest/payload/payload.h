/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all payloads share: the machine's addresses and the macros of lib.S.
 *
 * A payload is one guest program that does one thing: `NAME.S`, or `NAME.c` (see clib.h), linked
 * with lib.S by payload.ld into a static ELF file that boots like a kernel. Payloads are the
 * guest side of the monitor's tests, so they know the machine only by what a guest may
 * know: the addresses here are written down a second time on purpose.
 *
 * Two ways in, both offered by lib.S, which brings either to 64-bit code at `main` with
 * the first 4 GiB mapped one to one, a stack, and the serial port set up:
 *
 *	start64		the ELF entry point: Linux's 64-bit boot protocol
 *	start32		Xen's PVH protocol, announced by the note PVH_NOTE writes
 *
 * When `main` returns the machine is powered off. A payload may bring its own entry instead
 * and leave the library out (what nobody refers to is not linked). Code keeps to plain
 * integer instructions, without SSE, `int` and `iret`: some hosts run it in an emulator
 * that knows no others.
 */
#ifndef GUEST_PAYLOAD_H
#define GUEST_PAYLOAD_H

/* Ports */
#define SERIAL	      0x3f8
#define SERIAL_LSR    (SERIAL + 5)
#define LSR_DATA      0x01 /* a byte was received */
#define LSR_THRE      0x20 /* the transmitter's FIFO is empty: room for 16 bytes */
#define RTC_INDEX     0x70
#define RTC_DATA      0x71
#define DEBUG_EXIT    0xf4
#define PVPANIC	      0x505
#define SLEEP_CONTROL 0x600
#define SLEEP_S5      0x34 /* SLP_EN, SLP_TYP 5 */
#define RESET_PORT    0x602
#define RESET_VALUE   1

/* Memory */
#define LOW_CODE     0x70000 /* free RAM below 1 MiB, for code in real mode */
#define IOAPIC	     0xfec00000
#define LAPIC	     0xfee00000
#define ECAM	     0xe8000000
#define ECAM_SIZE    0x100000
#define BOOT_TIMER   0xc0000000
#define MMIO32	     0xc0100000
#define SERIAL_GSI   4
#define VIRTIO_MMIO  0xe8100000 /* a page for each device */
#define VIRTIO_GSI   16		/* on MMIO: that of the first device */

/* Selectors of lib.S's GDT, and what user.S adds */
#define CS64	0x08
#define DS	0x10
#define CS32	0x18
#define USER_CS 0x2b
#define USER_DS 0x33

#ifdef __ASSEMBLER__

/* The stack is data, not code. */
	.section .note.GNU-stack, "", @progbits
	.text

/* Announce @entry (32-bit code) by a PVH note: owner "Xen", type 18, value 4 bytes. */
.macro PVH_NOTE entry
	.pushsection .note.pvh, "a", @note
	.balign	4
	.long	4, 4, 18
	.asciz	"Xen"
	.long	\entry
	.popsection
.endm

/* Begin global function @name in a section of its own, so that it can be left out. */
.macro FUNC name
	.section .text.\name, "ax", @progbits
	.globl	\name
	.type	\name, @function
\name:
.endm

/* 64-bit: print @text. Changes rax, rdx, rsi. */
.macro PRINT text
	.pushsection .rodata.str, "a", @progbits
.Lprint\@:
	.asciz	"\text"
	.popsection
	mov	$.Lprint\@, %esi
	call	puts
.endm

/* Any mode: end the VM by ACPI's S5, and wait for that. Changes eax, edx. */
.macro POWEROFF
	mov	$SLEEP_CONTROL, %edx
	mov	$SLEEP_S5, %al
	out	%al, (%dx)
.Lwait\@:
	cli
	hlt
	jmp	.Lwait\@
.endm

/* 32- or 64-bit: select segment @sel for all data. Changes eax. */
.macro LOAD_DATA_SEGMENTS sel
	mov	$\sel, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
.endm

#endif
#endif
