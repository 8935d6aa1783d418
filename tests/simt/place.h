/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_PLACE_H
#define SIMT_PLACE_H

/* Where an address of a kernel points. */

#include "tests/simt/memory.h"

/* The memory that these bytes belong to, or NULL: the thread's own stack, or a constant of the
 * program that is only read. A fault when they belong to nothing that a kernel may touch so.
 */
struct memory *place_find(const void *at, size_t size, bool write);

/* Whether this variable of the program has no initial value. */
bool place_is_bss(const void *at);

/* "shared memory + 16", ... */
void place_describe(const struct memory *m, const void *at, char *text, size_t size);

/* ---- for race.c ---- */
void place_set_shared(void *base, size_t size);
void place_block_begins(void); /* fills static shared memory with 0xff */

#endif
