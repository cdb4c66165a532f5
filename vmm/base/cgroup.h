/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's control groups: where a controller's hierarchy is mounted, groups in it, their files.
 * For `vmm jail` and for a VM's own group. See cgroup.c.
 */
#ifndef VMM_BASE_CGROUP_H
#define VMM_BASE_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include "vmm/base/err.h"

#define CGROUP_NAME_LEN 64 /* of a controller, with its NUL */

/* Is @path relative, and does it go nowhere but down? */
bool cgroup_is_path(const char *path);

/*
 * Where the hierarchy with @controller is mounted ("cgroup": that of version 2 itself) by the table
 * @mounts (/proc/self/mounts), to @path. @version: 1, 2, or 0 for either. Returns its version.
 * -ENOENT: nowhere.
 */
int cgroup_find(const char *mounts, unsigned version, const char *controller, char path[PATH_MAX],
		struct err *err);

/*
 * Makes the groups from the group or mount @path down to @relative, those that are not there, and
 * appends that to @path. In each but @path they can have @controller. What was made before a
 * failure stays. @path is then the group that was being made, or that would not give it to others.
 */
int cgroup_make(char path[PATH_MAX], const char *relative, const char *controller, unsigned version,
		struct err *err);

/* The first line of a file of group @path without its newline; "" when it is not there. */
void cgroup_read(const char *path, const char *file, char *line, size_t size);
int cgroup_write(const char *path, const char *file, const char *text, struct err *err);

/* Is @word among the words of @line, which are parted by @separators? */
bool cgroup_has_word(const char *line, const char *word, const char *separators);

#endif
