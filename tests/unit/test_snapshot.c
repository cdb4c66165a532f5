// SPDX-License-Identifier: Apache-2.0
/* Snapshots on disk: heads, memory files, chains of diffs, names, and what is refused. No KVM. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/state_seal.h"
#include "tests/unit/test_run.h"
#include "vmm/snapshot/snapshot.h"

#define PAGES 600 /* no multiple of 64 */
#define RAM   (PAGES * GMEM_PAGE_SIZE)

static char dir[] = "/tmp/snapshot-XXXXXX";
static char old_dir[4096];

static void setup(void)
{
	ck_assert_ptr_nonnull(getcwd(old_dir, sizeof(old_dir)));
	strcpy(dir + strlen("/tmp/snapshot-"), "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	signal(SIGIO, SIG_IGN); /* somebody wants to write to a file under a lease */
}

static void teardown(void)
{
	char command[64];

	ck_assert_int_eq(chdir(old_dir), 0);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static struct gmem_config config = { .size = RAM };

static void set(uint64_t *bits, unsigned page)
{
	bits[page / 64] |= 1ULL << page % 64;
}

/*
 * Write a snapshot of RAM in which page n is all @value for the @n @pages. Returns its id.
 * @below: the state file below, with @parent.
 */
static uint64_t write_one(const char *state, const char *memory, const unsigned *pages, unsigned n,
			  uint8_t value, uint64_t parent, const char *below)
{
	struct snapshot_head head = { .version = (char *)"1",
				      .arch = (char *)"x86_64",
				      .config = (char *)"{\"name\": \"x\"}",
				      .ram = RAM,
				      .parent = parent,
				      .below = (char *)below };
	uint64_t bits[(PAGES + 63) / 64] = { 0 };
	struct snapshot_files files;
	struct err err = ERR_INIT;
	struct state *st = state_new_save();
	struct gmem mem;
	const void *data;
	size_t len;

	ck_assert_int_eq(gmem_init(&mem, &config, &err), 0);
	for (unsigned i = 0; i < n; i++) {
		memset(mem.base + pages[i] * GMEM_PAGE_SIZE, value, GMEM_PAGE_SIZE);
		set(bits, pages[i]);
	}
	ck_assert_int_eq(snapshot_new_id(&head.id, &err), 0);
	head.memory = snapshot_name(state, memory);
	if (parent != 0)
		ck_assert_int_eq(snapshot_extents(bits, PAGES, &head.extents, &head.nextents, &err),
				 0);
	snapshot_head_state(&head, st);
	uint32_t more = 7;
	state_begin(st, "more", 1);
	state_u32(st, "x", &more);
	state_end(st);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	ck_assert_msg(snapshot_files_begin(&files, state, memory, head.id, RAM, &err) == 0, "%s",
		      err.msg);
	ck_assert_int_eq(snapshot_write_pages(files.fd, &mem, bits, &err), 0);
	ck_assert_msg(snapshot_files_commit(&files, data, len, head.id, RAM, &err) == 0, "%s",
		      err.msg);
	snapshot_files_drop(&files);
	gmem_fini(&mem);
	state_free(st);
	free(head.memory);
	free(head.extents);
	return head.id;
}

static const unsigned some[] = { 0, 1, 2, 63, 64, 65, 300, PAGES - 1 };
#define SOME (sizeof(some) / sizeof(some[0]))

static void check_page(const struct gmem *mem, unsigned page, uint8_t value)
{
	const uint8_t *p = gmem_page(mem, page);

	for (unsigned i = 0; i < GMEM_PAGE_SIZE; i++)
		ck_assert_msg(p[i] == value, "page %u byte %u is %u, not %u", page, i, p[i], value);
}

START_TEST(what_is_written_is_read)
{
	struct err err = ERR_INIT;
	uint64_t id = write_one("s", "s.mem", some, SOME, 0xa5, 0, "");
	struct snapshot *s = snapshot_open("s", NULL, &err);
	struct gmem mem;
	uint32_t more = 0;

	ck_assert_msg(s != NULL, "%s", err.msg);
	ck_assert_uint_eq(s->head.id, id);
	ck_assert_uint_eq(s->head.ram, RAM);
	ck_assert_str_eq(s->head.memory, "s.mem");
	for (int copy = 0; copy < 2; copy++) {
		ck_assert_int_eq(copy ? snapshot_read(s, &config, &mem, &err)
				      : snapshot_map(s, &config, &mem, &err),
				 0);
		for (unsigned i = 0; i < SOME; i++)
			check_page(&mem, some[i], 0xa5);
		check_page(&mem, 3, 0);
		/* What is written does not reach the file. */
		memset(mem.base, 1, RAM);
		gmem_fini(&mem);
	}
	state_begin(s->st, "more", 1);
	state_u32(s->st, "x", &more);
	state_end(s->st);
	ck_assert_uint_eq(more, 7);
	ck_assert_int_eq(state_finish(s->st, NULL, NULL, &err), 0);
	snapshot_close(s);
}
END_TEST

START_TEST(zero_pages_are_holes)
{
	struct stat stat_;

	write_one("s", "s.mem", some, SOME, 0, 0, "");
	ck_assert_int_eq(stat("s.mem", &stat_), 0);
	ck_assert_int_eq(stat_.st_size, RAM + GMEM_PAGE_SIZE);
	ck_assert_int_le(stat_.st_blocks * 512, 16384);
	ck_assert_int_eq(stat_.st_mode & 0777, 0600);
}
END_TEST

START_TEST(diffs_lie_above_each_other)
{
	struct err err = ERR_INIT;
	unsigned first[] = { 1, 2, 500 }, second[] = { 2, 3 };
	uint64_t base = write_one("b", "b.mem", some, SOME, 10, 0, ""), d1;
	struct snapshot *s;
	struct gmem mem;

	d1 = write_one("d1", "d1.mem", first, 3, 20, base, "b");
	/* Zeroes in a diff are contents. */
	write_one("d2", "d2.mem", second, 2, 0, d1, "d1");
	s = snapshot_open("d2", NULL, &err);
	ck_assert_msg(s != NULL, "%s", err.msg);
	ck_assert_uint_eq(s->head.nextents, 1);
	ck_assert_uint_eq(s->below->head.nextents, 2);
	ck_assert_int_eq(snapshot_map(s, &config, &mem, &err), 0);
	check_page(&mem, 0, 10);
	check_page(&mem, 1, 20);
	check_page(&mem, 2, 0);
	check_page(&mem, 3, 0);
	check_page(&mem, 500, 20);
	check_page(&mem, PAGES - 1, 10);
	gmem_fini(&mem);
	snapshot_close(s);
	/* Another snapshot in the place of the one in the middle. */
	write_one("d1", "d1.mem", first, 3, 21, base, "b");
	ck_assert_ptr_null(snapshot_open("d2", NULL, &err));
	ck_assert_int_eq(err.code, ESTALE);
	ck_assert_ptr_nonnull(strstr(err.msg, "another one by now"));
}
END_TEST

START_TEST(a_diff_to_itself_ends)
{
	struct err err = ERR_INIT;
	uint64_t id = write_one("a", "a.mem", some, SOME, 1, 0, "");

	/* Its id is not its parent's, so the chain breaks at once. */
	write_one("a", "a.mem", some, SOME, 1, id, "a");
	ck_assert_ptr_null(snapshot_open("a", NULL, &err));
	ck_assert_int_eq(err.code, ESTALE);
}
END_TEST

/* Steps 1 to 3 of snapshot/snapshot.c, and a crash after each. */
START_TEST(a_crash_leaves_the_old_or_the_new_one)
{
	struct err err = ERR_INIT;
	char early[64];
	uint64_t first = write_one("s", "s.mem", some, SOME, 1, 0, ""), second;
	struct snapshot *s;

	ck_assert_int_eq(system("cp s s.1; cp s.mem s.mem.1"), 0);
	second = write_one("s", "s.mem", some, SOME, 2, 0, "");
	ck_assert_int_eq(system("cp s s.2; cp s.mem s.mem.2"), 0);
	/* Both temporary files are there, nothing is renamed. */
	snprintf(early, sizeof(early), "s.mem-%016llx", (unsigned long long)second);
	ck_assert_int_eq(system("cp s.1 s; cp s.mem.1 s.mem"), 0);
	ck_assert_int_eq(rename("s.mem.2", early), 0);
	s = snapshot_open("s", NULL, &err);
	ck_assert_msg(s != NULL && s->head.id == first, "%s", err.msg);
	snapshot_close(s);
	/* The state is renamed, memory is not. */
	ck_assert_int_eq(system("cp s.2 s"), 0);
	s = snapshot_open("s", NULL, &err);
	ck_assert_msg(s != NULL && s->head.id == second, "%s", err.msg);
	snapshot_close(s);
	/* The next one cleans up, and touches nothing else of a like name. */
	ck_assert_int_eq(system("touch s-0123 s.mem-0123456789abcdeg"), 0);
	write_one("s", "s.mem", some, SOME, 3, 0, "");
	ck_assert_int_eq(access(early, F_OK), -1);
	ck_assert_int_eq(access("s-0123", F_OK), 0);
	ck_assert_int_eq(access("s.mem-0123456789abcdeg", F_OK), 0);
}
END_TEST

START_TEST(memory_files_are_checked)
{
	struct err err = ERR_INIT;

	write_one("a", "a.mem", some, SOME, 1, 0, "");
	write_one("b", "b.mem", some, SOME, 2, 0, "");
	ck_assert_ptr_null(snapshot_open("a", "b.mem", &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "belongs to another snapshot"));
	ck_assert_ptr_null(snapshot_open("a", "a", &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "not the memory of a guest"));
	ck_assert_ptr_null(snapshot_open("a", ".", &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "not a regular file"));
	ck_assert_int_eq(truncate("a.mem", RAM), 0);
	ck_assert_ptr_null(snapshot_open("a", NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "not the memory of a guest"));
	ck_assert_ptr_null(snapshot_open("nothing", NULL, &err));
	ck_assert_int_eq(err.code, ENOENT);
	ck_assert_ptr_null(snapshot_open("b.mem", NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "not a saved state"));
}
END_TEST

START_TEST(names_follow_the_state_file)
{
	struct err err = ERR_INIT;
	struct snapshot *s;
	char *name;

	ck_assert_int_eq(system("mkdir one two"), 0);
	write_one("one/s", "one/m", some, SOME, 1, 0, "");
	ck_assert_int_eq(rename("one", "three"), 0);
	s = snapshot_open("three/s", NULL, &err);
	ck_assert_msg(s != NULL, "%s", err.msg);
	snapshot_close(s);
	/* In another folder it is named in full. */
	name = snapshot_name("three/s", "two/m");
	ck_assert_int_eq(name[0], '/');
	ck_assert_str_eq(name + strlen(name) - 6, "/two/m");
	free(name);
	ck_assert_ptr_null(snapshot_name("three/s", "four/m"));
	name = snapshot_path("a/b", "c");
	ck_assert_str_eq(name, "a/c");
	free(name);
	name = snapshot_path("b", "/c");
	ck_assert_str_eq(name, "/c");
	free(name);
}
END_TEST

START_TEST(state_and_memory_are_two_files)
{
	struct snapshot_files files;
	struct err err = ERR_INIT;

	ck_assert_int_lt(snapshot_files_begin(&files, "s", "s", 1, RAM, &err), 0);
	snapshot_files_drop(&files);
	ck_assert_int_lt(snapshot_files_begin(&files, "no/s", "no/m", 1, RAM, &err), 0);
	snapshot_files_drop(&files);
	/* What was begun and not finished leaves nothing. */
	ck_assert_int_eq(snapshot_files_begin(&files, "s", "m", 1, RAM, &err), 0);
	snapshot_files_drop(&files);
	ck_assert_int_eq(system("[ -z \"$(ls)\" ]"), 0);
}
END_TEST

START_TEST(extents_of_bits)
{
	uint64_t bits[(PAGES + 63) / 64] = { 0 };
	struct snapshot_extent *e;
	struct err err = ERR_INIT;
	size_t n;

	ck_assert_int_eq(snapshot_extents(bits, PAGES, &e, &n, &err), 0);
	ck_assert_uint_eq(n, 0);
	free(e);
	for (unsigned i = 60; i < 70; i++)
		set(bits, i);
	set(bits, PAGES - 1);
	ck_assert_int_eq(snapshot_extents(bits, PAGES, &e, &n, &err), 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_uint_eq(e[0].first, 60);
	ck_assert_uint_eq(e[0].n, 10);
	ck_assert_uint_eq(e[1].first, PAGES - 1);
	ck_assert_uint_eq(e[1].n, 1);
	free(e);
}
END_TEST

/* A head with one thing wrong in it. */
static void refused(struct snapshot_head *head, const char *why)
{
	struct state *st = state_new_save();
	struct err err = ERR_INIT;
	const void *data;
	size_t len;
	int fd = open("bad", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	snapshot_head_state(head, st);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
	close(fd);
	ck_assert_ptr_null(snapshot_open("bad", NULL, &err));
	ck_assert_msg(strstr(err.msg, why) != NULL, "%s", err.msg);
	state_free(st);
}

START_TEST(heads_are_checked)
{
	struct snapshot_extent extents[] = { { 1, 2 }, { 5, 1 } };
	const struct snapshot_head good = { .version = (char *)"1",
					    .arch = (char *)"x86_64",
					    .config = (char *)"{}",
					    .ram = RAM,
					    .id = 5,
					    .memory = (char *)"m",
					    .parent = 6,
					    .below = (char *)"p",
					    .nextents = 2,
					    .extents = extents };
	struct snapshot_head bad = good;

	refused(&bad, "memory m: cannot open");
	bad.ram = RAM + 1;
	refused(&bad, "bytes of RAM");
	bad.ram = 0;
	refused(&bad, "bytes of RAM");
	bad = good;
	bad.id = 0;
	refused(&bad, "not named");
	bad = good;
	bad.below = (char *)"";
	refused(&bad, "not named");
	bad = good;
	bad.parent = 0;
	refused(&bad, "not named");
	bad = good;
	bad.memory = (char *)"";
	refused(&bad, "not named");
	bad = good;
	extents[1].first = 2;
	refused(&bad, "extent 1");
	extents[1] = (struct snapshot_extent){ PAGES, 1 };
	refused(&bad, "extent 1");
	extents[1] = (struct snapshot_extent){ 10, UINT64_MAX };
	refused(&bad, "extent 1");
	extents[1] = (struct snapshot_extent){ UINT64_MAX, 2 };
	refused(&bad, "extent 1");
}
END_TEST

/* --- A file as the first version wrote it, byte for byte: later ones have to read it --- */

struct bytes {
	uint8_t data[1024];
	size_t len;
};

static void put(struct bytes *b, uint64_t value, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		b->data[b->len++] = (uint8_t)(value >> 8 * i);
}

static void put_text(struct bytes *b, const char *text)
{
	memcpy(b->data + b->len, text, strlen(text));
	b->len += strlen(text);
}

/* A field: kind, name, length; its contents follow. */
static void put_field(struct bytes *b, unsigned kind, const char *name, unsigned len)
{
	put(b, kind, 1);
	put(b, strlen(name), 1);
	put_text(b, name);
	put(b, len, 4);
}

static void put_u64(struct bytes *b, const char *name, uint64_t value)
{
	put_field(b, 5, name, 8);
	put(b, value, 8);
}

static void put_blob(struct bytes *b, const char *name, const char *text)
{
	put_field(b, 8, name, (unsigned)strlen(text));
	put_text(b, text);
}

START_TEST(the_first_format_is_read)
{
	struct bytes in = { .len = 0 }, file = { .len = 0 };
	struct err err = ERR_INIT;
	struct snapshot *s;
	FILE *out = fopen("first", "we");

	put_blob(&in, "version", "0.1.0");
	put_blob(&in, "arch", "x86_64");
	put_u64(&in, "time", 1000000000000000000);
	put_blob(&in, "config", "{}");
	put_u64(&in, "ram", RAM);
	put_u64(&in, "memory-id", 0x1122334455667788);
	put_blob(&in, "memory", "first.mem");
	put_u64(&in, "parent-id", 7);
	put_blob(&in, "parent", "zeroth");
	put_field(&in, 8, "extents", 16);
	put(&in, 3, 8);
	put(&in, 2, 8);

	put_text(&file, "VMMSTATE");
	put(&file, 1, 4);
	put(&file, 1, 1); /* a section */
	put(&file, 8, 1);
	put_text(&file, "snapshot");
	put(&file, 1, 4); /* its version */
	put(&file, in.len, 4);
	memcpy(file.data + file.len, in.data, in.len);
	file.len += in.len;
	put(&file, state_crc(file.data, file.len), 8);
	ck_assert_uint_eq(fwrite(file.data, 1, file.len, out), file.len);
	fclose(out);

	s = snapshot_open_state("first", &err);
	ck_assert_msg(s != NULL, "%s", err.msg);
	ck_assert_str_eq(s->head.version, "0.1.0");
	ck_assert_str_eq(s->head.arch, "x86_64");
	ck_assert_uint_eq(s->head.time, 1000000000000000000);
	ck_assert_str_eq(s->head.config, "{}");
	ck_assert_uint_eq(s->head.ram, RAM);
	ck_assert_uint_eq(s->head.id, 0x1122334455667788);
	ck_assert_str_eq(s->head.memory, "first.mem");
	ck_assert_uint_eq(s->head.parent, 7);
	ck_assert_str_eq(s->head.below, "zeroth");
	ck_assert_uint_eq(s->head.nextents, 1);
	ck_assert_uint_eq(s->head.extents[0].first, 3);
	ck_assert_uint_eq(s->head.extents[0].n, 2);
	snapshot_close(s);
}
END_TEST

/* RAM that is a file's: what is written, what is given back, and what is known of it. */
START_TEST(mapped_ram_knows_its_changes)
{
	uint64_t bits[(PAGES + 63) / 64] = { 0 };
	struct err err = ERR_INIT;
	struct snapshot *s;
	struct gmem mem;

	write_one("s", "s.mem", some, SOME, 9, 0, "");
	s = snapshot_open("s", NULL, &err);
	ck_assert_int_eq(snapshot_map(s, &config, &mem, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, 0, RAM, &err), 0);
	ck_assert_int_eq(gmem_dirty_start(&mem, &err), 0);
	ck_assert_int_eq(gmem_changed(&mem, bits, &err), 0);
	for (unsigned i = 0; i < PAGES; i++)
		ck_assert_uint_eq(bits[i / 64] >> i % 64 & 1, 0);
	mem.base[300 * GMEM_PAGE_SIZE] = 1;
	/* Given back: zeroes, not what the file has; and that is a change. */
	ck_assert_int_eq(gmem_discard(&mem, GMEM_PAGE_SIZE, GMEM_PAGE_SIZE), 0);
	ck_assert_int_eq(gmem_changed(&mem, bits, &err), 0);
	for (unsigned i = 0; i < PAGES; i++)
		ck_assert_uint_eq(bits[i / 64] >> i % 64 & 1, i == 1 || i == 300);
	check_page(&mem, 1, 0);
	check_page(&mem, 2, 9);
	/* All that there is: what the file has, and what was written. */
	memset(bits, 0, sizeof(bits));
	ck_assert_int_eq(gmem_data(&mem, bits, &err), 0);
	for (unsigned i = 0; i < SOME; i++)
		ck_assert_uint_eq(bits[some[i] / 64] >> some[i] % 64 & 1, 1);
	/* Somebody wants to write to the file: let go of it. */
	ck_assert_int_eq(gmem_release_files(&mem, &err), 0);
	ck_assert_int_eq(truncate("s.mem", 0), 0);
	check_page(&mem, 0, 9);
	check_page(&mem, 1, 0);
	check_page(&mem, 4, 0);
	check_page(&mem, PAGES - 1, 9);
	ck_assert_uint_eq(mem.base[300 * GMEM_PAGE_SIZE], 1);
	/* After a reset nothing is left, and all of it has changed. */
	ck_assert_int_eq(gmem_reset(&mem, &err), 0);
	memset(bits, 0, sizeof(bits));
	ck_assert_int_eq(gmem_changed(&mem, bits, &err), 0);
	for (unsigned i = 0; i < PAGES; i++)
		ck_assert_uint_eq(bits[i / 64] >> i % 64 & 1, 1);
	check_page(&mem, 0, 0);
	ck_assert_int_eq(gmem_share(&mem, &err), -ENOTSUP);
	gmem_fini(&mem);
	snapshot_close(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_is_written_is_read);
	tcase_add_test(tc, zero_pages_are_holes);
	tcase_add_test(tc, diffs_lie_above_each_other);
	tcase_add_test(tc, a_diff_to_itself_ends);
	tcase_add_test(tc, a_crash_leaves_the_old_or_the_new_one);
	tcase_add_test(tc, memory_files_are_checked);
	tcase_add_test(tc, names_follow_the_state_file);
	tcase_add_test(tc, state_and_memory_are_two_files);
	tcase_add_test(tc, extents_of_bits);
	tcase_add_test(tc, heads_are_checked);
	tcase_add_test(tc, the_first_format_is_read);
	tcase_add_test(tc, mapped_ram_knows_its_changes);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
