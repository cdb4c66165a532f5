/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of devices: x86 ports, or MMIO.
 *
 * A device claims a range; a vCPU's exit is looked up in a sorted array and handed
 * to it as an offset. Accesses that no range contains whole read as all ones and
 * are dropped when written, as on hardware; they are not errors. Ranges can come and
 * go while vCPUs run (PCI BARs move): the table is behind a read-write lock, which
 * is held while a device's function runs, so that after bus_remove() no call into
 * the device is under way. A device function must therefore not add or remove
 * ranges of the same bus itself; it posts that to its loop.
 */
#ifndef DEVICES_BUS_H
#define DEVICES_BUS_H

#include <pthread.h>
#include <stdint.h>
#include "vmm/base/err.h"

#define BUS_RANGES_MAX 256

struct bus_range {
	uint64_t base, len;		/* len > 0, no wrap */
	const char *name;		/* for messages */
	void *dev;
	/*
	 * @off from base; @len 1, 2, 4 or 8 and wholly inside the range. Reads fill
	 * all @len bytes, little-endian. Called on any vCPU thread: the device locks.
	 */
	void (*read)(void *dev, uint64_t off, void *data, unsigned len);
	void (*write)(void *dev, uint64_t off, const void *data, unsigned len);
};

struct bus {
	pthread_rwlock_t lock;
	unsigned n;
	struct bus_range *range[BUS_RANGES_MAX];	/* ascending; owned by the devices */
};

void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);

/* Claim a range. -EEXIST with both names when it overlaps another, -ENOSPC when full. */
int bus_add(struct bus *bus, struct bus_range *range, struct err *err);
/* Give it up; harmless when not on the bus. */
void bus_remove(struct bus *bus, struct bus_range *range);

void bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);
void bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);

#endif
