// SPDX-License-Identifier: Apache-2.0
/*
 * Where virtio devices go in the x86 machine: onto PCI, or to a page of MMIO registers each.
 *
 * PCI is what every stock kernel has a driver for, and its interrupts are messages; but it is
 * found through ACPI here (MCFG), there is no 0xcf8 mechanism. So without ACPI it is MMIO: the
 * kernel's command line names the devices (load.c). MMIO with ACPI is for kernels without PCI;
 * there they are nodes in the DSDT.
 *
 * BARs get addresses here, as a PC's firmware would give them; Linux leaves them there. On
 * MMIO device N interrupts by GSI 16 + N, an edge-triggered pin that it has to itself.
 */
#include <errno.h>
#include <stdio.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"

bool virtio_on_mmio(const struct machine_config *cfg)
{
	return cfg->transport == TRANSPORT_MMIO || (cfg->transport == TRANSPORT_AUTO && !cfg->acpi);
}

int virtio_check_config(const struct machine_config *cfg, struct err *err)
{
	const unsigned in_kernel_max = IOAPIC_PINS - GSI_VIRTIO_MMIO;

	if (!virtio_on_mmio(cfg) && !cfg->acpi)
		return err_set(err, EINVAL,
			       "virtio devices on PCI need ACPI, by which kernels find PCI here: "
			       "leave --no-acpi out, or put the devices on MMIO");
	if (cfg->nvirtio > MACHINE_VIRTIO_MAX)
		return err_set(err, ENOSPC, "%u virtio devices, the machine takes at most %d",
			       cfg->nvirtio, MACHINE_VIRTIO_MAX);
	if (virtio_on_mmio(cfg) && cfg->pit && cfg->nvirtio > in_kernel_max)
		return err_set(err, ENOSPC,
			       "%u virtio devices on MMIO, but with --pit there are interrupts for "
			       "%u: leave --pit out%s",
			       cfg->nvirtio, in_kernel_max,
			       cfg->acpi ? ", or put the devices on PCI" : "");
	return 0;
}

int arch_add_virtio(struct machine *m, struct virtio_device *vdev, struct err *err)
{
	struct arch_machine *a = m->arch;
	struct machine_virtio *v = &a->virtio;
	unsigned n = v->n;

	if (n >= m->cfg->nvirtio || n >= MACHINE_VIRTIO_MAX)
		return err_set(err, ENOSPC, "%s: the machine has room for %u virtio devices",
			       vdev->name, n);
	if (virtio_on_mmio(m->cfg)) {
		v->mmio[n] = virtio_mmio_new(vdev, &m->mmio, MAP_VIRTIO_MMIO + n * VIRTIO_MMIO_SIZE,
					     irqchip_line(&a->irqchip, GSI_VIRTIO_MMIO + n),
					     &a->irqchip.ioeventfd, err);
		if (v->mmio[n] == NULL)
			return -err->code;
	} else {
		struct virtio_pci_host host = { .pci = a->pci,
						.mmio = &m->mmio,
						.msi = &a->irqchip.msi,
						.ioeventfd = &a->irqchip.ioeventfd };

		v->pci[n] = virtio_pci_new(vdev, &host, MAP_MMIO32 + n * VIRTIO_PCI_BAR_SIZE, err);
		if (v->pci[n] == NULL)
			return -err->code;
	}
	v->n++;
	return 0;
}

void virtio_fini_all(struct machine *m)
{
	struct machine_virtio *v = &m->arch->virtio;

	while (v->n > 0) {
		v->n--;
		virtio_pci_free(v->pci[v->n]);
		virtio_mmio_free(v->mmio[v->n]);
	}
}

void virtio_state_all(struct machine *m, struct state *st)
{
	struct machine_virtio *v = &m->arch->virtio;
	uint32_t n = v->n;
	char name[24];

	state_u32(st, "devices", &n);
	if (n != v->n)
		state_fail(st, "%u devices were saved, %u are there", n, v->n);
	for (unsigned i = 0; i < v->n; i++) {
		snprintf(name, sizeof(name), "device%u", i);
		state_begin(st, name, 1);
		if (v->pci[i] != NULL)
			virtio_pci_state(v->pci[i], st);
		else
			virtio_mmio_state(v->mmio[i], st);
		state_end(st);
	}
}

void virtio_reset_all(struct machine *m)
{
	struct machine_virtio *v = &m->arch->virtio;

	for (unsigned i = 0; i < v->n; i++) {
		if (v->pci[i] != NULL)
			virtio_pci_reset(v->pci[i]);
		else
			virtio_mmio_reset(v->mmio[i]);
	}
}
