// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: the FUSE protocol, version 7.31 and later (<linux/fuse.h>), as virtio-fs
 * carries it: VIRTIO 1.2, 5.11.6. Requests are taken apart and answered here.
 *
 * Theory of operation. A request is a header, arguments, and for some operations names or data;
 * an answer is a header and whatever the operation gives. Everything about a request's form is
 * checked here before the operation sees it: that its length is what the header says, that the
 * arguments are there, that the answer has room, that the node exists, that names are one
 * component of a path, NUL-terminated, with nothing behind them. The arguments are copied once,
 * so the guest cannot change them afterwards. The table says what an operation needs; what
 * is not in it is ENOSYS, and what does not say that it only reads is EROFS of a share that is
 * ro: a new operation is refused until somebody thought about it.
 *
 * Only READ, WRITE, FSYNC and FALLOCATE are in flight after fs_serve(). The rest is done at once,
 * with the owner's lock held, though the host's file system may make it wait: that is why a
 * share has a thread of its own, and a vCPU that resets the device waits, as it does for I/O.
 *
 * A lie about lengths is answered with EINVAL when there is room for a header. Without that
 * nothing is done and the chain comes back empty.
 *
 * Not offered: locks (the guest's kernel keeps them among its own processes, which is what they
 * are for; other machines that share the folder do not see them), DAX, notifications.
 *
 * #syscalls share: close
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "devices/fs_impl.h"
#include "vmm/base/log.h"

#define MINOR_MIN 31 /* Linux 5.4, the first with virtio-fs */
#define MINOR	  41
#define MAX_PAGES (FS_IO_MAX / 4096)
/* How much the guest starts without waiting for it: read-ahead, write-back. */
#define BACKGROUND 256
#define VALID_AUTO 1
#define VALID_LONG 86400
#define ERROR_MAX  511 /* the guest's kernel takes more for a lie */

enum fs_names {
	NAMES_NONE,
	NAMES_ONE,    /* a name */
	NAMES_TWO,    /* two */
	NAMES_TARGET, /* a name, and what a symbolic link says */
};

#define READS	 1 /* changes nothing: for shares that are ro, too */
#define NO_NODE	 2 /* its node id means nothing */
#define NO_REPLY 4
#define GONE_TOO 8 /* also of a file that is gone: see fs_state.c */

struct fs_op {
	int (*fn)(struct fs *fs, struct fs_req *req);
	uint16_t in;   /* bytes of arguments, at least, in front of names and data */
	uint16_t out;  /* bytes of answer there must be room for */
	uint8_t names; /* enum fs_names */
	uint8_t flags;
};

/* --- Answers --- */

void fs_answer(struct fs_req *req, int error, const void *data, size_t len)
{
	struct virtqueue_cursor *c = &req->chain.writable;
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + len),
		.error = error >= -ERROR_MAX ? error : -EIO,
		.unique = req->in.unique,
	};

	virtqueue_write(c, &out, sizeof(out));
	if (data != NULL)
		virtqueue_write(c, data, len);
}

/* --- The session --- */

static void forget_all(struct fs *fs)
{
	fs_handles_clear(&fs->handles);
	fs_nodes_clear(&fs->nodes);
	fs->started = false;
	fs->flags = 0;
}

uint64_t fs_offer(const struct fs *fs)
{
	uint64_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC |
			 FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
			 FUSE_ASYNC_DIO | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES |
			 FUSE_SETXATTR_EXT | FUSE_INIT_EXT;

	if (fs->cache != FS_CACHE_ALWAYS)
		flags |= FUSE_AUTO_INVAL_DATA;
	else
		flags |= FUSE_CACHE_SYMLINKS;
	if (fs->cache == FS_CACHE_ALWAYS && !fs->ro)
		flags |= FUSE_WRITEBACK_CACHE;
	if (fs->cache == FS_CACHE_NEVER)
		flags |= FUSE_DIRECT_IO_ALLOW_MMAP;
	if (fs->mounts)
		flags |= FUSE_SUBMOUNTS;
	if (fs->ids == FS_IDS_HOST)
		flags |= FUSE_CREATE_SUPP_GROUP;
	/* The umask must not touch what a default ACL says; only the host knows of those. */
	if (fs->acl)
		flags |= FUSE_POSIX_ACL | FUSE_DONT_MASK;
	return flags;
}

static int op_init(struct fs *fs, struct fs_req *req)
{
	struct fuse_init_out *out = (struct fuse_init_out *)fs->out;
	struct fuse_init_in in = { 0 };
	uint64_t wanted;

	memcpy(&in, req->args, req->nargs < sizeof(in) ? req->nargs : sizeof(in));
	*out = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION, .minor = MINOR };
	if (in.major > FUSE_KERNEL_VERSION)
		return sizeof(*out); /* it asks again, with ours */
	if (in.major < FUSE_KERNEL_VERSION || in.minor < MINOR_MIN) {
		log_limited(LOG_WARN, "%s: the guest speaks FUSE %u.%u; 7.%d is the oldest known",
			    fs->name, in.major, in.minor, MINOR_MIN);
		return -EPROTO;
	}
	forget_all(fs);
	wanted = in.flags & INT32_MAX; /* the last bit is reserved */
	if ((in.flags & FUSE_INIT_EXT) != 0)
		wanted |= (uint64_t)in.flags2 << 32;
	fs->flags = wanted & fs_offer(fs);
	fs->started = true;
	out->max_readahead = in.max_readahead;
	out->flags = (uint32_t)fs->flags;
	out->flags2 = (uint32_t)(fs->flags >> 32);
	out->max_background = BACKGROUND;
	out->congestion_threshold = BACKGROUND / 4 * 3;
	out->max_write = FS_IO_MAX;
	out->max_pages = MAX_PAGES;
	out->time_gran = 1;
	return sizeof(*out);
}

static int op_destroy(struct fs *fs, struct fs_req *req)
{
	(void)req;
	forget_all(fs);
	return 0;
}

/* --- Operations --- */

static const struct fs_op ops[] = {
	[FUSE_LOOKUP] = { fs_op_lookup, 0, sizeof(struct fuse_entry_out), NAMES_ONE, READS },
	[FUSE_FORGET] = { fs_op_forget, sizeof(struct fuse_forget_in),
			  .flags = READS | NO_NODE | NO_REPLY },
	[FUSE_GETATTR] = { fs_op_getattr, sizeof(struct fuse_getattr_in),
			   sizeof(struct fuse_attr_out), .flags = READS },
	[FUSE_SETATTR] = { fs_op_setattr, sizeof(struct fuse_setattr_in),
			   sizeof(struct fuse_attr_out) },
	[FUSE_READLINK] = { fs_op_readlink, .flags = READS },
	[FUSE_SYMLINK] = { fs_op_symlink, 0, sizeof(struct fuse_entry_out), NAMES_TARGET },
	[FUSE_MKNOD] = { fs_op_mknod, sizeof(struct fuse_mknod_in), sizeof(struct fuse_entry_out),
			 NAMES_ONE },
	[FUSE_MKDIR] = { fs_op_mkdir, sizeof(struct fuse_mkdir_in), sizeof(struct fuse_entry_out),
			 NAMES_ONE },
	[FUSE_UNLINK] = { fs_op_unlink, .names = NAMES_ONE },
	[FUSE_RMDIR] = { fs_op_rmdir, .names = NAMES_ONE },
	[FUSE_RENAME] = { fs_op_rename, sizeof(struct fuse_rename_in), .names = NAMES_TWO },
	[FUSE_LINK] = { fs_op_link, sizeof(struct fuse_link_in), sizeof(struct fuse_entry_out),
			NAMES_ONE },
	[FUSE_OPEN] = { fs_op_open, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out),
			.flags = READS },
	[FUSE_READ] = { fs_op_read, sizeof(struct fuse_read_in), .flags = READS },
	[FUSE_WRITE] = { fs_op_write, sizeof(struct fuse_write_in), sizeof(struct fuse_write_out) },
	[FUSE_STATFS] = { fs_op_statfs, 0, sizeof(struct fuse_statfs_out), .flags = READS },
	[FUSE_RELEASE] = { fs_op_release, sizeof(struct fuse_release_in),
			   .flags = READS | GONE_TOO },
	[FUSE_FSYNC] = { fs_op_fsync, sizeof(struct fuse_fsync_in), .flags = READS },
	[FUSE_SETXATTR] = { fs_op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE },
	[FUSE_GETXATTR] = { fs_op_getxattr, sizeof(struct fuse_getxattr_in), .flags = READS },
	[FUSE_LISTXATTR] = { fs_op_listxattr, sizeof(struct fuse_getxattr_in), .flags = READS },
	[FUSE_REMOVEXATTR] = { fs_op_removexattr },
	/* FLUSH is not here: with ENOSYS the guest asks no more, and has its own data written. */
	[FUSE_INIT] = { op_init, 16, sizeof(struct fuse_init_out), .flags = READS | NO_NODE },
	[FUSE_OPENDIR] = { fs_op_opendir, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out),
			   .flags = READS },
	[FUSE_READDIR] = { fs_op_readdir, sizeof(struct fuse_read_in), .flags = READS },
	[FUSE_RELEASEDIR] = { fs_op_releasedir, sizeof(struct fuse_release_in),
			      .flags = READS | GONE_TOO },
	[FUSE_FSYNCDIR] = { fs_op_fsyncdir, sizeof(struct fuse_fsync_in), .flags = READS },
	[FUSE_CREATE] = { fs_op_create, sizeof(struct fuse_create_in),
			  sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out), NAMES_ONE },
	/* INTERRUPT is not here: nothing that runs can be interrupted, and ENOSYS says so. */
	[FUSE_DESTROY] = { op_destroy, .flags = READS | NO_NODE },
	[FUSE_BATCH_FORGET] = { fs_op_batch_forget, sizeof(struct fuse_batch_forget_in),
				.flags = READS | NO_NODE | NO_REPLY },
	[FUSE_FALLOCATE] = { fs_op_fallocate, sizeof(struct fuse_fallocate_in) },
	[FUSE_READDIRPLUS] = { fs_op_readdirplus, sizeof(struct fuse_read_in), .flags = READS },
	[FUSE_RENAME2] = { fs_op_rename2, sizeof(struct fuse_rename2_in), .names = NAMES_TWO },
	[FUSE_LSEEK] = { fs_op_lseek, sizeof(struct fuse_lseek_in), sizeof(struct fuse_lseek_out),
			 .flags = READS },
	[FUSE_COPY_FILE_RANGE] = { fs_op_copy_file_range, sizeof(struct fuse_copy_file_range_in),
				   sizeof(struct fuse_write_out) },
	[FUSE_SYNCFS] = { fs_op_syncfs, .flags = READS },
	/* Its name is that of nothing ("/"). */
	[FUSE_TMPFILE] = { fs_op_tmpfile, sizeof(struct fuse_create_in),
			   sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out) },
	[FUSE_STATX] = { fs_op_statx, sizeof(struct fuse_statx_in), sizeof(struct fuse_statx_out),
			 .flags = READS },
};

static const struct fs_op *op_of(uint32_t opcode)
{
	if (opcode >= sizeof(ops) / sizeof(ops[0]) || ops[opcode].fn == NULL)
		return NULL;
	return &ops[opcode];
}

/* One component of a path? @len: without the NUL. */
static int check_name(const char *name, size_t len)
{
	if (len == 0 || memchr(name, '/', len) != NULL)
		return -EINVAL;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return -EINVAL;
	return len <= NAME_MAX ? 0 : -ENAMETOOLONG;
}

/* Find the names behind the arguments: exactly as many as there should be. */
static int take_names(struct fs_req *req, const struct fs_op *op)
{
	unsigned n = op->names == NAMES_NONE ? 0 : op->names == NAMES_ONE ? 1 : 2;
	const char *at = (const char *)req->args + op->in;
	size_t left = req->nargs - op->in;

	for (unsigned i = 0; i < n; i++) {
		size_t len = strnlen(at, left);
		int r = 0;

		if (len == left)
			return -EINVAL;
		if (i == 0 || op->names == NAMES_TWO)
			r = check_name(at, len);
		else if (len == 0)
			r = -EINVAL;
		else if (len >= PATH_MAX)
			r = -ENAMETOOLONG;
		if (r < 0)
			return r;
		req->name[i] = at;
		at += len + 1;
		left -= len + 1;
	}
	return n == 0 || left == 0 ? 0 : -EINVAL;
}

/*
 * Copy the arguments. WRITE's data stays where it is, behind them in the chain. 0 or -EINVAL
 * when the request is not as long as it says.
 */
static int take_args(struct fs *fs, struct fs_req *req, const struct fs_op *op)
{
	struct fs_ext_group group;
	struct virtqueue_cursor *c = &req->chain.readable;
	size_t len = req->in.len - sizeof(req->in), ext = (size_t)req->in.total_extlen * 8;

	if (req->in.len < sizeof(req->in) || len > c->left || ext > len)
		return -EINVAL;
	len -= ext;
	if (len < op->in)
		return -EINVAL;
	if (req->in.opcode == FUSE_WRITE)
		len = op->in;
	if (len > FS_IN_MAX)
		return -EINVAL;
	virtqueue_read(c, fs->in, len);
	fs->in[len] = '\0';
	req->args = fs->in;
	req->nargs = (uint32_t)len;
	/* Extensions come last. Only one is negotiated; others say nothing to us. */
	req->has_group = fs_has(fs, FUSE_CREATE_SUPP_GROUP) && ext >= sizeof(group) &&
			 virtqueue_read(c, &group, sizeof(group)) == sizeof(group) &&
			 group.type == FS_EXT_GROUPS && group.nr_groups == 1;
	req->group = req->has_group ? group.group : 0;
	return 0;
}

/* Everything that can be said against the request without asking its operation. */
static int prepare(struct fs *fs, struct fs_req *req, const struct fs_op *op, size_t room)
{
	int r;

	if (op == NULL)
		return -ENOSYS;
	r = take_args(fs, req, op);
	if (r < 0)
		return r;
	if (op->out > room)
		return -EINVAL;
	if (!fs->started && req->in.opcode != FUSE_INIT)
		return -EIO;
	if (fs->ro && (op->flags & READS) == 0)
		return -EROFS;
	if ((op->flags & NO_NODE) == 0) {
		req->node = fs_node_get(&fs->nodes, req->in.nodeid);
		if (req->node == NULL || (req->node->gone && (op->flags & GONE_TOO) == 0))
			return -ESTALE;
	}
	return take_names(req, op);
}

bool fs_serve(struct fs *fs, struct fs_req *req)
{
	struct virtqueue_cursor *c = &req->chain.writable;
	const struct fs_op *op;
	int r;

	if (virtqueue_read(&req->chain.readable, &req->in, sizeof(req->in)) < sizeof(req->in))
		return true;
	op = op_of(req->in.opcode);
	req->fs = fs;
	req->node = NULL;
	req->handle = NULL;
	req->kill_suid = false;
	if (op != NULL && (op->flags & NO_REPLY) != 0) {
		if (prepare(fs, req, op, 0) == 0)
			op->fn(fs, req);
		return true;
	}
	if (c->left < sizeof(struct fuse_out_header))
		return true;
	r = prepare(fs, req, op, c->left - sizeof(struct fuse_out_header));
	if (r == 0)
		r = op->fn(fs, req);
	if (r == FS_LATER)
		return false;
	fs_answer(req, r < 0 ? r : 0, fs->out, r < 0 ? 0 : (size_t)r);
	return true;
}

/* --- Life --- */

void fs_run(struct fs *fs)
{
	aio_run(fs->aio);
}

void fs_drain(struct fs *fs)
{
	while (fs->aio != NULL && aio_pending(fs->aio) > 0)
		aio_wait(fs->aio);
}

void fs_reset(struct fs *fs)
{
	forget_all(fs);
}

int fs_watch(struct fs *fs, struct loop *loop, struct err *err)
{
	return aio_watch(fs->aio, loop, err);
}

/* ids=xattr is of no use where there are no such attributes. */
static int check_xattr(struct fs *fs, struct err *err)
{
	char text[8];
	int fd = fs->file >= 0 ? fs->file : fs_nodes_root(&fs->nodes)->fd;

	if (fs_xattr_get(fs, fd, FS_XATTR_OVERRIDE, text, sizeof(text)) != -EOPNOTSUPP)
		return 0;
	return err_set(err, EOPNOTSUPP,
		       "ids=xattr: its file system has no user extended attributes");
}

static int start(struct fs *fs, const struct fs_config *cfg, struct err *err)
{
	int r;

	if (fs_nodes_init(&fs->nodes, FS_NODES_MAX) < 0 ||
	    fs_handles_init(&fs->handles, FS_HANDLES_MAX) < 0)
		return err_sys(err, ENOMEM, "cannot make its tables");
	r = fs_open_root(fs, cfg->path, err);
	if (r < 0)
		return r;
	if (fs->ids == FS_IDS_HOST && fs->euid != 0)
		return err_set(err, EPERM,
			       "ids=host makes files of other users, which only root can; use "
			       "ids=xattr, or ids=map");
	if (fs->ids == FS_IDS_XATTR && check_xattr(fs, err) < 0)
		return -err->code;
	return 0;
}

struct fs *fs_new(const struct fs_config *cfg, const char *name, void (*ready)(void *owner),
		  void (*answered)(void *owner, struct fs_req *req), void *owner, struct err *err)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	if (fs == NULL) {
		err_sys(err, ENOMEM, "%s", name);
		return NULL;
	}
	fs->name = name;
	fs->ro = cfg->ro;
	fs->mounts = cfg->mounts;
	fs->iothreads = cfg->iothreads;
	fs->ids = cfg->ids;
	fs->cache = cfg->cache;
	fs->uid = cfg->ids == FS_IDS_HOST ? 0 : cfg->uid;
	fs->gid = cfg->ids == FS_IDS_HOST ? 0 : cfg->gid;
	fs->euid = geteuid();
	fs->egid = getegid();
	fs->valid = cfg->cache == FS_CACHE_ALWAYS ? VALID_LONG
		    : cfg->cache == FS_CACHE_AUTO ? VALID_AUTO
						  : 0;
	/* ACLs name users: right when ids are the same on both sides. */
	fs->acl = cfg->ids == FS_IDS_HOST ||
		  (cfg->ids == FS_IDS_MAP && fs->uid == fs->euid && fs->gid == fs->egid);
	fs->proc = fs->file = -1;
	fs->ready = ready;
	fs->answered = answered;
	fs->owner = owner;
	if (start(fs, cfg, err) < 0) {
		fs_free(fs);
		return NULL;
	}
	return fs;
}

void fs_free(struct fs *fs)
{
	if (fs == NULL)
		return;
	aio_free(fs->aio);
	fs_handles_fini(&fs->handles);
	fs_nodes_fini(&fs->nodes);
	if (fs->proc >= 0)
		close(fs->proc);
	if (fs->file >= 0)
		close(fs->file);
	free(fs);
}

bool fs_leads_out(const struct fs *fs)
{
	return fs->leads_out;
}
