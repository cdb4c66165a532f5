/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the socket device: a driver that sends and receives packets one by one, and the
 * programs on the host, in a folder of their own.
 */
#ifndef TESTS_UNIT_VSOCK_UTIL_H
#define TESTS_UNIT_VSOCK_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/vsock_impl.h"
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"

#define CID	3
#define RX_SIZE 4096 /* of a receive buffer, as Linux has it */
#define TX_MAX	(256u << 10)
#define MY_BUF	(256u << 10) /* room a guest's socket has */

/* A packet. */
struct packet {
	struct virtio_vsock_hdr h;
	uint8_t data[RX_SIZE];
};

struct bench {
	struct driver d;
	const struct virtio_ops *ops;
	struct virtio_device *vdev;
	struct vsock_options options;
	char dir[32], path[64];
	uint64_t tx_at;			  /* one packet of up to TX_MAX */
	uint64_t rx_at[VSOCK_QUEUE_SIZE]; /* by descriptor */
	uint64_t event_at;
};

static inline void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == VIRTIO_ID_VSOCK)
			b->ops = virtio_kind(i);
	ck_assert_ptr_nonnull(b->ops);
	strcpy(b->dir, "/tmp/test_vsock.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/v.sock", b->dir);
	driver_init(&b->d);
	b->options = (struct vsock_options){ .cid = CID, .path = b->path };
}

/* Give the device @n receive buffers of @len bytes. */
static inline void bench_rx(struct bench *b, unsigned n, uint32_t len)
{
	while (n-- > 0) {
		uint64_t gpa = driver_alloc(&b->d, len);
		uint16_t head =
			driver_add(&b->d, VSOCK_RX, (struct driver_buf[]){ { gpa, len, true } }, 1);

		b->rx_at[head] = gpa;
	}
	driver_kick(&b->d, VSOCK_RX);
}

/* The driver comes, with @nrx receive buffers. */
static inline void bench_start(struct bench *b, unsigned nrx)
{
	b->d.heap = DRIVER_HEAP;
	driver_start(&b->d, 1ULL << VIRTIO_RING_F_EVENT_IDX);
	b->tx_at = driver_alloc(&b->d, sizeof(struct virtio_vsock_hdr) + TX_MAX);
	b->event_at = driver_alloc(&b->d, 16);
	bench_rx(b, nrx, RX_SIZE);
	driver_run(&b->d);
}

static inline void bench_make(struct bench *b)
{
	struct err err = ERR_INIT;

	ck_assert_msg(b->ops->check(&b->options, &err) == 0, "%s", err.msg);
	b->vdev = b->ops->create(&b->options, 1, 0, &b->d.host, &err);
	ck_assert_msg(b->vdev != NULL, "%s", err.msg);
	driver_attach(&b->d, b->vdev);
}

static inline void bench_fini(struct bench *b)
{
	char command[64];

	if (b->vdev != NULL) {
		driver_detach(&b->d);
		b->ops->destroy(b->vdev);
	}
	driver_fini(&b->d);
	/* Nothing is left but what tests put there. */
	ck_assert_int_ne(access(b->path, F_OK), 0);
	snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	ck_assert_int_eq(system(command), 0);
}

static inline struct vsock *bench_vs(struct bench *b)
{
	return container_of(b->vdev, struct vsock, vdev);
}

/* --- The guest --- */

/* Make a packet available and notify; it is not waited for. */
static inline void send_raw(struct bench *b, const struct virtio_vsock_hdr *h, const void *data,
			    uint32_t len)
{
	struct driver_buf bufs[2] = { { b->tx_at, sizeof(*h), false },
				      { b->tx_at + sizeof(*h), len, false } };

	ck_assert_int_eq(gmem_write(&b->d.mem, b->tx_at, h, sizeof(*h)), 0);
	if (len > 0)
		ck_assert_int_eq(gmem_write(&b->d.mem, b->tx_at + sizeof(*h), data, len), 0);
	driver_add(&b->d, VSOCK_TX, bufs, len > 0 ? 2 : 1);
	driver_kick(&b->d, VSOCK_TX);
}

static inline void send_header(struct bench *b, const struct virtio_vsock_hdr *h, const void *data)
{
	send_raw(b, h, data, h->len);
	driver_wait(&b->d, VSOCK_TX, NULL, NULL);
}

static inline struct virtio_vsock_hdr header(uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	return (struct virtio_vsock_hdr){ .src_cid = CID,
					  .dst_cid = VSOCK_CID_HOST,
					  .src_port = guest_port,
					  .dst_port = host_port,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op,
					  .buf_alloc = MY_BUF };
}

/* A packet without data, flags @flags. */
static inline void send_op(struct bench *b, uint32_t guest_port, uint32_t host_port, uint16_t op,
			   uint32_t flags)
{
	struct virtio_vsock_hdr h = header(guest_port, host_port, op);

	h.flags = flags;
	send_header(b, &h, NULL);
}

static inline void send_data(struct bench *b, uint32_t guest_port, uint32_t host_port,
			     const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = header(guest_port, host_port, VIRTIO_VSOCK_OP_RW);

	h.len = len;
	send_header(b, &h, data);
}

/* The next packet, if one is there; its buffer goes back to the device. */
static inline bool receive(struct bench *b, struct packet *p)
{
	uint16_t head;
	uint32_t len;

	if (!driver_used(&b->d, VSOCK_RX, &head, &len))
		return false;
	ck_assert_uint_ge(len, sizeof(p->h));
	ck_assert_int_eq(gmem_read(&b->d.mem, b->rx_at[head], p, len), 0);
	ck_assert_uint_eq(p->h.len, len - sizeof(p->h));
	ck_assert_uint_eq(p->h.src_cid, VSOCK_CID_HOST);
	ck_assert_uint_eq(p->h.dst_cid, CID);
	ck_assert_uint_eq(p->h.buf_alloc,
			  p->h.op == VIRTIO_VSOCK_OP_RST ? p->h.buf_alloc : VSOCK_BUF);
	/* The same descriptor: it is the only free one. */
	ck_assert_uint_eq(driver_add(&b->d, VSOCK_RX,
				     (struct driver_buf[]){ { b->rx_at[head], RX_SIZE, true } }, 1),
			  head);
	driver_kick(&b->d, VSOCK_RX);
	return true;
}

/* Run until a packet comes. */
static inline void expect(struct bench *b, struct packet *p, uint16_t op)
{
	uint64_t end = loop_now_ns() + DRIVER_WAIT_MS * 1000000ULL;

	while (!receive(b, p)) {
		ck_assert_msg(loop_now_ns() < end, "no packet comes, %d expected", op);
		ck_assert_int_eq(loop_run_once(b->d.loop, 10), 0);
	}
	ck_assert_uint_eq(p->h.op, op);
}

static inline void expect_none(struct bench *b)
{
	struct packet p;

	driver_run(&b->d);
	ck_assert(!receive(b, &p));
}

/* --- The host --- */

static inline struct sockaddr_un address(struct bench *b, long port)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (port < 0)
		snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", b->path);
	else
		snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%ld", b->path, port);
	return addr;
}

static inline int listen_at(struct bench *b, long port, int backlog)
{
	struct sockaddr_un addr = address(b, port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

static inline int join(struct bench *b)
{
	struct sockaddr_un addr = address(b, -1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What @fd has to read, run the loop until there is something. -1: reset; 0: the end. */
static inline ssize_t hear(struct bench *b, int fd, void *buf, size_t len)
{
	uint64_t end = loop_now_ns() + DRIVER_WAIT_MS * 1000000ULL;
	ssize_t n;

	while ((n = recv(fd, buf, len, 0)) < 0 && errno == EAGAIN) {
		ck_assert_msg(loop_now_ns() < end, "the host hears nothing");
		ck_assert_int_eq(loop_run_once(b->d.loop, 10), 0);
	}
	return n;
}

/* A client that was accepted by guest port @port. Its host port. */
static inline uint32_t host_connects(struct bench *b, int *fd, uint32_t port)
{
	struct packet p;
	char line[32], ok[32];
	ssize_t n;

	*fd = join(b);
	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	say(*fd, line);
	expect(b, &p, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(p.h.dst_port, port);
	ck_assert_uint_eq(p.h.type, VIRTIO_VSOCK_TYPE_STREAM);
	send_op(b, port, p.h.src_port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	n = hear(b, *fd, ok, sizeof(ok));
	snprintf(line, sizeof(line), "OK %u\n", p.h.src_port);
	ck_assert_int_eq(n, (ssize_t)strlen(line));
	ck_assert_mem_eq(ok, line, strlen(line));
	return p.h.src_port;
}

/* A connection of the guest's port @from to @listener at host port @port. */
static inline int guest_connects(struct bench *b, int listener, uint32_t from, uint32_t port)
{
	struct packet p;
	int fd;

	send_op(b, from, port, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(b, &p, VIRTIO_VSOCK_OP_RESPONSE);
	ck_assert_uint_eq(p.h.src_port, port);
	ck_assert_uint_eq(p.h.dst_port, from);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

#endif
