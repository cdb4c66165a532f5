// SPDX-License-Identifier: Apache-2.0
/* The groups of guest-posix.c about attributes: modes, owners, who may do what, times, extended
 * attributes, the file system itself. */
#include "guest-posix.h"

void chmod_group(void)
{
	struct stat st;
	int fd;

	E(0, make("f", "1"));
	for (mode_t mode = 0; mode <= 07777; mode += 0111) {
		E(0, chmod("f", mode));
		OK(st_of("f").st_mode == (S_IFREG | mode));
	}
	E(0, mkdir("d", 0755));
	E(0, chmod("d", 01777));
	OK(st_of("d").st_mode == (S_IFDIR | 01777));
	E(0, chmod("d", 02755));
	OK(st_of("d").st_mode == (S_IFDIR | 02755));
	E(ENOENT, chmod("none", 0644));
	E(ENOTDIR, chmod("f/x", 0644));
	E(ENAMETOOLONG, chmod(name(256), 0644));
	fd = open("f", O_RDONLY);
	E(0, fchmod(fd, 0604));
	OK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0604);
	close(fd);
	/* Through a link. */
	E(0, symlink("f", "l"));
	E(0, chmod("l", 0640));
	OK((st_of("f").st_mode & 07777) == 0640);
	/* ctime moves, mtime does not. */
	st = st_of("f");
	tick();
	E(0, chmod("f", 0600));
	OK(later(st_of("f").st_ctim, st.st_ctim));
	OK(!later(st_of("f").st_mtim, st.st_mtim));
	E(0, chown("f", 0, 0));
	as(USER);
	E(EPERM, chmod("f", 0777));
	self();
	E(0, mkfifo("p", 0600));
	E(0, chmod("p", 0644));
	OK((st_of("p").st_mode & 07777) == 0644);
}

void chown_group(void)
{
	if (!owner)
		return;
	E(0, make("f", "1"));
	E(0, chown("f", 1000, 2000));
	OK(st_of("f").st_uid == 1000 && st_of("f").st_gid == 2000);
	E(0, chown("f", (uid_t)-1, 77));
	OK(st_of("f").st_uid == 1000 && st_of("f").st_gid == 77);
	E(0, chown("f", 78, (gid_t)-1));
	OK(st_of("f").st_uid == 78 && st_of("f").st_gid == 77);
	E(0, symlink("f", "l"));
	E(0, lchown("l", 5, 6));
	OK(!link_owner || st_of("l").st_uid == 5);
	OK(st_of("f").st_uid == 78);
	E(0, chown("l", 9, 9));
	OK(st_of("f").st_uid == 9);
	/* Set-user-ID goes when another does it, or root. */
	E(0, chmod("f", 06755));
	E(0, chown("f", USER, USER));
	OK((st_of("f").st_mode & 06000) == 0);
	E(0, chmod("f", 06755));
	as(USER);
	E(0, chown("f", (uid_t)-1, USER));
	self();
	OK((st_of("f").st_mode & 06000) == 0);
	as(USER);
	E(EPERM, chown("f", OTHER, (gid_t)-1));
	E(EPERM, chown("f", (uid_t)-1, OTHER));
	E(0, chmod("f", 0600));
	self();
	as(OTHER);
	E(EPERM, chown("f", OTHER, OTHER));
	E(EACCES, open("f", O_RDONLY));
	self();
	E(ENOENT, chown("none", 0, 0));
	E(0, mkdir("d", 0755));
	E(0, chown("d", 12, 13));
	OK(st_of("d").st_uid == 12 && st_of("d").st_gid == 13);
}

void access_group(void)
{
	E(0, mkdir("d", 0700));
	E(0, make("d/f", "1"));
	E(0, mkdir("open", 0777));
	E(0, chmod("open", 0777));
	E(0, make("r", "1"));
	E(0, chmod("r", 0644));
	E(0, make("w", "1"));
	E(0, chmod("w", 0602));
	E(0, make("x", "1"));
	E(0, chmod("x", 0711));
	E(0, mkdir("sticky", 0777));
	E(0, chmod("sticky", 01777));
	E(0, make("sticky/f", "1"));
	as(USER);
	E(EACCES, open("d/f", O_RDONLY));
	E(EACCES, faccessat(AT_FDCWD, "d/f", F_OK, AT_EACCESS));
	E(EACCES, opendir("d") == NULL ? -1 : 0);
	E(EACCES, unlink("d/f"));
	E(EACCES, mkdir("d/x", 0755));
	E(EACCES, make("new", "1"));
	E(EACCES, mkdir("new", 0755));
	E(EACCES, symlink("x", "new"));
	E(EACCES, mkfifo("new", 0644));
	E(EACCES, unlink("r"));
	E(EACCES, rename("r", "r2"));
	E(EACCES, rename("r", "open/r"));
	E(0, close(open("r", O_RDONLY)));
	E(EACCES, open("r", O_WRONLY));
	E(EACCES, open("r", O_RDWR));
	E(EACCES, truncate("r", 0));
	E(0, close(open("w", O_WRONLY)));
	E(EACCES, open("w", O_RDONLY));
	E(0, truncate("w", 5));
	E(EACCES, open("x", O_RDONLY));
	E(0, make("open/f", "1"));
	E(0, unlink("open/f"));
	E(0, make("open/g", "1"));
	E(EPERM, unlink("sticky/f"));
	E(EPERM, rename("sticky/f", "open/f"));
	E(0, make("sticky/mine", "1"));
	E(EPERM, mknod("open/dev", S_IFCHR | 0666, makedev(1, 3)));
	E(0, mknod("open/p", S_IFIFO | 0666, 0));
	self();
	if (owner) {
		OK(st_of("open/g").st_uid == USER && st_of("open/g").st_gid == USER);
		OK(st_of("open/p").st_uid == USER);
		as(OTHER);
		E(EPERM, unlink("sticky/mine"));
		E(EPERM, chmod("open/g", 0777));
		self();
		as(USER);
		E(0, chmod("open/g", 0400));
		E(EACCES, open("open/g", O_WRONLY));
		E(0, unlink("sticky/mine"));
		self();
		/* Made in a folder of a group, which is passed on. */
		E(0, mkdir("grp", 0777));
		E(0, chown("grp", 0, 4321));
		E(0, chmod("grp", 02777));
		as(USER);
		E(0, make("grp/f", "1"));
		E(0, mkdir("grp/d", 0755));
		self();
		OK(st_of("grp/f").st_gid == 4321);
		OK(st_of("grp/d").st_gid == 4321 && (st_of("grp/d").st_mode & S_ISGID) != 0);
	}
}

void times_group(void)
{
	struct timespec ts[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
	struct stat st, before;
	int fd;

	E(0, make("f", "1"));
	E(0, utimensat(AT_FDCWD, "f", ts, 0));
	st = st_of("f");
	OK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 1100000000);
	OK(st.st_atim.tv_nsec == 123456789 && st.st_mtim.tv_nsec == 987654321);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_sec = 7;
	ts[1].tv_nsec = 0;
	E(0, utimensat(AT_FDCWD, "f", ts, 0));
	st = st_of("f");
	OK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 7);
	ts[0].tv_nsec = UTIME_NOW;
	ts[1].tv_nsec = UTIME_OMIT;
	E(0, utimensat(AT_FDCWD, "f", ts, 0));
	st = st_of("f");
	OK(st.st_atim.tv_sec > 1600000000 && st.st_mtim.tv_sec == 7);
	E(0, utimensat(AT_FDCWD, "f", NULL, 0));
	OK(st_of("f").st_mtim.tv_sec > 1600000000);
	E(0, symlink("f", "l"));
	ts[0] = ts[1] = (struct timespec){ 99, 0 };
	E(0, utimensat(AT_FDCWD, "l", ts, AT_SYMLINK_NOFOLLOW));
	OK(st_of("l").st_mtim.tv_sec == 99 && st_of("f").st_mtim.tv_sec != 99);
	fd = open("f", O_RDONLY);
	E(0, futimens(fd, ts));
	OK(st_of("f").st_mtim.tv_sec == 99);
	close(fd);
	as(OTHER);
	E(EPERM, utimensat(AT_FDCWD, "f", ts, 0));
	E(EACCES, utimensat(AT_FDCWD, "f", NULL, 0));
	self();
	/* Written: mtime. Listed and looked at: not. */
	before = st_of("f");
	tick();
	E(0, close(open("f", O_WRONLY)));
	OK(!later(st_of("f").st_mtim, before.st_mtim));
	fd = open("f", O_WRONLY);
	E(0, write(fd, "x", 1) == 1 ? 0 : -1);
	E(0, fsync(fd));
	OK(later(st_of("f").st_mtim, before.st_mtim));
	close(fd);
	OK(later(st_of("f").st_mtim, before.st_mtim));
	E(EINVAL, utimensat(AT_FDCWD, "f", (struct timespec[]){ { 0, 1000000000 }, { 0, 0 } }, 0));
}

void xattr_group(void)
{
	char value[300] = "", list[300];
	ssize_t n;

	E(0, make("f", "1"));
	if (setxattr("f", "user.a", "value", 5, 0) < 0 && errno == EOPNOTSUPP) {
		printf("posix: xattr: not supported here\n");
		return;
	}
	E(0, setxattr("f", "user.a", "value", 5, XATTR_REPLACE));
	E(EEXIST, setxattr("f", "user.a", "value", 5, XATTR_CREATE));
	E(ENODATA, setxattr("f", "user.b", "x", 1, XATTR_REPLACE));
	OK(getxattr("f", "user.a", NULL, 0) == 5);
	OK(getxattr("f", "user.a", value, 300) == 5 && memcmp(value, "value", 5) == 0);
	E(ERANGE, getxattr("f", "user.a", value, 3));
	E(ENODATA, getxattr("f", "user.none", value, 3));
	n = listxattr("f", list, sizeof(list));
	OK(n > 0 && memmem(list, (size_t)n, "user.a", 7) != NULL);
	OK(listxattr("f", NULL, 0) == n);
	E(0, removexattr("f", "user.a"));
	E(ENODATA, removexattr("f", "user.a"));
	E(0, symlink("f", "l"));
	E(EPERM, lsetxattr("l", "user.a", "1", 1, 0));
}

void statvfs_group(void)
{
	struct statvfs fs;
	int fd;

	E(0, statvfs(".", &fs));
	OK(fs.f_namemax == 255);
	OK(fs.f_bsize > 0 && fs.f_blocks > 0 && fs.f_bfree <= fs.f_blocks);
	fd = open(".", O_RDONLY);
	E(0, fsync(fd));
	E(0, syncfs(fd));
	E(0, fstatvfs(fd, &fs));
	close(fd);
}
