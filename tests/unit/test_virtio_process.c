// SPDX-License-Identifier: Apache-2.0
/*
 * Devices in a process of their own: what they serve, pauses, saved state, processes that fail, die
 * or lie.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/virtio_process.h"
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"

#define ROOM 64

/* What the driver can ask of the device. */
enum { ASK_WHO, ASK_FAIL, ASK_DIE, ASK_OPEN, ASK_SAY, ASK_DIE_LATER, ASK_LIE_LATER };

struct request {
	uint32_t what, arg;
};

struct answer {
	int32_t pid, value;
	uint64_t served;
};

/* As virtio_process.c has them. */
struct head {
	uint32_t type, len;
};
enum { SAY_DONE = 4, SAY_MORE, SAY_CANNOT, SAY_BROKEN };

/* What a lying process says, of @len bytes that are all @fill, when it is asked for @when. */
static const struct lie {
	enum { STOPPED, RESET, SAVED, ALONE } when;
	uint32_t type, len;
	uint64_t fill;
	size_t sent; /* 0: as many as it says */
} lies[] = {
	{ STOPPED, SAY_DONE, 0, 0, 0 },
	{ STOPPED, SAY_DONE, 64 * 32, 0x0000ffff00000000, 0 }, /* queues that cannot be */
	{ STOPPED, SAY_MORE, 8, 0, 0 },
	{ STOPPED, 99, 0, 0, 0 },
	{ STOPPED, SAY_DONE, 0xffffffff, 0, 8 },
	{ RESET, SAY_DONE, 8, 0, 0 },
	{ RESET, SAY_CANNOT, 8, 0x4141414141414141, 0 },
	{ SAVED, SAY_DONE, 0, 0, 0 },
	{ SAVED, SAY_DONE, 8, 0, 0 },
	{ SAVED, SAY_MORE, 4096, 0x4141414141414141, 0 },
	{ SAVED, SAY_CANNOT, 0, 0, 0 },
	{ SAVED, SAY_CANNOT, 32768, 0x4141414141414141, 0 },
	{ ALONE, SAY_DONE, 0, 0, 0 },
	{ ALONE, SAY_MORE, 32768, 0, 0 },
	{ ALONE, SAY_BROKEN, 8, 0, 4 },
};
#define LIES (sizeof(lies) / sizeof(lies[0]))

static struct device {
	struct virtio_device vdev; /* first */
	struct virtio_process *process;
	struct iovec iov[VIRTQUEUE_IOV(16)];
	uint64_t served;
	bool die;
	const struct lie *lie;
	int socket; /* the process's end */
	bool left;
	const char *refuse; /* to begin */
} * dev;

static struct driver d;
static struct virtio_processes all;
static struct err err;
static int kept = -1, dropped = -1;

static struct device *to_device(struct virtio_device *vdev)
{
	return (struct device *)vdev;
}

static void lie(struct device *de, int when)
{
	char message[sizeof(struct head) + 32768];
	const struct lie *l = de->lie;

	if (de->die)
		raise(SIGKILL);
	if (l == NULL || (int)l->when != when)
		return;
	memcpy(message, &(struct head){ l->type, l->len }, sizeof(struct head));
	for (size_t i = 0; i < 32768; i += sizeof(l->fill))
		memcpy(message + sizeof(struct head) + i, &l->fill, sizeof(l->fill));
	(void)!write(de->socket, message, sizeof(struct head) + (l->sent > 0 ? l->sent : l->len));
}

static bool handle(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct device *de = to_device(vdev);
	struct answer a = { .pid = getpid() };
	struct request r;

	(void)q;
	virtqueue_read(&chain->readable, &r, sizeof(r));
	a.served = ++de->served;
	switch (r.what) {
	case ASK_FAIL:
		virtio_fail(vdev, "as it was asked to");
		break;
	case ASK_DIE:
		raise(SIGKILL);
		break;
	case ASK_OPEN:
		a.value = fcntl((int)r.arg, F_GETFD) >= 0;
		break;
	case ASK_DIE_LATER:
		de->die = true;
		break;
	case ASK_LIE_LATER:
		de->lie = &lies[r.arg];
		lie(de, ALONE);
		break;
	default:
		break;
	}
	virtqueue_write(&chain->writable, &a, sizeof(a));
	return true;
}

static void kick(struct virtio_device *vdev, unsigned q)
{
	virtio_serve(vdev, q, to_device(vdev)->iov, 4, handle);
}

static void quiesce(struct virtio_device *vdev)
{
	lie(to_device(vdev), STOPPED);
}

static void reset(struct virtio_device *vdev)
{
	lie(to_device(vdev), RESET);
}

static void state(struct virtio_device *vdev, struct state *st)
{
	if (!state_loading(st))
		lie(to_device(vdev), SAVED);
	state_u64(st, "served", &to_device(vdev)->served);
	if (to_device(vdev)->served == 3)
		state_fail(st, "three is too many");
}

static const struct virtio_ops ops = {
	.name = "test",
	.id = VIRTIO_ID_RNG,
	.kick = kick,
	.reset = reset,
	.quiesce = quiesce,
	.state = state,
};

static void descriptors(struct virtio_device *vdev, void (*fn)(void *arg, int fd), void *arg)
{
	(void)vdev;
	fn(arg, kept);
}

static int begin(struct virtio_device *vdev, struct err *e)
{
	struct device *de = to_device(vdev);

	for (int fd = 0; fd < 64; fd++) {
		int type = 0;
		socklen_t len = sizeof(type);

		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET)
			de->socket = fd;
	}
	return de->refuse != NULL ? err_set(e, EACCES, "%s", de->refuse) : 0;
}

static int nothing(struct virtio_device *vdev, struct err *e)
{
	(void)vdev, (void)e;
	return 0;
}

static void left(struct virtio_device *vdev)
{
	to_device(vdev)->left = true;
}

static const struct virtio_process_ops body = {
	.descriptors = descriptors,
	.begin = begin,
	.setup = nothing,
	.left = left,
};

static void setup(void)
{
	driver_init(&d);
	ck_assert(gmem_fork(&d.mem));
	kept = open("/dev/null", O_RDONLY);
	dropped = open("/dev/null", O_RDONLY);
	all = (struct virtio_processes){ 0 };
	dev = calloc(1, sizeof(*dev));
	ck_assert_int_eq(virtio_init(&dev->vdev, &ops, &d.host, d.loop, 2, 16, NULL, 0, &err), 0);
	dev->process = virtio_process_new(&all, &dev->vdev, "test0", &body, &err);
	ck_assert_ptr_nonnull(dev->process);
	driver_attach(&d, &dev->vdev);
}

static void start(void)
{
	ck_assert_msg(virtio_processes_start(&all, &err) == 0, "%s", err.msg);
	ck_assert_msg(virtio_processes_wait(&all, &err) == 0, "%s", err.msg);
	ck_assert(dev->left);
}

static void teardown(void)
{
	driver_detach(&d);
	virtio_process_free(dev->process);
	virtio_fini(&dev->vdev);
	free(dev);
	driver_fini(&d);
	close(kept);
	close(dropped);
}

static struct answer ask_on(unsigned q, uint32_t what, uint32_t arg)
{
	struct request r = { what, arg };
	uint64_t in = driver_data(&d, &r, sizeof(r)), out = driver_alloc(&d, ROOM);
	struct answer a;

	driver_add(&d, q, (struct driver_buf[]){ { in, sizeof(r), false }, { out, ROOM, true } },
		   2);
	driver_kick(&d, q);
	driver_wait(&d, q, NULL, NULL);
	ck_assert_int_eq(gmem_read(&d.mem, out, &a, sizeof(a)), 0);
	return a;
}

static struct answer ask(uint32_t what, uint32_t arg)
{
	return ask_on(0, what, arg);
}

/* The same, and nothing comes back. */
static void order(uint32_t what)
{
	struct request r = { what, 0 };
	uint64_t in = driver_data(&d, &r, sizeof(r)), out = driver_alloc(&d, ROOM);

	driver_add(&d, 0, (struct driver_buf[]){ { in, sizeof(r), false }, { out, ROOM, true } },
		   2);
	driver_kick(&d, 0);
}

/* Until the driver sees that it needs a reset. */
static void wait_broken(void)
{
	uint64_t end = loop_now_ns() + DRIVER_WAIT_MS * 1000000ULL;

	while ((driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET) == 0) {
		ck_assert(loop_now_ns() < end);
		ck_assert_int_eq(loop_run_once(d.loop, 10), 0);
	}
	ck_assert_uint_eq(d.config_interrupts, 1);
}

/* Save it; the data, which the state keeps. */
static int save(struct state **st, const void **data, size_t *len)
{
	*st = state_new_save();
	(void)virtio_state(&dev->vdev, *st);
	return state_finish(*st, data, len, &err);
}

START_TEST(serves)
{
	eventfd_t n;
	struct answer a;

	start();
	driver_start(&d, 1ULL << VIRTIO_RING_F_EVENT_IDX);
	driver_run(&d);
	ck_assert_int_ge(d.queue[0].ioeventfd, 0);
	ck_assert_int_ge(d.queue[0].irqfd, 0);
	a = ask(ASK_WHO, 0);
	ck_assert_int_ne(a.pid, getpid());
	ck_assert_int_gt(a.pid, 0);
	ck_assert_uint_eq(a.served, 1);
	ck_assert_uint_eq(ask_on(1, ASK_WHO, 0).served, 2);
	ck_assert_int_eq(eventfd_read(d.queue[0].irqfd, &n), 0);
	ck_assert_int_eq(eventfd_read(d.queue[1].irqfd, &n), 0);
	ck_assert_uint_eq(dev->served, 0); /* here */
	ck_assert_uint_eq(dev->vdev.counters->chains, 2);
	ck_assert_uint_eq(driver_latencies(&d), 2);
	/* What it has of us. */
	ck_assert_int_eq(ask(ASK_OPEN, (uint32_t)kept).value, 1);
	ck_assert_int_eq(ask(ASK_OPEN, (uint32_t)dropped).value, 0);
	/* A notification that came by exit. */
	d.queue[0].ioeventfd = -1;
	ck_assert_int_eq(ask(ASK_WHO, 0).pid, a.pid);
}
END_TEST

/* The driver starts again, with other rings and features. */
START_TEST(again)
{
	start();
	for (unsigned i = 0; i < 5; i++) {
		driver_start(&d, (i & 1) != 0 ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
		driver_run(&d);
		ck_assert_uint_eq(ask(ASK_WHO, 0).served, 2 * i + 1);
		ck_assert_uint_eq(ask_on(1, ASK_WHO, 0).served, 2 * i + 2);
		driver_set_status(&d, 0);
		if (i == 2) /* before the loop has heard of the last time */
			driver_start(&d, 0);
	}
}
END_TEST

START_TEST(pauses)
{
	start();
	/* Before it ever ran. */
	virtio_quiesce(&dev->vdev);
	virtio_resume(&dev->vdev);
	driver_start(&d, 1ULL << VIRTIO_RING_F_EVENT_IDX);
	/* Alive, but the loop has not run. */
	virtio_quiesce(&dev->vdev);
	virtio_resume(&dev->vdev);
	driver_run(&d);
	for (unsigned i = 1; i <= 40; i++) {
		struct request r = { ASK_WHO, 0 };
		uint64_t in = driver_data(&d, &r, sizeof(r)), out = driver_alloc(&d, ROOM);

		ck_assert_uint_eq(ask(ASK_WHO, 0).served, 2 * i - 1);
		virtio_quiesce(&dev->vdev);
		ck_assert_uint_eq(dev->vdev.queue[0].vq.next_used, (uint16_t)(2 * i - 1));
		driver_add(&d, 0,
			   (struct driver_buf[]){ { in, sizeof(r), false }, { out, ROOM, true } },
			   2);
		driver_notify(&d, 0);
		driver_run(&d);
		ck_assert(!driver_used(&d, 0, NULL, NULL));
		virtio_resume(&dev->vdev);
		driver_wait(&d, 0, NULL, NULL);
	}
	/* A driver that starts it again while it is paused. */
	virtio_quiesce(&dev->vdev);
	driver_start(&d, 0);
	virtio_resume(&dev->vdev);
	driver_run(&d);
	ck_assert_uint_eq(ask(ASK_WHO, 0).served, 81);
}
END_TEST

/* Saved from one process, loaded into a device whose process goes on. */
START_TEST(saved)
{
	struct state *st, *from;
	const void *data;
	size_t len;

	start();
	driver_start(&d, 0);
	driver_run(&d);
	ask(ASK_WHO, 0);
	ask(ASK_WHO, 0);
	virtio_quiesce(&dev->vdev);
	ck_assert_msg(save(&st, &data, &len) == 0, "%s", err.msg);
	/* The same rings, in another machine. */
	virtio_process_free(dev->process);
	dev->vdev.transport = NULL;
	virtio_fini(&dev->vdev);
	memset(dev, 0, sizeof(*dev));
	ck_assert_int_eq(virtio_init(&dev->vdev, &ops, &d.host, d.loop, 2, 16, NULL, 0, &err), 0);
	dev->process = virtio_process_new(&all, &dev->vdev, "test1", &body, &err);
	dev->vdev.transport = &d.transport;
	from = state_new_load(data, len, &err);
	ck_assert_ptr_nonnull(from);
	ck_assert_int_eq(virtio_state(&dev->vdev, from), 0);
	ck_assert_int_eq(state_finish(from, NULL, NULL, &err), 0);
	state_free(from);
	state_free(st);
	start();
	virtio_resume(&dev->vdev);
	driver_run(&d);
	ck_assert_uint_eq(ask(ASK_WHO, 0).served, 3);
	/* It may refuse. */
	virtio_quiesce(&dev->vdev);
	ck_assert_int_lt(save(&st, &data, &len), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "three is too many"));
	state_free(st);
	virtio_resume(&dev->vdev);
	ck_assert_uint_eq(ask(ASK_WHO, 0).served, 4);
}
END_TEST

/* The guest's driver breaks the rules: it hears of that from the process. */
START_TEST(fails)
{
	start();
	for (unsigned i = 0; i < 3; i++) {
		d.config_interrupts = 0;
		driver_start(&d, 0);
		driver_run(&d);
		order(ASK_FAIL);
		wait_broken();
	}
	driver_start(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(ask(ASK_WHO, 0).served, 4);
}
END_TEST

/* What is asked of one that is gone has no effect. */
static void check_gone(void)
{
	struct state *st;
	const void *data;
	size_t len;

	virtio_quiesce(&dev->vdev);
	ck_assert_int_lt(save(&st, &data, &len), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "its process is gone"));
	state_free(st);
	virtio_resume(&dev->vdev);
	d.config_interrupts = 0;
	driver_start(&d, 0);
	wait_broken();
}

START_TEST(dies)
{
	start();
	driver_start(&d, 0);
	driver_run(&d);
	order(ASK_DIE);
	wait_broken();
	check_gone();
}
END_TEST

/* While it is asked. */
START_TEST(dies_in_between)
{
	start();
	driver_start(&d, 0);
	driver_run(&d);
	ask(ASK_DIE_LATER, 0);
	if (_i == 0)
		virtio_quiesce(&dev->vdev);
	else
		driver_set_status(&d, 0);
	driver_run(&d);
	virtio_resume(&dev->vdev);
	check_gone();
}
END_TEST

START_TEST(lies_to_us)
{
	struct state *st;
	const void *data;
	size_t len;

	start();
	driver_start(&d, 0);
	driver_run(&d);
	ask(ASK_LIE_LATER, (uint32_t)_i);
	if (lies[_i].when == RESET) {
		driver_set_status(&d, 0);
	} else if (lies[_i].when != ALONE) {
		virtio_quiesce(&dev->vdev);
		if (lies[_i].when == SAVED)
			ck_assert_int_lt(save(&st, &data, &len), 0);
		if (lies[_i].when == SAVED)
			state_free(st);
		virtio_resume(&dev->vdev);
	}
	driver_run(&d);
	/* Bytes that are no state are only that. */
	if (lies[_i].when == SAVED && lies[_i].type == SAY_MORE)
		return;
	d.config_interrupts = 0;
	driver_start(&d, 0);
	wait_broken();
	check_gone();
}
END_TEST

START_TEST(cannot_begin)
{
	dev->refuse = "nothing works here";
	ck_assert_int_eq(virtio_processes_start(&all, &err), 0);
	ck_assert_int_lt(virtio_processes_wait(&all, &err), 0);
	ck_assert_str_eq(err.msg, "test: nothing works here");
}
END_TEST

/* Never started: it is served nowhere, and goes away. */
START_TEST(never_started)
{
	ck_assert(!dev->left);
	driver_set_status(&d, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("virtio_process");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, serves);
	tcase_add_test(tc, again);
	tcase_add_test(tc, pauses);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, fails);
	tcase_add_test(tc, dies);
	tcase_add_loop_test(tc, dies_in_between, 0, 2);
	tcase_add_loop_test(tc, lies_to_us, 0, LIES);
	tcase_add_test(tc, cannot_begin);
	tcase_add_test(tc, never_started);
	suite_add_tcase(s, tc);
	return test_run(s);
}
