// SPDX-License-Identifier: Apache-2.0
/*
 * The option --vhost-user: devices that another process serves, by name or number of their type.
 * The devices themselves are in vhost_user.c.
 *
 * A kind of its own among virtio devices, without a device type: what it makes has that of
 * its type=. (Kinds are set up in the order of their files' names, and so are a guest's disks:
 * those of --disk come first.)
 */
#include <errno.h>
#include <linux/virtio_fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include "devices/net.h"
#include "devices/vhost_user_impl.h"

#define QUEUE_SIZE_MIN 8
#define TAG_MAX	       sizeof(((struct virtio_fs_config *)0)->tag)

struct vhost_user_options {
	char *type, *socket, *tag, *mac;
	uint64_t queues, queue_size, mtu;
	char *id; /* for the control API */
};

static int vhost_user_check(const void *item, struct err *err)
{
	const struct vhost_user_options *o = item;
	uint64_t n = o->queues > 0 ? o->queues : 1, nqueues;
	struct vu_type type;

	if (vu_type_find(o->type, &type, err) < 0)
		return -err->code;
	nqueues = type.fixed + type.each * n;
	if (*o->socket == '\0' || strlen(o->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(err, EINVAL, "socket=%s: the path of a socket has 1 to %zu bytes",
			       o->socket, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	if (o->queues != 0 && type.each == 0)
		return err_set(err, EINVAL, "%s has always %u queues: leave queues= out", o->type,
			       type.fixed);
	if (nqueues > (type.id == VIRTIO_ID_NET ? 2 * VU_PAIRS_MAX : VIRTIO_QUEUES_MAX))
		return err_set(err, EINVAL, "queues=%llu are too many",
			       (unsigned long long)o->queues);
	if (o->queue_size != 0 &&
	    (o->queue_size < QUEUE_SIZE_MIN || (o->queue_size & (o->queue_size - 1)) != 0))
		return err_set(err, EINVAL, "queue-size=%llu is not a power of two from 8 on",
			       (unsigned long long)o->queue_size);
	if ((o->tag != NULL) != (type.id == VIRTIO_ID_FS))
		return err_set(err, EINVAL, "tag= is the name by which the guest mounts fs: %s",
			       o->tag != NULL ? "no other type has one" : "it needs one");
	if (o->tag != NULL && (*o->tag == '\0' || strlen(o->tag) > TAG_MAX))
		return err_set(err, EINVAL, "tag=%s: a tag has 1 to %zu bytes", o->tag, TAG_MAX);
	if ((o->mac != NULL || o->mtu != 0) && type.id != VIRTIO_ID_NET)
		return err_set(err, EINVAL, "%s= is for net only", o->mac != NULL ? "mac" : "mtu");
	return o->mac != NULL ? net_check_mac(o->mac, err) : 0;
}

static struct virtio_device *vhost_user_make(const void *items, unsigned n, unsigned index,
					     const struct virtio_host *host, struct err *err)
{
	const struct vhost_user_options *o = items;
	const char *base = strrchr(o->socket, '/');
	char name[VIRTIO_NAME_MAX];
	struct vhost_user_config cfg = { .type = o->type,
					 .name = name,
					 .path = o->socket,
					 .queues = (unsigned)o->queues,
					 .queue_size = (unsigned)o->queue_size,
					 .tag = o->tag,
					 .mac = o->mac,
					 .mtu = (unsigned)o->mtu };

	(void)n; /* 1 */
	snprintf(name, sizeof(name), "vhost-user %.12s %.36s", o->type,
		 base != NULL ? base + 1 : o->socket);
	return vhost_user_create(&cfg, index, host, err);
}

#define OPTION(field) offsetof(struct vhost_user_options, field)

static const struct opt_key vhost_user_keys[] = {
	{ "type", OPT_STR, OPTION(type), "TYPE", .required = true,
	  .help = "blk, net, fs, console, rng, scsi, gpu, input, vsock, crypto, sound, i2c, gpio, or "
		  "the number of a device type" },
	{ "socket", OPT_STR, OPTION(socket), "PATH", .required = true,
	  .help = "Unix socket on which the back end listens" },
	{ "queues", OPT_UINT, OPTION(queues), "COUNT", .max = VIRTIO_QUEUES_MAX,
	  .help = "request queues (net: pairs); of a device given by number, all queues; "
		  "default: 1" },
	{ "queue-size", OPT_UINT, OPTION(queue_size), "COUNT", .max = VIRTQUEUE_SIZE_MAX,
	  .help = "entries of each queue, a power of two; default: 256" },
	{ "tag", OPT_STR, OPTION(tag), "NAME",
	  .help = "fs: what the guest mounts (mount -t virtiofs NAME /mnt)" },
	{ "mac", OPT_STR, OPTION(mac), "MAC",
	  .help = "net: address of the guest; default: made of the VM's name and this host" },
	{ "mtu", OPT_UINT, OPTION(mtu), "BYTES", .max = 65535,
	  .help = "net: largest packet the guest shall send" },
	{ "id", OPT_STR, OPTION(id), "NAME", .unique = true,
	  .help = "what the control API calls it" },
	{ NULL }
};

static const struct virtio_ops vhost_user_ops = {
	.name = "vhost-user",
	/* .id: none; what it makes has ops of its own, see vhost_user.c */
	.option = { .name = "vhost-user",
		    .keys = vhost_user_keys,
		    .size = sizeof(struct vhost_user_options),
		    .max = 16,
		    .section = "Devices",
		    .help = "A device served by another process (the back end: "
			    "qemu-storage-daemon, virtiofsd, DPDK ...) by the vhost-user "
			    "protocol. Start that first. It sees all of the guest's memory. When "
			    "it ends the guest waits until it is there again." },
	.check = vhost_user_check,
	.create = vhost_user_make,
};
VIRTIO_DEVICE(vhost_user_ops);
