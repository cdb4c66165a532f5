// SPDX-License-Identifier: Apache-2.0
/*
 * Boot timer, as Firecracker's: one byte of MMIO, to which the guest writes 123 when it has
 * booted; a message then says how long that took, in the words of Firecracker's. Not there unless
 * asked for.
 *
 * Whoever asked is to see the message, so it is a warning. The guest may write as often as it
 * likes: it is said once in the life of a VM (a restored one has a life of its own), and other
 * values mean nothing. Reads as zero.
 *
 * #syscalls: clock_gettime
 */
#include <time.h>
#include "devices/misc.h"
#include "vmm/base/log.h"

#define BOOTED 123

static uint64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

struct boot_time boot_time_now(void)
{
	return (struct boot_time){ .wall_us = clock_us(CLOCK_MONOTONIC),
				   .cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) };
}

static void boottimer_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	(void)opaque;
	(void)off;
	bus_put_le(data, len, 0);
}

static void boottimer_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct boot_timer *timer = opaque;
	unsigned long long wall, cpu;
	struct boot_time now;

	(void)off;
	if (bus_get_le(data, len) != BOOTED || atomic_exchange(&timer->told, true))
		return;
	now = boot_time_now();
	wall = now.wall_us - timer->begun.wall_us;
	cpu = now.cpu_us - timer->begun.cpu_us;
	log_warn("Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms", wall, wall / 1000,
		 cpu, cpu / 1000);
}

void boottimer_init(struct boot_timer *timer, uint64_t addr, struct boot_time begun)
{
	*timer = (struct boot_timer){
		.range = {
			.base = addr,
			.len = 1,
			.name = "boot timer",
			.dev = timer,
			.read = boottimer_read,
			.write = boottimer_write,
		},
		.begun = begun,
	};
}
