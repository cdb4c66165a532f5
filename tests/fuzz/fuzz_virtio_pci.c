// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile driver of two virtio devices on PCI: accesses of every width to configuration space
 * and to wherever the BARs are or were, valid beginnings, and what the host does meanwhile.
 * Eventfds and irqfds must be registered and given up in pairs and follow the BAR; a BAR is
 * never on the bus twice; what is saved at the end must load, and save as the same file.
 *
 * One step is its kind, then as many bytes as that kind takes.
 */
#include <linux/virtio_pci.h>
#include "devices/virtio_pci.h"
#include "tests/fuzz/transport_fuzz.h"

#define ECAM	 0xe8000000ULL
#define FN(n)	 (ECAM + (((n) + 1ULL) << 15))
#define PLACE(n) (0xc0000000ULL + (n)*0x4000ULL) /* every other one overlaps its neighbours */
#define NOTIFY	 0x3000
#define TABLE	 0x4000
#define CTRL	 0x42

struct machine {
	struct env env; /* first */
	struct pci_bus *pci;
	struct fake fake[2];
	struct virtio_pci *vpci[2];
	uint64_t bar[2]; /* where the steps last put it */
};

static void machine_init(struct machine *m)
{
	struct virtio_pci_host host;
	struct err err = ERR_INIT;

	env_init(&m->env);
	m->pci = pci_new(&err);
	CHECK(m->pci != NULL);
	pci_range(m->pci)->base = ECAM;
	CHECK(bus_add(&m->env.bus, pci_range(m->pci), &err) == 0);
	host = (struct virtio_pci_host){ .pci = m->pci,
					 .mmio = &m->env.bus,
					 .msi = &m->env.msi,
					 .ioeventfd = &m->env.ioeventfd };
	for (unsigned i = 0; i < 2; i++) {
		fake_init(&m->fake[i], &m->env);
		m->bar[i] = PLACE(2 * i);
		m->vpci[i] = virtio_pci_new(&m->fake[i].vdev, &host, m->bar[i], &err);
		CHECK(m->vpci[i] != NULL);
	}
}

static void machine_fini(struct machine *m)
{
	for (unsigned i = 0; i < 2; i++) {
		virtio_pci_free(m->vpci[i]);
		virtio_fini(&m->fake[i].vdev);
	}
	CHECK(m->env.bus.n == 1);
	pci_free(m->pci);
	env_fini(&m->env);
}

/* Put the BAR of function @n to @place and enable it. */
static void place_bar(struct machine *m, unsigned n, uint64_t place)
{
	m->bar[n] = place;
	env_write(&m->env, FN(n) + PCI_COMMAND, 0, 2);
	env_write(&m->env, FN(n) + PCI_BASE_ADDRESS_0, place, 4);
	env_write(&m->env, FN(n) + PCI_BASE_ADDRESS_1, place >> 32, 4);
	env_write(&m->env, FN(n) + PCI_COMMAND, 6, 2);
}

static void reg(struct machine *m, unsigned n, unsigned off, uint64_t value, unsigned len)
{
	env_write(&m->env, m->bar[n] + off, value, len);
}

/* What a driver does until DRIVER_OK. */
static void begin(struct machine *m, unsigned n)
{
	reg(m, n, VIRTIO_PCI_COMMON_STATUS, 0, 1);
	reg(m, n, VIRTIO_PCI_COMMON_STATUS, 3, 1);
	reg(m, n, VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	reg(m, n, VIRTIO_PCI_COMMON_GF, 1, 4);
	reg(m, n, VIRTIO_PCI_COMMON_STATUS, 11, 1);
	env_write(&m->env, FN(n) + CTRL, 0x8000, 2);
	for (unsigned v = 0; v <= QUEUES; v++)
		reg(m, n, TABLE + 16 * v + 8, 0x20 + v, 8);
	reg(m, n, VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (unsigned q = 0; q < QUEUES; q++) {
		reg(m, n, VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		reg(m, n, VIRTIO_PCI_COMMON_Q_DESCLO, RINGS(q), 8);
		reg(m, n, VIRTIO_PCI_COMMON_Q_AVAILLO, DRIVER(q), 8);
		reg(m, n, VIRTIO_PCI_COMMON_Q_USEDLO, DEVICE(q), 8);
		reg(m, n, VIRTIO_PCI_COMMON_Q_MSIX, 1 + q, 2);
		reg(m, n, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	}
	reg(m, n, VIRTIO_PCI_COMMON_STATUS, 15, 1);
}

static void access_at(struct machine *m, uint64_t addr, uint8_t how, struct input *in)
{
	unsigned len = 1u << (how & 3);

	if (how & 4)
		env_write(&m->env, addr, take(in, len), len);
	else
		env_read(&m->env, addr, len);
}

static void step(struct machine *m, struct input *in)
{
	uint8_t kind = take(in, 1), how;
	unsigned n = kind & 1;

	if (kind < 64) {
		host_step(&m->env, &m->fake[kind >> 5], in, kind);
		return;
	}
	switch (kind >> 4) {
	case 4: /* configuration space */
	case 5:
		how = take(in, 1);
		access_at(m, FN(n) + take(in, 1), how, in);
		break;
	case 6:
		place_bar(m, n, PLACE(kind >> 1 & 7));
		break;
	case 7:
		if (kind & 8)
			virtio_pci_reset(m->vpci[n]);
		else
			begin(m, n);
		break;
	case 8:
	case 9: /* common configuration */
		how = take(in, 1);
		access_at(m, m->bar[n] + (how >> 3) * 2, how, in);
		break;
	case 10: /* vectors */
		reg(m, n, TABLE + take(in, 1), take(in, 4), 4);
		break;
	case 11:
		env_write(&m->env, FN(n) + CTRL, (uint64_t)(kind & 12) << 12, 2);
		break;
	case 12: /* the window in configuration space, wherever it points */
		env_write(&m->env, FN(n) + 0x8c, take(in, 2), 4);
		env_write(&m->env, FN(n) + 0x90, 1u << (kind >> 1 & 3), 4);
		if (kind & 8)
			env_write(&m->env, FN(n) + 0x94, take(in, 4), 4);
		else
			env_read(&m->env, FN(n) + 0x94, 4);
		break;
	case 13:
		reg(m, n, NOTIFY + (kind & 12), 0, 2);
		break;
	case 14: /* anywhere near the BARs */
		how = take(in, 1);
		access_at(m, PLACE(0) + take(in, 3) % 0x30000, how, in);
		break;
	case 15: /* anywhere in the BAR */
		how = take(in, 1);
		access_at(m, m->bar[n] + take(in, 2), how, in);
		break;
	}
	CHECK(m->env.bus.n <= 3);
	/* Where there are eventfds there is a BAR: notifications exit or signal, never both. */
	for (unsigned i = 0; i < EVENTFDS; i++)
		if (m->env.notify[i].fd >= 0)
			CHECK(m->env.bus.n > 1 &&
			      m->env.notify[i].addr % VIRTIO_PCI_BAR_SIZE % 4 == 0);
}

static void machine_state(struct machine *m, struct state *st)
{
	for (unsigned i = 0; i < 2; i++) {
		CHECK(state_begin(st, i == 0 ? "first" : "second", 1) == 1);
		CHECK(virtio_pci_state(m->vpci[i], st) == 0);
		CHECK(state_end(st) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct state *save1, *load, *save2;
	struct err err = ERR_INIT;
	const void *file1, *file2;
	struct machine m, other;
	size_t len1, len2;

	machine_init(&m);
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		step(&m, &in);
	for (unsigned i = 0; i < 2; i++)
		virtio_quiesce(&m.fake[i].vdev);
	save1 = state_new_save();
	machine_state(&m, save1);
	CHECK(state_finish(save1, &file1, &len1, &err) == 0);

	machine_init(&other);
	load = state_new_load(file1, len1, &err);
	CHECK(load != NULL);
	machine_state(&other, load);
	CHECK(state_finish(load, NULL, NULL, &err) == 0);
	save2 = state_new_save();
	machine_state(&other, save2);
	CHECK(state_finish(save2, &file2, &len2, &err) == 0);
	CHECK(len1 == len2 && memcmp(file1, file2, len1) == 0);
	state_free(save1);
	state_free(load);
	state_free(save2);

	for (unsigned i = 0; i < 2; i++)
		virtio_resume(&other.fake[i].vdev);
	loop_run_once(other.env.loop, 0);
	machine_fini(&m);
	machine_fini(&other);
	return 0;
}
