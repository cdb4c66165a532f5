// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device: a thousand connections at once, half of them begun by each side, that move
 * data both ways in pieces of all sizes; each byte is checked. The guest is a small but complete
 * peer: it keeps to its credit, gives little of its own, and closes when all is done.
 */
#include <sys/resource.h>
#include "tests/unit/vsock_util.h"

#define CONNS	   1000
#define BYTES	   40000 /* each way */
#define GUEST_ROOM 6000	 /* each connection's buffer in the guest */
#define HOST_PORT  900
#define TX_SLOTS   64
#define TX_SIZE	   4096

struct conn {
	int fd;
	uint32_t host_port, guest_port;
	bool open, ok, eof, done;
	/* The guest's end */
	uint32_t sent, received, told, host_fwd;
	bool closed;
	/* The host's end */
	uint32_t wrote, read;
	char line[32];
	unsigned line_len;
};

static struct bench b;
static struct conn conns[CONNS];
static uint64_t slot[TX_SLOTS];
static uint64_t slot_of[VSOCK_QUEUE_SIZE]; /* by head of the chain */
static unsigned nslots;
static uint32_t seed = 1;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/* Byte @at of what connection @i carries, @way 0 or 1. */
static uint8_t byte(unsigned i, uint32_t at, unsigned way)
{
	return (uint8_t)((at * 2654435761u >> 13) + i * 31 + way * 101);
}

/* Are @len bytes from number @at on as they should be? check counts each assertion, so not here. */
static bool good(const struct conn *c, const uint8_t *data, size_t len, uint32_t at, unsigned way)
{
	unsigned i = (unsigned)(c - conns);
	uint8_t wrong = 0;

	for (size_t k = 0; k < len; k++)
		wrong |= data[k] ^ byte(i, at + (uint32_t)k, way);
	return wrong == 0;
}

static struct conn *conn_of(uint32_t guest_port)
{
	unsigned i = guest_port - 1;

	ck_assert_uint_lt(i, CONNS);
	return &conns[i];
}

static unsigned number(const struct conn *c)
{
	return (unsigned)(c - conns);
}

/* Is there a place for one more packet of the guest? */
static bool can_send(void)
{
	uint16_t head;

	while (driver_used(&b.d, VSOCK_TX, &head, NULL))
		slot[nslots++] = slot_of[head];
	return nslots > 0;
}

static void put(struct conn *c, uint16_t op, uint32_t flags, uint32_t len)
{
	uint64_t at = slot[--nslots];
	struct virtio_vsock_hdr h = header(c->guest_port, c->host_port, op);
	struct driver_buf bufs[2] = { { at, sizeof(h), false }, { at + sizeof(h), len, false } };
	uint8_t *data = driver_ptr(&b.d, at, TX_SIZE);

	h.flags = flags;
	h.len = len;
	h.buf_alloc = GUEST_ROOM;
	h.fwd_cnt = c->told = c->received;
	memcpy(data, &h, sizeof(h));
	for (uint32_t k = 0; k < len; k++)
		data[sizeof(h) + k] = byte(number(c), c->sent + k, 1);
	c->sent += len;
	slot_of[driver_add(&b.d, VSOCK_TX, bufs, len > 0 ? 2 : 1)] = at;
	driver_kick(&b.d, VSOCK_TX);
}

/* A packet for the guest. */
static void take(const struct packet *p)
{
	struct conn *c = conn_of(p->h.dst_port);

	c->host_fwd = p->h.fwd_cnt;
	switch (p->h.op) {
	case VIRTIO_VSOCK_OP_REQUEST:
		c->host_port = p->h.src_port;
		put(c, VIRTIO_VSOCK_OP_RESPONSE, 0, 0);
		c->open = true;
		break;
	case VIRTIO_VSOCK_OP_RESPONSE:
		c->open = true;
		break;
	case VIRTIO_VSOCK_OP_RW:
		ck_assert_uint_le(p->h.len, GUEST_ROOM - (c->received - c->told));
		ck_assert(good(c, p->data, p->h.len, c->received, 0));
		c->received += p->h.len;
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		c->eof = (p->h.flags & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0;
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		put(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_RST:
		ck_assert_msg(c->sent == BYTES && c->received == BYTES, "connection %u is reset",
			      number(c));
		c->done = true;
		break;
	default:
		ck_abort_msg("operation %u", p->h.op);
	}
}

/* What connection @c's guest end does next, if it is not the guest's turn to wait. */
static void guest_step(struct conn *c)
{
	uint32_t room = VSOCK_BUF - (c->sent - c->host_fwd), len;

	if (!c->open || c->done || !can_send())
		return;
	if (c->received - c->told > GUEST_ROOM / 3)
		put(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
	else if (c->sent < BYTES && room > 0) {
		len = 1 + rnd(TX_SIZE - (uint32_t)sizeof(struct virtio_vsock_hdr));
		len = len < room ? len : room;
		put(c, VIRTIO_VSOCK_OP_RW, 0, len < BYTES - c->sent ? len : BYTES - c->sent);
	} else if (c->sent == BYTES && c->received == BYTES && c->eof && !c->closed) {
		put(c, VIRTIO_VSOCK_OP_SHUTDOWN, 3, 0);
		c->closed = true;
	}
}

static void host_step(struct conn *c)
{
	static uint8_t buf[9000];
	ssize_t n;

	if (c->fd < 0)
		return;
	if (!c->ok && c->line_len < sizeof(c->line)) { /* "OK <port>\n", byte by byte */
		n = recv(c->fd, c->line + c->line_len, 1, 0);
		if (n <= 0)
			return;
		c->ok = c->line[c->line_len++] == '\n';
		return;
	}
	if (c->wrote < BYTES) {
		uint32_t len = 1 + rnd(sizeof(buf));

		len = len < BYTES - c->wrote ? len : BYTES - c->wrote;
		for (uint32_t k = 0; k < len; k++)
			buf[k] = byte(number(c), c->wrote + k, 0);
		n = send(c->fd, buf, len, MSG_NOSIGNAL);
		if (n > 0)
			c->wrote += (uint32_t)n;
		if (c->wrote == BYTES)
			shutdown(c->fd, SHUT_WR);
	}
	/* Some read slowly. */
	if (number(c) % 7 == 0 && rnd(4) != 0)
		return;
	n = recv(c->fd, buf, 1 + rnd(sizeof(buf)), 0);
	if (n > 0) {
		ck_assert(good(c, buf, (size_t)n, c->read, 1));
		c->read += (uint32_t)n;
	}
	if (n == 0) {
		ck_assert_uint_eq(c->read, BYTES);
		close(c->fd);
		c->fd = -1;
	}
}

static void take_all(void)
{
	struct packet p;

	/* A packet may need an answer. */
	while (can_send() && receive(&b, &p))
		take(&p);
}

START_TEST(a_thousand)
{
	int listener = listen_at(&b, HOST_PORT, CONNS);
	unsigned left = CONNS, peak = 0, rounds = 0;
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_ge(limit.rlim_cur, 3 * CONNS);
	for (unsigned i = 0; i < CONNS; i++) {
		struct conn *c = &conns[i];

		*c = (struct conn){ .fd = -1, .guest_port = i + 1, .host_port = HOST_PORT };
		if (i % 2 == 0) {
			char line[32];

			snprintf(line, sizeof(line), "CONNECT %u\n", c->guest_port);
			c->fd = join(&b);
			say(c->fd, line);
			loop_run_once(b.d.loop, 0);
			take_all();
			continue;
		}
		while (!can_send())
			loop_run_once(b.d.loop, 10);
		put(c, VIRTIO_VSOCK_OP_REQUEST, 0, 0);
		while (c->fd < 0) {
			loop_run_once(b.d.loop, 10);
			take_all();
			c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		}
		c->ok = true;
	}
	while (left > 0) {
		ck_assert_uint_lt(++rounds, 100000);
		left = CONNS;
		for (unsigned i = 0; i < CONNS; i++) {
			host_step(&conns[i]);
			guest_step(&conns[i]);
			if (i % 16 == 0) {
				loop_run_once(b.d.loop, 0);
				take_all();
			}
			left -= conns[i].done && conns[i].fd < 0;
		}
		if (bench_vs(&b)->n > peak)
			peak = bench_vs(&b)->n;
	}
	/* All of them were open at once. */
	ck_assert_uint_eq(peak, CONNS);
	driver_run(&b.d);
	ck_assert_uint_eq(bench_vs(&b)->n, 0);
	close(listener);
}
END_TEST

/* The table is full: clients of the host read the end, the guest's get a reset. */
START_TEST(table_full)
{
	static int fds[VSOCK_CONNS_MAX];
	struct vsock *vs = bench_vs(&b);
	int listener = listen_at(&b, HOST_PORT, 4), more;
	struct packet p;
	char c;

	vs->max = 200;
	for (unsigned i = 0; i < vs->max; i++)
		host_connects(&b, &fds[i], i);
	more = join(&b);
	ck_assert_int_eq(hear(&b, more, &c, 1), 0);
	close(more);
	send_op(&b, 1, HOST_PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	/* One goes, one may come. */
	close(fds[0]);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	send_op(&b, p.h.dst_port, p.h.src_port, VIRTIO_VSOCK_OP_RST, 0);
	host_connects(&b, &fds[0], 5000);
	for (unsigned i = 0; i < vs->max; i++)
		close(fds[i]);
	close(listener);
}
END_TEST

static void setup(void)
{
	bench_init(&b);
	bench_make(&b);
	bench_start(&b, 200);
	nslots = 0;
	while (nslots < TX_SLOTS)
		slot[nslots++] = driver_alloc(&b.d, TX_SIZE);
}

static void teardown(void)
{
	bench_fini(&b);
}

int main(void)
{
	Suite *s = suite_create("virtio_vsock_many");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, a_thousand);
	tcase_add_test(tc, table_full);
	suite_add_tcase(s, tc);
	return test_run(s);
}
