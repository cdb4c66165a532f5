// SPDX-License-Identifier: Apache-2.0
/*
 * The balloon, and persistent memory over a small file, with a driver that does anything: memory
 * written at will, chains of any layout that name any memory (rings, the file), kicks,
 * configuration writes, resets with I/O in flight, quiescing, saving and loading, and the
 * monitor's own calls meanwhile. Checked: what is not in the balloon's reach (a file in memory)
 * is not given back; after quiescing nothing is out; the target stays what we said; the host's
 * memory (ASan).
 *
 * Input: 1 byte: which device; 1 byte: features; then operations, 1 byte each and its operands:
 * see operate().
 */
#include <errno.h>
#include <limits.h>
#include <linux/virtio_balloon.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "devices/virtio_balloon.h"
#include "tests/fuzz/virtio_fuzz.h"

#define RAM	   0x40000ULL
#define RAM_HIGH   0x4000ULL /* a second region right behind it */
#define FILE_AT	   0x40000000ULL
#define FILE_BYTES (2ULL << 20)
#define QUEUE_SIZE 16
#define DESC	   0x0ULL
#define AVAIL	   0x200ULL
#define USED	   0x300ULL
#define STEPS_MAX  512

enum { BALLOON, BALLOON_PLAIN, PMEM, PMEM_RO, DEVICES };

/* Made once and kept: what is to be found is in the devices, not in opening files. */
struct machine {
	struct virtio_fuzz v;
	struct virtio_device *device[DEVICES];
	uint64_t target; /* of the balloon */
	uint16_t avail;
};

static int add_memory(const struct virtio_host *host, int fd, uint64_t size, bool ro, uint64_t *gpa,
		      struct err *err)
{
	*gpa = FILE_AT * host->mem->nregions;
	return gmem_add_file(host->mem, *gpa, size, fd, ro, err);
}

static struct machine *machine(void)
{
	static struct machine m;
	char path[64];

	if (m.v.loop != NULL)
		return &m;
	vf_init(&m.v, RAM, RAM_HIGH);
	m.v.host.add_memory = add_memory;
	m.device[BALLOON] =
		vf_make(&m.v, VIRTIO_ID_BALLOON, "64K,reporting,hinting,deflate-on-oom,stats=1h");
	m.device[BALLOON_PLAIN] = vf_make(&m.v, VIRTIO_ID_BALLOON, "0");
	for (int i = PMEM; i <= PMEM_RO; i++) {
		int fd = memfd_create("pmem", MFD_CLOEXEC);

		CHECK(fd >= 0 && ftruncate(fd, FILE_BYTES) == 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d%s", fd, i == PMEM_RO ? ",ro" : "");
		m.device[i] = vf_make(&m.v, VIRTIO_ID_PMEM, path);
		close(fd);
	}
	return &m;
}

/* --- The driver --- */

static void start(struct machine *m, uint8_t features)
{
	/* Queues on top of each other. */
	static const struct vf_rings rings = { QUEUE_SIZE, DESC, AVAIL, USED, 0 };

	/* The balloon's own are the bits 1 to 5. No queue for what was not negotiated, mostly. */
	vf_start(&m->v,
		 (features & 0x3eu) | (features & 1 ? 1u << VIRTIO_RING_F_EVENT_IDX : 0) |
			 (features & 64 ? 1u << VIRTIO_RING_F_INDIRECT_DESC : 0),
		 &rings,
		 features < 128 ? 2u + (unsigned)__builtin_popcount(features & 0x2a) : UINT_MAX);
	m->avail = 0;
}

/*
 * A chain. Byte: number of buffers, up to 4; for each 3 bytes: place, length, direction. Then
 * 4 bytes, which are put where the first is.
 */
static void add_chain(struct machine *m, struct input *in)
{
	static const uint32_t lengths[] = { 0, 1, 4, 10, 64, 4096, 16384, 0x20000 };
	unsigned n = 1 + (unsigned)take(in, 1) % 4;
	uint16_t head = m->avail % QUEUE_SIZE;
	uint64_t first = 0;
	uint32_t word;

	for (unsigned i = 0; i < n; i++) {
		uint8_t place = (uint8_t)take(in, 1), off = (uint8_t)take(in, 1);
		uint8_t how = (uint8_t)take(in, 1);
		struct vring_desc desc = {
			.addr = place < 240   ? place % 68 * 0x1000ULL
				: place < 252 ? FILE_AT * (2 + place % 2)
					      : ~0ULL << (place - 240),
			.len = lengths[how >> 1 & 7],
			.flags = (how & 1 ? VRING_DESC_F_WRITE : 0) |
				 (i + 1 < n ? VRING_DESC_F_NEXT : 0),
			.next = (head + i + 1) % QUEUE_SIZE,
		};

		desc.addr += off * (how & 16 ? 4096 : 1ULL);
		if (i == 0)
			first = desc.addr;
		gmem_write(&m->v.mem, DESC + (head + i) % QUEUE_SIZE * sizeof(desc), &desc,
			   sizeof(desc));
	}
	word = (uint32_t)take(in, 4);
	gmem_write(&m->v.mem, first, &word, sizeof(word));
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
	struct state *st = state_new_save(), *load;
	struct err err = ERR_INIT;
	const void *data;
	size_t len;

	CHECK(virtio_state(m->v.vdev, st) == 0);
	CHECK(state_finish(st, &data, &len, &err) == 0);
	load = state_new_load(data, len, &err);
	CHECK(load != NULL);
	/* It may refuse what the driver had made of itself, and is as reset then. */
	(void)virtio_state(m->v.vdev, load);
	state_free(load);
	state_free(st);
}

/* What the monitor asks of a balloon. */
static void ask(struct machine *m, uint8_t what)
{
	struct virtio_balloon_status status;
	struct virtio_balloon_stats stats;
	struct err err = ERR_INIT;

	if (m->v.vdev->ops->id != VIRTIO_ID_BALLOON)
		return;
	switch (what % 5) {
	case 0:
		if (virtio_balloon_set_target(m->v.vdev, what * 2048ULL, &err) == 0)
			m->target = what * 2048ULL & ~4095ULL;
		break;
	case 1:
		(void)virtio_balloon_hint_start(m->v.vdev, what & 128, &err);
		break;
	case 2:
		(void)virtio_balloon_hint_stop(m->v.vdev, &err);
		break;
	case 3:
		(void)virtio_balloon_stats(m->v.vdev, &stats);
		CHECK(stats.known < 1u << BALLOON_NSTATS);
		break;
	case 4:
		virtio_balloon_status(m->v.vdev, &status);
		CHECK(status.target == m->target);
	}
}

static void operate(struct machine *m, struct input *in)
{
	struct virtio_device *vdev = m->v.vdev;
	uint8_t op = (uint8_t)take(in, 1), bytes[32];
	uint64_t gpa;
	unsigned n;

	switch (op % 10) {
	case 0: /* memory */
		gpa = take(in, 2) * 4;
		n = (unsigned)take(in, 1) % sizeof(bytes);
		for (unsigned i = 0; i < n; i++)
			bytes[i] = (uint8_t)take(in, 1);
		gmem_write(&m->v.mem, gpa, bytes, n);
		break;
	case 1:
	case 2:
	case 3:
		add_chain(m, in);
		virtio_kick(vdev, op / 10 % 8);
		if ((op & 1) == 0)
			CHECK(loop_run_once(m->v.loop, 0) == 0);
		break;
	case 4:
		vf_put16(&m->v, AVAIL + 2, m->avail = (uint16_t)(m->avail + op / 10 % 3));
		virtio_kick(vdev, op / 10 % 4);
		break;
	case 5:
		CHECK(loop_run_once(m->v.loop, 0) == 0);
		break;
	case 6:
		n = (unsigned)take(in, 1);
		for (unsigned i = 0; i < 4; i++)
			bytes[i] = (uint8_t)take(in, 1);
		pthread_mutex_lock(&vdev->lock);
		virtio_config_write(vdev, n % 20, bytes, 1 + n / 20 % 4);
		virtio_config_read(vdev, n, bytes, 8);
		pthread_mutex_unlock(&vdev->lock);
		break;
	case 7:
		start(m, (uint8_t)take(in, 1));
		break;
	case 8:
		virtio_quiesce(vdev);
		if (vdev->ops->id == VIRTIO_ID_PMEM)
			check_nothing_out(m);
		if (op / 10 % 4 == 0)
			save_and_load(m);
		virtio_resume(vdev);
		break;
	case 9:
		if (op & 64)
			virtio_rescan(vdev);
		else
			ask(m, (uint8_t)take(in, 1));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct machine *m = machine();
	struct err err = ERR_INIT;
	uint8_t mark = 0x77;

	vf_attach(&m->v, m->device[take(&in, 1) % DEVICES]);
	m->target = 65536;
	if (m->v.vdev->ops->id == VIRTIO_ID_BALLOON)
		CHECK(virtio_balloon_set_target(m->v.vdev, m->target, &err) == 0);
	/* Nobody but a driver of the pmem device itself has a reason to change this byte. */
	CHECK(gmem_write(&m->v.mem, 2 * FILE_AT + FILE_BYTES - 1, &mark, 1) == 0);
	start(m, (uint8_t)take(&in, 1));
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		operate(m, &in);
	virtio_quiesce(m->v.vdev);
	vf_detach(&m->v);
	virtio_resume(m->v.vdev);
	CHECK(loop_run_once(m->v.loop, 0) == 0);
	CHECK(gmem_read(&m->v.mem, 2 * FILE_AT + FILE_BYTES - 1, &mark, 1) == 0);
	CHECK(mark == 0x77);
	return 0;
}
