// SPDX-License-Identifier: Apache-2.0
/*
 * A loop with a thread of its own, for devices that shall not wait for each other or for the
 * main loop.
 *
 * Theory of operation. The thread does nothing but loop_run(). It is made with all signals
 * blocked, so that those for the process are taken by the main thread. What belongs to the
 * loop is set up before or from within it by posted work, and taken down by the owner after
 * iothread_stop(), when the thread is gone and the loop is an ordinary structure again.
 *
 * #syscalls: futex rt_sigprocmask
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/iothread.h"
#include "vmm/base/log.h"

#define IOTHREAD_NAME_MAX 16 /* with the NUL; Linux's limit */

struct iothread {
	struct loop *loop;
	pthread_t thread;
	bool running;
	char name[IOTHREAD_NAME_MAX];
};

static void *iothread_main(void *arg)
{
	struct iothread *io = arg;
	int rc = loop_run(io->loop);

	if (rc < 0)
		log_error("I/O thread %s: event loop: %s", io->name, strerrordesc_np(-rc));
	return NULL;
}

struct iothread *iothread_new(const char *name, struct err *err)
{
	struct iothread *io = calloc(1, sizeof(*io));
	sigset_t all, old;
	int rc;

	if (io == NULL) {
		err_sys(err, ENOMEM, "I/O thread %s", name);
		return NULL;
	}
	strncpy(io->name, name, sizeof(io->name) - 1);
	io->loop = loop_new(err);
	if (io->loop == NULL) {
		err_context(err, "I/O thread %s", name);
		iothread_free(io);
		return NULL;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&io->thread, NULL, iothread_main, io);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		err_sys(err, rc, "I/O thread %s: cannot create the thread", name);
		iothread_free(io);
		return NULL;
	}
	io->running = true;
	(void)pthread_setname_np(io->thread, io->name); /* only for people who look */
	return io;
}

struct loop *iothread_loop(struct iothread *io)
{
	return io->loop;
}

void iothread_stop(struct iothread *io)
{
	if (!io->running)
		return;
	loop_quit(io->loop, 0);
	pthread_join(io->thread, NULL);
	io->running = false;
}

void iothread_free(struct iothread *io)
{
	if (io == NULL)
		return;
	iothread_stop(io);
	loop_free(io->loop);
	free(io);
}
