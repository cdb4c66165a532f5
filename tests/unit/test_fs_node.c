// SPDX-License-Identifier: Apache-2.0
/* Nodes and handles of shared folders: numbers that stay what they are, counts, bounds. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/fs_node.h"
#include "tests/unit/device_util.h"

static struct fs_nodes nodes;
static struct fs_handles handles;

static struct fs_key key(uint64_t ino)
{
	return (struct fs_key){ .ino = ino, .dev = 8ULL << 32 | 1, .mnt = 30 };
}

static int null_fd(void)
{
	int fd = open("/dev/null", O_PATH | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void setup(void)
{
	struct fs_key root = key(2);

	ck_assert_int_eq(fs_nodes_init(&nodes, 5000), 0);
	fs_nodes_set_root(&nodes, &root, S_IFDIR, null_fd());
	ck_assert_int_eq(fs_handles_init(&handles, 3), 0);
}

static void teardown(void)
{
	fs_handles_fini(&handles);
	fs_nodes_fini(&nodes);
}

/* A new node the guest was told of @n times. */
static struct fs_node *told(uint64_t ino, unsigned n)
{
	struct fs_key k = key(ino);
	struct fs_node *node = fs_node_add(&nodes, &k, S_IFREG, null_fd());

	ck_assert_ptr_nonnull(node);
	while (n-- > 0)
		fs_node_ref(node);
	return node;
}

START_TEST(root)
{
	struct fs_key k = key(2);

	ck_assert_uint_eq(fs_node_id(&nodes, fs_nodes_root(&nodes)), 1);
	ck_assert_ptr_eq(fs_node_get(&nodes, 1), fs_nodes_root(&nodes));
	ck_assert_ptr_eq(fs_node_find(&nodes, &k), fs_nodes_root(&nodes));
	fs_node_forget(&nodes, 1, UINT64_MAX);
	ck_assert_ptr_eq(fs_node_get(&nodes, 1), fs_nodes_root(&nodes));
	ck_assert_ptr_null(fs_node_get(&nodes, 0));
	ck_assert_ptr_null(fs_node_get(&nodes, 2));
	ck_assert_ptr_null(fs_node_get(&nodes, 1ULL << 32 | 1));
	ck_assert_ptr_null(fs_node_get(&nodes, UINT64_MAX));
}
END_TEST

START_TEST(lookups)
{
	struct fs_node *node = told(10, 3);
	uint64_t id = fs_node_id(&nodes, node);
	struct fs_key k = key(10);
	int fd = node->fd;

	fs_node_forget(&nodes, id, 0);
	fs_node_forget(&nodes, id, 2);
	ck_assert_ptr_eq(fs_node_get(&nodes, id), node);
	fs_node_forget(&nodes, id, 1);
	ck_assert_ptr_null(fs_node_get(&nodes, id));
	ck_assert_ptr_null(fs_node_find(&nodes, &k));
	ck_assert(!is_open(fd));
	/* Again, and it is nobody's. */
	fs_node_forget(&nodes, id, 1);
	/* The slot is used again; the old number does not lead to it. */
	node = told(11, 1);
	ck_assert_uint_eq((uint32_t)fs_node_id(&nodes, node), (uint32_t)id);
	ck_assert_uint_ne(fs_node_id(&nodes, node), id);
	ck_assert_ptr_null(fs_node_get(&nodes, id));
	fs_node_forget(&nodes, id, 1);
	ck_assert_ptr_eq(fs_node_get(&nodes, fs_node_id(&nodes, node)), node);
	/* More than there are. */
	fs_node_forget(&nodes, fs_node_id(&nodes, node), UINT64_MAX);
	ck_assert_uint_eq(nodes.used, 1);
	/* A count does not wrap. */
	node = told(12, 1);
	node->nlookup = UINT64_MAX;
	fs_node_ref(node);
	ck_assert_uint_eq(node->nlookup, UINT64_MAX);
}
END_TEST

/* By all four parts of what it is. */
START_TEST(keys)
{
	struct fs_node *node = told(10, 1);
	struct fs_key k = key(10);

	ck_assert_ptr_eq(fs_node_find(&nodes, &k), node);
	k.mnt++;
	ck_assert_ptr_null(fs_node_find(&nodes, &k));
	k = key(10);
	k.dev++;
	ck_assert_ptr_null(fs_node_find(&nodes, &k));
	k = key(10);
	k.synth = true;
	ck_assert_ptr_null(fs_node_find(&nodes, &k));
	k = key(11);
	ck_assert_ptr_null(fs_node_find(&nodes, &k));
}
END_TEST

/* The hash grows, shrinks by chains only, and loses nothing. */
START_TEST(many)
{
	const unsigned n = 4999; /* and the root */
	struct fs_key k = key(1);

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < n; i++) {
			k = key(1000 + i);
			fs_node_ref(fs_node_add(&nodes, &k, S_IFREG, -1));
		}
		k = key(1);
		ck_assert_ptr_null(fs_node_add(&nodes, &k, S_IFREG, -1));
		ck_assert_uint_eq(nodes.used, n + 1);
		for (unsigned i = 0; i < n; i += 2) {
			k = key(1000 + i);
			ck_assert_ptr_nonnull(fs_node_find(&nodes, &k));
			fs_node_forget(&nodes, fs_node_id(&nodes, fs_node_find(&nodes, &k)), 1);
		}
		for (unsigned i = 0; i < n; i++) {
			k = key(1000 + i);
			ck_assert_int_eq(fs_node_find(&nodes, &k) != NULL, i % 2 == 1);
		}
		k = key(1001);
		uint64_t id = fs_node_id(&nodes, fs_node_find(&nodes, &k));

		fs_nodes_clear(&nodes);
		ck_assert_uint_eq(nodes.used, 1);
		ck_assert_ptr_null(fs_node_get(&nodes, id));
		ck_assert_ptr_null(fs_node_find(&nodes, &k));
		k = key(2);
		ck_assert_ptr_eq(fs_node_find(&nodes, &k), fs_nodes_root(&nodes));
	}
}
END_TEST

START_TEST(opening)
{
	int fd = null_fd();
	struct fs_handle *h = fs_handle_add(&handles, 77, fd, false);
	uint64_t id = fs_handle_id(&handles, h);

	ck_assert_ptr_eq(fs_handle_get(&handles, id, 77, false), h);
	ck_assert_ptr_null(fs_handle_get(&handles, id, 78, false));
	ck_assert_ptr_null(fs_handle_get(&handles, id, 77, true));
	ck_assert_ptr_null(fs_handle_get(&handles, id + 1, 77, false));
	ck_assert_ptr_null(fs_handle_get(&handles, id + (1ULL << 32), 77, false));
	ck_assert_ptr_null(fs_handle_get(&handles, 0, 77, false));
	/* I/O in flight keeps the descriptor, not the handle. */
	fs_handle_hold(h);
	fs_handle_close(&handles, h);
	ck_assert_ptr_null(fs_handle_get(&handles, id, 77, false));
	ck_assert(is_open(fd));
	fs_handle_close(&handles, h);
	ck_assert(is_open(fd));
	fs_handle_drop(&handles, h);
	ck_assert(!is_open(fd));
	ck_assert_uint_eq(handles.used, 0);
}
END_TEST

START_TEST(too_many_open)
{
	struct fs_handle *h[3];
	uint64_t id;

	for (unsigned i = 0; i < 3; i++)
		h[i] = fs_handle_add(&handles, 77, -1, true);
	ck_assert_ptr_null(fs_handle_add(&handles, 77, -1, true));
	id = fs_handle_id(&handles, h[1]);
	fs_handle_close(&handles, h[1]);
	h[1] = fs_handle_add(&handles, 77, -1, true);
	ck_assert_ptr_nonnull(h[1]);
	ck_assert_uint_ne(fs_handle_id(&handles, h[1]), id);
	fs_handle_hold(h[2]);
	fs_handles_clear(&handles);
	ck_assert_uint_eq(handles.used, 1);
	fs_handle_drop(&handles, h[2]);
	ck_assert_uint_eq(handles.used, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs_node");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, root);
	tcase_add_test(tc, lookups);
	tcase_add_test(tc, keys);
	tcase_add_test(tc, many);
	tcase_add_test(tc, opening);
	tcase_add_test(tc, too_many_open);
	suite_add_tcase(s, tc);
	return test_run(s);
}
