// SPDX-License-Identifier: Apache-2.0
/*
 * Ways out of a shared folder: each test is an attack. BED/outside/secret must not be read,
 * changed, renamed, linked or removed, and nothing may appear beside it; no device, FIFO or socket
 * may be opened. Where an attack needs luck, a thread on the host's side or a second guest of the
 * same folder swaps files while the first one tries again and again.
 *
 * TRIES= (environment): how often (2000).
 */
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include "tests/unit/test_virtio_fs.h"

/* What the secret and its folder looked like. */
static struct stat secret_before;
static unsigned outside_names;

static unsigned names_in(const char *path)
{
	DIR *dir = opendir(host(path));
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* Call when all is prepared. */
static void start(const char *keys)
{
	secret_before = host_stat("outside/secret");
	outside_names = names_in("outside");
	bed_start(keys);
}

static void safe(void)
{
	struct stat now = host_stat("outside/secret");

	ck_assert_str_eq(host_text("outside/secret"), SECRET);
	ck_assert_uint_eq(now.st_ino, secret_before.st_ino);
	ck_assert_uint_eq(now.st_mode, secret_before.st_mode);
	ck_assert_uint_eq(now.st_uid, secret_before.st_uid);
	ck_assert_uint_eq(now.st_nlink, 1);
	ck_assert_mem_eq(&now.st_mtim, &secret_before.st_mtim, sizeof(now.st_mtim));
	ck_assert_mem_eq(&now.st_ctim, &secret_before.st_ctim, sizeof(now.st_ctim));
	ck_assert_uint_eq(names_in("outside"), outside_names);
}

/* No descriptor of this process is a device, FIFO or socket at @path, but as a name (O_PATH). */
static void not_open(const char *path)
{
	struct stat st = host_stat(path), fd_st;
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;

	ck_assert_ptr_nonnull(dir);
	while ((d = readdir(dir)) != NULL) {
		int fd = atoi(d->d_name);

		if (d->d_name[0] == '.' || fd == dirfd(dir) || fstat(fd, &fd_st) < 0)
			continue;
		if (fd_st.st_dev != st.st_dev || fd_st.st_ino != st.st_ino)
			continue;
		ck_assert_msg((fcntl(fd, F_GETFL) & O_PATH) != 0, "%s is open", path);
	}
	closedir(dir);
}

static void hide(const char *data, int n)
{
	if (n > 0)
		ck_assert_msg(memmem(data, (size_t)n, "secret", 6) == NULL, "it was read");
}

/*
 * Everything that one can do to the file @node is; it must not reach the secret. What becomes of
 * the node itself does not matter.
 */
static void attack_file(uint64_t node)
{
	static const uint32_t flags[] = { O_RDONLY, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND,
					  O_RDONLY | O_NOFOLLOW, O_RDWR | O_DIRECT };
	struct fuse_setattr_in times = { .valid = FATTR_MTIME | FATTR_ATIME, .mtime = 1 };
	struct fuse_entry_out e;
	char data[512];
	uint64_t fh;

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (fc_open(&c, node, flags[i], &fh) < 0)
			continue;
		hide(data, fc_read(&c, node, fh, 0, data, sizeof(data)));
		(void)fc_write(&c, node, fh, 0, "stolen", 6);
		(void)fc_truncate(&c, node, fh, 0);
		(void)fc_release(&c, node, fh);
	}
	(void)fc_truncate(&c, node, FC_NO_FH, 0);
	(void)fc_chmod(&c, node, 0777);
	(void)fc_chown(&c, node, 1, 1);
	(void)fc_setattr(&c, node, &times, NULL);
	(void)fc_setxattr(&c, node, "user.stolen", "1", 1, 0);
	(void)fc_getxattr(&c, node, "user.stolen", data, 10);
	(void)fc_removexattr(&c, node, "user.stolen");
	(void)fc_link(&c, node, ROOT, "linked", &e);
	(void)fc_unlink(&c, ROOT, "linked");
}

/* Everything that one can do in the folder @node. */
static void attack_folder(uint64_t node)
{
	struct fuse_entry_out e;
	struct fc_created file;
	char data[4096];
	uint64_t fh;

	if (fc_lookup(&c, node, "secret", &e) == 0)
		attack_file(e.nodeid);
	if (fc_create(&c, node, "planted", O_RDWR, 0644, &file) == 0)
		(void)fc_release(&c, file.entry.nodeid, file.open.fh);
	if (fc_create(&c, node, "secret", O_RDWR | O_TRUNC, 0644, &file) == 0)
		(void)fc_release(&c, file.entry.nodeid, file.open.fh);
	if (fc_tmpfile(&c, node, O_RDWR, 0644, &file) == 0)
		(void)fc_release(&c, file.entry.nodeid, file.open.fh);
	(void)fc_mkdir(&c, node, "planted.d", 0755, &e);
	(void)fc_mknod(&c, node, "planted.f", S_IFREG | 0644, 0, &e);
	(void)fc_symlink(&c, node, "planted.l", "x", &e);
	if (fc_lookup(&c, ROOT, "own", &e) == 0) {
		(void)fc_link(&c, e.nodeid, node, "planted.h", &e);
		(void)fc_rename(&c, ROOT, "own", node, "planted.r", 0);
		(void)fc_rename(&c, ROOT, "own", node, "secret", 0);
		(void)fc_rename(&c, ROOT, "own", node, "secret", RENAME_EXCHANGE);
	}
	(void)fc_rename(&c, node, "secret", ROOT, "got", 0);
	(void)fc_unlink(&c, node, "secret");
	(void)fc_rmdir(&c, node, "empty");
	if (fc_opendir(&c, node, &fh) == 0) {
		hide(data, fc_readdir_as(&c, FUSE_READDIR, node, fh, 0, data, sizeof(data)));
		hide(data, fc_readdir_as(&c, FUSE_READDIRPLUS, node, fh, 0, data, sizeof(data)));
		(void)fc_release_as(&c, FUSE_RELEASEDIR, node, fh);
	}
	(void)fc_chmod(&c, node, 0777);
}

/* --- Names --- */

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
	"/etc",
	"/etc/passwd",
	"//",
	"d/",
	"/proc/self/root",
	"...//..",
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
		if (_i == (int)HOSTILE_NAMES - 3)
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
	{ "/proc/self/ns/mnt", true, true },
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

/* --- Devices, FIFOs, sockets --- */

static void special_file(const char *name)
{
	struct fuse_setattr_in size = { .valid = FATTR_SIZE };
	struct fc_created file;
	uint64_t node, fh;
	char path[64];

	snprintf(path, sizeof(path), "share/%s", name);
	start("");
	node = fc_node(&c, name);
	for (uint32_t flags = 0; flags < 3; flags++) {
		ck_assert_int_lt(fc_open(&c, node, flags, &fh), 0);
		ck_assert_int_lt(fc_open(&c, node, flags | O_NONBLOCK, &fh), 0);
		ck_assert_int_lt(fc_open(&c, node, flags | O_TRUNC, &fh), 0);
		ck_assert_int_lt(fc_create(&c, ROOT, name, flags, 0644, &file), 0);
		ck_assert_int_lt(fc_create(&c, ROOT, name, flags | O_NONBLOCK, 0644, &file), 0);
	}
	ck_assert_int_lt(fc_opendir(&c, node, &fh), 0);
	ck_assert_int_lt(fc_setattr(&c, node, &size, NULL), 0);
	/* What belongs to the name can be changed without opening. */
	ck_good(fc_chmod(&c, node, 0600));
	ck_assert_uint_eq(host_stat(path).st_mode & 0777, 0600);
	not_open(path);
	safe();
}

START_TEST(fifo)
{
	ck_assert_int_eq(mkfifo(host("share/fifo"), 0666), 0);
	special_file("fifo");
}
END_TEST

/* One that could be opened at once, as somebody reads. */
START_TEST(fifo_with_reader)
{
	int fd;

	ck_assert_int_eq(mkfifo(host("outside/fifo"), 0666), 0);
	fd = open(host("outside/fifo"), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(link(host("outside/fifo"), host("share/fifo")), 0);
	start("");
	for (uint32_t flags = 0; flags < 3; flags++) {
		uint64_t fh;

		ck_assert_int_lt(fc_open(&c, fc_node(&c, "fifo"), flags, &fh), 0);
	}
	close(fd);
	not_open("share/fifo");
	safe();
}
END_TEST

START_TEST(socket_file)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/sock", share);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	special_file("sock");
	close(fd);
}
END_TEST

START_TEST(device_node)
{
	SKIP_UNLESS(IS_ROOT() && mknod(host("share/null"), S_IFCHR | 0666, makedev(1, 3)) == 0,
		    "needs root");
	special_file("null");
}
END_TEST

START_TEST(block_device_node)
{
	SKIP_UNLESS(IS_ROOT() && mknod(host("share/disk"), S_IFBLK | 0666, makedev(7, 0)) == 0,
		    "needs root");
	special_file("disk");
}
END_TEST

START_TEST(making_devices)
{
	static const char *const keys[] = { "", ",ids=host", ",ids=xattr" };
	static const uint32_t types[] = { S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK, 0170000, 0050000 };

	for (unsigned k = 0; k < 3; k++) {
		if (k == 1 && !IS_ROOT())
			continue;
		start(keys[k]);
		for (unsigned i = 0; i < 6; i++) {
			struct fuse_entry_out e;
			int r = fc_mknod(&c, ROOT, "dev", types[i] | 0666, (uint32_t)makedev(1, 3),
					 &e);

			if (k == 2 && i < 2 && r == 0) {
				ck_assert(S_ISREG(host_stat("share/dev").st_mode));
				ck_good(fc_unlink(&c, ROOT, "dev"));
				continue;
			}
			ck_assert_int_lt(r, 0);
			ck_assert(!host_has("share/dev"));
		}
		fc_stop(&c);
	}
	safe();
}
END_TEST

/* --- Another share --- */

static struct fuse_client other;

static void other_start(const char *path, const char *keys)
{
	char text[300];

	fc_open_driver(&other);
	snprintf(text, sizeof(text), "%s,tag=other%s", host(path), keys);
	ck_assert_msg(fc_make(&other, text) == 0, "%s", other.err.msg);
	fc_start(&other);
}

static void other_stop(void)
{
	fc_stop(&other);
	fc_close_driver(&other);
}

/* Ids and handles of one share mean nothing in another. */
START_TEST(ids_of_another_share)
{
	struct fuse_copy_file_range_in in = { .len = 100 };
	struct fuse_entry_out e, first;
	struct fuse_attr attr;
	uint64_t fh, mine;
	char data[64];

	host_file("share/own", "own");
	start("");
	other_start("outside", "");
	ck_good(fc_lookup(&other, ROOT, "secret", &e));
	ck_good(fc_open(&other, e.nodeid, O_RDWR, &fh));
	if (fc_getattr(&c, e.nodeid, FC_NO_FH, &attr) == 0)
		ck_assert_uint_ne(attr.ino, secret_before.st_ino);
	ck_assert_int_lt(fc_read(&c, e.nodeid, fh, 0, data, sizeof(data)), 0);
	attack_file(e.nodeid);
	ck_good(fc_lookup(&c, ROOT, "own", &first));
	ck_good(fc_open(&c, first.nodeid, O_RDWR, &mine));
	in.fh_in = fh;
	in.fh_out = mine;
	in.nodeid_out = first.nodeid;
	if (e.nodeid != first.nodeid || fh != mine)
		ck_assert_int_lt(fc_copy_range(&c, &in, e.nodeid), 0);
	ck_assert_ptr_null(strstr(host_text("share/own"), "secret"));
	other_stop();
	safe();
}
END_TEST

/* What is read-only here cannot be written here because it can be there. */
START_TEST(read_only_copy)
{
	struct fuse_copy_file_range_in in = { .len = 100, .off_out = 2 };
	uint64_t a, fh;

	host_file("share/a", "12345");
	start(",ro");
	other_start("share", "");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDONLY, &fh));
	in.fh_in = in.fh_out = fh;
	in.nodeid_out = a;
	ck_assert_int_lt(fc_copy_range(&c, &in, a), 0);
	ck_assert_int_lt(fc_write(&c, a, fh, 0, "XXX", 3), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 0, 100, 0), 0);
	ck_assert_str_eq(host_text("share/a"), "12345");
	other_stop();
	safe();
}
END_TEST

/* --- What requests say --- */

START_TEST(open_flags)
{
	static const uint32_t odd[] = { O_PATH,	     O_DIRECTORY,
					O_ASYNC,     O_NOFOLLOW,
					O_TMPFILE,   O_TMPFILE | O_RDWR,
					O_CREAT,     O_CREAT | O_EXCL,
					O_SYNC,	     O_DSYNC,
					O_NONBLOCK,  O_NOCTTY,
					O_NOATIME,   O_CLOEXEC,
					O_LARGEFILE, 3,
					0xffffffff,  0xfffffffc,
					0x80000000,  O_PATH | O_RDWR | O_TRUNC };
	char data[16];

	host_file("share/a", "12345");
	host_dir("share/d");
	start("");
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		uint64_t a = fc_node(&c, "a"), d = fc_node(&c, "d"), fh;
		struct fc_created file;

		if (fc_open(&c, a, odd[i], &fh) == 0) {
			/* A handle that is one for reading or writing, nothing else. */
			ck_assert_int_ge(fc_read(&c, a, fh, 0, data, 5) +
						 (fc_write(&c, a, fh, 0, "1", 1) > 0 ? 100 : 0),
					 0);
			ck_good(fc_release(&c, a, fh));
		}
		if (fc_open_as(&c, FUSE_OPENDIR, d, odd[i], &file.open) == 0)
			(void)fc_release_as(&c, FUSE_RELEASEDIR, d, file.open.fh);
		if (fc_create(&c, ROOT, "new", odd[i], 0644, &file) == 0)
			(void)fc_release(&c, file.entry.nodeid, file.open.fh);
		(void)fc_tmpfile(&c, d, odd[i], 0644, &file);
	}
	ck_assert_uint_le(names_in("share"), 5);
	ck_assert_uint_eq(names_in("share/d"), 2);
	safe();
}
END_TEST

/* What the guest asks of a handle does not set the device's descriptors to signal or to hang. */
START_TEST(async_flag)
{
	DIR *dir;
	struct dirent *entry;
	uint64_t a, fh;

	host_file("share/a", "12345");
	start("");
	a = fc_node(&c, "a");
	(void)fc_open(&c, a, O_RDWR | O_ASYNC, &fh);
	dir = opendir("/proc/self/fd");
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			ck_assert_int_eq(fcntl(atoi(entry->d_name), F_GETFL) & O_ASYNC, 0);
	}
	closedir(dir);
	safe();
}
END_TEST

static const uint64_t odd_offsets[] = {
	~0ull,	    ~0ull - 4095, 1ull << 63,	      (1ull << 63) - 1,
	1ull << 62, 1ull << 52,	  (1ull << 63) - 4096
};

START_TEST(offsets)
{
	uint64_t off = odd_offsets[_i], a, fh, list;
	struct fuse_copy_file_range_in in;
	char data[4096];

	host_file("share/a", "12345");
	start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_good(fc_opendir(&c, ROOT, &list));
	ck_assert_int_le(fc_read(&c, a, fh, off, data, sizeof(data)), 0);
	if ((int64_t)(off + 4096) < 0)
		ck_assert_int_le(fc_write(&c, a, fh, off, data, 4096), 0);
	(void)fc_lseek(&c, a, fh, off, SEEK_DATA);
	(void)fc_lseek(&c, a, fh, off, SEEK_HOLE);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, off, off, 0), 0);
	ck_assert_int_lt(
		fc_fallocate(&c, a, fh, 0, off, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) +
			(off < 1ull << 63 ? -1 : 0),
		0);
	(void)fc_readdir_as(&c, FUSE_READDIR, ROOT, list, off, data, sizeof(data));
	(void)fc_readdir_as(&c, FUSE_READDIRPLUS, ROOT, list, off, data, sizeof(data));
	if (off > 1ull << 60)
		ck_assert_int_lt(fc_truncate(&c, a, fh, off), 0);
	in = (struct fuse_copy_file_range_in){ .fh_in = fh,
					       .off_in = off,
					       .nodeid_out = a,
					       .fh_out = fh,
					       .off_out = off,
					       .len = off };
	(void)fc_copy_range(&c, &in, a);
	(void)fc_truncate(&c, a, fh, 5);
	ck_assert_str_eq(host_text("share/a"), "12345");
	safe();
}
END_TEST

/* Sizes up to 4 GiB with room, or data, for little. */
START_TEST(large_sizes)
{
	static const uint32_t sizes[] = { 0xffffffff, 0xfffff000, 0x80000000,	 0x7fffffff,
					  1u << 30,   1u << 21,	  (1u << 20) + 1 };

	host_file("share/a", "12345");
	start("");
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fuse_read_in read = { .size = sizes[i] };
		struct fuse_write_in write = { .size = sizes[i] };
		struct fuse_getxattr_in xattr = { .size = sizes[i] };
		struct fuse_setxattr_in set = { .size = sizes[i] };
		uint64_t a = fc_node(&c, "a"), fh;
		char data[64];
		int n;

		ck_good(fc_open(&c, a, O_RDWR, &fh));
		read.fh = write.fh = fh;
		n = fc_call(&c, FUSE_READ, a, &read, sizeof(read), NULL, 0, data, 64);
		ck_assert(n == 5 || n < 0);
		ck_assert_int_lt(
			fc_call(&c, FUSE_WRITE, a, &write, sizeof(write), "XXXXXXXX", 8, NULL, 8),
			0);
		ck_good(fc_opendir(&c, ROOT, &read.fh));
		n = fc_call(&c, FUSE_READDIR, ROOT, &read, sizeof(read), NULL, 0, data, 64);
		ck_assert_int_le(n, 64);
		n = fc_call(&c, FUSE_READDIRPLUS, ROOT, &read, sizeof(read), NULL, 0, data, 64);
		ck_assert_int_le(n, 64);
		n = fc_call(&c, FUSE_LISTXATTR, a, &xattr, sizeof(xattr), NULL, 0, data, 64);
		ck_assert_int_le(n, 64);
		n = fc_call(&c, FUSE_GETXATTR, a, &xattr, sizeof(xattr), "user.x", 7, data, 64);
		ck_assert_int_lt(n, 0);
		n = fc_call(&c, FUSE_SETXATTR, a, &set, sizeof(set), "user.x\0value", 13, NULL, 0);
		ck_assert_int_lt(n, 0);
	}
	ck_assert_str_eq(host_text("share/a"), "12345");
	safe();
}
END_TEST

START_TEST(odd_attributes)
{
	struct fuse_setattr_in in;
	uint64_t a;

	host_file("share/a", "12345");
	host_dir("share/d");
	start("");
	a = fc_node(&c, "a");
	memset(&in, 0xff, sizeof(in));
	(void)fc_setattr(&c, a, &in, NULL);
	(void)fc_setattr(&c, ROOT, &in, NULL);
	in = (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = ~0ull };
	ck_assert_int_lt(fc_setattr(&c, a, &in, NULL), 0);
	in = (struct fuse_setattr_in){ .valid = FATTR_SIZE | FATTR_FH, .fh = ~0ull };
	ck_assert_int_lt(fc_setattr(&c, a, &in, NULL), 0);
	in = (struct fuse_setattr_in){ .valid = FATTR_SIZE };
	ck_assert_int_lt(fc_setattr(&c, ROOT, &in, NULL), 0);
	ck_assert_int_lt(fc_setattr(&c, fc_node(&c, "d"), &in, NULL), 0);
	ck_assert_int_eq(host_stat("share/a").st_size, 5);
	safe();
}
END_TEST

/* What was opened for reading is not written, by any way. */
START_TEST(read_only_handle)
{
	struct fuse_copy_file_range_in in = { .len = 3 };
	uint64_t a, fh;

	host_file("share/a", "12345");
	start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDONLY, &fh));
	ck_assert_int_lt(fc_write(&c, a, fh, 0, "X", 1), 0);
	ck_assert_int_lt(fc_write_flags(&c, a, fh, 0, "X", 1, FUSE_WRITE_CACHE, O_RDWR), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 0, 100, 0), 0);
	ck_assert_int_lt(fc_truncate(&c, a, fh, 0), 0);
	in.fh_in = in.fh_out = fh;
	in.nodeid_out = a;
	in.off_out = 100;
	ck_assert_int_lt(fc_copy_range(&c, &in, a), 0);
	ck_assert_str_eq(host_text("share/a"), "12345");
	safe();
}
END_TEST

START_TEST(folder_into_itself)
{
	uint64_t d, e;

	host_dir("share/d");
	host_dir("share/d/e");
	start("");
	d = fc_node(&c, "d");
	e = fc_node(&c, "d/e");
	ck_assert_int_lt(fc_rename(&c, ROOT, "d", d, "x", 0), 0);
	ck_assert_int_lt(fc_rename(&c, ROOT, "d", e, "x", 0), 0);
	ck_assert_int_lt(fc_rename(&c, ROOT, "d", d, "e", RENAME_EXCHANGE), 0);
	ck_assert_int_lt(fc_rename(&c, d, "e", ROOT, "d", 0), 0);
	ck_assert(host_has("share/d/e"));
	safe();
}
END_TEST

/* What a file system in the guest's kernel may ask, and this one does not do. */
START_TEST(other_requests)
{
	struct fuse_ioctl_in ioctl = { .cmd = 0x5401, .flags = FUSE_IOCTL_UNRESTRICTED };
	struct fuse_lk_in lk = { .lk = { .end = 100, .type = F_WRLCK } };
	struct fuse_poll_in poll = { 0 };
	uint64_t a, fh;

	host_file("share/a", "1");
	start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ioctl.fh = lk.fh = poll.fh = fh;
	ck_assert_int_lt(fc_call(&c, FUSE_IOCTL, a, &ioctl, sizeof(ioctl), NULL, 0, NULL, 512), 0);
	ck_assert_int_lt(fc_call(&c, FUSE_SETLK, a, &lk, sizeof(lk), NULL, 0, NULL, 0), 0);
	ck_assert_int_lt(fc_call(&c, FUSE_SETLKW, a, &lk, sizeof(lk), NULL, 0, NULL, 0), 0);
	ck_assert_int_lt(fc_call(&c, FUSE_POLL, a, &poll, sizeof(poll), NULL, 0, NULL, 16), 0);
	ck_assert_int_lt(fc_call(&c, FUSE_NOTIFY_REPLY, a, NULL, 0, NULL, 0, NULL, 16), 0);
	safe();
}
END_TEST

/* --- Extended attributes --- */

START_TEST(xattr_spaces)
{
	static const char *const bad[] = { "trusted.overlay.opaque",
					   "trusted.x",
					   "security.selinux",
					   "security.ima",
					   "security.evm",
					   "security.x",
					   "system.nfs4_acl",
					   "system.x",
					   "user",
					   "user.",
					   "",
					   "nothing",
					   "USER.x" };
	char list[1024], value[64];
	uint64_t a;
	int n;

	host_file("share/a", "1");
	if (IS_ROOT())
		(void)setxattr(host("share/a"), "trusted.hidden", "1", 1, 0);
	start("");
	a = fc_node(&c, "a");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(fc_setxattr(&c, a, bad[i], "1", 1, 0) < 0, "%s can be set", bad[i]);
		ck_assert_msg(fc_removexattr(&c, a, bad[i]) < 0, "%s can be removed", bad[i]);
		ck_assert_int_lt(fc_getxattr(&c, a, bad[i], value, 60), 0);
	}
	ck_assert_int_lt(fc_getxattr(&c, a, "trusted.hidden", value, 60), 0);
	n = fc_listxattr(&c, a, list, sizeof(list));
	if (n > 0)
		ck_assert_ptr_null(memmem(list, (size_t)n, "trusted", 7));
	/* A name that is too long, a value that is too large. */
	memset(list, 'x', 400);
	memcpy(list, "user.", 5);
	list[300] = '\0';
	ck_assert_int_lt(fc_setxattr(&c, a, list, "1", 1, 0), 0);
	{
		char *big = calloc(1, 100000);

		ck_assert_int_lt(fc_setxattr(&c, a, "user.big", big, 100000, 0), 0);
		free(big);
	}
	/* An access control list that is none. */
	(void)fc_setxattr(&c, a, "system.posix_acl_access", "garbage", 7, 0);
	(void)fc_setxattr(&c, a, "security.capability", "garbage", 7, 0);
	safe();
}
END_TEST

/* Under ids=xattr the guest's root does not make itself the host's. */
START_TEST(xattr_override)
{
	struct fuse_entry_out e;
	struct stat st;
	uint64_t a;

	host_file("share/a", "1");
	SKIP_UNLESS(setxattr(host("share/a"), "user.try", "1", 1, 0) == 0, "no user xattrs here");
	start(",ids=xattr");
	a = fc_node(&c, "a");
	ck_assert_int_lt(
		fc_setxattr(&c, a, "user.containers.override_stat", "0:0:020666:char-1-3", 19, 0),
		0);
	ck_good(fc_chown(&c, a, 12, 34));
	ck_good(fc_chmod(&c, a, 06777));
	st = host_stat("share/a");
	ck_assert_uint_eq(st.st_uid, geteuid());
	ck_assert_uint_eq(st.st_mode & 06000, 0);
	if (fc_mknod(&c, ROOT, "sda", S_IFBLK | 0666, (uint32_t)makedev(8, 0), &e) == 0) {
		uint64_t fh;

		/* The guest's kernel opens devices itself: here it is no file. */
		ck_assert_int_lt(fc_open(&c, e.nodeid, O_RDWR, &fh), 0);
	}
	safe();
}
END_TEST

/* --- Races --- */

static unsigned tries(void)
{
	const char *text = getenv("TRIES");

	return text != NULL ? (unsigned)atoi(text) : 2000;
}

/* Swaps BED/@a and BED/@b without end. */
struct swapper {
	char a[200], b[200];
	atomic_bool stop;
	atomic_uint swaps;
	pthread_t thread;
};

static void *swap(void *arg)
{
	struct swapper *s = arg;

	while (!atomic_load(&s->stop)) {
		if (renameat2(AT_FDCWD, s->a, AT_FDCWD, s->b, RENAME_EXCHANGE) == 0)
			atomic_fetch_add(&s->swaps, 1);
	}
	return NULL;
}

static void swap_start(struct swapper *s, const char *a, const char *b)
{
	snprintf(s->a, sizeof(s->a), "%s", host(a));
	snprintf(s->b, sizeof(s->b), "%s", host(b));
	atomic_store(&s->stop, false);
	ck_assert_int_eq(pthread_create(&s->thread, NULL, swap, s), 0);
}

static void swap_stop(struct swapper *s)
{
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	ck_assert_uint_gt(atomic_load(&s->swaps), 10);
}

/* A folder and a link to the secret's folder change places while the guest works in it. */
START_TEST(race_folder_and_link)
{
	static struct swapper s;

	host_dir("share/x");
	host_link("y", outside);
	host_file("share/own", "own");
	start("");
	swap_start(&s, "share/x", "y");
	for (unsigned i = 0; i < tries(); i++) {
		struct fuse_entry_out e;

		if (fc_lookup(&c, ROOT, "x", &e) != 0)
			continue;
		if (i % 4 == 0) {
			attack_folder(e.nodeid);
		} else {
			struct fuse_entry_out in;

			ck_assert_int_lt(fc_lookup(&c, e.nodeid, "secret", &in), 0);
			(void)fc_mkdir(&c, e.nodeid, "planted.d", 0755, &in);
			(void)fc_rmdir(&c, e.nodeid, "planted.d");
		}
		fc_forget(&c, e.nodeid, 1);
	}
	swap_stop(&s);
	safe();
}
END_TEST

/* A file and a link to the secret. */
START_TEST(race_file_and_link)
{
	static struct swapper s;

	host_file("share/x", "own");
	host_link("y", "outside/secret");
	start("");
	swap_start(&s, "share/x", "y");
	for (unsigned i = 0; i < tries(); i++) {
		struct fc_created file;
		struct fuse_entry_out e;
		char data[64];

		if (i % 2 == 0 && fc_lookup(&c, ROOT, "x", &e) == 0) {
			if (i % 8 == 0)
				attack_file(e.nodeid);
			else
				(void)fc_truncate(&c, e.nodeid, FC_NO_FH, i % 10);
			fc_forget(&c, e.nodeid, 1);
		} else if (fc_create(&c, ROOT, "x", O_RDWR | (i % 4 == 1 ? O_TRUNC : 0), 0644,
				     &file) == 0) {
			uint64_t node = file.entry.nodeid;

			ck_assert(S_ISREG(file.entry.attr.mode));
			ck_assert_uint_ne(file.entry.attr.ino, secret_before.st_ino);
			hide(data, fc_read(&c, node, file.open.fh, 0, data, sizeof(data)));
			(void)fc_write(&c, node, file.open.fh, 0, "own", 3);
			(void)fc_release(&c, node, file.open.fh);
			fc_forget(&c, node, 1);
		}
	}
	swap_stop(&s);
	safe();
}
END_TEST

/* Nothing and a link that leads to a name that is not there. */
static void *flicker(void *arg)
{
	struct swapper *s = arg;

	while (!atomic_load(&s->stop)) {
		if (symlink("../outside/new", s->a) == 0)
			atomic_fetch_add(&s->swaps, 1);
		unlink(s->a);
	}
	return NULL;
}

START_TEST(race_dangling_link)
{
	static struct swapper s;

	start("");
	snprintf(s.a, sizeof(s.a), "%s/x", share);
	ck_assert_int_eq(pthread_create(&s.thread, NULL, flicker, &s), 0);
	for (unsigned i = 0; i < tries(); i++) {
		struct fc_created file;
		struct fuse_entry_out e;

		if (fc_create(&c, ROOT, "x", O_RDWR | (i % 2 ? O_EXCL : 0), 0644, &file) == 0) {
			(void)fc_release(&c, file.entry.nodeid, file.open.fh);
			fc_forget(&c, file.entry.nodeid, 1);
		}
		if (fc_mknod(&c, ROOT, "x", S_IFREG | 0644, 0, &e) == 0)
			fc_forget(&c, e.nodeid, 1);
		if (fc_mkdir(&c, ROOT, "x", 0755, &e) == 0) {
			fc_forget(&c, e.nodeid, 1);
			(void)fc_rmdir(&c, ROOT, "x");
		}
		(void)fc_unlink(&c, ROOT, "x");
	}
	swap_stop(&s);
	ck_assert(!host_has("outside/new"));
	safe();
}
END_TEST

/* A file and a FIFO without a reader: the device must not hang in opening it. */
START_TEST(race_file_and_fifo)
{
	static struct swapper s;

	host_file("share/x", "own");
	ck_assert_int_eq(mkfifo(host("y"), 0666), 0);
	start("");
	swap_start(&s, "share/x", "y");
	for (unsigned i = 0; i < tries(); i++) {
		struct fc_created file;
		struct fuse_entry_out e;
		uint64_t fh;

		if (i % 2 == 0 && fc_lookup(&c, ROOT, "x", &e) == 0) {
			int r = fc_open(&c, e.nodeid, i % 4 == 0 ? O_RDONLY : O_WRONLY, &fh);

			ck_assert(r == 0 || !S_ISREG(e.attr.mode));
			ck_assert(r < 0 || S_ISREG(e.attr.mode));
			if (r == 0)
				(void)fc_release(&c, e.nodeid, fh);
			fc_forget(&c, e.nodeid, 1);
		} else if (fc_create(&c, ROOT, "x", O_WRONLY, 0644, &file) == 0) {
			ck_assert(S_ISREG(file.entry.attr.mode));
			(void)fc_release(&c, file.entry.nodeid, file.open.fh);
			fc_forget(&c, file.entry.nodeid, 1);
		}
	}
	swap_stop(&s);
	not_open(S_ISFIFO(host_stat("share/x").st_mode) ? "share/x" : "y");
	safe();
}
END_TEST

/* A folder moves out of the share and in again while the guest looks up what is in it. */
static void *mover(void *arg)
{
	struct swapper *s = arg;

	while (!atomic_load(&s->stop)) {
		if (rename(s->a, s->b) == 0)
			atomic_fetch_add(&s->swaps, 1);
		(void)!rename(s->b, s->a);
	}
	return NULL;
}

START_TEST(race_folder_moved)
{
	static struct swapper s;
	uint64_t e, x;

	host_dir("share/x");
	host_dir("share/x/e");
	start("");
	x = fc_node(&c, "x");
	e = fc_node(&c, "x/e");
	snprintf(s.a, sizeof(s.a), "%s/x", share);
	snprintf(s.b, sizeof(s.b), "%s/x", bed);
	ck_assert_int_eq(pthread_create(&s.thread, NULL, mover, &s), 0);
	for (unsigned i = 0; i < tries(); i++) {
		static const char *const up[] = { "..", "../..", "../outside", "../../outside" };
		struct fuse_entry_out got;
		struct fc_created file;

		ck_assert_int_lt(fc_lookup(&c, i % 2 ? e : x, up[i / 2 % 4], &got), 0);
		ck_assert_int_lt(fc_create(&c, e, "../../outside/planted", O_RDWR, 0644, &file), 0);
		ck_assert_int_lt(fc_rename(&c, e, "..", ROOT, "got", 0), 0);
		ck_assert_int_lt(fc_lookup(&c, e, "secret", &got), 0);
	}
	swap_stop(&s);
	safe();
}
END_TEST

/* Two guests of one folder, one swaps. */
START_TEST(race_two_guests)
{
	struct fuse_entry_out e;

	host_dir("share/x");
	host_file("share/own", "own");
	start("");
	other_start("share", "");
	ck_good(fc_symlink(&other, ROOT, "y", "../outside", &e));
	for (unsigned i = 0; i < tries() / 2; i++) {
		struct driver_buf buf[4];
		struct fuse_rename2_in in = { .newdir = ROOT, .flags = RENAME_EXCHANGE };
		uint32_t len = fc_put(&other, FUSE_RENAME2, ROOT, &in, sizeof(in), "x\0y", 4);

		/* The other guest's request is under way while ours are done. */
		buf[0] = (struct driver_buf){ other.in, len, false };
		buf[1] = (struct driver_buf){ other.out, 16, true };
		driver_add(&other.d, 1, buf, 2);
		driver_kick(&other.d, 1);
		if (fc_lookup(&c, ROOT, "x", &e) == 0) {
			struct fuse_entry_out got;

			ck_assert_int_lt(fc_lookup(&c, e.nodeid, "secret", &got), 0);
			if (i % 8 == 0)
				attack_folder(e.nodeid);
			fc_forget(&c, e.nodeid, 1);
		}
		ck_assert(fc_wait(&other, 1, NULL, NULL));
	}
	other_stop();
	safe();
}
END_TEST

/* A mount comes and goes where the guest looks. */
static void *mounter(void *arg)
{
	struct swapper *s = arg;

	while (!atomic_load(&s->stop)) {
		if (mount("proc", s->a, "proc", 0, NULL) == 0)
			atomic_fetch_add(&s->swaps, 1);
		umount2(s->a, MNT_DETACH);
	}
	return NULL;
}

START_TEST(race_mount)
{
	static struct swapper s;

	SKIP_UNLESS(bed_own_mounts(), "needs root, and mounts");
	host_dir("share/x");
	start("");
	snprintf(s.a, sizeof(s.a), "%s/x", share);
	ck_assert_int_eq(pthread_create(&s.thread, NULL, mounter, &s), 0);
	for (unsigned i = 0; i < tries(); i++) {
		struct fuse_entry_out e, got;
		uint64_t fh;

		if (fc_lookup(&c, ROOT, "x", &e) != 0)
			continue;
		ck_assert_int_lt(fc_lookup(&c, e.nodeid, "self", &got), 0);
		if (fc_lookup(&c, e.nodeid, "version", &got) == 0)
			ck_assert_int_lt(fc_open(&c, got.nodeid, O_RDONLY, &fh), 0);
		fc_forget(&c, e.nodeid, 1);
	}
	swap_stop(&s);
	umount2(s.a, MNT_DETACH);
	safe();
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

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
	tcase_add_test(tc, fifo);
	tcase_add_test(tc, fifo_with_reader);
	tcase_add_test(tc, socket_file);
	tcase_add_test(tc, device_node);
	tcase_add_test(tc, block_device_node);
	tcase_add_test(tc, making_devices);
	tcase_add_test(tc, ids_of_another_share);
	tcase_add_test(tc, read_only_copy);
	tcase_add_test(tc, open_flags);
	tcase_add_test(tc, async_flag);
	tcase_add_loop_test(tc, offsets, 0, COUNT(odd_offsets));
	tcase_add_test(tc, large_sizes);
	tcase_add_test(tc, odd_attributes);
	tcase_add_test(tc, read_only_handle);
	tcase_add_test(tc, folder_into_itself);
	tcase_add_test(tc, other_requests);
	tcase_add_test(tc, xattr_spaces);
	tcase_add_test(tc, xattr_override);
	tcase_add_test(tc, race_folder_and_link);
	tcase_add_test(tc, race_file_and_link);
	tcase_add_test(tc, race_dangling_link);
	tcase_add_test(tc, race_file_and_fifo);
	tcase_add_test(tc, race_folder_moved);
	tcase_add_test(tc, race_two_guests);
	tcase_add_test(tc, race_mount);
	return test_run(s);
}
