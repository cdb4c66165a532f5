// SPDX-License-Identifier: Apache-2.0
/*
 * vCPUs: making them, and the state in which the first one enters a kernel.
 *
 * Entry states: the 64-bit boot protocol of Documentation/arch/x86/boot.rst (long mode,
 * identity-mapped, zero page in RSI) and the PVH protocol (docs/misc/pvh.pandoc in
 * Xen: 32-bit protected mode without paging, start info in EBX). All other vCPUs wait
 * for INIT and SIPI; KVM's local APIC handles those without us.
 *
 * #syscalls: ioctl
 * #ioctls: KVM_GET_MP_STATE KVM_GET_REGS KVM_GET_SREGS KVM_KVMCLOCK_CTRL
 * #ioctls: KVM_SET_MSRS KVM_SET_REGS KVM_SET_SREGS
 */
#include <errno.h>
#include <string.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"
#include "arch/x86_64/msr.h"

#define CR0_PE	 (1ULL << 0)
#define CR0_ET	 (1ULL << 4)
#define CR0_PG	 (1ULL << 31)
#define CR4_PAE	 (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)

#define PTE_PRESENT (1ULL << 0)
#define PTE_WRITE   (1ULL << 1)
#define PTE_LARGE   (1ULL << 7)

/* GDT entries as the boot protocol wants them: __BOOT_CS 0x10, __BOOT_DS 0x18. */
#define SEL_CODE 0x10
#define SEL_DATA 0x18
#define SEL_TSS	 0x20

/* How far two clocks may be apart and still be taken for the same: as NTP corrects, 500 ppm. */
#define TSC_TOLERANCE_PPM 500

/* The time stamp counter runs as fast as when the guest was saved. */
static int keep_tsc_khz(struct machine *m, struct kvm_vcpu *vcpu, struct err *err)
{
	uint32_t want = m->arch->tsc_khz;
	int khz = kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	uint64_t apart;

	if (want == 0 || khz <= 0)
		return 0;
	apart = (uint32_t)khz > want ? (uint32_t)khz - want : want - (uint32_t)khz;
	if (apart * 1000000 <= (uint64_t)want * TSC_TOLERANCE_PPM)
		return 0;
	if (kvm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)want) < 0)
		return err_set(
			err, ENOTSUP,
			"the guest's time stamp counter runs at %u kHz, this host's at %d, and "
			"its CPU cannot scale it",
			want, khz);
	m->arch->tsc_scaled = true;
	return 0;
}

int arch_create_vcpu(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct err *err)
{
	uint32_t id = cpu_apic_id(&m->cfg->cpus, index);

	if (kvm_create_vcpu(&m->kvm, id, vcpu, err) < 0)
		return -err->code;
	if (m->arch->restored) {
		if (keep_tsc_khz(m, vcpu, err) < 0)
			return -err->code;
	} else if (index == 0) {
		cpuid_set_clock(m, vcpu);
	}
	return cpuid_set(m, index, vcpu, err);
}

/* Map the first 4 GiB one to one, with 2 MiB pages: a PML4, a PDPT and four PDs. */
static int build_page_tables(struct gmem *mem)
{
	enum { PML4, PDPT, PD, PAGES = PD + 4 };
	uint64_t *table = gmem_wptr(mem, MAP_PAGE_TABLES, PAGES * GMEM_PAGE_SIZE);

	if (table == NULL)
		return -EFAULT;
	memset(table, 0, PD * GMEM_PAGE_SIZE);
	table[PML4 * 512] = (MAP_PAGE_TABLES + PDPT * GMEM_PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
	for (unsigned i = 0; i < 4; i++)
		table[PDPT * 512 + i] =
			(MAP_PAGE_TABLES + (PD + i) * GMEM_PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
	for (uint64_t i = 0; i < 4 * 512; i++)
		table[PD * 512 + i] = i << 21 | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	return 0;
}

static struct kvm_segment code_segment(bool long_mode)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = SEL_CODE,
		.type = 0xb,
		.present = 1,
		.dpl = 0,
		.db = !long_mode,
		.s = 1,
		.l = long_mode,
		.g = 1,
	};
}

static struct kvm_segment data_segment(void)
{
	return (struct kvm_segment){
		.base = 0,
		.limit = 0xffffffff,
		.selector = SEL_DATA,
		.type = 0x3,
		.present = 1,
		.dpl = 0,
		.db = 1,
		.s = 1,
		.g = 1,
	};
}

/* The GDT in memory that matches the segment registers, for guests that reload them. */
static int build_gdt(struct gmem *mem, bool long_mode)
{
	uint64_t gdt[] = {
		0,
		0,
		long_mode ? 0x00af9b000000ffff : 0x00cf9b000000ffff, /* SEL_CODE */
		0x00cf93000000ffff,				     /* SEL_DATA */
		0x00008b0000000067,
		0, /* SEL_TSS */
	};

	return gmem_write(mem, MAP_GDT, gdt, sizeof(gdt));
}

static int set_msrs(struct kvm_vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {
		.head.nmsrs = 2,
		.entry = {
			{ .index = MSR_IA32_MISC_ENABLE,
			  .data = MISC_ENABLE_FAST_STRING },
			{ .index = MSR_MTRRdefType, .data = MTRR_ENABLE | MTRR_WRITE_BACK },
		},
	};
	int r = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);

	return r < 0 ? r : r != 2 ? -EINVAL : 0;
}

static int set_registers(struct machine *m, struct kvm_vcpu *vcpu)
{
	bool long_mode = m->boot.kind == KERNEL_ENTRY_LINUX64;
	struct kvm_regs regs = { .rip = m->boot.pc, .rflags = 2 };
	struct kvm_sregs sregs;
	int r;

	r = kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
	if (r < 0)
		return r;
	sregs.cs = code_segment(long_mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data_segment();
	sregs.tr = (struct kvm_segment){
		.limit = 0x67,
		.selector = SEL_TSS,
		.type = 0xb,
		.present = 1,
	};
	sregs.gdt.base = MAP_GDT;
	sregs.gdt.limit = 6 * 8 - 1;
	sregs.cr0 = CR0_PE | CR0_ET;
	if (long_mode) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = MAP_PAGE_TABLES;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
		regs.rsi = m->boot.arg;
	} else {
		sregs.cr4 = 0;
		regs.rbx = m->boot.arg;
	}
	r = kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
	return r < 0 ? r : kvm_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

int arch_boot_vcpu(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct err *err)
{
	bool long_mode = m->boot.kind == KERNEL_ENTRY_LINUX64;
	int r;

	r = set_msrs(vcpu);
	if (r < 0)
		return err_sys(err, -r, "vCPU %u: cannot set MSRs", index);
	if (index != 0)
		return 0;
	if (build_gdt(&m->mem, long_mode) < 0 || (long_mode && build_page_tables(&m->mem) < 0))
		return err_set(err, EFAULT, "no RAM for the boot page tables");
	r = set_registers(m, vcpu);
	if (r < 0)
		return err_sys(err, -r, "vCPU %u: cannot set registers", index);
	return 0;
}

/* api.rst, KVM_KVMCLOCK_CTRL. EINVAL: the guest does not use the KVM clock. */
void arch_tell_paused(struct kvm_vcpu *vcpu)
{
	(void)kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
}

enum vcpu_activity arch_vcpu_activity(struct kvm_vcpu *vcpu)
{
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0 ||
	    kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0 ||
	    kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0)
		return VCPU_KERNEL;
	if (mp.mp_state == KVM_MP_STATE_HALTED)
		return (regs.rflags & (1 << 9)) != 0 ? VCPU_IDLE : VCPU_OFF;
	if (mp.mp_state != KVM_MP_STATE_RUNNABLE)
		return VCPU_OFF;
	return sregs.ss.dpl == 3 ? VCPU_USER : VCPU_KERNEL;
}
