// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks on the socket device by way of packets: Virtual I/O Device (VIRTIO) 1.2, 5.10. See
 * hostile.c.
 */
#include "hostile.h"

#define ALL (~0ull)

/* A device with receive (if @nrx) and transmit queue. */
static bool vsock_alive(struct vdev *v, unsigned nrx, struct vq *rx, struct vq *tx)
{
	if (!virtio_begin(v, ALL) || !virtio_queue(v, 0, QUEUE_SIZE, rx) ||
	    !virtio_queue(v, 1, QUEUE_SIZE, tx))
		return false;
	virtio_go(v);
	for (unsigned i = 0; i < nrx; i++) {
		struct vbuf b = { victim + 65536 + 4096 * i, 4096 };

		vq_add(rx, &b, 0, 1);
	}
	vq_kick(rx);
	return true;
}

/* Give receive buffers back as they come, and wait for a transmit descriptor or two. */
static bool vsock_room(struct vq *rx, struct vq *tx)
{
	int head;

	while ((head = vq_get(rx, NULL)) >= 0) {
		struct vbuf b = { (void *)(uintptr_t)rx->desc[head].addr, 4096 };

		vq_add(rx, &b, 0, 1);
		vq_kick(rx);
	}
	while (vq_get(tx, NULL) >= 0)
		;
	return tx->nfree >= 2 || vq_wait(tx, NULL, 100000) >= 0;
}

static struct vsock_header vsock_header(struct vdev *v, uint16_t op)
{
	return (struct vsock_header){ .src_cid = virtio_config(v, 0, 8), .dst_cid = VSOCK_HOST,
				      .src_port = rnd_below(300), .dst_port = 1, .type = VSOCK_STREAM,
				      .op = op, .buf_alloc = 65536 };
}

/* Headers right and wrong, one mistake in each or many. */
static void vsock_packets(struct vdev *v)
{
	struct vsock_header *h = (void *)victim;
	struct vq rx, tx;

	for (unsigned i = 0; i < 2 * rounds(); i++) {
		uintptr_t mark = ram_mark();
		uint32_t len = i % 3 == 0 ? rnd_below(70000) : rnd_below(100);
		struct vbuf b[2] = { { victim, sizeof(*h) }, { victim + 4096, len } };

		if (!vsock_alive(v, i % 4 == 0 ? 0 : 8, &rx, &tx))
			return;
		*h = vsock_header(v, (uint16_t)rnd_below(9));
		h->len = len;
		switch (i % 8) {
		case 0:
			h->src_cid = rnd();
			break;
		case 1:
			h->dst_cid = rnd();
			break;
		case 2:
			h->type = (uint16_t)rnd();
			break;
		case 3:
			h->op = (uint16_t)rnd();
			break;
		case 4:
			h->len = (uint32_t)rnd();
			break;
		case 5:
			b[0].len = rnd_below(sizeof(*h));
			break;
		case 6:
			for (unsigned k = 0; k < 48; k += 8)
				*(uint64_t *)(victim + k) = rnd();
			break;
		default:
			h->len = len + 1;
		}
		vq_add(&tx, b, 2, 0);
		vq_kick(&tx);
		settle(&tx);
		ram_release(mark);
	}
}

/* Packets to be answered, and nobody who takes the answers. */
static void vsock_flood(struct vdev *v)
{
	struct vsock_header *h = (void *)victim;
	struct vbuf b = { victim, sizeof(*h) };
	struct vq rx, tx;

	if (!vsock_alive(v, 0, &rx, &tx))
		return;
	*h = vsock_header(v, VSOCK_RW);
	h->dst_port = 999;
	for (unsigned i = 0; i < 2000 && vsock_room(&rx, &tx); i++) {
		vq_add(&tx, &b, 1, 0);
		vq_kick(&tx);
	}
}

/* Many connections to a program that listens, with data, lies about credit, and all that ends. */
static void vsock_connections(struct vdev *v)
{
	struct vsock_header *h = (void *)victim;
	struct vq rx, tx;

	if (!vsock_alive(v, 16, &rx, &tx))
		return;
	for (unsigned i = 0; i < 100 * rounds() && vsock_room(&rx, &tx); i++) {
		struct vsock_header *at = h + i % 64;
		struct vbuf b[2] = { { at, sizeof(*at) }, { victim + 8192, 0 } };
		unsigned chance = rnd_below(16);

		*at = vsock_header(v, chance < 5 ? VSOCK_REQUEST : chance < 14 ? VSOCK_RW :
								  (uint16_t)rnd_below(9));
		at->flags = rnd_below(4);
		if (chance % 2 == 0) {
			at->buf_alloc = (uint32_t)rnd();
			at->fwd_cnt = (uint32_t)rnd();
		}
		if (at->op == VSOCK_RW)
			at->len = b[1].len = rnd_below(i % 16 == 0 ? 200000 : 4096);
		vq_add(&tx, b, 2, 0);
		vq_kick(&tx);
	}
}

const struct attack vsock_attacks[] = {
	{ "vsock-packets", vsock_packets, VIRTIO_VSOCK, false },
	{ "vsock-flood", vsock_flood, VIRTIO_VSOCK, false },
	{ "vsock-connections", vsock_connections, VIRTIO_VSOCK, false },
	{ 0 },
};
