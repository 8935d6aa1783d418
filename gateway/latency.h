/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_LATENCY_H
#define GATEWAY_LATENCY_H

/* How fast a model has been lately: time to the first token, tokens a second after it. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct latency {
	pthread_mutex_t lock; /* a leaf; guards what is below */
	double decay;
	double first_sum, first_n; /* milliseconds; requests, each older one counting less */
	double tok_sum, ms_sum;    /* behind the first token */
	bool has_rate;             /* not all were bursts */
};

/* half_life, in requests, above 0: one that is so many requests old counts half. */
void latency_init(struct latency *l, double half_life);
#define LATENCY_HALF_LIFE 16.0
void latency_destroy(struct latency *l);

/* A request that was answered: tok tokens, the first after first_ms, the last after ms. Where
 * there are too few tokens for a rate (trace_has_rate) only the first time counts; what cannot be
 * (not finite, not above 0, ms below first_ms) is passed over. Any thread. */
void latency_add(struct latency *l, double first_ms, uint64_t tok, double ms);

/* 0 where nothing was measured, tok_per_s INFINITY where all came in bursts: as in struct
 * router_facts. Any thread. */
void latency_get(struct latency *l, double *first_ms, double *tok_per_s);

#endif
