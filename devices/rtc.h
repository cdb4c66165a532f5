/* SPDX-License-Identifier: Apache-2.0 */
/* MC146818A real-time clock with CMOS RAM. See rtc.c. */
#ifndef DEVICES_RTC_H
#define DEVICES_RTC_H

#include "devices/bus.h"
#include "devices/irq.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

struct rtc;

#define RTC_PORTS 2		/* index and data */

/* A clock that starts at the host's UTC time; alarms fire through @irq (ISA IRQ 8). */
struct rtc *rtc_new(struct loop *loop, struct irq_line irq, struct err *err);
void rtc_free(struct rtc *rtc);
struct bus_range *rtc_range(struct rtc *rtc);
void rtc_reset(struct rtc *rtc);
int rtc_state(struct rtc *rtc, struct state *st);

#endif
