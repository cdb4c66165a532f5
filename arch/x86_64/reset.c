// SPDX-License-Identifier: Apache-2.0
/*
 * Reset of vCPUs that ran: KVM has no call for it, so the state at power-on is read
 * from the vCPUs of a VM made for the purpose and written to ours. That way it is by
 * construction what a new VM would have had, on every host and kernel, and costs
 * nothing until somebody reboots.
 *
 * What is carried: registers, system registers, XCR0, FPU and XSAVE area, debug registers,
 * MSRs (all that KVM lists for saving), pending events, local APIC, run state; with --pit
 * also PIC, I/O APIC and PIT. What is not: the time stamp counter, which goes on
 * counting through a reset as far as Linux can tell.
 *
 * #syscalls: ioctl
 * #ioctls: KVM_GET_DEBUGREGS KVM_GET_IRQCHIP KVM_GET_LAPIC KVM_GET_MP_STATE KVM_GET_MSRS
 * #ioctls: KVM_GET_MSR_INDEX_LIST KVM_GET_PIT2 KVM_GET_REGS KVM_GET_SREGS KVM_GET_VCPU_EVENTS
 * #ioctls: KVM_GET_XCRS KVM_GET_XSAVE KVM_SET_DEBUGREGS KVM_SET_IRQCHIP KVM_SET_LAPIC
 * #ioctls: KVM_SET_MP_STATE KVM_SET_MSRS KVM_SET_PIT2 KVM_SET_REGS KVM_SET_SREGS
 * #ioctls: KVM_SET_VCPU_EVENTS KVM_SET_XCRS KVM_SET_XSAVE
 * #ioctls: KVM_CREATE_VM KVM_CREATE_VCPU KVM_SET_CPUID2
 * #ioctls: KVM_CREATE_IRQCHIP KVM_CREATE_PIT2 KVM_SET_IDENTITY_MAP_ADDR KVM_SET_TSS_ADDR
 * #ioctls: KVM_ENABLE_CAP
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/msr.h"

#define APIC_ID_REGISTER 0x20

/* A vCPU's state as far as KVM lets one see it. */
struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_xsave xsave;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_msrs *msrs; /* allocated */
};

/* Each ioctl of the state, in an order that suits both directions. */
static int transfer(struct kvm_vcpu *vcpu, struct vcpu_state *st, bool save)
{
	const struct {
		unsigned long get, set;
		void *data;
	} part[] = {
		{ KVM_GET_MP_STATE, KVM_SET_MP_STATE, &st->mp_state },
		{ KVM_GET_SREGS, KVM_SET_SREGS, &st->sregs },
		{ KVM_GET_REGS, KVM_SET_REGS, &st->regs },
		{ KVM_GET_XCRS, KVM_SET_XCRS, &st->xcrs },
		{ KVM_GET_XSAVE, KVM_SET_XSAVE, &st->xsave },
		{ KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, &st->debugregs },
		{ KVM_GET_LAPIC, KVM_SET_LAPIC, &st->lapic },
		{ KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, &st->events },
	};

	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		int r = kvm_ioctl(vcpu->fd, save ? part[i].get : part[i].set, part[i].data);

		if (r < 0)
			return r;
	}
	return 0;
}

struct kvm_msrs *vcpu_list_msrs(const struct kvm *kvm)
{
	struct kvm_msr_list head = { .nmsrs = 0 }, *list;
	struct kvm_msrs *msrs = NULL;

	if (kvm_ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &head) != -E2BIG)
		return NULL;
	list = calloc(1, sizeof(*list) + head.nmsrs * sizeof(list->indices[0]));
	if (list == NULL)
		return NULL;
	list->nmsrs = head.nmsrs;
	if (kvm_ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, list) == 0)
		msrs = calloc(1, sizeof(*msrs) + list->nmsrs * sizeof(msrs->entries[0]));
	if (msrs != NULL) {
		for (unsigned i = 0; i < list->nmsrs; i++) {
			if (list->indices[i] == MSR_IA32_TSC ||
			    list->indices[i] == MSR_IA32_TSC_ADJUST)
				continue;
			msrs->entries[msrs->nmsrs++].index = list->indices[i];
		}
	}
	free(list);
	return msrs;
}

/*
 * KVM stops at the first MSR it does not take (some are listed but need a feature the
 * CPUID lacks): leave that one out and go on behind it.
 */
static void transfer_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs, bool save)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[64];
	} part;
	unsigned kept = 0, i = 0;

	while (i < msrs->nmsrs) {
		unsigned n = msrs->nmsrs - i < 64 ? msrs->nmsrs - i : 64;
		int r;

		part.head = (struct kvm_msrs){ .nmsrs = n };
		memcpy(part.entry, &msrs->entries[i], n * sizeof(part.entry[0]));
		r = kvm_ioctl(vcpu->fd, save ? KVM_GET_MSRS : KVM_SET_MSRS, &part);
		if (r < 0)
			r = 0;
		if (save) {
			memmove(&msrs->entries[kept], part.entry,
				(size_t)r * sizeof(part.entry[0]));
			kept += (unsigned)r;
		}
		i += (unsigned)r < n ? (unsigned)r + 1 : (unsigned)r;
	}
	if (save)
		msrs->nmsrs = kept;
}

void vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	transfer_msrs(vcpu, msrs, true);
}

static int transfer_irqchip(const struct kvm *from, const struct kvm *to)
{
	struct kvm_pit_state2 pit;
	int r;

	for (unsigned id = KVM_IRQCHIP_PIC_MASTER; id <= KVM_IRQCHIP_IOAPIC; id++) {
		struct kvm_irqchip chip = { .chip_id = id };

		r = kvm_ioctl(from->vm_fd, KVM_GET_IRQCHIP, &chip);
		if (r == 0)
			r = kvm_ioctl(to->vm_fd, KVM_SET_IRQCHIP, &chip);
		if (r < 0)
			return r;
	}
	r = kvm_ioctl(from->vm_fd, KVM_GET_PIT2, &pit);
	return r < 0 ? r : kvm_ioctl(to->vm_fd, KVM_SET_PIT2, &pit);
}

/* A VM like ours as far as vCPUs can tell, with nothing in it. */
static int create_model(struct machine *m, struct kvm *model, struct err *err)
{
	if (kvm_create_vm(model, 0, err) < 0 || platform_create(model, m->cfg, err) < 0)
		return err_context(err, "reset: cannot make a second VM");
	return 0;
}

/* The power-on state of vCPU @index, from a new vCPU in @model. */
static int read_model(struct machine *m, struct kvm *model, unsigned index, struct vcpu_state *st,
		      struct err *err)
{
	struct kvm_vcpu vcpu = { .fd = -1 };
	int r;

	r = kvm_create_vcpu(model, cpu_apic_id(&m->cfg->cpus, index), &vcpu, err);
	if (r == 0)
		r = cpuid_set(m, index, &vcpu, err);
	if (r == 0) {
		r = transfer(&vcpu, st, true);
		if (r < 0)
			err_sys(err, -r, "reset: cannot read a new vCPU");
	}
	if (r == 0) {
		st->msrs = vcpu_list_msrs(&m->kvm);
		if (st->msrs != NULL)
			transfer_msrs(&vcpu, st->msrs, true);
		else
			r = err_set(err, ENOMEM, "reset: no memory for MSRs");
	}
	kvm_close_vcpu(model, &vcpu);
	return r;
}

static int write_vcpu(struct kvm_vcpu *vcpu, struct vcpu_state *st, struct err *err)
{
	uint32_t id = (vcpu->id & 0xff) << 24;
	int r;

	/* At power-on the local APIC is in xAPIC mode, its ID in the top byte. */
	memcpy(st->lapic.regs + APIC_ID_REGISTER, &id, sizeof(id));
	r = transfer(vcpu, st, false);
	if (r < 0)
		return err_sys(err, -r, "reset: vCPU %u", vcpu->id);
	transfer_msrs(vcpu, st->msrs, false);
	return 0;
}

int vcpu_reset_all(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, struct err *err)
{
	struct kvm model = { .fd = m->kvm.fd, .vm_fd = -1, .run_size = m->kvm.run_size };
	struct vcpu_state *st = calloc(2, sizeof(*st)); /* the first vCPU's, all others' */
	int r;

	if (st == NULL)
		return err_set(err, ENOMEM, "reset: no memory");
	r = create_model(m, &model, err);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		if (i < 2)
			r = read_model(m, &model, i, &st[i], err);
		if (r == 0)
			r = write_vcpu(vcpus[i], &st[i > 0], err);
	}
	if (r == 0 && m->arch->irqchip.in_kernel) {
		r = transfer_irqchip(&model, &m->kvm);
		if (r < 0)
			err_sys(err, -r, "reset: interrupt controllers");
	}
	if (model.vm_fd >= 0)
		close(model.vm_fd);
	free(st[0].msrs);
	free(st[1].msrs);
	free(st);
	return r;
}
