/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers by number (SDM vol. 4); the kernel exports no header of them. */
#ifndef ARCH_X86_64_MSR_H
#define ARCH_X86_64_MSR_H

#define MSR_IA32_TSC	      0x10
#define MSR_IA32_APICBASE     0x1b
#define MSR_IA32_TSC_ADJUST   0x3b
#define MSR_IA32_MISC_ENABLE  0x1a0
#define MSR_MTRRphysBase0     0x200 /* pairs of base and mask, 8 of them */
#define MSR_MTRRphysMask7     0x20f
#define MSR_MTRRfix64K_00000  0x250
#define MSR_MTRRfix16K_80000  0x258
#define MSR_MTRRfix16K_A0000  0x259
#define MSR_MTRRfix4K_C0000   0x268
#define MSR_MTRRfix4K_F8000   0x26f
#define MSR_MTRRdefType	      0x2ff
#define MSR_IA32_TSC_DEADLINE 0x6e0
#define MSR_KERNEL_GS_BASE    0xc0000102

#define MISC_ENABLE_FAST_STRING 1
#define MTRR_ENABLE		(1U << 11)
#define MTRR_WRITE_BACK		6

#endif
