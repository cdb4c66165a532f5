// SPDX-License-Identifier: Apache-2.0
/* The I/O APIC: registers, edges, levels, EOIs, messages and routes. */
#include <errno.h>
#include "devices/ioapic.h"
#include "tests/unit/device_util.h"

#define PINS	   24
#define MASKED	   0x10000u
#define LEVEL	   0x8000u
#define REMOTE_IRR 0x4000u

/* What came out of the chip. */
struct output {
	struct ioapic_output out;
	unsigned sends, routes;
	uint64_t addr;
	uint32_t data;
	bool routed[IOAPIC_PINS_MAX];
	uint32_t route_data[IOAPIC_PINS_MAX];
};

static struct output seen;
static struct ioapic *ioapic;
static struct bus_range *range;
static struct err err;

static void out_send(struct ioapic_output *out, uint64_t addr, uint32_t data)
{
	struct output *o = (struct output *)out; /* first member */

	o->sends++;
	o->addr = addr;
	o->data = data;
}

static void out_route(struct ioapic_output *out, unsigned pin, bool masked, uint64_t addr,
		      uint32_t data)
{
	struct output *o = (struct output *)out;

	(void)addr;
	o->routes++;
	o->routed[pin] = !masked;
	o->route_data[pin] = data;
}

static uint32_t reg_get(unsigned reg)
{
	dev_write(range, 0, reg, 4);
	return dev_read(range, 0x10, 4);
}

static void reg_set(unsigned reg, uint32_t value)
{
	dev_write(range, 0, reg, 4);
	dev_write(range, 0x10, value, 4);
}

static uint32_t low(unsigned pin)
{
	return reg_get(0x10 + 2 * pin);
}

static void set_low(unsigned pin, uint32_t value)
{
	reg_set(0x10 + 2 * pin, value);
}

static void set_high(unsigned pin, uint32_t value)
{
	reg_set(0x11 + 2 * pin, value);
}

static void line(unsigned pin, bool level)
{
	struct irq_line l = ioapic_line(ioapic, pin);

	irq_set(&l, level);
}

static int state_fn(void *dev, struct state *st)
{
	return ioapic_state(dev, st);
}

static void setup(void)
{
	memset(&seen, 0, sizeof(seen));
	seen.out = (struct ioapic_output){ .send = out_send, .route = out_route };
	ioapic = ioapic_new(PINS, &seen.out, &err);
	ck_assert_ptr_nonnull(ioapic);
	range = ioapic_range(ioapic);
}

static void teardown(void)
{
	ioapic_free(ioapic);
}

START_TEST(registers)
{
	ck_assert_uint_eq(reg_get(0), 0);
	reg_set(0, 0xffffffff);
	ck_assert_uint_eq(reg_get(0), 0x0f000000);
	ck_assert_uint_eq(reg_get(2), 0x0f000000);
	reg_set(1, 0xffffffff);
	ck_assert_uint_eq(reg_get(1), 0x00170020);
	ck_assert_uint_eq(reg_get(3), 0xffffffff);
	ck_assert_uint_eq(reg_get(0x0f), 0xffffffff);
	ck_assert_uint_eq(low(0), MASKED);
	ck_assert_uint_eq(low(PINS - 1), MASKED);
	ck_assert_uint_eq(low(PINS), 0xffffffff);
	ck_assert_uint_eq(reg_get(0xff), 0xffffffff);
	reg_set(0xff, 0);

	/* Read-only and reserved bits of an entry stay zero. */
	set_low(5, 0xffffffff);
	set_high(5, 0xffffffff);
	ck_assert_uint_eq(low(5), 0x1afff);
	ck_assert_uint_eq(reg_get(0x11 + 10), 0xfffe0000);
	ck_assert_uint_eq(seen.sends, 0);
	ck_assert_uint_eq(seen.routes, 0);

	/* The select register, and widths. */
	dev_write(range, 0, 0x12345601, 4);
	ck_assert_uint_eq(dev_read(range, 0, 4), 1);
	ck_assert_uint_eq(dev_read(range, 0, 1), 1);
	ck_assert_uint_eq(dev_read(range, 0x10, 4), 0x00170020);
	ck_assert_uint_eq(dev_read(range, 0x10, 1), 0xff);
	ck_assert_uint_eq(dev_read(range, 0x11, 4), 0xffffffff);
	ck_assert_uint_eq(dev_read(range, 0x10, 8), UINT64_MAX);
	ck_assert_uint_eq(dev_read(range, 0xff8, 8), UINT64_MAX);
	dev_write(range, 0, 0, 1);
	dev_write(range, 0x10, 0, 2);
	ck_assert_uint_eq(reg_get(0), 0x0f000000);
}
END_TEST

START_TEST(pin_numbers)
{
	ck_assert_ptr_null(ioapic_new(0, &seen.out, &err));
	ck_assert_ptr_null(ioapic_new(IOAPIC_PINS_MAX + 1, &seen.out, &err));
	ck_assert_str_eq(err.msg, "I/O APIC with 121 pins: 1 to 120 are possible");
	ioapic_free(ioapic);
	ioapic = ioapic_new(IOAPIC_PINS_MAX, &seen.out, &err);
	range = ioapic_range(ioapic);
	set_low(IOAPIC_PINS_MAX - 1, 0x33);
	line(IOAPIC_PINS_MAX - 1, true);
	line(IOAPIC_PINS_MAX, true);
	line(UINT32_MAX, true);
	ck_assert_uint_eq(seen.sends, 1);
}
END_TEST

START_TEST(message)
{
	set_high(4, 0x12000000);
	set_low(4, 0x31);
	line(4, true);
	ck_assert_uint_eq(seen.addr, 0xfee12000);
	ck_assert_uint_eq(seen.data, 0x31);
	line(4, false);

	/* Logical, lowest priority, to an ID beyond 255: 0x7f34. */
	set_high(4, 0x34fe0000);
	set_low(4, 0x931);
	line(4, true);
	ck_assert_uint_eq(seen.addr, 0xfee34fe4);
	ck_assert_uint_eq(seen.data, 0x131);
	line(4, false);

	set_low(4, 0x31 | LEVEL);
	line(4, true);
	ck_assert_uint_eq(seen.data, 0xc031);
}
END_TEST

START_TEST(edge)
{
	set_low(4, 0x31);
	line(4, true);
	line(4, true);
	ck_assert_uint_eq(seen.sends, 1); /* once per edge */
	line(4, false);
	line(4, true);
	ck_assert_uint_eq(seen.sends, 2);
	ioapic_eoi(ioapic, 0x31);
	ck_assert_uint_eq(seen.sends, 2);
	ck_assert_uint_eq(low(4), 0x31);
}
END_TEST

START_TEST(edge_while_masked)
{
	line(4, true);
	line(4, false);
	line(4, true);
	ck_assert_uint_eq(seen.sends, 0);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.sends, 1);
	set_low(4, 0x31 | MASKED);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.sends, 1);
	/* Also when it was a short pulse. */
	set_low(4, 0x31 | MASKED);
	line(4, false);
	line(4, true);
	line(4, false);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.sends, 2);
}
END_TEST

START_TEST(level)
{
	set_low(9, 0x52 | LEVEL);
	line(9, true);
	ck_assert_uint_eq(seen.sends, 1);
	ck_assert_uint_eq(low(9), 0x52 | LEVEL | REMOTE_IRR);
	line(9, false);
	line(9, true);
	ck_assert_uint_eq(seen.sends, 1); /* in service */
	ioapic_eoi(ioapic, 0x51);
	ck_assert_uint_eq(seen.sends, 1);
	ioapic_eoi(ioapic, 0x52);
	ck_assert_uint_eq(seen.sends, 2); /* still asserted */
	line(9, false);
	ioapic_eoi(ioapic, 0x52);
	ck_assert_uint_eq(seen.sends, 2);
	ck_assert_uint_eq(low(9), 0x52 | LEVEL);
	ioapic_eoi(ioapic, 0x52);
	ck_assert_uint_eq(seen.sends, 2);

	/* The chip's own EOI register. */
	line(9, true);
	line(9, false);
	ck_assert_uint_eq(seen.sends, 3);
	dev_write(range, 0x40, 0x52, 4);
	ck_assert_uint_eq(low(9), 0x52 | LEVEL);
}
END_TEST

START_TEST(level_while_masked)
{
	set_low(9, 0x52 | LEVEL | MASKED);
	line(9, true);
	line(9, false);
	set_low(9, 0x52 | LEVEL);
	ck_assert_uint_eq(seen.sends, 0); /* no longer asserted */
	set_low(9, 0x52 | LEVEL | MASKED);
	line(9, true);
	set_low(9, 0x52 | LEVEL);
	ck_assert_uint_eq(seen.sends, 1);
}
END_TEST

/* Linux' way to clear Remote IRR on a chip without an EOI register. */
START_TEST(clear_remote_irr)
{
	set_low(9, 0x52 | LEVEL);
	line(9, true);
	set_low(9, 0x52 | LEVEL); /* it is read-only */
	ck_assert_uint_eq(low(9), 0x52 | LEVEL | REMOTE_IRR);
	set_low(9, 0x52 | MASKED);
	ck_assert_uint_eq(low(9), 0x52 | MASKED);
	set_low(9, 0x52 | LEVEL | MASKED);
	ck_assert_uint_eq(low(9), 0x52 | LEVEL | MASKED);
	set_low(9, 0x52 | LEVEL);
	ck_assert_uint_eq(seen.sends, 2);
}
END_TEST

/* An edge that was held is no level, and the other way round. */
START_TEST(change_of_mode)
{
	line(4, true);
	line(4, false);
	set_low(4, 0x31 | LEVEL | MASKED);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.sends, 0);

	set_low(4, 0x31 | LEVEL | MASKED);
	line(4, true);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.sends, 0);
	set_low(4, 0x31 | LEVEL);
	ck_assert_uint_eq(seen.sends, 1);
}
END_TEST

START_TEST(routes)
{
	set_low(4, 0x31 | MASKED);
	set_high(4, 0x01000000);
	ck_assert_uint_eq(seen.routes, 0); /* nobody needs to know yet */
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.routes, 1);
	ck_assert(seen.routed[4]);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.routes, 1); /* no change */
	set_high(4, 0x02000000);
	ck_assert_uint_eq(seen.routes, 2);
	line(4, true);
	line(4, false);
	ck_assert_uint_eq(seen.routes, 2);
	set_low(4, 0x31 | MASKED);
	ck_assert_uint_eq(seen.routes, 3);
	ck_assert(!seen.routed[4]);
}
END_TEST

/* While its interrupt is in service a masked pin keeps its route, or no EOI would come. */
START_TEST(route_until_eoi)
{
	set_low(9, 0x52 | LEVEL);
	line(9, true);
	set_low(9, 0x52 | LEVEL | MASKED);
	ck_assert(seen.routed[9]);
	ck_assert_uint_eq(seen.routes, 1);
	ioapic_eoi(ioapic, 0x52);
	ck_assert(!seen.routed[9]);
	ck_assert_uint_eq(seen.sends, 1);
	set_low(9, 0x52 | LEVEL);
	ck_assert(seen.routed[9]);
	ck_assert_uint_eq(seen.sends, 2);
}
END_TEST

START_TEST(reset)
{
	set_low(9, 0x52 | LEVEL);
	line(9, true);
	line(4, true);
	reg_set(0, 0x03000000);
	ioapic_reset(ioapic);
	ck_assert_uint_eq(reg_get(0), 0);
	ck_assert_uint_eq(low(9), MASKED);
	ck_assert(!seen.routed[9]);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen.sends, 1); /* the edge is forgotten */
	set_low(9, 0x52 | LEVEL);
	ck_assert_uint_eq(seen.sends, 2); /* the line is still high */
}
END_TEST

START_TEST(saved)
{
	struct output seen2 = { .out = { .send = out_send, .route = out_route } };
	struct ioapic *other = ioapic_new(PINS, &seen2.out, &err);
	struct ioapic *small = ioapic_new(PINS - 1, &seen2.out, &err);
	size_t len;
	void *data;

	reg_set(0, 0x03000000);
	set_low(9, 0x52 | LEVEL);
	line(9, true);
	set_low(9, 0x52 | LEVEL | MASKED);
	set_low(7, 0x44);
	set_low(4, 0x31 | MASKED);
	line(4, true);
	test_state(state_fn, ioapic, other);
	ck_assert_uint_eq(seen2.sends, 0);
	ck_assert_uint_eq(seen2.routes, 2);
	ck_assert(seen2.routed[7] && seen2.routed[9]);
	ck_assert_uint_eq(seen2.route_data[7], 0x44);
	range = ioapic_range(other);
	set_low(4, 0x31);
	ck_assert_uint_eq(seen2.sends, 1);
	ck_assert_uint_eq(seen2.data, 0x31);
	ioapic_eoi(other, 0x52);
	set_low(9, 0x52 | LEVEL);
	ck_assert_uint_eq(seen2.sends, 2);

	data = test_save(state_fn, other, &len);
	ck_assert_int_lt(test_load(state_fn, small, data, len), 0);
	free(data);
	ioapic_free(other);
	ioapic_free(small);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ioapic");
	TCase *tc = tcase_create("ioapic");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, pin_numbers);
	tcase_add_test(tc, message);
	tcase_add_test(tc, edge);
	tcase_add_test(tc, edge_while_masked);
	tcase_add_test(tc, level);
	tcase_add_test(tc, level_while_masked);
	tcase_add_test(tc, clear_remote_irr);
	tcase_add_test(tc, change_of_mode);
	tcase_add_test(tc, routes);
	tcase_add_test(tc, route_until_eoi);
	tcase_add_test(tc, reset);
	tcase_add_test(tc, saved);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
