// SPDX-License-Identifier: Apache-2.0
/*
 * A guest for the debugger: its vCPUs' registers, its memory, its breakpoints.
 *
 * Theory of operation. A vCPU that meets a breakpoint leaves KVM_RUN with KVM_EXIT_DEBUG, puts
 * down what KVM said, parks, and posts `work`; that stops all the others and finds out what it was
 * (several may have stopped at once). One stop is told of. The others of that moment: who met a
 * breakpoint is still in front of it and will meet it again, so it is forgotten; a watchpoint's
 * is behind the instruction and is kept for the next time the guest is to run. What was not ours
 * (the guest's own int3, as kprobes use) is handed on to the guest.
 *
 * A software breakpoint, too, takes one of the processor's debug registers while there is one to
 * spare. Those know only addresses: `break start_kernel` works before the kernel is there or
 * mapped, its code stays as it is, and a reset changes nothing. When they are used up, it is the
 * processor's breakpoint instruction in guest memory, found through the page tables of the CPU
 * the debugger looks at; and a watchpoint that finds no register free sends a software breakpoint
 * there. Reading memory gives what was there before; a byte the guest has overwritten since is not
 * put back.
 *
 * A single step lets the other CPUs run or stay, as GDB says (`set scheduler-locking`): those that
 * stay are frozen, see vcpus.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/gdb/vm.h"

#define SIGNAL_INT  2
#define SIGNAL_TRAP 5

static struct gdb_vm *vm_of(struct gdb_target *t)
{
	return container_of(t, struct gdb_vm, target);
}

static struct gmem *mem_of(struct gdb_vm *vm)
{
	return &vm->cpus->m->mem;
}

static struct kvm_vcpu *kvm_of(struct gdb_vm *vm, unsigned cpu)
{
	return &vm->cpus->vcpu[cpu].kvm;
}

/* --- Registers and memory --- */

static int read_regs(struct gdb_target *t, unsigned cpu, uint8_t *regs)
{
	return arch_gdb_read(kvm_of(vm_of(t), cpu), regs);
}

static int write_regs(struct gdb_target *t, unsigned cpu, const uint8_t *regs)
{
	return arch_gdb_write(kvm_of(vm_of(t), cpu), regs);
}

static const char *state(struct gdb_target *t, unsigned cpu)
{
	switch (arch_vcpu_activity(kvm_of(vm_of(t), cpu))) {
	case VCPU_IDLE:
		return "idle";
	case VCPU_OFF:
		return "halted";
	default:
		return "running";
	}
}

/*
 * Go through [@addr, @addr + @len) in pieces that are in one page each: @fn does one, at its
 * physical address. Returns the bytes done.
 */
static size_t by_pages(struct gdb_vm *vm, unsigned cpu, bool physical, uint64_t addr, size_t len,
		       int (*fn)(struct gdb_vm *vm, uint64_t gpa, uint8_t *data, size_t n),
		       uint8_t *data)
{
	size_t done = 0;

	while (done < len) {
		uint64_t va = addr + done, gpa = va;
		size_t n = (size_t)(GMEM_PAGE_SIZE - va % GMEM_PAGE_SIZE);

		if (n > len - done)
			n = len - done;
		if (!physical && arch_translate(kvm_of(vm, cpu), va, &gpa) < 0)
			break;
		if (fn(vm, gpa, data + done, n) < 0)
			break;
		done += n;
	}
	return done;
}

/* The bytes of @soft that are in [gpa, gpa + n): where in both, and how many. */
static size_t overlap(const struct gdb_soft *soft, uint64_t gpa, size_t n, size_t *in_soft,
		      size_t *in_data)
{
	uint64_t from = soft->gpa > gpa ? soft->gpa : gpa;
	uint64_t end = soft->gpa + soft->len < gpa + n ? soft->gpa + soft->len : gpa + n;

	*in_soft = (size_t)(from - soft->gpa);
	*in_data = (size_t)(from - gpa);
	return from < end ? (size_t)(end - from) : 0;
}

static int read_piece(struct gdb_vm *vm, uint64_t gpa, uint8_t *data, size_t n)
{
	size_t in_soft, in_data;
	int r = gmem_read(mem_of(vm), gpa, data, n);

	for (unsigned i = 0; r == 0 && i < vm->nsoft; i++) {
		size_t same = overlap(&vm->soft[i], gpa, n, &in_soft, &in_data);

		memcpy(data + in_data, vm->soft[i].saved + in_soft, same);
	}
	return r;
}

static int write_piece(struct gdb_vm *vm, uint64_t gpa, uint8_t *data, size_t n)
{
	size_t in_soft, in_data, len;
	uint8_t insn[ARCH_BREAK_INSN_MAX];
	int r = gmem_write(mem_of(vm), gpa, data, n);

	len = arch_break_insn(insn);
	for (unsigned i = 0; r == 0 && i < vm->nsoft; i++) {
		struct gdb_soft *soft = &vm->soft[i];
		size_t same = overlap(soft, gpa, n, &in_soft, &in_data);

		if (same == 0)
			continue;
		memcpy(soft->saved + in_soft, data + in_data, same);
		r = gmem_write(mem_of(vm), soft->gpa, insn, len);
	}
	return r;
}

static size_t read_mem(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
		       uint8_t *to, size_t len)
{
	return by_pages(vm_of(t), cpu, physical, addr, len, read_piece, to);
}

static size_t write_mem(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
			const uint8_t *from, size_t len)
{
	/* write_piece() only reads it. */
	return by_pages(vm_of(t), cpu, physical, addr, len, write_piece, (uint8_t *)from);
}

/* --- Breakpoints and watchpoints --- */

static struct gdb_soft *find_soft(struct gdb_vm *vm, uint64_t addr)
{
	for (unsigned i = 0; i < vm->nsoft; i++)
		if (vm->soft[i].addr == addr)
			return &vm->soft[i];
	return NULL;
}

static struct gdb_hard *find_hard(struct gdb_vm *vm, enum gdb_point kind, uint64_t addr,
				  uint64_t len)
{
	bool code = kind == GDB_SOFT || kind == GDB_EXEC;

	for (unsigned i = 0; i < vm->nhard; i++)
		if (vm->hard[i].kind == kind && vm->hard[i].addr == addr &&
		    (code || vm->hard[i].len == len))
			return &vm->hard[i];
	return NULL;
}

static struct arch_point arch_point(const struct gdb_hard *hard)
{
	static const enum arch_point_kind kinds[GDB_POINTS] = {
		ARCH_POINT_EXEC, ARCH_POINT_EXEC,   ARCH_POINT_WRITE,
		ARCH_POINT_READ, ARCH_POINT_ACCESS,
	};

	return (struct arch_point){ kinds[hard->kind], hard->addr, hard->len };
}

static int insert_memory(struct gdb_vm *vm, unsigned cpu, uint64_t addr)
{
	struct gdb_soft soft = { .addr = addr };
	uint8_t insn[ARCH_BREAK_INSN_MAX];

	soft.len = arch_break_insn(insn);
	if (vm->nsoft == GDB_SOFT_MAX)
		return -ENOSPC;
	if (arch_translate(kvm_of(vm, cpu), addr, &soft.gpa) < 0 ||
	    gmem_read(mem_of(vm), soft.gpa, soft.saved, soft.len) < 0 ||
	    gmem_write(mem_of(vm), soft.gpa, insn, soft.len) < 0)
		return -EFAULT;
	vm->soft[vm->nsoft++] = soft;
	return 0;
}

/* A debug register whose software breakpoint can as well be in memory; NULL: there is none. */
static struct gdb_hard *make_room(struct gdb_vm *vm, unsigned cpu)
{
	for (unsigned i = 0; i < vm->nhard; i++)
		if (vm->hard[i].kind == GDB_SOFT && insert_memory(vm, cpu, vm->hard[i].addr) == 0)
			return &vm->hard[i];
	return NULL;
}

static int insert_hard(struct gdb_vm *vm, unsigned cpu, enum gdb_point kind, uint64_t addr,
		       uint64_t len)
{
	struct gdb_hard hard = { kind, addr, len }, *place = &vm->hard[vm->nhard];
	struct arch_point point = arch_point(&hard);

	if (!arch_point_possible(&point))
		return -EINVAL;
	if (vm->nhard == ARCH_POINTS_MAX)
		place = make_room(vm, cpu);
	else
		vm->nhard++;
	if (place == NULL)
		return -ENOSPC;
	*place = hard;
	return 0;
}

static int insert_soft(struct gdb_vm *vm, unsigned cpu, uint64_t addr)
{
	if (vm->nhard < ARCH_POINTS_MAX)
		return insert_hard(vm, cpu, GDB_SOFT, addr, 1);
	return insert_memory(vm, cpu, addr);
}

static int insert(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
		  uint64_t len)
{
	struct gdb_vm *vm = vm_of(t);

	if (find_hard(vm, kind, addr, len) != NULL ||
	    (kind == GDB_SOFT && find_soft(vm, addr) != NULL))
		return 0;
	return kind == GDB_SOFT ? insert_soft(vm, cpu, addr)
				: insert_hard(vm, cpu, kind, addr, len);
}

/* Put back what was there, unless the guest has written something else meanwhile. */
static void remove_soft(struct gdb_vm *vm, struct gdb_soft *soft)
{
	uint8_t insn[ARCH_BREAK_INSN_MAX], now[ARCH_BREAK_INSN_MAX];

	(void)arch_break_insn(insn);
	if (gmem_read(mem_of(vm), soft->gpa, now, soft->len) == 0 &&
	    memcmp(now, insn, soft->len) == 0)
		(void)gmem_write(mem_of(vm), soft->gpa, soft->saved, soft->len);
	*soft = vm->soft[--vm->nsoft];
}

static int remove_point(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
			uint64_t len)
{
	struct gdb_vm *vm = vm_of(t);
	struct gdb_soft *soft = kind == GDB_SOFT ? find_soft(vm, addr) : NULL;
	struct gdb_hard *hard = find_hard(vm, kind, addr, len);

	(void)cpu;
	if (soft != NULL)
		remove_soft(vm, soft);
	if (hard != NULL)
		*hard = vm->hard[--vm->nhard];
	return 0;
}

void gdb_vm_lift(struct gdb_vm *vm)
{
	while (vm->nsoft > 0)
		remove_soft(vm, &vm->soft[vm->nsoft - 1]);
}

void gdb_vm_reset(struct gdb_vm *vm)
{
	vm->nsoft = 0;
	for (unsigned i = 0; i < vm->cpus->n; i++)
		vm->cpus->vcpu[i].debug_hit = vm->cpu[i].hit = false;
}

/* --- Stop and go --- */

/* What is in force for @cpu while it runs. */
static struct arch_debug debug_of(const struct gdb_vm *vm, unsigned cpu)
{
	struct arch_debug debug = { .on = true, .step = vm->cpu[cpu].step, .n = vm->nhard };

	for (unsigned i = 0; i < vm->nhard; i++)
		debug.point[i] = arch_point(&vm->hard[i]);
	return debug;
}

static void tell(struct gdb_vm *vm, const struct gdb_stop *stop)
{
	vm->holds = true;
	vm->stopped(vm, stop);
}

/* Hand an exception that is the guest's on to it. */
static void pass(struct gdb_vm *vm, unsigned i, const struct arch_debug *debug)
{
	struct vcpu *v = &vm->cpus->vcpu[i];
	int r = arch_debug_pass(vm->cpus->m, &v->kvm, debug, &v->debug);

	if (r < 0)
		log_limited(LOG_WARN, "vCPU %u: the guest's own breakpoint is lost: %s", i,
			    strerrordesc_np(-r));
}

/* What vCPU @i stopped for, into vm->cpu[i].stop and .hit; nothing when it was the guest's. */
static void find_out(struct gdb_vm *vm, unsigned i)
{
	static const enum gdb_stop_why why[GDB_POINTS] = {
		GDB_STOP_SOFT, GDB_STOP_EXEC, GDB_STOP_WRITE, GDB_STOP_READ, GDB_STOP_ACCESS,
	};
	struct vcpu *v = &vm->cpus->vcpu[i];
	struct gdb_cpu *cpu = &vm->cpu[i];
	struct arch_debug debug = debug_of(vm, i);
	unsigned index = 0;
	uint64_t pc;

	v->debug_hit = false;
	cpu->stop = (struct gdb_stop){ .cpu = i, .signal = SIGNAL_TRAP };
	cpu->hit = true;
	switch (arch_debug_event(&v->debug, &debug, &pc, &index)) {
	case ARCH_DEBUG_STEP:
		break;
	case ARCH_DEBUG_BREAK:
		if (find_soft(vm, pc) != NULL) {
			cpu->stop.why = GDB_STOP_SOFT;
			break;
		}
		/* fall through */
	case ARCH_DEBUG_GUEST:
		pass(vm, i, &debug);
		cpu->hit = false;
		break;
	case ARCH_DEBUG_POINT:
		cpu->stop.why = why[vm->hard[index].kind];
		cpu->stop.addr = vm->hard[index].addr;
		break;
	}
}

/* A stop to tell of, which is then no longer; one that stepped first. */
static bool take_hit(struct gdb_vm *vm, struct gdb_stop *stop)
{
	struct gdb_cpu *found = NULL;

	for (unsigned i = 0; i < vm->cpus->n; i++)
		if (vm->cpu[i].hit && (found == NULL || (vm->cpu[i].step && !found->step)))
			found = &vm->cpu[i];
	if (found == NULL)
		return false;
	found->hit = false;
	*stop = found->stop;
	return true;
}

/* Who is in front of a breakpoint will meet it again. A step is over when anything stops. */
static void forget_repeatable(struct gdb_vm *vm)
{
	for (unsigned i = 0; i < vm->cpus->n; i++)
		if (vm->cpu[i].stop.why < GDB_STOP_WRITE)
			vm->cpu[i].hit = false;
}

/* All stopped, and what the vCPUs met until then known. */
static void pause_all(struct gdb_vm *vm)
{
	vcpus_pause(vm->cpus);
	for (unsigned i = 0; i < vm->cpus->n; i++)
		if (vm->cpus->vcpu[i].debug_hit)
			find_out(vm, i);
}

static void handle_debugged(struct loop_work *work)
{
	struct gdb_vm *vm = container_of(work, struct gdb_vm, work);
	struct gdb_stop stop;

	if (vm->holds) /* stopped for something else just before */
		return;
	pause_all(vm);
	if (take_hit(vm, &stop)) {
		forget_repeatable(vm);
		tell(vm, &stop);
	} else if (vm->host->goes_on(vm->host)) {
		vcpus_resume(vm->cpus);
	}
}

static void resume(struct gdb_target *t, const uint8_t *actions)
{
	struct gdb_vm *vm = vm_of(t);

	if (!vm->host->goes_on(vm->host))
		return;
	for (unsigned i = 0; i < vm->cpus->n; i++) {
		struct arch_debug debug;
		int r;

		vm->cpu[i].step = actions[i] == GDB_STEP;
		vcpus_freeze(vm->cpus, i, actions[i] == GDB_STAY);
		debug = debug_of(vm, i);
		r = arch_set_debug(vm->cpus->m, kvm_of(vm, i), &debug);
		if (r < 0)
			log_warn("vCPU %u: KVM cannot set breakpoints: %s", i, strerrordesc_np(-r));
	}
	vm->holds = false;
	for (unsigned i = 0; i < vm->cpus->n; i++) {
		if (vm->cpu[i].hit) { /* from the last stop */
			loop_post(vm->cpus->m->loop, &vm->work);
			return;
		}
	}
	vcpus_resume(vm->cpus);
}

void gdb_vm_hold(struct gdb_vm *vm)
{
	pause_all(vm);
	forget_repeatable(vm);
	vm->holds = true;
}

static void stop(struct gdb_target *t)
{
	struct gdb_vm *vm = vm_of(t);
	struct gdb_stop why = { .signal = SIGNAL_INT };

	gdb_vm_hold(vm);
	for (unsigned i = 0; i < vm->cpus->n; i++)
		if (vm->cpu[i].step)
			why.cpu = i;
	tell(vm, &why);
}

static void detach(struct gdb_target *t)
{
	struct gdb_vm *vm = vm_of(t);
	struct arch_debug none = { 0 };

	pause_all(vm);
	gdb_vm_lift(vm);
	vm->nhard = 0;
	for (unsigned i = 0; i < vm->cpus->n; i++) {
		vm->cpu[i].hit = vm->cpu[i].step = false;
		vcpus_freeze(vm->cpus, i, false);
		(void)arch_set_debug(vm->cpus->m, kvm_of(vm, i), &none);
	}
	vm->holds = false;
	if (vm->host->goes_on(vm->host))
		vcpus_resume(vm->cpus);
}

static void kill_it(struct gdb_target *t)
{
	struct gdb_vm *vm = vm_of(t);

	vm->host->quit(vm->host);
}

/* --- monitor --- */

static void info(struct gdb_vm *vm, char *text)
{
	size_t n = 0;

	for (unsigned i = 0; i < vm->cpus->n && n < GDB_TEXT_MAX; i++)
		n += (size_t)snprintf(
			text + n, GDB_TEXT_MAX - n, "CPU %u: %s, %llu exits to the monitor\n", i,
			state(&vm->target, i), (unsigned long long)vm->cpus->vcpu[i].exits);
	if (n < GDB_TEXT_MAX)
		snprintf(text + n, GDB_TEXT_MAX - n,
			 "%u breakpoints in memory, %u of %u debug registers in use\n", vm->nsoft,
			 vm->nhard, ARCH_POINTS_MAX);
}

static void command(struct gdb_target *t, const char *words, char *text)
{
	static const char help[] = "info        what the CPUs do\n"
				   "nmi         a non-maskable interrupt for all CPUs\n"
				   "quit        end the VM\n"
				   "reset       reset the VM\n"
				   "sysrq KEY   the magic SysRq key on the console\n";
	struct gdb_vm *vm = vm_of(t);

	if (strcmp(words, "info") == 0)
		info(vm, text);
	else if (strcmp(words, "nmi") == 0)
		vcpus_nmi(vm->cpus);
	else if (strcmp(words, "quit") == 0)
		vm->host->quit(vm->host);
	else if (strcmp(words, "reset") == 0)
		vm->host->reset(vm->host);
	else if (strncmp(words, "sysrq ", 6) == 0 && words[6] > ' ' && words[7] == '\0')
		strcpy(text, vm->host->sysrq(vm->host, words[6])
				     ? "it is taken when the guest runs on\n"
				     : "there is no console that takes it\n");
	else
		strcpy(text, help);
}

int gdb_vm_init(struct gdb_vm *vm, struct vcpus *cpus, struct gdb_host *host,
		void (*stopped)(struct gdb_vm *vm, const struct gdb_stop *stop), struct err *err)
{
	*vm = (struct gdb_vm){
		.target = { .ncpus = cpus->n,
			    .xml = arch_gdb_xml(),
			    .regs_size = arch_gdb_regs_size(),
			    .reg = arch_gdb_reg,
			    .read_regs = read_regs,
			    .write_regs = write_regs,
			    .state = state,
			    .read = read_mem,
			    .write = write_mem,
			    .insert = insert,
			    .remove = remove_point,
			    .resume = resume,
			    .stop = stop,
			    .detach = detach,
			    .kill = kill_it,
			    .command = command },
		.cpus = cpus,
		.host = host,
		.stopped = stopped,
		.work.fn = handle_debugged,
	};
	vm->cpu = calloc(cpus->n, sizeof(*vm->cpu));
	if (vm->cpu == NULL)
		return err_set(err, ENOMEM, "no memory for the debugger");
	cpus->debugged = &vm->work;
	return 0;
}

void gdb_vm_fini(struct gdb_vm *vm)
{
	if (vm->cpus == NULL)
		return;
	vm->cpus->debugged = NULL;
	loop_unpost(vm->cpus->m->loop, &vm->work);
	free(vm->cpu);
}
