// SPDX-License-Identifier: Apache-2.0
/* Guest memory: bounds, regions, dirty marks, files, reset. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/resource.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/base/gmem.h"

#define MIB  (1ULL << 20)
#define LOW  (2 * MIB)
#define HIGH 0x100000000ULL

/* 2 MiB at 0 and 2 MiB at 4 GiB. */
static struct gmem mem;

static void setup(void)
{
	struct gmem_config cfg = { .size = 4 * MIB };
	struct err err = ERR_INIT;

	ck_assert_msg(gmem_init(&mem, &cfg, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(gmem_add_region(&mem, 0, LOW, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, HIGH, LOW, &err), 0);
}

static void teardown(void)
{
	gmem_fini(&mem);
}

START_TEST(pointers_only_inside)
{
	ck_assert_ptr_eq(gmem_ptr(&mem, 0, 1), mem.base);
	ck_assert_ptr_eq(gmem_ptr(&mem, LOW - 1, 1), mem.base + LOW - 1);
	ck_assert_ptr_eq(gmem_ptr(&mem, 0, LOW), mem.base);
	ck_assert_ptr_eq(gmem_ptr(&mem, HIGH, LOW), mem.base + LOW);
	ck_assert_ptr_null(gmem_ptr(&mem, 0, 0));
	ck_assert_ptr_null(gmem_ptr(&mem, LOW, 1));
	ck_assert_ptr_null(gmem_ptr(&mem, LOW - 1, 2));
	ck_assert_ptr_null(gmem_ptr(&mem, 0, LOW + 1));
	ck_assert_ptr_null(gmem_ptr(&mem, HIGH - 1, 2));
	ck_assert_ptr_null(gmem_ptr(&mem, HIGH + LOW, 1));
}
END_TEST

START_TEST(sums_that_wrap)
{
	ck_assert_ptr_null(gmem_ptr(&mem, UINT64_MAX, 1));
	ck_assert_ptr_null(gmem_ptr(&mem, UINT64_MAX, UINT64_MAX));
	ck_assert_ptr_null(gmem_ptr(&mem, 1, UINT64_MAX));
	ck_assert_ptr_null(gmem_ptr(&mem, HIGH + 1, UINT64_MAX - HIGH));
	ck_assert_int_eq(gmem_zero(&mem, HIGH, UINT64_MAX), -EFAULT);
}
END_TEST

START_TEST(copies_across_adjacent_regions)
{
	struct gmem_config cfg = { .size = 2 * MIB };
	struct err err = ERR_INIT;
	struct gmem two;
	char buf[6] = "";

	ck_assert_int_eq(gmem_init(&two, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&two, 0, MIB, &err), 0);
	ck_assert_int_eq(gmem_add_region(&two, MIB, MIB, &err), 0);
	ck_assert_ptr_null(gmem_ptr(&two, MIB - 2, 5)); /* never a pointer across */
	ck_assert_int_eq(gmem_write(&two, MIB - 2, "hello", 5), 0);
	ck_assert_int_eq(gmem_read(&two, MIB - 2, buf, 5), 0);
	ck_assert_str_eq(buf, "hello");
	gmem_fini(&two);
}
END_TEST

START_TEST(a_copy_that_fails_copies_nothing)
{
	char buf[4] = "abc";

	ck_assert_int_eq(gmem_write(&mem, LOW - 2, "xyz", 3), -EFAULT);
	ck_assert_int_eq(mem.base[LOW - 2], 0);
	ck_assert_int_eq(gmem_read(&mem, LOW - 2, buf, 3), -EFAULT);
	ck_assert_str_eq(buf, "abc");
}
END_TEST

START_TEST(regions_are_checked)
{
	struct gmem_config cfg = { .size = 2 * MIB };
	struct err err = ERR_INIT;
	struct gmem m;

	ck_assert_int_eq(gmem_init(&m, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&m, 1, MIB, &err), -EINVAL);
	ck_assert_int_eq(gmem_add_region(&m, 0, 0, &err), -EINVAL);
	ck_assert_int_eq(gmem_add_region(&m, 0, 3 * MIB, &err), -EINVAL);
	ck_assert_int_eq(gmem_add_region(&m, MIB, MIB, &err), 0);
	ck_assert_int_eq(gmem_add_region(&m, MIB, MIB, &err), -EINVAL);
	ck_assert_int_eq(gmem_add_region(&m, 0, MIB, &err), -EINVAL);
	gmem_fini(&m);
}
END_TEST

START_TEST(sizes_are_checked)
{
	struct gmem_config cfg = { .size = 4097 };
	struct err err = ERR_INIT;
	struct gmem m;

	ck_assert_int_eq(gmem_init(&m, &cfg, &err), -EINVAL);
	gmem_fini(&m);
	cfg = (struct gmem_config){ .size = 3 * MIB, .huge = GMEM_HUGE_2M };
	ck_assert_int_eq(gmem_init(&m, &cfg, &err), -EINVAL);
	gmem_fini(&m);
	/* More than any machine has: an error with a sentence, not a crash. */
	cfg = (struct gmem_config){ .size = 1ULL << 62 };
	ck_assert_int_lt(gmem_init(&m, &cfg, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "memory: "));
	gmem_fini(&m);
}
END_TEST

START_TEST(dirty_marks_writes_only)
{
	struct err err = ERR_INIT;
	uint64_t bits[8];

	ck_assert_int_eq(gmem_dirty_start(&mem, &err), 0);
	(void)gmem_ptr(&mem, 0x1000, 1);
	gmem_dirty_fetch(&mem, 0, bits);
	for (int i = 0; i < 8; i++)
		ck_assert_uint_eq(bits[i], 0);

	ck_assert_ptr_nonnull(gmem_wptr(&mem, 0x1fff, 2)); /* pages 1 and 2 */
	gmem_dirty_fetch(&mem, 0, bits);
	ck_assert_uint_eq(bits[0], 6);
	gmem_dirty_fetch(&mem, 0, bits); /* fetched is clean */
	ck_assert_uint_eq(bits[0], 0);

	ck_assert_int_eq(gmem_write(&mem, HIGH + LOW - 1, "x", 1), 0);
	gmem_dirty_fetch(&mem, 0, bits);
	ck_assert_uint_eq(bits[7], 0);
	gmem_dirty_fetch(&mem, 1, bits);
	ck_assert_uint_eq(bits[7], 1ULL << 63);

	ck_assert_ptr_null(gmem_wptr(&mem, LOW - 1, 2)); /* refused: not marked */
	gmem_dirty_fetch(&mem, 0, bits);
	ck_assert_uint_eq(bits[7], 0);
	gmem_dirty_stop(&mem);
}
END_TEST

/* What a process that was forked writes is there, and its marks are. */
START_TEST(forked)
{
	struct err err = ERR_INIT;
	uint64_t bits[8];
	int status;
	pid_t pid;

	ck_assert(gmem_fork(&mem));
	ck_assert_int_eq(gmem_dirty_start(&mem, &err), 0);
	pid = fork();
	if (pid == 0) {
		/* This process is check's to end. */
		gmem_write(&mem, 0x3000, "child", 6);
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_str_eq(gmem_ptr(&mem, 0x3000, 6), "child");
	gmem_dirty_fetch(&mem, 0, bits);
	ck_assert_uint_eq(bits[0], 1 << 3);
}
END_TEST

START_TEST(not_forked)
{
	struct gmem_config cfg = { .size = LOW, .merge = true };
	struct err err = ERR_INIT;
	struct gmem m;

	/* Private, or a host without KSM: then there is nothing to see. */
	if (gmem_init(&m, &cfg, &err) == 0)
		ck_assert(!gmem_fork(&m));
	gmem_fini(&m);
}
END_TEST

/* A file of @pages pages, each filled with its number + 1. */
static int numbered_file(unsigned pages)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	uint8_t page[GMEM_PAGE_SIZE];

	for (unsigned i = 0; i < pages; i++) {
		memset(page, (int)i + 1, sizeof(page));
		ck_assert_int_eq(write(fd, page, sizeof(page)), sizeof(page));
	}
	return fd;
}

START_TEST(files_mapped_and_read_are_the_same)
{
	uint64_t len = 100 * GMEM_PAGE_SIZE + 5;
	int fd = numbered_file(102);
	struct err err = ERR_INIT;
	uint64_t wrong = 0;

	/* Page offsets that agree (mapped) and that do not (read). */
	for (uint64_t gpa = 0x10000 - 8; gpa <= 0x10000; gpa += 4) {
		uint64_t offset = gpa % GMEM_PAGE_SIZE == 0 ? 0 : GMEM_PAGE_SIZE - 8;

		ck_assert_int_eq(gmem_reset(&mem, &err), 0);
		ck_assert_msg(gmem_load_file(&mem, gpa, fd, offset, len, &err) == 0, "%s", err.msg);
		for (uint64_t i = 0; i < len; i++)
			wrong += mem.base[gpa + i] != (uint8_t)((offset + i) / GMEM_PAGE_SIZE + 1);
		ck_assert_uint_eq(wrong, 0);
		ck_assert_uint_eq(mem.base[gpa - 1], 0);
		ck_assert_uint_eq(mem.base[gpa + len], 0);
	}
	close(fd);
}
END_TEST

START_TEST(writes_do_not_reach_the_file)
{
	int fd = numbered_file(100);
	struct err err = ERR_INIT;
	uint8_t byte;

	ck_assert_int_eq(gmem_load_file(&mem, 0x10000, fd, 0, 100 * GMEM_PAGE_SIZE, &err), 0);
	ck_assert_int_eq(gmem_write(&mem, 0x10000, "\xee", 1), 0);
	ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
	ck_assert_uint_eq(byte, 1);
	ck_assert_int_eq(gmem_reset(&mem, &err), 0);
	ck_assert_uint_eq(mem.base[0x10000], 0);
	ck_assert_uint_eq(mem.base[0x10000 + 99 * GMEM_PAGE_SIZE], 0);
	close(fd);
}
END_TEST

/* Somebody wants to cut the file short under us: the lease makes them wait. */
START_TEST(a_mapped_file_can_be_let_go)
{
	char path[] = "/tmp/test_gmem.XXXXXX";
	int fd = mkstemp(path), writer;
	struct err err = ERR_INIT;
	uint8_t page[GMEM_PAGE_SIZE];
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	memset(page, 0x5a, sizeof(page));
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(write(fd, page, sizeof(page)), sizeof(page));
	close(fd);
	fd = open(path, O_RDONLY);

	ck_assert_int_eq(gmem_load_file(&mem, 0x10000, fd, 0, 100 * GMEM_PAGE_SIZE, &err), 0);
	close(fd);
	if (mem.nfiles == 1) { /* else: no leases on this file system, so it was read */
		ck_assert_int_lt(open(path, O_WRONLY | O_TRUNC | O_NONBLOCK), 0);
		ck_assert_int_eq(errno, EWOULDBLOCK);
		ck_assert_int_eq(sigwaitinfo(&set, NULL), SIGIO);
	}
	mem.base[0x10000] = 0xa5; /* the guest's own writes stay */
	ck_assert_msg(gmem_release_files(&mem, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(mem.nfiles, 0);
	writer = open(path, O_WRONLY | O_TRUNC | O_NONBLOCK);
	ck_assert_int_ge(writer, 0);
	ck_assert_uint_eq(mem.base[0x10000], 0xa5);
	ck_assert_uint_eq(mem.base[0x10001], 0x5a);
	ck_assert_uint_eq(mem.base[0x10000 + 100 * GMEM_PAGE_SIZE - 1], 0x5a);
	close(writer);
	unlink(path);
}
END_TEST

START_TEST(files_that_are_too_short_or_do_not_fit)
{
	int fd = numbered_file(100);
	struct err err = ERR_INIT;

	ck_assert_int_eq(gmem_load_file(&mem, 0, fd, 0, 100 * GMEM_PAGE_SIZE + 1, &err), -EIO);
	ck_assert_str_eq(err.msg, "the file ends 1 bytes too early");
	ck_assert_int_eq(gmem_load_file(&mem, 0, fd, UINT64_MAX, 10, &err), -EIO);
	ck_assert_int_eq(gmem_load_file(&mem, LOW - 10, fd, 0, 11, &err), -EFAULT);
	ck_assert_int_eq(gmem_load_file(&mem, HIGH, fd, 0, 0, &err), 0);
	close(fd);
}
END_TEST

START_TEST(top_of_ram)
{
	ck_assert_uint_eq(gmem_top_below(&mem, HIGH), LOW);
	ck_assert_uint_eq(gmem_top_below(&mem, MIB), MIB);
	ck_assert_uint_eq(gmem_top_below(&mem, UINT64_MAX), HIGH + LOW);
	ck_assert_uint_eq(gmem_top_below(&mem, HIGH + 1), HIGH + 1);
}
END_TEST

/* A region behind RAM that is a file: written through, left alone by a reset, or not written. */
START_TEST(from_host_to_guest)
{
	const struct gmem_region *r = mem.regions;
	uint64_t gpa = 7;

	for (unsigned i = 0; i < mem.nregions; i++) {
		ck_assert(gmem_gpa(&mem, r[i].host, &gpa));
		ck_assert_uint_eq(gpa, r[i].gpa);
		ck_assert(gmem_gpa(&mem, r[i].host + r[i].size - 1, &gpa));
		ck_assert_uint_eq(gpa, r[i].gpa + r[i].size - 1);
	}
	ck_assert(!gmem_gpa(&mem, &mem, &gpa));
	ck_assert(!gmem_gpa(&mem, NULL, &gpa));
	ck_assert_uint_eq(gmem_end(&mem), r[mem.nregions - 1].gpa + r[mem.nregions - 1].size);
	ck_assert_uint_eq(gmem_end(&(struct gmem){ 0 }), 0);
}
END_TEST

START_TEST(files_as_regions)
{
	struct err err = ERR_INIT;
	int fd = memfd_create("file", MFD_CLOEXEC);
	uint64_t len = 2 * MIB;
	char byte = 0;

	ck_assert_int_eq(ftruncate(fd, 2 * MIB), 0);
	ck_assert_int_eq(gmem_add_file(&mem, LOW, MIB, fd, false, &err), -EINVAL); /* not above */
	ck_assert_msg(gmem_add_file(&mem, 2 * HIGH, 2 * MIB, fd, false, &err) == 0, "%s", err.msg);
	ck_assert_msg(gmem_add_file(&mem, 3 * HIGH, 2 * MIB, fd, true, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(gmem_write(&mem, 2 * HIGH + 5, "x", 1), 0);
	ck_assert_int_eq(pread(fd, &byte, 1, 5), 1);
	ck_assert_int_eq(byte, 'x');

	ck_assert_int_eq(gmem_read(&mem, 3 * HIGH + 5, &byte, 1), 0);
	ck_assert_int_eq(gmem_write(&mem, 3 * HIGH + 5, "y", 1), -EFAULT);
	ck_assert_ptr_null(gmem_wptr(&mem, 3 * HIGH, 1));
	ck_assert_ptr_null(gmem_span(&mem, 3 * HIGH, &len, true));
	ck_assert_ptr_nonnull(gmem_span(&mem, 3 * HIGH, &len, false));

	ck_assert_int_eq(gmem_discard(&mem, 2 * HIGH, 2 * MIB), -EFAULT);
	ck_assert_int_eq(gmem_load_file(&mem, 2 * HIGH, fd, 0, MIB, &err), -EFAULT);
	ck_assert_uint_eq(gmem_top_below(&mem, UINT64_MAX), HIGH + LOW);
	ck_assert_msg(gmem_reset(&mem, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(gmem_read(&mem, 2 * HIGH + 5, &byte, 1), 0);
	ck_assert_int_eq(byte, 'x');
	close(fd);
}
END_TEST

/* Pages of RAM the host has given out. */
static uint64_t resident(const struct gmem *m, uint64_t bytes)
{
	unsigned char map[4 * MIB / GMEM_PAGE_SIZE];
	uint64_t n = 0;

	ck_assert_int_eq(mincore(m->base, bytes, map), 0);
	for (uint64_t i = 0; i < bytes / GMEM_PAGE_SIZE; i++)
		n += map[i] & 1;
	return n;
}

static void check_discard(struct gmem *m)
{
	struct err err = ERR_INIT;
	uint64_t bits[LOW / GMEM_PAGE_SIZE / 64];

	memset(m->base, 7, 2 * LOW);
	ck_assert_uint_eq(resident(m, 2 * LOW), 2 * LOW / GMEM_PAGE_SIZE);
	ck_assert_int_eq(gmem_dirty_start(m, &err), 0);
	/* Whole pages only: 0x1001 up to 0x4fff holds two and a bit at each end. */
	ck_assert_int_eq(gmem_discard(m, 0x1001, 0x3ffe), 0);
	ck_assert_int_eq(m->base[0x1fff], 7);
	ck_assert_int_eq(m->base[0x4000], 7);
	ck_assert_uint_eq(resident(m, 2 * LOW), 2 * LOW / GMEM_PAGE_SIZE - 2);
	gmem_dirty_fetch(m, 0, bits);
	ck_assert_uint_eq(bits[0], 0xc);
	ck_assert_int_eq(m->base[0x2000], 0);
	ck_assert_int_eq(m->base[0x3fff], 0);
	ck_assert_int_eq(gmem_discard(m, HIGH, LOW), 0);
	ck_assert_int_eq(m->base[LOW - 1], 7);
	ck_assert_int_eq(m->base[LOW], 0);
	ck_assert_int_eq(gmem_discard(m, LOW - GMEM_PAGE_SIZE, 2 * GMEM_PAGE_SIZE), -EFAULT);
	ck_assert_int_eq(gmem_discard(m, UINT64_MAX - 1, 4096), -EFAULT);
	ck_assert_int_eq(gmem_discard(m, 0, 0), -EFAULT);
	ck_assert_int_eq(gmem_discard(m, 1, 4096), 0); /* no whole page */
	ck_assert_int_eq(m->base[0x1000], 7);
}

START_TEST(what_is_discarded_goes_back)
{
	struct gmem_config cfg = { .size = 4 * MIB, .huge = GMEM_HUGE_THP };
	struct err err = ERR_INIT;
	struct gmem private;

	check_discard(&mem);
	if (gmem_init(&private, &cfg, &err) == 0) {
		ck_assert_int_eq(gmem_add_region(&private, 0, LOW, &err), 0);
		ck_assert_int_eq(gmem_add_region(&private, HIGH, LOW, &err), 0);
		check_discard(&private);
	}
	gmem_fini(&private);
}
END_TEST

/* What is mapped from a file stays, what lies around it goes. */
START_TEST(mapped_files_are_not_discarded)
{
	struct err err = ERR_INIT;
	int fd = memfd_create("file", MFD_CLOEXEC);

	ck_assert_int_eq(ftruncate(fd, MIB), 0);
	for (unsigned i = 0; i < MIB; i += GMEM_PAGE_SIZE)
		ck_assert_int_eq(pwrite(fd, "z", 1, i), 1);
	memset(mem.base, 7, LOW);
	ck_assert_msg(gmem_load_file(&mem, 0x10000, fd, 0, MIB, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(gmem_discard(&mem, 0, LOW), 0);
	ck_assert_int_eq(mem.base[0x10000], 'z');
	ck_assert_int_eq(mem.base[0x10000 + MIB - GMEM_PAGE_SIZE], 'z');
	ck_assert_int_eq(mem.base[0xffff], 0);
	ck_assert_int_eq(mem.base[0x10000 + MIB], 0);
	close(fd);
}
END_TEST

/* What another process maps by the memfd is all of it, files loaded before and after. */
START_TEST(shared_memory_is_in_the_memfd)
{
	struct gmem_config cfg = { .size = 4 * MIB, .huge = GMEM_HUGE_THP };
	struct err err = ERR_INIT;
	int fd = memfd_create("file", MFD_CLOEXEC);
	struct gmem private;
	char byte = 0;

	ck_assert_int_eq(ftruncate(fd, MIB), 0);
	ck_assert_int_eq(pwrite(fd, "z", 1, MIB - 1), 1);
	ck_assert_int_eq(gmem_load_file(&mem, 0x10000, fd, 0, MIB, &err), 0);
	ck_assert_msg(gmem_share(&mem, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(pread(mem.regions[0].fd, &byte, 1, 0x10000 + MIB - 1), 1);
	ck_assert_int_eq(byte, 'z');
	ck_assert_int_eq(gmem_load_file(&mem, HIGH, fd, 0, MIB, &err), 0);
	ck_assert_uint_eq(mem.nfiles, 0);
	ck_assert_int_eq(
		pread(mem.regions[1].fd, &byte, 1, (off_t)(mem.regions[1].offset + MIB - 1)), 1);
	ck_assert_int_eq(byte, 'z');
	close(fd);
	if (gmem_init(&private, &cfg, &err) == 0)
		ck_assert_int_eq(gmem_share(&private, &err), -ENOTSUP);
	gmem_fini(&private);
}
END_TEST

/* Anonymous memory is no file. Runs in a process of its own, as every test. */
START_TEST(more_memory_than_files_may_have)
{
	struct gmem_config cfg = { .size = 2 * MIB };
	struct rlimit limit = { MIB, MIB };
	struct err err = ERR_INIT;
	struct gmem large;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(gmem_init(&large, &cfg, &err), 0);
	ck_assert_int_eq(large.fd, -1);
	ck_assert_int_eq(gmem_add_region(&large, 0, 2 * MIB, &err), 0);
	ck_assert_int_eq(gmem_write(&large, 2 * MIB - 5, "hello", 5), 0);
	ck_assert_int_eq(gmem_share(&large, &err), -ENOTSUP);
	ck_assert_str_eq(err.msg,
			 "another process must see guest memory, but with files limited to less "
			 "(RLIMIT_FSIZE) it is private: leave that out");
	gmem_fini(&large);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gmem");
	TCase *tc = tcase_create("gmem");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, pointers_only_inside);
	tcase_add_test(tc, sums_that_wrap);
	tcase_add_test(tc, copies_across_adjacent_regions);
	tcase_add_test(tc, a_copy_that_fails_copies_nothing);
	tcase_add_test(tc, regions_are_checked);
	tcase_add_test(tc, sizes_are_checked);
	tcase_add_test(tc, dirty_marks_writes_only);
	tcase_add_test(tc, forked);
	tcase_add_test(tc, not_forked);
	tcase_add_test(tc, files_mapped_and_read_are_the_same);
	tcase_add_test(tc, writes_do_not_reach_the_file);
	tcase_add_test(tc, a_mapped_file_can_be_let_go);
	tcase_add_test(tc, files_that_are_too_short_or_do_not_fit);
	tcase_add_test(tc, more_memory_than_files_may_have);
	tcase_add_test(tc, top_of_ram);
	tcase_add_test(tc, from_host_to_guest);
	tcase_add_test(tc, files_as_regions);
	tcase_add_test(tc, what_is_discarded_goes_back);
	tcase_add_test(tc, mapped_files_are_not_discarded);
	tcase_add_test(tc, shared_memory_is_in_the_memfd);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
