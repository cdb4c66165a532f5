// SPDX-License-Identifier: Apache-2.0
/*
 * One VM's life.
 *
 * vm_build() is the recipe, top to bottom: loop, serial line, KVM, memory, interrupt
 * controllers and devices, virtio devices, kernel and tables, vCPUs. vm_free() is the same list
 * from the bottom up, and what a failed build calls too.
 *
 * While the guest runs, the main thread is in the loop. Whatever may end or reset the
 * VM arrives there as an event: reports of devices (from vCPU threads), a vCPU that met
 * its end, signals, timers, the console's quit key. Devices only set a bit and stop
 * the vCPUs from running on; what it means is decided here, in one place.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "arch/arch.h"
#include "devices/virtio_console.h"
#include "vmm/base/log.h"
#include "vmm/devices.h"
#include "vmm/dump.h"
#include "vmm/gdb.h"
#include "vmm/panic.h"
#include "vmm/vcpus.h"
#include "vmm/vm.h"
#include "vmm/base/util.h"

#define BIT(n) (1U << (n))

#define SLOW_CREATE_MS 10

/* A guest that hangs and was asked where it is: how long it may be silent, and how often not. */
#define ANSWER_NS   1000000000ULL
#define KEY_NS	    500000000ULL /* between two keys */
#define ANSWERS_MAX 10

/* What a debugger is told, in signals. */
#define SIGNAL_PANIC 6	/* SIGABRT */
#define SIGNAL_DIED  11 /* SIGSEGV */

struct vm {
	const struct vm_config *cfg;
	struct vm_user *user;		   /* or NULL */
	struct machine_config machine_cfg; /* with the effective command line */
	char *cmdline;
	struct loop *loop;
	struct machine m;
	struct virtio_host host;
	struct vm_devices devices;
	struct vcpus cpus;
	struct chardevs chardevs; /* consoles, and what else leads out of the guest by bytes */
	struct chardev *serial;
	struct panic_watch panic;
	struct gdb *gdb; /* or NULL */
	struct gdb_host gdb_host;
	bool dead; /* with @dead_status; a debugger looks at it */
	int dead_status;

	struct machine_events events;
	atomic_uint reported; /* bits of enum machine_event */
	atomic_uint debug_status;
	struct loop_work report_work, end_work;

	struct loop_fd signals;
	sigset_t old_mask;
	bool mask_set;
	unsigned stops;	 /* signals that asked to stop */
	int stop_signal; /* the first of them */
	struct loop_timer timeout, hang, stop;
	uint64_t printed;   /* bytes of console output, and other signs of life */
	uint64_t hang_seen; /* of these, when last looked */
	bool hangs;
	size_t asked;	  /* keys of --on-hang sent, and the NMI */
	unsigned answers; /* times the guest was waited for after that */
};

/* The end */

static void end(struct vm *vm, int status)
{
	vcpus_hold(&vm->cpus);
	loop_quit(vm->loop, status);
}

void vm_end(struct vm *vm, int status)
{
	end(vm, status);
}

void vm_lives(struct vm *vm)
{
	vm->printed++;
}

static void all_vcpus(struct vm *vm, struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX])
{
	for (unsigned i = 0; i < vm->cpus.n; i++)
		vcpus[i] = &vm->cpus.vcpu[i].kvm;
}

/* --dump, if it was given. */
static void write_core(struct vm *vm)
{
	struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX];
	struct err err = ERR_INIT;
	uint64_t bytes = 0;

	if (vm->cfg->dump == NULL)
		return;
	vcpus_pause(&vm->cpus);
	gdb_lift(vm->gdb);
	all_vcpus(vm, vcpus);
	if (dump_write(&vm->m, vcpus, vm->cpus.n, vm->cfg->dump, &bytes, &err) < 0)
		log_error("--dump %s: %s", vm->cfg->dump, err.msg);
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
	end(vm, status);
}

static void reset(struct vm *vm)
{
	struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX];
	struct err err = ERR_INIT;
	int r;

	vcpus_pause(&vm->cpus);
	all_vcpus(vm, vcpus);
	vm->dead = false;
	panic_watch_reset(&vm->panic);
	chardevs_clear_marks(&vm->chardevs);
	r = arch_reset(&vm->m, vcpus, vm->cpus.n, &err);
	if (r == 0)
		r = gmem_reset(&vm->m.mem, &err);
	if (r == 0)
		r = arch_load(&vm->m, &err);
	for (unsigned i = 0; r == 0 && i < vm->cpus.n; i++)
		r = arch_boot_vcpu(&vm->m, i, vcpus[i], &err);
	if (r < 0) {
		log_error("cannot reboot: %s", err.msg);
		end(vm, STATUS_CANNOT);
		return;
	}
	log_info("the guest reboots");
	gdb_guest_reset(vm->gdb);
	if (!gdb_holds(vm->gdb))
		vcpus_resume(&vm->cpus);
}

static void guest_resets(struct vm *vm)
{
	bool panicked = panic_watch_panicked(&vm->panic);

	if (panicked && !vm->cfg->reboot) {
		log_error("the guest's kernel panicked");
		died(vm, STATUS_PANIC, SIGNAL_PANIC);
	} else if (vm->stops > 0 || !vm->cfg->reboot) {
		end(vm, panicked ? STATUS_PANIC : STATUS_POWEROFF);
	} else {
		if (panicked)
			write_core(vm);
		reset(vm);
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
		end(vm, (int)(atomic_load(&vm->debug_status) & 0xff));
	} else if (reported & BIT(MACHINE_POWEROFF)) {
		log_info("the guest powered off");
		end(vm, STATUS_POWEROFF);
	} else if (reported & BIT(MACHINE_RESET)) {
		guest_resets(vm);
	} else {
		if (reported & BIT(MACHINE_CRASHLOADED))
			log_warn("the guest's kernel panicked and runs its crash kernel");
		if (reported & BIT(MACHINE_PANICKED))
			panic_watch_reported(&vm->panic);
	}
}

static void panic_dead(struct panic_watch *watch)
{
	struct vm *vm = container_of(watch, struct vm, panic);

	if (gdb_holds(vm->gdb)) {
		panic_watch_again(watch); /* it only stands still */
		return;
	}
	log_error("the guest's kernel panicked");
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
	died(vm, STATUS_DIED, SIGNAL_DIED);
}

/* Signals and timers */

static void stop_guest(struct vm *vm, int sig)
{
	if (vm->stops++ > 0) {
		end(vm, 128 + sig);
		return;
	}
	vm->stop_signal = sig;
	if (vm->user == NULL || !vm->user->signalled(vm->user, sig)) {
		log_info("signal %d: pressing the power button", sig);
		arch_power_button(&vm->m);
	}
	loop_arm(vm->loop, &vm->stop, vm->cfg->stop_timeout_ns);
}

/* Somebody waits to write to a file that is mapped into the guest; see gmem.h. */
static void release_files(struct vm *vm)
{
	struct err err = ERR_INIT;
	bool ran = vcpus_pause(&vm->cpus);

	if (gmem_release_files(&vm->m.mem, &err) < 0) {
		log_error("%s", err.msg);
		end(vm, STATUS_CANNOT);
	} else if (ran) {
		vcpus_resume(&vm->cpus);
	}
}

static void resized(struct vm *vm)
{
	chardevs_resized(&vm->chardevs);
	if (vm->user != NULL)
		vm->user->resized(vm->user);
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
	end(vm, 128 + vm->stop_signal);
}

static void timeout_expired(struct loop_timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, timeout);

	if (gdb_attached(vm->gdb)) {
		loop_arm(vm->loop, timer, vm->cfg->timeout_ns);
		return;
	}
	log_error("--timeout is reached: ending the guest");
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

	bool silent = vm->printed == vm->hang_seen;

	vm->hang_seen = vm->printed;
	if (gdb_attached(vm->gdb) || (!silent && !vm->hangs)) {
		loop_arm(vm->loop, timer, vm->cfg->hang_timeout_ns);
		return;
	}
	if (!vm->hangs)
		log_error("no output for --hang-timeout: the guest hangs");
	vm->hangs = true;
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
	panic_watch_output(&vm->panic, mark, data, len);
	if (vm->user != NULL)
		vm->user->printed(vm->user, data, len);
}

static void console_quit(void *owner)
{
	struct vm *vm = owner;

	end(vm, vm->user != NULL ? 128 + SIGINT : STATUS_POWEROFF);
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
	end(vm, vm->dead_status);
	return false;
}

static void gdb_quit(struct gdb_host *host)
{
	console_quit(container_of(host, struct vm, gdb_host));
}

static void gdb_reset(struct gdb_host *host)
{
	reset(container_of(host, struct vm, gdb_host));
}

/* Building */

static bool names_console(const char *cmdline)
{
	for (const char *p = cmdline; (p = strstr(p, "console=")) != NULL; p++)
		if (p == cmdline || p[-1] == ' ')
			return true;
	return false;
}

/*
 * The console to tell the kernel of: what has the standard streams, else the serial port, else
 * the first console there is. "" when there is none.
 */
static void pick_console(const struct vm_config *cfg, char word[32])
{
	const struct opt_list *uses = vm_devices_uses(cfg, VIRTIO_ID_CONSOLE);
	const struct console_options *console = uses != NULL ? uses->items : NULL;
	unsigned n = 0, picked = 0;
	bool stdio = false;

	for (size_t i = 0; uses != NULL && i < uses->n; i++) {
		if (console[i].name != NULL)
			continue;
		if (console[i].chr.to == CHARDEV_STDIO) {
			stdio = true;
			picked = n;
		}
		n++;
	}
	*word = '\0';
	if (cfg->machine.serial && !stdio)
		strcpy(word, "console=ttyS0");
	else if (n > 0)
		snprintf(word, 32, "console=hvc%u", picked);
}

/* What the kernel is told: the user's words, and our console before them. */
static int make_cmdline(struct vm *vm, struct err *err)
{
	const char *user = vm->cfg->machine.cmdline != NULL ? vm->cfg->machine.cmdline : "";
	char ours[32] = "";
	size_t size = strlen(user) + sizeof(ours) + 1;

	if (!names_console(user))
		pick_console(vm->cfg, ours);
	vm->cmdline = malloc(size);
	if (vm->cmdline == NULL)
		return err_set(err, ENOMEM, "no memory for the command line");
	strcpy(vm->cmdline, ours);
	if (*ours != '\0' && *user != '\0')
		strcat(vm->cmdline, " ");
	strcat(vm->cmdline, user);
	vm->machine_cfg = vm->cfg->machine;
	vm->machine_cfg.cmdline = vm->cmdline;
	return 0;
}

/* Before any thread exists, so that all inherit the mask and signals come here only. */
static int watch_signals(struct vm *vm, struct err *err)
{
	static const int optional[] = { SIGINT, SIGHUP };
	struct sigaction old;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGIO);	   /* a lease is to be given back, see gmem.h */
	sigaddset(&set, SIGUSR1);  /* a disk image changed its size; free memory is wanted */
	sigaddset(&set, SIGWINCH); /* the terminal has another size */
	/* Not those we were started to ignore: by nohup, or as a script's background job. */
	for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
		if (sigaction(optional[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, optional[i]);
	pthread_sigmask(SIG_BLOCK, &set, &vm->old_mask);
	vm->mask_set = true;
	signal(SIGPIPE, SIG_IGN);
	vm->signals.fn = handle_signal;
	vm->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vm->signals.fd < 0)
		return err_sys(err, errno, "signalfd");
	return loop_add_fd(vm->loop, &vm->signals, EPOLLIN, err);
}

/*
 * On some hosts this one call takes longer than everything else together: KVM starts a
 * thread that recovers huge pages and moves it into our cgroups, which waits for an RCU
 * grace period.
 */
static int create_vm(struct kvm *kvm, struct err *err)
{
	uint64_t before = loop_now_ns(), ms;

	if (kvm_create_vm(kvm, 0, err) < 0)
		return -err->code;
	ms = (loop_now_ns() - before) / 1000000;
	if (ms >= SLOW_CREATE_MS)
		log_info(
			"KVM_CREATE_VM took %llu ms; mounting the cgroup file system with "
			"favordynmods, or the kvm module's nx_huge_pages=never where the CPU is not "
			"vulnerable, makes it fast",
			(unsigned long long)ms);
	return 0;
}

static int open_serial(struct vm *vm, struct err *err)
{
	vm->serial = chardev_new(&vm->cfg->serial, "serial", true, &vm->chardevs, vm->loop, err);
	if (vm->serial == NULL)
		return -err->code;
	vm->m.console = chardev_back(vm->serial);
	return 0;
}

static int add_memory(const struct virtio_host *host, int fd, uint64_t size, bool ro, uint64_t *gpa,
		      struct err *err)
{
	struct vm *vm = container_of(host, struct vm, host);

	return arch_add_memory(&vm->m, fd, size, ro, gpa, err);
}

static int build(struct vm *vm, struct err *err)
{
	struct machine *m = &vm->m;
	const char *why;

	if (make_cmdline(vm, err) < 0)
		return -err->code;
	m->cfg = &vm->machine_cfg;
	vm->loop = loop_new(err);
	if (vm->loop == NULL || watch_signals(vm, err) < 0)
		return -err->code;
	if (m->cfg->serial && open_serial(vm, err) < 0)
		return -err->code;

	m->loop = vm->loop;
	m->events = &vm->events;
	bus_init(&m->mmio);
	bus_init(&m->pio);
	if (kvm_open(&m->kvm, "/dev/kvm", err) < 0)
		return -err->code;
	if (!arch_host_native(&why))
		log_warn("%s", why);
	if (create_vm(&m->kvm, err) < 0 || gmem_init(&m->mem, &m->cfg->mem, err) < 0 ||
	    arch_init_memory(m, err) < 0 || arch_init_devices(m, err) < 0)
		return -err->code;
	vm->host = (struct virtio_host){ .mem = &m->mem,
					 .loop = vm->loop,
					 .vm_name = vm->cfg->name,
					 .chardevs = &vm->chardevs,
					 .add_memory = add_memory };
	if (vm_devices_create(&vm->devices, vm->cfg, &vm->host, m, err) < 0 ||
	    (vm->user != NULL &&
	     vm->user->attach(vm->user, vm, &vm->chardevs, vm->loop, err) < 0) ||
	    arch_load(m, err) < 0 ||
	    vcpus_init(&vm->cpus, m, (unsigned)m->cfg->cpus.count, &vm->end_work, err) < 0)
		return -err->code;
	for (unsigned i = 0; i < vm->cpus.n; i++)
		if (arch_boot_vcpu(m, i, &vm->cpus.vcpu[i].kvm, err) < 0)
			return -err->code;
	panic_watch_init(&vm->panic, vm->loop, &vm->cpus, panic_dead);
	if (vm->cfg->gdb.to != NULL) {
		vm->gdb = gdb_new(&vm->cfg->gdb, &vm->cpus, &vm->gdb_host, vm->loop, err);
		if (vm->gdb == NULL)
			return -err->code;
	}
	return 0;
}

struct vm *vm_build(const struct vm_config *cfg, struct vm_user *user, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (vm == NULL) {
		err_set(err, ENOMEM, "no memory for the VM");
		return NULL;
	}
	vm->cfg = cfg;
	vm->user = user;
	vm->signals.fd = -1;
	vm->m.kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
	vm->m.mem.fd = -1;
	vm->chardevs = (struct chardevs){
		.owner = vm, .printed = console_printed, .quit = console_quit, .nmi = console_nmi
	};
	vm->gdb_host = (struct gdb_host){ gdb_goes_on, gdb_quit, gdb_reset, sysrq };
	vm->events.report = report;
	vm->report_work.fn = handle_reports;
	vm->end_work.fn = handle_vcpu_end;
	vm->timeout.fn = timeout_expired;
	vm->hang.fn = hang_expired;
	vm->stop.fn = stop_expired;
	if (build(vm, err) < 0) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

int vm_run(struct vm *vm)
{
	struct err err = ERR_INIT;
	int status;

	if (vcpus_start(&vm->cpus, &err) < 0 || chardevs_start(&vm->chardevs, &err) < 0) {
		log_error("%s", err.msg);
		return STATUS_CANNOT;
	}
	if (vm->cfg->timeout_ns > 0)
		loop_arm(vm->loop, &vm->timeout, vm->cfg->timeout_ns);
	if (vm->cfg->hang_timeout_ns > 0)
		loop_arm(vm->loop, &vm->hang, vm->cfg->hang_timeout_ns);
	if (gdb_holds(vm->gdb)) /* said even without --verbose: nothing else happens */
		log_warn("the guest waits for a debugger at %s", vm->cfg->gdb.to);
	else
		vcpus_resume(&vm->cpus);
	status = loop_run(vm->loop);
	vcpus_pause(&vm->cpus);
	gdb_ended(vm->gdb, status);
	/* Whoever ended the VM by force does not wait for the reader of its output either. */
	chardevs_drain(&vm->chardevs, vm->stops < 2, vm->signals.fd);
	for (unsigned i = 0; i < vm->cpus.n; i++)
		log_info("vCPU %u: %llu exits to the monitor", i,
			 (unsigned long long)vm->cpus.vcpu[i].exits);
	return status >= 0 ? status : STATUS_CANNOT;
}

void vm_free(struct vm *vm)
{
	if (vm == NULL)
		return;
	gdb_free(vm->gdb);
	panic_watch_fini(&vm->panic);
	loop_disarm(&vm->timeout);
	loop_disarm(&vm->hang);
	loop_disarm(&vm->stop);
	vcpus_fini(&vm->cpus);
	arch_fini(&vm->m);
	if (vm->user != NULL)
		vm->user->detach(vm->user);
	vm_devices_destroy(&vm->devices);
	gmem_fini(&vm->m.mem);
	kvm_close(&vm->m.kvm);
	chardev_free(vm->serial);
	if (vm->signals.fd >= 0) {
		loop_del_fd(&vm->signals);
		close(vm->signals.fd);
	}
	if (vm->loop != NULL) {
		loop_unpost(vm->loop, &vm->report_work);
		loop_unpost(vm->loop, &vm->end_work);
		loop_free(vm->loop);
	}
	if (vm->mask_set)
		pthread_sigmask(SIG_SETMASK, &vm->old_mask, NULL);
	free(vm->cmdline);
	free(vm);
}

void vm_restore_terminal(struct vm *vm)
{
	if (vm != NULL)
		chardevs_restore_terminal(&vm->chardevs);
}
