/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives for the kernel to unpack as its first root file system: Linux's
 * Documentation/driver-api/early-userspace/buffer-format.rst, the "newc" format.
 *
 * An archive is built in a memfd, so it costs no copy to hand it on as the initrd.
 */
#ifndef VMM_CPIO_H
#define VMM_CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "vmm/base/err.h"

struct cpio {
	int fd;	       /* memfd; -1 when there is none */
	uint64_t size; /* bytes so far */
	uint32_t ino;
};

/* Begin an archive. cpio_fini() closes the memfd, also after failure. */
int cpio_init(struct cpio *cpio, struct err *err);
void cpio_fini(struct cpio *cpio);

/*
 * Add @name (without a leading '/'), owned by root, with @mode: a folder, a regular file of
 * @len bytes at @data, or a character device @rdev. Folders come before what is in them.
 */
int cpio_add(struct cpio *cpio, const char *name, mode_t mode, dev_t rdev, const void *data,
	     size_t len, struct err *err);
/* End it: nothing can be added any more. */
int cpio_end(struct cpio *cpio, struct err *err);

#endif
