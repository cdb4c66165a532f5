// SPDX-License-Identifier: Apache-2.0
/*
 * Resets the machine twice by ACPI's reset register and powers off at the third boot.
 * Prints "boot 1", "boot 2", "boot 3". The count is kept in byte 0x40 of the CMOS RAM,
 * which a battery keeps; memory is cleared by the monitor's reset: what the last boot left
 * there is reported as "memory survived".
 *
 * With "boots=N" on the command line N takes the place of 3.
 */
#include "payload.h"

	PVH_NOTE start32

#define COUNT_INDEX 0x40

FUNC main
	cmpq	$0, survivor
	je	1f
	PRINT	"memory survived\n"
1:	mov	$COUNT_INDEX, %al
	out	%al, $RTC_INDEX
	in	$RTC_DATA, %al
	inc	%al
	out	%al, $RTC_DATA
	movzbl	%al, %ebx
	mov	%rbx, survivor
	PRINT	"boot "
	mov	%ebx, %eax
	call	putdec
	PRINT	"\n"
	mov	$3, %eax
	mov	$boots_option, %esi
	call	option
	cmp	%eax, %ebx
	jae	2f
	mov	$RESET_PORT, %edx
	mov	$RESET_VALUE, %al
	out	%al, (%dx)
1:	hlt
	jmp	1b
	/* The next run of this payload may find the same clock. */
2:	xor	%eax, %eax
	out	%al, $RTC_DATA
	ret

	.section .rodata
boots_option:
	.asciz	"boots="

/* Behind everything that is loaded. */
	.bss
	.balign	4096
	.skip	4096
survivor:
	.quad	0
