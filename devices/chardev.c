// SPDX-License-Identifier: Apache-2.0
/*
 * Character devices: input, output, the terminal. What they lead to is opened in
 * chardev_open.c and chardev_socket.c.
 *
 * Theory of operation. Output: the front hands over what the guest printed, from where it
 * is; it is written without blocking, and what a slow reader does not take stays in the
 * front, which then looks busy to the guest. Input: bytes read from the host go to the
 * front as far as it has room; while there is a rest, nothing more is read. So in both
 * directions nothing is lost and nothing grows.
 *
 * Of a terminal more is read while the guest takes nothing, up to what the buffer holds,
 * as the escape character must be heard.
 *
 * Calls go one way at a time: back->write() and back->rx_room() never call the front, so
 * that it may hold its mutex; what follows from them comes later, from the loop.
 *
 * Standard streams may be shared with other processes, so O_NONBLOCK is not set on
 * them: they are opened again through /proc/self/fd, which gives terminals and pipes
 * an open file of our own. Where that fails (sockets, another user's terminal) output
 * is written in small pieces when poll says there is room.
 *
 * Only a terminal gets raw mode and the escape character: Ctrl-a x ends the VM, Ctrl-a b
 * sends a break (magic SysRq), Ctrl-a h helps, Ctrl-a Ctrl-a sends Ctrl-a.
 *
 * #syscalls: read write writev poll ioctl
 * #ioctls: TIOCGWINSZ
 * #ioctls main vcpu: TCGETS TCSETS
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "devices/chardev_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define ESCAPE	      0x01 /* Ctrl-a */
#define SMALL_PIECE   256  /* what a writable pipe or terminal takes without blocking */
#define DRAIN_WAIT_MS 10000

/* Output */

/* The first @done bytes of *@iov are written; empty segments behind them go too. */
static void took(struct chardev *c, struct iovec **iov, unsigned *n, size_t done)
{
	struct chardevs *all = c->all;

	while (*n > 0 && (done > 0 || (*iov)->iov_len == 0)) {
		struct iovec *v = *iov;
		size_t len = done < v->iov_len ? done : v->iov_len;

		if (c->console && all->printed != NULL && len > 0)
			all->printed(all->owner, &c->mark, v->iov_base, len);
		v->iov_base = (char *)v->iov_base + len;
		v->iov_len -= len;
		done -= len;
		if (v->iov_len == 0) {
			++*iov;
			--*n;
		}
	}
}

/* Nobody takes it. */
static size_t swallow(struct chardev *c, struct iovec *iov, unsigned n)
{
	size_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		if (c->keep != NULL)
			chardev_keep(c, iov[i].iov_base, iov[i].iov_len);
		total += iov[i].iov_len;
	}
	took(c, &iov, &n, total);
	return total;
}

static ssize_t write_now(struct chardev *c, const struct iovec *iov, unsigned n)
{
	struct pollfd p = { .fd = c->out.fd, .events = POLLOUT };

	if (c->out_nonblock)
		return writev(c->out.fd, iov, n < IOV_MAX ? (int)n : IOV_MAX);
	if (poll(&p, 1, 0) <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(c->out.fd, iov->iov_base,
		     iov->iov_len < SMALL_PIECE ? iov->iov_len : SMALL_PIECE);
}

static size_t write_some(struct chardev *c, struct iovec *iov, unsigned n)
{
	size_t total = 0;

	took(c, &iov, &n, 0);
	while (n > 0) {
		ssize_t done = write_now(c, iov, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN)
			break;
		if (done < 0) {
			/* The guest must not stand still because nobody reads any more. */
			if (c->keep == NULL)
				log_warn("%s: cannot write: %s; the rest is dropped", c->what,
					 strerrordesc_np(errno));
			c->out_dead = true;
			return total + swallow(c, iov, n);
		}
		total += (size_t)done;
		took(c, &iov, &n, (size_t)done);
	}
	if (n > 0 && c->out_pollable)
		loop_mod_fd(&c->out, EPOLLOUT);
	return total;
}

static size_t back_write(struct chardev_back *back, struct iovec *iov, unsigned n)
{
	struct chardev *c = container_of(back, struct chardev, back);

	if (!c->out_dead && !chardev_write_kept(c))
		return 0;
	return c->out_dead ? swallow(c, iov, n) : write_some(c, iov, n);
}

static void output_ready(struct loop_fd *lfd, uint32_t events)
{
	struct chardev *c = container_of(lfd, struct chardev, out);

	(void)events;
	loop_mod_fd(lfd, 0);
	(void)chardev_write_kept(c);
	if (c->back.front != NULL)
		c->back.front->tx_room(c->back.front);
}

/* Returns 0 when nothing is left. */
static size_t flush(struct chardev *c)
{
	struct chardev_front *front = chardev_back(c)->front;
	size_t left = 0;

	if (front != NULL)
		left = front->flush(front);
	return chardev_write_kept(c) ? left : 1;
}

void chardevs_flush(struct chardevs *all)
{
	for (struct chardev *c = all->first; c != NULL; c = c->next)
		(void)flush(c);
}

void chardevs_clear_marks(struct chardevs *all)
{
	for (struct chardev *c = all->first; c != NULL; c = c->next)
		c->mark = 0;
}

static void drain(struct chardev *c, bool wait, int stop_fd)
{
	while (flush(c) > 0) {
		struct pollfd p[] = { { .fd = c->out.fd, .events = POLLOUT },
				      { .fd = stop_fd, .events = POLLIN } };

		if (poll(p, 2, wait ? DRAIN_WAIT_MS : 0) <= 0 || p[1].revents != 0) {
			log_warn("%s: the reader takes nothing; the last output is dropped",
				 c->what);
			return;
		}
	}
}

void chardevs_drain(struct chardevs *all, bool wait, int stop_fd)
{
	for (struct chardev *c = all->first; c != NULL; c = c->next)
		drain(c, wait, stop_fd);
}

/* Input */

static void help(void)
{
	static const char text[] = "\r\nCtrl-a x  end the VM\r\n"
				   "Ctrl-a b  send a break (magic SysRq)\r\n"
				   "Ctrl-a n  send an NMI to all CPUs\r\n"
				   "Ctrl-a h  this text\r\n"
				   "Ctrl-a Ctrl-a  send Ctrl-a\r\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		return;
}

/*
 * Take the escape sequences out of the @len bytes that were read behind the input waiting,
 * one byte further: that is room for an escape character that came with the read before.
 */
static void filter_escapes(struct chardev *c, size_t len)
{
	struct chardev_front *front = c->back.front;
	const uint8_t *in = c->input + c->input_len + 1, *end = in + len;
	uint8_t *out = c->input + c->input_len;

	for (; in < end; in++) {
		uint8_t ch = *in;

		if (!c->escaped && ch == ESCAPE) {
			c->escaped = true;
			continue;
		}
		if (!c->escaped) {
			*out++ = ch;
			continue;
		}
		c->escaped = false;
		switch (ch) {
		case 'x':
			if (c->all->quit != NULL)
				c->all->quit(c->all->owner);
			break;
		case 'n':
			if (c->all->nmi != NULL)
				c->all->nmi(c->all->owner);
			break;
		case 'b':
			if (front->send_break != NULL)
				front->send_break(front);
			else if (front->break_char != 0)
				*out++ = front->break_char;
			break;
		case 'h':
			help();
			break;
		case ESCAPE:
			*out++ = ESCAPE;
			break;
		default: /* not ours: as typed */
			*out++ = ESCAPE;
			*out++ = ch;
			break;
		}
	}
	c->input_len = (size_t)(out - c->input);
}

bool chardevs_sysrq(struct chardevs *all, char key)
{
	struct chardev_front *front;
	struct chardev *to = NULL;

	for (struct chardev *c = all->first; c != NULL; c = c->next)
		if (c->console && c->back.front != NULL &&
		    (to == NULL || (c->cfg->to == CHARDEV_STDIO && to->cfg->to != CHARDEV_STDIO)))
			to = c;
	if (to == NULL)
		return false;
	front = to->back.front;
	if (front->send_break != NULL)
		front->send_break(front);
	else if (front->break_char == 0 || front->input(front, &front->break_char, 1) != 1)
		return false;
	return front->input(front, &key, 1) == 1;
}

/* Told when what was read before is passed on. */
static void end_input(struct chardev *c)
{
	struct chardev_front *front = c->back.front;

	c->in_ended = true;
	if (front != NULL && front->ended != NULL && c->input_len == 0)
		front->ended(front);
}

/* Pass on what was read, if the front takes it. */
static void pass_on(struct chardev *c)
{
	if (c->front_full || c->input_len == 0)
		return;
	c->input_done += c->back.front->input(c->back.front, c->input + c->input_done,
					      c->input_len - c->input_done);
	c->front_full = c->input_done < c->input_len;
	if (c->front_full)
		return;
	c->input_done = c->input_len = 0;
	if (c->in_ended)
		end_input(c);
}

static bool wants_input(const struct chardev *c)
{
	if (!c->running || c->back.front == NULL || c->in.fd < 0 || c->in_ended)
		return false;
	return c->tty ? c->input_len - c->input_done < CHARDEV_INPUT_MAX : !c->front_full;
}

void chardev_watch_input(struct chardev *c)
{
	bool wanted = wants_input(c);
	/* That a client left must be heard always, but once. */
	uint32_t idle = c->keep != NULL && !c->left ? EPOLLHUP : 0;

	if (c->in_pollable)
		loop_mod_fd(&c->in, wanted ? EPOLLIN : idle);
	else if (wanted)
		loop_post(c->loop, &c->read_more);
}

static void read_input(struct chardev *c)
{
	size_t waiting = c->input_len - c->input_done;
	ssize_t n;

	if (c->input_done > 0) { /* terminal: room behind what waits */
		memmove(c->input, c->input + c->input_done, waiting);
		c->input_done = 0;
		c->input_len = waiting;
	}
	n = read(c->in.fd, c->input + waiting + c->tty, CHARDEV_INPUT_MAX - waiting);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* end of input: the guest's console stays, without a writer */
		if (c->keep != NULL)
			chardev_client_ended(c);
		else if (c->pty_slave < 0)
			end_input(c);
	} else if (c->tty) {
		filter_escapes(c, (size_t)n);
	} else {
		c->input_len += (size_t)n;
	}
	pass_on(c);
}

static void input_ready(struct loop_fd *lfd, uint32_t events)
{
	struct chardev *c = container_of(lfd, struct chardev, in);

	if (wants_input(c))
		read_input(c);
	else if (c->keep != NULL && (events & (EPOLLHUP | EPOLLERR)))
		chardev_client_left(c);
	chardev_watch_input(c);
}

static void read_more(struct loop_work *work)
{
	struct chardev *c = container_of(work, struct chardev, read_more);

	if (wants_input(c))
		read_input(c);
	chardev_watch_input(c);
}

static void has_room(struct loop_work *work)
{
	struct chardev *c = container_of(work, struct chardev, room_work);

	c->front_full = false;
	if (c->back.front == NULL)
		return;
	pass_on(c);
	/* Standard input may block: it is read when epoll says so, not before. */
	chardev_watch_input(c);
}

static void back_rx_room(struct chardev_back *back)
{
	struct chardev *c = container_of(back, struct chardev, back);

	loop_post(c->loop, &c->room_work);
}

/* Terminal */

static int raw_mode(struct chardev *c, struct err *err)
{
	struct termios t;

	if (tcgetattr(c->in.fd, &c->saved) < 0)
		return 0;
	/* In the background the terminal is not ours to change or read. */
	if (tcgetpgrp(c->in.fd) != getpgrp()) {
		c->in_ended = true;
		return 0;
	}
	t = c->saved;
	cfmakeraw(&t);
	if (tcsetattr(c->in.fd, TCSANOW, &t) < 0)
		return err_sys(err, errno, "cannot set the terminal to raw mode");
	c->raw = true;
	log_set_raw(true);
	return 0;
}

static void restore_terminal(struct chardev *c)
{
	if (!c->raw)
		return;
	c->raw = false;
	log_set_raw(false);
	tcsetattr(c->in.fd, TCSANOW, &c->saved);
}

void chardevs_restore_terminal(struct chardevs *all)
{
	for (struct chardev *c = all->first; c != NULL; c = c->next)
		restore_terminal(c);
}

bool chardev_size(const struct chardev *c, uint16_t *cols, uint16_t *rows)
{
	struct winsize ws;

	if (c->cfg->to != CHARDEV_STDIO && c->cfg->to != CHARDEV_PTY)
		return false;
	if (ioctl(c->out.fd, TIOCGWINSZ, &ws) < 0 && ioctl(c->in.fd, TIOCGWINSZ, &ws) < 0)
		return false;
	*cols = ws.ws_col;
	*rows = ws.ws_row;
	return ws.ws_col > 0 && ws.ws_row > 0;
}

void chardevs_resized(struct chardevs *all)
{
	for (struct chardev *c = all->first; c != NULL; c = c->next) {
		struct chardev_front *front = c->back.front;

		if (c->cfg->to == CHARDEV_STDIO && front != NULL && front->changed != NULL)
			front->changed(front);
	}
}

/* Life */

static int start(struct chardev *c, struct err *err)
{
	char name[64];
	int r;

	c->created = NULL;
	c->running = true;
	c->front_full = c->back.front != NULL && c->back.front->starts_full;
	/* Wanted even without --verbose: there is no other way to find it. */
	if (c->pty_slave >= 0 && ptsname_r(c->in.fd, name, sizeof(name)) == 0)
		log_warn("%s port is %s", c->what, name);
	if (c->keep != NULL)
		loop_mod_fd(&c->listener, EPOLLIN);
	if (c->in.fd < 0)
		return 0;
	r = loop_add_fd(c->loop, &c->in, 0, err);
	if (r < 0 && r != -EPERM)
		return err_context(err, "%s: input", c->what);
	c->in_pollable = r == 0;
	if (c->tty && raw_mode(c, err) < 0)
		return -err->code;
	chardev_watch_input(c);
	return 0;
}

int chardevs_start(struct chardevs *all, struct err *err)
{
	for (struct chardev *c = all->first; c != NULL; c = c->next)
		if (start(c, err) < 0)
			return -err->code;
	return 0;
}

/* Watch what epoll can watch; regular files and /dev/null are always ready. */
static int watch_output(struct chardev *c, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	if (c->out.fd < 0)
		return 0;
	r = loop_add_fd(c->loop, &c->out, 0, &why);
	c->out_pollable = r == 0;
	if (r == 0 || r == -EPERM)
		return 0;
	*err = why;
	return err_context(err, "%s: output", c->what);
}

struct chardev *chardev_new(const struct chardev_config *cfg, const char *what, bool console,
			    struct chardevs *all, struct loop *loop, struct err *err)
{
	struct chardev *c = calloc(1, sizeof(*c));
	struct chardev **end;

	if (c == NULL) {
		err_set(err, ENOMEM, "no memory for the %s port", what);
		return NULL;
	}
	c->back = (struct chardev_back){ .write = back_write, .rx_room = back_rx_room };
	c->loop = loop;
	c->cfg = cfg;
	c->console = console;
	snprintf(c->what, sizeof(c->what), "%s", what);
	c->in = (struct loop_fd){ .fd = -1, .fn = input_ready };
	c->out = (struct loop_fd){ .fd = -1, .fn = output_ready };
	c->listener.fd = c->listening.fd = -1;
	c->room_work.fn = has_room;
	c->read_more.fn = read_more;
	c->pty_slave = -1;
	/* At the end of the list: what is first said first. */
	for (end = &all->first; *end != NULL; end = &(*end)->next)
		;
	*end = c;
	c->all = all;
	if (chardev_open(c, err) < 0 || watch_output(c, err) < 0) {
		chardev_free(c);
		return NULL;
	}
	return c;
}

void chardev_free(struct chardev *c)
{
	struct chardev **link;

	if (c == NULL)
		return;
	for (link = &c->all->first; *link != c; link = &(*link)->next)
		;
	*link = c->next;
	restore_terminal(c);
	loop_del_fd(&c->in);
	loop_del_fd(&c->out);
	loop_unpost(c->loop, &c->read_more);
	loop_unpost(c->loop, &c->room_work);
	if (c->pty_slave >= 0)
		close(c->pty_slave);
	if (c->own_in && c->in.fd >= 0)
		close(c->in.fd);
	if (c->own_out && c->out.fd >= 0)
		close(c->out.fd);
	if (c->created != NULL)
		unlink(c->created);
	chardev_unlisten(c);
	free(c);
}

struct chardev_back *chardev_back(struct chardev *c)
{
	return c->cfg->to == CHARDEV_GIVEN ? c->cfg->given : &c->back;
}

bool chardev_is_open(const struct chardev *c)
{
	return c->keep == NULL || c->in.fd >= 0;
}
