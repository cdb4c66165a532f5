// SPDX-License-Identifier: Apache-2.0
/* TAP and KTAP: what is a result, and what is only text. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/test_run.h"
#include "vmm/run/ktap.h"

/* All of @text, in pieces of @piece bytes. */
static struct ktap *parse_pieces(enum ktap_source source, const char *text, size_t piece)
{
	struct ktap *k = ktap_new(source);
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i += piece)
		ktap_feed(k, text + i, len - i < piece ? len - i : piece);
	ktap_end(k);
	return k;
}

static struct ktap *parse(const char *text)
{
	return parse_pieces(KTAP_OUTPUT, text, 4096);
}

/* "path=result why;" for each that counts. */
static void expect(struct ktap *k, const char *expected)
{
	char all[8192] = "", path[512];
	size_t len = 0;

	for (size_t i = 0; i < ktap_ntests(k); i++) {
		const struct ktap_test *t = ktap_test(k, i);

		if (!t->counts)
			continue;
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s=%s%s%s;",
					ktap_path(k, t, path, sizeof(path)),
					ktap_result_names[t->result], t->why != NULL ? " " : "",
					t->why != NULL ? t->why : "");
	}
	ck_assert_str_eq(all, expected);
	ktap_free(k);
}

START_TEST(test_flat)
{
	expect(parse("TAP version 13\n1..3\nok 1 - one\nnot ok 2 two\nok 3\n"),
	       "one=pass;two=fail;(no name)=pass;");
	/* The plan at the end; no numbers. */
	expect(parse("noise\nTAP version 14\nok - a\nnoise\nok b\n1..2\nok 9 later\n"),
	       "a=pass;b=pass;");
	expect(parse("ok 1 no version\n1..1\n"), "");
	expect(parse("TAP version 13\r\n1..1\r\nok 1 dos\r\n"), "dos=pass;");
	expect(parse("KTAP version 2\n1..1\nok 1 two"), "two=pass;");
}
END_TEST

/* The example in the kernel's documentation. */
static const char example[] = "KTAP version 1\n"
			      "1..1\n"
			      "  KTAP version 1\n"
			      "  1..3\n"
			      "    KTAP version 1\n"
			      "    1..1\n"
			      "    # test_1: initializing test_1\n"
			      "    ok 1 test_1\n"
			      "  ok 1 example_test_1\n"
			      "    KTAP version 1\n"
			      "    1..2\n"
			      "    ok 1 test_1 # SKIP test_1 skipped\n"
			      "    ok 2 test_2\n"
			      "  ok 2 example_test_2\n"
			      "    KTAP version 1\n"
			      "    1..3\n"
			      "    ok 1 test_1\n"
			      "    # test_2: FAIL\n"
			      "    not ok 2 test_2\n"
			      "    ok 3 test_3 # SKIP test_3 skipped\n"
			      "  not ok 3 example_test_3\n"
			      "not ok 1 main_test\n";

START_TEST(test_nested)
{
	for (size_t piece = 1; piece < 80; piece += 13) {
		struct ktap *k = parse_pieces(KTAP_OUTPUT, example, piece);
		const struct ktap_sum *sum = ktap_sum(k);
		const struct ktap_test *bad = ktap_first_failed(k);

		ck_assert_uint_eq(sum->total, 6);
		ck_assert_uint_eq(sum->failed, 1);
		ck_assert_uint_eq(sum->results[KTAP_SKIP], 2);
		ck_assert_uint_eq(sum->wrong_numbers, 0);
		ck_assert_str_eq(bad->name, "test_2");
		ck_assert_str_eq(bad->diag, "    # test_2: FAIL\n");
		expect(k, "main_test.example_test_1.test_1=pass;"
			  "main_test.example_test_2.test_1=skip test_1 skipped;"
			  "main_test.example_test_2.test_2=pass;"
			  "main_test.example_test_3.test_1=pass;"
			  "main_test.example_test_3.test_2=fail;"
			  "main_test.example_test_3.test_3=skip test_3 skipped;");
	}
}
END_TEST

START_TEST(test_kunit_in_the_kernel_log)
{
	static const char log[] = "[    0.100000] Booting\n"
				  "[    0.200000] KTAP version 1\n"
				  "[    0.200001] 1..2\n"
				  "[    0.200002]     KTAP version 1\n"
				  "[    0.200003]     # Subtest: list\n"
				  "[    0.200004]     # module: list_test\n"
				  "[    0.200005]     1..2\n"
				  "[    0.200006]     ok 1 init\n"
				  "[    0.200007] clocksource: ok 2 but not a test\n"
				  "[    0.200008]     ok 2 add\n"
				  "[    0.200009] # list: pass:2 fail:0 skip:0 total:2\n"
				  "[    0.200010] ok 1 list\n"
				  "[    0.200011]     KTAP version 1\n"
				  "[    0.200012]     # Subtest: broken\n"
				  "[    0.200013]     1..1\n"
				  "[    0.200014]     # t: EXPECTATION FAILED at lib/x.c:3\n"
				  "[    0.200015]     not ok 1 t\n"
				  "[    0.200016] not ok 2 broken\n"
				  "[    0.300000] Run /init as init process\n";
	struct ktap *k = parse_pieces(KTAP_CONSOLE, log, 7);

	ck_assert_str_eq(ktap_first_failed(k)->diag, "    # t: EXPECTATION FAILED at lib/x.c:3\n");
	expect(k, "list.init=pass;list.add=pass;broken.t=fail;");
	/* With the thread in it, and as records. */
	expect(parse_pieces(KTAP_CONSOLE,
			    "[    1.000000][    T1] KTAP version 1\n[    1.000000][    T1] 1..1\n"
			    "[    1.000000][    T1] ok 1 x\n",
			    99),
	       "x=pass;");
	expect(parse_pieces(KTAP_KMSG,
			    "6,1,100,-;KTAP version 1\n SUBSYSTEM=ok 1 no\n6,2,101,-;1..1\n"
			    "6,3,102,-;ok 1 x\nok 1 no record\n",
			    5),
	       "x=pass;");
}
END_TEST

START_TEST(test_directives)
{
	expect(parse("TAP version 13\n1..12\n"
		     "ok 1 a # skip no such device\n"
		     "not ok 2 b # SKIPPED: later\n"
		     "not ok 3 c # TODO not yet\n"
		     "ok 4 d # todo\n"
		     "ok 5 e # XFAIL known\n"
		     "not ok 6 f # TIMEOUT 45 seconds\n"
		     "ok 7 g # errors=0\n"
		     "ok 8 # SKIP name here\n"
		     "ok 9 C# is not a directive\n"
		     "ok 10 h # skipper\n"
		     "ok 11 i # ERROR it went\n"
		     "not ok 12 j # exit=1\n"),
	       "a=skip no such device;b=skip later;c=xfail not yet;d=pass;e=xfail known;"
	       "f=fail 45 seconds;g=pass errors=0;name here=skip;C# is not a directive=pass;"
	       "h=skip;i=fail it went;j=fail exit=1;");
	expect(parse("TAP version 13\n1..0 # SKIP no hardware\n"), "all=skip no hardware;");
	expect(parse("TAP version 13\n1..5\nok 1 a\nBail out! no disk\nok 2 b\n"),
	       "a=pass;Bail out!=fail no disk;");
}
END_TEST

START_TEST(test_kselftest)
{
	struct ktap *k = parse("TAP version 13\n"
			       "1..2\n"
			       "# timeout set to 45\n"
			       "# selftests: timers: posix_timers\n"
			       "# TAP version 13\n"
			       "# 1..2\n"
			       "# # Testing\n"
			       "# ok 1 itimer\n"
			       "# not ok 2 posix\n"
			       "# # Totals: pass:1 fail:1\n"
			       "not ok 1 selftests: timers: posix_timers # exit=1\n"
			       "# selftests: timers: nanosleep\n"
			       "# Nanosleep CLOCK_REALTIME [OK]\n"
			       "ok 2 selftests: timers: nanosleep\n"
			       "TAP version 13\n"
			       "1..1\n"
			       "# TAP version 13\n"
			       "# 1..88\n"
			       "# Bail out! mount failed\n"
			       "not ok 1 selftests: openat2: resolve_test # exit=1\n");

	ck_assert_str_eq(ktap_first_failed(k)->name, "posix");
	expect(k, "selftests: timers: posix_timers.itimer=pass;"
		  "selftests: timers: posix_timers.posix=fail;selftests: timers: nanosleep=pass;"
		  "selftests: openat2: resolve_test.Bail out!=fail mount failed;");
}
END_TEST

START_TEST(test_tap14)
{
	expect(parse("TAP version 14\n"
		     "1..2\n"
		     "# Subtest: foo\n"
		     "    1..2\n"
		     "    ok 1 - a\n"
		     "    not ok 2 - b\n"
		     "not ok 1 - foo\n"
		     "    # Subtest: bar\n"
		     "    ok 1 - c\n"
		     "    1..1\n"
		     "ok 2 - bar\n"),
	       "foo.a=pass;foo.b=fail;bar.c=pass;");
}
END_TEST

START_TEST(test_yaml)
{
	struct ktap *k = parse("TAP version 13\n1..3\nok 1 a\nnot ok 2 b\n  ---\n  got: 1\n"
			       "  want: 2\n  ...\nnot ok 3 c\n");

	ck_assert_str_eq(ktap_first_failed(k)->diag, "  got: 1\n  want: 2\n");
	expect(k, "a=pass;b=fail;c=fail;");
	/* A block that does not end hides nothing. */
	expect(parse("TAP version 13\n1..2\nok 1 a\n  ---\n  x: 1\nnot ok 2 b\n"),
	       "a=pass;b=fail;");
	expect(parse("TAP version 13\n1..2\nok 1 a\n---\nnot ok 2 b\n"), "a=pass;b=fail;");
}
END_TEST

START_TEST(test_missing)
{
	struct ktap *k;

	expect(parse("TAP version 13\n1..3\nok 1 a\n"),
	       "a=pass;2 of 3 results are missing=missing;");
	expect(parse("KTAP version 1\n"), "no results=missing;");
	/* The suite died, another one came after it. */
	expect(parse("KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: s\n    1..2\n"
		     "    ok 1 a\n    KTAP version 1\n    # Subtest: t\n    1..1\n    ok 1 b\n"
		     "ok 2 t\n"),
	       "s.a=pass;s.1 of 2 results are missing=missing;t.b=pass;");
	/* Complete, but for its parent's result. */
	expect(parse("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..1\n"
		     "    ok 1 a\n"),
	       "s.a=pass;s=missing it has no result;");
	/* A parent that failed by itself. */
	expect(parse("KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\nnot ok 1 s\n"),
	       "s.a=pass;s=fail;");
	/* More than planned, and out of order: noted, and taken as they are. */
	k = parse("TAP version 13\n1..1\nok 1 a\nok 3 b\n");
	ck_assert_uint_eq(ktap_sum(k)->wrong_numbers, 2);
	expect(k, "a=pass;b=pass;");
	/* Several, one after the other. */
	expect(parse("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\nok 1 b\n"),
	       "a=pass;b=pass;");
}
END_TEST

START_TEST(test_bounds)
{
	struct ktap *k = ktap_new(KTAP_OUTPUT);
	char line[8192];

	/* Too many results: counted, and the failure among them found. */
	ktap_feed(k, "TAP version 13\n", 15);
	for (unsigned i = 1; i <= KTAP_TESTS_MAX + 100; i++) {
		int n = snprintf(line, sizeof(line), "%sok %u t%u\n",
				 i == KTAP_TESTS_MAX + 50 ? "not " : "", i, i);

		ktap_feed(k, line, (size_t)n);
	}
	ktap_end(k);
	ck_assert_uint_eq(ktap_ntests(k), KTAP_TESTS_MAX);
	ck_assert_uint_eq(ktap_sum(k)->total, KTAP_TESTS_MAX + 100);
	ck_assert_uint_eq(ktap_sum(k)->dropped, 100);
	ck_assert_uint_eq(ktap_sum(k)->failed, 1);
	ktap_free(k);

	/* Too deep, too long, NUL. */
	k = ktap_new(KTAP_OUTPUT);
	for (unsigned i = 0; i < 3 * KTAP_DEPTH_MAX; i++) {
		int n = snprintf(line, sizeof(line), "%*sKTAP version 1\n", (int)i * 2, "");

		ktap_feed(k, line, (size_t)n);
	}
	memset(line, 'x', sizeof(line));
	memcpy(line, "ok 1 ", 5);
	line[6] = '\0';
	line[sizeof(line) - 1] = '\n';
	ktap_feed(k, line, sizeof(line));
	ktap_end(k);
	ck_assert_uint_gt(ktap_sum(k)->failed, 0);
	ck_assert_uint_ge(ktap_ntests(k), 2);
	ktap_free(k);

	/* Diagnostics are the last ones. */
	k = ktap_new(KTAP_OUTPUT);
	ktap_feed(k, "TAP version 13\n1..1\n", 20);
	for (unsigned i = 0; i < 10000; i++) {
		int n = snprintf(line, sizeof(line), "# line %u\n", i);

		ktap_feed(k, line, (size_t)n);
	}
	ktap_feed(k, "not ok 1 x\n", 11);
	ktap_end(k);
	ck_assert_uint_le(strlen(ktap_first_failed(k)->diag), KTAP_DIAG_MAX);
	ck_assert_ptr_nonnull(strstr(ktap_first_failed(k)->diag, "# line 9999\n"));
	ktap_free(k);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ktap");
	TCase *tc = tcase_create("ktap");

	tcase_add_test(tc, test_flat);
	tcase_add_test(tc, test_nested);
	tcase_add_test(tc, test_kunit_in_the_kernel_log);
	tcase_add_test(tc, test_directives);
	tcase_add_test(tc, test_kselftest);
	tcase_add_test(tc, test_tap14);
	tcase_add_test(tc, test_yaml);
	tcase_add_test(tc, test_missing);
	tcase_add_test(tc, test_bounds);
	suite_add_tcase(s, tc);
	return test_run(s);
}
