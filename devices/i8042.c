// SPDX-License-Identifier: Apache-2.0
/*
 * The keyboard controller (Intel 8042) reduced to the one thing an x86 kernel needs
 * of it in a virtual machine: command 0xfe, "pulse output line 0", which is wired to
 * the CPU's reset. Registers as in the IBM PC/AT Technical Reference, "Keyboard
 * Controller".
 *
 * Status reads as 0x01 for ever: output buffer full, input buffer empty. Two readers
 * of Linux must both be satisfied, quickly:
 *
 *  - the driver's probe first empties the output buffer, gives up after 16 bytes that
 *    do not end (under a millisecond) and says that there is no controller. An honest
 *    "empty" would have it send commands and wait half a second for each answer;
 *  - before a reset, kb_wait() polls until the *input* buffer is empty, which it is.
 *
 * Limits: no keyboard, no mouse, no A20 gate, no interrupts. Port 0x61, between the
 * two, is the speaker's and not claimed.
 */
#include "devices/misc.h"

#define STATUS_OBF    0x01
#define COMMAND_RESET 0xfe

static void i8042_read_data(void *opaque, uint64_t off, void *data, unsigned len)
{
	(void)opaque;
	(void)off;
	bus_put_le(data, len, 0);
}

static void i8042_write_data(void *opaque, uint64_t off, const void *data, unsigned len)
{
	(void)opaque;
	(void)off;
	(void)data;
	(void)len;
}

static void i8042_read_status(void *opaque, uint64_t off, void *data, unsigned len)
{
	(void)opaque;
	(void)off;
	bus_put_le(data, len, STATUS_OBF);
}

static void i8042_write_command(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct i8042 *kbc = opaque;

	(void)off;
	if (bus_get_le(data, len) == COMMAND_RESET)
		machine_report(kbc->events, MACHINE_RESET, 0);
}

void i8042_init(struct i8042 *kbc, uint64_t port, struct machine_events *events)
{
	*kbc = (struct i8042){
		.data = {
			.base = port,
			.len = 1,
			.name = "i8042 data",
			.dev = kbc,
			.read = i8042_read_data,
			.write = i8042_write_data,
		},
		.command = {
			.base = port + 4,
			.len = 1,
			.name = "i8042 command",
			.dev = kbc,
			.read = i8042_read_status,
			.write = i8042_write_command,
		},
		.events = events,
	};
}
