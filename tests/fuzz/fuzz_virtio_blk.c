// SPDX-License-Identifier: Apache-2.0
/*
 * The block device and a driver that does anything, over a small disk in a memfd (with or
 * without an overlay): memory written at will, chains of any layout, kicks, configuration writes,
 * resets with I/O in flight, quiescing, resizing, saving and loading. Checked: after
 * quiescing nothing is out; no used entry claims more than was writable; the host's memory (ASan).
 *
 * Input: 1 byte: the kind of disk; 1 byte: features; then operations, 1 byte each and its
 * operands: see operate().
 */
#include <errno.h>
#include <limits.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "tests/fuzz/virtio_fuzz.h"

#define RAM	   0x10000ULL
#define RAM_HIGH   0x2000ULL /* a second region right behind it */
#define QUEUE_SIZE 16
#define DESC	   0x0ULL
#define AVAIL	   0x200ULL
#define USED	   0x300ULL
#define DISK_BYTES 65536
#define STEPS_MAX  512

/* Made once and kept: what is to be found is in the device, not in opening files. */
struct machine {
	struct virtio_fuzz v;
	struct virtio_device *disk[4];
	int fd;
	uint16_t avail;
};

static struct virtio_device *make(struct machine *m, const char *keys)
{
	char text[128];

	snprintf(text, sizeof(text), "/proc/self/fd/%d%s", m->fd, keys);
	return vf_make(&m->v, VIRTIO_ID_BLOCK, text);
}

static struct machine *machine(void)
{
	static struct machine m;

	if (m.v.loop != NULL)
		return &m;
	vf_init(&m.v, RAM, RAM_HIGH);
	m.fd = memfd_create("disk", MFD_CLOEXEC);
	CHECK(m.fd >= 0 && ftruncate(m.fd, DISK_BYTES) == 0);
	m.disk[0] = make(&m, ",ro");
	m.disk[1] = make(&m, ",overlay,queues=2");
	/* Writers have to be alone: these get memory of their own. */
	m.fd = memfd_create("disk", MFD_CLOEXEC);
	CHECK(m.fd >= 0 && ftruncate(m.fd, DISK_BYTES) == 0);
	m.disk[2] = make(&m, ",cache=none,iops=1000000000,bw=1T");
	m.fd = memfd_create("disk", MFD_CLOEXEC);
	CHECK(m.fd >= 0 && ftruncate(m.fd, DISK_BYTES) == 0);
	m.disk[3] = make(&m, "");
	return &m;
}

/* --- The driver --- */

static void start(struct machine *m, uint8_t features)
{
	/* Queues on top of each other. */
	static const struct vf_rings rings = { QUEUE_SIZE, DESC, AVAIL, USED, 0 };

	vf_start(&m->v,
		 (features & 1 ? 1u << VIRTIO_RING_F_EVENT_IDX : 0) |
			 (features & 2 ? 1u << VIRTIO_RING_F_INDIRECT_DESC : 0) |
			 (features & 4 ? 1u << VIRTIO_BLK_F_FLUSH : 0) |
			 (features & 8 ? 1u << VIRTIO_BLK_F_CONFIG_WCE : 0) |
			 (features & 16 ? 1u << VIRTIO_BLK_F_MQ : 0),
		 &rings, UINT_MAX);
	m->avail = 0;
}

/*
 * A request that makes sense, or almost: type, sector, and a chain of up to 8 buffers. Byte:
 * type; byte: number; 2 bytes: sector; for each buffer 2 bytes: length and direction.
 */
static void add_request(struct machine *m, struct input *in)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN,
					  VIRTIO_BLK_T_OUT,
					  VIRTIO_BLK_T_FLUSH,
					  VIRTIO_BLK_T_GET_ID,
					  VIRTIO_BLK_T_DISCARD,
					  VIRTIO_BLK_T_WRITE_ZEROES,
					  14,
					  2 };
	uint8_t how = (uint8_t)take(in, 1), n = 1 + (how >> 3) % 8;
	uint16_t head = m->avail % QUEUE_SIZE;
	uint64_t at = 0x1000 + take(in, 2) % (RAM - 0x1000);
	struct virtio_blk_outhdr hdr = { .type = types[how % 8], .sector = take(in, 2) % 140 };

	gmem_write(&m->v.mem, at, &hdr, sizeof(hdr));
	for (unsigned i = 0; i < n; i++) {
		uint16_t v = (uint16_t)take(in, 2);
		struct vring_desc desc = {
			.addr = at,
			.len = i == 0 ? 16 + v % 4 * 512 : v >> 1 & 0xfff,
			.flags = (v & 1 ? VRING_DESC_F_WRITE : 0) |
				 (i + 1 < n ? VRING_DESC_F_NEXT : 0),
			.next = (head + i + 1) % QUEUE_SIZE,
		};

		if (v & 0x8000)
			desc.len &= ~511u;
		if (i == 0)
			desc.flags &= (uint16_t)~VRING_DESC_F_WRITE;
		gmem_write(&m->v.mem, DESC + (head + i) % QUEUE_SIZE * sizeof(desc), &desc,
			   sizeof(desc));
		at += desc.len;
	}
	vf_put16(&m->v, AVAIL + 4 + head * 2, head);
	vf_put16(&m->v, AVAIL + 2, ++m->avail);
}

static void check_nothing_out(struct machine *m)
{
	for (unsigned q = 0; q < m->v.vdev->nqueues; q++) {
		const struct virtqueue *vq = &m->v.vdev->queue[q].vq;

		CHECK(!vq->started || (m->v.vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0 ||
		      vq->next_avail == vq->next_used);
	}
}

static void save_and_load(struct machine *m)
{
	struct state *st = state_new_save();
	struct err err = ERR_INIT;
	const void *data;
	size_t len;

	CHECK(virtio_state(m->v.vdev, st) == 0);
	CHECK(state_finish(st, &data, &len, &err) == 0);
	{
		struct state *load = state_new_load(data, len, &err);

		CHECK(load != NULL);
		/* It may refuse what the driver had made of itself, and is as reset then. */
		(void)virtio_state(m->v.vdev, load);
		state_free(load);
	}
	state_free(st);
}

static void operate(struct machine *m, struct input *in)
{
	struct virtio_device *vdev = m->v.vdev;
	uint8_t op = (uint8_t)take(in, 1), bytes[32];
	uint64_t gpa;
	unsigned n;

	switch (op % 10) {
	case 0: /* memory */
		gpa = take(in, 2);
		n = (unsigned)take(in, 1) % sizeof(bytes);
		for (unsigned i = 0; i < n; i++)
			bytes[i] = (uint8_t)take(in, 1);
		gmem_write(&m->v.mem, gpa, bytes, n);
		break;
	case 1:
	case 2:
	case 3:
		add_request(m, in);
		break;
	case 4:
		vf_put16(&m->v, AVAIL + 2, m->avail = (uint16_t)(m->avail + op / 10 % 3));
		virtio_kick(vdev, op / 10 % 4);
		break;
	case 5:
		virtio_kick(vdev, 0);
		CHECK(loop_run_once(m->v.loop, 0) == 0);
		break;
	case 6:
		bytes[0] = (uint8_t)take(in, 1);
		n = (unsigned)take(in, 1);
		pthread_mutex_lock(&vdev->lock);
		virtio_config_write(vdev, n % 70, bytes, 1 + (n & 128 ? 3 : 0));
		virtio_config_read(vdev, n, bytes, 8);
		pthread_mutex_unlock(&vdev->lock);
		break;
	case 7:
		start(m, (uint8_t)take(in, 1));
		break;
	case 8:
		virtio_quiesce(vdev);
		check_nothing_out(m);
		if (op / 10 % 4 == 0)
			save_and_load(m);
		virtio_resume(vdev);
		break;
	case 9:
		if (m->v.vdev == m->disk[3]) /* the one whose descriptor is still at hand */
			CHECK(ftruncate(m->fd, (off_t)(take(in, 1) * 700)) == 0);
		virtio_rescan(vdev);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct machine *m = machine();

	vf_attach(&m->v, m->disk[take(&in, 1) % 4]);
	CHECK(ftruncate(m->fd, DISK_BYTES) == 0);
	virtio_rescan(m->v.vdev);
	start(m, (uint8_t)take(&in, 1));
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		operate(m, &in);
	virtio_quiesce(m->v.vdev);
	check_nothing_out(m);
	vf_detach(&m->v);
	virtio_resume(m->v.vdev);
	CHECK(loop_run_once(m->v.loop, 0) == 0);
	return 0;
}
