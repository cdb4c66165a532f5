// SPDX-License-Identifier: Apache-2.0
/* Control groups of a jail, on folders that look like mounted hierarchies. */
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
#include "vmm/jail/jail.h"

static void folder(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ck_assert_int_eq(mkdir(path, 0755), 0);
}

/*
 * A host with version 1 for cpu (with cpuacct) and cpuset, in a folder with a blank in its name,
 * and version 2 for pids and memory. The files of new groups are there already: no kernel makes
 * them.
 */
static void setup(void)
{
	char mounts[512];

	tree_make();
	snprintf(mounts, sizeof(mounts),
		 "proc /proc proc rw 0 0\n"
		 "cgroup %s/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n"
		 "cgroup %s/the\\040set cgroup rw,cpuset 0 0\n"
		 "cgroup2 %s/two cgroup2 rw,nsdelegate 0 0\n",
		 dir, dir, dir);
	put("mounts", mounts);
	folder("cpu");
	folder("cpu/up");
	folder("cpu/up/vm");
	put("cpu/up/vm/cpu.shares", "");
	put("cpu/up/vm/cgroup.procs", "");
	folder("the set");
	put("the set/cpuset.cpus", "0-3\n");
	put("the set/cpuset.mems", "0\n");
	folder("the set/up");
	put("the set/up/cpuset.cpus", "");
	put("the set/up/cpuset.mems", "");
	folder("the set/up/vm");
	put("the set/up/vm/cpuset.cpus", "");
	put("the set/up/vm/cpuset.mems", "");
	put("the set/up/vm/cgroup.procs", "");
	folder("two");
	put("two/cgroup.controllers", "memory pids\n");
	put("two/cgroup.subtree_control", "");
	folder("two/up");
	put("two/up/cgroup.subtree_control", "");
	put("two/up/cgroup.procs", "");
	folder("two/up/vm");
	put("two/up/vm/pids.max", "");
	put("two/up/vm/cgroup.procs", "");
}

static void teardown(void)
{
	tree_remove();
}

/* Enters groups with @settings, which end with NULL; returns what jail_cgroups_enter() does. */
static int enter(unsigned version, const char *parent, bool given, const char *const *settings,
		 struct err *err)
{
	char mounts[128];
	struct jail_cgroups groups = { .mounts = mounts,
				       .version = version,
				       .parent = parent,
				       .parent_given = given,
				       .id = "vm",
				       .settings = settings };

	snprintf(mounts, sizeof(mounts), "%s/mounts", dir);
	while (settings[groups.n] != NULL)
		groups.n++;
	return jail_cgroups_enter(&groups, err);
}

START_TEST(test_each_where_its_controller_is)
{
	static const char *const settings[] = { "cpu.shares=512", "cpuset.cpus=1", "pids.max=5=6",
						NULL };
	struct err err = ERR_INIT;

	ck_assert_int_eq(enter(0, "up", false, settings, &err), 0);
	ck_assert_str_eq(get("cpu/up/vm/cpu.shares"), "512");
	ck_assert_str_eq(get("cpu/up/vm/cgroup.procs"), "0");
	ck_assert_str_eq(get("the set/up/cpuset.cpus"), "0-3");
	/* A file is not cut short by a write, as a kernel's setting is. */
	ck_assert_str_eq(get("the set/up/vm/cpuset.cpus"), "1-3");
	ck_assert_str_eq(get("the set/up/vm/cpuset.mems"), "0");
	ck_assert_str_eq(get("the set/up/vm/cgroup.procs"), "0");
	ck_assert_str_eq(get("two/cgroup.subtree_control"), "+pids");
	ck_assert_str_eq(get("two/up/cgroup.subtree_control"), "+pids");
	ck_assert_str_eq(get("two/up/vm/pids.max"), "5=6");
	ck_assert_str_eq(get("two/up/vm/cgroup.procs"), "0");
}
END_TEST

START_TEST(test_the_version_that_is_asked_for)
{
	static const char *const cpu[] = { "cpu.shares=1", NULL }, *const pids[] = { "pids.max=1",
										     NULL };
	struct err err = ERR_INIT;

	ck_assert_int_eq(enter(2, "up", false, cpu, &err), -ENOENT);
	ck_assert_str_eq(
		err.msg,
		"cgroup: no hierarchy of version 2 with the controller 'cpu' is mounted here");
	err = (struct err)ERR_INIT;
	ck_assert_int_eq(enter(1, "up", false, pids, &err), -ENOENT);
	ck_assert_str_eq(
		err.msg,
		"cgroup: no hierarchy of version 1 with the controller 'pids' is mounted here");
	err = (struct err)ERR_INIT;
	ck_assert_int_eq(enter(1, "up", false, cpu, &err), 0);
	ck_assert_int_eq(enter(2, "up", false, pids, &err), 0);
}
END_TEST

START_TEST(test_parents_are_made)
{
	static const char *const settings[] = { "pids.max=1", NULL };
	struct err err = ERR_INIT;
	struct stat st;
	char path[128];

	/* Made, and found to have no files, as no kernel is behind it. */
	ck_assert_int_eq(enter(0, "new//down", false, settings, &err), -ENOENT);
	snprintf(path, sizeof(path), "%s/two/new", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_str_eq(get("two/up/vm/cgroup.procs"), "");
}
END_TEST

START_TEST(test_nobody_moves_when_a_setting_fails)
{
	static const char *const settings[] = { "cpu.shares=1", "pids.nosuch=1", NULL };
	struct err err = ERR_INIT;

	ck_assert_int_eq(enter(0, "up", false, settings, &err), -ENOENT);
	ck_assert_str_eq(get("cpu/up/vm/cgroup.procs"), "");
}
END_TEST

START_TEST(test_the_parent_itself)
{
	static const char *const none[] = { NULL };
	struct err err = ERR_INIT;

	ck_assert_int_eq(enter(0, "up", false, none, &err), 0);
	ck_assert_str_eq(get("two/up/cgroup.procs"), "");
	ck_assert_int_eq(enter(1, "up", true, none, &err), 0);
	ck_assert_str_eq(get("two/up/cgroup.procs"), "");
	ck_assert_int_eq(enter(2, "up", true, none, &err), 0);
	ck_assert_str_eq(get("two/up/cgroup.procs"), "0");
	ck_assert_int_eq(enter(2, "nosuch", true, none, &err), -ENOENT);
}
END_TEST

START_TEST(test_settings_are_checked)
{
	static const char *const good[] = { "cpu.max=1 2", "cgroup.freeze=0", "io.max=8:0 rbps=1",
					    "hugetlb.2MB.max=1" };
	static const char *const bad[] = { "",		 "x",	  "cpu",     "cpu.max",
					   "cpu.max=",	 "=1",	  "cpu=1.5", "../cpu.max=1",
					   "cpu./max=1", ".max=1" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct err err = ERR_INIT;

		ck_assert_int_eq(jail_cgroup_check(good[i], &err), 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;

		ck_assert_int_eq(jail_cgroup_check(bad[i], &err), -EINVAL);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("jail");
	TCase *tc = tcase_create("cgroups");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_each_where_its_controller_is);
	tcase_add_test(tc, test_the_version_that_is_asked_for);
	tcase_add_test(tc, test_parents_are_made);
	tcase_add_test(tc, test_nobody_moves_when_a_setting_fails);
	tcase_add_test(tc, test_the_parent_itself);
	tcase_add_test(tc, test_settings_are_checked);
	suite_add_tcase(s, tc);
	return test_run(s);
}
