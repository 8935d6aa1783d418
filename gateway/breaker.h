/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_BREAKER_H
#define GATEWAY_BREAKER_H

/*
 * Whether a server that fails is asked again. Pure: its caller says what time it is, and locks.
 *
 *	closed --- `failures` in a row ---> open --- open_ms later ---> half-open
 *	   ^                                  ^                            |
 *	   +--- `successes` in a row ---------|----------------------------+
 *	                                      +--- one failure ------------+
 *
 * While it is half-open one request at a time may try: the probe.
 */

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN };

struct breaker {
	uint32_t failures, successes; /* the numbers above; at least 1 */
	uint64_t open_ns;
	/* its own */
	bool closed, probing;
	uint32_t n_failures;    /* in a row, also while it is open */
	uint32_t n_successes;   /* in a row, while it is half-open */
	uint64_t open_until_ns; /* while it is not closed */
	uint64_t failed_ns;     /* of the last failure, while n_failures */
};

enum breaker_pass { BREAKER_REFUSED, BREAKER_ADMITTED, BREAKER_PROBE };

enum breaker_end {
	BREAKER_SUCCESS,
	BREAKER_FAILURE,
	BREAKER_NEITHER, /* it says nothing about the server: cancelled, or too busy */
};

void breaker_init(struct breaker *b, uint32_t failures, uint32_t successes, uint64_t open_ms);
enum breaker_state breaker_state(const struct breaker *b, uint64_t now_ns);
/* What breaker_enter would say, without entering. */
enum breaker_pass breaker_check(const struct breaker *b, uint64_t now_ns);
/* BREAKER_ADMITTED and BREAKER_PROBE: the request may go, and breaker_leave comes with that word.
 */
enum breaker_pass breaker_enter(struct breaker *b, uint64_t now_ns);
/* How it went. Ends of requests that were admitted before it opened change nothing any more. */
void breaker_leave(
	struct breaker *b, enum breaker_pass pass, enum breaker_end end, uint64_t now_ns);
/* It is closed, but the last request failed, less than open_ns ago: another server is the better
 * choice, if there is one. */
bool breaker_failed_lately(const struct breaker *b, uint64_t now_ns);
/* Nanoseconds until it may admit again: 0: now. While a probe is under way, a second: it may be
 * over any moment. */
uint64_t breaker_wait_ns(const struct breaker *b, uint64_t now_ns);

#endif
