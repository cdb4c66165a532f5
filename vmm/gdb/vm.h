/* SPDX-License-Identifier: Apache-2.0 */
/* The guest as gdb/session.c sees it. See gdb/vm.c. */
#ifndef VMM_GDB_VM_H
#define VMM_GDB_VM_H

#include "vmm/gdb/gdb.h"
#include "vmm/gdb/session.h"

#define GDB_SOFT_MAX 256

/* A breakpoint instruction in memory. */
struct gdb_soft {
	uint64_t addr, gpa;
	size_t len;
	uint8_t saved[ARCH_BREAK_INSN_MAX];
};

/* Something the processor watches for. */
struct gdb_hard {
	enum gdb_point kind;
	uint64_t addr, len;
};

struct gdb_cpu {
	bool step;
	bool hit; /* @stop is still to be told of */
	struct gdb_stop stop;
};

struct gdb_vm {
	struct gdb_target target;
	struct vcpus *cpus;
	struct gdb_host *host;
	/* The guest stopped. */
	void (*stopped)(struct gdb_vm *vm, const struct gdb_stop *stop);
	bool holds; /* it is stopped for the debugger */
	struct loop_work work;
	unsigned nsoft, nhard;
	struct gdb_soft soft[GDB_SOFT_MAX];
	struct gdb_hard hard[ARCH_POINTS_MAX];
	struct gdb_cpu *cpu; /* [cpus->n] */
};

/* 0 or -code. gdb_vm_fini() also after failure. */
int gdb_vm_init(struct gdb_vm *vm, struct vcpus *cpus, struct gdb_host *host,
		void (*stopped)(struct gdb_vm *vm, const struct gdb_stop *stop), struct err *err);
void gdb_vm_fini(struct gdb_vm *vm);
/* Stop it, if it runs, without telling anybody. */
void gdb_vm_hold(struct gdb_vm *vm);
void gdb_vm_lift(struct gdb_vm *vm);
void gdb_vm_reset(struct gdb_vm *vm);

#endif
