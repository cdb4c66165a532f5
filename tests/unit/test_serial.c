// SPDX-License-Identifier: Apache-2.0
/*
 * The serial port: what Linux does to recognise and to start it, output, input, breaks,
 * loopback, interrupts, saving, and a guest with two threads.
 */
#include <pthread.h>
#include <stdatomic.h>
#include "devices/serial.h"
#include "tests/unit/device_util.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

#define FCR	IIR
#define TX_RING 65536

/* A host side that takes as much as it is told to and keeps it. */
struct backend {
	struct chardev_back back;
	size_t limit; /* takes no more than this in all */
	size_t n, calls;
	unsigned rooms;
	char data[4 * TX_RING];
};

static struct backend host;
static struct test_line line;
static struct loop *loop;
static struct serial *serial;
static struct bus_range *range;
static struct err err;

static size_t host_write(struct chardev_back *back, struct iovec *iov, unsigned n)
{
	struct backend *b = (struct backend *)back; /* first member */
	size_t len = iov->iov_len;

	ck_assert_uint_eq(n, 1);
	if (len > b->limit - b->n)
		len = b->limit - b->n;
	memcpy(b->data + b->n, iov->iov_base, len);
	b->n += len;
	b->calls++;
	return len;
}

static void host_room(struct chardev_back *back)
{
	((struct backend *)back)->rooms++;
}

/* What the host's end does. */
static size_t serial_input(const void *data, size_t len)
{
	return host.back.front->input(host.back.front, data, len);
}

static void serial_break(void)
{
	host.back.front->send_break(host.back.front);
}

static void tx_room(void)
{
	host.back.front->tx_room(host.back.front);
}

static size_t serial_flush(void)
{
	return host.back.front->flush(host.back.front);
}

static uint8_t in(unsigned reg)
{
	return dev_read(range, reg, 1);
}

static void out(unsigned reg, uint8_t value)
{
	dev_write(range, reg, value, 1);
}

static void run_loop(void)
{
	loop_run_once(loop, 0);
}

static int state_fn(void *dev, struct state *st)
{
	return serial_state(dev, st);
}

static void setup(void)
{
	memset(&host, 0, sizeof(host));
	host.back = (struct chardev_back){ .write = host_write, .rx_room = host_room };
	host.limit = sizeof(host.data);
	loop = loop_new(&err);
	ck_assert_ptr_nonnull(loop);
	serial = serial_new(loop, test_line(&line), &host.back, &err);
	ck_assert_ptr_nonnull(serial);
	range = serial_range(serial);
}

static void teardown(void)
{
	serial_free(serial);
	loop_free(loop);
}

/* A driver that listens: FIFOs on with trigger level 8, receive and line status. */
static void open_port(void)
{
	out(FCR, 0x87);
	out(LCR, 0x03);
	out(MCR, 0x0b);
	out(IER, 0x05);
}

START_TEST(registers)
{
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(MSR), 0xb0);
	ck_assert_uint_eq(in(IIR), 0x01);
	out(SCR, 0xa5);
	ck_assert_uint_eq(in(SCR), 0xa5);
	out(LCR, 0xff);
	ck_assert_uint_eq(in(LCR), 0xff);
	ck_assert_uint_eq(in(DATA) | in(IER) << 8, 1); /* a divisor that is not zero */
	out(DATA, 0x34);
	out(IER, 0x12);
	ck_assert_uint_eq(in(DATA), 0x34);
	ck_assert_uint_eq(in(IER), 0x12);
	out(LCR, 0x03);
	ck_assert_uint_eq(in(IER), 0);
	out(IER, 0xff);
	ck_assert_uint_eq(in(IER), 0x0f);
	out(IER, 0);
	out(LSR, 0xff);
	out(MSR, 0xff);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(MSR), 0xb0);
	ck_assert_uint_eq(in(DATA), 0);
	for (unsigned len = 2; len <= 8; len *= 2) {
		ck_assert_uint_eq(dev_read(range, 0, len), UINT64_MAX >> (64 - 8 * len));
		dev_write(range, 0, 0x4141, len);
	}
	run_loop();
	ck_assert_uint_eq(host.n, 0);
	ck_assert(!line.level);
}
END_TEST

/* The tests of Linux' autoconfig(), in its order: a 16550A and nothing newer. */
START_TEST(linux_autoconfig)
{
	uint8_t status1, status2, mcr;

	out(IER, 0);
	ck_assert_uint_eq(in(IER)&0x0f, 0);
	out(IER, 0x0f);
	ck_assert_uint_eq(in(IER)&0x0f, 0x0f);
	out(IER, 0);

	mcr = in(MCR);
	out(MCR, 0x1a); /* loopback, OUT2, RTS: must come back as DCD, CTS */
	ck_assert_uint_eq(in(MSR)&0xf0, 0x90);
	out(MCR, mcr);

	out(LCR, 0xbf); /* no enhanced feature register */
	out(FCR, 0);
	out(LCR, 0);
	out(FCR, 0x01);
	ck_assert_uint_eq(in(IIR)&0xc0, 0xc0);
	out(LCR, 0x80);
	ck_assert_uint_ne(in(IIR), 0);
	out(LCR, 0xbf);
	ck_assert_uint_ne(in(IIR), 0);

	out(LCR, 0); /* no National Semiconductor Super I/O */
	status1 = in(MCR);
	out(LCR, 0xe0);
	status2 = in(IIR);
	ck_assert(!((status2 ^ status1) & 0x10));
	out(LCR, 0);
	out(MCR, status1 ^ 0x10);
	out(LCR, 0xe0);
	status2 = in(IIR);
	out(LCR, 0);
	out(MCR, status1);
	ck_assert(!((status2 ^ status1) & 0x10));

	out(FCR, 0x21); /* no 64-byte FIFO */
	ck_assert_uint_eq(in(IIR)&0xe0, 0xc0);
	out(LCR, 0x80);
	out(FCR, 0x21);
	ck_assert_uint_eq(in(IIR)&0xe0, 0xc0);
	out(LCR, 0);
	out(IER, 0x40); /* no XScale */
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(FCR)&0x0f, 0x01);
}
END_TEST

/* serial8250_do_startup()'s tests of the THRE interrupt. */
START_TEST(linux_thre_test)
{
	out(IER, 0x02);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x02);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x01); /* reading took it away */
	out(IER, 0);
	out(IER, 0x02); /* it must be asserted again */
	ck_assert(line.level);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x02);
	ck_assert(!line.level);
	out(IER, 0);
	out(IER, 0x02);
	ck_assert(in(LSR)&0x40);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x02);
}
END_TEST

START_TEST(output)
{
	for (const char *p = "hello, world"; *p != '\0'; p++)
		out(DATA, *p);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(host.n, 0);
	run_loop();
	ck_assert_uint_eq(host.n, 12);
	ck_assert_uint_eq(host.calls, 1); /* in one piece */
	ck_assert_mem_eq(host.data, "hello, world", 12);
	run_loop();
	ck_assert_uint_eq(host.calls, 1);
	out(DATA, '!');
	ck_assert_uint_eq(serial_flush(), 0);
	ck_assert_uint_eq(host.n, 13);
	host.limit = 14;
	out(DATA, 'x');
	out(DATA, 'y');
	ck_assert_uint_eq(serial_flush(), 1);
}
END_TEST

/* A driver that never reads IIR gets an edge for each byte. */
START_TEST(thre_edges)
{
	out(IER, 0x02);
	ck_assert_uint_eq(line.edges, 1);
	out(DATA, 'a');
	ck_assert_uint_eq(line.edges, 2);
	out(DATA, 'b');
	ck_assert_uint_eq(line.edges, 3);
	ck_assert_uint_eq(in(IIR), 0x02);
	ck_assert(!line.level);
	out(IER, 0x02); /* not newly enabled */
	ck_assert(!line.level);
}
END_TEST

START_TEST(slow_backend)
{
	size_t sent = 0;

	host.limit = 100;
	out(FCR, 0x01);
	out(IER, 0x02);
	while (in(LSR)&0x20) {
		/* A driver writes a FIFO full without looking again. */
		for (int i = 0; i < 16; i++)
			out(DATA, sent++ % 251);
		run_loop();
		ck_assert_uint_lt(sent, 2 * TX_RING);
	}
	ck_assert_uint_eq(host.n, 100);
	ck_assert_uint_gt(sent, TX_RING - 16);
	ck_assert_uint_eq(in(LSR)&0x60, 0);
	ck_assert_uint_eq(in(IIR)&0x0f, 0x01);
	ck_assert(!line.level);
	out(IER, 0); /* enabling does not raise it when the transmitter is busy */
	out(IER, 0x02);
	ck_assert(!line.level);

	host.limit = 200; /* a little room: not enough to begin again */
	tx_room();
	run_loop();
	ck_assert_uint_eq(host.n, 200);
	ck_assert_uint_eq(in(LSR)&0x60, 0);
	host.limit = sizeof(host.data);
	tx_room();
	run_loop();
	ck_assert_uint_eq(in(LSR)&0x60, 0x60);
	ck_assert(line.level);
	ck_assert_uint_eq(host.n, sent); /* nothing was lost */
	for (size_t i = 0; i < sent; i++)
		ck_assert_uint_eq((uint8_t)host.data[i], i % 251);
}
END_TEST

/* A guest that does not look at LSR overruns the ring, as it would the chip. */
START_TEST(deaf_guest)
{
	host.limit = 0;
	for (size_t i = 0; i < TX_RING + 1000; i++)
		out(DATA, 'x');
	run_loop();
	host.limit = sizeof(host.data);
	tx_room();
	run_loop();
	ck_assert_uint_eq(host.n, TX_RING);
	out(DATA, 'y');
	while (host.n == TX_RING)
		loop_run_once(loop, -1);
	ck_assert_uint_eq(host.data[host.n - 1], 'y');
}
END_TEST

/* What follows other output is gathered, and comes without anyone calling for it. */
START_TEST(gathering)
{
	out(DATA, 'a');
	run_loop();
	ck_assert_uint_eq(host.n, 1);
	for (int i = 0; i < 100; i++)
		out(DATA, 'b');
	while (host.n < 101)
		loop_run_once(loop, -1);
	ck_assert_uint_eq(host.calls, 2);

	/* More than half a ring does not wait. */
	for (int i = 0; i < TX_RING * 3 / 4; i++)
		out(DATA, 'c');
	run_loop();
	ck_assert_uint_eq(host.n, 101 + TX_RING * 3 / 4);
	ck_assert(in(LSR)&0x20);
	out(DATA, 'd'); /* and freeing the port with some left over is no harm */
}
END_TEST

START_TEST(input)
{
	open_port();
	ck_assert(!line.level);
	ck_assert_uint_eq(serial_input("ab", 2), 2);
	ck_assert(line.level);
	ck_assert_uint_eq(in(IIR), 0xcc); /* fewer than the trigger level: time-out */
	ck_assert_uint_eq(in(LSR), 0x61);
	ck_assert_uint_eq(in(DATA), 'a');
	ck_assert(line.level);
	ck_assert_uint_eq(in(DATA), 'b');
	ck_assert(!line.level);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert_uint_eq(in(IIR), 0xc1);

	ck_assert_uint_eq(serial_input("12345678", 8), 8);
	ck_assert_uint_eq(in(IIR), 0xc4); /* trigger level */
	ck_assert_uint_eq(in(DATA), '1');
	ck_assert_uint_eq(in(IIR), 0xcc);
	ck_assert_uint_eq(line.edges, 2);
}
END_TEST

START_TEST(input_without_fifo)
{
	out(IER, 0x01);
	ck_assert_uint_eq(serial_input("xyz", 3), 3);
	ck_assert_uint_eq(in(IIR), 0x04);
	ck_assert_uint_eq(in(DATA), 'x');
	ck_assert_uint_eq(in(LSR), 0x61);
	ck_assert_uint_eq(in(DATA), 'y');
	ck_assert_uint_eq(in(DATA), 'z');
	ck_assert_uint_eq(in(LSR), 0x60); /* no overrun */
	ck_assert_uint_eq(in(DATA), 0);
}
END_TEST

START_TEST(priorities)
{
	open_port();
	out(IER, 0x0f);
	serial_input("a", 1);
	serial_break();
	out(DATA, 't');
	out(MCR, 0x1b); /* loopback: RTS, DTR, OUT2 as the lines were; nothing changes */
	out(MCR, 0x1a); /* DSR falls */
	ck_assert_uint_eq(in(IIR), 0xcc);
	ck_assert_uint_eq(in(DATA), 'a');
	ck_assert_uint_eq(in(IIR), 0xc6); /* the break is at the top now */
	ck_assert_uint_eq(in(LSR), 0xf1);
	ck_assert_uint_eq(in(IIR), 0xcc);
	ck_assert_uint_eq(in(DATA), 0);
	ck_assert_uint_eq(in(IIR), 0xc2);
	ck_assert_uint_eq(in(IIR), 0xc0);
	ck_assert_uint_eq(in(IIR), 0xc0);
	ck_assert(line.level);
	ck_assert_uint_eq(in(MSR), 0x92);
	ck_assert(!line.level);
	ck_assert_uint_eq(in(IIR), 0xc1);
	ck_assert_uint_eq(in(MSR), 0x90);
}
END_TEST

START_TEST(magic_sysrq)
{
	open_port();
	serial_break();
	serial_input("h", 1);
	ck_assert_uint_eq(in(IIR), 0xc6);
	ck_assert_uint_eq(in(LSR), 0xf1); /* DR, BI, error in FIFO */
	ck_assert_uint_eq(in(DATA), 0);
	ck_assert_uint_eq(in(LSR), 0x61); /* the h is a plain character */
	ck_assert_uint_eq(in(DATA), 'h');
}
END_TEST

START_TEST(loopback)
{
	out(FCR, 0x01);
	out(MCR, 0x10);
	serial_input("outside", 7);
	out(IER, 0x01);
	ck_assert_uint_eq(in(LSR), 0x60);
	for (int i = 0; i < 17; i++)
		out(DATA, i);
	ck_assert_uint_eq(in(LSR), 0x63); /* the 17th was too many */
	ck_assert_uint_eq(in(LSR), 0x61);
	for (int i = 0; i < 16; i++)
		ck_assert_uint_eq(in(DATA), i);
	ck_assert_uint_eq(in(LSR), 0x60);

	out(FCR, 0); /* without FIFO the new character wins */
	out(DATA, 1);
	out(DATA, 2);
	ck_assert_uint_eq(in(LSR), 0x63);
	ck_assert_uint_eq(in(DATA), 2);
	out(DATA, 3);
	out(FCR, 0x01); /* a reset drops what was looped ... */
	ck_assert_uint_eq(in(LSR), 0x60);
	out(MCR, 0);
	for (const char *p = "outside"; *p != '\0'; p++) /* ... and nothing else */
		ck_assert_uint_eq(in(DATA), *p);
	run_loop();
	ck_assert_uint_eq(host.n, 0);

	/* All four modem lines; of the ring indicator the fall only. */
	in(MSR);
	out(MCR, 0x1f);
	ck_assert_uint_eq(in(MSR), 0xf0);
	out(MCR, 0x10);
	ck_assert_uint_eq(in(MSR), 0x0f);
	out(MCR, 0x14);
	ck_assert_uint_eq(in(MSR), 0x40);
	out(MCR, 0);
	ck_assert_uint_eq(in(MSR), 0xbf);
}
END_TEST

/* What Linux does when the port is opened and closed costs no character. */
START_TEST(nothing_lost_at_startup)
{
	char text[100], got[100];
	size_t n = 0;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = 'A' + i % 26;
	ck_assert_uint_eq(serial_input(text, sizeof(text)), sizeof(text));

	out(IER, 0x0f); /* probing */
	out(IER, 0);
	for (int round = 0; round < 3; round++) {
		out(FCR, 0x01); /* serial8250_clear_fifos() */
		out(FCR, 0x07);
		out(FCR, 0);
		for (int luck = 0; luck < 2; luck++) {
			in(LSR);
			in(DATA);
			in(IIR);
			in(MSR);
			out(IER, 0x02);
			in(LSR);
			in(IIR);
			out(IER, 0);
			out(DATA, 'x'); /* the console prints meanwhile */
		}
		out(IER, 0x05);
		out(FCR, 0x81); /* set_termios, after the interrupt was enabled */
		for (int i = 0; i < 5; i++) {
			ck_assert(in(LSR)&0x01);
			got[n++] = in(DATA);
		}
		out(IER, 0); /* shutdown with input in the FIFO */
	}
	out(FCR, 0x07);
	in(DATA);
	open_port();
	while (in(LSR)&0x01)
		got[n++] = in(DATA);
	ck_assert_uint_eq(n, sizeof(text));
	ck_assert_mem_eq(got, text, n);
}
END_TEST

/* A guest that polls and never enables an interrupt gets its input, too. */
START_TEST(polling_guest)
{
	int polls = 0;

	out(FCR, 0x07);
	serial_input("ok", 2);
	while (!(in(LSR)&0x01))
		ck_assert_int_lt(polls++, 20);
	ck_assert_uint_eq(in(DATA), 'o');
	ck_assert(in(LSR)&0x01);
	ck_assert_uint_eq(in(DATA), 'k');
	ck_assert_uint_eq(in(LSR), 0x60);
}
END_TEST

START_TEST(flow_control)
{
	static char text[20000];
	size_t in_n = 0, out_n = 0;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 253;
	open_port();
	in_n = serial_input(text, sizeof(text));
	ck_assert_uint_gt(in_n, 4096);
	ck_assert_uint_lt(in_n, sizeof(text));
	ck_assert_uint_eq(serial_input(text, 1), 0);
	serial_break(); /* has a place of its own ... */
	serial_break(); /* ... but not any number of them */
	out(FCR, 0x07); /* and so has what a reset puts back */
	for (; out_n < in_n; out_n++) {
		run_loop();
		if (host.rooms > 0)
			break;
		ck_assert_uint_eq(in(DATA), (uint8_t)text[out_n]);
	}
	ck_assert_uint_gt(out_n, in_n / 3);
	ck_assert_uint_lt(out_n, in_n);
	ck_assert_uint_gt(serial_input(text, 1000), 0);
	for (; out_n < in_n; out_n++)
		ck_assert_uint_eq(in(DATA), (uint8_t)text[out_n]);
	ck_assert_uint_eq(in(LSR)&0x10, 0x10);
	ck_assert_uint_eq(in(DATA), 0);
	ck_assert_uint_eq(in(DATA), (uint8_t)text[0]);
	run_loop();
	ck_assert_uint_eq(host.rooms, 1);
}
END_TEST

START_TEST(no_backend)
{
	serial_free(serial);
	serial = serial_new(loop, test_line(&line), NULL, &err);
	range = serial_range(serial);
	for (size_t i = 0; i < 2 * TX_RING; i++) {
		out(DATA, 'x');
		if (i % 1000 == 0)
			run_loop();
	}
	ck_assert_uint_eq(in(LSR), 0x60);
}
END_TEST

START_TEST(reset)
{
	open_port();
	out(SCR, 0x55);
	out(DATA, 'p'); /* the last words of a panic */
	serial_input("typed ahead", 11);
	serial_reset(serial);
	ck_assert(!line.level);
	ck_assert_uint_eq(in(SCR), 0);
	ck_assert_uint_eq(in(IER), 0);
	ck_assert_uint_eq(in(LSR), 0x60);
	run_loop();
	ck_assert_uint_eq(host.n, 1);
	open_port();
	ck_assert_uint_eq(in(DATA), 't');
}
END_TEST

START_TEST(saved)
{
	struct test_line line2;
	static struct backend host2;
	struct serial *other;

	host2.back = host.back;
	host2.limit = sizeof(host2.data);
	host.limit = 10;
	other = serial_new(loop, test_line(&line2), &host2.back, &err);
	test_state(state_fn, serial, other);
	ck_assert(!line2.level);

	open_port();
	out(SCR, 0x99);
	for (int i = 0; i < TX_RING - 4; i++)
		out(DATA, 'a' + i % 26);
	run_loop();
	serial_break();
	serial_input("0123456789abcdefghij", 20);
	test_state(state_fn, serial, other);
	ck_assert(line2.level);
	run_loop();
	ck_assert_uint_eq(host2.n, TX_RING - 14);
	ck_assert_uint_eq(host2.data[0], 'a' + 10);
	range = serial_range(other);
	ck_assert_uint_eq(in(SCR), 0x99);
	ck_assert_uint_eq(in(IIR), 0xc6);
	ck_assert_uint_eq(in(LSR), 0xf1);
	ck_assert_uint_eq(in(DATA), 0);
	for (int i = 0; i < 20; i++)
		ck_assert_uint_eq(in(DATA), "0123456789abcdefghij"[i]);
	ck_assert_uint_eq(in(LSR), 0x60);
	ck_assert(!line2.level);
	serial_free(other);
}
END_TEST

/* A file with full rings, a full FIFO and all registers set cannot break anything. */
START_TEST(forged)
{
	static uint8_t zeros[TX_RING];
	uint8_t ones = 0xff;
	bool yes = true;
	size_t nfifo = 32, nin = 16384, nout = TX_RING, len;
	struct state *st = state_new_save();
	const void *data;

	state_begin(st, "serial", 1);
	state_u8(st, "ier", &ones);
	state_u8(st, "fcr", &ones);
	state_u8(st, "mcr", &ones);
	state_u8(st, "line-errors", &ones);
	state_u8(st, "rx-polls", &ones);
	state_bool(st, "rx-hold", &yes);
	state_blob(st, "fifo", zeros, &nfifo, sizeof(zeros));
	state_blob(st, "input", zeros, &nin, sizeof(zeros));
	state_blob(st, "output", zeros, &nout, sizeof(zeros));
	ck_assert_int_eq(state_end(st), 0);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	ck_assert_int_eq(test_load(state_fn, serial, data, len), 0);
	state_free(st);
	ck_assert_uint_eq(in(IER), 0x0f);
	ck_assert_uint_eq(in(LSR)&0x60, 0); /* a full ring is a busy transmitter */
	out(FCR, 0x07);
	serial_break();
	ck_assert_uint_eq(serial_input("a", 1), 0);
	out(DATA, 'x');
	out(MCR, 0);
	out(FCR, 0x00);
	for (int i = 0; i < 9000; i++)
		in(DATA);
	run_loop();
	ck_assert_uint_eq(host.n, TX_RING);
	ck_assert_uint_eq(in(LSR), 0x60);
}
END_TEST

/* --- Two vCPUs and the loop's thread --- */

static atomic_int running;

static void *vcpu(void *arg)
{
	unsigned seed = (uintptr_t)arg;

	for (int i = 0; i < 40000; i++) {
		seed = seed * 1103515245 + 12345;
		switch (seed >> 16 & 7) {
		case 0:
			out(IER, seed >> 24);
			break;
		case 1:
			out(FCR, seed >> 24);
			break;
		case 2:
			in(seed >> 24 & 7);
			break;
		case 3:
			out(MCR, seed >> 24 & 0x0f);
			break;
		default:
			out(DATA, seed >> 24);
		}
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

START_TEST(threads)
{
	pthread_t thread[2];

	atomic_store(&running, 2);
	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, vcpu, (void *)(i + 1)), 0);
	while (atomic_load(&running) > 0) {
		loop_run_once(loop, 1);
		serial_input("some input", 10);
		serial_break();
		tx_room();
		if (host.n > sizeof(host.data) / 2)
			host.n = 0;
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	run_loop();
	out(IER, 0);
	ck_assert(!line.level);
}
END_TEST

/* One vCPU prints, the other does the interrupts: nothing is lost nor reordered. */
static void *printer(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 150000; i++) {
		while (!(in(LSR)&0x20))
			;
		out(DATA, i % 251);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void *interrupts(void *arg)
{
	(void)arg;
	while (atomic_load(&running) > 0) {
		out(IER, 0x02);
		in(IIR);
		out(IER, 0);
	}
	return NULL;
}

START_TEST(threads_order)
{
	pthread_t thread[2];

	atomic_store(&running, 1);
	ck_assert_int_eq(pthread_create(&thread[0], NULL, printer, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread[1], NULL, interrupts, NULL), 0);
	host.limit = 0;
	while (atomic_load(&running) > 0) {
		if (host.limit + 777 < sizeof(host.data))
			host.limit += 777; /* slower than the guest */
		tx_room();
		loop_run_once(loop, 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	host.limit = sizeof(host.data);
	serial_flush();
	ck_assert_uint_eq(host.n, 150000);
	for (unsigned i = 0; i < 150000; i++)
		if ((uint8_t)host.data[i] != i % 251)
			ck_abort_msg("byte %u", i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("serial");
	TCase *tc = tcase_create("serial");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, linux_autoconfig);
	tcase_add_test(tc, linux_thre_test);
	tcase_add_test(tc, output);
	tcase_add_test(tc, thre_edges);
	tcase_add_test(tc, slow_backend);
	tcase_add_test(tc, deaf_guest);
	tcase_add_test(tc, gathering);
	tcase_add_test(tc, input);
	tcase_add_test(tc, input_without_fifo);
	tcase_add_test(tc, priorities);
	tcase_add_test(tc, magic_sysrq);
	tcase_add_test(tc, loopback);
	tcase_add_test(tc, nothing_lost_at_startup);
	tcase_add_test(tc, polling_guest);
	tcase_add_test(tc, flow_control);
	tcase_add_test(tc, no_backend);
	tcase_add_test(tc, reset);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, forged);
	tcase_add_test(tc, threads);
	tcase_add_test(tc, threads_order);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
