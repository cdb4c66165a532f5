// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models: which of the host's features the guest is told of, so that it can be saved here and
 * go on on another host.
 *
 * The models are the levels of the x86-64 psABI (x86-64-ABI 1.0, section 3.1.1), each of which has
 * what the one below has. Beside the level a guest keeps what the machine itself is made of
 * (paging, APIC, TSC ...) and what protects it (SMEP, speculation controls): hosts that differ in
 * these are told apart when a guest is restored. Vendor, family and model stay the host's, as
 * kernels choose their workarounds by them. All else is hidden: a bit that this file does not name,
 * nested virtualisation, performance counters, and leaves of features that are gone.
 *
 * Hidden is not forbidden: most instructions work without being announced. What has registers of
 * its own (AVX, AVX-512) does not, as KVM lets no guest enable state that leaf 0xd has not.
 *
 * Bits are those of Intel's SDM vol. 2A (CPUID) and AMD's APM vol. 3, appendix E.
 */
#include <errno.h>
#include <string.h>
#include "arch/x86_64/machine.h"

const char *const arch_cpu_model_names[] = { "host",	  "x86-64-v1", "x86-64-v2",
					     "x86-64-v3", "x86-64-v4", NULL };

enum { EAX, EBX, ECX, EDX };

/* Instead of a level 1 to 4: part of any machine; of every model where the host has it; of host. */
#define MACHINE 0
#define KEPT	8
#define HOST	9

static const struct feature {
	const char *name;
	uint32_t leaf;
	uint8_t reg, bit, level;
	const char *needs; /* goes when that goes */
} features[] = {
	{ "fpu", 0x1, EDX, 0, 1, NULL },
	{ "vme", 0x1, EDX, 1, MACHINE, NULL },
	{ "de", 0x1, EDX, 2, MACHINE, NULL },
	{ "pse", 0x1, EDX, 3, MACHINE, NULL },
	{ "tsc", 0x1, EDX, 4, MACHINE, NULL },
	{ "msr", 0x1, EDX, 5, MACHINE, NULL },
	{ "pae", 0x1, EDX, 6, MACHINE, NULL },
	{ "mce", 0x1, EDX, 7, MACHINE, NULL },
	{ "cx8", 0x1, EDX, 8, 1, NULL },
	{ "apic", 0x1, EDX, 9, MACHINE, NULL },
	{ "sep", 0x1, EDX, 11, MACHINE, NULL },
	{ "mtrr", 0x1, EDX, 12, MACHINE, NULL },
	{ "pge", 0x1, EDX, 13, MACHINE, NULL },
	{ "mca", 0x1, EDX, 14, MACHINE, NULL },
	{ "cmov", 0x1, EDX, 15, 1, NULL },
	{ "pat", 0x1, EDX, 16, MACHINE, NULL },
	{ "pse36", 0x1, EDX, 17, MACHINE, NULL },
	{ "clflush", 0x1, EDX, 19, MACHINE, NULL },
	{ "mmx", 0x1, EDX, 23, 1, NULL },
	{ "fxsr", 0x1, EDX, 24, 1, NULL },
	{ "sse", 0x1, EDX, 25, 1, NULL },
	{ "sse2", 0x1, EDX, 26, 1, NULL },
	{ "sse3", 0x1, ECX, 0, 2, NULL },
	{ "pclmulqdq", 0x1, ECX, 1, HOST, NULL },
	{ "vmx", 0x1, ECX, 5, HOST, NULL },
	{ "ssse3", 0x1, ECX, 9, 2, NULL },
	{ "fma", 0x1, ECX, 12, 3, "avx" },
	{ "cx16", 0x1, ECX, 13, 2, NULL },
	{ "pcid", 0x1, ECX, 17, HOST, NULL },
	{ "sse4.1", 0x1, ECX, 19, 2, NULL },
	{ "sse4.2", 0x1, ECX, 20, 2, NULL },
	{ "x2apic", 0x1, ECX, 21, MACHINE, NULL },
	{ "movbe", 0x1, ECX, 22, 3, NULL },
	{ "popcnt", 0x1, ECX, 23, 2, NULL },
	{ "tsc-deadline", 0x1, ECX, 24, MACHINE, NULL },
	{ "aes", 0x1, ECX, 25, HOST, NULL },
	{ "xsave", 0x1, ECX, 26, 3, NULL },
	{ "avx", 0x1, ECX, 28, 3, "xsave" },
	{ "f16c", 0x1, ECX, 29, 3, "avx" },
	{ "rdrand", 0x1, ECX, 30, HOST, NULL },
	{ "hypervisor", 0x1, ECX, 31, MACHINE, NULL },
	{ "fsgsbase", 0x7, EBX, 0, HOST, NULL },
	{ "bmi1", 0x7, EBX, 3, 3, NULL },
	{ "avx2", 0x7, EBX, 5, 3, "avx" },
	{ "smep", 0x7, EBX, 7, KEPT, NULL },
	{ "bmi2", 0x7, EBX, 8, 3, NULL },
	{ "erms", 0x7, EBX, 9, HOST, NULL },
	{ "invpcid", 0x7, EBX, 10, HOST, NULL },
	{ "avx512f", 0x7, EBX, 16, 4, "avx2" },
	{ "avx512dq", 0x7, EBX, 17, 4, "avx512f" },
	{ "rdseed", 0x7, EBX, 18, HOST, NULL },
	{ "adx", 0x7, EBX, 19, HOST, NULL },
	{ "smap", 0x7, EBX, 20, KEPT, NULL },
	{ "clflushopt", 0x7, EBX, 23, HOST, NULL },
	{ "avx512cd", 0x7, EBX, 28, 4, "avx512f" },
	{ "sha", 0x7, EBX, 29, HOST, NULL },
	{ "avx512bw", 0x7, EBX, 30, 4, "avx512f" },
	{ "avx512vl", 0x7, EBX, 31, 4, "avx512f" },
	{ "umip", 0x7, ECX, 2, KEPT, NULL },
	{ "md-clear", 0x7, EDX, 10, KEPT, NULL },
	{ "spec-ctrl", 0x7, EDX, 26, KEPT, NULL },
	{ "stibp", 0x7, EDX, 27, KEPT, NULL },
	{ "flush-l1d", 0x7, EDX, 28, KEPT, NULL },
	{ "arch-capabilities", 0x7, EDX, 29, KEPT, NULL },
	{ "ssbd", 0x7, EDX, 31, KEPT, NULL },
	{ "lahf", 0x80000001, ECX, 0, 2, NULL },
	{ "cmp-legacy", 0x80000001, ECX, 1, MACHINE, NULL },
	{ "svm", 0x80000001, ECX, 2, HOST, NULL },
	{ "lzcnt", 0x80000001, ECX, 5, 3, NULL },
	{ "syscall", 0x80000001, EDX, 11, 1, NULL },
	{ "nx", 0x80000001, EDX, 20, MACHINE, NULL },
	{ "pdpe1gb", 0x80000001, EDX, 26, KEPT, NULL },
	{ "rdtscp", 0x80000001, EDX, 27, KEPT, NULL },
	{ "lm", 0x80000001, EDX, 29, MACHINE, NULL },
	{ "amd-ibpb", 0x80000008, EBX, 12, KEPT, NULL },
	{ "amd-ibrs", 0x80000008, EBX, 14, KEPT, NULL },
	{ "amd-stibp", 0x80000008, EBX, 15, KEPT, NULL },
	{ "amd-ssbd", 0x80000008, EBX, 24, KEPT, NULL },
	{ "virt-ssbd", 0x80000008, EBX, 25, KEPT, NULL },
	{ "ssb-no", 0x80000008, EBX, 26, KEPT, NULL },
};
#define NFEATURES (sizeof(features) / sizeof(features[0]))

/* The words of which a model keeps only what is named above. */
static const struct {
	uint32_t leaf;
	uint8_t reg;
	uint32_t also; /* bits that are not features: kept */
} words[] = {
	{ 0x1, ECX, 0 },
	{ 0x1, EDX, 1U << 28 /* HTT: topology */ },
	{ 0x7, EAX, 0 }, /* the number of sub-leaves */
	{ 0x7, EBX, 0 },
	{ 0x7, ECX, 0 },
	{ 0x7, EDX, 0 },
	{ 0x80000001, ECX, 0 },
	{ 0x80000001, EDX, 0x0183f3ff /* AMD has those of leaf 1 again */ },
	{ 0x80000008, EBX, 0 },
};

/* Leaves of what no model has: counters, SGX, tracing, AMX, key locker, SVM, AVX10. */
static const uint32_t gone[] = { 0xa,  0x12, 0x14,	 0x19,	     0x1c,	 0x1d,
				 0x1e, 0x24, 0x8000000a, 0x8000001b, 0x80000022, 0x80000026 };

#define XSTATE_LEGACY 0x03ULL /* x87, SSE */
#define XSTATE_AVX    0x04ULL
#define XSTATE_AVX512 0xe0ULL
#define XSAVE_MIN     576U /* legacy area and header */

static uint32_t *reg_of(struct kvm_cpuid_entry2 *e, unsigned reg)
{
	return reg == EAX ? &e->eax : reg == EBX ? &e->ebx : reg == ECX ? &e->ecx : &e->edx;
}

static uint32_t *word(struct kvm_cpuid2 *cpuid, uint32_t leaf, unsigned reg)
{
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, leaf, 0);

	return e != NULL ? reg_of(e, reg) : NULL;
}

static bool has(struct kvm_cpuid2 *cpuid, const struct feature *f)
{
	const uint32_t *w = word(cpuid, f->leaf, f->reg);

	return w != NULL && (*w >> f->bit & 1) != 0;
}

static const struct feature *by_name(const char *name, size_t len)
{
	for (size_t i = 0; i < NFEATURES; i++)
		if (strlen(features[i].name) == len && memcmp(features[i].name, name, len) == 0)
			return &features[i];
	return NULL;
}

static void drop(struct kvm_cpuid2 *cpuid, const struct feature *f)
{
	uint32_t *w = word(cpuid, f->leaf, f->reg);

	if (w != NULL)
		*w &= ~(1U << f->bit);
}

/* What needs something that is gone goes, too. */
static void drop_dependents(struct kvm_cpuid2 *cpuid)
{
	bool dropped = true;

	while (dropped) {
		dropped = false;
		for (size_t i = 0; i < NFEATURES; i++) {
			const struct feature *f = &features[i];

			if (f->needs == NULL || !has(cpuid, f) ||
			    has(cpuid, by_name(f->needs, strlen(f->needs))))
				continue;
			drop(cpuid, f);
			dropped = true;
		}
	}
}

/* States that can be saved: those of features that are there; @all: also what is unknown here. */
static void set_xsave(struct kvm_cpuid2 *cpuid, bool all)
{
	struct kvm_cpuid_entry2 *main = cpuid_find(cpuid, 0xd, 0);
	uint64_t states = XSTATE_LEGACY;
	uint32_t size = XSAVE_MIN;

	if (!has(cpuid, by_name("xsave", 5))) {
		cpuid_drop_leaf(cpuid, 0xd, 0);
		return;
	}
	if (main == NULL)
		return;
	if (all)
		states = ((uint64_t)main->edx << 32 | main->eax) & ~(XSTATE_AVX | XSTATE_AVX512);
	if (has(cpuid, by_name("avx", 3)))
		states |= XSTATE_AVX;
	if (has(cpuid, by_name("avx512f", 7)))
		states |= XSTATE_AVX512;
	states &= (uint64_t)main->edx << 32 | main->eax;
	main->eax = (uint32_t)states;
	main->edx = (uint32_t)(states >> 32);
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != 0xd || e->index == 0)
			continue;
		if (e->index == 1) { /* XSAVEOPT, XSAVEC, XSAVES */
			if (!all)
				e->eax = e->ebx = e->ecx = e->edx = 0;
		} else if (e->index >= 64 || (states >> e->index & 1) == 0) {
			/* Supervisor states are in no word of states; they go with XSAVES. */
			if (!all || (1ULL << (e->index & 63) & (XSTATE_AVX | XSTATE_AVX512)) != 0)
				e->eax = e->ebx = e->ecx = e->edx = 0;
		} else if (e->ebx + e->eax > size) {
			size = e->ebx + e->eax;
		}
	}
	main->ecx = size;
}

/* Reduce @cpuid to the level; a feature of it that is missing is an error. */
static int set_level(struct kvm_cpuid2 *cpuid, unsigned level, struct err *err)
{
	for (size_t i = 0; i < NFEATURES; i++)
		if (features[i].level != MACHINE && features[i].level <= level &&
		    !has(cpuid, &features[i]))
			return err_set(
				err, ENOTSUP,
				"--cpu %s: this host's CPU or KVM has no %s, which is part of it",
				arch_cpu_model_names[level], features[i].name);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		uint32_t *w = word(cpuid, words[i].leaf, words[i].reg), keep = words[i].also;

		for (size_t j = 0; j < NFEATURES; j++)
			if (features[j].leaf == words[i].leaf && features[j].reg == words[i].reg &&
			    (features[j].level <= level || features[j].level == KEPT))
				keep |= 1U << features[j].bit;
		if (w != NULL)
			*w &= keep;
	}
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		cpuid_drop_leaf(cpuid, gone[i], 0);
	cpuid_drop_leaf(cpuid, 0x7, 1);
	return 0;
}

/* The next name of a list parted by '+', and its length; NULL after the last. */
static const char *next_name(const char **list, size_t *len)
{
	const char *name = *list;

	if (name == NULL)
		return NULL;
	*len = strcspn(name, "+");
	*list = name[*len] == '+' ? name + *len + 1 : NULL;
	return name;
}

int cpu_model_check(const struct cpu_model_config *cfg, struct err *err)
{
	const char *list = cfg->without, *name;
	size_t len;

	while ((name = next_name(&list, &len)) != NULL) {
		const struct feature *f = by_name(name, len);

		if (f == NULL)
			return err_set(
				err, EINVAL,
				"--cpu: without: there is no feature '%.*s' (names are such as "
				"avx2 or rdrand+rdseed)",
				len < 40 ? (int)len : 40, name);
		if (f->level == MACHINE || f->level == 1)
			return err_set(
				err, EINVAL,
				"--cpu: without: every machine has %s, and kernels rely on it",
				f->name);
	}
	return 0;
}

int cpu_model_apply(const struct cpu_model_config *cfg, struct kvm_cpuid2 *cpuid, struct err *err)
{
	const char *list = cfg->without, *name;
	size_t len;

	if (cfg->model == 0 && list == NULL)
		return 0;
	if (cpu_model_check(cfg, err) < 0 ||
	    (cfg->model != 0 && set_level(cpuid, (unsigned)cfg->model, err) < 0))
		return -err->code;
	while ((name = next_name(&list, &len)) != NULL)
		drop(cpuid, by_name(name, len));
	drop_dependents(cpuid);
	set_xsave(cpuid, cfg->model == 0);
	return 0;
}
