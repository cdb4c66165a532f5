/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of a disk share: disk.c (opening), disk_io.c (requests), disk_overlay.c.
 * Everybody else includes disk.h.
 */
#ifndef DEVICES_DISK_IMPL_H
#define DEVICES_DISK_IMPL_H

#include "devices/disk.h"
#include "devices/disk_overlay.h"

/* Files, as aio.c numbers them. */
enum { FILE_IMAGE, FILE_BUFFERED, FILE_OVERLAY };

/* A list of requests, first in first out. */
struct disk_list {
	struct disk_req *first, **last;
};

struct disk {
	int fd;
	int buffered_fd; /* direct: the image without O_DIRECT, else -1 */
	bool ro, direct, is_block;
	uint64_t bytes; /* of the image, as its size is now */
	uint64_t size;	/* what the guest sees */
	struct disk_limits limits;
	uint32_t mem_align, off_align; /* O_DIRECT */
	struct overlay *ov;	       /* or NULL */
	struct aio *aio;
	const void *zeroes; /* DISK_ZEROES bytes that take no memory */

	unsigned active;
	bool cancel;
	bool no_punch, no_zero; /* the host cannot */

	/* O_DIRECT: see disk_io.c. */
	unsigned writing;
	bool alone;
	struct disk_list held;

	/* Making the overlay last. */
	struct {
		bool running, bitmap, last;
		struct disk_list waiting, served;
		struct iovec iov;
		struct aio_req aio;
	} commit;
};

#define DISK_ZEROES (1 << 20)

/* Empty lists and so on. disk_io.c */
void disk_io_init(struct disk *disk);

#endif
