// SPDX-License-Identifier: Apache-2.0
/*
 * MSI-X: PCI Local Bus Specification 3.0, 6.8.2 and 6.8.3.
 *
 * An interrupt is sent as it is, with one system call; nothing has to be set up before. Only an
 * eventfd that the host's kernel signals (vhost) needs more: a route in KVM's table and an
 * irqfd, which exist while its vector does and is not masked.
 *
 * A masked vector gathers what would have been sent: in the pending bits and, for an irqfd, in
 * the eventfd itself, which nobody reads meanwhile. When the irqfd is made again KVM looks
 * whether the eventfd was signalled already, and sends if so. It leaves the count in place, so
 * the next mask and unmask may send once more; an interrupt too many is harmless, one too few
 * is not. A vector also counts as masked while MSI-X as a whole is disabled: our functions have
 * no other way to interrupt, and so nothing gets lost.
 *
 * Limits: the pending bit of a vector whose interrupts come by irqfd reads as 0.
 */
#include <endian.h>
#include <string.h>
#include "devices/bus.h"
#include "devices/msix.h"

#define CONTROL_WRITABLE (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL)

static bool vector_masked(const struct msix *msix, unsigned v)
{
	return msix->control != PCI_MSIX_FLAGS_ENABLE ||
	       (msix->table[v][PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static uint64_t vector_addr(const struct msix *msix, unsigned v)
{
	return bus_get_le(msix->table[v] + PCI_MSIX_ENTRY_LOWER_ADDR, 8);
}

static uint32_t vector_data(const struct msix *msix, unsigned v)
{
	return bus_get_le(msix->table[v] + PCI_MSIX_ENTRY_DATA, 4);
}

static void irqfd_disconnect(struct msix *msix, struct msix_irqfd *irqfd)
{
	if (irqfd->handle >= 0)
		msix->chip->disconnect(msix->chip, irqfd->handle, irqfd->fd);
	irqfd->handle = -1;
}

/* Connect it if it is not and shall be, disconnect it if it is and shall not. */
static int irqfd_update(struct msix *msix, struct msix_irqfd *irqfd)
{
	unsigned v = irqfd->vector;
	int r;

	if (irqfd->fd < 0 || v >= msix->n || vector_masked(msix, v)) {
		irqfd_disconnect(msix, irqfd);
		return 0;
	}
	if (irqfd->handle >= 0)
		return 0;
	r = msix->chip->connect(msix->chip, irqfd->fd, vector_addr(msix, v), vector_data(msix, v));
	if (r >= 0)
		irqfd->handle = r;
	return r < 0 ? r : 0;
}

/* Vector @v may have been masked or unmasked, or (@changed) have another message. */
static int vector_update(struct msix *msix, unsigned v, bool changed)
{
	uint64_t bit = 1ULL << v % 64;
	int ret = 0;

	for (unsigned i = 0; i < MSIX_IRQFDS_MAX; i++) {
		struct msix_irqfd *irqfd = &msix->irqfd[i];
		int r;

		if (irqfd->fd < 0 || irqfd->vector != v)
			continue;
		if (changed)
			irqfd_disconnect(msix, irqfd);
		r = irqfd_update(msix, irqfd);
		if (r < 0)
			ret = r;
	}
	if ((msix->pending[v / 64] & bit) != 0 && !vector_masked(msix, v)) {
		msix->pending[v / 64] &= ~bit;
		msix_notify(msix, v);
	}
	return ret;
}

void msix_notify(struct msix *msix, unsigned v)
{
	if (v >= msix->n)
		return;
	if (vector_masked(msix, v))
		msix->pending[v / 64] |= 1ULL << v % 64;
	else
		msix->chip->send(msix->chip, vector_addr(msix, v), vector_data(msix, v));
}

int msix_set_control(struct msix *msix, uint16_t control)
{
	int ret = 0;

	msix->control = control & CONTROL_WRITABLE;
	for (unsigned v = 0; v < msix->n; v++) {
		int r = vector_update(msix, v, false);

		if (r < 0)
			ret = r;
	}
	return ret;
}

/* Copy what lies at @off out of @size bytes at @from; beyond them there are zeroes. */
static void read_at(const void *from, unsigned size, unsigned off, void *data, unsigned len)
{
	if (len >= 4 && off % len == 0 && off < size)
		memcpy(data, (const uint8_t *)from + off, len);
	else
		memset(data, 0, len);
}

void msix_table_read(const struct msix *msix, unsigned off, void *data, unsigned len)
{
	read_at(msix->table, msix->n * PCI_MSIX_ENTRY_SIZE, off, data, len);
}

int msix_table_write(struct msix *msix, unsigned off, const void *data, unsigned len)
{
	unsigned v = off / PCI_MSIX_ENTRY_SIZE, field = off % PCI_MSIX_ENTRY_SIZE;
	uint8_t value[8];

	if (v >= msix->n || len < 4 || off % len != 0)
		return 0;
	memcpy(value, data, len);
	if (field + len == PCI_MSIX_ENTRY_SIZE) /* vector control is one bit */
		bus_put_le(value + len - 4, 4, value[len - 4] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
	/* Reconnecting costs a change of KVM's routing table. */
	if (memcmp(msix->table[v] + field, value, len) == 0)
		return 0;
	memcpy(msix->table[v] + field, value, len);
	return vector_update(msix, v, field < PCI_MSIX_ENTRY_VECTOR_CTRL);
}

void msix_pending_read(const struct msix *msix, unsigned off, void *data, unsigned len)
{
	uint64_t pending[MSIX_VECTORS_MAX / 64];

	for (unsigned i = 0; i < MSIX_VECTORS_MAX / 64; i++)
		pending[i] = htole64(msix->pending[i]);
	read_at(pending, sizeof(pending), off, data, len);
}

int msix_irqfd(struct msix *msix, unsigned i, int fd, unsigned v)
{
	struct msix_irqfd *irqfd = &msix->irqfd[i];
	int r;

	irqfd_disconnect(msix, irqfd);
	irqfd->fd = fd;
	irqfd->vector = v;
	r = irqfd_update(msix, irqfd);
	if (r < 0)
		irqfd->fd = -1;
	return r;
}

int msix_irqfd_vector(struct msix *msix, unsigned i, unsigned v)
{
	struct msix_irqfd *irqfd = &msix->irqfd[i];

	if (irqfd->vector != v)
		irqfd_disconnect(msix, irqfd);
	irqfd->vector = v;
	return irqfd_update(msix, irqfd);
}

void msix_reset(struct msix *msix)
{
	msix->control = 0;
	memset(msix->table, 0, sizeof(msix->table));
	memset(msix->pending, 0, sizeof(msix->pending));
	for (unsigned v = 0; v < msix->n; v++)
		msix->table[v][PCI_MSIX_ENTRY_VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	for (unsigned i = 0; i < MSIX_IRQFDS_MAX; i++)
		irqfd_disconnect(msix, &msix->irqfd[i]);
}

void msix_init(struct msix *msix, struct msi_chip *chip, unsigned n)
{
	memset(msix, 0, sizeof(*msix));
	msix->chip = chip;
	msix->n = n;
	for (unsigned i = 0; i < MSIX_IRQFDS_MAX; i++)
		msix->irqfd[i] = (struct msix_irqfd){ .fd = -1, .handle = -1 };
	msix_reset(msix);
}

void msix_state(struct msix *msix, struct state *st)
{
	state_bytes(st, "msix-table", msix->table, msix->n * sizeof(msix->table[0]));
	state_u64(st, "msix-pending0", &msix->pending[0]);
	state_u64(st, "msix-pending1", &msix->pending[1]);
	if (!state_loading(st))
		return;
	/* Nothing the guest could not have brought about. */
	for (unsigned v = 0; v < msix->n; v++) {
		uint8_t *control = msix->table[v] + PCI_MSIX_ENTRY_VECTOR_CTRL;

		bus_put_le(control, 4, *control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
	}
	for (unsigned v = msix->n; v < MSIX_VECTORS_MAX; v++)
		msix->pending[v / 64] &= ~(1ULL << v % 64);
}
