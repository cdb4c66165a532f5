/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio transport over PCI. See virtio_pci.c.
 */
#ifndef DEVICES_VIRTIO_PCI_H
#define DEVICES_VIRTIO_PCI_H

#include "devices/bus.h"
#include "devices/irq.h"
#include "devices/pci.h"
#include "devices/virtio.h"
#include "vmm/base/state.h"

#define VIRTIO_PCI_BAR_SIZE 0x8000

struct virtio_pci;

/* What the machine lends to the transport; all of it outlives that. */
struct virtio_pci_host {
	struct pci_bus *pci;
	struct bus *mmio; /* where BARs are, and the ECAM window */
	struct msi_chip *msi;
	struct ioeventfd_chip *ioeventfd; /* NULL: every notification exits */
};

/*
 * Make @vdev (borrowed, must outlive this) a function of the PCI bus, its BAR at @bar (a
 * multiple of VIRTIO_PCI_BAR_SIZE) once the guest enables memory decoding. NULL with @err
 * filled on failure. Freed before the device's virtio_fini() and the bus's pci_free(), with
 * the vCPUs stopped for ever: the function's place on the PCI bus is not given up.
 */
struct virtio_pci *virtio_pci_new(struct virtio_device *vdev, const struct virtio_pci_host *host,
				  uint64_t bar, struct err *err);
void virtio_pci_free(struct virtio_pci *vpci);

/* Device and function as after power-on. vCPUs stopped. */
void virtio_pci_reset(struct virtio_pci *vpci);
/* Save or load, with the device's state (section "virtio") inside. vCPUs stopped, quiesced. */
int virtio_pci_state(struct virtio_pci *vpci, struct state *st);

#endif
