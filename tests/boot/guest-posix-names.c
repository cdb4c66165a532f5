// SPDX-License-Identifier: Apache-2.0
/* The groups of guest-posix.c about names: links, folders, special files, renaming, removing,
 * listing. */
#include "guest-posix.h"

void link_group(void)
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

void mkdir_group(void)
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

void mknod_group(void)
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

void rename_group(void)
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

void remove_group(void)
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

void symlink_group(void)
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

void readdir_group(void)
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

void names_group(void)
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
