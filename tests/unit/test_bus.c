// SPDX-License-Identifier: Apache-2.0
/* The bus: who is called for which access, and what nobody answers. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include "tests/unit/device_util.h"
#include "vmm/base/util.h"

static struct bus bus;
static struct err err;

/* A device that answers with its number and remembers the access. */
struct fake {
	struct bus_range range;
	uint8_t number;
	uint64_t off, value;
	unsigned len, reads, writes;
};

static void fake_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct fake *fake = dev;

	fake->off = off;
	fake->len = len;
	fake->reads++;
	memset(data, fake->number, len);
}

static void fake_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct fake *fake = dev;

	fake->off = off;
	fake->len = len;
	fake->value = bus_get_le(data, len);
	fake->writes++;
}

static struct fake fake(uint8_t number, uint64_t base, uint64_t len)
{
	return (struct fake){
		.range = { .base = base,
			   .len = len,
			   .name = "fake",
			   .read = fake_read,
			   .write = fake_write },
		.number = number,
	};
}

static int add(struct fake *f)
{
	f->range.dev = f;
	return bus_add(&bus, &f->range, &err);
}

static uint64_t get(uint64_t addr, unsigned len)
{
	uint8_t data[8] = { 0 };

	bus_read(&bus, addr, data, len);
	return bus_get_le(data, len);
}

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	bus_init(&bus);
}

static void teardown(void)
{
	bus_fini(&bus);
}

START_TEST(lookup)
{
	struct fake a = fake(0xaa, 0x100, 8), b = fake(0xbb, 0x108, 4), c = fake(0xcc, 0x10, 1);
	uint32_t value = 0x12345678;

	ck_assert_int_eq(add(&a), 0);
	ck_assert_int_eq(add(&b), 0);
	ck_assert_int_eq(add(&c), 0);

	ck_assert_uint_eq(get(0x100, 1), 0xaa);
	ck_assert_uint_eq(get(0x107, 1), 0xaa);
	ck_assert_uint_eq(a.off, 7);
	ck_assert_uint_eq(get(0x108, 4), 0xbbbbbbbb);
	ck_assert_uint_eq(b.off, 0);
	ck_assert_uint_eq(get(0x10, 1), 0xcc);
	ck_assert_uint_eq(get(0x100, 8), 0xaaaaaaaaaaaaaaaaULL);

	bus_write(&bus, 0x104, &value, 4);
	ck_assert_uint_eq(a.value, 0x12345678);
	ck_assert_uint_eq(a.off, 4);
	ck_assert_uint_eq(a.len, 4);
}
END_TEST

START_TEST(nobody)
{
	struct fake a = fake(0xaa, 0x100, 8), top = fake(0xdd, UINT64_MAX, 1);
	uint64_t value = 0;
	unsigned reads;

	ck_assert_uint_eq(get(0x100, 4), 0xffffffff); /* an empty bus */
	ck_assert_int_eq(add(&a), 0);
	ck_assert_int_eq(add(&top), 0);
	ck_assert_uint_eq(get(0, 1), 0xff);
	ck_assert_uint_eq(get(0xff, 1), 0xff);
	ck_assert_uint_eq(get(0xff, 2), 0xffff);  /* begins below */
	ck_assert_uint_eq(get(0x107, 2), 0xffff); /* ends above */
	ck_assert_uint_eq(get(0x108, 8), UINT64_MAX);
	ck_assert_uint_eq(get(UINT64_MAX - 1, 1), 0xff);
	reads = a.reads;
	ck_assert_uint_eq(get(UINT64_MAX, 2), 0xffff); /* would wrap */
	ck_assert_uint_eq(get(UINT64_MAX, 1), 0xdd);
	for (unsigned len = 3; len < 8; len += len == 3 ? 2 : 1) { /* 3, 5, 6, 7 */
		ck_assert_uint_eq(get(0x100, len), UINT64_MAX >> (64 - 8 * len));
		bus_write(&bus, 0x100, &value, len);
	}
	bus_write(&bus, 0x107, &value, 2);
	bus_write(&bus, 0x90, &value, 2);
	ck_assert_uint_eq(a.reads, reads);
	ck_assert_uint_eq(a.writes, 0);
}
END_TEST

START_TEST(claims)
{
	struct fake a = fake(1, 0x100, 8), b = fake(2, 0x107, 1), c = fake(3, 0xf8, 9);
	struct fake d = fake(4, 0xf8, 8), e = fake(5, 0x200, 0), f = fake(6, UINT64_MAX, 2);
	struct fake g = fake(7, 0, UINT64_MAX);

	a.range.name = "first";
	ck_assert_int_eq(add(&a), 0);
	ck_assert_int_eq(add(&b), -EEXIST);
	ck_assert_str_eq(err.msg, "fake at 0x107-0x107 overlaps first at 0x100-0x107");
	ck_assert_int_eq(add(&a), -EEXIST);
	ck_assert_int_eq(add(&c), -EEXIST);
	ck_assert_int_eq(add(&g), -EEXIST);
	ck_assert_int_eq(add(&e), -EINVAL);
	ck_assert_int_eq(add(&f), -EINVAL);
	ck_assert_int_eq(add(&d), 0);
	ck_assert_uint_eq(bus.n, 2);

	bus_remove(&bus, &b.range); /* never added */
	bus_remove(&bus, &a.range);
	bus_remove(&bus, &a.range);
	ck_assert_uint_eq(bus.n, 1);
	ck_assert_uint_eq(get(0x100, 1), 0xff);
	ck_assert_int_eq(add(&b), 0);
	ck_assert_uint_eq(get(0x107, 1), 2);
}
END_TEST

START_TEST(full)
{
	static struct fake many[BUS_RANGES_MAX + 1];

	for (unsigned i = 0; i <= BUS_RANGES_MAX; i++) {
		/* in an order that is neither rising nor falling */
		many[i] = fake(i, (i * 37 % (BUS_RANGES_MAX + 1)) * 0x10, 8);
		ck_assert_int_eq(add(&many[i]), i < BUS_RANGES_MAX ? 0 : -ENOSPC);
	}
	for (unsigned i = 0; i < BUS_RANGES_MAX; i++) {
		ck_assert_uint_eq(get(many[i].range.base + 7, 1), (uint8_t)i);
		ck_assert_uint_eq(get(many[i].range.base + 8, 1), 0xff);
	}
}
END_TEST

static atomic_bool stop;

static void *reader(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop))
		ck_assert_uint_eq(get(0x100, 1), 0xaa);
	return NULL;
}

static void quiet_read(void *dev, uint64_t off, void *data, unsigned len)
{
	(void)dev;
	(void)off;
	memset(data, 0xaa, len);
}

/* Readers that never pause do not lock out who adds and removes. */
START_TEST(writers_get_in)
{
	struct fake a = fake(0xaa, 0x100, 8), b = fake(0xbb, 0x200, 8);
	pthread_t thread[3];

	a.range.read = quiet_read;
	ck_assert_int_eq(add(&a), 0);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, reader, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		ck_assert_int_eq(add(&b), 0);
		bus_remove(&bus, &b.range);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
}
END_TEST

/* --- Deferred work --- */

/* A device that moves by writing its register, or leaves when that is 0. */
struct mover {
	struct bus_range range;
	struct bus_work work;
	struct bus *where; /* of the range; not always the bus of the register */
	atomic_ullong wanted, ran;
	bool readable;
};

static void mover_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct mover *m = dev;

	(void)off;
	atomic_store(&m->wanted, bus_get_le(data, len));
	bus_defer(&bus, &m->work);
	bus_defer(&bus, &m->work); /* queued already */
}

static void mover_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct mover *m = dev;

	(void)off;
	memset(data, 0x77, len);
	if (m->readable)
		bus_defer(&bus, &m->work);
}

static void mover_run(struct bus_work *work)
{
	struct mover *m = container_of(work, struct mover, work);
	struct err ignored = ERR_INIT;

	atomic_fetch_add(&m->ran, 1);
	bus_remove(m->where, &m->range);
	m->range.base = atomic_load(&m->wanted);
	if (m->range.base != 0)
		bus_add(m->where, &m->range, &ignored);
}

static void mover_init(struct mover *m, uint64_t base)
{
	memset(m, 0, sizeof(*m));
	m->range = (struct bus_range){ .base = base,
				       .len = 8,
				       .name = "mover",
				       .dev = m,
				       .read = mover_read,
				       .write = mover_write };
	m->work.fn = mover_run;
	m->where = &bus;
	ck_assert_int_eq(bus_add(&bus, &m->range, &err), 0);
}

static void put(uint64_t addr, uint64_t value)
{
	bus_write(&bus, addr, &value, 8);
}

/* When the access is over the work is done, once. */
START_TEST(deferred)
{
	struct mover a, b;
	struct bus other;

	mover_init(&a, 0x100);
	mover_init(&b, 0x200);
	put(0x100, 0x300);
	ck_assert_uint_eq(get(0x100, 1), 0xff);
	ck_assert_uint_eq(get(0x300, 1), 0x77);
	ck_assert_uint_eq(a.ran, 1);
	put(0x300, 0x200); /* taken: it is nowhere then */
	ck_assert_uint_eq(bus.n, 1);
	put(0x200, 0x100);
	ck_assert_uint_eq(get(0x100, 1), 0x77);

	b.readable = true; /* reads may defer, too */
	atomic_store(&b.wanted, 0x400);
	ck_assert_uint_eq(get(0x100, 1), 0x77);
	ck_assert_uint_eq(get(0x400, 1), 0x77);
	b.readable = false;
	ck_assert_uint_eq(b.ran, 3);

	bus_init(&other); /* onto another bus */
	bus_remove(&bus, &b.range);
	b.where = &other;
	ck_assert_int_eq(bus_add(&bus, &b.range, &err), 0);
	mover_init(&a, 0x500);
	a.where = &other;
	put(0x500, 0x600);
	ck_assert_uint_eq(other.n, 1);
	bus_fini(&other);
}
END_TEST

/*
 * Threads that ask the same device for work: none returns before what it asked for, or
 * something asked for later, is done.
 */
static struct mover shared[2];

static void *asker(void *arg)
{
	unsigned n = (uintptr_t)arg;
	struct mover *m = &shared[n / 2];
	uint64_t home = 0x1000 * (1 + n / 2);

	for (unsigned i = 0; i < 2000; i++) {
		unsigned long long before = atomic_load(&m->ran);

		put(home, home);
		ck_assert_uint_gt(atomic_load(&m->ran), before);
	}
	return NULL;
}

/* As mover_run(), but never away: the others must find the register. */
static void count_run(struct bus_work *work)
{
	struct mover *m = container_of(work, struct mover, work);
	struct bus_range passing = m->range;

	passing.base = 0x9000;
	ck_assert_int_eq(bus_add(&bus, &passing, &err), 0); /* works run one at a time */
	bus_remove(&bus, &passing);
	atomic_fetch_add(&m->ran, 1);
}

START_TEST(deferred_by_many)
{
	pthread_t thread[4];

	mover_init(&shared[0], 0x1000);
	mover_init(&shared[1], 0x2000);
	shared[0].work.fn = shared[1].work.fn = count_run;
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, asker, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(atomic_load(&bus.deferred), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bus");
	TCase *tc = tcase_create("bus");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, lookup);
	tcase_add_test(tc, nobody);
	tcase_add_test(tc, claims);
	tcase_add_test(tc, full);
	tcase_add_test(tc, writers_get_in);
	tcase_add_test(tc, deferred);
	tcase_add_test(tc, deferred_by_many);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
