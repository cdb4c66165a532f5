/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hardware-reduced ACPI platform: sleep control, sleep status, reset register,
 * and the event register behind the generic event device (power button).
 * See acpi_pm.c.
 */
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include <stdbool.h>
#include <stdint.h>
#include "devices/bus.h"
#include "devices/irq.h"
#include "vmm/base/state.h"

struct acpi_pm;

/* Register offsets from the base of the window; firmware/acpi.c announces them. */
#define ACPI_PM_SLEEP_CONTROL 0 /* byte: SLP_TYP << 2 | SLP_EN (bit 5) */
#define ACPI_PM_SLEEP_STATUS  1 /* byte: WAK_STS (bit 7) */
#define ACPI_PM_RESET	      2 /* byte: ACPI_PM_RESET_VALUE resets */
#define ACPI_PM_GED_EVENTS    4 /* dword: pending events; reading clears them */
#define ACPI_PM_PORTS	      8

#define ACPI_PM_RESET_VALUE 1
#define ACPI_PM_S5_TYPE	    5

#define ACPI_GED_POWER_BUTTON (1U << 0)
#define ACPI_GED_GENERATION   (1U << 1)

/* NULL with @err filled when out of memory. @events is borrowed. */
struct acpi_pm *acpi_pm_new(struct machine_events *events, struct irq_line ged_irq,
			    struct err *err);
void acpi_pm_free(struct acpi_pm *pm);
/* ACPI_PM_PORTS bytes; the caller sets base. */
struct bus_range *acpi_pm_range(struct acpi_pm *pm);

/* Raise @events (ACPI_GED_*) and the GED's interrupt. Any thread. */
void acpi_pm_notify(struct acpi_pm *pm, uint32_t events);
/* Are events raised that the guest has not fetched yet (is nobody listening)? */
bool acpi_pm_pending(struct acpi_pm *pm);

/* As after power-on; pending events are forgotten. */
void acpi_pm_reset(struct acpi_pm *pm);
/*
 * Save or load, with the vCPUs stopped. Loading also sets the line; the interrupt
 * controller may be loaded before or after.
 */
int acpi_pm_state(struct acpi_pm *pm, struct state *st);

#endif
