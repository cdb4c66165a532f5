// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device: connections, Virtual I/O Device (VIRTIO) 1.2, section 5.10.6.
 *
 * Theory of operation. A connection is a pair of ports (vsock_table.c); on the host it is a Unix
 * stream socket (vsock_unix.c), and its bytes go between that and the guest's buffers without
 * a stop, unless a host program does not read. Its states:
 *
 *	LINE		a client on the host did not name a port yet; the guest knows nothing
 *	REQUESTED	REQUEST is sent, or owed, to the guest. RESPONSE makes it OPEN, RST ends it
 *	OPEN		bytes go both ways, or one way when SHUTDOWN ended the other
 *	CLOSING		the guest was told that the host neither sends nor receives any more; the
 *			socket is closed. The guest's RST ends it
 *	RESET		the socket is closed, RST is owed to the guest, and then it ends
 *	LINGER		the guest is done and has its RST: the ports are free. It ends when the host
 *			program has read everything
 *
 *	accept		-> LINE -> REQUESTED -> OPEN
 *	guest's REQUEST	-> OPEN (RESPONSE owed), or RST when nobody listens
 *	both SHUTDOWN flags by the host	 OPEN -> CLOSING
 *	both SHUTDOWN flags by the guest OPEN -> RESET, or LINGER; CLOSING -> RESET
 *	guest breaks the rules, socket fails  -> RESET
 *
 * To the guest. What is to be sent is not queued anywhere: a connection that may have a packet is
 * in the list `ready`, and makes it when the guest has a buffer and it is its turn, one each.
 * Bytes stay in the socket until then: without buffers or credit we stop reading, and the host
 * program waits. So a guest that does not take anything costs no memory. Only answers to
 * packets that belong to no connection need a place, rst[]; when that is full we take no more
 * packets from the guest, as 5.10.6.1 allows.
 *
 * From the guest. It may send as much as we said there is room for, VSOCK_BUF for each connection.
 * What the socket does not take goes there. So no connection waits for another's host program.
 *
 * What the guest says of credit decides how much we send it, nothing else: a lie costs it its own
 * data. What it may send is reckoned from our own counters.
 *
 * Half-close. The guest's SHUTDOWN_SEND becomes shutdown(SHUT_WR), after what is buffered;
 * SHUTDOWN_RCV becomes SHUT_RD. The socket's end of file becomes SHUTDOWN_SEND, its hang-up, or a
 * failed write, SHUTDOWN_RCV.
 *
 * Limits: streams only. 128 KiB of our memory, and what its kernel buffers, for each connection
 * whose host program does not read.
 *
 * #syscalls: shutdown close
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/vsock_impl.h"
#include "vmm/base/util.h"

#define SHUT_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

/* Answer a packet with RST, outside any connection. There is room: see take_packet(). */
static void queue_rst(struct vsock *vs, uint32_t host_port, uint32_t guest_port, uint16_t type)
{
	struct vsock_rst *rst = &vs->rst[(vs->rst_head + vs->nrst) % VSOCK_RSTS_MAX];

	if (vs->nrst == VSOCK_RSTS_MAX)
		return;
	*rst = (struct vsock_rst){ host_port, guest_port, type };
	vs->nrst++;
}

/* --- Bytes from the guest --- */

/* Room there is in the guest for what we send: 5.10.6.3. */
static uint32_t guest_room(const struct vsock_conn *conn)
{
	uint32_t under_way = conn->sent - conn->guest_fwd_cnt;

	return under_way < conn->guest_buf_alloc ? conn->guest_buf_alloc - under_way : 0;
}

static void take_credit(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr)
{
	conn->guest_buf_alloc = hdr->buf_alloc;
	conn->guest_fwd_cnt = hdr->fwd_cnt;
	if (guest_room(conn) > 0) {
		conn->asked_credit = false;
		if (conn->readable)
			vsock_conn_ready(conn);
	}
}

/* @n bytes are out. Tell the guest when it believes that a quarter of the room is gone. */
static void forwarded(struct vsock_conn *conn, uint32_t n)
{
	conn->fwd_cnt += n;
	if (conn->received - conn->told_fwd_cnt > VSOCK_BUF / 4 &&
	    conn->fwd_cnt != conn->told_fwd_cnt) {
		conn->owes_credit = true;
		vsock_conn_ready(conn);
	}
}

/* The host program takes no more bytes: nor do we keep any. */
static void turn_deaf(struct vsock_conn *conn)
{
	if (conn->deaf)
		return;
	conn->deaf = true;
	forwarded(conn, conn->len);
	conn->len = 0;
	loop_mod_fd(&conn->sock, VSOCK_WATCH_IN);
	vsock_conn_ready(conn);
}

/* All the guest sent is with the host program. */
static void flushed(struct vsock_conn *conn)
{
	loop_mod_fd(&conn->sock, VSOCK_WATCH_IN);
	if (conn->state == VSOCK_LINGER)
		vsock_conn_free(conn);
	else if ((conn->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0)
		shutdown(conn->sock.fd, SHUT_WR);
}

/* The socket may have room: go on with what is buffered. */
static void flush(struct vsock_conn *conn)
{
	uint8_t *buf = conn->vs->bufs + (size_t)(conn - conn->vs->table) * VSOCK_BUF;

	while (conn->len > 0) {
		uint32_t first = VSOCK_BUF - conn->head;
		struct iovec iov[2];
		ssize_t n;

		if (first > conn->len)
			first = conn->len;
		iov[0] = (struct iovec){ .iov_base = buf + conn->head, .iov_len = first };
		iov[1] = (struct iovec){ .iov_base = buf, .iov_len = conn->len - first };
		n = vsock_unix_send(conn, iov, first < conn->len ? 2 : 1);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			turn_deaf(conn);
			break;
		}
		conn->head = (conn->head + (uint32_t)n) % VSOCK_BUF;
		conn->len -= (uint32_t)n;
		forwarded(conn, (uint32_t)n);
	}
	flushed(conn);
}

static void keep(struct vsock_conn *conn, struct virtqueue_cursor *c, uint32_t len)
{
	uint8_t *buf = conn->vs->bufs + (size_t)(conn - conn->vs->table) * VSOCK_BUF;

	conn->buf_touched = true;
	while (len > 0) {
		uint32_t at = (conn->head + conn->len) % VSOCK_BUF;
		uint32_t n = VSOCK_BUF - at < len ? VSOCK_BUF - at : len;

		n = (uint32_t)virtqueue_read(c, buf + at, n);
		conn->len += n;
		len -= n;
	}
	loop_mod_fd(&conn->sock, VSOCK_WATCH_BOTH);
}

/* @len bytes at @c, which has as many. */
static void guest_data(struct vsock_conn *conn, struct virtqueue_cursor *c, uint32_t len)
{
	if (len > VSOCK_BUF - conn->len || (conn->guest_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0) {
		vsock_conn_reset(conn); /* more than it was allowed */
		return;
	}
	conn->received += len;
	while (len > 0 && conn->len == 0 && !conn->deaf) {
		ssize_t n = vsock_unix_write(conn, c, len);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			turn_deaf(conn);
			break;
		}
		len -= (uint32_t)n;
		forwarded(conn, (uint32_t)n);
	}
	if (conn->deaf)
		forwarded(conn, len);
	else if (len > 0)
		keep(conn, c, len);
}

/* --- What the guest says --- */

/* The guest wants neither to send nor to receive any more, and waits for RST. */
static void guest_done(struct vsock_conn *conn)
{
	if (conn->len == 0) {
		vsock_conn_reset(conn);
		return;
	}
	queue_rst(conn->vs, conn->host_port, conn->guest_port, VIRTIO_VSOCK_TYPE_STREAM);
	vsock_table_remove(conn);
	vsock_list_del(&conn->ready);
	shutdown(conn->sock.fd, SHUT_RD);
	conn->state = VSOCK_LINGER;
}

static void guest_shutdown(struct vsock_conn *conn, uint32_t flags)
{
	uint8_t added = (uint8_t)(flags & SHUT_BOTH & ~(uint32_t)conn->guest_shut);

	conn->guest_shut |= added;
	if (conn->guest_shut == SHUT_BOTH) {
		guest_done(conn);
		return;
	}
	if ((added & VIRTIO_VSOCK_SHUTDOWN_SEND) != 0 && conn->len == 0)
		shutdown(conn->sock.fd, SHUT_WR);
	if ((added & VIRTIO_VSOCK_SHUTDOWN_RCV) != 0) {
		shutdown(conn->sock.fd, SHUT_RD);
		conn->ended = true;
		vsock_conn_ready(conn);
	}
}

/* A program in the guest wants to connect to the host. */
static void guest_request(struct vsock *vs, const struct virtio_vsock_hdr *hdr)
{
	struct vsock_conn *conn = NULL;
	int fd = vsock_unix_connect(vs, hdr->dst_port);

	if (fd >= 0)
		conn = vsock_conn_new(vs, fd);
	if (conn == NULL) {
		if (fd >= 0)
			close(fd);
		queue_rst(vs, hdr->dst_port, hdr->src_port, hdr->type);
		return;
	}
	vsock_conn_leave_line(conn);
	conn->state = VSOCK_OPEN;
	vsock_table_add(conn, hdr->dst_port, hdr->src_port);
	take_credit(conn, hdr);
	conn->owes_response = true;
	vsock_conn_ready(conn);
}

/* A program in the guest accepted. */
static void guest_response(struct vsock_conn *conn)
{
	char ok[24];
	struct iovec iov = { .iov_base = ok };
	ssize_t n;

	iov.iov_len = (size_t)snprintf(ok, sizeof(ok), "OK %u\n", conn->host_port);
	vsock_list_del(&conn->wait);
	conn->state = VSOCK_OPEN;
	vsock_conn_ready(conn);
	n = vsock_unix_send(conn, &iov, 1);
	/* The client may be gone; what it sent before is delivered nevertheless. */
	if (n < 0 && n != -EAGAIN)
		turn_deaf(conn);
	else if (n != (ssize_t)iov.iov_len)
		vsock_conn_reset(conn);
}

static void open_packet(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr,
			struct virtqueue_cursor *c)
{
	switch (hdr->op) {
	case VIRTIO_VSOCK_OP_RW:
		guest_data(conn, c, hdr->len);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		guest_shutdown(conn, hdr->flags);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		conn->owes_credit = true;
		vsock_conn_ready(conn);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default:
		vsock_conn_reset(conn);
		break;
	}
}

/* We wait for RST. The guest may have closed at the same moment, and wait for ours. */
static void closing_packet(struct vsock_conn *conn, const struct virtio_vsock_hdr *hdr)
{
	if (hdr->op != VIRTIO_VSOCK_OP_SHUTDOWN)
		return;
	conn->guest_shut |= hdr->flags & SHUT_BOTH;
	if (conn->guest_shut == SHUT_BOTH)
		vsock_conn_reset(conn);
}

void vsock_conn_packet(struct vsock *vs, const struct virtio_vsock_hdr *hdr,
		       struct virtqueue_cursor *c)
{
	struct vsock_conn *conn;

	/* Not from this guest, or not for us: nobody to answer. */
	if (hdr->src_cid != vs->cid || hdr->dst_cid != VSOCK_CID_HOST)
		return;
	conn = vsock_table_find(vs, hdr->dst_port, hdr->src_port);
	if (hdr->type != VIRTIO_VSOCK_TYPE_STREAM)
		conn = NULL;
	/* Ports used again: the guest's side has forgotten what we still wait for. */
	if (conn != NULL && conn->state == VSOCK_CLOSING && hdr->op == VIRTIO_VSOCK_OP_REQUEST) {
		vsock_conn_free(conn);
		conn = NULL;
	}
	if (hdr->op == VIRTIO_VSOCK_OP_RST) {
		if (conn != NULL)
			vsock_conn_free(conn);
		return;
	}
	if (conn == NULL) {
		if (hdr->op == VIRTIO_VSOCK_OP_REQUEST && hdr->type == VIRTIO_VSOCK_TYPE_STREAM)
			guest_request(vs, hdr);
		else
			queue_rst(vs, hdr->dst_port, hdr->src_port, hdr->type);
		return;
	}
	take_credit(conn, hdr);
	switch (conn->state) {
	case VSOCK_REQUESTED:
		if (hdr->op == VIRTIO_VSOCK_OP_RESPONSE && !conn->owes_request)
			guest_response(conn);
		else
			vsock_conn_reset(conn);
		break;
	case VSOCK_OPEN:
		open_packet(conn, hdr, c);
		break;
	case VSOCK_CLOSING:
		closing_packet(conn, hdr);
		break;
	default: /* RESET: it will hear of it */
		break;
	}
}

/* --- What the host says --- */

void vsock_conn_request(struct vsock_conn *conn, uint32_t guest_port)
{
	struct vsock *vs = conn->vs;

	/* No driver: nobody is there. One that stands still is waited for. */
	if (!virtio_live(&vs->vdev) && !vs->vdev.quiesced) {
		vsock_conn_free(conn);
		return;
	}
	vsock_conn_leave_line(conn);
	/* As many ports as the table has connections are tried at most. */
	do {
		if (vs->next_port++ >= VSOCK_PORT_LAST)
			vs->next_port = VSOCK_PORT_FIRST;
	} while (vsock_table_find(vs, vs->next_port, guest_port) != NULL);
	conn->state = VSOCK_REQUESTED;
	vsock_table_add(conn, vs->next_port, guest_port);
	conn->owes_request = true;
	vsock_conn_wait(conn);
	vsock_conn_ready(conn);
}

void vsock_conn_event(struct vsock_conn *conn, uint32_t events)
{
	if ((events & EPOLLIN) != 0)
		conn->readable = true;
	switch (conn->state) {
	case VSOCK_LINE:
		vsock_unix_line(conn);
		break;
	case VSOCK_OPEN:
		if ((events & (EPOLLHUP | EPOLLERR)) != 0)
			turn_deaf(conn);
		else if ((events & EPOLLOUT) != 0 && conn->len > 0)
			flush(conn);
		vsock_conn_ready(conn);
		break;
	case VSOCK_LINGER:
		if ((events & (EPOLLHUP | EPOLLERR)) != 0)
			vsock_conn_free(conn);
		else if ((events & EPOLLOUT) != 0)
			flush(conn);
		break;
	default:
		break;
	}
}

/* --- Packets to the guest --- */

static void put_header(struct vsock_conn *conn, struct virtio_vsock_hdr *hdr, uint16_t op,
		       uint32_t len)
{
	*hdr = (struct virtio_vsock_hdr){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = conn->vs->cid,
		.src_port = conn->host_port,
		.dst_port = conn->guest_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = VSOCK_BUF,
		.fwd_cnt = conn->fwd_cnt,
	};
	/* Each packet tells. */
	conn->told_fwd_cnt = conn->fwd_cnt;
	conn->owes_credit = false;
}

/* What the guest has to know of the host program, and was not told. */
static uint8_t shut_owed(const struct vsock_conn *conn)
{
	uint8_t shut = (conn->ended ? VIRTIO_VSOCK_SHUTDOWN_SEND : 0) |
		       (conn->deaf ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0);

	return (uint8_t)(shut & ~conn->told_shut);
}

/* Bytes for the guest, as many as fit. False: none, for whatever reason. */
static bool data_packet(struct vsock_conn *conn, struct virtio_vsock_hdr *hdr,
			struct virtqueue_cursor *c)
{
	uint32_t room = guest_room(conn);
	ssize_t n;

	if (!conn->readable || conn->ended)
		return false;
	if (room == 0) {
		/* Ask once: the answer may be that there is none, and then it tells unasked. */
		conn->asks_credit |= !conn->asked_credit;
		conn->asked_credit = true;
		return false;
	}
	n = vsock_unix_read(conn, c, room < VSOCK_PACKET_MAX ? room : VSOCK_PACKET_MAX);
	if (n > 0) {
		conn->sent += (uint32_t)n;
		put_header(conn, hdr, VIRTIO_VSOCK_OP_RW, (uint32_t)n);
		return true;
	}
	if (n == 0)
		conn->ended = true;
	else if (n == -EAGAIN)
		conn->readable = false;
	else
		vsock_conn_reset(conn);
	return false;
}

static void shutdown_packet(struct vsock_conn *conn, struct virtio_vsock_hdr *hdr)
{
	conn->told_shut |= shut_owed(conn);
	put_header(conn, hdr, VIRTIO_VSOCK_OP_SHUTDOWN, 0);
	hdr->flags = conn->told_shut;
	if (conn->told_shut != SHUT_BOTH)
		return;
	vsock_conn_close(conn);
	conn->state = VSOCK_CLOSING;
	vsock_conn_wait(conn);
}

static bool open_next(struct vsock_conn *conn, struct virtio_vsock_hdr *hdr,
		      struct virtqueue_cursor *c)
{
	if (conn->owes_response) {
		conn->owes_response = false;
		put_header(conn, hdr, VIRTIO_VSOCK_OP_RESPONSE, 0);
	} else if (data_packet(conn, hdr, c)) {
		;
	} else if (conn->state != VSOCK_OPEN) {
		return false;
	} else if (shut_owed(conn) != 0) {
		shutdown_packet(conn, hdr);
	} else if (conn->asks_credit) {
		conn->asks_credit = false;
		put_header(conn, hdr, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	} else if (conn->owes_credit) {
		put_header(conn, hdr, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	} else {
		return false;
	}
	return true;
}

/* Does it perhaps have a packet? What it has for certain is never missed. */
static bool has_packet(const struct vsock_conn *conn)
{
	switch (conn->state) {
	case VSOCK_REQUESTED:
		return conn->owes_request;
	case VSOCK_RESET:
		return true;
	case VSOCK_OPEN:
		return conn->owes_response || conn->owes_credit || conn->asks_credit ||
		       shut_owed(conn) != 0 ||
		       (conn->readable && !conn->ended &&
			(guest_room(conn) > 0 || !conn->asked_credit));
	default:
		return false;
	}
}

static bool conn_next(struct vsock_conn *conn, struct virtio_vsock_hdr *hdr,
		      struct virtqueue_cursor *c)
{
	bool made = false;

	if (conn->state == VSOCK_OPEN)
		made = open_next(conn, hdr, c);
	if (made || conn->state == VSOCK_OPEN)
		return made;
	if (conn->state == VSOCK_REQUESTED && conn->owes_request) {
		conn->owes_request = false;
		put_header(conn, hdr, VIRTIO_VSOCK_OP_REQUEST, 0);
		return true;
	}
	if (conn->state != VSOCK_RESET)
		return false;
	put_header(conn, hdr, VIRTIO_VSOCK_OP_RST, 0);
	vsock_conn_free(conn);
	return true;
}

bool vsock_conns_ready(const struct vsock *vs)
{
	return vs->nrst > 0 || !vsock_list_empty(&vs->ready);
}

static void next_rst(struct vsock *vs, struct virtio_vsock_hdr *hdr)
{
	const struct vsock_rst *rst = &vs->rst[vs->rst_head];

	*hdr = (struct virtio_vsock_hdr){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = vs->cid,
		.src_port = rst->host_port,
		.dst_port = rst->guest_port,
		.type = rst->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};
	vs->rst_head = (vs->rst_head + 1) % VSOCK_RSTS_MAX;
	vs->nrst--;
}

bool vsock_conns_next(struct vsock *vs, struct virtio_vsock_hdr *hdr, struct virtqueue_cursor *c)
{
	if (vs->nrst > 0) {
		next_rst(vs, hdr);
		return true;
	}
	while (!vsock_list_empty(&vs->ready)) {
		struct vsock_conn *conn = container_of(vs->ready.next, struct vsock_conn, ready);
		bool made;

		vsock_list_del(&conn->ready);
		made = conn_next(conn, hdr, c);
		/* To the end of the list: it is others' turn. */
		if (has_packet(conn))
			vsock_conn_ready(conn);
		if (made)
			return true;
	}
	return false;
}
