/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_RACE_H
#define SIMT_RACE_H

/* Watches what the threads of a launch read and write: bounds, races, copies in flight. */

#include <stdbool.h>
#include <stddef.h>

#include "tests/simt/block.h"

/* ---- for the scheduler ---- */
void race_launch_begins(const struct block_launch *l, void *shared);
void race_launch_ends(void);
void race_block_begins(void);

/* ---- for the runtime ---- */
/* Between launches: a product of cuBLASLt has written these bytes of the device. */
void race_product_wrote(void *at, size_t size);

/* ---- for what a kernel calls ---- */
enum race_access { RACE_READ, RACE_WRITE, RACE_ATOMIC };

/* The thread that runs touches these bytes. A fault does not come back. */
void race_access(const void *at, size_t size, enum race_access how);

/* The thread that runs asks for these bytes of the device's, of which it reads none: weights, which
 * no launch has written that the host has not waited for. A fault does not come back. */
void race_ask(const void *at, size_t size);

/* These bytes of shared memory are on their way from now to race_arrived(). */
void race_in_flight(void *at, size_t size);
void race_arrived(void *at, size_t size);

#endif
