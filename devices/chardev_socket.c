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
 * The socket's file has mode 0600: who may connect owns the guest's console.
 *
 * #syscalls: accept4 fcntl close poll writev
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

int chardev_listen(struct chardev *c, struct err *err)
{
	c->own_in = c->own_out = c->out_nonblock = true;
	c->out_dead = true;
	c->keep = malloc(CHARDEV_KEEP);
	if (c->keep == NULL)
		return err_set(err, ENOMEM, "%s socket %s: no memory", c->what, c->cfg->path);
	if (unix_listen(&c->listening, c->what, c->cfg->path, BACKLOG, c->all->broker, err) < 0)
		return -err->code;
	c->listener = (struct loop_fd){ .fd = c->listening.fd, .fn = client_waits };
	return loop_add_fd(c->loop, &c->listener, 0, err);
}

void chardev_unlisten(struct chardev *c)
{
	free(c->keep);
	loop_del_fd(&c->listener);
	unix_listen_end(&c->listening);
}
