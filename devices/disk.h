/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk image: a file or block device of the host, perhaps under an overlay, and requests to
 * it that complete by a call. See disk.c (opening), disk_io.c (requests), disk_overlay.c.
 *
 * Not locked: the owner calls everything under one mutex of its own, disk_watch() and
 * disk_run() on the loop's thread, the rest on any.
 */
#ifndef DEVICES_DISK_H
#define DEVICES_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "devices/aio.h"
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

#define DISK_SECTOR 512

struct disk;

struct disk_config {
	const char *path;
	const char *overlay; /* NULL: none; "": a temporary one; or its file */
	bool ro, direct;
	bool threads;		     /* no io_uring: for tests */
	struct iothreads *iothreads; /* as in aio_new() */
};

/* What the host says about block sizes, in bytes. */
struct disk_limits {
	uint32_t logical;  /* what the disk is addressed by: 512, or a block device's own */
	uint32_t physical; /* what is written without reading first; a power of two */
	uint32_t optimal;  /* I/O of this size is best; 0: not known */
	uint32_t minimum;  /* smallest I/O without a penalty */
};

enum disk_op {
	DISK_READ,
	DISK_WRITE,
	DISK_FLUSH,
	DISK_DISCARD,	 /* not needed any more: may become zeroes, or stay */
	DISK_ZERO,	 /* becomes zeroes, room for them kept where the host can */
	DISK_ZERO_UNMAP, /* becomes zeroes, room given back where the host can */
};

struct disk_req {
	enum disk_op op;
	bool durable;	      /* WRITE, ZERO: on stable storage when done */
	uint64_t offset, len; /* bytes, multiples of DISK_SECTOR, within disk_size() */
	struct iovec *iov;    /* READ, WRITE: @len bytes in all; disk_io.c changes them */
	unsigned niov;
	/* 0 or -errno; may come before disk_submit() returns. -ECANCELED: by disk_drain(). */
	void (*done)(struct disk_req *req, int error);
	/* private */
	struct disk *disk;
	struct disk_req *next;
	uint64_t pos;	   /* bytes of the whole done so far */
	unsigned last;	   /* of the part in flight: its last segment, ... */
	size_t last_len;   /* ... whose full length this is */
	bool buffered;	   /* this part may not be O_DIRECT */
	bool syncing;	   /* the part in flight is the fdatasync at the end */
	struct iovec zero; /* what zeroes are written from */
	struct aio_req aio;
};

/*
 * Open and lock the image. Sentences do not name it: the caller knows it better. @ready(@owner)
 * as for aio_new().
 */
struct disk *disk_open(const struct disk_config *cfg, void (*ready)(void *owner), void *owner,
		       struct err *err);
/* Waits for what is in flight, without calling `done`. On the loop's thread, or after it ended. */
void disk_close(struct disk *disk);

/* Bytes, a multiple of DISK_SECTOR. */
uint64_t disk_size(const struct disk *disk);
const struct disk_limits *disk_limits(const struct disk *disk);
/* Look at the size again: did it change? @name is for the log. */
bool disk_rescan(struct disk *disk, const char *name);

/* Watch for completions on @loop. Harmless when done already. */
int disk_watch(struct disk *disk, struct loop *loop, struct err *err);
/* Take @req up; the caller's until done. It is started by disk_run(). */
void disk_submit(struct disk *disk, struct disk_req *req);
/* Start what was submitted, finish what has completed. */
void disk_run(struct disk *disk);
/* Requests submitted and not done. */
unsigned disk_active(const struct disk *disk);
/* Wait until none is. @cancel: give up those with parts that have not been started. */
void disk_drain(struct disk *disk, bool cancel);

#endif
