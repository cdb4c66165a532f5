/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM API, one thin function per ioctl that more than one place uses.
 * See Documentation/virt/kvm/api.rst in the kernel's sources; names follow it.
 *
 * Everything here is the same on all architectures.
 */
#ifndef VMM_BASE_KVM_H
#define VMM_BASE_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"

struct kvm {
	int fd;		 /* /dev/kvm, -1 when closed */
	int vm_fd;	 /* KVM_CREATE_VM, -1 when none */
	size_t run_size; /* bytes of a vCPU's shared structure */
};

struct kvm_vcpu {
	int fd;		     /* -1 when none */
	unsigned id;	     /* KVM's vcpu_id: the APIC ID on x86 */
	struct kvm_run *run; /* NULL when not mapped */
};

/* Open @path ("/dev/kvm") and check the API version. Sentences say how to mend it. */
int kvm_open(struct kvm *kvm, const char *path, struct err *err);
/* Make the VM of machine type @type (0 on x86). */
int kvm_create_vm(struct kvm *kvm, unsigned long type, struct err *err);
/* Close everything; harmless on what was never opened. */
void kvm_close(struct kvm *kvm);

/* KVM_CHECK_EXTENSION on the VM if there is one, else the system; 0 when absent. */
int kvm_cap(const struct kvm *kvm, long cap);
/* KVM_ENABLE_CAP on the VM with up to two arguments. 0 or -errno. */
int kvm_enable_cap(const struct kvm *kvm, unsigned cap, uint64_t arg0, uint64_t arg1);

/* Map @size bytes at @host to @gpa in @slot; size 0 removes the slot. 0 or -errno. */
int kvm_set_memory(const struct kvm *kvm, unsigned slot, uint32_t flags, uint64_t gpa,
		   uint64_t size, void *host);

int kvm_create_vcpu(struct kvm *kvm, unsigned id, struct kvm_vcpu *vcpu, struct err *err);
void kvm_close_vcpu(const struct kvm *kvm, struct kvm_vcpu *vcpu);

/* ioctl on a vCPU or VM that restarts on EINTR; 0/positive or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* Let a write of @len bytes (0: any) at PIO/MMIO @addr signal @fd instead of exiting. */
int kvm_ioeventfd(const struct kvm *kvm, int fd, uint64_t addr, unsigned len, bool pio,
		  const uint64_t *match, bool assign);
/* Let @fd, when signalled, raise @gsi. */
int kvm_irqfd(const struct kvm *kvm, int fd, uint32_t gsi, bool assign);
/* Inject one message-signalled interrupt now. */
int kvm_signal_msi(const struct kvm *kvm, uint64_t addr, uint32_t data);

/*
 * GSI routing: KVM takes the table as a whole, so it is kept here. A route is set or
 * cleared in memory and handed over by kvm_routes_commit(). Not locked: callers hold
 * the interrupt controller's mutex.
 */
#define KVM_ROUTES_MAX 1024

struct kvm_routes {
	unsigned n;			     /* highest used + 1 */
	struct kvm_irq_routing_entry *entry; /* KVM_ROUTES_MAX, .type 0: free */
};

int kvm_routes_init(struct kvm_routes *routes, struct err *err);
void kvm_routes_fini(struct kvm_routes *routes);
void kvm_routes_set_msi(struct kvm_routes *routes, uint32_t gsi, uint64_t addr, uint32_t data);
void kvm_routes_set_irqchip(struct kvm_routes *routes, uint32_t gsi, unsigned chip, unsigned pin);
void kvm_routes_clear(struct kvm_routes *routes, uint32_t gsi);
int kvm_routes_commit(const struct kvm *kvm, const struct kvm_routes *routes);

#endif
