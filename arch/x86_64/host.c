// SPDX-License-Identifier: Apache-2.0
/* What the host's CPU can do for guests. */
#include <cpuid.h>
#include "arch/arch.h"

bool arch_host_native(const char **why)
{
	unsigned a, b, c, d;

	/* VMX: SDM vol. 3C 24.6; SVM: APM vol. 2 15.4. The same bits /proc/cpuinfo shows. */
	if (__get_cpuid(1, &a, &b, &c, &d) && (c & (1U << 5)) != 0)
		return true;
	if (__get_cpuid(0x80000001, &a, &b, &c, &d) && (c & (1U << 2)) != 0)
		return true;
	*why = "this host's KVM has no hardware virtualisation (no vmx or svm in the CPU's "
	       "flags): it can run small payload guests, but no Linux kernel";
	return false;
}
