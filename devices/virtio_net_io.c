// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio network device, packets: Virtual I/O Device (VIRTIO) 1.2, sections 5.1.6.2 to
 * 5.1.6.4. The device itself is in virtio_net.c.
 *
 * Theory of operation. A packet costs one system call, and nothing is copied: the backend reads
 * into and writes from guest memory. As long as packets come no descriptor is waited for
 * and the driver is not asked to notify; it is interrupted once per batch.
 *
 * Receiving. The length of a packet is known after it was read, so room for it must be taken
 * before. Chains are popped ahead into a window (struct net_rx), enough for a packet of the size
 * that lately came; behind them, as the last segment, is a bounce buffer that takes what is
 * longer. A packet that fits is in place: its chains are given back, the rest of the window
 * waits for the next. One that does not is put together in the bounce buffer, held, and
 * copied out as soon as the window holds enough; so nothing is lost because a few buffers are
 * missing, and while it is held nothing more is read and the sender's queue fills up. Without
 * MRG_RXBUF a packet has one chain, and what does not fit there is dropped.
 *
 * Without buffers we stop watching the descriptor and ask the driver for a kick. Chains in the
 * window are the ones popped last, so for saving they can be un-popped.
 *
 * Sending. The header is read once into our own memory, judged, and sent from there; the kernel's
 * tun driver checks offsets and lengths in it against the packet, but knows nothing of
 * what was negotiated. A bad packet is dropped and counted. When the backend has no room
 * the chain is put back, and EPOLLOUT goes on: a full queue holds up the sender.
 *
 * Limits. A rate is charged after the fact: a packet passes, and the next one waits until the
 * buckets have paid for it.
 *
 * #syscalls main io: epoll_ctl clock_gettime
 */
#include <errno.h>
#include <string.h>
#include "devices/virtio_net_impl.h"
#include "vmm/base/util.h"

#define RX_BATCH   64
#define TX_BATCH   64
#define DRAIN_MAX  1024
#define WANT_MIN   (NET_HDR + 1518)
#define WANT_DECAY 64 /* packets after which a long one is nearly forgotten */

static unsigned pair_index(const struct net_pair *p)
{
	return (unsigned)(p - p->net->pair);
}

static unsigned rx_queue(const struct net_pair *p)
{
	return 2 * pair_index(p);
}

static unsigned tx_queue(const struct net_pair *p)
{
	return 2 * pair_index(p) + 1;
}

/* --- Rates --- */

/* May a packet pass now? If not, the timer is armed. */
static bool limit_pass(struct net *net, struct net_limit *l)
{
	uint64_t now, wait;

	if (l->timer.armed)
		return false;
	if (l->owed_packets == 0 && l->owed_bytes == 0)
		return true;
	now = loop_now_ns();
	wait = ratelimit_take(&l->packets, l->owed_packets, now);
	if (wait == 0) {
		l->owed_packets = 0;
		wait = ratelimit_take(&l->bytes, l->owed_bytes, now);
	}
	if (wait == 0) {
		l->owed_bytes = 0;
		return true;
	}
	loop_arm(net->vdev.loop, &l->timer, wait);
	return false;
}

static void limit_charge(struct net_limit *l, size_t len)
{
	if (l->bytes.rate == 0 && l->packets.rate == 0)
		return;
	l->owed_packets++;
	l->owed_bytes += len - NET_HDR;
}

/* --- Waiting --- */

void net_watch(struct net_pair *p)
{
	const struct net *net = p->net;
	uint32_t events = 0;

	if (net->running && virtio_live(&net->vdev) && !net->lost && !p->vhost &&
	    pair_index(p) < net->mode.pairs) {
		if (!p->rx.dry && !net->rx_limit.timer.armed)
			events |= EPOLLIN;
		if (p->tx_blocked)
			events |= EPOLLOUT;
	}
	loop_mod_fd(&p->lfd, events);
}

void net_ready(struct loop_fd *lfd, uint32_t events)
{
	struct net_pair *p = container_of(lfd, struct net_pair, lfd);
	struct net *net = p->net;

	pthread_mutex_lock(&net->vdev.lock);
	/* A driver on another thread may have reset us: then net_watch() ends this. */
	if ((lfd->events & EPOLLIN) != 0 && (events & ~(uint32_t)EPOLLOUT) != 0)
		net_rx(p);
	else if ((events & (EPOLLERR | EPOLLHUP)) != 0)
		net_lost(net, EPIPE);
	if ((events & EPOLLOUT) != 0)
		net_tx(p);
	net_watch(p);
	pthread_mutex_unlock(&net->vdev.lock);
}

void net_rx_time(struct loop_timer *timer)
{
	struct net *net = container_of(timer, struct net, rx_limit.timer);

	pthread_mutex_lock(&net->vdev.lock);
	for (unsigned i = 0; i < net->mode.pairs; i++)
		net_rx(&net->pair[i]);
	pthread_mutex_unlock(&net->vdev.lock);
}

void net_tx_time(struct loop_timer *timer)
{
	struct net *net = container_of(timer, struct net, tx_limit.timer);

	pthread_mutex_lock(&net->vdev.lock);
	for (unsigned i = 0; i < net->mode.pairs; i++)
		net_tx(&net->pair[i]);
	pthread_mutex_unlock(&net->vdev.lock);
}

/* --- The window of receive buffers --- */

static void window_clear(struct net_rx *rx)
{
	rx->first = rx->n = rx->iov_first = rx->iov_end = 0;
	rx->bytes = 0;
}

void net_rx_return(struct net_pair *p)
{
	virtqueue_unpop(&p->net->vdev.queue[rx_queue(p)].vq, p->rx.n);
	window_clear(&p->rx);
}

void net_io_reset(struct net_pair *p)
{
	window_clear(&p->rx);
	p->rx.want = WANT_MIN;
	p->rx.held = 0;
	p->rx.dry = true; /* the driver's first kick is to come */
	p->tx_blocked = false;
}

enum taken { TAKEN, NONE_THERE, NO_SPACE };

/* One chain more into the window. */
static enum taken window_take(struct net_pair *p)
{
	struct virtio_device *vdev = &p->net->vdev;
	struct net_rx *rx = &p->rx;
	struct virtqueue_chain *chain;

	if (rx->first + rx->n == NET_QUEUE_SIZE ||
	    rx->iov_end + VIRTQUEUE_IOV(NET_QUEUE_SIZE) > NET_WINDOW_IOV) {
		if (rx->first == 0)
			return NO_SPACE;
		net_rx_return(p); /* and from the start again, where there is space */
	}
	chain = &rx->chain[rx->first + rx->n];
	if (!virtio_pop(vdev, rx_queue(p), chain, &rx->iov[rx->iov_end]))
		return NONE_THERE;
	rx->n++;
	rx->iov_end += chain->writable.n;
	rx->bytes += chain->writable.left;
	/* 5.1.6.3.1; and with nothing readable the segments in iov[] have no gaps. */
	if (chain->readable.n > 0 || chain->writable.left < NET_HDR) {
		virtio_fail(vdev, "queue %u: a receive buffer of %zu bytes", rx_queue(p),
			    chain->writable.left);
		return NONE_THERE;
	}
	return TAKEN;
}

/* Have a window that is good for the next packet, or the one held. False: wait for a kick. */
static bool window_fill(struct net_pair *p, struct virtqueue *vq)
{
	struct net_rx *rx = &p->rx;

	for (;;) {
		size_t need = 1;
		enum taken taken = TAKEN;

		if (virtio_has(&p->net->vdev, VIRTIO_NET_F_MRG_RXBUF))
			need = rx->held > 0 ? rx->held : rx->want;
		while (rx->bytes < need && taken == TAKEN)
			taken = window_take(p);
		if (rx->bytes >= need || (rx->held == 0 && rx->n > 0))
			return virtio_live(&p->net->vdev);
		if (rx->held > 0 && (taken == NO_SPACE || rx->n == vq->size)) {
			/* More than the driver will ever offer. */
			rx->held = 0;
			p->net->stats.rx_dropped++;
			continue;
		}
		if (!virtio_live(&p->net->vdev))
			return false;
		rx->dry = true;
		if (!virtqueue_enable_kicks(vq))
			return false;
		rx->dry = false;
		virtqueue_disable_kicks(vq);
	}
}

/* --- Receiving --- */

/* Copy @len bytes at @off of the segments at @iov to or from @buf; they are there. */
static void at_offset(const struct iovec *iov, size_t off, uint8_t *buf, size_t len, bool write)
{
	for (; len > 0; iov++) {
		size_t n = iov->iov_len;
		uint8_t *at = iov->iov_base;

		if (off >= n) {
			off -= n;
			continue;
		}
		n -= off;
		if (n > len)
			n = len;
		memcpy(write ? at + off : buf, write ? buf : at + off, n);
		off = 0;
		buf += n;
		len -= n;
	}
}

/* Does the packet of @len bytes at @iov go to the guest? */
static bool wanted(struct net *net, const struct iovec *iov, size_t len)
{
	uint8_t eth[NET_PEEK];

	if (len < NET_HDR + NET_FRAME_MIN || len > NET_PACKET_MAX) {
		net->stats.rx_dropped++;
		return false;
	}
	if (!net_filters(net))
		return true;
	len = len - NET_HDR < sizeof(eth) ? len - NET_HDR : sizeof(eth);
	at_offset(iov, NET_HDR, eth, len, false);
	if (net_filter(net, eth, len))
		return true;
	net->stats.rx_filtered++;
	return false;
}

/*
 * Complete the header at @iov: the kernel leaves num_buffers to us, and DATA_VALID is for those
 * who negotiated it. 5.1.6.4.1
 */
static void set_header(const struct net *net, const struct iovec *iov, unsigned chains)
{
	uint16_t num_buffers = (uint16_t)chains;
	uint8_t flags = 0;

	at_offset(iov, offsetof(struct virtio_net_hdr_v1, num_buffers), (uint8_t *)&num_buffers,
		  sizeof(num_buffers), true);
	if ((net->mode.offloads & NET_BIT(GUEST_CSUM)) == 0)
		at_offset(iov, offsetof(struct virtio_net_hdr_v1, flags), &flags, sizeof(flags),
			  true);
}

/*
 * Give the packet of @len bytes to the driver, in as many chains of the window as it takes; it
 * is in them, or at @held.
 */
static void deliver(struct net_pair *p, struct virtqueue *vq, size_t len, uint8_t *held)
{
	struct virtqueue_chain *chain = &p->rx.chain[p->rx.first];
	struct iovec header = { .iov_base = held, .iov_len = NET_HDR };
	struct net_rx *rx = &p->rx;
	size_t left = len;
	unsigned n = 0;

	for (size_t room = 0; room < len; n++)
		room += chain[n].writable.left;
	set_header(p->net, held != NULL ? &header : chain->writable.iov, n);
	for (unsigned i = 0; i < n; i++, chain++) {
		struct virtqueue_cursor *c = &chain->writable;
		size_t part = left < c->left ? left : c->left;

		rx->bytes -= c->left;
		rx->iov_first += c->n;
		if (held != NULL)
			virtqueue_write(c, held + (len - left), part);
		else
			virtqueue_skip(c, part);
		left -= part;
		virtqueue_put(vq, chain->head, (uint32_t)c->done);
	}
	virtqueue_publish(vq);
	rx->first += n;
	rx->n -= n;
	if (rx->n == 0)
		window_clear(rx);
	p->net->stats.rx++;
	limit_charge(&p->net->rx_limit, len);
	p->net->vdev.counters->in_bytes += len - NET_HDR;
}

/* A packet of @len bytes, longer than the window: put it together in the bounce buffer. */
static void hold(struct net_pair *p, size_t len)
{
	struct net_rx *rx = &p->rx;

	if (!virtio_has(&p->net->vdev, VIRTIO_NET_F_MRG_RXBUF)) {
		p->net->stats.rx_dropped++;
		return;
	}
	memmove(rx->bounce + rx->bytes, rx->bounce, len - rx->bytes);
	at_offset(&rx->iov[rx->iov_first], 0, rx->bounce, rx->bytes, false);
	rx->held = len;
}

/* Receive one packet. False: there is none, or no longer a backend. */
static bool receive(struct net_pair *p, struct virtqueue *vq)
{
	struct net_backend *be = p->net->be;
	struct net_rx *rx = &p->rx;
	struct iovec *iov = &rx->iov[rx->iov_first];
	ssize_t r;
	size_t len;

	rx->iov[rx->iov_end] =
		(struct iovec){ .iov_base = rx->bounce, .iov_len = sizeof(rx->bounce) };
	r = be->ops->receive(be, pair_index(p), iov, rx->iov_end - rx->iov_first + 1);
	if (r < 0) {
		if (r != -EAGAIN)
			net_lost(p->net, (int)-r);
		return false;
	}
	len = (size_t)r;
	if (!wanted(p->net, iov, len))
		return true;
	if (len > rx->want)
		rx->want = len;
	else if (rx->want > WANT_MIN)
		rx->want -= (rx->want - len) / WANT_DECAY;
	if (len > rx->bytes)
		hold(p, len);
	else
		deliver(p, vq, len, NULL);
	return true;
}

void net_rx(struct net_pair *p)
{
	struct net *net = p->net;
	struct net_rx *rx = &p->rx;
	struct virtqueue *vq = virtio_vq(&net->vdev, rx_queue(p));

	if (vq == NULL || !net->running || net->lost || p->vhost || rx->dry)
		return;
	/* What is left after a batch epoll tells again, unless it cannot know. */
	for (unsigned n = 0; n < RX_BATCH || net->be->buffered; n++) {
		if (!limit_pass(net, &net->rx_limit) || !window_fill(p, vq))
			break;
		if (rx->held > 0) {
			deliver(p, vq, rx->held, rx->bounce);
			rx->held = 0;
		} else if (!receive(p, vq)) {
			break;
		}
	}
	virtio_interrupt(&net->vdev, rx_queue(p));
	net_watch(p);
}

void net_rx_kick(struct net_pair *p)
{
	struct virtqueue *vq = virtio_vq(&p->net->vdev, rx_queue(p));

	if (vq != NULL && p->rx.dry) {
		p->rx.dry = false;
		virtqueue_disable_kicks(vq);
	}
	net_rx(p);
}

void net_rx_drain(struct net_pair *p)
{
	struct net_backend *be = p->net->be;
	struct iovec iov = { .iov_base = p->rx.bounce, .iov_len = sizeof(p->rx.bounce) };

	for (unsigned n = 0; n < DRAIN_MAX; n++) {
		if (be->ops->receive(be, pair_index(p), &iov, 1) < 0)
			break;
	}
}

/* --- Sending --- */

/* Make @hdr what it may be after what was negotiated. False: the driver may not say that. */
static bool header_ok(const struct virtio_device *vdev, struct virtio_net_hdr_v1 *hdr)
{
	unsigned feature;

	/* Other flags are to be ignored: 5.1.6.2.2. */
	hdr->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr->num_buffers = 0;
	if (hdr->flags != 0 && !virtio_has(vdev, VIRTIO_NET_F_CSUM))
		return false;
	if ((hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN) != 0 &&
	    !virtio_has(vdev, VIRTIO_NET_F_HOST_ECN))
		return false;
	switch (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		feature = VIRTIO_NET_F_HOST_TSO4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		feature = VIRTIO_NET_F_HOST_TSO6;
		break;
	case VIRTIO_NET_HDR_GSO_UDP:
		feature = VIRTIO_NET_F_HOST_UFO;
		break;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		feature = VIRTIO_NET_F_HOST_USO;
		break;
	default:
		return false;
	}
	return virtio_has(vdev, feature);
}

/* Send one chain, or drop it. False: not now. */
static bool send_chain(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct net *net = container_of(vdev, struct net, vdev);
	struct net_pair *p = &net->pair[q / 2];
	struct virtqueue_cursor *c = &chain->readable;
	struct virtio_net_hdr_v1 hdr;
	size_t len = c->left;
	int r = -EINVAL;

	if (p->tx_blocked || !limit_pass(net, &net->tx_limit))
		return false;
	if (virtqueue_read(c, &hdr, sizeof(hdr)) == sizeof(hdr) && len >= NET_HDR + NET_FRAME_MIN &&
	    len <= NET_PACKET_MAX && header_ok(vdev, &hdr) && !net->lost) {
		/* The cursor never begins before tx_iov[1]: see net_tx(). */
		c->iov[-1] = (struct iovec){ .iov_base = &hdr, .iov_len = sizeof(hdr) };
		r = net->be->ops->send(net->be, q / 2, c->iov - 1, c->n + 1, len);
	}
	if (r == -EAGAIN) {
		p->tx_blocked = true;
		return false;
	}
	if (r < 0) {
		net->stats.tx_dropped++;
		return true;
	}
	net->stats.tx++;
	limit_charge(&net->tx_limit, len);
	net->vdev.counters->out_bytes += len - NET_HDR;
	return true;
}

void net_tx(struct net_pair *p)
{
	struct net *net = p->net;
	const struct net_backend_ops *ops = net->be->ops;
	unsigned index = pair_index(p);

	if (!net->running || p->vhost)
		return;
	if (p->tx_blocked && ops->flush != NULL && ops->flush(net->be, index) == -EAGAIN)
		return;
	p->tx_blocked = false;
	virtio_serve(&net->vdev, tx_queue(p), p->tx_iov + 1, TX_BATCH, send_chain);
	if (!p->tx_blocked && ops->flush != NULL && ops->flush(net->be, index) == -EAGAIN)
		p->tx_blocked = true;
	net_watch(p);
}
