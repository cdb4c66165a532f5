// SPDX-License-Identifier: Apache-2.0
/* Prints one line, then halts with interrupts off: nothing but a reset wakes it. */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	PRINT	"halted\n"
1:	cli
	hlt
	jmp	1b
