/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the one place that turns guest physical addresses into pointers.
 *
 * RAM is a memfd (with `merge`, `thp` or a limit of file sizes: private), mapped once and cut into
 * regions by the architecture's address map (on x86: below and above the hole under 4 GiB). Files
 * of a device (virtio-pmem) may be regions above it. Every access names an address *and a length*;
 * when a single byte of it is outside a region, or is to be written and may not, there is no
 * pointer.
 *
 * KVM's dirty log records what the guest writes, not what the monitor writes, so
 * whoever takes a pointer to write says so, and the pages are marked in a bitmap of
 * ours while tracking is on (snapshots and migration need both).
 *
 * The guest may change the bytes behind a pointer at any moment: read each value
 * once into a variable of your own before checking it.
 */
#ifndef VMM_BASE_GMEM_H
#define VMM_BASE_GMEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"

#define GMEM_REGIONS_MAX 8
#define GMEM_FILES_MAX	 8
#define GMEM_PAGE_SHIFT	 12
#define GMEM_PAGE_SIZE	 (1ULL << GMEM_PAGE_SHIFT)

enum gmem_huge { GMEM_HUGE_OFF, GMEM_HUGE_THP, GMEM_HUGE_2M, GMEM_HUGE_1G };

struct gmem_config {
	uint64_t size; /* bytes, multiple of the page size in use */
	int huge;      /* enum gmem_huge */
	bool prefault; /* allocate everything before the guest starts */
	bool merge;    /* offer the pages to KSM */
	bool track;    /* log what is written, for diff snapshots */
};

struct gmem_region {
	uint64_t gpa, size; /* bytes, page-aligned */
	int fd;		    /* what it is a shared mapping of, or -1; not the region's own */
	uint64_t offset;    /* bytes into that */
	uint8_t *host;
	bool ram; /* else a device's file, which is neither cleared nor told to the guest as RAM */
	bool ro;  /* neither guest nor devices write here */
	_Atomic uint64_t *dirty; /* one bit per page, NULL while tracking is off */
};

/* A file mapped into RAM; see gmem_load_file(). */
struct gmem_file {
	int fd; /* holds the lease */
	uint8_t *host;
	size_t len;
};

struct gmem {
	int fd;		    /* memfd with all of RAM, -1 when it is private memory */
	uint8_t *base;	    /* the whole mapping */
	uint64_t size;	    /* bytes */
	uint64_t page_size; /* of the backing: 4 KiB, 2 MiB or 1 GiB */
	bool thp, merge;    /* advice in force */
	bool shared;	    /* gmem_share() or gmem_fork() was called */
	bool track;	    /* whoever writes must see to it that it can be told what */
	bool mapped;	    /* RAM is a private mapping of file @source: gmem_init_file() */
	int source;
	int pagemap; /* /proc/self/pagemap, for when nothing can be opened any more; 0: not needed
		      */
	unsigned holes; /* made in that by gmem_discard() */
	unsigned nregions;
	struct gmem_region regions[GMEM_REGIONS_MAX]; /* ascending, disjoint */
	unsigned nfiles;
	struct gmem_file files[GMEM_FILES_MAX];
};

/*
 * Allocate cfg->size bytes; no regions yet. -ENOMEM and the way out in the sentence
 * when the host cannot give it. gmem_fini() releases everything, also after failure.
 */
int gmem_init(struct gmem *mem, const struct gmem_config *cfg, struct err *err);
void gmem_fini(struct gmem *mem);

/*
 * The same, with the first cfg->size bytes of file @fd (borrowed) in it, which is mapped, not read:
 * what nobody writes to is shared with all who map it, what is written stays ours. It is under
 * a lease, as in gmem_load_file(). 4 KiB pages only, and no gmem_share(): -ENOTSUP. See
 * gmem_save.c.
 */
int gmem_init_file(struct gmem *mem, const struct gmem_config *cfg, int fd, struct err *err);

/* The next @size bytes of RAM appear at @gpa. Regions are added in ascending order. */
int gmem_add_region(struct gmem *mem, uint64_t gpa, uint64_t size, struct err *err);
/*
 * The first @size bytes of file @fd (borrowed until gmem_fini) appear at @gpa, above every region
 * there is. What is written goes to the file.
 */
int gmem_add_file(struct gmem *mem, uint64_t gpa, uint64_t size, int fd, bool ro, struct err *err);
/*
 * Another process will map the regions by their fd. Sees to it that all of RAM is there, now and
 * later; so call it before a kernel is loaded, and copying is spared. -ENOTSUP when RAM is
 * private memory.
 */
int gmem_share(struct gmem *mem, struct err *err);

/*
 * A process that is forked from now on will work on guest memory, as we do. Returns false if it
 * would not see what we see: RAM is private. Also before a kernel is loaded.
 */
bool gmem_fork(struct gmem *mem);

/* Are all regions there in a process that is forked from now on? (They are at first.) */
void gmem_inherit(const struct gmem *mem, bool yes);

/* Pointer to @len readable bytes at @gpa, all in one region, or NULL. @len 0: NULL. */
const void *gmem_ptr(const struct gmem *mem, uint64_t gpa, uint64_t len);
/* The same for writing: marks the pages dirty. NULL also where nobody writes. */
void *gmem_wptr(struct gmem *mem, uint64_t gpa, uint64_t len);

/*
 * The piece of [gpa, gpa + *len) that is in one region: pointer to its first byte, and *len cut
 * to its end. NULL when @gpa is in none, or *len is 0, or it is to be written (@write) and may
 * not. Marks nothing dirty: see below.
 */
uint8_t *gmem_span(const struct gmem *mem, uint64_t gpa, uint64_t *len, bool write);
/*
 * @len bytes at @gpa, or at @host in the mapping, were written through a pointer that was
 * taken earlier (a ring; a buffer some I/O filled, possibly after the bits were last fetched).
 * Call it after writing. What is not RAM is ignored. Costs next to nothing while tracking is off.
 */
void gmem_mark_dirty(struct gmem *mem, uint64_t gpa, uint64_t len);
void gmem_mark_host(struct gmem *mem, const void *host, uint64_t len);

/* Copy; may cross regions. 0, or -EFAULT with nothing copied when a byte is outside. */
int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, uint64_t len);
int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf, uint64_t len);
int gmem_zero(struct gmem *mem, uint64_t gpa, uint64_t len);

/*
 * Put @len bytes of file @fd (borrowed) from @offset at @gpa, all inside one region. Large
 * page-aligned spans are mapped copy-on-write from the page cache, the rest is read.
 * -EIO when the file is shorter, -EFAULT when the place is not RAM.
 *
 * A file that is cut short takes its mapped pages away, so what is mapped is under a read
 * lease (fcntl(2)): whoever opens the file for writing waits, we get SIGIO, and the
 * program must then call gmem_release_files().
 */
int gmem_load_file(struct gmem *mem, uint64_t gpa, int fd, uint64_t offset, uint64_t len,
		   struct err *err);

/*
 * Copy what is mapped from files into RAM proper and let go of the files. The guest must
 * not run meanwhile. Also for those who hand RAM's memfd to another process.
 */
int gmem_release_files(struct gmem *mem, struct err *err);

/*
 * The guest does not need what is at [gpa, gpa + len): give it back to the host. Whole pages of
 * the backing only, and none that is mapped from a kernel or initrd: those stay as they are,
 * the others are zeroes when next looked at. The guest may run. 0, -EFAULT with nothing done when
 * a byte is not RAM, or -errno.
 */
int gmem_discard(struct gmem *mem, uint64_t gpa, uint64_t len);

/*
 * For those who save RAM. It counts in bytes from its beginning, whatever regions it is cut into:
 * bit n of @bits, which has one for each page of 4 KiB, is the page at n * 4096. vCPUs and
 * devices stopped. 0 or -code.
 *
 * gmem_data: set the bits of all pages that may have something else than zeroes in them.
 * gmem_changed: set those that may differ from the file of gmem_init_file().
 */
size_t gmem_words(const struct gmem *mem); /* of such a bitmap: 64 bits each */
int gmem_data(const struct gmem *mem, uint64_t *bits, struct err *err);
int gmem_changed(struct gmem *mem, uint64_t *bits, struct err *err);
/* Page @n of RAM. */
static inline const uint8_t *gmem_page(const struct gmem *mem, uint64_t n)
{
	return mem->base + (n << GMEM_PAGE_SHIFT);
}
/* Read @len bytes from @offset of file @fd into RAM, at the same offset. -EIO: there are less. */
int gmem_read_ram(struct gmem *mem, int fd, uint64_t offset, uint64_t len, struct err *err);
/* All that is in file @fd but for its holes; RAM is all zeroes. */
int gmem_read_sparse(struct gmem *mem, int fd, struct err *err);
/* Have what is in the file of gmem_init_file() read in the background. */
void gmem_prefetch(const struct gmem *mem);

/* RAM back to all zeroes, file mappings gone, memory given back to the host. */
int gmem_reset(struct gmem *mem, struct err *err);

/* One past the highest RAM address below @limit (which RAM may straddle). */
uint64_t gmem_top_below(const struct gmem *mem, uint64_t limit);
/* One past the highest address of all regions, RAM or not. */
uint64_t gmem_end(const struct gmem *mem);
/* Where the byte at @host (of a span, for one) is for the guest. False: in no region. */
bool gmem_gpa(const struct gmem *mem, const void *host, uint64_t *gpa);

/* Tracking of the monitor's own writes: start (all clean), stop. */
int gmem_dirty_start(struct gmem *mem, struct err *err);
void gmem_dirty_stop(struct gmem *mem);
/* Fetch and clear region @i's bitmap: @bits holds (size / page + 63) / 64 words. */
void gmem_dirty_fetch(struct gmem *mem, unsigned i, uint64_t *bits);

#endif
