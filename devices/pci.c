// SPDX-License-Identifier: Apache-2.0
/*
 * PCI bus 0: PCI Express Base Specification 4.0, 7.2.2 "Enhanced Configuration Access
 * Mechanism", and PCI Local Bus Specification 3.0, 6.1 and 6.2 for the header.
 *
 * The window shows one bus: 32 devices. Slot 0 is a host bridge, with the identity of the
 * generic one that QEMU made common, so that every kernel knows it as one that needs no
 * driver. The first 31 functions get a slot each, which is what guests scan fastest; then
 * the slots become multi-function devices (6.2.1: bit 7 of function 0's header type says so;
 * it is put in here, a function does not know who is beside it). Functions that are not there read
 * as all ones, which is how a guest finds out; the same goes for accesses that are not naturally
 * aligned or wider than four bytes.
 *
 * Locking: the table of functions has a mutex, held only while one is looked up, never
 * while a function's code runs. It is only ever filled, so what was found stays.
 *
 * Limits: no bridges, no hot plug, no 0xcf8 mechanism.
 *
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "devices/pci.h"

#define BRIDGE_VENDOR 0x1b36
#define BRIDGE_DEVICE 0x0008
#define BRIDGE_CLASS  0x060000 /* bridge, host */

#ifndef PCI_HEADER_TYPE_MFD /* Linux 6.8 */
#define PCI_HEADER_TYPE_MFD 0x80
#endif

/* Memory space, bus master, parity, SERR, INTx disable: they have no effect by themselves. */
#define COMMAND_WRITABLE 0x0546

struct pci_bus {
	pthread_mutex_t lock;
	struct bus_range range;
	struct pci_func *func[PCI_SLOTS][PCI_FUNCTIONS]; /* NULL: empty */

	struct pci_func bridge;
	struct pci_config bridge_config; /* under the lock */
};

/* --- Configuration space as memory --- */

void pci_config_init(struct pci_config *config, uint16_t vendor, uint16_t device, uint32_t class,
		     uint8_t revision)
{
	memset(config, 0, sizeof(*config));
	bus_put_le(config->data + PCI_VENDOR_ID, 2, vendor);
	bus_put_le(config->data + PCI_DEVICE_ID, 2, device);
	bus_put_le(config->data + PCI_REVISION_ID, 1, revision);
	bus_put_le(config->data + PCI_CLASS_PROG, 3, class);

	bus_put_le(config->writable + PCI_COMMAND, 2, COMMAND_WRITABLE);
	bus_put_le(config->writable + PCI_CACHE_LINE_SIZE, 1, 0xff);
	bus_put_le(config->writable + PCI_INTERRUPT_LINE, 1, 0xff);
}

uint32_t pci_config_read(const struct pci_config *config, unsigned reg, unsigned len)
{
	if (len > PCI_HEADER_SIZE || reg > PCI_HEADER_SIZE - len)
		return 0;
	return bus_get_le(config->data + reg, len);
}

void pci_config_write(struct pci_config *config, unsigned reg, uint32_t value, unsigned len)
{
	if (len > PCI_HEADER_SIZE || reg > PCI_HEADER_SIZE - len)
		return;
	for (unsigned i = 0; i < len; i++, value >>= 8) {
		uint8_t mask = config->writable[reg + i];

		config->data[reg + i] = (config->data[reg + i] & ~mask) | (value & mask);
	}
}

/* --- Host bridge --- */

static uint32_t bridge_read(void *dev, unsigned reg, unsigned len)
{
	struct pci_bus *pci = dev;
	uint32_t value;

	pthread_mutex_lock(&pci->lock);
	value = pci_config_read(&pci->bridge_config, reg, len);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

static void bridge_write(void *dev, unsigned reg, uint32_t value, unsigned len)
{
	struct pci_bus *pci = dev;

	pthread_mutex_lock(&pci->lock);
	pci_config_write(&pci->bridge_config, reg, value, len);
	pthread_mutex_unlock(&pci->lock);
}

/* --- ECAM: bits 19:15 of the offset are the device, 14:12 the function --- */

/* The function addressed, or NULL. @multi: it is the first of several in its slot. */
static struct pci_func *ecam_decode(struct pci_bus *pci, uint64_t off, unsigned len, bool *multi)
{
	unsigned slot = off >> 15 & (PCI_SLOTS - 1), n = off >> 12 & (PCI_FUNCTIONS - 1);
	struct pci_func *func;

	if (len > 4 || off % len != 0)
		return NULL;
	pthread_mutex_lock(&pci->lock);
	func = pci->func[slot][n];
	*multi = n == 0 && pci->func[slot][1] != NULL;
	pthread_mutex_unlock(&pci->lock);
	return func;
}

static void ecam_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	unsigned reg = off & (PCI_CFG_SPACE_EXP_SIZE - 1);
	bool multi;
	struct pci_func *func = ecam_decode(opaque, off, len, &multi);
	uint64_t value = UINT64_MAX;

	if (func != NULL) {
		value = func->config_read(func->dev, reg, len);
		if (multi && reg <= PCI_HEADER_TYPE && reg + len > PCI_HEADER_TYPE)
			value |= PCI_HEADER_TYPE_MFD << 8 * (PCI_HEADER_TYPE - reg);
	}
	bus_put_le(data, len, value);
}

static void ecam_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	bool multi;
	struct pci_func *func = ecam_decode(opaque, off, len, &multi);

	if (func != NULL)
		func->config_write(func->dev, off & (PCI_CFG_SPACE_EXP_SIZE - 1),
				   bus_get_le(data, len), len);
}

/* --- For the rest of the monitor --- */

struct pci_bus *pci_new(struct err *err)
{
	struct pci_bus *pci = calloc(1, sizeof(*pci));

	if (pci == NULL) {
		err_sys(err, ENOMEM, "PCI bus");
		return NULL;
	}
	pthread_mutex_init(&pci->lock, NULL);
	pci_config_init(&pci->bridge_config, BRIDGE_VENDOR, BRIDGE_DEVICE, BRIDGE_CLASS, 0);
	pci->bridge = (struct pci_func){
		.dev = pci,
		.config_read = bridge_read,
		.config_write = bridge_write,
	};
	pci->func[0][0] = &pci->bridge;
	pci->range = (struct bus_range){
		.len = PCI_ECAM_BUS_SIZE,
		.name = "PCI configuration space",
		.dev = pci,
		.read = ecam_read,
		.write = ecam_write,
	};
	return pci;
}

void pci_free(struct pci_bus *pci)
{
	if (pci == NULL)
		return;
	pthread_mutex_destroy(&pci->lock);
	free(pci);
}

struct bus_range *pci_range(struct pci_bus *pci)
{
	return &pci->range;
}

int pci_add(struct pci_bus *pci, struct pci_func *func, struct err *err)
{
	int ret = -ENOSPC;

	pthread_mutex_lock(&pci->lock);
	for (unsigned n = 0; ret < 0 && n < PCI_FUNCTIONS; n++) {
		for (unsigned slot = 1; ret < 0 && slot < PCI_SLOTS; slot++) {
			if (pci->func[slot][n] != NULL)
				continue;
			pci->func[slot][n] = func;
			ret = slot << 3 | n;
		}
	}
	pthread_mutex_unlock(&pci->lock);

	if (ret < 0)
		return err_set(err, ENOSPC, "PCI bus: all %d functions are taken",
			       (PCI_SLOTS - 1) * PCI_FUNCTIONS);
	return ret;
}

void pci_reset(struct pci_bus *pci)
{
	pthread_mutex_lock(&pci->lock);
	pci_config_init(&pci->bridge_config, BRIDGE_VENDOR, BRIDGE_DEVICE, BRIDGE_CLASS, 0);
	pthread_mutex_unlock(&pci->lock);
}

int pci_state(struct pci_bus *pci, struct state *st)
{
	uint8_t data[PCI_HEADER_SIZE];
	int ret;

	pthread_mutex_lock(&pci->lock);
	memcpy(data, pci->bridge_config.data, sizeof(data));
	state_begin(st, "pci-host-bridge", 1);
	state_bytes(st, "config", data, sizeof(data));
	ret = state_end(st);
	/* Read-only bits are this program's, not the file's. */
	if (ret == 0 && state_loading(st))
		for (unsigned i = 0; i < sizeof(data); i++)
			pci_config_write(&pci->bridge_config, i, data[i], 1);
	pthread_mutex_unlock(&pci->lock);
	return ret;
}
