/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_LATE_BACKEND_H
#define TESTS_ENGINE_LATE_BACKEND_H

/* A back end in the place of CUDA's that computes with the processor, to the same bits, but takes
 * the tokens itself and lets two steps be under way: what a step gave is told at its finish. A
 * program that is linked with it gets it as "cuda". Whoever breaks the contract of backend.h is
 * stopped by an assert. */

#include <stdbool.h>
#include <stdint.h>

/* What it does for the models that are opened from now on; zeroed: nothing unusual. */
struct late_ways {
	int refuses;             /* < 0: the door is closed, with this status */
	int open_fails;          /* < 0: so does opening a model */
	uint32_t kv_blocks;      /* there is memory for so many only; 0: for all */
	uint32_t fails_at;       /* finish of this step fails with -EIO, and all later; 0: none */
	uint32_t begin_fails_at; /* the same with begin */
	uint32_t spoilt_from;    /* logits of this step, and all later, are spoilt_with; 0: none */
	float spoilt_with;
};

#define LATE_REFUSAL "there is no GPU but a late processor"
#define LATE_FAULT "the GPU has fallen off the bus"

extern struct late_ways late_ways;

/* Since the last late_counts(): steps begun, of these while another was under way, rows whose token
 * the host did not know, rows of which the host asked more than a token. */
struct late_counts {
	uint64_t steps, overlapped, followed, asked;
};

struct late_counts late_counts(void);

#endif
