// SPDX-License-Identifier: Apache-2.0
/* What CPU models leave of a host's CPUID: of one that has every bit there is, and of poorer ones.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "arch/x86_64/machine.h"
#include "tests/unit/test_run.h"

#define ENTRIES 64

static struct kvm_cpuid2 *cpuid;

static void add(uint32_t leaf, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
		uint32_t edx)
{
	cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
		.function = leaf, .index = index, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx
	};
}

static void setup(void)
{
	cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
	ck_assert_ptr_nonnull(cpuid);
	add(0, 0, 0x24, 0, 0, 0);
	add(1, 0, 0x806f8, 0x100800, ~0U, ~0U);
	add(0x7, 0, 2, ~0U, ~0U, ~0U);
	add(0x7, 1, ~0U, ~0U, ~0U, ~0U);
	add(0x7, 2, 0, 0, 0, ~0U);
	add(0xa, 0, ~0U, ~0U, ~0U, ~0U);
	add(0xd, 0, 0x602e7, 576, 11008, 0);
	add(0xd, 1, 0x1f, 0, 0x1800, 0);
	add(0xd, 2, 256, 576, 0, 0);
	add(0xd, 5, 64, 1088, 0, 0);
	add(0xd, 6, 512, 1152, 0, 0);
	add(0xd, 7, 1024, 1664, 0, 0);
	add(0xd, 9, 8, 2688, 0, 0);
	add(0xd, 11, 16, 0, 1, 0);
	add(0xd, 17, 64, 2752, 2, 0);
	add(0xd, 18, 8192, 2816, 6, 0);
	add(0x14, 0, 1, ~0U, ~0U, 0);
	add(0x1d, 0, 1, 0, 0, 0);
	add(0x40000001, 0, ~0U, 0, 0, 0);
	add(0x80000001, 0, 0, 0, ~0U, ~0U);
	add(0x80000008, 0, 0x3030, ~0U, 0, 0);
	add(0x8000000a, 0, 1, 8, 0, ~0U);
}

static void teardown(void)
{
	free(cpuid);
}

static struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, function, index);

	ck_assert_ptr_nonnull(e);
	return e;
}

static int model(const char *name, const char *without, struct err *err)
{
	struct cpu_model_config cfg = { .without = (char *)without };

	*err = (struct err)ERR_INIT;
	while (strcmp(arch_cpu_model_names[cfg.model], name) != 0)
		cfg.model++;
	return cpu_model_apply(&cfg, cpuid, err);
}

START_TEST(host_is_what_there_is)
{
	size_t size = sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]);
	struct kvm_cpuid2 *before = malloc(size);
	struct err err;

	ck_assert_ptr_nonnull(before);
	memcpy(before, cpuid, size);
	ck_assert_int_eq(model("host", NULL, &err), 0);
	ck_assert_mem_eq(before, cpuid, size);
	free(before);
}
END_TEST

START_TEST(version_2)
{
	struct err err;

	ck_assert_int_eq(model("x86-64-v2", NULL, &err), 0);
	/* sse3 ssse3 cx16 sse4.1 sse4.2 x2apic popcnt tsc-deadline hypervisor */
	ck_assert_uint_eq(leaf(1, 0)->ecx, 0x81b82201);
	ck_assert_uint_eq(leaf(1, 0)->edx, 0x178bfbff);
	ck_assert_uint_eq(leaf(1, 0)->eax, 0x806f8);
	/* smep smap; umip; md-clear and the controls of speculation */
	ck_assert_uint_eq(leaf(7, 0)->eax, 0);
	ck_assert_uint_eq(leaf(7, 0)->ebx, 0x00100080);
	ck_assert_uint_eq(leaf(7, 0)->ecx, 0x4);
	ck_assert_uint_eq(leaf(7, 0)->edx, 0xbc000400);
	ck_assert_ptr_null(cpuid_find(cpuid, 7, 1));
	ck_assert_uint_eq(leaf(0x80000001, 0)->ecx, 0x3); /* lahf, cmp-legacy */
	ck_assert_uint_eq(leaf(0x80000001, 0)->edx, 0x2d93fbff);
	ck_assert_uint_eq(leaf(0x80000008, 0)->eax, 0x3030);
	ck_assert_uint_eq(leaf(0x40000001, 0)->eax, ~0U);
	/* No xsave, no state to save; nothing of counters, tracing, AMX, SVM. */
	ck_assert_ptr_null(cpuid_find(cpuid, 0xd, 0));
	ck_assert_ptr_null(cpuid_find(cpuid, 0xd, 2));
	ck_assert_ptr_null(cpuid_find(cpuid, 0xa, 0));
	ck_assert_ptr_null(cpuid_find(cpuid, 0x14, 0));
	ck_assert_ptr_null(cpuid_find(cpuid, 0x1d, 0));
	ck_assert_ptr_null(cpuid_find(cpuid, 0x8000000a, 0));
}
END_TEST

START_TEST(version_3_and_4)
{
	struct err err;

	ck_assert_int_eq(model("x86-64-v4", NULL, &err), 0);
	ck_assert_uint_eq(leaf(7, 0)->ebx, 0xd01301a8);
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 0xe7);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 2688);
	ck_assert_uint_eq(leaf(0xd, 1)->eax, 0);
	ck_assert_uint_eq(leaf(0xd, 9)->eax, 0);
	ck_assert_uint_eq(leaf(0xd, 18)->eax, 0);
	ck_assert_int_eq(model("x86-64-v3", NULL, &err), 0);
	ck_assert_uint_eq(leaf(7, 0)->ebx, 0x001001a8);
	ck_assert_uint_eq(leaf(1, 0)->ecx & (1U << 28 | 1U << 12 | 1U << 29 | 1U << 22),
			  1U << 28 | 1U << 12 | 1U << 29 | 1U << 22);
	ck_assert_uint_eq(leaf(0x80000001, 0)->ecx, 0x23);
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 7);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 832);
	ck_assert_uint_eq(leaf(0xd, 5)->eax, 0);
}
END_TEST

START_TEST(a_host_that_lacks_part_of_it)
{
	struct err err;

	leaf(7, 0)->ebx &= ~(1U << 5);
	ck_assert_int_eq(model("x86-64-v3", NULL, &err), -ENOTSUP);
	ck_assert_str_eq(
		err.msg,
		"--cpu x86-64-v3: this host's CPU or KVM has no avx2, which is part of it");
	leaf(1, 0)->ecx &= ~(1U << 20);
	ck_assert_int_eq(model("x86-64-v2", NULL, &err), -ENOTSUP);
	ck_assert_int_eq(model("x86-64-v1", NULL, &err), 0);
	/* No leaf at all. */
	cpuid->nent = 1;
	ck_assert_int_eq(model("x86-64-v1", NULL, &err), -ENOTSUP);
	ck_assert_int_eq(model("host", "avx", &err), 0);
}
END_TEST

START_TEST(without_takes_along_what_needs_it)
{
	struct err err;

	ck_assert_int_eq(model("host", "avx+rdrand", &err), 0);
	/* fma avx f16c rdrand; avx2 and all of avx512 named here */
	ck_assert_uint_eq(leaf(1, 0)->ecx, ~(1U << 12 | 1U << 28 | 1U << 29 | 1U << 30));
	ck_assert_uint_eq(leaf(7, 0)->ebx,
			  ~(1U << 5 | 1U << 16 | 1U << 17 | 1U << 28 | 1U << 30 | 1U << 31));
	ck_assert_uint_eq(leaf(0xd, 0)->eax, 0x60203);
	ck_assert_uint_eq(leaf(0xd, 2)->eax, 0);
	ck_assert_uint_eq(leaf(0xd, 7)->eax, 0);
	/* What it does not know of stays. */
	ck_assert_uint_eq(leaf(0xd, 1)->eax, 0x1f);
	ck_assert_uint_eq(leaf(0xd, 11)->eax, 16);
	ck_assert_uint_eq(leaf(0xd, 18)->eax, 8192);
	ck_assert_uint_eq(leaf(0xd, 0)->ecx, 11008);
	ck_assert_int_eq(model("host", "xsave", &err), 0);
	ck_assert_ptr_null(cpuid_find(cpuid, 0xd, 0));
}
END_TEST

START_TEST(names_are_checked)
{
	static const char *const bad[] = { "",	   "+",	 "avx3", "avx2,fma", "avx2+", "+avx2",
					   "AVX2", "lm", "nx",	 "sse2",     "x2apic" };
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(model("host", bad[i], &err), -EINVAL);
	ck_assert_int_eq(model("host", "smep+umip+spec-ctrl", &err), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpu_model");
	TCase *tc = tcase_create("cpu_model");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, host_is_what_there_is);
	tcase_add_test(tc, version_2);
	tcase_add_test(tc, version_3_and_4);
	tcase_add_test(tc, a_host_that_lacks_part_of_it);
	tcase_add_test(tc, without_takes_along_what_needs_it);
	tcase_add_test(tc, names_are_checked);
	suite_add_tcase(s, tc);
	return test_run(s);
}
