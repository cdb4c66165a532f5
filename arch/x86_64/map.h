/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address map of the x86 machine: guest physical memory, ports, interrupts.
 *
 *	0x00000000  RAM; the first MiB holds, besides free RAM:
 *	  0x00000500    GDT
 *	  0x00001000    page tables of the 64-bit entry (up to 6 pages)
 *	  0x00007000    zero page, or PVH start info
 *	  0x00020000    kernel command line
 *	  0x0009fc00    reserved from here to 1 MiB, where firmware would be:
 *	  0x000d0000    generation id, in a page to itself
 *	  0x000e0000    ACPI tables
 *	  0x000f0000    MP table (without ACPI)
 *	  0x000ffff0    reset vector
 *	0x00100000  RAM, the kernel among it
 *	0xc0000000  end of low RAM: the boot timer, where Firecracker has it
 *	0xc0100000  window for 32-bit PCI memory
 *	  0xc0100000    BARs of virtio devices, until the guest moves them
 *	0xe8000000  PCI Express configuration space (ECAM), one bus
 *	0xe8100000  registers of virtio devices on MMIO, a page each
 *	0xfec00000  I/O APIC
 *	0xfee00000  local APICs
 *	0xfffbc000  pages KVM needs for real mode on early Intel CPUs
 *	4 GiB       the rest of RAM, files of pmem devices from whole GiB on, then the window for
 *		    64-bit PCI memory, from a whole GiB on, too
 */
#ifndef ARCH_X86_64_MAP_H
#define ARCH_X86_64_MAP_H

#include <stdint.h>

#define MAP_GDT		    0x500
#define MAP_PAGE_TABLES	    0x1000
#define MAP_BOOT_PARAMS	    0x7000
#define MAP_BOOT_PARAMS_END 0x20000
#define MAP_CMDLINE	    0x20000
#define MAP_CMDLINE_MAX	    0x10000
#define MAP_LOW_RAM_END	    0x9fc00
#define MAP_GENERATION	    0xd0000
#define MAP_ACPI	    0xe0000
#define MAP_ACPI_SIZE	    0x10000
#define MAP_MPTABLE	    0xf0000
#define MAP_MPTABLE_SIZE    0xfff0
#define MAP_RESET_VECTOR    0xffff0
#define MAP_HIGH_RAM	    0x100000
#define MAP_RAM_MIN	    (1ULL << 20)

#define MAP_HOLE	 0xc0000000ULL
#define MAP_BOOT_TIMER	 0xc0000000ULL
#define MAP_MMIO32	 0xc0100000ULL
#define MAP_MMIO32_SIZE	 0x27f00000ULL
#define MAP_ECAM	 0xe8000000ULL
#define MAP_VIRTIO_MMIO	 0xe8100000ULL
#define MAP_IOAPIC	 0xfec00000ULL
#define MAP_LAPIC	 0xfee00000ULL
#define MAP_IDENTITY_MAP 0xfffbc000ULL
#define MAP_TSS		 0xfffbd000ULL
#define MAP_4G		 0x100000000ULL

#define MAP_GIB (1ULL << 30)

/* The GiB that begins at @addr or after it. */
static inline uint64_t map_align_1g(uint64_t addr)
{
	return (addr + MAP_GIB - 1) & ~(MAP_GIB - 1);
}

#define PORT_I8042	0x60
#define PORT_RTC	0x70
#define PORT_DEBUG_EXIT 0xf4
#define PORT_SERIAL	0x3f8
#define PORT_PVPANIC	0x505
#define PORT_ACPI_PM	0x600

#define GSI_SERIAL	4
#define GSI_RTC		8
#define GSI_GED		9
#define GSI_VIRTIO_MMIO 16 /* and up: behind the ISA interrupts */
#define IOAPIC_PINS	24 /* as in-kernel, or more: irqchip_pins() */

#define IOAPIC_ID 0

#endif
