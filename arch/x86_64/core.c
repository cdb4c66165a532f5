// SPDX-License-Identifier: Apache-2.0
/*
 * What an ELF core of a guest says of its x86-64 processors, and where Linux has its memory.
 *
 * Registers: struct elf_prstatus of <sys/procfs.h>, as in the core of a process, and the note of
 * QEMU's `dump-guest-memory` (struct QEMUCPUState in QEMU's target/i386/arch_dump.c), by which
 * crash finds a kernel that was moved by KASLR.
 *
 * Address map: Documentation/arch/x86/x86_64/mm.rst. Linux maps all physical memory one to one
 * somewhere in the upper half (KASLR moves it by multiples of 1 GiB), and its image in the
 * 1 GiB at 0xffffffff80000000. Both are looked for in the page tables of a CPU (Intel SDM volume 3,
 * chapter 4), also when that runs user code with page table isolation, where the kernel's tables
 * are the page before the user's.
 *
 * Limits: 64-bit kernels. What is in neither map (vmalloc, modules) is for tools that walk page
 * tables themselves, as crash and drgn do.
 *
 * #syscalls: ioctl
 * #ioctls: KVM_GET_MSRS KVM_GET_REGS KVM_GET_SREGS
 */
#include <elf.h>
#include <string.h>
#include <sys/procfs.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/msr.h"

#define CR0_PG	    (1ULL << 31)
#define CR4_LA57    (1ULL << 12)
#define EFER_LMA    (1ULL << 10)
#define PTE_PRESENT (1ULL << 0)
#define PTE_LARGE   (1ULL << 7)
#define PTE_ADDR    0x000ffffffffff000ULL
#define PTI_USER    0x1000ULL /* in CR3 */

#define SIZE_2M	   (2ULL << 20)
#define SIZE_1G	   (1ULL << 30)
#define IMAGE_BASE 0xffffffff80000000ULL
#define IMAGE_GAP  (16ULL << 20) /* inside the image: memory that was given back after boot */

/* The guest can make page tables that look like any number of maps. */
#define CANDIDATES_MAX 65536

uint16_t arch_core_machine(void)
{
	return EM_X86_64;
}

/* --- Page tables --- */

struct tables {
	const struct gmem *mem;
	uint64_t root;
	unsigned levels;
};

/* Physical address of @va; false: nothing is there. */
static bool walk(const struct tables *t, uint64_t va, uint64_t *pa)
{
	uint64_t table = t->root;

	for (unsigned level = t->levels; level > 0; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t entry, mask = (1ULL << shift) - 1;

		if (gmem_read(t->mem, table + (va >> shift & 511) * 8, &entry, 8) < 0 ||
		    (entry & PTE_PRESENT) == 0)
			return false;
		if (level == 1 || (level <= 3 && (entry & PTE_LARGE) != 0)) {
			*pa = (entry & PTE_ADDR & ~mask) | (va & mask);
			return true;
		}
		table = entry & PTE_ADDR;
	}
	return false;
}

/* Is all of low RAM one to one from @va on, as far as three samples tell? */
static bool is_direct(const struct tables *t, uint64_t va)
{
	uint64_t top = gmem_top_below(t->mem, 4 * SIZE_1G), pa;
	const uint64_t samples[] = { 1 << 20, top / 2 & ~0xfffULL, top - 0x1000 };

	for (unsigned i = 0; i < 3; i++)
		if (!walk(t, va + samples[i], &pa) || pa != samples[i])
			return false;
	return true;
}

/* Go through what is mapped in the upper half, 1 GiB at a time. */
static bool find_direct(const struct tables *t, uint64_t table, unsigned level, uint64_t va,
			unsigned *left, uint64_t *found)
{
	unsigned shift = 12 + 9 * (level - 1);
	uint64_t entry[512];

	if (gmem_read(t->mem, table, entry, sizeof(entry)) < 0)
		return false;
	for (unsigned i = level == t->levels ? 256 : 0; i < 512; i++) {
		uint64_t at = va | (uint64_t)i << shift;

		if ((entry[i] & PTE_PRESENT) == 0)
			continue;
		if (*left == 0)
			return false;
		--*left;
		if (level > 3) {
			if (find_direct(t, entry[i] & PTE_ADDR, level - 1, at, left, found))
				return true;
		} else if (is_direct(t, at)) {
			*found = at;
			return true;
		}
	}
	return false;
}

/* The image: from the first page that is mapped, all that is as far from physical memory. */
static bool find_image(const struct tables *t, struct arch_core_map *map)
{
	uint64_t va = IMAGE_BASE, pa, last;

	while (!walk(t, va, &pa)) {
		va += SIZE_2M; /* it begins at a multiple of that */
		if (va >= IMAGE_BASE + SIZE_1G || va < IMAGE_BASE)
			return false;
	}
	map->image_va = last = va;
	map->image_pa = pa;
	for (; va < IMAGE_BASE + SIZE_1G && va >= IMAGE_BASE && va - last <= IMAGE_GAP;
	     va += 0x1000)
		if (walk(t, va, &pa) && pa - map->image_pa == va - map->image_va)
			last = va;
	map->image_size = last + 0x1000 - map->image_va;
	return true;
}

static bool find_map(const struct tables *t, struct arch_core_map *map)
{
	unsigned left = CANDIDATES_MAX;
	uint64_t upper = t->levels == 5 ? 0xfe00000000000000ULL : 0xffff000000000000ULL;

	map->has_image = find_image(t, map);
	map->has_direct =
		map->has_image && find_direct(t, t->root, t->levels, upper, &left, &map->direct);
	return map->has_image;
}

void arch_core_map(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n,
		   struct arch_core_map *map)
{
	*map = (struct arch_core_map){ 0 };
	for (unsigned i = 0; i < n; i++) {
		struct kvm_sregs s;
		struct tables t = { .mem = &m->mem };

		if (kvm_ioctl(vcpus[i]->fd, KVM_GET_SREGS, &s) < 0 || (s.cr0 & CR0_PG) == 0 ||
		    (s.efer & EFER_LMA) == 0)
			continue;
		t.levels = (s.cr4 & CR4_LA57) != 0 ? 5 : 4;
		t.root = s.cr3 & PTE_ADDR;
		if (find_map(&t, map) && map->has_direct)
			return;
		t.root &= ~PTI_USER;
		if (t.root != (s.cr3 & PTE_ADDR) && find_map(&t, map) && map->has_direct)
			return;
	}
}

/* --- Notes --- */

size_t arch_core_prstatus(struct kvm_vcpu *vcpu, unsigned index, uint8_t *to)
{
	struct elf_prstatus status = { 0 };
	struct kvm_regs r;
	struct kvm_sregs s;

	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return 0;
	{
		/* struct user_regs_struct */
		const uint64_t regs[] = {
			r.r15,	      r.r14,	     r.r13,	    r.r12,	   r.rbp,
			r.rbx,	      r.r11,	     r.r10,	    r.r9,	   r.r8,
			r.rax,	      r.rcx,	     r.rdx,	    r.rsi,	   r.rdi,
			(uint64_t)-1, /* orig_rax: in no system call */
			r.rip,	      s.cs.selector, r.rflags,	    r.rsp,	   s.ss.selector,
			s.fs.base,    s.gs.base,     s.ds.selector, s.es.selector, s.fs.selector,
			s.gs.selector
		};

		_Static_assert(sizeof(regs) == sizeof(status.pr_reg), "all registers");
		memcpy(&status.pr_reg, regs, sizeof(regs));
	}
	status.pr_pid = (pid_t)index + 1;
	memcpy(to, &status, sizeof(status));
	return sizeof(status);
}

struct qemu_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};

struct qemu_cpu {
	uint32_t version, size;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};

/* The flags are the upper half of the descriptor's second word. */
static struct qemu_segment qemu_segment(const struct kvm_segment *s)
{
	return (struct qemu_segment){
		.selector = s->selector,
		.limit = s->limit,
		.flags = (uint32_t)s->type << 8 | (uint32_t)s->s << 12 | (uint32_t)s->dpl << 13 |
			 (uint32_t)s->present << 15 | (uint32_t)s->avl << 20 |
			 (uint32_t)s->l << 21 | (uint32_t)s->db << 22 | (uint32_t)s->g << 23,
		.base = s->base,
	};
}

static uint64_t kernel_gs_base(struct kvm_vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry.index = MSR_KERNEL_GS_BASE };

	return kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msr) == 1 ? msr.entry.data : 0;
}

size_t arch_core_qemu(struct kvm_vcpu *vcpu, uint8_t *to)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	struct qemu_cpu q;

	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return 0;
	q = (struct qemu_cpu){
		.version = 1,
		.size = sizeof(q),
		.rax = r.rax,
		.rbx = r.rbx,
		.rcx = r.rcx,
		.rdx = r.rdx,
		.rsi = r.rsi,
		.rdi = r.rdi,
		.rsp = r.rsp,
		.rbp = r.rbp,
		.r8 = r.r8,
		.r9 = r.r9,
		.r10 = r.r10,
		.r11 = r.r11,
		.r12 = r.r12,
		.r13 = r.r13,
		.r14 = r.r14,
		.r15 = r.r15,
		.rip = r.rip,
		.rflags = r.rflags,
		.cs = qemu_segment(&s.cs),
		.ds = qemu_segment(&s.ds),
		.es = qemu_segment(&s.es),
		.fs = qemu_segment(&s.fs),
		.gs = qemu_segment(&s.gs),
		.ss = qemu_segment(&s.ss),
		.ldt = qemu_segment(&s.ldt),
		.tr = qemu_segment(&s.tr),
		.gdt = { .limit = s.gdt.limit, .base = s.gdt.base },
		.idt = { .limit = s.idt.limit, .base = s.idt.base },
		.cr = { s.cr0, 0, s.cr2, s.cr3, s.cr4 },
		.kernel_gs_base = kernel_gs_base(vcpu),
	};
	memcpy(to, &q, sizeof(q));
	return sizeof(q);
}
