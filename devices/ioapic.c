// SPDX-License-Identifier: Apache-2.0
/*
 * I/O APIC: Intel 82093AA data sheet (290566), chapter 3, with the EOI register of its
 * successors (version 0x20). The local APICs are in the kernel (KVM's split irqchip);
 * this chip turns what happens on its input pins into message-signalled interrupts.
 *
 * Theory of operation. Each pin has a redirection entry, the level of its line, and for
 * edge-triggered pins a latch that says "an edge came that was not delivered yet":
 *
 *  - edge: a rising line sets the latch; the latch is emptied into a message at once,
 *    or when the guest unmasks the pin. (The data sheet drops edges on a masked pin.
 *    Keeping one costs a driver at most one interrupt without a cause; losing one can
 *    leave a device that raised its line during boot silent for ever.)
 *  - level: a high line sends a message and sets Remote IRR, which holds further ones
 *    back until the guest's EOI; if the line is still high then, the next one is sent.
 *
 * EOIs come as KVM_EXIT_IOAPIC_EOI for every vector that KVM finds in its routing table
 * as level-triggered. Hence a pin whose interrupt is in service keeps its route although
 * the guest masks it (Linux does so around threaded handlers): without it the EOI would
 * never arrive and Remote IRR stay set. The version is 0x20, with an EOI register,
 * because KVM offers directed EOI in the local APIC when this chip is in user space; a
 * guest that takes that offer looks for the register here. Getting both EOIs is harmless.
 *
 * More than 255 CPUs: bits 55:49 of an entry hold bits 14:8 of the destination ID, as
 * promised by KVM_FEATURE_MSI_EXT_DEST_ID; they go to bits 11:5 of the message address.
 *
 * Locking: one mutex, a leaf (see irq.h): any device may hold its own when it sets a
 * line, and under ours only struct ioapic_output is called.
 *
 * Limits: registers are read and written as aligned dwords (IOREGSEL also narrower).
 * Polarity is stored and ignored: a line that is set is asserted. No irqfd may be bound
 * to a level-triggered pin, as KVM would not set Remote IRR.
 *
 * #syscalls main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "devices/ioapic.h"

#define IOAPIC_VERSION 0x20

/* Offsets in the window */
#define IOREGSEL 0x00
#define IOWIN	 0x10
#define IOEOI	 0x40

/* Registers behind IOREGSEL */
#define IOAPICID  0x00
#define IOAPICVER 0x01
#define IOAPICARB 0x02
#define IOREDTBL  0x10

#define ID_SHIFT 24
#define ID_MASK	 0x0f

/* Redirection entry */
#define RTE_VECTOR     0xffULL
#define RTE_DELIVERY   (7ULL << 8)
#define RTE_LOGICAL    (1ULL << 11)
#define RTE_STATUS     (1ULL << 12) /* read-only; we never have one pending */
#define RTE_POLARITY   (1ULL << 13)
#define RTE_REMOTE_IRR (1ULL << 14) /* read-only */
#define RTE_LEVEL      (1ULL << 15)
#define RTE_MASKED     (1ULL << 16)
#define RTE_EXT_DEST   (0x7fULL << 49)
#define RTE_DEST       (0xffULL << 56)
#define RTE_WRITABLE                                                                               \
	(RTE_VECTOR | RTE_DELIVERY | RTE_LOGICAL | RTE_POLARITY | RTE_LEVEL | RTE_MASKED |         \
	 RTE_EXT_DEST | RTE_DEST)

/* Message address and data: Intel SDM vol. 3, 11.11 */
#define MSI_ADDR_BASE	 0xfee00000ULL
#define MSI_ADDR_LOGICAL (1 << 2)
#define MSI_DATA_ASSERT	 (1 << 14)
#define MSI_DATA_LEVEL	 (1 << 15)

struct pin {
	uint64_t rte;
	bool level;   /* of the line */
	bool latched; /* edge-triggered: an edge waits to be delivered */
};

struct ioapic {
	pthread_mutex_t lock;
	struct bus_range range;
	struct ioapic_output *out;

	uint8_t id;
	uint8_t select;
	unsigned npins;
	struct pin pin[IOAPIC_PINS_MAX];
};

static uint64_t rte_msi_addr(uint64_t rte)
{
	return MSI_ADDR_BASE | rte >> 56 << 12 | (rte >> 49 & 0x7f) << 5 |
	       (rte & RTE_LOGICAL ? MSI_ADDR_LOGICAL : 0);
}

static uint32_t rte_msi_data(uint64_t rte)
{
	return (rte & (RTE_VECTOR | RTE_DELIVERY)) |
	       (rte & RTE_LEVEL ? MSI_DATA_LEVEL | MSI_DATA_ASSERT : 0);
}

/* Does KVM need to know of this entry? See the theory of operation. */
static bool rte_routed(uint64_t rte)
{
	return !(rte & RTE_MASKED) || (rte & RTE_REMOTE_IRR);
}

/*
 * Give an entry a new value and tell the outside if it matters there. A change of
 * KVM's routing table is expensive: a guest must not cause one by rewriting an entry
 * with what it holds, nor by preparing a masked one field by field.
 */
static void pin_set_rte(struct ioapic *ioapic, unsigned pin, uint64_t rte)
{
	uint64_t old = ioapic->pin[pin].rte;
	bool routed = rte_routed(rte);

	ioapic->pin[pin].rte = rte;
	if (routed == rte_routed(old) && (!routed || (rte_msi_addr(rte) == rte_msi_addr(old) &&
						      rte_msi_data(rte) == rte_msi_data(old))))
		return;
	ioapic->out->route(ioapic->out, pin, !routed, rte_msi_addr(rte), rte_msi_data(rte));
}

/* Deliver what the pin has to deliver, if it may now. */
static void pin_service(struct ioapic *ioapic, unsigned n)
{
	struct pin *pin = &ioapic->pin[n];

	if (pin->rte & RTE_MASKED)
		return;
	if (pin->rte & RTE_LEVEL) {
		if (!pin->level || (pin->rte & RTE_REMOTE_IRR))
			return;
		pin_set_rte(ioapic, n, pin->rte | RTE_REMOTE_IRR);
	} else {
		if (!pin->latched)
			return;
		pin->latched = false;
	}
	ioapic->out->send(ioapic->out, rte_msi_addr(pin->rte), rte_msi_data(pin->rte));
}

static void ioapic_set_line(struct irq_line *line, bool level)
{
	struct ioapic *ioapic = line->chip;
	struct pin *pin;

	if (line->gsi >= ioapic->npins)
		return;
	pthread_mutex_lock(&ioapic->lock);
	pin = &ioapic->pin[line->gsi];
	if (level && !pin->level && !(pin->rte & RTE_LEVEL))
		pin->latched = true;
	pin->level = level;
	pin_service(ioapic, line->gsi);
	pthread_mutex_unlock(&ioapic->lock);
}

/* Under the lock. Bounded: each pin is sent at most once. */
static void ioapic_end(struct ioapic *ioapic, uint8_t vector)
{
	for (unsigned n = 0; n < ioapic->npins; n++) {
		uint64_t rte = ioapic->pin[n].rte;

		if ((rte & RTE_VECTOR) != vector || !(rte & RTE_REMOTE_IRR))
			continue;
		/* Only a masked pin's route changes: it goes with the EOI it waited for. */
		pin_set_rte(ioapic, n, rte & ~RTE_REMOTE_IRR);
		pin_service(ioapic, n);
	}
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
	pthread_mutex_lock(&ioapic->lock);
	ioapic_end(ioapic, vector);
	pthread_mutex_unlock(&ioapic->lock);
}

static uint32_t reg_read(const struct ioapic *ioapic, unsigned reg)
{
	unsigned n = (reg - IOREDTBL) / 2;

	switch (reg) {
	case IOAPICID:
	case IOAPICARB: /* loaded with the ID; there is no bus to arbitrate for */
		return (uint32_t)ioapic->id << ID_SHIFT;
	case IOAPICVER:
		return IOAPIC_VERSION | (ioapic->npins - 1) << 16;
	}
	if (reg < IOREDTBL || n >= ioapic->npins)
		return UINT32_MAX;
	return ioapic->pin[n].rte >> (reg & 1 ? 32 : 0);
}

static void reg_write(struct ioapic *ioapic, unsigned reg, uint32_t value)
{
	unsigned n = (reg - IOREDTBL) / 2;
	uint64_t old, rte;

	if (reg == IOAPICID)
		ioapic->id = value >> ID_SHIFT & ID_MASK;
	if (reg < IOREDTBL || n >= ioapic->npins)
		return;

	old = ioapic->pin[n].rte;
	if (reg & 1)
		rte = (uint64_t)value << 32 | (old & UINT32_MAX);
	else
		rte = (old >> 32 << 32) | value;
	rte = (rte & RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
	/*
	 * Remote IRR is meaningless for an edge, and switching there and back is how
	 * Linux clears it. The latch is meaningless for a level.
	 */
	if (rte & RTE_LEVEL)
		ioapic->pin[n].latched = false;
	else
		rte &= ~RTE_REMOTE_IRR;
	pin_set_rte(ioapic, n, rte);
	pin_service(ioapic, n);
}

static void ioapic_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	struct ioapic *ioapic = opaque;
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&ioapic->lock);
	if (off == IOREGSEL && len <= 4)
		value = ioapic->select;
	else if (off == IOWIN && len == 4)
		value = reg_read(ioapic, ioapic->select);
	pthread_mutex_unlock(&ioapic->lock);
	bus_put_le(data, len, value);
}

static void ioapic_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct ioapic *ioapic = opaque;
	uint64_t value = bus_get_le(data, len);

	pthread_mutex_lock(&ioapic->lock);
	if (off == IOREGSEL && len <= 4)
		ioapic->select = value;
	else if (off == IOWIN && len == 4)
		reg_write(ioapic, ioapic->select, value);
	else if (off == IOEOI && len == 4)
		ioapic_end(ioapic, value);
	pthread_mutex_unlock(&ioapic->lock);
}

struct ioapic *ioapic_new(unsigned pins, struct ioapic_output *out, struct err *err)
{
	struct ioapic *ioapic;

	if (pins == 0 || pins > IOAPIC_PINS_MAX) {
		err_set(err, EINVAL, "I/O APIC with %u pins: 1 to %d are possible", pins,
			IOAPIC_PINS_MAX);
		return NULL;
	}
	ioapic = calloc(1, sizeof(*ioapic));
	if (ioapic == NULL) {
		err_sys(err, ENOMEM, "I/O APIC");
		return NULL;
	}
	pthread_mutex_init(&ioapic->lock, NULL);
	ioapic->out = out;
	ioapic->npins = pins;
	for (unsigned n = 0; n < pins; n++)
		ioapic->pin[n].rte = RTE_MASKED;
	ioapic->range = (struct bus_range){
		.len = IOAPIC_MMIO_SIZE,
		.name = "I/O APIC",
		.dev = ioapic,
		.read = ioapic_read,
		.write = ioapic_write,
	};
	return ioapic;
}

void ioapic_free(struct ioapic *ioapic)
{
	if (ioapic == NULL)
		return;
	pthread_mutex_destroy(&ioapic->lock);
	free(ioapic);
}

struct bus_range *ioapic_range(struct ioapic *ioapic)
{
	return &ioapic->range;
}

struct irq_line ioapic_line(struct ioapic *ioapic, uint32_t gsi)
{
	return (struct irq_line){ .set = ioapic_set_line, .chip = ioapic, .gsi = gsi };
}

void ioapic_reset(struct ioapic *ioapic)
{
	pthread_mutex_lock(&ioapic->lock);
	ioapic->id = 0;
	ioapic->select = 0;
	for (unsigned n = 0; n < ioapic->npins; n++) {
		ioapic->pin[n].latched = false;
		pin_set_rte(ioapic, n, RTE_MASKED);
	}
	pthread_mutex_unlock(&ioapic->lock);
}

/* In a file: the entries as little-endian u64s, then one byte per pin. */
#define PIN_LEVEL   (1 << 0)
#define PIN_LATCHED (1 << 1)

static void ioapic_load_pin(struct ioapic *ioapic, unsigned n, uint64_t rte, uint8_t flags)
{
	struct pin *pin = &ioapic->pin[n];

	rte &= RTE_WRITABLE | RTE_REMOTE_IRR;
	if (!(rte & RTE_LEVEL))
		rte &= ~RTE_REMOTE_IRR;
	pin->level = flags & PIN_LEVEL;
	pin->latched = (flags & PIN_LATCHED) && !(rte & RTE_LEVEL);
	pin_set_rte(ioapic, n, rte);
}

int ioapic_state(struct ioapic *ioapic, struct state *st)
{
	uint64_t rte[IOAPIC_PINS_MAX];
	uint8_t flags[IOAPIC_PINS_MAX];
	int ret;

	pthread_mutex_lock(&ioapic->lock);
	for (unsigned n = 0; n < ioapic->npins; n++) {
		const struct pin *pin = &ioapic->pin[n];

		rte[n] = htole64(pin->rte);
		flags[n] = (pin->level ? PIN_LEVEL : 0) | (pin->latched ? PIN_LATCHED : 0);
	}
	state_begin(st, "ioapic", 1);
	state_u8(st, "id", &ioapic->id);
	state_u8(st, "select", &ioapic->select);
	state_bytes(st, "entries", rte, ioapic->npins * sizeof(rte[0]));
	state_bytes(st, "lines", flags, ioapic->npins);
	ret = state_end(st);
	if (ret == 0 && state_loading(st)) {
		ioapic->id &= ID_MASK;
		for (unsigned n = 0; n < ioapic->npins; n++)
			ioapic_load_pin(ioapic, n, le64toh(rte[n]), flags[n]);
	}
	pthread_mutex_unlock(&ioapic->lock);
	return ret;
}
