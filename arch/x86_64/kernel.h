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

/*
 * How to enter the image. AUTO: what the file itself announces. A bzImage announces the
 * 64-bit entry; an ELF file with a PVH note announces PVH; an ELF file without one has only
 * its entry point, taken to be Linux's 64-bit one.
 */
enum kernel_entry { KERNEL_ENTRY_AUTO, KERNEL_ENTRY_LINUX64, KERNEL_ENTRY_PVH };

/* The setup header of a bzImage: from 0x1f1 of the file to, at most, 0x290 of the zero page. */
#define KERNEL_SETUP_HEADER	0x1f1
#define KERNEL_SETUP_HEADER_MAX (0x290 - KERNEL_SETUP_HEADER)

struct kernel_image {
	enum kernel_entry entry_kind; /* LINUX64 or PVH, never AUTO */
	uint64_t entry;		      /* guest physical address of the first instruction */
	uint64_t start, end;	      /* RAM the image occupies or will need, end exclusive */
	uint64_t initrd_max;	      /* highest address of an initrd's last byte */
	uint32_t cmdline_max; /* longest command line, without the NUL; fits MAP_CMDLINE_MAX */
	uint8_t setup_header[KERNEL_SETUP_HEADER_MAX];
	size_t setup_header_size; /* 0 for ELF */
};

/* Open a kernel or initrd: a descriptor, or -1 with errno. */
int kernel_open(const char *path);

/*
 * Load the kernel in file @path (@fd: open already, borrowed; or -1) into guest memory, the rest of
 * which is left alone (memory that the image wants zeroed is zeroed). Every way a file can be wrong
 * (cannot be read, empty, truncated, not a kernel, 32-bit only, another architecture, too old a
 * protocol, no PVH note where PVH was asked for, does not fit into RAM) is one sentence that begins
 * with "kernel PATH: ".
 */
int kernel_load(struct gmem *mem, const char *path, int fd, enum kernel_entry want,
		struct kernel_image *image, struct err *err);

/*
 * Place the initrd in file @path (@fd: as above), page-aligned and in one piece, as high as
 * image->initrd_max and RAM allow: below 4 GiB if it fits there, above if it must and may;
 * never over the kernel nor below MAP_HIGH_RAM, where the monitor's tables are. Sentences
 * begin with "initrd PATH: ".
 */
int initrd_load(struct gmem *mem, const char *path, int fd, const struct kernel_image *image,
		uint64_t *addr, uint64_t *size, struct err *err);
/* The same for an open file (borrowed). */
int initrd_load_fd(struct gmem *mem, int fd, const struct kernel_image *image, uint64_t *addr,
		   uint64_t *size, struct err *err);

#endif
