/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CUDA_AHEAD_H
#define ENGINE_CUDA_AHEAD_H

/*
 * What a launch may ask for besides its own work: weights of the product that comes behind it, to
 * be in the L2 cache by then. Launchers take it with their other arguments; zeroed it is nothing.
 * No number depends on it. What is asked for and how much ahead.c decides; how kernels do it is in
 * ahead_device.h.
 */

#include <stdint.h>

struct cuda_ahead {
	const uint8_t *from; /* device memory that no launch writes, aligned to 16 */
	uint32_t bytes;      /* a multiple of 16; 0: nothing */
	/* Blocks that a small kernel gets for it beside its own, 1 or more; no more than there is
	 * to ask for. Launches that have many blocks of their own do not look at it. */
	uint32_t blocks;
};

#endif
