// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: see gmem.h for the contract.
 *
 * Backing. One memfd of the whole size, mapped once, shared. Pages come when they are
 * first touched, so an idle guest costs what it uses. A shared memfd (rather than
 * anonymous memory) is what vhost-user devices and snapshots need; MAP_NORESERVE
 * leaves overcommit to the host's policy, except for hugetlb pages, which are
 * reserved by the mmap() itself so that a shortage is an error here and not a
 * SIGBUS in the middle of the guest's life. With `merge` or transparent huge pages it is
 * private anonymous memory instead, as Linux does neither on shared memory; and where the largest
 * file this process may have (RLIMIT_FSIZE) is smaller than the guest.
 *
 * File contents. gmem_load_file() maps large page-aligned spans of a kernel or initrd
 * copy-on-write over the RAM mapping: nothing is read or copied before the guest asks
 * for it. Reading 32 MiB takes some 20 ms on a slow host, mapping it nothing. Two things
 * are paid for that. These pages are not in the memfd, and a file cut short takes its
 * pages away, also those the guest has written to. The second would let `make` kill a
 * guest that runs the kernel of the last build, hence the lease: the writer waits until
 * gmem_release_files() has copied everything. Where there is no lease to be had (a file
 * somebody has open for writing, a file system without leases) the file is read; a file
 * of somebody else's, such as a distribution's kernel, is trusted to be replaced by
 * renaming, as package managers do. Below GMEM_MAP_MIN reading is as fast. Memory that another
 * process sees by its memfd (gmem_share) has no such mappings.
 *
 * Dirty bits are set with relaxed atomics: whoever fetches them has stopped the
 * writers first, or comes back for the next round.
 *
 * #syscalls: fallocate lseek pread64 read
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/base/gmem_impl.h"
#include "vmm/base/log.h"

#define GMEM_MAP_MIN (256 << 10)
/* A process has 65,530 mappings at most (vm.max_map_count), of which a hole may cost two. */
#define GMEM_HOLES_MAX 16384

#define SIZE_2M (2ULL << 20)
#define SIZE_1G (1ULL << 30)

static uint64_t page_size_of(int huge)
{
	switch (huge) {
	case GMEM_HUGE_2M:
		return SIZE_2M;
	case GMEM_HUGE_1G:
		return SIZE_1G;
	default:
		return GMEM_PAGE_SIZE;
	}
}

static const char *page_name(const struct gmem *mem)
{
	return mem->page_size == SIZE_1G ? "1G" : "2M";
}

/* Map @size bytes at a multiple of @align, so that KVM can use large pages; NULL: errno. */
uint8_t *gmem_map_aligned(int fd, uint64_t size, uint64_t align, int prot, int flags)
{
	uint8_t *area, *start;

	area = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		    0);
	if (area == MAP_FAILED)
		return NULL;
	start = (uint8_t *)(((uintptr_t)area + align - 1) & ~(uintptr_t)(align - 1));
	if (start > area)
		munmap(area, (size_t)(start - area));
	if (start < area + align)
		munmap(start + size, (size_t)(area + align - start));
	if (mmap(start, size, prot, MAP_FIXED | flags, fd, 0) == MAP_FAILED) {
		int saved = errno;

		munmap(start, size);
		errno = saved;
		return NULL;
	}
	return start;
}

/* A word of a file in /sys, or -1 when the file is not there or says something else. */
static int sysfs_says(const char *path, const char *word)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && strstr(text, word) != NULL;
}

int gmem_advise(const struct gmem *mem)
{
	if (mem->thp && madvise(mem->base, mem->size, MADV_HUGEPAGE) < 0)
		return -errno;
	if (mem->merge && madvise(mem->base, mem->size, MADV_MERGEABLE) < 0)
		return -errno;
	return 0;
}

/*
 * Private anonymous memory, for what Linux does not do on a shared memfd: merging (never
 * there) and transparent huge pages (only where the host was tuned for shmem).
 */
static int init_private(struct gmem *mem, const struct gmem_config *cfg, struct err *err)
{
	static const char thp[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	static const char ksm[] = "/sys/kernel/mm/ksm/run";

	if (cfg->huge == GMEM_HUGE_THP && sysfs_says(thp, "[never]") != 0)
		return err_set(err, ENOTSUP,
			       "memory: hugepages=thp: this host has transparent huge pages off "
			       "(see %s)",
			       thp);
	mem->base = gmem_map_aligned(-1, cfg->size, SIZE_2M, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	if (mem->base == NULL)
		return err_sys(err, errno, "memory: cannot map %llu MiB",
			       (unsigned long long)cfg->size >> 20);
	mem->size = cfg->size;
	mem->thp = cfg->huge == GMEM_HUGE_THP;
	mem->merge = cfg->merge;
	if (gmem_advise(mem) < 0)
		return err_set(err, ENOTSUP,
			       "memory: this host's kernel cannot merge pages (KSM) or has no "
			       "transparent huge pages");
	if (cfg->merge && sysfs_says(ksm, "1") != 1)
		log_warn("memory: merge: nothing is merged until KSM runs: echo 1 > %s", ksm);
	if (cfg->prefault && madvise(mem->base, mem->size, MADV_POPULATE_WRITE) < 0)
		return err_sys(err, errno, "memory: prefault: cannot get %llu MiB",
			       (unsigned long long)mem->size >> 20);
	return 0;
}

static int init_memfd(struct gmem *mem, const struct gmem_config *cfg, struct err *err)
{
	bool pool = mem->page_size != GMEM_PAGE_SIZE;
	unsigned flags = MFD_CLOEXEC;

	if (pool)
		flags |= MFD_HUGETLB | (mem->page_size == SIZE_1G ? MFD_HUGE_1GB : MFD_HUGE_2MB);
	mem->fd = memfd_create("guest-ram", flags);
	if (mem->fd < 0) {
		if (pool && (errno == ENODEV || errno == EINVAL))
			return err_set(err, ENOTSUP,
				       "memory: this host has no huge pages of %s (see "
				       "/sys/kernel/mm/hugepages)",
				       page_name(mem));
		return err_sys(err, errno, "memory: memfd_create");
	}
	if (ftruncate(mem->fd, (off_t)cfg->size) < 0) {
		if (errno == EFBIG && !pool) {
			close(mem->fd);
			mem->fd = -1;
			return init_private(mem, cfg, err);
		}
		return err_sys(err, errno, "memory: cannot size %llu MiB",
			       (unsigned long long)cfg->size >> 20);
	}
	mem->base =
		gmem_map_aligned(mem->fd, cfg->size, pool ? mem->page_size : SIZE_2M,
				 PROT_READ | PROT_WRITE, MAP_SHARED | (pool ? 0 : MAP_NORESERVE));
	if (mem->base == NULL && pool)
		return err_set(err, ENOMEM,
			       "memory: the host has too few free %s pages for %llu MiB; raise "
			       "nr_hugepages in /sys/kernel/mm/hugepages or leave hugepages= out",
			       page_name(mem), (unsigned long long)cfg->size >> 20);
	if (mem->base == NULL)
		return err_sys(err, errno, "memory: cannot map %llu MiB",
			       (unsigned long long)cfg->size >> 20);
	mem->size = cfg->size;
	if (cfg->prefault && fallocate(mem->fd, 0, 0, (off_t)mem->size) < 0)
		return err_sys(err, errno, "memory: prefault: cannot get %llu MiB",
			       (unsigned long long)mem->size >> 20);
	/* Fill the page tables too, where the kernel can (5.14 and later). */
	if (cfg->prefault)
		(void)madvise(mem->base, mem->size, MADV_POPULATE_WRITE);
	return 0;
}

int gmem_init(struct gmem *mem, const struct gmem_config *cfg, struct err *err)
{
	int r;

	*mem = (struct gmem){ .fd = -1, .page_size = page_size_of(cfg->huge) };
	if (cfg->size == 0 || cfg->size % mem->page_size != 0)
		return err_set(err, EINVAL, "memory: %llu bytes are not a multiple of %llu KiB",
			       (unsigned long long)cfg->size,
			       (unsigned long long)mem->page_size >> 10);
	if (cfg->merge && mem->page_size != GMEM_PAGE_SIZE)
		return err_set(err, EINVAL,
			       "memory: merge does not work on huge pages from the host's pool "
			       "(hugepages=%s)",
			       page_name(mem));
	mem->track = cfg->track;
	if (cfg->merge || cfg->huge == GMEM_HUGE_THP)
		r = init_private(mem, cfg, err);
	else
		r = init_memfd(mem, cfg, err);
	if (r == 0 && mem->fd < 0)
		gmem_open_pagemap(mem);
	return r;
}

static void forget_files(struct gmem *mem)
{
	for (unsigned i = 0; i < mem->nfiles; i++)
		close(mem->files[i].fd); /* the lease goes with it */
	mem->nfiles = 0;
}

static void forget_source(struct gmem *mem)
{
	if (!mem->mapped)
		return;
	/* The file may be open elsewhere in this process, and then the lease does not go with it.
	 */
	fcntl(mem->source, F_SETLEASE, F_UNLCK);
	close(mem->source);
	mem->mapped = false;
}

void gmem_fini(struct gmem *mem)
{
	gmem_dirty_stop(mem);
	forget_files(mem);
	for (unsigned i = 0; i < mem->nregions; i++)
		if (!mem->regions[i].ram)
			munmap(mem->regions[i].host, mem->regions[i].size);
	if (mem->base != NULL)
		munmap(mem->base, mem->size);
	if (mem->fd >= 0)
		close(mem->fd);
	forget_source(mem);
	if (mem->pagemap > 0)
		close(mem->pagemap);
	*mem = (struct gmem){ .fd = -1 };
}

/* Is there room for one more region, page-aligned, above all others? */
static int check_region(const struct gmem *mem, uint64_t gpa, uint64_t size, struct err *err)
{
	const struct gmem_region *last =
		mem->nregions > 0 ? &mem->regions[mem->nregions - 1] : NULL;

	if (mem->nregions < GMEM_REGIONS_MAX && size > 0 && gpa % GMEM_PAGE_SIZE == 0 &&
	    size % GMEM_PAGE_SIZE == 0 && gpa + size > gpa &&
	    (last == NULL || gpa >= last->gpa + last->size))
		return 0;
	return err_set(err, EINVAL, "memory: region 0x%llx+0x%llx does not fit",
		       (unsigned long long)gpa, (unsigned long long)size);
}

int gmem_add_region(struct gmem *mem, uint64_t gpa, uint64_t size, struct err *err)
{
	uint64_t offset = 0;

	for (unsigned i = 0; i < mem->nregions; i++)
		offset += mem->regions[i].ram ? mem->regions[i].size : 0;
	if (check_region(mem, gpa, size, err) < 0)
		return -err->code;
	if (size > mem->size - offset)
		return err_set(err, EINVAL, "memory: region 0x%llx+0x%llx is more than there is",
			       (unsigned long long)gpa, (unsigned long long)size);
	mem->regions[mem->nregions++] = (struct gmem_region){
		.gpa = gpa,
		.size = size,
		.fd = mem->fd,
		.offset = offset,
		.host = mem->base + offset,
		.ram = true,
	};
	return 0;
}

int gmem_add_file(struct gmem *mem, uint64_t gpa, uint64_t size, int fd, bool ro, struct err *err)
{
	uint8_t *host;

	if (check_region(mem, gpa, size, err) < 0)
		return -err->code;
	host = gmem_map_aligned(fd, size, SIZE_2M, ro ? PROT_READ : PROT_READ | PROT_WRITE,
				MAP_SHARED);
	if (host == NULL)
		return err_sys(err, errno, "cannot map %llu MiB of it",
			       (unsigned long long)size >> 20);
	mem->regions[mem->nregions++] =
		(struct gmem_region){ .gpa = gpa, .size = size, .fd = fd, .host = host, .ro = ro };
	return 0;
}

int gmem_share(struct gmem *mem, struct err *err)
{
	if (mem->track)
		return err_set(
			err, ENOTSUP,
			"another process writes to guest memory, of which --mem track cannot know: "
			"leave that out");
	if (mem->mapped)
		return err_set(
			err, ENOTSUP,
			"another process must see guest memory, but that of a restored guest is "
			"private: restore it with copy");
	if (mem->fd < 0)
		return err_set(err, ENOTSUP,
			       "another process must see guest memory, but with %s it is private: "
			       "leave that out",
			       mem->merge ? "--mem merge"
			       : mem->thp ? "--mem hugepages=thp"
					  : "files limited to less (RLIMIT_FSIZE)");
	mem->shared = true;
	return gmem_release_files(mem, err);
}

bool gmem_fork(struct gmem *mem)
{
	struct err err;

	if (mem->mapped || mem->fd < 0 || gmem_release_files(mem, &err) < 0)
		return false;
	mem->shared = true;
	return true;
}

void gmem_inherit(const struct gmem *mem, bool yes)
{
	for (unsigned i = 0; i < mem->nregions; i++)
		(void)madvise(mem->regions[i].host, mem->regions[i].size,
			      yes ? MADV_DOFORK : MADV_DONTFORK);
}

/* The region with all of [gpa, gpa + len), or NULL. Few regions: a scan is fastest. */
static struct gmem_region *find(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		/* Written so that no sum can wrap: gpa and len come from the guest. */
		if (gpa >= r->gpa && gpa - r->gpa < r->size)
			return len > 0 && len <= r->size - (gpa - r->gpa) ? (struct gmem_region *)r
									  : NULL;
	}
	return NULL;
}

static void mark(struct gmem_region *r, uint64_t gpa, uint64_t len)
{
	uint64_t first, last;

	if (r->dirty == NULL)
		return;
	first = (gpa - r->gpa) >> GMEM_PAGE_SHIFT;
	last = (gpa - r->gpa + len - 1) >> GMEM_PAGE_SHIFT;
	for (uint64_t page = first; page <= last; page++)
		atomic_fetch_or_explicit(&r->dirty[page / 64], 1ULL << (page % 64),
					 memory_order_relaxed);
}

const void *gmem_ptr(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	const struct gmem_region *r = find(mem, gpa, len);

	return r != NULL ? r->host + (gpa - r->gpa) : NULL;
}

void *gmem_wptr(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	struct gmem_region *r = find(mem, gpa, len);

	if (r == NULL || r->ro)
		return NULL;
	mark(r, gpa, len);
	return r->host + (gpa - r->gpa);
}

uint8_t *gmem_span(const struct gmem *mem, uint64_t gpa, uint64_t *len, bool write)
{
	const struct gmem_region *r = find(mem, gpa, 1);
	uint64_t left;

	if (r == NULL || *len == 0 || (write && r->ro))
		return NULL;
	left = r->size - (gpa - r->gpa);
	if (*len > left)
		*len = left;
	return r->host + (gpa - r->gpa);
}

/* Length of the part of [gpa, gpa + len) in the region of gpa; 0: in none, or not to be written. */
static uint64_t span(const struct gmem *mem, uint64_t gpa, uint64_t len, bool write)
{
	return gmem_span(mem, gpa, &len, write) != NULL ? len : 0;
}

void gmem_mark_dirty(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	struct gmem_region *r;

	/* Tracking is on for all regions or for none. */
	if (mem->nregions == 0 || mem->regions[0].dirty == NULL)
		return;
	r = find(mem, gpa, len);
	if (r != NULL)
		mark(r, gpa, len);
}

void gmem_mark_host(struct gmem *mem, const void *host, uint64_t len)
{
	if (mem->nregions == 0 || mem->regions[0].dirty == NULL)
		return;
	for (unsigned i = 0; i < mem->nregions; i++) {
		struct gmem_region *r = &mem->regions[i];
		uint64_t off = (uint64_t)((const uint8_t *)host - r->host);

		if ((const uint8_t *)host >= r->host && off < r->size && len > 0 &&
		    len <= r->size - off) {
			mark(r, r->gpa + off, len);
			return;
		}
	}
}

static bool all_there(const struct gmem *mem, uint64_t gpa, uint64_t len, bool write)
{
	while (len > 0) {
		uint64_t n = span(mem, gpa, len, write);

		if (n == 0)
			return false;
		gpa += n;
		len -= n;
	}
	return true;
}

int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, uint64_t len)
{
	uint8_t *to = buf;

	if (!all_there(mem, gpa, len, false))
		return -EFAULT;
	while (len > 0) {
		uint64_t n = span(mem, gpa, len, false);

		memcpy(to, gmem_ptr(mem, gpa, n), n);
		to += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf, uint64_t len)
{
	const uint8_t *from = buf;

	if (!all_there(mem, gpa, len, true))
		return -EFAULT;
	while (len > 0) {
		uint64_t n = span(mem, gpa, len, true);

		memcpy(gmem_wptr(mem, gpa, n), from, n);
		from += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int gmem_zero(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	if (!all_there(mem, gpa, len, true))
		return -EFAULT;
	while (len > 0) {
		uint64_t n = span(mem, gpa, len, true);

		memset(gmem_wptr(mem, gpa, n), 0, n);
		gpa += n;
		len -= n;
	}
	return 0;
}

int gmem_read_all(int fd, uint8_t *to, uint64_t offset, uint64_t len, struct err *err)
{
	while (len > 0) {
		ssize_t n = pread(fd, to, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot read");
		if (n == 0)
			return err_set(err, EIO, "the file ends %llu bytes too early",
				       (unsigned long long)len);
		to += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/*
 * Map @len bytes of @fd over RAM at @to, if they can be kept safe from writers. False: read
 * them instead.
 */
static bool map_file(struct gmem *mem, uint8_t *to, int fd, uint64_t offset, uint64_t len)
{
	int held;

	if (mem->shared || mem->nfiles == GMEM_FILES_MAX)
		return false;
	held = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (held < 0)
		return false;
	/* EACCES: not our file. */
	if ((fcntl(held, F_SETLEASE, F_RDLCK) < 0 && errno != EACCES) ||
	    mmap(to, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		 (off_t)offset) == MAP_FAILED) {
		fcntl(held, F_SETLEASE, F_UNLCK);
		close(held);
		return false;
	}
	mem->files[mem->nfiles++] = (struct gmem_file){ .fd = held, .host = to, .len = len };
	return true;
}

int gmem_load_file(struct gmem *mem, uint64_t gpa, int fd, uint64_t offset, uint64_t len,
		   struct err *err)
{
	uint64_t mask = GMEM_PAGE_SIZE - 1, head, middle;
	uint8_t *to;
	off_t file_size;

	if (len == 0)
		return 0;
	to = gmem_wptr(mem, gpa, len);
	if (to == NULL || !find(mem, gpa, len)->ram)
		return err_set(err, EFAULT, "0x%llx bytes at 0x%llx are not in guest memory",
			       (unsigned long long)len, (unsigned long long)gpa);
	file_size = lseek(fd, 0, SEEK_END);
	if (file_size < 0)
		return err_sys(err, errno, "cannot seek");
	if (offset > (uint64_t)file_size || len > (uint64_t)file_size - offset)
		return err_set(err, EIO, "the file ends %llu bytes too early",
			       (unsigned long long)(offset + len - (uint64_t)file_size));
	head = -gpa & mask;
	if (len < GMEM_MAP_MIN + head || mem->page_size != GMEM_PAGE_SIZE ||
	    ((gpa ^ offset) & mask) != 0)
		return gmem_read_all(fd, to, offset, len, err);

	middle = (len - head) & ~mask;
	if (!map_file(mem, to + head, fd, offset + head, middle))
		return gmem_read_all(fd, to, offset, len, err);
	if (gmem_read_all(fd, to, offset, head, err) < 0)
		return -err->code;
	return gmem_read_all(fd, to + head + middle, offset + head + middle, len - head - middle,
			     err);
}

/* Move [host, host + len) into memory of our own, at the same place. */
static int own_pages(struct gmem *mem, uint8_t *host, size_t len)
{
	off_t offset = host - mem->base;
	uint8_t *copy;

	if (mem->fd >= 0) {
		for (size_t done = 0; done < len;) {
			ssize_t n = pwrite(mem->fd, host + done, len - done, offset + (off_t)done);

			if (n < 0 && errno != EINTR)
				return -errno;
			done += n > 0 ? (size_t)n : 0;
		}
		if (mmap(host, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
			 mem->fd, offset) == MAP_FAILED)
			return -errno;
		return 0;
	}
	copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return -errno;
	memcpy(copy, host, len);
	if (mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, host) == MAP_FAILED) {
		munmap(copy, len);
		return -errno;
	}
	return 0;
}

/* Copy what RAM has of its source; where that has holes there are zeroes. */
static int own_source(struct gmem *mem, struct err *err)
{
	uint64_t pages = mem->size >> GMEM_PAGE_SHIFT, n = 0;
	uint64_t *bits = calloc(gmem_words(mem), sizeof(*bits));
	int r = bits != NULL ? gmem_data(mem, bits, err) : err_sys(err, ENOMEM, "memory");

	while (r == 0 && n < pages) {
		bool data = gmem_bit(bits, n);
		uint64_t first = n;
		uint8_t *at = mem->base + (n << GMEM_PAGE_SHIFT);

		while (n < pages && gmem_bit(bits, n) == data)
			n++;
		if (data)
			r = own_pages(mem, at, (n - first) << GMEM_PAGE_SHIFT);
		else if (mmap(at, (n - first) << GMEM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
			      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			      0) == MAP_FAILED)
			r = -errno;
		if (r < 0)
			err_sys(err, -r, "memory: cannot copy the snapshot's pages");
	}
	free(bits);
	if (r == 0) {
		forget_source(mem);
	}
	return r;
}

int gmem_release_files(struct gmem *mem, struct err *err)
{
	int r = 0;

	if (mem->mapped && own_source(mem, err) < 0)
		return -err->code;

	for (unsigned i = 0; i < mem->nfiles && r == 0; i++)
		r = own_pages(mem, mem->files[i].host, mem->files[i].len);
	forget_files(mem);
	return r < 0 ? err_sys(err, -r, "memory: cannot copy the kernel's and initrd's pages") : 0;
}

/* Give back RAM at [host, host + len), whole pages, nothing of it mapped from a file. */
static int discard(struct gmem *mem, uint8_t *host, uint64_t len)
{
	int r;

	if (len == 0)
		return 0;
	if (mem->fd >= 0)
		r = fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, host - mem->base,
			      (off_t)len);
	else if (!mem->mapped)
		r = madvise(host, len, MADV_DONTNEED);
	else if (mem->holes == GMEM_HOLES_MAX)
		return -ENOSPC;
	else /* the file's pages would come back */
		r = mmap(host, len, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			 0) == MAP_FAILED
			    ? -1
			    : 0;
	if (r < 0)
		return -errno;
	mem->holes += mem->mapped;
	gmem_mark_host(mem, host, len);
	return 0;
}

int gmem_discard(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	const struct gmem_region *r = find(mem, gpa, len);
	uint64_t page = mem->page_size;
	uint8_t *from, *end;
	int error = 0;

	if (r == NULL || !r->ram)
		return -EFAULT;
	/* RAM begins at a whole page in the host's view, too: gmem_map_aligned(). */
	from = mem->base + (r->offset + (gpa - r->gpa) + page - 1) / page * page;
	end = mem->base + (r->offset + (gpa - r->gpa) + len) / page * page;
	while (from < end && error == 0) {
		uint8_t *next = end, *past = end;

		/* The first file that lies in the way, if any. */
		for (unsigned i = 0; i < mem->nfiles; i++) {
			const struct gmem_file *f = &mem->files[i];

			if (f->host < next && f->host + f->len > from) {
				next = f->host > from ? f->host : from;
				past = f->host + f->len;
			}
		}
		error = discard(mem, from, (uint64_t)(next - from));
		from = past;
	}
	return error;
}

int gmem_reset(struct gmem *mem, struct err *err)
{
	int flags = mem->fd < 0			       ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
		    : mem->page_size == GMEM_PAGE_SIZE ? MAP_SHARED | MAP_NORESERVE
						       : MAP_SHARED;

	forget_files(mem);
	forget_source(mem);
	/* Drop the pages first, then map afresh over the file mappings. */
	if (mem->fd >= 0 &&
	    fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)mem->size) < 0)
		return err_sys(err, errno, "memory: cannot clear");
	if (mmap(mem->base, mem->size, PROT_READ | PROT_WRITE, MAP_FIXED | flags, mem->fd, 0) ==
	    MAP_FAILED)
		return err_sys(err, errno, "memory: cannot map again");
	gmem_advise(mem);
	for (unsigned i = 0; i < mem->nregions; i++)
		if (mem->regions[i].ram)
			mark(&mem->regions[i], mem->regions[i].gpa, mem->regions[i].size);
	return 0;
}

uint64_t gmem_top_below(const struct gmem *mem, uint64_t limit)
{
	uint64_t top = 0;

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		if (!r->ram || r->gpa >= limit)
			break;
		top = limit - r->gpa < r->size ? limit : r->gpa + r->size;
	}
	return top;
}

uint64_t gmem_end(const struct gmem *mem)
{
	const struct gmem_region *last;

	if (mem->nregions == 0)
		return 0;
	last = &mem->regions[mem->nregions - 1];
	return last->gpa + last->size;
}

bool gmem_gpa(const struct gmem *mem, const void *host, uint64_t *gpa)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		if ((const uint8_t *)host < r->host ||
		    (uint64_t)((const uint8_t *)host - r->host) >= r->size)
			continue;
		*gpa = r->gpa + (uint64_t)((const uint8_t *)host - r->host);
		return true;
	}
	return false;
}

static size_t dirty_words(const struct gmem_region *r)
{
	return (size_t)(((r->size >> GMEM_PAGE_SHIFT) + 63) / 64);
}

/* Bits that are set in a process that is forked (gmem_fork()) are set here. */
int gmem_dirty_start(struct gmem *mem, struct err *err)
{
	gmem_dirty_stop(mem);
	for (unsigned i = 0; i < mem->nregions; i++) {
		void *bits = mmap(NULL, dirty_words(&mem->regions[i]) * sizeof(uint64_t),
				  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		mem->regions[i].dirty = bits != MAP_FAILED ? bits : NULL;
		if (bits == MAP_FAILED) {
			gmem_dirty_stop(mem);
			return err_set(err, ENOMEM, "memory: no room for the dirty bitmap");
		}
	}
	return 0;
}

void gmem_dirty_stop(struct gmem *mem)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		struct gmem_region *r = &mem->regions[i];

		if (r->dirty != NULL)
			munmap((void *)r->dirty, dirty_words(r) * sizeof(uint64_t));
		r->dirty = NULL;
	}
}

void gmem_dirty_fetch(struct gmem *mem, unsigned i, uint64_t *bits)
{
	struct gmem_region *r = &mem->regions[i];

	for (size_t w = 0; w < dirty_words(r); w++)
		bits[w] = r->dirty != NULL
				  ? atomic_exchange_explicit(&r->dirty[w], 0, memory_order_relaxed)
				  : 0;
}
