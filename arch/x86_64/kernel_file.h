/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to kernel.c, bzimage.c and elf.c: a kernel image that is open and recognised.
 *
 * The functions here fill @err without "kernel PATH: "; kernel_load() adds it.
 */
#ifndef ARCH_X86_64_KERNEL_FILE_H
#define ARCH_X86_64_KERNEL_FILE_H

#include "arch/x86_64/kernel.h"

struct kernel_file {
	int fd;		    /* of a regular file, read-only */
	uint64_t size;	    /* when it was opened; it may be shorter by now */
	uint8_t head[1024]; /* its first bytes, zeroes where it is shorter */
};

/* A file with "HdrS" at 0x202 (bzimage.c). */
int bzimage_load(struct gmem *mem, const struct kernel_file *file, enum kernel_entry want,
		 struct kernel_image *image, struct err *err);

/* A file with "\177ELF" at 0 (elf.c). */
int elf_load(struct gmem *mem, const struct kernel_file *file, enum kernel_entry want,
	     struct kernel_image *image, struct err *err);

/* The sentence for an image that wants [@start, @start + @size) where there is no RAM. */
int kernel_no_ram(const struct gmem *mem, uint64_t start, uint64_t size, struct err *err);

#endif
