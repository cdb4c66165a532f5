// SPDX-License-Identifier: Apache-2.0
/* The kernel log of `vmm run`: two sources made one, the tail, complaints. */
#include <stdio.h>
#include <unistd.h>
#include "tests/unit/device_util.h"
#include "vmm/run/log.h"

static struct err err;

static void append(void *owner, const char *text)
{
	strcat(owner, text);
	strcat(owner, "\n");
}

/* The tail, a line each. */
static const char *tail(const struct run_log *log)
{
	static char text[RUN_LOG_TAIL * (RUN_LOG_LINE + 1) + 1];

	*text = '\0';
	run_log_tail(log, append, text);
	return text;
}

static void kmsg(struct run_log *log, const char *text)
{
	run_log_kmsg(log, text, strlen(text));
}

static void console(struct run_log *log, const char *text)
{
	run_log_console(log, text, strlen(text));
}

START_TEST(records_become_lines)
{
	struct run_log *log = run_log_new(NULL, NULL, &err);

	kmsg(log, "6,1,0,-;Linux version 6.12\n");
	kmsg(log, "4,2,12345");
	kmsg(log, "6789,-,caller=T1;two\\x0awords; and more\n SUBSYSTEM=pci\n");
	kmsg(log, "nonsense\n;\n,;\n6,;x\n");
	ck_assert_str_eq(tail(log), "[    0.000000] Linux version 6.12\n"
				    "[  123.456789] two\\x0awords; and more\n");
	ck_assert_uint_eq(run_log_lines(log), 2);
	run_log_free(log);
}
END_TEST

/* What the console has and the records have not is the end of the log. */
START_TEST(the_console_adds_what_is_missing)
{
	struct run_log *log = run_log_new(NULL, NULL, &err);

	console(log, "[    0.000001] a warning\r\n[    0.000003] dying");
	kmsg(log, "4,1,0,-;first\n4,2,1,-;a warning\n6,3,2,-;third\n");
	ck_assert_str_eq(tail(log), "[    0.000000] first\n[    0.000001] a warning\n"
				    "[    0.000002] third\n");
	run_log_end(log);
	ck_assert_str_eq(tail(log), "[    0.000000] first\n[    0.000001] a warning\n"
				    "[    0.000002] third\n[    0.000003] dying\n");
	run_log_free(log);
}
END_TEST

/* With --verbose the console is far ahead of the records: still, each line once, in order. */
START_TEST(the_console_is_far_ahead)
{
	struct run_log *log = run_log_new(NULL, NULL, &err);
	char text[64], last[64];
	int n = 5000;

	for (int i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "[    %d.%06d] line %d\r\n", i / 1000, i % 1000, i);
		console(log, text);
		if (i % 100 == 0) /* not of the kernel */
			console(log, "udev: hello\n");
	}
	for (int i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "6,%d,%d,-;line %d\n", i,
			 i / 1000 * 1000000 + i % 1000, i);
		kmsg(log, text);
		if (i % 1000 == 0) /* not for the console */
			kmsg(log, "7,1,1,-;debug\n");
	}
	run_log_end(log);
	ck_assert_uint_eq(run_log_lines(log), (uint64_t)n + n / 100 + n / 1000);
	snprintf(last, sizeof(last), "[    4.000999] line %d\n", n - 1);
	ck_assert_ptr_nonnull(strstr(tail(log), last));
	run_log_free(log);
}
END_TEST

/* A line that comes again later is a line. */
START_TEST(what_has_passed_is_dropped_once)
{
	struct run_log *log = run_log_new(NULL, NULL, &err);

	for (int i = 0; i < 257; i++)
		console(log, "[    0.000001] again\n");
	ck_assert_uint_eq(run_log_lines(log), 1);
	for (int i = 0; i < 300; i++)
		kmsg(log, "6,1,1,-;again\n");
	run_log_end(log);
	ck_assert_uint_eq(run_log_lines(log), 300);
	run_log_free(log);
}
END_TEST

START_TEST(lines_and_numbers_are_bounded)
{
	struct run_log *log = run_log_new(NULL, NULL, &err);
	char line[3 * RUN_LOG_LINE];

	memset(line, 'x', sizeof(line) - 2);
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	for (int i = 0; i < 1000; i++)
		console(log, line);
	run_log_end(log);
	ck_assert_uint_eq(run_log_lines(log), 1000);
	ck_assert_uint_eq(strlen(tail(log)), RUN_LOG_TAIL * RUN_LOG_LINE);
	run_log_free(log);
}
END_TEST

static void check_complaint(const char *fail_on, const char *line, const char *kind)
{
	struct run_log *log = run_log_new(NULL, fail_on, &err);
	const char *found_kind = NULL, *found;

	ck_assert_msg(log != NULL, "%s", err.msg);
	console(log, "[ 1.0] all is well\n");
	console(log, line);
	run_log_end(log);
	found = run_log_complaint(log, &found_kind);
	if (kind == NULL) {
		ck_assert_msg(found == NULL, "%s: %s", fail_on, line);
	} else {
		ck_assert_msg(found != NULL, "%s: %s", fail_on, line);
		ck_assert_str_eq(found_kind, kind);
		ck_assert(strncmp(found, line, strlen(found)) == 0);
	}
	run_log_free(log);
}

START_TEST(complaints)
{
	check_complaint("all", "WARNING: CPU: 0 PID: 1 at kernel/x.c:3 f+0x1/0x2\n", "warn");
	check_complaint("warn", "WARNING: possible recursive locking detected\n", "warn");
	check_complaint("lockdep", "WARNING: possible recursive locking detected\n", "lockdep");
	check_complaint("lockdep", "WARNING: CPU: 0 PID: 1 at kernel/x.c:3\n", NULL);
	check_complaint("kasan,oops", "BUG: KASAN: use-after-free in f+0x1\n", "kasan");
	check_complaint("bug", "BUG: KASAN: use-after-free in f+0x1\n", "bug");
	check_complaint("oops", "Oops: 0002 [#1] PREEMPT SMP\n", "oops");
	check_complaint("lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!\n", "lockup");
	check_complaint("hung", "INFO: task a:1 blocked for more than 120 seconds.\n", "hung");
	check_complaint("leak,rcu", "rcu: INFO: rcu_preempt detected stalls\n", "rcu");
	check_complaint(NULL, "BUG: KASAN: use-after-free in f+0x1\n", NULL);
	check_complaint("all", "nothing to complain of\n", NULL);
	ck_assert_ptr_null(run_log_new(NULL, "oops,wran", &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "'wran' is not one of"));
	ck_assert_ptr_nonnull(strstr(err.msg, "did you mean 'warn'?"));
}
END_TEST

START_TEST(panics_and_files)
{
	char path[] = "/tmp/test_run_log.XXXXXX", text[256] = "";
	struct run_log *log;
	int fd = mkstemp(path);

	log = run_log_new(path, NULL, &err);
	ck_assert_msg(log != NULL, "%s", err.msg);
	kmsg(log, "6,1,0,-;one\n");
	console(log, "[    2.000000] Kernel panic - not syncing: so it is\n");
	ck_assert_ptr_null(run_log_panic(log));
	run_log_end(log);
	ck_assert_str_eq(run_log_panic(log), "[    2.000000] Kernel panic - not syncing: so it is");
	run_log_free(log);
	ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
	ck_assert_str_eq(text, "[    0.000000] one\n"
			       "[    2.000000] Kernel panic - not syncing: so it is\n");
	close(fd);
	unlink(path);
	ck_assert_ptr_null(run_log_new("/nonexistent/log", NULL, &err));
	ck_assert_str_eq(err.msg, "--log /nonexistent/log: cannot open: No such file or directory");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("run_log");
	TCase *tc = tcase_create("run_log");

	tcase_add_test(tc, records_become_lines);
	tcase_add_test(tc, the_console_adds_what_is_missing);
	tcase_add_test(tc, the_console_is_far_ahead);
	tcase_add_test(tc, what_has_passed_is_dropped_once);
	tcase_add_test(tc, lines_and_numbers_are_bounded);
	tcase_add_test(tc, complaints);
	tcase_add_test(tc, panics_and_files);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
