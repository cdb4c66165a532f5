/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files vm*.c share: a VM from the inside. vm.c builds and runs it, vm_events.c decides
 * what follows from what happens meanwhile.
 */
#ifndef VMM_VM_IMPL_H
#define VMM_VM_IMPL_H

#include <signal.h>
#include "arch/arch.h"
#include "devices/broker.h"
#include "devices/virtio_process.h"
#include "vmm/devices.h"
#include "vmm/gdb/gdb.h"
#include "vmm/panic.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/vcpus.h"
#include "vmm/vm.h"

/* A snapshot on disk that this VM knows to be its own. */
struct vm_snapshot_ref {
	uint64_t id; /* of its memory; 0: there is none */
	char *state; /* full path */
};

struct vm {
	const struct vm_config *cfg;
	struct vm_user *user;		   /* or NULL */
	struct vm_watcher *watcher;	   /* or NULL */
	struct machine_config machine_cfg; /* with the effective command line */
	char *cmdline;
	struct loop *loop;
	bool own_loop;
	struct machine m;
	struct virtio_host host;
	struct sandbox sandbox;
	struct iothreads iothreads;
	struct virtio_processes processes;
	struct broker *broker, own_broker;
	unsigned needs; /* enum virtio_needs: of all devices */
	struct vm_devices devices;
	struct vcpus cpus;
	struct chardevs chardevs; /* consoles, and what else leads out of the guest by bytes */
	struct chardev *serial;
	struct panic_watch panic;
	struct gdb *gdb; /* or NULL */
	struct gdb_host gdb_host;
	bool ended; /* vm_run() returns */
	bool dead;  /* with @dead_status; a debugger looks at it */
	int dead_status;

	struct machine_events events;
	atomic_uint reported; /* bits of enum machine_event */
	atomic_uint debug_status;
	struct loop_work report_work, end_work;

	struct vm_cgroup *cgroup; /* or NULL */
	struct loop_fd signals;
	sigset_t old_mask;
	bool mask_set;
	unsigned stops;	 /* signals that asked to stop */
	int stop_signal; /* the first of them */
	struct loop_timer timeout, hang, stop;
	struct vm_snapshot_ref origin; /* what RAM is mapped from */
	struct vm_snapshot_ref last;   /* made, or restored from */
	uint64_t *dirty; /* pages of RAM that changed since; NULL: see vm_snapshot.c */
	bool paused;
	uint64_t timeout_at;   /* on loop_now_ns()'s clock; 0: there is no --timeout */
	uint64_t timeout_left; /* while paused */
	uint64_t printed;      /* bytes of console output */
	uint64_t signs;	       /* of life: vm_lives(), and until then every byte of output */
	uint64_t hang_seen;    /* of these, when last looked */
	bool vouched;	       /* somebody says that it lives: output is no sign */
	bool hangs;
	size_t asked;	  /* keys of --on-hang sent, and the NMI */
	unsigned answers; /* times the guest was waited for after that */
};

/* Say what is to be done when something happens: before anything that reports is made. */
void vm_events_init(struct vm *vm);

/* vCPUs are stopped: what devices have reported (a reset, say) is done now and not later. */
void vm_settle(struct vm *vm);
/* Tell who watches. */
void vm_tell(struct vm *vm, enum vm_event event);

/* The kernel is dead: what vm->panic calls. */
void vm_panic_dead(struct panic_watch *watch);

/* --timeout and --hang-timeout begin; each is off when 0. They stand still while paused. */
void vm_start_limits(struct vm *vm);

/*
 * Building from vm->cfg->snapshot: RAM (instead of gmem_init()), what the CPUs are, and in the end
 * everything else (instead of arch_load()), which leaves the VM paused.
 */
int vm_restore_memory(struct vm *vm, struct err *err);
int vm_restore_cpus(struct vm *vm, struct err *err);
int vm_restore_state(struct vm *vm, struct err *err);
/* @ref is now the snapshot in the file @state, whose memory has @id. */
int vm_snapshot_is(struct vm_snapshot_ref *ref, const char *state, uint64_t id, struct err *err);

/* All there are: the first vm->cpus.n are filled in. */
void vm_all_vcpus(struct vm *vm, struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX]);

#endif
