// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that notices when a snapshot loses something: it counts, and each round uses
 *
 *	the local APIC's timer	an interrupt must come, with its vector
 *	the TSC			must not run backwards
 *	memory			a page is filled with a pattern, another one must have what it was given
 *	a disk, if there is one	a sector is written, read back and compared; sector N is round N's alone
 *
 * and then prints "tick N". It ends after rounds= of them (1000000) with "snap ok", or with a line that
 * begins with BAD. When the generation id changes it prints "generation ID event E", with the bits that
 * the generic event device has, and, if there is a source of random numbers, "random NUMBER".
 * pages= pages (64) are in use; timer= is the timer's time in us (1000).
 */
#include "virtio.h"

PVH_ENTRY;

#define LAPIC		0xfee00000
#define LVT_TIMER	0x320
#define TIMER_COUNT	0x380
#define TIMER_DIVIDE	0x3e0
#define DIVIDE_BY_1	0xb
#define TIMER_VECTOR	(IRQ_VECTOR + 5)
#define GENERATION	0xd0000
#define GED_EVENTS	0x604
#define WORDS		8 /* of a page that are looked at; each costs microseconds */

static uint8_t *memory;
static uint32_t *stamp; /* round in which a page was last filled */
static unsigned pages;
static struct vdev disk, rng;
static struct vq disk_queue, rng_queue;
static bool have_disk, have_rng;
static uint64_t sectors, generation[2];

static uint64_t pattern(uint64_t round, uint64_t i)
{
	uint64_t state = round * 0x9e3779b97f4a7c15 + i + 1;

	return random_next(&state);
}

static uint32_t ind(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port));
	return v;
}

static void bad(const char *what, uint32_t round)
{
	print("BAD %s in round %u\n", what, round);
	leave(1);
}

static void use_timer(uint32_t round, uint32_t us)
{
	wr32(LAPIC + TIMER_DIVIDE, DIVIDE_BY_1);
	wr32(LAPIC + LVT_TIMER, TIMER_VECTOR);
	wr32(LAPIC + TIMER_COUNT, us * 1000); /* KVM counts at 1 GHz */
	if (irq_wait() != TIMER_VECTOR)
		bad("interrupt", round);
	irq_done();
}

static void use_memory(uint32_t round)
{
	unsigned n = round % pages, other = (round * 7 + 3) % pages;
	uint64_t *page = (uint64_t *)(memory + n * 4096ul);

	for (unsigned i = 0; i < WORDS; i++)
		page[i * 64 + round % 64] = pattern(round, i);
	stamp[n] = round;
	page = (uint64_t *)(memory + other * 4096ul);
	for (unsigned i = 0; i < WORDS && stamp[other] != 0; i++)
		if (page[i * 64 + stamp[other] % 64] != pattern(stamp[other], i))
			bad("memory", round);
}

static void use_disk(uint32_t round)
{
	static uint64_t out[SECTOR / 8], in[SECTOR / 8];
	uint64_t sector = round % sectors;

	for (unsigned i = 0; i < SECTOR / 8; i++)
		out[i] = pattern(round, i % WORDS);
	if (blk_do(&disk_queue, BLK_OUT, sector, out, SECTOR) != 0 ||
	    blk_do(&disk_queue, BLK_IN, sector, in, SECTOR) != 0)
		bad("disk request", round);
	if (memcmp(in, out, SECTOR) != 0)
		bad("disk", round);
}

static void look_at_generation(void)
{
	uint64_t id[2] = { rd64(GENERATION), rd64(GENERATION + 8) }, number = 0;

	if (id[0] == generation[0] && id[1] == generation[1])
		return;
	generation[0] = id[0];
	generation[1] = id[1];
	print("generation %lx%lx event %x\n", id[1], id[0], ind(GED_EVENTS));
	if (!have_rng)
		return;
	if (vq_do(&rng_queue, &(struct vbuf){ &number, sizeof(number) }, 0, 1) <= 0)
		bad("random numbers", 0);
	print("random %lx\n", number);
}

static bool begin(struct vdev *v, unsigned id, struct vq *vq)
{
	if (!virtio_find(v, id, 0))
		return false;
	if (!virtio_begin(v, 0) || !virtio_queue(v, 0, 16, vq))
		bad("device", 0);
	virtio_go(v);
	return true;
}

void main(void)
{
	uint32_t rounds = (uint32_t)arg_number("rounds", 1000000);
	uint32_t us = (uint32_t)arg_number("timer", 1000);
	uint64_t last = 0;

	pages = (unsigned)arg_number("pages", 64);
	memory = ram_alloc(pages * 4096ul, 4096);
	stamp = ram_alloc(pages * sizeof(*stamp), 16);
	irq_init();
	/* With --pit there are PICs, which pass everything on until they are told not to. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	have_disk = begin(&disk, VIRTIO_BLK, &disk_queue);
	have_rng = begin(&rng, VIRTIO_RNG, &rng_queue);
	if (have_disk)
		sectors = virtio_config(&disk, 0, 8);
	generation[0] = rd64(GENERATION);
	generation[1] = rd64(GENERATION + 8);
	print("ready\n");
	for (uint32_t round = 1; round <= rounds; round++) {
		uint64_t now;

		use_timer(round, us);
		now = ticks();
		if (now < last)
			bad("time", round);
		last = now;
		use_memory(round);
		if (have_disk)
			use_disk(round);
		look_at_generation();
		print("tick %u\n", round);
	}
	print("snap ok\n");
}
