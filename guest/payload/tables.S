// SPDX-License-Identifier: Apache-2.0
/*
 * Walks the ACPI tables from the RSDP it was given and checks every checksum (ACPI 6.5,
 * 5.2.5 to 5.2.11). Prints the signatures in order, each followed by its length and "ok" or
 * "bad", then "tables ok", "tables bad", or "no rsdp".
 */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	mov	boot_rsdp, %rbx
	test	%rbx, %rbx
	jnz	1f
	PRINT	"no rsdp\n"
	ret
1:	PRINT	"RSDP 36 "
	mov	$0x2052545020445352, %rax /* "RSD PTR " */
	xor	%r12d, %r12d		/* how many are bad */
	cmp	(%rbx), %rax
	setne	%bpl
	cmpl	$36, 20(%rbx)		/* length of revision 2 */
	setne	%al
	or	%al, %bpl
	mov	%rbx, %rsi		/* the checksum of ACPI 1.0 */
	mov	$20, %ecx
	call	checksum
	or	%al, %bpl
	mov	%rbx, %rsi		/* and the extended one */
	mov	$36, %ecx
	call	checksum
	or	%al, %bpl
	call	verdict

	mov	24(%rbx), %rbx		/* XSDT */
	call	table
	mov	4(%rbx), %r13d
	add	%rbx, %r13		/* its end */
	lea	36(%rbx), %r14
2:	cmp	%r13, %r14
	jae	3f
	mov	(%r14), %rbx
	call	table
	add	$8, %r14
	cmpl	$0x50434146, (%rbx)	/* "FACP" */
	jne	2b
	mov	140(%rbx), %rbx		/* X_DSDT */
	call	table
	jmp	2b
3:	test	%r12d, %r12d
	jnz	4f
	PRINT	"tables ok\n"
	ret
4:	PRINT	"tables bad\n"
	ret

/* Print and check the table at rbx. */
table:
	mov	$4, %ebp
	mov	%rbx, %rdi
1:	mov	(%rdi), %al
	call	putc
	inc	%rdi
	dec	%ebp
	jnz	1b
	PRINT	" "
	mov	4(%rbx), %eax
	call	putdec
	PRINT	" "
	mov	$1, %bpl		/* too short is bad, and not summed */
	mov	4(%rbx), %ecx
	cmp	$36, %ecx
	jb	verdict
	mov	%rbx, %rsi
	call	checksum
	mov	%al, %bpl
verdict:
	test	%bpl, %bpl
	jnz	1f
	PRINT	"ok\n"
	ret
1:	inc	%r12d
	PRINT	"bad\n"
	ret
