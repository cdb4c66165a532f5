// SPDX-License-Identifier: Apache-2.0
/*
 * The network of a guest of `vmm run`: -n user works at once, without a DHCP client.
 *
 * Theory of operation. The guest's address is ours to choose: passt takes it by its options, and
 * the agent sets it. Network number i is 10.0.(2+i).0/24 unless the user names another (address=).
 * passt answers for every address of it, so that any may be the gateway. The agent knows the
 * interface by its MAC address, for which the configuration gets what the device would make. What
 * the guest has for /etc/resolv.conf is hidden, not changed.
 *
 * By IPv6 the guest's kernel configures itself: passt advertises its router.
 *
 * Limits: networks on taps are left to the command: nobody knows their addresses.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/net.h"
#include "vmm/devices.h"
#include "vmm/run/run.h"

#define RESOLV	  "/etc/resolv.conf"
#define LINES_MAX 8
/* What passt tells by DHCP: the longest packet, rounded down to whole words. */
#define USER_MTU "65520"

static int settle_one(struct net_options *net, const char *name, unsigned i, struct err *err)
{
	uint8_t mac[6];

	if (net->address == NULL && asprintf(&net->address, "10.0.%u.15/24", 2 + i) < 0)
		net->address = NULL;
	net_make_mac(mac, net->mac, name, i);
	if (net->mac == NULL && asprintf(&net->mac, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
					 mac[2], mac[3], mac[4], mac[5]) < 0)
		net->mac = NULL;
	return net->address == NULL || net->mac == NULL ? err_sys(err, ENOMEM, "--net") : 0;
}

int run_net_settle(struct run_config *cfg, struct err *err)
{
	const struct opt_list *uses = vm_devices_uses(&cfg->vm, VIRTIO_ID_NET);
	const char *name = cfg->vm.name != NULL ? cfg->vm.name : "user";
	struct net_options *net = uses->items;

	for (unsigned i = 0; i < uses->n; i++)
		if (net[i].user && settle_one(&net[i], name, i, err) < 0)
			return -err->code;
	return 0;
}

/* This host's resolv.conf as to all but servers: lines of how to ask them. */
static void copy_manners(FILE *to)
{
	FILE *from = fopen(RESOLV, "re");
	char line[256];

	for (unsigned n = 0; from != NULL && n < LINES_MAX && fgets(line, sizeof(line), from);)
		if (strchr(line, '\n') != NULL &&
		    (strncmp(line, "search ", 7) == 0 || strncmp(line, "domain ", 7) == 0 ||
		     strncmp(line, "options ", 8) == 0)) {
			fputs(line, to);
			n++;
		}
	if (from != NULL)
		fclose(from);
}

static int resolv_step(const struct net_address *addr, struct run_steps *steps, struct err *err)
{
	char dns[NET_DNS_MAX][NET_DNS_SIZE];
	unsigned n = net_user_dns(dns);
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	int r;

	if (file == NULL)
		return err_sys(err, ENOMEM, RESOLV);
	for (unsigned i = 0; i < n; i++)
		fprintf(file, "nameserver %s\n", dns[i]);
	if (n == 0)
		fprintf(file, "nameserver %s\n", addr->dns);
	copy_manners(file);
	r = fclose(file) != 0
		    ? err_sys(err, ENOMEM, RESOLV)
		    : run_steps_add(steps,
				    (const char *const[]){ "try", "cover", RESOLV, text, NULL },
				    err);
	free(text);
	return r;
}

int run_net_steps(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	/* passt learns the guest's MAC address from what it sends: that it sends something. */
	static const char *const notify[] = { "try", "write",
					      "/proc/sys/net/ipv4/conf/all/arp_notify", "1", NULL };
	const struct opt_list *uses = vm_devices_uses(&cfg->vm, VIRTIO_ID_NET);
	const struct net_options *net = uses->items;
	bool first = true;

	for (unsigned i = 0; i < uses->n; i++) {
		struct net_address addr;

		if (!net[i].user)
			continue;
		if (net_parse_address(net[i].address, &addr, err) < 0)
			return err_context(err, "--net");
		/* One of them leads to everywhere else. */
		if ((first && (run_steps_add(steps, notify, err) < 0 ||
			       resolv_step(&addr, steps, err) < 0)) ||
		    run_steps_add(steps,
				  (const char *const[]){ "up", net[i].mac, addr.guest, addr.mask,
							 first ? addr.gateway : "-",
							 net[i].mtu > 0 ? "0" : USER_MTU, NULL },
				  err) < 0)
			return -err->code;
		first = false;
	}
	return 0;
}
