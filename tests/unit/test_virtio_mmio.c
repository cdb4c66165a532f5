// SPDX-License-Identifier: Apache-2.0
/* virtio over MMIO: registers, negotiation, interrupts, eventfds, reset, state. */
#include <linux/virtio_mmio.h>
#include "devices/virtio_mmio.h"
#include "tests/unit/transport_util.h"
#include "vmm/base/log.h"

#define BASE 0xe8100000ULL
#define DONE                                                                                       \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static struct driver d;
static struct fake_virtio f;
static struct bus bus;
static struct test_line line;
static struct test_ioeventfds eventfds;
static struct virtio_mmio *mmio;
static struct err err;

static uint32_t get(unsigned reg)
{
	return bus_get(&bus, BASE + reg, 4);
}

static void set(unsigned reg, uint32_t value)
{
	bus_put(&bus, BASE + reg, value, 4);
}

static struct virtio_mmio *attach(struct fake_virtio *fake, uint64_t base)
{
	struct virtio_mmio *m =
		virtio_mmio_new(&fake->vdev, &bus, base, test_line(&line), &eventfds.chip, &err);

	ck_assert_msg(m != NULL, "%s", err.msg);
	return m;
}

static void setup(void)
{
	driver_init(&d);
	bus_init(&bus);
	test_ioeventfds_init(&eventfds);
	fake_virtio_init(&f, &d, FAKE_QUEUES);
	d.vdev = &f.vdev;
	mmio = attach(&f, BASE);
}

static void teardown(void)
{
	virtio_mmio_free(mmio);
	ck_assert_uint_eq(eventfds.n, 0);
	ck_assert_uint_eq(bus.n, 0);
	virtio_fini(&f.vdev);
	bus_fini(&bus);
	driver_fini(&d);
}

static void set_queue(unsigned q)
{
	struct test_rings r = test_rings(&d, q, 8);

	set(VIRTIO_MMIO_QUEUE_SEL, q);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), FAKE_QSIZE);
	set(VIRTIO_MMIO_QUEUE_NUM, 8);
	set(VIRTIO_MMIO_QUEUE_DESC_LOW, r.desc);
	set(VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
	set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, r.driver);
	set(VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0);
	set(VIRTIO_MMIO_QUEUE_USED_LOW, r.device);
	set(VIRTIO_MMIO_QUEUE_USED_HIGH, 0);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 1);
}

/* As a driver does (3.1.1), but only the first @steps steps. */
#define STEPS 7

static void start(unsigned steps)
{
	if (steps > 0)
		set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	if (steps > 1)
		set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	if (steps > 2) {
		set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
		set(VIRTIO_MMIO_DRIVER_FEATURES, 1 << FAKE_FEATURE);
		set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
		set(VIRTIO_MMIO_DRIVER_FEATURES, 1 << (VIRTIO_F_VERSION_1 - 32));
	}
	if (steps > 3) {
		set(VIRTIO_MMIO_STATUS, get(VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_FEATURES_OK);
		ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), DONE & ~VIRTIO_CONFIG_S_DRIVER_OK);
	}
	if (steps > 4)
		set_queue(0);
	if (steps > 5)
		set_queue(1);
	if (steps > 6) {
		set(VIRTIO_MMIO_STATUS, DONE);
		ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), DONE);
	}
}

/* A chain to queue @q and back. */
static void ping(unsigned q)
{
	uint64_t gpa = driver_alloc(&d, 16);
	uint32_t len;
	uint16_t head;

	driver_add(&d, q, (struct driver_buf[]){ { gpa, 16, true } }, 1);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, q);
	driver_wait(&d, q, &head, &len);
	ck_assert_uint_eq(len, 16);
}

START_TEST(identity)
{
	ck_assert_uint_eq(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(get(VIRTIO_MMIO_VERSION), 2);
	ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_ID), FAKE_ID);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)f.vdev.features);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	set(VIRTIO_MMIO_QUEUE_SEL, FAKE_QUEUES);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	set(VIRTIO_MMIO_SHM_SEL, 0); /* no such region: the length is ~0 */
	ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffff);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_BASE_LOW), 0xffffffff);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_BASE_HIGH), 0xffffffff);
	ck_assert_uint_eq(get(0x0c0), 0); /* QueueReset */
}
END_TEST

START_TEST(works)
{
	unsigned edges;

	start(STEPS);
	ping(0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	ck_assert_uint_eq(line.edges, 1);
	ck_assert(!line.level);
	set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ping(1);
	ping(1);
	edges = line.edges;
	ck_assert_uint_eq(edges, 3); /* each has its edge, acknowledged or not */

	pthread_mutex_lock(&f.vdev.lock);
	virtio_config_changed(&f.vdev);
	pthread_mutex_unlock(&f.vdev.lock);
	ck_assert_uint_eq(get(VIRTIO_MMIO_CONFIG_GENERATION), 1);
	ck_assert_uint_eq(line.edges, edges + 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS),
			  VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
END_TEST

/* Whatever was done before a reset, the device is new after it. */
START_TEST(reset_anytime)
{
	start((unsigned)_i);
	if (_i == STEPS)
		ping(0);
	set(VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 0);
	ck_assert_uint_eq(f.resets, 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(f.vdev.driver_features, 0);
	for (unsigned q = 0; q < FAKE_QUEUES; q++) {
		set(VIRTIO_MMIO_QUEUE_SEL, q);
		ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
	}
	start(STEPS);
	ping(0);
	ping(1);
}
END_TEST

/* An unacceptable set of features: the driver sees FEATURES_OK missing. */
START_TEST(features_refused)
{
	set(VIRTIO_MMIO_STATUS, 3);
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(VIRTIO_MMIO_DRIVER_FEATURES, 1 | 1 << 20);
	set(VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 3);
	set(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set(VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 3 | VIRTIO_CONFIG_S_FEATURES_OK);
}
END_TEST

/* A queue can be taken back until DRIVER_OK, and is no one's to change while it is ready. */
START_TEST(queue_ready)
{
	start(5);
	set(VIRTIO_MMIO_QUEUE_NUM, 4);
	ck_assert_uint_eq(f.vdev.queue[0].vq.size, 8);
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_QUEUE_NUM, 4);
	ck_assert_uint_eq(f.vdev.queue[0].vq.size, 4);
	set(VIRTIO_MMIO_QUEUE_NUM, 0x10008); /* not 8 */
	ck_assert_uint_eq(f.vdev.queue[0].vq.size, 0);
	set_queue(0);
	set_queue(1);
	set(VIRTIO_MMIO_STATUS, DONE);
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 1);
	ping(0);

	set(VIRTIO_MMIO_QUEUE_SEL, 77); /* nobody */
	set(VIRTIO_MMIO_QUEUE_NUM, 1);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 77);
	ping(1);
}
END_TEST

START_TEST(high_addresses)
{
	set(VIRTIO_MMIO_QUEUE_SEL, 1);
	for (unsigned reg = VIRTIO_MMIO_QUEUE_DESC_LOW; reg < 0xa8; reg += 0x10) {
		set(reg, 0x1000 + reg);
		set(reg + 4, 0x2000 + reg);
	}
	ck_assert_uint_eq(f.vdev.queue[1].vq.desc, 0x208000001080);
	ck_assert_uint_eq(f.vdev.queue[1].vq.driver, 0x209000001090);
	ck_assert_uint_eq(f.vdev.queue[1].vq.device, 0x20a0000010a0);
}
END_TEST

/* Registers know one width; others read zero and change nothing. */
START_TEST(widths)
{
	uint32_t before[64];

	start(STEPS);
	for (unsigned reg = 0; reg < 0x100; reg += 4)
		before[reg / 4] = get(reg);
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (unsigned off = 0; off < 0x100; off++) {
			if (len == 4 && off % 4 == 0)
				continue;
			if (off + len <= 0x100)
				ck_assert_uint_eq(bus_get(&bus, BASE + off, len), 0);
			bus_put(&bus, BASE + off, 0, len);
			bus_put(&bus, BASE + off, UINT64_MAX, len);
		}
	}
	for (unsigned reg = 0; reg < 0x100; reg += 4)
		ck_assert_uint_eq(get(reg), before[reg / 4]);
	ck_assert_uint_eq(f.vdev.driver_features, 1ULL << VIRTIO_F_VERSION_1 | 1 << FAKE_FEATURE);
	driver_run(&d);
	f.kicks = 0;
	bus_put(&bus, BASE + VIRTIO_MMIO_QUEUE_NOTIFY, 0, 2);
	driver_run(&d);
	ck_assert_uint_eq(f.kicks, 0);
	ping(0);
}
END_TEST

/* Reserved and read-only registers; a write to any register with any value is survived. */
START_TEST(registers)
{
	static const uint32_t values[] = { 0, 1, 2, 0xff, 0x100, 0x10000, 0xffffffff };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		for (unsigned reg = 0; reg < 0x100; reg += 4)
			set(reg, values[i]);
	ck_assert_uint_eq(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_ID), FAKE_ID);
	set(VIRTIO_MMIO_STATUS, 0);
	start(STEPS);
	ping(0);
}
END_TEST

START_TEST(config_space)
{
	const unsigned at = VIRTIO_MMIO_CONFIG;

	ck_assert_uint_eq(bus_get(&bus, BASE + at, 1), 0xc0);
	ck_assert_uint_eq(bus_get(&bus, BASE + at + 1, 2), 0xc2c1);
	ck_assert_uint_eq(bus_get(&bus, BASE + at + 4, 4), 0xc7c6c5c4);
	ck_assert_uint_eq(bus_get(&bus, BASE + at + 8, 8), 0xcbcac9c8); /* zeroes behind it */
	ck_assert_uint_eq(bus_get(&bus, BASE + 0xff8, 8), 0);
	bus_put(&bus, BASE + at + 2, 0x1122, 2);
	ck_assert_uint_eq(bus_get(&bus, BASE + at, 4), 0x1122c1c0);
	bus_put(&bus, BASE + at + 10, 0x33445566, 4); /* not wholly inside */
	ck_assert_uint_eq(f.config[10], 0xca);
	bus_put(&bus, BASE + 0xffc, 1, 4);
}
END_TEST

/* A busy queue earns an eventfd, told apart by the value written. */
START_TEST(earned_eventfd)
{
	start(STEPS);
	for (unsigned i = 0; i <= VIRTIO_EXITS_MAX; i++)
		ping(1);
	ck_assert_uint_eq(eventfds.n, 1);
	ck_assert_uint_eq(eventfds.at[0].addr, BASE + VIRTIO_MMIO_QUEUE_NOTIFY);
	ck_assert_uint_eq(eventfds.at[0].len, 4);
	ck_assert(eventfds.at[0].has_match);
	ck_assert_uint_eq(eventfds.at[0].match, 1);
	virtio_mmio_free(mmio);
	ck_assert_uint_eq(eventfds.n, 0);
	ck_assert_ptr_null(f.vdev.transport);
	mmio = attach(&f, BASE);
	start(STEPS);
	ping(1);
}
END_TEST

/* Where the host's kernel serves the queue, the loop interrupts for it. */
START_TEST(offloaded)
{
	int kick = -1, call = -1;

	start(STEPS);
	driver_run(&d);
	pthread_mutex_lock(&f.vdev.lock);
	ck_assert_int_eq(virtio_offload(&f.vdev, 0, true, &kick, &call), 0);
	pthread_mutex_unlock(&f.vdev.lock);
	ck_assert_uint_eq(eventfds.n, 1);
	ck_assert_int_eq(eventfds.at[0].fd, kick);
	ck_assert_int_eq(eventfd_write(call, 1), 0);
	driver_run(&d);
	ck_assert_uint_eq(line.edges, 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(VIRTIO_MMIO_STATUS, 0);
	ck_assert_uint_eq(eventfds.n, 0);
}
END_TEST

START_TEST(machine_reset)
{
	start(STEPS);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	ping(0);
	virtio_mmio_reset(mmio);
	ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)f.vdev.features);
	start(STEPS);
	ping(0);
}
END_TEST

static int state_fn(void *dev, struct state *st)
{
	return virtio_mmio_state(dev, st);
}

START_TEST(saved)
{
	struct fake_virtio g;
	struct virtio_mmio *other;

	fake_virtio_init(&g, &d, FAKE_QUEUES);
	other = attach(&g, BASE + VIRTIO_MMIO_SIZE);
	start(STEPS);
	ping(1);
	set(VIRTIO_MMIO_QUEUE_SEL, 1);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	virtio_quiesce(&f.vdev);
	test_state(state_fn, mmio, other);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SIZE + VIRTIO_MMIO_STATUS), DONE);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SIZE + VIRTIO_MMIO_QUEUE_READY), 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SIZE + VIRTIO_MMIO_DEVICE_FEATURES), 1);
	ck_assert_uint_eq(get(VIRTIO_MMIO_SIZE + VIRTIO_MMIO_INTERRUPT_STATUS),
			  VIRTIO_MMIO_INT_VRING);
	virtio_mmio_free(other);
	virtio_fini(&g.vdev);
}
END_TEST

START_TEST(taken)
{
	struct fake_virtio g;

	fake_virtio_init(&g, &d, FAKE_QUEUES);
	ck_assert_ptr_null(
		virtio_mmio_new(&g.vdev, &bus, BASE + 0x800, test_line(&line), NULL, &err));
	ck_assert_int_eq(err.code, EEXIST);
	ck_assert_ptr_null(g.vdev.transport);
	virtio_fini(&g.vdev);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtio_mmio");
	TCase *tc = tcase_create("virtio_mmio");

	log_set_level(LOG_ERROR);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, identity);
	tcase_add_test(tc, works);
	tcase_add_loop_test(tc, reset_anytime, 0, STEPS + 1);
	tcase_add_test(tc, features_refused);
	tcase_add_test(tc, queue_ready);
	tcase_add_test(tc, high_addresses);
	tcase_add_test(tc, widths);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, config_space);
	tcase_add_test(tc, earned_eventfd);
	tcase_add_test(tc, offloaded);
	tcase_add_test(tc, machine_reset);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, taken);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
