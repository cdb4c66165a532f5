/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: counters of a VM as JSON, written to a file now and then, and as Prometheus text. See
 * api/metrics.c. Main thread.
 */
#ifndef VMM_METRICS_H
#define VMM_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

struct vm;

struct metrics {
	int fd; /* -1: they are not written anywhere */
	struct loop *loop;
	struct loop_timer timer;
	json_t *last;				     /* totals when they were last written */
	json_t *(*collect)(struct metrics *metrics); /* totals now, a new reference, or NULL */
	uint64_t missed;			     /* lines that nobody took */
};

/*
 * All counters of @vm, from its start: an object of objects of numbers, by Firecracker's names
 * where it counts the same. A new reference; NULL when out of memory.
 */
json_t *metrics_of_vm(struct vm *vm);

/* Set loop and collect and fd = -1 first. */
int metrics_open(struct metrics *metrics, const char *path, struct err *err);
/*
 * Write what has been counted since the last time, one line. A pipe that is full or has no reader
 * is no error: what it misses is counted again the next time. 0 or -code.
 */
int metrics_flush(struct metrics *metrics, struct err *err);
void metrics_close(struct metrics *metrics);

/* @totals in Prometheus' text format, malloc'ed; NULL when out of memory. */
char *metrics_prometheus(const json_t *totals);

#endif
