// SPDX-License-Identifier: Apache-2.0
/*
 * Character devices: a listening Unix stream socket, unix(7).
 *
 * One client at a time; others wait in the backlog until it has gone. Output that finds no
 * client is kept, the last CHARDEV_KEEP bytes of it, and is what the next client gets first:
 * who connects late sees how the guest came up, or what it said when it went down.
 *
 * A client may stop sending (shutdown(2)) and go on to read. What a client sent before it
 * went is still for the guest; only when the guest has not taken it by the time the next
 * client comes, the rest is dropped.
 *
 * A socket's file left behind by a program that is no more is replaced. Ours is removed at
 * the end, if it is still ours. Its mode is 0600: who may connect owns the guest's console.
 *
 * #syscalls: accept4 fcntl close poll writev lstat unlink
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/chardev_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BACKLOG 4

/* Kept output */

void chardev_keep(struct chardev *c, const uint8_t *data, size_t len)
{
	if (len > CHARDEV_KEEP) {
		data += len - CHARDEV_KEEP;
		len = CHARDEV_KEEP;
	}
	while (len > 0) {
		size_t at = (c->keep_head + c->keep_n) % CHARDEV_KEEP;
		size_t piece = CHARDEV_KEEP - at;

		if (piece > len)
			piece = len;
		memcpy(c->keep + at, data, piece);
		data += piece;
		len -= piece;
		c->keep_n += piece;
		if (c->keep_n > CHARDEV_KEEP) {
			c->keep_head = (c->keep_head + c->keep_n) % CHARDEV_KEEP;
			c->keep_n = CHARDEV_KEEP;
		}
	}
}

bool chardev_write_kept(struct chardev *c)
{
	while (c->keep_n > 0 && !c->out_dead) {
		size_t piece = CHARDEV_KEEP - c->keep_head;
		ssize_t n;

		if (piece > c->keep_n)
			piece = c->keep_n;
		n = write(c->out.fd, c->keep + c->keep_head, piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			loop_mod_fd(&c->out, EPOLLOUT);
			return false;
		}
		if (n < 0) {
			c->out_dead = true;
			return true;
		}
		c->keep_head = (c->keep_head + (size_t)n) % CHARDEV_KEEP;
		c->keep_n -= (size_t)n;
	}
	return true;
}

/* Clients */

static void changed(struct chardev *c)
{
	struct chardev_front *front = c->back.front;

	if (front != NULL && front->changed != NULL)
		front->changed(front);
}

/* Close the client's descriptors. */
static void drop_client(struct chardev *c)
{
	loop_del_fd(&c->in);
	loop_del_fd(&c->out);
	if (c->in.fd >= 0)
		close(c->in.fd);
	if (c->out.fd >= 0)
		close(c->out.fd);
	c->in.fd = c->out.fd = -1;
	c->in_pollable = c->out_pollable = false;
	c->in_ended = c->left = false;
	c->out_dead = true;
	c->input_done = c->input_len = 0;
}

void chardev_client_ended(struct chardev *c)
{
	struct pollfd p = { .fd = c->in.fd };

	c->in_ended = true;
	if (poll(&p, 1, 0) == 0)
		return; /* it still reads */
	drop_client(c);
	changed(c);
	loop_mod_fd(&c->listener, EPOLLIN);
}

void chardev_client_left(struct chardev *c)
{
	if (c->in_ended) {
		chardev_client_ended(c);
		return;
	}
	c->left = true;
	c->out_dead = true;
	loop_mod_fd(&c->listener, EPOLLIN);
}

static int take_client(struct chardev *c, int fd, struct err *err)
{
	c->in.fd = fd;
	/* Two descriptors, as each is watched for one direction. */
	c->out.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (c->out.fd < 0)
		return err_sys(err, errno, "cannot duplicate its descriptor");
	if (loop_add_fd(c->loop, &c->in, 0, err) < 0 || loop_add_fd(c->loop, &c->out, 0, err) < 0)
		return -err->code;
	c->in_pollable = c->out_pollable = true;
	c->out_dead = false;
	return 0;
}

static void client_waits(struct loop_fd *lfd, uint32_t events)
{
	struct chardev *c = container_of(lfd, struct chardev, listener);
	struct err err = ERR_INIT;
	int fd;

	(void)events;
	fd = accept4(lfd->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0) {
		/* No descriptors or memory: it would be ready, and fail, for ever. */
		log_warn("%s socket %s: takes no more clients: %s", c->what, c->cfg->path,
			 strerrordesc_np(errno));
		loop_mod_fd(lfd, 0);
		return;
	}
	drop_client(c); /* one that left long ago */
	if (take_client(c, fd, &err) < 0) {
		log_warn("%s socket %s: client lost: %s", c->what, c->cfg->path, err.msg);
		drop_client(c);
		return;
	}
	loop_mod_fd(lfd, 0);
	(void)chardev_write_kept(c);
	chardev_watch_input(c);
	changed(c);
}

/* The socket's file */

/* Is there a socket's file at @addr that nobody listens behind? Then it goes. */
static bool remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
		errno == ECONNREFUSED;
	close(fd);
	return stale && unlink(addr->sun_path) == 0;
}

static int bind_socket(struct chardev *c, int fd, const char *path, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int r;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s socket %s: the path has %zu bytes, that of a socket at most "
			       "%zu; name a shorter one",
			       c->what, path, strlen(path), sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	fchmod(fd, 0600);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (r < 0 && errno == EADDRINUSE && remove_stale(&addr))
		r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (r < 0 && errno == EADDRINUSE) {
		if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			return err_set(err, EADDRINUSE,
				       "%s socket %s: there is a file of that name that is not a "
				       "socket; remove it, or name another",
				       c->what, path);
		return err_set(err, EADDRINUSE,
			       "%s socket %s: another program listens there; name another path",
			       c->what, path);
	}
	if (r < 0)
		return err_sys(err, errno, "%s socket %s: cannot bind", c->what, path);
	if (lstat(path, &st) == 0) {
		c->bound_dev = st.st_dev;
		c->bound_ino = st.st_ino;
	}
	return 0;
}

int chardev_listen(struct chardev *c, struct err *err)
{
	int fd;

	c->own_in = c->own_out = c->out_nonblock = true;
	c->out_dead = true;
	c->keep = malloc(CHARDEV_KEEP);
	if (c->keep == NULL)
		return err_set(err, ENOMEM, "%s socket %s: no memory", c->what, c->cfg->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, errno, "%s socket %s", c->what, c->cfg->path);
	c->listener = (struct loop_fd){ .fd = fd, .fn = client_waits };
	if (bind_socket(c, fd, c->cfg->path, err) < 0)
		return -err->code;
	if (listen(fd, BACKLOG) < 0)
		return err_sys(err, errno, "%s socket %s: cannot listen", c->what, c->cfg->path);
	return loop_add_fd(c->loop, &c->listener, 0, err);
}

void chardev_unlisten(struct chardev *c)
{
	struct stat st;

	free(c->keep);
	if (c->listener.fd < 0)
		return;
	loop_del_fd(&c->listener);
	close(c->listener.fd);
	if (c->bound_ino != 0 && lstat(c->cfg->path, &st) == 0 && st.st_ino == c->bound_ino &&
	    st.st_dev == c->bound_dev)
		unlink(c->cfg->path);
}
