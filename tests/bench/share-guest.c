// SPDX-License-Identifier: Apache-2.0
/*
 * In the guest: how fast a folder is. See tests/bench/share.
 *
 *	share-guest FOLDER MIB FILES
 *
 * Prints "bench: WHAT FIGURE UNIT" lines: 1 MiB at a time written and read, 4 KiB at random places,
 * attributes of many files, making and removing them, reading a tree. Caches are dropped before
 * what is read, where /proc allows it, so that it comes from the other side.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)

static double begin;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	sync();
	if (fd >= 0) {
		(void)!write(fd, "3", 1);
		close(fd);
	}
	begin = now();
}

static void result(const char *what, double count, const char *unit)
{
	printf("bench: %s %.1f %s\n", what, count / (now() - begin), unit);
	fflush(stdout);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void data(unsigned mib)
{
	char *buf = malloc(MIB);
	uint64_t x = 88172645463325252ull;
	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || buf == NULL)
		die("data");
	memset(buf, 'b', MIB);
	drop_caches();
	for (unsigned i = 0; i < mib; i++) {
		if (write(fd, buf, MIB) != MIB)
			die("write");
	}
	if (fsync(fd) < 0)
		die("fsync");
	result("sequential-write", mib, "MiB/s");
	drop_caches();
	for (unsigned i = 0; i < mib; i++) {
		if (pread(fd, buf, MIB, (off_t)i * MIB) != MIB)
			die("read");
	}
	result("sequential-read", mib, "MiB/s");
	drop_caches();
	for (unsigned i = 0; i < 1000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (pread(fd, buf, 4096, (off_t)(x % (mib * 256)) * 4096) != 4096)
			die("read");
	}
	result("random-read-4k", 1000, "/s");
	drop_caches();
	for (unsigned i = 0; i < 1000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (pwrite(fd, buf, 4096, (off_t)(x % (mib * 256)) * 4096) != 4096)
			die("write");
	}
	if (fsync(fd) < 0)
		die("fsync");
	result("random-write-4k", 1000, "/s");
	close(fd);
	unlink("data");
	free(buf);
}

static void metadata(unsigned files)
{
	struct dirent *e;
	struct stat st;
	unsigned n = 0;
	char name[300];
	DIR *dir;

	mkdir("many", 0755);
	begin = now();
	for (unsigned i = 0; i < files; i++) {
		int fd;

		snprintf(name, sizeof(name), "many/%u", i);
		fd = open(name, O_WRONLY | O_CREAT, 0644);
		if (fd < 0 || write(fd, name, 10) != 10 || close(fd) < 0)
			die(name);
	}
	result("create", files, "/s");
	drop_caches();
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "many/%u", i);
		if (stat(name, &st) < 0)
			die(name);
	}
	result("stat", files, "/s");
	drop_caches();
	dir = opendir("many");
	while ((e = readdir(dir)) != NULL) {
		snprintf(name, sizeof(name), "many/%.200s", e->d_name);
		if (lstat(name, &st) < 0)
			die(name);
		n++;
	}
	closedir(dir);
	result("list-and-stat", n, "/s");
	drop_caches();
	for (unsigned i = 0; i < files; i++) {
		int fd;

		snprintf(name, sizeof(name), "many/%u", i);
		fd = open(name, O_RDONLY);
		if (fd < 0 || read(fd, name, sizeof(name)) != 10 || close(fd) < 0)
			die(name);
	}
	result("open-read-close", files, "/s");
	begin = now();
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "many/%u", i);
		if (unlink(name) < 0)
			die(name);
	}
	result("unlink", files, "/s");
	rmdir("many");
}

int main(int argc, char **argv)
{
	if (argc != 4 || chdir(argv[1]) < 0)
		die("usage: share-guest FOLDER MIB FILES");
	data((unsigned)atoi(argv[2]));
	metadata((unsigned)atoi(argv[3]));
	return 0;
}
