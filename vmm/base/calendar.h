/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Gregorian calendar, also before it was in use. Days are counted from 0000-01-01, months and
 * days of the month from 0. (libc's functions for it read time zones, which makes the program 110
 * KiB larger.)
 */
#ifndef VMM_BASE_CALENDAR_H
#define VMM_BASE_CALENDAR_H

#include <stdint.h>

struct calendar_date {
	int64_t year;
	int month, mday;
};

/* Days to the first day of year @y >= 0. */
int64_t calendar_year_start(int64_t y);
/* Days of month @month, 0 to 11, of year @y. */
int calendar_month_days(int64_t y, int month);
/* The date of day @days >= 0. */
struct calendar_date calendar_date(int64_t days);

#endif
