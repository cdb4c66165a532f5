// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks by way of requests whose descriptors are right: Virtual I/O Device (VIRTIO) 1.2,
 * chapter 5. See hostile.c.
 */
#include "hostile.h"

#define ALL (~0ull)

/* --- Disks: 5.2 --- */

/* A request made of @n pieces, with header @h. */
static void blk_request(struct vdev *v, const struct blk_header *h, const struct vbuf *b,
			unsigned out, unsigned in)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	if (alive(v, ALL, 0, &vq)) {
		*(struct blk_header *)victim = *h;
		vq_add(&vq, b, out, in);
		vq_kick(&vq);
		settle(&vq);
	}
	ram_release(mark);
}

static void blk_types(struct vdev *v)
{
	uint8_t *data = victim + 4096;
	struct vbuf b[3] = { { victim, 16 }, { data, 4096 }, { victim + 64, 1 } };

	for (unsigned type = 0; type < 40; type++) {
		struct blk_header h = { .type = type < 32 ? type : (uint32_t)rnd() };

		memset(data, (int)rnd(), 4096);
		blk_request(v, &h, b, 1, 2);
		blk_request(v, &h, b, 2, 1);
	}
}

static void blk_sectors(struct vdev *v)
{
	static const uint64_t sector[] = { 1ull << 31, 1ull << 32, 1ull << 54, (1ull << 55) - 1,
					   1ull << 55, 1ull << 62, 1ull << 63, ~0ull - 7,  ~0ull };
	struct vbuf b[3] = { { victim, 16 }, { victim + 4096, 4096 }, { victim + 64, 1 } };
	uint64_t capacity = virtio_config(v, 0, 8);

	for (unsigned i = 0; i < 2 * (ARRAY_SIZE(sector) + 9); i++) {
		struct blk_header h = { .type = i % 2 };

		h.sector = i / 2 < 9 ? capacity + 1 - i / 2 : sector[i / 2 - 9];
		blk_request(v, &h, b, i % 2 ? 2 : 1, i % 2 ? 1 : 2);
	}
}

static void blk_shapes(struct vdev *v)
{
	struct blk_header h = { .type = BLK_IN };
	struct vbuf piece[60];

	for (unsigned i = 0; i < 48; i++) {
		struct vbuf b[3] = { { victim, 16 }, { victim + 4096, 512 }, { victim + 64, 1 } };

		h.type = i % 2 ? BLK_OUT : BLK_IN;
		if (i < 36)
			b[i / 2 % 3].len = (i / 6) * 511 % 1500; /* 0, 511, 1022 .. */
		blk_request(v, &h, b, i % 2 ? 2 : 1, i % 2 ? 1 : 2);
		blk_request(v, &h, b, 1, 1); /* no data */
		blk_request(v, &h, b, 1, 0); /* no status */
		blk_request(v, &h, b + 2, 0, 1); /* no header */
		blk_request(v, &h, b, 0, 3);
		blk_request(v, &h, b, 3, 0);
	}
	/* Header, data and status in pieces of one byte, or with empty ones in between. */
	for (unsigned i = 0; i < 60; i++)
		piece[i] = (struct vbuf){ victim + i, 1 };
	h.type = BLK_IN;
	blk_request(v, &h, piece, 16, 1);
	blk_request(v, &h, piece, 16, 44);
	blk_request(v, &h, piece, 15, 45);
	for (unsigned i = 16; i < 59; i++)
		piece[i] = (struct vbuf){ victim + 4096 + 32 * i, 32 };
	piece[50].len = 0;
	blk_request(v, &h, piece, 16, 33);
	h.type = BLK_OUT;
	blk_request(v, &h, piece, 59, 1);
	blk_request(v, &h, piece, 48, 1);
}

/* Discard, write zeroes, secure erase: ranges of all kinds */
static void blk_ranges(struct vdev *v)
{
	static const uint32_t type[] = { 11, 13, 14 };
	uint8_t *data = victim + 4096;
	struct vbuf b[3] = { { victim, 16 }, { data, 16 }, { victim + 64, 1 } };

	for (unsigned i = 0; i < 120; i++) {
		struct blk_header h = { .type = type[i % 3], .sector = i % 5 == 0 ? rnd() : 0 };

		for (unsigned k = 0; k < 512; k += 8)
			*(uint64_t *)(data + k) = i % 4 == 0 ? rnd() : k % 16 == 0 ? rnd_below(1 << 15) :
								       rnd_below(1 << 12);
		b[1].len = i % 7 == 0 ? rnd_below(4096) : 16 * rnd_below(i % 2 ? 2 : 256);
		blk_request(v, &h, b, 2, 1);
	}
}

/* As many requests as fit, many times: all of them one after the other over the same memory. */
static void blk_flood(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	struct blk_header *h = (void *)victim;
	struct vq vq;

	if (!alive(v, ALL, 0, &vq))
		return;
	for (unsigned i = 0; i < 20 * rounds(); i++) {
		struct vbuf b[3] = { { &h[i % 64], 16 }, { victim + 8192, 65536 }, { victim + 4096, 1 } };

		h[i % 64] = (struct blk_header){ .type = i % 2, .sector = rnd_below(1 << 13) };
		if (vq.nfree < 3 && vq_wait(&vq, NULL, 5000000) < 0)
			break;
		while (vq_get(&vq, NULL) >= 0)
			;
		vq_add(&vq, b, i % 2 ? 2 : 1, i % 2 ? 1 : 2);
		vq_kick(&vq);
	}
	ram_release(mark);
}

/* --- Network: 5.1 --- */

static void net_send(struct vdev *v, uint64_t features, unsigned q, const struct vbuf *b,
		     unsigned out, unsigned in)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	if (alive(v, features, q, &vq)) {
		vq_add(&vq, b, out, in);
		vq_kick(&vq);
		settle(&vq);
	}
	ram_release(mark);
}

static void net_packets(struct vdev *v)
{
	static const uint32_t len[] = { 0, 1, 10, 11, 12, 13, 25, 26, 71, 72, 1526, 1527, 9000, 65535,
					65536, 65550, 65562, 131072, 1 << 20 };
	struct vbuf piece[60];

	memset(victim, 0, VICTIM_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(len); i++) {
		struct vbuf b[2] = { { victim, len[i] }, { victim + 65536, 16 } };

		net_send(v, ALL, 1, b, 1, 0);
		net_send(v, 0, 1, b, 1, 0);
		net_send(v, ALL, 1, b, 1, 1);
		net_send(v, ALL, 0, b, 0, 1);
		net_send(v, ALL, 0, b, 1, 1);
	}
	for (unsigned i = 0; i < 60; i++)
		piece[i] = (struct vbuf){ victim + i, 1 };
	net_send(v, ALL, 1, piece, 60, 0);
	net_send(v, ALL, 1, piece, 11, 0);
	net_send(v, ALL, 0, piece, 0, 60);
	for (unsigned i = 0; i < 60; i++)
		piece[i] = (struct vbuf){ victim, 65536 };
	net_send(v, ALL, 1, piece, 60, 0);
}

/* Offload headers that are not true. */
static void net_headers(struct vdev *v)
{
	struct net_header *h = (void *)victim;

	for (unsigned i = 0; i < rounds(); i++) {
		uint32_t len = i % 3 == 0 ? rnd_below(200) : rnd_below(70000);
		struct vbuf b[1] = { { victim, (uint32_t)sizeof(*h) + len } };

		for (unsigned k = 0; k < 128; k += 8)
			*(uint64_t *)(victim + k) = rnd();
		if (i % 2 == 0) {
			/* Nearly right: IPv4, TCP */
			memset(victim, 0, 128);
			victim[12 + 12] = 8;
			victim[12 + 14] = 0x45;
			victim[12 + 23] = 6;
			*h = (struct net_header){ .flags = rnd() & 1, .gso_type = (uint8_t)(rnd() & 0x85),
						  .hdr_len = (uint16_t)rnd_below(100),
						  .gso_size = (uint16_t)(i % 8 == 0 ? 0 : rnd_below(3000)),
						  .csum_start = (uint16_t)(i % 4 == 0 ? 34 : rnd()),
						  .csum_offset = (uint16_t)(i % 4 == 0 ? 16 : rnd()) };
		}
		net_send(v, i % 5 == 0 ? 0 : ALL, 1, b, 1, 0);
	}
}

static void net_control(struct vdev *v)
{
	unsigned q = v->queues - 1;

	if (v->queues % 2 == 0)
		return; /* no control queue */
	for (unsigned i = 0; i < rounds(); i++) {
		uint32_t len = i % 4 == 0 ? rnd_below(4096) : rnd_below(16);
		struct vbuf b[3] = { { victim, 2 }, { victim + 16, len }, { victim + 8192, 1 } };

		for (unsigned k = 0; k < 4096; k += 8)
			*(uint64_t *)(victim + 16 + k) = i % 3 == 0 ? rnd() : rnd_below(5);
		victim[0] = (uint8_t)(i % 8 == 7 ? rnd() : i % 8);
		victim[1] = (uint8_t)rnd_below(6);
		b[0].len = i % 16 == 0 ? rnd_below(3) : 2;
		b[2].len = i % 16 == 1 ? 0 : 1;
		if (i % 32 == 2)
			net_send(v, ALL, q, b, 2, 0);
		else
			net_send(v, ALL, q, b, 2, 1);
	}
}

/* --- Console: 5.3 --- */

static void console_control(struct vdev *v)
{
	for (unsigned i = 0; i < rounds() / 2; i++) {
		uintptr_t mark = ram_mark();
		struct vq in, out;

		if (!virtio_begin(v, ALL) || !virtio_queue(v, 2, QUEUE_SIZE, &in) ||
		    !virtio_queue(v, 3, QUEUE_SIZE, &out))
			return;
		virtio_go(v);
		for (unsigned k = 0; k < (i % 4 == 0 ? 0 : 20); k++) {
			struct vbuf b = { victim + 4096 + 64 * k, i % 5 == 0 ? rnd_below(9) : 64 };

			vq_add(&in, &b, 0, 1);
		}
		vq_kick(&in);
		for (unsigned k = 0; k < 30; k++) {
			uint8_t *message = victim + 16 * k;
			struct vbuf b = { message, i % 6 == 0 ? rnd_below(70) : 8 };
			uint16_t event = (uint16_t)(i % 7 == 0 ? rnd() : rnd_below(9));

			*(uint32_t *)message = i % 3 == 0 ? (uint32_t)rnd() : rnd_below(4);
			*(uint16_t *)(message + 4) = k == 0 && i % 2 == 0 ? 0 : event;
			*(uint16_t *)(message + 6) = (uint16_t)(i % 5 == 0 ? rnd() : rnd() & 1);
			vq_add(&out, &b, 1, 0);
		}
		vq_kick(&out);
		settle(&out);
		ram_release(mark);
	}
}

/* Much output, in pieces of all sizes. */
static void console_flood(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	if (!alive(v, 0, 1, &vq))
		return;
	memset(victim, 'x', VICTIM_SIZE);
	for (unsigned i = 0; i < 4 * rounds(); i++) {
		struct vbuf b = { victim, i % 10 == 0 ? 65536 : rnd_below(300) };

		if (vq.nfree == 0 && vq_wait(&vq, NULL, 5000000) < 0)
			break;
		while (vq_get(&vq, NULL) >= 0)
			;
		vq_add(&vq, &b, 1, 0);
		vq_kick(&vq);
	}
	ram_release(mark);
}

/* --- Random numbers: 5.4 --- */

static void rng_requests(struct vdev *v)
{
	static const uint32_t len[] = { 0, 1, 255, 256, 257, 4096, 65536, VICTIM_SIZE };

	for (unsigned i = 0; i < 4 * ARRAY_SIZE(len); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, ALL, 0, &vq))
			continue;
		for (unsigned k = 0; k < 40; k++) {
			struct vbuf b = { victim, len[i % ARRAY_SIZE(len)] };

			vq_add(&vq, &b, i / 8 == 0, i / 8 != 0);
			if (i / 8 < 3)
				vq_kick(&vq);
		}
		vq_kick(&vq);
		settle(&vq);
		ram_release(mark);
	}
}

const struct attack device_attacks[] = {
	{ "blk-types", blk_types, VIRTIO_BLK, false },
	{ "blk-sectors", blk_sectors, VIRTIO_BLK, false },
	{ "blk-shapes", blk_shapes, VIRTIO_BLK, false },
	{ "blk-ranges", blk_ranges, VIRTIO_BLK, false },
	{ "blk-flood", blk_flood, VIRTIO_BLK, false },
	{ "net-packets", net_packets, VIRTIO_NET, false },
	{ "net-headers", net_headers, VIRTIO_NET, false },
	{ "net-control", net_control, VIRTIO_NET, false },
	{ "console-control", console_control, VIRTIO_CONSOLE, false },
	{ "console-flood", console_flood, VIRTIO_CONSOLE, false },
	{ "rng-requests", rng_requests, VIRTIO_RNG, false },
	{ 0 },
};
