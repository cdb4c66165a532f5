// SPDX-License-Identifier: Apache-2.0
/*
 * The network device, a driver that does anything and a wire that does, too: the input is a
 * sequence of descriptors written, chains made available, kicks, packets from the host,
 * resets, and saving and loading into another device.
 *
 * Checked: what is taken ahead is counted right and never more than the queue has; nothing
 * reaches the wire that was not negotiated or is too long; what was received fits its buffers
 * and says so; a state is loaded as it was saved.
 *
 * Input: 1 byte pairs (1 or 2) and features, then operations, see operate().
 */
#include <string.h>
#include "tests/fuzz/fuzz.h"
#include "tests/unit/net_util.h"
#include "vmm/base/log.h"

#define RAM	  0x20000ULL
#define QUEUES	  5
#define QSIZE	  16
#define RINGS(q)  (0x1000ULL * (q)) /* descriptors, available, used */
#define AVAIL(q)  (RINGS(q) + 0x400)
#define USED(q)	  (RINGS(q) + 0x800)
#define BUFFERS	  0x5000ULL
#define STEPS_MAX 2000

struct bench {
	struct gmem mem;
	struct loop *loop;
	struct virtio_host host;
	struct net *net;
	struct fake_net *fake;
	unsigned pairs;
	uint16_t avail[QUEUES], next_desc[QUEUES];
	uint64_t at; /* next buffer */
};

static uint8_t *ram(struct bench *b, uint64_t gpa)
{
	return b->mem.base + gpa;
}

static void make(struct bench *b)
{
	struct net_options opt = { .user = true, .queues = 1, .offload = true };
	struct err err = ERR_INIT;

	b->fake = fake_net_new(b->pairs);
	CHECK(b->fake != NULL);
	b->net = net_new(&opt, 0, &b->host, &b->fake->be, &err);
	CHECK(b->net != NULL);
}

static void unmake(struct bench *b)
{
	pthread_mutex_lock(&b->net->vdev.lock);
	virtio_reset(&b->net->vdev);
	pthread_mutex_unlock(&b->net->vdev.lock);
	virtio_net_ops.destroy(&b->net->vdev);
}

/* Let it come alive with some of its features. */
static void start(struct bench *b, uint64_t choice)
{
	struct virtio_device *vdev = &b->net->vdev;
	uint64_t features = vdev->features;

	if ((choice & 1) == 0)
		features &= ~NET_BIT(MRG_RXBUF);
	if ((choice & 2) == 0)
		features &= ~(NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS);
	if ((choice & 4) == 0)
		features &= ~NET_BIT(MQ);
	if ((choice & 8) == 0)
		features &= ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
	if ((choice & 16) == 0)
		features &= ~(NET_BIT(CTRL_VQ) | NET_BIT(CTRL_RX));
	pthread_mutex_lock(&vdev->lock);
	virtio_set_status(vdev, 0);
	virtio_set_status(vdev, 3);
	virtio_accept(vdev, 0, (uint32_t)features);
	virtio_accept(vdev, 1, (uint32_t)(features >> 32));
	virtio_set_status(vdev, 11);
	memset(ram(b, 0), 0, RINGS(QUEUES));
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtqueue *vq = virtio_queue_setup(vdev, q);

		b->avail[q] = b->next_desc[q] = 0;
		vq->size = QSIZE;
		vq->desc = RINGS(q);
		vq->driver = AVAIL(q);
		vq->device = USED(q);
		if ((choice >> (8 + q) & 1) == 0)
			virtio_queue_enable(vdev, q);
	}
	virtio_set_status(vdev, 15);
	pthread_mutex_unlock(&vdev->lock);
}

static void run(struct bench *b)
{
	for (int i = 0; i < 3; i++)
		CHECK(loop_run_once(b->loop, 0) == 0);
}

static void available(struct bench *b, unsigned q, uint16_t head)
{
	struct vring_avail *avail = (struct vring_avail *)ram(b, AVAIL(q));

	avail->ring[b->avail[q] % QSIZE] = head;
	avail->idx = ++b->avail[q];
}

/* A chain as drivers make them: so that the fuzzer need not invent one. */
static void good_chain(struct bench *b, struct input *in, unsigned q, bool write)
{
	struct vring_desc *desc = (struct vring_desc *)ram(b, RINGS(q));
	unsigned n = take(in, 1) % 4 + 1;
	uint16_t head = b->next_desc[q] % QSIZE;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = b->next_desc[q]++ % QSIZE;
		uint32_t len = (uint32_t)take(in, 2) % 5000;

		if (b->at + len > RAM)
			b->at = BUFFERS;
		desc[at] = (struct vring_desc){ .addr = b->at, .len = len };
		b->at += len;
		desc[at].flags =
			(write ? VRING_DESC_F_WRITE : 0) | (i + 1 < n ? VRING_DESC_F_NEXT : 0);
		desc[at].next = (uint16_t)((at + 1) % QSIZE);
	}
	if (!write) /* a header that passes */
		memset(ram(b, desc[head].addr), 0, desc[head].len < 12 ? desc[head].len : 12);
	available(b, q, head);
}

static void command(struct bench *b, struct input *in, unsigned q)
{
	struct vring_desc *desc = (struct vring_desc *)ram(b, RINGS(q));
	uint16_t at = b->next_desc[q] % QSIZE, answer = (uint16_t)((at + 1) % QSIZE);
	uint32_t len = (uint32_t)take(in, 1) % 80;

	b->next_desc[q] += 2;
	if (b->at + 100 > RAM)
		b->at = BUFFERS;
	for (uint32_t i = 0; i < len; i++)
		*ram(b, b->at + i) = (uint8_t)take(in, 1);
	desc[at] = (struct vring_desc){ b->at, len, VRING_DESC_F_NEXT, answer };
	desc[answer] = (struct vring_desc){ b->at + 90, 1, VRING_DESC_F_WRITE, 0 };
	b->at += 100;
	available(b, q, at);
}

/* A packet of the host, of any length and header. */
static void from_host(struct bench *b, struct input *in)
{
	static uint8_t packet[NET_PACKET_MAX + 10];
	unsigned pair = take(in, 1) % b->pairs;
	size_t len = take(in, 2);

	if ((len & 0x8000) == 0)
		len &= 0x7ff;
	for (size_t i = 0; i < 30; i++)
		packet[i] = i < len ? (uint8_t)take(in, 1) : 0;
	if (len > 0 && b->fake->wire[pair] >= 0)
		(void)!write(b->fake->wire[pair], packet, len);
}

static void look_at_wire(struct bench *b)
{
	static uint8_t packet[NET_PACKET_MAX + 1];
	const struct virtio_device *vdev = &b->net->vdev;

	for (unsigned i = 0; i < b->pairs; i++) {
		ssize_t n = 1;

		while (b->fake->wire[i] >= 0 && n > 0) {
			n = read(b->fake->wire[i], packet, sizeof(packet));
			if (n <= 0)
				break;
			CHECK(n >= (ssize_t)NET_HDR + NET_FRAME_MIN &&
			      n <= (ssize_t)NET_PACKET_MAX);
			CHECK((packet[0] & ~1) == 0);
			/* A reset may have come since: then nothing is negotiated any more. */
			if (!virtio_live(vdev))
				continue;
			CHECK(packet[0] == 0 || virtio_has(vdev, VIRTIO_NET_F_CSUM));
			CHECK(packet[1] == 0 || virtio_has(vdev, VIRTIO_NET_F_HOST_TSO4));
		}
	}
}

static void check(struct bench *b)
{
	for (unsigned i = 0; i < b->pairs; i++) {
		const struct net_rx *rx = &b->net->pair[i].rx;
		const struct virtqueue *vq = &b->net->vdev.queue[2 * i].vq;
		size_t bytes = 0;
		unsigned segments = 0;

		CHECK(rx->n <= QSIZE && rx->held <= NET_PACKET_MAX);
		for (unsigned c = 0; c < rx->n; c++) {
			bytes += rx->chain[rx->first + c].writable.left;
			segments += rx->chain[rx->first + c].writable.n;
		}
		CHECK(bytes == rx->bytes && segments == rx->iov_end - rx->iov_first);
		CHECK(rx->iov_end <= NET_WINDOW_IOV);
		/* A device that broke may have a chain it did not give back. */
		if (vq->started && vq->broken == NULL && b->net->running &&
		    virtio_live(&b->net->vdev))
			CHECK((uint16_t)(vq->next_avail - vq->next_used) == rx->n);
	}
}

/* Save, load into a second device, save that: the same. Then go on with the second. */
static void move(struct bench *b)
{
	struct net *old = b->net;
	struct state *save1 = state_new_save(), *save2 = state_new_save(), *load;
	struct err err = ERR_INIT;
	const void *data1, *data2;
	size_t len1, len2;

	virtio_quiesce(&old->vdev);
	CHECK(virtio_state(&old->vdev, save1) == 0);
	CHECK(state_finish(save1, &data1, &len1, &err) == 0);
	make(b);
	load = state_new_load(data1, len1, &err);
	CHECK(load != NULL && virtio_state(&b->net->vdev, load) == 0);
	CHECK(state_finish(load, NULL, NULL, &err) == 0);
	CHECK(virtio_state(&b->net->vdev, save2) == 0);
	CHECK(state_finish(save2, &data2, &len2, &err) == 0);
	CHECK(len1 == len2 && memcmp(data1, data2, len1) == 0);
	state_free(save1);
	state_free(save2);
	state_free(load);
	virtio_net_ops.destroy(&old->vdev);
	virtio_resume(&b->net->vdev);
}

static void operate(struct bench *b, struct input *in)
{
	uint8_t op = (uint8_t)take(in, 1);
	unsigned q = (op >> 4) % b->net->vdev.nqueues;
	struct vring_desc *desc;
	uint64_t gpa;

	switch (op & 15) {
	case 0:
	case 1:
		good_chain(b, in, q, q % 2 == 0);
		break;
	case 2:
		command(b, in, q);
		break;
	case 3: /* any descriptor */
		desc = (struct vring_desc *)ram(b, RINGS(q)) + take(in, 1) % QSIZE;
		desc->addr = take(in, 3);
		desc->len = (uint32_t)take(in, 2) << (take(in, 1) & 15);
		desc->flags = (uint16_t)(take(in, 1) & 7);
		desc->next = (uint16_t)take(in, 1);
		break;
	case 4:
		available(b, q, (uint16_t)take(in, 1));
		break;
	case 5:
	case 6:
		virtio_kick(&b->net->vdev, q);
		run(b);
		break;
	case 7:
	case 8:
		from_host(b, in);
		break;
	case 9:
		run(b);
		look_at_wire(b);
		break;
	case 10: /* bytes anywhere in memory, rings included */
		gpa = take(in, 3) % (RAM - 8);
		for (unsigned i = 0; i < 8; i++)
			*ram(b, gpa + i) = (uint8_t)take(in, 1);
		break;
	case 11:
		start(b, take(in, 2));
		break;
	case 12:
		move(b);
		break;
	case 13:
		b->net->link.changed(&b->net->link, (take(in, 1) & 1) != 0);
		break;
	case 14:
		if (take(in, 1) == 0x77 && b->fake->wire[0] >= 0) {
			close(b->fake->wire[0]);
			b->fake->wire[0] = -1;
		}
		break;
	case 15:
		virtio_quiesce(&b->net->vdev);
		run(b);
		virtio_resume(&b->net->vdev);
		break;
	}
	check(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct gmem_config cfg = { .size = RAM };
	struct bench b = { .at = BUFFERS };
	struct err err = ERR_INIT;
	uint8_t choice = (uint8_t)take(&in, 1);

	log_set_level(LOG_ERROR);
	CHECK(gmem_init(&b.mem, &cfg, &err) == 0);
	CHECK(gmem_add_region(&b.mem, 0, RAM / 2, &err) == 0);
	CHECK(gmem_add_region(&b.mem, RAM / 2, RAM / 2, &err) == 0);
	b.loop = loop_new(&err);
	CHECK(b.loop != NULL);
	b.host = (struct virtio_host){ .mem = &b.mem, .loop = b.loop };
	b.pairs = (choice & 0x80) != 0 ? 2 : 1;
	make(&b);
	start(&b, choice & 0x7f);
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		operate(&b, &in);
	run(&b);
	look_at_wire(&b);
	check(&b);
	unmake(&b);
	loop_free(b.loop);
	gmem_fini(&b.mem);
	return 0;
}
