// SPDX-License-Identifier: Apache-2.0
/*
 * Runs in the guest, as /test: a program full of AF_VSOCK sockets, vsock(7), that does what the
 * other side (tests/boot/vsock-cases) asks for, until that says "quit".
 *
 * Ports it listens on:
 *	1000	exchange: read a hello, then BYTES bytes go each way, each side ends its direction
 *		by shutdown(2), and checks what it got to its last byte
 *	1001	hold: read and drop, until the other side ends it
 *	1002	commands, one line each, answered by one line:
 *		connect PORT N BYTES	N exchanges at once with port PORT of the host: "good N"
 *		refused PORT		a connection there: the name of the error
 *		held			"held OPEN ENDED": connections to 1001 so far
 *		quit			the end
 *	1003	flood: send without end, read and drop
 *
 * A hello is two numbers of 32 bits, ID and BYTES. The bytes of an exchange are a part of one table
 * that both sides make, from a place that depends on ID and the direction.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define CONNS_MAX  4096
#define BYTES_MAX  (1u << 20)
#define PLACES	   65536
#define PIECE	   65536
#define EXCHANGE   1000
#define HOLD	   1001
#define COMMANDS   1002
#define FLOOD	   1003
#define PATIENCE_S 100

enum kind { LISTENER, SERVER, CLIENT, HELD, COMMAND, FLOODER };

struct conn {
	int fd;
	enum kind kind;
	unsigned port;
	uint32_t hello[2]; /* id, bytes */
	size_t hello_done, sent, received;
	bool bad, sent_all;
	char line[128];
	size_t line_len;
};

static uint8_t table[PLACES + BYTES_MAX];
static int epfd;
/* What "connect" began, and who wants to know. */
static unsigned clients_left, clients_good;
static struct conn *asked_by;
static unsigned held_open, held_ended;

static const uint8_t *place(uint32_t id, unsigned way)
{
	return table + (id * 131 + way * 7919) % PLACES;
}

static void die(const char *what)
{
	printf("vmm-guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch(struct conn *c, uint32_t events, int op)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (epoll_ctl(epfd, op, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static struct conn *add(int fd, enum kind kind, unsigned port, uint32_t events)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		die("calloc");
	c->fd = fd;
	c->kind = kind;
	c->port = port;
	watch(c, events, EPOLL_CTL_ADD);
	return c;
}

static void answer(struct conn *c, const char *text)
{
	if (write(c->fd, text, strlen(text)) < 0)
		perror("answer");
}

static void end(struct conn *c)
{
	char text[64];

	close(c->fd);
	if (c->kind == HELD)
		held_ended++;
	if (c->kind == CLIENT) {
		clients_good += !c->bad && c->received == c->hello[1] && c->sent_all;
		if (--clients_left == 0 && asked_by != NULL) {
			snprintf(text, sizeof(text), "good %u\n", clients_good);
			answer(asked_by, text);
		}
	}
	free(c);
}

static int vsock(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

static void listen_at(unsigned port)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_ANY,
				    .svm_port = port };
	int fd = vsock();

	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, CONNS_MAX) < 0)
		die("listen");
	add(fd, LISTENER, port, EPOLLIN);
}

/* A connection to the host, perhaps not complete yet. */
static int connect_to(unsigned port, bool wait)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK,
				    .svm_cid = VMADDR_CID_HOST,
				    .svm_port = port };
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int fd = vsock();

	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (!wait)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static void accept_one(struct conn *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (l->port == EXCHANGE) {
		add(fd, SERVER, 0, EPOLLIN);
	} else if (l->port == HOLD) {
		held_open++;
		add(fd, HELD, 0, EPOLLIN);
	} else if (l->port == COMMANDS) {
		add(fd, COMMAND, 0, EPOLLIN);
	} else {
		add(fd, FLOODER, 0, EPOLLIN | EPOLLOUT);
	}
}

/* --- Exchanges --- */

static bool send_some(struct conn *c)
{
	const uint8_t *from = place(c->hello[0], c->kind == SERVER);
	ssize_t n;

	if (c->kind == CLIENT && c->hello_done < sizeof(c->hello)) {
		n = send(c->fd, (uint8_t *)c->hello + c->hello_done,
			 sizeof(c->hello) - c->hello_done, MSG_NOSIGNAL);
		if (n > 0)
			c->hello_done += (size_t)n;
	} else {
		n = send(c->fd, from + c->sent, c->hello[1] - c->sent, MSG_NOSIGNAL);
		if (n > 0)
			c->sent += (size_t)n;
	}
	if (n < 0 && errno != EAGAIN)
		return false;
	if (c->hello_done == sizeof(c->hello) && c->sent == c->hello[1] && !c->sent_all) {
		c->sent_all = true;
		shutdown(c->fd, SHUT_WR);
		watch(c, EPOLLIN, EPOLL_CTL_MOD);
	}
	return true;
}

static bool read_some(struct conn *c)
{
	static uint8_t buf[PIECE];
	ssize_t n;

	if (c->kind == SERVER && c->hello_done < sizeof(c->hello)) {
		n = read(c->fd, (uint8_t *)c->hello + c->hello_done,
			 sizeof(c->hello) - c->hello_done);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		c->hello_done += (size_t)n;
		if (c->hello_done == sizeof(c->hello)) {
			if (c->hello[1] > BYTES_MAX)
				return false;
			watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
		}
		return true;
	}
	n = read(c->fd, buf, sizeof(buf));
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	if ((size_t)n > c->hello[1] - c->received ||
	    memcmp(buf, place(c->hello[0], c->kind == CLIENT) + c->received, (size_t)n) != 0)
		c->bad = true;
	else
		c->received += (size_t)n;
	return !c->bad;
}

static bool exchange(struct conn *c, uint32_t events)
{
	if ((events & EPOLLOUT) != 0 && !send_some(c))
		return false;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
		return true;
	if (read_some(c))
		return true;
	/* The other side has ended; our own bytes may not be out yet. */
	if (c->bad || c->sent_all || c->received < c->hello[1])
		return false;
	watch(c, EPOLLOUT, EPOLL_CTL_MOD);
	return (events & EPOLLERR) == 0;
}

/* --- Commands --- */

static void command(struct conn *c, const char *line)
{
	unsigned port, n, bytes;
	char text[128];

	if (sscanf(line, "connect %u %u %u", &port, &n, &bytes) == 3 && bytes <= BYTES_MAX) {
		asked_by = c;
		clients_good = 0;
		clients_left = n;
		for (unsigned i = 0; i < n; i++) {
			int fd = connect_to(port, false);
			struct conn *client;

			if (fd < 0)
				die("connect");
			client = add(fd, CLIENT, 0, EPOLLIN | EPOLLOUT);
			client->hello[0] = i;
			client->hello[1] = bytes;
		}
	} else if (sscanf(line, "refused %u", &port) == 1) {
		int fd = connect_to(port, true);

		snprintf(text, sizeof(text), "%s\n", fd < 0 ? strerrorname_np(errno) : "connected");
		answer(c, text);
		if (fd >= 0)
			close(fd);
	} else if (strcmp(line, "held") == 0) {
		snprintf(text, sizeof(text), "held %u %u\n", held_open, held_ended);
		answer(c, text);
	} else if (strcmp(line, "quit") == 0) {
		puts("vmm-guest: quits");
		exit(0);
	} else {
		answer(c, "what?\n");
	}
}

static bool command_bytes(struct conn *c)
{
	char ch;
	ssize_t n = read(c->fd, &ch, 1);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	if (ch != '\n' && c->line_len < sizeof(c->line) - 1) {
		c->line[c->line_len++] = ch;
		return true;
	}
	c->line[c->line_len] = '\0';
	c->line_len = 0;
	command(c, c->line);
	return true;
}

static bool drop(struct conn *c)
{
	static uint8_t buf[PIECE];
	ssize_t n = read(c->fd, buf, sizeof(buf));

	return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool flood(struct conn *c, uint32_t events)
{
	if ((events & EPOLLOUT) != 0 && send(c->fd, table, PIECE, MSG_NOSIGNAL) < 0 &&
	    errno != EAGAIN)
		return false;
	return (events & EPOLLIN) == 0 || drop(c);
}

static bool serve(struct conn *c, uint32_t events)
{
	switch (c->kind) {
	case LISTENER:
		accept_one(c);
		return true;
	case SERVER:
	case CLIENT:
		return exchange(c, events);
	case HELD:
		return drop(c);
	case COMMAND:
		return command_bytes(c);
	default:
		return flood(c, events);
	}
}

int main(void)
{
	struct rlimit limit = { CONNS_MAX + 100, CONNS_MAX + 100 };
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof(table); i++) {
		x = x * 1664525 + 1013904223;
		table[i] = (uint8_t)(x >> 24);
	}
	setlinebuf(stdout);
	setrlimit(RLIMIT_NOFILE, &limit);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned port = EXCHANGE; port <= FLOOD; port++)
		listen_at(port);
	puts("vmm-guest: listens");
	for (;;) {
		struct epoll_event ev[64];
		int n = epoll_wait(epfd, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (!serve(c, ev[i].events))
				end(c);
		}
	}
}
