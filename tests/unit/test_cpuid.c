// SPDX-License-Identifier: Apache-2.0
/* How vCPUs are arranged in sockets, cores and threads, and the APIC IDs that follow. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "arch/x86_64/machine.h"
#include "tests/unit/test_run.h"

static struct cpu_config full;
static struct err err;

static int topology(uint64_t count, uint64_t sockets, uint64_t cores, uint64_t threads)
{
	struct cpu_config cfg = {
		.count = count,
		.sockets = sockets,
		.cores = cores,
		.threads = threads,
	};

	err = (struct err)ERR_INIT;
	return cpu_topology(&cfg, &full, &err);
}

static void is(uint64_t sockets, uint64_t cores, uint64_t threads)
{
	ck_assert_uint_eq(full.sockets, sockets);
	ck_assert_uint_eq(full.cores, cores);
	ck_assert_uint_eq(full.threads, threads);
}

START_TEST(what_is_left_open)
{
	ck_assert_int_eq(topology(1, 0, 0, 0), 0);
	is(1, 1, 1);
	ck_assert_int_eq(topology(8, 0, 0, 0), 0);
	is(1, 8, 1);
	ck_assert_int_eq(topology(8, 2, 0, 0), 0);
	is(2, 4, 1);
	ck_assert_int_eq(topology(8, 0, 2, 0), 0);
	is(4, 2, 1);
	ck_assert_int_eq(topology(8, 0, 0, 2), 0);
	is(1, 4, 2);
	ck_assert_int_eq(topology(12, 2, 0, 2), 0);
	is(2, 3, 2);
	ck_assert_int_eq(topology(12, 0, 3, 2), 0);
	is(2, 3, 2);
	ck_assert_int_eq(topology(12, 2, 3, 0), -EINVAL);
	ck_assert_int_eq(topology(12, 2, 3, 2), 0);
	is(2, 3, 2);
	ck_assert_int_eq(topology(255, 0, 0, 0), 0);
	is(1, 255, 1);
	ck_assert_uint_eq(full.count, 255);
}
END_TEST

static const struct {
	uint64_t count, sockets, cores, threads;
	const char *said;
} wrong[] = {
	{ 8, 3, 0, 0, "sockets=3 times cores=2 times threads=1 is not the count, 8" },
	{ 6, 0, 4, 0, "sockets=1 times cores=4 times threads=1 is not the count, 6" },
	{ 7, 0, 0, 2, "sockets=1 times cores=3 times threads=2 is not the count, 7" },
	{ 8, 2, 2, 1, "sockets=2 times cores=2 times threads=1 is not the count, 8" },
	{ 4, 2, 2, 2, "sockets=2 times cores=2 times threads=2 is not the count, 4" },
	{ 1, 0, 0, 2, "sockets=1 times cores=1 times threads=2 is not the count, 1" },
	{ 1, 0, 255, 255, "sockets=1 times cores=255 times threads=255 is not the count, 1" },
};

START_TEST(products_that_do_not_fit)
{
	char sentence[ERR_MSG_MAX];

	ck_assert_int_eq(
		topology(wrong[_i].count, wrong[_i].sockets, wrong[_i].cores, wrong[_i].threads),
		-EINVAL);
	snprintf(sentence, sizeof(sentence), "--cpus: %s", wrong[_i].said);
	ck_assert_str_eq(err.msg, sentence);
}
END_TEST

static uint32_t id(uint64_t sockets, uint64_t cores, uint64_t threads, unsigned index)
{
	struct cpu_config cfg = {
		.count = sockets * cores * threads,
		.sockets = sockets,
		.cores = cores,
		.threads = threads,
	};

	return cpu_apic_id(&cfg, index);
}

START_TEST(ids_without_gaps)
{
	/* Powers of two, and one level alone whatever its size: the index itself. */
	for (unsigned i = 0; i < 64; i++)
		ck_assert_uint_eq(id(4, 8, 2, i), i);
	for (unsigned i = 0; i < 255; i++) {
		ck_assert_uint_eq(id(1, 255, 1, i), i);
		ck_assert_uint_eq(id(255, 1, 1, i), i);
		ck_assert_uint_eq(id(1, 1, 255, i), i);
	}
	/* The last level may be of any size. */
	for (unsigned i = 0; i < 24; i++)
		ck_assert_uint_eq(id(3, 4, 2, i), i);
}
END_TEST

START_TEST(ids_with_gaps)
{
	/* Two bits for three cores: every fourth pair of IDs is left out. */
	static const uint32_t two_by_three_by_two[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };
	/* Two bits for three threads. */
	static const uint32_t one_by_two_by_three[] = { 0, 1, 2, 4, 5, 6 };

	for (unsigned i = 0; i < 12; i++)
		ck_assert_uint_eq(id(2, 3, 2, i), two_by_three_by_two[i]);
	for (unsigned i = 0; i < 6; i++)
		ck_assert_uint_eq(id(1, 2, 3, i), one_by_two_by_three[i]);
	/* Above 254: these need x2APIC. */
	ck_assert_uint_eq(id(85, 3, 1, 254), 84 << 2 | 2);
	ck_assert_uint_eq(id(5, 3, 17, 254), 4 << 7 | 2 << 5 | 16);
}
END_TEST

static unsigned bits(uint64_t n)
{
	unsigned b = 0;

	while (1ULL << b < n)
		b++;
	return b;
}

/* Does the ID, shifted as the CPUID leaves say, give socket, core and thread? */
static bool fits(uint64_t c, uint64_t t, unsigned i, uint32_t a)
{
	return (a & ((1U << bits(t)) - 1)) == i % t &&
	       (a >> bits(t) & ((1U << bits(c)) - 1)) == i / t % c &&
	       a >> (bits(t) + bits(c)) == i / t / c;
}

START_TEST(ids_can_be_taken_apart)
{
	for (uint64_t s = 1; s <= MACHINE_CPUS_MAX; s++)
		for (uint64_t c = 1; s * c <= MACHINE_CPUS_MAX; c++)
			for (uint64_t t = 1; s * c * t <= MACHINE_CPUS_MAX; t++)
				for (unsigned i = 0; i < s * c * t; i++)
					if (!fits(c, t, i, id(s, c, t, i)))
						ck_abort_msg(
							"%d sockets of %d cores of %d threads: "
							"vCPU %u",
							(int)s, (int)c, (int)t, i);
}
END_TEST

START_TEST(ids_of_a_topology_left_open)
{
	struct cpu_config cfg = { .count = 12, .cores = 3, .threads = 2 };

	ck_assert_uint_eq(cpu_apic_id(&cfg, 6), 8);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cpuid");
	TCase *tc = tcase_create("cpuid");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_is_left_open);
	tcase_add_loop_test(tc, products_that_do_not_fit, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tc, ids_without_gaps);
	tcase_add_test(tc, ids_with_gaps);
	tcase_add_test(tc, ids_can_be_taken_apart);
	tcase_add_test(tc, ids_of_a_topology_left_open);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
