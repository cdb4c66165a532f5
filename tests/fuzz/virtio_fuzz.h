/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fuzz targets of virtio devices share: guest memory, a loop, a transport that does nothing
 * but look at what it is told, a device made of its option, and queues where the target wants them.
 */
#ifndef TESTS_FUZZ_VIRTIO_FUZZ_H
#define TESTS_FUZZ_VIRTIO_FUZZ_H

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "devices/broker.h"
#include "devices/virtio.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/log.h"

struct virtio_fuzz {
	struct gmem mem;
	struct loop *loop;
	struct virtio_host host;
	struct broker broker;
	struct virtio_transport transport;
	struct virtio_device *vdev; /* the one that is driven */
};

/* Where rings are: those of queue q are q * step further on. With step 0 they are on top of each
 * other, the driver's own trouble. */
struct vf_rings {
	uint16_t size;
	uint64_t desc, driver, device, step;
};

static void vf_interrupt(struct virtio_transport *t, int q)
{
	CHECK(t->vdev != NULL && q >= -1 && q < (int)t->vdev->nqueues);
}

static int vf_fd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	CHECK(t->vdev != NULL && q < t->vdev->nqueues && (fd >= 0 || !on));
	return -EOPNOTSUPP;
}

static const struct virtio_transport_ops vf_transport_ops = { .interrupt = vf_interrupt,
							      .ioeventfd = vf_fd,
							      .irqfd = vf_fd };

/* @ram bytes of memory from 0 on, and unless it is 0 a second region of @high right behind. */
static inline void vf_init(struct virtio_fuzz *v, uint64_t ram, uint64_t high)
{
	struct gmem_config cfg = { .size = ram + high };
	struct err err = ERR_INIT;

	log_set_level(LOG_ERROR);
	log_set_fd(-1);
	*v = (struct virtio_fuzz){ .transport.ops = &vf_transport_ops };
	CHECK(gmem_init(&v->mem, &cfg, &err) == 0);
	CHECK(gmem_add_region(&v->mem, 0, ram, &err) == 0);
	if (high > 0)
		CHECK(gmem_add_region(&v->mem, ram, high, &err) == 0);
	v->loop = loop_new(&err);
	CHECK(v->loop != NULL);
	broker_init(&v->broker);
	v->host = (struct virtio_host){ .mem = &v->mem, .loop = v->loop, .broker = &v->broker };
}

static inline void vf_fini(struct virtio_fuzz *v)
{
	loop_free(v->loop);
	gmem_fini(&v->mem);
}

static inline const struct virtio_ops *vf_ops(uint16_t id)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == id)
			return virtio_kind(i);
	CHECK(!"this kind of device");
	return NULL;
}

/* A device as the option with @value makes it. */
static inline struct virtio_device *vf_make(struct virtio_fuzz *v, uint16_t id, const char *value)
{
	const struct virtio_ops *ops = vf_ops(id);
	struct opt table[2] = { ops->option };
	struct {
		struct opt_seen seen;
		struct opt_list list;
	} config = { 0 };
	struct virtio_device *vdev;
	struct err err = ERR_INIT;

	table[0].offset = (size_t)((char *)&config.list - (char *)&config);
	if (opt_defaults(table, &config, &err) < 0 ||
	    opt_apply(table, &config, ops->option.name, value, &err) < 0)
		fprintf(stderr, "%s\n", err.msg);
	CHECK(config.list.n == 1);
	vdev = ops->create(config.list.items, 1, 0, &v->host, &err);
	if (vdev == NULL)
		fprintf(stderr, "%s\n", err.msg);
	CHECK(vdev != NULL);
	opt_free(table, &config);
	return vdev;
}

/* From here to vf_detach() @vdev is the one that is driven. */
static inline void vf_attach(struct virtio_fuzz *v, struct virtio_device *vdev)
{
	v->vdev = v->transport.vdev = vdev;
	pthread_mutex_lock(&vdev->lock);
	vdev->transport = &v->transport;
	pthread_mutex_unlock(&vdev->lock);
}

static inline void vf_detach(struct virtio_fuzz *v)
{
	pthread_mutex_lock(&v->vdev->lock);
	virtio_reset(v->vdev);
	v->vdev->transport = NULL;
	pthread_mutex_unlock(&v->vdev->lock);
}

/*
 * A driver comes up: it accepts what of @features (the lower 32) is offered, and VERSION_1, and has
 * the first @n queues; their indices are 0.
 */
static inline void vf_start(struct virtio_fuzz *v, uint32_t features, const struct vf_rings *rings,
			    unsigned n)
{
	struct virtio_device *vdev = v->vdev;

	pthread_mutex_lock(&vdev->lock);
	virtio_set_status(vdev, 0);
	virtio_set_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_set_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_accept(vdev, 1, 1);
	virtio_accept(vdev, 0, virtio_offered(vdev, 0) & features);
	virtio_set_status(vdev, vdev->status | VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned q = 0; q < n && q < vdev->nqueues; q++) {
		struct virtqueue *vq = virtio_queue_setup(vdev, q);

		CHECK(vq != NULL);
		vq->size = rings->size;
		vq->desc = rings->desc + q * rings->step;
		vq->driver = rings->driver + q * rings->step;
		vq->device = rings->device + q * rings->step;
		gmem_zero(&v->mem, vq->driver, 4);
		gmem_zero(&v->mem, vq->device, 4);
		virtio_queue_enable(vdev, q);
	}
	virtio_set_status(vdev, vdev->status | VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&vdev->lock);
}

static inline void vf_put16(struct virtio_fuzz *v, uint64_t gpa, uint16_t value)
{
	gmem_write(&v->mem, gpa, &value, sizeof(value));
}

static inline uint16_t vf_get16(struct virtio_fuzz *v, uint64_t gpa)
{
	uint16_t value = 0;

	gmem_read(&v->mem, gpa, &value, sizeof(value));
	return value;
}

#endif
