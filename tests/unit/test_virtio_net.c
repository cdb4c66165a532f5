// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio network device on a fake backend: packets of all shapes both ways, buffers that run
 * out, a wire that is full, control queue and filters, rates, reset, saving, mistakes.
 */
#include <poll.h>
#include "device_util.h"
#include "net_util.h"
#include "virtio_driver.h"

#define RXQ	  0
#define TXQ	  1
#define CTRLQ	  2
#define MRG	  NET_BIT(MRG_RXBUF)
#define CTRL	  (NET_BIT(CTRL_VQ) | NET_BIT(CTRL_RX) | NET_BIT(CTRL_RX_EXTRA))
#define BIG	  60000
#define FRAME_LEN 60

static struct driver d;
static struct net *net;
static struct fake_net *fake;
static struct net_options opt;
static struct err err;
static uint8_t big[NET_PACKET_MAX];

static const uint8_t our_mac[6] = { 0x02, 0, 0, 0, 0, 0x42 };

static void make(unsigned pairs)
{
	fake = fake_net_new(pairs);
	ck_assert_ptr_nonnull(fake);
	net = net_new(&opt, 0, &d.host, &fake->be, &err);
	ck_assert_msg(net != NULL, "%s", err.msg);
	driver_attach(&d, &net->vdev);
}

static void unmake(void)
{
	driver_detach(&d);
	virtio_net_ops.destroy(&net->vdev);
}

static void setup(void)
{
	static char mac[] = "02:00:00:00:00:42";

	opt = (struct net_options){ .user = true, .queues = 1, .offload = true, .mac = mac };
	err = (struct err)ERR_INIT;
	driver_init(&d);
	make(1);
}

static void teardown(void)
{
	unmake();
	driver_fini(&d);
}

/* Give the device @n receive buffers of @len bytes; returns the address of the first. */
static uint64_t add_rx(unsigned q, unsigned n, uint32_t len)
{
	uint64_t gpa = driver_alloc(&d, (uint64_t)n * len);

	for (unsigned i = 0; i < n; i++)
		driver_add(&d, q, (struct driver_buf[]){ { gpa + (uint64_t)i * len, len, true } },
			   1);
	return gpa;
}

/* A frame for @mac, its bytes a pattern, behind a zero header. Returns the packet's length. */
static size_t make_packet(uint8_t *packet, const uint8_t *mac, size_t frame, uint8_t seed)
{
	memset(packet, 0, NET_HDR);
	for (size_t i = 0; i < frame; i++)
		packet[NET_HDR + i] = (uint8_t)(seed + i * 7 + i / 256);
	memcpy(packet + NET_HDR, mac, 6);
	packet[NET_HDR + 12] = 8; /* IPv4 */
	packet[NET_HDR + 13] = 0;
	return NET_HDR + frame;
}

static void wire_send(unsigned pair, const uint8_t *packet, size_t len)
{
	ck_assert_int_eq(write(fake->wire[pair], packet, len), (ssize_t)len);
}

/* What the device sent, or 0. */
static size_t wire_receive(unsigned pair, uint8_t *packet, size_t size)
{
	ssize_t n = read(fake->wire[pair], packet, size);

	return n > 0 ? (size_t)n : 0;
}

static uint16_t num_buffers(uint64_t gpa)
{
	uint16_t n;

	gmem_read(&d.mem, gpa + 10, &n, sizeof(n));
	return n;
}

static bool watched(unsigned pair, uint32_t events)
{
	return (net->pair[pair].lfd.events & events) != 0;
}

/* --- Configuration --- */

START_TEST(configuration)
{
	struct virtio_net_config c;

	driver_start(&d, 0);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_mem_eq(c.mac, our_mac, 6);
	ck_assert_uint_eq(c.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(c.max_virtqueue_pairs, 1);
	ck_assert_uint_eq(net->vdev.features & NET_BIT(MQ), 0);
	ck_assert_uint_eq(net->vdev.features & NET_BIT(MTU), 0);
	ck_assert_uint_ne(net->vdev.features & NET_BIT(CSUM), 0);
	unmake();
	opt.offload = false;
	opt.mtu = 1400;
	make(3);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.mtu, 1400);
	ck_assert_uint_eq(c.max_virtqueue_pairs, 3);
	ck_assert_uint_ne(net->vdev.features & NET_BIT(MQ), 0);
	ck_assert_uint_ne(net->vdev.features & NET_BIT(MTU), 0);
	ck_assert_uint_eq(net->vdev.features & (NET_HOST_OFFLOADS | NET_GUEST_OFFLOADS |
						NET_BIT(CTRL_GUEST_OFFLOADS)),
			  0);
}
END_TEST

/* The same VM gets the same address, another one another. */
START_TEST(stable_mac)
{
	uint8_t mac[3][6];
	static const char *const name[3] = { "one", "one", "two" };

	opt.mac = NULL;
	for (int i = 0; i < 3; i++) {
		unmake();
		d.host.vm_name = name[i];
		make(1);
		memcpy(mac[i], net->config.mac, 6);
		ck_assert_uint_eq(mac[i][0] & 3, 2);
	}
	ck_assert_mem_eq(mac[0], mac[1], 6);
	ck_assert_mem_ne(mac[0], mac[2], 6);
}
END_TEST

/* --- Sending --- */

START_TEST(send_shapes)
{
	uint8_t packet[NET_HDR + 200], got[sizeof(packet) + 1];
	static const uint32_t first[] = { 1, 9, 10, 11, 12, 13, 40 };

	driver_start(&d, _i & 1 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
	make_packet(packet, our_mac, 200, 1);
	for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		uint64_t gpa = driver_data(&d, packet, sizeof(packet));
		uint32_t len;

		packet[NET_HDR + 30] = (uint8_t)i; /* and in memory */
		gmem_write(&d.mem, gpa, packet, sizeof(packet));
		driver_add(&d, TXQ,
			   (struct driver_buf[]){ { gpa, first[i], false },
						  { gpa + first[i], 100, false },
						  { gpa + first[i] + 100, 112 - first[i], false } },
			   3);
		driver_kick(&d, TXQ);
		driver_wait(&d, TXQ, NULL, &len);
		ck_assert_uint_eq(len, 0);
		ck_assert_uint_eq(wire_receive(0, got, sizeof(got)), sizeof(packet));
		ck_assert_mem_eq(got, packet, sizeof(packet));
	}
	ck_assert_uint_eq(net->stats.tx, sizeof(first) / sizeof(first[0]));
	ck_assert_uint_eq(net->stats.tx_dropped, 0);
}
END_TEST

/* Send a packet with this in its header. Did it reach the wire? */
static bool sent(uint8_t flags, uint8_t gso_type, size_t frame)
{
	uint8_t packet[NET_HDR + 300] = { flags, gso_type };
	uint64_t gpa = driver_data(&d, packet, NET_HDR + frame);
	uint64_t dropped = net->stats.tx_dropped;
	size_t n;

	driver_add(&d, TXQ, (struct driver_buf[]){ { gpa, (uint32_t)(NET_HDR + frame), false } },
		   1);
	driver_notify(&d, TXQ);
	driver_wait(&d, TXQ, NULL, NULL);
	n = wire_receive(0, packet, sizeof(packet));
	ck_assert_uint_eq(net->stats.tx_dropped - dropped, n == 0);
	ck_assert(n == 0 || packet[0] == (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM));
	return n > 0;
}

START_TEST(send_headers)
{
	static const struct {
		uint8_t type;
		unsigned feature;
	} gso[] = {
		{ VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4 },
		{ VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6 },
		{ VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_HOST_UFO },
		{ VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_F_HOST_USO },
	};

	driver_start(&d, 0);
	ck_assert(sent(0, 0, 60));
	ck_assert(!sent(0, 0, 13));
	ck_assert(sent(0, 0, 14));
	ck_assert(!sent(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 60));
	ck_assert(sent(0xfe, 0, 60)); /* flags that mean nothing */
	ck_assert(!sent(0, 7, 60));
	ck_assert(!sent(0, VIRTIO_NET_HDR_GSO_ECN, 60));
	for (int i = 0; i < 4; i++)
		ck_assert(!sent(0, gso[i].type, 60));
	for (int i = 0; i < 4; i++) {
		driver_start(&d, NET_BIT(CSUM) | 1ULL << gso[i].feature);
		for (int j = 0; j < 4; j++)
			ck_assert_int_eq(sent(1, gso[j].type, 60), i == j);
		ck_assert(!sent(1, gso[i].type | VIRTIO_NET_HDR_GSO_ECN, 60));
		ck_assert(sent(1, 0, 60));
	}
	driver_start(&d, NET_BIT(CSUM) | NET_BIT(HOST_TSO4) | NET_BIT(HOST_ECN));
	ck_assert(sent(1, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, 60));
	ck_assert(!sent(1, VIRTIO_NET_HDR_GSO_ECN, 60));
}
END_TEST

START_TEST(send_nothing_and_too_much)
{
	uint64_t gpa;

	driver_start(&d, 0);
	gpa = driver_alloc(&d, NET_PACKET_MAX + 1);
	/* No bytes at all, a header only in part, one byte too many. */
	driver_add(&d, TXQ, (struct driver_buf[]){ { gpa, 100, true } }, 1);
	driver_add(&d, TXQ, (struct driver_buf[]){ { gpa, 11, false } }, 1);
	driver_add(&d, TXQ, (struct driver_buf[]){ { gpa, NET_PACKET_MAX + 1, false } }, 1);
	driver_kick(&d, TXQ);
	for (int i = 0; i < 3; i++)
		driver_wait(&d, TXQ, NULL, NULL);
	ck_assert_uint_eq(net->stats.tx_dropped, 3);
	driver_add(&d, TXQ, (struct driver_buf[]){ { gpa, NET_PACKET_MAX, false } }, 1);
	driver_kick(&d, TXQ);
	driver_wait(&d, TXQ, NULL, NULL);
	ck_assert_uint_eq(net->stats.tx, 1);
	ck_assert_uint_eq(wire_receive(0, big, sizeof(big)), NET_PACKET_MAX);
}
END_TEST

/* The wire is full: chains stay with the driver, in order, and nothing is lost. */
START_TEST(send_blocked)
{
	uint8_t packet[NET_HDR + 1000];
	unsigned n = 200, got = 0, used = 0;
	int size = 1;

	setsockopt(fake->be.fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	driver_start(&d, 0);
	for (unsigned i = 0; i < n; i++) {
		make_packet(packet, our_mac, 1000, (uint8_t)i);
		driver_add(&d, TXQ,
			   (struct driver_buf[]){ { driver_data(&d, packet, sizeof(packet)),
						    sizeof(packet), false } },
			   1);
	}
	driver_kick(&d, TXQ);
	driver_run(&d);
	ck_assert(watched(0, EPOLLOUT));
	ck_assert_uint_lt(net->stats.tx, n);
	while (got < n) {
		uint8_t expected[sizeof(packet)], back[sizeof(packet)];

		make_packet(expected, our_mac, 1000, (uint8_t)got);
		if (wire_receive(0, back, sizeof(back)) == 0) {
			driver_run(&d);
			continue;
		}
		ck_assert_mem_eq(back, expected, sizeof(back));
		got++;
	}
	driver_run(&d);
	while (driver_used(&d, TXQ, NULL, NULL))
		used++;
	ck_assert_uint_eq(used, n);
	ck_assert_uint_eq(driver_latencies(&d), n);
	ck_assert_uint_eq(net->stats.tx_dropped, 0);
	ck_assert(!watched(0, EPOLLOUT));
}
END_TEST

/* --- Receiving --- */

START_TEST(receive_whole)
{
	uint8_t packet[NET_HDR + 100];
	uint64_t gpa;
	uint32_t len;

	driver_start(&d, _i & 1 ? MRG : 0);
	gpa = add_rx(RXQ, 4, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	for (uint8_t i = 0; i < 4; i++) {
		make_packet(packet, our_mac, 100, i);
		packet[0] = VIRTIO_NET_HDR_F_DATA_VALID; /* for nobody who asked */
		wire_send(0, packet, sizeof(packet));
		driver_wait(&d, RXQ, NULL, &len);
		ck_assert_uint_eq(len, sizeof(packet));
		ck_assert_uint_eq(num_buffers(gpa + i * 1600ULL), 1);
		ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, gpa + i * 1600ULL, 1), 0);
		ck_assert_mem_eq(driver_ptr(&d, gpa + i * 1600ULL + NET_HDR, 100), packet + NET_HDR,
				 100);
	}
	ck_assert_uint_eq(net->stats.rx, 4);
	ck_assert_uint_eq(driver_latencies(&d), 0);
	ck_assert_uint_ge(d.queue[RXQ].interrupts, 1);
}
END_TEST

/* Buffers cut to pieces: the header is not in one. */
START_TEST(receive_split_header)
{
	uint8_t packet[NET_HDR + 100], got[sizeof(packet)];
	uint64_t gpa;

	driver_start(&d, NET_BIT(GUEST_CSUM) | (_i & 1 ? MRG : 0));
	gpa = driver_alloc(&d, 4096);
	driver_add(&d, RXQ,
		   (struct driver_buf[]){ { gpa, 3, true },
					  { gpa + 3, 8, true },
					  { gpa + 11, 1, true },
					  { gpa + 12, 2000, true } },
		   4);
	driver_kick(&d, RXQ);
	make_packet(packet, our_mac, 100, 9);
	packet[0] = VIRTIO_NET_HDR_F_DATA_VALID;
	packet[10] = 1;
	driver_run(&d);
	wire_send(0, packet, sizeof(packet));
	driver_wait(&d, RXQ, NULL, NULL);
	gmem_read(&d.mem, gpa, got, sizeof(got));
	ck_assert_mem_eq(got, packet, sizeof(got));
}
END_TEST

START_TEST(receive_too_long)
{
	size_t len = make_packet(big, our_mac, 2000, 1);

	driver_start(&d, 0);
	add_rx(RXQ, 2, 1526);
	driver_kick(&d, RXQ);
	driver_run(&d);
	wire_send(0, big, len);
	len = make_packet(big, our_mac, 1514, 1);
	wire_send(0, big, len);
	driver_wait(&d, RXQ, NULL, NULL);
	ck_assert(!driver_used(&d, RXQ, NULL, NULL));
	ck_assert_uint_eq(net->stats.rx_dropped, 1);
	ck_assert_uint_eq(net->stats.rx, 1);
}
END_TEST

/* Take the packet at @gpa, in buffers of @size one behind the other, back; compare. */
static unsigned expect_merged(uint64_t gpa, uint32_t size, const uint8_t *packet, size_t len)
{
	uint8_t *got = driver_ptr(&d, gpa, len);
	unsigned n = (unsigned)((len + size - 1) / size);
	uint32_t part;

	for (unsigned i = 0; i < n; i++) {
		driver_wait(&d, RXQ, NULL, &part);
		ck_assert_uint_eq(part, i + 1 < n ? size : len - (size_t)(n - 1) * size);
		if (i == 0)
			ck_assert_uint_eq(num_buffers(gpa), n);
	}
	ck_assert_mem_eq(got + NET_HDR, packet + NET_HDR, len - NET_HDR);
	return n;
}

/* Long packets the device does not expect, then does, then short ones again. */
START_TEST(receive_merged)
{
	uint32_t size = 1536;
	uint64_t gpa;
	static const size_t frames[] = { 60, BIG, 1514, BIG, 5000, 60, 1524, 1525 };

	driver_start(&d, MRG);
	gpa = add_rx(RXQ, 200, size);
	driver_kick(&d, RXQ);
	driver_run(&d);
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		size_t len = make_packet(big, our_mac, frames[i], (uint8_t)i);

		wire_send(0, big, len);
		gpa += (uint64_t)size * expect_merged(gpa, size, big, len);
	}
	ck_assert_uint_eq(net->stats.rx_dropped, 0);
}
END_TEST

/* A long packet, a few buffers: it waits until there are enough. */
START_TEST(receive_held)
{
	uint32_t size = 2048;
	size_t len = make_packet(big, our_mac, BIG, 5);
	uint64_t gpa;

	driver_start(&d, MRG);
	gpa = add_rx(RXQ, 10, size);
	driver_kick(&d, RXQ);
	driver_run(&d);
	wire_send(0, big, len);
	driver_run(&d);
	ck_assert(!driver_used(&d, RXQ, NULL, NULL));
	ck_assert(!watched(0, EPOLLIN));
	add_rx(RXQ, 10, size);
	ck_assert(driver_kick(&d, RXQ));
	driver_run(&d);
	ck_assert(!driver_used(&d, RXQ, NULL, NULL));
	add_rx(RXQ, 10, size);
	ck_assert(driver_kick(&d, RXQ));
	expect_merged(gpa, size, big, len);
	ck_assert_uint_eq(net->stats.rx, 1);
	ck_assert_uint_eq(net->stats.rx_dropped, 0);
}
END_TEST

/* All the buffers a driver can ever have are not enough: it must not wait for ever. */
START_TEST(receive_never_fits)
{
	uint64_t gpa;
	uint32_t got;

	driver_negotiate(&d, MRG);
	driver_queue(&d, RXQ, 4);
	driver_queue(&d, TXQ, 4);
	driver_ok(&d);
	gpa = add_rx(RXQ, 4, 1000);
	driver_kick(&d, RXQ);
	driver_run(&d);
	wire_send(0, big, make_packet(big, our_mac, 5000, 5));
	wire_send(0, big, make_packet(big, our_mac, 60, 6));
	driver_wait(&d, RXQ, NULL, &got);
	ck_assert_uint_eq(got, NET_HDR + 60);
	ck_assert_mem_eq(driver_ptr(&d, gpa + NET_HDR, 60), big + NET_HDR, 60);
	ck_assert_uint_eq(net->stats.rx_dropped, 1);
}
END_TEST

/* Many small chains of many segments: more than one readv() takes. */
START_TEST(receive_many_segments)
{
	struct driver_buf bufs[200];
	unsigned chains = 0;
	uint64_t gpa;
	size_t len;

	driver_start(&d, MRG | 1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	gpa = driver_alloc(&d, 64 * 200 * 5);
	for (; chains < 60; chains++) {
		for (unsigned i = 0; i < 200; i++)
			bufs[i] = (struct driver_buf){ gpa + (chains * 200 + i) * 5, 5, true };
		driver_add_indirect(&d, RXQ, bufs, 200);
	}
	driver_kick(&d, RXQ);
	driver_run(&d);
	for (unsigned i = 0; i < 40; i++) {
		len = make_packet(big, our_mac, i == 3 ? 9000 : 900, (uint8_t)i);
		wire_send(0, big, len);
	}
	for (unsigned i = 0; i < 40; i++) {
		uint32_t used;

		driver_run(&d);
		if (i == 3) /* 60 chains of 1000 bytes, but not as many in one window */
			continue;
		driver_wait(&d, RXQ, NULL, &used);
		ck_assert_uint_eq(used, NET_HDR + 900);
	}
	ck_assert_uint_eq(net->stats.rx_dropped, 1);
	ck_assert_uint_eq(net->stats.rx, 39);
}
END_TEST

/* Without buffers nobody looks at the wire, and what is there stays there. */
START_TEST(receive_dry)
{
	uint8_t packet[NET_HDR + 60];
	unsigned reads, n = 0;

	driver_start(&d, _i & 1 ? MRG : 0);
	driver_run(&d);
	ck_assert(!watched(0, EPOLLIN));
	reads = fake->reads;
	for (uint8_t i = 0; i < 100; i++)
		wire_send(0, packet, make_packet(packet, our_mac, 60, i));
	driver_run(&d);
	ck_assert_uint_eq(fake->reads, reads);
	add_rx(RXQ, 100, 1600);
	ck_assert(driver_kick(&d, RXQ));
	for (; n < 100; n++)
		driver_wait(&d, RXQ, NULL, NULL);
	ck_assert_uint_eq(net->stats.rx_dropped, 0);
}
END_TEST

/* What came before there was a driver is not for it. */
START_TEST(receive_drained)
{
	uint8_t packet[NET_HDR + 60];

	wire_send(0, packet, make_packet(packet, our_mac, 60, 1));
	wire_send(0, packet, make_packet(packet, our_mac, 60, 2));
	driver_start(&d, 0);
	add_rx(RXQ, 4, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert(!driver_used(&d, RXQ, NULL, NULL));
}
END_TEST

/* --- Control queue --- */

static uint8_t control(unsigned q, uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	uint8_t head[2] = { class, cmd }, *ack;
	uint64_t hdr = driver_data(&d, head, 2), body = driver_alloc(&d, len + 1);
	uint64_t at = driver_alloc(&d, 1);
	uint32_t used;

	ck_assert_int_eq(gmem_write(&d.mem, body, len > 0 ? data : head, len > 0 ? len : 1), 0);
	ack = driver_ptr(&d, at, 1);
	*ack = 0x55;
	if (len > 0)
		driver_add(&d, q,
			   (struct driver_buf[]){
				   { hdr, 2, false }, { body, len, false }, { at, 1, true } },
			   3);
	else
		driver_add(&d, q, (struct driver_buf[]){ { hdr, 2, false }, { at, 1, true } }, 2);
	driver_notify(&d, q);
	driver_wait(&d, q, NULL, &used);
	ck_assert_uint_eq(used, 1);
	return *ack;
}

static uint8_t control_u8(uint8_t class, uint8_t cmd, uint8_t value)
{
	return control(CTRLQ, class, cmd, &value, 1);
}

static uint8_t control_u16(uint8_t class, uint8_t cmd, uint16_t value)
{
	return control(CTRLQ, class, cmd, &value, 2);
}

/* Does a frame for @mac reach the driver? */
static bool reaches(const uint8_t *mac, const uint8_t *vlan)
{
	uint8_t packet[NET_HDR + 60];
	uint64_t rx = net->stats.rx, filtered = net->stats.rx_filtered;

	make_packet(packet, mac, 60, 0);
	if (vlan != NULL)
		memcpy(packet + NET_HDR + 12, vlan, 4);
	wire_send(0, packet, sizeof(packet));
	driver_run(&d);
	while (driver_used(&d, RXQ, NULL, NULL))
		;
	ck_assert_uint_eq(net->stats.rx - rx + (net->stats.rx_filtered - filtered), 1);
	return net->stats.rx != rx;
}

START_TEST(filters)
{
	static const uint8_t other[6] = { 0x02, 9, 9, 9, 9, 9 };
	static const uint8_t group[6] = { 0x01, 0, 0x5e, 0, 0, 1 };
	static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
	uint8_t table[4 + 6 + 4 + 6] = { 1 };

	memcpy(table + 4, other, 6);
	table[10] = 1;
	memcpy(table + 14, group, 6);
	driver_start(&d, CTRL | (_i & 1 ? MRG : 0));
	add_rx(RXQ, 60, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert(reaches(other, NULL)); /* promiscuous until told */
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), 0);
	ck_assert(!reaches(other, NULL));
	ck_assert(!reaches(group, NULL));
	ck_assert(reaches(our_mac, NULL));
	ck_assert(reaches(broadcast, NULL));
	ck_assert_uint_eq(control(CTRLQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table,
				  sizeof(table)),
			  0);
	ck_assert(reaches(other, NULL));
	ck_assert(reaches(group, NULL));
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, 1), 0);
	ck_assert(!reaches(group, NULL));
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, 1), 0);
	ck_assert(!reaches(our_mac, NULL));
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, 1), 0);
	ck_assert(!reaches(broadcast, NULL));
	memset(table, 0, sizeof(table));
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, 0), 0);
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, 0), 0);
	ck_assert_uint_eq(
		control(CTRLQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, 8), 0);
	ck_assert(!reaches(group, NULL));
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), 0);
	ck_assert(reaches(group, NULL));
	ck_assert(!reaches(other, NULL));
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, 1), 0);
	ck_assert(reaches(other, NULL));
}
END_TEST

START_TEST(vlan_filter)
{
	static const uint8_t vlan5[4] = { 0x81, 0, 0xe0, 5 };

	driver_start(&d, CTRL | NET_BIT(CTRL_VLAN));
	add_rx(RXQ, 20, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), 0);
	ck_assert(reaches(our_mac, NULL));
	ck_assert(!reaches(our_mac, vlan5));
	ck_assert_uint_eq(control_u16(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 5), 0);
	ck_assert(reaches(our_mac, vlan5));
	ck_assert_uint_eq(control_u16(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, 5), 0);
	ck_assert(!reaches(our_mac, vlan5));
	ck_assert_uint_eq(control_u16(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 4096), 1);
}
END_TEST

/* More addresses than there is room for: all pass, none is lost. */
START_TEST(long_table)
{
	static const uint8_t other[6] = { 0x02, 9, 9, 9, 9, 9 };
	static const uint8_t group[6] = { 0x01, 0, 0x5e, 0, 0, 1 };
	static uint8_t table[4 + 6 * (NET_MACS_MAX + 1) + 4];

	table[0] = NET_MACS_MAX + 1;
	driver_start(&d, CTRL);
	add_rx(RXQ, 20, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), 0);
	ck_assert_uint_eq(control(CTRLQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table,
				  sizeof(table)),
			  0);
	ck_assert(reaches(other, NULL));
	ck_assert(!reaches(group, NULL));
}
END_TEST

START_TEST(control_mac)
{
	static const uint8_t mac[6] = { 0x02, 1, 2, 3, 4, 5 }, group[6] = { 0x03 };
	uint8_t now[6];

	driver_start(&d, CTRL | NET_BIT(CTRL_MAC_ADDR));
	ck_assert_uint_eq(
		control(CTRLQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, group, 6), 1);
	ck_assert_uint_eq(control(CTRLQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			  0);
	driver_config_read(&d, 0, now, 6);
	ck_assert_mem_eq(now, mac, 6);
	driver_start(&d, 0); /* a reset brings ours back */
	driver_config_read(&d, 0, now, 6);
	ck_assert_mem_eq(now, our_mac, 6);
}
END_TEST

START_TEST(control_offloads)
{
	uint64_t bits = NET_BIT(GUEST_CSUM) | NET_BIT(GUEST_TSO4),
		 more = bits | NET_BIT(GUEST_TSO6);

	driver_start(&d, CTRL | NET_BIT(CTRL_GUEST_OFFLOADS) | bits);
	driver_run(&d);
	ck_assert_uint_eq(fake->offloads, bits);
	ck_assert_uint_eq(control(CTRLQ, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &more, 8),
			  1);
	bits = NET_BIT(GUEST_CSUM);
	ck_assert_uint_eq(control(CTRLQ, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &bits, 8),
			  0);
	ck_assert_uint_eq(fake->offloads, bits);
	driver_start(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(fake->offloads, 0);
}
END_TEST

/* What was not negotiated, does not exist, is too short or too long. */
START_TEST(control_mistakes)
{
	uint8_t data[64] = { 200 };

	driver_start(&d, NET_BIT(CTRL_VQ));
	for (unsigned class = 0; class < 8; class ++) {
		for (unsigned cmd = 0; cmd < 8; cmd++) {
			ck_assert_uint_eq(control(CTRLQ, class, cmd, data, 1), 1);
			ck_assert_uint_eq(control(CTRLQ, class, cmd, NULL, 0), 1);
		}
	}
	driver_start(&d, net->vdev.features);
	for (unsigned class = 0; class < 8; class ++) {
		for (unsigned cmd = 0; cmd < 8; cmd++) {
			ck_assert_uint_eq(control(CTRLQ, class, cmd, data, 33), 1);
			if (class != VIRTIO_NET_CTRL_ANNOUNCE)
				ck_assert_uint_eq(control(CTRLQ, class, cmd, NULL, 0), 1);
		}
	}
	ck_assert_uint_eq(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	/* Nowhere to put the answer. */
	driver_add(&d, CTRLQ, (struct driver_buf[]){ { driver_alloc(&d, 2), 2, false } }, 1);
	driver_notify(&d, CTRLQ);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

/* --- Several pairs --- */

START_TEST(pairs)
{
	uint8_t packet[NET_HDR + 60], got[sizeof(packet)];
	uint16_t n = 3;
	uint64_t gpa;

	unmake();
	make(3);
	driver_start(&d, CTRL | NET_BIT(MQ));
	driver_run(&d);
	ck_assert_uint_eq(fake->active, 1);
	/* Buffers and a packet of a pair not in use are left alone. */
	add_rx(4, 1, 1600);
	gpa = driver_data(&d, packet, make_packet(packet, our_mac, 60, 1));
	driver_add(&d, 5, (struct driver_buf[]){ { gpa, sizeof(packet), false } }, 1);
	driver_kick(&d, 4);
	driver_kick(&d, 5);
	driver_run(&d);
	ck_assert(!driver_used(&d, 5, NULL, NULL));
	ck_assert_uint_eq(control(6, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			  0);
	ck_assert_uint_eq(fake->active, 3);
	driver_wait(&d, 5, NULL, NULL);
	ck_assert_uint_eq(wire_receive(2, got, sizeof(got)), sizeof(got));
	wire_send(2, packet, sizeof(packet));
	driver_wait(&d, 4, NULL, NULL);
	/* And back: what the pair had taken ahead is the driver's. */
	add_rx(4, 3, 1600);
	driver_notify(&d, 4);
	driver_run(&d);
	n = 1;
	ck_assert_uint_eq(control(6, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			  0);
	ck_assert_uint_eq(fake->active, 1);
	ck_assert(!watched(2, EPOLLIN));
	ck_assert_uint_eq(net->vdev.queue[4].vq.next_avail, net->vdev.queue[4].vq.next_used);
	n = 4;
	ck_assert_uint_eq(control(6, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			  1);
	n = 0;
	ck_assert_uint_eq(control(6, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &n, 2),
			  1);
}
END_TEST

/* A driver without MQ finds the control queue where a device with one pair has it. */
START_TEST(pairs_not_negotiated)
{
	unmake();
	make(3);
	driver_start(&d, CTRL);
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), 0);
}
END_TEST

/* --- Rates --- */

static void send_some(unsigned n)
{
	uint8_t packet[NET_HDR + FRAME_LEN];

	for (unsigned i = 0; i < n; i++) {
		make_packet(packet, our_mac, FRAME_LEN, (uint8_t)i);
		driver_add(&d, TXQ,
			   (struct driver_buf[]){ { driver_data(&d, packet, sizeof(packet)),
						    sizeof(packet), false } },
			   1);
	}
	driver_kick(&d, TXQ);
}

/* One byte per second: two packets empty the bucket, for the third a minute is needed. */
START_TEST(rate_stops)
{
	uint8_t packet[NET_HDR + FRAME_LEN];

	unmake();
	opt.bw = 1;
	make(1);
	driver_start(&d, 0);
	send_some(5);
	add_rx(RXQ, 10, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert_uint_eq(net->stats.tx, 2);
	ck_assert(net->tx_limit.timer.armed);
	for (uint8_t i = 0; i < 5; i++)
		wire_send(0, packet, make_packet(packet, our_mac, FRAME_LEN, i));
	driver_run(&d);
	ck_assert_uint_eq(net->stats.rx, 2);
	ck_assert(net->rx_limit.timer.armed);
	ck_assert(!watched(0, EPOLLIN));
	/* A reset does not leave the timers behind. */
	driver_set_status(&d, 0);
	driver_run(&d);
	ck_assert(!net->tx_limit.timer.armed);
	ck_assert(!net->rx_limit.timer.armed);
}
END_TEST

/* A rate that is kept still lets all through in the end, both ways. */
START_TEST(rate_goes_on)
{
	uint8_t packet[NET_HDR + FRAME_LEN];

	unmake();
	opt.pps = 2000;
	opt.pps_burst = 2;
	opt.bw = 500000;
	opt.bw_burst = 100;
	make(1);
	driver_start(&d, MRG);
	send_some(50);
	add_rx(RXQ, 60, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	for (uint8_t i = 0; i < 50; i++)
		wire_send(0, packet, make_packet(packet, our_mac, FRAME_LEN, i));
	for (int i = 0; i < 50; i++)
		driver_wait(&d, TXQ, NULL, NULL);
	for (int i = 0; i < 50; i++)
		driver_wait(&d, RXQ, NULL, NULL);
	ck_assert_uint_eq(net->stats.tx, 50);
	ck_assert_uint_eq(net->stats.rx, 50);
}
END_TEST

/* --- Life --- */

/* Reset with buffers taken ahead, and again from the start. */
START_TEST(resets)
{
	uint8_t packet[NET_HDR + 60];

	for (int i = 0; i < 3; i++) {
		driver_start(&d, MRG);
		add_rx(RXQ, 20, 1600);
		driver_kick(&d, RXQ);
		if (i != 1)
			driver_run(&d);
		else
			continue; /* and the loop never saw it */
		ck_assert_uint_gt(net->pair[0].rx.n, 0);
		wire_send(0, packet, make_packet(packet, our_mac, 60, 1));
		driver_wait(&d, RXQ, NULL, NULL);
		if (i == 2)
			break;
		wire_send(0, packet, make_packet(packet, our_mac, 60, 2));
		driver_set_status(&d, 0);
		ck_assert_uint_eq(net->pair[0].rx.n, 0);
		driver_run(&d);
		ck_assert(!watched(0, EPOLLIN));
	}
}
END_TEST

static int state_fn(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

/* Saved with buffers taken ahead and loaded into another device, which goes on with them. */
START_TEST(save_and_load)
{
	static const uint8_t mac[6] = { 0x02, 1, 2, 3, 4, 5 };
	uint8_t packet[NET_HDR + 60];
	struct virtio_net_config c;
	struct fake_net *fake2;
	struct net *net2;
	uint32_t used;

	driver_start(&d, net->vdev.features);
	add_rx(RXQ, 20, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert_uint_eq(control_u8(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0), 0);
	ck_assert_uint_eq(control_u16(VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 77), 0);
	ck_assert_uint_eq(control(CTRLQ, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6),
			  0);
	virtio_quiesce(&net->vdev);
	ck_assert_uint_eq(net->pair[0].rx.n, 0);
	ck_assert(!watched(0, EPOLLIN));

	opt.mac = NULL;
	fake2 = fake_net_new(1);
	net2 = net_new(&opt, 0, &d.host, &fake2->be, &err);
	ck_assert_ptr_nonnull(net2);
	test_state(state_fn, &net->vdev, &net2->vdev);
	unmake();
	net = net2;
	fake = fake2;
	driver_attach(&d, &net->vdev);
	virtio_resume(&net->vdev);
	driver_run(&d);
	ck_assert_uint_eq(fake->offloads, net->vdev.driver_features & NET_GUEST_OFFLOADS);
	ck_assert_uint_eq(net->mode.vlans[77 / 8], 1u << 77 % 8);
	ck_assert(!reaches(our_mac, NULL));
	wire_send(0, packet, make_packet(packet, mac, 60, 3));
	driver_wait(&d, RXQ, NULL, &used);
	ck_assert_uint_eq(used, sizeof(packet));
	/* It shall tell the network where it is now. */
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.status, VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	ck_assert_uint_ge(d.config_interrupts, 1);
	ck_assert_uint_eq(
		control(CTRLQ, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0), 0);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.status, VIRTIO_NET_S_LINK_UP);
	driver_set_status(&d, 0);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_mem_eq(c.mac, our_mac, 6);
}
END_TEST

START_TEST(load_lies)
{
	struct state *st;
	const void *data;
	void *copy;
	size_t len;

	unmake();
	make(3);
	driver_start(&d, net->vdev.features);
	driver_run(&d);
	virtio_quiesce(&net->vdev);
	net->mode.pairs = 3;
	copy = test_save(state_fn, &net->vdev, &len);
	unmake();
	make(1);
	ck_assert_int_lt(test_load(state_fn, &net->vdev, copy, len), 0);
	free(copy);
	unmake();
	make(3);
	for (int i = 0; i < 3; i++) {
		driver_start(&d, NET_BIT(MQ) | NET_BIT(CTRL_VQ));
		driver_run(&d);
		virtio_quiesce(&net->vdev);
		net->mode.pairs = i == 0 ? 4 : 1;
		net->mode.offloads = i == 1 ? NET_BIT(GUEST_CSUM) : 0;
		net->config.mac[0] = i == 2 ? 1 : 2;
		st = state_new_save();
		ck_assert_int_eq(virtio_state(&net->vdev, st), 0);
		ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
		net->mode.pairs = 1;
		ck_assert_int_lt(test_load(state_fn, &net->vdev, data, len), 0);
		state_free(st);
		virtio_resume(&net->vdev);
	}
}
END_TEST

/* The other end hangs up: link down, and what is sent goes nowhere. */
START_TEST(backend_gone)
{
	struct virtio_net_config c;

	driver_start(&d, NET_BIT(STATUS));
	if (_i == 0) { /* found out by a read, or by the loop alone */
		add_rx(RXQ, 4, 1600);
		driver_kick(&d, RXQ);
	}
	driver_run(&d);
	if (_i == 1) {
		net->pair[0].tx_blocked = true;
		net_watch(&net->pair[0]);
	}
	close(fake->wire[0]);
	fake->wire[0] = -1;
	driver_run(&d);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.status, 0);
	ck_assert_uint_eq(d.config_interrupts, 1);
	ck_assert_uint_eq(net->pair[0].lfd.events, 0);
	send_some(3);
	for (int i = 0; i < 3; i++)
		driver_wait(&d, TXQ, NULL, NULL);
	ck_assert_uint_eq(net->stats.tx, 0);
	/* For ever. */
	net->link.changed(&net->link, true);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.status, 0);
}
END_TEST

START_TEST(link_follows)
{
	struct virtio_net_config c;

	driver_start(&d, NET_BIT(STATUS));
	net->link.changed(&net->link, false);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.status, 0);
	net->link.changed(&net->link, false);
	ck_assert_uint_eq(d.config_interrupts, 1);
	net->link.changed(&net->link, true);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_uint_eq(c.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(d.config_interrupts, 2);
}
END_TEST

START_TEST(bad_receive_buffers)
{
	uint64_t gpa;

	driver_start(&d, _i & 1 ? MRG : 0);
	gpa = driver_alloc(&d, 4096);
	if (_i < 2)
		driver_add(&d, RXQ, (struct driver_buf[]){ { gpa, 11, true } }, 1);
	else
		driver_add(&d, RXQ,
			   (struct driver_buf[]){ { gpa, 16, false }, { gpa, 2000, true } }, 2);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	ck_assert_uint_eq(net->pair[0].lfd.events, 0);
	driver_start(&d, 0);
	add_rx(RXQ, 4, 1600);
	driver_kick(&d, RXQ);
	driver_run(&d);
	ck_assert(watched(0, EPOLLIN));
}
END_TEST

/* On a thread of its own, with a driver that resets it while packets fly. */
START_TEST(own_thread)
{
	uint8_t packet[NET_HDR + 60];

	unmake();
	opt.iothread = true;
	make(1);
	for (int i = 0; i < 20; i++) {
		driver_start(&d, MRG);
		d.heap = DRIVER_HEAP;
		add_rx(RXQ, 40, 1600);
		driver_notify(&d, RXQ);
		send_some(20);
		driver_notify(&d, TXQ);
		for (uint8_t j = 0; j < 10; j++)
			(void)!write(fake->wire[0], packet, make_packet(packet, our_mac, 60, j));
		for (int j = 0; j < i; j++)
			driver_wait(&d, TXQ, NULL, NULL);
		while (wire_receive(0, packet, sizeof(packet)) > 0)
			;
	}
}
END_TEST

/* --- Options --- */

#define TEXT(s) ((char[]){ s })

START_TEST(option_check)
{
	const struct {
		struct net_options opt;
		const char *says; /* NULL: good */
	} cases[] = {
		{ { .tap = TEXT("t") }, NULL },
		{ { .user = true }, NULL },
		{ { .fd = 3 }, NULL },
		{ { 0 }, "one of tap=NAME" },
		{ { .tap = TEXT("t"), .user = true }, "more than one" },
		{ { .tap = TEXT("") }, "1 to 15" },
		{ { .tap = TEXT("sixteen-letters-") }, "1 to 15" },
		{ { .tap = TEXT("a/b") }, "1 to 15" },
		{ { .tap = TEXT("tap%d") }, "1 to 15" },
		{ { .tap = TEXT("t"), .tcp = TEXT("80") }, "tcp=" },
		{ { .tap = TEXT("t"), .udp = TEXT("80") }, "udp=" },
		{ { .tap = TEXT("t"), .host = true }, "needs user" },
		{ { .user = true, .tcp = TEXT("80+443:4430") }, NULL },
		{ { .user = true, .tcp = TEXT("80,443") }, "no forward" },
		{ { .user = true, .queues = 2 }, "queues=" },
		{ { .user = true, .vhost = NET_VHOST_ON }, "vhost=on" },
		{ { .fd = 3, .queues = 2 }, "queues=" },
		{ { .tap = TEXT("t"), .vhost = NET_VHOST_ON, .bw = 1 }, "vhost=on" },
		{ { .tap = TEXT("t"), .vhost = NET_VHOST_ON, .pps = 1 }, "vhost=on" },
		{ { .tap = TEXT("t"), .vhost = NET_VHOST_ON, .iothread = true }, "iothread" },
		{ { .tap = TEXT("t"), .bw_burst = 1 }, "bw-burst=" },
		{ { .tap = TEXT("t"), .pps_burst = 1 }, "pps-burst=" },
		{ { .tap = TEXT("t"), .mac = TEXT("52:54:00:12:34:56") }, NULL },
		{ { .tap = TEXT("t"), .mac = TEXT("52:54:00:12:34:5") }, "mac=" },
		{ { .tap = TEXT("t"), .mac = TEXT("52:54:00:12:34:567") }, "mac=" },
		{ { .tap = TEXT("t"), .mac = TEXT("52:54:00:12:34: 6") }, "mac=" },
		{ { .tap = TEXT("t"), .mac = TEXT("52-54-00-12-34-56") }, "mac=" },
		{ { .tap = TEXT("t"), .mac = TEXT("53:54:00:12:34:56") }, "group" },
		{ { .tap = TEXT("t"), .mac = TEXT("00:00:00:00:00:00") }, "zero" },
		{ { .tap = TEXT("t"), .mac = TEXT("") }, "mac=" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err why = ERR_INIT;
		int r = virtio_net_ops.check(&cases[i].opt, &why);

		ck_assert_msg((r == 0) == (cases[i].says == NULL), "case %zu: %s", i, why.msg);
		ck_assert_msg(r == 0 || strstr(why.msg, cases[i].says) != NULL, "case %zu: %s", i,
			      why.msg);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtio_net");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, configuration);
	tcase_add_test(tc, stable_mac);
	tcase_add_loop_test(tc, send_shapes, 0, 2);
	tcase_add_test(tc, send_headers);
	tcase_add_test(tc, send_nothing_and_too_much);
	tcase_add_test(tc, send_blocked);
	tcase_add_loop_test(tc, receive_whole, 0, 2);
	tcase_add_loop_test(tc, receive_split_header, 0, 2);
	tcase_add_test(tc, receive_too_long);
	tcase_add_test(tc, receive_merged);
	tcase_add_test(tc, receive_held);
	tcase_add_test(tc, receive_never_fits);
	tcase_add_test(tc, receive_many_segments);
	tcase_add_loop_test(tc, receive_dry, 0, 2);
	tcase_add_test(tc, receive_drained);
	tcase_add_loop_test(tc, filters, 0, 2);
	tcase_add_test(tc, vlan_filter);
	tcase_add_test(tc, long_table);
	tcase_add_test(tc, control_mac);
	tcase_add_test(tc, control_offloads);
	tcase_add_test(tc, control_mistakes);
	tcase_add_test(tc, pairs);
	tcase_add_test(tc, pairs_not_negotiated);
	tcase_add_test(tc, rate_stops);
	tcase_add_test(tc, rate_goes_on);
	tcase_add_test(tc, resets);
	tcase_add_test(tc, save_and_load);
	tcase_add_test(tc, load_lies);
	tcase_add_loop_test(tc, backend_gone, 0, 2);
	tcase_add_test(tc, link_follows);
	tcase_add_loop_test(tc, bad_receive_buffers, 0, 4);
	tcase_add_test(tc, own_thread);
	tcase_add_test(tc, option_check);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
