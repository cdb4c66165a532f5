// SPDX-License-Identifier: Apache-2.0
/* Token bucket: rate, burst, debt, fractions, extremes. Time is a number here. */
#include "device_util.h"
#include "vmm/base/ratelimit.h"

#define S  1000000000ULL
#define MS 1000000ULL

START_TEST(test_no_limit)
{
	struct ratelimit rl;

	ratelimit_init(&rl, 0, 0, 5);
	ck_assert_uint_eq(ratelimit_take(&rl, UINT64_MAX, 5), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, UINT64_MAX, 5), 0);
	ratelimit_return(&rl, UINT64_MAX);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, 0), 0);
}
END_TEST

START_TEST(test_once)
{
	struct ratelimit_config cfg = { .rate = 1000, .burst = 100, .once = 500 };
	struct ratelimit rl;
	uint64_t now = 7 * S;

	ratelimit_set(&rl, &cfg, now);
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(ratelimit_take(&rl, 100, now), 0);
	/* Then as without. */
	ck_assert_uint_eq(ratelimit_take(&rl, 100, now), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 10, now), 10 * MS);
	/* They do not come again. */
	ck_assert_uint_eq(ratelimit_take(&rl, 100, now + 100 * S), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 10, now + 100 * S), 10 * MS);
}
END_TEST

START_TEST(test_rate)
{
	struct ratelimit rl;
	uint64_t now = 7 * S;

	ratelimit_init(&rl, 1000, 100, now);
	ck_assert_uint_eq(ratelimit_take(&rl, 0, now), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 60, now), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 40, now), 0);
	/* Empty: 10 units take 10 ms. */
	ck_assert_uint_eq(ratelimit_take(&rl, 10, now), 10 * MS);
	ck_assert_uint_eq(ratelimit_take(&rl, 10, now + 4 * MS), 6 * MS);
	ck_assert_uint_eq(ratelimit_take(&rl, 10, now + 10 * MS - 1), 1);
	ck_assert_uint_eq(ratelimit_take(&rl, 10, now + 10 * MS), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, now + 10 * MS), MS);
	/* It never holds more than the burst. */
	ck_assert_uint_eq(ratelimit_take(&rl, 100, now + 100 * S), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, now + 100 * S), MS);
	/* A clock that goes back gives nothing. */
	ck_assert_uint_gt(ratelimit_take(&rl, 1, now), 0);
}
END_TEST

START_TEST(test_debt)
{
	struct ratelimit rl;

	ratelimit_init(&rl, 100, 10, 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, 0), 0);
	/* Bigger than the bucket: when it is full, 10 ms from now. */
	ck_assert_uint_eq(ratelimit_take(&rl, 50, 0), 10 * MS);
	ck_assert_uint_eq(ratelimit_take(&rl, 50, 10 * MS), 0);
	/* 40 owed: 41 units of 10 ms until one may pass. */
	ck_assert_uint_eq(ratelimit_take(&rl, 1, 10 * MS), 410 * MS);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, 420 * MS - 1), 1);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, 420 * MS), 0);
}
END_TEST

START_TEST(test_return)
{
	struct ratelimit rl;

	ratelimit_init(&rl, 100, 10, 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 8, 0), 0);
	ratelimit_return(&rl, 5);
	ck_assert_uint_eq(ratelimit_take(&rl, 7, 0), 0);
	ck_assert_uint_gt(ratelimit_take(&rl, 1, 0), 0);
	ratelimit_return(&rl, UINT64_MAX); /* no more than it holds */
	ck_assert_uint_eq(ratelimit_take(&rl, 10, 0), 0);
	ck_assert_uint_gt(ratelimit_take(&rl, 1, 0), 0);
}
END_TEST

/* Asking often must not lose the fractions: 3 units per second, asked every 7 ms. */
START_TEST(test_fractions)
{
	struct ratelimit rl;
	unsigned taken = 0;

	ratelimit_init(&rl, 3, 1, 0);
	for (uint64_t now = 0; now <= 1000 * S; now += 7 * MS)
		taken += ratelimit_take(&rl, 1, now) == 0;
	ck_assert_uint_ge(taken, 2930); /* it waits 0..7 ms past each third of a second */
	ck_assert_uint_le(taken, 3001);
}
END_TEST

START_TEST(test_extremes)
{
	struct ratelimit rl;

	ratelimit_init(&rl, UINT64_MAX, UINT64_MAX, 0);
	ck_assert_uint_eq(ratelimit_take(&rl, UINT64_MAX, 0), 0);
	ck_assert_uint_gt(ratelimit_take(&rl, UINT64_MAX, 0), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, UINT64_MAX, UINT64_MAX), 0);
	/* One unit per second and all of them owed. */
	ratelimit_init(&rl, 1, 1, 0);
	ck_assert_uint_eq(ratelimit_take(&rl, UINT64_MAX, 0), 0);
	ck_assert_uint_eq(ratelimit_take(&rl, 1, 0), UINT64_MAX);
	ck_assert_uint_gt(ratelimit_take(&rl, 1, UINT64_MAX), 0);
	/* The wait that is named is enough, for odd rates too. */
	for (uint64_t rate = 1; rate < 40 * S; rate = rate * 7 + 3) {
		uint64_t now = 123, wait;

		ratelimit_init(&rl, rate, 5, now);
		for (int i = 0; i < 50; i++) {
			wait = ratelimit_take(&rl, 3, now);
			if (wait == 0)
				continue;
			now += wait;
			ck_assert_uint_eq(ratelimit_take(&rl, 3, now), 0);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ratelimit");
	TCase *tc = tcase_create("all");

	tcase_add_test(tc, test_no_limit);
	tcase_add_test(tc, test_once);
	tcase_add_test(tc, test_rate);
	tcase_add_test(tc, test_debt);
	tcase_add_test(tc, test_return);
	tcase_add_test(tc, test_fractions);
	tcase_add_test(tc, test_extremes);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
