// SPDX-License-Identifier: Apache-2.0
/*
 * The vhost-user protocol, front end: messages. See vhost_user_proto.h.
 *
 * Of each reply everything is checked: the request it belongs to, version and reply flag, its
 * size, its numbers, and how many descriptors came with it. Descriptors nobody expected are
 * closed. No more is read than one message, whose size is compared with what the caller
 * has room for before a byte of it is read.
 *
 * Addresses. A back end knows guest memory by the "user addresses" we tell it, and finds the
 * rings by them. They need not be addresses of ours, only agree with each other; so they are
 * guest addresses with a bit set, and a back end learns nothing of where things are in us.
 *
 * Limits: host byte order, as the protocol has it. Memory that the guest cannot write is not
 * told, since back ends map all of it for writing: a request whose buffer lies there fails.
 *
 * #syscalls: recvfrom
 * #syscalls main vcpu: sendmsg recvmsg ppoll close
 */
#include <errno.h>
#include <linux/vhost_types.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/vhost_user_proto.h"
#include "vmm/base/loop.h"

#define VERSION	     1u
#define VERSION_MASK 3u
#define FLAG_REPLY   (1u << 2)
#define FLAG_ACK     (1u << 3) /* the sender wants an answer */

#define USER_ADDRESS (1ULL << 60)
#define FDS_MAX	     8 /* that may come with a message */
#define NO_FD	     (1u << 8)

struct header {
	uint32_t request, flags, size;
};

struct region {
	uint64_t gpa, size, user, offset;
};

struct memory {
	uint32_t n, pad;
	struct region region[VU_REGIONS_MAX];
};

struct config {
	uint32_t offset, size, flags;
	uint8_t data[VU_CONFIG_MAX];
};

struct inflight {
	uint64_t size, offset;
	uint16_t queues, queue_size;
	uint32_t pad; /* not everybody sends it */
};

#define CONFIG_HEAD  offsetof(struct config, data)
#define INFLIGHT_MIN offsetof(struct inflight, pad)
#define PAYLOAD_MAX  sizeof(struct config)

_Static_assert(sizeof(struct header) == 12, "a header has 12 bytes");
_Static_assert(sizeof(struct memory) <= PAYLOAD_MAX, "the longest payload");

static const char *name_of(unsigned request)
{
	static const char *const names[] = {
		[VU_GET_FEATURES] = "GET_FEATURES",
		[VU_SET_FEATURES] = "SET_FEATURES",
		[VU_SET_OWNER] = "SET_OWNER",
		[VU_SET_MEM_TABLE] = "SET_MEM_TABLE",
		[VU_SET_VRING_NUM] = "SET_VRING_NUM",
		[VU_SET_VRING_ADDR] = "SET_VRING_ADDR",
		[VU_SET_VRING_BASE] = "SET_VRING_BASE",
		[VU_GET_VRING_BASE] = "GET_VRING_BASE",
		[VU_SET_VRING_KICK] = "SET_VRING_KICK",
		[VU_SET_VRING_CALL] = "SET_VRING_CALL",
		[VU_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
		[VU_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
		[VU_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
		[VU_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
		[VU_NET_SET_MTU] = "NET_SET_MTU",
		[VU_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
		[VU_GET_CONFIG] = "GET_CONFIG",
		[VU_SET_CONFIG] = "SET_CONFIG",
		[VU_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
		[VU_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
		[VU_RESET_DEVICE] = "RESET_DEVICE",
	};
	const char *name = NULL;

	if (request < sizeof(names) / sizeof(names[0]))
		name = names[request];
	return name != NULL ? name : "a request";
}

/* --- Bytes --- */

void vu_close(struct vu_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	*c = (struct vu_conn){ .fd = -1 };
}

/* Wait until @fd is ready for @events. 0, or -ETIMEDOUT. */
static int wait_for(int fd, short events, uint64_t deadline)
{
	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = events };
		uint64_t now = loop_now_ns();
		struct timespec left;
		int r;

		if (now >= deadline)
			return -ETIMEDOUT;
		left.tv_sec = (time_t)((deadline - now) / 1000000000);
		left.tv_nsec = (long)((deadline - now) % 1000000000);
		r = ppoll(&pfd, 1, &left, NULL);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_bytes(int sock, struct iovec *iov, unsigned niov, const int *fds, unsigned nfds,
		      uint64_t deadline)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = niov };

	if (nfds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
	}
	while (msg.msg_iovlen > 0) {
		ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n < 0) {
			r = wait_for(sock, POLLOUT, deadline);
			if (r < 0)
				return r;
			continue;
		}
		/* They went with the first byte. */
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		while (msg.msg_iovlen > 0 && (size_t)n >= msg.msg_iov->iov_len) {
			n -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen > 0) {
			msg.msg_iov->iov_base = (char *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* Take descriptors out of @msg: the first into *@fd, if that is wanted and empty; close others. */
static unsigned take_fds(struct msghdr *msg, int *fd)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t len = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < len / sizeof(int); i++, n++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
			if (fd != NULL && *fd < 0)
				*fd = got;
			else
				close(got);
		}
	}
	return n;
}

/* Exactly @len bytes. *@nfds counts the descriptors that came with them. -EPIPE at the end. */
static int receive_bytes(int sock, void *buf, size_t len, int *fd, unsigned *nfds,
			 uint64_t deadline)
{
	for (size_t done = 0; done < len;) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
		} control;
		struct iovec iov = { (char *)buf + done, len - done };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.space,
				      .msg_controllen = sizeof(control.space) };
		ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return errno == ECONNRESET ? -EPIPE : -errno;
		if (n < 0) {
			r = wait_for(sock, POLLIN, deadline);
			if (r < 0)
				return r;
			continue;
		}
		*nfds += take_fds(&msg, fd);
		if (n == 0)
			return -EPIPE;
		done += (size_t)n;
	}
	return 0;
}

/* --- Messages --- */

static int trouble(struct err *err, int r, const char *doing, unsigned request)
{
	if (r == -EPIPE)
		return err_set(err, EPIPE, "it closed the connection (%s %s)", doing,
			       name_of(request));
	if (r == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT, "it does not answer (%s %s)", doing,
			       name_of(request));
	return err_sys(err, -r, "%s %s", doing, name_of(request));
}

static int send_message(struct vu_conn *c, unsigned request, uint32_t flags, const void *payload,
			unsigned len, const int *fds, unsigned nfds, uint64_t deadline,
			struct err *err)
{
	struct header head = { request, VERSION | flags, len };
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)payload, len } };
	int r;

	if (c->fd < 0)
		return err_set(err, ENOTCONN, "there is no connection");
	r = send_bytes(c->fd, iov, len > 0 ? 2 : 1, fds, nfds, deadline);
	return r < 0 ? trouble(err, r, "sending", request) : 0;
}

/*
 * The reply of @request, @min to @max bytes: *@len says how many. With it comes a descriptor if
 * @fd is given, and none else.
 */
static int receive_message(struct vu_conn *c, unsigned request, void *payload, unsigned min,
			   unsigned max, unsigned *len, int *fd, uint64_t deadline, struct err *err)
{
	struct header head;
	unsigned nfds = 0;
	int r;

	if (fd != NULL)
		*fd = -1;
	r = receive_bytes(c->fd, &head, sizeof(head), fd, &nfds, deadline);
	if (r < 0) {
		r = trouble(err, r, "waiting for the reply to", request);
	} else if (head.request != request) {
		r = err_set(err, EPROTO, "it answered %s with number %u", name_of(request),
			    head.request);
	} else if ((head.flags & VERSION_MASK) != VERSION || (head.flags & FLAG_REPLY) == 0) {
		r = err_set(err, EPROTO, "its reply to %s has flags 0x%x", name_of(request),
			    head.flags);
	} else if (head.size < min || head.size > max) {
		r = err_set(err, EPROTO, "its reply to %s has %u bytes", name_of(request),
			    head.size);
	} else {
		r = receive_bytes(c->fd, payload, head.size, fd, &nfds, deadline);
		if (r < 0)
			r = trouble(err, r, "waiting for the reply to", request);
		else if (nfds != (fd != NULL ? 1 : 0))
			r = err_set(err, EPROTO, "its reply to %s came with %u descriptors",
				    name_of(request), nfds);
		else
			*len = head.size;
	}
	if (r < 0 && fd != NULL && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	return r;
}

int vu_ask(struct vu_conn *c, unsigned request, uint64_t deadline, struct err *err)
{
	return send_message(c, request, 0, NULL, 0, NULL, 0, deadline, err);
}

int vu_answer(struct vu_conn *c, unsigned request, uint64_t *value, uint64_t deadline,
	      struct err *err)
{
	unsigned len;

	return receive_message(c, request, value, sizeof(*value), sizeof(*value), &len, NULL,
			       deadline, err);
}

int vu_get(struct vu_conn *c, unsigned request, uint64_t *value, uint64_t deadline, struct err *err)
{
	int r = vu_ask(c, request, deadline, err);

	return r < 0 ? r : vu_answer(c, request, value, deadline, err);
}

static int set_with_fds(struct vu_conn *c, unsigned request, const void *payload, unsigned len,
			const int *fds, unsigned nfds, uint64_t deadline, struct err *err)
{
	uint64_t result = 0;
	int r = send_message(c, request, c->acks ? FLAG_ACK : 0, payload, len, fds, nfds, deadline,
			     err);

	if (r == 0 && c->acks)
		r = vu_answer(c, request, &result, deadline, err);
	if (r == 0 && result != 0)
		r = err_set(err, EREMOTEIO, "it refuses %s", name_of(request));
	return r;
}

int vu_set(struct vu_conn *c, unsigned request, const void *payload, unsigned len, int fd,
	   uint64_t deadline, struct err *err)
{
	return set_with_fds(c, request, payload, len, &fd, fd >= 0, deadline, err);
}

int vu_set_u64(struct vu_conn *c, unsigned request, uint64_t value, uint64_t deadline,
	       struct err *err)
{
	return vu_set(c, request, &value, sizeof(value), -1, deadline, err);
}

/* --- Memory and rings --- */

int vu_set_memory(struct vu_conn *c, const struct gmem *mem, uint64_t deadline, struct err *err)
{
	struct memory table = { 0 };
	int fds[VU_REGIONS_MAX];

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		if (r->fd < 0 || r->ro)
			continue;
		if (table.n == VU_REGIONS_MAX)
			return err_set(err, E2BIG,
				       "guest memory has more than %d parts, more than the "
				       "protocol can tell",
				       VU_REGIONS_MAX);
		fds[table.n] = r->fd;
		table.region[table.n++] = (struct region){ .gpa = r->gpa,
							   .size = r->size,
							   .user = USER_ADDRESS | r->gpa,
							   .offset = r->offset };
	}
	return set_with_fds(
		c, VU_SET_MEM_TABLE, &table,
		(unsigned)(offsetof(struct memory, region) + table.n * sizeof(table.region[0])),
		fds, table.n, deadline, err);
}

static int set_state(struct vu_conn *c, unsigned request, unsigned index, unsigned num,
		     uint64_t deadline, struct err *err)
{
	struct vhost_vring_state state = { .index = index, .num = num };

	return vu_set(c, request, &state, sizeof(state), -1, deadline, err);
}

static int set_eventfd(struct vu_conn *c, unsigned request, unsigned index, int fd,
		       uint64_t deadline, struct err *err)
{
	uint64_t value = index | (fd < 0 ? NO_FD : 0);

	return vu_set(c, request, &value, sizeof(value), fd, deadline, err);
}

int vu_set_ring(struct vu_conn *c, const struct vu_ring *ring, uint64_t deadline, struct err *err)
{
	struct vhost_vring_addr addr = {
		.index = ring->index,
		.desc_user_addr = USER_ADDRESS | ring->desc,
		.avail_user_addr = USER_ADDRESS | ring->avail,
		.used_user_addr = USER_ADDRESS | ring->used,
	};
	int r = set_state(c, VU_SET_VRING_NUM, ring->index, ring->size, deadline, err);

	if (r == 0)
		r = set_state(c, VU_SET_VRING_BASE, ring->index, ring->base, deadline, err);
	if (r == 0)
		r = vu_set(c, VU_SET_VRING_ADDR, &addr, sizeof(addr), -1, deadline, err);
	if (r == 0)
		r = set_eventfd(c, VU_SET_VRING_CALL, ring->index, ring->call, deadline, err);
	if (r == 0) /* last: it starts the ring */
		r = set_eventfd(c, VU_SET_VRING_KICK, ring->index, ring->kick, deadline, err);
	return r;
}

int vu_enable_ring(struct vu_conn *c, unsigned index, bool on, uint64_t deadline, struct err *err)
{
	return set_state(c, VU_SET_VRING_ENABLE, index, on, deadline, err);
}

int vu_stop_ring(struct vu_conn *c, unsigned index, uint16_t *base, uint64_t deadline,
		 struct err *err)
{
	struct vhost_vring_state state = { .index = index };
	unsigned len;
	int r = send_message(c, VU_GET_VRING_BASE, 0, &state, sizeof(state), NULL, 0, deadline,
			     err);

	if (r == 0)
		r = receive_message(c, VU_GET_VRING_BASE, &state, sizeof(state), sizeof(state),
				    &len, NULL, deadline, err);
	if (r == 0 && (state.index != index || state.num > UINT16_MAX))
		r = err_set(err, EPROTO, "it says ring %u is at %u, asked for ring %u", state.index,
			    state.num, index);
	if (r == 0)
		*base = (uint16_t)state.num;
	return r;
}

/* --- Configuration --- */

int vu_get_config(struct vu_conn *c, void *config, unsigned len, uint64_t deadline, struct err *err)
{
	struct config ask = { .size = len }, answer;
	unsigned got = 0;
	int r;

	if (len > VU_CONFIG_MAX)
		return err_set(err, EINVAL, "%u bytes of configuration are too many", len);
	r = send_message(c, VU_GET_CONFIG, 0, &ask, CONFIG_HEAD + len, NULL, 0, deadline, err);
	if (r == 0)
		r = receive_message(c, VU_GET_CONFIG, &answer, 0, CONFIG_HEAD + len, &got, NULL,
				    deadline, err);
	if (r < 0)
		return r;
	/* No payload, or a head that says so: refused. */
	if (got == 0 || (got == CONFIG_HEAD && answer.size == 0))
		return err_set(err, EOPNOTSUPP, "it has no configuration of %u bytes", len);
	if (got != CONFIG_HEAD + len || answer.size != len || answer.offset != 0)
		return err_set(err, EPROTO,
			       "its configuration has %u bytes from %u in a reply of %u, asked for "
			       "%u",
			       got < CONFIG_HEAD ? 0 : answer.size,
			       got < CONFIG_HEAD ? 0 : answer.offset, got, len);
	memcpy(config, answer.data, len);
	return 0;
}

int vu_set_config(struct vu_conn *c, unsigned off, const void *data, unsigned len,
		  uint64_t deadline, struct err *err)
{
	struct config set = { .offset = off, .size = len };

	if (len > VU_CONFIG_MAX)
		return err_set(err, EINVAL, "%u bytes of configuration are too many", len);
	memcpy(set.data, data, len);
	return vu_set(c, VU_SET_CONFIG, &set, CONFIG_HEAD + len, -1, deadline, err);
}

/* --- Requests in flight --- */

int vu_get_inflight(struct vu_conn *c, struct vu_inflight *in, uint64_t deadline, struct err *err)
{
	struct inflight msg = { .queues = in->queues, .queue_size = in->queue_size };
	unsigned len;
	int fd, r;

	r = send_message(c, VU_GET_INFLIGHT_FD, 0, &msg, sizeof(msg), NULL, 0, deadline, err);
	if (r == 0)
		r = receive_message(c, VU_GET_INFLIGHT_FD, &msg, INFLIGHT_MIN, sizeof(msg), &len,
				    &fd, deadline, err);
	if (r < 0)
		return r;
	if (len != INFLIGHT_MIN && len != sizeof(msg)) {
		close(fd);
		return err_set(err, EPROTO, "its reply to GET_INFLIGHT_FD has %u bytes", len);
	}
	/* It is the back end's own: never mapped here, only given back as it came. */
	*in = (struct vu_inflight){ .fd = fd,
				    .size = msg.size,
				    .offset = msg.offset,
				    .queues = in->queues,
				    .queue_size = in->queue_size };
	return 0;
}

int vu_set_inflight(struct vu_conn *c, const struct vu_inflight *in, uint64_t deadline,
		    struct err *err)
{
	struct inflight msg = { .size = in->size,
				.offset = in->offset,
				.queues = in->queues,
				.queue_size = in->queue_size };

	return vu_set(c, VU_SET_INFLIGHT_FD, &msg, sizeof(msg), in->fd, deadline, err);
}

/* --- The back end's own requests --- */

int vu_take_request(int fd, uint64_t deadline, struct err *err)
{
	uint8_t payload[PAYLOAD_MAX], byte;
	struct header head;
	unsigned nfds = 0;
	int r;

	if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	r = receive_bytes(fd, &head, sizeof(head), NULL, &nfds, deadline);
	if (r == 0 && ((head.flags & VERSION_MASK) != VERSION || (head.flags & FLAG_REPLY) != 0 ||
		       head.size > sizeof(payload) || head.request > INT32_MAX))
		return err_set(err, EPROTO, "its request %u has flags 0x%x and %u bytes",
			       head.request, head.flags, head.size);
	if (r == 0)
		r = receive_bytes(fd, payload, head.size, NULL, &nfds, deadline);
	if (r == 0 && (head.flags & FLAG_ACK) != 0) {
		uint64_t result = head.request != VU_BACKEND_CONFIG_CHANGE;
		struct header reply = { head.request, VERSION | FLAG_REPLY, sizeof(result) };
		struct iovec iov[2] = { { &reply, sizeof(reply) }, { &result, sizeof(result) } };

		r = send_bytes(fd, iov, 2, NULL, 0, deadline);
	}
	if (r < 0)
		return err_sys(err, -r, "a request of its own");
	return (int)head.request;
}
