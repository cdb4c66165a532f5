// SPDX-License-Identifier: Apache-2.0
/*
 * The machine as a saved state: what KVM and the platform's devices know, in both directions.
 *
 * vCPUs. What is carried and in which order follows Documentation/virt/kvm/api.rst. Saving:
 * KVM_GET_MP_STATE comes first, as it may process a pending INIT or SIPI and so change everything
 * else; KVM_GET_VCPU_EVENTS last. Loading: system registers first (the APIC base decides how the
 * local APIC's state is read, EFER and CR4 whether nested state is taken), XCR0 before what it
 * enables, the local APIC before the TSC deadline, which only an armed timer takes, registers
 * before events (KVM_SET_REGS drops pending exceptions), and the run state last (KVM_SET_SREGS may
 * set it). MSRs are those of KVM_GET_MSR_INDEX_LIST, which has the paravirtual ones (KVM clock,
 * asynchronous page faults, steal time, end of interrupt), and the MTRRs, which it has not.
 *
 * Clocks. devices/vcpu.rst in that folder, KVM_VCPU_TSC_OFFSET, has the arithmetic: the KVM clock
 * and all TSCs are read as of one instant, and set as of one instant, so that they agree as they
 * did. Unless they are to stand still, all are moved by the real time that has passed, so the
 * guest's wall clock is right when it runs on, and timers that are due fire. Kernels before 5.16
 * know no offsets; the TSC is written as an MSR then, and KVM matches those of several vCPUs. The
 * KVM clock comes before the MSRs, as writing KVM's wall clock MSR computes from it.
 *
 * CPUs. The guest keeps the CPUID it was told at first. Another host is good enough when it has
 * every feature in it.
 *
 * Threat: the state may be forged. Sizes and counts are bounded here; values are checked by
 * KVM, as if an ordinary monitor had set them.
 *
 * #syscalls: ioctl
 * #ioctls: KVM_GET_SREGS2 KVM_GET_CLOCK KVM_GET_DEVICE_ATTR KVM_GET_XSAVE2 KVM_GET_NESTED_STATE
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/msr.h"

#define MSRS_MAX   1024
#define XSAVE_MAX  (64 << 10)
#define NESTED_MAX (64 << 10)

#define NSEC_PER_SEC 1000000000ULL

/* --- CPUs --- */

int arch_cpu_state(struct machine *m, struct state *st)
{
	const size_t size = sizeof(struct kvm_cpuid_entry2);
	struct kvm_cpuid2 *cpuid = m->arch->cpuid, *saved;
	size_t len = cpuid->nent * size;
	struct err err = ERR_INIT;

	state_begin(st, "cpus", 1);
	state_u32(st, "tsc-khz", &m->arch->tsc_khz);
	if (!state_loading(st)) {
		state_blob(st, "cpuid", cpuid->entries, &len, CPUID_ENTRIES_MAX * size);
		return state_end(st);
	}
	saved = calloc(1, sizeof(*saved) + CPUID_ENTRIES_MAX * size);
	if (saved == NULL) {
		state_fail(st, "no memory for CPUID");
		return state_end(st);
	}
	len = 0;
	state_blob(st, "cpuid", saved->entries, &len, CPUID_ENTRIES_MAX * size);
	saved->nent = (uint32_t)(len / size);
	if (len % size != 0 || len == 0)
		state_fail(st, "CPUID of %zu bytes", len);
	else if (cpuid_restore(m, saved, &err) < 0)
		state_fail(st, "%s", err.msg);
	m->arch->restored = true;
	free(saved);
	return state_end(st);
}

/* --- Clocks --- */

/* All of them as of one instant. */
struct clocks {
	uint64_t real; /* CLOCK_REALTIME, ns */
	uint64_t kvm;  /* the KVM clock, ns */
	uint64_t tsc[MACHINE_CPUS_MAX];
};

static int tsc_attr(struct kvm_vcpu *vcpu, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
					.attr = KVM_VCPU_TSC_OFFSET,
					.addr = (uintptr_t)offset };

	return kvm_ioctl(vcpu->fd, request, &attr);
}

static int tsc_msr(struct kvm_vcpu *vcpu, unsigned long request, uint64_t *tsc)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry = { .index = MSR_IA32_TSC, .data = *tsc } };
	int r = kvm_ioctl(vcpu->fd, request, &msr);

	*tsc = msr.entry.data;
	return r < 0 ? r : r == 1 ? 0 : -EINVAL;
}

/* Are guests' TSCs the host's plus an offset? Not when KVM scales, nor before Linux 5.16. */
static bool has_offsets(struct machine *m, struct kvm_vcpu *vcpu, const struct kvm_clock_data *data)
{
	uint64_t offset;

	return (data->flags & KVM_CLOCK_HOST_TSC) != 0 && !m->arch->tsc_scaled &&
	       tsc_attr(vcpu, KVM_GET_DEVICE_ATTR, &offset) == 0;
}

static uint64_t real_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static int read_clocks(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n,
		       struct clocks *c)
{
	struct kvm_clock_data data = { 0 };
	int r = kvm_ioctl(m->kvm.vm_fd, KVM_GET_CLOCK, &data);

	c->kvm = data.clock;
	c->real = (data.flags & KVM_CLOCK_REALTIME) != 0 ? data.realtime : real_now();
	for (unsigned i = 0; r == 0 && i < n; i++) {
		if (has_offsets(m, vcpus[i], &data)) {
			r = tsc_attr(vcpus[i], KVM_GET_DEVICE_ATTR, &c->tsc[i]);
			c->tsc[i] += data.host_tsc;
		} else {
			r = tsc_msr(vcpus[i], KVM_GET_MSRS, &c->tsc[i]);
		}
	}
	return r;
}

static int write_clocks(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, bool frozen,
			const struct clocks *c)
{
	struct kvm_clock_data data = { .clock = c->kvm };
	uint64_t now = real_now();
	int r;

	/* A host whose clock was set back: time does not run backwards in the guest. */
	if (!frozen && now > c->real)
		data.clock += now - c->real;
	r = kvm_ioctl(m->kvm.vm_fd, KVM_SET_CLOCK, &data);
	if (r == 0)
		r = kvm_ioctl(m->kvm.vm_fd, KVM_GET_CLOCK, &data);
	for (unsigned i = 0; r == 0 && i < n; i++) {
		unsigned __int128 passed = data.clock > c->kvm ? data.clock - c->kvm : 0;
		uint64_t tsc = c->tsc[i] + (uint64_t)(passed * m->arch->tsc_khz / 1000000);

		if (has_offsets(m, vcpus[i], &data)) {
			tsc -= data.host_tsc;
			r = tsc_attr(vcpus[i], KVM_SET_DEVICE_ATTR, &tsc);
		} else {
			r = tsc_msr(vcpus[i], KVM_SET_MSRS, &tsc);
		}
	}
	return r;
}

int arch_clock_state(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, bool frozen,
		     struct state *st)
{
	struct clocks c = { 0 };
	int r = 0;

	if (!state_loading(st))
		r = read_clocks(m, vcpus, n, &c);
	state_begin(st, "clocks", 1);
	state_u64(st, "real", &c.real);
	state_u64(st, "kvm", &c.kvm);
	state_bytes(st, "tsc", c.tsc, n * sizeof(c.tsc[0]));
	if (state_end(st) == 0 && state_loading(st))
		r = write_clocks(m, vcpus, n, frozen, &c);
	if (r < 0)
		state_fail(st, "KVM's clocks: %s", strerrordesc_np(-r));
	return r;
}

/* --- vCPUs --- */

/* One structure of KVM's, of fixed size. */
static void part(struct kvm_vcpu *vcpu, struct state *st, const char *name, unsigned long get,
		 unsigned long set, void *data, size_t size)
{
	bool loading = state_loading(st);
	int r = 0;

	if (!loading)
		r = kvm_ioctl(vcpu->fd, get, data);
	else if (!state_has(st, name))
		return;
	state_bytes(st, name, data, size);
	if (loading && state_ok(st))
		r = kvm_ioctl(vcpu->fd, set, data);
	if (r < 0)
		state_fail(st, "KVM refuses %s: %s", name, strerrordesc_np(-r));
}
#define PART(name, what, type)                                                                     \
	part(vcpu, st, name, KVM_GET_##what, KVM_SET_##what, &(struct type){ 0 },                  \
	     sizeof(struct type))

/* The extended state, as large as this CPU's is. */
static void xsave(struct machine *m, struct kvm_vcpu *vcpu, struct state *st)
{
	int cap = kvm_cap(&m->kvm, KVM_CAP_XSAVE2), r = 0;
	size_t size = cap > (int)sizeof(struct kvm_xsave) ? (size_t)cap : sizeof(struct kvm_xsave);
	size_t len = size;
	void *data;

	if (size > XSAVE_MAX || state_blob_size(st, "xsave") > size) {
		state_fail(st, "an extended CPU state of %zu bytes, KVM here has %zu",
			   state_blob_size(st, "xsave"), size);
		return;
	}
	data = calloc(1, size);
	if (data == NULL) {
		state_fail(st, "no memory for the extended CPU state");
		return;
	}
	if (!state_loading(st))
		r = kvm_ioctl(vcpu->fd, cap > 0 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, data);
	state_blob(st, "xsave", data, &len, size);
	if (state_loading(st) && state_ok(st))
		r = kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, data);
	if (r < 0)
		state_fail(st, "KVM refuses xsave: %s", strerrordesc_np(-r));
	free(data);
}

/* What KVM keeps of a guest that runs guests itself. */
static void nested(struct machine *m, struct kvm_vcpu *vcpu, struct state *st)
{
	int cap = kvm_cap(&m->kvm, KVM_CAP_NESTED_STATE), r = 0;
	size_t size = cap > 0 ? (size_t)cap : 0, len;
	struct kvm_nested_state *data;

	if (state_loading(st) && !state_has(st, "nested"))
		return;
	if (size == 0 && !state_loading(st))
		return;
	if (size < sizeof(*data) || size > NESTED_MAX || state_blob_size(st, "nested") > size) {
		state_fail(st, "KVM here cannot take the guest's own guests");
		return;
	}
	data = calloc(1, size);
	if (data == NULL) {
		state_fail(st, "no memory for nested state");
		return;
	}
	data->size = (uint32_t)size;
	if (!state_loading(st))
		r = kvm_ioctl(vcpu->fd, KVM_GET_NESTED_STATE, data);
	len = data->size;
	state_blob(st, "nested", data, &len, size);
	if (state_loading(st) && state_ok(st)) {
		if (len < sizeof(*data) || data->size != len)
			state_fail(st, "nested state of %zu bytes says it has %u", len, data->size);
		else
			r = kvm_ioctl(vcpu->fd, KVM_SET_NESTED_STATE, data);
	}
	if (r < 0)
		state_fail(st, "KVM refuses nested state: %s", strerrordesc_np(-r));
	free(data);
}

static void add_msrs(struct kvm_msrs *msrs, uint32_t first, uint32_t last)
{
	for (uint32_t index = first; index <= last; index++)
		msrs->entries[msrs->nmsrs++] = (struct kvm_msr_entry){ .index = index };
}

static void save_msrs(struct machine *m, struct kvm_vcpu *vcpu, struct state *st)
{
	struct kvm_msrs *listed = vcpu_list_msrs(&m->kvm), *msrs = NULL;
	size_t len;

	if (listed != NULL)
		msrs = calloc(1, sizeof(*msrs) + (listed->nmsrs + 64) * sizeof(msrs->entries[0]));
	if (msrs == NULL) {
		state_fail(st, "no memory for MSRs");
		free(listed);
		return;
	}
	for (unsigned i = 0; i < listed->nmsrs; i++)
		add_msrs(msrs, listed->entries[i].index, listed->entries[i].index);
	add_msrs(msrs, MSR_IA32_TSC_ADJUST, MSR_IA32_TSC_ADJUST);
	add_msrs(msrs, MSR_MTRRphysBase0, MSR_MTRRphysMask7);
	add_msrs(msrs, MSR_MTRRfix64K_00000, MSR_MTRRfix64K_00000);
	add_msrs(msrs, MSR_MTRRfix16K_80000, MSR_MTRRfix16K_A0000);
	add_msrs(msrs, MSR_MTRRfix4K_C0000, MSR_MTRRfix4K_F8000);
	add_msrs(msrs, MSR_MTRRdefType, MSR_MTRRdefType);
	vcpu_get_msrs(vcpu, msrs);
	len = msrs->nmsrs * sizeof(msrs->entries[0]);
	state_blob(st, "msrs", msrs->entries, &len, MSRS_MAX * sizeof(msrs->entries[0]));
	free(msrs);
	free(listed);
}

/*
 * One MSR. KVM lists some that can be read, but not written; that is no loss while they say the
 * same on this host.
 */
static void load_msr(struct kvm_vcpu *vcpu, const struct kvm_msr_entry *e, struct state *st)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry = { .index = e->index, .data = e->data } };

	if (kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msr) == 1)
		return;
	if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msr) != 1 || msr.entry.data != e->data)
		state_fail(st, "KVM here does not take 0x%llx in MSR 0x%x",
			   (unsigned long long)e->data, e->index);
}

/* Deadlines mean something only once everything else of the timer is there. */
static bool is_late(const struct kvm_msr_entry *e)
{
	return e->index == MSR_IA32_TSC_DEADLINE;
}

static void set_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs, struct state *st)
{
	unsigned done = 0;

	/* All at once, as long as KVM takes them; it says where it stopped. */
	while (done < msrs->nmsrs) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry[64];
		} part = { .head.nmsrs = 0 };
		unsigned n = 0;
		int r;

		while (n < 64 && done + n < msrs->nmsrs)
			part.entry[n] = msrs->entries[done + n], n++;
		part.head.nmsrs = n;
		r = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &part);
		done += r > 0 ? (unsigned)r : 0;
		if (r < (int)n)
			load_msr(vcpu, &msrs->entries[done++], st);
	}
}

static void load_msrs(struct kvm_vcpu *vcpu, struct state *st)
{
	size_t size = sizeof(struct kvm_msr_entry), len = 0;
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + MSRS_MAX * size);
	struct kvm_msr_entry late = { 0 };
	unsigned kept = 0;

	if (msrs == NULL) {
		state_fail(st, "no memory for MSRs");
		return;
	}
	state_blob(st, "msrs", msrs->entries, &len, MSRS_MAX * size);
	if (len % size != 0)
		state_fail(st, "MSRs of %zu bytes", len);
	msrs->nmsrs = (uint32_t)(len / size);
	for (unsigned i = 0; i < msrs->nmsrs; i++) {
		if (is_late(&msrs->entries[i]))
			late = msrs->entries[i];
		else if (msrs->entries[i].index != MSR_IA32_TSC) /* arch_clock_state() */
			msrs->entries[kept++] = msrs->entries[i];
	}
	msrs->nmsrs = kept;
	if (state_ok(st)) {
		set_msrs(vcpu, msrs, st);
		if (late.index != 0)
			load_msr(vcpu, &late, st);
	}
	free(msrs);
}

int arch_vcpu_state(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct state *st)
{
	struct kvm_mp_state mp = { 0 };
	bool loading = state_loading(st), sregs2 = kvm_cap(&m->kvm, KVM_CAP_SREGS2) > 0;
	char name[24];
	int r = 0;

	snprintf(name, sizeof(name), "vcpu%u", index);
	state_begin(st, name, 1);
	if (!loading)
		r = kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp);
	state_u32(st, "mp-state", &mp.mp_state);
	if (loading ? state_has(st, "sregs2") : sregs2)
		PART("sregs2", SREGS2, kvm_sregs2);
	else
		PART("sregs", SREGS, kvm_sregs);
	nested(m, vcpu, st);
	PART("xcrs", XCRS, kvm_xcrs);
	xsave(m, vcpu, st);
	PART("regs", REGS, kvm_regs);
	PART("debugregs", DEBUGREGS, kvm_debugregs);
	PART("lapic", LAPIC, kvm_lapic_state);
	if (loading)
		load_msrs(vcpu, st);
	else
		save_msrs(m, vcpu, st);
	PART("events", VCPU_EVENTS, kvm_vcpu_events);
	if (loading && state_ok(st))
		r = kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp);
	if (r < 0)
		state_fail(st, "KVM refuses run state %u: %s", mp.mp_state, strerrordesc_np(-r));
	return state_end(st);
}

/* --- Devices --- */

/* PIC, I/O APIC and PIT in KVM. */
static void in_kernel_state(struct machine *m, struct state *st)
{
	bool loading = state_loading(st);
	struct kvm_pit_state2 pit = { 0 };
	int r = 0;

	state_begin(st, "irqchip", 1);
	for (unsigned id = KVM_IRQCHIP_PIC_MASTER; id <= KVM_IRQCHIP_IOAPIC; id++) {
		struct kvm_irqchip chip = { .chip_id = id };
		char name[24];

		if (!loading && r == 0)
			r = kvm_ioctl(m->kvm.vm_fd, KVM_GET_IRQCHIP, &chip);
		snprintf(name, sizeof(name), "chip%u", id);
		state_bytes(st, name, &chip.chip, sizeof(chip.chip));
		if (loading && state_ok(st) && r == 0)
			r = kvm_ioctl(m->kvm.vm_fd, KVM_SET_IRQCHIP, &chip);
	}
	if (!loading && r == 0)
		r = kvm_ioctl(m->kvm.vm_fd, KVM_GET_PIT2, &pit);
	state_bytes(st, "pit", &pit, sizeof(pit));
	if (loading && state_ok(st) && r == 0)
		r = kvm_ioctl(m->kvm.vm_fd, KVM_SET_PIT2, &pit);
	if (r < 0)
		state_fail(st, "KVM refuses it: %s", strerrordesc_np(-r));
	state_end(st);
}

int arch_device_state(struct machine *m, struct state *st)
{
	struct arch_machine *a = m->arch;

	state_begin(st, "devices", 1);
	/* Routes before those who raise lines. */
	if (a->irqchip.in_kernel)
		in_kernel_state(m, st);
	else
		ioapic_state(a->irqchip.ioapic, st);
	if (m->serial != NULL)
		serial_state(m->serial, st);
	rtc_state(a->rtc, st);
	acpi_pm_state(a->pm, st);
	pci_state(a->pci, st);
	state_begin(st, "virtio", 1);
	virtio_state_all(m, st);
	state_end(st);
	return state_end(st);
}
