// SPDX-License-Identifier: Apache-2.0
/* Owners of shared folders: the attribute of ids=xattr, written and read, and what is none. */
#include <sys/stat.h>
#include "devices/fs_impl.h"
#include "tests/unit/device_util.h"

static void there_and_back(struct fs_override o, uint32_t type, const char *text)
{
	struct fs_override back;
	char got[96];

	fs_override_format(&o, got);
	ck_assert_str_eq(got, text);
	ck_assert(fs_override_parse(got, strlen(got), type, &back));
	ck_assert_uint_eq(back.uid, o.uid);
	ck_assert_uint_eq(back.gid, o.gid);
	ck_assert_uint_eq(back.mode, o.mode);
	ck_assert_uint_eq(back.major, o.major);
	ck_assert_uint_eq(back.minor, o.minor);
}

START_TEST(format)
{
	there_and_back((struct fs_override){ 0, 0, S_IFREG | 0644, 0, 0 }, S_IFREG, "0:0:0644");
	there_and_back((struct fs_override){ 4294967294, 1, S_IFREG | 06755, 0, 0 }, S_IFREG,
		       "4294967294:1:06755");
	there_and_back((struct fs_override){ 3, 4, S_IFDIR | 01777, 0, 0 }, S_IFDIR, "3:4:01777");
	there_and_back((struct fs_override){ 0, 6, S_IFBLK | 0660, 259, 1048575 }, S_IFREG,
		       "0:6:0660:block-259-1048575");
	there_and_back((struct fs_override){ 0, 0, S_IFCHR | 0666, 1, 3 }, S_IFREG,
		       "0:0:0666:char-1-3");
	there_and_back((struct fs_override){ 0, 0, S_IFIFO | 0600, 0, 0 }, S_IFREG,
		       "0:0:0600:pipe");
	there_and_back((struct fs_override){ 0, 0, S_IFSOCK | 0700, 0, 0 }, S_IFREG,
		       "0:0:0700:socket");
}
END_TEST

static bool parses(const char *text, uint32_t type, uint32_t mode)
{
	struct fs_override o;

	return fs_override_parse(text, strlen(text), type, &o) && o.mode == mode;
}

/* Of other programs, and types that are not believed. */
START_TEST(others)
{
	struct fs_override o;

	ck_assert(parses("1:2:100644", S_IFREG, S_IFREG | 0644));
	ck_assert(parses("1:2:0755:dir", S_IFDIR, S_IFDIR | 0755));
	ck_assert(parses("1:2:0755:file", S_IFREG, S_IFREG | 0755));
	ck_assert(parses("1:2:0755:char-1-3", S_IFDIR, S_IFDIR | 0755));
	ck_assert(parses("1:2:040755", S_IFREG, S_IFREG | 0755));
	ck_assert(fs_override_parse("1:2:0644\0", 9, S_IFREG, &o));
}
END_TEST

START_TEST(wrong)
{
	static const char *const text[] = {
		"",
		":",
		"1",
		"1:2",
		"1:2:",
		"1:2:8",
		"1:2:-1",
		"a:2:0644",
		" 1:2:0644",
		"1:2:0644 ",
		"1::0644",
		"1:2:0644x",
		"4294967296:2:0",
		"1:2:0644:char-1",
		"1:2:0644:char-1-",
		"1:2:0644:char-1-3x",
		"1:2:0644:block--1-3",
		"1:2:0644:char-1-99999999999",
	};
	struct fs_override o;

	for (unsigned i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		ck_assert_msg(!fs_override_parse(text[i], strlen(text[i]), S_IFREG, &o), "'%s'",
			      text[i]);
	ck_assert(!fs_override_parse("1:2\0:0644", 9, S_IFREG, &o));
}
END_TEST

START_TEST(mapping)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	ck_assert_ptr_nonnull(fs);
	fs->ids = FS_IDS_MAP;
	fs->uid = 5;
	fs->gid = 6;
	fs->euid = 1000;
	fs->egid = 1001;
	ck_assert_uint_eq(fs_ids_uid(fs, 5), 1000);
	ck_assert_uint_eq(fs_ids_gid(fs, 6), 1001);
	ck_assert_uint_eq(fs_ids_uid(fs, 7), 7);
	ck_assert_uint_eq(fs_ids_mode(fs, S_IFREG | 06701), 06701);
	fs->ids = FS_IDS_XATTR;
	ck_assert_uint_eq(fs_ids_mode(fs, S_IFREG | 06701), 0701);
	ck_assert_uint_eq(fs_ids_mode(fs, S_IFREG), 0600);
	ck_assert_uint_eq(fs_ids_mode(fs, S_IFDIR | 01055), 0755);
	ck_assert_uint_eq(fs_ids_mode(fs, S_IFCHR | 0440), 0640);
	fs->ids = FS_IDS_HOST;
	ck_assert_uint_eq(fs_ids_uid(fs, 5), 5);
	ck_assert_uint_eq(fs_ids_mode(fs, S_IFDIR | 02770), 02770);
	free(fs);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs_ids");
	TCase *tc = tcase_create("all");

	tcase_add_test(tc, format);
	tcase_add_test(tc, others);
	tcase_add_test(tc, wrong);
	tcase_add_test(tc, mapping);
	suite_add_tcase(s, tc);
	return test_run(s);
}
