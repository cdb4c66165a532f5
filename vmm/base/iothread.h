/* SPDX-License-Identifier: Apache-2.0 */
/* A loop with a thread of its own. See iothread.c. */
#ifndef VMM_BASE_IOTHREAD_H
#define VMM_BASE_IOTHREAD_H

#include "vmm/base/err.h"
#include "vmm/base/loop.h"

struct iothread;

/*
 * A new loop, run by a new thread called @name (at most 15 characters). NULL with @err filled.
 * Its signals are blocked, so that they come to the main thread.
 */
struct iothread *iothread_new(const char *name, struct err *err);
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
