// SPDX-License-Identifier: Apache-2.0
/*
 * Everything that is in RAM when the guest starts: kernel, initrd, command line, the
 * tables that describe the machine, and the parameters that point to them.
 *
 * #syscalls: fstat newfstatat lseek pread64 read close
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"
#include "firmware/acpi.h"
#include "firmware/bootparams.h"
#include "firmware/mptable.h"

#define VIRTIO_FORMAT "virtio_mmio.device=%uK@%#llx:%u"
#define VIRTIO_WORD   " virtio_mmio.device=4K@0xe8100000:16"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * The window for 64-bit BARs: from the GiB after RAM and files as far as addresses go, at most
 * 256 GiB.
 */
static void mmio64_window(const struct machine *m, struct acpi_desc *desc)
{
	uint64_t top = gmem_end(&m->mem), end = 1ULL << m->arch->phys_bits;

	desc->mmio64_base = map_align_1g(top > MAP_4G ? top : MAP_4G);
	desc->mmio64_size =
		end > desc->mmio64_base ? min_u64(end - desc->mmio64_base, 256 * MAP_GIB) : 0;
}

/* Random, as the specification of it wants; the first one lasts until the VM is restored. */
static int write_generation(struct machine *m, struct err *err)
{
	uint8_t id[16];

	if (getrandom(id, sizeof(id), GRND_NONBLOCK) != sizeof(id))
		return err_sys(err, errno, "the host has no random numbers yet");
	if (gmem_write(&m->mem, MAP_GENERATION, id, sizeof(id)) < 0)
		return err_set(err, EFAULT, "no RAM for the generation id");
	return 0;
}

int arch_new_generation(struct machine *m, struct err *err)
{
	if (!m->cfg->acpi)
		return 0;
	if (write_generation(m, err) < 0)
		return -err->code;
	acpi_pm_notify(m->arch->pm, ACPI_GED_GENERATION);
	return 0;
}

static int build_acpi(struct machine *m, const uint32_t *apic_ids, uint64_t *rsdp, struct err *err)
{
	struct acpi_desc desc = {
		.ncpus = (unsigned)m->cfg->cpus.count,
		.apic_ids = apic_ids,
		.lapic_addr = MAP_LAPIC,
		.ioapic_addr = MAP_IOAPIC,
		.ioapic_id = IOAPIC_ID,
		.pic = m->cfg->pit,
		.ecam_base = MAP_ECAM,
		.ecam_last_bus = 0,
		.mmio32_base = MAP_MMIO32,
		.mmio32_size = MAP_MMIO32_SIZE,
		.serial_port = m->cfg->serial ? PORT_SERIAL : 0,
		.serial_gsi = GSI_SERIAL,
		.rtc_port = PORT_RTC,
		.rtc_gsi = GSI_RTC,
		.pvpanic_port = PORT_PVPANIC,
		.sleep_control_port = PORT_ACPI_PM + ACPI_PM_SLEEP_CONTROL,
		.sleep_status_port = PORT_ACPI_PM + ACPI_PM_SLEEP_STATUS,
		.s5_type = ACPI_PM_S5_TYPE,
		.reset_port = PORT_ACPI_PM + ACPI_PM_RESET,
		.reset_value = ACPI_PM_RESET_VALUE,
		.ged_port = PORT_ACPI_PM + ACPI_PM_GED_EVENTS,
		.ged_gsi = GSI_GED,
		.ged_power_button = ACPI_GED_POWER_BUTTON,
		.ged_generation = ACPI_GED_GENERATION,
		.generation_addr = MAP_GENERATION,
		.virtio_mmio_base = MAP_VIRTIO_MMIO,
		.virtio_mmio_gsi = GSI_VIRTIO_MMIO,
		.nvirtio_mmio = virtio_on_mmio(m->cfg) ? m->arch->virtio.n : 0,
	};

	mmio64_window(m, &desc);
	if (write_generation(m, err) < 0)
		return -err->code;
	return acpi_build(&desc, &m->mem, MAP_ACPI, MAP_ACPI_SIZE, rsdp, err);
}

static int build_mptable(struct machine *m, const uint32_t *apic_ids, struct err *err)
{
	struct mptable_desc desc = {
		.ncpus = (unsigned)m->cfg->cpus.count,
		.apic_ids = apic_ids,
		.lapic_addr = MAP_LAPIC,
		.ioapic_addr = MAP_IOAPIC,
		.ioapic_id = IOAPIC_ID,
		.irqs = irqchip_pins(m->cfg),
	};
	const struct kvm_cpuid2 *cpuid = m->arch->cpuid;
	uint64_t used;

	for (unsigned i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function != 1)
			continue;
		desc.cpu_signature = cpuid->entries[i].eax;
		desc.cpu_features = cpuid->entries[i].edx;
	}
	return mptable_build(&desc, &m->mem, MAP_MPTABLE, MAP_MPTABLE_SIZE, &used, err);
}

static unsigned memory_map(const struct machine *m, struct e820_range *e820)
{
	uint64_t low = gmem_top_below(&m->mem, MAP_4G), top = gmem_top_below(&m->mem, UINT64_MAX);
	unsigned n = 0;

	e820[n++] = (struct e820_range){ 0, MAP_LOW_RAM_END, E820_RAM };
	e820[n++] = (struct e820_range){ MAP_LOW_RAM_END, MAP_HIGH_RAM - MAP_LOW_RAM_END,
					 E820_RESERVED };
	if (low > MAP_HIGH_RAM)
		e820[n++] = (struct e820_range){ MAP_HIGH_RAM, low - MAP_HIGH_RAM, E820_RAM };
	e820[n++] = (struct e820_range){ MAP_ECAM, PCI_ECAM_BUS_SIZE, E820_RESERVED };
	if (top > MAP_4G)
		e820[n++] = (struct e820_range){ MAP_4G, top - MAP_4G, E820_RAM };
	return n;
}

/* Where in @cmdline the kernel's own words end: at the word "--", if there is one. */
static size_t kernel_words(const char *cmdline)
{
	bool quoted = false, begins = true;

	for (const char *p = cmdline; *p != '\0'; p++) {
		bool blank = *p == ' ' || *p == '\t' || *p == '\n';

		if (begins && !quoted && p[0] == '-' && p[1] == '-' &&
		    (p[2] == '\0' || p[2] == ' ' || p[2] == '\t' || p[2] == '\n'))
			return p - cmdline;
		if (*p == '"')
			quoted = !quoted;
		begins = blank;
	}
	return strlen(cmdline);
}

/*
 * The user's command line and, where no table tells of virtio devices, a word for each, as
 * Documentation/admin-guide/kernel-parameters.txt has it: virtio_mmio.device=SIZE@BASE:IRQ.
 */
static char *make_cmdline(const struct machine *m)
{
	const char *user = m->cfg->cmdline != NULL ? m->cfg->cmdline : "";
	unsigned n = m->cfg->acpi || !virtio_on_mmio(m->cfg) ? 0 : m->arch->virtio.n;
	size_t at = kernel_words(user), size = strlen(user) + n * sizeof(VIRTIO_WORD) + 2 + 1;
	char *cmdline = malloc(size), *end = cmdline;

	if (cmdline == NULL)
		return NULL;
	end += sprintf(end, "%.*s", (int)at, user);
	for (unsigned i = 0; i < n; i++) {
		if (end != cmdline && end[-1] != ' ')
			*end++ = ' ';
		end += sprintf(end, VIRTIO_FORMAT, VIRTIO_MMIO_SIZE >> 10,
			       MAP_VIRTIO_MMIO + i * VIRTIO_MMIO_SIZE, GSI_VIRTIO_MMIO + i);
	}
	if (n > 0 && user[at] != '\0')
		*end++ = ' ';
	strcpy(end, user + at);
	return cmdline;
}

static int load_cmdline(struct machine *m, const struct kernel_image *image, struct boot_desc *boot,
			struct err *err)
{
	size_t len, max = min_u64(image->cmdline_max, MAP_CMDLINE_MAX - 1);
	char *cmdline = make_cmdline(m);
	int r = 0;

	if (cmdline == NULL)
		return err_set(err, ENOMEM, "no memory for the command line");
	len = strlen(cmdline);
	if (len > max)
		r = err_set(err, E2BIG,
			    "command line: %zu bytes%s, but kernel %s takes at most %zu", len,
			    m->cfg->acpi || m->arch->virtio.n == 0 ? "" : " with the devices in it",
			    m->cfg->kernel, max);
	else if (gmem_write(&m->mem, MAP_CMDLINE, cmdline, len + 1) < 0)
		r = err_set(err, EFAULT, "no RAM for the command line");
	free(cmdline);
	boot->cmdline = MAP_CMDLINE;
	boot->cmdline_size = (uint32_t)len;
	return r;
}

/*
 * On a hardware-reduced machine Linux takes for granted that there is EFI, and reboots by
 * its runtime service; without one it jumps to the reset vector in real mode, F000:FFF0.
 * So there is one: it writes the ACPI reset register.
 */
static int write_reset_vector(struct machine *m, struct err *err)
{
	/* clang-format off */
	static const uint8_t code[] = {
		0xba, (PORT_ACPI_PM + ACPI_PM_RESET) & 0xff,
		      (PORT_ACPI_PM + ACPI_PM_RESET) >> 8,	/* mov dx, reset register */
		0xb0, ACPI_PM_RESET_VALUE,			/* mov al, its value */
		0xee,						/* out dx, al */
		0xf4,						/* hlt */
		0xeb, 0xfd,					/* jmp to the hlt */
	};
	/* clang-format on */

	if (gmem_write(&m->mem, MAP_RESET_VECTOR, code, sizeof(code)) < 0)
		return err_set(err, EFAULT, "no RAM for the reset vector");
	return 0;
}

int arch_load(struct machine *m, bool again, struct err *err)
{
	const char *kernel = m->cfg->kernel, *initrd = m->cfg->initrd;
	struct arch_machine *a = m->arch;
	uint32_t apic_ids[MACHINE_CPUS_MAX];
	struct e820_range e820[8];
	struct boot_desc boot = { .e820 = e820 };
	struct kernel_image image;
	int r;

	if (again && a->kernel_fd < 0)
		return err_set(err, ENOENT,
			       "kernel %s: it was not there when the machine was restored", kernel);
	if (kernel_load(&m->mem, kernel, a->kernel_fd, m->cfg->entry, &image, err) < 0)
		return -err->code;
	if (m->cfg->initrd_fd > 0 && initrd_load_fd(&m->mem, m->cfg->initrd_fd, &image,
						    &boot.initrd, &boot.initrd_size, err) < 0)
		return -err->code;
	if (m->cfg->initrd_fd <= 0 && initrd != NULL && again && a->initrd_fd < 0)
		return err_set(err, ENOENT,
			       "initrd %s: it was not there when the machine was restored", initrd);
	if (m->cfg->initrd_fd <= 0 && initrd != NULL &&
	    initrd_load(&m->mem, initrd, a->initrd_fd, &image, &boot.initrd, &boot.initrd_size,
			err) < 0)
		return -err->code;
	if (load_cmdline(m, &image, &boot, err) < 0 || write_reset_vector(m, err) < 0)
		return -err->code;

	for (unsigned i = 0; i < m->cfg->cpus.count; i++)
		apic_ids[i] = cpu_apic_id(&m->cfg->cpus, i);
	r = m->cfg->acpi ? build_acpi(m, apic_ids, &boot.rsdp, err)
			 : build_mptable(m, apic_ids, err);
	if (r < 0)
		return r;

	boot.ne820 = memory_map(m, e820);
	if (image.entry_kind == KERNEL_ENTRY_PVH) {
		r = pvh_build(&boot, &m->mem, MAP_BOOT_PARAMS,
			      MAP_BOOT_PARAMS_END - MAP_BOOT_PARAMS, err);
	} else {
		if (image.setup_header_size > 0) {
			boot.setup_header = image.setup_header;
			boot.setup_header_size = image.setup_header_size;
		}
		r = bootparams_build(&boot, &m->mem, MAP_BOOT_PARAMS, err);
	}
	m->boot = (struct boot_entry){ .kind = image.entry_kind,
				       .pc = image.entry,
				       .arg = MAP_BOOT_PARAMS };
	return r;
}
