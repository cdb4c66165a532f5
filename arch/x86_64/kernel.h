/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images: what they are, where they want to be, and how they are entered.
 * See kernel.c (what kind it is), bzimage.c and elf.c.
 */
#ifndef ARCH_X86_64_KERNEL_H
#define ARCH_X86_64_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"

/* How to enter the image; AUTO: bzImage and ELF by what they offer, 64-bit first. */
enum kernel_entry { KERNEL_ENTRY_AUTO, KERNEL_ENTRY_LINUX64, KERNEL_ENTRY_PVH };

struct kernel_image {
	enum kernel_entry entry_kind;	/* LINUX64 or PVH */
	uint64_t entry;			/* guest physical address of the first instruction */
	uint64_t start, end;		/* RAM the image occupies or will need, end exclusive */
	uint64_t initrd_max;		/* highest address of an initrd's last byte */
	uint32_t cmdline_max;		/* longest command line, without the NUL */
	uint8_t setup_header[256];	/* bzImage: bytes from 0x1f1 */
	size_t setup_header_size;	/* 0 for ELF */
};

/*
 * Load the kernel in file @path into guest memory. Every way a file can be wrong
 * (cannot be read, empty, truncated, not a kernel, 32-bit only, another architecture,
 * too old a protocol, no PVH note where PVH was asked for, does not fit into RAM) is
 * one sentence that begins with "kernel PATH: ".
 */
int kernel_load(struct gmem *mem, const char *path, enum kernel_entry want,
		struct kernel_image *image, struct err *err);

/*
 * Place the initrd in file @path as high as image->initrd_max and RAM below 4 GiB (or
 * the limit) allow, page-aligned, not over the kernel nor below @floor.
 */
int initrd_load(struct gmem *mem, const char *path, const struct kernel_image *image,
		uint64_t *addr, uint64_t *size, struct err *err);

#endif
