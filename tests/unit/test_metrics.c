// SPDX-License-Identifier: Apache-2.0
/* Metrics: lines with what was counted since the line before, files that take none, Prometheus. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/api/metrics.h"

static struct metrics m;
static int a, b;
static char path[] = "/tmp/vmm-metrics-XXXXXX";

static json_t *collect(struct metrics *metrics)
{
	(void)metrics;
	return json_pack("{s{si ss s[ii]} s{si}}", "vcpu_0", "exits", a, "device", "x", "latency",
			 a, b, "vcpu_1", "exits", b);
}

static json_t *collect_cgroup(struct metrics *metrics)
{
	(void)metrics;
	return json_pack("{s{si si}}", "cgroup", "cpu_usage_usec", a, "memory_current", b);
}

static void setup(void)
{
	struct err err = ERR_INIT;

	strcpy(path + strlen(path) - 6, "XXXXXX");
	close(mkstemp(path));
	m = (struct metrics){ .fd = -1, .collect = collect, .loop = loop_new(&err) };
	a = b = 0;
}

static void teardown(void)
{
	metrics_close(&m);
	loop_free(m.loop);
	unlink(path);
}

/* Line @n of the file. */
static json_t *line(int n)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = fopen(path, "r");
	json_t *json;

	ck_assert_ptr_nonnull(f);
	for (int i = 0; i <= n; i++)
		ck_assert_int_gt(getline(&text, &size, f), 0);
	json = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(json);
	free(text);
	fclose(f);
	return json;
}

static json_int_t number(const json_t *json, const char *group, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(json, group), name));
}

START_TEST(lines)
{
	struct err err = ERR_INIT;
	json_t *json;

	ck_assert_int_eq(metrics_open(&m, path, &err), 0);
	a = 5;
	ck_assert_int_eq(metrics_flush(&m, &err), 0);
	a = 7;
	b = 100;
	ck_assert_int_eq(metrics_flush(&m, &err), 0);
	json = line(0);
	ck_assert_int_eq(number(json, "vcpu_0", "exits"), 5);
	ck_assert(json_integer_value(json_object_get(json, "utc_timestamp_ms")) > 0);
	json_decref(json);
	json = line(1);
	ck_assert_int_eq(number(json, "vcpu_0", "exits"), 2);
	ck_assert_int_eq(number(json, "vcpu_1", "exits"), 100);
	ck_assert_int_eq(json_integer_value(json_array_get(
				 json_object_get(json_object_get(json, "vcpu_0"), "latency"), 0)),
			 2);
	json_decref(json);
}
END_TEST

/* What a pipe did not take comes with the next line; nobody waits for its reader. */
START_TEST(pipe_that_is_full)
{
	struct err err = ERR_INIT;
	char *junk = malloc(1 << 20);
	unsigned lines_ = 0;
	FILE *f;

	unlink(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(metrics_open(&m, path, &err), 0);
	a = 1;
	while (m.missed == 0) {
		ck_assert_int_eq(metrics_flush(&m, &err), 0);
		a += m.missed == 0;
		lines_++;
		ck_assert_uint_lt(lines_, 100000);
	}
	f = fopen(path, "r+");
	ck_assert_ptr_nonnull(f);
	fcntl(fileno(f), F_SETFL, O_NONBLOCK);
	while (read(fileno(f), junk, 1 << 20) > 0)
		;
	a += 9;
	ck_assert_int_eq(metrics_flush(&m, &err), 0);
	junk[read(fileno(f), junk, (1 << 20) - 1)] = '\0';
	ck_assert_ptr_nonnull(strstr(junk, "\"exits\":10"));
	ck_assert_ptr_nonnull(strstr(junk, "\"missed_metrics_count\":1"));
	fclose(f);
	free(junk);
}
END_TEST

START_TEST(nowhere)
{
	struct err err = ERR_INIT;

	ck_assert_int_lt(metrics_open(&m, "/no/such", &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "metrics /no/such: cannot open"));
	err = (struct err)ERR_INIT;
	ck_assert_int_eq(metrics_open(&m, "/dev/full", &err), 0);
	ck_assert_int_lt(metrics_flush(&m, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "No space left"));
}
END_TEST

/* What goes up and down is written as it is, without a difference. */
START_TEST(cgroup)
{
	struct err err = ERR_INIT;
	json_t *json;
	char *text;

	m.collect = collect_cgroup;
	ck_assert_int_eq(metrics_open(&m, path, &err), 0);
	a = 500;
	b = 100;
	ck_assert_int_eq(metrics_flush(&m, &err), 0);
	a = 700;
	b = 90;
	ck_assert_int_eq(metrics_flush(&m, &err), 0);
	json = line(1);
	ck_assert_int_eq(number(json, "cgroup", "cpu_usage_usec"), 200);
	ck_assert_int_eq(number(json, "cgroup", "memory_current"), 90);
	json_decref(json);
	json = collect_cgroup(&m);
	text = metrics_prometheus(json);
	ck_assert_str_eq(text, "# TYPE vmm_cgroup_cpu_usage_usec_total counter\n"
			       "vmm_cgroup_cpu_usage_usec_total 700\n"
			       "# TYPE vmm_cgroup_memory_current gauge\n"
			       "vmm_cgroup_memory_current 90\n");
	free(text);
	json_decref(json);
}
END_TEST

START_TEST(prometheus)
{
	json_t *json;
	char *text;

	a = 3;
	b = 4;
	json = collect(&m);
	text = metrics_prometheus(json);
	ck_assert_str_eq(text, "# TYPE vmm_vcpu_exits_total counter\n"
			       "vmm_vcpu_exits_total{index=\"0\"} 3\n"
			       "vmm_vcpu_exits_total{index=\"1\"} 4\n"
			       "# TYPE vmm_vcpu_latency_us histogram\n"
			       "vmm_vcpu_latency_us_bucket{index=\"0\",le=\"1\"} 3\n"
			       "vmm_vcpu_latency_us_bucket{index=\"0\",le=\"3\"} 7\n"
			       "vmm_vcpu_latency_us_bucket{index=\"0\",le=\"+Inf\"} 7\n"
			       "vmm_vcpu_latency_us_count{index=\"0\"} 7\n"
			       "vmm_vcpu_latency_us_bucket{index=\"1\",le=\"+Inf\"} 0\n"
			       "vmm_vcpu_latency_us_count{index=\"1\"} 0\n");
	free(text);
	json_decref(json);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("metrics");
	TCase *tc = tcase_create("metrics");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, lines);
	tcase_add_test(tc, pipe_that_is_full);
	tcase_add_test(tc, nowhere);
	tcase_add_test(tc, cgroup);
	tcase_add_test(tc, prometheus);
	suite_add_tcase(s, tc);
	return test_run(s);
}
