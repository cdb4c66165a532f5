// SPDX-License-Identifier: Apache-2.0
/*
 * Child processes: this very program, started again with an order as its argument, tells by its
 * exit status and its last words what it found.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "device_util.h"
#include "devices/child.h"

#define SELF "/proc/self/exe"

/* --- The child --- */

static int look(void)
{
	struct stat st;
	sigset_t set;
	char byte;

	for (int fd = 0; fd < 5; fd++) {
		if (fstat(fd, &st) < 0)
			return 10 + fd;
	}
	for (int fd = 5; fd < 64; fd++) {
		if (fstat(fd, &st) == 0)
			return 41;
	}
	if (getpgid(0) != getpid())
		return 42;
	if (sigprocmask(SIG_BLOCK, NULL, &set) < 0 || sigismember(&set, SIGUSR1) != 0)
		return 43;
	if (signal(SIGPIPE, SIG_DFL) != SIG_DFL || signal(SIGUSR1, SIG_DFL) != SIG_DFL)
		return 44;
	/* The first has a byte for us, the second takes one. */
	if (read(3, &byte, 1) != 1 || write(4, &byte, 1) != 1 || read(0, &byte, 1) != 0)
		return 45;
	return 0;
}

static void on_term(int sig)
{
	(void)sig;
	_exit(7);
}

static int child(const char *order)
{
	if (strcmp(order, "look") == 0)
		return look();
	if (strcmp(order, "words") == 0) {
		fprintf(stderr, "first\nlast\nnot this\n");
		return 3;
	}
	if (strcmp(order, "talk") == 0) {
		/* More than a pipe holds: what does not fit is lost, and nobody waits. */
		for (int i = 0; i < 20000; i++)
			(void)!write(2, "a line\n", 7);
		_exit(4); /* a sanitizer would say something of its own */
	}
	if (strcmp(order, "polite") == 0) {
		signal(SIGTERM, on_term);
		(void)!write(4, "x", 1);
	} else if (strcmp(order, "stubborn") == 0) {
		signal(SIGTERM, SIG_IGN);
		(void)!write(4, "x", 1);
	}
	for (;;)
		pause();
}

/* --- The parent --- */

static struct child c = CHILD_INIT(NULL);
static int there[2], back[2];
static struct err err;

static void setup(void)
{
	ck_assert_int_eq(pipe2(there, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(back, O_CLOEXEC), 0);
	err = (struct err)ERR_INIT;
}

static void teardown(void)
{
	child_stop(&c);
	for (int i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
}

static void start(const char *order)
{
	const char *argv[] = { SELF, "--child", order, NULL };

	ck_assert_msg(child_start(&c, argv, (int[]){ there[0], back[1] }, 2, 0, &err) == 0, "%s",
		      err.msg);
}

/* Wait for its end and say how it was. */
static const char *end(void)
{
	static char how[48];
	struct pollfd pfd = { .fd = c.pidfd.fd, .events = POLLIN };

	ck_assert_int_eq(poll(&pfd, 1, 60000), 1);
	ck_assert(child_reap(&c, how, sizeof(how)));
	ck_assert_int_eq(c.pidfd.fd, -1);
	return how;
}

static void wait_for_it(void)
{
	char byte;

	ck_assert_int_eq(read(back[0], &byte, 1), 1);
}

START_TEST(what_it_is_given)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(write(there[1], "x", 1), 1);
	start("look");
	wait_for_it();
	ck_assert_str_eq(end(), "with status 0");
	/* Ours are as they were. */
	sigprocmask(SIG_BLOCK, NULL, &set);
	ck_assert_int_eq(sigismember(&set, SIGUSR1), 1);
	ck_assert_int_eq(sigismember(&set, SIGTERM), 0);
	ck_assert(signal(SIGPIPE, SIG_IGN) == SIG_IGN);
}
END_TEST

START_TEST(words)
{
	char text[64], how[48];

	start("words");
	ck_assert_str_eq(end(), "with status 3");
	child_words(&c, "not", text, sizeof(text));
	ck_assert_str_eq(text, "last");
	child_words(&c, NULL, text, sizeof(text));
	ck_assert_str_eq(text, "");
	ck_assert(!child_reap(&c, how, sizeof(how)));
	start("talk");
	ck_assert_str_eq(end(), "with status 4");
	child_words(&c, NULL, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "a line"));
}
END_TEST

START_TEST(ends)
{
	char how[48];

	start("wait");
	ck_assert(!child_reap(&c, how, sizeof(how)));
	child_stop(&c);
	ck_assert_int_eq(c.stderr_fd, -1);
	child_stop(&c);
	start("polite");
	wait_for_it();
	child_end(&c, 60000);
	start("stubborn");
	wait_for_it();
	child_end(&c, 50);
	/* None is left, not even as a zombie. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(cannot_start)
{
	const char *missing[] = { "no-such-program-anywhere", NULL };
	const char *folder[] = { "/tmp", NULL };
	char dir[] = "/tmp/child.XXXXXX";

	ck_assert_int_eq(child_start(&c, missing, NULL, 0, 0, &err), -ENOENT);
	ck_assert_str_eq(err.msg, "no-such-program-anywhere is not installed");
	ck_assert_int_eq(child_start(&c, folder, NULL, 0, SIGTERM, &err), -EACCES);
	ck_assert_str_eq(err.msg, "cannot start /tmp: Permission denied");
	/* Nobody's, not even root's, if it is not executable. */
	ck_assert_int_eq(chdir(mkdtemp(dir)), 0);
	close(open(missing[0], O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	setenv("PATH", dir, 1);
	ck_assert_int_eq(child_start(&c, missing, NULL, 0, 0, &err), -EACCES);
	ck_assert_str_eq(err.msg, "no-such-program-anywhere is not installed, or this user may not "
				  "start it");
	unlink(missing[0]);
	rmdir(dir);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

/* A child of a child: it ends when the one between is killed. */
START_TEST(dies_with_us)
{
	pid_t between = fork();
	char byte;

	ck_assert_int_ge(between, 0);
	if (between == 0) {
		const char *argv[] = { SELF, "--child", "polite", NULL };

		close(back[0]);
		if (child_start(&c, argv, (int[]){ there[0], back[1] }, 2, SIGTERM, &err) < 0)
			_exit(1);
		close(back[1]);
		pause();
	}
	close(back[1]);
	wait_for_it();
	kill(between, SIGKILL);
	waitpid(between, NULL, 0);
	/* The last who could write to it is gone. */
	ck_assert_int_eq(read(back[0], &byte, 1), 0);
	back[1] = -1;
}
END_TEST

/* What it is told plus one is its answer; the end of the socket is its own. */
static int copy(void *arg, int socket, pid_t parent)
{
	char byte;

	if (getppid() != parent)
		return 1;
	while (read(socket, &byte, 1) == 1) {
		byte++;
		if (write(socket, &byte, 1) != 1)
			return 2;
	}
	return *(int *)arg;
}

START_TEST(forked)
{
	int status = 42, socket = child_fork(&c, copy, &status, &err);
	char byte = 'a', how[64];

	ck_assert_msg(socket >= 0, "%s", err.msg);
	ck_assert_int_ne(fcntl(socket, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_eq(write(socket, &byte, 1), 1);
	ck_assert_int_eq(read(socket, &byte, 1), 1);
	ck_assert_int_eq(byte, 'b');
	ck_assert(!child_reap(&c, how, sizeof(how)));
	close(socket);
	ck_assert_int_eq(poll(&(struct pollfd){ .fd = c.pidfd.fd, .events = POLLIN }, 1, 60000), 1);
	ck_assert(child_reap(&c, how, sizeof(how)));
	ck_assert_str_eq(how, "with status 42");
	ck_assert_int_lt(c.pidfd.fd, 0);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s;
	TCase *tc;

	if (argc == 3 && strcmp(argv[1], "--child") == 0)
		return child(argv[2]);
	s = suite_create("child");
	tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, what_it_is_given);
	tcase_add_test(tc, words);
	tcase_add_test(tc, ends);
	tcase_add_test(tc, cannot_start);
	tcase_add_test(tc, dies_with_us);
	tcase_add_test(tc, forked);
	suite_add_tcase(s, tc);
	return test_run(s);
}
