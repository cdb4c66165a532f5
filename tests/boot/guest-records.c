// SPDX-License-Identifier: Apache-2.0
/*
 * Writes records that must not be lost, and looks for them.
 *
 *   records write FILE [COUNT]   append records, each followed by fsync(); once that is back,
 *                                say "vmm-guest: flushed N"
 *   records check FILE           say "vmm-guest: intact N": records 1 to N are there, unharmed
 *
 * So whoever has seen "flushed N" must find N records or more afterwards, whatever happened to
 * the machine. What comes after the last whole record is cut off before the next is appended.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS 512 /* 4 KiB */
#define SIZE  (WORDS * sizeof(uint64_t))

/* Sizes differ, so that records end in the middle of blocks. */
static size_t make(uint64_t *record, uint64_t number)
{
	uint64_t x = number * 0x9e3779b97f4a7c15;
	size_t words = 2 + number * 37 % (WORDS - 2);

	record[0] = number;
	record[1] = words;
	for (size_t i = 2; i < words; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		record[i] = x;
	}
	return words * sizeof(uint64_t);
}

/* How many records are whole; *end is where the last one ends. */
static uint64_t intact(int fd, off_t *end)
{
	static uint64_t found[WORDS], expected[WORDS];
	uint64_t n = 0;
	size_t size;

	for (*end = 0;; *end += size, n++) {
		size = make(expected, n + 1);
		if (pread(fd, found, size, *end) != (ssize_t)size ||
		    memcmp(found, expected, size) != 0)
			return n;
	}
}

static int die(const char *what)
{
	perror(what);
	return 1;
}

static int write_records(int fd, uint64_t count)
{
	static uint64_t record[WORDS];
	uint64_t n;
	off_t end;

	n = intact(fd, &end);
	if (ftruncate(fd, end) < 0)
		return die("ftruncate");
	while (count-- > 0) {
		ssize_t size = make(record, ++n);

		if (pwrite(fd, record, size, end) != size)
			return die("pwrite");
		end += size;
		if (fsync(fd) < 0)
			return die("fsync");
		dprintf(STDOUT_FILENO, "vmm-guest: flushed %llu\n", (unsigned long long)n);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int fd = -1;
	off_t end;

	if (argc >= 3)
		fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return die("records");
	if (strcmp(argv[1], "write") == 0)
		return write_records(fd, argc > 3 ? strtoull(argv[3], NULL, 0) : UINT64_MAX);
	printf("vmm-guest: intact %llu\n", (unsigned long long)intact(fd, &end));
	return 0;
}
