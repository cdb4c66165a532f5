/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets of the virtio transports share: a device with two queues over a little
 * guest memory, and a machine around it as strict as KVM.
 */
#ifndef TESTS_FUZZ_TRANSPORT_FUZZ_H
#define TESTS_FUZZ_TRANSPORT_FUZZ_H

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include "devices/irq.h"
#include "devices/virtio.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define RAM	  0x10000ULL
#define QUEUES	  2
#define QSIZE	  8
#define RINGS(q)  (0x1000ULL * (q) + 0x1000)
#define DRIVER(q) (RINGS(q) + 0x400)
#define DEVICE(q) (RINGS(q) + 0x800)
#define STEPS_MAX 2048

/* --- The device --- */

struct fake {
	struct virtio_device vdev; /* first */
	uint8_t config[16];
	struct iovec iov[VIRTQUEUE_IOV(QSIZE)];
};

static inline bool fake_handle(struct virtio_device *vdev, unsigned q,
			       struct virtqueue_chain *chain)
{
	CHECK(q < QUEUES && virtio_live(vdev));
	virtqueue_skip(&chain->readable, chain->readable.left);
	virtqueue_zero(&chain->writable, chain->writable.left < 64 ? chain->writable.left : 64);
	return true;
}

static inline void fake_kick(struct virtio_device *vdev, unsigned q)
{
	virtio_serve(vdev, q, container_of(vdev, struct fake, vdev)->iov, 4, fake_handle);
}

static inline void fake_config_write(struct virtio_device *vdev, unsigned off, const void *data,
				     unsigned len)
{
	struct fake *f = container_of(vdev, struct fake, vdev);

	CHECK(len > 0 && off < sizeof(f->config) && len <= sizeof(f->config) - off);
	memcpy(f->config + off, data, len);
}

static const struct virtio_ops fake_ops = {
	.name = "fake",
	.id = 42,
	.kick = fake_kick,
	.config_write = fake_config_write,
};

/* --- The machine --- */

#define EVENTFDS 8

struct env {
	struct gmem mem;
	struct loop *loop;
	struct virtio_host host;
	struct bus bus;
	struct msi_chip msi;
	struct ioeventfd_chip ioeventfd;
	struct {
		uint64_t addr, match;
		int fd; /* -1: free */
	} notify[EVENTFDS];
	int irqfd[EVENTFDS]; /* by handle: eventfd or -1 */
	unsigned nnotify, nirqfd, interrupts;
	bool failing; /* nothing can be registered */
};

static inline int env_ioeventfd(struct ioeventfd_chip *chip, int fd, uint64_t addr, unsigned len,
				const uint64_t *match, bool on)
{
	struct env *env = container_of(chip, struct env, ioeventfd);
	uint64_t value = match != NULL ? *match : UINT64_MAX;
	unsigned i, room = EVENTFDS;

	CHECK(fd >= 0 && (len == 0) == (match == NULL));
	for (i = 0; i < EVENTFDS; i++) {
		if (env->notify[i].fd < 0)
			room = i;
		else if (env->notify[i].addr == addr && env->notify[i].match == value)
			break;
	}
	CHECK(on == (i == EVENTFDS)); /* never twice, and what goes was there */
	if (!on) {
		CHECK(env->notify[i].fd == fd);
		env->notify[i].fd = -1;
		env->nnotify--;
		return 0;
	}
	if (env->failing)
		return -ENOSPC;
	CHECK(room < EVENTFDS);
	env->notify[room].addr = addr;
	env->notify[room].match = value;
	env->notify[room].fd = fd;
	env->nnotify++;
	return 0;
}

static inline void env_send(struct msi_chip *chip, uint64_t addr, uint32_t data)
{
	(void)addr;
	(void)data;
	container_of(chip, struct env, msi)->interrupts++;
}

static inline int env_connect(struct msi_chip *chip, int fd, uint64_t addr, uint32_t data)
{
	struct env *env = container_of(chip, struct env, msi);
	unsigned room = EVENTFDS;

	(void)addr;
	(void)data;
	for (unsigned i = 0; i < EVENTFDS; i++) {
		CHECK(env->irqfd[i] != fd);
		if (env->irqfd[i] < 0)
			room = i;
	}
	if (env->failing)
		return -ENOSPC;
	CHECK(room < EVENTFDS);
	env->irqfd[room] = fd;
	env->nirqfd++;
	return room;
}

static inline void env_disconnect(struct msi_chip *chip, int handle, int fd)
{
	struct env *env = container_of(chip, struct env, msi);

	CHECK(handle >= 0 && handle < EVENTFDS && env->irqfd[handle] == fd);
	env->irqfd[handle] = -1;
	env->nirqfd--;
}

static inline void env_init(struct env *env)
{
	struct gmem_config cfg = { .size = RAM };
	struct err err = ERR_INIT;

	memset(env, 0, sizeof(*env));
	log_set_fd(-1);
	CHECK(gmem_init(&env->mem, &cfg, &err) == 0);
	CHECK(gmem_add_region(&env->mem, 0, RAM, &err) == 0);
	env->loop = loop_new(&err);
	CHECK(env->loop != NULL);
	env->host = (struct virtio_host){ .mem = &env->mem, .loop = env->loop };
	bus_init(&env->bus);
	env->msi = (struct msi_chip){ .send = env_send,
				      .connect = env_connect,
				      .disconnect = env_disconnect };
	env->ioeventfd.set = env_ioeventfd;
	for (unsigned i = 0; i < EVENTFDS; i++)
		env->notify[i].fd = env->irqfd[i] = -1;
}

static inline void env_fini(struct env *env)
{
	CHECK(env->nnotify == 0 && env->nirqfd == 0);
	bus_fini(&env->bus);
	loop_free(env->loop);
	gmem_fini(&env->mem);
}

static inline void fake_init(struct fake *f, struct env *env)
{
	struct err err = ERR_INIT;

	memset(f, 0, sizeof(*f));
	f->vdev.features = 0xf0;
	CHECK(virtio_init(&f->vdev, &fake_ops, &env->host, env->loop, QUEUES, QSIZE, f->config,
			  sizeof(f->config), &err) == 0);
}

/* --- What happens beside register accesses --- */

static inline uint64_t env_read(struct env *env, uint64_t addr, unsigned len)
{
	uint8_t data[8];

	bus_read(&env->bus, addr, data, len);
	return bus_get_le(data, len);
}

static inline void env_write(struct env *env, uint64_t addr, uint64_t value, unsigned len)
{
	uint8_t data[8];

	bus_put_le(data, 8, value);
	bus_write(&env->bus, addr, data, len);
}

/* A valid chain of one buffer in queue @q, made available. */
static inline void offer(struct env *env, unsigned q, uint8_t where)
{
	struct vring_desc desc = { .addr = where * 64ULL, .len = 64, .flags = VRING_DESC_F_WRITE };
	uint16_t idx = 0, zero = 0;

	CHECK(gmem_write(&env->mem, RINGS(q), &desc, sizeof(desc)) == 0);
	CHECK(gmem_read(&env->mem, DRIVER(q) + 2, &idx, 2) == 0);
	CHECK(gmem_write(&env->mem, DRIVER(q) + 4 + 2 * (idx % QSIZE), &zero, 2) == 0);
	idx++;
	CHECK(gmem_write(&env->mem, DRIVER(q) + 2, &idx, 2) == 0);
}

/* What hosts do: kinds 0 to 7. */
static inline void host_step(struct env *env, struct fake *f, struct input *in, uint8_t kind)
{
	struct virtio_device *vdev = &f->vdev;
	unsigned q = kind >> 3 & 1;
	uint64_t value;
	int kick, call;

	switch (kind & 7) {
	case 0:
		loop_run_once(env->loop, 0);
		break;
	case 1:
		pthread_mutex_lock(&vdev->lock);
		virtio_config_changed(vdev);
		pthread_mutex_unlock(&vdev->lock);
		break;
	case 2: /* hand a queue to the host's kernel, or take it back */
		pthread_mutex_lock(&vdev->lock);
		if (virtio_vq(vdev, q) != NULL &&
		    virtio_offload(vdev, q, kind & 16, &kick, &call) == 0 && (kind & 16) != 0)
			(void)eventfd_write(call, 1);
		pthread_mutex_unlock(&vdev->lock);
		break;
	case 3:
		env->failing = kind & 16;
		break;
	case 4: /* any bytes anywhere, rings included */
		value = take(in, 8);
		(void)gmem_write(&env->mem, take(in, 2), &value, 8);
		break;
	case 5:
		offer(env, q, take(in, 1));
		break;
	case 6: /* as busy as to earn an eventfd */
		for (unsigned i = 0; i <= VIRTIO_EXITS_MAX; i++)
			virtio_kick(vdev, q);
		loop_run_once(env->loop, 0);
		break;
	case 7:
		pthread_mutex_lock(&vdev->lock);
		virtio_fail(vdev, "because");
		pthread_mutex_unlock(&vdev->lock);
		break;
	}
}

#endif
