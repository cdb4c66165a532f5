// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-net: the host's kernel moves packets between a tap and the guest's queues. Linux's
 * include/uapi/linux/vhost.h; what it shares with other kinds of vhost is in vhost.c.
 *
 * Theory of operation. Each queue pair has a /dev/vhost-net of its own, and with it a kernel
 * thread. Its backend is the tap: given to a queue it starts that, taken away it stops it. The
 * virtio header is the tap's to make (TUNSETVNETHDRSZ), so VHOST_NET_F_VIRTIO_NET_HDR is not used.
 *
 * Limits. vhost does not know what was negotiated for the virtio header: a driver may ask for
 * segmentation it never accepted, and gets it. It marks no dirty pages; see virtio_net.c.
 *
 * #syscalls main vcpu: ioctl
 * #ioctls main vcpu: VHOST_NET_SET_BACKEND
 */
#include <errno.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include "devices/net.h"
#include "devices/vhost.h"
#include "vmm/base/util.h"

#define VHOST_PATH "/dev/vhost-net"
#define RING(f)	   (1ULL << (f))
/* What is decided by the driver, and vhost has to know. */
#define VHOST_FEATURES                                                                             \
	(NET_BIT(MRG_RXBUF) | RING(VIRTIO_F_VERSION_1) | RING(VIRTIO_RING_F_INDIRECT_DESC) |       \
	 RING(VIRTIO_RING_F_EVENT_IDX))

struct net_vhost {
	unsigned pairs;
	struct net_vhost_pair {
		struct vhost vhost;
		struct net_vhost *all;
	} pair[NET_PAIRS_MAX];
};

static void broken(struct vhost *vhost)
{
	struct net_vhost *all = container_of(vhost, struct net_vhost_pair, vhost)->all;

	virtio_fail(vhost->vdev, "vhost-net found a mistake in a queue");
	for (unsigned i = 0; i < all->pairs; i++)
		net_vhost_stop(all, vhost->vdev, i);
}

struct net_vhost *net_vhost_new(unsigned pairs, struct err *err)
{
	struct net_vhost *all = calloc(1, sizeof(*all));
	uint64_t features = 0;

	if (all == NULL) {
		err_sys(err, ENOMEM, "vhost-net");
		return NULL;
	}
	while (all->pairs < pairs) {
		struct net_vhost_pair *pair = &all->pair[all->pairs++];
		int r;

		pair->all = all;
		pair->vhost = (struct vhost){ .fd = -1, .error.fd = -1, .broken = broken };
		r = vhost_open(&pair->vhost, VHOST_PATH, &features);
		if (r < 0 && pair->vhost.fd < 0) {
			err_sys(err, -r,
				"vhost=on: cannot open " VHOST_PATH
				" (modprobe vhost_net, and be in its group), or use vhost=off");
			goto fail;
		}
	}
	if ((features & VHOST_FEATURES) != VHOST_FEATURES) {
		err_set(err, ENOTSUP,
			"vhost=on: the host's vhost-net lacks virtio 1.0 features: use vhost=off");
		goto fail;
	}
	return all;
fail:
	net_vhost_free(all);
	return NULL;
}

void net_vhost_free(struct net_vhost *all)
{
	if (all == NULL)
		return;
	for (unsigned i = 0; i < all->pairs; i++)
		vhost_close(&all->pair[i].vhost);
	free(all);
}

static int set_backend(struct vhost *vhost, unsigned i, int tap)
{
	struct vhost_vring_file file = { .index = i, .fd = tap };

	return ioctl(vhost->fd, VHOST_NET_SET_BACKEND, &file) < 0 ? -errno : 0;
}

int net_vhost_start(struct net_vhost *all, struct virtio_device *vdev, unsigned pair, int tap)
{
	struct vhost *vhost = &all->pair[pair].vhost;
	int r = vhost_start(vhost, vdev, 2 * pair, 2, VHOST_FEATURES);

	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = set_backend(vhost, i, tap);
	if (r < 0) {
		net_vhost_stop(all, vdev, pair);
		net_vhost_return(all, vdev, pair);
		return r;
	}
	vhost_kick(vhost);
	return 0;
}

void net_vhost_stop(struct net_vhost *all, struct virtio_device *vdev, unsigned pair)
{
	struct vhost *vhost = &all->pair[pair].vhost;

	(void)vdev;
	for (unsigned i = 0; i < vhost->n; i++) {
		/* Fails when it was never started. */
		if (set_backend(vhost, i, -1) == 0)
			vhost_fetch(vhost, i);
	}
}

void net_vhost_return(struct net_vhost *all, struct virtio_device *vdev, unsigned pair)
{
	(void)vdev;
	vhost_return(&all->pair[pair].vhost);
}
