// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio transport over PCI: Virtual I/O Device (VIRTIO) 1.2, section 4.1, without the
 * legacy interface; PCI Local Bus Specification 3.0, 6.2.5 (BARs).
 *
 * A device is a function with one 64-bit BAR of 32 KiB, a page for each structure:
 *
 *	0x0000  common configuration		0x3000  notifications, 4 bytes per queue
 *	0x1000  ISR status			0x4000  MSI-X table
 *	0x2000  device configuration		0x5000  MSI-X pending bits
 *
 * Everything is under the device's lock, but for a notification that exits.
 *
 * The BAR. It has an address from the beginning, and is on the bus while the guest has
 * memory decoding enabled and does not size it (all address bits of either half written with
 * ones). Configuration space is itself on that bus, so a change is made by bus_defer(): still
 * before the guest's next instruction. The lock is never held while the range goes or comes;
 * between the two the BAR is nowhere (mapped == NOWHERE), and eventfds are only noted. An
 * address that something else occupies is not decoded, one line in the log says so, and the
 * next address is tried again.
 *
 * Interrupts are MSI-X (msix.c): one vector per queue and one for the configuration.
 *
 * Accesses. Reads of common configuration and ISR see bytes, whatever their width and place.
 * Writes to common configuration have effect when they are of exactly one field (4.1.3.1 demands
 * that), or of a half of a 64-bit one; others are dropped.
 *
 * Limits: no INTx (interrupt pin 0: a driver without MSI-X has to poll). Bus mastering is not
 * asked for before guest memory is accessed. No power management, no PCI Express capability,
 * no function level reset.
 *
 * #syscalls main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>
#include "devices/msix.h"
#include "devices/virtio_pci.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define VENDOR	     0x1af4
#define DEVICE_BASE  0x1040 /* + virtio device id */
#define REVISION     1
#define SUBSYSTEM_ID DEVICE_BASE /* from 0x40 on: not transitional */

/* In the BAR */
#define PAGE	     0x1000
#define BAR_COMMON   0x0000
#define BAR_ISR	     0x1000
#define BAR_DEVICE   0x2000
#define BAR_NOTIFY   0x3000
#define BAR_MSIX     0x4000
#define BAR_PBA	     0x5000
#define NOTIFY_SIZE  4 /* per queue */
#define COMMON_SIZE  sizeof(struct virtio_pci_common_cfg)
#define ISR_QUEUE    (1 << 0)
#define ISR_CONFIG   (1 << 1)
#define BAR_LOW_MASK (~(uint32_t)(VIRTIO_PCI_BAR_SIZE - 1))
#define NOWHERE	     UINT64_MAX

/* Capabilities in configuration space */
#define CAP_MSIX   0x40
#define CAP_COMMON 0x50
#define CAP_NOTIFY 0x60
#define CAP_ISR	   0x74
#define CAP_PCICFG 0x84
#define CAP_DEVICE 0x98 /* the last: not there without device configuration */

#define PCICFG_DATA offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)

#define MSIX_CONTROL (CAP_MSIX + PCI_MSIX_FLAGS)

/* A queue's eventfd for notifications */
struct notify {
	int fd;	 /* borrowed; -1: none is wanted */
	bool on; /* it is registered, at vpci->mapped */
};

struct virtio_pci {
	struct virtio_transport transport;
	struct virtio_pci_host host;
	struct pci_func func;
	uint64_t bar; /* its address at power-on */

	struct bus_range range;
	struct bus_work move;
	uint64_t mapped; /* where the BAR is on the bus, or NOWHERE */

	struct pci_config config;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	uint8_t isr;

	struct msix msix;
	struct notify notify[VIRTIO_QUEUES_MAX];
};

static struct virtio_pci *of_transport(struct virtio_transport *t)
{
	return container_of(t, struct virtio_pci, transport);
}

static bool msix_enabled(const struct virtio_pci *vpci)
{
	return (vpci->msix.control & PCI_MSIX_FLAGS_ENABLE) != 0;
}

static void set_isr(struct virtio_pci *vpci, uint8_t isr)
{
	vpci->isr = isr;
	/* 4.1.4.5.1 */
	if (isr != 0 && !msix_enabled(vpci))
		vpci->config.data[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	else
		vpci->config.data[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
}

/* --- For the device --- */

static void vpci_interrupt(struct virtio_transport *t, int q)
{
	struct virtio_pci *vpci = of_transport(t);

	/* 4.1.4.5.1, 4.1.5.3.1: with MSI-X, queues leave the ISR alone. */
	if (q < 0)
		set_isr(vpci, vpci->isr | ISR_CONFIG);
	else if (!msix_enabled(vpci))
		set_isr(vpci, vpci->isr | ISR_QUEUE);
	msix_notify(&vpci->msix, q < 0 ? vpci->config_vector : t->vdev->queue[q].vector);
}

static int notify_set(struct virtio_pci *vpci, unsigned q, int fd, bool on)
{
	struct ioeventfd_chip *chip = vpci->host.ioeventfd;

	return chip->set(chip, fd, vpci->mapped + BAR_NOTIFY + q * NOTIFY_SIZE, 0, NULL, on);
}

static int vpci_ioeventfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	struct virtio_pci *vpci = of_transport(t);
	struct notify *notify = &vpci->notify[q];
	int r = 0;

	if (vpci->host.ioeventfd == NULL)
		return -EOPNOTSUPP;
	if (notify->on)
		notify_set(vpci, q, notify->fd, false);
	*notify = (struct notify){ .fd = -1 };
	if (on && vpci->mapped != NOWHERE) /* else it comes with the BAR */
		r = notify_set(vpci, q, fd, true);
	if (on && r == 0)
		*notify = (struct notify){ .fd = fd, .on = vpci->mapped != NOWHERE };
	return r;
}

/* An irqfd that cannot be made is none with this transport: the loop does its work then. */
static int vpci_irqfd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	struct virtio_pci *vpci = of_transport(t);
	int r = msix_irqfd(&vpci->msix, q, on ? fd : -1, t->vdev->queue[q].vector);

	return r < 0 ? -EOPNOTSUPP : 0;
}

/* Without its interrupt a queue stands still for ever: better say so. */
static void irqfd_check(struct virtio_pci *vpci, int r)
{
	if (r < 0)
		virtio_fail(vpci->transport.vdev, "an interrupt cannot be connected: %s",
			    strerrordesc_np(-r));
}

static const struct virtio_transport_ops vpci_ops = {
	.interrupt = vpci_interrupt,
	.ioeventfd = vpci_ioeventfd,
	.irqfd = vpci_irqfd,
};

/* --- Common configuration: 4.1.4.3 --- */

static void common_fill(const struct virtio_pci *vpci, struct virtio_pci_common_cfg *cfg)
{
	const struct virtio_device *vdev = vpci->transport.vdev;
	unsigned q = vpci->queue_select;

	*cfg = (struct virtio_pci_common_cfg){
		.device_feature_select = htole32(vpci->device_feature_select),
		.device_feature = htole32(virtio_offered(vdev, vpci->device_feature_select)),
		.guest_feature_select = htole32(vpci->driver_feature_select),
		.msix_config = htole16(vpci->config_vector),
		.num_queues = htole16(vdev->nqueues),
		.device_status = vdev->status,
		.config_generation = vdev->generation,
		.queue_select = htole16(vpci->queue_select),
		.queue_msix_vector = htole16(VIRTIO_MSI_NO_VECTOR),
	};
	if (vpci->driver_feature_select < 2)
		cfg->guest_feature =
			htole32(vdev->driver_features >> 32 * vpci->driver_feature_select);
	if (q < vdev->nqueues) { /* else size 0: no such queue */
		const struct virtqueue *vq = &vdev->queue[q].vq;

		cfg->queue_size = htole16(vq->size);
		cfg->queue_msix_vector = htole16(vdev->queue[q].vector);
		cfg->queue_enable = htole16(vq->enabled);
		cfg->queue_notify_off = htole16(q);
		cfg->queue_desc_lo = htole32(vq->desc);
		cfg->queue_desc_hi = htole32(vq->desc >> 32);
		cfg->queue_avail_lo = htole32(vq->driver);
		cfg->queue_avail_hi = htole32(vq->driver >> 32);
		cfg->queue_used_lo = htole32(vq->device);
		cfg->queue_used_hi = htole32(vq->device >> 32);
	}
}

/* 4.1.5.1.2: one that does not exist reads back as none. */
static uint16_t valid_vector(const struct virtio_pci *vpci, uint64_t value)
{
	return value < vpci->msix.n ? value : VIRTIO_MSI_NO_VECTOR;
}

/* To power-on values: what a reset of the device (not of the function) resets. */
static void reset_registers(struct virtio_pci *vpci)
{
	struct virtio_device *vdev = vpci->transport.vdev;

	vpci->device_feature_select = vpci->driver_feature_select = 0;
	vpci->queue_select = 0;
	vpci->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned q = 0; q < vdev->nqueues; q++)
		vdev->queue[q].vector = VIRTIO_MSI_NO_VECTOR;
	set_isr(vpci, 0);
}

/* A field of a queue, @len bytes of the address in it from byte @at on. */
static void set_address(uint64_t *addr, unsigned at, unsigned len, uint64_t value)
{
	uint8_t bytes[8];

	bus_put_le(bytes, 8, *addr);
	bus_put_le(bytes + at, len, value);
	*addr = bus_get_le(bytes, 8);
}

static void queue_write(struct virtio_pci *vpci, unsigned off, uint64_t value, unsigned len)
{
	struct virtqueue *vq = virtio_queue_setup(vpci->transport.vdev, vpci->queue_select);

	if (vq == NULL)
		return;
	if (off == VIRTIO_PCI_COMMON_Q_SIZE && len == 2) {
		vq->size = value;
	} else if (off >= VIRTIO_PCI_COMMON_Q_DESCLO && off < COMMON_SIZE && len >= 4 &&
		   off % len == 0) {
		uint64_t *const field[] = { &vq->desc, &vq->driver, &vq->device };

		off -= VIRTIO_PCI_COMMON_Q_DESCLO;
		set_address(field[off / 8], off % 8, len, value);
	}
}

static void common_write(struct virtio_pci *vpci, unsigned off, uint64_t value, unsigned len)
{
	struct virtio_device *vdev = vpci->transport.vdev;
	unsigned q = vpci->queue_select;

	if (len == 4 && off == VIRTIO_PCI_COMMON_DFSELECT) {
		vpci->device_feature_select = value;
	} else if (len == 4 && off == VIRTIO_PCI_COMMON_GFSELECT) {
		vpci->driver_feature_select = value;
	} else if (len == 4 && off == VIRTIO_PCI_COMMON_GF) {
		virtio_accept(vdev, vpci->driver_feature_select, value);
	} else if (len == 2 && off == VIRTIO_PCI_COMMON_MSIX) {
		vpci->config_vector = valid_vector(vpci, value);
	} else if (len == 1 && off == VIRTIO_PCI_COMMON_STATUS) {
		virtio_set_status(vdev, value);
		if (value == 0)
			reset_registers(vpci);
	} else if (len == 2 && off == VIRTIO_PCI_COMMON_Q_SELECT) {
		vpci->queue_select = value;
	} else if (len == 2 && off == VIRTIO_PCI_COMMON_Q_MSIX && q < vdev->nqueues) {
		vdev->queue[q].vector = valid_vector(vpci, value);
		irqfd_check(vpci, msix_irqfd_vector(&vpci->msix, q, vdev->queue[q].vector));
	} else if (len == 2 && off == VIRTIO_PCI_COMMON_Q_ENABLE && value == 1) {
		virtio_queue_enable(vdev, q);
	} else {
		queue_write(vpci, off, value, len);
	}
}

/* --- The BAR; the device's lock is held --- */

/* Copy what lies at @off out of @size bytes at @from; beyond them there are zeroes. */
static void copy_out(void *data, unsigned len, const void *from, size_t size, unsigned off)
{
	memset(data, 0, len);
	if (off < size)
		memcpy(data, (const uint8_t *)from + off, len < size - off ? len : size - off);
}

static void bar_read_locked(struct virtio_pci *vpci, unsigned off, void *data, unsigned len)
{
	struct virtio_pci_common_cfg cfg;

	memset(data, 0, len);
	switch (off & ~(PAGE - 1)) {
	case BAR_COMMON:
		common_fill(vpci, &cfg);
		copy_out(data, len, &cfg, sizeof(cfg), off);
		break;
	case BAR_ISR:
		if (off != BAR_ISR)
			break;
		bus_put_le(data, len, vpci->isr);
		set_isr(vpci, 0);
		break;
	case BAR_DEVICE:
		virtio_config_read(vpci->transport.vdev, off - BAR_DEVICE, data, len);
		break;
	case BAR_MSIX:
		msix_table_read(&vpci->msix, off - BAR_MSIX, data, len);
		break;
	case BAR_PBA:
		msix_pending_read(&vpci->msix, off - BAR_PBA, data, len);
		break;
	}
}

static void bar_write_locked(struct virtio_pci *vpci, unsigned off, const void *data, unsigned len)
{
	switch (off & ~(PAGE - 1)) {
	case BAR_COMMON:
		common_write(vpci, off, bus_get_le(data, len), len);
		break;
	case BAR_DEVICE:
		virtio_config_write(vpci->transport.vdev, off - BAR_DEVICE, data, len);
		break;
	case BAR_NOTIFY: /* 4.1.5.2: the place says which queue, the value only repeats it */
		virtio_kick(vpci->transport.vdev, (off - BAR_NOTIFY) / NOTIFY_SIZE);
		break;
	case BAR_MSIX:
		irqfd_check(vpci, msix_table_write(&vpci->msix, off - BAR_MSIX, data, len));
		break;
	}
}

static void bar_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	struct virtio_pci *vpci = opaque;

	pthread_mutex_lock(&vpci->transport.vdev->lock);
	bar_read_locked(vpci, off, data, len);
	pthread_mutex_unlock(&vpci->transport.vdev->lock);
}

static void bar_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct virtio_pci *vpci = opaque;

	if ((off & ~(uint64_t)(PAGE - 1)) == BAR_NOTIFY) { /* waits for nobody */
		bar_write_locked(vpci, off, data, len);
		return;
	}
	pthread_mutex_lock(&vpci->transport.vdev->lock);
	bar_write_locked(vpci, off, data, len);
	pthread_mutex_unlock(&vpci->transport.vdev->lock);
}

/* --- Where the BAR is --- */

/* Where the guest wants it now. */
static uint64_t bar_wanted(const struct virtio_pci *vpci)
{
	uint16_t command = bus_get_le(vpci->config.data + PCI_COMMAND, 2);
	uint32_t low = bus_get_le(vpci->config.data + PCI_BASE_ADDRESS_0, 4) & BAR_LOW_MASK;
	uint32_t high = bus_get_le(vpci->config.data + PCI_BASE_ADDRESS_1, 4);

	if (!(command & PCI_COMMAND_MEMORY) || low == BAR_LOW_MASK || high == UINT32_MAX)
		return NOWHERE;
	return (uint64_t)high << 32 | low;
}

/* Lock held. What fails here makes notifications exit, as they did before. */
static void notify_all(struct virtio_pci *vpci, bool on)
{
	for (unsigned q = 0; q < vpci->transport.vdev->nqueues; q++) {
		struct notify *notify = &vpci->notify[q];

		if (notify->fd >= 0 && notify->on != on) {
			int r = notify_set(vpci, q, notify->fd, on);

			notify->on = on && r == 0;
		}
	}
}

/*
 * Bring the BAR to where it is wanted. Works run one at a time; when the guest changes its
 * mind meanwhile, on another vCPU, that has queued another run.
 */
static void bar_move(struct bus_work *work)
{
	struct virtio_pci *vpci = container_of(work, struct virtio_pci, move);
	struct virtio_device *vdev = vpci->transport.vdev;
	struct err err = ERR_INIT;
	uint64_t wanted;

	pthread_mutex_lock(&vdev->lock);
	wanted = bar_wanted(vpci);
	if (wanted == vpci->mapped) {
		pthread_mutex_unlock(&vdev->lock);
		return;
	}
	notify_all(vpci, false);
	vpci->mapped = NOWHERE;
	pthread_mutex_unlock(&vdev->lock);

	bus_remove(vpci->host.mmio, &vpci->range);
	if (wanted == NOWHERE)
		return;
	vpci->range.base = wanted;
	if (bus_add(vpci->host.mmio, &vpci->range, &err) < 0) {
		log_limited(LOG_WARN, "the guest put a BAR where it cannot be: %s", err.msg);
		return;
	}
	pthread_mutex_lock(&vdev->lock);
	vpci->mapped = wanted;
	notify_all(vpci, true);
	pthread_mutex_unlock(&vdev->lock);
}

/* --- Configuration space --- */

/* 4.1.4.9: a BAR access by way of configuration space. Its length, 0 when it is not a valid one */
static unsigned pcicfg_access(const struct virtio_pci *vpci, unsigned reg, uint32_t *off)
{
	const uint8_t *cap = vpci->config.data + CAP_PCICFG;
	uint32_t len = bus_get_le(cap + VIRTIO_PCI_CAP_LENGTH, 4);

	*off = bus_get_le(cap + VIRTIO_PCI_CAP_OFFSET, 4);
	if (reg != CAP_PCICFG + PCICFG_DATA || cap[VIRTIO_PCI_CAP_BAR] != 0 ||
	    (len != 1 && len != 2 && len != 4) || *off % len != 0 || *off >= VIRTIO_PCI_BAR_SIZE)
		return 0;
	return len;
}

static uint32_t vpci_config_read(void *opaque, unsigned reg, unsigned len)
{
	struct virtio_pci *vpci = opaque;
	unsigned access;
	uint32_t value, off;

	pthread_mutex_lock(&vpci->transport.vdev->lock);
	access = pcicfg_access(vpci, reg, &off);
	if (access != 0)
		bar_read_locked(vpci, off, vpci->config.data + reg, access);
	value = pci_config_read(&vpci->config, reg, len);
	pthread_mutex_unlock(&vpci->transport.vdev->lock);
	return value;
}

static bool touches(unsigned reg, unsigned len, unsigned field, unsigned size)
{
	return reg < field + size && field < reg + len;
}

static void vpci_config_write(void *opaque, unsigned reg, uint32_t value, unsigned len)
{
	struct virtio_pci *vpci = opaque;
	uint64_t before, now;
	unsigned access;
	uint32_t off;

	pthread_mutex_lock(&vpci->transport.vdev->lock);
	before = bar_wanted(vpci);
	pci_config_write(&vpci->config, reg, value, len);
	now = bar_wanted(vpci);
	/* In doubt run it: while it is under way `mapped` says nothing yet. */
	if (now != before || (now != vpci->mapped && (touches(reg, len, PCI_COMMAND, 2) ||
						      touches(reg, len, PCI_BASE_ADDRESS_0, 8))))
		bus_defer(vpci->host.mmio, &vpci->move);
	if (touches(reg, len, MSIX_CONTROL, 2)) {
		irqfd_check(vpci,
			    msix_set_control(&vpci->msix,
					     bus_get_le(vpci->config.data + MSIX_CONTROL, 2)));
		set_isr(vpci, vpci->isr);
	}
	access = pcicfg_access(vpci, reg, &off);
	if (access != 0)
		bar_write_locked(vpci, off, vpci->config.data + reg, access);
	pthread_mutex_unlock(&vpci->transport.vdev->lock);
}

/* A virtio capability (4.1.4) at @at; the next is at @next. Returns its bytes. */
static uint8_t *add_capability(struct pci_config *config, unsigned at, unsigned next, uint8_t type,
			       uint8_t size, uint32_t off, uint32_t len)
{
	struct virtio_pci_cap cap = {
		.cap_vndr = PCI_CAP_ID_VNDR,
		.cap_next = next,
		.cap_len = size,
		.cfg_type = type,
		.offset = htole32(off),
		.length = htole32(len),
	};

	memcpy(config->data + at, &cap, sizeof(cap));
	return config->data + at;
}

/* Configuration space as after power-on. */
static void config_init(struct virtio_pci *vpci)
{
	const struct virtio_device *vdev = vpci->transport.vdev;
	unsigned last = vdev->config_size > 0 ? CAP_DEVICE : 0;
	struct pci_config *config = &vpci->config;
	uint8_t *cap;

	pci_config_init(config, VENDOR, DEVICE_BASE + vdev->ops->id, vdev->ops->pci_class,
			REVISION);
	bus_put_le(config->data + PCI_SUBSYSTEM_VENDOR_ID, 2, VENDOR);
	bus_put_le(config->data + PCI_SUBSYSTEM_ID, 2, SUBSYSTEM_ID + vdev->ops->id);
	bus_put_le(config->data + PCI_BASE_ADDRESS_0, 8, vpci->bar | PCI_BASE_ADDRESS_MEM_TYPE_64);
	bus_put_le(config->writable + PCI_BASE_ADDRESS_0, 8, ~(uint64_t)(VIRTIO_PCI_BAR_SIZE - 1));
	config->data[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	config->data[PCI_CAPABILITY_LIST] = CAP_COMMON;

	add_capability(config, CAP_COMMON, CAP_NOTIFY, VIRTIO_PCI_CAP_COMMON_CFG,
		       sizeof(struct virtio_pci_cap), BAR_COMMON, COMMON_SIZE);
	cap = add_capability(config, CAP_NOTIFY, CAP_ISR, VIRTIO_PCI_CAP_NOTIFY_CFG,
			     sizeof(struct virtio_pci_notify_cap), BAR_NOTIFY,
			     vdev->nqueues * NOTIFY_SIZE);
	bus_put_le(cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4, NOTIFY_SIZE);
	add_capability(config, CAP_ISR, CAP_PCICFG, VIRTIO_PCI_CAP_ISR_CFG,
		       sizeof(struct virtio_pci_cap), BAR_ISR, 1);
	add_capability(config, CAP_PCICFG, CAP_MSIX, VIRTIO_PCI_CAP_PCI_CFG,
		       sizeof(struct virtio_pci_cfg_cap), 0, 0);
	cap = config->writable + CAP_PCICFG;
	cap[VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(cap + VIRTIO_PCI_CAP_OFFSET, 0xff, 4);
	memset(cap + VIRTIO_PCI_CAP_LENGTH, 0xff, 4);
	memset(cap + PCICFG_DATA, 0xff, 4);

	cap = config->data + CAP_MSIX;
	cap[PCI_CAP_LIST_ID] = PCI_CAP_ID_MSIX;
	cap[PCI_CAP_LIST_NEXT] = last;
	bus_put_le(cap + PCI_MSIX_FLAGS, 2, vpci->msix.n - 1);
	bus_put_le(cap + PCI_MSIX_TABLE, 4, BAR_MSIX);
	bus_put_le(cap + PCI_MSIX_PBA, 4, BAR_PBA);
	bus_put_le(config->writable + MSIX_CONTROL, 2,
		   PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);

	/* 4.1.4.6: only for a device that has some. */
	if (last != 0)
		add_capability(config, CAP_DEVICE, 0, VIRTIO_PCI_CAP_DEVICE_CFG,
			       sizeof(struct virtio_pci_cap), BAR_DEVICE,
			       vdev->config_size < PAGE ? vdev->config_size : PAGE);
}

/* The function as after power-on; lock held. */
static void reset_function(struct virtio_pci *vpci)
{
	config_init(vpci);
	msix_reset(&vpci->msix);
	reset_registers(vpci);
}

/* --- For the machine --- */

struct virtio_pci *virtio_pci_new(struct virtio_device *vdev, const struct virtio_pci_host *host,
				  uint64_t bar, struct err *err)
{
	struct virtio_pci *vpci = calloc(1, sizeof(*vpci));

	if (vpci == NULL) {
		err_sys(err, ENOMEM, "%s", vdev->name);
		return NULL;
	}
	vpci->transport = (struct virtio_transport){ .ops = &vpci_ops, .vdev = vdev };
	vpci->host = *host;
	vpci->bar = bar;
	vpci->mapped = NOWHERE;
	vpci->move.fn = bar_move;
	msix_init(&vpci->msix, host->msi, vdev->nqueues + 1);
	for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
		vpci->notify[q].fd = -1;
	vpci->range = (struct bus_range){
		.len = VIRTIO_PCI_BAR_SIZE,
		.name = vdev->name,
		.dev = vpci,
		.read = bar_read,
		.write = bar_write,
	};
	vpci->func = (struct pci_func){
		.dev = vpci,
		.config_read = vpci_config_read,
		.config_write = vpci_config_write,
	};
	pthread_mutex_lock(&vdev->lock);
	reset_function(vpci);
	vdev->transport = &vpci->transport;
	pthread_mutex_unlock(&vdev->lock);
	if (pci_add(host->pci, &vpci->func, err) < 0) {
		virtio_pci_free(vpci);
		return NULL;
	}
	return vpci;
}

void virtio_pci_free(struct virtio_pci *vpci)
{
	struct virtio_device *vdev;

	if (vpci == NULL)
		return;
	virtio_pci_reset(vpci);
	vdev = vpci->transport.vdev;
	pthread_mutex_lock(&vdev->lock);
	vdev->transport = NULL;
	pthread_mutex_unlock(&vdev->lock);
	free(vpci);
}

void virtio_pci_reset(struct virtio_pci *vpci)
{
	struct virtio_device *vdev = vpci->transport.vdev;

	pthread_mutex_lock(&vdev->lock);
	virtio_reset(vdev);
	reset_function(vpci);
	pthread_mutex_unlock(&vdev->lock);
	bar_move(&vpci->move); /* off the bus: memory decoding is off */
}

/* Take over what was loaded, as something the guest could have brought about. */
static void accept_loaded(struct virtio_pci *vpci, const uint8_t *config,
			  const uint8_t (*vectors)[2])
{
	struct virtio_device *vdev = vpci->transport.vdev;

	/* Read-only bits are this program's, not the file's. */
	for (unsigned i = 0; i < PCI_CFG_SPACE_SIZE; i++)
		pci_config_write(&vpci->config, i, config[i], 1);
	vpci->config_vector = valid_vector(vpci, vpci->config_vector);
	for (unsigned q = 0; q < vdev->nqueues; q++)
		vdev->queue[q].vector = valid_vector(vpci, bus_get_le(vectors[q], 2));
	irqfd_check(vpci,
		    msix_set_control(&vpci->msix, bus_get_le(vpci->config.data + MSIX_CONTROL, 2)));
	set_isr(vpci, vpci->isr & (ISR_QUEUE | ISR_CONFIG));
}

int virtio_pci_state(struct virtio_pci *vpci, struct state *st)
{
	struct virtio_device *vdev = vpci->transport.vdev;
	uint8_t config[PCI_CFG_SPACE_SIZE], vectors[VIRTIO_QUEUES_MAX][2];
	int ret;

	pthread_mutex_lock(&vdev->lock);
	memcpy(config, vpci->config.data, sizeof(config));
	for (unsigned q = 0; q < vdev->nqueues; q++)
		bus_put_le(vectors[q], 2, vdev->queue[q].vector);
	state_begin(st, "virtio-pci", 1);
	state_bytes(st, "config", config, sizeof(config));
	state_u32(st, "device-feature-select", &vpci->device_feature_select);
	state_u32(st, "driver-feature-select", &vpci->driver_feature_select);
	state_u16(st, "queue-select", &vpci->queue_select);
	state_u16(st, "config-vector", &vpci->config_vector);
	state_bytes(st, "queue-vectors", vectors, vdev->nqueues * sizeof(vectors[0]));
	state_u8(st, "isr", &vpci->isr);
	msix_state(&vpci->msix, st);
	pthread_mutex_unlock(&vdev->lock);
	virtio_state(vdev, st);
	ret = state_end(st);
	if (!state_loading(st))
		return ret;

	/* After the device's state, whose loading begins with a reset: that resets vectors. */
	pthread_mutex_lock(&vdev->lock);
	accept_loaded(vpci, config, vectors);
	pthread_mutex_unlock(&vdev->lock);
	bar_move(&vpci->move);
	return ret;
}
