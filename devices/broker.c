// SPDX-License-Identifier: Apache-2.0
/*
 * The broker: see broker.h.
 *
 * Theory of operation. A fork of the monitor, made when all is built and before the sandbox, if
 * anything was allowed at all. It keeps the host's files, its rules and one socket. The monitor
 * asks (a message each, SOCK_SEQPACKET, descriptors with it by SCM_RIGHTS) and waits for the
 * answer.
 *
 * The threat is a monitor that a guest has taken over. It can have done what a rule says, with
 * descriptors of its own: so rules say all there is to a program's arguments, or, where they
 * cannot, that no option may follow; sockets are named in full, but for a number. Messages are
 * of fixed form, and what does not fit ends the broker, and with it all that it started.
 *
 * It ends when the monitor does, however that ends; then it removes what sockets it was to remove.
 *
 * #syscalls: sendmsg recvmsg poll read close
 * #syscalls spawn: close_range socket connect lstat unlink
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/unix_listen.h"
#include "vmm/base/log.h"

#define PATIENCE_MS  10000
#define CHILDREN_MAX 64
#define EXTRA_MAX    128   /* arguments */
#define TEXT_MAX     16384 /* bytes of them */
#define FDS_MAX	     CHILD_FDS_MAX

enum { ASK_RUN, ASK_REAP, ASK_CONNECT, ASK_REMOVE };

struct request {
	uint32_t what, rule; /* REAP: the child's number */
	uint32_t number;     /* CONNECT */
	uint32_t nextra, len;
	int32_t death;
	uint32_t output;
	char text[TEXT_MAX]; /* RUN: [len], @nextra arguments, each with its NUL */
};
#define REQUEST offsetof(struct request, text)

struct answer {
	int32_t code; /* 0 or an errno value */
	int32_t id;   /* RUN */
	uint32_t ended;
	char text[ERR_MSG_MAX];
};

/* --- Messages with descriptors --- */

/* Send @len bytes at @data and @nfds descriptors. 0 or -errno. */
static int put(int socket, const void *data, size_t len, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nfds > 0) {
		memset(&control, 0, sizeof(control));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, nfds * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
	}
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : -EPIPE;
}

/* The descriptors that came with @msg. False: too many, which are closed. */
static bool take_fds(struct msghdr *msg, int fds[FDS_MAX], unsigned *nfds)
{
	bool good = (msg->msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0;

	*nfds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n && *nfds < FDS_MAX; i++)
			memcpy(&fds[(*nfds)++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	for (unsigned i = 0; !good && i < *nfds; i++)
		close(fds[i]);
	return good;
}

/* Bytes of a message of at most @size, with the descriptors in it; 0: the end; or -errno. */
static ssize_t get(int socket, void *data, size_t size, int fds[FDS_MAX], unsigned *nfds)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { data, size };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n;

	*nfds = 0;
	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	return take_fds(&msg, fds, nfds) ? n : -EPROTO;
}

/* --- The process --- */

struct life {
	struct broker *b;
	struct child child[CHILDREN_MAX];
};

static const struct broker_rule *rule_of(const struct broker *b, uint32_t n, unsigned kinds)
{
	return n < b->n && (1u << b->rule[n].kind & kinds) != 0 ? &b->rule[n] : NULL;
}

/* The arguments after those of @rule, in argv[n ...]. False: these must not be. */
static bool add_extra(const struct broker_rule *rule, struct request *r, const char **argv,
		      unsigned n)
{
	char *at = r->text, *end = r->text + r->len;

	if (r->nextra > 0 && (!rule->more || r->len == 0 || end[-1] != '\0'))
		return false;
	for (unsigned i = 0; i < r->nextra; i++) {
		if (at >= end || *at == '-')
			return false;
		argv[n + i] = at;
		at += strlen(at) + 1;
	}
	argv[n + r->nextra] = NULL;
	return at == end;
}

/* Start it. False: that was not to be asked. */
static bool serve_run(struct life *l, struct request *r, const int *fds, unsigned nfds,
		      struct answer *a, int out[2])
{
	const struct broker_rule *rule = rule_of(l->b, r->rule, 1 << BROKER_RUN);
	const char *argv[EXTRA_MAX + 64];
	struct err err = ERR_INIT;
	struct child *c = NULL;
	unsigned n = 0;

	while (rule != NULL && rule->argv[n] != NULL && n < 63) {
		argv[n] = rule->argv[n];
		n++;
	}
	if (rule == NULL || r->nextra > EXTRA_MAX || !add_extra(rule, r, argv, n))
		return false;
	for (int i = 0; i < CHILDREN_MAX && c == NULL; i++) {
		if (l->child[i].pidfd.fd >= 0)
			continue;
		c = &l->child[i];
		a->id = i;
	}
	if (c == NULL) {
		a->code = EAGAIN;
		snprintf(a->text, sizeof(a->text), "cannot start %s: too many run", argv[0]);
		return true;
	}
	c->output = r->output != 0;
	a->code = -child_start(c, argv, fds, nfds, r->death, &err);
	snprintf(a->text, sizeof(a->text), "%s", err.msg);
	out[0] = c->pidfd.fd;
	out[1] = c->stderr_fd;
	return true;
}

/* By @rule: see broker_connect(). */
static int connect_by(const struct broker_rule *rule, uint32_t number, int fd)
{
	struct sockaddr_un addr;
	int n;

	if (rule->path == NULL) /* only by descriptor: of a socket, as for others it fails */
		n = snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", fd);
	else if (rule->kind == BROKER_CONNECT)
		n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", rule->path);
	else
		n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", rule->path, number);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	return unix_connect(addr.sun_path);
}

static bool serve_connect(struct life *l, const struct request *r, const int *fds, unsigned nfds,
			  struct answer *a, int out[2])
{
	const struct broker_rule *rule =
		rule_of(l->b, r->rule, 1 << BROKER_CONNECT | 1 << BROKER_CONNECT_NUMBER);

	if (rule == NULL)
		return false;
	out[0] = connect_by(rule, r->number, nfds == 1 ? fds[0] : -1);
	if (out[0] < 0) {
		a->code = -out[0];
		out[0] = -1;
	}
	return true;
}

static void remove_socket(struct broker_rule *rule)
{
	unix_remove(rule->path, rule->dev, rule->ino);
	rule->ino = 0;
}

/* One request of @len bytes. False: it was none, or there is nobody to answer. */
static bool serve(struct life *l, struct request *r, size_t len, const int *fds, unsigned nfds)
{
	struct answer a = { .id = -1 };
	const struct broker_rule *rule;
	int out[2] = { -1, -1 };
	unsigned nout = 0;
	bool good = true;

	if (len < REQUEST || len != REQUEST + r->len)
		return false;
	switch (r->what) {
	case ASK_RUN:
		good = serve_run(l, r, fds, nfds, &a, out);
		break;
	case ASK_REAP:
		a.ended = r->rule < CHILDREN_MAX &&
			  child_reap(&l->child[r->rule], a.text, sizeof(a.text));
		break;
	case ASK_CONNECT:
		good = serve_connect(l, r, fds, nfds, &a, out);
		break;
	default:
		rule = rule_of(l->b, r->rule, 1 << BROKER_REMOVE);
		good = r->what == ASK_REMOVE && rule != NULL;
		if (good)
			remove_socket(&l->b->rule[r->rule]);
	}
	while (nout < 2 && out[nout] >= 0)
		nout++;
	good = good && put(l->b->socket, &a, sizeof(a), out, nout) == 0;
	/* The monitor has them now: a child's we need to hear of its end. */
	if (r->what == ASK_CONNECT && out[0] >= 0)
		close(out[0]);
	return good;
}

static int broker_main(void *arg, int socket, pid_t parent)
{
	struct broker *b = arg;
	struct life *l = calloc(1, sizeof(*l));
	struct request *r = malloc(sizeof(*r));
	int fds[FDS_MAX], keep = socket, null;
	bool good = l != NULL && r != NULL;
	unsigned nfds;
	sigset_t all;

	(void)prctl(PR_SET_NAME, "broker"); /* only for people who look */
	/* So those are for the monitor. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (keep != STDERR_FILENO + 1)
		keep = dup2(socket, STDERR_FILENO + 1);
	/* Whoever reads what the monitor writes shall not wait for us. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		good = dup2(null, fd) >= 0 && good;
	if (keep < 0 || close_range((unsigned)keep + 1, ~0U, 0) < 0 || getppid() != parent)
		return 1;
	b->socket = keep;
	for (unsigned i = 0; good && i < CHILDREN_MAX; i++)
		l->child[i] = (struct child)CHILD_INIT(NULL);
	l->b = b;
	while (good) {
		ssize_t n = get(keep, r, sizeof(*r), fds, &nfds);

		good = n > 0 && serve(l, r, (size_t)n, fds, nfds);
		while (n > 0 && nfds > 0)
			close(fds[--nfds]);
	}
	for (unsigned i = 0; i < b->n; i++)
		if (b->rule[i].kind == BROKER_REMOVE)
			remove_socket(&b->rule[i]);
	for (unsigned i = 0; l != NULL && i < CHILDREN_MAX; i++)
		child_end(&l->child[i], PATIENCE_MS);
	return 0;
}

/* --- The monitor --- */

void broker_init(struct broker *b)
{
	*b = (struct broker){ .process = CHILD_INIT(NULL), .socket = -1 };
}

int broker_allow(struct broker *b, const struct broker_rule *rule, struct err *err)
{
	if (b->n == BROKER_RULES_MAX)
		return err_set(err, EMFILE, "too many programs and sockets");
	b->rule[b->n] = *rule;
	return (int)b->n++;
}

int broker_start(struct broker *b, struct err *err)
{
	if (b->n == 0)
		return 0;
	b->started = true;
	b->socket = child_fork(&b->process, broker_main, b, err);
	return b->socket < 0 ? err_context(err, "the broker") : 0;
}

void broker_stop(struct broker *b)
{
	if (b->socket >= 0)
		close(b->socket);
	child_wait(&b->process, PATIENCE_MS);
	broker_init(b);
}

/* Ask, and wait for the answer and its descriptors. 0 or -errno: the broker is gone. */
static int ask(struct broker *b, const struct request *r, const int *fds, unsigned nfds,
	       struct answer *a, int out[FDS_MAX], unsigned *nout)
{
	struct pollfd pfd = { .fd = b->socket, .events = POLLIN };

	*nout = 0;
	if (b->socket < 0)
		return -EPIPE;
	if (put(b->socket, r, REQUEST + r->len, fds, nfds) == 0 && poll(&pfd, 1, PATIENCE_MS) > 0 &&
	    get(b->socket, a, sizeof(*a), out, nout) == sizeof(*a)) {
		a->text[sizeof(a->text) - 1] = '\0';
		return 0;
	}
	log_error("the process that starts programs and connects to sockets is gone");
	close(b->socket);
	b->socket = -1;
	return -EPIPE;
}

int broker_connect(struct broker *b, int rule, uint32_t number, int fd)
{
	struct request r = { .what = ASK_CONNECT, .rule = (uint32_t)rule, .number = number };
	int out[FDS_MAX], code;
	struct answer a;
	unsigned n;

	if (!b->started)
		return connect_by(&b->rule[rule], number, fd);
	code = ask(b, &r, &fd, fd >= 0 ? 1 : 0, &a, out, &n);
	if (code < 0)
		return code;
	if (a.code == 0 && n == 1)
		return out[0];
	while (n > 0)
		close(out[--n]);
	return a.code > 0 ? -a.code : -EPROTO;
}

void broker_remove(struct broker *b, int rule)
{
	struct request r = { .what = ASK_REMOVE, .rule = (uint32_t)rule };
	int out[FDS_MAX];
	struct answer a;
	unsigned n;

	(void)ask(b, &r, NULL, 0, &a, out, &n);
}

int broker_run(struct broker *b, int rule, const char *const *extra, const int *fds, unsigned nfds,
	       int death, bool output, struct child *c, struct err *err)
{
	const char *name = b->rule[rule].argv[0];
	struct request r = {
		.what = ASK_RUN, .rule = (uint32_t)rule, .death = death, .output = output
	};
	int out[FDS_MAX];
	struct answer a;
	unsigned n;

	for (; *extra != NULL; extra++) {
		size_t len = strlen(*extra) + 1;

		if (len > TEXT_MAX - r.len)
			return err_set(err, E2BIG, "cannot start %s: too many arguments", name);
		memcpy(r.text + r.len, *extra, len);
		r.len += (uint32_t)len;
		r.nextra++;
	}
	if (ask(b, &r, fds, nfds, &a, out, &n) < 0)
		return err_set(err, EPIPE, "cannot start %s", name);
	if (a.code == 0 && n == 2) {
		c->pidfd.fd = out[0];
		c->stderr_fd = out[1];
		c->id = a.id;
		return 0;
	}
	while (n > 0)
		close(out[--n]);
	return err_set(err, a.code > 0 ? a.code : EPROTO, "%s", a.text);
}

bool broker_reap(struct broker *b, int id, char *how, size_t size)
{
	struct request r = { .what = ASK_REAP, .rule = (uint32_t)id };
	int out[FDS_MAX];
	struct answer a;
	unsigned n;

	if (ask(b, &r, NULL, 0, &a, out, &n) < 0 || a.ended == 0)
		return false;
	snprintf(how, size, "%s", a.text);
	return true;
}
