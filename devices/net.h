/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of a network device: what carries its frames. net_tap.c: a tap interface of
 * the host; net_user.c: passt, a network in user space. net_vhost.c: the host's kernel serves
 * the queues of a tap itself.
 *
 * A packet is what virtio says it is: a virtio_net_hdr_v1 of NET_HDR bytes, then an Ethernet
 * frame. A backend has one or more pairs of queues, each with a descriptor that epoll can watch;
 * the device watches it and calls `receive` and `send`, all under its mutex.
 */
#ifndef DEVICES_NET_H
#define DEVICES_NET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

#define NET_PAIRS_MAX  16
#define NET_HDR	       sizeof(struct virtio_net_hdr_v1)
#define NET_FRAME_MIN  14		/* an Ethernet header */
#define NET_FRAME_MAX  (14 + 4 + 65535) /* header, VLAN tag, the longest IP packet */
#define NET_PACKET_MAX (NET_HDR + NET_FRAME_MAX)

/* Of virtio 1.2 (5.1.3) and later; missing from older kernel headers. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO	56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define NET_BIT(feature) (1ULL << VIRTIO_NET_F_##feature)

/* What the guest can take, negotiated or set by the control queue. */
#define NET_GUEST_OFFLOADS                                                                         \
	(NET_BIT(GUEST_CSUM) | NET_BIT(GUEST_TSO4) | NET_BIT(GUEST_TSO6) | NET_BIT(GUEST_ECN) |    \
	 NET_BIT(GUEST_UFO) | NET_BIT(GUEST_USO4) | NET_BIT(GUEST_USO6))
/* What the host can take. */
#define NET_HOST_OFFLOADS                                                                          \
	(NET_BIT(CSUM) | NET_BIT(HOST_TSO4) | NET_BIT(HOST_TSO6) | NET_BIT(HOST_ECN) |             \
	 NET_BIT(HOST_UFO) | NET_BIT(HOST_USO))

/* One use of --net. */
struct net_options {
	char *id;    /* for the control API */
	char *tap;   /* name */
	uint64_t fd; /* of a tap; 0: not given */
	bool user;
	char *mac;
	uint64_t mtu; /* 0: not given */
	uint64_t queues;
	int vhost; /* enum net_vhost_mode */
	bool offload;
	uint64_t bw, bw_burst, pps, pps_burst; /* bytes, packets per second, each way; 0: none */
	bool iothread;
	char *tcp, *udp; /* forwards for passt, joined by '+' */
	bool host;	 /* passt shows the host's loopback to the guest */
	char *address;	 /* of the guest behind passt, ADDRESS/BITS; NULL: the host's own */
};

/* What follows from opt->address, as text of IPv4 addresses. */
struct net_address {
	char guest[16], mask[16];
	char gateway[16], dns[16]; /* both are passt */
};

#define NET_DNS_MAX  3 /* more are not looked at by most C libraries */
#define NET_DNS_SIZE 64

enum net_vhost_mode { NET_VHOST_AUTO, NET_VHOST_ON, NET_VHOST_OFF };

struct net_backend;

struct net_backend_ops {
	/*
	 * Receive one packet into the @n segments; what does not fit is lost. Returns its length,
	 * -EAGAIN: there is none, another -errno: there will never be one again.
	 */
	ssize_t (*receive)(struct net_backend *be, unsigned pair, const struct iovec *iov,
			   unsigned n);
	/*
	 * Send one packet of @len bytes. 0, -EAGAIN: there is no room now, watch for EPOLLOUT;
	 * another -errno: it was dropped.
	 */
	int (*send)(struct net_backend *be, unsigned pair, const struct iovec *iov, unsigned n,
		    size_t len);
	/* After a batch. 0, or -EAGAIN: not all is out, call again at EPOLLOUT. May be NULL. */
	int (*flush)(struct net_backend *be, unsigned pair);
	/* From now on the guest can take these, of NET_GUEST_OFFLOADS. Any thread. */
	void (*set_offloads)(struct net_backend *be, uint64_t features);
	/* Use the first @n pairs. Any thread. 0 or -errno. NULL: there is one. */
	int (*set_pairs)(struct net_backend *be, unsigned n);
	/* On the main thread. */
	void (*free)(struct net_backend *be);
};

/* The link went up or down. On the main loop, without the device's mutex. */
struct net_link {
	void (*changed)(struct net_link *link, bool up);
};

struct net_backend {
	const struct net_backend_ops *ops;
	char name[32]; /* "tap0", "user", for messages and for the MAC address */
	unsigned pairs;
	int fd[NET_PAIRS_MAX];
	uint64_t features; /* of NET_GUEST_OFFLOADS and NET_HOST_OFFLOADS */
	bool up;	   /* the link, at first */
	bool buffered;	   /* packets are here already, the descriptor does not show it */
};

/*
 * A tap interface, opt->tap or opt->fd. Its state is watched on @loop (the main one) and told to
 * @link, which outlives the backend. NULL with @err filled.
 */
struct net_backend *net_tap_new(const struct net_options *opt, struct loop *loop,
				struct net_link *link, struct err *err);
/* passt, started and connected. */
struct net_backend *net_user_new(const struct net_options *opt, struct loop *loop,
				 struct net_link *link, struct err *err);
/* The rest of what net_user_new() does, with @program in place of passt. For tests. */
struct net_backend *net_user_spawn(const char *program, const struct net_options *opt,
				   struct loop *loop, struct net_link *link, struct err *err);
/* Take "10.0.2.15/24" apart. */
int net_parse_address(const char *text, struct net_address *addr, struct err *err);
/*
 * The name servers that a guest behind passt can ask, at most NET_DNS_MAX: those of this host, or
 * where they are on its loopback, those behind them. Returns how many.
 */
unsigned net_user_dns(char dns[NET_DNS_MAX][NET_DNS_SIZE]);
/* Check "8080:80+2222:22": what passt takes, joined by '+'. @key: "tcp" or "udp". */
int net_user_check(const char *key, const char *forwards, struct err *err);

/* --- MAC addresses; virtio_net.c --- */

/* Is @text a station's address, such as 52:54:00:12:34:56? */
int net_check_mac(const char *text, struct err *err);
/* @given, or (NULL) one made of @name, this host and @index: the same each time. */
void net_make_mac(uint8_t mac[6], const char *given, const char *name, unsigned index);

/* --- vhost-net --- */

struct virtio_device;
struct net_vhost;

/* Open /dev/vhost-net @pairs times. NULL with @err filled when it is absent or lacks something. */
struct net_vhost *net_vhost_new(unsigned pairs, struct err *err);
/*
 * Let the host's kernel serve queues 2 * @pair and 2 * @pair + 1 of @vdev, both started, with tap
 * @fd. Loop, lock held. 0 or -errno; then nothing has changed.
 */
int net_vhost_start(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair, int fd);
/* Stop that and take the indices back. Any thread, lock held; harmless when not started. */
void net_vhost_stop(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair);
/* After net_vhost_stop(): serve the queues here again. Loop, lock held. */
void net_vhost_return(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair);
void net_vhost_free(struct net_vhost *vhost);

#endif
