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
 * ranges of the same bus itself, nor read or write it; it defers that with
 * bus_defer(), to the moment its thread has dropped the lock.
 *
 * Lock order: the bus's lock, then one device's mutex, then the interrupt
 * controller's (see irq.h). So nobody calls into a bus while holding a mutex, but for
 * bus_defer(), which takes a leaf.
 */
#ifndef DEVICES_BUS_H
#define DEVICES_BUS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"

#define BUS_RANGES_MAX 256

struct bus_range {
	uint64_t base, len; /* len > 0, no wrap */
	const char *name;   /* for messages */
	void *dev;
	/*
	 * @off from base; @len 1, 2, 4 or 8 and wholly inside the range, but not
	 * necessarily aligned. Reads fill all @len bytes, little-endian. Called on any
	 * vCPU thread, on several at once: the device locks.
	 */
	void (*read)(void *dev, uint64_t off, void *data, unsigned len);
	void (*write)(void *dev, uint64_t off, const void *data, unsigned len);
};

/* What a device function leaves to be done without the bus's lock. Zeroed by its owner. */
struct bus_work {
	void (*fn)(struct bus_work *work);
	/* private */
	struct bus_work *next;
	bool queued;
};

struct bus {
	pthread_rwlock_t lock;
	unsigned n;
	struct bus_range *range[BUS_RANGES_MAX]; /* ascending; owned by the devices */

	atomic_uint deferred;  /* works queued or running */
	pthread_mutex_t run;   /* held while work runs; nothing else is, when it is taken */
	pthread_mutex_t queue; /* of what follows; a leaf */
	struct bus_work *first, *last;
};

void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);

/*
 * Claim a range. -EEXIST with both names when it overlaps another, -ENOSPC when the
 * table is full, -EINVAL when it is empty or wraps around.
 */
int bus_add(struct bus *bus, struct bus_range *range, struct err *err);
/* Give it up; harmless when not on the bus. */
void bus_remove(struct bus *bus, struct bus_range *range);

/* One guest access. Fills @data whatever happens; @len is what KVM said, unchecked. */
void bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);
void bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);

/*
 * For device functions called by @bus, also with the device's mutex held: let work->fn run
 * as soon as this access has dropped the bus's lock, before the guest's next instruction. It
 * may then add and remove ranges on any bus and take the device's mutex. A no-op while @work
 * is queued and has not begun. Works run one at a time; another thread whose access ends
 * meanwhile waits, as what it asked for may be among them. The guest can read a BAR right
 * after it enabled it: work posted to a loop would come too late.
 */
void bus_defer(struct bus *bus, struct bus_work *work);

/* For devices: the bytes of an access as a number, and back. @len at most 8. */
static inline uint64_t bus_get_le(const void *data, unsigned len)
{
	const uint8_t *p = data;
	uint64_t value = 0;

	while (len-- > 0)
		value = value << 8 | p[len];
	return value;
}

static inline void bus_put_le(void *data, unsigned len, uint64_t value)
{
	uint8_t *p = data;

	for (unsigned i = 0; i < len; i++)
		p[i] = i < 8 ? value >> 8 * i : 0;
}

#endif
