// SPDX-License-Identifier: Apache-2.0
/* The device model: status, features, kicks, latencies, eventfds, failure, reset, state, threads.
 */
#include <errno.h>
#include <unistd.h>
#include "device_util.h"
#include "virtio_driver.h"
#include "vmm/base/iothread.h"
#include "vmm/base/log.h"

#define QSIZE 8
#define MINE  5 /* a feature bit of the device's own */

/* Answers what it is told. */
struct echo {
	struct virtio_device vdev; /* first */
	unsigned kicks[2], updates, resets, quiesces, resumes, rescans, handled;
	unsigned stop_at; /* handle no more than these */
	bool offload;	  /* queue 1, when alive */
	int kick_fd, call_fd;
	struct virtqueue_chain held; /* out until `quiesce` */
	bool hold, holding;
	uint8_t config[8];
	uint32_t field; /* saved */
	struct iovec iov[VIRTQUEUE_IOV(QSIZE)], held_iov[VIRTQUEUE_IOV(QSIZE)];
};

static bool echo_handle(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct echo *e = container_of(vdev, struct echo, vdev);
	char text[64];
	size_t n;

	(void)q;
	if (e->handled == e->stop_at)
		return false;
	e->handled++;
	n = virtqueue_read(&chain->readable, text, sizeof(text));
	if (n >= 4 && memcmp(text, "fail", 4) == 0)
		virtio_fail(vdev, "it said so");
	virtqueue_write(&chain->writable, text, n);
	return true;
}

static void echo_kick(struct virtio_device *vdev, unsigned q)
{
	struct echo *e = container_of(vdev, struct echo, vdev);

	e->kicks[q]++;
	if (e->hold && !e->holding)
		e->holding = virtio_pop(vdev, q, &e->held, e->held_iov);
	else
		virtio_serve(vdev, q, e->iov, 4, echo_handle);
}

static void echo_update(struct virtio_device *vdev)
{
	struct echo *e = container_of(vdev, struct echo, vdev);

	e->updates++;
	if (e->offload && virtio_live(vdev))
		ck_assert_int_eq(virtio_offload(vdev, 1, true, &e->kick_fd, &e->call_fd), 0);
}

static void echo_reset(struct virtio_device *vdev)
{
	struct echo *e = container_of(vdev, struct echo, vdev);

	ck_assert(!virtio_live(vdev));
	e->resets++;
	e->holding = false;
}

static void echo_quiesce(struct virtio_device *vdev)
{
	struct echo *e = container_of(vdev, struct echo, vdev);

	e->quiesces++;
	if (e->holding) {
		virtqueue_write(&e->held.writable, "late", 4);
		virtio_push(vdev, 0, &e->held);
		virtio_interrupt(vdev, 0);
		e->holding = false;
	}
}

static void echo_resume(struct virtio_device *vdev)
{
	container_of(vdev, struct echo, vdev)->resumes++;
}

static void echo_rescan(struct virtio_device *vdev)
{
	container_of(vdev, struct echo, vdev)->rescans++;
}

static void echo_config_write(struct virtio_device *vdev, unsigned off, const void *data,
			      unsigned len)
{
	struct echo *e = container_of(vdev, struct echo, vdev);

	ck_assert_uint_le(off + len, sizeof(e->config));
	memcpy(e->config + off, data, len);
}

static void echo_state(struct virtio_device *vdev, struct state *st)
{
	state_u32(st, "field", &container_of(vdev, struct echo, vdev)->field);
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.id = 99,
	.kick = echo_kick,
	.update = echo_update,
	.reset = echo_reset,
	.quiesce = echo_quiesce,
	.resume = echo_resume,
	.rescan = echo_rescan,
	.config_write = echo_config_write,
	.state = echo_state,
};
VIRTIO_DEVICE(echo_ops);

static struct driver d;
static struct echo e;

static void echo_init(struct echo *echo, struct loop *loop)
{
	struct err err = ERR_INIT;

	memset(echo, 0, sizeof(*echo));
	echo->stop_at = UINT32_MAX;
	echo->kick_fd = echo->call_fd = -1;
	echo->vdev.features = 1 << MINE;
	ck_assert_int_eq(virtio_init(&echo->vdev, &echo_ops, &d.host, loop, 2, QSIZE, echo->config,
				     sizeof(echo->config), &err),
			 0);
}

static void setup(void)
{
	log_set_fd(-1); /* the drivers here misbehave */
	driver_init(&d);
	echo_init(&e, d.loop);
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
	ck_assert_uint_eq(d.queue[1].interrupts, 1);
	ck_assert_uint_eq(e.updates, 1);
}
END_TEST

#define ACK	VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER	VIRTIO_CONFIG_S_DRIVER
#define FEAT_OK VIRTIO_CONFIG_S_FEATURES_OK
#define OK	VIRTIO_CONFIG_S_DRIVER_OK
#define BROKEN	VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED	VIRTIO_CONFIG_S_FAILED
#define V1	(1ULL << VIRTIO_F_VERSION_1)

/* Queue a word for the device without waiting for the answer. */
static void whisper(unsigned q, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);
	uint64_t from = driver_data(&d, text, len), to = driver_alloc(&d, len);

	driver_add(&d, q, (struct driver_buf[]){ { from, len, false }, { to, len, true } }, 2);
}

START_TEST(test_kinds)
{
	unsigned n = 0;

	ck_assert_uint_ge(virtio_nkinds(), 1);
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		ck_assert_ptr_nonnull(virtio_kind(i)->name);
		n += virtio_kind(i) == &echo_ops;
	}
	ck_assert_uint_eq(n, 1);
}
END_TEST

START_TEST(test_init)
{
	static const struct {
		unsigned n, size;
		int result;
	} t[] = {
		{ 0, 8, 0 },	   { 64, 1024, 0 },    { 65, 8, -EINVAL },
		{ 1, 0, -EINVAL }, { 1, 12, -EINVAL }, { 1, 2048, -EINVAL },
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct virtio_device v = { 0 };
		struct err err = ERR_INIT;

		virtio_fini(&v); /* never made */
		ck_assert_int_eq(virtio_init(&v, &echo_ops, &d.host, d.loop, t[i].n,
					     (uint16_t)t[i].size, NULL, 0, &err),
				 t[i].result);
		ck_assert_int_eq(err.code, -t[i].result);
		virtio_fini(&v);
		virtio_fini(&v);
	}
}
END_TEST

START_TEST(test_features)
{
	ck_assert_uint_eq(virtio_offered(&e.vdev, 0), 1 << MINE | 1 << 28 | 1 << 29);
	ck_assert_uint_eq(virtio_offered(&e.vdev, 1), 1);
	ck_assert_uint_eq(virtio_offered(&e.vdev, 2), 0);
	ck_assert_uint_eq(virtio_offered(&e.vdev, UINT32_MAX), 0);

	driver_negotiate(&d, 1 << MINE);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | FEAT_OK);
	ck_assert(virtio_has(&e.vdev, MINE));
	virtio_accept(&e.vdev, 0, 0); /* too late */
	ck_assert(virtio_has(&e.vdev, MINE));
	/* Not offered. */
	driver_negotiate(&d, 1 << (MINE + 1));
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER);
	/* The driver may think again. */
	virtio_accept(&e.vdev, 0, 0);
	virtio_accept(&e.vdev, 2, UINT32_MAX);
	driver_set_status(&d, ACK | DRIVER | FEAT_OK);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | FEAT_OK);
	/* A legacy driver. */
	driver_set_status(&d, 0);
	driver_set_status(&d, ACK | DRIVER | FEAT_OK);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER);
}
END_TEST

START_TEST(test_status)
{
	/* Bits are only added; a driver cannot set those of the device. */
	driver_set_status(&d, ACK);
	driver_set_status(&d, DRIVER | BROKEN | 0x30);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER);
	/* Not without FEATURES_OK, also when it comes with it and is refused. */
	driver_set_status(&d, OK);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | OK | BROKEN);
	ck_assert_uint_eq(d.config_interrupts, 1);
	ck_assert(!virtio_live(&e.vdev));
	driver_set_status(&d, 0);
	ck_assert_uint_eq(driver_status(&d), 0);
	driver_set_status(&d, ACK | DRIVER | FEAT_OK | OK);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | OK | BROKEN);
	/* Broken before it ever ran: nobody is interrupted. */
	driver_negotiate(&d, 0);
	d.config_interrupts = 0;
	virtio_fail(&e.vdev, "x");
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | FEAT_OK | BROKEN);
	ck_assert_uint_eq(d.config_interrupts, 0);
	driver_set_status(&d, OK);
	ck_assert(!virtio_live(&e.vdev));
	/* FAILED is the end, too. */
	driver_start(&d, 0);
	ck_assert(virtio_live(&e.vdev));
	driver_set_status(&d, FAILED);
	ck_assert(!virtio_live(&e.vdev));
	driver_run(&d);
	driver_notify(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(e.kicks[0], 0);
	/* And after a reset all is well. */
	driver_start(&d, 0);
	say(0, "hello");
	/* A device that was reset cannot fail. */
	driver_set_status(&d, 0);
	virtio_fail(&e.vdev, "x");
	ck_assert_uint_eq(driver_status(&d), 0);
}
END_TEST

START_TEST(test_queue_setup)
{
	struct virtqueue *vq;

	driver_negotiate(&d, 0);
	vq = virtio_queue_setup(&e.vdev, 0);
	ck_assert_ptr_nonnull(vq);
	ck_assert_uint_eq(vq->size, QSIZE);
	ck_assert_ptr_null(virtio_queue_setup(&e.vdev, 2));
	ck_assert_ptr_null(virtio_queue_setup(&e.vdev, UINT32_MAX));
	virtio_queue_enable(&e.vdev, UINT32_MAX);
	driver_queue(&d, 0, 4);
	ck_assert_ptr_null(virtio_queue_setup(&e.vdev, 0));
	ck_assert_ptr_nonnull(virtio_queue_setup(&e.vdev, 1));
	ck_assert(!vq->started);
	driver_ok(&d);
	ck_assert(vq->started);
	ck_assert_ptr_null(virtio_queue_setup(&e.vdev, 1));
	virtio_queue_enable(&e.vdev, 1);
	ck_assert(!e.vdev.queue[1].vq.enabled);
	ck_assert_ptr_eq(virtio_vq(&e.vdev, 0), vq);
	ck_assert_ptr_null(virtio_vq(&e.vdev, 1));
	ck_assert_ptr_null(virtio_vq(&e.vdev, 2));
	/* Kicks of what is not there. */
	driver_run(&d);
	driver_notify(&d, 1);
	virtio_kick(&e.vdev, 2);
	virtio_kick(&e.vdev, 64);
	virtio_kick(&e.vdev, UINT32_MAX);
	driver_run(&d);
	ck_assert_uint_eq(e.kicks[1], 0);
	say(0, "hello");

	/* Rings that cannot be. */
	driver_negotiate(&d, 0);
	driver_queue(&d, 0, 0);
	e.vdev.queue[0].vq.desc += 8;
	d.config_interrupts = 0;
	driver_ok(&d);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | FEAT_OK | OK | BROKEN);
	ck_assert_uint_eq(d.config_interrupts, 1);
	ck_assert_ptr_null(virtio_vq(&e.vdev, 0));
	/* Reset forgets it all. */
	driver_set_status(&d, 0);
	ck_assert_uint_eq(e.vdev.queue[0].vq.size, QSIZE);
	ck_assert_uint_eq(e.vdev.queue[0].vq.desc, 0);
	ck_assert(!e.vdev.queue[0].vq.enabled);
}
END_TEST

START_TEST(test_config)
{
	uint8_t data[12];

	memcpy(e.config, "01234567", 8);
	driver_config_read(&d, 0, data, 8);
	ck_assert_mem_eq(data, "01234567", 8);
	memset(data, 0xff, sizeof(data));
	driver_config_read(&d, 6, data, 4);
	ck_assert_mem_eq(data, "67\0\0\xff", 5);
	memset(data, 0xff, sizeof(data));
	virtio_config_read(&e.vdev, 8, data, 4);
	ck_assert_mem_eq(data, "\0\0\0\0\xff", 5);
	memset(data, 0xff, sizeof(data));
	virtio_config_read(&e.vdev, UINT64_MAX, data, 8);
	ck_assert_mem_eq(data, "\0\0\0\0\0\0\0\0\xff", 9);
	driver_config_write(&d, 2, "ab", 2);
	driver_config_write(&d, 7, "cd", 2);
	driver_config_write(&d, 8, "e", 1);
	driver_config_write(&d, 0, "e", 0);
	virtio_config_write(&e.vdev, UINT64_MAX, "fg", 2);
	ck_assert_mem_eq(e.config, "01ab4567", 8);

	virtio_config_changed(&e.vdev);
	ck_assert_uint_eq(e.vdev.generation, 1);
	ck_assert_uint_eq(d.config_interrupts, 0);
	driver_start(&d, 0);
	virtio_config_changed(&e.vdev);
	ck_assert_uint_eq(e.vdev.generation, 2);
	ck_assert_uint_eq(d.config_interrupts, 1);
}
END_TEST

/* The budget is 4 (echo_kick). */
START_TEST(test_serve)
{
	uint32_t len;

	for (unsigned event = 0; event < 2; event++) {
		driver_start(&d, event ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		driver_run(&d);
		e.kicks[0] = e.handled = 0;
		whisper(0, "a");
		whisper(0, "bc");
		whisper(0, "def");
		driver_kick(&d, 0);
		loop_run_once(d.loop, 0);
		ck_assert_uint_eq(e.handled, 3);
		ck_assert_uint_eq(d.queue[0].interrupts, 1); /* one for the batch */
		for (unsigned i = 1; i <= 3; i++) {
			ck_assert(driver_used(&d, 0, NULL, &len));
			ck_assert_uint_eq(len, i);
		}
		/* Four, and there may be more: kicks stay off until it was looked. */
		for (unsigned i = 0; i < 4; i++)
			whisper(0, "x");
		ck_assert(driver_kick(&d, 0));
		loop_run_once(d.loop, 0);
		ck_assert_uint_eq(e.handled, 7);
		ck_assert_uint_eq(e.kicks[0], 2);
		while (driver_used(&d, 0, NULL, NULL))
			;
		whisper(0, "y");
		ck_assert(!driver_kick(&d, 0));
		driver_run(&d);
		ck_assert_uint_eq(e.handled, 8);
		ck_assert_uint_eq(e.kicks[0], 3);
		ck_assert(driver_used(&d, 0, NULL, NULL));
		/* A handler that has no room. */
		e.stop_at = 9;
		whisper(0, "one");
		whisper(0, "two");
		driver_want_interrupt(&d, 0, 8);
		d.queue[0].interrupts = 0;
		ck_assert(driver_kick(&d, 0));
		driver_run(&d);
		ck_assert_uint_eq(e.handled, 9);
		ck_assert_uint_eq(d.queue[0].interrupts, 1);
		ck_assert(driver_used(&d, 0, NULL, NULL));
		ck_assert(!driver_used(&d, 0, NULL, NULL));
		e.stop_at = UINT32_MAX;
		virtio_again(&e.vdev, 0);
		driver_run(&d);
		ck_assert_uint_eq(e.handled, 10);
		ck_assert(driver_used(&d, 0, NULL, &len));
		ck_assert_uint_eq(len, 3);
		whisper(0, "z");
		ck_assert(driver_kick(&d, 0));
		driver_run(&d);
		ck_assert(driver_used(&d, 0, NULL, NULL));
	}
}
END_TEST

/* A device that fails in the middle, and a driver that lies. */
START_TEST(test_fail)
{
	driver_start(&d, 0);
	driver_run(&d);
	whisper(0, "good");
	whisper(0, "fail");
	whisper(0, "lost");
	driver_kick(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(e.handled, 2);
	ck_assert_uint_eq(driver_status(&d), ACK | DRIVER | FEAT_OK | OK | BROKEN);
	ck_assert_uint_eq(d.config_interrupts, 1);
	ck_assert(driver_used(&d, 0, NULL, NULL));
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	virtio_fail(&e.vdev, "again");
	ck_assert_uint_eq(d.config_interrupts, 1);
	virtio_config_changed(&e.vdev);
	ck_assert_uint_eq(d.config_interrupts, 1);
	e.kicks[1] = 0;
	driver_notify(&d, 1);
	driver_run(&d);
	ck_assert_uint_eq(e.kicks[1], 0);

	driver_start(&d, 0);
	driver_available(&d, 0, 0xffff);
	driver_notify(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(driver_status(&d) & BROKEN, BROKEN);
	driver_start(&d, 0);
	say(0, "well again");
}
END_TEST

/* Queues that are notified often get an eventfd; a reset takes it away. */
START_TEST(test_eventfd)
{
	unsigned kicks;

	driver_start(&d, 0);
	for (unsigned i = 0; i < VIRTIO_EXITS_MAX - 1; i++)
		say(0, "x");
	ck_assert_int_eq(d.queue[0].ioeventfd, -1);
	for (unsigned i = 0; i < 100; i++)
		virtio_again(&e.vdev, 0); /* not the driver: does not count */
	driver_run(&d);
	ck_assert_int_eq(d.queue[0].ioeventfd, -1);
	say(0, "x");
	ck_assert_int_ge(d.queue[0].ioeventfd, 0);
	ck_assert_int_eq(d.queue[1].ioeventfd, -1);
	/* Each signal is a kick, once, though nobody reads the counter. */
	driver_run(&d);
	for (unsigned i = 0; i < 5; i++) {
		kicks = e.kicks[0];
		say(0, "by eventfd");
		driver_run(&d);
		ck_assert_uint_eq(e.kicks[0], kicks + 1);
	}
	ck_assert_uint_eq(e.vdev.queue[0].exits, VIRTIO_EXITS_MAX);

	/* Reset: let go at once; it has to be earned anew. */
	driver_set_status(&d, 0);
	ck_assert_int_eq(d.queue[0].ioeventfd, -1);
	eventfd_write(e.vdev.queue[0].kick.fd, 1); /* somebody was late */
	driver_start(&d, 0);
	for (unsigned i = 0; i < VIRTIO_EXITS_MAX + 2; i++) {
		ck_assert((d.queue[0].ioeventfd >= 0) == (i >= VIRTIO_EXITS_MAX));
		say(0, "again");
	}
	/* Reset and started again before the loop has run. */
	driver_set_status(&d, 0);
	driver_start(&d, 0);
	driver_set_status(&d, 0);
	driver_start(&d, 0);
	for (unsigned i = 0; i < 2 * VIRTIO_EXITS_MAX; i++) {
		say(0, "again");
		say(1, "too");
	}
	ck_assert_int_ge(d.queue[0].ioeventfd, 0);
	ck_assert_int_ge(d.queue[1].ioeventfd, 0);
	ck_assert_int_ne(d.queue[0].ioeventfd, d.queue[1].ioeventfd);

	/* A transport without. Asked once per life. */
	d.ioeventfd_result = -ENOSPC;
	driver_start(&d, 0);
	for (unsigned i = 0; i < VIRTIO_EXITS_MAX + 1; i++)
		say(0, "by exit");
	d.ioeventfd_result = 0;
	for (unsigned i = 0; i < 3; i++)
		say(0, "by exit");
	ck_assert_int_eq(d.queue[0].ioeventfd, -1);
	driver_start(&d, 0);
	for (unsigned i = 0; i < VIRTIO_EXITS_MAX; i++)
		say(0, "a new life");
	ck_assert_int_ge(d.queue[0].ioeventfd, 0);
}
END_TEST

static uint64_t signalled(int fd)
{
	eventfd_t n = 0;

	return eventfd_read(fd, &n) == 0 ? n : 0;
}

START_TEST(test_offload)
{
	e.offload = true;
	driver_start(&d, 0);
	driver_run(&d);
	/* Registered at once, and kicked for what may be there already. */
	ck_assert_int_ge(e.kick_fd, 0);
	ck_assert_int_eq(d.queue[1].ioeventfd, e.kick_fd);
	ck_assert_int_eq(d.queue[1].irqfd, e.call_fd);
	ck_assert_uint_ge(signalled(e.kick_fd), 1);
	/* The loop leaves it alone. */
	driver_notify(&d, 1);
	driver_run(&d);
	ck_assert_uint_eq(signalled(e.kick_fd), 1);
	ck_assert_uint_eq(e.kicks[1], 0);
	/* A notification that came by exit. */
	virtio_kick(&e.vdev, 1);
	driver_run(&d);
	ck_assert_uint_eq(signalled(e.kick_fd), 1);
	say(0, "the other is ours");
	/* Until reset. */
	e.offload = false;
	driver_start(&d, 0);
	ck_assert_int_eq(d.queue[1].ioeventfd, -1);
	ck_assert_int_eq(d.queue[1].irqfd, -1);
	for (unsigned i = 0; i < VIRTIO_EXITS_MAX + 2; i++)
		say(1, "ours");
	ck_assert_int_ge(d.queue[1].ioeventfd, 0);
	/* Back to the kernel, though the loop watched it. */
	e.offload = true;
	driver_start(&d, 0);
	driver_run(&d);
	(void)signalled(e.kick_fd);
	e.kicks[1] = 0;
	driver_notify(&d, 1);
	driver_run(&d);
	ck_assert_uint_eq(signalled(e.kick_fd), 1);
	ck_assert_uint_eq(e.kicks[1], 0);
	/* And back, alive: what was said meanwhile is seen. */
	whisper(1, "hello");
	ck_assert_int_eq(virtio_offload(&e.vdev, 1, false, NULL, NULL), 0);
	ck_assert_int_eq(d.queue[1].ioeventfd, -1);
	driver_wait(&d, 1, NULL, NULL);
}
END_TEST

/* No irqfd, or neither: the loop stands in. */
START_TEST(test_offload_without)
{
	e.offload = true;
	d.irqfd_result = -EOPNOTSUPP;
	d.ioeventfd_result = -ENOSPC;
	driver_start(&d, 0);
	driver_run(&d);
	ck_assert_int_ge(e.call_fd, 0);
	ck_assert_int_eq(d.queue[1].irqfd, -1);
	for (unsigned i = 1; i <= 3; i++) {
		eventfd_write(e.call_fd, 1);
		driver_run(&d);
		ck_assert_uint_eq(d.queue[1].interrupts, i);
	}
	(void)signalled(e.kick_fd);
	driver_notify(&d, 1);
	driver_run(&d);
	ck_assert_uint_eq(signalled(e.kick_fd), 1);
	/* A call after the reset is nobody's. */
	driver_set_status(&d, 0);
	eventfd_write(e.call_fd, 1);
	driver_run(&d);
	ck_assert_uint_eq(d.queue[1].interrupts, 3);

	/* Any other failure is one. */
	d.irqfd_result = -EINVAL;
	e.offload = false;
	driver_start(&d, 0);
	driver_run(&d);
	ck_assert_int_eq(virtio_offload(&e.vdev, 1, true, &e.kick_fd, &e.call_fd), -EINVAL);
	say(1, "so we do it");
}
END_TEST

/* How many chains took at least 2^@from us, and less than 2^@to. */
static uint64_t took(unsigned from, unsigned to)
{
	uint64_t n = 0;

	for (unsigned i = from; i < to; i++)
		n += e.vdev.counters->latency[i];
	return n;
}

START_TEST(test_latencies)
{
	driver_start(&d, 0);
	driver_run(&d);
	for (unsigned i = 0; i < 4; i++)
		whisper(0, "at once");
	driver_kick(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(driver_latencies(&d), 4);
	while (driver_used(&d, 0, NULL, NULL))
		;
	/* One that takes 100 ms, for the last 50 of which there is another batch. */
	e.hold = true;
	whisper(0, "later");
	driver_notify(&d, 0);
	driver_run(&d);
	ck_assert(e.holding);
	usleep(50000);
	say(1, "in between");
	ck_assert_uint_eq(driver_latencies(&d), 5);
	ck_assert_uint_eq(took(15, VIRTIO_BUCKETS), 0); /* 33 ms */
	usleep(50000);
	virtio_quiesce(&e.vdev);
	ck_assert_uint_eq(driver_latencies(&d), 6);
	ck_assert_uint_eq(took(16, VIRTIO_BUCKETS), 1); /* 66 ms */
	e.hold = false;
	virtio_resume(&e.vdev);
	/* What is not to be timed, and what never comes back. */
	e.vdev.untimed = 1 << 1;
	say(1, "whenever");
	e.hold = true;
	whisper(0, "never");
	driver_notify(&d, 0);
	driver_run(&d);
	driver_set_status(&d, 0);
	driver_start(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(driver_latencies(&d), 6);
}
END_TEST

START_TEST(test_quiesce)
{
	uint32_t len;

	driver_start(&d, 0);
	driver_run(&d);
	e.hold = true;
	whisper(0, "held");
	driver_notify(&d, 0);
	driver_run(&d);
	ck_assert(e.holding);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	virtio_quiesce(&e.vdev);
	virtio_quiesce(&e.vdev);
	ck_assert_uint_eq(e.quiesces, 1);
	ck_assert(driver_used(&d, 0, NULL, &len)); /* finished */
	ck_assert_uint_eq(len, 4);
	ck_assert_uint_eq(d.queue[0].interrupts, 1);
	ck_assert(!virtio_live(&e.vdev));
	ck_assert_ptr_null(virtio_vq(&e.vdev, 0));
	/* Nothing happens now... */
	e.kicks[0] = e.kicks[1] = e.updates = 0;
	e.hold = false;
	whisper(0, "later");
	driver_notify(&d, 0);
	virtio_rescan(&e.vdev);
	driver_run(&d);
	ck_assert_uint_eq(e.kicks[0], 0);
	ck_assert_uint_eq(e.rescans, 0);
	/* ... until then. */
	virtio_resume(&e.vdev);
	virtio_resume(&e.vdev);
	ck_assert_uint_eq(e.resumes, 1);
	driver_run(&d);
	ck_assert(driver_used(&d, 0, NULL, NULL));
	ck_assert_uint_eq(e.kicks[0], 1);
	ck_assert_uint_eq(e.kicks[1], 1);
	ck_assert_uint_eq(e.updates, 1);
	ck_assert_uint_eq(e.rescans, 1);
	virtio_rescan(&e.vdev);
	driver_run(&d);
	ck_assert_uint_eq(e.rescans, 2);
	/* A driver that resets and starts a quiesced device. */
	virtio_quiesce(&e.vdev);
	driver_start(&d, 0);
	whisper(0, "new");
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	virtio_resume(&e.vdev);
	driver_wait(&d, 0, NULL, NULL);
}
END_TEST

static int save_load(void *dev, struct state *st)
{
	return virtio_state(&((struct echo *)dev)->vdev, st);
}

START_TEST(test_saved)
{
	static struct echo other;
	size_t len;
	void *data;

	driver_start(&d, 1 << MINE | 1ULL << VIRTIO_RING_F_EVENT_IDX);
	for (unsigned i = 0; i < 11; i++)
		say(0, "before");
	e.field = 4711;
	virtio_config_changed(&e.vdev);
	virtio_quiesce(&e.vdev);
	whisper(0, "across");
	data = test_save(save_load, &e, &len);

	echo_init(&other, d.loop);
	ck_assert_int_eq(test_load(save_load, &other, data, len), 0);
	ck_assert(other.vdev.quiesced);
	ck_assert_uint_eq(other.field, 4711);
	ck_assert_uint_eq(other.vdev.generation, 1);
	ck_assert(virtio_has(&other.vdev, MINE));
	test_state(save_load, &e, &other);
	/* The other one goes on. */
	driver_detach(&d);
	driver_attach(&d, &other.vdev);
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	virtio_resume(&other.vdev);
	driver_wait(&d, 0, NULL, NULL);
	say(0, "after");
	say(1, "after");
	ck_assert_uint_eq(d.queue[0].used->idx, 13);
	driver_detach(&d);
	driver_attach(&d, &e.vdev);
	virtio_fini(&other.vdev);
	free(data);
}
END_TEST

/* A state with one thing changed: @off bytes from the field's name on, the value is. */
static int load_with(const char *field, const void *value, size_t len)
{
	struct echo *other = malloc(sizeof(*other));
	struct state *st = state_new_save();
	struct err err = ERR_INIT;
	const void *made;
	size_t made_len;
	struct echo copy;
	int r;

	/* Saved from a copy of the structure with the lie in it. */
	copy = e;
	pthread_mutex_init(&copy.vdev.lock, NULL);
	if (strcmp(field, "features") == 0)
		memcpy(&copy.vdev.features, value, len);
	else if (strcmp(field, "driver_features") == 0)
		memcpy(&copy.vdev.driver_features, value, len);
	else if (strcmp(field, "status") == 0)
		memcpy(&copy.vdev.status, value, len);
	ck_assert_int_eq(virtio_state(&copy.vdev, st), 0);
	ck_assert_int_eq(state_finish(st, &made, &made_len, &err), 0);
	echo_init(other, d.loop);
	r = test_load(save_load, other, made, made_len);
	if (r == 0) {
		virtio_resume(&other->vdev);
		driver_run(&d);
	} else {
		ck_assert_uint_eq(other->vdev.status, 0);
	}
	state_free(st);
	virtio_fini(&other->vdev);
	free(other);
	return r;
}

START_TEST(test_loaded_lies)
{
	struct virtqueue *vq = &e.vdev.queue[0].vq, good;
	uint64_t features;
	uint8_t status;

	driver_start(&d, 1 << MINE);
	say(0, "x");
	virtio_quiesce(&e.vdev);
	good = *vq;
	ck_assert_int_eq(load_with("", "", 0), 0);

	features = e.vdev.features | 1ULL << 50;
	ck_assert_int_eq(load_with("features", &features, 8), -EINVAL);
	features = e.vdev.features & ~(1ULL << MINE); /* which the driver has accepted */
	ck_assert_int_eq(load_with("features", &features, 8), -EINVAL);
	features = e.vdev.driver_features | 1ULL << 50;
	ck_assert_int_eq(load_with("driver_features", &features, 8), -EINVAL);
	features = 0;
	ck_assert_int_eq(load_with("driver_features", &features, 8), -EINVAL);
	status = ACK | DRIVER | OK;
	ck_assert_int_eq(load_with("status", &status, 1), -EINVAL);
	status = ACK | 0x10;
	ck_assert_int_eq(load_with("status", &status, 1), -EINVAL);
	status = ACK | DRIVER | OK | BROKEN;
	ck_assert_int_eq(load_with("status", &status, 1), 0);
	/* Buffers out: as many as there are, and one more. */
	vq->next_avail = (uint16_t)(vq->next_used + QSIZE);
	ck_assert_int_eq(load_with("", "", 0), 0);
	vq->next_avail++;
	ck_assert_int_eq(load_with("", "", 0), -EINVAL);
	/* What a driver can write loads, and breaks the device when it is to run. */
	*vq = good;
	vq->size = 7;
	ck_assert_int_eq(load_with("", "", 0), 0);
	vq->size = 0xffff;
	ck_assert_int_eq(load_with("", "", 0), 0);
	*vq = good;
	vq->device = UINT64_MAX - 3;
	ck_assert_int_eq(load_with("", "", 0), 0);
	*vq = good;
}
END_TEST

/* --- Threads: the device on an I/O thread, drivers here, somebody who reads registers --- */

static atomic_bool over;

static void *reader(void *arg)
{
	uint8_t data[8];

	(void)arg;
	while (!atomic_load(&over)) {
		driver_config_read(&d, 0, data, 8);
		(void)driver_status(&d);
		virtio_kick(&e.vdev, 1);
		virtio_rescan(&e.vdev);
		sched_yield();
	}
	return NULL;
}

START_TEST(test_threads)
{
	struct err err = ERR_INIT;
	struct iothread *io = iothread_new(NULL, "echo", NULL, &err);
	pthread_t thread;

	ck_assert_msg(io != NULL, "%s", err.msg);
	driver_detach(&d);
	virtio_fini(&e.vdev);
	echo_init(&e, iothread_loop(io));
	driver_attach(&d, &e.vdev);
	atomic_store(&over, false);
	pthread_create(&thread, NULL, reader, NULL);
	for (unsigned life = 0; life < 40; life++) {
		unsigned back[2] = { 0, 0 }, out[2] = { 0, 0 }, words = life % 3 ? 60 : 3;

		d.heap = DRIVER_HEAP;
		driver_start(&d, life & 1 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		for (unsigned i = 0; i < words; i++) {
			unsigned q = i & 1;

			while (out[q] - back[q] > 2) {
				back[q] += driver_used(&d, q, NULL, NULL);
				sched_yield();
			}
			whisper(q, "word");
			out[q]++;
			driver_kick(&d, q);
		}
		/* Every third life ends in the middle. */
		for (unsigned q = 0; q < 2 && life % 3 != 2; q++) {
			while (back[q] < out[q]) {
				back[q] += driver_used(&d, q, NULL, NULL);
				sched_yield();
			}
		}
	}
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	driver_set_status(&d, 0);
	iothread_stop(io);
	ck_assert_uint_ge(e.handled, 20 * 60);
	driver_detach(&d);
	virtio_fini(&e.vdev);
	iothread_free(io);
	echo_init(&e, d.loop); /* for teardown */
	driver_attach(&d, &e.vdev);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtio");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_echo);
	tcase_add_test(tc, test_kinds);
	tcase_add_test(tc, test_init);
	tcase_add_test(tc, test_features);
	tcase_add_test(tc, test_status);
	tcase_add_test(tc, test_queue_setup);
	tcase_add_test(tc, test_config);
	tcase_add_test(tc, test_serve);
	tcase_add_test(tc, test_fail);
	tcase_add_test(tc, test_eventfd);
	tcase_add_test(tc, test_offload);
	tcase_add_test(tc, test_offload_without);
	tcase_add_test(tc, test_latencies);
	tcase_add_test(tc, test_quiesce);
	tcase_add_test(tc, test_saved);
	tcase_add_test(tc, test_loaded_lies);
	tcase_add_test(tc, test_threads);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
