// SPDX-License-Identifier: Apache-2.0
/*
 * The registers of a hardware-reduced ACPI platform: ACPI 6.5, 4.8.3.7 "Sleep Control
 * and Status Registers", 4.8.3.6 "Reset Register", and an event register of our own
 * behind the Generic Event Device (5.6.9), whose _EVT method reads it.
 *
 * Sleep: SLP_EN with the type of S5 powers the machine off. No other sleep state is
 * announced; a guest that asks for one anyway wakes at once (WAK_STS is set), since it
 * would otherwise poll that bit for ever.
 *
 * Events: the line is high while an event is pending, and reading the register fetches
 * and clears them all, so an event that arrives in between makes a new edge and none is
 * lost. The register is read as one dword; other widths read as ones and clear nothing.
 *
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include "devices/acpi_pm.h"
#include "vmm/base/log.h"

#define SLP_EN	(1 << 5)
#define SLP_TYP (7 << 2)
#define WAK_STS (1 << 7)

struct acpi_pm {
	pthread_mutex_t lock;
	struct bus_range range;
	struct machine_events *machine;
	struct irq_line irq;

	uint8_t sleep_type; /* SLP_TYP as last written, in place */
	uint8_t status;
	uint32_t pending; /* ACPI_GED_* */
};

static void acpi_pm_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	struct acpi_pm *pm = opaque;
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&pm->lock);
	if (len == 1 && off == ACPI_PM_SLEEP_CONTROL) {
		value = pm->sleep_type;
	} else if (len == 1 && off == ACPI_PM_SLEEP_STATUS) {
		value = pm->status;
	} else if (len == 1 && off == ACPI_PM_RESET) {
		value = 0;
	} else if (len == 4 && off == ACPI_PM_GED_EVENTS) {
		value = pm->pending;
		pm->pending = 0;
		irq_set(&pm->irq, false);
	}
	pthread_mutex_unlock(&pm->lock);
	bus_put_le(data, len, value);
}

/* Returns whether the machine is to be powered off. */
static bool acpi_pm_sleep(struct acpi_pm *pm, uint8_t value)
{
	pm->sleep_type = value & SLP_TYP;
	if (!(value & SLP_EN))
		return false;
	if (pm->sleep_type == ACPI_PM_S5_TYPE << 2)
		return true;
	log_limited(LOG_WARN, "ACPI: guest asks for sleep type %d, which does not exist",
		    pm->sleep_type >> 2);
	pm->status |= WAK_STS;
	return false;
}

static void acpi_pm_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct acpi_pm *pm = opaque;
	uint8_t value = bus_get_le(data, len);
	bool poweroff = false, reset = false;

	if (len != 1)
		return;
	pthread_mutex_lock(&pm->lock);
	switch (off) {
	case ACPI_PM_SLEEP_CONTROL:
		poweroff = acpi_pm_sleep(pm, value);
		break;
	case ACPI_PM_SLEEP_STATUS:
		pm->status &= ~(value & WAK_STS);
		break;
	case ACPI_PM_RESET:
		reset = value == ACPI_PM_RESET_VALUE;
		break;
	}
	pthread_mutex_unlock(&pm->lock);

	if (poweroff)
		machine_report(pm->machine, MACHINE_POWEROFF, 0);
	if (reset)
		machine_report(pm->machine, MACHINE_RESET, 0);
}

struct acpi_pm *acpi_pm_new(struct machine_events *events, struct irq_line ged_irq, struct err *err)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));

	if (pm == NULL) {
		err_sys(err, ENOMEM, "ACPI registers");
		return NULL;
	}
	pthread_mutex_init(&pm->lock, NULL);
	pm->machine = events;
	pm->irq = ged_irq;
	pm->range = (struct bus_range){
		.len = ACPI_PM_PORTS,
		.name = "ACPI registers",
		.dev = pm,
		.read = acpi_pm_read,
		.write = acpi_pm_write,
	};
	return pm;
}

void acpi_pm_free(struct acpi_pm *pm)
{
	if (pm == NULL)
		return;
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

struct bus_range *acpi_pm_range(struct acpi_pm *pm)
{
	return &pm->range;
}

void acpi_pm_notify(struct acpi_pm *pm, uint32_t events)
{
	pthread_mutex_lock(&pm->lock);
	pm->pending |= events;
	irq_set(&pm->irq, pm->pending != 0);
	pthread_mutex_unlock(&pm->lock);
}

bool acpi_pm_pending(struct acpi_pm *pm)
{
	bool pending;

	pthread_mutex_lock(&pm->lock);
	pending = pm->pending != 0;
	pthread_mutex_unlock(&pm->lock);
	return pending;
}

void acpi_pm_reset(struct acpi_pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	pm->sleep_type = 0;
	pm->status = 0;
	pm->pending = 0;
	irq_set(&pm->irq, false);
	pthread_mutex_unlock(&pm->lock);
}

int acpi_pm_state(struct acpi_pm *pm, struct state *st)
{
	int ret;

	pthread_mutex_lock(&pm->lock);
	state_begin(st, "acpi-pm", 1);
	state_u8(st, "sleep-type", &pm->sleep_type);
	state_u8(st, "status", &pm->status);
	state_u32(st, "pending", &pm->pending);
	ret = state_end(st);
	if (state_loading(st)) {
		pm->sleep_type &= SLP_TYP;
		pm->status &= WAK_STS;
		irq_set(&pm->irq, pm->pending != 0);
	}
	pthread_mutex_unlock(&pm->lock);
	return ret;
}
