/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vCPU threads of a VM.
 *
 * Each runs KVM_RUN and dispatches exits, nothing else. All of them run or none
 * does: vcpus_pause() returns when every thread is parked outside KVM with its last
 * exit completed, so that vCPU state may be read and written from the main thread.
 *
 * A breakpoint stops them in the same way: its thread parks and posts @debugged. To step one
 * vCPU alone, the others are frozen: they stay parked while it runs.
 *
 * A thread that meets the end (a triple fault, an error of KVM's, a device that
 * reported power-off) parks itself at once and posts @ended.
 */
#ifndef VMM_VCPUS_H
#define VMM_VCPUS_H

#include <pthread.h>
#include <stdatomic.h>
#include "arch/arch.h"
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

/* Exits by reason: those of KVM_EXIT_* below the last element, which has all others. */
#define VCPU_REASONS 40

enum vcpu_end {
	VCPU_END_NONE,
	VCPU_END_TRIPLE_FAULT, /* KVM_EXIT_SHUTDOWN */
	VCPU_END_KVM_ERROR,    /* internal error, failed entry, KVM_RUN failed */
};

struct vcpus;

struct vcpu {
	struct kvm_vcpu kvm;
	unsigned index;
	struct vcpus *all;
	pthread_t thread;
	bool started;
	enum vcpu_end end;
	/* Written by the thread, read by others at any time. */
	uint64_t exits; /* to user space */
	uint64_t exits_by[VCPU_REASONS];
	uint64_t io_in, io_out, mmio_read, mmio_write; /* exits */
	bool frozen;	/* parked also while others run; see vcpus_freeze() */
	bool debug_hit; /* it met KVM_EXIT_DEBUG, which @debug tells of; cleared by who handles it
			 */
	struct kvm_debug_exit_arch debug;
};

enum vcpus_want { VCPUS_PAUSE, VCPUS_RUN, VCPUS_STOP };

struct sandbox;

struct vcpus {
	struct machine *m;
	const struct sandbox *sandbox; /* what confines the threads */
	struct loop_work *ended;       /* posted on the machine's loop */
	struct loop_work *debugged;    /* likewise, on KVM_EXIT_DEBUG; NULL: nobody debugs */
	unsigned n;
	struct vcpu *vcpu; /* [n] */
	atomic_int want;   /* enum vcpus_want */
	pthread_mutex_t lock;
	pthread_cond_t wanted;	/* want changed: for the threads */
	pthread_cond_t settled; /* all have parked: for the main thread */
	unsigned started;	/* threads */
	unsigned parked;	/* of them, outside KVM */
	uint64_t files_from;	/* from this address on memory is no RAM, but files */
	bool suspended;		/* see vcpus_suspend(); the main thread's */
	atomic_bool would_run;	/* meanwhile: they would run but for that */
};

/* Make @n vCPUs, parked. @ended is posted when one of them meets its end. */
int vcpus_init(struct vcpus *cpus, struct machine *m, unsigned n, struct loop_work *ended,
	       struct err *err);
/* Start the threads, parked, and confined by @sandbox (borrowed). */
int vcpus_start(struct vcpus *cpus, const struct sandbox *sandbox, struct err *err);
/* Stop and join the threads, close the vCPUs. Harmless after a failed init. */
void vcpus_fini(struct vcpus *cpus);

/*
 * All parked when it returns. True if they ran before: who pauses only for a look resumes
 * only then, and so does not undo the vcpus_hold() of somebody else. Main thread.
 */
bool vcpus_pause(struct vcpus *cpus);
void vcpus_resume(struct vcpus *cpus);
/* Make running vCPUs park at their next exit, without waiting. Any thread. */
void vcpus_hold(struct vcpus *cpus);
/*
 * The user's own pause, above all others: all are parked when vcpus_suspend() returns, and until
 * vcpus_continue() nobody's vcpus_resume() lets them run; it is only remembered. What
 * vcpus_pause() returns meanwhile is whether they would run. Main thread.
 */
void vcpus_suspend(struct vcpus *cpus);
void vcpus_continue(struct vcpus *cpus);
/* While all are parked: vCPU @index stays so, or no longer, when the others run. Main thread. */
void vcpus_freeze(struct vcpus *cpus, unsigned index, bool frozen);
/* A non-maskable interrupt for every vCPU, running or not. Main thread. */
void vcpus_nmi(struct vcpus *cpus);

#endif
