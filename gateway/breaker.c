/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Open" and "half-open" are one condition, not closed, seen before and after a time: so no timer
 * is needed. A request carries what it was admitted as, or one that was sent before the breaker
 * opened would be taken for a probe when it ends.
 */
#include "gateway/breaker.h"

static const uint64_t probing_wait_ns = 1000000000;

void breaker_init(struct breaker *b, uint32_t failures, uint32_t successes, uint64_t open_ms)
{
	*b = (struct breaker){.failures = failures ? failures : 1,
		.successes = successes ? successes : 1,
		.open_ns = open_ms * 1000000,
		.closed = true};
}

enum breaker_state breaker_state(const struct breaker *b, uint64_t now_ns)
{
	if (b->closed)
		return BREAKER_CLOSED;
	return now_ns < b->open_until_ns ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

enum breaker_pass breaker_check(const struct breaker *b, uint64_t now_ns)
{
	if (b->closed)
		return BREAKER_ADMITTED;
	return now_ns < b->open_until_ns || b->probing ? BREAKER_REFUSED : BREAKER_PROBE;
}

enum breaker_pass breaker_enter(struct breaker *b, uint64_t now_ns)
{
	enum breaker_pass pass = breaker_check(b, now_ns);
	if (pass == BREAKER_PROBE)
		b->probing = true;
	return pass;
}

static void count_failure(struct breaker *b, uint64_t now_ns)
{
	b->failed_ns = now_ns;
	if (b->n_failures < UINT32_MAX)
		b->n_failures++;
}

static void open_it(struct breaker *b, uint64_t now_ns)
{
	b->closed = false;
	b->n_successes = 0;
	b->open_until_ns = now_ns + b->open_ns;
}

static void probe_ended(struct breaker *b, enum breaker_end end, uint64_t now_ns)
{
	b->probing = false;
	if (end == BREAKER_FAILURE) {
		count_failure(b, now_ns);
		open_it(b, now_ns);
	} else if (end == BREAKER_SUCCESS && ++b->n_successes >= b->successes) {
		b->closed = true;
		b->n_failures = 0;
	}
}

void breaker_leave(struct breaker *b, enum breaker_pass pass, enum breaker_end end, uint64_t now_ns)
{
	if (pass == BREAKER_PROBE) {
		probe_ended(b, end, now_ns);
	} else if (b->closed && end == BREAKER_SUCCESS) {
		b->n_failures = 0;
	} else if (b->closed && end == BREAKER_FAILURE) {
		count_failure(b, now_ns);
		if (b->n_failures >= b->failures)
			open_it(b, now_ns);
	}
}

bool breaker_failed_lately(const struct breaker *b, uint64_t now_ns)
{
	return b->closed && b->n_failures && now_ns - b->failed_ns < b->open_ns;
}

uint64_t breaker_wait_ns(const struct breaker *b, uint64_t now_ns)
{
	if (breaker_check(b, now_ns) != BREAKER_REFUSED)
		return 0;
	return now_ns < b->open_until_ns ? b->open_until_ns - now_ns : probing_wait_ns;
}
