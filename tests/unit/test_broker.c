// SPDX-License-Identifier: Apache-2.0
/*
 * The broker: programs, connections, sockets that are removed; what it was not told before;
 * requests that are none.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/unix_listen.h"
#include "tests/unit/device_util.h"
#include "tests/unit/tree.h"
#include "vmm/base/loop.h"

/* As broker.c has it. */
struct request {
	uint32_t what, rule, number, nextra, len;
	int32_t death;
	uint32_t output;
	char text[64];
};
enum { ASK_RUN, ASK_REAP, ASK_CONNECT, ASK_REMOVE };
#define REQUEST offsetof(struct request, text)

static const char *const echo[] = { "sh", "-c", "echo \"$0 $*\"; echo words >&2; exit 3", NULL };
static const char *const sleeper[] = { "sleep", "1000", NULL };
static const char *const missing[] = { "no-such-program", NULL };
static const char *const reader[] = { "sh", "-c", "cat <&3; cat <&4", NULL };

static struct broker b;
static struct err err;
static char path[96], other[96];
static int echoes, sleeps, misses, reads;

static int allow_run(const char *const *argv, bool more)
{
	struct broker_rule rule = { .kind = BROKER_RUN, .argv = argv, .more = more };

	return broker_allow(&b, &rule, &err);
}

static void setup(void)
{
	tree_make();
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(other, sizeof(other), "%s/s_7", dir);
	broker_init(&b);
	echoes = allow_run(echo, true);
	sleeps = allow_run(sleeper, false);
	misses = allow_run(missing, false);
	reads = allow_run(reader, false);
}

static void teardown(void)
{
	broker_stop(&b);
	tree_remove();
}

/* All that comes until the end. */
static const char *all_of(int fd)
{
	static char text[256];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	do {
		ck_assert_int_eq(poll(&pfd, 1, 10000), 1);
		n = read(fd, text + len, sizeof(text) - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	text[len] = '\0';
	return text;
}

static void wait_end(struct child *c, const char *want)
{
	struct pollfd pfd = { .fd = c->pidfd.fd, .events = POLLIN };
	char how[48];

	ck_assert_int_eq(poll(&pfd, 1, 10000), 1);
	ck_assert(child_reap(c, how, sizeof(how)));
	ck_assert_str_eq(how, want);
	ck_assert_int_eq(c->pidfd.fd, -1);
}

START_TEST(programs)
{
	const char *argv[] = { echo[0], echo[1], echo[2], "one", "two", NULL };
	const char *option[] = { echo[0], echo[1], echo[2], "one", "-c", NULL };
	struct child c = CHILD_INIT(NULL), many[70];
	int pipes[2][2];
	char how[48];

	ck_assert_int_eq(broker_start(&b, &err), 0);
	c.by = &b;
	c.rule = echoes;
	c.output = true;
	ck_assert_msg(child_start(&c, argv, NULL, 0, 0, &err) == 0, "%s", err.msg);
	ck_assert_str_eq(all_of(c.stderr_fd), "one two\n");
	wait_end(&c, "with status 3");
	c.output = false;
	ck_assert_int_eq(child_start(&c, argv, NULL, 0, 0, &err), 0);
	ck_assert_str_eq(all_of(c.stderr_fd), "words\n");
	wait_end(&c, "with status 3");
	/* Descriptors of ours. */
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(pipe(pipes[i]), 0);
		ck_assert_int_eq(write(pipes[i][1], i == 0 ? "first " : "second", 6), 6);
		close(pipes[i][1]);
	}
	c.rule = reads;
	c.output = true;
	ck_assert_int_eq(child_start(&c, reader, (int[]){ pipes[0][0], pipes[1][0] }, 2, 0, &err),
			 0);
	ck_assert_str_eq(all_of(c.stderr_fd), "first second");
	wait_end(&c, "with status 0");
	c.rule = misses;
	ck_assert_int_eq(child_start(&c, missing, NULL, 0, 0, &err), -ENOENT);
	ck_assert_str_eq(err.msg, "no-such-program is not installed");
	/* Ended by us, in both ways. */
	c.rule = sleeps;
	ck_assert_int_eq(child_start(&c, sleeper, NULL, 0, 0, &err), 0);
	ck_assert(!child_reap(&c, how, sizeof(how)));
	child_stop(&c);
	ck_assert_int_eq(c.pidfd.fd, -1);
	ck_assert_int_eq(child_start(&c, sleeper, NULL, 0, SIGTERM, &err), 0);
	child_end(&c, 10000);
	/* More than it keeps. */
	for (unsigned i = 0; i < 70; i++) {
		many[i] = (struct child)CHILD_INIT(NULL);
		many[i].by = &b;
		many[i].rule = sleeps;
		ck_assert_int_eq(child_start(&many[i], sleeper, NULL, 0, 0, &err),
				 i < 64 ? 0 : -EAGAIN);
	}
	for (unsigned i = 0; i < 70; i++)
		child_stop(&many[i]);
	/* Options are not for the monitor to choose. */
	c.rule = echoes;
	ck_assert_int_eq(child_start(&c, option, NULL, 0, 0, &err), -EPIPE);
	ck_assert_int_eq(child_start(&c, argv, NULL, 0, 0, &err), -EPIPE);
}
END_TEST

static int listen_at(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, name);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(fd, 4), 0);
	return fd;
}

static void check_connected(int fd, int listener)
{
	int peer;

	ck_assert_int_ge(fd, 0);
	peer = accept(listener, NULL, NULL);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	ck_assert_str_eq((close(fd), all_of(peer)), "x");
	close(peer);
}

START_TEST(connections)
{
	int first = listen_at(path), second = listen_at(other), rule[3], node;

	rule[0] = broker_allow(&b, &(struct broker_rule){ .kind = BROKER_CONNECT, .path = path },
			       &err);
	rule[1] = broker_allow(
		&b, &(struct broker_rule){ .kind = BROKER_CONNECT_NUMBER, .path = path }, &err);
	rule[2] = broker_allow(&b, &(struct broker_rule){ .kind = BROKER_CONNECT }, &err);
	ck_assert_int_eq(broker_start(&b, &err), 0);
	check_connected(broker_connect(&b, rule[0], 9, -1), first);
	check_connected(broker_connect(&b, rule[1], 7, -1), second);
	ck_assert_int_eq(broker_connect(&b, rule[1], 8, -1), -ENOENT);
	node = open(other, O_PATH);
	unlink(other);
	check_connected(broker_connect(&b, rule[2], 0, node), second);
	ck_assert_int_lt(broker_connect(&b, rule[2], 0, -1), 0);
	ck_assert_int_lt(broker_connect(&b, rule[2], 0, STDERR_FILENO), 0);
	close(first);
	ck_assert_int_eq(broker_connect(&b, rule[0], 0, -1), -ECONNREFUSED);
	/* A rule of another kind. */
	ck_assert_int_eq(broker_connect(&b, echoes, 0, -1), -EPIPE);
	close(second);
	close(node);
}
END_TEST

START_TEST(removed)
{
	struct unix_listener l[3] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	char name[3][96];
	int fd;

	for (unsigned i = 0; i < 3; i++) {
		snprintf(name[i], sizeof(name[i]), "%s/l%u", dir, i);
		ck_assert_int_eq(unix_listen(&l[i], "test", name[i], 1, &b, &err), 0);
	}
	ck_assert_int_eq(broker_start(&b, &err), 0);
	unix_listen_end(&l[0]);
	ck_assert_int_ne(access(name[0], F_OK), 0);
	/* Somebody else's by now. */
	ck_assert_int_eq(rename(name[1], other), 0);
	fd = listen_at(name[1]);
	unix_listen_end(&l[1]);
	ck_assert_int_eq(access(name[1], F_OK), 0);
	/* By itself, when we are gone. */
	broker_stop(&b);
	ck_assert_int_ne(access(name[2], F_OK), 0);
	ck_assert_int_eq(access(name[1], F_OK), 0);
	close(fd);
	close(l[2].fd);
}
END_TEST

/* What is no request, or none for such a rule, is its end, and that of what it started. */
START_TEST(nonsense)
{
	static const struct request bad[] = {
		{ .what = 99 },
		{ .what = ASK_RUN, .rule = 99 },
		{ .what = ASK_RUN, .rule = UINT32_MAX },
		{ .what = ASK_RUN, .rule = 1, .nextra = 1, .len = 2, .text = "x" }, /* no more */
		{ .what = ASK_RUN, .rule = 0, .nextra = 2, .len = 2, .text = "x" },
		{ .what = ASK_RUN, .rule = 0, .nextra = 0, .len = 2, .text = "x" },
		{ .what = ASK_RUN, .rule = 0, .nextra = 1, .len = 3, .text = "xyz" }, /* no NUL */
		{ .what = ASK_RUN, .rule = 0, .nextra = 1, .len = 4, .text = "-ex" },
		{ .what = ASK_RUN, .rule = 0, .nextra = UINT32_MAX, .len = 2, .text = "x" },
		{ .what = ASK_CONNECT, .rule = 0 },
		{ .what = ASK_REMOVE, .rule = 0 },
		{ .what = ASK_REMOVE, .rule = 99 },
		{ .what = ASK_REAP, .len = 1000 },
	};
	struct child c = CHILD_INIT(NULL);
	struct pollfd pfd;
	char how[48];

	ck_assert_int_eq(broker_start(&b, &err), 0);
	c.by = &b;
	c.rule = sleeps;
	ck_assert_int_eq(child_start(&c, sleeper, NULL, 0, 0, &err), 0);
	if (_i < (int)(sizeof(bad) / sizeof(bad[0])))
		ck_assert_int_gt(
			send(b.socket, &bad[_i], REQUEST + (bad[_i].len < 64 ? bad[_i].len : 0), 0),
			0);
	else if (_i == (int)(sizeof(bad) / sizeof(bad[0])))
		ck_assert_int_eq(send(b.socket, "x", 1, 0), 1);
	else
		shutdown(b.socket, SHUT_RDWR);
	pfd = (struct pollfd){ .fd = b.process.pidfd.fd, .events = POLLIN };
	ck_assert_int_eq(poll(&pfd, 1, 20000), 1);
	pfd.fd = c.pidfd.fd;
	ck_assert_int_eq(poll(&pfd, 1, 10000), 1);
	ck_assert(!child_reap(&c, how, sizeof(how)));
	child_stop(&c);
}
END_TEST

/* Bytes of all kinds, with a head that is nearly right. */
START_TEST(noise)
{
	unsigned seed = 1;

	for (unsigned i = 0; i < 300; i++) {
		struct request r;
		uint8_t *p = (uint8_t *)&r;

		broker_stop(&b);
		allow_run(missing, true);
		ck_assert_int_eq(broker_start(&b, &err), 0);
		for (unsigned n = 0; n < 4; n++) {
			size_t len = (size_t)rand_r(&seed) % (sizeof(r) + 1);

			for (size_t k = 0; k < sizeof(r); k++)
				p[k] = (uint8_t)rand_r(&seed);
			if (rand_r(&seed) % 2 != 0) {
				r.what %= 5;
				r.rule %= 2;
				r.nextra %= 8;
				r.len = (uint32_t)rand_r(&seed) % sizeof(r.text);
				len = REQUEST + r.len;
			}
			(void)send(b.socket, &r, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		}
	}
}
END_TEST

START_TEST(not_needed)
{
	struct broker none;
	struct broker_rule rule = { .kind = BROKER_CONNECT };

	broker_init(&none);
	ck_assert(!broker_started(NULL));
	ck_assert_int_eq(broker_start(&none, &err), 0);
	ck_assert(!broker_started(&none));
	for (unsigned i = 0; i < BROKER_RULES_MAX; i++)
		ck_assert_int_eq(broker_allow(&none, &rule, &err), (int)i);
	ck_assert_int_eq(broker_allow(&none, &rule, &err), -EMFILE);
	broker_stop(&none);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("broker");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, programs);
	tcase_add_test(tc, connections);
	tcase_add_test(tc, removed);
	tcase_add_loop_test(tc, nonsense, 0, 15);
	tcase_add_test(tc, noise);
	tcase_add_test(tc, not_needed);
	suite_add_tcase(s, tc);
	return test_run(s);
}
