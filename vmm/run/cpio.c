// SPDX-License-Identifier: Apache-2.0
/* Archives in the "newc" format: see run/cpio.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>
#include "vmm/run/cpio.h"

#define HEADER	110 /* "070701" and 13 numbers of eight hexadecimal digits */
#define TRAILER "TRAILER!!!"

int cpio_init(struct cpio *cpio, struct err *err)
{
	*cpio = (struct cpio){ .fd = memfd_create("initramfs", MFD_CLOEXEC) };
	return cpio->fd < 0 ? err_sys(err, errno, "initramfs: memfd_create") : 0;
}

void cpio_fini(struct cpio *cpio)
{
	if (cpio->fd >= 0)
		close(cpio->fd);
	cpio->fd = -1;
}

static int put(struct cpio *cpio, struct iovec *iov, int n, struct err *err)
{
	while (n > 0) {
		ssize_t done = writev(cpio->fd, iov, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_sys(err, errno, "initramfs: cannot write");
		cpio->size += (uint64_t)done;
		while (n > 0 && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static size_t padding(size_t len)
{
	return -len & 3;
}

int cpio_add(struct cpio *cpio, const char *name, mode_t mode, dev_t rdev, const void *data,
	     size_t len, struct err *err)
{
	static const char zeroes[4];
	size_t name_size = strlen(name) + 1;
	char header[HEADER + 1];
	struct iovec iov[] = {
		{ header, HEADER },
		{ (void *)name, name_size },
		{ (void *)zeroes, padding(HEADER + name_size) },
		{ (void *)data, len },
		{ (void *)zeroes, padding(len) },
	};

	if (len > UINT32_MAX)
		return err_set(err, EFBIG, "initramfs: %s is too large", name);
	snprintf(header, sizeof(header),
		 "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++cpio->ino,
		 (unsigned)mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0, (unsigned)len, 0, 0, major(rdev),
		 minor(rdev), (unsigned)name_size, 0);
	return put(cpio, iov, 5, err);
}

int cpio_end(struct cpio *cpio, struct err *err)
{
	return cpio_add(cpio, TRAILER, 0, 0, NULL, 0, err);
}
