/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MSI-X vectors of a PCI function: table, masks, pending bits, irqfds. See msix.c.
 *
 * Not locked: the function calls everything under its own mutex.
 */
#ifndef DEVICES_MSIX_H
#define DEVICES_MSIX_H

#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stdint.h>
#include "devices/irq.h"
#include "vmm/base/state.h"

#define MSIX_VECTORS_MAX 128
#define MSIX_IRQFDS_MAX	 64

/* An eventfd of which the host's kernel makes interrupts. */
struct msix_irqfd {
	int fd;		 /* borrowed; -1: none wanted */
	unsigned vector; /* which, may be none there is */
	int handle;	 /* of msi_chip.connect, or -1 */
};

struct msix {
	struct msi_chip *chip;
	unsigned n;	  /* vectors, at most MSIX_VECTORS_MAX */
	uint16_t control; /* PCI_MSIX_FLAGS_ENABLE and _MASKALL, as the guest wrote them */
	uint8_t table[MSIX_VECTORS_MAX][PCI_MSIX_ENTRY_SIZE]; /* as the guest sees it */
	uint64_t pending[MSIX_VECTORS_MAX / 64];
	struct msix_irqfd irqfd[MSIX_IRQFDS_MAX];
};

/* @n vectors, masked and disabled; @chip is borrowed. */
void msix_init(struct msix *msix, struct msi_chip *chip, unsigned n);
/* As after power-on. irqfds, disconnected, are still wanted. */
void msix_reset(struct msix *msix);

/* Interrupt by vector @v, now or when it is unmasked. Nothing happens if there is no such one. */
void msix_notify(struct msix *msix, unsigned v);

/*
 * The guest wrote the capability's control word. Like all that may unmask a vector this
 * returns 0, or -errno when an irqfd could not be connected: its interrupts are lost then.
 */
int msix_set_control(struct msix *msix, uint16_t control);
/*
 * An access to the table or the pending bits at byte @off. What is beyond them, and any access
 * that is not an aligned one of 4 or 8 bytes, reads as zero and is dropped.
 */
void msix_table_read(const struct msix *msix, unsigned off, void *data, unsigned len);
int msix_table_write(struct msix *msix, unsigned off, const void *data, unsigned len);
void msix_pending_read(const struct msix *msix, unsigned off, void *data, unsigned len);

/* Let irqfd @i be @fd (-1: be none), and interrupt by vector @v. */
int msix_irqfd(struct msix *msix, unsigned i, int fd, unsigned v);
/* The vector of irqfd @i, used or not, is another one. */
int msix_irqfd_vector(struct msix *msix, unsigned i, unsigned v);

/* Fields of the function's section. After loading msix_set_control() must follow. */
void msix_state(struct msix *msix, struct state *st);

#endif
