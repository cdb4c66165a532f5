/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that does for the monitor, while the guest runs, what this itself may not do any more:
 * start a program, connect to a socket that has a name, remove one. See broker.c.
 *
 * What it does is fixed before: each thing has a rule. Not locked: all on the main thread.
 */
#ifndef DEVICES_BROKER_H
#define DEVICES_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "devices/child.h"
#include "vmm/base/err.h"

#define BROKER_RULES_MAX 128

struct broker_rule {
	enum { BROKER_RUN, BROKER_CONNECT, BROKER_CONNECT_NUMBER, BROKER_REMOVE } kind;
	const char *const *argv; /* RUN */
	bool more;		 /* RUN: arguments may follow, which are no options */
	const char *path;	 /* the others: of the socket; NUMBER: "_" and a number follow */
	dev_t dev;		 /* REMOVE: if it is still this one */
	ino_t ino;
};

struct broker {
	struct broker_rule rule[BROKER_RULES_MAX];
	unsigned n;
	struct child process;
	int socket;   /* to it; -1: there is none (yet, or any more) */
	bool started; /* from here on it is asked, whether it is still there or not */
};

void broker_init(struct broker *b);
/*
 * Something that may be asked for later. What @rule points to is borrowed until the broker has
 * started. Its number, or -code.
 */
int broker_allow(struct broker *b, const struct broker_rule *rule, struct err *err);
/*
 * Start it, if anything was allowed; the thread is the only one, guest memory is not forked along
 * (see gmem_inherit()). 0 or -code.
 */
int broker_start(struct broker *b, struct err *err);
/* End it and what it has started. */
void broker_stop(struct broker *b);
static inline bool broker_started(const struct broker *b)
{
	return b != NULL && b->started;
}

/*
 * Connect by rule @rule, without waiting; NUMBER: to @number. @fd: not to its path but to this
 * (O_PATH) socket; -1. Before it is started that is done here. The connection or -errno.
 */
int broker_connect(struct broker *b, int rule, uint32_t number, int fd);
/* Remove the socket of rule @rule. */
void broker_remove(struct broker *b, int rule);

/* For child.c: start by rule @rule, with @extra arguments more; what it did, see struct child. */
int broker_run(struct broker *b, int rule, const char *const *extra, const int *fds, unsigned nfds,
	       int death, bool output, struct child *c, struct err *err);
/* How it ended. False: it has not. */
bool broker_reap(struct broker *b, int id, char *how, size_t size);

#endif
