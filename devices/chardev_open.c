// SPDX-License-Identifier: Apache-2.0
/*
 * Character devices: opening the standard streams, a file, a pseudo-terminal. See chardev.c
 * for what happens then, and chardev_socket.c for sockets.
 *
 * Everything is opened before the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/chardev_impl.h"

const char *const chardev_names[] = { "stdio", "file", "pty", "socket", "null", NULL };

int chardev_check(const struct chardev_config *cfg, struct err *err)
{
	bool needs = cfg->to == CHARDEV_FILE || cfg->to == CHARDEV_SOCKET;

	if (cfg->path != NULL && *cfg->path == '\0')
		return err_set(err, EINVAL, "the path is empty; name a file");
	if (needs && cfg->path == NULL)
		return err_set(err, EINVAL, "to=%s needs path=PATH", chardev_names[cfg->to]);
	if (!needs && cfg->path != NULL)
		return err_set(err, EINVAL, "path= is only for to=file and to=socket");
	return 0;
}

/* An open file of our own for standard stream @fd, so that flags are ours too. */
static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* Output to standard stream @stream. */
static int open_output(struct chardev *c, int stream, struct err *err)
{
	struct stat st;
	int fd;

	c->out.fd = stream;
	if (fstat(stream, &st) < 0) {
		c->out.fd = -1;
		c->out_dead = true;
		return 0;
	}
	if (S_ISREG(st.st_mode)) {
		c->out_nonblock = true; /* never blocks for a reader; keeps its offset shared */
		return 0;
	}
	fd = reopen(stream, O_WRONLY);
	if (fd >= 0) {
		c->out_nonblock = true;
	} else {
		/* A descriptor of our own all the same: it may be the same file as stdin's. */
		fd = fcntl(stream, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return err_sys(err, errno, "%s: standard output", c->what);
	}
	c->out.fd = fd;
	c->own_out = true;
	return 0;
}

static int open_stdio(struct chardev *c, struct err *err)
{
	if (fcntl(STDIN_FILENO, F_GETFD) >= 0)
		c->in.fd = STDIN_FILENO;
	c->tty = !c->cfg->cooked && isatty(STDIN_FILENO);
	return open_output(c, STDOUT_FILENO, err);
}

static int open_file(struct chardev *c, const char *path, struct err *err)
{
	int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	c->out.fd = open(path, flags);
	if (c->out.fd < 0 && errno == ENOENT) {
		c->out.fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		c->created = c->out.fd >= 0 ? path : NULL;
	}
	if (c->out.fd < 0 && errno == ENXIO)
		return err_set(err, ENXIO,
			       "%s file %s: nobody reads this FIFO; start its reader first",
			       c->what, path);
	if (c->out.fd < 0)
		return err_sys(err, errno, "%s file %s: cannot open", c->what, path);
	c->own_out = c->out_nonblock = true;
	return 0;
}

static int open_pty(struct chardev *c, struct err *err)
{
	struct termios t;
	char name[64];
	int fd;

	fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(err, errno, "%s pty: cannot open", c->what);
	c->in.fd = fd;
	c->own_in = true;
	/* Two descriptors, as each is watched for one direction. */
	c->out.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (c->out.fd < 0)
		return err_sys(err, errno, "%s pty", c->what);
	c->own_out = c->out_nonblock = true;
	if (grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, name, sizeof(name)) != 0)
		return err_sys(err, errno, "%s pty", c->what);
	c->pty_slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->pty_slave < 0)
		return err_sys(err, errno, "%s pty: cannot open %s", c->what, name);
	if (tcgetattr(c->pty_slave, &t) == 0) {
		cfmakeraw(&t);
		tcsetattr(c->pty_slave, TCSANOW, &t);
	}
	return 0;
}

int chardev_open(struct chardev *c, struct err *err)
{
	switch (c->cfg->to) {
	case CHARDEV_STDIO:
		return open_stdio(c, err);
	case CHARDEV_STDERR:
		return open_output(c, STDERR_FILENO, err);
	case CHARDEV_FILE:
		return open_file(c, c->cfg->path, err);
	case CHARDEV_PTY:
		return open_pty(c, err);
	case CHARDEV_SOCKET:
		return chardev_listen(c, err);
	default:
		c->out_dead = true;
		return 0;
	}
}
