// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks by way of rings and descriptors: Virtual I/O Device (VIRTIO) 1.2, 2.7. See hostile.c.
 */
#include "hostile.h"

#define ALL (~0ull & ~F_CONSOLE_MULTI)

/* For every queue of the device, @attack with a queue that is alive. */
static void each_queue(struct vdev *v, uint64_t features, void (*attack)(struct vq *vq))
{
	for (unsigned q = 0; q < v->queues && q < 4; q++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (alive(v, features, q, &vq))
			attack(&vq);
		ram_release(mark);
	}
}

/* --- Where the rings are --- */

static void rings_misplaced(struct vdev *v)
{
	for (unsigned i = 0; i < 3 * (BAD_ADDRESSES + 4); i++) {
		uintptr_t mark = ram_mark();
		uint64_t ring[3];
		struct vq vq;
		unsigned n = i / 3, q = i % v->queues;

		if (!virtio_begin(v, ALL) || !virtio_queue(v, q, QUEUE_SIZE, &vq))
			continue;
		/* Again, with one ring somewhere bad or not aligned; and not enabled before. */
		virtio_begin(v, ALL);
		ring[0] = (uintptr_t)vq.desc;
		ring[1] = (uintptr_t)vq.avail;
		ring[2] = (uintptr_t)vq.used;
		if (n < BAD_ADDRESSES)
			ring[i % 3] = nth_bad_address(n);
		else if (n < BAD_ADDRESSES + 3)
			ring[i % 3] += 1u << (n - BAD_ADDRESSES);
		else
			ring[0] = ring[1] = ring[2] = 0;
		virtio_queue_set(v, q, QUEUE_SIZE, ring[0], ring[1], ring[2]);
		virtio_go(v);
		offer_good(&vq);
		settle(&vq);
		ram_release(mark);
	}
}

/* All three in the same place: the used ring is written over what is read. */
static void rings_overlap(struct vdev *v)
{
	for (unsigned q = 0; q < v->queues && q < 4; q++) {
		struct vq vq;

		if (!virtio_begin(v, ALL) || !virtio_queue(v, q, QUEUE_SIZE, &vq))
			continue;
		virtio_begin(v, ALL);
		virtio_queue_set(v, q, QUEUE_SIZE, (uintptr_t)vq.desc, (uintptr_t)vq.desc,
				 (uintptr_t)vq.desc);
		virtio_go(v);
		for (unsigned i = 0; i < 16 * QUEUE_SIZE; i++)
			((volatile uint8_t *)vq.desc)[i] = (uint8_t)rnd();
		virtio_notify(&vq);
		settle(&vq);
	}
}

/* A queue whose buffers are its own rings. */
static void ring_in_buffer(struct vq *vq)
{
	put_desc(&vq->desc[0], (uintptr_t)vq->desc, 16u * vq->size, 0, 0);
	put_desc(&vq->desc[1], (uintptr_t)vq->desc, 16u * vq->size, DESC_WRITE, 0);
	put_desc(&vq->desc[2], (uintptr_t)vq->avail, 6u + 2u * vq->size, DESC_WRITE, 0);
	put_desc(&vq->desc[3], (uintptr_t)vq->used, 6u + 8u * vq->size, DESC_WRITE, 0);
	for (uint16_t i = 0; i < 4; i++) {
		offer(vq, i);
		settle(vq);
	}
}

static void buffer_is_ring(struct vdev *v)
{
	each_queue(v, ALL, ring_in_buffer);
}

/* --- Chains --- */

static void loop_of(struct vq *vq, uint16_t n, uint16_t flags)
{
	for (uint16_t i = 0; i < n; i++)
		put_desc(&vq->desc[i], (uintptr_t)victim, 16, flags | DESC_NEXT, (i + 1) % n);
	offer(vq, 0);
	settle(vq);
}

static void loops(struct vdev *v)
{
	static const uint16_t length[] = { 1, 2, 3, QUEUE_SIZE };

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(length); i++) {
		for (unsigned q = 0; q < v->queues && q < 4; q++) {
			uintptr_t mark = ram_mark();
			struct vq vq;

			if (alive(v, ALL, q, &vq))
				loop_of(&vq, length[i / 2], i % 2 != 0 ? DESC_WRITE : 0);
			ram_release(mark);
		}
	}
}

/* The longest chain there can be; one that leaves the table; wrong order; unknown flags. */
static void bad_chains(struct vdev *v)
{
	for (unsigned i = 0; i < 8 * v->queues; i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;
		struct vdesc *d;

		if (!alive(v, i % 16 < 8 ? ALL : 0, i / 8, &vq))
			continue;
		d = vq.desc;
		switch (i % 8) {
		case 0: /* of full length: right */
			for (uint16_t k = 0; k < vq.size; k++)
				put_desc(&d[k], (uintptr_t)victim, 1,
					 k + 1 < vq.size ? DESC_NEXT : DESC_WRITE, k + 1);
			break;
		case 1:
			put_desc(&d[0], (uintptr_t)victim, 16, DESC_NEXT, vq.size);
			break;
		case 2:
			put_desc(&d[0], (uintptr_t)victim, 16, DESC_NEXT, 0xffff);
			break;
		case 3: /* readable behind writable */
			put_desc(&d[0], (uintptr_t)victim, 16, DESC_NEXT | DESC_WRITE, 1);
			put_desc(&d[1], (uintptr_t)victim, 16, 0, 0);
			break;
		case 4:
			put_desc(&d[0], (uintptr_t)victim, 16, 0xfff8, 0);
			break;
		case 5:
			put_desc(&d[0], (uintptr_t)victim, 16, 0xffff, 0xffff);
			break;
		case 6: /* nothing but empty buffers */
			put_desc(&d[0], (uintptr_t)victim, 0, DESC_NEXT, 1);
			put_desc(&d[1], (uintptr_t)victim, 0, DESC_WRITE, 0);
			break;
		case 7: /* only device-writable where readable is due, and the other way round */
			put_desc(&d[0], (uintptr_t)victim, 4096,
				 (vq.index & 1) != 0 ? DESC_WRITE : 0, 0);
			break;
		}
		offer(&vq, 0);
		settle(&vq);
		ram_release(mark);
	}
}

static void lengths(struct vdev *v)
{
	static const uint32_t len[] = { 0,	    1,		0x7fffffff, 0x80000000,
					0xfffff000, 0xffffffff, 1u << 20,   0x10000 };

	for (unsigned i = 0; i < ARRAY_SIZE(len) * 4 * v->queues; i++) {
		unsigned q = i / (ARRAY_SIZE(len) * 4), where = i / ARRAY_SIZE(len) % 4;
		uintptr_t mark = ram_mark();
		uint64_t addr = where == 0 ? (uintptr_t)victim : bad_address();
		uint16_t write = where % 2 != 0 ? DESC_WRITE : 0;
		struct vq vq;

		if (!alive(v, ALL, q, &vq))
			continue;
		/* As the first, the middle and the last part of a request that begins well. */
		offer_good(&vq);
		settle(&vq);
		vq.desc[i % 3].addr = addr;
		vq.desc[i % 3].len = len[i % ARRAY_SIZE(len)];
		if (where == 3)
			vq.desc[i % 3].flags ^= write;
		offer(&vq, 0);
		settle(&vq);
		/* All of the table: the sum is beyond 32 bits. */
		if (alive(v, ALL, q, &vq)) {
			for (uint16_t k = 0; k < vq.size; k++)
				put_desc(&vq.desc[k], addr, len[i % ARRAY_SIZE(len)],
					 write | (k + 1 < vq.size ? DESC_NEXT : 0), k + 1);
			offer(&vq, 0);
			settle(&vq);
		}
		ram_release(mark);
	}
}

/* --- Indirect tables --- */

static void indirect(struct vdev *v)
{
	for (unsigned i = 0; i < 20 * v->queues; i++) {
		uintptr_t mark = ram_mark();
		struct vdesc *t = (struct vdesc *)ram_alloc(65536, 16), *d;
		struct vq vq;
		unsigned n = 4;

		if (!alive(v, i % 20 == 15 ? 0 : ALL, i / 20, &vq))
			continue;
		d = vq.desc;
		for (uint16_t k = 0; k < 4096; k++)
			put_desc(&t[k], (uintptr_t)victim, 16, DESC_NEXT, k + 1);
		put_desc(&d[0], (uintptr_t)t, 64, DESC_INDIRECT, 0);
		t[3].flags = DESC_WRITE;
		switch (i % 20) {
		case 0: /* nested */
			put_desc(&t[0], (uintptr_t)t, 64, DESC_INDIRECT, 0);
			break;
		case 1: /* refers to itself at the end */
			put_desc(&t[3], (uintptr_t)t, 64, DESC_INDIRECT, 0);
			break;
		case 2:
			d[0].len = 63;
			break;
		case 3:
			d[0].len = 0;
			break;
		case 4:
			d[0].len = 0xfffffff0;
			break;
		case 5:
			d[0].len = 0xffffffff;
			break;
		case 6:
			d[0].addr = ram_end - 32;
			break;
		case 7:
			d[0].addr = ~0ull - 31;
			break;
		case 8: /* leaves its table */
			t[1].next = 4;
			break;
		case 9:
			t[1].next = 0;
			break;
		case 10: /* with a successor, which must not be */
			d[0].flags |= DESC_NEXT;
			d[0].next = 1;
			put_desc(&d[1], (uintptr_t)victim, 16, DESC_WRITE, 0);
			break;
		case 11:
			d[0].flags |= DESC_WRITE;
			break;
		case 12: /* longer than the queue */
			d[0].len = 65536;
			t[4095].flags = DESC_WRITE;
			t[3].flags = DESC_NEXT;
			break;
		case 13: /* behind direct ones */
			put_desc(&d[1], (uintptr_t)victim, 16, DESC_NEXT, 0);
			n = 1;
			break;
		case 14:
			d[0].addr = bad_address();
			break;
		case 15: /* not negotiated */
			break;
		case 16: /* the descriptor table itself: it leads back to it */
			d[0].addr = (uintptr_t)d;
			d[0].len = 16;
			break;
		case 17:
			put_desc(&d[0], (uintptr_t)d, 16u * vq.size, DESC_INDIRECT, 1);
			put_desc(&d[1], (uintptr_t)d, 16u * vq.size, DESC_NEXT, 0);
			n = 1;
			break;
		case 18: /* a part of it, and the other rings */
			put_desc(&d[0], (uintptr_t)&d[4], 64, DESC_INDIRECT, 0);
			put_desc(&d[4], (uintptr_t)d, 16, DESC_NEXT, 1);
			put_desc(&d[5], (uintptr_t)d, 16, DESC_INDIRECT, 0);
			break;
		case 19:
			put_desc(&d[0], (uintptr_t)vq.avail & ~15ul, 128, DESC_INDIRECT, 0);
			break;
		}
		offer(&vq, n == 1 ? 1 : 0);
		settle(&vq);
		ram_release(mark);
	}
}

/* --- Indices --- */

static void jump(struct vq *vq)
{
	static const uint16_t step[] = { 65535, 32768, QUEUE_SIZE + 1, 2 * QUEUE_SIZE, 1000 };

	for (unsigned i = 0; i < ARRAY_SIZE(step); i++) {
		struct vq again;

		if (!alive(vq->vdev, i % 2 != 0 ? ALL : 0, vq->index, &again))
			return;
		offer_good(&again);
		settle(&again);
		again.added += step[i] - 1;
		offer(&again, 0);
		settle(&again);
	}
	/* It goes backwards while the device works. */
	if (!alive(vq->vdev, ALL, vq->index, vq))
		return;
	for (unsigned i = 0; i < 100; i++) {
		offer_good(vq);
		vq->added = (uint16_t)rnd();
	}
	settle(vq);
}

static void idx_jumps(struct vdev *v)
{
	each_queue(v, ALL, jump);
}

static void bad_heads(struct vdev *v)
{
	static const uint16_t head[] = { QUEUE_SIZE, QUEUE_SIZE + 1, 256, 32768, 65535 };

	for (unsigned i = 0; i < ARRAY_SIZE(head) * v->queues; i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (alive(v, ALL, i / ARRAY_SIZE(head), &vq)) {
			offer(&vq, head[i % ARRAY_SIZE(head)]);
			settle(&vq);
		}
		ram_release(mark);
	}
}

/* The same chain many times at once; all heads in one ring. */
static void same(struct vq *vq)
{
	offer_good(vq);
	for (unsigned i = 0; i < vq->size; i++)
		vq->avail->ring[i] = 0;
	barrier();
	((volatile struct vavail *)vq->avail)->idx = vq->size;
	fence();
	virtio_notify(vq);
	settle(vq);
	settle(vq);
}

static void same_chain(struct vdev *v)
{
	each_queue(v, ALL, same);
}

/* Flags and event indices of the rings, and the used ring itself, full of rubbish. */
static void rubbish(struct vq *vq)
{
	for (unsigned i = 0; i < 64; i++) {
		vq->avail->flags = (uint16_t)rnd();
		vq->avail->ring[vq->size] = (uint16_t)rnd();
		*(volatile uint16_t *)&vq->used->ring[vq->size] = (uint16_t)rnd();
		vq->used->flags = (uint16_t)rnd();
		vq->used->idx = (uint16_t)rnd();
		offer_good(vq);
		if (i % 16 == 0)
			settle(vq);
	}
}

static void event_rubbish(struct vdev *v)
{
	each_queue(v, ALL, rubbish);
	each_queue(v, 0, rubbish);
}

/* --- Chance --- */

static void random_desc(struct vdesc *d, uint16_t n)
{
	uint64_t dice = rnd();

	d->addr = (dice & 7) == 0 ? bad_address() : (uintptr_t)victim + (dice >> 8 & 0x7ffff);
	d->len = (dice & 0x30) == 0 ? (uint32_t)rnd() : (uint32_t)(dice >> 32 & 0x1fff);
	d->flags = (dice & 0x3c0) == 0 ? (uint16_t)rnd() : (uint16_t)(dice >> 50 & 3);
	d->next = (dice & 0x1c00) == 0 ? (uint16_t)rnd() : (uint16_t)((dice >> 16) % n);
}

static void random_rings(struct vdev *v)
{
	struct vdesc *table = ram_alloc(16 * 64, 16);

	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		unsigned q = rnd_below(v->queues);
		struct vq vq;

		if (!alive(v, rnd() & ALL, q, &vq))
			continue;
		for (unsigned k = 0; k < vq.size; k++) {
			random_desc(&vq.desc[k], vq.size);
			random_desc(&table[k], 64);
			if (rnd_below(8) == 0)
				put_desc(&vq.desc[k], (uintptr_t)table, 16 * rnd_below(65),
					 DESC_INDIRECT, 0);
			vq.avail->ring[k] = (uint16_t)rnd_below(vq.size);
		}
		/* What a block request begins with is not all chance, or it would end there. */
		if (v->id == VIRTIO_BLK) {
			struct blk_header *h = (void *)victim;

			for (unsigned k = 0; k < 4096; k++)
				h[k] = (struct blk_header){ .type = rnd_below(16),
							    .sector = rnd_below(1 << 14) };
		}
		for (unsigned k = 1; k <= 8; k++) {
			((volatile struct vavail *)vq.avail)->idx = (uint16_t)(k * 4);
			fence();
			virtio_notify(&vq);
		}
		settle(&vq);
		ram_release(mark);
	}
}

/* --- The other CPU changes descriptors that the device looks at --- */

static struct {
	struct vq *volatile vq;
	volatile bool busy;
} flip;

void other_cpu(void)
{
	uint64_t state = 88172645463325252, addr = 0;

	for (;;) {
		struct vq *vq = flip.vq;
		volatile struct vdesc *d;

		if (vq == NULL) {
			flip.busy = false;
			__asm__ volatile("pause");
			continue;
		}
		flip.busy = true;
		for (unsigned i = 0; i < 4; i++) {
			uint64_t dice = random_next(&state);

			d = &vq->desc[i];
			addr = (dice & 1) != 0 ? ~0ull - 4095 : (uintptr_t)victim;
			d->addr = addr;
			d->len = (dice & 2) != 0 ? 0xffffffff : 512;
			d->flags = (uint16_t)(dice >> 8 & 7);
			d->next = (uint16_t)((dice & 4) != 0 ? 0xffff : i + 1);
			vq->avail->ring[i] = (uint16_t)((dice & 56) == 0 ? dice >> 16 : dice >> 16 & 3);
		}
	}
}

static void changed(struct vq *vq)
{
	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();

		if (!alive(vq->vdev, ALL, vq->index, vq))
			return;
		if (have_other) {
			flip.vq = vq;
			while (!flip.busy)
				;
		}
		for (unsigned k = 0; k < 32; k++) {
			offer_good(vq);
			if (!have_other) {
				random_desc(&vq->desc[k % 3], vq->size);
				random_desc(&vq->desc[1], vq->size);
			}
		}
		flip.vq = NULL;
		while (flip.busy)
			;
		ram_release(mark);
	}
}

static void changed_in_flight(struct vdev *v)
{
	each_queue(v, ALL, changed);
}

const struct attack ring_attacks[] = {
	{ "rings-misplaced", rings_misplaced, ANY, false },
	{ "rings-overlap", rings_overlap, ANY, false },
	{ "buffer-is-ring", buffer_is_ring, ANY, false },
	{ "loops", loops, ANY, false },
	{ "bad-chains", bad_chains, ANY, false },
	{ "lengths", lengths, ANY, false },
	{ "indirect", indirect, ANY, false },
	{ "idx-jumps", idx_jumps, ANY, false },
	{ "bad-heads", bad_heads, ANY, false },
	{ "same-chain", same_chain, ANY, false },
	{ "event-rubbish", event_rubbish, ANY, false },
	{ "random-rings", random_rings, ANY, false },
	{ "changed-in-flight", changed_in_flight, ANY, false },
	{ 0 },
};
