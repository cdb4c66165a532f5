/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written to a disk, kept apart from its image. See disk_overlay.c.
 *
 * Not locked. It does no I/O of its own but in overlay_open() and overlay_close().
 */
#ifndef DEVICES_DISK_OVERLAY_H
#define DEVICES_DISK_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/base/err.h"

struct overlay;

/* The image it belongs to. */
struct overlay_base {
	uint64_t size;	  /* bytes, a multiple of 512 */
	uint64_t mtime_s; /* last change; 0 for what has no such time */
	uint32_t mtime_ns;
};

/* @file NULL: a temporary one, of which nothing stays. Else it is opened, or made, and locked. */
struct overlay *overlay_open(const char *file, const struct overlay_base *base, struct err *err);
/* Writes down what was not yet. */
void overlay_close(struct overlay *ov);

int overlay_fd(const struct overlay *ov);
bool overlay_is_kept(const struct overlay *ov);
/* Where in the file byte 0 of the disk is; the others follow. */
uint64_t overlay_data(const struct overlay *ov);

/* Is the sector at @offset in the overlay? Cuts *@len to those after it that are as this one. */
bool overlay_run(const struct overlay *ov, uint64_t offset, uint64_t *len);
/* [offset, offset + len), whole sectors, was written to the overlay. */
void overlay_mark(struct overlay *ov, uint64_t offset, uint64_t len);

/*
 * Making it last, see disk_overlay.c: take a snapshot of the marks (true: there are new ones),
 * sync the data, write the pieces of the snapshot (overlay_piece() until false), sync, and
 * say whether all that worked.
 */
bool overlay_snapshot(struct overlay *ov);
bool overlay_piece(struct overlay *ov, struct iovec *iov, uint64_t *pos);
void overlay_snapshot_done(struct overlay *ov, bool ok);

#endif
