// SPDX-License-Identifier: Apache-2.0
/*
 * The x86 machine: RAM around the hole, platform devices on their ports.
 *
 * Address map and interrupt numbers are in map.h. There is no firmware and no chipset:
 * what a kernel needs to know is in the tables that load.c makes.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"

int arch_check_config(const struct machine_config *cfg, struct err *err)
{
	struct cpu_config full;

	if (cpu_topology(&cfg->cpus, &full, err) < 0 || cpu_model_check(&cfg->cpu, err) < 0)
		return -err->code;
	if (!cfg->acpi && cpu_apic_id(&cfg->cpus, (unsigned)cfg->cpus.count - 1) > 254)
		return err_set(err, EINVAL,
			       "--cpus: this topology needs APIC IDs above 254, which the MP table "
			       "of --no-acpi cannot name");
	return virtio_check_config(cfg, err);
}

static int add_ram(struct machine *m, uint64_t gpa, uint64_t size, struct err *err)
{
	struct gmem_region *r;
	int e;

	if (gmem_add_region(&m->mem, gpa, size, err) < 0)
		return -err->code;
	r = &m->mem.regions[m->mem.nregions - 1];
	e = kvm_set_memory(&m->kvm, m->mem.nregions - 1,
			   m->cfg->mem.track ? KVM_MEM_LOG_DIRTY_PAGES : 0, r->gpa, r->size,
			   r->host);
	if (e < 0)
		return err_sys(err, -e, "KVM refused %llu MiB of memory at 0x%llx",
			       (unsigned long long)size >> 20, (unsigned long long)gpa);
	return 0;
}

int arch_init_memory(struct machine *m, struct err *err)
{
	uint64_t size = m->mem.size;

	if (add_ram(m, 0, size < MAP_HOLE ? size : MAP_HOLE, err) < 0)
		return -err->code;
	if (size > MAP_HOLE)
		return add_ram(m, MAP_4G, size - MAP_HOLE, err);
	return 0;
}

int arch_add_memory(struct machine *m, int fd, uint64_t size, bool ro, uint64_t *gpa,
		    struct err *err)
{
	uint64_t end = gmem_end(&m->mem), limit = 1ULL << m->arch->phys_bits;
	struct gmem_region *r;
	int e;

	*gpa = map_align_1g(end > MAP_4G ? end : MAP_4G);
	if (*gpa > limit || size > limit - *gpa)
		return err_set(err, ENOSPC,
			       "%llu MiB at 0x%llx are beyond what the CPU can address: %u bits",
			       (unsigned long long)size >> 20, (unsigned long long)*gpa,
			       m->arch->phys_bits);
	if (m->mem.nregions == GMEM_REGIONS_MAX)
		return err_set(err, ENOSPC, "there is room for %u files in guest memory",
			       m->mem.nregions - (m->mem.size > MAP_HOLE ? 2 : 1));
	if (ro && kvm_cap(&m->kvm, KVM_CAP_READONLY_MEM) <= 0)
		return err_set(err, ENOTSUP, "this host's KVM has no read-only memory");
	if (gmem_add_file(&m->mem, *gpa, size, fd, ro, err) < 0)
		return -err->code;
	r = &m->mem.regions[m->mem.nregions - 1];
	e = kvm_set_memory(&m->kvm, m->mem.nregions - 1, ro ? KVM_MEM_READONLY : 0, r->gpa, r->size,
			   r->host);
	if (e < 0)
		return err_sys(err, -e, "KVM refused %llu MiB of memory at 0x%llx",
			       (unsigned long long)size >> 20, (unsigned long long)*gpa);
	return 0;
}

static int add_port(struct machine *m, struct bus_range *range, uint64_t port, struct err *err)
{
	range->base = port;
	return bus_add(&m->pio, range, err);
}

static int add_serial(struct machine *m, struct err *err)
{
	m->serial =
		serial_new(m->loop, irqchip_line(&m->arch->irqchip, GSI_SERIAL), m->console, err);
	if (m->serial == NULL)
		return -err->code;
	return add_port(m, serial_range(m->serial), PORT_SERIAL, err);
}

int arch_init_devices(struct machine *m, struct err *err)
{
	struct arch_machine *a;

	a = m->arch = calloc(1, sizeof(*a));
	if (a == NULL)
		return err_set(err, ENOMEM, "no memory for the machine");
	/* Who loads them says what is wrong with them. */
	a->kernel_fd = m->cfg->kernel != NULL ? kernel_open(m->cfg->kernel) : -1;
	a->initrd_fd = m->cfg->initrd != NULL ? kernel_open(m->cfg->initrd) : -1;
	if (irqchip_init(m, err) < 0 || cpuid_init(m, err) < 0)
		return -err->code;

	if (m->cfg->serial && add_serial(m, err) < 0)
		return -err->code;
	a->rtc = rtc_new(m->loop, irqchip_line(&a->irqchip, GSI_RTC), err);
	if (a->rtc == NULL || add_port(m, rtc_range(a->rtc), PORT_RTC, err) < 0)
		return -err->code;
	a->pm = acpi_pm_new(m->events, irqchip_line(&a->irqchip, GSI_GED), err);
	if (a->pm == NULL || add_port(m, acpi_pm_range(a->pm), PORT_ACPI_PM, err) < 0)
		return -err->code;
	pvpanic_init(&a->pvpanic, PORT_PVPANIC, m->events);
	if (bus_add(&m->pio, &a->pvpanic.range, err) < 0)
		return -err->code;
	i8042_init(&a->i8042, PORT_I8042, m->events);
	if (bus_add(&m->pio, &a->i8042.data, err) < 0 ||
	    bus_add(&m->pio, &a->i8042.command, err) < 0)
		return -err->code;
	if (m->cfg->debug_exit) {
		debugexit_init(&a->debugexit, PORT_DEBUG_EXIT, m->events);
		if (bus_add(&m->pio, &a->debugexit.range, err) < 0)
			return -err->code;
	}
	if (m->cfg->boot_timer) {
		boottimer_init(&a->boottimer, MAP_BOOT_TIMER, m->begun);
		if (bus_add(&m->mmio, &a->boottimer.range, err) < 0)
			return -err->code;
	}
	a->pci = pci_new(err);
	if (a->pci == NULL)
		return -err->code;
	pci_range(a->pci)->base = MAP_ECAM;
	return bus_add(&m->mmio, pci_range(a->pci), err);
}

void arch_fini(struct machine *m)
{
	struct arch_machine *a = m->arch;

	if (a == NULL)
		return;
	virtio_fini_all(m);
	pci_free(a->pci);
	acpi_pm_free(a->pm);
	rtc_free(a->rtc);
	serial_free(m->serial);
	m->serial = NULL;
	irqchip_fini(&a->irqchip);
	if (a->kernel_fd >= 0)
		close(a->kernel_fd);
	if (a->initrd_fd >= 0)
		close(a->initrd_fd);
	free(a->cpuid);
	free(a);
	m->arch = NULL;
}

int arch_reset(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, struct err *err)
{
	struct arch_machine *a = m->arch;

	if (m->serial != NULL)
		serial_reset(m->serial);
	rtc_reset(a->rtc);
	acpi_pm_reset(a->pm);
	pci_reset(a->pci);
	virtio_reset_all(m);
	irqchip_reset(&a->irqchip);
	return vcpu_reset_all(m, vcpus, n, err);
}

bool arch_handle_exit(struct machine *m, struct kvm_vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_IOAPIC_EOI || m->arch->irqchip.ioapic == NULL)
		return false;
	ioapic_eoi(m->arch->irqchip.ioapic, vcpu->run->eoi.vector);
	return true;
}

void arch_power_button(struct machine *m)
{
	acpi_pm_notify(m->arch->pm, ACPI_GED_POWER_BUTTON);
}
