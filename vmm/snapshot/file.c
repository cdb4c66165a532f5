// SPDX-License-Identifier: Apache-2.0
/*
 * Writing the two files of a snapshot: memory by pages, then both put in place. The order of
 * events is explained in snapshot/snapshot.c.
 *
 * #syscalls files: openat pwrite64 ftruncate fsync renameat unlinkat getdents64 getrandom
 * #syscalls files: getcwd readlink lstat newfstatat fstat fallocate lseek
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/base/path.h"
#include "vmm/snapshot/snapshot.h"

#define ID_DIGITS  16
#define WRITE_MAX  (8ULL << 20) /* bytes at once */
#define MODE_OWNER 0600		/* RAM has secrets in it */

/* Behind RAM in the memory file. */
struct memory_end {
	char magic[8];
	uint64_t id, ram; /* little-endian */
	uint8_t zero[GMEM_PAGE_SIZE - 24];
};

static const char memory_magic[8] = "VMMRAM";

int snapshot_new_id(uint64_t *id, struct err *err)
{
	do {
		if (getrandom(id, sizeof(*id), GRND_NONBLOCK) != sizeof(*id))
			return err_sys(err, errno, "the host has no random numbers yet");
	} while (*id == 0);
	return 0;
}

int snapshot_check_memory(int fd, uint64_t id, uint64_t ram, struct err *err)
{
	struct memory_end end;
	struct stat stat;

	if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode))
		return err_set(err, EINVAL, "not a regular file");
	if ((uint64_t)stat.st_size != ram + sizeof(end) ||
	    pread(fd, &end, sizeof(end), (off_t)ram) != sizeof(end) ||
	    memcmp(end.magic, memory_magic, sizeof(end.magic)) != 0 || le64toh(end.ram) != ram)
		return err_set(err, EINVAL, "not the memory of a guest with %llu MiB",
			       (unsigned long long)ram >> 20);
	if (le64toh(end.id) != id)
		return err_set(err, ESTALE, "belongs to another snapshot");
	return 0;
}

/* --- Pages --- */

static bool is_zero(const uint8_t *page)
{
	static const uint8_t zero[GMEM_PAGE_SIZE];

	return page[0] == 0 && memcmp(page, zero, sizeof(zero)) == 0;
}

static int write_all(int fd, const void *data, uint64_t len, uint64_t at, struct err *err)
{
	const uint8_t *from = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot write");
		from += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int snapshot_write_pages(int fd, const struct gmem *mem, const uint64_t *bits, struct err *err)
{
	uint64_t pages = mem->size >> GMEM_PAGE_SHIFT, max = WRITE_MAX >> GMEM_PAGE_SHIFT;

	for (uint64_t n = 0, first; n < pages;) {
		if (bits[n / 64] == 0) {
			n = (n / 64 + 1) * 64;
			continue;
		}
		for (first = n; n < pages && n - first < max; n++)
			if ((bits[n / 64] >> n % 64 & 1) == 0 || is_zero(gmem_page(mem, n)))
				break;
		if (n == first)
			n++;
		else if (write_all(fd, gmem_page(mem, first), (n - first) << GMEM_PAGE_SHIFT,
				   first << GMEM_PAGE_SHIFT, err) < 0)
			return -err->code;
	}
	return 0;
}

int snapshot_extents(const uint64_t *bits, uint64_t pages, struct snapshot_extent **extents,
		     size_t *n, struct err *err)
{
	size_t room = 0;

	*n = 0;
	*extents = NULL;
	for (uint64_t page = 0, first; page < pages;) {
		if ((bits[page / 64] >> page % 64 & 1) == 0) {
			page = bits[page / 64] == 0 ? (page / 64 + 1) * 64 : page + 1;
			continue;
		}
		for (first = page; page < pages && (bits[page / 64] >> page % 64 & 1) != 0;)
			page++;
		if (*n == room) {
			struct snapshot_extent *more;

			room = room == 0 ? 64 : room * 2;
			more = realloc(*extents, room * sizeof(*more));
			if (more == NULL)
				return err_sys(err, ENOMEM, "extents");
			*extents = more;
		}
		(*extents)[(*n)++] = (struct snapshot_extent){ first, page - first };
	}
	return 0;
}

/* --- Files --- */

int snapshot_files_begin(struct snapshot_files *f, const char *state, const char *memory,
			 uint64_t id, uint64_t ram, struct err *err)
{
	*f = (struct snapshot_files){ .state = state, .memory = memory, .fd = -1 };
	if (asprintf(&f->state_tmp, "%s-%016llx", state, (unsigned long long)id) < 0)
		f->state_tmp = NULL;
	if (asprintf(&f->memory_tmp, "%s-%016llx", memory, (unsigned long long)id) < 0)
		f->memory_tmp = NULL;
	if (f->state_tmp == NULL || f->memory_tmp == NULL)
		return err_sys(err, ENOMEM, "snapshot");
	if (strcmp(state, memory) == 0)
		return err_set(err, EINVAL, "%s: state and memory need two files", state);
	f->fd = open(f->memory_tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, MODE_OWNER);
	if (f->fd < 0)
		return err_sys(err, errno, "%s: cannot create it", f->memory_tmp);
	if (ftruncate(f->fd, (off_t)(ram + sizeof(struct memory_end))) < 0)
		return err_sys(err, errno, "%s: cannot size it", f->memory_tmp);
	return 0;
}

static int write_state(struct snapshot_files *f, const void *data, size_t len, struct err *err)
{
	int fd = open(f->state_tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, MODE_OWNER);
	int r;

	if (fd < 0)
		return err_sys(err, errno, "%s: cannot create it", f->state_tmp);
	r = write_all(fd, data, len, 0, err);
	if (r == 0 && fsync(fd) < 0)
		r = err_sys(err, errno, "cannot sync");
	if (close(fd) < 0 && r == 0)
		r = err_sys(err, errno, "cannot write");
	return r < 0 ? err_context(err, "%s", f->state_tmp) : 0;
}

/* The folder of @path; -1: errno. */
static int open_folder(const char *path)
{
	char *folder = path_folder(path);
	int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	free(folder);
	return fd;
}

static int sync_folder(const char *path, struct err *err)
{
	int fd = open_folder(path), r = 0;

	/* EINVAL: a file system that has no way to do it. */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		r = err_sys(err, errno, "%s: cannot sync its folder", path);
	if (fd >= 0)
		close(fd);
	return r;
}

static int replace(char **from, const char *to, struct err *err)
{
	if (rename(*from, to) < 0)
		return err_sys(err, errno, "%s: cannot rename it to %s", *from, to);
	free(*from);
	*from = NULL;
	return sync_folder(to, err);
}

/* Is @name what a crash left of a file called @base: that, a dash and an id? */
static bool is_left_over(const char *name, const char *base)
{
	size_t len = strlen(base);

	return strncmp(name, base, len) == 0 && name[len] == '-' &&
	       strlen(name + len + 1) == ID_DIGITS &&
	       strspn(name + len + 1, "0123456789abcdef") == ID_DIGITS;
}

static void clean(const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
	int fd = open_folder(path);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		if (is_left_over(entry->d_name, base))
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

int snapshot_files_commit(struct snapshot_files *f, const void *data, size_t len, uint64_t id,
			  uint64_t ram, struct err *err)
{
	struct memory_end end = { .id = htole64(id), .ram = htole64(ram) };
	char *memory_tmp;

	memcpy(end.magic, memory_magic, sizeof(end.magic));
	if (write_all(f->fd, &end, sizeof(end), ram, err) < 0)
		return err_context(err, "%s", f->memory_tmp);
	if (fsync(f->fd) < 0)
		return err_sys(err, errno, "%s: cannot sync", f->memory_tmp);
	if (write_state(f, data, len, err) < 0 || sync_folder(f->memory, err) < 0)
		return -err->code;
	if (rename(f->state_tmp, f->state) < 0)
		return err_sys(err, errno, "%s: cannot rename it to %s", f->state_tmp, f->state);
	/* From here on memory is not ours to remove, whatever goes wrong: the state names it. */
	free(f->state_tmp);
	f->state_tmp = NULL;
	memory_tmp = f->memory_tmp;
	f->memory_tmp = NULL;
	if (sync_folder(f->state, err) < 0 || replace(&memory_tmp, f->memory, err) < 0) {
		free(memory_tmp);
		return -err->code;
	}
	clean(f->state);
	clean(f->memory);
	return 0;
}

void snapshot_files_drop(struct snapshot_files *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	if (f->state_tmp != NULL)
		unlink(f->state_tmp);
	if (f->memory_tmp != NULL)
		unlink(f->memory_tmp);
	free(f->state_tmp);
	free(f->memory_tmp);
	f->state_tmp = f->memory_tmp = NULL;
}
