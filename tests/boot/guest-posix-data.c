// SPDX-License-Identifier: Apache-2.0
/* The groups of guest-posix.c about open files: flags, data, locks, mappings, holes, files without
 * a name. */
#include "guest-posix.h"

void open_group(void)
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

void unlinked_group(void)
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

void truncate_group(void)
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

void lock_group(void)
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

void mmap_group(void)
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

void sparse_group(void)
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
