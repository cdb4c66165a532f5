/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel MultiProcessor Specification 1.4 table, for kernels without ACPI.
 */
#ifndef FIRMWARE_MPTABLE_H
#define FIRMWARE_MPTABLE_H

#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"

struct mptable_desc {
	unsigned ncpus;		  /* 1 to 255, the first is the bootstrap processor */
	const uint32_t *apic_ids; /* [ncpus], each below 255 */
	uint32_t lapic_addr, ioapic_addr;
	uint8_t ioapic_id;
	unsigned irqs; /* on the I/O APIC's pins of the same number, 16 to 120 */
	uint32_t cpu_signature, cpu_features; /* CPUID leaf 1 EAX and EDX */
};

/*
 * Write the floating pointer and the configuration table at @base (16-byte-aligned;
 * to be found it must lie in the EBDA, the last KiB of low memory, or 0xf0000-0xfffff).
 * -ENOSPC when @size is too small, -EFAULT when that is not RAM, -EINVAL when @desc says
 * what the table cannot. *used: bytes written, 92, 20 per CPU and 8 per IRQ.
 */
int mptable_build(const struct mptable_desc *desc, struct gmem *mem, uint64_t base, uint64_t size,
		  uint64_t *used, struct err *err);

#endif
