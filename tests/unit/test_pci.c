// SPDX-License-Identifier: Apache-2.0
/* ECAM decoding, the host bridge, and functions that are added. */
#include <errno.h>
#include "devices/pci.h"
#include "tests/unit/device_util.h"

static struct pci_bus *pci;
static struct bus_range *range;
static struct err err;

static uint64_t ecam(unsigned slot, unsigned fn, unsigned reg)
{
	return slot << 15 | fn << 12 | reg;
}

/* A function whose registers are a pci_config. */
struct fake {
	struct pci_func func;
	struct pci_config config;
	unsigned reg, len, calls;
};

static uint32_t fake_read(void *dev, unsigned reg, unsigned len)
{
	struct fake *fake = dev;

	fake->reg = reg;
	fake->len = len;
	fake->calls++;
	return pci_config_read(&fake->config, reg, len);
}

static void fake_write(void *dev, unsigned reg, uint32_t value, unsigned len)
{
	struct fake *fake = dev;

	fake->calls++;
	pci_config_write(&fake->config, reg, value, len);
}

static int state_fn(void *dev, struct state *st)
{
	return pci_state(dev, st);
}

static void setup(void)
{
	pci = pci_new(&err);
	ck_assert_ptr_nonnull(pci);
	range = pci_range(pci);
}

static void teardown(void)
{
	pci_free(pci);
}

START_TEST(host_bridge)
{
	ck_assert_uint_eq(range->len, 1 << 20);
	ck_assert_uint_eq(dev_read(range, 0, 4), 0x00081b36);
	ck_assert_uint_eq(dev_read(range, 2, 2), 0x0008);
	ck_assert_uint_eq(dev_read(range, 8, 4), 0x06000000);
	ck_assert_uint_eq(dev_read(range, 0x0e, 1), 0);	 /* header type */
	ck_assert_uint_eq(dev_read(range, 0x06, 2), 0);	 /* no capabilities */
	ck_assert_uint_eq(dev_read(range, 0x100, 4), 0); /* nor extended ones */
	ck_assert_uint_eq(dev_read(range, 0xfff, 1), 0);
}
END_TEST

START_TEST(read_only)
{
	for (unsigned reg = 0; reg < PCI_CFG_SPACE_EXP_SIZE; reg += 4)
		dev_write(range, reg, 0xffffffff, 4);
	ck_assert_uint_eq(dev_read(range, 0, 4), 0x00081b36);
	ck_assert_uint_eq(dev_read(range, 4, 4), 0x00000546);
	ck_assert_uint_eq(dev_read(range, 8, 4), 0x06000000);
	ck_assert_uint_eq(dev_read(range, 0x0c, 4), 0x000000ff);
	for (unsigned reg = 0x10; reg < 0x3c; reg += 4)
		ck_assert_uint_eq(dev_read(range, reg, 4), 0);
	ck_assert_uint_eq(dev_read(range, 0x3c, 4), 0x000000ff);
	dev_write(range, 5, 0, 1);
	ck_assert_uint_eq(dev_read(range, 4, 2), 0x0046);
	pci_reset(pci);
	ck_assert_uint_eq(dev_read(range, 4, 2), 0);
}
END_TEST

START_TEST(absent)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned fn = 0; fn < 8; fn++) {
			if (slot == 0 && fn == 0)
				continue;
			ck_assert_uint_eq(dev_read(range, ecam(slot, fn, 0), 4), 0xffffffff);
			dev_write(range, ecam(slot, fn, 4), 0xffff, 2);
		}
	}
	ck_assert_uint_eq(dev_read(range, 4, 2), 0);
}
END_TEST

START_TEST(crooked)
{
	ck_assert_uint_eq(dev_read(range, 1, 2), 0xffff);
	ck_assert_uint_eq(dev_read(range, 2, 4), 0xffffffff);
	ck_assert_uint_eq(dev_read(range, 0xffe, 4), 0xffffffff);
	ck_assert_uint_eq(dev_read(range, 0, 8), UINT64_MAX);
	dev_write(range, 5, 0xffff, 2);
	dev_write(range, 0, UINT64_MAX, 8);
	ck_assert_uint_eq(dev_read(range, 4, 2), 0);
}
END_TEST

START_TEST(added)
{
	static struct fake fakes[31 * 8 + 1];

	for (int i = 0; i <= 31 * 8; i++) {
		struct fake *f = &fakes[i];
		/* slots first, then a second function for each, ... */
		int devfn = (i % 31 + 1) << 3 | i / 31;

		f->func = (struct pci_func){ f, fake_read, fake_write };
		pci_config_init(&f->config, 0x1af4, 0x1040 + i, 0x020000, 1);
		ck_assert_int_eq(pci_add(pci, &f->func, &err), i < 31 * 8 ? devfn : -ENOSPC);
		if (i == 30) /* one each so far */
			for (int slot = 1; slot < 32; slot++)
				ck_assert_uint_eq(dev_read(range, ecam(slot, 0, 0x0e), 1), 0);
		if (i == 31) {
			ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x0e), 1), 0x80);
			ck_assert_uint_eq(dev_read(range, ecam(2, 0, 0x0e), 1), 0);
			ck_assert_uint_eq(dev_read(range, ecam(1, 2, 0), 4), 0xffffffff);
		}
	}
	ck_assert_str_eq(err.msg, "PCI bus: all 248 functions are taken");
	for (unsigned i = 0; i < 31 * 8; i++)
		ck_assert_uint_eq(dev_read(range, ecam(i % 31 + 1, i / 31, 2), 2), 0x1040u + i);
	fakes[30].calls = 0;
	dev_read(range, ecam(31, 0, 2), 2);
	ck_assert_uint_eq(fakes[30].reg, 2);
	ck_assert_uint_eq(fakes[30].len, 2);
	ck_assert_uint_eq(fakes[30].calls, 1);
	ck_assert_uint_eq(dev_read(range, ecam(31, 0, 1), 2), 0xffff);
	ck_assert_uint_eq(fakes[30].calls, 1);
	dev_write(range, ecam(31, 0, 0x3c), 11, 1);
	ck_assert_uint_eq(dev_read(range, ecam(31, 0, 0x3c), 1), 11);
	ck_assert_uint_eq(dev_read(range, 0x3c, 1), 0); /* the bridge's own */
}
END_TEST

/* Function 0 of several says so, in every access that covers the header type. */
START_TEST(multi_function)
{
	static struct fake fakes[32];

	for (int i = 0; i < 32; i++) {
		fakes[i].func = (struct pci_func){ &fakes[i], fake_read, fake_write };
		pci_config_init(&fakes[i].config, 0x1af4, 0x1040, 0x020000, 1);
		ck_assert_int_ge(pci_add(pci, &fakes[i].func, &err), 0);
	}
	ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x0e), 1), 0x80);
	ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x0e), 2), 0x0080);
	ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x0c), 4), 0x00800000);
	ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x0c), 2), 0);
	ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x0f), 1), 0);
	ck_assert_uint_eq(dev_read(range, ecam(1, 0, 0x10), 4), 0);
	ck_assert_uint_eq(dev_read(range, ecam(1, 1, 0x0e), 1), 0);
	ck_assert_uint_eq(dev_read(range, 0x0e, 1), 0); /* the bridge is alone */
}
END_TEST

START_TEST(saved)
{
	struct pci_bus *other = pci_new(&err);

	dev_write(range, 4, 0x0006, 2);
	test_state(state_fn, pci, other);
	ck_assert_uint_eq(dev_read(pci_range(other), 4, 2), 0x0006);
	pci_free(other);
}
END_TEST

/* A file cannot give the bridge another identity. */
START_TEST(forged)
{
	uint8_t config[PCI_HEADER_SIZE];
	struct state *st = state_new_save();
	const void *data;
	size_t len;

	memset(config, 0xff, sizeof(config));
	state_begin(st, "pci-host-bridge", 1);
	state_bytes(st, "config", config, sizeof(config));
	ck_assert_int_eq(state_end(st), 0);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	ck_assert_int_eq(test_load(state_fn, pci, data, len), 0);
	ck_assert_uint_eq(dev_read(range, 0, 4), 0x00081b36);
	ck_assert_uint_eq(dev_read(range, 4, 4), 0x00000546);
	state_free(st);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pci");
	TCase *tc = tcase_create("pci");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, host_bridge);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, absent);
	tcase_add_test(tc, crooked);
	tcase_add_test(tc, added);
	tcase_add_test(tc, multi_function);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, forged);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
