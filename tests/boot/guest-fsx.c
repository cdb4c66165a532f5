// SPDX-License-Identifier: Apache-2.0
/*
 * Random operations on two files, one on the file system that is tested, one on another that is
 * trusted; after each both must be the same.
 *
 *	fsx FOLDER TRUSTED-FOLDER SEED STEPS
 *
 * Reads, writes, mapped reads and writes, truncation, fallocate (also punching and zeroing),
 * copy_file_range, O_DIRECT, O_APPEND, sync, closing and opening again, a second open file,
 * renaming, and looking for data and holes (only that what is said of holes is zeroes). Says at the
 * end "fsx: STEPS steps, NAME COUNT ..", or "fsx: step N: what is wrong" and exits with 1.
 *
 * Limits: one process; where shared mappings are not possible (direct I/O without the page cache)
 * private ones are used, for reading only.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_FILE (256 * 1024)
#define PAGE	      4096u

struct side {
	char dir[256], path[300];
	int fd;	    /* read and write */
	int second; /* opened for itself */
	int direct; /* O_DIRECT, or -1 */
};

static struct side side[2]; /* tested, trusted */
static uint64_t state;
static unsigned long step;
static bool no_shared;
static uint8_t *buf[2], *data;

static void fail(const char *fmt, ...)
{
	va_list ap;

	printf("fsx: step %lu: ", step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	exit(1);
}

static uint32_t rnd(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state * 0x2545f4914f6cdd1dull >> 32) % below);
}

/* A place and a length: often at the beginning or end of a page. */
static void range(uint32_t *off, uint32_t *len)
{
	*off = rnd(SIZE_MAX_FILE);
	if (rnd(3) == 0)
		*off &= ~(PAGE - 1);
	*len = 1 + (rnd(4) == 0 ? rnd(65536) : rnd(9000));
	if (rnd(4) == 0)
		*len = (*len + PAGE - 1) & ~(PAGE - 1);
	if (*len > SIZE_MAX_FILE - *off)
		*len = SIZE_MAX_FILE - *off;
}

static void new_data(uint32_t len)
{
	uint8_t c = (uint8_t)rnd(256);

	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)(c + i * 7 + (i >> 8));
}

static off_t size_of(unsigned s)
{
	struct stat st;

	if (fstat(side[s].fd, &st) < 0)
		fail("fstat: %s", strerror(errno));
	return st.st_size;
}

static void same_result(const char *what, long a, int ea, long b, int eb)
{
	if (a != b || (a < 0 && ea != eb))
		fail("%s: %ld (%s), the other %ld (%s)", what, a, a < 0 ? strerror(ea) : "-", b,
		     b < 0 ? strerror(eb) : "-");
}

/* Do it on both sides (@s says which) and compare what it returns. */
#define BOTH(what, expr)                                                                           \
	({                                                                                         \
		long result[2];                                                                    \
		int error[2];                                                                      \
		for (unsigned s = 0; s < 2; s++) {                                                 \
			errno = 0;                                                                 \
			result[s] = (long)(expr);                                                  \
			error[s] = errno;                                                          \
		}                                                                                  \
		same_result(what, result[0], error[0], result[1], error[1]);                       \
		result[0];                                                                         \
	})

static void same_bytes(const char *what, uint32_t off, long n)
{
	for (long i = 0; i < n; i++) {
		if (buf[0][i] != buf[1][i])
			fail("%s at %u: byte %ld is %02x, not %02x", what, off, off + i, buf[0][i],
			     buf[1][i]);
	}
}

static void op_read(void)
{
	uint32_t off, len;
	long n;

	range(&off, &len);
	n = BOTH("read", pread(side[s].fd, buf[s], len, off));
	same_bytes("read", off, n);
}

static void op_read_second(void)
{
	uint32_t off, len;
	long n;

	range(&off, &len);
	n = BOTH("read of the second", pread(side[s].second, buf[s], len, off));
	same_bytes("read of the second", off, n);
}

static void op_write(void)
{
	uint32_t off, len;

	range(&off, &len);
	new_data(len);
	BOTH("write", pwrite(side[s].fd, data, len, off));
}

static void op_append(void)
{
	uint32_t len = 1 + rnd(5000);
	int fd[2];

	if (size_of(1) + len > SIZE_MAX_FILE)
		return;
	new_data(len);
	for (unsigned s = 0; s < 2; s++) {
		fd[s] = open(side[s].path, O_WRONLY | O_APPEND);
		if (fd[s] < 0)
			fail("open to append: %s", strerror(errno));
	}
	BOTH("append", write(fd[s], data, len));
	BOTH("close", close(fd[s]));
}

static void op_direct(void)
{
	uint32_t off, len;
	long n;

	range(&off, &len);
	off &= ~(PAGE - 1);
	len = (len + PAGE - 1) & ~(PAGE - 1);
	if (rnd(2) == 0) {
		new_data(len);
		memcpy(buf[0], data, len);
		memcpy(buf[1], data, len);
		BOTH("direct write",
		     pwrite(side[s].direct >= 0 ? side[s].direct : side[s].fd, buf[s], len, off));
	} else {
		n = BOTH("direct read", pread(side[s].direct >= 0 ? side[s].direct : side[s].fd,
					      buf[s], len, off));
		same_bytes("direct read", off, n);
	}
}

static void *map(unsigned s, size_t len, int prot, bool shared)
{
	void *p = mmap(NULL, len, prot, shared ? MAP_SHARED : MAP_PRIVATE, side[s].fd, 0);

	if (p != MAP_FAILED)
		return p;
	if (s == 0 && shared && errno == ENODEV)
		no_shared = true;
	else
		fail("mmap: %s", strerror(errno));
	return NULL;
}

static void op_map_read(void)
{
	off_t size = size_of(1);
	uint32_t off, len;
	uint8_t *p[2];

	if (size == 0)
		return;
	off = rnd((uint32_t)size);
	len = 1 + rnd((uint32_t)size - off);
	for (unsigned s = 0; s < 2; s++) {
		p[s] = map(s, (size_t)size, PROT_READ, !no_shared);
		if (p[s] == NULL)
			return;
		memcpy(buf[s], p[s] + off, len);
	}
	same_bytes("mapped read", off, len);
	/* Behind the end, in the last page, there are zeroes. */
	for (off_t i = size; i % PAGE != 0; i++) {
		if (p[0][i] != 0)
			fail("mapped read: byte %ld, behind the end, is %02x", (long)i, p[0][i]);
	}
	munmap(p[0], (size_t)size);
	munmap(p[1], (size_t)size);
}

static void op_map_write(void)
{
	off_t size = size_of(1);
	uint32_t off, len;

	if (size == 0 || no_shared)
		return;
	off = rnd((uint32_t)size);
	len = 1 + rnd((uint32_t)size - off < 8000 ? (uint32_t)size - off : 8000);
	new_data(len);
	for (unsigned s = 0; s < 2; s++) {
		uint8_t *p = map(s, (size_t)size, PROT_READ | PROT_WRITE, true);

		if (p == NULL)
			return;
		memcpy(p + off, data, len);
		if (step % 4 == 0 && msync(p, (size_t)size, MS_SYNC) < 0)
			fail("msync: %s", strerror(errno));
		munmap(p, (size_t)size);
	}
}

static void op_truncate(void)
{
	uint32_t size = rnd(SIZE_MAX_FILE);

	if (rnd(3) == 0)
		size &= ~(PAGE - 1);
	if (rnd(2) == 0)
		BOTH("ftruncate", ftruncate(side[s].fd, size));
	else
		BOTH("truncate", truncate(side[s].path, size));
}

static void op_fallocate(void)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };
	uint32_t off, len, which = rnd(3);

	range(&off, &len);
	if (len == 0)
		return;
	BOTH(which == 2 ? "punch" : "fallocate", fallocate(side[s].fd, modes[which], off, len));
}

/* Where it is not known it is written by hand on the trusted side. */
static void op_zero(void)
{
	uint32_t off, len;
	off_t size = size_of(1);

	range(&off, &len);
	if (len == 0 || off >= size)
		return;
	if (len > size - off)
		len = (uint32_t)(size - off);
	if (fallocate(side[0].fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len) < 0) {
		if (errno != EOPNOTSUPP)
			fail("zero range: %s", strerror(errno));
		return;
	}
	memset(data, 0, len);
	if (pwrite(side[1].fd, data, len, off) != (ssize_t)len)
		fail("the trusted file cannot be written");
}

static void op_copy(void)
{
	uint32_t off, len;
	off_t size = size_of(1), to;

	range(&off, &len);
	if (off >= size)
		return;
	if (len > size - off)
		len = (uint32_t)(size - off);
	to = rnd(2) == 0 ? off + len : (off_t)off - len;
	if (to < 0 || to + len > SIZE_MAX_FILE)
		return;
	for (unsigned s = 0; s < 2; s++) {
		uint32_t done = 0;

		while (done < len) {
			off64_t in = off + done, out = to + done;
			ssize_t n =
				copy_file_range(side[s].fd, &in, side[s].fd, &out, len - done, 0);

			if (n <= 0)
				fail("copy_file_range on side %u: %zd %s", s, n, strerror(errno));
			done += (uint32_t)n;
		}
	}
}

static void op_sync(void)
{
	if (rnd(2) == 0)
		BOTH("fsync", fsync(side[s].fd));
	else
		BOTH("fdatasync", fdatasync(side[s].fd));
}

static void open_side(unsigned s, int flags)
{
	side[s].fd = open(side[s].path, O_RDWR | flags, 0644);
	side[s].second = open(side[s].path, O_RDONLY);
	side[s].direct = open(side[s].path, O_RDWR | O_DIRECT);
	if (side[s].fd < 0 || side[s].second < 0)
		fail("open %s: %s", side[s].path, strerror(errno));
}

static void close_side(unsigned s)
{
	if (close(side[s].fd) < 0 || close(side[s].second) < 0)
		fail("close: %s", strerror(errno));
	if (side[s].direct >= 0)
		close(side[s].direct);
}

static void op_reopen(void)
{
	bool trunc = rnd(20) == 0;

	for (unsigned s = 0; s < 2; s++) {
		close_side(s);
		open_side(s, trunc ? O_TRUNC : 0);
	}
}

static void op_rename(void)
{
	char name[300];

	for (unsigned s = 0; s < 2; s++) {
		snprintf(name, sizeof(name), "%.250s/fsx.%lu", side[s].dir, step);
		if (rename(side[s].path, name) < 0)
			fail("rename: %s", strerror(errno));
		strcpy(side[s].path, name);
	}
}

/* What is said to be a hole reads as zeroes. */
static void op_holes(void)
{
	off_t size = size_of(0), hole, end;
	long n;

	if (size == 0)
		return;
	hole = lseek(side[0].fd, rnd((uint32_t)size), SEEK_HOLE);
	if (hole < 0)
		fail("SEEK_HOLE: %s", strerror(errno));
	if (hole >= size)
		return;
	end = lseek(side[0].fd, hole, SEEK_DATA);
	if (end < 0 && errno != ENXIO)
		fail("SEEK_DATA: %s", strerror(errno));
	if (end < 0)
		end = size;
	n = pread(side[1].fd, buf[1], (size_t)(end - hole), hole);
	for (long i = 0; i < n; i++) {
		if (buf[1][i] != 0)
			fail("a hole from %ld to %ld has data at %ld", (long)hole, (long)end,
			     (long)(hole + i));
	}
}

/* All of both, through the handle that is used most. */
static void compare(void)
{
	long n;

	if (size_of(0) != size_of(1))
		fail("size %ld, not %ld", (long)size_of(0), (long)size_of(1));
	n = BOTH("reading all", pread(side[s].fd, buf[s], SIZE_MAX_FILE, 0));
	same_bytes("all", 0, n);
}

static const struct {
	const char *name;
	void (*run)(void);
	unsigned weight;
} ops[] = {
	{ "read", op_read, 15 },	  { "second", op_read_second, 5 },
	{ "write", op_write, 20 },	  { "append", op_append, 4 },
	{ "direct", op_direct, 8 },	  { "mapread", op_map_read, 10 },
	{ "mapwrite", op_map_write, 12 }, { "truncate", op_truncate, 6 },
	{ "fallocate", op_fallocate, 6 }, { "zero", op_zero, 2 },
	{ "copy", op_copy, 5 },		  { "sync", op_sync, 2 },
	{ "reopen", op_reopen, 3 },	  { "rename", op_rename, 1 },
	{ "holes", op_holes, 3 },
};
#define OPS (sizeof(ops) / sizeof(ops[0]))

int main(int argc, char **argv)
{
	unsigned long steps, count[OPS] = { 0 };
	unsigned total = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 5) {
		fprintf(stderr, "usage: fsx FOLDER TRUSTED-FOLDER SEED STEPS\n");
		return 2;
	}
	state = strtoull(argv[3], NULL, 0) * 0x9e3779b97f4a7c15ull + 1;
	steps = strtoul(argv[4], NULL, 0);
	data = aligned_alloc(PAGE, SIZE_MAX_FILE + PAGE);
	for (unsigned s = 0; s < 2; s++) {
		buf[s] = aligned_alloc(PAGE, SIZE_MAX_FILE + PAGE);
		snprintf(side[s].dir, sizeof(side[s].dir), "%s", argv[1 + s]);
		snprintf(side[s].path, sizeof(side[s].path), "%.250s/fsx", argv[1 + s]);
		open_side(s, O_CREAT | O_TRUNC);
	}
	for (unsigned i = 0; i < OPS; i++)
		total += ops[i].weight;
	for (step = 1; step <= steps; step++) {
		unsigned pick = rnd(total), i = 0;

		while (pick >= ops[i].weight)
			pick -= ops[i++].weight;
		ops[i].run();
		count[i]++;
		if (size_of(0) != size_of(1))
			fail("after %s: size %ld, not %ld", ops[i].name, (long)size_of(0),
			     (long)size_of(1));
		if (step % 8 == 0 || step == steps)
			compare();
		if (step % 5000 == 0)
			printf("fsx: after %lu\n", step);
	}
	printf("fsx: %lu steps%s:", steps, no_shared ? ", no shared mappings" : "");
	for (unsigned i = 0; i < OPS; i++)
		printf(" %s %lu", ops[i].name, count[i]);
	putchar('\n');
	for (unsigned s = 0; s < 2; s++) {
		close_side(s);
		unlink(side[s].path);
	}
	return 0;
}
