/* SPDX-License-Identifier: Apache-2.0 */
/* Locks on files that devices keep data in: see filelock.c. */
#ifndef DEVICES_FILELOCK_H
#define DEVICES_FILELOCK_H

#include <stdbool.h>
#include "vmm/base/err.h"

/*
 * Lock the open file @fd as a whole, for writing if @exclusive, for as long as it is open. -EBUSY:
 * the sentence says who may have it, and ends with @way_out, a further way to share it ("" or
 * " or ..."); it comes after half a second of waiting for an owner that was killed. Where the file
 * system knows no locks, a warning is all.
 */
int file_lock(int fd, bool exclusive, const char *way_out, struct err *err);
/*
 * Unlock it, before closing it: io_uring lets go of its files only some time after its end, even
 * after ours, and the next to use the file would find it locked. @fd may be -1.
 */
void file_unlock(int fd);

#endif
