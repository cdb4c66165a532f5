// SPDX-License-Identifier: Apache-2.0
/*
 * An address space of devices: see bus.h.
 *
 * The table is an array sorted by base, searched by bisection; it has a few dozen
 * entries, so that costs less than the exit that led here.
 *
 * The lock prefers writers: with glibc's default a guest whose vCPUs keep the read
 * side busy could keep the loop thread out of bus_remove() for ever. The price is
 * that nobody may take the read side twice, which bus.h forbids anyway.
 *
 * Deferred work is counted from the moment it is queued until it is done. A thread that
 * has dropped the lock and finds the count at zero has nothing of its own outstanding;
 * else it takes the mutex under which work runs: then either it runs its work itself, or
 * the thread that took it from the queue has finished it.
 *
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include "devices/bus.h"

void bus_init(struct bus *bus)
{
	pthread_rwlockattr_t attr;

	memset(bus, 0, sizeof(*bus));
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&bus->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&bus->run, NULL);
	pthread_mutex_init(&bus->queue, NULL);
}

void bus_fini(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
	pthread_mutex_destroy(&bus->run);
	pthread_mutex_destroy(&bus->queue);
	bus->n = 0;
}

/* Index of the first range that begins above @addr; bus->n when there is none. */
static unsigned bus_above(const struct bus *bus, uint64_t addr)
{
	unsigned lo = 0, hi = bus->n;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (bus->range[mid]->base > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The last byte of a range; unlike base + len it cannot wrap. */
static uint64_t range_last(const struct bus_range *range)
{
	return range->base + (range->len - 1);
}

int bus_add(struct bus *bus, struct bus_range *range, struct err *err)
{
	const struct bus_range *other = NULL;
	unsigned at;
	int ret = 0;

	/* BAR addresses come from the guest: a range that wraps would break the order. */
	if (range->len == 0 || range_last(range) < range->base)
		return err_set(err, EINVAL, "%s: bad address range 0x%llx, length 0x%llx",
			       range->name, (unsigned long long)range->base,
			       (unsigned long long)range->len);

	pthread_rwlock_wrlock(&bus->lock);
	at = bus_above(bus, range->base);
	if (at > 0 && range_last(bus->range[at - 1]) >= range->base)
		other = bus->range[at - 1];
	else if (at < bus->n && bus->range[at]->base <= range_last(range))
		other = bus->range[at];

	if (other != NULL) {
		ret = err_set(err, EEXIST, "%s at 0x%llx-0x%llx overlaps %s at 0x%llx-0x%llx",
			      range->name, (unsigned long long)range->base,
			      (unsigned long long)range_last(range), other->name,
			      (unsigned long long)other->base,
			      (unsigned long long)range_last(other));
	} else if (bus->n == BUS_RANGES_MAX) {
		ret = err_set(err, ENOSPC, "%s: more than %d address ranges on one bus",
			      range->name, BUS_RANGES_MAX);
	} else {
		memmove(&bus->range[at + 1], &bus->range[at],
			(bus->n - at) * sizeof(bus->range[0]));
		bus->range[at] = range;
		bus->n++;
	}
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

void bus_remove(struct bus *bus, struct bus_range *range)
{
	pthread_rwlock_wrlock(&bus->lock);
	/* By identity, not by address: the owner may have changed base already. */
	for (unsigned i = 0; i < bus->n; i++) {
		if (bus->range[i] != range)
			continue;
		bus->n--;
		memmove(&bus->range[i], &bus->range[i + 1], (bus->n - i) * sizeof(bus->range[0]));
		break;
	}
	pthread_rwlock_unlock(&bus->lock);
}

void bus_defer(struct bus *bus, struct bus_work *work)
{
	pthread_mutex_lock(&bus->queue);
	if (!work->queued) {
		work->queued = true;
		work->next = NULL;
		if (bus->first == NULL)
			bus->first = work;
		else
			bus->last->next = work;
		bus->last = work;
		atomic_fetch_add(&bus->deferred, 1);
	}
	pthread_mutex_unlock(&bus->queue);
}

static struct bus_work *take_deferred(struct bus *bus)
{
	struct bus_work *work;

	pthread_mutex_lock(&bus->queue);
	work = bus->first;
	if (work != NULL) {
		bus->first = work->next;
		work->queued = false;
	}
	pthread_mutex_unlock(&bus->queue);
	return work;
}

/*
 * At the end of every access, with no lock held. Others may queue more while this runs, each
 * at most its own: as many as there are on the queue now is enough, they wait for us and
 * then run the rest.
 */
static void run_deferred(struct bus *bus)
{
	unsigned n = atomic_load(&bus->deferred);
	struct bus_work *work;

	if (n == 0)
		return;
	pthread_mutex_lock(&bus->run);
	while (n-- > 0 && (work = take_deferred(bus)) != NULL) {
		work->fn(work);
		atomic_fetch_sub(&bus->deferred, 1);
	}
	pthread_mutex_unlock(&bus->run);
}

/*
 * KVM's instruction emulator cuts an access that crosses a page in two, so lengths
 * like 3 and 5 do arrive here. Devices need not cope with them.
 */
static bool len_ok(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

/* The range that holds all of the access, or NULL. Under the lock. */
static struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned len)
{
	unsigned at = bus_above(bus, addr);
	struct bus_range *range;

	if (at == 0 || !len_ok(len))
		return NULL;
	range = bus->range[at - 1];
	if (addr - range->base >= range->len || len > range->len - (addr - range->base))
		return NULL;
	return range;
}

void bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len)
{
	struct bus_range *range;

	pthread_rwlock_rdlock(&bus->lock);
	range = bus_find(bus, addr, len);
	if (range != NULL)
		range->read(range->dev, addr - range->base, data, len);
	else
		memset(data, 0xff, len);
	pthread_rwlock_unlock(&bus->lock);
	run_deferred(bus);
}

void bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
	struct bus_range *range;

	pthread_rwlock_rdlock(&bus->lock);
	range = bus_find(bus, addr, len);
	if (range != NULL)
		range->write(range->dev, addr - range->base, data, len);
	pthread_rwlock_unlock(&bus->lock);
	run_deferred(bus);
}
