// SPDX-License-Identifier: Apache-2.0
/*
 * Sends UDP packets from one machine to another and checks every byte of every one.
 *
 *   packets serve PORT                      wait for one of the following, do its other half
 *   packets send ADDRESS PORT COUNT         send COUNT packets there
 *   packets receive ADDRESS PORT COUNT      have COUNT packets sent here
 *
 * Both ends print "packets COUNT sent, COUNT received, N lost, N twice, N late, N bad" and their
 * status is 0 if all came, once and unharmed ("late" ones were overtaken, as can happen with
 * several queues). Lengths vary from 16 bytes to an Ethernet frame's worth, contents follow from
 * the number of the packet, so nothing can be exchanged unnoticed.
 *
 * UDP may lose packets where a queue is full, which is nobody's fault. So that none ever is, the
 * sender has at most WINDOW packets on the way: the receiver says with every GRANT-th how many it
 * has seen. What is lost then was lost by a device or its driver. A sender that hears nothing for
 * PATIENCE seconds asks; the receiver then counts what is missing as lost, and both go on.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW	 256
#define GRANT	 64
#define BATCH	 32
#define PATIENCE 3 /* seconds */
#define HELLOS	 100
#define LENGTH	 1472
#define HEADER	 16
#define SOCKBUF	 (8 << 20)

enum kind { HELLO_SEND = 0x766d6d30, HELLO_RECEIVE, DATA, SEEN, ASK, REPORT };

/* Every packet begins so; little-endian. HELLO and REPORT: a is the number of packets. */
struct header {
	uint32_t kind;
	uint32_t length;
	uint64_t number;
};

struct report {
	struct header h;
	uint64_t received, lost, twice, late, bad;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static void die(const char *what)
{
	fprintf(stderr, "packets: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct header header(enum kind kind, uint32_t length, uint64_t number)
{
	return (struct header){ htole32(kind), htole32(length), htole64(number) };
}

/* The contents of packet @number after its header: a simple generator, seeded with it. */
static size_t fill(void *packet, uint64_t number)
{
	uint64_t x = mix(number + 1), *word = (uint64_t *)packet + 2;
	size_t length = HEADER + x % (LENGTH - HEADER + 1), i;

	*(struct header *)packet = header(DATA, length, number);
	for (i = HEADER; i < length; i += 8) {
		x = x * 6364136223846793005 + 1442695040888963407;
		*word++ = htole64(x ^ (x >> 32));
	}
	return length;
}

/* Is there something to read within @seconds? */
static bool wait_for(int fd, int seconds)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, seconds * 1000) > 0;
}

static void say(int fd, enum kind kind, uint64_t number)
{
	struct header h = header(kind, sizeof(h), number);

	if (send(fd, &h, sizeof(h), 0) < 0 && errno != ECONNREFUSED)
		die("send");
}

static int result(uint64_t count, const struct report *r)
{
	printf("packets %llu sent, %llu received, %llu lost, %llu twice, %llu late, %llu bad\n",
	       (unsigned long long)count, (unsigned long long)le64toh(r->received),
	       (unsigned long long)le64toh(r->lost), (unsigned long long)le64toh(r->twice),
	       (unsigned long long)le64toh(r->late), (unsigned long long)le64toh(r->bad));
	return le64toh(r->received) != count || r->lost || r->twice || r->bad;
}

static int send_all(int fd, uint64_t count)
{
	static uint64_t packet[BATCH][LENGTH / 8 + 1];
	static struct mmsghdr m[BATCH];
	static struct iovec iov[BATCH];
	struct report r;
	uint64_t next = 0, seen = 0;
	int n, done, silent = 0;

	for (n = 0; n < BATCH; n++) {
		iov[n].iov_base = packet[n];
		m[n].msg_hdr.msg_iov = &iov[n];
		m[n].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		for (n = 0; n < BATCH && next + n < count && next + n < seen + WINDOW; n++)
			iov[n].iov_len = fill(packet[n], next + n);
		for (done = 0; done < n;) {
			int sent = sendmmsg(fd, m + done, n - done, 0);

			if (sent < 0 && errno != ENOBUFS)
				die("sendmmsg");
			done += sent < 0 ? 0 : sent;
		}
		next += n;
		if (next < count && next + BATCH <= seen + WINDOW)
			continue;
		if (!wait_for(fd, PATIENCE)) {
			if (silent++ == 10) {
				printf("packets: nobody answers after packet %llu\n",
				       (unsigned long long)next);
				return 1;
			}
			say(fd, ASK, next);
			continue;
		}
		silent = 0;
		if (recv(fd, &r, sizeof(r), 0) < (ssize_t)sizeof(r.h))
			continue;
		if (r.h.kind == htole32(SEEN) && le64toh(r.h.number) > seen)
			seen = le64toh(r.h.number);
		if (r.h.kind == htole32(REPORT))
			return result(count, &r);
	}
}

static int receive_all(int fd, uint64_t count)
{
	static uint64_t packet[BATCH][2048 / 8], expected[LENGTH / 8 + 1];
	static struct mmsghdr m[BATCH];
	static struct iovec iov[BATCH];
	uint64_t next = 0, granted = 0, number, received = 0, lost = 0, twice = 0, late = 0,
		 bad = 0;
	uint8_t *have = calloc(1, count);
	struct report r;
	int n, i;

	if (!have)
		die("no memory");
	for (i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ packet[i], sizeof(packet[i]) };
		m[i].msg_hdr.msg_iov = &iov[i];
		m[i].msg_hdr.msg_iovlen = 1;
	}
	while (next < count) {
		if (!wait_for(fd, PATIENCE * 11)) {
			printf("packets: nothing comes after packet %llu\n",
			       (unsigned long long)next);
			break;
		}
		n = recvmmsg(fd, m, BATCH, MSG_DONTWAIT, NULL);
		for (i = 0; i < n; i++) {
			const struct header *h = (struct header *)packet[i];

			number = le64toh(h->number);
			if (m[i].msg_len == sizeof(*h) && h->kind == htole32(ASK) &&
			    number <= count) {
				/* All that is still on its way has come: see PATIENCE. */
				for (; next < number; next++)
					lost += !have[next];
				say(fd, SEEN, next);
				continue;
			}
			if (h->kind == htole32(HELLO_SEND) || h->kind == htole32(HELLO_RECEIVE))
				continue;
			if (h->kind != htole32(DATA) || number >= count ||
			    fill(expected, number) != m[i].msg_len ||
			    memcmp(expected, packet[i], m[i].msg_len) != 0) {
				bad++;
				continue;
			}
			if (have[number]) {
				twice++;
				continue;
			}
			have[number] = 1;
			received++;
			/* Was it overtaken, or was one given up that came? */
			if (number != next)
				late++;
			while (next < count && have[next])
				next++;
			if (next - granted >= GRANT)
				say(fd, SEEN, granted = next);
		}
	}
	r = (struct report){ header(REPORT, sizeof(r), count),
			     htole64(received),
			     htole64(lost),
			     htole64(twice),
			     htole64(late),
			     htole64(bad) };
	/* More than once, as this one may be lost too. */
	for (i = 0; i < 5; i++)
		if (send(fd, &r, sizeof(r), 0) < 0)
			break;
	free(have);
	return result(count, &r);
}

/* Connect to whoever says what he wants. */
static int serve(int fd)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	struct header h;

	do {
		len = sizeof(peer);
		if (recvfrom(fd, &h, sizeof(h), 0, (struct sockaddr *)&peer, &len) < 0)
			die("recvfrom");
	} while (h.kind != htole32(HELLO_SEND) && h.kind != htole32(HELLO_RECEIVE));
	if (connect(fd, (struct sockaddr *)&peer, len) < 0)
		die("connect");
	if (h.kind == htole32(HELLO_RECEIVE))
		return send_all(fd, le64toh(h.number));
	say(fd, SEEN, 0);
	return receive_all(fd, le64toh(h.number));
}

int main(int argc, char **argv)
{
	bool server = argc == 3 && strcmp(argv[1], "serve") == 0;
	bool sender = argc == 5 && strcmp(argv[1], "send") == 0;
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct header h;
	struct timespec from, to;
	uint64_t count;
	int fd, i, size = SOCKBUF, status;

	if (!server && !sender && (argc != 5 || strcmp(argv[1], "receive") != 0)) {
		fprintf(stderr, "usage: packets serve PORT\n"
				"       packets send|receive ADDRESS PORT COUNT\n");
		return 2;
	}
	address.sin_port = htons(atoi(argv[server ? 2 : 3]));
	if (!server && inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
		fprintf(stderr, "packets: %s is no address\n", argv[2]);
		return 2;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		die("SO_RCVBUFFORCE");
	if (server) {
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			die("bind");
		return serve(fd);
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	count = strtoull(argv[4], NULL, 0);
	for (i = 0; i < HELLOS; i++) {
		say(fd, sender ? HELLO_SEND : HELLO_RECEIVE, count);
		if (wait_for(fd, 1) && recv(fd, &h, sizeof(h), sender ? 0 : MSG_PEEK) > 0)
			break;
		usleep(100000); /* refused: it is not there yet */
	}
	if (i == HELLOS) {
		printf("packets: no answer from %s\n", argv[2]);
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	status = sender ? send_all(fd, count) : receive_all(fd, count);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("packets took %.1f s\n",
	       (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9);
	return status;
}
