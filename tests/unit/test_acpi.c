// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables: found from the RSDP on, checksums, and the bytes a guest goes by. Whether
 * the AML in the DSDT is well-formed is test_acpi_iasl.c's.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "firmware/acpi.h"
#include "tests/unit/test_run.h"

#define RAM	0x100000ULL
#define RAM_LEN 0x100000ULL
#define BASE	0x110000ULL
#define WINDOW	0x10000ULL

static struct gmem mem;
static struct err err;
static uint32_t ids[1024];

static void setup(void)
{
	struct gmem_config cfg = { .size = RAM_LEN };

	err = (struct err)ERR_INIT;
	ck_assert_int_eq(gmem_init(&mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, RAM, RAM_LEN, &err), 0);
	memset(gmem_wptr(&mem, RAM, RAM_LEN), 0xcc, RAM_LEN);
	for (unsigned i = 0; i < 1024; i++)
		ids[i] = i;
}

static void teardown(void)
{
	gmem_fini(&mem);
}

static struct acpi_desc full(void)
{
	return (struct acpi_desc){
		.ncpus = 2,
		.apic_ids = ids,
		.lapic_addr = 0xfee00000,
		.ioapic_addr = 0xfec00000,
		.ioapic_id = 7,
		.ecam_base = 0xe0000000,
		.ecam_last_bus = 0,
		.mmio32_base = 0xc0000000,
		.mmio32_size = 0x20000000,
		.mmio64_base = 0x4000000000,
		.mmio64_size = 0x4000000000,
		.serial_port = 0x3f8,
		.serial_gsi = 4,
		.rtc_port = 0x70,
		.rtc_gsi = 8,
		.pvpanic_port = 0x505,
		.sleep_control_port = 0x600,
		.sleep_status_port = 0x601,
		.s5_type = 5,
		.reset_port = 0x602,
		.reset_value = 0x5a,
		.ged_port = 0x604,
		.ged_gsi = 9,
		.ged_power_button = 1,
	};
}

static struct acpi_desc least(void)
{
	return (struct acpi_desc){
		.ncpus = 1,
		.apic_ids = ids,
		.lapic_addr = 0xfee00000,
		.ioapic_addr = 0xfec00000,
	};
}

static uint64_t le(const uint8_t *p, unsigned len)
{
	uint64_t value = 0;

	while (len-- > 0)
		value = value << 8 | p[len];
	return value;
}

static void ck_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	ck_assert_uint_eq(sum, 0);
}

/* The table at @addr: whole, in the window, aligned. */
static const uint8_t *table_at(uint64_t addr, const char *signature, size_t *len)
{
	const uint8_t *p = gmem_ptr(&mem, addr, 36);

	ck_assert_ptr_nonnull(p);
	ck_assert_mem_eq(p, signature, 4);
	*len = le(p + 4, 4);
	ck_assert_uint_ge(addr, BASE);
	ck_assert_uint_le(addr + *len, BASE + WINDOW);
	ck_assert_uint_eq(addr % 8, 0);
	ck_sum(p, *len);
	return p;
}

/* The table the XSDT has with @signature; NULL: none. */
static const uint8_t *find(const char *signature, size_t *len)
{
	const uint8_t *rsdp = gmem_ptr(&mem, BASE, 36);
	const uint8_t *xsdt;
	size_t xsdt_len;

	ck_assert_mem_eq(rsdp, "RSD PTR ", 8);
	ck_sum(rsdp, 20);
	ck_sum(rsdp, 36);
	ck_assert_uint_eq(rsdp[15], 2);
	ck_assert_uint_eq(le(rsdp + 16, 4), 0); /* no RSDT */
	ck_assert_uint_eq(le(rsdp + 20, 4), 36);
	xsdt = table_at(le(rsdp + 24, 8), "XSDT", &xsdt_len);
	ck_assert_uint_eq(xsdt[8], 1);
	ck_assert_uint_eq(xsdt_len % 8, 36 % 8);
	for (size_t off = 36; off < xsdt_len; off += 8) {
		uint64_t addr = le(xsdt + off, 8);

		if (memcmp(gmem_ptr(&mem, addr, 4), signature, 4) == 0)
			return table_at(addr, signature, len);
	}
	return NULL;
}

static void build(const struct acpi_desc *desc)
{
	uint64_t rsdp = 0;
	int ret = acpi_build(desc, &mem, BASE, WINDOW, &rsdp, &err);

	ck_assert_msg(ret == 0, "%s", err.msg);
	ck_assert_uint_eq(rsdp, BASE);
}

static void ck_port(const uint8_t *gas, uint16_t port)
{
	uint8_t want[12] = { 1, 8, 0, 1, port & 0xff, port >> 8 };

	ck_assert_mem_eq(gas, want, sizeof(want));
}

static void ck_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		ck_assert_uint_eq(p[i], 0);
}

START_TEST(fadt_full)
{
	struct acpi_desc desc = full();
	const uint8_t *p;
	size_t len;

	build(&desc);
	p = find("FACP", &len);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(len, 276);
	ck_assert_uint_eq(p[8], 6);
	ck_assert_uint_eq(p[131], 5);
	ck_zero(p + 36, 109 - 36); /* no FACS, SCI, PM1, PM timer, GPE, C states */
	/* legacy devices; no 8042; no VGA; MSI works; there is an RTC */
	ck_assert_uint_eq(le(p + 109, 2), 1 << 0 | 1 << 2);
	ck_assert_uint_eq(le(p + 112, 4),
			  1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 12 | 1 << 20);
	ck_port(p + 116, 0x602);
	ck_assert_uint_eq(p[128], 0x5a);
	ck_zero(p + 132, 8); /* X_FIRMWARE_CTRL */
	table_at(le(p + 140, 8), "DSDT", &len);
	ck_zero(p + 148, 96); /* extended blocks, the PM timer's among them */
	ck_port(p + 244, 0x600);
	ck_port(p + 256, 0x601);
	ck_assert_mem_eq(p + 268, "vmm\0\0\0\0\0", 8);
}
END_TEST

START_TEST(fadt_least)
{
	struct acpi_desc desc = least();
	const uint8_t *p;
	size_t len;

	build(&desc);
	p = find("FACP", &len);
	ck_assert_uint_eq(le(p + 109, 2), 1 << 2 | 1 << 5);
	ck_assert_uint_eq(le(p + 112, 4) & (1 << 10), 0);
	ck_zero(p + 116, 13);
	ck_zero(p + 244, 24);
	ck_assert_ptr_null(find("MCFG", &len));

	desc.i8042 = true;
	build(&desc);
	p = find("FACP", &len);
	ck_assert_uint_eq(le(p + 109, 2), 1 << 1 | 1 << 2 | 1 << 5);
}
END_TEST

START_TEST(madt)
{
	static const uint8_t ioapic[12] = { 1, 12, 7, 0, 0x00, 0x00, 0xc0, 0xfe };
	static const unsigned counts[] = { 1, 2, 8, 255, 1024 };

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct acpi_desc desc = full();
		const uint8_t *p, *entry;
		size_t len;

		desc.ncpus = counts[c];
		build(&desc);
		p = find("APIC", &len);
		ck_assert_uint_eq(p[8], 6);
		ck_assert_uint_eq(le(p + 36, 4), 0xfee00000);
		ck_assert_uint_eq(le(p + 40, 4), 0);
		entry = p + 44;
		for (unsigned i = 0; i < desc.ncpus; i++) {
			if (i < 255) {
				uint8_t want[8] = { 0, 8, i, i, 1 };

				ck_assert_mem_eq(entry, want, sizeof(want));
				entry += sizeof(want);
			} else {
				uint8_t want[16] = { 9, 16, 0, 0, i & 0xff, i >> 8, 0, 0,
						     1, 0,  0, 0, i & 0xff, i >> 8, 0, 0 };

				ck_assert_mem_eq(entry, want, sizeof(want));
				entry += sizeof(want);
			}
		}
		ck_assert_mem_eq(entry, ioapic, sizeof(ioapic));
		ck_assert_ptr_eq(entry + sizeof(ioapic), p + len);
	}
}
END_TEST

/* Ids have holes where a package's cores are not a power of two. */
START_TEST(madt_sparse_ids)
{
	static const uint8_t want[] = { 0,   8, 0, 254, 1, 0, 0, 0, 9, 16, 0, 0,
					255, 0, 0, 0,	1, 0, 0, 0, 1, 0,  0, 0 };
	struct acpi_desc desc = least();
	const uint8_t *p;
	size_t len;

	ids[0] = 254;
	ids[1] = 255;
	desc.ncpus = 2;
	build(&desc);
	p = find("APIC", &len);
	ck_assert_mem_eq(p + 44, want, sizeof(want));
}
END_TEST

START_TEST(madt_pic)
{
	static const uint8_t override[10] = { 2, 10, 0, 0, 2, 0, 0, 0, 5, 0 };
	struct acpi_desc desc = full();
	const uint8_t *p;
	size_t len;

	desc.pic = true;
	build(&desc);
	p = find("APIC", &len);
	ck_assert_uint_eq(le(p + 40, 4), 1);
	ck_assert_uint_eq(len, 44 + 2 * 8 + 12 + 10);
	ck_assert_mem_eq(p + len - 10, override, sizeof(override));
}
END_TEST

START_TEST(mcfg)
{
	struct acpi_desc desc = full();
	const uint8_t *p;
	size_t len;

	desc.ecam_last_bus = 3;
	build(&desc);
	p = find("MCFG", &len);
	ck_assert_uint_eq(len, 60);
	ck_assert_uint_eq(p[8], 1);
	ck_zero(p + 36, 8);
	ck_assert_uint_eq(le(p + 44, 8), 0xe0000000);
	ck_assert_uint_eq(le(p + 52, 2), 0);
	ck_assert_uint_eq(p[54], 0);
	ck_assert_uint_eq(p[55], 3);
	ck_zero(p + 56, 4);
}
END_TEST

static bool dsdt_has(const void *bytes, size_t n)
{
	const uint8_t *fadt, *dsdt;
	size_t len;

	fadt = find("FACP", &len);
	dsdt = table_at(le(fadt + 140, 8), "DSDT", &len);
	ck_assert_uint_eq(dsdt[8], 2);
	return memmem(dsdt + 36, len - 36, bytes, n) != NULL;
}

/* The resources a driver claims, byte by byte. */
START_TEST(dsdt)
{
	static const uint8_t serial[] = { 0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8, 0x89,
					  6,	0, 3,	 1, 4,	  0, 0, 0, 0x79 };
	static const uint8_t rtc[] = { 0x47, 1, 0x70, 0, 0x70, 0, 1, 2, 0x89,
				       6,    0, 3,    1, 8,    0, 0, 0, 0x79 };
	static const uint8_t pvpanic[] = { 0x47, 1, 5, 5, 5, 5, 1, 1, 0x79 };
	static const uint8_t ged[] = { 0x89, 6, 0, 3, 1, 9, 0, 0, 0, 0x79 };
	static const uint8_t ecam[] = { 0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0x10, 0, 0x79 };
	static const uint8_t bus[] = { 0x88, 13, 0, 2, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 };
	static const uint8_t s5[] = { 0x08, '\\', '_', 'S', '5', '_', 0x12, 5, 2, 0x0a, 5, 0 };
	static const uint8_t ecam64[] = { 0x8a, 43, 0, 0, 13, 1, 0, 0, 0, 0, 0,
					  0,	0,  0, 0, 0,  0, 0, 1, 0, 0, 0 };
	struct acpi_desc desc = full();

	build(&desc);
	ck_assert(dsdt_has(serial, sizeof(serial)));
	ck_assert(dsdt_has(rtc, sizeof(rtc)));
	ck_assert(dsdt_has(pvpanic, sizeof(pvpanic)));
	ck_assert(dsdt_has(ged, sizeof(ged)));
	ck_assert(dsdt_has(ecam, sizeof(ecam)));
	ck_assert(dsdt_has(bus, sizeof(bus)));
	ck_assert(dsdt_has(s5, sizeof(s5)));

	desc.ecam_base = 0x100000000;
	build(&desc);
	ck_assert(dsdt_has(ecam64, sizeof(ecam64)));

	desc = least();
	build(&desc);
	ck_assert(!dsdt_has("COM1", 4));
	ck_assert(!dsdt_has("RTC_", 4));
	ck_assert(!dsdt_has("QEMU0001", 8));
	ck_assert(!dsdt_has("ACPI0013", 8));
	ck_assert(!dsdt_has("PCI0", 4));
	ck_assert(!dsdt_has("_S5_", 4));
}
END_TEST

static struct acpi_desc with_virtio(unsigned n)
{
	struct acpi_desc desc = full();

	desc.nvirtio_mmio = n;
	desc.virtio_mmio_base = 0xe8100000;
	desc.virtio_mmio_gsi = 16;
	return desc;
}

START_TEST(virtio_mmio)
{
	/* Memory32Fixed and Interrupt (edge, active high, exclusive) of device 63 */
	static const uint8_t res[] = { 0x86, 9,	   0, 1, 0x00, 0xf0, 0x13, 0xe8, 0x00, 0x10, 0,
				       0,    0x89, 6, 0, 3,    1,    79,   0,	 0,    0 };
	struct acpi_desc desc = with_virtio(64);

	build(&desc);
	ck_assert(dsdt_has("VR00", 4));
	ck_assert(dsdt_has("VR3F", 4));
	ck_assert(dsdt_has("LNRO0005", 9));
	ck_assert(dsdt_has(res, sizeof(res)));
	desc = with_virtio(63);
	build(&desc);
	ck_assert(!dsdt_has("VR3F", 4));
}
END_TEST

/* Each window too small by any number of bytes; nothing is written behind it. */
START_TEST(too_small)
{
	struct acpi_desc desc = with_virtio(64);
	const uint8_t *ram = gmem_ptr(&mem, BASE, WINDOW);
	uint64_t rsdp, size;

	for (size = 0; size < WINDOW; size++) {
		int ret = acpi_build(&desc, &mem, BASE, size, &rsdp, &err);

		if (ram[size] != 0xcc)
			ck_abort_msg("written past %llu bytes", (unsigned long long)size);
		if (ret == 0)
			break;
		if (ret != -ENOSPC)
			ck_abort_msg("%s", err.msg);
		memset(gmem_wptr(&mem, BASE, WINDOW), 0xcc, WINDOW);
	}
	ck_assert_uint_lt(size, 2048 + 2 * 8 + 64 * 64); /* as acpi.h says */
}
END_TEST

START_TEST(not_ram)
{
	struct acpi_desc desc = full();
	uint64_t rsdp;

	ck_assert_int_eq(acpi_build(&desc, &mem, 0, WINDOW, &rsdp, &err), -EFAULT);
	ck_assert_int_eq(acpi_build(&desc, &mem, RAM + RAM_LEN - 4096, 8192, &rsdp, &err), -EFAULT);
	ck_assert_int_eq(acpi_build(&desc, &mem, -4096ULL, 4096, &rsdp, &err), -EFAULT);
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, UINT64_MAX, &rsdp, &err), -EFAULT);
}
END_TEST

START_TEST(bad_desc)
{
	struct acpi_desc desc = full();
	uint64_t rsdp;

	ck_assert_int_eq(acpi_build(&desc, &mem, BASE + 8, WINDOW, &rsdp, &err), -EINVAL);
	desc.ncpus = 0;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = full();
	ids[1] = UINT32_MAX;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	ids[1] = 1;
	ids[300] = 5;
	desc.ncpus = 301;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = full();
	desc.lapic_addr = 1ULL << 32;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = full();
	desc.mmio32_base = 0xf0000000;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = full();
	desc.mmio64_base = -1ULL;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = full();
	desc.ecam_base = -(1ULL << 20) + 1;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = with_virtio(65);
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
	desc = with_virtio(2);
	desc.virtio_mmio_base = 0xfffff000;
	ck_assert_int_eq(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("acpi");
	TCase *tc = tcase_create("acpi");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, fadt_full);
	tcase_add_test(tc, fadt_least);
	tcase_add_test(tc, madt);
	tcase_add_test(tc, madt_sparse_ids);
	tcase_add_test(tc, madt_pic);
	tcase_add_test(tc, mcfg);
	tcase_add_test(tc, dsdt);
	tcase_add_test(tc, virtio_mmio);
	tcase_add_test(tc, too_small);
	tcase_add_test(tc, not_ram);
	tcase_add_test(tc, bad_desc);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
