/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the guest's kernel dead? See panic.c.
 */
#ifndef VMM_PANIC_H
#define VMM_PANIC_H

#include <stdbool.h>
#include <stddef.h>
#include "vmm/base/loop.h"
#include "vmm/vcpus.h"

struct panic_watch {
	struct loop *loop;
	struct vcpus *cpus;
	void (*dead)(struct panic_watch *watch); /* on the loop's thread */
	/* private */
	struct loop_timer timer;
	bool seen;	       /* the message was printed */
	bool line_ended;       /* ... and its line is over */
	bool talks;	       /* ... and something came after it */
	bool certain;	       /* pvpanic said so */
	unsigned samples;      /* taken */
	unsigned dead_samples; /* that looked dead, in a row */
};

void panic_watch_init(struct panic_watch *w, struct loop *loop, struct vcpus *cpus,
		      void (*dead)(struct panic_watch *watch));
void panic_watch_fini(struct panic_watch *w);

/*
 * A console printed this. *@matched, 0 at first, is kept for each console: bytes of the message
 * seen in a row.
 */
void panic_watch_output(struct panic_watch *w, size_t *matched, const char *data, size_t len);
/* The guest reported its panic by pvpanic. */
void panic_watch_reported(struct panic_watch *w);
/* It was dead, and is given another look: for who stopped it meanwhile. */
void panic_watch_again(struct panic_watch *w);
/* The guest is paused: do not look. panic_watch_go_on() ends that. */
void panic_watch_hold(struct panic_watch *w);
void panic_watch_go_on(struct panic_watch *w);
/* Has it panicked since the last reset, as far as one can tell? */
bool panic_watch_panicked(const struct panic_watch *w);
/* The guest was reset: it lives again. */
void panic_watch_reset(struct panic_watch *w);

#endif
