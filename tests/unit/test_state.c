// SPDX-License-Identifier: Apache-2.0
/* Saved state: both directions, and files that lie. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/state_seal.h"
#include "tests/unit/test_run.h"
#include "vmm/base/state.h"

/* ---- a device ---- */

struct queue {
	uint16_t size;
	uint64_t addr;
	bool ready;
};

struct device {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	bool e;
	uint8_t bytes[5];
	uint8_t blob[16];
	size_t blob_len;
	struct queue queues[2];
};

static int device_state(struct device *dev, struct state *s)
{
	state_begin(s, "device", 2);
	state_u8(s, "a", &dev->a);
	state_u16(s, "b", &dev->b);
	state_u32(s, "c", &dev->c);
	state_u64(s, "d", &dev->d);
	state_bool(s, "e", &dev->e);
	state_bytes(s, "bytes", dev->bytes, sizeof(dev->bytes));
	state_blob(s, "blob", dev->blob, &dev->blob_len, sizeof(dev->blob));
	for (int i = 0; i < 2; i++) {
		char name[32];

		snprintf(name, sizeof(name), "queue%d", i);
		state_begin(s, name, 1);
		state_u16(s, "size", &dev->queues[i].size);
		state_u64(s, "addr", &dev->queues[i].addr);
		state_bool(s, "ready", &dev->queues[i].ready);
		state_end(s);
	}
	return state_end(s);
}

static const struct device sample = {
	.a = 1,
	.b = 0xfffe,
	.c = 0xdeadbeef,
	.d = UINT64_MAX,
	.e = true,
	.bytes = "five",
	.blob = { 9, 8, 7 },
	.blob_len = 3,
	.queues = { { 256, 0x1000, true }, { 0, 0, false } },
};

static size_t save_sample(uint8_t *buf, size_t cap)
{
	struct device dev = sample;
	struct err err = ERR_INIT;
	struct state *s = state_new_save();
	const void *data;
	size_t len;

	ck_assert_int_eq(device_state(&dev, s), 0);
	ck_assert_int_eq(state_finish(s, &data, &len, &err), 0);
	ck_assert_uint_le(len, cap);
	memcpy(buf, data, len);
	state_free(s);
	return len;
}

static int load_device(struct device *dev, const uint8_t *buf, size_t len, struct err *err)
{
	struct state *s = state_new_load(buf, len, err);
	int rc;

	if (s == NULL)
		return -err->code;
	device_state(dev, s);
	rc = state_finish(s, NULL, NULL, err);
	state_free(s);
	return rc;
}

/* ---- files written by hand ---- */

static uint8_t file[1 << 20];
static size_t file_len;

static void put(const void *p, size_t len)
{
	ck_assert_uint_le(file_len + len, sizeof(file));
	memcpy(file + file_len, p, len);
	file_len += len;
}

static void put_u8(uint8_t v)
{
	put(&v, 1);
}

static void put_u32(uint32_t v)
{
	for (int i = 0; i < 4; i++)
		put_u8((uint8_t)(v >> 8 * i));
}

static void head(void)
{
	file_len = 0;
	put("VMMSTATE", 8);
	put_u32(1);
}

static void section(const char *name, uint32_t version, uint32_t len)
{
	put_u8(1);
	put_u8((uint8_t)strlen(name));
	put(name, strlen(name));
	put_u32(version);
	put_u32(len);
}

static void field(uint8_t kind, const char *name, uint32_t len, const void *data)
{
	put_u8(kind);
	put_u8((uint8_t)strlen(name));
	put(name, strlen(name));
	put_u32(len);
	put(data, len);
}

static void seal(void)
{
	uint64_t c = state_crc(file, file_len);

	put_u32((uint32_t)c);
	put_u32((uint32_t)(c >> 32));
}

/* The sentence that loading "s" version 1 with u8 "x" and u8 "y" ends with, or "". */
static const char *load_xy(uint8_t *x, uint8_t *y)
{
	static struct err err;
	struct state *s;

	seal();
	memset(&err, 0, sizeof(err));
	s = state_new_load(file, file_len, &err);
	if (s == NULL)
		return err.msg;
	state_begin(s, "s", 1);
	state_u8(s, "x", x);
	state_u8(s, "y", y);
	state_end(s);
	state_finish(s, NULL, NULL, &err);
	state_free(s);
	return err.msg;
}

/* ---- tests ---- */

START_TEST(test_round_trip)
{
	struct device dev = { 0 };
	struct err err = ERR_INIT;
	uint8_t buf[1024];
	size_t len = save_sample(buf, sizeof(buf));

	ck_assert_msg(load_device(&dev, buf, len, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(dev.a, sample.a);
	ck_assert_uint_eq(dev.b, sample.b);
	ck_assert_uint_eq(dev.c, sample.c);
	ck_assert_uint_eq(dev.d, sample.d);
	ck_assert(dev.e);
	ck_assert_mem_eq(dev.bytes, sample.bytes, sizeof(dev.bytes));
	ck_assert_uint_eq(dev.blob_len, 3);
	ck_assert_mem_eq(dev.blob, sample.blob, sizeof(dev.blob));
	ck_assert_uint_eq(dev.queues[0].addr, 0x1000);
	ck_assert(dev.queues[0].ready && !dev.queues[1].ready);
}
END_TEST

/* The format of the header file, byte for byte: files outlive programs. */
START_TEST(test_format)
{
	struct err err = ERR_INIT;
	struct state *s = state_new_save();
	uint16_t v = 0x1234;
	const void *data, *again;
	size_t len;

	state_begin(s, "s", 7);
	state_u16(s, "v", &v);
	state_end(s);
	ck_assert_int_eq(state_finish(s, &data, &len, &err), 0);
	head();
	section("s", 7, 9);
	field(3, "v", 2, "\x34\x12");
	seal();
	ck_assert_uint_eq(len, file_len);
	ck_assert_mem_eq(data, file, len);
	ck_assert_uint_eq(state_crc((const uint8_t *)"123456789", 9), 0x995dc9bbdf1939faULL);
	/* Finished is finished. */
	ck_assert_int_eq(state_finish(s, &again, &len, &err), 0);
	ck_assert_uint_eq(len, file_len);
	state_begin(s, "t", 1);
	ck_assert_int_lt(state_finish(s, &again, &len, &err), 0);
	state_free(s);
}
END_TEST

/* Every single bit counts, and no shorter file is taken for a whole one. */
START_TEST(test_damage)
{
	struct device dev;
	struct err err = ERR_INIT;
	uint8_t buf[1024], *exact;
	size_t len = save_sample(buf, sizeof(buf));

	for (size_t bit = 0; bit < len * 8; bit++) {
		buf[bit / 8] ^= 1 << bit % 8;
		ck_assert_int_lt(load_device(&dev, buf, len, &err), 0);
		buf[bit / 8] ^= 1 << bit % 8;
	}
	for (size_t n = 0; n < len; n++) {
		exact = malloc(n); /* so that ASan sees a byte too far */
		memcpy(exact, buf, n);
		ck_assert_int_lt(load_device(&dev, exact, n, &err), 0);
		free(exact);
	}
	buf[8] = 2;
	load_device(&dev, buf, len, &err);
	ck_assert_str_eq(err.msg, "saved in format 2, this program reads format 1");
	buf[8] = 1;
	buf[len - 1] ^= 1;
	load_device(&dev, buf, len, &err);
	ck_assert_str_eq(err.msg, "damaged: the checksum does not match");
}
END_TEST

/* Every byte changed to every value, with a checksum that is right. */
START_TEST(test_malice)
{
	uint8_t buf[1024];
	size_t len = save_sample(buf, sizeof(buf));

	for (size_t i = 0; i < len - 8; i++) {
		for (int v = 0; v < 256; v++) {
			struct device dev = { 0 };
			struct err err = ERR_INIT;

			memcpy(file, buf, len - 8);
			file[i] = (uint8_t)v;
			file_len = len - 8;
			seal();
			load_device(&dev, file, file_len, &err);
			ck_assert_uint_le(dev.blob_len, sizeof(dev.blob));
		}
	}
}
END_TEST

START_TEST(test_order_and_defaults)
{
	uint8_t x = 1, y = 2;

	head();
	section("s", 1, 16);
	field(2, "y", 1, "\x05");
	field(2, "x", 1, "\x06");
	ck_assert_str_eq(load_xy(&x, &y), "");
	ck_assert_uint_eq(x, 6);
	ck_assert_uint_eq(y, 5);
	/* A missing field keeps its value. */
	head();
	section("s", 1, 8);
	field(2, "y", 1, "\x07");
	ck_assert_str_eq(load_xy(&x, &y), "");
	ck_assert_uint_eq(x, 6);
	ck_assert_uint_eq(y, 7);
	head();
	section("s", 1, 0);
	ck_assert_str_eq(load_xy(&x, &y), "");
}
END_TEST

START_TEST(test_sentences)
{
	uint8_t x = 1, y = 2;

	head();
	ck_assert_str_eq(load_xy(&x, &y), "section 's' is missing");
	head();
	section("s", 2, 0);
	ck_assert_str_eq(load_xy(&x, &y), "section 's' has version 2, this program knows up to 1");
	head();
	section("s", 0, 0);
	ck_assert_str_eq(load_xy(&x, &y), "section 's' has version 0, this program knows up to 1");
	head();
	section("s", 1, 16);
	field(2, "x", 1, "");
	field(2, "z", 1, "");
	ck_assert_str_eq(load_xy(&x, &y), "s: unknown field 'z'");
	head();
	section("s", 1, 11);
	section("z", 1, 0);
	ck_assert_str_eq(load_xy(&x, &y), "s: unknown section 'z'");
	head();
	section("s", 1, 24);
	field(2, "x", 1, "");
	field(2, "y", 1, "");
	field(2, "x", 1, "");
	ck_assert_str_eq(load_xy(&x, &y), "s: 'x' is there twice");
	/* The other way round: the copy in front is the one left over. */
	head();
	section("s", 1, 24);
	field(2, "y", 1, "");
	field(2, "x", 1, "");
	field(2, "y", 1, "");
	ck_assert_str_eq(load_xy(&x, &y), "s: 'y' is there twice");
	head();
	section("s", 1, 0);
	section("s", 1, 0);
	ck_assert_str_eq(load_xy(&x, &y), "'s' is there twice");
	head();
	section("s", 1, 0);
	section("t", 1, 0);
	ck_assert_str_eq(load_xy(&x, &y), "unknown section 't'");
	head();
	section("s", 1, 9);
	field(3, "x", 2, "ab");
	ck_assert_str_eq(load_xy(&x, &y), "s: 'x' is a u16, expected a u8");
	head();
	section("s", 1, 9);
	field(2, "x", 2, "ab");
	ck_assert_str_eq(load_xy(&x, &y), "s: 'x' has 2 bytes, expected 1");
	head();
	section("s", 1, 11);
	section("x", 1, 0);
	ck_assert_str_eq(load_xy(&x, &y), "s: 'x' is a section, expected a u8");
	head();
	field(2, "x", 1, "");
	ck_assert_str_eq(load_xy(&x, &y), "a field outside of any section at byte 12");
	ck_assert_uint_eq(x, 0);
	ck_assert_uint_eq(y, 0);
}
END_TEST

/* Lengths that reach beyond what they are in, names that are none, kinds that are none. */
START_TEST(test_malformed)
{
	uint8_t x, y;

	head();
	section("s", 1, 1);
	ck_assert_str_eq(load_xy(&x, &y), "malformed at byte 12");
	head();
	section("s", 1, UINT32_MAX);
	ck_assert_str_eq(load_xy(&x, &y), "malformed at byte 12");
	/* Inside the file, but beyond the section. */
	head();
	section("s", 1, 7);
	field(2, "x", 1, "");
	section("t", 1, 0);
	ck_assert_ptr_nonnull(strstr(load_xy(&x, &y), "malformed"));
	head();
	section("s", 1, 7);
	put("\x02\x01x\xff\xff\xff\xff", 7);
	ck_assert_str_eq(load_xy(&x, &y), "s: malformed at byte 23");
	head();
	section("s", 1, 2);
	put("\x02\xff", 2);
	ck_assert_str_eq(load_xy(&x, &y), "s: malformed at byte 23");
	for (int kind = 0; kind < 256; kind++) {
		head();
		section("s", 1, 8);
		field((uint8_t)kind, "x", 1, "");
		ck_assert(kind == 2 || load_xy(&x, &y)[0] != '\0');
	}
	for (int c = 0; c < 256; c++) {
		char name[2] = { (char)c, '\0' }, sentence[64];

		head();
		section("s", 1, 8);
		put("\x02\x01", 2);
		put(name, 1);
		put("\x01\0\0\0\0", 5);
		if (c <= ' ' || c >= 127)
			snprintf(sentence, sizeof(sentence), "s: malformed at byte 23");
		else
			snprintf(sentence, sizeof(sentence), "s: unknown field '%c'", c);
		ck_assert_str_eq(load_xy(&x, &y), c == 'x' || c == 'y' ? "" : sentence);
	}
}
END_TEST

START_TEST(test_bool)
{
	struct err err = ERR_INIT;
	struct state *s;
	bool b = true;

	head();
	section("s", 1, 8);
	field(6, "b", 1, "\x02");
	seal();
	s = state_new_load(file, file_len, &err);
	state_begin(s, "s", 1);
	state_bool(s, "b", &b);
	ck_assert_int_eq(state_end(s), -EINVAL);
	state_finish(s, NULL, NULL, &err);
	ck_assert_str_eq(err.msg, "s: 'b' is a bool of value 2");
	ck_assert(b);
	state_free(s);
}
END_TEST

START_TEST(test_blob)
{
	char buf[4] = "old", big[5] = "";
	size_t len = 3;
	struct err err = ERR_INIT;
	struct state *s;
	const void *data;

	head();
	section("s", 1, 30);
	field(8, "a", 4, "abcd");
	field(8, "b", 0, "");
	field(8, "c", 5, "abcde");
	seal();
	s = state_new_load(file, file_len, &err);
	ck_assert_uint_eq(state_begin(s, "s", 1), 1);
	state_blob(s, "none", buf, &len, sizeof(buf));
	ck_assert_uint_eq(len, 3);
	state_blob(s, "a", buf, &len, sizeof(buf));
	ck_assert_uint_eq(len, 4);
	ck_assert_mem_eq(buf, "abcd", 4);
	state_blob(s, "b", NULL, &len, 0);
	ck_assert_uint_eq(len, 0);
	state_blob(s, "c", big, &len, 4);
	ck_assert_uint_eq(len, 0);
	state_finish(s, NULL, NULL, &err);
	ck_assert_str_eq(err.msg, "s: 'c' has 5 bytes, at most 4 fit");
	state_free(s);

	s = state_new_save();
	state_begin(s, "s", 1);
	len = 6;
	state_blob(s, "a", big, &len, sizeof(big));
	ck_assert_int_lt(state_end(s), 0);
	ck_assert_int_lt(state_finish(s, &data, &len, &err), 0);
	state_free(s);
}
END_TEST

/* Nesting is bounded in both directions. */
START_TEST(test_nesting)
{
	struct err err = ERR_INIT;
	const void *data;
	struct state *s;
	size_t len;

	for (int depth = 8; depth <= 9; depth++) {
		s = state_new_save();
		for (int i = 0; i < depth; i++)
			state_begin(s, "n", 1);
		for (int i = 0; i < depth; i++)
			state_end(s);
		ck_assert_int_eq(state_finish(s, &data, &len, &err), depth == 8 ? 0 : -EINVAL);
		if (depth == 8) {
			memcpy(file, data, len);
			file_len = len;
		}
		state_free(s);
	}
	ck_assert_str_eq(err.msg, "n/n/n/n/n/n/n/n: sections nested more than 8 deep");
	s = state_new_load(file, file_len, &err);
	for (int i = 0; i < 8; i++)
		ck_assert_uint_eq(state_begin(s, "n", 1), 1);
	ck_assert_uint_eq(state_begin(s, "n", 1), 0);
	state_free(s);
}
END_TEST

START_TEST(test_many_fields)
{
	struct err err = ERR_INIT;
	struct state *s;
	const void *data;
	uint16_t v;
	size_t len;

	for (int count = 4096; count <= 4097; count++) {
		s = state_new_save();
		state_begin(s, "s", 1);
		for (int i = 0; i < count; i++) {
			char name[16];

			snprintf(name, sizeof(name), "f%d", i);
			v = (uint16_t)i;
			state_u16(s, name, &v);
		}
		state_end(s);
		ck_assert_int_eq(state_finish(s, &data, &len, &err), count == 4096 ? 0 : -EINVAL);
		if (count == 4096) {
			memcpy(file, data, len);
			file_len = len;
		}
		state_free(s);
	}
	s = state_new_load(file, file_len, &err);
	state_begin(s, "s", 1);
	/* Backwards: the slowest way. */
	for (int i = 4095; i >= 0; i--) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		state_u16(s, name, &v);
		ck_assert_uint_eq(v, i);
	}
	ck_assert_int_eq(state_end(s), 0);
	ck_assert_int_eq(state_finish(s, NULL, NULL, &err), 0);
	state_free(s);

	head();
	section("s", 1, 4097 * 7);
	for (int i = 0; i < 4097; i++)
		field(8, "x", 0, "");
	seal();
	s = state_new_load(file, file_len, &err);
	ck_assert_uint_eq(state_begin(s, "s", 1), 0);
	state_finish(s, NULL, NULL, &err);
	ck_assert_str_eq(err.msg, "s: more than 4096 fields");
	state_free(s);
}
END_TEST

/* Mistakes of ours are found when saving. */
START_TEST(test_misuse)
{
	static char long_name[300];
	struct err err = ERR_INIT;
	const void *data;
	size_t len;
	uint8_t v = 0;

	memset(long_name, 'n', sizeof(long_name) - 1);
	for (int i = 0; i < 9; i++) {
		static const char *const sentences[] = {
			"field 'v' is outside of any section",
			"s: 'v' saved twice",
			"'s' saved twice",
			"a section is closed that was never opened",
			"s: a section is not closed",
			"s: a name of 299 characters",
			"s: a name of 0 characters",
			"s: 'a b' is not a name",
			"section 's': versions begin with 1",
		};
		struct state *s = state_new_save();

		if (i != 0 && i != 3)
			state_begin(s, "s", i == 8 ? 0 : 1);
		if (i == 5 || i == 6 || i == 7)
			state_u8(s, i == 5 ? long_name : i == 6 ? "" : "a b", &v);
		else if (i != 3 && i != 8)
			state_u8(s, "v", &v);
		if (i == 1)
			state_u8(s, "v", &v);
		if (i == 2) {
			state_end(s);
			state_begin(s, "s", 1);
		}
		if (i != 0 && i != 4)
			state_end(s);
		ck_assert_int_eq(state_finish(s, &data, &len, &err), -EINVAL);
		ck_assert_str_eq(err.msg, sentences[i]);
		state_free(s);
	}
	state_free(NULL);
}
END_TEST

/* The first error sticks, nothing is touched after it. */
START_TEST(test_first_error)
{
	struct err err = ERR_INIT;
	uint8_t x = 9, y = 9;
	struct state *s;

	head();
	section("s", 1, 16);
	field(2, "x", 1, "\x01");
	field(2, "y", 1, "\x02");
	seal();
	s = state_new_load(file, file_len, &err);
	ck_assert(state_loading(s));
	state_begin(s, "s", 1);
	ck_assert(state_has(s, "x") && state_has(s, "y") && !state_has(s, "z"));
	state_u8(s, "x", &x);
	state_fail(s, "x is %u: %s", x, "no");
	state_fail(s, "second");
	state_u8(s, "y", &y);
	ck_assert_uint_eq(state_begin(s, "t", 1), 0);
	ck_assert_int_eq(state_end(s), -EINVAL);
	ck_assert_int_eq(state_end(s), -EINVAL);
	ck_assert_int_eq(state_finish(s, NULL, NULL, &err), -EINVAL);
	ck_assert_str_eq(err.msg, "s: x is 1: no");
	ck_assert_uint_eq(y, 9);
	ck_assert(!state_has(s, "x"));
	state_free(s);
}
END_TEST

/* A section that somebody else has saved, inside one of ours. */
START_TEST(test_splice)
{
	struct state *to = state_new_save(), *from;
	uint8_t buf[4096];
	size_t len = save_sample(buf, sizeof(buf));
	struct device dev = sample, loaded = { 0 };
	struct err err = ERR_INIT;
	const void *data;
	uint8_t mark = 7;

	from = state_new_load(buf, len, &err);
	ck_assert_ptr_nonnull(from);
	state_begin(to, "device", 2);
	state_begin(from, "device", 2);
	state_splice(to, from);
	state_end(from);
	ck_assert_int_eq(state_finish(from, NULL, NULL, &err), 0);
	state_end(to);
	state_begin(to, "more", 1);
	state_u8(to, "mark", &mark);
	state_end(to);
	ck_assert_int_eq(state_finish(to, &data, &len, &err), 0);
	state_free(from);
	from = state_new_load(data, len, &err);
	ck_assert_int_eq(device_state(&loaded, from), 0);
	ck_assert_mem_eq(&loaded.queues, &dev.queues, sizeof(dev.queues));
	ck_assert_mem_eq(loaded.blob, dev.blob, dev.blob_len);
	mark = 0;
	state_begin(from, "more", 1);
	state_u8(from, "mark", &mark);
	state_end(from);
	ck_assert_uint_eq(mark, 7);
	ck_assert_int_eq(state_finish(from, NULL, NULL, &err), 0);
	state_free(from);
	state_free(to);

	/* Nothing is open. */
	to = state_new_save();
	from = state_new_load(buf, save_sample(buf, sizeof(buf)), &err);
	state_splice(to, from);
	ck_assert_int_lt(state_finish(to, &data, &len, &err), 0);
	state_free(from);
	state_free(to);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("state");
	TCase *tc = tcase_create("state");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_format);
	tcase_add_test(tc, test_damage);
	tcase_add_test(tc, test_malice);
	tcase_add_test(tc, test_order_and_defaults);
	tcase_add_test(tc, test_sentences);
	tcase_add_test(tc, test_malformed);
	tcase_add_test(tc, test_bool);
	tcase_add_test(tc, test_blob);
	tcase_add_test(tc, test_nesting);
	tcase_add_test(tc, test_many_fields);
	tcase_add_test(tc, test_misuse);
	tcase_add_test(tc, test_splice);
	tcase_add_test(tc, test_first_error);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
