// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device, a driver that does anything, and host programs that do: packets right and
 * wrong on connections there are and are not, chains and memory of all kinds, clients that come,
 * say lines, read, stop and go, listeners, time that passes, resets, saving in between.
 * Checked: no chain is held back or given back twice, the table's counts are those of its
 * entries, every connection owes the host program what it buffered and no more than it has room
 * for, and what the device tells of itself when saved it takes back.
 *
 * Input: operations of 1 byte and their operands, see operate().
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/vsock_impl.h"
#include "tests/fuzz/virtio_fuzz.h"
#include "vmm/base/util.h"

#define RAM	    0x80000ULL
#define QUEUE_SIZE  8
#define QUEUE_AT(q) (0x1000ULL * ((q) + 1))
#define AVAIL	    0x100 /* behind the descriptors */
#define USED	    0x200
#define DATA	    0x10000ULL
#define DATA_SIZE   0x60000u
#define CLIENTS	    6
#define CONNS	    12 /* the table, small enough to be full */
#define CID	    3
#define OPERATIONS  200

static const struct vf_rings rings = { .size = QUEUE_SIZE,
				       .desc = QUEUE_AT(0),
				       .driver = QUEUE_AT(0) + AVAIL,
				       .device = QUEUE_AT(0) + USED,
				       .step = QUEUE_AT(1) - QUEUE_AT(0) };

struct bench {
	struct virtio_fuzz v;
	const struct virtio_ops *ops;
	struct vsock *vs;
	int client[CLIENTS];
	int listener; /* at port 1 */
	char path[64];
};

/* --- The driver --- */

static void start(struct bench *b)
{
	gmem_zero(&b->v.mem, 0, DATA);
	vf_start(&b->v, (uint32_t)b->v.vdev->features, &rings, UINT_MAX);
}

static void make_available(struct bench *b, unsigned q, uint16_t head)
{
	uint64_t avail = QUEUE_AT(q) + AVAIL;
	uint16_t idx = vf_get16(&b->v, avail + 2);

	vf_put16(&b->v, avail + 4 + 2 * (idx % QUEUE_SIZE), head);
	vf_put16(&b->v, avail + 2, (uint16_t)(idx + 1));
	virtio_kick(b->v.vdev, q);
}

/* A chain of up to 4 buffers: lengths and directions from the input. */
static void add(struct bench *b, struct input *in, unsigned q)
{
	uint64_t at = QUEUE_AT(q);
	uint16_t head = (uint16_t)(vf_get16(&b->v, at + AVAIL + 2) * 4 % QUEUE_SIZE);
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
	make_available(b, q, head);
}

/* Some receive buffers as they should be. */
static void add_rx(struct bench *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t head = vf_get16(&b->v, QUEUE_AT(VSOCK_RX) + AVAIL + 2) % QUEUE_SIZE;
		struct vring_desc desc = { .addr = DATA + 0x40000 + 0x1000u * head,
					   .len = 0x1000,
					   .flags = VRING_DESC_F_WRITE };

		gmem_write(&b->v.mem, QUEUE_AT(VSOCK_RX) + 16u * head, &desc, sizeof(desc));
		make_available(b, VSOCK_RX, head);
	}
}

/* A packet as a driver would write it, mostly. */
static void packet(struct bench *b, struct input *in)
{
	uint8_t kind = (uint8_t)take(in, 1), ports = (uint8_t)take(in, 1);
	uint64_t at = QUEUE_AT(VSOCK_TX);
	struct virtio_vsock_hdr h = {
		.src_cid = kind >= 0xfe ? take(in, 8) : CID,
		.dst_cid = kind == 0xfd ? take(in, 8) : VSOCK_CID_HOST,
		.src_port = ports & 15,
		.dst_port = ports >> 4 < 8 ? VSOCK_PORT_FIRST + (ports >> 4) : ports >> 5 & 3,
		.type = kind == 0xfc ? (uint16_t)take(in, 2) : VIRTIO_VSOCK_TYPE_STREAM,
		.op = kind % 16 < 9 ? kind % 16 : VIRTIO_VSOCK_OP_RW,
		.flags = kind >> 4,
		.buf_alloc = 0x10000,
	};
	struct vring_desc desc[2];
	uint8_t credit = (uint8_t)take(in, 1);

	if (credit != 0) {
		h.buf_alloc = (uint32_t)take(in, 4);
		h.fwd_cnt = (uint32_t)take(in, 4);
	}
	if (h.op == VIRTIO_VSOCK_OP_RW)
		h.len = (uint32_t)take(in, 1) << (kind >> 4) % 12;
	desc[0] = (struct vring_desc){ .addr = DATA, .len = sizeof(h), .flags = 1, .next = 1 };
	desc[1] = (struct vring_desc){ .addr = DATA + sizeof(h), .len = h.len };
	if (kind == 0xfb)
		h.len = (uint32_t)take(in, 4);
	gmem_write(&b->v.mem, DATA, &h, sizeof(h));
	gmem_write(&b->v.mem, at, desc, sizeof(desc));
	make_available(b, VSOCK_TX, 0);
}

/* --- The host --- */

static int unix_socket(struct bench *b, const char *suffix, struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s%s", b->path, suffix);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void leave(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void join(struct bench *b, int *fd)
{
	struct sockaddr_un addr;

	leave(fd);
	*fd = unix_socket(b, "", &addr);
	if (connect(*fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		leave(fd);
}

static void listen_again(struct bench *b)
{
	struct sockaddr_un addr;

	leave(&b->listener);
	b->listener = unix_socket(b, "_1", &addr);
	unlink(addr.sun_path);
	CHECK(bind(b->listener, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(listen(b->listener, 3) == 0);
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

static void pass_time(struct bench *b)
{
	for (struct vsock_link *l = b->vs->waiting.next; l != &b->vs->waiting; l = l->next)
		container_of(l, struct vsock_conn, wait)->deadline = 0;
	b->vs->timer.fn(&b->vs->timer);
}

static void check_all(struct bench *b)
{
	const struct vsock *vs = b->vs;
	unsigned n = 0, lines = 0;
	int small = 1;

	for (unsigned i = 0; i < vs->used; i++) {
		const struct vsock_conn *conn = &vs->table[i];

		n += conn->state != VSOCK_FREE;
		lines += conn->state == VSOCK_LINE;
		/* Its kernel shall buffer little, so that we have to. */
		if (conn->sock.fd >= 0)
			setsockopt(conn->sock.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		CHECK(conn->len <= VSOCK_BUF);
		CHECK(conn->len == 0 || conn->received - conn->fwd_cnt == conn->len);
		CHECK((conn->sock.fd < 0) ==
		      (conn->state == VSOCK_FREE || conn->state == VSOCK_RESET ||
		       conn->state == VSOCK_CLOSING));
		CHECK((conn->wait.next != NULL) ==
		      (conn->state == VSOCK_LINE || conn->state == VSOCK_REQUESTED ||
		       conn->state == VSOCK_CLOSING));
	}
	CHECK(n == vs->n && lines == vs->nlines && n <= vs->max);
	CHECK(vs->nrst <= VSOCK_RSTS_MAX);
	if ((b->v.vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0)
		return;
	for (unsigned q = 0; q < b->v.vdev->nqueues; q++) {
		const struct virtqueue *vq = &b->v.vdev->queue[q].vq;

		CHECK(!vq->started || vq->next_avail == vq->next_used);
	}
}

static void operate(struct bench *b, struct input *in)
{
	static char buf[70000];
	uint8_t op = (uint8_t)take(in, 1);
	int *fd = &b->client[(op >> 4) % CLIENTS];
	unsigned n;

	switch (op % 16) {
	case 0:
		add(b, in, (op >> 4) % VSOCK_QUEUES);
		break;
	case 1:
	case 2:
	case 3:
		packet(b, in);
		break;
	case 4:
		add_rx(b, 1 + (op >> 4) % QUEUE_SIZE);
		break;
	case 5: { /* memory: mostly rings */
		uint64_t gpa = take(in, 2);

		n = 1 + (op >> 4);
		for (unsigned i = 0; i < n; i++)
			buf[i] = (char)take(in, 1);
		gmem_write(&b->v.mem, gpa, buf, n);
		break;
	}
	case 6:
		join(b, fd);
		n = (unsigned)snprintf(buf, sizeof(buf), "CONNECT %u\n", (unsigned)take(in, 1));
		if (*fd >= 0 && send(*fd, buf, n, MSG_NOSIGNAL) < 0)
			leave(fd);
		break;
	case 7: /* lines of all kinds, and streams */
		n = (unsigned)take(in, 1) % 16;
		for (unsigned i = 0; i < n; i++)
			buf[i] = (char)take(in, 1);
		if (*fd < 0)
			join(b, fd);
		if (*fd >= 0 && send(*fd, buf, n, MSG_NOSIGNAL) < 0)
			break;
		break;
	case 8:
		n = 1 + (unsigned)take(in, 2);
		if (*fd >= 0 && send(*fd, buf, n, MSG_NOSIGNAL) < 0)
			break;
		break;
	case 9:
		n = 1 + (unsigned)take(in, 2);
		if (*fd >= 0 && recv(*fd, buf, n, 0) < 0)
			break;
		break;
	case 10:
		if (*fd >= 0)
			shutdown(*fd, (int)take(in, 1) % 3);
		break;
	case 11:
		leave(fd);
		break;
	case 12:
		if (op >> 4 < 4) {
			listen_again(b);
		} else if (op >> 4 < 6) {
			leave(&b->listener);
		} else {
			leave(fd);
			*fd = b->listener < 0 ? -1
					      : accept4(b->listener, NULL, NULL,
							SOCK_NONBLOCK | SOCK_CLOEXEC);
		}
		break;
	case 13:
		if (op >> 4 < 3)
			start(b);
		else if (op >> 4 < 6)
			save_and_load(b);
		else if (op >> 4 < 9)
			pass_time(b);
		else if (op >> 4 < 10)
			virtio_quiesce(b->v.vdev);
		else
			virtio_resume(b->v.vdev);
		break;
	default:
		loop_run_once(b->v.loop, 0);
		break;
	}
	check_all(b);
}

static void bench_init(struct bench *b)
{
	struct vsock_options options = { .cid = CID, .path = b->path };
	struct virtio_device *vdev;
	struct err err = ERR_INIT;

	memset(b, 0, sizeof(*b));
	for (int i = 0; i < CLIENTS; i++)
		b->client[i] = -1;
	b->listener = -1;
	snprintf(b->path, sizeof(b->path), "/tmp/fuzz_vsock.%d", (int)getpid());
	vf_init(&b->v, RAM, 0);
	b->ops = vf_ops(VIRTIO_ID_VSOCK);
	vdev = b->ops->create(&options, 1, 0, &b->v.host, &err);
	CHECK(vdev != NULL);
	vf_attach(&b->v, vdev);
	b->vs = container_of(b->v.vdev, struct vsock, vdev);
	b->vs->max = CONNS;
	b->vs->hash_key = 1;
	listen_again(b);
}

static void bench_fini(struct bench *b)
{
	for (int i = 0; i < CLIENTS; i++)
		leave(&b->client[i]);
	leave(&b->listener);
	vf_detach(&b->v);
	b->ops->destroy(b->v.vdev);
	vf_fini(&b->v);
	strcat(b->path, "_1");
	unlink(b->path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct bench b;

	signal(SIGPIPE, SIG_IGN);
	bench_init(&b);
	start(&b);
	for (unsigned i = 0; i < OPERATIONS && in.left > 0; i++)
		operate(&b, &in);
	bench_fini(&b);
	return 0;
}
