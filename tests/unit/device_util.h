/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of devices share: a line, events and output that are remembered, accesses,
 * saving and loading.
 */
#ifndef TESTS_UNIT_DEVICE_UTIL_H
#define TESTS_UNIT_DEVICE_UTIL_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "devices/bus.h"
#include "devices/irq.h"
#include "tests/unit/test_run.h"
#include "vmm/base/state.h"

/* An interrupt line and what was done to it. */
struct test_line {
	bool level;
	unsigned edges; /* times it rose */
};

static inline void test_line_set(struct irq_line *line, bool level)
{
	struct test_line *seen = line->chip;

	if (level && !seen->level)
		seen->edges++;
	seen->level = level;
}

static inline struct irq_line test_line(struct test_line *seen)
{
	*seen = (struct test_line){ 0 };
	return (struct irq_line){ .set = test_line_set, .chip = seen };
}

/* Machine events, in order. */
struct test_events {
	struct machine_events ev;
	unsigned n;
	enum machine_event event[8];
	uint32_t arg[8];
};

static inline void test_report(struct machine_events *ev, enum machine_event event, uint32_t arg)
{
	struct test_events *seen = (struct test_events *)ev; /* first member */

	ck_assert_uint_lt(seen->n, 8);
	seen->event[seen->n] = event;
	seen->arg[seen->n++] = arg;
}

static inline struct machine_events *test_events(struct test_events *seen)
{
	*seen = (struct test_events){ .ev.report = test_report };
	return &seen->ev;
}

/* What a guest printed, in order; what is too much is only counted in the mark. */
struct test_output {
	char data[1 << 16];
	size_t n;
};

/* For struct chardevs, whose owner is the struct test_output. */
static inline void test_printed(void *owner, size_t *mark, const char *data, size_t len)
{
	struct test_output *heard = owner;

	*mark += len;
	if (len > sizeof(heard->data) - heard->n)
		len = sizeof(heard->data) - heard->n;
	memcpy(heard->data + heard->n, data, len);
	heard->n += len;
}

/* Accesses to a device without a bus. */
static inline uint64_t dev_read(struct bus_range *range, uint64_t off, unsigned len)
{
	uint8_t data[8] = { 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a };

	range->read(range->dev, off, data, len);
	return bus_get_le(data, len);
}

static inline void dev_write(struct bus_range *range, uint64_t off, uint64_t value, unsigned len)
{
	uint8_t data[8];

	bus_put_le(data, 8, value);
	range->write(range->dev, off, data, len);
}

/* Save with @save into a copy of ours; free it. */
static inline void *test_save(int (*save)(void *dev, struct state *st), void *dev, size_t *len)
{
	struct state *st = state_new_save();
	struct err err = ERR_INIT;
	const void *data;
	void *copy;

	ck_assert_ptr_nonnull(st);
	ck_assert_int_eq(save(dev, st), 0);
	ck_assert_msg(state_finish(st, &data, len, &err) == 0, "%s", err.msg);
	copy = malloc(*len);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, data, *len);
	state_free(st);
	return copy;
}

/* 0 or -code of whatever objected */
static inline int test_load(int (*load)(void *dev, struct state *st), void *dev, const void *data,
			    size_t len)
{
	struct err err = ERR_INIT;
	struct state *st = state_new_load(data, len, &err);
	int ret;

	ck_assert_msg(st != NULL, "%s", err.msg);
	ret = load(dev, st);
	if (ret == 0)
		ret = state_finish(st, NULL, NULL, &err);
	state_free(st);
	return ret;
}

/* Save @from, load into @to, and see that @to saves the same bytes. */
static inline void test_state(int (*fn)(void *dev, struct state *st), void *from, void *to)
{
	size_t len1, len2;
	void *data1 = test_save(fn, from, &len1), *data2;

	ck_assert_int_eq(test_load(fn, to, data1, len1), 0);
	data2 = test_save(fn, to, &len2);
	ck_assert_uint_eq(len1, len2);
	ck_assert_mem_eq(data1, data2, len1);
	free(data1);
	free(data2);
}

#endif
