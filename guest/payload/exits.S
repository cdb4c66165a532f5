// SPDX-License-Identifier: Apache-2.0
/*
 * Leaves the guest "pio=N" times by an `out` to port 0x80 and "mmio=N" times by a write of
 * 4 bytes to an address, behind neither of which there is a device; then powers off.
 */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	xor	%eax, %eax
	mov	$pio_option, %esi
	call	option
	mov	%eax, %ebx
	xor	%eax, %eax
	mov	$mmio_option, %esi
	call	option
	mov	%eax, %ecx
	xor	%eax, %eax
	test	%ebx, %ebx
	jz	2f
1:	out	%al, $0x80
	dec	%ebx
	jnz	1b
2:	mov	$MMIO32, %edx
	test	%ecx, %ecx
	jz	4f
3:	mov	%eax, (%rdx)
	dec	%ecx
	jnz	3b
4:	ret

	.section .rodata
pio_option:
	.asciz	"pio="
mmio_option:
	.asciz	"mmio="
