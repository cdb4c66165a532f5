// SPDX-License-Identifier: Apache-2.0
/*
 * Telling a guest whose kernel panicked from one that lives.
 *
 * A kernel with a pvpanic driver reports it. Stock kernels often have the driver only
 * as a module that is not loaded, so the console is read too: the words that panic()
 * prints. Words alone prove nothing (a user may print an old log), so a guest that
 * printed them is looked at: after panic() and with panic=0 nothing more is printed
 * behind the line with those words, one CPU spins in the kernel for ever, and all others
 * are halted with interrupts off. A guest seen so in DEAD_SAMPLES samples in a row is
 * dead. A living one prints its next prompt, runs user code or halts with interrupts
 * on, and after SAMPLES_MAX samples it is left alone.
 *
 * Either way the guest has the time of the samples to reboot by itself (panic=-1).
 */
#include <string.h>
#include "vmm/panic.h"
#include "vmm/base/util.h"

#define DEAD_SAMPLES 10
#define SAMPLES_MAX  100
#define SAMPLE_NS    100000000ULL

static const char message[] = "Kernel panic - not syncing";

/* Does it look as panic() leaves a machine: one CPU spinning, all others off? */
static bool looks_dead(struct panic_watch *w)
{
	unsigned spinning = 0;
	bool dead = true, ran;

	if (w->talks)
		return false;
	ran = vcpus_pause(w->cpus);
	for (unsigned i = 0; i < w->cpus->n; i++) {
		switch (arch_vcpu_activity(&w->cpus->vcpu[i].kvm)) {
		case VCPU_KERNEL:
			spinning++;
			break;
		case VCPU_OFF:
			break;
		default:
			dead = false;
			break;
		}
	}
	if (ran)
		vcpus_resume(w->cpus);
	return dead && spinning <= 1;
}

static void sample(struct loop_timer *timer)
{
	struct panic_watch *w = container_of(timer, struct panic_watch, timer);

	w->dead_samples = w->certain || looks_dead(w) ? w->dead_samples + 1 : 0;
	if (w->dead_samples == DEAD_SAMPLES)
		w->dead(w);
	else if (++w->samples < SAMPLES_MAX)
		loop_arm(w->loop, &w->timer, SAMPLE_NS);
	else
		w->seen = false;
}

static void start(struct panic_watch *w)
{
	w->seen = true;
	w->samples = w->dead_samples = 0;
	loop_arm(w->loop, &w->timer, SAMPLE_NS);
}

void panic_watch_init(struct panic_watch *w, struct loop *loop, struct vcpus *cpus,
		      void (*dead)(struct panic_watch *watch))
{
	*w = (struct panic_watch){ .loop = loop, .cpus = cpus, .dead = dead, .timer.fn = sample };
}

void panic_watch_fini(struct panic_watch *w)
{
	loop_disarm(&w->timer);
}

void panic_watch_output(struct panic_watch *w, size_t *matched, const char *data, size_t len)
{
	const char *end = data + len;

	for (; data < end; data++) {
		if (*matched == 0 && !w->seen) {
			data = memchr(data, message[0], (size_t)(end - data));
			if (data == NULL)
				return;
		}
		if (w->line_ended)
			w->talks = true;
		else if (*data == '\n')
			w->line_ended = w->seen;
		/* 'K' is only at the start of the message, so a mismatch never backs up. */
		if (*data == message[*matched])
			++*matched;
		else
			*matched = *data == message[0];
		if (*matched == sizeof(message) - 1) {
			*matched = 0;
			w->line_ended = w->talks = false;
			start(w);
		}
	}
}

void panic_watch_reported(struct panic_watch *w)
{
	w->certain = true;
	start(w);
}

void panic_watch_again(struct panic_watch *w)
{
	start(w);
}

void panic_watch_hold(struct panic_watch *w)
{
	loop_disarm(&w->timer);
}

void panic_watch_go_on(struct panic_watch *w)
{
	if (w->seen)
		start(w);
}

bool panic_watch_panicked(const struct panic_watch *w)
{
	return w->seen;
}

void panic_watch_reset(struct panic_watch *w)
{
	loop_disarm(&w->timer);
	w->seen = w->certain = w->line_ended = w->talks = false;
}
