// SPDX-License-Identifier: Apache-2.0
/* Virtqueues: the walker, the rings, notifications both ways, cursors, drivers that lie. */
#include <errno.h>
#include "device_util.h"
#include "virtio_driver.h"

/* A device of two queues that leaves them to us. */
static void no_kick(struct virtio_device *vdev, unsigned q)
{
	(void)vdev;
	(void)q;
}

static const struct virtio_ops ops = { .name = "test", .id = 99, .kick = no_kick };

#define QSIZE 16
#define NEXT  VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIR VRING_DESC_F_INDIRECT
#define F_IND (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define F_EVT (1ULL << VIRTIO_RING_F_EVENT_IDX)

static struct driver d;
static struct virtio_device vdev;
static struct virtqueue *vq;
static struct driver_queue *dq;
static struct virtqueue_chain chain;
static struct iovec iov[VIRTQUEUE_IOV(QSIZE)];

static void start(uint64_t features)
{
	driver_start(&d, features);
	vq = &vdev.queue[0].vq;
	dq = &d.queue[0];
	ck_assert(vq->started);
}

static void setup(void)
{
	struct err err = ERR_INIT;

	driver_init(&d);
	memset(&vdev, 0, sizeof(vdev));
	ck_assert_int_eq(virtio_init(&vdev, &ops, &d.host, d.loop, 1, QSIZE, NULL, 0, &err), 0);
	driver_attach(&d, &vdev);
	start(F_IND | F_EVT);
}

static void teardown(void)
{
	driver_detach(&d);
	virtio_fini(&vdev);
	driver_fini(&d);
}

START_TEST(test_direct)
{
	uint64_t gpa = driver_data(&d, "hello, world", 12);
	uint16_t head = driver_add(&d, 0,
				   (struct driver_buf[]){ { gpa, 5, false },
							  { gpa + 5, 7, false },
							  { gpa + 64, 3, true },
							  { gpa + 80, 5, true } },
				   4);
	char text[16] = "";
	uint16_t id;
	uint32_t len;

	ck_assert(!virtqueue_empty(vq));
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert(virtqueue_empty(vq));
	ck_assert_uint_eq(chain.head, head);
	ck_assert_uint_eq(chain.readable.left, 12);
	ck_assert_uint_eq(chain.writable.left, 8);
	ck_assert_uint_eq(virtqueue_read(&chain.readable, text, sizeof(text)), 12);
	ck_assert_str_eq(text, "hello, world");
	ck_assert_uint_eq(chain.readable.left, 0);
	ck_assert_uint_eq(virtqueue_write(&chain.writable, "abcdef", 6), 6);
	ck_assert_mem_eq(driver_ptr(&d, gpa + 64, 3), "abc", 3);
	ck_assert_mem_eq(driver_ptr(&d, gpa + 80, 4), "def", 4);
	ck_assert_uint_eq(chain.writable.done, 6);
	virtqueue_put(vq, chain.head, 6);
	ck_assert(!driver_used(&d, 0, &id, &len));
	virtqueue_publish(vq);
	ck_assert(driver_used(&d, 0, &id, &len));
	ck_assert_uint_eq(id, head);
	ck_assert_uint_eq(len, 6);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtqueue");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_direct);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
