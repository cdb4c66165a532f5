/* SPDX-License-Identifier: Apache-2.0 */
/* MC146818A real-time clock with CMOS RAM. See rtc.c. */
#ifndef DEVICES_RTC_H
#define DEVICES_RTC_H

#include "devices/bus.h"
#include "devices/irq.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

struct rtc;

#define RTC_PORTS 2 /* index and data */

/*
 * A clock that starts at the host's UTC time; its interrupts go to @irq (ISA IRQ 8), by
 * a timer of @loop. NULL with @err filled when out of memory.
 */
struct rtc *rtc_new(struct loop *loop, struct irq_line irq, struct err *err);
/* Loop's thread; the owner has taken the range off the bus before. */
void rtc_free(struct rtc *rtc);
/* RTC_PORTS bytes; the caller sets base (0x70). */
struct bus_range *rtc_range(struct rtc *rtc);

/* The chip's RESET input: interrupts off. Time and RAM live on the battery. */
void rtc_reset(struct rtc *rtc);
/*
 * Save or load, with the vCPUs stopped. The clock is the host's plus what the guest set,
 * so after loading it shows the time of day, not the time of saving; an alarm that was
 * due in between goes off. Loading also sets the line; the interrupt controller may be
 * loaded before or after.
 */
int rtc_state(struct rtc *rtc, struct state *st);

#endif
