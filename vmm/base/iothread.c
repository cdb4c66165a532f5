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
 * A process that gives up namespaces and privileges must have no threads yet. So those of a VM
 * start together, after that, and each is then confined on its own.
 *
 * #syscalls main io share: futex rt_sigprocmask
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
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
	struct iothreads *all; /* or NULL */
	struct iothread *next; /* of all */
	struct iothread_begin *begin;
	struct err *err; /* of the beginning */
	int result;
	sem_t begun;
};

static int prepare(struct iothread *io)
{
	bool files = io->begin != NULL;
	int r = files ? io->begin->fn(io->begin, io->err) : 0;

	if (r == 0 && io->all != NULL && io->all->confine != NULL)
		r = io->all->confine(io->all, files ? IOTHREAD_FILES : IOTHREAD_DEVICE, io->err);
	return r;
}

static void *iothread_main(void *arg)
{
	struct iothread *io = arg;
	int rc;

	(void)pthread_setname_np(pthread_self(), io->name); /* only for people who look */
	rc = io->result = prepare(io);
	sem_post(&io->begun);
	if (rc < 0)
		return NULL;
	rc = loop_run(io->loop);
	if (rc < 0)
		log_error("I/O thread %s: event loop: %s", io->name, strerrordesc_np(-rc));
	return NULL;
}

static int start(struct iothread *io, struct err *err)
{
	sigset_t all, old;
	int rc;

	io->err = err;
	sem_init(&io->begun, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&io->thread, NULL, iothread_main, io);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_sys(err, rc, "I/O thread %s: cannot create the thread", io->name);
	io->running = true;
	while (sem_wait(&io->begun) < 0 && errno == EINTR)
		;
	sem_destroy(&io->begun);
	return io->result;
}

struct iothread *iothread_new(struct iothreads *all, const char *name, struct iothread_begin *begin,
			      struct err *err)
{
	struct iothread *io = calloc(1, sizeof(*io));

	if (io == NULL) {
		err_sys(err, ENOMEM, "I/O thread %s", name);
		return NULL;
	}
	strncpy(io->name, name, sizeof(io->name) - 1);
	io->begin = begin;
	io->loop = loop_new(err);
	if (io->loop == NULL) {
		err_context(err, "I/O thread %s", name);
		iothread_free(io);
		return NULL;
	}
	if (all != NULL) {
		io->all = all;
		io->next = all->first;
		all->first = io;
	}
	if ((all == NULL || all->started) && start(io, err) < 0) {
		iothread_free(io);
		return NULL;
	}
	return io;
}

int iothreads_start(struct iothreads *all, struct err *err)
{
	all->started = true;
	for (struct iothread *io = all->first; io != NULL; io = io->next)
		if (start(io, err) < 0)
			return -err->code;
	for (struct iothread_more *more = all->more; more != NULL; more = more->next)
		if (more->start(more, err) < 0)
			return -err->code;
	return 0;
}

void iothreads_add(struct iothreads *all, struct iothread_more *more)
{
	more->next = all->more;
	all->more = more;
}

void iothreads_remove(struct iothreads *all, struct iothread_more *more)
{
	struct iothread_more **at = &all->more;

	while (*at != NULL && *at != more)
		at = &(*at)->next;
	if (*at != NULL)
		*at = more->next;
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

static void forget(struct iothreads *all, const struct iothread *io)
{
	struct iothread **at = &all->first;

	while (*at != NULL && *at != io)
		at = &(*at)->next;
	if (*at != NULL)
		*at = io->next;
}

void iothread_free(struct iothread *io)
{
	if (io == NULL)
		return;
	iothread_stop(io);
	if (io->all != NULL)
		forget(io->all, io);
	loop_free(io->loop);
	free(io);
}
