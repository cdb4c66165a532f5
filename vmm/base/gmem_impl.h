/* SPDX-License-Identifier: Apache-2.0 */
/* What gmem.c and gmem_save.c share. */
#ifndef VMM_BASE_GMEM_IMPL_H
#define VMM_BASE_GMEM_IMPL_H

#include "vmm/base/gmem.h"

/* Map @size bytes at a multiple of @align, so that KVM can use large pages; NULL: errno. */
uint8_t *gmem_map_aligned(int fd, uint64_t size, uint64_t align, int prot, int flags);
/* What the configuration says of all RAM. 0 or -errno. */
int gmem_advise(const struct gmem *mem);
/* Exactly @len bytes. Errors have no context. */
int gmem_read_all(int fd, uint8_t *to, uint64_t offset, uint64_t len, struct err *err);

/* Private memory: open what tells which of its pages there are; in a jail there is nothing. */
void gmem_open_pagemap(struct gmem *mem);

static inline bool gmem_bit(const uint64_t *bits, uint64_t n)
{
	return (bits[n / 64] >> n % 64 & 1) != 0;
}

#endif
