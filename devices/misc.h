/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small devices without state, one file each: pvpanic.c, i8042.c, debugport.c, boottimer.c.
 * Each is made by its function in memory the caller owns; there is nothing to free,
 * to reset or to save.
 */
#ifndef DEVICES_MISC_H
#define DEVICES_MISC_H

#include "devices/bus.h"
#include "devices/irq.h"

/* A port device that only reports machine events. */
struct port_dev {
	struct bus_range range;
	struct machine_events *events;
};

/* pvpanic, one byte port: the guest kernel tells that it crashed. */
void pvpanic_init(struct port_dev *dev, uint64_t port, struct machine_events *events);

/*
 * Keyboard controller without keyboard: the reset command only. It is two ranges, as
 * the ports between them belong to others (0x61 is the speaker's).
 */
struct i8042 {
	struct bus_range data;	  /* @port (0x60) */
	struct bus_range command; /* @port + 4 (0x64) */
	struct machine_events *events;
};

void i8042_init(struct i8042 *kbc, uint64_t port, struct machine_events *events);

/* A byte written ends the VM with it as the payload's status (--debug-exit). */
void debugexit_init(struct port_dev *dev, uint64_t port, struct machine_events *events);

/* Since whenever, and of this process. */
struct boot_time {
	uint64_t wall_us, cpu_us;
};

struct boot_time boot_time_now(void);

struct boot_timer {
	struct bus_range range;
	struct boot_time begun;
	atomic_bool told;
};

/* The byte 123 written tells how long ago @begun was (--boot-timer). MMIO. */
void boottimer_init(struct boot_timer *timer, uint64_t addr, struct boot_time begun);

#endif
