// SPDX-License-Identifier: Apache-2.0
/*
 * Owners in a shared folder: ids=map, ids=host and ids=xattr; as root, and as an ordinary user.
 */
#include <sys/sysmacros.h>
#include "tests/unit/test_virtio_fs.h"

#define OVERRIDE "user.containers.override_stat"

static void ordinary_user(uid_t id)
{
	ck_assert_int_eq(chown(bed, id, id), 0);
	ck_assert_int_eq(chown(share, id, id), 0);
	ck_assert_int_eq(chown(outside, id, id), 0);
	ck_assert_int_eq(chown(host("outside/secret"), id, id), 0);
	ck_assert_int_eq(setresgid(id, id, id), 0);
	ck_assert_int_eq(setresuid(id, id, id), 0);
}

static struct fuse_attr attr_of(const char *path)
{
	struct fuse_attr attr;

	ck_good(fc_getattr(&c, fc_node(&c, path), FC_NO_FH, &attr));
	return attr;
}

static void owner_is(const char *path, uint32_t uid, uint32_t gid)
{
	struct fuse_attr attr = attr_of(path);

	ck_assert_msg(attr.uid == uid && attr.gid == gid, "%s: %u:%u, not %u:%u", path, attr.uid,
		      attr.gid, uid, gid);
}

static void host_owner_is(const char *path, uint32_t uid, uint32_t gid)
{
	struct stat st = host_stat(path);

	ck_assert_msg(st.st_uid == uid && st.st_gid == gid, "%s: %u:%u, not %u:%u", path, st.st_uid,
		      st.st_gid, uid, gid);
}

/* --- ids=map --- */

/* Ours are the guest's root's; what others own is shown as it is. */
static void map_basics(uid_t me)
{
	struct fuse_entry_out e;
	struct fc_created file;

	host_file("share/mine", "1");
	bed_start("");
	owner_is("mine", 0, 0);
	c.uid = c.gid = 500;
	ck_good(fc_create(&c, ROOT, "new", O_RDWR, 0644, &file));
	ck_good(fc_mkdir(&c, ROOT, "dir", 0755, &e));
	ck_good(fc_symlink(&c, ROOT, "link", "x", &e));
	owner_is("new", 0, 0);
	owner_is("dir", 0, 0);
	owner_is("link", 0, 0);
	host_owner_is("share/new", me, me);
	/* To whom it belongs already. */
	ck_good(fc_chown(&c, fc_node(&c, "new"), 0, 0));
	ck_good(fc_chown(&c, fc_node(&c, "new"), 0, 0xffffffff));
	ck_good(fc_chown(&c, fc_node(&c, "link"), 0, 0));
	host_owner_is("share/new", me, me);
	ck_good(fc_lookup(&c, ROOT, "new", &e));
	ck_assert_uint_eq(e.attr.uid, 0);
}

START_TEST(map_as_root)
{
	SKIP_UNLESS(IS_ROOT(), "needs root");
	host_file("share/other", "1");
	ck_assert_int_eq(chown(host("share/other"), 1234, 5678), 0);
	map_basics(0);
	owner_is("other", 1234, 5678);
}
END_TEST

START_TEST(map_as_user)
{
	uint64_t mine;

	SKIP_UNLESS(IS_ROOT(), "needs root, to become somebody else");
	host_file("share/other", "1");
	ck_assert_int_eq(chown(host("share/other"), 1234, 5678), 0);
	ordinary_user(1000);
	map_basics(1000);
	owner_is("other", 1234, 5678);
	/* What the host does not let us do. */
	mine = fc_node(&c, "mine");
	ck_err(fc_chown(&c, mine, 77, 0), EPERM);
	ck_err(fc_chown(&c, mine, 0, 77), EPERM);
	ck_err(fc_chmod(&c, fc_node(&c, "other"), 0777), EPERM);
	host_owner_is("share/mine", 1000, 1000);
}
END_TEST

START_TEST(map_to_others)
{
	uint32_t uid = geteuid(), gid = getegid();

	host_file("share/mine", "1");
	bed_start(",uid=1001,gid=1002");
	owner_is("mine", 1001, 1002);
	ck_good(fc_chown(&c, fc_node(&c, "mine"), 1001, 1002));
	host_owner_is("share/mine", uid, gid);
	owner_is("mine", 1001, 1002);
}
END_TEST

/* --- ids=host --- */

START_TEST(host_ids)
{
	struct fuse_entry_out e;
	struct fc_created file;

	SKIP_UNLESS(IS_ROOT(), "needs root");
	ck_assert_int_eq(chmod(share, 0777), 0);
	host_dir("share/closed");
	host_file("share/other", "1");
	ck_assert_int_eq(chown(host("share/other"), 1234, 5678), 0);
	bed_start(",ids=host");
	owner_is("other", 1234, 5678);
	c.uid = 1000;
	c.gid = 1001;
	ck_good(fc_create(&c, ROOT, "file", O_RDWR, 0644, &file));
	ck_good(fc_mkdir(&c, ROOT, "dir", 0755, &e));
	ck_good(fc_mknod(&c, ROOT, "node", S_IFREG | 0644, 0, &e));
	ck_good(fc_mknod(&c, ROOT, "fifo", S_IFIFO | 0644, 0, &e));
	ck_good(fc_symlink(&c, ROOT, "link", "x", &e));
	host_owner_is("share/file", 1000, 1001);
	host_owner_is("share/dir", 1000, 1001);
	host_owner_is("share/node", 1000, 1001);
	host_owner_is("share/fifo", 1000, 1001);
	host_owner_is("share/link", 1000, 1001);
	if (fc_tmpfile(&c, ROOT, O_RDWR, 0644, &file) == 0) {
		ck_assert_uint_eq(file.entry.attr.uid, 1000);
		ck_assert_uint_eq(file.entry.attr.gid, 1001);
	}
	/* Not where that user may not. */
	ck_err(fc_create(&c, fc_node(&c, "closed"), "x", O_RDWR, 0644, &file), EACCES);
	/* Also after an error root is root again. */
	c.uid = c.gid = 0;
	ck_good(fc_create(&c, fc_node(&c, "closed"), "x", O_RDWR, 0644, &file));
	host_owner_is("share/closed/x", 0, 0);
	ck_good(fc_chown(&c, fc_node(&c, "file"), 77, 78));
	host_owner_is("share/file", 77, 78);
	/* A set-group-ID folder gives its group. */
	ck_assert_int_eq(chown(host("share/dir"), 1000, 4321), 0);
	ck_assert_int_eq(chmod(host("share/dir"), 02777), 0);
	c.uid = c.gid = 1000;
	ck_good(fc_create(&c, fc_node(&c, "dir"), "x", O_RDWR, 0644, &file));
	host_owner_is("share/dir/x", 1000, 4321);
}
END_TEST

/* Between requests and after them the process has its own ids, on every thread. */
START_TEST(host_ids_restored)
{
	struct fc_created file;
	char text[4096], path[300];
	struct dirent *entry;
	FILE *status;
	DIR *tasks;

	SKIP_UNLESS(IS_ROOT(), "needs root");
	bed_start(",ids=host");
	c.uid = c.gid = 1000;
	ck_assert_int_lt(fc_create(&c, ROOT, "no", O_RDWR, 0644, &file), 0);
	ck_assert_int_eq(chmod(share, 0777), 0);
	ck_good(fc_create(&c, ROOT, "yes", O_RDWR, 0644, &file));
	ck_assert_int_lt(fc_create(&c, ROOT, "yes", O_RDWR | O_EXCL, 0644, &file), 0);
	tasks = opendir("/proc/self/task");
	while ((entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		status = fopen(path, "re");
		ck_assert_ptr_nonnull(status);
		while (fgets(text, sizeof(text), status) != NULL) {
			if (strncmp(text, "Uid:", 4) == 0 || strncmp(text, "Gid:", 4) == 0)
				ck_assert_str_eq(text + 4, "\t0\t0\t0\t0\n");
		}
		fclose(status);
	}
	closedir(tasks);
}
END_TEST

/* --- ids=xattr --- */

static void xattr_basics(uid_t me)
{
	struct fuse_entry_out e;
	struct fuse_attr attr;
	struct fc_created file;
	char value[128] = "", list[256];
	uint64_t a;
	int n;

	host_file("share/old", "1");
	bed_start(",ids=xattr");
	owner_is("old", 0, 0);
	c.uid = 500;
	c.gid = 600;
	ck_good(fc_create(&c, ROOT, "a", O_RDWR, 0640, &file));
	a = file.entry.nodeid;
	owner_is("a", 500, 600);
	host_owner_is("share/a", me, me);
	c.uid = c.gid = 0;
	ck_good(fc_chown(&c, a, 1234, 5678));
	owner_is("a", 1234, 5678);
	host_owner_is("share/a", me, me);
	ck_good(fc_chmod(&c, a, 04755));
	ck_good(fc_getattr(&c, a, FC_NO_FH, &attr));
	ck_assert_uint_eq(attr.mode, S_IFREG | 04755);
	ck_assert_uint_eq(host_stat("share/a").st_mode & 07000, 0);
	n = (int)getxattr(host("share/a"), OVERRIDE, value, sizeof(value) - 1);
	ck_assert_int_gt(n, 0);
	ck_assert_msg(strncmp(value, "1234:5678:", 10) == 0, "%s", value);
	ck_assert_uint_eq(strtoul(value + 10, NULL, 8) & 07777, 04755);
	/* Nobody may read it: the host's user still can. */
	ck_good(fc_chmod(&c, a, 0));
	ck_good(fc_getattr(&c, a, FC_NO_FH, &attr));
	ck_assert_uint_eq(attr.mode, S_IFREG);
	ck_assert_uint_eq(host_stat("share/a").st_mode & 0600, 0600);
	/* Device nodes are remembered, not made. */
	ck_good(fc_mknod(&c, ROOT, "null", S_IFCHR | 0666, (uint32_t)makedev(1, 3), &e));
	ck_assert(S_ISCHR(e.attr.mode));
	ck_assert(S_ISREG(host_stat("share/null").st_mode));
	attr = attr_of("null");
	ck_assert_uint_eq(attr.mode & S_IFMT, S_IFCHR);
	ck_assert_uint_eq(attr.rdev, makedev(1, 3));
	/* The guest neither sees nor touches it. */
	n = fc_listxattr(&c, a, list, sizeof(list));
	ck_assert_int_ge(n, 0);
	ck_assert_ptr_null(memmem(list, (size_t)n, "override_stat", 13));
	ck_assert_int_eq(fc_listxattr(&c, a, list, 0), n);
	ck_assert_int_lt(fc_getxattr(&c, a, OVERRIDE, value, sizeof(value)), 0);
	ck_assert_int_lt(fc_setxattr(&c, a, OVERRIDE, "0:0:04777", 9, 0), 0);
	ck_assert_int_lt(fc_removexattr(&c, a, OVERRIDE), 0);
	owner_is("a", 1234, 5678);
	/* It goes with the file. */
	ck_good(fc_rename(&c, ROOT, "a", ROOT, "b", 0));
	owner_is("b", 1234, 5678);
	fc_stop(&c);
	bed_start(",ids=xattr");
	owner_is("b", 1234, 5678);
	ck_good(fc_mkdir(&c, ROOT, "d", 0700, &e));
	ck_good(fc_chown(&c, e.nodeid, 9, 10));
	owner_is("d", 9, 10);
	host_owner_is("share/d", me, me);
}

static bool has_user_xattrs(void)
{
	host_file("share/try", "");
	return setxattr(host("share/try"), "user.try", "1", 1, 0) == 0;
}

START_TEST(xattr_as_root)
{
	SKIP_UNLESS(has_user_xattrs(), "this file system has no user xattrs");
	xattr_basics(geteuid());
}
END_TEST

START_TEST(xattr_as_user)
{
	SKIP_UNLESS(IS_ROOT() && has_user_xattrs(), "needs root, and user xattrs");
	ordinary_user(1000);
	xattr_basics(1000);
}
END_TEST

/* What the host finds there may be anything. */
START_TEST(xattr_lies)
{
	static const char *const lies[] = {
		"",
		":",
		"::",
		"a:b:c",
		"-1:-1:-1",
		"0:0",
		"0:0:9999",
		"0:0:0755:zz-1-1",
		"0:0:0755:",
		"99999999999:0:0755",
		"0:0:0755x",
		"0:0:077777",
		"0:0:0755:char-1",
		"0:0:0755:char-99999999999-1",
		"0 0 0755",
	};
	char big[5000];

	SKIP_UNLESS(has_user_xattrs(), "this file system has no user xattrs");
	host_file("share/a", "1");
	bed_start(",ids=xattr");
	memset(big, '1', sizeof(big));
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]) + 2; i++) {
		struct fuse_entry_out e;
		int r;

		if (i < sizeof(lies) / sizeof(lies[0]))
			r = setxattr(host("share/a"), OVERRIDE, lies[i], strlen(lies[i]), 0);
		else
			r = setxattr(host("share/a"), OVERRIDE, big, i % 2 ? 1000 : 3000, 0);
		ck_assert(r == 0 || errno == ENOSPC || errno == E2BIG);
		/* Refused, or as if there were none; but no device out of the blue. */
		r = fc_lookup(&c, ROOT, "a", &e);
		if (r == 0) {
			ck_assert(S_ISREG(e.attr.mode));
			fc_forget(&c, e.nodeid, 1);
		}
	}
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_ids", &tc);

	tcase_add_test(tc, map_as_root);
	tcase_add_test(tc, map_as_user);
	tcase_add_test(tc, map_to_others);
	tcase_add_test(tc, host_ids);
	tcase_add_test(tc, host_ids_restored);
	tcase_add_test(tc, xattr_as_root);
	tcase_add_test(tc, xattr_as_user);
	tcase_add_test(tc, xattr_lies);
	return test_run(s);
}
