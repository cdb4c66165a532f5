// SPDX-License-Identifier: Apache-2.0
/*
 * Console backends.
 *
 * Theory of operation. Output: the serial port hands over what the guest printed; it is
 * written without blocking, and what a slow reader does not take stays in the port,
 * whose transmitter then looks busy to the guest. Input: bytes read from the host go to
 * the port as far as it has room; while there is a rest, nothing more is read. So in
 * both directions nothing is lost and nothing grows.
 *
 * Standard streams may be shared with other processes, so O_NONBLOCK is not set on
 * them: they are opened again through /proc/self/fd, which gives terminals and pipes
 * an open file of our own. Where that fails (sockets, another user's terminal) output
 * is written in small pieces when poll says there is room.
 *
 * Only a terminal gets raw mode and the escape character: Ctrl-a x ends the VM, Ctrl-a b
 * sends a break (magic SysRq), Ctrl-a h helps, Ctrl-a Ctrl-a sends Ctrl-a.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "vmm/console.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define ESCAPE	      0x01 /* Ctrl-a */
#define INPUT_MAX     4096
#define SMALL_PIECE   256 /* what a writable pipe or terminal takes without blocking */
#define DRAIN_WAIT_MS 10000

struct console {
	struct serial_backend be;
	struct console_ops ops;
	struct loop *loop;
	struct serial *serial;
	struct loop_fd in, out;
	struct loop_work read_more; /* for input that epoll cannot watch */
	bool in_pollable, out_pollable, out_nonblock, out_dead;
	bool own_in, own_out;	      /* descriptors to close */
	uint8_t input[1 + INPUT_MAX]; /* read behind the first, see filter_escapes() */
	size_t input_len, input_done; /* bytes read, bytes passed on */
	bool tty, raw, escaped;
	int pty_slave;	     /* kept open so that the pty has no hang-ups */
	const char *created; /* file made by us; removed if the VM never runs */
	struct termios saved;
};

/* Output */

static size_t write_some(struct console *c, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct pollfd p = { .fd = c->out.fd, .events = POLLOUT };
		size_t piece = len - done;
		ssize_t n;

		if (!c->out_nonblock) {
			if (poll(&p, 1, 0) <= 0)
				break;
			if (piece > SMALL_PIECE)
				piece = SMALL_PIECE;
		}
		n = write(c->out.fd, data + done, piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* The guest must not stand still because nobody reads any more. */
			log_warn("console: cannot write: %s; the rest is dropped",
				 strerrordesc_np(errno));
			c->out_dead = true;
			return len;
		}
		done += (size_t)n;
	}
	return done;
}

static size_t backend_write(struct serial_backend *be, const void *data, size_t len)
{
	struct console *c = (struct console *)be;
	size_t done = c->out_dead ? len : write_some(c, data, len);

	if (done > 0 && c->ops.printed != NULL)
		c->ops.printed(c->ops.owner, data, done);
	if (done < len && c->out_pollable)
		loop_mod_fd(&c->out, EPOLLOUT);
	return done;
}

static void output_ready(struct loop_fd *lfd, uint32_t events)
{
	struct console *c = container_of(lfd, struct console, out);

	(void)events;
	loop_mod_fd(lfd, 0);
	if (c->serial != NULL)
		serial_kick_tx(c->serial);
}

void console_drain(struct console *c, bool wait, int stop_fd)
{
	if (c->serial == NULL)
		return;
	while (serial_flush(c->serial) > 0) {
		struct pollfd p[] = { { .fd = c->out.fd, .events = POLLOUT },
				      { .fd = stop_fd, .events = POLLIN } };

		if (poll(p, 2, wait ? DRAIN_WAIT_MS : 0) <= 0 || p[1].revents != 0) {
			log_warn("console: the reader takes nothing; the last output is dropped");
			return;
		}
	}
}

/* Input */

static void help(void)
{
	static const char text[] = "\r\nCtrl-a x  end the VM\r\n"
				   "Ctrl-a b  send a break (magic SysRq)\r\n"
				   "Ctrl-a h  this text\r\n"
				   "Ctrl-a Ctrl-a  send Ctrl-a\r\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		return;
}

/*
 * Take the escape sequences out of input[1..len] and put what is left to the front. The
 * byte before it is room for an escape character that came with the read before.
 * Returns how much is left.
 */
static size_t filter_escapes(struct console *c, size_t len)
{
	size_t kept = 0;

	for (size_t i = 1; i <= len; i++) {
		uint8_t ch = c->input[i];

		if (!c->escaped && ch == ESCAPE) {
			c->escaped = true;
			continue;
		}
		if (!c->escaped) {
			c->input[kept++] = ch;
			continue;
		}
		c->escaped = false;
		switch (ch) {
		case 'x':
			if (c->ops.quit != NULL)
				c->ops.quit(c->ops.owner);
			break;
		case 'b':
			serial_break(c->serial);
			break;
		case 'h':
			help();
			break;
		case ESCAPE:
			c->input[kept++] = ESCAPE;
			break;
		default: /* not ours: as typed */
			c->input[kept++] = ESCAPE;
			c->input[kept++] = ch;
			break;
		}
	}
	return kept;
}

/* Pass on what was read. True: all of it went. */
static bool pass_on(struct console *c)
{
	c->input_done +=
		serial_input(c->serial, c->input + c->input_done, c->input_len - c->input_done);
	if (c->input_done < c->input_len)
		return false;
	c->input_done = c->input_len = 0;
	return true;
}

static void stop_reading(struct console *c)
{
	if (c->in_pollable)
		loop_mod_fd(&c->in, 0);
}

static void read_input(struct console *c)
{
	ssize_t n;

	if (c->serial == NULL || c->in.fd < 0)
		return;
	if (!pass_on(c)) {
		stop_reading(c); /* until rx_room */
		return;
	}
	n = read(c->in.fd, c->input + c->tty, INPUT_MAX);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* end of input: the guest's console stays, without a writer */
		if (c->pty_slave < 0)
			stop_reading(c);
		return;
	}
	c->input_len = c->tty ? filter_escapes(c, (size_t)n) : (size_t)n;
	if (!pass_on(c))
		stop_reading(c);
	else if (!c->in_pollable)
		loop_post(c->loop, &c->read_more);
}

static void input_ready(struct loop_fd *lfd, uint32_t events)
{
	(void)events;
	read_input(container_of(lfd, struct console, in));
}

static void read_more(struct loop_work *work)
{
	read_input(container_of(work, struct console, read_more));
}

static void backend_rx_room(struct serial_backend *be)
{
	struct console *c = (struct console *)be;

	if (c->serial == NULL || !pass_on(c))
		return;
	/* Standard input may block: it is read when epoll says so, not before. */
	if (c->in_pollable)
		loop_mod_fd(&c->in, EPOLLIN);
	else
		read_input(c);
}

/* Terminal */

static int raw_mode(struct console *c, struct err *err)
{
	struct termios t;

	if (tcgetattr(c->in.fd, &c->saved) < 0)
		return 0;
	/* In the background the terminal is not ours to change or read. */
	if (tcgetpgrp(c->in.fd) != getpgrp()) {
		stop_reading(c);
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

void console_restore_terminal(struct console *c)
{
	if (c == NULL || !c->raw)
		return;
	c->raw = false;
	log_set_raw(false);
	tcsetattr(c->in.fd, TCSANOW, &c->saved);
}

/* Opening */

/* An open file of our own for standard stream @fd, so that flags are ours too. */
static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static void open_stdio(struct console *c)
{
	struct stat st;
	int fd;

	c->in.fd = STDIN_FILENO;
	c->out.fd = STDOUT_FILENO;
	c->tty = isatty(STDIN_FILENO);
	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		c->in.fd = -1;
	if (fstat(STDOUT_FILENO, &st) < 0) {
		c->out_dead = true;
		return;
	}
	if (S_ISREG(st.st_mode)) {
		c->out_nonblock = true; /* never blocks for a reader; keeps its offset shared */
		return;
	}
	fd = reopen(STDOUT_FILENO, O_WRONLY);
	if (fd >= 0) {
		c->out.fd = fd;
		c->own_out = c->out_nonblock = true;
	}
}

static int open_file(struct console *c, const char *path, struct err *err)
{
	int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	c->out.fd = open(path, flags);
	if (c->out.fd < 0 && errno == ENOENT) {
		c->out.fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		c->created = c->out.fd >= 0 ? path : NULL;
	}
	if (c->out.fd < 0 && errno == ENXIO)
		return err_set(err, ENXIO,
			       "serial file %s: nobody reads this FIFO; start its reader first",
			       path);
	if (c->out.fd < 0)
		return err_sys(err, errno, "serial file %s: cannot open", path);
	c->own_out = c->out_nonblock = true;
	return 0;
}

static int open_pty(struct console *c, struct err *err)
{
	struct termios t;
	char name[64];
	int fd;

	fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_sys(err, errno, "serial pty: cannot open");
	c->in.fd = c->out.fd = fd;
	c->own_in = c->out_nonblock = true;
	if (grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, name, sizeof(name)) != 0)
		return err_sys(err, errno, "serial pty");
	c->pty_slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->pty_slave < 0)
		return err_sys(err, errno, "serial pty: cannot open %s", name);
	if (tcgetattr(c->pty_slave, &t) == 0) {
		cfmakeraw(&t);
		tcsetattr(c->pty_slave, TCSANOW, &t);
	}
	return 0;
}

/* Watch what epoll can watch; regular files and /dev/null are always ready. */
static int watch(struct console *c, struct err *err)
{
	struct err why;

	if (c->out.fd >= 0 && c->out.fd != c->in.fd) {
		int r = loop_add_fd(c->loop, &c->out, 0, &why);

		if (r < 0 && r != -EPERM && r != -EEXIST) {
			*err = why;
			return r;
		}
		c->out_pollable = r == 0;
	}
	return 0;
}

struct console *console_new(const struct serial_config *cfg, struct loop *loop,
			    const struct console_ops *ops, struct err *err)
{
	struct console *c = calloc(1, sizeof(*c));
	int r = 0;

	if (c == NULL) {
		err_set(err, ENOMEM, "no memory for the console");
		return NULL;
	}
	c->be = (struct serial_backend){ .write = backend_write, .rx_room = backend_rx_room };
	c->ops = *ops;
	c->loop = loop;
	c->in = (struct loop_fd){ .fd = -1, .fn = input_ready };
	c->out = (struct loop_fd){ .fd = -1, .fn = output_ready };
	c->read_more.fn = read_more;
	c->pty_slave = -1;
	switch (cfg->to) {
	case SERIAL_STDIO:
		open_stdio(c);
		break;
	case SERIAL_FILE:
		r = open_file(c, cfg->path, err);
		break;
	case SERIAL_PTY:
		r = open_pty(c, err);
		break;
	default:
		c->out_dead = true;
		break;
	}
	if (r == 0)
		r = watch(c, err);
	if (r < 0) {
		console_free(c);
		return NULL;
	}
	return c;
}

void console_free(struct console *c)
{
	if (c == NULL)
		return;
	console_restore_terminal(c);
	loop_del_fd(&c->in);
	loop_del_fd(&c->out);
	loop_unpost(c->loop, &c->read_more);
	if (c->pty_slave >= 0)
		close(c->pty_slave);
	if (c->own_in)
		close(c->in.fd);
	if (c->own_out)
		close(c->out.fd);
	if (c->created != NULL)
		unlink(c->created);
	free(c);
}

struct serial_backend *console_backend(struct console *c)
{
	return &c->be;
}

int console_attach(struct console *c, struct serial *serial, struct err *err)
{
	char name[64];
	int r;

	c->serial = serial;
	if (serial == NULL)
		return 0;
	c->created = NULL;
	/* Wanted even without --verbose: there is no other way to find it. */
	if (c->pty_slave >= 0 && ptsname_r(c->in.fd, name, sizeof(name)) == 0)
		log_warn("serial port is %s", name);
	if (c->in.fd < 0)
		return 0;
	r = loop_add_fd(c->loop, &c->in, EPOLLIN, err);
	if (r < 0 && r != -EPERM)
		return err_context(err, "console input");
	c->in_pollable = r == 0;
	if (!c->in_pollable)
		loop_post(c->loop, &c->read_more);
	return c->tty ? raw_mode(c, err) : 0;
}
