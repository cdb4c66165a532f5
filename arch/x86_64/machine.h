/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of arch/x86_64 share: the x86 part of a machine. */
#ifndef ARCH_X86_64_MACHINE_H
#define ARCH_X86_64_MACHINE_H

#include <pthread.h>
#include "arch/arch.h"
#include "devices/acpi_pm.h"
#include "devices/ioapic.h"
#include "devices/misc.h"
#include "devices/pci.h"
#include "devices/rtc.h"
#include "devices/virtio_mmio.h"
#include "devices/virtio_pci.h"

/* The interrupt controllers; see irqchip.c. */
struct irqchip {
	const struct kvm *kvm;
	bool in_kernel;	       /* PIC, I/O APIC and PIT in KVM (--pit) */
	struct ioapic *ioapic; /* else: ours, in front of KVM's local APICs */
	struct ioapic_output out;
	struct msi_chip msi;
	struct ioeventfd_chip ioeventfd;
	pthread_mutex_t lock; /* of routes; a leaf */
	struct kvm_routes routes;
	unsigned first_msi; /* routes from here on are for msi_chip.connect */
};

/* The virtio devices' transports; see virtio.c. */
struct machine_virtio {
	unsigned n;
	struct virtio_pci *pci[MACHINE_VIRTIO_MAX]; /* these or those */
	struct virtio_mmio *mmio[MACHINE_VIRTIO_MAX];
};

struct arch_machine {
	struct irqchip irqchip;
	struct rtc *rtc;
	struct acpi_pm *pm;
	struct pci_bus *pci;
	struct port_dev pvpanic;
	struct i8042 i8042;
	struct port_dev debugexit;
	struct boot_timer boottimer;
	struct machine_virtio virtio;
	struct kvm_cpuid2 *cpuid; /* the template all vCPUs start from */
	int kernel_fd, initrd_fd; /* kept for the next boot, when nothing can be opened; -1: none */
	uint8_t phys_bits;	  /* width of guest physical addresses */
	bool restored;		  /* @cpuid and @tsc_khz are those of a saved machine */
	uint32_t tsc_khz;	  /* of the guest; 0: KVM does not know */
	bool tsc_scaled;	  /* that is not the host's */
};

/* irqchip.c */
/* Inputs of the I/O APIC: IOAPIC_PINS, or more when devices need them. */
unsigned irqchip_pins(const struct machine_config *cfg);
/* KVM's part of the platform in a VM without vCPUs: ours, or reset.c's model of it. */
int platform_create(const struct kvm *kvm, const struct machine_config *cfg, struct err *err);
int irqchip_init(struct machine *m, struct err *err);
void irqchip_fini(struct irqchip *chip);
void irqchip_reset(struct irqchip *chip);
struct irq_line irqchip_line(struct irqchip *chip, uint32_t gsi);

/* virtio.c */
bool virtio_on_mmio(const struct machine_config *cfg);
int virtio_check_config(const struct machine_config *cfg, struct err *err);
void virtio_fini_all(struct machine *m);
void virtio_reset_all(struct machine *m);

/* cpuid.c */
int cpuid_init(struct machine *m, struct err *err);
/* The entry of @leaf and @index, or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index);
/* Remove what is there of @leaf, from sub-leaf @from on. */
void cpuid_drop_leaf(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t from);
/* Reduce what KVM supports to what @cfg leaves. -ENOTSUP: the host lacks part of the model. */
int cpu_model_apply(const struct cpu_model_config *cfg, struct kvm_cpuid2 *cpuid, struct err *err);
/* Add the TSC frequency, which KVM tells of a vCPU. Once, before the first cpuid_set(). */
void cpuid_set_clock(struct machine *m, struct kvm_vcpu *vcpu);
int cpuid_set(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct err *err);
/* APIC ID of vCPU @index in the topology of @cfg. */
uint32_t cpu_apic_id(const struct cpu_config *cfg, unsigned index);
/* Fill in what was left open; -EINVAL when sockets * cores * threads is not count. */
int cpu_topology(const struct cpu_config *cfg, struct cpu_config *full, struct err *err);

/*
 * Can this host give a guest what @saved says? Then it is what vCPUs get from here on. Errors name
 * what is missing.
 */
int cpuid_restore(struct machine *m, struct kvm_cpuid2 *saved, struct err *err);
#define CPUID_ENTRIES_MAX 256

/* virtio.c: each device with its transport. */
void virtio_state_all(struct machine *m, struct state *st);

/* reset.c: KVM's list of MSRs worth saving, with room for values; free() it. NULL: no memory. */
struct kvm_msrs *vcpu_list_msrs(const struct kvm *kvm);
/* Read their values; those that this vCPU has not are dropped. */
void vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs);

/* reset.c: everything KVM keeps of a vCPU, from a fresh one to one that ran. */
int vcpu_reset_all(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, struct err *err);

#endif
