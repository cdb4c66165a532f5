// SPDX-License-Identifier: Apache-2.0
/*
 * Ways out of a shared folder, see test_virtio_fs_escape.h: names, symbolic links, what becomes of
 * the folder itself, mounts in it.
 */
#include "tests/unit/test_virtio_fs_escape.h"

/* --- Names --- */

/*
 * Absolute ones are of the test's own folders only: a device that is broken on purpose, to see
 * whether this is noticed, must not take the machine apart.
 */
static const char *const hostile_names[] = {
	"..",
	".",
	"",
	"/",
	"../outside",
	"../outside/secret",
	"d/../../outside/secret",
	"d/f",
	"./d",
	"//",
	"d/",
	"/proc/self/root",
	"...//..",
	NULL, /* the absolute name of the folder outside */
	NULL, /* the secret's absolute name */
	NULL, /* 256 bytes */
	NULL, /* "../" and so on, over 4096 bytes */
};
#define HOSTILE_NAMES (sizeof(hostile_names) / sizeof(hostile_names[0]))

/* In every operation that takes a name, in the root and in a folder. */
START_TEST(names)
{
	const char *name = hostile_names[_i];
	uint64_t where[2], own, target;
	static char buffer[6000];

	host_dir("share/d");
	host_dir("share/d/e");
	host_file("share/d/f", "1");
	host_file("share/own", "own");
	start("");
	if (name == NULL) {
		if (_i == (int)HOSTILE_NAMES - 4)
			snprintf(buffer, sizeof(buffer), "%s", outside);
		else if (_i == (int)HOSTILE_NAMES - 3)
			snprintf(buffer, sizeof(buffer), "%s/secret", outside);
		else if (_i == (int)HOSTILE_NAMES - 2)
			snprintf(buffer, sizeof(buffer), "%s", name_of(256));
		else
			for (unsigned i = 0; i < 1800; i++)
				memcpy(buffer + 3 * i, "../", 4);
		name = buffer;
	}
	where[0] = ROOT;
	where[1] = fc_node(&c, "d");
	target = where[1];
	own = fc_node(&c, "own");
	for (unsigned i = 0; i < 2; i++) {
		struct fuse_entry_out e;
		struct fc_created file;
		uint64_t w = where[i];

		ck_assert_int_lt(fc_lookup(&c, w, name, &e), 0);
		ck_assert_int_lt(fc_create(&c, w, name, O_RDWR | O_TRUNC, 0644, &file), 0);
		ck_assert_int_lt(fc_create(&c, w, name, O_RDWR | O_EXCL, 0644, &file), 0);
		ck_assert_int_lt(fc_mkdir(&c, w, name, 0755, &e), 0);
		ck_assert_int_lt(fc_mknod(&c, w, name, S_IFREG | 0644, 0, &e), 0);
		ck_assert_int_lt(fc_mknod(&c, w, name, S_IFIFO | 0644, 0, &e), 0);
		ck_assert_int_lt(fc_symlink(&c, w, name, "x", &e), 0);
		ck_assert_int_lt(fc_link(&c, own, w, name, &e), 0);
		ck_assert_int_lt(fc_unlink(&c, w, name), 0);
		ck_assert_int_lt(fc_rmdir(&c, w, name), 0);
		ck_assert_int_lt(fc_rename(&c, w, name, ROOT, "got", 0), 0);
		ck_assert_int_lt(fc_rename(&c, ROOT, "own", w, name, 0), 0);
		ck_assert_int_lt(fc_rename(&c, w, name, target, "got", RENAME_NOREPLACE), 0);
		ck_assert_int_lt(fc_rename(&c, ROOT, "own", w, name, RENAME_EXCHANGE), 0);
		ck_assert_int_lt(fc_rename(&c, w, name, ROOT, "own", RENAME_EXCHANGE), 0);
	}
	ck_assert_uint_eq(names_in("share"), 4);
	ck_assert_uint_eq(names_in("share/d"), 4);
	safe();
}
END_TEST

START_TEST(up_from_a_folder)
{
	struct fuse_entry_out e;
	const struct fuse_entry_out *plus;
	const struct fuse_dirent *d;
	char data[4096];
	uint64_t fh;
	int n, at = 0;

	host_dir("share/d");
	start("");
	ck_assert_int_lt(fc_lookup(&c, fc_node(&c, "d"), "..", &e), 0);
	ck_assert_int_lt(fc_lookup(&c, ROOT, "..", &e), 0);
	ck_good(fc_opendir(&c, ROOT, &fh));
	n = fc_readdir_as(&c, FUSE_READDIRPLUS, ROOT, fh, 0, data, sizeof(data));
	while ((d = fc_dirent(data, n, &at, true, &plus)) != NULL) {
		if (d->name[0] == '.')
			ck_assert_uint_eq(plus->nodeid, 0);
	}
	safe();
}
END_TEST

/* --- Symbolic links --- */

static const char *const links[] = {
	"../outside/secret",
	"%s/secret",
	"d/../../outside/secret",
	"/proc/self/root%s/secret",
	"/proc/self/cwd/../../..%s/secret",
};

/* As the last component, whatever is done to it. */
START_TEST(link_to_secret)
{
	struct fc_created file;
	struct fuse_entry_out e;
	char target[300];
	uint64_t l;

	host_dir("share/d");
	host_file("share/own", "own");
	snprintf(target, sizeof(target), links[_i], outside);
	host_link("share/l", target);
	start("");
	l = fc_node(&c, "l");
	attack_file(l);
	if (fc_create(&c, ROOT, "l", O_RDWR | O_TRUNC, 0644, &file) == 0)
		attack_file(file.entry.nodeid);
	ck_assert_int_lt(fc_create(&c, ROOT, "l", O_RDWR | O_EXCL, 0644, &file), 0);
	ck_assert_int_lt(fc_mkdir(&c, ROOT, "l", 0755, &e), 0);
	ck_assert_int_lt(fc_mknod(&c, ROOT, "l", S_IFREG | 0644, 0, &e), 0);
	ck_good(fc_rename(&c, ROOT, "own", ROOT, "l", 0));
	ck_assert_str_eq(host_text("share/l"), "own");
	safe();
}
END_TEST

/* One that the guest made. */
START_TEST(own_link)
{
	struct fuse_entry_out e;
	char target[300];

	start("");
	snprintf(target, sizeof(target), links[_i], outside);
	ck_good(fc_symlink(&c, ROOT, "l", target, &e));
	attack_file(e.nodeid);
	safe();
}
END_TEST

START_TEST(link_as_parent)
{
	host_file("share/own", "own");
	host_dir("outside/empty");
	host_link("share/rel", "../outside");
	host_link("share/abs", outside);
	start("");
	attack_folder(fc_node(&c, "rel"));
	attack_folder(fc_node(&c, "abs"));
	safe();
}
END_TEST

START_TEST(dangling_link)
{
	struct fc_created file;
	struct fuse_entry_out e;

	host_link("share/l", "../outside/new");
	start("");
	(void)fc_create(&c, ROOT, "l", O_RDWR, 0644, &file);
	(void)fc_create(&c, ROOT, "l", O_RDWR | O_EXCL, 0644, &file);
	(void)fc_mknod(&c, ROOT, "l", S_IFREG | 0644, 0, &e);
	(void)fc_mknod(&c, ROOT, "l", S_IFIFO | 0644, 0, &e);
	(void)fc_mkdir(&c, ROOT, "l", 0755, &e);
	attack_file(fc_node(&c, "l"));
	ck_assert(!host_has("outside/new"));
	safe();
}
END_TEST

START_TEST(link_loop)
{
	struct fuse_entry_out e;
	uint64_t fh;

	host_link("share/l", "l");
	start("");
	ck_good(fc_lookup(&c, ROOT, "l", &e));
	ck_assert(S_ISLNK(e.attr.mode));
	ck_assert_int_lt(fc_open(&c, e.nodeid, O_RDONLY, &fh), 0);
	ck_assert_int_lt(fc_lookup(&c, e.nodeid, "x", &e), 0);
	safe();
}
END_TEST

/* Links of /proc that lead to files without a name: what this process has open. */
START_TEST(link_to_descriptors)
{
	char target[64], name[16], data[64];
	uint64_t fh;

	start("");
	for (unsigned i = 0; i < 64; i++) {
		struct fuse_entry_out e;

		snprintf(target, sizeof(target), "/proc/self/fd/%u", i);
		snprintf(name, sizeof(name), "l%u", i);
		ck_good(fc_symlink(&c, ROOT, name, target, &e));
		ck_assert_int_lt(fc_open(&c, e.nodeid, O_RDWR, &fh), 0);
		ck_assert_int_lt(fc_opendir(&c, e.nodeid, &fh), 0);
		ck_assert_int_lt(fc_lookup(&c, e.nodeid, "secret", &e), 0);
		hide(data, fc_readlink(&c, e.nodeid, data, sizeof(data)));
	}
	safe();
}
END_TEST

/* A long link into little room, and into much. */
START_TEST(long_link)
{
	char target[4096], data[5000];
	uint64_t l;
	int n;

	memset(target, 'x', 4095);
	target[4095] = '\0';
	host_link("share/l", target);
	start("");
	l = fc_node(&c, "l");
	ck_assert_int_eq(fc_readlink(&c, l, data, sizeof(data)), 4095);
	ck_assert_str_eq(data, target);
	n = fc_readlink(&c, l, data, 100);
	ck_assert_int_lt(n, 100);
	safe();
}
END_TEST

/* --- The shared path itself --- */

/* The folder is moved away and a link put where it was. */
START_TEST(share_replaced)
{
	struct fuse_entry_out e;

	host_file("share/own", "own");
	start("");
	ck_assert_int_eq(rename(share, host("moved")), 0);
	host_link("share", "outside");
	ck_err(fc_lookup(&c, ROOT, "secret", &e), ENOENT);
	attack_folder(ROOT);
	safe();
	ck_assert_int_eq(unlink(share), 0);
}
END_TEST

/* A single file is replaced by a link, a FIFO, another file. */
START_TEST(file_replaced)
{
	struct fuse_entry_out e;
	char text[512];

	host_file("share/a", "mine");
	secret_before = host_stat("outside/secret");
	outside_names = names_in("outside");
	snprintf(text, sizeof(text), "%s/a,tag=x", share);
	ck_assert_int_eq(fc_make(&c, text), 0);
	fc_start(&c);
	ck_assert_int_eq(unlink(host("share/a")), 0);
	host_link("share/a", "../outside/secret");
	if (fc_lookup(&c, ROOT, "a", &e) == 0)
		attack_file(e.nodeid);
	ck_assert_int_lt(fc_lookup(&c, ROOT, "..", &e), 0);
	attack_folder(ROOT);
	safe();
}
END_TEST

/* The host moves a folder out while the guest holds it: from there, there is no way up. */
START_TEST(folder_moved_out)
{
	struct fuse_entry_out e;
	uint64_t d, sub;

	host_dir("share/d");
	host_dir("share/d/sub");
	start("");
	d = fc_node(&c, "d");
	sub = fc_node(&c, "d/sub");
	ck_assert_int_eq(rename(host("share/d"), host("outside/d")), 0);
	outside_names++;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = i ? sub : d;

		ck_assert_int_lt(fc_lookup(&c, at, "..", &e), 0);
		ck_assert_int_lt(fc_lookup(&c, at, "../secret", &e), 0);
		ck_assert_int_lt(fc_rename(&c, at, "..", ROOT, "got", 0), 0);
		ck_assert_int_lt(fc_unlink(&c, at, "../secret"), 0);
		ck_assert_int_lt(fc_lookup(&c, at, "secret", &e), 0);
	}
	safe();
}
END_TEST

/* --- Mounts --- */

/* What no guest may see, mounted inside: type, or (a path) bound. */
static const struct {
	const char *what;
	bool bind, file;
} mounts[] = {
	{ "proc", false, false },
	{ "sysfs", false, false },
	{ "devpts", false, false },
	{ "cgroup2", false, false },
	{ "debugfs", false, false },
	{ "tracefs", false, false },
	{ "securityfs", false, false },
	{ "bpf", false, false },
	{ "mqueue", false, false },
	{ "/proc", true, false },
	{ "/proc/self", true, false },
	{ "/proc/self/fd", true, false },
	{ "/proc/self/mem", true, true },
	{ "/proc/self/environ", true, true },
	{ "/proc/sys/kernel/core_pattern", true, true },
	{ "/proc/self/ns/net", true, true },
	{ "/sys/kernel", true, false },
};

START_TEST(mounted)
{
	static const char *const keys[] = { "", ",mounts=off" };
	const char *what = mounts[_i].what;
	int r;

	SKIP_UNLESS(bed_own_mounts(), "needs root, and mounts");
	if (mounts[_i].file)
		host_file("share/m", "");
	else
		host_dir("share/m");
	r = mount(what, host("share/m"), mounts[_i].bind ? NULL : what,
		  mounts[_i].bind ? MS_BIND : 0, NULL);
	SKIP_UNLESS(r == 0, what);
	for (unsigned i = 0; i < 2; i++) {
		struct fuse_entry_out e;
		struct fc_created file;
		char data[4096];
		uint64_t fh, m;

		start(keys[i]);
		if (fc_create(&c, ROOT, "m", O_RDWR, 0644, &file) == 0)
			ck_abort_msg("%s is opened by CREATE", what);
		if (fc_lookup(&c, ROOT, "m", &e) == 0) {
			m = e.nodeid;
			/* Hidden behind something that is empty, and stays so. */
			ck_assert_msg(fc_open(&c, m, O_RDONLY, &fh) < 0, "%s is opened", what);
			ck_assert_int_lt(fc_open(&c, m, O_RDWR, &fh), 0);
			ck_assert_int_lt(fc_lookup(&c, m, "self", &e), 0);
			ck_assert_int_lt(fc_lookup(&c, m, "1", &e), 0);
			ck_assert_int_lt(fc_lookup(&c, m, "mem", &e), 0);
			ck_assert_int_lt(fc_lookup(&c, m, "ptmx", &e), 0);
			ck_assert_int_lt(fc_lookup(&c, m, "kernel", &e), 0);
			ck_assert_int_lt(fc_lookup(&c, m, "cgroup.procs", &e), 0);
			ck_assert_int_lt(fc_mkdir(&c, m, "new", 0755, &e), 0);
			if (fc_opendir(&c, m, &fh) == 0)
				ck_assert_int_le(fc_readdir_as(&c, FUSE_READDIR, m, fh, 0, data,
							       sizeof(data)),
						 2 * 32);
		}
		if (fc_opendir(&c, ROOT, &fh) == 0)
			ck_assert_int_ge(fc_readdir_as(&c, FUSE_READDIRPLUS, ROOT, fh, 0, data,
						       sizeof(data)),
					 0);
		fc_stop(&c);
	}
	safe();
}
END_TEST

/* Files are shared by mounts=on, and not by mounts=off; and there is no way up from a mount. */
START_TEST(mounted_files)
{
	struct fuse_entry_out e;
	struct fc_created file;
	uint64_t m;

	SKIP_UNLESS(bed_own_mounts(), "needs root, and mounts");
	host_dir("share/m");
	host_dir("outside/inner");
	host_file("outside/inner/f", "f");
	ck_assert_int_eq(mount(host("outside/inner"), host("share/m"), NULL, MS_BIND, NULL), 0);
	start("");
	m = fc_node(&c, "m");
	ck_assert_str_eq(guest_text(fc_walk(&c, m, "f")), "f");
	ck_assert_int_lt(fc_lookup(&c, m, "..", &e), 0);
	ck_assert_int_lt(fc_lookup(&c, m, "secret", &e), 0);
	safe();
	fc_stop(&c);
	start(",mounts=off");
	if (fc_lookup(&c, ROOT, "m", &e) == 0) {
		m = e.nodeid;
		ck_assert_int_lt(fc_lookup(&c, m, "f", &e), 0);
		ck_assert_int_lt(fc_create(&c, m, "f", O_RDWR | O_TRUNC, 0644, &file), 0);
		ck_assert_int_lt(fc_create(&c, m, "new", O_RDWR, 0644, &file), 0);
		ck_assert_int_lt(fc_unlink(&c, m, "f"), 0);
		ck_assert_int_lt(fc_rename(&c, m, "f", ROOT, "f", 0), 0);
	}
	ck_assert_uint_eq(names_in("outside/inner"), 3);
	safe();
}
END_TEST

/* A tmpfs is a place for files: two files of one inode number are two nodes. */
START_TEST(mounted_tmpfs)
{
	struct fuse_entry_out a, b;
	uint64_t m1, m2;

	SKIP_UNLESS(bed_own_mounts(), "needs root, and mounts");
	host_dir("share/m1");
	host_dir("share/m2");
	ck_assert_int_eq(mount("x", host("share/m1"), "tmpfs", 0, NULL), 0);
	ck_assert_int_eq(mount("x", host("share/m2"), "tmpfs", 0, NULL), 0);
	host_file("share/m1/f", "one");
	host_file("share/m2/f", "two");
	start("");
	m1 = fc_node(&c, "m1");
	m2 = fc_node(&c, "m2");
	ck_assert_uint_ne(m1, m2);
	ck_good(fc_lookup(&c, m1, "f", &a));
	ck_good(fc_lookup(&c, m2, "f", &b));
	ck_assert_uint_ne(a.nodeid, b.nodeid);
	ck_assert_str_eq(guest_text(a.nodeid), "one");
	ck_assert_str_eq(guest_text(b.nodeid), "two");
	ck_err(fc_link(&c, a.nodeid, m2, "x", &b), EXDEV);
	ck_err(fc_rename(&c, m1, "f", m2, "x", 0), EXDEV);
	safe();
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_escape", &tc);

	tcase_add_loop_test(tc, names, 0, COUNT(hostile_names));
	tcase_add_test(tc, up_from_a_folder);
	tcase_add_loop_test(tc, link_to_secret, 0, COUNT(links));
	tcase_add_loop_test(tc, own_link, 0, COUNT(links));
	tcase_add_test(tc, link_as_parent);
	tcase_add_test(tc, dangling_link);
	tcase_add_test(tc, link_loop);
	tcase_add_test(tc, link_to_descriptors);
	tcase_add_test(tc, long_link);
	tcase_add_test(tc, share_replaced);
	tcase_add_test(tc, file_replaced);
	tcase_add_test(tc, folder_moved_out);
	tcase_add_loop_test(tc, mounted, 0, COUNT(mounts));
	tcase_add_test(tc, mounted_files);
	tcase_add_test(tc, mounted_tmpfs);
	return test_run(s);
}
