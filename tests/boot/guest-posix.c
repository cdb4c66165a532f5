// SPDX-License-Identifier: Apache-2.0
/*
 * What POSIX and Linux say of files and folders, checked in an empty folder by root.
 *
 *	posix FOLDER [noowner|nolinkowner]
 *
 * Says "posix: GROUP: N checks" for each group, a line for each check that failed, and
 * "posix: N checks, M failed" at the end. "noowner": what a user makes need not belong to him, and
 * what depends on that is left out (ids=map).
 *
 * Calibrated on tmpfs and ext4: where these differ either is right. Checks of who may do what run
 * as the users 65533 and 65534.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define USER  65534
#define OTHER 65533
#define FILES 400 /* in a large folder */

static unsigned checks, failed, group_checks;
static const char *group;
static bool owner = true, link_owner = true;

static void group_end(void)
{
	if (group != NULL)
		printf("posix: %s: %u checks\n", group, group_checks);
	group_checks = 0;
}

/* A check: @cond, or what it was about. */
#define OK(cond)                                                                                   \
	do {                                                                                       \
		checks++, group_checks++;                                                          \
		if (!(cond)) {                                                                     \
			printf("posix: %s, line %d: not so: %s (errno %s)\n", group, __LINE__,     \
			       #cond, strerror(errno));                                            \
			failed++;                                                                  \
		}                                                                                  \
	} while (0)

/* A check: the call fails with @error, or (0) does not fail. */
#define E(error, call)                                                                             \
	do {                                                                                       \
		long r_;                                                                           \
		int e_;                                                                            \
		errno = 0;                                                                         \
		r_ = (long)(call);                                                                 \
		e_ = r_ < 0 ? errno : 0;                                                           \
		checks++, group_checks++;                                                          \
		if (e_ != (error)) {                                                               \
			printf("posix: %s, line %d: %s: %s, not %s\n", group, __LINE__, #call,     \
			       strerror(e_), strerror(error));                                     \
			failed++;                                                                  \
		}                                                                                  \
	} while (0)

static struct stat st_of(const char *path)
{
	static const struct stat none;
	struct stat st;

	return lstat(path, &st) == 0 ? st : none;
}

static int make(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return -1;
	return close(fd);
}

static bool reads(const char *path, const char *text)
{
	char data[256] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data) - 1);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) && strcmp(data, text) == 0;
}

static bool gone(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 && errno == ENOENT;
}

/* From here to self(): as user @id, with no other groups. */
static void as(unsigned id)
{
	if (setegid(id) < 0 || seteuid(id) < 0)
		printf("posix: cannot become user %u\n", id);
}

static void self(void)
{
	if (seteuid(0) < 0 || setegid(0) < 0)
		printf("posix: cannot become root again\n");
}

static const char *name(unsigned n)
{
	static char text[300];

	memset(text, 'n', sizeof(text));
	text[n] = '\0';
	return text;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

/* A clock tick, so that a change is later than what was before. */
static void tick(void)
{
	usleep(15000);
}

/* --- Groups --- */

static void chmod_group(void)
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

static void chown_group(void)
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

static void access_group(void)
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

static void link_group(void)
{
	struct stat st;

	E(0, make("f", "text"));
	E(0, link("f", "g"));
	OK(st_of("f").st_ino == st_of("g").st_ino && st_of("f").st_nlink == 2);
	OK(reads("g", "text"));
	E(EEXIST, link("f", "g"));
	E(ENOENT, link("none", "h"));
	E(ENOENT, link("f", "none/h"));
	E(ENOTDIR, link("f", "g/h"));
	E(ENAMETOOLONG, link("f", name(256)));
	E(0, mkdir("d", 0755));
	E(EPERM, link("d", "e"));
	E(0, link("f", "d/h"));
	OK(st_of("f").st_nlink == 3);
	st = st_of("f");
	tick();
	E(0, unlink("g"));
	OK(st_of("f").st_nlink == 2 && later(st_of("f").st_ctim, st.st_ctim));
	E(0, unlink("f"));
	OK(reads("d/h", "text") && st_of("d/h").st_nlink == 1);
	E(0, symlink("d/h", "s"));
	E(0, link("s", "s2"));
	OK(S_ISLNK(st_of("s2").st_mode) && st_of("s").st_nlink == 2);
	E(0, mkfifo("p", 0600));
	E(0, link("p", "p2"));
	OK(st_of("p").st_ino == st_of("p2").st_ino);
	/* Many. */
	for (unsigned i = 0; i < 100; i++) {
		char to[32];

		snprintf(to, sizeof(to), "d/many%u", i);
		E(0, link("d/h", to));
	}
	OK(st_of("d/h").st_nlink == 101);
}

static void mkdir_group(void)
{
	struct stat before;

	E(0, mkdir("d", 0755));
	OK(S_ISDIR(st_of("d").st_mode));
	E(EEXIST, mkdir("d", 0755));
	E(ENOENT, mkdir("none/d", 0755));
	E(0, make("f", "1"));
	E(EEXIST, mkdir("f", 0755));
	E(ENOTDIR, mkdir("f/d", 0755));
	E(ENAMETOOLONG, mkdir(name(256), 0755));
	E(0, mkdir(name(255), 0755));
	E(0, rmdir(name(255)));
	E(0, symlink("nowhere", "l"));
	E(EEXIST, mkdir("l", 0755));
	umask(077);
	E(0, mkdir("masked", 0777));
	OK((st_of("masked").st_mode & 07777) == 0700);
	umask(0);
	E(0, mkdir("all", 0777));
	OK((st_of("all").st_mode & 07777) == 0777);
	umask(022);
	before = st_of("d");
	tick();
	E(0, mkdir("d/e", 0755));
	OK(later(st_of("d").st_mtim, before.st_mtim) && later(st_of("d").st_ctim, before.st_ctim));
	E(EEXIST, mkdir(".", 0755));
	E(EEXIST, mkdir("..", 0755));
}

static void mknod_group(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "sock" };
	struct stat st;
	char c = 0;
	pid_t pid;
	int fd;

	E(0, mknod("f", S_IFREG | 0640, 0));
	OK(st_of("f").st_mode == (S_IFREG | 0640) && st_of("f").st_size == 0);
	E(EEXIST, mknod("f", S_IFREG | 0640, 0));
	E(0, mkfifo("p", 0600));
	OK(st_of("p").st_mode == (S_IFIFO | 0600));
	E(EEXIST, mkfifo("p", 0600));
	/* A FIFO works, between two of this machine. */
	pid = fork();
	if (pid == 0) {
		fd = open("p", O_WRONLY);
		_exit(write(fd, "x", 1) == 1 ? 0 : 1);
	}
	fd = open("p", O_RDONLY);
	E(0, read(fd, &c, 1) == 1 ? 0 : -1);
	OK(c == 'x');
	close(fd);
	waitpid(pid, NULL, 0);
	/* And so does a socket. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	E(0, bind(fd, (struct sockaddr *)&sun, sizeof(sun)));
	E(0, listen(fd, 1));
	OK(S_ISSOCK(st_of("sock").st_mode));
	{
		int to = socket(AF_UNIX, SOCK_STREAM, 0);

		E(0, connect(to, (struct sockaddr *)&sun, sizeof(sun)));
		close(to);
	}
	close(fd);
	E(ENXIO, open("sock", O_RDONLY));
	E(ENXIO, open("p", O_WRONLY | O_NONBLOCK));
	E(0, unlink("sock"));
	st = st_of("p");
	E(0, rename("p", "p2"));
	OK(st_of("p2").st_ino == st.st_ino);
}

static void open_group(void)
{
	struct stat before;
	char data[16];
	int fd, fd2;

	E(ENOENT, open("f", O_RDWR));
	fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0444);
	OK(fd >= 0);
	E(0, write(fd, "12345", 5) == 5 ? 0 : -1);
	OK((st_of("f").st_mode & 07777) == 0444);
	E(EEXIST, open("f", O_RDWR | O_CREAT | O_EXCL, 0644));
	close(fd);
	fd = open("f", O_RDONLY);
	E(EBADF, write(fd, "1", 1));
	E(0, read(fd, data, 16) == 5 ? 0 : -1);
	close(fd);
	fd = open("f", O_WRONLY);
	E(EBADF, read(fd, data, 1));
	close(fd);
	if (!owner)
		chmod("f", 0644); /* not even for root: the host says so */
	before = st_of("f");
	tick();
	fd = open("f", O_RDWR | O_TRUNC);
	OK(fd >= 0 && st_of("f").st_size == 0);
	OK(later(st_of("f").st_mtim, before.st_mtim));
	close(fd);
	E(0, mkdir("d", 0755));
	E(EISDIR, open("d", O_RDWR));
	E(EISDIR, open("d", O_WRONLY));
	E(EISDIR, open("d", O_RDONLY | O_CREAT, 0644));
	E(0, close(open("d", O_RDONLY | O_DIRECTORY)));
	E(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
	E(ENOTDIR, open("f/x", O_RDONLY));
	E(ENOENT, open("none/x", O_RDWR | O_CREAT, 0644));
	E(ENAMETOOLONG, open(name(256), O_RDWR | O_CREAT, 0644));
	fd = open(name(255), O_RDWR | O_CREAT, 0644);
	OK(fd >= 0);
	close(fd);
	E(0, unlink(name(255)));
	E(0, symlink("l", "l"));
	E(ELOOP, open("l", O_RDONLY));
	E(ELOOP, open("l", O_RDONLY | O_CREAT, 0644));
	E(0, symlink("made", "to"));
	E(ELOOP, open("to", O_RDONLY | O_NOFOLLOW));
	E(EEXIST, open("to", O_RDWR | O_CREAT | O_EXCL, 0644));
	fd = open("to", O_RDWR | O_CREAT, 0644);
	OK(fd >= 0 && !gone("made"));
	close(fd);
	/* Append: at the end, whoever else writes. */
	fd = open("f", O_WRONLY | O_APPEND);
	fd2 = open("f", O_WRONLY | O_APPEND);
	E(0, write(fd, "abc", 3) == 3 ? 0 : -1);
	E(0, write(fd2, "def", 3) == 3 ? 0 : -1);
	E(0, write(fd, "ghi", 3) == 3 ? 0 : -1);
	OK(reads("f", "abcdefghi"));
	close(fd);
	close(fd2);
	umask(027);
	fd = open("masked", O_RDWR | O_CREAT, 0666);
	OK((st_of("masked").st_mode & 07777) == 0640);
	close(fd);
	umask(022);
	fd = open("f", O_RDWR | O_SYNC);
	E(0, pwrite(fd, "x", 1, 0) == 1 ? 0 : -1);
	close(fd);
	fd = open("d", O_RDONLY);
	E(EISDIR, read(fd, data, 1));
	close(fd);
}

static void unlinked_group(void)
{
	struct stat st;
	char data[16] = "";
	int fd, fd2;

	fd = open("f", O_RDWR | O_CREAT, 0644);
	E(0, unlink("f"));
	OK(gone("f"));
	E(0, write(fd, "hello", 5) == 5 ? 0 : -1);
	OK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 5);
	E(0, pread(fd, data, 5, 0) == 5 ? 0 : -1);
	OK(memcmp(data, "hello", 5) == 0);
	E(0, ftruncate(fd, 2));
	OK(fstat(fd, &st) == 0 && st.st_size == 2);
	E(0, fchmod(fd, 0600));
	E(0, futimens(fd, NULL));
	close(fd);
	/* Renamed over. */
	E(0, make("a", "new"));
	E(0, make("b", "old"));
	fd = open("b", O_RDWR);
	E(0, rename("a", "b"));
	E(0, pread(fd, data, 5, 0) == 3 ? 0 : -1);
	OK(memcmp(data, "old", 3) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
	OK(reads("b", "new"));
	close(fd);
	/* A removed folder. */
	E(0, mkdir("d", 0755));
	fd = open("d", O_RDONLY);
	E(0, rmdir("d"));
	E(ENOENT, openat(fd, "x", O_RDWR | O_CREAT, 0644));
	E(ENOENT, mkdirat(fd, "x", 0755));
	OK(fstat(fd, &st) == 0 && st.st_nlink == 0);
	close(fd);
	/* Never had a name. */
	fd = open(".", O_RDWR | O_TMPFILE, 0600);
	if (fd < 0) {
		OK(errno == EOPNOTSUPP);
		return;
	}
	OK(fstat(fd, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0600);
	E(0, write(fd, "tmp", 3) == 3 ? 0 : -1);
	E(0, linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
	OK(reads("named", "tmp") && st_of("named").st_nlink == 1);
	close(fd);
	fd2 = open(".", O_RDWR | O_TMPFILE | O_EXCL, 0600);
	E(ENOENT, linkat(fd2, "", AT_FDCWD, "named2", AT_EMPTY_PATH));
	close(fd2);
	E(EINVAL, open(".", O_RDONLY | O_TMPFILE, 0600));
}

static void rename_group(void)
{
	struct stat st;
	char up[64];

	E(0, make("a", "a"));
	st = st_of("a");
	E(0, rename("a", "b"));
	OK(gone("a") && st_of("b").st_ino == st.st_ino);
	E(0, make("c", "c"));
	E(0, rename("b", "c"));
	OK(gone("b") && reads("c", "a"));
	E(0, rename("c", "c"));
	OK(reads("c", "a"));
	E(ENOENT, rename("none", "x"));
	E(ENOENT, rename("c", "none/x"));
	E(ENAMETOOLONG, rename("c", name(256)));
	E(0, mkdir("d", 0755));
	E(0, mkdir("e", 0755));
	E(0, make("d/f", "f"));
	E(EISDIR, rename("c", "d"));
	E(ENOTDIR, rename("d", "c"));
	E(ENOTDIR, rename("c/x", "y"));
	E(ENOTEMPTY, rename("e", "d"));
	E(EINVAL, rename("d", "d/x"));
	E(0, mkdir("d/sub", 0755));
	E(EINVAL, rename("d", "d/sub/x"));
	E(0, rename("d", "e"));
	OK(gone("d") && reads("e/f", "f"));
	E(0, link("c", "c2"));
	E(0, rename("c", "c2")); /* the same file: nothing happens */
	OK(!gone("c") && !gone("c2"));
	/* A folder to another parent: ".." follows. */
	E(0, mkdir("p", 0755));
	E(0, rename("e", "p/e"));
	snprintf(up, sizeof(up), "p/e/..");
	OK(st_of(up).st_ino == st_of("p").st_ino);
	/* With flags. */
	E(0, make("x", "x"));
	E(0, make("y", "y"));
	E(EEXIST, renameat2(AT_FDCWD, "x", AT_FDCWD, "y", RENAME_NOREPLACE));
	E(0, renameat2(AT_FDCWD, "x", AT_FDCWD, "z", RENAME_NOREPLACE));
	E(0, renameat2(AT_FDCWD, "z", AT_FDCWD, "y", RENAME_EXCHANGE));
	OK(reads("z", "y") && reads("y", "x"));
	E(0, renameat2(AT_FDCWD, "z", AT_FDCWD, "p", RENAME_EXCHANGE));
	OK(S_ISDIR(st_of("z").st_mode) && S_ISREG(st_of("p").st_mode));
	E(ENOENT, renameat2(AT_FDCWD, "z", AT_FDCWD, "none", RENAME_EXCHANGE));
	E(EINVAL, renameat2(AT_FDCWD, "z", AT_FDCWD, "y", RENAME_EXCHANGE | RENAME_NOREPLACE));
	/* A link moves itself. */
	E(0, symlink("nowhere", "l"));
	E(0, rename("l", "l2"));
	OK(S_ISLNK(st_of("l2").st_mode));
	E(0, make("over", "1"));
	E(0, rename("over", "l2"));
	OK(S_ISREG(st_of("l2").st_mode));
	E(EBUSY, rename(".", "x1"));
}

static void remove_group(void)
{
	struct stat before;
	int fd;

	E(0, mkdir("d", 0755));
	E(0, make("d/f", "1"));
	E(ENOTEMPTY, rmdir("d"));
	E(EISDIR, unlink("d"));
	E(ENOTDIR, rmdir("d/f"));
	E(ENOENT, unlink("none"));
	E(ENOENT, rmdir("none"));
	E(ENOTDIR, unlink("d/f/x"));
	E(ENAMETOOLONG, unlink(name(256)));
	before = st_of("d");
	tick();
	E(0, unlink("d/f"));
	OK(later(st_of("d").st_mtim, before.st_mtim));
	E(0, rmdir("d"));
	OK(gone("d"));
	E(EINVAL, rmdir("."));
	E(0, symlink("nowhere", "l"));
	E(ENOTDIR, rmdir("l"));
	E(0, unlink("l"));
	OK(gone("l"));
	E(0, mkfifo("p", 0600));
	E(0, unlink("p"));
	/* A folder that somebody is in. */
	E(0, mkdir("in", 0755));
	fd = open("in", O_RDONLY);
	E(0, rmdir("in"));
	close(fd);
	/* Made again at once, it is another. */
	E(0, mkdir("in", 0755));
	E(0, make("in/x", "1"));
	OK(reads("in/x", "1"));
}

static void symlink_group(void)
{
	char data[5000], target[4096];

	E(0, symlink("to/somewhere", "l"));
	OK(S_ISLNK(st_of("l").st_mode) && st_of("l").st_size == 12);
	memset(data, 0, sizeof(data));
	OK(readlink("l", data, sizeof(data)) == 12 && strcmp(data, "to/somewhere") == 0);
	OK(readlink("l", data, 5) == 5);
	E(EEXIST, symlink("x", "l"));
	E(ENOENT, open("l", O_RDONLY));
	E(0, make("f", "f"));
	E(EINVAL, readlink("f", data, 10));
	E(ENOENT, symlink("", "empty"));
	memset(target, 't', sizeof(target));
	target[1023] = '\0'; /* ext4 and tmpfs both can */
	E(0, symlink(target, "long"));
	OK(readlink("long", data, sizeof(data)) == 1023 && memcmp(data, target, 1023) == 0);
	E(0, mkdir("d", 0755));
	E(0, make("d/f", "inner"));
	E(0, symlink("d", "dl"));
	OK(reads("dl/f", "inner"));
	E(0, symlink("../f", "d/up"));
	OK(reads("d/up", "f"));
	E(ENOTDIR, rmdir("dl"));
	E(0, unlink("dl"));
	OK(!gone("d/f"));
	E(ENAMETOOLONG, symlink("x", name(256)));
}

static void truncate_group(void)
{
	struct stat before;
	char data[64];
	int fd;

	E(0, make("f", "1234567890"));
	E(0, truncate("f", 4));
	OK(reads("f", "1234"));
	E(0, truncate("f", 8));
	fd = open("f", O_RDWR);
	OK(read(fd, data, 64) == 8 && memcmp(data, "1234\0\0\0\0", 8) == 0);
	E(0, ftruncate(fd, 0));
	OK(st_of("f").st_size == 0);
	E(0, ftruncate(fd, 1l << 33));
	OK(st_of("f").st_size == 1l << 33);
	E(0, ftruncate(fd, 100));
	E(EINVAL, ftruncate(fd, -1));
	E(EINVAL, truncate("f", -1));
	close(fd);
	fd = open("f", O_RDONLY);
	E(EINVAL, ftruncate(fd, 0));
	close(fd);
	E(0, mkdir("d", 0755));
	E(EISDIR, truncate("d", 0));
	E(ENOENT, truncate("none", 0));
	before = st_of("f");
	tick();
	E(0, truncate("f", 50));
	OK(later(st_of("f").st_mtim, before.st_mtim) && later(st_of("f").st_ctim, before.st_ctim));
	/* Set-user-ID goes when a user does it. */
	if (owner) {
		E(0, chown("f", USER, USER));
		E(0, chmod("f", 04755));
		as(USER);
		E(0, truncate("f", 10));
		self();
		OK((st_of("f").st_mode & 06000) == 0);
		E(0, chmod("f", 06755));
		as(USER);
		fd = open("f", O_WRONLY);
		E(0, write(fd, "x", 1) == 1 ? 0 : -1);
		close(fd);
		self();
		OK((st_of("f").st_mode & 06000) == 0);
	}
}

static void times_group(void)
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

static void lock_group(void)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10 };
	int fd, fd2, status;
	pid_t pid;

	E(0, make("f", "1234567890123456789012345"));
	fd = open("f", O_RDWR);
	fd2 = open("f", O_RDWR);
	E(0, flock(fd, LOCK_EX));
	E(EAGAIN, flock(fd2, LOCK_EX | LOCK_NB));
	E(EAGAIN, flock(fd2, LOCK_SH | LOCK_NB));
	E(0, flock(fd, LOCK_SH));
	E(0, flock(fd2, LOCK_SH | LOCK_NB));
	E(0, flock(fd2, LOCK_UN));
	E(0, flock(fd, LOCK_UN));
	E(0, flock(fd2, LOCK_EX | LOCK_NB));
	E(0, flock(fd2, LOCK_UN));
	E(0, fcntl(fd, F_SETLK, &fl));
	pid = fork();
	if (pid == 0) {
		int bad = 0;

		fd = open("f", O_RDWR);
		fl.l_start = 0;
		bad |= fcntl(fd, F_SETLK, &fl) != 0;
		fl.l_start = 15;
		bad |= (fcntl(fd, F_SETLK, &fl) == 0 || (errno != EAGAIN && errno != EACCES)) << 1;
		bad |= (fcntl(fd, F_GETLK, &fl) != 0 || fl.l_type != F_WRLCK || fl.l_start != 10 ||
			fl.l_pid != getppid())
		       << 2;
		_exit(bad);
	}
	waitpid(pid, &status, 0);
	OK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	fl.l_type = F_UNLCK;
	E(0, fcntl(fd, F_SETLK, &fl));
	fl.l_type = F_WRLCK;
	E(0, fcntl(fd, F_OFD_SETLK, &fl));
	E(EAGAIN, fcntl(fd2, F_OFD_SETLK, &fl));
	close(fd);
	E(0, fcntl(fd2, F_OFD_SETLK, &fl));
	close(fd2);
	fd = open("f", O_RDONLY);
	E(0, fcntl(fd, F_SETLEASE, F_RDLCK) == 0 || errno == EAGAIN || errno == EINVAL ? 0 : -1);
	close(fd);
}

static void mmap_group(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p, *q, data[16] = "";
	int fd, status;
	pid_t pid;

	E(0, make("f", ""));
	fd = open("f", O_RDWR);
	E(0, ftruncate(fd, (off_t)(3 * page)));
	p = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		/* Right without a page cache. */
		OK(errno == ENODEV);
		q = mmap(NULL, 3 * page, PROT_READ, MAP_PRIVATE, fd, 0);
		OK(q != MAP_FAILED);
		E(0, pwrite(fd, "x", 1, 0) == 1 ? 0 : -1);
		OK(q[0] == 'x' || q[0] == 0);
		close(fd);
		return;
	}
	memcpy(p + page - 2, "abcd", 4);
	E(0, pread(fd, data, 4, (off_t)page - 2) == 4 ? 0 : -1);
	OK(memcmp(data, "abcd", 4) == 0);
	E(0, pwrite(fd, "XY", 2, (off_t)page) == 2 ? 0 : -1);
	OK(memcmp(p + page - 2, "abXY", 4) == 0);
	q = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	OK(q != MAP_FAILED);
	q[0] = 'p';
	OK(p[0] == 0);
	munmap(q, page);
	pid = fork();
	if (pid == 0) {
		p[5] = 'c';
		_exit(msync(p, page, MS_SYNC) != 0);
	}
	waitpid(pid, &status, 0);
	OK(status == 0 && p[5] == 'c');
	E(0, msync(p, 3 * page, MS_SYNC));
	close(fd);
	/* Mapped, closed, unlinked: still there. */
	E(0, unlink("f"));
	p[2 * page] = 'z';
	OK(p[2 * page] == 'z');
	munmap(p, 3 * page);
	/* Behind the end of the file. */
	E(0, make("g", "short"));
	fd = open("g", O_RDWR);
	p = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, fd, 0);
	OK(p != MAP_FAILED && p[5] == 0 && p[page - 1] == 0);
	pid = fork();
	if (pid == 0) {
		volatile char c = p[page];

		_exit(c);
	}
	waitpid(pid, &status, 0);
	OK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	munmap(p, 2 * page);
	close(fd);
	/* A program runs from here. */
	if (make("run", "#!/bin/busybox sh\nexit 7\n") == 0 && chmod("run", 0755) == 0 &&
	    access("/bin/busybox", X_OK) == 0) {
		pid = fork();
		if (pid == 0) {
			execl("./run", "run", NULL);
			_exit(99);
		}
		waitpid(pid, &status, 0);
		OK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	}
}

static void sparse_group(void)
{
	char data[4096];
	struct stat st;
	int fd, fd2;
	off64_t in = 0, out = 0;

	fd = open("f", O_RDWR | O_CREAT, 0644);
	memset(data, 'd', sizeof(data));
	E(0, pwrite(fd, data, 4096, 1 << 20) == 4096 ? 0 : -1);
	E(0, fsync(fd));
	OK(fstat(fd, &st) == 0 && st.st_size == (1 << 20) + 4096 && st.st_blocks < 1024);
	OK(lseek(fd, 0, SEEK_DATA) == 1 << 20);
	OK(lseek(fd, 0, SEEK_HOLE) == 0);
	OK(lseek(fd, 1 << 20, SEEK_HOLE) == (1 << 20) + 4096);
	E(ENXIO, lseek(fd, 1 << 22, SEEK_DATA));
	E(0, fallocate(fd, 0, 0, 65536));
	OK(fstat(fd, &st) == 0 && st.st_blocks >= 128);
	E(0, fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 21, 4096));
	OK(fstat(fd, &st) == 0 && st.st_size == (1 << 20) + 4096);
	E(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 4096));
	E(0, pread(fd, data, 4096, 1 << 20) == 4096 ? 0 : -1);
	OK(data[0] == 0 && data[4095] == 0);
	E(EINVAL, fallocate(fd, 0, 0, 0));
	E(EINVAL, fallocate(fd, 0, -1, 10));
	E(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
	E(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 ? 0 : -1);
	E(0, pwrite(fd, "copy me", 7, 0) == 7 ? 0 : -1);
	fd2 = open("g", O_RDWR | O_CREAT, 0644);
	OK(copy_file_range(fd, &in, fd2, &out, 7, 0) == 7);
	OK(reads("g", "copy me"));
	close(fd2);
	close(fd);
	fd = open("f", O_RDONLY);
	E(EBADF, fallocate(fd, 0, 0, 10));
	close(fd);
}

static void readdir_group(void)
{
	static bool seen[FILES];
	struct dirent *e;
	unsigned n = 0, dots = 0;
	long pos = 0;
	char path[32], after[300] = "";
	DIR *dir;

	E(0, mkdir("d", 0755));
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "d/file%04u", i);
		if (close(open(path, O_WRONLY | O_CREAT, 0644)) < 0)
			OK(!"a file can be made");
	}
	dir = opendir("d");
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.') {
			dots++;
			continue;
		}
		if (seen[atoi(e->d_name + 4)])
			OK(!"a name comes once");
		seen[atoi(e->d_name + 4)] = true;
		if (++n == FILES / 3)
			pos = telldir(dir);
		if (n == FILES / 3 + 1)
			strcpy(after, e->d_name);
		if (n % 500 == 0)
			OK(e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
	}
	OK(n == FILES && dots == 2);
	seekdir(dir, pos);
	e = readdir(dir);
	OK(e != NULL && strcmp(e->d_name, after) == 0);
	for (n = 1; readdir(dir) != NULL; n++)
		;
	OK(n >= FILES - FILES / 3 && n <= FILES - FILES / 3 + 2);
	rewinddir(dir);
	/* Removed while it is read: none is left out. */
	n = 0;
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "d/%.20s", e->d_name);
		if (unlink(path) < 0)
			OK(!"a name that was read can be removed");
		n++;
	}
	OK(n == FILES);
	closedir(dir);
	E(0, rmdir("d"));
	/* Inode numbers in a listing are those of stat. */
	E(0, make("f", "1"));
	dir = opendir(".");
	while ((e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, "f") == 0)
			OK(e->d_ino == st_of("f").st_ino);
	}
	closedir(dir);
	/* Made while it is read: the new one may come, the old ones do. */
	E(0, mkdir("e", 0755));
	for (unsigned i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "e/%u", i);
		E(0, make(path, ""));
	}
	dir = opendir("e");
	n = 0;
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.' || e->d_name[0] == 'n')
			continue;
		snprintf(path, sizeof(path), "e/n%u", n++);
		if (n < 100)
			make(path, "");
	}
	OK(n == 50);
	closedir(dir);
}

static void names_group(void)
{
	static const char *const odd[] = { " ",	       "a b",	   "\\",  "\"",	  "*",	 "\n",
					   "\xff\xfe", "\xc3\xa4", "-rf", "...",  "..x", "x..",
					   "~",	       "%s",	   "a:b", ".hid", "CON", "\t",
					   "\x01",     "\x7f",	   ";" };
	char path[4096] = "";

	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		E(0, make(odd[i], "odd"));
		OK(reads(odd[i], "odd"));
		E(0, unlink(odd[i]));
		OK(gone(odd[i]));
	}
	for (unsigned n = 1; n <= 255; n += 127) {
		E(0, make(name(n), "1"));
		OK(reads(name(n), "1"));
		E(0, unlink(name(n)));
	}
	/* Upper and lower case are two. */
	E(0, make("Case", "1"));
	OK(gone("case"));
	/* Deep. */
	for (unsigned i = 0; i < 40; i++) {
		strcat(path, i ? "/deep" : "deep");
		E(0, mkdir(path, 0755));
	}
	strcat(path, "/f");
	E(0, make(path, "deep"));
	OK(reads(path, "deep"));
}

static void xattr_group(void)
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

static void statvfs_group(void)
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

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "chmod", chmod_group },   { "chown", chown_group },	    { "access", access_group },
	{ "link", link_group },	    { "mkdir", mkdir_group },	    { "mknod", mknod_group },
	{ "open", open_group },	    { "unlinked", unlinked_group }, { "rename", rename_group },
	{ "remove", remove_group }, { "symlink", symlink_group },   { "truncate", truncate_group },
	{ "times", times_group },   { "lock", lock_group },	    { "mmap", mmap_group },
	{ "sparse", sparse_group }, { "readdir", readdir_group },   { "names", names_group },
	{ "xattr", xattr_group },   { "statvfs", statvfs_group },
};

int main(int argc, char **argv)
{
	char path[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: posix FOLDER [noowner|nolinkowner]\n");
		return 2;
	}
	owner = argc < 3 || strcmp(argv[2], "noowner") != 0;
	link_owner = argc < 3 || strcmp(argv[2], "nolinkowner") != 0;
	umask(022);
	for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		group = groups[i].name;
		/* Each in a folder of its own, which others may enter. */
		snprintf(path, sizeof(path), "%s.d", group);
		if (mkdir(path, 0755) < 0 || chdir(path) < 0) {
			printf("posix: cannot make %s: %s\n", path, strerror(errno));
			return 1;
		}
		groups[i].run();
		group_end();
		if (chdir("..") < 0)
			return 1;
	}
	printf("posix: %u checks, %u failed\n", checks, failed);
	return failed > 0;
}
