/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hardware-reduced ACPI platform: sleep control, sleep status, reset register,
 * and the event register behind the generic event device (power button).
 * See acpi_pm.c.
 */
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include "devices/bus.h"
#include "devices/irq.h"
#include "vmm/base/state.h"

struct acpi_pm;

/* Register offsets from the base of the window; firmware/acpi.c announces them. */
#define ACPI_PM_SLEEP_CONTROL 0		/* byte: SLP_TYP << 2 | SLP_EN (bit 5) */
#define ACPI_PM_SLEEP_STATUS  1		/* byte: WAK_STS (bit 7) */
#define ACPI_PM_RESET	      2		/* byte: ACPI_PM_RESET_VALUE resets */
#define ACPI_PM_GED_EVENTS    4		/* dword: pending events; reading clears them */
#define ACPI_PM_PORTS	      8

#define ACPI_PM_RESET_VALUE   1
#define ACPI_PM_S5_TYPE	      5

#define ACPI_GED_POWER_BUTTON (1U << 0)

struct acpi_pm *acpi_pm_new(struct machine_events *events, struct irq_line ged_irq,
			    struct err *err);
void acpi_pm_free(struct acpi_pm *pm);
struct bus_range *acpi_pm_range(struct acpi_pm *pm);

/* Raise @events (ACPI_GED_*) and the GED's interrupt. Any thread. */
void acpi_pm_notify(struct acpi_pm *pm, uint32_t events);
/* Has the guest fetched the events (is anybody listening)? */
bool acpi_pm_pending(struct acpi_pm *pm);

void acpi_pm_reset(struct acpi_pm *pm);
int acpi_pm_state(struct acpi_pm *pm, struct state *st);

#endif
