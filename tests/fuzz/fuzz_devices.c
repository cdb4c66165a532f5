// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile guest, without a kernel: a string of bytes becomes a sequence of reads and
 * writes, of every width at every offset, to all legacy devices on their buses, mixed
 * with what the host does to them. At the end everything is saved, loaded into a second
 * machine and saved again: the two files must be the same.
 *
 * One operation is its kind, then as many bytes as that kind takes; when the string ends
 * in the middle the rest is zeroes. See step().
 */
#include <stddef.h>
#include <string.h>
#include "devices/acpi_pm.h"
#include "devices/bus.h"
#include "devices/ioapic.h"
#include "devices/misc.h"
#include "devices/pci.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/log.h"

#define PINS	     24
#define STEPS_MAX    4096
#define IRQ_SERIAL   4
#define IRQ_RTC	     8
#define IRQ_GED	     9
#define PORT_RTC     0x70
#define PORT_SERIAL  0x3f8
#define PORT_PVPANIC 0x505
#define PORT_PM	     0x600
#define PORT_EXIT    0xf4
#define ADDR_IOAPIC  0xfec00000
#define ADDR_ECAM    0xe0000000

struct machine {
	struct bus pio, mmio;
	struct loop *loop;
	struct ioapic_output out;
	struct chardev_back backend;
	bool room; /* the serial port takes input again */
	struct machine_events events;
	struct ioapic *ioapic;
	struct serial *serial;
	struct rtc *rtc;
	struct acpi_pm *pm;
	struct pci_bus *pci;
	struct port_dev pvpanic, debugexit;
	struct i8042 kbc;
	uint8_t appetite; /* of the backend */
	uint64_t msgs;
};

/* --- The outside of the devices --- */

static void out_send(struct ioapic_output *out, uint64_t addr, uint32_t data)
{
	struct machine *m = (struct machine *)((char *)out - offsetof(struct machine, out));

	CHECK(addr >> 20 == 0xfee && (addr & 0x1b) == 0);
	CHECK((data & ~0xc7ffu) == 0);
	m->msgs++;
}

static void out_route(struct ioapic_output *out, unsigned pin, bool masked, uint64_t addr,
		      uint32_t data)
{
	(void)masked;
	(void)addr;
	(void)data;
	CHECK(out != NULL && pin < PINS);
}

static size_t backend_write(struct chardev_back *back, struct iovec *iov, unsigned n)
{
	struct machine *m = (struct machine *)((char *)back - offsetof(struct machine, backend));
	volatile uint8_t last = ((const uint8_t *)iov->iov_base)[iov->iov_len - 1];

	(void)last;
	CHECK(n == 1);
	return iov->iov_len < m->appetite ? iov->iov_len : m->appetite;
}

static void backend_room(struct chardev_back *back)
{
	struct machine *m = (struct machine *)((char *)back - offsetof(struct machine, backend));

	m->room = true;
}

static void serial_input(struct machine *m, const void *data, size_t len)
{
	m->room = false;
	m->backend.front->input(m->backend.front, data, len);
}

static void report(struct machine_events *events, enum machine_event event, uint32_t arg)
{
	(void)events;
	(void)arg;
	CHECK(event <= MACHINE_DEBUG_EXIT);
}

static void add(struct bus *bus, struct bus_range *range, uint64_t base)
{
	struct err err = ERR_INIT;

	range->base = base;
	CHECK(bus_add(bus, range, &err) == 0);
}

static void machine_init(struct machine *m)
{
	struct err err = ERR_INIT;

	memset(m, 0, sizeof(*m));
	m->out = (struct ioapic_output){ .send = out_send, .route = out_route };
	m->backend = (struct chardev_back){ .write = backend_write, .rx_room = backend_room };
	m->events.report = report;
	m->appetite = 255;
	bus_init(&m->pio);
	bus_init(&m->mmio);
	m->loop = loop_new(&err);
	CHECK(m->loop != NULL);
	m->ioapic = ioapic_new(PINS, &m->out, &err);
	m->serial = serial_new(m->loop, ioapic_line(m->ioapic, IRQ_SERIAL), &m->backend, &err);
	m->rtc = rtc_new(m->loop, ioapic_line(m->ioapic, IRQ_RTC), &err);
	m->pm = acpi_pm_new(&m->events, ioapic_line(m->ioapic, IRQ_GED), &err);
	m->pci = pci_new(&err);
	pvpanic_init(&m->pvpanic, 0, &m->events);
	debugexit_init(&m->debugexit, 0, &m->events);
	i8042_init(&m->kbc, 0, &m->events);
	add(&m->pio, serial_range(m->serial), PORT_SERIAL);
	add(&m->pio, rtc_range(m->rtc), PORT_RTC);
	add(&m->pio, acpi_pm_range(m->pm), PORT_PM);
	add(&m->pio, &m->pvpanic.range, PORT_PVPANIC);
	add(&m->pio, &m->debugexit.range, PORT_EXIT);
	add(&m->pio, &m->kbc.data, 0x60);
	add(&m->pio, &m->kbc.command, 0x64);
	add(&m->mmio, ioapic_range(m->ioapic), ADDR_IOAPIC);
	add(&m->mmio, pci_range(m->pci), ADDR_ECAM);
}

static void machine_fini(struct machine *m)
{
	bus_fini(&m->pio);
	bus_fini(&m->mmio);
	pci_free(m->pci);
	acpi_pm_free(m->pm);
	rtc_free(m->rtc);
	serial_free(m->serial);
	ioapic_free(m->ioapic);
	loop_free(m->loop);
}

static void machine_state(struct machine *m, struct state *st)
{
	CHECK(ioapic_state(m->ioapic, st) == 0);
	CHECK(serial_state(m->serial, st) == 0);
	CHECK(rtc_state(m->rtc, st) == 0);
	CHECK(acpi_pm_state(m->pm, st) == 0);
	CHECK(pci_state(m->pci, st) == 0);
}

/* --- What happens --- */

static void mmio_read(struct machine *m, uint64_t addr, unsigned len)
{
	uint8_t data[8];

	bus_read(&m->mmio, addr, data, len);
}

/* Ports: a byte of place, a byte of offset and width. */
static uint64_t port(struct input *in, unsigned *len)
{
	static const uint16_t base[] = { PORT_SERIAL, PORT_RTC, PORT_PM,     PORT_PVPANIC,
					 PORT_EXIT,   0x60,	PORT_SERIAL, PORT_RTC };
	uint8_t place = take(in, 1);

	*len = (place >> 3 & 3) == 0 ? 1 : 1u << (place >> 3 & 3); /* 1, 2, 4, 8 */
	return base[place & 7] + (place >> 5 & 7);
}

/* MMIO: the I/O APIC's three registers, any of its window, or configuration space. */
static uint64_t mmio(struct input *in, unsigned *len)
{
	uint8_t place = take(in, 1);

	*len = place >> 4 & 8 ? place >> 4 & 7 : 4; /* also lengths no device is given */
	switch (place & 7) {
	case 0:
		return ADDR_IOAPIC;
	case 1:
		return ADDR_IOAPIC + 0x10;
	case 2:
		return ADDR_IOAPIC + 0x40;
	case 3:
		return ADDR_IOAPIC + take(in, 2);
	case 4:
		return ADDR_ECAM + take(in, 1);
	case 5:
		return ADDR_ECAM + take(in, 3);
	case 6:
		return take(in, 8);
	}
	return ADDR_IOAPIC + 0x10;
}

static void step(struct machine *m, struct input *in)
{
	uint8_t bytes[256] = { 0 }, kind = take(in, 1);
	struct irq_line line;
	uint64_t addr;
	unsigned len;

	switch (kind & 15) {
	case 0:
	case 1:
	case 2:
		addr = port(in, &len);
		bus_put_le(bytes, 8, take(in, len));
		bus_write(&m->pio, addr, bytes, len);
		break;
	case 3:
	case 4:
		addr = port(in, &len);
		bus_read(&m->pio, addr, bytes, len);
		break;
	case 5: /* the same byte many times: fills rings */
		addr = port(in, &len);
		for (unsigned i = 0; i < 1024; i++)
			bus_write(&m->pio, addr, bytes, 1);
		break;
	case 6:
		addr = mmio(in, &len);
		bus_put_le(bytes, 8, take(in, len));
		bus_write(&m->mmio, addr, bytes, len);
		break;
	case 7:
		addr = mmio(in, &len);
		mmio_read(m, addr, len);
		break;
	case 8: /* a register of the I/O APIC at once */
		bytes[0] = take(in, 1);
		bus_write(&m->mmio, ADDR_IOAPIC, bytes, 4);
		bus_put_le(bytes, 4, take(in, 4));
		bus_write(&m->mmio, ADDR_IOAPIC + 0x10, bytes, 4);
		break;
	case 9: /* a pin that no device of ours drives: loading must find those as saved */
		line = ioapic_line(m->ioapic, 16 + (kind >> 4));
		irq_set(&line, take(in, 1) & 1);
		break;
	case 10:
		ioapic_eoi(m->ioapic, take(in, 1));
		break;
	case 11:
		len = take(in, 1);
		for (unsigned i = 0; i < 1u << (kind >> 5); i++)
			serial_input(m, bytes, len);
		break;
	case 12:
		m->backend.front->send_break(m->backend.front);
		break;
	case 13:
		m->appetite = take(in, 1);
		m->backend.front->tx_room(m->backend.front);
		loop_run_once(m->loop, 0);
		if (m->room)
			serial_input(m, "more", 4);
		break;
	case 14:
		acpi_pm_notify(m->pm, take(in, 1));
		break;
	case 15:
		if (kind >> 4 == 1)
			serial_reset(m->serial);
		else if (kind >> 4 == 2)
			rtc_reset(m->rtc);
		else if (kind >> 4 == 3)
			ioapic_reset(m->ioapic);
		else if (kind >> 4 == 4)
			acpi_pm_reset(m->pm);
		else if (kind >> 4 == 5)
			pci_reset(m->pci);
		else
			m->backend.front->flush(m->backend.front);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct state *save1, *load, *save2;
	struct err err = ERR_INIT;
	struct machine m1, m2;
	const void *file1, *file2;
	size_t len1, len2;

	log_set_level(LOG_ERROR);
	machine_init(&m1);
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		step(&m1, &in);

	save1 = state_new_save();
	machine_state(&m1, save1);
	CHECK(state_finish(save1, &file1, &len1, &err) == 0);

	machine_init(&m2);
	load = state_new_load(file1, len1, &err);
	CHECK(load != NULL);
	machine_state(&m2, load);
	CHECK(state_finish(load, NULL, NULL, &err) == 0);
	CHECK(m2.msgs == 0); /* what was sent is in the local APICs' state */
	save2 = state_new_save();
	machine_state(&m2, save2);
	CHECK(state_finish(save2, &file2, &len2, &err) == 0);
	CHECK(len1 == len2 && memcmp(file1, file2, len1) == 0);

	state_free(save1);
	state_free(load);
	state_free(save2);
	machine_fini(&m1);
	machine_fini(&m2);
	return 0;
}
