// SPDX-License-Identifier: Apache-2.0
/*
 * The line to the agent: frames cut anywhere, streams with slow readers, flow control, and an agent
 * that lies. The test is the agent, and the pipes that are our standard streams.
 */
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include "tests/unit/device_util.h"
#include "vmm/base/util.h"
#include "vmm/run/channel.h"

static struct {
	struct run_events ev;
	struct run_channel *ch;
	struct loop *loop;
	struct chardevs all;
	struct chardev_front port; /* the guest's end */
	size_t port_room;	   /* bytes it takes */
	uint8_t said[1 << 20];	   /* what the agent heard */
	size_t said_len, said_read;
	unsigned hellos, alive, exited, failed, started;
	char klog[4096], broken[128];
	struct agent_exited end;
	int in, out, err; /* our ends of the standard streams */
} t;

static void on_hello(struct run_events *ev, const struct agent_hello *msg)
{
	(void)ev;
	ck_assert_uint_eq(msg->version, AGENT_VERSION);
	t.hellos++;
}

static void on_failed(struct run_events *ev, const struct agent_failed *msg)
{
	(void)ev;
	(void)msg;
	t.failed++;
}

static void on_started(struct run_events *ev, const struct agent_clock *msg)
{
	(void)ev;
	(void)msg;
	t.started++;
}

static void on_exited(struct run_events *ev, const struct agent_exited *msg)
{
	(void)ev;
	t.end = *msg;
	t.exited++;
}

static void on_alive(struct run_events *ev)
{
	(void)ev;
	t.alive++;
}

static void on_klog(struct run_events *ev, const char *data, size_t len)
{
	(void)ev;
	strncat(t.klog, data, len);
}

static void on_broken(struct run_events *ev, const char *why)
{
	(void)ev;
	ck_assert_str_eq(t.broken, ""); /* told once */
	strcpy(t.broken, why);
}

static size_t port_input(struct chardev_front *front, const void *data, size_t len)
{
	(void)front;
	if (len > t.port_room)
		len = t.port_room;
	ck_assert_uint_le(t.said_len + len, sizeof(t.said));
	memcpy(t.said + t.said_len, data, len);
	t.said_len += len;
	t.port_room -= len;
	return len;
}

static void run(void)
{
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(loop_run_once(t.loop, i < 10 ? 0 : 1), 0);
}

static void setup(void)
{
	int in[2], out[2], errs[2];
	struct err err = ERR_INIT;

	memset(&t, 0, sizeof(t));
	t.ev = (struct run_events){ on_hello, on_failed, on_started, on_exited,
				    on_alive, on_klog,	 on_broken,  NULL };
	ck_assert_int_eq(pipe(in) | pipe(out) | pipe(errs), 0);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	dup2(errs[1], STDERR_FILENO);
	t.in = in[1];
	t.out = out[0];
	t.err = errs[0];
	close(in[0]);
	close(out[1]);
	close(errs[1]);
	fcntl(t.out, F_SETFL, O_NONBLOCK);
	fcntl(t.err, F_SETFL, O_NONBLOCK);
	t.loop = loop_new(&err);
	t.ch = run_channel_new(&t.ev, &err);
	t.port = (struct chardev_front){ .input = port_input };
	t.port_room = SIZE_MAX;
	run_channel_back(t.ch)->front = &t.port;
	ck_assert_int_eq(run_channel_attach(t.ch, false, &t.all, t.loop, &err), 0);
	ck_assert_int_eq(chardevs_start(&t.all, &err), 0);
}

static void teardown(void)
{
	run_channel_free(t.ch);
	loop_free(t.loop);
}

/* --- The agent --- */

static void tell(const void *bytes, size_t len)
{
	struct chardev_back *back = run_channel_back(t.ch);
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };

	ck_assert_uint_eq(back->write(back, &iov, 1), len);
}

static void frame(uint16_t type, uint16_t stream, const void *data, uint32_t len)
{
	static uint8_t bytes[sizeof(struct agent_header) + AGENT_FRAME_MAX];
	struct agent_header h = { type, stream, len };

	memcpy(bytes, &h, sizeof(h));
	if (len > 0)
		memcpy(bytes + sizeof(h), data, len);
	tell(bytes, sizeof(h) + len);
}

/* The next frame the agent was sent. False: there is none. */
static bool heard(struct agent_header *h, const uint8_t **data)
{
	if (t.said_len - t.said_read < sizeof(*h))
		return false;
	memcpy(h, t.said + t.said_read, sizeof(*h));
	ck_assert_uint_ge(t.said_len - t.said_read, sizeof(*h) + h->len);
	*data = t.said + t.said_read + sizeof(*h);
	t.said_read += sizeof(*h) + h->len;
	return true;
}

/* Credit for @stream that the agent was given. */
static uint32_t credit(uint16_t stream)
{
	struct agent_header h;
	const uint8_t *data;
	uint32_t sum = 0, n;

	while (heard(&h, &data)) {
		ck_assert_uint_eq(h.type, AGENT_CREDIT);
		if (h.stream != stream)
			continue;
		memcpy(&n, data, sizeof(n));
		sum += n;
	}
	return sum;
}

START_TEST(frames_cut_anywhere)
{
	struct agent_hello hello = { .version = AGENT_VERSION };
	struct agent_exited end = { .how = AGENT_END_SIGNAL, .value = 11 };
	struct agent_header h[] = { { AGENT_HELLO, 0, sizeof(hello) },
				    { AGENT_ALIVE, 0, 0 },
				    { AGENT_DATA, AGENT_KLOG, 5 },
				    { AGENT_EXITED, 0, sizeof(end) } };
	uint8_t all[128];
	size_t n = 0;

	for (int i = 0; i < 4; i++) {
		memcpy(all + n, &h[i], sizeof(h[i]));
		n += sizeof(h[i]);
		memcpy(all + n,
		       i == 0	? (void *)&hello
		       : i == 2 ? (void *)"klog\n"
				: (void *)&end,
		       h[i].len);
		n += h[i].len;
	}
	for (size_t piece = 1; piece <= n; piece++)
		for (size_t at = 0; at < n; at += piece)
			tell(all + at, n - at < piece ? n - at : piece);
	ck_assert_uint_eq(t.hellos, n);
	ck_assert_uint_eq(t.alive, n);
	ck_assert_uint_eq(t.exited, n);
	ck_assert_uint_eq(t.end.value, 11);
	ck_assert(strncmp(t.klog, "klog\nklog\n", 10) == 0);
	ck_assert_str_eq(t.broken, "");
}
END_TEST

START_TEST(streams_stay_apart)
{
	char buf[64] = "";

	frame(AGENT_DATA, AGENT_STDOUT, "to out", 6);
	frame(AGENT_DATA, AGENT_STDERR, "to err", 6);
	frame(AGENT_DATA, AGENT_STDOUT, "\0more", 5);
	ck_assert_int_eq(read(t.out, buf, sizeof(buf)), 11);
	ck_assert(memcmp(buf, "to out\0more", 11) == 0);
	ck_assert_int_eq(read(t.err, buf, sizeof(buf)), 6);
	ck_assert(memcmp(buf, "to err", 6) == 0);
}
END_TEST

/* A reader that reads nothing holds up its stream, at the window's end; the other goes on. */
START_TEST(a_slow_reader_stops_its_stream_alone)
{
	uint8_t piece[4096], back[4096];
	uint32_t sent = 0, given = AGENT_WINDOW, got = 0;

	for (int rounds = 0; rounds < 1000; rounds++) {
		run();
		given += credit(AGENT_STDOUT);
		if (given - sent < sizeof(piece))
			break;
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = (uint8_t)((sent + i) * 7 >> 3);
		frame(AGENT_DATA, AGENT_STDOUT, piece, sizeof(piece));
		sent += sizeof(piece);
	}
	ck_assert_uint_ge(sent, AGENT_WINDOW); /* and what the pipe took */
	ck_assert_uint_lt(sent, 4 * AGENT_WINDOW);
	frame(AGENT_DATA, AGENT_STDERR, "x", 1);
	ck_assert_int_eq(read(t.err, back, sizeof(back)), 1);

	while (got < sent) {
		ssize_t n = read(t.out, back, sizeof(back));

		if (n < 0) {
			run();
			continue;
		}
		for (ssize_t i = 0; i < n; i++, got++)
			ck_assert_uint_eq(back[i], (uint8_t)(got * 7 >> 3));
	}
	run();
	ck_assert_uint_ge(given + credit(AGENT_STDOUT) - sent, AGENT_WINDOW / 2);
	ck_assert_str_eq(t.broken, "");
}
END_TEST

START_TEST(standard_input_with_credit)
{
	static uint8_t data[3 * AGENT_WINDOW];
	size_t written = 0, got = 0;
	struct agent_header h;
	const uint8_t *bytes;
	bool ended = false;
	uint32_t n;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 13 >> 2);
	fcntl(t.in, F_SETFL, O_NONBLOCK);
	ck_assert_int_gt(write(t.in, data, 1000), 0);
	run();
	ck_assert_uint_eq(t.said_len, 0); /* not before the command is there */
	written = 1000;
	run_channel_open_stdin(t.ch);
	t.port_room = 100; /* the port takes it in odd pieces */
	for (int rounds = 0; rounds < 20000 && !ended; rounds++) {
		struct chardev_back *back = run_channel_back(t.ch);
		ssize_t w = -1;

		if (written < sizeof(data))
			w = write(t.in, data + written, sizeof(data) - written);
		else if (t.in >= 0) {
			close(t.in);
			t.in = -1;
		}
		written += w > 0 ? (size_t)w : 0;
		loop_run_once(t.loop, 0);
		t.port_room = 70000;
		back->rx_room(back);
		loop_run_once(t.loop, 0);
		while (t.said_len - t.said_read >= sizeof(h)) {
			memcpy(&h, t.said + t.said_read, sizeof(h));
			if (t.said_len - t.said_read < sizeof(h) + h.len || !heard(&h, &bytes))
				break;
			ck_assert_uint_eq(h.stream, AGENT_STDIN);
			ended = h.type == AGENT_END;
			ck_assert(memcmp(bytes, data + got, h.len) == 0);
			got += h.len;
			n = h.len;
			if (!ended)
				frame(AGENT_CREDIT, AGENT_STDIN, &n, sizeof(n));
		}
		if (t.said_read == t.said_len)
			t.said_read = t.said_len = 0;
	}
	ck_assert(ended);
	ck_assert_uint_eq(got, sizeof(data));
}
END_TEST

/* Without credit not one byte more than the window. */
START_TEST(the_window_bounds_what_waits)
{
	static uint8_t data[2 * AGENT_WINDOW];
	struct agent_header h;
	const uint8_t *bytes;
	size_t got = 0;

	fcntl(t.in, F_SETFL, O_NONBLOCK);
	run_channel_open_stdin(t.ch);
	for (int i = 0; i < 200; i++) {
		(void)!write(t.in, data, sizeof(data));
		run();
	}
	while (heard(&h, &bytes))
		got += h.len;
	ck_assert_uint_eq(got, AGENT_WINDOW);
}
END_TEST

START_TEST(agents_that_lie)
{
	static const struct {
		uint16_t type, stream;
		uint32_t len;
		const char *why;
	} lies[] = {
		{ 0, 0, 0, "a message of unknown kind or size" },
		{ AGENT_STEP, 0, 0, "a message of unknown kind or size" },
		{ AGENT_HELLO, 0, 3, "a message of unknown kind or size" },
		{ AGENT_EXITED, 0, UINT32_MAX, "a message of unknown kind or size" },
		{ 999, 0, 0, "a message of unknown kind or size" },
		{ 999, 0, UINT32_MAX, "a message of unknown kind or size" },
		{ AGENT_DATA, AGENT_STDOUT, 0, "data of a wrong size" },
		{ AGENT_DATA, AGENT_STDOUT, AGENT_DATA_MAX + 1, "data of a wrong size" },
		{ AGENT_DATA, AGENT_STDIN, 1, "data of a stream that is not there" },
		{ AGENT_DATA, 77, 1, "data of a stream that is not there" },
	};
	struct agent_header h = { lies[_i].type, lies[_i].stream, lies[_i].len };

	tell(&h, sizeof(h));
	ck_assert_str_eq(t.broken, lies[_i].why);
	frame(AGENT_ALIVE, 0, NULL, 0);
	ck_assert_uint_eq(t.alive, 0); /* not listened to any more */
}
END_TEST

START_TEST(more_than_there_is_room_for)
{
	static uint8_t data[AGENT_DATA_MAX];
	uint32_t n = 1;

	for (int i = 0; i < 100 && *t.broken == '\0'; i++)
		frame(AGENT_DATA, AGENT_STDOUT, data, sizeof(data)); /* and nobody gives credit */
	ck_assert_str_eq(t.broken, "more data than it was given room for");
	teardown();
	setup();
	run_channel_open_stdin(t.ch);
	frame(AGENT_CREDIT, AGENT_STDIN, &n, sizeof(n));
	ck_assert_str_eq(t.broken, "more room than there is");
}
END_TEST

START_TEST(steps_are_bounded)
{
	static char words[AGENT_FRAME_MAX + 1];

	ck_assert_int_eq(run_channel_step(t.ch, words, AGENT_FRAME_MAX), 0);
	ck_assert_int_lt(run_channel_step(t.ch, words, AGENT_FRAME_MAX + 1), 0);
	run();
	ck_assert_uint_eq(t.said_len, sizeof(struct agent_header) + AGENT_FRAME_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("run_channel");
	TCase *tc = tcase_create("run_channel");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, frames_cut_anywhere);
	tcase_add_test(tc, streams_stay_apart);
	tcase_add_test(tc, a_slow_reader_stops_its_stream_alone);
	tcase_add_test(tc, standard_input_with_credit);
	tcase_add_test(tc, the_window_bounds_what_waits);
	tcase_add_loop_test(tc, agents_that_lie, 0, 10);
	tcase_add_test(tc, more_than_there_is_room_for);
	tcase_add_test(tc, steps_are_bounded);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
