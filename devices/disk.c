// SPDX-License-Identifier: Apache-2.0
/*
 * Disk images: opening, locking, sizes. See disk.h; requests are in disk_io.c.
 *
 * Locks: see filelock.c; the image under an overlay counts as read. A block device that is written
 * is opened with O_EXCL as well, which keeps out (and is kept out by) mounted file systems.
 *
 * Sizes. The guest counts in sectors of 512 bytes. An image to be written must be a
 * multiple of that; one that is only read is seen rounded up, with zeroes at its end (a tar
 * file, for one). The logical block size the guest is told is 512 for files, always, also
 * where the host's disk has larger blocks: partition tables count in it, so it belongs to the
 * image and not to the place where that is stored today. Block devices say their own.
 *
 * O_DIRECT (`direct`) is for the image; an overlay goes through the page cache.
 *
 * #syscalls: fstat newfstatat ioctl
 * #syscalls main io: fcntl munmap close
 * #ioctls: BLKGETSIZE64 BLKSSZGET BLKPBSZGET BLKIOMIN BLKIOOPT
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/disk_impl.h"
#include "devices/filelock.h"
#include "vmm/base/log.h"

#define BLOCK_MAX   65536
#define OVERLAY_WAY " or give each an overlay"

static int look_at_size(struct disk *disk, uint64_t *bytes)
{
	struct stat st;

	if (disk->is_block)
		return ioctl(disk->fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
	if (fstat(disk->fd, &st) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int first_size(struct disk *disk, struct err *err)
{
	int r = look_at_size(disk, &disk->bytes);

	if (r < 0)
		return err_sys(err, -r, "cannot get its size");
	if (disk->bytes == 0)
		return err_set(err, EINVAL, "is empty; 'truncate -s 10G FILE' gives it a size");
	if (disk->bytes % DISK_SECTOR != 0 && !disk->ro)
		return err_set(err, EINVAL,
			       "its %llu bytes are not a multiple of 512; 'truncate -s %%512 FILE' "
			       "fills it up, or give ro to only read it",
			       (unsigned long long)disk->bytes);
	disk->size = (disk->bytes + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR;
	return 0;
}

static bool is_power_of_2(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

static void first_limits(struct disk *disk, const struct stat *st)
{
	struct disk_limits *l = &disk->limits;
	unsigned physical = 0, minimum = 0, optimal = 0;
	int logical = 0;

	*l = (struct disk_limits){ .logical = DISK_SECTOR };
	if (disk->is_block) {
		if (ioctl(disk->fd, BLKSSZGET, &logical) == 0 && is_power_of_2((unsigned)logical) &&
		    logical >= DISK_SECTOR && logical <= BLOCK_MAX)
			l->logical = (uint32_t)logical;
		(void)ioctl(disk->fd, BLKPBSZGET, &physical);
		(void)ioctl(disk->fd, BLKIOMIN, &minimum);
		(void)ioctl(disk->fd, BLKIOOPT, &optimal);
	} else {
		physical = (unsigned)st->st_blksize;
	}
	if (!is_power_of_2(physical) || physical < l->logical || physical > BLOCK_MAX)
		physical = l->logical;
	l->physical = physical;
	l->minimum = minimum > physical ? minimum : physical;
	l->optimal = optimal;
}

/* What O_DIRECT demands, where the host says it (Linux 6.1). A wrong guess shows in EINVAL. */
static int first_alignment(struct disk *disk, struct err *err)
{
	struct statx stx = { 0 };

	disk->mem_align = disk->off_align = disk->limits.logical;
#ifdef STATX_DIOALIGN
	if (statx(disk->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return 0;
	if (!is_power_of_2(stx.stx_dio_mem_align) || !is_power_of_2(stx.stx_dio_offset_align))
		return err_set(err, EINVAL,
			       "its file system cannot do direct I/O; leave direct out");
	disk->mem_align = stx.stx_dio_mem_align;
	disk->off_align = stx.stx_dio_offset_align;
#else
	(void)stx;
	(void)err;
#endif
	if (disk->limits.physical < disk->off_align && disk->off_align <= BLOCK_MAX)
		disk->limits.physical = disk->limits.minimum = disk->off_align;
	return 0;
}

static int open_error(const struct disk *disk, int code, struct err *err)
{
	if (code == EINVAL && disk->direct)
		return err_set(err, EINVAL,
			       "its file system cannot do direct I/O; leave direct out");
	if ((code == EACCES || code == EPERM || code == EROFS) && !disk->ro)
		return err_sys(err, code, "cannot open it for writing (ro: only read it)");
	if (code == EBUSY)
		return err_set(err, EBUSY,
			       "the block device is in use: mounted, part of a volume, or another "
			       "virtual machine's");
	return err_sys(err, code, "cannot open");
}

/* Open the image with @flags on top; it must be what @st says, if that is not NULL. */
static int open_image(const struct disk *disk, const char *path, int flags, const struct stat *st,
		      struct err *err)
{
	struct stat now;
	int fd;

	/* O_NONBLOCK: opening a FIFO must not wait for its other end. */
	flags |= (disk->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	fd = open(path, flags);
	if (fd < 0)
		return open_error(disk, errno, err);
	if (fstat(fd, &now) < 0 || fcntl(fd, F_SETFL, flags & O_DIRECT) < 0) {
		err_sys(err, errno, "cannot look at it");
	} else if (!S_ISREG(now.st_mode) && !S_ISBLK(now.st_mode)) {
		err_set(err, EINVAL, "is neither a file nor a block device");
	} else if (st != NULL && (now.st_dev != st->st_dev || now.st_ino != st->st_ino)) {
		err_set(err, EAGAIN, "was replaced while it was being opened; try again");
	} else {
		return fd;
	}
	close(fd);
	return -err->code;
}

static int open_files(struct disk *disk, const struct disk_config *cfg, struct err *err)
{
	int flags = disk->direct ? O_DIRECT : 0, r;
	struct stat st;

	if (stat(cfg->path, &st) < 0)
		return err_sys(err, errno, "cannot open");
	disk->is_block = S_ISBLK(st.st_mode);
	if (disk->is_block && !disk->ro)
		flags |= O_EXCL;
	disk->fd = open_image(disk, cfg->path, flags, &st, err);
	if (disk->fd < 0)
		return -err->code;
	r = file_lock(disk->fd, !disk->ro, OVERLAY_WAY, err);
	if (r < 0)
		return r;
	if (disk->direct) {
		disk->buffered_fd = open_image(disk, cfg->path, 0, &st, err);
		if (disk->buffered_fd < 0)
			return -err->code;
	}
	/* Again, now that nobody else of ours writes. */
	if (fstat(disk->fd, &st) < 0)
		return err_sys(err, errno, "cannot look at it");
	r = first_size(disk, err);
	if (r < 0)
		return r;
	first_limits(disk, &st);
	if (disk->direct)
		r = first_alignment(disk, err);
	if (r == 0 && cfg->overlay != NULL) {
		struct overlay_base base = { .size = disk->size };

		if (!disk->is_block) {
			base.mtime_s = (uint64_t)st.st_mtim.tv_sec;
			base.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
		}
		disk->ov = overlay_open(cfg->overlay[0] != '\0' ? cfg->overlay : NULL, &base, err);
		if (disk->ov == NULL)
			r = -err->code;
	}
	return r;
}

struct disk *disk_open(const struct disk_config *cfg, void (*ready)(void *owner), void *owner,
		       struct err *err)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	void *zeroes;
	int fds[3];

	if (disk == NULL) {
		err_sys(err, ENOMEM, "cannot open");
		return NULL;
	}
	disk->fd = disk->buffered_fd = -1;
	disk->ro = cfg->ro || cfg->overlay != NULL;
	disk->direct = cfg->direct;
	disk_io_init(disk);
	if (open_files(disk, cfg, err) < 0)
		goto fail;
	/* Only ever read: all of it is the kernel's page of zeroes. */
	zeroes = mmap(NULL, DISK_ZEROES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		      0);
	if (zeroes == MAP_FAILED) {
		err_sys(err, errno, "cannot map a page of zeroes");
		goto fail;
	}
	disk->zeroes = zeroes;
	fds[FILE_IMAGE] = disk->fd;
	fds[FILE_BUFFERED] = disk->direct ? disk->buffered_fd : disk->fd;
	fds[FILE_OVERLAY] = disk->ov != NULL ? overlay_fd(disk->ov) : disk->fd;
	disk->aio =
		aio_new(fds, 3, cfg->threads ? AIO_THREADS : 0, cfg->iothreads, ready, owner, err);
	if (disk->aio == NULL)
		goto fail;
	return disk;
fail:
	disk_close(disk);
	return NULL;
}

void disk_close(struct disk *disk)
{
	if (disk == NULL)
		return;
	aio_free(disk->aio);
	overlay_close(disk->ov);
	file_unlock(disk->fd);
	if (disk->zeroes != NULL)
		munmap((void *)disk->zeroes, DISK_ZEROES);
	if (disk->buffered_fd >= 0)
		close(disk->buffered_fd);
	if (disk->fd >= 0)
		close(disk->fd);
	free(disk);
}

uint64_t disk_size(const struct disk *disk)
{
	return disk->size;
}

const struct disk_limits *disk_limits(const struct disk *disk)
{
	return &disk->limits;
}

bool disk_rescan(struct disk *disk, const char *name)
{
	uint64_t bytes, size;
	int r = look_at_size(disk, &bytes);

	if (r < 0) {
		log_warn("%s: cannot get its size: %s", name, strerrordesc_np(-r));
		return false;
	}
	if (bytes == disk->bytes)
		return false;
	if (disk->ov != NULL) {
		log_warn("%s: the image under an overlay changed its size; the disk keeps its own",
			 name);
		return false;
	}
	size = bytes / DISK_SECTOR * DISK_SECTOR;
	if (disk->ro && size != bytes)
		size += DISK_SECTOR;
	if (size != bytes && !disk->ro)
		log_warn("%s: its last %llu bytes are less than a sector and not seen", name,
			 (unsigned long long)(bytes - size));
	disk->bytes = bytes;
	if (size == disk->size)
		return false;
	disk->size = size;
	return true;
}
