// SPDX-License-Identifier: Apache-2.0
/* A loop on its own thread: work, name, signals, stopping. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include "device_util.h"
#include "vmm/base/iothread.h"
#include "vmm/base/util.h"

struct job {
	struct loop_work work;
	struct loop_timer timer;
	sem_t done;
	unsigned runs;
	pthread_t thread;
	char name[16];
	bool blocked;
};

static void job_run(struct loop_work *work)
{
	struct job *job = container_of(work, struct job, work);
	sigset_t mask;

	job->runs++;
	job->thread = pthread_self();
	pthread_getname_np(job->thread, job->name, sizeof(job->name));
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	job->blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGIO) == 1;
	sem_post(&job->done);
}

START_TEST(test_work)
{
	struct job job = { .work.fn = job_run };
	struct err err = ERR_INIT;
	struct iothread *io = iothread_new(NULL, "disk with a long name", NULL, &err);
	sigset_t mask;

	ck_assert_msg(io != NULL, "%s", err.msg);
	sem_init(&job.done, 0, 0);
	loop_post(iothread_loop(io), &job.work);
	sem_wait(&job.done);
	loop_post(iothread_loop(io), &job.work);
	sem_wait(&job.done);
	ck_assert_uint_eq(job.runs, 2);
	ck_assert(!pthread_equal(job.thread, pthread_self()));
	ck_assert(job.blocked);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	ck_assert_int_eq(sigismember(&mask, SIGTERM), 0);
	iothread_free(io);
	sem_destroy(&job.done);
}
END_TEST

START_TEST(test_name)
{
	struct job job = { .work.fn = job_run };
	struct err err = ERR_INIT;
	struct iothread *io = iothread_new(NULL, "disk0", NULL, &err);

	ck_assert_ptr_nonnull(io);
	sem_init(&job.done, 0, 0);
	/* The name is set by the maker, who may be later than the thread, but not than us. */
	loop_post(iothread_loop(io), &job.work);
	sem_wait(&job.done);
	ck_assert_str_eq(job.name, "disk0");
	iothread_free(io);
	sem_destroy(&job.done);
}
END_TEST

static void never(struct loop_timer *timer)
{
	(void)timer;
	ck_abort_msg("a timer of an hour is due");
}

/* After stopping the loop is the caller's; what nobody took down is let go. */
START_TEST(test_stop)
{
	struct job job = { .work.fn = job_run, .timer.fn = never };
	struct err err = ERR_INIT;
	struct iothread *io = iothread_new(NULL, "net0", NULL, &err);

	ck_assert_ptr_nonnull(io);
	sem_init(&job.done, 0, 0);
	iothread_stop(io);
	iothread_stop(io);
	loop_post(iothread_loop(io), &job.work);
	loop_unpost(iothread_loop(io), &job.work);
	loop_post(iothread_loop(io), &job.work);
	loop_arm(iothread_loop(io), &job.timer, 3600 * 1000000000ULL);
	iothread_free(io);
	ck_assert_uint_eq(job.runs, 0);
	iothread_free(NULL);
	sem_destroy(&job.done);
}
END_TEST

/* Ended at once, perhaps before the thread has begun. */
START_TEST(test_many)
{
	struct err err = ERR_INIT;

	for (int i = 0; i < 200; i++) {
		struct iothread *io = iothread_new(NULL, "short", NULL, &err);

		ck_assert_ptr_nonnull(io);
		iothread_free(io);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("iothread");
	TCase *tc = tcase_create("all");

	tcase_add_test(tc, test_work);
	tcase_add_test(tc, test_name);
	tcase_add_test(tc, test_stop);
	tcase_add_test(tc, test_many);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
