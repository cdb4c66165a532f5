/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small stateless port devices, one file each: pvpanic.c, i8042.c, debugport.c.
 * Each is a bus_range made by its function; the caller owns it.
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

/* pvpanic, one byte port. docs: QEMU's docs/specs/pvpanic. */
void pvpanic_init(struct port_dev *dev, uint64_t port, struct machine_events *events);
/* Keyboard controller, command 0xfe (reset) only; ports 0x60..0x64. */
void i8042_init(struct port_dev *dev, uint64_t port, struct machine_events *events);
/* A byte written ends the VM with it as the payload's status (--debug-exit). */
void debugexit_init(struct port_dev *dev, uint64_t port, struct machine_events *events);

#endif
