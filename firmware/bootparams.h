/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Linux kernel is handed at its entry: the "zero page" of the x86 boot
 * protocol (Documentation/arch/x86/boot.rst, zero-page.rst) or the start info of the
 * PVH protocol (Xen's include/public/arch-x86/hvm/start_info.h).
 */
#ifndef FIRMWARE_BOOTPARAMS_H
#define FIRMWARE_BOOTPARAMS_H

#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"

/* Types of address ranges, as in the BIOS call E820 (ACPI 6.5, 15.1). */
enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

struct e820_range {
	uint64_t base, size;
	uint32_t type;
};

struct boot_desc {
	uint64_t cmdline, initrd, initrd_size; /* guest addresses; initrd_size 0: none */
	uint32_t cmdline_size;		       /* length without the NUL */
	uint64_t rsdp;			       /* 0: none */
	const struct e820_range *e820;
	unsigned ne820;
	const void *setup_header; /* from offset 0x1f1 of a bzImage; NULL for ELF */
	size_t setup_header_size;
};

#define BOOT_PARAMS_SIZE 4096

/*
 * Write a zero page (BOOT_PARAMS_SIZE bytes) at @base, for the 64-bit entry. -EFAULT when
 * that is not RAM, -E2BIG for more than 128 ranges, -EINVAL when the setup header is not
 * one of protocol 2.12 or later.
 */
int bootparams_build(const struct boot_desc *desc, struct gmem *mem, uint64_t base,
		     struct err *err);

/*
 * Write hvm_start_info with its module and memory map tables at @base, at most @size bytes
 * (88 and 24 per range are enough). -ENOSPC when it does not fit, -EFAULT when that is not
 * RAM, -E2BIG for more than 128 ranges, -EINVAL when something is not below 4 GiB.
 */
int pvh_build(const struct boot_desc *desc, struct gmem *mem, uint64_t base, uint64_t size,
	      struct err *err);

#endif
