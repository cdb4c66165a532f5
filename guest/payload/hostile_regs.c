// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks by way of a device's registers, on either transport: Virtual I/O Device (VIRTIO) 1.2,
 * chapters 2.1 to 2.4, 3.1, 4.1.4, 4.2.2. See hostile.c.
 */
#include "hostile.h"

#define ALL (~0ull & ~F_CONSOLE_MULTI)

static const unsigned widths[] = { 1, 2, 4, 8 };

/* Every width at every offset below @len, aligned or not, read and then written. */
static void sweep(uintptr_t base, unsigned len)
{
	for (unsigned off = 0; off < len; off++) {
		for (unsigned w = 0; w < ARRAY_SIZE(widths); w++) {
			rd(base + off, widths[w]);
			wr(base + off, widths[w], (off & 1) != 0 ? rnd() : ~0ull);
		}
	}
}

static void sweep_registers(const struct vdev *v)
{
	if (v->pci) {
		sweep(v->regs, 64);
		sweep(v->isr, 8);
		sweep(v->notify, 64);
	} else {
		sweep(v->regs, 0x108);
	}
}

/* --- Status --- */

static void status_rubbish(struct vdev *v)
{
	for (unsigned i = 0; i < 512; i++) {
		virtio_set_status(v, (uint8_t)i);
		virtio_status(v);
	}
	for (unsigned i = 0; i < rounds(); i++)
		virtio_set_status(v, (uint8_t)rnd());
	/* Bits that go away again, in all orders. */
	for (unsigned i = 0; i < 16; i++) {
		virtio_reset(v);
		for (unsigned k = 0; k < 16; k++)
			virtio_set_status(v, (uint8_t)(i ^ k));
	}
}

/* Each step of the way left out, or taken in the wrong order; then a queue is used. */
static void status_order(struct vdev *v)
{
	static const uint8_t step[] = { STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_FEATURES_OK,
					STATUS_DRIVER_OK };

	for (unsigned i = 0; i < 4 * 4 * 4 * 4; i++) {
		uintptr_t mark = ram_mark();
		uint8_t status = 0;
		struct vq vq;

		virtio_reset(v);
		virtio_accept(v, ALL);
		if (!virtio_queue(v, i % v->queues, QUEUE_SIZE, &vq))
			return;
		for (unsigned k = 0; k < 4; k++) {
			status |= step[i >> 2 * k & 3];
			virtio_set_status(v, status);
		}
		offer_good(&vq);
		if (i % 8 == 0)
			settle(&vq);
		ram_release(mark);
	}
}

/* --- Features --- */

static void features(struct vdev *v)
{
	for (unsigned i = 0; i < 80; i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		virtio_reset(v);
		virtio_set_status(v, STATUS_ACKNOWLEDGE);
		virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
		if (i < 64)
			virtio_accept(v, virtio_offered(v) ^ 1ull << i);
		else
			virtio_accept(v, i == 64 ? ~0ull : i == 65 ? 0 : rnd());
		virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
		/* Whatever it says to that. */
		if (virtio_queue(v, 0, QUEUE_SIZE, &vq)) {
			virtio_go(v);
			offer_good(&vq);
			if (i % 8 == 0)
				settle(&vq);
			virtio_accept(v, rnd());
			virtio_set_status(v, 0xf);
			offer_good(&vq);
		}
		ram_release(mark);
	}
	/* Words that do not exist. */
	for (unsigned i = 0; i < 40; i++) {
		uint32_t word = i < 34 ? i : (uint32_t)rnd();

		wr32(v->regs + (v->pci ? COMMON_DEVICE_FEATURE_SELECT : MMIO_DEVICE_FEATURES_SEL),
		     word);
		rd32(v->regs + (v->pci ? COMMON_DEVICE_FEATURE : MMIO_DEVICE_FEATURES));
		wr32(v->regs + (v->pci ? COMMON_DRIVER_FEATURE_SELECT : MMIO_DRIVER_FEATURES_SEL),
		     word);
		wr32(v->regs + (v->pci ? COMMON_DRIVER_FEATURE : MMIO_DRIVER_FEATURES), ~0u);
	}
}

/* --- Queues --- */

static void queue_sizes(struct vdev *v)
{
	static const unsigned size[] = { 0, 1, 2, 3, 255, 256, 257, 512, 1000, 1024, 2048, 32768,
					 65535, 65536 + 64 };

	for (unsigned i = 0; i < ARRAY_SIZE(size) * v->queues; i++) {
		unsigned q = i / ARRAY_SIZE(size);
		uintptr_t mark = ram_mark();
		uint8_t *ring = ram_alloc(1 << 20, 4096);
		struct vq vq;

		if (!virtio_begin(v, ALL) || !virtio_queue(v, q, QUEUE_SIZE, &vq))
			continue;
		virtio_begin(v, ALL);
		virtio_queue_set(v, q, size[i % ARRAY_SIZE(size)], (uintptr_t)ring,
				 (uintptr_t)ring + (1 << 19), (uintptr_t)ring + 3 * (1 << 18));
		virtio_go(v);
		vq.desc = (void *)ring;
		vq.avail = (void *)(ring + (1 << 19));
		vq.used = (void *)(ring + 3 * (1 << 18));
		offer_good(&vq);
		settle(&vq);
		ram_release(mark);
	}
}

/* Set up twice, changed while alive, enabled by strange values; queues that do not exist. */
static void queue_setup(struct vdev *v)
{
	uintptr_t enable = v->regs + (v->pci ? COMMON_QUEUE_ENABLE : MMIO_QUEUE_READY);

	for (unsigned i = 0; i < 64; i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, ALL, i % v->queues, &vq))
			continue;
		offer_good(&vq);
		virtio_queue_set(v, vq.index, (unsigned)rnd(), bad_address(), bad_address(),
				 bad_address());
		wr(enable, v->pci ? 2 : 4, i);
		wr(enable, v->pci ? 2 : 4, rnd());
		offer_good(&vq);
		if (i % 4 == 0)
			settle(&vq);
		virtio_queue_set(v, i < 32 ? v->queues + i : (uint16_t)rnd(), QUEUE_SIZE,
				 (uintptr_t)vq.desc, (uintptr_t)vq.avail, (uintptr_t)vq.used);
		offer_good(&vq);
		ram_release(mark);
	}
}

/* --- Notifications --- */

static void early_kicks(struct vdev *v)
{
	for (unsigned step = 0; step < 6; step++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		virtio_begin(v, ALL);
		if (!virtio_queue(v, v->queues - 1, QUEUE_SIZE, &vq))
			return;
		switch (step) {
		case 0:
			virtio_reset(v);
			break;
		case 1:
			virtio_reset(v);
			virtio_set_status(v, STATUS_ACKNOWLEDGE);
			break;
		case 2:
			virtio_reset(v);
			virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
			break;
		case 3: /* before DRIVER_OK */
			break;
		case 4: /* DRIVER_OK, but of a queue that is not enabled */
			virtio_begin(v, ALL);
			virtio_go(v);
			break;
		case 5:
			virtio_set_status(v, STATUS_FAILED | 15);
			break;
		}
		for (unsigned i = 0; i < 50; i++)
			offer_good(&vq);
		settle(&vq);
		virtio_go(v);
		settle(&vq);
		ram_release(mark);
	}
}

static void kick_nobody(struct vdev *v)
{
	struct vq vq;

	if (!alive(v, ALL, 0, &vq))
		return;
	for (unsigned i = 0; i < 2000; i++) {
		if (v->pci)
			wr(v->notify + rnd_below(0x1000 - 8), widths[rnd_below(4)], rnd());
		else
			wr32(vq.notify, i < 200 ? i : (uint32_t)rnd());
	}
	for (unsigned i = 0; i < 200; i++)
		wr(vq.notify, widths[i % 4], rnd());
	settle(&vq);
}

/* As fast as it goes, with and without work. */
static void kick_storm(struct vdev *v)
{
	unsigned count = (unsigned)arg_number("kicks", 100000);

	for (unsigned q = 0; q < v->queues && q < 2; q++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, ALL, q, &vq))
			continue;
		for (unsigned i = 0; i < count / 2; i++) {
			if (i % 64 == 0)
				offer_good(&vq);
			virtio_notify(&vq);
		}
		settle(&vq);
		ram_release(mark);
	}
}

/* --- Reset in the middle --- */

static void reset_in_flight(struct vdev *v)
{
	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();
		struct vq vq;

		if (!alive(v, ALL, i % v->queues, &vq))
			continue;
		for (unsigned k = 0; k < 16; k++)
			offer_good(&vq);
		for (unsigned wait = rnd_below(2000); wait > 0; wait--)
			__asm__ volatile("pause");
		if (i % 3 == 0)
			virtio_set_status(v, STATUS_FAILED);
		virtio_reset(v);
		/* The memory is something else from here on. */
		memset(vq.desc, 0xff, 16 * QUEUE_SIZE);
		memset(vq.avail, 0xff, 6 + 2 * QUEUE_SIZE);
		offer(&vq, 0);
		ram_release(mark);
	}
}

/* --- Everything at once --- */

static void all_registers(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	sweep_registers(v);
	for (unsigned q = 0; q < v->queues && q < 3; q++) {
		if (alive(v, ALL, q, &vq)) {
			offer_good(&vq);
			sweep_registers(v);
			offer_good(&vq);
			settle(&vq);
		}
		ram_release(mark);
	}
}

static void config_space(struct vdev *v)
{
	uintptr_t mark = ram_mark();
	struct vq vq;

	if (v->config == 0)
		return;
	sweep(v->config, 256);
	if (alive(v, ALL, 0, &vq)) {
		sweep(v->config, 256);
		offer_good(&vq);
		sweep(v->config, 64);
		/* The end of the window. */
		for (unsigned off = 0xe00; off < 0xff9; off += 37) {
			wr(v->regs + off, widths[off % 4], rnd());
			rd(v->regs + off, widths[off % 4]);
		}
	}
	ram_release(mark);
}

static void random_registers(struct vdev *v)
{
	unsigned size = v->pci ? 64 : 0x108;

	for (unsigned i = 0; i < 20 * rounds(); i++) {
		uint64_t dice = rnd(), value = rnd();
		unsigned width = widths[dice & 3];

		if (i % 200 == 0) {
			uintptr_t mark = ram_mark();
			struct vq vq;

			if (alive(v, rnd(), rnd_below(v->queues), &vq))
				offer_good(&vq);
			ram_release(mark);
		}
		if ((dice & 0x30) != 0)
			width = 4;
		if ((dice & 0x40) != 0)
			value &= 0xf;
		if ((dice & 0x80) != 0)
			value = (uintptr_t)victim + (value & 0xfff0);
		if ((dice & 0x100) != 0)
			rd(v->regs + (dice >> 16) % size, width);
		else
			wr(v->regs + ((dice >> 16) % size & ~(width - 1)), width, value);
	}
}

const struct attack register_attacks[] = {
	{ "status-rubbish", status_rubbish, ANY, false },
	{ "status-order", status_order, ANY, false },
	{ "features", features, ANY, false },
	{ "queue-sizes", queue_sizes, ANY, false },
	{ "queue-setup", queue_setup, ANY, false },
	{ "early-kicks", early_kicks, ANY, false },
	{ "kick-nobody", kick_nobody, ANY, false },
	{ "kick-storm", kick_storm, ANY, false },
	{ "reset-in-flight", reset_in_flight, ANY, false },
	{ "all-registers", all_registers, ANY, false },
	{ "config-space", config_space, ANY, false },
	{ "random-registers", random_registers, ANY, false },
	{ 0 },
};
