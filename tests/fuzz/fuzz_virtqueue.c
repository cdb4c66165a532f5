// SPDX-License-Identifier: Apache-2.0
/*
 * Virtqueues and a driver that does anything: the input sets a queue up and is then a sequence
 * of what the driver does to memory and rings, and of what a device does with the queue.
 * Checked: chains are in RAM and within their bounds, no more of them are out than the queue
 * has, cursors count right and mark what they write, a broken queue stays broken.
 *
 * Input: 1 byte features and layout, 1 byte size (2 to the power of; or any, with 0x80),
 * [3 x 8 bytes addresses], then operations: 1 byte and its operands, see operate().
 */
#include <string.h>
#include "devices/virtqueue.h"
#include "tests/fuzz/fuzz.h"

/* Two regions side by side, a hole, a third. */
#define LOW	 0x10000ULL
#define MIDDLE	 0x2000ULL
#define HIGH_AT	 0x100000000ULL
#define HIGH	 0x4000ULL
#define MAX_SIZE 16
#define SLOTS	 (MAX_SIZE + 1)

/* A chain that is out. */
struct slot {
	bool used;
	unsigned order; /* of popping */
	struct virtqueue_chain chain;
	struct iovec iov[VIRTQUEUE_IOV(MAX_SIZE)];
};

struct bench {
	struct gmem mem;
	struct virtqueue vq;
	unsigned out, order;
	bool tracking;
	struct slot slot[SLOTS];
};

/* An address: mostly RAM, near borders often enough. */
static uint64_t take_gpa(struct input *in)
{
	uint64_t v = take(in, 2);

	switch (take(in, 1) % 8) {
	case 0:
		return LOW + MIDDLE - 1 - v % 64;
	case 1:
		return LOW - 32 + v % 64;
	case 2:
		return HIGH_AT + v % HIGH;
	case 3:
		return HIGH_AT + HIGH - 32 + v % 64;
	case 4:
		return take(in, 8);
	default:
		return v;
	}
}

static void check_segments(const struct bench *b, const struct virtqueue_cursor *c)
{
	size_t sum = 0;

	for (unsigned i = 0; i < c->n; i++) {
		const uint8_t *host = c->iov[i].iov_base;
		size_t len = c->iov[i].iov_len;
		bool found = false;

		CHECK(len > 0);
		for (unsigned r = 0; r < b->mem.nregions; r++) {
			const struct gmem_region *region = &b->mem.regions[r];

			if (host >= region->host && host < region->host + region->size)
				found = len <= (size_t)(region->host + region->size - host);
		}
		CHECK(found);
		sum += len;
	}
	CHECK(sum == c->left);
}

static void pop(struct bench *b)
{
	struct virtqueue *vq = &b->vq;
	bool dead = vq->broken != NULL, empty = virtqueue_empty(vq);
	struct slot *slot = b->slot;
	int r;

	while (slot->used)
		slot++; /* one is free: no more than MAX_SIZE are out */
	r = virtqueue_pop(vq, &slot->chain, slot->iov);
	CHECK(r <= 0 || !dead);
	CHECK((r == 0) == (empty && !dead));
	CHECK((r < 0) == (vq->broken != NULL));
	if (r <= 0)
		return;
	slot->used = true;
	slot->order = ++b->order;
	b->out++;
	CHECK(vq->started);
	CHECK(b->out <= vq->size);
	CHECK(slot->chain.head < vq->size);
	CHECK(slot->chain.readable.n + slot->chain.writable.n <= VIRTQUEUE_IOV((unsigned)vq->size));
	CHECK(slot->chain.readable.left + slot->chain.writable.left <= UINT32_MAX);
	CHECK(slot->chain.readable.done == 0 && slot->chain.writable.done == 0);
	check_segments(b, &slot->chain.readable);
	check_segments(b, &slot->chain.writable);
}

static struct slot *pick(struct bench *b, unsigned n)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (b->slot[(n + i) % SLOTS].used)
			return &b->slot[(n + i) % SLOTS];
	}
	return NULL;
}

/* Is any page dirty? Clears them. */
static bool fetch(struct bench *b)
{
	bool any = false;

	for (unsigned r = 0; r < b->mem.nregions; r++) {
		uint64_t bits[4];

		gmem_dirty_fetch(&b->mem, r, bits);
		for (uint64_t w = 0; w < (b->mem.regions[r].size / GMEM_PAGE_SIZE + 63) / 64; w++)
			any = any || bits[w] != 0;
	}
	return any;
}

static void move(struct bench *b, struct virtqueue_cursor *c, unsigned how, size_t len)
{
	static uint8_t buf[4096];
	size_t left = c->left, done = c->done, n = 0, want = len < left ? len : left;
	struct iovec iov[VIRTQUEUE_IOV(MAX_SIZE)];
	struct virtqueue_cursor tail;
	unsigned max = 1 + (unsigned)(len % 5), segments;

	(void)fetch(b);
	switch (how % 6) {
	case 0:
		n = virtqueue_read(c, buf, len % sizeof(buf));
		want = len % sizeof(buf) < left ? len % sizeof(buf) : left;
		break;
	case 1:
		n = virtqueue_write(c, buf, len % sizeof(buf));
		want = len % sizeof(buf) < left ? len % sizeof(buf) : left;
		break;
	case 2:
		n = virtqueue_zero(c, len);
		break;
	case 3:
		n = virtqueue_skip(c, len);
		break;
	case 4:
		segments = virtqueue_segments(c, len, iov, max);
		CHECK(segments <= max);
		for (unsigned i = 0; i < segments; i++)
			n += iov[i].iov_len;
		CHECK(segments == 0 || n == want);
		n = want = 0;
		break;
	default:
		virtqueue_split_tail(c, len, &tail, iov);
		CHECK(tail.left == want && tail.done == 0 && c->left == left - want);
		check_segments(b, c);
		check_segments(b, &tail);
		CHECK(virtqueue_zero(&tail, SIZE_MAX) == want && tail.n == 0);
		left -= want;
		n = want = 0;
		break;
	}
	CHECK(n == want && c->left == left - n && c->done == done + n);
	if (n > 0)
		CHECK(fetch(b) == (b->tracking && c->mem != NULL));
	check_segments(b, c);
}

static void forget(struct bench *b)
{
	for (unsigned i = 0; i < SLOTS; i++)
		b->slot[i].used = false;
	b->out = 0;
}

static void write_guest(struct bench *b, uint64_t gpa, const void *data, size_t len)
{
	(void)gmem_write(&b->mem, gpa, data, len);
}

static void start(struct bench *b, struct input *in, bool resume)
{
	struct virtqueue *vq = &b->vq;
	uint8_t flags = (uint8_t)take(in, 1), size = (uint8_t)take(in, 1);
	uint64_t features = (uint64_t)(flags & 3) << VIRTIO_RING_F_INDIRECT_DESC;
	int r;

	if (!resume) {
		virtqueue_reset(vq);
		forget(b);
	}
	vq->size = (size & 0x80) != 0 ? size & 0x7f : 1U << size % 5;
	vq->desc = (flags & 4) != 0 ? take(in, 8) : 0x1000;
	vq->driver = (flags & 4) != 0 ? take(in, 8) : 0x2000;
	vq->device = (flags & 4) != 0 ? take(in, 8) : 0x3000;
	if ((uint16_t)(vq->next_avail - vq->next_used) > vq->size)
		vq->next_avail = vq->next_used; /* virtio_state() does not let it in */
	forget(b);
	vq->next_used = vq->next_avail;
	r = virtqueue_start(vq, &b->mem, features, resume);
	CHECK((r == 0) == vq->started && (r < 0) == (vq->broken != NULL));
	if (r == 0)
		CHECK(vq->size <= MAX_SIZE && (vq->size & (vq->size - 1)) == 0);
}

static void operate(struct bench *b, struct input *in)
{
	struct virtqueue *vq = &b->vq;
	struct vring_desc desc;
	struct slot *slot;
	uint8_t bytes[32];
	uint16_t idx;
	uint64_t gpa;

	switch (take(in, 1) % 13) {
	case 0: /* a descriptor in the table */
		gpa = vq->desc + sizeof(desc) * take(in, 1);
		goto descriptor;
	case 1: /* or somewhere */
		gpa = take_gpa(in);
descriptor:
		desc.addr = take_gpa(in);
		desc.flags = (uint16_t)take(in, 1);
		desc.next = (uint16_t)take(in, 1);
		desc.len = (uint32_t)take(in, (desc.flags & 0x80) != 0 ? 4 : 2);
		desc.flags &= 0x0f;
		write_guest(b, gpa, &desc, sizeof(desc));
		break;
	case 2: /* available */
		idx = (uint16_t)take(in, 1);
		if (gmem_read(&b->mem, vq->driver + 2, &gpa, 2) == 0 && vq->size > 0) {
			uint16_t at = (uint16_t)gpa;

			write_guest(b, vq->driver + 4 + 2 * (at & (vq->size - 1)), &idx, 2);
			at++;
			write_guest(b, vq->driver + 2, &at, 2);
		}
		break;
	case 3: /* flags, index, entries, event: any */
		idx = (uint16_t)take(in, 2);
		write_guest(b, vq->driver + 2 * take(in, 1), &idx, 2);
		break;
	case 4:
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)take(in, 1);
		write_guest(b, take_gpa(in), bytes, sizeof(bytes));
		break;
	case 5:
	case 6:
		pop(b);
		break;
	case 7:
		slot = pick(b, (unsigned)take(in, 1));
		if (slot == NULL)
			break;
		virtqueue_put(vq, slot->chain.head, (uint32_t)slot->chain.writable.done);
		slot->used = false;
		b->out--;
		break;
	case 8:
		virtqueue_publish(vq);
		if (virtqueue_wants_interrupt(vq))
			CHECK(!virtqueue_wants_interrupt(vq));
		break;
	case 9: /* the last one back, if it is still out */
		for (slot = b->slot; slot < b->slot + SLOTS; slot++) {
			if (!slot->used || slot->order != b->order)
				continue;
			virtqueue_unpop(vq, 1);
			slot->used = false;
			b->out--;
			b->order--;
			break;
		}
		break;
	case 10:
		slot = pick(b, (unsigned)take(in, 1));
		idx = (uint16_t)take(in, 1);
		if (slot != NULL)
			move(b, idx & 0x80 ? &slot->chain.readable : &slot->chain.writable,
			     idx & 0x7f, take(in, 2));
		break;
	case 11:
		if ((take(in, 1) & 1) != 0) {
			virtqueue_disable_kicks(vq);
		} else {
			bool more = virtqueue_enable_kicks(vq);

			CHECK(more == !virtqueue_empty(vq));
		}
		break;
	default:
		start(b, in, (take(in, 1) & 1) != 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bench b;
	struct input in = { .data = data, .left = size };
	struct gmem_config cfg = { .size = LOW + MIDDLE + HIGH };
	struct err err = ERR_INIT;

	memset(&b, 0, sizeof(b));
	CHECK(gmem_init(&b.mem, &cfg, &err) == 0);
	CHECK(gmem_add_region(&b.mem, 0, LOW, &err) == 0);
	CHECK(gmem_add_region(&b.mem, LOW, MIDDLE, &err) == 0);
	CHECK(gmem_add_region(&b.mem, HIGH_AT, HIGH, &err) == 0);
	b.vq.max_size = MAX_SIZE;
	b.tracking = (take(&in, 1) & 1) != 0;
	CHECK(!b.tracking || gmem_dirty_start(&b.mem, &err) == 0);
	start(&b, &in, false);
	while (in.left > 0)
		operate(&b, &in);
	gmem_fini(&b.mem);
	return 0;
}
