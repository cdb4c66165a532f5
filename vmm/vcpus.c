// SPDX-License-Identifier: Apache-2.0
/*
 * vCPU threads: see vcpus.h.
 *
 * How a thread is got out of KVM_RUN (api.rst, "immediate_exit"): the main thread sets
 * `want`, then the vCPU's immediate_exit, then sends VCPU_SIGNAL, whose handler does
 * nothing. A thread that is in the guest comes out by the signal; one that was about to
 * enter finds immediate_exit; one that handles an exit finds `want`. The thread clears
 * immediate_exit before it looks at `want`, so no request is lost.
 *
 * #syscalls vcpu: ioctl
 * #ioctls vcpu: KVM_RUN
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/sandbox/sandbox.h"
#include "vmm/vcpus.h"
#include "vmm/base/log.h"

#define VCPU_SIGNAL SIGRTMIN

static void wake_up(int sig)
{
	(void)sig; /* only here to interrupt KVM_RUN */
}

int vcpus_init(struct vcpus *cpus, struct machine *m, unsigned n, struct loop_work *ended,
	       struct err *err)
{
	*cpus = (struct vcpus){
		.m = m,
		.ended = ended,
		.want = VCPUS_PAUSE,
		.files_from = gmem_top_below(&m->mem, UINT64_MAX),
	};
	pthread_mutex_init(&cpus->lock, NULL);
	pthread_cond_init(&cpus->wanted, NULL);
	pthread_cond_init(&cpus->settled, NULL);
	cpus->vcpu = calloc(n, sizeof(*cpus->vcpu));
	if (cpus->vcpu == NULL)
		return err_set(err, ENOMEM, "no memory for %u vCPUs", n);
	for (unsigned i = 0; i < n; i++) {
		struct vcpu *v = &cpus->vcpu[i];

		*v = (struct vcpu){ .index = i, .all = cpus, .kvm.fd = -1 };
		cpus->n = i + 1; /* so that vcpus_fini() closes a half-made one */
		if (arch_create_vcpu(m, i, &v->kvm, err) < 0)
			return -err->code;
	}
	return 0;
}

/* Wait while paused. False: the thread is to end. */
static bool park(struct vcpu *v)
{
	struct vcpus *all = v->all;
	int want;

	pthread_mutex_lock(&all->lock);
	if (++all->parked == all->started)
		pthread_cond_signal(&all->settled);
	while ((want = atomic_load(&all->want)) == VCPUS_PAUSE || (want == VCPUS_RUN && v->frozen))
		pthread_cond_wait(&all->wanted, &all->lock);
	all->parked--;
	pthread_mutex_unlock(&all->lock);
	return want == VCPUS_RUN;
}

static void met_its_end(struct vcpu *v, enum vcpu_end end)
{
	v->end = end;
	vcpus_hold(v->all);
	loop_post(v->all->m->loop, v->all->ended);
}

static void met_breakpoint(struct vcpu *v)
{
	v->debug = v->kvm.run->debug.arch;
	v->debug_hit = true;
	vcpus_hold(v->all);
	if (v->all->debugged != NULL)
		loop_post(v->all->m->loop, v->all->debugged);
}

/* A counter of this thread's own that others may read meanwhile. */
static void count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void handle_io(struct vcpu *v)
{
	struct kvm_run *run = v->kvm.run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	count(run->io.direction == KVM_EXIT_IO_IN ? &v->io_in : &v->io_out);
	/* String instructions carry many elements, all for the same port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			bus_read(&v->all->m->pio, run->io.port, data, run->io.size);
		else
			bus_write(&v->all->m->pio, run->io.port, data, run->io.size);
	}
}

/* Memory the guest may read only: what it writes there comes as MMIO, and goes nowhere. */
static bool in_memory(struct vcpu *v, uint64_t gpa)
{
	if (gmem_ptr(&v->all->m->mem, gpa, 1) == NULL)
		return false;
	log_limited(LOG_WARN,
		    "the guest writes to a read-only file in its memory, at 0x%llx: ignored; it "
		    "shall mount that with -o ro",
		    (unsigned long long)gpa);
	return true;
}

static void handle_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->kvm.run;

	count(run->mmio.is_write ? &v->mmio_write : &v->mmio_read);
	if (!run->mmio.is_write)
		bus_read(&v->all->m->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else if (run->mmio.phys_addr < v->all->files_from || !in_memory(v, run->mmio.phys_addr))
		bus_write(&v->all->m->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void handle_exit(struct vcpu *v)
{
	struct kvm_run *run = v->kvm.run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(v);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(v);
		break;
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_DEBUG:
		met_breakpoint(v);
		break;
	case KVM_EXIT_SHUTDOWN:
		met_its_end(v, VCPU_END_TRIPLE_FAULT);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		met_its_end(v, VCPU_END_KVM_ERROR);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("vCPU %u: the CPU refused to enter the guest, reason %#llx", v->index,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		met_its_end(v, VCPU_END_KVM_ERROR);
		break;
	default:
		if (arch_handle_exit(v->all->m, &v->kvm))
			break;
		log_error("vCPU %u: KVM returned with exit reason %u, which is not expected here",
			  v->index, run->exit_reason);
		met_its_end(v, VCPU_END_KVM_ERROR);
		break;
	}
}

/*
 * Let KVM finish the instruction of the last exit, without running the guest further (api.rst,
 * KVM_EXIT_MMIO). That may be what a single step was waiting for; and an access over the edge of a
 * page comes in two exits.
 */
static void complete_exit(struct vcpu *v)
{
	__atomic_store_n(&v->kvm.run->immediate_exit, 1, __ATOMIC_RELEASE);
	while (v->end == VCPU_END_NONE && ioctl(v->kvm.fd, KVM_RUN, 0) == 0) {
		handle_exit(v);
		if (v->kvm.run->exit_reason == KVM_EXIT_DEBUG)
			break;
	}
	__atomic_store_n(&v->kvm.run->immediate_exit, 0, __ATOMIC_RELEASE);
}

static void run(struct vcpu *v)
{
	while (atomic_load_explicit(&v->all->want, memory_order_acquire) == VCPUS_RUN) {
		if (ioctl(v->kvm.fd, KVM_RUN, 0) == 0) {
			unsigned reason = v->kvm.run->exit_reason;

			count(&v->exits);
			count(&v->exits_by[reason < VCPU_REASONS - 1 ? reason : VCPU_REASONS - 1]);
			handle_exit(v);
			continue;
		}
		if (errno == EINTR || errno == EAGAIN) {
			__atomic_store_n(&v->kvm.run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			continue;
		}
		if (errno == EFAULT)
			log_error(
				"vCPU %u: the host has no page for guest memory: out of memory, "
				"or a kernel, initrd or pmem file was cut short, or the disk it is on is full",
				v->index);
		else
			log_error("vCPU %u: KVM_RUN: %s", v->index, strerrordesc_np(errno));
		met_its_end(v, VCPU_END_KVM_ERROR);
		return;
	}
	complete_exit(v);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	struct err err = ERR_INIT;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	(void)pthread_setname_np(pthread_self(), name); /* only for people who look */
	if (sandbox_confine(v->all->sandbox, FILTER_vcpu, &err) < 0) {
		log_error("vCPU %u: %s", v->index, err.msg);
		met_its_end(v, VCPU_END_KVM_ERROR);
	}
	while (park(v))
		run(v);
	return NULL;
}

int vcpus_start(struct vcpus *cpus, const struct sandbox *sandbox, struct err *err)
{
	struct sigaction sa = { .sa_handler = wake_up };
	pthread_attr_t attr;
	int r = 0;

	cpus->sandbox = sandbox;
	sigaction(VCPU_SIGNAL, &sa, NULL);
	pthread_attr_init(&attr);
	/* Exits are dispatched on a small stack; no device puts big things on it. */
	pthread_attr_setstacksize(&attr, 128 << 10);
	for (unsigned i = 0; i < cpus->n && r == 0; i++) {
		struct vcpu *v = &cpus->vcpu[i];

		r = pthread_create(&v->thread, &attr, vcpu_thread, v);
		v->started = r == 0;
		pthread_mutex_lock(&cpus->lock);
		cpus->started += v->started;
		pthread_mutex_unlock(&cpus->lock);
	}
	pthread_attr_destroy(&attr);
	return r != 0 ? err_sys(err, r, "cannot start the vCPU threads") : 0;
}

static void kick(struct vcpus *cpus)
{
	for (unsigned i = 0; i < cpus->n; i++) {
		struct vcpu *v = &cpus->vcpu[i];

		if (!v->started)
			continue;
		__atomic_store_n(&v->kvm.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(v->thread, VCPU_SIGNAL);
	}
}

/* Set what is wanted, and get those threads that are not parked to look at it. */
static enum vcpus_want set_want(struct vcpus *cpus, enum vcpus_want want)
{
	enum vcpus_want before;
	bool outside;

	pthread_mutex_lock(&cpus->lock);
	before = atomic_exchange(&cpus->want, want);
	outside = cpus->parked < cpus->started;
	pthread_cond_broadcast(&cpus->wanted);
	pthread_mutex_unlock(&cpus->lock);
	if (outside && want != VCPUS_RUN)
		kick(cpus);
	return before;
}

bool vcpus_pause(struct vcpus *cpus)
{
	bool ran;

	if (cpus->suspended)
		return atomic_exchange(&cpus->would_run, false);
	ran = set_want(cpus, VCPUS_PAUSE) == VCPUS_RUN;
	pthread_mutex_lock(&cpus->lock);
	while (cpus->parked < cpus->started)
		pthread_cond_wait(&cpus->settled, &cpus->lock);
	pthread_mutex_unlock(&cpus->lock);
	return ran;
}

void vcpus_resume(struct vcpus *cpus)
{
	for (unsigned i = 0; i < cpus->n; i++) {
		cpus->vcpu[i].end = VCPU_END_NONE;
		__atomic_store_n(&cpus->vcpu[i].kvm.run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	}
	if (cpus->suspended)
		atomic_store(&cpus->would_run, true);
	else
		set_want(cpus, VCPUS_RUN);
}

void vcpus_suspend(struct vcpus *cpus)
{
	bool ran;

	if (cpus->suspended)
		return;
	ran = vcpus_pause(cpus);
	cpus->suspended = true;
	atomic_store(&cpus->would_run, ran);
}

void vcpus_continue(struct vcpus *cpus)
{
	if (!cpus->suspended)
		return;
	cpus->suspended = false;
	if (atomic_exchange(&cpus->would_run, false))
		vcpus_resume(cpus);
}

void vcpus_hold(struct vcpus *cpus)
{
	int running = VCPUS_RUN;

	atomic_compare_exchange_strong(&cpus->want, &running, VCPUS_PAUSE);
	atomic_store(&cpus->would_run, false);
}

void vcpus_freeze(struct vcpus *cpus, unsigned index, bool frozen)
{
	pthread_mutex_lock(&cpus->lock);
	cpus->vcpu[index].frozen = frozen;
	pthread_mutex_unlock(&cpus->lock);
}

void vcpus_nmi(struct vcpus *cpus)
{
	bool ran = vcpus_pause(cpus);

	for (unsigned i = 0; i < cpus->n; i++) {
		int r = arch_nmi(&cpus->vcpu[i].kvm);

		if (r < 0)
			log_warn("vCPU %u: no NMI: %s", i, strerrordesc_np(-r));
	}
	if (ran)
		vcpus_resume(cpus);
}

void vcpus_fini(struct vcpus *cpus)
{
	if (cpus->vcpu == NULL)
		return;
	set_want(cpus, VCPUS_STOP);
	for (unsigned i = 0; i < cpus->n; i++) {
		if (cpus->vcpu[i].started)
			pthread_join(cpus->vcpu[i].thread, NULL);
		kvm_close_vcpu(&cpus->m->kvm, &cpus->vcpu[i].kvm);
	}
	pthread_mutex_destroy(&cpus->lock);
	pthread_cond_destroy(&cpus->wanted);
	pthread_cond_destroy(&cpus->settled);
	free(cpus->vcpu);
	cpus->vcpu = NULL;
}
