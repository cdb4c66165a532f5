/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of ways out of a shared folder have in common (test_virtio_fs_escape.c, _misuse.c,
 * _race.c): each is an attack. BED/outside/secret must not be read, changed, renamed, linked or
 * removed, and nothing may appear beside it; no device, FIFO or socket may be opened.
 */
#ifndef TESTS_UNIT_TEST_VIRTIO_FS_ESCAPE_H
#define TESTS_UNIT_TEST_VIRTIO_FS_ESCAPE_H

#include "tests/unit/test_virtio_fs.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* What the secret and its folder looked like. */
static struct stat secret_before;
static unsigned outside_names;

static inline unsigned names_in(const char *path)
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
static inline void start(const char *keys)
{
	secret_before = host_stat("outside/secret");
	outside_names = names_in("outside");
	bed_start(keys);
}

static inline void safe(void)
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
static inline void not_open(const char *path)
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

static inline void hide(const char *data, int n)
{
	if (n > 0)
		ck_assert_msg(memmem(data, (size_t)n, "secret", 6) == NULL, "it was read");
}

/*
 * Everything that one can do to the file @node is; it must not reach the secret. What becomes of
 * the node itself does not matter.
 */
static inline void attack_file(uint64_t node)
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
static inline void attack_folder(uint64_t node)
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

/* --- Another share, or another guest of the same one --- */

static struct fuse_client other;

static inline void other_start(const char *path, const char *keys)
{
	char text[300];

	fc_open_driver(&other);
	snprintf(text, sizeof(text), "%s,tag=other%s", host(path), keys);
	ck_assert_msg(fc_make(&other, text) == 0, "%s", other.err.msg);
	fc_start(&other);
}

static inline void other_stop(void)
{
	fc_stop(&other);
	fc_close_driver(&other);
}

#endif
