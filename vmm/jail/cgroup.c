// SPDX-License-Identifier: Apache-2.0
/*
 * The control groups of a jail: settings such as cpu.max=50000 100000 or
 * memory.limit_in_bytes=512M are written to files of a group PARENT/ID, made for them in the
 * hierarchy that has the controller, before the first dot. See vmm/base/cgroup.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/cgroup.h"
#include "vmm/jail/jail.h"

/* A group that was made or found: settings of several controllers may go to the same. */
struct group {
	struct group *next;
	char path[PATH_MAX];
};

int jail_cgroup_check(const char *setting, struct err *err)
{
	const char *value = strchr(setting, '='), *dot = strchr(setting, '.');

	if (value == NULL || dot == NULL || dot > value || dot == setting ||
	    dot - setting >= CGROUP_NAME_LEN || value[1] == '\0' ||
	    memchr(setting, '/', (size_t)(value - setting)) != NULL)
		return err_set(err, EINVAL,
			       "cgroup: '%.100s' is not CONTROLLER.FILE=VALUE, such as "
			       "cpu.shares=512",
			       setting);
	return 0;
}

/* Writes @setting, and adds its group to @list. */
static int apply(const struct jail_cgroups *groups, const char *setting, struct group **list,
		 struct err *err)
{
	char controller[CGROUP_NAME_LEN], relative[PATH_MAX], file[PATH_MAX];
	const char *value = strchr(setting, '=') + 1;
	size_t len = strcspn(setting, ".");
	struct group *group = calloc(1, sizeof(*group));
	int version;

	if (group == NULL)
		return err_set(err, ENOMEM, "no memory for a cgroup");
	group->next = *list;
	*list = group;
	snprintf(controller, sizeof(controller), "%.*s", (int)len, setting);
	version = cgroup_find(groups->mounts, groups->version, controller, group->path, err);
	if (version < 0)
		return version;
	if (snprintf(relative, sizeof(relative), "%s/%s", groups->parent, groups->id) >=
	    (int)sizeof(relative))
		return err_set(err, ENAMETOOLONG, "cgroup: path too long");
	if (cgroup_make(group->path, relative, controller, (unsigned)version, err) < 0)
		return -err->code;
	snprintf(file, sizeof(file), "%.*s", (int)(value - 1 - setting), setting);
	return cgroup_write(group->path, file, value, err);
}

/* Into the parent itself, which an administrator made. */
static int enter_parent(const struct jail_cgroups *groups, struct err *err)
{
	char path[PATH_MAX], relative[PATH_MAX];

	if (cgroup_find(groups->mounts, 2, "cgroup", path, err) < 0)
		return err_set(
			err, EINVAL,
			"parent-cgroup: without --cgroup it needs a hierarchy of version 2, and "
			"none is mounted here");
	if (snprintf(relative, sizeof(relative), "%s/%s", path, groups->parent) >=
	    (int)sizeof(relative))
		return err_set(err, ENAMETOOLONG, "cgroup: path too long");
	return cgroup_write(relative, "cgroup.procs", "0", err);
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
			r = cgroup_write(g->path, "cgroup.procs", "0", err);
		free(g);
	}
	return r;
}
