// SPDX-License-Identifier: Apache-2.0
/*
 * The real-time clock: calendar against the C library's, formats, setting, flags and
 * interrupts, RAM, saving. Tests that need a second to pass wait for a real one.
 */
#include <time.h>
#include "devices/rtc.h"
#include "tests/unit/device_util.h"

#define A	0x0a
#define B	0x0b
#define C	0x0c
#define D	0x0d
#define CENTURY 0x32
#define SET	0x80
#define PIE	0x40
#define AIE	0x20
#define UIE	0x10
#define BINARY	0x04
#define H24	0x02

static struct test_line line;
static struct loop *loop;
static struct rtc *rtc;
static struct err err;

static uint8_t get_of(struct rtc *r, uint8_t reg)
{
	dev_write(rtc_range(r), 0, reg, 1);
	return dev_read(rtc_range(r), 1, 1);
}

static void put_of(struct rtc *r, uint8_t reg, uint8_t value)
{
	dev_write(rtc_range(r), 0, reg, 1);
	dev_write(rtc_range(r), 1, value, 1);
}

static uint8_t get(uint8_t reg)
{
	return get_of(rtc, reg);
}

static void put(uint8_t reg, uint8_t value)
{
	put_of(rtc, reg, value);
}

static uint8_t bcd(int value)
{
	return value / 10 << 4 | value % 10;
}

/* Write a date, as in B = 24 hours, BCD. */
static void put_date(struct rtc *r, int y, int mon, int day, int h, int min, int s)
{
	put_of(r, 0, bcd(s));
	put_of(r, 2, bcd(min));
	put_of(r, 4, bcd(h));
	put_of(r, 7, bcd(day));
	put_of(r, 8, bcd(mon));
	put_of(r, 9, bcd(y % 100));
	put_of(r, CENTURY, bcd(y / 100));
}

/* Set the clock as Linux does; the next second begins 500 ms later. */
static void set_clock(struct rtc *r, int y, int mon, int day, int h, int min, int s)
{
	uint8_t a = get_of(r, A), b = get_of(r, B);

	put_of(r, B, b | SET);
	put_of(r, A, a | 0x70);
	put_date(r, y, mon, day, h, min, s);
	put_of(r, B, b);
	put_of(r, A, a);
}

static void ck_date(struct rtc *r, int y, int mon, int day, int h, int min, int s)
{
	ck_assert_uint_eq(get_of(r, CENTURY), bcd(y / 100));
	ck_assert_uint_eq(get_of(r, 9), bcd(y % 100));
	ck_assert_uint_eq(get_of(r, 8), bcd(mon));
	ck_assert_uint_eq(get_of(r, 7), bcd(day));
	ck_assert_uint_eq(get_of(r, 4), bcd(h));
	ck_assert_uint_eq(get_of(r, 2), bcd(min));
	ck_assert_uint_eq(get_of(r, 0), bcd(s));
}

/* Run the loop until the line is up, at most @ms. */
static bool wait_line(unsigned ms)
{
	uint64_t end = loop_now_ns() + ms * 1000000ULL;

	while (!line.level && loop_now_ns() < end)
		loop_run_once(loop, 10);
	return line.level;
}

static void pause_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

static int state_fn(void *dev, struct state *st)
{
	return rtc_state(dev, st);
}

static void setup(void)
{
	loop = loop_new(&err);
	ck_assert_ptr_nonnull(loop);
	rtc = rtc_new(loop, test_line(&line), &err);
	ck_assert_ptr_nonnull(rtc);
}

static void teardown(void)
{
	rtc_free(rtc);
	loop_free(loop);
}

START_TEST(host_time)
{
	time_t before = time(NULL), t;
	struct tm tm = { 0 };

	/* The registers may change while being read: again if the second did. */
	do {
		tm.tm_sec = get(0);
		tm.tm_min = get(2);
		tm.tm_hour = get(4);
		tm.tm_mday = get(7);
		tm.tm_mon = get(8);
		tm.tm_year = get(9);
	} while (tm.tm_sec != get(0));
#define UNBCD(x) ((x) = ((x) >> 4) * 10 + ((x)&15))
	UNBCD(tm.tm_sec);
	UNBCD(tm.tm_min);
	UNBCD(tm.tm_hour);
	UNBCD(tm.tm_mday);
	UNBCD(tm.tm_mon);
	UNBCD(tm.tm_year);
	tm.tm_mon--;
	tm.tm_year += 100;
	ck_assert_uint_eq(get(CENTURY), 0x20);
	t = timegm(&tm);
	ck_assert_int_ge(t, before);
	ck_assert_int_le(t, time(NULL));
}
END_TEST

START_TEST(calendar)
{
	int64_t t = -62167219200; /* 0000-01-01 */

	for (; t < 253402300800; t += 86400 * 13 + 12345) {
		time_t tt = t;
		struct tm tm;

		gmtime_r(&tt, &tm);
		set_clock(rtc, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			  tm.tm_sec);
		ck_date(rtc, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			tm.tm_sec);
		ck_assert_uint_eq(get(6), tm.tm_wday + 1);
	}
}
END_TEST

/* One second before midnight; all clocks are started, then waited for together. */
START_TEST(midnight)
{
	static const struct {
		int y, m, d, y2, m2, d2;
	} day[] = {
		{ 1999, 12, 31, 2000, 1, 1 }, { 1900, 2, 28, 1900, 3, 1 },
		{ 2000, 2, 28, 2000, 2, 29 }, { 2000, 2, 29, 2000, 3, 1 },
		{ 2023, 2, 28, 2023, 3, 1 },  { 2024, 2, 28, 2024, 2, 29 },
		{ 2038, 1, 18, 2038, 1, 19 }, { 2106, 2, 6, 2106, 2, 7 },
		{ 9998, 12, 31, 9999, 1, 1 }, { 0, 12, 31, 1, 1, 1 },
	};
	struct rtc *r[sizeof(day) / sizeof(day[0])];

	for (unsigned i = 0; i < sizeof(day) / sizeof(day[0]); i++) {
		r[i] = rtc_new(loop, (struct irq_line){ 0 }, &err);
		set_clock(r[i], day[i].y, day[i].m, day[i].d, 23, 59, 59);
		ck_date(r[i], day[i].y, day[i].m, day[i].d, 23, 59, 59);
	}
	pause_ms(550);
	for (unsigned i = 0; i < sizeof(day) / sizeof(day[0]); i++) {
		ck_date(r[i], day[i].y2, day[i].m2, day[i].d2, 0, 0, 0);
		rtc_free(r[i]);
	}
}
END_TEST

START_TEST(formats)
{
	static const struct {
		int hour;
		uint8_t bcd12, bin12;
	} h[] = {
		{ 0, 0x12, 12 },	 { 1, 0x01, 1 },	 { 11, 0x11, 11 },
		{ 12, 0x92, 0x80 | 12 }, { 13, 0x81, 0x80 | 1 }, { 23, 0x91, 0x80 | 11 },
	};

	for (unsigned i = 0; i < sizeof(h) / sizeof(h[0]); i++) {
		put(B, H24);
		set_clock(rtc, 2024, 10, 30, h[i].hour, 45, 10);
		put(B, 0);
		ck_assert_uint_eq(get(4), h[i].bcd12);
		put(B, BINARY);
		ck_assert_uint_eq(get(4), h[i].bin12);
		ck_assert_uint_eq(get(2), 45);
		ck_assert_uint_eq(get(9), 24);
		ck_assert_uint_eq(get(CENTURY), 20);
		put(B, BINARY | H24);
		ck_assert_uint_eq(get(4), h[i].hour);
		/* And the way in. */
		put(B, SET);
		put(4, h[i].bcd12);
		put(B, 0);
		put(B, H24);
		ck_assert_uint_eq(get(4), bcd(h[i].hour));
		put(B, SET | BINARY);
		put(4, h[i].bin12);
		put(B, BINARY);
		put(B, H24);
		ck_assert_uint_eq(get(4), bcd(h[i].hour));
	}
}
END_TEST

START_TEST(stopped)
{
	set_clock(rtc, 2024, 5, 6, 7, 8, 9);
	put(B, H24 | SET);
	ck_date(rtc, 2024, 5, 6, 7, 8, 9);
	pause_ms(1100);
	ck_date(rtc, 2024, 5, 6, 7, 8, 9);
	ck_assert_uint_eq(get(A) & 0x80, 0);
	put(6, 0x07); /* plain memory now */
	ck_assert_uint_eq(get(6), 0x07);
	put(0, 0x30);
	put(B, H24);
	ck_assert_uint_eq(get(0) >> 4, 3);
	ck_assert_uint_eq(get(6), 0x02); /* a Monday, whatever was written */
}
END_TEST

/* Single registers of the running clock can be written, too. */
START_TEST(set_running)
{
	set_clock(rtc, 2024, 5, 6, 7, 8, 9);
	put(4, 0x21);
	put(6, 0x07);
	put(9, 0x30);
	put(CENTURY, 0x19);
	ck_date(rtc, 1930, 5, 6, 21, 8, 9);
}
END_TEST

/* Registers full of nonsense: some date comes of it, and the clock goes on. */
START_TEST(nonsense)
{
	for (unsigned value = 0; value < 256; value++) {
		for (unsigned format = 0; format < 8; format += 2) {
			put(B, SET | format);
			for (unsigned reg = 0; reg < 10; reg++)
				put(reg, value);
			put(CENTURY, value);
			put(B, format);
			put(B, H24);
			ck_assert_uint_le(get(0), 0x59);
			ck_assert_uint_le(get(2), 0x59);
			ck_assert_uint_le(get(4), 0x23);
			ck_assert_uint_le(get(7), 0x31);
			ck_assert_uint_le(get(8), 0x12);
			get(C);
		}
	}
}
END_TEST

START_TEST(alarm)
{
	set_clock(rtc, 2024, 12, 31, 23, 59, 59);
	get(C);
	put(1, 0x00);
	put(3, 0xc0); /* any minute */
	put(5, 0x00);
	put(B, H24 | AIE);
	loop_run_once(loop, 0);
	ck_assert(!line.level);
	ck_assert(wait_line(1500));
	ck_date(rtc, 2025, 1, 1, 0, 0, 0);
	ck_assert_uint_eq(get(C) & 0xa0, 0xa0);
	ck_assert(!line.level);
	ck_assert_uint_eq(get(C) & 0xa0, 0);
	ck_assert_uint_eq(get(5), 0x00);
}
END_TEST

/* Without its interrupt an alarm still sets its flag, and enabling raises it. */
START_TEST(alarm_polled)
{
	set_clock(rtc, 2024, 1, 1, 12, 0, 0);
	get(C);
	put(1, 0x01);
	put(3, 0x00);
	put(5, 0x12);
	pause_ms(550);
	put(B, H24 | AIE);
	ck_assert(line.level);
	ck_assert_uint_eq(get(C), 0x80 | AIE | UIE | PIE);
}
END_TEST

START_TEST(alarm_never)
{
	set_clock(rtc, 2024, 1, 1, 12, 0, 0);
	put(5, 0x7f);
	put(B, H24 | AIE);
	put(5, 0xff);
	put(3, 0x60);
	put(3, 0xff);
	put(1, 0x99);
	get(C);
	ck_assert(!wait_line(700));
	put(1, 0xff); /* every second */
	ck_assert(wait_line(1500));
}
END_TEST

START_TEST(update)
{
	put(B, H24 | UIE);
	get(C);
	ck_assert(wait_line(1500));
	ck_assert_uint_eq(get(C) & 0x90, 0x90);
	ck_assert(wait_line(1500));
	put(B, H24 | UIE | SET); /* SET takes the enable away */
	ck_assert_uint_eq(get(B), H24 | SET);
	ck_assert(!line.level);
}
END_TEST

static unsigned count_periodic(unsigned ms)
{
	uint64_t end = loop_now_ns() + ms * 1000000ULL;
	unsigned n = 0;

	while (loop_now_ns() < end) {
		loop_run_once(loop, 1);
		if (!line.level)
			continue;
		ck_assert(get(C) & 0x40);
		n++;
	}
	return n;
}

START_TEST(periodic)
{
	unsigned n;

	put(A, 0x20 | 0xa); /* 64 Hz */
	put(B, H24 | PIE);
	get(C);
	n = count_periodic(500);
	ck_assert_uint_ge(n, 10);
	ck_assert_uint_le(n, 34);
	put(A, 0x20 | 0x3); /* 8192 Hz: ticks are lumped together */
	n = count_periodic(250);
	ck_assert_uint_ge(n, 20);
	ck_assert_uint_le(n, 270);
	put(A, 0x20); /* off */
	get(C);
	ck_assert_uint_eq(count_periodic(50), 0);
}
END_TEST

/* Nobody acknowledges: one edge, and no timer that keeps the loop busy. */
START_TEST(unacknowledged)
{
	unsigned wakeups = 0;
	uint64_t end;

	put(B, H24 | PIE);
	ck_assert(wait_line(1500));
	end = loop_now_ns() + 100000000;
	for (; loop_now_ns() < end; wakeups++)
		loop_run_once(loop, 50);
	ck_assert_uint_le(wakeups, 5);
	ck_assert_uint_eq(line.edges, 1);
}
END_TEST

START_TEST(ram)
{
	ck_assert_uint_eq(get(D), 0x80);
	put(D, 0);
	put(C, 0xff);
	ck_assert_uint_eq(get(D), 0x80);
	ck_assert_uint_eq(get(C) & 0x8f, 0);
	for (unsigned reg = 0x0e; reg < 128; reg++)
		if (reg != CENTURY)
			put(reg, reg ^ 0x55);
	for (unsigned reg = 0x0e; reg < 128; reg++)
		if (reg != CENTURY)
			ck_assert_uint_eq(get(reg | 0x80), reg ^ 0x55); /* NMI bit */
	put(A, 0xff);
	ck_assert_uint_eq(get(A), 0x7f);
	ck_assert_uint_eq(dev_read(rtc_range(rtc), 0, 1), 0xff);
	ck_assert_uint_eq(dev_read(rtc_range(rtc), 0, 2), 0xffff);
	dev_write(rtc_range(rtc), 0, 0, 2);
}
END_TEST

START_TEST(reset)
{
	set_clock(rtc, 1985, 10, 26, 1, 21, 0);
	put(0x40, 0x77);
	put(B, H24 | PIE | AIE | UIE);
	ck_assert(wait_line(1500));
	rtc_reset(rtc);
	ck_assert(!line.level);
	ck_assert_uint_eq(get(B), H24);
	ck_assert_uint_eq(get(0x40), 0x77);
	ck_assert_uint_eq(get(9), 0x85);
}
END_TEST

START_TEST(saved)
{
	struct test_line line2;
	struct rtc *other = rtc_new(loop, test_line(&line2), &err);
	size_t len;
	void *data;

	set_clock(rtc, 1985, 10, 26, 1, 21, 0);
	put(1, 0x01);
	put(3, 0xff);
	put(5, 0xff);
	get(C);
	put(B, H24 | AIE);
	put(0x7f, 0x42);
	data = test_save(state_fn, rtc, &len);
	test_state(state_fn, rtc, other);
	ck_date(other, 1985, 10, 26, 1, 21, 0);
	ck_assert_uint_eq(get_of(other, 0x7f), 0x42);
	ck_assert(!line2.level);

	/* Loaded late, the clock shows the time it is, and the alarm goes off. */
	pause_ms(550);
	ck_assert_int_eq(test_load(state_fn, other, data, len), 0);
	ck_date(other, 1985, 10, 26, 1, 21, 1);
	loop_run_once(loop, 0);
	ck_assert(line2.level);
	free(data);
	rtc_free(other);
}
END_TEST

START_TEST(forged)
{
	static const uint64_t bad[] = { UINT64_MAX, INT64_MAX, 1ULL << 63, 1ULL << 60 };

	for (unsigned i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t offset = i % 2 ? bad[i / 2] : 0, last = i % 2 ? 0 : bad[i / 2];
		struct state *st = state_new_save();
		const void *data;
		size_t len;

		if (offset == UINT64_MAX) /* minus one: that is fine */
			offset = 1ULL << 62;
		state_begin(st, "rtc", 1);
		state_u64(st, "offset", &offset);
		state_u64(st, "last", &last);
		ck_assert_int_eq(state_end(st), 0);
		ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
		ck_assert_int_lt(test_load(state_fn, rtc, data, len), 0);
		state_free(st);
	}
	get(0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rtc");
	TCase *tc = tcase_create("rtc");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, host_time);
	tcase_add_test(tc, calendar);
	tcase_add_test(tc, midnight);
	tcase_add_test(tc, formats);
	tcase_add_test(tc, stopped);
	tcase_add_test(tc, set_running);
	tcase_add_test(tc, nonsense);
	tcase_add_test(tc, alarm);
	tcase_add_test(tc, alarm_polled);
	tcase_add_test(tc, alarm_never);
	tcase_add_test(tc, update);
	tcase_add_test(tc, periodic);
	tcase_add_test(tc, unacknowledged);
	tcase_add_test(tc, ram);
	tcase_add_test(tc, reset);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, forged);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
