// SPDX-License-Identifier: Apache-2.0
/* Reports a panic (bit 0) at the pvpanic port, with "event=N" that event, then halts. */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	PRINT	"panic\n"
	mov	$1, %eax
	mov	$event_option, %esi
	call	option
	mov	$PVPANIC, %edx
	out	%al, (%dx)
1:	cli
	hlt
	jmp	1b

	.section .rodata
event_option:
	.asciz	"event="
