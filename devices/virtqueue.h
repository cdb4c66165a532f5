/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, device side: Virtual I/O Device (VIRTIO) 1.2, section 2.7.
 * The one walker of guest rings; see virtqueue.c.
 *
 * Not locked: the owner (virtio.c) calls everything under the device's mutex.
 */
#ifndef DEVICES_VIRTQUEUE_H
#define DEVICES_VIRTQUEUE_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/base/gmem.h"

#define VIRTQUEUE_SIZE_MAX 1024
/* Segments the longest chain can have in a queue of @size (a buffer is split where RAM is). */
#define VIRTQUEUE_IOV(size) ((size) + GMEM_REGIONS_MAX)

struct virtqueue {
	uint16_t max_size; /* set once, by the device: a power of two */

	/* What the driver asked for, by way of the transport; addresses are the guest's. */
	uint16_t size;
	bool enabled;
	uint64_t desc, driver, device; /* descriptor table, available ring, used ring */

	/* While started. */
	bool started;
	bool event_idx; /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;	/* VIRTIO_F_INDIRECT_DESC was */
	struct gmem *mem;
	const struct vring_desc *desc_ring;
	const struct vring_avail *avail_ring;
	struct vring_used *used_ring;
	uint16_t next_avail;  /* of the available ring: next to be taken */
	uint16_t next_used;   /* of the used ring: next to be filled */
	uint16_t published;   /* used idx as the driver sees it */
	uint16_t interrupted; /* used idx when an interrupt was last decided upon */
	const char *broken;   /* what the driver did wrong, or NULL */
};

/*
 * Bytes of a chain, in order, of one direction. The segments are the cursor's own copy, checked
 * to be RAM; moving the cursor changes them. Moving it over bytes that were written marks their
 * pages dirty, so move it when they are there: after the I/O, not when it is started.
 */
struct virtqueue_cursor {
	struct iovec *iov; /* what is left, the first may be partly consumed */
	unsigned n;
	size_t left;	  /* bytes */
	size_t done;	  /* bytes passed so far */
	struct gmem *mem; /* writable bytes: where they are marked dirty; else NULL */
};

/* One chain of descriptors the driver made available. */
struct virtqueue_chain {
	uint16_t head;
	uint64_t at; /* virtio.c: when its batch was begun, ns; 0: how long it takes is not counted
		      */
	struct virtqueue_cursor readable; /* what the driver says */
	struct virtqueue_cursor writable; /* where it wants the answer; .done is the used length */
};

/*
 * Take up work on rings at desc/driver/device, from index 0 (or, after loading a state, from
 * the indices loaded: @resume). 0, or -EINVAL and vq->broken when size or addresses are not as
 * 2.7 demands or a byte of a ring is not RAM.
 */
int virtqueue_start(struct virtqueue *vq, struct gmem *mem, uint64_t features, bool resume);
/* The queue as after reset; max_size stays. */
void virtqueue_reset(struct virtqueue *vq);

/*
 * Take the next available chain, its segments into @iov (at least
 * VIRTQUEUE_IOV(vq->size) elements, the caller's until the chain is pushed). 1: taken, 0: none
 * there, -EINVAL: the driver broke the rules, vq->broken says how, and the queue is dead.
 * Each descriptor is read once; the guest may change it afterwards without effect. No more
 * than vq->size chains are ever out (popped and not put), but two of them may claim the same
 * head: it means something to the driver only.
 */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *chain, struct iovec *iov);
/* Put the last @n chains popped back; they will be popped again. */
void virtqueue_unpop(struct virtqueue *vq, unsigned n);
/* Is nothing available? Also true of a queue that is not started or broken. */
bool virtqueue_empty(const struct virtqueue *vq);

/*
 * Give a chain back with @len bytes written. The driver sees it after virtqueue_publish(), so
 * that several can appear at once (mergeable receive buffers).
 */
void virtqueue_put(struct virtqueue *vq, uint16_t head, uint32_t len);
void virtqueue_publish(struct virtqueue *vq);
/* Does the driver want an interrupt for what was published since this was last asked? 2.7.7 */
bool virtqueue_wants_interrupt(struct virtqueue *vq);

/*
 * Ask the driver not to notify us, or to. The second returns true when something became
 * available meanwhile: the caller looks again. 2.7.10
 */
void virtqueue_disable_kicks(struct virtqueue *vq);
bool virtqueue_enable_kicks(struct virtqueue *vq);

/* Copy out of or into the chain, advancing. Returns the bytes copied: fewer at the end. */
size_t virtqueue_read(struct virtqueue_cursor *c, void *buf, size_t len);
size_t virtqueue_write(struct virtqueue_cursor *c, const void *buf, size_t len);
size_t virtqueue_zero(struct virtqueue_cursor *c, size_t len);
/* Pass over @len bytes (that somebody else read or wrote). Returns how many there were. */
size_t virtqueue_skip(struct virtqueue_cursor *c, size_t len);
/*
 * Split off the first @len bytes (at most c->left) as segments of their own into @iov (room for
 * @max), for readv() and the like; the cursor does not move. Returns how many, 0 when they are
 * more than @max.
 */
unsigned virtqueue_segments(const struct virtqueue_cursor *c, size_t len, struct iovec *iov,
			    unsigned max);
/*
 * Move the last @len bytes of @c (at most c->left) to a cursor of their own, @tail, whose
 * segments go to @iov (room for c->n). The status byte of a block request, for one. What is
 * written there does not count in c->done: add tail->done before the chain is pushed.
 */
void virtqueue_split_tail(struct virtqueue_cursor *c, size_t len, struct virtqueue_cursor *tail,
			  struct iovec *iov);

#endif
