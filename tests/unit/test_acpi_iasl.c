// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI tables before a judge: for machines of several kinds, iasl must disassemble every
 * table and compile what came out, without an error or a warning, into the same bytes.
 *
 *	test_acpi_iasl			run the tests; exit status 77 when there is no iasl
 *	test_acpi_iasl FOLDER		write the tables to FOLDER/MACHINE-TABLE.dat instead
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "firmware/acpi.h"
#include "tests/unit/test_run.h"

#define RAM_LEN 0x100000ULL
#define BASE	0xe0000ULL
#define WINDOW	0x10000ULL
#define SKIPPED 77

#define HEADER_SIZE  36
#define END_TAG	     0x79
#define ALL_CPUS_MAX 1024

struct machine {
	const char *name;
	unsigned ncpus;
	uint32_t id_step; /* between APIC ids */
	bool pci, ecam_high, devices, pic, i8042, many_buses, no_windows;
	unsigned virtio_mmio;
};

static const struct machine machines[] = {
	{ .name = "least", .ncpus = 1, .id_step = 1 },
	{ .name = "usual", .ncpus = 1, .id_step = 1, .pci = true, .devices = true },
	{ .name = "cpus8", .ncpus = 8, .id_step = 2, .pci = true, .devices = true },
	{ .name = "cpus255", .ncpus = 255, .id_step = 1, .devices = true },
	{ .name = "cpus300", .ncpus = 300, .id_step = 1, .pci = true, .devices = true },
	{ .name = "x2apic", .ncpus = 255, .id_step = 3, .pci = true, .many_buses = true },
	{ .name = "pic", .ncpus = 2, .id_step = 1, .devices = true, .pic = true, .i8042 = true },
	{ .name = "ecamhigh", .ncpus = 1, .id_step = 1, .pci = true, .ecam_high = true },
	{ .name = "mmio1",
	  .ncpus = 1,
	  .id_step = 1,
	  .pci = true,
	  .devices = true,
	  .virtio_mmio = 1 },
	{ .name = "mmio64",
	  .ncpus = 255,
	  .id_step = 3,
	  .pci = true,
	  .devices = true,
	  .virtio_mmio = 64 },
	{ .name = "nowindows", .ncpus = 1, .id_step = 1, .pci = true, .no_windows = true },
};

#define NMACHINES (sizeof(machines) / sizeof(machines[0]))

static char folder[PATH_MAX];
static bool dump_only;

static struct acpi_desc describe(const struct machine *machine, uint32_t *ids)
{
	struct acpi_desc desc = {
		.ncpus = machine->ncpus,
		.apic_ids = ids,
		.lapic_addr = 0xfee00000,
		.ioapic_addr = 0xfec00000,
		.pic = machine->pic,
		.i8042 = machine->i8042,
		.nvirtio_mmio = machine->virtio_mmio,
		.virtio_mmio_base = 0xe8100000,
		.virtio_mmio_gsi = 16,
	};

	for (unsigned i = 0; i < machine->ncpus; i++)
		ids[i] = i * machine->id_step;
	if (machine->pci) {
		desc.ecam_base = machine->ecam_high ? 0x1000000000 : 0xe0000000;
		desc.ecam_last_bus = machine->many_buses ? 255 : 0;
	}
	if (machine->pci && !machine->no_windows) {
		desc.mmio32_base = 0xc0000000;
		desc.mmio32_size = 0x20000000;
		desc.mmio64_base = 0x4000000000;
		desc.mmio64_size = 0x4000000000;
	}
	if (machine->devices) {
		desc.serial_port = 0x3f8;
		desc.serial_gsi = 4;
		desc.rtc_port = 0x70;
		desc.rtc_gsi = 8;
		desc.pvpanic_port = 0x505;
		desc.sleep_control_port = 0x600;
		desc.sleep_status_port = 0x601;
		desc.s5_type = 5;
		desc.reset_port = 0x602;
		desc.reset_value = 1;
		desc.ged_port = 0x604;
		desc.ged_gsi = 9;
		desc.ged_power_button = 1;
		desc.ged_generation = 2;
		desc.generation_addr = 0xd0000;
	}
	return desc;
}

/* Files */

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "wb");

	ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
	ck_assert_uint_eq(fwrite(data, 1, len, file), len);
	ck_assert_int_eq(fclose(file), 0);
}

/* The file's bytes and a NUL; the caller frees. */
static char *read_file(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	char *data;

	ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
	ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
	*len = ftell(file);
	rewind(file);
	data = malloc(*len + 1);
	ck_assert_uint_eq(fread(data, 1, *len, file), *len);
	data[*len] = '\0';
	fclose(file);
	return data;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Tables */

static void dump_one(struct gmem *mem, uint64_t addr, const char *machine)
{
	char path[PATH_MAX + 64], signature[5] = "";
	const uint8_t *table = gmem_ptr(mem, addr, HEADER_SIZE);
	uint32_t len;

	memcpy(signature, table, 4);
	memcpy(&len, table + 4, sizeof(len));
	snprintf(path, sizeof(path), "%s/%s-%s.dat", folder, machine, signature);
	write_file(path, gmem_ptr(mem, addr, len), len);
}

/* Write each table of @machine, but the RSDP, to the folder. */
static void dump(const struct machine *machine)
{
	struct gmem_config cfg = { .size = RAM_LEN };
	struct err err = ERR_INIT;
	uint32_t ids[ALL_CPUS_MAX], xsdt_len;
	struct acpi_desc desc = describe(machine, ids);
	uint64_t rsdp, xsdt, addr;
	struct gmem mem;

	ck_assert_int_eq(gmem_init(&mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, 0, RAM_LEN, &err), 0);
	ck_assert_msg(acpi_build(&desc, &mem, BASE, WINDOW, &rsdp, &err) == 0, "%s", err.msg);

	ck_assert_int_eq(gmem_read(&mem, rsdp + 24, &xsdt, sizeof(xsdt)), 0);
	dump_one(&mem, xsdt, machine->name);
	ck_assert_int_eq(gmem_read(&mem, xsdt + 4, &xsdt_len, sizeof(xsdt_len)), 0);
	for (uint32_t off = HEADER_SIZE; off < xsdt_len; off += sizeof(addr)) {
		ck_assert_int_eq(gmem_read(&mem, xsdt + off, &addr, sizeof(addr)), 0);
		dump_one(&mem, addr, machine->name);
		if (memcmp(gmem_ptr(&mem, addr, 4), "FACP", 4) == 0) {
			ck_assert_int_eq(gmem_read(&mem, addr + 140, &addr, sizeof(addr)), 0);
			dump_one(&mem, addr, machine->name);
		}
	}
	gmem_fini(&mem);
}

/* iasl */

/* Run iasl with @args in the folder; what it says goes to @log. Returns its status. */
static int iasl(char *const args[], const char *log)
{
	posix_spawn_file_actions_t actions;
	int status, ret;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC,
					 0600);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	ret = posix_spawnp(&pid, "iasl", &actions, NULL, args, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret != 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static bool have_iasl(void)
{
	char *args[] = { (char *)"iasl", (char *)"-v", NULL };

	return iasl(args, "/dev/null") == 0;
}

/* Neither the log nor the source it made may have any of iasl's words for a mistake. */
static void ck_no_complaint(const char *what, const char *path)
{
	static const char *const words[] = { "Error ",	 "Error:",	    "ACPI Error",
					     "Warning ", "Warning:",	    "Invalid",
					     "Unknown",	 "nvalid checksum", "Could not" };
	size_t len;
	char *text = read_file(path, &len);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		ck_assert_msg(strstr(text, words[i]) == NULL, "%s: %s", what, text);
	free(text);
}

/*
 * The same bytes, but for what iasl signs itself (checksum, compiler, its revision) and the
 * checksum of end tags, where it writes 0 for "none" (6.4.2.9).
 */
static void ck_same_table(const char *before_path, const char *after_path)
{
	size_t before_len, after_len;
	char *before = read_file(before_path, &before_len);
	char *after = read_file(after_path, &after_len);

	ck_assert_msg(before_len == after_len, "%s: %zu bytes, recompiled %zu", before_path,
		      before_len, after_len);
	memset(before + 28, 0, 8);
	memset(after + 28, 0, 8);
	before[9] = after[9] = 0;
	for (size_t i = 0; i < before_len; i++)
		ck_assert_msg(before[i] == after[i] ||
				      (i > 0 && before[i - 1] == END_TAG && after[i] == 0),
			      "%s: byte %zu is 0x%02x, recompiled 0x%02x", before_path, i,
			      (uint8_t)before[i], (uint8_t)after[i]);
	free(before);
	free(after);
}

static void judge(const char *machine, const char *signature)
{
	char stem[PATH_MAX + 32], dat[PATH_MAX + 64], dsl[PATH_MAX + 64], out[PATH_MAX + 64],
		aml[PATH_MAX + 64], log[PATH_MAX + 64];
	/* -oa: names as they are written; -vr: no remarks */
	char *disassemble[] = { (char *)"iasl", (char *)"-d", dat, NULL };
	char *compile[] = {
		(char *)"iasl", (char *)"-oa", (char *)"-vr", (char *)"-p", out, dsl, NULL
	};
	size_t len;
	char *text;
	int status;

	snprintf(stem, sizeof(stem), "%s/%s-%s", folder, machine, signature);
	snprintf(dat, sizeof(dat), "%s.dat", stem);
	snprintf(dsl, sizeof(dsl), "%s.dsl", stem);
	snprintf(out, sizeof(out), "%s-again", stem);
	snprintf(aml, sizeof(aml), "%s-again.aml", stem);
	snprintf(log, sizeof(log), "%s.log", stem);
	if (access(dat, F_OK) != 0)
		return;

	status = iasl(disassemble, log);
	ck_no_complaint(dat, log);
	ck_assert_int_eq(status, 0);
	ck_no_complaint(dsl, dsl);

	status = iasl(compile, log);
	text = read_file(log, &len);
	ck_assert_msg(status == 0 && strstr(text, "0 Errors, 0 Warnings") != NULL, "%s: %s", dsl,
		      text);
	free(text);
	ck_same_table(dat, aml);
}

START_TEST(machine_passes)
{
	static const char *const signatures[] = { "XSDT", "FACP", "APIC", "MCFG", "DSDT" };
	const struct machine *machine = &machines[_i];
	size_t i;

	dump(machine);
	if (dump_only)
		return;
	for (i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++)
		judge(machine->name, signatures[i]);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("acpi_iasl");
	TCase *tc = tcase_create("acpi_iasl");
	int status;

	dump_only = argc > 1;
	if (dump_only) {
		snprintf(folder, sizeof(folder), "%s", argv[1]);
	} else if (!have_iasl()) {
		printf("acpi_iasl: skipped, there is no iasl (Debian: acpica-tools)\n");
		return SKIPPED;
	} else {
		const char *tmp = getenv("TMPDIR");

		snprintf(folder, sizeof(folder), "%s/acpi-iasl-XXXXXX", tmp != NULL ? tmp : "/tmp");
		if (mkdtemp(folder) == NULL) {
			perror(folder);
			return EXIT_FAILURE;
		}
	}

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, machine_passes, 0, NMACHINES);
	suite_add_tcase(suite, tc);
	status = test_run(suite);
	if (status != EXIT_SUCCESS)
		printf("the tables are in %s\n", folder);
	else if (!dump_only)
		nftw(folder, remove_one, 4, FTW_DEPTH | FTW_PHYS);
	return status;
}
