// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-net: the host's kernel moves packets between a tap and the guest's queues. Linux's
 * include/uapi/linux/vhost.h.
 *
 * Theory of operation. Each queue pair has a /dev/vhost-net of its own, and with it a kernel
 * thread. It is told where guest memory and the rings are in our address space, the indices to go
 * on from, an eventfd for kicks and one for interrupts, and last the tap: then it runs. Taking the
 * tap away stops it, with nothing in flight, and it says how far it came. The virtio header is the
 * tap's to make (TUNSETVNETHDRSZ), so VHOST_NET_F_VIRTIO_NET_HDR is not used.
 *
 * What the driver does wrong the kernel tells by a third eventfd, and stops the queue; that ends in
 * virtio_fail() as if we had found it.
 *
 * Limits. vhost does not know what was negotiated for the virtio header: a driver may ask for
 * segmentation it never accepted, and gets it. It marks no dirty pages (VHOST_F_LOG_ALL is not
 * used); see virtio_net.c.
 *
 * #syscalls: ioctl read write eventfd2 epoll_ctl
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "devices/net.h"
#include "devices/virtio.h"
#include "vmm/base/util.h"

#define VHOST_PATH "/dev/vhost-net"
#define RING(f)	   (1ULL << (f))
/* What is decided by the driver, and vhost has to know. */
#define VHOST_FEATURES                                                                             \
	(NET_BIT(MRG_RXBUF) | RING(VIRTIO_F_VERSION_1) | RING(VIRTIO_RING_F_INDIRECT_DESC) |       \
	 RING(VIRTIO_RING_F_EVENT_IDX))

struct net_vhost {
	unsigned pairs;
	struct virtio_device *vdev;
	struct loop_fd error; /* eventfd of all queues; -1: none yet */
	int fd[NET_PAIRS_MAX];
	bool owned[NET_PAIRS_MAX];
};

struct net_vhost *net_vhost_new(unsigned pairs, struct err *err)
{
	struct net_vhost *vhost = calloc(1, sizeof(*vhost));
	uint64_t features;

	if (vhost == NULL) {
		err_sys(err, ENOMEM, "vhost-net");
		return NULL;
	}
	vhost->error.fd = -1;
	for (; vhost->pairs < pairs; vhost->pairs++) {
		int fd = open(VHOST_PATH, O_RDWR | O_CLOEXEC);

		if (fd < 0) {
			err_sys(err, errno,
				"vhost=on: cannot open " VHOST_PATH
				" (modprobe vhost_net, and be in its group), or use vhost=off");
			goto fail;
		}
		vhost->fd[vhost->pairs] = fd;
	}
	if (ioctl(vhost->fd[0], VHOST_GET_FEATURES, &features) < 0 ||
	    (features & VHOST_FEATURES) != VHOST_FEATURES) {
		err_set(err, ENOTSUP,
			"vhost=on: the host's vhost-net lacks virtio 1.0 features: use vhost=off");
		goto fail;
	}
	return vhost;
fail:
	net_vhost_free(vhost);
	return NULL;
}

void net_vhost_free(struct net_vhost *vhost)
{
	if (vhost == NULL)
		return;
	for (unsigned i = 0; i < vhost->pairs; i++)
		close(vhost->fd[i]);
	loop_del_fd(&vhost->error);
	if (vhost->error.fd >= 0)
		close(vhost->error.fd);
	free(vhost);
}

static void error_signalled(struct loop_fd *lfd, uint32_t events)
{
	struct net_vhost *vhost = container_of(lfd, struct net_vhost, error);
	eventfd_t count;

	(void)events;
	(void)eventfd_read(lfd->fd, &count);
	pthread_mutex_lock(&vhost->vdev->lock);
	if (virtio_live(vhost->vdev)) {
		virtio_fail(vhost->vdev, "vhost-net found a mistake in a queue");
		for (unsigned i = 0; i < vhost->pairs; i++)
			net_vhost_stop(vhost, vhost->vdev, i);
	}
	pthread_mutex_unlock(&vhost->vdev->lock);
}

/* The eventfd for mistakes, watched. Once. */
static int watch_errors(struct net_vhost *vhost, struct virtio_device *vdev)
{
	struct err err = ERR_INIT;

	if (vhost->error.loop != NULL)
		return 0;
	vhost->vdev = vdev;
	vhost->error.fn = error_signalled;
	if (vhost->error.fd < 0)
		vhost->error.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vhost->error.fd < 0)
		return -errno;
	return loop_add_fd(vdev->loop, &vhost->error, EPOLLIN, &err);
}

static int set_memory(int fd, const struct gmem *mem)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region[GMEM_REGIONS_MAX];
	} table = { .head.nregions = mem->nregions };

	for (unsigned i = 0; i < mem->nregions; i++)
		table.region[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->regions[i].gpa,
			.memory_size = mem->regions[i].size,
			.userspace_addr = (uint64_t)(uintptr_t)mem->regions[i].host,
		};
	return ioctl(fd, VHOST_SET_MEM_TABLE, &table) < 0 ? -errno : 0;
}

/* What both queues share. */
static int set_device(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair)
{
	uint64_t features = vdev->driver_features & VHOST_FEATURES;
	int fd = vhost->fd[pair];

	/* It starts a thread, so not before it is needed. */
	if (!vhost->owned[pair] && ioctl(fd, VHOST_SET_OWNER) < 0)
		return -errno;
	vhost->owned[pair] = true;
	if (ioctl(fd, VHOST_SET_FEATURES, &features) < 0)
		return -errno;
	return set_memory(fd, vdev->mem);
}

/* Queue @q of the device, number @i of the pair. */
static int set_queue(struct net_vhost *vhost, struct virtio_device *vdev, int fd, unsigned q,
		     unsigned i)
{
	const struct virtqueue *vq = &vdev->queue[q].vq;
	struct vhost_vring_state num = { .index = i, .num = vq->size };
	struct vhost_vring_state base = { .index = i, .num = vq->next_avail };
	struct vhost_vring_addr addr = {
		.index = i,
		.desc_user_addr = (uint64_t)(uintptr_t)vq->desc_ring,
		.avail_user_addr = (uint64_t)(uintptr_t)vq->avail_ring,
		.used_user_addr = (uint64_t)(uintptr_t)vq->used_ring,
	};
	struct vhost_vring_file kick = { .index = i }, call = { .index = i };
	struct vhost_vring_file error = { .index = i, .fd = vhost->error.fd };
	int r;

	if (ioctl(fd, VHOST_SET_VRING_NUM, &num) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_BASE, &base) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_ADDR, &addr) < 0)
		return -errno;
	r = virtio_offload(vdev, q, true, &kick.fd, &call.fd);
	if (r < 0)
		return r;
	if (ioctl(fd, VHOST_SET_VRING_KICK, &kick) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_CALL, &call) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_ERR, &error) < 0)
		return -errno;
	return 0;
}

static int set_backend(int fd, unsigned i, int tap)
{
	struct vhost_vring_file file = { .index = i, .fd = tap };

	return ioctl(fd, VHOST_NET_SET_BACKEND, &file) < 0 ? -errno : 0;
}

int net_vhost_start(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair, int tap)
{
	int fd = vhost->fd[pair], r = watch_errors(vhost, vdev);

	if (r == 0)
		r = set_device(vhost, vdev, pair);
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = set_queue(vhost, vdev, fd, 2 * pair + i, i);
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = set_backend(fd, i, tap);
	if (r < 0) {
		net_vhost_stop(vhost, vdev, pair);
		net_vhost_return(vhost, vdev, pair);
		return r;
	}
	/* What the driver made available before there was somebody to notice. */
	for (unsigned i = 0; i < 2; i++)
		(void)eventfd_write(vdev->queue[2 * pair + i].kick.fd, 1);
	return 0;
}

void net_vhost_stop(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair)
{
	for (unsigned i = 0; i < 2; i++) {
		struct virtqueue *vq = &vdev->queue[2 * pair + i].vq;
		struct vhost_vring_state base = { .index = i };

		if (!vhost->owned[pair] || set_backend(vhost->fd[pair], i, -1) < 0 ||
		    !vdev->queue[2 * pair + i].offloaded || !vq->started ||
		    ioctl(vhost->fd[pair], VHOST_GET_VRING_BASE, &base) < 0)
			continue;
		/* It takes buffers and gives them back in order, and none are with it now. */
		vq->next_avail = vq->next_used = (uint16_t)base.num;
		vq->published = vq->interrupted = vq->next_used;
	}
}

void net_vhost_return(struct net_vhost *vhost, struct virtio_device *vdev, unsigned pair)
{
	int kick, call;

	(void)vhost;
	for (unsigned i = 0; i < 2; i++)
		(void)virtio_offload(vdev, 2 * pair + i, false, &kick, &call);
}
