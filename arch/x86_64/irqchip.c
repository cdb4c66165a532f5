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
 * Message-signalled interrupts of PCI devices are sent one by one too (KVM_SIGNAL_MSI), in
 * both; only an eventfd that the host's kernel signals (vhost) needs a route, from behind the
 * pins up.
 *
 * A route for one of our I/O APIC's pins is only handed to KVM while the pin is
 * level-triggered: KVM needs it then to know whose end-of-interrupt to report
 * (api.rst, KVM_EXIT_IOAPIC_EOI). Edge pins are sent message by message, and cost
 * nothing when the guest masks and unmasks them.
 *
 * Locking: the routing table is changed by vCPUs (I/O APIC, MSI-X tables) and loops, so it
 * has a mutex: a leaf, taken with the I/O APIC's or a virtio device's held.
 *
 * #syscalls main vcpu io share: ioctl
 * #ioctls main vcpu io share: KVM_IRQ_LINE
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
	int r = 0;

	pthread_mutex_lock(&chip->lock);
	if (level)
		kvm_routes_set_msi(&chip->routes, pin, kvm_msi_addr(addr), data);
	if (level || (pin < chip->routes.n && chip->routes.entry[pin].type != 0)) {
		if (!level)
			kvm_routes_clear(&chip->routes, pin);
		r = kvm_routes_commit(chip->kvm, &chip->routes);
	}
	pthread_mutex_unlock(&chip->lock);
	if (r < 0)
		log_limited(LOG_WARN, "KVM refused the interrupt route of pin %u", pin);
}

/*
 * The guest may have put any address into an MSI-X table. Hardware would write there; we only
 * know how to reach local APICs.
 */
static bool msi_valid(uint64_t addr)
{
	return addr >> 20 == MAP_LAPIC >> 20;
}

static void msi_send(struct msi_chip *msi, uint64_t addr, uint32_t data)
{
	struct irqchip *chip = container_of(msi, struct irqchip, msi);

	if (msi_valid(addr))
		out_send(&chip->out, addr, data);
}

static int msi_connect(struct msi_chip *msi, int fd, uint64_t addr, uint32_t data)
{
	struct irqchip *chip = container_of(msi, struct irqchip, msi);
	unsigned gsi = chip->first_msi;
	int r;

	if (!msi_valid(addr))
		return -EINVAL;
	pthread_mutex_lock(&chip->lock);
	while (gsi < chip->routes.n && chip->routes.entry[gsi].type != 0)
		gsi++;
	if (gsi >= KVM_ROUTES_MAX) {
		r = -ENOSPC;
	} else {
		kvm_routes_set_msi(&chip->routes, gsi, kvm_msi_addr(addr), data);
		r = kvm_routes_commit(chip->kvm, &chip->routes);
		if (r == 0)
			r = kvm_irqfd(chip->kvm, fd, gsi, true);
		if (r < 0)
			kvm_routes_clear(&chip->routes, gsi);
	}
	pthread_mutex_unlock(&chip->lock);
	return r < 0 ? r : (int)gsi;
}

static void msi_disconnect(struct msi_chip *msi, int gsi, int fd)
{
	struct irqchip *chip = container_of(msi, struct irqchip, msi);

	kvm_irqfd(chip->kvm, fd, (uint32_t)gsi, false);
	pthread_mutex_lock(&chip->lock);
	/* Handed over with the next commit: nothing uses it any more. */
	kvm_routes_clear(&chip->routes, (uint32_t)gsi);
	pthread_mutex_unlock(&chip->lock);
}

/* Any length: Linux 4.4; what KVM needs here otherwise (platform_create()) is younger. */
static int ioeventfd_set(struct ioeventfd_chip *ioeventfd, int fd, uint64_t addr, unsigned len,
			 const uint64_t *match, bool on)
{
	struct irqchip *chip = container_of(ioeventfd, struct irqchip, ioeventfd);

	return kvm_ioeventfd(chip->kvm, fd, addr, len, false, match, on);
}

static void kernel_line_set(struct irq_line *line, bool level)
{
	struct irqchip *chip = line->chip;
	struct kvm_irq_level irq = { .irq = line->gsi, .level = level };

	kvm_ioctl(chip->kvm->vm_fd, KVM_IRQ_LINE, &irq);
}

/*
 * What KVM_CREATE_IRQCHIP set up, so that commits keep it: each pin goes to the I/O APIC, the
 * first 16 also to a PIC. The table has a place for one route of each GSI; the PICs' have
 * theirs behind the pins.
 */
static void keep_default_routes(struct irqchip *chip)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		kvm_routes_set_irqchip(&chip->routes, pin, KVM_IRQCHIP_IOAPIC, pin);
	for (unsigned pin = 0; pin < 16; pin++) {
		kvm_routes_set_irqchip(&chip->routes, IOAPIC_PINS + pin,
				       pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				       pin % 8);
		chip->routes.entry[IOAPIC_PINS + pin].gsi = pin;
	}
}

unsigned irqchip_pins(const struct machine_config *cfg)
{
	unsigned pins = GSI_VIRTIO_MMIO + cfg->nvirtio;

	return virtio_on_mmio(cfg) && pins > IOAPIC_PINS ? pins : IOAPIC_PINS;
}

int platform_create(const struct kvm *kvm, const struct machine_config *cfg, struct err *err)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity_map = MAP_IDENTITY_MAP, tss = MAP_TSS;
	int r;

	/* api.rst 4.40 and 4.41: real mode on early Intel CPUs. */
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (r == 0)
		r = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)tss);
	if (r < 0)
		return err_sys(err, -r, "KVM cannot place its real mode pages");

	/* 32-bit APIC IDs, and 255 is not a broadcast among them (api.rst 7.12). */
	r = kvm_enable_cap(kvm, KVM_CAP_X2APIC_API,
			   KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
			   0);
	if (r < 0)
		return err_sys(err, -r, "KVM has no x2APIC API (Linux 4.8 or later)");

	if (!cfg->pit) {
		r = kvm_enable_cap(kvm, KVM_CAP_SPLIT_IRQCHIP, irqchip_pins(cfg), 0);
		return r < 0 ? err_sys(err, -r, "KVM has no split irqchip (Linux 4.5 or later)")
			     : 0;
	}
	r = kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
	if (r < 0)
		return err_sys(err, -r, "KVM cannot make the interrupt controllers");
	r = kvm_ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit);
	return r < 0 ? err_sys(err, -r, "KVM cannot make the timer (PIT)") : 0;
}

int irqchip_init(struct machine *m, struct err *err)
{
	struct irqchip *chip = &m->arch->irqchip;
	unsigned pins = irqchip_pins(m->cfg);

	pthread_mutex_init(&chip->lock, NULL);
	chip->kvm = &m->kvm;
	chip->in_kernel = m->cfg->pit;
	chip->out = (struct ioapic_output){ .send = out_send, .route = out_route };
	chip->msi = (struct msi_chip){ .send = msi_send,
				       .connect = msi_connect,
				       .disconnect = msi_disconnect };
	chip->ioeventfd.set = ioeventfd_set;
	if (kvm_routes_init(&chip->routes, err) < 0 || platform_create(&m->kvm, m->cfg, err) < 0)
		return -err->code;
	if (chip->in_kernel) {
		keep_default_routes(chip);
		chip->first_msi = chip->routes.n;
		return 0;
	}
	chip->first_msi = pins;
	chip->ioapic = ioapic_new(pins, &chip->out, err);
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
	pthread_mutex_destroy(&chip->lock);
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
