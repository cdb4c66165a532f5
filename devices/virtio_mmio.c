// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio transport over MMIO: Virtual I/O Device (VIRTIO) 1.2, section 4.2, version 2.
 *
 * Each device has a page of registers and an interrupt line of its own. The guest learns of
 * both from ACPI (LNRO0005) or from its command line; there is nothing to enumerate, which is
 * what makes this transport quick to find.
 *
 * Interrupts. The line is edge-triggered: the reason goes into InterruptStatus, then the
 * line is pulsed. No interrupt can get lost that way. What it tells of (the used ring, the
 * configuration) is in place before the bit, and the bit before the edge. An edge that comes
 * while the guest handles an earlier one is kept (in the local APIC's IRR), and the handler
 * runs again. It may then find its bit acknowledged already, by the run before; that run
 * acknowledges before it looks at the rings, so it saw what the second edge was about. Our I/O
 * APIC also keeps an edge for a masked pin. KVM's (--pit) does not, nor did the original;
 * systems know that and do not mask an edge in use.
 *
 * InterruptStatus is read and acknowledged on every interrupt. It is an atomic, so that this
 * waits for nobody; all other registers are under the device's lock. QueueNotify takes no lock
 * either, and costs an exit only while the device has no eventfd for it.
 *
 * Registers are 32 bits wide (4.2.2.2): another width or an unaligned access reads as zero and
 * is dropped when written. The configuration space, from 0x100 on, takes any width.
 *
 * Limits: no legacy interface, no shared memory regions (their length reads as ~0, which says
 * so), no QueueReset (VIRTIO_F_RING_RESET is not offered). QueueReady can be written with 0
 * until DRIVER_OK; afterwards a queue ends with a reset only, and QueueReady stays 1. vhost
 * cannot interrupt by itself: it does not set InterruptStatus.
 *
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include "devices/virtio_mmio.h"
#include "vmm/base/util.h"

#define MAGIC	0x74726976 /* "virt" */
#define VERSION 2
#define VENDOR	0x1af4

struct virtio_mmio {
	struct virtio_transport transport;
	struct bus *bus;
	struct bus_range range;
	struct irq_line line;
	struct ioeventfd_chip *ioeventfd;

	atomic_uint interrupt_status;
	uint32_t features_sel, driver_features_sel, queue_sel; /* under the device's lock */
};

static struct virtio_mmio *of_transport(struct virtio_transport *t)
{
	return container_of(t, struct virtio_mmio, transport);
}

/* --- For the device --- */

static void mmio_interrupt(struct virtio_transport *t, int q)
{
	struct virtio_mmio *mmio = of_transport(t);

	atomic_fetch_or(&mmio->interrupt_status,
			q < 0 ? VIRTIO_MMIO_INT_CONFIG : VIRTIO_MMIO_INT_VRING);
	irq_set(&mmio->line, true);
	irq_set(&mmio->line, false);
}

static int mmio_ioeventfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	struct virtio_mmio *mmio = of_transport(t);
	const uint64_t match = q;

	if (mmio->ioeventfd == NULL)
		return -EOPNOTSUPP;
	return mmio->ioeventfd->set(mmio->ioeventfd, fd,
				    mmio->range.base + VIRTIO_MMIO_QUEUE_NOTIFY, 4, &match, on);
}

static int mmio_irqfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	(void)t;
	(void)q;
	(void)fd;
	(void)on;
	return -EOPNOTSUPP;
}

static const struct virtio_transport_ops mmio_ops = {
	.interrupt = mmio_interrupt,
	.ioeventfd = mmio_ioeventfd,
	.irqfd = mmio_irqfd,
};

/* --- Registers; the device's lock is held --- */

static void reset_registers(struct virtio_mmio *mmio)
{
	atomic_store(&mmio->interrupt_status, 0);
	mmio->features_sel = mmio->driver_features_sel = mmio->queue_sel = 0;
}

static const struct virtqueue *selected(const struct virtio_mmio *mmio)
{
	const struct virtio_device *vdev = mmio->transport.vdev;

	return mmio->queue_sel < vdev->nqueues ? &vdev->queue[mmio->queue_sel].vq : NULL;
}

static uint32_t reg_read(struct virtio_mmio *mmio, unsigned reg)
{
	struct virtio_device *vdev = mmio->transport.vdev;
	const struct virtqueue *vq = selected(mmio);

	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return vdev->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return virtio_offered(vdev, mmio->features_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX: /* 0: no such queue */
		return vq != NULL ? vq->max_size : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return vq != NULL && vq->enabled;
	case VIRTIO_MMIO_STATUS:
		return vdev->status;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return vdev->generation;
	}
	return 0;
}

static void set_half(uint64_t *addr, bool high, uint32_t value)
{
	if (high)
		*addr = (*addr & UINT32_MAX) | (uint64_t)value << 32;
	else
		*addr = (*addr & ~(uint64_t)UINT32_MAX) | value;
}

/* What describes the selected queue. */
static void queue_write(struct virtio_mmio *mmio, unsigned reg, uint32_t value)
{
	struct virtqueue *vq = virtio_queue_setup(mmio->transport.vdev, mmio->queue_sel);

	if (vq == NULL)
		return;
	switch (reg) {
	case VIRTIO_MMIO_QUEUE_NUM: /* what does not fit becomes a size that is refused */
		vq->size = value <= UINT16_MAX ? value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&vq->desc, reg == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&vq->driver, reg == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&vq->device, reg == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	}
}

/* 4.2.2.2: the driver takes a queue back, and looks whether that had effect. */
static void queue_disable(struct virtio_mmio *mmio)
{
	struct virtio_device *vdev = mmio->transport.vdev;

	if (mmio->queue_sel < vdev->nqueues && !(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK))
		vdev->queue[mmio->queue_sel].vq.enabled = false;
}

static void reg_write(struct virtio_mmio *mmio, unsigned reg, uint32_t value)
{
	struct virtio_device *vdev = mmio->transport.vdev;

	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		virtio_accept(vdev, mmio->driver_features_sel, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		if (value == 1)
			virtio_queue_enable(vdev, mmio->queue_sel);
		else if (value == 0)
			queue_disable(mmio);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(vdev, value);
		if ((value & 0xff) == 0)
			reset_registers(mmio);
		break;
	default:
		queue_write(mmio, reg, value);
	}
}

static void mmio_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	struct virtio_mmio *mmio = opaque;
	struct virtio_device *vdev = mmio->transport.vdev;
	uint32_t value = 0;

	if (off == VIRTIO_MMIO_INTERRUPT_STATUS && len == 4) {
		bus_put_le(data, len, atomic_load(&mmio->interrupt_status));
		return;
	}
	pthread_mutex_lock(&vdev->lock);
	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_read(vdev, off - VIRTIO_MMIO_CONFIG, data, len);
	} else {
		if (len == 4 && off % 4 == 0)
			value = reg_read(mmio, off);
		bus_put_le(data, len, value);
	}
	pthread_mutex_unlock(&vdev->lock);
}

static void mmio_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct virtio_mmio *mmio = opaque;
	struct virtio_device *vdev = mmio->transport.vdev;
	uint32_t value = bus_get_le(data, len);

	if (off < VIRTIO_MMIO_CONFIG && (len != 4 || off % 4 != 0))
		return;
	if (off == VIRTIO_MMIO_QUEUE_NOTIFY) {
		virtio_kick(vdev, value);
		return;
	}
	if (off == VIRTIO_MMIO_INTERRUPT_ACK) {
		atomic_fetch_and(&mmio->interrupt_status, ~value);
		return;
	}
	pthread_mutex_lock(&vdev->lock);
	if (off >= VIRTIO_MMIO_CONFIG)
		virtio_config_write(vdev, off - VIRTIO_MMIO_CONFIG, data, len);
	else
		reg_write(mmio, off, value);
	pthread_mutex_unlock(&vdev->lock);
}

/* --- For the machine --- */

struct virtio_mmio *virtio_mmio_new(struct virtio_device *vdev, struct bus *bus, uint64_t base,
				    struct irq_line line, struct ioeventfd_chip *ioeventfd,
				    struct err *err)
{
	struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));

	if (mmio == NULL) {
		err_sys(err, ENOMEM, "%s", vdev->name);
		return NULL;
	}
	mmio->transport = (struct virtio_transport){ .ops = &mmio_ops, .vdev = vdev };
	mmio->bus = bus;
	mmio->line = line;
	mmio->ioeventfd = ioeventfd;
	mmio->range = (struct bus_range){
		.base = base,
		.len = VIRTIO_MMIO_SIZE,
		.name = vdev->name,
		.dev = mmio,
		.read = mmio_read,
		.write = mmio_write,
	};
	if (bus_add(bus, &mmio->range, err) < 0) {
		free(mmio);
		return NULL;
	}
	pthread_mutex_lock(&vdev->lock);
	vdev->transport = &mmio->transport;
	pthread_mutex_unlock(&vdev->lock);
	return mmio;
}

void virtio_mmio_free(struct virtio_mmio *mmio)
{
	struct virtio_device *vdev;

	if (mmio == NULL)
		return;
	vdev = mmio->transport.vdev;
	bus_remove(mmio->bus, &mmio->range);
	pthread_mutex_lock(&vdev->lock);
	virtio_reset(vdev);
	vdev->transport = NULL;
	pthread_mutex_unlock(&vdev->lock);
	free(mmio);
}

void virtio_mmio_reset(struct virtio_mmio *mmio)
{
	struct virtio_device *vdev = mmio->transport.vdev;

	pthread_mutex_lock(&vdev->lock);
	virtio_reset(vdev);
	reset_registers(mmio);
	pthread_mutex_unlock(&vdev->lock);
}

int virtio_mmio_state(struct virtio_mmio *mmio, struct state *st)
{
	struct virtio_device *vdev = mmio->transport.vdev;
	uint32_t interrupts = atomic_load(&mmio->interrupt_status);

	state_begin(st, "virtio-mmio", 1);
	pthread_mutex_lock(&vdev->lock);
	state_u32(st, "interrupt-status", &interrupts);
	state_u32(st, "features-sel", &mmio->features_sel);
	state_u32(st, "driver-features-sel", &mmio->driver_features_sel);
	state_u32(st, "queue-sel", &mmio->queue_sel);
	pthread_mutex_unlock(&vdev->lock);
	atomic_store(&mmio->interrupt_status,
		     interrupts & (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG));
	virtio_state(vdev, st);
	return state_end(st);
}
