// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables for a hardware-reduced machine: ACPI 6.5, 5.2.5 (RSDP), 5.2.8 (XSDT),
 * 5.2.9 (FADT) with 4.1 (hardware-reduced ACPI), 5.2.12 (MADT), 5.2.11.1 (DSDT); PCI
 * Firmware Specification 3.3, 4.1.2 (MCFG and who reserves the ECAM), 4.5 (_OSC).
 *
 * Hardware-reduced means there is no SCI, no PM timer, no fixed events and no FACS:
 * power off is the sleep control register, the power button a Notify from the generic
 * event device's _EVT method (5.6.9). Linux answers it by ignoring 8259 and PIT, and then
 * gives each GSI the trigger mode and polarity of the descriptor that names it. That is
 * why every device here says "edge, active high" itself, and why the MADT has no override
 * for the serial port, the clock or the event device.
 *
 * Parsing these tables is a part of every boot, so they hold what a guest needs and not
 * what it would assume anyway. Left out on purpose:
 *  - processor devices (ACPI0007). The MADT says which processors there are; the objects
 *    would only carry power and performance states, of which a virtual processor has none,
 *    and each costs Linux a device.
 *  - local APIC NMI entries: systems assume LINT1, and the monitor injects NMIs directly.
 *  - _PRT: PCI functions here interrupt by MSI and have no interrupt pin.
 *  - _STA, where it would say "present".
 *
 * Limits: one PCI segment, one I/O APIC at GSI 0; local and I/O APIC below 4 GiB.
 */
#include <errno.h>
#include <string.h>
#include "firmware/acpi.h"
#include "firmware/aml.h"

#define PACKED __attribute__((packed))

#define OEM_ID	     "VMM   "
#define OEM_TABLE_ID "VMM     "
#define CREATOR_ID   "VMM "
#define VENDOR_ID    "vmm\0\0\0\0\0"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

struct header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;

struct rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* over the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} PACKED;

#define RSDP_V1_SIZE 20

struct gas { /* 5.2.3.2, generic address structure */
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	uint64_t address;
} PACKED;

/* What follows the header in the FADT. "Legacy": zero when hardware-reduced. */
struct fadt {
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved1;
	uint8_t preferred_pm_profile;
	uint8_t legacy_registers[50]; /* SCI_INT to GPE1_BASE and CST_CNT */
	uint8_t legacy_cpu[10];	      /* P_LVL2_LAT to DUTY_WIDTH */
	uint8_t rtc_day_alarm, rtc_month_alarm, rtc_century;
	uint16_t iapc_boot_arch;
	uint8_t reserved2;
	uint32_t flags;
	struct gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct gas x_legacy_blocks[8];
	struct gas sleep_control_reg;
	struct gas sleep_status_reg;
	char hypervisor_vendor[8];
} PACKED;

_Static_assert(sizeof(struct header) == 36, "5.2.6");
_Static_assert(sizeof(struct rsdp) == 36, "5.2.5.3");
_Static_assert(offsetof(struct fadt, iapc_boot_arch) + sizeof(struct header) == 109, "5.2.9");
_Static_assert(offsetof(struct fadt, sleep_control_reg) + sizeof(struct header) == 244, "5.2.9");
_Static_assert(sizeof(struct fadt) + sizeof(struct header) == 276, "5.2.9");

#define RSDP_REVISION	   2
#define XSDT_REVISION	   1
#define FADT_REVISION	   6
#define FADT_MINOR_VERSION 5
#define MADT_REVISION	   6
#define MCFG_REVISION	   1
#define DSDT_REVISION	   2 /* integers have 64 bits */

/* FADT flags (table 5.10) and IA-PC boot architecture flags (table 5.11) */
#define FADT_WBINVD	    (1U << 0)
#define FADT_PROC_C1	    (1U << 2)
#define FADT_PWR_BUTTON	    (1U << 4) /* not a fixed event */
#define FADT_SLP_BUTTON	    (1U << 5) /* not a fixed event */
#define FADT_FIX_RTC	    (1U << 6) /* alarms have no fixed event */
#define FADT_RESET_REG_SUP  (1U << 10)
#define FADT_HEADLESS	    (1U << 12)
#define FADT_HW_REDUCED	    (1U << 20)
#define IAPC_LEGACY_DEVICES (1U << 0)
#define IAPC_8042	    (1U << 1)
#define IAPC_NO_VGA	    (1U << 2)
#define IAPC_NO_CMOS_RTC    (1U << 5)

#define MADT_PCAT_COMPAT     (1U << 0)
#define MADT_LOCAL_APIC	     0
#define MADT_IO_APIC	     1
#define MADT_SOURCE_OVERRIDE 2
#define MADT_LOCAL_X2APIC    9
#define MADT_CPU_ENABLED     (1U << 0)
#define MADT_EDGE_HIGH	     (1U << 2 | 1U << 0)

/* A local APIC entry has 8 bits for the id, of which 255 means nobody, and for the UID. */
#define MADT_LOCAL_APIC_IDS 255

#define GAS_SYSTEM_IO	1
#define GAS_BYTE_ACCESS 1

#define VIRTIO_MMIO_PAGE 0x1000
#define VIRTIO_MMIO_MAX	 64

#define NOTIFY_CHANGED 0x80 /* 4.8.3.2.2 */

/* The window in guest memory, filled from the front. */
struct tables {
	struct aml out;
	uint64_t base;
};

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += bytes[i];
	return -sum;
}

/* Begin a table at the next 8-byte boundary; returns its offset in the window. */
static size_t table_begin(struct tables *t, const char *signature, uint8_t revision)
{
	struct header header = {
		.revision = revision,
		.oem_revision = 1,
		.creator_revision = 1,
	};
	size_t start;

	while (t->out.error == 0 && t->out.len % 8 != 0)
		aml_byte(&t->out, 0);
	start = t->out.len;
	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.oem_id, OEM_ID, sizeof(header.oem_id));
	memcpy(header.oem_table_id, OEM_TABLE_ID, sizeof(header.oem_table_id));
	memcpy(header.creator_id, CREATOR_ID, sizeof(header.creator_id));
	aml_bytes(&t->out, &header, sizeof(header));
	return start;
}

/* End the table at @start; returns its guest address. */
static uint64_t table_end(struct tables *t, size_t start)
{
	uint32_t length = t->out.len - start;
	uint8_t *table = t->out.buf + start;

	if (t->out.error != 0)
		return 0;
	memcpy(table + offsetof(struct header, length), &length, sizeof(length));
	table[offsetof(struct header, checksum)] = checksum(table, length);
	return t->base + start;
}

/* DSDT */

static void dsdt_sleep(struct aml *aml, const struct acpi_desc *desc)
{
	size_t pkg;

	/* 7.4.2: the second value is for PM1b, which a hardware-reduced machine lacks. */
	aml_name(aml, "\\_S5");
	pkg = aml_package(aml, 2);
	aml_int(aml, desc->s5_type);
	aml_int(aml, 0);
	aml_end(aml, pkg);
}

/*
 * Give the system everything it asks for: there is no firmware beside it which could
 * control hot-plug, errors or power events of PCI Express.
 */
static void dsdt_pci_osc(struct aml *aml)
{
	/* 33DB4D5B-1FF7-401C-9657-7441C03DD766, as ToUUID() stores it (19.6.142) */
	static const uint8_t uuid[16] = { 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
					  0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66 };
	const unsigned unrecognized_uuid = 1 << 2;
	size_t method, cond;

	method = aml_method(aml, "_OSC", 4, true);
	cond = aml_if(aml);
	aml_op(aml, AML_LNOT);
	aml_op(aml, AML_LEQUAL);
	aml_op(aml, AML_ARG0);
	aml_buffer(aml, uuid, sizeof(uuid));
	aml_op(aml, AML_CREATE_DWORD_FIELD);
	aml_op(aml, AML_ARG3);
	aml_int(aml, 0);
	aml_path(aml, "CDW1");
	aml_op(aml, AML_OR);
	aml_path(aml, "CDW1");
	aml_int(aml, unrecognized_uuid);
	aml_path(aml, "CDW1");
	aml_end(aml, cond);
	aml_op(aml, AML_RETURN);
	aml_op(aml, AML_ARG3);
	aml_end(aml, method);
}

static void dsdt_pci(struct aml *aml, const struct acpi_desc *desc)
{
	uint64_t ecam_size = (desc->ecam_last_bus + 1) * MIB;
	size_t dev, res;

	dev = aml_device(aml, "PCI0");
	aml_name_eisa_id(aml, "_HID", "PNP0A08");
	aml_name_eisa_id(aml, "_CID", "PNP0A03");
	aml_name_int(aml, "_UID", 0);
	aml_name_int(aml, "_SEG", 0);
	aml_name_int(aml, "_BBN", 0);
	res = aml_name_resources(aml, "_CRS");
	aml_bus_range(aml, 0, desc->ecam_last_bus);
	if (desc->mmio32_size != 0)
		aml_dword_memory(aml, true, desc->mmio32_base, desc->mmio32_size);
	if (desc->mmio64_size != 0)
		aml_qword_memory(aml, true, desc->mmio64_base, desc->mmio64_size);
	aml_resources_end(aml, res);
	dsdt_pci_osc(aml);
	aml_end(aml, dev);

	/* Linux does not use an ECAM which no motherboard resource reserves. */
	dev = aml_device(aml, "MBRD");
	aml_name_eisa_id(aml, "_HID", "PNP0C02");
	res = aml_name_resources(aml, "_CRS");
	if (desc->ecam_base + ecam_size <= 4 * GIB)
		aml_memory32_fixed(aml, desc->ecam_base, ecam_size);
	else
		aml_qword_memory(aml, false, desc->ecam_base, ecam_size);
	aml_resources_end(aml, res);
	aml_end(aml, dev);
}

/* A device with an EISA id, @nports ports and an interrupt. */
static void dsdt_port_device(struct aml *aml, const char *name, const char *id, uint16_t port,
			     uint8_t nports, uint32_t gsi)
{
	size_t dev, res;

	dev = aml_device(aml, name);
	aml_name_eisa_id(aml, "_HID", id);
	res = aml_name_resources(aml, "_CRS");
	aml_io(aml, port, nports);
	aml_interrupt(aml, gsi);
	aml_resources_end(aml, res);
	aml_end(aml, dev);
}

static void dsdt_pvpanic(struct aml *aml, const struct acpi_desc *desc)
{
	size_t dev, res;

	dev = aml_device(aml, "PEVT");
	aml_name_string(aml, "_HID", "QEMU0001");
	res = aml_name_resources(aml, "_CRS");
	aml_io(aml, desc->pvpanic_port, 1);
	aml_resources_end(aml, res);
	aml_end(aml, dev);
}

/*
 * "Virtual Machine Generation ID" by Microsoft (2012): 16 bytes in memory that change when the
 * machine is no longer the one it was. Linux reseeds its random numbers on the notification. It
 * is found by its _CID (Linux) or _DDN; a _HID must be there, but nobody looks for this one.
 */
static void dsdt_generation(struct aml *aml, const struct acpi_desc *desc)
{
	size_t dev, pkg;

	dev = aml_device(aml, "VGEN");
	aml_name_string(aml, "_HID", "VMGC0001");
	aml_name_string(aml, "_CID", "VMGENCTR");
	aml_name_string(aml, "_DDN", "VM_Gen_Counter");
	aml_name(aml, "ADDR");
	pkg = aml_package(aml, 2);
	aml_int(aml, desc->generation_addr & 0xffffffff);
	aml_int(aml, desc->generation_addr >> 32);
	aml_end(aml, pkg);
	aml_end(aml, dev);
}

static void dsdt_pass_on(struct aml *aml, uint32_t event, const char *device)
{
	size_t cond = aml_if(aml);

	aml_op(aml, AML_AND);
	aml_op(aml, AML_LOCAL0);
	aml_int(aml, event);
	aml_op(aml, AML_NO_TARGET);
	aml_op(aml, AML_NOTIFY);
	aml_path(aml, device);
	aml_int(aml, NOTIFY_CHANGED);
	aml_end(aml, cond);
}

/* 5.6.9: on its interrupt, _EVT fetches the pending events and passes them on. */
static void dsdt_events(struct aml *aml, const struct acpi_desc *desc)
{
	size_t dev, res, field, method;

	dev = aml_device(aml, "PWRB");
	aml_name_eisa_id(aml, "_HID", "PNP0C0C");
	aml_end(aml, dev);

	dev = aml_device(aml, "GED");
	aml_name_string(aml, "_HID", "ACPI0013");
	res = aml_name_resources(aml, "_CRS");
	aml_interrupt(aml, desc->ged_gsi);
	aml_resources_end(aml, res);

	aml_op_region(aml, "EVTR", AML_SYSTEM_IO, desc->ged_port, 4);
	field = aml_field(aml, "EVTR", AML_DWORD_ACC);
	aml_field_unit(aml, "EVTS", 32);
	aml_end(aml, field);

	method = aml_method(aml, "_EVT", 1, true);
	aml_op(aml, AML_STORE); /* reading clears them, so read once */
	aml_path(aml, "EVTS");
	aml_op(aml, AML_LOCAL0);
	dsdt_pass_on(aml, desc->ged_power_button, "PWRB");
	if (desc->generation_addr != 0)
		dsdt_pass_on(aml, desc->ged_generation, "VGEN");
	aml_end(aml, method);
	aml_end(aml, dev);
}

/* Linux knows a virtio-mmio device by this id, which QEMU registered for it (Linaro). */
static void dsdt_virtio_mmio(struct aml *aml, const struct acpi_desc *desc)
{
	static const char digits[] = "0123456789ABCDEF";

	for (unsigned i = 0; i < desc->nvirtio_mmio; i++) {
		char name[] = { 'V', 'R', digits[i / 16], digits[i % 16], '\0' };
		size_t dev, res;

		dev = aml_device(aml, name);
		aml_name_string(aml, "_HID", "LNRO0005");
		aml_name_int(aml, "_UID", i);
		res = aml_name_resources(aml, "_CRS");
		aml_memory32_fixed(aml, desc->virtio_mmio_base + i * VIRTIO_MMIO_PAGE,
				   VIRTIO_MMIO_PAGE);
		aml_interrupt(aml, desc->virtio_mmio_gsi + i);
		aml_resources_end(aml, res);
		aml_end(aml, dev);
	}
}

static bool has_sleep(const struct acpi_desc *desc)
{
	return desc->sleep_control_port != 0 && desc->sleep_status_port != 0;
}

static uint64_t build_dsdt(struct tables *t, const struct acpi_desc *desc)
{
	size_t start = table_begin(t, "DSDT", DSDT_REVISION);
	struct aml *aml = &t->out;
	size_t scope;

	if (has_sleep(desc))
		dsdt_sleep(aml, desc);

	scope = aml_scope(aml, "\\_SB");
	if (desc->ecam_base != 0)
		dsdt_pci(aml, desc);
	if (desc->serial_port != 0)
		dsdt_port_device(aml, "COM1", "PNP0501", desc->serial_port, 8, desc->serial_gsi);
	if (desc->rtc_port != 0)
		dsdt_port_device(aml, "RTC", "PNP0B00", desc->rtc_port, 2, desc->rtc_gsi);
	if (desc->pvpanic_port != 0)
		dsdt_pvpanic(aml, desc);
	if (desc->generation_addr != 0)
		dsdt_generation(aml, desc);
	if (desc->ged_port != 0)
		dsdt_events(aml, desc);
	dsdt_virtio_mmio(aml, desc);
	aml_end(aml, scope);
	return table_end(t, start);
}

/* The other tables */

static struct gas byte_port(uint16_t port)
{
	return (struct gas){ .space = GAS_SYSTEM_IO,
			     .bit_width = 8,
			     .access_size = GAS_BYTE_ACCESS,
			     .address = port };
}

static uint64_t build_fadt(struct tables *t, const struct acpi_desc *desc, uint64_t dsdt)
{
	size_t start = table_begin(t, "FACP", FADT_REVISION);
	struct fadt fadt = {
		.flags = FADT_HW_REDUCED | FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON |
			 FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_HEADLESS,
		.iapc_boot_arch = IAPC_NO_VGA,
		.minor_version = FADT_MINOR_VERSION,
		.x_dsdt = dsdt,
	};

	memcpy(fadt.hypervisor_vendor, VENDOR_ID, sizeof(fadt.hypervisor_vendor));
	/* A serial port is a user-visible ISA device. Linux drives it with or without this. */
	if (desc->serial_port != 0)
		fadt.iapc_boot_arch |= IAPC_LEGACY_DEVICES;
	if (desc->i8042)
		fadt.iapc_boot_arch |= IAPC_8042;
	if (desc->rtc_port == 0)
		fadt.iapc_boot_arch |= IAPC_NO_CMOS_RTC;
	if (desc->reset_port != 0) {
		fadt.flags |= FADT_RESET_REG_SUP;
		fadt.reset_reg = byte_port(desc->reset_port);
		fadt.reset_value = desc->reset_value;
	}
	if (has_sleep(desc)) {
		fadt.sleep_control_reg = byte_port(desc->sleep_control_port);
		fadt.sleep_status_reg = byte_port(desc->sleep_status_port);
	}
	aml_bytes(&t->out, &fadt, sizeof(fadt));
	return table_end(t, start);
}

static uint64_t build_madt(struct tables *t, const struct acpi_desc *desc)
{
	size_t start = table_begin(t, "APIC", MADT_REVISION);
	struct aml *out = &t->out;

	aml_dword(out, desc->lapic_addr);
	aml_dword(out, desc->pic ? MADT_PCAT_COMPAT : 0);

	for (unsigned uid = 0; uid < desc->ncpus; uid++) {
		uint32_t apic_id = desc->apic_ids[uid];

		if (apic_id < MADT_LOCAL_APIC_IDS) { /* 5.2.12.2 */
			aml_byte(out, MADT_LOCAL_APIC);
			aml_byte(out, 8);
			aml_byte(out, uid);
			aml_byte(out, apic_id);
			aml_dword(out, MADT_CPU_ENABLED);
		} else { /* 5.2.12.12 */
			aml_byte(out, MADT_LOCAL_X2APIC);
			aml_byte(out, 16);
			aml_word(out, 0);
			aml_dword(out, apic_id);
			aml_dword(out, MADT_CPU_ENABLED);
			aml_dword(out, uid);
		}
	}

	aml_byte(out, MADT_IO_APIC); /* 5.2.12.3 */
	aml_byte(out, 12);
	aml_byte(out, desc->ioapic_id);
	aml_byte(out, 0);
	aml_dword(out, desc->ioapic_addr);
	aml_dword(out, 0); /* its first GSI */

	if (desc->pic) { /* 5.2.12.5: the PIT's line goes to pin 2, pin 0 is the PICs' */
		aml_byte(out, MADT_SOURCE_OVERRIDE);
		aml_byte(out, 10);
		aml_byte(out, 0); /* ISA */
		aml_byte(out, 0); /* IRQ */
		aml_dword(out, 2);
		/*
		 * "As the bus does" would mean the same, were there not SCI_INT, which is 0
		 * for "none": Linux takes an override of that line for the SCI's, and the
		 * SCI's default is level, active low.
		 */
		aml_word(out, MADT_EDGE_HIGH);
	}
	return table_end(t, start);
}

static uint64_t build_mcfg(struct tables *t, const struct acpi_desc *desc)
{
	size_t start = table_begin(t, "MCFG", MCFG_REVISION);
	struct aml *out = &t->out;

	aml_qword(out, 0);
	aml_qword(out, desc->ecam_base);
	aml_word(out, 0); /* segment */
	aml_byte(out, 0); /* first bus */
	aml_byte(out, desc->ecam_last_bus);
	aml_dword(out, 0);
	return table_end(t, start);
}

static void build_rsdp(struct tables *t, uint64_t xsdt)
{
	struct rsdp rsdp = {
		.revision = RSDP_REVISION,
		.length = sizeof(rsdp),
		.xsdt = xsdt,
	};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum(&rsdp, RSDP_V1_SIZE);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(t->out.buf, &rsdp, sizeof(rsdp));
}

/* Is [base, base + size) a range that ends at or below @limit? */
static bool range_ok(uint64_t base, uint64_t size, uint64_t limit)
{
	return base <= limit && size <= limit - base;
}

static int check(const struct acpi_desc *desc, uint64_t base, struct err *err)
{
	uint64_t ecam_size = (desc->ecam_last_bus + 1) * MIB;

	if (base % 16 != 0)
		return err_set(err, EINVAL, "ACPI tables: 0x%llx is not 16-byte-aligned",
			       (unsigned long long)base);
	if (desc->ncpus == 0)
		return err_set(err, EINVAL, "ACPI tables: a machine has at least one CPU");
	for (unsigned i = 0; i < desc->ncpus; i++) {
		if (desc->apic_ids[i] == UINT32_MAX)
			return err_set(err, EINVAL, "ACPI tables: CPU %u has no APIC id", i);
		/* Sorted ids cannot get here: below 255 there are but 255 of them. */
		if (desc->apic_ids[i] < MADT_LOCAL_APIC_IDS && i >= MADT_LOCAL_APIC_IDS)
			return err_set(err, EINVAL,
				       "ACPI tables: CPU %u has APIC id %u: ids below 255 must be "
				       "those of the first CPUs",
				       i, desc->apic_ids[i]);
	}
	if (desc->lapic_addr >= 4 * GIB || desc->ioapic_addr >= 4 * GIB)
		return err_set(err, EINVAL,
			       "ACPI tables: local APIC at 0x%llx, I/O APIC at 0x%llx: both must "
			       "be below 4 GiB",
			       (unsigned long long)desc->lapic_addr,
			       (unsigned long long)desc->ioapic_addr);
	if (desc->ecam_base != 0 && (!range_ok(desc->ecam_base, ecam_size, UINT64_MAX) ||
				     !range_ok(desc->mmio32_base, desc->mmio32_size, 4 * GIB) ||
				     !range_ok(desc->mmio64_base, desc->mmio64_size, UINT64_MAX)))
		return err_set(err, EINVAL, "ACPI tables: a PCI window reaches too high");
	if (desc->nvirtio_mmio > VIRTIO_MMIO_MAX ||
	    !range_ok(desc->virtio_mmio_base, desc->nvirtio_mmio * VIRTIO_MMIO_PAGE, 4 * GIB))
		return err_set(err, EINVAL,
			       "ACPI tables: %u virtio devices from 0x%llx on: at most %d, below "
			       "4 GiB",
			       desc->nvirtio_mmio, (unsigned long long)desc->virtio_mmio_base,
			       VIRTIO_MMIO_MAX);
	return 0;
}

int acpi_build(const struct acpi_desc *desc, struct gmem *mem, uint64_t base, uint64_t size,
	       uint64_t *rsdp, struct err *err)
{
	struct tables t = { .base = base };
	uint64_t tables[3];
	unsigned ntables = 0;
	uint64_t dsdt, xsdt;
	size_t start;
	void *window;
	int ret;

	ret = check(desc, base, err);
	if (ret != 0)
		return ret;
	if (size < sizeof(struct rsdp))
		return err_set(err, ENOSPC, "ACPI tables: do not fit into %llu bytes",
			       (unsigned long long)size);
	window = gmem_wptr(mem, base, size);
	if (window == NULL)
		return err_set(err, EFAULT, "ACPI tables: 0x%llx to 0x%llx is not RAM",
			       (unsigned long long)base, (unsigned long long)(base + size - 1));
	aml_init(&t.out, window, size);

	/* The RSDP's place; its content has to wait for the XSDT's address. */
	aml_bytes(&t.out, &(struct rsdp){ 0 }, sizeof(struct rsdp));
	dsdt = build_dsdt(&t, desc);
	tables[ntables++] = build_fadt(&t, desc, dsdt);
	tables[ntables++] = build_madt(&t, desc);
	if (desc->ecam_base != 0)
		tables[ntables++] = build_mcfg(&t, desc);
	start = table_begin(&t, "XSDT", XSDT_REVISION);
	for (unsigned i = 0; i < ntables; i++)
		aml_qword(&t.out, tables[i]);
	xsdt = table_end(&t, start);

	if (t.out.error == -ENOSPC)
		return err_set(err, ENOSPC, "ACPI tables: do not fit into %llu bytes",
			       (unsigned long long)size);
	if (t.out.error != 0)
		return err_set(err, -t.out.error, "ACPI tables: a value cannot be encoded");
	build_rsdp(&t, xsdt);
	*rsdp = base;
	return 0;
}
