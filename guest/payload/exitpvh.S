// SPDX-License-Identifier: Apache-2.0
/*
 * Powers off in its first three instructions, at the PVH entry. No 64-bit entry point
 * (e_entry is 0), no library.
 */
#include "payload.h"

	PVH_NOTE start
	.globl	start64
	.set	start64, 0

	.code32
start:
	POWEROFF
