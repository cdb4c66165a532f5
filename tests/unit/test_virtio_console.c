// SPDX-License-Identifier: Apache-2.0
/*
 * The console device: ports behind sockets and ptys, output and input in both directions under
 * pressure, control messages, sizes, emergency writes, reset, saving.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/virtio_console.h"
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"

#define PORTS	  3
#define MULTIPORT (1ULL << VIRTIO_CONSOLE_F_MULTIPORT)
#define EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)

static struct driver d;
static struct chardevs chardevs;
static const struct virtio_ops *ops;
static struct virtio_device *vdev;
static struct err err;
static char dir[64], path[PORTS][96];
static struct console_options options[PORTS];
static struct test_output heard;

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == VIRTIO_ID_CONSOLE)
			ops = virtio_kind(i);
	ck_assert_ptr_nonnull(ops);
	strcpy(dir, "/tmp/test_consoleXXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (unsigned i = 0; i < PORTS; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/port%u", dir, i);
		options[i] = (struct console_options){ .chr = { .to = CHARDEV_SOCKET,
								.path = path[i] } };
	}
	driver_init(&d);
	chardevs = (struct chardevs){ .owner = &heard, .printed = test_printed };
	d.host.chardevs = &chardevs;
	heard.n = 0;
	vdev = NULL;
}

static void make(unsigned n)
{
	vdev = ops->create(options, n, 0, &d.host, &err);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
	ck_assert_msg(chardevs_start(&chardevs, &err) == 0, "%s", err.msg);
}

static void teardown(void)
{
	if (vdev != NULL) {
		driver_detach(&d);
		ops->destroy(vdev);
	}
	ck_assert_ptr_null(chardevs.first);
	driver_fini(&d);
	ck_assert_int_eq(rmdir(dir), 0); /* no socket is left */
}

static int client(unsigned i)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path[i]);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	driver_run(&d);
	return fd;
}

/* What @fd has for us now, as a string. */
static const char *got(int fd)
{
	static char buf[8192];
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

static void say(unsigned q, const char *text)
{
	driver_add(&d, q,
		   (struct driver_buf[]){
			   { driver_data(&d, text, strlen(text)), (uint32_t)strlen(text), false } },
		   1);
	driver_kick(&d, q);
	driver_run(&d);
}

/* A buffer of @len bytes for input. */
static uint64_t offer(unsigned q, uint32_t len)
{
	uint64_t gpa = driver_alloc(&d, len);

	driver_add(&d, q, (struct driver_buf[]){ { gpa, len, true } }, 1);
	return gpa;
}

static void ctrl(uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control msg = { .id = id, .event = event, .value = value };

	driver_add(
		&d, 3,
		(struct driver_buf[]){ { driver_data(&d, &msg, sizeof(msg)), sizeof(msg), false } },
		1);
	driver_kick(&d, 3);
	driver_run(&d);
	ck_assert(driver_used(&d, 3, NULL, NULL));
}

/* The buffer of the control queue that is next to come back, and a new one in its place. */
static uint64_t control_gpa[64];

static void offer_control(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t gpa = driver_alloc(&d, 128);
		uint16_t head = driver_add(&d, 2, (struct driver_buf[]){ { gpa, 128, true } }, 1);

		control_gpa[head] = gpa;
	}
	driver_kick(&d, 2);
	driver_run(&d);
}

/* The next control message must be this. @more: what follows it. */
static void expect(uint32_t id, uint16_t event, uint16_t value, const void *more, uint32_t len)
{
	struct virtio_console_control msg;
	uint16_t head;
	uint32_t used;

	ck_assert_msg(driver_used(&d, 2, &head, &used), "no message; %u of port %u expected", event,
		      id);
	memcpy(&msg, driver_ptr(&d, control_gpa[head], 128), sizeof(msg));
	ck_assert_uint_eq(msg.event, event);
	ck_assert_uint_eq(msg.id, id);
	ck_assert_uint_eq(msg.value, value);
	ck_assert_uint_eq(used, sizeof(msg) + len);
	if (len > 0)
		ck_assert_mem_eq(driver_ptr(&d, control_gpa[head] + sizeof(msg), len), more, len);
}

static void expect_no_more(void)
{
	ck_assert(!driver_used(&d, 2, NULL, NULL));
}

/* --- One console, no control queues --- */

START_TEST(single)
{
	struct virtio_console_config config;

	make(1);
	ck_assert_uint_eq(vdev->nqueues, 2);
	ck_assert_uint_eq(vdev->features & 7,
			  1 << VIRTIO_CONSOLE_F_SIZE | 1 << VIRTIO_CONSOLE_F_EMERG_WRITE);
	driver_start(&d, _i ? EVENT_IDX : 0);
	driver_config_read(&d, 0, &config, sizeof(config));
	ck_assert_uint_eq(config.cols, 0);
	ck_assert_uint_eq(config.max_nr_ports, 1);

	int fd = client(0);
	uint64_t in = offer(0, 16);
	uint32_t len;

	say(1, "hello");
	ck_assert_str_eq(got(fd), "hello");
	ck_assert(driver_used(&d, 1, NULL, &len));
	ck_assert_uint_eq(len, 0);
	ck_assert_mem_eq(heard.data, "hello", 5);
	ck_assert_uint_eq(heard.n, 5);

	ck_assert_int_eq(write(fd, "input that is long", 18), 18);
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 16);
	ck_assert_mem_eq(driver_ptr(&d, in, 16), "input that is lo", 16);
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	in = offer(0, 16);
	ck_assert(driver_kick(&d, 0)); /* it waits for that */
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 2);
	ck_assert_mem_eq(driver_ptr(&d, in, 2), "ng", 2);
	ck_assert_uint_eq(driver_latencies(&d), 1); /* of output */
	close(fd);
}
END_TEST

/* Chains of several segments, several chains: one after the other, nothing else. */
START_TEST(batch)
{
	char text[4096] = "";
	uint64_t across = DRIVER_RAM - 3; /* two regions */

	make(1);
	driver_start(&d, 0);
	int fd = client(0);

	ck_assert_int_eq(gmem_write(&d.mem, across, "region", 6), 0);
	for (unsigned i = 0; i < 20; i++) {
		char word[32];
		int n = snprintf(word, sizeof(word), "<%u>", i);
		uint64_t a = driver_data(&d, word, (uint64_t)n), b = driver_data(&d, "bb", 2);

		driver_add(&d, 1,
			   (struct driver_buf[]){ { a, (uint32_t)n, false },
						  { across, 6, false },
						  { b, 2, false } },
			   3);
		strcat(text, word);
		strcat(text, "regionbb");
	}
	driver_kick(&d, 1);
	driver_run(&d);
	ck_assert_str_eq(got(fd), text);
	for (unsigned i = 0; i < 20; i++)
		ck_assert(driver_used(&d, 1, NULL, NULL));
	close(fd);
}
END_TEST

/* A client that reads slowly gets everything, in order, and the queue keeps what waits. */
START_TEST(slow_reader)
{
	static uint8_t sent[40][5000];
	uint64_t gpa[40];
	size_t done = 0;
	uint8_t buf[777];
	unsigned chains = 0, back = 0;

	make(1);
	driver_start(&d, EVENT_IDX);
	int fd = client(0);

	for (unsigned i = 0; i < 40; i++) {
		for (unsigned k = 0; k < sizeof(sent[i]); k++)
			sent[i][k] = (uint8_t)(rand() >> 7);
		gpa[i] = driver_data(&d, sent[i], sizeof(sent[i]));
	}
	/* Ten times 200 KB: more than a socket holds. */
	while (back < 400 || done < 10 * sizeof(sent)) {
		while (chains < 400 && chains - back < 30) { /* 60 descriptors of 64 */
			unsigned i = chains++ % 40;

			driver_add(&d, 1,
				   (struct driver_buf[]){ { gpa[i], 2500, false },
							  { gpa[i] + 2500, 2500, false } },
				   2);
		}
		driver_kick(&d, 1);
		loop_run_once(d.loop, 0);
		for (int k = 0; k < 3; k++) {
			ssize_t n = read(fd, buf, sizeof(buf));

			for (ssize_t j = 0; j < n; j++, done++)
				ck_assert_uint_eq(buf[j], ((uint8_t *)sent)[done % sizeof(sent)]);
		}
		loop_run_once(d.loop, 0);
		while (driver_used(&d, 1, NULL, NULL))
			back++;
	}
	ck_assert_uint_eq(done, 10 * sizeof(sent));
	ck_assert_uint_eq(back, 400);
	close(fd);
}
END_TEST

/* A chain written in part, then a reset: the next life's output is whole. */
START_TEST(reset_in_the_middle)
{
	static char big[300000];
	uint64_t gpa;
	int fd;

	memset(big, 'a', sizeof(big));
	make(1);
	driver_start(&d, 0);
	fd = client(0);
	gpa = driver_data(&d, big, sizeof(big));
	for (int i = 0; i < 4; i++) /* more than the socket takes */
		driver_add(&d, 1, (struct driver_buf[]){ { gpa, sizeof(big), false } }, 1);
	driver_kick(&d, 1);
	driver_run(&d);
	while (driver_used(&d, 1, NULL, NULL))
		;
	driver_start(&d, 0);
	say(1, "after");
	ck_assert(!driver_used(&d, 1, NULL, NULL)); /* the client is still full */
	for (;;) {
		static char buf[100000];
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0) {
			driver_run(&d);
			n = read(fd, buf, sizeof(buf));
		}
		ck_assert_int_gt(n, 0);
		if (buf[n - 1] == 'a')
			continue;
		ck_assert_mem_eq(buf + n - 5, "after", 5);
		break;
	}
	driver_run(&d);
	ck_assert(driver_used(&d, 1, NULL, NULL));
	close(fd);
}
END_TEST

/* Input waits outside until there are buffers; none is lost when they are few. */
START_TEST(input_waits)
{
	char text[3000], all[3000];
	size_t n = 0;

	make(1);
	driver_start(&d, EVENT_IDX);
	int fd = client(0);
	int left;

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 23);
	ck_assert_int_eq(write(fd, text, sizeof(text)), sizeof(text));
	driver_run(&d);
	ck_assert_int_eq(ioctl(fd, TIOCOUTQ, &left), 0);
	ck_assert_int_gt(left, 0); /* not read yet */
	while (n < sizeof(text)) {
		uint64_t gpa = offer(0, 100);
		uint32_t len;

		driver_kick(&d, 0);
		driver_wait(&d, 0, NULL, &len);
		ck_assert_uint_le(len, 100);
		ck_assert_int_eq(gmem_read(&d.mem, gpa, all + n, len), 0);
		n += len;
	}
	ck_assert_uint_eq(n, sizeof(text));
	ck_assert_mem_eq(all, text, n);
	close(fd);
}
END_TEST

/* Buffers without room are given back, and do not keep the loop. */
START_TEST(empty_buffers)
{
	make(1);
	driver_start(&d, 0);
	int fd = client(0);
	uint64_t gpa = driver_data(&d, "x", 1);

	for (int i = 0; i < 63; i++) /* for the device to read, in a queue it writes to */
		driver_add(&d, 0, (struct driver_buf[]){ { gpa, 1, false } }, 1);
	offer(0, 10);
	driver_kick(&d, 0);
	ck_assert_int_eq(write(fd, "input", 5), 5);
	driver_run(&d);
	for (int i = 0; i < 63; i++) {
		uint32_t len;

		ck_assert(driver_used(&d, 0, NULL, &len));
		ck_assert_uint_eq(len, 0);
	}
	driver_wait(&d, 0, NULL, &(uint32_t){ 0 });
	close(fd);
}
END_TEST

/* Clients: what was printed before is kept for the next; one at a time; half-closed. */
START_TEST(clients)
{
	uint32_t len;
	uint64_t in;

	make(1);
	driver_start(&d, 0);
	say(1, "early ");
	say(1, "words");
	ck_assert_uint_eq(heard.n, 11);

	int a = client(0);

	ck_assert_str_eq(got(a), "early words");
	int b = client(0);

	say(1, "to a");
	ck_assert_str_eq(got(a), "to a");
	ck_assert_str_eq(got(b), "");
	ck_assert_int_eq(write(b, "from b", 6), 6);

	/* a stops to send, and still reads. */
	shutdown(a, SHUT_WR);
	in = offer(0, 64);
	driver_kick(&d, 0);
	driver_run(&d);
	say(1, "still");
	ck_assert_str_eq(got(a), "still");
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	close(a);
	driver_run(&d);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 6);
	ck_assert_mem_eq(driver_ptr(&d, in, 6), "from b", 6);

	/* b leaves with words the guest has no room for; they wait. */
	ck_assert_int_eq(write(b, "last", 4), 4);
	close(b);
	driver_run(&d);
	say(1, "kept");
	in = offer(0, 64);
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_mem_eq(driver_ptr(&d, in, 4), "last", 4);
	driver_run(&d);
	a = client(0);
	ck_assert_str_eq(got(a), "kept");

	/* ... but not for ever: the next client is not kept waiting. */
	in = offer(0, 2);
	driver_kick(&d, 0);
	ck_assert_int_eq(write(a, "no room", 7), 7);
	driver_run(&d);
	ck_assert_int_eq(write(a, "nor here", 8), 8);
	close(a);
	driver_run(&d);
	b = client(0);
	say(1, "b again");
	ck_assert_str_eq(got(b), "b again");
	close(b);
}
END_TEST

/* Of much output without a client the end is kept. */
START_TEST(kept_is_bounded)
{
	static char big[100000], buf[70000];
	uint64_t gpa;
	size_t n = 0;
	ssize_t r;

	make(1);
	driver_start(&d, 0);
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (char)(i / 1000 + i % 7);
	gpa = driver_data(&d, big, sizeof(big));
	driver_add(&d, 1, (struct driver_buf[]){ { gpa, 60000, false } }, 1);
	driver_add(&d, 1, (struct driver_buf[]){ { gpa + 60000, 40000, false } }, 1);
	driver_kick(&d, 1);
	driver_run(&d);
	ck_assert(driver_used(&d, 1, NULL, NULL) && driver_used(&d, 1, NULL, NULL));
	int fd = client(0);

	while ((r = read(fd, buf + n, sizeof(buf) - n)) > 0) {
		n += (size_t)r;
		driver_run(&d);
	}
	ck_assert_uint_eq(n, 65536);
	ck_assert_mem_eq(buf, big + sizeof(big) - n, n);
	close(fd);
}
END_TEST

START_TEST(socket_files)
{
	struct console_options o = options[0];
	struct virtio_device *other;
	char longer[200], text[256];
	struct stat st;
	int fd;

	make(1);
	ck_assert_int_eq(stat(path[0], &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	/* Somebody listens. */
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	snprintf(text, sizeof(text),
		 "console socket %s: another program listens there; name another path", path[0]);
	ck_assert_str_eq(err.msg, text);
	ck_assert_int_eq(stat(path[0], &st), 0);
	/* Not a socket. */
	o.chr.path = path[1];
	fd = open(path[1], O_CREAT | O_WRONLY, 0600);
	close(fd);
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "not a socket; remove it"));
	ck_assert_int_eq(unlink(path[1]), 0);
	/* Left behind: replaced. */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	strcpy(addr.sun_path, path[1]);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	other = ops->create(&o, 1, 0, &d.host, &err);
	ck_assert_msg(other != NULL, "%s", err.msg);
	ops->destroy(other);
	ck_assert_int_lt(stat(path[1], &st), 0);
	/* Replaced by somebody else meanwhile: theirs stays. */
	other = ops->create(&o, 1, 0, &d.host, &err);
	ck_assert_int_eq(unlink(path[1]), 0);
	fd = open(path[1], O_CREAT | O_WRONLY, 0600);
	close(fd);
	ops->destroy(other);
	ck_assert_int_eq(unlink(path[1]), 0);
	/* Too long. */
	memset(longer, 'x', sizeof(longer));
	longer[150] = '\0';
	o.chr.path = longer;
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	ck_assert_ptr_nonnull(
		strstr(err.msg, "the path has 150 bytes, that of a socket at most 107"));
	snprintf(longer, sizeof(longer), "%s/nowhere/x", dir);
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "cannot bind: No such file or directory"));
}
END_TEST

/* --- Emergency writes, flush --- */

START_TEST(emergency)
{
	uint32_t word = 'A';

	make(1); /* no driver at all */
	driver_config_write(&d, 8, &word, 4);
	word = 'B';
	driver_config_write(&d, 8, &word, 1);
	driver_config_write(&d, 0, &word, 4); /* not the register */
	driver_config_write(&d, 9, &word, 1);
	driver_run(&d);
	ck_assert_uint_eq(heard.n, 2);
	ck_assert_mem_eq(heard.data, "AB", 2);
	driver_start(&d, 0);
	for (int i = 0; i < 10000; i++) {
		word = 'C';
		driver_config_write(&d, 8, &word, 4);
	}
	driver_run(&d); /* what is too much is lost */
	ck_assert_uint_eq(heard.n, 2 + 4096);
	say(1, "D");
	ck_assert_uint_eq(heard.n, 3 + 4096);
	ck_assert_int_eq(heard.data[heard.n - 1], 'D');
}
END_TEST

/* Output the device was not even kicked for is out after a flush. */
START_TEST(flush)
{
	make(1);
	driver_start(&d, 0);
	driver_run(&d);
	int fd = client(0);

	driver_add(&d, 1, (struct driver_buf[]){ { driver_data(&d, "bye", 3), 3, false } }, 1);
	chardevs_flush(&chardevs);
	ck_assert_str_eq(got(fd), "bye");
	ck_assert(driver_used(&d, 1, NULL, NULL));
	driver_add(&d, 1, (struct driver_buf[]){ { driver_data(&d, "end", 3), 3, false } }, 1);
	chardevs_drain(&chardevs, false, -1);
	ck_assert_str_eq(got(fd), "end");
	close(fd);
}
END_TEST

/* --- Several ports --- */

static void make_ports(void)
{
	options[0].name = (char *)"agent"; /* a console comes first all the same */
	make(PORTS);
	ck_assert_uint_eq(vdev->nqueues, 2 + 2 * PORTS);
	ck_assert_uint_eq(vdev->features >> VIRTIO_CONSOLE_F_MULTIPORT & 1, 1);
}

START_TEST(handshake)
{
	make_ports();
	driver_start(&d, MULTIPORT | EVENT_IDX);
	offer_control(32);
	expect_no_more();
	ctrl(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned i = 0; i < PORTS; i++)
		expect(i, VIRTIO_CONSOLE_PORT_ADD, 1, NULL, 0);
	expect_no_more();
	ctrl(0, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL, 0);
	ctrl(1, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(1, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL, 0);
	ctrl(2, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(2, VIRTIO_CONSOLE_PORT_NAME, 1, "agent", 5);
	expect_no_more();
	/* Nonsense. */
	ctrl(77, VIRTIO_CONSOLE_PORT_READY, 1);
	ctrl(0xffffffff, VIRTIO_CONSOLE_PORT_OPEN, 1);
	ctrl(0, 99, 1);
	ctrl(2, VIRTIO_CONSOLE_PORT_READY, 0);
	driver_add(&d, 3, (struct driver_buf[]){ { driver_alloc(&d, 8), 3, false } }, 1);
	driver_kick(&d, 3);
	driver_run(&d);
	ck_assert(driver_used(&d, 3, NULL, NULL));
	expect_no_more();

	/* The client of port 2 comes and goes: the options' first. */
	int fd = client(0);

	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL, 0);
	close(fd);
	driver_run(&d);
	ctrl(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
	offer(6, 10);
	driver_kick(&d, 6);
	driver_run(&d);
	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL, 0);
	expect_no_more();
	/* Ready once more, with a client there: all of it again. */
	fd = client(0);
	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL, 0);
	ctrl(2, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(2, VIRTIO_CONSOLE_PORT_NAME, 1, "agent", 5);
	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL, 0);
	close(fd);
}
END_TEST

/* Without buffers messages wait, and do not pile up. */
START_TEST(news_wait)
{
	make_ports();
	driver_start(&d, MULTIPORT | EVENT_IDX);
	for (int i = 0; i < 100; i++) {
		ctrl(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
		ctrl(1, VIRTIO_CONSOLE_PORT_READY, 1);
	}
	offer_control(2);
	expect(0, VIRTIO_CONSOLE_PORT_ADD, 1, NULL, 0);
	expect(1, VIRTIO_CONSOLE_PORT_ADD, 1, NULL, 0);
	offer_control(10);
	expect(2, VIRTIO_CONSOLE_PORT_ADD, 1, NULL, 0);
	expect(1, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL, 0);
	expect_no_more();
	ck_assert_uint_gt(atomic_load(&d.queue[2].interrupts), 0);
}
END_TEST

/* Each port has its own queues; input comes when the guest has opened the port. */
START_TEST(ports)
{
	uint64_t in[PORTS];
	uint32_t len;
	int fd[PORTS];
	static const unsigned option_of[PORTS] = { 1, 2, 0 };

	make_ports();
	driver_start(&d, MULTIPORT);
	offer_control(32);
	ctrl(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned i = 0; i < PORTS; i++) {
		unsigned rx = i == 0 ? 0 : 2 * i + 2;
		char text[8] = { (char)('a' + i), '\0' };

		ctrl(i, VIRTIO_CONSOLE_PORT_READY, 1);
		fd[i] = client(option_of[i]);
		say(rx + 1, text);
		ck_assert_str_eq(got(fd[i]), text);
		in[i] = offer(rx, 10);
		driver_kick(&d, rx);
		ck_assert_int_eq(write(fd[i], "in", 2), 2);
		driver_run(&d);
		ck_assert(!driver_used(&d, rx, NULL, NULL));
		ctrl(i, VIRTIO_CONSOLE_PORT_OPEN, 1);
		driver_wait(&d, rx, NULL, &len);
		ck_assert_mem_eq(driver_ptr(&d, in[i], 2), "in", 2);
		ctrl(i, VIRTIO_CONSOLE_PORT_OPEN, 0);
		in[i] = offer(rx, 10);
		driver_kick(&d, rx);
		ck_assert_int_eq(write(fd[i], "more", 4), 4);
		driver_run(&d);
		ck_assert(!driver_used(&d, rx, NULL, NULL));
	}
	/* What programs say to programs is no console output. */
	ck_assert_uint_eq(heard.n, 2);
	ck_assert_mem_eq(heard.data, "ab", 2);
	for (unsigned i = 0; i < PORTS; i++)
		close(fd[i]);
}
END_TEST

/* A driver without MULTIPORT has port 0, without asking. */
START_TEST(simple_driver)
{
	uint32_t len;
	uint64_t in;

	make_ports();
	driver_start(&d, 0);
	offer_control(4);
	in = offer(0, 10);
	driver_kick(&d, 0);
	int fd = client(1);

	say(1, "out");
	ck_assert_str_eq(got(fd), "out");
	ck_assert_int_eq(write(fd, "in", 2), 2);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_mem_eq(driver_ptr(&d, in, 2), "in", 2);
	/* The others are dead. */
	int other = client(2);

	say(5, "nothing");
	ck_assert_str_eq(got(other), "");
	expect_no_more();
	close(fd);
	close(other);
}
END_TEST

/* --- Sizes --- */

START_TEST(sizes)
{
	struct virtio_console_config config;
	struct winsize ws = { .ws_col = 132, .ws_row = 43 };
	static const uint16_t size[] = { 100, 50 };
	int master, slave, in, out;
	unsigned before;
	char name[64];

	/* Standard streams on a terminal of ours. */
	master = posix_openpt(O_RDWR | O_NOCTTY);
	ck_assert(grantpt(master) == 0 && unlockpt(master) == 0);
	ck_assert_int_eq(ptsname_r(master, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY);
	ck_assert_int_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	in = dup(0);
	out = dup(1);
	dup2(slave, 0);
	dup2(slave, 1);
	options[_i].chr = (struct chardev_config){ .to = CHARDEV_STDIO };
	if (_i == 1)
		options[0].name = (char *)"agent";
	make(_i ? PORTS : 1);
	driver_start(&d, 1 << VIRTIO_CONSOLE_F_SIZE | (_i ? MULTIPORT : 0));
	driver_config_read(&d, 0, &config, sizeof(config));
	ck_assert_uint_eq(config.cols, 132);
	ck_assert_uint_eq(config.rows, 43);
	if (_i == 1) {
		offer_control(16);
		ctrl(0, VIRTIO_CONSOLE_PORT_READY, 1);
		expect(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL, 0);
		expect(0, VIRTIO_CONSOLE_RESIZE, 1, (uint16_t[]){ 132, 43 }, 4);
		expect(0, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL, 0);
	}
	before = atomic_load(&d.config_interrupts);
	chardevs_resized(&chardevs); /* it is not */
	driver_run(&d);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), before);
	ws = (struct winsize){ .ws_col = size[0], .ws_row = size[1] };
	ck_assert_int_eq(ioctl(slave, TIOCSWINSZ, &ws), 0);
	chardevs_resized(&chardevs);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), before + 1);
	driver_config_read(&d, 0, &config, sizeof(config));
	ck_assert_uint_eq(config.cols, 100);
	ck_assert_uint_eq(config.rows, 50);
	if (_i == 1) {
		expect(0, VIRTIO_CONSOLE_RESIZE, 1, size, 4);
		expect_no_more();
	}
	dup2(in, 0);
	dup2(out, 1);
	close(in);
	close(out);
	close(slave);
	close(master);
}
END_TEST

/* Loading a pty's input and output: a reader that comes late finds all, as the guest waited. */
START_TEST(pty)
{
	static char big[40000], buf[40000];
	char name[64];
	uint64_t gpa, in;
	uint32_t len;
	size_t n = 0;
	int fd;

	options[0].chr = (struct chardev_config){ .to = CHARDEV_PTY };
	make(1);
	driver_start(&d, 0);
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + i % 26);
	gpa = driver_data(&d, big, sizeof(big));
	driver_add(&d, 1, (struct driver_buf[]){ { gpa, sizeof(big), false } }, 1);
	driver_kick(&d, 1);
	driver_run(&d);
	ck_assert(!driver_used(&d, 1, NULL, NULL)); /* it is full */
	/* The pty is the only one this process has a master of. */
	fd = -1;
	for (int i = 3; i < 256 && fd < 0; i++)
		if (ptsname_r(i, name, sizeof(name)) == 0)
			fd = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	while (n < sizeof(big)) {
		ssize_t r = read(fd, buf + n, sizeof(buf) - n);

		if (r > 0)
			n += (size_t)r;
		loop_run_once(d.loop, 1);
	}
	ck_assert_mem_eq(buf, big, sizeof(big));
	driver_wait(&d, 1, NULL, NULL);
	in = offer(0, 10);
	driver_kick(&d, 0);
	ck_assert_int_eq(write(fd, "typed", 5), 5);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 5);
	ck_assert_mem_eq(driver_ptr(&d, in, 5), "typed", 5);
	close(fd);
}
END_TEST

/* --- State --- */

/* Save @vdev, load it into a new device, and go on with that. */
static void move(unsigned n)
{
	struct virtio_device *other;
	struct state *st = state_new_save();
	const void *data;
	size_t len;

	virtio_quiesce(vdev);
	ck_assert_int_eq(virtio_state(vdev, st), 0);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	/* The sockets are free before the new device takes them. */
	pthread_mutex_lock(&vdev->lock);
	vdev->transport = NULL;
	pthread_mutex_unlock(&vdev->lock);
	ops->destroy(vdev);
	other = ops->create(options, n, 0, &d.host, &err);
	ck_assert_msg(other != NULL, "%s", err.msg);
	struct state *load = state_new_load(data, len, &err);

	ck_assert_int_eq(virtio_state(other, load), 0);
	ck_assert_msg(state_finish(load, NULL, NULL, &err) == 0, "%s", err.msg);
	state_free(load);
	state_free(st);
	vdev = other;
	driver_attach(&d, vdev);
	ck_assert_int_eq(chardevs_start(&chardevs, &err), 0);
	virtio_resume(vdev);
	driver_run(&d);
}

START_TEST(saved)
{
	static char big[300000], buf[300000];
	uint32_t len;
	uint64_t in;
	size_t n = 0, there = 0;
	ssize_t r;
	int fd;

	make_ports();
	driver_start(&d, MULTIPORT | EVENT_IDX);
	offer_control(16);
	ctrl(2, VIRTIO_CONSOLE_PORT_READY, 1);
	expect(2, VIRTIO_CONSOLE_PORT_NAME, 1, "agent", 5);
	fd = client(0);
	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL, 0);
	ctrl(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
	/* Half of a chain is written. */
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (char)(i / 256 ^ i);
	driver_add(
		&d, 7,
		(struct driver_buf[]){ { driver_data(&d, big, sizeof(big)), sizeof(big), false } },
		1);
	driver_kick(&d, 7);
	driver_run(&d);
	ck_assert(!driver_used(&d, 7, NULL, NULL));
	while ((r = read(fd, buf + n, sizeof(buf) - n)) > 0)
		n += (size_t)r;
	there = n;
	ck_assert_uint_lt(there, sizeof(big));

	move(PORTS);
	close(fd);
	/* The client is not there any more. */
	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL, 0);
	driver_run(&d);
	ck_assert(driver_used(&d, 7, NULL, NULL)); /* kept for the next one */
	fd = client(0);
	expect(2, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL, 0);
	n = 0;
	while ((r = read(fd, buf + n, sizeof(buf) - n)) > 0) {
		n += (size_t)r;
		driver_run(&d);
	}
	ck_assert_uint_eq(n, sizeof(big) - there < 65536 ? sizeof(big) - there : 65536);
	ck_assert_mem_eq(buf, big + sizeof(big) - n, n);
	/* It is open still. */
	in = offer(6, 10);
	driver_kick(&d, 6);
	ck_assert_int_eq(write(fd, "in", 2), 2);
	driver_wait(&d, 6, NULL, &len);
	ck_assert_mem_eq(driver_ptr(&d, in, 2), "in", 2);
	close(fd);
}
END_TEST

START_TEST(saved_other_ports)
{
	struct state *st = state_new_save(), *load;
	const void *data;
	size_t len;

	make_ports();
	driver_start(&d, MULTIPORT);
	virtio_quiesce(vdev);
	ck_assert_int_eq(virtio_state(vdev, st), 0);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	vdev->transport = NULL;
	ops->destroy(vdev);
	vdev = ops->create(options, 2, 0, &d.host, &err);
	ck_assert_ptr_nonnull(vdev);
	load = state_new_load(data, len, &err);
	ck_assert_int_lt(virtio_state(vdev, load), 0);
	state_free(load);
	state_free(st);
	driver_attach(&d, vdev);
}
END_TEST

/* --- Options --- */

START_TEST(checks)
{
	struct console_options o = options[0];
	char text[80];

	ck_assert_int_eq(ops->check(&o, &err), 0);
	o.name = (char *)"org.qemu.guest_agent.0";
	ck_assert_int_eq(ops->check(&o, &err), 0);
	for (const char *const *bad =
		     (const char *const[]){ "", "a/b", "a b", "\xc3\xa4", "a\n", NULL };
	     *bad != NULL; bad++) {
		o.name = (char *)*bad;
		ck_assert_int_lt(ops->check(&o, &err), 0);
	}
	memset(text, 'n', sizeof(text));
	text[64] = '\0';
	o.name = text;
	ck_assert_int_lt(ops->check(&o, &err), 0);
	text[63] = '\0';
	ck_assert_int_eq(ops->check(&o, &err), 0);
	o.name = NULL;
	o.chr.path = NULL;
	ck_assert_int_lt(ops->check(&o, &err), 0);
	ck_assert_str_eq(err.msg, "to=socket needs path=PATH");

	options[0].name = options[2].name = (char *)"twice";
	ck_assert_int_eq(opt_check_unique(&ops->option, &(struct opt_list){ options, PORTS }, &err),
			 -EEXIST);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("virtio_console");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, single, 0, 2);
	tcase_add_test(tc, batch);
	tcase_add_test(tc, slow_reader);
	tcase_add_test(tc, reset_in_the_middle);
	tcase_add_test(tc, input_waits);
	tcase_add_test(tc, empty_buffers);
	tcase_add_test(tc, clients);
	tcase_add_test(tc, kept_is_bounded);
	tcase_add_test(tc, socket_files);
	tcase_add_test(tc, emergency);
	tcase_add_test(tc, flush);
	tcase_add_test(tc, handshake);
	tcase_add_test(tc, news_wait);
	tcase_add_test(tc, ports);
	tcase_add_test(tc, simple_driver);
	tcase_add_loop_test(tc, sizes, 0, 2);
	tcase_add_test(tc, pty);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, saved_other_ports);
	tcase_add_test(tc, checks);
	suite_add_tcase(s, tc);
	return test_run(s);
}
