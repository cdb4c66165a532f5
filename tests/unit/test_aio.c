// SPDX-License-Identifier: Apache-2.0
/* File I/O that does not block: the same by io_uring and by threads. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/aio.h"
#include "tests/unit/device_util.h"
#include "vmm/base/util.h"

#define BLOCK 4096
#define MANY  1000

struct request {
	struct aio_req aio;
	struct iovec iov[2];
	char data[BLOCK];
	int64_t result;
	unsigned times; /* it was done */
	unsigned again; /* times it queues itself again */
};

static struct aio *aio;
static struct loop *loop;
static struct err err;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int fds[3]; /* a file, the same read-only, /dev/full */
static struct request *reqs;
static unsigned flags; /* of this run */

static void ready(void *owner)
{
	ck_assert_ptr_eq(owner, &aio);
	pthread_mutex_lock(&lock);
	aio_run(aio);
	pthread_mutex_unlock(&lock);
}

static void done(struct aio_req *req, int64_t result)
{
	struct request *r = container_of(req, struct request, aio);

	r->result = result;
	r->times++;
	if (r->again > 0) {
		r->again--;
		r->aio.offset += BLOCK;
		aio_queue(aio, &r->aio);
	}
}

static void open_all(unsigned how)
{
	char path[] = "/tmp/vmm-test-aio-XXXXXX";

	flags = how;
	loop = loop_new(&err);
	fds[0] = mkostemp(path, O_CLOEXEC);
	ck_assert_int_ge(fds[0], 0);
	fds[1] = open(path, O_RDONLY | O_CLOEXEC);
	fds[2] = open("/dev/full", O_RDWR | O_CLOEXEC);
	unlink(path);
	aio = aio_new(fds, 3, flags, NULL, ready, &aio, &err);
	ck_assert_msg(aio != NULL, "%s", err.msg);
	ck_assert_int_eq(aio_watch(aio, loop, &err), 0);
	ck_assert_int_eq(aio_watch(aio, loop, &err), 0);
	if (how == AIO_THREADS)
		ck_assert(!aio_is_ring(aio));
	reqs = calloc(MANY, sizeof(*reqs));
	ck_assert_ptr_nonnull(reqs);
}

static void close_all(void)
{
	aio_free(aio);
	loop_free(loop);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	free(reqs);
}

static struct request *queue(unsigned i, enum aio_op op, unsigned file, uint64_t offset)
{
	struct request *r = &reqs[i];

	r->iov[0] = (struct iovec){ r->data, BLOCK };
	r->aio = (struct aio_req){ .op = op,
				   .file = file,
				   .offset = offset,
				   .len = BLOCK,
				   .iov = r->iov,
				   .niov = 1,
				   .done = done };
	r->times = 0;
	aio_queue(aio, &r->aio);
	return r;
}

/* By the loop alone, as a device does it. */
static void run_loop(void)
{
	pthread_mutex_lock(&lock);
	aio_run(aio);
	while (aio_pending(aio) > 0) {
		pthread_mutex_unlock(&lock);
		ck_assert_int_eq(loop_run_once(loop, 10000), 0);
		pthread_mutex_lock(&lock);
	}
	pthread_mutex_unlock(&lock);
}

static int64_t one(enum aio_op op, unsigned file, uint64_t offset)
{
	struct request *r = queue(0, op, file, offset);

	run_loop();
	ck_assert_uint_eq(r->times, 1);
	return r->result;
}

static const unsigned ways[] = { 0, AIO_THREADS };

START_TEST(operations)
{
	char back[BLOCK];

	open_all(ways[_i]);
	memset(reqs[0].data, 'w', BLOCK);
	ck_assert_int_eq(one(AIO_WRITE, 0, 0), BLOCK);
	memset(reqs[0].data, 'd', BLOCK);
	ck_assert_int_eq(one(AIO_WRITE_DURABLE, 0, BLOCK), BLOCK);
	ck_assert_int_eq(pread(fds[0], back, BLOCK, BLOCK), BLOCK);
	ck_assert_int_eq(back[7], 'd');
	ck_assert_int_eq(one(AIO_SYNC, 0, 0), 0);
	ck_assert_int_eq(one(AIO_READ, 1, 0), BLOCK);
	ck_assert_int_eq(reqs[0].data[BLOCK - 1], 'w');
	ck_assert_int_eq(one(AIO_READ, 1, 2 * BLOCK - 100), 100);
	ck_assert_int_eq(one(AIO_READ, 1, 2 * BLOCK), 0);
	ck_assert_int_eq(one(AIO_PUNCH, 0, 0), 0);
	ck_assert_int_eq(one(AIO_READ, 0, 0), BLOCK);
	ck_assert_int_eq(reqs[0].data[BLOCK - 1], 0);
	/* Not every file system can; that is told then. */
	ck_assert(one(AIO_ZERO, 0, BLOCK) == 0 || reqs[0].result == -EOPNOTSUPP);
	if (reqs[0].result == 0) {
		ck_assert_int_eq(one(AIO_READ, 0, BLOCK), BLOCK);
		ck_assert_int_eq(reqs[0].data[0], 0);
	}
	close_all();
}
END_TEST

/* A descriptor of the request's own, and what comes with it. */
START_TEST(own_file)
{
	struct request *r;
	char back[BLOCK];
	struct stat st;
	int fd;

	open_all(ways[_i]);
	fd = dup(fds[0]);
	for (unsigned i = 0; i < 2; i++) {
		r = queue(i, AIO_WRITE, AIO_FD, 0);
		memset(r->data, 'a' + (int)i, BLOCK);
		r->aio.fd = fd;
		r->aio.flags = RWF_APPEND;
		run_loop();
		ck_assert_int_eq(r->result, BLOCK);
	}
	ck_assert_int_eq(pread(fd, back, BLOCK, BLOCK), BLOCK);
	ck_assert_int_eq(back[0], 'b');
	r = queue(0, AIO_READ, AIO_FD, BLOCK - 1);
	r->aio.fd = fd;
	run_loop();
	ck_assert_int_eq(r->result, BLOCK);
	ck_assert_mem_eq(r->data, "ab", 2);
	r = queue(0, AIO_FSYNC, AIO_FD, 0);
	r->aio.fd = fd;
	run_loop();
	ck_assert_int_eq(r->result, 0);
	r = queue(0, AIO_FALLOCATE, AIO_FD, 2 * BLOCK);
	r->aio.fd = fd;
	run_loop();
	ck_assert(r->result == 0 || r->result == -EOPNOTSUPP);
	if (r->result == 0) {
		ck_assert_int_eq(fstat(fd, &st), 0);
		ck_assert_int_eq(st.st_size, 3 * BLOCK);
	}
	r = queue(0, AIO_FALLOCATE, AIO_FD, 0);
	r->aio.fd = fd;
	r->aio.flags = FALLOC_FL_PUNCH_HOLE; /* needs KEEP_SIZE */
	run_loop();
	ck_assert_int_eq(r->result, -EOPNOTSUPP);
	close(fd);
	r = queue(0, AIO_READ, AIO_FD, 0);
	r->aio.fd = fd;
	run_loop();
	ck_assert_int_eq(r->result, -EBADF);
	close_all();
}
END_TEST

START_TEST(vectors)
{
	struct request *r;

	open_all(ways[_i]);
	memcpy(reqs[0].data, "abcdef", 6);
	r = queue(0, AIO_WRITE, 0, 10);
	r->iov[0] = (struct iovec){ r->data + 3, 3 };
	r->iov[1] = (struct iovec){ r->data, 3 };
	r->aio.niov = 2;
	run_loop();
	ck_assert_int_eq(r->result, 6);
	r = queue(0, AIO_READ, 0, 10);
	r->iov[0] = (struct iovec){ r->data, 2 };
	r->iov[1] = (struct iovec){ r->data + 100, 10 };
	r->aio.niov = 2;
	run_loop();
	ck_assert_int_eq(r->result, 6);
	ck_assert_mem_eq(r->data, "de", 2);
	ck_assert_mem_eq(r->data + 100, "fabc", 4);
	close_all();
}
END_TEST

START_TEST(errors)
{
	open_all(ways[_i]);
	ck_assert_int_eq(one(AIO_WRITE, 1, 0), -EBADF);
	ck_assert_int_eq(one(AIO_WRITE, 2, 0), -ENOSPC);
	ck_assert_int_lt(one(AIO_PUNCH, 2, 0), 0);
	close_all();
}
END_TEST

/* More than can be in flight, from inside and from outside. */
START_TEST(many)
{
	open_all(ways[_i]);
	for (unsigned i = 0; i < MANY; i++) {
		memset(reqs[i].data, (int)i, BLOCK);
		queue(i, AIO_WRITE, 0, (uint64_t)i * BLOCK);
	}
	ck_assert_uint_eq(aio_pending(aio), MANY);
	run_loop();
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert_uint_eq(reqs[i].times, 1);
		ck_assert_int_eq(reqs[i].result, BLOCK);
		memset(reqs[i].data, 0xff, BLOCK);
		queue(i, AIO_READ, 0, (uint64_t)i * BLOCK);
	}
	run_loop();
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert_uint_eq(reqs[i].times, 1);
		ck_assert_uint_eq((uint8_t)reqs[i].data[i % BLOCK], i & 0xff);
	}
	/* One leads to the next. */
	queue(0, AIO_READ, 0, 0)->again = 99;
	run_loop();
	ck_assert_uint_eq(reqs[0].times, 100);
	ck_assert_uint_eq((uint8_t)reqs[0].data[0], 99);
	close_all();
}
END_TEST

/* What the page cache has is done when aio_run() returns: nobody has to be woken for it. */
START_TEST(at_once)
{
	open_all(0);
	if (aio_is_ring(aio)) {
		one(AIO_WRITE, 0, 0);
		queue(0, AIO_READ, 0, 0);
		aio_run(aio);
		ck_assert_uint_eq(reqs[0].times, 1);
		ck_assert_uint_eq(aio_pending(aio), 0);
	}
	close_all();
}
END_TEST

static void *waiter(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	while (aio_pending(aio) > 0)
		aio_wait(aio);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Another thread, a vCPU that resets the device, waits for what the loop has started. */
START_TEST(other_thread)
{
	pthread_t thread;

	open_all(ways[_i]);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 100; i++)
			queue(i, i % 10 == 0 ? AIO_WRITE_DURABLE : AIO_WRITE, 0, i * BLOCK);
		pthread_mutex_lock(&lock);
		aio_run(aio);
		ck_assert_int_eq(pthread_create(&thread, NULL, waiter, NULL), 0);
		pthread_mutex_unlock(&lock);
		pthread_join(thread, NULL);
		ck_assert_uint_eq(aio_pending(aio), 0);
		for (unsigned i = 0; i < 100; i++)
			ck_assert_uint_eq(reqs[i].times, 1);
		/* What the loop still thinks it saw does no harm. */
		ck_assert_int_eq(loop_run_once(loop, 0), 0);
	}
	close_all();
}
END_TEST

/* Freed with requests queued and in flight: they are waited for and not heard of. */
START_TEST(freed)
{
	unsigned before[100];

	open_all(ways[_i]);
	for (unsigned i = 0; i < 50; i++)
		queue(i, AIO_WRITE_DURABLE, 0, i * BLOCK);
	aio_run(aio);
	for (unsigned i = 50; i < 100; i++)
		queue(i, AIO_WRITE, 0, i * BLOCK);
	for (unsigned i = 0; i < 100; i++)
		before[i] = reqs[i].times;
	aio_free(aio);
	aio = NULL;
	for (unsigned i = 0; i < 100; i++)
		ck_assert_uint_eq(reqs[i].times, before[i]);
	ck_assert_uint_eq(reqs[99].times, 0);
	close_all();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("aio");
	TCase *tc = tcase_create("aio");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, operations, 0, 2);
	tcase_add_loop_test(tc, own_file, 0, 2);
	tcase_add_loop_test(tc, vectors, 0, 2);
	tcase_add_loop_test(tc, errors, 0, 2);
	tcase_add_loop_test(tc, many, 0, 2);
	tcase_add_test(tc, at_once);
	tcase_add_loop_test(tc, other_thread, 0, 2);
	tcase_add_loop_test(tc, freed, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
