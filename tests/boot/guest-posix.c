// SPDX-License-Identifier: Apache-2.0
/*
 * What POSIX and Linux say of files and folders, checked in an empty folder by root.
 *
 *	posix FOLDER [noowner|nolinkowner]
 *
 * Says "posix: GROUP: N checks" for each group, a line for each check that failed, and
 * "posix: N checks, M failed" at the end. "noowner": what a user makes need not belong to him, and
 * what depends on that is left out (ids=map).
 *
 * Calibrated on tmpfs and ext4: where these differ either is right. Checks of who may do what run
 * as the users 65533 and 65534.
 */
#include "guest-posix.h"

unsigned checks, failed, group_checks;
const char *group;
bool owner = true, link_owner = true;

struct stat st_of(const char *path)
{
	static const struct stat none;
	struct stat st;

	return lstat(path, &st) == 0 ? st : none;
}

int make(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return -1;
	return close(fd);
}

bool reads(const char *path, const char *text)
{
	char data[256] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data) - 1);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) && strcmp(data, text) == 0;
}

bool gone(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 && errno == ENOENT;
}

void as(unsigned id)
{
	if (setegid(id) < 0 || seteuid(id) < 0)
		printf("posix: cannot become user %u\n", id);
}

void self(void)
{
	if (seteuid(0) < 0 || setegid(0) < 0)
		printf("posix: cannot become root again\n");
}

const char *name(unsigned n)
{
	static char text[300];

	memset(text, 'n', sizeof(text));
	text[n] = '\0';
	return text;
}

bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

void tick(void)
{
	usleep(15000);
}

static void group_end(void)
{
	if (group != NULL)
		printf("posix: %s: %u checks\n", group, group_checks);
	group_checks = 0;
}

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "chmod", chmod_group },   { "chown", chown_group },	    { "access", access_group },
	{ "link", link_group },	    { "mkdir", mkdir_group },	    { "mknod", mknod_group },
	{ "open", open_group },	    { "unlinked", unlinked_group }, { "rename", rename_group },
	{ "remove", remove_group }, { "symlink", symlink_group },   { "truncate", truncate_group },
	{ "times", times_group },   { "lock", lock_group },	    { "mmap", mmap_group },
	{ "sparse", sparse_group }, { "readdir", readdir_group },   { "names", names_group },
	{ "xattr", xattr_group },   { "statvfs", statvfs_group },
};

int main(int argc, char **argv)
{
	char path[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: posix FOLDER [noowner|nolinkowner]\n");
		return 2;
	}
	owner = argc < 3 || strcmp(argv[2], "noowner") != 0;
	link_owner = argc < 3 || strcmp(argv[2], "nolinkowner") != 0;
	umask(022);
	for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		group = groups[i].name;
		/* Each in a folder of its own, which others may enter. */
		snprintf(path, sizeof(path), "%s.d", group);
		if (mkdir(path, 0755) < 0 || chdir(path) < 0) {
			printf("posix: cannot make %s: %s\n", path, strerror(errno));
			return 1;
		}
		groups[i].run();
		group_end();
		if (chdir("..") < 0)
			return 1;
	}
	printf("posix: %u checks, %u failed\n", checks, failed);
	return failed > 0;
}
