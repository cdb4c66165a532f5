/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks whose image is in a format of QEMU's: served by qemu-storage-daemon. See disk_qcow2.c.
 */
#ifndef DEVICES_DISK_QCOW2_H
#define DEVICES_DISK_QCOW2_H

#include <stdbool.h>
#include "devices/virtio.h"

enum disk_format { DISK_FORMAT_AUTO, DISK_FORMAT_RAW, DISK_FORMAT_QCOW2 };

struct disk_qcow2_config {
	const char *path;
	const char *name; /* of the device, in messages */
	bool ro, direct;
	bool write_through; /* a write is on stable storage when it completes */
	bool backing;	    /* the image may name other files */
	unsigned queues;
};

/* By option and name alone: is an image at @path to be taken for qcow2? */
bool disk_named_qcow2(const char *path, int format);
/*
 * The same, with a look at what is there: 1: qcow2, 0: raw, -EINVAL when the name says one thing
 * and the content another. Sentences do not name it.
 */
int disk_is_qcow2(const char *path, int format, struct err *err);
/* The device, of other ops than a raw disk's. */
struct virtio_device *disk_qcow2_create(const struct disk_qcow2_config *cfg, unsigned index,
					const struct virtio_host *host, struct err *err);

#endif
