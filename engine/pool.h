/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_POOL_H
#define ENGINE_POOL_H

/* Threads that share the units of one piece of work, the caller's among them. */

#include <stdint.h>

struct pool;

/* Does units first .. last - 1. Units may run in any order, on any thread, at the same time:
 * whatever a unit writes must not depend on that. `thread` is below pool_threads(), and no two
 * calls at the same time have the same. */
typedef void pool_fn(void *arg, uint32_t first, uint32_t last, uint32_t thread);

/* new; NULL when memory or threads are out. n_threads >= 1, the caller counted. */
struct pool *pool_new(uint32_t n_threads);
/* Joins the threads. Accepts NULL, returns NULL. */
struct pool *pool_free(struct pool *p);

uint32_t pool_threads(const struct pool *p);

/* Runs fn over units 0 .. n - 1, handed out in pieces of `grain` (>= 1) units, and returns when all
 * are done. What the caller wrote before is seen by every unit; what the units wrote is seen by the
 * caller. One caller at a time; not from within fn. Work that fits in one piece is done by the
 * caller and wakes nobody. ~1 us besides the work while the threads are awake. */
void pool_run(struct pool *p, pool_fn *fn, void *arg, uint32_t n, uint32_t grain);

#endif
