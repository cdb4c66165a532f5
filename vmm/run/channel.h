/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's end of the line to the agent in the guest (guest/agent.h), and the three streams
 * that go over it. See run/channel.c.
 */
#ifndef VMM_RUN_CHANNEL_H
#define VMM_RUN_CHANNEL_H

#include "devices/chardev.h"
#include "guest/agent.h"

struct run_channel;

/* Who hears of what the agent says. All on the loop's thread; none may free the channel. */
struct run_events {
	void (*hello)(struct run_events *ev, const struct agent_hello *msg);
	void (*failed)(struct run_events *ev, const struct agent_failed *msg);
	void (*started)(struct run_events *ev, const struct agent_clock *msg);
	/* All output that came before it is in the streams. */
	void (*exited)(struct run_events *ev, const struct agent_exited *msg);
	void (*alive)(struct run_events *ev);
	/* A piece of records as /dev/kmsg gives them. */
	void (*klog)(struct run_events *ev, const char *data, size_t len);
	/* It said what it may not, and is not listened to any more. */
	void (*broken)(struct run_events *ev, const char *why);
	/* The command has printed this; @err: on standard error. May be NULL. */
	void (*output)(struct run_events *ev, bool err, const void *data, size_t len);
};

/* NULL with @err filled when out of memory. @events (borrowed) outlives it. */
struct run_channel *run_channel_new(struct run_events *events, struct err *err);
void run_channel_free(struct run_channel *ch);

/* What the port of the console device is given as its other end. */
struct chardev_back *run_channel_back(struct run_channel *ch);

/*
 * Connect the streams: standard input and output, and unless @tty standard error. With @tty
 * a terminal on stdin is raw.
 */
int run_channel_attach(struct run_channel *ch, bool tty, struct chardevs *all, struct loop *loop,
		       struct err *err);
/* Let go of the loop and the streams. Harmless when never attached. */
void run_channel_detach(struct run_channel *ch);

/*
 * Say something; it waits until the agent takes it. Steps are words that each end in NUL. 0, or
 * -E2BIG for one that is too long, or -ENOMEM.
 */
int run_channel_step(struct run_channel *ch, const char *words, size_t len);
void run_channel_send(struct run_channel *ch, uint16_t type, const void *data, uint32_t len);
/* From now on what comes on standard input is passed on. */
void run_channel_open_stdin(struct run_channel *ch);

#endif
