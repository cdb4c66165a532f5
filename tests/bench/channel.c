// SPDX-License-Identifier: Apache-2.0
/*
 * channel out|in|pipe [MS]: what the line between the agent and the monitor of `vmm run` carries,
 * from the guest to a program that reads our standard output, or from one that writes our standard
 * input; pipe: what a plain pipe carries in pieces of the same size. Prints bytes per second.
 *
 * There is no guest: this plays the console device, which hands over a write() of the agent as one
 * buffer, and the agent, which keeps to its credit. A second thread is the program. So what is
 * measured is frames, flow control and the pipe; what a console port itself moves is in
 * tests/bench/virtio.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "vmm/base/util.h"
#include "vmm/run/channel.h"

#define must(x) ((x) ? (void)0 : (fputs("not true: " #x "\n", stderr), abort()))

static struct {
	struct run_events ev;
	struct run_channel *ch;
	struct loop *loop;
	struct chardev_front port;
	uint64_t credit;
	/* What the agent hears: a frame, of which so much is there. */
	struct agent_header header;
	size_t header_have, payload_have;
	uint32_t value;
	uint64_t received; /* of standard input */
} t;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_broken(struct run_events *ev, const char *why)
{
	(void)ev;
	fprintf(stderr, "%s\n", why);
	abort();
}

static void heard(void)
{
	uint32_t len = t.header.len;

	if (t.header.type == AGENT_CREDIT)
		t.credit += t.value;
	if (t.header.type != AGENT_DATA)
		return;
	t.received += len;
	/* Its command has read it: the agent says so. */
	struct {
		struct agent_header header;
		uint32_t len;
	} credit = { { .type = AGENT_CREDIT, .stream = AGENT_STDIN, .len = sizeof(len) }, len };
	struct iovec iov = { &credit, sizeof(credit.header) + sizeof(len) };

	(void)run_channel_back(t.ch)->write(run_channel_back(t.ch), &iov, 1);
}

static size_t port_input(struct chardev_front *front, const void *data, size_t len)
{
	static uint8_t copy[1 << 16]; /* into the guest's buffer */
	const uint8_t *from = data;

	(void)front;
	for (size_t left = len, n; left > 0; from += n, left -= n) {
		if (t.header_have < sizeof(t.header)) {
			n = sizeof(t.header) - t.header_have < left
				    ? sizeof(t.header) - t.header_have
				    : left;
			memcpy((uint8_t *)&t.header + t.header_have, from, n);
			t.header_have += n;
			t.payload_have = 0;
		} else {
			n = t.header.len - t.payload_have < left ? t.header.len - t.payload_have
								 : left;
			memcpy(copy, from, n);
			if (t.payload_have + n <= sizeof(t.value))
				memcpy((uint8_t *)&t.value + t.payload_have, from, n);
			t.payload_have += n;
		}
		if (t.header_have == sizeof(t.header) && t.payload_have == t.header.len) {
			t.header_have = 0;
			heard();
		}
	}
	return len;
}

/* The programs at the other end of a pipe, until it is closed. */
static void *reads(void *arg)
{
	static uint8_t data[1 << 20];

	while (read(*(int *)arg, data, sizeof(data)) > 0)
		;
	return NULL;
}

static void *writes(void *arg)
{
	static uint8_t data[1 << 20];

	while (write(*(int *)arg, data, sizeof(data)) > 0)
		;
	return NULL;
}

static void start(void)
{
	static struct chardevs all;
	struct err err = ERR_INIT;

	t.ev = (struct run_events){ .broken = on_broken };
	t.loop = loop_new(&err);
	t.ch = run_channel_new(&t.ev, &err);
	must(t.loop != NULL && t.ch != NULL);
	t.port = (struct chardev_front){ .input = port_input };
	t.credit = AGENT_WINDOW;
	run_channel_back(t.ch)->front = &t.port;
	must(run_channel_attach(t.ch, false, &all, t.loop, &err) == 0);
	must(chardevs_start(&all, &err) == 0);
}

/* Until @end: bytes. */
static uint64_t out(uint64_t end)
{
	static uint8_t frame[sizeof(struct agent_header) + AGENT_DATA_MAX];
	const struct agent_header header = { AGENT_DATA, AGENT_STDOUT, AGENT_DATA_MAX };
	uint64_t bytes = 0;

	memcpy(frame, &header, sizeof(header));
	while (now_ns() < end) {
		while (t.credit >= AGENT_DATA_MAX) {
			struct iovec iov = { frame, sizeof(frame) };

			run_channel_back(t.ch)->write(run_channel_back(t.ch), &iov, 1);
			t.credit -= AGENT_DATA_MAX;
			bytes += AGENT_DATA_MAX;
		}
		must(loop_run_once(t.loop, 100) == 0);
	}
	return bytes;
}

static uint64_t in(uint64_t end)
{
	run_channel_open_stdin(t.ch);
	while (now_ns() < end)
		must(loop_run_once(t.loop, 100) == 0);
	return t.received;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	uint64_t ms = argc > 2 ? strtoull(argv[2], NULL, 10) : 500, begin, bytes = 0;
	bool is_in = strcmp(what, "in") == 0, is_pipe = strcmp(what, "pipe") == 0;
	int result = dup(STDOUT_FILENO), fds[2];
	pthread_t thread;

	if (!is_in && !is_pipe && strcmp(what, "out") != 0) {
		fputs("usage: channel out|in|pipe [MS]\n", stderr);
		return 2;
	}
	must(pipe2(fds, O_CLOEXEC) == 0);
	(void)fcntl(fds[0], F_SETPIPE_SZ, 1 << 20);
	must(dup2(is_in ? fds[0] : fds[1], is_in ? STDIN_FILENO : STDOUT_FILENO) >= 0);
	must(pthread_create(&thread, NULL, is_in ? writes : reads, is_in ? &fds[1] : &fds[0]) == 0);
	if (!is_pipe)
		start();
	begin = now_ns();
	if (is_pipe) {
		static uint8_t data[AGENT_DATA_MAX];

		while (now_ns() < begin + ms * 1000000)
			bytes += (uint64_t)write(STDOUT_FILENO, data, sizeof(data));
	} else {
		bytes = is_in ? in(begin + ms * 1000000) : out(begin + ms * 1000000);
	}
	dprintf(result, "%.0f\n", (double)bytes * 1e9 / (double)(now_ns() - begin));
	_exit(0); /* the thread is in read() or write() */
}
