// SPDX-License-Identifier: Apache-2.0
/*
 * Runs in the guest: I/O of a disk straight into, and out of, a file that is mapped from persistent
 * memory (-o dax): the disk's requests then name memory that is no RAM.
 *
 *   dax DISK FILE	writes a pattern to DISK, reads it into FILE, changes it there and writes
 *			that back to DISK, all by O_DIRECT; says "vmm-guest: dax ok"
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1 << 20)

static int die(const char *what)
{
	perror(what);
	return 1;
}

static void pattern(uint64_t *to, uint64_t seed)
{
	for (size_t i = 0; i < SIZE / sizeof(*to); i++)
		to[i] = (i + seed) * 0x9e3779b97f4a7c15;
}

int main(int argc, char **argv)
{
	uint64_t *want = aligned_alloc(4096, SIZE), *got = aligned_alloc(4096, SIZE), *map;
	int disk, file;

	if (argc < 3 || want == NULL || got == NULL)
		return die("dax");
	disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	file = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (disk < 0 || file < 0 || ftruncate(file, SIZE) < 0)
		return die("open");
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		return die("mmap");
	pattern(want, 1);
	if (pwrite(disk, want, SIZE, 0) != SIZE)
		return die("write to the disk");
	if (pread(disk, map, SIZE, 0) != SIZE)
		return die("read into the mapping");
	if (memcmp(map, want, SIZE) != 0)
		return puts("vmm-guest: dax: the mapping is wrong"), 1;
	pattern(map, 2);
	pattern(want, 2);
	if (pwrite(disk, map, SIZE, SIZE) != SIZE)
		return die("write from the mapping");
	if (pread(disk, got, SIZE, SIZE) != SIZE || memcmp(got, want, SIZE) != 0)
		return puts("vmm-guest: dax: the disk is wrong"), 1;
	if (fsync(file) < 0 || pread(file, got, SIZE, 0) != SIZE || memcmp(got, want, SIZE) != 0)
		return puts("vmm-guest: dax: the file is wrong"), 1;
	puts("vmm-guest: dax ok");
	return 0;
}
