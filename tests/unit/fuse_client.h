/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A little FUSE client for tests of virtio-fs: Virtual I/O Device (VIRTIO) 1.2, section 5.11, and
 * linux/fuse.h; what a Linux guest sends, and through fc_send() anything else.
 *
 *	struct fuse_client c = { 0 };
 *
 *	fc_open_driver(&c);
 *	if (fc_make(&c, "/some/folder,tag=x") < 0) ... c.err.msg
 *	fc_start(&c);				  driver and FUSE_INIT
 *	err = fc_lookup(&c, FUSE_ROOT_ID, "file", &entry);
 *	...
 *	fc_stop(&c);				  the device has gone
 *	fc_close_driver(&c);
 *
 * Calls return a negative errno that came in the reply, or 0, or the number of bytes that came.
 * A reply that is not well-formed, or none, ends the test (check). One request at a time; a device
 * that serves itself on a thread is waited for without sleeping.
 */
#ifndef TESTS_UNIT_FUSE_CLIENT_H
#define TESTS_UNIT_FUSE_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include "tests/unit/virtio_driver.h"

/* What the header of an older system lacks: FUSE 7.39. */
#if FUSE_KERNEL_MINOR_VERSION < 39
struct fuse_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct fuse_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct fuse_sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare2[14];
};

struct fuse_statx_in {
	uint32_t getattr_flags, reserved;
	uint64_t fh;
	uint32_t sx_flags, sx_mask;
};

struct fuse_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec, flags;
	uint64_t spare[2];
	struct fuse_statx stat;
};
#define FUSE_STATX 52
#endif

#define FC_DATA_MAX (1u << 20)
#define FC_ROOM	    (FC_DATA_MAX + 4096)
#define FC_NO_FH    (~0ull)
/* What a Linux 6.12 guest offers at INIT: flags, then flags2 << 32. */
#define FC_INIT_FLAGS                                                                              \
	(FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT |          \
	 FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE |                 \
	 FUSE_SPLICE_READ | FUSE_FLOCK_LOCKS | FUSE_HAS_IOCTL_DIR | FUSE_AUTO_INVAL_DATA |         \
	 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_WRITEBACK_CACHE |     \
	 FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV | FUSE_POSIX_ACL |     \
	 FUSE_ABORT_ERROR | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_NO_OPENDIR_SUPPORT |       \
	 FUSE_EXPLICIT_INVAL_DATA | FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | \
	 FUSE_INIT_EXT)

struct fc_config {
	struct opt_seen seen;
	struct opt_list shares;
};

struct fuse_client {
	struct driver d;
	const struct virtio_ops *ops;
	struct virtio_device *vdev; /* NULL: none made */
	struct fc_config config;
	struct opt table[2];
	struct err err;

	unsigned q;	   /* where requests go; 0 is the hiprio queue */
	uint32_t uid, gid; /* who asks */
	uint64_t unique;   /* of the last request */
	uint64_t in, out;  /* guest memory, FC_ROOM bytes each */
	uint64_t flags;	   /* negotiated: flags, flags2 << 32 */
	struct fuse_init_out init;
};

/* --- The device --- */

static inline const struct virtio_ops *fc_ops(void)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		if (virtio_kind(i)->id == VIRTIO_ID_FS)
			return virtio_kind(i);
	}
	return NULL;
}

static inline void fc_open_driver(struct fuse_client *c)
{
	memset(c, 0, sizeof(*c));
	c->ops = fc_ops();
	ck_assert_ptr_nonnull(c->ops);
	c->table[0] = c->ops->option;
	c->table[0].offset = offsetof(struct fc_config, shares);
	driver_init(&c->d);
	c->in = driver_alloc(&c->d, FC_ROOM);
	c->out = driver_alloc(&c->d, FC_ROOM);
}

static inline void fc_close_driver(struct fuse_client *c)
{
	opt_free(c->table, &c->config);
	driver_fini(&c->d);
}

/* A device from the value of --share. 0, or -code and c->err. */
static inline int fc_make(struct fuse_client *c, const char *option)
{
	int r;

	opt_free(c->table, &c->config);
	memset(&c->config, 0, sizeof(c->config));
	c->err = (struct err)ERR_INIT;
	ck_assert_int_eq(opt_defaults(c->table, &c->config, &c->err), 0);
	r = opt_apply(c->table, &c->config, c->ops->option.name, option, &c->err);
	if (r == 0 && c->ops->check != NULL)
		r = c->ops->check(c->config.shares.items, &c->err);
	if (r < 0)
		return r;
	c->vdev = c->ops->create(c->config.shares.items, 1, 0, &c->d.host, &c->err);
	if (c->vdev == NULL)
		return c->err.code != 0 ? -c->err.code : -EIO;
	driver_attach(&c->d, c->vdev);
	return 0;
}

static inline bool fc_broken(struct fuse_client *c)
{
	return (driver_status(&c->d) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
}

/* --- Requests --- */

/* The next used entry of queue @q, in time or NEEDS_RESET. False: the device broke. */
static inline bool fc_wait(struct fuse_client *c, unsigned q, uint16_t *head, uint32_t *len)
{
	uint64_t end = loop_now_ns() + DRIVER_WAIT_MS * 1000000ULL;

	while (!driver_used(&c->d, q, head, len)) {
		ck_assert_int_eq(loop_run_once(c->d.loop, 0), 0);
		if (fc_broken(c))
			return false;
		ck_assert_msg(loop_now_ns() < end, "queue %u: nothing comes back", q);
		sched_yield();
	}
	return true;
}

/*
 * Send @in_len bytes at c->in, in pieces of @piece (0: header and the rest), with room for @room
 * bytes of answer at c->out. The used length, or -1: the device broke.
 */
static inline int64_t fc_send(struct fuse_client *c, uint32_t in_len, uint32_t piece, uint32_t room)
{
	struct driver_buf buf[64];
	unsigned n = 0;
	uint32_t used, step;

	for (uint32_t at = 0; at < in_len; at += step, n++) {
		step = piece != 0 ? piece : at == 0 ? sizeof(struct fuse_in_header) : in_len;
		if (step > in_len - at)
			step = in_len - at;
		ck_assert_uint_lt(n, 60);
		buf[n] = (struct driver_buf){ c->in + at, step, false };
	}
	if (room > sizeof(struct fuse_out_header) && piece == 0) {
		buf[n++] = (struct driver_buf){ c->out, sizeof(struct fuse_out_header), true };
		buf[n++] = (struct driver_buf){ c->out + sizeof(struct fuse_out_header),
						room - (uint32_t)sizeof(struct fuse_out_header),
						true };
	} else if (room > 0) {
		buf[n++] = (struct driver_buf){ c->out, room, true };
	}
	driver_add(&c->d, c->q, buf, n);
	driver_kick(&c->d, c->q);
	if (!fc_wait(c, c->q, NULL, &used))
		return -1;
	ck_assert_uint_le(used, room);
	return used;
}

/* The error of the answer of @used bytes, or the bytes behind its header; both must be right. */
static inline int fc_answer(struct fuse_client *c, int64_t used)
{
	const struct fuse_out_header *h = driver_ptr(&c->d, c->out, sizeof(*h));

	ck_assert_int_ge(used, (int64_t)sizeof(*h));
	ck_assert_int_eq(h->len, used);
	ck_assert_uint_eq(h->unique, c->unique);
	ck_assert_int_le(h->error, 0);
	ck_assert_int_gt(h->error, -1000);
	if (h->error != 0) {
		ck_assert_int_eq(used, (int64_t)sizeof(*h));
		return h->error;
	}
	return (int)(used - (int64_t)sizeof(*h));
}

static inline uint32_t fc_put(struct fuse_client *c, uint32_t opcode, uint64_t node,
			      const void *arg, uint32_t arg_len, const void *data,
			      uint32_t data_len)
{
	struct fuse_in_header h = { .len = (uint32_t)sizeof(h) + arg_len + data_len,
				    .opcode = opcode,
				    .unique = c->unique += 2,
				    .nodeid = node,
				    .uid = c->uid,
				    .gid = c->gid,
				    .pid = 42 };

	ck_assert_uint_le(h.len, FC_ROOM);
	gmem_write(&c->d.mem, c->in, &h, sizeof(h));
	if (arg_len > 0)
		gmem_write(&c->d.mem, c->in + sizeof(h), arg, arg_len);
	if (data_len > 0)
		gmem_write(&c->d.mem, c->in + sizeof(h) + arg_len, data, data_len);
	return h.len;
}

/* A request of @arg and @data, and room for @room bytes of payload, copied to @out (may be NULL).
 */
static inline int fc_call(struct fuse_client *c, uint32_t opcode, uint64_t node, const void *arg,
			  uint32_t arg_len, const void *data, uint32_t data_len, void *out,
			  uint32_t room)
{
	uint32_t len = fc_put(c, opcode, node, arg, arg_len, data, data_len);
	int64_t used = fc_send(c, len, 0, (uint32_t)sizeof(struct fuse_out_header) + room);
	int r;

	ck_assert_msg(used >= 0, "opcode %u broke the device", opcode);
	r = fc_answer(c, used);
	if (r > 0 && out != NULL)
		gmem_read(&c->d.mem, c->out + sizeof(struct fuse_out_header), out, (uint32_t)r);
	return r;
}

/* For answers of one size: 0 or an error. */
static inline int fc_exact(int r, size_t size)
{
	if (r >= 0)
		ck_assert_int_eq(r, (int)size);
	return r < 0 ? r : 0;
}

#define FC_CALL(c, opcode, node, arg, data, len, out)                                              \
	fc_exact(fc_call(c, opcode, node, arg, sizeof(*(arg)), data, len, out, sizeof(*(out))),    \
		 sizeof(*(out)))

static inline uint32_t fc_strlen(const char *name)
{
	return (uint32_t)strlen(name) + 1;
}

/* --- FUSE_INIT, and the device's life --- */

static inline int fc_init_with(struct fuse_client *c, uint32_t major, uint32_t minor,
			       uint64_t flags)
{
	struct fuse_init_in in = { .major = major,
				   .minor = minor,
				   .max_readahead = 128 << 10,
				   .flags = (uint32_t)flags,
				   .flags2 = (uint32_t)(flags >> 32) };
	int r;

	memset(&c->init, 0, sizeof(c->init));
	r = fc_call(c, FUSE_INIT, 0, &in, sizeof(in), NULL, 0, &c->init, sizeof(c->init));
	c->flags = c->init.flags;
	if (r >= 0 && (c->init.flags & FUSE_INIT_EXT) != 0)
		c->flags |= (uint64_t)c->init.flags2 << 32;
	return r;
}

/* The driver comes up, without FUSE_INIT. */
static inline void fc_drive(struct fuse_client *c)
{
	driver_start(&c->d, 1ULL << VIRTIO_RING_F_EVENT_IDX);
	c->q = 1;
}

static inline void fc_start(struct fuse_client *c)
{
	int r;

	fc_drive(c);
	r = fc_init_with(c, FUSE_KERNEL_VERSION, 41, FC_INIT_FLAGS);
	ck_assert_msg(r == (int)sizeof(c->init), "INIT: %d", r);
	ck_assert_uint_eq(c->init.major, FUSE_KERNEL_VERSION);
}

static inline void fc_stop(struct fuse_client *c)
{
	driver_detach(&c->d);
	c->ops->destroy(c->vdev);
	c->vdev = NULL;
}

/* --- Names and attributes --- */

static inline int fc_lookup(struct fuse_client *c, uint64_t parent, const char *name,
			    struct fuse_entry_out *e)
{
	memset(e, 0, sizeof(*e));
	return fc_exact(
		fc_call(c, FUSE_LOOKUP, parent, NULL, 0, name, fc_strlen(name), e, sizeof(*e)),
		sizeof(*e));
}

/* The node of @path ("a/b") below @from; each step must be there. */
static inline uint64_t fc_walk(struct fuse_client *c, uint64_t from, const char *path)
{
	char copy[1024], *save = NULL;
	struct fuse_entry_out e;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); name != NULL;
	     name = strtok_r(NULL, "/", &save)) {
		int r = fc_lookup(c, from, name, &e);

		ck_assert_msg(r == 0, "%s in %s: error %d", name, path, r);
		ck_assert_uint_ne(e.nodeid, 0);
		from = e.nodeid;
	}
	return from;
}

static inline uint64_t fc_node(struct fuse_client *c, const char *path)
{
	return fc_walk(c, FUSE_ROOT_ID, path);
}

static inline void fc_forget(struct fuse_client *c, uint64_t node, uint64_t count)
{
	struct fuse_forget_in in = { count };
	unsigned q = c->q;
	int64_t used;

	c->q = 0;
	used = fc_send(c, fc_put(c, FUSE_FORGET, node, &in, sizeof(in), NULL, 0), 0, 0);
	c->q = q;
	ck_assert_int_eq(used, 0);
}

static inline int fc_getattr(struct fuse_client *c, uint64_t node, uint64_t fh,
			     struct fuse_attr *attr)
{
	struct fuse_getattr_in in = { .getattr_flags = fh != FC_NO_FH ? FUSE_GETATTR_FH : 0,
				      .fh = fh != FC_NO_FH ? fh : 0 };
	struct fuse_attr_out out = { 0 };
	int r = FC_CALL(c, FUSE_GETATTR, node, &in, NULL, 0, &out);

	if (attr != NULL)
		*attr = out.attr;
	return r;
}

static inline int fc_setattr(struct fuse_client *c, uint64_t node, const struct fuse_setattr_in *in,
			     struct fuse_attr *attr)
{
	struct fuse_attr_out out = { 0 };
	int r = FC_CALL(c, FUSE_SETATTR, node, in, NULL, 0, &out);

	if (attr != NULL)
		*attr = out.attr;
	return r;
}

static inline int fc_chmod(struct fuse_client *c, uint64_t node, uint32_t mode)
{
	struct fuse_setattr_in in = { .valid = FATTR_MODE, .mode = mode };

	return fc_setattr(c, node, &in, NULL);
}

static inline int fc_chown(struct fuse_client *c, uint64_t node, uint32_t uid, uint32_t gid)
{
	struct fuse_setattr_in in = { .valid = FATTR_UID | FATTR_GID, .uid = uid, .gid = gid };

	return fc_setattr(c, node, &in, NULL);
}

static inline int fc_truncate(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t size)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = size };

	if (fh != FC_NO_FH) {
		in.valid |= FATTR_FH;
		in.fh = fh;
	}
	return fc_setattr(c, node, &in, NULL);
}

static inline int fc_statx(struct fuse_client *c, uint64_t node, struct fuse_statx *stat)
{
	struct fuse_statx_in in = { .sx_mask = 0xfff };
	struct fuse_statx_out out = { 0 };
	int r = FC_CALL(c, FUSE_STATX, node, &in, NULL, 0, &out);

	*stat = out.stat;
	return r;
}

/* --- Making and removing --- */

static inline int fc_mkdir(struct fuse_client *c, uint64_t parent, const char *name, uint32_t mode,
			   struct fuse_entry_out *e)
{
	struct fuse_mkdir_in in = { .mode = mode };

	return FC_CALL(c, FUSE_MKDIR, parent, &in, name, fc_strlen(name), e);
}

static inline int fc_mknod(struct fuse_client *c, uint64_t parent, const char *name, uint32_t mode,
			   uint32_t rdev, struct fuse_entry_out *e)
{
	struct fuse_mknod_in in = { .mode = mode, .rdev = rdev };

	return FC_CALL(c, FUSE_MKNOD, parent, &in, name, fc_strlen(name), e);
}

static inline uint32_t fc_two(char *to, size_t size, const char *first, const char *second)
{
	uint32_t n = fc_strlen(first), m = fc_strlen(second);

	ck_assert_uint_le(n + m, size);
	memcpy(to, first, n);
	memcpy(to + n, second, m);
	return n + m;
}

static inline int fc_symlink(struct fuse_client *c, uint64_t parent, const char *name,
			     const char *target, struct fuse_entry_out *e)
{
	char both[8192];
	uint32_t n = fc_two(both, sizeof(both), name, target);

	return fc_exact(fc_call(c, FUSE_SYMLINK, parent, NULL, 0, both, n, e, sizeof(*e)),
			sizeof(*e));
}

static inline int fc_link(struct fuse_client *c, uint64_t node, uint64_t parent, const char *name,
			  struct fuse_entry_out *e)
{
	struct fuse_link_in in = { .oldnodeid = node };

	return FC_CALL(c, FUSE_LINK, parent, &in, name, fc_strlen(name), e);
}

static inline int fc_unlink(struct fuse_client *c, uint64_t parent, const char *name)
{
	return fc_exact(fc_call(c, FUSE_UNLINK, parent, NULL, 0, name, fc_strlen(name), NULL, 0),
			0);
}

static inline int fc_rmdir(struct fuse_client *c, uint64_t parent, const char *name)
{
	return fc_exact(fc_call(c, FUSE_RMDIR, parent, NULL, 0, name, fc_strlen(name), NULL, 0), 0);
}

/* RENAME2 when there are flags, as Linux does. */
static inline int fc_rename(struct fuse_client *c, uint64_t parent, const char *name, uint64_t to,
			    const char *to_name, uint32_t flags)
{
	struct fuse_rename2_in in2 = { .newdir = to, .flags = flags };
	struct fuse_rename_in in = { .newdir = to };
	char both[8192];
	uint32_t n = fc_two(both, sizeof(both), name, to_name);

	if (flags != 0)
		return fc_exact(
			fc_call(c, FUSE_RENAME2, parent, &in2, sizeof(in2), both, n, NULL, 0), 0);
	return fc_exact(fc_call(c, FUSE_RENAME, parent, &in, sizeof(in), both, n, NULL, 0), 0);
}

/* @target gets a NUL. */
static inline int fc_readlink(struct fuse_client *c, uint64_t node, char *target, uint32_t size)
{
	int r = fc_call(c, FUSE_READLINK, node, NULL, 0, NULL, 0, target, size - 1);

	target[r > 0 ? r : 0] = '\0';
	return r;
}

/* --- Files --- */

static inline int fc_open_as(struct fuse_client *c, uint32_t opcode, uint64_t node, uint32_t flags,
			     struct fuse_open_out *out)
{
	struct fuse_open_in in = { .flags = flags };

	memset(out, 0, sizeof(*out));
	return FC_CALL(c, opcode, node, &in, NULL, 0, out);
}

static inline int fc_open(struct fuse_client *c, uint64_t node, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_out out;
	int r = fc_open_as(c, FUSE_OPEN, node, flags, &out);

	*fh = out.fh;
	return r;
}

static inline int fc_opendir(struct fuse_client *c, uint64_t node, uint64_t *fh)
{
	struct fuse_open_out out;
	int r = fc_open_as(c, FUSE_OPENDIR, node, O_RDONLY | O_DIRECTORY, &out);

	*fh = out.fh;
	return r;
}

struct fc_created {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

static inline int fc_create(struct fuse_client *c, uint64_t parent, const char *name,
			    uint32_t flags, uint32_t mode, struct fc_created *out)
{
	struct fuse_create_in in = { .flags = flags | O_CREAT, .mode = S_IFREG | mode };

	memset(out, 0, sizeof(*out));
	return FC_CALL(c, FUSE_CREATE, parent, &in, name, fc_strlen(name), out);
}

static inline int fc_tmpfile(struct fuse_client *c, uint64_t parent, uint32_t flags, uint32_t mode,
			     struct fc_created *out)
{
	struct fuse_create_in in = { .flags = flags | O_TMPFILE, .mode = S_IFREG | mode };

	memset(out, 0, sizeof(*out));
	/* Linux sends the name of an unnamed dentry. */
	return FC_CALL(c, FUSE_TMPFILE, parent, &in, "/", 2, out);
}

static inline int fc_release_as(struct fuse_client *c, uint32_t opcode, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	return fc_exact(fc_call(c, opcode, node, &in, sizeof(in), NULL, 0, NULL, 0), 0);
}

static inline int fc_release(struct fuse_client *c, uint64_t node, uint64_t fh)
{
	return fc_release_as(c, FUSE_RELEASE, node, fh);
}

static inline int fc_read(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t off,
			  void *data, uint32_t size)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = size };

	return fc_call(c, FUSE_READ, node, &in, sizeof(in), NULL, 0, data, size);
}

static inline int fc_write_flags(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t off,
				 const void *data, uint32_t size, uint32_t write_flags,
				 uint32_t flags)
{
	struct fuse_write_in in = {
		.fh = fh, .offset = off, .size = size, .write_flags = write_flags, .flags = flags
	};
	struct fuse_write_out out = { 0 };
	int r = FC_CALL(c, FUSE_WRITE, node, &in, data, size, &out);

	return r < 0 ? r : (int)out.size;
}

static inline int fc_write(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t off,
			   const void *data, uint32_t size)
{
	return fc_write_flags(c, node, fh, off, data, size, 0, O_RDWR);
}

static inline int fc_flush(struct fuse_client *c, uint64_t node, uint64_t fh)
{
	struct fuse_flush_in in = { .fh = fh };

	return fc_exact(fc_call(c, FUSE_FLUSH, node, &in, sizeof(in), NULL, 0, NULL, 0), 0);
}

static inline int fc_fsync(struct fuse_client *c, uint64_t node, uint64_t fh, uint32_t flags)
{
	struct fuse_fsync_in in = { .fh = fh, .fsync_flags = flags };

	return fc_exact(fc_call(c, FUSE_FSYNC, node, &in, sizeof(in), NULL, 0, NULL, 0), 0);
}

static inline int64_t fc_lseek(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t off,
			       uint32_t whence)
{
	struct fuse_lseek_in in = { .fh = fh, .offset = off, .whence = whence };
	struct fuse_lseek_out out = { 0 };
	int r = FC_CALL(c, FUSE_LSEEK, node, &in, NULL, 0, &out);

	return r < 0 ? r : (int64_t)out.offset;
}

static inline int fc_fallocate(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t off,
			       uint64_t len, uint32_t mode)
{
	struct fuse_fallocate_in in = { .fh = fh, .offset = off, .length = len, .mode = mode };

	return fc_exact(fc_call(c, FUSE_FALLOCATE, node, &in, sizeof(in), NULL, 0, NULL, 0), 0);
}

static inline int fc_copy_range(struct fuse_client *c, const struct fuse_copy_file_range_in *in,
				uint64_t node)
{
	struct fuse_write_out out = { 0 };
	int r = FC_CALL(c, FUSE_COPY_FILE_RANGE, node, in, NULL, 0, &out);

	return r < 0 ? r : (int)out.size;
}

/* --- Folders --- */

static inline int fc_readdir_as(struct fuse_client *c, uint32_t opcode, uint64_t node, uint64_t fh,
				uint64_t off, void *data, uint32_t size)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = size };

	return fc_call(c, opcode, node, &in, sizeof(in), NULL, 0, data, size);
}

/*
 * The entry at *@at of @len bytes of an answer to READDIR, or (@plus) READDIRPLUS; *@at moves
 * behind it. NULL: there are no more. Its form is checked.
 */
static inline const struct fuse_dirent *fc_dirent(const char *data, int len, int *at, bool plus,
						  const struct fuse_entry_out **e)
{
	int head = plus ? (int)sizeof(struct fuse_entry_out) : 0, size;
	const struct fuse_dirent *d;

	if (*at == len)
		return NULL;
	ck_assert_int_le(*at + head + (int)FUSE_NAME_OFFSET, len);
	d = (const struct fuse_dirent *)(data + *at + head);
	ck_assert_uint_gt(d->namelen, 0);
	ck_assert_uint_le(d->namelen, 255);
	size = (int)FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + d->namelen);
	ck_assert_int_le(*at + size, len);
	ck_assert_ptr_null(memchr(d->name, '/', d->namelen));
	ck_assert_ptr_null(memchr(d->name, '\0', d->namelen));
	if (e != NULL)
		*e = plus ? (const struct fuse_entry_out *)(data + *at) : NULL;
	*at += size;
	return d;
}

/* --- Extended attributes --- */

static inline int fc_setxattr(struct fuse_client *c, uint64_t node, const char *name,
			      const void *value, uint32_t size, uint32_t flags)
{
	struct fuse_setxattr_in in = { .size = size, .flags = flags };
	bool ext = (c->flags & FUSE_SETXATTR_EXT) != 0;
	uint32_t n = fc_strlen(name);
	char *data = malloc(n + size);
	int r;

	ck_assert_ptr_nonnull(data);
	memcpy(data, name, n);
	memcpy(data + n, value, size);
	r = fc_call(c, FUSE_SETXATTR, node, &in, ext ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE,
		    data, n + size, NULL, 0);
	free(data);
	return fc_exact(r, 0);
}

/* @size 0 asks how long it is. */
static inline int fc_getxattr(struct fuse_client *c, uint64_t node, const char *name, void *value,
			      uint32_t size)
{
	struct fuse_getxattr_in in = { .size = size };
	struct fuse_getxattr_out out = { 0 };
	int r;

	if (size == 0) {
		r = FC_CALL(c, FUSE_GETXATTR, node, &in, name, fc_strlen(name), &out);
		return r < 0 ? r : (int)out.size;
	}
	return fc_call(c, FUSE_GETXATTR, node, &in, sizeof(in), name, fc_strlen(name), value, size);
}

static inline int fc_listxattr(struct fuse_client *c, uint64_t node, char *list, uint32_t size)
{
	struct fuse_getxattr_in in = { .size = size };
	struct fuse_getxattr_out out = { 0 };
	int r;

	if (size == 0) {
		r = FC_CALL(c, FUSE_LISTXATTR, node, &in, NULL, 0, &out);
		return r < 0 ? r : (int)out.size;
	}
	return fc_call(c, FUSE_LISTXATTR, node, &in, sizeof(in), NULL, 0, list, size);
}

static inline int fc_removexattr(struct fuse_client *c, uint64_t node, const char *name)
{
	return fc_exact(fc_call(c, FUSE_REMOVEXATTR, node, NULL, 0, name, fc_strlen(name), NULL, 0),
			0);
}

#endif
