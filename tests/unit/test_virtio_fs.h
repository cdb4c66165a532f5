/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of virtio-fs share: a temporary folder with the shared one and a file outside that
 * nobody may touch, a client, and the host's view of the files.
 *
 *	BED/share/	what the guest gets
 *	BED/outside/	secret (0644, "the secret\n") and what else a test puts there
 */
#ifndef TESTS_UNIT_TEST_VIRTIO_FS_H
#define TESTS_UNIT_TEST_VIRTIO_FS_H

#include <dirent.h>
#include <ftw.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "tests/unit/device_util.h"
#include "tests/unit/fuse_client.h"
#include "vmm/base/log.h"

#define SECRET	  "the secret\n"
#define ROOT	  FUSE_ROOT_ID
#define NAME_255  name_of(255)
#define IS_ROOT() (geteuid() == 0)

static struct fuse_client c;
static char bed[64], share[96], outside[96];

/* --- The host's side --- */

/* "share/a" -> BED/share/a; four at a time. */
static inline const char *host(const char *path)
{
	static char text[4][1024];
	static unsigned turn;
	char *at = text[turn++ % 4];

	snprintf(at, sizeof(text[0]), "%s/%s", bed, path);
	return at;
}

static inline void host_file(const char *path, const char *data)
{
	int fd = open(host(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(write(fd, data, strlen(data)), (ssize_t)strlen(data));
	close(fd);
}

static inline void host_dir(const char *path)
{
	ck_assert_msg(mkdir(host(path), 0755) == 0, "%s: %s", path, strerror(errno));
}

static inline void host_link(const char *path, const char *target)
{
	ck_assert_msg(symlink(target, host(path)) == 0, "%s: %s", path, strerror(errno));
}

static inline struct stat host_stat(const char *path)
{
	struct stat st;

	ck_assert_msg(lstat(host(path), &st) == 0, "%s: %s", path, strerror(errno));
	return st;
}

static inline bool host_has(const char *path)
{
	struct stat st;

	return lstat(host(path), &st) == 0;
}

/* What is in it, at most 4095 bytes; valid until the next call. */
static inline const char *host_text(const char *path)
{
	static char text[4096];
	int fd = open(host(path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	n = read(fd, text, sizeof(text) - 1);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	close(fd);
	return text;
}

static inline int host_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	remove(path);
	return 0;
}

/* A name of @n bytes, n <= 300. */
static inline const char *name_of(unsigned n)
{
	static char name[301];

	memset(name, 'n', n);
	name[n] = '\0';
	return name;
}

/* --- The bed --- */

static inline void bed_make(void)
{
	log_set_level(LOG_ERROR);
	log_set_fd(-1);
	umask(022);
	strcpy(bed, "/tmp/vmm-test-fs-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(bed));
	ck_assert_int_eq(chmod(bed, 0755), 0);
	snprintf(share, sizeof(share), "%s/share", bed);
	snprintf(outside, sizeof(outside), "%s/outside", bed);
	host_dir("share");
	host_dir("outside");
	host_file("outside/secret", SECRET);
	fc_open_driver(&c);
}

/* Also what a test mounted in its own name space is in the way of removing. */
static inline void bed_remove(void)
{
	static const char *const mounted[] = { "share/m", "share/m1", "share/m2", "share/x" };

	if (c.vdev != NULL)
		fc_stop(&c);
	fc_close_driver(&c);
	for (unsigned i = 0; i < sizeof(mounted) / sizeof(mounted[0]); i++)
		umount2(host(mounted[i]), MNT_DETACH | UMOUNT_NOFOLLOW);
	nftw(bed, host_remove, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Share BED/share with @keys (",ro"), and be its guest. */
static inline void bed_start(const char *keys)
{
	char text[512];
	int r;

	snprintf(text, sizeof(text), "%s,tag=test%s", share, keys);
	r = fc_make(&c, text);
	ck_assert_msg(r == 0, "%s", c.err.msg);
	fc_start(&c);
}

/* Mounts made from now on are this process's own. False: not allowed here. */
static inline bool bed_own_mounts(void)
{
	return IS_ROOT() && unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* For cases that cannot be had here. */
#define SKIP_UNLESS(cond, what)                                                                    \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("# skipped %s: %s\n", __func__, what);                              \
			return;                                                                    \
		}                                                                                  \
	} while (0)

/* --- What is often done --- */

#define ck_err(call, error) ck_assert_int_eq(call, -(error))
#define ck_good(call)	    ck_assert_int_eq(call, 0)

/* Read all of a file, at most 4095 bytes, through a handle of its own. */
static inline const char *guest_text(uint64_t node)
{
	static char text[4096];
	uint64_t fh;
	int n;

	ck_good(fc_open(&c, node, O_RDONLY, &fh));
	n = fc_read(&c, node, fh, 0, text, sizeof(text) - 1);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	ck_good(fc_release(&c, node, fh));
	return text;
}

/* A new file in the root folder with @text in it; closed. */
static inline uint64_t guest_file(const char *name, const char *text)
{
	struct fc_created file;

	ck_good(fc_create(&c, ROOT, name, O_RDWR, 0644, &file));
	ck_assert_int_eq(
		fc_write(&c, file.entry.nodeid, file.open.fh, 0, text, (uint32_t)strlen(text)),
		(int)strlen(text));
	ck_good(fc_release(&c, file.entry.nodeid, file.open.fh));
	return file.entry.nodeid;
}

/* As a guest sees @path, so it is here; owner apart. */
static inline void same_attr(const struct fuse_attr *a, const char *path)
{
	struct stat st = host_stat(path);

	ck_assert_uint_eq(a->ino, st.st_ino);
	ck_assert_uint_eq(a->size, (uint64_t)st.st_size);
	ck_assert_uint_eq(a->blocks, (uint64_t)st.st_blocks);
	ck_assert_uint_eq(a->mode, st.st_mode);
	ck_assert_uint_eq(a->nlink, st.st_nlink);
	ck_assert_uint_eq(a->mtime, (uint64_t)st.st_mtim.tv_sec);
	ck_assert_uint_eq(a->mtimensec, (uint64_t)st.st_mtim.tv_nsec);
	ck_assert_uint_eq(a->ctime, (uint64_t)st.st_ctim.tv_sec);
	ck_assert_uint_eq(a->ctimensec, (uint64_t)st.st_ctim.tv_nsec);
}

static inline Suite *bed_suite(const char *name, TCase **tc)
{
	Suite *s = suite_create(name);

	*tc = tcase_create("all");
	tcase_add_checked_fixture(*tc, bed_make, bed_remove);
	tcase_set_timeout(*tc, 120);
	suite_add_tcase(s, *tc);
	return s;
}

#endif
