/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_PLACE_H
#define GATEWAY_CACHE_PLACE_H

/* The directory of L2: `db` in it, a file for each flush that is not done yet, and what becomes of
 * it when it is damaged. All of this does I/O. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/text.h"

/* Makes dir and dir/db, for nobody else to read. */
int cache_place_make(const char *dir, struct err *err);
/* Renames dir to dir.bad-TIME, which is written to aside, and removes what was set aside before. */
int cache_place_set_aside(const char *dir, char *aside, size_t size, struct err *err);

/* A flush outlives a kill: what user ("": everybody) stored with a serial below that one is not to
 * be found again, until cache_place_flushed. 0 or -errno. */
int cache_place_flush(const char *dir, const char *user, uint64_t below);
void cache_place_flushed(const char *dir, uint64_t below);
/* Calls each for those that are not done. */
void cache_place_flushes(
	const char *dir, void (*each)(void *arg, const char *user, uint64_t below), void *arg);

#endif
