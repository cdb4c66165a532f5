// SPDX-License-Identifier: Apache-2.0
/*
 * tap: what measuring a network device needs on the host's side.
 *
 *	tap make NAME		make tap interface NAME, which stays, and bring it up
 *	tap delete NAME		take it away
 *	tap send NAME SIZE	send frames of SIZE bytes to it, as fast as it goes, until killed
 *	tap khz			print the frequency of the time stamp counter
 *
 * Frames go past the queueing discipline, in batches; when the interface's queue is full they
 * are dropped, and one yields to whoever empties it.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define BATCH	  64
#define FRAME_MAX 65536
#define ETHERTYPE 0x88b5 /* for local experiments */

static int control(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		err(1, "socket");
	return fd;
}

static void keep(const char *name, int on)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "/dev/net/tun");
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, on) < 0)
		err(1, "%s", name);
	if (!on)
		return;
	ifr.ifr_flags = IFF_UP;
	if (ioctl(control(), SIOCSIFFLAGS, &ifr) < 0)
		err(1, "%s: up", name);
}

static void send_frames(const char *name, size_t size)
{
	static uint8_t frame[FRAME_MAX] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE) };
	struct iovec iov = { frame, size };
	struct mmsghdr message[BATCH];
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		err(1, "packet socket");
	if (size < ETH_HLEN || size > FRAME_MAX)
		errx(1, "a frame of %zu bytes", size);
	to.sll_ifindex = (int)if_nametoindex(name);
	if (to.sll_ifindex == 0)
		err(1, "%s", name);
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
	memset(message, 0, sizeof(message));
	for (int i = 0; i < BATCH; i++) {
		message[i].msg_hdr.msg_name = &to;
		message[i].msg_hdr.msg_namelen = sizeof(to);
		message[i].msg_hdr.msg_iov = &iov;
		message[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		if (sendmmsg(fd, message, BATCH, 0) == BATCH)
			continue;
		if (errno != ENOBUFS && errno != EAGAIN && errno != ENETDOWN && errno != 0)
			err(1, "%s: send", name);
		sched_yield();
	}
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void khz(void)
{
	double start = seconds();
	uint64_t ticks = __rdtsc();

	usleep(200000);
	ticks = __rdtsc() - ticks;
	printf("%.0f\n", (double)ticks / (seconds() - start) / 1000);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "make") == 0)
		keep(argv[2], 1);
	else if (argc == 3 && strcmp(argv[1], "delete") == 0)
		keep(argv[2], 0);
	else if (argc == 4 && strcmp(argv[1], "send") == 0)
		send_frames(argv[2], strtoul(argv[3], NULL, 0));
	else if (argc == 2 && strcmp(argv[1], "khz") == 0)
		khz();
	else
		errx(1, "usage: tap make|delete NAME, tap send NAME SIZE, tap khz");
	return 0;
}
