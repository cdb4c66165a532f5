// SPDX-License-Identifier: Apache-2.0
/*
 * What the agent in the guest of `vmm run` says: any bytes, in any pieces. Whatever it is, no more
 * than a window of each stream is kept, and only whole messages are passed on.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "tests/fuzz/fuzz.h"
#include "vmm/base/util.h"
#include "vmm/run/channel.h"
#include "vmm/run/log.h"

struct agent {
	struct run_events ev;
	struct run_log *log;
	unsigned broken;
	uint64_t klog;
};

static void on_hello(struct run_events *ev, const struct agent_hello *msg)
{
	(void)ev;
	(void)msg;
}

static void on_failed(struct run_events *ev, const struct agent_failed *msg)
{
	(void)ev;
	(void)msg;
}

static void on_started(struct run_events *ev, const struct agent_clock *msg)
{
	(void)ev;
	(void)msg;
}

static void on_exited(struct run_events *ev, const struct agent_exited *msg)
{
	(void)ev;
	(void)msg;
}

static void on_alive(struct run_events *ev)
{
	CHECK(container_of(ev, struct agent, ev)->broken == 0);
}

static void on_klog(struct run_events *ev, const char *data, size_t len)
{
	struct agent *a = container_of(ev, struct agent, ev);

	CHECK(a->broken == 0 && len > 0);
	run_log_kmsg(a->log, data, len);
	run_log_console(a->log, data, len / 2);
}

static void on_broken(struct run_events *ev, const char *why)
{
	CHECK(++container_of(ev, struct agent, ev)->broken == 1);
	CHECK(*why != '\0');
}

static size_t port_input(struct chardev_front *front, const void *data, size_t len)
{
	(void)front;
	(void)data;
	return len > 1000 ? 1000 : len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agent a = { .ev = { on_hello, on_failed, on_started, on_exited, on_alive, on_klog,
				   on_broken, NULL } };
	struct chardev_front port = { .input = port_input };
	struct input in = { .data = data, .left = size };
	struct chardevs all = { 0 };
	struct err err = ERR_INIT;
	struct loop *loop = loop_new(&err);
	struct run_channel *ch;
	int null = open("/dev/null", O_RDWR), out = dup(1);

	/* Output goes nowhere. */
	dup2(null, 1);
	a.log = run_log_new(NULL, "all", &err);
	ch = run_channel_new(&a.ev, &err);
	CHECK(loop != NULL && a.log != NULL && ch != NULL);
	run_channel_back(ch)->front = &port;
	CHECK(run_channel_attach(ch, true, &all, loop, &err) == 0);
	dup2(out, 1);
	close(out);
	close(null);
	run_channel_open_stdin(ch);
	while (in.left > 0) {
		size_t piece = take(&in, 1) * 4 + 1;
		struct chardev_back *back = run_channel_back(ch);
		struct iovec iov = { .iov_base = (void *)in.data };

		iov.iov_len = piece < in.left ? piece : in.left;
		in.data += iov.iov_len;
		in.left -= iov.iov_len;
		if (iov.iov_len > 0)
			CHECK(back->write(back, &iov, 1) > 0);
		CHECK(loop_run_once(loop, 0) == 0);
	}
	run_log_end(a.log);
	run_channel_free(ch);
	run_log_free(a.log);
	loop_free(loop);
	return 0;
}
