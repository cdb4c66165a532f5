// SPDX-License-Identifier: Apache-2.0
/*
 * Requests to a disk: see disk.h.
 *
 * Theory of operation. A request is worked off in parts, one at a time, each one operation of
 * aio.c: step() starts the next part, part_done() accounts for it. Mostly the first part is the
 * whole. More are needed after a short read or write, where an overlay has some of the
 * sectors and the image others, and where zeroes have to be written because the host cannot
 * make them otherwise.
 *
 * The end of the image. A read that meets it has found a file that somebody cut: that is an
 * error, but in the last sector of an image that is no multiple of 512, which ends in zeroes.
 *
 * O_DIRECT wants memory, offset and length aligned, and guests need not know. What is not
 * goes through the page cache by a second descriptor, so that there are no buffers of ours to
 * fill, bound and free. The kernel keeps the two views of a file the same, with one exception:
 * a cached write of part of a page may read the rest of that page while a direct write to it
 * is in flight, and later write the old bytes back. So such a write waits until it is alone,
 * is on the disk before it is over, and holds up other writes meanwhile (disk->held).
 *
 * Making an overlay last (disk_overlay.c says which steps) serves all who wait for it when it
 * begins; those who come later wait for the next one.
 */
#include <errno.h>
#include <string.h>
#include "devices/disk_impl.h"
#include "vmm/base/util.h"

static void step(struct disk_req *req);
static void commit_join(struct disk *disk, struct disk_req *req);

static void list_init(struct disk_list *list)
{
	*list = (struct disk_list){ .last = &list->first };
}

static void list_add(struct disk_list *list, struct disk_req *req)
{
	req->next = NULL;
	*list->last = req;
	list->last = &req->next;
}

static struct disk_req *list_take(struct disk_list *list)
{
	struct disk_req *req = list->first;

	if (req != NULL)
		list->first = req->next;
	if (list->first == NULL)
		list->last = &list->first;
	return req;
}

void disk_io_init(struct disk *disk)
{
	list_init(&disk->held);
	list_init(&disk->commit.waiting);
	list_init(&disk->commit.served);
}

static void finish(struct disk_req *req, int error)
{
	req->disk->active--;
	req->done(req, error);
}

/* All parts are done: what is left is to make it last, where that was asked for. */
static void complete(struct disk_req *req)
{
	struct disk *disk = req->disk;

	if (disk->ov != NULL && req->op != DISK_READ && req->op != DISK_FLUSH)
		overlay_mark(disk->ov, req->offset, req->len);
	if (!req->durable || req->op == DISK_READ) {
		finish(req, 0);
	} else if (disk->ov != NULL) {
		commit_join(disk, req);
	} else if (req->op == DISK_WRITE) {
		finish(req, 0); /* AIO_WRITE_DURABLE it was */
	} else {
		req->syncing = true;
		req->aio.op = AIO_SYNC;
		req->aio.file = FILE_IMAGE;
		aio_queue(disk->aio, &req->aio);
	}
}

/* --- Parts --- */

/* Limit the part to the first @len bytes of what is left of req->iov. */
static void cut(struct disk_req *req, uint64_t len)
{
	unsigned i = 0;

	while (len > req->iov[i].iov_len && i + 1 < req->niov)
		len -= req->iov[i++].iov_len;
	req->last = i;
	req->last_len = req->iov[i].iov_len;
	if (len < req->last_len)
		req->iov[i].iov_len = (size_t)len;
	req->aio.iov = req->iov;
	req->aio.niov = i + 1;
}

/* Pass over @len bytes. */
static void advance(struct disk_req *req, uint64_t len)
{
	req->pos += len;
	while (len > 0 && req->niov > 0) {
		struct iovec *v = req->iov;
		size_t n = len < v->iov_len ? (size_t)len : v->iov_len;

		v->iov_base = (char *)v->iov_base + n;
		v->iov_len -= n;
		len -= n;
		if (v->iov_len == 0) {
			req->iov++;
			req->niov--;
		}
	}
}

static bool aligned(const struct disk *disk, const struct aio_req *aio)
{
	uint64_t bits = aio->offset & (disk->off_align - 1);

	for (unsigned i = 0; i < aio->niov; i++) {
		bits |= (uintptr_t)aio->iov[i].iov_base & (disk->mem_align - 1);
		bits |= aio->iov[i].iov_len & (disk->off_align - 1);
	}
	return bits == 0;
}

/* Writes to an O_DIRECT image, the one at the top excepted, in their turn. */
static void release_held(struct disk *disk)
{
	struct disk_req *req;

	while ((req = disk->held.first) != NULL && !disk->alone &&
	       !(req->buffered && disk->writing > 0)) {
		list_take(&disk->held);
		disk->writing++;
		disk->alone = req->buffered;
		aio_queue(disk->aio, &req->aio);
	}
}

/* Start a part that reads or writes. */
static void start(struct disk_req *req, bool write)
{
	struct disk *disk = req->disk;

	if (!disk->direct || req->aio.file == FILE_OVERLAY) {
		aio_queue(disk->aio, &req->aio);
		return;
	}
	req->buffered = req->buffered || !aligned(disk, &req->aio);
	if (req->buffered)
		req->aio.file = FILE_BUFFERED;
	if (!write) {
		aio_queue(disk->aio, &req->aio);
		return;
	}
	if (req->buffered)
		req->aio.op = AIO_WRITE_DURABLE;
	list_add(&disk->held, req);
	release_held(disk);
}

static void step_read(struct disk_req *req)
{
	struct disk *disk = req->disk;
	uint64_t offset = req->offset + req->pos, len = req->len - req->pos;

	req->aio.op = AIO_READ;
	req->aio.file = FILE_IMAGE;
	req->aio.offset = offset;
	if (disk->ov != NULL && overlay_run(disk->ov, offset, &len)) {
		req->aio.file = FILE_OVERLAY;
		req->aio.offset = overlay_data(disk->ov) + offset;
	}
	cut(req, len);
	start(req, false);
}

static void step_write(struct disk_req *req)
{
	struct disk *disk = req->disk;
	bool plain = disk->ov == NULL;

	req->aio.op = plain && req->durable ? AIO_WRITE_DURABLE : AIO_WRITE;
	req->aio.file = plain ? FILE_IMAGE : FILE_OVERLAY;
	req->aio.offset = req->offset + req->pos + (plain ? 0 : overlay_data(disk->ov));
	cut(req, req->len - req->pos);
	start(req, true);
}

/* Zeroes: by a hole, by what the file system has for it, or by writing them. */
static void step_zero(struct disk_req *req)
{
	struct disk *disk = req->disk;
	bool plain = disk->ov == NULL;
	uint64_t left = req->len - req->pos;

	req->aio.file = plain ? FILE_IMAGE : FILE_OVERLAY;
	req->aio.offset = req->offset + req->pos + (plain ? 0 : overlay_data(disk->ov));
	req->aio.len = left;
	/* An overlay is full of holes anyway. */
	if ((req->op != DISK_ZERO || !plain) && !disk->no_punch) {
		req->aio.op = AIO_PUNCH;
		aio_queue(disk->aio, &req->aio);
	} else if (req->op == DISK_DISCARD) {
		finish(req, 0); /* no more than a hint */
	} else if (!disk->no_zero && plain) {
		req->aio.op = AIO_ZERO;
		aio_queue(disk->aio, &req->aio);
	} else {
		req->zero.iov_base = (void *)disk->zeroes;
		req->zero.iov_len = left < DISK_ZEROES ? (size_t)left : DISK_ZEROES;
		req->aio.op = AIO_WRITE;
		req->aio.iov = &req->zero;
		req->aio.niov = 1;
		start(req, true);
	}
}

/* Start the next part, or be done. */
static void step(struct disk_req *req)
{
	struct disk *disk = req->disk;

	if (disk->cancel) {
		finish(req, -ECANCELED);
		return;
	}
	if (req->pos == req->len) {
		complete(req);
		return;
	}
	switch (req->op) {
	case DISK_READ:
		step_read(req);
		break;
	case DISK_WRITE:
		step_write(req);
		break;
	default:
		step_zero(req);
	}
}

/* The image ended. True if that was to be expected, and what is left is zeroes. */
static bool zero_tail(struct disk_req *req)
{
	struct disk *disk = req->disk;

	if (req->aio.file == FILE_OVERLAY || disk->bytes % DISK_SECTOR == 0 ||
	    req->offset + req->pos < disk->bytes)
		return false;
	for (unsigned i = 0; i < req->niov; i++)
		memset(req->iov[i].iov_base, 0, req->iov[i].iov_len);
	advance(req, req->len - req->pos);
	return true;
}

/* The host could not: is there another way? */
static bool other_way(struct disk_req *req, int error)
{
	struct disk *disk = req->disk;
	bool cannot =
		error == -EOPNOTSUPP || error == -EINVAL || error == -ENOSYS || error == -ENODEV;

	if (cannot && req->aio.op == AIO_PUNCH) {
		disk->no_punch = true;
		return true;
	}
	if (cannot && req->aio.op == AIO_ZERO) {
		disk->no_zero = true;
		return true;
	}
	/* O_DIRECT with demands we did not know of. */
	if (error == -EINVAL && disk->direct && !req->buffered && req->aio.file == FILE_IMAGE) {
		req->buffered = true;
		return true;
	}
	return false;
}

static void part_done(struct aio_req *aio, int64_t result)
{
	struct disk_req *req = container_of(aio, struct disk_req, aio);
	struct disk *disk = req->disk;
	bool data = aio->op == AIO_READ || aio->op == AIO_WRITE || aio->op == AIO_WRITE_DURABLE;
	bool own = data && aio->iov != &req->zero;

	if (own)
		req->iov[req->last].iov_len = req->last_len;
	if (disk->direct && data && aio->op != AIO_READ && aio->file != FILE_OVERLAY) {
		disk->writing--;
		disk->alone = false;
		release_held(disk);
	}
	if (req->syncing) {
		finish(req, (int)result);
		return;
	}
	if (result < 0) {
		if (other_way(req, (int)result))
			step(req);
		else
			finish(req, (int)result);
		return;
	}
	if (!data)
		req->pos = req->len;
	else if (own)
		advance(req, (uint64_t)result);
	else
		req->pos += (uint64_t)result;
	if (data && result == 0 && !(aio->op == AIO_READ && zero_tail(req))) {
		finish(req, -EIO); /* cut short by somebody */
		return;
	}
	req->buffered = false;
	step(req);
}

/* --- Making the overlay last --- */

static void commit_sync(struct disk *disk)
{
	disk->commit.aio.op = AIO_SYNC;
	disk->commit.aio.file = FILE_OVERLAY;
	aio_queue(disk->aio, &disk->commit.aio);
}

static void commit_start(struct disk *disk)
{
	disk->commit.running = true;
	disk->commit.served = disk->commit.waiting;
	list_init(&disk->commit.waiting);
	disk->commit.bitmap = overlay_snapshot(disk->ov);
	disk->commit.last = !disk->commit.bitmap;
	commit_sync(disk);
}

static void commit_end(struct disk *disk, int error)
{
	struct disk_list served = disk->commit.served;

	overlay_snapshot_done(disk->ov, error == 0);
	disk->commit.running = false;
	list_init(&disk->commit.served);
	if (disk->commit.waiting.first != NULL)
		commit_start(disk);
	while (served.first != NULL) {
		struct disk_req *req = served.first;

		served.first = req->next;
		finish(req, error);
	}
}

static void commit_step(struct aio_req *aio, int64_t result)
{
	struct disk *disk = container_of(aio, struct disk, commit.aio);
	bool write = aio->op == AIO_WRITE;

	if (write && result > 0 && (uint64_t)result < disk->commit.iov.iov_len) {
		disk->commit.iov.iov_base = (char *)disk->commit.iov.iov_base + result;
		disk->commit.iov.iov_len -= (size_t)result;
		aio->offset += (uint64_t)result;
		aio_queue(disk->aio, aio);
		return;
	}
	if (result < 0 || (write && result == 0)) {
		commit_end(disk, result < 0 ? (int)result : -EIO);
		return;
	}
	if (!write && disk->commit.last) {
		commit_end(disk, 0);
		return;
	}
	if (overlay_piece(disk->ov, &disk->commit.iov, &aio->offset)) {
		aio->op = AIO_WRITE;
		aio->file = FILE_OVERLAY;
		aio->iov = &disk->commit.iov;
		aio->niov = 1;
		aio_queue(disk->aio, aio);
		return;
	}
	disk->commit.last = true;
	commit_sync(disk);
}

static void commit_join(struct disk *disk, struct disk_req *req)
{
	if (!overlay_is_kept(disk->ov)) {
		finish(req, 0);
		return;
	}
	list_add(&disk->commit.waiting, req);
	if (!disk->commit.running)
		commit_start(disk);
}

/* --- The owner's calls --- */

int disk_watch(struct disk *disk, struct loop *loop, struct err *err)
{
	return aio_watch(disk->aio, loop, err);
}

void disk_submit(struct disk *disk, struct disk_req *req)
{
	req->disk = disk;
	req->pos = 0;
	req->buffered = req->syncing = false;
	req->aio.done = part_done;
	disk->commit.aio.done = commit_step;
	disk->active++;
	if (req->op != DISK_FLUSH) {
		step(req);
	} else if (disk->ov != NULL) {
		commit_join(disk, req);
	} else if (disk->ro) {
		finish(req, 0);
	} else {
		req->syncing = true;
		req->aio.op = AIO_SYNC;
		req->aio.file = FILE_IMAGE;
		aio_queue(disk->aio, &req->aio);
	}
}

void disk_run(struct disk *disk)
{
	aio_run(disk->aio);
}

unsigned disk_active(const struct disk *disk)
{
	return disk->active;
}

void disk_drain(struct disk *disk, bool cancel)
{
	disk->cancel = cancel;
	while (disk->active > 0)
		aio_wait(disk->aio);
	disk->cancel = false;
}
