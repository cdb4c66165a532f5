/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network backend for tests: a pair of sockets that keeps packets apart, as a tap does.
 * What the test writes to wire[i], header and all, pair i of the device receives; it
 * reads there what the device sends.
 */
#ifndef TESTS_UNIT_NET_UTIL_H
#define TESTS_UNIT_NET_UTIL_H

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/virtio_net_impl.h"
#include "vmm/base/util.h"

struct fake_net {
	struct net_backend be;
	int wire[NET_PAIRS_MAX];
	uint64_t offloads; /* set last */
	unsigned active;   /* pairs, set last */
	unsigned reads;
};

static inline ssize_t fake_receive(struct net_backend *be, unsigned pair, const struct iovec *iov,
				   unsigned n)
{
	ssize_t r = readv(be->fd[pair], iov, (int)n);

	container_of(be, struct fake_net, be)->reads++;
	return r > 0 ? r : r == 0 ? -EPIPE : -errno;
}

static inline int fake_send(struct net_backend *be, unsigned pair, const struct iovec *iov,
			    unsigned n, size_t len)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n };
	ssize_t r = sendmsg(be->fd[pair], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	return r < 0 ? -errno : r == (ssize_t)len ? 0 : -EIO;
}

static inline void fake_set_offloads(struct net_backend *be, uint64_t features)
{
	container_of(be, struct fake_net, be)->offloads = features;
}

static inline int fake_set_pairs(struct net_backend *be, unsigned n)
{
	container_of(be, struct fake_net, be)->active = n;
	return 0;
}

static inline void fake_free(struct net_backend *be)
{
	struct fake_net *fake = container_of(be, struct fake_net, be);

	for (unsigned i = 0; i < be->pairs; i++) {
		close(be->fd[i]);
		if (fake->wire[i] >= 0)
			close(fake->wire[i]);
	}
	free(fake);
}

static const struct net_backend_ops fake_ops = {
	.receive = fake_receive,
	.send = fake_send,
	.set_offloads = fake_set_offloads,
	.set_pairs = fake_set_pairs,
	.free = fake_free,
};

/* NULL when there are no sockets to be had. The device frees it. */
static inline struct fake_net *fake_net_new(unsigned pairs)
{
	struct fake_net *fake = calloc(1, sizeof(*fake));

	if (fake == NULL)
		return NULL;
	fake->be = (struct net_backend){ .ops = &fake_ops, .name = "fake", .up = true };
	fake->be.features = NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS;
	for (; fake->be.pairs < pairs; fake->be.pairs++) {
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) <
		    0) {
			fake_free(&fake->be);
			return NULL;
		}
		fake->be.fd[fake->be.pairs] = fds[0];
		fake->wire[fake->be.pairs] = fds[1];
	}
	return fake;
}

#endif
