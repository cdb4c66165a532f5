// SPDX-License-Identifier: Apache-2.0
/* Sleep, reset and event registers of the hardware-reduced ACPI platform. */
#include "devices/acpi_pm.h"
#include "tests/unit/device_util.h"

#define SLP_EN	0x20
#define WAK_STS 0x80

static struct test_events seen;
static struct test_line line;
static struct acpi_pm *pm;
static struct bus_range *range;

static int state_fn(void *dev, struct state *st)
{
	return acpi_pm_state(dev, st);
}

static void setup(void)
{
	struct err err = ERR_INIT;

	pm = acpi_pm_new(test_events(&seen), test_line(&line), &err);
	ck_assert_ptr_nonnull(pm);
	range = acpi_pm_range(pm);
}

static void teardown(void)
{
	acpi_pm_free(pm);
}

START_TEST(poweroff)
{
	dev_write(range, ACPI_PM_SLEEP_CONTROL, ACPI_PM_S5_TYPE << 2, 1);
	ck_assert_uint_eq(seen.n, 0); /* SLP_EN is what does it */
	ck_assert_uint_eq(dev_read(range, ACPI_PM_SLEEP_CONTROL, 1), ACPI_PM_S5_TYPE << 2);
	dev_write(range, ACPI_PM_SLEEP_CONTROL, ACPI_PM_S5_TYPE << 2 | SLP_EN, 1);
	ck_assert_uint_eq(seen.n, 1);
	ck_assert_int_eq(seen.event[0], MACHINE_POWEROFF);
}
END_TEST

START_TEST(other_sleep)
{
	for (unsigned type = 0; type < 8; type++)
		if (type != ACPI_PM_S5_TYPE)
			dev_write(range, ACPI_PM_SLEEP_CONTROL, type << 2 | SLP_EN, 1);
	ck_assert_uint_eq(seen.n, 0);
	/* Awake again; write one to clear. */
	ck_assert_uint_eq(dev_read(range, ACPI_PM_SLEEP_STATUS, 1), WAK_STS);
	dev_write(range, ACPI_PM_SLEEP_STATUS, 0x7f, 1);
	ck_assert_uint_eq(dev_read(range, ACPI_PM_SLEEP_STATUS, 1), WAK_STS);
	dev_write(range, ACPI_PM_SLEEP_STATUS, WAK_STS, 1);
	ck_assert_uint_eq(dev_read(range, ACPI_PM_SLEEP_STATUS, 1), 0);
}
END_TEST

START_TEST(reset_register)
{
	dev_write(range, ACPI_PM_RESET, 0, 1);
	dev_write(range, ACPI_PM_RESET, ACPI_PM_RESET_VALUE + 1, 1);
	ck_assert_uint_eq(seen.n, 0);
	dev_write(range, ACPI_PM_RESET, ACPI_PM_RESET_VALUE, 1);
	ck_assert_uint_eq(seen.n, 1);
	ck_assert_int_eq(seen.event[0], MACHINE_RESET);
}
END_TEST

START_TEST(power_button)
{
	ck_assert(!acpi_pm_pending(pm));
	acpi_pm_notify(pm, ACPI_GED_POWER_BUTTON);
	ck_assert(acpi_pm_pending(pm));
	ck_assert(line.level);
	acpi_pm_notify(pm, ACPI_GED_POWER_BUTTON);
	ck_assert_uint_eq(line.edges, 1);
	/* Only a read of the whole register takes the events. */
	ck_assert_uint_eq(dev_read(range, ACPI_PM_GED_EVENTS, 1), 0xff);
	ck_assert_uint_eq(dev_read(range, ACPI_PM_GED_EVENTS, 2), 0xffff);
	ck_assert_uint_eq(dev_read(range, 0, 8), UINT64_MAX);
	ck_assert(line.level);
	ck_assert_uint_eq(dev_read(range, ACPI_PM_GED_EVENTS, 4), ACPI_GED_POWER_BUTTON);
	ck_assert(!line.level);
	ck_assert(!acpi_pm_pending(pm));
	ck_assert_uint_eq(dev_read(range, ACPI_PM_GED_EVENTS, 4), 0);
	acpi_pm_notify(pm, ACPI_GED_POWER_BUTTON);
	ck_assert_uint_eq(line.edges, 2);
}
END_TEST

START_TEST(saved)
{
	struct test_line line2;
	struct err err = ERR_INIT;
	struct acpi_pm *other = acpi_pm_new(&seen.ev, test_line(&line2), &err);

	dev_write(range, ACPI_PM_SLEEP_CONTROL, 3 << 2 | SLP_EN, 1);
	acpi_pm_notify(pm, 0x81);
	test_state(state_fn, pm, other);
	ck_assert(line2.level);
	ck_assert_uint_eq(dev_read(acpi_pm_range(other), ACPI_PM_GED_EVENTS, 4), 0x81);
	ck_assert_uint_eq(dev_read(acpi_pm_range(other), ACPI_PM_SLEEP_STATUS, 1), WAK_STS);

	acpi_pm_reset(pm);
	ck_assert(!line.level);
	ck_assert(!acpi_pm_pending(pm));
	ck_assert_uint_eq(dev_read(range, ACPI_PM_SLEEP_CONTROL, 1), 0);
	acpi_pm_free(other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("acpi_pm");
	TCase *tc = tcase_create("acpi_pm");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, poweroff);
	tcase_add_test(tc, other_sleep);
	tcase_add_test(tc, reset_register);
	tcase_add_test(tc, power_button);
	tcase_add_test(tc, saved);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
