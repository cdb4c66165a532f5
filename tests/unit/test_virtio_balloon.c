// SPDX-License-Identifier: Apache-2.0
/*
 * The balloon: what is given back and what is not, queues by what was negotiated, rounds of
 * hinting, statistics, lies of the driver.
 */
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/virtio_balloon.h"
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/base/log.h"

#define PAGE	     4096ULL
#define F(bit)	     (1ULL << VIRTIO_BALLOON_F_##bit)
#define NUM_PAGES    offsetof(struct virtio_balloon_config, num_pages)
#define ACTUAL	     offsetof(struct virtio_balloon_config, actual)
#define HINT_CMD     offsetof(struct virtio_balloon_config, free_page_hint_cmd_id)
#define POISON	     offsetof(struct virtio_balloon_config, poison_val)
#define ALL_FEATURES (F(STATS_VQ) | F(DEFLATE_ON_OOM) | F(FREE_PAGE_HINT) | F(REPORTING))

/* As devices/virtio_balloon.c has it. */
struct balloon_options {
	uint64_t size, stats;
	bool oom, reporting, hinting;
};

static struct driver d;
static const struct virtio_ops *ops;
static struct virtio_device *vdev;
static struct err err;

static void setup(void)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == VIRTIO_ID_BALLOON)
			ops = virtio_kind(i);
	ck_assert_ptr_nonnull(ops);
	log_set_fd(-1);
	driver_init(&d);
}

static void teardown(void)
{
	if (vdev != NULL) {
		driver_detach(&d);
		ops->destroy(vdev);
	}
	driver_fini(&d);
}

static void make(const struct balloon_options *o)
{
	ck_assert_int_eq(ops->check(o, &err), 0);
	vdev = ops->create(o, 1, 0, &d.host, &err);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
}

static void make_all(void)
{
	/* Statistics by a timer that does not run out in a test. */
	make(&(struct balloon_options){
		.stats = 3600ULL * 1000000000, .oom = true, .reporting = true, .hinting = true });
}

/* Negotiate @features and set up @queues queues. */
static void start(uint64_t features, unsigned queues)
{
	driver_negotiate(&d, features);
	for (unsigned q = 0; q < queues; q++)
		driver_queue(&d, q, 0);
	driver_ok(&d);
	driver_run(&d);
	ck_assert_uint_eq(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}

static uint32_t config(unsigned off)
{
	uint32_t value;

	driver_config_read(&d, off, &value, 4);
	return value;
}

static void set_config(unsigned off, uint32_t value)
{
	driver_config_write(&d, off, &value, 4);
}

static uint64_t discarded(void)
{
	struct virtio_balloon_status status;

	virtio_balloon_status(vdev, &status);
	return status.discarded;
}

/* --- Pages --- */

static void fill(uint64_t gpa, uint64_t len)
{
	memset(driver_ptr(&d, gpa, len), 0x5a, len);
}

static bool is(uint64_t gpa, uint64_t len, uint8_t value)
{
	const uint8_t *p = gmem_ptr(&d.mem, gpa, len);

	ck_assert_ptr_nonnull(p);
	for (uint64_t i = 0; i < len; i++)
		if (p[i] != value)
			return false;
	return true;
}

/* KiB of RAM that the host has pages for */
static uint64_t resident(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(d.mem.fd, &st), 0);
	return (uint64_t)st.st_blocks / 2;
}

static void send(unsigned q, const void *data, uint32_t len)
{
	uint64_t gpa = driver_data(&d, data, len);

	driver_add(&d, q, (struct driver_buf[]){ { gpa, len, false } }, 1);
	driver_kick(&d, q);
	driver_wait(&d, q, NULL, NULL);
}

static void offer_free(unsigned q, uint64_t gpa, uint32_t len)
{
	driver_add(&d, q, (struct driver_buf[]){ { gpa, len, true } }, 1);
	driver_kick(&d, q);
	driver_wait(&d, q, NULL, &len);
	ck_assert_uint_eq(len, 0);
}

START_TEST(inflates)
{
	uint64_t at = 0x200000;
	uint32_t up[16], down[16], same[3] = { 0x230, 0x230, 0x230 }, many[32];

	make(&(struct balloon_options){ .size = 1 << 20 });
	ck_assert_uint_eq(config(NUM_PAGES), 256);
	ck_assert_uint_eq(vdev->nqueues, 2);
	start(0, 2);
	fill(at, 128 * PAGE);
	for (uint32_t i = 0; i < 16; i++) {
		up[i] = (uint32_t)(at / PAGE) + i;
		down[i] = (uint32_t)(at / PAGE) + 47 - i;
	}
	send(0, up, sizeof(up));
	ck_assert(is(at, 16 * PAGE, 0));
	ck_assert(is(at + 16 * PAGE, 16 * PAGE, 0x5a));
	send(0, down, sizeof(down));
	ck_assert(is(at + 32 * PAGE, 16 * PAGE, 0));
	send(0, same, sizeof(same));
	ck_assert(is(0x230 * PAGE, PAGE, 0));
	ck_assert(is(0x231 * PAGE, PAGE, 0x5a));
	/* Each second page: no two go together. */
	for (uint32_t i = 0; i < 32; i++)
		many[i] = 0x240 + 2 * i;
	send(0, many, sizeof(many));
	for (uint32_t i = 0; i < 64; i++)
		ck_assert(is((0x240 + i) * PAGE, PAGE, i % 2 == 0 ? 0 : 0x5a));
	ck_assert_uint_eq(discarded(), (16 + 16 + 3 + 32) * PAGE);
	set_config(ACTUAL, 67);
	send(1, up, sizeof(up));
	ck_assert(is(at + 48 * PAGE, PAGE, 0)); /* 0x230: deflating changes nothing */
	ck_assert_uint_eq(config(ACTUAL), 67);
}
END_TEST

START_TEST(gives_memory_back)
{
	uint32_t pfn[256];
	uint64_t before;

	make(&(struct balloon_options){ 0 });
	start(0, 2);
	fill(0x200000, 256 * PAGE);
	for (uint32_t i = 0; i < 256; i++)
		pfn[i] = 0x200 + (i * 7) % 256;
	before = resident();
	send(0, pfn, sizeof(pfn));
	/* The driver's own data took a page or so. */
	ck_assert_uint_ge(before - resident() + 16, 1024);
	ck_assert(is(0x200000, 256 * PAGE, 0));
}
END_TEST

/* Pages that are not RAM, the border between two regions, numbers cut off, rings. */
START_TEST(lies)
{
	uint32_t far[] = { 0xffffffff, 0,	   0x500, 0x501,      0xfffff,
			   0x100000,   0x80000000, 0x600, 0xffffffff, 0xfffffffe };
	uint32_t border[] = { 0x3fe, 0x3ff, 0x400, 0x401 }, back[] = { 0x401, 0x400, 0x3ff, 0x3fe };
	uint32_t ring = DRIVER_QUEUE_AT(0) / PAGE, one[2] = { 0x210, 0x211 };

	make(&(struct balloon_options){ 0 });
	start(0, 2);
	fill(0, PAGE);
	fill(0x210000, PAGE * 2);
	send(0, far, sizeof(far));
	ck_assert(is(0, PAGE, 0)); /* it is RAM: what one asks for */
	ck_assert_uint_eq(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	for (int i = 0; i < 2; i++) {
		fill(DRIVER_RAM - 2 * PAGE, 2 * PAGE);
		fill(DRIVER_RAM, 3 * PAGE);
		send(0, i == 0 ? border : back, sizeof(border));
		ck_assert(is(DRIVER_RAM - 2 * PAGE, 2 * PAGE, 0));
		ck_assert(is(DRIVER_RAM, 2 * PAGE, 0));
		ck_assert(is(DRIVER_RAM + 2 * PAGE, PAGE, 0x5a));
	}
	send(0, one, 3);
	ck_assert(is(0x210000, PAGE, 0x5a));
	send(0, one, 7);
	ck_assert(is(0x210000, PAGE, 0));
	ck_assert(is(0x211000, PAGE, 0x5a));
	/* Writable only, empty, both: given back. */
	offer_free(0, 0x211000, PAGE);
	ck_assert(is(0x211000, PAGE, 0x5a));
	/* Its own ring: the device is broken then, and nothing else. */
	driver_add(&d, 0, (struct driver_buf[]){ { driver_data(&d, &ring, 4), 4, false } }, 1);
	driver_kick(&d, 0);
	driver_run(&d);
	driver_add(&d, 0, (struct driver_buf[]){ { 0x211000, 4, false } }, 1);
	driver_notify(&d, 0);
	driver_run(&d);
	start(0, 2);
	send(0, one, 8);
	ck_assert(is(0x210000, 2 * PAGE, 0));
}
END_TEST

/* More than fits into a pass: it goes on, and others have their turn meanwhile. */
START_TEST(passes)
{
	const uint32_t n = 60000;
	uint32_t *pfn = malloc(n * 4);
	struct driver_buf bufs[200];
	uint64_t at;

	ck_assert_ptr_nonnull(pfn);
	make_all();
	start(F(REPORTING), 3);
	for (uint32_t i = 0; i < n; i++)
		pfn[i] = 0x280 + i * 2 % 256;
	fill(0x280000, 256 * PAGE);
	at = driver_data(&d, pfn, n * 4);
	free(pfn);
	driver_add(&d, 0, (struct driver_buf[]){ { at, n * 4, false } }, 1);
	driver_kick(&d, 0);
	ck_assert_int_eq(loop_run_once(d.loop, 0), 0);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	driver_wait(&d, 0, NULL, NULL);
	ck_assert_uint_eq(discarded(), n * PAGE);
	for (uint32_t i = 0; i < 256; i++)
		ck_assert(is((0x280 + i) * PAGE, PAGE, i % 2 == 0 ? 0 : 0x5a));

	for (unsigned i = 0; i < 200; i++)
		bufs[i] = (struct driver_buf){ 0x280000, 0x100000, true };
	driver_add(&d, 2, bufs, 200);
	driver_kick(&d, 2);
	ck_assert_int_eq(loop_run_once(d.loop, 0), 0);
	ck_assert(!driver_used(&d, 2, NULL, NULL));
	driver_wait(&d, 2, NULL, NULL);
	ck_assert_uint_eq(discarded(), n * PAGE + (200ULL << 20));
	ck_assert(is(0x280000, 256 * PAGE, 0));

	/* Reset amidst of it: what comes next begins at its beginning. */
	driver_add(&d, 2, bufs, 200);
	driver_kick(&d, 2);
	ck_assert_int_eq(loop_run_once(d.loop, 0), 0);
	ck_assert(!driver_used(&d, 2, NULL, NULL));
	start(F(REPORTING), 3);
	fill(0x280000, 4 * PAGE);
	offer_free(2, 0x280000, 4 * PAGE);
	ck_assert(is(0x280000, 4 * PAGE, 0));
}
END_TEST

START_TEST(reports)
{
	make_all();
	ck_assert_uint_eq(vdev->nqueues, 5);
	start(F(REPORTING), 3); /* the third queue is that of reports then */
	fill(0x200000, 16 * PAGE);
	offer_free(2, 0x200000, 4 * PAGE);
	ck_assert(is(0x200000, 4 * PAGE, 0));
	ck_assert(is(0x204000, PAGE, 0x5a));
	/* Whole pages only. */
	offer_free(2, 0x204100, 3 * PAGE);
	ck_assert(is(0x204000, PAGE, 0x5a));
	ck_assert(is(0x205000, 2 * PAGE, 0));
	ck_assert(is(0x207000, PAGE, 0x5a));
	offer_free(2, 0x208010, PAGE - 16);
	ck_assert(is(0x208000, PAGE, 0x5a));
	/* Across regions. */
	fill(DRIVER_RAM - PAGE, PAGE);
	fill(DRIVER_RAM, 2 * PAGE);
	offer_free(2, DRIVER_RAM - PAGE, 2 * PAGE);
	ck_assert(is(DRIVER_RAM - PAGE, PAGE, 0));
	ck_assert(is(DRIVER_RAM, PAGE, 0));
	ck_assert(is(DRIVER_RAM + PAGE, PAGE, 0x5a));
}
END_TEST

/* A pattern in free memory survives, unless it is zero. */
START_TEST(poison)
{
	make_all();
	start(F(REPORTING) | F(PAGE_POISON), 3);
	fill(0x200000, 8 * PAGE);
	set_config(POISON, 0xaaaaaaaa);
	ck_assert_uint_eq(config(POISON), 0xaaaaaaaa);
	offer_free(2, 0x200000, 4 * PAGE);
	ck_assert(is(0x200000, 4 * PAGE, 0x5a));
	set_config(POISON, 0);
	offer_free(2, 0x200000, 4 * PAGE);
	ck_assert(is(0x200000, 4 * PAGE, 0));
	/* Not negotiated: the value means nothing. And gone with a reset. */
	set_config(POISON, 7);
	start(F(REPORTING), 3);
	ck_assert_uint_eq(config(POISON), 0);
	set_config(POISON, 7);
	offer_free(2, 0x204000, 4 * PAGE);
	ck_assert(is(0x204000, 4 * PAGE, 0));
	/* Rounds of hinting the same way. */
	start(F(FREE_PAGE_HINT) | F(PAGE_POISON), 3);
	set_config(POISON, 0xaa);
	fill(0x200000, PAGE);
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, true, &err), 0);
	send(2, &(uint32_t){ config(HINT_CMD) }, 4);
	offer_free(2, 0x200000, PAGE);
	ck_assert(is(0x200000, PAGE, 0x5a));
}
END_TEST

START_TEST(hints)
{
	uint32_t stop = VIRTIO_BALLOON_CMD_ID_STOP, cmd, config_interrupts;
	struct virtio_balloon_status status;

	make_all();
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, true, &err), -ENOTSUP);
	start(F(REPORTING), 3);
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, true, &err), -ENOTSUP);
	start(F(STATS_VQ) | F(FREE_PAGE_HINT) | F(REPORTING), 5);
	ck_assert_int_eq(virtio_balloon_hint_stop(vdev, &err), -EINVAL);
	ck_assert_uint_eq(config(HINT_CMD), stop);
	fill(0x200000, 16 * PAGE);
	/* Nobody asked. */
	offer_free(3, 0x200000, PAGE);
	send(3, &stop, 4);
	send(3, &(uint32_t){ 2 }, 4);
	offer_free(3, 0x200000, PAGE);
	ck_assert(is(0x200000, PAGE, 0x5a));

	config_interrupts = atomic_load(&d.config_interrupts);
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, true, &err), 0);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), config_interrupts + 1);
	cmd = config(HINT_CMD);
	ck_assert_uint_ge(cmd, 2);
	send(3, &(uint32_t){ cmd + 1 }, 4);
	offer_free(3, 0x200000, PAGE);
	ck_assert(is(0x200000, PAGE, 0x5a)); /* of another round */
	send(3, &cmd, 4);
	offer_free(3, 0x200000, PAGE);
	ck_assert(is(0x200000, PAGE, 0));
	virtio_balloon_status(vdev, &status);
	ck_assert(status.hinting && status.host_cmd == cmd && status.guest_cmd == cmd);
	send(3, &stop, 4);
	ck_assert_uint_eq(config(HINT_CMD), VIRTIO_BALLOON_CMD_ID_DONE);
	offer_free(3, 0x201000, PAGE);
	ck_assert(is(0x201000, PAGE, 0x5a));

	/* Not released by itself; a second round before that; ended by us. */
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, false, &err), 0);
	ck_assert_uint_eq(config(HINT_CMD), cmd + 1);
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, false, &err), 0);
	cmd = config(HINT_CMD);
	send(3, &(uint32_t){ cmd - 1 }, 4);
	offer_free(3, 0x201000, PAGE);
	ck_assert(is(0x201000, PAGE, 0x5a));
	send(3, &cmd, 4);
	send(3, &stop, 4);
	ck_assert_uint_eq(config(HINT_CMD), cmd);
	ck_assert_int_eq(virtio_balloon_hint_stop(vdev, &err), 0);
	ck_assert_uint_eq(config(HINT_CMD), VIRTIO_BALLOON_CMD_ID_DONE);
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, false, &err), 0);
	cmd = config(HINT_CMD);
	send(3, &cmd, 4);
	ck_assert_int_eq(virtio_balloon_hint_stop(vdev, &err), 0);
	offer_free(3, 0x201000, PAGE);
	ck_assert(is(0x201000, PAGE, 0x5a));

	/* Id and pages in one chain; and by SIGUSR1. */
	virtio_rescan(vdev);
	driver_run(&d);
	ck_assert_uint_eq(config(HINT_CMD), cmd + 1);
	cmd = config(HINT_CMD);
	driver_add(&d, 3,
		   (struct driver_buf[]){ { driver_data(&d, &cmd, 4), 4, false },
					  { 0x201000, PAGE, true } },
		   2);
	driver_kick(&d, 3);
	driver_wait(&d, 3, NULL, NULL);
	ck_assert(is(0x201000, PAGE, 0));

	/* 3 bytes are no id. */
	driver_add(&d, 3, (struct driver_buf[]){ { 0x200000, 3, false } }, 1);
	driver_kick(&d, 3);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

/* Queues move up when those before them are not there. */
START_TEST(queues)
{
	static const struct {
		uint64_t features;
		unsigned report; /* its queue */
	} cases[] = {
		{ ALL_FEATURES, 4 },
		{ F(REPORTING) | F(FREE_PAGE_HINT), 3 },
		{ F(REPORTING) | F(STATS_VQ), 3 },
		{ F(REPORTING), 2 },
		{ F(REPORTING) | F(DEFLATE_ON_OOM), 2 },
	};

	make_all();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start(cases[i].features, cases[i].report + 1);
		fill(0x200000, PAGE);
		for (unsigned q = 1; q < cases[i].report; q++) {
			/* Statistics keep it. */
			if (q == 2 && (cases[i].features & F(STATS_VQ)) != 0)
				continue;
			offer_free(q, 0x200000, PAGE);
			ck_assert(is(0x200000, PAGE, 0x5a));
		}
		offer_free(cases[i].report, 0x200000, PAGE);
		ck_assert(is(0x200000, PAGE, 0));
	}
	/* A queue for what was not negotiated. */
	driver_negotiate(&d, F(REPORTING));
	for (unsigned q = 0; q < 4; q++)
		driver_queue(&d, q, 0);
	driver_ok(&d);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

/* --- Statistics --- */

struct __attribute__((packed)) stat_entry {
	uint16_t tag;
	uint64_t value;
};

static void leave_stats(const struct stat_entry *stats, unsigned n, unsigned extra)
{
	uint32_t len = n * (uint32_t)sizeof(*stats) + extra;
	uint64_t gpa = driver_alloc(&d, len);

	gmem_write(&d.mem, gpa, stats, n * sizeof(*stats));
	driver_add(&d, 2, (struct driver_buf[]){ { gpa, len, false } }, 1);
	driver_kick(&d, 2);
	driver_run(&d);
}

START_TEST(statistics)
{
	static const struct stat_entry first[] = { { 4, 1000 << 20 }, { 5, 5ULL << 30 }, { 3, 7 } };
	static const struct stat_entry next[] = {
		{ 15, 9 }, { 16, 1 }, { 0xffff, 2 }, { 4, 3 }, { 4, 4 }
	};
	struct virtio_balloon_stats stats;

	make(&(struct balloon_options){ .stats = 100000000 });
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_eq(stats.time_ns, 0);
	start(F(STATS_VQ), 3);
	leave_stats(first, 3, 0);
	ck_assert(!driver_used(&d, 2, NULL, NULL));
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_ne(stats.time_ns, 0);
	ck_assert_uint_eq(stats.known, 1 << 4 | 1 << 5 | 1 << 3);
	ck_assert_uint_eq(stats.value[BALLOON_FREE], 1000 << 20);
	ck_assert_uint_eq(stats.value[BALLOON_TOTAL], 5ULL << 30);
	ck_assert_str_eq(virtio_balloon_stat_name(BALLOON_FREE), "free-memory");
	for (unsigned i = 0; i < BALLOON_NSTATS; i++)
		ck_assert_ptr_nonnull(virtio_balloon_stat_name(i));
	/* One more than may be comes back unread. */
	leave_stats(next, 5, 0);
	driver_wait(&d, 2, NULL, NULL);
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_eq(stats.known, 1 << 4 | 1 << 5 | 1 << 3);
	/* By the timer. */
	driver_wait(&d, 2, NULL, NULL);
	leave_stats(next, 5, 6);
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_eq(stats.known, 1 << 4 | 1 << 15);
	ck_assert_uint_eq(stats.value[BALLOON_FREE], 4);
	ck_assert_uint_eq(stats.value[BALLOON_DIRECT_RECLAIMS], 9);
	ck_assert_uint_eq(driver_latencies(&d),
			  1); /* of what came back unread, not of what is kept */
}
END_TEST

START_TEST(statistics_lie)
{
	struct virtio_balloon_stats stats;
	struct stat_entry many[3000];

	for (unsigned i = 0; i < 3000; i++)
		many[i] = (struct stat_entry){ i < 100 ? 99 : 4, i };
	make(&(struct balloon_options){ .stats = 100000000 });
	start(F(STATS_VQ), 3);
	leave_stats(many, 3000, 0);
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_eq(stats.known, 0);
	driver_wait(&d, 2, NULL, NULL);
	/* Only writable, hence empty. */
	driver_add(&d, 2, (struct driver_buf[]){ { 0x200000, 64, true } }, 1);
	driver_kick(&d, 2);
	driver_wait(&d, 2, NULL, NULL);
	/* A driver that leaves none: nothing to be given back, nothing happens. */
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(loop_run_once(d.loop, 150), 0);
	/* Quiescing gives the buffer back, and a fresh one comes later. */
	leave_stats(many + 100, 1, 0);
	virtio_quiesce(vdev);
	ck_assert(driver_used(&d, 2, NULL, NULL));
	virtio_resume(vdev);
	leave_stats(many + 101, 1, 0);
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_eq(stats.value[BALLOON_FREE], 101);
	/* Reset with the buffer here. */
	start(F(STATS_VQ), 3);
	leave_stats(many + 102, 1, 0);
	ck_assert(virtio_balloon_stats(vdev, &stats));
	ck_assert_uint_eq(stats.value[BALLOON_FREE], 102);
}
END_TEST

/* --- The rest --- */

START_TEST(target)
{
	uint32_t config_interrupts;
	uint8_t generation;

	make(&(struct balloon_options){ .size = 2 << 20 });
	start(0, 2);
	ck_assert_uint_eq(config(NUM_PAGES), 512);
	config_interrupts = atomic_load(&d.config_interrupts);
	generation = vdev->generation;
	ck_assert_int_eq(virtio_balloon_set_target(vdev, (1 << 20) + 4095, &err), 0);
	ck_assert_uint_eq(config(NUM_PAGES), 256);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), config_interrupts + 1);
	ck_assert_uint_ne(vdev->generation, generation);
	ck_assert_int_eq(virtio_balloon_set_target(vdev, 1 << 20, &err), 0);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), config_interrupts + 1);
	ck_assert_int_eq(virtio_balloon_set_target(vdev, DRIVER_RAM + DRIVER_RAM_HIGH + 1, &err),
			 -EINVAL);
	ck_assert_str_eq(err.msg,
			 "balloon: a size of 5 MiB is more than the guest's memory, 5 MiB");
	ck_assert_int_eq(virtio_balloon_set_target(vdev, UINT64_MAX, &err), -EINVAL);
	/* The driver writes two of the fields, by any bytes. */
	set_config(NUM_PAGES, 1);
	set_config(HINT_CMD, 5);
	set_config(ACTUAL, 0x11223344);
	ck_assert_uint_eq(config(NUM_PAGES), 256);
	ck_assert_uint_eq(config(HINT_CMD), 0);
	driver_config_write(&d, 3, (uint8_t[]){ 1, 2, 3 }, 3);
	ck_assert_uint_eq(config(NUM_PAGES), 256);
	ck_assert_uint_eq(config(ACTUAL), 0x11220302);
	driver_config_write(&d, 7, (uint8_t[]){ 8, 9 }, 2);
	ck_assert_uint_eq(config(ACTUAL), 0x08220302);
	ck_assert_uint_eq(config(HINT_CMD), 0);
	/* Gone with a reset, as its pages are. */
	start(0, 2);
	ck_assert_uint_eq(config(ACTUAL), 0);
	ck_assert_uint_eq(config(NUM_PAGES), 256);
}
END_TEST

/* What is given back has other contents now: snapshots must know. */
START_TEST(marks_dirty)
{
	uint64_t bits[DRIVER_RAM / PAGE / 64];

	make_all();
	start(F(REPORTING), 3);
	send(0, &(uint32_t){ 0x3f0 }, 4); /* the rings' pages are known to be dirty */
	ck_assert_int_eq(gmem_dirty_start(&d.mem, &err), 0);
	send(0, (uint32_t[]){ 0x340, 0x341 }, 8);
	offer_free(2, 0x380000, 2 * PAGE);
	gmem_dirty_fetch(&d.mem, 0, bits);
	ck_assert_uint_eq(bits[0x340 / 64], 3);
	ck_assert_uint_eq(bits[0x380 / 64], 3);
	gmem_dirty_stop(&d.mem);
}
END_TEST

/* A kernel's pages are the file's: they stay. */
START_TEST(mapped_files_stay)
{
	char path[] = "/tmp/balloon.XXXXXX", page[PAGE];
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	memset(page, 0x77, sizeof(page));
	for (int i = 0; i < 128; i++)
		ck_assert_int_eq(write(fd, page, sizeof(page)), (ssize_t)sizeof(page));
	make_all();
	start(F(REPORTING), 3);
	fill(0x200000, 256 * PAGE);
	ck_assert_int_eq(gmem_load_file(&d.mem, 0x240000, fd, 0, 128 * PAGE, &err), 0);
	offer_free(2, 0x200000, 256 * PAGE);
	ck_assert(is(0x200000, 64 * PAGE, 0));
	ck_assert(d.mem.nfiles == 0 || is(0x240000, 128 * PAGE, 0x77));
	ck_assert(is(0x2c0000, 64 * PAGE, 0));
	close(fd);
}
END_TEST

static int save(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

START_TEST(state)
{
	struct virtio_device *first;
	uint32_t cmd;
	size_t len;
	void *data;

	make_all();
	ck_assert_int_eq(virtio_balloon_set_target(vdev, 1 << 20, &err), 0);
	start(ALL_FEATURES | F(PAGE_POISON), 5);
	set_config(ACTUAL, 17);
	set_config(POISON, 0xaa);
	ck_assert_int_eq(virtio_balloon_hint_start(vdev, true, &err), 0);
	cmd = config(HINT_CMD);
	send(3, &cmd, 4);
	leave_stats((struct stat_entry[]){ { 4, 1 } }, 1, 0);
	virtio_quiesce(vdev);
	ck_assert(driver_used(&d, 2, NULL, NULL));
	data = test_save(save, vdev, &len);
	first = vdev;
	first->transport = NULL;
	make_all();
	ck_assert_int_eq(test_load(save, vdev, data, len), 0);
	virtio_resume(vdev);
	driver_run(&d);
	ck_assert_uint_eq(config(NUM_PAGES), 256);
	ck_assert_uint_eq(config(ACTUAL), 17);
	ck_assert_uint_eq(config(POISON), 0xaa);
	ck_assert_uint_eq(config(HINT_CMD), cmd);
	set_config(POISON, 0);
	fill(0x200000, PAGE);
	offer_free(3, 0x200000, PAGE);
	ck_assert(is(0x200000, PAGE, 0));
	free(data);
	ops->destroy(first);
}
END_TEST

START_TEST(refused)
{
	struct balloon_options o = { .stats = 99999999 };

	ck_assert_int_lt(ops->check(&o, &err), 0);
	ck_assert_str_eq(err.msg, "stats: more often than each 100ms is too often");
	o = (struct balloon_options){ .size = 6 << 20 };
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	ck_assert_str_eq(err.msg,
			 "balloon: a size of 6 MiB is more than the guest's memory, 5 MiB");
	o.size = 0;
	d.mem.page_size = 2 << 20;
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	ck_assert_ptr_nonnull(strstr(err.msg, "hugepages=2M"));
	d.mem.page_size = PAGE;
	ck_assert_uint_eq(ops->option.size, sizeof(o));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("virtio_balloon");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, inflates);
	tcase_add_test(tc, gives_memory_back);
	tcase_add_test(tc, lies);
	tcase_add_test(tc, passes);
	tcase_add_test(tc, reports);
	tcase_add_test(tc, poison);
	tcase_add_test(tc, hints);
	tcase_add_test(tc, queues);
	tcase_add_test(tc, statistics);
	tcase_add_test(tc, statistics_lie);
	tcase_add_test(tc, target);
	tcase_add_test(tc, marks_dirty);
	tcase_add_test(tc, mapped_files_stay);
	tcase_add_test(tc, state);
	tcase_add_test(tc, refused);
	suite_add_tcase(s, tc);
	return test_run(s);
}
