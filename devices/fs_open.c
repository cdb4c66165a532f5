// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: the only file that opens anything on the host. openat2(2), open(2).
 *
 * Theory of operation. The threat is a guest that reaches a file outside of the folder, or that
 * makes us open something that does more than hold bytes.
 *
 * - Names are single components: fs_session.c has refused everything with a '/' in it, ".",
 *   "..", the empty name. An entry is opened relative to its folder's O_PATH descriptor by
 *   openat2() with RESOLVE_BENEATH and without following symbolic links, the last one included: a
 *   link is a node of its own that can only be read. A folder that is moved out of the share
 *   on the host while it is used takes what is below it along, as it does for any process
 *   that has it open; there is no ".." to climb from it.
 * - O_PATH opens nothing: no driver is called, no FIFO waited for. Only what is a regular file
 *   or a folder by its own descriptor is then opened again, through /proc/self/fd, which leads
 *   to that very inode whatever happened to its name.
 * - Mount points are crossed only into file systems that hold files (fs_check_kind(), by a list
 *   of those that do): /proc/self/mem is a regular file by its type.
 * - What is held open is cut off from the rest of the host: the folder and /proc/self/fd are trees
 *   of their own, so that who takes over the serving thread finds no way up either.
 * - Descriptors are a resource of the whole process. The kernel always gives the lowest free
 *   number, so a number above fs->fd_max says that the process has too many; the guest is told
 *   ENFILE. What is kept back is for the rest of the monitor.
 *
 * fs_setup() gives the serving thread a working folder and umask of its own (CLONE_FS), apart
 * from the other threads': so a file can be named as "17" where a call takes nothing but a
 * path (getxattr), without /proc in sight, and modes are what the guest says. Where a
 * container forbids unshare(2) we do with the path in /proc and the process's umask set to 0.
 *
 * #syscalls share: openat openat2 fcntl close fstatfs umask
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "devices/fs_impl.h"
#include "vmm/base/log.h"

/* Descriptors the monitor keeps for itself. */
#define FD_RESERVE 256
#define FD_MAX	   (FS_NODES_MAX + FS_HANDLES_MAX)

/* A descriptor from open(2), or -1 and errno: within bounds, or -errno. */
static int bounded(const struct fs *fs, int fd)
{
	if (fd < 0)
		return -errno;
	if ((uint32_t)fd < fs->fd_max)
		return fd;
	close(fd);
	log_limited(LOG_WARN,
		    "%s: the guest uses too many files (%u descriptors are all there are); raise "
		    "'ulimit -n'",
		    fs->name, fs->fd_max);
	return -ENFILE;
}

const char *fs_fd_path(const struct fs *fs, int fd, char buf[32])
{
	snprintf(buf, 32, fs->own_fs ? "%d" : "/proc/self/fd/%d", fd);
	return buf;
}

int fs_open_entry(struct fs *fs, const struct fs_node *parent, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};

	if (!fs->mounts)
		how.resolve |= RESOLVE_NO_XDEV;
	return bounded(fs, (int)syscall(SYS_openat2, parent->fd, name, &how, sizeof(how)));
}

/* Open what @fd is, through its link in /proc. */
static int reopen(const struct fs *fs, int fd, int flags)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", fd);
	return bounded(fs, openat(fs->proc, name, flags | O_CLOEXEC));
}

int fs_open_same(struct fs *fs, int fd)
{
	return reopen(fs, fd, O_PATH);
}

int fs_open_file(struct fs *fs, const struct fs_node *node, int flags)
{
	int fd;

	if (node->type == S_IFDIR)
		return -EISDIR;
	if (node->type != S_IFREG || node->special)
		return -EINVAL;
	if (fs->ro) {
		/* Not even the time of access; only an owner may ask for that. */
		fd = reopen(fs, node->fd, O_RDONLY | O_NOATIME);
		return fd == -EPERM ? reopen(fs, node->fd, O_RDONLY) : fd;
	}
	/*
	 * Somebody may have a lease on it (we ourselves on a kernel image), and must not make us
	 * wait. io_uring takes O_NONBLOCK for an order not to wait either, so it goes again.
	 */
	if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC))
		return reopen(fs, node->fd, flags);
	fd = reopen(fs, node->fd, flags | O_NONBLOCK);
	if (fd == -EWOULDBLOCK)
		return -ETXTBSY;
	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, 0);
	return fd;
}

int fs_open_dir(struct fs *fs, const struct fs_node *node)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, fd = -EPERM;

	if (node->type != S_IFDIR)
		return -ENOTDIR;
	if (fs->ro)
		fd = bounded(fs, openat(node->fd, ".", flags | O_NOATIME));
	return fd == -EPERM ? bounded(fs, openat(node->fd, ".", flags)) : fd;
}

int fs_open_new(struct fs *fs, const struct fs_node *parent, const char *name, int flags,
		mode_t mode)
{
	return bounded(fs, openat(parent->fd, name,
				  (flags & O_ACCMODE) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
				  mode));
}

int fs_open_tmpfile(struct fs *fs, const struct fs_node *parent, int flags, mode_t mode)
{
	return bounded(fs, openat(parent->fd, ".",
				  (flags & (O_ACCMODE | O_EXCL)) | O_TMPFILE | O_CLOEXEC, mode));
}

/* --- What may be shared --- */

/*
 * File systems that hold files, without a block device of their own behind them (those with one
 * all do). Others are interfaces of the kernel, where to read or write is to do something.
 */
static const uint32_t kinds[] = {
	OVERLAYFS_SUPER_MAGIC,
	TMPFS_MAGIC,
	RAMFS_MAGIC,
	BTRFS_SUPER_MAGIC,
	FUSE_SUPER_MAGIC, /* virtiofs, too */
	V9FS_MAGIC,
	NFS_SUPER_MAGIC,
	CEPH_SUPER_MAGIC,
	SMB_SUPER_MAGIC,
	CIFS_SUPER_MAGIC,
	SMB2_SUPER_MAGIC,
	AFS_SUPER_MAGIC,
	AFS_FS_MAGIC,
	CODA_SUPER_MAGIC,
	EXT4_SUPER_MAGIC,
	XFS_SUPER_MAGIC,
	F2FS_SUPER_MAGIC,
	SQUASHFS_MAGIC,
	EROFS_SUPER_MAGIC_V1,
	ECRYPTFS_SUPER_MAGIC,
	HOSTFS_SUPER_MAGIC,
	JFFS2_SUPER_MAGIC,
	0x24051905, /* UBIFS */
	0x2fc12fc1, /* ZFS */
	0xca451a4e, /* bcachefs */
	0x0bd00bd0, /* Lustre */
	0x47504653, /* GPFS */
	0x19830326, /* BeeGFS */
	0x786f4256, /* VirtualBox shared folders */
};

int fs_check_kind(int fd)
{
	struct statx stx;
	struct statfs sf;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &stx) == 0 &&
	    stx.stx_dev_major != 0)
		return 0;
	if (fstatfs(fd, &sf) < 0)
		return -EACCES;
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if ((uint32_t)sf.f_type == kinds[i])
			return 0;
	return -EACCES;
}

/* As many descriptors as we may have, since each file the guest knows takes one. */
static void raise_limit(struct fs *fs)
{
	struct rlimit rl, want;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		rl.rlim_cur = rl.rlim_max = 1024;
	want = rl;
	if (want.rlim_max < FD_MAX) {
		/* Root may raise the hard limit too. */
		want.rlim_cur = want.rlim_max = FD_MAX;
		if (setrlimit(RLIMIT_NOFILE, &want) == 0)
			rl = want;
	}
	want = rl;
	want.rlim_cur = want.rlim_max < FD_MAX ? want.rlim_max : FD_MAX;
	if (rl.rlim_cur < want.rlim_cur && setrlimit(RLIMIT_NOFILE, &want) == 0)
		rl = want;
	fs->fd_max = rl.rlim_cur < FD_MAX ? (uint32_t)rl.rlim_cur : FD_MAX;
	fs->fd_max -= fs->fd_max / 4 < FD_RESERVE ? fs->fd_max / 4 : FD_RESERVE;
}

/*
 * In place of @fd, what it names as a tree of its own, which is mounted nowhere: there is no way up
 * from its root, not even "..". Only who may mount can have that; others keep @fd.
 */
static int cut_off(struct fs *fs, int fd)
{
	int tree = open_tree(fd, "",
			     AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0) {
		fs->leads_out = true;
		return fd;
	}
	close(fd);
	return tree;
}

static int open_what(struct fs *fs, const char *path, struct err *err)
{
	const char *base = strrchr(path, '/');
	struct fs_key key;
	struct statx stx;
	uint32_t type;
	int fd;

	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "cannot open it");
	fd = cut_off(fs, fd);
	if (statx(fd, "", AT_EMPTY_PATH, FS_STATX, &stx) < 0) {
		int code = errno;

		close(fd);
		return err_sys(err, code, "cannot look at it");
	}
	type = stx.stx_mode & S_IFMT;
	if (type != S_IFDIR && type != S_IFREG) {
		close(fd);
		return err_set(err, EINVAL, "neither a folder nor a regular file");
	}
	if (fs_check_kind(fd) < 0) {
		close(fd);
		return err_set(err, EACCES,
			       "it is on a file system that is an interface of the kernel (proc, "
			       "sysfs or the like) and holds no files to be shared");
	}
	key = (struct fs_key){
		.ino = stx.stx_ino,
		.dev = (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor,
		.mnt = stx.stx_mnt_id,
	};
	if (type == S_IFREG) {
		base = base != NULL ? base + 1 : path;
		if (strlen(base) > NAME_MAX) {
			close(fd);
			return err_set(err, ENAMETOOLONG, "its name is too long");
		}
		fs->file = fd;
		snprintf(fs->file_name, sizeof(fs->file_name), "%s", base);
		key.synth = true;
		fd = -1;
	}
	fs_nodes_set_root(&fs->nodes, &key, S_IFDIR, fd);
	return 0;
}

static int open_proc(struct fs *fs, struct err *err)
{
	fs->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fs->proc < 0)
		return err_sys(err, errno, "cannot open /proc/self/fd");
	fs->proc = cut_off(fs, fs->proc);
	return 0;
}

int fs_open_root(struct fs *fs, const char *path, struct err *err)
{
	raise_limit(fs);
	if (open_proc(fs, err) < 0)
		return -err->code;
	return open_what(fs, path, err);
}

int fs_forked(struct fs *fs, struct err *err)
{
	close(fs->proc);
	return open_proc(fs, err);
}

void fs_descriptors(const struct fs *fs, void (*fn)(void *arg, int fd), void *arg)
{
	const int own[] = { fs->proc, fs->file };

	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] >= 0)
			fn(arg, own[i]);
	for (uint32_t i = 1; i < fs->nodes.fresh; i++)
		if (fs->nodes.node[i].fd >= 0)
			fn(arg, fs->nodes.node[i].fd);
	for (uint32_t i = 1; i < fs->handles.fresh; i++)
		if (fs->handles.handle[i].fd >= 0)
			fn(arg, fs->handles.handle[i].fd);
}

int fs_setup(struct fs *fs, struct err *err)
{
	int r;

	fs->own_fs = unshare(CLONE_FS) == 0;
	if (!fs->own_fs)
		log_info("%s: unshare: %m; the whole process gets umask 0", fs->name);
	else if (fchdir(fs->proc) < 0)
		return err_sys(err, errno, "cannot enter /proc/self/fd");
	umask(0);
	fs->umask = 0;
	if (!fs->own_fs)
		fs->acl = false; /* needs a umask for each request */
	r = fs_ids_setup(fs);
	if (r < 0)
		return err_sys(err, -r, "cannot prepare to act for other users");
	fs->aio = aio_new(NULL, 0, AIO_NOW, fs->iothreads, fs->ready, fs->owner, err);
	return fs->aio != NULL ? 0 : -err->code;
}
