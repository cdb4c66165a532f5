// SPDX-License-Identifier: Apache-2.0
/* The entropy device: buffers of all sizes, the limit, buffers it cannot fill. */
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"

/* As devices/virtio_rng.c has it: the first keys of its option. */
struct rng_options {
	uint64_t bw, bw_burst;
};

static struct driver d;
static const struct virtio_ops *ops;
static struct virtio_device *vdev;
static struct err err;

static void setup(void)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == VIRTIO_ID_RNG)
			ops = virtio_kind(i);
	ck_assert_ptr_nonnull(ops);
	driver_init(&d);
}

static void make(uint64_t bw, uint64_t burst)
{
	struct rng_options options = { bw, burst };

	ck_assert_int_eq(ops->check(&options, &err), 0);
	vdev = ops->create(&options, 1, 0, &d.host, &err);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
	driver_start(&d, 1ULL << VIRTIO_RING_F_EVENT_IDX);
}

static void teardown(void)
{
	if (vdev != NULL) {
		driver_detach(&d);
		ops->destroy(vdev);
	}
	driver_fini(&d);
}

/* Ask for @len bytes in one buffer at @gpa. */
static void ask(uint64_t gpa, uint32_t len)
{
	driver_add(&d, 0, (struct driver_buf[]){ { gpa, len, true } }, 1);
	driver_kick(&d, 0);
}

/* Of 64 random bytes hardly ever as many as 8 are equal to one value. */
static void check_random(uint64_t gpa, uint32_t len)
{
	const uint8_t *p = driver_ptr(&d, gpa, len);
	unsigned count[256] = { 0 };

	for (uint32_t i = 0; i < len; i++)
		count[p[i]]++;
	for (unsigned i = 0; i < 256; i++)
		ck_assert_uint_lt(count[i], len / 8 + 8);
}

START_TEST(fills)
{
	uint64_t gpa, across = DRIVER_RAM - 100; /* two regions */
	uint32_t len;

	make(0, 0);
	gpa = driver_alloc(&d, 64);
	ask(gpa, 64);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 64);
	check_random(gpa, 64);
	ck_assert_uint_eq(atomic_load(&d.queue[0].interrupts), 1);
	ask(across, 300);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 300);
	check_random(across, 100);
	check_random(DRIVER_RAM, 200);
	ck_assert_uint_eq(driver_latencies(&d), 2);
}
END_TEST

/* Of a large buffer a part is filled, and not a byte behind it. */
START_TEST(large)
{
	uint64_t gpa;
	uint32_t len;

	make(0, 0);
	gpa = driver_alloc(&d, 1 << 20);
	for (int i = 0; i < 7; i++)
		driver_add(&d, 0, (struct driver_buf[]){ { gpa + i * 131072, 131072, true } }, 1);
	driver_kick(&d, 0);
	for (int i = 0; i < 7; i++) {
		driver_wait(&d, 0, NULL, &len);
		ck_assert_uint_eq(len, 65536);
		check_random(gpa + i * 131072, len);
		for (int k = 65536; k < 131072; k++)
			ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, gpa + i * 131072 + k, 1), 0);
	}
}
END_TEST

/* Nothing to fill: given back empty; what is behind is served. */
START_TEST(nothing_to_fill)
{
	uint64_t gpa;
	uint32_t len;

	make(0, 0);
	gpa = driver_data(&d, "read me", 7);
	driver_add(&d, 0, (struct driver_buf[]){ { gpa, 7, false } }, 1);
	driver_add(&d, 0, (struct driver_buf[]){ { gpa, 4, false }, { gpa + 4, 3, true } }, 2);
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 0);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 3);
	ck_assert_mem_eq(driver_ptr(&d, gpa, 4), "read", 4);
}
END_TEST

/* The burst at once, then by time; requests are cut to what can come. */
START_TEST(limited)
{
	uint64_t gpa, begin;
	uint32_t len;

	make(1000, 100);
	gpa = driver_alloc(&d, 4096);
	begin = loop_now_ns();
	ask(gpa, 4096);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 100);
	ask(gpa, 50);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 50);
	/* 150 bytes cannot be there before 50 ms have passed: the device waited. */
	ck_assert_uint_ge(loop_now_ns() - begin, 50000000);
	/* Reset while it waits, and a new life. */
	ask(gpa, 100);
	driver_run(&d);
	driver_start(&d, 0);
	ask(gpa, 10);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 10);
}
END_TEST

START_TEST(options)
{
	struct rng_options o = { 0, 10 };

	ck_assert_int_lt(ops->check(&o, &err), 0);
	ck_assert_str_eq(err.msg, "bw-burst= is of no use without bw=");
	ck_assert_uint_eq(ops->option.size, sizeof(o));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("virtio_rng");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, fills);
	tcase_add_test(tc, large);
	tcase_add_test(tc, nothing_to_fill);
	tcase_add_test(tc, limited);
	tcase_add_test(tc, options);
	suite_add_tcase(s, tc);
	return test_run(s);
}
