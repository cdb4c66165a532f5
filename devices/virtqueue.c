// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues, device side: Virtual I/O Device (VIRTIO) 1.2, section 2.7. The one walker of
 * guest rings.
 *
 * Theory of operation. The driver owns the descriptor table and the available ring, we own the
 * used ring; all three are guest memory, found and checked once by virtqueue_start() and then
 * reached through pointers. Nothing read from there is believed: an index is compared with the
 * size before it is used, and each field is read exactly once into a local (an atomic load, or
 * a copy followed by a compiler barrier), because the guest may change it at any moment.
 *
 * virtqueue_pop() turns a chain into segments: pointer and length, in RAM for certain. What the
 * guest does to the descriptors after that has no effect. A walk is bounded by the queue's
 * size, whether the descriptors are in the table or in an indirect one; a chain may be direct
 * descriptors and then at most one indirect table, which may hold no further one (2.7.5.3).
 * Rules broken by the driver are told in vq->broken and end the queue: there is no guessing
 * what it meant.
 *
 * Chains out. A driver can have at most `size` chains with us, as each needs a descriptor that it
 * gets back with the used entry. So an available index more than `size` beyond our used index
 * is a lie, and devices can rely on having at most `size` chains in flight.
 *
 * Barriers. The available index is loaded with acquire semantics before the entries it covers,
 * the used index stored with release semantics after them. Between publishing used entries and
 * looking whether the driver wants an interrupt, and between asking for kicks and looking
 * whether something is available, there is a full fence: each side writes its own word and
 * then reads the other's, and with less both could miss each other (2.7.7.1, 2.7.10).
 *
 * Dirty pages. We write the used ring through a pointer kept since the start, so every write is
 * followed by a mark; buffers are marked when the cursor moves over what was written. Marking
 * when the pointer is taken would not do: the bit could be fetched before the bytes are there.
 *
 * Limits: little-endian hosts (VERSION_1 rings are little-endian). Each ring and each indirect
 * table must lie within one region of RAM; buffers may cross adjacent ones. A driver without
 * EVENT_IDX is told to be quiet by the flag, one with it simply by not moving avail_event.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include "devices/virtqueue.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian");

/* The bytes of the three rings: 2.7, including the event fields at the end of two of them. */
static uint64_t desc_bytes(uint16_t size)
{
	return sizeof(struct vring_desc) * (uint64_t)size;
}

static uint64_t avail_bytes(uint16_t size)
{
	return 6 + 2 * (uint64_t)size;
}

static uint64_t used_bytes(uint16_t size)
{
	return 6 + sizeof(struct vring_used_elem) * (uint64_t)size;
}

/* 2.7.6: where the driver says at which used index it wants an interrupt. */
static const uint16_t *used_event(const struct virtqueue *vq)
{
	return &vq->avail_ring->ring[vq->size];
}

/* 2.7.8: where we say at which available index we want a kick. */
static uint16_t *avail_event(const struct virtqueue *vq)
{
	return (uint16_t *)((uint8_t *)vq->used_ring + used_bytes(vq->size) - 2);
}

static int broken(struct virtqueue *vq, const char *why)
{
	vq->broken = why;
	return -EINVAL;
}

static void store16(struct virtqueue *vq, uint16_t *to, uint16_t value, int order)
{
	if (order == __ATOMIC_RELEASE)
		__atomic_store_n(to, value, __ATOMIC_RELEASE);
	else
		__atomic_store_n(to, value, __ATOMIC_RELAXED);
	gmem_mark_dirty(vq->mem, vq->device + (uint64_t)((uint8_t *)to - (uint8_t *)vq->used_ring),
			sizeof(*to));
}

int virtqueue_start(struct virtqueue *vq, struct gmem *mem, uint64_t features, bool resume)
{
	vq->started = false;
	vq->broken = NULL;
	if (vq->size == 0 || vq->size > vq->max_size || (vq->size & (vq->size - 1)) != 0)
		return broken(vq, "its size is not a power of two up to the maximum");
	if (vq->desc % 16 != 0 || vq->driver % 2 != 0 || vq->device % 4 != 0)
		return broken(vq, "its rings are not aligned");
	vq->desc_ring = gmem_ptr(mem, vq->desc, desc_bytes(vq->size));
	vq->avail_ring = gmem_ptr(mem, vq->driver, avail_bytes(vq->size));
	vq->used_ring = gmem_wptr(mem, vq->device, used_bytes(vq->size));
	if (vq->desc_ring == NULL || vq->avail_ring == NULL || vq->used_ring == NULL)
		return broken(vq, "its rings are not in RAM");
	if (!resume)
		vq->next_avail = vq->next_used = 0;
	vq->published = vq->interrupted = vq->next_used;
	vq->mem = mem;
	vq->event_idx = (features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0;
	vq->indirect = (features >> VIRTIO_RING_F_INDIRECT_DESC & 1) != 0;
	vq->started = true;
	return 0;
}

void virtqueue_reset(struct virtqueue *vq)
{
	*vq = (struct virtqueue){ .max_size = vq->max_size, .size = vq->max_size };
}

/* How many chains are available; acquires them. More than can be: the index is wrong. */
static uint16_t available(const struct virtqueue *vq)
{
	return (uint16_t)(__atomic_load_n(&vq->avail_ring->idx, __ATOMIC_ACQUIRE) - vq->next_avail);
}

bool virtqueue_empty(const struct virtqueue *vq)
{
	return !vq->started || vq->broken != NULL || available(vq) == 0;
}

/* The one place where a descriptor is read. */
static struct vring_desc read_desc(const struct vring_desc *from)
{
	struct vring_desc desc;

	memcpy(&desc, from, sizeof(desc)); /* an indirect table need not be aligned */
	/* So that the compiler cannot go back for a second look. */
	__asm__ volatile("" : : : "memory");
	return desc;
}

/* A chain while it is walked. */
struct walk {
	struct iovec *iov;
	unsigned n, nreadable;	     /* segments */
	uint64_t readable, writable; /* bytes */
};

/* Add the buffer of @desc, in as many segments as it needs. */
static int add_buffer(struct virtqueue *vq, struct walk *w, const struct vring_desc *desc)
{
	bool writable = (desc->flags & VRING_DESC_F_WRITE) != 0;
	uint64_t gpa = desc->addr, left = desc->len;

	/* 2.7.4.2: nothing readable after something writable. */
	if (!writable && w->n > w->nreadable)
		return broken(vq, "a readable buffer follows a writable one");
	/* 2.7.5: at most 4 GiB; a used length has 32 bits. */
	if (w->readable + w->writable + left > UINT32_MAX)
		return broken(vq, "a chain is longer than 4 GiB");
	*(writable ? &w->writable : &w->readable) += left;
	while (left > 0) {
		uint64_t len = left;
		uint8_t *host = gmem_span(vq->mem, gpa, &len, writable);

		if (host == NULL)
			return broken(vq, "a buffer is not in RAM");
		if (w->n == VIRTQUEUE_IOV((unsigned)vq->size))
			return broken(vq, "a chain is cut by the borders of RAM too often");
		w->iov[w->n++] = (struct iovec){ .iov_base = host, .iov_len = len };
		if (!writable)
			w->nreadable = w->n;
		gpa += len;
		left -= len;
	}
	return 0;
}

static int walk_chain(struct virtqueue *vq, struct walk *w, uint16_t head)
{
	const struct vring_desc *table = vq->desc_ring;
	uint32_t size = vq->size, i = head;
	bool indirect = false; /* not to be told from @table: one may lie where the other does */

	for (unsigned n = 0;;) {
		struct vring_desc desc = read_desc(&table[i]);

		if ((desc.flags & VRING_DESC_F_INDIRECT) != 0) {
			if (!vq->indirect)
				return broken(vq, "an indirect descriptor was not negotiated");
			if (indirect)
				return broken(vq, "an indirect table refers to another");
			if ((desc.flags & VRING_DESC_F_NEXT) != 0)
				return broken(vq, "an indirect descriptor has a next one");
			if (desc.len == 0 || desc.len % sizeof(desc) != 0)
				return broken(vq, "an indirect table has an odd length");
			table = gmem_ptr(vq->mem, desc.addr, desc.len);
			if (table == NULL)
				return broken(vq, "an indirect table is not in RAM");
			size = desc.len / sizeof(desc);
			indirect = true;
			i = 0;
			continue; /* once at most, so the loop stays bounded */
		}
		/* 2.7.5.3.1, and what stops a loop. */
		if (n++ == vq->size)
			return broken(vq, "a chain is longer than the queue");
		if (add_buffer(vq, w, &desc) < 0)
			return -EINVAL;
		if ((desc.flags & VRING_DESC_F_NEXT) == 0)
			return 0;
		i = desc.next;
		if (i >= size)
			return broken(vq, "a next descriptor is outside its table");
	}
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *chain, struct iovec *iov)
{
	struct walk w = { .iov = iov };
	uint16_t head, n;

	if (vq->broken != NULL)
		return -EINVAL;
	if (!vq->started)
		return 0;
	n = available(vq);
	if (n == 0)
		return 0;
	/* See the top: what is available and what we have cannot be more than there are. */
	if (n + (unsigned)(uint16_t)(vq->next_avail - vq->next_used) > vq->size)
		return broken(vq, "the available index is too far ahead");
	head = __atomic_load_n(&vq->avail_ring->ring[vq->next_avail & (vq->size - 1)],
			       __ATOMIC_RELAXED);
	if (head >= vq->size)
		return broken(vq, "the head of a chain is outside the table");
	if (walk_chain(vq, &w, head) < 0)
		return -EINVAL;
	vq->next_avail++;
	*chain = (struct virtqueue_chain){
		.head = head,
		.readable = { .iov = iov, .n = w.nreadable, .left = w.readable },
		.writable = { .iov = iov + w.nreadable,
			      .n = w.n - w.nreadable,
			      .left = w.writable,
			      .mem = vq->mem },
	};
	return 1;
}

void virtqueue_unpop(struct virtqueue *vq, unsigned n)
{
	vq->next_avail = (uint16_t)(vq->next_avail - n);
}

void virtqueue_put(struct virtqueue *vq, uint16_t head, uint32_t len)
{
	struct vring_used_elem *elem;

	if (!vq->started || vq->broken != NULL)
		return;
	elem = &vq->used_ring->ring[vq->next_used++ & (vq->size - 1)];
	__atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, len, __ATOMIC_RELAXED);
	gmem_mark_dirty(vq->mem,
			vq->device + (uint64_t)((uint8_t *)elem - (uint8_t *)vq->used_ring),
			sizeof(*elem));
}

void virtqueue_publish(struct virtqueue *vq)
{
	if (!vq->started || vq->broken != NULL || vq->published == vq->next_used)
		return;
	store16(vq, &vq->used_ring->idx, vq->next_used, __ATOMIC_RELEASE);
	vq->published = vq->next_used;
}

bool virtqueue_wants_interrupt(struct virtqueue *vq)
{
	uint16_t old = vq->interrupted;

	if (!vq->started || vq->broken != NULL || vq->published == old)
		return false;
	vq->interrupted = vq->published;
	atomic_thread_fence(memory_order_seq_cst);
	if (vq->event_idx)
		return vring_need_event(__atomic_load_n(used_event(vq), __ATOMIC_RELAXED),
					vq->published, old);
	return (__atomic_load_n(&vq->avail_ring->flags, __ATOMIC_RELAXED) &
		VRING_AVAIL_F_NO_INTERRUPT) == 0;
}

void virtqueue_disable_kicks(struct virtqueue *vq)
{
	if (vq->started && !vq->event_idx)
		store16(vq, &vq->used_ring->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

bool virtqueue_enable_kicks(struct virtqueue *vq)
{
	if (!vq->started)
		return false;
	if (vq->event_idx)
		store16(vq, avail_event(vq), vq->next_avail, __ATOMIC_RELAXED);
	else
		store16(vq, &vq->used_ring->flags, 0, __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_seq_cst);
	return !virtqueue_empty(vq);
}

/* The next bytes that are in one piece, at most @len; *n says how many. NULL at the end. */
static void *piece(const struct virtqueue_cursor *c, size_t len, size_t *n)
{
	if (c->n == 0 || len == 0)
		return NULL;
	*n = len < c->iov->iov_len ? len : c->iov->iov_len;
	return c->iov->iov_base;
}

/* Move over @n bytes of the first segment. */
static void pass(struct virtqueue_cursor *c, size_t n)
{
	if (c->mem != NULL)
		gmem_mark_host(c->mem, c->iov->iov_base, n);
	c->iov->iov_base = (uint8_t *)c->iov->iov_base + n;
	c->iov->iov_len -= n;
	if (c->iov->iov_len == 0) {
		c->iov++;
		c->n--;
	}
	c->left -= n;
	c->done += n;
}

size_t virtqueue_read(struct virtqueue_cursor *c, void *buf, size_t len)
{
	size_t done = 0, n;
	void *at;

	while ((at = piece(c, len - done, &n)) != NULL) {
		memcpy((uint8_t *)buf + done, at, n);
		pass(c, n);
		done += n;
	}
	return done;
}

size_t virtqueue_write(struct virtqueue_cursor *c, const void *buf, size_t len)
{
	size_t done = 0, n;
	void *at;

	while ((at = piece(c, len - done, &n)) != NULL) {
		memcpy(at, (const uint8_t *)buf + done, n);
		pass(c, n);
		done += n;
	}
	return done;
}

size_t virtqueue_zero(struct virtqueue_cursor *c, size_t len)
{
	size_t done = 0, n;
	void *at;

	while ((at = piece(c, len - done, &n)) != NULL) {
		memset(at, 0, n);
		pass(c, n);
		done += n;
	}
	return done;
}

size_t virtqueue_skip(struct virtqueue_cursor *c, size_t len)
{
	size_t done = 0, n;

	while (piece(c, len - done, &n) != NULL) {
		pass(c, n);
		done += n;
	}
	return done;
}

unsigned virtqueue_segments(const struct virtqueue_cursor *c, size_t len, struct iovec *iov,
			    unsigned max)
{
	unsigned n = 0;

	for (; n < c->n && len > 0; n++) {
		if (n == max)
			return 0;
		iov[n] = c->iov[n];
		if (iov[n].iov_len > len)
			iov[n].iov_len = len;
		len -= iov[n].iov_len;
	}
	return n;
}

void virtqueue_split_tail(struct virtqueue_cursor *c, size_t len, struct virtqueue_cursor *tail,
			  struct iovec *iov)
{
	unsigned i = 0;
	size_t keep;

	if (len > c->left)
		len = c->left;
	keep = c->left - len;
	*tail = (struct virtqueue_cursor){ .iov = iov, .left = len, .mem = c->mem };
	c->left = keep;
	while (i < c->n && c->iov[i].iov_len <= keep)
		keep -= c->iov[i++].iov_len;
	/* Segment i is the first with bytes of the tail: @keep of its bytes stay. */
	for (unsigned j = i; j < c->n; j++)
		tail->iov[tail->n++] = c->iov[j];
	if (i < c->n && keep > 0) {
		tail->iov[0].iov_base = (uint8_t *)tail->iov[0].iov_base + keep;
		tail->iov[0].iov_len -= keep;
		c->iov[i++].iov_len = keep;
	}
	c->n = i;
}
