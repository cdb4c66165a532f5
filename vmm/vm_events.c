// SPDX-License-Identifier: Apache-2.0
/*
 * What happens while the guest runs, and what follows from it.
 *
 * The main thread is in the loop. Whatever may end or reset the VM arrives there as an event:
 * reports of devices (from vCPU threads), a vCPU that met its end, signals, timers, the
 * console's quit key. Devices only set a bit and stop the vCPUs from running on; what it means
 * is decided here, in one place.
 */
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/dump.h"
#include "vmm/vm_impl.h"

#define BIT(n) (1U << (n))

/* A guest that hangs and was asked where it is: how long it may be silent, and how often not. */
#define ANSWER_NS   1000000000ULL
#define KEY_NS	    500000000ULL /* between two keys */
#define ANSWERS_MAX 10

/* What a debugger is told, in signals. */
#define SIGNAL_PANIC 6	/* SIGABRT */
#define SIGNAL_DIED  11 /* SIGSEGV */

/* The end */

void vm_end(struct vm *vm, int status)
{
	vm->ended = true;
	vcpus_hold(&vm->cpus);
	loop_quit(vm->loop, status);
}

void vm_watch(struct vm *vm, struct vm_watcher *watcher)
{
	vm->watcher = watcher;
}

void vm_tell(struct vm *vm, enum vm_event event)
{
	if (vm->watcher != NULL)
		vm->watcher->event(vm->watcher, event);
}

void vm_lives(struct vm *vm)
{
	vm->signs++;
	vm->vouched = !vm->hangs;
}

void vm_all_vcpus(struct vm *vm, struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX])
{
	for (unsigned i = 0; i < vm->cpus.n; i++)
		vcpus[i] = &vm->cpus.vcpu[i].kvm;
}

/* Where --dump wants it, if it was given. */
static void write_core(struct vm *vm)
{
	struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX];
	struct err err = ERR_INIT;
	uint64_t bytes = 0;

	if (vm->cfg->dump == NULL)
		return;
	vcpus_pause(&vm->cpus);
	gdb_lift(vm->gdb);
	vm_all_vcpus(vm, vcpus);
	if (dump_write(&vm->m, vcpus, vm->cpus.n, vm->cfg->dump, &bytes, &err) < 0)
		log_error("no core in %s: %s", vm->cfg->dump, err.msg);
	else
		log_warn("the guest's memory and registers are in %s (%llu MiB)", vm->cfg->dump,
			 (unsigned long long)(bytes + (1 << 20) - 1) >> 20);
}

/* The guest is dead. A debugger may have a look before everything ends. */
static void died(struct vm *vm, int status, int signal)
{
	vm->dead_status = status;
	if (gdb_catch(vm->gdb, signal)) {
		vm->dead = true;
		log_warn("the debugger has the guest; `continue` ends it");
		return;
	}
	write_core(vm);
	vm_end(vm, status);
}

void vm_reset(struct vm *vm)
{
	struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX];
	struct err err = ERR_INIT;
	int r;

	vcpus_pause(&vm->cpus);
	vm_all_vcpus(vm, vcpus);
	vm->dead = false;
	vm->vouched = false;
	panic_watch_reset(&vm->panic);
	chardevs_clear_marks(&vm->chardevs);
	r = arch_reset(&vm->m, vcpus, vm->cpus.n, &err);
	if (r == 0)
		r = gmem_reset(&vm->m.mem, &err);
	if (r == 0)
		r = arch_load(&vm->m, true, &err);
	for (unsigned i = 0; r == 0 && i < vm->cpus.n; i++)
		r = arch_boot_vcpu(&vm->m, i, vcpus[i], &err);
	if (r < 0) {
		log_error("cannot reboot: %s", err.msg);
		vm_end(vm, STATUS_CANNOT);
		return;
	}
	log_info("the guest reboots");
	vm_tell(vm, VM_RESET);
	gdb_guest_reset(vm->gdb);
	if (!gdb_holds(vm->gdb))
		vcpus_resume(&vm->cpus);
}

static void guest_resets(struct vm *vm)
{
	bool panicked = panic_watch_panicked(&vm->panic);

	if (panicked)
		vm_tell(vm, VM_PANICKED);
	if (panicked && !vm->cfg->reboot) {
		log_error("the guest's kernel panicked");
		died(vm, STATUS_PANIC, SIGNAL_PANIC);
	} else if (vm->stops > 0 || !vm->cfg->reboot) {
		vm_end(vm, panicked ? STATUS_PANIC : STATUS_POWEROFF);
	} else {
		if (panicked)
			write_core(vm);
		vm_reset(vm);
	}
}

/* Reports of devices */

static void report(struct machine_events *events, enum machine_event event, uint32_t arg)
{
	struct vm *vm = container_of(events, struct vm, events);

	if (event == MACHINE_DEBUG_EXIT)
		atomic_store(&vm->debug_status, arg);
	atomic_fetch_or(&vm->reported, BIT(event));
	if (event != MACHINE_PANICKED && event != MACHINE_CRASHLOADED)
		vcpus_hold(&vm->cpus); /* not one more instruction after power-off */
	loop_post(vm->loop, &vm->report_work);
}

static void handle_reports(struct loop_work *work)
{
	struct vm *vm = container_of(work, struct vm, report_work);
	unsigned reported = atomic_exchange(&vm->reported, 0);

	/* What the guest printed before it did this belongs before it. */
	chardevs_flush(&vm->chardevs);
	if (reported & BIT(MACHINE_DEBUG_EXIT)) {
		vm_end(vm, (int)(atomic_load(&vm->debug_status) & 0xff));
	} else if (reported & BIT(MACHINE_POWEROFF)) {
		log_info("the guest powered off");
		vm_tell(vm, VM_POWEROFF);
		vm_end(vm, STATUS_POWEROFF);
	} else if (reported & BIT(MACHINE_RESET)) {
		guest_resets(vm);
	} else {
		if (reported & BIT(MACHINE_CRASHLOADED)) {
			log_warn("the guest's kernel panicked and runs its crash kernel");
			vm_tell(vm, VM_CRASH_KERNEL);
		}
		if (reported & BIT(MACHINE_PANICKED))
			panic_watch_reported(&vm->panic);
	}
}

void vm_settle(struct vm *vm)
{
	loop_unpost(vm->loop, &vm->report_work);
	if (atomic_load(&vm->reported) != 0)
		handle_reports(&vm->report_work);
}

void vm_panic_dead(struct panic_watch *watch)
{
	struct vm *vm = container_of(watch, struct vm, panic);

	if (gdb_holds(vm->gdb) || vm->paused) {
		panic_watch_again(watch); /* it only stands still */
		return;
	}
	log_error("the guest's kernel panicked");
	vm_tell(vm, VM_PANICKED);
	died(vm, STATUS_PANIC, SIGNAL_PANIC);
}

static void handle_vcpu_end(struct loop_work *work)
{
	struct vm *vm = container_of(work, struct vm, end_work);

	vcpus_pause(&vm->cpus);
	chardevs_flush(&vm->chardevs);
	for (unsigned i = 0; i < vm->cpus.n; i++) {
		struct vcpu *v = &vm->cpus.vcpu[i];

		if (v->end == VCPU_END_NONE)
			continue;
		if (v->end == VCPU_END_TRIPLE_FAULT)
			log_error("the guest died of a triple fault");
		else
			log_error("the guest died: KVM cannot run it on");
		arch_dump_vcpu(&vm->m, &v->kvm);
	}
	vm_tell(vm, VM_DIED);
	died(vm, STATUS_DIED, SIGNAL_DIED);
}

/* Signals and timers */

static void stop_guest(struct vm *vm, int sig)
{
	if (vm->stops++ > 0) {
		vm_end(vm, 128 + sig);
		return;
	}
	vm->stop_signal = sig;
	if (vm->user == NULL || !vm->user->signalled(vm->user, sig)) {
		log_info("signal %d: pressing the power button", sig);
		vm_power_button(vm);
	}
	vm_tell(vm, VM_STOPPING);
	loop_arm(vm->loop, &vm->stop, vm->cfg->stop_timeout_ns);
}

void vm_stop(struct vm *vm)
{
	if (vm->stops == 0)
		stop_guest(vm, SIGTERM);
	else
		vm_power_button(vm);
}

void vm_power_button(struct vm *vm)
{
	arch_power_button(&vm->m);
}

void vm_nmi(struct vm *vm)
{
	vcpus_nmi(&vm->cpus);
}

bool vm_sysrq(struct vm *vm, char key)
{
	return chardevs_sysrq(&vm->chardevs, key);
}

/* Somebody waits to write to a file that is mapped into the guest; see gmem.h. */
static void release_files(struct vm *vm)
{
	/* All of a restored guest's RAM is a file: no device may write there while it is moved. */
	bool quiesce = vm->m.mem.mapped && !vm->paused, ran = vcpus_pause(&vm->cpus);
	struct err err = ERR_INIT;

	if (quiesce)
		vm_devices_quiesce(&vm->devices, vm->loop);
	if (gmem_release_files(&vm->m.mem, &err) < 0) {
		log_error("%s", err.msg);
		vm_end(vm, STATUS_CANNOT);
		return;
	}
	if (quiesce)
		vm_devices_resume(&vm->devices, vm->loop);
	if (ran)
		vcpus_resume(&vm->cpus);
}

static void resized(struct vm *vm)
{
	chardevs_resized(&vm->chardevs);
	if (vm->user != NULL)
		vm->user->resized(vm->user);
}

/* --snapshot: save the guest, and let it go on as it did. */
static void save(struct vm *vm)
{
	bool paused = vm->paused;
	struct err err = ERR_INIT;

	(void)vm_pause(vm, &err);
	if (vm_snapshot(vm, &vm->cfg->save, &err) < 0)
		log_error("%s", err.msg);
	else if (vm->cfg->save.stop)
		vm_end(vm, STATUS_POWEROFF);
	if (!paused && !(err.code == 0 && vm->cfg->save.stop))
		(void)vm_resume(vm, &err);
}

static void handle_signal(struct loop_fd *lfd, uint32_t events)
{
	struct vm *vm = container_of(lfd, struct vm, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(lfd->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGIO)
		release_files(vm);
	else if (info.ssi_signo == SIGWINCH)
		resized(vm);
	else if (info.ssi_signo == SIGUSR2)
		save(vm);
	else if (info.ssi_signo == SIGUSR1)
		vm_devices_rescan(&vm->devices);
	else
		stop_guest(vm, (int)info.ssi_signo);
}

/* A guest that had to be ended: where was it? */
static void show_where(struct vm *vm)
{
	if (!log_enabled(LOG_INFO))
		return;
	vcpus_pause(&vm->cpus);
	for (unsigned i = 0; i < vm->cpus.n; i++)
		arch_dump_vcpu(&vm->m, &vm->cpus.vcpu[i].kvm);
}

static void stop_expired(struct loop_timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, stop);

	log_warn("the guest did not react to the power button: ending it");
	show_where(vm);
	vm_end(vm, 128 + vm->stop_signal);
}

static void timeout_expired(struct loop_timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, timeout);

	if (gdb_attached(vm->gdb)) {
		vm->timeout_at = loop_now_ns() + vm->cfg->timeout_ns;
		loop_arm(vm->loop, timer, vm->cfg->timeout_ns);
		return;
	}
	log_error("--timeout is reached: ending the guest");
	vm_tell(vm, VM_TIMEOUT);
	show_where(vm);
	died(vm, STATUS_TIMEOUT, 0);
}

static bool sysrq(struct gdb_host *host, char key)
{
	return chardevs_sysrq(&container_of(host, struct vm, gdb_host)->chardevs, key);
}

/*
 * Ask a guest that hangs where it is, by the next key or the NMI of --on-hang; one at a time, as
 * Linux drops all but the last key of those it reads at once. False: all was sent.
 */
static bool ask(struct vm *vm)
{
	const struct hang_config *by = &vm->cfg->on_hang;
	size_t keys = by->sysrq != NULL ? strlen(by->sysrq) : 0;

	if (vm->asked < keys) {
		(void)sysrq(&vm->gdb_host, by->sysrq[vm->asked++]);
		return true;
	}
	if (vm->asked == keys && by->nmi) {
		vm->asked++;
		vcpus_nmi(&vm->cpus);
		return true;
	}
	return false;
}

static void hang_expired(struct loop_timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, hang);

	bool silent = vm->signs == vm->hang_seen;

	vm->hang_seen = vm->signs;
	if (gdb_attached(vm->gdb) || (!silent && !vm->hangs)) {
		loop_arm(vm->loop, timer, vm->cfg->hang_timeout_ns);
		return;
	}
	if (!vm->hangs) {
		log_error("no %s for --hang-timeout: the guest hangs",
			  vm->vouched ? "sign of life" : "output");
		vm_tell(vm, VM_HANGS);
	}
	vm->hangs = true;
	vm->vouched = false; /* what it is asked is answered by output */
	if (ask(vm)) {
		loop_arm(vm->loop, timer, KEY_NS);
		return;
	}
	if (vm->asked > 0 && (vm->answers == 0 || !silent) && vm->answers < ANSWERS_MAX) {
		vm->answers++;
		loop_arm(vm->loop, timer, ANSWER_NS);
		return;
	}
	show_where(vm);
	died(vm, STATUS_HUNG, 0);
}

/* The consoles' owner */

static void console_printed(void *owner, size_t *mark, const char *data, size_t len)
{
	struct vm *vm = owner;

	vm->printed += len;
	if (!vm->vouched)
		vm->signs += len;
	panic_watch_output(&vm->panic, mark, data, len);
	if (vm->user != NULL)
		vm->user->printed(vm->user, data, len);
}

static void console_quit(void *owner)
{
	struct vm *vm = owner;

	vm_end(vm, vm->user != NULL ? 128 + SIGINT : STATUS_POWEROFF);
}

static void console_nmi(void *owner)
{
	struct vm *vm = owner;

	vcpus_nmi(&vm->cpus);
}

/* The debugger */

static bool gdb_goes_on(struct gdb_host *host)
{
	struct vm *vm = container_of(host, struct vm, gdb_host);

	if (!vm->dead)
		return true;
	write_core(vm);
	vm_end(vm, vm->dead_status);
	return false;
}

static void gdb_quit(struct gdb_host *host)
{
	console_quit(container_of(host, struct vm, gdb_host));
}

static void gdb_reset(struct gdb_host *host)
{
	vm_reset(container_of(host, struct vm, gdb_host));
}

void vm_events_init(struct vm *vm)
{
	vm->chardevs = (struct chardevs){
		.owner = vm,
		.printed = console_printed,
		.quit = console_quit,
		.nmi = console_nmi,
		.broker = vm->broker,
	};
	vm->gdb_host = (struct gdb_host){ gdb_goes_on, gdb_quit, gdb_reset, sysrq, vm->broker };
	vm->events.report = report;
	vm->report_work.fn = handle_reports;
	vm->end_work.fn = handle_vcpu_end;
	vm->signals.fn = handle_signal;
	vm->timeout.fn = timeout_expired;
	vm->hang.fn = hang_expired;
	vm->stop.fn = stop_expired;
}
