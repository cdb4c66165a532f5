// SPDX-License-Identifier: Apache-2.0
/*
 * The file system device: Virtual I/O Device (VIRTIO) 1.2, section 5.11.
 *
 * Theory of operation. The device carries requests of the FUSE protocol from its queues to the
 * server in fs_session.c and answers back. Queue 0 is for what must not wait behind others
 * (FORGET); both kinds are served alike, since nothing here waits behind anything: a request is
 * answered at once or its I/O is in flight, and answers come in any order.
 *
 * A share has a process of its own (virtio_process.c): it is the device that works with files of
 * the host, and that for a guest. Where guest memory is private (hugepages=thp, merge, a restored
 * guest that shares its memory's file with others) no other process could see it, and it is a
 * thread. The calls it makes for the guest may wait for a disk; a vCPU that resets the device
 * meanwhile waits for the request that is being served and for I/O in flight.
 *
 * Memory. Each queue has one request structure for each of its entries, as zeroed memory that
 * takes no room until it is touched; the one used last is used first again.
 *
 * Limits: no DAX window, no notification queue.
 *
 * #syscalls share main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/fs.h"
#include "devices/virtio_process.h"
#include "vmm/base/iothread.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define QUEUES_MAX  16	     /* request queues */
#define KICK_BUDGET 32	     /* a vCPU that wants the lock waits for so many calls at most */
#define PCI_CLASS   0x018000 /* mass storage, other */
#define TAG_MAX	    sizeof(((struct virtio_fs_config *)0)->tag)

struct share_options {
	char *path, *tag;
	bool ro, mounts;
	int ids, cache;
	uint64_t uid, gid, queues;
};

struct share_req {
	struct share_req *next; /* in the list of free ones */
	unsigned q;
	struct fs_req fs;
};

struct share_queue {
	struct share_req *reqs; /* [FS_QUEUE_SIZE] */
	struct share_req *free;
	unsigned fresh; /* from here on they were never used */
};

struct share {
	struct virtio_device vdev;	/* first */
	struct iothread *io;		/* it is served by a thread, */
	struct virtio_process *process; /* or by this one */
	struct fs *fs;
	struct virtio_fs_config config;
	uint64_t interrupts; /* queues to be announced, by bit */
	bool dropping;	     /* being reset: what ends is not pushed */

	/* Setting up the thread, while the main one waits. */
	struct iothread_begin begin;

	struct share_queue queue[QUEUES_MAX + 1];
};

static struct share *to_share(struct virtio_device *vdev)
{
	return (struct share *)vdev; /* first member */
}

/* --- Requests --- */

static struct share_req *req_get(struct share *share, unsigned q)
{
	struct share_queue *queue = &share->queue[q];
	struct share_req *req = queue->free;

	if (req != NULL)
		queue->free = req->next;
	else if (queue->fresh < FS_QUEUE_SIZE)
		req = &queue->reqs[queue->fresh++];
	else
		return NULL;
	req->q = q;
	return req;
}

static void req_put(struct share *share, struct share_req *req)
{
	req->next = share->queue[req->q].free;
	share->queue[req->q].free = req;
}

static void answered(struct share *share, struct share_req *req)
{
	if (!share->dropping) {
		virtio_push(&share->vdev, req->q, &req->fs.chain);
		share->interrupts |= 1ULL << req->q;
	}
	req_put(share, req);
}

/* One that was in flight. Lock held: within fs_run() or fs_drain(). */
static void answered_later(void *owner, struct fs_req *fs_req)
{
	answered(owner, container_of(fs_req, struct share_req, fs));
}

static void interrupt(struct share *share)
{
	for (; share->interrupts != 0; share->interrupts &= share->interrupts - 1)
		virtio_interrupt(&share->vdev, (unsigned)__builtin_ctzll(share->interrupts));
}

/* Take a request out of queue @q and serve it. False: there is none. */
static bool take(struct share *share, unsigned q)
{
	struct share_req *req = req_get(share, q);

	if (req == NULL)
		return false;
	if (!virtio_pop(&share->vdev, q, &req->fs.chain, req->fs.iov)) {
		req_put(share, req);
		return false;
	}
	if (fs_serve(share->fs, &req->fs))
		answered(share, req);
	return true;
}

static void share_kick(struct virtio_device *vdev, unsigned q)
{
	struct virtqueue *vq = virtio_vq(vdev, q);
	struct share *share = to_share(vdev);
	unsigned n = 0;

	if (vq == NULL)
		return;
	do {
		virtqueue_disable_kicks(vq);
		while (n < KICK_BUDGET && take(share, q))
			n++;
		fs_run(share->fs);
		interrupt(share);
		if (!virtio_live(vdev))
			return;
		if (n == KICK_BUDGET) {
			virtio_again(vdev, q);
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

/* I/O completed by itself. Loop, not locked. */
static void share_ready(void *owner)
{
	struct share *share = owner;

	pthread_mutex_lock(&share->vdev.lock);
	fs_run(share->fs);
	interrupt(share);
	pthread_mutex_unlock(&share->vdev.lock);
}

/* --- Life --- */

static void share_update(struct virtio_device *vdev)
{
	struct err err = ERR_INIT;

	if (fs_watch(to_share(vdev)->fs, vdev->loop, &err) < 0)
		log_limited(LOG_ERROR, "%s: %s", vdev->name, err.msg);
}

static void share_reset(struct virtio_device *vdev)
{
	struct share *share = to_share(vdev);

	share->dropping = true;
	fs_drain(share->fs);
	share->dropping = false;
	fs_reset(share->fs);
	share->interrupts = 0;
}

static void share_quiesce(struct virtio_device *vdev)
{
	struct share *share = to_share(vdev);

	fs_drain(share->fs);
	interrupt(share);
}

static void share_state(struct virtio_device *vdev, struct state *st)
{
	fs_state(to_share(vdev)->fs, st);
}

/* What only serving takes. */
static void free_server(struct share *share)
{
	fs_free(share->fs);
	share->fs = NULL;
	for (unsigned q = 0; q <= QUEUES_MAX; q++) {
		free(share->queue[q].reqs);
		share->queue[q].reqs = NULL;
	}
}

static void share_destroy(struct virtio_device *vdev)
{
	struct share *share = to_share(vdev);

	if (share->io != NULL)
		iothread_stop(share->io);
	if (share->fs != NULL)
		share_reset(vdev);
	virtio_process_free(share->process);
	free_server(share);
	virtio_fini(vdev);
	iothread_free(share->io);
	free(share);
}

/* --- In a process of its own --- */

static void share_descriptors(struct virtio_device *vdev, void (*fn)(void *arg, int fd), void *arg)
{
	fs_descriptors(to_share(vdev)->fs, fn, arg);
}

static int process_begin(struct virtio_device *vdev, struct err *err)
{
	return fs_forked(to_share(vdev)->fs, err);
}

static int process_setup(struct virtio_device *vdev, struct err *err)
{
	return fs_setup(to_share(vdev)->fs, err);
}

static void share_left(struct virtio_device *vdev)
{
	free_server(to_share(vdev));
}

static const struct virtio_process_ops process_ops = {
	.descriptors = share_descriptors,
	.begin = process_begin,
	.setup = process_setup,
	.left = share_left,
};

/* --- Options --- */

static const char *const ids_values[] = { "map", "host", "xattr", NULL };
static const char *const cache_values[] = { "auto", "always", "never", NULL };

#define OPTION(field) offsetof(struct share_options, field)

static const struct opt_key share_keys[] = {
	{ "path", OPT_STR, OPTION(path), "PATH", .required = true,
	  .help = "folder of the host, or a single file, which appears in an empty folder" },
	{ "tag", OPT_STR, OPTION(tag), "NAME", .required = true, .unique = true,
	  .help = "name the guest mounts it by, at most 36 bytes" },
	{ "ro", OPT_BOOL, OPTION(ro), .help = "the guest can only read" },
	{ "ids", OPT_ENUM, OPTION(ids), .values = ids_values, .def = "map",
	  .help = "map: all is done as the user who runs vmm, who is uid= and gid= in the guest; "
		  "host: the same users on both sides (only as root); xattr: as map, and the "
		  "guest's owners, modes and devices are remembered in extended attributes" },
	{ "uid", OPT_UINT, OPTION(uid), "ID", "0", .max = UINT32_MAX - 1,
	  .help = "who owns in the guest what belongs to the user who runs vmm" },
	{ "gid", OPT_UINT, OPTION(gid), "ID", "0", .max = UINT32_MAX - 1,
	  .help = "the same of the group" },
	{ "cache", OPT_ENUM, OPTION(cache), .values = cache_values, .def = "auto",
	  .help = "what the guest may believe without asking. auto: for a second; always: for "
		  "good, if nobody else changes the folder; never: nothing" },
	{ "queues", OPT_UINT, OPTION(queues), "COUNT", "1", .min = 1, .max = QUEUES_MAX,
	  .help = "request queues" },
	{ "mounts", OPT_BOOL, OPTION(mounts), .def = "on",
	  .help = "show file systems that are mounted inside the folder; else, and where they "
		  "hold no files (proc, sysfs), their place is an empty folder" },
	{ NULL }
};

static int share_check(const void *item, struct err *err)
{
	const struct share_options *o = item;
	size_t len = strlen(o->tag);

	if (len == 0 || len > TAG_MAX)
		return err_set(err, EINVAL, "share %s: tag '%s' has %zu bytes; 1 to %zu are right",
			       o->path, o->tag, len, TAG_MAX);
	if (o->ids == FS_IDS_HOST && (o->uid != 0 || o->gid != 0))
		return err_set(err, EINVAL,
			       "share %s: uid and gid are for ids=map and ids=xattr; with ids=host "
			       "nothing is translated",
			       o->path);
	return 0;
}

/* The new thread prepares itself, before anything confines it. */
static int share_begin(struct iothread_begin *begin, struct err *err)
{
	struct share *share = container_of(begin, struct share, begin);

	return fs_setup(share->fs, err) < 0 ? err_context(err, "%s", share->vdev.name) : 0;
}

static int share_init(struct share *share, const struct share_options *o, unsigned index,
		      const struct virtio_host *host, const struct virtio_ops *ops, struct err *err)
{
	unsigned nqueues = 1 + (unsigned)o->queues;
	bool alone = host->processes != NULL && gmem_fork(host->mem);
	struct loop *loop = host->loop;
	struct fs_config cfg = {
		.path = o->path,
		.ro = o->ro,
		.ids = o->ids,
		.uid = (uint32_t)o->uid,
		.gid = (uint32_t)o->gid,
		.cache = o->cache,
		.mounts = o->mounts,
		.iothreads = host->iothreads,
	};
	char name[16];

	snprintf(share->vdev.name, sizeof(share->vdev.name), "share %s", o->tag);
	memcpy(share->config.tag, o->tag, strnlen(o->tag, TAG_MAX));
	share->config.num_request_queues = htole32((uint32_t)o->queues);
	share->fs = fs_new(&cfg, share->vdev.name, share_ready, answered_later, share, err);
	if (share->fs == NULL)
		return err_context(err, "share %s", o->path);
	if (o->ids == FS_IDS_HOST)
		virtio_needs(host, VIRTIO_NEEDS_USERS);
	if (fs_leads_out(share->fs))
		virtio_needs(host, VIRTIO_NEEDS_CONTAINMENT);
	for (unsigned q = 0; q < nqueues; q++) {
		share->queue[q].reqs = calloc(FS_QUEUE_SIZE, sizeof(struct share_req));
		if (share->queue[q].reqs == NULL)
			return err_sys(err, ENOMEM, "share %s", o->path);
	}
	snprintf(name, sizeof(name), "share%u", index);
	if (!alone) {
		share->begin.fn = share_begin;
		share->io = iothread_new(host->iothreads, name, &share->begin, err);
		if (share->io == NULL)
			return err_context(err, "share %s", o->path);
		loop = iothread_loop(share->io);
	}
	if (virtio_init(&share->vdev, ops, host, loop, nqueues, FS_QUEUE_SIZE, &share->config,
			sizeof(share->config), err) < 0)
		return -err->code;
	if (alone)
		share->process =
			virtio_process_new(host->processes, &share->vdev, name, &process_ops, err);
	return alone && share->process == NULL ? -err->code : 0;
}

static struct virtio_device *share_create(const void *items, unsigned n, unsigned index,
					  const struct virtio_host *host, struct err *err);

static const struct virtio_ops share_ops = {
	.name = "share",
	.id = VIRTIO_ID_FS,
	.pci_class = PCI_CLASS,
	.option = { .name = "share",
		    .keys = share_keys,
		    .size = sizeof(struct share_options),
		    .max = 32,
		    .help = "A folder of the host that the guest can mount: "
			    "mount -t virtiofs NAME /mnt." },
	.check = share_check,
	.create = share_create,
	.destroy = share_destroy,
	.kick = share_kick,
	.update = share_update,
	.reset = share_reset,
	.quiesce = share_quiesce,
	.state = share_state,
};
VIRTIO_DEVICE(share_ops);

static struct virtio_device *share_create(const void *items, unsigned n, unsigned index,
					  const struct virtio_host *host, struct err *err)
{
	struct share *share = calloc(1, sizeof(*share));

	(void)n; /* 1 */
	if (share == NULL) {
		err_sys(err, ENOMEM, "share");
		return NULL;
	}
	if (share_init(share, items, index, host, &share_ops, err) < 0) {
		share_destroy(&share->vdev);
		return NULL;
	}
	return &share->vdev;
}
