// SPDX-License-Identifier: Apache-2.0
/* pvpanic, keyboard controller, debug exit, boot timer: what they read as and what they report. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "devices/misc.h"
#include "tests/unit/device_util.h"
#include "vmm/base/log.h"

static struct test_events seen;

START_TEST(pvpanic)
{
	struct port_dev dev;

	pvpanic_init(&dev, 0x505, test_events(&seen));
	ck_assert_uint_eq(dev.range.base, 0x505);
	ck_assert_uint_eq(dev.range.len, 1);
	ck_assert_uint_eq(dev_read(&dev.range, 0, 1), 3);
	dev_write(&dev.range, 0, 0, 1);
	dev_write(&dev.range, 0, 0xfc, 1);
	ck_assert_uint_eq(seen.n, 0);
	dev_write(&dev.range, 0, 1, 1);
	dev_write(&dev.range, 0, 2, 1);
	dev_write(&dev.range, 0, 3, 1);
	ck_assert_uint_eq(seen.n, 3);
	ck_assert_int_eq(seen.event[0], MACHINE_PANICKED);
	ck_assert_int_eq(seen.event[1], MACHINE_CRASHLOADED);
	ck_assert_int_eq(seen.event[2], MACHINE_PANICKED);
}
END_TEST

START_TEST(i8042)
{
	struct bus bus;
	struct err err = ERR_INIT;
	struct i8042 kbc;
	uint16_t wide = 0xfe;
	uint8_t byte;

	i8042_init(&kbc, 0x60, test_events(&seen));
	bus_init(&bus);
	ck_assert_int_eq(bus_add(&bus, &kbc.data, &err), 0);
	ck_assert_int_eq(bus_add(&bus, &kbc.command, &err), 0);

	bus_read(&bus, 0x60, &byte, 1);
	ck_assert_uint_eq(byte, 0);
	bus_read(&bus, 0x61, &byte, 1);
	ck_assert_uint_eq(byte, 0xff); /* not ours */
	/* For ever full, as i8042_flush() must find it, and ready, as kb_wait() must. */
	for (int i = 0; i < 100; i++) {
		bus_read(&bus, 0x64, &byte, 1);
		ck_assert_uint_eq(byte, 0x01);
	}

	for (unsigned command = 0; command < 256; command++) {
		byte = command;
		bus_write(&bus, 0x60, &byte, 1);
		if (command != 0xfe)
			bus_write(&bus, 0x64, &byte, 1);
	}
	bus_write(&bus, 0x64, &wide, 2);
	ck_assert_uint_eq(seen.n, 0);
	byte = 0xfe;
	bus_write(&bus, 0x64, &byte, 1);
	ck_assert_uint_eq(seen.n, 1);
	ck_assert_int_eq(seen.event[0], MACHINE_RESET);
	bus_fini(&bus);
}
END_TEST

START_TEST(debugexit)
{
	struct port_dev dev;

	debugexit_init(&dev, 0xf4, test_events(&seen));
	ck_assert_uint_eq(dev_read(&dev.range, 0, 1), 0);
	dev_write(&dev.range, 0, 0, 1);
	dev_write(&dev.range, 0, 255, 1);
	ck_assert_uint_eq(seen.n, 2);
	ck_assert_int_eq(seen.event[0], MACHINE_DEBUG_EXIT);
	ck_assert_uint_eq(seen.arg[0], 0);
	ck_assert_uint_eq(seen.arg[1], 255);
}
END_TEST

START_TEST(boottimer)
{
	struct boot_time begun = boot_time_now();
	int fd = memfd_create("log", MFD_CLOEXEC);
	unsigned long long us, ms, cpu_us, cpu_ms;
	struct boot_timer timer;
	char line[200] = "";

	begun.wall_us -= 2345678;
	begun.cpu_us -= 1234567;
	log_set_fd(fd);
	boottimer_init(&timer, 0xc0000000, begun);
	ck_assert_uint_eq(timer.range.base, 0xc0000000);
	ck_assert_uint_eq(timer.range.len, 1);
	ck_assert_uint_eq(dev_read(&timer.range, 0, 1), 0);
	for (unsigned value = 0; value < 256; value++)
		if (value != 123)
			dev_write(&timer.range, 0, value, 1);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
	for (int i = 0; i < 1000; i++)
		dev_write(&timer.range, 0, 123, 1);
	log_set_fd(2);
	ck_assert_int_gt(pread(fd, line, sizeof(line) - 1, 0), 0);
	ck_assert_int_eq(sscanf(line,
				"vmm: Guest-boot-time = %llu us %llu ms, %llu CPU us %llu CPU ms\n",
				&us, &ms, &cpu_us, &cpu_ms),
			 4);
	ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
	ck_assert_uint_ge(us, 2345678);
	ck_assert_uint_eq(ms, us / 1000);
	ck_assert_uint_ge(cpu_us, 1234567);
	ck_assert_uint_eq(cpu_ms, cpu_us / 1000);
	close(fd);
}
END_TEST

/* Without anybody to report to nothing happens. */
START_TEST(nobody)
{
	struct port_dev dev;

	debugexit_init(&dev, 0xf4, NULL);
	dev_write(&dev.range, 0, 1, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("misc");
	TCase *tc = tcase_create("misc");

	tcase_add_test(tc, pvpanic);
	tcase_add_test(tc, i8042);
	tcase_add_test(tc, debugexit);
	tcase_add_test(tc, boottimer);
	tcase_add_test(tc, nobody);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
