// SPDX-License-Identifier: Apache-2.0
/*
 * pvpanic, the ISA variant: one byte port through which a guest kernel's panic
 * handler tells that it crashed. Described in QEMU's docs/specs/pvpanic.rst.
 *
 * Reading gives the events the device understands, writing one reports it. The guest
 * may do that as often as it likes; whoever takes the report acts on the first.
 *
 * Limits: bit 2 of newer versions (PVSHUTDOWN) is not offered; ACPI does that.
 */
#include "devices/misc.h"
#include "vmm/base/log.h"

#define PVPANIC_PANICKED    (1 << 0)
#define PVPANIC_CRASHLOADED (1 << 1)
#define PVPANIC_EVENTS	    (PVPANIC_PANICKED | PVPANIC_CRASHLOADED)

static void pvpanic_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	(void)opaque;
	(void)off;
	bus_put_le(data, len, PVPANIC_EVENTS);
}

static void pvpanic_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct port_dev *dev = opaque;
	uint8_t events = bus_get_le(data, len);

	(void)off;
	if (events & ~PVPANIC_EVENTS)
		log_limited(LOG_WARN, "pvpanic: guest reports unknown events 0x%02x", events);
	if (events & PVPANIC_PANICKED)
		machine_report(dev->events, MACHINE_PANICKED, 0);
	else if (events & PVPANIC_CRASHLOADED)
		machine_report(dev->events, MACHINE_CRASHLOADED, 0);
}

void pvpanic_init(struct port_dev *dev, uint64_t port, struct machine_events *events)
{
	*dev = (struct port_dev){
		.range = {
			.base = port,
			.len = 1,
			.name = "pvpanic",
			.dev = dev,
			.read = pvpanic_read,
			.write = pvpanic_write,
		},
		.events = events,
	};
}
