// SPDX-License-Identifier: Apache-2.0
/* virtio over PCI: configuration space, the BAR and its moves, MSI-X, negotiation, state. */
#include <linux/virtio_pci.h>
#include "devices/virtio_pci.h"
#include "tests/unit/transport_util.h"
#include "vmm/base/log.h"

#define ECAM   0xe8000000ULL
#define FN     (ECAM + (1 << 15)) /* slot 1 */
#define OTHER  (ECAM + (2 << 15))
#define BAR    0xc0000000ULL
#define BAR2   0xc0008000ULL
#define ELSE   0xd0000000ULL
#define NONE   0xffff /* VIRTIO_MSI_NO_VECTOR */
#define CTRL   (msix_cap + PCI_MSIX_FLAGS)
#define COMMON 0x0000
#define ISR    0x1000
#define DEVICE 0x2000
#define NOTIFY 0x3000
#define TABLE  0x4000
#define PBA    0x5000
#define DONE                                                                                       \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static struct driver d;
static struct fake_virtio f;
static struct bus bus;
static struct pci_bus *pci;
static struct test_msi msi;
static struct test_ioeventfds eventfds;
static struct virtio_pci *vpci;
static struct err err;
static unsigned msix_cap, pcicfg_cap; /* found by capabilities */
static uint64_t bar;		      /* where the test believes the BAR to be */

static uint32_t cfg_get(unsigned reg, unsigned len)
{
	return bus_get(&bus, FN + reg, len);
}

static void cfg_set(unsigned reg, uint32_t value, unsigned len)
{
	bus_put(&bus, FN + reg, value, len);
}

static uint64_t get(unsigned off, unsigned len)
{
	return bus_get(&bus, bar + off, len);
}

static void set(unsigned off, uint64_t value, unsigned len)
{
	bus_put(&bus, bar + off, value, len);
}

static struct virtio_pci *attach(struct fake_virtio *fake, uint64_t at)
{
	struct virtio_pci_host host = {
		.pci = pci, .mmio = &bus, .msi = &msi.chip, .ioeventfd = &eventfds.chip
	};
	struct virtio_pci *v = virtio_pci_new(&fake->vdev, &host, at, &err);

	ck_assert_msg(v != NULL, "%s", err.msg);
	return v;
}

static unsigned find_cap(unsigned id, int type)
{
	unsigned n = 0;

	for (unsigned at = cfg_get(0x34, 1); at != 0; at = cfg_get(at + 1, 1)) {
		ck_assert_uint_ge(at, 0x40);
		ck_assert_uint_eq(at % 4, 0);
		ck_assert_uint_lt(n++, 16);
		if (cfg_get(at, 1) == id && (type < 0 || cfg_get(at + 3, 1) == (unsigned)type))
			return at;
	}
	return 0;
}

static void decode(bool on)
{
	cfg_set(PCI_COMMAND, on ? 6 : 4, 2);
}

static void setup(void)
{
	driver_init(&d);
	bus_init(&bus);
	test_msi_init(&msi);
	test_ioeventfds_init(&eventfds);
	pci = pci_new(&err);
	pci_range(pci)->base = ECAM;
	ck_assert_int_eq(bus_add(&bus, pci_range(pci), &err), 0);
	fake_virtio_init(&f, &d, FAKE_QUEUES);
	d.vdev = &f.vdev;
	bar = BAR;
	vpci = attach(&f, BAR);
	msix_cap = find_cap(PCI_CAP_ID_MSIX, -1);
	pcicfg_cap = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	decode(true);
}

static void teardown(void)
{
	virtio_pci_free(vpci);
	ck_assert_uint_eq(eventfds.n, 0);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	ck_assert_uint_eq(bus.n, 1);
	virtio_fini(&f.vdev);
	bus_fini(&bus);
	pci_free(pci);
	driver_fini(&d);
}

/* --- A driver --- */

static void vector(unsigned v, uint32_t data, bool masked)
{
	set(TABLE + v * 16, 0xfee01000, 4);
	set(TABLE + v * 16 + 4, 0, 4);
	set(TABLE + v * 16 + 8, data, 4);
	set(TABLE + v * 16 + 12, masked, 4);
}

static void msix_on(void)
{
	cfg_set(CTRL, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
	for (unsigned v = 0; v < FAKE_QUEUES + 1; v++)
		vector(v, 0x40 + v, false);
	cfg_set(CTRL, PCI_MSIX_FLAGS_ENABLE, 2);
}

static void set_queue(unsigned q)
{
	struct test_rings r = test_rings(&d, q, 8);

	set(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), FAKE_QSIZE);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_NOFF, 2), q);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	set(VIRTIO_PCI_COMMON_Q_SIZE, 8, 2);
	set(VIRTIO_PCI_COMMON_Q_DESCLO, r.desc, 4); /* in halves */
	set(VIRTIO_PCI_COMMON_Q_DESCHI, 0, 4);
	set(VIRTIO_PCI_COMMON_Q_AVAILLO, r.driver, 8); /* at once */
	set(VIRTIO_PCI_COMMON_Q_USEDHI, 0, 4);
	set(VIRTIO_PCI_COMMON_Q_USEDLO, r.device, 4);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 1 + q, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1 + q);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

#define STEPS 8

static void start(unsigned steps)
{
	if (steps > 0)
		set(VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	if (steps > 1)
		set(VIRTIO_PCI_COMMON_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER,
		    1);
	if (steps > 2) {
		set(VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
		set(VIRTIO_PCI_COMMON_GF, 1 << FAKE_FEATURE, 4);
		set(VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
		set(VIRTIO_PCI_COMMON_GF, 1 << (VIRTIO_F_VERSION_1 - 32), 4);
	}
	if (steps > 3) {
		set(VIRTIO_PCI_COMMON_STATUS, DONE & ~VIRTIO_CONFIG_S_DRIVER_OK, 1);
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1),
				  DONE & ~VIRTIO_CONFIG_S_DRIVER_OK);
	}
	if (steps > 4) {
		msix_on();
		set(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	}
	if (steps > 5)
		set_queue(0);
	if (steps > 6)
		set_queue(1);
	if (steps > 7) {
		set(VIRTIO_PCI_COMMON_STATUS, DONE, 1);
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	}
}

/* A chain to queue @q and back; the notification by a write of @width bytes. */
static void ping_by(unsigned q, unsigned width)
{
	uint64_t gpa = driver_alloc(&d, 16);
	uint32_t len;
	uint16_t head;

	driver_add(&d, q, (struct driver_buf[]){ { gpa, 16, true } }, 1);
	set(NOTIFY + 4 * q, q, width);
	driver_wait(&d, q, &head, &len);
	ck_assert_uint_eq(len, 16);
}

static void ping(unsigned q)
{
	ping_by(q, 2);
}

static void config_changed(void)
{
	pthread_mutex_lock(&f.vdev.lock);
	virtio_config_changed(&f.vdev);
	pthread_mutex_unlock(&f.vdev.lock);
}

/* --- Configuration space --- */

START_TEST(identity)
{
	ck_assert_uint_eq(cfg_get(0x00, 4), (0x1040 + FAKE_ID) << 16 | 0x1af4);
	ck_assert_uint_eq(cfg_get(0x08, 4), (uint32_t)FAKE_CLASS << 8 | 1);
	ck_assert_uint_eq(cfg_get(0x0e, 1), 0);
	ck_assert_uint_eq(cfg_get(0x2c, 2), 0x1af4);
	ck_assert_uint_ge(cfg_get(0x2e, 2), 0x40);
	ck_assert_uint_eq(cfg_get(0x3d, 1), 0); /* no interrupt pin */
	ck_assert_uint_eq(cfg_get(0x06, 2), 0x0010);
	ck_assert_uint_eq(cfg_get(0x100, 4), 0);
}
END_TEST

START_TEST(capabilities)
{
	static const struct {
		int type;
		unsigned size, off, len;
	} caps[] = {
		{ VIRTIO_PCI_CAP_COMMON_CFG, 16, COMMON, 56 },
		{ VIRTIO_PCI_CAP_NOTIFY_CFG, 20, NOTIFY, FAKE_QUEUES * 4 },
		{ VIRTIO_PCI_CAP_ISR_CFG, 16, ISR, 1 },
		{ VIRTIO_PCI_CAP_DEVICE_CFG, 16, DEVICE, sizeof(f.config) },
		{ VIRTIO_PCI_CAP_PCI_CFG, 20, 0, 0 },
	};
	unsigned at;

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		at = find_cap(PCI_CAP_ID_VNDR, caps[i].type);
		ck_assert_uint_ne(at, 0);
		ck_assert_uint_eq(cfg_get(at + 2, 1), caps[i].size);
		ck_assert_uint_eq(cfg_get(at + 4, 1), 0);
		ck_assert_uint_eq(cfg_get(at + 8, 4), caps[i].off);
		ck_assert_uint_eq(cfg_get(at + 12, 4), caps[i].len);
	}
	at = find_cap(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG);
	ck_assert_uint_eq(cfg_get(at + 16, 4), 4);
	ck_assert_uint_eq(cfg_get(msix_cap + 2, 2), FAKE_QUEUES); /* vectors - 1 */
	ck_assert_uint_eq(cfg_get(msix_cap + 4, 4), TABLE);
	ck_assert_uint_eq(cfg_get(msix_cap + 8, 4), PBA);
}
END_TEST

/* A device without configuration has no such capability; most queues possible. */
START_TEST(many_queues)
{
	struct fake_virtio g;
	struct virtio_pci *v;
	unsigned at, n = 0;

	fake_virtio_init(&g, &d, VIRTIO_QUEUES_MAX);
	g.vdev.config_size = 0;
	v = attach(&g, BAR2);
	for (at = bus_get(&bus, OTHER + 0x34, 1); at != 0; at = bus_get(&bus, OTHER + at + 1, 1)) {
		ck_assert_uint_lt(n++, 16);
		if (bus_get(&bus, OTHER + at, 1) == PCI_CAP_ID_VNDR)
			ck_assert_uint_ne(bus_get(&bus, OTHER + at + 3, 1),
					  VIRTIO_PCI_CAP_DEVICE_CFG);
		if (bus_get(&bus, OTHER + at, 1) == PCI_CAP_ID_MSIX)
			ck_assert_uint_eq(bus_get(&bus, OTHER + at + 2, 2), VIRTIO_QUEUES_MAX);
	}
	bus_put(&bus, OTHER + 4, 6, 2);
	bus_put(&bus, BAR2 + TABLE + 64 * 16 + 8, 0x1234, 4);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + TABLE + 64 * 16 + 8, 4), 0x1234);
	bus_put(&bus, BAR2 + TABLE + 65 * 16 + 8, 0x1234, 4);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + TABLE + 65 * 16 + 8, 4), 0);
	/* The last vector's pending bit is in the second word. */
	bus_put(&bus, BAR2 + VIRTIO_PCI_COMMON_MSIX, 64, 2);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + VIRTIO_PCI_COMMON_MSIX, 2), 64);
	pthread_mutex_lock(&g.vdev.lock);
	g.vdev.transport->ops->interrupt(g.vdev.transport, -1);
	pthread_mutex_unlock(&g.vdev.lock);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + PBA, 8), 0);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + PBA + 8, 8), 1);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + PBA + 16, 8), 0);
	virtio_pci_free(v);
	virtio_fini(&g.vdev);
}
END_TEST

START_TEST(read_only)
{
	uint32_t before[64];

	for (unsigned reg = 0; reg < 256; reg += 4)
		before[reg / 4] = cfg_get(reg, 4);
	for (unsigned reg = 0; reg < 256; reg += 4)
		cfg_set(reg, 0xffffffff, 4);
	for (unsigned reg = 0; reg < 256; reg += 4) {
		if (reg == 4 || reg == 0x0c || reg == 0x10 || reg == 0x14 || reg == 0x3c ||
		    reg == msix_cap || (reg >= pcicfg_cap && reg < pcicfg_cap + 20))
			continue;
		ck_assert_uint_eq(cfg_get(reg, 4), before[reg / 4]);
	}
	ck_assert_uint_eq(cfg_get(4, 4), 0x00100546);
	ck_assert_uint_eq(cfg_get(msix_cap, 4) & ~0xff00u, 0xc0000011 | FAKE_QUEUES << 16);
	ck_assert_uint_eq(cfg_get(pcicfg_cap, 4) >> 16, 0x0514);
}
END_TEST

/* --- Where the BAR is --- */

START_TEST(bar_decoding)
{
	ck_assert_uint_eq(cfg_get(0x10, 4), BAR | 4);
	ck_assert_uint_eq(cfg_get(0x14, 4), 0);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
	decode(false);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
	set(VIRTIO_PCI_COMMON_STATUS, 1, 1);
	decode(true);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
}
END_TEST

/* With decoding off and on; what runs goes on running. */
START_TEST(bar_sizing)
{
	start(STEPS);
	for (unsigned i = 0; i <= VIRTIO_EXITS_MAX; i++)
		ping(0);
	ck_assert_uint_eq(eventfds.n, 1);
	for (unsigned on = 0; on < 2; on++) {
		decode(on);
		cfg_set(0x10, 0xffffffff, 4);
		ck_assert_uint_eq(cfg_get(0x10, 4), 0xffff8004);
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
		cfg_set(0x10, BAR, 4);
		cfg_set(0x14, 0xffffffff, 4);
		ck_assert_uint_eq(cfg_get(0x14, 4), 0xffffffff);
		cfg_set(0x14, 0, 4);
		ck_assert_uint_eq(bus.n, 1 + on);
		ck_assert_uint_eq(eventfds.n, on);
	}
	for (unsigned reg = 0x18; reg <= 0x30; reg += 4) { /* no others, no ROM */
		if (reg > 0x24 && reg < 0x30)
			continue;
		cfg_set(reg, 0xffffffff, 4);
		ck_assert_uint_eq(cfg_get(reg, 4), 0);
	}
	ck_assert_uint_eq(eventfds.at[0].addr, BAR + NOTIFY);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	ping(0);
	ping(1);
}
END_TEST

START_TEST(bar_moves)
{
	static const uint64_t places[] = { ELSE, 0x1230000000, 0x8000, UINT64_MAX << 31, BAR };

	start(STEPS);
	for (unsigned i = 0; i <= VIRTIO_EXITS_MAX; i++)
		ping(1);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint64_t old = bar;

		/* Half of them as Linux does it, half with decoding on all the time. */
		if (i % 2 == 0)
			decode(false);
		cfg_set(0x10, (uint32_t)places[i], 4);
		cfg_set(0x14, places[i] >> 32, 4);
		decode(true);
		bar = places[i];
		ck_assert_uint_eq(bus_get(&bus, old + VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
		if (places[i] >> 32 == UINT32_MAX) { /* looks like sizing, and nobody decodes it */
			ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
			ck_assert_uint_eq(eventfds.n, 0);
			continue;
		}
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
		ck_assert_uint_eq(eventfds.n, 1);
		ck_assert_uint_eq(eventfds.at[0].addr, bar + NOTIFY + 4);
		ck_assert_uint_eq(eventfds.at[0].len, 0);
		ck_assert(!eventfds.at[0].has_match);
		ping(0);
		ping(1);
	}
}
END_TEST

/* By bytes and words, too; low bits are not the guest's. */
START_TEST(bar_in_pieces)
{
	decode(false);
	cfg_set(0x10, 0xff, 1);
	cfg_set(0x11, 0x8f, 1);
	cfg_set(0x12, 0xd012, 2);
	ck_assert_uint_eq(cfg_get(0x10, 4), 0xd0128004);
	cfg_set(PCI_COMMAND, 2, 1);
	bar = 0xd0128000;
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
}
END_TEST

START_TEST(bar_overlap)
{
	struct fake_virtio g;
	struct virtio_pci *v;

	fake_virtio_init(&g, &d, FAKE_QUEUES);
	v = attach(&g, BAR2);
	bus_put(&bus, OTHER + 4, 6, 2);
	start(STEPS);

	cfg_set(0x10, BAR2, 4); /* onto the other */
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0xff);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + VIRTIO_PCI_COMMON_STATUS, 1), 0);
	cfg_set(0x10, ECAM, 4); /* onto configuration space */
	ck_assert_uint_eq(cfg_get(0, 2), 0x1af4);
	cfg_set(0x10, BAR, 4); /* back */
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	ping(0);

	/* Two that change places, each off first. */
	decode(false);
	bus_put(&bus, OTHER + 4, 4, 2);
	cfg_set(0x10, BAR2, 4);
	bus_put(&bus, OTHER + 0x10, BAR, 4);
	decode(true);
	bus_put(&bus, OTHER + 4, 6, 2);
	ck_assert_uint_eq(bus_get(&bus, BAR2 + VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	ck_assert_uint_eq(bus_get(&bus, BAR + VIRTIO_PCI_COMMON_STATUS, 1), 0);

	/* The place becomes free while we wait for it: any write of ours tries again. */
	cfg_set(0x10, BAR, 4);
	bus_put(&bus, OTHER + 4, 4, 2);
	ck_assert_uint_eq(bus_get(&bus, BAR + VIRTIO_PCI_COMMON_STATUS, 1), 0xff);
	decode(true);
	ck_assert_uint_eq(bus_get(&bus, BAR + VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	virtio_pci_free(v);
	virtio_fini(&g.vdev);
}
END_TEST

/* --- Common configuration --- */

/* Reads see the same bytes whatever their width. */
START_TEST(read_widths)
{
	uint8_t image[64];

	start(STEPS);
	for (unsigned off = 0; off < 64; off++)
		image[off] = get(off, 1);
	ck_assert_mem_eq(image + 56, "\0\0\0\0\0\0\0\0", 8);
	for (unsigned len = 2; len <= 8; len *= 2)
		for (unsigned off = 0; off + len <= 64; off++)
			ck_assert_uint_eq(get(off, len), bus_get_le(image + off, len));
	ck_assert_uint_eq(get(0xffc, 4), 0);
	ck_assert_uint_eq(get(0x6000, 8), 0); /* pages with nothing */
	ck_assert_uint_eq(get(0x7ff8, 8), 0);
	set(0x6000, UINT64_MAX, 8);
	ck_assert_uint_eq(get(NOTIFY, 4), 0);
}
END_TEST

/* What is not a whole field is not written. */
START_TEST(write_widths)
{
	static const uint8_t width[56] = {
		[0] = 4,  [8] = 4,  [12] = 4, [16] = 2, [20] = 1, [22] = 2, [24] = 2, [26] = 2,
		[28] = 2, [32] = 4, [36] = 4, [40] = 4, [44] = 4, [48] = 4, [52] = 4,
	};
	uint8_t before[56], after[56];

	start(2);
	for (unsigned off = 0; off < 56; off++)
		before[off] = get(off, 1);
	for (unsigned len = 1; len <= 8; len *= 2) {
		for (unsigned off = 0; off + len <= 60; off++) {
			if ((off < 56 && width[off] == len) ||
			    (len == 8 && (off == 32 || off == 40 || off == 48)))
				continue;
			set(off, 0, len);
			set(off, UINT64_MAX, len);
			set(off, 0x0101010101010101, len);
		}
	}
	for (unsigned off = 0; off < 56; off++)
		after[off] = get(off, 1);
	ck_assert_mem_eq(before, after, 56);
	ck_assert_uint_eq(f.resets, 0);
}
END_TEST

START_TEST(fields)
{
	set(VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_DF, 4), 1);
	set(VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_DF, 4), (uint32_t)f.vdev.features);
	set(VIRTIO_PCI_COMMON_DFSELECT, 2, 4);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_DF, 4), 0);
	set(VIRTIO_PCI_COMMON_GFSELECT, 0xffffffff, 4);
	set(VIRTIO_PCI_COMMON_GF, 0xffffffff, 4);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), 0);
	set(VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	set(VIRTIO_PCI_COMMON_GF, 1 << FAKE_FEATURE, 4);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), 1 << FAKE_FEATURE);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 0);
	config_changed();
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);

	set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	set(VIRTIO_PCI_COMMON_Q_DESCHI, 0x11111111, 4);
	set(VIRTIO_PCI_COMMON_Q_DESCLO, 0x22222220, 4);
	set(VIRTIO_PCI_COMMON_Q_USEDLO, 0x3333333344444440, 8);
	ck_assert_uint_eq(f.vdev.queue[1].vq.desc, 0x1111111122222220);
	ck_assert_uint_eq(f.vdev.queue[1].vq.device, 0x3333333344444440);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_USEDHI, 4), 0x33333333);

	set(VIRTIO_PCI_COMMON_Q_SELECT, FAKE_QUEUES, 2); /* there is none */
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	set(VIRTIO_PCI_COMMON_Q_SIZE, 8, 2);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 0, 2);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	set(VIRTIO_PCI_COMMON_Q_DESCLO, 0x1000, 8);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NONE);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
}
END_TEST

START_TEST(works)
{
	start(STEPS);
	ping(0);
	ck_assert_uint_eq(msi.sends, 1);
	ck_assert_uint_eq(msi.addr, 0xfee01000);
	ck_assert_uint_eq(msi.data, 0x41);
	ping_by(1, 4);
	ck_assert_uint_eq(msi.data, 0x42);
	ping_by(1, 1);
	ping_by(0, 8);
	ck_assert_uint_eq(msi.sends, 4);
	set(NOTIFY + 4 * FAKE_QUEUES, 0, 2); /* nobody's */
	set(NOTIFY + 0xffc, 0, 4);
	set(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2); /* not to be changed any more */
	set(VIRTIO_PCI_COMMON_Q_SIZE, 4, 2);
	set(VIRTIO_PCI_COMMON_Q_DESCLO, 0, 8);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	ping(0);
}
END_TEST

START_TEST(reset_anytime)
{
	start((unsigned)_i);
	if (_i == STEPS)
		ping(0);
	set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0); /* at once */
	ck_assert_uint_eq(f.resets, 1);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), NONE);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0);
	ck_assert_uint_eq(get(ISR, 1), 0);
	for (unsigned q = 0; q < FAKE_QUEUES; q++) {
		set(VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NONE);
		ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), FAKE_QSIZE);
	}
	start(STEPS);
	ping(0);
	ping(1);
}
END_TEST

START_TEST(device_config)
{
	ck_assert_uint_eq(get(DEVICE, 1), 0xc0);
	ck_assert_uint_eq(get(DEVICE + 1, 2), 0xc2c1);
	ck_assert_uint_eq(get(DEVICE + 8, 8), 0xcbcac9c8);
	ck_assert_uint_eq(get(DEVICE + 0xff8, 8), 0);
	set(DEVICE + 4, 0x01020304, 4);
	ck_assert_uint_eq(get(DEVICE + 4, 4), 0x01020304);
	set(DEVICE + 10, 0xffffffff, 4);
	ck_assert_uint_eq(f.config[11], 0xcb);
}
END_TEST

/* --- Interrupts --- */

START_TEST(vectors_refused)
{
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), NONE);
	set(VIRTIO_PCI_COMMON_MSIX, FAKE_QUEUES + 1, 2); /* one too many */
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), NONE);
	set(VIRTIO_PCI_COMMON_MSIX, FAKE_QUEUES, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), FAKE_QUEUES);
	set(VIRTIO_PCI_COMMON_MSIX, NONE, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), NONE);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 0xfffe, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NONE);

	start(STEPS);
	set(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	set(VIRTIO_PCI_COMMON_Q_MSIX, NONE, 2); /* also while it runs */
	set(VIRTIO_PCI_COMMON_MSIX, NONE, 2);
	ping(0);
	config_changed();
	ck_assert_uint_eq(msi.sends, 0);
}
END_TEST

START_TEST(masks)
{
	start(STEPS);
	set(TABLE + 16 + 12, 1, 4);
	ping(0);
	ck_assert_uint_eq(msi.sends, 0);
	ck_assert_uint_eq(get(PBA, 8), 2);
	ck_assert_uint_eq(get(PBA, 4), 2);
	set(PBA, 0, 8); /* read-only */
	ping(1);	/* not masked */
	ck_assert_uint_eq(msi.sends, 1);
	set(TABLE + 16 + 8, 0x99, 4); /* changed while masked */
	set(TABLE + 16 + 12, 0xfffffffe, 4);
	ck_assert_uint_eq(get(TABLE + 16 + 12, 4), 0);
	ck_assert_uint_eq(msi.sends, 2);
	ck_assert_uint_eq(msi.data, 0x99);
	ck_assert_uint_eq(get(PBA, 8), 0);
	set(TABLE + 16 + 12, 1, 4);
	set(TABLE + 16 + 12, 0, 4);
	ck_assert_uint_eq(msi.sends, 2); /* nothing was pending */

	cfg_set(CTRL, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
	ping(0);
	config_changed();
	ck_assert_uint_eq(msi.sends, 2);
	ck_assert_uint_eq(get(PBA, 8), 3);
	set(TABLE + 12, 1, 4); /* masked twice */
	cfg_set(CTRL, PCI_MSIX_FLAGS_ENABLE, 2);
	ck_assert_uint_eq(msi.sends, 3);
	ck_assert_uint_eq(get(PBA, 8), 1);
	set(TABLE + 8, (uint64_t)0 << 32 | 0x77, 8); /* data and control at once */
	ck_assert_uint_eq(msi.sends, 4);
	ck_assert_uint_eq(msi.data, 0x77);

	cfg_set(CTRL + 1, 0, 1); /* disabled, by a byte */
	ping(1);
	ck_assert_uint_eq(msi.sends, 4);
	cfg_set(CTRL + 1, PCI_MSIX_FLAGS_ENABLE >> 8, 1);
	ck_assert_uint_eq(msi.sends, 5);
	ck_assert_uint_eq(msi.data, 0x42);
}
END_TEST

START_TEST(table_widths)
{
	set(TABLE, 0x1122334455667788, 8);
	ck_assert_uint_eq(get(TABLE, 4), 0x55667788);
	ck_assert_uint_eq(get(TABLE + 4, 4), 0x11223344);
	set(TABLE, 0, 1);
	set(TABLE, 0, 2);
	set(TABLE + 2, 0, 4);
	set(TABLE + 4, 0, 8);
	ck_assert_uint_eq(get(TABLE, 8), 0x1122334455667788);
	ck_assert_uint_eq(get(TABLE, 2), 0);
	ck_assert_uint_eq(get(TABLE + 2, 4), 0);
	set(TABLE + 16 * (FAKE_QUEUES + 1), 1, 4);
	ck_assert_uint_eq(get(TABLE + 16 * (FAKE_QUEUES + 1), 4), 0);
	set(TABLE + 0xff8, 1, 8);
	ck_assert_uint_eq(get(TABLE + 0xff8, 8), 0);
	ck_assert_uint_eq(get(TABLE + 12, 4), 1); /* masked from the beginning */
}
END_TEST

START_TEST(isr)
{
	start(STEPS);
	ping(0);
	ck_assert_uint_eq(get(ISR, 1), 0); /* queues have vectors */
	config_changed();
	ck_assert_uint_eq(msi.data, 0x40);
	ck_assert_uint_eq(cfg_get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	ck_assert_uint_eq(get(ISR + 1, 1), 0); /* not the register */
	ck_assert_uint_eq(get(ISR, 1), 2);
	ck_assert_uint_eq(get(ISR, 1), 0); /* cleared by reading */

	cfg_set(CTRL, 0, 2);
	ping(0);
	ck_assert_uint_eq(cfg_get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
	config_changed();
	ck_assert_uint_eq(get(ISR, 4), 3);
	ck_assert_uint_eq(cfg_get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	set(ISR, 3, 1);
	ck_assert_uint_eq(get(ISR, 1), 0);
}
END_TEST

static int offload(unsigned q, bool on)
{
	int kick, call, r;

	pthread_mutex_lock(&f.vdev.lock);
	r = virtio_offload(&f.vdev, q, on, &kick, &call);
	pthread_mutex_unlock(&f.vdev.lock);
	ck_assert_int_eq(r, 0);
	return on ? call : -1;
}

/* An irqfd is there exactly while its vector can be delivered, with the vector's message. */
START_TEST(irqfds)
{
	int call;

	start(STEPS);
	driver_run(&d);
	call = offload(0, true);
	ck_assert_int_eq(msi.connected[0], call);
	ck_assert_uint_eq(msi.data, 0x41);
	ck_assert_uint_eq(eventfds.n, 1);
	set(TABLE + 16 + 8, 0x41, 4); /* no change */
	ck_assert_uint_eq(msi.connects, 1);
	set(TABLE + 16 + 8, 0x51, 4);
	ck_assert_uint_eq(msi.connects, 2);
	ck_assert_uint_eq(msi.data, 0x51);
	set(TABLE + 16 + 12, 1, 4);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	set(TABLE + 16 + 8, 0x61, 4);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	set(TABLE + 16 + 12, 0, 4);
	ck_assert_uint_eq(test_msi_connected(&msi), 1);
	ck_assert_uint_eq(msi.data, 0x61);

	set(TABLE + 2 * 16 + 8, 0x99, 4); /* another vector */
	cfg_set(CTRL, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	cfg_set(CTRL, PCI_MSIX_FLAGS_ENABLE, 2);
	ck_assert_uint_eq(test_msi_connected(&msi), 1);
	set(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	set(VIRTIO_PCI_COMMON_Q_MSIX, NONE, 2);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	ck_assert_uint_eq(test_msi_connected(&msi), 1);
	ck_assert_uint_eq(msi.data, 0x99);

	offload(1, true); /* both by the same vector */
	ck_assert_uint_eq(test_msi_connected(&msi), 2);
	set(TABLE + 2 * 16 + 12, 1, 4);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	set(TABLE + 2 * 16 + 12, 0, 4);
	ck_assert_uint_eq(test_msi_connected(&msi), 2);
	offload(1, false);
	ck_assert_uint_eq(test_msi_connected(&msi), 1);
	set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	ck_assert_uint_eq(eventfds.n, 0);
	set(TABLE + 16 + 12, 1, 4);
	set(TABLE + 16 + 12, 0, 4);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
}
END_TEST

/* No irqfd to be had: the loop interrupts. One lost later: the device says it is broken. */
START_TEST(irqfd_fails)
{
	int call;

	start(STEPS);
	driver_run(&d);
	msi.error = -ENOSPC;
	call = offload(0, true);
	ck_assert_int_eq(eventfd_write(call, 1), 0);
	driver_run(&d);
	ck_assert_uint_eq(msi.sends, 1);
	ck_assert_uint_eq(msi.data, 0x41);
	offload(0, false);
	msi.error = 0;
	offload(0, true);
	msi.error = -ENOSPC;
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	set(TABLE + 16 + 12, 1, 4);
	set(TABLE + 16 + 12, 0, 4);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), DONE | VIRTIO_CONFIG_S_NEEDS_RESET);
	ck_assert_uint_eq(msi.data, 0x40);
}
END_TEST

/* --- The window in configuration space --- */

static void window(uint8_t which, uint32_t off, uint32_t len)
{
	cfg_set(pcicfg_cap + 4, which, 1);
	cfg_set(pcicfg_cap + 8, off, 4);
	cfg_set(pcicfg_cap + 12, len, 4);
}

#define WINDOW (pcicfg_cap + 16)

START_TEST(pci_cfg)
{
	decode(false); /* it is for those who cannot reach the BAR */
	window(0, VIRTIO_PCI_COMMON_NUMQ, 2);
	ck_assert_uint_eq(cfg_get(WINDOW, 2), FAKE_QUEUES);
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_set(WINDOW, VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	ck_assert_uint_eq(f.vdev.status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	ck_assert_uint_eq(cfg_get(WINDOW, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	window(0, DEVICE + 4, 4);
	ck_assert_uint_eq(cfg_get(WINDOW, 4), 0xc7c6c5c4);
	cfg_set(WINDOW, 0x04030201, 4);
	ck_assert_uint_eq(f.config[4], 1);
	ck_assert_uint_eq(f.config[7], 4);

	/* Nothing of these has an effect: length, alignment, end, another BAR, another place. */
	window(0, DEVICE + 4, 3);
	cfg_set(WINDOW, 0xffffffff, 4);
	window(0, DEVICE + 4, 8);
	cfg_set(WINDOW, 0xffffffff, 4);
	window(0, DEVICE + 4, 0);
	cfg_set(WINDOW, 0xffffffff, 4);
	window(0, DEVICE + 5, 2);
	cfg_set(WINDOW, 0xffffffff, 4);
	window(1, DEVICE + 4, 4);
	cfg_set(WINDOW, 0xffffffff, 4);
	window(0, 0xfffffffc, 4);
	cfg_set(WINDOW, 0xffffffff, 4);
	cfg_get(WINDOW, 4);
	window(0, VIRTIO_PCI_BAR_SIZE, 4);
	cfg_set(WINDOW, 0xffffffff, 4);
	cfg_get(WINDOW, 4);
	window(0, DEVICE + 4, 1);
	cfg_set(WINDOW + 1, 0xff, 1);
	ck_assert_mem_eq(f.config + 4, "\1\2\3\4", 4);
	cfg_set(WINDOW, 0x55, 1);
	ck_assert_uint_eq(f.config[4], 0x55);
	window(0, VIRTIO_PCI_BAR_SIZE - 4, 4);
	ck_assert_uint_eq(cfg_get(WINDOW, 4), 0);
	decode(true);
}
END_TEST

/* Everything works through it: ISR, notifications, MSI-X. */
START_TEST(pci_cfg_effects)
{
	uint64_t gpa;

	start(STEPS);
	gpa = driver_alloc(&d, 16);
	driver_add(&d, 0, (struct driver_buf[]){ { gpa, 16, true } }, 1);
	window(0, NOTIFY, 2);
	cfg_set(WINDOW, 0, 2);
	driver_wait(&d, 0, NULL, NULL);
	config_changed();
	window(0, ISR, 1);
	ck_assert_uint_eq(cfg_get(WINDOW, 1), 2);
	ck_assert_uint_eq(cfg_get(WINDOW, 1), 0);
	window(0, TABLE + 12, 4);
	cfg_set(WINDOW, 1, 4);
	ck_assert_uint_eq(get(TABLE + 12, 4), 1);
	window(0, VIRTIO_PCI_COMMON_STATUS, 1);
	cfg_set(WINDOW, 0, 1);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
}
END_TEST

/* --- The machine --- */

START_TEST(eventfd_fails)
{
	start(STEPS);
	for (unsigned i = 0; i <= VIRTIO_EXITS_MAX; i++)
		ping(0);
	ck_assert_uint_eq(eventfds.n, 1);
	eventfds.error = -ENOSPC; /* the place is taken, say */
	cfg_set(0x10, ELSE, 4);
	bar = ELSE;
	ck_assert_uint_eq(eventfds.n, 0);
	ping(0); /* by exits */
	eventfds.error = 0;
	decode(false);
	decode(true);
	ck_assert_uint_eq(eventfds.n, 1);
	ping(0);
}
END_TEST

/* An eventfd that is earned while the BAR is nowhere is registered with it. */
START_TEST(eventfd_unmapped)
{
	start(STEPS);
	decode(false);
	pthread_mutex_lock(&f.vdev.lock);
	ck_assert_int_eq(f.vdev.transport->ops->ioeventfd(f.vdev.transport, 1, 1000, true), 0);
	pthread_mutex_unlock(&f.vdev.lock);
	ck_assert_uint_eq(eventfds.n, 0);
	decode(true);
	ck_assert_uint_eq(eventfds.n, 1);
	ck_assert_int_eq(eventfds.at[0].fd, 1000);
	pthread_mutex_lock(&f.vdev.lock);
	ck_assert_int_eq(f.vdev.transport->ops->ioeventfd(f.vdev.transport, 1, 1000, false), 0);
	pthread_mutex_unlock(&f.vdev.lock);
	ck_assert_uint_eq(eventfds.n, 0);
}
END_TEST

START_TEST(machine_reset)
{
	start(STEPS);
	offload(0, true);
	cfg_set(0x10, ELSE, 4);
	bar = ELSE;
	set(TABLE + 2 * 16 + 12, 1, 4);
	ping(1);
	virtio_pci_reset(vpci);
	ck_assert_uint_eq(cfg_get(PCI_COMMAND, 2), 0);
	ck_assert_uint_eq(cfg_get(0x10, 4), BAR | 4);
	ck_assert_uint_eq(cfg_get(CTRL, 2), FAKE_QUEUES);
	ck_assert_uint_eq(eventfds.n, 0);
	ck_assert_uint_eq(test_msi_connected(&msi), 0);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0xff);
	bar = BAR;
	decode(true);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	ck_assert_uint_eq(get(TABLE + 8, 4), 0);
	ck_assert_uint_eq(get(TABLE + 12, 4), 1);
	ck_assert_uint_eq(get(PBA, 8), 0);
	start(STEPS);
	ping(0);
}
END_TEST

static int state_fn(void *dev, struct state *st)
{
	return virtio_pci_state(dev, st);
}

START_TEST(saved)
{
	struct fake_virtio g;
	struct virtio_pci *other;

	fake_virtio_init(&g, &d, FAKE_QUEUES);
	other = attach(&g, BAR2);
	start(STEPS);
	set(TABLE + 16 + 12, 1, 4);
	ping(0);
	cfg_set(0x10, ELSE, 4);
	bar = ELSE;
	set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	set(VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	virtio_quiesce(&f.vdev);
	/* The other shall go where we are. */
	decode(false);
	test_state(state_fn, vpci, other);
	bus_put(&bus, OTHER + 4, 6, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), DONE);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 1);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_DF, 4), 1);
	ck_assert_uint_eq(get(PBA, 8), 2);
	msi.sends = 0;
	set(TABLE + 16 + 12, 0, 4);
	ck_assert_uint_eq(msi.sends, 1);
	ck_assert_uint_eq(msi.data, 0x41);
	virtio_pci_free(other);
	virtio_fini(&g.vdev);
}
END_TEST

/* A file with decoding on maps the BAR; one that lies is made harmless. */
START_TEST(forged)
{
	uint8_t config[256], vectors[FAKE_QUEUES * 2], table[(FAKE_QUEUES + 1) * 16];
	uint16_t vec = 0x1234, sel = 0xffff;
	uint64_t pending = UINT64_MAX;
	struct state *st = state_new_save();
	uint32_t select = UINT32_MAX;
	uint8_t isr_bits = 0xff;
	const void *data;
	size_t len;

	memset(config, 0xff, sizeof(config));
	bus_put_le(config + 0x10, 8, ELSE);
	memset(vectors, 0x77, sizeof(vectors));
	memset(table, 0xff, sizeof(table));
	state_begin(st, "virtio-pci", 1);
	state_bytes(st, "config", config, sizeof(config));
	state_u32(st, "device-feature-select", &select);
	state_u32(st, "driver-feature-select", &select);
	state_u16(st, "queue-select", &sel);
	state_u16(st, "config-vector", &vec);
	state_bytes(st, "queue-vectors", vectors, sizeof(vectors));
	state_u8(st, "isr", &isr_bits);
	state_bytes(st, "msix-table", table, sizeof(table));
	state_u64(st, "msix-pending0", &pending);
	state_u64(st, "msix-pending1", &pending);
	virtio_state(&f.vdev, st);
	ck_assert_int_eq(state_end(st), 0);
	ck_assert_int_eq(state_finish(st, &data, &len, &err), 0);
	ck_assert_int_eq(test_load(state_fn, vpci, data, len), 0);
	ck_assert_uint_eq(cfg_get(0, 2), 0x1af4);
	bar = ELSE;
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), NONE);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), NONE);
	ck_assert_uint_eq(get(TABLE + 12, 4), 1);
	ck_assert_uint_eq(get(PBA, 8), 7);
	ck_assert_uint_eq(get(PBA + 8, 8), 0);
	ck_assert_uint_eq(get(ISR, 1), 3);
	state_free(st);
}
END_TEST

/* BARs moved on one vCPU, used on others: never a stale or a doubled range. */
static void *mover(void *arg)
{
	uint64_t fn = (uintptr_t)arg;

	for (unsigned i = 0; i < 300; i++) {
		bus_put(&bus, fn + 0x10, ELSE + (i * 7 % 5) * 0x8000, 4);
		bus_put(&bus, fn + 4, i % 3 == 0 ? 4 : 6, 2);
	}
	return NULL;
}

START_TEST(moved_by_many)
{
	struct fake_virtio g;
	struct virtio_pci *other;
	pthread_t thread[4];

	fake_virtio_init(&g, &d, FAKE_QUEUES);
	other = attach(&g, BAR2);
	pthread_mutex_lock(&f.vdev.lock);
	f.vdev.transport->ops->ioeventfd(f.vdev.transport, 1, 1000, true);
	pthread_mutex_unlock(&f.vdev.lock);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, mover,
						(void *)(uintptr_t)(i % 2 ? FN : OTHER)),
				 0);
	for (unsigned i = 0; i < 500; i++)
		bus_get(&bus, ELSE + i % 5 * 0x8000 + VIRTIO_PCI_COMMON_STATUS, 1);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	/* When all is quiet the BARs are where configuration space says. */
	bus_put(&bus, OTHER + 4, 4, 2);
	decode(false);
	ck_assert_uint_eq(bus.n, 1);
	cfg_set(0x10, ELSE, 4);
	decode(true);
	ck_assert_uint_eq(eventfds.at[0].addr, ELSE + NOTIFY + 4);
	ck_assert_uint_eq(bus_get(&bus, ELSE + VIRTIO_PCI_COMMON_NUMQ, 2), FAKE_QUEUES);
	pthread_mutex_lock(&f.vdev.lock);
	f.vdev.transport->ops->ioeventfd(f.vdev.transport, 1, 1000, false);
	pthread_mutex_unlock(&f.vdev.lock);
	virtio_pci_free(other);
	virtio_fini(&g.vdev);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("virtio_pci");
	TCase *tc = tcase_create("virtio_pci");

	log_set_level(LOG_ERROR);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, identity);
	tcase_add_test(tc, capabilities);
	tcase_add_test(tc, many_queues);
	tcase_add_test(tc, read_only);
	tcase_add_test(tc, bar_decoding);
	tcase_add_test(tc, bar_sizing);
	tcase_add_test(tc, bar_moves);
	tcase_add_test(tc, bar_in_pieces);
	tcase_add_test(tc, bar_overlap);
	tcase_add_test(tc, read_widths);
	tcase_add_test(tc, write_widths);
	tcase_add_test(tc, fields);
	tcase_add_test(tc, works);
	tcase_add_loop_test(tc, reset_anytime, 0, STEPS + 1);
	tcase_add_test(tc, device_config);
	tcase_add_test(tc, vectors_refused);
	tcase_add_test(tc, masks);
	tcase_add_test(tc, table_widths);
	tcase_add_test(tc, isr);
	tcase_add_test(tc, irqfds);
	tcase_add_test(tc, irqfd_fails);
	tcase_add_test(tc, pci_cfg);
	tcase_add_test(tc, pci_cfg_effects);
	tcase_add_test(tc, eventfd_fails);
	tcase_add_test(tc, eventfd_unmapped);
	tcase_add_test(tc, machine_reset);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, forged);
	tcase_add_test(tc, moved_by_many);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
