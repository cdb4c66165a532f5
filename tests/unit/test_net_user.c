// SPDX-License-Identifier: Apache-2.0
/*
 * The passt backend, against a passt of our own: this very program, started again by the
 * device with passt's arguments. It sends them back as the first frame and then echoes, or does
 * worse, as the guest's first byte tells it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "device_util.h"
#include "virtio_driver.h"
#include "devices/virtio_net_impl.h"
#include "vmm/base/log.h"

#define SELF "/proc/self/exe"

/* Orders to the other side, in the byte after the Ethernet header. */
enum { ECHO, DIE, LIE, FLOOD, STALL };

#define FLOOD_N	  3000
#define FLOOD_LEN 1000

/* --- The other side --- */

static bool peer_read(void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(3, (char *)buf + done, len - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool peer_write(const void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		/* In pieces, so that lengths and frames arrive torn. */
		size_t part = len - done < 700 ? len - done : 700;
		ssize_t n = write(3, (const char *)buf + done, part);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool peer_frame(const void *frame, uint32_t len)
{
	uint32_t prefix = htonl(len);

	return peer_write(&prefix, 2) && peer_write((char *)&prefix + 2, 2) &&
	       peer_write(frame, len);
}

static int peer(int argc, char **argv)
{
	static uint8_t frame[70000];
	struct stat st;
	uint32_t len;
	size_t n = 14;

	/* Only the socket is ours to see. */
	for (int fd = 4; fd < 64; fd++) {
		if (fstat(fd, &st) == 0)
			return 41;
	}
	if (getpgid(0) != getpid())
		return 42;
	for (int i = 1; i < argc; i++)
		n += (size_t)sprintf((char *)frame + n, "%s ", argv[i]);
	if (!peer_frame(frame, (uint32_t)n))
		return 43;
	while (peer_read(&len, sizeof(len))) {
		len = ntohl(len);
		if (len > sizeof(frame) || !peer_read(frame, len))
			return 44;
		switch (frame[14]) {
		case DIE:
			fprintf(stderr, "something else\nFailed to bind port 80\n"
					"Failed to send 9 bytes to syslog\n");
			return 7;
		case LIE:
			len = htonl(0x7fffffff);
			peer_write(&len, sizeof(len));
			break;
		case FLOOD:
			for (uint32_t i = 0; i < FLOOD_N; i++) {
				memcpy(frame + 14, &i, sizeof(i));
				if (!peer_frame(frame, FLOOD_LEN))
					return 45;
			}
			break;
		case STALL:
			pause();
			break;
		default:
			if (!peer_frame(frame, len))
				return 46;
		}
	}
	return 0;
}

/* --- Our side --- */

struct link_seen {
	struct net_link link;
	unsigned downs;
};

static struct loop *loop;
static struct net_backend *be;
static struct link_seen seen;
static struct net_options opt;
static struct err err;
static uint8_t packet[NET_PACKET_MAX], got[NET_PACKET_MAX];

static void link_changed(struct net_link *link, bool up)
{
	struct link_seen *s = container_of(link, struct link_seen, link);

	ck_assert(!up);
	s->downs++;
}

static void setup(void)
{
	err = (struct err)ERR_INIT;
	opt = (struct net_options){ .user = true, .queues = 1, .offload = true };
	seen = (struct link_seen){ .link.changed = link_changed };
	loop = loop_new(&err);
	ck_assert_ptr_nonnull(loop);
}

static void teardown(void)
{
	if (be != NULL)
		be->ops->free(be);
	be = NULL;
	loop_free(loop);
	/* No child is left, not even a dead one. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

/* The next packet, into segments of odd sizes; its length or -errno. Waits for it. */
static ssize_t receive(void)
{
	struct iovec iov[] = { { got, 5 }, { got + 5, 20 }, { got + 25, sizeof(got) - 25 } };

	for (;;) {
		ssize_t r = be->ops->receive(be, 0, iov, 3);

		if (r != -EAGAIN)
			return r;
		ck_assert_int_eq(poll(&(struct pollfd){ .fd = be->fd[0], .events = POLLIN }, 1,
				      DRIVER_WAIT_MS),
				 1);
	}
}

/* A frame of @len bytes with an order in it. */
static int put(uint8_t what, size_t len)
{
	struct iovec iov[] = { { packet, NET_HDR },
			       { packet + NET_HDR, 3 },
			       { packet + NET_HDR + 3, len - 3 } };

	memset(packet, 0xee, NET_HDR); /* goes nowhere */
	for (size_t i = 0; i < len; i++)
		packet[NET_HDR + i] = (uint8_t)(i * 3 + i / 256);
	packet[NET_HDR + 14] = what;
	return be->ops->send(be, 0, iov, 3, NET_HDR + len);
}

/* Start, and take the arguments the other side was given. */
static const char *start(void)
{
	ssize_t n;

	be = net_user_spawn(SELF, &opt, loop, &seen.link, &err);
	ck_assert_msg(be != NULL, "%s", err.msg);
	ck_assert(be->up);
	ck_assert_uint_eq(be->features, 0);
	n = receive();
	ck_assert_int_gt(n, (ssize_t)NET_HDR + 14);
	got[n] = '\0';
	return (char *)got + NET_HDR + 14;
}

START_TEST(arguments)
{
	opt.tcp = (char[]){ "8080:80+127.0.0.1/2222:22" };
	opt.udp = (char[]){ "5000-5009" };
	opt.mtu = 1400;
	opt.host = true;
	ck_assert_str_eq(start(), "--foreground --quiet --fd 3 --mtu 1400 --tcp-ports 8080:80 "
				  "--tcp-ports 127.0.0.1/2222:22 --udp-ports 5000-5009 ");
}
END_TEST

/* Unless asked for, the guest does not see what listens on the host's loopback. */
START_TEST(host_hidden)
{
	ck_assert_ptr_nonnull(strstr(start(), "--no-map-gw "));
}
END_TEST

/* With an address of its own the guest's gateway and name server are passt. */
START_TEST(address)
{
	opt.address = (char[]){ "192.168.7.1/29" };
	ck_assert_ptr_nonnull(strstr(start(), "--fd 3 --address 192.168.7.1 --netmask "
					      "255.255.255.248 --gateway 192.168.7.2 "
					      "--dns-forward 192.168.7.3 --no-map-gw "));
}
END_TEST

START_TEST(addresses)
{
	static const struct {
		const char *text, *mask, *gateway, *dns;
	} good[] = {
		{ "10.0.2.15/24", "255.255.255.0", "10.0.2.1", "10.0.2.2" },
		{ "10.0.2.2/24", "255.255.255.0", "10.0.2.1", "10.0.2.3" },
		{ "10.255.255.254/8", "255.0.0.0", "10.0.0.1", "10.0.0.2" },
		{ "192.168.7.6/29", "255.255.255.248", "192.168.7.1", "192.168.7.2" },
	};
	static const char *const bad[] = { "",
					   "10.0.2.15",
					   "10.0.2.15/",
					   "10.0.2.15/7",
					   "10.0.2.15/30",
					   "10.0.2.15/x",
					   "10.0.2/24",
					   "10.0.2.15/24x",
					   "/24",
					   "10.0.2.0/24",
					   "10.0.2.255/24",
					   "10.0.2.15/-24",
					   "::1/24",
					   "10.0.2.15/ 24",
					   "10.0.2.256/24",
					   "10.0.2.15/99999999999999999999",
					   "111.111.111.111111111111/24" };
	struct net_address addr;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_msg(net_parse_address(good[i].text, &addr, &err) == 0, "%s", err.msg);
		ck_assert_str_eq(addr.mask, good[i].mask);
		ck_assert_str_eq(addr.gateway, good[i].gateway);
		ck_assert_str_eq(addr.dns, good[i].dns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(net_parse_address(bad[i], &addr, &err) == -EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(echo)
{
	static const size_t len[] = { 15, 60, 1514, 9000, 65535, 16, 65535, 61 };
	static const uint8_t header[NET_HDR];

	start();
	for (size_t i = 0; i < sizeof(len) / sizeof(len[0]); i++) {
		ck_assert_int_eq(put(ECHO, len[i]), 0);
		while (be->ops->flush(be, 0) == -EAGAIN)
			;
		ck_assert_int_eq(receive(), (ssize_t)(NET_HDR + len[i]));
		ck_assert_mem_eq(got, header, sizeof(header));
		ck_assert_mem_eq(got + NET_HDR, packet + NET_HDR, len[i]);
	}
	ck_assert_int_eq(put(ECHO, 65536), -EMSGSIZE);
}
END_TEST

/* Many frames in few reads: none torn, none lost, and `buffered` is true to its name. */
START_TEST(flood)
{
	unsigned told = 0;

	start();
	ck_assert_int_eq(put(FLOOD, 100), 0);
	ck_assert_int_eq(be->ops->flush(be, 0), 0);
	for (uint32_t i = 0; i < FLOOD_N; i++) {
		bool buffered = be->buffered;
		struct iovec iov = { got, sizeof(got) };
		uint32_t number;

		if (buffered) /* then it is there without waiting */
			ck_assert_int_eq(be->ops->receive(be, 0, &iov, 1), NET_HDR + FLOOD_LEN);
		else
			ck_assert_int_eq(receive(), NET_HDR + FLOOD_LEN);
		told += buffered;
		memcpy(&number, got + NET_HDR + 14, sizeof(number));
		ck_assert_uint_eq(number, i);
	}
	ck_assert_uint_gt(told, 0);
	ck_assert(!be->buffered);
}
END_TEST

/* A reader that does not read: we are full some time, and say so. */
START_TEST(stall)
{
	int r = 0;

	start();
	ck_assert_int_eq(put(STALL, 100), 0);
	for (unsigned i = 0; i < 10000 && r == 0; i++)
		r = put(ECHO, 60000);
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_int_eq(be->ops->flush(be, 0), -EAGAIN);
}
END_TEST

/* It dies: reaped, told once, link down, and end of file. */
START_TEST(dies)
{
	int out[2];
	char text[1000];
	ssize_t n;

	ck_assert_int_eq(pipe(out), 0);
	start();
	log_set_fd(out[1]);
	ck_assert_int_eq(put(DIE, 100), 0);
	ck_assert_int_eq(be->ops->flush(be, 0), 0);
	ck_assert_int_eq(receive(), -EPIPE);
	for (int i = 0; i < 1000 && seen.downs == 0; i++)
		loop_run_once(loop, 10);
	log_set_fd(2);
	ck_assert_uint_eq(seen.downs, 1);
	n = read(out[0], text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	ck_assert_msg(strstr(text, "status 7") != NULL, "%s", text);
	ck_assert_msg(strstr(text, "Failed to bind port 80") != NULL, "%s", text);
	ck_assert_int_eq(put(ECHO, 100), 0);
	ck_assert_int_eq(be->ops->flush(be, 0), 0);
}
END_TEST

START_TEST(lies)
{
	start();
	ck_assert_int_eq(put(LIE, 100), 0);
	ck_assert_int_eq(be->ops->flush(be, 0), 0);
	ck_assert_int_eq(receive(), -EPROTO);
}
END_TEST

START_TEST(not_installed)
{
	ck_assert_ptr_null(net_user_spawn("no-such-program-here", &opt, loop, &seen.link, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "install the package passt"));
	ck_assert_int_eq(err.code, ENOENT);
}
END_TEST

START_TEST(forwards)
{
	static const char *const good[] = {
		"80",		"8080:80", "1-65535",	       "80+81:82", "5000-5009:6000-6009",
		"127.0.0.1/80", "::1/80",  "192.0.2.1%eth0/22"
	};
	static const char *const bad[] = {
		"",	"+",   "80+",  "0",   "65536", "80:", ":80", "9-8",	"80,81",
		"a/80", "/80", "80:0", "-80", "80 81", "--x", "1/",  "1.2;/80", "8000000000"
	};
	char many[65 * 3 + 1] = "";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(net_user_check("tcp", good[i], &err) == 0, "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(net_user_check("tcp", bad[i], &err) < 0, "%s", bad[i]);
	for (int i = 0; i < 65; i++)
		strcat(many, i < 64 ? "80+" : "80");
	ck_assert_int_lt(net_user_check("udp", many, &err), 0);
	many[64 * 3 - 1] = '\0';
	ck_assert_int_eq(net_user_check("udp", many, &err), 0);
}
END_TEST

/* With the device on top: a frame out and in again. */
START_TEST(through_device)
{
	static struct driver d;
	struct net *net;
	uint64_t gpa;
	uint32_t len;

	start();
	driver_init(&d);
	net = net_new(&opt, 0, &d.host, be, &err);
	ck_assert_ptr_nonnull(net);
	be = NULL;
	driver_attach(&d, &net->vdev);
	driver_start(&d, NET_BIT(MRG_RXBUF));
	gpa = driver_alloc(&d, 10 * 2000ULL);
	for (unsigned i = 0; i < 10; i++)
		driver_add(&d, 0, (struct driver_buf[]){ { gpa + i * 2000ULL, 2000, true } }, 1);
	driver_notify(&d, 0);
	driver_run(&d);
	memset(packet, 0, sizeof(packet));
	for (size_t i = 0; i < 9000; i++)
		packet[NET_HDR + i] = (uint8_t)(i * 11);
	packet[NET_HDR + 14] = ECHO;
	driver_add(&d, 1,
		   (struct driver_buf[]){
			   { driver_data(&d, packet, NET_HDR + 9000), NET_HDR + 9000, false } },
		   1);
	driver_notify(&d, 1);
	driver_wait(&d, 1, NULL, NULL);
	for (unsigned i = 0; i < 5; i++)
		driver_wait(&d, 0, NULL, &len);
	ck_assert_mem_eq(driver_ptr(&d, gpa + NET_HDR, 9000), packet + NET_HDR, 9000);
	driver_detach(&d);
	virtio_net_ops.destroy(&net->vdev);
	driver_fini(&d);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite;
	TCase *tc;

	if (argc > 1 && strcmp(argv[1], "--foreground") == 0)
		return peer(argc, argv);
	suite = suite_create("net_user");
	tc = tcase_create("all");
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, arguments);
	tcase_add_test(tc, host_hidden);
	tcase_add_test(tc, address);
	tcase_add_test(tc, addresses);
	tcase_add_test(tc, echo);
	tcase_add_test(tc, flood);
	tcase_add_test(tc, stall);
	tcase_add_test(tc, dies);
	tcase_add_test(tc, lies);
	tcase_add_test(tc, not_installed);
	tcase_add_test(tc, forwards);
	tcase_add_test(tc, through_device);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
