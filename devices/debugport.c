// SPDX-License-Identifier: Apache-2.0
/*
 * Debug exit: a byte port that ends the VM with the byte written as its status. For
 * test payloads that have no ACPI and no agent; not there unless asked for.
 *
 * The device of this kind in QEMU (isa-debug-exit) exits with value * 2 + 1; here the
 * value is the status. Reads as zero.
 */
#include "devices/misc.h"

static void debugexit_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	(void)opaque;
	(void)off;
	bus_put_le(data, len, 0);
}

static void debugexit_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct port_dev *dev = opaque;

	(void)off;
	machine_report(dev->events, MACHINE_DEBUG_EXIT, bus_get_le(data, len));
}

void debugexit_init(struct port_dev *dev, uint64_t port, struct machine_events *events)
{
	*dev = (struct port_dev){
		.range = {
			.base = port,
			.len = 1,
			.name = "debug exit",
			.dev = dev,
			.read = debugexit_read,
			.write = debugexit_write,
		},
		.events = events,
	};
}
