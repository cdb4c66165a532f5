/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel 82093AA I/O APIC in user space, for KVM's split irqchip. See ioapic.c.
 */
#ifndef DEVICES_IOAPIC_H
#define DEVICES_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>
#include "devices/bus.h"
#include "devices/irq.h"
#include "vmm/base/state.h"

struct ioapic;

#define IOAPIC_MMIO_SIZE 0x1000
#define IOAPIC_PINS_MAX	 120

/* How the chip reaches the CPUs. Called with the chip's mutex held; must not call back. */
struct ioapic_output {
	/* Send this message now. */
	void (*send)(struct ioapic_output *out, uint64_t msi_addr, uint32_t msi_data);
	/*
	 * Pin @pin's message changed, for KVM's routing table: used for irqfds bound to
	 * the pin, and by KVM to know which vectors need an EOI exit. @masked: no route.
	 * Called only when something changes; a pin begins without a route.
	 */
	void (*route)(struct ioapic_output *out, unsigned pin, bool masked, uint64_t msi_addr,
		      uint32_t msi_data);
};

/* An I/O APIC with @pins inputs (1..IOAPIC_PINS_MAX), all masked. */
struct ioapic *ioapic_new(unsigned pins, struct ioapic_output *out, struct err *err);
void ioapic_free(struct ioapic *ioapic);
/* IOAPIC_MMIO_SIZE bytes; the caller sets base. */
struct bus_range *ioapic_range(struct ioapic *ioapic);

/*
 * The line of pin @gsi, ready for irq_set(); one without effect when there is no such
 * pin. To pulse an edge-triggered pin set it and clear it.
 */
struct irq_line ioapic_line(struct ioapic *ioapic, uint32_t gsi);
/* KVM_EXIT_IOAPIC_EOI: the guest ended a level-triggered interrupt of @vector. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

/* As after power-on, all pins masked; the lines stay as the devices have set them. */
void ioapic_reset(struct ioapic *ioapic);
/*
 * Save or load, with the vCPUs stopped; the number of pins must be the same. Loading
 * calls out->route() but sends nothing: what was sent is in the local APICs' state.
 */
int ioapic_state(struct ioapic *ioapic, struct state *st);

#endif
