/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio transport over MMIO. See virtio_mmio.c.
 */
#ifndef DEVICES_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_MMIO_H

#include "devices/bus.h"
#include "devices/irq.h"
#include "devices/virtio.h"
#include "vmm/base/state.h"

#define VIRTIO_MMIO_SIZE 0x1000

struct virtio_mmio;

/*
 * Give @vdev (borrowed, must outlive this) registers at @base on @bus (borrowed), and @line, an
 * edge-triggered input of the interrupt controller. @ioeventfd NULL: every notification exits.
 * NULL with @err filled on failure. Freed before the device's virtio_fini(), vCPUs stopped.
 */
struct virtio_mmio *virtio_mmio_new(struct virtio_device *vdev, struct bus *bus, uint64_t base,
				    struct irq_line line, struct ioeventfd_chip *ioeventfd,
				    struct err *err);
void virtio_mmio_free(struct virtio_mmio *mmio);

/* Device and transport as after power-on. vCPUs stopped. */
void virtio_mmio_reset(struct virtio_mmio *mmio);
/* Save or load, with the device's state (section "virtio") inside. vCPUs stopped, quiesced. */
int virtio_mmio_state(struct virtio_mmio *mmio, struct state *st);

#endif
