// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory for those who save and restore it: which pages there are, and RAM that is a file's.
 *
 * Which pages. Nothing is read to find out. A memfd is asked for its holes (lseek(2), SEEK_DATA);
 * private memory is looked up in /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst in
 * the kernel): a page that is present and no file's, or swapped out, was written to. What
 * is mapped from a kernel or initrd is taken for data as a whole.
 *
 * RAM that is a file's. gmem_init_file() maps the file privately: nothing is read before somebody
 * looks at it, any number of VMs share its pages in the host's page cache, and a page that is
 * written to becomes this VM's own. The file must stay as it is: it is under a read lease, like
 * kernels; see gmem.c.
 *
 * #syscalls: lseek pread64 close fcntl mmap madvise
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/base/gmem_impl.h"

#define SIZE_2M	   (2ULL << 20)
#define PM_FILE	   (1ULL << 61)
#define PM_SWAPPED (1ULL << 62)
#define PM_PRESENT (1ULL << 63)
#define PM_ENTRIES 1024

size_t gmem_words(const struct gmem *mem)
{
	return (size_t)((mem->size >> GMEM_PAGE_SHIFT) + 63) / 64;
}

static void set_bits(uint64_t *bits, uint64_t first, uint64_t end)
{
	for (uint64_t n = first; n < end;) {
		if (n % 64 == 0 && end - n >= 64) {
			bits[n / 64] = ~0ULL;
			n += 64;
		} else {
			bits[n / 64] |= 1ULL << n % 64;
			n++;
		}
	}
}

/* The next of @fd's data from *from on, up to @size. False: there is no more. */
static bool next_data(int fd, uint64_t size, uint64_t *from, uint64_t *end)
{
	off_t data = lseek(fd, (off_t)*from, SEEK_DATA), hole;

	if (data < 0 && errno == ENXIO)
		return false;
	/* A file system that knows of no holes: everything is data. */
	if (data < 0)
		data = (off_t)*from;
	if ((uint64_t)data >= size)
		return false;
	hole = lseek(fd, data, SEEK_HOLE);
	*from = (uint64_t)data;
	*end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
	return *end > *from;
}

static void file_data(int fd, uint64_t size, uint64_t *bits)
{
	uint64_t from = 0, end;

	for (; from < size && next_data(fd, size, &from, &end); from = end)
		set_bits(bits, from >> GMEM_PAGE_SHIFT,
			 (end + GMEM_PAGE_SIZE - 1) >> GMEM_PAGE_SHIFT);
}

void gmem_open_pagemap(struct gmem *mem)
{
	mem->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

/* Pages that this process has of its own. */
static int written(const struct gmem *mem, uint64_t *bits, struct err *err)
{
	uint64_t entry[PM_ENTRIES], pages = mem->size >> GMEM_PAGE_SHIFT;
	uint64_t first = (uintptr_t)mem->base >> GMEM_PAGE_SHIFT;
	int fd = mem->pagemap, r = 0;

	if (fd <= 0)
		return err_set(err, ENOENT, "memory: there was no /proc/self/pagemap to open");
	for (uint64_t n = 0; n < pages && r == 0; n += PM_ENTRIES) {
		uint64_t k = pages - n < PM_ENTRIES ? pages - n : PM_ENTRIES;

		r = gmem_read_all(fd, (uint8_t *)entry, (first + n) * 8, k * 8, err);
		for (uint64_t i = 0; i < k && r == 0; i++)
			if ((entry[i] & PM_SWAPPED) != 0 ||
			    (entry[i] & (PM_PRESENT | PM_FILE)) == PM_PRESENT)
				set_bits(bits, n + i, n + i + 1);
	}
	return r < 0 ? err_context(err, "memory: /proc/self/pagemap") : 0;
}

int gmem_data(const struct gmem *mem, uint64_t *bits, struct err *err)
{
	for (unsigned i = 0; i < mem->nfiles; i++) {
		uint64_t first = (uint64_t)(mem->files[i].host - mem->base) >> GMEM_PAGE_SHIFT;

		set_bits(bits, first, first + (mem->files[i].len >> GMEM_PAGE_SHIFT));
	}
	if (mem->mapped)
		file_data(mem->source, mem->size, bits);
	if (mem->fd < 0)
		return written(mem, bits, err);
	file_data(mem->fd, mem->size, bits);
	return 0;
}

int gmem_changed(struct gmem *mem, uint64_t *bits, struct err *err)
{
	/* What was given back is nobody's page now: only the marks tell of it. */
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];
		uint64_t first = r->offset >> GMEM_PAGE_SHIFT, pages = r->size >> GMEM_PAGE_SHIFT;

		for (uint64_t n = 0; r->ram && r->dirty != NULL && n < pages; n++)
			if ((atomic_load(&r->dirty[n / 64]) >> n % 64 & 1) != 0)
				set_bits(bits, first + n, first + n + 1);
	}
	return written(mem, bits, err);
}

int gmem_read_ram(struct gmem *mem, int fd, uint64_t offset, uint64_t len, struct err *err)
{
	if (offset > mem->size || len > mem->size - offset)
		return err_set(err, EFAULT, "memory: 0x%llx bytes at 0x%llx are more than RAM",
			       (unsigned long long)len, (unsigned long long)offset);
	return gmem_read_all(fd, mem->base + offset, offset, len, err);
}

int gmem_read_sparse(struct gmem *mem, int fd, struct err *err)
{
	uint64_t from = 0, end;

	for (; from < mem->size && next_data(fd, mem->size, &from, &end); from = end)
		if (gmem_read_ram(mem, fd, from, end - from, err) < 0)
			return -err->code;
	return 0;
}

void gmem_prefetch(const struct gmem *mem)
{
	if (mem->mapped)
		(void)madvise(mem->base, mem->size, MADV_WILLNEED);
}

int gmem_init_file(struct gmem *mem, const struct gmem_config *cfg, int fd, struct err *err)
{
	*mem = (struct gmem){ .fd = -1, .page_size = GMEM_PAGE_SIZE };
	if (cfg->huge == GMEM_HUGE_2M || cfg->huge == GMEM_HUGE_1G)
		return err_set(err, ENOTSUP, "memory: a file cannot be mapped to huge pages");
	mem->base = gmem_map_aligned(fd, cfg->size, SIZE_2M, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_NORESERVE);
	if (mem->base == NULL)
		return err_sys(err, errno, "memory: cannot map %llu MiB of the snapshot",
			       (unsigned long long)cfg->size >> 20);
	mem->size = cfg->size;
	mem->track = cfg->track;
	mem->source = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (mem->source < 0)
		return err_sys(err, errno, "memory");
	mem->mapped = true;
	gmem_open_pagemap(mem);
	/* EACCES: not our file; EAGAIN: somebody has it open for writing. Nothing to be done. */
	(void)fcntl(mem->source, F_SETLEASE, F_RDLCK);
	mem->thp = cfg->huge == GMEM_HUGE_THP;
	mem->merge = cfg->merge;
	(void)gmem_advise(mem);
	if (cfg->prefault && madvise(mem->base, mem->size, MADV_POPULATE_WRITE) < 0)
		return err_sys(err, errno, "memory: prefault: cannot get %llu MiB",
			       (unsigned long long)mem->size >> 20);
	return 0;
}
