/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI bus 0 behind an ECAM window, with a host bridge and nothing else yet.
 * See pci.c.
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include <pthread.h>
#include <stdint.h>
#include "devices/bus.h"
#include "vmm/base/state.h"

#define PCI_SLOTS	  32
#define PCI_CONFIG_SIZE	  4096		/* PCI Express extended configuration space */
#define PCI_ECAM_BUS_SIZE (PCI_SLOTS * 8 * PCI_CONFIG_SIZE)

struct pci_bus;

/* One function in one slot. Config accesses are naturally aligned, 1, 2 or 4 bytes. */
struct pci_func {
	void *dev;
	uint32_t (*config_read)(void *dev, unsigned reg, unsigned len);
	void (*config_write)(void *dev, unsigned reg, uint32_t value, unsigned len);
};

/* Bus 0 with the host bridge in slot 0. */
struct pci_bus *pci_new(struct err *err);
void pci_free(struct pci_bus *pci);
/* The ECAM window (PCI_ECAM_BUS_SIZE bytes); the caller sets base. */
struct bus_range *pci_range(struct pci_bus *pci);
/* Put @func (borrowed) into the next free slot; returns the slot or -ENOSPC. */
int pci_add(struct pci_bus *pci, struct pci_func *func, struct err *err);

#endif
