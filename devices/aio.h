/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File I/O that does not block: io_uring, or a few threads where the host does not let us.
 * See aio.c.
 *
 * Not locked: the owner calls everything under one mutex of its own, aio_watch() and aio_run()
 * on the loop's thread, the rest on any. Requests are embedded in their owner; nothing is
 * allocated after aio_new().
 */
#ifndef DEVICES_AIO_H
#define DEVICES_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/base/err.h"
#include "vmm/base/iothread.h"

#define AIO_FILES_MAX 4

enum aio_op {
	AIO_READ,
	AIO_WRITE,
	AIO_WRITE_DURABLE, /* on stable storage when done, with what is needed to read it back */
	AIO_SYNC,	   /* fdatasync */
	AIO_PUNCH,	   /* make [offset, len) a hole that reads as zeroes */
	AIO_ZERO,	   /* zeroes, and the room for them kept */
	AIO_FSYNC,	   /* fsync */
	AIO_FALLOCATE,	   /* fallocate with mode @flags */
};

/* For `file`: the file is `fd`. */
#define AIO_FD (~0u)

struct aio_req {
	enum aio_op op;
	unsigned file;		 /* index of what aio_new() was given; AIO_FD */
	int fd;			 /* AIO_FD: open until the request is done */
	uint32_t flags;		 /* AIO_FD: RWF_* of READ and WRITE, mode of FALLOCATE */
	uint64_t offset, len;	 /* bytes; len only of PUNCH, ZERO, FALLOCATE */
	const struct iovec *iov; /* READ, WRITE: untouched until done; at most IOV_MAX */
	unsigned niov;
	/* Bytes done (0 for other ops) or -errno. Not called before aio_run() or aio_wait(). */
	void (*done)(struct aio_req *req, int64_t result);
	/* private */
	struct aio_req *next;
	int64_t result;
};

struct aio;

/* Use threads even where there is io_uring: for tests, and for the few it does not suit. */
#define AIO_THREADS 1
/* Where there are threads: they start at once, not with all others. */
#define AIO_NOW 2

/*
 * @fds (borrowed, fixed from here on) are the files requests name by index. @ready(@owner) is
 * called on the loop, nothing locked, when something completed by itself: it locks and calls
 * aio_run(). Threads start, and are confined, with @all (NULL: at once, and they are not; started:
 * at once, and they are what the caller is).
 */
struct aio *aio_new(const int *fds, unsigned nfds, unsigned flags, struct iothreads *all,
		    void (*ready)(void *owner), void *owner, struct err *err);
/* Waits for what is in flight, without calling `done`. On the loop's thread, or after it ended. */
void aio_free(struct aio *aio);
/* Is it io_uring? */
bool aio_is_ring(const struct aio *aio);

/* Watch for completions on @loop, from its thread. Harmless when watched. 0 or -code. */
int aio_watch(struct aio *aio, struct loop *loop, struct err *err);

/* Put @req in line. It is started by aio_run(). */
void aio_queue(struct aio *aio, struct aio_req *req);
/*
 * Start all that is queued (with one system call, mostly), then call `done` for what has
 * completed: what was in the page cache already has.
 */
void aio_run(struct aio *aio);
/* Requests queued or in flight. */
unsigned aio_pending(const struct aio *aio);
/* Start what is queued, wait until at least one has completed, if any are pending. */
void aio_wait(struct aio *aio);

#endif
