// SPDX-License-Identifier: Apache-2.0
/*
 * The console device and a driver that does anything: chains and memory of all kinds, control
 * messages, emergency writes, resets, with a client that comes, goes, reads and writes at the
 * other end, and saving in between. Checked: no chain is ever held back or given back twice,
 * and what the device tells of itself when saved it takes back.
 *
 * Input: 1 byte features, 1 byte number of ports, then operations: 1 byte and its operands, see
 * operate().
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/virtio_console.h>
#include "devices/virtio_console.h"
#include "tests/fuzz/virtio_fuzz.h"

#define RAM	    0x40000ULL
#define PORTS	    3
#define QUEUES	    (2 * PORTS + 2)
#define QUEUE_SIZE  8
#define QUEUE_AT(q) (0x1000ULL * ((q) + 1))
#define AVAIL	    0x100 /* behind the descriptors */
#define USED	    0x200
#define DATA	    0x10000ULL
#define OPERATIONS  200

static const struct vf_rings rings = { .size = QUEUE_SIZE,
				       .desc = QUEUE_AT(0),
				       .driver = QUEUE_AT(0) + AVAIL,
				       .device = QUEUE_AT(0) + USED,
				       .step = QUEUE_AT(1) - QUEUE_AT(0) };

struct bench {
	struct virtio_fuzz v;
	struct chardevs chardevs;
	const struct virtio_ops *ops;
	struct console_options options[PORTS];
	unsigned nports;
	int client;
	char path[64];
};

/* --- The driver --- */

static void start(struct bench *b, uint64_t features)
{
	gmem_zero(&b->v.mem, 0, DATA);
	vf_start(&b->v, (uint32_t)features, &rings, UINT_MAX);
}

/* A chain of up to 4 buffers: lengths and directions from the input. */
static void add(struct bench *b, struct input *in, unsigned q)
{
	uint64_t at = QUEUE_AT(q), avail = at + AVAIL;
	uint16_t idx = vf_get16(&b->v, avail + 2), head = (uint16_t)(idx * 4 % QUEUE_SIZE);
	unsigned n = 1 + (unsigned)take(in, 1) % 4;

	for (unsigned i = 0; i < n; i++) {
		uint8_t kind = (uint8_t)take(in, 1);
		struct vring_desc desc = { .addr = DATA + take(in, 2),
					   .len = (uint32_t)take(in, 1) << kind % 12,
					   .flags = (uint16_t)((kind >> 4 & 2) |
							       (i + 1 < n ? 1 : 0)),
					   .next = (uint16_t)(head + i + 1) };

		gmem_write(&b->v.mem, at + 16 * ((head + i) % QUEUE_SIZE), &desc, sizeof(desc));
	}
	vf_put16(&b->v, avail + 4 + 2 * (idx % QUEUE_SIZE), head);
	vf_put16(&b->v, avail + 2, (uint16_t)(idx + 1));
}

/* A control message as a driver would write it. */
static void control(struct bench *b, struct input *in)
{
	struct virtio_console_control msg = { .id = (uint32_t)take(in, 1),
					      .event = (uint16_t)take(in, 1),
					      .value = (uint16_t)take(in, 1) };
	uint64_t at = QUEUE_AT(3), avail = at + AVAIL;
	uint16_t idx = vf_get16(&b->v, avail + 2);
	struct vring_desc desc = { .addr = DATA, .len = sizeof(msg) };

	gmem_write(&b->v.mem, DATA, &msg, sizeof(msg));
	gmem_write(&b->v.mem, at, &desc, sizeof(desc));
	vf_put16(&b->v, avail + 4 + 2 * (idx % QUEUE_SIZE), 0);
	vf_put16(&b->v, avail + 2, (uint16_t)(idx + 1));
	virtio_kick(b->v.vdev, 3);
}

/* --- The host --- */

static void join(struct bench *b)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (b->client >= 0)
		close(b->client);
	b->client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	strcpy(addr.sun_path, b->path);
	if (connect(b->client, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(b->client); /* enough of them wait */
		b->client = -1;
	}
}

static void save_and_load(struct bench *b)
{
	struct state *save = state_new_save(), *load;
	struct err err = ERR_INIT;
	const void *data;
	size_t len;

	virtio_quiesce(b->v.vdev);
	CHECK(virtio_state(b->v.vdev, save) == 0);
	CHECK(state_finish(save, &data, &len, &err) == 0);
	load = state_new_load(data, len, &err);
	CHECK(load != NULL);
	/* A broken device may not come back, a good one must. */
	if (virtio_state(b->v.vdev, load) == 0)
		CHECK(state_finish(load, NULL, NULL, &err) == 0);
	else
		CHECK(state_finish(load, NULL, NULL, &err) < 0);
	state_free(load);
	state_free(save);
	virtio_resume(b->v.vdev);
}

static void operate(struct bench *b, struct input *in)
{
	static char buf[70000];
	uint8_t op = (uint8_t)take(in, 1);
	unsigned n;

	switch (op % 16) {
	case 0:
	case 1:
	case 2:
		add(b, in, (op >> 4) % QUEUES);
		break;
	case 3:
	case 4:
		virtio_kick(b->v.vdev, (op >> 4));
		break;
	case 5:
		control(b, in);
		break;
	case 6: { /* memory: mostly rings */
		uint64_t gpa = take(in, 2);

		n = 1 + (op >> 4);
		for (unsigned i = 0; i < n; i++)
			buf[i] = (char)take(in, 1);
		gmem_write(&b->v.mem, gpa, buf, n);
		break;
	}
	case 7:
		n = (unsigned)take(in, 1);
		memset(buf, (int)n, 32768);
		if (b->client >= 0 && write(b->client, buf, (n + 1) << (op >> 5)) < 0)
			break;
		break;
	case 8:
		if (b->client >= 0 && read(b->client, buf, 1 + take(in, 2)) < 0)
			break;
		break;
	case 9:
		join(b);
		break;
	case 10:
		if (b->client >= 0 && (op >> 4) % 2)
			shutdown(b->client, SHUT_WR);
		else if (b->client >= 0) {
			close(b->client);
			b->client = -1;
		}
		break;
	case 11:
		pthread_mutex_lock(&b->v.vdev->lock);
		n = (unsigned)take(in, 1);
		virtio_config_write(b->v.vdev, op >> 4, &n, 4);
		virtio_config_read(b->v.vdev, op >> 4, buf, 8);
		pthread_mutex_unlock(&b->v.vdev->lock);
		break;
	case 12:
		pthread_mutex_lock(&b->v.vdev->lock);
		virtio_set_status(b->v.vdev, op >> 4 == 15 ? 0 : (uint8_t)take(in, 1));
		pthread_mutex_unlock(&b->v.vdev->lock);
		break;
	case 13:
		if (op >> 4 < 4)
			start(b, take(in, 4));
		else if (op >> 4 < 8)
			save_and_load(b);
		else if (op >> 4 < 12)
			chardevs_flush(&b->chardevs);
		else
			chardevs_resized(&b->chardevs);
		break;
	default:
		loop_run_once(b->v.loop, 0);
		break;
	}
	if ((b->v.vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0)
		return;
	for (unsigned q = 0; q < b->v.vdev->nqueues; q++) {
		const struct virtqueue *vq = &b->v.vdev->queue[q].vq;

		CHECK(!vq->started || vq->next_avail == vq->next_used);
	}
}

static void bench_init(struct bench *b, unsigned nports)
{
	struct virtio_device *vdev;
	struct err err = ERR_INIT;

	memset(b, 0, sizeof(*b));
	b->client = -1;
	snprintf(b->path, sizeof(b->path), "/tmp/fuzz_console.%d", (int)getpid());
	vf_init(&b->v, RAM, 0);
	b->v.host.chardevs = &b->chardevs;
	b->ops = vf_ops(VIRTIO_ID_CONSOLE);
	b->options[0].chr = (struct chardev_config){ .to = CHARDEV_SOCKET, .path = b->path };
	b->options[1].chr = (struct chardev_config){ .to = CHARDEV_NULL };
	b->options[2].chr = (struct chardev_config){ .to = CHARDEV_NULL };
	b->options[2].name = (char *)"fuzz";
	b->nports = nports;
	vdev = b->ops->create(b->options, nports, 0, &b->v.host, &err);
	CHECK(vdev != NULL);
	vf_attach(&b->v, vdev);
	CHECK(chardevs_start(&b->chardevs, &err) == 0);
}

static void bench_fini(struct bench *b)
{
	if (b->client >= 0)
		close(b->client);
	vf_detach(&b->v);
	b->ops->destroy(b->v.vdev);
	CHECK(b->chardevs.first == NULL);
	vf_fini(&b->v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	uint64_t features = take(&in, 1);
	struct bench b;

	signal(SIGPIPE, SIG_IGN);
	bench_init(&b, 1 + (unsigned)take(&in, 1) % PORTS);
	/* Bits 0 to 2: the console's; 3 and 4: INDIRECT_DESC and EVENT_IDX. */
	start(&b, (features & 7) | (features >> 3 & 3) << 28);
	for (unsigned i = 0; i < OPERATIONS && in.left > 0; i++)
		operate(&b, &in);
	bench_fini(&b);
	return 0;
}
