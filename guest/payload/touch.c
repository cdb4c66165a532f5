// SPDX-License-Identifier: Apache-2.0
/*
 * Uses memory: writes to every page from 16 MiB on, and prints "touched N" after each of mib= (32)
 * MiB, and "touch ok" in the end.
 */
#include "clib.h"

PVH_ENTRY;

#define BEGIN 0x1000000UL
#define PAGE  4096

void main(void)
{
	unsigned mib = (unsigned)arg_number("mib", 32);

	for (unsigned i = 0; i < mib; i++) {
		for (uint64_t at = 0; at < 1 << 20; at += PAGE)
			*(volatile uint8_t *)(BEGIN + ((uint64_t)i << 20) + at) = 1;
		print("touched %u\n", i + 1);
	}
	print("touch ok\n");
}
