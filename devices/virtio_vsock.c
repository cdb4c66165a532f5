// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device: Virtual I/O Device (VIRTIO) 1.2, section 5.10. This file makes it, leads its
 * life and moves packets between queues and connections; these are in vsock_conn.c, the host's
 * sockets in vsock_unix.c. With vhost the host's kernel does all of that, vsock_vhost.c.
 *
 * Theory of operation. Packets of the guest are handled one by one as they come, and never wait:
 * what a slow host program does not take is buffered, within the credit the guest was given.
 * Packets for the guest are made when it has a buffer: then the next connection in turn reads from
 * its socket straight into the buffer, behind the header. Kicks of the receive queue are
 * asked for only while something waits for buffers.
 *
 * It lives on the main loop, not on a thread of its own: it never blocks, does one system call per
 * packet, in batches of BUDGET, and has to share listening, timers and descriptors with one
 * loop anyway.
 *
 * A reset, on whatever thread, only says that the connections are stale; they are dropped on the
 * loop, before anything else is done there. Connections do not survive being saved and loaded: the
 * loaded device begins without any and says so by TRANSPORT_RESET on the event queue (5.10.6.7),
 * whereupon the driver asks for its CID again, which may be another one. They survive a pause.
 *
 * A packet shorter than it says breaks the rules of the queue, and the device; one that breaks
 * those of a connection ends the connection, by RST.
 *
 * Limits: no SOCK_SEQPACKET of our own: its messages have to be put together before they can be
 * passed on, so a buffer as large as a message, and the host's protocol knows only streams.
 * vhost has it, if the host's kernel does. Packets to CIDs other than the host's are dropped.
 *
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "devices/vsock_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PCI_CLASS 0xff0000 /* none of the classes there are */
#define BUDGET	  64	   /* packets at once, each way */

static struct vsock *vsock_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct vsock, vdev);
}

/* --- Queues --- */

static bool take_packet(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct vsock *vs = vsock_of(vdev);
	struct virtio_vsock_hdr hdr;

	(void)q;
	/* No room for an answer: the guest has to take some first. vsock_rx() goes on then. */
	if (vs->nrst == VSOCK_RSTS_MAX) {
		vs->tx_stalled = true;
		return false;
	}
	if (virtqueue_read(&chain->readable, &hdr, sizeof(hdr)) < sizeof(hdr))
		virtio_fail(vdev, "a packet is shorter than its header");
	else if (hdr.len > chain->readable.left)
		virtio_fail(vdev, "a packet of %u bytes has %zu", hdr.len, chain->readable.left);
	else
		vsock_conn_packet(vs, &hdr, &chain->readable);
	return true;
}

/* The header's place in the guest's buffer, and its bytes. The rest is behind it already. */
static void write_header(struct vsock *vs, const struct iovec *iov, unsigned n,
			 const struct virtio_vsock_hdr *hdr)
{
	const uint8_t *from = (const uint8_t *)hdr;

	for (unsigned i = 0; i < n; i++) {
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
		gmem_mark_host(vs->vdev.mem, iov[i].iov_base, iov[i].iov_len);
		from += iov[i].iov_len;
	}
}

/* One buffer of the guest. False: there is no packet for it. */
static bool give_packet(struct vsock *vs, struct virtqueue_chain *chain)
{
	struct iovec at[sizeof(struct virtio_vsock_hdr)]; /* a byte each, at worst */
	struct virtio_vsock_hdr hdr;
	unsigned n;

	if (chain->writable.left <= sizeof(hdr)) {
		virtio_fail(&vs->vdev, "a receive buffer has no room for a packet");
		return true;
	}
	n = virtqueue_segments(&chain->writable, sizeof(hdr), at, sizeof(at) / sizeof(at[0]));
	virtqueue_skip(&chain->writable, sizeof(hdr));
	if (!vsock_conns_next(vs, &hdr, &chain->writable))
		return false;
	write_header(vs, at, n, &hdr);
	return true;
}

void vsock_rx(struct vsock *vs)
{
	struct virtio_device *vdev = &vs->vdev;
	struct virtqueue *vq = virtio_vq(vdev, VSOCK_RX);
	struct virtqueue_chain chain;
	unsigned n = 0;

	if (vq == NULL)
		return;
	do {
		virtqueue_disable_kicks(vq);
		while (n < BUDGET && vsock_conns_ready(vs) &&
		       virtio_pop(vdev, VSOCK_RX, &chain, vs->iov)) {
			if (!give_packet(vs, &chain)) {
				virtqueue_unpop(vq, 1);
				break;
			}
			virtio_push(vdev, VSOCK_RX, &chain);
			n++;
		}
		virtio_interrupt(vdev, VSOCK_RX);
		if (!virtio_live(vdev))
			return;
		if (vs->tx_stalled && vs->nrst < VSOCK_RSTS_MAX / 2) {
			vs->tx_stalled = false;
			virtio_again(vdev, VSOCK_TX);
		}
		/* Nothing to give: no need to know of buffers. */
		if (!vsock_conns_ready(vs))
			return;
		if (n == BUDGET) {
			virtio_again(vdev, VSOCK_RX);
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

/* Tell the driver that connections are gone, as soon as it has a buffer for that. */
static void send_event(struct vsock *vs)
{
	static const struct virtio_vsock_event event = { VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct virtio_device *vdev = &vs->vdev;
	struct virtqueue_chain chain;

	if (!vs->reset_due || !virtio_pop(vdev, VSOCK_EVENT, &chain, vs->iov))
		return;
	if (virtqueue_write(&chain.writable, &event, sizeof(event)) < sizeof(event)) {
		virtio_fail(vdev, "an event buffer has no room for an event");
		return;
	}
	virtio_push(vdev, VSOCK_EVENT, &chain);
	virtio_interrupt(vdev, VSOCK_EVENT);
	vs->reset_due = false;
}

/* --- Life --- */

static void vsock_kick(struct virtio_device *vdev, unsigned q)
{
	struct vsock *vs = vsock_of(vdev);

	if (q == VSOCK_EVENT)
		send_event(vs);
	if (q == VSOCK_EVENT || vs->vhost != NULL)
		return;
	if (q == VSOCK_TX)
		virtio_serve(vdev, VSOCK_TX, vs->iov, BUDGET, take_packet);
	vsock_rx(vs);
}

static void vsock_update(struct virtio_device *vdev)
{
	struct vsock *vs = vsock_of(vdev);
	int r;

	if (vs->vhost == NULL) {
		vsock_conns_drop_stale(vs);
		return;
	}
	if (!virtio_live(vdev))
		return;
	r = vsock_vhost_start(vs->vhost, vdev);
	if (r < 0)
		log_limited(LOG_WARN, "%s: vhost-vsock cannot serve it: %s", vdev->name,
			    strerrordesc_np(-r));
}

static void vsock_reset(struct virtio_device *vdev)
{
	struct vsock *vs = vsock_of(vdev);

	if (vs->vhost != NULL)
		vsock_vhost_stop(vs->vhost);
	vs->stale = true;
	vs->reset_due = false;
}

static void vsock_quiesce(struct virtio_device *vdev)
{
	struct vsock *vs = vsock_of(vdev);

	if (vs->vhost == NULL)
		return;
	vsock_vhost_stop(vs->vhost);
	vsock_vhost_return(vs->vhost);
}

static void vsock_resume(struct virtio_device *vdev)
{
	struct vsock *vs = vsock_of(vdev);

	if (vs->vhost == NULL)
		vsock_conns_resume(vs);
}

/* There is nothing to save: no connection survives. */
static void vsock_state(struct virtio_device *vdev, struct state *st)
{
	if (state_loading(st))
		vsock_of(vdev)->reset_due = true;
}

static void vsock_destroy(struct virtio_device *vdev)
{
	struct vsock *vs = vsock_of(vdev);

	if (vs->vhost == NULL) {
		vsock_conns_fini(vs);
		vsock_unix_fini(vs);
	}
	vsock_vhost_free(vs->vhost);
	virtio_fini(vdev);
	free(vs);
}

/* --- Options --- */

#define OPTION(field) offsetof(struct vsock_options, field)

/* clang-format off */
static const struct opt_key vsock_keys[] = {
	{ .name = "cid", .type = OPT_UINT, .offset = OPTION(cid), .arg = "N", .required = true,
	  .min = 3, .max = 0xfffffffe, .help = "the guest's context identifier" },
	{ .name = "path", .type = OPT_STR, .offset = OPTION(path), .arg = "SOCKET",
	  .help = "Unix socket for the host's programs" },
	{ .name = "vhost", .type = OPT_BOOL, .offset = OPTION(vhost), .def = "off",
	  .help = "let the host's kernel serve it: programs use AF_VSOCK and the cid" },
	{ 0 }
};
/* clang-format on */

static int vsock_check(const void *item, struct err *err)
{
	const struct vsock_options *opt = item;

	if (opt->path == NULL && !opt->vhost)
		return err_set(err, EINVAL,
			       "the host's end is missing: path=SOCKET, or vhost to have the "
			       "host's kernel do it");
	if (opt->path != NULL && opt->vhost)
		return err_set(err, EINVAL,
			       "path= and vhost exclude each other: with vhost the "
			       "host's programs use AF_VSOCK");
	return opt->path != NULL ? vsock_unix_check(opt->path, err) : 0;
}

static struct virtio_device *vsock_create(const void *items, unsigned n, unsigned index,
					  const struct virtio_host *host, struct err *err);

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.pci_class = PCI_CLASS,
	.option = { .name = "vsock",
		    .keys = vsock_keys,
		    .size = sizeof(struct vsock_options),
		    .max = 1,
		    .help = "Sockets between guest (AF_VSOCK) and host, without a network. On the "
			    "host they are Unix sockets: to reach port P of the guest, connect to "
			    "SOCKET, write \"CONNECT P\" and a newline, and read \"OK\" and a number; "
			    "the guest reaches port P of the host (cid 2) where a program listens "
			    "at SOCKET_P." },
	.check = vsock_check,
	.create = vsock_create,
	.destroy = vsock_destroy,
	.kick = vsock_kick,
	.update = vsock_update,
	.reset = vsock_reset,
	.quiesce = vsock_quiesce,
	.resume = vsock_resume,
	.state = vsock_state,
};
VIRTIO_DEVICE(vsock_ops);

static struct virtio_device *vsock_create(const void *items, unsigned n, unsigned index,
					  const struct virtio_host *host, struct err *err)
{
	const struct vsock_options *opt = items;
	struct vsock *vs = calloc(1, sizeof(*vs));
	uint64_t features = 0;

	(void)n;
	(void)index;
	if (vs == NULL) {
		err_set(err, ENOMEM, "no memory for the vsock device");
		return NULL;
	}
	vs->cid = opt->cid;
	vs->config.guest_cid = opt->cid;
	vs->listening.fd = -1;
	vs->vdev.untimed = 1 << VSOCK_RX | 1 << VSOCK_EVENT;
	if (virtio_init(&vs->vdev, &vsock_ops, host, host->loop, VSOCK_QUEUES, VSOCK_QUEUE_SIZE,
			&vs->config, sizeof(vs->config), err) < 0)
		goto fail;
	if (opt->vhost && host->mem->track) {
		err_set(err, EINVAL,
			"vsock: vhost and --mem track exclude each other: leave one out");
		goto fail;
	}
	if (opt->vhost) {
		vs->vhost = vsock_vhost_new(opt->cid, &features, err);
		if (vs->vhost == NULL) {
			err_context(err, "vsock");
			goto fail;
		}
		vs->vdev.features |= features;
		return &vs->vdev;
	}
	vs->broker = host->broker;
	if (vsock_conns_init(vs, err) < 0 || vsock_unix_listen(vs, opt->path, err) < 0)
		goto fail;
	return &vs->vdev;
fail:
	vsock_destroy(&vs->vdev);
	return NULL;
}
