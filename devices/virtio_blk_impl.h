/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the block device share: virtio_blk.c, and virtio_blk_live.c for what is changed
 * while it runs.
 */
#ifndef DEVICES_VIRTIO_BLK_IMPL_H
#define DEVICES_VIRTIO_BLK_IMPL_H

#include <linux/virtio_blk.h>
#include "devices/disk.h"
#include "devices/virtio.h"
#include "vmm/base/ratelimit.h"

#define BLK_QUEUE_SIZE 256
#define BLK_QUEUES_MAX 16
#define BLK_IOV_MAX    VIRTQUEUE_IOV(BLK_QUEUE_SIZE)
#define BLK_RANGES_MAX 16 /* of one discard or write zeroes */

struct blk_req {
	struct virtqueue_chain chain;
	struct blk *blk;
	struct blk_req *next; /* in the list of free ones */
	unsigned q;
	size_t data; /* READ: bytes of it */
	struct disk_req io;
	unsigned nranges, range;
	struct virtio_blk_discard_write_zeroes ranges[BLK_RANGES_MAX];
	struct iovec iov[BLK_IOV_MAX];	   /* the chain */
	struct iovec segment[BLK_IOV_MAX]; /* what the I/O is left to do */
};

struct blk_queue {
	struct blk_req *reqs; /* [BLK_QUEUE_SIZE] */
	struct blk_req *free;
	unsigned fresh; /* from here on they were never used */
};

struct blk {
	struct virtio_device vdev; /* first */
	struct disk *disk;
	struct disk *retired; /* replaced: to be closed on the loop's thread; or NULL */
	char *path;	      /* of the image */
	bool direct, overlaid;
	struct iothread *io;	     /* or NULL */
	struct iothreads *iothreads; /* of the VM */
	bool ro, write_through;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtio_blk_config config;

	uint64_t interrupts; /* queues to be announced, by bit */
	bool dropping;	     /* being reset: what ends is not pushed */
	bool size_changed;   /* between saving and loading */

	struct ratelimit iops, bw;
	struct loop_timer timer;
	bool throttled;	  /* until the timer */
	uint64_t waiting; /* queues that wait for it, by bit */

	unsigned nqueues;
	struct blk_queue queue[BLK_QUEUES_MAX];
};

static inline struct blk *to_blk(struct virtio_device *vdev)
{
	return (struct blk *)vdev; /* first member */
}

extern const struct virtio_ops blk_ops;

/* I/O completed by itself. Loop, not locked. */
void blk_ready(void *owner);
/* Announce what was pushed. Lock held, as for the next. */
void blk_interrupt(struct blk *blk);
/* The disk is as large as its file: into the configuration space. */
void blk_set_capacity(struct blk *blk);

#endif
