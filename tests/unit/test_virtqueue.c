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

/* Make descriptor @i of queue 0 by hand. */
static void desc(unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	dq->desc[i] = (struct vring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

static int pop(uint16_t head)
{
	driver_available(&d, 0, head);
	return virtqueue_pop(vq, &chain, iov);
}

/* What was made by hand is refused for the reason @why, and the queue stays dead. */
static void refused(uint16_t head, const char *why)
{
	ck_assert_int_eq(pop(head), -EINVAL);
	ck_assert_ptr_nonnull(vq->broken);
	ck_assert_msg(strstr(vq->broken, why) != NULL, "\"%s\" is not about \"%s\"", vq->broken,
		      why);
	desc(0, DRIVER_HEAP, 16, 0, 0);
	ck_assert_int_eq(pop(0), -EINVAL);
	ck_assert(virtqueue_empty(vq));
	virtqueue_put(vq, 0, 1);
	virtqueue_publish(vq);
	ck_assert_uint_eq(dq->used->idx, 0);
	ck_assert(!virtqueue_wants_interrupt(vq));
	start(F_IND | F_EVT); /* ... until a reset */
	desc(0, DRIVER_HEAP, 16, 0, 0);
	ck_assert_int_eq(pop(0), 1);
	start(F_IND | F_EVT);
}

START_TEST(test_indirect)
{
	uint64_t gpa = driver_data(&d, "0123456789", 10), table;
	uint16_t head = driver_add_indirect(&d, 0,
					    (struct driver_buf[]){ { gpa, 4, false },
								   { gpa + 4, 6, false },
								   { gpa + 32, 20, true } },
					    3);
	struct vring_desc *t;
	char text[10];

	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert_uint_eq(chain.head, head);
	ck_assert_uint_eq(chain.readable.n, 2);
	ck_assert_uint_eq(chain.writable.left, 20);
	ck_assert_uint_eq(virtqueue_read(&chain.readable, text, 10), 10);
	ck_assert_mem_eq(text, "0123456789", 10);

	/* Direct ones, then an indirect one, whose WRITE flag means nothing: 2.7.5.3.2. */
	table = driver_alloc(&d, 64) + 1; /* need not be aligned */
	t = driver_ptr(&d, table, 32);
	memcpy(t, (struct vring_desc[]){ { gpa + 1, 1, NEXT, 1 }, { gpa + 40, 1, WRITE, 0 } }, 32);
	desc(3, gpa, 1, NEXT, 4);
	desc(4, table, 32, INDIR | WRITE, 0);
	ck_assert_int_eq(pop(3), 1);
	ck_assert_uint_eq(chain.readable.left, 2);
	ck_assert_uint_eq(chain.writable.left, 1);
	ck_assert_uint_eq(virtqueue_read(&chain.readable, text, 10), 2);
	ck_assert_mem_eq(text, "01", 2);
}
END_TEST

/* As many as the queue has, and one more, directly and indirectly. */
START_TEST(test_length)
{
	struct driver_buf bufs[QSIZE + 1];
	uint64_t gpa = driver_alloc(&d, 16 * (QSIZE + 1));

	for (unsigned i = 0; i <= QSIZE; i++)
		bufs[i] = (struct driver_buf){ gpa + 16 * i, 16, i > QSIZE / 2 };
	driver_add(&d, 0, bufs, QSIZE);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert_uint_eq(chain.readable.n + chain.writable.n, QSIZE);
	start(F_IND);
	driver_add_indirect(&d, 0, bufs, QSIZE);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert_uint_eq(chain.readable.left + chain.writable.left, 16 * QSIZE);
	start(F_IND);
	driver_add_indirect(&d, 0, bufs, QSIZE + 1);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vq->broken, "longer than the queue"));
}
END_TEST

START_TEST(test_lies)
{
	uint64_t ram = DRIVER_RAM + DRIVER_RAM_HIGH, buf = DRIVER_HEAP, table;

	table = driver_alloc(&d, 64);
	refused(QSIZE, "head");
	refused(0xffff, "head");
	desc(1, buf, 16, NEXT, QSIZE);
	refused(1, "next");
	desc(1, buf, 16, NEXT, 0xffff);
	refused(1, "next");
	desc(1, buf, 16, NEXT, 1);
	refused(1, "longer than the queue");
	desc(1, buf, 0, NEXT, 1); /* empty, so without any segments */
	refused(1, "longer than the queue");
	desc(1, buf, 16, NEXT, 2);
	desc(2, buf, 16, WRITE | NEXT, 3);
	desc(3, buf, 16, 0, 0);
	refused(1, "readable");
	desc(1, ram, 1, 0, 0);
	refused(1, "buffer");
	desc(1, ram - 1, 2, WRITE, 0);
	refused(1, "buffer");
	desc(1, UINT64_MAX, 1, 0, 0);
	refused(1, "buffer");
	desc(1, UINT64_MAX - 1, 0xffffffff, 0, 0);
	refused(1, "buffer");
	desc(1, 0, 0xffffffff, 0, 0);
	refused(1, "buffer");
	desc(1, table, 16, INDIR | NEXT, 2);
	refused(1, "next one");
	desc(1, table, 0, INDIR, 0);
	refused(1, "length");
	desc(1, table, 15, INDIR, 0);
	refused(1, "length");
	desc(1, table, 0xfffffff0, INDIR, 0);
	refused(1, "table");
	desc(1, ram - 16, 32, INDIR, 0);
	refused(1, "table");
	*(struct vring_desc *)driver_ptr(&d, table, 16) =
		(struct vring_desc){ table, 16, INDIR, 0 };
	desc(1, table, 16, INDIR, 0);
	refused(1, "another");
	/* The descriptor table as an indirect one, whose first refers to itself: no end once. */
	desc(0, vq->desc, 16 * QSIZE, INDIR, 0);
	refused(0, "another");
	*(struct vring_desc *)driver_ptr(&d, table, 16) = (struct vring_desc){ buf, 16, NEXT, 1 };
	desc(1, table, 16, INDIR, 0);
	refused(1, "next");
	/* Not negotiated. */
	start(F_EVT);
	desc(1, table, 16, INDIR, 0);
	ck_assert_int_eq(pop(1), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vq->broken, "negotiated"));
}
END_TEST

/* More than 4 GiB in one chain: the same megabytes again and again. */
START_TEST(test_sum)
{
	struct gmem_config cfg = { .size = 1ULL << 30 };
	struct err err = ERR_INIT;
	struct gmem big;
	struct virtqueue *mine = vq;
	struct virtqueue_chain c;

	ck_assert_int_eq(gmem_init(&big, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&big, 0, cfg.size, &err), 0);
	mine->desc = 0x1000;
	mine->driver = 0x2000;
	mine->device = 0x3000;
	ck_assert_int_eq(virtqueue_start(mine, &big, 0, false), 0);
	for (unsigned last = 0; last < 2; last++) {
		struct vring_desc *t = gmem_wptr(&big, 0x1000, 16 * QSIZE);
		uint16_t *avail = gmem_wptr(&big, 0x2000, 16);

		for (unsigned i = 0; i < 3; i++)
			t[i] = (struct vring_desc){ 0, 1U << 30, NEXT | (i > 1 ? WRITE : 0),
						    (uint16_t)(i + 1) };
		t[3] = (struct vring_desc){ 0, (1U << 30) - 1, NEXT | WRITE, 4 };
		t[4] = (struct vring_desc){ 0, last, WRITE, 0 };
		avail[1]++;
		ck_assert_int_eq(virtqueue_pop(mine, &c, iov), last == 0 ? 1 : -EINVAL);
		if (last == 0)
			ck_assert_uint_eq(c.readable.left + c.writable.left, UINT32_MAX);
	}
	ck_assert_ptr_nonnull(strstr(mine->broken, "4 GiB"));
	virtqueue_reset(mine);
	gmem_fini(&big);
}
END_TEST

START_TEST(test_avail_index)
{
	struct driver_buf buf = { DRIVER_HEAP, 16, false };

	/* All of it is fine, one more is not. */
	for (unsigned i = 0; i < QSIZE; i++)
		driver_add(&d, 0, &buf, 1);
	for (unsigned i = 0; i < QSIZE; i++)
		ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 0);
	/* All are out: it has none left to give, whatever the heads. */
	ck_assert_int_eq(pop(0), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vq->broken, "available index"));
	start(0);
	dq->avail->idx = QSIZE + 1;
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), -EINVAL);
	start(0);
	dq->avail->idx = 0xffff; /* backwards */
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), -EINVAL);
}
END_TEST

/* Buffers across the border of two regions; empty buffers. */
START_TEST(test_split)
{
	char text[9] = "";

	ck_assert_int_eq(gmem_write(&d.mem, DRIVER_RAM - 3, "borderes", 8), 0);
	driver_add(&d, 0,
		   (struct driver_buf[]){ { DRIVER_RAM - 3, 8, false },
					  { 0xdead000000, 0, false },
					  { DRIVER_RAM - 1, 2, true },
					  { 0, 0, true } },
		   4);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert_uint_eq(chain.readable.n, 2);
	ck_assert_uint_eq(chain.readable.iov[0].iov_len, 3);
	ck_assert_uint_eq(chain.readable.iov[1].iov_len, 5);
	ck_assert_uint_eq(chain.writable.n, 2);
	ck_assert_uint_eq(virtqueue_read(&chain.readable, text, 8), 8);
	ck_assert_str_eq(text, "borderes");
	virtqueue_put(vq, chain.head, 0);

	/* More cuts than there are regions: it would not fit what devices provide. */
	start(F_IND);
	for (unsigned i = 0; i < QSIZE; i++)
		desc(i, DRIVER_RAM - 3, 8, i + 1 < QSIZE ? NEXT : 0, (uint16_t)(i + 1));
	ck_assert_int_eq(pop(0), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vq->broken, "borders"));
}
END_TEST

/* What the guest writes after the pop does not matter. */
START_TEST(test_read_once)
{
	uint64_t gpa = driver_data(&d, "x", 1);

	driver_add(&d, 0, &(struct driver_buf){ gpa, 1, true }, 1);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	desc(0, UINT64_MAX, 0xffffffff, INDIR, 0xffff);
	dq->avail->ring[0] = 0xffff;
	ck_assert_uint_eq(virtqueue_write(&chain.writable, "yz", 2), 1);
	ck_assert_mem_eq(driver_ptr(&d, gpa, 1), "y", 1);
}
END_TEST

/* 2.7: size, alignment, RAM. */
START_TEST(test_start)
{
	static const struct {
		uint64_t desc, driver, device;
		uint16_t size;
		int result;
	} t[] = {
		{ 0x1000, 0x2000, 0x3000, 16, 0 },
		{ 0x1000, 0x2000, 0x3000, 1, 0 },
		{ 0x1010, 0x2002, 0x3004, 8, 0 },
		{ 0x1000, 0x2000, 0x3000, 0, -EINVAL },
		{ 0x1000, 0x2000, 0x3000, 32, -EINVAL },
		{ 0x1000, 0x2000, 0x3000, 12, -EINVAL },
		{ 0x1000, 0x2000, 0x3000, 0xffff, -EINVAL },
		{ 0x1008, 0x2000, 0x3000, 16, -EINVAL },
		{ 0x1000, 0x2001, 0x3000, 16, -EINVAL },
		{ 0x1000, 0x2000, 0x3002, 16, -EINVAL },
		{ DRIVER_RAM, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2000, 16, 0 },
		{ DRIVER_RAM - 256, 0x2000, 0x3000, 16, 0 },
		{ DRIVER_RAM - 240, 0x2000, 0x3000, 16, -EINVAL },
		{ 0x1000, DRIVER_RAM - 38, 0x3000, 16, 0 },
		{ 0x1000, DRIVER_RAM - 36, 0x3000, 16, -EINVAL },
		{ 0x1000, 0x2000, DRIVER_RAM - 136, 16, 0 },
		{ 0x1000, 0x2000, DRIVER_RAM - 132, 16, -EINVAL },
		{ -16ULL, 0x2000, 0x3000, 16, -EINVAL },
		{ 0x1000, -2ULL, 0x3000, 16, -EINVAL },
		{ 0x1000, 0x2000, -4ULL, 16, -EINVAL },
	};
	struct virtqueue q = { .max_size = 16 };

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		virtqueue_reset(&q);
		ck_assert_uint_eq(q.size, 16);
		q.size = t[i].size;
		q.desc = t[i].desc;
		q.driver = t[i].driver;
		q.device = t[i].device;
		ck_assert_msg(virtqueue_start(&q, &d.mem, 0, false) == t[i].result, "row %u", i);
		ck_assert(q.started == (t[i].result == 0));
		ck_assert((q.broken != NULL) == (t[i].result != 0));
	}
	/* Not started: nothing happens. */
	virtqueue_reset(&q);
	ck_assert_int_eq(virtqueue_pop(&q, &chain, iov), 0);
	ck_assert(virtqueue_empty(&q));
	virtqueue_put(&q, 0, 0);
	virtqueue_publish(&q);
	virtqueue_disable_kicks(&q);
	ck_assert(!virtqueue_enable_kicks(&q));
	ck_assert(!virtqueue_wants_interrupt(&q));
}
END_TEST

/* Many times round, the indices wrapping; several out, put back in another order. */
START_TEST(test_wrap)
{
	uint64_t gpa = driver_alloc(&d, 64);
	struct driver_buf buf = { gpa, 64, true };
	uint16_t heads[5], id;
	uint32_t len;

	for (unsigned i = 0; i < 70000 / 5; i++) {
		for (unsigned k = 0; k < 5; k++)
			heads[k] = driver_add(&d, 0, &buf, 1);
		for (unsigned k = 0; k < 5; k++) {
			ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
			ck_assert_uint_eq(chain.head, heads[k]);
		}
		virtqueue_unpop(vq, 2);
		for (unsigned k = 3; k < 5; k++) {
			ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
			ck_assert_uint_eq(chain.head, heads[k]);
		}
		for (unsigned k = 5; k-- > 0;)
			virtqueue_put(vq, heads[k], i + k);
		ck_assert(!driver_used(&d, 0, NULL, NULL));
		virtqueue_publish(vq);
		for (unsigned k = 5; k-- > 0;) {
			ck_assert(driver_used(&d, 0, &id, &len));
			ck_assert_uint_eq(id, heads[k]);
			ck_assert_uint_eq(len, i + k);
		}
		ck_assert(!driver_used(&d, 0, NULL, NULL));
	}
}
END_TEST

static void give_back(unsigned n)
{
	while (n-- > 0) {
		driver_add(&d, 0, &(struct driver_buf){ DRIVER_HEAP, 1, false }, 1);
		ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
		virtqueue_put(vq, chain.head, 0);
		virtqueue_publish(vq);
		ck_assert(driver_used(&d, 0, NULL, NULL));
	}
}

START_TEST(test_interrupts)
{
	/* EVENT_IDX: when the entry asked for is among those published since. */
	ck_assert(!virtqueue_wants_interrupt(vq));
	driver_want_interrupt(&d, 0, 0);
	give_back(1);
	ck_assert(virtqueue_wants_interrupt(vq));
	ck_assert(!virtqueue_wants_interrupt(vq));
	driver_want_interrupt(&d, 0, 3);
	give_back(2);
	ck_assert(!virtqueue_wants_interrupt(vq)); /* 1 and 2 */
	give_back(1);
	ck_assert(virtqueue_wants_interrupt(vq));
	driver_no_interrupts(&d, 0, true); /* the flag means nothing now: 2.7.7.1 */
	driver_want_interrupt(&d, 0, 5);
	give_back(4);
	ck_assert(virtqueue_wants_interrupt(vq));
	driver_want_interrupt(&d, 0, 7); /* passed already */
	give_back(1);
	ck_assert(!virtqueue_wants_interrupt(vq));

	/* The flag. */
	start(0);
	give_back(1);
	ck_assert(virtqueue_wants_interrupt(vq));
	ck_assert(!virtqueue_wants_interrupt(vq));
	driver_no_interrupts(&d, 0, true);
	give_back(3);
	ck_assert(!virtqueue_wants_interrupt(vq));
	driver_no_interrupts(&d, 0, false);
	ck_assert(!virtqueue_wants_interrupt(vq)); /* that was decided */
	give_back(1);
	ck_assert(virtqueue_wants_interrupt(vq));
}
END_TEST

START_TEST(test_kicks)
{
	struct driver_buf buf = { DRIVER_HEAP, 1, false };

	for (unsigned event = 0; event < 2; event++) {
		start(event ? F_EVT : 0);
		/* Wanted at first. */
		driver_add(&d, 0, &buf, 1);
		ck_assert(driver_kick(&d, 0));
		virtqueue_disable_kicks(vq);
		ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
		driver_add(&d, 0, &buf, 1);
		ck_assert(!driver_kick(&d, 0));
		/* Somebody came meanwhile. */
		ck_assert(virtqueue_enable_kicks(vq));
		virtqueue_disable_kicks(vq);
		ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
		ck_assert(!virtqueue_enable_kicks(vq));
		driver_add(&d, 0, &buf, 1);
		ck_assert(driver_kick(&d, 0));
	}
}
END_TEST

START_TEST(test_cursor)
{
	uint64_t gpa = driver_data(&d, "abcdefghij", 10);
	struct iovec segs[4], tail_iov[4];
	struct virtqueue_cursor *c = &chain.readable, tail;
	char text[16];

	driver_add(&d, 0,
		   (struct driver_buf[]){
			   { gpa, 3, false }, { gpa + 3, 3, false }, { gpa + 6, 4, false } },
		   3);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	ck_assert_uint_eq(virtqueue_write(&chain.writable, "x", 1), 0);
	ck_assert_uint_eq(virtqueue_skip(c, 1), 1);
	ck_assert_uint_eq(virtqueue_segments(c, 4, segs, 4), 2);
	ck_assert_uint_eq(segs[0].iov_len, 2);
	ck_assert_uint_eq(segs[1].iov_len, 2);
	ck_assert_mem_eq(segs[1].iov_base, "de", 2);
	ck_assert_uint_eq(virtqueue_segments(c, 5, segs, 2), 2);
	ck_assert_uint_eq(virtqueue_segments(c, 6, segs, 2), 0); /* three */
	ck_assert_uint_eq(virtqueue_segments(c, 100, segs, 3), 3);
	ck_assert_uint_eq(virtqueue_segments(c, 0, segs, 3), 0);
	ck_assert_uint_eq(c->left, 9);

	/* Off the middle of a segment. */
	virtqueue_split_tail(c, 6, &tail, tail_iov);
	ck_assert_uint_eq(c->left, 3);
	ck_assert_uint_eq(tail.left, 6);
	ck_assert_uint_eq(virtqueue_read(c, text, 16), 3);
	ck_assert_mem_eq(text, "bcd", 3);
	ck_assert_uint_eq(c->done, 4);
	ck_assert_uint_eq(c->n, 0);
	/* At a border. */
	virtqueue_split_tail(&tail, 4, c, segs);
	ck_assert_uint_eq(virtqueue_read(&tail, text, 16), 2);
	ck_assert_mem_eq(text, "ef", 2);
	ck_assert_uint_eq(c->n, 1);
	/* Nothing, and all, and more than there is. */
	virtqueue_split_tail(c, 0, &tail, tail_iov);
	ck_assert_uint_eq(tail.n, 0);
	ck_assert_uint_eq(c->left, 4);
	virtqueue_split_tail(c, 5, &tail, tail_iov);
	ck_assert_uint_eq(c->n, 0);
	ck_assert_uint_eq(c->left, 0);
	ck_assert_uint_eq(virtqueue_read(&tail, text, 16), 4);
	ck_assert_mem_eq(text, "ghij", 4);
	ck_assert_uint_eq(virtqueue_skip(&tail, 1), 0);
	ck_assert_uint_eq(virtqueue_skip(c, SIZE_MAX), 0);
}
END_TEST

static bool dirty(uint64_t gpa)
{
	uint64_t bits[DRIVER_RAM / GMEM_PAGE_SIZE / 64];
	unsigned region = gpa >= DRIVER_RAM;
	uint64_t page = (gpa - region * DRIVER_RAM) / GMEM_PAGE_SIZE;

	gmem_dirty_fetch(&d.mem, region, bits);
	return (bits[page / 64] >> page % 64 & 1) != 0;
}

/* Every byte we write is marked after it was written. */
START_TEST(test_dirty)
{
	uint64_t used = vq->device, buf = DRIVER_RAM - 0x1800;
	struct err err = ERR_INIT;

	ck_assert_int_eq(gmem_dirty_start(&d.mem, &err), 0);
	driver_add(&d, 0,
		   (struct driver_buf[]){ { buf - 0x3000, 8, false }, { buf, 0x3000, true } }, 2);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	(void)dirty(0);
	ck_assert_uint_eq(virtqueue_skip(&chain.readable, 8), 8);
	ck_assert(!dirty(buf - 0x3000));
	ck_assert_uint_eq(virtqueue_write(&chain.writable, "x", 1), 1);
	ck_assert(dirty(buf));
	ck_assert(!dirty(buf));
	ck_assert_uint_eq(virtqueue_skip(&chain.writable, 0x1000), 0x1000);
	ck_assert(dirty(buf + 0x1000));
	ck_assert(!dirty(DRIVER_RAM));
	ck_assert_uint_eq(virtqueue_zero(&chain.writable, 0x2000), 0x1fff);
	ck_assert(dirty(DRIVER_RAM));
	ck_assert(!dirty(used));
	virtqueue_put(vq, chain.head, 1);
	ck_assert(dirty(used));
	virtqueue_publish(vq);
	ck_assert(dirty(used));
	virtqueue_enable_kicks(vq);
	ck_assert(dirty(used));
	gmem_dirty_stop(&d.mem);
	ck_assert(!dirty(used));
	ck_assert_uint_eq(virtqueue_write(&chain.writable, "x", 1), 0);
}
END_TEST

/* Going on where a saved queue was. */
START_TEST(test_resume)
{
	give_back(5);
	driver_add(&d, 0, &(struct driver_buf){ DRIVER_HEAP, 1, false }, 1);
	vq->started = false;
	ck_assert_int_eq(virtqueue_start(vq, &d.mem, F_EVT, true), 0);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 1);
	virtqueue_put(vq, chain.head, 77);
	virtqueue_publish(vq);
	ck_assert_uint_eq(dq->used->idx, 6);
	ck_assert_uint_eq(dq->used->ring[5].len, 77);
	ck_assert_int_eq(virtqueue_pop(vq, &chain, iov), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtqueue");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_direct);
	tcase_add_test(tc, test_indirect);
	tcase_add_test(tc, test_length);
	tcase_add_test(tc, test_lies);
	tcase_add_test(tc, test_sum);
	tcase_add_test(tc, test_avail_index);
	tcase_add_test(tc, test_split);
	tcase_add_test(tc, test_read_once);
	tcase_add_test(tc, test_start);
	tcase_add_test(tc, test_wrap);
	tcase_add_test(tc, test_interrupts);
	tcase_add_test(tc, test_kicks);
	tcase_add_test(tc, test_cursor);
	tcase_add_test(tc, test_dirty);
	tcase_add_test(tc, test_resume);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
