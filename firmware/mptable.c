// SPDX-License-Identifier: Apache-2.0
/*
 * Intel MultiProcessor Specification 1.4: chapter 4, floating pointer (4.1) and
 * configuration table with its base entries (4.2, 4.3). For kernels without ACPI.
 *
 * One ISA bus, one I/O APIC, ISA IRQs on the pins of the same number ("conforming": edge,
 * active high): the machine has no PIT and no 8259 whose lines a PC would put elsewhere. IRQs
 * from 16 on, which no real ISA bus has, are those of virtio devices; an entry makes Linux
 * set the pin up under just that number, as an edge. Local interrupts are what every system
 * expects: ExtINT on LINT0, NMI on LINT1.
 *
 * Limits: no extended entries, no PCI bus (PCI functions here interrupt by MSI), APIC ids
 * below 255.
 */
#include <errno.h>
#include <string.h>
#include "firmware/mptable.h"

#define PACKED __attribute__((packed))

struct mp_floating { /* 4.1 */
	char signature[4];
	uint32_t table;
	uint8_t length; /* in paragraphs of 16 bytes */
	uint8_t revision;
	uint8_t checksum;
	uint8_t feature[5];
} PACKED;

struct mp_config { /* 4.2 */
	char signature[4];
	uint16_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[8];
	char product_id[12];
	uint32_t oem_table;
	uint16_t oem_table_size;
	uint16_t entry_count;
	uint32_t lapic_addr;
	uint16_t extended_length;
	uint8_t extended_checksum;
	uint8_t reserved;
} PACKED;

struct mp_processor { /* 4.3.1 */
	uint8_t type;
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
} PACKED;

struct mp_bus { /* 4.3.2 */
	uint8_t type;
	uint8_t id;
	char name[6];
} PACKED;

struct mp_ioapic { /* 4.3.3 */
	uint8_t type;
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	uint32_t addr;
} PACKED;

struct mp_interrupt { /* 4.3.4; 4.3.5 has the same shape */
	uint8_t type;
	uint8_t int_type;
	uint16_t flags; /* 0: polarity and trigger mode conform to the bus */
	uint8_t bus;
	uint8_t irq;
	uint8_t apic;
	uint8_t pin;
} PACKED;

_Static_assert(sizeof(struct mp_floating) == 16, "4.1");
_Static_assert(sizeof(struct mp_config) == 44, "4.2");
_Static_assert(sizeof(struct mp_processor) == 20, "4.3.1");
_Static_assert(sizeof(struct mp_bus) == 8, "4.3.2");
_Static_assert(sizeof(struct mp_ioapic) == 8, "4.3.3");
_Static_assert(sizeof(struct mp_interrupt) == 8, "4.3.4");

enum { MP_PROCESSOR, MP_BUS, MP_IOAPIC, MP_INTERRUPT, MP_LOCAL_INTERRUPT };
enum { MP_INT, MP_NMI, MP_SMI, MP_EXTINT };

#define MP_REVISION	 4 /* 1.4 */
#define MP_CPU_ENABLED	 (1U << 0)
#define MP_CPU_BSP	 (1U << 1)
#define MP_IOAPIC_USABLE (1U << 0)
#define MP_ALL_APICS	 255  /* as an APIC id: everybody; so no CPU can have it */
#define LAPIC_VERSION	 0x14 /* integrated, as KVM's */
#define IOAPIC_VERSION	 0x11 /* 82093AA */
#define ISA_BUS		 0
#define ISA_IRQS	 16
#define IRQS_MAX	 120

/* The table and what stands behind it, while it is written. */
struct writer {
	uint8_t *next;
	struct mp_config *config;
};

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += bytes[i];
	return -sum;
}

static void add_entry(struct writer *w, const void *entry, size_t len)
{
	memcpy(w->next, entry, len);
	w->next += len;
	w->config->entry_count++;
}

static void add_interrupt(struct writer *w, uint8_t type, uint8_t int_type, uint8_t irq,
			  uint8_t apic, uint8_t pin)
{
	struct mp_interrupt entry = {
		.type = type,
		.int_type = int_type,
		.bus = ISA_BUS,
		.irq = irq,
		.apic = apic,
		.pin = pin,
	};

	add_entry(w, &entry, sizeof(entry));
}

/* Entries are sorted by type (4.3). */
static void add_entries(struct writer *w, const struct mptable_desc *desc)
{
	struct mp_bus bus = { .type = MP_BUS, .id = ISA_BUS };
	struct mp_ioapic ioapic = {
		.type = MP_IOAPIC,
		.id = desc->ioapic_id,
		.version = IOAPIC_VERSION,
		.flags = MP_IOAPIC_USABLE,
		.addr = desc->ioapic_addr,
	};

	for (unsigned i = 0; i < desc->ncpus; i++) {
		struct mp_processor cpu = {
			.type = MP_PROCESSOR,
			.apic_id = desc->apic_ids[i],
			.apic_version = LAPIC_VERSION,
			.flags = MP_CPU_ENABLED | (i == 0 ? MP_CPU_BSP : 0),
			.signature = desc->cpu_signature,
			.features = desc->cpu_features,
		};

		add_entry(w, &cpu, sizeof(cpu));
	}
	memcpy(bus.name, "ISA   ", sizeof(bus.name));
	add_entry(w, &bus, sizeof(bus));
	add_entry(w, &ioapic, sizeof(ioapic));
	for (unsigned irq = 0; irq < desc->irqs; irq++)
		add_interrupt(w, MP_INTERRUPT, MP_INT, irq, desc->ioapic_id, irq);
	add_interrupt(w, MP_LOCAL_INTERRUPT, MP_EXTINT, 0, MP_ALL_APICS, 0);
	add_interrupt(w, MP_LOCAL_INTERRUPT, MP_NMI, 0, MP_ALL_APICS, 1);
}

static int check(const struct mptable_desc *desc, uint64_t base, struct err *err)
{
	if (base % 16 != 0 || base > UINT32_MAX - UINT16_MAX)
		return err_set(err, EINVAL,
			       "MP table: 0x%llx is not 16-byte-aligned and below 4 GiB",
			       (unsigned long long)base);
	if (desc->ncpus == 0 || desc->ncpus > MP_ALL_APICS)
		return err_set(err, EINVAL, "MP table: %u CPUs, it has room for 1 to %u",
			       desc->ncpus, MP_ALL_APICS);
	if (desc->irqs < ISA_IRQS || desc->irqs > IRQS_MAX)
		return err_set(err, EINVAL, "MP table: %u IRQs, it has room for %d to %d",
			       desc->irqs, ISA_IRQS, IRQS_MAX);
	for (unsigned i = 0; i < desc->ncpus; i++)
		if (desc->apic_ids[i] >= MP_ALL_APICS)
			return err_set(err, EINVAL,
				       "MP table: CPU %u has APIC id %u, the highest is %u", i,
				       desc->apic_ids[i], MP_ALL_APICS - 1);
	return 0;
}

int mptable_build(const struct mptable_desc *desc, struct gmem *mem, uint64_t base, uint64_t size,
		  uint64_t *used, struct err *err)
{
	struct mp_floating *floating;
	struct mp_config *config;
	struct writer w;
	size_t need;
	int ret;

	ret = check(desc, base, err);
	if (ret != 0)
		return ret;
	need = sizeof(*floating) + sizeof(*config) + desc->ncpus * sizeof(struct mp_processor) +
	       sizeof(struct mp_bus) + sizeof(struct mp_ioapic) +
	       (desc->irqs + 2) * sizeof(struct mp_interrupt);
	if (need > size)
		return err_set(err, ENOSPC, "MP table: %zu bytes do not fit into %llu", need,
			       (unsigned long long)size);
	floating = gmem_wptr(mem, base, need);
	if (floating == NULL)
		return err_set(err, EFAULT, "MP table: 0x%llx to 0x%llx is not RAM",
			       (unsigned long long)base, (unsigned long long)(base + need - 1));

	config = (struct mp_config *)(floating + 1);
	*config = (struct mp_config){
		.length = need - sizeof(*floating),
		.revision = MP_REVISION,
		.lapic_addr = desc->lapic_addr,
	};
	memcpy(config->signature, "PCMP", sizeof(config->signature));
	memcpy(config->oem_id, "VMM     ", sizeof(config->oem_id));
	memcpy(config->product_id, "VMM         ", sizeof(config->product_id));
	w = (struct writer){ .next = (uint8_t *)(config + 1), .config = config };
	add_entries(&w, desc);
	config->checksum = checksum(config, config->length);

	*floating = (struct mp_floating){
		.table = base + sizeof(*floating),
		.length = sizeof(*floating) / 16,
		.revision = MP_REVISION,
	};
	memcpy(floating->signature, "_MP_", sizeof(floating->signature));
	floating->checksum = checksum(floating, sizeof(*floating));
	*used = need;
	return 0;
}
