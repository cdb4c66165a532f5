// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID: what KVM supports, made consistent with the machine's topology and clock.
 *
 * Leaves follow Intel's SDM vol. 2A (CPUID) and AMD's APM vol. 3 appendix E; the
 * hypervisor leaves Documentation/virt/kvm/x86/cpuid.rst. The host's own numbers of
 * cores, threads and sharing in leaves 0x1, 0x4, 0xb, 0x1f, 0x80000008, 0x8000001d
 * and 0x8000001e would be wrong in the guest, so they are replaced; so are the APIC
 * IDs, which differ for each vCPU. Everything else is KVM's word, or the part of it that --cpu
 * leaves (cpu_model.c).
 *
 * The TSC frequency goes out three times, for guests that look in different places:
 * leaf 0x15 (Intel), leaf 0x40000010 (the convention VMware began), and the KVM
 * clock, which KVM itself provides. A guest that knows it calibrates nothing, and
 * then needs no PIT and no PM timer.
 */
#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "arch/x86_64/machine.h"

/* KVM's APIC timer counts at 1 GHz (APIC_BUS_CYCLE_NS is 1). */
#define APIC_BUS_HZ 1000000000U

#define LEVEL_INVALID 0
#define LEVEL_SMT     1
#define LEVEL_CORE    2

enum vendor { VENDOR_INTEL, VENDOR_AMD, VENDOR_OTHER };

static unsigned ceil_log2(uint64_t n)
{
	unsigned bits = 0;

	while ((1ULL << bits) < n)
		bits++;
	return bits;
}

int cpu_topology(const struct cpu_config *cfg, struct cpu_config *full, struct err *err)
{
	*full = *cfg;
	if (full->threads == 0)
		full->threads = 1;
	if (full->sockets == 0)
		full->sockets = full->cores == 0 ? 1 : full->count / (full->cores * full->threads);
	if (full->cores == 0 && full->sockets * full->threads != 0)
		full->cores = full->count / (full->sockets * full->threads);
	/* Too many of the others leave none; say so as "one is too many". */
	if (full->sockets == 0)
		full->sockets = 1;
	if (full->cores == 0)
		full->cores = 1;
	if (full->sockets * full->cores * full->threads != full->count)
		return err_set(
			err, EINVAL,
			"--cpus: sockets=%llu times cores=%llu times threads=%llu is not the "
			"count, %llu",
			(unsigned long long)full->sockets, (unsigned long long)full->cores,
			(unsigned long long)full->threads, (unsigned long long)full->count);
	return 0;
}

uint32_t cpu_apic_id(const struct cpu_config *cfg, unsigned index)
{
	struct cpu_config t;
	struct err ignored;
	unsigned thread_bits, core_bits;

	cpu_topology(cfg, &t, &ignored);
	thread_bits = ceil_log2(t.threads);
	core_bits = ceil_log2(t.cores);
	return (uint32_t)(index % t.threads | (index / t.threads % t.cores) << thread_bits |
			  (index / (t.threads * t.cores)) << (thread_bits + core_bits));
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index)
{
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	return NULL;
}

/* The entry of @leaf and @index; a new one of zeroes when there was none. */
static struct kvm_cpuid_entry2 *get(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index,
				    uint32_t flags)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, leaf, index);

	if (e == NULL) {
		if (cpuid->nent == CPUID_ENTRIES_MAX)
			return &cpuid->entries[CPUID_ENTRIES_MAX - 1];
		e = &cpuid->entries[cpuid->nent++];
		*e = (struct kvm_cpuid_entry2){ .function = leaf, .index = index };
	}
	e->flags = flags;
	return e;
}

void cpuid_drop_leaf(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t from)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != leaf || cpuid->entries[i].index < from)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

static enum vendor vendor_of(struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0, 0);

	if (e == NULL)
		return VENDOR_OTHER;
	if (e->ebx == signature_INTEL_ebx && e->ecx == signature_INTEL_ecx)
		return VENDOR_INTEL;
	if ((e->ebx == signature_AMD_ebx && e->ecx == signature_AMD_ecx) ||
	    (e->ebx == 0x6f677948 /* "Hygo" */))
		return VENDOR_AMD;
	return VENDOR_OTHER;
}

/* Leaves 0xb and 0x1f: one sub-leaf per level, each with the bits to shift it away. */
static void set_extended_topology(struct kvm_cpuid2 *cpuid, uint32_t leaf,
				  const struct cpu_config *t)
{
	unsigned thread_bits = ceil_log2(t->threads);
	unsigned core_bits = ceil_log2(t->cores);
	struct kvm_cpuid_entry2 *e;

	cpuid_drop_leaf(cpuid, leaf, 0);
	e = get(cpuid, leaf, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	e->eax = thread_bits;
	e->ebx = (uint32_t)t->threads;
	e->ecx = LEVEL_SMT << 8;
	e = get(cpuid, leaf, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	e->eax = thread_bits + core_bits;
	e->ebx = (uint32_t)(t->threads * t->cores);
	e->ecx = LEVEL_CORE << 8 | 1;
	e = get(cpuid, leaf, 2, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
	e->ecx = LEVEL_INVALID << 8 | 2;
}

/* Number of APIC IDs below one cache of @level, which the leaves give minus one. */
static uint32_t cache_sharing(const struct cpu_config *t, unsigned level)
{
	unsigned thread_bits = ceil_log2(t->threads);

	/* Levels 1 and 2 belong to a core, the last level to the socket. */
	if (level <= 2)
		return (1U << thread_bits) - 1;
	return (1U << (thread_bits + ceil_log2(t->cores))) - 1;
}

static void set_cache_topology(struct kvm_cpuid2 *cpuid, uint32_t leaf, const struct cpu_config *t,
			       bool intel)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != leaf || (e->eax & 0x1f) == 0)
			continue;
		e->eax &= intel ? 0x3fffU : 0xfc003fffU;
		e->eax |= (cache_sharing(t, (e->eax >> 5) & 7) & 0xfff) << 14;
		if (intel)
			e->eax |= (((1U << ceil_log2(t->cores)) - 1) & 0x3f) << 26;
	}
}

static void set_intel(struct kvm_cpuid2 *cpuid, const struct cpu_config *t)
{
	struct kvm_cpuid_entry2 *e;

	set_cache_topology(cpuid, 0x4, t, true);
	set_extended_topology(cpuid, 0x1f, t);
	e = get(cpuid, 0, 0, 0);
	if (e->eax < 0x1f)
		e->eax = 0x1f;
}

static void set_amd(struct kvm_cpuid2 *cpuid, const struct cpu_config *t)
{
	uint32_t per_socket = (uint32_t)(t->cores * t->threads);
	struct kvm_cpuid_entry2 *e;

	e = get(cpuid, 0, 0, 0);
	if (e->eax < 0xb)
		e->eax = 0xb;
	e = cpuid_find(cpuid, 0x80000001, 0);
	if (e != NULL && per_socket > 1)
		e->ecx |= 1U << 1; /* CmpLegacy */
	e = cpuid_find(cpuid, 0x80000008, 0);
	if (e != NULL)
		e->ecx = ceil_log2(t->threads) + ceil_log2(t->cores) == 0
				 ? 0
				 : (ceil_log2(t->threads) + ceil_log2(t->cores)) << 12 |
					   ((per_socket - 1) & 0xff);
	set_cache_topology(cpuid, 0x8000001d, t, false);
	e = cpuid_find(cpuid, 0x8000001e, 0);
	if (e != NULL) { /* core and node: filled for each vCPU */
		e->ebx = (uint32_t)(t->threads - 1) << 8;
		e->ecx = 0;
	}
}

static void set_common(struct machine *m, struct kvm_cpuid2 *cpuid, const struct cpu_config *t)
{
	uint32_t ids = 1U << (ceil_log2(t->threads) + ceil_log2(t->cores));
	struct kvm_cpuid_entry2 *e = get(cpuid, 1, 0, 0);

	e->ebx &= 0x0000ffff;
	e->ebx |= (ids > 255 ? 255 : ids) << 16;
	e->edx &= ~(1U << 28);
	if (t->cores * t->threads > 1)
		e->edx |= 1U << 28; /* HTT: more than one logical processor per package */
	e->ecx |= 1U << 31;	    /* hypervisor */
	e->ecx |= 1U << 21;	    /* x2APIC: KVM's local APIC always has it */
	if (kvm_cap(&m->kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		e->ecx |= 1U << 24;
	/* The local APIC timer runs in all of KVM's idle states. */
	get(cpuid, 6, 0, 0)->eax |= 1U << 2; /* ARAT */
	set_extended_topology(cpuid, 0xb, t);

	e = cpuid_find(cpuid, 0x40000001, 0);
	if (e != NULL)
		e->eax |= 1U << KVM_FEATURE_MSI_EXT_DEST_ID;
	e = cpuid_find(cpuid, 0x80000008, 0);
	m->arch->phys_bits = e != NULL && (e->eax & 0xff) >= 36 ? e->eax & 0xff : 36;
}

int cpuid_init(struct machine *m, struct err *err)
{
	struct kvm_cpuid2 *cpuid;
	struct cpu_config t;
	int r;

	if (cpu_topology(&m->cfg->cpus, &t, err) < 0)
		return -err->code;
	cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	if (cpuid == NULL)
		return err_set(err, ENOMEM, "no memory for CPUID");
	m->arch->cpuid = cpuid;
	cpuid->nent = CPUID_ENTRIES_MAX;
	r = kvm_ioctl(m->kvm.fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	if (r < 0)
		return err_sys(err, -r, "KVM_GET_SUPPORTED_CPUID");
	if (cpu_model_apply(&m->cfg->cpu, cpuid, err) < 0)
		return -err->code;

	set_common(m, cpuid, &t);
	switch (vendor_of(cpuid)) {
	case VENDOR_INTEL:
		set_intel(cpuid, &t);
		break;
	case VENDOR_AMD:
		set_amd(cpuid, &t);
		break;
	case VENDOR_OTHER:
		break;
	}
	return 0;
}

enum reg { EAX, EBX, ECX, EDX };

static uint32_t reg_of(const struct kvm_cpuid_entry2 *e, enum reg reg)
{
	if (e == NULL)
		return 0;
	return reg == EAX ? e->eax : reg == EBX ? e->ebx : reg == ECX ? e->ecx : e->edx;
}

int cpuid_restore(struct machine *m, struct kvm_cpuid2 *saved, struct err *err)
{
	/* The words that are nothing but features, a bit each. */
	static const struct {
		uint32_t leaf, index;
		enum reg reg;
	} word[] = {
		{ 0x1, 0, ECX },	{ 0x1, 0, EDX },	{ 0x7, 0, EBX },
		{ 0x7, 0, ECX },	{ 0x7, 0, EDX },	{ 0x7, 1, EAX },
		{ 0x7, 1, EDX },	{ 0x7, 2, EDX },	{ 0xd, 0, EAX },
		{ 0xd, 0, EDX },	{ 0xd, 1, EAX },	{ 0x80000001, 0, ECX },
		{ 0x80000001, 0, EDX }, { 0x80000007, 0, EDX }, { 0x80000008, 0, EBX },
		{ 0x8000000a, 0, EDX }, { 0x80000021, 0, EAX }, { 0x40000001, 0, EAX },
	};
	static const char *const name[] = { "EAX", "EBX", "ECX", "EDX" };
	struct kvm_cpuid2 *host = m->arch->cpuid;
	const struct kvm_cpuid_entry2 *a, *b;

	if (vendor_of(saved) != vendor_of(host))
		return err_set(err, ENOTSUP,
			       "this host's CPU is of another maker than the guest's");
	for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
		uint32_t missing =
			reg_of(cpuid_find(saved, word[i].leaf, word[i].index), word[i].reg) &
			~reg_of(cpuid_find(host, word[i].leaf, word[i].index), word[i].reg);

		if (missing != 0)
			return err_set(
				err, ENOTSUP,
				"this host's CPU or KVM lacks features the guest knows of: bits "
				"0x%x of CPUID leaf 0x%x/%u %s",
				missing, word[i].leaf, word[i].index, name[word[i].reg]);
	}
	a = cpuid_find(saved, 0x80000008, 0);
	b = cpuid_find(host, 0x80000008, 0);
	if (a != NULL && b != NULL && (a->eax & 0xff) > (b->eax & 0xff))
		return err_set(err, ENOTSUP,
			       "this host's CPU has %u address bits, the guest knows of %u",
			       b->eax & 0xff, a->eax & 0xff);
	host->nent = saved->nent;
	memcpy(host->entries, saved->entries, saved->nent * sizeof(saved->entries[0]));
	m->arch->phys_bits = a != NULL && (a->eax & 0xff) >= 36 ? a->eax & 0xff : 36;
	return 0;
}

void cpuid_set_clock(struct machine *m, struct kvm_vcpu *vcpu)
{
	int khz = kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	struct kvm_cpuid2 *cpuid = m->arch->cpuid;
	struct kvm_cpuid_entry2 *e;

	m->arch->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	if (khz <= 0) /* KVM does not know: then the guest must find out */
		return;
	if (vendor_of(cpuid) == VENDOR_INTEL) {
		e = get(cpuid, 0x15, 0, 0);
		e->eax = APIC_BUS_HZ / 1000; /* TSC : crystal = ebx : eax */
		e->ebx = (uint32_t)khz;
		e->ecx = APIC_BUS_HZ;
		e->edx = 0;
	}
	e = cpuid_find(cpuid, 0x40000000, 0);
	if (e != NULL) {
		e->eax = 0x40000010;
		e = get(cpuid, 0x40000010, 0, 0);
		e->eax = (uint32_t)khz;
		e->ebx = APIC_BUS_HZ / 1000;
	}
}

int cpuid_set(struct machine *m, unsigned index, struct kvm_vcpu *vcpu, struct err *err)
{
	struct kvm_cpuid2 *cpuid = m->arch->cpuid;
	uint32_t id = cpu_apic_id(&m->cfg->cpus, index);
	struct cpu_config t;
	int r;

	cpu_topology(&m->cfg->cpus, &t, err);
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		switch (e->function) {
		case 0x1:
			e->ebx = (e->ebx & 0x00ffffff) | (id & 0xff) << 24;
			break;
		case 0xb:
		case 0x1f:
			e->edx = id;
			break;
		case 0x8000001e:
			e->eax = id;
			e->ebx = (e->ebx & ~0xffU) | (id >> ceil_log2(t.threads) & 0xff);
			break;
		}
	}
	r = kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid);
	if (r < 0)
		return err_sys(err, -r, "vCPU %u: KVM_SET_CPUID2", index);
	return 0;
}
