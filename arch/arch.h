/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine, and the hooks each architecture implements.
 *
 * `struct machine` is the hardware of one VM: KVM's side of it, its memory, its buses
 * and the devices on them. The monitor (vmm/) decides when things happen, the
 * architecture (arch/<isa>/) what they are. There is no table of function pointers:
 * one implementation is linked in, and a missing hook is a link error.
 */
#ifndef ARCH_ARCH_H
#define ARCH_ARCH_H

#include <stdbool.h>
#include <stdint.h>
#include "devices/bus.h"
#include "devices/irq.h"
#include "devices/misc.h"
#include "devices/serial.h"
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"
#include "vmm/base/kvm.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

#define MACHINE_CPUS_MAX   255
#define MACHINE_VIRTIO_MAX 64

/* How the CPUs are arranged; 0 in a field: whatever the others leave. */
struct cpu_config {
	uint64_t count, sockets, cores, threads;
	uint64_t share; /* what was asked for, in thousandths: @count is that or the next whole
			   number */
};

/* Which features vCPUs show: a model, less those in @without, names parted by '+' (or NULL). */
struct cpu_model_config {
	int model; /* index into arch_cpu_model_names; 0: all that the host has */
	char *without;
};
extern const char *const arch_cpu_model_names[]; /* ends with NULL */

/* Are the names known? -EINVAL otherwise. */
int cpu_model_check(const struct cpu_model_config *cfg, struct err *err);

/* What virtio devices are attached by. AUTO: what the rest of the machine suggests. */
enum machine_transport { TRANSPORT_AUTO, TRANSPORT_PCI, TRANSPORT_MMIO };

/* What the user asked the hardware to be. Strings are borrowed. */
struct machine_config {
	char *kernel, *initrd, *cmdline;
	int initrd_fd; /* instead of @initrd when it is above 0 */
	int entry;     /* the architecture's enum kernel_entry */
	struct gmem_config mem;
	struct cpu_config cpus;
	struct cpu_model_config cpu;
	bool acpi;	  /* describe the machine by ACPI tables */
	bool pit;	  /* x86: legacy interrupt controllers and timer */
	bool serial;	  /* there is a serial port */
	bool debug_exit;  /* x86: port that ends the VM with a status */
	bool boot_timer;  /* a place in memory where the guest says that it has booted */
	int transport;	  /* enum machine_transport */
	unsigned nvirtio; /* arch_add_virtio() will be called that often, at most */
};

/* Where the first vCPU starts; filled by arch_load(). */
struct boot_entry {
	int kind; /* the architecture's enum kernel_entry */
	uint64_t pc;
	uint64_t arg; /* address of the boot parameters */
};

struct arch_machine;
struct virtio_device;

struct machine {
	const struct machine_config *cfg;
	struct loop *loop;	       /* serves the devices made here */
	struct machine_events *events; /* where devices report to */
	struct boot_time begun;	       /* when this was; with cfg->boot_timer only */
	struct chardev_back *console;  /* the host's end of the serial port */
	struct kvm kvm;
	struct gmem mem;
	struct bus mmio, pio;  /* pio: x86 only */
	struct serial *serial; /* NULL when there is none */
	struct boot_entry boot;
	struct arch_machine *arch; /* the architecture's own */
};

/* Can this host run guests at native speed? If not, *why is one sentence. */
bool arch_host_native(const char **why);

/* Check what of the configuration only the architecture knows. */
int arch_check_config(const struct machine_config *cfg, struct err *err);

/*
 * What `uname -r` will say in the kernel image @path; "" when it cannot be told. An error when
 * the file cannot be opened.
 */
int arch_kernel_release(const char *path, char *release, size_t size, struct err *err);

/* Lay out RAM: add the regions of the address map to m->mem and hand them to KVM. */
int arch_init_memory(struct machine *m, struct err *err);

/* Make the interrupt controllers and the platform's devices, and put them on the buses. */
int arch_init_devices(struct machine *m, struct err *err);

/*
 * Attach @vdev (borrowed until arch_fini) by the machine's transport, with an interrupt of its
 * own. After arch_init_devices, before arch_load. -ENOSPC beyond cfg->nvirtio.
 */
int arch_add_virtio(struct machine *m, struct virtio_device *vdev, struct err *err);

/*
 * Let the first @size bytes (whole pages) of file @fd, borrowed until gmem_fini(), appear in the
 * guest's memory above RAM, not told to it as RAM; *gpa says where, a multiple of 1 GiB. A guest's
 * writes to it when it is @ro end in arch_handle_exit() or as MMIO. After arch_init_devices,
 * before arch_load.
 */
int arch_add_memory(struct machine *m, int fd, uint64_t size, bool ro, uint64_t *gpa,
		    struct err *err);

/*
 * Put kernel, initrd and the tables describing the machine into RAM; fill m->boot. @again: the
 * machine has run, and nothing is opened any more.
 */
int arch_load(struct machine *m, bool again, struct err *err);

/* Make vCPU @index, with features and identity set; it does not run yet. */
int arch_create_vcpu(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct err *err);

/* Set vCPU @index up to start (the first) or to wait for being started (others). */
int arch_boot_vcpu(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct err *err);

/* Bring all @n stopped vCPUs and the devices, virtio ones included, back to their state at
 * power-on. */
int arch_reset(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, struct err *err);

/*
 * Everything arch_init_* made, and the transports; virtio devices are destroyed after it.
 * Harmless when they failed or never ran.
 */
void arch_fini(struct machine *m);

/* An exit that is not the same on all architectures. True: handled, run on. */
bool arch_handle_exit(struct machine *m, struct kvm_vcpu *vcpu);

/* Press the power button. */
void arch_power_button(struct machine *m);

/* Print a stopped vCPU's registers and the bytes at its program counter, for a person. */
void arch_dump_vcpu(struct machine *m, struct kvm_vcpu *vcpu);

/* What a vCPU is doing; for telling a dead guest from an idle one. */
enum vcpu_activity {
	VCPU_USER,   /* runs user code */
	VCPU_KERNEL, /* runs kernel code */
	VCPU_IDLE,   /* halted, an interrupt wakes it */
	VCPU_OFF,    /* halted with interrupts off, or never started */
};

/* Called on the vCPU's own thread, or while it is stopped. */
enum vcpu_activity arch_vcpu_activity(struct kvm_vcpu *vcpu);

/* Raise a non-maskable interrupt on a stopped vCPU; it is taken when it runs on. 0 or -errno. */
int arch_nmi(struct kvm_vcpu *vcpu);

/*
 * @vcpu was stopped for longer than its guest can know of: tell it before it runs on, so that its
 * watchdogs do not take it for a hang.
 */
void arch_tell_paused(struct kvm_vcpu *vcpu);

/*
 * Snapshots: state.c of the architecture. Each function saves or loads one section of @st, and the
 * first error sticks there; vCPUs and devices are stopped. To be loaded in this order, and instead
 * of arch_load() and arch_boot_vcpu():
 *
 *	arch_cpu_state		what the CPUs are; after arch_init_devices, before there are vCPUs
 *	arch_clock_state	all clocks; with @frozen they go on where they were when saved, else
 *				the time since then has passed
 *	arch_vcpu_state		each vCPU
 *	arch_device_state	interrupt controllers, platform devices, virtio devices with their
 *				transports
 *
 * The state may lie: what KVM refuses is an error, what it takes is the guest's own trouble.
 */
int arch_cpu_state(struct machine *m, struct state *st);
int arch_clock_state(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, bool frozen,
		     struct state *st);
int arch_vcpu_state(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct state *st);
int arch_device_state(struct machine *m, struct state *st);

/*
 * This VM is not the one that was saved, or not the only one that goes on from there: give it a
 * new generation id, and tell the guest. After loading.
 */
int arch_new_generation(struct machine *m, struct err *err);

/*
 * Debugging: gdb.c of the architecture. All of it with the vCPU stopped.
 */

/* GDB's target description, and the registers in the order and with the sizes it gives. */
const char *arch_gdb_xml(void);
size_t arch_gdb_regs_size(void);
/* Bytes of register @n and where it is among all; 0: there is none. */
size_t arch_gdb_reg(unsigned n, size_t *offset);
/* All registers, arch_gdb_regs_size() bytes. 0 or -errno: -EPERM for what cannot be changed. */
int arch_gdb_read(struct kvm_vcpu *vcpu, uint8_t *regs);
int arch_gdb_write(struct kvm_vcpu *vcpu, const uint8_t *regs);

/* What is at guest virtual address @va, as the vCPU sees it. 0 or -EFAULT. */
int arch_translate(struct kvm_vcpu *vcpu, uint64_t va, uint64_t *gpa);

#define ARCH_POINTS_MAX	    4
#define ARCH_BREAK_INSN_MAX 4

/* What the processor itself watches for. */
enum arch_point_kind { ARCH_POINT_EXEC, ARCH_POINT_WRITE, ARCH_POINT_READ, ARCH_POINT_ACCESS };

struct arch_point {
	enum arch_point_kind kind;
	uint64_t addr, len;
};

struct arch_debug {
	bool on;   /* breakpoint instructions and points stop it */
	bool step; /* so does the next instruction */
	unsigned n;
	struct arch_point point[ARCH_POINTS_MAX];
};

/* Can the processor do this one? */
bool arch_point_possible(const struct arch_point *point);
/* The breakpoint instruction; returns its length. */
size_t arch_break_insn(uint8_t insn[ARCH_BREAK_INSN_MAX]);
/* Set up what stops @vcpu when it runs on. 0 or -errno. */
int arch_set_debug(struct machine *m, struct kvm_vcpu *vcpu, const struct arch_debug *debug);

enum arch_debug_event {
	ARCH_DEBUG_STEP,
	ARCH_DEBUG_BREAK, /* a breakpoint instruction, ours or the guest's own, at *pc */
	ARCH_DEBUG_POINT, /* debug->point[*index] */
	ARCH_DEBUG_GUEST, /* none of our business */
};

/* What KVM_EXIT_DEBUG meant, with @debug in force. */
enum arch_debug_event arch_debug_event(const struct kvm_debug_exit_arch *exit,
				       const struct arch_debug *debug, uint64_t *pc,
				       unsigned *index);
/* It was for the guest: let it have it when it runs on. After arch_set_debug(). 0 or -errno. */
int arch_debug_pass(struct machine *m, struct kvm_vcpu *vcpu, const struct arch_debug *debug,
		    const struct kvm_debug_exit_arch *exit);

/*
 * Core dumps: core.c of the architecture.
 */

#define ARCH_CORE_NOTE_MAX 1024

/* Where the kernel has physical memory, as its page tables say. */
struct arch_core_map {
	bool has_direct, has_image;
	uint64_t direct;	     /* physical address 0 of the direct map */
	uint64_t image_va, image_pa; /* the kernel's image */
	uint64_t image_size;
};

/* The ELF machine number. */
uint16_t arch_core_machine(void);
/* Find what there is in the page tables of the @n stopped vCPUs. The guest made them: no trust. */
void arch_core_map(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n,
		   struct arch_core_map *map);
/*
 * The contents of vCPU @index's ELF notes: NT_PRSTATUS, and the one of QEMU's that has the system
 * registers. Bytes written to @to, which has ARCH_CORE_NOTE_MAX; 0: KVM does not tell.
 */
size_t arch_core_prstatus(struct kvm_vcpu *vcpu, unsigned index, uint8_t *to);
size_t arch_core_qemu(struct kvm_vcpu *vcpu, uint8_t *to);

#endif
