// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks by way of PCI: configuration space, BARs, MSI-X (Virtual I/O Device (VIRTIO) 1.2, 4.1;
 * PCI Local Bus Specification 3.0, 6.2.5 and 6.8.2). See hostile.c.
 */
#include "hostile.h"

#define ALL	 (~0ull & ~F_CONSOLE_MULTI)
#define BAR_SIZE 0x8000

static void set_bar(const struct vdev *v, uint64_t addr)
{
	wr32(v->ecam + PCI_BAR0, (uint32_t)addr);
	wr32(v->ecam + PCI_BAR0 + 4, (uint32_t)(addr >> 32));
}

/* Every width, every offset of the function's configuration space; it is put back at times. */
static void sweep(struct vdev *v, uint64_t value, unsigned to)
{
	/* Less of what is empty where exits are slow because the other CPU is busy. */
	for (unsigned off = 0; off < to; off += off < 0x100 || !have_other ? 1 : 13) {
		for (unsigned w = 1; w <= 8; w *= 2) {
			rd(v->ecam + off, w);
			if (off + w <= 0x1000)
				wr(v->ecam + off, w, value);
		}
		if (off % 16 == 0)
			pci_restore(v);
	}
	pci_restore(v);
}

static void config_sweep(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	sweep(v, ~0ull, 0x1000);
	sweep(v, 0, 0x100);
	if (alive(v, ALL, 0, &vq)) {
		offer_good(&vq);
		sweep(v, rnd(), 0x100);
		offer_good(&vq);
	}
	ram_release(mark);
}

static void config_random(struct vdev *v)
{
	for (unsigned i = 0; i < 20 * rounds(); i++) {
		uint64_t dice = rnd();
		unsigned width = 1u << (dice & 1), off = dice >> 8 & 0xff;

		if ((dice & 6) != 0)
			width = 4;
		wr(v->ecam + (off & ~(width - 1)), width, rnd());
		if ((dice & 0xf0) == 0)
			rd32(v->regs + (dice >> 16 & 0x3c));
		if (i % 64 == 0)
			pci_restore(v);
	}
	pci_restore(v);
}

/* The host bridge, functions that are not there, and the end of the window. */
static void config_others(struct vdev *v)
{
	(void)v;
	for (unsigned off = 0; off < 0x100; off++) {
		for (unsigned w = 1; w <= 8; w *= 2)
			wr(ECAM + off, w, rnd());
	}
	for (unsigned i = 0; i < 2000; i++) {
		uintptr_t a = ECAM + rnd_below(ECAM_SIZE - 8);
		unsigned place = (unsigned)(a - ECAM) >> 12;
		unsigned w = 1u << rnd_below(4);

		rd(a, w);
		if (rd32(ECAM + ((a - ECAM) & ~0xffful)) == ~0u && place > 7)
			wr(a, w, rnd());
	}
}

/* BARs on everything there is. */
static void bar_moves(struct vdev *v)
{
	const uint64_t where[] = {
		0,
		0x8000,
		0x100000,
		(uintptr_t)victim,
		ram_end - BAR_SIZE,
		ram_end,
		MMIO32 + BAR_SIZE,  /* perhaps another device's */
		MMIO32 + 2 * BAR_SIZE,
		MMIO32 + 3 * BAR_SIZE,
		MMIO32 + 0x100000,
		ECAM,
		ECAM + ((v->ecam - ECAM) & ~0x7ffful), /* over its own configuration space */
		ECAM + ECAM_SIZE - BAR_SIZE,
		VIRTIO_MMIO,
		IOAPIC,
		LAPIC,
		0xffff8000,
		1ull << 32,
		1ull << 52,
		1ull << 63,
		~0ull & ~(BAR_SIZE - 1ull),
		~0ull,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		pci_restore(v);
		if (!alive(v, ALL, 0, &vq))
			continue;
		for (unsigned k = 0; k < 20; k++)
			offer_good(&vq); /* enough to get an eventfd */
		set_bar(v, where[i]);
		/* Where it is now, if anywhere: registers, notifications, MSI-X. */
		if (where[i] < 1ull << 32 && where[i] >= MMIO32 && where[i] != LAPIC &&
		    where[i] != IOAPIC) {
			for (unsigned off = 0; off < BAR_SIZE - 8; off += 0x1f8)
				rd32((uintptr_t)where[i] + off);
			wr16((uintptr_t)where[i] + (vq.notify - v->regs), 0);
		}
		virtio_notify(&vq); /* at the old address */
		pci_restore(v);
		settle(&vq);
		ram_release(mark);
	}
}

/* Moved, enabled and disabled as fast as it goes, with notifications in between. */
static void bar_storm(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	uint64_t home = rd32(v->ecam + PCI_BAR0) & ~15u;
	struct vq vq;

	if (!alive(v, ALL, 0, &vq))
		return;
	for (unsigned k = 0; k < 20; k++)
		offer_good(&vq);
	for (unsigned i = 0; i < rounds(); i++) {
		uint64_t at = MMIO32 + BAR_SIZE * (64 + (uint64_t)(i % 256));

		set_bar(v, at);
		wr16((uintptr_t)at + (vq.notify - v->regs), 0);
		rd32((uintptr_t)at);
		wr16(v->ecam + PCI_COMMAND, i & 1 ? 0 : 2);
		wr16((uintptr_t)at + (vq.notify - v->regs), 0);
		wr16(v->ecam + PCI_COMMAND, PCI_COMMAND_VALUE);
		wr32(v->ecam + PCI_BAR0, ~0u); /* sizing with decoding on */
		wr16((uintptr_t)at + (vq.notify - v->regs), 0);
		rd32(v->ecam + PCI_BAR0);
		set_bar(v, home);
		virtio_notify(&vq);
	}
	/* The other BARs do not exist. */
	for (unsigned i = 0; i < 8; i++) {
		wr32(v->ecam + 0x18 + 4 * i, ~0u);
		wr32(v->ecam + 0x18 + 4 * i, MMIO32 + i * BAR_SIZE);
	}
	pci_restore(v);
	ram_release(mark);
}

/*
 * The capability that reads and writes BARs through configuration space (4.1.4.9): every BAR,
 * length and offset.
 */
static void pci_cfg(struct vdev *v)
{
	unsigned cap = rd8(v->ecam + 0x34), left = 48;

	for (; cap != 0 && left > 0; cap = rd8(v->ecam + cap + 1), left--) {
		if (rd8(v->ecam + cap) == PCI_CAP_VENDOR && rd8(v->ecam + cap + 3) == 5)
			break;
	}
	if (cap == 0)
		return;
	for (unsigned i = 0; i < 10 * rounds(); i++) {
		uint64_t dice = rnd();
		uint32_t off = (dice & 7) == 0 ? (uint32_t)rnd() : (uint32_t)(dice >> 8 & 0x7fff);

		wr8(v->ecam + cap + 4, (dice & 0x38) == 0 ? (uint8_t)(dice >> 24) : 0);
		wr32(v->ecam + cap + 8, off);
		wr32(v->ecam + cap + 12, (dice & 0xc0) == 0 ? (uint32_t)rnd() : 1u << (dice >> 40 & 3));
		if ((dice >> 50 & 1) != 0)
			rd(v->ecam + cap + 16, 1u << (dice >> 52 & 3));
		else
			wr(v->ecam + cap + 16, 1u << (dice >> 52 & 3), rnd());
	}
	pci_restore(v);
}

/*
 * Messages: to fixed vectors and the lowest priority only. NMI, SMI or INIT to oneself is a
 * guest's way to die, and would be ours.
 */
static void random_entry(uintptr_t entry)
{
	uint64_t dice = rnd();

	wr32(entry, (dice & 3) == 0 ? LAPIC | (uint32_t)(dice >> 8 & 0xff) << 12 : (uint32_t)rnd());
	wr32(entry + 4, (dice & 12) == 0 ? (uint32_t)rnd() : 0);
	wr32(entry + 8, (uint32_t)rnd() & 0xffff00ff & ~0x700u);
	wr32(entry + 12, (uint32_t)(dice >> 40));
}

static void msix_rubbish(struct vdev *v)
{
	uint32_t entries = v->msix_count;

	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!virtio_begin(v, ALL) || !virtio_queue(v, i % v->queues, QUEUE_SIZE, &vq))
			continue;
		for (unsigned k = 0; k < 4; k++)
			random_entry(v->msix + 16 * rnd_below(entries));
		wr16(v->ecam + v->msix_cap + 2, (uint16_t)(MSIX_ENABLE | (i % 3 == 0 ? 0x4000 : 0)));
		wr16(v->regs + COMMON_QUEUE_SELECT, (uint16_t)vq.index);
		wr16(v->regs + COMMON_QUEUE_VECTOR, i % 2 ? (uint16_t)rnd_below(entries) : (uint16_t)rnd());
		wr16(v->regs + COMMON_CONFIG_VECTOR, (uint16_t)rnd());
		virtio_go(v);
		vq.avail->flags = 0;
		offer_good(&vq);
		if (i % 16 == 0)
			settle(&vq);
		wr16(v->regs + COMMON_QUEUE_VECTOR, (uint16_t)rnd_below(entries + 2));
		random_entry(v->msix + 16 * rnd_below(entries));
		wr16(v->ecam + v->msix_cap + 2, (uint16_t)rnd());
		offer_good(&vq);
		ram_release(mark);
	}
	pci_restore(v);
}

/* Every entry masked and unmasked with interrupts pending. */
static void mask_storm(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	if (!virtio_begin(v, ALL & ~F_EVENT_IDX) || !virtio_queue(v, 0, QUEUE_SIZE, &vq))
		return;
	for (unsigned e = 0; e < v->msix_count; e++) {
		wr32(v->msix + 16 * e, LAPIC);
		wr32(v->msix + 16 * e + 4, 0);
		wr32(v->msix + 16 * e + 8, 0x50);
		wr32(v->msix + 16 * e + 12, 0);
	}
	wr16(v->ecam + v->msix_cap + 2, MSIX_ENABLE);
	wr16(v->regs + COMMON_QUEUE_SELECT, 0);
	wr16(v->regs + COMMON_QUEUE_VECTOR, (uint16_t)(v->msix_count - 1));
	virtio_go(v);
	for (unsigned i = 0; i < 4 * rounds(); i++) {
		if (i % 8 == 0)
			offer_good(&vq);
		wr32(v->msix + 16 * (v->msix_count - 1) + 12, i & 1);
		if (i % 5 == 0)
			wr16(v->ecam + v->msix_cap + 2, MSIX_ENABLE | (i & 1 ? 0x4000 : 0));
	}
	pci_restore(v);
	ram_release(mark);
}

/* All of the table, the pending bits and what lies behind, by every width. */
static void msix_sweep(struct vdev *v)
{
	for (unsigned off = 0; off < 0x3000; off += off % 0x1000 < 0x60 ? 1 : 0x33) {
		for (unsigned w = 1; w <= 8; w *= 2) {
			rd(v->msix + off, w);
			/* Delivery modes stay fixed: see random_entry(). */
			wr(v->msix + off, w, rnd() & 0xf8fff8fff8fff8ff);
		}
	}
	pci_restore(v);
}

const struct attack pci_attacks[] = {
	{ "config-sweep", config_sweep, ANY, true },
	{ "config-random", config_random, ANY, true },
	{ "config-others", config_others, ANY, true },
	{ "bar-moves", bar_moves, ANY, true },
	{ "bar-storm", bar_storm, ANY, true },
	{ "pci-cfg", pci_cfg, ANY, true },
	{ "msix-rubbish", msix_rubbish, ANY, true },
	{ "mask-storm", mask_storm, ANY, true },
	{ "msix-sweep", msix_sweep, ANY, true },
	{ 0 },
};
