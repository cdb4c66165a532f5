// SPDX-License-Identifier: Apache-2.0
/*
 * Says "x" on the serial port and ends the VM by the debug exit port with status 42, in its
 * first instructions: what is left is the monitor's own time. Ends other monitors too:
 * QEMU's isa-debug-exit makes 85 of it. The code is the same for both entries.
 */
#include "payload.h"

	PVH_NOTE start64

	.globl	start64
start64:
	mov	$SERIAL, %edx
	mov	$'x', %al
	out	%al, (%dx)
	mov	$DEBUG_EXIT, %edx
	mov	$42, %al
	out	%al, (%dx)
	POWEROFF
