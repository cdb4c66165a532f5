// SPDX-License-Identifier: Apache-2.0
/*
 * The panic watch: which words start it, which samples convince it. Timers, vCPU threads and
 * what vCPUs do are played by this file, in place of the library's own.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/test_run.h"
#include "vmm/panic.h"

#define TEXT "Kernel panic - not syncing"
#define LINE "[    1.0] " TEXT ": Attempted to kill init!\r\n"

/* As panic.c says: so many samples must look dead, and so many are taken at most. */
#define DEAD_SAMPLES 10
#define SAMPLES_MAX  100

static struct panic_watch watch;
static size_t matched;
static struct vcpus cpus;
static struct vcpu vcpu[3];
static enum vcpu_activity activity[3];
static struct loop_timer *armed;
static unsigned pauses, resumes, looked, deaths;
static bool paused, held; /* held: they did not run when we came */

/* --- In place of the loop and the vCPU threads --- */

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t ns)
{
	(void)loop;
	ck_assert_uint_eq(ns, 100000000);
	armed = timer;
}

void loop_disarm(struct loop_timer *timer)
{
	if (armed == timer)
		armed = NULL;
}

bool vcpus_pause(struct vcpus *all)
{
	ck_assert_ptr_eq(all, &cpus);
	ck_assert(!paused);
	paused = true;
	pauses++;
	return !held;
}

void vcpus_resume(struct vcpus *all)
{
	ck_assert_ptr_eq(all, &cpus);
	ck_assert(paused);
	paused = false;
	resumes++;
}

enum vcpu_activity arch_vcpu_activity(struct kvm_vcpu *kvm)
{
	ck_assert(paused);
	looked++;
	for (unsigned i = 0; i < 3; i++)
		if (kvm == &vcpu[i].kvm)
			return activity[i];
	ck_abort_msg("asked about a vCPU that is not there");
	return VCPU_OFF;
}

/* --- Helpers --- */

static void dead(struct panic_watch *w)
{
	ck_assert_ptr_eq(w, &watch);
	deaths++;
}

static void setup(void)
{
	cpus = (struct vcpus){ .n = 3, .vcpu = vcpu };
	armed = NULL;
	matched = 0;
	paused = held = false;
	pauses = resumes = looked = deaths = 0;
	paused = false;
	panic_watch_init(&watch, NULL, &cpus, dead);
	/* What panic() leaves. */
	activity[0] = activity[2] = VCPU_OFF;
	activity[1] = VCPU_KERNEL;
}

static void print(const char *text)
{
	panic_watch_output(&watch, &matched, text, strlen(text));
}

/* Let the timer expire up to @n times; returns how often it did. */
static unsigned samples(unsigned n)
{
	unsigned i;

	for (i = 0; i < n && armed != NULL; i++) {
		struct loop_timer *timer = armed;

		armed = NULL;
		timer->fn(timer);
		ck_assert(!paused);
	}
	return i;
}

/* --- Words --- */

static const char *const panics[] = {
	TEXT,
	LINE,
	"KKernel Kernel panic - " TEXT,
	"no panic\nKern" TEXT,
};

START_TEST(words)
{
	ck_assert(!panic_watch_panicked(&watch));
	print(panics[_i]);
	ck_assert(panic_watch_panicked(&watch));
	ck_assert_ptr_nonnull(armed);
}
END_TEST

START_TEST(words_byte_by_byte)
{
	for (const char *p = panics[_i]; *p != '\0'; p++)
		panic_watch_output(&watch, &matched, p, 1);
	ck_assert(panic_watch_panicked(&watch));
}
END_TEST

START_TEST(other_words)
{
	print("Kernel panic - not synced\nKernel panic - not syncin\n");
	print("kernel panic - not syncing\nKernel  panic - not syncing\n");
	panic_watch_output(&watch, &matched, TEXT, 0);
	panic_watch_output(&watch, &matched, TEXT, sizeof(TEXT) - 2);
	ck_assert(!panic_watch_panicked(&watch));
	ck_assert_ptr_null(armed);
}
END_TEST

START_TEST(words_in_two_boots)
{
	print("Kernel panic - ");
	panic_watch_reset(&watch);
	matched = 0; /* the console's owner */
	print("not syncing");
	ck_assert(!panic_watch_panicked(&watch));
}
END_TEST

/* --- Samples --- */

START_TEST(dies)
{
	print(LINE);
	ck_assert_uint_eq(samples(DEAD_SAMPLES - 1), DEAD_SAMPLES - 1);
	ck_assert_uint_eq(deaths, 0);
	ck_assert_uint_eq(samples(SAMPLES_MAX), 1);
	ck_assert_uint_eq(deaths, 1);
	ck_assert_uint_eq(pauses, DEAD_SAMPLES);
	ck_assert_uint_eq(resumes, DEAD_SAMPLES);
	ck_assert_uint_eq(looked, 3 * DEAD_SAMPLES);
}
END_TEST

/* The last line that panic() prints has the words again, behind a lot of others. */
START_TEST(dies_after_a_trace)
{
	print(LINE "CPU: 0 PID: 1\r\nCall Trace:\r\n dump_stack\r\n");
	ck_assert_uint_eq(samples(5), 5);
	ck_assert_uint_eq(looked, 0);
	print("---[ end " TEXT ": Attempted to kill init! ]---\r\n");
	ck_assert_uint_eq(samples(SAMPLES_MAX), DEAD_SAMPLES);
	ck_assert_uint_eq(deaths, 1);
}
END_TEST

static const enum vcpu_activity alive[][3] = {
	{ VCPU_OFF, VCPU_USER, VCPU_OFF },   /* runs a program */
	{ VCPU_IDLE, VCPU_IDLE, VCPU_IDLE }, /* waits for something */
	{ VCPU_KERNEL, VCPU_IDLE, VCPU_OFF },
	{ VCPU_KERNEL, VCPU_OFF, VCPU_KERNEL }, /* panic() stops all but one */
};

START_TEST(lives)
{
	memcpy(activity, alive[_i], sizeof(activity));
	print(LINE);
	ck_assert_uint_eq(samples(SAMPLES_MAX + 1), SAMPLES_MAX);
	ck_assert_uint_eq(deaths, 0);
	ck_assert(!panic_watch_panicked(&watch));
	ck_assert_uint_eq(pauses, resumes);
	/* A panic later on is seen as well. */
	activity[0] = activity[2] = VCPU_OFF;
	activity[1] = VCPU_KERNEL;
	print(LINE);
	ck_assert_uint_eq(samples(SAMPLES_MAX), DEAD_SAMPLES);
	ck_assert_uint_eq(deaths, 1);
}
END_TEST

START_TEST(halted_everywhere)
{
	activity[1] = VCPU_OFF;
	print(LINE);
	samples(SAMPLES_MAX);
	ck_assert_uint_eq(deaths, 1);
}
END_TEST

/* One that prints its next prompt is not even stopped to be looked at. */
START_TEST(talks)
{
	print("$ dmesg | grep panic\r\n" LINE "$ ");
	ck_assert_uint_eq(samples(SAMPLES_MAX + 1), SAMPLES_MAX);
	ck_assert_uint_eq(pauses, 0);
	ck_assert_uint_eq(deaths, 0);
}
END_TEST

START_TEST(one_sign_of_life)
{
	print(LINE);
	samples(DEAD_SAMPLES - 1);
	activity[2] = VCPU_USER;
	samples(1);
	activity[2] = VCPU_OFF;
	samples(DEAD_SAMPLES - 1);
	ck_assert_uint_eq(deaths, 0);
	samples(1);
	ck_assert_uint_eq(deaths, 1);
}
END_TEST

/* --- pvpanic, reset --- */

START_TEST(reported)
{
	panic_watch_reported(&watch);
	ck_assert(panic_watch_panicked(&watch));
	activity[0] = VCPU_USER;
	print("whatever it prints\n");
	ck_assert_uint_eq(samples(SAMPLES_MAX), DEAD_SAMPLES);
	ck_assert_uint_eq(deaths, 1);
	ck_assert_uint_eq(pauses, 0);
}
END_TEST

START_TEST(reset)
{
	print(LINE);
	panic_watch_reported(&watch);
	samples(3);
	panic_watch_reset(&watch);
	ck_assert_ptr_null(armed);
	ck_assert(!panic_watch_panicked(&watch));
	/* Nothing is left of the report: this one is looked at. */
	activity[0] = VCPU_USER;
	print(LINE);
	ck_assert_uint_eq(samples(SAMPLES_MAX + 1), SAMPLES_MAX);
	ck_assert_uint_eq(deaths, 0);
}
END_TEST

START_TEST(fini)
{
	print(LINE);
	panic_watch_fini(&watch);
	ck_assert_ptr_null(armed);
}
END_TEST

START_TEST(a_hold_of_somebody_else_stays)
{
	held = true; /* a vCPU met its end, say: that is being handled */
	panic_watch_output(&watch, &matched, LINE, sizeof(LINE) - 1);
	armed->fn(armed);
	ck_assert_uint_eq(pauses, 1);
	ck_assert_uint_eq(resumes, 0);
	ck_assert(paused);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("panic");
	TCase *tc = tcase_create("panic");
	int n_panics = sizeof(panics) / sizeof(panics[0]);

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, words, 0, n_panics);
	tcase_add_loop_test(tc, words_byte_by_byte, 0, n_panics);
	tcase_add_test(tc, other_words);
	tcase_add_test(tc, a_hold_of_somebody_else_stays);
	tcase_add_test(tc, words_in_two_boots);
	tcase_add_test(tc, dies);
	tcase_add_test(tc, dies_after_a_trace);
	tcase_add_loop_test(tc, lives, 0, sizeof(alive) / sizeof(alive[0]));
	tcase_add_test(tc, halted_everywhere);
	tcase_add_test(tc, talks);
	tcase_add_test(tc, one_sign_of_life);
	tcase_add_test(tc, reported);
	tcase_add_test(tc, reset);
	tcase_add_test(tc, fini);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
