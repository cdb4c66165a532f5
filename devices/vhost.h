/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues served by the host's kernel: what all kinds of vhost have in common. See vhost.c.
 *
 *	vhost_open()		the character device
 *	vhost_start()		tell it of memory and rings; then start its kind of backend
 *	...			the kernel serves; stop its kind of backend
 *	vhost_fetch()		for each queue: how far it came
 *	vhost_return()		the queues are served here again
 *	vhost_close()
 */
#ifndef DEVICES_VHOST_H
#define DEVICES_VHOST_H

#include "devices/virtio.h"

/* The owner zeroes it, sets .fd and .error.fd to -1, and .broken. */
struct vhost {
	int fd;
	/* The kernel found a mistake of the driver's in a queue. Loop, lock held, device live. */
	void (*broken)(struct vhost *vhost);
	struct virtio_device *vdev; /* of the last vhost_start() */
	unsigned first, n;	    /* the device's queues first .. first + n - 1 */
	/* private */
	bool owned;
	struct loop_fd error; /* eventfd for mistakes */
};

/* Open @path, and say in *@features what it can. 0 or -errno. */
int vhost_open(struct vhost *vhost, const char *path, uint64_t *features);
void vhost_close(struct vhost *vhost);

/*
 * Hand queues @first .. @first + @n - 1 of @vdev, all started, to the kernel; of the features
 * negotiated it hears those in @features. Nothing moves before the backend is started. Loop,
 * lock held. 0 or -errno; then call vhost_return().
 */
int vhost_start(struct vhost *vhost, struct virtio_device *vdev, unsigned first, unsigned n,
		uint64_t features);
/* After the backend was started: see what the driver made available before. Loop, lock held. */
void vhost_kick(struct vhost *vhost);
/*
 * The backend was stopped: take the indices of queue @i (0 .. n - 1) back. Any thread, lock
 * held; harmless when it was not started.
 */
void vhost_fetch(struct vhost *vhost, unsigned i);
/* Let go of all queues. Loop, lock held. */
void vhost_return(struct vhost *vhost);

#endif
