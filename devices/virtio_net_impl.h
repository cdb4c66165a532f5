/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the virtio network device share: virtio_net.c (making, life, state),
 * virtio_net_io.c (packets), virtio_net_ctrl.c (control queue, filters).
 */
#ifndef DEVICES_VIRTIO_NET_IMPL_H
#define DEVICES_VIRTIO_NET_IMPL_H

#include <limits.h>
#include "devices/net.h"
#include "devices/virtio.h"
#include "vmm/base/iothread.h"
#include "vmm/base/ratelimit.h"

#define NET_QUEUE_SIZE 256
#define NET_QUEUES_MAX (2 * NET_PAIRS_MAX + 1)
#define NET_WINDOW_IOV (IOV_MAX - 1) /* one more is for the bounce buffer */
#define NET_MACS_MAX   64	     /* of each kind in the filter; with more it lets all pass */
#define NET_VLANS      4096
#define NET_PEEK       18 /* bytes of a frame the filters look at: header and VLAN tag */

/* How a queue is limited, one direction of the device. Loop. */
struct net_limit {
	struct ratelimit bytes, packets;
	uint64_t owed_bytes, owed_packets; /* passed, not yet taken from the buckets */
	struct loop_timer timer;	   /* armed: nothing may pass until then */
};

/* Receive buffers of the driver taken ahead, so that a packet of any size has room. */
struct net_rx {
	unsigned first, n;	     /* of chain[]: those taken and not given back */
	unsigned iov_first, iov_end; /* of iov[]: theirs */
	size_t bytes;		     /* they hold */
	size_t want; /* take so many bytes ahead, about the size of recent packets */
	size_t held; /* a packet of this size waits in bounce[] for buffers */
	bool dry;    /* no buffers: the driver's kick goes on */
	struct virtqueue_chain chain[NET_QUEUE_SIZE];
	struct iovec iov[NET_WINDOW_IOV + 1];
	uint8_t bounce[NET_PACKET_MAX];
};

struct net_pair {
	struct net *net;
	struct loop_fd lfd;
	bool vhost;	 /* served by the host's kernel */
	bool tx_blocked; /* until EPOLLOUT */
	struct net_rx rx;
	struct iovec tx_iov[1 + VIRTQUEUE_IOV(NET_QUEUE_SIZE)]; /* first: the header */
};

/* What the driver asked for by the control queue, and by what it accepted. */
struct net_mode {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool all_unicast, all_multicast; /* the tables were too long */
	unsigned nunicast, nmulticast;
	uint8_t unicast[NET_MACS_MAX][6], multicast[NET_MACS_MAX][6];
	uint8_t vlans[NET_VLANS / 8];
	uint16_t pairs;	   /* in use */
	uint64_t offloads; /* of NET_GUEST_OFFLOADS */
};

/* Packets; "dropped" for want of buffers or room, or because they were wrong. */
struct net_stats {
	uint64_t rx, rx_dropped, rx_filtered;
	uint64_t tx, tx_dropped;
};

struct net {
	struct virtio_device vdev; /* first */
	struct virtio_net_config config;
	uint8_t mac[6]; /* that the driver finds after a reset */
	struct net_backend *be;
	struct net_link link;
	struct net_vhost *vhost; /* NULL: not used */
	struct iothread *io;	 /* NULL: the main loop */
	unsigned pairs;
	bool running; /* live, and all set up for that */
	bool own_mac; /* that of a saved machine is not taken over: another one was given ... */
	bool new_mac; /* ... or is wanted */
	bool fresh;   /* not yet running since the reset */
	bool lost;    /* the backend is gone for good */
	struct net_mode mode;
	struct net_limit rx_limit, tx_limit;
	struct net_stats stats;
	struct iovec ctrl_iov[VIRTQUEUE_IOV(NET_QUEUE_SIZE)];
	struct net_pair *pair; /* [pairs] */
};

/* --- virtio_net.c --- */

/* The backend will never carry a packet again: @error says why. Link down. Loop. */
void net_lost(struct net *net, int error);
/* Use net->mode.pairs pairs: tap queues, vhost, descriptors. Loop. */
void net_apply_pairs(struct net *net);

/* The two faces of the device, for tests that bring a backend of their own. */
struct net *net_new(const struct net_options *opt, unsigned index, const struct virtio_host *host,
		    struct net_backend *be, struct err *err);
extern const struct virtio_ops virtio_net_ops;

/* --- virtio_net_io.c; all on the loop, but for net_io_reset --- */

/* Receive, send as much as can be now, at most a batch. */
void net_rx(struct net_pair *p);
void net_tx(struct net_pair *p);
/* The driver added receive buffers. */
void net_rx_kick(struct net_pair *p);
/* Watch the descriptor for what the pair waits for now. */
void net_watch(struct net_pair *p);
/* The descriptor is ready; a limit's time has come. */
void net_ready(struct loop_fd *lfd, uint32_t events);
void net_rx_time(struct loop_timer *timer);
void net_tx_time(struct loop_timer *timer);
/* Throw away what came while there was no driver. */
void net_rx_drain(struct net_pair *p);
/* Give receive buffers taken ahead back to the queue, as if never taken. */
void net_rx_return(struct net_pair *p);
/* Forget everything. Any thread. */
void net_io_reset(struct net_pair *p);

/* --- virtio_net_ctrl.c --- */

/* As after a reset: everything passes, one pair. */
void net_mode_reset(struct net *net);
void net_ctrl(struct net *net, unsigned q);
/* Does the filter let a frame pass? @eth: its first @len bytes, at most NET_PEEK. */
bool net_filter(const struct net *net, const uint8_t *eth, size_t len);
/* Is there anything that net_filter() could stop? */
bool net_filters(const struct net *net);
void net_mode_state(struct net *net, struct state *st);

#endif
