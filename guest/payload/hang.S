// SPDX-License-Identifier: Apache-2.0
/* Prints one line, then runs in a circle for ever. */
#include "payload.h"

	PVH_NOTE start32

FUNC main
	PRINT	"hanging\n"
	jmp	.
