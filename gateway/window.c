/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where windows begin and end. Whoever counts in one keeps its two ends, so that the usual question
 * (is it still the same?) is one comparison, and the calendar is asked at borders only. A window is
 * only ever left for a later one: after the clock was set back, the one that was open stays open
 * until its end has come again, so no count begins twice.
 */
#include "gateway/window.h"

#include <string.h>
#include <time.h>

static const uint64_t minute_s = 60, day_s = 86400;

static struct window month_at(uint64_t now_s)
{
	time_t t = (time_t)now_s;
	struct tm tm;
	if (!gmtime_r(&t, &tm))
		return (struct window){0, UINT64_MAX};
	struct tm begin = {.tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = 1};
	struct tm end = {.tm_year = tm.tm_year, .tm_mon = tm.tm_mon + 1, .tm_mday = 1};
	return (struct window){(uint64_t)timegm(&begin), (uint64_t)timegm(&end)};
}

struct window window_at(enum window_kind kind, uint64_t now_s)
{
	uint64_t day = now_s / day_s, begin;
	switch (kind) {
	case WINDOW_MINUTE:
		begin = now_s - now_s % minute_s;
		return (struct window){begin, begin + minute_s};
	case WINDOW_DAY:
		return (struct window){day * day_s, (day + 1) * day_s};
	case WINDOW_WEEK: /* 1970 began on a Thursday */
		begin = day + 3 - (day + 3) % 7;
		return (struct window){begin < 3 ? 0 : (begin - 3) * day_s, (begin + 4) * day_s};
	case WINDOW_MONTH:
		return month_at(now_s);
	case WINDOW_TOTAL:
	case N_WINDOWS:
		break;
	}
	return (struct window){0, UINT64_MAX};
}

bool window_roll(struct window *w, enum window_kind kind, uint64_t now_s)
{
	if (now_s < w->end_s)
		return false;
	*w = window_at(kind, now_s);
	return true;
}

static const char *const names[N_WINDOWS] = {"minute", "day", "week", "month", "total"};

const char *window_name(enum window_kind kind)
{
	return names[kind];
}

enum window_kind window_find(const char *name, size_t len)
{
	int i = 0;
	while (i < N_WINDOWS && (strlen(names[i]) != len || memcmp(names[i], name, len)))
		i++;
	return (enum window_kind)i;
}
