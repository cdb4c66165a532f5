// SPDX-License-Identifier: Apache-2.0
/*
 * Registers and queues of a virtio device. See virtio.h.
 */
#include "virtio.h"

/* --- Registers --- */

uint8_t virtio_status(const struct vdev *v)
{
	return v->pci ? rd8(v->regs + COMMON_STATUS) : (uint8_t)rd32(v->regs + MMIO_STATUS);
}

void virtio_set_status(const struct vdev *v, uint8_t status)
{
	if (v->pci)
		wr8(v->regs + COMMON_STATUS, status);
	else
		wr32(v->regs + MMIO_STATUS, status);
}

void virtio_reset(struct vdev *v)
{
	virtio_set_status(v, 0);
	while (virtio_status(v) != 0)
		;
	v->features = 0;
}

uint64_t virtio_offered(const struct vdev *v)
{
	uint64_t features = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (v->pci) {
			wr32(v->regs + COMMON_DEVICE_FEATURE_SELECT, i);
			features |= (uint64_t)rd32(v->regs + COMMON_DEVICE_FEATURE) << 32 * i;
		} else {
			wr32(v->regs + MMIO_DEVICE_FEATURES_SEL, i);
			features |= (uint64_t)rd32(v->regs + MMIO_DEVICE_FEATURES) << 32 * i;
		}
	}
	return features;
}

void virtio_accept(const struct vdev *v, uint64_t features)
{
	for (unsigned i = 0; i < 2; i++) {
		if (v->pci) {
			wr32(v->regs + COMMON_DRIVER_FEATURE_SELECT, i);
			wr32(v->regs + COMMON_DRIVER_FEATURE, (uint32_t)(features >> 32 * i));
		} else {
			wr32(v->regs + MMIO_DRIVER_FEATURES_SEL, i);
			wr32(v->regs + MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
		}
	}
}

static void select_queue(const struct vdev *v, unsigned q)
{
	if (v->pci)
		wr16(v->regs + COMMON_QUEUE_SELECT, (uint16_t)q);
	else
		wr32(v->regs + MMIO_QUEUE_SEL, q);
}

unsigned virtio_queue_max(const struct vdev *v, unsigned q)
{
	select_queue(v, q);
	return v->pci ? rd16(v->regs + COMMON_QUEUE_SIZE) : rd32(v->regs + MMIO_QUEUE_NUM_MAX);
}

static void write_address(uintptr_t reg, uint64_t addr)
{
	wr32(reg, (uint32_t)addr);
	wr32(reg + 4, (uint32_t)(addr >> 32));
}

void virtio_queue_set(const struct vdev *v, unsigned q, unsigned size, uint64_t desc,
		      uint64_t driver, uint64_t device)
{
	select_queue(v, q);
	if (v->pci) {
		wr16(v->regs + COMMON_QUEUE_SIZE, (uint16_t)size);
		write_address(v->regs + COMMON_QUEUE_DESC, desc);
		write_address(v->regs + COMMON_QUEUE_DRIVER, driver);
		write_address(v->regs + COMMON_QUEUE_DEVICE, device);
		wr16(v->regs + COMMON_QUEUE_ENABLE, 1);
	} else {
		wr32(v->regs + MMIO_QUEUE_NUM, size);
		write_address(v->regs + MMIO_QUEUE_DESC, desc);
		write_address(v->regs + MMIO_QUEUE_DRIVER, driver);
		write_address(v->regs + MMIO_QUEUE_DEVICE, device);
		wr32(v->regs + MMIO_QUEUE_READY, 1);
	}
}

uintptr_t virtio_queue_notify(const struct vdev *v, unsigned q)
{
	if (!v->pci)
		return v->regs + MMIO_QUEUE_NOTIFY;
	select_queue(v, q);
	return v->notify + rd16(v->regs + COMMON_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
}

void virtio_queue_irq(struct vdev *v, unsigned q, unsigned entry, unsigned vector, unsigned apic)
{
	uintptr_t table = v->msix + entry * 16;

	wr32(table, LAPIC | apic << 12);
	wr32(table + 4, 0);
	wr32(table + 8, vector);
	wr32(table + 12, 0);
	wr16(v->ecam + v->msix_cap + 2, MSIX_ENABLE);
	select_queue(v, q);
	wr16(v->regs + COMMON_QUEUE_VECTOR, (uint16_t)entry);
}

uint64_t virtio_config(const struct vdev *v, unsigned off, unsigned len)
{
	if (len == 8)
		return rd32(v->config + off) | (uint64_t)rd32(v->config + off + 4) << 32;
	return rd(v->config + off, len);
}

bool virtio_begin(struct vdev *v, uint64_t features)
{
	virtio_reset(v);
	virtio_set_status(v, STATUS_ACKNOWLEDGE);
	virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	v->features = virtio_offered(v) & (features | F_VERSION_1);
	virtio_accept(v, v->features);
	virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	return (virtio_status(v) & STATUS_FEATURES_OK) != 0;
}

bool virtio_queue(struct vdev *v, unsigned q, unsigned size, struct vq *vq)
{
	unsigned max = virtio_queue_max(v, q);

	if (max == 0)
		return false;
	if (size > max)
		size = max;
	memset(vq, 0, sizeof(*vq));
	vq->vdev = v;
	vq->index = q;
	vq->size = (uint16_t)size;
	vq->desc = ram_alloc(16 * size, 16);
	vq->avail = ram_alloc(6 + 2 * size, 2);
	vq->used = ram_alloc(6 + 8 * size, 4);
	vq->nfree = (uint16_t)size;
	for (unsigned i = 0; i < size; i++)
		vq->desc[i].next = (uint16_t)(i + 1);
	virtio_queue_set(v, q, size, (uintptr_t)vq->desc, (uintptr_t)vq->avail,
			 (uintptr_t)vq->used);
	vq->notify = virtio_queue_notify(v, q);
	return true;
}

void virtio_go(const struct vdev *v)
{
	virtio_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
				     STATUS_DRIVER_OK);
}

/* --- Queues --- */

int vq_add(struct vq *vq, const struct vbuf *buf, unsigned out, unsigned in)
{
	uint16_t head = vq->free, i = head;
	unsigned n = out + in;

	if (n == 0 || n > vq->nfree)
		return -1;
	for (unsigned k = 0; k < n; k++) {
		struct vdesc *d = &vq->desc[i];

		d->addr = (uintptr_t)buf[k].addr;
		d->len = buf[k].len;
		d->flags = (uint16_t)((k < out ? 0 : DESC_WRITE) | (k + 1 < n ? DESC_NEXT : 0));
		i = d->next;
	}
	vq->free = i;
	vq->nfree = (uint16_t)(vq->nfree - n);
	vq->avail->ring[vq->added & (vq->size - 1)] = head;
	vq->added++;
	return head;
}

void vq_kick(struct vq *vq)
{
	volatile struct vavail *avail = vq->avail;
	volatile struct vused *used = vq->used;
	uint16_t event;

	/* 2.7.7.1: ask for no interrupts. An event index that lies behind is never reached. */
	avail->flags = vq->interrupts ? 0 : AVAIL_NO_INTERRUPT;
	avail->ring[vq->size] = (uint16_t)(vq->interrupts ? vq->seen : vq->seen - 1);
	barrier();
	avail->idx = vq->added;
	fence();
	if ((vq->vdev->features & F_EVENT_IDX) != 0) {
		event = *(volatile uint16_t *)&vq->used->ring[vq->size];
		if ((uint16_t)(vq->added - event - 1) < (uint16_t)(vq->added - vq->kicked))
			virtio_notify(vq);
	} else if ((used->flags & USED_NO_NOTIFY) == 0) {
		virtio_notify(vq);
	}
	vq->kicked = vq->added;
}

int vq_get(struct vq *vq, uint32_t *len)
{
	volatile struct vused *used = vq->used;
	struct vused_elem elem;
	uint16_t i, n = 1;

	if (used->idx == vq->seen)
		return -1;
	barrier();
	elem = vq->used->ring[vq->seen & (vq->size - 1)];
	vq->seen++;
	if (elem.id >= vq->size)
		return -1;
	for (i = (uint16_t)elem.id; (vq->desc[i].flags & DESC_NEXT) != 0; n++)
		i = vq->desc[i].next;
	vq->desc[i].next = vq->free;
	vq->free = (uint16_t)elem.id;
	vq->nfree = (uint16_t)(vq->nfree + n);
	if (len != NULL)
		*len = elem.len;
	return (int)elem.id;
}

int vq_wait(struct vq *vq, uint32_t *len, uint64_t us)
{
	uint64_t start = ticks(), limit = us_ticks(us);
	int head;

	while ((head = vq_get(vq, len)) < 0) {
		if (ticks() - start > limit)
			return -1;
		__asm__ volatile("pause");
	}
	return head;
}

int vq_do(struct vq *vq, const struct vbuf *buf, unsigned out, unsigned in)
{
	uint32_t len;

	if (vq_add(vq, buf, out, in) < 0)
		return -1;
	vq_kick(vq);
	if (vq_wait(vq, &len, 5000000) < 0)
		return -1;
	return (int)len;
}

int blk_do(struct vq *vq, uint32_t type, uint64_t sector, void *buf, uint32_t len)
{
	struct blk_header header = { .type = type, .sector = sector };
	volatile uint8_t status = 0xff;
	struct vbuf b[3] = { { &header, sizeof(header) } };
	unsigned out = 1, in = 1, n = 1;

	if (len > 0) {
		b[n++] = (struct vbuf){ buf, len };
		*(type == BLK_OUT ? &out : &in) += 1;
	}
	b[n] = (struct vbuf){ (void *)&status, 1 };
	if (vq_do(vq, b, out, in) < 0)
		return -1;
	return status;
}
