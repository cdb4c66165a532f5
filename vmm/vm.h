/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM's life: built from a configuration, run to its end, taken down.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "devices/chardev.h"
#include "vmm/base/err.h"
#include "vmm/base/loop.h"
#include "vmm/config.h"

/* Exit statuses of the program (besides those of `vmm run`'s command). */
enum exit_status {
	STATUS_POWEROFF = 0,
	STATUS_PANIC = 120,   /* guest kernel panic */
	STATUS_HUNG = 121,    /* nothing for --hang-timeout */
	STATUS_DIED = 122,    /* triple fault, KVM internal error */
	STATUS_TIMEOUT = 124, /* --timeout reached */
	STATUS_CANNOT = 125,  /* the monitor could not do what was asked */
};

struct vm;

/* What happens to a VM, for those who only want to know. */
enum vm_event {
	VM_STARTED,
	VM_PAUSED,
	VM_RESUMED,
	VM_RESET,	 /* it begins anew */
	VM_STOPPING,	 /* the power button was pressed */
	VM_POWEROFF,	 /* by the guest */
	VM_PANICKED,	 /* its kernel is dead */
	VM_CRASH_KERNEL, /* its kernel panicked and runs another one */
	VM_DIED,	 /* triple fault, KVM internal error */
	VM_HANGS,	 /* nothing for --hang-timeout */
	VM_TIMEOUT,	 /* --timeout reached */
	VM_SNAPSHOT,	 /* one was made */
	VM_EVENTS,
};

struct vm_watcher {
	/* Main thread. It may not free the VM, nor run it. */
	void (*event)(struct vm_watcher *watcher, enum vm_event event);
};

/* Who runs a VM for a purpose of its own (`vmm run`). All on the main thread. */
struct vm_user {
	/* The devices are there; make more character devices, if you like. 0 or -code. */
	int (*attach)(struct vm_user *user, struct vm *vm, struct chardevs *chardevs,
		      struct loop *loop, struct err *err);
	/* Before its loop and devices go. */
	void (*detach)(struct vm_user *user);
	/* A console printed this. */
	void (*printed)(struct vm_user *user, const char *data, size_t len);
	/* SIGTERM, SIGINT or SIGHUP, the first. False: let it press the power button. */
	bool (*signalled)(struct vm_user *user, int sig);
	/* The terminal has another size. */
	void (*resized)(struct vm_user *user);
	struct broker *broker; /* its own, which outlives the VM */
};

/*
 * Build everything, up to the point where the guest could run: the recipe in vm.c. NULL
 * with @err filled, and nothing left behind, when any step fails. @cfg is borrowed, as are
 * @user, which may be NULL, and @loop; NULL: it makes a loop of its own.
 */
struct vm *vm_build(const struct vm_config *cfg, struct vm_user *user, struct loop *loop,
		    struct err *err);
/* Run the guest until it ends; returns the program's exit status. Once. */
int vm_run(struct vm *vm);
/*
 * The parts of that, for the owner of the loop: let it run, then loop_run(), then vm_finish() with
 * what that returned, which gives the exit status. vm_start() returns 0 or -code; when it fails
 * the VM is good for vm_free() only.
 */
int vm_start(struct vm *vm, struct err *err);
int vm_finish(struct vm *vm, int result);
/* End the guest: vm_run() returns @status. The first of several counts. Main thread. */
void vm_end(struct vm *vm, int status);
/* From now on @watcher (borrowed; NULL: nobody) hears of what happens. */
void vm_watch(struct vm *vm, struct vm_watcher *watcher);
/* As SIGTERM does: press the power button, and end the guest after --stop-timeout. Main thread. */
void vm_stop(struct vm *vm);
/* Press the power button, no more. */
void vm_power_button(struct vm *vm);
/* Begin anew, as when the guest reboots. Main thread. */
void vm_reset(struct vm *vm);
/* A non-maskable interrupt for every vCPU. Main thread. */
void vm_nmi(struct vm *vm);
/* Send magic SysRq @key to the guest's console. False: there is none, or it has no room. */
bool vm_sysrq(struct vm *vm, char key);
/*
 * A sign of life, for --hang-timeout. From the first one on, output is none: a kernel in which
 * nothing runs any more may well say so again and again.
 */
void vm_lives(struct vm *vm);
/*
 * Pause: no vCPU runs, no device has anything in flight or takes anything up, and time limits
 * stand still; resume: everything goes on, and the guest is told that it was paused (its clocks
 * went on, so they are right). Whoever else lets the guest run meanwhile (a debugger's `continue`,
 * a reset) is heeded on resume only. Neither does anything when it is so already. Before vm_run(),
 * a pause makes it begin paused. Main thread. 0 or -code.
 */
int vm_pause(struct vm *vm, struct err *err);
int vm_resume(struct vm *vm, struct err *err);
bool vm_paused(const struct vm *vm);

/*
 * Save a paused VM, which stays paused. Files that are there are replaced when the new ones are
 * complete and on disk, not before: see snapshot/snapshot.c. 0 or -code with a sentence for a
 * person.
 */
int vm_snapshot(struct vm *vm, const struct snapshot_config *cfg, struct err *err);

/* Take everything down, in the reverse order of building. */
void vm_free(struct vm *vm);

/* For crash handlers: put the terminal back. Async-signal-safe; @vm may be NULL. */
void vm_restore_terminal(struct vm *vm);

#endif
