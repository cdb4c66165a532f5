// SPDX-License-Identifier: Apache-2.0
/* Cores: which page is Linux's VMCOREINFO, which paths can take a core. tests/boot/gdb has the
 * rest. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/dump.h"

#define GOOD "OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff82412345\n"

static char page[4096];

static size_t found(const char *text)
{
	memset(page, 0, sizeof(page));
	memcpy(page, text, strlen(text));
	return dump_vmcoreinfo(page, sizeof(page));
}

START_TEST(vmcoreinfo)
{
	ck_assert_uint_eq(found(GOOD), strlen(GOOD));
	ck_assert_uint_eq(found(""), 0);
	ck_assert_uint_eq(found("OSRELEASE="), 0);
	ck_assert_uint_eq(found("OSRELEASE=6.12.0\nID=debian\n"), 0);
	ck_assert_uint_eq(found(" " GOOD), 0);
	ck_assert_uint_eq(found(GOOD "\x1b[2J"), 0);
	ck_assert_uint_eq(found(GOOD "\xff"), 0);
}
END_TEST

/* The text fills the page, and nothing behind it is looked at. */
START_TEST(full_page)
{
	char *tight = malloc(sizeof(page));

	memset(tight, 'x', sizeof(page));
	memcpy(tight, GOOD, sizeof(GOOD) - 1);
	ck_assert_uint_eq(dump_vmcoreinfo(tight, sizeof(page)), sizeof(page));
	memcpy(tight + sizeof(page) - 9, "\nPAGESIZE", 9);
	memcpy(tight, "OSRELEASE=6.12.0\nPAGESIZX=", 26);
	ck_assert_uint_eq(dump_vmcoreinfo(tight, sizeof(page)), 0);
	free(tight);
}
END_TEST

START_TEST(paths)
{
	char dir[] = "/tmp/test_dump.XXXXXX", path[64];
	struct err err = ERR_INIT;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/core", dir);
	ck_assert_int_eq(dump_check(path, &err), 0);
	snprintf(path, sizeof(path), "%s/no/core", dir);
	ck_assert_int_eq(dump_check(path, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.msg, "cannot write to the folder"));
	ck_assert_int_eq(dump_check(dir, &err), -EINVAL);
	ck_assert_int_eq(dump_check("/dev/null", &err), -EINVAL);
	ck_assert_int_eq(dump_check("", &err), -EINVAL);
	rmdir(dir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dump");
	TCase *tc = tcase_create("dump");

	tcase_add_test(tc, vmcoreinfo);
	tcase_add_test(tc, full_page);
	tcase_add_test(tc, paths);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
