// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt controllers: who has them, and how a device's line reaches a CPU.
 *
 * The local APICs are always KVM's. What is in front of them is one of two:
 *
 *  - KVM's split irqchip (the default): one I/O APIC of ours (devices/ioapic.c), no PIC
 *    and no PIT. Lines become messages (KVM_SIGNAL_MSI). Making the whole in-kernel
 *    chip instead costs every VM several milliseconds at start and at the end (each
 *    device KVM puts on its own buses waits for an SRCU grace period), and every
 *    Linux that finds a known TSC frequency and a TSC deadline timer never
 *    touches PIC and PIT.
 *  - the full in-kernel chip with PIC and PIT (--pit), for kernels that cannot use
 *    the APIC or the APIC timer. Lines are KVM_IRQ_LINE.
 *
 * Message-signalled interrupts of PCI devices use routes from GSI 24 up, in both.
 *
 * A route for one of our I/O APIC's pins is only handed to KVM while the pin is
 * level-triggered: KVM needs it then to know whose end-of-interrupt to report
 * (api.rst, KVM_EXIT_IOAPIC_EOI). Edge pins are sent message by message, and cost
 * nothing when the guest masks and unmasks them.
 */
#include <errno.h>
#include <string.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

/*
 * A guest that was told of KVM_FEATURE_MSI_EXT_DEST_ID puts bits 14:8 of the
 * destination into bits 11:5 of the address; KVM takes them in the upper half.
 */
static uint64_t kvm_msi_addr(uint64_t addr)
{
	uint64_t high = (addr >> 5) & 0x7f;

	return (addr & ~(0x7fULL << 5) & 0xffffffffULL) | (high << 40);
}

static void out_send(struct ioapic_output *out, uint64_t addr, uint32_t data)
{
	struct irqchip *chip = container_of(out, struct irqchip, out);
	int r = kvm_signal_msi(chip->kvm, kvm_msi_addr(addr), data);

	if (r < 0)
		log_limited(LOG_WARN, "interrupt message %#llx/%#x not delivered: %s",
			    (unsigned long long)addr, data, strerrordesc_np(-r));
}

static void out_route(struct ioapic_output *out, unsigned pin, bool masked, uint64_t addr,
		      uint32_t data)
{
	struct irqchip *chip = container_of(out, struct irqchip, out);
	bool level = !masked && (data & (1U << 15)) != 0;
	bool had = pin < chip->routes.n && chip->routes.entry[pin].type != 0;

	if (!level && !had)
		return;
	if (level)
		kvm_routes_set_msi(&chip->routes, pin, kvm_msi_addr(addr), data);
	else
		kvm_routes_clear(&chip->routes, pin);
	if (kvm_routes_commit(chip->kvm, &chip->routes) < 0)
		log_limited(LOG_WARN, "KVM refused the interrupt route of pin %u", pin);
}

static void kernel_line_set(struct irq_line *line, bool level)
{
	struct irqchip *chip = line->chip;
	struct kvm_irq_level irq = { .irq = line->gsi, .level = level };

	kvm_ioctl(chip->kvm->vm_fd, KVM_IRQ_LINE, &irq);
}

static int init_in_kernel(struct irqchip *chip, struct err *err)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int r;

	r = kvm_ioctl(chip->kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
	if (r < 0)
		return err_sys(err, -r, "KVM cannot make the interrupt controllers");
	r = kvm_ioctl(chip->kvm->vm_fd, KVM_CREATE_PIT2, &pit);
	if (r < 0)
		return err_sys(err, -r, "KVM cannot make the timer (PIT)");
	/* What KVM_CREATE_IRQCHIP set up, so that later commits keep it. */
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		kvm_routes_set_irqchip(&chip->routes, pin, KVM_IRQCHIP_IOAPIC, pin);
	return 0;
}

int irqchip_init(struct machine *m, struct err *err)
{
	struct irqchip *chip = &m->arch->irqchip;
	int r;

	chip->kvm = &m->kvm;
	chip->in_kernel = m->cfg->pit;
	if (kvm_routes_init(&chip->routes, err) < 0)
		return -err->code;
	if (chip->in_kernel)
		return init_in_kernel(chip, err);

	r = kvm_enable_cap(&m->kvm, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_PINS, 0);
	if (r < 0)
		return err_sys(err, -r, "KVM has no split irqchip (Linux 4.5 or later)");
	chip->out = (struct ioapic_output){ .send = out_send, .route = out_route };
	chip->ioapic = ioapic_new(IOAPIC_PINS, &chip->out, err);
	if (chip->ioapic == NULL)
		return -err->code;
	ioapic_range(chip->ioapic)->base = MAP_IOAPIC;
	return bus_add(&m->mmio, ioapic_range(chip->ioapic), err);
}

void irqchip_fini(struct irqchip *chip)
{
	ioapic_free(chip->ioapic);
	chip->ioapic = NULL;
	kvm_routes_fini(&chip->routes);
}

void irqchip_reset(struct irqchip *chip)
{
	if (chip->ioapic != NULL)
		ioapic_reset(chip->ioapic);
}

struct irq_line irqchip_line(struct irqchip *chip, uint32_t gsi)
{
	if (chip->ioapic != NULL)
		return ioapic_line(chip->ioapic, gsi);
	return (struct irq_line){ .set = kernel_line_set, .chip = chip, .gsi = gsi };
}
