// SPDX-License-Identifier: Apache-2.0
/*
 * The root of the sandbox: a file system in memory with nothing in it, or with folders of the host
 * where they were, and nothing else on the way to them.
 *
 * Each folder is taken as a tree of its own while everything is still there (open_tree(2)), and
 * hung into the new root before that becomes the root (pivot_root(2) with "." twice, so no folder
 * for the old one is needed). Links on the way to a folder are followed once, here.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vmm/sandbox/sandbox.h"

#define HARMLESS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* A file system in memory, not mounted: a descriptor, or -errno. @inodes: there can be. */
static int new_root(const char *inodes)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), fd = -1, code;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "size", "64k", 0) == 0 &&
	    fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", inodes, 0) == 0 &&
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) == 0 &&
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		fd = fsmount(fs, FSMOUNT_CLOEXEC, HARMLESS);
	code = errno;
	if (fs >= 0)
		close(fs);
	return fd < 0 ? -code : fd;
}

/* Make all folders of @path, absolute, below @root. */
static int make_way(int root, char *path)
{
	for (char *p = path + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdirat(root, path + 1, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdirat(root, path + 1, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Hang @tree into @root at @path. */
static int hang(int root, int tree, char *path)
{
	struct mount_attr attr = { .attr_set = HARMLESS };
	int r = make_way(root, path);

	if (r < 0)
		return r;
	if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 ||
	    move_mount(tree, "", root, path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int hang_folder(int root, const char *folder, struct err *err)
{
	char *path = realpath(folder, NULL);
	int tree, r;

	if (path == NULL)
		return err_sys(err, errno, "%s: cannot find it", folder);
	if (strcmp(path, "/") == 0) {
		free(path);
		return err_set(err, EINVAL, "%s: that would be everything", folder);
	}
	tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	r = tree < 0 ? -errno : hang(root, tree, path);
	if (tree >= 0)
		close(tree);
	free(path);
	return r < 0 ? err_sys(err, -r, "%s: cannot take it along", folder) : 0;
}

/* @root becomes the root, and cannot be written any more. */
static int enter(int root)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	if (mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 || fchdir(root) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	/* The old root now lies on the new one. */
	return umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -errno : 0;
}

int sandbox_root(const char *const *folders, size_t n, struct err *err)
{
	char *here = getcwd(NULL, 0);
	int root = new_root(n > 0 ? "512" : "2"), r = root < 0 ? root : 0;

	if (r == 0 && move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	if (r < 0)
		err_sys(err, -r, "cannot make an empty root");
	for (size_t i = 0; i < n && r == 0; i++)
		r = hang_folder(root, folders[i], err);
	if (r == 0) {
		r = enter(root);
		if (r < 0)
			err_sys(err, -r, "cannot enter an empty root");
	}
	if (r == 0 && n > 0 && here != NULL)
		(void)!chdir(here);
	if (root >= 0)
		close(root);
	free(here);
	return r;
}
