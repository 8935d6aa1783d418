/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_ORDER_H
#define SIMT_ORDER_H

/* Who is ordered with whom: epochs of blocks, clocks of threads, fences and atomic operations. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/simt/block.h"

extern struct order_now {
	uint32_t run, first_run; /* this block's; the launch's first block's. Products count, too */
	uint32_t epoch;
	uint32_t waited_for; /* the host has, for this run and all before it */
} order_now;

/* ---- what happens ---- */
void order_launch_begins(const struct block_launch *l);
void order_block_begins(void);
void order_product_runs(void); /* of cuBLASLt, between launches: as a block that nobody knows */
void order_barrier(void);
void order_warp_barrier(unsigned first_thread, uint32_t mask);
void order_fence(void);
/* An atomic operation there: publishes what was fenced, and learns what others published. */
void order_meet_at(const void *at);
/* All that has run is over for the host: it has waited for it. */
void order_host_has_waited(void);

/* Whether a thread of the launch has called device_begin(); the one that runs. */
bool order_anybody_began(void);
bool order_began(void);

/* ---- what came before ---- */
struct order_moment {
	uint32_t run; /* of which block of which launch */
	uint32_t epoch, clock;
	uint16_t thread;
};

uint32_t order_clock(void); /* of the thread that runs */
/* Whether what a thread did then comes before what the one that runs does now. */
bool order_is_before(const struct order_moment *m);

#endif
