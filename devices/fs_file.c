// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: files that are open.
 *
 * Data goes between guest memory and file by io_uring (aio.h), without a copy, many requests at
 * once and completing in any order. A small write is made at once: io_uring gives a write to
 * another thread, as most file systems cannot promise not to wait, and a copy into the page cache
 * takes less than that. While one is in flight its handle is held: a guest that closes the file
 * meanwhile must not have the number of its descriptor given to another file, which would then be
 * read or written.
 *
 * Flags of open. The access mode and O_TRUNC are the host's; all else is the guest's kernel's or
 * comes with each request. O_APPEND is left away: with it pwrite(2) ignores its offset,
 * and the guest's write-back of mapped pages goes through whatever handle is there. A write() to
 * a file that is open with it says so, and is then appended by the host (RWF_APPEND), also
 * when the host made the file longer. O_SYNC and O_DSYNC come with the write, too. O_DIRECT is
 * about the guest's page cache; the host's is used. A write-back cache reads what surrounds
 * a write, so a file that is open for writing only is opened for both if that is possible.
 *
 * cache=auto: the guest may keep its pages of a file over open() when size and time of change
 * are what they were when it was last opened.
 *
 * #syscalls share: statx lseek copy_file_range syncfs close unlinkat pwritev2
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include "devices/fs_impl.h"
#include "vmm/base/util.h"

/* The most one COPY_FILE_RANGE does: the others wait for it. */
#define COPY_MAX (16u << 20)
/* A write up to so many bytes is small. */
#define SMALL_WRITE (64u << 10)
#define FALLOCATE_MODES                                                                            \
	(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |                       \
	 FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE)

/* --- Opening --- */

/* The flags for the host of the guest's @flags, or -errno. */
static int host_flags(const struct fs *fs, uint32_t flags)
{
	int mode = (int)(flags & O_ACCMODE);

	if (mode == O_ACCMODE)
		return -EINVAL;
	if (fs->ro && (mode != O_RDONLY || (flags & O_TRUNC) != 0))
		return -EROFS;
	if (mode == O_WRONLY && fs_has(fs, FUSE_WRITEBACK_CACHE))
		mode = O_RDWR;
	return mode | (int)(flags & (O_TRUNC | O_EXCL));
}

/* cache=auto: is @node unchanged since it was opened last? */
static bool unchanged(struct fs_node *node, int fd)
{
	struct statx stx;
	bool same;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, STATX_MTIME | STATX_SIZE, &stx) <
	    0)
		return false;
	same = node->seen && node->seen_size == stx.stx_size &&
	       node->seen_sec == stx.stx_mtime.tv_sec && node->seen_nsec == stx.stx_mtime.tv_nsec;
	node->seen = true;
	node->seen_size = stx.stx_size;
	node->seen_sec = stx.stx_mtime.tv_sec;
	node->seen_nsec = stx.stx_mtime.tv_nsec;
	return same;
}

/* Make @fd (which it takes) a handle of @node and answer. 0 or -errno. */
static int opened(struct fs *fs, struct fs_node *node, int fd, struct fuse_open_out *out)
{
	struct fs_handle *h = fs_handle_add(&fs->handles, fs_node_id(&fs->nodes, node), fd, false);

	if (h == NULL) {
		close(fd);
		return -ENFILE;
	}
	*out = (struct fuse_open_out){ .fh = fs_handle_id(&fs->handles, h) };
	if (fs->cache == FS_CACHE_NEVER)
		out->open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	else if (fs->cache == FS_CACHE_ALWAYS || unchanged(node, fd))
		out->open_flags = FOPEN_KEEP_CACHE;
	return 0;
}

static int open_node(struct fs *fs, struct fs_node *node, uint32_t flags, uint32_t open_flags,
		     struct fuse_open_out *out)
{
	int how = host_flags(fs, flags), fd, r;

	if (how < 0)
		return how;
	how &= ~O_EXCL;
	fd = fs_open_file(fs, node, how);
	/* Not to be read: then it has to do without. */
	if (fd == -EACCES && (flags & O_ACCMODE) == O_WRONLY && (how & O_ACCMODE) == O_RDWR)
		fd = fs_open_file(fs, node, (how & ~O_ACCMODE) | O_WRONLY);
	if (fd < 0)
		return fd;
	if ((flags & O_TRUNC) != 0 && (open_flags & FUSE_OPEN_KILL_SUIDGID) != 0) {
		r = fs_kill_suid(fs, fd);
		if (r < 0) {
			close(fd);
			return r;
		}
	}
	return opened(fs, node, fd, out);
}

int fs_op_open(struct fs *fs, struct fs_req *req)
{
	struct fuse_open_out *out = (struct fuse_open_out *)fs->out;
	struct fuse_open_in in;
	int r;

	memcpy(&in, req->args, sizeof(in));
	r = open_node(fs, req->node, in.flags, in.open_flags, out);
	return r < 0 ? r : (int)sizeof(*out);
}

struct create_out {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

/* @fd was made in req->node: a node and a handle of it. Takes @fd. 0 or -errno. */
static int created(struct fs *fs, struct fs_req *req, int fd, uint32_t mode, struct create_out *out)
{
	const struct fs_node *parent = req->node;
	struct fs_node *node;
	struct statx stx;
	int r = 0, same;

	r = fs_ids_made(fs, req, parent, fd, S_IFREG, mode, 0, 0);
	same = r < 0 ? r : fs_open_same(fs, fd);
	r = same < 0 ? same : fs_enter(fs, parent, same, &node, &stx);
	if (r < 0) {
		close(fd);
		return r;
	}
	fs_entry(fs, parent, node, &stx, &out->entry);
	r = opened(fs, node, fd, &out->open);
	if (r < 0)
		fs_node_forget(&fs->nodes, out->entry.nodeid, 1);
	return r;
}

/* The name is taken, which is no error: open what is there. */
static int create_existing(struct fs *fs, struct fs_req *req, const struct fuse_create_in *in,
			   struct create_out *out)
{
	struct fs_node *node;
	struct statx stx;
	int r = fs_lookup(fs, req->node, req->name[0], &node, &stx);

	if (r < 0)
		return r;
	/* Not what the guest thought it was (nothing, or a file): let it look again. */
	if (node->type != S_IFREG)
		r = node->type == S_IFDIR ? -EISDIR : -ESTALE;
	else
		r = open_node(fs, node, in->flags, in->open_flags, &out->open);
	/* What O_TRUNC did is not in there yet. */
	if (r == 0 && (in->flags & O_TRUNC) != 0)
		r = fs_stat(fs, node, &stx);
	fs_entry(fs, req->node, node, &stx, &out->entry);
	if (r < 0)
		fs_node_forget(&fs->nodes, out->entry.nodeid, 1);
	return r;
}

/* What is to be made, in @in, and the flags for the host, or -errno. */
static int create_args(const struct fs *fs, const struct fs_req *req, struct fuse_create_in *in)
{
	memcpy(in, req->args, sizeof(*in));
	if (req->node->type != S_IFDIR)
		return -ENOTDIR;
	if (req->node->fd < 0)
		return -EACCES;
	in->mode = S_IFREG | (in->mode & 07777);
	return host_flags(fs, in->flags);
}

int fs_op_create(struct fs *fs, struct fs_req *req)
{
	struct create_out *out = (struct create_out *)fs->out;
	struct fuse_create_in in;
	int how, fd, r;

	how = create_args(fs, req, &in);
	if (how < 0)
		return how;
	r = fs_ids_begin(fs, req, in.umask);
	if (r < 0)
		return r;
	fd = fs_open_new(fs, req->node, req->name[0], how, fs_ids_mode(fs, in.mode));
	fs_ids_end(fs);
	if (fd == -EEXIST && (in.flags & O_EXCL) == 0) {
		r = create_existing(fs, req, &in, out);
	} else if (fd >= 0) {
		r = created(fs, req, fd, in.mode, out);
		if (r < 0)
			unlinkat(req->node->fd, req->name[0], 0);
	} else {
		r = fd;
	}
	return r < 0 ? r : (int)sizeof(*out);
}

int fs_op_tmpfile(struct fs *fs, struct fs_req *req)
{
	struct create_out *out = (struct create_out *)fs->out;
	struct fuse_create_in in;
	int how, fd, r;

	how = create_args(fs, req, &in);
	if (how >= 0 && (how & O_ACCMODE) == O_RDONLY)
		how = -EINVAL; /* as open(2) */
	r = how < 0 ? how : fs_ids_begin(fs, req, in.umask);
	if (r < 0)
		return r;
	fd = fs_open_tmpfile(fs, req->node, how, fs_ids_mode(fs, in.mode));
	fs_ids_end(fs);
	r = fd < 0 ? fd : created(fs, req, fd, in.mode, out);
	return r < 0 ? r : (int)sizeof(*out);
}

int fs_op_release(struct fs *fs, struct fs_req *req)
{
	struct fuse_release_in in;
	struct fs_handle *h;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, false);
	if (h == NULL)
		return -EBADF;
	fs_handle_close(&fs->handles, h);
	return 0;
}

/* --- I/O that is waited for by nobody --- */

static void io_done(struct aio_req *io, int64_t result)
{
	struct fs_req *req = container_of(io, struct fs_req, io);
	struct fuse_write_out written = { .size = result > 0 ? (uint32_t)result : 0 };
	struct fs *fs = req->fs;
	int r = result < 0 ? (int)result : 0;

	if (r == 0 && req->kill_suid)
		(void)fs_kill_suid(fs, req->handle->fd);
	fs_handle_drop(&fs->handles, req->handle);
	req->handle = NULL;
	switch (req->in.opcode) {
	case FUSE_READ:
		/* The header is told apart from the data: see fs_op_read(). */
		if (r == 0)
			virtqueue_skip(&req->data, (size_t)result);
		fs_answer(req, r, NULL, r == 0 ? (size_t)result : 0);
		req->chain.writable.done += req->data.done;
		break;
	case FUSE_WRITE:
		fs_answer(req, r, &written, r == 0 ? sizeof(written) : 0);
		break;
	default:
		fs_answer(req, r, NULL, 0);
	}
	fs->answered(fs->owner, req);
}

static int start(struct fs *fs, struct fs_req *req, struct fs_handle *h, enum aio_op op)
{
	req->handle = h;
	fs_handle_hold(h);
	req->io.op = op;
	req->io.file = AIO_FD;
	req->io.fd = h->fd;
	req->io.done = io_done;
	aio_queue(fs->aio, &req->io);
	return FS_LATER;
}

/* Shorten @c to its first @len bytes (at most c->left). */
static void cut(struct virtqueue_cursor *c, size_t len)
{
	unsigned n = 0;

	c->left = len;
	for (; len > 0; n++) {
		if (c->iov[n].iov_len > len)
			c->iov[n].iov_len = len;
		len -= c->iov[n].iov_len;
	}
	c->n = n;
}

/* The data is first where it shall go; the header, whose length is not known yet, comes later. */
int fs_op_read(struct fs *fs, struct fs_req *req)
{
	struct virtqueue_cursor *c = &req->chain.writable;
	struct fuse_read_in in;
	struct fs_handle *h;
	size_t room;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, false);
	if (h == NULL)
		return -EBADF;
	room = c->left - sizeof(struct fuse_out_header);
	/* A short read would say that the file ends there. */
	if (in.size > room || in.offset > INT64_MAX - (uint64_t)UINT32_MAX)
		return -EINVAL;
	if (in.size == 0)
		return 0;
	virtqueue_split_tail(c, room, &req->data, req->data_iov);
	cut(&req->data, in.size);
	req->io.iov = req->data.iov;
	req->io.niov = req->data.n;
	req->io.offset = in.offset;
	req->io.flags = 0;
	return start(fs, req, h, AIO_READ);
}

static int write_now(struct fs *fs, struct fs_req *req, struct fs_handle *h)
{
	struct fuse_write_out *out = (struct fuse_write_out *)fs->out;
	ssize_t n = pwritev2(h->fd, req->io.iov, (int)req->io.niov, (off_t)req->io.offset,
			     (int)req->io.flags);

	if (n < 0)
		return -errno;
	if (req->kill_suid)
		(void)fs_kill_suid(fs, h->fd);
	*out = (struct fuse_write_out){ .size = (uint32_t)n };
	return sizeof(*out);
}

int fs_op_write(struct fs *fs, struct fs_req *req)
{
	struct virtqueue_cursor *c = &req->chain.readable;
	struct fuse_write_out *out = (struct fuse_write_out *)fs->out;
	struct fuse_write_in in;
	struct fs_handle *h;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, false);
	if (h == NULL)
		return -EBADF;
	if (in.size > c->left || in.offset > INT64_MAX - (uint64_t)UINT32_MAX)
		return -EINVAL;
	if (in.size == 0) {
		*out = (struct fuse_write_out){ .size = 0 };
		return sizeof(*out);
	}
	cut(c, in.size);
	req->io.iov = c->iov;
	req->io.niov = c->n;
	req->io.offset = in.offset;
	req->io.flags = 0;
	if ((in.flags & (O_SYNC & ~O_DSYNC)) != 0)
		req->io.flags |= RWF_SYNC;
	else if ((in.flags & O_DSYNC) != 0)
		req->io.flags |= RWF_DSYNC;
	if ((in.flags & O_APPEND) != 0 && (in.write_flags & FUSE_WRITE_CACHE) == 0 &&
	    !fs_has(fs, FUSE_WRITEBACK_CACHE))
		req->io.flags |= RWF_APPEND;
	req->kill_suid = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
	if (in.size <= SMALL_WRITE && (req->io.flags & (RWF_SYNC | RWF_DSYNC)) == 0)
		return write_now(fs, req, h);
	return start(fs, req, h, AIO_WRITE);
}

static int sync_handle(struct fs *fs, struct fs_req *req, bool dir)
{
	struct fuse_fsync_in in;
	struct fs_handle *h;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, dir);
	if (h == NULL)
		return -EBADF;
	if (h->fd < 0)
		return 0;
	return start(fs, req, h,
		     (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0 ? AIO_SYNC : AIO_FSYNC);
}

int fs_op_fsync(struct fs *fs, struct fs_req *req)
{
	return sync_handle(fs, req, false);
}

int fs_op_fsyncdir(struct fs *fs, struct fs_req *req)
{
	return sync_handle(fs, req, true);
}

int fs_op_fallocate(struct fs *fs, struct fs_req *req)
{
	struct fuse_fallocate_in in;
	struct fs_handle *h;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, false);
	if (h == NULL)
		return -EBADF;
	if ((in.mode & ~(uint32_t)FALLOCATE_MODES) != 0)
		return -EOPNOTSUPP;
	if (in.offset > INT64_MAX || in.length > INT64_MAX - in.offset)
		return -EFBIG;
	req->io.offset = in.offset;
	req->io.len = in.length;
	req->io.flags = in.mode;
	return start(fs, req, h, AIO_FALLOCATE);
}

/* --- The rest --- */

int fs_op_lseek(struct fs *fs, struct fs_req *req)
{
	struct fuse_lseek_out *out = (struct fuse_lseek_out *)fs->out;
	struct fuse_lseek_in in;
	struct fs_handle *h;
	off_t at;

	/*
	 * With a write-back cache the guest's pages are ahead of the file, and it does not write
	 * them first when it asks. It then takes the file for one without holes, which is right,
	 * too.
	 */
	if (fs_has(fs, FUSE_WRITEBACK_CACHE))
		return -ENOSYS;
	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, false);
	if (h == NULL)
		return -EBADF;
	if ((in.whence != SEEK_DATA && in.whence != SEEK_HOLE) || in.offset > INT64_MAX)
		return -EINVAL;
	/* That it moves the descriptor matters to nobody: all I/O names its offset. */
	at = lseek(h->fd, (off_t)in.offset, (int)in.whence);
	if (at < 0)
		return -errno;
	*out = (struct fuse_lseek_out){ .offset = (uint64_t)at };
	return sizeof(*out);
}

int fs_op_copy_file_range(struct fs *fs, struct fs_req *req)
{
	struct fuse_write_out *out = (struct fuse_write_out *)fs->out;
	struct fuse_copy_file_range_in in;
	struct fs_handle *from, *to;
	off_t off_in, off_out;
	ssize_t n;

	memcpy(&in, req->args, sizeof(in));
	from = fs_handle_get(&fs->handles, in.fh_in, req->in.nodeid, false);
	to = fs_handle_get(&fs->handles, in.fh_out, in.nodeid_out, false);
	if (from == NULL || to == NULL)
		return -EBADF;
	if (in.flags != 0 || in.off_in > INT64_MAX || in.off_out > INT64_MAX)
		return -EINVAL;
	off_in = (off_t)in.off_in;
	off_out = (off_t)in.off_out;
	n = copy_file_range(from->fd, &off_in, to->fd, &off_out,
			    in.len < COPY_MAX ? (size_t)in.len : COPY_MAX, 0);
	if (n < 0)
		return -errno;
	*out = (struct fuse_write_out){ .size = (uint32_t)n };
	return sizeof(*out);
}

/* The file system the node is on, all of it: io_uring has nothing for that. */
int fs_op_syncfs(struct fs *fs, struct fs_req *req)
{
	int fd, r = 0;

	if (fs->ro || req->node->fd < 0)
		return 0;
	fd = req->node->type == S_IFDIR ? fs_open_dir(fs, req->node)
					: fs_open_file(fs, req->node, O_RDONLY);
	if (fd < 0)
		return fd;
	if (syncfs(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}
