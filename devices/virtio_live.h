/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be changed of devices while the guest runs. Main thread; each takes the device's lock.
 */
#ifndef DEVICES_VIRTIO_LIVE_H
#define DEVICES_VIRTIO_LIVE_H

#include "devices/virtio.h"
#include "vmm/base/ratelimit.h"

/*
 * Let the disk be file @path, with the options the disk had. Requests in flight are finished on
 * the old one, which then is closed; the driver is told of the size. The file that is there
 * already: look at its size. -ENOTSUP: not this kind of disk. 0 or -code.
 */
int virtio_blk_replace(struct virtio_device *vdev, const char *path, struct err *err);

/* Limit bytes and requests per second from now on; NULL: as it is. 0 or -code. */
int virtio_blk_limit(struct virtio_device *vdev, const struct ratelimit_config *bytes,
		     const struct ratelimit_config *requests, struct err *err);

/* The same of a network device's packets, one direction: @rx is what the guest receives. */
int virtio_net_limit(struct virtio_device *vdev, bool rx, const struct ratelimit_config *bytes,
		     const struct ratelimit_config *packets, struct err *err);

#endif
