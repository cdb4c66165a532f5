// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio devices used as a driver should. The word do= says what is tested, in this order, and
 * each prints one line or more:
 *
 *	scan	"pci|mmio PLACE id ID queues N", once for each device; then "devices N"
 *	id	"disk SERIAL", for each disk
 *	blk	copies the first half of the first disk onto the second, by requests of all sizes
 *		from one sector to size= bytes (65536), up to depth= (8) at once; flushes; "blk ok"
 *	rng	4096 bytes; "rng ok" when they look random
 *	console	writes lines= (100) lines of 64 bytes, as flood.S does, in pieces of all sizes, up
 *		to depth= at once; "console ok"
 *	echo	sends back what arrives on the console, count= bytes; "echo ok"
 *	net	sends count= (10) frames, after which it sends back, addresses swapped, as many as
 *		it gets; "net ok"
 *
 * With user=1 all but scan runs at privilege level 3; with interrupts=1 (then at level 0) the
 * CPU sleeps in HLT until the device interrupts, instead of looking again and again. With
 * features=NUMBER no others are accepted.
 */
#include "virtio.h"

PVH_ENTRY;

#define DEPTH_MAX 64

static uint64_t features;
static bool interrupts;
static unsigned apic, depth;

/* --- Waiting, by polling or by interrupts --- */

/* Queue @q of @v, which uses vector IRQ_VECTOR + @q; MSI-X entry @q, or the pin of its own. */
static bool queue(struct vdev *v, unsigned q, struct vq *vq)
{
	if (interrupts && v->pci)
		virtio_queue_irq(v, q, q, IRQ_VECTOR + q, apic);
	if (interrupts && !v->pci)
		irq_route(VIRTIO_GSI + v->place, IRQ_VECTOR);
	if (!virtio_queue(v, q, 256, vq))
		return false;
	vq->interrupts = interrupts;
	return true;
}

/* The next chain that comes back. */
static int next(struct vq *vq, uint32_t *len)
{
	volatile struct vavail *avail = vq->avail;
	int head;

	while ((head = vq_get(vq, len)) < 0) {
		if (!interrupts) {
			__asm__ volatile("pause");
			continue;
		}
		/* 2.7.10: ask for one, look again, then sleep. */
		avail->ring[vq->size] = vq->seen;
		fence();
		if (((volatile struct vused *)vq->used)->idx != vq->seen)
			continue;
		irq_wait();
		if (!vq->vdev->pci)
			wr32(vq->vdev->regs + MMIO_INTERRUPT_ACK,
			     rd32(vq->vdev->regs + MMIO_INTERRUPT_STATUS));
		irq_done();
	}
	return head;
}

static bool begin(struct vdev *v, unsigned id, unsigned n, const char *name)
{
	if (!virtio_find(v, id, n)) {
		print("%s: no device\n", name);
		return false;
	}
	if (!virtio_begin(v, features)) {
		print("%s: features refused\n", name);
		return false;
	}
	return true;
}

/* --- scan --- */

static bool print_device(const struct vdev *v, void *data)
{
	(void)data;
	print("%s %u id %u queues %u\n", v->pci ? "pci" : "mmio", v->place, v->id, v->queues);
	return false;
}

/* --- Disks --- */

static void test_id(void)
{
	char serial[21] = "";
	struct vdev v;
	struct vq vq;

	for (unsigned n = 0; virtio_find(&v, VIRTIO_BLK, n); n++) {
		uintptr_t mark = ram_mark();

		if (!virtio_begin(&v, features) || !virtio_queue(&v, 0, 8, &vq)) {
			print("disk: no queue\n");
			return;
		}
		virtio_go(&v);
		if (blk_do(&vq, BLK_GET_ID, 0, serial, 20) != 0)
			print("disk: no answer\n");
		print("disk %s\n", serial);
		virtio_reset(&v);
		ram_release(mark);
	}
}

struct request {
	struct blk_header header;
	uint8_t *data;
	uint32_t len;
	uint8_t status;
	bool busy;
};

/* Start @r, its data in up to three pieces. Returns the head. */
static int start(struct vq *vq, struct request *r, unsigned pieces)
{
	uint32_t third = r->len / 3 & ~7u;
	struct vbuf b[5] = { { &r->header, sizeof(r->header) } };
	unsigned n = 1;

	if (pieces == 3 && third > 0) {
		b[n++] = (struct vbuf){ r->data, third };
		b[n++] = (struct vbuf){ r->data + third, r->len - 2 * third };
		b[n++] = (struct vbuf){ r->data + r->len - third, third };
	} else {
		b[n++] = (struct vbuf){ r->data, r->len };
	}
	b[n++] = (struct vbuf){ &r->status, 1 };
	r->status = 0xff;
	r->busy = true;
	return vq_add(vq, b, r->header.type == BLK_OUT ? n - 1 : 1,
		      r->header.type == BLK_OUT ? 1 : n - 1);
}

static void test_blk(void)
{
	static struct request request[DEPTH_MAX], *by_head[1024];
	uint32_t max = (uint32_t)arg_number("size", 65536), len = SECTOR;
	uint64_t half, sector = 0, copied = 0;
	unsigned busy = 0, pieces = 1;
	struct vdev v;
	struct vq vq;

	if (!begin(&v, VIRTIO_BLK, 0, "blk") || !queue(&v, 0, &vq))
		return;
	virtio_go(&v);
	half = virtio_config(&v, 0, 8) / 2;
	for (unsigned i = 0; i < depth; i++)
		request[i].data = ram_alloc(max, 16);
	while (copied < half) {
		struct request *r = NULL;
		uint32_t used;
		int head;

		for (unsigned i = 0; i < depth && sector < half; i++) {
			if (!request[i].busy) {
				r = &request[i];
				break;
			}
		}
		if (r != NULL && vq.nfree >= 5) {
			uint64_t left = (half - sector) * SECTOR;

			r->header = (struct blk_header){ .type = BLK_IN, .sector = sector };
			r->len = len < left ? len : (uint32_t)left;
			sector += r->len / SECTOR;
			len = len + SECTOR > max ? SECTOR : len + SECTOR;
			pieces = 4 - pieces;
			head = start(&vq, r, pieces);
			by_head[head] = r;
			busy++;
			if (busy < depth && sector < half)
				continue;
			vq_kick(&vq);
		}
		head = next(&vq, &used);
		r = by_head[head];
		if (r->status != 0) {
			print("blk: type %u sector %lu status %u\n", r->header.type,
			      r->header.sector, r->status);
			return;
		}
		if (r->header.type == BLK_IN) {
			if (used != r->len + 1) {
				print("blk: %u bytes used for %u\n", used, r->len);
				return;
			}
			r->header.type = BLK_OUT;
			r->header.sector += half;
			head = start(&vq, r, 1);
			by_head[head] = r;
			vq_kick(&vq);
		} else {
			if (used != 1) {
				print("blk: %u bytes used for a write\n", used);
				return;
			}
			copied += r->len / SECTOR;
			r->busy = false;
			busy--;
		}
	}
	if ((v.features & F_BLK_FLUSH) != 0) {
		struct request *r = &request[0];
		struct vbuf b[2] = { { &r->header, sizeof(r->header) }, { &r->status, 1 } };

		r->header = (struct blk_header){ .type = BLK_FLUSH };
		r->status = 0xff;
		vq_add(&vq, b, 1, 1);
		vq_kick(&vq);
		next(&vq, NULL);
		if (r->status != 0)
			print("blk: flush status %u\n", r->status);
	}
	print("blk ok\n");
}

/* --- Random numbers --- */

static void test_rng(void)
{
	uint8_t *data = ram_alloc(4096, 1), seen[256] = { 0 };
	struct vbuf b = { data, 4096 };
	unsigned distinct = 0, got = 0;
	struct vdev v;
	struct vq vq;

	if (!begin(&v, VIRTIO_RNG, 0, "rng") || !queue(&v, 0, &vq))
		return;
	virtio_go(&v);
	while (got < 4096) {
		uint32_t len;

		b = (struct vbuf){ data + got, 4096 - got };
		vq_add(&vq, &b, 0, 1);
		vq_kick(&vq);
		next(&vq, &len);
		if (len == 0 || len > b.len) {
			print("rng: %u bytes\n", len);
			return;
		}
		got += len;
	}
	for (unsigned i = 0; i < got; i++) {
		distinct += !seen[data[i]];
		seen[data[i]] = 1;
	}
	if (distinct > 200)
		print("rng ok\n");
	else
		print("rng: %u different bytes\n", distinct);
}

/* --- Console --- */

static void test_console(void)
{
	static const char set[] = "0123456789abcdefghijklmnopqrstuvwxyz"
				  "ABCDEFGHIJKLMNOPQRSTUVWXYZ.\n";
	uint64_t total = arg_number("lines", 100) * 64, sent = 0;
	unsigned busy = 0, len = 1;
	char *text = ram_alloc(8192, 64);
	struct vdev v;
	struct vq vq;

	for (unsigned i = 0; i < 8192; i++)
		text[i] = set[i % 64];
	if (!begin(&v, VIRTIO_CONSOLE, 0, "console") || !queue(&v, 1, &vq))
		return;
	virtio_go(&v);
	while (sent < total || busy > 0) {
		if (sent < total && busy < depth) {
			uint64_t left = total - sent;
			struct vbuf b = { text + sent % 64, len < left ? len : (uint32_t)left };

			vq_add(&vq, &b, 1, 0);
			sent += b.len;
			len = len % 4096 + 7;
			busy++;
			if (sent < total && busy < depth)
				continue;
			vq_kick(&vq);
		}
		next(&vq, NULL);
		busy--;
	}
	print("console ok\n");
}

static void test_echo(void)
{
	uint64_t left = arg_number("count", 65536);
	char *buffer = ram_alloc(DEPTH_MAX * 512ul, 64);
	static unsigned slot[1024];
	struct vdev v;
	struct vq rx, tx;

	if (!begin(&v, VIRTIO_CONSOLE, 0, "echo") || !queue(&v, 0, &rx) || !queue(&v, 1, &tx))
		return;
	virtio_go(&v);
	for (unsigned i = 0; i < depth; i++) {
		struct vbuf b = { buffer + 512 * i, 512 };

		slot[vq_add(&rx, &b, 0, 1)] = i;
	}
	vq_kick(&rx);
	while (left > 0) {
		struct vbuf b;
		uint32_t len;
		unsigned i = slot[next(&rx, &len)];

		if (len == 0 || len > 512) {
			print("echo: %u bytes\n", len);
			return;
		}
		b = (struct vbuf){ buffer + 512 * i, len };
		vq_add(&tx, &b, 1, 0);
		vq_kick(&tx);
		next(&tx, NULL);
		left -= len < left ? len : left;
		b.len = 512;
		slot[vq_add(&rx, &b, 0, 1)] = i;
		vq_kick(&rx);
	}
	print("echo ok\n");
}

/* --- Network --- */

#define FRAME_MAX 2048
#define ETHERTYPE 0x88b5 /* for local experiments */

static void test_net(void)
{
	unsigned count = (unsigned)arg_number("count", 10);
	uint8_t *buffer = ram_alloc(DEPTH_MAX * FRAME_MAX, 64), *out = ram_alloc(FRAME_MAX, 64);
	static unsigned slot[1024];
	struct vdev v;
	struct vq rx, tx;
	struct vbuf b;

	if (!begin(&v, VIRTIO_NET, 0, "net") || !queue(&v, 0, &rx) || !queue(&v, 1, &tx))
		return;
	virtio_go(&v);
	for (unsigned i = 0; i < depth; i++) {
		b = (struct vbuf){ buffer + FRAME_MAX * i, FRAME_MAX };
		slot[vq_add(&rx, &b, 0, 1)] = i;
	}
	vq_kick(&rx);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *frame = out + sizeof(struct net_header);

		memset(out, 0, FRAME_MAX);
		memset(frame, 0xff, 6);
		frame[6] = 2;
		frame[12] = ETHERTYPE >> 8;
		frame[13] = ETHERTYPE & 0xff;
		frame[14] = (uint8_t)i;
		b = (struct vbuf){ out, (uint32_t)sizeof(struct net_header) + 60 + i * 100 % 1400 };
		vq_add(&tx, &b, 1, 0);
		vq_kick(&tx);
		next(&tx, NULL);
	}
	for (unsigned done = 0; done < count;) {
		uint32_t len;
		unsigned i = slot[next(&rx, &len)];
		uint8_t *packet = buffer + FRAME_MAX * i, *frame = packet + sizeof(struct net_header);

		if (len > sizeof(struct net_header) + 14 && frame[12] == ETHERTYPE >> 8 &&
		    frame[13] == (ETHERTYPE & 0xff)) {
			memset(packet, 0, sizeof(struct net_header));
			memcpy(out, frame, 6);
			memcpy(frame, frame + 6, 6);
			memcpy(frame + 6, out, 6);
			b = (struct vbuf){ packet, len };
			vq_add(&tx, &b, 1, 0);
			vq_kick(&tx);
			next(&tx, NULL);
			done++;
		}
		b = (struct vbuf){ packet, FRAME_MAX };
		slot[vq_add(&rx, &b, 0, 1)] = i;
		vq_kick(&rx);
	}
	print("net ok\n");
}

void main(void)
{
	features = arg_number("features", ~0ull & ~F_CONSOLE_MULTI & ~F_NET_MRG_RXBUF);
	depth = (unsigned)arg_number("depth", 8);
	if (depth == 0 || depth > DEPTH_MAX)
		depth = DEPTH_MAX;
	interrupts = arg_number("interrupts", 0) != 0;
	if (interrupts)
		apic = irq_init();
	if (arg_has("do", "scan"))
		print("devices %u\n", virtio_scan(print_device, NULL));
	if (arg_number("user", 0) != 0 && !interrupts)
		enter_user();
	if (arg_has("do", "id"))
		test_id();
	if (arg_has("do", "blk"))
		test_blk();
	if (arg_has("do", "rng"))
		test_rng();
	if (arg_has("do", "console"))
		test_console();
	if (arg_has("do", "echo"))
		test_echo();
	if (arg_has("do", "net"))
		test_net();
	leave(0);
}
