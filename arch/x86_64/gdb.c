// SPDX-License-Identifier: Apache-2.0
/*
 * What a debugger sees of an x86-64 processor, and how it stops it.
 *
 * Registers: GDB manual, "i386 Features"; the order here is that of the target description and
 * of the "g" packet. The feature vmm.system is ours: control registers, for `info registers` and
 * for people who look at page tables. Selectors and control registers can be read only: what
 * is behind a selector would not change with it.
 *
 * Debug registers: Intel SDM volume 3, 18.2. KVM has its own set for the debugger (api.rst,
 * KVM_SET_GUEST_DEBUG); the guest's own are not in force meanwhile. Exits for breakpoints leave RIP
 * at the instruction, those for watchpoints behind it.
 *
 * #syscalls: ioctl
 * #ioctls: KVM_GET_FPU KVM_GET_MSRS KVM_GET_REGS KVM_GET_SREGS KVM_NMI KVM_SET_FPU
 * #ioctls: KVM_SET_GUEST_DEBUG KVM_SET_REGS KVM_SET_SREGS KVM_TRANSLATE
 */
#include <errno.h>
#include <string.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/msr.h"

#define VECTOR_DB 1
#define VECTOR_BP 3

/* Positions in the table below. */
enum {
	R_RAX,
	R_RIP = 16,
	R_EFLAGS,
	R_CS,
	R_ST0 = R_CS + 6,
	R_FCTRL = R_ST0 + 8,
	R_XMM0 = R_FCTRL + 8,
	R_MXCSR = R_XMM0 + 16,
	R_FS_BASE,
	R_GS_BASE,
	R_KERNEL_GS_BASE,
	R_CR0,
	R_CR2,
	R_CR3,
	R_CR4,
	R_CR8,
	R_EFER,
	NREGS
};

#define REG(name, size, type) "<reg name=\"" name "\" bitsize=\"" #size "\" type=\"" type "\"/>"
#define REG64(name)	      REG(name, 64, "int64")
#define REG32(name)	      REG(name, 32, "int32")
#define FLOAT32(name)	      "<reg name=\"" name "\" bitsize=\"32\" type=\"int\" group=\"float\"/>"
#define SYSTEM(name)	      "<reg name=\"" name "\" bitsize=\"64\" type=\"int64\" group=\"system\"/>"

/* clang-format off */
static const char xml[] =
	"<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
	"<architecture>i386:x86-64</architecture>"
	"<feature name=\"org.gnu.gdb.i386.core\">"
	REG64("rax") REG64("rbx") REG64("rcx") REG64("rdx") REG64("rsi") REG64("rdi")
	REG("rbp", 64, "data_ptr") REG("rsp", 64, "data_ptr")
	REG64("r8") REG64("r9") REG64("r10") REG64("r11")
	REG64("r12") REG64("r13") REG64("r14") REG64("r15")
	REG("rip", 64, "code_ptr")
	"<flags id=\"eflags\" size=\"4\">"
	"<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
	"<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
	"<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
	"<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
	"<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
	"<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
	"<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
	"<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
	"<field name=\"ID\" start=\"21\" end=\"21\"/></flags>"
	REG("eflags", 32, "eflags")
	REG32("cs") REG32("ss") REG32("ds") REG32("es") REG32("fs") REG32("gs")
	REG("st0", 80, "i387_ext") REG("st1", 80, "i387_ext") REG("st2", 80, "i387_ext")
	REG("st3", 80, "i387_ext") REG("st4", 80, "i387_ext") REG("st5", 80, "i387_ext")
	REG("st6", 80, "i387_ext") REG("st7", 80, "i387_ext")
	FLOAT32("fctrl") FLOAT32("fstat") FLOAT32("ftag") FLOAT32("fiseg")
	FLOAT32("fioff") FLOAT32("foseg") FLOAT32("fooff") FLOAT32("fop")
	"</feature><feature name=\"org.gnu.gdb.i386.sse\">"
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
	"<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
	"<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
	"<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
	"<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
	"<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
	"<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
	REG("xmm0", 128, "vec128") REG("xmm1", 128, "vec128") REG("xmm2", 128, "vec128")
	REG("xmm3", 128, "vec128") REG("xmm4", 128, "vec128") REG("xmm5", 128, "vec128")
	REG("xmm6", 128, "vec128") REG("xmm7", 128, "vec128") REG("xmm8", 128, "vec128")
	REG("xmm9", 128, "vec128") REG("xmm10", 128, "vec128") REG("xmm11", 128, "vec128")
	REG("xmm12", 128, "vec128") REG("xmm13", 128, "vec128") REG("xmm14", 128, "vec128")
	REG("xmm15", 128, "vec128")
	"<reg name=\"mxcsr\" bitsize=\"32\" type=\"int32\" group=\"vector\"/>"
	"</feature><feature name=\"org.gnu.gdb.i386.segments\">"
	REG("fs_base", 64, "int") REG("gs_base", 64, "int")
	"</feature><feature name=\"vmm.system\">"
	SYSTEM("k_gs_base") SYSTEM("cr0") SYSTEM("cr2") SYSTEM("cr3") SYSTEM("cr4") SYSTEM("cr8")
	SYSTEM("efer")
	"</feature></target>";
/* clang-format on */

const char *arch_gdb_xml(void)
{
	return xml;
}

static size_t reg_size(unsigned n)
{
	if (n <= R_RIP || (n >= R_FS_BASE && n < NREGS))
		return 8;
	if (n < R_ST0 || (n >= R_FCTRL && n < R_XMM0) || n == R_MXCSR)
		return 4;
	return n < R_FCTRL ? 10 : 16;
}

size_t arch_gdb_reg(unsigned n, size_t *offset)
{
	*offset = 0;
	if (n >= NREGS)
		return 0;
	for (unsigned i = 0; i < n; i++)
		*offset += reg_size(i);
	return reg_size(n);
}

size_t arch_gdb_regs_size(void)
{
	size_t offset;

	return arch_gdb_reg(NREGS - 1, &offset) + offset;
}

/* --- Between KVM's structures and the bytes --- */

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	uint64_t kernel_gs_base;
};

static int get_state(struct kvm_vcpu *vcpu, struct state *s)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry.index = MSR_KERNEL_GS_BASE };
	int r = kvm_ioctl(vcpu->fd, KVM_GET_REGS, &s->regs);

	if (r >= 0)
		r = kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &s->sregs);
	if (r >= 0)
		r = kvm_ioctl(vcpu->fd, KVM_GET_FPU, &s->fpu);
	if (r >= 0)
		r = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msr);
	s->kernel_gs_base = r == 1 ? msr.entry.data : 0;
	return r < 0 ? r : 0;
}

/* Where each general register is, in the order of the description. */
static __u64 *general(struct kvm_regs *r, unsigned n)
{
	__u64 *const at[] = { &r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi,
			      &r->rbp, &r->rsp, &r->r8,	 &r->r9,  &r->r10, &r->r11,
			      &r->r12, &r->r13, &r->r14, &r->r15, &r->rip };

	return at[n];
}

/* The selectors, likewise. */
static struct kvm_segment *segment(struct kvm_sregs *s, unsigned n)
{
	struct kvm_segment *const at[] = { &s->cs, &s->ss, &s->ds, &s->es, &s->fs, &s->gs };

	return at[n];
}

/* The full tag word of an abridged one: a register is in use or empty. */
static uint32_t full_tags(uint8_t abridged)
{
	uint32_t tags = 0;

	for (unsigned i = 0; i < 8; i++)
		if ((abridged >> i & 1) == 0)
			tags |= 3U << 2 * i;
	return tags;
}

static uint8_t abridged_tags(uint32_t tags)
{
	uint8_t abridged = 0;

	for (unsigned i = 0; i < 8; i++)
		abridged |= (uint8_t)((tags >> 2 * i & 3) != 3) << i;
	return abridged;
}

/* A register as a number; not for those of more than 8 bytes. */
static uint64_t get_reg(struct state *s, unsigned n)
{
	if (n <= R_RIP)
		return *general(&s->regs, n);
	if (n >= R_CS && n < R_ST0)
		return segment(&s->sregs, n - R_CS)->selector;
	switch (n) {
	case R_EFLAGS:
		return s->regs.rflags;
	case R_FCTRL:
		return s->fpu.fcw;
	case R_FCTRL + 1:
		return s->fpu.fsw;
	case R_FCTRL + 2:
		return full_tags(s->fpu.ftwx);
	case R_FCTRL + 3:
		return s->fpu.last_ip >> 32 & 0xffff;
	case R_FCTRL + 4:
		return s->fpu.last_ip;
	case R_FCTRL + 5:
		return s->fpu.last_dp >> 32 & 0xffff;
	case R_FCTRL + 6:
		return s->fpu.last_dp;
	case R_FCTRL + 7:
		return s->fpu.last_opcode;
	case R_MXCSR:
		return s->fpu.mxcsr;
	case R_FS_BASE:
		return s->sregs.fs.base;
	case R_GS_BASE:
		return s->sregs.gs.base;
	case R_KERNEL_GS_BASE:
		return s->kernel_gs_base;
	case R_CR0:
		return s->sregs.cr0;
	case R_CR2:
		return s->sregs.cr2;
	case R_CR3:
		return s->sregs.cr3;
	case R_CR4:
		return s->sregs.cr4;
	case R_CR8:
		return s->sregs.cr8;
	default:
		return s->sregs.efer;
	}
}

/* False: it cannot be changed. */
static bool set_reg(struct state *s, unsigned n, uint64_t value)
{
	if (n <= R_RIP) {
		*general(&s->regs, n) = value;
		return true;
	}
	switch (n) {
	case R_EFLAGS:
		s->regs.rflags = (s->regs.rflags & ~0xffffffffULL) | value;
		return true;
	case R_FCTRL:
		s->fpu.fcw = (uint16_t)value;
		return true;
	case R_FCTRL + 1:
		s->fpu.fsw = (uint16_t)value;
		return true;
	case R_FCTRL + 2:
		s->fpu.ftwx = abridged_tags((uint32_t)value);
		return true;
	case R_MXCSR:
		s->fpu.mxcsr = (uint32_t)value;
		return true;
	case R_FS_BASE:
		s->sregs.fs.base = value;
		return true;
	case R_GS_BASE:
		s->sregs.gs.base = value;
		return true;
	default:
		return false;
	}
}

/* The two kinds that are longer. */
static uint8_t *long_reg(struct state *s, unsigned n)
{
	return n < R_FCTRL ? s->fpu.fpr[n - R_ST0] : s->fpu.xmm[n - R_XMM0];
}

int arch_gdb_read(struct kvm_vcpu *vcpu, uint8_t *regs)
{
	struct state s;
	int r = get_state(vcpu, &s);

	if (r < 0)
		return r;
	for (unsigned n = 0; n < NREGS; n++) {
		size_t size = reg_size(n);

		if (size > 8)
			memcpy(regs, long_reg(&s, n), size);
		else
			bus_put_le(regs, (unsigned)size, get_reg(&s, n));
		regs += size;
	}
	return 0;
}

/* Only what differs is set, so that what cannot be changed may be there. */
int arch_gdb_write(struct kvm_vcpu *vcpu, const uint8_t *regs)
{
	struct state s;
	bool general_too = false, special = false, fpu = false;
	int r = get_state(vcpu, &s);

	if (r < 0)
		return r;
	for (unsigned n = 0; n < NREGS; n++) {
		size_t size = reg_size(n);
		uint8_t now[8];

		if (size > 8) {
			if (memcmp(long_reg(&s, n), regs, size) != 0) {
				memcpy(long_reg(&s, n), regs, size);
				fpu = true;
			}
		} else {
			bus_put_le(now, (unsigned)size, get_reg(&s, n));
			if (memcmp(now, regs, size) != 0) {
				if (!set_reg(&s, n, bus_get_le(regs, (unsigned)size)))
					return -EPERM;
				general_too |= n <= R_EFLAGS;
				special |= n == R_FS_BASE || n == R_GS_BASE;
				fpu |= n >= R_FCTRL && n <= R_MXCSR;
			}
		}
		regs += size;
	}
	if (special)
		r = kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &s.sregs);
	if (r >= 0 && fpu)
		r = kvm_ioctl(vcpu->fd, KVM_SET_FPU, &s.fpu);
	if (r >= 0 && general_too)
		r = kvm_ioctl(vcpu->fd, KVM_SET_REGS, &s.regs);
	return r < 0 ? r : 0;
}

int arch_translate(struct kvm_vcpu *vcpu, uint64_t va, uint64_t *gpa)
{
	struct kvm_translation tr = { .linear_address = va };

	if (kvm_ioctl(vcpu->fd, KVM_TRANSLATE, &tr) < 0 || !tr.valid)
		return -EFAULT;
	*gpa = tr.physical_address;
	return 0;
}

int arch_nmi(struct kvm_vcpu *vcpu)
{
	return kvm_ioctl(vcpu->fd, KVM_NMI, NULL);
}

/* --- Stopping --- */

bool arch_point_possible(const struct arch_point *point)
{
	if (point->kind == ARCH_POINT_EXEC)
		return true; /* the length is that of the instruction */
	return (point->len == 1 || point->len == 2 || point->len == 4 || point->len == 8) &&
	       point->addr % point->len == 0;
}

size_t arch_break_insn(uint8_t insn[ARCH_BREAK_INSN_MAX])
{
	insn[0] = 0xcc; /* int3 */
	return 1;
}

/* DR7: enabled (globally), when, and how long. */
static uint64_t dr7_bits(const struct arch_point *p, unsigned i)
{
	uint64_t when = p->kind == ARCH_POINT_EXEC ? 0 : p->kind == ARCH_POINT_WRITE ? 1 : 3;
	uint64_t len = p->kind == ARCH_POINT_EXEC || p->len == 1 ? 0
		       : p->len == 2				 ? 1
		       : p->len == 8				 ? 2
								 : 3;

	return 2ULL << 2 * i | when << (16 + 4 * i) | len << (18 + 4 * i);
}

static void fill(struct machine *m, const struct arch_debug *debug, struct kvm_guest_debug *gd)
{
	*gd = (struct kvm_guest_debug){ 0 };
	if (!debug->on)
		return;
	gd->control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	if (debug->step) {
		gd->control |= KVM_GUESTDBG_SINGLESTEP;
		/* Or the step would lead into the handler of the next interrupt. */
		if ((kvm_cap(&m->kvm, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ) != 0)
			gd->control |= KVM_GUESTDBG_BLOCKIRQ;
	}
	if (debug->n == 0)
		return;
	gd->control |= KVM_GUESTDBG_USE_HW_BP;
	gd->arch.debugreg[7] = 0x600; /* GE, and a bit that is always 1 */
	for (unsigned i = 0; i < debug->n; i++) {
		gd->arch.debugreg[i] = debug->point[i].addr;
		gd->arch.debugreg[7] |= dr7_bits(&debug->point[i], i);
	}
}

int arch_set_debug(struct machine *m, struct kvm_vcpu *vcpu, const struct arch_debug *debug)
{
	struct kvm_guest_debug gd;

	fill(m, debug, &gd);
	return kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &gd);
}

enum arch_debug_event arch_debug_event(const struct kvm_debug_exit_arch *exit,
				       const struct arch_debug *debug, uint64_t *pc,
				       unsigned *index)
{
	*pc = exit->pc;
	if (exit->exception == VECTOR_BP)
		return ARCH_DEBUG_BREAK;
	for (unsigned i = 0; i < debug->n; i++) {
		/* Other bits may be set for points that are not enabled. */
		if ((exit->dr6 >> i & 1) != 0) {
			*index = i;
			return ARCH_DEBUG_POINT;
		}
	}
	if (debug->step)
		return ARCH_DEBUG_STEP;
	return ARCH_DEBUG_GUEST;
}

int arch_debug_pass(struct machine *m, struct kvm_vcpu *vcpu, const struct arch_debug *debug,
		    const struct kvm_debug_exit_arch *exit)
{
	struct kvm_guest_debug gd;

	fill(m, debug, &gd);
	gd.control |=
		exit->exception == VECTOR_BP ? KVM_GUESTDBG_INJECT_BP : KVM_GUESTDBG_INJECT_DB;
	return kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &gd);
}
