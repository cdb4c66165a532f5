// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio device model: Virtual I/O Device (VIRTIO) 1.2, chapters 2 and 3: what all devices
 * and both transports have in common. Who may call what on which thread is in virtio.h.
 *
 * Theory of operation. Everything the driver asks for ends as a note in the device (a bit in
 * vdev->kicked, or vdev->changed) and a posting of vdev->work. The work runs on the device's
 * loop, takes the lock, tells the device of the change and then of every queue with work. A kick
 * noted when the device is not live is dropped: DRIVER_OK kicks all queues anyway.
 *
 * Kicks come by exits at first: the vCPU thread notes the bit and posts. An eventfd that the
 * host's kernel signals is faster, but to register one takes a grace period (milliseconds), and
 * most queues of a small machine are notified a few times only. So a queue has to earn it,
 * with VIRTIO_EXITS_MAX exits. The loop watches the eventfd edge-triggered: each signal wakes
 * it, so the counter never needs to be read, which saves a system call per kick.
 *
 * The eventfds of a queue, once made, live as long as the device. Reset, on whatever thread,
 * only makes the transport let go of them; they stay watched, and what is signalled late ends
 * as a kick that finds nothing. So a driver that resets and starts us again before the
 * loop has run cannot find a queue half taken down.
 *
 * An offloaded queue is served by the host's kernel: the loop does not watch its kick eventfd,
 * and a notification that comes by exit nevertheless is passed on to it.
 *
 * How long chains take, from pop to push, is counted here for all devices, and the clock is read
 * for batches and not for chains. A batch begins with the first pop or push and ends with an
 * interrupt, or with the kick. The driver hears of what was done at once when the batch
 * ends: that is how long it took.
 *
 * Queues start at DRIVER_OK, not before: the features decide how a ring is read, and the
 * rings must be good when the device goes live. What the driver gets wrong, there or later,
 * ends in virtio_fail().
 *
 * Limits: no feature bits from 64 on, no reset of single queues (VIRTIO_F_RING_RESET), no
 * legacy drivers (without VERSION_1).
 *
 * #syscalls main io share: eventfd2 read close epoll_ctl
 * #syscalls main vcpu io share: futex write
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "devices/virtio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define FEATURES_ALWAYS                                                                            \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |                        \
	 1ULL << VIRTIO_RING_F_EVENT_IDX)
/* Bits of the status register a driver may set. */
#define STATUS_DRIVER                                                                              \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |        \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

/* --- Kinds of devices: VIRTIO_DEVICE() puts pointers into a section of this name --- */

extern const struct virtio_ops *const __start_virtio_devices[] __attribute__((weak));
extern const struct virtio_ops *const __stop_virtio_devices[] __attribute__((weak));

unsigned virtio_nkinds(void)
{
	return (unsigned)(__stop_virtio_devices - __start_virtio_devices);
}

const struct virtio_ops *virtio_kind(unsigned i)
{
	return __start_virtio_devices[i];
}

/* --- State --- */

/* DRIVER_OK and not broken; possibly quiesced. */
static bool running(const struct virtio_device *vdev)
{
	return (vdev->status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET |
				VIRTIO_CONFIG_S_FAILED)) == VIRTIO_CONFIG_S_DRIVER_OK;
}

bool virtio_live(const struct virtio_device *vdev)
{
	return running(vdev) && !vdev->quiesced;
}

/* The virtqueue for giving chains back, which a quiesced device still may. */
static struct virtqueue *running_vq(struct virtio_device *vdev, unsigned q)
{
	if (!running(vdev) || q >= vdev->nqueues || !vdev->queue[q].vq.started)
		return NULL;
	return &vdev->queue[q].vq;
}

struct virtqueue *virtio_vq(struct virtio_device *vdev, unsigned q)
{
	return vdev->quiesced ? NULL : running_vq(vdev, q);
}

static void interrupt(struct virtio_device *vdev, int q)
{
	if (vdev->transport != NULL)
		vdev->transport->ops->interrupt(vdev->transport, q);
}

static void post(struct virtio_device *vdev)
{
	loop_post(vdev->loop, &vdev->work);
}

static void kick_all(struct virtio_device *vdev)
{
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		if (vdev->queue[q].vq.started)
			atomic_fetch_or(&vdev->kicked, 1ULL << q);
	}
	vdev->changed = true;
	post(vdev);
}

void virtio_broken(struct virtio_device *vdev)
{
	/* Known already, or reset and nobody to tell: 0 is what the driver waits to read. */
	if (vdev->status == 0 || (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0)
		return;
	vdev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if ((vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0)
		interrupt(vdev, -1);
}

/* No more until the driver resets us; @what and @ap are for the log. */
static void fail(struct virtio_device *vdev, const char *what, const char *fmt, va_list ap)
{
	char why[160];

	if (vdev->status == 0 || (vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0)
		return;
	vsnprintf(why, sizeof(why), fmt, ap);
	log_limited(LOG_WARN, "%s: %s%s; waiting for a reset", vdev->name, what, why);
	virtio_broken(vdev);
}

void virtio_fail(struct virtio_device *vdev, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail(vdev, "the guest's driver broke the rules: ", fmt, ap);
	va_end(ap);
}

void virtio_give_up(struct virtio_device *vdev, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail(vdev, "", fmt, ap);
	va_end(ap);
}

void virtio_config_changed(struct virtio_device *vdev)
{
	vdev->generation++;
	if (running(vdev))
		interrupt(vdev, -1);
}

/* --- Kicks --- */

void virtio_again(struct virtio_device *vdev, unsigned q)
{
	atomic_fetch_or(&vdev->kicked, 1ULL << q);
	post(vdev);
}

void virtio_kick(struct virtio_device *vdev, uint32_t q)
{
	if (q >= vdev->nqueues)
		return;
	atomic_fetch_add_explicit(&vdev->queue[q].exits, 1, memory_order_relaxed);
	virtio_again(vdev, q);
}

/* 0 or -errno. */
static int make_eventfd(struct loop_fd *lfd)
{
	if (lfd->fd < 0)
		lfd->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return lfd->fd < 0 ? -errno : 0;
}

int virtio_make_eventfds(struct virtio_device *vdev)
{
	int r = 0;

	for (unsigned q = 0; r == 0 && q < vdev->nqueues; q++) {
		r = make_eventfd(&vdev->queue[q].kick);
		if (r == 0)
			r = make_eventfd(&vdev->queue[q].call);
	}
	return r;
}

static int set_ioeventfd(struct virtio_queue *queue, bool on)
{
	struct virtio_device *vdev = queue->vdev;
	unsigned q = (unsigned)(queue - vdev->queue);
	int r = -EOPNOTSUPP;

	if (queue->ioeventfd == on)
		return 0;
	if (vdev->transport != NULL)
		r = vdev->transport->ops->ioeventfd(vdev->transport, q, queue->kick.fd, on);
	queue->ioeventfd = on && r == 0;
	return r;
}

static int set_irqfd(struct virtio_queue *queue, bool on)
{
	struct virtio_device *vdev = queue->vdev;
	unsigned q = (unsigned)(queue - vdev->queue);
	int r = -EOPNOTSUPP;

	if (queue->irqfd == on)
		return 0;
	if (vdev->transport != NULL)
		r = vdev->transport->ops->irqfd(vdev->transport, q, queue->call.fd, on);
	queue->irqfd = on && r == 0;
	return r;
}

/* Queue @queue is notified often: spare it the exits. When that fails, exits are good enough. */
static void earn_ioeventfd(struct virtio_queue *queue)
{
	struct err err;

	queue->no_ioeventfd = true; /* unless all of this works */
	if (make_eventfd(&queue->kick) < 0)
		return;
	if (queue->kick.loop == NULL &&
	    loop_add_fd(queue->vdev->loop, &queue->kick, EPOLLIN | EPOLLET, &err) < 0)
		return;
	queue->no_ioeventfd = set_ioeventfd(queue, true) < 0;
}

static void count_latency(struct virtio_device *vdev, uint64_t ns, unsigned n)
{
	uint64_t us = ns / 1000;
	unsigned bucket = us > 1 ? 63U - (unsigned)__builtin_clzll(us) : 0;

	vdev->counters->latency[bucket < VIRTIO_BUCKETS ? bucket : VIRTIO_BUCKETS - 1] += n;
}

static uint64_t batch_begun(struct virtio_device *vdev)
{
	if (vdev->now == 0)
		vdev->now = loop_now_ns();
	return vdev->now;
}

void virtio_end_batch(struct virtio_device *vdev)
{
	if (vdev->at_once > 0)
		count_latency(vdev, loop_now_ns() - vdev->now, vdev->at_once);
	vdev->at_once = 0;
	vdev->now = 0;
}

static void serve_kick(struct virtio_queue *queue)
{
	struct virtio_device *vdev = queue->vdev;

	if (!queue->vq.started)
		return;
	if (queue->offloaded) {
		(void)eventfd_write(queue->kick.fd, 1); /* full: signalled already */
		return;
	}
	if (!queue->ioeventfd && !queue->no_ioeventfd && queue->exits >= VIRTIO_EXITS_MAX)
		earn_ioeventfd(queue);
	vdev->counters->kicks++;
	vdev->ops->kick(vdev, (unsigned)(queue - vdev->queue));
	virtio_end_batch(vdev);
}

static void virtio_work(struct loop_work *work)
{
	struct virtio_device *vdev = container_of(work, struct virtio_device, work);
	uint64_t kicked;

	pthread_mutex_lock(&vdev->lock);
	/* What is noted stays noted; virtio_resume() posts again. */
	if (vdev->quiesced)
		goto unlock;
	if (vdev->changed) {
		vdev->changed = false;
		if (vdev->ops->update != NULL)
			vdev->ops->update(vdev);
	}
	if (atomic_exchange(&vdev->rescanned, false) && vdev->ops->rescan != NULL)
		vdev->ops->rescan(vdev);
	kicked = atomic_exchange(&vdev->kicked, 0);
	for (; kicked != 0 && virtio_live(vdev); kicked &= kicked - 1)
		serve_kick(&vdev->queue[__builtin_ctzll(kicked)]);
unlock:
	pthread_mutex_unlock(&vdev->lock);
}

/* The kick eventfd was signalled. Served here: posting would cost another wake-up. */
static void kick_signalled(struct loop_fd *lfd, uint32_t events)
{
	struct virtio_queue *queue = container_of(lfd, struct virtio_queue, kick);
	struct virtio_device *vdev = queue->vdev;

	(void)events;
	atomic_fetch_or(&vdev->kicked, 1ULL << (queue - vdev->queue));
	virtio_work(&vdev->work);
}

/* The call eventfd of an offloaded queue, where the transport has no irqfd or the device listens.
 */
static void call_signalled(struct loop_fd *lfd, uint32_t events)
{
	struct virtio_queue *queue = container_of(lfd, struct virtio_queue, call);
	struct virtio_device *vdev = queue->vdev;

	(void)events;
	pthread_mutex_lock(&vdev->lock);
	if (queue->offloaded && vdev->ops->called != NULL)
		vdev->ops->called(vdev, (unsigned)(queue - vdev->queue));
	if (queue->offloaded && running(vdev))
		interrupt(vdev, (int)(queue - vdev->queue));
	pthread_mutex_unlock(&vdev->lock);
}

static void end_offload(struct virtio_queue *queue)
{
	queue->offloaded = false;
	(void)set_ioeventfd(queue, false);
	(void)set_irqfd(queue, false);
}

int virtio_offload(struct virtio_device *vdev, unsigned q, bool on, int *kick, int *call)
{
	struct virtio_queue *queue = &vdev->queue[q];
	struct err err;
	eventfd_t count;
	int r;

	virtio_again(vdev, q);
	end_offload(queue);
	loop_del_fd(&queue->kick);
	loop_del_fd(&queue->call);
	if (!on)
		return 0;
	r = make_eventfd(&queue->kick);
	if (r == 0)
		r = make_eventfd(&queue->call);
	if (r < 0)
		return r;
	/* Nothing of an earlier life. */
	(void)eventfd_read(queue->kick.fd, &count);
	(void)eventfd_read(queue->call.fd, &count);
	r = vdev->ops->called == NULL ? set_irqfd(queue, true) : -EOPNOTSUPP;
	if (r == -EOPNOTSUPP)
		r = loop_add_fd(vdev->loop, &queue->call, EPOLLIN | EPOLLET, &err);
	if (r < 0)
		return r;
	/* Without it, notifications come by exits and serve_kick() passes them on. */
	queue->no_ioeventfd = set_ioeventfd(queue, true) < 0;
	queue->offloaded = true;
	*kick = queue->kick.fd;
	*call = queue->call.fd;
	return 0;
}

/* --- For devices --- */

bool virtio_pop(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain,
		struct iovec *iov)
{
	struct virtqueue *vq = virtio_vq(vdev, q);
	int r;

	if (vq == NULL)
		return false;
	r = virtqueue_pop(vq, chain, iov);
	if (r < 0)
		virtio_fail(vdev, "queue %u: %s", q, vq->broken);
	if (r <= 0)
		return false;
	vdev->counters->chains++;
	if ((vdev->untimed >> q & 1) == 0)
		chain->at = batch_begun(vdev);
	return true;
}

void virtio_push(struct virtio_device *vdev, unsigned q, const struct virtqueue_chain *chain)
{
	struct virtqueue *vq = running_vq(vdev, q);

	if (vq == NULL)
		return;
	vdev->counters->in_bytes += chain->writable.done;
	vdev->counters->out_bytes += chain->readable.done;
	if (chain->at != 0) {
		if (chain->at == batch_begun(vdev))
			vdev->at_once++;
		else
			count_latency(vdev, vdev->now - chain->at, 1);
	}
	virtqueue_put(vq, chain->head, (uint32_t)chain->writable.done);
	virtqueue_publish(vq);
}

void virtio_interrupt(struct virtio_device *vdev, unsigned q)
{
	struct virtqueue *vq = running_vq(vdev, q);

	if (vq != NULL && virtqueue_wants_interrupt(vq)) {
		vdev->counters->interrupts++;
		interrupt(vdev, (int)q);
	}
	virtio_end_batch(vdev);
}

void virtio_serve(struct virtio_device *vdev, unsigned q, struct iovec *iov, unsigned budget,
		  bool (*handle)(struct virtio_device *vdev, unsigned q,
				 struct virtqueue_chain *chain))
{
	struct virtqueue *vq = virtio_vq(vdev, q);
	struct virtqueue_chain chain;
	unsigned n = 0;

	if (vq == NULL)
		return;
	do {
		virtqueue_disable_kicks(vq);
		while (n < budget && virtio_pop(vdev, q, &chain, iov)) {
			if (!handle(vdev, q, &chain)) {
				/* Kicks stay off: whoever makes room goes on. */
				virtqueue_unpop(vq, 1);
				virtio_interrupt(vdev, q);
				return;
			}
			virtio_push(vdev, q, &chain);
			n++;
		}
		virtio_interrupt(vdev, q);
		if (!virtio_live(vdev))
			return;
		if (n == budget) {
			virtio_again(vdev, q);
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

/* --- For transports --- */

uint32_t virtio_offered(const struct virtio_device *vdev, uint32_t word)
{
	return word < 2 ? (uint32_t)(vdev->features >> 32 * word) : 0;
}

void virtio_accept(struct virtio_device *vdev, uint32_t word, uint32_t bits)
{
	if (word >= 2 || (vdev->status & VIRTIO_CONFIG_S_FEATURES_OK) != 0)
		return;
	vdev->driver_features &= ~(0xffffffffULL << 32 * word);
	vdev->driver_features |= (uint64_t)bits << 32 * word;
}

static bool features_ok(const struct virtio_device *vdev)
{
	return (vdev->driver_features & ~vdev->features) == 0 &&
	       virtio_has(vdev, VIRTIO_F_VERSION_1);
}

/* Start every queue that is enabled. */
static void start_queues(struct virtio_device *vdev, bool resume)
{
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtqueue *vq = &vdev->queue[q].vq;

		if (vq->enabled && !vq->started &&
		    virtqueue_start(vq, vdev->mem, vdev->driver_features, resume) < 0)
			virtio_fail(vdev, "queue %u: %s", q, vq->broken);
	}
}

void virtio_set_status(struct virtio_device *vdev, uint8_t status)
{
	uint8_t added = status & STATUS_DRIVER & (uint8_t)~vdev->status;

	if (status == 0) {
		virtio_reset(vdev);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) != 0 && !features_ok(vdev)) {
		/* 2.2.2, 3.1.1: the driver sees that the bit is not set. */
		log_limited(LOG_WARN,
			    "%s: the guest's driver wants features 0x%llx of 0x%llx%s: refused",
			    vdev->name, (unsigned long long)vdev->driver_features,
			    (unsigned long long)vdev->features,
			    virtio_has(vdev, VIRTIO_F_VERSION_1) ? "" : ", without VERSION_1");
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	vdev->status |= added;
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) == 0)
		return;
	if ((vdev->status & VIRTIO_CONFIG_S_FEATURES_OK) == 0)
		virtio_fail(vdev, "DRIVER_OK without FEATURES_OK");
	else
		start_queues(vdev, false);
	if (running(vdev))
		kick_all(vdev);
}

void virtio_reset(struct virtio_device *vdev)
{
	/* Not live from here on, so that what `reset` finishes is not pushed. */
	vdev->status = 0;
	if (vdev->ops->reset != NULL)
		vdev->ops->reset(vdev);
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtio_queue *queue = &vdev->queue[q];

		end_offload(queue);
		virtqueue_reset(&queue->vq);
		queue->vector = VIRTIO_NO_VECTOR;
		queue->no_ioeventfd = false;
		atomic_store(&queue->exits, 0);
	}
	vdev->driver_features = 0;
	atomic_store(&vdev->kicked, 0);
	vdev->changed = true;
	post(vdev);
}

struct virtqueue *virtio_queue_setup(struct virtio_device *vdev, uint32_t q)
{
	if (q >= vdev->nqueues || vdev->queue[q].vq.enabled ||
	    (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) != 0)
		return NULL;
	return &vdev->queue[q].vq;
}

void virtio_queue_enable(struct virtio_device *vdev, uint32_t q)
{
	struct virtqueue *vq = virtio_queue_setup(vdev, q);

	if (vq != NULL)
		vq->enabled = true;
}

static bool in_config(const struct virtio_device *vdev, uint64_t off, unsigned len)
{
	return off < vdev->config_size && len <= vdev->config_size - off;
}

void virtio_config_read(struct virtio_device *vdev, uint64_t off, void *data, unsigned len)
{
	unsigned n = 0;

	if (off < vdev->config_size)
		n = vdev->config_size - (unsigned)off;
	if (n > len)
		n = len;
	if (n > 0)
		memcpy(data, (const uint8_t *)vdev->config + off, n);
	memset((uint8_t *)data + n, 0, len - n);
}

void virtio_config_write(struct virtio_device *vdev, uint64_t off, const void *data, unsigned len)
{
	if (len > 0 && in_config(vdev, off, len) && vdev->ops->config_write != NULL)
		vdev->ops->config_write(vdev, (unsigned)off, data, len);
}

/* --- Making and ending --- */

int virtio_init(struct virtio_device *vdev, const struct virtio_ops *ops,
		const struct virtio_host *host, struct loop *loop, unsigned nqueues,
		uint16_t queue_size, void *config, unsigned config_size, struct err *err)
{
	vdev->ops = ops;
	vdev->loop = loop;
	vdev->mem = host->mem;
	vdev->features |= FEATURES_ALWAYS;
	vdev->config = config;
	vdev->config_size = config_size;
	vdev->work.fn = virtio_work;
	vdev->counters = &vdev->own_counters;
	if (vdev->name[0] == '\0')
		snprintf(vdev->name, sizeof(vdev->name), "%s", ops->name);
	pthread_mutex_init(&vdev->lock, NULL);
	if (nqueues > VIRTIO_QUEUES_MAX || queue_size == 0 || queue_size > VIRTQUEUE_SIZE_MAX ||
	    (queue_size & (queue_size - 1)) != 0)
		return err_set(
			err, EINVAL, "%s: %u queues of %u: at most %d of a power of two up to %d",
			vdev->name, nqueues, queue_size, VIRTIO_QUEUES_MAX, VIRTQUEUE_SIZE_MAX);
	vdev->queue = calloc(nqueues > 0 ? nqueues : 1, sizeof(*vdev->queue));
	if (vdev->queue == NULL)
		return err_sys(err, ENOMEM, "%s", vdev->name);
	vdev->nqueues = nqueues;
	for (unsigned q = 0; q < nqueues; q++) {
		struct virtio_queue *queue = &vdev->queue[q];

		queue->vdev = vdev;
		queue->vector = VIRTIO_NO_VECTOR;
		queue->vq.max_size = queue_size;
		virtqueue_reset(&queue->vq);
		queue->kick = (struct loop_fd){ .fd = -1, .fn = kick_signalled };
		queue->call = (struct loop_fd){ .fd = -1, .fn = call_signalled };
	}
	return 0;
}

static void close_eventfd(struct loop_fd *lfd)
{
	loop_del_fd(lfd);
	if (lfd->fd >= 0)
		close(lfd->fd);
	lfd->fd = -1;
}

void virtio_fini(struct virtio_device *vdev)
{
	if (vdev->ops == NULL)
		return; /* virtio_init() was never called */
	if (vdev->loop != NULL)
		loop_unpost(vdev->loop, &vdev->work);
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		close_eventfd(&vdev->queue[q].kick);
		close_eventfd(&vdev->queue[q].call);
	}
	free(vdev->queue);
	vdev->queue = NULL;
	vdev->nqueues = 0;
	pthread_mutex_destroy(&vdev->lock);
	vdev->ops = NULL;
}

/* --- For the machine --- */

void virtio_quiesce(struct virtio_device *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	if (!vdev->quiesced) {
		vdev->quiesced = true;
		if (vdev->ops->quiesce != NULL)
			vdev->ops->quiesce(vdev);
	}
	pthread_mutex_unlock(&vdev->lock);
}

void virtio_resume(struct virtio_device *vdev)
{
	pthread_mutex_lock(&vdev->lock);
	if (vdev->quiesced) {
		vdev->quiesced = false;
		if (running(vdev))
			start_queues(vdev, true); /* of a loaded device */
		if (vdev->ops->resume != NULL)
			vdev->ops->resume(vdev);
		kick_all(vdev);
	}
	pthread_mutex_unlock(&vdev->lock);
}

void virtio_rescan(struct virtio_device *vdev)
{
	atomic_store(&vdev->rescanned, true);
	post(vdev);
}

/* --- State --- */

static void queue_state(struct virtio_device *vdev, struct state *st, unsigned q)
{
	struct virtqueue *vq = &vdev->queue[q].vq;
	char name[16];

	snprintf(name, sizeof(name), "queue%u", q);
	state_begin(st, name, 1);
	state_u16(st, "size", &vq->size);
	state_bool(st, "enabled", &vq->enabled);
	state_u64(st, "desc", &vq->desc);
	state_u64(st, "driver", &vq->driver);
	state_u64(st, "device", &vq->device);
	state_u16(st, "next_avail", &vq->next_avail);
	state_u16(st, "next_used", &vq->next_used);
	state_end(st);
	if (!state_loading(st))
		return;
	/* Addresses and size are checked when it starts, as if the driver had written them. */
	if ((uint16_t)(vq->next_avail - vq->next_used) > vq->max_size)
		state_fail(st, "%s: %s: more buffers are out than the queue has", vdev->name, name);
}

static void check_loaded(struct virtio_device *vdev, struct state *st, uint16_t id,
			 uint64_t features)
{
	uint8_t status = vdev->status;

	if (id != vdev->ops->id)
		state_fail(st, "%s: the saved device is of type %u, this one of type %u",
			   vdev->name, id, vdev->ops->id);
	if ((features & ~vdev->features) != 0)
		state_fail(st, "%s: the saved device had features 0x%llx that this one has not",
			   vdev->name, (unsigned long long)(features & ~vdev->features));
	vdev->features &= features;
	if ((status & ~(STATUS_DRIVER | VIRTIO_CONFIG_S_NEEDS_RESET)) != 0 ||
	    ((status & VIRTIO_CONFIG_S_FEATURES_OK) != 0 && !features_ok(vdev)) ||
	    ((status & VIRTIO_CONFIG_S_DRIVER_OK) != 0 &&
	     (status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == 0))
		state_fail(st, "%s: status 0x%02x with features 0x%llx cannot be", vdev->name,
			   status, (unsigned long long)vdev->driver_features);
}

int virtio_state(struct virtio_device *vdev, struct state *st)
{
	bool loading = state_loading(st);
	uint64_t offered = vdev->features, features = offered;
	uint16_t id = vdev->ops->id;
	int r;

	pthread_mutex_lock(&vdev->lock);
	if (loading) {
		virtio_reset(vdev);
		vdev->quiesced = true;
	}
	state_begin(st, "virtio", 1);
	state_u16(st, "id", &id);
	state_u64(st, "features", &features);
	state_u64(st, "driver_features", &vdev->driver_features);
	state_u8(st, "status", &vdev->status);
	state_u8(st, "generation", &vdev->generation);
	if (loading)
		check_loaded(vdev, st, id, features);
	for (unsigned q = 0; q < vdev->nqueues; q++)
		queue_state(vdev, st, q);
	if (vdev->ops->state != NULL) {
		state_begin(st, "device", 1);
		vdev->ops->state(vdev, st);
		state_end(st);
	}
	r = state_end(st);
	/* What was refused shall not come alive by a careless resume. */
	if (loading && r < 0) {
		virtio_reset(vdev);
		vdev->features = offered;
	}
	pthread_mutex_unlock(&vdev->lock);
	return r;
}
