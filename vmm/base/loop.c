// SPDX-License-Identifier: Apache-2.0
/*
 * An epoll loop: see loop.h.
 *
 * Theory of operation. One pass of the loop waits in epoll_pwait2() until a descriptor
 * is ready, the nearest timer is due or work was posted, and then runs, in this order,
 * the timers that are due, the callbacks of the descriptors and the posted work. Each of
 * the three is bounded by what was there when the pass began, so none can starve the
 * others: a timer armed with 0 or work that posts itself again runs in the next pass.
 *
 * Descriptors. The events a pass has fetched stay in loop->batch while they are being
 * delivered. Removing a descriptor strikes it out there: its owner may be freed at once.
 * What is delivered is cut down to what is being watched at that moment. A descriptor
 * watched for nothing is taken out of the epoll set, because epoll reports EPOLLHUP and
 * EPOLLERR whether asked or not: a guest could close its end and keep the loop spinning.
 *
 * Timers. A list sorted by deadline; a VM has a handful.
 *
 * Posted work. loop->posted is a stack that any thread pushes on with one compare-and-
 * swap; the loop's thread takes all of it with one exchange, turns it round and appends
 * it to loop->pending, which is its own. There is no pop of a single element, hence no
 * ABA problem. Only the thread that finds the stack empty writes to the eventfd. The
 * loop reads the eventfd first and takes the stack then, in one callback: whoever pushes
 * later finds the stack empty and wakes the loop once more. (The other way round, a push
 * in between would lose its wake-up.) A pass does not wait while @pending has work.
 *
 * work->queued goes from false to true by an exchange in loop_post(), and back by one
 * just before @fn runs. Both are read-modify-writes, so a poster that finds it still
 * true knows that @fn will see what it wrote before posting.
 *
 * Edges. EPOLLET goes straight to epoll. An eventfd wakes its watchers at each write, whatever
 * its counter was, so a write after the event was fetched is a new event. The one thing to
 * know is that a pass that is cut short by loop_quit() loses the edges it had fetched.
 *
 * Limits: EPOLLONESHOT is not for here. A timer costs a walk of the list to arm.
 * epoll_pwait2() needs Linux 5.11.
 *
 * #syscalls main io share: epoll_pwait2 epoll_ctl read write clock_gettime
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/base/loop.h"

#define LOOP_BATCH 32
#define NS_PER_MS  1000000ULL
#define NS_PER_S   1000000000ULL
#define NEVER	   UINT64_MAX

struct loop {
	int epfd;
	struct loop_fd wake;	   /* the eventfd */
	struct loop_timer timers;  /* head of the ring, earliest first */
	struct loop_work *pending; /* taken from @posted, oldest first */
	struct loop_work **pending_end;
	unsigned npending;
	unsigned nrun;			    /* of these, to be run in this pass: the first ones */
	_Atomic(struct loop_work *) posted; /* by any thread, newest first */
	_Atomic int quit;		    /* what loop_run() shall return, -1 if it shall run */
	int nbatch;
	struct epoll_event batch[LOOP_BATCH];
};

uint64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void loop_wake(struct loop *loop)
{
	/* It can fail only when the counter is full, and then the loop is awake already. */
	(void)eventfd_write(loop->wake.fd, 1);
}

/* Move everything posted so far to the end of loop->pending, in the order of posting. */
static void loop_take_posted(struct loop *loop)
{
	struct loop_work *work = atomic_exchange(&loop->posted, NULL);
	struct loop_work *first = NULL, *last = work;

	if (work == NULL)
		return;
	while (work != NULL) {
		struct loop_work *next = work->next;

		work->next = first;
		first = work;
		work = next;
		loop->npending++;
	}
	*loop->pending_end = first;
	loop->pending_end = &last->next;
}

/* The eventfd is ready. The order of the two matters: see the top. */
static void loop_awake(struct loop_fd *lfd, uint32_t events)
{
	eventfd_t count;

	(void)events;
	(void)eventfd_read(lfd->fd, &count);
	loop_take_posted(lfd->loop);
}

struct loop *loop_new(struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (loop == NULL) {
		err_sys(err, ENOMEM, "event loop");
		return NULL;
	}
	loop->timers.prev = loop->timers.next = &loop->timers;
	loop->pending_end = &loop->pending;
	loop->quit = -1;
	loop->wake.fn = loop_awake;
	loop->wake.fd = -1;
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0) {
		err_sys(err, errno, "event loop: epoll_create1");
		goto fail;
	}
	loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake.fd < 0) {
		err_sys(err, errno, "event loop: eventfd");
		goto fail;
	}
	if (loop_add_fd(loop, &loop->wake, EPOLLIN, err) < 0) {
		err_context(err, "event loop");
		goto fail;
	}
	return loop;
fail:
	loop_free(loop);
	return NULL;
}

/* Unlink *@link from loop->pending; it may be posted again from here on. */
static struct loop_work *loop_unlink_work(struct loop *loop, struct loop_work **link)
{
	struct loop_work *work = *link;

	*link = work->next;
	if (*link == NULL)
		loop->pending_end = link;
	loop->npending--;
	atomic_exchange(&work->queued, false);
	return work;
}

void loop_free(struct loop *loop)
{
	if (loop == NULL)
		return;
	/* Owners may still disarm and post elsewhere what they had here. */
	while (loop->timers.next != &loop->timers)
		loop_disarm(loop->timers.next);
	loop_take_posted(loop);
	while (loop->pending != NULL)
		loop_unlink_work(loop, &loop->pending);
	if (loop->wake.fd >= 0)
		close(loop->wake.fd);
	if (loop->epfd >= 0)
		close(loop->epfd);
	free(loop);
}

/* Forget the events of @lfd that were fetched and not delivered yet. */
static void loop_strike_out(struct loop *loop, const struct loop_fd *lfd)
{
	for (int i = 0; i < loop->nbatch; i++) {
		if (loop->batch[i].data.ptr == lfd)
			loop->batch[i].data.ptr = NULL;
	}
}

int loop_add_fd(struct loop *loop, struct loop_fd *lfd, uint32_t events, struct err *err)
{
	struct epoll_event ev = { .events = events, .data.ptr = lfd };

	if (lfd->loop != NULL)
		return err_set(err, EEXIST, "descriptor %d is being watched already", lfd->fd);
	if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, lfd->fd, &ev) < 0) {
		if (errno == EPERM)
			return err_set(err, EPERM,
				       "descriptor %d is a file or directory: these cannot be "
				       "watched, they are always ready",
				       lfd->fd);
		return err_sys(err, errno, "cannot watch descriptor %d", lfd->fd);
	}
	/* Added even when for nothing, so that a descriptor that cannot be is found out now. */
	if (events == 0)
		epoll_ctl(loop->epfd, EPOLL_CTL_DEL, lfd->fd, &ev);
	lfd->loop = loop;
	lfd->events = events;
	return 0;
}

void loop_mod_fd(struct loop_fd *lfd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = lfd };
	struct loop *loop = lfd->loop;
	int op = EPOLL_CTL_MOD;

	if (loop == NULL || events == lfd->events)
		return;
	if (events == 0)
		op = EPOLL_CTL_DEL;
	else if (lfd->events == 0)
		op = EPOLL_CTL_ADD;
	if (epoll_ctl(loop->epfd, op, lfd->fd, &ev) < 0) {
		/* Out of memory or watches; left as it was, so the next call tries again. */
		log_error("event loop: cannot watch descriptor %d: %s", lfd->fd,
			  strerrordesc_np(errno));
		return;
	}
	if (events == 0)
		loop_strike_out(loop, lfd);
	lfd->events = events;
}

void loop_del_fd(struct loop_fd *lfd)
{
	struct loop *loop = lfd->loop;
	struct epoll_event ev = { 0 };

	if (loop == NULL)
		return;
	if (lfd->events != 0)
		epoll_ctl(loop->epfd, EPOLL_CTL_DEL, lfd->fd, &ev);
	loop_strike_out(loop, lfd);
	lfd->loop = NULL;
	lfd->events = 0;
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t ns)
{
	uint64_t now = loop_now_ns();
	struct loop_timer *at;

	loop_disarm(timer);
	/* At least 1 ns, so that a timer re-armed by its own callback waits for the next pass. */
	if (ns == 0)
		ns = 1;
	timer->deadline_ns = ns < NEVER - now ? now + ns : NEVER;
	timer->loop = loop;
	timer->armed = true;
	/* From the end: what is armed last is mostly due last. Equal deadlines stay in order. */
	for (at = loop->timers.prev; at != &loop->timers; at = at->prev) {
		if (at->deadline_ns <= timer->deadline_ns)
			break;
	}
	timer->prev = at;
	timer->next = at->next;
	at->next->prev = timer;
	at->next = timer;
}

void loop_disarm(struct loop_timer *timer)
{
	if (!timer->armed)
		return;
	timer->prev->next = timer->next;
	timer->next->prev = timer->prev;
	timer->prev = timer->next = NULL;
	timer->loop = NULL;
	timer->armed = false;
}

void loop_post(struct loop *loop, struct loop_work *work)
{
	struct loop_work *head;

	if (atomic_exchange(&work->queued, true))
		return;
	head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
	do {
		work->next = head;
	} while (!atomic_compare_exchange_weak(&loop->posted, &head, work));
	/* From here on @work may have run and be gone; @head is only compared. */
	if (head == NULL)
		loop_wake(loop);
}

void loop_unpost(struct loop *loop, struct loop_work *work)
{
	struct loop_work **link;
	unsigned i = 0;

	if (!atomic_load(&work->queued))
		return;
	loop_take_posted(loop);
	for (link = &loop->pending; *link != NULL && *link != work; link = &(*link)->next)
		i++;
	if (*link == NULL)
		return;
	if (i < loop->nrun)
		loop->nrun--;
	loop_unlink_work(loop, link);
}

void loop_quit(struct loop *loop, int result)
{
	int running = -1;

	if (atomic_compare_exchange_strong(&loop->quit, &running, result))
		loop_wake(loop);
}

static bool loop_quitting(struct loop *loop)
{
	return atomic_load(&loop->quit) >= 0;
}

static void loop_run_timers(struct loop *loop)
{
	struct loop_timer *timer = loop->timers.next;
	uint64_t now;

	if (timer == &loop->timers)
		return;
	now = loop_now_ns();
	while (!loop_quitting(loop)) {
		timer = loop->timers.next;
		if (timer == &loop->timers || timer->deadline_ns > now)
			return;
		loop_disarm(timer);
		timer->fn(timer);
	}
}

static void loop_run_posted(struct loop *loop)
{
	loop_take_posted(loop);
	/* Counted, because a callback's loop_unpost() may append to the list. */
	loop->nrun = loop->npending;
	while (loop->nrun > 0 && !loop_quitting(loop)) {
		struct loop_work *work;

		loop->nrun--;
		work = loop_unlink_work(loop, &loop->pending);
		work->fn(work);
	}
	loop->nrun = 0;
}

static void loop_run_fds(struct loop *loop)
{
	for (int i = 0; i < loop->nbatch && !loop_quitting(loop); i++) {
		struct loop_fd *lfd = loop->batch[i].data.ptr;
		uint32_t events;

		if (lfd == NULL)
			continue;
		events = loop->batch[i].events & (lfd->events | EPOLLERR | EPOLLHUP);
		if (events != 0)
			lfd->fn(lfd, events);
		/* @lfd may be gone now. */
	}
	loop->nbatch = 0;
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
	uint64_t wait = timeout_ms < 0 ? NEVER : (uint64_t)timeout_ms * NS_PER_MS;
	struct loop_timer *first = loop->timers.next;
	struct timespec ts;
	int n;

	if (loop_quitting(loop))
		return 0;
	if (loop->pending != NULL) {
		wait = 0; /* left over by a loop that was quit, or taken by loop_unpost() */
	} else if (wait > 0 && first != &loop->timers && first->deadline_ns != NEVER) {
		uint64_t now = loop_now_ns();
		uint64_t left = first->deadline_ns > now ? first->deadline_ns - now : 0;

		if (left < wait)
			wait = left;
	}
	ts.tv_sec = (time_t)(wait / NS_PER_S);
	ts.tv_nsec = (long)(wait % NS_PER_S);
	n = epoll_pwait2(loop->epfd, loop->batch, LOOP_BATCH, wait == NEVER ? NULL : &ts, NULL);
	if (n < 0 && errno != EINTR)
		return -errno;
	loop->nbatch = n < 0 ? 0 : n;

	loop_run_timers(loop);
	loop_run_fds(loop);
	loop_run_posted(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	while (!loop_quitting(loop)) {
		int rc = loop_run_once(loop, -1);

		if (rc < 0)
			return rc;
	}
	return atomic_exchange(&loop->quit, -1);
}
