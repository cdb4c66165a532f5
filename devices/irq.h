/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device knows of interrupts and of the machine around it: a line it can
 * raise and lower, and a place to report what only the whole VM can act on.
 *
 * Lock order. irq_set() may be, and should be, called with the device's own mutex
 * held: then the level on the line is always the one the device's registers say, and
 * a thread that computed an older level cannot deliver it late. This is the one place
 * where a second mutex (the interrupt controller's) is taken under a first. It cannot
 * deadlock because the controller's mutex is a leaf: under it, the controller calls
 * only its struct ioapic_output, which issues KVM ioctls and never calls a device.
 *
 * machine_report() is called with no mutex held.
 */
#ifndef DEVICES_IRQ_H
#define DEVICES_IRQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One input of the interrupt controller (a GSI in ACPI's words). */
struct irq_line {
	/* Any thread, also with a device's mutex held; must not call a device. */
	void (*set)(struct irq_line *line, bool level);
	void *chip;
	uint32_t gsi;
};

static inline void irq_set(struct irq_line *line, bool level)
{
	if (line != NULL && line->set != NULL)
		line->set(line, level);
}

/*
 * Message-signalled interrupts: a write of @data to @addr, as the guest put them into a PCI
 * function's MSI-X table. Any thread, also with a device's mutex held; calls no device.
 */
struct msi_chip {
	/* Send one now. Delivering costs one system call and needs no set-up. */
	void (*send)(struct msi_chip *chip, uint64_t addr, uint32_t data);
	/*
	 * Let eventfd @fd, signalled by the host's kernel (vhost), send it. Costs a change of
	 * KVM's routing table, so only for those. Returns a handle >= 0 or -errno.
	 */
	int (*connect)(struct msi_chip *chip, int fd, uint64_t addr, uint32_t data);
	void (*disconnect)(struct msi_chip *chip, int handle, int fd);
};

/*
 * Notifications that do not exit to us: from now on (or no longer) a write of @len bytes
 * (0: of any length) at MMIO address @addr, and of the value *@match unless that is NULL,
 * signals eventfd @fd. 0 or -errno. Any thread, also with a device's mutex held.
 */
struct ioeventfd_chip {
	int (*set)(struct ioeventfd_chip *chip, int fd, uint64_t addr, unsigned len,
		   const uint64_t *match, bool on);
};

enum machine_event {
	MACHINE_POWEROFF,    /* ACPI S5 */
	MACHINE_RESET,	     /* reset register, keyboard controller, ... */
	MACHINE_PANICKED,    /* pvpanic: the guest kernel crashed */
	MACHINE_CRASHLOADED, /* pvpanic: it crashed and runs its own crash kernel */
	MACHINE_DEBUG_EXIT,  /* a test payload ends the VM; @arg is its status */
};

/* Where devices report machine events. Any thread; returns at once. */
struct machine_events {
	void (*report)(struct machine_events *events, enum machine_event event, uint32_t arg);
};

static inline void machine_report(struct machine_events *events, enum machine_event event,
				  uint32_t arg)
{
	if (events != NULL && events->report != NULL)
		events->report(events, event, arg);
}

#endif
