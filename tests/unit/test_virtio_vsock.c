// SPDX-License-Identifier: Apache-2.0
/* The socket device: connections both ways, credit, half-close, resets, hostile packets, limits. */
#include <sys/resource.h>
#include "tests/unit/vsock_util.h"

#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

static struct bench b;
static struct packet p;
static uint8_t blob[TX_MAX];

static void setup(void)
{
	bench_init(&b);
	bench_make(&b);
	bench_start(&b, 16);
	for (unsigned i = 0; i < sizeof(blob); i++)
		blob[i] = (uint8_t)(i * 7 + i / 251);
}

static void teardown(void)
{
	bench_fini(&b);
}

static unsigned conns(void)
{
	return bench_vs(&b)->n;
}

/* --- The host connects --- */

START_TEST(host_to_guest)
{
	uint32_t host;
	char buf[64];
	uint64_t cid;
	int fd;

	driver_config_read(&b.d, 0, &cid, 8);
	ck_assert_uint_eq(cid, CID);
	host = host_connects(&b, &fd, 52);
	ck_assert_uint_ge(host, VSOCK_PORT_FIRST);
	say(fd, "hello");
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.src_port, host);
	ck_assert_uint_eq(p.h.dst_port, 52);
	ck_assert_uint_eq(p.h.len, 5);
	ck_assert_mem_eq(p.data, "hello", 5);
	send_data(&b, 52, host, "world", 5);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 5);
	ck_assert_mem_eq(buf, "world", 5);
	close(fd);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	ck_assert_uint_eq(p.h.flags, BOTH);
	send_op(&b, 52, host, VIRTIO_VSOCK_OP_RST, 0);
	ck_assert_uint_eq(conns(), 0);
	expect_none(&b);
	ck_assert_uint_eq(driver_latencies(&b.d),
			  3); /* of packets sent: a response, data, a reset */
}
END_TEST

/* The client says more in the same breath: it is for the guest, and not read too early. */
START_TEST(line_and_data)
{
	int fd = join(&b);

	say(fd, "connect  52\nfirst words");
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(p.h.dst_port, 52);
	expect_none(&b);
	send_op(&b, 52, p.h.src_port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 11);
	ck_assert_mem_eq(p.data, "first words", 11);
	close(fd);
}
END_TEST

/* A client that left before the guest answered: what it said arrives nevertheless. */
START_TEST(fire_and_forget)
{
	int fd = join(&b);

	say(fd, "CONNECT 52\nfirst words");
	close(fd);
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	send_op(&b, 52, p.h.src_port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 11);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	ck_assert_uint_eq(p.h.flags, BOTH);
}
END_TEST

START_TEST(slow_line)
{
	static const char line[] = "CONNECT 4294967295\n";
	int fd = join(&b);

	for (unsigned i = 0; line[i] != '\0'; i++) {
		expect_none(&b);
		ck_assert_int_eq(send(fd, &line[i], 1, 0), 1);
	}
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(p.h.dst_port, 4294967295u);
	close(fd);
}
END_TEST

START_TEST(bad_lines)
{
	static const char *const lines[] = {
		"\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT x\n",
		"CONNECT -1\n",
		"CONNECT 0x10\n",
		"CONNECT 4294967296\n",
		"CONNECT 99999999999999999999\n",
		"CONNECT 1 2\n",
		"CONNECTED 1\n",
		"GET / HTTP/1.0\n",
		"CONNECT 1CONNECT 1CONNECT 1CONNECT 1",
	};
	char c;

	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = join(&b);

		say(fd, lines[i]);
		/* Its end, or a reset where it said too much. */
		ck_assert_int_le(hear(&b, fd, &c, 1), 0);
		close(fd);
	}
	expect_none(&b);
	ck_assert_uint_eq(conns(), 0);
}
END_TEST

START_TEST(guest_refuses)
{
	int fd = join(&b);
	char c;

	say(fd, "CONNECT 1\n");
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	send_op(&b, 1, p.h.src_port, VIRTIO_VSOCK_OP_RST, 0);
	ck_assert_int_eq(hear(&b, fd, &c, 1), 0);
	ck_assert_uint_eq(conns(), 0);
	close(fd);
}
END_TEST

/* Without a driver there is nobody to ask. */
START_TEST(no_driver)
{
	int fd = join(&b);
	char c;

	driver_set_status(&b.d, 0);
	say(fd, "CONNECT 1\n");
	ck_assert_int_eq(hear(&b, fd, &c, 1), 0);
	close(fd);
}
END_TEST

/* While the machine stands still clients wait for it. */
START_TEST(paused)
{
	uint32_t host;
	int fd, old;

	host = host_connects(&b, &old, 5);
	virtio_quiesce(b.vdev);
	fd = join(&b);
	say(fd, "CONNECT 1\n");
	say(old, "x");
	expect_none(&b);
	virtio_resume(b.vdev);
	for (int i = 0; i < 2; i++) {
		while (!receive(&b, &p))
			loop_run_once(b.d.loop, 10);
		ck_assert(p.h.op == VIRTIO_VSOCK_OP_REQUEST ||
			  (p.h.op == VIRTIO_VSOCK_OP_RW && p.h.src_port == host));
	}
	close(fd);
	close(old);
}
END_TEST

/* Clients that say nothing are bounded in number; those behind them get their turn. */
START_TEST(silent_clients)
{
	int fd[VSOCK_LINES_MAX], last;

	for (int i = 0; i < VSOCK_LINES_MAX; i++)
		fd[i] = join(&b);
	last = join(&b);
	say(last, "CONNECT 7\n");
	expect_none(&b);
	ck_assert_uint_eq(conns(), VSOCK_LINES_MAX);
	close(fd[5]);
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(p.h.dst_port, 7);
	for (int i = 0; i < VSOCK_LINES_MAX; i++)
		if (i != 5)
			close(fd[i]);
	close(last);
}
END_TEST

/* Nobody waits for ever: as if the time had passed, for who waits first. */
static void pass_time(void)
{
	struct vsock *vs = bench_vs(&b);

	for (struct vsock_link *l = vs->waiting.next; l != &vs->waiting; l = l->next)
		container_of(l, struct vsock_conn, wait)->deadline = 0;
	vs->timer.fn(&vs->timer);
}

START_TEST(patience)
{
	int silent = join(&b), unanswered = join(&b), unheard, closing;
	uint32_t host, request;
	char c;

	host = host_connects(&b, &closing, 9);
	say(unanswered, "CONNECT 1\n");
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	request = p.h.src_port;
	close(closing);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	ck_assert_uint_eq(p.h.src_port, host);
	ck_assert_uint_eq(conns(), 3);
	ck_assert(bench_vs(&b)->timer.armed);
	pass_time();
	ck_assert_int_eq(hear(&b, silent, &c, 1), 0);
	ck_assert_int_eq(hear(&b, unanswered, &c, 1), 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_uint_eq(p.h.src_port, request);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_uint_eq(p.h.src_port, host);
	ck_assert_uint_eq(conns(), 0);
	ck_assert(!bench_vs(&b)->timer.armed);
	/* One the guest never heard of, for want of buffers, ends without a word. */
	bench_start(&b, 0);
	unheard = join(&b);
	say(unheard, "CONNECT 1\n");
	driver_run(&b.d);
	ck_assert_uint_eq(conns(), 1);
	pass_time();
	ck_assert_int_eq(hear(&b, unheard, &c, 1), 0);
	bench_rx(&b, 16, RX_SIZE);
	expect_none(&b);
	close(silent);
	close(unanswered);
	close(unheard);
}
END_TEST

/* --- The guest connects --- */

START_TEST(guest_to_host)
{
	int listener = listen_at(&b, 1234, 1), fd;
	char buf[8];

	fd = guest_connects(&b, listener, 70000, 1234);
	send_data(&b, 70000, 1234, "ping", 4);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 4);
	say(fd, "pong");
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_mem_eq(p.data, "pong", 4);
	ck_assert_uint_eq(p.h.fwd_cnt, 4);
	send_op(&b, 70000, 1234, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_int_eq(hear(&b, fd, buf, 1), 0);
	ck_assert_uint_eq(conns(), 0);
	close(fd);
	close(listener);
}
END_TEST

START_TEST(nobody_listens)
{
	int fd;

	send_op(&b, 1000, 80, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_uint_eq(p.h.src_port, 80);
	ck_assert_uint_eq(p.h.dst_port, 1000);
	/* A socket's file without a listener, and one that is full. */
	fd = listen_at(&b, 81, 0);
	for (int i = 0; i < 10; i++) {
		send_op(&b, 2000 + i, 81, VIRTIO_VSOCK_OP_REQUEST, 0);
		expect(&b, &p, i == 0 ? VIRTIO_VSOCK_OP_RESPONSE : VIRTIO_VSOCK_OP_RST);
	}
	/* The one that was never accepted goes with the listener. */
	close(fd);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	send_op(&b, 3000, 81, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
}
END_TEST

/* --- Half-close --- */

START_TEST(host_half_closes)
{
	uint32_t host;
	char buf[8];
	int fd;

	host = host_connects(&b, &fd, 5);
	say(fd, "all");
	shutdown(fd, SHUT_WR);
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	ck_assert_uint_eq(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_data(&b, 5, host, "answer", 6);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 6);
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 0);
	close(fd);
}
END_TEST

START_TEST(guest_half_closes)
{
	uint32_t host;
	char buf[8];
	int fd;

	host = host_connects(&b, &fd, 5);
	send_data(&b, 5, host, "all", 3);
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 3);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 0);
	say(fd, "answer");
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 6);
	close(fd);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	ck_assert_uint_eq(p.h.flags, BOTH);
	/* The guest closes at the same moment, and both wait for the other's RST. */
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_uint_eq(conns(), 0);
}
END_TEST

/* The guest will not read any more: the host cannot write, and may go on to read. */
START_TEST(guest_stops_reading)
{
	uint32_t host;
	char buf[8];
	int fd;

	host = host_connects(&b, &fd, 5);
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV);
	ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	ck_assert_int_eq(errno, EPIPE);
	send_data(&b, 5, host, "more", 4);
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 4);
	close(fd);
}
END_TEST

/* The host will not read any more: what the guest sends is lost, and it is told. */
START_TEST(host_stops_reading)
{
	uint32_t host;
	int fd;

	host = host_connects(&b, &fd, 5);
	shutdown(fd, SHUT_RD);
	for (int i = 0; i < 3; i++)
		send_data(&b, 5, host, blob, 60000);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	ck_assert_uint_eq(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_RCV);
	driver_run(&b.d);
	while (receive(&b, &p))
		ck_assert_uint_eq(p.h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	say(fd, "I talk");
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 6);
	ck_assert_uint_eq(p.h.fwd_cnt, 180000);
	close(fd);
}
END_TEST

/* --- Credit --- */

/* Without credit nothing is read; the guest is asked once. */
START_TEST(credit_to_guest)
{
	struct virtio_vsock_hdr h;
	uint32_t host, got = 0;
	int fd = join(&b);

	say(fd, "CONNECT 5\n");
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	host = p.h.src_port;
	h = header(5, host, VIRTIO_VSOCK_OP_RESPONSE);
	h.buf_alloc = 5000;
	send_header(&b, &h, NULL);
	driver_run(&b.d);
	ck_assert_int_eq(send(fd, blob, 20000, 0), 20000);
	while (got < 5000) {
		expect(&b, &p, VIRTIO_VSOCK_OP_RW);
		ck_assert_mem_eq(p.data, blob + got, p.h.len);
		got += p.h.len;
	}
	ck_assert_uint_eq(got, 5000);
	expect(&b, &p, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	expect_none(&b);
	/* "None", and it is not asked again. */
	h.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	send_header(&b, &h, NULL);
	expect_none(&b);
	/* It took some; it took more than it was sent: then it gets nothing. */
	h.fwd_cnt = 3000;
	send_header(&b, &h, NULL);
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 3000);
	expect(&b, &p, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	h.fwd_cnt = 8001;
	send_header(&b, &h, NULL);
	expect_none(&b);
	h.fwd_cnt = 8000;
	h.buf_alloc = 0xffffffff;
	send_header(&b, &h, NULL);
	for (got = 8000; got < 20000; got += p.h.len) {
		expect(&b, &p, VIRTIO_VSOCK_OP_RW);
		ck_assert_mem_eq(p.data, blob + got, p.h.len);
	}
	close(fd);
}
END_TEST

/* A host program that does not read: up to what was promised is kept, then the guest must wait. */
START_TEST(credit_to_host)
{
	uint32_t host, sent = 0, got = 0, room, fwd = 0, size = 4096;
	int fd, other;
	char buf[8];

	host = host_connects(&b, &fd, 5);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	/* As long as the device says there is room. */
	for (;;) {
		driver_run(&b.d);
		while (receive(&b, &p))
			fwd = p.h.fwd_cnt;
		room = VSOCK_BUF - (sent - fwd);
		if (room == 0)
			break;
		if (room > 3000)
			room = 3000;
		send_data(&b, 5, host, blob + sent % 100000, room);
		sent += room;
	}
	ck_assert_uint_ge(sent, VSOCK_BUF);
	/* Others are not held up. */
	ck_assert_uint_ne(host_connects(&b, &other, 6), host);
	close(other);
	expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
	/* The guest closes; it hears at once, and the host gets all of it. */
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST); /* its ports are free */
	for (;;) {
		static uint8_t piece[3000];
		ssize_t n = hear(&b, fd, piece, sizeof(piece) - got % sizeof(piece));

		ck_assert_int_ge(n, 0);
		if (n == 0)
			break;
		/* Each piece began at its own number. */
		ck_assert_mem_eq(piece, blob + got / 3000 * 3000 % 100000 + got % 3000, (size_t)n);
		got += (uint32_t)n;
	}
	ck_assert_uint_eq(got, sent);
	ck_assert_int_eq(hear(&b, fd, buf, 1), 0);
	close(fd);
}
END_TEST

/* The guest hears of room in time, and when it asks. */
START_TEST(credit_updates)
{
	uint32_t host, got = 0;
	static char buf[70000];
	int fd;

	host = host_connects(&b, &fd, 5);
	send_data(&b, 5, host, blob, VSOCK_BUF / 4);
	expect_none(&b);
	while (got < VSOCK_BUF / 4)
		got += (uint32_t)hear(&b, fd, buf, sizeof(buf));
	send_op(&b, 5, host, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	ck_assert_uint_eq(p.h.fwd_cnt, VSOCK_BUF / 4);
	send_data(&b, 5, host, blob, VSOCK_BUF / 4);
	expect_none(&b);
	send_data(&b, 5, host, blob, 1);
	expect(&b, &p, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	ck_assert_uint_gt(p.h.fwd_cnt, VSOCK_BUF / 4);
	close(fd);
}
END_TEST

/* Counters wrap after 4 GiB. */
START_TEST(counters_wrap)
{
	struct vsock *vs = bench_vs(&b);
	struct virtio_vsock_hdr h;
	uint32_t host;
	char buf[8];
	int fd;

	host = host_connects(&b, &fd, 5);
	vs->table[0].sent = vs->table[0].guest_fwd_cnt = 0xfffffffe;
	vs->table[0].received = vs->table[0].fwd_cnt = vs->table[0].told_fwd_cnt = 0xfffffffd;
	h = header(5, host, VIRTIO_VSOCK_OP_RW);
	h.fwd_cnt = 0xfffffffe;
	h.buf_alloc = 4;
	h.len = 5;
	send_header(&b, &h, "12345");
	ck_assert_int_eq(hear(&b, fd, buf, sizeof(buf)), 5);
	say(fd, "abcdef");
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 4);
	ck_assert_uint_eq(p.h.fwd_cnt, 2);
	expect(&b, &p, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	h.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	h.len = 0;
	h.fwd_cnt = 1;
	send_header(&b, &h, NULL);
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	ck_assert_uint_eq(p.h.len, 2);
	close(fd);
}
END_TEST

/* More than the device has room for ends the connection. */
START_TEST(guest_overruns)
{
	uint32_t host;
	char c;
	int fd;

	host = host_connects(&b, &fd, 5);
	send_data(&b, 5, host, blob, VSOCK_BUF + 1);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_int_eq(hear(&b, fd, &c, 1), 0);
	ck_assert_uint_eq(conns(), 0);
	close(fd);
}
END_TEST

/* A guest without receive buffers: nothing is read from the host's sockets. */
START_TEST(no_buffers)
{
	size_t sent = 0;
	ssize_t n;
	int fd;

	bench_start(&b, 2);
	host_connects(&b, &fd, 5);
	for (int i = 0; i < 2; i++) {
		say(fd, "x");
		driver_run(&b.d);
	}
	/* Both buffers are used, and stay so. */
	for (int i = 0; i < 100; i++) {
		while ((n = send(fd, blob, sizeof(blob), MSG_NOSIGNAL)) > 0)
			sent += (size_t)n;
		driver_run(&b.d);
	}
	ck_assert_uint_lt(sent, 1 << 20);
	/* It is all there when buffers come. */
	for (size_t got = 0; got < sent + 2; got += p.h.len)
		expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	close(fd);
}
END_TEST

/* --- What should not happen --- */

static void is_broken(const char *what)
{
	driver_run(&b.d);
	ck_assert_msg((driver_status(&b.d) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0, "%s", what);
	bench_start(&b, 16);
}

START_TEST(broken_packets)
{
	struct virtio_vsock_hdr h = header(1, 2, VIRTIO_VSOCK_OP_RW);
	int fd;

	host_connects(&b, &fd, 5);
	driver_add(&b.d, VSOCK_TX, (struct driver_buf[]){ { b.tx_at, 43, false } }, 1);
	driver_kick(&b.d, VSOCK_TX);
	is_broken("short header");
	ck_assert_uint_eq(conns(), 0);
	driver_add(&b.d, VSOCK_TX, (struct driver_buf[]){ { b.tx_at, 64, true } }, 1);
	driver_kick(&b.d, VSOCK_TX);
	is_broken("nothing to read");
	h.len = 101;
	send_raw(&b, &h, blob, 100);
	is_broken("length");
	h.len = 0xffffffff;
	send_raw(&b, &h, blob, 100);
	is_broken("huge length");
	bench_start(&b, 0);
	bench_rx(&b, 1, sizeof(h));
	send_op(&b, 1, 2, VIRTIO_VSOCK_OP_RW, 0); /* to be answered by RST */
	is_broken("receive buffer without room");
	close(fd);
}
END_TEST

START_TEST(wrong_addresses)
{
	struct virtio_vsock_hdr h = header(5, 80, VIRTIO_VSOCK_OP_REQUEST);
	int listener = listen_at(&b, 80, 4);

	h.src_cid = CID + 1;
	send_header(&b, &h, NULL);
	h.src_cid = 0;
	send_header(&b, &h, NULL);
	h.src_cid = CID | 1ULL << 32;
	send_header(&b, &h, NULL);
	h.src_cid = CID;
	h.dst_cid = 1;
	send_header(&b, &h, NULL);
	h.dst_cid = CID;
	send_header(&b, &h, NULL);
	h.dst_cid = 2 | 1ULL << 32;
	send_header(&b, &h, NULL);
	expect_none(&b);
	ck_assert_uint_eq(conns(), 0);
	close(listener);
}
END_TEST

/* Types and operations there are not, on connections there are and there are not. */
START_TEST(wrong_kinds)
{
	static const uint16_t types[] = { 0, VIRTIO_VSOCK_TYPE_SEQPACKET, 3, 0xffff };
	static const uint16_t ops[] = { 0, VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE, 8,
					0xffff };
	struct virtio_vsock_hdr h = header(5, 80, VIRTIO_VSOCK_OP_REQUEST);
	int listener = listen_at(&b, 80, 16), fd;
	uint32_t host;

	for (unsigned i = 0; i < 4; i++) {
		h.type = types[i];
		send_header(&b, &h, NULL);
		expect(&b, &p, VIRTIO_VSOCK_OP_RST);
		ck_assert_uint_eq(p.h.type, types[i]);
		h.op = VIRTIO_VSOCK_OP_RST;
		send_header(&b, &h, NULL);
		h.op = VIRTIO_VSOCK_OP_REQUEST;
	}
	for (unsigned op = 0; op < 12; op++) {
		if (op == VIRTIO_VSOCK_OP_REQUEST || op == VIRTIO_VSOCK_OP_RST)
			continue;
		send_op(&b, 5, 80, (uint16_t)op, BOTH);
		expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	}
	send_op(&b, 5, 80, VIRTIO_VSOCK_OP_RST, 0);
	expect_none(&b);
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		fd = guest_connects(&b, listener, 1000 + i, 80);
		send_op(&b, 1000 + i, 80, ops[i], 0);
		expect(&b, &p, VIRTIO_VSOCK_OP_RST);
		ck_assert_uint_eq(p.h.dst_port, 1000 + i);
		close(fd);
	}
	/* An answer to a question not asked yet, and data before the answer. */
	fd = join(&b);
	say(fd, "CONNECT 5\n");
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	host = p.h.src_port;
	send_data(&b, 5, host, "x", 1);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	close(fd);
	/* Data after it said there is none. */
	host = host_connects(&b, &fd, 6);
	send_op(&b, 6, host, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND | 0xf0);
	send_data(&b, 6, host, "x", 1);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	close(fd);
	expect_none(&b);
	ck_assert_uint_eq(conns(), 0);
	close(listener);
}
END_TEST

/* The guest's side has forgotten a connection that we still close. */
START_TEST(ports_reused)
{
	int listener = listen_at(&b, 80, 4), fd;

	for (int i = 0; i < 3; i++) {
		fd = guest_connects(&b, listener, 5, 80);
		close(fd);
		expect(&b, &p, VIRTIO_VSOCK_OP_SHUTDOWN);
		ck_assert_uint_eq(p.h.flags, BOTH);
		/* Data on the way to a socket that is closed goes nowhere. */
		send_data(&b, 5, 80, "x", 1);
	}
	ck_assert_uint_eq(conns(), 1);
	close(listener);
}
END_TEST

/* The host's socket fails with bytes unread: a reset for the guest, too. */
START_TEST(host_resets)
{
	uint32_t host;
	int fd;

	host = host_connects(&b, &fd, 5);
	send_data(&b, 5, host, "unread", 6);
	driver_run(&b.d);
	close(fd);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	ck_assert_uint_eq(conns(), 0);
}
END_TEST

/* Packets that need an answer, and nobody who takes one: the device stops taking them. */
START_TEST(flood)
{
	struct virtio_vsock_hdr h = header(5, 80, VIRTIO_VSOCK_OP_REQUEST);
	unsigned sent = 0, back = 0, answers = 0;

	bench_start(&b, 0);
	ck_assert_int_eq(gmem_write(&b.d.mem, b.tx_at, &h, sizeof(h)), 0);
	for (int i = 0; i < 3000; i++) {
		if (sent - back < 200) {
			driver_add(&b.d, VSOCK_TX,
				   (struct driver_buf[]){ { b.tx_at, sizeof(h), false } }, 1);
			driver_kick(&b.d, VSOCK_TX);
			sent++;
		}
		driver_run(&b.d);
		while (driver_used(&b.d, VSOCK_TX, NULL, NULL))
			back++;
	}
	ck_assert_uint_eq(back, VSOCK_RSTS_MAX);
	ck_assert_uint_eq(sent, back + 200);
	bench_rx(&b, 16, RX_SIZE);
	while (answers < sent) {
		expect(&b, &p, VIRTIO_VSOCK_OP_RST);
		answers++;
	}
	while (driver_used(&b.d, VSOCK_TX, NULL, NULL))
		back++;
	ck_assert_uint_eq(back, sent);
	expect_none(&b);
}
END_TEST

/* --- Life --- */

/* A reset drops connections, not clients that did not say anything yet. */
START_TEST(driver_resets)
{
	int fd, idle = join(&b);
	char c;

	host_connects(&b, &fd, 5);
	bench_start(&b, 16); /* resets; alive again before the loop has run */
	ck_assert_int_eq(hear(&b, fd, &c, 1), 0);
	ck_assert_uint_eq(conns(), 1);
	say(idle, "CONNECT 8\n");
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(p.h.dst_port, 8);
	close(fd);
	close(idle);
}
END_TEST

static int state(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

/* Saved and loaded: no connections, the driver is told, and then goes on. */
START_TEST(saved)
{
	struct virtio_vsock_event event = { 99 };
	void *data;
	size_t len;
	int fd;
	char c;

	host_connects(&b, &fd, 5);
	virtio_quiesce(b.vdev);
	data = test_save(state, b.vdev, &len);
	virtio_resume(b.vdev);
	/* Who was saved goes on. */
	say(fd, "x");
	expect(&b, &p, VIRTIO_VSOCK_OP_RW);
	virtio_quiesce(b.vdev);
	free(data);
	data = test_save(state, b.vdev, &len);
	ck_assert_int_eq(test_load(state, b.vdev, data, len), 0);
	free(data);
	virtio_resume(b.vdev);
	ck_assert_int_eq(hear(&b, fd, &c, 1), 0);
	ck_assert_uint_eq(conns(), 0);
	/* The event waits for a buffer. */
	gmem_write(&b.d.mem, b.event_at, &event, sizeof(event));
	driver_add(&b.d, VSOCK_EVENT, (struct driver_buf[]){ { b.event_at, sizeof(event), true } },
		   1);
	driver_kick(&b.d, VSOCK_EVENT);
	driver_wait(&b.d, VSOCK_EVENT, NULL, NULL);
	gmem_read(&b.d.mem, b.event_at, &event, sizeof(event));
	ck_assert_uint_eq(event.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	driver_add(&b.d, VSOCK_EVENT, (struct driver_buf[]){ { b.event_at, sizeof(event), true } },
		   1);
	driver_notify(&b.d, VSOCK_EVENT);
	driver_run(&b.d);
	ck_assert(!driver_used(&b.d, VSOCK_EVENT, NULL, NULL)); /* once */
	close(fd);
	host_connects(&b, &fd, 6);
	close(fd);
}
END_TEST

/* Descriptors run out: what is there goes on, who comes waits. */
START_TEST(out_of_descriptors)
{
	struct rlimit old, low;
	uint32_t host;
	int fd, next = join(&b), listener = listen_at(&b, 80, 4);
	char c;

	host = host_connects(&b, &fd, 5);
	say(next, "CONNECT 6\n");
	/* The lowest number that is free decides. */
	c = 0;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	low.rlim_cur = 3;
	int waits = join(&b);

	say(waits, "CONNECT 7\n");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	expect_none(&b);
	send_op(&b, 1, 80, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_RST);
	send_data(&b, 5, host, "x", 1);
	ck_assert_int_eq(hear(&b, fd, &c, 1), 1);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	expect(&b, &p, VIRTIO_VSOCK_OP_REQUEST);
	ck_assert_uint_eq(p.h.dst_port, 7);
	close(fd);
	close(next);
	close(waits);
	close(listener);
}
END_TEST

START_TEST(options)
{
	struct vsock_options o = { .cid = 3 };
	char longer[128], *long_path = longer;
	struct err err = ERR_INIT;
	struct stat st;
	int fd;

	ck_assert_uint_eq(b.ops->option.size, sizeof(o));
	ck_assert_int_lt(b.ops->check(&o, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "path=SOCKET, or vhost"));
	o.vhost = true;
	ck_assert_int_eq(b.ops->check(&o, &err), 0);
	o.path = b.path;
	ck_assert_int_lt(b.ops->check(&o, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "exclude each other"));
	o.vhost = false;
	memset(longer, 'x', sizeof(longer));
	longer[97] = '\0';
	o.path = long_path;
	ck_assert_int_lt(b.ops->check(&o, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "97 bytes, but at most 96"));
	longer[96] = '\0';
	ck_assert_int_eq(b.ops->check(&o, &err), 0);
	longer[0] = '\0';
	ck_assert_int_lt(b.ops->check(&o, &err), 0);
	/* The path is taken. */
	o.path = b.path;
	ck_assert_ptr_null(b.ops->create(&o, 1, 0, &b.d.host, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "another program listens there"));
	ck_assert_int_eq(stat(b.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	/* By nobody any more. */
	driver_detach(&b.d);
	b.ops->destroy(b.vdev);
	ck_assert_int_ne(stat(b.path, &st), 0);
	fd = listen_at(&b, -1, 1);
	close(fd);
	bench_make(&b);
	bench_start(&b, 16);
	host_connects(&b, &fd, 5);
	close(fd);
}
END_TEST

START_TEST(no_vhost)
{
	struct vsock_options o = { .cid = 3, .vhost = true };
	struct err err = ERR_INIT;
	struct virtio_device *vdev;

	if (access("/dev/vhost-vsock", F_OK) == 0)
		return; /* tests/boot/vsock has it */
	vdev = b.ops->create(&o, 1, 0, &b.d.host, &err);
	ck_assert_ptr_null(vdev);
	ck_assert_ptr_nonnull(strstr(err.msg, "modprobe vhost_vsock"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("virtio_vsock");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, host_to_guest);
	tcase_add_test(tc, line_and_data);
	tcase_add_test(tc, fire_and_forget);
	tcase_add_test(tc, slow_line);
	tcase_add_test(tc, bad_lines);
	tcase_add_test(tc, guest_refuses);
	tcase_add_test(tc, no_driver);
	tcase_add_test(tc, paused);
	tcase_add_test(tc, silent_clients);
	tcase_add_test(tc, patience);
	tcase_add_test(tc, guest_to_host);
	tcase_add_test(tc, nobody_listens);
	tcase_add_test(tc, host_half_closes);
	tcase_add_test(tc, guest_half_closes);
	tcase_add_test(tc, guest_stops_reading);
	tcase_add_test(tc, host_stops_reading);
	tcase_add_test(tc, credit_to_guest);
	tcase_add_test(tc, credit_to_host);
	tcase_add_test(tc, credit_updates);
	tcase_add_test(tc, counters_wrap);
	tcase_add_test(tc, guest_overruns);
	tcase_add_test(tc, no_buffers);
	tcase_add_test(tc, broken_packets);
	tcase_add_test(tc, wrong_addresses);
	tcase_add_test(tc, wrong_kinds);
	tcase_add_test(tc, ports_reused);
	tcase_add_test(tc, host_resets);
	tcase_add_test(tc, flood);
	tcase_add_test(tc, driver_resets);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, out_of_descriptors);
	tcase_add_test(tc, options);
	tcase_add_test(tc, no_vhost);
	suite_add_tcase(s, tc);
	return test_run(s);
}
