// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-vsock: the host's kernel carries the guest's sockets, and programs on the host reach them
 * as AF_VSOCK, vsock(7). Linux's include/uapi/linux/vhost.h; what it shares with other kinds of
 * vhost is in vhost.c.
 *
 * Theory of operation. The kernel knows guests by their CID, one guest each; it is claimed when
 * the VM is made. VHOST_VSOCK_SET_RUNNING starts and stops the queues for receiving and
 * sending. The event queue is ours in any case.
 *
 * The kernel does not tell what memory it wrote. So while dirty pages are tracked, all of RAM
 * counts as written when it stops: whoever saves a VM stops its devices first.
 *
 * Limits. Connections of a guest that was reset linger on the host until their program sends
 * something, and hears that they are gone.
 *
 * #syscalls main vcpu: ioctl
 * #ioctls main vcpu: VHOST_VSOCK_SET_RUNNING
 */
#include <errno.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include "devices/vsock_impl.h"
#include "vmm/base/util.h"

#define VHOST_PATH "/dev/vhost-vsock"
#define RING(f)	   (1ULL << (f))
/* What is decided by the driver, and vhost has to know. */
#define VHOST_NEEDS                                                                                \
	(RING(VIRTIO_F_VERSION_1) | RING(VIRTIO_RING_F_INDIRECT_DESC) |                            \
	 RING(VIRTIO_RING_F_EVENT_IDX))
#define VHOST_OFFERS RING(VIRTIO_VSOCK_F_SEQPACKET)

struct vsock_vhost {
	struct vhost vhost;
	uint64_t features;
	bool running;
};

static void broken(struct vhost *vhost)
{
	virtio_fail(vhost->vdev, "vhost-vsock found a mistake in a queue");
	vsock_vhost_stop(container_of(vhost, struct vsock_vhost, vhost));
}

struct vsock_vhost *vsock_vhost_new(uint64_t cid, uint64_t *features, struct err *err)
{
	struct vsock_vhost *v = calloc(1, sizeof(*v));
	int r;

	if (v == NULL) {
		err_sys(err, ENOMEM, "vhost-vsock");
		return NULL;
	}
	v->vhost = (struct vhost){ .fd = -1, .error.fd = -1, .broken = broken };
	r = vhost_open(&v->vhost, VHOST_PATH, &v->features);
	if (r < 0 && v->vhost.fd < 0) {
		err_sys(err, -r,
			"vhost: cannot open " VHOST_PATH
			" (modprobe vhost_vsock, and be in its group), or use path=SOCKET");
		goto fail;
	}
	if ((v->features & VHOST_NEEDS) != VHOST_NEEDS) {
		err_set(err, ENOTSUP,
			"vhost: the host's vhost-vsock lacks virtio 1.0 features: use path=SOCKET");
		goto fail;
	}
	v->features &= VHOST_NEEDS | VHOST_OFFERS;
	if (ioctl(v->vhost.fd, VHOST_VSOCK_SET_GUEST_CID, &cid) < 0) {
		if (errno == EADDRINUSE)
			err_set(err, EADDRINUSE,
				"cid=%llu belongs to another guest of this host: take another",
				(unsigned long long)cid);
		else
			err_sys(err, errno, "vhost: cannot have cid=%llu", (unsigned long long)cid);
		goto fail;
	}
	*features = v->features & VHOST_OFFERS;
	return v;
fail:
	vsock_vhost_free(v);
	return NULL;
}

void vsock_vhost_free(struct vsock_vhost *v)
{
	if (v == NULL)
		return;
	vhost_close(&v->vhost);
	free(v);
}

static int set_running(struct vsock_vhost *v, int running)
{
	return ioctl(v->vhost.fd, VHOST_VSOCK_SET_RUNNING, &running) < 0 ? -errno : 0;
}

int vsock_vhost_start(struct vsock_vhost *v, struct virtio_device *vdev)
{
	int r;

	if (v->running)
		return 0;
	if (virtio_vq(vdev, VSOCK_RX) == NULL || virtio_vq(vdev, VSOCK_TX) == NULL)
		return -ENXIO;
	r = vhost_start(&v->vhost, vdev, VSOCK_RX, 2, v->features);
	if (r == 0)
		r = set_running(v, 1);
	v->running = r == 0;
	if (r < 0)
		vhost_return(&v->vhost);
	else
		vhost_kick(&v->vhost);
	return r;
}

static void mark_all_dirty(struct gmem *mem)
{
	for (unsigned i = 0; i < mem->nregions; i++)
		gmem_mark_dirty(mem, mem->regions[i].gpa, mem->regions[i].size);
}

void vsock_vhost_stop(struct vsock_vhost *v)
{
	if (!v->running)
		return;
	(void)set_running(v, 0);
	v->running = false;
	for (unsigned i = 0; i < 2; i++)
		vhost_fetch(&v->vhost, i);
	mark_all_dirty(v->vhost.vdev->mem);
}

void vsock_vhost_return(struct vsock_vhost *v)
{
	vhost_return(&v->vhost);
}
