/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device that is served by a process of its own. See virtio_process.c. */
#ifndef DEVICES_VIRTIO_PROCESS_H
#define DEVICES_VIRTIO_PROCESS_H

#include "devices/virtio.h"

struct virtio_process;

/* Those of a VM. They start together, when all that they share is there: memory above all. */
struct virtio_processes {
	struct virtio_process *first;
	/*
	 * In each process: gives up what it does not need of the host, and after its setup what it
	 * does not need any more. NULL: nothing. 0 or -code.
	 */
	int (*enter)(struct virtio_processes *all, struct err *err);
	int (*confine)(struct virtio_processes *all, struct err *err);
};

/* What the device has to say to it; all with vdev->lock held. */
struct virtio_process_ops {
	/* Call @fn for each descriptor that it holds: all others are closed in the process. */
	void (*descriptors)(struct virtio_device *vdev, void (*fn)(void *arg, int fd), void *arg);
	/*
	 * In the process, before and after `enter`; vdev->loop is what it will run. 0 or -code.
	 */
	int (*begin)(struct virtio_device *vdev, struct err *err);
	int (*setup)(struct virtio_device *vdev, struct err *err);
	/* In the monitor: the device is another's now. What only serving it needs is let go. */
	void (*left)(struct virtio_device *vdev);
};

/*
 * @vdev, made by virtio_init() with the main loop for its own, shall be served by a process called
 * @name (at most 15 characters), from virtio_processes_start() of @all on. Its virtio_ops are
 * those of the process then; here all of it goes there, but for `destroy`. Guest memory must be one
 * that a process that was forked still sees: gmem_fork(). NULL with @err filled.
 */
struct virtio_process *virtio_process_new(struct virtio_processes *all, struct virtio_device *vdev,
					  const char *name, const struct virtio_process_ops *ops,
					  struct err *err);
/* In `destroy`, before virtio_fini(): the process finishes what is in flight, and ends. */
void virtio_process_free(struct virtio_process *p);

/* Start them all; the thread is the only one. 0 or -code. */
int virtio_processes_start(struct virtio_processes *all, struct err *err);
/* Wait until all have begun and are confined. 0, or -code when one could not. */
int virtio_processes_wait(struct virtio_processes *all, struct err *err);

#endif
