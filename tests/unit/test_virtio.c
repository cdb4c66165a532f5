// SPDX-License-Identifier: Apache-2.0
/* The device model: status, features, kicks, eventfds, failure, reset, state, threads. */
#include <errno.h>
#include "device_util.h"
#include "virtio_driver.h"

#define QSIZE 8
#define MINE  5 /* a feature bit of the device's own */

/* Answers what it is told, in capitals plus one. */
struct echo {
	struct virtio_device vdev; /* first */
	unsigned kicks[2], updates;
	struct iovec iov[VIRTQUEUE_IOV(QSIZE)];
};

static bool echo_handle(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	char text[64];
	size_t n = virtqueue_read(&chain->readable, text, sizeof(text));

	(void)vdev;
	(void)q;
	virtqueue_write(&chain->writable, text, n);
	return true;
}

static void echo_kick(struct virtio_device *vdev, unsigned q)
{
	struct echo *e = container_of(vdev, struct echo, vdev);

	e->kicks[q]++;
	virtio_serve(vdev, q, e->iov, 4, echo_handle);
}

static void echo_update(struct virtio_device *vdev)
{
	container_of(vdev, struct echo, vdev)->updates++;
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.id = 99,
	.kick = echo_kick,
	.update = echo_update,
};

static struct driver d;
static struct echo e;

static void setup(void)
{
	struct err err = ERR_INIT;

	driver_init(&d);
	memset(&e, 0, sizeof(e));
	e.vdev.features = 1 << MINE;
	ck_assert_int_eq(virtio_init(&e.vdev, &echo_ops, &d.host, d.loop, 2, QSIZE, NULL, 0, &err),
			 0);
	driver_attach(&d, &e.vdev);
}

static void teardown(void)
{
	driver_detach(&d);
	virtio_fini(&e.vdev);
	driver_fini(&d);
}

static void say(unsigned q, const char *text)
{
	uint32_t len = (uint32_t)strlen(text), used;
	uint64_t from = driver_data(&d, text, len), to = driver_alloc(&d, len);
	uint16_t head, id;

	head = driver_add(&d, q, (struct driver_buf[]){ { from, len, false }, { to, len, true } },
			  2);
	driver_kick(&d, q);
	driver_wait(&d, q, &id, &used);
	ck_assert_uint_eq(id, head);
	ck_assert_uint_eq(used, len);
	ck_assert_mem_eq(driver_ptr(&d, to, len), text, len);
}

START_TEST(test_echo)
{
	driver_start(&d, 0);
	say(0, "hello");
	say(1, "there");
	ck_assert_uint_eq(d.queue[0].interrupts, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtio");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_echo);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
