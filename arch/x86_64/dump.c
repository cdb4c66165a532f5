// SPDX-License-Identifier: Apache-2.0
/*
 * A stopped vCPU for people: registers, the bytes at RIP, and why KVM gave up.
 *
 * #syscalls: ioctl
 * #ioctls: KVM_GET_REGS KVM_GET_SREGS KVM_TRANSLATE
 */
#include <stdio.h>
#include "arch/x86_64/machine.h"
#include "vmm/base/log.h"

#define ull(x) ((unsigned long long)(x))

static const char *mode_name(const struct kvm_sregs *s)
{
	if ((s->cr0 & 1) == 0)
		return "real mode";
	if ((s->efer & (1 << 10)) != 0)
		return s->cs.l ? "64-bit mode" : "compatibility mode";
	return s->cs.db ? "32-bit protected mode" : "16-bit protected mode";
}

/* Up to 15 bytes at the instruction pointer, as far as they are in RAM. */
static void dump_code(struct machine *m, struct kvm_vcpu *vcpu, uint64_t linear)
{
	char text[3 * 16 + 1] = "";
	unsigned n = 0;

	for (unsigned i = 0; i < 15; i++) {
		struct kvm_translation tr = { .linear_address = linear + i };
		const uint8_t *byte;

		if (kvm_ioctl(vcpu->fd, KVM_TRANSLATE, &tr) < 0 || !tr.valid)
			break;
		byte = gmem_ptr(&m->mem, tr.physical_address, 1);
		if (byte == NULL)
			break;
		n += (unsigned)snprintf(text + n, sizeof(text) - n, " %02x", *byte);
	}
	log_error("  code at %#llx:%s", ull(linear), n > 0 ? text : " not in RAM");
}

static void explain_internal_error(struct kvm_run *run)
{
	const char *why;

	switch (run->internal.suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		log_error("KVM could not emulate the instruction below");
		if (!arch_host_native(&why))
			log_error("this is to be expected: %s", why);
		else
			log_error("most likely the guest jumped to garbage, or ran code from a "
				  "device's memory");
		break;
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		log_error("KVM met an exception while delivering another: a bug in KVM or "
			  "broken guest page tables");
		break;
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		log_error("KVM could not deliver an event: the guest's interrupt table or stack "
			  "is most likely in a device's memory");
		break;
	default:
		log_error("KVM internal error %u", run->internal.suberror);
		break;
	}
}

void arch_dump_vcpu(struct machine *m, struct kvm_vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (vcpu->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		explain_internal_error(vcpu->run);
	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return;
	log_error("vCPU %u was in %s, privilege level %u:", vcpu->id, mode_name(&s), s.ss.dpl);
	log_error("  rip %016llx rsp %016llx rflags %08llx", ull(r.rip), ull(r.rsp), ull(r.rflags));
	log_error("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", ull(r.rax), ull(r.rbx),
		  ull(r.rcx), ull(r.rdx));
	log_error("  rsi %016llx rdi %016llx rbp %016llx", ull(r.rsi), ull(r.rdi), ull(r.rbp));
	log_error("  r8  %016llx r9  %016llx r10 %016llx r11 %016llx", ull(r.r8), ull(r.r9),
		  ull(r.r10), ull(r.r11));
	log_error("  r12 %016llx r13 %016llx r14 %016llx r15 %016llx", ull(r.r12), ull(r.r13),
		  ull(r.r14), ull(r.r15));
	log_error("  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %04llx", ull(s.cr0),
		  ull(s.cr2), ull(s.cr3), ull(s.cr4), ull(s.efer));
	log_error("  cs %04x base %llx ss %04x base %llx gdt %llx/%x idt %llx/%x", s.cs.selector,
		  ull(s.cs.base), s.ss.selector, ull(s.ss.base), ull(s.gdt.base), s.gdt.limit,
		  ull(s.idt.base), s.idt.limit);
	dump_code(m, vcpu, s.cs.l ? r.rip : s.cs.base + r.rip);
}
