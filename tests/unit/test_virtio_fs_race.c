// SPDX-License-Identifier: Apache-2.0
/*
 * Ways out of a shared folder, see test_virtio_fs_escape.h, where an attack needs luck: a thread on
 * the host's side or a second guest of the same folder swaps files while the first one tries again
 * and again.
 *
 * TRIES= (environment): how often (2000).
 */
#include "tests/unit/test_virtio_fs_escape.h"

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

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_race", &tc);

	tcase_add_test(tc, race_folder_and_link);
	tcase_add_test(tc, race_file_and_link);
	tcase_add_test(tc, race_dangling_link);
	tcase_add_test(tc, race_file_and_fifo);
	tcase_add_test(tc, race_folder_moved);
	tcase_add_test(tc, race_two_guests);
	tcase_add_test(tc, race_mount);
	return test_run(s);
}
