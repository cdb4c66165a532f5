// SPDX-License-Identifier: Apache-2.0
/*
 * Powers off in its first three instructions, at the 64-bit entry. No PVH note, no library:
 * what is left is the monitor's own time.
 */
#include "payload.h"

	.globl	start64
start64:
	POWEROFF
