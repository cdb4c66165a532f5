// SPDX-License-Identifier: Apache-2.0
/*
 * The root of a jail: a folder with the program, the devices it needs, and nothing else.
 *
 * Whoever was in a jail of the same name before owns its folders, and may have left anything in
 * them. So everything is done from open folders, one name at a time, without following links, and
 * what is to be ours is made anew. The root is bound to itself from within, too, and
 * becomes the namespace's root by pivot_root(2) with "." twice, so no folder for the old one is
 * needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "vmm/jail/jail.h"

#define FOLDER (O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* The folder @name in @parent, made with @mode when it is not there. A descriptor or -code. */
static int folder(int parent, const char *name, mode_t mode, struct err *err)
{
	int fd;

	if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
		return err_sys(err, errno, "cannot make the folder %.200s", name);
	fd = openat(parent, name, O_RDONLY | FOLDER);
	if (fd < 0)
		return err_sys(err, errno, "cannot open the folder %.200s", name);
	return fd;
}

/* The same, for @uid and @gid. */
static int folder_for(int parent, const char *name, uid_t uid, gid_t gid, struct err *err)
{
	int fd = folder(parent, name, 0700, err);

	if (fd >= 0 && fchown(fd, uid, gid) < 0) {
		close(fd);
		return err_sys(err, errno, "cannot give away the folder %s", name);
	}
	return fd;
}

/* An empty file that was not there before: what was is removed. A descriptor or -code. */
static int new_file(int parent, const char *name, mode_t mode, struct err *err)
{
	int fd;

	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return err_sys(err, errno, "%.200s is in the way", name);
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_sys(err, errno, "cannot make %.200s", name);
	return fd;
}

static int copy_program(struct jail_root *root, int program, struct err *err)
{
	int fd = new_file(root->fd, root->name, 0555, err);
	ssize_t n;

	if (fd < 0)
		return fd;
	do {
		n = copy_file_range(program, NULL, fd, NULL, 1 << 30, 0);
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0)
		err_sys(err, errno, "cannot copy the program to %s", root->path);
	else
		root->program = openat(root->fd, root->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	close(fd);
	if (n == 0 && root->program < 0)
		return err_sys(err, errno, "cannot open the program in %s", root->path);
	return n == 0 ? 0 : -err->code;
}

/* A device as /dev has it, or, where that has not, number @minor of the @major device. */
static int device(int dev, const char *name, const char *host, unsigned major, unsigned minor,
		  uid_t uid, gid_t gid, struct err *err)
{
	dev_t number = makedev(major, minor);
	struct stat st;

	if (stat(host, &st) == 0 && S_ISCHR(st.st_mode))
		number = st.st_rdev;
	else if (minor == 0)
		return 0; /* a host without it has no number for it */
	if (unlinkat(dev, name, 0) < 0 && errno != ENOENT)
		return err_sys(err, errno, "%s is in the way", name);
	if (mknodat(dev, name, S_IFCHR | 0600, number) < 0)
		return err_sys(err, errno, "cannot make the device %s", name);
	if (fchownat(dev, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(err, errno, "cannot give away the device %s", name);
	return 0;
}

static int make_devices(int root, uid_t uid, gid_t gid, struct err *err)
{
	int dev, net = -1, run = -1, r;

	dev = folder_for(root, "dev", uid, gid, err);
	if (dev < 0)
		return dev;
	net = folder_for(dev, "net", uid, gid, err);
	run = net < 0 ? -1 : folder_for(root, "run", uid, gid, err);
	r = run < 0 ? -err->code : 0;
	if (r == 0)
		r = device(dev, "kvm", "/dev/kvm", 10, 232, uid, gid, err);
	if (r == 0)
		r = device(dev, "urandom", "/dev/urandom", 1, 9, uid, gid, err);
	if (r == 0)
		r = device(dev, "userfaultfd", "/dev/userfaultfd", 10, 0, uid, gid, err);
	if (r == 0)
		r = device(net, "tun", "/dev/net/tun", 10, 200, uid, gid, err);
	if (run >= 0)
		close(run);
	if (net >= 0)
		close(net);
	close(dev);
	return r;
}

/* @path and all above it, of which the administrator may have made links. A descriptor or -code. */
static int make_base(const char *path, struct err *err)
{
	char *copy = strdup(path);
	int fd;

	if (copy == NULL)
		return err_set(err, ENOMEM, "no memory for a path");
	for (char *p = copy; *p != '\0' && (p = strchr(p + 1, '/')) != NULL; *p = '/') {
		*p = '\0';
		(void)mkdir(copy, 0755); /* it is there, or the last one cannot be made, either */
	}
	free(copy);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_sys(err, errno, "cannot make the folder %.200s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open the folder %.200s", path);
	return fd;
}

int jail_root_make(struct jail_root *root, const char *base, const char *name, const char *id,
		   int program, uid_t uid, gid_t gid, struct err *err)
{
	char pidfile[NAME_MAX + 8];
	int at, next;

	root->name = name;
	if (asprintf(&root->path, "%s/%s/%s/root", base, name, id) < 0) {
		root->path = NULL;
		return err_set(err, ENOMEM, "no memory for a path");
	}
	at = make_base(base, err);
	if (at < 0)
		return at;
	for (int i = 0; i < 2; i++) {
		next = folder(at, i == 0 ? name : id, 0755, err);
		close(at);
		if (next < 0)
			return err_context(err, "%s", root->path);
		at = next;
	}
	root->fd = folder_for(at, "root", uid, gid, err);
	close(at);
	snprintf(pidfile, sizeof(pidfile), "%s.pid", name);
	if (root->fd < 0 || make_devices(root->fd, uid, gid, err) < 0 ||
	    copy_program(root, program, err) < 0 ||
	    (root->pidfile = new_file(root->fd, pidfile, 0644, err)) < 0)
		return err_context(err, "%s", root->path);
	return 0;
}

int jail_root_enter(const struct jail_root *root, struct err *err)
{
	struct mount_attr nosuid = { .attr_set = MOUNT_ATTR_NOSUID };
	int fd;

	/* The working folder goes along into the new namespace; descriptors stay in the old one. */
	if (fchdir(root->fd) < 0 || unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return err_sys(err, errno, "cannot make namespaces");
	/* What is mounted here shall not be seen outside; and pivot_root(2) refuses shared ones. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, errno, "cannot part from the host's mounts");
	fd = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot bind %s to itself", root->path);
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &nosuid, sizeof(nosuid)) < 0 ||
	    move_mount(fd, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(fd) < 0) {
		err_sys(err, errno, "cannot bind %s to itself", root->path);
		close(fd);
		return -err->code;
	}
	close(fd);
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_sys(err, errno, "cannot make %s the root", root->path);
	/* The old root now lies on the new one. */
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_sys(err, errno, "cannot let go of the host's root");
	return 0;
}

void jail_root_close(struct jail_root *root)
{
	int *const fds[] = { &root->fd, &root->program, &root->pidfile };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	free(root->path);
	root->path = NULL;
}
