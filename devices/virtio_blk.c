// SPDX-License-Identifier: Apache-2.0
/*
 * The block device: Virtual I/O Device (VIRTIO) 1.2, section 5.2.
 *
 * Theory of operation. A kick pops requests, hands them to the disk (disk.h) and runs it once
 * for the whole batch; what has completed by then, which is everything the page cache can
 * answer, is pushed and announced with one interrupt before the loop goes back to sleep. The
 * rest completes later through blk_ready(). Data goes between guest memory and the file
 * without a copy. All queues of a device are served by its one loop.
 *
 * A request may be laid out over descriptors in any way (2.7.4.1): 16 bytes of header, then data
 * to be written; data read, then the status byte. The last writable byte is the status,
 * wherever it lies. All writable bytes are written whatever becomes of the request (with
 * zeroes if need be), so the used length is that of all of them and nothing of the past
 * shows. Without header or status there is no way to answer: virtio_fail().
 *
 * Memory. Each queue has one request structure for each of its entries, made at the start as
 * zeroed memory that takes no room until it is touched. The one used last is used first again, so a
 * guest with one request at a time touches one. Nothing is allocated later.
 *
 * Write cache (5.2.5, 5.2.6.2). With cache=writeback a completed write is in the page cache:
 * VIRTIO_BLK_F_FLUSH says so, FLUSH is fdatasync, and VIRTIO_BLK_F_CONFIG_WCE lets the driver
 * switch. With a driver that does not know of FLUSH, or switched, or with cache=none, a write
 * is on stable storage before it completes.
 *
 * Limits on rate hold for all queues together. A request over the limit is put back into its
 * queue and no more are taken until a timer says so. FLUSH and the like count as a request of
 * no bytes; zeroes and discards have no bytes either.
 *
 * Reset waits for I/O in flight, since that goes to guest memory, and gives up what was not
 * started. A flush that is under way is waited for.
 *
 * Another file or other limits for a disk that runs: virtio_blk_live.c. The option --disk is also
 * that of qcow2 images, which are devices of another kind: disk_qcow2.c.
 *
 * Limits: no SIZE_MAX, GEOMETRY, LIFETIME, SECURE_ERASE, ZONED. FLUSH covers what completed
 * before it was made available, as the specification demands, and no order is kept otherwise.
 *
 * #syscalls main vcpu io: futex
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "devices/disk_qcow2.h"
#include "devices/virtio_blk_impl.h"
#include "vmm/base/iothread.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define SEG_MAX	    (BLK_QUEUE_SIZE - 2) /* without header and status */
#define RANGE_MAX   (1u << 30 >> 9)	 /* sectors of a range */
#define KICK_BUDGET 256
#define PCI_CLASS   0x018000 /* mass storage, other */

enum { CACHE_WRITEBACK, CACHE_NONE };

struct blk_options {
	char *path, *serial, *overlay, *id;
	bool ro, direct, iothread;
	int cache;
	uint64_t queues, iops, iops_burst, bw, bw_burst;
	int format; /* enum disk_format */
	bool backing;
};

/* --- Requests: the structures --- */

static struct blk_req *req_get(struct blk *blk, unsigned q)
{
	struct blk_queue *queue = &blk->queue[q];
	struct blk_req *req = queue->free;

	if (req != NULL)
		queue->free = req->next;
	else if (queue->fresh < BLK_QUEUE_SIZE)
		req = &queue->reqs[queue->fresh++];
	else
		return NULL;
	req->blk = blk;
	req->q = q;
	return req;
}

static void req_put(struct blk_req *req)
{
	struct blk_queue *queue = &req->blk->queue[req->q];

	req->next = queue->free;
	queue->free = req;
}

/* --- The end of a request --- */

static void answer(struct blk_req *req, uint8_t status)
{
	struct virtqueue_cursor *in = &req->chain.writable;
	struct blk *blk = req->blk;

	if (!blk->dropping) {
		if (status == VIRTIO_BLK_S_OK)
			virtqueue_skip(in, req->data);
		virtqueue_zero(in, in->left - 1);
		virtqueue_write(in, &status, 1);
		virtio_push(&blk->vdev, req->q, &req->chain);
		blk->interrupts |= 1ULL << req->q;
		blk->vdev.counters->failures += status != VIRTIO_BLK_S_OK;
	}
	req_put(req);
}

static void log_failure(const struct blk *blk, const struct disk_req *io, int error)
{
	static const char *const what[] = {
		[DISK_READ] = "read",	    [DISK_WRITE] = "write", [DISK_FLUSH] = "flush",
		[DISK_DISCARD] = "discard", [DISK_ZERO] = "zero",   [DISK_ZERO_UNMAP] = "zero",
	};

	log_limited(LOG_ERROR, "%s: cannot %s %llu bytes at %llu: %s", blk->vdev.name, what[io->op],
		    (unsigned long long)io->len, (unsigned long long)io->offset,
		    strerrordesc_np(-error));
}

static void next_range(struct blk_req *req);

static void io_done(struct disk_req *io, int error)
{
	struct blk_req *req = container_of(io, struct blk_req, io);

	if (error != 0) {
		if (error != -ECANCELED)
			log_failure(req->blk, io, error);
		answer(req, VIRTIO_BLK_S_IOERR);
	} else if (req->range < req->nranges) {
		next_range(req);
	} else {
		answer(req, VIRTIO_BLK_S_OK);
	}
}

/* --- The beginning --- */

/* Must a write be on stable storage when it completes? */
static bool is_write_through(const struct blk *blk)
{
	if (blk->write_through || !virtio_has(&blk->vdev, VIRTIO_BLK_F_FLUSH))
		return true;
	return virtio_has(&blk->vdev, VIRTIO_BLK_F_CONFIG_WCE) && blk->config.wce == 0;
}

/* Are @len bytes from @sector whole sectors of the disk? */
static bool in_disk(const struct blk *blk, uint64_t sector, uint64_t len)
{
	uint64_t n = disk_size(blk->disk) / DISK_SECTOR;

	return len % DISK_SECTOR == 0 && sector <= n && len / DISK_SECTOR <= n - sector;
}

static void submit(struct blk_req *req, enum disk_op op, uint64_t sector, uint64_t len)
{
	struct virtio_counters *count = req->blk->vdev.counters;

	count->reads += op == DISK_READ;
	count->writes += op == DISK_WRITE;
	count->flushes += op == DISK_FLUSH;
	req->io.op = op;
	req->io.durable = op != DISK_DISCARD && is_write_through(req->blk);
	req->io.offset = sector * DISK_SECTOR;
	req->io.len = len;
	req->io.iov = req->segment;
	req->io.done = io_done;
	disk_submit(req->blk->disk, &req->io);
}

static void begin_data(struct blk_req *req, uint64_t sector, bool write)
{
	struct virtqueue_cursor *c = write ? &req->chain.readable : &req->chain.writable;
	size_t len = write ? c->left : c->left - 1;
	struct blk *blk = req->blk;

	if ((write && blk->ro) || !in_disk(blk, sector, len)) {
		answer(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	req->io.niov = virtqueue_segments(c, len, req->segment, BLK_IOV_MAX);
	req->data = write ? 0 : len;
	submit(req, write ? DISK_WRITE : DISK_READ, sector, len);
}

static void begin_id(struct blk_req *req)
{
	struct virtqueue_cursor *in = &req->chain.writable;
	size_t room = in->left - 1;

	virtqueue_write(in, req->blk->serial,
			room < VIRTIO_BLK_ID_BYTES ? room : VIRTIO_BLK_ID_BYTES);
	answer(req, VIRTIO_BLK_S_OK);
}

static void next_range(struct blk_req *req)
{
	const struct virtio_blk_discard_write_zeroes *r = &req->ranges[req->range++];
	enum disk_op op = req->io.op;

	if (op != DISK_DISCARD)
		op = le32toh(r->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP ? DISK_ZERO_UNMAP
									    : DISK_ZERO;
	submit(req, op, le64toh(r->sector), (uint64_t)le32toh(r->num_sectors) * DISK_SECTOR);
}

/* DISCARD, WRITE_ZEROES: all ranges are checked before the first is touched. */
static void begin_ranges(struct blk_req *req, bool discard)
{
	struct virtqueue_cursor *out = &req->chain.readable;
	uint32_t flags = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	struct blk *blk = req->blk;
	size_t len = out->left;

	if (blk->ro || len == 0 || len % sizeof(req->ranges[0]) != 0 || len > sizeof(req->ranges)) {
		answer(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	virtqueue_read(out, req->ranges, len);
	req->nranges = (unsigned)(len / sizeof(req->ranges[0]));
	for (unsigned i = 0; i < req->nranges; i++) {
		const struct virtio_blk_discard_write_zeroes *r = &req->ranges[i];
		uint32_t n = le32toh(r->num_sectors);

		if ((le32toh(r->flags) & ~flags) != 0) {
			answer(req, VIRTIO_BLK_S_UNSUPP);
			return;
		}
		if (n > RANGE_MAX || !in_disk(blk, le64toh(r->sector), (uint64_t)n * DISK_SECTOR)) {
			answer(req, VIRTIO_BLK_S_IOERR);
			return;
		}
	}
	req->io.op = discard ? DISK_DISCARD : DISK_ZERO;
	next_range(req);
}

/* May a request of @bytes be taken now? If not, the timer will say when. */
static bool admit(struct blk *blk, uint64_t bytes)
{
	uint64_t now, wait;

	if (blk->iops.rate == 0 && blk->bw.rate == 0)
		return true;
	now = loop_now_ns();
	wait = ratelimit_take(&blk->iops, 1, now);
	if (wait == 0) {
		wait = ratelimit_take(&blk->bw, bytes, now);
		if (wait == 0)
			return true;
		ratelimit_return(&blk->iops, 1);
	}
	blk->throttled = true;
	blk->vdev.counters->throttled++;
	loop_arm(blk->vdev.loop, &blk->timer, wait);
	return false;
}

/* False: not now; the chain is as it was. */
static bool begin(struct blk_req *req)
{
	struct virtqueue_cursor *out = &req->chain.readable, *in = &req->chain.writable;
	struct blk *blk = req->blk;
	struct virtio_blk_outhdr hdr;
	uint64_t bytes = 0, sector;
	uint32_t type;

	if (virtqueue_read(out, &hdr, sizeof(hdr)) < sizeof(hdr) || in->left == 0) {
		virtio_fail(&blk->vdev, "queue %u: a request without %s", req->q,
			    in->left == 0 ? "room for its status" : "a header");
		req_put(req);
		return true;
	}
	type = le32toh(hdr.type);
	sector = le64toh(hdr.sector);
	if (type == VIRTIO_BLK_T_IN)
		bytes = in->left - 1;
	else if (type == VIRTIO_BLK_T_OUT)
		bytes = out->left;
	if (!admit(blk, bytes))
		return false;
	req->data = 0;
	req->nranges = req->range = 0;
	req->io.niov = 0;
	switch (type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		begin_data(req, sector, type == VIRTIO_BLK_T_OUT);
		break;
	case VIRTIO_BLK_T_FLUSH:
		submit(req, DISK_FLUSH, 0, 0);
		break;
	case VIRTIO_BLK_T_GET_ID:
		begin_id(req);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		begin_ranges(req, type == VIRTIO_BLK_T_DISCARD);
		break;
	default:
		answer(req, VIRTIO_BLK_S_UNSUPP);
	}
	return true;
}

/* --- Queues --- */

void blk_interrupt(struct blk *blk)
{
	for (; blk->interrupts != 0; blk->interrupts &= blk->interrupts - 1)
		virtio_interrupt(&blk->vdev, (unsigned)__builtin_ctzll(blk->interrupts));
}

/* Take a request out of queue @q and begin it. False: there is none, or not now. */
static bool take(struct blk *blk, unsigned q)
{
	struct blk_req *req = req_get(blk, q);

	if (req == NULL)
		return false;
	if (!virtio_pop(&blk->vdev, q, &req->chain, req->iov)) {
		req_put(req);
		return false;
	}
	if (!begin(req)) {
		virtqueue_unpop(&blk->vdev.queue[q].vq, 1);
		req_put(req);
		return false;
	}
	return true;
}

static void blk_kick(struct virtio_device *vdev, unsigned q)
{
	struct virtqueue *vq = virtio_vq(vdev, q);
	struct blk *blk = to_blk(vdev);
	unsigned n = 0;

	if (vq == NULL)
		return;
	do {
		virtqueue_disable_kicks(vq);
		while (n < KICK_BUDGET && !blk->throttled && take(blk, q))
			n++;
		disk_run(blk->disk);
		blk_interrupt(blk);
		if (!virtio_live(vdev))
			return;
		if (blk->throttled) {
			blk->waiting |= 1ULL << q; /* kicks stay off till then */
			return;
		}
		if (n == KICK_BUDGET) {
			virtio_again(vdev, q);
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

void blk_ready(void *owner)
{
	struct blk *blk = owner;

	pthread_mutex_lock(&blk->vdev.lock);
	disk_run(blk->disk);
	blk_interrupt(blk);
	pthread_mutex_unlock(&blk->vdev.lock);
}

static void unthrottle(struct loop_timer *timer)
{
	struct blk *blk = container_of(timer, struct blk, timer);
	uint64_t waiting;

	pthread_mutex_lock(&blk->vdev.lock);
	waiting = blk->waiting;
	blk->waiting = 0;
	blk->throttled = false;
	/* The first may use up what there is; the others then go on waiting. */
	for (; waiting != 0; waiting &= waiting - 1)
		blk_kick(&blk->vdev, (unsigned)__builtin_ctzll(waiting));
	virtio_end_batch(&blk->vdev);
	pthread_mutex_unlock(&blk->vdev.lock);
}

/* --- Life --- */

static void blk_update(struct virtio_device *vdev)
{
	struct blk *blk = to_blk(vdev);
	struct err err = ERR_INIT;

	disk_close(blk->retired);
	blk->retired = NULL;
	if (disk_watch(blk->disk, vdev->loop, &err) < 0)
		log_limited(LOG_ERROR, "%s: %s", vdev->name, err.msg);
	/* 5.2.5.2 */
	if (virtio_live(vdev) && virtio_has(vdev, VIRTIO_BLK_F_CONFIG_WCE) &&
	    !virtio_has(vdev, VIRTIO_BLK_F_FLUSH))
		blk->config.wce = 0;
}

static void blk_reset(struct virtio_device *vdev)
{
	struct blk *blk = to_blk(vdev);

	blk->dropping = true;
	disk_drain(blk->disk, true);
	blk->dropping = false;
	blk->interrupts = 0;
	blk->config.wce = !blk->write_through && !blk->ro;
}

static void blk_quiesce(struct virtio_device *vdev)
{
	struct blk *blk = to_blk(vdev);

	disk_drain(blk->disk, false);
	blk_interrupt(blk);
}

static void blk_config_write(struct virtio_device *vdev, unsigned off, const void *data,
			     unsigned len)
{
	const unsigned wce = offsetof(struct virtio_blk_config, wce);
	struct blk *blk = to_blk(vdev);

	if (off == wce && len == 1 && virtio_has(vdev, VIRTIO_BLK_F_CONFIG_WCE))
		blk->config.wce = *(const uint8_t *)data != 0;
}

void blk_set_capacity(struct blk *blk)
{
	blk->config.capacity = htole64(disk_size(blk->disk) / DISK_SECTOR);
}

static void blk_rescan(struct virtio_device *vdev)
{
	struct blk *blk = to_blk(vdev);

	if (!disk_rescan(blk->disk, vdev->name))
		return;
	blk_set_capacity(blk);
	log_info("%s: now %llu bytes", vdev->name, (unsigned long long)disk_size(blk->disk));
	virtio_config_changed(vdev);
}

static void blk_resume(struct virtio_device *vdev)
{
	struct blk *blk = to_blk(vdev);

	if (blk->size_changed)
		virtio_config_changed(vdev);
	blk->size_changed = false;
}

static void blk_state(struct virtio_device *vdev, struct state *st)
{
	struct blk *blk = to_blk(vdev);
	uint64_t capacity = disk_size(blk->disk) / DISK_SECTOR, now = capacity;

	state_u64(st, "capacity", &capacity);
	state_u8(st, "writeback", &blk->config.wce);
	if (!state_loading(st))
		return;
	blk->size_changed = capacity != now;
	if (blk->config.wce > 1)
		state_fail(st, "%s: writeback is %u, not 0 or 1", vdev->name, blk->config.wce);
}

/* --- Options --- */

static bool has_overlay(const struct blk_options *o)
{
	return o->overlay != NULL && strcmp(o->overlay, "off") != 0;
}

static int check_qcow2(const struct blk_options *o, struct err *err)
{
	const char *key = has_overlay(o)	       ? "overlay"
			  : o->iothread		       ? "iothread"
			  : o->serial != NULL	       ? "serial"
			  : o->iops != 0 || o->bw != 0 ? "a limit on rate"
						       : NULL;

	if (key == NULL)
		return 0;
	return err_set(err, ENOTSUP,
		       "disk %s: %s is for raw images only; qcow2 is served by "
		       "qemu-storage-daemon",
		       o->path, key);
}

static int blk_check(const void *item, struct err *err)
{
	const struct blk_options *o = item;

	if (o->serial != NULL && strlen(o->serial) > VIRTIO_BLK_ID_BYTES)
		return err_set(err, EINVAL, "disk %s: serial '%s' is longer than %d bytes", o->path,
			       o->serial, VIRTIO_BLK_ID_BYTES);
	if (o->overlay != NULL && o->overlay[0] == '\0')
		return err_set(err, EINVAL,
			       "disk %s: overlay names no file; overlay alone is a temporary one",
			       o->path);
	if (has_overlay(o) && o->ro)
		return err_set(err, EINVAL,
			       "disk %s: ro and overlay exclude each other: an overlay is there to "
			       "be written",
			       o->path);
	if (o->iops == 0 && o->iops_burst != 0)
		return err_set(err, EINVAL, "disk %s: iops-burst needs iops", o->path);
	if (o->bw == 0 && o->bw_burst != 0)
		return err_set(err, EINVAL, "disk %s: bw-burst needs bw", o->path);
	if (disk_named_qcow2(o->path, o->format))
		return check_qcow2(o, err);
	if (o->backing)
		return err_set(err, EINVAL, "disk %s: backing is for qcow2 images", o->path);
	return 0;
}

/* The default serial number: the same for a path each time. FNV-1a of 64 bits. */
static void make_serial(struct blk *blk, const struct blk_options *o)
{
	char *real = o->serial == NULL ? realpath(o->path, NULL) : NULL;
	uint64_t hash = 0xcbf29ce484222325;
	char text[VIRTIO_BLK_ID_BYTES + 1] = "";

	for (const char *p = real != NULL ? real : o->path; *p != '\0'; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3;
	free(real);
	if (o->serial != NULL)
		snprintf(text, sizeof(text), "%s", o->serial);
	else
		snprintf(text, sizeof(text), "vmm-%016llx", (unsigned long long)hash);
	memcpy(blk->serial, text, sizeof(blk->serial));
}

static void fill_config(struct blk *blk, unsigned nqueues)
{
	const struct disk_limits *l = disk_limits(blk->disk);
	struct virtio_blk_config *c = &blk->config;
	uint64_t *features = &blk->vdev.features;
	uint32_t minimum = l->minimum / l->logical;

	*features |= 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
		     1ULL << VIRTIO_BLK_F_TOPOLOGY;
	blk_set_capacity(blk);
	c->seg_max = htole32(SEG_MAX);
	c->blk_size = htole32(l->logical);
	c->physical_block_exp = (uint8_t)__builtin_ctz(l->physical / l->logical);
	c->min_io_size = htole16(minimum < UINT16_MAX ? (uint16_t)minimum : UINT16_MAX);
	c->opt_io_size = htole32(l->optimal / l->logical);
	if (nqueues > 1)
		*features |= 1ULL << VIRTIO_BLK_F_MQ;
	c->num_queues = htole16((uint16_t)nqueues);
	if (blk->ro) {
		*features |= 1ULL << VIRTIO_BLK_F_RO;
		return;
	}
	if (!blk->write_through)
		*features |= 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE;
	c->wce = !blk->write_through;
	*features |= 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	c->max_discard_sectors = c->max_write_zeroes_sectors = htole32(RANGE_MAX);
	c->max_discard_seg = c->max_write_zeroes_seg = htole32(BLK_RANGES_MAX);
	c->discard_sector_alignment = htole32(l->physical / DISK_SECTOR);
	c->write_zeroes_may_unmap = 1;
}

static void blk_destroy(struct virtio_device *vdev)
{
	struct blk *blk = to_blk(vdev);

	if (blk->io != NULL)
		iothread_stop(blk->io);
	if (blk->disk != NULL)
		blk_reset(vdev);
	loop_disarm(&blk->timer);
	disk_close(blk->retired);
	disk_close(blk->disk);
	free(blk->path);
	virtio_fini(vdev);
	iothread_free(blk->io);
	for (unsigned q = 0; q < BLK_QUEUES_MAX; q++)
		free(blk->queue[q].reqs);
	free(blk);
}

static void make_name(char name[VIRTIO_NAME_MAX], const struct blk_options *o)
{
	const char *base = strrchr(o->path, '/');

	snprintf(name, VIRTIO_NAME_MAX, "disk %.48s",
		 base != NULL && base[1] != '\0' ? base + 1 : o->path);
}

static int blk_init(struct blk *blk, const struct blk_options *o, unsigned index,
		    const struct virtio_host *host, const struct virtio_ops *ops, struct err *err)
{
	struct disk_config cfg = {
		.path = o->path, .ro = o->ro, .direct = o->direct, .iothreads = host->iothreads
	};
	struct loop *loop = host->loop;
	uint64_t now = loop_now_ns();
	char name[16];
	int r;

	if (has_overlay(o))
		cfg.overlay = strcmp(o->overlay, "on") == 0 ? "" : o->overlay;
	make_name(blk->vdev.name, o);
	blk->iothreads = host->iothreads;
	blk->ro = o->ro;
	blk->direct = o->direct;
	blk->overlaid = has_overlay(o);
	blk->path = strdup(o->path);
	if (blk->path == NULL)
		return err_sys(err, ENOMEM, "disk %s", o->path);
	blk->write_through = o->cache == CACHE_NONE;
	blk->timer.fn = unthrottle;
	make_serial(blk, o);
	ratelimit_init(&blk->iops, o->iops, o->iops_burst, now);
	ratelimit_init(&blk->bw, o->bw, o->bw_burst, now);
	blk->disk = disk_open(&cfg, blk_ready, blk, err);
	if (blk->disk == NULL)
		return err_context(err, "disk %s", o->path);
	for (unsigned q = 0; q < o->queues; q++) {
		blk->queue[q].reqs = calloc(BLK_QUEUE_SIZE, sizeof(struct blk_req));
		if (blk->queue[q].reqs == NULL)
			return err_sys(err, ENOMEM, "disk %s", o->path);
	}
	if (o->iothread) {
		snprintf(name, sizeof(name), "disk%u", index);
		blk->io = iothread_new(host->iothreads, name, NULL, err);
		if (blk->io == NULL)
			return err_context(err, "disk %s", o->path);
		loop = iothread_loop(blk->io);
	}
	r = virtio_init(&blk->vdev, ops, host, loop, (unsigned)o->queues, BLK_QUEUE_SIZE,
			&blk->config, offsetof(struct virtio_blk_config, max_secure_erase_sectors),
			err);
	if (r < 0)
		return r;
	fill_config(blk, (unsigned)o->queues);
	return 0;
}

static struct virtio_device *blk_create(const void *items, unsigned n, unsigned index,
					const struct virtio_host *host, struct err *err);

static const char *const cache_values[] = { "writeback", "none", NULL };
static const char *const format_values[] = { "auto", "raw", "qcow2", NULL };

#define OPTION(field) offsetof(struct blk_options, field)

static const struct opt_key blk_keys[] = {
	{ "path", OPT_STR, OPTION(path), "PATH", .required = true,
	  .help = "image file or block device" },
	{ "format", OPT_ENUM, OPTION(format), .values = format_values, .def = "auto",
	  .help = "of the image; auto: qcow2 if its name ends in .qcow2, else raw" },
	{ "backing", OPT_BOOL, OPTION(backing),
	  .help = "qcow2: open the backing file that the image names" },
	{ "ro", OPT_BOOL, OPTION(ro), .help = "only read it; several machines may do so" },
	{ "overlay", OPT_STR, OPTION(overlay), "FILE", .bare = true,
	  .help = "keep what is written in FILE (made when missing, belongs to the unchanged "
		  "image) or, without one, in a temporary file in $TMPDIR or /var/tmp; the image "
		  "is only read and can be shared" },
	{ "cache", OPT_ENUM, OPTION(cache), .values = cache_values, .def = "writeback",
	  .help = "writeback: a write is safe when the guest has flushed; none: when it is done" },
	{ "direct", OPT_BOOL, OPTION(direct),
	  .help = "go past the host's page cache (O_DIRECT); what the guest does not align goes "
		  "through it, slowly" },
	{ "queues", OPT_UINT, OPTION(queues), "COUNT", "1", .min = 1, .max = BLK_QUEUES_MAX,
	  .help = "request queues; one per vCPU is the most of use" },
	{ "iothread", OPT_BOOL, OPTION(iothread), .help = "serve it by a thread of its own" },
	{ "serial", OPT_STR, OPTION(serial), "TEXT",
	  .help = "serial number, at most 20 bytes; default: made from the path" },
	{ "iops", OPT_UINT, OPTION(iops), "COUNT",
	  .help = "most requests per second; 0: no limit" },
	{ "iops-burst", OPT_UINT, OPTION(iops_burst), "COUNT",
	  .help = "requests that may come at once after a pause; default: iops" },
	{ "bw", OPT_SIZE, OPTION(bw), "SIZE", .help = "most bytes per second; 0: no limit" },
	{ "bw-burst", OPT_SIZE, OPTION(bw_burst), "SIZE",
	  .help = "bytes that may come at once after a pause; default: bw" },
	{ "id", OPT_STR, OPTION(id), "NAME", .unique = true,
	  .help = "what the control API calls it; default: disk0 and so on" },
	{ NULL }
};

const struct virtio_ops blk_ops = {
	.name = "disk",
	.id = VIRTIO_ID_BLOCK,
	.pci_class = PCI_CLASS,
	.option = { .name = "disk",
		    .letter = 'd',
		    .keys = blk_keys,
		    .size = sizeof(struct blk_options),
		    .max = 64,
		    .section = "Devices",
		    .help = "A disk: /dev/vda, /dev/vdb and so on." },
	.check = blk_check,
	.create = blk_create,
	.destroy = blk_destroy,
	.kick = blk_kick,
	.update = blk_update,
	.reset = blk_reset,
	.config_write = blk_config_write,
	.quiesce = blk_quiesce,
	.resume = blk_resume,
	.rescan = blk_rescan,
	.state = blk_state,
};
VIRTIO_DEVICE(blk_ops);

static struct virtio_device *create_qcow2(const struct blk_options *o, unsigned index,
					  const struct virtio_host *host, struct err *err)
{
	char name[VIRTIO_NAME_MAX];
	struct disk_qcow2_config cfg = { .path = o->path,
					 .name = name,
					 .ro = o->ro,
					 .direct = o->direct,
					 .write_through = o->cache == CACHE_NONE,
					 .backing = o->backing,
					 .queues = (unsigned)o->queues };

	make_name(name, o);
	return disk_qcow2_create(&cfg, index, host, err);
}

static struct virtio_device *blk_create(const void *items, unsigned n, unsigned index,
					const struct virtio_host *host, struct err *err)
{
	const struct blk_options *o = items;
	int r = disk_is_qcow2(o->path, o->format, err);
	struct blk *blk;

	(void)n; /* 1 */
	if (r < 0)
		err_context(err, "disk %s", o->path);
	if (r != 0)
		return r < 0 ? NULL : create_qcow2(o, index, host, err);
	blk = calloc(1, sizeof(*blk));
	if (blk == NULL) {
		err_sys(err, ENOMEM, "disk");
		return NULL;
	}
	if (blk_init(blk, o, index, host, &blk_ops, err) < 0) {
		blk_destroy(&blk->vdev);
		return NULL;
	}
	return &blk->vdev;
}
