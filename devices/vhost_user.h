/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices whose queues another process serves, found by a Unix socket: vhost-user, of
 * which we are the front end. See vhost_user.c. For `--vhost-user`, and for devices that start
 * such a process themselves (disk_qcow2.c).
 */
#ifndef DEVICES_VHOST_USER_H
#define DEVICES_VHOST_USER_H

#include "devices/child.h"
#include "devices/virtio.h"

/*
 * The way to a back end, where it is more than a path. Everything is called on the main thread,
 * with the device's mutex held or before anyone else knows the device.
 */
struct vhost_user_way {
	/* Connect, without waiting; start the back end if it has ended. The descriptor or -code. */
	int (*connect)(struct vhost_user_way *way, struct err *err);
	/*
	 * The device is there. Watch the child from now on. 0 or -code. May be NULL.
	 */
	int (*watch)(struct vhost_user_way *way, struct loop *loop, struct err *err);
	/*
	 * It says nothing on a new connection. Add to @err what it has complained of; with @end,
	 * which is only asked of one that has never served, end it: the next attempt starts
	 * another. May be NULL.
	 */
	void (*silent)(struct vhost_user_way *way, bool end, struct err *err);
	/* It has ended, perhaps: then -ECHILD and why. For those who wait. May be NULL. */
	int (*ended)(struct vhost_user_way *way, struct err *err);
	void (*free)(struct vhost_user_way *way);
	int pidfd; /* readable when there is reason to ask `ended`; -1: never */
	/*
	 * With the back end's process completed requests are lost, too: a driver that had some with
	 * it must not go on as if they were not. So many processes there were up to now.
	 */
	bool forgets;
	unsigned lives;
};

struct vhost_user_config {
	const char *type;	    /* "blk", "net", "fs", another name or a number */
	const char *name;	    /* of the device, in messages */
	const char *path;	    /* of the socket; not used with @way */
	struct vhost_user_way *way; /* or NULL; the device's from now on, also when it fails */
	unsigned queues;	    /* 0: as many as the type has */
	unsigned queue_size;	    /* 0: 256 */
	const char *tag;	    /* fs */
	const char *mac;	    /* net; NULL: made of names, as for --net */
	unsigned mtu;		    /* net; 0: not told */
	uint64_t hide;		    /* features the guest shall not see, by bit */
	unsigned patience_ms;	    /* for a reply; 0: 3 s */
};

/*
 * Make the device: connects, waiting a moment for a back end that is just starting, and
 * negotiates. NULL with @err filled. Its ops are of its own type and have `destroy`.
 */
struct virtio_device *vhost_user_create(const struct vhost_user_config *cfg, unsigned index,
					const struct virtio_host *host, struct err *err);

#endif
