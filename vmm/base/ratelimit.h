/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token bucket: so many units per second, and a burst on top. See ratelimit.c.
 * Not locked.
 */
#ifndef VMM_BASE_RATELIMIT_H
#define VMM_BASE_RATELIMIT_H

#include <stdint.h>

struct ratelimit_config {
	uint64_t rate;	/* units per second; 0: no limit */
	uint64_t burst; /* 0: as much as comes in a second */
	uint64_t once;	/* more units at the beginning, which never come again */
};

struct ratelimit {
	uint64_t rate;	/* units per second; 0: no limit */
	uint64_t burst; /* units the bucket holds; at least 1 when there is a rate */
	int64_t level;	/* units in it; below 0: a debt */
	uint64_t at_ns; /* when it was last filled (loop_now_ns) */
	uint64_t once;	/* units that are taken before all others, and then are gone */
};

/* A full bucket. @burst 0: as much as comes in a second. Both are cut to INT64_MAX / 2. */
void ratelimit_init(struct ratelimit *rl, uint64_t rate, uint64_t burst, uint64_t now_ns);
/* The same with units for the beginning. */
void ratelimit_set(struct ratelimit *rl, const struct ratelimit_config *cfg, uint64_t now_ns);
/*
 * May @units pass now? 0: yes, and they are taken. Else the nanoseconds to wait before asking
 * again. More than the bucket holds may pass when it is full, and then leaves a debt, so that
 * no request is too big to ever pass.
 */
uint64_t ratelimit_take(struct ratelimit *rl, uint64_t units, uint64_t now_ns);
/* Give back what was taken for something that did not happen. */
void ratelimit_return(struct ratelimit *rl, uint64_t units);

#endif
