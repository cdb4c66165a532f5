// SPDX-License-Identifier: Apache-2.0
/*
 * Data in a shared folder: opening, creating, reading, writing, files without a name, holes,
 * copies, and listing folders.
 */
#include "tests/unit/test_virtio_fs.h"

static char *pattern(size_t n, unsigned seed)
{
	char *p = malloc(n);

	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = (char)(seed >> 16);
	}
	return p;
}

/* --- Opening --- */

START_TEST(creating)
{
	struct fc_created file;
	uint64_t fh;

	host_file("share/old", "old");
	bed_start("");
	ck_good(fc_create(&c, ROOT, "new", O_RDWR, 0640, &file));
	ck_assert_uint_eq(host_stat("share/new").st_mode, S_IFREG | 0640);
	ck_assert_uint_eq(file.entry.attr.mode, S_IFREG | 0640);
	ck_assert_int_eq(fc_write(&c, file.entry.nodeid, file.open.fh, 0, "x", 1), 1);
	/* With a mode that forbids what was just allowed: the handle works all the same. */
	ck_good(fc_create(&c, ROOT, "readonly", O_RDWR, 0444, &file));
	ck_assert_int_eq(fc_write(&c, file.entry.nodeid, file.open.fh, 0, "y", 1), 1);
	ck_assert_str_eq(host_text("share/readonly"), "y");
	/* Not O_EXCL: the one that is there. */
	ck_good(fc_create(&c, ROOT, "old", O_RDWR, 0600, &file));
	ck_assert_str_eq(host_text("share/old"), "old");
	ck_assert_uint_eq(host_stat("share/old").st_mode, S_IFREG | 0644);
	ck_good(fc_create(&c, ROOT, "old", O_RDWR | O_TRUNC, 0600, &file));
	ck_assert_str_eq(host_text("share/old"), "");
	ck_err(fc_create(&c, ROOT, "old", O_RDWR | O_EXCL, 0600, &file), EEXIST);
	/* A folder in the way. */
	host_dir("share/d");
	ck_err(fc_create(&c, ROOT, "d", O_RDWR, 0600, &file), EISDIR);
	ck_err(fc_open(&c, fc_node(&c, "d"), O_RDWR, &fh), EISDIR);
	ck_err(fc_opendir(&c, fc_node(&c, "old"), &fh), ENOTDIR);
	ck_err(fc_create(&c, fc_node(&c, "old"), "x", O_RDWR, 0600, &file), ENOTDIR);
	/* The guest's umask is the guest's. */
	ck_good(fc_create(&c, ROOT, "all", O_RDWR, 0666, &file));
	ck_assert_uint_eq(host_stat("share/all").st_mode & 0777, 0666);
}
END_TEST

START_TEST(open_modes)
{
	uint64_t a, fh;
	int r;
	char data[8] = "";

	host_file("share/a", "12345");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDONLY, &fh));
	ck_err(fc_write(&c, a, fh, 0, "x", 1), EBADF);
	ck_good(fc_release(&c, a, fh));
	/*
	 * With the guest's write-back cache a file opened for writing may be read (pages are
	 * completed), so both are right; but not both wrong.
	 */
	ck_good(fc_open(&c, a, O_WRONLY, &fh));
	ck_assert_int_eq(fc_write(&c, a, fh, 0, "x", 1), 1);
	if ((c.flags & FUSE_WRITEBACK_CACHE) == 0)
		ck_err(fc_read(&c, a, fh, 0, data, 5), EBADF);
	ck_good(fc_release(&c, a, fh));
	ck_good(fc_open(&c, a, O_RDWR | O_TRUNC, &fh));
	ck_assert_int_eq(fc_read(&c, a, fh, 0, data, 5), 0);
	ck_good(fc_release(&c, a, fh));
	/* O_APPEND is done by the guest, which says where; twice at 0 is twice at 0. */
	ck_good(fc_open(&c, a, O_RDWR | O_APPEND, &fh));
	ck_assert_int_eq(fc_write(&c, a, fh, 0, "abc", 3), 3);
	ck_assert_int_eq(fc_write(&c, a, fh, 0, "xyz", 3), 3);
	ck_assert_str_eq(host_text("share/a"), "xyz");
	r = fc_flush(&c, a, fh);
	/* Nothing is held back; a guest told so asks no more. */
	ck_assert(r == 0 || r == -ENOSYS);
	ck_good(fc_fsync(&c, a, fh, 0));
	ck_good(fc_fsync(&c, a, fh, FUSE_FSYNC_FDATASYNC));
	ck_good(fc_release(&c, a, fh));
}
END_TEST

/* --- Reading and writing --- */

START_TEST(sizes)
{
	static const uint32_t size[] = { 0, 1, 511, 512, 4095, 4096, 4097, 65536, 131072, 1 << 20 };
	char *out = pattern(1 << 20, 1), *back = malloc(1 << 20);
	struct fc_created file;
	uint64_t at = 0, fh, a;
	struct stat st;

	bed_start("");
	ck_good(fc_create(&c, ROOT, "a", O_RDWR, 0644, &file));
	fh = file.open.fh;
	a = file.entry.nodeid;
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		uint32_t n = size[i] < c.init.max_write ? size[i] : c.init.max_write;

		ck_assert_int_eq(fc_write(&c, a, fh, at, out, n), (int)n);
		memset(back, 0, 1 << 20);
		ck_assert_int_eq(fc_read(&c, a, fh, at, back, n), (int)n);
		ck_assert_int_eq(memcmp(out, back, n), 0);
		at += n + 7;
		st = host_stat("share/a");
		ck_assert_int_ge(st.st_size, (off_t)(n > 0 ? at - 7 : 0));
	}
	/* Past the end: short, then nothing. */
	at = (uint64_t)host_stat("share/a").st_size;
	ck_assert_int_eq(fc_read(&c, a, fh, at - 10, back, 4096), 10);
	ck_assert_int_eq(fc_read(&c, a, fh, at, back, 4096), 0);
	ck_assert_int_eq(fc_read(&c, a, fh, at + 123456, back, 4096), 0);
	/* A hole comes into being. */
	ck_assert_int_eq(fc_write(&c, a, fh, at + 100000, "end", 3), 3);
	ck_assert_int_eq(fc_read(&c, a, fh, at, back, 100), 100);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(back[i], 0);
	free(out);
	free(back);
}
END_TEST

/* What the host wrote is read, and the other way around, at once. */
START_TEST(both_sides)
{
	uint64_t a, fh;
	char data[16];

	host_file("share/a", "from the host");
	bed_start(",cache=never");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_assert_int_eq(fc_read(&c, a, fh, 0, data, sizeof(data)), 13);
	ck_assert_mem_eq(data, "from the host", 13);
	ck_assert_int_eq(fc_write(&c, a, fh, 5, "guests ..", 8), 8);
	ck_assert_str_eq(host_text("share/a"), "from guests .");
	host_file("share/a", "again");
	ck_assert_int_eq(fc_read(&c, a, fh, 0, data, sizeof(data)), 5);
}
END_TEST

/* Data may begin anywhere, lie across regions of memory, in pieces of any size. */
START_TEST(layouts)
{
	uint64_t a, fh, across = DRIVER_RAM - 1000, out = c.out;
	struct fuse_write_out w;
	struct fuse_read_in in;
	struct driver_buf buf[40];
	uint32_t len, used;

	host_file("share/a", "0123456789");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	/* Write: header, arguments and data in one descriptor; in pieces of 30 bytes. */
	for (unsigned piece = 30; piece < 400; piece += 61) {
		struct fuse_write_in win = { .fh = fh, .offset = 3, .size = 300 };
		char *data = pattern(300, piece);

		len = fc_put(&c, FUSE_WRITE, a, &win, sizeof(win), data, 300);
		ck_assert_int_eq(fc_answer(&c, fc_send(&c, len, piece, 16 + sizeof(w))), sizeof(w));
		ck_assert_int_eq(memcmp(host_text("share/a") + 3, data, 300), 0);
		free(data);
	}
	/* Read into memory across two regions. */
	in = (struct fuse_read_in){ .fh = fh, .offset = 0, .size = 300 };
	len = fc_put(&c, FUSE_READ, a, &in, sizeof(in), NULL, 0);
	buf[0] = (struct driver_buf){ c.in, len, false };
	buf[1] = (struct driver_buf){ across + 900, 400, true };
	driver_add(&c.d, 1, buf, 2);
	driver_kick(&c.d, 1);
	ck_assert(fc_wait(&c, 1, NULL, &used));
	ck_assert_uint_eq(used, 16 + 300);
	ck_assert_int_eq(memcmp(driver_ptr(&c.d, DRIVER_RAM, 200), host_text("share/a") + 84, 200),
			 0);
	/* Into many small pieces. */
	len = fc_put(&c, FUSE_READ, a, &in, sizeof(in), NULL, 0);
	buf[0] = (struct driver_buf){ c.in, len, false };
	for (unsigned i = 0; i < 32; i++)
		buf[1 + i] = (struct driver_buf){ out + i * 10, 10, true };
	memset(driver_ptr(&c.d, out, 330), 0x55, 330);
	driver_add(&c.d, 1, buf, 33);
	driver_kick(&c.d, 1);
	ck_assert(fc_wait(&c, 1, NULL, &used));
	ck_assert_uint_eq(used, 316);
	ck_assert_int_eq(memcmp(driver_ptr(&c.d, out + 16, 300), host_text("share/a"), 300), 0);
	ck_assert_uint_eq(*(uint8_t *)driver_ptr(&c.d, out + 320, 1), 0x55);
}
END_TEST

/* Many at once, on all queues, of several files: each comes back once, with its own data. */
START_TEST(in_flight)
{
	enum { N = 64 };
	uint64_t node[4], fh[4], in[N], out[N];
	char *data = pattern(4 * 16384, 7);
	bool seen[N] = { false };
	uint16_t head, heads[N];
	uint32_t used;

	for (unsigned i = 0; i < 4; i++) {
		char name[8];

		snprintf(name, sizeof(name), "share/%u", i);
		host_file(name, "");
		ck_assert_int_eq(truncate(host(name), 16384), 0);
	}
	bed_start("");
	for (unsigned i = 0; i < 4; i++) {
		char name[2] = { (char)('0' + i), 0 };

		node[i] = fc_node(&c, name);
		ck_good(fc_open(&c, node[i], O_RDWR, &fh[i]));
		ck_assert_int_eq(fc_write(&c, node[i], fh[i], 0, data + 16384 * i, 16384), 16384);
	}
	for (unsigned i = 0; i < N; i++) {
		struct {
			struct fuse_in_header h;
			struct fuse_read_in in;
		} m = { .h = { .len = sizeof(m),
			       .opcode = FUSE_READ,
			       .unique = 1000 + i,
			       .nodeid = node[i % 4] },
			.in = { .fh = fh[i % 4], .offset = i / 4 * 1024, .size = 1024 } };

		in[i] = driver_data(&c.d, &m, sizeof(m));
		out[i] = driver_alloc(&c.d, 16 + 1024);
		heads[i] = driver_add(&c.d, 1,
				      (struct driver_buf[]){ { in[i], sizeof(m), false },
							     { out[i], 16 + 1024, true } },
				      2);
	}
	driver_kick(&c.d, 1);
	for (unsigned i = 0; i < N; i++) {
		struct fuse_out_header *h;
		unsigned k = 0;

		ck_assert(fc_wait(&c, 1, &head, &used));
		while (k < N && (heads[k] != head || seen[k]))
			k++;
		ck_assert_uint_lt(k, N);
		seen[k] = true;
		ck_assert_uint_eq(used, 16 + 1024);
		h = driver_ptr(&c.d, out[k], used);
		ck_assert_uint_eq(h->unique, 1000 + k);
		ck_assert_int_eq(memcmp(h + 1, data + 16384 * (k % 4) + k / 4 * 1024, 1024), 0);
	}
	free(data);
}
END_TEST

/* A reset with requests in flight: nothing is written to memory afterwards. */
START_TEST(reset_in_flight)
{
	char *data = pattern(65536, 3);
	uint64_t a, fh, at = c.out;

	host_file("share/a", "");
	ck_assert_int_eq(truncate(host("share/a"), 1 << 20), 0);
	bed_start("");
	for (unsigned round = 0; round < 50; round++) {
		a = fc_node(&c, "a");
		ck_good(fc_open(&c, a, O_RDWR | (round % 2 ? O_DIRECT : 0), &fh));
		for (unsigned i = 0; i < 12; i++) {
			struct fuse_read_in in = { .fh = fh, .offset = i * 65536, .size = 65520 };
			uint32_t len = fc_put(&c, FUSE_READ, a, &in, sizeof(in), NULL, 0);

			driver_add(&c.d, 1,
				   (struct driver_buf[]){ { c.in, len, false },
							  { at + i * 65536, 65536, true } },
				   2);
		}
		driver_kick(&c.d, 1);
		for (unsigned i = 0; i < round; i++)
			sched_yield();
		driver_set_status(&c.d, 0);
		memset(driver_ptr(&c.d, at, 12 * 65536), 0x66, 12 * 65536);
		for (unsigned i = 0; i < 20; i++)
			ck_assert_int_eq(loop_run_once(c.d.loop, 0), 0);
		usleep(300);
		for (unsigned i = 0; i < 12 * 65536; i += 512)
			ck_assert_uint_eq(*(uint8_t *)driver_ptr(&c.d, at + i, 1), 0x66);
		fc_start(&c);
	}
	free(data);
}
END_TEST

/* --- Files without a name --- */

START_TEST(open_unlinked)
{
	struct fuse_attr attr;
	uint64_t a, fh, second;
	char data[8];

	host_file("share/a", "12345");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_good(fc_unlink(&c, ROOT, "a"));
	ck_good(fc_getattr(&c, a, fh, &attr));
	ck_assert_uint_eq(attr.nlink, 0);
	ck_good(fc_getattr(&c, a, FC_NO_FH, &attr));
	ck_assert_int_eq(fc_write(&c, a, fh, 5, "678", 3), 3);
	ck_assert_int_eq(fc_read(&c, a, fh, 0, data, 8), 8);
	ck_assert_mem_eq(data, "12345678", 8);
	ck_good(fc_truncate(&c, a, fh, 2));
	ck_good(fc_truncate(&c, a, FC_NO_FH, 1));
	ck_good(fc_chmod(&c, a, 0600));
	ck_good(fc_open(&c, a, O_RDONLY, &second));
	ck_assert_int_eq(fc_read(&c, a, second, 0, data, 8), 1);
	ck_good(fc_release(&c, a, second));
	/* Another of that name is another file. */
	ck_assert_uint_ne(guest_file("a", "new"), a);
	ck_assert_int_eq(fc_read(&c, a, fh, 0, data, 8), 1);
	ck_good(fc_release(&c, a, fh));
	fc_forget(&c, a, 1);
}
END_TEST

START_TEST(tmpfile_and_link)
{
	struct fc_created file;
	struct fuse_entry_out e;
	int r;

	host_dir("share/d");
	bed_start("");
	r = fc_tmpfile(&c, fc_node(&c, "d"), O_RDWR, 0640, &file);
	SKIP_UNLESS(r != -EOPNOTSUPP, "this file system has no O_TMPFILE");
	ck_good(r);
	ck_assert_uint_eq(file.entry.attr.nlink, 0);
	ck_assert_uint_eq(file.entry.attr.mode, S_IFREG | 0640);
	ck_assert_int_eq(fc_write(&c, file.entry.nodeid, file.open.fh, 0, "tmp", 3), 3);
	ck_good(fc_link(&c, file.entry.nodeid, ROOT, "named", &e));
	ck_assert_uint_eq(e.nodeid, file.entry.nodeid);
	ck_assert_str_eq(host_text("share/named"), "tmp");
	ck_good(fc_release(&c, file.entry.nodeid, file.open.fh));
	/* O_EXCL: never to have a name. */
	ck_good(fc_tmpfile(&c, ROOT, O_RDWR | O_EXCL, 0640, &file));
	ck_assert_int_lt(fc_link(&c, file.entry.nodeid, ROOT, "named2", &e), 0);
	ck_assert(!host_has("share/named2"));
}
END_TEST

/* --- Size and holes --- */

START_TEST(truncating)
{
	uint64_t a, fh, ro;
	struct fuse_attr attr;

	host_file("share/a", "1234567890");
	host_dir("share/d");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_truncate(&c, a, FC_NO_FH, 4));
	ck_assert_str_eq(host_text("share/a"), "1234");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_good(fc_truncate(&c, a, fh, 1ull << 40));
	ck_good(fc_getattr(&c, a, fh, &attr));
	ck_assert_uint_eq(attr.size, 1ull << 40);
	ck_good(fc_truncate(&c, a, fh, 0));
	ck_good(fc_open(&c, a, O_RDONLY, &ro));
	ck_assert_int_lt(fc_truncate(&c, a, ro, 5), 0);
	ck_assert_int_eq(host_stat("share/a").st_size, 0);
	ck_err(fc_truncate(&c, fc_node(&c, "d"), FC_NO_FH, 0), EISDIR);
}
END_TEST

/* The guest's pages are ahead of the file then: only it knows where data is. */
START_TEST(no_holes_with_a_write_back_cache)
{
	uint64_t a, fh;

	host_file("share/a", "");
	bed_start(",cache=always");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_err(fc_lseek(&c, a, fh, 0, SEEK_DATA), ENOSYS);
}
END_TEST

START_TEST(holes)
{
	uint64_t a, fh;
	char *data = pattern(65536, 5), back[4096];
	struct stat st;

	host_file("share/a", "");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_assert_int_eq(fc_write(&c, a, fh, 1 << 20, data, 65536), 65536);
	ck_assert_int_eq(fc_lseek(&c, a, fh, 0, SEEK_DATA), 1 << 20);
	ck_assert_int_eq(fc_lseek(&c, a, fh, 0, SEEK_HOLE), 0);
	ck_assert_int_eq(fc_lseek(&c, a, fh, 1 << 20, SEEK_HOLE), (1 << 20) + 65536);
	ck_err(fc_lseek(&c, a, fh, 1 << 21, SEEK_DATA), ENXIO);
	ck_err(fc_lseek(&c, a, fh, 0, 77), EINVAL);
	ck_assert_int_lt(fc_lseek(&c, a, fh, ~0ull, SEEK_DATA), 0);
	ck_good(fc_fallocate(&c, a, fh, 0, 2 << 20, 0));
	ck_assert_int_eq(host_stat("share/a").st_size, 2 << 20);
	ck_good(fc_fallocate(&c, a, fh, 2 << 20, 1 << 20, FALLOC_FL_KEEP_SIZE));
	ck_assert_int_eq(host_stat("share/a").st_size, 2 << 20);
	st = host_stat("share/a");
	ck_good(fc_fallocate(&c, a, fh, (1 << 20) + 4096, 8192,
			     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
	ck_assert_int_lt(host_stat("share/a").st_blocks, st.st_blocks);
	ck_assert_int_eq(fc_read(&c, a, fh, (1 << 20) + 4096, back, 4096), 4096);
	for (unsigned i = 0; i < 4096; i++)
		ck_assert_int_eq(back[i], 0);
	ck_assert_int_eq(fc_read(&c, a, fh, 1 << 20, back, 4096), 4096);
	ck_assert_int_eq(memcmp(back, data, 4096), 0);
	ck_good(fc_fallocate(&c, a, fh, 1 << 20, 4096, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE));
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 0, 0, 0), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 0, 4096, 0x80000000), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, ~0ull - 100, 4096, 0), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 1ull << 62, 1ull << 62, 0), 0);
	free(data);
}
END_TEST

START_TEST(copying)
{
	struct fuse_copy_file_range_in in;
	uint64_t a, b, fa, fb, ro;

	host_file("share/a", "0123456789");
	host_file("share/b", "abcdefghij");
	bed_start("");
	a = fc_node(&c, "a");
	b = fc_node(&c, "b");
	ck_good(fc_open(&c, a, O_RDWR, &fa));
	ck_good(fc_open(&c, b, O_RDWR, &fb));
	ck_good(fc_open(&c, b, O_RDONLY, &ro));
	in = (struct fuse_copy_file_range_in){
		.fh_in = fa, .off_in = 2, .nodeid_out = b, .fh_out = fb, .off_out = 5, .len = 3
	};
	ck_assert_int_eq(fc_copy_range(&c, &in, a), 3);
	ck_assert_str_eq(host_text("share/b"), "abcde234ij");
	in.off_in = 100;
	ck_assert_int_eq(fc_copy_range(&c, &in, a), 0);
	in.off_in = 8;
	in.len = 1ull << 62;
	in.off_out = 0;
	ck_assert_int_le(fc_copy_range(&c, &in, a), 2);
	in.fh_out = ro;
	in.len = 2;
	ck_assert_int_lt(fc_copy_range(&c, &in, a), 0);
	/* A handle of another node. */
	in.fh_out = fb;
	in.nodeid_out = a;
	ck_assert_int_lt(fc_copy_range(&c, &in, a), 0);
	in.nodeid_out = b;
	ck_assert_int_lt(fc_copy_range(&c, &in, b), 0);
	in.flags = 1;
	ck_assert_int_lt(fc_copy_range(&c, &in, a), 0);
	in.flags = 0;
	in.off_in = ~0ull;
	ck_assert_int_lt(fc_copy_range(&c, &in, a), 0);
}
END_TEST

/* Writing takes set-user-ID and set-group-ID away, when the guest says so. */
START_TEST(kill_suid)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 1 };
	uint64_t a, fh;
	/* By the server's own thread, and by io_uring. */
	static const uint32_t size[] = { 1, 65536, 65537, 500000 };
	char *data = pattern(500000, 1);

	host_file("share/a", "12345");
	bed_start("");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		ck_good(fc_chmod(&c, a, 06755));
		ck_assert_uint_eq(host_stat("share/a").st_mode & 07777, 06755);
		ck_assert_int_eq(fc_write_flags(&c, a, fh, 0, data, size[i],
						FUSE_WRITE_KILL_SUIDGID, O_RDWR),
				 (int)size[i]);
		ck_assert_uint_eq(host_stat("share/a").st_mode & 07777, 0755);
	}
	free(data);
	ck_good(fc_chmod(&c, a, 04755));
	ck_good(fc_setattr(&c, a, &in, NULL));
	ck_assert_uint_eq(host_stat("share/a").st_mode & 07777, 0755);
}
END_TEST

/* --- Folders --- */

struct listing {
	unsigned n;
	bool seen[2048];
	uint64_t offsets[2048]; /* d_off of the n-th */
	char names[2048][16];
};

/* List all names "f0000" .. of the open folder @dir, @size bytes at a time. */
static void list_all(struct listing *list, uint64_t dir, uint64_t fh, uint64_t off, bool plus,
		     uint32_t size)
{
	char *data = malloc(size);
	int n;

	memset(list, 0, sizeof(*list));
	do {
		const struct fuse_dirent *d;
		const struct fuse_entry_out *e;
		int at = 0;

		n = fc_readdir_as(&c, plus ? FUSE_READDIRPLUS : FUSE_READDIR, dir, fh, off, data,
				  size);
		ck_assert_msg(n >= 0, "READDIR: %d", n);
		while ((d = fc_dirent(data, n, &at, plus, &e)) != NULL) {
			off = d->off;
			if (d->name[0] == '.')
				continue;
			ck_assert_uint_eq(d->namelen, 5);
			ck_assert_uint_lt(list->n, 2048);
			memcpy(list->names[list->n], d->name, 5);
			list->offsets[list->n++] = off;
			ck_assert(!list->seen[atoi(d->name + 1) % 2048]);
			list->seen[atoi(d->name + 1) % 2048] = true;
			if (plus && e->nodeid != 0) {
				ck_assert_uint_eq(e->attr.ino, d->ino);
				ck_assert_uint_eq(e->attr.mode >> 12, d->type);
				fc_forget(&c, e->nodeid, 1);
				ck_assert_int_lt(fc_getattr(&c, e->nodeid, FC_NO_FH, NULL), 0);
			}
		}
	} while (n > 0);
	free(data);
}

START_TEST(lists)
{
	static const uint32_t room[] = { 200, 512, 4096, 65536 };
	static struct listing all, again;
	uint64_t dir, fh;

	host_dir("share/d");
	for (unsigned i = 0; i < 1500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "share/d/f%04u", i);
		if (i % 10 == 0)
			host_dir(name);
		else
			host_file(name, "");
	}
	bed_start("");
	dir = fc_node(&c, "d");
	ck_good(fc_opendir(&c, dir, &fh));
	for (unsigned i = 0; i < 4; i++) {
		for (int plus = 0; plus < 2; plus++) {
			list_all(&all, dir, fh, 0, plus, room[i]);
			ck_assert_uint_eq(all.n, 1500);
		}
	}
	/* From anywhere on: what followed then follows now. */
	for (unsigned i = 100; i < 1500; i += 300) {
		list_all(&again, dir, fh, all.offsets[i], i % 200 == 0, 4096);
		ck_assert_uint_eq(again.n, 1500 - i - 1);
		ck_assert_str_eq(again.names[0], all.names[i + 1]);
	}
	/* Through another handle, too. */
	ck_good(fc_release_as(&c, FUSE_RELEASEDIR, dir, fh));
	ck_good(fc_opendir(&c, dir, &fh));
	list_all(&again, dir, fh, all.offsets[700], false, 4096);
	ck_assert_uint_eq(again.n, 1500 - 701);
	/* Too small for a single entry. */
	ck_assert_int_le(fc_readdir_as(&c, FUSE_READDIR, dir, fh, 0, NULL, 8), 0);
}
END_TEST

/* READDIRPLUS counts no lookup for what did not fit: after forgetting, nothing is left. */
START_TEST(plus_counts)
{
	uint64_t dir, fh, off = 0, known[64];
	char data[700];
	unsigned n = 0;
	int len;

	host_dir("share/d");
	for (unsigned i = 0; i < 30; i++) {
		char name[32];

		snprintf(name, sizeof(name), "share/d/f%04u", i);
		host_file(name, "");
	}
	bed_start("");
	dir = fc_node(&c, "d");
	ck_good(fc_opendir(&c, dir, &fh));
	do {
		const struct fuse_entry_out *e;
		const struct fuse_dirent *d;
		int at = 0;

		len = fc_readdir_as(&c, FUSE_READDIRPLUS, dir, fh, off, data, sizeof(data));
		ck_assert_int_ge(len, 0);
		while ((d = fc_dirent(data, len, &at, true, &e)) != NULL) {
			off = d->off;
			if (e->nodeid != 0 && d->name[0] != '.')
				known[n++] = e->nodeid;
			if (d->name[0] == '.')
				ck_assert_uint_eq(e->nodeid, 0);
		}
	} while (len > 0);
	ck_assert_uint_eq(n, 30);
	for (unsigned i = 0; i < n; i++) {
		ck_good(fc_getattr(&c, known[i], FC_NO_FH, NULL));
		fc_forget(&c, known[i], 1);
		ck_assert_int_lt(fc_getattr(&c, known[i], FC_NO_FH, NULL), 0);
	}
}
END_TEST

START_TEST(deleting_while_listing)
{
	uint64_t dir, fh, off = 0;
	unsigned removed = 0;
	char data[1024];
	int len;

	host_dir("share/d");
	for (unsigned i = 0; i < 500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "share/d/f%04u", i);
		host_file(name, "");
	}
	bed_start("");
	dir = fc_node(&c, "d");
	ck_good(fc_opendir(&c, dir, &fh));
	do {
		const struct fuse_dirent *d;
		int at = 0;

		len = fc_readdir_as(&c, FUSE_READDIR, dir, fh, off, data, sizeof(data));
		ck_assert_int_ge(len, 0);
		while ((d = fc_dirent(data, len, &at, false, NULL)) != NULL) {
			char name[8] = "";

			off = d->off;
			if (d->name[0] == '.')
				continue;
			memcpy(name, d->name, 5);
			ck_good(fc_unlink(&c, dir, name));
			removed++;
		}
	} while (len > 0);
	ck_assert_uint_eq(removed, 500);
	ck_good(fc_rmdir(&c, ROOT, "d"));
	ck_good(fc_release_as(&c, FUSE_RELEASEDIR, dir, fh));
}
END_TEST

START_TEST(fsyncdir)
{
	struct fuse_fsync_in in = { 0 };
	uint64_t fh;

	bed_start("");
	ck_good(fc_opendir(&c, ROOT, &in.fh));
	fh = in.fh;
	ck_assert_int_eq(fc_call(&c, FUSE_FSYNCDIR, ROOT, &in, sizeof(in), NULL, 0, NULL, 0), 0);
	in.fh = fh + 77;
	ck_assert_int_lt(fc_call(&c, FUSE_FSYNCDIR, ROOT, &in, sizeof(in), NULL, 0, NULL, 0), 0);
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_file", &tc);

	tcase_add_test(tc, creating);
	tcase_add_test(tc, open_modes);
	tcase_add_test(tc, sizes);
	tcase_add_test(tc, both_sides);
	tcase_add_test(tc, layouts);
	tcase_add_test(tc, in_flight);
	tcase_add_test(tc, reset_in_flight);
	tcase_add_test(tc, open_unlinked);
	tcase_add_test(tc, tmpfile_and_link);
	tcase_add_test(tc, truncating);
	tcase_add_test(tc, holes);
	tcase_add_test(tc, no_holes_with_a_write_back_cache);
	tcase_add_test(tc, copying);
	tcase_add_test(tc, kill_suid);
	tcase_add_test(tc, lists);
	tcase_add_test(tc, plus_counts);
	tcase_add_test(tc, deleting_while_listing);
	tcase_add_test(tc, fsyncdir);
	return test_run(s);
}
