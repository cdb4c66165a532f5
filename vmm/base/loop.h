/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoll loop: file descriptors, timers and work posted by other threads.
 *
 * One thread runs a loop; everything in it is called on that thread, so the code
 * in callbacks needs no lock against itself. All structures are embedded in
 * their owner, who zeroes them and sets the public members: the loop allocates
 * nothing after loop_new(). The calls that another thread may make are loop_post()
 * and loop_quit(); none may be under way in loop_free(), so join such threads first.
 *
 * A callback may add, change and remove anything, itself included, and free what it
 * is embedded in: events already fetched for a removed descriptor are not delivered.
 * It may not call loop_run() or loop_free().
 *
 * Descriptors are level-triggered. EPOLLET is meant for eventfds: each signal is delivered
 * once, and nobody needs to read them. EPOLLONESHOT is not supported. Work
 * runs in the order of posting; a timer or work that arms or posts itself again runs
 * in the next pass, so nothing else is starved by it.
 */
#ifndef VMM_BASE_LOOP_H
#define VMM_BASE_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include "vmm/base/err.h"

struct loop;

/* A watched descriptor. The owner keeps the fd and closes it after loop_del_fd(). */
struct loop_fd {
	int fd;
	void (*fn)(struct loop_fd *lfd, uint32_t events); /* events: EPOLLIN | ... */
	/* private */
	struct loop *loop;
	uint32_t events;
};

/* A timer; @fn runs once per expiry on the loop's thread. */
struct loop_timer {
	void (*fn)(struct loop_timer *timer);
	/* private */
	struct loop *loop;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	struct loop_timer *prev, *next;
	bool armed;
};

/* Work posted from any thread; @fn runs once per posting, on the loop's thread. */
struct loop_work {
	void (*fn)(struct loop_work *work);
	/* private */
	struct loop_work *next;
	atomic_bool queued;
};

/* A new loop, or NULL with @err filled. Free it on the thread that ran it. */
struct loop *loop_new(struct err *err);
void loop_free(struct loop *loop);

/* Dispatch until loop_quit(); returns the value given there, or -errno. May run again. */
int loop_run(struct loop *loop);
/*
 * One pass: dispatch what is ready, waiting at most @timeout_ms (-1: for ever) for it.
 * Returns 0, also when there was nothing, or -errno. For tests.
 */
int loop_run_once(struct loop *loop, int timeout_ms);
/*
 * Let loop_run() return @result (>= 0) after the current callback, or at once when it is
 * called later. The first of several results counts. Any thread.
 */
void loop_quit(struct loop *loop, int result);

/*
 * Watch lfd->fd for @events. Returns 0 or -code: -EPERM for a regular file or directory,
 * which epoll refuses because they are always ready; -EEXIST when watched already.
 */
int loop_add_fd(struct loop *loop, struct loop_fd *lfd, uint32_t events, struct err *err);
/*
 * Watch for other @events from now on. 0: for none, not even EPOLLHUP, which epoll
 * otherwise reports unasked and without end; the descriptor stays known.
 */
void loop_mod_fd(struct loop_fd *lfd, uint32_t events);
/* Stop watching, before the fd is closed; harmless when not watched. */
void loop_del_fd(struct loop_fd *lfd);

/* Fire once, @ns nanoseconds from now; arming again replaces the deadline. */
void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t ns);
/* Harmless when not armed. */
void loop_disarm(struct loop_timer *timer);

/* Queue @work; no-op while it is still queued. Any thread; never blocks or fails. */
void loop_post(struct loop *loop, struct loop_work *work);
/*
 * Take @work back if it is queued. The loop's own thread only, and no other thread may
 * be posting this very @work (others are fine): who could tell which came first?
 */
void loop_unpost(struct loop *loop, struct loop_work *work);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t loop_now_ns(void);

#endif
