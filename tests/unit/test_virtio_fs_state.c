// SPDX-License-Identifier: Apache-2.0
/*
 * A shared folder saved and loaded with its machine: what the guest knew it knows again, wherever
 * it was moved meanwhile, and nothing else.
 */
#include "tests/unit/state_seal.h"
#include "tests/unit/test_virtio_fs.h"

static int state_fn(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

/* What is saved of the device, which then is gone. */
static void *save(size_t *len)
{
	void *data;

	virtio_quiesce(c.vdev);
	data = test_save(state_fn, c.vdev, len);
	pthread_mutex_lock(&c.vdev->lock);
	c.vdev->transport = NULL;
	pthread_mutex_unlock(&c.vdev->lock);
	c.ops->destroy(c.vdev);
	c.vdev = NULL;
	/* Nor does the old one's eventfd lead anywhere. */
	for (unsigned q = 0; q < 2; q++)
		c.d.queue[q].ioeventfd = -1;
	return data;
}

/* Another device, of the folder @path with @keys, that takes the saved one's place. */
static int load(const char *path, const char *keys, const void *data, size_t len)
{
	char text[512];
	int r;

	snprintf(text, sizeof(text), "%s,tag=test%s", path, keys);
	ck_assert_msg(fc_make(&c, text) == 0, "%s", c.err.msg);
	r = test_load(state_fn, c.vdev, data, len);
	if (r == 0)
		virtio_resume(c.vdev);
	return r;
}

static void reload(const char *keys)
{
	size_t len;
	void *data = save(&len);

	ck_assert_int_eq(load(share, keys, data, len), 0);
	free(data);
}

START_TEST(files)
{
	struct fuse_entry_out e;
	uint64_t a, b, dir, deep, link, fh, ro, list;
	char data[4096], target[64];
	int n;

	host_file("share/a", "first");
	host_file("share/b", "second");
	host_dir("share/dir");
	host_file("share/dir/deep", "deep");
	host_link("share/link", "dir/deep");
	bed_start("");
	a = fc_node(&c, "a");
	b = fc_node(&c, "b");
	dir = fc_node(&c, "dir");
	deep = fc_node(&c, "dir/deep");
	link = fc_node(&c, "link");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	ck_good(fc_open(&c, deep, O_RDONLY, &ro));
	ck_good(fc_opendir(&c, dir, &list));
	ck_assert_int_eq(fc_write(&c, a, fh, 0, "FIRST", 5), 5);
	reload("");
	/* By the same numbers. */
	ck_assert_int_eq(fc_write(&c, a, fh, 5, "!", 1), 1);
	ck_assert_str_eq(host_text("share/a"), "FIRST!");
	ck_assert_int_lt(fc_write(&c, deep, ro, 0, "X", 1), 0);
	n = fc_read(&c, deep, ro, 0, data, sizeof(data));
	ck_assert_int_eq(n, 4);
	ck_assert_mem_eq(data, "deep", 4);
	ck_assert_int_gt(fc_readdir_as(&c, FUSE_READDIR, dir, list, 0, data, sizeof(data)), 0);
	ck_assert_str_eq(guest_text(b), "second");
	n = fc_readlink(&c, link, target, sizeof(target));
	ck_assert_int_eq(n, 8);
	ck_assert_mem_eq(target, "dir/deep", 8);
	ck_assert_uint_eq(fc_node(&c, "a"), a);
	ck_assert_uint_eq(fc_node(&c, "dir/deep"), deep);
	ck_good(fc_release(&c, a, fh));
	ck_good(fc_release(&c, deep, ro));
	/* What comes new gets numbers that were never used. */
	ck_good(fc_mkdir(&c, dir, "new", 0755, &e));
	ck_assert(e.nodeid != a && e.nodeid != b && e.nodeid != dir && e.nodeid != deep &&
		  e.nodeid != link);
	reload("");
	ck_assert_uint_eq(fc_node(&c, "dir/new"), e.nodeid);
	ck_err(fc_getattr(&c, e.nodeid + 1, FC_NO_FH, &e.attr), ESTALE);
}
END_TEST

START_TEST(moved)
{
	uint64_t a, dir, deep, odd;
	struct fuse_attr attr;
	size_t len;
	void *data;

	host_file("share/a", "a");
	host_file("share/odd (deleted)", "odd");
	host_dir("share/dir");
	host_file("share/dir/deep", "deep");
	bed_start("");
	a = fc_node(&c, "a");
	dir = fc_node(&c, "dir");
	deep = fc_node(&c, "dir/deep");
	odd = fc_node(&c, "odd (deleted)");
	/* Before it is saved: found where it is now. */
	ck_assert_int_eq(rename(host("share/dir"), host("share/elsewhere")), 0);
	ck_assert_int_eq(rename(host("share/a"), host("share/elsewhere/b")), 0);
	data = save(&len);
	/* After it: the whole folder is somewhere else. */
	ck_assert_int_eq(rename(host("share"), host("copy")), 0);
	host_dir("share");
	ck_assert_int_eq(load(host("copy"), "", data, len), 0);
	free(data);
	ck_assert_str_eq(guest_text(a), "a");
	ck_assert_str_eq(guest_text(deep), "deep");
	ck_assert_str_eq(guest_text(odd), "odd");
	ck_good(fc_getattr(&c, dir, FC_NO_FH, &attr));
	ck_assert(S_ISDIR(attr.mode));
}
END_TEST

START_TEST(gone)
{
	uint64_t removed, swapped, missing, fh, list, other;
	struct fuse_entry_out e;
	struct fuse_attr attr;
	size_t len;
	void *data;
	char text[16];

	host_file("share/removed", "1");
	host_file("share/swapped", "2");
	host_dir("share/missing");
	host_file("share/other", "3");
	bed_start("");
	removed = fc_node(&c, "removed");
	swapped = fc_node(&c, "swapped");
	missing = fc_node(&c, "missing");
	other = fc_node(&c, "other");
	ck_good(fc_open(&c, removed, O_RDWR, &fh));
	ck_good(fc_opendir(&c, missing, &list));
	ck_good(fc_unlink(&c, ROOT, "removed"));
	data = save(&len);
	ck_assert_int_eq(unlink(host("share/swapped")), 0);
	host_dir("share/swapped");
	ck_assert_int_eq(rmdir(host("share/missing")), 0);
	ck_assert_int_eq(load(share, "", data, len), 0);
	free(data);
	ck_err(fc_getattr(&c, removed, FC_NO_FH, &attr), ESTALE);
	ck_err(fc_getattr(&c, swapped, FC_NO_FH, &attr), ESTALE);
	ck_err(fc_getattr(&c, missing, FC_NO_FH, &attr), ESTALE);
	ck_err(fc_open(&c, swapped, O_RDONLY, &other), ESTALE);
	ck_err(fc_read(&c, removed, fh, 0, text, 1), ESTALE);
	ck_assert_int_lt(fc_link(&c, removed, ROOT, "again", &e), 0);
	ck_assert_int_lt(fc_rename(&c, ROOT, "other", missing, "x", 0), 0);
	/* Looked up anew it is another file. */
	ck_good(fc_lookup(&c, ROOT, "swapped", &e));
	ck_assert_uint_ne(e.nodeid, swapped);
	/* Still gone when saved once more, until it is forgotten. */
	reload("");
	ck_err(fc_getattr(&c, removed, FC_NO_FH, &attr), ESTALE);
	ck_good(fc_release(&c, removed, fh));
	ck_err(fc_release(&c, removed, fh), EBADF);
	fc_forget(&c, removed, 1);
	ck_err(fc_getattr(&c, removed, FC_NO_FH, &attr), ESTALE);
	ck_assert_str_eq(host_text("share/other"), "3");
}
END_TEST

START_TEST(not_outside)
{
	struct fuse_attr attr;
	uint64_t a, b;
	size_t len;
	void *data;

	host_dir("share/d");
	host_file("share/d/secret", "mine");
	host_file("share/b", "b");
	bed_start("");
	a = fc_node(&c, "d/secret");
	b = fc_node(&c, "b");
	data = save(&len);
	/* Links where folders and files were. */
	ck_assert_int_eq(rename(host("share/d"), host("share/was")), 0);
	host_link("share/d", outside);
	ck_assert_int_eq(unlink(host("share/b")), 0);
	host_link("share/b", "../outside/secret");
	ck_assert_int_eq(load(share, "", data, len), 0);
	free(data);
	ck_err(fc_getattr(&c, a, FC_NO_FH, &attr), ESTALE);
	ck_err(fc_getattr(&c, b, FC_NO_FH, &attr), ESTALE);
	ck_assert_str_eq(host_text("outside/secret"), SECRET);
}
END_TEST

START_TEST(single)
{
	char path[512];
	size_t len;
	void *data;
	uint64_t a;

	host_file("share/a", "text");
	host_file("share/b", "other");
	snprintf(path, sizeof(path), "%s/a,tag=x", share);
	ck_assert_msg(fc_make(&c, path) == 0, "%s", c.err.msg);
	fc_start(&c);
	a = fc_node(&c, "a");
	data = save(&len);
	/* Another file by that name in the guest. */
	snprintf(path, sizeof(path), "%s/b", share);
	ck_assert_int_eq(load(path, "", data, len), 0);
	free(data);
	ck_assert_str_eq(guest_text(a), "other");
}
END_TEST

START_TEST(other_options)
{
	size_t len;
	void *data;
	uint64_t a, fh;

	host_file("share/a", "text");
	bed_start(",cache=always");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	data = save(&len);
	/* The guest was promised that it may write back late. */
	ck_assert_int_lt(load(share, ",cache=never", data, len), 0);
	fc_stop(&c);
	free(data);

	bed_start(",cache=never");
	a = fc_node(&c, "a");
	ck_good(fc_open(&c, a, O_RDWR, &fh));
	data = save(&len);
	/* What is shared to be read only is not written through what was open before. */
	ck_assert_int_eq(load(share, ",cache=never,ro", data, len), 0);
	free(data);
	ck_err(fc_write(&c, a, fh, 0, "X", 1), EROFS);
	ck_assert_str_eq(host_text("share/a"), "text");
	ck_assert_str_eq(guest_text(a), "text");
}
END_TEST

START_TEST(many)
{
	enum { N = 3000 };
	static uint64_t node[N];
	char name[64];

	bed_start("");
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "a-file-with-a-rather-long-name-%d", i);
		node[i] = guest_file(name, name);
	}
	for (int i = 0; i < N; i += 3)
		fc_forget(&c, node[i], 1);
	reload("");
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "a-file-with-a-rather-long-name-%d", i);
		if (i % 3 != 0)
			ck_assert_str_eq(guest_text(node[i]), name);
	}
}
END_TEST

/* Where the guest could look things up, but written by somebody else. */
START_TEST(forged_paths)
{
	static const char *const forged[] = { "../outside/secret", "////outside/secre",
					      "d/../../outside/s", "link/secret\0\0\0\0\0\0",
					      "d/./../b/././././" };
	struct fuse_attr attr;
	char data[64];
	uint64_t a;
	size_t len;

	host_dir("share/d");
	host_file("share/d/abcdefghijklmno", "text");
	host_link("share/link", outside);
	for (unsigned i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		uint8_t *saved, *at;
		uint64_t fh;

		bed_start("");
		a = fc_node(&c, "d/abcdefghijklmno");
		ck_good(fc_open(&c, a, O_RDONLY, &fh));
		saved = save(&len);
		at = memmem(saved, len, "d/abcdefghijklmno", 17);
		ck_assert_ptr_nonnull(at);
		memcpy(at, forged[i], 17);
		state_seal(saved, len);
		ck_assert_int_eq(load(share, "", saved, len), 0);
		free(saved);
		ck_err(fc_getattr(&c, a, FC_NO_FH, &attr), ESTALE);
		ck_err(fc_read(&c, a, fh, 0, data, 8), ESTALE);
		fc_stop(&c);
	}
	ck_assert_str_eq(host_text("outside/secret"), SECRET);
}
END_TEST

/* Every byte changed, one at a time: refused, or taken with what it now says; nothing breaks. */
START_TEST(forged_bytes)
{
	struct fuse_attr attr;
	uint64_t a, fh, list;
	size_t len;
	uint8_t *saved, *forged;
	struct state *st;
	unsigned taken = 0;
	uint64_t features;

	host_dir("share/d");
	host_file("share/d/a", "text");
	bed_start("");
	a = fc_node(&c, "d/a");
	ck_good(fc_open(&c, a, O_RDONLY, &fh));
	ck_good(fc_opendir(&c, ROOT, &list));
	saved = save(&len);
	forged = malloc(len);
	ck_assert_ptr_nonnull(forged);
	ck_assert_int_eq(load(share, "", saved, len), 0);
	features = c.vdev->features;
	for (size_t at = 20; at < len - 8; at++) {
		memcpy(forged, saved, len);
		forged[at] ^= (uint8_t)(1 + at % 255);
		state_seal(forged, len);
		st = state_new_load(forged, len, &(struct err)ERR_INIT);
		if (st != NULL)
			taken += virtio_state(c.vdev, st) == 0;
		c.vdev->features = features; /* what was taken may have had less */
		state_free(st);
	}
	ck_assert_uint_gt(taken, 0);
	/* The device is as good as new. */
	ck_assert_int_eq(test_load(state_fn, c.vdev, saved, len), 0);
	virtio_resume(c.vdev);
	ck_good(fc_getattr(&c, a, fh, &attr));
	ck_assert_uint_eq(attr.size, 4);
	free(forged);
	free(saved);
}
END_TEST

int main(void)
{
	TCase *tc;
	Suite *s = bed_suite("virtio_fs_state", &tc);

	tcase_add_test(tc, files);
	tcase_add_test(tc, moved);
	tcase_add_test(tc, gone);
	tcase_add_test(tc, not_outside);
	tcase_add_test(tc, single);
	tcase_add_test(tc, other_options);
	tcase_add_test(tc, many);
	tcase_add_test(tc, forged_paths);
	tcase_add_test(tc, forged_bytes);
	return test_run(s);
}
