// SPDX-License-Identifier: Apache-2.0
/*
 * The control groups of a jail (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/): settings
 * such as cpu.max=50000 100000 or memory.limit_in_bytes=512M are written to files of a group
 * PARENT/ID, made for them in the hierarchy that has the controller, before the first dot.
 *
 * Version 2: one hierarchy for all; a controller works in a group when each group above has it in
 * cgroup.subtree_control. Version 1: a hierarchy for each; a new cpuset group has neither CPUs nor
 * memory, and takes nobody before it has: it gets its parent's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/jail/jail.h"

#define NAME_LEN 64 /* of a controller, with its NUL */

/* A group that was made or found: settings of several controllers may go to the same. */
struct group {
	struct group *next;
	char path[PATH_MAX];
};

int jail_cgroup_check(const char *setting, struct err *err)
{
	const char *value = strchr(setting, '='), *dot = strchr(setting, '.');

	if (value == NULL || dot == NULL || dot > value || dot == setting ||
	    dot - setting >= NAME_LEN || value[1] == '\0' ||
	    memchr(setting, '/', (size_t)(value - setting)) != NULL)
		return err_set(err, EINVAL,
			       "cgroup: '%.100s' is not CONTROLLER.FILE=VALUE, such as "
			       "cpu.shares=512",
			       setting);
	return 0;
}

/* The first line of a file of a group without its newline; "" when it is not there. */
static void read_line(const char *path, const char *file, char *line, size_t size)
{
	char name[PATH_MAX];
	FILE *f;

	line[0] = '\0';
	if (snprintf(name, sizeof(name), "%s/%s", path, file) >= (int)sizeof(name))
		return;
	f = fopen(name, "re");
	if (f == NULL)
		return;
	if (fgets(line, (int)size, f) == NULL)
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	fclose(f);
}

static int write_file(const char *path, const char *file, const char *text, struct err *err)
{
	char name[PATH_MAX];
	ssize_t n;
	int fd;

	if (snprintf(name, sizeof(name), "%s/%s", path, file) >= (int)sizeof(name))
		return err_set(err, ENAMETOOLONG, "cgroup: path too long");
	fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cgroup: cannot open %.300s", name);
	n = write(fd, text, strlen(text));
	if (n < 0)
		err_sys(err, errno, "cgroup: cannot write '%.100s' to %.300s", text, name);
	close(fd);
	return n < 0 ? -err->code : 0;
}

/* Is @word among the words of @line, which are parted by @separators? */
static bool has_word(const char *line, const char *word, const char *separators)
{
	size_t len = strlen(word), n;

	for (const char *p = line; *p != '\0'; p += n + (p[n] != '\0')) {
		n = strcspn(p, separators);
		if (n == len && memcmp(p, word, len) == 0)
			return true;
	}
	return false;
}

/* A path of the table of mounts as it is: there, blanks and backslashes are octal numbers. */
static void unescape(char *path)
{
	char *to = path;

	for (const char *p = path; *p != '\0'; to++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*to = *p++;
		}
	}
	*to = '\0';
}

/* Which version of hierarchy a line of the table of mounts is, if it has @controller; else 0. */
static unsigned has_controller(const char *type, const char *folder, const char *options,
			       const char *controller)
{
	char has[1024];

	if (strcmp(type, "cgroup") == 0)
		return has_word(options, controller, ",") ? 1 : 0;
	if (strcmp(type, "cgroup2") != 0)
		return 0;
	read_line(folder, "cgroup.controllers", has, sizeof(has));
	return strcmp(controller, "cgroup") == 0 || has_word(has, controller, " ") ? 2 : 0;
}

/*
 * Where the hierarchy with @controller is mounted ("cgroup": that of version 2 itself), to @path.
 * Returns its version, or 0: nowhere. See proc_pid_mounts(5), fstab(5).
 */
static unsigned find_hierarchy(const struct jail_cgroups *groups, const char *controller,
			       char path[PATH_MAX])
{
	FILE *table = fopen(groups->mounts, "re");
	char line[2 * PATH_MAX];
	unsigned found = 0;

	if (table == NULL)
		return 0;
	while (found == 0 && fgets(line, sizeof(line), table) != NULL) {
		char *rest = line, *source = strsep(&rest, " "), *folder = strsep(&rest, " "),
		     *type = strsep(&rest, " "), *options = strsep(&rest, " ");

		if (source == NULL || options == NULL || strlen(folder) >= PATH_MAX)
			continue;
		unescape(folder);
		found = has_controller(type, folder, options, controller);
		if (groups->version != 0 && found != groups->version)
			found = 0;
		strcpy(path, folder);
	}
	fclose(table);
	return found;
}

/* A new cpuset of version 1 gets what its parent has. */
static int inherit(const char *parent, const char *path, struct err *err)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char value[4096];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		read_line(path, files[i], value, sizeof(value));
		if (value[0] != '\0')
			continue;
		read_line(parent, files[i], value, sizeof(value));
		if (value[0] != '\0' && write_file(path, files[i], value, err) < 0)
			return -err->code;
	}
	return 0;
}

/*
 * Makes the groups from the mount @path down to @relative, and appends that to @path. Below each
 * but the last, groups can have @controller.
 */
static int make_groups(char path[PATH_MAX], const char *relative, const char *controller,
		       unsigned version, struct err *err)
{
	char above[PATH_MAX], line[NAME_LEN + 1];
	size_t len = strlen(path), n;

	for (const char *p = relative; *p != '\0'; p += n) {
		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 0)
			break;
		if (len + 1 + n >= PATH_MAX)
			return err_set(err, ENAMETOOLONG, "cgroup: path too long");
		memcpy(above, path, len + 1);
		if (version == 2 && strcmp(controller, "cgroup") != 0) {
			snprintf(line, sizeof(line), "+%s", controller);
			if (write_file(above, "cgroup.subtree_control", line, err) < 0)
				return -err->code;
		}
		path[len] = '/';
		memcpy(path + len + 1, p, n);
		len += 1 + n;
		path[len] = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return err_sys(err, errno, "cgroup: cannot make %.300s", path);
		if (version == 1 && strcmp(controller, "cpuset") == 0 &&
		    inherit(above, path, err) < 0)
			return -err->code;
	}
	return 0;
}

/* Writes @setting, and adds its group to @list. */
static int apply(const struct jail_cgroups *groups, const char *setting, struct group **list,
		 struct err *err)
{
	char controller[NAME_LEN], relative[PATH_MAX], file[PATH_MAX];
	const char *value = strchr(setting, '=') + 1;
	size_t len = strcspn(setting, ".");
	struct group *group = calloc(1, sizeof(*group));
	unsigned version;

	if (group == NULL)
		return err_set(err, ENOMEM, "no memory for a cgroup");
	group->next = *list;
	*list = group;
	snprintf(controller, sizeof(controller), "%.*s", (int)len, setting);
	version = find_hierarchy(groups, controller, group->path);
	if (version == 0)
		return err_set(err, ENOENT,
			       "cgroup: no hierarchy%s with the controller '%s' is mounted here",
			       groups->version == 1   ? " of version 1"
			       : groups->version == 2 ? " of version 2"
						      : "",
			       controller);
	if (snprintf(relative, sizeof(relative), "%s/%s", groups->parent, groups->id) >=
	    (int)sizeof(relative))
		return err_set(err, ENAMETOOLONG, "cgroup: path too long");
	if (make_groups(group->path, relative, controller, version, err) < 0)
		return -err->code;
	snprintf(file, sizeof(file), "%.*s", (int)(value - 1 - setting), setting);
	return write_file(group->path, file, value, err);
}

/* Into the parent itself, which an administrator made. */
static int enter_parent(const struct jail_cgroups *groups, struct err *err)
{
	char path[PATH_MAX], relative[PATH_MAX];

	if (find_hierarchy(groups, "cgroup", path) != 2)
		return err_set(
			err, EINVAL,
			"parent-cgroup: without --cgroup it needs a hierarchy of version 2, and "
			"none is mounted here");
	if (snprintf(relative, sizeof(relative), "%s/%s", path, groups->parent) >=
	    (int)sizeof(relative))
		return err_set(err, ENAMETOOLONG, "cgroup: path too long");
	return write_file(relative, "cgroup.procs", "0", err);
}

int jail_cgroups_enter(const struct jail_cgroups *groups, struct err *err)
{
	struct group *list = NULL, *next;
	int r = 0;

	if (groups->n == 0)
		return groups->parent_given && groups->version != 1 ? enter_parent(groups, err) : 0;
	for (size_t i = 0; i < groups->n && r == 0; i++)
		r = apply(groups, groups->settings[i], &list, err);
	for (struct group *g = list; g != NULL; g = next) {
		next = g->next;
		if (r == 0) /* "0" is whoever writes it */
			r = write_file(g->path, "cgroup.procs", "0", err);
		free(g);
	}
	return r;
}
