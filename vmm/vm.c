// SPDX-License-Identifier: Apache-2.0
/*
 * One VM's life.
 *
 * vm_build() is the recipe, top to bottom: loop, control group, serial line, KVM, memory, interrupt
 * controllers and devices, virtio devices, kernel and tables, vCPUs. vm_free() is the same list
 * from the bottom up, and what a failed build calls too. vm_events.c has what happens between
 * them.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "devices/virtio_console.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm_impl.h"

#define SLOW_CREATE_MS 10

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
	sigaddset(&set, SIGIO);	  /* a lease is to be given back, see gmem.h */
	sigaddset(&set, SIGUSR1); /* a disk image changed its size; free memory is wanted */
	if (vm->cfg->save.state != NULL)
		sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGWINCH); /* the terminal has another size */
	/* Not those we were started to ignore: by nohup, or as a script's background job. */
	for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
		if (sigaction(optional[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, optional[i]);
	pthread_sigmask(SIG_BLOCK, &set, &vm->old_mask);
	vm->mask_set = true;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE is an error of whoever writes */
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

/* RAM, and what is to be known of writes to it. */
static int make_memory(struct vm *vm, struct err *err)
{
	struct machine *m = &vm->m;
	int r = vm->cfg->snapshot != NULL ? vm_restore_memory(vm, err)
					  : gmem_init(&m->mem, &m->cfg->mem, err);

	if (r < 0 || arch_init_memory(m, err) < 0)
		return -err->code;
	return m->mem.track || m->mem.mapped ? gmem_dirty_start(&m->mem, err) : 0;
}

static int build(struct vm *vm, struct err *err)
{
	const struct opt_list *shares = vm_devices_uses(vm->cfg, VIRTIO_ID_FS);
	bool restores = vm->cfg->snapshot != NULL;
	struct machine *m = &vm->m;
	const char *why;

	vm->sandbox = (struct sandbox){ .mode = vm->cfg->sandbox,
					.no_filter = vm->cfg->no_seccomp,
					.keep = vm->cfg->api.fd != 0 ? (int)vm->cfg->api.fd : -1 };
	if (shares != NULL && shares->n > 0 && sandbox_begin(&vm->sandbox, err) < 0)
		return -err->code;
	if (make_cmdline(vm, err) < 0)
		return -err->code;
	m->cfg = &vm->machine_cfg;
	if (m->cfg->boot_timer)
		m->begun = boot_time_now();
	if (vm->loop == NULL) {
		vm->own_loop = true;
		vm->loop = loop_new(err);
	}
	if (vm->loop == NULL || watch_signals(vm, err) < 0)
		return -err->code;
	if ((vm->cfg->core_sched && vm_core_sched(err) < 0) ||
	    vm_cgroup_new(&vm->cgroup, vm->cfg, "/proc/self", err) < 0)
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
	if (create_vm(&m->kvm, err) < 0 || make_memory(vm, err) < 0 ||
	    arch_init_devices(m, err) < 0 || (restores && vm_restore_cpus(vm, err) < 0))
		return -err->code;
	vm->host = (struct virtio_host){ .mem = &m->mem,
					 .loop = vm->loop,
					 .iothreads = &vm->iothreads,
					 .processes = &vm->processes,
					 .broker = vm->broker,
					 .needs = &vm->needs,
					 .vm_name = vm->cfg->name,
					 .new_macs = vm->cfg->restore.mac,
					 .chardevs = &vm->chardevs,
					 .add_memory = add_memory };
	if (vm_devices_create(&vm->devices, vm->cfg, &vm->host, m, err) < 0 ||
	    (vm->user != NULL &&
	     vm->user->attach(vm->user, vm, &vm->chardevs, vm->loop, err) < 0) ||
	    (!restores && arch_load(m, false, err) < 0) ||
	    vcpus_init(&vm->cpus, m, (unsigned)m->cfg->cpus.count, &vm->end_work, err) < 0 ||
	    (restores && vm_restore_state(vm, err) < 0))
		return -err->code;
	for (unsigned i = 0; !restores && i < vm->cpus.n; i++)
		if (arch_boot_vcpu(m, i, &vm->cpus.vcpu[i].kvm, err) < 0)
			return -err->code;
	panic_watch_init(&vm->panic, vm->loop, &vm->cpus, vm_panic_dead);
	if (vm->cfg->gdb.to != NULL) {
		vm->gdb = gdb_new(&vm->cfg->gdb, &vm->cpus, &vm->gdb_host, vm->loop, err);
		if (vm->gdb == NULL)
			return -err->code;
	}
	return 0;
}

struct vm *vm_build(const struct vm_config *cfg, struct vm_user *user, struct loop *loop,
		    struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (vm == NULL) {
		err_set(err, ENOMEM, "no memory for the VM");
		return NULL;
	}
	vm->cfg = cfg;
	vm->user = user;
	broker_init(&vm->own_broker);
	vm->broker = user != NULL ? user->broker : &vm->own_broker;
	vm->loop = loop;
	vm->signals.fd = -1;
	vm->m.kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
	vm->m.mem.fd = -1;
	vm_events_init(vm);
	if (build(vm, err) < 0) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

/* Why files of the host are opened by name while the guest runs; NULL: none are. */
static const char *names_files(const struct vm *vm)
{
	const struct vm_config *cfg = vm->cfg;

	if (!vm->own_loop)
		return "the control API";
	if (vm->user != NULL)
		return "vmm run";
	if (cfg->dump != NULL)
		return "--dump";
	if (cfg->save.state != NULL)
		return "--snapshot";
	return NULL;
}

/* Everything is opened: what of the host is still needed while the guest runs. */
static void plan_sandbox(struct vm *vm)
{
	struct sandbox *sb = &vm->sandbox;

	sb->ram = vm->m.mem.mapped ? vm->m.mem.size : 0;
	sb->folders = vm->cfg->sandbox_dirs.items;
	sb->nfolders = vm->cfg->sandbox_dirs.n;
	sb->leads_out = vm->processes.first == NULL && (vm->needs & VIRTIO_NEEDS_CONTAINMENT) != 0;
	sb->users = (vm->needs & VIRTIO_NEEDS_USERS) != 0;
	sb->reason = names_files(vm);
	sb->roles = sb->reason != NULL ? FILTER_ROLE(files) : 0;
}

static int confine_iothread(struct iothreads *all, enum iothread_kind kind, struct err *err)
{
	static const enum filter_role roles[] = { [IOTHREAD_DEVICE] = FILTER_io,
						  [IOTHREAD_FILES] = FILTER_share,
						  [IOTHREAD_WORKER] = FILTER_work };
	struct vm *vm = container_of(all, struct vm, iothreads);

	return sandbox_confine(&vm->sandbox, roles[kind], err);
}

/* A process that serves a folder has a sandbox of its own, in which there is nothing. */
static int enter_process(struct virtio_processes *all, struct err *err)
{
	struct vm *vm = container_of(all, struct vm, processes); /* a copy */
	struct sandbox *sb = &vm->sandbox;

	sb->quiet = sb->reason == NULL; /* the monitor does the same */
	sb->keep = -1;
	sb->reason = NULL;
	sb->nfolders = 0;
	sb->roles = 0;
	sb->ram = 0;
	sb->leads_out = (vm->needs & VIRTIO_NEEDS_CONTAINMENT) != 0;
	return sandbox_enter(sb, err);
}

static int confine_process(struct virtio_processes *all, struct err *err)
{
	struct vm *vm = container_of(all, struct vm, processes);

	return sandbox_confine(&vm->sandbox, FILTER_share, err);
}

static int start_broker(struct vm *vm, struct err *err)
{
	int r;

	gmem_inherit(&vm->m.mem, false);
	r = broker_start(vm->broker, err);
	gmem_inherit(&vm->m.mem, true);
	return r;
}

int vm_start(struct vm *vm, struct err *err)
{
	plan_sandbox(vm);
	vm->processes.enter = enter_process;
	vm->processes.confine = confine_process;
	vm->iothreads.confine = confine_iothread;
	if (start_broker(vm, err) < 0 || virtio_processes_start(&vm->processes, err) < 0 ||
	    sandbox_enter(&vm->sandbox, err) < 0 ||
	    virtio_processes_wait(&vm->processes, err) < 0 ||
	    iothreads_start(&vm->iothreads, err) < 0 ||
	    vcpus_start(&vm->cpus, &vm->sandbox, err) < 0 ||
	    chardevs_start(&vm->chardevs, err) < 0 ||
	    sandbox_confine(&vm->sandbox, FILTER_main, err) < 0)
		return -err->code;
	vm_start_limits(vm);
	if (gdb_holds(vm->gdb)) /* said even without --verbose: nothing else happens */
		log_warn("the guest waits for a debugger at %s", vm->cfg->gdb.to);
	else
		vcpus_resume(&vm->cpus);
	if (vm->cfg->snapshot != NULL && !vm->cfg->restore.paused && vm_resume(vm, err) < 0)
		return -err->code;
	vm_tell(vm, VM_STARTED);
	return 0;
}

int vm_finish(struct vm *vm, int result)
{
	vcpus_pause(&vm->cpus);
	gdb_ended(vm->gdb, result);
	/* Whoever ended the VM by force does not wait for the reader of its output either. */
	chardevs_drain(&vm->chardevs, vm->stops < 2, vm->signals.fd);
	for (unsigned i = 0; i < vm->cpus.n; i++)
		log_info("vCPU %u: %llu exits to the monitor", i,
			 (unsigned long long)vm->cpus.vcpu[i].exits);
	return result >= 0 ? result : STATUS_CANNOT;
}

int vm_run(struct vm *vm)
{
	struct err err = ERR_INIT;

	if (vm_start(vm, &err) < 0) {
		log_error("%s", err.msg);
		return STATUS_CANNOT;
	}
	return vm_finish(vm, loop_run(vm->loop));
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
	broker_stop(&vm->own_broker);
	vm_cgroup_free(vm->cgroup);
	if (vm->signals.fd >= 0) {
		loop_del_fd(&vm->signals);
		close(vm->signals.fd);
	}
	if (vm->loop != NULL) {
		loop_unpost(vm->loop, &vm->report_work);
		loop_unpost(vm->loop, &vm->end_work);
		if (vm->own_loop)
			loop_free(vm->loop);
	}
	if (vm->mask_set)
		pthread_sigmask(SIG_SETMASK, &vm->old_mask, NULL);
	free(vm->origin.state);
	free(vm->last.state);
	free(vm->dirty);
	free(vm->cmdline);
	free(vm);
}

void vm_restore_terminal(struct vm *vm)
{
	if (vm != NULL)
		chardevs_restore_terminal(&vm->chardevs);
}
