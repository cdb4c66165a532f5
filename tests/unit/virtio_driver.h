/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A little virtio driver for tests of devices: guest memory, a transport that remembers, rings.
 *
 *	struct driver d;
 *	struct virtio_device *vdev;
 *
 *	driver_init(&d);
 *	vdev = ops->create(&item, 1, 0, &d.host, &err);	 the device uses d.mem and d.loop
 *	driver_attach(&d, vdev);
 *	driver_start(&d, features);			 negotiate, set queues up, DRIVER_OK
 *	gpa = driver_alloc(&d, 512);
 *	driver_add(&d, 0, (struct driver_buf[]){ { gpa, 16 }, { gpa + 16, 496, true } }, 2);
 *	driver_kick(&d, 0);
 *	driver_wait(&d, 0, &head, &len);		 runs d.loop until it comes back
 *	...
 *	driver_detach(&d);
 *	ops->destroy(vdev);
 *	driver_fini(&d);
 *
 * RAM is DRIVER_RAM bytes at 0 and, right behind it, a second region of DRIVER_RAM_HIGH bytes:
 * a buffer across DRIVER_RAM has two segments. Failures end the test (check).
 *
 * One thread uses the driver; the device may run on another (its loop an iothread's).
 */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "devices/broker.h"
#include "devices/virtio.h"
#include "vmm/base/util.h"

#define DRIVER_RAM	(4ULL << 20)
#define DRIVER_RAM_HIGH (1ULL << 20)
#define DRIVER_WAIT_MS	10000 /* then a test has failed */
#define DRIVER_HEAP	0x100000ULL
#define DRIVER_QUEUE_AT(q)                                                                         \
	(0x1000ULL + (q)*0x10000ULL) /* where rings are put; 15 queues below the heap */

struct driver_buf {
	uint64_t gpa;
	uint32_t len;
	bool write; /* by the device */
};

struct driver_queue {
	uint16_t size;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_idx, used_idx;	    /* ours: next to fill, next to look at */
	uint16_t kicked_idx;		    /* avail_idx at the last decision to kick */
	uint16_t ndesc[VIRTQUEUE_SIZE_MAX]; /* by head: descriptors in use; 0: free */
	bool taken[VIRTQUEUE_SIZE_MAX];	    /* by descriptor */
	int ioeventfd;			    /* -1: notify by virtio_kick() */
	int irqfd;			    /* -1: none; look at it yourself */
	_Atomic unsigned interrupts;
};

struct driver {
	struct gmem mem;
	struct loop *loop;
	struct virtio_host host;
	struct broker broker;
	struct virtio_transport transport;
	struct virtio_device *vdev;
	uint64_t features; /* negotiated */
	uint64_t heap;	   /* next free byte */
	_Atomic unsigned config_interrupts;
	/* For tests: what ioeventfd() and irqfd() of the transport shall return. */
	int ioeventfd_result, irqfd_result;
	struct driver_queue queue[VIRTIO_QUEUES_MAX];
};

/* Of how many chains was it counted how long they took? */
static inline uint64_t driver_latencies(struct driver *d)
{
	uint64_t n = 0;

	pthread_mutex_lock(&d->vdev->lock); /* the batch is over then */
	for (unsigned i = 0; i < VIRTIO_BUCKETS; i++)
		n += d->vdev->counters->latency[i];
	pthread_mutex_unlock(&d->vdev->lock);
	return n;
}

/* --- The transport --- */

static inline void driver_on_interrupt(struct virtio_transport *t, int q)
{
	struct driver *d = container_of(t, struct driver, transport);

	if (q < 0)
		atomic_fetch_add(&d->config_interrupts, 1);
	else
		atomic_fetch_add(&d->queue[q].interrupts, 1);
}

static inline int driver_on_ioeventfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	struct driver *d = container_of(t, struct driver, transport);

	if (on && d->ioeventfd_result < 0)
		return d->ioeventfd_result;
	__atomic_store_n(&d->queue[q].ioeventfd, on ? fd : -1, __ATOMIC_SEQ_CST);
	return 0;
}

static inline int driver_on_irqfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	struct driver *d = container_of(t, struct driver, transport);

	if (on && d->irqfd_result < 0)
		return d->irqfd_result;
	__atomic_store_n(&d->queue[q].irqfd, on ? fd : -1, __ATOMIC_SEQ_CST);
	return 0;
}

static const struct virtio_transport_ops driver_transport_ops = {
	.interrupt = driver_on_interrupt,
	.ioeventfd = driver_on_ioeventfd,
	.irqfd = driver_on_irqfd,
};

/* --- The machine --- */

static inline void driver_init(struct driver *d)
{
	struct gmem_config cfg = { .size = DRIVER_RAM + DRIVER_RAM_HIGH };
	struct err err = ERR_INIT;

	memset(d, 0, sizeof(*d));
	ck_assert_msg(gmem_init(&d->mem, &cfg, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(gmem_add_region(&d->mem, 0, DRIVER_RAM, &err), 0);
	ck_assert_int_eq(gmem_add_region(&d->mem, DRIVER_RAM, DRIVER_RAM_HIGH, &err), 0);
	d->loop = loop_new(&err);
	ck_assert_msg(d->loop != NULL, "%s", err.msg);
	broker_init(&d->broker);
	d->host = (struct virtio_host){ .mem = &d->mem, .loop = d->loop, .broker = &d->broker };
	d->transport.ops = &driver_transport_ops;
	d->heap = DRIVER_HEAP;
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		d->queue[q].ioeventfd = d->queue[q].irqfd = -1;
}

static inline void driver_fini(struct driver *d)
{
	loop_free(d->loop);
	gmem_fini(&d->mem);
}

static inline void driver_attach(struct driver *d, struct virtio_device *vdev)
{
	ck_assert_ptr_nonnull(vdev);
	d->vdev = vdev;
	d->transport.vdev = vdev;
	pthread_mutex_lock(&vdev->lock);
	vdev->transport = &d->transport;
	pthread_mutex_unlock(&vdev->lock);
}

static inline void driver_detach(struct driver *d)
{
	pthread_mutex_lock(&d->vdev->lock);
	virtio_reset(d->vdev);
	d->vdev->transport = NULL;
	pthread_mutex_unlock(&d->vdev->lock);
	d->vdev = NULL;
}

/* @len zeroed bytes of RAM, aligned to 16. */
static inline uint64_t driver_alloc(struct driver *d, uint64_t len)
{
	uint64_t gpa = d->heap;

	d->heap = (gpa + len + 15) & ~15ULL;
	ck_assert_uint_le(d->heap, DRIVER_RAM);
	ck_assert_int_eq(gmem_zero(&d->mem, gpa, len), 0);
	return gpa;
}

static inline void *driver_ptr(struct driver *d, uint64_t gpa, uint64_t len)
{
	void *p = gmem_wptr(&d->mem, gpa, len);

	ck_assert_ptr_nonnull(p);
	return p;
}

/* A new buffer with @len bytes of @data in it. */
static inline uint64_t driver_data(struct driver *d, const void *data, uint64_t len)
{
	uint64_t gpa = driver_alloc(d, len);

	ck_assert_int_eq(gmem_write(&d->mem, gpa, data, len), 0);
	return gpa;
}

/* --- Registers --- */

static inline uint8_t driver_status(struct driver *d)
{
	uint8_t status;

	pthread_mutex_lock(&d->vdev->lock);
	status = d->vdev->status;
	pthread_mutex_unlock(&d->vdev->lock);
	return status;
}

static inline void driver_set_status(struct driver *d, uint8_t status)
{
	pthread_mutex_lock(&d->vdev->lock);
	virtio_set_status(d->vdev, status);
	pthread_mutex_unlock(&d->vdev->lock);
}

static inline void driver_config_read(struct driver *d, unsigned off, void *data, unsigned len)
{
	pthread_mutex_lock(&d->vdev->lock);
	virtio_config_read(d->vdev, off, data, len);
	pthread_mutex_unlock(&d->vdev->lock);
}

static inline void driver_config_write(struct driver *d, unsigned off, const void *data,
				       unsigned len)
{
	pthread_mutex_lock(&d->vdev->lock);
	virtio_config_write(d->vdev, off, data, len);
	pthread_mutex_unlock(&d->vdev->lock);
}

/* Reset, up to and with FEATURES_OK. Features: those the driver wants, VERSION_1 is added. */
static inline void driver_negotiate(struct driver *d, uint64_t features)
{
	struct virtio_device *vdev = d->vdev;

	d->features = features | 1ULL << VIRTIO_F_VERSION_1;
	pthread_mutex_lock(&vdev->lock);
	virtio_set_status(vdev, 0);
	virtio_set_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_set_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_accept(vdev, 0, (uint32_t)d->features);
	virtio_accept(vdev, 1, (uint32_t)(d->features >> 32));
	virtio_set_status(vdev, vdev->status | VIRTIO_CONFIG_S_FEATURES_OK);
	pthread_mutex_unlock(&vdev->lock);
}

/* Queue @q of @size (0: what the device likes best) at DRIVER_QUEUE_AT(@q), and enable it. */
static inline void driver_queue(struct driver *d, unsigned q, uint16_t size)
{
	struct driver_queue *dq = &d->queue[q];
	uint64_t at = DRIVER_QUEUE_AT(q), avail, used;
	struct virtqueue *vq;

	pthread_mutex_lock(&d->vdev->lock);
	vq = virtio_queue_setup(d->vdev, q);
	ck_assert_ptr_nonnull(vq);
	if (size == 0)
		size = vq->size;
	avail = at + sizeof(struct vring_desc) * size;
	used = (avail + 6 + 2ULL * size + 3) & ~3ULL;
	ck_assert_uint_lt(used + 6 + 8ULL * size, q < 15 ? DRIVER_QUEUE_AT(q + 1) : 0);
	ck_assert_int_eq(gmem_zero(&d->mem, at, used + 6 + 8ULL * size - at), 0);
	dq->size = size;
	dq->desc = driver_ptr(d, at, sizeof(struct vring_desc) * size);
	dq->avail = driver_ptr(d, avail, 6 + 2ULL * size);
	dq->used = driver_ptr(d, used, 6 + 8ULL * size);
	dq->avail_idx = dq->used_idx = dq->kicked_idx = 0;
	memset(dq->ndesc, 0, sizeof(dq->ndesc));
	memset(dq->taken, 0, sizeof(dq->taken));
	atomic_store(&dq->interrupts, 0);
	vq->size = size;
	vq->desc = at;
	vq->driver = avail;
	vq->device = used;
	virtio_queue_enable(d->vdev, q);
	pthread_mutex_unlock(&d->vdev->lock);
}

static inline void driver_ok(struct driver *d)
{
	driver_set_status(d, driver_status(d) | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* All of it, with all queues in their full size. The status must be good then. */
static inline void driver_start(struct driver *d, uint64_t features)
{
	driver_negotiate(d, features);
	for (unsigned q = 0; q < d->vdev->nqueues; q++)
		driver_queue(d, q, 0);
	driver_ok(d);
	ck_assert_uint_eq(driver_status(d), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
						    VIRTIO_CONFIG_S_FEATURES_OK |
						    VIRTIO_CONFIG_S_DRIVER_OK);
}

/* --- Rings --- */

/* Make chain @head available; the device sees it at once. For chains made by hand. */
static inline void driver_available(struct driver *d, unsigned q, uint16_t head)
{
	struct driver_queue *dq = &d->queue[q];

	__atomic_store_n(&dq->avail->ring[dq->avail_idx % dq->size], head, __ATOMIC_RELAXED);
	dq->avail_idx++;
	__atomic_store_n(&dq->avail->idx, dq->avail_idx, __ATOMIC_RELEASE);
}

static inline uint16_t driver_free_desc(struct driver_queue *dq)
{
	for (uint16_t i = 0; i < dq->size; i++) {
		if (!dq->taken[i]) {
			dq->taken[i] = true;
			return i;
		}
	}
	ck_abort_msg("the queue is full");
}

static inline struct vring_desc driver_desc(const struct driver_buf *buf)
{
	return (struct vring_desc){ .addr = buf->gpa,
				    .len = buf->len,
				    .flags = buf->write ? VRING_DESC_F_WRITE : 0 };
}

/* Add a chain of @n buffers, one descriptor each. Returns its head. Does not kick. */
static inline uint16_t driver_add(struct driver *d, unsigned q, const struct driver_buf *bufs,
				  unsigned n)
{
	struct driver_queue *dq = &d->queue[q];
	uint16_t head = 0, last = 0;

	ck_assert_uint_gt(n, 0);
	for (unsigned i = 0; i < n; i++) {
		uint16_t at = driver_free_desc(dq);

		dq->desc[at] = driver_desc(&bufs[i]);
		if (i == 0) {
			head = at;
		} else {
			dq->desc[last].next = at;
			dq->desc[last].flags |= VRING_DESC_F_NEXT;
		}
		last = at;
	}
	dq->ndesc[head] = (uint16_t)n;
	driver_available(d, q, head);
	return head;
}

/* The same through an indirect table (from the heap: never freed). */
static inline uint16_t driver_add_indirect(struct driver *d, unsigned q,
					   const struct driver_buf *bufs, unsigned n)
{
	struct driver_queue *dq = &d->queue[q];
	uint16_t head = driver_free_desc(dq);
	uint32_t len = n * (uint32_t)sizeof(struct vring_desc);
	uint64_t gpa = driver_alloc(d, len);
	struct vring_desc *table = driver_ptr(d, gpa, len);

	for (unsigned i = 0; i < n; i++) {
		table[i] = driver_desc(&bufs[i]);
		if (i + 1 < n) {
			table[i].flags |= VRING_DESC_F_NEXT;
			table[i].next = (uint16_t)(i + 1);
		}
	}
	dq->desc[head] =
		(struct vring_desc){ .addr = gpa, .len = len, .flags = VRING_DESC_F_INDIRECT };
	dq->ndesc[head] = 1;
	driver_available(d, q, head);
	return head;
}

/* Notify, by whatever way the device asked for, whether it wants that or not. */
static inline void driver_notify(struct driver *d, unsigned q)
{
	int fd = __atomic_load_n(&d->queue[q].ioeventfd, __ATOMIC_SEQ_CST);

	if (fd >= 0)
		(void)eventfd_write(fd, 1);
	else
		virtio_kick(d->vdev, q);
}

/* Notify if the device wants it for what was added since the last call. Did it? */
static inline bool driver_kick(struct driver *d, unsigned q)
{
	struct driver_queue *dq = &d->queue[q];
	uint16_t old = dq->kicked_idx, event;
	bool want;

	dq->kicked_idx = dq->avail_idx;
	atomic_thread_fence(memory_order_seq_cst);
	event = __atomic_load_n((uint16_t *)&dq->used->ring[dq->size], __ATOMIC_RELAXED);
	if ((d->features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0)
		want = vring_need_event(event, dq->avail_idx, old);
	else
		want = (__atomic_load_n(&dq->used->flags, __ATOMIC_RELAXED) &
			VRING_USED_F_NO_NOTIFY) == 0;
	if (want)
		driver_notify(d, q);
	return want;
}

/* When interrupts are wanted: after used index @event was filled (EVENT_IDX), or never/always. */
static inline void driver_want_interrupt(struct driver *d, unsigned q, uint16_t event)
{
	__atomic_store_n(&d->queue[q].avail->ring[d->queue[q].size], event, __ATOMIC_SEQ_CST);
}

static inline void driver_no_interrupts(struct driver *d, unsigned q, bool no)
{
	__atomic_store_n(&d->queue[q].avail->flags, no ? VRING_AVAIL_F_NO_INTERRUPT : 0,
			 __ATOMIC_SEQ_CST);
}

/* The next used entry, if there is one. Its descriptors are free again. */
static inline bool driver_used(struct driver *d, unsigned q, uint16_t *head, uint32_t *len)
{
	struct driver_queue *dq = &d->queue[q];
	struct vring_used_elem elem;
	uint16_t i;

	if (__atomic_load_n(&dq->used->idx, __ATOMIC_ACQUIRE) == dq->used_idx)
		return false;
	elem = dq->used->ring[dq->used_idx++ % dq->size];
	ck_assert_uint_lt(elem.id, dq->size);
	if (dq->ndesc[elem.id] > 0) { /* else made by hand */
		i = (uint16_t)elem.id;
		for (unsigned n = dq->ndesc[elem.id]; n > 0; n--) {
			dq->taken[i] = false;
			i = dq->desc[i].next;
		}
		dq->ndesc[elem.id] = 0;
	}
	if (head != NULL)
		*head = (uint16_t)elem.id;
	if (len != NULL)
		*len = elem.len;
	return true;
}

/* --- Time --- */

/* Passes of the loop, without waiting; enough for kicks and what they post. */
static inline void driver_run(struct driver *d)
{
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(loop_run_once(d->loop, 0), 0);
}

/* Run the loop until queue @q has a used entry, and take it. */
static inline void driver_wait(struct driver *d, unsigned q, uint16_t *head, uint32_t *len)
{
	uint64_t end = loop_now_ns() + DRIVER_WAIT_MS * 1000000ULL;

	while (!driver_used(d, q, head, len)) {
		ck_assert_msg(loop_now_ns() < end, "queue %u: nothing comes back", q);
		ck_assert_int_eq(loop_run_once(d->loop, 10), 0);
	}
}

#endif
