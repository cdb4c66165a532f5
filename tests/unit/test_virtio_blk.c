// SPDX-License-Identifier: Apache-2.0
/*
 * The block device as a driver sees it: configuration, requests in every layout, errors, the
 * write cache, limits on rate, resizing, reset and saving; on the main loop and on a thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/base/log.h"

#define SECTORS 2048

#define F(bit) (1ULL << VIRTIO_BLK_F_##bit)

/* The option's structure, by way of the option: the test knows it as a user does. */
struct options {
	struct opt_seen seen;
	struct opt_list disks;
};

static struct driver d;
static struct virtio_device *vdev;
static const struct virtio_ops *ops;
static struct options config;
static struct opt table[2];
static char path[64];
static struct err err;

static const struct virtio_ops *find_ops(void)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		if (virtio_kind(i)->id == VIRTIO_ID_BLOCK)
			return virtio_kind(i);
	}
	return NULL;
}

static int parse(const char *text)
{
	err = (struct err)ERR_INIT;
	opt_free(table, &config);
	ck_assert_int_eq(opt_defaults(table, &config, &err), 0);
	return opt_apply(table, &config, "disk", text, &err);
}

/* A disk on @path with @more keys. NULL: err says why. */
static struct virtio_device *create(const char *more)
{
	char text[256];
	int r;

	snprintf(text, sizeof(text), "%s%s", path, more);
	r = parse(text);
	ck_assert_msg(r == 0, "%s", err.msg);
	if (ops->check(config.disks.items, &err) < 0)
		return NULL;
	return ops->create(config.disks.items, 1, 0, &d.host, &err);
}

static void start(const char *more, uint64_t features)
{
	vdev = create(more);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
	driver_start(&d, features);
}

static void stop(void)
{
	driver_detach(&d);
	ops->destroy(vdev);
	vdev = NULL;
}

static void setup(void)
{
	int fd;

	log_set_level(LOG_ERROR);
	log_set_fd(-1);
	ops = find_ops();
	ck_assert_ptr_nonnull(ops);
	memset(&config, 0, sizeof(config));
	memset(table, 0, sizeof(table));
	table[0] = ops->option;
	table[0].offset = offsetof(struct options, disks);
	strcpy(path, "/tmp/vmm-test-blk-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	for (unsigned i = 0; i < SECTORS; i++) {
		uint8_t sector[512];

		memset(sector, (int)i, 512);
		ck_assert_int_eq(write(fd, sector, 512), 512);
	}
	close(fd);
	driver_init(&d);
}

static void teardown(void)
{
	if (vdev != NULL)
		stop();
	driver_fini(&d);
	opt_free(table, &config);
	unlink(path);
}

static uint8_t file_byte(uint64_t at)
{
	int fd = open(path, O_RDONLY);
	uint8_t byte = 0;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
	close(fd);
	return byte;
}

static struct virtio_blk_config read_config(void)
{
	struct virtio_blk_config c = { 0 };

	driver_config_read(&d, 0, &c, sizeof(c));
	return c;
}

/* --- Requests --- */

struct request {
	uint64_t header, data, status;
	uint32_t len;
	uint16_t head;
};

/* Header, data and status in descriptors of their own. */
static struct request add(unsigned q, uint32_t type, uint64_t sector, const void *data,
			  uint32_t len)
{
	struct virtio_blk_outhdr hdr = { .type = type, .sector = sector };
	struct request r = { .len = len };
	struct driver_buf bufs[3];
	unsigned n = 0;
	bool out = type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_GET_ID;

	r.header = driver_data(&d, &hdr, sizeof(hdr));
	r.data = driver_alloc(&d, len);
	r.status = driver_alloc(&d, 1);
	memset(driver_ptr(&d, r.status, 1), 0xee, 1);
	if (len > 0 && data != NULL)
		memcpy(driver_ptr(&d, r.data, len), data, len);
	else if (len > 0)
		memset(driver_ptr(&d, r.data, len), 0xee, len);
	bufs[n++] = (struct driver_buf){ r.header, sizeof(hdr), false };
	if (len > 0)
		bufs[n++] = (struct driver_buf){ r.data, len, !out };
	bufs[n++] = (struct driver_buf){ r.status, 1, true };
	r.head = driver_add(&d, q, bufs, n);
	return r;
}

static uint8_t status_of(const struct request *r)
{
	return *(uint8_t *)driver_ptr(&d, r->status, 1);
}

/* One request, to its end; what came back is at *@back. */
static uint8_t request(uint32_t type, uint64_t sector, const void *data, uint32_t len,
		       uint8_t **back)
{
	uint64_t heap = d.heap;
	struct request r = add(0, type, sector, data, len);
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	uint32_t used;

	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &used);
	ck_assert_uint_eq(used, (in ? len : 0) + 1);
	if (back != NULL)
		*back = driver_ptr(&d, r.data, len);
	d.heap = heap;
	return status_of(&r);
}

static void fill(uint8_t *buf, uint8_t byte, size_t len)
{
	memset(buf, byte, len);
}

/* --- Options and configuration --- */

START_TEST(options)
{
	static const struct {
		const char *more, *why;
	} bad[] = {
		{ ",serial=123456789012345678901", "is longer than 20 bytes" },
		{ ",ro,overlay", "exclude each other" },
		{ ",overlay=", "names no file" },
		{ ",iops-burst=5", "iops-burst needs iops" },
		{ ",bw-burst=5", "bw-burst needs bw" },
		{ ",overlay=/nonexistent/x", "cannot open" },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_ptr_null(create(bad[i].more));
		ck_assert_msg(strstr(err.msg, bad[i].why) != NULL, "'%s' not in '%s'", bad[i].why,
			      err.msg);
		/* Every sentence says which disk. */
		ck_assert_ptr_nonnull(strstr(err.msg, path));
	}
	ck_assert_int_lt(parse("ro"), 0);
	ck_assert_int_lt(parse("x,queues=17"), 0);
	ck_assert_int_lt(parse("x,queues=0"), 0);
	ck_assert_int_lt(parse("x,cache=unsafe"), 0);
	/* overlay=off is none. */
	start(",ro,overlay=off", F(RO));
}
END_TEST

START_TEST(configuration)
{
	struct virtio_blk_config c;

	start("", F(FLUSH));
	c = read_config();
	ck_assert_uint_eq(c.capacity, SECTORS);
	ck_assert_uint_eq(c.seg_max, 254);
	ck_assert_uint_eq(c.blk_size, 512);
	ck_assert_uint_eq(c.num_queues, 1);
	ck_assert_uint_eq(c.wce, 1);
	ck_assert_uint_gt(c.max_discard_sectors, 0);
	ck_assert_uint_gt(c.max_discard_seg, 0);
	ck_assert_uint_eq(c.write_zeroes_may_unmap, 1);
	ck_assert_uint_eq(c.physical_block_exp < 8, 1);
	ck_assert_uint_eq(c.unused | c.unused1[0] | c.unused1[1] | c.unused1[2], 0);
	ck_assert_uint_eq(vdev->features & 0xffffff, F(SEG_MAX) | F(BLK_SIZE) | F(TOPOLOGY) |
							     F(FLUSH) | F(CONFIG_WCE) | F(DISCARD) |
							     F(WRITE_ZEROES));
	ck_assert_str_eq(vdev->name + strlen("disk "), strrchr(path, '/') + 1);
	stop();
	start(",ro,queues=3", F(RO));
	c = read_config();
	ck_assert_uint_eq(c.num_queues, 3);
	ck_assert_uint_eq(c.wce, 0);
	ck_assert_uint_eq(c.max_discard_sectors, 0);
	ck_assert_uint_eq(vdev->nqueues, 3);
	ck_assert_uint_eq(vdev->features & 0xffffff,
			  F(SEG_MAX) | F(BLK_SIZE) | F(TOPOLOGY) | F(RO) | F(MQ));
	stop();
	start(",cache=none", 0);
	ck_assert_uint_eq(vdev->features & (F(FLUSH) | F(CONFIG_WCE)), 0);
	ck_assert_uint_eq(read_config().wce, 0);
}
END_TEST

START_TEST(writeback_switch)
{
	const unsigned wce = offsetof(struct virtio_blk_config, wce);
	uint8_t byte = 0, buf[512] = { 5 };

	start("", F(FLUSH) | F(CONFIG_WCE));
	driver_config_write(&d, wce, &byte, 1);
	ck_assert_uint_eq(read_config().wce, 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 1, buf, 512, NULL), VIRTIO_BLK_S_OK);
	byte = 7;
	driver_config_write(&d, wce, &byte, 1);
	ck_assert_uint_eq(read_config().wce, 1);
	/* Nothing else can be written. */
	driver_config_write(&d, 0, buf, 8);
	ck_assert_uint_eq(read_config().capacity, SECTORS);
	byte = 0;
	driver_config_write(&d, wce, &byte, 1);
	/* A new driver finds it as new. */
	driver_start(&d, F(FLUSH));
	ck_assert_uint_eq(read_config().wce, 1);
	driver_config_write(&d, wce, &byte, 1); /* not negotiated */
	ck_assert_uint_eq(read_config().wce, 1);
	/* 5.2.5.2 */
	driver_start(&d, F(CONFIG_WCE));
	driver_run(&d);
	ck_assert_uint_eq(read_config().wce, 0);
}
END_TEST

/* --- Requests --- */

static const char *const kinds[] = { "",	",cache=none", ",overlay",
				     ",direct", ",iothread",   ",iothread,overlay,cache=none" };

/* What a driver would take of kinds[i]. */
static uint64_t features_of(int i)
{
	return strstr(kinds[i], "none") != NULL ? 0 : F(FLUSH);
}

START_TEST(read_write)
{
	static uint8_t buf[65536];
	uint8_t *back;

	start(kinds[_i], features_of(_i));
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 3, NULL, 1024, &back), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(back[0], 3);
	ck_assert_uint_eq(back[511], 3);
	ck_assert_uint_eq(back[512], 4);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i / 7);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 8, buf, sizeof(buf), NULL), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 8, NULL, sizeof(buf), &back), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(back, buf, sizeof(buf));
	ck_assert_uint_eq(file_byte(8 * 512 + 21), strstr(kinds[_i], "overlay") ? 8 : 3);
	/* Nothing to transfer is nothing wrong. */
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, NULL, 0, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(identity)
{
	uint8_t *back, first[20];

	start(",serial=abc", 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, NULL, 20, &back), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(back, "abc\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	/* Less room, more room. */
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, NULL, 2, &back), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(back, "ab", 2);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, NULL, 32, &back), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(back[31], 0);
	stop();
	start(",serial=12345678901234567890", 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, NULL, 20, &back), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(back, "12345678901234567890", 20);
	stop();
	start("", 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, NULL, 20, &back), VIRTIO_BLK_S_OK);
	memcpy(first, back, 20);
	ck_assert_mem_eq(first, "vmm-", 4);
	stop();
	start("", 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_GET_ID, 0, NULL, 20, &back), VIRTIO_BLK_S_OK);
	ck_assert_mem_eq(first, back, 20);
}
END_TEST

START_TEST(refused_requests)
{
	static uint8_t buf[1024];
	uint8_t *back;

	start(_i ? ",ro" : "", 0);
	/* The answer to a failed read holds nothing of what was there before. */
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS, NULL, 512, &back), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(back[0] | back[511], 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS - 1, NULL, 1024, NULL),
			  VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, UINT64_MAX, NULL, 512, NULL),
			  VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, UINT64_MAX / 512, NULL, 512, NULL),
			  VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, NULL, 511, NULL), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 0, buf, 513, NULL), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, SECTORS, buf, 512, NULL), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, SECTORS - 1, buf, 512, NULL),
			  _i ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(request(2, 0, buf, 512, NULL), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(request(0xffffffff, 0, NULL, 0, NULL), VIRTIO_BLK_S_UNSUPP);
	ck_assert_uint_eq(file_byte(SECTORS * 512 - 1), _i ? 0xff : 0);
}
END_TEST

/* --- Layouts: 2.7.4.1 --- */

/* Header in 16 descriptors, data in odd pieces, across regions of RAM, status with the data. */
START_TEST(layouts)
{
	struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_IN, .sector = 2 };
	uint64_t header = driver_data(&d, &hdr, 16), data;
	struct driver_buf bufs[40];
	uint8_t *p;
	uint32_t used;
	unsigned n = 0;

	start(_i & 2 ? ",direct" : "", F(FLUSH) | 1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	for (unsigned i = 0; i < 16; i++)
		bufs[n++] = (struct driver_buf){ header + i, 1, false };
	data = DRIVER_RAM - 700; /* 700 bytes here, the rest in the next region */
	bufs[n++] = (struct driver_buf){ data, 1, true };
	bufs[n++] = (struct driver_buf){ data + 1, 1000, true };
	bufs[n++] = (struct driver_buf){ data + 1001, 24, true }; /* 1024, and the status */
	(_i & 1 ? driver_add_indirect : driver_add)(&d, 0, bufs, n);
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &used);
	ck_assert_uint_eq(used, 1025);
	p = d.mem.base + data;
	ck_assert_uint_eq(p[0], 2);
	ck_assert_uint_eq(p[511], 2);
	ck_assert_uint_eq(p[512], 3);
	ck_assert_uint_eq(p[1023], 3);
	ck_assert_uint_eq(p[1024], VIRTIO_BLK_S_OK);

	/* A write whose data begins in the header's descriptor. */
	hdr.type = VIRTIO_BLK_T_OUT;
	header = driver_alloc(&d, 16 + 512);
	memcpy(driver_ptr(&d, header, 16), &hdr, 16);
	fill(driver_ptr(&d, header + 16, 512), 0xab, 512);
	n = 0;
	bufs[n++] = (struct driver_buf){ header, 16 + 100, false };
	bufs[n++] = (struct driver_buf){ header + 116, 412, false };
	bufs[n++] = (struct driver_buf){ data, 5, true }; /* more than the status */
	(_i & 1 ? driver_add_indirect : driver_add)(&d, 0, bufs, n);
	memset(p, 0xee, 5);
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &used);
	ck_assert_uint_eq(used, 5);
	ck_assert_mem_eq(p, "\0\0\0\0\0", 5);
	ck_assert_uint_eq(file_byte(2 * 512), 0xab);
	ck_assert_uint_eq(file_byte(3 * 512 - 1), 0xab);
	ck_assert_uint_eq(file_byte(3 * 512), 3);
}
END_TEST

/* No header, or nowhere to say the status: the device stops until it is reset. */
START_TEST(broken)
{
	struct virtio_blk_outhdr hdr = { .type = VIRTIO_BLK_T_IN };
	uint64_t header = driver_data(&d, &hdr, 16), data = driver_alloc(&d, 1024);
	struct driver_buf bufs[2] = { { header, _i == 0 ? 15 : 16, false }, { data, 513, true } };
	uint8_t *back;

	start("", F(FLUSH));
	driver_add(&d, 0, bufs, _i == 0 ? 2 : 1);
	driver_kick(&d, 0);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	driver_start(&d, F(FLUSH));
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 1, NULL, 512, &back), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(back[0], 1);
}
END_TEST

/* Everything the queue holds at once: one interrupt suffices for what was in the page cache. */
START_TEST(full_queue)
{
	struct request r[80];
	unsigned seen = 0;

	start(kinds[_i], features_of(_i) | 1ULL << VIRTIO_RING_F_EVENT_IDX);
	for (unsigned i = 0; i < 80; i++)
		r[i] = add(0, VIRTIO_BLK_T_IN, i, NULL, 512);
	ck_assert(driver_kick(&d, 0));
	while (seen < 80) {
		driver_wait(&d, 0, NULL, NULL);
		seen++;
	}
	ck_assert_uint_eq(driver_latencies(&d), 80);
	for (unsigned i = 0; i < 80; i++) {
		ck_assert_uint_eq(status_of(&r[i]), VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, r[i].data, 1), i);
	}
	ck_assert_uint_ge(atomic_load(&d.queue[0].interrupts), 1);
}
END_TEST

START_TEST(many_queues)
{
	struct request r[4];

	start(_i ? ",queues=4,iothread" : ",queues=4", F(FLUSH) | F(MQ));
	for (unsigned round = 0; round < 50; round++) {
		uint64_t heap = d.heap;

		for (unsigned q = 0; q < 4; q++) {
			r[q] = add(q, VIRTIO_BLK_T_IN, round * 4 + q, NULL, 512);
			driver_kick(&d, q);
		}
		for (unsigned q = 0; q < 4; q++) {
			driver_wait(&d, q, NULL, NULL);
			ck_assert_uint_eq(status_of(&r[q]), VIRTIO_BLK_S_OK);
			ck_assert_uint_eq(*(uint8_t *)driver_ptr(&d, r[q].data, 1), round * 4 + q);
		}
		d.heap = heap;
	}
}
END_TEST

/* --- Discard and write zeroes --- */

static uint8_t ranges(uint32_t type, const struct virtio_blk_discard_write_zeroes *r, unsigned n)
{
	return request(type, 0, r, (uint32_t)(n * sizeof(*r)), NULL);
}

START_TEST(discards)
{
	struct virtio_blk_discard_write_zeroes r[17] = { { 0 } };

	start(_i ? ",cache=none" : "", F(DISCARD) | F(WRITE_ZEROES) | (_i ? 0 : F(FLUSH)));
	r[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 16, .num_sectors = 8 };
	r[1] = (struct virtio_blk_discard_write_zeroes){ .sector = 33, .num_sectors = 2 };
	r[2] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS };
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 3), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(file_byte(16 * 512 - 1), 15);
	ck_assert_uint_eq(file_byte(16 * 512), 0);
	ck_assert_uint_eq(file_byte(24 * 512 - 1), 0);
	ck_assert_uint_eq(file_byte(24 * 512), 24);
	ck_assert_uint_eq(file_byte(33 * 512), 0);
	ck_assert_uint_eq(file_byte(35 * 512), 35);
	r[0] = (struct virtio_blk_discard_write_zeroes){ 40, 3,
							 VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP };
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(file_byte(42 * 512), 0);
	/* A discard has no flags; no request has unknown ones. */
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_UNSUPP);
	r[0].flags = 2;
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_UNSUPP);
	r[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 48, .num_sectors = 8 };
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_OK);
	/* One bad range, and the good one before it is not touched. */
	r[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 60, .num_sectors = 1 };
	r[1] = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS - 1, .num_sectors = 2 };
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 2), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(file_byte(60 * 512), 60);
	r[0].num_sectors = UINT32_MAX;
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_IOERR);
	r[0].sector = UINT64_MAX;
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_IOERR);
	/* None, too many, a piece of one. */
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 0), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 17), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_DISCARD, 0, r, 17, NULL), VIRTIO_BLK_S_IOERR);
	stop();
	start(",ro", 0);
	r[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 60, .num_sectors = 1 };
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(file_byte(60 * 512), 60);
}
END_TEST

/* --- The host's side --- */

/* The file is cut under us: that is an error for the guest, and for nobody else. */
START_TEST(cut_short)
{
	uint8_t *back;

	start("", F(FLUSH));
	ck_assert_int_eq(truncate(path, 512 * 100), 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 99, NULL, 1024, &back), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(back[0], 0); /* not even what could be read */
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 99, NULL, 512, &back), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(back[0], 99);
	ck_assert_uint_eq(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

START_TEST(resize)
{
	uint8_t *back, generation;

	start("", F(FLUSH));
	generation = vdev->generation;
	virtio_rescan(vdev);
	driver_run(&d);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	ck_assert_int_eq(truncate(path, 512 * (SECTORS + 10)), 0);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS, NULL, 512, &back), VIRTIO_BLK_S_IOERR);
	virtio_rescan(vdev);
	driver_run(&d);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert_uint_ne(vdev->generation, generation);
	ck_assert_uint_eq(read_config().capacity, SECTORS + 10);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, SECTORS, NULL, 512, &back), VIRTIO_BLK_S_OK);
	ck_assert_int_eq(truncate(path, 512 * 10), 0);
	virtio_rescan(vdev);
	driver_run(&d);
	ck_assert_uint_eq(read_config().capacity, 10);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_OUT, 10, back, 512, NULL), VIRTIO_BLK_S_IOERR);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 9, NULL, 512, &back), VIRTIO_BLK_S_OK);
}
END_TEST

/* Does not depend on time: what may not pass would have to wait for minutes. */
START_TEST(rate)
{
	struct request r[6];
	unsigned n = 0;

	start(_i ? ",iops=1,iops-burst=2,bw=1T" : ",bw=1,bw-burst=1024,iops=1000000", F(FLUSH));
	for (unsigned i = 0; i < (_i ? 2 : 5); i++)
		r[i] = add(0, VIRTIO_BLK_T_IN, i, NULL, 512);
	if (_i) {
		/* The two of the burst pass. */
		driver_kick(&d, 0);
		driver_wait(&d, 0, NULL, NULL);
		driver_wait(&d, 0, NULL, NULL);
		return;
	}
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, NULL);
	driver_wait(&d, 0, NULL, NULL);
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	/* The others are in the queue still, and no one is asked to kick for more. */
	for (unsigned i = 0; i < 5; i++)
		n += status_of(&r[i]) == VIRTIO_BLK_S_OK;
	ck_assert_uint_eq(n, 2);
	ck_assert_uint_eq(vdev->queue[0].vq.next_avail, 2);
	r[5] = add(0, VIRTIO_BLK_T_IN, 5, NULL, 512);
	driver_notify(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(vdev->queue[0].vq.next_avail, 2);
	/* Reset and start again: neither a way round the limit nor a hang. */
	driver_start(&d, F(FLUSH));
	add(0, VIRTIO_BLK_T_IN, 0, NULL, 512);
	driver_kick(&d, 0);
	driver_run(&d);
	ck_assert(!driver_used(&d, 0, NULL, NULL));
	/* What has no bytes would pass, but waits its turn. */
	ck_assert_uint_eq(vdev->queue[0].vq.next_avail, 0);
}
END_TEST

/* What waits goes on by itself. */
START_TEST(rate_goes_on)
{
	start(",iops=200,iops-burst=1,queues=2", F(FLUSH) | F(MQ));
	for (unsigned i = 0; i < 5; i++) {
		add(0, VIRTIO_BLK_T_IN, i, NULL, 512);
		add(1, VIRTIO_BLK_T_IN, i, NULL, 512);
	}
	driver_kick(&d, 0);
	driver_kick(&d, 1);
	for (unsigned i = 0; i < 5; i++) {
		driver_wait(&d, 0, NULL, NULL);
		driver_wait(&d, 1, NULL, NULL);
	}
}
END_TEST

/* --- Reset, quiesce, state --- */

/* Requests are in flight when the driver resets; none comes back, and none touches memory. */
START_TEST(reset_in_flight)
{
	static uint8_t buf[4096];

	start(kinds[_i], features_of(_i));
	for (unsigned round = 0; round < 20; round++) {
		uint64_t heap = d.heap;
		uint8_t *p = driver_ptr(&d, heap, 1 << 20);

		for (unsigned i = 0; i < 60; i++)
			add(0, i % 3 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i * 8,
			    i % 3 ? buf : NULL, 4096);
		add(0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		driver_kick(&d, 0);
		if (round % 2)
			loop_run_once(d.loop, 0);
		driver_set_status(&d, 0);
		memset(p, 0x5a, 1 << 20);
		driver_run(&d);
		ck_assert(p[0] == 0x5a && memcmp(p, p + 1, (1 << 20) - 1) == 0);
		d.heap = heap;
		driver_start(&d, features_of(_i));
	}
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 0, NULL, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* Quiesced, all that was taken has come back; what was not comes after resuming. */
START_TEST(quiesced)
{
	struct request r[60], late;
	static uint8_t buf[4096];

	start(_i ? ",overlay" : "", F(FLUSH));
	for (unsigned i = 0; i < 60; i++)
		r[i] = add(0, i % 3 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i * 8, i % 3 ? buf : NULL,
			   4096);
	driver_kick(&d, 0);
	loop_run_once(d.loop, 0);
	virtio_quiesce(vdev);
	for (unsigned i = 0; i < 60; i++) {
		ck_assert(driver_used(&d, 0, NULL, NULL));
		ck_assert_uint_eq(status_of(&r[i]), VIRTIO_BLK_S_OK);
	}
	ck_assert_uint_ge(atomic_load(&d.queue[0].interrupts), 1);
	late = add(0, VIRTIO_BLK_T_IN, 7, NULL, 512);
	driver_notify(&d, 0);
	driver_run(&d);
	ck_assert_uint_eq(status_of(&late), 0xee);
	virtio_resume(vdev);
	driver_wait(&d, 0, NULL, NULL);
	ck_assert_uint_eq(status_of(&late), VIRTIO_BLK_S_OK);
}
END_TEST

static int save_fn(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

START_TEST(saved)
{
	const unsigned wce = offsetof(struct virtio_blk_config, wce);
	struct virtio_device *first;
	uint8_t off = 0, *back;
	size_t len;
	void *data;

	start(",ro", F(RO));
	first = vdev;
	virtio_quiesce(vdev);
	data = test_save(save_fn, vdev, &len);
	pthread_mutex_lock(&vdev->lock);
	vdev->transport = NULL;
	pthread_mutex_unlock(&vdev->lock);
	vdev = create(",ro");
	ck_assert_ptr_nonnull(vdev);
	d.vdev = vdev;
	d.transport.vdev = vdev;
	vdev->transport = &d.transport;
	ck_assert_int_eq(test_load(save_fn, vdev, data, len), 0);
	virtio_resume(vdev);
	ck_assert_uint_eq(request(VIRTIO_BLK_T_IN, 5, NULL, 512, &back), VIRTIO_BLK_S_OK);
	ck_assert_uint_eq(back[0], 5);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 0);
	free(data);
	stop();
	ops->destroy(first);

	/* The cache mode is saved; a size that changed meanwhile is told. */
	start("", F(FLUSH) | F(CONFIG_WCE));
	driver_config_write(&d, wce, &off, 1);
	virtio_quiesce(vdev);
	data = test_save(save_fn, vdev, &len);
	stop();
	ck_assert_int_eq(truncate(path, 512 * 64), 0);
	vdev = create("");
	driver_attach(&d, vdev);
	ck_assert_uint_eq(read_config().wce, 1);
	ck_assert_int_eq(test_load(save_fn, vdev, data, len), 0);
	ck_assert_uint_eq(read_config().wce, 0);
	virtio_resume(vdev);
	ck_assert_uint_eq(atomic_load(&d.config_interrupts), 1);
	ck_assert_uint_eq(read_config().capacity, 64);
	free(data);
}
END_TEST

int main(void)
{
	const int nkinds = sizeof(kinds) / sizeof(kinds[0]);
	Suite *suite = suite_create("virtio_blk");
	TCase *tc = tcase_create("virtio_blk");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, options);
	tcase_add_test(tc, configuration);
	tcase_add_test(tc, writeback_switch);
	tcase_add_loop_test(tc, read_write, 0, nkinds);
	tcase_add_test(tc, identity);
	tcase_add_loop_test(tc, refused_requests, 0, 2);
	tcase_add_loop_test(tc, layouts, 0, 4);
	tcase_add_loop_test(tc, broken, 0, 2);
	tcase_add_loop_test(tc, full_queue, 0, nkinds);
	tcase_add_loop_test(tc, many_queues, 0, 2);
	tcase_add_loop_test(tc, discards, 0, 2);
	tcase_add_test(tc, cut_short);
	tcase_add_test(tc, resize);
	tcase_add_loop_test(tc, rate, 0, 2);
	tcase_add_test(tc, rate_goes_on);
	tcase_add_loop_test(tc, reset_in_flight, 0, nkinds);
	tcase_add_loop_test(tc, quiesced, 0, 2);
	tcase_add_test(tc, saved);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
