// SPDX-License-Identifier: Apache-2.0
/* Event loop: descriptors, timers, posted work, removal in callbacks, many threads. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/base/loop.h"

#define MS 1000000ULL

static struct loop *loop;
static struct err err;

static void setup(void)
{
	memset(&err, 0, sizeof(err));
	loop = loop_new(&err);
	ck_assert_msg(loop != NULL, "%s", err.msg);
}

static void teardown(void)
{
	loop_free(loop);
}

/* ---- descriptors ---- */

struct watch {
	struct loop_fd lfd; /* first: callbacks cast back */
	struct watch *other;
	int calls;
	uint32_t events;
};

static void on_event(struct loop_fd *lfd, uint32_t events)
{
	struct watch *w = (struct watch *)lfd;

	w->calls++;
	w->events = events;
}

/* An eventfd that is readable and writable. */
static struct watch *watch_new(void (*fn)(struct loop_fd *, uint32_t))
{
	struct watch *w = calloc(1, sizeof(*w));

	w->lfd.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	w->lfd.fn = fn;
	ck_assert_int_ge(w->lfd.fd, 0);
	return w;
}

static void watch_free(struct watch *w)
{
	loop_del_fd(&w->lfd);
	close(w->lfd.fd);
	free(w);
}

START_TEST(test_fd)
{
	struct watch *w = watch_new(on_event);

	ck_assert_int_eq(loop_add_fd(loop, &w->lfd, EPOLLIN, &err), 0);
	ck_assert_int_eq(loop_add_fd(loop, &w->lfd, EPOLLIN, &err), -EEXIST);
	ck_assert_int_eq(loop_run_once(loop, 0), 0);
	ck_assert_int_eq(w->calls, 1);
	ck_assert_uint_eq(w->events, EPOLLIN);
	loop_mod_fd(&w->lfd, EPOLLIN | EPOLLOUT);
	loop_run_once(loop, 0);
	ck_assert_uint_eq(w->events, EPOLLIN | EPOLLOUT);
	loop_del_fd(&w->lfd);
	loop_del_fd(&w->lfd);
	loop_mod_fd(&w->lfd, EPOLLIN);
	loop_run_once(loop, 0);
	ck_assert_int_eq(w->calls, 2);
	ck_assert_int_eq(loop_add_fd(loop, &w->lfd, 0, &err), 0);
	loop_run_once(loop, 0);
	ck_assert_int_eq(w->calls, 2);
	loop_mod_fd(&w->lfd, EPOLLIN);
	loop_run_once(loop, 0);
	ck_assert_int_eq(w->calls, 3);
	watch_free(w);
}
END_TEST

START_TEST(test_bad_fd)
{
	char path[] = "/tmp/test_loop.XXXXXX";
	struct watch w = { .lfd.fd = mkstemp(path), .lfd.fn = on_event };
	uint32_t events = _i == 0 ? 0 : EPOLLIN;

	unlink(path);
	ck_assert_int_eq(loop_add_fd(loop, &w.lfd, events, &err), -EPERM);
	ck_assert_ptr_nonnull(strstr(err.msg, "always ready"));
	close(w.lfd.fd);
	ck_assert_int_eq(loop_add_fd(loop, &w.lfd, events, &err), -EBADF);
	loop_del_fd(&w.lfd);
}
END_TEST

/* A peer that hangs up must not keep a loop spinning that does not want to know. */
START_TEST(test_hangup)
{
	struct watch w = { .lfd.fn = on_event };
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	w.lfd.fd = fds[0];
	ck_assert_int_eq(loop_add_fd(loop, &w.lfd, EPOLLIN, &err), 0);
	close(fds[1]);
	loop_mod_fd(&w.lfd, 0);
	for (int i = 0; i < 10; i++)
		loop_run_once(loop, 0);
	ck_assert_int_eq(w.calls, 0);
	loop_mod_fd(&w.lfd, EPOLLOUT);
	loop_run_once(loop, 0);
	ck_assert_int_eq(w.calls, 1);
	ck_assert_uint_ne(w.events & EPOLLHUP, 0);
	ck_assert_uint_eq(w.events & EPOLLIN, 0);
	loop_del_fd(&w.lfd);
	close(fds[0]);
}
END_TEST

static int removals;

/* Whoever comes first removes and frees the other. */
static void on_event_free_other(struct loop_fd *lfd, uint32_t events)
{
	struct watch *w = (struct watch *)lfd;

	(void)events;
	removals++;
	ck_assert_ptr_nonnull(w->other);
	watch_free(w->other);
	w->other = NULL;
	watch_free(w);
}

START_TEST(test_remove_other)
{
	struct watch *a = watch_new(on_event_free_other);
	struct watch *b = watch_new(on_event_free_other);

	a->other = b;
	b->other = a;
	loop_add_fd(loop, &a->lfd, EPOLLIN, &err);
	loop_add_fd(loop, &b->lfd, EPOLLIN, &err);
	loop_run_once(loop, 0);
	loop_run_once(loop, 0);
	ck_assert_int_eq(removals, 1);
}
END_TEST

static void on_event_silence_other(struct loop_fd *lfd, uint32_t events)
{
	struct watch *w = (struct watch *)lfd;

	on_event(lfd, events);
	loop_mod_fd(&w->other->lfd, w->other->events);
}

/* Events fetched for what is no longer wanted are not delivered. */
START_TEST(test_modify_other)
{
	struct watch *a = watch_new(on_event_silence_other);
	struct watch *b = watch_new(on_event_silence_other);

	a->other = b;
	b->other = a;
	/* 0: none; EPOLLPRI: something that is not there. */
	a->events = b->events = _i == 0 ? 0 : EPOLLPRI;
	loop_add_fd(loop, &a->lfd, EPOLLIN, &err);
	loop_add_fd(loop, &b->lfd, EPOLLIN, &err);
	loop_run_once(loop, 0);
	ck_assert_int_eq(a->calls + b->calls, 1);
	watch_free(a);
	watch_free(b);
}
END_TEST

static struct watch *victim;

static void on_timer_free_victim(struct loop_timer *timer)
{
	(void)timer;
	watch_free(victim);
}

/* The same from a timer, which runs between fetching and delivering. */
START_TEST(test_remove_in_timer)
{
	struct loop_timer timer = { .fn = on_timer_free_victim };

	victim = watch_new(on_event);
	loop_add_fd(loop, &victim->lfd, EPOLLIN, &err);
	loop_arm(loop, &timer, 0);
	loop_run_once(loop, 0);
	ck_assert(!timer.armed);
}
END_TEST

/* More descriptors than are fetched at once: none starves. */
START_TEST(test_many_fds)
{
	struct watch *w[200];

	for (int i = 0; i < 200; i++) {
		w[i] = watch_new(on_event);
		loop_add_fd(loop, &w[i]->lfd, EPOLLIN, &err);
	}
	for (int i = 0; i < 40; i++)
		loop_run_once(loop, 0);
	for (int i = 0; i < 200; i++) {
		ck_assert_int_ge(w[i]->calls, 3);
		watch_free(w[i]);
	}
}
END_TEST

/* ---- timers ---- */

struct tick {
	struct loop_timer timer;
	int id, calls;
};

static int order[64], norder;

static void on_tick(struct loop_timer *timer)
{
	struct tick *t = (struct tick *)timer;

	t->calls++;
	order[norder++ % 64] = t->id;
}

START_TEST(test_timer_order)
{
	static const int ms[] = { 5, 1, 9, 3, 3, 7, 3 };
	static const int expected[] = { 1, 3, 4, 6, 0, 5, 2 };
	struct tick t[7] = { 0 };

	for (int i = 0; i < 7; i++) {
		t[i].timer.fn = on_tick;
		t[i].id = i;
		/* The first deadline of each is replaced by the second. */
		loop_arm(loop, &t[i].timer, (uint64_t)(20 - ms[i]) * MS);
	}
	for (int i = 0; i < 7; i++)
		loop_arm(loop, &t[i].timer, (uint64_t)ms[i] * 10 * MS);
	while (norder < 7)
		ck_assert_int_eq(loop_run_once(loop, 1000), 0);
	for (int i = 0; i < 7; i++)
		ck_assert_int_eq(order[i], expected[i]);
}
END_TEST

START_TEST(test_timer_time)
{
	struct tick t = { .timer.fn = on_tick };
	uint64_t start = loop_now_ns();

	/* Below a millisecond, where epoll_wait() could not go. */
	loop_arm(loop, &t.timer, 300000);
	while (t.calls == 0)
		loop_run_once(loop, -1);
	ck_assert_uint_ge(loop_now_ns() - start, 300000);
	/* The far end of time neither wraps nor fires. */
	loop_arm(loop, &t.timer, UINT64_MAX);
	loop_run_once(loop, 1);
	loop_arm(loop, &t.timer, UINT64_MAX / 2);
	loop_run_once(loop, 1);
	ck_assert_int_eq(t.calls, 1);
	loop_disarm(&t.timer);
	loop_disarm(&t.timer);
	start = loop_now_ns();
	loop_run_once(loop, 20);
	ck_assert_uint_ge(loop_now_ns() - start, 20 * MS);
	loop_arm(loop, &t.timer, 1000 * MS); /* loop_free() disarms it */
	loop_free(loop);
	ck_assert(!t.timer.armed);
	loop_disarm(&t.timer);
	loop = NULL;
}
END_TEST

static void on_tick_again(struct loop_timer *timer)
{
	on_tick(timer);
	loop_arm(loop, timer, 0);
}

/* A timer that always re-arms itself at once does not starve descriptors. */
START_TEST(test_timer_starve)
{
	struct tick t = { .timer.fn = on_tick_again };
	struct watch *w = watch_new(on_event);

	loop_add_fd(loop, &w->lfd, EPOLLIN, &err);
	loop_arm(loop, &t.timer, 0);
	for (int i = 0; i < 10; i++)
		loop_run_once(loop, -1);
	ck_assert_int_eq(w->calls, 10);
	ck_assert_int_le(t.calls, 10);
	ck_assert_int_ge(t.calls, 9);
	watch_free(w);
	loop_disarm(&t.timer);
}
END_TEST

static struct tick *condemned;

static void on_tick_kill(struct loop_timer *timer)
{
	on_tick(timer);
	if (condemned != NULL) {
		loop_disarm(&condemned->timer);
		free(condemned);
		condemned = NULL;
	}
}

/* One due timer takes away the next, which is due as well. */
START_TEST(test_timer_remove)
{
	struct tick t = { .timer.fn = on_tick_kill };

	condemned = calloc(1, sizeof(*condemned));
	condemned->timer.fn = on_tick;
	loop_arm(loop, &t.timer, 0);
	loop_arm(loop, &condemned->timer, 0);
	usleep(100);
	loop_run_once(loop, 0);
	loop_run_once(loop, 0);
	ck_assert_int_eq(norder, 1);
}
END_TEST

/* ---- quit ---- */

static void on_timer_quit(struct loop_timer *timer)
{
	(void)timer;
	loop_quit(loop, 7);
	loop_quit(loop, 8);
}

START_TEST(test_quit)
{
	struct loop_timer timer = { .fn = on_timer_quit };
	struct tick after = { .timer.fn = on_tick };

	loop_arm(loop, &timer, 0);
	loop_arm(loop, &after.timer, 0);
	usleep(100);
	ck_assert_int_eq(loop_run(loop), 7);
	/* "After the current callback": the next, though due, has to wait. */
	ck_assert_int_eq(after.calls, 0);
	loop_quit(loop, 0);
	ck_assert_int_eq(loop_run(loop), 0);
	loop_arm(loop, &timer, MS);
	ck_assert_int_eq(loop_run(loop), 7);
	ck_assert_int_eq(after.calls, 1);
}
END_TEST

static void on_signal(int sig)
{
	(void)sig;
}

/* Signals do not end a loop. */
START_TEST(test_signal)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct itimerval it = { .it_value.tv_usec = 2000, .it_interval.tv_usec = 2000 };
	struct loop_timer timer = { .fn = on_timer_quit };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	loop_arm(loop, &timer, 50 * MS);
	ck_assert_int_eq(loop_run(loop), 7);
}
END_TEST

/* ---- posted work ---- */

struct job {
	struct loop_work work;
	struct job *other;
	int id, calls;
};

static void on_job(struct loop_work *work)
{
	struct job *j = (struct job *)work;

	j->calls++;
	order[norder++ % 64] = j->id;
}

START_TEST(test_post)
{
	struct job j[5] = { 0 };

	for (int i = 0; i < 5; i++) {
		j[i].work.fn = on_job;
		j[i].id = i;
		loop_post(loop, &j[i].work);
		loop_post(loop, &j[i].work);
	}
	loop_run_once(loop, -1);
	ck_assert_int_eq(norder, 5);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(order[i], i);
	loop_run_once(loop, 0);
	ck_assert_int_eq(norder, 5);
	loop_post(loop, &j[3].work);
	loop_run_once(loop, -1);
	ck_assert_int_eq(j[3].calls, 2);
}
END_TEST

/* Taken back: first, middle, last, all; before and after others came; and twice. */
START_TEST(test_unpost)
{
	for (unsigned mask = 0; mask < 16; mask++) {
		struct job j[4] = { 0 };

		for (int i = 0; i < 4; i++) {
			j[i].work.fn = on_job;
			loop_post(loop, &j[i].work);
			if (i == 1 && mask & 1)
				loop_unpost(loop, &j[0].work);
		}
		for (int i = 0; i < 4; i++) {
			if (mask >> i & 1) {
				loop_unpost(loop, &j[i].work);
				loop_unpost(loop, &j[i].work);
			}
		}
		/* Something left must wake the loop although the queue was touched. */
		if (mask != 15)
			loop_run_once(loop, -1);
		loop_run_once(loop, 0);
		for (int i = 0; i < 4; i++) {
			ck_assert_int_eq(j[i].calls, !(mask >> i & 1));
			loop_post(loop, &j[i].work);
		}
		loop_run_once(loop, -1);
		for (int i = 0; i < 4; i++)
			ck_assert_int_eq(j[i].calls, 1 + !(mask >> i & 1));
	}
}
END_TEST

static void on_job_unpost(struct loop_work *work)
{
	struct job *j = (struct job *)work;

	on_job(work);
	loop_post(loop, work);
	loop_unpost(loop, &j->other->work);
	if (j->calls >= 3)
		loop_unpost(loop, work);
}

/* Work that posts itself runs in the next pass; the other is taken out of the batch. */
START_TEST(test_unpost_in_work)
{
	struct job a = { .work.fn = on_job_unpost }, b = { .work.fn = on_job };

	a.other = &b;
	b.other = &a;
	loop_post(loop, &a.work);
	loop_post(loop, &b.work);
	for (int i = 1; i < 6; i++) {
		loop_run_once(loop, 0);
		ck_assert_int_eq(a.calls, i < 3 ? i : 3);
	}
	ck_assert_int_eq(b.calls, 0);
}
END_TEST

static void on_job_free(struct loop_work *work)
{
	norder++;
	free(work);
}

static void on_job_quit(struct loop_work *work)
{
	on_job(work);
	loop_quit(loop, 1);
}

/* A callback may free its work; what is left when a loop is quit runs later or never. */
START_TEST(test_work_lifetime)
{
	struct job quit = { .work.fn = on_job_quit }, late = { .work.fn = on_job };
	struct loop_work *own = calloc(1, sizeof(*own));

	own->fn = on_job_free;
	loop_post(loop, own);
	loop_post(loop, &quit.work);
	loop_post(loop, &late.work);
	ck_assert_int_eq(loop_run(loop), 1);
	ck_assert_int_eq(norder, 2);
	loop_run_once(loop, -1);
	ck_assert_int_eq(late.calls, 1);

	loop_post(loop, &quit.work);
	loop_post(loop, &late.work);
	ck_assert_int_eq(loop_run(loop), 1);
	loop_free(loop);
	ck_assert(!late.work.queued);
	loop = loop_new(&err);
	loop_post(loop, &late.work);
	loop_run_once(loop, -1);
	ck_assert_int_eq(late.calls, 2);
}
END_TEST

#define POSTERS 4
#define POSTS	20000

struct posted {
	struct loop_work work; /* first */
	int payload;	       /* plain on purpose: the posting must publish it */
	int *sum;
};

static void on_posted(struct loop_work *work)
{
	struct posted *p = (struct posted *)work;

	*p->sum += p->payload;
	free(p);
}

static int sum, shared_calls;
static _Atomic int shared_posts, shared_seen;
static struct loop_work shared_work;
static _Atomic int posters_done;

static void on_shared(struct loop_work *work)
{
	(void)work;
	shared_calls++;
	/* Whatever was announced before a posting is seen by the run that follows it. */
	atomic_store(&shared_seen, atomic_load(&shared_posts));
}

static void *poster(void *arg)
{
	(void)arg;
	for (int i = 0; i < POSTS; i++) {
		struct posted *p = calloc(1, sizeof(*p));

		p->work.fn = on_posted;
		p->payload = 1;
		p->sum = &sum;
		loop_post(loop, &p->work);
		atomic_fetch_add(&shared_posts, 1);
		loop_post(loop, &shared_work);
	}
	atomic_fetch_add(&posters_done, 1);
	return NULL;
}

static struct job taken[8];

static void on_timer_juggle(struct loop_timer *timer)
{
	/* Own work posted and taken back while others post theirs. */
	for (int i = 0; i < 8; i++)
		loop_post(loop, &taken[i].work);
	for (int i = 0; i < 8; i++)
		loop_unpost(loop, &taken[i].work);
	loop_arm(loop, timer, 20000);
}

/* Nothing is lost, nothing runs twice, no wake-up is missed. */
START_TEST(test_post_threads)
{
	struct loop_timer timer = { .fn = on_timer_juggle };
	pthread_t threads[POSTERS];

	shared_work.fn = on_shared;
	for (int i = 0; i < 8; i++)
		taken[i].work.fn = on_job;
	if (_i == 1)
		loop_arm(loop, &timer, 0);
	for (int i = 0; i < POSTERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, poster, NULL), 0);
	/* Waits for ever: a lost wake-up is a hang, which the time limit finds. */
	while (sum < POSTERS * POSTS || atomic_load(&shared_seen) < POSTERS * POSTS)
		ck_assert_int_eq(loop_run_once(loop, -1), 0);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(sum, POSTERS * POSTS);
	ck_assert_int_le(shared_calls, POSTERS * POSTS);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(taken[i].calls, 0);
	loop_disarm(&timer);
}
END_TEST

static void *quitter(void *arg)
{
	usleep(1000);
	loop_quit(loop, (int)(intptr_t)arg);
	return NULL;
}

START_TEST(test_quit_thread)
{
	pthread_t thread;

	for (intptr_t i = 0; i < 20; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, quitter, (void *)i), 0);
		ck_assert_int_eq(loop_run(loop), i);
		pthread_join(thread, NULL);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *tc = tcase_create("loop");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_fd);
	tcase_add_loop_test(tc, test_bad_fd, 0, 2);
	tcase_add_test(tc, test_hangup);
	tcase_add_test(tc, test_remove_other);
	tcase_add_loop_test(tc, test_modify_other, 0, 2);
	tcase_add_test(tc, test_remove_in_timer);
	tcase_add_test(tc, test_many_fds);
	tcase_add_test(tc, test_timer_order);
	tcase_add_test(tc, test_timer_time);
	tcase_add_test(tc, test_timer_starve);
	tcase_add_test(tc, test_timer_remove);
	tcase_add_test(tc, test_quit);
	tcase_add_test(tc, test_signal);
	tcase_add_test(tc, test_post);
	tcase_add_test(tc, test_unpost);
	tcase_add_test(tc, test_unpost_in_work);
	tcase_add_test(tc, test_work_lifetime);
	tcase_add_loop_test(tc, test_post_threads, 0, 2);
	tcase_add_test(tc, test_quit_thread);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
