// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device: the host's end, Unix stream sockets, unix(7). The protocol is the one that
 * Firecracker's users know (docs/vsock.md there).
 *
 * Host to guest. A client connects to the socket of --vsock path= and writes "CONNECT <port>\n",
 * the decimal number of a port in the guest. When the guest's program accepts it reads "OK
 * <port>\n", the number of its own end, and from then on it is a stream; otherwise it reads the
 * end. The line is read without a byte of what follows. Lines may come slowly, or never: there are
 * VSOCK_LINES_MAX unfinished ones at most, further clients wait in the socket's backlog, and one
 * that is not complete after VSOCK_PATIENCE ends its client.
 *
 * Guest to host. A connection to port P of CID 2 goes to whoever listens at PATH_P.
 *
 * Sockets are non-blocking and watched edge-triggered: it costs no system call when a
 * connection must wait for its guest, and one that hung up does not keep the loop busy. Writing is
 * watched for only while there is something to write.
 *
 * Out of descriptors, clients wait in the backlog until some may be free (ACCEPT_LATER).
 *
 * Limits: no SOCK_SEQPACKET. A listener whose backlog is full refuses the guest's connection, as
 * AF_VSOCK would.
 *
 * #syscalls: accept4 recvfrom sendto sendmsg readv shutdown close epoll_ctl
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/vsock_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BACKLOG	     1024
#define ACCEPT_BATCH 64
#define ACCEPT_LATER 100000000ULL /* ns */
#define SUFFIX_MAX   11		  /* "_4294967295" */

/* --- Clients --- */

void vsock_unix_accept_update(struct vsock *vs)
{
	bool take = vs->nlines < VSOCK_LINES_MAX && !vs->accept_later.armed;

	loop_mod_fd(&vs->listener, take ? EPOLLIN : 0);
}

static void accept_again(struct loop_timer *timer)
{
	struct vsock *vs = container_of(timer, struct vsock, accept_later);

	pthread_mutex_lock(&vs->vdev.lock);
	vsock_unix_accept_update(vs);
	pthread_mutex_unlock(&vs->vdev.lock);
}

static void clients_wait(struct loop_fd *lfd, uint32_t events)
{
	struct vsock *vs = container_of(lfd, struct vsock, listener);

	(void)events;
	pthread_mutex_lock(&vs->vdev.lock);
	for (unsigned i = 0; i < ACCEPT_BATCH && vs->nlines < VSOCK_LINES_MAX; i++) {
		int fd = accept4(lfd->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			break;
		if (fd < 0) {
			/* No descriptors or memory: it would be ready, and fail, for ever. */
			log_limited(LOG_WARN, "%s: takes no clients for now: %s", vs->vdev.name,
				    strerrordesc_np(errno));
			loop_arm(vs->vdev.loop, &vs->accept_later, ACCEPT_LATER);
			break;
		}
		/* A full table: the client reads the end, as for any other refusal. */
		if (vsock_conn_new(vs, fd) == NULL)
			close(fd);
	}
	vsock_unix_accept_update(vs);
	pthread_mutex_unlock(&vs->vdev.lock);
}

/*
 * "CONNECT <port>", in any case, blanks between and behind allowed; @len bytes without the
 * newline. False: something else.
 */
static bool parse_line(const uint8_t *line, size_t len, uint32_t *port)
{
	static const char verb[] = "connect";
	uint64_t n = 0;
	size_t i, digits = 0;

	for (i = 0; i < sizeof(verb) - 1; i++)
		if (i >= len || tolower(line[i]) != verb[i])
			return false;
	if (i >= len || (line[i] != ' ' && line[i] != '\t'))
		return false;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	for (; i < len && isdigit(line[i]); i++, digits++) {
		n = 10 * n + (uint64_t)(line[i] - '0');
		if (n > UINT32_MAX)
			return false;
	}
	while (i < len && isspace(line[i]))
		i++;
	*port = (uint32_t)n;
	return digits > 0 && i == len;
}

void vsock_unix_line(struct vsock_conn *conn)
{
	uint8_t *line = conn->line;
	uint32_t port;

	for (;;) {
		size_t room = VSOCK_LINE_MAX - conn->line_len;
		uint8_t *at = line + conn->line_len, *end;
		ssize_t n = recv(conn->sock.fd, at, room, MSG_PEEK);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			break;
		/* Take no more than the line. */
		end = memchr(at, '\n', (size_t)n);
		n = recv(conn->sock.fd, at, end == NULL ? (size_t)n : (size_t)(end - at) + 1, 0);
		if (n <= 0)
			break;
		conn->line_len = (uint8_t)(conn->line_len + n);
		if (end != NULL) {
			if (!parse_line(line, conn->line_len - 1u, &port))
				break;
			vsock_conn_request(conn, port);
			return;
		}
		if (conn->line_len == VSOCK_LINE_MAX)
			break;
	}
	vsock_conn_free(conn);
}

/* --- Bytes --- */

int vsock_unix_connect(struct vsock *vs, uint32_t port)
{
	return broker_connect(vs->broker, vs->rule, port, -1);
}

ssize_t vsock_unix_read(struct vsock_conn *conn, struct virtqueue_cursor *c, size_t len)
{
	struct vsock *vs = conn->vs;
	unsigned max = sizeof(vs->part) / sizeof(vs->part[0]);
	unsigned n = virtqueue_segments(c, len < c->left ? len : c->left, vs->part, max);
	ssize_t r = readv(conn->sock.fd, vs->part, (int)n);

	if (r < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	virtqueue_skip(c, (size_t)r);
	return r;
}

ssize_t vsock_unix_send(struct vsock_conn *conn, const struct iovec *iov, unsigned n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n };
	ssize_t r = sendmsg(conn->sock.fd, &msg, MSG_NOSIGNAL);

	if (r < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return r;
}

ssize_t vsock_unix_write(struct vsock_conn *conn, struct virtqueue_cursor *c, size_t len)
{
	struct vsock *vs = conn->vs;
	unsigned max = sizeof(vs->part) / sizeof(vs->part[0]);
	unsigned n = virtqueue_segments(c, len, vs->part, max);
	ssize_t r = vsock_unix_send(conn, vs->part, n);

	if (r > 0)
		virtqueue_skip(c, (size_t)r);
	return r;
}

/* --- Begin and end --- */

int vsock_unix_check(const char *path, struct err *err)
{
	size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 - SUFFIX_MAX;

	if (path[0] == '\0')
		return err_set(err, EINVAL, "path= needs the name of a socket");
	if (strlen(path) > max)
		return err_set(err, ENAMETOOLONG,
			       "path=%s has %zu bytes, but at most %zu leave room for the names of "
			       "the guest's connections, PATH_PORT: name a shorter one",
			       path, strlen(path), max);
	return 0;
}

int vsock_unix_listen(struct vsock *vs, const char *path, struct err *err)
{
	struct broker_rule rule = { .kind = BROKER_CONNECT_NUMBER, .path = path };

	vs->accept_later.fn = accept_again;
	vs->rule = broker_allow(vs->broker, &rule, err);
	if (vs->rule < 0)
		return vs->rule;
	if (unix_listen(&vs->listening, "vsock", path, BACKLOG, vs->broker, err) < 0)
		return -err->code;
	vs->listener = (struct loop_fd){ .fd = vs->listening.fd, .fn = clients_wait };
	return loop_add_fd(vs->vdev.loop, &vs->listener, EPOLLIN, err);
}

void vsock_unix_fini(struct vsock *vs)
{
	loop_disarm(&vs->accept_later);
	loop_del_fd(&vs->listener);
	unix_listen_end(&vs->listening);
}
