// SPDX-License-Identifier: Apache-2.0
/*
 * What is particular to a type of vhost-user device. The device is in vhost_user.c, the option
 * in virtio_vhost_user.c; sections are those of Virtual I/O Device (VIRTIO) 1.2.
 *
 * blk (5.2): all is the back end's, features and configuration, but for the number of queues.
 * net (5.1): the configuration is ours: MAC address, MTU, the link, which is up while there is a
 * back end. With several pairs of queues there is a control queue, served here, whose
 * only command is how many of them are in use. fs (5.11): tag and number of queues are ours.
 * Others: what the back end says.
 *
 * Features. Of the device's own bits all are passed on of a type we know nothing about; of
 * the three above only those that need nothing of us. Of the reserved ones (24 to 41) only those
 * our queues have: no packed rings, no IOMMU.
 *
 * Limits: no shared memory regions (fs: DAX), no in-band notifications; of gpu, no display.
 *
 * #syscalls main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/net.h"
#include "devices/vhost_user_impl.h"
#include "vmm/base/util.h"

#define BIT(n) (1ULL << (n))
#define RING_FEATURES                                                                              \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define ANY_FEATURES 0xfffc000000ffffffULL /* 0 to 23 and 50 to 63: the devices' own. 6 */
#define BLK(f)	     BIT(VIRTIO_BLK_F_##f)
#define CTRL_BUDGET  16
#define MAC_SALT     1000 /* so that its addresses are not those of --net */

/* --- blk --- */

static void blk_configured(struct vhost_user *vu)
{
	struct virtio_blk_config *c = (struct virtio_blk_config *)vu->config;
	uint32_t segments = vu->vdev.queue[0].vq.max_size - 2u;

	c->num_queues = htole16((uint16_t)vu->queues);
	/* 2.7.5.3.1: a chain is no longer than its queue. */
	if (le32toh(c->seg_max) > segments)
		c->seg_max = htole32(segments);
}

static bool blk_writable(const struct vhost_user *vu, unsigned off, unsigned len)
{
	return off == offsetof(struct virtio_blk_config, wce) && len == 1 &&
	       virtio_has(&vu->vdev, VIRTIO_BLK_F_CONFIG_WCE);
}

/* --- net --- */

static void net_link(struct vhost_user *vu, bool up)
{
	uint16_t status = up ? VIRTIO_NET_S_LINK_UP : 0;

	if (vu_net(vu)->status == status)
		return;
	vu_net(vu)->status = status;
	if (virtio_has(&vu->vdev, VIRTIO_NET_F_STATUS))
		virtio_config_changed(&vu->vdev);
}

static int net_init(struct vhost_user *vu, const struct vhost_user_config *cfg, unsigned index,
		    const struct virtio_host *host, struct err *err)
{
	struct virtio_net_config *c = vu_net(vu);

	(void)err;
	net_make_mac(c->mac, cfg->mac, host->vm_name != NULL ? host->vm_name : vu->path,
		     MAC_SALT + index);
	c->mtu = htole16((uint16_t)cfg->mtu);
	c->max_virtqueue_pairs = htole16((uint16_t)vu->queues);
	return 0;
}

/* 5.1.2: it comes last of those the driver knows of. */
unsigned vu_ctrl_queue(const struct vhost_user *vu)
{
	if (vu->type.id != VIRTIO_ID_NET || !virtio_has(&vu->vdev, VIRTIO_NET_F_CTRL_VQ))
		return UINT_MAX;
	return virtio_has(&vu->vdev, VIRTIO_NET_F_MQ) ? 2 * vu->queues : 2;
}

bool vu_enabled(const struct vhost_user *vu, unsigned q)
{
	return vu->type.id != VIRTIO_ID_NET || q / 2 < vu->pairs;
}

/* 5.1.6.5.5 */
static bool set_pairs(struct vhost_user *vu, unsigned pairs)
{
	uint64_t deadline = vu_deadline(vu);
	struct err err = ERR_INIT;
	unsigned old = vu->pairs;

	if (pairs < 1 || pairs > vu->queues || !virtio_has(&vu->vdev, VIRTIO_NET_F_MQ))
		return false;
	vu->pairs = pairs;
	/* While it is away it is enough to remember. */
	for (unsigned q = 0; q < 2 * vu->queues && vu->state == VU_RUNNING && !vu->broken; q++) {
		if ((vu->out >> q & 1) != 0 && (q / 2 < old) != vu_enabled(vu, q) &&
		    vu_enable_ring(&vu->conn, q, vu_enabled(vu, q), deadline, &err) < 0)
			vu_broken(vu, &err);
	}
	return true;
}

static bool ctrl(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	uint8_t ack = VIRTIO_NET_ERR;
	struct {
		struct virtio_net_ctrl_hdr hdr;
		__le16 pairs;
	} __attribute__((packed)) command;

	(void)q;
	if (virtqueue_read(&chain->readable, &command, sizeof(command)) == sizeof(command) &&
	    chain->readable.left == 0 && command.hdr.class == VIRTIO_NET_CTRL_MQ &&
	    command.hdr.cmd == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET &&
	    set_pairs(vu_of(vdev), le16toh(command.pairs)))
		ack = VIRTIO_NET_OK;
	virtqueue_write(&chain->writable, &ack, sizeof(ack));
	return true;
}

void vu_ctrl_kick(struct vhost_user *vu, unsigned q)
{
	virtio_serve(&vu->vdev, q, vu->iov, CTRL_BUDGET, ctrl);
}

/* --- fs --- */

static int fs_init(struct vhost_user *vu, const struct vhost_user_config *cfg, unsigned index,
		   const struct virtio_host *host, struct err *err)
{
	struct virtio_fs_config *c = (struct virtio_fs_config *)vu->config;

	(void)index;
	(void)host;
	(void)err;
	memcpy(c->tag, cfg->tag, strnlen(cfg->tag, sizeof(c->tag)));
	c->num_request_queues = htole32(vu->queues);
	return 0;
}

/* --- Types --- */

#define NET_FEATURES (NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS | NET_BIT(MRG_RXBUF) | NET_BIT(MQ))
#define BLK_FEATURES                                                                               \
	(BLK(SIZE_MAX) | BLK(SEG_MAX) | BLK(GEOMETRY) | BLK(RO) | BLK(BLK_SIZE) | BLK(FLUSH) |     \
	 BLK(TOPOLOGY) | BLK(CONFIG_WCE) | BLK(MQ) | BLK(DISCARD) | BLK(WRITE_ZEROES))
#define OTHER 0xff0000 /* of PCI: none of the classes there are */

/* A type that is all its back end's, of @n queues. */
#define REMOTE(name_, id_, class_, n, each_, config_)                                              \
	{                                                                                          \
		.name = name_, .id = id_, .pci_class = class_, .features = ANY_FEATURES,           \
		.fixed = n, .each = each_, .config = config_, .config_remote = true                \
	}

static const struct vu_type types[] = {
	{ .name = "blk",
	  .id = VIRTIO_ID_BLOCK,
	  .pci_class = 0x018000,
	  .features = BLK_FEATURES,
	  .each = 1,
	  .config = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
	  .config_remote = true,
	  .settles = true,
	  .configured = blk_configured,
	  .writable = blk_writable },
	{ .name = "net",
	  .id = VIRTIO_ID_NET,
	  .pci_class = 0x020000,
	  .features = NET_FEATURES,
	  .each = 2,
	  .config = offsetof(struct virtio_net_config, speed),
	  .init = net_init,
	  .link = net_link },
	{ .name = "fs",
	  .id = VIRTIO_ID_FS,
	  .pci_class = 0x018000,
	  .fixed = 1,
	  .each = 1,
	  .config = sizeof(struct virtio_fs_config),
	  .init = fs_init },
	REMOTE("console", VIRTIO_ID_CONSOLE, 0x078000, 2, 0, 12),
	REMOTE("rng", VIRTIO_ID_RNG, OTHER, 1, 0, 0),
	REMOTE("scsi", VIRTIO_ID_SCSI, 0x010000, 2, 1, 36),
	REMOTE("gpu", VIRTIO_ID_GPU, 0x038000, 2, 0, 16),
	REMOTE("input", VIRTIO_ID_INPUT, 0x098000, 2, 0, 136),
	REMOTE("vsock", VIRTIO_ID_VSOCK, 0x078000, 3, 0, 8),
	REMOTE("crypto", VIRTIO_ID_CRYPTO, OTHER, 1, 1, 56),
	REMOTE("sound", VIRTIO_ID_SOUND, 0x040100, 4, 0, 12),
	REMOTE("i2c", VIRTIO_ID_I2C_ADAPTER, OTHER, 1, 0, 0),
	REMOTE("gpio", VIRTIO_ID_GPIO, OTHER, 2, 0, 8),
};

#define NTYPES (sizeof(types) / sizeof(types[0]))

int vu_type_find(const char *name, struct vu_type *type, struct err *err)
{
	char names[160] = "", *end;
	unsigned long id = strtoul(name, &end, 10);

	for (unsigned i = 0; i < NTYPES; i++) {
		size_t at = strlen(names);

		*type = types[i];
		if (strcmp(name, types[i].name) == 0 ||
		    (*name >= '1' && *name <= '9' && *end == '\0' && id == types[i].id))
			return 0;
		snprintf(names + at, sizeof(names) - at, "%s, ", types[i].name);
	}
	if (*name >= '1' && *name <= '9' && *end == '\0' && id <= 63) {
		*type = (struct vu_type)REMOTE("device", (uint16_t)id, OTHER, 0, 1, VU_CONFIG_ASK);
		return 0;
	}
	return err_set(err, EINVAL,
		       "'%s' is no type of device: %sor the number of a type from 1 to 63", name,
		       names);
}

uint64_t vu_offer(const struct vhost_user *vu)
{
	uint64_t bits = vu->backend & (vu->type.features | RING_FEATURES);

	if (vu->type.id == VIRTIO_ID_BLOCK && vu->queues == 1)
		bits &= ~BLK(MQ);
	if (vu->type.id == VIRTIO_ID_NET) {
		bits |= NET_BIT(MAC) | NET_BIT(STATUS);
		if (vu_net((struct vhost_user *)vu)->mtu != 0)
			bits |= NET_BIT(MTU);
		if (vu->queues == 1)
			bits &= ~NET_BIT(MQ);
		if ((bits & NET_BIT(MQ)) != 0)
			bits |= NET_BIT(CTRL_VQ);
	}
	return bits & ~vu->hide;
}

uint64_t vu_accepted(const struct vhost_user *vu)
{
	return vu->vdev.driver_features & vu->backend & (vu->type.features | RING_FEATURES);
}
