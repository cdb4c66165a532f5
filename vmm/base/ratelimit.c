// SPDX-License-Identifier: Apache-2.0
/*
 * A token bucket.
 *
 * Theory of operation. The bucket fills when it is asked, by the time since it was last filled.
 * Only whole units go in, and at_ns moves on by the time these took, so the fraction is not
 * lost, however often one asks. What does not fit is lost: that is the burst. Sums are made in
 * 128 bits: nanoseconds times units do not fit in 64.
 */
#include "vmm/base/ratelimit.h"

#define NS_PER_S      1000000000ULL
#define RATELIMIT_MAX ((uint64_t)INT64_MAX / 2) /* so that level cannot overflow */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void ratelimit_init(struct ratelimit *rl, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	rl->rate = least(rate, RATELIMIT_MAX);
	rl->burst = burst != 0 ? least(burst, RATELIMIT_MAX) : rl->rate;
	rl->level = (int64_t)rl->burst;
	rl->at_ns = now_ns;
	rl->once = 0;
}

void ratelimit_set(struct ratelimit *rl, const struct ratelimit_config *cfg, uint64_t now_ns)
{
	ratelimit_init(rl, cfg->rate, cfg->burst, now_ns);
	rl->once = cfg->once;
}

static void fill(struct ratelimit *rl, uint64_t now_ns)
{
	uint64_t room = (uint64_t)((int64_t)rl->burst - rl->level);
	unsigned __int128 units;

	if (now_ns <= rl->at_ns)
		return;
	units = (unsigned __int128)(now_ns - rl->at_ns) * rl->rate / NS_PER_S;
	if (units >= room) {
		rl->level = (int64_t)rl->burst;
		rl->at_ns = now_ns;
		return;
	}
	rl->level += (int64_t)units;
	rl->at_ns += (uint64_t)(units * NS_PER_S / rl->rate);
}

uint64_t ratelimit_take(struct ratelimit *rl, uint64_t units, uint64_t now_ns)
{
	unsigned __int128 ns;
	int64_t need;

	if (rl->rate == 0 || units == 0)
		return 0;
	if (rl->once >= units) {
		rl->once -= units;
		rl->at_ns = now_ns > rl->at_ns ? now_ns : rl->at_ns; /* nothing comes meanwhile */
		return 0;
	}
	fill(rl, now_ns);
	units = least(units, RATELIMIT_MAX);
	need = (int64_t)least(units, rl->burst);
	if (rl->level >= need) {
		rl->level -= (int64_t)units;
		return 0;
	}
	/* Rounded up, from when the units in the bucket were complete. */
	ns = ((unsigned __int128)(uint64_t)(need - rl->level) * NS_PER_S + rl->rate - 1) / rl->rate;
	ns -= now_ns > rl->at_ns ? now_ns - rl->at_ns : 0;
	if (ns > UINT64_MAX)
		return UINT64_MAX;
	return ns > 0 ? (uint64_t)ns : 1;
}

void ratelimit_return(struct ratelimit *rl, uint64_t units)
{
	uint64_t room = (uint64_t)((int64_t)rl->burst - rl->level);

	if (rl->rate != 0)
		rl->level += (int64_t)least(units, room);
}
