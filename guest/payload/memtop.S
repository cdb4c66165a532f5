// SPDX-License-Identifier: Apache-2.0
/*
 * Writes to and reads back the first and the last page of each range of RAM in the memory
 * map, and puts back what was there. Prints "ram BASE SIZE ok" or "bad" for each, and
 * "memtop SUM" with the sum of all sizes; hexadecimal.
 */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	mov	boot_map, %rbx
	mov	boot_map_count, %ebp
	xor	%r12d, %r12d
1:	dec	%ebp
	js	3f
	cmpl	$1, 16(%rbx)		/* RAM */
	jne	2f
	PRINT	"ram "
	mov	(%rbx), %rax
	call	puthex
	PRINT	" "
	mov	8(%rbx), %rax
	add	%rax, %r12
	call	puthex
	mov	(%rbx), %rax
	call	try
	mov	%al, %r13b
	mov	(%rbx), %rax
	add	8(%rbx), %rax
	sub	$8, %rax
	call	try
	or	%al, %r13b
	jnz	4f
	PRINT	" ok\n"
2:	mov	boot_map_stride, %eax
	add	%rax, %rbx
	jmp	1b
3:	PRINT	"memtop "
	mov	%r12, %rax
	call	puthex
	PRINT	"\n"
	ret
4:	PRINT	" bad\n"
	jmp	2b

/* Try the 8 bytes at rax: al = 0 when they keep what is written. Changes rcx, rdx, r8, r9. */
try:
	call	map_page
	mov	(%rax), %r8
	mov	%rax, %r9		/* the address itself as the pattern, and its inverse */
	mov	%r9, (%rax)
	cmp	(%rax), %r9
	setne	%cl
	not	%r9
	mov	%r9, (%rax)
	cmp	(%rax), %r9
	setne	%dl
	mov	%r8, (%rax)
	mov	%ecx, %eax
	or	%dl, %al
	ret
