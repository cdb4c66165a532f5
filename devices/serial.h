/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A UART. See serial.c. */
#ifndef DEVICES_SERIAL_H
#define DEVICES_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "devices/bus.h"
#include "devices/irq.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

struct serial;

#define SERIAL_PORTS 8 /* length of the register window */

/*
 * The host side of the line; without one (NULL, or a NULL function) output vanishes.
 * Both functions run on the loop's thread with no mutex held: they may call back.
 */
struct serial_backend {
	/*
	 * Guest output: take up to @len bytes, return how many were taken (0..len).
	 * When fewer, call serial_kick_tx() once there is room; the guest sees a busy
	 * transmitter meanwhile and nothing is lost.
	 */
	size_t (*write)(struct serial_backend *be, const void *data, size_t len);
	/*
	 * The guest made room for input: serial_input(), which took less than it was
	 * given before, takes bytes again.
	 */
	void (*rx_room)(struct serial_backend *be);
};

/* A UART served by @loop. NULL with @err filled when out of memory. */
struct serial *serial_new(struct loop *loop, struct irq_line irq, struct serial_backend *be,
			  struct err *err);
/* Unposts its work; the owner has taken its range off the bus before. Loop's thread. */
void serial_free(struct serial *s);
/* To be put on a bus by the owner: base is filled in by the caller. */
struct bus_range *serial_range(struct serial *s);

/* Bytes for the guest; returns how many fit. When not all did, rx_room() will follow. */
size_t serial_input(struct serial *s, const void *data, size_t len);
/* A break condition on the line, after the input before it (Linux: magic SysRq). */
void serial_break(struct serial *s);
/* The backend has room again. Any thread. */
void serial_kick_tx(struct serial *s);
/*
 * Hand everything the guest has sent so far to the backend now; returns how many bytes
 * it did not take. Loop's thread only.
 */
size_t serial_flush(struct serial *s);
/* Bytes sent by the guest since it was made: what --hang-timeout watches. Any thread. */
uint64_t serial_tx_count(struct serial *s);

/* The UART as after power-on. Output on its way still leaves, input not read yet stays. */
void serial_reset(struct serial *s);
/*
 * Save or load, with the vCPUs stopped, on the loop's thread. Output the backend has not
 * taken is part of it (serial_flush() before saving keeps that small). With several
 * ports the caller opens a section around each. Loading also sets the line; the
 * interrupt controller may be loaded before or after.
 */
int serial_state(struct serial *s, struct state *st);

#endif
