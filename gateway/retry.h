/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_RETRY_H
#define GATEWAY_RETRY_H

/* When a request is tried again, and whether it may be. Pure: its caller says what time it is,
 * draws the random number, and locks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define RETRY_BASE_MS 200
#define RETRY_CAP_MS 5000
#define RETRY_AFTER_MAX_MS 30000 /* nobody is kept waiting for longer than that */

/* Exponential back-off with full jitter: from 0 to min(cap, base * 2^n_before), evenly. n_before:
 * tries again before this one. */
uint64_t retry_backoff_ms(uint32_t n_before, uint64_t random);

/*
 * How long to wait: the back-off, or what the server asked for (retry_after_ms; 0: nothing) if that
 * is longer. left_ms: until the request's deadline; UINT64_MAX: it has none. 0 and *wait_ms;
 * -ETIMEDOUT: it would come too late, and the sentence has the time.
 */
int retry_wait(uint32_t n_before, uint64_t random, uint64_t retry_after_ms, uint64_t left_ms,
	uint64_t *wait_ms, struct err *err);

/* Tries again within the last 10 s are at most 10 and `ratio` of the requests in them: when a
 * server is down for all, it is not asked thrice as often. Zeroed memory but for ratio is a fresh
 * one. */
enum { RETRY_WINDOW_S = 10, RETRY_BUDGET_LEAST = 10 };
struct retry_budget {
	double ratio;
	uint32_t requests[RETRY_WINDOW_S], retries[RETRY_WINDOW_S]; /* by second */
	uint64_t second;                                            /* the newest one */
};

void retry_budget_request(struct retry_budget *b, uint64_t now_ns);
/* Whether there may be one more, which is counted. */
bool retry_budget_take(struct retry_budget *b, uint64_t now_ns);

#endif
