// SPDX-License-Identifier: Apache-2.0
/*
 * FUSE messages that are not as they should be: sizes, room for answers, ids and handles that were
 * never given or are no longer valid, tables that are full. The device answers with an error, gives
 * the buffer back, or needs a reset; it is as good as new after that.
 */
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "tests/unit/test_virtio_fs.h"

/* Anything may have happened; from here on it must work. */
static void works(void)
{
	struct fuse_entry_out e;

	if (fc_broken(&c)) {
		fc_start(&c);
	} else {
		c.q = 1;
		ck_assert_int_gt(fc_init_with(&c, 7, 41, FC_INIT_FLAGS), 0);
	}
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	ck_assert_str_eq(guest_text(e.nodeid), "text");
}

/*
 * Send @len bytes at c.in. What comes back, if it is anything, is an answer to c.unique with at
 * most
 * @room bytes; its error, or 0 for none; 1: nothing came, or the device broke.
 */
static int anything(uint32_t len, uint32_t piece, uint32_t room)
{
	int64_t used = fc_send(&c, len, piece, room);
	const struct fuse_out_header *h = driver_ptr(&c.d, c.out, sizeof(*h));

	if (used <= 0)
		return 1;
	ck_assert_int_ge(used, (int64_t)sizeof(*h));
	ck_assert_int_le(used, room);
	ck_assert_int_eq(h->len, used);
	ck_assert_int_le(h->error, 0);
	ck_assert_int_gt(h->error, -1000);
	return h->error;
}

static void start(void)
{
	host_file("share/a", "text");
	host_dir("share/d");
	bed_start("");
}

/* Each opcode there is and some that are not, with each length of arguments, all zero or all ones.
 */
static void lengths_of(uint32_t opcode, int fill)
{
	static uint8_t data[300];

	memset(data, fill, sizeof(data));
	if (fc_init_with(&c, 7, 41, FC_INIT_FLAGS) < 0)
		fc_start(&c);
	for (uint32_t len = 0; len < 130; len++) {
		fc_put(&c, opcode, ROOT, data, len, NULL, 0);
		anything(40 + len, 0, opcode == FUSE_FORGET ? 0 : 512);
		if (fc_broken(&c))
			fc_start(&c);
	}
}

START_TEST(lengths)
{
	start();
	for (uint32_t opcode = 0; opcode <= 56; opcode++)
		lengths_of(opcode, _i);
	lengths_of(4096, _i);
	lengths_of(0x7fffffff, _i);
	lengths_of(0xffffffff, _i);
	/* FUSE_SETATTR gave the folder a mode that keeps out its owner, unless that is root. */
	ck_assert_int_eq(chmod(host("share"), 0755), 0);
	works();
	ck_assert_str_eq(host_text("outside/secret"), SECRET);
}
END_TEST

START_TEST(unknown_opcodes)
{
	start();
	for (uint32_t opcode = 53; opcode < 300; opcode++)
		ck_err(fc_call(&c, opcode, ROOT, NULL, 0, NULL, 0, NULL, 64), ENOSYS);
	/* What a local file system has and this one does not. */
	ck_err(fc_call(&c, FUSE_SETUPMAPPING, ROOT, &(struct fuse_setupmapping_in){ 0 },
		       sizeof(struct fuse_setupmapping_in), NULL, 0, NULL, 0),
	       ENOSYS);
	ck_err(fc_call(&c, FUSE_BMAP, ROOT, &(struct fuse_bmap_in){ 0 },
		       sizeof(struct fuse_bmap_in), NULL, 0, NULL, 8),
	       ENOSYS);
	works();
}
END_TEST

/* The header says more, or less, than was sent. */
START_TEST(lying_length)
{
	static const uint32_t lies[] = { 0,	     1,		 16,	     39,	40,
					 41,	     43,	 4096,	     65536,	1 << 20,
					 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff };

	start();
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		uint32_t len = fc_put(&c, FUSE_LOOKUP, ROOT, NULL, 0, "a", 2);

		gmem_write(&c.d.mem, c.in, &lies[i], 4);
		ck_assert_int_ne(anything(len, 0, 512), 0);
		if (fc_broken(&c))
			fc_start(&c);
	}
	works();
}
END_TEST

/* Less than a header was sent, in pieces of any size, or nothing. */
START_TEST(short_messages)
{
	start();
	for (uint32_t len = 1; len < 40; len++) {
		fc_put(&c, FUSE_GETATTR, ROOT, NULL, 0, NULL, 0);
		ck_assert_int_ne(anything(len, len % 7 + 1, 256), 0);
		if (fc_broken(&c))
			fc_start(&c);
	}
	driver_add(&c.d, 1, (struct driver_buf[]){ { c.out, 512, true } }, 1);
	driver_kick(&c.d, 1);
	fc_wait(&c, 1, NULL, NULL);
	works();
}
END_TEST

/* Never more than there is room for. */
START_TEST(little_room)
{
	struct fuse_getattr_in getattr = { 0 };
	struct fuse_read_in read = { .size = 4096 };
	uint8_t untouched[4096];
	uint64_t fh, a;

	memset(untouched, 0x77, sizeof(untouched));
	start();
	for (uint32_t room = 0; room < 180; room++) {
		uint8_t *behind;

		if (fc_broken(&c))
			fc_start(&c);
		a = fc_node(&c, "a");
		ck_good(fc_open(&c, a, O_RDONLY, &fh));
		behind = driver_ptr(&c.d, c.out + room, 4096);
		for (unsigned what = 0; what < 5; what++) {
			uint32_t len;

			read.fh = fh;
			if (what == 0)
				len = fc_put(&c, FUSE_LOOKUP, ROOT, NULL, 0, "a", 2);
			else if (what == 1)
				len = fc_put(&c, FUSE_GETATTR, a, &getattr, sizeof(getattr), NULL,
					     0);
			else if (what == 2)
				len = fc_put(&c, FUSE_READ, a, &read, sizeof(read), NULL, 0);
			else if (what == 3)
				len = fc_put(&c, FUSE_STATFS, ROOT, NULL, 0, NULL, 0);
			else
				len = fc_put(&c, FUSE_READLINK, a, NULL, 0, NULL, 0);
			memset(behind, 0x77, 4096);
			anything(len, 40, room);
			ck_assert_int_eq(memcmp(behind, untouched, sizeof(untouched)), 0);
			if (fc_broken(&c))
				break;
		}
	}
	if (fc_broken(&c))
		fc_start(&c);
	/* A listing where the driver has less room than it says. */
	ck_good(fc_opendir(&c, ROOT, &read.fh));
	for (uint32_t room = 16; room < 400 && !fc_broken(&c); room += 8)
		anything(fc_put(&c, FUSE_READDIR, ROOT, &read, sizeof(read), NULL, 0), 40, room);
	for (uint32_t room = 16; room < 400 && !fc_broken(&c); room += 8)
		anything(fc_put(&c, FUSE_READDIRPLUS, ROOT, &read, sizeof(read), NULL, 0), 40,
			 room);
	works();
}
END_TEST

/* Room for answers is given before, or amidst, what is said. */
START_TEST(wrong_order)
{
	start();
	fc_put(&c, FUSE_LOOKUP, ROOT, NULL, 0, "a", 2);
	driver_add(&c.d, 1, (struct driver_buf[]){ { c.out, 256, true }, { c.in, 42, false } }, 2);
	driver_kick(&c.d, 1);
	fc_wait(&c, 1, NULL, NULL);
	works();
	/* A write's data that is not there, or more than is said. */
	for (uint32_t n = 0; n < 64; n += 9) {
		struct fuse_write_in in = { .size = 30 };
		char data[64] = "";
		int r;

		if (fc_broken(&c))
			fc_start(&c);
		ck_good(fc_open(&c, fc_node(&c, "a"), O_RDWR, &in.fh));
		fc_put(&c, FUSE_WRITE, fc_node(&c, "a"), &in, sizeof(in), data, n);
		fc_put(&c, FUSE_WRITE, fc_node(&c, "a"), &in, sizeof(in), data, n);
		r = anything(40 + sizeof(in) + n, 0, 24);
		ck_assert(r != 0 || n >= 30);
		host_file("share/a", "text");
	}
	works();
}
END_TEST

/* Names without their end, with it too early, or none. */
START_TEST(names_on_the_wire)
{
	static const uint32_t ops[] = { FUSE_LOOKUP, FUSE_UNLINK, FUSE_RMDIR, FUSE_REMOVEXATTR,
					FUSE_SYMLINK };
	static const struct {
		const char *data;
		uint32_t len;
	} bad[] = { { "a", 1 },	    { "", 0 },	{ "", 1 },    { "\0a", 3 }, { "a\0b", 4 },
		    { "a\0\0", 3 }, { "/", 2 }, { "d/x", 4 }, { "/a", 3 },  { "a/", 3 } };

	start();
	for (unsigned o = 0; o < sizeof(ops) / sizeof(ops[0]); o++) {
		for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			uint32_t len;

			/* Two names are right for a symlink; an xattr's may have a slash. */
			if ((ops[o] == FUSE_SYMLINK && bad[i].len == 4 && i == 4) ||
			    ops[o] == FUSE_REMOVEXATTR)
				continue;
			len = fc_put(&c, ops[o], ROOT, NULL, 0, bad[i].data, bad[i].len);
			ck_assert_msg(anything(len, 0, 256) != 0, "opcode %u, name %u", ops[o], i);
			if (fc_broken(&c))
				fc_start(&c);
		}
	}
	ck_assert(host_has("share/a") && host_has("share/d"));
	works();
}
END_TEST

/* --- Ids and handles --- */

/* Every operation that names a node, with one that is none. */
START_TEST(invented_nodes)
{
	struct fuse_setattr_in set = { .valid = FATTR_SIZE };
	struct fuse_entry_out e;
	struct fc_created file;
	uint64_t ids[12], fh, old;
	char data[512];

	start();
	old = fc_node(&c, "a");
	fc_forget(&c, old, 1);
	ids[0] = 0;
	ids[1] = 2;
	ids[2] = 1000;
	ids[3] = 0xffffffff;
	ids[4] = 1ull << 32;
	ids[5] = (1ull << 32) | 1;
	ids[6] = 1ull << 63;
	ids[7] = ~0ull;
	ids[8] = old;
	ids[9] = old ^ 1ull << 32;
	ids[10] = old + 1;
	ids[11] = 0x7fffffffffffffff;
	for (unsigned i = 0; i < 12; i++) {
		uint64_t n = ids[i];

		ck_assert_msg(fc_lookup(&c, n, "a", &e) < 0, "id %#lx", (unsigned long)n);
		ck_assert_int_lt(fc_getattr(&c, n, FC_NO_FH, NULL), 0);
		ck_assert_int_lt(fc_setattr(&c, n, &set, NULL), 0);
		ck_assert_int_lt(fc_open(&c, n, O_RDONLY, &fh), 0);
		ck_assert_int_lt(fc_opendir(&c, n, &fh), 0);
		ck_assert_int_lt(fc_create(&c, n, "x", O_RDWR, 0644, &file), 0);
		ck_assert_int_lt(fc_mkdir(&c, n, "x", 0755, &e), 0);
		ck_assert_int_lt(fc_mknod(&c, n, "x", S_IFREG | 0644, 0, &e), 0);
		ck_assert_int_lt(fc_symlink(&c, n, "x", "y", &e), 0);
		ck_assert_int_lt(fc_link(&c, n, ROOT, "x", &e), 0);
		ck_assert_int_lt(fc_unlink(&c, n, "a"), 0);
		ck_assert_int_lt(fc_rmdir(&c, n, "d"), 0);
		ck_assert_int_lt(fc_rename(&c, n, "a", ROOT, "x", 0), 0);
		ck_assert_int_lt(fc_rename(&c, ROOT, "a", n, "x", 0), 0);
		ck_assert_int_lt(fc_readlink(&c, n, data, sizeof(data)), 0);
		ck_assert_int_lt(fc_setxattr(&c, n, "user.x", "1", 1, 0), 0);
		ck_assert_int_lt(fc_getxattr(&c, n, "user.x", data, 100), 0);
		ck_assert_int_lt(fc_listxattr(&c, n, data, 100), 0);
		ck_assert_int_lt(fc_removexattr(&c, n, "user.x"), 0);
		fc_forget(&c, n, 1);
		fc_forget(&c, n, ~0ull);
	}
	ck_assert(host_has("share/a") && !host_has("share/x"));
	works();
}
END_TEST

static void bad_handle(uint64_t a, uint64_t fh)
{
	char data[512];

	ck_assert_msg(fc_read(&c, a, fh, 0, data, 10) < 0, "fh %#lx", (unsigned long)fh);
	ck_assert_int_lt(fc_write(&c, a, fh, 0, "XXXX", 4), 0);
	ck_assert_int_lt(fc_truncate(&c, a, fh, 0), 0);
	ck_assert_int_lt(fc_fsync(&c, a, fh, 0), 0);
	ck_assert_int_lt(fc_fallocate(&c, a, fh, 0, 10, 0), 0);
	ck_assert_int_lt((int)fc_lseek(&c, a, fh, 0, SEEK_DATA), 0);
	ck_assert_int_lt(fc_readdir_as(&c, FUSE_READDIR, a, fh, 0, data, 512), 0);
	ck_assert_int_lt(fc_readdir_as(&c, FUSE_READDIRPLUS, a, fh, 0, data, 512), 0);
	(void)fc_flush(&c, a, fh);
	(void)fc_getattr(&c, a, fh, NULL);
}

START_TEST(invented_handles)
{
	uint64_t a, b, d, fh, fb, fd, gone;
	char data[512];

	host_file("share/b", "other");
	start();
	a = fc_node(&c, "a");
	b = fc_node(&c, "b");
	d = fc_node(&c, "d");
	bad_handle(a, 0x1234);
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_good(fc_open(&c, b, O_RDWR, &fb));
	ck_good(fc_opendir(&c, d, &fd));
	bad_handle(a, fh + 1000);
	bad_handle(a, fh ^ 1ull << 32);
	bad_handle(a, fh ^ 1ull << 63);
	bad_handle(a, ~0ull - 1);
	/* Of another node, and of another kind. */
	bad_handle(a, fb);
	bad_handle(b, fh);
	bad_handle(a, fd);
	bad_handle(d, fh);
	ck_assert_int_lt(fc_read(&c, d, fd, 0, data, 10), 0);
	ck_assert_int_lt(fc_write(&c, d, fd, 0, data, 10), 0);
	ck_assert_int_lt(fc_readdir_as(&c, FUSE_READDIR, a, fh, 0, data, 512), 0);
	/* Released, also twice, also by the wrong call. */
	gone = fb;
	ck_good(fc_release(&c, b, fb));
	bad_handle(b, gone);
	(void)fc_release(&c, b, gone);
	(void)fc_release(&c, a, gone);
	(void)fc_release(&c, b, fh);
	(void)fc_release_as(&c, FUSE_RELEASEDIR, a, ~0ull);
	ck_good(fc_open(&c, b, O_RDONLY, &fb));
	ck_assert_uint_ne(fb, gone);
	bad_handle(b, gone);
	ck_assert_str_eq(host_text("share/a"), "text");
	ck_assert_str_eq(host_text("share/b"), "other");
	/* A handle whose node was forgotten: alive or not, but no other file's. */
	ck_good(fc_release(&c, b, fb));
	ck_good(fc_open(&c, b, O_RDONLY, &fb));
	fc_forget(&c, b, 1);
	memset(data, 0, sizeof(data));
	if (fc_read(&c, b, fb, 0, data, 10) > 0)
		ck_assert_str_eq(data, "other");
	works();
}
END_TEST

/* --- Full tables --- */

/* At most @n descriptors for this process, which as root might raise the limit again. */
static void few_files(rlim_t n)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	struct rlimit limit = { n, n };

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(syscall(SYS_capget, &header, caps), 0);
	caps[0].effective &= ~(1u << CAP_SYS_RESOURCE);
	caps[0].permitted &= ~(1u << CAP_SYS_RESOURCE);
	ck_assert_int_eq(syscall(SYS_capset, &header, caps), 0);
}

START_TEST(many_nodes)
{
	struct fuse_entry_out e;
	static uint64_t node[600];
	unsigned n = 0;
	int r = 0;

	for (unsigned i = 0; i < 600; i++) {
		char name[32];

		snprintf(name, sizeof(name), "share/%u", i);
		host_file(name, "");
	}
	few_files(400);
	start();
	for (; n < 600; n++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", n);
		r = fc_lookup(&c, ROOT, name, &e);
		if (r < 0)
			break;
		node[n] = e.nodeid;
	}
	ck_assert_uint_gt(n, 100);
	ck_assert_uint_lt(n, 600);
	ck_err(r, ENFILE);
	ck_err(fc_mkdir(&c, ROOT, "new", 0755, &e), ENFILE);
	/* What is known goes on; some is given back, and there is room again. */
	ck_good(fc_getattr(&c, node[0], FC_NO_FH, NULL));
	for (unsigned i = 0; i < 50; i++)
		fc_forget(&c, node[i], 1);
	ck_good(fc_lookup(&c, ROOT, "a", &e));
	works();
}
END_TEST

START_TEST(many_handles)
{
	static uint64_t fh[1000];
	unsigned n = 0;
	uint64_t a, d;
	int r = 0;

	few_files(400);
	start();
	a = fc_node(&c, "a");
	d = fc_node(&c, "d");
	for (; n < 1000; n++) {
		r = n % 2 ? fc_open(&c, a, O_RDONLY, &fh[n]) : fc_opendir(&c, d, &fh[n]);
		if (r < 0)
			break;
	}
	ck_assert_uint_gt(n, 50);
	ck_assert_uint_lt(n, 1000);
	ck_assert(r == -ENFILE || r == -EMFILE);
	for (unsigned i = 0; i < n; i++)
		ck_good(fc_release_as(&c, i % 2 ? FUSE_RELEASE : FUSE_RELEASEDIR, i % 2 ? a : d,
				      fh[i]));
	works();
}
END_TEST

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* Reset, INIT and DESTROY close what was open; so does the end. */
START_TEST(nothing_left_open)
{
	unsigned before = descriptors(), first, n;
	uint64_t a, fh;

	start();
	works();
	first = descriptors();
	for (unsigned i = 0; i < 90; i++) {
		for (unsigned k = 0; k < 10; k++) {
			a = fc_node(&c, "a");
			(void)fc_node(&c, "d");
			ck_good(fc_open(&c, a, O_RDWR, &fh));
			ck_good(fc_opendir(&c, ROOT, &fh));
		}
		if (i % 3 == 0)
			fc_start(&c);
		else if (i % 3 == 1)
			ck_assert_int_gt(fc_init_with(&c, 7, 41, FC_INIT_FLAGS), 0);
		else
			ck_assert_int_eq(fc_call(&c, FUSE_DESTROY, 0, NULL, 0, NULL, 0, NULL, 0),
					 0);
		if (i % 3 == 2)
			fc_init_with(&c, 7, 41, FC_INIT_FLAGS);
	}
	works();
	n = descriptors();
	ck_assert_msg(n <= first + 4, "%u, at first %u", n, first);
	fc_stop(&c);
	/* The driver's loop may keep what it has. */
	n = descriptors();
	ck_assert_msg(n <= before + 1, "%u, before %u", n, before);
}
END_TEST

/* Requests whose memory changes while they are looked at. */
static void *changer(void *arg)
{
	uint8_t *at = driver_ptr(&c.d, c.in, 64);
	atomic_bool *stop = arg;
	unsigned i = 0;

	while (!atomic_load(stop)) {
		__atomic_store_n(&at[i % 2 ? 0 : 40], (uint8_t)(i * 37), __ATOMIC_RELAXED);
		__atomic_store_n(&at[4], i % 3 ? FUSE_LOOKUP : (uint8_t)i, __ATOMIC_RELAXED);
		__atomic_store_n(&at[41], i % 5 ? 0 : '/', __ATOMIC_RELAXED);
		i++;
	}
	return NULL;
}

START_TEST(changing_memory)
{
	atomic_bool stop = false;
	pthread_t thread;

	start();
	for (unsigned i = 0; i < 3000; i++) {
		uint32_t len = fc_put(&c, FUSE_LOOKUP, ROOT, NULL, 0, "a", 2);
		int64_t used;

		if (i == 0)
			ck_assert_int_eq(pthread_create(&thread, NULL, changer, &stop), 0);
		used = fc_send(&c, len, 0, 256);
		ck_assert_int_le(used, 256);
		if (used < 0)
			fc_drive(&c);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	fc_start(&c);
	works();
	ck_assert_str_eq(host_text("outside/secret"), SECRET);
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_wire", &tc);

	tcase_add_loop_test(tc, lengths, 0, 1);
	tcase_add_loop_test(tc, lengths, 255, 256);
	tcase_add_loop_test(tc, lengths, 1, 2);
	tcase_add_test(tc, unknown_opcodes);
	tcase_add_test(tc, lying_length);
	tcase_add_test(tc, short_messages);
	tcase_add_test(tc, little_room);
	tcase_add_test(tc, wrong_order);
	tcase_add_test(tc, names_on_the_wire);
	tcase_add_test(tc, invented_nodes);
	tcase_add_test(tc, invented_handles);
	tcase_add_test(tc, many_nodes);
	tcase_add_test(tc, many_handles);
	tcase_add_test(tc, nothing_left_open);
	tcase_add_test(tc, changing_memory);
	return test_run(s);
}
