/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory costs on this machine beside its caches (docs/bench.md).
 *
 *	bench-pages KIB [huge]
 *
 * Touches a byte of each page of so much memory, over and over, for SECONDS, and counts how often
 * a touch takes longer than GAP_US: then the thread did not run, or its machine's host had to be
 * asked for the page. All pages were touched before. `huge`: advised to be huge pages.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"

enum { SECONDS = 5, GAP_US = 60, PAGE = 4096, HUGE_PAGE = 2 << 20 };

int main(int argc, char **argv)
{
	char *end = NULL;
	size_t bytes = argc > 1 ? strtoul(argv[1], &end, 10) << 10 : 0;
	bool huge = argc == 3 && !strcmp(argv[2], "huge");
	if (!bytes || *end || argc > 3 || (argc == 3 && !huge)) {
		fprintf(stderr, "usage: bench-pages KIB [huge]\n");
		return 2;
	}
	size_t room = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	char *room_at = aligned_alloc(HUGE_PAGE, room);
	volatile char *at = room_at;
	if (!room_at || (huge && madvise(room_at, room, MADV_HUGEPAGE) < 0)) {
		fprintf(stderr, "bench-pages: %s\n", strerror(room_at ? errno : ENOMEM));
		return 1;
	}
	for (size_t i = 0; i < room; i += PAGE)
		at[i] = 1;
	uint64_t begin = clock_mono_ns(), last = begin, now, n = 0, gaps = 0;
	for (size_t i = 0; (now = clock_mono_ns()) < begin + SECONDS * 1000000000ull; n++) {
		at[i]++;
		i = (i + PAGE + 64) % bytes; /* another line of each, too */
		gaps += now - last > GAP_US * 1000u;
		last = now;
	}
	printf("%zu KiB%s: %.0f gaps of more than %d us a second, %.0f touches of a million\n",
		bytes >> 10, huge ? " in huge pages" : "", (double)gaps / SECONDS, GAP_US,
		1e6 * (double)gaps / (double)n);
	free(room_at);
	return 0;
}
