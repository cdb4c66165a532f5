/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI bus 0 behind an ECAM window, with a host bridge and what is added to it.
 * See pci.c.
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include <linux/pci_regs.h>
#include <stdint.h>
#include "devices/bus.h"
#include "vmm/base/state.h"

#define PCI_SLOTS	  32
#define PCI_FUNCTIONS	  8 /* of a slot */
#define PCI_ECAM_BUS_SIZE (PCI_SLOTS * PCI_FUNCTIONS * PCI_CFG_SPACE_EXP_SIZE)

struct pci_bus;

/*
 * One function in one slot. Config accesses are naturally aligned, 1, 2 or 4 bytes, and
 * come on any vCPU thread: the device locks. A write that moves a BAR must leave that to
 * bus_defer(), as the bus it would change is locked by the access itself (see bus.h).
 */
struct pci_func {
	void *dev;
	uint32_t (*config_read)(void *dev, unsigned reg, unsigned len);
	void (*config_write)(void *dev, unsigned reg, uint32_t value, unsigned len);
};

/*
 * The first 256 bytes of a configuration space as memory, for devices to build upon.
 * A write changes only the bits set in @writable. Not locked.
 */
#define PCI_HEADER_SIZE 256

struct pci_config {
	uint8_t data[PCI_HEADER_SIZE];
	uint8_t writable[PCI_HEADER_SIZE];
};

/* Header type 0 for a function without BARs and interrupts. @class: base, sub, interface. */
void pci_config_init(struct pci_config *config, uint16_t vendor, uint16_t device, uint32_t class,
		     uint8_t revision);
/* What lies beyond the first 256 bytes reads as zero: no extended capabilities. */
uint32_t pci_config_read(const struct pci_config *config, unsigned reg, unsigned len);
void pci_config_write(struct pci_config *config, unsigned reg, uint32_t value, unsigned len);

/* Bus 0 with the host bridge in slot 0. NULL with @err filled when out of memory. */
struct pci_bus *pci_new(struct err *err);
void pci_free(struct pci_bus *pci);
/* The ECAM window (PCI_ECAM_BUS_SIZE bytes); the caller sets base. */
struct bus_range *pci_range(struct pci_bus *pci);
/*
 * Put @func (borrowed until pci_free) into the next free slot or, when all slots are taken,
 * beside what is there; slot 0 is the host bridge's alone. Returns slot << 3 | function, or
 * -ENOSPC. Before the guest runs: it would not look at functions of a slot it knows as one
 * with a single function.
 */
int pci_add(struct pci_bus *pci, struct pci_func *func, struct err *err);

/* The host bridge; the functions in other slots look after themselves. */
void pci_reset(struct pci_bus *pci);
int pci_state(struct pci_bus *pci, struct state *st);

#endif
