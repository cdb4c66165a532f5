// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device: the table of connections, how they begin and end, and who waits for how long.
 * What they do in between is in vsock_conn.c.
 *
 * Theory of operation. A table of fixed size, whose entries are used again. Those the guest knows
 * of are found by their ports, through a hash whose key the guest does not know. Each entry has a
 * piece of one large mapping for what its host program does not read; that is reserved,
 * but not there before it is written, and given back when the connection ends.
 *
 * Who waits for a client's line, the guest's RESPONSE or its RST (LINE, REQUESTED, CLOSING) does so
 * for VSOCK_PATIENCE. The time is the same for all, so they wait in a queue, with one timer.
 * It does not run while the VM stands still.
 *
 * Limits: VSOCK_CONNS_MAX connections, less when few descriptors are to be had (RLIMIT_NOFILE,
 * whose soft limit is raised when the device is made).
 *
 * #syscalls: close madvise epoll_ctl
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "devices/vsock_impl.h"
#include "vmm/base/util.h"

#define FDS_FOR_OTHERS 128 /* descriptors the table leaves to the rest of the monitor */

/* --- Waiting --- */

static void arm_timer(struct vsock *vs)
{
	uint64_t now = loop_now_ns();
	struct vsock_conn *conn;

	if (vsock_list_empty(&vs->waiting)) {
		loop_disarm(&vs->timer);
		return;
	}
	conn = container_of(vs->waiting.next, struct vsock_conn, wait);
	loop_arm(vs->vdev.loop, &vs->timer, conn->deadline > now ? conn->deadline - now : 0);
}

void vsock_conn_wait(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	vsock_list_del(&conn->wait);
	conn->deadline = loop_now_ns() + VSOCK_PATIENCE;
	vsock_list_add(&vs->waiting, &conn->wait);
	/* Armed already: for one that waits longer, or that is gone; then it is armed again. */
	if (!vs->timer.armed)
		arm_timer(vs);
}

/* --- The table --- */

static struct vsock_conn **bucket_of(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
	uint64_t ports = (uint64_t)host_port << 32 | guest_port;

	/* Multiplied by a number the guest does not know: it cannot fill one bucket. */
	return &vs->bucket[(ports * vs->hash_key) >> 52 & (VSOCK_BUCKETS - 1)];
}

struct vsock_conn *vsock_table_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *conn = *bucket_of(vs, host_port, guest_port);

	while (conn != NULL && (conn->host_port != host_port || conn->guest_port != guest_port))
		conn = conn->next;
	return conn;
}

/* Have these ports, which nobody has. */
void vsock_table_add(struct vsock_conn *conn, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn **bucket = bucket_of(conn->vs, host_port, guest_port);

	conn->host_port = host_port;
	conn->guest_port = guest_port;
	conn->next = *bucket;
	*bucket = conn;
}

void vsock_table_remove(struct vsock_conn *conn)
{
	struct vsock_conn **link = bucket_of(conn->vs, conn->host_port, conn->guest_port);

	while (*link != NULL && *link != conn)
		link = &(*link)->next;
	if (*link != NULL)
		*link = conn->next;
}

static void sock_event(struct loop_fd *lfd, uint32_t events)
{
	struct vsock_conn *conn = container_of(lfd, struct vsock_conn, sock);
	struct vsock *vs = conn->vs;

	pthread_mutex_lock(&vs->vdev.lock);
	vsock_conns_drop_stale(vs);
	if (lfd->fd >= 0) {
		vsock_conn_event(conn, events);
		vsock_rx(vs);
	}
	pthread_mutex_unlock(&vs->vdev.lock);
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, int fd)
{
	struct vsock_conn *conn = vs->free;
	struct err err = ERR_INIT;

	if (vs->n == vs->max)
		return NULL;
	if (conn != NULL)
		vs->free = conn->next;
	else
		conn = &vs->table[vs->used++];
	vs->n++;
	*conn = (struct vsock_conn){ .vs = vs,
				     .state = VSOCK_LINE,
				     .readable = true,
				     .sock = { .fd = fd, .fn = sock_event } };
	vs->nlines++;
	if (loop_add_fd(vs->vdev.loop, &conn->sock, VSOCK_WATCH_IN, &err) < 0) {
		conn->sock.fd = -1;
		vsock_conn_free(conn);
		return NULL;
	}
	vsock_conn_wait(conn);
	return conn;
}

void vsock_conn_leave_line(struct vsock_conn *conn)
{
	vsock_list_del(&conn->wait);
	conn->vs->nlines--;
	vsock_unix_accept_update(conn->vs);
}

void vsock_conn_close(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	loop_del_fd(&conn->sock);
	if (conn->sock.fd >= 0)
		close(conn->sock.fd);
	conn->sock.fd = -1;
	conn->len = conn->head = 0;
	if (conn->buf_touched)
		madvise(vs->bufs + (size_t)(conn - vs->table) * VSOCK_BUF, VSOCK_BUF,
			MADV_DONTNEED);
	conn->buf_touched = false;
}

void vsock_conn_free(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	if (conn->state == VSOCK_LINE)
		vsock_conn_leave_line(conn);
	else if (conn->state != VSOCK_LINGER)
		vsock_table_remove(conn);
	vsock_conn_close(conn);
	vsock_list_del(&conn->ready);
	vsock_list_del(&conn->wait);
	conn->state = VSOCK_FREE;
	conn->next = vs->free;
	vs->free = conn;
	vs->n--;
}

void vsock_conn_reset(struct vsock_conn *conn)
{
	vsock_conn_close(conn);
	vsock_list_del(&conn->wait);
	conn->state = VSOCK_RESET;
	vsock_conn_ready(conn);
}

/* --- All of them --- */

static void time_is_up(struct loop_timer *timer)
{
	struct vsock *vs = container_of(timer, struct vsock, timer);
	uint64_t now = loop_now_ns();

	pthread_mutex_lock(&vs->vdev.lock);
	vsock_conns_drop_stale(vs);
	while (!vsock_list_empty(&vs->waiting) && !vs->vdev.quiesced) {
		struct vsock_conn *conn = container_of(vs->waiting.next, struct vsock_conn, wait);

		if (conn->deadline > now)
			break;
		/* The guest needs no RST for what it never heard of. */
		if (conn->state == VSOCK_LINE || conn->owes_request)
			vsock_conn_free(conn);
		else
			vsock_conn_reset(conn);
	}
	if (!vs->vdev.quiesced)
		arm_timer(vs);
	vsock_rx(vs);
	pthread_mutex_unlock(&vs->vdev.lock);
}

void vsock_conns_resume(struct vsock *vs)
{
	uint64_t deadline = loop_now_ns() + VSOCK_PATIENCE;

	for (struct vsock_link *l = vs->waiting.next; l != &vs->waiting; l = l->next)
		container_of(l, struct vsock_conn, wait)->deadline = deadline;
	arm_timer(vs);
}

void vsock_conns_drop_stale(struct vsock *vs)
{
	if (!vs->stale)
		return;
	vs->stale = false;
	vs->nrst = 0;
	vs->tx_stalled = false;
	for (unsigned i = 0; i < vs->used; i++) {
		struct vsock_conn *conn = &vs->table[i];

		/* Of these the guest knows nothing, or nothing any more. */
		if (conn->state != VSOCK_FREE && conn->state != VSOCK_LINE &&
		    conn->state != VSOCK_LINGER)
			vsock_conn_free(conn);
	}
}

/* How many connections there can be; the soft limit is raised for it as far as it may be. */
static unsigned conns_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return VSOCK_CONNS_MAX;
	if (limit.rlim_cur < VSOCK_CONNS_MAX + FDS_FOR_OTHERS) {
		limit.rlim_cur = limit.rlim_max;
		if (limit.rlim_cur > VSOCK_CONNS_MAX + FDS_FOR_OTHERS)
			limit.rlim_cur = VSOCK_CONNS_MAX + FDS_FOR_OTHERS;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
			return VSOCK_CONNS_MAX;
	}
	if (limit.rlim_cur >= VSOCK_CONNS_MAX + FDS_FOR_OTHERS)
		return VSOCK_CONNS_MAX;
	if (limit.rlim_cur >= 2 * FDS_FOR_OTHERS)
		return (unsigned)limit.rlim_cur - FDS_FOR_OTHERS;
	return (unsigned)limit.rlim_cur / 2;
}

int vsock_conns_init(struct vsock *vs, struct err *err)
{
	void *bufs;

	vsock_list_init(&vs->ready);
	vsock_list_init(&vs->waiting);
	vs->timer.fn = time_is_up;
	vs->next_port = VSOCK_PORT_FIRST - 1;
	vs->max = conns_max();
	if (getrandom(&vs->hash_key, sizeof(vs->hash_key), GRND_NONBLOCK) < 0)
		vs->hash_key = loop_now_ns(); /* a young host; collisions are slow, no more */
	vs->hash_key |= 1;
	/* Large, and touched as far as it is used only. */
	vs->table = calloc(VSOCK_CONNS_MAX, sizeof(*vs->table));
	vs->bucket = calloc(VSOCK_BUCKETS, sizeof(*vs->bucket));
	bufs = mmap(NULL, (size_t)VSOCK_CONNS_MAX * VSOCK_BUF, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	vs->bufs = bufs == MAP_FAILED ? NULL : bufs;
	if (vs->table == NULL || vs->bucket == NULL || vs->bufs == NULL)
		return err_set(err, ENOMEM, "vsock: no memory for %d connections", VSOCK_CONNS_MAX);
	return 0;
}

void vsock_conns_fini(struct vsock *vs)
{
	for (unsigned i = 0; i < vs->used; i++) {
		if (vs->table[i].state != VSOCK_FREE)
			vsock_conn_free(&vs->table[i]);
	}
	loop_disarm(&vs->timer);
	if (vs->bufs != NULL)
		munmap(vs->bufs, (size_t)VSOCK_CONNS_MAX * VSOCK_BUF);
	free(vs->table);
	free(vs->bucket);
}
