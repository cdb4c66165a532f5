// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: names and attributes.
 *
 * A lookup is one openat2() and one statx(): the O_PATH descriptor is opened first and then
 * asked what it is, so what is known of a file is true of that file whatever becomes of its name
 * meanwhile. When the file is known already the new descriptor is closed again.
 *
 * Mount points. What is mounted inside the folder is shown when mounts=on and when it is a file
 * system that holds files; the guest is told (FUSE_ATTR_SUBMOUNT) and gives it a device number of
 * its own. Else the mount point shows as an empty folder that cannot be written: a node
 * without descriptor, of which no host file can be reached. A guest whose root this is can mount
 * its own /proc and /sys there. A single file that is mounted from such a file system: EACCES.
 *
 * #syscalls share: statx readlinkat symlinkat mknodat mkdirat unlinkat renameat2 linkat ftruncate
 * #syscalls share: renameat
 * #syscalls share: utimensat fstatfs fchmodat close
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "devices/fs_impl.h"
#include "vmm/base/log.h"

#define NO_ID (~0u)

/* Flags of renameat2(2) a guest may use. */
#define RENAME_FLAGS (RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)

/* --- Attributes --- */

struct fs_key fs_key_of(const struct statx *stx)
{
	return (struct fs_key){
		.ino = stx->stx_ino,
		.dev = (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor,
		.mnt = stx->stx_mnt_id,
	};
}

/* A folder that is none on the host: a mount point not shown, or the one around a single file. */
static int stat_synth(const struct fs *fs, const struct fs_node *node, struct statx *stx)
{
	memset(stx, 0, sizeof(*stx));
	if (node == fs_nodes_root(&fs->nodes) && fs->file >= 0 &&
	    statx(fs->file, "", AT_EMPTY_PATH, FS_STATX, stx) < 0)
		return -errno;
	stx->stx_mask = STATX_BASIC_STATS;
	stx->stx_mode = S_IFDIR | 0555;
	stx->stx_ino = node->key.ino;
	stx->stx_nlink = 2;
	stx->stx_uid = fs->uid;
	stx->stx_gid = fs->gid;
	stx->stx_size = stx->stx_blocks = 0;
	stx->stx_blksize = 4096;
	return 0;
}

int fs_stat_fd(struct fs *fs, int fd, struct statx *stx)
{
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, FS_STATX, stx) < 0)
		return -errno;
	fs_ids_show(fs, fd, stx);
	return 0;
}

int fs_stat(struct fs *fs, const struct fs_node *node, struct statx *stx)
{
	return node->fd >= 0 ? fs_stat_fd(fs, node->fd, stx) : stat_synth(fs, node, stx);
}

/* The kernel's own way to put a device number into 32 bits. */
static uint32_t encode_dev(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

/*
 * An inode number is unique in its file system. The guest keeps mounts apart if it knows of
 * them; else they are by a number mixed in.
 */
static uint64_t ino_of(const struct fs *fs, const struct fs_node *node)
{
	uint64_t mnt = node->key.mnt - fs_nodes_root(&fs->nodes)->key.mnt;

	return fs_has(fs, FUSE_SUBMOUNTS) ? node->key.ino : node->key.ino ^ mnt << 44;
}

void fs_attr(const struct fs *fs, const struct fs_node *node, const struct statx *stx,
	     struct fuse_attr *attr)
{
	*attr = (struct fuse_attr){
		.ino = ino_of(fs, node),
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.atime = (uint64_t)stx->stx_atime.tv_sec,
		.mtime = (uint64_t)stx->stx_mtime.tv_sec,
		.ctime = (uint64_t)stx->stx_ctime.tv_sec,
		.atimensec = stx->stx_atime.tv_nsec,
		.mtimensec = stx->stx_mtime.tv_nsec,
		.ctimensec = stx->stx_ctime.tv_nsec,
		.mode = stx->stx_mode,
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.rdev = encode_dev(stx->stx_rdev_major, stx->stx_rdev_minor),
		.blksize = stx->stx_blksize,
	};
}

int fs_op_getattr(struct fs *fs, struct fs_req *req)
{
	struct fuse_attr_out *out = (struct fuse_attr_out *)fs->out;
	struct statx stx;
	int r = fs_stat(fs, req->node, &stx);

	if (r < 0)
		return r;
	*out = (struct fuse_attr_out){ .attr_valid = fs->valid };
	fs_attr(fs, req->node, &stx, &out->attr);
	return sizeof(*out);
}

static struct fuse_sx_time sx_time(const struct statx_timestamp *t)
{
	return (struct fuse_sx_time){ .tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec };
}

int fs_op_statx(struct fs *fs, struct fs_req *req)
{
	struct fuse_statx_out *out = (struct fuse_statx_out *)fs->out;
	struct statx stx;
	int r = fs_stat(fs, req->node, &stx);

	if (r < 0)
		return r;
	*out = (struct fuse_statx_out){
		.attr_valid = fs->valid,
		.stat = { .mask = stx.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
			  .blksize = stx.stx_blksize,
			  .nlink = stx.stx_nlink,
			  .uid = stx.stx_uid,
			  .gid = stx.stx_gid,
			  .mode = stx.stx_mode,
			  .ino = ino_of(fs, req->node),
			  .size = stx.stx_size,
			  .blocks = stx.stx_blocks,
			  .atime = sx_time(&stx.stx_atime),
			  .btime = sx_time(&stx.stx_btime),
			  .ctime = sx_time(&stx.stx_ctime),
			  .mtime = sx_time(&stx.stx_mtime),
			  .rdev_major = stx.stx_rdev_major,
			  .rdev_minor = stx.stx_rdev_minor },
	};
	return sizeof(*out);
}

int fs_kill_suid(struct fs *fs, int fd)
{
	struct statx stx;
	uint32_t mode;
	int r = fs_stat_fd(fs, fd, &stx);

	if (r < 0)
		return r;
	mode = stx.stx_mode & ~(uint32_t)S_ISUID;
	if ((mode & S_IXGRP) != 0)
		mode &= ~(uint32_t)S_ISGID;
	if (mode == stx.stx_mode)
		return 0;
	return fs_ids_change(fs, fd, S_IFREG, mode & 07777, NO_ID, NO_ID);
}

static int set_size(struct fs *fs, struct fs_node *node, const struct fs_handle *h,
		    const struct fuse_setattr_in *in)
{
	int fd = h != NULL ? h->fd : fs_open_file(fs, node, O_WRONLY), r = 0;

	if (fd < 0)
		return fd;
	if (in->size > INT64_MAX)
		r = -EFBIG;
	else if (ftruncate(fd, (off_t)in->size) < 0)
		r = -errno;
	if (r == 0 && (in->valid & FATTR_KILL_SUIDGID) != 0)
		r = fs_kill_suid(fs, fd);
	if (h == NULL)
		close(fd);
	return r;
}

static int set_times(struct fs *fs, const struct fs_node *node, const struct fuse_setattr_in *in)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	char name[16];

	if (in->atimensec > 999999999 || in->mtimensec > 999999999)
		return -EINVAL;
	if ((in->valid & FATTR_ATIME_NOW) != 0)
		ts[0].tv_nsec = UTIME_NOW;
	else if ((in->valid & FATTR_ATIME) != 0)
		ts[0] = (struct timespec){ (time_t)in->atime, in->atimensec };
	if ((in->valid & FATTR_MTIME_NOW) != 0)
		ts[1].tv_nsec = UTIME_NOW;
	else if ((in->valid & FATTR_MTIME) != 0)
		ts[1] = (struct timespec){ (time_t)in->mtime, in->mtimensec };
	snprintf(name, sizeof(name), "%d", node->fd);
	return utimensat(fs->proc, name, ts, 0) < 0 ? -errno : 0;
}

/* FATTR_CTIME is what a guest with a write-back cache believes; the host has its own. */
int fs_op_setattr(struct fs *fs, struct fs_req *req)
{
	const uint32_t times = FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW;
	struct fs_node *node = req->node;
	const struct fs_handle *h = NULL;
	struct fuse_setattr_in in;
	int r = 0;

	memcpy(&in, req->args, sizeof(in));
	if (node->fd < 0)
		return -EACCES;
	if ((in.valid & FATTR_FH) != 0 && node->type == S_IFREG) {
		h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, false);
		if (h == NULL)
			return -EBADF;
	}
	/* chown before chmod: it drops set-user-id bits. */
	if ((in.valid & (FATTR_MODE | FATTR_UID | FATTR_GID)) != 0)
		r = fs_ids_change(fs, node->fd, node->type,
				  (in.valid & FATTR_MODE) != 0 ? in.mode & 07777 : NO_ID,
				  (in.valid & FATTR_UID) != 0 ? in.uid : NO_ID,
				  (in.valid & FATTR_GID) != 0 ? in.gid : NO_ID);
	if (r == 0 && (in.valid & FATTR_SIZE) != 0)
		r = set_size(fs, node, h, &in);
	if (r == 0 && (in.valid & times) != 0)
		r = set_times(fs, node, &in);
	return r < 0 ? r : fs_op_getattr(fs, req);
}

/* --- Looking up --- */

/* Count @node, known by @key, as looked up; a new one takes @fd, which is else closed. */
static int know(struct fs *fs, const struct fs_key *key, uint32_t type, int fd,
		struct fs_node **node)
{
	*node = fs_node_find(&fs->nodes, key);
	if (*node == NULL) {
		*node = fs_node_add(&fs->nodes, key, type, fd);
		if (*node != NULL)
			fd = -1;
		else
			log_limited(LOG_WARN, "%s: the guest uses too many files (%u)", fs->name,
				    fs->nodes.max);
	}
	if (fd >= 0)
		close(fd);
	if (*node == NULL)
		return -ENFILE;
	fs_node_ref(*node);
	return 0;
}

/* A mount point that is not shown. */
static int know_mount_point(struct fs *fs, struct fs_node **node, struct statx *stx)
{
	struct fs_key key = fs_key_of(stx);
	int r;

	if (!S_ISDIR(stx->stx_mode))
		return -EACCES;
	key.synth = true;
	r = know(fs, &key, S_IFDIR, -1, node);
	return r < 0 ? r : fs_stat(fs, *node, stx);
}

int fs_enter(struct fs *fs, const struct fs_node *parent, int fd, struct fs_node **node,
	     struct statx *stx)
{
	struct fs_key key;
	int r;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, FS_STATX, stx) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	key = fs_key_of(stx);
	if (parent->fd >= 0 && key.mnt != parent->key.mnt && fs_check_kind(fd) < 0) {
		close(fd);
		return know_mount_point(fs, node, stx);
	}
	r = know(fs, &key, stx->stx_mode & S_IFMT, fd, node);
	if (r < 0)
		return r;
	fs_ids_show(fs, (*node)->fd, stx);
	(*node)->special = (stx->stx_mode & S_IFMT) != (*node)->type;
	return 0;
}

int fs_lookup(struct fs *fs, const struct fs_node *parent, const char *name, struct fs_node **node,
	      struct statx *stx)
{
	int fd;

	if (parent->type != S_IFDIR)
		return -ENOTDIR;
	if (parent->fd >= 0)
		fd = fs_open_entry(fs, parent, name);
	else if (fs->file >= 0 && parent == fs_nodes_root(&fs->nodes) &&
		 strcmp(name, fs->file_name) == 0)
		fd = fs_open_same(fs, fs->file);
	else
		return -ENOENT;
	if (fd == -EXDEV && !fs->mounts) {
		if (statx(parent->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX, stx) <
		    0)
			return -errno;
		return know_mount_point(fs, node, stx);
	}
	return fd < 0 ? fd : fs_enter(fs, parent, fd, node, stx);
}

void fs_entry(const struct fs *fs, const struct fs_node *parent, const struct fs_node *node,
	      const struct statx *stx, struct fuse_entry_out *out)
{
	*out = (struct fuse_entry_out){
		.nodeid = fs_node_id(&fs->nodes, node),
		.entry_valid = fs->valid,
		.attr_valid = fs->valid,
	};
	fs_attr(fs, node, stx, &out->attr);
	if (fs_has(fs, FUSE_SUBMOUNTS) && node->type == S_IFDIR && node->fd >= 0 &&
	    (node->key.mnt != parent->key.mnt || node->key.dev != parent->key.dev))
		out->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

int fs_op_lookup(struct fs *fs, struct fs_req *req)
{
	struct fuse_entry_out *out = (struct fuse_entry_out *)fs->out;
	struct fs_node *node;
	struct statx stx;
	int r = fs_lookup(fs, req->node, req->name[0], &node, &stx);

	if (r == -ENOENT && fs->cache == FS_CACHE_ALWAYS) {
		*out = (struct fuse_entry_out){ .entry_valid = fs->valid };
		return sizeof(*out);
	}
	if (r < 0)
		return r;
	fs_entry(fs, req->node, node, &stx, out);
	return sizeof(*out);
}

int fs_op_forget(struct fs *fs, struct fs_req *req)
{
	struct fuse_forget_in in;

	memcpy(&in, req->args, sizeof(in));
	fs_node_forget(&fs->nodes, req->in.nodeid, in.nlookup);
	return 0;
}

int fs_op_batch_forget(struct fs *fs, struct fs_req *req)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;
	size_t most;

	memcpy(&in, req->args, sizeof(in));
	most = (req->nargs - sizeof(in)) / sizeof(one);
	for (size_t i = 0; i < in.count && i < most; i++) {
		memcpy(&one, req->args + sizeof(in) + i * sizeof(one), sizeof(one));
		fs_node_forget(&fs->nodes, one.nodeid, one.nlookup);
	}
	return 0;
}

int fs_op_readlink(struct fs *fs, struct fs_req *req)
{
	size_t room = req->chain.writable.left - sizeof(struct fuse_out_header);
	ssize_t n;

	if (req->node->type != S_IFLNK)
		return -EINVAL;
	n = readlinkat(req->node->fd, "", (char *)fs->out, PATH_MAX);
	if (n < 0)
		return -errno;
	return (size_t)n <= room ? (int)n : -ENAMETOOLONG;
}

/* --- Changing folders --- */

/* 0 if something can be made or removed in @node. */
static int check_folder(const struct fs_node *node)
{
	if (node->type != S_IFDIR)
		return -ENOTDIR;
	return node->fd >= 0 ? 0 : -EACCES;
}

/* Entry name[0] of req->node was made, of @mode with its type: tell the guest. */
static int made(struct fs *fs, struct fs_req *req, uint32_t mode, uint32_t major, uint32_t minor)
{
	struct fuse_entry_out *out = (struct fuse_entry_out *)fs->out;
	const struct fs_node *parent = req->node;
	struct fs_node *node;
	struct statx stx;
	int r = fs_lookup(fs, parent, req->name[0], &node, &stx);

	if (r < 0)
		return r;
	if (fs->ids == FS_IDS_XATTR) {
		r = fs_ids_made(fs, req, parent, node->fd, node->type, mode, major, minor);
		if (r == 0)
			r = fs_stat(fs, node, &stx);
		if (r < 0) {
			unlinkat(parent->fd, req->name[0],
				 node->type == S_IFDIR ? AT_REMOVEDIR : 0);
			fs_node_forget(&fs->nodes, fs_node_id(&fs->nodes, node), 1);
			return r;
		}
		node->special = (stx.stx_mode & S_IFMT) != node->type;
	}
	fs_entry(fs, parent, node, &stx, out);
	return sizeof(*out);
}

int fs_op_symlink(struct fs *fs, struct fs_req *req)
{
	int r = check_folder(req->node);

	if (r == 0)
		r = fs_ids_begin(fs, req, 0);
	if (r < 0)
		return r;
	if (symlinkat(req->name[1], req->node->fd, req->name[0]) < 0)
		r = -errno;
	fs_ids_end(fs);
	return r < 0 ? r : made(fs, req, S_IFLNK | 0777, 0, 0);
}

/*
 * What the guest's own kernel opens: FIFOs, sockets, devices. Of devices only the whiteouts of
 * overlayfs (0:0) are made on the host, where a device would be one of the host's.
 */
int fs_op_mknod(struct fs *fs, struct fs_req *req)
{
	struct fuse_mknod_in in;
	uint32_t type, major, minor;
	int r = check_folder(req->node);

	if (r < 0)
		return r;
	memcpy(&in, req->args, sizeof(in));
	type = in.mode & S_IFMT;
	if (type == 0)
		type = S_IFREG;
	major = in.rdev >> 8 & 0xfff;
	minor = (in.rdev & 0xff) | (in.rdev >> 12 & 0xfff00);
	switch (type) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		major = minor = 0;
		break;
	case S_IFCHR:
	case S_IFBLK:
		if (fs->ids != FS_IDS_XATTR && (type == S_IFBLK || major != 0 || minor != 0))
			return -EPERM;
		break;
	default:
		return -EINVAL;
	}
	in.mode = type | (in.mode & 07777);
	if (fs->ids == FS_IDS_XATTR)
		type = S_IFREG;
	r = fs_ids_begin(fs, req, in.umask);
	if (r < 0)
		return r;
	if (mknodat(req->node->fd, req->name[0], type | fs_ids_mode(fs, in.mode), 0) < 0)
		r = -errno;
	fs_ids_end(fs);
	return r < 0 ? r : made(fs, req, in.mode, major, minor);
}

int fs_op_mkdir(struct fs *fs, struct fs_req *req)
{
	struct fuse_mkdir_in in;
	int r = check_folder(req->node);

	memcpy(&in, req->args, sizeof(in));
	in.mode = S_IFDIR | (in.mode & 07777);
	if (r == 0)
		r = fs_ids_begin(fs, req, in.umask);
	if (r < 0)
		return r;
	if (mkdirat(req->node->fd, req->name[0], fs_ids_mode(fs, in.mode)) < 0)
		r = -errno;
	fs_ids_end(fs);
	return r < 0 ? r : made(fs, req, in.mode, 0, 0);
}

static int remove_entry(struct fs_req *req, int flags)
{
	int r = check_folder(req->node);

	if (r == 0 && unlinkat(req->node->fd, req->name[0], flags) < 0)
		r = -errno;
	return r;
}

int fs_op_unlink(struct fs *fs, struct fs_req *req)
{
	(void)fs;
	return remove_entry(req, 0);
}

int fs_op_rmdir(struct fs *fs, struct fs_req *req)
{
	(void)fs;
	return remove_entry(req, AT_REMOVEDIR);
}

static int rename_entry(struct fs *fs, struct fs_req *req, uint64_t newdir, uint32_t flags)
{
	const struct fs_node *to = fs_node_get(&fs->nodes, newdir);
	int r;

	if (to == NULL)
		return -ESTALE;
	if ((flags & ~(uint32_t)RENAME_FLAGS) != 0)
		return -EINVAL;
	r = check_folder(req->node);
	if (r == 0)
		r = check_folder(to);
	if (r == 0 && renameat2(req->node->fd, req->name[0], to->fd, req->name[1], flags) < 0)
		r = -errno;
	return r;
}

int fs_op_rename(struct fs *fs, struct fs_req *req)
{
	struct fuse_rename_in in;

	memcpy(&in, req->args, sizeof(in));
	return rename_entry(fs, req, in.newdir, 0);
}

int fs_op_rename2(struct fs *fs, struct fs_req *req)
{
	struct fuse_rename2_in in;

	memcpy(&in, req->args, sizeof(in));
	return rename_entry(fs, req, in.newdir, in.flags);
}

int fs_op_link(struct fs *fs, struct fs_req *req)
{
	struct fuse_entry_out *out = (struct fuse_entry_out *)fs->out;
	struct fuse_link_in in;
	struct fs_node *node;
	struct statx stx;
	char name[16];
	int r = check_folder(req->node);

	memcpy(&in, req->args, sizeof(in));
	node = fs_node_get(&fs->nodes, in.oldnodeid);
	if (node == NULL)
		return -ESTALE;
	if (node->type == S_IFDIR)
		return -EPERM;
	if (r < 0)
		return r;
	/* Through /proc: AT_EMPTY_PATH would take CAP_DAC_READ_SEARCH. */
	snprintf(name, sizeof(name), "%d", node->fd);
	if (linkat(fs->proc, name, req->node->fd, req->name[0], AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	r = fs_stat(fs, node, &stx);
	if (r < 0)
		return r;
	fs_node_ref(node);
	fs_entry(fs, req->node, node, &stx, out);
	return sizeof(*out);
}

int fs_op_statfs(struct fs *fs, struct fs_req *req)
{
	struct fuse_statfs_out *out = (struct fuse_statfs_out *)fs->out;
	struct statfs sf;
	int fd = req->node->fd;

	/* A placeholder's is that of what is around it. */
	if (fd < 0)
		fd = fs->file >= 0 ? fs->file : fs_nodes_root(&fs->nodes)->fd;
	if (fstatfs(fd, &sf) < 0)
		return -errno;
	*out = (struct fuse_statfs_out){ .st = { .blocks = sf.f_blocks,
						 .bfree = sf.f_bfree,
						 .bavail = sf.f_bavail,
						 .files = sf.f_files,
						 .ffree = sf.f_ffree,
						 .bsize = (uint32_t)sf.f_bsize,
						 .namelen = (uint32_t)sf.f_namelen,
						 .frsize = (uint32_t)sf.f_frsize } };
	return sizeof(*out);
}
