/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a VM, as its configuration asks for them. See devices.c. */
#ifndef VMM_DEVICES_H
#define VMM_DEVICES_H

#include "arch/arch.h"
#include "devices/virtio.h"
#include "vmm/config.h"

#define VM_DEVICES_MAX 64

struct vm_devices {
	unsigned n;
	struct virtio_device *vdev[VM_DEVICES_MAX];
};

/* The uses of the option of the kind of device with virtio id @id; NULL: there is no such kind. */
const struct opt_list *vm_devices_uses(const struct vm_config *cfg, uint16_t id);

/* The device of use @index of that option; NULL: there is none. Not of `single` kinds. */
struct virtio_device *vm_devices_nth(const struct vm_devices *devices, const struct vm_config *cfg,
				     uint16_t id, size_t index);

/* How many devices @cfg makes. */
unsigned vm_devices_count(const struct vm_config *cfg);

/*
 * Make all of them and put them on @m, which has its buses and interrupt controllers. After
 * failure, and at the end, vm_devices_destroy(), when the machine's transports are gone.
 */
int vm_devices_create(struct vm_devices *devices, const struct vm_config *cfg,
		      const struct virtio_host *host, struct machine *m, struct err *err);
void vm_devices_destroy(struct vm_devices *devices);

/*
 * Finish what is in flight and take up nothing more; on with it. Each device on the thread of its
 * loop, which is waited for; all on this one with @main_loop NULL, while no other runs. vCPUs
 * stopped.
 */
void vm_devices_quiesce(struct vm_devices *devices, struct loop *main_loop);
void vm_devices_resume(struct vm_devices *devices, struct loop *main_loop);

/* Something on the host may have changed (the size of a disk image): look again. */
void vm_devices_rescan(struct vm_devices *devices);

#endif
