// SPDX-License-Identifier: Apache-2.0
/* Log: form of a line, hostile text, readers that do not read, limits, many threads. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/base/log.h"

static int pipefd[2];
static char out[65536];

static void setup(void)
{
	ck_assert_int_eq(pipe2(pipefd, O_CLOEXEC), 0);
	log_set_fd(pipefd[1]);
}

/* What has been logged so far. */
static const char *logged(void)
{
	ssize_t n;

	fcntl(pipefd[0], F_SETFL, O_NONBLOCK);
	n = read(pipefd[0], out, sizeof(out) - 1);
	out[n > 0 ? n : 0] = '\0';
	return out;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

START_TEST(test_levels)
{
	log_error("e%d", 1);
	log_warn("w");
	log_info("i");
	ck_assert_str_eq(logged(), "vmm: e1\nvmm: w\n");
	log_set_level(LOG_DEBUG);
	ck_assert(log_enabled(LOG_DEBUG));
	log_debug("d");
	ck_assert_str_eq(logged(), "vmm: d\n");
	log_set_level(LOG_ERROR);
	ck_assert(!log_enabled(LOG_WARN));
	log_warn("w");
	ck_assert_str_eq(logged(), "");
}
END_TEST

START_TEST(test_raw)
{
	log_set_raw(true);
	log_error("x");
	ck_assert_str_eq(logged(), "vmm: x\r\n");
	log_set_raw(false);
	log_error("x");
	ck_assert_str_eq(logged(), "vmm: x\n");
}
END_TEST

START_TEST(test_errno)
{
	errno = EXDEV;
	log_error("%m");
	ck_assert_int_eq(errno, EXDEV);
	ck_assert_str_eq(logged(), "vmm: Invalid cross-device link\n");
	log_set_fd(9999);
	errno = EXDEV;
	log_error("x");
	ck_assert_int_eq(errno, EXDEV);
	log_set_fd(-1);
	log_error("x");
	ck_assert_int_eq(errno, EXDEV);
}
END_TEST

static const struct {
	const char *text, *line;
} hostile[] = {
	{ "two\nlines\r", "vmm: two?lines?\n" },
	{ "\033]0;title\007\177\t", "vmm: ?]0;title???\n" },
	{ "gr\303\274n \342\202\254 \360\237\220\247",
	  "vmm: gr\303\274n \342\202\254 \360\237\220\247\n" },
	{ "\302\233m", "vmm: ??m\n" },				/* C1: CSI in UTF-8 */
	{ "\233m", "vmm: ?m\n" },				/* and in Latin-1 */
	{ "\300\212", "vmm: ??\n" },				/* overlong newline */
	{ "\340\200\212 \360\200\200\212", "vmm: ??? ????\n" }, /* longer still */
	{ "\355\240\200", "vmm: ???\n" },			/* surrogate */
	{ "\364\220\200\200 \377", "vmm: ???? ?\n" },		/* beyond Unicode */
	{ "cut \342\202", "vmm: cut ??\n" },
	{ "\342\202x", "vmm: ??x\n" },
	{ "%s%n", "vmm: %s%n\n" },
};

START_TEST(test_hostile)
{
	log_error("%s", hostile[_i].text);
	ck_assert_str_eq(logged(), hostile[_i].line);
}
END_TEST

START_TEST(test_long)
{
	static char text[3 * LOG_LINE_MAX];
	size_t exact = LOG_LINE_MAX - 2 - strlen("vmm: ") - 1;

	memset(text, 'a', sizeof(text) - 1);
	log_error("%s", text);
	ck_assert_uint_eq(strlen(logged()), LOG_LINE_MAX - 2);
	ck_assert_str_eq(out + strlen(out) - 5, "a...\n");
	log_set_raw(true);
	log_error("%.*s", (int)exact, text);
	ck_assert_uint_eq(strlen(logged()), LOG_LINE_MAX - 1);
	ck_assert_str_eq(out + strlen(out) - 3, "a\r\n");
	/* Cut in the middle of a character. */
	for (size_t i = 0; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "\303\274", 2);
	log_set_raw(false);
	log_error("%s", text);
	logged();
	ck_assert(strcmp(out + strlen(out) - 5, "?...\n") == 0 ||
		  strcmp(out + strlen(out) - 5, "\274...\n") == 0);
}
END_TEST

/* A reader that sleeps costs LOG_WAIT_MS once, then lines are dropped and counted. */
START_TEST(test_full_pipe)
{
	static char junk[65536];
	double start;
	size_t total = 0;
	ssize_t n;

	if (_i == 0) /* blocking and non-blocking */
		fcntl(pipefd[1], F_SETFL, O_NONBLOCK);
	fcntl(pipefd[0], F_SETFL, O_NONBLOCK);
	ck_assert_int_gt(fcntl(pipefd[1], F_SETPIPE_SZ, 8192), 0);
	memset(junk, 'j', sizeof(junk));
	ck_assert_int_eq(write(pipefd[1], junk, 8192), 8192);

	start = seconds();
	for (int i = 0; i < 1000; i++)
		log_error("line %d", i);
	ck_assert(seconds() - start < 3 * LOG_WAIT_MS / 1000.0);
	while ((n = read(pipefd[0], junk, sizeof(junk))) > 0)
		total += (size_t)n;
	ck_assert_uint_eq(total, 8192);
	log_error("again");
	ck_assert_str_eq(logged(), "vmm: 1000 messages dropped: nobody was reading\nvmm: again\n");
	log_error("fine");
	ck_assert_str_eq(logged(), "vmm: fine\n");
}
END_TEST

START_TEST(test_closed_pipe)
{
	signal(SIGPIPE, SIG_IGN);
	close(pipefd[0]);
	for (int i = 0; i < 10; i++)
		log_error("nobody there");
}
END_TEST

static void storm(int n)
{
	for (int i = 0; i < n; i++)
		log_limited(LOG_WARN, "bad ring");
}

static unsigned lines(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

START_TEST(test_limit)
{
	struct log_limit limit = { 0 };

	storm(100000);
	ck_assert_uint_eq(lines(logged()), LOG_LIMIT_BURST);
	/* Limits are per place. */
	log_limited(LOG_WARN, "other");
	ck_assert_str_eq(logged(), "vmm: other\n");

	for (int i = 0; i < 12; i++)
		ck_assert(log_limit_pass(&limit) == (i < LOG_LIMIT_BURST));
	/* Let the window be over. */
	limit.state -= (uint64_t)LOG_LIMIT_SECONDS << 32;
	ck_assert(log_limit_pass(&limit));
	ck_assert_str_eq(logged(), "vmm: 7 similar messages left out\n");
	ck_assert_uint_eq((uint32_t)limit.state, 1);
	/* Nothing was left out: nothing is said. */
	limit.state -= (uint64_t)LOG_LIMIT_SECONDS << 32;
	ck_assert(log_limit_pass(&limit));
	ck_assert_str_eq(logged(), "");
	/* The counter does not run over into the time. */
	limit.state |= UINT32_MAX;
	ck_assert(!log_limit_pass(&limit));
	ck_assert(!log_limit_pass(&limit));
	ck_assert_uint_eq((uint32_t)limit.state, UINT32_MAX);
	/* A window that began after the clock was read is not an old one. */
	limit.state = (limit.state & ~(uint64_t)UINT32_MAX) + (1ULL << 32) + LOG_LIMIT_BURST;
	ck_assert(!log_limit_pass(&limit));
}
END_TEST

/* Not shown is not counted. */
START_TEST(test_limit_disabled)
{
	log_set_level(LOG_ERROR);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 10; i++)
			log_limited(LOG_WARN, "x");
		log_set_level(LOG_WARN);
		ck_assert_str_eq(logged(), "");
		log_set_level(LOG_ERROR);
	}
}
END_TEST

#define THREADS	   4
#define PER_THREAD 2000

static struct log_limit shared_limit;

static void *talker(void *arg)
{
	char text[200];

	memset(text, 'a' + (int)(intptr_t)arg, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < PER_THREAD; i++) {
		log_error("%s", text);
		if (log_limit_pass(&shared_limit))
			log_error("passed");
	}
	return NULL;
}

/* Lines of several threads do not mix, and no race lets one more through a limit. */
START_TEST(test_threads)
{
	pthread_t threads[THREADS];
	char path[] = "/tmp/test_log.XXXXXX", line[LOG_LINE_MAX];
	int fd = mkstemp(path), passed = 0, whole = 0;
	FILE *file;

	ck_assert_int_ge(fd, 0);
	unlink(path);
	fcntl(fd, F_SETFL, O_APPEND);
	log_set_fd(fd);
	for (intptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, talker, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_set_fd(STDERR_FILENO);
	file = fdopen(fd, "r");
	rewind(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strcmp(line, "vmm: passed\n") == 0) {
			passed++;
			continue;
		}
		whole++;
		ck_assert_uint_eq(strlen(line), 5 + 199 + 1);
		for (int i = 5; i < 5 + 199; i++)
			ck_assert_int_eq(line[i], line[5]);
	}
	fclose(file);
	ck_assert_int_eq(whole, THREADS * PER_THREAD);
	ck_assert_int_eq(passed, LOG_LIMIT_BURST);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_levels);
	tcase_add_test(tc, test_raw);
	tcase_add_test(tc, test_errno);
	tcase_add_loop_test(tc, test_hostile, 0, sizeof(hostile) / sizeof(hostile[0]));
	tcase_add_test(tc, test_long);
	tcase_add_loop_test(tc, test_full_pipe, 0, 2);
	tcase_add_test(tc, test_closed_pipe);
	tcase_add_test(tc, test_limit);
	tcase_add_test(tc, test_limit_disabled);
	tcase_add_test(tc, test_threads);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
