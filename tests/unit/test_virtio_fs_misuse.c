// SPDX-License-Identifier: Apache-2.0
/*
 * Ways out of a shared folder, see test_virtio_fs_escape.h: files that are none, another share's
 * ids, requests and attributes that say what no kernel would.
 */
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include "tests/unit/test_virtio_fs_escape.h"

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
	/* The guest's kernel opens devices itself; here there is but a file of ours. */
	ck_good(fc_mknod(&c, ROOT, "sda", S_IFBLK | 0666, (uint32_t)makedev(8, 0), &e));
	ck_assert(S_ISREG(host_stat("share/sda").st_mode));
	ck_assert_uint_eq(host_stat("share/sda").st_mode & 06000, 0);
	attack_file(e.nodeid);
	safe();
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_misuse", &tc);

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
	return test_run(s);
}
