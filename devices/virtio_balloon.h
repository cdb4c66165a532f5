/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor can ask of a balloon: see virtio_balloon.c. Any thread; each takes the
 * device's lock.
 */
#ifndef DEVICES_VIRTIO_BALLOON_H
#define DEVICES_VIRTIO_BALLOON_H

#include "devices/virtio.h"

/* Statistics a driver may know, by tag: 5.5.6.4, and what Linux added. */
enum balloon_stat {
	BALLOON_SWAP_IN,	 /* bytes */
	BALLOON_SWAP_OUT,	 /* bytes */
	BALLOON_MAJOR_FAULTS,	 /* number */
	BALLOON_MINOR_FAULTS,	 /* number */
	BALLOON_FREE,		 /* bytes */
	BALLOON_TOTAL,		 /* bytes */
	BALLOON_AVAILABLE,	 /* bytes, as in /proc/meminfo */
	BALLOON_CACHES,		 /* bytes */
	BALLOON_HUGETLB_ALLOCS,	 /* number */
	BALLOON_HUGETLB_FAILS,	 /* number */
	BALLOON_OOM_KILLS,	 /* number */
	BALLOON_ALLOC_STALLS,	 /* number */
	BALLOON_ASYNC_SCANS,	 /* bytes */
	BALLOON_DIRECT_SCANS,	 /* bytes */
	BALLOON_ASYNC_RECLAIMS,	 /* bytes */
	BALLOON_DIRECT_RECLAIMS, /* bytes */
	BALLOON_NSTATS,
};

struct virtio_balloon_stats {
	uint64_t time_ns; /* CLOCK_MONOTONIC when they came; 0: they never did */
	uint32_t known;	  /* of value[], by bit: drivers do not know all */
	uint64_t value[BALLOON_NSTATS];
};

struct virtio_balloon_status {
	uint64_t target, actual;      /* bytes; the second is what the driver says */
	uint64_t discarded;	      /* bytes given back to the host so far, in all ways */
	bool hinting;		      /* a round is going on, or its pages are still kept */
	uint32_t host_cmd, guest_cmd; /* of hinting: what each side said last */
};

/* What statistics are called: "free-memory". @stat < BALLOON_NSTATS. */
const char *virtio_balloon_stat_name(unsigned stat);

/*
 * The balloon shall hold @bytes, in the end (rounded down to pages). -EINVAL when it is more than
 * the guest's RAM.
 */
int virtio_balloon_set_target(struct virtio_device *vdev, uint64_t bytes, struct err *err);
void virtio_balloon_status(struct virtio_device *vdev, struct virtio_balloon_status *status);

/* The last statistics. False: the device was made without (stats=). */
bool virtio_balloon_stats(struct virtio_device *vdev, struct virtio_balloon_stats *stats);

/*
 * Ask for statistics that often, beginning now. -EINVAL: the device was made without, or @ns is 0.
 */
int virtio_balloon_set_interval(struct virtio_device *vdev, uint64_t ns, struct err *err);

/*
 * Let the driver name all memory that is free, once, which is given back. With @release it may
 * have that back as soon as it has named all; else only after virtio_balloon_hint_stop(). A new
 * round takes the place of one that is not over. -ENOTSUP: not with this device or driver.
 */
int virtio_balloon_hint_start(struct virtio_device *vdev, bool release, struct err *err);
/* The end of the round: the driver may use the pages again. Nothing is given back any more. */
int virtio_balloon_hint_stop(struct virtio_device *vdev, struct err *err);

#endif
