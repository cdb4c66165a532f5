// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: extended attributes. xattr(7).
 *
 * Which ones: user.*, security.capability, and POSIX ACLs where they can be right (fs->acl: the
 * guest's ids are the host's). trusted.* and the rest of security.* would tell the guest what
 * this host's own file systems and modules think of the file, and are theirs; with ids=host the
 * guest's root is as good as ours, and everything passes. Others: EOPNOTSUPP. The attribute that
 * ids=xattr keeps its owners in does not exist for the guest.
 *
 * The calls take a path or a descriptor that is open for real, and we have an O_PATH one: the
 * path is its number, in the thread's working folder (fs_setup()).
 *
 * #syscalls share: getxattr setxattr listxattr removexattr
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/xattr.h>
#include "devices/fs_impl.h"

_Static_assert(XATTR_SIZE_MAX <= FS_OUT_MAX && XATTR_LIST_MAX <= FS_OUT_MAX, "buffers");
_Static_assert(XATTR_SIZE_MAX + XATTR_NAME_MAX + sizeof(struct fuse_setxattr_in) < FS_IN_MAX,
	       "buffers");

static bool is_acl(const char *name)
{
	return strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0 ||
	       strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT) == 0;
}

static bool is_hidden(const struct fs *fs, const char *name)
{
	return fs->ids == FS_IDS_XATTR && strcmp(name, FS_XATTR_OVERRIDE) == 0;
}

static bool allowed(const struct fs *fs, const char *name)
{
	if (is_hidden(fs, name))
		return false;
	if (is_acl(name))
		return fs->acl;
	if (fs->ids == FS_IDS_HOST)
		return true;
	return strncmp(name, XATTR_USER_PREFIX, XATTR_USER_PREFIX_LEN) == 0 ||
	       strcmp(name, XATTR_NAME_CAPS) == 0;
}

ssize_t fs_xattr_get(struct fs *fs, int fd, const char *name, void *buf, size_t size)
{
	char path[32];
	ssize_t n;

	n = getxattr(fs_fd_path(fs, fd, path), name, buf, size);
	return n < 0 ? -errno : n;
}

int fs_xattr_set(struct fs *fs, int fd, const char *name, const void *value, size_t size, int flags)
{
	char path[32];

	return setxattr(fs_fd_path(fs, fd, path), name, value, size, flags) < 0 ? -errno : 0;
}

/* The name at @args + @skip, NUL-terminated within the request; *len with the NUL. Or NULL. */
static const char *xattr_name(const struct fs_req *req, size_t skip, size_t *len)
{
	const char *name = (const char *)req->args + skip;

	*len = strnlen(name, req->nargs - skip) + 1;
	return *len > req->nargs - skip || *len == 1 ? NULL : name;
}

/* 0 or the error for a @name that is bad or not for the guest, or for a @node without any. */
static int check(const struct fs *fs, const struct fs_node *node, const char *name)
{
	if (name == NULL)
		return -EINVAL;
	if (strlen(name) > XATTR_NAME_MAX)
		return -ERANGE;
	return node->fd >= 0 && allowed(fs, name) ? 0 : -EOPNOTSUPP;
}

int fs_op_setxattr(struct fs *fs, struct fs_req *req)
{
	size_t head = fs_has(fs, FUSE_SETXATTR_EXT) ? sizeof(struct fuse_setxattr_in)
						    : FUSE_COMPAT_SETXATTR_IN_SIZE;
	struct fuse_setxattr_in in = { 0 };
	struct fs_node *node = req->node;
	const char *name;
	size_t len;
	int r;

	if (req->nargs < head)
		return -EINVAL;
	memcpy(&in, req->args, head);
	name = xattr_name(req, head, &len);
	r = check(fs, node, name);
	if (r < 0)
		return is_hidden(fs, name != NULL ? name : "") ? -EPERM : r;
	if (in.size != req->nargs - head - len || in.size > XATTR_SIZE_MAX)
		return in.size > XATTR_SIZE_MAX ? -E2BIG : -EINVAL;
	if ((in.flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)) != 0)
		return -EINVAL;
	r = fs_xattr_set(fs, node->fd, name, name + len, in.size, (int)in.flags);
	if (r == 0 && (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0 &&
	    strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS) == 0) {
		struct statx stx;

		r = fs_stat(fs, node, &stx);
		if (r == 0 && (stx.stx_mode & S_ISGID) != 0)
			r = fs_ids_change(fs, node->fd, node->type, stx.stx_mode & 05777, ~0u, ~0u);
	}
	return r;
}

/* The answer: @n bytes in fs->out, of which the guest wants at most @size, or (0) the number. */
static int give(struct fs *fs, const struct fs_req *req, uint32_t size, size_t n)
{
	struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)fs->out;
	size_t room = req->chain.writable.left - sizeof(struct fuse_out_header);

	if (size == 0) {
		if (room < sizeof(*out))
			return -EINVAL;
		*out = (struct fuse_getxattr_out){ .size = (uint32_t)n };
		return sizeof(*out);
	}
	if (n > size || n > room)
		return -ERANGE;
	return (int)n;
}

int fs_op_getxattr(struct fs *fs, struct fs_req *req)
{
	struct fuse_getxattr_in in;
	const char *name;
	size_t len;
	ssize_t n;
	int r;

	memcpy(&in, req->args, sizeof(in));
	name = xattr_name(req, sizeof(in), &len);
	r = check(fs, req->node, name);
	if (r < 0)
		return r;
	if (len != req->nargs - sizeof(in))
		return -EINVAL;
	n = fs_xattr_get(fs, req->node->fd, name, fs->out, XATTR_SIZE_MAX);
	return n < 0 ? (int)n : give(fs, req, in.size, (size_t)n);
}

int fs_op_listxattr(struct fs *fs, struct fs_req *req)
{
	char path[32], *buf = (char *)fs->buf, *out = (char *)fs->out;
	struct fuse_getxattr_in in;
	size_t used = 0;
	ssize_t n;

	memcpy(&in, req->args, sizeof(in));
	if (req->node->fd < 0)
		return give(fs, req, in.size, 0);
	n = listxattr(fs_fd_path(fs, req->node->fd, path), buf, XATTR_LIST_MAX);
	if (n < 0)
		return -errno;
	for (ssize_t at = 0; at < n;) {
		size_t len = strnlen(buf + at, (size_t)(n - at)) + 1;

		if (len > (size_t)(n - at))
			break; /* not from Linux */
		if (allowed(fs, buf + at)) {
			memcpy(out + used, buf + at, len);
			used += len;
		}
		at += (ssize_t)len;
	}
	return give(fs, req, in.size, used);
}

int fs_op_removexattr(struct fs *fs, struct fs_req *req)
{
	char path[32];
	size_t len;
	const char *name = xattr_name(req, 0, &len);
	int r = check(fs, req->node, name);

	if (r < 0)
		return is_hidden(fs, name != NULL ? name : "") ? -EPERM : r;
	if (len != req->nargs)
		return -EINVAL;
	return removexattr(fs_fd_path(fs, req->node->fd, path), name) < 0 ? -errno : 0;
}
