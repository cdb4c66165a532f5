/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the host that a device starts and that end with it: passt, qemu-storage-daemon.
 * See child.c.
 *
 * Not locked: all on the thread that makes and destroys devices, which is also the one that
 * runs the main loop.
 */
#ifndef DEVICES_CHILD_H
#define DEVICES_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

/* The first of the descriptors a child is given, after standard input, output and error. */
#define CHILD_FD      3
#define CHILD_FDS_MAX 4

struct broker;

struct child {
	/*
	 * .fd is a pidfd, -1: there is no child. The owner may watch it with a .fn of its own,
	 * which calls child_reap().
	 */
	struct loop_fd pidfd;
	int stderr_fd;	   /* a pipe from its standard error, -1: none */
	bool output;	   /* it shall be from its standard output instead */
	struct broker *by; /* starts it once that runs; NULL: we do ourselves */
	int rule;	   /* of the broker's, for this program */
	int id;		   /* the broker's number for it; -1: it is our own child */
};

/* No child yet. @ended: for the owner's loop_add_fd() of pidfd. */
#define CHILD_INIT(ended)                                                                          \
	{                                                                                          \
		.pidfd = { .fd = -1, .fn = (ended) }, .stderr_fd = -1, .id = -1                    \
	}

/*
 * Start argv[0], found in PATH, with the @nfds descriptors @fds (borrowed) as CHILD_FD and the
 * following. @death: the signal it gets from the host's kernel when the calling thread ends, 0:
 * none (a program that changes its user or namespaces gets around that). -ENOENT: it is not
 * installed. The sentence does not say for what it was wanted.
 */
int child_start(struct child *c, const char *const *argv, const int *fds, unsigned nfds, int death,
		struct err *err);
/*
 * Start a copy of ourselves, where this thread is the only one: it has everything we have and runs
 * @body(@arg) with a socket to us (SOCK_SEQPACKET) and our process id, then exits with what that
 * returns: when the other end of the socket is closed, say, which is returned here. Or -code.
 */
int child_fork(struct child *c, int (*body)(void *arg, int socket, pid_t parent), void *arg,
	       struct err *err);
/*
 * Has it ended? Then it is gone, pidfd is closed and no longer watched, and @how says "with status
 * 1" or "by signal 9".
 */
bool child_reap(struct child *c, char *how, size_t size);
/*
 * The last line it wrote to its standard error that does not contain @but (NULL: whatever it
 * contains), or "". Throws the rest away. Never waits.
 */
void child_words(struct child *c, const char *but, char *text, size_t size);
/* Wait @ms milliseconds for it to end by itself, then child_stop(). */
void child_wait(struct child *c, int ms);
/* Ask it to end (SIGTERM), then child_wait(). */
void child_end(struct child *c, int ms);
/* Kill it if it still runs, and wait for that. Harmless when there is none. */
void child_stop(struct child *c);

#endif
