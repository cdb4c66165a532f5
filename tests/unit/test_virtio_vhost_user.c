// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-user devices, against a back end on a thread (vu_backend.h): one that does what it should,
 * one that lies in every reply, one that dies at every message, others that take its place.
 */
#include <dirent.h>
#include <linux/virtio_fs.h>
#include "devices/disk_qcow2.h"
#include "devices/unix_listen.h"
#include "devices/vhost_user.h"
#include "devices/vhost_user_impl.h"
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"
#include "tests/unit/vu_backend.h"
#include "vmm/base/log.h"

#define PATIENCE_MS 5000
#define EVENT_IDX   (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define FLUSH	    (1ULL << VIRTIO_BLK_F_FLUSH)
#define WCE	    (1ULL << VIRTIO_BLK_F_CONFIG_WCE)

static struct driver d;
static struct backend b;
static struct virtio_device *vdev;
static struct err err;
static struct vhost_user_config cfg;

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void setup(void)
{
	log_set_fd(-1);
	driver_init(&d);
	backend_init(&b);
	vdev = NULL;
	err = (struct err)ERR_INIT;
	cfg = (struct vhost_user_config){
		.type = "blk", .name = "test", .path = b.path, .patience_ms = PATIENCE_MS
	};
}

static struct vhost_user *vu(void)
{
	return (struct vhost_user *)vdev;
}

static void make(void)
{
	backend_start(&b);
	vdev = vhost_user_create(&cfg, 0, &d.host, &err);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
}

static void teardown(void)
{
	const struct virtio_ops *ops;

	if (vdev != NULL) {
		ops = vdev->ops;
		driver_detach(&d);
		ops->destroy(vdev);
	}
	backend_fini(&b);
	driver_fini(&d);
}

/* Run the loop until @cond. */
#define UNTIL(cond)                                                                                \
	do {                                                                                       \
		uint64_t end_ = loop_now_ns() + DRIVER_WAIT_MS * 1000000ULL;                       \
		while (!(cond)) {                                                                  \
			ck_assert_msg(loop_now_ns() < end_, "never: %s", #cond);                   \
			ck_assert_int_eq(loop_run_once(d.loop, 5), 0);                             \
		}                                                                                  \
	} while (0)

struct request {
	uint64_t hdr, data, status;
	uint16_t head;
};

static struct request submit(uint32_t type, uint64_t sector, uint8_t fill)
{
	struct virtio_blk_outhdr hdr = { .type = type, .sector = sector };
	struct request r = { .hdr = driver_data(&d, &hdr, sizeof(hdr)),
			     .data = driver_alloc(&d, 512),
			     .status = driver_data(&d, "\xff", 1) };

	memset(driver_ptr(&d, r.data, 512), fill, 512);
	r.head = driver_add(&d, 0,
			    (struct driver_buf[]){ { r.hdr, sizeof(hdr), false },
						   { r.data, 512, type == VIRTIO_BLK_T_IN },
						   { r.status, 1, true } },
			    3);
	driver_kick(&d, 0);
	return r;
}

static void check_done(const struct request *r, int fill)
{
	const uint8_t *data = driver_ptr(&d, r->data, 512);

	ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, r->status, 1), VIRTIO_BLK_S_OK);
	for (int i = 0; fill >= 0 && i < 512; i++)
		ck_assert_uint_eq(data[i], fill);
}

/* Write a sector and read it back. */
static void io(uint64_t sector, uint8_t fill)
{
	struct request r = submit(VIRTIO_BLK_T_OUT, sector, fill);

	driver_wait(&d, 0, NULL, NULL);
	check_done(&r, -1);
	r = submit(VIRTIO_BLK_T_IN, sector, 0);
	driver_wait(&d, 0, NULL, NULL);
	check_done(&r, fill);
	d.heap = DRIVER_HEAP;
}

/* --- As it should be --- */

START_TEST(good)
{
	struct virtio_blk_config c;

	make();
	ck_assert_uint_eq(vdev->ops->id, VIRTIO_ID_BLOCK);
	ck_assert_uint_eq(vdev->nqueues, 1);
	driver_config_read(&d, 0, &c, 60);
	ck_assert_uint_eq(c.capacity, BACKEND_SECTORS);
	ck_assert_uint_eq(c.num_queues, 1);
	ck_assert_uint_eq(c.seg_max, 254); /* not more than a queue holds */
	ck_assert_uint_eq(vdev->features,
			  (BACKEND_FEATURES &
			   ~(1ULL << VHOST_USER_F_PROTOCOL_FEATURES | 1ULL << VIRTIO_BLK_F_MQ)));
	for (int i = 0; i < 3; i++) {
		driver_start(&d, i == 1 ? 0 : EVENT_IDX | FLUSH);
		UNTIL(vu()->state == VU_RUNNING);
		for (int k = 0; k < 20; k++)
			io((uint64_t)k, (uint8_t)(k + i));
		ck_assert_uint_eq(b.acked, d.features | 1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
	}
	/* All of memory, and no address of ours. */
	ck_assert_uint_eq(b.nregions, 2);
	ck_assert_uint_eq(b.highest_user, 1ULL << 60 | DRIVER_RAM);
	ck_assert_uint_eq(b.connections, 1);
	ck_assert_uint_ge(d.queue[0].irqfd, 0);
}
END_TEST

/* A back end that knows nothing of protocol features, and one without acknowledgements. */
START_TEST(simple)
{
	b.features &= ~(1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
	b.features &= ~EVENT_IDX;
	cfg.type = "rng"; /* has no configuration */
	make();
	ck_assert_uint_eq(vdev->config_size, 0);
	ck_assert_uint_eq(vdev->features & EVENT_IDX, 0);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	io(3, 7);
	driver_detach(&d);
	vdev->ops->destroy(vdev);
	backend_stop(&b);

	b.features = BACKEND_FEATURES;
	b.protocol = 1 << VU_PROTOCOL_CONFIG;
	cfg.type = "blk";
	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	ck_assert_int_eq(vu()->inflight.fd, -1);
	io(4, 8);
}
END_TEST

START_TEST(configuration)
{
	struct virtio_blk_config *c = (struct virtio_blk_config *)b.config, seen;
	uint8_t wce = 0;

	make();
	driver_start(&d, WCE | FLUSH);
	UNTIL(vu()->state == VU_RUNNING);
	/* What cannot be written is not even asked for. */
	driver_config_write(&d, 0, &wce, 1);
	driver_config_write(&d, 32, &seen, 2);
	ck_assert_uint_eq(b.wce, 0);
	driver_config_write(&d, 32, &wce, 1);
	ck_assert_uint_eq(b.wce, 100);
	driver_config_read(&d, 0, &seen, 60);
	ck_assert_uint_eq(seen.wce, 0);
	ck_assert_uint_eq(d.config_interrupts, 1);
	/* The disk grows. Told twice, it is news once. */
	c->capacity = 999;
	b.config_news = true;
	UNTIL(d.config_interrupts == 2);
	driver_config_read(&d, 0, &seen, 60);
	ck_assert_uint_eq(seen.capacity, 999);
	ck_assert_uint_eq(seen.num_queues, 1);
	b.config_news = true;
	UNTIL(!b.config_news);
	driver_run(&d);
	io(1, 2);
	ck_assert_uint_eq(d.config_interrupts, 2);
}
END_TEST

/* Requests we do not know are refused and change nothing; those that are none end it. */
START_TEST(own_requests)
{
	make();
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	b.odd_flags = 1 | 8;
	b.odd_request = 77;
	UNTIL(b.ack_result != 0);
	ck_assert_uint_eq(b.ack_result, 2);
	b.ack_result = 0;
	b.odd_size = 8;
	b.odd_request = VU_BACKEND_CONFIG_CHANGE;
	UNTIL(b.ack_result != 0);
	ck_assert_uint_eq(b.ack_result, 1);
	ck_assert_uint_eq(b.connections, 1);
	for (unsigned i = 0; i < 4; i++) {
		b.odd_flags = (uint32_t[]){ 2, 1 | 4, 1, 1 }[i];
		/* The last says it has more bytes than come. */
		b.odd_size = (uint32_t[]){ 0, 0, 1 << 20, 200 }[i];
		b.odd_request = VU_BACKEND_CONFIG_CHANGE;
		UNTIL(b.connections == 2 + i);
		UNTIL(vu()->state == VU_RUNNING);
		io(1, (uint8_t)i);
	}
}
END_TEST

static int state_fn(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

START_TEST(saved)
{
	struct virtqueue *vq;
	void *data;
	size_t len;

	make();
	vq = &vdev->queue[0].vq;
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	for (int i = 0; i < 5; i++)
		io(1, 2);
	virtio_quiesce(vdev);
	ck_assert_int_eq(vu()->state, VU_IDLE);
	ck_assert_uint_eq(vq->next_avail, 10);
	ck_assert_uint_eq(vq->next_used, 10);
	submit(VIRTIO_BLK_T_OUT, 5, 6);
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	data = test_save(state_fn, vdev, &len);
	virtio_resume(vdev);
	driver_wait(&d, 0, NULL, NULL);
	ck_assert_uint_eq(b.base[0], 10);
	virtio_quiesce(vdev);
	/* The ring is not as old as the state: a request more is done again. */
	__atomic_store_n(&d.queue[0].used->idx, 10, __ATOMIC_SEQ_CST);
	d.queue[0].used_idx = 10;
	ck_assert_int_eq(test_load(state_fn, vdev, data, len), 0);
	virtio_resume(vdev);
	driver_wait(&d, 0, NULL, NULL);
	io(7, 8);
	free(data);
}
END_TEST

/* --- Lies --- */

/* Each lie in each reply while the device is made; none may be believed, none may leak. */
START_TEST(lies_at_first)
{
	static const unsigned requests[] = { VU_GET_FEATURES, VU_GET_PROTOCOL_FEATURES,
					     VU_GET_QUEUE_NUM, VU_GET_CONFIG,
					     VU_SET_BACKEND_REQ_FD };
	unsigned fds;

	cfg.patience_ms = 60;
	fds = open_fds();
	for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		for (enum backend_lie lie = HONEST + 1; lie < LIES; lie++) {
			/* A number may be anything, and only an acknowledgement can refuse. */
			if ((lie == WRONG_NUMBER && requests[i] != VU_GET_CONFIG) ||
			    (lie == REFUSES && requests[i] != VU_SET_BACKEND_REQ_FD))
				continue;
			b.lie_request = requests[i];
			b.lie = lie;
			backend_start(&b);
			err = (struct err)ERR_INIT;
			vdev = vhost_user_create(&cfg, 0, &d.host, &err);
			if (vdev != NULL && lie == TWICE) {
				/* Found when the next is asked, or the loop runs. */
				UNTIL(vu()->reported);
				vdev->ops->destroy(vdev);
			} else {
				ck_assert_msg(vdev == NULL, "request %u, lie %d", requests[i], lie);
				ck_assert_ptr_nonnull(strstr(err.msg, "test: "));
			}
			vdev = NULL;
			backend_stop(&b);
			ck_assert_uint_eq(open_fds(), fds);
		}
	}
}
END_TEST

/* Each lie in each reply of a running device's start: lost, and found again when it is honest. */
START_TEST(lies_later)
{
	static const unsigned requests[] = { VU_GET_INFLIGHT_FD, VU_SET_MEM_TABLE,
					     VU_SET_VRING_KICK,	 VU_SET_VRING_ENABLE,
					     VU_SET_INFLIGHT_FD, VU_GET_VRING_BASE };
	unsigned fds = 0;

	cfg.patience_ms = 60;
	make();
	for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		for (enum backend_lie lie = HONEST + 1; lie < LIES; lie++) {
			unsigned had = b.connections;

			if ((lie == WRONG_NUMBER && requests[i] != VU_GET_VRING_BASE) ||
			    (lie == REFUSES && (requests[i] == VU_GET_INFLIGHT_FD ||
						requests[i] == VU_GET_VRING_BASE)))
				continue;
			b.lie = lie;
			b.lie_request = requests[i];
			driver_start(&d, 0);
			UNTIL(b.connections == had || vu()->state != VU_DOWN);
			if (requests[i] == VU_GET_VRING_BASE) {
				UNTIL(vu()->state == VU_RUNNING);
				driver_set_status(&d, 0);
			}
			UNTIL(vu()->reported);
			b.lie_request = 0;
			UNTIL(!vu()->reported && vu()->state >= VU_IDLE);
			driver_start(&d, 0);
			UNTIL(vu()->state == VU_RUNNING);
			io(i, (uint8_t)lie);
			if (fds == 0)
				fds = open_fds();
			/* On a busy machine it may be lost once more. */
			UNTIL(open_fds() == fds);
			vu()->delay = 1000000; /* so that the test is quick */
			driver_set_status(&d, 0);
		}
	}
	backend_stop(&b);
	UNTIL(vu()->state == VU_DOWN);
}
END_TEST

/* It dies at each message of a life; the next one is found and does what was asked. */
START_TEST(dies_at_each_message)
{
	unsigned fds = 0;

	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	b.lie = CLOSES;
	for (unsigned at = 1; at <= 16; at++) {
		struct request r;
		unsigned had = b.connections;

		backend_stop(&b);
		b.at = at;
		backend_start(&b);
		r = submit(VIRTIO_BLK_T_OUT, at, (uint8_t)(at + 1));
		UNTIL(b.connections >= had + 1);
		b.at = 0;
		driver_wait(&d, 0, NULL, NULL);
		check_done(&r, -1);
		io(at, (uint8_t)at);
		vu()->delay = 1000000;
		if (at == 1)
			fds = open_fds();
	}
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

/* It accepts and says nothing: nobody waits for it, and another is tried. */
START_TEST(silent)
{
	backend_start(&b);
	b.lie_request = VU_GET_FEATURES;
	b.lie = SILENT;
	cfg.patience_ms = 30;
	ck_assert_ptr_null(vhost_user_create(&cfg, 0, &d.host, &err));
	ck_assert_str_eq(err.msg, "test: the back end does not answer");
	b.lie_request = 0;
	err = (struct err)ERR_INIT;
	vdev = vhost_user_create(&cfg, 0, &d.host, &err);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	backend_stop(&b);
	b.lie_request = VU_GET_FEATURES;
	backend_start(&b);
	submit(VIRTIO_BLK_T_OUT, 1, 1);
	UNTIL(vu()->state == VU_GREETING);
	UNTIL(vu()->state == VU_DOWN);
	b.lie_request = 0;
	driver_wait(&d, 0, NULL, NULL);
}
END_TEST

START_TEST(nobody_there)
{
	ck_assert_ptr_null(vhost_user_create(&cfg, 0, &d.host, &err));
	ck_assert_str_eq(err.msg, "test: is the back end running? Start it first: cannot connect: "
				  "No such file or directory");
	/* Too old, too small. */
	backend_start(&b);
	b.features &= ~(1ULL << VIRTIO_F_VERSION_1);
	ck_assert_ptr_null(vhost_user_create(&cfg, 0, &d.host, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "lack virtio 1.0"));
	backend_stop(&b);
	b.features = BACKEND_FEATURES;
	b.queue_num = 2;
	cfg.queues = 3;
	backend_start(&b);
	ck_assert_ptr_null(vhost_user_create(&cfg, 0, &d.host, &err));
	ck_assert_str_eq(err.msg, "test: it has 2 queues, not 3: give fewer by queues=");
	backend_stop(&b);
	b.protocol &= ~1ULL;
	backend_start(&b);
	ck_assert_ptr_null(vhost_user_create(&cfg, 0, &d.host, &err));
	ck_assert_str_eq(err.msg, "test: it has no more than one queue: leave queues= out");
}
END_TEST

/* --- Another takes its place --- */

/* Requests it had taken, and those that came while it was away. */
static void away(bool inflight)
{
	struct request r[6];

	if (!inflight)
		b.protocol &= ~(1ULL << VU_PROTOCOL_INFLIGHT_SHMFD);
	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	io(9, 9);
	b.hold = true;
	for (int i = 0; i < 3; i++)
		r[i] = submit(VIRTIO_BLK_T_OUT, (uint64_t)i, (uint8_t)(10 + i));
	UNTIL(b.held == 3);
	backend_stop(&b);
	UNTIL(vu()->state == VU_DOWN);
	for (int i = 3; i < 6; i++)
		r[i] = submit(VIRTIO_BLK_T_OUT, (uint64_t)i, (uint8_t)(10 + i));
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	b.hold = false;
	backend_start(&b);
	for (int i = 0; i < 6; i++)
		driver_wait(&d, 0, NULL, NULL);
	for (int i = 0; i < 6; i++) {
		check_done(&r[i], -1);
		ck_assert_uint_eq(b.disk[512 * i], 10 + i);
	}
	ck_assert_uint_eq(b.base[0], 2); /* the used index */
	ck_assert_uint_eq(b.resubmitted, inflight ? 3 : 0);
	ck_assert(inflight == (b.inflight_given != 0));
	/*
	 * An interrupt may have been lost with the last one: there is one in any case. Of a back
	 * end without notes interrupts lead through us, and not by the irqfd.
	 */
	if (!inflight) {
		UNTIL(d.queue[0].interrupts > 0);
	} else {
		eventfd_t count = 0;

		ck_assert_int_eq(eventfd_read(d.queue[0].irqfd, &count), 0);
		ck_assert_uint_ge(count, 1);
	}
	io(20, 21);
}

START_TEST(with_inflight)
{
	ino_t first;

	away(true);
	first = b.inflight_given;
	/* The same memory each time, until the driver resets. */
	backend_stop(&b);
	UNTIL(vu()->state == VU_DOWN);
	backend_start(&b);
	UNTIL(vu()->state == VU_RUNNING);
	ck_assert_uint_eq(b.inflight_given, first);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING && b.inflight_given != first);
	io(1, 1);
}
END_TEST

START_TEST(without_inflight)
{
	away(false);
}
END_TEST

/* Some were overtaken: none is lost, none is done twice. */
START_TEST(overtaken)
{
	struct request r[8];

	b.protocol &= ~(1ULL << VU_PROTOCOL_INFLIGHT_SHMFD);
	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	for (int round = 0; round < 8; round++) {
		unsigned done = b.done;

		b.hold_odd = true;
		for (int i = 0; i < 8; i++)
			r[i] = submit(VIRTIO_BLK_T_OUT, (uint64_t)i, (uint8_t)(10 * round + i));
		UNTIL(b.held == 4 && b.done == done + 4);
		for (int i = 0; i < 4; i++)
			driver_wait(&d, 0, NULL, NULL);
		backend_stop(&b);
		UNTIL(vu()->state == VU_DOWN);
		b.hold_odd = false;
		backend_start(&b);
		for (int i = 0; i < 4; i++)
			driver_wait(&d, 0, NULL, NULL);
		for (int i = 0; i < 8; i++) {
			check_done(&r[i], -1);
			ck_assert_uint_eq(b.disk[512 * i], (uint8_t)(10 * round + i));
		}
		ck_assert(!driver_used(&d, 0, NULL, NULL));
	}
	io(20, 21);
}
END_TEST

/* Reset, new lives and quiescence while it is away. */
START_TEST(reset_while_away)
{
	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	b.hold = true;
	submit(VIRTIO_BLK_T_OUT, 1, 1);
	UNTIL(b.held == 1);
	backend_stop(&b);
	b.hold = false;
	UNTIL(vu()->state == VU_DOWN);
	driver_start(&d, 0);
	submit(VIRTIO_BLK_T_OUT, 2, 2);
	virtio_quiesce(vdev);
	driver_run(&d);
	virtio_resume(vdev);
	driver_run(&d);
	backend_start(&b);
	driver_wait(&d, 0, NULL, NULL);
	ck_assert_uint_eq(b.disk[512], 0); /* that was forgotten */
	ck_assert_uint_eq(b.disk[1024], 2);
	/* It goes, is quiesced, comes, is resumed. */
	backend_stop(&b);
	UNTIL(vu()->state == VU_DOWN);
	submit(VIRTIO_BLK_T_OUT, 3, 3);
	virtio_quiesce(vdev);
	backend_start(&b);
	UNTIL(vu()->state == VU_IDLE);
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	virtio_resume(vdev);
	driver_wait(&d, 0, NULL, NULL);
	ck_assert_uint_eq(b.disk[1536], 3);
}
END_TEST

/* The next one lacks a feature that is in use. */
START_TEST(other_features)
{
	make();
	driver_start(&d, EVENT_IDX | FLUSH);
	UNTIL(vu()->state == VU_RUNNING);
	backend_stop(&b);
	b.features &= ~FLUSH;
	backend_start(&b);
	UNTIL((driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
	ck_assert_uint_eq(d.config_interrupts, 1);
	driver_negotiate(&d, EVENT_IDX | FLUSH);
	ck_assert_uint_eq(driver_status(&d) & VIRTIO_CONFIG_S_FEATURES_OK, 0);
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 1);
	/* Without a driver the next one's features are simply what there is. */
	driver_set_status(&d, 0);
	backend_stop(&b);
	UNTIL(vu()->state == VU_DOWN);
	b.features |= FLUSH;
	backend_start(&b);
	UNTIL(vu()->state == VU_IDLE);
	driver_start(&d, FLUSH);
	UNTIL(vu()->state == VU_RUNNING);
}
END_TEST

/* A process that takes completed writes along: only a driver that begins anew goes on. */
static int way_connect(struct vhost_user_way *way, struct err *e)
{
	(void)way;
	(void)e;
	return unix_connect(b.path);
}

static void way_free(struct vhost_user_way *way)
{
	way->pidfd = -2;
}

static void destroy_with_way(const struct vhost_user_way *way)
{
	const struct virtio_ops *ops = vdev->ops;

	driver_detach(&d);
	ops->destroy(vdev);
	vdev = NULL;
	ck_assert_int_eq(way->pidfd, -2);
}

START_TEST(forgetful)
{
	struct vhost_user_way way = {
		.connect = way_connect, .free = way_free, .pidfd = -1, .forgets = true
	};

	cfg.way = &way;
	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	/* The same one once more is no harm. */
	b.at = b.messages + 1;
	b.lie = CLOSES;
	b.config_news = true;
	UNTIL(b.connections == 2);
	b.at = 0;
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 1);
	backend_stop(&b);
	way.lives++;
	backend_start(&b);
	UNTIL((driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
	ck_assert_int_eq(vu()->state, VU_IDLE);
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 2);
	destroy_with_way(&way);
}
END_TEST

/* How often it was said of one that has served, and of one that has not. */
static int said_nothing[2];

static void way_silent(struct vhost_user_way *way, bool end, struct err *e)
{
	said_nothing[end]++;
	/* Another process, which is no better, after the second. */
	if (said_nothing[0] == 2 && !end)
		way->lives++;
	err_context(e, "words");
}

/* A process that does not answer any more, and then new ones that never do: those are ended. */
START_TEST(says_nothing)
{
	struct vhost_user_way way = {
		.connect = way_connect, .silent = way_silent, .free = way_free, .pidfd = -1
	};

	said_nothing[0] = said_nothing[1] = 0;
	cfg.way = &way;
	cfg.patience_ms = 20;
	way.lives = 1;
	make();
	driver_start(&d, EVENT_IDX);
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 1);
	backend_stop(&b);
	b.lie = SILENT;
	b.lie_request = VU_GET_FEATURES;
	backend_start(&b);
	UNTIL(said_nothing[1] == 2);
	ck_assert_int_eq(said_nothing[0], 2);
	ck_assert_str_eq(vu()->said.msg, "words: it does not answer");
	b.lie_request = 0;
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 2);
	destroy_with_way(&way);
}
END_TEST

/* --- Types --- */

static uint8_t ctrl(uint8_t class, uint8_t cmd, uint16_t pairs, uint32_t len)
{
	uint8_t bytes[4] = { class, cmd, (uint8_t)pairs, (uint8_t)(pairs >> 8) };
	uint64_t out = driver_data(&d, bytes, sizeof(bytes)), ack = driver_data(&d, "\xee", 1);

	driver_add(&d, 6, (struct driver_buf[]){ { out, len, false }, { ack, 1, true } }, 2);
	driver_kick(&d, 6);
	driver_wait(&d, 6, NULL, NULL);
	return *(uint8_t *)driver_ptr(&d, ack, 1);
}

START_TEST(net)
{
	const uint64_t mq = 1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_NET_F_CTRL_VQ |
			    1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_STATUS |
			    1ULL << VIRTIO_NET_F_MTU;
	struct virtio_net_config c;

	b.features |= 1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
		      1ULL << VIRTIO_NET_F_CTRL_RX | 1ULL << VIRTIO_NET_F_GUEST_ANNOUNCE;
	b.queue_num = 3; /* it counts pairs */
	cfg.type = "net";
	cfg.queues = 3;
	cfg.mac = "52:54:00:12:34:56";
	cfg.mtu = 1400;
	make();
	ck_assert_uint_eq(vdev->nqueues, 7);
	ck_assert_uint_eq(vdev->features & (1ULL << VIRTIO_NET_F_CTRL_RX), 0);
	ck_assert_uint_eq(vdev->features & mq, mq);
	driver_config_read(&d, 0, &c, 12);
	ck_assert_mem_eq(c.mac, "\x52\x54\x00\x12\x34\x56", 6);
	ck_assert_uint_eq(c.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(c.max_virtqueue_pairs, 3);
	ck_assert_uint_eq(c.mtu, 1400);
	driver_start(&d, mq);
	UNTIL(vu()->state == VU_RUNNING);
	ck_assert_uint_eq(b.enabled, 3);
	ck_assert_uint_eq(b.mtu, 1400);
	/* Ours are not the back end's business. */
	ck_assert_uint_eq(b.acked, 1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_F_VERSION_1 |
					   1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 0, 2, 4), VIRTIO_NET_OK);
	ck_assert_uint_eq(b.enabled, 0xf);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 0, 0, 4), VIRTIO_NET_ERR);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 0, 4, 4), VIRTIO_NET_ERR);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 0, 1, 3), VIRTIO_NET_ERR);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 1, 1, 4), VIRTIO_NET_ERR);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_RX, 0, 1, 4), VIRTIO_NET_ERR);
	ck_assert_uint_eq(b.enabled, 0xf);
	/* The link follows the back end; the pairs in use stay. */
	backend_stop(&b);
	UNTIL(vu()->state == VU_DOWN);
	driver_config_read(&d, 0, &c, 12);
	ck_assert_uint_eq(c.status, 0);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 0, 3, 4), VIRTIO_NET_OK);
	b.enabled = 0;
	backend_start(&b);
	UNTIL(vu()->state == VU_RUNNING);
	ck_assert_uint_eq(b.enabled, 0x3f);
	driver_config_read(&d, 0, &c, 12);
	ck_assert_uint_eq(c.status, VIRTIO_NET_S_LINK_UP);
	ck_assert_uint_eq(d.config_interrupts, 2);
	ck_assert_uint_eq(ctrl(VIRTIO_NET_CTRL_MQ, 0, 1, 4), VIRTIO_NET_OK);
	ck_assert_uint_eq(b.enabled, 3);
}
END_TEST

START_TEST(fs)
{
	struct virtio_fs_config c;

	cfg.type = "fs";
	cfg.tag = "host";
	cfg.queues = 2;
	cfg.queue_size = 64;
	make();
	ck_assert_uint_eq(vdev->ops->id, VIRTIO_ID_FS);
	ck_assert_uint_eq(vdev->nqueues, 3);
	ck_assert_uint_eq(vdev->queue[0].vq.max_size, 64);
	driver_config_read(&d, 0, &c, sizeof(c));
	ck_assert_mem_eq(c.tag, "host\0", 5);
	ck_assert_uint_eq(c.num_request_queues, 2);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	ck_assert_uint_eq(b.enabled, 7);
}
END_TEST

/* By number: the longest configuration that is to be had; refused in either way. */
START_TEST(unknown)
{
	for (int i = 0; i < 3; i++) {
		b.config_max = i == 2 ? 3 : 44;
		b.no_head = i == 1;
		cfg.type = "42";
		cfg.queues = 2;
		make();
		ck_assert_uint_eq(vdev->ops->id, 42);
		ck_assert_uint_eq(vdev->nqueues, 2);
		ck_assert_uint_eq(vdev->config_size, i == 2 ? 0 : 44);
		driver_detach(&d);
		vdev->ops->destroy(vdev);
		vdev = NULL;
		backend_stop(&b);
	}
	/* One queue less than the type has. */
	cfg.type = "vsock";
	cfg.queues = 0;
	b.queue_num = 2;
	b.config_max = 60;
	make();
	ck_assert_uint_eq(vdev->nqueues, 3);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	ck_assert_uint_eq(b.enabled, 3);
}
END_TEST

/* A ring the driver has broken is not handed over; a driver that lies about the used ring waits. */
START_TEST(hostile_driver)
{
	make();
	driver_negotiate(&d, 0);
	driver_queue(&d, 0, 0);
	vdev->queue[0].vq.desc = 1ULL << 40;
	driver_ok(&d);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	ck_assert_int_eq(vu()->state, VU_IDLE);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 2);
	__atomic_store_n(&d.queue[0].used->idx, 0x4321, __ATOMIC_SEQ_CST);
	virtio_quiesce(vdev);
	ck_assert_uint_eq(vdev->queue[0].vq.next_avail, 0x4321);
	virtio_resume(vdev);
	driver_run(&d);
	driver_start(&d, 0);
	UNTIL(vu()->state == VU_RUNNING);
	io(1, 2);
	/* Resets without end, in every state. */
	for (int i = 0; i < 50; i++) {
		driver_start(&d, 0);
		if (i % 3 == 0)
			driver_run(&d);
		driver_set_status(&d, 0);
	}
	driver_start(&d, 0);
	io(1, 3);
}
END_TEST

/* --- Options --- */

struct vhost_user_options {
	const char *type, *socket, *tag, *mac;
	uint64_t queues, queue_size, mtu;
	char *id;
};

START_TEST(options)
{
	static const struct {
		struct vhost_user_options o;
		const char *why;
	} wrong[] = {
		{ { .type = "nic", .socket = "s" }, "'nic' is no type of device" },
		{ { .type = "64", .socket = "s" }, "'64' is no type of device" },
		{ { .type = "0", .socket = "s" }, "'0' is no type of device" },
		{ { .type = "4x", .socket = "s" }, "'4x' is no type of device" },
		{ { .type = "blk", .socket = "" }, "socket=" },
		{ { .type = "rng", .socket = "s", .queues = 1 }, "rng has always 1 queues" },
		{ { .type = "net", .socket = "s", .queues = 17 }, "queues=17 are too many" },
		{ { .type = "blk", .socket = "s", .queue_size = 4 }, "queue-size=4 is not" },
		{ { .type = "blk", .socket = "s", .queue_size = 96 }, "queue-size=96 is not" },
		{ { .type = "fs", .socket = "s" }, "it needs one" },
		{ { .type = "blk", .socket = "s", .tag = "t" }, "no other type has one" },
		{ { .type = "fs", .socket = "s", .tag = "" }, "a tag has 1 to 36 bytes" },
		{ { .type = "fs", .socket = "s", .mac = "x", .tag = "t" }, "mac= is for net only" },
		{ { .type = "blk", .socket = "s", .mtu = 1400 }, "mtu= is for net only" },
		{ { .type = "net", .socket = "s", .mac = "52" }, "mac=52 is not a MAC address" },
	};
	static const struct vhost_user_options right[] = {
		{ .type = "blk", .socket = "s" },
		{ .type = "2", .socket = "s", .queue_size = 128 },
		{ .type = "fs", .socket = "s", .tag = "123456789012345678901234567890123456" },
		{ .type = "26", .socket = "s", .tag = "t" },
		{ .type = "net",
		  .socket = "s",
		  .queues = 16,
		  .mac = "52:54:00:12:34:56",
		  .mtu = 9000 },
		{ .type = "63", .socket = "s", .queues = 64 },
	};
	const struct virtio_ops *ops = NULL;

	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		if (strcmp(virtio_kind(i)->name, "vhost-user") == 0)
			ops = virtio_kind(i);
	}
	ck_assert_ptr_nonnull(ops);
	ck_assert_uint_eq(ops->option.size, sizeof(wrong[0].o));
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ck_assert_int_lt(ops->check(&wrong[i].o, &err), 0);
		ck_assert_msg(strstr(err.msg, wrong[i].why) != NULL, "%s", err.msg);
	}
	for (unsigned i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		ck_assert_msg(ops->check(&right[i], &err) == 0, "%s", err.msg);
}
END_TEST

/* Private memory cannot be shown to another process. */
START_TEST(private_memory)
{
	int fd = d.mem.fd;

	d.mem.fd = -1;
	ck_assert_ptr_null(vhost_user_create(&cfg, 0, &d.host, &err));
	d.mem.fd = fd;
	ck_assert_ptr_nonnull(strstr(err.msg, "private"));
}
END_TEST

/* --- Which images are qcow2 --- */

static int format_of(const char *name, int format, const char *content, size_t len)
{
	char path[128];
	int r;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", b.dir, name);
	file = fopen(path, "w");
	fwrite(content, 1, len, file);
	fclose(file);
	err = (struct err)ERR_INIT;
	r = disk_is_qcow2(path, format, &err);
	unlink(path);
	return r;
}

START_TEST(formats)
{
	static const char magic[8] = "QFI\xfb\0\0\0\x03";

	ck_assert_int_eq(format_of("a.qcow2", DISK_FORMAT_AUTO, magic, 8), 1);
	ck_assert_int_eq(format_of("a.img", DISK_FORMAT_QCOW2, magic, 8), 1);
	ck_assert_int_eq(format_of("a.img", DISK_FORMAT_AUTO, "\0\0\0\0", 4), 0);
	ck_assert_int_eq(format_of("a.img", DISK_FORMAT_AUTO, "QFI", 3), 0);
	/* What a guest wrote decides nothing. */
	ck_assert_int_eq(format_of("a.img", DISK_FORMAT_RAW, magic, 8), 0);
	ck_assert_int_lt(format_of("a.img", DISK_FORMAT_AUTO, magic, 8), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "format=raw or format=qcow2"));
	ck_assert_int_lt(format_of("a.qcow2", DISK_FORMAT_AUTO, "", 0), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "format=raw"));
	ck_assert_int_lt(format_of("a.img", DISK_FORMAT_QCOW2, "raw", 3), 0);
	ck_assert_str_eq(err.msg, "is no qcow2 image");
}
END_TEST

/* Refused before anything is started. */
static const char *refused(uint32_t version, uint64_t backing, uint32_t crypt,
			   uint64_t incompatible)
{
	struct {
		char magic[4];
		uint32_t version;
		uint64_t backing;
		uint32_t backing_size, bits;
		uint64_t size;
		uint32_t crypt, l1;
		uint64_t other[4], incompatible;
	} head = { "QFI\xfb", htobe32(version),	    htobe64(backing), 0, 0, 0, htobe32(crypt), 0,
		   { 0 },     htobe64(incompatible) };
	char path[128];
	struct disk_qcow2_config disk = { .path = path, .name = "disk x", .queues = 1 };
	FILE *file;

	snprintf(path, sizeof(path), "%s/x.qcow2", b.dir);
	file = fopen(path, "w");
	fwrite(&head, 1, sizeof(head), file);
	fclose(file);
	ck_assert_ptr_null(disk_qcow2_create(&disk, 0, &d.host, &err));
	unlink(path);
	return err.msg;
}

START_TEST(images_that_name_files)
{
	unsigned fds = open_fds();

	ck_assert_ptr_nonnull(strstr(refused(2, 104, 0, 0), "a backing file"));
	ck_assert_ptr_nonnull(strstr(refused(3, 0, 0, 4), "a data file"));
	ck_assert_ptr_nonnull(strstr(refused(2, 0, 1, 0), "encrypted"));
	/* A good one, and no program to serve it. */
	setenv("PATH", "/nowhere", 1);
	ck_assert_ptr_nonnull(strstr(refused(2, 0, 0, 4), "qemu-system-common"));
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vhost_user");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, good);
	tcase_add_test(tc, simple);
	tcase_add_test(tc, configuration);
	tcase_add_test(tc, own_requests);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, lies_at_first);
	tcase_add_test(tc, lies_later);
	tcase_add_test(tc, dies_at_each_message);
	tcase_add_test(tc, silent);
	tcase_add_test(tc, nobody_there);
	tcase_add_test(tc, with_inflight);
	tcase_add_test(tc, without_inflight);
	tcase_add_test(tc, overtaken);
	tcase_add_test(tc, reset_while_away);
	tcase_add_test(tc, other_features);
	tcase_add_test(tc, forgetful);
	tcase_add_test(tc, says_nothing);
	tcase_add_test(tc, net);
	tcase_add_test(tc, fs);
	tcase_add_test(tc, unknown);
	tcase_add_test(tc, hostile_driver);
	tcase_add_test(tc, options);
	tcase_add_test(tc, private_memory);
	tcase_add_test(tc, formats);
	tcase_add_test(tc, images_that_name_files);
	suite_add_tcase(s, tc);
	return test_run(s);
}
