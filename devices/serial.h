/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A UART. See serial.c. */
#ifndef DEVICES_SERIAL_H
#define DEVICES_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "devices/bus.h"
#include "devices/chardev.h"
#include "devices/irq.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

struct serial;

#define SERIAL_PORTS 8 /* length of the register window */

/*
 * A UART served by @loop, the front of @back; without one (NULL) output vanishes. NULL with
 * @err filled when out of memory.
 */
struct serial *serial_new(struct loop *loop, struct irq_line irq, struct chardev_back *back,
			  struct err *err);
/* Unposts its work; the owner has taken its range off the bus before. Loop's thread. */
void serial_free(struct serial *s);
/* To be put on a bus by the owner: base is filled in by the caller. */
struct bus_range *serial_range(struct serial *s);

/* The UART as after power-on. Output on its way still leaves, input not read yet stays. */
void serial_reset(struct serial *s);
/*
 * Save or load, with the vCPUs stopped, on the loop's thread. Output the backend has not
 * taken is part of it (chardevs_flush() before saving keeps that small). With several
 * ports the caller opens a section around each. Loading also sets the line; the
 * interrupt controller may be loaded before or after.
 */
int serial_state(struct serial *s, struct state *st);

#endif
