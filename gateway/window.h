/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_WINDOW_H
#define GATEWAY_WINDOW_H

/* Windows of the calendar in UTC: the minute, the day, the week from Monday, the month, and all
 * time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum window_kind { WINDOW_MINUTE, WINDOW_DAY, WINDOW_WEEK, WINDOW_MONTH, WINDOW_TOTAL, N_WINDOWS };

/* Seconds since 1970: begin_s <= t < end_s. Zeroed memory is a window before all others. */
struct window {
	uint64_t begin_s, end_s;
};

/* The window that holds the time. */
struct window window_at(enum window_kind kind, uint64_t now_s);
/* Moves *w to the window that holds now_s, if that is later than *w. True: it moved. A clock that
 * went back opens nothing. */
bool window_roll(struct window *w, enum window_kind kind, uint64_t now_s);
/* "minute", "day", "week", "month", "total". */
const char *window_name(enum window_kind kind);
/* The kind of that name, or N_WINDOWS. */
enum window_kind window_find(const char *name, size_t len);

#endif
