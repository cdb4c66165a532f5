/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of transports share: a device to attach, and the machine around it. */
#ifndef TESTS_UNIT_TRANSPORT_UTIL_H
#define TESTS_UNIT_TRANSPORT_UTIL_H

#include <errno.h>
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"

#define FAKE_QUEUES  2
#define FAKE_QSIZE   16
#define FAKE_ID	     4
#define FAKE_CLASS   0x00ff00
#define FAKE_FEATURE 3 /* a bit of the device's own */

/* --- A device that gives every chain back as it is --- */

struct fake_virtio {
	struct virtio_device vdev; /* first */
	uint8_t config[12];
	unsigned resets, kicks;
	struct iovec iov[VIRTQUEUE_IOV(FAKE_QSIZE)];
};

static inline bool fake_handle(struct virtio_device *vdev, unsigned q,
			       struct virtqueue_chain *chain)
{
	(void)vdev;
	(void)q;
	virtqueue_skip(&chain->readable, chain->readable.left);
	virtqueue_zero(&chain->writable, chain->writable.left);
	return true;
}

static inline void fake_kick(struct virtio_device *vdev, unsigned q)
{
	struct fake_virtio *f = container_of(vdev, struct fake_virtio, vdev);

	f->kicks++;
	virtio_serve(vdev, q, f->iov, 4, fake_handle);
}

static inline void fake_on_reset(struct virtio_device *vdev)
{
	container_of(vdev, struct fake_virtio, vdev)->resets++;
}

static inline void fake_config_write(struct virtio_device *vdev, unsigned off, const void *data,
				     unsigned len)
{
	struct fake_virtio *f = container_of(vdev, struct fake_virtio, vdev);

	memcpy(f->config + off, data, len);
}

static const struct virtio_ops fake_ops = {
	.name = "fake",
	.id = FAKE_ID,
	.pci_class = FAKE_CLASS,
	.kick = fake_kick,
	.reset = fake_on_reset,
	.config_write = fake_config_write,
};

static inline void fake_virtio_init(struct fake_virtio *f, struct driver *d, unsigned nqueues)
{
	struct err err = ERR_INIT;

	memset(f, 0, sizeof(*f));
	for (unsigned i = 0; i < sizeof(f->config); i++)
		f->config[i] = (uint8_t)(0xc0 + i);
	f->vdev.features = 1 << FAKE_FEATURE;
	ck_assert_msg(virtio_init(&f->vdev, &fake_ops, &d->host, d->loop, nqueues, FAKE_QSIZE,
				  f->config, sizeof(f->config), &err) == 0,
		      "%s", err.msg);
}

/* --- Messages and irqfds --- */

#define TEST_MSIS 8

struct test_msi {
	struct msi_chip chip;
	unsigned sends, connects, disconnects;
	uint64_t addr; /* of the last one sent or connected */
	uint32_t data;
	int connected[TEST_MSIS]; /* by handle: the eventfd, or -1 */
	int error;		  /* what connect() shall return */
};

static inline void test_msi_send(struct msi_chip *chip, uint64_t addr, uint32_t data)
{
	struct test_msi *m = container_of(chip, struct test_msi, chip);

	m->sends++;
	m->addr = addr;
	m->data = data;
}

static inline int test_msi_connect(struct msi_chip *chip, int fd, uint64_t addr, uint32_t data)
{
	struct test_msi *m = container_of(chip, struct test_msi, chip);
	int handle = 0;

	if (m->error < 0)
		return m->error;
	for (int i = 0; i < TEST_MSIS; i++)
		ck_assert_int_ne(m->connected[i], fd); /* twice the same */
	while (m->connected[handle] >= 0)
		ck_assert_int_lt(++handle, TEST_MSIS);
	m->connected[handle] = fd;
	m->connects++;
	m->addr = addr;
	m->data = data;
	return handle;
}

static inline void test_msi_disconnect(struct msi_chip *chip, int handle, int fd)
{
	struct test_msi *m = container_of(chip, struct test_msi, chip);

	ck_assert_int_eq(m->connected[handle], fd);
	m->connected[handle] = -1;
	m->disconnects++;
}

static inline void test_msi_init(struct test_msi *m)
{
	*m = (struct test_msi){ .chip = { .send = test_msi_send,
					  .connect = test_msi_connect,
					  .disconnect = test_msi_disconnect } };
	for (int i = 0; i < TEST_MSIS; i++)
		m->connected[i] = -1;
}

static inline unsigned test_msi_connected(const struct test_msi *m)
{
	unsigned n = 0;

	for (int i = 0; i < TEST_MSIS; i++)
		n += m->connected[i] >= 0;
	return n;
}

/* --- ioeventfds, as strict as KVM's --- */

#define TEST_IOEVENTFDS 16

struct test_ioeventfds {
	struct ioeventfd_chip chip;
	unsigned n;
	struct {
		uint64_t addr, match;
		unsigned len;
		bool has_match;
		int fd;
	} at[TEST_IOEVENTFDS];
	int error; /* what adding one shall return */
};

static inline int test_ioeventfd_set(struct ioeventfd_chip *chip, int fd, uint64_t addr,
				     unsigned len, const uint64_t *match, bool on)
{
	struct test_ioeventfds *t = container_of(chip, struct test_ioeventfds, chip);
	unsigned i;

	for (i = 0; i < t->n; i++)
		if (t->at[i].addr == addr && t->at[i].len == len &&
		    t->at[i].has_match == (match != NULL) &&
		    (match == NULL || t->at[i].match == *match))
			break;
	if (!on) {
		ck_assert_uint_lt(i, t->n); /* it is there */
		ck_assert_int_eq(t->at[i].fd, fd);
		t->at[i] = t->at[--t->n];
		return 0;
	}
	if (t->error < 0)
		return t->error;
	ck_assert_uint_eq(i, t->n); /* it is not there */
	ck_assert_uint_lt(i, TEST_IOEVENTFDS);
	t->at[i].addr = addr;
	t->at[i].len = len;
	t->at[i].has_match = match != NULL;
	t->at[i].match = match != NULL ? *match : 0;
	t->at[i].fd = fd;
	t->n++;
	return 0;
}

static inline void test_ioeventfds_init(struct test_ioeventfds *t)
{
	*t = (struct test_ioeventfds){ .chip.set = test_ioeventfd_set };
}

/* --- Guest accesses --- */

static inline uint64_t bus_get(struct bus *bus, uint64_t addr, unsigned len)
{
	uint8_t data[8] = { 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a };

	bus_read(bus, addr, data, len);
	return bus_get_le(data, len);
}

static inline void bus_put(struct bus *bus, uint64_t addr, uint64_t value, unsigned len)
{
	uint8_t data[8];

	bus_put_le(data, 8, value);
	bus_write(bus, addr, data, len);
}

/* --- Rings for a driver that writes registers itself --- */

struct test_rings {
	uint64_t desc, driver, device;
};

/* Lay queue @q's rings out as driver_queue() does, but tell nobody. */
static inline struct test_rings test_rings(struct driver *d, unsigned q, uint16_t size)
{
	struct driver_queue *dq = &d->queue[q];
	struct test_rings r;

	r.desc = driver_alloc(d, sizeof(struct vring_desc) * size);
	r.driver = driver_alloc(d, 6 + 2ULL * size);
	r.device = driver_alloc(d, 6 + 8ULL * size);
	*dq = (struct driver_queue){ .size = size, .ioeventfd = -1, .irqfd = -1 };
	dq->desc = driver_ptr(d, r.desc, sizeof(struct vring_desc) * size);
	dq->avail = driver_ptr(d, r.driver, 6 + 2ULL * size);
	dq->used = driver_ptr(d, r.device, 6 + 8ULL * size);
	return r;
}

#endif
