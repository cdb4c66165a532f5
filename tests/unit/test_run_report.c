// SPDX-License-Identifier: Apache-2.0
/*
 * Reports of vmm run: JSON that can be read again, XML that a parser takes whatever the guest said,
 * files that are whole or not there. python3 parses the XML; without it that part is left out.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/run/glob.h"
#include "vmm/run/report.h"

static char dir[64];

static void setup(void)
{
	strcpy(dir, "/tmp/test_run_report.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(system(command), 0);
}

static struct run_result a_result(void)
{
	static char *const words[] = { (char *)"make", (char *)"te st", NULL };

	return (struct run_result){
		.kernel = "/boot/vmlinuz",
		.release = "6.12.1",
		.words = words,
		.how = RUN_EXITED,
		.ms = { 1.5, 800.25, 20, 4000.0004, 2 },
		.total_ms = 4830,
		.log_lines = 300,
	};
}

static const char *text(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

START_TEST(test_object)
{
	static char *const tail[] = { (char *)"one", (char *)"two" };
	struct run_result r = a_result();
	json_t *json = run_report_json(&r), *part;

	ck_assert_str_eq(text(json, "how"), "exited");
	ck_assert_str_eq(text(json_object_get(json, "kernel"), "release"), "6.12.1");
	ck_assert_uint_eq(json_array_size(json_object_get(json, "command")), 2);
	part = json_object_get(json, "times_ms");
	ck_assert_double_eq_tol(json_number_value(json_object_get(part, "kernel")), 800.25, 1e-6);
	ck_assert_double_eq_tol(json_number_value(json_object_get(part, "command")), 4000, 1e-6);
	ck_assert_ptr_null(json_object_get(json, "signal"));
	ck_assert_ptr_null(json_object_get(json, "tests"));
	json_decref(json);

	r.how = RUN_PANIC;
	r.status = 120;
	r.ms[RUN_PHASE_COMMAND] = r.ms[RUN_PHASE_END] = -1;
	r.panic = "Kernel panic - not syncing: x";
	r.complaint = "WARNING: y";
	r.complaint_kind = "warn";
	r.log_tail = tail;
	r.log_tail_n = 2;
	json = run_report_json(&r);
	ck_assert_ptr_null(json_object_get(json_object_get(json, "times_ms"), "command"));
	part = json_object_get(json, "log");
	ck_assert_str_eq(text(json_object_get(part, "complaint"), "kind"), "warn");
	ck_assert_str_eq(text(part, "panic"), r.panic);
	ck_assert_str_eq(json_string_value(json_array_get(json_object_get(part, "tail"), 1)),
			 "two");
	json_decref(json);
}
END_TEST

/* What the output is in the report, of @n times @data. */
static char *output_of(const char *data, size_t len, unsigned n)
{
	struct run_result r = a_result();
	struct run_tail tail = { 0 };
	json_t *json;
	char *copy;

	for (unsigned i = 0; i < n; i++)
		run_tail_add(&tail, data, len);
	r.out = &tail;
	json = run_report_json(&r);
	copy = strdup(text(json_object_get(json, "output"), "stdout"));
	json_decref(json);
	run_tail_fini(&tail);
	return copy;
}

static void expect_output(const char *data, size_t len, const char *expected)
{
	char *found = output_of(data, len, 1);

	ck_assert_str_eq(found, expected);
	free(found);
}

#define BAD "\xef\xbf\xbd"

START_TEST(test_text)
{
	char *found;

	expect_output("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 17,
		      "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	expect_output("\xff\xfe", 2, BAD BAD);
	expect_output("a\0b", 3, "a" BAD "b");
	expect_output("\xc0\x80", 2, BAD BAD);		       /* too long */
	expect_output("\xed\xa0\x80", 3, BAD BAD BAD);	       /* a surrogate */
	expect_output("\xf4\x90\x80\x80", 4, BAD BAD BAD BAD); /* beyond the last */
	expect_output("\xe2\x82", 2, BAD BAD);		       /* cut */
	expect_output("\x1b[31m\t\r\n", 8, "\x1b[31m\t\r\n");

	/* The end is what is kept, from a whole character on. */
	found = output_of("0123456789\n", 11, 100000);
	ck_assert_uint_eq(strlen(found), RUN_TAIL_SIZE);
	ck_assert_str_eq(found + RUN_TAIL_SIZE - 11, "0123456789\n");
	free(found);
	found = output_of("\xe2\x82\xac", 3, 100000);
	ck_assert_uint_eq(strlen(found), RUN_TAIL_SIZE / 3 * 3);
	ck_assert_int_eq(memcmp(found, "\xe2\x82\xac", 3), 0);
	free(found);
}
END_TEST

START_TEST(test_tail_of_large_writes)
{
	static char data[3 * RUN_TAIL_SIZE + 7];
	char *found;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)('a' + i % 26);
	found = output_of(data, sizeof(data), 2);
	ck_assert_uint_eq(strlen(found), RUN_TAIL_SIZE);
	ck_assert_int_eq(memcmp(found, data + sizeof(data) - RUN_TAIL_SIZE, RUN_TAIL_SIZE), 0);
	free(found);
}
END_TEST

/* What python makes of report.xml, a line each; NULL: there is no python3. */
static char *parse_xml(void)
{
	static char out[8192];
	FILE *pipe;
	size_t n;

	if (system("python3 -c '' 2>/dev/null") != 0)
		return NULL;
	pipe = popen("python3 -c '\n"
		     "import xml.etree.ElementTree as tree\n"
		     "for s in tree.parse(\"report.xml\").getroot():\n"
		     "    print(s.tag, s.get(\"name\"), s.get(\"tests\"), s.get(\"failures\"),"
		     " s.get(\"errors\"), s.get(\"skipped\"))\n"
		     "    for c in s.iter(\"testcase\"):\n"
		     "        print(c[0].tag if len(c) else \"pass\", c.get(\"classname\"),"
		     " c.get(\"name\"), repr(c[0].get(\"message\")) if len(c) else \"\")\n"
		     "    print(repr((s.findtext(\"system-out\") or \"\")[:40]))\n"
		     "'",
		     "r");
	n = fread(out, 1, sizeof(out) - 1, pipe);
	out[n] = '\0';
	ck_assert_int_eq(pclose(pipe), 0);
	return out;
}

static void write_xml(struct run_result *r)
{
	struct err err = ERR_INIT;
	json_t *json = run_report_json(r);

	ck_assert_int_eq(run_report_write("report.xml", RUN_JUNIT, json, r->status, &err), 0);
	json_decref(json);
}

static void expect_xml(const char *expected)
{
	char *found = parse_xml();

	if (found != NULL)
		ck_assert_str_eq(found, expected);
}

START_TEST(test_junit)
{
	struct ktap *k = ktap_new(KTAP_OUTPUT);
	struct run_result r = a_result();
	static const char tap[] = "TAP version 13\n1..5\nok 1 a\nnot ok 2 b <&\"> \x01\xff # x\n"
				  "ok 3 c # SKIP why\nnot ok 4 d # TODO t\n";

	write_xml(&r);
	expect_xml("testsuite make te st 1 0 0 0\npass 6.12.1 make te st \n''\n");

	r.how = RUN_PANIC;
	r.status = 120;
	r.sentence = "Kernel panic <\"1\">\n\t\x1b[0m ";
	write_xml(&r);
	expect_xml("testsuite make te st 1 0 1 0\n"
		   "error 6.12.1 make te st 'Kernel panic <\"1\">  \xef\xbf\xbd[0m '\n''\n");

	ktap_feed(k, tap, sizeof(tap) - 1);
	ktap_end(k);
	r = a_result();
	r.output_tests = k;
	write_xml(&r);
	expect_xml("testsuite make te st 5 1 1 2\n"
		   "pass stdout a \n"
		   "failure stdout b <&\"> \xef\xbf\xbd\xef\xbf\xbd 'x'\n"
		   "skipped stdout c 'why'\n"
		   "skipped stdout d 't'\n"
		   "error stdout 1 of 5 results are missing 'missing'\n''\n");
	/* A failure of the run's own is one more. */
	r.how = RUN_TIMEOUT;
	r.status = 124;
	write_xml(&r);
	if (parse_xml() != NULL)
		ck_assert_ptr_nonnull(strstr(parse_xml(), "error 6.12.1 make te st 'status 124'"));
	ktap_free(k);
}
END_TEST

START_TEST(test_any_bytes_are_xml)
{
	struct run_result r = a_result();
	struct run_tail tail = { 0 };
	unsigned seed = 1;

	for (unsigned i = 0; i < 20000; i++) {
		char c = (char)(rand_r(&seed) >> 8);

		run_tail_add(&tail, &c, 1);
	}
	/* Characters that UTF-8 has and XML has not. */
	run_tail_add(&tail, "\xef\xbf\xbe\xef\xbf\xbf]]>", 9);
	r.out = r.err = &tail;
	write_xml(&r);
	if (parse_xml() != NULL)
		ck_assert_ptr_nonnull(strstr(parse_xml(), "testsuite make te st 1 0 0 0\n"));
	run_tail_fini(&tail);
}
END_TEST

START_TEST(test_file)
{
	struct run_result r = a_result();
	json_t *json = run_report_json(&r), *back;
	struct err err = ERR_INIT;
	struct run_report *report;
	struct stat st;

	/* Nothing is there until it is whole. */
	report = run_report_open("report", RUN_JSON, &err);
	ck_assert_ptr_nonnull(report);
	ck_assert_int_lt(stat("report", &st), 0);
	ck_assert_int_eq(run_report_add(report, json, &err), 0);
	ck_assert_int_eq(run_report_add(report, json, &err), 0);
	ck_assert_int_lt(stat("report", &st), 0);
	ck_assert_int_eq(run_report_close(report, 7, &err), 0);
	back = json_load_file("report", JSON_REJECT_DUPLICATES, NULL);
	ck_assert_uint_eq(json_array_size(json_object_get(back, "runs")), 2);
	ck_assert_int_eq(json_integer_value(json_object_get(back, "status")), 7);
	ck_assert(json_equal(json_array_get(json_object_get(back, "runs"), 1), json));
	json_decref(back);

	/* Dropped: the old one stays, and nothing else. */
	report = run_report_open("report", RUN_JSON, &err);
	ck_assert_int_eq(run_report_add(report, json, &err), 0);
	run_report_drop(report);
	ck_assert_int_eq(stat("report", &st), 0);
	ck_assert_int_eq(system("test \"$(ls)\" = report"), 0);

	ck_assert_ptr_null(run_report_open("no/such/folder", RUN_JUNIT, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "--junit no/such/folder: cannot open "));
	ck_assert_ptr_nonnull(strstr(err.msg, ": No such file or directory"));
	err = (struct err)ERR_INIT;
	ck_assert_int_eq(run_report_write("/dev/full", RUN_JSON, json, 0, &err), -ENOSPC);
	ck_assert_int_eq(stat("/dev/full", &st), 0);
	ck_assert(S_ISCHR(st.st_mode));
	json_decref(json);
}
END_TEST

START_TEST(test_glob)
{
	struct run_paths paths = { 0 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(system("mkdir -p v6.9/boot v6.10/boot .v6.1/boot other && "
				"touch v6.9/boot/k v6.10/boot/k .v6.1/boot/k other/k"),
			 0);
	ck_assert_int_eq(run_glob("v*/boot/[k]", &paths, &err), 0);
	ck_assert_uint_eq(paths.n, 2);
	ck_assert_str_eq(paths.path[0], "v6.9/boot/k");
	ck_assert_str_eq(paths.path[1], "v6.10/boot/k");
	ck_assert_int_eq(run_glob("[!o]6*.[0-9-]?*/boot/k", &paths, &err), 0);
	ck_assert_uint_eq(paths.n, 3);
	ck_assert_str_eq(paths.path[2], "v6.10/boot/k");
	ck_assert_int_eq(run_glob("*[", &paths, &err), -ENOENT);
	ck_assert_int_eq(run_glob("not there", &paths, &err), 0);
	ck_assert_str_eq(paths.path[3], "not there");
	ck_assert_int_eq(run_glob("*/b*/none", &paths, &err), -ENOENT);
	ck_assert_str_eq(err.msg, "there is no file */b*/none");
	ck_assert_int_eq(run_glob("*/boot/k/", &paths, &err), -ENOENT);
	for (unsigned i = 4; i < RUN_GLOB_MAX; i++)
		ck_assert_int_eq(run_glob("x", &paths, &err), 0);
	ck_assert_int_eq(run_glob("other/?", &paths, &err), -E2BIG);
	run_paths_fini(&paths);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("run_report");
	TCase *tc = tcase_create("run_report");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_object);
	tcase_add_test(tc, test_text);
	tcase_add_test(tc, test_tail_of_large_writes);
	tcase_add_test(tc, test_junit);
	tcase_add_test(tc, test_any_bytes_are_xml);
	tcase_add_test(tc, test_file);
	tcase_add_test(tc, test_glob);
	suite_add_tcase(s, tc);
	return test_run(s);
}
