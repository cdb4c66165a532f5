// SPDX-License-Identifier: Apache-2.0
/* The MP table: bytes as the MultiProcessor Specification 1.4, chapter 4, has them. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "firmware/mptable.h"
#include "tests/unit/test_run.h"

#define RAM_LEN 0x100000ULL
#define BASE	0xf0000ULL

static struct gmem mem;
static struct err err;
static uint32_t ids[256];

static void setup(void)
{
	struct gmem_config cfg = { .size = RAM_LEN };

	err = (struct err)ERR_INIT;
	ck_assert_int_eq(gmem_init(&mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, 0, RAM_LEN, &err), 0);
	memset(gmem_wptr(&mem, 0, RAM_LEN), 0xcc, RAM_LEN);
	for (unsigned i = 0; i < 256; i++)
		ids[i] = i;
}

static void teardown(void)
{
	gmem_fini(&mem);
}

static struct mptable_desc describe(unsigned ncpus)
{
	return (struct mptable_desc){
		.ncpus = ncpus,
		.apic_ids = ids,
		.lapic_addr = 0xfee00000,
		.ioapic_addr = 0xfec00000,
		.ioapic_id = 0xf0,
		.cpu_signature = 0x000806f8,
		.cpu_features = 0x0f8bfbff,
		.irqs = 16,
	};
}

static void ck_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	ck_assert_uint_eq(sum, 0);
}

START_TEST(whole)
{
	static const unsigned counts[] = { 1, 8, 255 }, irqs[] = { 16, 24, 80 };
	static const uint8_t bus[] = { 1, 0, 'I', 'S', 'A', ' ', ' ', ' ' };
	static const uint8_t ioapic[] = { 2, 0xf0, 0x11, 1, 0x00, 0x00, 0xc0, 0xfe };
	static const uint8_t extint[] = { 4, 3, 0, 0, 0, 0, 255, 0 };
	static const uint8_t nmi[] = { 4, 1, 0, 0, 0, 0, 255, 1 };

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct mptable_desc desc = describe(counts[c]);
		size_t len = 44 + counts[c] * 20 + 8 + 8 + (irqs[c] + 2) * 8;
		uint64_t used = 0;
		const uint8_t *p;

		desc.irqs = irqs[c];
		ck_assert_int_eq(mptable_build(&desc, &mem, BASE, 0x10000, &used, &err), 0);
		ck_assert_uint_eq(used, 16 + len);
		p = gmem_ptr(&mem, BASE, used + 1);
		ck_assert_uint_eq(p[used], 0xcc);

		/* Floating pointer: what Linux looks for, and no default configuration. */
		ck_assert_mem_eq(p, "_MP_\x10\x00\x0f\x00\x01\x04", 10);
		ck_assert_mem_eq(p + 11, "\0\0\0\0\0", 5);
		ck_sum(p, 16);

		p += 16;
		ck_assert_mem_eq(p, "PCMP", 4);
		ck_assert_uint_eq(p[4] | p[5] << 8, len);
		ck_assert_uint_eq(p[6], 4);
		ck_sum(p, len);
		ck_assert_mem_eq(p + 8, "VMM     VMM         ", 20);
		ck_assert_mem_eq(p + 28, "\0\0\0\0\0\0", 6);
		ck_assert_uint_eq(p[34] | p[35] << 8, counts[c] + 2 + irqs[c] + 2);
		ck_assert_mem_eq(p + 36, "\x00\x00\xe0\xfe\0\0\0\0", 8);
		p += 44;

		for (unsigned i = 0; i < counts[c]; i++, p += 20) {
			uint8_t cpu[20] = { 0,	  i,	0x14, i == 0 ? 3 : 1, 0xf8, 0x06,
					    0x08, 0x00, 0xff, 0xfb,	      0x8b, 0x0f };

			ck_assert_mem_eq(p, cpu, sizeof(cpu));
		}
		ck_assert_mem_eq(p, bus, 8);
		ck_assert_mem_eq(p + 8, ioapic, 8);
		p += 16;
		for (unsigned i = 0; i < irqs[c]; i++, p += 8) {
			uint8_t irq[8] = { 3, 0, 0, 0, 0, i, 0xf0, i };

			ck_assert_mem_eq(p, irq, sizeof(irq));
		}
		ck_assert_mem_eq(p, extint, 8);
		ck_assert_mem_eq(p + 8, nmi, 8);
	}
}
END_TEST

START_TEST(too_small)
{
	struct mptable_desc desc = describe(2);
	const uint8_t *p = gmem_ptr(&mem, BASE, 4096);
	const uint64_t need = 92 + 2 * 20 + 16 * 8; /* as mptable.h says */
	uint64_t used;

	for (uint64_t size = 0; size < need; size++) {
		ck_assert_int_eq(mptable_build(&desc, &mem, BASE, size, &used, &err), -ENOSPC);
		ck_assert_uint_eq(p[0], 0xcc);
	}
	ck_assert_int_eq(mptable_build(&desc, &mem, BASE, need, &used, &err), 0);
	ck_assert_uint_eq(used, need);
}
END_TEST

START_TEST(not_ram)
{
	struct mptable_desc desc = describe(2);
	uint64_t used;

	ck_assert_int_eq(mptable_build(&desc, &mem, RAM_LEN, 4096, &used, &err), -EFAULT);
	ck_assert_int_eq(mptable_build(&desc, &mem, RAM_LEN - 256, 4096, &used, &err), -EFAULT);
}
END_TEST

START_TEST(bad_desc)
{
	struct mptable_desc desc = describe(2);
	uint64_t used;

	ck_assert_int_eq(mptable_build(&desc, &mem, BASE + 8, 4096, &used, &err), -EINVAL);
	ck_assert_int_eq(mptable_build(&desc, &mem, 1ULL << 32, 4096, &used, &err), -EINVAL);
	ids[1] = 255;
	ck_assert_int_eq(mptable_build(&desc, &mem, BASE, 4096, &used, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "255"));
	desc = describe(0);
	ck_assert_int_eq(mptable_build(&desc, &mem, BASE, 4096, &used, &err), -EINVAL);
	desc = describe(2);
	desc.irqs = 15;
	ck_assert_int_eq(mptable_build(&desc, &mem, BASE, 4096, &used, &err), -EINVAL);
	desc.irqs = 121;
	ck_assert_int_eq(mptable_build(&desc, &mem, BASE, 4096, &used, &err), -EINVAL);
	desc = describe(256);
	ck_assert_int_eq(mptable_build(&desc, &mem, BASE, 0x10000, &used, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mptable");
	TCase *tc = tcase_create("mptable");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, whole);
	tcase_add_test(tc, too_small);
	tcase_add_test(tc, not_ram);
	tcase_add_test(tc, bad_desc);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
