// SPDX-License-Identifier: Apache-2.0
/*
 * A driver that breaks the rules. It attacks a device in many ways, and after each attack uses
 * that device and another one as a driver should: the monitor must have survived, and the
 * device must work again after a reset. Prints "survived NAME" for each, or "NAME: " and what no
 * longer works; "done N attacks, N failures" at the end.
 *
 * Words: dev=blk|net|console|rng|balloon|vsock|fs|pmem, the one attacked; other=, the one that must
 * not suffer (if of the same type, the second);
 * transport=; attack=NAME,NAME.. (all); skip=NAME,..; seed= and rounds= for what depends on
 * chance; kicks= (100000) for the storm; mem= the MiB of RAM (64); khz=; smp=1 when there is a second CPU, which changes descriptors
 * behind the device's back; passes=N, all attacks N times; pause=1 to wait for a byte on the serial
 * port after "pause" was printed, which is done before and after each pass.
 *
 * Runs at privilege level 3, to be fast. Local APICs stay off: interrupts go nowhere.
 */
#include "hostile.h"

PVH_ENTRY;

uint8_t *victim;
uint64_t ram_end;
bool have_other;

static uint64_t random_state;
static uint32_t saved_bar[256][2]; /* by place */
static const char *const names[] = {
	[VIRTIO_NET] = "net", [VIRTIO_BLK] = "blk", [VIRTIO_CONSOLE] = "console",
	[VIRTIO_RNG] = "rng", [VIRTIO_BALLOON] = "balloon", [VIRTIO_VSOCK] = "vsock",
	[VIRTIO_FS] = "fs", [VIRTIO_PMEM] = "pmem"
};

uint64_t rnd(void)
{
	return random_next(&random_state);
}

unsigned rounds(void)
{
	return (unsigned)arg_number("rounds", 300);
}

uint64_t nth_bad_address(unsigned n)
{
	switch (n) {
	case 0:
		return ram_end;
	case 1:
		return ram_end - 1;
	case 2:
		return ram_end - 16;
	case 3:
		return ram_end - 512;
	case 4:
		return VIRTIO_MMIO;
	case 5:
		return ECAM;
	case 6:
		return MMIO32;
	case 7:
		return IOAPIC;
	case 8:
		return LAPIC;
	case 9:
		return 0xfffffff0; /* over 4 GiB */
	case 10:
		return 1ull << 32;
	case 11:
		return 1ull << 52;
	case 12:
		return 1ull << 63;
	case 13:
		return ~0ull;
	case 14:
		return ~0ull - 15;
	default:
		return ~0ull - 4095;
	}
}

uint64_t bad_address(void)
{
	return nth_bad_address(rnd_below(BAD_ADDRESSES)) - (rnd_below(4) == 0 ? rnd_below(64) : 0);
}

void settle(struct vq *vq)
{
	uint64_t start = ticks(), limit = us_ticks(1000);
	volatile struct vused *used = vq->used;
	uint16_t idx = used->idx;

	while (ticks() - start < limit && used->idx == idx) {
		if ((virtio_status(vq->vdev) & STATUS_NEEDS_RESET) != 0)
			break;
	}
}

bool alive(struct vdev *v, uint64_t features, unsigned q, struct vq *vq)
{
	if (!virtio_begin(v, features) || !virtio_queue(v, q, QUEUE_SIZE, vq))
		return false;
	virtio_go(v);
	return true;
}

void offer(struct vq *vq, uint16_t head)
{
	vq->avail->ring[vq->added & (vq->size - 1)] = head;
	barrier();
	((volatile struct vavail *)vq->avail)->idx = ++vq->added;
	fence();
	virtio_notify(vq);
}

void offer_good(struct vq *vq)
{
	struct blk_header *header = (void *)(victim + VICTIM_SIZE - 64);
	uint16_t writable = DESC_WRITE;

	switch (vq->vdev->id) {
	case VIRTIO_BLK:
		*header = (struct blk_header){ .type = BLK_IN };
		put_desc(&vq->desc[0], (uintptr_t)header, sizeof(*header), DESC_NEXT, 1);
		put_desc(&vq->desc[1], (uintptr_t)victim, 4096, DESC_NEXT | DESC_WRITE, 2);
		put_desc(&vq->desc[2], (uintptr_t)victim + 4096, 1, DESC_WRITE, 0);
		break;
	case VIRTIO_PMEM:
		*(uint32_t *)header = 0;
		put_desc(&vq->desc[0], (uintptr_t)header, 4, DESC_NEXT, 1);
		put_desc(&vq->desc[1], (uintptr_t)victim, 4, DESC_WRITE, 0);
		break;
	case VIRTIO_FS: /* GETATTR of the root */
		memset(header, 0, 64);
		*(uint32_t *)header = 56;
		((uint32_t *)header)[1] = 3;
		((uint64_t *)header)[2] = 1;
		put_desc(&vq->desc[0], (uintptr_t)header, 56, DESC_NEXT, 1);
		put_desc(&vq->desc[1], (uintptr_t)victim, 4096, DESC_WRITE, 0);
		break;
	case VIRTIO_VSOCK:
		memset(victim, 0, 64); /* the CIDs: it is dropped */
		/* fall through */
	case VIRTIO_NET:
	case VIRTIO_CONSOLE:
		if ((vq->index & 1) != 0)
			writable = 0;
		/* fall through */
	default:
		put_desc(&vq->desc[0], (uintptr_t)victim, 64, writable, 0);
	}
	offer(vq, 0);
}

void pci_restore(struct vdev *v)
{
	uint32_t *bar = saved_bar[v->place];

	if (!v->pci)
		return;
	wr16(v->ecam + v->msix_cap + 2, 0);
	wr16(v->ecam + PCI_COMMAND, 0);
	wr32(v->ecam + PCI_BAR0, bar[0]);
	wr32(v->ecam + PCI_BAR0 + 4, bar[1]);
	wr16(v->ecam + PCI_COMMAND, PCI_COMMAND_VALUE);
}

/* --- Right use --- */

/* A connection to a port where nobody listens is refused: NULL, or what went wrong. */
static const char *use_vsock(struct vdev *v, struct vq *rx, struct vq *tx, uint8_t *data)
{
	struct vsock_header *h = (void *)data, *answer = (void *)(data + 1024);
	struct vbuf in = { answer, 1024 }, out = { h, sizeof(*h) };
	uint32_t len;

	vq_add(rx, &in, 0, 1);
	vq_kick(rx);
	*h = (struct vsock_header){ .src_cid = virtio_config(v, 0, 8), .dst_cid = VSOCK_HOST,
				    .src_port = 1000, .dst_port = 999, .type = VSOCK_STREAM,
				    .op = VSOCK_REQUEST };
	if (vq_do(tx, &out, 1, 0) < 0)
		return "nothing is sent";
	if (vq_wait(rx, &len, 5000000) < 0 || len != sizeof(*h))
		return "there is no answer";
	if (answer->op != VSOCK_RST || answer->dst_port != 1000 || answer->src_port != 999)
		return "the answer is wrong";
	return NULL;
}

/* Reset, then one request that must succeed: NULL, or what went wrong. */
static const char *use(struct vdev *v)
{
	static uint8_t count;
	uint64_t start = ticks(), limit = us_ticks(5000000);
	uint8_t *data = ram_alloc(4096, 64);
	struct vbuf b = { data, 64 };
	struct vq vq, rx;
	unsigned q = v->id == VIRTIO_NET || v->id == VIRTIO_CONSOLE || v->id == VIRTIO_VSOCK ||
		     v->id == VIRTIO_FS;
	const char *wrong;
	int len;

	pci_restore(v);
	virtio_set_status(v, 0);
	while (virtio_status(v) != 0) {
		if (ticks() - start > limit)
			return "the reset does not end";
	}
	if (!virtio_begin(v, v->id == VIRTIO_CONSOLE ? 0 : F_EVENT_IDX | F_BLK_FLUSH))
		return "FEATURES_OK is refused";
	if (!virtio_queue(v, q, QUEUE_SIZE, &vq) ||
	    (v->id == VIRTIO_VSOCK && !virtio_queue(v, 0, QUEUE_SIZE, &rx)))
		return "the queue has gone";
	virtio_go(v);
	switch (v->id) {
	case VIRTIO_BLK:
		count++;
		memset(data, count, 1024);
		if (blk_do(&vq, BLK_OUT, 9, data, 1024) != 0)
			return "a write fails";
		memset(data, 0, 1024);
		if (blk_do(&vq, BLK_IN, 9, data, 1024) != 0)
			return "a read fails";
		if (data[0] != count || data[1023] != count)
			return "what was written is not read";
		break;
	case VIRTIO_RNG:
		len = vq_do(&vq, &b, 0, 1);
		if (len <= 0 || len > 64)
			return "there are no random numbers";
		break;
	case VIRTIO_VSOCK:
		wrong = use_vsock(v, &rx, &vq, data);
		if (wrong != NULL)
			return wrong;
		break;
	case VIRTIO_BALLOON:
		*(uint32_t *)data = (uint32_t)((uintptr_t)victim >> 12);
		memset(victim, 1, 8192);
		b.len = 4;
		if (vq_do(&vq, &b, 1, 0) < 0)
			return "nothing is inflated";
		if (victim[0] != 0 || victim[4095] != 0)
			return "a page in the balloon is still there";
		if (victim[4096] != 1)
			return "a page that is not in the balloon has gone";
		break;
	case VIRTIO_PMEM: {
		struct vbuf flush[2] = { { data, 4 }, { data + 64, 4 } };

		memset(data, 0, 4);
		memset(data + 64, 0xff, 4);
		if (vq_do(&vq, flush, 1, 1) != 4 || *(uint32_t *)(data + 64) != 0)
			return "a flush fails";
		break;
	}
	case VIRTIO_FS:
		wrong = fs_use(&vq);
		if (wrong != NULL)
			return wrong;
		break;
	case VIRTIO_NET:
		memset(data + sizeof(struct net_header), 0xff, 6);
		data[sizeof(struct net_header) + 6] = 2;
		b.len = sizeof(struct net_header) + 60;
		/* fall through */
	default:
		if (vq_do(&vq, &b, 1, 0) < 0)
			return "nothing is sent";
	}
	if ((virtio_status(v) & STATUS_NEEDS_RESET) != 0)
		return "it needs a reset";
	return NULL;
}

static unsigned attacks, failures;

static void judge(const char *name, const char *whose, const char *wrong)
{
	if (wrong == NULL)
		return;
	print("%s: %s: %s\n", name, whose, wrong);
	failures++;
}

static void run(const struct attack *table, struct vdev *v, struct vdev *other)
{
	uintptr_t mark = ram_mark();

	for (const struct attack *a = table; a->name != NULL; a++) {
		unsigned before = failures;

		if ((a->id != ANY && a->id != v->id) || (a->pci && !v->pci) ||
		    !arg_has("attack", a->name) || (arg("skip") != NULL && arg_has("skip", a->name)))
			continue;
		if (arg_number("verbose", 0) != 0)
			print("attack %s\n", a->name);
		attacks++;
		a->run(v);
		ram_release(mark);
		judge(a->name, "the other device", use(other));
		judge(a->name, "the device", use(v));
		ram_release(mark);
		if (failures == before)
			print("survived %s\n", a->name);
	}
}

/* The @n-th device of the type that @word says. */
static bool find(struct vdev *v, const char *word, unsigned n)
{
	for (unsigned id = 1; id < ARRAY_SIZE(names); id++) {
		if (names[id] == NULL || !arg_is(word, names[id]) || !virtio_find(v, id, n))
			continue;
		if (v->pci) {
			saved_bar[v->place][0] = rd32(v->ecam + PCI_BAR0);
			saved_bar[v->place][1] = rd32(v->ecam + PCI_BAR0 + 4);
		}
		return true;
	}
	print("%s=: no such device\n", word);
	return false;
}

static void wait_for_byte(const char *what)
{
	print("%s\n", what);
	if (arg_number("pause", 0) != 0)
		getbyte();
}

void main(void)
{
	struct vdev v, other;

	if (!find(&v, "dev", 0) || !find(&other, "other", 0))
		return;
	if (v.id == other.id && !find(&other, "other", 1))
		return;
	random_state = arg_number("seed", 1) * 0x9e3779b97f4a7c15 + 1;
	ram_end = arg_number("mem", 64) << 20;
	victim = ram_alloc(VICTIM_SIZE, 4096);
	have_other = arg_number("smp", 0) != 0;
	if (have_other)
		start_other(other_cpu);
	enter_user();
	judge("at first", "the device", use(&v));
	judge("at first", "the other device", use(&other));
	wait_for_byte("pause");
	for (uint64_t pass = arg_number("passes", 1); pass > 0; pass--) {
		run(ring_attacks, &v, &other);
		run(register_attacks, &v, &other);
		run(pci_attacks, &v, &other);
		run(device_attacks, &v, &other);
		run(vsock_attacks, &v, &other);
		run(memory_attacks, &v, &other);
		run(fs_attacks, &v, &other);
		wait_for_byte("pause");
	}
	print("done %u attacks, %u failures\n", attacks, failures);
	leave(failures > 0);
}
