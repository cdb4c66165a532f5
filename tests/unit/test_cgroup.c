// SPDX-License-Identifier: Apache-2.0
/*
 * A VM's control group, on folders that look like mounted hierarchies: which files get what, what
 * is used, and how it ends. Nothing is limited here, and no kernel removes a group's files, so the
 * groups stay; tests/boot/cgroup has real ones.
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
#include "tests/unit/tree.h"
#include "vmm/base/log.h"
#include "vmm/config.h"

static char name[] = "x";
static struct vm_config cfg;
static struct vm_cgroup *cgroup;
static struct err err;

static void setup(void)
{
	tree_make();
	cfg = (struct vm_config){ .name = name, .machine.cpus.share = 1000 };
	cgroup = NULL;
	err = (struct err)ERR_INIT;
	log_set_fd(-1);
}

static void teardown(void)
{
	vm_cgroup_free(cgroup);
	tree_remove();
}

static int make(void)
{
	return vm_cgroup_new(&cgroup, &cfg, dir, &err);
}

/* A host with version 2; the process is in /own, where @parent/vmm-x can be made. */
static void version_2(const char *parent)
{
	static const char *const files[] = { "cpu.max",	    "cpu.weight",  "memory.max",
					     "memory.high", "pids.max",	   "io.max",
					     "io.weight",   "cpuset.cpus", "cgroup.procs" };
	char text[256];

	snprintf(text, sizeof(text), "cgroup2 %s/two cgroup2 rw 0 0\n", dir);
	put("mounts", text);
	put("cgroup", "0::/own\n");
	put("two/cgroup.controllers", "cpuset cpu io memory pids\n");
	put("two/cgroup.subtree_control", "");
	put("two/own/cgroup.procs", "");
	put("two/own/cgroup.subtree_control", "");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(text, sizeof(text), "two/%s/vmm-x/%s", parent, files[i]);
		put(text, "");
	}
	snprintf(text, sizeof(text), "two/%s/cgroup.subtree_control", parent);
	put(text, "");
}

START_TEST(nothing_asked_for)
{
	ck_assert_int_eq(make(), 0);
	ck_assert_ptr_null(cgroup);
}
END_TEST

START_TEST(all_limits_of_version_2)
{
	version_2("own");
	cfg.cgroup = (struct vm_cgroup_config){ .cpu_max = 1500,
						.cpu_weight = 50,
						.cpuset = (char[]){ "0-3" },
						.memory_max = 64 << 20,
						.memory_high = 32 << 20,
						.pids_max = 9,
						.io_max = (char[]){ "8:0 rbps=1 wiops=max" },
						.io_weight = 200 };
	ck_assert_int_eq(make(), 0);
	ck_assert_str_eq(get("two/own/vmm-x/cpu.max"), "150000 100000");
	ck_assert_str_eq(get("two/own/vmm-x/cpu.weight"), "50");
	ck_assert_str_eq(get("two/own/vmm-x/cpuset.cpus"), "0-3");
	ck_assert_str_eq(get("two/own/vmm-x/memory.max"), "67108864");
	ck_assert_str_eq(get("two/own/vmm-x/memory.high"), "33554432");
	ck_assert_str_eq(get("two/own/vmm-x/pids.max"), "9");
	ck_assert_str_eq(get("two/own/vmm-x/io.max"), "8:0 rbps=1 wiops=max");
	ck_assert_str_eq(get("two/own/vmm-x/io.weight"), "200");
	ck_assert_str_eq(get("two/own/vmm-x/cgroup.procs"), "0");
	/* From its own group; those above are not touched. */
	ck_assert_str_eq(get("two/cgroup.subtree_control"), "");
}
END_TEST

START_TEST(from_above_to_a_parent)
{
	version_2("up/there");
	put("two/up/cgroup.subtree_control", "memory pids\n");
	cfg.cgroup = (struct vm_cgroup_config){ .parent = (char[]){ "up/there" }, .pids_max = 9 };
	ck_assert_int_eq(make(), 0);
	ck_assert_str_eq(get("two/cgroup.subtree_control"), "+pids");
	ck_assert_str_eq(get("two/up/cgroup.subtree_control"), "memory pids\n"); /* has it */
	ck_assert_str_eq(get("two/up/there/cgroup.subtree_control"), "+pids");
	ck_assert_str_eq(get("two/up/there/vmm-x/pids.max"), "9");
}
END_TEST

START_TEST(a_fraction_of_the_cpus)
{
	version_2("own");
	cfg.machine.cpus.share = 500;
	ck_assert_int_eq(make(), 0);
	ck_assert_str_eq(get("two/own/vmm-x/cpu.max"), "50000 100000");
}
END_TEST

/* What a restored machine was told gives way. */
START_TEST(a_fraction_and_another_limit)
{
	version_2("own");
	cfg.machine.cpus.share = 500;
	cfg.cgroup.cpu_max = 3000;
	ck_assert_int_eq(make(), 0);
	ck_assert_str_eq(get("two/own/vmm-x/cpu.max"), "300000 100000");
}
END_TEST

static uint64_t count(const char *what)
{
	struct vm_cgroup_count counts[VM_CGROUP_COUNTS];
	unsigned n = vm_cgroup_usage(cgroup, counts);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(counts[i].name, what) == 0)
			return counts[i].value;
	return UINT64_MAX; /* not there */
}

START_TEST(usage_of_version_2)
{
	version_2("own");
	put("two/own/vmm-x/cpu.stat", "usage_usec 70\nuser_usec 1\nnr_periods 4\nnr_throttled 3\n"
				      "throttled_usec 5\n");
	put("two/own/vmm-x/memory.current", "4096\n");
	put("two/own/vmm-x/memory.events", "low 0\nhigh 2\nmax 3\noom 1\noom_kill 1\n");
	put("two/own/vmm-x/pids.current", "6\n");
	put("two/own/vmm-x/io.stat", "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"
				     "8:0 rbytes=5 wbytes=6 rios=7 wios=8 dbytes=0 dios=0\n");
	cfg.cgroup = (struct vm_cgroup_config){
		.cpu_max = 1000, .memory_max = 1 << 20, .pids_max = 9, .io_weight = 1
	};
	ck_assert_int_eq(make(), 0);
	ck_assert_uint_eq(count("cpu_usage_usec"), 70);
	ck_assert_uint_eq(count("cpu_nr_throttled"), 3);
	ck_assert_uint_eq(count("cpu_throttled_usec"), 5);
	ck_assert_uint_eq(count("memory_current"), 4096);
	ck_assert_uint_eq(count("memory_events_high"), 2);
	ck_assert_uint_eq(count("memory_events_max"), 3);
	ck_assert_uint_eq(count("memory_events_oom_kill"), 1);
	ck_assert_uint_eq(count("pids_current"), 6);
	ck_assert_uint_eq(count("io_rbytes"), 15);
	ck_assert_uint_eq(count("io_wbytes"), 26);
	ck_assert_uint_eq(count("io_rios"), 8);
	ck_assert_uint_eq(count("io_wios"), 10);
	ck_assert_uint_eq(count("memory_peak"), UINT64_MAX); /* an older kernel's */
	/* Read anew each time. */
	put("two/own/vmm-x/memory.current", "8192\n");
	ck_assert_uint_eq(count("memory_current"), 8192);
	ck_assert(vm_cgroup_gauge("memory_current") && vm_cgroup_gauge("pids_current"));
	ck_assert(!vm_cgroup_gauge("cpu_usage_usec") && !vm_cgroup_gauge("exits"));
}
END_TEST

START_TEST(back_in_the_end)
{
	char expected[32];

	version_2("own");
	cfg.cgroup.pids_max = 9;
	ck_assert_int_eq(make(), 0);
	put("two/own/cgroup.subtree_control", "");
	vm_cgroup_free(cgroup);
	cgroup = NULL;
	/* The monitor, and then its keeper. */
	snprintf(expected, sizeof(expected), "%d0", getpid());
	ck_assert_str_eq(get("two/own/cgroup.procs"), expected);
	/* Controllers are not taken back where that is not in the way. */
	ck_assert_str_eq(get("two/own/cgroup.subtree_control"), "");
}
END_TEST

START_TEST(version_1)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "cgroup %s/cpu cgroup rw,cpu 0 0\ncgroup %s/acct cgroup rw,cpuacct 0 0\n"
		 "cgroup %s/mem cgroup rw,memory 0 0\ncgroup %s/io cgroup rw,blkio 0 0\n"
		 "cgroup2 %s/two cgroup2 rw 0 0\n",
		 dir, dir, dir, dir, dir);
	put("mounts", text);
	put("cgroup", "3:memory:/deep/own\n2:cpuacct:/\n1:cpu:/\n4:blkio:/\n0::/\n");
	put("two/cgroup.controllers", "\n");
	put("cpu/cgroup.procs", "");
	put("cpu/vmm-x/cgroup.procs", "");
	put("cpu/vmm-x/cpu.cfs_period_us", "");
	put("cpu/vmm-x/cpu.cfs_quota_us", "");
	put("cpu/vmm-x/cpu.shares", "");
	put("cpu/vmm-x/cpu.stat", "nr_periods 9\nnr_throttled 8\nthrottled_time 7000\n");
	put("acct/vmm-x/cgroup.procs", "");
	put("acct/vmm-x/cpuacct.usage", "5000123\n");
	put("mem/deep/own/vmm-x/cgroup.procs", "");
	put("mem/deep/own/vmm-x/memory.limit_in_bytes", "");
	put("mem/deep/own/vmm-x/memory.failcnt", "2\n");
	put("io/vmm-x/cgroup.procs", "");
	put("io/vmm-x/blkio.throttle.read_bps_device", "");
	put("io/vmm-x/blkio.throttle.write_iops_device", "");
	put("io/vmm-x/blkio.throttle.io_service_bytes",
	    "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n");
	cfg.cgroup = (struct vm_cgroup_config){ .cpu_max = 500,
						.cpu_weight = 100,
						.memory_max = 1 << 20,
						.io_max = (char[]){ "8:0 rbps=7+8:16 wiops=max" } };
	ck_assert_int_eq(make(), 0);
	ck_assert_str_eq(get("cpu/vmm-x/cgroup.procs"), "0");
	ck_assert_str_eq(get("cpu/vmm-x/cpu.cfs_period_us"), "100000");
	ck_assert_str_eq(get("cpu/vmm-x/cpu.cfs_quota_us"), "50000");
	ck_assert_str_eq(get("cpu/vmm-x/cpu.shares"), "1024");
	ck_assert_str_eq(get("acct/vmm-x/cgroup.procs"), "0");
	ck_assert_str_eq(get("mem/deep/own/vmm-x/cgroup.procs"), "0");
	ck_assert_str_eq(get("mem/deep/own/vmm-x/memory.limit_in_bytes"), "1048576");
	ck_assert_str_eq(get("io/vmm-x/blkio.throttle.read_bps_device"), "8:0 7");
	ck_assert_str_eq(get("io/vmm-x/blkio.throttle.write_iops_device"), "8:16 0");
	ck_assert_uint_eq(count("cpu_usage_usec"), 5000);
	ck_assert_uint_eq(count("cpu_nr_throttled"), 8);
	ck_assert_uint_eq(count("cpu_throttled_usec"), 7);
	ck_assert_uint_eq(count("memory_events_max"), 2);
	ck_assert_uint_eq(count("io_rbytes"), 11);
	ck_assert_uint_eq(count("io_wbytes"), 22);
}
END_TEST

START_TEST(what_is_not_there)
{
	char said[256];

	version_2("own");
	put("two/cgroup.controllers", "cpu\n");
	cfg.cgroup.memory_max = 1 << 20;
	ck_assert_int_eq(make(), -ENOENT);
	ck_assert_str_eq(err.msg,
			 "cgroup: no hierarchy with the controller 'memory' is mounted here");

	cfg.cgroup = (struct vm_cgroup_config){ .cpu_weight = 1 };
	snprintf(said, sizeof(said), "%s/two/own/vmm-x/cpu.weight", dir);
	ck_assert_int_eq(unlink(said), 0);
	ck_assert_int_eq(make(), -ENOENT);
	snprintf(said, sizeof(said),
		 "cgroup: cannot open %s/two/own/vmm-x/cpu.weight: No such file or directory", dir);
	ck_assert_str_eq(err.msg, said);
	/* It is not where it was going to be. */
	snprintf(said, sizeof(said), "%d0", getpid());
	ck_assert_str_eq(get("two/own/cgroup.procs"), said);

	put("cgroup", "nonsense\n1:cpu:/x\n");
	ck_assert_int_eq(make(), -ENOENT);
	snprintf(said, sizeof(said), "cgroup: cannot find the group of this process in %s/two",
		 dir);
	ck_assert_str_eq(err.msg, said);
	put("cgroup", "0::/../x\n"); /* from inside of another namespace */
	ck_assert_int_eq(make(), -ENOENT);
	ck_assert_str_eq(err.msg, said);
	cfg.name = (char[]){ "a/b" };
	ck_assert_int_eq(make(), -EINVAL);
	ck_assert_str_eq(err.msg, "cgroup: 'a/b' cannot be the name of one; give another --name");
	ck_assert_ptr_null(cgroup);
}
END_TEST

static const char *const good_io[] = { "8:0 rbps=1", "8:0 rbps=max wbps=2 riops=3 wiops=4",
				       "8:0 rbps=1+8:16 wiops=2" };
static const char *const bad_io[] = { "",
				      "8:0",
				      "8:0 ",
				      "8: rbps=1",
				      ":0 rbps=1",
				      "8:0 rbps=",
				      "8:0 rbps=1x",
				      "8:0 bps=1",
				      "8:0  rbps=1",
				      "8:0 rbps=1+",
				      "8:0 rbps=1+8:1" };

START_TEST(words_of_io_max)
{
	for (size_t i = 0; i < sizeof(good_io) / sizeof(good_io[0]); i++) {
		cfg.cgroup.io_max = (char *)good_io[i];
		ck_assert_msg(vm_cgroup_check(&cfg.cgroup, &err) == 0, "%s", good_io[i]);
	}
	for (size_t i = 0; i < sizeof(bad_io) / sizeof(bad_io[0]); i++) {
		cfg.cgroup.io_max = (char *)bad_io[i];
		ck_assert_msg(vm_cgroup_check(&cfg.cgroup, &err) == -EINVAL, "%s", bad_io[i]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cgroup");
	TCase *tc = tcase_create("cgroup");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, nothing_asked_for);
	tcase_add_test(tc, all_limits_of_version_2);
	tcase_add_test(tc, from_above_to_a_parent);
	tcase_add_test(tc, a_fraction_of_the_cpus);
	tcase_add_test(tc, a_fraction_and_another_limit);
	tcase_add_test(tc, usage_of_version_2);
	tcase_add_test(tc, back_in_the_end);
	tcase_add_test(tc, version_1);
	tcase_add_test(tc, what_is_not_there);
	tcase_add_test(tc, words_of_io_max);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
