// SPDX-License-Identifier: Apache-2.0
/*
 * Network backend: a tap interface of the host, Linux's Documentation/networking/tuntap.rst.
 *
 * A tap is an Ethernet interface whose other end is a file: a read takes a frame the host sent to
 * it, a write is a frame the host receives. With IFF_VNET_HDR each has the virtio header in
 * front, so both go straight from and to guest memory, and checksums and segmentation are left
 * to whoever needs them last. With IFF_MULTI_QUEUE there are several files for one interface.
 *
 * An interface that exists must be ours to use (its owner or group, or CAP_NET_ADMIN); one that
 * does not is made, and brought up as nobody else will, and is gone when we are.
 *
 * Link. A netlink socket tells of changes to interfaces, all of them, in text we need not trust
 * to be complete: whatever comes, the flags are asked for again. A descriptor
 * that was handed to us may be of another network namespace; its link is always up.
 *
 * Limits. USO is one thing to Linux, for IPv4 and IPv6 together: a driver that takes only one of
 * them gets none. The header is in the host's byte order, which is virtio's: little-endian.
 *
 * #syscalls main io: readv writev ioctl
 * #ioctls main io: TUNSETOFFLOAD TUNSETQUEUE
 * #syscalls: recvfrom
 * #ioctls: SIOCGIFFLAGS
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/net.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define TUN_PATH     "/dev/net/tun"
#define NETLINK_PART 4096
#define NETLINK_MAX  64 /* messages per visit */

/* Linux 6.2; missing from older headers. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define TUN_USO	     (TUN_F_USO4 | TUN_F_USO6)
#define TUN_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_UFO)

struct net_tap {
	struct net_backend be;
	struct net_link *link;
	struct loop_fd netlink; /* .fd: -1 when the state of the interface cannot be known */
	unsigned attached;	/* queues in use */
	bool made;		/* the interface is ours */
};

/* --- Packets --- */

static ssize_t tap_receive(struct net_backend *be, unsigned pair, const struct iovec *iov,
			   unsigned n)
{
	ssize_t r = readv(be->fd[pair], iov, (int)n);

	if (r >= 0)
		return r;
	return errno == EINTR ? -EAGAIN : -errno;
}

static int tap_send(struct net_backend *be, unsigned pair, const struct iovec *iov, unsigned n,
		    size_t len)
{
	(void)len;
	if (writev(be->fd[pair], iov, (int)n) >= 0)
		return 0;
	return errno == EINTR ? -EAGAIN : -errno;
}

static void tap_set_offloads(struct net_backend *be, uint64_t features)
{
	static const struct {
		uint64_t feature;
		unsigned long flag;
	} map[] = {
		{ NET_BIT(GUEST_TSO4), TUN_F_TSO4 },
		{ NET_BIT(GUEST_TSO6), TUN_F_TSO6 },
		{ NET_BIT(GUEST_ECN), TUN_F_TSO_ECN },
		{ NET_BIT(GUEST_UFO), TUN_F_UFO },
	};
	uint64_t uso = NET_BIT(GUEST_USO4) | NET_BIT(GUEST_USO6);
	unsigned long flags = 0;

	/* Segmentation is nothing without checksums: 5.1.3.1. */
	if ((features & NET_BIT(GUEST_CSUM)) != 0) {
		flags = TUN_F_CSUM;
		for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
			flags |= (features & map[i].feature) != 0 ? map[i].flag : 0;
		if ((features & uso) == uso)
			flags |= TUN_USO;
		/* Alone, ECN is nothing the kernel knows. */
		if ((flags & (TUN_F_TSO4 | TUN_F_TSO6)) == 0)
			flags &= ~(unsigned long)TUN_F_TSO_ECN;
	}
	if (ioctl(be->fd[0], TUNSETOFFLOAD, flags) < 0)
		log_limited(LOG_WARN, "net %s: cannot set offloads: %s", be->name,
			    strerrordesc_np(errno));
}

static int tap_set_pairs(struct net_backend *be, unsigned n)
{
	struct net_tap *tap = container_of(be, struct net_tap, be);
	struct ifreq ifr = { .ifr_flags = IFF_ATTACH_QUEUE };

	for (; tap->attached < n; tap->attached++) {
		if (ioctl(be->fd[tap->attached], TUNSETQUEUE, &ifr) < 0)
			return -errno;
	}
	ifr.ifr_flags = IFF_DETACH_QUEUE;
	for (; tap->attached > n; tap->attached--) {
		if (ioctl(be->fd[tap->attached - 1], TUNSETQUEUE, &ifr) < 0)
			return -errno;
	}
	return 0;
}

static void tap_free(struct net_backend *be)
{
	struct net_tap *tap = container_of(be, struct net_tap, be);

	loop_del_fd(&tap->netlink);
	if (tap->netlink.fd >= 0)
		close(tap->netlink.fd);
	for (unsigned i = 0; i < be->pairs; i++) {
		if (be->fd[i] >= 0)
			close(be->fd[i]);
	}
	free(tap);
}

static const struct net_backend_ops tap_ops = {
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = tap_set_offloads,
	.set_pairs = tap_set_pairs,
	.free = tap_free,
};

/* --- Link --- */

/* An ioctl on the interface, by name. Any socket will do. */
static int interface_ioctl(struct net_tap *tap, unsigned long request, struct ifreq *ifr)
{
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%.15s", tap->be.name);
	return ioctl(tap->netlink.fd, request, ifr) < 0 ? -errno : 0;
}

static bool interface_up(struct net_tap *tap)
{
	struct ifreq ifr = { 0 };

	return interface_ioctl(tap, SIOCGIFFLAGS, &ifr) == 0 && (ifr.ifr_flags & IFF_UP) != 0;
}

static void netlink_ready(struct loop_fd *lfd, uint32_t events)
{
	struct net_tap *tap = container_of(lfd, struct net_tap, netlink);
	char part[NETLINK_PART];

	(void)events;
	/* ENOBUFS tells of messages that were lost, once: as good as a message. */
	for (unsigned i = 0; i < NETLINK_MAX; i++) {
		if (recv(lfd->fd, part, sizeof(part), MSG_DONTWAIT) < 0 && errno != ENOBUFS)
			break;
	}
	tap->link->changed(tap->link, interface_up(tap));
}

static int watch_link(struct net_tap *tap, struct loop *loop, struct err *err)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	/* Without it, as in a network namespace we may not look into, the link stays as it is. */
	if (bind(tap->netlink.fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		log_debug("net %s: cannot watch the interface: %s", tap->be.name,
			  strerrordesc_np(errno));
		return 0;
	}
	return loop_add_fd(loop, &tap->netlink, EPOLLIN, err);
}

/* --- Opening --- */

static int open_error(struct err *err)
{
	int code = errno;

	switch (code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return err_sys(err, code,
			       "cannot open " TUN_PATH " (modprobe tun; in a container, "
			       "let it have the device)");
	case EACCES:
	case EPERM:
		return err_sys(err, code,
			       "cannot open " TUN_PATH " (it is commonly open to all, chmod 666; "
			       "in a container, let it have the device)");
	}
	return err_sys(err, code, "cannot open " TUN_PATH);
}

/* Is the interface of the tun driver? It calls itself that, also as a tap. */
static bool is_tun(struct net_tap *tap)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { .ifr_data = (char *)&info };

	return interface_ioctl(tap, SIOCETHTOOL, &ifr) == 0 && strcmp(info.driver, "tun") == 0;
}

/* What can be known of why TUNSETIFF said no. @existed: the interface was there before. */
static int attach_error(int code, struct net_tap *tap, const struct net_options *opt, bool existed,
			struct err *err)
{
	bool multi = opt->queues > 1;

	if (code == EINVAL && existed && !is_tun(tap))
		return err_set(err, code, "there is an interface of that name which is no tap");
	if ((code == EINVAL || code == E2BIG) && existed && multi)
		return err_set(err, code,
			       "it was not made for %llu queues: make it with ip tuntap add dev %s "
			       "mode tap multi_queue, or leave queues= out",
			       (unsigned long long)opt->queues, opt->tap);
	if (code == EINVAL && existed)
		return err_set(err, code,
			       "it is no tap: make it with ip tuntap add dev %s mode tap",
			       opt->tap);
	if (code == EINVAL)
		return err_set(err, code, "that is no name for an interface");
	if (code == EBUSY)
		return err_set(err, code,
			       "it is in use by another program; each VM needs one of its own");
	if (code == EPERM && existed)
		return err_set(err, code,
			       "it belongs to somebody else: make it with ip tuntap add dev %s "
			       "mode tap user %u, or use -n user",
			       opt->tap, getuid());
	if (code == EPERM)
		return err_set(err, code,
			       "there is no such interface, and making one needs CAP_NET_ADMIN: as "
			       "root, ip tuntap add dev %s mode tap user %u, or use -n user",
			       opt->tap, getuid());
	return err_sys(err, code, "cannot use it");
}

static int attach(int fd, const char *name, short flags)
{
	struct ifreq ifr = { .ifr_flags = flags };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%.15s", name);
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

static int open_queues(struct net_tap *tap, const struct net_options *opt, bool existed,
		       struct err *err)
{
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct net_backend *be = &tap->be;

	if (opt->queues > 1)
		flags |= IFF_MULTI_QUEUE;
	for (unsigned i = 0; i < opt->queues; i++) {
		int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

		if (fd < 0)
			return open_error(err);
		be->fd[be->pairs++] = fd;
		r = attach(fd, opt->tap, flags);
		/* One made for several queues can be used with one; it wants to hear that. */
		if (r == -EINVAL && opt->queues == 1 && existed)
			r = attach(fd, opt->tap, (short)(flags | IFF_MULTI_QUEUE));
		if (r < 0)
			return attach_error(-r, tap, opt, existed, err);
	}
	tap->attached = be->pairs;
	return 0;
}

static int bring_up(struct net_tap *tap, const struct net_options *opt, struct err *err)
{
	struct ifreq ifr = { 0 };
	int r;

	if (opt->mtu != 0) {
		ifr.ifr_mtu = (int)opt->mtu;
		r = interface_ioctl(tap, SIOCSIFMTU, &ifr);
		if (r < 0)
			return err_sys(err, -r, "mtu=%llu", (unsigned long long)opt->mtu);
	}
	memset(&ifr, 0, sizeof(ifr));
	r = interface_ioctl(tap, SIOCGIFFLAGS, &ifr);
	if (r == 0) {
		ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
		r = interface_ioctl(tap, SIOCSIFFLAGS, &ifr);
	}
	return r < 0 ? err_sys(err, -r, "cannot bring it up") : 0;
}

static int open_by_name(struct net_tap *tap, const struct net_options *opt, struct loop *loop,
			struct err *err)
{
	struct net_backend *be = &tap->be;
	struct ifreq ifr = { 0 };
	bool existed;

	snprintf(be->name, sizeof(be->name), "%s", opt->tap);
	tap->netlink.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (tap->netlink.fd < 0)
		return err_sys(err, errno, "cannot open a netlink socket");
	existed = interface_ioctl(tap, SIOCGIFINDEX, &ifr) == 0;
	if (open_queues(tap, opt, existed, err) < 0)
		return -err->code;
	tap->made = !existed;
	if (tap->made && bring_up(tap, opt, err) < 0)
		return -err->code;
	if (watch_link(tap, loop, err) < 0)
		return -err->code;
	be->up = interface_up(tap);
	if (!be->up)
		log_warn("net %s: the interface is down, and so is the guest's link, until ip link "
			 "set %s up",
			 be->name, be->name);
	return 0;
}

static int open_by_fd(struct net_tap *tap, const struct net_options *opt, struct err *err)
{
	struct net_backend *be = &tap->be;
	struct ifreq ifr = { 0 };
	int fd = (int)opt->fd, flags = fcntl(fd, F_GETFL);

	snprintf(be->name, sizeof(be->name), "fd %d", fd);
	if (flags < 0)
		return err_set(err, EBADF, "no such descriptor is open");
	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return err_set(err, EINVAL,
			       "the descriptor is no tap: open " TUN_PATH " and attach it to one "
			       "(TUNSETIFF), or /dev/tapN of a macvtap");
	if ((ifr.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) !=
	    (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
		return err_set(err, EINVAL,
			       "the descriptor's interface %.15s is not attached with IFF_TAP, "
			       "IFF_NO_PI and IFF_VNET_HDR",
			       ifr.ifr_name);
	snprintf(be->name, sizeof(be->name), "%.15s", ifr.ifr_name);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(err, errno, "fcntl");
	be->fd[0] = fd;
	be->pairs = tap->attached = 1;
	be->up = true;
	return 0;
}

/* Header size and what the kernel can do, found out by asking it to. */
static int set_up(struct net_tap *tap, struct err *err)
{
	struct net_backend *be = &tap->be;
	int size = NET_HDR;

	if (ioctl(be->fd[0], TUNSETVNETHDRSZ, &size) < 0)
		return err_sys(err, errno, "cannot set the size of the virtio header");
	/* What is on from here has no effect: the driver decides before anything is received. */
	if (ioctl(be->fd[0], TUNSETOFFLOAD, (unsigned long)(TUN_OFFLOADS | TUN_USO)) == 0)
		be->features = NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS;
	else if (ioctl(be->fd[0], TUNSETOFFLOAD, (unsigned long)TUN_OFFLOADS) == 0)
		be->features = (NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS) &
			       ~(NET_BIT(HOST_USO) | NET_BIT(GUEST_USO4) | NET_BIT(GUEST_USO6));
	return 0;
}

struct net_backend *net_tap_new(const struct net_options *opt, struct loop *loop,
				struct net_link *link, struct err *err)
{
	struct net_tap *tap = calloc(1, sizeof(*tap));
	int r;

	if (tap == NULL) {
		err_sys(err, ENOMEM, "net");
		return NULL;
	}
	tap->be.ops = &tap_ops;
	tap->link = link;
	tap->netlink = (struct loop_fd){ .fd = -1, .fn = netlink_ready };
	if (opt->tap != NULL)
		r = open_by_name(tap, opt, loop, err);
	else
		r = open_by_fd(tap, opt, err);
	if (r == 0)
		r = set_up(tap, err);
	if (r == 0)
		return &tap->be;
	if (opt->tap != NULL)
		err_context(err, "net tap=%s", opt->tap);
	else
		err_context(err, "net fd=%llu", (unsigned long long)opt->fd);
	tap_free(&tap->be);
	return NULL;
}
