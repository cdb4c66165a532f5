// SPDX-License-Identifier: Apache-2.0
/*
 * Zero page and PVH start info: offsets as in boot.rst, zero-page.rst and start_info.h,
 * written out here and not taken from the headers the code uses.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "firmware/bootparams.h"
#include "tests/unit/test_run.h"

#define RAM_LEN 0x100000ULL
#define BASE	0x7000ULL

static struct gmem mem;
static struct err err;
static uint8_t image_header[256]; /* a bzImage from 0x1f1 on */
static struct e820_range ranges[130];

static void put(uint8_t *image_base, size_t offset, uint64_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		image_base[offset + i] = value >> (8 * i);
}

/* Write a field of the image's header by its offset in the image. */
static void image_put(size_t offset, uint64_t value, unsigned len)
{
	put(image_header, offset - 0x1f1, value, len);
}

static void setup(void)
{
	struct gmem_config cfg = { .size = RAM_LEN };

	err = (struct err)ERR_INIT;
	ck_assert_int_eq(gmem_init(&mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, 0, RAM_LEN, &err), 0);
	memset(gmem_wptr(&mem, 0, RAM_LEN), 0xcc, RAM_LEN);

	memset(image_header, 0, sizeof(image_header));
	memset(image_header + 0x26c - 0x1f1, 0x90,
	       sizeof(image_header) - (0x26c - 0x1f1)); /* code */
	image_put(0x1f1, 27, 1);			/* setup_sects */
	image_put(0x1fe, 0xaa55, 2);
	image_put(0x200, 0x6aeb, 2); /* jmp 0x26c */
	image_put(0x202, 0x53726448, 4);
	image_put(0x206, 0x020f, 2);
	image_put(0x210, 0xb0, 1);	 /* type_of_loader */
	image_put(0x211, 0xc1, 1);	 /* loaded high, keep segments, heap */
	image_put(0x214, 0x100000, 4);	 /* code32_start */
	image_put(0x218, 0x11111111, 4); /* ramdisk_image */
	image_put(0x21c, 0x22222222, 4);
	image_put(0x224, 0x5820, 2);	 /* heap_end_ptr */
	image_put(0x230, 0x200000, 4);	 /* kernel_alignment */
	image_put(0x236, 0x7f, 2);	 /* xloadflags */
	image_put(0x238, 2047, 4);	 /* cmdline_size */
	image_put(0x250, 0xdeadbeef, 8); /* setup_data */
	image_put(0x258, 0x1000000, 8);	 /* pref_address */
	image_put(0x260, 0x2345000, 4);	 /* init_size */
	image_put(0x268, 0x00c0ffee, 4); /* kernel_info_offset */

	for (unsigned i = 0; i < 130; i++)
		ranges[i] = (struct e820_range){ (uint64_t)i << 33, 0x1000 + i, 1 + i % 4 };
}

static void teardown(void)
{
	gmem_fini(&mem);
}

static struct boot_desc describe(void)
{
	return (struct boot_desc){
		.cmdline = 0x20000,
		.cmdline_size = 10,
		.initrd = 0x80000,
		.initrd_size = 0x1234,
		.rsdp = 0xe0000,
		.e820 = ranges,
		.ne820 = 3,
		.setup_header = image_header,
		.setup_header_size = sizeof(image_header),
	};
}

static uint64_t le(const uint8_t *p, unsigned len)
{
	uint64_t value = 0;

	while (len-- > 0)
		value = value << 8 | p[len];
	return value;
}

static const uint8_t *build(const struct boot_desc *desc)
{
	int ret = bootparams_build(desc, &mem, BASE, &err);
	const uint8_t *p = gmem_ptr(&mem, BASE - 1, 4096 + 2);

	ck_assert_msg(ret == 0, "%s", err.msg);
	ck_assert_uint_eq(p[0], 0xcc);
	ck_assert_uint_eq(p[4097], 0xcc);
	return p + 1;
}

START_TEST(bzimage)
{
	struct boot_desc desc = describe();
	const uint8_t *p = build(&desc);

	/* The image's own */
	ck_assert_uint_eq(p[0x1f1], 27);
	ck_assert_uint_eq(le(p + 0x1fe, 2), 0xaa55);
	ck_assert_uint_eq(le(p + 0x202, 4), 0x53726448);
	ck_assert_uint_eq(le(p + 0x206, 2), 0x020f);
	ck_assert_uint_eq(le(p + 0x214, 4), 0x100000);
	ck_assert_uint_eq(le(p + 0x230, 4), 0x200000);
	ck_assert_uint_eq(le(p + 0x258, 8), 0x1000000);
	ck_assert_uint_eq(le(p + 0x260, 4), 0x2345000);
	ck_assert_uint_eq(le(p + 0x268, 4), 0x00c0ffee);
	/* Nothing from behind its end */
	for (size_t i = 0x26c; i < 0x2d0; i++)
		ck_assert_uint_eq(p[i], 0);

	/* The loader's */
	ck_assert_uint_eq(le(p + 0x1fa, 2), 0xffff);
	ck_assert_uint_eq(p[0x210], 0xff);
	ck_assert_uint_eq(p[0x211], 0x01);
	ck_assert_uint_eq(le(p + 0x224, 2), 0);
	ck_assert_uint_eq(le(p + 0x226, 2), 0);
	ck_assert_uint_eq(le(p + 0x250, 8), 0);
	ck_assert_uint_eq(le(p + 0x218, 4), 0x80000);
	ck_assert_uint_eq(le(p + 0x21c, 4), 0x1234);
	ck_assert_uint_eq(le(p + 0x228, 4), 0x20000);
	ck_assert_uint_eq(le(p + 0x0c0, 4), 0);
	ck_assert_uint_eq(le(p + 0x0c4, 4), 0);
	ck_assert_uint_eq(le(p + 0x0c8, 4), 0);
	ck_assert_uint_eq(le(p + 0x070, 8), 0xe0000);
	ck_assert_uint_eq(p[0x1ef], 0); /* sentinel */

	ck_assert_uint_eq(p[0x1e8], 3);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(le(p + 0x2d0 + 20 * i, 8), (uint64_t)i << 33);
		ck_assert_uint_eq(le(p + 0x2d8 + 20 * i, 8), 0x1000 + i);
		ck_assert_uint_eq(le(p + 0x2e0 + 20 * i, 4), 1 + i);
	}
	for (size_t i = 0x2d0 + 60; i < 4096; i++)
		ck_assert_uint_eq(p[i], 0);
}
END_TEST

START_TEST(no_initrd)
{
	struct boot_desc desc = describe();
	const uint8_t *p;

	desc.initrd_size = 0;
	p = build(&desc);
	ck_assert_uint_eq(le(p + 0x218, 8), 0); /* nor what the image had there */
	ck_assert_uint_eq(le(p + 0x0c0, 8), 0);
}
END_TEST

START_TEST(above_4g)
{
	struct boot_desc desc = describe();
	const uint8_t *p;

	desc.cmdline = 0x512345678;
	desc.initrd = 0x6abcdef00;
	desc.initrd_size = 0x187654321;
	p = build(&desc);
	ck_assert_uint_eq(le(p + 0x228, 4), 0x12345678);
	ck_assert_uint_eq(le(p + 0x0c8, 4), 5);
	ck_assert_uint_eq(le(p + 0x218, 4), 0xabcdef00);
	ck_assert_uint_eq(le(p + 0x0c0, 4), 6);
	ck_assert_uint_eq(le(p + 0x21c, 4), 0x87654321);
	ck_assert_uint_eq(le(p + 0x0c4, 4), 1);
}
END_TEST

START_TEST(elf)
{
	struct boot_desc desc = describe();
	const uint8_t *p;

	desc.setup_header = NULL;
	desc.setup_header_size = 0;
	p = build(&desc);
	ck_assert_uint_eq(le(p + 0x1fe, 2), 0xaa55);
	ck_assert_uint_eq(le(p + 0x202, 4), 0x53726448);
	ck_assert_uint_ge(le(p + 0x206, 2), 0x020c);
	ck_assert_uint_eq(p[0x210], 0xff);
	ck_assert_uint_eq(p[0x211], 1);
	ck_assert_uint_eq(le(p + 0x230, 4), 0x200000);
	ck_assert_uint_eq(le(p + 0x228, 4), 0x20000);
	ck_assert_uint_eq(le(p + 0x218, 4), 0x80000);
	ck_assert_uint_eq(le(p + 0x070, 8), 0xe0000);
}
END_TEST

/* A header longer than any known today must not run over what follows in the page. */
START_TEST(long_header)
{
	struct boot_desc desc = describe();
	const uint8_t *p;

	image_put(0x201, 0xff, 1);
	p = build(&desc);
	ck_assert_uint_eq(p[0x28f], 0x90);
	ck_assert_uint_eq(p[0x290], 0);
	/* and not past what there is of it */
	desc.setup_header_size = 0x270 - 0x1f1;
	p = build(&desc);
	ck_assert_uint_eq(p[0x26f], 0x90);
	ck_assert_uint_eq(p[0x270], 0);
}
END_TEST

START_TEST(bad_header)
{
	struct boot_desc desc = describe();

	for (size_t size = 0; size < 0x264 - 0x1f1; size++) {
		uint8_t *exact = malloc(size + 1); /* ASan watches its end */

		memcpy(exact, image_header, size);
		desc.setup_header = exact;
		desc.setup_header_size = size;
		ck_assert_int_eq(bootparams_build(&desc, &mem, BASE, &err), -EINVAL);
		free(exact);
	}
	desc = describe();
	image_put(0x201, 0x20, 1);
	ck_assert_int_eq(bootparams_build(&desc, &mem, BASE, &err), -EINVAL);
	image_put(0x201, 0x6a, 1);
	image_put(0x206, 0x020b, 2);
	ck_assert_int_eq(bootparams_build(&desc, &mem, BASE, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "2.11"));
	image_put(0x206, 0x020c, 2);
	ck_assert_int_eq(bootparams_build(&desc, &mem, BASE, &err), 0);
	image_put(0x202, 0, 1);
	ck_assert_int_eq(bootparams_build(&desc, &mem, BASE, &err), -EINVAL);
}
END_TEST

START_TEST(many_ranges)
{
	struct boot_desc desc = describe();
	const uint8_t *p;

	desc.ne820 = 128;
	p = build(&desc);
	ck_assert_uint_eq(p[0x1e8], 128);
	ck_assert_uint_eq(le(p + 0x2d0 + 20 * 127, 8), 127ULL << 33);
	ck_assert_uint_eq(le(p + 0xcd0, 8), 0);
	desc.ne820 = 129;
	ck_assert_int_eq(bootparams_build(&desc, &mem, BASE, &err), -E2BIG);
	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, 8192, &err), -E2BIG);
}
END_TEST

START_TEST(not_ram)
{
	struct boot_desc desc = describe();

	ck_assert_int_eq(bootparams_build(&desc, &mem, RAM_LEN, &err), -EFAULT);
	ck_assert_int_eq(bootparams_build(&desc, &mem, RAM_LEN - 4095, &err), -EFAULT);
	ck_assert_int_eq(bootparams_build(&desc, &mem, -1ULL, &err), -EFAULT);
	ck_assert_int_eq(bootparams_build(&desc, &mem, RAM_LEN - 4096, &err), 0);

	ck_assert_int_eq(pvh_build(&desc, &mem, RAM_LEN, 4096, &err), -EFAULT);
	ck_assert_int_eq(pvh_build(&desc, &mem, RAM_LEN - 64, 4096, &err), -EFAULT);
}
END_TEST

/* PVH */

START_TEST(pvh)
{
	struct boot_desc desc = describe();
	const size_t need = 56 + 32 + 3 * 24;
	const uint8_t *p;

	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, need, &err), 0);
	p = gmem_ptr(&mem, BASE, need + 1);
	ck_assert_uint_eq(p[need], 0xcc);
	ck_assert_uint_eq(le(p + 0, 4), 0x336ec578);
	ck_assert_uint_eq(le(p + 4, 4), 1);
	ck_assert_uint_eq(le(p + 8, 4), 0);
	ck_assert_uint_eq(le(p + 12, 4), 1);
	ck_assert_uint_eq(le(p + 16, 8), BASE + 56);
	ck_assert_uint_eq(le(p + 24, 8), 0x20000);
	ck_assert_uint_eq(le(p + 32, 8), 0xe0000);
	ck_assert_uint_eq(le(p + 40, 8), BASE + 56 + 32);
	ck_assert_uint_eq(le(p + 48, 4), 3);
	ck_assert_uint_eq(le(p + 52, 4), 0);

	ck_assert_uint_eq(le(p + 56, 8), 0x80000);
	ck_assert_uint_eq(le(p + 64, 8), 0x1234);
	ck_assert_uint_eq(le(p + 72, 8), 0);
	ck_assert_uint_eq(le(p + 80, 8), 0);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(le(p + 88 + 24 * i, 8), (uint64_t)i << 33);
		ck_assert_uint_eq(le(p + 96 + 24 * i, 8), 0x1000 + i);
		ck_assert_uint_eq(le(p + 104 + 24 * i, 4), 1 + i);
		ck_assert_uint_eq(le(p + 108 + 24 * i, 4), 0);
	}
}
END_TEST

START_TEST(pvh_no_initrd)
{
	struct boot_desc desc = describe();
	const uint8_t *p;

	desc.initrd_size = 0;
	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, 56 + 3 * 24, &err), 0);
	p = gmem_ptr(&mem, BASE, 128);
	ck_assert_uint_eq(le(p + 12, 4), 0);
	ck_assert_uint_eq(le(p + 16, 8), 0);
	ck_assert_uint_eq(le(p + 40, 8), BASE + 56);
	ck_assert_uint_eq(le(p + 56 + 24, 8), 1ULL << 33);
}
END_TEST

START_TEST(pvh_too_small)
{
	struct boot_desc desc = describe();
	const uint8_t *p = gmem_ptr(&mem, BASE, 1);

	for (uint64_t size = 0; size < 56 + 32 + 3 * 24; size++) {
		ck_assert_int_eq(pvh_build(&desc, &mem, BASE, size, &err), -ENOSPC);
		ck_assert_uint_eq(*p, 0xcc);
	}
}
END_TEST

/* Linux would cut these addresses off without a word. */
START_TEST(pvh_high)
{
	struct boot_desc desc = describe();

	desc.initrd = 0xfffff000;
	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, 4096, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "initrd"));
	desc.initrd = UINT64_MAX;
	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, 4096, &err), -EINVAL);
	desc.initrd_size = 0;
	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, 4096, &err), 0);
	desc.cmdline = 1ULL << 32;
	ck_assert_int_eq(pvh_build(&desc, &mem, BASE, 4096, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "command line"));
	desc = describe();
	ck_assert_int_eq(pvh_build(&desc, &mem, 1ULL << 32, 4096, &err), -EINVAL);
	ck_assert_int_eq(pvh_build(&desc, &mem, -16ULL, 4096, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bootparams");
	TCase *tc = tcase_create("bootparams");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, bzimage);
	tcase_add_test(tc, no_initrd);
	tcase_add_test(tc, above_4g);
	tcase_add_test(tc, elf);
	tcase_add_test(tc, long_header);
	tcase_add_test(tc, bad_header);
	tcase_add_test(tc, many_ranges);
	tcase_add_test(tc, not_ram);
	tcase_add_test(tc, pvh);
	tcase_add_test(tc, pvh_no_initrd);
	tcase_add_test(tc, pvh_too_small);
	tcase_add_test(tc, pvh_high);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
