/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM's life: built from a configuration, run to its end, taken down.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include "vmm/base/err.h"
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

/*
 * Build everything, up to the point where the guest could run: the recipe in vm.c. NULL
 * with @err filled, and nothing left behind, when any step fails. @cfg is borrowed.
 */
struct vm *vm_build(const struct vm_config *cfg, struct err *err);
/* Run the guest until it ends; returns the program's exit status. Once. */
int vm_run(struct vm *vm);
/* Take everything down, in the reverse order of building. */
void vm_free(struct vm *vm);

/* For crash handlers: put the terminal back. Async-signal-safe; @vm may be NULL. */
void vm_restore_terminal(struct vm *vm);

#endif
