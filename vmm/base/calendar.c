// SPDX-License-Identifier: Apache-2.0
/* The Gregorian calendar: see calendar.h. */
#include <stdbool.h>
#include "vmm/base/calendar.h"

static bool leap_year(int64_t y)
{
	return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

int64_t calendar_year_start(int64_t y)
{
	return 365 * y + (y + 3) / 4 - (y + 99) / 100 + (y + 399) / 400;
}

int calendar_month_days(int64_t y, int month)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month] + (month == 1 && leap_year(y));
}

struct calendar_date calendar_date(int64_t days)
{
	/* At most one off: 146097 days in 400 years. */
	struct calendar_date d = { .year = days * 400 / 146097 };

	while (calendar_year_start(d.year) > days)
		d.year--;
	while (calendar_year_start(d.year + 1) <= days)
		d.year++;
	d.mday = (int)(days - calendar_year_start(d.year));
	while (d.mday >= calendar_month_days(d.year, d.month))
		d.mday -= calendar_month_days(d.year, d.month++);
	return d;
}
