// SPDX-License-Identifier: Apache-2.0
/*
 * Where the virtio devices are: register windows of MMIO (4.2), functions of PCI bus 0 and their
 * capabilities (4.1.4). See virtio.h.
 */
#include "virtio.h"

#define VENDOR	    0x1af4
#define DEVICE_BASE 0x1040
#define FUNCTIONS   256
#define MAGIC	    0x74726976

/* virtio_pci_cap: 4.1.4 */
#define CAP_TYPE   3
#define CAP_BAR	   4
#define CAP_OFFSET 8
#define CAP_NOTIFY_MULTIPLIER 16
#define TYPE_COMMON 1
#define TYPE_NOTIFY 2
#define TYPE_ISR    3
#define TYPE_DEVICE 4

static uintptr_t ecam(void)
{
	return arg_number("ecam", ECAM);
}

/* The address in BAR @n; 64-bit ones only matter as far as they lie below 4 GiB. */
static uintptr_t bar(uintptr_t function, unsigned n)
{
	return rd32(function + PCI_BAR0 + 4 * n) & ~(uintptr_t)15;
}

/* Give BARs that have no address below 4 GiB one, where the word bars= says so. */
static void assign_bars(uintptr_t function)
{
	static uintptr_t next;

	if (next == 0)
		next = arg_number("bars", 0);
	if (next == 0)
		return;
	for (unsigned n = 0; n < 6; n++) {
		uintptr_t reg = function + PCI_BAR0 + 4 * n;
		uint32_t old = rd32(reg), mask;
		bool wide = (old & 6) == 4;

		if ((old & 1) != 0)
			continue; /* I/O ports: not used */
		wr32(reg, ~0u);
		mask = rd32(reg) & ~15u;
		wr32(reg, old);
		if (mask != 0 && ((old & ~15u) == 0 || (wide && rd32(reg + 4) != 0))) {
			next = (next + ~mask) & mask;
			wr32(reg, (uint32_t)next);
			if (wide)
				wr32(reg + 4, 0);
			next += ~mask + 1;
		}
		n += wide;
	}
}

bool virtio_pci_map(struct vdev *v)
{
	uintptr_t f = v->ecam;
	unsigned cap = rd8(f + 0x34), left = 48;

	v->regs = v->notify = v->isr = v->config = v->msix = 0;
	for (; cap != 0 && left > 0; cap = rd8(f + cap + 1), left--) {
		unsigned type = rd8(f + cap);
		uintptr_t at;

		if (type == PCI_CAP_MSIX) {
			uint32_t table = rd32(f + cap + 4);

			v->msix_cap = cap;
			v->msix_count = (rd16(f + cap + 2) & 0x7ff) + 1;
			v->msix = bar(f, table & 7) + (table & ~7u);
		}
		if (type != PCI_CAP_VENDOR)
			continue;
		at = bar(f, rd8(f + cap + CAP_BAR)) + rd32(f + cap + CAP_OFFSET);
		switch (rd8(f + cap + CAP_TYPE)) {
		case TYPE_COMMON:
			v->regs = at;
			break;
		case TYPE_NOTIFY:
			v->notify = at;
			v->notify_multiplier = rd32(f + cap + CAP_NOTIFY_MULTIPLIER);
			break;
		case TYPE_ISR:
			v->isr = at;
			break;
		case TYPE_DEVICE:
			v->config = at;
			break;
		}
	}
	return v->regs != 0 && v->notify != 0;
}

static bool pci_probe(struct vdev *v, unsigned place)
{
	uintptr_t f = ecam() + place * 0x1000ul;
	uint32_t id = rd32(f);

	if ((id & 0xffff) != VENDOR || id >> 16 < DEVICE_BASE)
		return false;
	*v = (struct vdev){ .pci = true, .id = (id >> 16) - DEVICE_BASE, .place = place, .ecam = f };
	assign_bars(f);
	wr16(f + PCI_COMMAND, PCI_COMMAND_VALUE);
	if (!virtio_pci_map(v))
		return false;
	v->queues = rd16(v->regs + COMMON_NUM_QUEUES);
	return true;
}

static bool mmio_probe(struct vdev *v, unsigned place)
{
	uintptr_t base = arg_number("mmio", VIRTIO_MMIO) + place * arg_number("mmio-stride", 0x1000);

	if (rd32(base + MMIO_MAGIC) != MAGIC || rd32(base + MMIO_VERSION) != 2)
		return false;
	*v = (struct vdev){ .id = rd32(base + MMIO_DEVICE_ID),
			    .place = place,
			    .regs = base,
			    .config = base + MMIO_CONFIG };
	while (v->id != 0 && v->queues < 64 && virtio_queue_max(v, v->queues) != 0)
		v->queues++;
	return v->id != 0;
}

unsigned virtio_scan(bool (*found)(const struct vdev *v, void *data), void *data)
{
	unsigned n = 0, windows = (unsigned)arg_number("mmio-count", 64);
	struct vdev v;

	if (arg_is("transport", "pci"))
		windows = 0;
	for (unsigned i = 0; i < windows; i++) {
		if (!mmio_probe(&v, i))
			continue;
		n++;
		if (found(&v, data))
			return n;
	}
	if (arg_is("transport", "mmio"))
		return n;
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		uintptr_t device = ecam() + (i & ~7u) * 0x1000ul;

		/* Further functions only where the first says there are (bit 7 of the header type). */
		if ((i & 7) != 0 && (rd32(device) == ~0u || (rd8(device + 0x0e) & 0x80) == 0))
			continue;
		if (!pci_probe(&v, i))
			continue;
		n++;
		if (found(&v, data))
			return n;
	}
	return n;
}

struct search {
	struct vdev *v;
	unsigned id, left;
	bool found;
};

static bool search_found(const struct vdev *v, void *data)
{
	struct search *s = data;

	if (v->id != s->id || s->left-- > 0)
		return false;
	*s->v = *v;
	s->found = true;
	return true;
}

bool virtio_find(struct vdev *v, unsigned id, unsigned n)
{
	struct search s = { .v = v, .id = id, .left = n };

	virtio_scan(search_found, &s);
	return s.found;
}
