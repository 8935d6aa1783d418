/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_BLOCK_H
#define SIMT_BLOCK_H

/* One launch of a kernel: its blocks one after the other, a fiber for each thread of a block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/simt/include/cuda_runtime_api.h"
#include "tests/simt/include/simt.h"

#define BLOCK_MAX 1024
#define BLOCK_WARP 32
#define BLOCK_MAX_ARGUMENTS 4096

struct block_launch {
	const char *name; /* of the kernel */
	void (*call)(void *arguments);
	void *arguments; /* [size], each thread gets a copy */
	size_t size;
	dim3 grid, block;
	size_t shared; /* bytes of dynamic shared memory */
};

/* Runs all blocks. False: a fault ended it (fault.h has the sentence). Not for two threads at once;
 * the runtime's lock is held.
 */
bool block_run(const struct block_launch *l);

/* ---- for what a kernel calls; all on the fiber of the thread that runs ---- */

/* What all lanes of `mask` do together: fn gets each lane's slot and is called once, by the last
 * that arrives.
 */
typedef void block_meeting(void *const slot[BLOCK_WARP], uint32_t mask);
void block_meet(block_meeting *fn, uint32_t mask, void *slot);

bool block_inside(void);     /* a kernel's thread is running */
unsigned block_thread(void); /* its number in its block */
const char *block_kernel(void);
unsigned block_number(unsigned *n_blocks); /* in its launch */
bool block_own_stack(const void *at);

/* Ends the launch with a fault (printf-like, without the place, which is put before it). Does not
 * come back when a kernel runs.
 */
void block_fault(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
