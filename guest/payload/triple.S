// SPDX-License-Identifier: Apache-2.0
/* Ends in a triple fault: an invalid instruction without an interrupt table. */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	PRINT	"triple fault\n"
	lidt	no_idt
	ud2

	.data
no_idt:	.word	0
	.quad	0
