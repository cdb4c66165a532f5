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
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/virtio_console.h>
#include "devices/virtio.h"
#include "devices/virtio_console.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/log.h"

#define RAM	    0x40000ULL
#define PORTS	    3
#define QUEUES	    (2 * PORTS + 2)
#define QUEUE_SIZE  8
#define QUEUE_AT(q) (0x1000ULL * ((q) + 1))
#define AVAIL	    0x100 /* behind the descriptors */
#define USED	    0x200
#define DATA	    0x10000ULL
#define OPERATIONS  200

struct bench {
	struct gmem mem;
	struct loop *loop;
	struct chardevs chardevs;
	struct virtio_host host;
	struct virtio_transport transport;
	const struct virtio_ops *ops;
	struct virtio_device *vdev;
	struct console_options options[PORTS];
	unsigned nports;
	int client;
	char path[64];
};

static void on_interrupt(struct virtio_transport *t, int q)
{
	CHECK(q < (int)t->vdev->nqueues);
}

static int on_eventfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	(void)t;
	(void)q;
	(void)fd;
	(void)on;
	return -EOPNOTSUPP;
}

static const struct virtio_transport_ops transport_ops = { .interrupt = on_interrupt,
							   .ioeventfd = on_eventfd,
							   .irqfd = on_eventfd };

static void write16(struct bench *b, uint64_t gpa, uint16_t v)
{
	gmem_write(&b->mem, gpa, &v, sizeof(v));
}

static uint16_t read16(struct bench *b, uint64_t gpa)
{
	uint16_t v = 0;

	gmem_read(&b->mem, gpa, &v, sizeof(v));
	return v;
}

/* --- The driver --- */

static void start(struct bench *b, uint64_t features)
{
	struct virtio_device *v = b->vdev;

	gmem_zero(&b->mem, 0, DATA);
	pthread_mutex_lock(&v->lock);
	virtio_set_status(v, 0);
	virtio_set_status(v, 3);
	virtio_accept(v, 0, (uint32_t)(features & v->features));
	virtio_accept(v, 1, 1);
	virtio_set_status(v, 11);
	for (unsigned q = 0; q < v->nqueues; q++) {
		struct virtqueue *vq = virtio_queue_setup(v, q);

		vq->size = QUEUE_SIZE;
		vq->desc = QUEUE_AT(q);
		vq->driver = QUEUE_AT(q) + AVAIL;
		vq->device = QUEUE_AT(q) + USED;
		virtio_queue_enable(v, q);
	}
	virtio_set_status(v, 15);
	pthread_mutex_unlock(&v->lock);
}

/* A chain of up to 4 buffers: lengths and directions from the input. */
static void add(struct bench *b, struct input *in, unsigned q)
{
	uint64_t at = QUEUE_AT(q), avail = at + AVAIL;
	uint16_t idx = read16(b, avail + 2), head = (uint16_t)(idx * 4 % QUEUE_SIZE);
	unsigned n = 1 + (unsigned)take(in, 1) % 4;

	for (unsigned i = 0; i < n; i++) {
		uint8_t kind = (uint8_t)take(in, 1);
		struct vring_desc desc = { .addr = DATA + take(in, 2),
					   .len = (uint32_t)take(in, 1) << kind % 12,
					   .flags = (uint16_t)((kind >> 4 & 2) |
							       (i + 1 < n ? 1 : 0)),
					   .next = (uint16_t)(head + i + 1) };

		gmem_write(&b->mem, at + 16 * ((head + i) % QUEUE_SIZE), &desc, sizeof(desc));
	}
	write16(b, avail + 4 + 2 * (idx % QUEUE_SIZE), head);
	write16(b, avail + 2, (uint16_t)(idx + 1));
}

/* A control message as a driver would write it. */
static void control(struct bench *b, struct input *in)
{
	struct virtio_console_control msg = { .id = (uint32_t)take(in, 1),
					      .event = (uint16_t)take(in, 1),
					      .value = (uint16_t)take(in, 1) };
	uint64_t at = QUEUE_AT(3), avail = at + AVAIL;
	uint16_t idx = read16(b, avail + 2);
	struct vring_desc desc = { .addr = DATA, .len = sizeof(msg) };

	gmem_write(&b->mem, DATA, &msg, sizeof(msg));
	gmem_write(&b->mem, at, &desc, sizeof(desc));
	write16(b, avail + 4 + 2 * (idx % QUEUE_SIZE), 0);
	write16(b, avail + 2, (uint16_t)(idx + 1));
	virtio_kick(b->vdev, 3);
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

	virtio_quiesce(b->vdev);
	CHECK(virtio_state(b->vdev, save) == 0);
	CHECK(state_finish(save, &data, &len, &err) == 0);
	load = state_new_load(data, len, &err);
	CHECK(load != NULL);
	/* A broken device may not come back, a good one must. */
	if (virtio_state(b->vdev, load) == 0)
		CHECK(state_finish(load, NULL, NULL, &err) == 0);
	else
		CHECK(state_finish(load, NULL, NULL, &err) < 0);
	state_free(load);
	state_free(save);
	virtio_resume(b->vdev);
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
		virtio_kick(b->vdev, (op >> 4));
		break;
	case 5:
		control(b, in);
		break;
	case 6: { /* memory: mostly rings */
		uint64_t gpa = take(in, 2);

		n = 1 + (op >> 4);
		for (unsigned i = 0; i < n; i++)
			buf[i] = (char)take(in, 1);
		gmem_write(&b->mem, gpa, buf, n);
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
		pthread_mutex_lock(&b->vdev->lock);
		n = (unsigned)take(in, 1);
		virtio_config_write(b->vdev, op >> 4, &n, 4);
		virtio_config_read(b->vdev, op >> 4, buf, 8);
		pthread_mutex_unlock(&b->vdev->lock);
		break;
	case 12:
		pthread_mutex_lock(&b->vdev->lock);
		virtio_set_status(b->vdev, op >> 4 == 15 ? 0 : (uint8_t)take(in, 1));
		pthread_mutex_unlock(&b->vdev->lock);
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
		loop_run_once(b->loop, 0);
		break;
	}
	if ((b->vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0)
		return;
	for (unsigned q = 0; q < b->vdev->nqueues; q++) {
		const struct virtqueue *vq = &b->vdev->queue[q].vq;

		CHECK(!vq->started || vq->next_avail == vq->next_used);
	}
}

static void bench_init(struct bench *b, unsigned nports)
{
	struct gmem_config mem = { .size = RAM };
	struct err err = ERR_INIT;

	memset(b, 0, sizeof(*b));
	b->client = -1;
	snprintf(b->path, sizeof(b->path), "/tmp/fuzz_console.%d", (int)getpid());
	CHECK(gmem_init(&b->mem, &mem, &err) == 0);
	CHECK(gmem_add_region(&b->mem, 0, RAM, &err) == 0);
	b->loop = loop_new(&err);
	CHECK(b->loop != NULL);
	b->host = (struct virtio_host){ .mem = &b->mem, .loop = b->loop, .chardevs = &b->chardevs };
	b->transport.ops = &transport_ops;
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == VIRTIO_ID_CONSOLE)
			b->ops = virtio_kind(i);
	CHECK(b->ops != NULL);
	b->options[0].chr = (struct chardev_config){ .to = CHARDEV_SOCKET, .path = b->path };
	b->options[1].chr = (struct chardev_config){ .to = CHARDEV_NULL };
	b->options[2].chr = (struct chardev_config){ .to = CHARDEV_NULL };
	b->options[2].name = (char *)"fuzz";
	b->nports = nports;
	b->vdev = b->ops->create(b->options, nports, 0, &b->host, &err);
	CHECK(b->vdev != NULL);
	b->vdev->transport = &b->transport;
	b->transport.vdev = b->vdev;
	CHECK(chardevs_start(&b->chardevs, &err) == 0);
}

static void bench_fini(struct bench *b)
{
	if (b->client >= 0)
		close(b->client);
	pthread_mutex_lock(&b->vdev->lock);
	virtio_reset(b->vdev);
	b->vdev->transport = NULL;
	pthread_mutex_unlock(&b->vdev->lock);
	b->ops->destroy(b->vdev);
	CHECK(b->chardevs.first == NULL);
	loop_free(b->loop);
	gmem_fini(&b->mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	uint64_t features = take(&in, 1);
	struct bench b;

	signal(SIGPIPE, SIG_IGN);
	log_set_fd(-1);
	bench_init(&b, 1 + (unsigned)take(&in, 1) % PORTS);
	/* Bits 0 to 2: the console's; 3 and 4: INDIRECT_DESC and EVENT_IDX. */
	start(&b, (features & 7) | (features >> 3 & 3) << 28);
	for (unsigned i = 0; i < OPERATIONS && in.left > 0; i++)
		operate(&b, &in);
	bench_fini(&b);
	return 0;
}
