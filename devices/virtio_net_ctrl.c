// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio network device, control queue and receive filters: Virtual I/O Device (VIRTIO) 1.2,
 * section 5.1.6.5. The device itself is in virtio_net.c.
 *
 * Theory of operation. A command is a class, a command and its data; the answer is one byte, OK
 * or ERR. All a command sets is in struct net_mode, which a reset puts back. Filters are
 * ours: a tap carries what the host routes to this guest, so there is little to drop, and a
 * look at 18 bytes is cheaper than to keep a kernel filter in step. They are as good as the
 * driver's tables fit; with more than NET_MACS_MAX addresses of a kind all of that kind pass,
 * as 5.1.6.5.1 allows.
 *
 * Limits. While vhost serves a queue nothing is filtered: the kernel's only filter (TUNSETTXFILTER)
 * knows neither VLANs nor all of the modes. Drivers must cope with that by the same
 * section, and do: promiscuous is what most hosts are.
 *
 * #syscalls: none
 */
#include <linux/if_ether.h>
#include <string.h>
#include "devices/virtio_net_impl.h"

#define CTRL_BATCH 16

static bool multicast(const uint8_t *mac)
{
	return (mac[0] & 1) != 0;
}

void net_mode_reset(struct net *net)
{
	memset(&net->mode, 0, sizeof(net->mode));
	/* 5.1.6.5.1: until the driver says what it wants to see, it sees all. */
	net->mode.promisc = true;
	net->mode.pairs = 1;
}

/* --- Filters --- */

bool net_filters(const struct net *net)
{
	return !net->mode.promisc && (virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_RX) ||
				      virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_VLAN));
}

static bool in_table(const uint8_t (*table)[6], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++) {
		if (memcmp(table[i], mac, 6) == 0)
			return true;
	}
	return false;
}

static bool vlan_passes(const struct net *net, const uint8_t *eth, size_t len)
{
	unsigned id;

	if (len < 16 || eth[12] != ETH_P_8021Q >> 8 || eth[13] != (ETH_P_8021Q & 0xff))
		return true;
	id = (eth[14] & 0x0fu) << 8 | eth[15];
	return (net->mode.vlans[id / 8] >> id % 8 & 1) != 0;
}

bool net_filter(const struct net *net, const uint8_t *eth, size_t len)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct net_mode *m = &net->mode;

	if (m->promisc)
		return true;
	if (virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_VLAN) && !vlan_passes(net, eth, len))
		return false;
	if (!virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_RX))
		return true;
	if (memcmp(eth, broadcast, 6) == 0)
		return !m->nobcast;
	if (multicast(eth))
		return !m->nomulti && (m->allmulti || m->all_multicast ||
				       in_table(m->multicast, m->nmulticast, eth));
	return !m->nouni && (m->alluni || m->all_unicast || memcmp(eth, net->config.mac, 6) == 0 ||
			     in_table(m->unicast, m->nunicast, eth));
}

/* --- Commands; true: done --- */

/* Take all @len bytes of the command's data, which must be that long. */
static bool take(struct virtqueue_cursor *c, void *data, size_t len)
{
	return c->left == len && virtqueue_read(c, data, len) == len;
}

static bool ctrl_rx(struct net *net, uint8_t cmd, struct virtqueue_cursor *c)
{
	struct net_mode *m = &net->mode;
	bool *const flags[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &m->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &m->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &m->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &m->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &m->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &m->nobcast,
	};
	unsigned feature = cmd <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
							      : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (cmd >= sizeof(flags) / sizeof(flags[0]) || !virtio_has(&net->vdev, feature) ||
	    !take(c, &on, sizeof(on)) || on > 1)
		return false;
	*flags[cmd] = on;
	return true;
}

/* One table of VIRTIO_NET_CTRL_MAC_TABLE_SET: how many, then so many addresses. */
static bool take_table(struct virtqueue_cursor *c, uint8_t (*table)[6], unsigned *n, bool *all)
{
	uint32_t entries;
	uint64_t len;

	if (virtqueue_read(c, &entries, sizeof(entries)) != sizeof(entries))
		return false;
	len = 6 * (uint64_t)entries;
	if (len > c->left)
		return false;
	*all = entries > NET_MACS_MAX;
	*n = *all ? 0 : entries;
	virtqueue_read(c, table, 6 * (size_t)*n);
	virtqueue_skip(c, len - 6 * (size_t)*n);
	return true;
}

static bool ctrl_mac(struct net *net, uint8_t cmd, struct virtqueue_cursor *c)
{
	struct net_mode m = net->mode;
	uint8_t mac[6];

	switch (cmd) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		if (!virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_RX) ||
		    !take_table(c, m.unicast, &m.nunicast, &m.all_unicast) ||
		    !take_table(c, m.multicast, &m.nmulticast, &m.all_multicast) || c->left != 0)
			return false;
		net->mode = m;
		return true;
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		if (!virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_MAC_ADDR) ||
		    !take(c, mac, sizeof(mac)) || multicast(mac))
			return false;
		memcpy(net->config.mac, mac, sizeof(mac));
		return true;
	}
	return false;
}

static bool ctrl_vlan(struct net *net, uint8_t cmd, struct virtqueue_cursor *c)
{
	uint16_t id;

	if (!virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_VLAN) || !take(c, &id, sizeof(id)) ||
	    id >= NET_VLANS)
		return false;
	switch (cmd) {
	case VIRTIO_NET_CTRL_VLAN_ADD:
		net->mode.vlans[id / 8] |= (uint8_t)(1u << id % 8);
		return true;
	case VIRTIO_NET_CTRL_VLAN_DEL:
		net->mode.vlans[id / 8] &= (uint8_t) ~(1u << id % 8);
		return true;
	}
	return false;
}

static bool ctrl_announce(struct net *net, uint8_t cmd, struct virtqueue_cursor *c)
{
	if (!virtio_has(&net->vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
	    cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK || c->left != 0)
		return false;
	net->config.status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
	return true;
}

static bool ctrl_mq(struct net *net, uint8_t cmd, struct virtqueue_cursor *c)
{
	uint16_t pairs;

	if (!virtio_has(&net->vdev, VIRTIO_NET_F_MQ) || cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    !take(c, &pairs, sizeof(pairs)) || pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN ||
	    pairs > net->pairs)
		return false;
	net->mode.pairs = pairs;
	net_apply_pairs(net);
	return true;
}

static bool ctrl_offloads(struct net *net, uint8_t cmd, struct virtqueue_cursor *c)
{
	uint64_t bits;

	if (!virtio_has(&net->vdev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
	    cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || !take(c, &bits, sizeof(bits)) ||
	    (bits & ~(net->vdev.driver_features & NET_GUEST_OFFLOADS)) != 0)
		return false;
	net->mode.offloads = bits;
	net->be->ops->set_offloads(net->be, bits);
	return true;
}

static bool command(struct net *net, struct virtqueue_cursor *c)
{
	struct virtio_net_ctrl_hdr hdr;

	if (virtqueue_read(c, &hdr, sizeof(hdr)) != sizeof(hdr))
		return false;
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		return ctrl_rx(net, hdr.cmd, c);
	case VIRTIO_NET_CTRL_MAC:
		return ctrl_mac(net, hdr.cmd, c);
	case VIRTIO_NET_CTRL_VLAN:
		return ctrl_vlan(net, hdr.cmd, c);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return ctrl_announce(net, hdr.cmd, c);
	case VIRTIO_NET_CTRL_MQ:
		return ctrl_mq(net, hdr.cmd, c);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return ctrl_offloads(net, hdr.cmd, c);
	}
	return false;
}

static bool ctrl_chain(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct net *net = (struct net *)vdev; /* first member */
	uint8_t ack;

	if (chain->writable.left < sizeof(ack)) {
		virtio_fail(vdev, "queue %u: a command without room for the answer", q);
		return true;
	}
	ack = command(net, &chain->readable) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	virtqueue_write(&chain->writable, &ack, sizeof(ack));
	return true;
}

void net_ctrl(struct net *net, unsigned q)
{
	virtio_serve(&net->vdev, q, net->ctrl_iov, CTRL_BATCH, ctrl_chain);
}

/* --- State --- */

static void macs_state(struct state *st, const char *name, uint8_t (*table)[6], unsigned *n)
{
	size_t len = 6 * (size_t)*n;

	state_blob(st, name, table, &len, 6 * NET_MACS_MAX);
	if (state_loading(st))
		*n = (unsigned)(len / 6);
}

void net_mode_state(struct net *net, struct state *st)
{
	struct net_mode *m = &net->mode;

	state_bool(st, "promisc", &m->promisc);
	state_bool(st, "allmulti", &m->allmulti);
	state_bool(st, "alluni", &m->alluni);
	state_bool(st, "nomulti", &m->nomulti);
	state_bool(st, "nouni", &m->nouni);
	state_bool(st, "nobcast", &m->nobcast);
	state_bool(st, "all_unicast", &m->all_unicast);
	state_bool(st, "all_multicast", &m->all_multicast);
	macs_state(st, "unicast", m->unicast, &m->nunicast);
	macs_state(st, "multicast", m->multicast, &m->nmulticast);
	state_bytes(st, "vlans", m->vlans, sizeof(m->vlans));
	state_u16(st, "pairs", &m->pairs);
	state_u64(st, "offloads", &m->offloads);
	if (!state_loading(st))
		return;
	if (m->pairs < 1 || m->pairs > net->pairs)
		state_fail(st, "%s: %u queue pairs are in use, there are %u", net->vdev.name,
			   m->pairs, net->pairs);
	if ((m->offloads & ~(net->vdev.driver_features & NET_GUEST_OFFLOADS)) != 0)
		state_fail(st, "%s: offloads 0x%llx were not negotiated", net->vdev.name,
			   (unsigned long long)m->offloads);
	if (m->pairs > net->pairs || m->pairs < 1)
		m->pairs = 1;
}
