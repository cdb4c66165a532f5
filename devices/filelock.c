// SPDX-License-Identifier: Apache-2.0
/*
 * Locks on disk images and the like.
 *
 * A file that is written has one user, a file that is only read any number: a file system changes
 * under a reader's feet if somebody else writes. The file is locked as a whole with an open file
 * description lock (fcntl(2)), for writing or for reading. These locks are advisory: they keep
 * out other machines of ours, and QEMU, which uses the same kind.
 *
 * A process that was killed with I/O in flight is gone before the kernel has finished that, and
 * its locks stay until then. So a lock is waited for, a little: whoever starts a machine anew
 * right after it was killed finds its disks free, with all that was written in them.
 *
 * #syscalls main io: fcntl
 * #syscalls: clock_nanosleep
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "devices/filelock.h"
#include "vmm/base/log.h"

#define STEP_NS 2000000
#define STEPS	250 /* half a second */

/* Returns 0, or -1 with errno set: EAGAIN if somebody else holds it, and goes on to. */
static int lock_patiently(int fd, struct flock *lock)
{
	struct timespec step = { .tv_nsec = STEP_NS };
	int i, r;

	for (i = 0; i < STEPS; i++) {
		r = fcntl(fd, F_OFD_SETLK, lock);
		if (r == 0 || (errno != EAGAIN && errno != EACCES))
			return r;
		nanosleep(&step, NULL);
	}
	return fcntl(fd, F_OFD_SETLK, lock);
}

int file_lock(int fd, bool exclusive, const char *way_out, struct err *err)
{
	struct flock lock = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };

	if (lock_patiently(fd, &lock) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES) {
		/* A file system without locks: then the user has to know. */
		log_warn("a disk image cannot be locked (%s): make sure nobody else uses it",
			 strerrordesc_np(errno));
		return 0;
	}
	if (exclusive)
		return err_set(err, EBUSY,
			       "is in use, by another virtual machine or another disk of this "
			       "one; to share it, let all only read it (ro)%s",
			       way_out);
	return err_set(err, EBUSY,
		       "is being written, by another virtual machine or another disk of this one; "
		       "it can be read when that has ended");
}

void file_unlock(int fd)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	if (fd >= 0)
		fcntl(fd, F_OFD_SETLK, &lock);
}
