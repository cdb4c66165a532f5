/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end for tests, on a thread of its own: a block device of a few sectors in
 * memory, which says what it is told to say, at the message it is told, and dies when it is told.
 *
 *	struct backend b;
 *	backend_init(&b);			   fields may be set then
 *	backend_start(&b);			   it listens on b.path
 *	...
 *	backend_stop(&b);
 *	backend_fini(&b);
 *
 * Fields are changed while it is stopped; those that are _Atomic at any time. What lasts when it
 * is stopped and started again is the disk and `seen`, not what it held in memory.
 */
#ifndef TESTS_UNIT_VU_BACKEND_H
#define TESTS_UNIT_VU_BACKEND_H

#ifndef BACKEND_ALONE /* the includer has its own ck_assert */
#include <check.h>
#endif
#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/vhost_user_proto.h"
#include "devices/virtqueue.h"

#define BACKEND_QUEUES 8
#ifndef BACKEND_SECTORS
#define BACKEND_SECTORS 64
#endif
#define BACKEND_BIT(n) (1ULL << (n))
#define BACKEND_PROTOCOL                                                                           \
	(BACKEND_BIT(VU_PROTOCOL_MQ) | BACKEND_BIT(VU_PROTOCOL_REPLY_ACK) |                        \
	 BACKEND_BIT(VU_PROTOCOL_NET_MTU) | BACKEND_BIT(VU_PROTOCOL_BACKEND_REQ) |                 \
	 BACKEND_BIT(VU_PROTOCOL_CONFIG) | BACKEND_BIT(VU_PROTOCOL_INFLIGHT_SHMFD))
#define BACKEND_FEATURES                                                                           \
	(BACKEND_BIT(VIRTIO_F_VERSION_1) | BACKEND_BIT(VIRTIO_RING_F_INDIRECT_DESC) |              \
	 BACKEND_BIT(VIRTIO_RING_F_EVENT_IDX) | BACKEND_BIT(VHOST_USER_F_PROTOCOL_FEATURES) |      \
	 BACKEND_BIT(VIRTIO_BLK_F_FLUSH) | BACKEND_BIT(VIRTIO_BLK_F_MQ) |                          \
	 BACKEND_BIT(VIRTIO_BLK_F_CONFIG_WCE) | BACKEND_BIT(VIRTIO_BLK_F_SEG_MAX))

/* What is wrong with its reply. */
enum backend_lie {
	HONEST,
	WRONG_REQUEST,
	WRONG_VERSION,
	NO_REPLY_FLAG,
	TOO_SHORT,
	TOO_LONG,
	HUGE_SIZE,
	HALF, /* and then nothing */
	WITH_FD,
	WITH_FDS,
	SILENT,
	CLOSES,
	TWICE,
	REFUSES, /* acknowledged with an error */
	WRONG_NUMBER,
	LIES
};

struct backend_message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			uint32_t n, pad;
			struct {
				uint64_t gpa, size, user, offset;
			} region[8];
		} memory;
		struct {
			uint32_t offset, size, flags;
			uint8_t data[256];
		} config;
		struct {
			uint64_t size, offset;
			uint16_t queues, queue_size;
			uint32_t pad;
		} inflight;
		uint8_t bytes[300];
	};
} __attribute__((packed));

struct backend_ring {
	unsigned num;
	uint16_t last_avail, used;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *vused;
	int kick, call;
	bool enabled, started;
};

struct backend {
	char path[64], dir[32];
	uint64_t features, protocol;
	uint64_t queue_num;
	unsigned config_max; /* longest it tells */
	bool no_head;	     /* refuses a configuration without any payload */
	uint8_t config[256];
	/* Message number `at` (of a life, from 1), or every message `lie_request`, is a lie. */
	_Atomic unsigned at, lie_request;
	_Atomic enum backend_lie lie;
	_Atomic bool hold;	      /* requests are taken and not done */
	_Atomic bool hold_odd;	      /* every other one is */
	_Atomic bool config_news;     /* the configuration is another: say so */
	_Atomic unsigned odd_request; /* send this request of its own */
	_Atomic uint32_t odd_flags, odd_size;

	/* What was seen. */
	_Atomic unsigned messages, connections, held, done, resubmitted;
	_Atomic uint64_t acked, enabled, mtu, highest_user;
	_Atomic uint16_t base[BACKEND_QUEUES];
	_Atomic unsigned nregions, reply_fds_closed, ack_result;
	_Atomic ino_t inflight_given; /* to us */
	_Atomic unsigned wce;
	uint8_t disk[BACKEND_SECTORS * 512];

	/* Its own. */
	pthread_t thread;
	bool running;
	int listener, conn, req, quit, inflight_fd;
	struct backend_ring ring[BACKEND_QUEUES];
	unsigned nmap;
	struct {
		uint64_t user, size, gpa;
		uint8_t *map;
		size_t len;
		uint64_t offset;
	} map[8];
	uint8_t *inflight; /* [BACKEND_QUEUES][256] */
};

static inline void backend_init(struct backend *b)
{
	struct virtio_blk_config *c = (struct virtio_blk_config *)b->config;

	memset(b, 0, sizeof(*b));
	strcpy(b->dir, "/tmp/vu-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/sock", b->dir);
	b->features = BACKEND_FEATURES;
	b->protocol = BACKEND_PROTOCOL;
	b->queue_num = BACKEND_QUEUES;
	b->config_max = 60;
	c->capacity = BACKEND_SECTORS;
	c->seg_max = 1000;
	c->num_queues = BACKEND_QUEUES;
	c->wce = 1;
	b->listener = b->conn = b->req = b->quit = b->inflight_fd = -1;
}

/* --- Rings --- */

static inline void *backend_gpa(struct backend *b, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < b->nmap; i++) {
		if (gpa >= b->map[i].gpa && gpa - b->map[i].gpa <= b->map[i].size &&
		    len <= b->map[i].size - (gpa - b->map[i].gpa))
			return b->map[i].map + b->map[i].offset + (gpa - b->map[i].gpa);
	}
	return NULL;
}

static inline void *backend_user(struct backend *b, uint64_t user)
{
	for (unsigned i = 0; i < b->nmap; i++) {
		if (user >= b->map[i].user && user < b->map[i].user + b->map[i].size)
			return b->map[i].map + b->map[i].offset + (user - b->map[i].user);
	}
	return NULL;
}

/* Do request @head. Returns the bytes written, or -1: what the guest asks makes no sense. */
static inline int backend_do(struct backend *b, struct backend_ring *ring, unsigned head)
{
	struct vring_desc *table = ring->desc;
	struct virtio_blk_outhdr hdr;
	uint64_t at = 0;
	unsigned n = ring->num, i = head;
	int written = 0;
	uint8_t *p;

	if ((table[i].flags & VRING_DESC_F_INDIRECT) != 0) {
		n = table[i].len / sizeof(*table);
		table = backend_gpa(b, table[i].addr, table[i].len);
		if (table == NULL || n == 0)
			return -1;
		i = 0;
	}
	for (unsigned steps = 0;; steps++) {
		struct vring_desc d = table[i];

		p = backend_gpa(b, d.addr, d.len);
		if (p == NULL || steps > n)
			return -1;
		if (steps == 0) {
			if (d.len < sizeof(hdr))
				return -1;
			memcpy(&hdr, p, sizeof(hdr));
		} else if ((d.flags & VRING_DESC_F_NEXT) == 0) {
			*p = VIRTIO_BLK_S_OK;
			return written + 1;
		} else if (hdr.sector < BACKEND_SECTORS &&
			   hdr.sector * 512 + at + d.len <= sizeof(b->disk)) {
			uint8_t *disk = b->disk + hdr.sector * 512 + at;

			if (hdr.type == VIRTIO_BLK_T_IN) {
				memcpy(p, disk, d.len);
				written += (int)d.len;
			} else {
				memcpy(disk, p, d.len);
			}
			at += d.len;
		}
		if ((d.flags & VRING_DESC_F_NEXT) == 0)
			return -1;
		i = d.next;
		if (i >= n)
			return -1;
	}
}

static inline void backend_complete(struct backend *b, unsigned q, unsigned head)
{
	struct backend_ring *ring = &b->ring[q];
	int len = backend_do(b, ring, head);

	ring->vused->ring[ring->used % ring->num] =
		(struct vring_used_elem){ .id = head, .len = len < 0 ? 0 : (uint32_t)len };
	ring->used++;
	__atomic_store_n(&ring->vused->idx, ring->used, __ATOMIC_RELEASE);
	if (b->inflight != NULL)
		b->inflight[q * 256 + head % 256] = 0;
	b->done++;
	if (ring->call >= 0)
		(void)eventfd_write(ring->call, 1);
}

static inline void backend_serve(struct backend *b, unsigned q)
{
	struct backend_ring *ring = &b->ring[q];

	if (!ring->started || !ring->enabled || ring->avail == NULL)
		return;
	for (;;) {
		unsigned head;

		/* EVENT_IDX: a kick for whatever comes next, and a look whether it has come. */
		__atomic_store_n((uint16_t *)&ring->vused->ring[ring->num], ring->last_avail,
				 __ATOMIC_SEQ_CST);
		if (ring->last_avail == __atomic_load_n(&ring->avail->idx, __ATOMIC_SEQ_CST))
			break;
		head = ring->avail->ring[ring->last_avail++ % ring->num] % ring->num;

		if (b->inflight != NULL)
			b->inflight[q * 256 + head % 256] = 1;
		if (b->hold || (b->hold_odd && ring->last_avail % 2 == 1))
			b->held++;
		else
			backend_complete(b, q, head);
	}
}

/* The kick eventfd came: what an earlier life left undone is done first. */
static inline void backend_begin(struct backend *b, unsigned q)
{
	struct backend_ring *ring = &b->ring[q];
	unsigned n = 0;

	ring->started = true;
	ring->used = ring->vused->idx;
	if (b->inflight == NULL)
		return;
	for (unsigned head = 0; head < 256; head++)
		n += b->inflight[q * 256 + head];
	ring->last_avail = (uint16_t)(ring->used + n);
	for (unsigned head = 0; head < 256 && !b->hold; head++) {
		if (b->inflight[q * 256 + head] == 0)
			continue;
		b->resubmitted++;
		backend_complete(b, q, head);
	}
}

/* --- Messages --- */

static inline void backend_send(int sock, const void *data, size_t len, const int *fds,
				unsigned nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, nfds * sizeof(int));
	}
	(void)sendmsg(sock, &msg, MSG_NOSIGNAL);
}

static inline void backend_hang_up(struct backend *b)
{
	for (unsigned q = 0; q < BACKEND_QUEUES; q++) {
		if (b->ring[q].kick >= 0)
			close(b->ring[q].kick);
		if (b->ring[q].call >= 0)
			close(b->ring[q].call);
		b->ring[q] = (struct backend_ring){ .kick = -1, .call = -1 };
	}
	for (unsigned i = 0; i < b->nmap; i++)
		munmap(b->map[i].map, b->map[i].len);
	b->nmap = 0;
	if (b->inflight != NULL)
		munmap(b->inflight, BACKEND_QUEUES * 256);
	b->inflight = NULL;
	for (int i = 0; i < 3; i++) {
		int *fd = i == 0 ? &b->conn : i == 1 ? &b->req : &b->inflight_fd;

		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

/* Send @m as the reply, with the lie that is due. False: this connection is over. */
static inline bool backend_reply(struct backend *b, struct backend_message *m, int fd, bool lie)
{
	enum backend_lie how = lie ? b->lie : HONEST;
	int fds[4] = { fd, fd, fd, fd }, quit = fd < 0 && lie ? eventfd(0, EFD_CLOEXEC) : -1;
	unsigned nfds = fd >= 0;

	m->flags = 1 | 4;
	switch (how) {
	case WRONG_REQUEST:
		m->request++;
		break;
	case WRONG_VERSION:
		m->flags = 2 | 4;
		break;
	case NO_REPLY_FLAG:
		m->flags = 1;
		break;
	case TOO_SHORT:
		m->size -= 1;
		break;
	case TOO_LONG:
		m->size += 1;
		break;
	case HUGE_SIZE:
		m->size = 0xffffffff;
		break;
	case WITH_FD:
		nfds = fd >= 0 ? 0 : 1; /* or without, where one is due */
		fds[0] = quit;
		break;
	case WITH_FDS:
		nfds = 4;
		fds[0] = fds[1] = fds[2] = fds[3] = fd >= 0 ? fd : quit;
		break;
	case REFUSES:
		if (m->size == 8)
			m->u64 = 5;
		break;
	case WRONG_NUMBER:
		m->bytes[0] ^= 0x77;
		m->bytes[m->size > 8 ? 7 : m->size - 1] ^= 0x77;
		break;
	default:
		break;
	}
	if (how == CLOSES)
		return false;
	if (how != SILENT) {
		size_t len = 12 + (m->size > sizeof(m->bytes) ? sizeof(m->bytes) : m->size);

		backend_send(b->conn, m, how == HALF ? len / 2 : len, fds, nfds);
		if (how == TWICE)
			backend_send(b->conn, m, len, NULL, 0);
	}
	if (quit >= 0)
		close(quit);
	return true;
}

static inline void backend_set_memory(struct backend *b, struct backend_message *m, const int *fds,
				      unsigned nfds)
{
	ck_assert_uint_eq(m->memory.n, nfds);
	ck_assert_uint_eq(m->size, 8 + m->memory.n * 32);
	for (unsigned i = 0; i < b->nmap; i++)
		munmap(b->map[i].map, b->map[i].len);
	b->nmap = 0;
	b->nregions = m->memory.n;
	for (unsigned i = 0; i < m->memory.n; i++) {
		size_t len = m->memory.region[i].size + m->memory.region[i].offset;
		void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);

		ck_assert_ptr_ne(map, MAP_FAILED);
		b->map[i].user = m->memory.region[i].user;
		b->map[i].size = m->memory.region[i].size;
		b->map[i].gpa = m->memory.region[i].gpa;
		b->map[i].offset = m->memory.region[i].offset;
		b->map[i].map = map;
		b->map[i].len = len;
		if (b->map[i].user > b->highest_user)
			b->highest_user = b->map[i].user;
		b->nmap++;
	}
}

static inline void backend_map_inflight(struct backend *b, int fd)
{
	void *map = mmap(NULL, BACKEND_QUEUES * 256, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (b->inflight != NULL)
		munmap(b->inflight, BACKEND_QUEUES * 256);
	b->inflight = map == MAP_FAILED ? NULL : map;
}

static inline void backend_config(struct backend *b, struct backend_message *m)
{
	if (m->config.size > b->config_max) {
		m->size = b->no_head ? 0 : 12;
		m->config.size = 0;
		return;
	}
	memcpy(m->config.data, b->config, m->config.size);
}

/* One message with its @nfds descriptors. False: this connection is over. */
static inline bool backend_handle(struct backend *b, struct backend_message *m, int *fds,
				  unsigned nfds)
{
	bool lie = b->at == b->messages || b->lie_request == m->request;
	bool ack = (m->flags & 8) != 0, reply = true;
	unsigned q = m->request == VU_SET_VRING_KICK || m->request == VU_SET_VRING_CALL
			     ? m->u64 & 0xff
			     : m->state.index;
	struct backend_ring *ring = &b->ring[q < BACKEND_QUEUES ? q : 0];
	int fd = -1;
	bool go;

	ck_assert_uint_eq(m->flags & 7, 1);
	switch (m->request) {
	case VU_GET_FEATURES:
		m->u64 = b->features;
		m->size = 8;
		break;
	case VU_GET_PROTOCOL_FEATURES:
		m->u64 = b->protocol;
		m->size = 8;
		break;
	case VU_GET_QUEUE_NUM:
		m->u64 = b->queue_num;
		m->size = 8;
		break;
	case VU_GET_CONFIG:
		ck_assert_uint_eq(m->size, 12 + m->config.size);
		backend_config(b, m);
		break;
	case VU_GET_VRING_BASE:
		m->state.num = ring->last_avail;
		ring->started = false;
		break;
	case VU_GET_INFLIGHT_FD:
		ck_assert_uint_eq(m->size, 24);
		ck_assert_uint_gt(m->inflight.queues, 0);
		fd = memfd_create("inflight", MFD_CLOEXEC);
		ck_assert_int_eq(ftruncate(fd, BACKEND_QUEUES * 256), 0);
		m->inflight.size = BACKEND_QUEUES * 256;
		m->size = 20;
		break;
	default:
		reply = false;
	}
	switch (m->request) {
	case VU_SET_FEATURES:
		b->acked = m->u64;
		break;
	case VU_SET_MEM_TABLE:
		backend_set_memory(b, m, fds, nfds);
		break;
	case VU_SET_VRING_NUM:
		ring->num = m->state.num;
		break;
	case VU_SET_VRING_BASE:
		ring->last_avail = (uint16_t)m->state.num;
		b->base[q] = (uint16_t)m->state.num;
		break;
	case VU_SET_VRING_ADDR:
		ck_assert_uint_eq(m->size, sizeof(m->addr));
		ring->desc = backend_user(b, m->addr.desc_user_addr);
		ring->avail = backend_user(b, m->addr.avail_user_addr);
		ring->vused = backend_user(b, m->addr.used_user_addr);
		ck_assert(ring->desc != NULL && ring->avail != NULL && ring->vused != NULL);
		break;
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
		ck_assert_uint_eq(nfds, 1);
		if (m->request == VU_SET_VRING_CALL) {
			if (ring->call >= 0)
				close(ring->call);
			ring->call = fds[0];
		} else {
			if (ring->kick >= 0)
				close(ring->kick);
			ring->kick = fds[0];
			ring->enabled = (b->acked >> VHOST_USER_F_PROTOCOL_FEATURES & 1) == 0;
			backend_begin(b, q);
		}
		fds[0] = -1;
		break;
	case VU_SET_VRING_ENABLE:
		ring->enabled = m->state.num != 0;
		if (ring->enabled)
			b->enabled |= 1ULL << q;
		else
			b->enabled &= ~(1ULL << q);
		backend_serve(b, q);
		break;
	case VU_NET_SET_MTU:
		b->mtu = m->u64;
		break;
	case VU_SET_BACKEND_REQ_FD:
		ck_assert_uint_eq(nfds, 1);
		b->req = fds[0];
		fds[0] = -1;
		break;
	case VU_SET_CONFIG:
		b->wce = 100 + m->config.data[0];
		if (m->config.offset + m->config.size <= sizeof(b->config))
			memcpy(b->config + m->config.offset, m->config.data, m->config.size);
		break;
	case VU_SET_INFLIGHT_FD: {
		struct stat st;

		ck_assert_uint_eq(nfds, 1);
		ck_assert_int_eq(fstat(fds[0], &st), 0);
		b->inflight_given = st.st_ino;
		backend_map_inflight(b, fds[0]);
		break;
	}
	}
	if (ack && !reply) {
		m->u64 = 0;
		m->size = 8;
		reply = true;
	}
	if (lie && b->lie == CLOSES)
		go = false;
	else
		go = !reply || backend_reply(b, m, fd, lie);
	if (fd >= 0)
		close(fd);
	return go;
}

static inline bool backend_read(int sock, void *buf, size_t len, int *fds, unsigned *nfds)
{
	for (size_t done = 0; done < len;) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(8 * sizeof(int))];
		} control;
		struct iovec iov = { (char *)buf + done, len - done };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.space,
				      .msg_controllen = sizeof(control.space) };
		ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);

		if (n <= 0)
			return false;
		done += (size_t)n;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
			*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
		}
	}
	return true;
}

static inline bool backend_message(struct backend *b)
{
	struct backend_message m;
	int fds[8];
	unsigned nfds = 0;
	bool go;

	memset(&m, 0, sizeof(m));
	if (!backend_read(b->conn, &m, 12, fds, &nfds))
		return false;
	ck_assert_uint_le(m.size, sizeof(m.bytes));
	if (!backend_read(b->conn, m.bytes, m.size, fds, &nfds))
		return false;
	b->messages++;
	go = backend_handle(b, &m, fds, nfds);
	for (unsigned i = 0; i < nfds; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return go;
}

/* What the test asked for meanwhile. */
static inline void backend_news(struct backend *b)
{
	struct backend_message m = { .flags = 1 };

	if (b->req < 0)
		return;
	if (b->config_news) {
		m.request = VU_BACKEND_CONFIG_CHANGE;
		b->config_news = false;
		backend_send(b->req, &m, 12, NULL, 0);
	}
	if (b->odd_request != 0) {
		int fd = eventfd(0, EFD_CLOEXEC), none[8];
		unsigned n = 0;

		m = (struct backend_message){ .request = b->odd_request,
					      .flags = b->odd_flags,
					      .size = b->odd_size };
		b->odd_request = 0;
		backend_send(b->req, &m, 12 + (m.size < 8 ? m.size : 8), &fd, 1);
		close(fd);
		if ((b->odd_flags & 8) != 0 && backend_read(b->req, &m, 20, none, &n))
			b->ack_result = m.u64 == 0 ? 1 : 2;
	}
}

static inline void *backend_main(void *arg)
{
	struct backend *b = arg;

	for (;;) {
		struct pollfd pfd[3 + BACKEND_QUEUES] = {
			{ .fd = b->quit, .events = POLLIN },
			{ .fd = b->conn < 0 ? b->listener : -1, .events = POLLIN },
			{ .fd = b->conn, .events = POLLIN },
		};
		eventfd_t count;

		for (unsigned q = 0; q < BACKEND_QUEUES; q++)
			pfd[3 + q] = (struct pollfd){ .fd = b->ring[q].kick, .events = POLLIN };
		(void)poll(pfd, 3 + BACKEND_QUEUES, 20);
		if (pfd[0].revents != 0)
			break;
		if (pfd[1].revents != 0) {
			b->conn = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
			b->connections++;
			b->messages = 0;
		}
		if (pfd[2].revents != 0 && !backend_message(b)) {
			backend_hang_up(b);
			continue;
		}
		for (unsigned q = 0; q < BACKEND_QUEUES; q++) {
			if (pfd[3 + q].fd < 0 || pfd[3 + q].revents == 0 ||
			    b->ring[q].kick != pfd[3 + q].fd)
				continue;
			(void)eventfd_read(pfd[3 + q].fd, &count);
			backend_serve(b, q);
		}
		backend_news(b);
	}
	backend_hang_up(b);
	return NULL;
}

static inline void backend_start(struct backend *b)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	strcpy(addr.sun_path, b->path);
	b->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(b->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(b->listener, 4), 0);
	b->quit = eventfd(0, EFD_CLOEXEC);
	for (unsigned q = 0; q < BACKEND_QUEUES; q++)
		b->ring[q] = (struct backend_ring){ .kick = -1, .call = -1 };
	b->messages = b->held = 0;
	b->running = true;
	ck_assert_int_eq(pthread_create(&b->thread, NULL, backend_main, b), 0);
}

/* As if killed: what it held is not given back. */
static inline void backend_stop(struct backend *b)
{
	if (!b->running)
		return;
	(void)eventfd_write(b->quit, 1);
	pthread_join(b->thread, NULL);
	close(b->quit);
	close(b->listener);
	unlink(b->path);
	b->running = false;
}

static inline void backend_fini(struct backend *b)
{
	backend_stop(b);
	rmdir(b->dir);
}

#endif
