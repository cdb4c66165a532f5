// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio network device: Virtual I/O Device (VIRTIO) 1.2, section 5.1. This file makes it
 * and leads its life; packets are in virtio_net_io.c, the control queue in virtio_net_ctrl.c.
 *
 * Theory of operation. The device is half of a cable; the other half is a backend (net.h): a tap
 * interface, or passt. Offloads (checksums and segmentation left to the other side) are offered
 * as far as the backend has them.
 *
 * While the driver is not there nobody watches the backend. When it comes (DRIVER_OK, or resume)
 * net_update() sets the offloads, throws away what arrived for nobody, chooses who serves
 * the queues and starts. A reset, on whatever thread, only forgets: `running` is false from then
 * on, and what the loop still watches it finds out by that.
 *
 * Who serves. With vhost the host's kernel moves packets between queues and tap, for each pair in
 * use of which both queues are enabled; the control queue is always ours. Rate limits
 * cannot be kept there, nor an I/O thread be used, so these exclude it. It does not tell us what
 * memory it wrote, so while dirty pages are tracked we serve; whoever begins to track
 * quiesces and resumes the devices, and that is where it changes.
 *
 * Link. Bit LINK_UP of the configuration follows the backend: the tap's administrative state,
 * the life of passt. What the guest sends meanwhile is dropped, as by a cable unplugged.
 *
 * MAC address. Given, or computed from the VM's name (without one: the backend's), the host's
 * machine-id and the device's number: the same VM gets the same address each time, so guests
 * that name interfaces or ask for leases by it see no change.
 *
 * Limits: no RSS, no hash reports, no notification coalescing, no speed and duplex.
 *
 * #syscalls main vcpu: futex
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "devices/virtio_live.h"
#include "devices/virtio_net_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PCI_CLASS_ETHERNET 0x020000
#define MACHINE_ID	   "/etc/machine-id"

static struct net *net_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct net, vdev);
}

/* --- Link --- */

static void set_link(struct net *net, bool up)
{
	uint16_t status = net->config.status & (uint16_t)~VIRTIO_NET_S_LINK_UP;

	if (up && !net->lost)
		status |= VIRTIO_NET_S_LINK_UP;
	if (status == net->config.status)
		return;
	net->config.status = status;
	if (virtio_has(&net->vdev, VIRTIO_NET_F_STATUS))
		virtio_config_changed(&net->vdev);
}

static void link_changed(struct net_link *link, bool up)
{
	struct net *net = container_of(link, struct net, link);

	pthread_mutex_lock(&net->vdev.lock);
	set_link(net, up);
	pthread_mutex_unlock(&net->vdev.lock);
}

void net_lost(struct net *net, int error)
{
	if (net->lost)
		return;
	/* Of a backend that hung up, its own watcher knows more to say. */
	log_print(error == EPIPE ? LOG_DEBUG : LOG_WARN,
		  "%s: the connection to the host is gone (%s); the guest's link is down",
		  net->vdev.name, strerrordesc_np(error));
	net->lost = true;
	set_link(net, false);
	for (unsigned i = 0; i < net->pairs; i++)
		net_watch(&net->pair[i]);
}

/* --- Start and stop --- */

/* vhost for pair @i, if it can be. */
static void start_vhost(struct net *net, unsigned i)
{
	struct virtio_device *vdev = &net->vdev;
	int r;

	if (vdev->mem->regions[0].dirty != NULL || virtio_vq(vdev, 2 * i) == NULL ||
	    virtio_vq(vdev, 2 * i + 1) == NULL)
		return;
	r = net_vhost_start(net->vhost, vdev, i, net->be->fd[i]);
	if (r < 0)
		log_limited(LOG_WARN, "%s: vhost-net cannot serve it: %s; serving it here",
			    vdev->name, strerrordesc_np(-r));
	net->pair[i].vhost = r == 0;
}

static void stop_vhost(struct net *net, unsigned i)
{
	if (net->pair[i].vhost)
		net_vhost_stop(net->vhost, &net->vdev, i);
	net->pair[i].vhost = false;
}

void net_apply_pairs(struct net *net)
{
	unsigned n = net->mode.pairs;
	int r = 0;

	for (unsigned i = n; i < net->pairs; i++) {
		struct net_pair *p = &net->pair[i];

		if (p->vhost) {
			stop_vhost(net, i);
			net_vhost_return(net->vhost, &net->vdev, i);
		}
		/* Their buffers stay the driver's until it uses the pair again. */
		net_rx_return(p);
		net_io_reset(p);
		net_watch(p);
	}
	if (net->be->ops->set_pairs != NULL && net->pairs > 1)
		r = net->be->ops->set_pairs(net->be, n);
	if (r < 0)
		log_limited(LOG_WARN, "%s: cannot use %u queue pairs: %s", net->vdev.name, n,
			    strerrordesc_np(-r));
	for (unsigned i = 0; i < n; i++) {
		struct net_pair *p = &net->pair[i];
		struct err err = ERR_INIT;

		if (p->lfd.loop == NULL && loop_add_fd(net->vdev.loop, &p->lfd, 0, &err) < 0) {
			log_warn("%s: %s", net->vdev.name, err.msg);
			continue;
		}
		if (!p->vhost && net->vhost != NULL) {
			net_rx_return(p);
			net_io_reset(p);
			start_vhost(net, i);
		}
		/* What was made available while the pair was not in use. */
		net_rx_kick(p);
		net_tx(p);
		net_watch(p);
	}
}

/* The driver is there: DRIVER_OK, or resume. */
static void net_run(struct net *net)
{
	if (net->fresh)
		net->mode.offloads = net->vdev.driver_features & NET_GUEST_OFFLOADS;
	net->fresh = false;
	/* What is in the tap was for somebody else, who perhaps could take other offloads. */
	net->be->ops->set_offloads(net->be, net->mode.offloads);
	for (unsigned i = 0; i < net->pairs; i++)
		net_rx_drain(&net->pair[i]);
	net->running = true;
	net_apply_pairs(net);
}

static void net_update(struct virtio_device *vdev)
{
	struct net *net = net_of(vdev);

	if (virtio_live(vdev) && !net->running)
		net_run(net);
	for (unsigned i = 0; i < net->pairs; i++)
		net_watch(&net->pair[i]);
	if (!net->running) {
		loop_disarm(&net->rx_limit.timer);
		loop_disarm(&net->tx_limit.timer);
	}
}

static void net_kick(struct virtio_device *vdev, unsigned q)
{
	struct net *net = net_of(vdev);
	/* 5.1.2: it comes last of those the driver knows of. */
	unsigned ctrl = virtio_has(vdev, VIRTIO_NET_F_MQ) ? 2 * net->pairs : 2;

	if (q == ctrl && virtio_has(vdev, VIRTIO_NET_F_CTRL_VQ))
		net_ctrl(net, q);
	else if (q / 2 < net->mode.pairs && q % 2 == 0)
		net_rx_kick(&net->pair[q / 2]);
	else if (q / 2 < net->mode.pairs)
		net_tx(&net->pair[q / 2]);
	/* What broke the device shall stop the kernel, too. */
	for (unsigned i = 0; i < net->pairs && !virtio_live(vdev); i++)
		stop_vhost(net, i);
}

static void net_reset(struct virtio_device *vdev)
{
	struct net *net = net_of(vdev);

	for (unsigned i = 0; i < net->pairs; i++) {
		stop_vhost(net, i);
		net_io_reset(&net->pair[i]);
	}
	net->running = false;
	net->fresh = true;
	net_mode_reset(net);
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
	net->config.status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
}

static void net_quiesce(struct virtio_device *vdev)
{
	struct net *net = net_of(vdev);

	for (unsigned i = 0; i < net->pairs; i++) {
		struct net_pair *p = &net->pair[i];
		bool vhost = p->vhost;

		stop_vhost(net, i);
		if (vhost)
			net_vhost_return(net->vhost, vdev, i);
		net_rx_return(p);
		net_io_reset(p);
		net_watch(p);
	}
	net->running = false;
	net_update(vdev);
}

/* Switches on the way may have forgotten where this guest is: let it say. 5.1.6.5.4 */
static void net_resume(struct virtio_device *vdev)
{
	struct net *net = net_of(vdev);

	if (!virtio_has(vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) || !virtio_live(vdev) ||
	    (net->config.status & VIRTIO_NET_S_LINK_UP) == 0)
		return;
	net->config.status |= VIRTIO_NET_S_ANNOUNCE;
	virtio_config_changed(vdev);
}

/*
 * A clone gets an address of its own. Drivers read it when they are loaded; this one has, so it
 * goes on with the old one until it is loaded again or told to look.
 */
static void replace_mac(struct net *net, const uint8_t given[6])
{
	if (net->own_mac)
		memcpy(net->mac, given, sizeof(net->mac));
	else if (getrandom(net->mac, sizeof(net->mac), GRND_NONBLOCK) == sizeof(net->mac))
		net->mac[0] = (uint8_t)((net->mac[0] & ~1) | 2);
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
}

static void net_state(struct virtio_device *vdev, struct state *st)
{
	struct net *net = net_of(vdev);
	uint8_t given[6];

	memcpy(given, net->mac, sizeof(given));
	/* The address a reset brings back is part of what this machine is, too. */
	state_bytes(st, "default_mac", net->mac, sizeof(net->mac));
	state_bytes(st, "mac", net->config.mac, sizeof(net->config.mac));
	net_mode_state(net, st);
	if (!state_loading(st))
		return;
	/* One that was still being set up takes what it negotiates when it comes. */
	net->fresh = (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) == 0;
	if (((net->mac[0] | net->config.mac[0]) & 1) != 0)
		state_fail(st, "%s: a saved MAC address is a group address", vdev->name);
	if (net->new_mac || (net->own_mac && memcmp(given, net->mac, sizeof(given)) != 0))
		replace_mac(net, given);
}

/* --- Options --- */

static const char *const vhost_values[] = { "auto", "on", "off", NULL };

/* Six bytes in hexadecimal with colons between. False: something else. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	for (int i = 0; i < 6; i++, text += 3) {
		char byte[3] = { text[0], text[0] != '\0' ? text[1] : '\0', '\0' };

		if (!isxdigit((unsigned char)byte[0]) || !isxdigit((unsigned char)byte[1]) ||
		    text[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return true;
}

int net_check_mac(const char *text, struct err *err)
{
	static const uint8_t zero[6];
	uint8_t mac[6];

	if (!parse_mac(text, mac))
		return err_set(err, EINVAL, "mac=%s is not a MAC address such as 52:54:00:12:34:56",
			       text);
	if ((mac[0] & 1) != 0)
		return err_set(err, EINVAL,
			       "mac=%s is a group address: the first byte must be even", text);
	if (memcmp(mac, zero, sizeof(mac)) == 0)
		return err_set(err, EINVAL, "mac=%s: all zeroes are no address", text);
	return 0;
}

static bool limited(const struct net_options *opt)
{
	return opt->bw != 0 || opt->pps != 0;
}

static int check_user(const struct net_options *opt, struct err *err)
{
	struct net_address address;

	if (opt->queues > 1)
		return err_set(err, EINVAL, "user has one queue pair: leave queues= out");
	if (opt->vhost == NET_VHOST_ON)
		return err_set(err, EINVAL, "vhost=on needs a tap; user has no queues for it");
	if (opt->tcp != NULL && net_user_check("tcp", opt->tcp, err) < 0)
		return -err->code;
	if (opt->udp != NULL && net_user_check("udp", opt->udp, err) < 0)
		return -err->code;
	return opt->address != NULL ? net_parse_address(opt->address, &address, err) : 0;
}

static int check_tap(const struct net_options *opt, struct err *err)
{
	if (opt->tcp != NULL || opt->udp != NULL)
		return err_set(err, EINVAL,
			       "%s= forwards ports of the host to a user network: it needs user",
			       opt->tcp != NULL ? "tcp" : "udp");
	if (opt->host)
		return err_set(err, EINVAL, "host is about the gateway of user: it needs user");
	if (opt->address != NULL)
		return err_set(err, EINVAL,
			       "address= is about the guest of a user network: it needs user");
	if (opt->fd != 0 && opt->queues > 1)
		return err_set(err, EINVAL,
			       "fd= is one queue pair: leave queues= out, or give tap=NAME");
	if (opt->vhost == NET_VHOST_ON && limited(opt))
		return err_set(
			err, EINVAL,
			"vhost=on cannot keep to a rate: leave out bw= and pps=, or vhost=on");
	if (opt->vhost == NET_VHOST_ON && opt->iothread)
		return err_set(
			err, EINVAL,
			"vhost=on serves the queues in the host's kernel: leave out iothread");
	return 0;
}

static int net_check(const void *item, struct err *err)
{
	const struct net_options *opt = item;
	unsigned backends = (opt->tap != NULL) + (opt->fd != 0) + opt->user;

	if (backends != 1)
		return err_set(err, EINVAL, "%s: give one of tap=NAME, fd=N, user",
			       backends == 0 ? "nothing to connect to" : "more than one host side");
	if (opt->tap != NULL &&
	    (*opt->tap == '\0' || strlen(opt->tap) > 15 || strpbrk(opt->tap, "/%: \t") != NULL ||
	     strcmp(opt->tap, ".") == 0 || strcmp(opt->tap, "..") == 0))
		return err_set(err, EINVAL,
			       "tap=%s: a name of an interface has 1 to 15 characters, none of "
			       "them a blank, /, : or %%",
			       opt->tap);
	if (opt->mac != NULL && net_check_mac(opt->mac, err) < 0)
		return -err->code;
	if ((opt->bw_burst != 0 && opt->bw == 0) || (opt->pps_burst != 0 && opt->pps == 0))
		return err_set(err, EINVAL, "%s-burst= is on top of %s=: give that, too",
			       opt->bw == 0 && opt->bw_burst != 0 ? "bw" : "pps",
			       opt->bw == 0 && opt->bw_burst != 0 ? "bw" : "pps");
	return opt->user ? check_user(opt, err) : check_tap(opt, err);
}

/* --- Making --- */

/* FNV-1a: a few bytes of input, and nobody to attack it. */
static uint64_t hash(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len-- > 0)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

void net_make_mac(uint8_t mac[6], const char *given, const char *name, unsigned index)
{
	uint64_t h = hash(0xcbf29ce484222325ULL, name, strlen(name) + 1);
	char id[32] = "";
	ssize_t n;
	int fd;

	if (given != NULL && parse_mac(given, mac))
		return;
	fd = open(MACHINE_ID, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, id, sizeof(id)) : 0;
	if (fd >= 0)
		close(fd);
	h = hash(h, id, n > 0 ? (size_t)n : 0);
	h = hash(h, &index, sizeof(index));
	h ^= h >> 48; /* let the highest bits count */
	memcpy(mac, &h, 6);
	mac[0] = (uint8_t)((mac[0] & ~1) | 2); /* one station's, not a maker's */
}

static uint64_t features(const struct net *net, const struct net_options *opt)
{
	uint64_t bits = NET_BIT(MAC) | NET_BIT(STATUS) | NET_BIT(MRG_RXBUF) | NET_BIT(CTRL_VQ) |
			NET_BIT(CTRL_RX) | NET_BIT(CTRL_RX_EXTRA) | NET_BIT(CTRL_VLAN) |
			NET_BIT(CTRL_MAC_ADDR) | NET_BIT(GUEST_ANNOUNCE);

	if (opt->mtu != 0)
		bits |= NET_BIT(MTU);
	if (net->pairs > 1)
		bits |= NET_BIT(MQ);
	if (opt->offload)
		bits |= net->be->features;
	if ((bits & NET_GUEST_OFFLOADS) != 0)
		bits |= NET_BIT(CTRL_GUEST_OFFLOADS);
	return bits;
}

static void init_limit(struct net_limit *l, const struct net_options *opt,
		       void (*fn)(struct loop_timer *timer))
{
	uint64_t now = limited(opt) ? loop_now_ns() : 0;

	ratelimit_init(&l->bytes, opt->bw, opt->bw_burst, now);
	ratelimit_init(&l->packets, opt->pps, opt->pps_burst, now);
	l->timer.fn = fn;
}

static int open_vhost(struct net *net, const struct net_options *opt, bool track, struct err *err)
{
	/* The host's kernel does not say which pages it writes to: see vhost.c. */
	if (track && opt->vhost == NET_VHOST_ON)
		return err_set(err, EINVAL,
			       "net %s: vhost=on and --mem track exclude each other: leave one out",
			       net->be->name);
	if (opt->user || opt->vhost == NET_VHOST_OFF || limited(opt) || opt->iothread || track)
		return 0;
	net->vhost = net_vhost_new(net->pairs, err);
	if (net->vhost != NULL)
		return 0;
	if (opt->vhost == NET_VHOST_ON)
		return err_context(err, "%s", net->vdev.name);
	log_debug("%s: without vhost: %s", net->vdev.name, err->msg);
	*err = (struct err)ERR_INIT;
	return 0;
}

static void net_free(struct net *net)
{
	if (net->io != NULL)
		iothread_stop(net->io);
	for (unsigned i = 0; net->pair != NULL && i < net->pairs; i++)
		loop_del_fd(&net->pair[i].lfd);
	loop_disarm(&net->rx_limit.timer);
	loop_disarm(&net->tx_limit.timer);
	if (net->be != NULL)
		net->be->ops->free(net->be);
	net_vhost_free(net->vhost);
	virtio_fini(&net->vdev);
	iothread_free(net->io);
	free(net->pair);
	free(net);
}

struct net *net_new(const struct net_options *opt, unsigned index, const struct virtio_host *host,
		    struct net_backend *be, struct err *err)
{
	struct net *net = calloc(1, sizeof(*net));
	struct loop *loop = host->loop;
	char thread[16];

	if (net == NULL) {
		err_sys(err, ENOMEM, "net");
		if (be != NULL)
			be->ops->free(be);
		return NULL;
	}
	net->link.changed = link_changed;
	net->be = be;
	if (be == NULL)
		net->be = opt->user ? net_user_new(opt, host->loop, &net->link, err)
				    : net_tap_new(opt, host->loop, &net->link, err);
	if (net->be == NULL)
		goto fail;
	net->pairs = net->be->pairs;
	snprintf(net->vdev.name, sizeof(net->vdev.name), "net %s", net->be->name);
	if (open_vhost(net, opt, host->mem->track, err) < 0)
		goto fail;
	net->pair = calloc(net->pairs, sizeof(*net->pair));
	if (net->pair == NULL) {
		err_sys(err, ENOMEM, "net %s", net->be->name);
		goto fail;
	}
	for (unsigned i = 0; i < net->pairs; i++) {
		net->pair[i].net = net;
		net->pair[i].lfd = (struct loop_fd){ .fd = net->be->fd[i], .fn = net_ready };
		net_io_reset(&net->pair[i]);
	}
	net_make_mac(net->mac, opt->mac, host->vm_name != NULL ? host->vm_name : net->be->name,
		     index);
	net->own_mac = opt->mac != NULL;
	net->new_mac = host->new_macs;
	net->fresh = true;
	net_mode_reset(net);
	memcpy(net->config.mac, net->mac, sizeof(net->mac));
	net->config.status = net->be->up ? VIRTIO_NET_S_LINK_UP : 0;
	net->config.max_virtqueue_pairs = (uint16_t)net->pairs;
	net->config.mtu = (uint16_t)opt->mtu;
	init_limit(&net->rx_limit, opt, net_rx_time);
	init_limit(&net->tx_limit, opt, net_tx_time);
	net->vdev.features = features(net, opt);
	net->vdev.untimed = VIRTIO_RX_QUEUES;
	if (opt->iothread) {
		snprintf(thread, sizeof(thread), "net%u", index);
		net->io = iothread_new(host->iothreads, thread, NULL, err);
		if (net->io == NULL)
			goto fail;
		loop = iothread_loop(net->io);
	}
	if (virtio_init(&net->vdev, &virtio_net_ops, host, loop, 2 * net->pairs + 1, NET_QUEUE_SIZE,
			&net->config, sizeof(net->config), err) == 0)
		return net;
fail:
	net_free(net);
	return NULL;
}

static struct virtio_device *net_create(const void *items, unsigned n, unsigned index,
					const struct virtio_host *host, struct err *err)
{
	struct net *net = net_new(items, index, host, NULL, err);

	(void)n;
	return net != NULL ? &net->vdev : NULL;
}

int virtio_net_limit(struct virtio_device *vdev, bool rx, const struct ratelimit_config *bytes,
		     const struct ratelimit_config *packets, struct err *err)
{
	struct net *net = net_of(vdev);
	struct net_limit *l = rx ? &net->rx_limit : &net->tx_limit;
	uint64_t now = loop_now_ns();

	if (vdev->ops != &virtio_net_ops)
		return err_set(err, ENOTSUP, "%s: another process serves it, which cannot be told",
			       vdev->name);
	if (net->vhost != NULL)
		return err_set(err, ENOTSUP,
			       "%s: the host's kernel moves its packets and keeps to no rate; with "
			       "a limit from the start it does not",
			       vdev->name);
	pthread_mutex_lock(&vdev->lock);
	if (bytes != NULL)
		ratelimit_set(&l->bytes, bytes, now);
	if (packets != NULL)
		ratelimit_set(&l->packets, packets, now);
	pthread_mutex_unlock(&vdev->lock);
	return 0;
}

static void net_destroy(struct virtio_device *vdev)
{
	struct net *net = net_of(vdev);
	const struct net_stats *s = &net->stats;

	log_debug("%s: received %llu, dropped %llu, filtered %llu; sent %llu, dropped %llu",
		  vdev->name, (unsigned long long)s->rx, (unsigned long long)s->rx_dropped,
		  (unsigned long long)s->rx_filtered, (unsigned long long)s->tx,
		  (unsigned long long)s->tx_dropped);
	net_free(net);
}

#define OPTION(field) offsetof(struct net_options, field)

/* Aligned by hand. */
/* clang-format off */
static const struct opt_key net_keys[] = {
	{ .name = "tap", .type = OPT_STR, .offset = OPTION(tap), .arg = "NAME",
	  .help = "a tap interface of the host; made when absent, for as long as the VM runs" },
	{ .name = "fd", .type = OPT_UINT, .offset = OPTION(fd), .arg = "N", .min = 3,
	  .max = INT32_MAX,
	  .help = "an open descriptor of a tap (or /dev/tapN of a macvtap)" },
	{ .name = "user", .type = OPT_BOOL, .offset = OPTION(user),
	  .help = "a network in user space, by passt: needs no rights" },
	{ .name = "mac", .type = OPT_STR, .offset = OPTION(mac), .arg = "MAC",
	  .help = "address of the guest; default: made of the VM's name and this host" },
	{ .name = "mtu", .type = OPT_UINT, .offset = OPTION(mtu), .arg = "BYTES", .min = 68,
	  .max = 65535, .help = "largest packet the guest shall send" },
	{ .name = "queues", .type = OPT_UINT, .offset = OPTION(queues), .arg = "N", .def = "1",
	  .min = 1, .max = NET_PAIRS_MAX, .help = "queue pairs of tap=NAME, one for each vCPU" },
	{ .name = "vhost", .type = OPT_ENUM, .offset = OPTION(vhost), .values = vhost_values,
	  .def = "auto", .help = "let the host's kernel move packets (/dev/vhost-net)" },
	{ .name = "offload", .type = OPT_BOOL, .offset = OPTION(offload), .def = "on",
	  .help = "leave checksums and segmentation to the host where it can" },
	{ .name = "bw", .type = OPT_SIZE, .offset = OPTION(bw), .arg = "SIZE", .min = 1,
	  .help = "at most so many bytes per second each way" },
	{ .name = "bw-burst", .type = OPT_SIZE, .offset = OPTION(bw_burst), .arg = "SIZE",
	  .min = 1, .help = "bytes that may pass at once; default: a second's" },
	{ .name = "pps", .type = OPT_UINT, .offset = OPTION(pps), .arg = "N", .min = 1,
	  .help = "at most so many packets per second each way" },
	{ .name = "pps-burst", .type = OPT_UINT, .offset = OPTION(pps_burst), .arg = "N",
	  .min = 1, .help = "packets that may pass at once; default: a second's" },
	{ .name = "iothread", .type = OPT_BOOL, .offset = OPTION(iothread),
	  .help = "serve it by a thread of its own" },
	{ .name = "id", .type = OPT_STR, .offset = OPTION(id), .arg = "NAME", .unique = true,
	  .help = "what the control API calls it; default: net0 and so on" },
	{ .name = "tcp", .type = OPT_STR, .offset = OPTION(tcp), .arg = "PORTS",
	  .help = "user: ports of the host that lead to the guest: 8080:80+2222:22, "
		  "127.0.0.1/8080:80, 5000-5009" },
	{ .name = "udp", .type = OPT_STR, .offset = OPTION(udp), .arg = "PORTS",
	  .help = "the same for UDP" },
	{ .name = "host", .type = OPT_BOOL, .offset = OPTION(host),
	  .help = "user: let the guest reach what listens on the host's 127.0.0.1, as the "
		  "address of its gateway" },
	{ .name = "address", .type = OPT_STR, .offset = OPTION(address), .arg = "ADDRESS/BITS",
	  .help = "user: the guest's IPv4 address, 10.0.2.15/24 for one, instead of the host's; "
		  "gateway and name server are passt, at the first free ones of that network" },
	{ 0 }
};
/* clang-format on */

const struct virtio_ops virtio_net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.pci_class = PCI_CLASS_ETHERNET,
	.option = { .name = "net",
		    .letter = 'n',
		    .keys = net_keys,
		    .size = sizeof(struct net_options),
		    .max = 16,
		    .help = "A network interface: one of tap=NAME, fd=N and user. A tap is made "
			    "when there is none, which needs CAP_NET_ADMIN, and is brought up; give "
			    "it an address (ip addr add 192.168.7.1/24 dev NAME) or put it into a "
			    "bridge (ip link set NAME master br0). One that lasts and "
			    "belongs to USER: ip tuntap add dev NAME mode tap user USER "
			    "[multi_queue]. The guest's link follows the interface (ip link set "
			    "NAME up|down). user starts passt(1): addresses, routes and DNS of the "
			    "guest are those of the host, by DHCP." },
	.check = net_check,
	.create = net_create,
	.destroy = net_destroy,
	.kick = net_kick,
	.update = net_update,
	.reset = net_reset,
	.quiesce = net_quiesce,
	.resume = net_resume,
	.state = net_state,
};

VIRTIO_DEVICE(virtio_net_ops);
