/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the FUSE server share:
 *
 *	fs_session.c	requests taken apart and answered; INIT; the table of operations
 *	fs_node.c	tables of nodes and handles
 *	fs_open.c	the only file that opens anything on the host
 *	fs_meta.c	names and attributes: LOOKUP, GETATTR, MKDIR, RENAME, ...
 *	fs_file.c	OPEN, CREATE, READ, WRITE, FSYNC, ...
 *	fs_dir.c	READDIR and READDIRPLUS
 *	fs_xattr.c	extended attributes
 *	fs_ids.c	owners: ids=map, host, xattr
 *	fs_state.c	saved and loaded with a machine
 *
 * An operation is a function of the request that returns how many bytes of answer it left in
 * fs->out, or -errno, or FS_LATER when I/O is under way. Before it is called everything about
 * the form of the request has been checked: see fs_session.c.
 */
#ifndef DEVICES_FS_IMPL_H
#define DEVICES_FS_IMPL_H

#include <limits.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "devices/fs.h"
#include "devices/fs_node.h"

#define FS_IN_MAX  (96 << 10)  /* bytes after the header; the data of WRITE is not counted */
#define FS_OUT_MAX (128 << 10) /* bytes of an answer; the data of READ is not counted */
#define FS_LATER   INT_MIN
/* Attributes asked for; inode and mount are what a node is known by. */
#define FS_STATX	  (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
#define FS_XATTR_OVERRIDE "user.containers.override_stat"

struct fs {
	const char *name;
	bool ro, mounts;
	int ids, cache;
	uint32_t uid, gid;
	uid_t euid; /* the caller's */
	gid_t egid;
	uint64_t valid; /* seconds the guest may believe names and attributes */
	bool acl;	/* POSIX ACLs can be passed on */

	int proc;	 /* /proc/self/fd */
	bool leads_out;	 /* by ".." from the root: see fs_open.c */
	bool own_fs;	 /* the thread has a working folder (it is fs->proc) and umask of its own */
	mode_t umask;	 /* in force; own_fs only */
	bool acting;	 /* ids=host: as another user, just now */
	uint32_t fd_max; /* descriptors from here on are not for us */

	/* A single file is shared: the root is a placeholder with this in it. */
	int file; /* O_PATH, or -1 */
	char file_name[NAME_MAX + 1];

	bool started;	/* INIT was answered */
	uint64_t flags; /* FUSE_*: negotiated */
	struct fs_nodes nodes;
	struct fs_handles handles;

	struct iothreads *iothreads;
	struct aio *aio;
	void (*ready)(void *owner);
	void (*answered)(void *owner, struct fs_req *req);
	void *owner;

	/* Requests are looked at one at a time. */
	uint8_t in[FS_IN_MAX + 1] __attribute__((aligned(8)));
	uint8_t out[FS_OUT_MAX] __attribute__((aligned(8)));
	uint8_t buf[FS_OUT_MAX] __attribute__((aligned(8))); /* of an operation, for whatever */
};

/* Was FUSE_* flag @flag negotiated? */
static inline bool fs_has(const struct fs *fs, uint64_t flag)
{
	return (fs->flags & flag) != 0;
}

/* --- fs_session.c --- */

/* Answer @req: 0 and @len bytes of @data, or an error (-errno). */
void fs_answer(struct fs_req *req, int error, const void *data, size_t len);
/* What we can do, as FUSE_* flags. */
uint64_t fs_offer(const struct fs *fs);

/* --- fs_open.c: descriptors or -errno; all are CLOEXEC --- */

/* O_PATH of entry @name of folder @parent; -EXDEV: it is a mount point, and mounts is off. */
int fs_open_entry(struct fs *fs, const struct fs_node *parent, const char *name);
/* O_PATH of what @fd is. */
int fs_open_same(struct fs *fs, int fd);
/*
 * @node for real, if it is a regular file: -EISDIR, -EINVAL if it is not. @flags: access mode
 * and O_TRUNC.
 */
int fs_open_file(struct fs *fs, const struct fs_node *node, int flags);
int fs_open_dir(struct fs *fs, const struct fs_node *node);
/* Make a regular file in folder @parent. -EEXIST: the name is taken, by whatever. */
int fs_open_new(struct fs *fs, const struct fs_node *parent, const char *name, int flags,
		mode_t mode);
int fs_open_tmpfile(struct fs *fs, const struct fs_node *parent, int flags, mode_t mode);
/* Does @fd belong to a file system that holds files? 0 or -EACCES. */
int fs_check_kind(int fd);
/* Open what is shared; the root node. Fills fs->proc, file, nodes. */
int fs_open_root(struct fs *fs, const char *path, struct err *err);
/* A path to what @fd (maybe O_PATH) is, for calls that take nothing else. */
const char *fs_fd_path(const struct fs *fs, int fd, char buf[32]);

/* --- fs_meta.c --- */

/* What the file of @stx is known by. */
struct fs_key fs_key_of(const struct statx *stx);
/* Attributes of @node, or of the file @fd, as the guest shall see them. 0 or -errno. */
int fs_stat(struct fs *fs, const struct fs_node *node, struct statx *stx);
int fs_stat_fd(struct fs *fs, int fd, struct statx *stx);
void fs_attr(const struct fs *fs, const struct fs_node *node, const struct statx *stx,
	     struct fuse_attr *attr);
/* Entry @name of @parent: its node, counted as looked up, and attributes. 0 or -errno. */
int fs_lookup(struct fs *fs, const struct fs_node *parent, const char *name, struct fs_node **node,
	      struct statx *stx);
/* The same of @fd, a file in @parent. Takes @fd (O_PATH), whatever happens. */
int fs_enter(struct fs *fs, const struct fs_node *parent, int fd, struct fs_node **node,
	     struct statx *stx);
void fs_entry(const struct fs *fs, const struct fs_node *parent, const struct fs_node *node,
	      const struct statx *stx, struct fuse_entry_out *out);
/* Drop the set-user-id and set-group-id bits of file @fd, which was written. 0 or -errno. */
int fs_kill_suid(struct fs *fs, int fd);

int fs_op_lookup(struct fs *fs, struct fs_req *req);
int fs_op_forget(struct fs *fs, struct fs_req *req);
int fs_op_batch_forget(struct fs *fs, struct fs_req *req);
int fs_op_getattr(struct fs *fs, struct fs_req *req);
int fs_op_statx(struct fs *fs, struct fs_req *req);
int fs_op_setattr(struct fs *fs, struct fs_req *req);
int fs_op_readlink(struct fs *fs, struct fs_req *req);
int fs_op_symlink(struct fs *fs, struct fs_req *req);
int fs_op_mknod(struct fs *fs, struct fs_req *req);
int fs_op_mkdir(struct fs *fs, struct fs_req *req);
int fs_op_unlink(struct fs *fs, struct fs_req *req);
int fs_op_rmdir(struct fs *fs, struct fs_req *req);
int fs_op_rename(struct fs *fs, struct fs_req *req);
int fs_op_rename2(struct fs *fs, struct fs_req *req);
int fs_op_link(struct fs *fs, struct fs_req *req);
int fs_op_statfs(struct fs *fs, struct fs_req *req);

/* --- fs_file.c --- */

int fs_op_open(struct fs *fs, struct fs_req *req);
int fs_op_create(struct fs *fs, struct fs_req *req);
int fs_op_tmpfile(struct fs *fs, struct fs_req *req);
int fs_op_read(struct fs *fs, struct fs_req *req);
int fs_op_write(struct fs *fs, struct fs_req *req);
int fs_op_release(struct fs *fs, struct fs_req *req);
int fs_op_fsync(struct fs *fs, struct fs_req *req);
int fs_op_fsyncdir(struct fs *fs, struct fs_req *req);
int fs_op_fallocate(struct fs *fs, struct fs_req *req);
int fs_op_lseek(struct fs *fs, struct fs_req *req);
int fs_op_copy_file_range(struct fs *fs, struct fs_req *req);
int fs_op_syncfs(struct fs *fs, struct fs_req *req);

/* --- fs_dir.c --- */

int fs_op_opendir(struct fs *fs, struct fs_req *req);
int fs_op_readdir(struct fs *fs, struct fs_req *req);
int fs_op_readdirplus(struct fs *fs, struct fs_req *req);
int fs_op_releasedir(struct fs *fs, struct fs_req *req);

/* --- fs_xattr.c --- */

/* Of the file @fd (maybe O_PATH). Bytes or -errno. */
ssize_t fs_xattr_get(struct fs *fs, int fd, const char *name, void *buf, size_t size);
int fs_xattr_set(struct fs *fs, int fd, const char *name, const void *value, size_t size,
		 int flags);

int fs_op_setxattr(struct fs *fs, struct fs_req *req);
int fs_op_getxattr(struct fs *fs, struct fs_req *req);
int fs_op_listxattr(struct fs *fs, struct fs_req *req);
int fs_op_removexattr(struct fs *fs, struct fs_req *req);

/* --- fs_ids.c --- */

/* What ids=xattr remembers of a file. */
struct fs_override {
	uint32_t uid, gid;
	uint32_t mode; /* with type */
	uint32_t major, minor;
};

/* "uid:gid:mode[:type]" and back; @type is the host's (S_IFREG, ...). */
bool fs_override_parse(const char *text, size_t len, uint32_t type, struct fs_override *o);
void fs_override_format(const struct fs_override *o, char text[96]);

/* On the serving thread, once. 0 or -errno. */
int fs_ids_setup(struct fs *fs);
/* Change @stx, of the file @fd, from what the host says to what the guest shall see. */
void fs_ids_show(struct fs *fs, int fd, struct statx *stx);
/* The host's id for the guest's. */
uint32_t fs_ids_uid(const struct fs *fs, uint32_t uid);
uint32_t fs_ids_gid(const struct fs *fs, uint32_t gid);
/*
 * What is made between these two belongs to the request's user (ids=host), and is made under
 * umask @umask. After success of the first comes the second, whatever happened. 0 or -errno.
 */
int fs_ids_begin(struct fs *fs, const struct fs_req *req, uint32_t umask);
void fs_ids_end(struct fs *fs);
/* The mode to make a file with that shall have @mode (with its type) in the guest. */
mode_t fs_ids_mode(const struct fs *fs, uint32_t mode);
/* ids=xattr: remember owner, mode and device of the new file @fd in @parent. 0 or -errno. */
int fs_ids_made(struct fs *fs, const struct fs_req *req, const struct fs_node *parent, int fd,
		uint32_t type, uint32_t mode, uint32_t major, uint32_t minor);
/* Change mode, owner, group (~0: not) of file @fd (maybe O_PATH) of type @type. 0 or -errno. */
int fs_ids_change(struct fs *fs, int fd, uint32_t type, uint32_t mode, uint32_t uid, uint32_t gid);

#endif
