// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: what is in a folder. getdents64(2).
 *
 * A position in a folder is the number the host's file system gives with each entry, so it
 * means the same however often it is used, and whatever is made or removed meanwhile. The host's
 * descriptor is moved only when the guest goes on elsewhere than where it stands. Of
 * entries are read about as many as the guest has room for, as what is too much is read again.
 *
 * READDIRPLUS looks every entry up, and counts it as looked up, only when it is sure to fit. An
 * entry that cannot be looked up (just removed; not for us) is given without node, and the guest
 * looks it up itself if it cares.
 *
 * #syscalls share: getdents64 lseek close
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "devices/fs_impl.h"

/* What getdents64() gives. */
struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

#define CHUNK_MIN 1024 /* the longest entry has 280 bytes */

/* An answer in the making, in fs->out. */
struct answer {
	struct fs *fs;
	const struct fs_node *dir;
	bool plus;
	size_t room, used;
};

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Attributes and node of @name, as far as they can be had. */
static void look_up(struct answer *a, const char *name, struct fuse_direntplus *d)
{
	struct fs_node *node;
	struct statx stx;

	d->entry_out = (struct fuse_entry_out){ 0 };
	if (!is_dots(name) && fs_lookup(a->fs, a->dir, name, &node, &stx) == 0) {
		fs_entry(a->fs, a->dir, node, &stx, &d->entry_out);
		d->dirent.type = (stx.stx_mode & S_IFMT) >> 12;
	} else {
		d->entry_out.attr.ino = d->dirent.ino;
		d->entry_out.attr.mode = d->dirent.type << 12;
	}
}

/* Add an entry; false: it does not fit. */
static bool add(struct answer *a, const char *name, uint64_t ino, int64_t off, uint8_t type)
{
	size_t len = strlen(name), head = a->plus ? offsetof(struct fuse_direntplus, dirent) : 0;
	size_t size = FUSE_REC_ALIGN(head + FUSE_NAME_OFFSET + len);
	struct fuse_dirent *d = (struct fuse_dirent *)(a->fs->out + a->used + head);

	if (size > a->room - a->used)
		return false;
	memset(a->fs->out + a->used + size - 8, 0, 8); /* padding */
	/* What a device is in the guest is known only when it is looked up. */
	if (a->fs->ids == FS_IDS_XATTR && type == DT_REG)
		type = DT_UNKNOWN;
	*d = (struct fuse_dirent){
		.ino = ino, .off = (uint64_t)off, .namelen = (uint32_t)len, .type = type
	};
	memcpy(d->name, name, len);
	if (a->plus)
		look_up(a, name, (struct fuse_direntplus *)(a->fs->out + a->used));
	a->used += size;
	return true;
}

/* A placeholder has the two entries every folder has, and the one file that is shared. */
static void read_synth(struct answer *a, uint64_t from)
{
	uint64_t ino = a->dir->key.ino;
	bool has_file = a->fs->file >= 0 && a->dir == fs_nodes_root(&a->fs->nodes);

	if (from < 1 && !add(a, ".", ino, 1, DT_DIR))
		return;
	if (from < 2 && !add(a, "..", ino, 2, DT_DIR))
		return;
	if (from < 3 && has_file)
		add(a, a->fs->file_name, ino, 3, DT_REG);
}

/* 0 or -errno, when not even one entry could be had. */
static int read_host(struct answer *a, struct fs_handle *h, int64_t off)
{
	const char *buf = (const char *)a->fs->buf;
	size_t chunk;
	long n;

	for (;;) {
		bool full = false;

		if (h->pos != off && lseek(h->fd, off, SEEK_SET) < 0)
			return a->used > 0 ? 0 : -errno;
		h->pos = off;
		/* An entry of theirs is at most as long as one of ours: a fifth of one of PLUS. */
		chunk = (a->room - a->used) / (a->plus ? 4 : 1);
		if (chunk < CHUNK_MIN)
			chunk = CHUNK_MIN;
		n = syscall(SYS_getdents64, h->fd, buf, chunk);
		if (n < 0 && errno == ENOENT)
			n = 0; /* removed while it is open */
		if (n < 0)
			return a->used > 0 ? 0 : -errno;
		if (n == 0)
			return 0;
		for (long at = 0; at < n;) {
			const struct entry *e = (const struct entry *)(buf + at);
			uint64_t ino = e->ino;

			/* What is above is none of the guest's business. */
			if (a->dir == fs_nodes_root(&a->fs->nodes) && is_dots(e->name))
				ino = a->dir->key.ino;
			full = full || !add(a, e->name, ino, e->off, e->type);
			if (!full)
				off = e->off;
			h->pos = e->off;
			at += e->reclen;
		}
		if (full)
			return a->used > 0 ? 0 : -EINVAL;
	}
}

static int read_dir(struct fs *fs, struct fs_req *req, bool plus)
{
	struct answer a = { .fs = fs, .dir = req->node, .plus = plus };
	struct fuse_read_in in;
	struct fs_handle *h;
	int r = 0;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, true);
	if (h == NULL)
		return -EBADF;
	if (in.offset > INT64_MAX)
		return -EINVAL;
	a.room = req->chain.writable.left - sizeof(struct fuse_out_header);
	if (a.room > in.size)
		a.room = in.size;
	if (a.room > FS_OUT_MAX)
		a.room = FS_OUT_MAX;
	if (h->fd < 0)
		read_synth(&a, in.offset);
	else
		r = read_host(&a, h, (int64_t)in.offset);
	return r < 0 ? r : (int)a.used;
}

int fs_op_readdir(struct fs *fs, struct fs_req *req)
{
	return read_dir(fs, req, false);
}

int fs_op_readdirplus(struct fs *fs, struct fs_req *req)
{
	return read_dir(fs, req, true);
}

int fs_op_opendir(struct fs *fs, struct fs_req *req)
{
	struct fuse_open_out *out = (struct fuse_open_out *)fs->out;
	struct fs_handle *h;
	int fd = -1;

	if (req->node->type != S_IFDIR)
		return -ENOTDIR;
	if (req->node->fd >= 0) {
		fd = fs_open_dir(fs, req->node);
		if (fd < 0)
			return fd;
	}
	h = fs_handle_add(&fs->handles, req->in.nodeid, fd, true);
	if (h == NULL) {
		if (fd >= 0)
			close(fd);
		return -ENFILE;
	}
	*out = (struct fuse_open_out){ .fh = fs_handle_id(&fs->handles, h) };
	if (fs->cache == FS_CACHE_ALWAYS)
		out->open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
	return sizeof(*out);
}

int fs_op_releasedir(struct fs *fs, struct fs_req *req)
{
	struct fuse_release_in in;
	struct fs_handle *h;

	memcpy(&in, req->args, sizeof(in));
	h = fs_handle_get(&fs->handles, in.fh, req->in.nodeid, true);
	if (h == NULL)
		return -EBADF;
	fs_handle_close(&fs->handles, h);
	return 0;
}
