// SPDX-License-Identifier: Apache-2.0
/*
 * A listening Unix stream socket with a name in the file system, unix(7).
 *
 * A socket's file left behind by a program that is no more (nobody listens behind it) is
 * replaced; one behind which somebody listens, or a file that is no socket, is an error. Ours is
 * removed at the end, if it is still ours. Its mode is 0600: who may connect is let in.
 *
 * #syscalls files: lstat newfstatat unlink
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/unix_listen.h"

int unix_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, r;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd < 0 ? -errno : fd;
	r = -errno;
	close(fd);
	return r;
}

/* Is there a socket's file at @addr that nobody listens behind? Then it goes. */
static bool remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd;

	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = unix_connect(addr->sun_path);
	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED && unlink(addr->sun_path) == 0;
}

static int bind_path(struct unix_listener *l, const char *what, const char *path, struct err *err)
{
	const struct sockaddr *addr = (const struct sockaddr *)&l->addr;
	struct stat st;
	int r;

	fchmod(l->fd, 0600);
	r = bind(l->fd, addr, sizeof(l->addr));
	if (r < 0 && errno == EADDRINUSE && remove_stale(&l->addr))
		r = bind(l->fd, addr, sizeof(l->addr));
	if (r < 0 && errno == EADDRINUSE) {
		if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			return err_set(err, EADDRINUSE,
				       "%s socket %s: there is a file of that name that is not a "
				       "socket; remove it, or name another",
				       what, path);
		return err_set(err, EADDRINUSE,
			       "%s socket %s: another program listens there; name another path",
			       what, path);
	}
	if (r < 0)
		return err_sys(err, errno, "%s socket %s: cannot bind", what, path);
	if (lstat(path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	return 0;
}

int unix_listen(struct unix_listener *l, const char *what, const char *path, int backlog,
		struct broker *broker, struct err *err)
{
	struct broker_rule rule = { .kind = BROKER_REMOVE, .path = l->addr.sun_path };

	l->addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	l->ino = 0;
	l->broker = NULL;
	if (strlen(path) >= sizeof(l->addr.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s socket %s: the path has %zu bytes, that of a socket at most "
			       "%zu; name a shorter one",
			       what, path, strlen(path), sizeof(l->addr.sun_path) - 1);
	strcpy(l->addr.sun_path, path);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return err_sys(err, errno, "%s socket %s", what, path);
	if (bind_path(l, what, path, err) < 0)
		return -err->code;
	if (listen(l->fd, backlog) < 0)
		return err_sys(err, errno, "%s socket %s: cannot listen", what, path);
	if (broker == NULL)
		return 0;
	rule.dev = l->dev;
	rule.ino = l->ino;
	l->rule = broker_allow(broker, &rule, err);
	l->broker = broker;
	return l->rule < 0 ? l->rule : 0;
}

void unix_remove(const char *path, dev_t dev, ino_t ino)
{
	struct stat st;

	if (ino != 0 && lstat(path, &st) == 0 && st.st_ino == ino && st.st_dev == dev)
		unlink(path);
}

void unix_listen_end(struct unix_listener *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	if (broker_started(l->broker))
		broker_remove(l->broker, l->rule);
	else
		unix_remove(l->addr.sun_path, l->dev, l->ino);
	l->ino = 0;
}
