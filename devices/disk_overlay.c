// SPDX-License-Identifier: Apache-2.0
/*
 * A copy-on-write layer over a disk image: see disk_overlay.h.
 *
 * Theory of operation. One bit for each sector of 512 bytes says whether it has been written;
 * if so its data is in the overlay's file, at a fixed place: sector n at data + n * 512. The
 * file is sparse and takes the room of what was written. As the unit is the sector, the unit
 * of the guest, a write never has to read the image first. Sectors that were discarded or
 * zeroed are marked and are holes in the file. The image is never written, and any number of
 * machines may share it.
 *
 * The marks are in memory: 1/4096 of the disk's size, of which only the pages take memory that
 * have marks in them (one for 16 MiB of the disk).
 *
 * Format of a kept overlay, all integers little-endian:
 *
 *	0	"VMMOVRLY"
 *	8	u32 version: 1
 *	12	u32 bytes per bit: 512
 *	16	u64 size of the image in bytes
 *	24	u64, u32 seconds and nanoseconds of its last change (0: a block device)
 *	36	u32 0
 *	40	u64 where the bitmap is: 4096
 *	48	u64 where the data is: after the bitmap, a multiple of 65536
 *	56	zeroes up to 4096
 *
 * In the bitmap sector n is bit n % 8 of byte n / 8.
 *
 * What survives. A mark must not get to the disk before the data: after a power failure the
 * sector would be garbage, while without the mark it is what it was before. So making it last
 * takes four steps: a snapshot of the marks of all writes completed so far; a sync of the
 * data; writing the pages of the bitmap that changed, from the snapshot; another sync. Marks
 * made meanwhile wait for the next time. Bits are only ever set and a torn page holds old and
 * new ones, each true, so nothing more is needed. What was not flushed is lost with the
 * monitor, as it would be in a disk's cache.
 *
 * A changed image under it would make the overlay nonsense: size and time of change must be
 * as they were.
 *
 * A temporary overlay is a nameless file in $TMPDIR, or /var/tmp: it is gone with the process,
 * however that ends, and so it is never synced.
 *
 * Limits: the image may have 64 TiB. Marks are not cleared, room once taken is given back by
 * discards only. No layers of layers.
 *
 * #syscalls: fdatasync pwrite64
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/disk_impl.h"
#include "devices/filelock.h"
#include "devices/disk_overlay.h"
#include "vmm/base/log.h"

#define MAGIC	    "VMMOVRLY"
#define VERSION	    1
#define SECTOR	    512
#define PAGE	    4096
#define PAGE_BITS   (PAGE * 8)
#define HEADER_SIZE 4096
#define DATA_ALIGN  65536
#define SIZE_MAX_   (64ULL << 40)
#define PIECE_PAGES 64 /* written at once */

struct header {
	char magic[8];
	uint32_t version, sector;
	uint64_t size, mtime_s;
	uint32_t mtime_ns, zero;
	uint64_t bitmap, data;
	uint8_t rest[HEADER_SIZE - 56];
};

_Static_assert(sizeof(struct header) == HEADER_SIZE, "header");

struct overlay {
	int fd;
	bool kept;
	uint64_t nsectors, data;
	size_t map_size; /* bytes of the bitmap, whole pages */
	/* Bitmaps are in little-endian words, as in the file. */
	uint64_t *map;	 /* the marks; mmap'ed, so untouched pages cost nothing */
	uint8_t *shadow; /* kept: the snapshot, of the pages in @snap */
	/* One bit for each page of the bitmap. */
	size_t npages;
	uint64_t *dirty; /* has marks that are not in the file */
	uint64_t *snap;	 /* is in the snapshot */
	size_t next;	 /* page of the snapshot to be written next */
};

/* The first bit in [from, end) that is @value, or @end. */
static uint64_t find(const uint64_t *map, uint64_t from, uint64_t end, bool value)
{
	uint64_t flip = value ? 0 : UINT64_MAX;

	while (from < end) {
		uint64_t word = (le64toh(map[from / 64]) ^ flip) >> from % 64;

		if (word != 0) {
			from += (uint64_t)__builtin_ctzll(word);
			break;
		}
		from = (from / 64 + 1) * 64;
	}
	return from < end ? from : end;
}

bool overlay_run(const struct overlay *ov, uint64_t offset, uint64_t *len)
{
	uint64_t first = offset / SECTOR, end = (offset + *len) / SECTOR;
	bool present = find(ov->map, first, first + 1, true) == first;

	*len = (find(ov->map, first, end, !present) - first) * SECTOR;
	return present;
}

void overlay_mark(struct overlay *ov, uint64_t offset, uint64_t len)
{
	uint64_t bit = offset / SECTOR, end = (offset + len) / SECTOR;

	while (bit < end) {
		uint64_t n = 64 - bit % 64 < end - bit ? 64 - bit % 64 : end - bit;
		uint64_t mask = htole64((n == 64 ? UINT64_MAX : (1ULL << n) - 1) << bit % 64);
		uint64_t *word = &ov->map[bit / 64];

		if ((*word & mask) != mask) {
			*word |= mask;
			ov->dirty[bit / PAGE_BITS / 64] |= htole64(1ULL << bit / PAGE_BITS % 64);
		}
		bit += n;
	}
}

/* --- Making it last --- */

bool overlay_snapshot(struct overlay *ov)
{
	bool any = false;

	for (size_t page = find(ov->dirty, 0, ov->npages, true); page < ov->npages;
	     page = find(ov->dirty, page + 1, ov->npages, true)) {
		memcpy(ov->shadow + page * PAGE, (uint8_t *)ov->map + page * PAGE, PAGE);
		any = true;
	}
	memcpy(ov->snap, ov->dirty, (ov->npages + 63) / 64 * 8);
	memset(ov->dirty, 0, (ov->npages + 63) / 64 * 8);
	ov->next = 0;
	return any;
}

bool overlay_piece(struct overlay *ov, struct iovec *iov, uint64_t *pos)
{
	size_t first = find(ov->snap, ov->next, ov->npages, true), end;

	if (first == ov->npages)
		return false;
	end = find(ov->snap, first, ov->npages, false);
	if (end - first > PIECE_PAGES)
		end = first + PIECE_PAGES;
	ov->next = end;
	*iov = (struct iovec){ ov->shadow + first * PAGE, (end - first) * PAGE };
	*pos = HEADER_SIZE + first * PAGE;
	return true;
}

void overlay_snapshot_done(struct overlay *ov, bool ok)
{
	for (size_t i = 0; i < (ov->npages + 63) / 64; i++) {
		if (!ok)
			ov->dirty[i] |= ov->snap[i];
		ov->snap[i] = 0;
	}
}

/* All of it at once. 0 or -errno. */
static int write_down(struct overlay *ov)
{
	struct iovec iov;
	uint64_t pos;

	if (!overlay_snapshot(ov))
		return 0;
	if (fdatasync(ov->fd) < 0)
		return -errno;
	while (overlay_piece(ov, &iov, &pos)) {
		for (size_t done = 0; done < iov.iov_len;) {
			ssize_t n = pwrite(ov->fd, (char *)iov.iov_base + done, iov.iov_len - done,
					   (off_t)(pos + done));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n < 0 ? -errno : -ENOSPC;
			done += (size_t)n;
		}
	}
	return 0;
}

/* --- Opening --- */

static void fill_header(const struct overlay *ov, const struct overlay_base *base, struct header *h)
{
	*h = (struct header){
		.magic = MAGIC,
		.version = htole32(VERSION),
		.sector = htole32(SECTOR),
		.size = htole64(base->size),
		.mtime_s = htole64(base->mtime_s),
		.mtime_ns = htole32(base->mtime_ns),
		.bitmap = htole64(HEADER_SIZE),
		.data = htole64(ov->data),
	};
}

/* An empty file becomes an overlay; the header comes last and says that it is one. */
static int make(struct overlay *ov, const char *file, const struct overlay_base *base,
		struct err *err)
{
	struct header h;
	char *copy;
	int dir;

	fill_header(ov, base, &h);
	if (ftruncate(ov->fd, (off_t)(ov->data + base->size)) < 0)
		return err_sys(err, errno, "overlay %s: cannot make it %llu MiB long", file,
			       (unsigned long long)(ov->data + base->size) >> 20);
	if (pwrite(ov->fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || fsync(ov->fd) < 0)
		return err_sys(err, errno, "overlay %s: cannot write", file);
	/* Its name must survive, too. Not all file systems can say so: then they need not. */
	copy = strdup(file);
	dir = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dir >= 0) {
		(void)fsync(dir);
		close(dir);
	}
	free(copy);
	return 0;
}

static int check(const struct overlay *ov, const char *file, const struct overlay_base *base,
		 uint64_t size, struct err *err)
{
	struct header h = { 0 }, want;
	ssize_t n = pread(ov->fd, &h, sizeof(h), 0);

	if (n < 0)
		return err_sys(err, errno, "overlay %s: cannot read", file);
	fill_header(ov, base, &want);
	if (memcmp(h.magic, want.magic, sizeof(h.magic)) != 0)
		return err_set(err, EINVAL,
			       "overlay %s: is not an overlay; name a new file, or remove it if "
			       "its making was interrupted",
			       file);
	if (h.version != want.version)
		return err_set(err, EINVAL, "overlay %s: has format version %u, known is %u", file,
			       le32toh(h.version), VERSION);
	if (h.size != want.size)
		return err_set(err, EINVAL,
			       "overlay %s: belongs to an image of %llu bytes, this one has %llu",
			       file, (unsigned long long)le64toh(h.size),
			       (unsigned long long)base->size);
	if (h.mtime_s != want.mtime_s || h.mtime_ns != want.mtime_ns)
		return err_set(err, EINVAL,
			       "overlay %s: the image was changed since the overlay was made, or "
			       "is another one; what the overlay holds does not fit it any more",
			       file);
	if (memcmp(&h, &want, sizeof(h)) != 0)
		return err_set(err, EINVAL, "overlay %s: the header is damaged", file);
	if (size < ov->data + base->size)
		return err_set(err, EINVAL, "overlay %s: is cut short (%llu of %llu bytes)", file,
			       (unsigned long long)size,
			       (unsigned long long)(ov->data + base->size));
	return 0;
}

/* Read the bitmap; holes are skipped. */
static int load(struct overlay *ov, const char *file, struct err *err)
{
	off_t pos = HEADER_SIZE, end = HEADER_SIZE + (off_t)ov->map_size;

	while ((pos = lseek(ov->fd, pos, SEEK_DATA)) >= 0 && pos < end) {
		uint8_t *to = (uint8_t *)ov->map + (pos - HEADER_SIZE);
		off_t hole = lseek(ov->fd, pos, SEEK_HOLE);
		ssize_t n;

		if (hole < 0 || hole > end)
			hole = end;
		n = pread(ov->fd, to, (size_t)(hole - pos), pos);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? errno : EIO, "overlay %s: cannot read", file);
		pos += n;
	}
	/* ENXIO: only holes from there on. */
	if (pos < 0 && errno != ENXIO)
		return err_sys(err, errno, "overlay %s: cannot read", file);
	return 0;
}

static int open_kept(struct overlay *ov, const char *file, const struct overlay_base *base,
		     struct err *err)
{
	struct stat st;
	int r;

	ov->fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	if (ov->fd < 0)
		return err_sys(err, errno, "overlay %s: cannot open", file);
	if (fstat(ov->fd, &st) < 0)
		return err_sys(err, errno, "overlay %s", file);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "overlay %s: is not a regular file", file);
	if (fcntl(ov->fd, F_SETFL, 0) < 0)
		return err_sys(err, errno, "overlay %s", file);
	r = file_lock(ov->fd, true, " or give each an overlay", err);
	if (r == 0 && fstat(ov->fd, &st) < 0)
		r = err_sys(err, errno, "cannot look at it");
	if (r < 0)
		return err_context(err, "overlay %s", file);
	if (st.st_size == 0)
		return make(ov, file, base, err);
	r = check(ov, file, base, (uint64_t)st.st_size, err);
	return r < 0 ? r : load(ov, file, err);
}

static int open_temporary(struct overlay *ov, const struct overlay_base *base, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	char name[512];

	if (dir == NULL || dir[0] == '\0')
		dir = "/var/tmp";
	ov->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (ov->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		/* A file system without nameless files. */
		snprintf(name, sizeof(name), "%s/vmm-overlay-XXXXXX", dir);
		ov->fd = mkostemp(name, O_CLOEXEC);
		if (ov->fd >= 0)
			unlink(name);
	}
	if (ov->fd < 0)
		return err_sys(err, errno,
			       "overlay: cannot make a temporary file in %s; set TMPDIR, or name "
			       "a file: overlay=FILE",
			       dir);
	if (ftruncate(ov->fd, (off_t)(ov->data + base->size)) < 0)
		return err_sys(err, errno, "overlay: cannot make a file of %llu MiB in %s",
			       (unsigned long long)base->size >> 20, dir);
	return 0;
}

static void *map_zeroes(size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return map != MAP_FAILED ? map : NULL;
}

static void overlay_free(struct overlay *ov)
{
	if (ov->map != NULL)
		munmap(ov->map, ov->map_size);
	if (ov->shadow != NULL)
		munmap(ov->shadow, ov->map_size);
	free(ov->dirty);
	free(ov->snap);
	if (ov->fd >= 0)
		close(ov->fd); /* the lock goes with it */
	free(ov);
}

struct overlay *overlay_open(const char *file, const struct overlay_base *base, struct err *err)
{
	struct overlay *ov;
	int r;

	if (base->size > SIZE_MAX_) {
		err_set(err, EFBIG, "overlay: the image has %llu TiB, the most is 64",
			(unsigned long long)base->size >> 40);
		return NULL;
	}
	ov = calloc(1, sizeof(*ov));
	if (ov == NULL) {
		err_sys(err, ENOMEM, "overlay");
		return NULL;
	}
	ov->fd = -1;
	ov->kept = file != NULL;
	ov->nsectors = base->size / SECTOR;
	ov->npages = (size_t)((ov->nsectors + PAGE_BITS - 1) / PAGE_BITS);
	ov->map_size = ov->npages * PAGE;
	if (ov->kept)
		ov->data = (HEADER_SIZE + ov->map_size + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
	ov->map = map_zeroes(ov->map_size);
	ov->shadow = ov->kept ? map_zeroes(ov->map_size) : NULL;
	ov->dirty = calloc((ov->npages + 63) / 64, sizeof(uint64_t));
	ov->snap = calloc((ov->npages + 63) / 64, sizeof(uint64_t));
	if (ov->map == NULL || ov->dirty == NULL || ov->snap == NULL ||
	    (ov->kept && ov->shadow == NULL))
		r = err_sys(err, ENOMEM, "overlay");
	else
		r = ov->kept ? open_kept(ov, file, base, err) : open_temporary(ov, base, err);
	if (r < 0) {
		overlay_free(ov);
		return NULL;
	}
	return ov;
}

void overlay_close(struct overlay *ov)
{
	int r;

	if (ov == NULL)
		return;
	if (ov->kept) {
		overlay_snapshot_done(ov, false); /* one that was under way */
		r = write_down(ov);
		if (r < 0)
			log_error("overlay: cannot write down what was not flushed: %s",
				  strerrordesc_np(-r));
	}
	file_unlock(ov->fd);
	overlay_free(ov);
}

int overlay_fd(const struct overlay *ov)
{
	return ov->fd;
}

bool overlay_is_kept(const struct overlay *ov)
{
	return ov->kept;
}

uint64_t overlay_data(const struct overlay *ov)
{
	return ov->data;
}
