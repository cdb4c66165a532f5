// SPDX-License-Identifier: Apache-2.0
/*
 * vsock guest|host|unix [MS]: what one connection of the socket device carries, from the guest to a
 * program on the host or the other way; unix: what a plain Unix socket carries between two threads.
 * Prints bytes per second.
 *
 * There is no guest: one thread plays its driver, with buffers of 4 KiB for what it receives as
 * Linux has them and packets of 64 KiB for what it sends; another is the monitor's loop, a third
 * the program on the host. So what is measured is the device, its queues and the sockets.
 */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* The driver of the unit tests, without what check does at each assertion: it writes to a file. */
#undef ck_assert_msg
#undef ck_abort_msg
#undef ck_assert
#undef ck_assert_int_eq
#undef ck_assert_int_ne
#undef ck_assert_int_ge
#undef ck_assert_uint_eq
#undef ck_assert_uint_gt
#undef ck_assert_uint_ge
#undef ck_assert_uint_le
#undef ck_assert_uint_lt
#undef ck_assert_ptr_nonnull
#undef ck_assert_mem_eq
#define must(x)			  ((x) ? (void)0 : (fputs("not true: " #x "\n", stderr), abort()))
#define ck_assert_msg(x, ...)	  must(x)
#define ck_abort_msg(text)	  abort()
#define ck_assert(x)		  must(x)
#define ck_assert_int_eq(x, y)	  must((x) == (y))
#define ck_assert_int_ne(x, y)	  must((x) != (y))
#define ck_assert_int_ge(x, y)	  must((x) >= (y))
#define ck_assert_uint_eq(x, y)	  must((x) == (y))
#define ck_assert_uint_gt(x, y)	  must((x) > (y))
#define ck_assert_uint_ge(x, y)	  must((x) >= (y))
#define ck_assert_uint_le(x, y)	  must((x) <= (y))
#define ck_assert_uint_lt(x, y)	  must((x) < (y))
#define ck_assert_ptr_nonnull(x)  must((x) != NULL)
#define ck_assert_mem_eq(x, y, n) must(memcmp(x, y, n) == 0)

#include "tests/unit/vsock_util.h"

#define PACKET	VSOCK_PACKET_MAX
#define SLOTS	8
#define IN_FLUX (1u << 20) /* what the guest lets the host send ahead */
#define PORT	5

static struct bench b;
static atomic_bool stop;
static _Atomic uint64_t moved; /* bytes that arrived */

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void *reader(void *arg)
{
	static char buf[PACKET];
	ssize_t n;

	while ((n = read(*(int *)arg, buf, sizeof(buf))) > 0)
		atomic_fetch_add(&moved, (uint64_t)n);
	return NULL;
}

static void *writer(void *arg)
{
	static char buf[PACKET];

	while (send(*(int *)arg, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
		;
	return NULL;
}

static void *stopper(void *arg)
{
	usleep(*(unsigned *)arg * 1000);
	atomic_store(&stop, true);
	return NULL;
}

/* The guest sends as much as it may. */
static void guest_sends(uint32_t host_port, uint64_t at)
{
	uint32_t sent = 0, fwd = 0;
	unsigned busy = 0, next = 0;
	struct packet p;

	while (!atomic_load(&stop)) {
		bool idle = true;

		while (driver_used(&b.d, VSOCK_TX, NULL, NULL))
			busy--, idle = false;
		while (receive(&b, &p))
			fwd = p.h.fwd_cnt, idle = false;
		if (busy < SLOTS && VSOCK_BUF - (sent - fwd) >= PACKET) {
			struct virtio_vsock_hdr h = header(PORT, host_port, VIRTIO_VSOCK_OP_RW);
			uint64_t slot = at + next++ % SLOTS * 64;

			h.len = PACKET;
			memcpy(driver_ptr(&b.d, slot, sizeof(h)), &h, sizeof(h));
			driver_add(&b.d, VSOCK_TX,
				   (struct driver_buf[]){ { slot, sizeof(h), false },
							  { b.tx_at, PACKET, false } },
				   2);
			driver_kick(&b.d, VSOCK_TX);
			sent += PACKET;
			busy++;
			idle = false;
		}
		if (idle)
			sched_yield();
	}
}

/* The guest receives, and says so before its room is at its end. */
static void guest_receives(uint32_t host_port, uint64_t at)
{
	struct virtio_vsock_hdr h = header(PORT, host_port, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	uint32_t told = 0, received = 0;
	struct packet p;

	h.buf_alloc = IN_FLUX;
	while (!atomic_load(&stop)) {
		if (receive(&b, &p)) {
			received += p.h.len;
			atomic_fetch_add(&moved, p.h.len);
		} else {
			sched_yield();
		}
		while (driver_used(&b.d, VSOCK_TX, NULL, NULL))
			;
		if (received - told < IN_FLUX / 4 && told != 0)
			continue;
		h.fwd_cnt = told = received;
		memcpy(driver_ptr(&b.d, at, sizeof(h)), &h, sizeof(h));
		driver_add(&b.d, VSOCK_TX, (struct driver_buf[]){ { at, sizeof(h), false } }, 1);
		driver_kick(&b.d, VSOCK_TX);
	}
}

static double seconds(void)
{
	return (double)loop_now_ns() / 1e9;
}

int main(int argc, char **argv)
{
	unsigned ms = argc > 2 ? (unsigned)atoi(argv[2]) : 1000;
	bool to_host = argc > 1 && strcmp(argv[1], "guest") == 0;
	pthread_t loop, host, timer;
	uint32_t port = 0;
	double start;
	uint64_t at;
	int fd[2];

	if (argc > 1 && strcmp(argv[1], "unix") == 0) {
		socketpair(AF_UNIX, SOCK_STREAM, 0, fd);
		pthread_create(&host, NULL, reader, &fd[0]);
		pthread_create(&loop, NULL, writer, &fd[1]);
		start = seconds();
		stopper(&ms);
		printf("%.0f\n", (double)moved / (seconds() - start));
		return 0;
	}
	bench_init(&b);
	bench_make(&b);
	bench_start(&b, 250);
	at = driver_alloc(&b.d, 64 * SLOTS);
	port = host_connects(&b, &fd[0], PORT);
	fcntl(fd[0], F_SETFL, 0);
	pthread_create(&loop, NULL, run_loop, b.d.loop);
	pthread_create(&host, NULL, to_host ? reader : writer, &fd[0]);
	pthread_create(&timer, NULL, stopper, &ms);
	start = seconds();
	if (to_host)
		guest_sends(port, at);
	else
		guest_receives(port, at);
	printf("%.0f\n", (double)moved / (seconds() - start));
	loop_quit(b.d.loop, 0);
	pthread_join(loop, NULL);
	shutdown(fd[0], SHUT_RDWR);
	pthread_join(host, NULL);
	pthread_join(timer, NULL);
	bench_fini(&b);
	return 0;
}
