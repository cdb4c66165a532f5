// SPDX-License-Identifier: Apache-2.0
/*
 * The host's control groups (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/).
 *
 * Version 2: one hierarchy for all; a controller works in a group when each group above has it in
 * cgroup.subtree_control. Version 1: a hierarchy for each; a new cpuset group has neither CPUs nor
 * memory, and takes nobody before it has: it gets its parent's.
 *
 * #syscalls: none once the guest runs
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/base/cgroup.h"

bool cgroup_is_path(const char *path)
{
	bool good = path[0] != '/' && path[0] != '\0';

	for (const char *p = path; *p != '\0'; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");

		good = good && !(n == 1 && p[0] == '.') && !(n == 2 && p[0] == '.' && p[1] == '.');
		p += n;
	}
	return good;
}

void cgroup_read(const char *path, const char *file, char *line, size_t size)
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

int cgroup_write(const char *path, const char *file, const char *text, struct err *err)
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

bool cgroup_has_word(const char *line, const char *word, const char *separators)
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
		return cgroup_has_word(options, controller, ",") ? 1 : 0;
	if (strcmp(type, "cgroup2") != 0)
		return 0;
	cgroup_read(folder, "cgroup.controllers", has, sizeof(has));
	return strcmp(controller, "cgroup") == 0 || cgroup_has_word(has, controller, " ") ? 2 : 0;
}

/* See proc_pid_mounts(5), fstab(5). */
int cgroup_find(const char *mounts, unsigned version, const char *controller, char path[PATH_MAX],
		struct err *err)
{
	FILE *table = fopen(mounts, "re");
	char line[2 * PATH_MAX];
	unsigned found = 0;

	while (table != NULL && found == 0 && fgets(line, sizeof(line), table) != NULL) {
		char *rest = line, *source = strsep(&rest, " "), *folder = strsep(&rest, " "),
		     *type = strsep(&rest, " "), *options = strsep(&rest, " ");

		if (source == NULL || options == NULL || strlen(folder) >= PATH_MAX)
			continue;
		unescape(folder);
		found = has_controller(type, folder, options, controller);
		if (version != 0 && found != version)
			found = 0;
		strcpy(path, folder);
	}
	if (table != NULL)
		fclose(table);
	if (found == 0)
		return err_set(err, ENOENT,
			       "cgroup: no hierarchy%s with the controller '%s' is mounted here",
			       version == 1   ? " of version 1"
			       : version == 2 ? " of version 2"
					      : "",
			       controller);
	return (int)found;
}

/* A new cpuset of version 1 gets what its parent has. */
static int inherit(const char *parent, const char *path, struct err *err)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char value[4096];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		cgroup_read(path, files[i], value, sizeof(value));
		if (value[0] != '\0')
			continue;
		cgroup_read(parent, files[i], value, sizeof(value));
		if (value[0] != '\0' && cgroup_write(path, files[i], value, err) < 0)
			return -err->code;
	}
	return 0;
}

/* Have the groups in group @path of version 2 have @controller, if they do not already. */
static int give(const char *path, const char *controller, struct err *err)
{
	char line[1024];

	/* Whoever may not change that is content with what is there. */
	cgroup_read(path, "cgroup.subtree_control", line, sizeof(line));
	if (cgroup_has_word(line, controller, " "))
		return 0;
	snprintf(line, sizeof(line), "+%s", controller);
	return cgroup_write(path, "cgroup.subtree_control", line, err);
}

int cgroup_make(char path[PATH_MAX], const char *relative, const char *controller, unsigned version,
		struct err *err)
{
	char above[PATH_MAX];
	size_t len = strlen(path), n;

	for (const char *p = relative; *p != '\0'; p += n) {
		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 0)
			break;
		if (len + 1 + n >= PATH_MAX)
			return err_set(err, ENAMETOOLONG, "cgroup: path too long");
		memcpy(above, path, len + 1);
		if (version == 2 && strcmp(controller, "cgroup") != 0 &&
		    give(above, controller, err) < 0)
			return -err->code;
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
