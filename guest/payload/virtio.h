/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small virtio driver, guest side: Virtual I/O Device (VIRTIO) 1.2, both transports, split
 * rings, no legacy interface. Everything is public, as tests of hostile guests need to break any
 * rule: the functions keep to the standard, their users may not.
 *
 * Where devices are, by words of the command line:
 *	transport=pci|mmio	only those (else both)
 *	mmio=0xe8100000		first register window, mmio-stride=0x1000, mmio-count=64
 *	ecam=0xe8000000		PCI configuration space of bus 0
 *	bars=ADDRESS		BARs without an address get one from there on
 *
 * Queues are polled: devices are asked not to interrupt, unless vq->interrupts is set before
 * the queue is used.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "clib.h"

/* Device types */
#define VIRTIO_NET     1
#define VIRTIO_BLK     2
#define VIRTIO_CONSOLE 3
#define VIRTIO_RNG     4
#define VIRTIO_BALLOON 5
#define VIRTIO_VSOCK   19
#define VIRTIO_FS      26
#define VIRTIO_PMEM    27

/* Status: 2.1 */
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER	   2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64
#define STATUS_FAILED	   128

/* Feature bits: 6 and 5.x.3 */
#define F_INDIRECT_DESC	  (1ull << 28)
#define F_EVENT_IDX	  (1ull << 29)
#define F_VERSION_1	  (1ull << 32)
#define F_CONSOLE_MULTI	  (1ull << 1)
#define F_NET_CSUM	  (1ull << 0)
#define F_NET_HOST_TSO4	  (1ull << 11)
#define F_NET_MRG_RXBUF	  (1ull << 15)
#define F_NET_CTRL_VQ	  (1ull << 17)
#define F_NET_MQ	  (1ull << 22)
#define F_BALLOON_STATS	  (1ull << 1)
#define F_BALLOON_HINT	  (1ull << 3)
#define F_BALLOON_REPORT  (1ull << 5)
#define F_BLK_RO	  (1ull << 5)
#define F_BLK_FLUSH	  (1ull << 9)

/* PCI common configuration structure: 4.1.4.3 */
#define COMMON_DEVICE_FEATURE_SELECT 0x00
#define COMMON_DEVICE_FEATURE	     0x04
#define COMMON_DRIVER_FEATURE_SELECT 0x08
#define COMMON_DRIVER_FEATURE	     0x0c
#define COMMON_CONFIG_VECTOR	     0x10
#define COMMON_NUM_QUEUES	     0x12
#define COMMON_STATUS		     0x14
#define COMMON_GENERATION	     0x15
#define COMMON_QUEUE_SELECT	     0x16
#define COMMON_QUEUE_SIZE	     0x18
#define COMMON_QUEUE_VECTOR	     0x1a
#define COMMON_QUEUE_ENABLE	     0x1c
#define COMMON_QUEUE_NOTIFY_OFF	     0x1e
#define COMMON_QUEUE_DESC	     0x20
#define COMMON_QUEUE_DRIVER	     0x28
#define COMMON_QUEUE_DEVICE	     0x30

/* MMIO registers: 4.2.2 */
#define MMIO_MAGIC		  0x000
#define MMIO_VERSION		  0x004
#define MMIO_DEVICE_ID		  0x008
#define MMIO_DEVICE_FEATURES	  0x010
#define MMIO_DEVICE_FEATURES_SEL  0x014
#define MMIO_DRIVER_FEATURES	  0x020
#define MMIO_DRIVER_FEATURES_SEL  0x024
#define MMIO_QUEUE_SEL		  0x030
#define MMIO_QUEUE_NUM_MAX	  0x034
#define MMIO_QUEUE_NUM		  0x038
#define MMIO_QUEUE_READY	  0x044
#define MMIO_QUEUE_NOTIFY	  0x050
#define MMIO_INTERRUPT_STATUS	  0x060
#define MMIO_INTERRUPT_ACK	  0x064
#define MMIO_STATUS		  0x070
#define MMIO_QUEUE_DESC		  0x080
#define MMIO_QUEUE_DRIVER	  0x090
#define MMIO_QUEUE_DEVICE	  0x0a0
#define MMIO_GENERATION		  0x0fc
#define MMIO_CONFIG		  0x100

/* PCI configuration space */
#define PCI_COMMAND	  0x04
#define PCI_COMMAND_VALUE 0x0406 /* memory, bus master, no INTx */
#define PCI_BAR0	  0x10
#define PCI_CAP_VENDOR	  0x09
#define PCI_CAP_MSIX	  0x11
#define MSIX_ENABLE	  0x8000 /* in message control, the capability's third byte */
#define NO_VECTOR	  0xffff

struct vdev {
	unsigned id;
	bool pci;
	unsigned place; /* MMIO: number of the window. PCI: slot << 3 | function */
	uintptr_t regs; /* MMIO: the window. PCI: the common configuration structure */
	uintptr_t config; /* device configuration, 0: none */
	uintptr_t ecam;	  /* the rest: PCI */
	uintptr_t isr, notify, msix; /* MSI-X: the table */
	unsigned notify_multiplier, msix_cap, msix_count;
	unsigned queues;
	uint64_t features; /* negotiated */
};

/* Rings: 2.7 */
struct vdesc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

struct vavail {
	uint16_t flags, idx, ring[]; /* then used_event */
};
#define AVAIL_NO_INTERRUPT 1

struct vused_elem {
	uint32_t id, len;
};

struct vused {
	uint16_t flags, idx;
	struct vused_elem ring[]; /* then avail_event */
};
#define USED_NO_NOTIFY 1

struct vq {
	struct vdev *vdev;
	unsigned index;
	uint16_t size;
	struct vdesc *desc;
	struct vavail *avail;
	struct vused *used;
	uintptr_t notify;    /* the register */
	uint16_t free, nfree; /* list of descriptors, linked by next */
	uint16_t added;	     /* avail idx, maybe not yet published */
	uint16_t kicked;     /* avail idx when the device was last notified */
	uint16_t seen;	     /* used entries taken so far */
	bool interrupts;
};

/* A block request's header: 5.2.6 */
struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};
#define BLK_IN	   0
#define BLK_OUT	   1
#define BLK_FLUSH  4
#define BLK_GET_ID 8
#define SECTOR	   512

/* What a network packet begins with: 5.1.6 */
struct net_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

/* A vsock packet's header: 5.10.6 */
struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
#define VSOCK_HOST     2
#define VSOCK_STREAM   1
#define VSOCK_REQUEST  1
#define VSOCK_RST      3
#define VSOCK_SHUTDOWN 4
#define VSOCK_RW       5

/* A piece of a buffer */
struct vbuf {
	void *addr;
	uint32_t len;
};

/* --- Devices (virtio_probe.c) --- */

/*
 * Call @found for every virtio device, MMIO first, until it returns true. Returns the number
 * of calls.
 */
unsigned virtio_scan(bool (*found)(const struct vdev *v, void *data), void *data);
/* The @n-th device (from 0) of type @id. False when there is none. */
bool virtio_find(struct vdev *v, unsigned id, unsigned n);
/* Let the function's structures be found again, after the BAR moved. */
bool virtio_pci_map(struct vdev *v);

/* --- Registers (virtio.c) --- */

uint8_t virtio_status(const struct vdev *v);
void virtio_set_status(const struct vdev *v, uint8_t status);
/* Write 0 to status and wait for it. */
void virtio_reset(struct vdev *v);
uint64_t virtio_offered(const struct vdev *v);
void virtio_accept(const struct vdev *v, uint64_t features);
unsigned virtio_queue_max(const struct vdev *v, unsigned q);
/* Tell the device of queue @q: size, rings, enable. */
void virtio_queue_set(const struct vdev *v, unsigned q, unsigned size, uint64_t desc,
		      uint64_t driver, uint64_t device);
uintptr_t virtio_queue_notify(const struct vdev *v, unsigned q);
/* Interrupts of queue @q by MSI-X: entry @entry of the table, to @vector on APIC @apic. */
void virtio_queue_irq(struct vdev *v, unsigned q, unsigned entry, unsigned vector, unsigned apic);
/* @len 1, 2, 4, or 8 (read as two halves). */
uint64_t virtio_config(const struct vdev *v, unsigned off, unsigned len);

/* 3.1.1: reset, negotiate what is offered of @features and VERSION_1. True: FEATURES_OK holds. */
bool virtio_begin(struct vdev *v, uint64_t features);
/* Allocate rings of at most @size and enable queue @q. False when there is no such queue. */
bool virtio_queue(struct vdev *v, unsigned q, unsigned size, struct vq *vq);
/* DRIVER_OK */
void virtio_go(const struct vdev *v);

/* --- Queues (virtio.c) --- */

/*
 * Make a chain of @out device-readable pieces, then @in writable ones, available. Returns its
 * head, or -1 when there are too few descriptors.
 */
int vq_add(struct vq *vq, const struct vbuf *buf, unsigned out, unsigned in);
/* Publish what was added, and notify the device if it wants that. */
void vq_kick(struct vq *vq);
/* The head of a chain given back, or -1 when there is none yet. @len may be NULL. */
int vq_get(struct vq *vq, uint32_t *len);
/* The same, but wait for it; -1 after @us. */
int vq_wait(struct vq *vq, uint32_t *len, uint64_t us);
/* vq_add(), vq_kick() and vq_wait(): the used length, or -1. */
int vq_do(struct vq *vq, const struct vbuf *buf, unsigned out, unsigned in);

/* A block request with one buffer (@len may be 0): its status, or -1 without an answer. */
int blk_do(struct vq *vq, uint32_t type, uint64_t sector, void *buf, uint32_t len);

static inline void virtio_notify(const struct vq *vq)
{
	if (vq->vdev->pci)
		wr16(vq->notify, (uint16_t)vq->index);
	else
		wr32(vq->notify, vq->index);
}

#endif
