// SPDX-License-Identifier: Apache-2.0
/*
 * A shared folder as a guest sees it: the option, the device's configuration, FUSE_INIT, names and
 * attributes, what is made and removed. Data is in test_virtio_fs_file.c, attacks are in
 * test_virtio_fs_escape.c, _misuse.c, _race.c.
 */
#include "tests/unit/test_virtio_fs.h"

/* --- The option and the device --- */

static void refused(const char *option, const char *word)
{
	int r = fc_make(&c, option);

	ck_assert_msg(r < 0, "%s is taken", option);
	ck_assert_msg(strstr(c.err.msg, word) != NULL, "%s: not in \"%s\"", word, c.err.msg);
}

START_TEST(options)
{
	char text[512];

	refused("/nowhere/at/all,tag=x", "/nowhere/at/all");
	snprintf(text, sizeof(text), "%s,tag=", share);
	refused(text, "tag");
	snprintf(text, sizeof(text), "%s,tag=%s", share, name_of(37));
	refused(text, "tag");
	snprintf(text, sizeof(text), "%s,tag=x,ids=perhaps", share);
	refused(text, "perhaps");
	snprintf(text, sizeof(text), "%s,tag=x,cache=no", share);
	refused(text, "no");
	snprintf(text, sizeof(text), "%s,tag=x,queues=0", share);
	refused(text, "queues");
	snprintf(text, sizeof(text), "%s,tag=x,queues=1000", share);
	refused(text, "queues");
	refused("/proc,tag=x", "/proc");
	refused("/sys,tag=x", "/sys");
	refused("/dev/null,tag=x", "/dev/null");
	ck_assert_int_eq(mkfifo(host("outside/fifo"), 0644), 0);
	snprintf(text, sizeof(text), "%s,tag=x", host("outside/fifo"));
	refused(text, "fifo");
	if (!IS_ROOT()) {
		snprintf(text, sizeof(text), "%s,tag=x,ids=host", share);
		refused(text, "root");
	}
}
END_TEST

START_TEST(configuration)
{
	struct virtio_fs_config config;
	char text[512];

	snprintf(text, sizeof(text), "%s,tag=%s,queues=3", share, name_of(36));
	ck_assert_int_eq(fc_make(&c, text), 0);
	ck_assert_uint_eq(c.vdev->nqueues, 4);
	ck_assert_uint_eq(c.vdev->ops->id, 26);
	driver_config_read(&c.d, 0, &config, sizeof(config));
	ck_assert_mem_eq(config.tag, name_of(36), 36);
	ck_assert_uint_eq(config.num_request_queues, 3);
	/* Read-only to the driver. */
	driver_config_write(&c.d, 0, "XXXX", 4);
	driver_config_read(&c.d, 0, &config, sizeof(config));
	ck_assert_mem_eq(config.tag, name_of(36), 36);
}
END_TEST

/* All queues serve, with any layout of the descriptors. */
START_TEST(queues)
{
	struct fuse_entry_out e;
	uint32_t len;

	host_file("share/a", "1");
	bed_start(",queues=4");
	ck_assert_uint_eq(c.vdev->nqueues, 5);
	for (c.q = 1; c.q <= 4; c.q++) {
		ck_good(fc_lookup(&c, ROOT, "a", &e));
		ck_assert_uint_eq(e.attr.size, 1);
	}
	c.q = 1;
	for (uint32_t piece = 1; piece <= 43; piece++) {
		len = fc_put(&c, FUSE_LOOKUP, ROOT, NULL, 0, "a", 2);
		ck_assert_int_eq(fc_answer(&c, fc_send(&c, len, piece, 16 + sizeof(e))), sizeof(e));
	}
}
END_TEST

/* --- FUSE_INIT --- */

START_TEST(init)
{
	bed_start("");
	ck_assert_uint_ge(c.init.minor, 27);
	ck_assert_uint_ge(c.init.max_write, 128 << 10);
	ck_assert_uint_le(c.init.max_write, FC_DATA_MAX);
	ck_assert_uint_ne(c.flags & FUSE_MAX_PAGES, 0);
	ck_assert_uint_ge(c.init.max_pages * 4096u, c.init.max_write);
	ck_assert_uint_ne(c.flags & FUSE_BIG_WRITES, 0);
	ck_assert_uint_ne(c.flags & FUSE_ATOMIC_O_TRUNC, 0);
	ck_assert_uint_ne(c.flags & FUSE_DO_READDIRPLUS, 0);
	/* Locks stay in the guest; without open we would not know what is open. */
	ck_assert_uint_eq(c.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_NO_OPEN_SUPPORT |
				     FUSE_NO_OPENDIR_SUPPORT),
			  0);
	/* Nothing that was not offered. */
	ck_assert_uint_eq(c.flags & ~(uint64_t)FC_INIT_FLAGS, 0);
	ck_assert_int_gt(fc_init_with(&c, 7, 31, 0), 0);
	ck_assert_uint_eq(c.flags & ~(uint64_t)FUSE_INIT_EXT, 0);
	ck_assert_uint_eq(driver_latencies(&c.d), 2);
}
END_TEST

START_TEST(init_versions)
{
	struct fuse_attr attr;
	uint64_t a;
	int r;

	host_file("share/a", "1");
	bed_start("");
	a = fc_node(&c, "a");
	/* A newer major version is told ours, and tries again. */
	r = fc_init_with(&c, 8, 0, FC_INIT_FLAGS);
	ck_assert_int_gt(r, 0);
	ck_assert_uint_eq(c.init.major, 7);
	/* An older one is refused. */
	ck_assert_int_lt(fc_init_with(&c, 6, 0, 0), 0);
	/* A new INIT forgets everything. */
	ck_assert_int_gt(fc_init_with(&c, 7, 41, FC_INIT_FLAGS), 0);
	r = fc_getattr(&c, a, FC_NO_FH, &attr);
	ck_assert_msg(r == -ESTALE || r == -EINVAL || r == -ENOENT, "%d", r);
	ck_good(fc_getattr(&c, ROOT, FC_NO_FH, &attr));
}
END_TEST

/* Before INIT, and after DESTROY, there is nothing. */
START_TEST(init_first)
{
	struct fuse_entry_out e;
	char text[512];
	uint64_t fh;

	host_file("share/a", "1");
	snprintf(text, sizeof(text), "%s,tag=x", share);
	ck_assert_int_eq(fc_make(&c, text), 0);
	fc_drive(&c);
	ck_assert_int_lt(fc_lookup(&c, ROOT, "a", &e), 0);
	ck_assert_int_lt(fc_opendir(&c, ROOT, &fh), 0);
	ck_assert_int_gt(fc_init_with(&c, 7, 41, FC_INIT_FLAGS), 0);
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	ck_assert_int_eq(fc_call(&c, FUSE_DESTROY, 0, NULL, 0, NULL, 0, NULL, 0), 0);
	ck_assert_int_lt(fc_getattr(&c, e.nodeid, FC_NO_FH, NULL), 0);
	ck_assert_int_gt(fc_init_with(&c, 7, 41, FC_INIT_FLAGS), 0);
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	/* The device's own reset, and a new life: as after a guest's reboot. */
	fc_start(&c);
	ck_assert_int_lt(fc_getattr(&c, e.nodeid, FC_NO_FH, NULL), 0);
	ck_good(fc_lookup(&c, ROOT, "a", &e));
}
END_TEST

/* --- Names --- */

START_TEST(lookup)
{
	struct fuse_entry_out e, again, sub;
	struct stat st;

	host_dir("share/dir");
	host_file("share/dir/file", "hello");
	host_link("share/link", "dir/file");
	ck_assert_int_eq(mkfifo(host("share/fifo"), 0640), 0);
	bed_start("");
	ck_good(fc_lookup(&c, ROOT, "dir", &e));
	same_attr(&e.attr, "share/dir");
	ck_good(fc_lookup(&c, e.nodeid, "file", &sub));
	same_attr(&sub.attr, "share/dir/file");
	ck_good(fc_lookup(&c, e.nodeid, "file", &again));
	ck_assert_uint_eq(again.nodeid, sub.nodeid);
	ck_assert_uint_eq(again.generation, sub.generation);
	ck_good(fc_lookup(&c, ROOT, "link", &e));
	ck_assert(S_ISLNK(e.attr.mode));
	same_attr(&e.attr, "share/link");
	ck_good(fc_lookup(&c, ROOT, "fifo", &e));
	ck_assert(S_ISFIFO(e.attr.mode));
	ck_err(fc_lookup(&c, ROOT, "nothing", &e), ENOENT);
	ck_err(fc_lookup(&c, sub.nodeid, "x", &e), ENOTDIR);
	ck_err(fc_lookup(&c, ROOT, name_of(256), &e), ENAMETOOLONG);
	ck_err(fc_lookup(&c, ROOT, name_of(255), &e), ENOENT);
	ck_good(fc_getattr(&c, ROOT, FC_NO_FH, &e.attr));
	st = host_stat("share");
	ck_assert_uint_eq(e.attr.mode, st.st_mode);
}
END_TEST

/* A hard link is the same node, whatever its name. */
START_TEST(hard_links)
{
	struct fuse_entry_out a, b, e;
	struct fuse_attr attr;

	host_file("share/a", "1");
	host_dir("share/d");
	bed_start("");
	ck_good(fc_lookup(&c, ROOT, "a", &a));
	ck_good(fc_link(&c, a.nodeid, fc_node(&c, "d"), "b", &b));
	ck_assert_uint_eq(a.nodeid, b.nodeid);
	ck_assert_uint_eq(b.attr.nlink, 2);
	ck_assert_uint_eq(host_stat("share/d/b").st_ino, host_stat("share/a").st_ino);
	ck_err(fc_link(&c, a.nodeid, ROOT, "a", &e), EEXIST);
	ck_good(fc_unlink(&c, ROOT, "a"));
	ck_good(fc_getattr(&c, b.nodeid, FC_NO_FH, &attr));
	ck_assert_uint_eq(attr.nlink, 1);
	/* Not of a folder. */
	ck_assert_int_lt(fc_link(&c, fc_node(&c, "d"), ROOT, "d2", &e), 0);
	/* A symlink has names, too. */
	ck_good(fc_symlink(&c, ROOT, "s", "nowhere", &e));
	ck_good(fc_link(&c, e.nodeid, ROOT, "s2", &b));
	ck_assert(S_ISLNK(host_stat("share/s2").st_mode));
}
END_TEST

/* Lookup counts: a node lives until all its lookups are forgotten, and no count goes below. */
START_TEST(forgetting)
{
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[3];
	} batch = { .in.count = 3 };
	struct fuse_entry_out e;
	struct fuse_attr attr;
	uint64_t a, b;

	host_file("share/a", "1");
	host_file("share/b", "2");
	bed_start("");
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	a = e.nodeid;
	fc_forget(&c, a, 1);
	ck_good(fc_getattr(&c, a, FC_NO_FH, &attr));
	fc_forget(&c, a, 1);
	ck_assert_int_lt(fc_getattr(&c, a, FC_NO_FH, &attr), 0);
	fc_forget(&c, a, 1);
	/* Found anew, under another id or this one, it is alive. */
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	ck_assert_uint_ne(e.nodeid, a);
	ck_good(fc_getattr(&c, e.nodeid, FC_NO_FH, &attr));
	fc_forget(&c, e.nodeid, ~0ull);
	ck_assert_int_lt(fc_getattr(&c, e.nodeid, FC_NO_FH, &attr), 0);
	/* The root stays. */
	fc_forget(&c, ROOT, ~0ull);
	fc_forget(&c, ROOT, 1);
	ck_good(fc_getattr(&c, ROOT, FC_NO_FH, &attr));
	/* Several, one of them not known. */
	a = fc_node(&c, "a");
	b = fc_node(&c, "b");
	batch.one[0] = (struct fuse_forget_one){ a, 1 };
	batch.one[1] = (struct fuse_forget_one){ 12345678901234, 1 };
	batch.one[2] = (struct fuse_forget_one){ b, 1 };
	c.q = 0;
	ck_assert_int_eq(
		fc_send(&c, fc_put(&c, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0), 0, 0),
		0);
	/* More than there are; the answer must be nothing either way. */
	batch.in.count = 0xffffffff;
	ck_assert_int_eq(
		fc_send(&c, fc_put(&c, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0), 0, 0),
		0);
	c.q = 1;
	ck_assert_int_lt(fc_getattr(&c, a, FC_NO_FH, &attr), 0);
	ck_assert_int_lt(fc_getattr(&c, b, FC_NO_FH, &attr), 0);
	ck_good(fc_lookup(&c, ROOT, "a", &e));
}
END_TEST

START_TEST(timeouts)
{
	static const char *const keys[] = { "", ",cache=auto", ",cache=always", ",cache=never" };

	host_file("share/a", "1");
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct fuse_entry_out e, none;
		struct fuse_open_out open;
		int r;

		bed_start(keys[i]);
		ck_good(fc_lookup(&c, ROOT, "a", &e));
		r = fc_lookup(&c, ROOT, "none", &none);
		ck_good(fc_open_as(&c, FUSE_OPEN, e.nodeid, O_RDONLY, &open));
		if (i == 2) {
			ck_assert_uint_gt(e.entry_valid, 60);
			ck_assert_uint_gt(e.attr_valid, 60);
			ck_assert_uint_ne(open.open_flags & FOPEN_KEEP_CACHE, 0);
			/* It may be remembered that it is not there. */
			ck_assert(r == -ENOENT || (r == 0 && none.nodeid == 0));
		} else {
			ck_err(r, ENOENT);
			ck_assert_uint_eq(e.entry_valid, i == 3 ? 0 : 1);
			ck_assert_uint_eq(e.attr_valid, i == 3 ? 0 : 1);
		}
		if (i == 3) {
			ck_assert_uint_eq(e.entry_valid_nsec, 0);
			ck_assert_uint_eq(e.attr_valid_nsec, 0);
			ck_assert_uint_ne(open.open_flags & FOPEN_DIRECT_IO, 0);
			ck_assert_uint_eq(c.flags & FUSE_WRITEBACK_CACHE, 0);
		} else {
			ck_assert_uint_eq(open.open_flags & FOPEN_DIRECT_IO, 0);
		}
		fc_stop(&c);
	}
}
END_TEST

/* The cache of a file that did not change is kept; of one that did, it is not. */
START_TEST(keep_cache)
{
	struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	struct fuse_open_out open;
	uint64_t a;

	host_file("share/a", "1");
	bed_start(",cache=auto");
	a = fc_node(&c, "a");
	ck_good(fc_open_as(&c, FUSE_OPEN, a, O_RDONLY, &open));
	ck_good(fc_release(&c, a, open.fh));
	ck_good(fc_open_as(&c, FUSE_OPEN, a, O_RDONLY, &open));
	ck_assert_uint_ne(open.open_flags & FOPEN_KEEP_CACHE, 0);
	ck_good(fc_release(&c, a, open.fh));
	host_file("share/a", "22");
	ck_assert_int_eq(utimensat(AT_FDCWD, host("share/a"), old, 0), 0);
	ck_good(fc_open_as(&c, FUSE_OPEN, a, O_RDONLY, &open));
	ck_assert_uint_eq(open.open_flags & FOPEN_KEEP_CACHE, 0);
	ck_assert_str_eq(guest_text(a), "22");
}
END_TEST

/* --- Attributes --- */

START_TEST(modes)
{
	struct fuse_attr attr;
	uint64_t a, d;

	host_file("share/a", "1");
	host_dir("share/d");
	bed_start("");
	a = fc_node(&c, "a");
	d = fc_node(&c, "d");
	for (uint32_t mode = 0; mode < 01000; mode += 0111) {
		ck_good(fc_chmod(&c, a, mode));
		ck_assert_uint_eq(host_stat("share/a").st_mode, S_IFREG | mode);
	}
	ck_good(fc_chmod(&c, a, 04755));
	ck_assert_uint_eq(host_stat("share/a").st_mode, S_IFREG | 04755);
	ck_good(fc_chmod(&c, d, 01777));
	ck_assert_uint_eq(host_stat("share/d").st_mode, S_IFDIR | 01777);
	ck_good(fc_getattr(&c, d, FC_NO_FH, &attr));
	same_attr(&attr, "share/d");
	/* What the mode says of the type is not taken. */
	ck_good(fc_chmod(&c, a, S_IFCHR | 0600));
	ck_assert_uint_eq(host_stat("share/a").st_mode, S_IFREG | 0600);
}
END_TEST

START_TEST(times)
{
	struct fuse_setattr_in in = { .valid = FATTR_ATIME | FATTR_MTIME,
				      .atime = 1000000000,
				      .atimensec = 123456789,
				      .mtime = 1100000000,
				      .mtimensec = 987654321 };
	struct fuse_entry_out e;
	struct fuse_attr attr;
	struct stat st;
	uint64_t a, l;

	host_file("share/a", "1");
	host_link("share/l", "a");
	bed_start("");
	a = fc_node(&c, "a");
	l = fc_node(&c, "l");
	ck_good(fc_setattr(&c, a, &in, &attr));
	st = host_stat("share/a");
	ck_assert_int_eq(st.st_atim.tv_sec, 1000000000);
	ck_assert_int_eq(st.st_atim.tv_nsec, 123456789);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1100000000);
	ck_assert_int_eq(st.st_mtim.tv_nsec, 987654321);
	same_attr(&attr, "share/a");
	/* One of the two; the other stays. */
	in.valid = FATTR_MTIME;
	in.mtime = 5;
	ck_good(fc_setattr(&c, a, &in, NULL));
	st = host_stat("share/a");
	ck_assert_int_eq(st.st_atim.tv_sec, 1000000000);
	ck_assert_int_eq(st.st_mtim.tv_sec, 5);
	in.valid = FATTR_ATIME | FATTR_ATIME_NOW;
	ck_good(fc_setattr(&c, a, &in, NULL));
	st = host_stat("share/a");
	ck_assert_int_gt(st.st_atim.tv_sec, 1700000000);
	ck_assert_int_eq(st.st_mtim.tv_sec, 5);
	/* Of a symlink: its own, not its target's. */
	in.valid = FATTR_ATIME | FATTR_MTIME;
	in.atime = in.mtime = 77;
	ck_good(fc_setattr(&c, l, &in, NULL));
	ck_assert_int_eq(host_stat("share/l").st_mtim.tv_sec, 77);
	ck_assert_int_eq(host_stat("share/a").st_mtim.tv_sec, 5);
	/* Nanoseconds that are none: UTIME_NOW and UTIME_OMIT among them. */
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t ns[] = { 1000000000, UTIME_NOW, UTIME_OMIT };

		in.atimensec = in.mtimensec = ns[i];
		ck_err(fc_setattr(&c, a, &in, NULL), EINVAL);
	}
	ck_assert_int_eq(host_stat("share/a").st_mtim.tv_sec, 5);
	ck_good(fc_lookup(&c, ROOT, "l", &e));
}
END_TEST

START_TEST(statx_and_statfs)
{
	struct fuse_statfs_out fs = { 0 };
	struct fuse_statx stat;
	struct stat st;
	int r;

	host_file("share/a", "12345");
	bed_start("");
	st = host_stat("share/a");
	r = fc_statx(&c, fc_node(&c, "a"), &stat);
	/* A guest asks by GETATTR when there is no STATX. */
	ck_assert(r == 0 || r == -ENOSYS);
	if (r == 0) {
		ck_assert_uint_eq(stat.size, 5);
		ck_assert_uint_eq(stat.ino, st.st_ino);
		ck_assert_uint_eq(stat.mode, st.st_mode);
		ck_assert_int_eq(stat.mtime.tv_sec, st.st_mtim.tv_sec);
		ck_assert_uint_ne(stat.mask & STATX_SIZE, 0);
	}
	ck_assert_int_eq(fc_call(&c, FUSE_STATFS, ROOT, NULL, 0, NULL, 0, &fs, sizeof(fs)),
			 sizeof(fs));
	ck_assert_uint_gt(fs.st.blocks, 0);
	ck_assert_uint_gt(fs.st.bsize, 0);
	ck_assert_uint_eq(fs.st.namelen, 255);
	r = fc_call(&c, FUSE_SYNCFS, ROOT, &(struct fuse_syncfs_in){ 0 },
		    sizeof(struct fuse_syncfs_in), NULL, 0, NULL, 0);
	ck_good(r);
}
END_TEST

/* --- Making and removing --- */

START_TEST(making)
{
	struct fuse_entry_out e;
	char target[4096];

	bed_start("");
	ck_good(fc_mkdir(&c, ROOT, "d", 0750, &e));
	ck_assert_uint_eq(host_stat("share/d").st_mode, S_IFDIR | 0750);
	same_attr(&e.attr, "share/d");
	ck_err(fc_mkdir(&c, ROOT, "d", 0750, &e), EEXIST);
	ck_good(fc_mknod(&c, ROOT, "f", S_IFREG | 0640, 0, &e));
	ck_assert_uint_eq(host_stat("share/f").st_mode, S_IFREG | 0640);
	ck_err(fc_mknod(&c, ROOT, "f", S_IFREG | 0640, 0, &e), EEXIST);
	ck_good(fc_mknod(&c, ROOT, "p", S_IFIFO | 0600, 0, &e));
	ck_assert_uint_eq(host_stat("share/p").st_mode, S_IFIFO | 0600);
	ck_good(fc_mknod(&c, ROOT, "s", S_IFSOCK | 0600, 0, &e));
	ck_assert(S_ISSOCK(host_stat("share/s").st_mode));
	ck_good(fc_symlink(&c, ROOT, "l", "../../wherever/it is", &e));
	ck_assert(S_ISLNK(e.attr.mode));
	ck_assert_int_eq(fc_readlink(&c, e.nodeid, target, sizeof(target)), 20);
	ck_assert_str_eq(target, "../../wherever/it is");
	ck_err(fc_symlink(&c, ROOT, "l", "x", &e), EEXIST);
	ck_err(fc_readlink(&c, fc_node(&c, "f"), target, sizeof(target)), EINVAL);
	/* The guest's umask was applied by the guest: ours (022) is not. */
	ck_good(fc_mkdir(&c, ROOT, "open", 0777, &e));
	ck_assert_uint_eq(host_stat("share/open").st_mode & 0777, 0777);
	ck_good(fc_mknod(&c, ROOT, "openfile", S_IFREG | 0666, 0, &e));
	ck_assert_uint_eq(host_stat("share/openfile").st_mode & 0777, 0666);
	ck_err(fc_mkdir(&c, fc_node(&c, "f"), "x", 0755, &e), ENOTDIR);
	ck_good(fc_mkdir(&c, fc_node(&c, "d"), NAME_255, 0755, &e));
	ck_err(fc_mkdir(&c, fc_node(&c, "d"), name_of(256), 0755, &e), ENAMETOOLONG);
}
END_TEST

START_TEST(removing)
{
	struct fuse_entry_out e;

	host_dir("share/d");
	host_dir("share/d/e");
	host_file("share/f", "1");
	bed_start("");
	ck_err(fc_rmdir(&c, ROOT, "d"), ENOTEMPTY);
	ck_err(fc_rmdir(&c, ROOT, "f"), ENOTDIR);
	ck_err(fc_unlink(&c, ROOT, "d"), EISDIR);
	ck_err(fc_unlink(&c, ROOT, "none"), ENOENT);
	ck_err(fc_rmdir(&c, ROOT, "none"), ENOENT);
	ck_good(fc_unlink(&c, ROOT, "f"));
	ck_good(fc_rmdir(&c, fc_node(&c, "d"), "e"));
	ck_good(fc_rmdir(&c, ROOT, "d"));
	ck_assert(!host_has("share/d") && !host_has("share/f"));
	ck_err(fc_lookup(&c, ROOT, "f", &e), ENOENT);
}
END_TEST

/* A folder that is gone but still held. */
START_TEST(removed_folder)
{
	struct fuse_entry_out d, e;
	char data[1024];
	uint64_t fh;
	int r;

	bed_start("");
	ck_good(fc_mkdir(&c, ROOT, "d", 0755, &d));
	ck_good(fc_opendir(&c, d.nodeid, &fh));
	ck_good(fc_rmdir(&c, ROOT, "d"));
	ck_err(fc_mkdir(&c, d.nodeid, "x", 0755, &e), ENOENT);
	ck_err(fc_lookup(&c, d.nodeid, "x", &e), ENOENT);
	/* Nothing, or as Linux lists a folder that is gone. */
	r = fc_readdir_as(&c, FUSE_READDIR, d.nodeid, fh, 0, data, sizeof(data));
	ck_assert(r == 0 || r == -ENOENT);
	ck_good(fc_getattr(&c, d.nodeid, FC_NO_FH, &e.attr));
	ck_assert_uint_eq(e.attr.nlink, 0);
	ck_good(fc_release_as(&c, FUSE_RELEASEDIR, d.nodeid, fh));
}
END_TEST

START_TEST(renaming)
{
	struct fuse_entry_out e;
	uint64_t a, d, fh;

	host_file("share/a", "a");
	host_file("share/b", "b");
	host_dir("share/d");
	host_dir("share/e");
	bed_start("");
	a = fc_node(&c, "a");
	d = fc_node(&c, "d");
	ck_good(fc_rename(&c, ROOT, "a", d, "a2", 0));
	ck_assert(!host_has("share/a") && host_has("share/d/a2"));
	ck_good(fc_lookup(&c, d, "a2", &e));
	ck_assert_uint_eq(e.nodeid, a);
	/* Over a file that is open: it stays readable. */
	ck_good(fc_open(&c, fc_node(&c, "b"), O_RDONLY, &fh));
	ck_good(fc_rename(&c, d, "a2", ROOT, "b", 0));
	ck_assert_str_eq(host_text("share/b"), "a");
	ck_err(fc_rename(&c, ROOT, "none", ROOT, "x", 0), ENOENT);
	ck_err(fc_rename(&c, ROOT, "b", ROOT, "d", 0), EISDIR);
	ck_err(fc_rename(&c, ROOT, "d", ROOT, "b", 0), ENOTDIR);
	ck_err(fc_rename(&c, ROOT, "d", d, "x", 0), EINVAL);
	ck_good(fc_rename(&c, ROOT, "e", ROOT, "d", 0));
	ck_assert(host_has("share/d") && !host_has("share/e"));
}
END_TEST

/* The handle of a file that something was renamed over reads what it was. */
START_TEST(renaming_over_open)
{
	uint64_t b, fh;
	struct fuse_attr attr;
	char text[8] = "";

	host_file("share/a", "aaa");
	host_file("share/b", "b");
	bed_start("");
	b = fc_node(&c, "b");
	ck_good(fc_open(&c, b, O_RDWR, &fh));
	ck_good(fc_rename(&c, ROOT, "a", ROOT, "b", 0));
	ck_assert_int_eq(fc_read(&c, b, fh, 0, text, 7), 1);
	ck_assert_str_eq(text, "b");
	ck_assert_int_eq(fc_write(&c, b, fh, 1, "more", 4), 4);
	ck_good(fc_getattr(&c, b, fh, &attr));
	ck_assert_uint_eq(attr.size, 5);
	ck_assert_uint_eq(attr.nlink, 0);
	ck_assert_str_eq(host_text("share/b"), "aaa");
	ck_good(fc_release(&c, b, fh));
}
END_TEST

START_TEST(rename_flags)
{
	uint64_t d;

	host_file("share/a", "a");
	host_file("share/b", "b");
	host_dir("share/d");
	bed_start("");
	d = fc_node(&c, "d");
	ck_err(fc_rename(&c, ROOT, "a", ROOT, "b", RENAME_NOREPLACE), EEXIST);
	ck_good(fc_rename(&c, ROOT, "a", d, "a", RENAME_NOREPLACE));
	ck_good(fc_rename(&c, d, "a", ROOT, "b", RENAME_EXCHANGE));
	ck_assert_str_eq(host_text("share/b"), "a");
	ck_assert_str_eq(host_text("share/d/a"), "b");
	ck_err(fc_rename(&c, ROOT, "b", ROOT, "none", RENAME_EXCHANGE), ENOENT);
	ck_err(fc_rename(&c, ROOT, "b", ROOT, "x", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	ck_err(fc_rename(&c, ROOT, "b", ROOT, "x", 0x80), EINVAL);
	ck_err(fc_rename(&c, ROOT, "b", ROOT, "x", 0xfffffff8), EINVAL);
	ck_assert(host_has("share/b") && !host_has("share/x"));
	if (fc_rename(&c, ROOT, "b", ROOT, "w", RENAME_WHITEOUT) == 0) {
		ck_assert_str_eq(host_text("share/w"), "a");
		ck_assert(S_ISCHR(host_stat("share/b").st_mode));
		ck_assert_uint_eq(host_stat("share/b").st_rdev, 0);
	}
}
END_TEST

/* --- Extended attributes --- */

START_TEST(xattrs)
{
	char value[256] = "", list[256];
	uint64_t a;
	int n;

	host_file("share/a", "1");
	SKIP_UNLESS(setxattr(host("share/a"), "user.try", "1", 1, 0) == 0,
		    "this file system has no user xattrs");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_setxattr(&c, a, "user.one", "value", 5, 0));
	ck_assert_int_eq(getxattr(host("share/a"), "user.one", value, sizeof(value)), 5);
	ck_assert_mem_eq(value, "value", 5);
	ck_assert_int_eq(fc_getxattr(&c, a, "user.one", value, 0), 5);
	ck_assert_int_eq(fc_getxattr(&c, a, "user.one", value, 100), 5);
	ck_err(fc_getxattr(&c, a, "user.one", value, 4), ERANGE);
	ck_err(fc_getxattr(&c, a, "user.none", value, 100), ENODATA);
	ck_err(fc_setxattr(&c, a, "user.one", "x", 1, XATTR_CREATE), EEXIST);
	ck_err(fc_setxattr(&c, a, "user.two", "x", 1, XATTR_REPLACE), ENODATA);
	ck_good(fc_setxattr(&c, a, "user.empty", "", 0, 0));
	ck_assert_int_eq(fc_getxattr(&c, a, "user.empty", value, 100), 0);
	n = fc_listxattr(&c, a, list, sizeof(list));
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(fc_listxattr(&c, a, list, 0), n);
	ck_assert_ptr_nonnull(memmem(list, (size_t)n, "user.one", 9));
	ck_assert_ptr_nonnull(memmem(list, (size_t)n, "user.empty", 11));
	ck_err(fc_listxattr(&c, a, list, 5), ERANGE);
	ck_good(fc_removexattr(&c, a, "user.one"));
	ck_err(fc_removexattr(&c, a, "user.one"), ENODATA);
	/* Of a folder, too. */
	ck_good(fc_setxattr(&c, ROOT, "user.dir", "d", 1, 0));
	ck_assert_int_eq(getxattr(share, "user.dir", value, sizeof(value)), 1);
	ck_assert_int_lt(fc_setxattr(&c, a, "user.big", bed, 64, 0xff), 0);
}
END_TEST

/* --- Read-only, and a single file --- */

START_TEST(read_only)
{
	struct fuse_setattr_in old = { .valid = FATTR_MTIME | FATTR_ATIME, .mtime = 1 };
	struct fuse_entry_out e;
	struct fc_created file;
	uint64_t a, fh, list;
	char data[4096];
	struct stat before, after;

	host_file("share/a", "text");
	host_dir("share/d");
	before = host_stat("share/a");
	bed_start(",ro");
	a = fc_node(&c, "a");
	ck_assert_str_eq(guest_text(a), "text");
	ck_err(fc_open(&c, a, O_RDWR, &fh), EROFS);
	ck_err(fc_open(&c, a, O_WRONLY, &fh), EROFS);
	ck_err(fc_open(&c, a, O_RDONLY | O_TRUNC, &fh), EROFS);
	ck_err(fc_create(&c, ROOT, "new", O_RDWR, 0644, &file), EROFS);
	ck_err(fc_create(&c, ROOT, "a", O_RDWR, 0644, &file), EROFS);
	ck_err(fc_tmpfile(&c, ROOT, O_RDWR, 0644, &file), EROFS);
	ck_err(fc_mkdir(&c, ROOT, "new", 0755, &e), EROFS);
	ck_err(fc_mknod(&c, ROOT, "new", S_IFREG | 0644, 0, &e), EROFS);
	ck_err(fc_symlink(&c, ROOT, "new", "x", &e), EROFS);
	ck_err(fc_link(&c, a, ROOT, "new", &e), EROFS);
	ck_err(fc_unlink(&c, ROOT, "a"), EROFS);
	ck_err(fc_rmdir(&c, ROOT, "d"), EROFS);
	ck_err(fc_rename(&c, ROOT, "a", ROOT, "b", 0), EROFS);
	ck_err(fc_rename(&c, ROOT, "a", ROOT, "d", RENAME_EXCHANGE), EROFS);
	ck_err(fc_chmod(&c, a, 0600), EROFS);
	ck_err(fc_chown(&c, a, 0, 0), EROFS);
	ck_err(fc_truncate(&c, a, FC_NO_FH, 0), EROFS);
	ck_err(fc_setattr(&c, a, &old, NULL), EROFS);
	ck_err(fc_setxattr(&c, a, "user.x", "1", 1, 0), EROFS);
	ck_err(fc_removexattr(&c, a, "user.x"), EROFS);
	ck_good(fc_open(&c, a, O_RDONLY, &fh));
	ck_assert_int_lt(fc_write(&c, a, fh, 0, "X", 1), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 0, 100, 0), 0);
	ck_assert_int_lt(fc_truncate(&c, a, fh, 0), 0);
	ck_assert_int_lt(fc_copy_range(&c,
				       &(struct fuse_copy_file_range_in){ .fh_in = fh,
									  .nodeid_out = a,
									  .fh_out = fh,
									  .off_out = 10,
									  .len = 2 },
				       a),
			 0);
	ck_good(fc_release(&c, a, fh));
	ck_good(fc_opendir(&c, ROOT, &list));
	ck_assert_int_gt(fc_readdir_as(&c, FUSE_READDIR, ROOT, list, 0, data, sizeof(data)), 0);
	after = host_stat("share/a");
	ck_assert_mem_eq(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	ck_assert_mem_eq(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim));
	ck_assert_uint_eq(after.st_size, 4);
}
END_TEST

START_TEST(single_file)
{
	struct fuse_entry_out e;
	struct fc_created file;
	char text[512], data[4096];
	const struct fuse_dirent *d;
	unsigned names = 0;
	uint64_t fh, a;
	int n, at = 0;

	host_file("share/a", "text");
	host_file("share/b", "other");
	snprintf(text, sizeof(text), "%s/a,tag=x", share);
	ck_assert_msg(fc_make(&c, text) == 0, "%s", c.err.msg);
	fc_start(&c);
	ck_good(fc_getattr(&c, ROOT, FC_NO_FH, &e.attr));
	ck_assert(S_ISDIR(e.attr.mode));
	a = fc_node(&c, "a");
	ck_assert_str_eq(guest_text(a), "text");
	ck_err(fc_lookup(&c, ROOT, "b", &e), ENOENT);
	ck_good(fc_opendir(&c, ROOT, &fh));
	n = fc_readdir_as(&c, FUSE_READDIR, ROOT, fh, 0, data, sizeof(data));
	while ((d = fc_dirent(data, n, &at, false, NULL)) != NULL) {
		if (d->namelen == 1 && d->name[0] == '.')
			continue;
		if (d->namelen == 2 && d->name[0] == '.' && d->name[1] == '.')
			continue;
		ck_assert_uint_eq(d->namelen, 1);
		ck_assert_int_eq(d->name[0], 'a');
		names++;
	}
	ck_assert_uint_eq(names, 1);
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_assert_int_eq(fc_write(&c, a, fh, 0, "TEXT", 4), 4);
	ck_assert_str_eq(host_text("share/a"), "TEXT");
	ck_assert_int_lt(fc_create(&c, ROOT, "b", O_RDWR, 0644, &file), 0);
	ck_assert_int_lt(fc_create(&c, ROOT, "n", O_RDWR, 0644, &file), 0);
	ck_assert_int_lt(fc_tmpfile(&c, ROOT, O_RDWR, 0644, &file), 0);
	ck_assert_int_lt(fc_mkdir(&c, ROOT, "n", 0755, &e), 0);
	ck_assert_int_lt(fc_mknod(&c, ROOT, "n", S_IFREG | 0644, 0, &e), 0);
	ck_assert_int_lt(fc_symlink(&c, ROOT, "n", "b", &e), 0);
	ck_assert_int_lt(fc_link(&c, a, ROOT, "n", &e), 0);
	ck_assert_int_lt(fc_unlink(&c, ROOT, "a"), 0);
	ck_assert_int_lt(fc_unlink(&c, ROOT, "b"), 0);
	ck_assert_int_lt(fc_rename(&c, ROOT, "a", ROOT, "b", 0), 0);
	ck_assert_int_lt(fc_rename(&c, ROOT, "b", ROOT, "a", 0), 0);
	ck_assert_int_lt(fc_rename(&c, ROOT, "a", ROOT, "b", RENAME_EXCHANGE), 0);
	ck_assert_str_eq(host_text("share/b"), "other");
	ck_assert(!host_has("share/n"));
	/* The root is made up: the folder it lies in is not to be changed through it. */
	(void)fc_chmod(&c, ROOT, 0);
	(void)fc_setxattr(&c, ROOT, "user.x", "1", 1, 0);
	ck_assert_uint_eq(host_stat("share").st_mode, S_IFDIR | 0755);
	ck_assert_int_lt(getxattr(share, "user.x", data, 8), 0);
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs", &tc);

	tcase_add_test(tc, options);
	tcase_add_test(tc, configuration);
	tcase_add_test(tc, queues);
	tcase_add_test(tc, init);
	tcase_add_test(tc, init_versions);
	tcase_add_test(tc, init_first);
	tcase_add_test(tc, lookup);
	tcase_add_test(tc, hard_links);
	tcase_add_test(tc, forgetting);
	tcase_add_test(tc, timeouts);
	tcase_add_test(tc, keep_cache);
	tcase_add_test(tc, modes);
	tcase_add_test(tc, times);
	tcase_add_test(tc, statx_and_statfs);
	tcase_add_test(tc, making);
	tcase_add_test(tc, removing);
	tcase_add_test(tc, removed_folder);
	tcase_add_test(tc, renaming);
	tcase_add_test(tc, renaming_over_open);
	tcase_add_test(tc, rename_flags);
	tcase_add_test(tc, xattrs);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, single_file);
	return test_run(s);
}
