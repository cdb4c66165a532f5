// SPDX-License-Identifier: Apache-2.0
/*
 * Network backend: passt(1), a network in user space that needs no rights. It speaks to us by a
 * stream socket: each frame after its length, 32 bits, big-endian; there is no virtio
 * header, so there are no offloads.
 *
 * Theory of operation. passt is a child of ours, started when the device is made, one end of a
 * socket pair its descriptor 3. Nobody waits for it: what the guest sends waits in the socket.
 * Both directions are buffered, a read or write per batch of frames. The buffers are
 * bounded: when passt does not read, the guest's queue stops; when the guest gives no buffers,
 * nothing is read.
 *
 * Its end. passt ends by itself when its socket is closed, so it ends with us however we end. (A
 * parent-death signal would not do: the kernel drops it when a program changes its user or
 * namespace, and passt does both.) When it ends before us it is reaped, the last thing it said on
 * stderr is told, and the link goes down.
 *
 * What it is not given: child.c says it. The guest does not see the host's loopback (--no-map-gw)
 * unless asked for: services that listen on 127.0.0.1 trust whoever comes. That also hides a
 * resolver there; where it is systemd's, the guest is given those behind it. With an address of
 * its own (address=) the guest may ask passt, which passes questions by UDP on to the host's first
 * one.
 *
 * Limits: one queue pair; IGMP and SCTP are not known to passt.
 *
 * #syscalls main io: recvfrom sendto
 * #syscalls: close
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/child.h"
#include "devices/net.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BUFFER	      (128 << 10) /* more than a frame */
#define USER_FRAME    65535	  /* the longest passt takes */
#define FORWARDS_MAX  64
#define RESOLV	      "/etc/resolv.conf"
#define RESOLV_BEHIND "/run/systemd/resolve/resolv.conf"

struct net_user {
	struct net_backend be;
	struct net_link *link;
	struct child child;
	size_t in_first, in_end; /* of in[]: received, not yet taken */
	size_t out_first, out_end;
	uint8_t in[BUFFER], out[BUFFER];
};

static struct net_user *user_of(struct net_backend *be)
{
	return container_of(be, struct net_user, be);
}

/* --- Frames --- */

/* Length of the frame at the front of in[]; 0: its end is still to come, -EPROTO: it cannot be. */
static ssize_t front(const struct net_user *u)
{
	uint32_t len;

	if (u->in_end - u->in_first < sizeof(len))
		return 0;
	memcpy(&len, u->in + u->in_first, sizeof(len));
	len = ntohl(len);
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return -EPROTO;
	return u->in_end - u->in_first - sizeof(len) < len ? 0 : (ssize_t)len;
}

/* 0, or -errno. */
static int fill(struct net_user *u)
{
	ssize_t n;

	if (u->in_first > 0) {
		memmove(u->in, u->in + u->in_first, u->in_end - u->in_first);
		u->in_end -= u->in_first;
		u->in_first = 0;
	}
	n = recv(u->be.fd[0], u->in + u->in_end, sizeof(u->in) - u->in_end, MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : errno == ECONNRESET ? -EPIPE : -errno;
	if (n == 0)
		return -EPIPE;
	u->in_end += (size_t)n;
	return 0;
}

/* Copy to the segments, as far as they go, from @off of their bytes on. */
static void scatter(const struct iovec *iov, unsigned n, size_t off, const uint8_t *data,
		    size_t len)
{
	for (; n > 0 && len > 0; iov++, n--) {
		size_t part = iov->iov_len;

		if (off >= part) {
			off -= part;
			continue;
		}
		part = part - off < len ? part - off : len;
		memcpy((uint8_t *)iov->iov_base + off, data, part);
		data += part;
		len -= part;
		off = 0;
	}
}

static ssize_t user_receive(struct net_backend *be, unsigned pair, const struct iovec *iov,
			    unsigned n)
{
	static const uint8_t header[NET_HDR];
	struct net_user *u = user_of(be);
	ssize_t len = front(u), next;

	(void)pair;
	if (len == 0) {
		int r = fill(u);

		if (r < 0)
			return r;
		len = front(u);
	}
	if (len <= 0)
		return len < 0 ? len : -EAGAIN;
	scatter(iov, n, 0, header, sizeof(header));
	scatter(iov, n, sizeof(header), u->in + u->in_first + sizeof(uint32_t), (size_t)len);
	u->in_first += sizeof(uint32_t) + (size_t)len;
	next = front(u);
	be->buffered = next != 0;
	return (ssize_t)sizeof(header) + len;
}

static int user_flush(struct net_backend *be, unsigned pair)
{
	struct net_user *u = user_of(be);

	(void)pair;
	while (u->out_first < u->out_end) {
		ssize_t n = send(be->fd[0], u->out + u->out_first, u->out_end - u->out_first,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return -EAGAIN;
		if (n < 0) /* it is gone; receive() finds out */
			break;
		u->out_first += (size_t)n;
	}
	u->out_first = u->out_end = 0;
	return 0;
}

static int user_send(struct net_backend *be, unsigned pair, const struct iovec *iov, unsigned n,
		     size_t len)
{
	struct net_user *u = user_of(be);
	size_t skip = NET_HDR;
	uint32_t prefix;

	len -= NET_HDR;
	if (len > USER_FRAME)
		return -EMSGSIZE;
	if (sizeof(u->out) - u->out_end < sizeof(prefix) + len && user_flush(be, pair) < 0)
		return -EAGAIN;
	prefix = htonl((uint32_t)len);
	memcpy(u->out + u->out_end, &prefix, sizeof(prefix));
	u->out_end += sizeof(prefix);
	for (; n > 0; iov++, n--) {
		size_t part = iov->iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		memcpy(u->out + u->out_end, (uint8_t *)iov->iov_base + skip, part - skip);
		u->out_end += part - skip;
		skip = 0;
	}
	return 0;
}

static void user_set_offloads(struct net_backend *be, uint64_t features)
{
	(void)be;
	(void)features;
}

/* --- The child --- */

/* It ended before us. */
static void child_ended(struct loop_fd *lfd, uint32_t events)
{
	struct net_user *u = container_of(lfd, struct net_user, child.pidfd);
	char words[200], how[48];

	(void)events;
	if (!child_reap(&u->child, how, sizeof(how)))
		return;
	/* passt tells of its trouble to tell the system log, too. */
	child_words(&u->child, "syslog", words, sizeof(words));
	log_error("net user: passt ended %s%s%s; the guest's link is down", how,
		  *words != '\0' ? ": " : "", words);
	u->link->changed(u->link, false);
}

static void user_free(struct net_backend *be)
{
	struct net_user *u = user_of(be);

	if (be->fd[0] >= 0)
		close(be->fd[0]);
	/* It would end by itself, but it shall not hold up anyone who waits for us. */
	child_stop(&u->child);
	free(u);
}

static const struct net_backend_ops user_ops = {
	.receive = user_receive,
	.send = user_send,
	.flush = user_flush,
	.set_offloads = user_set_offloads,
	.free = user_free,
};

/* --- Its command line --- */

struct args {
	const char *argv[2 * FORWARDS_MAX + 2 * NET_DNS_MAX + 24];
	unsigned n;
	char *forwards[2]; /* copies cut to pieces */
	char fd[12], mtu[24];
	char dns[NET_DNS_MAX][NET_DNS_SIZE];
	struct net_address address;
};

static void add(struct args *a, const char *option, const char *value)
{
	if (a->n + 3 > sizeof(a->argv) / sizeof(a->argv[0]))
		return;
	a->argv[a->n++] = option;
	if (value != NULL)
		a->argv[a->n++] = value;
}

/* "N" or "N-M" at *@text, ports. */
static bool port_range(const char **text)
{
	unsigned long port[2] = { 0, 0 };
	const char *p = *text;

	for (int i = 0; i < 2; i++) {
		int digits = 0;

		for (; isdigit((unsigned char)*p) && digits < 6; digits++)
			port[i] = 10 * port[i] + (unsigned long)(*p++ - '0');
		if (digits == 0 || port[i] < 1 || port[i] > 65535)
			return false;
		if (i == 1 || *p != '-')
			break;
		p++;
	}
	*text = p;
	return port[1] == 0 || port[0] <= port[1];
}

/* ADDRESS[%INTERFACE], @len characters. */
static bool address_ok(const char *text, size_t len)
{
	char copy[INET6_ADDRSTRLEN + 1 + IFNAMSIZ], *interface = copy;
	uint8_t addr[16];

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	strsep(&interface, "%");
	if (interface != NULL && (*interface == '\0' || strlen(interface) >= IFNAMSIZ))
		return false;
	return inet_pton(AF_INET, copy, addr) == 1 || inet_pton(AF_INET6, copy, addr) == 1;
}

/* [ADDRESS[%INTERFACE]/]PORTS[:PORTS] */
static bool forward_ok(const char *text)
{
	const char *slash = strrchr(text, '/');

	if (slash != NULL) {
		if (!address_ok(text, (size_t)(slash - text)))
			return false;
		text = slash + 1;
	}
	if (!port_range(&text))
		return false;
	if (*text == ':') {
		text++;
		if (!port_range(&text))
			return false;
	}
	return *text == '\0';
}

int net_user_check(const char *key, const char *forwards, struct err *err)
{
	char *copy = strdup(forwards), *rest = copy, *part;
	unsigned n = 0;
	int r = 0;

	if (copy == NULL)
		return err_sys(err, ENOMEM, "%s=", key);
	while (r == 0 && (part = strsep(&rest, "+")) != NULL) {
		if (!forward_ok(part))
			r = err_set(
				err, EINVAL,
				"%s=: '%.64s' is no forward: [ADDRESS/]PORT[:GUEST-PORT], ports "
				"from 1 to 65535 or ranges such as 5000-5009; several are "
				"joined by '+'",
				key, part);
		else if (++n > FORWARDS_MAX)
			r = err_set(err, E2BIG, "%s=: more than %d forwards", key, FORWARDS_MAX);
	}
	free(copy);
	return r;
}

/* One option for each forward: an address is good for one only. */
static int add_forwards(struct args *a, unsigned i, const char *option, const char *forwards)
{
	char *rest, *part;

	if (forwards == NULL)
		return 0;
	rest = a->forwards[i] = strdup(forwards);
	if (rest == NULL)
		return -ENOMEM;
	while ((part = strsep(&rest, "+")) != NULL)
		add(a, option, part);
	return 0;
}

/* Collect the name servers in file @path that are not on this host. Returns how many. */
static unsigned name_servers(const char *path, char dns[NET_DNS_MAX][NET_DNS_SIZE])
{
	char line[256], *save = NULL;
	unsigned n = 0;
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return 0;
	/* By hand, as sscanf() would make the program 75 KiB larger. */
	while (n < NET_DNS_MAX && fgets(line, sizeof(line), file) != NULL) {
		const char *word = strtok_r(line, " \t\n", &save);
		const char *addr = strtok_r(NULL, " \t\n", &save);

		if (word == NULL || addr == NULL || strcmp(word, "nameserver") != 0 ||
		    strlen(addr) >= sizeof(dns[n]) || strncmp(addr, "127.", 4) == 0 ||
		    strcmp(addr, "::1") == 0)
			continue;
		strcpy(dns[n++], addr);
	}
	fclose(file);
	return n;
}

/* Without --map-gw a resolver on this host cannot be had: find those behind it. */
static void add_dns(struct args *a)
{
	unsigned n;

	if (name_servers(RESOLV, a->dns) > 0)
		return;
	n = name_servers(RESOLV_BEHIND, a->dns);
	for (unsigned i = 0; i < n; i++)
		add(a, "--dns", a->dns[i]);
	if (n == 0 && *a->address.dns == '\0')
		log_info("net user: no name server in " RESOLV " but on this host itself; the "
			 "guest has none, unless with user,host");
}

unsigned net_user_dns(char dns[NET_DNS_MAX][NET_DNS_SIZE])
{
	unsigned n = name_servers(RESOLV, dns);

	return n > 0 ? n : name_servers(RESOLV_BEHIND, dns);
}

/* The gateway is the first address of the network that the guest has not, passt's DNS the next. */
int net_parse_address(const char *text, struct net_address *addr, struct err *err)
{
	const char *slash = strchr(text, '/');
	unsigned long bits = 0;
	struct in_addr in;
	uint32_t guest, mask, first;
	char *end = NULL;

	*addr = (struct net_address){ 0 };
	if (slash != NULL && (size_t)(slash - text) < sizeof(addr->guest) &&
	    isdigit((unsigned char)slash[1])) {
		memcpy(addr->guest, text, (size_t)(slash - text));
		bits = strtoul(slash + 1, &end, 10);
	}
	if (end == NULL || *end != '\0' || bits < 8 || bits > 29 ||
	    inet_pton(AF_INET, addr->guest, &in) != 1)
		return err_set(err, EINVAL,
			       "address=%s is not an IPv4 address and the bits of its network, "
			       "8 to 29, such as 10.0.2.15/24",
			       text);
	guest = ntohl(in.s_addr);
	mask = ~0u << (32 - bits);
	if ((guest & ~mask) == 0 || (guest & ~mask) == ~mask)
		return err_set(err, EINVAL, "address=%s is the network's own, no host's", text);
	first = (guest & mask) + 1;
	in.s_addr = htonl(mask);
	inet_ntop(AF_INET, &in, addr->mask, sizeof(addr->mask));
	in.s_addr = htonl(first + (first == guest));
	inet_ntop(AF_INET, &in, addr->gateway, sizeof(addr->gateway));
	in.s_addr = htonl(first + 1 + (first + 1 >= guest));
	inet_ntop(AF_INET, &in, addr->dns, sizeof(addr->dns));
	return 0;
}

static int make_args(struct args *a, const char *program, const struct net_options *opt,
		     struct err *err)
{
	if (opt->address != NULL && net_parse_address(opt->address, &a->address, err) < 0)
		return -err->code;
	add(a, program, NULL);
	add(a, "--foreground", NULL);
	add(a, "--quiet", NULL);
	snprintf(a->fd, sizeof(a->fd), "%d", CHILD_FD);
	add(a, "--fd", a->fd);
	if (opt->mtu != 0) {
		snprintf(a->mtu, sizeof(a->mtu), "%llu", (unsigned long long)opt->mtu);
		add(a, "--mtu", a->mtu);
	}
	if (opt->address != NULL) {
		add(a, "--address", a->address.guest);
		add(a, "--netmask", a->address.mask);
		add(a, "--gateway", a->address.gateway);
		add(a, "--dns-forward", a->address.dns);
	}
	if (!opt->host) {
		add(a, "--no-map-gw", NULL);
		add_dns(a);
	}
	if (add_forwards(a, 0, "--tcp-ports", opt->tcp) < 0 ||
	    add_forwards(a, 1, "--udp-ports", opt->udp) < 0)
		return err_sys(err, ENOMEM, "arguments");
	return 0;
}

static void free_args(struct args *a)
{
	free(a->forwards[0]);
	free(a->forwards[1]);
}

/* --- Start --- */

static int start(struct net_user *u, const struct args *a, struct err *err)
{
	int sock[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
		return err_sys(err, errno, "socketpair");
	u->be.fd[0] = sock[0];
	r = child_start(&u->child, a->argv, &sock[1], 1, 0, err);
	close(sock[1]);
	if (r == -ENOENT)
		return err_set(err, ENOENT,
			       "%s is not installed: install the package passt, or use tap=NAME",
			       a->argv[0]);
	return r;
}

struct net_backend *net_user_spawn(const char *program, const struct net_options *opt,
				   struct loop *loop, struct net_link *link, struct err *err)
{
	struct net_user *u = calloc(1, sizeof(*u));
	struct args args = { 0 };
	int r;

	if (u == NULL) {
		err_sys(err, ENOMEM, "net user");
		return NULL;
	}
	u->be = (struct net_backend){
		.ops = &user_ops, .name = "user", .pairs = 1, .fd = { -1 }, .up = true
	};
	u->link = link;
	u->child = (struct child)CHILD_INIT(child_ended);
	r = make_args(&args, program, opt, err);
	if (r == 0)
		r = start(u, &args, err);
	free_args(&args);
	if (r == 0)
		r = loop_add_fd(loop, &u->child.pidfd, EPOLLIN, err);
	if (r == 0)
		return &u->be;
	err_context(err, "net user");
	user_free(&u->be);
	return NULL;
}

struct net_backend *net_user_new(const struct net_options *opt, struct loop *loop,
				 struct net_link *link, struct err *err)
{
	return net_user_spawn("passt", opt, loop, link, err);
}
