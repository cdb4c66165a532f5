// SPDX-License-Identifier: Apache-2.0
/*
 * The tap backend, on real interfaces in a network namespace of its own: making and finding
 * them, what goes wrong, frames both ways, the link, several queues, offloads.
 *
 * Needs the right to make a network namespace and /dev/net/tun; without, it says so and ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "device_util.h"
#include "virtio_driver.h"
#include "devices/virtio_net_impl.h"

#define NAME  "vmmtest0"
#define TRIES 200
#define PROTO 0x88b5 /* for local experiments */

static struct driver d;
static struct net *net;
static struct err err;
static char name[] = NAME;

static void setup(void)
{
	err = (struct err)ERR_INIT;
	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	driver_init(&d);
	net = NULL;
}

static void teardown(void)
{
	if (d.vdev != NULL)
		driver_detach(&d);
	if (net != NULL)
		virtio_net_ops.destroy(&net->vdev);
	driver_fini(&d);
}

static struct net_options options(void)
{
	return (struct net_options){
		.tap = name, .queues = 1, .offload = true, .vhost = NET_VHOST_OFF
	};
}

static void make(const struct net_options *opt)
{
	net = net_new(opt, 0, &d.host, NULL, &err);
	ck_assert_msg(net != NULL, "%s", err.msg);
	driver_attach(&d, &net->vdev);
}

/* Making it fails, and the sentence has @words in it. */
static void refuses(const struct net_options *opt, const char *words)
{
	err = (struct err)ERR_INIT;
	ck_assert_ptr_null(net_new(opt, 0, &d.host, NULL, &err));
	ck_assert_msg(strstr(err.msg, words) != NULL, "%s", err.msg);
}

static int tun(const char *ifname, short flags)
{
	struct ifreq ifr = { .ifr_flags = flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	strcpy(ifr.ifr_name, ifname);
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &ifr), 0);
	return fd;
}

/* A tap that stays when nobody has it open. */
static void persistent(short flags)
{
	int fd = tun(NAME, flags);

	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
}

static void set_up(bool up)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq ifr = { .ifr_name = NAME };

	ck_assert_int_eq(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

static bool is_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq ifr = { .ifr_name = NAME };
	int r = ioctl(fd, SIOCGIFFLAGS, &ifr);

	close(fd);
	return r == 0 && (ifr.ifr_flags & IFF_UP) != 0;
}

/* The host's end, for frames of PROTO. */
static int host_end(void)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET,
				    .sll_protocol = htons(PROTO),
				    .sll_ifindex = (int)if_nametoindex(NAME) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(PROTO));

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static size_t frame(uint8_t *buf, size_t len)
{
	memset(buf, 0xff, 6);
	for (size_t i = 6; i < len; i++)
		buf[i] = (uint8_t)(i * 5);
	buf[12] = PROTO >> 8;
	buf[13] = PROTO & 0xff;
	return len;
}

static uint16_t link_status(void)
{
	struct virtio_net_config c;

	driver_config_read(&d, 0, &c, sizeof(c));
	return c.status;
}

/* Both ways through pair 0, once. */
static void exchange(void)
{
	uint8_t packet[NET_HDR + 100] = { 0 }, got[200];
	uint64_t rx = driver_alloc(&d, 2000), tx;
	int fd = host_end();
	uint32_t len;
	bool found = false;

	frame(packet + NET_HDR, 100);
	tx = driver_data(&d, packet, sizeof(packet));
	driver_add(&d, 1, (struct driver_buf[]){ { tx, sizeof(packet), false } }, 1);
	driver_notify(&d, 1);
	driver_wait(&d, 1, NULL, NULL);
	ck_assert_int_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, DRIVER_WAIT_MS),
			 1);
	ck_assert_int_eq(read(fd, got, sizeof(got)), 100);
	ck_assert_mem_eq(got, packet + NET_HDR, 100);

	/* Other frames, of the host's IPv6, may come first. */
	ck_assert_int_eq(write(fd, packet + NET_HDR, 100), 100);
	for (int i = 0; i < TRIES && !found; i++) {
		driver_add(&d, 0, (struct driver_buf[]){ { rx, 2000, true } }, 1);
		driver_notify(&d, 0);
		driver_wait(&d, 0, NULL, &len);
		found = len == sizeof(packet) &&
			memcmp(driver_ptr(&d, rx + NET_HDR, 100), packet + NET_HDR, 100) == 0;
	}
	ck_assert(found);
	close(fd);
}

/* --- Making and finding --- */

START_TEST(made_and_gone)
{
	struct net_options opt = options();

	opt.mtu = 1400;
	make(&opt);
	ck_assert(is_up());
	ck_assert_uint_eq(link_status(), VIRTIO_NET_S_LINK_UP);
	driver_start(&d, 0);
	exchange();
	driver_detach(&d);
	virtio_net_ops.destroy(&net->vdev);
	net = NULL;
	ck_assert_uint_eq(if_nametoindex(NAME), 0);
}
END_TEST

/* One that is there stays as it is, up or down. */
START_TEST(found)
{
	struct net_options opt = options();

	persistent(IFF_TAP);
	make(&opt);
	ck_assert(!is_up());
	ck_assert_uint_eq(link_status(), 0);
	driver_start(&d, NET_BIT(STATUS));
	set_up(true);
	for (int i = 0; i < TRIES && link_status() == 0; i++)
		loop_run_once(d.loop, 10);
	ck_assert_uint_eq(link_status(), VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_ge(d.config_interrupts, 1);
	exchange();
	set_up(false);
	for (int i = 0; i < TRIES && link_status() != 0; i++)
		loop_run_once(d.loop, 10);
	ck_assert_uint_eq(link_status(), 0);
	set_up(true);
	for (int i = 0; i < TRIES && link_status() == 0; i++)
		loop_run_once(d.loop, 10);
	exchange();
	driver_detach(&d);
	virtio_net_ops.destroy(&net->vdev);
	net = NULL;
	ck_assert_uint_ne(if_nametoindex(NAME), 0);
}
END_TEST

/* Made for several queues: one can be used. */
START_TEST(found_multi_queue)
{
	struct net_options opt = options();

	persistent(IFF_TAP | IFF_MULTI_QUEUE);
	set_up(true);
	make(&opt);
	driver_start(&d, 0);
	exchange();
}
END_TEST

START_TEST(removed)
{
	struct net_options opt = options();
	int fd;

	persistent(IFF_TAP);
	set_up(true);
	make(&opt);
	driver_start(&d, NET_BIT(STATUS));
	driver_add(&d, 0, (struct driver_buf[]){ { driver_alloc(&d, 2000), 2000, true } }, 1);
	driver_notify(&d, 0);
	driver_run(&d);
	/* What ip link del does: the interface goes, our descriptor stays. */
	fd = socket(AF_NETLINK, SOCK_RAW, 0);
	{
		struct {
			struct {
				uint32_t len;
				uint16_t type, flags;
				uint32_t seq, pid;
			} head;
			struct {
				uint8_t family, pad;
				uint16_t type;
				int32_t index;
				uint32_t flags, change;
			} link;
		} msg = { .head = { .len = sizeof(msg), .type = 17, .flags = 1 },
			  .link.index = (int32_t)if_nametoindex(NAME) };

		ck_assert_int_eq(send(fd, &msg, sizeof(msg), 0), sizeof(msg));
	}
	close(fd);
	for (int i = 0; i < TRIES && (link_status() != 0 || net->pair[0].lfd.events != 0); i++)
		loop_run_once(d.loop, 10);
	ck_assert_uint_eq(link_status(), 0);
	ck_assert_uint_eq(net->pair[0].lfd.events, 0);
}
END_TEST

/* Do without CAP_NET_ADMIN, or take it again. */
static void net_admin(bool on)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];

	ck_assert_int_eq(syscall(SYS_capget, &head, caps), 0);
	caps[0].effective &= ~(1u << CAP_NET_ADMIN);
	caps[0].effective |= (unsigned)on << CAP_NET_ADMIN;
	ck_assert_int_eq(syscall(SYS_capset, &head, caps), 0);
}

START_TEST(refusals)
{
	struct net_options opt = options();
	int fd;

	opt.tap = (char[]){ "lo" };
	refuses(&opt, "no tap");
	fd = tun("vmmtun0", IFF_TUN | IFF_NO_PI);
	opt.tap = (char[]){ "vmmtun0" };
	refuses(&opt, "no tap");
	close(fd);
	opt.tap = name;
	fd = tun(NAME, IFF_TAP | IFF_NO_PI);
	refuses(&opt, "in use");
	opt.queues = 2;
	refuses(&opt, "multi_queue");
	close(fd);
	/* Without rights: one that is not there, and one that is another's. */
	opt.queues = 1;
	net_admin(false);
	refuses(&opt, "no such interface");
	net_admin(true);
	fd = tun(NAME, IFF_TAP);
	ck_assert_int_eq(ioctl(fd, TUNSETOWNER, 12345), 0);
	ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	net_admin(false);
	refuses(&opt, "belongs to somebody else");
	net_admin(true);
}
END_TEST

START_TEST(by_descriptor)
{
	struct net_options opt = { .queues = 1, .offload = true, .vhost = NET_VHOST_OFF };
	int fd, file[2];

	opt.fd = 900;
	refuses(&opt, "no such descriptor");
	ck_assert_int_eq(pipe(file), 0);
	opt.fd = (uint64_t)file[0];
	refuses(&opt, "is no tap");
	fd = tun(NAME, IFF_TAP | IFF_NO_PI);
	opt.fd = (uint64_t)fd;
	refuses(&opt, "IFF_VNET_HDR");
	close(fd);
	opt.fd = (uint64_t)tun(NAME, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	set_up(true);
	make(&opt);
	ck_assert_str_eq(net->vdev.name, "net " NAME);
	driver_start(&d, 0);
	exchange();
}
END_TEST

/* --- Queues and offloads --- */

START_TEST(queues)
{
	struct net_options opt = options();
	uint8_t command[2] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET };
	uint64_t hdr, pairs, ack;

	opt.queues = 3;
	make(&opt);
	driver_start(&d, NET_BIT(MQ) | NET_BIT(CTRL_VQ));
	hdr = driver_data(&d, command, 2);
	pairs = driver_alloc(&d, 2);
	ack = driver_alloc(&d, 1);
	exchange();
	for (uint16_t n = 3; n > 0; n--) {
		uint8_t packet[NET_HDR + 100] = { 0 }, got[200];
		uint64_t tx;
		int fd = host_end();

		gmem_write(&d.mem, pairs, &n, 2);
		driver_add(&d, 6,
			   (struct driver_buf[]){
				   { hdr, 2, false }, { pairs, 2, false }, { ack, 1, true } },
			   3);
		driver_notify(&d, 6);
		driver_wait(&d, 6, NULL, NULL);
		ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, ack, 1), VIRTIO_NET_OK);
		frame(packet + NET_HDR, 100);
		tx = driver_data(&d, packet, sizeof(packet));
		for (unsigned i = 0; i < n; i++) {
			driver_add(&d, 2 * i + 1,
				   (struct driver_buf[]){ { tx, sizeof(packet), false } }, 1);
			driver_notify(&d, 2 * i + 1);
			driver_wait(&d, 2 * i + 1, NULL, NULL);
			ck_assert_int_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1,
					      DRIVER_WAIT_MS),
					 1);
			ck_assert_int_eq(read(fd, got, sizeof(got)), 100);
		}
		close(fd);
	}
	ck_assert_uint_eq(net->stats.tx_dropped, 0);
	exchange();
	driver_start(&d, 0);
	exchange();
}
END_TEST

/* With CSUM and TSO the kernel takes a segment of 20000 bytes, and gives back as many. */
START_TEST(segmentation)
{
	struct net_options opt = options();
	static uint8_t packet[NET_HDR + 14 + 40 + 20000];
	struct virtio_net_hdr_v1 *hdr = (struct virtio_net_hdr_v1 *)packet;
	uint8_t *ip = packet + NET_HDR + 14;
	uint64_t tx;

	make(&opt);
	ck_assert_uint_ne(net->vdev.features & NET_BIT(HOST_TSO4), 0);
	ck_assert_uint_ne(net->vdev.features & NET_BIT(GUEST_TSO4), 0);
	driver_start(&d, net->vdev.features);
	hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	hdr->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr->hdr_len = 54;
	hdr->gso_size = 1460;
	hdr->csum_start = 34;
	hdr->csum_offset = 16;
	memset(packet + NET_HDR, 0xff, 6);
	packet[NET_HDR + 12] = 8;
	ip[0] = 0x45;
	ip[2] = (40 + 20000) >> 8;
	ip[3] = (40 + 20000) & 0xff;
	ip[8] = 64;
	ip[9] = 6;
	ip[20 + 12] = 0x50;
	tx = driver_data(&d, packet, sizeof(packet));
	driver_add(&d, 1, (struct driver_buf[]){ { tx, sizeof(packet), false } }, 1);
	driver_notify(&d, 1);
	driver_wait(&d, 1, NULL, NULL);
	ck_assert_uint_eq(net->stats.tx, 1);
	/* A checksum beyond the packet: the kernel refuses, we drop, nothing breaks. */
	hdr->csum_start = 65000;
	gmem_write(&d.mem, tx, packet, NET_HDR);
	driver_add(&d, 1, (struct driver_buf[]){ { tx, sizeof(packet), false } }, 1);
	driver_notify(&d, 1);
	driver_wait(&d, 1, NULL, NULL);
	ck_assert_uint_eq(net->stats.tx, 1);
	ck_assert_uint_eq(net->stats.tx_dropped, 1);
	exchange();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("net_tap");
	TCase *tc = tcase_create("all");

	if (access("/dev/net/tun", R_OK | W_OK) < 0 || unshare(CLONE_NEWNET) < 0) {
		printf("net_tap: cannot be tested: /dev/net/tun and a network namespace: %s\n",
		       strerror(errno));
		return 0;
	}
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, made_and_gone);
	tcase_add_test(tc, found);
	tcase_add_test(tc, found_multi_queue);
	tcase_add_test(tc, removed);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, by_descriptor);
	tcase_add_test(tc, queues);
	tcase_add_test(tc, segmentation);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
