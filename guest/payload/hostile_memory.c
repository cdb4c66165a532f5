// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks on balloon and pmem, by way of requests: Virtual I/O Device (VIRTIO) 1.2, 5.5 and 5.19.
 * See hostile.c.
 */
#include "hostile.h"

#define ALL (~0ull)

/* Wait for all that was added, or for the device to give up. */
static void wait_all(struct vq *vq)
{
	while (vq->seen != vq->added && vq_wait(vq, NULL, 2000000) >= 0 &&
	       (virtio_status(vq->vdev) & STATUS_NEEDS_RESET) == 0)
		;
}

/* Numbers of pages: of the victim, of nothing, the same again and again, in all orders. */
static void balloon_pages(struct vdev *v)
{
	uint32_t own = (uint32_t)((uintptr_t)victim >> 12), pages = VICTIM_SIZE / 4096;
	uint32_t *pfn = (uint32_t *)victim;

	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		/* In several pieces, some of them longer than a pass; those numbers that are pages of
		 * the victim vanish while they are read. Odd lengths make other numbers of them, hence
		 * not where that could be a page of ours. */
		uint32_t len = i % 6 == 0 || i % 6 == 4 ? 65536 : 1024;
		struct vbuf b[4] = { { victim, len }, { victim, i % 6 == 4 ? 1027 : 1024 },
				     { victim, 2048 }, { victim, len } };
		struct vq vq;

		if (!alive(v, 0, 0, &vq))
			return;
		for (unsigned k = 0; k < 16384; k++) {
			switch (i % 6) {
			case 0:
				pfn[k] = own + k % pages;
				break;
			case 1:
				pfn[k] = own + pages - 1 - k % pages;
				break;
			case 2:
				pfn[k] = own + rnd_below(pages);
				break;
			case 3:
				pfn[k] = (uint32_t)(ram_end >> 12) + rnd_below(100000);
				break;
			case 4:
				pfn[k] = ~0u - rnd_below(4);
				break;
			default:
				pfn[k] = own + 17;
			}
		}
		vq_add(&vq, b, 1 + i % 4, 0);
		vq_kick(&vq);
		wait_all(&vq);
		ram_release(mark);
	}
}

/* Free memory that is its own rings, the same many times over, of all sizes; without a round. */
static void balloon_free(struct vdev *v)
{
	for (unsigned i = 0; i < rounds(); i++) {
		uint64_t features = i % 2 ? F_BALLOON_REPORT : F_BALLOON_REPORT | F_BALLOON_HINT;
		uintptr_t mark = ram_mark();
		struct vbuf b[60];
		struct vq vq;

		if (!alive(v, features, i % 2 ? 2 : 2 + i / 2 % 2, &vq))
			return;
		/* 60 MiB in all, or a few odd pieces */
		for (unsigned k = 0; k < 60; k++)
			b[k] = i % 5 == 0 ? (struct vbuf){ victim, VICTIM_SIZE } :
					    (struct vbuf){ victim + rnd_below(VICTIM_SIZE / 2),
							   k < 10 ? rnd_below(VICTIM_SIZE / 2) : 1 };
		if (i % 7 == 0)
			b[3] = (struct vbuf){ (void *)((uintptr_t)vq.desc & ~4095ul), 4096 };
		vq_add(&vq, b, 0, 60);
		vq_kick(&vq);
		if (i % 3 == 0)
			wait_all(&vq);
		ram_release(mark);
	}
}

static void balloon_commands(struct vdev *v)
{
	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, F_BALLOON_HINT, 2, &vq))
			return;
		for (unsigned k = 0; k < 20; k++) {
			struct vbuf b[2] = { { victim + 16 * k, i % 9 == 0 ? rnd_below(5) : 4 },
					     { victim + 65536, 65536 } };

			*(uint32_t *)(victim + 16 * k) =
				i % 2 ? rnd_below(4) : (uint32_t)virtio_config(v, 8, 4);
			vq_add(&vq, b, 1, k & 1);
			vq_kick(&vq);
		}
		settle(&vq);
		ram_release(mark);
	}
}

/* Statistics: too many, too few, buffers nobody asked for. */
static void balloon_stats(struct vdev *v)
{
	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, F_BALLOON_STATS, 2, &vq))
			return;
		for (unsigned k = 0; k < 4096; k += 8)
			*(uint64_t *)(victim + k) = i % 2 ? rnd() : rnd_below(20);
		for (unsigned k = 0; k < 30; k++) {
			struct vbuf b = { victim, i % 3 == 0 ? VICTIM_SIZE : rnd_below(300) };

			vq_add(&vq, &b, k % 4 != 3, k % 4 == 3);
			vq_kick(&vq);
		}
		settle(&vq);
		ram_release(mark);
	}
}

/* --- Persistent memory: 5.19 --- */

static void pmem_requests(struct vdev *v)
{
	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, ALL, 0, &vq))
			return;
		for (unsigned k = 0; k < 30; k++) {
			struct vbuf b[2] = { { victim + 64 * k, 4 }, { victim + 64 * k + 32, 4 } };

			*(uint32_t *)(victim + 64 * k) = i % 3 == 0 ? (uint32_t)rnd() : 0;
			if (i % 4 == 1)
				b[k % 2].len = rnd_below(9);
			if (i % 8 == 2 && k == 29)
				vq_add(&vq, b, k % 2 * 2, 2 - k % 2 * 2);
			else
				vq_add(&vq, b, 1, 1);
			if (i % 2)
				vq_kick(&vq);
		}
		vq_kick(&vq);
		/* Now and then a reset with flushes under way */
		if (i % 5 != 0)
			settle(&vq);
		ram_release(mark);
	}
}

/* Rings and requests in the file. */
static void pmem_inside(struct vdev *v)
{
	uint64_t start = virtio_config(v, 0, 8), size = virtio_config(v, 8, 8);

	for (unsigned i = 0; i < 12; i++) {
		uintptr_t mark = ram_mark();
		uint64_t at[] = { start, start + size - 4096, start + size - 16, start + size };
		struct vq vq;

		if (!virtio_begin(v, ALL) || !virtio_queue(v, 0, QUEUE_SIZE, &vq))
			return;
		virtio_begin(v, ALL);
		virtio_queue_set(v, 0, QUEUE_SIZE, i / 4 == 0 ? at[i % 4] : (uintptr_t)vq.desc,
				 i / 4 == 1 ? at[i % 4] : (uintptr_t)vq.avail,
				 i / 4 == 2 ? at[i % 4] : (uintptr_t)vq.used);
		virtio_go(v);
		put_desc(&vq.desc[0], at[i % 4], 4, DESC_NEXT, 1);
		put_desc(&vq.desc[1], at[(i + 1) % 4], 4, DESC_WRITE, 0);
		offer(&vq, 0);
		settle(&vq);
		ram_release(mark);
	}
}

const struct attack memory_attacks[] = {
	{ "balloon-pages", balloon_pages, VIRTIO_BALLOON, false },
	{ "balloon-free", balloon_free, VIRTIO_BALLOON, false },
	{ "balloon-commands", balloon_commands, VIRTIO_BALLOON, false },
	{ "balloon-stats", balloon_stats, VIRTIO_BALLOON, false },
	{ "pmem-requests", pmem_requests, VIRTIO_PMEM, false },
	{ "pmem-inside", pmem_inside, VIRTIO_PMEM, false },
	{ 0 },
};
