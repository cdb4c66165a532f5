// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: whose files are whose.
 *
 * ids=map: everything is done as the user who runs the monitor, whose own uid and gid show in the
 * guest as uid= and gid=. Other ids are as they are. What the guest creates belongs to that
 * user, whoever asked; chown is for the host to allow or not.
 *
 * ids=host: ids are the same on both sides; for a monitor that is root. Everything is done as
 * root (the guest's kernel has decided already), but what is created is created as the user the
 * request names, so that it belongs to him from its first moment. That is done by the raw system
 * calls, which change the one thread that serves this share. The host checks once more whether
 * he may; of his other groups the guest tells that of the folder (FUSE_CREATE_SUPP_GROUP).
 *
 * ids=xattr: owner, mode and device number as the guest set them are in the extended attribute
 * user.containers.override_stat, as "uid:gid:mode" and, for what is no regular file in the
 * guest but one on the host, ":char-MAJOR-MINOR", ":block-MAJOR-MINOR", ":pipe", ":socket". It is
 * the format of containers/storage and fuse-overlayfs. On the host the file belongs to the
 * caller, who can always read and write it; set-user-id bits never reach the host. A file without
 * the attribute shows as with ids=map. FIFOs, sockets and devices the guest makes are regular
 * files on the host, since user attributes exist on files and folders only; symbolic links
 * have none, so theirs is always the caller, and chown of one is accepted without effect.
 *
 * #syscalls share: setresuid setresgid setgroups umask fchmodat fchownat
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "devices/fs_impl.h"
#include "vmm/base/log.h"

#define NO_ID (~0u)

/* --- The attribute --- */

/* A number at *@p up to @end, followed by @stop or (0) the end. */
static bool number(const char **p, const char *end, unsigned base, char stop, uint32_t *value)
{
	uint64_t v = 0;
	const char *at = *p;

	for (; at < end && *at >= '0' && (unsigned)(*at - '0') < base; at++) {
		v = v * base + (unsigned)(*at - '0');
		if (v > UINT32_MAX)
			return false;
	}
	if (at == *p)
		return false;
	*value = (uint32_t)v;
	if (at == end) {
		*p = at;
		return stop == '\0' || stop == '?';
	}
	*p = at + 1;
	return *at == (stop == '?' ? ':' : stop);
}

static bool device(const char *p, const char *end, uint32_t mode, struct fs_override *o)
{
	o->mode = (o->mode & 07777) | mode;
	return number(&p, end, 10, '-', &o->major) && number(&p, end, 10, '\0', &o->minor);
}

bool fs_override_parse(const char *text, size_t len, uint32_t type, struct fs_override *o)
{
	const char *p = text, *end;
	size_t left;

	if (len > 0 && text[len - 1] == '\0')
		len--;
	end = text + len;
	*o = (struct fs_override){ 0 };
	if (!number(&p, end, 10, ':', &o->uid) || !number(&p, end, 10, ':', &o->gid) ||
	    !number(&p, end, 8, '?', &o->mode))
		return false;
	o->mode = (o->mode & 07777) | type;
	left = (size_t)(end - p);
	/* A type is believed only of what stands for another thing: a regular file. */
	if (left == 0 || type != S_IFREG)
		return true;
	if (left > 5 && memcmp(p, "char-", 5) == 0)
		return device(p + 5, end, S_IFCHR, o);
	if (left > 6 && memcmp(p, "block-", 6) == 0)
		return device(p + 6, end, S_IFBLK, o);
	if (left == 4 && memcmp(p, "pipe", 4) == 0)
		o->mode = (o->mode & 07777) | S_IFIFO;
	else if (left == 6 && memcmp(p, "socket", 6) == 0)
		o->mode = (o->mode & 07777) | S_IFSOCK;
	return true;
}

void fs_override_format(const struct fs_override *o, char text[96])
{
	char type[40] = "";

	switch (o->mode & S_IFMT) {
	case S_IFCHR:
		snprintf(type, sizeof(type), ":char-%u-%u", o->major, o->minor);
		break;
	case S_IFBLK:
		snprintf(type, sizeof(type), ":block-%u-%u", o->major, o->minor);
		break;
	case S_IFIFO:
		snprintf(type, sizeof(type), ":pipe");
		break;
	case S_IFSOCK:
		snprintf(type, sizeof(type), ":socket");
		break;
	}
	snprintf(text, 96, "%u:%u:0%o%s", o->uid, o->gid, o->mode & 07777, type);
}

static bool can_override(uint32_t type)
{
	return type == S_IFREG || type == S_IFDIR;
}

static bool get_override(struct fs *fs, int fd, uint32_t type, struct fs_override *o)
{
	char text[96];
	ssize_t n;

	if (!can_override(type))
		return false;
	n = fs_xattr_get(fs, fd, FS_XATTR_OVERRIDE, text, sizeof(text));
	return n > 0 && fs_override_parse(text, (size_t)n, type, o);
}

static int set_override(struct fs *fs, int fd, const struct fs_override *o)
{
	char text[96];

	fs_override_format(o, text);
	return fs_xattr_set(fs, fd, FS_XATTR_OVERRIDE, text, strlen(text), 0);
}

/* --- To the guest and from it --- */

void fs_ids_show(struct fs *fs, int fd, struct statx *stx)
{
	struct fs_override o;

	if (fs->ids == FS_IDS_HOST)
		return;
	if (fs->ids == FS_IDS_XATTR && get_override(fs, fd, stx->stx_mode & S_IFMT, &o)) {
		stx->stx_uid = o.uid;
		stx->stx_gid = o.gid;
		stx->stx_mode = (uint16_t)o.mode;
		stx->stx_rdev_major = o.major;
		stx->stx_rdev_minor = o.minor;
		return;
	}
	if (stx->stx_uid == fs->euid)
		stx->stx_uid = fs->uid;
	if (stx->stx_gid == fs->egid)
		stx->stx_gid = fs->gid;
}

uint32_t fs_ids_uid(const struct fs *fs, uint32_t uid)
{
	return fs->ids == FS_IDS_MAP && uid == fs->uid ? fs->euid : uid;
}

uint32_t fs_ids_gid(const struct fs *fs, uint32_t gid)
{
	return fs->ids == FS_IDS_MAP && gid == fs->gid ? fs->egid : gid;
}

/* --- Creating --- */

static int set_gid(gid_t gid)
{
	return syscall(SYS_setresgid, -1, gid, -1) < 0 ? -errno : 0;
}

static int set_uid(uid_t uid)
{
	return syscall(SYS_setresuid, -1, uid, -1) < 0 ? -errno : 0;
}

/* Supplementary groups of this thread: @n of them. */
static int set_groups(unsigned n, const gid_t *group)
{
	return syscall(SYS_setgroups, n, group) < 0 ? -errno : 0;
}

int fs_ids_setup(struct fs *fs)
{
	/* Root's own would be those of whom it acts for. */
	return fs->ids == FS_IDS_HOST ? set_groups(0, NULL) : 0;
}

int fs_ids_begin(struct fs *fs, const struct fs_req *req, uint32_t umask_)
{
	int r;

	if (!fs_has(fs, FUSE_DONT_MASK))
		umask_ = 0;
	if (fs->own_fs && fs->umask != (umask_ & 0777)) {
		fs->umask = umask_ & 0777;
		umask(fs->umask);
	}
	if (fs->ids != FS_IDS_HOST ||
	    (req->in.uid == fs->euid && req->in.gid == fs->egid && !req->has_group))
		return 0;
	if (req->in.uid == NO_ID || req->in.gid == NO_ID)
		return -EINVAL; /* the calls would take it for "as it is" */
	fs->acting = true;
	r = req->has_group ? set_groups(1, &req->group) : 0;
	if (r == 0 && req->in.gid != fs->egid)
		r = set_gid(req->in.gid);
	if (r == 0 && req->in.uid != fs->euid)
		r = set_uid(req->in.uid);
	if (r < 0)
		fs_ids_end(fs);
	return r;
}

void fs_ids_end(struct fs *fs)
{
	int keep = errno;

	if (fs->acting &&
	    (set_uid(fs->euid) < 0 || set_gid(fs->egid) < 0 || set_groups(0, NULL) < 0))
		log_limited(LOG_ERROR, "%s: cannot become root again: %m", fs->name);
	fs->acting = false;
	errno = keep;
}

mode_t fs_ids_mode(const struct fs *fs, uint32_t mode)
{
	if (fs->ids != FS_IDS_XATTR || (mode & S_IFMT) == S_IFLNK)
		return mode & 07777;
	return (mode & 0777) | ((mode & S_IFMT) == S_IFDIR ? 0700 : 0600);
}

int fs_ids_made(struct fs *fs, const struct fs_req *req, const struct fs_node *parent, int fd,
		uint32_t type, uint32_t mode, uint32_t major, uint32_t minor)
{
	struct fs_override o = {
		.uid = req->in.uid, .gid = req->in.gid, .mode = mode, .major = major, .minor = minor
	};
	struct fs_override dir;

	if (fs->ids != FS_IDS_XATTR || !can_override(type))
		return 0;
	/* As in any folder with the set-group-id bit. */
	if (parent != NULL && get_override(fs, parent->fd, S_IFDIR, &dir) &&
	    (dir.mode & S_ISGID) != 0) {
		o.gid = dir.gid;
		if (type == S_IFDIR)
			o.mode |= S_ISGID;
	}
	return set_override(fs, fd, &o);
}

/* --- Changing --- */

static int change_mode(const struct fs *fs, int fd, mode_t mode)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", fd);
	return fchmodat(fs->proc, name, mode, 0) < 0 ? -errno : 0;
}

static int change_override(struct fs *fs, int fd, uint32_t type, uint32_t mode, uint32_t uid,
			   uint32_t gid)
{
	struct fs_override o;
	struct statx stx;
	int r;

	if (!can_override(type))
		return mode == NO_ID ? 0 : -EOPNOTSUPP;
	r = fs_stat_fd(fs, fd, &stx); /* as the guest sees it */
	if (r < 0)
		return r;
	o = (struct fs_override){ .uid = uid != NO_ID ? uid : stx.stx_uid,
				  .gid = gid != NO_ID ? gid : stx.stx_gid,
				  .mode = stx.stx_mode,
				  .major = stx.stx_rdev_major,
				  .minor = stx.stx_rdev_minor };
	/* As chown(2) does of a file that can be run. */
	if ((uid != NO_ID || gid != NO_ID) && type == S_IFREG) {
		if ((o.mode & S_IXGRP) != 0)
			o.mode &= ~(uint32_t)S_ISGID;
		o.mode &= ~(uint32_t)S_ISUID;
	}
	if (mode != NO_ID) {
		o.mode = (o.mode & S_IFMT) | (mode & 07777);
		r = change_mode(fs, fd, fs_ids_mode(fs, type | (mode & 07777)));
	}
	return r < 0 ? r : set_override(fs, fd, &o);
}

int fs_ids_change(struct fs *fs, int fd, uint32_t type, uint32_t mode, uint32_t uid, uint32_t gid)
{
	if (fs->ids == FS_IDS_XATTR)
		return change_override(fs, fd, type, mode, uid, gid);
	if ((uid != NO_ID || gid != NO_ID) &&
	    fchownat(fd, "", uid != NO_ID ? fs_ids_uid(fs, uid) : NO_ID,
		     gid != NO_ID ? fs_ids_gid(fs, gid) : NO_ID, AT_EMPTY_PATH) < 0)
		return -errno;
	return mode != NO_ID ? change_mode(fs, fd, mode & 07777) : 0;
}
