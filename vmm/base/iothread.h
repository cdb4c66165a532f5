/* SPDX-License-Identifier: Apache-2.0 */
/* A loop with a thread of its own. See iothread.c. */
#ifndef VMM_BASE_IOTHREAD_H
#define VMM_BASE_IOTHREAD_H

#include <stdbool.h>
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

struct iothread;

/* What a thread does before it runs its loop, and before anything confines it. */
struct iothread_begin {
	/* On the thread. 0 or -code. */
	int (*fn)(struct iothread_begin *begin, struct err *err);
};

/* What a thread is there for. */
enum iothread_kind {
	IOTHREAD_DEVICE,
	IOTHREAD_FILES,	 /* a device that works with files of the host; it has a beginning */
	IOTHREAD_WORKER, /* of a device: makes calls on open files that may wait */
};

/* Threads that a device has besides. */
struct iothread_more {
	int (*start)(struct iothread_more *more, struct err *err); /* 0 or -code */
	/* private */
	struct iothread_more *next;
};

/* Threads that start together, when everything is opened. */
struct iothreads {
	struct iothread *first;
	struct iothread_more *more;
	bool started;
	/* On each thread, after its beginning. NULL: nothing. 0 or -code. */
	int (*confine)(struct iothreads *all, enum iothread_kind kind, struct err *err);
};

/*
 * A new loop, to be run by a new thread called @name (at most 15 characters) that does @begin
 * (borrowed; or NULL) first: from iothreads_start() of @all, or, with @all NULL or started, at
 * once. NULL with @err filled. Its signals are blocked, so that they come to the main thread.
 */
struct iothread *iothread_new(struct iothreads *all, const char *name, struct iothread_begin *begin,
			      struct err *err);
/* @more starts with the others; not any more. */
void iothreads_add(struct iothreads *all, struct iothread_more *more);
void iothreads_remove(struct iothreads *all, struct iothread_more *more);
/* Start them all. 0, or -code when one cannot begin. */
int iothreads_start(struct iothreads *all, struct err *err);
/* The loop: post to it; everything else of it belongs to its thread. */
struct loop *iothread_loop(struct iothread *io);
/* End the thread after what it is doing now, then free. Not from its own thread. */
void iothread_free(struct iothread *io);
/*
 * End the thread only: from here on the loop belongs to the caller, who may disarm, unwatch
 * and unpost what is left in it before iothread_free().
 */
void iothread_stop(struct iothread *io);

#endif
