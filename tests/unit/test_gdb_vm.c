// SPDX-License-Identifier: Apache-2.0
/*
 * The guest as the debugger has it: where breakpoints go, what a stop was, who is told. The vCPU
 * threads and the processor are played by this file, in place of the library's own: addresses
 * below 64 KiB are mapped one to one, the breakpoint instruction is CC, and tests say by what
 * event a vCPU left KVM.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/test_run.h"
#include "vmm/gdb/vm.h"

#define NCPUS 3

static struct gdb_vm vm;
static struct machine machine;
static struct vcpus cpus;
static struct vcpu vcpu[NCPUS];
static struct gdb_host host;
static struct arch_debug in_force[NCPUS];
static bool running, frozen[NCPUS];
static unsigned passed[NCPUS], told, posted;
static struct gdb_stop stop;
static bool lets_go;

/* --- In place of vCPUs and processor --- */

bool vcpus_pause(struct vcpus *all)
{
	bool ran = running;

	(void)all;
	running = false;
	return ran;
}

void vcpus_resume(struct vcpus *all)
{
	(void)all;
	running = true;
}

void vcpus_freeze(struct vcpus *all, unsigned index, bool freeze)
{
	(void)all;
	ck_assert(!running);
	frozen[index] = freeze;
}

void vcpus_nmi(struct vcpus *all)
{
	(void)all;
}

void loop_post(struct loop *loop, struct loop_work *work)
{
	(void)loop;
	ck_assert_ptr_eq(work, &vm.work);
	posted++;
}

void loop_unpost(struct loop *loop, struct loop_work *work)
{
	(void)loop;
	(void)work;
}

const char *arch_gdb_xml(void)
{
	return "";
}

size_t arch_gdb_regs_size(void)
{
	return 8;
}

size_t arch_gdb_reg(unsigned n, size_t *offset)
{
	*offset = 0;
	return n == 0 ? 8 : 0;
}

int arch_gdb_read(struct kvm_vcpu *kvm, uint8_t *regs)
{
	(void)kvm;
	memset(regs, 0, 8);
	return 0;
}

int arch_gdb_write(struct kvm_vcpu *kvm, const uint8_t *regs)
{
	(void)kvm;
	(void)regs;
	return 0;
}

enum vcpu_activity arch_vcpu_activity(struct kvm_vcpu *kvm)
{
	(void)kvm;
	return VCPU_KERNEL;
}

int arch_translate(struct kvm_vcpu *kvm, uint64_t va, uint64_t *gpa)
{
	(void)kvm;
	ck_assert(!running);
	*gpa = va;
	return va < 0x10000 ? 0 : -EFAULT;
}

bool arch_point_possible(const struct arch_point *point)
{
	return point->len <= 8;
}

size_t arch_break_insn(uint8_t insn[ARCH_BREAK_INSN_MAX])
{
	insn[0] = 0xcc;
	return 1;
}

static unsigned index_of(const struct kvm_vcpu *kvm)
{
	for (unsigned i = 0; i < NCPUS; i++)
		if (kvm == &vcpu[i].kvm)
			return i;
	ck_abort();
}

int arch_set_debug(struct machine *m, struct kvm_vcpu *kvm, const struct arch_debug *debug)
{
	(void)m;
	ck_assert(!running);
	in_force[index_of(kvm)] = *debug;
	return 0;
}

/* The test's own code: exception is the event, dr6 the point. */
enum arch_debug_event arch_debug_event(const struct kvm_debug_exit_arch *exit,
				       const struct arch_debug *debug, uint64_t *pc,
				       unsigned *index)
{
	(void)debug;
	*pc = exit->pc;
	*index = (unsigned)exit->dr6;
	return (enum arch_debug_event)exit->exception;
}

int arch_debug_pass(struct machine *m, struct kvm_vcpu *kvm, const struct arch_debug *debug,
		    const struct kvm_debug_exit_arch *exit)
{
	(void)m;
	(void)debug;
	(void)exit;
	passed[index_of(kvm)]++;
	return 0;
}

/* --- The debugger and the VM --- */

static void stopped(struct gdb_vm *v, const struct gdb_stop *why)
{
	ck_assert_ptr_eq(v, &vm);
	ck_assert(!running);
	ck_assert(vm.holds);
	told++;
	stop = *why;
}

static bool goes_on(struct gdb_host *h)
{
	ck_assert_ptr_eq(h, &host);
	return lets_go;
}

static void setup(void)
{
	const struct gmem_config cfg = { .size = 2 << 20 };
	struct err err = ERR_INIT;

	memset(frozen, 0, sizeof(frozen));
	memset(passed, 0, sizeof(passed));
	memset(vcpu, 0, sizeof(vcpu));
	told = posted = 0;
	lets_go = true;
	host.goes_on = goes_on;
	cpus = (struct vcpus){ .m = &machine, .n = NCPUS, .vcpu = vcpu };
	ck_assert_int_eq(gmem_init(&machine.mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&machine.mem, 0, 2 << 20, &err), 0);
	ck_assert_int_eq(gdb_vm_init(&vm, &cpus, &host, stopped, &err), 0);
	ck_assert_ptr_eq(cpus.debugged, &vm.work);
	running = false;
	vm.holds = true;
}

static void teardown(void)
{
	gdb_vm_fini(&vm);
	gmem_fini(&machine.mem);
}

static int insert(enum gdb_point kind, uint64_t addr)
{
	return vm.target.insert(&vm.target, 0, kind, addr, 1);
}

static int take_out(enum gdb_point kind, uint64_t addr)
{
	return vm.target.remove(&vm.target, 0, kind, addr, 1);
}

static uint8_t byte(uint64_t gpa)
{
	return *(const uint8_t *)gmem_ptr(&machine.mem, gpa, 1);
}

static void set_byte(uint64_t gpa, uint8_t value)
{
	*(uint8_t *)gmem_wptr(&machine.mem, gpa, 1) = value;
}

/* Four breakpoints where nothing is mapped: what comes after them is in memory. */
static void use_up(void)
{
	for (unsigned i = 0; i < ARCH_POINTS_MAX; i++)
		ck_assert_int_eq(insert(GDB_SOFT, 0x100000 + i), 0);
}

static void go(uint8_t a, uint8_t b, uint8_t c)
{
	const uint8_t actions[] = { a, b, c };

	vm.target.resume(&vm.target, actions);
}

/* vCPU @i leaves KVM, by itself. */
static void leaves(unsigned i, enum arch_debug_event event, uint64_t pc, unsigned index)
{
	vcpu[i].debug = (struct kvm_debug_exit_arch){ .exception = event, .pc = pc, .dr6 = index };
	vcpu[i].debug_hit = true;
}

static void handle(void)
{
	vm.work.fn(&vm.work);
}

/* --- Breakpoints --- */

START_TEST(registers_first)
{
	set_byte(0x1000, 0x55);
	ck_assert_int_eq(insert(GDB_SOFT, 0x1000), 0);
	ck_assert_int_eq(insert(GDB_SOFT, 0x1000), 0); /* once is enough */
	ck_assert_uint_eq(vm.nhard, 1);
	ck_assert_uint_eq(byte(0x1000), 0x55);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(insert(GDB_SOFT, 0x100000 + i), 0);
	ck_assert_uint_eq(vm.nhard, 4);
	ck_assert_uint_eq(vm.nsoft, 0);
	ck_assert_int_eq(insert(GDB_SOFT, 0x100003), -EFAULT);
}
END_TEST

START_TEST(then_memory)
{
	uint8_t data[4] = { 0x55, 0x48, 0x89, 0xe5 };

	use_up();
	gmem_write(&machine.mem, 0x1000, data, 4);
	ck_assert_int_eq(insert(GDB_SOFT, 0x200000), -EFAULT);
	ck_assert_int_eq(insert(GDB_EXEC, 0x1000), -ENOSPC);
	ck_assert_int_eq(insert(GDB_SOFT, 0x1001), 0);
	ck_assert_uint_eq(byte(0x1001), 0xcc);
	/* Not to be seen, also across pages and when written over. */
	ck_assert_uint_eq(vm.target.read(&vm.target, 0, false, 0xfff, data, 4), 4);
	ck_assert_int_eq(memcmp(data, "\0\x55\x48\x89", 4), 0);
	ck_assert_uint_eq(vm.target.write(&vm.target, 0, false, 0x1000, (uint8_t *)"abc", 3), 3);
	ck_assert_uint_eq(byte(0x1001), 0xcc);
	ck_assert_uint_eq(byte(0x1002), 'c');
	ck_assert_int_eq(take_out(GDB_SOFT, 0x1001), 0);
	ck_assert_uint_eq(byte(0x1001), 'b');
	ck_assert_int_eq(take_out(GDB_SOFT, 0x1001), 0);
}
END_TEST

START_TEST(not_put_back_over_what_is_new)
{
	use_up();
	insert(GDB_SOFT, 0x1000);
	set_byte(0x1000, 0x90); /* the guest patches its code */
	take_out(GDB_SOFT, 0x1000);
	ck_assert_uint_eq(byte(0x1000), 0x90);
}
END_TEST

START_TEST(watchpoints_make_room)
{
	for (unsigned i = 0; i < ARCH_POINTS_MAX; i++)
		insert(GDB_SOFT, 0x1000 + i);
	ck_assert_int_eq(insert(GDB_WRITE, 0x2000), 0);
	ck_assert_uint_eq(vm.nhard, 4);
	ck_assert_uint_eq(vm.nsoft, 1);
	ck_assert_uint_eq(byte(0x1000), 0xcc);
	gdb_vm_lift(&vm);
	ck_assert_uint_eq(byte(0x1000), 0);
	for (unsigned i = 1; i < ARCH_POINTS_MAX; i++)
		ck_assert_int_eq(insert(GDB_WRITE, 0x2000 + i), 0);
	ck_assert_int_eq(insert(GDB_WRITE, 0x3000), -ENOSPC);
}
END_TEST

START_TEST(too_many)
{
	use_up();
	for (unsigned i = 0; i < GDB_SOFT_MAX; i++)
		ck_assert_int_eq(insert(GDB_SOFT, 0x1000 + i), 0);
	ck_assert_int_eq(insert(GDB_SOFT, 0x3000), -ENOSPC);
	gdb_vm_reset(&vm);
	ck_assert_int_eq(insert(GDB_SOFT, 0x3000), 0);
}
END_TEST

/* --- Stops --- */

START_TEST(meets_one)
{
	use_up();
	insert(GDB_SOFT, 0x1000);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_STAY);
	ck_assert(running);
	ck_assert(!vm.holds);
	ck_assert(frozen[2] && !frozen[0]);
	ck_assert(in_force[0].on && !in_force[0].step);
	ck_assert_uint_eq(in_force[0].n, 4);
	leaves(1, ARCH_DEBUG_BREAK, 0x1000, 0);
	handle();
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_eq(stop.cpu, 1);
	ck_assert_int_eq(stop.signal, 5);
	ck_assert_int_eq(stop.why, GDB_STOP_SOFT);
}
END_TEST

START_TEST(the_guests_own)
{
	use_up();
	insert(GDB_SOFT, 0x1000);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	leaves(2, ARCH_DEBUG_BREAK, 0x2000, 0);
	leaves(0, ARCH_DEBUG_GUEST, 0x3000, 0);
	handle();
	ck_assert_uint_eq(told, 0);
	ck_assert(running);
	ck_assert_uint_eq(passed[0] + passed[2], 2);
	ck_assert_uint_eq(passed[1], 0);
	/* Ours and the guest's at once. */
	leaves(1, ARCH_DEBUG_BREAK, 0x1000, 0);
	leaves(2, ARCH_DEBUG_BREAK, 0x2000, 0);
	handle();
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_eq(stop.cpu, 1);
	ck_assert_uint_eq(passed[2], 2);
}
END_TEST

START_TEST(two_at_once)
{
	insert(GDB_SOFT, 0x1000);
	insert(GDB_WRITE, 0x2000);
	insert(GDB_ACCESS, 0x2008);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	leaves(0, ARCH_DEBUG_POINT, 0x5000, 1);
	leaves(1, ARCH_DEBUG_POINT, 0x1000, 0);
	leaves(2, ARCH_DEBUG_POINT, 0x6000, 2);
	handle();
	ck_assert_uint_eq(told, 1);
	ck_assert_int_eq(stop.why, GDB_STOP_WRITE);
	ck_assert_uint_eq(stop.addr, 0x2000);
	/* The breakpoint will be met again; the other watchpoint is told of instead of going on. */
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	ck_assert(!running);
	ck_assert_uint_eq(posted, 1);
	handle();
	ck_assert_uint_eq(told, 2);
	ck_assert_uint_eq(stop.cpu, 2);
	ck_assert_int_eq(stop.why, GDB_STOP_ACCESS);
	ck_assert_uint_eq(stop.addr, 0x2008);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	ck_assert(running);
}
END_TEST

START_TEST(steps)
{
	go(GDB_STAY, GDB_STEP, GDB_STAY);
	ck_assert(in_force[1].step && !in_force[0].step);
	ck_assert(frozen[0] && !frozen[1] && frozen[2]);
	leaves(1, ARCH_DEBUG_STEP, 0x1001, 0);
	handle();
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_eq(stop.cpu, 1);
	ck_assert_int_eq(stop.why, GDB_STOP_SIGNAL);
	/* The one that steps is told of first. */
	insert(GDB_SOFT, 0x2000);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_STEP);
	leaves(0, ARCH_DEBUG_POINT, 0x2000, 0);
	leaves(2, ARCH_DEBUG_STEP, 0x1002, 0);
	handle();
	ck_assert_uint_eq(stop.cpu, 2);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	ck_assert(running);
	ck_assert(!in_force[2].step);
}
END_TEST

START_TEST(interrupted)
{
	insert(GDB_WRITE, 0x2000);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	leaves(0, ARCH_DEBUG_POINT, 0x5000, 0); /* its work is posted, and comes too late */
	vm.target.stop(&vm.target);
	ck_assert_uint_eq(told, 1);
	ck_assert_int_eq(stop.signal, 2);
	handle();
	ck_assert_uint_eq(told, 1);
	ck_assert(!running);
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	handle();
	ck_assert_uint_eq(told, 2);
	ck_assert_int_eq(stop.why, GDB_STOP_WRITE);
}
END_TEST

START_TEST(detaches)
{
	use_up();
	insert(GDB_SOFT, 0x1000);
	go(GDB_CONTINUE, GDB_STAY, GDB_CONTINUE);
	leaves(0, ARCH_DEBUG_BREAK, 0x1000, 0);
	vm.target.detach(&vm.target);
	ck_assert(running && !vm.holds);
	ck_assert_uint_eq(byte(0x1000), 0);
	ck_assert_uint_eq(passed[0], 0); /* ours: it goes on with what was there before */
	ck_assert(!frozen[1]);
	for (unsigned i = 0; i < NCPUS; i++)
		ck_assert(!in_force[i].on);
	handle(); /* the work that was posted */
	ck_assert_uint_eq(told, 0);
	ck_assert(running);
}
END_TEST

START_TEST(dead)
{
	lets_go = false;
	go(GDB_CONTINUE, GDB_CONTINUE, GDB_CONTINUE);
	ck_assert(!running);
	vm.target.detach(&vm.target);
	ck_assert(!running);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gdb_vm");
	TCase *tc = tcase_create("gdb_vm");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, registers_first);
	tcase_add_test(tc, then_memory);
	tcase_add_test(tc, not_put_back_over_what_is_new);
	tcase_add_test(tc, watchpoints_make_room);
	tcase_add_test(tc, too_many);
	tcase_add_test(tc, meets_one);
	tcase_add_test(tc, the_guests_own);
	tcase_add_test(tc, two_at_once);
	tcase_add_test(tc, steps);
	tcase_add_test(tc, interrupted);
	tcase_add_test(tc, detaches);
	tcase_add_test(tc, dead);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
