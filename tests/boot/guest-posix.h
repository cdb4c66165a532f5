/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of guest-posix.c share. */
#ifndef TESTS_BOOT_GUEST_POSIX_H
#define TESTS_BOOT_GUEST_POSIX_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define USER  65534
#define OTHER 65533
#define FILES 400 /* in a large folder */

extern unsigned checks, failed, group_checks;
extern const char *group;
/* What a user makes belongs to him; and so do his symbolic links. */
extern bool owner, link_owner;

/* A check: @cond, or what it was about. */
#define OK(cond)                                                                                   \
	do {                                                                                       \
		checks++, group_checks++;                                                          \
		if (!(cond)) {                                                                     \
			printf("posix: %s, line %d: not so: %s (errno %s)\n", group, __LINE__,     \
			       #cond, strerror(errno));                                            \
			failed++;                                                                  \
		}                                                                                  \
	} while (0)

/* A check: the call fails with @error, or (0) does not fail. */
#define E(error, call)                                                                             \
	do {                                                                                       \
		long r_;                                                                           \
		int e_;                                                                            \
		errno = 0;                                                                         \
		r_ = (long)(call);                                                                 \
		e_ = r_ < 0 ? errno : 0;                                                           \
		checks++, group_checks++;                                                          \
		if (e_ != (error)) {                                                               \
			printf("posix: %s, line %d: %s: %s, not %s\n", group, __LINE__, #call,     \
			       strerror(e_), strerror(error));                                     \
			failed++;                                                                  \
		}                                                                                  \
	} while (0)

struct stat st_of(const char *path);
int make(const char *path, const char *text);
bool reads(const char *path, const char *text);
bool gone(const char *path);
/* From here to self(): as user @id, with no other groups. */
void as(unsigned id);
void self(void);
const char *name(unsigned n);
bool later(struct timespec a, struct timespec b);
/* A clock tick, so that a change is later than what was before. */
void tick(void);

void chmod_group(void);
void chown_group(void);
void access_group(void);
void link_group(void);
void mkdir_group(void);
void mknod_group(void);
void open_group(void);
void unlinked_group(void);
void rename_group(void);
void remove_group(void);
void symlink_group(void);
void truncate_group(void);
void times_group(void);
void lock_group(void);
void mmap_group(void);
void sparse_group(void);
void readdir_group(void);
void names_group(void);
void xattr_group(void);
void statvfs_group(void);

#endif
