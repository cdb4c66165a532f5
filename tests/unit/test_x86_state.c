// SPDX-License-Identifier: Apache-2.0
/*
 * The x86 machine as a saved state, on a real KVM: what was set in one machine is there in another
 * that loaded it, and what KVM or this host cannot take is refused by name. Exit status 77 where
 * there is no KVM.
 */
#include <asm/kvm.h>
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"
#include "arch/x86_64/msr.h"
#include "tests/unit/state_seal.h"
#include "tests/unit/test_run.h"

#define SKIPPED	  77
#define NCPUS	  2
#define LAPIC_TPR 0x80
#define LAPIC_IRR 0x200
#define MSR_STAR  0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_PAT	  0x277

struct one {
	struct machine m;
	struct kvm_vcpu vcpu[NCPUS], *vcpus[NCPUS];
};

static struct machine_config cfg;
static struct machine_events events;
static struct one a, b;
static struct err err;

static void report(struct machine_events *e, enum machine_event event, uint32_t arg)
{
	(void)e;
	(void)event;
	(void)arg;
}

static void machine_up(struct one *one)
{
	struct machine *m = &one->m;

	*m = (struct machine){ .cfg = &cfg, .events = &events, .kvm = { .fd = -1, .vm_fd = -1 } };
	m->loop = loop_new(&err);
	bus_init(&m->mmio);
	bus_init(&m->pio);
	ck_assert_msg(kvm_open(&m->kvm, "/dev/kvm", &err) == 0, "%s", err.msg);
	ck_assert_msg(kvm_create_vm(&m->kvm, 0, &err) == 0, "%s", err.msg);
	ck_assert_msg(gmem_init(&m->mem, &cfg.mem, &err) == 0, "%s", err.msg);
	ck_assert_msg(arch_init_memory(m, &err) == 0, "%s", err.msg);
	ck_assert_msg(arch_init_devices(m, &err) == 0, "%s", err.msg);
}

static void cpus_up(struct one *one)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		one->vcpu[i] = (struct kvm_vcpu){ .fd = -1 };
		one->vcpus[i] = &one->vcpu[i];
		ck_assert_msg(arch_create_vcpu(&one->m, i, &one->vcpu[i], &err) == 0, "%s",
			      err.msg);
	}
}

static void machine_down(struct one *one)
{
	for (unsigned i = 0; i < NCPUS; i++)
		kvm_close_vcpu(&one->m.kvm, &one->vcpu[i]);
	arch_fini(&one->m);
	gmem_fini(&one->m.mem);
	kvm_close(&one->m.kvm);
	bus_fini(&one->m.pio);
	bus_fini(&one->m.mmio);
	loop_free(one->m.loop);
}

static void setup(void)
{
	cfg = (struct machine_config){ .acpi = true, .mem.size = 4 << 20, .cpus.count = NCPUS };
	events.report = report;
	err = (struct err)ERR_INIT;
	machine_up(&a);
	cpus_up(&a);
	machine_up(&b);
}

static void teardown(void)
{
	machine_down(&a);
	machine_down(&b);
}

static void all_state(struct one *one, struct state *st)
{
	arch_cpu_state(&one->m, st);
	if (state_loading(st) && state_ok(st))
		cpus_up(one);
	arch_clock_state(&one->m, one->vcpus, NCPUS, true, st);
	for (unsigned i = 0; i < NCPUS; i++)
		arch_vcpu_state(&one->m, i, &one->vcpu[i], st);
	arch_device_state(&one->m, st);
}

/* The saved bytes, malloc'ed. */
static void *save(struct one *one, size_t *len)
{
	struct state *st = state_new_save();
	const void *data;
	void *copy;

	all_state(one, st);
	ck_assert_msg(state_finish(st, &data, len, &err) == 0, "%s", err.msg);
	copy = malloc(*len);
	memcpy(copy, data, *len);
	state_free(st);
	return copy;
}

static int load(struct one *one, const void *data, size_t len)
{
	struct state *st = state_new_load(data, len, &err);
	int r;

	ck_assert_msg(st != NULL, "%s", err.msg);
	all_state(one, st);
	r = state_finish(st, NULL, NULL, &err);
	state_free(st);
	return r;
}

static void msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value, bool set)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = index, .data = *value } };

	ck_assert_int_eq(kvm_ioctl(vcpu->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &msrs), 1);
	*value = msrs.entry.data;
}

static void check_msr(uint32_t index, uint64_t expected)
{
	uint64_t value = 0;

	msr(&b.vcpu[0], index, &value, false);
	ck_assert_uint_eq(value, expected);
}

#define DO(vcpu, what, data) ck_assert_int_eq(kvm_ioctl((vcpu)->fd, what, data), 0)

START_TEST(registers_are_carried)
{
	struct kvm_regs regs, back;
	struct kvm_sregs sregs, sregs_back;
	struct kvm_debugregs dr = { .db = { 0x1000, 0x2000, 0x3000, 0x4000 },
				    .dr6 = 0xffff0ff0,
				    .dr7 = 0x400 },
			     dr_back;
	struct kvm_vcpu_events ev, ev_back;
	struct kvm_mp_state mp = { KVM_MP_STATE_INIT_RECEIVED }, mp_back;
	struct kvm_lapic_state lapic, lapic_back;
	uint64_t gs = 0xffff888012345678, star = 0x0023001000000000, lstar = 0xffffffff81000000,
		 pat = 0x0007040600070406, mtrr = 0x80000006;
	size_t len;
	void *data;

	ck_assert_int_eq(getrandom(&regs, sizeof(regs), 0), sizeof(regs));
	regs.rflags = 0x202;
	DO(&a.vcpu[0], KVM_SET_REGS, &regs);
	DO(&a.vcpu[0], KVM_GET_SREGS, &sregs);
	sregs.cr2 = 0xdeadbeef;
	sregs.gdt.base = 0x1234;
	sregs.gdt.limit = 0x7f;
	DO(&a.vcpu[0], KVM_SET_SREGS, &sregs);
	DO(&a.vcpu[0], KVM_SET_DEBUGREGS, &dr);
	msr(&a.vcpu[0], MSR_KERNEL_GS_BASE, &gs, true);
	msr(&a.vcpu[0], MSR_STAR, &star, true);
	msr(&a.vcpu[0], MSR_LSTAR, &lstar, true);
	msr(&a.vcpu[0], MSR_PAT, &pat, true);
	msr(&a.vcpu[0], MSR_MTRRphysBase0, &mtrr, true);
	DO(&a.vcpu[0], KVM_GET_LAPIC, &lapic);
	lapic.regs[LAPIC_TPR] = 0x20;
	lapic.regs[LAPIC_IRR + 0x20] = 0x10; /* vector 0x44 */
	DO(&a.vcpu[0], KVM_SET_LAPIC, &lapic);
	DO(&a.vcpu[0], KVM_GET_SREGS, &sregs); /* CR8 is the TPR */
	DO(&a.vcpu[0], KVM_GET_VCPU_EVENTS, &ev);
	ev.nmi.pending = 1;
	DO(&a.vcpu[0], KVM_SET_VCPU_EVENTS, &ev);
	DO(&a.vcpu[1], KVM_SET_MP_STATE, &mp);

	data = save(&a, &len);
	ck_assert_msg(load(&b, data, len) == 0, "%s", err.msg);
	free(data);
	DO(&b.vcpu[0], KVM_GET_REGS, &back);
	ck_assert_mem_eq(&back, &regs, sizeof(regs));
	DO(&b.vcpu[0], KVM_GET_SREGS, &sregs_back);
	ck_assert_mem_eq(&sregs_back, &sregs, sizeof(sregs));
	DO(&b.vcpu[0], KVM_GET_DEBUGREGS, &dr_back);
	ck_assert_mem_eq(&dr_back, &dr, sizeof(dr));
	check_msr(MSR_KERNEL_GS_BASE, gs);
	check_msr(MSR_STAR, star);
	check_msr(MSR_LSTAR, lstar);
	check_msr(MSR_PAT, pat);
	check_msr(MSR_MTRRphysBase0, mtrr);
	DO(&b.vcpu[0], KVM_GET_LAPIC, &lapic_back);
	ck_assert_int_eq(lapic_back.regs[LAPIC_TPR], 0x20);
	ck_assert_int_eq(lapic_back.regs[LAPIC_IRR + 0x20], 0x10);
	DO(&b.vcpu[0], KVM_GET_VCPU_EVENTS, &ev_back);
	ck_assert_int_eq(ev_back.nmi.pending, 1);
	DO(&b.vcpu[1], KVM_GET_MP_STATE, &mp_back);
	ck_assert_uint_eq(mp_back.mp_state, KVM_MP_STATE_INIT_RECEIVED);
}
END_TEST

START_TEST(the_extended_state_is_carried)
{
	struct kvm_xsave *x = aligned_alloc(4096, 16384), *back = aligned_alloc(4096, 16384);
	uint8_t *area = (uint8_t *)x->region;
	size_t len;
	void *data;

	memset(x, 0, 16384);
	memset(back, 0, 16384);
	DO(&a.vcpu[1], KVM_GET_XSAVE, x);
	/* ST0..7 and XMM0..15, and that they are there: SDM vol. 1, 13.4. */
	for (unsigned i = 0; i < 8; i++)
		memset(area + 32 + 16 * i, (int)(i + 1), 10);
	ck_assert_int_eq(getrandom(area + 160, 256, 0), 256);
	area[512] |= 3;
	DO(&a.vcpu[1], KVM_SET_XSAVE, x);
	data = save(&a, &len);
	ck_assert_msg(load(&b, data, len) == 0, "%s", err.msg);
	DO(&b.vcpu[1], KVM_GET_XSAVE, back);
	ck_assert_mem_eq((uint8_t *)back->region + 32, area + 32, 128 + 256);
	free(data);
	free(x);
	free(back);
}
END_TEST

static uint64_t tsc(struct kvm_vcpu *vcpu)
{
	uint64_t value = 0;

	msr(vcpu, MSR_IA32_TSC, &value, false);
	return value;
}

START_TEST(clocks_go_on)
{
	struct kvm_clock_data clock_a = { 0 }, clock_b = { 0 };
	uint64_t value = 1ULL << 50, tsc_a, tsc_b;
	size_t len;
	void *data;

	for (unsigned i = 0; i < NCPUS; i++)
		msr(&a.vcpu[i], MSR_IA32_TSC, &value, true);
	data = save(&a, &len);
	tsc_a = tsc(&a.vcpu[1]);
	ck_assert_int_eq(kvm_ioctl(a.m.kvm.vm_fd, KVM_GET_CLOCK, &clock_a), 0);
	ck_assert_msg(load(&b, data, len) == 0, "%s", err.msg);
	ck_assert_int_eq(kvm_ioctl(b.m.kvm.vm_fd, KVM_GET_CLOCK, &clock_b), 0);
	tsc_b = tsc(&b.vcpu[1]);
	ck_assert_uint_gt(clock_b.clock, 0);
	ck_assert_uint_lt(clock_b.clock, 3600ULL * 1000000000);
	/* A KVM without hardware behind it may let guests see the host's TSC, whatever is set. */
	if (tsc_a >= 1ULL << 50) {
		ck_assert_uint_ge(tsc_b, 1ULL << 50);
		ck_assert_uint_lt(tsc_b - (1ULL << 50), 1ULL << 40);
	}
	free(data);
}
END_TEST

/* Where the payload of field @name is: behind its name and 4 bytes of length. */
static uint8_t *field(uint8_t *data, size_t len, const char *name)
{
	uint8_t *p = memmem(data, len, name, strlen(name));

	ck_assert_ptr_nonnull(p);
	return p + strlen(name) + 4;
}

/* Saved, one byte changed, refused with a sentence that has @why in it. */
static void refused(const char *name, size_t at, uint8_t xor, const char *why)
{
	size_t len;
	uint8_t *data = save(&a, &len);

	field(data, len, name)[at] ^= xor;
	state_seal(data, len);
	ck_assert_int_lt(load(&b, data, len), 0);
	ck_assert_msg(strstr(err.msg, why) != NULL, "%s", err.msg);
	free(data);
}

START_TEST(run_states_are_checked)
{
	refused("mp-state", 0, 0x40, "vcpu0: KVM refuses run state");
}
END_TEST

START_TEST(system_registers_are_checked)
{
	/* CR4 of vCPU 0, behind 8 segments, 2 tables and 3 registers: a reserved bit. */
	refused("sregs2", 8 * 24 + 2 * 16 + 3 * 8 + 7, 0x80, "vcpu0: KVM refuses sregs2");
}
END_TEST

START_TEST(cpus_must_have_what_the_guest_knows)
{
	size_t len, size = sizeof(struct kvm_cpuid_entry2);
	uint8_t *data = save(&a, &len), *at = field(data, len, "cpuid");
	struct kvm_cpuid_entry2 e = { 0 };

	/* EBX of leaf 7: every feature there is, which no CPU has. */
	for (unsigned i = 0; i < CPUID_ENTRIES_MAX; i++, at += size) {
		memcpy(&e, at, size);
		if (e.function == 7 && e.index == 0)
			break;
	}
	ck_assert_uint_eq(e.function, 7);
	e.ebx = 0xffffffff;
	memcpy(at, &e, size);
	state_seal(data, len);
	ck_assert_int_lt(load(&b, data, len), 0);
	ck_assert_msg(strstr(err.msg, "cpus: this host's CPU or KVM lacks features") != NULL, "%s",
		      err.msg);
	ck_assert_msg(strstr(err.msg, "leaf 0x7/0 EBX") != NULL, "%s", err.msg);
	free(data);
}
END_TEST

START_TEST(counts_are_checked)
{
	size_t len;
	uint8_t *data = save(&a, &len), *msrs = field(data, len, "msrs");

	/* An MSR that there is not. */
	memset(msrs, 0xee, 4);
	state_seal(data, len);
	ck_assert_int_lt(load(&b, data, len), 0);
	ck_assert_msg(strstr(err.msg, "in MSR 0xeeeeeeee") != NULL, "%s", err.msg);
	free(data);
}
END_TEST

START_TEST(with_controllers_in_the_kernel)
{
	struct kvm_pit_state2 pit = { 0 }, back = { 0 };
	size_t len;
	void *data;

	machine_down(&a);
	machine_down(&b);
	cfg.pit = true;
	machine_up(&a);
	cpus_up(&a);
	machine_up(&b);
	ck_assert_int_eq(kvm_ioctl(a.m.kvm.vm_fd, KVM_GET_PIT2, &pit), 0);
	pit.channels[2].count = 0x4321;
	pit.channels[2].mode = 3;
	ck_assert_int_eq(kvm_ioctl(a.m.kvm.vm_fd, KVM_SET_PIT2, &pit), 0);
	data = save(&a, &len);
	ck_assert_msg(load(&b, data, len) == 0, "%s", err.msg);
	ck_assert_int_eq(kvm_ioctl(b.m.kvm.vm_fd, KVM_GET_PIT2, &back), 0);
	ck_assert_uint_eq(back.channels[2].count, 0x4321);
	free(data);
}
END_TEST

START_TEST(generations_differ)
{
	uint8_t first[16], second[16];

	ck_assert_int_eq(arch_new_generation(&a.m, &err), 0);
	ck_assert_int_eq(gmem_read(&a.m.mem, MAP_GENERATION, first, 16), 0);
	ck_assert_int_eq(arch_new_generation(&a.m, &err), 0);
	ck_assert_int_eq(gmem_read(&a.m.mem, MAP_GENERATION, second, 16), 0);
	ck_assert_mem_ne(first, second, 16);
	ck_assert(acpi_pm_pending(a.m.arch->pm));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("x86 state");
	TCase *tc = tcase_create("x86 state");

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		puts("no access to /dev/kvm");
		return SKIPPED;
	}
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, registers_are_carried);
	tcase_add_test(tc, the_extended_state_is_carried);
	tcase_add_test(tc, clocks_go_on);
	tcase_add_test(tc, run_states_are_checked);
	tcase_add_test(tc, system_registers_are_checked);
	tcase_add_test(tc, cpus_must_have_what_the_guest_knows);
	tcase_add_test(tc, counts_are_checked);
	tcase_add_test(tc, with_controllers_in_the_kernel);
	tcase_add_test(tc, generations_differ);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
