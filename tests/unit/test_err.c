// SPDX-License-Identifier: Apache-2.0
/* Errors: sentences, contexts, and what happens when they get too long. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/test_run.h"
#include "vmm/base/err.h"

START_TEST(test_set)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(err_set(&err, EINVAL, "%s is %d", "x", 7), -EINVAL);
	ck_assert_int_eq(err.code, EINVAL);
	ck_assert_str_eq(err.msg, "x is 7");
}
END_TEST

START_TEST(test_sys)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(err_sys(&err, EACCES, "cannot open"), -EACCES);
	ck_assert_str_eq(err.msg, "cannot open: Permission denied");
	err_sys(&err, 99999, "cannot open");
	ck_assert_str_eq(err.msg, "cannot open: error 99999");
}
END_TEST

START_TEST(test_context)
{
	struct err err = ERR_INIT;

	err_sys(&err, ENOENT, "cannot open");
	ck_assert_int_eq(err_context(&err, "disk %s", "a.img"), -ENOENT);
	ck_assert_int_eq(err_context(&err, "device %d", 3), -ENOENT);
	ck_assert_str_eq(err.msg, "device 3: disk a.img: cannot open: No such file or directory");
}
END_TEST

/* Formats in what is quoted are text, not formats. */
START_TEST(test_percent)
{
	struct err err = ERR_INIT;

	err_set(&err, EINVAL, "%s", "%n%s%s%s");
	err_context(&err, "%s", "%n%d");
	ck_assert_str_eq(err.msg, "%n%d: %n%s%s%s");
}
END_TEST

/* However long the parts, the sentence stays inside and is terminated. */
START_TEST(test_long)
{
	static char text[4 * ERR_MSG_MAX];
	struct {
		struct err err;
		char guard[64];
	} box;

	memset(text, 'a', sizeof(text) - 1);
	memset(box.guard, 0x5a, sizeof(box.guard));
	err_set(&box.err, EINVAL, "%s", text);
	ck_assert_uint_eq(strlen(box.err.msg), ERR_MSG_MAX - 1);
	err_sys(&box.err, EIO, "%s", text);
	ck_assert_uint_eq(strlen(box.err.msg), ERR_MSG_MAX - 1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(err_context(&box.err, "%s", text), -EIO);
	ck_assert_uint_eq(strlen(box.err.msg), ERR_MSG_MAX - 1);
	err_set(&box.err, EIO, "%.*s", ERR_MSG_MAX - 3, text);
	err_context(&box.err, "b");
	ck_assert_uint_eq(strlen(box.err.msg), ERR_MSG_MAX - 1);
	ck_assert(strncmp(box.err.msg, "b: a", 4) == 0);
	for (size_t i = 0; i < sizeof(box.guard); i++)
		ck_assert_int_eq(box.guard[i], 0x5a);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("err");
	TCase *tc = tcase_create("err");

	tcase_add_test(tc, test_set);
	tcase_add_test(tc, test_sys);
	tcase_add_test(tc, test_context);
	tcase_add_test(tc, test_percent);
	tcase_add_test(tc, test_long);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
