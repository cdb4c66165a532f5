// SPDX-License-Identifier: Apache-2.0
/*
 * Keeps one queue of a virtio device busy for ms= milliseconds (300) and prints
 * "result OPERATIONS BYTES MICROSECONDS", or "no device" and the like; the first operations are
 * not counted. The word op= says with what:
 *
 *	send	pieces of size= bytes (1) to the console
 *	read	from the first disk, size= bytes (4096) at random places that are multiples of it
 *	write	to it
 *	tx	frames of size= bytes (60); with gso=1 they are TCP segments to be cut by the host
 *	rx	frames received, from the first one on
 *	flush	of the first pmem device
 *	inflate	1 MiB of memory into the balloon, its pages touched again before each time
 *	report	size= bytes (2 MiB) of free memory, touched in the same way
 *
 * depth= (1) requests are under way at once; with seq=1 disks are read in order. khz= is the
 * frequency of the time stamp counter. Runs at privilege level 3, without interrupts: what is
 * measured is the monitor and KVM, and as little as possible of the guest.
 */
#include "virtio.h"

PVH_ENTRY;

#define DEPTH_MAX 256
#define WARM	  64 /* operations before the clock starts */
#define PFNS	  256

struct request {
	struct blk_header header;
	uint8_t status, rest[3]; /* of a flush it is 4 bytes */
	struct vbuf buf[3];
	unsigned out, in;
	uint8_t *pages; /* touched before the request is made */
	uint32_t type;
	uint32_t pfn[PFNS];
};

static struct request request[DEPTH_MAX];
static unsigned slot[1024]; /* by head */

static struct {
	uint32_t size;
	uint64_t sectors, at;
	bool seq;
	uint64_t random;
} blk;

/* Where the next block request goes. */
static uint64_t next_sector(void)
{
	uint64_t per = blk.size / SECTOR, n = blk.sectors / per;

	if (blk.seq)
		return blk.at++ % n * per;
	return random_next(&blk.random) % n * per;
}

/* An Ethernet frame to everybody, with as much of IPv4 and TCP as segmentation needs. */
static void make_frame(uint8_t *packet, uint32_t size, bool gso)
{
	uint8_t *frame = packet + sizeof(struct net_header), *ip = frame + 14, *tcp = ip + 20;

	memset(frame, 0xff, 6);
	frame[6] = 2;
	frame[12] = 0x88; /* for local experiments: nobody takes it */
	frame[13] = 0xb5;
	if (!gso)
		return;
	*(struct net_header *)packet = (struct net_header){ .flags = 1, /* needs a checksum */
							     .gso_type = 1, /* TCP over IPv4 */
							     .hdr_len = 54,
							     .gso_size = 1448,
							     .csum_start = 34,
							     .csum_offset = 16 };
	frame[12] = 0x08;
	frame[13] = 0x00;
	ip[0] = 0x45;
	ip[2] = (uint8_t)((size - 14) >> 8);
	ip[3] = (uint8_t)(size - 14);
	ip[8] = 64;
	ip[9] = 6;
	tcp[12] = 0x50;
}

static void touch(uint8_t *pages, uint32_t size)
{
	for (uint32_t at = 0; pages != NULL && at < size; at += 4096)
		*(volatile uint8_t *)(pages + at) = 1;
}

static void fail(const char *why)
{
	print("%s\n", why);
	leave(1);
}

void main(void)
{
	bool warming = true, rx = arg_is("op", "rx"), tx = arg_is("op", "tx"), send = arg_is("op", "send");
	bool write = arg_is("op", "write"), gso = arg_number("gso", 0) != 0;
	bool flush = arg_is("op", "flush"), inflate = arg_is("op", "inflate");
	bool report = arg_is("op", "report");
	unsigned id = send ? VIRTIO_CONSOLE : tx || rx ? VIRTIO_NET : flush ? VIRTIO_PMEM :
		      inflate || report ? VIRTIO_BALLOON : VIRTIO_BLK;
	unsigned depth = (unsigned)arg_number("depth", 1), q = 0;
	uint64_t khz = arg_number("khz", 2500000), limit = us_ticks(arg_number("ms", 300) * 1000);
	uint32_t size = (uint32_t)arg_number("size", send ? 1 : tx ? 60 : rx ? 2048 :
							inflate ? PFNS * 4096 :
							report ? 2 << 20 : 4096);
	uint64_t start, now, done = 0, bytes = 0, features = F_EVENT_IDX | F_BLK_FLUSH;
	struct vdev v;
	struct vq vq;

	if (depth == 0 || depth > DEPTH_MAX)
		depth = DEPTH_MAX;
	enter_user();
	if (!virtio_find(&v, id, 0))
		fail("no device");
	if (id == VIRTIO_BALLOON)
		features = F_EVENT_IDX | F_BALLOON_REPORT;
	if (gso)
		features |= F_NET_CSUM | F_NET_HOST_TSO4;
	if (!virtio_begin(&v, features))
		fail("features are refused");
	if (gso && (v.features & F_NET_HOST_TSO4) == 0)
		fail("no segmentation offload");
	q = report ? 2 : send || tx;
	if (!virtio_queue(&v, q, 256, &vq))
		fail("no queue");
	virtio_go(&v);
	blk.size = size;
	blk.seq = arg_number("seq", 0) != 0;
	blk.random = ticks() | 1;
	if (v.id == VIRTIO_BLK)
		blk.sectors = virtio_config(&v, 0, 8);
	if (v.id == VIRTIO_BLK && 3 * depth > vq.size)
		depth = vq.size / 3;

	for (unsigned i = 0; i < depth; i++) {
		struct request *r = &request[i];
		uint8_t *data = ram_alloc(size + sizeof(struct net_header), 4096);

		memset(data, 'x', size);
		r->out = send || tx;
		r->in = rx;
		r->buf[0] = (struct vbuf){ data, size };
		if (tx) {
			memset(data, 0, size + sizeof(struct net_header));
			make_frame(data, size, gso);
			r->buf[0].len += (uint32_t)sizeof(struct net_header);
		}
		if (v.id == VIRTIO_BLK) {
			r->header.type = write ? BLK_OUT : BLK_IN;
			r->header.sector = next_sector();
			r->buf[0] = (struct vbuf){ &r->header, sizeof(r->header) };
			r->buf[1] = (struct vbuf){ data, size };
			r->buf[2] = (struct vbuf){ &r->status, 1 };
			r->out = write ? 2 : 1;
			r->in = write ? 1 : 2;
		}
		if (flush) {
			r->out = r->in = 1;
			r->buf[0] = (struct vbuf){ &r->type, 4 };
			r->buf[1] = (struct vbuf){ &r->status, 4 };
		}
		if (id == VIRTIO_BALLOON) {
			r->pages = data;
			r->out = inflate;
			r->in = report;
		}
		if (inflate) {
			for (unsigned k = 0; k < PFNS; k++)
				r->pfn[k] = (uint32_t)((uintptr_t)data / 4096 + k);
			r->buf[0] = (struct vbuf){ r->pfn, sizeof(r->pfn) };
		}
		slot[vq_add(&vq, r->buf, r->out, r->in)] = i;
	}
	vq_kick(&vq);
	start = now = ticks();
	/*
	 * The clock is set back when the first operations are done: by then the monitor has an
	 * eventfd for notifications, and whoever sends has begun.
	 */
	while (now - start < limit || (warming && now - start < 20 * limit)) {
		unsigned added = 0, i;
		uint32_t len;
		int head;

		while (added < depth && (head = vq_get(&vq, &len)) >= 0) {
			struct request *r;

			i = slot[head];
			r = &request[i];
			done++;
			bytes += rx ? len - sizeof(struct net_header) : size;
			if (v.id == VIRTIO_BLK) {
				if (r->status != 0)
					fail("an error of the disk");
				r->header.sector = next_sector();
			}
			if (flush && r->status != 0)
				fail("an error of the flush");
			touch(r->pages, size);
			slot[vq_add(&vq, r->buf, r->out, r->in)] = i;
			added++;
		}
		if (added > 0)
			vq_kick(&vq);
		else
			__asm__ volatile("pause");
		now = ticks();
		if (warming && done >= WARM) {
			warming = false;
			done = bytes = 0;
			start = now;
		}
	}
	if (warming)
		fail("too slow");
	print("result %lu %lu %lu\n", done, bytes, (now - start) * 1000 / khz);
	leave(0);
}
