// SPDX-License-Identifier: Apache-2.0
/*
 * From configuration to virtio devices. Nothing here knows a kind of device: the kinds
 * register themselves (VIRTIO_DEVICE), each with its option, and cfg->devices[i] is the
 * list that the option of virtio_kind(i) filled.
 */
#include <errno.h>
#include <semaphore.h>
#include "vmm/base/util.h"
#include "vmm/devices.h"

const struct opt_list *vm_devices_uses(const struct vm_config *cfg, uint16_t id)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == id)
			return &cfg->devices[i];
	return NULL;
}

struct virtio_device *vm_devices_nth(const struct vm_devices *devices, const struct vm_config *cfg,
				     uint16_t id, size_t index)
{
	size_t at = 0;

	/* In the order in which vm_devices_create() makes them. */
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		const struct virtio_ops *ops = virtio_kind(i);
		size_t uses = cfg->devices[i].n;

		if (ops->id == id)
			return !ops->single && index < uses && at + index < devices->n
				       ? devices->vdev[at + index]
				       : NULL;
		at += ops->single && uses > 0 ? 1 : uses;
	}
	return NULL;
}

unsigned vm_devices_count(const struct vm_config *cfg)
{
	unsigned n = 0;

	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		size_t uses = cfg->devices[i].n;

		n += virtio_kind(i)->single && uses > 0 ? 1 : (unsigned)uses;
	}
	return n;
}

/* Make one device of @n uses of its option and give it to the machine. */
static int create(struct vm_devices *devices, const struct virtio_ops *ops, const void *items,
		  unsigned n, unsigned index, const struct virtio_host *host, struct machine *m,
		  struct err *err)
{
	struct virtio_device *vdev;

	if (devices->n == VM_DEVICES_MAX)
		return err_set(err, ENOSPC, "too many devices: a machine takes %d", VM_DEVICES_MAX);
	vdev = ops->create(items, n, index, host, err);
	if (vdev == NULL)
		return -err->code;
	devices->vdev[devices->n++] = vdev;
	return arch_add_virtio(m, vdev, err);
}

int vm_devices_create(struct vm_devices *devices, const struct vm_config *cfg,
		      const struct virtio_host *host, struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		const struct virtio_ops *ops = virtio_kind(i);
		const struct opt_list *uses = &cfg->devices[i];
		const char *item = uses->items;

		if (uses->n == 0)
			continue;
		if (ops->single) {
			if (create(devices, ops, item, (unsigned)uses->n, 0, host, m, err) < 0)
				return -err->code;
			continue;
		}
		for (unsigned k = 0; k < uses->n; k++, item += ops->option.size)
			if (create(devices, ops, item, 1, k, host, m, err) < 0)
				return -err->code;
	}
	return 0;
}

void vm_devices_destroy(struct vm_devices *devices)
{
	while (devices->n > 0) {
		struct virtio_device *vdev = devices->vdev[--devices->n];

		vdev->ops->destroy(vdev);
	}
}

/* Something to be done with a device on the thread of its loop. */
struct errand {
	struct loop_work work;
	struct virtio_device *vdev;
	void (*fn)(struct virtio_device *vdev);
	sem_t done;
};

static void run_errand(struct loop_work *work)
{
	struct errand *errand = container_of(work, struct errand, work);

	errand->fn(errand->vdev);
	sem_post(&errand->done);
}

static void for_each(struct vm_devices *devices, const struct loop *main_loop,
		     void (*fn)(struct virtio_device *vdev))
{
	for (unsigned i = 0; i < devices->n; i++) {
		struct virtio_device *vdev = devices->vdev[i];
		struct errand errand = { .work.fn = run_errand, .vdev = vdev, .fn = fn };

		if (main_loop == NULL || vdev->loop == main_loop) {
			fn(vdev);
			continue;
		}
		sem_init(&errand.done, 0, 0);
		loop_post(vdev->loop, &errand.work);
		while (sem_wait(&errand.done) < 0)
			; /* EINTR */
		sem_destroy(&errand.done);
	}
}

void vm_devices_quiesce(struct vm_devices *devices, struct loop *main_loop)
{
	for_each(devices, main_loop, virtio_quiesce);
}

void vm_devices_resume(struct vm_devices *devices, struct loop *main_loop)
{
	for_each(devices, main_loop, virtio_resume);
}

void vm_devices_rescan(struct vm_devices *devices)
{
	for (unsigned i = 0; i < devices->n; i++)
		virtio_rescan(devices->vdev[i]);
}
