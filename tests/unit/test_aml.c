// SPDX-License-Identifier: Apache-2.0
/* The AML writer: bytes as ACPI 6.5, chapters 20.2 and 6.4 have them. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "firmware/aml.h"
#include "tests/unit/test_run.h"

static uint8_t buf[0x140000];
static struct aml aml;

static void setup(void)
{
	memset(buf, 0xcc, sizeof(buf));
	aml_init(&aml, buf, sizeof(buf));
}

/* What was written is exactly these bytes. */
#define ck_written(...)                                                                            \
	do {                                                                                       \
		static const uint8_t want[] = { __VA_ARGS__ };                                     \
		ck_assert_int_eq(aml.error, 0);                                                    \
		ck_assert_uint_eq(aml.len, sizeof(want));                                          \
		ck_assert_mem_eq(buf, want, sizeof(want));                                         \
		ck_assert_uint_eq(buf[aml.len], 0xcc);                                             \
		setup();                                                                           \
	} while (0)

START_TEST(integers)
{
	aml_int(&aml, 0);
	ck_written(0x00);
	aml_int(&aml, 1);
	ck_written(0x01);
	aml_int(&aml, 2);
	ck_written(0x0a, 2);
	aml_int(&aml, 0xff);
	ck_written(0x0a, 0xff);
	aml_int(&aml, 0x100);
	ck_written(0x0b, 0x00, 0x01);
	aml_int(&aml, 0xffff);
	ck_written(0x0b, 0xff, 0xff);
	aml_int(&aml, 0x10000);
	ck_written(0x0c, 0, 0, 1, 0);
	aml_int(&aml, 0xffffffff);
	ck_written(0x0c, 0xff, 0xff, 0xff, 0xff);
	aml_int(&aml, 0x100000000);
	ck_written(0x0e, 0, 0, 0, 0, 1, 0, 0, 0);
	aml_int(&aml, UINT64_MAX);
	ck_written(0xff);
}
END_TEST

START_TEST(paths)
{
	aml_path(&aml, "A");
	ck_written('A', '_', '_', '_');
	aml_path(&aml, "_SB");
	ck_written('_', 'S', 'B', '_');
	aml_path(&aml, "\\_S5_");
	ck_written('\\', '_', 'S', '5', '_');
	aml_path(&aml, "\\");
	ck_written('\\', 0);
	aml_path(&aml, "^^X2");
	ck_written('^', '^', 'X', '2', '_', '_');
	aml_path(&aml, "\\_SB.PCI0");
	ck_written('\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0');
	aml_path(&aml, "AAAA.B.CC");
	ck_written(0x2f, 3, 'A', 'A', 'A', 'A', 'B', '_', '_', '_', 'C', 'C', '_', '_');
}
END_TEST

START_TEST(bad_names)
{
	static const char *const bad[] = { "abc", "ABCDE", "1A",   ".A",   "A.", "A..B",
					   "A^",  "A B",   "\\^A", "\\\\", "A.b" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setup();
		aml_path(&aml, bad[i]);
		ck_assert_msg(aml.error == -EINVAL, "%s", bad[i]);
	}
	for (size_t i = 0; i < 3; i++) {
		static const char *const unit[] = { "", "A.B", "\\A" };

		setup();
		aml_field_unit(&aml, unit[i], 8);
		ck_assert_int_eq(aml.error, -EINVAL);
	}
}
END_TEST

START_TEST(data)
{
	aml_string(&aml, "ACPI0013");
	ck_written(0x0d, 'A', 'C', 'P', 'I', '0', '0', '1', '3', 0);
	aml_eisa_id(&aml, "PNP0A08");
	ck_written(0x0c, 0x41, 0xd0, 0x0a, 0x08);
	aml_eisa_id(&aml, "PNP0501");
	ck_written(0x0c, 0x41, 0xd0, 0x05, 0x01);
	aml_buffer(&aml, "ab", 2);
	ck_written(0x11, 0x05, 0x0a, 0x02, 'a', 'b');
	aml_buffer(&aml, "a", 1);
	ck_written(0x11, 0x03, 0x01, 'a');
	aml_buffer(&aml, "", 0);
	ck_written(0x11, 0x02, 0x00);
	aml_name_int(&aml, "_UID", 3);
	ck_written(0x08, '_', 'U', 'I', 'D', 0x0a, 3);
	aml_name_string(&aml, "_HID", "X");
	ck_written(0x08, '_', 'H', 'I', 'D', 0x0d, 'X', 0);
}
END_TEST

START_TEST(bad_data)
{
	static const char *const bad[] = { "PNP0A0",  "PNP0A081", "pnp0A08", "PNP0A0G",
					   "P1P0A08", "",	  "PNP0a08" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setup();
		aml_eisa_id(&aml, bad[i]);
		ck_assert_msg(aml.error == -EINVAL, "%s", bad[i]);
	}
	setup();
	aml_string(&aml, "\xc3\xa9");
	ck_assert_int_eq(aml.error, -EINVAL);
	setup();
	aml_method(&aml, "M", 8, false);
	ck_assert_int_eq(aml.error, -EINVAL);
}
END_TEST

START_TEST(terms)
{
	size_t outer, inner;

	outer = aml_scope(&aml, "\\_SB");
	inner = aml_device(&aml, "COM1");
	aml_name_int(&aml, "_UID", 0);
	aml_end(&aml, inner);
	aml_end(&aml, outer);
	ck_written(0x10, 0x13, '\\', '_', 'S', 'B', '_', /* Scope */
		   0x5b, 0x82, 0x0b, 'C', 'O', 'M', '1', /* Device */
		   0x08, '_', 'U', 'I', 'D', 0x00);	 /* Name */

	outer = aml_method(&aml, "_EVT", 1, true);
	aml_op(&aml, AML_STORE);
	aml_path(&aml, "EVTS");
	aml_op(&aml, AML_LOCAL0);
	inner = aml_if(&aml);
	aml_op(&aml, AML_AND);
	aml_op(&aml, AML_LOCAL0);
	aml_int(&aml, 1);
	aml_op(&aml, AML_NO_TARGET);
	aml_op(&aml, AML_NOTIFY);
	aml_path(&aml, "PWRB");
	aml_int(&aml, 0x80);
	aml_end(&aml, inner);
	inner = aml_else(&aml);
	aml_op(&aml, AML_RETURN);
	aml_op(&aml, AML_ARG0);
	aml_end(&aml, inner);
	aml_end(&aml, outer);
	ck_written(0x14, 0x1d, '_', 'E', 'V', 'T', 0x09, /* one argument, serialized */
		   0x70, 'E', 'V', 'T', 'S', 0x60, 0xa0, 0x0c, 0x7b, 0x60, 0x01, 0x00, 0x86, 'P',
		   'W', 'R', 'B', 0x0a, 0x80, 0xa1, 0x03, 0xa4, 0x68);

	outer = aml_package(&aml, 2);
	aml_int(&aml, 5);
	aml_int(&aml, 0);
	aml_end(&aml, outer);
	ck_written(0x12, 0x05, 0x02, 0x0a, 0x05, 0x00);

	aml_op_region(&aml, "EVTR", AML_SYSTEM_IO, 0x604, 4);
	outer = aml_field(&aml, "EVTR", AML_DWORD_ACC);
	aml_field_skip(&aml, 8);
	aml_field_unit(&aml, "EVTS", 32);
	aml_field_unit(&aml, "B", 63);
	aml_field_unit(&aml, "C", 64);
	aml_end(&aml, outer);
	ck_written(0x5b, 0x80, 'E', 'V', 'T', 'R', 0x01, 0x0b, 0x04, 0x06, 0x0a, 0x04, 0x5b, 0x81,
		   0x18, 'E', 'V', 'T', 'R', 0x03, /* Field */
		   0x00, 0x08, 'E', 'V', 'T', 'S', 0x20, 'B', '_', '_', '_', 0x3f, 'C', '_', '_',
		   '_', 0x40, 0x04);
}
END_TEST

/* 20.2.4: the value of a PkgLength at @at, and how many bytes it has. */
static size_t pkg_length(size_t at, size_t *bytes)
{
	size_t n = buf[at] >> 6;
	size_t value = n == 0 ? buf[at] & 0x3f : buf[at] & 0x0f;

	for (size_t i = 1; i <= n; i++)
		value |= (size_t)buf[at + i] << (8 * i - 4);
	*bytes = n + 1;
	return value;
}

START_TEST(pkg_lengths)
{
	static const struct {
		size_t content, bytes;
	} cases[] = {
		{ 2, 1 },     { 62, 1 },    { 63, 2 },	    { 64, 2 },	    { 0xffd, 2 },
		{ 0xffe, 3 }, { 0xfff, 3 }, { 0xffffc, 3 }, { 0xffffd, 4 }, { 0x100000, 4 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t start, outer, n, bytes;

		setup();
		outer = aml_package(&aml, 1);
		start = aml_package(&aml, 0);
		for (n = 1; n < cases[i].content; n++)
			aml_byte(&aml, 0x5a);
		aml_end(&aml, start);
		aml_end(&aml, outer);
		ck_assert_int_eq(aml.error, 0);
		/* The outer term reaches to the end, and so does the inner one. */
		ck_assert_uint_eq(pkg_length(1, &bytes), aml.len - 1);
		start = 1 + bytes + 1;
		ck_assert_uint_eq(buf[start], 0x12);
		ck_assert_uint_eq(pkg_length(start + 1, &bytes), aml.len - start - 1);
		ck_assert_uint_eq(bytes, cases[i].bytes);
		ck_assert_uint_eq(aml.len, start + 1 + bytes + cases[i].content);
		for (n = 1; n < cases[i].content; n++)
			if (buf[start + 1 + bytes + n] != 0x5a)
				break;
		ck_assert_uint_eq(n, cases[i].content);
	}
}
END_TEST

START_TEST(resources)
{
	size_t res;
	uint8_t sum = 0;

	res = aml_name_resources(&aml, "_CRS");
	aml_io(&aml, 0x3f8, 8);
	aml_interrupt(&aml, 4);
	aml_resources_end(&aml, res);
	for (size_t i = 9; i < aml.len; i++)
		sum += buf[i];
	ck_assert_uint_eq(sum, 0);
	ck_written(0x08, '_', 'C', 'R', 'S', 0x11, 0x16, 0x0a, 0x13, /* Buffer (19) */
		   0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08,   /* IO */
		   0x89, 0x06, 0x00, 0x03, 0x01, 0x04, 0x00, 0x00, 0x00, 0x79, 0xa9);

	aml_memory32_fixed(&aml, 0xe0000000, 0x100000);
	ck_written(0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0x10, 0);
	aml_bus_range(&aml, 0, 255);
	ck_written(0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 1);
	aml_dword_memory(&aml, true, 0xc0000000, 0x20000000);
	ck_written(0x87, 23, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0xdf, 0, 0,
		   0, 0, 0, 0, 0, 0x20);
	aml_qword_memory(&aml, false, 0x4000000000, 0x100);
	ck_written(0x8a, 43, 0, 0, 0x0d, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0xff,
		   0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0);
	/* The last bytes of the space. */
	aml_dword_memory(&aml, true, 0xfffff000, 0x1000);
	ck_assert_int_eq(aml.error, 0);
	aml_qword_memory(&aml, true, UINT64_MAX - 0xfff, 0x1000);
	ck_assert_int_eq(aml.error, 0);
}
END_TEST

START_TEST(bad_resources)
{
	aml_dword_memory(&aml, true, 0xfffff000, 0x1001);
	ck_assert_int_eq(aml.error, -EINVAL);
	setup();
	aml_dword_memory(&aml, true, 0, 0);
	ck_assert_int_eq(aml.error, -EINVAL);
	setup();
	aml_qword_memory(&aml, true, UINT64_MAX, 2);
	ck_assert_int_eq(aml.error, -EINVAL);
	setup();
	aml_bus_range(&aml, 1, 0);
	ck_assert_int_eq(aml.error, -EINVAL);
	setup();
	aml_bus_range(&aml, 0, 0xffff); /* 65536 does not fit its length */
	ck_assert_int_eq(aml.error, -EINVAL);
}
END_TEST

/* Something with all kinds of terms, into whatever there is room for. */
static void everything(struct aml *out)
{
	size_t scope, dev, res, field, method, cond;

	scope = aml_scope(out, "\\_SB.A.B");
	dev = aml_device(out, "DEV");
	aml_name_eisa_id(out, "_HID", "PNP0C02");
	aml_name_string(out, "_STR", "abc");
	res = aml_name_resources(out, "_CRS");
	aml_io(out, 1, 1);
	aml_interrupt(out, 1);
	aml_memory32_fixed(out, 1, 1);
	aml_bus_range(out, 0, 1);
	aml_dword_memory(out, true, 1, 1);
	aml_qword_memory(out, true, 1, 1);
	aml_resources_end(out, res);
	aml_op_region(out, "REG", AML_SYSTEM_MEMORY, UINT64_MAX - 1, 0x10000);
	field = aml_field(out, "REG", AML_BYTE_ACC);
	aml_field_skip(out, 100);
	aml_field_unit(out, "F", 1);
	aml_end(out, field);
	method = aml_method(out, "M", 7, false);
	cond = aml_if(out);
	aml_buffer(out, "xyz", 3);
	aml_end(out, cond);
	cond = aml_else(out);
	aml_end(out, cond);
	aml_end(out, method);
	aml_end(out, dev);
	aml_end(out, scope);
}

START_TEST(overflow)
{
	size_t full;

	everything(&aml);
	ck_assert_int_eq(aml.error, 0);
	full = aml.len;
	for (size_t size = 0; size <= full; size++) {
		uint8_t *exact = malloc(size + 1); /* ASan watches its end */
		struct aml out;

		exact[size] = 0x77;
		aml_init(&out, exact, size);
		everything(&out);
		ck_assert_int_eq(out.error, size < full ? -ENOSPC : 0);
		ck_assert_uint_le(out.len, size);
		ck_assert_uint_eq(exact[size], 0x77);
		if (size == full)
			ck_assert_mem_eq(exact, buf, full);
		free(exact);
	}
}
END_TEST

/* The first error stays, whatever comes later. */
START_TEST(sticky)
{
	uint8_t small[4];
	size_t len;

	aml_init(&aml, small, sizeof(small));
	aml_path(&aml, "bad");
	len = aml.len;
	everything(&aml);
	ck_assert_int_eq(aml.error, -EINVAL);
	ck_assert_uint_eq(aml.len, len);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("aml");
	TCase *tc = tcase_create("aml");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, integers);
	tcase_add_test(tc, paths);
	tcase_add_test(tc, bad_names);
	tcase_add_test(tc, data);
	tcase_add_test(tc, bad_data);
	tcase_add_test(tc, terms);
	tcase_add_test(tc, pkg_lengths);
	tcase_add_test(tc, resources);
	tcase_add_test(tc, bad_resources);
	tcase_add_test(tc, overflow);
	tcase_add_test(tc, sticky);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
