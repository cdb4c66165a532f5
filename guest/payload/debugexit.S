// SPDX-License-Identifier: Apache-2.0
/* Ends the VM with the status "exit=N" on the command line asks for, 0 without. */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	xor	%eax, %eax
	mov	$exit_option, %esi
	call	option
	mov	$DEBUG_EXIT, %edx
	out	%al, (%dx)
	PRINT	"no debug exit port\n"
	ret

	.section .rodata
exit_option:
	.asciz	"exit="
