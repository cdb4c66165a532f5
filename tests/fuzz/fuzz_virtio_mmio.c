// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile driver of a virtio device on MMIO: register accesses of every width at every
 * offset, valid beginnings, and what the host does meanwhile. Eventfds must be registered and
 * given up in pairs; what is saved at the end must load, and save as the same file.
 *
 * One step is its kind, then as many bytes as that kind takes.
 */
#include <linux/virtio_mmio.h>
#include "devices/virtio_mmio.h"
#include "tests/fuzz/transport_fuzz.h"

#define BASE 0xe8100000ULL

struct line {
	struct irq_line line; /* .chip: this */
	bool level;
};

static void line_set(struct irq_line *line, bool level)
{
	struct line *l = line->chip;

	CHECK(level != l->level); /* pulses only */
	l->level = level;
}

static void reg(struct env *env, unsigned off, uint32_t value)
{
	env_write(env, BASE + off, value, 4);
}

/* What a driver does until DRIVER_OK. */
static void begin(struct env *env)
{
	reg(env, VIRTIO_MMIO_STATUS, 0);
	CHECK(env_read(env, BASE + VIRTIO_MMIO_STATUS, 4) == 0);
	reg(env, VIRTIO_MMIO_STATUS, 3);
	reg(env, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	reg(env, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	reg(env, VIRTIO_MMIO_STATUS, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		reg(env, VIRTIO_MMIO_QUEUE_SEL, q);
		reg(env, VIRTIO_MMIO_QUEUE_NUM, QSIZE);
		reg(env, VIRTIO_MMIO_QUEUE_DESC_LOW, RINGS(q));
		reg(env, VIRTIO_MMIO_QUEUE_AVAIL_LOW, DRIVER(q));
		reg(env, VIRTIO_MMIO_QUEUE_USED_LOW, DEVICE(q));
		reg(env, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	reg(env, VIRTIO_MMIO_STATUS, 15);
	CHECK((env_read(env, BASE + VIRTIO_MMIO_STATUS, 4) & 15) == 15);
}

static void step(struct env *env, struct fake *f, struct virtio_mmio *mmio, struct input *in)
{
	uint8_t kind = take(in, 1);
	unsigned len, off;

	if (kind < 64) {
		host_step(env, f, in, kind);
		return;
	}
	switch (kind >> 4) {
	case 4: /* anything anywhere */
	case 5:
		len = 1u << (kind & 3);
		off = take(in, 2) & 0xfff;
		if (kind & 4)
			env_write(env, BASE + off, take(in, len), len);
		else
			env_read(env, BASE + off, len);
		break;
	case 6:
		begin(env);
		break;
	case 7:
		if (kind == 0x77)
			virtio_mmio_reset(mmio);
		else
			reg(env, VIRTIO_MMIO_QUEUE_NOTIFY, kind & 3);
		break;
	default: /* a register, with a small or a large value */
		len = kind & 64 ? 4 : 1;
		reg(env, (kind & 63) << 2, take(in, len));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct line line = { .line = { .set = line_set, .chip = &line } };
	struct state *save1, *load, *save2;
	struct virtio_mmio *mmio, *other;
	struct err err = ERR_INIT;
	const void *file1, *file2;
	struct fake f, g;
	size_t len1, len2;
	struct env env;

	env_init(&env);
	fake_init(&f, &env);
	fake_init(&g, &env);
	mmio = virtio_mmio_new(&f.vdev, &env.bus, BASE, line.line, &env.ioeventfd, &err);
	other = virtio_mmio_new(&g.vdev, &env.bus, BASE + VIRTIO_MMIO_SIZE, line.line,
				&env.ioeventfd, &err);
	CHECK(mmio != NULL && other != NULL);
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		step(&env, &f, mmio, &in);
	CHECK(!line.level);

	virtio_quiesce(&f.vdev);
	save1 = state_new_save();
	CHECK(virtio_mmio_state(mmio, save1) == 0);
	CHECK(state_finish(save1, &file1, &len1, &err) == 0);
	load = state_new_load(file1, len1, &err);
	CHECK(load != NULL);
	CHECK(virtio_mmio_state(other, load) == 0);
	CHECK(state_finish(load, NULL, NULL, &err) == 0);
	save2 = state_new_save();
	CHECK(virtio_mmio_state(other, save2) == 0);
	CHECK(state_finish(save2, &file2, &len2, &err) == 0);
	CHECK(len1 == len2 && memcmp(file1, file2, len1) == 0);
	state_free(save1);
	state_free(load);
	state_free(save2);

	virtio_resume(&g.vdev);
	loop_run_once(env.loop, 0);
	virtio_mmio_free(mmio);
	virtio_mmio_free(other);
	CHECK(env.bus.n == 0);
	virtio_fini(&f.vdev);
	virtio_fini(&g.vdev);
	env_fini(&env);
	return 0;
}
