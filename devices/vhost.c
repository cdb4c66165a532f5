// SPDX-License-Identifier: Apache-2.0
/*
 * vhost: the host's kernel serves the queues of a device. Linux's include/uapi/linux/vhost.h; what
 * vhost-net and vhost-vsock have in common. What a backend is, and how it starts and stops, is
 * theirs: net_vhost.c, vsock_vhost.c.
 *
 * Theory of operation. An open vhost device has a thread in the kernel. It is told where guest
 * memory and the rings are in our address space, the indices to go on from, an eventfd for kicks
 * and one for interrupts; then its backend is started. When that is stopped nothing is in
 * flight, and the kernel says how far it came.
 *
 * What the driver does wrong the kernel tells by a third eventfd, and stops the queue; that ends in
 * virtio_fail() as if we had found it.
 *
 * Limits. The kernel marks no dirty pages (VHOST_F_LOG_ALL is not used).
 *
 * #syscalls: read write close eventfd2 epoll_ctl
 * #ioctls: VHOST_SET_FEATURES VHOST_SET_MEM_TABLE VHOST_SET_OWNER VHOST_SET_VRING_ADDR
 * #ioctls: VHOST_SET_VRING_BASE VHOST_SET_VRING_CALL VHOST_SET_VRING_ERR VHOST_SET_VRING_KICK
 * #ioctls: VHOST_SET_VRING_NUM
 * #syscalls main vcpu: ioctl
 * #ioctls main vcpu: VHOST_GET_VRING_BASE
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "devices/vhost.h"
#include "vmm/base/util.h"

int vhost_open(struct vhost *vhost, const char *path, uint64_t *features)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	vhost->fd = fd;
	return ioctl(fd, VHOST_GET_FEATURES, features) < 0 ? -errno : 0;
}

void vhost_close(struct vhost *vhost)
{
	if (vhost->fd >= 0)
		close(vhost->fd);
	loop_del_fd(&vhost->error);
	if (vhost->error.fd >= 0)
		close(vhost->error.fd);
	vhost->fd = vhost->error.fd = -1;
}

static void error_signalled(struct loop_fd *lfd, uint32_t events)
{
	struct vhost *vhost = container_of(lfd, struct vhost, error);
	eventfd_t count;

	(void)events;
	(void)eventfd_read(lfd->fd, &count);
	pthread_mutex_lock(&vhost->vdev->lock);
	if (virtio_live(vhost->vdev))
		vhost->broken(vhost);
	pthread_mutex_unlock(&vhost->vdev->lock);
}

/* The eventfd for mistakes, watched. Once. */
static int watch_errors(struct vhost *vhost)
{
	struct err err = ERR_INIT;

	if (vhost->error.loop != NULL)
		return 0;
	vhost->error.fn = error_signalled;
	if (vhost->error.fd < 0)
		vhost->error.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vhost->error.fd < 0)
		return -errno;
	return loop_add_fd(vhost->vdev->loop, &vhost->error, EPOLLIN, &err);
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

/* What all queues share. */
static int set_device(struct vhost *vhost, uint64_t features)
{
	/* It starts a thread, so not before it is needed. */
	if (!vhost->owned && ioctl(vhost->fd, VHOST_SET_OWNER) < 0)
		return -errno;
	vhost->owned = true;
	if (ioctl(vhost->fd, VHOST_SET_FEATURES, &features) < 0)
		return -errno;
	return set_memory(vhost->fd, vhost->vdev->mem);
}

static int set_queue(struct vhost *vhost, unsigned i)
{
	const struct virtqueue *vq = &vhost->vdev->queue[vhost->first + i].vq;
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
	int fd = vhost->fd, r;

	if (ioctl(fd, VHOST_SET_VRING_NUM, &num) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_BASE, &base) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_ADDR, &addr) < 0)
		return -errno;
	r = virtio_offload(vhost->vdev, vhost->first + i, true, &kick.fd, &call.fd);
	if (r < 0)
		return r;
	if (ioctl(fd, VHOST_SET_VRING_KICK, &kick) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_CALL, &call) < 0 ||
	    ioctl(fd, VHOST_SET_VRING_ERR, &error) < 0)
		return -errno;
	return 0;
}

int vhost_start(struct vhost *vhost, struct virtio_device *vdev, unsigned first, unsigned n,
		uint64_t features)
{
	int r;

	vhost->vdev = vdev;
	vhost->first = first;
	vhost->n = n;
	r = watch_errors(vhost);
	if (r == 0)
		r = set_device(vhost, vdev->driver_features & features);
	for (unsigned i = 0; r == 0 && i < n; i++)
		r = set_queue(vhost, i);
	return r;
}

void vhost_kick(struct vhost *vhost)
{
	for (unsigned i = 0; i < vhost->n; i++)
		(void)eventfd_write(vhost->vdev->queue[vhost->first + i].kick.fd, 1);
}

void vhost_fetch(struct vhost *vhost, unsigned i)
{
	struct vhost_vring_state base = { .index = i };
	struct virtio_queue *queue;

	if (!vhost->owned || i >= vhost->n)
		return;
	queue = &vhost->vdev->queue[vhost->first + i];
	if (!queue->offloaded || !queue->vq.started ||
	    ioctl(vhost->fd, VHOST_GET_VRING_BASE, &base) < 0)
		return;
	/* It takes buffers and gives them back in order, and none are with it now. */
	queue->vq.next_avail = queue->vq.next_used = (uint16_t)base.num;
	queue->vq.published = queue->vq.interrupted = queue->vq.next_used;
}

void vhost_return(struct vhost *vhost)
{
	int kick, call;

	for (unsigned i = 0; i < vhost->n; i++)
		(void)virtio_offload(vhost->vdev, vhost->first + i, false, &kick, &call);
}
