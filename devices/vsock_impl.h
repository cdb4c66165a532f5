/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the socket device share: virtio_vsock.c (the device, its queues and options),
 * vsock_table.c (all connections), vsock_conn.c (one, packet by packet), vsock_unix.c (the host's
 * sockets), vsock_vhost.c (the host's kernel in place of all that). All of it runs on the device's
 * loop with its lock held, unless a function says otherwise.
 */
#ifndef DEVICES_VSOCK_IMPL_H
#define DEVICES_VSOCK_IMPL_H

#include <linux/virtio_vsock.h>
#include "devices/unix_listen.h"
#include "devices/vhost.h"
#include "devices/virtio.h"

#define VSOCK_CID_HOST	 2
#define VSOCK_QUEUE_SIZE 256
#define VSOCK_CONNS_MAX	 2048
#define VSOCK_BUCKETS	 4096	      /* a power of two */
#define VSOCK_BUF	 (128u << 10) /* per connection, for a host program that reads slowly */
#define VSOCK_PACKET_MAX (64u << 10)
#define VSOCK_LINES_MAX	 128		/* clients that did not say yet where they want to */
#define VSOCK_LINE_MAX	 32		/* bytes of "CONNECT <port>\n" */
#define VSOCK_RSTS_MAX	 1024		/* answers to packets that belong to no connection */
#define VSOCK_PATIENCE	 10000000000ULL /* ns, for a line, a guest's answer, a guest's RST */
#define VSOCK_PORT_FIRST (1u << 30)	/* the host's ends of what the host begins */
#define VSOCK_PORT_LAST	 (VSOCK_PORT_FIRST * 2 - 1)

/* What sockets are watched for: always, and while there is something to write. */
#define VSOCK_WATCH_IN	 (EPOLLIN | EPOLLET)
#define VSOCK_WATCH_BOTH (EPOLLIN | EPOLLOUT | EPOLLET)

/* The queues: 5.10.2 */
enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

/* One use of --vsock. */
struct vsock_options {
	uint64_t cid;
	char *path; /* NULL: with vhost */
	bool vhost;
};

/* See the top of vsock_conn.c. */
enum vsock_conn_state {
	VSOCK_FREE,
	VSOCK_LINE,
	VSOCK_REQUESTED,
	VSOCK_OPEN,
	VSOCK_CLOSING,
	VSOCK_RESET,
	VSOCK_LINGER,
};

/* A list: its head, and a place in it; all zero: in none. */
struct vsock_link {
	struct vsock_link *prev, *next;
};

struct vsock_conn {
	struct vsock *vs;
	struct vsock_conn *next; /* in its bucket, or of the free ones */
	struct loop_fd sock;	 /* the host program's end; fd -1: closed */
	struct vsock_link ready; /* in vs->ready: it (perhaps) has a packet for the guest */
	struct vsock_link wait;	 /* in vs->waiting: until deadline */
	uint64_t deadline;
	uint32_t host_port, guest_port;
	enum vsock_conn_state state;
	/* The socket */
	bool readable; /* not known to be empty */
	bool ended;    /* it sends no more */
	bool deaf;     /* it receives no more */
	uint8_t line[VSOCK_LINE_MAX];
	uint8_t line_len;
	/* Packets owed to the guest */
	bool owes_request, owes_response, owes_credit, asks_credit;
	bool asked_credit;  /* and not got any since */
	uint8_t told_shut;  /* VIRTIO_VSOCK_SHUTDOWN_* the guest was told */
	uint8_t guest_shut; /* the same, by the guest */
	/* Credit, 5.10.6.3: counters of bytes since the beginning, that wrap */
	uint32_t sent, guest_fwd_cnt, guest_buf_alloc; /* host to guest */
	uint32_t received, fwd_cnt, told_fwd_cnt;      /* guest to host */
	/* What the host program did not take yet, a ring in vs->bufs */
	uint32_t head, len;
	bool buf_touched;
};

/* An answer to a packet without a connection. */
struct vsock_rst {
	uint32_t host_port, guest_port;
	uint16_t type;
};

struct vsock {
	struct virtio_device vdev;
	struct virtio_vsock_config config;
	uint64_t cid;
	bool reset_due; /* TRANSPORT_RESET is to be sent: 5.10.6.7 */
	bool stale;	/* the device was reset: connections are to be dropped, on the loop */

	/* Connections */
	unsigned max;  /* of them: the table's size, or what descriptors allow */
	unsigned used; /* of the table, from its beginning, at any time */
	unsigned n;    /* in use now */
	struct vsock_conn *table, *free;
	struct vsock_conn **bucket;
	uint64_t hash_key; /* odd, random */
	uint8_t *bufs;	   /* VSOCK_BUF for each of the table, untouched until needed */
	uint32_t next_port;
	struct vsock_link ready, waiting;
	struct loop_timer timer; /* for the first that waits */
	struct vsock_rst rst[VSOCK_RSTS_MAX];
	unsigned rst_head, nrst;
	bool tx_stalled; /* rst[] was full */

	/* The host's sockets */
	struct unix_listener listening;
	struct broker *broker; /* connects to the host's programs */
	int rule;
	struct loop_fd listener;	/* listening.fd */
	struct loop_timer accept_later; /* armed: out of descriptors */
	unsigned nlines;

	struct vsock_vhost *vhost; /* the host's kernel does all of it; else NULL */

	struct iovec iov[VIRTQUEUE_IOV(VSOCK_QUEUE_SIZE)];
	struct iovec part[VIRTQUEUE_IOV(VSOCK_QUEUE_SIZE)]; /* of iov, for readv() and the like */
};

/* --- virtio_vsock.c --- */

/* Give the guest what there is for it. */
void vsock_rx(struct vsock *vs);

/* --- vsock_table.c --- */

int vsock_conns_init(struct vsock *vs, struct err *err);
void vsock_conns_fini(struct vsock *vs);
/* Was the device reset? The driver forgot everything: drop all connections with it. */
void vsock_conns_drop_stale(struct vsock *vs);
/* The VM stood still: whoever waits for the guest begins to wait now. */
void vsock_conns_resume(struct vsock *vs);

/*
 * A connection with host end @fd, which it owns, in state LINE, and waiting. NULL (and @fd still
 * the caller's): no room.
 */
struct vsock_conn *vsock_conn_new(struct vsock *vs, int fd);
/* It goes on to another state, and waits no more. */
void vsock_conn_leave_line(struct vsock_conn *conn);
/* Wait for VSOCK_PATIENCE from now on. */
void vsock_conn_wait(struct vsock_conn *conn);
/* Close the socket; what was not written is lost. */
void vsock_conn_close(struct vsock_conn *conn);
/* The same, and tell the guest. */
void vsock_conn_reset(struct vsock_conn *conn);
/* Close the socket and forget the connection, without a word to the guest. */
void vsock_conn_free(struct vsock_conn *conn);

struct vsock_conn *vsock_table_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port);
/* Have these ports, which nobody has. */
void vsock_table_add(struct vsock_conn *conn, uint32_t host_port, uint32_t guest_port);
void vsock_table_remove(struct vsock_conn *conn);

static inline void vsock_list_init(struct vsock_link *head)
{
	head->prev = head->next = head;
}

static inline bool vsock_list_empty(const struct vsock_link *head)
{
	return head->next == head;
}

/* Put it at the end, unless it is in a list. */
static inline void vsock_list_add(struct vsock_link *head, struct vsock_link *link)
{
	if (link->next != NULL)
		return;
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void vsock_list_del(struct vsock_link *link)
{
	if (link->next == NULL)
		return;
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link->prev = link->next = NULL;
}

/* It (perhaps) has a packet for the guest. */
static inline void vsock_conn_ready(struct vsock_conn *conn)
{
	vsock_list_add(&conn->vs->ready, &conn->ready);
}

/* --- vsock_conn.c --- */

/* A packet of the guest, @c at its data. */
void vsock_conn_packet(struct vsock *vs, const struct virtio_vsock_hdr *hdr,
		       struct virtqueue_cursor *c);
/* Has anybody (perhaps) a packet for the guest? */
bool vsock_conns_ready(const struct vsock *vs);
/* Make the next one: its header into @hdr, data to @c. False: there is none. */
bool vsock_conns_next(struct vsock *vs, struct virtio_vsock_hdr *hdr, struct virtqueue_cursor *c);

/* The client on the host named the guest's port. */
void vsock_conn_request(struct vsock_conn *conn, uint32_t guest_port);
/* The socket has something to say: EPOLLIN | ... */
void vsock_conn_event(struct vsock_conn *conn, uint32_t events);

/* --- vsock_unix.c --- */

/* Bind and listen at @path. */
int vsock_unix_listen(struct vsock *vs, const char *path, struct err *err);
void vsock_unix_fini(struct vsock *vs);
int vsock_unix_check(const char *path, struct err *err);
/* Take clients again, or not now. */
void vsock_unix_accept_update(struct vsock *vs);
/* Read on the line a client begins with; ends in vsock_conn_request() or vsock_conn_free(). */
void vsock_unix_line(struct vsock_conn *conn);
/* Connect to whoever listens for @port. A descriptor, or -errno. */
int vsock_unix_connect(struct vsock *vs, uint32_t port);
/*
 * At most @len bytes from the socket to @c, or from @c to the socket. Bytes moved, 0: the end
 * (of reading), -EAGAIN, -errno.
 */
ssize_t vsock_unix_read(struct vsock_conn *conn, struct virtqueue_cursor *c, size_t len);
ssize_t vsock_unix_write(struct vsock_conn *conn, struct virtqueue_cursor *c, size_t len);
/* The same from plain memory. */
ssize_t vsock_unix_send(struct vsock_conn *conn, const struct iovec *iov, unsigned n);

/* --- vsock_vhost.c --- */

/* NULL with @err filled. */
struct vsock_vhost *vsock_vhost_new(uint64_t cid, uint64_t *features, struct err *err);
/* Loop, lock held. 0 or -errno */
int vsock_vhost_start(struct vsock_vhost *v, struct virtio_device *vdev);
/* Any thread, lock held; harmless when not started. */
void vsock_vhost_stop(struct vsock_vhost *v);
/* After vsock_vhost_stop(), on the loop. */
void vsock_vhost_return(struct vsock_vhost *v);
void vsock_vhost_free(struct vsock_vhost *v);

#endif
