// SPDX-License-Identifier: Apache-2.0
/*
 * Real-time clock and CMOS RAM: Motorola MC146818A data sheet, as found at ports 0x70
 * (index) and 0x71 (data) of a PC, with 128 bytes and the century at 0x32, where ACPI's
 * FADT announces it.
 *
 * Theory of operation. Nothing ticks. The guest's time is the host's UTC plus an offset;
 * the time registers are computed when read. Writing the time changes the offset. While
 * the clock is stopped (SET, or the divider chain held in reset) the registers are plain
 * memory, and starting it takes the offset from them. After a reset of the divider the
 * first second is half a second away, which Linux counts on.
 *
 * The flags of register C are brought up to date when somebody looks: rtc_advance()
 * checks whether a second, an alarm or a period has ended since it last ran. A timer of
 * the loop exists only while an interrupt is enabled and its flag not yet raised, for the
 * time when the next one is due. A guest that does not acknowledge therefore costs
 * nothing, and one that does causes at most PERIODIC_MAX_HZ timers a second.
 * Timers belong to the loop's thread: vCPU threads post work that arms them.
 *
 * The host's clock may be stepped while the timer, which is monotonic, runs. It is never
 * armed for longer than TIMER_MAX, so an alarm is at most that late.
 *
 * The calendar is our own arithmetic: the C library's would read the time zone file,
 * which is out of reach in the jail.
 *
 * Limits: the daylight saving and square wave bits are stored and have no effect; no
 * alarm on the day of month. Written day of the week is shown only while stopped. Bit 7
 * of the index (NMI mask) is ignored, and the index does not read back.
 *
 * #syscalls main vcpu: futex clock_gettime
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include "devices/rtc.h"
#include "vmm/base/calendar.h"
#include "vmm/base/util.h"

#define CMOS_SIZE 128

#define REG_SEC	       0x00
#define REG_SEC_ALARM  0x01
#define REG_MIN	       0x02
#define REG_MIN_ALARM  0x03
#define REG_HOUR       0x04
#define REG_HOUR_ALARM 0x05
#define REG_WDAY       0x06 /* 1: Sunday */
#define REG_MDAY       0x07
#define REG_MONTH      0x08
#define REG_YEAR       0x09
#define REG_A	       0x0a
#define REG_B	       0x0b
#define REG_C	       0x0c
#define REG_D	       0x0d
#define REG_CENTURY    0x32

#define A_UIP	    0x80
#define A_RATE	    0x0f
#define A_DIV_RESET 0x60 /* 11x: divider chain held in reset */
#define A_INIT	    0x26 /* 32.768 kHz, 1024 Hz periodic */

#define B_SET	 0x80
#define B_PIE	 0x40
#define B_AIE	 0x20
#define B_UIE	 0x10
#define B_IRQS	 (B_PIE | B_AIE | B_UIE)
#define B_BINARY 0x04
#define B_24H	 0x02

#define C_IRQF 0x80
#define C_PF   0x40 /* the flags' bits are those of their enables in B */
#define C_AF   0x20
#define C_UF   0x10

#define D_VRT 0x80 /* RAM and time are valid */

#define HOUR_PM	  0x80
#define ALARM_ANY 0xc0

/* Time is microseconds since the beginning of year 0, so it is never negative. */
#define SECOND	   1000000LL
#define MINUTE_S   60
#define HOUR_S	   3600
#define DAY_S	   86400
#define EPOCH_DAYS 719528LL /* 1970-01-01 */
#define YEARS_MAX  10000LL  /* the registers end at 9999 */
#define TIME_MAX   (YEARS_MAX * 366 * DAY_S * SECOND)
#define NEVER	   INT64_MAX

#define UIP_US		244   /* time between UIP's rise and the update */
#define TICKS		32768 /* of the crystal, per second */
#define PERIODIC_MAX_HZ 1024
#define TIMER_MAX	(60 * SECOND)

struct rtc {
	pthread_mutex_t lock;
	struct loop *loop;
	struct irq_line irq;
	struct bus_range range;
	struct loop_work work; /* go and look at the timer */
	struct loop_timer timer;

	uint8_t index;
	uint8_t cmos[CMOS_SIZE]; /* time registers: valid only while stopped */
	int64_t offset;		 /* guest's time minus host's, microseconds */
	int64_t last;		 /* guest's time of the last rtc_advance() */
};

/* --- Registers' formats --- */

static bool binary(const struct rtc *rtc)
{
	return rtc->cmos[REG_B] & B_BINARY;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
	return binary(rtc) ? value : value / 10 << 4 | value % 10;
}

/* -1: not a number */
static int decode(const struct rtc *rtc, uint8_t reg)
{
	if (binary(rtc))
		return reg;
	if (reg >> 4 > 9 || (reg & 0x0f) > 9)
		return -1;
	return (reg >> 4) * 10 + (reg & 0x0f);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->cmos[REG_B] & B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t reg)
{
	int hour;

	if (rtc->cmos[REG_B] & B_24H)
		return decode(rtc, reg);
	hour = decode(rtc, reg & ~HOUR_PM);
	if (hour < 1 || hour > 12)
		return -1;
	return hour % 12 + (reg & HOUR_PM ? 12 : 0);
}

static int clamp(int value, int lo, int hi)
{
	return value < lo ? lo : value > hi ? hi : value;
}

/* Fill the time registers with time @t. */
static void time_to_regs(struct rtc *rtc, int64_t t)
{
	int64_t days = t / SECOND / DAY_S;
	int second = t / SECOND % DAY_S;
	struct calendar_date d = calendar_date(days);

	rtc->cmos[REG_SEC] = encode(rtc, second % 60);
	rtc->cmos[REG_MIN] = encode(rtc, second / 60 % 60);
	rtc->cmos[REG_HOUR] = encode_hour(rtc, second / HOUR_S);
	rtc->cmos[REG_WDAY] = encode(rtc, (days + 6) % 7 + 1);
	rtc->cmos[REG_MDAY] = encode(rtc, d.mday + 1);
	rtc->cmos[REG_MONTH] = encode(rtc, d.month + 1);
	rtc->cmos[REG_YEAR] = encode(rtc, d.year % 100);
	rtc->cmos[REG_CENTURY] = encode(rtc, d.year / 100 % 100);
}

/* The time the registers say, whole seconds. What is no valid date becomes some date. */
static int64_t regs_to_time(const struct rtc *rtc)
{
	int64_t y = 100 * clamp(decode(rtc, rtc->cmos[REG_CENTURY]), 0, 99) +
		    clamp(decode(rtc, rtc->cmos[REG_YEAR]), 0, 99);
	int month = clamp(decode(rtc, rtc->cmos[REG_MONTH]), 1, 12) - 1;
	int64_t days = calendar_year_start(y) + clamp(decode(rtc, rtc->cmos[REG_MDAY]), 1, 31) - 1;
	int hour = clamp(decode_hour(rtc, rtc->cmos[REG_HOUR]), 0, 23);
	int min = clamp(decode(rtc, rtc->cmos[REG_MIN]), 0, 59);
	int sec = clamp(decode(rtc, rtc->cmos[REG_SEC]), 0, 59);

	for (int m = 0; m < month; m++)
		days += calendar_month_days(y, m);
	return (days * DAY_S + hour * HOUR_S + min * MINUTE_S + sec) * SECOND;
}

/* --- Time --- */

static int64_t host_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (EPOCH_DAYS * DAY_S + ts.tv_sec) * SECOND + ts.tv_nsec / 1000;
}

static int64_t guest_time(const struct rtc *rtc)
{
	int64_t t = host_time() + rtc->offset;

	return t < 0 ? 0 : t; /* the host's clock was stepped back behind year 0 */
}

static bool stopped(const struct rtc *rtc)
{
	return (rtc->cmos[REG_B] & B_SET) || (rtc->cmos[REG_A] & A_DIV_RESET) == A_DIV_RESET;
}

/* Let the running clock show time @t from now on; what it skips does not happen. */
static void set_time(struct rtc *rtc, int64_t t)
{
	rtc->offset = t - host_time();
	rtc->last = t;
}

/* --- Events --- */

/*
 * Ticks per periodic event, a power of two; 0: off. Data sheet, table 3, but rates above
 * PERIODIC_MAX_HZ are that: their events are lumped together.
 */
static int period_ticks(const struct rtc *rtc)
{
	int rate = rtc->cmos[REG_A] & A_RATE, ticks;

	if (rate == 0)
		return 0;
	ticks = 1 << (rate <= 2 ? rate + 6 : rate - 1);
	return ticks < TICKS / PERIODIC_MAX_HZ ? TICKS / PERIODIC_MAX_HZ : ticks;
}

/* How many periods of @ticks have ended at time @t. Periods divide a second. */
static int64_t periods(int64_t t, int ticks)
{
	return t / SECOND * TICKS / ticks + t % SECOND * TICKS / SECOND / ticks;
}

/* The end of the first period after @t. */
static int64_t next_period(int64_t t, int ticks)
{
	int64_t k = (t % SECOND * TICKS / SECOND / ticks + 1) * ticks;

	return t / SECOND * SECOND + (k * SECOND + TICKS - 1) / TICKS;
}

/* Does an alarm register (its number: @decoded) match @value? */
static bool alarm_match(uint8_t reg, int decoded, int value)
{
	return (reg & ALARM_ANY) == ALARM_ANY || decoded == value;
}

/*
 * The first second after @t at which all three alarm registers match. Steps by hours
 * until the hour matches, then by minutes, then by seconds: a few hundred at most.
 */
static int64_t next_alarm(const struct rtc *rtc, int64_t t)
{
	uint8_t hreg = rtc->cmos[REG_HOUR_ALARM];
	uint8_t mreg = rtc->cmos[REG_MIN_ALARM];
	uint8_t sreg = rtc->cmos[REG_SEC_ALARM];
	int h = decode_hour(rtc, hreg), m = decode(rtc, mreg), s = decode(rtc, sreg);
	int64_t now = t / SECOND + 1, end = now + DAY_S;

	/* Never: without this the search for second 99 would visit every second. */
	if ((sreg & ALARM_ANY) != ALARM_ANY && (s < 0 || s > 59))
		return NEVER;
	if ((mreg & ALARM_ANY) != ALARM_ANY && (m < 0 || m > 59))
		return NEVER;

	while (now < end) {
		if (!alarm_match(hreg, h, now % DAY_S / HOUR_S))
			now += HOUR_S - now % HOUR_S;
		else if (!alarm_match(mreg, m, now % HOUR_S / MINUTE_S))
			now += MINUTE_S - now % MINUTE_S;
		else if (!alarm_match(sreg, s, now % MINUTE_S))
			now++;
		else
			return now * SECOND;
	}
	return NEVER;
}

/* Interrupt request flag and line. */
static void rtc_update_irq(struct rtc *rtc)
{
	if (rtc->cmos[REG_C] & rtc->cmos[REG_B] & B_IRQS)
		rtc->cmos[REG_C] |= C_IRQF;
	else
		rtc->cmos[REG_C] &= ~C_IRQF;
	irq_set(&rtc->irq, rtc->cmos[REG_C] & C_IRQF);
}

/* Raise the flags of what has happened since the last time. */
static void rtc_advance(struct rtc *rtc)
{
	int ticks = period_ticks(rtc);
	int64_t now;

	if (stopped(rtc))
		return;
	now = guest_time(rtc);
	if (now > rtc->last) {
		if (now / SECOND != rtc->last / SECOND)
			rtc->cmos[REG_C] |= C_UF;
		if (next_alarm(rtc, rtc->last) <= now)
			rtc->cmos[REG_C] |= C_AF;
		if (ticks != 0 && periods(now, ticks) != periods(rtc->last, ticks))
			rtc->cmos[REG_C] |= C_PF;
	}
	rtc->last = now;
	rtc_update_irq(rtc);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When the next interrupt is due; NEVER when none is, or one is being signalled. */
static int64_t next_event(const struct rtc *rtc)
{
	uint8_t b = rtc->cmos[REG_B];
	int ticks = period_ticks(rtc);
	int64_t next = NEVER;

	if (stopped(rtc) || (rtc->cmos[REG_C] & C_IRQF))
		return NEVER;
	if (b & B_UIE)
		next = earlier(next, (rtc->last / SECOND + 1) * SECOND);
	if (b & B_AIE)
		next = earlier(next, next_alarm(rtc, rtc->last));
	if ((b & B_PIE) && ticks != 0)
		next = earlier(next, next_period(rtc->last, ticks));
	return next;
}

/* Loop's thread: see what happened and arm the timer for what will. */
static void rtc_run(struct rtc *rtc)
{
	int64_t next, wait = 0;

	pthread_mutex_lock(&rtc->lock);
	rtc_advance(rtc);
	next = next_event(rtc);
	if (next != NEVER)
		wait = clamp(earlier(next - rtc->last, TIMER_MAX), 1, TIMER_MAX);
	pthread_mutex_unlock(&rtc->lock);

	/* A vCPU that changes the registers now posts the work again. */
	if (next != NEVER)
		loop_arm(rtc->loop, &rtc->timer, wait * 1000);
	else
		loop_disarm(&rtc->timer);
}

static void rtc_work(struct loop_work *work)
{
	rtc_run(container_of(work, struct rtc, work));
}

static void rtc_timer(struct loop_timer *timer)
{
	rtc_run(container_of(timer, struct rtc, timer));
}

/* --- Guest accesses --- */

static bool time_reg(uint8_t reg)
{
	switch (reg) {
	case REG_SEC:
	case REG_MIN:
	case REG_HOUR:
	case REG_WDAY:
	case REG_MDAY:
	case REG_MONTH:
	case REG_YEAR:
	case REG_CENTURY:
		return true;
	}
	return false;
}

static uint8_t c_read(struct rtc *rtc)
{
	uint8_t value;

	rtc_advance(rtc);
	value = rtc->cmos[REG_C];
	rtc->cmos[REG_C] = 0;
	rtc_update_irq(rtc);
	/* The timer slept while the interrupt was signalled. */
	if (rtc->cmos[REG_B] & B_IRQS)
		loop_post(rtc->loop, &rtc->work);
	return value;
}

static uint8_t cmos_read(struct rtc *rtc, uint8_t reg)
{
	uint8_t value;

	if (reg == REG_C)
		return c_read(rtc);
	value = rtc->cmos[reg];
	if (stopped(rtc))
		return value;
	if (time_reg(reg)) {
		time_to_regs(rtc, guest_time(rtc));
		return rtc->cmos[reg];
	}
	/* A driver that finds UIP clear may read all registers before they change. */
	if (reg == REG_A && guest_time(rtc) % SECOND >= SECOND - UIP_US)
		value |= A_UIP;
	return value;
}

/* Register A or B changes, and with it perhaps whether the clock runs. */
static void control_write(struct rtc *rtc, uint8_t reg, uint8_t value)
{
	bool was_stopped = stopped(rtc);
	bool was_reset = (rtc->cmos[REG_A] & A_DIV_RESET) == A_DIV_RESET;
	int64_t phase;

	if (!was_stopped)
		time_to_regs(rtc, guest_time(rtc)); /* the formats may change, too */
	if (reg == REG_A)
		value &= ~A_UIP;
	else if (value & B_SET)
		value &= ~B_UIE;
	rtc->cmos[reg] = value;

	if (was_stopped && !stopped(rtc)) {
		phase = was_reset ? SECOND / 2 : guest_time(rtc) % SECOND;
		set_time(rtc, regs_to_time(rtc) + phase);
	}
}

static void cmos_write(struct rtc *rtc, uint8_t reg, uint8_t value)
{
	int64_t now;

	if (reg == REG_C || reg == REG_D)
		return;
	if (reg > REG_D && reg != REG_CENTURY) {
		rtc->cmos[reg] = value;
		return;
	}

	rtc_advance(rtc); /* under the old values */
	if (reg == REG_A || reg == REG_B) {
		control_write(rtc, reg, value);
	} else if (!time_reg(reg) || stopped(rtc)) {
		rtc->cmos[reg] = value;
	} else if (reg != REG_WDAY) {
		now = guest_time(rtc);
		time_to_regs(rtc, now);
		rtc->cmos[reg] = value;
		set_time(rtc, regs_to_time(rtc) + now % SECOND);
	}
	rtc_update_irq(rtc);
	loop_post(rtc->loop, &rtc->work);
}

static void rtc_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	struct rtc *rtc = opaque;
	uint64_t value = UINT64_MAX;

	if (len == 1 && off == 1) {
		pthread_mutex_lock(&rtc->lock);
		value = cmos_read(rtc, rtc->index);
		pthread_mutex_unlock(&rtc->lock);
	}
	bus_put_le(data, len, value);
}

static void rtc_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct rtc *rtc = opaque;
	uint8_t value = bus_get_le(data, len);

	if (len != 1)
		return;
	pthread_mutex_lock(&rtc->lock);
	if (off == 0)
		rtc->index = value % CMOS_SIZE;
	else
		cmos_write(rtc, rtc->index, value);
	pthread_mutex_unlock(&rtc->lock);
}

/* --- For the rest of the monitor --- */

struct rtc *rtc_new(struct loop *loop, struct irq_line irq, struct err *err)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (rtc == NULL) {
		err_sys(err, ENOMEM, "real-time clock");
		return NULL;
	}
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->loop = loop;
	rtc->irq = irq;
	rtc->work.fn = rtc_work;
	rtc->timer.fn = rtc_timer;
	rtc->cmos[REG_A] = A_INIT;
	rtc->cmos[REG_B] = B_24H;
	rtc->cmos[REG_D] = D_VRT;
	rtc->last = guest_time(rtc);
	rtc->range = (struct bus_range){
		.len = RTC_PORTS,
		.name = "real-time clock",
		.dev = rtc,
		.read = rtc_read,
		.write = rtc_write,
	};
	return rtc;
}

void rtc_free(struct rtc *rtc)
{
	if (rtc == NULL)
		return;
	loop_unpost(rtc->loop, &rtc->work);
	loop_disarm(&rtc->timer);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

struct bus_range *rtc_range(struct rtc *rtc)
{
	return &rtc->range;
}

void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->index = 0;
	rtc->cmos[REG_B] &= ~B_IRQS;
	rtc->cmos[REG_C] = 0;
	rtc_update_irq(rtc);
	loop_post(rtc->loop, &rtc->work);
	pthread_mutex_unlock(&rtc->lock);
}

int rtc_state(struct rtc *rtc, struct state *st)
{
	uint64_t offset, last;
	int ret;

	pthread_mutex_lock(&rtc->lock);
	offset = rtc->offset;
	last = rtc->last;
	state_begin(st, "rtc", 1);
	state_u8(st, "index", &rtc->index);
	state_bytes(st, "cmos", rtc->cmos, sizeof(rtc->cmos));
	state_u64(st, "offset", &offset);
	state_u64(st, "last", &last);
	/* Times beyond the calendar would overflow in the arithmetic above. */
	if (last > TIME_MAX || offset + TIME_MAX > 2 * (uint64_t)TIME_MAX)
		state_fail(st, "real-time clock: time out of range");
	ret = state_end(st);
	if (ret == 0 && state_loading(st)) {
		rtc->offset = offset;
		rtc->last = last;
		rtc->index %= CMOS_SIZE;
		rtc->cmos[REG_A] &= ~A_UIP;
		rtc->cmos[REG_C] &= C_PF | C_AF | C_UF;
		rtc->cmos[REG_D] = D_VRT;
		rtc_update_irq(rtc);
		loop_post(rtc->loop, &rtc->work);
	}
	pthread_mutex_unlock(&rtc->lock);
	return ret;
}
