// SPDX-License-Identifier: Apache-2.0
/*
 * Long mode: prints what was handed over at the entry, and powers off.
 *
 *	long mode ok
 *	entry linux64|pvh
 *	state cs=CS ds=DS cr0=CR0 cr4=CR4 efer=EFER	(64-bit entry only)
 *	cmdline COMMAND LINE
 *	rsdp ADDRESS
 *	initrd ADDRESS SIZE SUM
 *	map BASE SIZE TYPE				(once for each range)
 *
 * Numbers are hexadecimal. SUM is that of the initrd's bytes, in 32 bits that are rotated to
 * the left by one before each. Where the magic numbers of the boot parameters are missing,
 * "entry" is followed by " bad".
 */
#include "payload.h"

	PVH_NOTE start32

.macro PRINT_HEX text, where:vararg
	PRINT	"\text"
	mov	\where, %rax
	call	puthex
.endm

.macro PRINT_HEX32 text, where:vararg
	PRINT	"\text"
	mov	\where, %eax
	call	puthex
.endm

FUNC main
	PRINT	"long mode ok\n"
	mov	boot_info, %rbx
	cmpl	$0, boot_pvh
	je	1f
	PRINT	"entry pvh"
	cmpl	$0x336ec578, (%rbx)	/* hvm_start_info's magic */
	jne	2f
	jmp	3f
1:	PRINT	"entry linux64"
	cmpw	$0xaa55, 0x1fe(%rbx)	/* boot_flag */
	jne	2f
	cmpl	$0x53726448, 0x202(%rbx) /* "HdrS" */
	je	3f
2:	PRINT	" bad"
3:	PRINT	"\n"
	cmpl	$0, boot_pvh
	jne	4f
	PRINT_HEX32 "state cs=", entry_cs
	PRINT_HEX32 " ds=", entry_ds
	PRINT_HEX " cr0=", entry_cr0
	PRINT_HEX " cr4=", entry_cr4
	PRINT_HEX32 " efer=", entry_efer
	PRINT	"\n"
4:	PRINT	"cmdline "
	mov	boot_cmdline, %rsi
	test	%rsi, %rsi
	jz	5f
	call	puts
5:	PRINT_HEX "\nrsdp ", boot_rsdp
	PRINT_HEX "\ninitrd ", boot_initrd
	PRINT_HEX " ", boot_initrd_size
	mov	boot_initrd, %rsi
	mov	boot_initrd_size, %rcx
	xor	%ebx, %ebx
	jrcxz	9f
8:	movzbl	(%rsi), %eax
	rol	%ebx
	add	%eax, %ebx
	inc	%rsi
	dec	%rcx
	jnz	8b
9:	PRINT_HEX32 " ", %ebx
	PRINT	"\n"
	mov	boot_map, %rbx
	mov	boot_map_count, %ebp
6:	dec	%ebp
	js	7f
	PRINT_HEX "map ", (%rbx)
	PRINT_HEX " ", 8(%rbx)
	PRINT_HEX32 " ", 16(%rbx)
	PRINT	"\n"
	mov	boot_map_stride, %eax
	add	%rax, %rbx
	jmp	6b
7:	ret
