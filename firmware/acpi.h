/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables for a hardware-reduced machine (ACPI 6.5). See acpi.c.
 */
#ifndef FIRMWARE_ACPI_H
#define FIRMWARE_ACPI_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"

/* Port addresses; 0 means the device is absent. Interrupts are GSIs. */
struct acpi_desc {
	unsigned ncpus;
	const uint32_t *apic_ids;	  /* [ncpus]; ids below 255 among the first 255 CPUs */
	uint64_t lapic_addr, ioapic_addr; /* below 4 GiB */
	uint8_t ioapic_id;
	bool pic; /* 8259 PICs present (MADT PCAT_COMPAT) */

	/*
	 * Linux uses an ECAM above 4 GiB only when SMBIOS says the machine is from 2010 or
	 * later, and, where ports 0xcf8/0xcfc exist, only one that is E820_RESERVED. 0: no PCI.
	 */
	uint64_t ecam_base;
	uint8_t ecam_last_bus;
	uint64_t mmio32_base, mmio32_size; /* windows of the host bridge; size 0: none */
	uint64_t mmio64_base, mmio64_size;

	uint16_t serial_port; /* 16550A, 8 ports */
	uint32_t serial_gsi;
	uint16_t rtc_port; /* MC146818, 2 ports */
	uint32_t rtc_gsi;
	uint16_t pvpanic_port; /* 1 port, _HID QEMU0001 */
	bool i8042;	       /* keyboard controller present (IAPC_BOOT_ARCH) */

	uint16_t sleep_control_port, sleep_status_port; /* byte registers; both or none */
	uint8_t s5_type;				/* SLP_TYP of S5 */
	uint16_t reset_port;
	uint8_t reset_value;
	uint16_t ged_port; /* dword of pending events, cleared by reading */
	uint32_t ged_gsi;
	uint32_t ged_power_button; /* its bit in the events */
	uint32_t ged_generation;   /* likewise, when the generation id changed */
	uint64_t generation_addr;  /* where that is, 16 bytes; 0: there is none */

	/* virtio devices on MMIO, at most 64: device n has page n from here, and GSI gsi + n */
	unsigned nvirtio_mmio;
	uint64_t virtio_mmio_base; /* below 4 GiB */
	uint32_t virtio_mmio_gsi;
};

/*
 * Write RSDP, XSDT, FADT, MADT, MCFG (when there is PCI) and DSDT into guest memory
 * at @base, at most @size bytes, the RSDP first (so *rsdp = @base, 16-byte-aligned).
 * -ENOSPC when they do not fit, -EFAULT when that is not RAM, -EINVAL when @desc says
 * what the tables cannot, or @base is not 16-byte-aligned. 2 KiB and 8 bytes per CPU (16
 * for APIC ids from 255 on) and 64 per virtio device are enough. All interrupts are edge-triggered,
 * active high.
 */
int acpi_build(const struct acpi_desc *desc, struct gmem *mem, uint64_t base, uint64_t size,
	       uint64_t *rsdp, struct err *err);

#endif
