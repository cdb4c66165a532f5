// SPDX-License-Identifier: Apache-2.0
/* Persistent memory: where it is, flushes, what is wrong with files and requests. */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_pmem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/aio.h"
#include "devices/filelock.h"
#include "tests/unit/device_util.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/base/log.h"

#define MIB  (1ULL << 20)
#define AT   (1ULL << 32) /* where the machine here puts it */
#define SIZE (2 * MIB)

/* As devices/virtio_pmem.c has it. */
struct pmem_options {
	char *path;
	bool ro;
	char *id;
};

static struct driver d;
static const struct virtio_ops *ops;
static struct virtio_device *vdev;
static struct err err;
static char path[64];
static int fd;

/* As arch_add_memory() */
static int add_memory(const struct virtio_host *host, int file, uint64_t size, bool ro,
		      uint64_t *gpa, struct err *e)
{
	*gpa = AT * host->mem->nregions;
	return gmem_add_file(host->mem, *gpa, size, file, ro, e);
}

static void setup(void)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++)
		if (virtio_kind(i)->id == VIRTIO_ID_PMEM)
			ops = virtio_kind(i);
	ck_assert_ptr_nonnull(ops);
	log_set_fd(-1);
	driver_init(&d);
	d.host.add_memory = add_memory;
	strcpy(path, "/tmp/pmem.XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
}

static void teardown(void)
{
	if (vdev != NULL) {
		driver_detach(&d);
		ops->destroy(vdev);
	}
	driver_fini(&d);
	close(fd);
	unlink(path);
}

static void make(bool ro)
{
	struct pmem_options o = { path, ro, NULL };

	vdev = ops->create(&o, 1, 0, &d.host, &err);
	ck_assert_msg(vdev != NULL, "%s", err.msg);
	driver_attach(&d, vdev);
	driver_start(&d, 1ULL << VIRTIO_RING_F_EVENT_IDX);
}

static void refuse(bool ro, const char *why)
{
	struct pmem_options o = { path, ro, NULL };

	err = (struct err)ERR_INIT;
	ck_assert_ptr_null(ops->create(&o, 1, 0, &d.host, &err));
	ck_assert_msg(strstr(err.msg, why) != NULL, "%s", err.msg);
	ck_assert_msg(strncmp(err.msg, "pmem /tmp/pmem.", 15) == 0, "%s", err.msg);
}

/* Add a request; where its answer comes. */
static uint64_t add(uint32_t type)
{
	uint64_t gpa = driver_data(&d, &type, sizeof(type));
	uint64_t to = driver_data(&d, "\xff\xff\xff\xff", 4);

	driver_add(&d, 0, (struct driver_buf[]){ { gpa, 4, false }, { to, 4, true } }, 2);
	return to;
}

static uint32_t answer_at(uint64_t gpa)
{
	uint32_t ret;

	ck_assert_int_eq(gmem_read(&d.mem, gpa, &ret, 4), 0);
	return ret;
}

static uint32_t ask(uint32_t type)
{
	uint64_t to = add(type);
	uint32_t len;

	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, &len);
	ck_assert_uint_eq(len, 4);
	return answer_at(to);
}

START_TEST(is_memory)
{
	struct virtio_pmem_config config;
	char data[6];

	ck_assert_int_eq(pwrite(fd, "before", 6, MIB), 6);
	make(false);
	driver_config_read(&d, 0, &config, sizeof(config));
	ck_assert_uint_eq(config.start, 2 * AT);
	ck_assert_uint_eq(config.size, SIZE);
	ck_assert_int_eq(gmem_read(&d.mem, config.start + MIB, data, 6), 0);
	ck_assert_mem_eq(data, "before", 6);
	ck_assert_int_eq(gmem_write(&d.mem, config.start + MIB, "after ", 6), 0);
	ck_assert_int_eq(gmem_read(&d.mem, config.start + SIZE - 3, data, 6), -EFAULT);
	ck_assert_uint_eq(ask(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	ck_assert_int_eq(pread(fd, data, 6, MIB), 6);
	ck_assert_mem_eq(data, "after ", 6);
	/* No RAM: not cleared with it, not given back, not what a kernel is put into. */
	ck_assert_int_eq(gmem_reset(&d.mem, &err), 0);
	ck_assert_int_eq(gmem_discard(&d.mem, config.start, SIZE), -EFAULT);
	ck_assert_int_eq(pread(fd, data, 6, MIB), 6);
	ck_assert_mem_eq(data, "after ", 6);
	ck_assert_uint_eq(gmem_top_below(&d.mem, UINT64_MAX), DRIVER_RAM + DRIVER_RAM_HIGH);
	ck_assert_uint_eq(gmem_end(&d.mem), config.start + SIZE);
}
END_TEST

/* Requests may lie in it; the answer to one cannot, where it is read-only. */
START_TEST(buffers_in_it)
{
	make(false);
	ck_assert_int_eq(gmem_write(&d.mem, 2 * AT + 8, "\0\0\0\0\x7f\0\0\0", 8), 0);
	driver_add(&d, 0,
		   (struct driver_buf[]){ { 2 * AT + 8, 4, false }, { 2 * AT + 12, 4, true } }, 2);
	driver_kick(&d, 0);
	driver_wait(&d, 0, NULL, NULL);
	ck_assert_uint_eq(answer_at(2 * AT + 12), 0);
}
END_TEST

START_TEST(read_only)
{
	char data[4];

	ck_assert_int_eq(fchmod(fd, 0400), 0);
	make(true);
	ck_assert_int_eq(gmem_read(&d.mem, 2 * AT, data, 4), 0);
	ck_assert_int_eq(gmem_write(&d.mem, 2 * AT, "no", 2), -EFAULT);
	ck_assert_ptr_null(gmem_wptr(&d.mem, 2 * AT, 1));
	ck_assert_uint_eq(ask(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	driver_add(&d, 0, (struct driver_buf[]){ { 2 * AT, 4, false }, { 2 * AT + 4, 4, true } },
		   2);
	driver_kick(&d, 0);
	driver_run(&d);
	ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

START_TEST(flushes)
{
	uint64_t to[30];

	make(false);
	ck_assert_uint_eq(ask(1), 1);
	ck_assert_uint_eq(ask(0xffffffff), 1);
	/* Many at once, another kind of request among them */
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 30; i++)
			to[i] = add(i == 7 ? 5 : VIRTIO_PMEM_REQ_TYPE_FLUSH);
		driver_kick(&d, 0);
		for (unsigned i = 0; i < 30; i++)
			driver_wait(&d, 0, NULL, NULL);
		for (unsigned i = 0; i < 30; i++)
			ck_assert_uint_eq(answer_at(to[i]), i == 7);
	}
	ck_assert_uint_gt(atomic_load(&d.queue[0].interrupts), 0);
	ck_assert_uint_eq(driver_latencies(&d), 152);
}
END_TEST

/* What is under way when the driver resets is never answered; quiescing waits for it. */
START_TEST(reset_and_quiesce)
{
	uint64_t to[20];

	make(false);
	for (unsigned i = 0; i < 20; i++)
		to[i] = add(VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_notify(&d, 0);
	ck_assert_int_eq(loop_run_once(d.loop, 0), 0);
	driver_set_status(&d, 0);
	driver_run(&d);
	driver_start(&d, 0);
	for (unsigned i = 0; i < 20; i++)
		to[i] = add(VIRTIO_PMEM_REQ_TYPE_FLUSH);
	driver_notify(&d, 0);
	ck_assert_int_eq(loop_run_once(d.loop, 0), 0);
	virtio_quiesce(vdev);
	ck_assert_uint_eq(vdev->queue[0].vq.next_avail, vdev->queue[0].vq.next_used);
	virtio_resume(vdev);
	for (unsigned i = 0; i < 20; i++) {
		driver_wait(&d, 0, NULL, NULL);
		ck_assert_uint_eq(answer_at(to[i]), 0);
	}
	ck_assert_uint_eq(ask(0), 0);
}
END_TEST

START_TEST(malformed)
{
	uint64_t gpa;

	make(false);
	gpa = driver_alloc(&d, 64);
	for (unsigned i = 0; i < 4; i++) {
		const struct driver_buf bufs[4][2] = {
			{ { gpa, 3, false }, { gpa + 8, 4, true } },
			{ { gpa, 4, false }, { gpa + 8, 3, true } },
			{ { gpa, 4, false }, { gpa + 8, 4, false } },
			{ { gpa, 4, true }, { gpa + 8, 4, true } },
		};

		driver_add(&d, 0, bufs[i], 2);
		driver_kick(&d, 0);
		driver_run(&d);
		ck_assert_uint_ne(driver_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
		driver_start(&d, 0);
		ck_assert_uint_eq(ask(0), 0);
	}
	/* In pieces, and with more room than needed: fine, and only 4 bytes are said to be used. */
	for (unsigned i = 0; i < 2; i++) {
		uint32_t len;

		gmem_zero(&d.mem, gpa, 64);
		driver_add(&d, 0,
			   (struct driver_buf[]){ { gpa, 1, false },
						  { gpa + 1, 3 + i, false },
						  { gpa + 16, 2, true },
						  { gpa + 32, 2 + i, true } },
			   4);
		driver_kick(&d, 0);
		driver_wait(&d, 0, NULL, &len);
		ck_assert_uint_eq(len, 4);
	}
}
END_TEST

START_TEST(files)
{
	struct err e;
	int other;

	ck_assert_int_eq(ftruncate(fd, 0), 0);
	refuse(false, "is empty");
	ck_assert_int_eq(ftruncate(fd, SIZE + 4096), 0);
	refuse(false, "2101248 bytes are not a multiple of 2 MiB");
	refuse(true, "truncate -s %2M FILE");
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	/* In use: written, or read. */
	other = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(other, 0);
	ck_assert_int_eq(file_lock(other, true, "", &e), 0);
	refuse(false, "is in use");
	refuse(true, "is being written");
	ck_assert_int_eq(file_lock(other, false, "", &e), 0);
	refuse(false, "let all only read it (ro)");
	make(true);
	file_unlock(other);
	ck_assert_int_eq(file_lock(other, true, "", &e), -EBUSY);
	driver_detach(&d);
	ops->destroy(vdev);
	vdev = NULL;
	ck_assert_int_eq(file_lock(other, true, "", &e), 0);
	close(other);
	/* Nowhere to put it. */
	d.host.add_memory = NULL;
	refuse(false, "takes no files");
	d.host.add_memory = add_memory;
	unlink(path);
	refuse(false, "cannot open: No such file");
	ck_assert_int_eq(mkdir(path, 0700), 0);
	refuse(false, "is neither a file nor a block device");
	rmdir(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	refuse(true, "is neither a file nor a block device");
	ck_assert_uint_eq(ops->option.size, sizeof(struct pmem_options));
}
END_TEST

static int save(void *dev, struct state *st)
{
	return virtio_state(dev, st);
}

START_TEST(state)
{
	size_t len;
	void *data;

	make(false);
	virtio_quiesce(vdev);
	data = test_save(save, vdev, &len);
	ck_assert_int_eq(test_load(save, vdev, data, len), 0);
	virtio_resume(vdev);
	driver_run(&d);
	ck_assert_uint_eq(ask(0), 0);
	/* A machine where it is elsewhere is another one. */
	driver_detach(&d);
	ops->destroy(vdev);
	make(false);
	ck_assert_int_lt(test_load(save, vdev, data, len), 0);
	virtio_resume(vdev);
	free(data);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("virtio_pmem");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, is_memory);
	tcase_add_test(tc, buffers_in_it);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, flushes);
	tcase_add_test(tc, reset_and_quiesce);
	tcase_add_test(tc, malformed);
	tcase_add_test(tc, files);
	tcase_add_test(tc, state);
	suite_add_tcase(s, tc);
	return test_run(s);
}
